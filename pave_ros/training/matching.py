"""Who is who: one-to-one assignment of predictions to people (DETR), with the costs of pose estimation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pave_ros.training.focal import focal_cost
from pave_ros.training.target import Target

# One entry for each picture: (queries, people), two index tensors of the same length.
Matches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Matcher:
    """Hungarian matching by class, keypoint distance and OKS.

    Attributes:
        sigmas: (K,) OKS standard deviations.
        label: column of the logits that means a person.
        class_weight, keypoint_weight, oks_weight: of the three costs.
    """

    sigmas: Tensor
    label: int
    class_weight: float
    keypoint_weight: float
    oks_weight: float

    def cost(self, logits: Tensor, keypoints: Tensor, target: Target) -> Tensor:
        """(Q, M) costs of one picture, from its logits (Q, classes) and keypoints (Q, K, 2)."""
        distance = (keypoints[:, None] - target.keypoints[None]).abs().sum(-1)
        l1 = (distance * target.labelled).sum(-1)
        oks = keypoint_similarity(keypoints[:, None], target.keypoints, target.labelled, target.areas, self.sigmas)
        return (
            self.class_weight * focal_cost(logits[:, self.label, None])
            + self.keypoint_weight * l1
            + self.oks_weight * (1 - oks)
        )

    @torch.no_grad()
    def __call__(self, logits: Tensor, keypoints: Tensor, targets: Sequence[Target]) -> Matches:
        """The cheapest assignment for each picture of a batch; logits (B, Q, classes), keypoints (B, Q, K, 2)."""
        return cheapest(map(self.cost, logits, keypoints, targets))


def cheapest(costs: Iterable[Tensor]) -> Matches:
    """The cheapest one-to-one assignment for each picture of a batch, from its costs (Q, M)."""
    matches = []
    for cost in costs:
        # What is not finite is matched somehow and found in the losses.
        queries, people = linear_sum_assignment(cost.detach().nan_to_num(1e9, 1e9, -1e9).cpu().numpy())
        matches.append((torch.as_tensor(queries, device=cost.device), torch.as_tensor(people, device=cost.device)))
    return matches


def places(matches: Matches) -> tuple[Tensor, Tensor]:
    """The picture (M,) and the query (M,) of every pair of a batch, picture after picture."""
    queries = [queries for queries, _ in matches]
    return torch.cat([torch.full_like(own, picture) for picture, own in enumerate(queries)]), torch.cat(queries)


def people_of(truths: Sequence[object], matches: Matches, *names: str) -> tuple[Tensor, ...]:
    """Attributes of the matched people, each (M, ...), by name and in the order of `places`, from what is true of each
    picture's people."""
    pairs = list(zip(truths, matches, strict=True))
    return tuple(torch.cat([getattr(truth, name)[people] for truth, (_, people) in pairs]) for name in names)


def keypoint_similarity(keypoints: Tensor, truth: Tensor, labelled: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """OKS of keypoints (..., M, K, 2) with people (M, K, 2), over the labelled keypoints; (..., M), at least 1e-6.

    Areas and keypoints have to be in the same units: pixels and square pixels, or shares of the picture.
    """
    squared = (keypoints - truth).square().sum(-1)
    similarity = torch.exp(-squared / (2 * areas[:, None] * (2 * sigmas) ** 2 + 1e-12)) * labelled
    return (similarity.sum(-1) / (labelled.sum(-1) + 1e-6)).clamp(min=1e-6)


def union(matches: Sequence[Matches]) -> Matches:
    """The assignments of several predictions in one (D-FINE's global optimal matching).

    Every query that is assigned in any of them keeps the person that it is assigned to most often.
    """
    merged = []
    for picture in zip(*matches, strict=True):
        pairs = torch.cat([torch.stack(pair, 1) for pair in picture])
        unique, counts = torch.unique(pairs, return_counts=True, dim=0)
        chosen: dict[int, int] = {}
        for index in counts.argsort(descending=True, stable=True).tolist():
            query, person = unique[index].tolist()
            chosen.setdefault(query, person)
        device = pairs.device
        queries = torch.tensor(list(chosen), dtype=torch.long, device=device)
        people = torch.tensor(list(chosen.values()), dtype=torch.long, device=device)
        merged.append((queries, people))
    return merged
