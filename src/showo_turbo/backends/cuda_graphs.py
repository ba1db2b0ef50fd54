"""Record forward passes of the transformer as CUDA graphs and replay them.

A GPU computes a pass of one image in less time than the host takes to launch its hundreds of kernels. A CUDA graph
launches all of them at once, but repeats what was recorded: the same shapes, in the same memory.

    pass --> its signature   never seen   run eagerly
                             seen once    record it
                             recorded     copy its inputs to those of the recorded pass, replay

Decisions:
- Small inputs (embeddings, positions, masks, indices) are copied. KV buffers stay where they are, and their addresses
  belong to the signature; buffers are reused once their owners are gone, so the next request of the same kind finds its
  passes recorded.
- Lengths of buffers are rounded up, so that few shapes occur. The rest is masked.
- A pass that comes once is not recorded: recording takes as long as several passes. If one cannot be recorded, for lack
  of memory for instance, no more are.
- Memory is bounded in bytes: inputs and results of recordings, and buffers that wait for another owner.
- Embeddings and head are not recorded. They are a few kernels, and which ids are scored differs from task to task.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from weakref import finalize

import torch
from torch import Tensor

from showo_turbo.models.packed_forward import LayerOps, PackedSequences, packed_forward
from showo_turbo.models.phi import PhiBackbone

logger = logging.getLogger(__name__)

_MAX_SIGNATURES = 512
_MAX_RECORDED_BYTES = 2**30
_MAX_FREE_BYTES = 2**30

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records a call without arguments: returns what replays it, and the tensor that then holds its result."""


@dataclass(frozen=True)
class Recording:
    """Hold a recorded pass: its input tensors, its replay function and its result tensor."""

    inputs: Sequence[Tensor]
    replay: Callable[[], object]
    result: Tensor


class CudaGraphRunner:
    """Record passes that occur again and replay them, for one model with its weights where they are now."""

    length_multiple = 32
    """Lengths of KV buffers, and of the parts that passes attend to, are multiples of it."""

    def __init__(self, record: Recorder) -> None:
        """Start without recordings."""
        self._record: Recorder | None = record
        self._seen: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._recorded_bytes = 0
        self._free: dict[int, Tensor] = {}
        self._in_use: dict[int, finalize] = {}

    def run(self, phi: PhiBackbone, ops: LayerOps, embeddings: Tensor, groups: Sequence[PackedSequences]) -> Tensor:
        """Compute `models.packed_forward.packed_forward`."""

        def call() -> Tensor:
            return packed_forward(phi, ops, embeddings, groups)

        signature, inputs = _describe(groups)
        inputs.append(embeddings)
        if signature not in self._seen:
            self._remember(signature, None)
        elif self._seen[signature] is None and self._record is not None:
            self._remember(signature, self._try(self._record, inputs, call))
        else:
            self._seen.move_to_end(signature)
        recording = self._seen[signature]
        if recording is None:
            return call()
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.replay()
        return recording.result.clone()

    def forget(self) -> None:
        """Drop all recordings, as weights were moved."""
        self._seen.clear()
        self._recorded_bytes = 0

    def allocate(self, owner: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a buffer of zeros with the device and dtype of `like`, until it is released or its owner is deleted.

        Of the free buffers the first one in memory is reused, so that the same addresses occur again.
        """
        fitting = [
            buffer for buffer in list(self._free.values()) if (buffer.shape, buffer.dtype) == (shape, like.dtype)
        ]
        first = min((buffer.data_ptr() for buffer in fitting), default=0)
        buffer = self._free.pop(first, None)
        with torch.inference_mode(False):  # an inference tensor could not be written to outside of inference mode
            buffer = like.new_zeros(shape) if buffer is None else buffer.zero_()
        release = finalize(owner, self._return_to_pool, buffer)
        release.atexit = False
        self._in_use[buffer.data_ptr()] = release
        return buffer

    def release(self, buffer: Tensor) -> None:
        """Return a buffer to the pool before its owner is deleted; other tensors are ignored."""
        release = self._in_use.get(buffer.data_ptr())
        if release is not None:
            release()

    def _return_to_pool(self, buffer: Tensor) -> None:
        """Make a buffer free. Another thread may delete an owner, so each step leaves a consistent state."""
        self._in_use.pop(buffer.data_ptr(), None)
        self._free[buffer.data_ptr()] = buffer
        while sum(free.nbytes for free in list(self._free.values())) > _MAX_FREE_BYTES:
            self._free.pop(next(iter(list(self._free)), 0), None)

    def _try(self, record: Recorder, inputs: Sequence[Tensor], call: Callable[[], Tensor]) -> Recording | None:
        """Record a pass; on failure return None and record no more."""
        try:
            return Recording(inputs, *record(call))
        except RuntimeError as error:
            logger.warning("no more forward passes are recorded, they run eagerly: %s", error)
            self._record = None
            return None

    def _remember(self, signature: Hashable, recording: Recording | None) -> None:
        """Store a signature with its recording and drop the oldest ones beyond the limits."""
        self._seen[signature] = recording
        self._seen.move_to_end(signature)
        self._recorded_bytes += _nbytes(recording)
        while len(self._seen) > 1 and (len(self._seen) > _MAX_SIGNATURES or self._recorded_bytes > _MAX_RECORDED_BYTES):
            _, dropped = self._seen.popitem(last=False)
            self._recorded_bytes -= _nbytes(dropped)


def _nbytes(recording: Recording | None) -> int:
    """Return the bytes of a recording's inputs and result."""
    return 0 if recording is None else sum(tensor.nbytes for tensor in (recording.result, *recording.inputs))


class CudaGraphRecorder:
    """Record CUDA graphs, which share memory since one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        """Create a stream and a memory pool on a device."""
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Record a call, see `Recorder`. Other threads may use the GPU meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            torch.cuda.stream(torch.cuda.current_stream()),  # restored even if the recording fails
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            result = call()
        return graph.replay, result


def _describe(value: object, persistent: Sequence[Tensor] = ()) -> tuple[Hashable, list[Tensor]]:
    """Return all that must be equal for two passes to be the same, and the tensors whose values may differ."""
    if value is None or isinstance(value, int):
        return value, []
    if isinstance(value, Tensor):
        if any(value is one for one in persistent):
            return (value.data_ptr(), value.shape, value.stride(), value.dtype), []
        return (value.shape, value.dtype), [value]
    if isinstance(value, PackedSequences):
        persistent = value.cache.persistent_buffers
    parts = value if isinstance(value, list | tuple) else vars(value).values()
    described = [_describe(part, persistent) for part in parts]
    return (type(value), *(name for name, _ in described)), [tensor for _, tensors in described for tensor in tensors]
