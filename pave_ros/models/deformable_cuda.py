"""Deformable attention as one kernel for CUDA: what a head of a query sees is summed up in registers, and neither the
cells around a point nor their shares are ever written to memory. Sums are in float32 whatever the maps are in."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

ROWS = 16  # Heads of queries that one program looks after.


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    values, sizes, locations, weights, seen, rows, queries, cells,
    heads: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, levels: tl.constexpr, points: tl.constexpr,
    each: tl.constexpr,
):  # fmt: skip
    """A row is a head of a query of a picture, in this order; a program does `each` of them. `padded` is `channels` up
    to a power of two."""
    row = tl.program_id(0) * each + tl.arange(0, each)
    real = row < rows
    head = row % heads
    picture = row // (heads * queries)
    channel = tl.arange(0, padded)
    kept = channel < channels
    total = tl.zeros((each, padded), tl.float32)
    first = picture.to(tl.int64) * cells  # of the cells of a map
    for level in tl.static_range(levels):
        height = tl.load(sizes + 2 * level)
        width = tl.load(sizes + 2 * level + 1)
        for point in range(points):
            place = (row * levels + level) * points + point
            x = tl.load(locations + 2 * place, real, 0.0) * width - 0.5
            y = tl.load(locations + 2 * place + 1, real, 0.0) * height - 0.5
            weight = tl.load(weights + place, real, 0.0)
            left = tl.floor(x)
            top = tl.floor(y)
            for corner in tl.static_range(4):
                column = left + corner % 2
                line = top + corner // 2
                share = weight * (1 - tl.abs(x - column)) * (1 - tl.abs(y - line))
                inside = real & (column >= 0) & (column < width) & (line >= 0) & (line < height)
                cell = first + line.to(tl.int32) * width + column.to(tl.int32)
                start = (cell * heads + head) * channels
                value = tl.load(values + start[:, None] + channel[None], inside[:, None] & kept[None], 0.0)
                total += share[:, None] * value.to(tl.float32)
        first += height * width
    tl.store(seen + row[:, None] * channels + channel[None], total, real[:, None] & kept[None])


@triton_op("pave_ros::deformable_attention", mutates_args=())
def attention(values: Tensor, sizes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention.

    Args:
        values: (B, S, C), float32, float16 or bfloat16, see `pave_ros.models.deformable.sampled_attention`.
        sizes: (L, 2) int32 height and width of each map.
        locations: (B, Q, heads, L, P, 2), float32.
        weights: (B, Q, heads, L, P), float32.

    Returns:
        (B, Q, C), of the type of the values.
    """
    batch, cells, all_channels = values.shape
    queries, heads, levels, points = locations.shape[1:5]
    channels, rows = all_channels // heads, batch * queries * heads
    seen = torch.empty(batch, queries, all_channels, dtype=values.dtype, device=values.device)
    wrap_triton(_kernel)[(triton.cdiv(rows, ROWS),)](
        values.contiguous(), sizes, locations.contiguous(), weights.contiguous(), seen, rows, queries, cells,
        heads=heads, channels=channels, padded=triton.next_power_of_2(channels), levels=levels, points=points,
        each=ROWS,
    )  # fmt: skip
    return seen
