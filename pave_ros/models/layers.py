"""Layers that several of the systems share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them, as in DETR.

    Here and elsewhere tokens go through linear layers as a table (N, C): engines add biases on the way then, and lay
    out nothing anew, as they do what has three or four dimensions and might be a picture.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        *others, _ = x.shape
        x = x.flatten(0, -2)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x).unflatten(0, others)

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


@cache  # for good: CUDA graphs read it where it lies
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
    # Cosines are sines a quarter further on: the two in turns, without laying one between the other.
    quarter = constant((0.0, math.pi / 2) * (channels // 4), points.dtype, points.device)
    return (_angles(points, channels, temperature) + quarter).sin().view(*points.shape[:-1], channels)


def _angles(points: Tensor, channels: int, temperature: float) -> Tensor:
    """(N * 2, C / 2) of y and x of each of the N points, every angle twice."""
    wavelengths = sine_wavelengths(channels // 2, temperature, points.device)
    return points.flip(-1).reshape(-1, 1) * (2 * math.pi) / wavelengths


def cell_encoding(
    height: int, width: int, channels: int, temperature: float, device: torch.device, first: float = 1.0
) -> Tensor:
    """(height * width, channels) sine encoding of the cells of a map, row by row, counted from `first`: from 1 as in
    DETR, or from 0.5, the centre of the cell. Made in float32 whatever the model computes in, as published."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + first) / (height + 1e-6)
    x = (torch.arange(width, dtype=torch.float32, device=device) + first) / (width + 1e-6)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    angles = _angles(torch.stack((grid_x, grid_y), -1).flatten(0, 1), channels, temperature)
    # To the last bit of float32 as published, in networks of float64 too.
    waves = torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), -1)
    return waves.view(height * width, channels)


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


def products(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor) -> Sequence[Tensor]:
    """Each input (..., C) through a linear layer of its own, as tables (N, D); the weights of the layers lie one below
    the other in one tensor.

    Where all inputs are one, so is the product, which is the fewest kernels on a GPU; not in exported files, since
    engines copy the parts of a product.
    """
    first, count = inputs[0], len(inputs)
    if all(x is first for x in inputs) and not torch.compiler.is_exporting():
        return F.linear(first.flatten(0, -2), weight, bias).chunk(count, -1)
    layers = zip(inputs, _parts(weight, count), _parts(bias, count), strict=True)
    return [F.linear(x.flatten(0, -2), *layer) for x, *layer in layers]


def _parts(weights: Tensor, count: int) -> list[Tensor]:
    """Equal parts of the rows, which, unlike `Tensor.chunk`'s, an exported file holds as weights."""
    size = len(weights) // count
    return [weights[i * size : (i + 1) * size] for i in range(count)]


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` of batches (B, L, C), with its parameters and its result, laid out for engines.

    PyTorch's own puts the batch behind, and is exported as a dozen transposes of tensors of three dimensions, which
    none of the engines merges into the products; of (B, heads, L, C / heads) they make one step.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(channels, heads, dropout, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """query (B, L, C), key and value (B, S, C) -> (B, L, C); `hidden` is True where not to look, (L, S) or
        (B, 1, L, S)."""
        made = products((query, key, value), self.in_proj_weight, self.in_proj_bias)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).unflatten(0, (query.shape[0], -1)) for x in made)
        if torch.compiler.is_exporting():
            logits = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * self.head_dim**-0.5
            if hidden is not None:
                logits = logits + torch.zeros_like(hidden, dtype=logits.dtype).masked_fill(hidden, -math.inf)
            seen = logits.softmax(-1) @ v.transpose(1, 2)
        else:
            seen = F.scaled_dot_product_attention(
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                None if hidden is None else ~hidden,
                self.dropout if self.training else 0.0,
            )
        out: Tensor = self.out_proj(seen.transpose(1, 2).reshape(-1, self.embed_dim))
        return out.view(query.shape)


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
        self.self_attn = Attention(hidden, heads, dropout)
        self.linear1 = nn.Linear(hidden, ffn)
        self.linear2 = nn.Linear(ffn, hidden)
        self.norm1 = nn.LayerNorm(hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (B, N, C), positions (N, C) -> (B, N, C)"""
        q = k = tokens + positions
        tokens = self.norm1(tokens + self.dropout(self.self_attn(q, k, tokens)))
        table = tokens.flatten(0, 1)
        inner = self.dropout(self.activation(self.linear1(table)))
        return self.norm2(table + self.dropout(self.linear2(inner))).view(tokens.shape)
