"""A simulated GPU: tensors that report another device and are stored on the CPU.

Mixing devices fails as on a real GPU, so a machine without one finds tensors that were left on the CPU. It does not
find missing or inexact kernels, and it tells nothing about speed.

    with PretendDevice():
        pipe = ShowoPipeline.from_pretrained("tiny", device="pretend")

It patches torch for the whole process, so it needs a process of its own. Inference mode, which wrapper tensors do not
support, is replaced by `no_grad`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretend")
DEVICE, CPU = torch.device("pretend:0"), torch.device("cpu")

_MOVING = ("aten._to_copy", "aten.copy_", "aten._local_scalar_dense")
_INDEXING = ("aten.index", "aten._index_put", "aten._unsafe_index")
"""Operations that accept two devices: `_INDEXING` accepts indices on the CPU."""


class DeviceTensor(Tensor):
    """Wrap a tensor on the CPU as a tensor of the device."""

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> "DeviceTensor":
        own = Tensor._make_wrapper_subclass(
            cls, on_cpu.size(), on_cpu.stride(), on_cpu.storage_offset(), dtype=on_cpu.dtype, device=DEVICE
        )
        own.on_cpu = on_cpu
        return own

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})

    def __getitem__(self, place: Any) -> Tensor:
        return super().__getitem__(torch.tensor(place, device=DEVICE) if isinstance(place, list) else place)

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, device=DEVICE, **{"dtype": self.dtype} | options)

    def tolist(self) -> list:
        return self.on_cpu.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a tensor on a device has no numpy array: move it to the CPU first")


class PretendDevice(TorchDispatchMode):
    """Enable the device while this mode is active."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: tuple, kwargs: dict) -> Any:
    """Run an operation on the wrapped tensors, and wrap results that a real GPU would return on the device."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd"):
        with PretendDevice():
            return operation.decompose(*args, **kwargs)
    _check(operation, args, kwargs)
    requested = kwargs.get("device")
    result = operation(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
    tensors = _tensors((args, kwargs))
    if operation._schema.is_mutable:
        return next((own for own in tensors if _on_cpu(own) is result), result)
    on_device = (
        any(isinstance(one, DeviceTensor) for one in tensors) if requested is None else requested.type == DEVICE.type
    )
    return tree_map(lambda one: DeviceTensor(one) if on_device and isinstance(one, Tensor) else one, result)


def _check(operation: Any, args: tuple, kwargs: dict) -> None:
    """Raise `RuntimeError` where a real device does."""
    tensors, name = _tensors((args, kwargs)), str(operation)
    on_device = [one for one in tensors if isinstance(one, DeviceTensor)]
    on_other = [one for one in tensors if not isinstance(one, DeviceTensor) and one.ndim > 0]
    if not on_device or name.startswith(_MOVING):
        return
    if any(isinstance(one, torch.Generator) for one in tree_leaves((args, kwargs))):
        raise RuntimeError(f"{name}: a generator of the CPU for tensors on a device")
    if on_other and not (name.startswith(_INDEXING) and isinstance(args[0], DeviceTensor)):
        raise RuntimeError(f"{name}: {[tuple(one.shape) for one in on_other]} on the CPU beside tensors on a device")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _on_cpu(leaf: Any) -> Any:
    """Return the CPU counterpart of an argument."""
    if isinstance(leaf, DeviceTensor):
        return leaf.on_cpu
    return CPU if isinstance(leaf, torch.device) and leaf.type == DEVICE.type else leaf


def _tensor(data: Any, device: torch.device | None = None, **options: Any) -> Tensor:
    """Replace `torch.tensor`, which bypasses dispatch modes; `to` does not."""
    made = _torch_tensor(data, **options)
    return made if device is None else made.to(device)


_torch_tensor, torch.tensor = torch.tensor, _tensor
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()
