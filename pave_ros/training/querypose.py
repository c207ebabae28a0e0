"""The training objective of QueryPose: matching by boxes and losses, as in the published code of its weights' time.

That code lets all queries pass the stages of the pose, as they do at run time; what is supervised are the matched ones.
(The newest published code drops the others on the way, and with that what a stage hands on to the next one belongs to
somebody else whenever the matching changes.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss

from pave_ros.models.flow import RealNVP
from pave_ros.models.querypose import Prediction, QueryPose
from pave_ros.training.focal import focal_cost, focal_loss
from pave_ros.training.matching import Matches, cheapest, people_of, places
from pave_ros.training.rle import residual_log_likelihood
from pave_ros.training.settings import filled
from pave_ros.training.target import Target, mean_over_processes

Losses = dict[str, Tensor]
KEYPOINT_OFFSET = 0.5  # Keypoints of data sets are indices of pixels (detectron2), whose centres are wanted.


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses (published); the matching uses the first three for its costs as well."""

    classes: float = 2.0
    boxes: float = 5.0
    overlap: float = 2.0
    keypoints: float = 1.0


PUBLISHED = LossWeights()


@dataclass(frozen=True)
class Truth:
    """The people of one picture, in pixels of the network's input.

    Attributes:
        boxes: (M, 4) x1, y1, x2, y2.
        keypoints: (M, K, 2), the centre of the first pixel at 0.5.
        labelled: (M, K) bool; of some people no keypoint is.
    """

    boxes: Tensor
    keypoints: Tensor
    labelled: Tensor

    @classmethod
    def of(cls, target: Target, size: Tensor) -> Truth:
        """From a training target, and the picture's width and height (2,)."""
        low, extent = torch.cat((target.boxes, target.bare)).chunk(2, -1)
        unlabelled = len(target.bare)
        keypoints = F.pad(target.keypoints * size, (0, 0, 0, 0, 0, unlabelled))
        labelled = F.pad(target.labelled, (0, 0, 0, unlabelled))
        return cls(torch.cat((low, low + extent), -1) * size.repeat(2), keypoints, labelled)

    def __len__(self) -> int:
        return len(self.boxes)


def criterion(skeleton: str, **weights: Any) -> QueryPoseCriterion:
    """The objective, which is the same for every keypoint layout; `weights` are those of `LossWeights` that take the
    place of the published ones. ConfigError names what is unknown or of the wrong kind."""
    return QueryPoseCriterion(filled(LossWeights, weights, "objective_options"))


class QueryPoseCriterion:
    """Losses of a batch, with these weights."""

    def __init__(self, weights: LossWeights = PUBLISHED) -> None:
        self.weights = weights

    def __call__(self, model: nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]) -> Losses:
        """The weighted losses by name, whose sum is to be minimised; every stage has its own matching.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W), normalised.
            targets: one for each picture.
            seeds: one for each picture; nothing here is random.
        """

        def objective(predictions: Sequence[Prediction], size: Tensor, flow: RealNVP) -> Losses:
            truths = [Truth.of(target, one) for target, one in zip(targets, size, strict=True)]
            people = mean_over_processes(sum(map(len, truths)), images.device)
            losses = {}
            for index, prediction in enumerate(predictions):
                prediction = Prediction(**{name: value.float() for name, value in vars(prediction).items()})
                matches = self.match(prediction, truths, size)
                for name, loss in self.losses(prediction, truths, matches, size, flow).items():
                    losses[f"{name}_{index}"] = loss / people
            return losses

        losses: Losses = model(images, objective)
        return losses

    @torch.no_grad()
    def match(self, prediction: Prediction, truths: Sequence[Truth], size: Tensor) -> Matches:
        """The cheapest assignment of queries to people for each picture of a batch."""
        return cheapest(map(self.cost, prediction.logits, prediction.boxes, truths, size))

    def cost(self, logits: Tensor, boxes: Tensor, truth: Truth, size: Tensor) -> Tensor:
        """(Q, M) costs of one picture of width and height `size` (2,), from its logits (Q, 1) and boxes (Q, 4)."""
        whole = size.repeat(2)
        return (
            self.weights.classes * focal_cost(logits)
            + self.weights.boxes * torch.cdist(boxes / whole, truth.boxes / whole, p=1)
            - self.weights.overlap * generalized_box_iou(boxes, truth.boxes)
        )

    def losses(
        self, prediction: Prediction, truths: Sequence[Truth], matches: Matches, size: Tensor, flow: RealNVP
    ) -> Losses:
        """The weighted losses of one stage, summed; a keypoint counts 1 / K."""
        weights = self.weights
        at = places(matches)
        positive = torch.zeros_like(prediction.logits, dtype=torch.bool)
        positive[at] = True
        boxes, keypoints, sigmas = prediction.boxes[at], prediction.keypoints[at], prediction.sigmas[at]
        truth = Truth(*people_of(truths, matches, "boxes", "keypoints", "labelled"))
        whole = size.repeat(1, 2)[at[0]]
        inside, labelled = within(boxes.detach(), truth.keypoints, truth.labelled)
        rle = residual_log_likelihood(keypoints, sigmas, inside, labelled, flow)
        return {
            "classes": weights.classes * focal_loss(prediction.logits, positive),
            "boxes": weights.boxes * ((boxes - truth.boxes) / whole).abs().sum(),
            "overlap": weights.overlap * generalized_box_iou_loss(boxes, truth.boxes, reduction="sum"),
            "keypoints": weights.keypoints * rle.sum() / labelled.shape[-1],
        }


def within(boxes: Tensor, keypoints: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """Where keypoints (M, K, 2) lie in boxes (M, 4) x1, y1, x2, y2: -0.5 and 0.5 are the sides. Those outside, whom
    their person's box does not show, do not count as labelled (M, K)."""
    low, extent = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    places = (keypoints - low) / extent - 0.5
    return places, labelled & ((keypoints >= low) & (keypoints - low <= extent)).all(-1)


class TrainingForward(nn.Module):
    """The network and its losses in one, since the flow, which learns too, is a part of them."""

    def __init__(self, model: QueryPose) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, objective: Callable[[Sequence[Prediction], Tensor, RealNVP], Losses]) -> Losses:
        """What `objective` makes of the predictions, the pictures' width and height (B, 2), and the flow."""
        *maps, size = self.model.encode(images)
        return objective(self.model.predict(maps, size), size, self.model.flow)
