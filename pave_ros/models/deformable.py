"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021, eq. 3), in the ways in which it is fast.

- `deformable_attention` interpolates maps channel by channel, in plain torch: it exports everywhere, and has gradients.
- `sampled_attention` reads maps that lie as tokens by whole rows: on CUDA with a kernel of its own
  (`pave_ros.models.deformable_cuda`), on a processor as bags of rows. Where neither serves it is the former.
- `Maps` are looked at again and again: by that kernel where it serves, else as `deformable_attention`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache, reduce
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from pave_ros.models.layers import constant

log = logging.getLogger(__name__)


def map_units(shapes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """(1, 1, L, 1, 2) width and height of a cell of each map, of which there are (H_l, W_l)."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    sizes = constant(tuple((1 / w, 1 / h) for h, w in shapes), dtype, like.device)
    return sizes.view(1, 1, len(shapes), 1, 2)


def sampling_locations(anchors: Tensor, offsets: Tensor, units: Tensor) -> Tensor:
    """Where to look, like the offsets (B, Q, heads, L, P, 2): at anchors plus offsets in units, both of which are
    (B, Q, L, P, 2) or 1 where they are alike.

    They are expanded first, because ONNX Runtime takes five times as long to broadcast single pairs of numbers.
    """
    return anchors.unsqueeze(2).expand_as(offsets) + offsets * units.unsqueeze(2).expand_as(offsets)


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
    # The queries stand last, and the levels are added first: summing over the points then goes along whole rows, twice
    # as fast in every engine, and is done once.
    grids = (2 * locations - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)  # (B * heads, L, P, Q, 2)
    weights = weights.permute(0, 2, 3, 4, 1).flatten(0, 1).unsqueeze(2)  # (B * heads, L, 1, P, Q)
    seen = (
        F.grid_sample(value, grids[:, level], mode="bilinear", padding_mode="zeros", align_corners=False)
        * weights[:, level]
        for level, value in enumerate(values)
    )  # each (B * heads, D, P, Q), made when it is added: there are never all of them
    return reduce(torch.add, seen).sum(2).view(batch, heads * values[0].shape[1], queries).transpose(1, 2)


def sampled_attention(values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention as `deformable_attention`, on maps that lie as tokens in one tensor.

    Args:
        values: (B, S, C), the cells of all L maps row by row, one map after the other; the C channels are split
            among the heads.
        shapes: (H_l, W_l) of each map.
        locations: (B, Q, heads, L, P, 2), x and y in 0..1 of the map.
        weights: (B, Q, heads, L, P).

    Returns:
        (B, Q, C)
    """
    if _kernel_reads(values):
        return _by_kernel(values, shapes, locations, weights)
    if not torch.compiler.is_compiling() and not (torch.is_grad_enabled() and values.requires_grad):
        return _gathered_attention(values, shapes, locations, weights)
    heads = locations.shape[2]
    maps = values.split([h * w for h, w in shapes], dim=1)
    grids = [
        m.unflatten(2, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, shape).to(locations.dtype)
        for m, shape in zip(maps, shapes, strict=True)
    ]
    return deformable_attention(grids, locations, weights).to(values.dtype)


class Maps:
    """Maps that queries look at several times, laid out once as it is done the fastest.

    Args:
        maps: L maps (B, C, H_l, W_l), whose channels are split among the heads.
        heads: number of them.
        dtype: type in which they are interpolated, at least that of the locations.

    Attributes:
        shapes: (H_l, W_l) of each map.
    """

    def __init__(self, maps: Sequence[Tensor], heads: int, dtype: torch.dtype) -> None:
        self.shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        self._tokens, self._maps = None, []
        if _kernel_reads(maps[0]) and dtype == torch.float32:  # in which the kernel sums up
            self._tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        else:
            self._maps = [m.to(dtype).unflatten(1, (heads, -1)).flatten(0, 1) for m in maps]

    def seen(self, locations: Tensor, weights: Tensor) -> Tensor:
        """(B, Q, C), see `deformable_attention`."""
        if self._tokens is not None:
            return _by_kernel(self._tokens, self.shapes, locations, weights)
        return deformable_attention(self._maps, locations, weights)


def _by_kernel(tokens: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """`sampled_attention` on CUDA."""
    from pave_ros.models.deformable_cuda import attention

    sizes = constant(tuple(shapes), torch.int32, tokens.device)
    return attention(tokens, sizes, locations.to(torch.float32), weights.to(torch.float32))


def _kernel_reads(values: Tensor) -> bool:
    """Whether the kernel for CUDA reads such values: it has no gradient, and no file can hold it."""
    learns = torch.is_grad_enabled() and values.requires_grad
    single = values.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return values.is_cuda and single and not learns and not torch.compiler.is_exporting() and _kernel_works()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # nothing for torch.compile to look into
def _kernel_works() -> bool:
    return kernel_works("cuda")


@cache
def kernel_works(device: str) -> bool:
    """Whether the kernel for CUDA can be compiled and run, which is tried once: it takes Triton, which comes with
    PyTorch where that has CUDA, and a C compiler, which a robot need not have."""
    try:
        from pave_ros.models.deformable_cuda import attention

        places, weights = torch.full((1, 1, 1, 1, 1, 2), 0.5, device=device), torch.ones(1, 1, 1, 1, 1, device=device)
        attention(torch.ones(1, 1, 16, device=device), constant(((1, 1),), torch.int32, places.device), places, weights)
    except Exception as error:  # whatever the compiler raises
        reason = str(error).strip().partition("\n")[0]
        log.warning("goes on without the kernel for deformable attention, which is slower: %s", reason)
        return False
    return True


ROWS_AT_ONCE = 1 << 20  # So that what is in work stays in the processor's caches.


def _gathered_attention(
    values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Each head of a query is a bag of table rows: four cells around each of its points, weighted."""
    batch, cells, channels = values.shape
    heads, levels, points = locations.shape[2:5]
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
