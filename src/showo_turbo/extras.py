"""Import packages that only an extra installs, and say how to install it."""

from importlib import import_module
from types import ModuleType

from showo_turbo.errors import InputError


def install_hint(extra: str) -> str:
    """Return the command that installs an extra; the package is not on PyPI, so it is installed from a clone."""
    return f"pip install -e '.[{extra}]' in a clone installs it"


def require_module(name: str, purpose: str, extra: str = "train") -> ModuleType:
    """Import a module of an extra.

    Args:
        name: full name of the module.
        purpose: what needs it, for the error message.
        extra: the extra that installs it.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"{purpose} needs {name.partition('.')[0]}: {install_hint(extra)}") from error
