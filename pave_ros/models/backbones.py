"""What the systems do to timm's backbones."""

from __future__ import annotations

from timm.layers import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


def frozen(backbone: nn.Module) -> nn.Module:
    """A backbone with its batch normalisation frozen, in training too, as published.

    timm begins each residual branch with a normalisation to zero, which is meant to grow; frozen it would shut the
    branch for ever. Those begin with one, as torchvision's do.
    """
    made: nn.Module = freeze_batch_norm_2d(backbone)
    for module in made.modules():
        if isinstance(module, (FrozenBatchNorm2d, FrozenBatchNormAct2d)):
            gain: Tensor = module.get_buffer("weight")
            gain.masked_fill_(gain == 0, 1)
    return made
