"""The training objective of PAVE-Net: matching and losses as published.

The first stage, every layer of the pose decoder and every layer of the joint decoder are supervised in the frame that
is answered for; where people are in the other frames is learned only through where it makes the network look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pave_ros import skeletons
from pave_ros.models.flow import RealNVP
from pave_ros.models.pavenet import PAVENet, Prediction
from pave_ros.training.focal import focal_cost, focal_loss
from pave_ros.training.matching import Matches, cheapest, keypoint_similarity
from pave_ros.training.rle import residual_log_likelihood
from pave_ros.training.target import Target, inside, mean_over_processes

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """Weights (published) of the costs of the matching and of the losses."""

    class_cost: float = 2.0
    keypoint_cost: float = 70.0
    oks_cost: float = 7.0
    classes: float = 0.5
    keypoints: float = 1.0


def criterion(skeleton: str) -> PAVENetCriterion:
    """The objective with its published weights."""
    return PAVENetCriterion(skeleton)


class PAVENetCriterion:
    """Losses of a batch.

    Args:
        skeleton: keypoint layout, which gives the OKS sigmas.
        weights: of costs and losses.
    """

    def __init__(self, skeleton: str, weights: Weights | None = None) -> None:
        self.sigmas = torch.tensor(skeletons.get(skeleton).sigmas)
        self.weights = weights or Weights()

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
        final: Matches = []

        def matched(prediction: Prediction) -> Tensor:
            final[:] = self.match(prediction, targets)
            return _padded([queries for queries, _ in final], clips.device)

        everything = network.forward_training(clips, matched)
        flows: Any = network.flows
        losses = self._supervise("tokens", everything.tokens, targets, None, flows["tokens"])
        for index, prediction in enumerate(everything.poses):
            losses |= self._supervise(f"poses_{index}", prediction, targets, None, flows["poses"])
        places = [(torch.arange(len(people), device=clips.device), people) for _, people in final]
        for index, prediction in enumerate(everything.joints):
            losses |= self._supervise(f"joints_{index}", prediction, targets, places, flows["joints"])
        return losses

    @torch.no_grad()
    def match(self, prediction: Prediction, targets: Sequence[Target]) -> Matches:
        """Who is who, by class, mean distance of the labelled keypoints, and OKS."""
        assert prediction.logits is not None
        return cheapest(map(self._cost, prediction.logits.float(), prediction.poses.float(), targets))

    def _cost(self, logits: Tensor, poses: Tensor, target: Target) -> Tensor:
        """(Q, M) of one picture, from logits (Q, 1) and poses (Q, K, 2)"""
        distance = ((poses[:, None] - target.keypoints).abs().sum(-1) * target.labelled).sum(-1)
        distance = distance / (2 * target.labelled.sum(-1)).clamp(min=1)
        sigmas = self.sigmas.to(poses.device)
        oks = keypoint_similarity(poses[:, None], target.keypoints, target.labelled, target.areas, sigmas)
        weights = self.weights
        return weights.class_cost * focal_cost(logits) + weights.keypoint_cost * distance + weights.oks_cost * (1 - oks)

    def _supervise(
        self, part: str, prediction: Prediction, targets: Sequence[Target], matches: Matches | None, flow: RealNVP
    ) -> Losses:
        """Losses of one prediction; without matches it has its own."""
        matches = matches if matches is not None else self.match(prediction, targets)
        losses = {f"{part}_keypoints": self.weights.keypoints * keypoint_loss(prediction, targets, matches, flow)}
        if prediction.logits is not None:
            losses[f"{part}_classes"] = self.weights.classes * class_loss(prediction, targets, matches)
        return losses


def class_loss(prediction: Prediction, targets: Sequence[Target], matches: Matches) -> Tensor:
    """Focal loss over the number of people. Queries that are nobody count nothing where nobody was annotated."""
    assert prediction.logits is not None
    logits = prediction.logits.float().squeeze(-1)
    total = logits.sum() * 0.0
    for own, poses, target, (queries, _) in zip(logits, prediction.poses.detach(), targets, matches, strict=True):
        person = torch.zeros_like(own, dtype=torch.bool)
        person[queries] = True
        counts = person | ~inside(poses.mean(1), target.ignored)
        total = total + focal_loss(own[counts], person[counts])
    return total / mean_over_processes(sum(map(len, targets)), logits.device)


def keypoint_loss(prediction: Prediction, targets: Sequence[Target], matches: Matches, flow: RealNVP) -> Tensor:
    """Residual log-likelihood of the matched people's labelled keypoints, averaged over their coordinates."""
    if prediction.sigmas is None:
        raise ValueError("the rows of PETR have no deviations to train; take another row with a window of one frame")
    pairs = list(zip(matches, targets, strict=True))
    points = torch.cat([p[queries] for p, ((queries, _), _) in zip(prediction.poses, pairs, strict=True)]).float()
    sigmas = torch.cat([s[queries] for s, ((queries, _), _) in zip(prediction.sigmas, pairs, strict=True)]).float()
    truth = torch.cat([target.keypoints[people] for (_, people), target in pairs])
    labelled = torch.cat([target.labelled[people] for (_, people), target in pairs])
    loss = residual_log_likelihood(points, sigmas, truth, labelled, flow).sum()
    return loss / mean_over_processes(2 * float(labelled.sum()), points.device)


def _padded(queries: Sequence[Tensor], device: torch.device) -> Tensor:
    """(B, M) with the first query for padding; at least one, so that every process takes part in every layer."""
    most = max(1, *map(len, queries))
    padded = torch.zeros(len(queries), most, dtype=torch.long, device=device)
    for row, own in zip(padded, queries, strict=True):
        row[: len(own)] = own
    return padded


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
