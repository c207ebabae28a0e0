"""The training objective of POET: matching and losses as published, with the weights of the authors' training command.

Two things differ from the published code on purpose, both for people without a visible keypoint. They are all of the
class for that; in the code it depends on whether their hidden nose is annotated. And in the matching their visibilities
cost nothing; the code means that, but clears other queries' in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pave_ros.models.poet import CLASSES, POET
from pave_ros.training.matching import Matches, cheapest, people_of, places
from pave_ros.training.settings import filled
from pave_ros.training.target import Target, mean_over_processes

PERSON = 1
BARE = 0  # A person without a visible keypoint.
NOBODY = CLASSES - 1
NOBODY_WEIGHT = 0.1  # Of queries that are to find nobody, in the class loss; most of them are.

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses, which the matching uses for its costs as well."""

    classes: float = 1.0
    keypoints: float = 4.0
    offsets: float = 0.5
    centres: float = 0.5
    visibility: float = 0.2


PUBLISHED = LossWeights()


@dataclass(frozen=True)
class Truth:
    """The people of one picture as the network is to give them.

    Attributes:
        labels: (M,) class.
        poses: (M, 2 + 3 K), see `POET.decode`; the centre is the mean of the visible keypoints.
        seen: (M, K) bool, the visible keypoints, whose places are supervised.
    """

    labels: Tensor
    poses: Tensor
    seen: Tensor

    @classmethod
    def of(cls, target: Target) -> Truth:
        """From a training target; whoever has no visible keypoint has no place."""
        seen = F.pad(target.visible, (0, 0, 0, len(target.bare)))
        points = F.pad(target.keypoints, (0, 0, 0, 0, 0, len(target.bare))) * seen[..., None]
        centres = points.sum(1) / seen.sum(1, keepdim=True).clamp(min=1)
        offsets = 0.5 + (points - centres[:, None]) / 2
        keypoints = torch.cat((offsets, seen[..., None].to(offsets.dtype)), -1)
        labels = torch.where(seen.any(1), PERSON, BARE)
        return cls(labels, torch.cat((centres, keypoints.flatten(1)), 1), seen)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Differences:
    """How far poses are from the truth: sums over the visible keypoints of the L1 distances of their places and of
    their offsets, and squared distances of the centres and of the visibilities; zero without a visible keypoint."""

    keypoints: Tensor
    offsets: Tensor
    centres: Tensor
    visibility: Tensor

    @classmethod
    def between(cls, poses: Tensor, truth: Tensor, seen: Tensor) -> Differences:
        """Of poses (..., 2 + 3 K) and the truth (..., 2 + 3 K) with `seen` (..., K), broadcast; each (...)."""
        centre, keypoints = poses[..., :2], poses[..., 2:].unflatten(-1, (-1, 3))
        true_centre, true_keypoints = truth[..., :2], truth[..., 2:].unflatten(-1, (-1, 3))
        offset = keypoints[..., :2] - true_keypoints[..., :2]
        place = 2 * offset + (centre - true_centre).unsqueeze(-2)  # An offset is stored as its half, plus 0.5.
        somewhere = seen.any(-1)
        return cls(
            keypoints=(place.abs().sum(-1) * seen).sum(-1),
            offsets=(offset.abs().sum(-1) * seen).sum(-1),
            centres=(centre - true_centre).square().sum(-1) * somewhere,
            visibility=(keypoints[..., 2] - true_keypoints[..., 2]).square().sum(-1) * somewhere,
        )


def criterion(skeleton: str, **weights: Any) -> POETCriterion:
    """The objective, which is the same for every keypoint layout; `weights` are those of `LossWeights` that take the
    place of the published ones. ConfigError names what is unknown or of the wrong kind."""
    return POETCriterion(filled(LossWeights, weights, "objective_options"))


class POETCriterion:
    """Losses of a batch, with these weights."""

    def __init__(self, weights: LossWeights = PUBLISHED) -> None:
        self.weights = weights

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """The weighted losses by name, whose sum is to be minimised; every decoder layer has its own matching.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W), normalised.
            targets: one for each picture.
            seeds: one for each picture; nothing here is random.
        """
        truths = [Truth.of(target) for target in targets]
        people = mean_over_processes(sum(map(len, truths)), images.device)
        losses = {}
        for index, outputs in enumerate(model(images)):
            outputs = {name: value.float() for name, value in outputs.items()}
            matches = self.match(outputs, truths)
            for name, loss in self.losses(outputs, truths, matches, people).items():
                losses[f"{name}_{index}"] = loss
        return losses

    @torch.no_grad()
    def match(self, outputs: Outputs, truths: Sequence[Truth]) -> Matches:
        """The cheapest assignment of queries to people for each picture of a batch."""
        pictures = zip(outputs["pred_logits"], outputs["pred_kpts"], truths, strict=True)
        return cheapest([self.cost(logits, poses, truth) for logits, poses, truth in pictures])

    def cost(self, logits: Tensor, poses: Tensor, truth: Truth) -> Tensor:
        """(Q, M) costs of one picture, from its logits (Q, 3) and poses (Q, 2 + 3 K)."""
        weights, chances = self.weights, logits.softmax(-1)
        differences = Differences.between(poses[:, None], truth.poses, truth.seen)
        return (
            -weights.classes * chances[:, truth.labels]
            + weights.keypoints * differences.keypoints
            + weights.offsets * differences.offsets
            + weights.centres * differences.centres.sqrt()
            + weights.visibility * differences.visibility.sqrt()
        )

    def losses(self, outputs: Outputs, truths: Sequence[Truth], matches: Matches, people: float) -> dict[str, Tensor]:
        """The weighted losses of one decoder layer; all but that of the classes are sums over `people`."""
        logits, weights = outputs["pred_logits"], self.weights
        at, (labels, poses, seen) = places(matches), people_of(truths, matches, "labels", "poses", "seen")
        wanted = torch.full(logits.shape[:2], NOBODY, device=logits.device)
        wanted[at] = labels
        importance = torch.ones(CLASSES, device=logits.device)
        importance[NOBODY] = NOBODY_WEIGHT
        classes = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), importance, reduction="sum")
        queries = mean_over_processes(float(importance[wanted].sum()), logits.device)
        differences = Differences.between(outputs["pred_kpts"][at], poses, seen)
        return {
            "classes": weights.classes * classes / queries,
            "keypoints": weights.keypoints * differences.keypoints.sum() / people,
            "offsets": weights.offsets * differences.offsets.sum() / people,
            "centres": weights.centres * differences.centres.sum() / people,
            "visibility": weights.visibility * differences.visibility.sum() / people,
        }


class TrainingForward(torch.nn.Module):
    """`forward_training` as the module's forward, so that data parallel wrappers see it."""

    def __init__(self, model: POET) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Outputs]:
        return self.model.forward_training(images)
