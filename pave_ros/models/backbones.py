"""What the systems do to timm's backbones."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

STEM = ("conv1", "layer1")  # What DETR and detectron2 do not train of a ResNet.


def frozen(backbone: nn.Module, parts: Sequence[str] = ()) -> nn.Module:
    """A backbone with its batch normalisation frozen, in training too, as published, and all of these parts of it.

    timm begins each residual branch with a normalisation to zero, which is meant to grow; frozen it would shut the
    branch for ever. Those begin with one, as torchvision's do.
    """
    for part in parts:
        backbone.get_submodule(part).requires_grad_(False)
    made: nn.Module = freeze_batch_norm_2d(backbone)
    for module in made.modules():
        if isinstance(module, (FrozenBatchNorm2d, FrozenBatchNormAct2d)):
            gain: Tensor = module.get_buffer("weight")
            gain.masked_fill_(gain == 0, 1)
    return made
