"""Layers that several of the systems share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them, as in DETR."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)

    def zero_last(self) -> None:
        """Start with an output of zero for any input."""
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)


def inverse_sigmoid(x: Tensor, eps: float) -> Tensor:
    """Logit of probabilities, kept finite by `eps` at both ends."""
    # Not cut to 0..1 first, as published, with the same result: torch's export loses constants of a cut of a cut.
    return torch.log(x.clamp(eps, 1.0) / (1 - x).clamp(eps, 1.0))


def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A small tensor of known numbers. On a GPU it is kept: sending it there anew would wait, each time, until the GPU
    has done all that it was given before, and could not be part of a CUDA graph."""
    return torch.tensor(values, dtype=dtype, device=device) if device.type == "cpu" else _kept(values, dtype, device)


@lru_cache(maxsize=256)
def _kept(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # so that training may use it too
        return torch.tensor(values, dtype=dtype, device=device)


def sine_wavelengths(count: int, temperature: float, device: torch.device | str = "cpu") -> Tensor:
    """(count,) wavelengths of a sine encoding, each standing twice, for the sine and for the cosine.

    In float32 whatever the model computes in, as the published models hold them.
    """
    index = torch.arange(count, dtype=torch.float32, device=device)
    return temperature ** (2 * (index // 2) / count)


def sine_encoding(points: Tensor, channels: int, temperature: float) -> Tensor:
    """Sine encoding of points in 0..1, y first as in DETR.

    Args:
        points: (..., 2) of x, y.
        channels: C, half of them for y, half for x.

    Returns:
        (..., C)
    """
    wavelengths = sine_wavelengths(channels // 2, temperature, points.device)
    angles = points.flip(-1).unsqueeze(-1) * (2 * math.pi) / wavelengths  # (..., 2, C / 2)
    waves = torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=-1)
    return waves.flatten(-3)


def cell_encoding(
    height: int, width: int, channels: int, temperature: float, device: torch.device, first: float = 1.0
) -> Tensor:
    """(height * width, channels) sine encoding of the cells of a map, row by row, counted from `first`: from 1 as in
    DETR, or from 0.5, the centre of the cell. Made in float32 whatever the model computes in, as published."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + first) / (height + 1e-6)
    x = (torch.arange(width, dtype=torch.float32, device=device) + first) / (width + 1e-6)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return sine_encoding(torch.stack((grid_x, grid_y), -1).flatten(0, 1), channels, temperature)


def cell_centres(maps: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> Tensor:
    """(S, 2) x and y in 0..1 of the centres of cells of maps of these heights and widths, row by row, map after map.

    In float32 whatever the model computes in, as published: half precision is too coarse for coordinates.
    """
    centres = []
    for height, width in maps:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y), -1).flatten(0, 1))
    return torch.cat(centres)


class EncoderLayer(nn.Module):
    """Transformer encoder layer (DETR), normalised after each part, with positions added to queries and keys only."""

    def __init__(
        self,
        hidden: int,
        heads: int,
        ffn: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(hidden, ffn)
        self.linear2 = nn.Linear(ffn, hidden)
        self.norm1 = nn.LayerNorm(hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (B, N, C), positions (N, C) -> (B, N, C)"""
        q = k = tokens + positions
        tokens = self.norm1(tokens + self.dropout(self.self_attn(q, k, tokens, need_weights=False)[0]))
        inner = self.dropout(self.activation(self.linear1(tokens)))
        return self.norm2(tokens + self.dropout(self.linear2(inner)))


def deformable_attention(values: Sequence[Tensor], locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention (Deformable DETR, eq. 3) in plain torch, which exports everywhere.

    Args:
        values: one map (B * heads, D, H_l, W_l) for each of the L levels.
        locations: (B, Q, heads, L, P, 2), x and y in 0..1 of the map.
        weights: (B, Q, heads, L, P), summing to one over L and P.

    Returns:
        (B, Q, heads * D)
    """
    batch, queries, heads = locations.shape[:3]
    # The queries stand last: summing over the points then goes along whole rows, twice as fast in every engine.
    grids = (2 * locations - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # (B * heads, L, P, Q, 2)
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1).unsqueeze(2)  # (B * heads, L, 1, P, Q)
    sums = [
        (F.grid_sample(value, grids[:, level], mode="bilinear", padding_mode="zeros", align_corners=False)
         * weights[:, level]).sum(2)
        for level, value in enumerate(values)
    ]  # each (B * heads, D, Q)  # fmt: skip
    return reduce(torch.add, sums).view(batch, heads * values[0].shape[1], queries).transpose(1, 2)


def sampled_attention(values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention as `deformable_attention`, on maps that lie as tokens in one tensor.

    Without gradients it gathers whole rows instead of interpolating channel by channel, which is several times faster
    with the same numbers; with gradients, and in exported files, it is `deformable_attention`.

    Args:
        values: (B, S, C), the cells of all L maps row by row, one map after the other; the C channels are split
            among the heads.
        shapes: (H_l, W_l) of each map.
        locations: (B, Q, heads, L, P, 2), x and y in 0..1 of the map.
        weights: (B, Q, heads, L, P).

    Returns:
        (B, Q, C)
    """
    if not torch.compiler.is_compiling() and not (torch.is_grad_enabled() and values.requires_grad):
        return _gathered_attention(values, shapes, locations, weights)
    heads = locations.shape[2]
    maps = values.split([h * w for h, w in shapes], dim=1)
    grids = [
        m.unflatten(2, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, shape).to(locations.dtype)
        for m, shape in zip(maps, shapes, strict=True)
    ]
    return deformable_attention(grids, locations, weights).to(values.dtype)


ROWS_AT_ONCE = 1 << 20  # So that what is in work stays in the processor's caches.


def _gathered_attention(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Each head of a query is a bag of table rows: four cells around each of its points, weighted."""
    batch, cells, channels = values.shape
    queries, heads, levels, points = locations.shape[1:5]
    table = values.reshape(batch * cells * heads, channels // heads)
    rows = torch.arange(batch, dtype=torch.int32, device=values.device).view(-1, 1, 1, 1, 1) * (cells * heads)
    rows = rows + torch.arange(heads, dtype=torch.int32, device=values.device).view(heads, 1, 1)
    step = max(ROWS_AT_ONCE // (batch * heads * levels * points * 4), 1)
    parts = []
    for place, weight in zip(locations.split(step, 1), weights.split(step, 1), strict=True):
        cell, share = _cells_around(place, shapes)
        bags = (cell * heads + rows.unsqueeze(-1)).view(-1, levels * points * 4)
        shares = (share * weight.unsqueeze(-1)).view(-1, levels * points * 4)
        parts.append(F.embedding_bag(bags, table, per_sample_weights=shares.to(table.dtype), mode="sum"))
    return torch.cat([p.view(batch, -1, channels) for p in parts], 1)


def _cells_around(locations: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The cells (B, Q, heads, L, P, 4) around each location, and what each contributes to its bilinear value; what
    lies outside the maps contributes nothing."""
    sizes = constant(tuple(shapes), locations.dtype, locations.device)
    starts = constant((0, *accumulate(h * w for h, w in shapes)), torch.int32, locations.device)
    columns, column_shares = _neighbours(locations[..., 0], sizes[:, 1:])
    lines, line_shares = _neighbours(locations[..., 1], sizes[:, :1])
    width = sizes[:, 1:].int()
    start = starts[:-1].view(-1, 1)
    cells = [line * width + start + column for line in lines for column in columns]
    shares = [line * column for line in line_shares for column in column_shares]
    return torch.stack(cells, -1), torch.stack(shares, -1)


def _neighbours(places: Tensor, size: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Along one side: the cells before and after each place in 0..1, and their shares."""
    places = places * size - 0.5
    before = places.floor()
    share = places - before
    after = before + 1
    shares = (1 - share) * ((before >= 0) & (before < size)), share * ((after >= 0) & (after < size))
    last = size - 1
    low = torch.zeros_like(last)
    return (before.clamp(low, last).int(), after.clamp(low, last).int()), shares
