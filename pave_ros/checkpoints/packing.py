"""Weights in eight or sixteen bits, for files that have to be small; they are computed with in float32 as ever.

In eight bits each output of a layer has a scale of its own, which lies beside its tensor as ``KEY.scale``; what is
small stays in float16. Files that others published hold nothing of the kind and pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pave_ros.checkpoints.layout import State

SCALE = ".scale"
LEAST = 20_000  # numbers; fewer are not worth what they lose, above all where each channel is by itself
_LARGEST = 127
_NARROWER = (1.0, 0.97, 0.94, 0.9, 0.86, 0.82)  # shares of the range; cutting an outlier off may serve the others


def pack(state: Mapping[str, Tensor], bits: int = 8) -> State:
    """The tensors of a file in float16, with 8 `bits` the large ones in eight.

    ValueError names the first that is not finite, or beyond what float16 holds.
    """
    packed: State = {}
    for key, value in state.items():
        if not value.is_floating_point():
            packed[key] = value
            continue
        if not value.half().isfinite().all():
            raise ValueError(f"{key} is beyond what float16 holds, or not finite")
        if bits == 8 and value.dim() > 1 and value.numel() >= LEAST:
            packed[key], packed[key + SCALE] = _rounded(value.float())
        else:
            packed[key] = value.half()
    return packed


def unpack(state: Mapping[str, Tensor]) -> State:
    """The tensors of a file with those that are kept in eight bits in float32; all others as they are.

    ValueError names the first in eight bits that has no scale for each output.
    """
    unpacked = dict(state)
    for key, value in state.items():
        if value.dtype != torch.int8:
            continue
        scale = unpacked.pop(key + SCALE, None)
        shape = (*value.shape[:1], *(1 for _ in value.shape[1:]))
        if scale is None or scale.shape != shape or not scale.is_floating_point():
            raise ValueError(f"key {key!r} is kept in eight bits and has no scale for each of its outputs")
        unpacked[key] = value.float() * scale.float()
    return unpacked


def _rounded(value: Tensor) -> tuple[Tensor, Tensor]:
    """(O, ...) as int8 and the scale (O, 1, ...) of each output, of those tried the one with the smallest error."""
    rows = value.flatten(1)
    widest = rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    scales = torch.stack([widest * share for share in _NARROWER])
    numbers = (rows / scales).round().clamp(-_LARGEST, _LARGEST)
    best = ((numbers * scales - rows) ** 2).sum(-1).argmin(0)
    every = torch.arange(len(rows))
    shape = (-1, *(1 for _ in value.shape[1:]))
    return numbers[best, every].to(torch.int8).view_as(value), scales[best, every].view(shape)
