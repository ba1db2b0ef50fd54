"""Where a model computes and how precisely it is stored, as users name it."""

import torch

from showo_turbo.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_device(device: str | torch.device | None) -> torch.device:
    """A device that can be used here; None is the graphics processor if there is one, else the CPU.

    Raises:
        InputError: when there is no such device.
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
    return parsed


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A precision the transformer can be stored in.

    Raises:
        InputError: when it is not one of `DTYPES`.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is unknown: choose {', '.join(DTYPES)}")
    return DTYPES[name]
