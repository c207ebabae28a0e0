"""The backbone, pyramid and heads of the embedded model's stages: channels, sizes, borders, and what starts small."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from pave_ros.models import mobilenet


@pytest.mark.parametrize("width", [0.5, 1.0, 1.5, 1.75])
def test_channels_are_those_of_mobilenet_v2(width: float) -> None:
    def convolutions(network: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Conv2d)]

    ours, known = mobilenet.MobileNet(width), mobilenet_v2(width_mult=width).features
    # The last one has as many channels at every width here.
    assert convolutions(ours)[:-1] == convolutions(known)[:-1]
    assert ours.last.out_channels == 1280


def test_maps_have_their_strides() -> None:
    backbone = mobilenet.MobileNet(0.5)
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [m.shape[1] for m in maps] == [*backbone.channels, mobilenet.DEEPEST]
    features = mobilenet.Pyramid(backbone.channels)(maps)
    assert features.shape == (2, mobilenet.CHANNELS, 64 // mobilenet.STRIDE, 96 // mobilenet.STRIDE)
    assert mobilenet.head(17)(features).shape == (2, 17, 16, 24)


def test_strides_begin_at_the_first_pixel() -> None:
    """As TensorFlow counts: the first place sees the first three pixels, the last one the border."""
    stem = mobilenet.MobileNet(0.5).stem
    with torch.no_grad():
        stem.weight.fill_(1)
    picture = torch.zeros(1, 3, 8, 8)
    picture[0, 0] = torch.arange(64.0).view(8, 8)
    out = stem(picture)[0, 0]
    assert out.shape == (4, 4)
    out = out.detach()
    assert float(out[0, 0]) == sum(8 * y + x for y in range(3) for x in range(3))
    assert float(out[3, 3]) == sum(8 * y + x for y in (6, 7) for x in (6, 7))


def test_untrained_networks_neither_blow_up_nor_fade() -> None:
    torch.manual_seed(0)
    backbone = mobilenet.MobileNet(1.0)
    features = mobilenet.Pyramid(backbone.channels)(backbone(torch.randn(2, 3, 64, 64)))
    assert 0.05 < float(features.std().detach()) < 50
