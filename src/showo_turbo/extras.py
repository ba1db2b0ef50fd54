"""Import packages that only the `train` extra installs, where they are needed."""

from importlib import import_module
from types import ModuleType

from showo_turbo.errors import InputError


def require_module(name: str, purpose: str) -> ModuleType:
    """Import a module of the `train` extra.

    Args:
        name: full name of the module.
        purpose: what needs it, for the error message.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{purpose} needs {package}: pip install 'showo-turbo[train]'") from error
