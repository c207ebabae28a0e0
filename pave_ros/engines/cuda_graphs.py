"""CUDA graphs: what a network does on a GPU, recorded once for each shape of its inputs, and replayed by one command.

Launching hundreds of small operations one by one takes longer than computing them. Nothing may be recorded that waits
for the GPU, and nothing in the networks of this package does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]
WARM_UPS = 3  # Calls before the recording, in which libraries choose their algorithms and take their memory.
MOST = 24  # Shapes that are recorded.
NEAR = 1e-2  # By which a replay may differ from what was computed step by step, absolutely and relatively.


class Recorded:
    """A function of tensors on the GPU, which is recorded for each shape of its inputs when that first comes.

    Recording takes up to seconds, so of numbers of pictures only some are; fewer are filled up to the next of them.

    What cannot be recorded, or gives something else when it is replayed, is computed step by step as before; the log
    says so.

    Args:
        function: takes tensors, returns a tuple of tensors, and does the same whenever shapes are the same. The first
            dimension of all of them is that of the pictures, of which none has an influence on another.
        batches: numbers of pictures to be recorded, rising; more than the last are as they come.
        record: makes a recording of a function for inputs.
    """

    def __init__(
        self,
        function: Function,
        batches: Sequence[int] = (1,),
        record: Callable[[Function, Sequence[Tensor]], Function] | None = None,
    ) -> None:
        self._function, self._batches, self._record = function, batches, record or Recording
        self._recordings: dict[tuple[object, ...], Function] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        count = len(inputs[0])
        size = next((size for size in self._batches if size >= count), count)
        if size == count:
            return self._computed(*inputs)
        return tuple(value[:count] for value in self._computed(*(filled_up(value, size) for value in inputs)))

    def _computed(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        key = tuple((value.shape, value.stride(), value.dtype) for value in inputs)
        if key not in self._recordings:
            if len(self._recordings) == MOST:
                return self._function(*inputs)
            self._recordings[key] = self._recording(inputs)
        return self._recordings[key](*inputs)

    def _recording(self, inputs: Sequence[Tensor]) -> Function:
        try:
            recording = self._record(self._function, inputs)
            pairs = zip(recording(*inputs), self._function(*inputs), strict=True)
            if not all(torch.allclose(a.float(), b.float(), NEAR, NEAR, equal_nan=True) for a, b in pairs):
                raise RuntimeError("a replay gives other numbers")
        except RuntimeError as error:  # of CUDA
            log.warning("goes on without a CUDA graph, which is slower: %s", str(error).partition("\n")[0])
            return self._function
        return recording


def filled_up(value: Tensor, size: int) -> Tensor:
    """The value with zeros behind it, up to so many pictures; maps keep their channels last if they have them there."""
    maps = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    rest = value.new_zeros((size - len(value), *value.shape[1:]))
    return torch.cat((value, rest)).contiguous(memory_format=torch.channels_last if maps else torch.contiguous_format)


class Recording:
    """One recording; called with inputs of the shapes that it was made for, it replays.

    Args:
        function: what is recorded.
        inputs: example.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor]) -> None:
        self._inputs = [torch.clone(value) for value in inputs]
        with torch.cuda.device(inputs[0].device):
            before, beside = torch.cuda.current_stream(), torch.cuda.Stream()
            beside.wait_stream(before)
            with torch.cuda.stream(beside):
                for _ in range(WARM_UPS):
                    function(*self._inputs)
            before.wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._outputs = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        self._graph.replay()
        return tuple(torch.clone(value) for value in self._outputs)  # The next replay overwrites them.
