"""Layers that several of the systems share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
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


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # a compiled network holds the kept one
def _kept(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return _made(values, dtype, device)


@lru_cache(maxsize=256)
def _made(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
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
