"""Layers that several systems share, against PyTorch's own and against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pave_ros.models.layers import MLP, Attention, cell_encoding, sine_encoding


@pytest.mark.parametrize("exporting", [False, True], ids=["at work", "as exported"])
@pytest.mark.parametrize("alike", ["all", "query and key", "key and value", "none"])
@torch.no_grad()
def test_attention_is_pytorch_s(alike: str, exporting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    torch.manual_seed(0)
    ours = Attention(24, 4).eval()
    nn.init.normal_(ours.in_proj_bias)
    theirs = nn.MultiheadAttention(24, 4, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    count = 5 if alike in ("all", "query and key") else 7
    query, key, value = torch.randn(2, 5, 24), torch.randn(2, count, 24), torch.randn(2, count, 24)
    key = query if alike in ("all", "query and key") else key
    value = key if alike in ("all", "key and value") else value
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value, need_weights=False)[0])
    for_all = torch.rand(5, count) < 0.4
    for_each = torch.rand(2, 1, 5, count) < 0.4
    for_all[:, 0] = for_each[..., 0] = False
    wanted = theirs(query, key, value, attn_mask=for_all, need_weights=False)[0]
    torch.testing.assert_close(ours(query, key, value, for_all), wanted)
    wanted = theirs(query, key, value, attn_mask=for_each[:, 0].repeat_interleave(4, 0), need_weights=False)[0]
    torch.testing.assert_close(ours(query, key, value, for_each), wanted)


def test_attention_drops_only_while_it_learns() -> None:
    torch.manual_seed(0)
    attention, tokens = Attention(24, 4, dropout=0.5), torch.randn(1, 5, 24)
    assert not torch.equal(attention(tokens, tokens, tokens), attention(tokens, tokens, tokens))
    attention.eval()
    assert torch.equal(attention(tokens, tokens, tokens), attention(tokens, tokens, tokens))


def test_an_mlp_takes_any_number_of_dimensions() -> None:
    mlp, tokens = MLP(6, 8, 3, depth=2), torch.randn(2, 4, 5, 6)
    out = mlp(tokens)
    assert out.shape == (2, 4, 5, 3)
    torch.testing.assert_close(out[1, 2, 3:4], mlp(tokens[1, 2, 3:4]))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-6)])
def test_sine_encodings_by_hand(dtype: torch.dtype, tolerance: float) -> None:
    x, y = 0.3, 0.8
    wanted = [
        f(2 * math.pi * place / 10000 ** (2 * i / 4)) for place in (y, x) for i in (0, 1) for f in (math.sin, math.cos)
    ]
    points = torch.tensor([[[x, y]]], dtype=dtype)
    found = sine_encoding(points, 8, temperature=10000)
    assert found.shape == (1, 1, 8) and found.dtype == dtype
    torch.testing.assert_close(found[0, 0].tolist(), wanted, atol=tolerance, rtol=0)


def test_cells_are_encoded_as_the_points_that_they_are() -> None:
    cells = cell_encoding(3, 4, 8, temperature=20, device=torch.device("cpu"), first=0.5)
    assert cells.shape == (12, 8)
    point = torch.tensor([[2.5 / 4, 1.5 / 3]])  # Column 2 of row 1.
    torch.testing.assert_close(cells[6:7], sine_encoding(point, 8, temperature=20), atol=1e-5, rtol=0)
