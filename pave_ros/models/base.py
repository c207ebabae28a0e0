"""What every network of the package offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pave_ros.models.folding import fold_norms
from pave_ros.models.info import ModelInfo

Features = tuple[Tensor, ...]

# pip sees to it; a workspace that colcon built runs with whatever PyTorch the robot has.
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
    raise RuntimeError(
        f"PyTorch {torch.__version__} is too old for the networks of pave_ros, which need 2.7 or newer; exported files "
        "(`pave_ros export`) need none"
    )


class PoseModel(nn.Module, ABC):
    """A pose network in two parts, so that a frame is encoded once however many windows it is in.

    Attributes:
        info: what has to be known to feed it and to read its answer.
        backbone_name: timm's name of its backbone, the submodule `backbone`.
        coordinates: kinds of modules of the encoder that compute with coordinates, for which 16 bits are too coarse.
        fused: whether it has been, see `fuse`; then it can no longer be trained or saved.
    """

    info: ModelInfo
    backbone_name: str
    coordinates: tuple[type[nn.Module], ...] = ()
    backbone: nn.Module
    fused: bool = False

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Features of single frames, from normalised pictures (B, 3, H, W), see `ModelInfo`."""

    @abstractmethod
    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """The raw outputs for a window of `info.window` frames, oldest first."""

    def fuse(self) -> PoseModel:
        """Fold what can be folded for running, such as the backbone's normalisation into its convolutions; the outputs
        stay the same. Returns the network itself."""
        fold_norms(self.backbone)
        self.fused = True
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The raw outputs for clips (B, T, 3, H, W), or pictures (B, 3, H, W), each on its own: as if nothing moved."""
        if images.dim() == 5:
            return self.decode([self.encode(frame) for frame in images.unbind(1)])
        return self.decode([self.encode(images)] * self.info.window)
