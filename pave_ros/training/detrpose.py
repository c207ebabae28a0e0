"""The training objective of DETRPose: matching, losses and denoising queries as published.

Four things differ from the published code on purpose. Whom nobody annotated counts neither way (there crowds and
people without keypoints are background). The others are in the noise: the centre of a noised person is the mean of
their joints, as everywhere else (the code takes that of their box); the direction is a random unit vector, as the
paper has it (the code normalises with p = -1 and so moves every joint the same way and far too much), and joints that
are not labelled start at the person's centre instead of the picture's corner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models.detrpose import DETRPose, NoisedQueries, Prediction
from pave_ros.training.focal import ALPHA, GAMMA
from pave_ros.training.matching import Matcher, Matches, keypoint_similarity, people_of, places, union
from pave_ros.training.settings import check_bounds, filled
from pave_ros.training.target import Target, inside, largest_over_processes, mean_over_processes

PERSON = 1
LABEL_CLASSES = 80  # Random labels of noised queries come from as many.
LABEL_NOISE = 0.25  # Share of noised queries with a random label.
DENOISING_QUERIES = 20  # Positive ones for each picture at most, but at least one for everybody.
# OKS of the noised keypoints with the true ones: above one half for positives, between these for negatives.
POSITIVE_OKS = (1.0, 0.5)
NEGATIVE_OKS = (0.5, 0.1)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the three losses (published), which the matching uses for its costs as well."""

    classes: float = 2.0
    keypoints: float = 10.0
    oks: float = 4.0


@dataclass(frozen=True)
class Options(LossWeights):
    """What may be chosen of the objective.

    Attributes:
        denoising: positive noised queries of each picture at most, but at least one for everybody; 0 for none.
    """

    denoising: int = DENOISING_QUERIES

    def __post_init__(self) -> None:
        check_bounds(self, ((("denoising",), 0, math.inf),))


PUBLISHED = Options()


def criterion(skeleton: str, **options: Any) -> DETRPoseCriterion:
    """The objective; `options` are those of `Options` that are not as published. ConfigError names what is unknown or
    of the wrong kind."""
    return DETRPoseCriterion(skeleton, filled(Options, options, "objective_options"))


class DETRPoseCriterion:
    """Losses of a batch.

    Args:
        skeleton: keypoint layout, which gives the OKS sigmas.
        options: weights of the losses, and how much is denoised.
    """

    def __init__(self, skeleton: str, options: Options = PUBLISHED) -> None:
        self.weights, self.denoising = options, options.denoising
        self.matcher = Matcher(
            torch.tensor(skeletons.get(skeleton).sigmas),
            PERSON,
            self.weights.classes,
            self.weights.keypoints,
            self.weights.oks,
        )

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """The weighted losses by name, whose sum is to be minimised.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W), normalised.
            targets: one for each picture.
            seeds: one for each picture, of its noise; so the noise does not depend on who shares the batch.
        """
        sigmas = self.matcher_on(images.device).sigmas
        noised, groups = noised_queries(targets, sigmas, seeds, self.denoising) if self.denoising else (None, 0)
        predictions, restored = model(images, noised)
        losses = self._supervise(predictions, targets)
        if noised is not None:
            losses |= self._restore(restored, targets, groups)
        return losses

    def _supervise(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Deep supervision: each prediction has its own matching for the class, all share one for the keypoints."""
        matcher = self.matcher_on(predictions[0].logits.device)
        matches = [matcher(p.logits.float(), p.keypoints.float(), targets) for p in predictions]
        shared = union([matches[-1], *matches[:-1]])
        device = predictions[0].logits.device
        people = mean_over_processes(sum(map(len, targets)), device)
        pairs = mean_over_processes(sum(len(queries) for queries, _ in shared), device)
        losses = {}
        for index, (prediction, own) in enumerate(zip(predictions, matches, strict=True)):
            losses[f"classes_{index}"] = self.class_loss(prediction, targets, own) / people
            l1, oks = self.keypoint_losses(prediction, targets, shared)
            losses[f"keypoints_{index}"], losses[f"oks_{index}"] = l1 / pairs, oks / pairs
        return losses

    def _restore(self, restored: Sequence[Prediction], targets: Sequence[Target], groups: int) -> dict[str, Tensor]:
        device = restored[0].logits.device
        people = mean_over_processes(sum(map(len, targets)), device) * groups
        matches = denoising_matches(targets, groups, device)
        # Noised queries stem from people who are annotated, wherever they stand.
        known = [replace(target, ignored=target.ignored[:0]) for target in targets]
        losses = {}
        for index, prediction in enumerate(restored):
            losses[f"denoised_classes_{index}"] = self.class_loss(prediction, known, matches) / people
            l1, oks = self.keypoint_losses(prediction, targets, matches)
            losses[f"denoised_keypoints_{index}"], losses[f"denoised_oks_{index}"] = l1 / people, oks / people
        return losses

    def matcher_on(self, device: torch.device) -> Matcher:
        """The matcher with its constants on a device."""
        if self.matcher.sigmas.device != device:
            self.matcher = replace(self.matcher, sigmas=self.matcher.sigmas.to(device))
        return self.matcher

    def class_loss(self, prediction: Prediction, targets: Sequence[Target], matches: Matches) -> Tensor:
        """Varifocal loss (summed): a matched query's person score is to be its OKS, all others zero.

        Queries that no person is assigned to count nothing inside regions where people are not annotated.
        """
        logits = prediction.logits.float()
        quality = torch.zeros_like(logits)
        assigned = torch.zeros_like(logits)
        pictures, queries = places(matches)
        quality[pictures, queries, PERSON] = self._similarity(prediction, targets, matches).detach().float()
        assigned[pictures, queries, PERSON] = 1.0
        centres = prediction.keypoints.detach().mean(2)
        counts = torch.stack([~inside(own, target.ignored) for own, target in zip(centres, targets, strict=True)])
        p = logits.detach().sigmoid()
        weight = ALPHA * p**GAMMA * (1 - assigned) * counts[..., None] + quality
        losses = F.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")
        return self.weights.classes * losses

    def keypoint_losses(
        self, prediction: Prediction, targets: Sequence[Target], matches: Matches
    ) -> tuple[Tensor, Tensor]:
        """L1 over the labelled keypoints, and 1 - OKS, of all matched pairs (both summed)."""
        truth, labelled = people_of(targets, matches, "keypoints", "labelled")
        distance = (prediction.keypoints[places(matches)] - truth).abs().sum(-1)
        dissimilarity = 1 - self._similarity(prediction, targets, matches)
        return self.weights.keypoints * (distance * labelled).sum(), self.weights.oks * dissimilarity.sum()

    def _similarity(self, prediction: Prediction, targets: Sequence[Target], matches: Matches) -> Tensor:
        """(M,) OKS of the matched people."""
        keypoints = prediction.keypoints[places(matches)].float()
        sigmas = self.matcher_on(keypoints.device).sigmas
        truth, labelled, areas = people_of(targets, matches, "keypoints", "labelled", "areas")
        return keypoint_similarity(keypoints, truth, labelled, areas, sigmas)


# --- denoising ----------------------------------------------------------------------------------------------------


def noised_queries(
    targets: Sequence[Target], sigmas: Tensor, seeds: Sequence[int], positives: int = DENOISING_QUERIES
) -> tuple[NoisedQueries | None, int]:
    """Queries that start from noised people, and the number of their groups; none where a batch has no people.

    A group holds every person twice: first slightly noised, to be restored, then strongly noised, to be rejected.
    Noise is measured in OKS (the paper's keypoint similarity): its square distance is -ln(OKS) 2 area (2 sigma)^2.
    Every process has as many groups, by the picture with most people in any; published, each has its own number.
    """
    device = sigmas.device
    most = largest_over_processes(max(map(len, targets)), device)
    if most == 0:
        return None, 0
    groups = max(positives // most, 1)
    count = groups * 2 * most
    points = torch.full((len(targets), count, len(sigmas), 2), 0.5, device=device)
    labels = torch.zeros(len(targets), count, dtype=torch.long, device=device)
    used = torch.zeros(len(targets), count, dtype=torch.bool, device=device)
    for picture, (target, seed) in enumerate(zip(targets, seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        for block in range(groups * 2):
            rows = slice(block * most, block * most + len(target))
            oks = POSITIVE_OKS if block % 2 == 0 else NEGATIVE_OKS
            points[picture, rows] = _noised(target, sigmas, oks, generator)
            labels[picture, rows] = _noised_labels(len(target), generator).to(device)
            used[picture, rows] = True
    return NoisedQueries(labels, points, used, torch.arange(count, device=device) // (2 * most)), groups


def _noised(target: Target, sigmas: Tensor, oks: tuple[float, float], generator: torch.Generator) -> Tensor:
    """The keypoints (M, K, 2) of the people of a picture, each moved until its similarity lies in the range."""
    labelled = target.labelled[..., None]
    centre = (target.keypoints * labelled).sum(1, keepdim=True) / labelled.sum(1, keepdim=True).clamp(min=1)
    random = torch.rand(*target.labelled.shape, 2, generator=generator).to(sigmas.device)
    low, high = -math.log(oks[0]), -math.log(oks[1])
    squared = (low + (high - low) * random[..., 0]) * 2 * target.areas[:, None] * (2 * sigmas) ** 2
    angle = 2 * math.pi * random[..., 1]
    offset = squared.sqrt()[..., None] * torch.stack((angle.cos(), angle.sin()), -1)
    return torch.where(labelled, target.keypoints + offset, centre).clamp(1e-3, 1 - 1e-3)


def _noised_labels(count: int, generator: torch.Generator) -> Tensor:
    """(count,) the person's label, or now and then any."""
    wrong = torch.rand(count, generator=generator) < LABEL_NOISE
    return torch.where(wrong, torch.randint(0, LABEL_CLASSES, (count,), generator=generator), PERSON)


def denoising_matches(targets: Sequence[Target], groups: int, device: torch.device) -> Matches:
    """Which noised query stems from which person; only the slightly noised ones are to be restored."""
    most = largest_over_processes(max(map(len, targets)), device)
    matches = []
    for target in targets:
        people = torch.arange(len(target), device=device)
        queries = torch.cat([people + group * 2 * most for group in range(groups)])
        matches.append((queries, people.repeat(groups)))
    return matches


class TrainingForward(torch.nn.Module):
    """What training runs, as the forward of a module, so that data parallel wrappers see it."""

    def __init__(self, model: DETRPose) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, noised: NoisedQueries | None) -> tuple[list[Prediction], list[Prediction]]:
        return self.model.forward_training(images, noised)
