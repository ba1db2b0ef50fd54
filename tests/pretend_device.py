"""A graphics processor that is none: tensors that say they lie on a device, and are kept on the CPU.

Mixing devices fails as on a real one, so a machine without a graphics processor finds the places where a tensor was
left on the CPU. What it cannot find: kernels that are missing or inexact, and anything about time.

    with PretendDevice():
        pipe = ShowoPipeline.from_pretrained("tiny", device="pretend")

It changes torch for the whole process, so it is for a process of its own. Inference mode, which tensors of this kind do
not know, becomes `no_grad` there.
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
"""Both take tensors of two devices: the latter take indices that lie on the CPU."""


class DeviceTensor(Tensor):
    """A tensor of the device, which wraps one of the CPU."""

    @staticmethod
    def __new__(cls, kept: Tensor) -> "DeviceTensor":
        own = Tensor._make_wrapper_subclass(
            cls, kept.size(), kept.stride(), kept.storage_offset(), dtype=kept.dtype, device=DEVICE
        )
        own.kept = kept
        return own

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})

    def __getitem__(self, place: Any) -> Tensor:
        return super().__getitem__(torch.tensor(place, device=DEVICE) if isinstance(place, list) else place)

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, device=DEVICE, **{"dtype": self.dtype} | options)

    def tolist(self) -> list:
        return self.kept.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a tensor on a device has no numpy array: move it to the CPU first")


class PretendDevice(TorchDispatchMode):
    """The device is there while this is active."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: tuple, kwargs: dict) -> Any:
    """An operation on the kept tensors, whose results are of the device that real ones would be of."""
    if torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd"):
        with PretendDevice():
            return operation.decompose(*args, **kwargs)
    _check(operation, args, kwargs)
    asked = kwargs.get("device")
    result = operation(*tree_map(_kept, args), **tree_map(_kept, kwargs))
    tensors = _tensors((args, kwargs))
    if operation._schema.is_mutable:
        return next((own for own in tensors if _kept(own) is result), result)
    on_device = any(isinstance(one, DeviceTensor) for one in tensors) if asked is None else asked.type == DEVICE.type
    return tree_map(lambda one: DeviceTensor(one) if on_device and isinstance(one, Tensor) else one, result)


def _check(operation: Any, args: tuple, kwargs: dict) -> None:
    """Refuse what a real device refuses."""
    tensors, name = _tensors((args, kwargs)), str(operation)
    here = [one for one in tensors if isinstance(one, DeviceTensor)]
    strangers = [one for one in tensors if not isinstance(one, DeviceTensor) and one.ndim > 0]
    if not here or name.startswith(_MOVING):
        return
    if any(isinstance(one, torch.Generator) for one in tree_leaves((args, kwargs))):
        raise RuntimeError(f"{name}: a generator of the CPU for tensors on a device")
    if strangers and not (name.startswith(_INDEXING) and isinstance(args[0], DeviceTensor)):
        raise RuntimeError(f"{name}: {[tuple(one.shape) for one in strangers]} on the CPU beside tensors on a device")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _kept(leaf: Any) -> Any:
    """What stands for a leaf of the arguments on the CPU."""
    if isinstance(leaf, DeviceTensor):
        return leaf.kept
    return CPU if isinstance(leaf, torch.device) and leaf.type == DEVICE.type else leaf


def _tensor(data: Any, device: torch.device | None = None, **options: Any) -> Tensor:
    """`torch.tensor`, which does not ask modes; `to` does."""
    made = _torch_tensor(data, **options)
    return made if device is None else made.to(device)


_torch_tensor, torch.tensor = torch.tensor, _tensor
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()
