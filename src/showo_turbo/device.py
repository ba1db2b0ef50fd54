"""Parse the device, dtype and quantization of a model."""

from importlib.util import find_spec

import torch

from showo_turbo.errors import InputError

QUANTIZATIONS = ("int8",)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is unknown: choose {', '.join(DTYPES)}")
    return DTYPES[name]


def parse_quantization(name: str | None) -> str | None:
    """Return the name of a quantization, or None for none.

    Raises:
        InputError: if it is not one of `QUANTIZATIONS`, or torchao is not installed.
    """
    if name is not None and name not in QUANTIZATIONS:
        raise InputError(f"quantization {name!r} is unknown: choose {', '.join(QUANTIZATIONS)}, or leave it out")
    if name is not None and find_spec("torchao") is None:
        raise InputError(f"quantization {name!r} needs torchao: pip install 'showo-turbo[quantization]'")
    return name
