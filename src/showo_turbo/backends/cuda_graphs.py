"""Who runs a pass of the transformer: as it comes, or as a CUDA graph that was recorded before.

A graphics processor does a pass of one image in less time than its host takes to ask for the hundreds of kernels in it.
A CUDA graph asks for all of them at once, but repeats what was recorded: the same shapes, in the same memory.

    pass --> its signature   never seen   run it as it comes
                             seen once    record it
                             recorded     copy its inputs to where those of the recorded pass lie, replay

Decisions:
- What is small (embeddings, positions, masks, places) is copied. Keys and values stay where they are, and where that is
  belongs to the signature; rooms for them are lent again when those who had them are gone, so the next request of the
  same kind finds its passes recorded.
- Lengths of rooms are rounded up, so that few shapes occur. What is beyond is masked.
- A pass that comes once is not worth recording: that takes as long as some passes. When one cannot be recorded, as when
  memory is short, no more are.
- What is kept is bounded by its bytes: recordings' inputs and results, and rooms that wait for another owner.
- Embeddings and head are not part of it. They are a few kernels, and which ids are scored differs from task to task.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import finalize

import torch
from torch import Tensor
from transformers import PhiModel

from showo_turbo.models.layer_ops import RowMath
from showo_turbo.models.packed_forward import Part, run_pass

logger = logging.getLogger(__name__)

_MOST_SIGNATURES = 512
_MOST_RECORDED_BYTES = 2**30
_MOST_FREE_BYTES = 2**30

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records a call without arguments: what repeats it, and the tensor that then holds its result."""


class Runner(Protocol):
    """Runs passes, and lends the room in which they keep keys and values."""

    granularity: int
    """Lengths of rooms, and how much of them a pass looks at, are to be multiples of it."""

    def run(self, phi: PhiModel, math: RowMath, embeddings: Tensor, parts: Sequence[Part]) -> Tensor:
        """See `passes.run_pass`."""

    def lend(self, owner: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Zeros of a shape, of the device and precision of `like`, for as long as the owner lives or needs them."""

    def give_back(self, room: Tensor) -> None:
        """Take note that the owner needs a room no longer."""


def rounded_up(length: int, runner: Runner) -> int:
    """The length of a room that holds so many rows."""
    return -(-length // runner.granularity) * runner.granularity


class PlainRunner:
    """Runs passes as they come."""

    granularity = 1

    def run(self, phi: PhiModel, math: RowMath, embeddings: Tensor, parts: Sequence[Part]) -> Tensor:
        """See `passes.run_pass`."""
        return run_pass(phi, math, embeddings, parts)

    def lend(self, owner: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of the owner's own."""
        return like.new_zeros(shape)

    def give_back(self, room: Tensor) -> None:
        """Nothing to do: the tensor goes when nobody holds it."""


@dataclass(frozen=True)
class Recording:
    """A pass that can be repeated: where its inputs lie, what repeats it, and where its result lies."""

    inputs: Sequence[Tensor]
    replay: Callable[[], object]
    result: Tensor


class GraphRunner:
    """Records passes that come again, and replays them. It serves one model, where it is now."""

    granularity = 32

    def __init__(self, record: Recorder) -> None:
        """Nothing is recorded yet."""
        self._record: Recorder | None = record
        self._seen: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._recorded_bytes = 0
        self._free: dict[int, Tensor] = {}
        self._loans: dict[int, finalize] = {}

    def run(self, phi: PhiModel, math: RowMath, embeddings: Tensor, parts: Sequence[Part]) -> Tensor:
        """See `passes.run_pass`."""

        def call() -> Tensor:
            return run_pass(phi, math, embeddings, parts)

        signature, inputs = _described(parts)
        inputs.append(embeddings)
        if signature not in self._seen:
            self._note(signature, None)
        elif self._seen[signature] is None and self._record is not None:
            self._note(signature, self._recording(inputs, call))
        else:
            self._seen.move_to_end(signature)
        recording = self._seen[signature]
        if recording is None:
            return call()
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.replay()
        return recording.result.clone()

    def lend(self, owner: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A room that nobody has any more, the first one in memory so that the same come again; or a new one."""
        fitting = [room for room in list(self._free.values()) if room.shape == shape and room.dtype == like.dtype]
        first = min((room.data_ptr() for room in fitting), default=0)
        room = self._free.pop(first, None)
        with torch.inference_mode(False):  # or it could not be written to outside of that
            room = like.new_zeros(shape) if room is None else room.zero_()
        loan = finalize(owner, self._take_back, room)
        loan.atexit = False
        self._loans[room.data_ptr()] = loan
        return room

    def give_back(self, room: Tensor) -> None:
        """Have it for others, before its owner is gone; rooms of other runners are not taken."""
        loan = self._loans.get(room.data_ptr())
        if loan is not None:
            loan()

    def _take_back(self, room: Tensor) -> None:
        """It may be another thread that drops an owner: each of these steps leaves all in order."""
        self._loans.pop(room.data_ptr(), None)
        self._free[room.data_ptr()] = room
        while sum(room.nbytes for room in list(self._free.values())) > _MOST_FREE_BYTES:
            self._free.pop(next(iter(list(self._free)), 0), None)

    def _recording(self, inputs: Sequence[Tensor], call: Callable[[], Tensor]) -> Recording | None:
        """The recording of a pass; None, and no more recordings from now on, if there is no memory for it."""
        try:
            return Recording(inputs, *self._record(call))
        except RuntimeError as error:
            logger.warning("no more passes are recorded, they run as they come: %s", error)
            self._record = None
            return None

    def _note(self, signature: Hashable, recording: Recording | None) -> None:
        """Remember what has become of a pass, and forget the oldest ones beyond what there is room for."""
        self._seen[signature] = recording
        self._seen.move_to_end(signature)
        self._recorded_bytes += _nbytes(recording)
        while len(self._seen) > 1 and (
            len(self._seen) > _MOST_SIGNATURES or self._recorded_bytes > _MOST_RECORDED_BYTES
        ):
            _, forgotten = self._seen.popitem(last=False)
            self._recorded_bytes -= _nbytes(forgotten)


def _nbytes(recording: Recording | None) -> int:
    """Of the memory that is a recording's own."""
    return 0 if recording is None else sum(tensor.nbytes for tensor in (recording.result, *recording.inputs))


class CudaGraphRecorder:
    """Records what a graphics processor is asked to do; recordings share memory, as one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is recorded yet."""
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """See `Recorder`. Other threads may ask the card for something meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            torch.cuda.stream(torch.cuda.current_stream()),  # torch comes back to it even if the recording fails
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            result = call()
        return graph.replay, result


def _described(thing: object, lasting: Sequence[Tensor] = ()) -> tuple[Hashable, list[Tensor]]:
    """All that must be the same for a pass to be the same, and the tensors in it whose numbers may differ."""
    if thing is None or isinstance(thing, int):
        return thing, []
    if isinstance(thing, Tensor):
        if any(thing is one for one in lasting):
            return (thing.data_ptr(), thing.shape, thing.stride(), thing.dtype), []
        return (thing.shape, thing.dtype), [thing]
    if isinstance(thing, Part):
        lasting = thing.key_values.lasting
    inside = thing if isinstance(thing, list | tuple) else vars(thing).values()
    described = [_described(one, lasting) for one in inside]
    return (type(thing), *(name for name, _ in described)), [tensor for _, tensors in described for tensor in tensors]
