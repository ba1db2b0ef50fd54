"""Import packages that only the `train` extra installs."""

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
        raise InputError(f"{purpose} needs {name}: pip install 'showo-turbo[train]'") from error
