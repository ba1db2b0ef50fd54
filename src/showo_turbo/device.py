"""Parse the device and dtype of a model."""

import torch

from showo_turbo.errors import InputError
from showo_turbo.validation import DTYPE_NAMES, check_dtype

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}


def parse_device(device: str | torch.device | None) -> torch.device:
    """Return a device; None is the GPU if there is one, else the CPU.

    Raises:
        InputError: if there is no such device on this machine.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device {str(device)!r} cannot be used here ({reason}): choose cpu, or leave it out"
        ) from error
    if parsed.type == "meta":
        raise InputError("device 'meta' has no data to compute with: choose cpu, or leave it out")
    return parsed


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return the dtype of a name.

    Raises:
        InputError: if it is not one of `DTYPES`.
    """
    name = str(dtype).removeprefix("torch.")
    check_dtype(name)
    return DTYPES[name]


def check_float8(device: torch.device) -> None:
    """Check that a device multiplies float8 by float8; the CPU rounds as if it did.

    Raises:
        InputError: if it is a GPU that cannot.
    """
    if device.type == "cuda" and (capability := torch.cuda.get_device_capability(device)) < (8, 9):
        raise InputError(
            f"quantization 'float8' needs a GPU of compute capability 8.9 or later, and {device} has "
            f"{capability[0]}.{capability[1]}: choose int8, or leave it out"
        )
