"""Folding what follows a convolution into it: frozen batch normalisation, learned scales and shifts."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm_act import FrozenBatchNormAct2d
from timm.models.hgnet import ConvBNAct, LearnableAffineBlock
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d


@torch.no_grad()
def fold_norms(network: nn.Module) -> None:
    """Fold every batch normalisation that follows a convolution and nothing else, frozen or not in training; the
    outputs stay the same.

    Which convolution a normalisation follows is found out by running the network on a small picture, so it holds for
    any backbone; a result that something else reads as well, by a module, is left alone.
    """
    if not any(_is_fixed(module) for module in network.modules()):
        return
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # Results are kept, so that no two have the same identity.
    readers: dict[int, int] = {}
    pairs: list[tuple[nn.Module, nn.Module, int]] = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for value in inputs:
            readers[id(value)] = readers.get(id(value), 0) + 1
            if _is_fixed(module) and id(value) in made:
                pairs.append((made[id(value)][0], module, id(value)))
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)
            readers[id(output)] = 0

    leaves = [m for m in network.modules() if not list(m.children()) or isinstance(m, FrozenBatchNormAct2d)]
    hooks = [leaf.register_forward_hook(look) for leaf in leaves]
    parameter = next(network.parameters())
    try:
        network(torch.zeros(1, 3, 64, 64, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    folded = {id(norm): _fold(conv, norm) for conv, norm, value in pairs if readers[value] == 1}
    for parent in network.modules():
        for name, child in parent.named_children():
            if id(child) in folded:
                setattr(parent, name, folded[id(child)])


def _is_fixed(module: nn.Module) -> bool:
    """Whether it is a batch normalisation by numbers that are known."""
    if isinstance(module, nn.BatchNorm2d):
        return not module.training
    return isinstance(module, (FrozenBatchNorm2d, FrozenBatchNormAct2d))


def _fold(conv: Any, norm: Any) -> nn.Module:
    """Move the scale and the shift into the convolution; what stays of the normalisation is its activation."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = torch.zeros_like(norm.bias) if conv.bias is None else conv.bias
    conv.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
    if isinstance(norm, FrozenBatchNormAct2d):
        return nn.Sequential(norm.drop, norm.act)
    return nn.Identity()


class Bounded(nn.Module):
    """Values no lower than one bound, and no higher than another."""

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


@torch.no_grad()
def fold_affine(network: nn.Module) -> None:
    """Fold the learned scale and shift behind each ReLU of HGNetv2, whose normalisation is folded already, into the
    convolution before it; the outputs stay the same. For ``scale * max(x, 0) + shift`` is ``scale * x + shift``, but
    at least the shift, or with a negative scale at most."""
    for module in network.modules():
        if isinstance(module, ConvBNAct) and isinstance(module.lab, LearnableAffineBlock):
            block: Any = module
            assert isinstance(block.bn, nn.Identity) and isinstance(block.act, nn.ReLU)
            scale, shift = float(block.lab.scale), float(block.lab.bias)
            block.conv.weight.mul_(scale)
            block.conv.bias.mul_(scale).add_(shift)
            block.act = Bounded(low=shift) if scale >= 0 else Bounded(high=shift)
            block.lab = nn.Identity()
