"""The training objective of PAVE-Net and of PETR: matching and losses as published.

The first stage, every layer of the pose decoder and every layer of the joint decoder are supervised in the frame that
is answered for; where people are in the other frames is learned only through where it makes the network look. PAVE-Net
places keypoints by their residual log-likelihood, PETR by distance and OKS, see `pave_ros.training.petr`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pave_ros import skeletons
from pave_ros.checkpoints import loading
from pave_ros.models.base import PoseModel
from pave_ros.models.flow import RealNVP
from pave_ros.models.mobilenet import BackboneWithFPN
from pave_ros.models.pavenet import PAVENet, Prediction
from pave_ros.training import backbones
from pave_ros.training.focal import focal_cost, focal_loss
from pave_ros.training.matching import Matches, cheapest, places
from pave_ros.training.petr import heatmap_loss, placing_losses
from pave_ros.training.rle import residual_log_likelihood
from pave_ros.training.settings import ConfigError, filled
from pave_ros.training.target import Target, inside, mean_over_processes
from pave_ros.training.truth import Truth

Losses = dict[str, Tensor]
# Parts that each frame of a window has for itself.
_FRAME = re.compile(r"\b(sampling_offsets|attention_weights|pose_heads|point_heads)\.-?\d+\.")


@dataclass(frozen=True)
class Weights:
    """Weights of the costs of the matching and of the losses.

    Attributes:
        class_cost, keypoint_cost, oks_cost: of the matching.
        classes: of the focal loss.
        keypoints: of the loss that places keypoints, by part of the network.
        oks: of PETR's second one, by part; none for a part that is not there.
        heatmaps: of PETR's heatmaps.
    """

    class_cost: float = 2.0
    keypoint_cost: float = 70.0
    oks_cost: float = 7.0
    classes: float = 0.5
    keypoints: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0, "poses": 1.0, "joints": 1.0})
    oks: Mapping[str, float] = field(default_factory=dict)
    heatmaps: float = 0.0


PAVENET = Weights()  # published, as are PETR's
PETR = Weights(
    classes=2.0,
    keypoints={"tokens": 70.0, "poses": 70.0, "joints": 80.0},
    oks={"poses": 2.0, "joints": 3.0},
    heatmaps=4.0,
)


def criterion(skeleton: str, **weights: Any) -> PAVENetCriterion:
    """The objective of both; `weights` are those of `Weights` that take the place of the published ones, of
    ``keypoints`` and ``oks`` those of some parts as well. ConfigError names what is unknown or of the wrong kind."""
    return PAVENetCriterion(skeleton, weights)


def _changed(row: Weights, changes: Mapping[str, Any]) -> Weights:
    """Weights of which some are others."""
    values = {**asdict(row), **changes}
    for name in ("keypoints", "oks"):
        if isinstance(parts := changes.get(name), Mapping):
            if unknown := parts.keys() - {"tokens", "poses", "joints"}:
                raise ConfigError(f"objective_options: {name}: unknown part {', '.join(map(str, unknown))}")
            values[name] = {**getattr(row, name), **parts}
    return filled(Weights, values, "objective_options")


class PAVENetCriterion:
    """Losses of a batch.

    Args:
        skeleton: keypoint layout, which gives the OKS sigmas.
        weights: what differs from the published weights.
    """

    def __init__(self, skeleton: str, weights: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.weights = {petr: _changed(row, weights) for petr, row in ((True, PETR), (False, PAVENET))}
        self.sigmas = torch.tensor(skeletons.get(skeleton).sigmas)

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> Losses:
        """The weighted losses by name, whose sum is to be minimised.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: clips (B, T, 3, H, W), normalised; or pictures (B, 3, H, W), in which nothing moves.
            targets: one for the middle frame of each clip.
            seeds: not needed, nothing here is left to chance.
        """
        losses: Losses = model(images, lambda network, clips: self.losses(network, clips, targets))
        return losses

    def losses(self, network: PAVENet, clips: Tensor, targets: Sequence[Target]) -> Losses:
        """The losses of a network on clips (B, T, 3, H, W)."""
        weights = self.weights[network.variant.petr]
        truth = Truth(targets, self.sigmas.to(clips.device), (clips.shape[-1], clips.shape[-2]))
        final: Matches = []

        def matched(prediction: Prediction) -> Tensor:
            final[:] = match(prediction, truth, weights)
            return _padded([queries for queries, _ in final], clips.device)

        everything = network.forward_training(clips, matched)
        padded = [(torch.arange(len(people), device=clips.device), people) for _, people in final]
        parts = [("tokens", "tokens", everything.tokens)]
        parts += [("poses", f"poses_{index}", prediction) for index, prediction in enumerate(everything.poses)]
        parts += [("joints", f"joints_{index}", prediction) for index, prediction in enumerate(everything.joints)]
        losses: Losses = {}
        for part, name, prediction in parts:
            matches = padded if part == "joints" else match(prediction, truth, weights)
            if prediction.logits is not None:
                losses[f"{name}_classes"] = weights.classes * class_loss(prediction, targets, matches)
            if not network.variant.petr:
                flow: Any = network.flows[part]
                losses[f"{name}_keypoints"] = weights.keypoints[part] * keypoint_loss(prediction, truth, matches, flow)
                continue
            distance, dissimilarity = placing_losses(prediction.poses, truth, matches)
            losses[f"{name}_keypoints"] = weights.keypoints[part] * distance
            if part in weights.oks:
                losses[f"{name}_oks"] = weights.oks[part] * dissimilarity
        if everything.heatmaps is not None:
            losses["heatmaps"] = weights.heatmaps * heatmap_loss(everything.heatmaps, truth)
        return losses


@torch.no_grad()
def match(prediction: Prediction, truth: Truth, weights: Weights) -> Matches:
    """Who is who, by class, mean distance of the labelled keypoints, and OKS."""
    assert prediction.logits is not None
    pictures = zip(prediction.logits.float(), prediction.poses.float(), truth.targets, strict=True)
    return cheapest(cost(*picture, truth, weights) for picture in pictures)


def cost(logits: Tensor, poses: Tensor, target: Target, truth: Truth, weights: Weights) -> Tensor:
    """(Q, M) of one picture, from logits (Q, 1) and poses (Q, K, 2)"""
    distance = ((poses[:, None] - target.keypoints).abs().sum(-1) * target.labelled).sum(-1)
    distance = distance / (2 * target.labelled.sum(-1)).clamp(min=1)
    oks = truth.similarity(poses[:, None], target.keypoints, target.labelled, target.areas)
    return weights.class_cost * focal_cost(logits) + weights.keypoint_cost * distance + weights.oks_cost * (1 - oks)


def class_loss(prediction: Prediction, targets: Sequence[Target], matches: Matches) -> Tensor:
    """Focal loss over the number of people who were matched. Queries that are nobody count nothing where nobody was
    annotated."""
    assert prediction.logits is not None
    logits = prediction.logits.float().squeeze(-1)
    total = logits.sum() * 0.0
    for own, poses, target, (queries, _) in zip(logits, prediction.poses.detach(), targets, matches, strict=True):
        person = torch.zeros_like(own, dtype=torch.bool)
        person[queries] = True
        counts = person | ~inside(poses.mean(1), target.ignored)
        total = total + focal_loss(own[counts], person[counts])
    return total / mean_over_processes(sum(len(queries) for queries, _ in matches), logits.device)


def keypoint_loss(prediction: Prediction, truth: Truth, matches: Matches, flow: RealNVP) -> Tensor:
    """Residual log-likelihood of the matched people's labelled keypoints, averaged over their coordinates."""
    assert prediction.sigmas is not None
    at = places(matches)
    points, sigmas = prediction.poses[at].float(), prediction.sigmas[at].float()
    people = truth.of(matches)
    loss = residual_log_likelihood(points, sigmas, people.keypoints, people.labelled, flow).sum()
    return loss / mean_over_processes(2 * float(people.labelled.sum()), points.device)


def _padded(queries: Sequence[Tensor], device: torch.device) -> Tensor:
    """(B, M) with the first query for padding; at least one, so that every process takes part in every layer."""
    most = max(1, *map(len, queries))
    padded = torch.zeros(len(queries), most, dtype=torch.long, device=device)
    for row, own in zip(padded, queries, strict=True):
        row[: len(own)] = own
    return padded


def load_backbone(model: PoseModel, path: Path) -> None:
    """Fill the network as far as a file goes: a classifier's checkpoint has the backbone; the first stage of the
    embedded model has that of `pavenet_lite` with its pyramid; a network over one frame has all of it, and every frame
    of the window takes that one's weights.

    Raises:
        CheckpointError: the file is none of these, or does not fit; names the first tensor that is amiss.
    """
    own, state = model.state_dict(), loading.read(path)
    if any(key.startswith("bbox_head.") for key in state):
        state = loading.open_model(model.info.name, path).state_dict()
        names = {key: _FRAME.sub(r"\1.0.", key) for key in own}
    elif isinstance(model.get_submodule("backbone"), BackboneWithFPN):
        names = {key: key.removeprefix("backbone.") for key in own if key.startswith("backbone.")}
    else:
        backbones.load_backbone(model, path)
        return
    tensors = {key: state[name] for key, name in names.items() if name in state}
    backbones.take_over(model, tensors, names, path, names.__getitem__)


class TrainingForward(torch.nn.Module):
    """The network and its losses in one, since the flows, which learn too, are a part of them."""

    def __init__(self, model: PAVENet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, losses: Callable[[PAVENet, Tensor], Losses]) -> Losses:
        """What `losses` makes of the network and clips; pictures become clips in which nothing moves."""
        if images.dim() == 4:
            images = images.unsqueeze(1).expand(-1, self.model.info.window, -1, -1, -1)
        return losses(self.model, images)
