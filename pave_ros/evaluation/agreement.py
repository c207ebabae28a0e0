"""How far two models agree on pictures that nobody has labelled, such as the frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pave_ros.datasets.base import Labels
from pave_ros.evaluation.similarity import ALIKE, SURE, in_skeleton, partners
from pave_ros.persons import Persons

FEWEST = 4  # keypoints that a person must be known by: a lone head says little


@dataclass(frozen=True)
class Agreement:
    """What became of the people that a reference model is sure of.

    Attributes:
        pictures: number of pictures.
        people: that the reference is sure of in all of them.
        matched: of these, who was found by the other model as well, with an OKS above one half.
        found: people that the other model is sure of.
    """

    pictures: int = 0
    people: int = 0
    matched: int = 0
    found: int = 0

    @property
    def share(self) -> float:
        """Of the reference's people who were found, 0..1; NaN where it is sure of nobody."""
        return self.matched / self.people if self.people else float("nan")

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.pictures + other.pictures,
            self.people + other.people,
            self.matched + other.matched,
            self.found + other.found,
        )


def agreement(pairs: Iterable[tuple[Persons, Persons]], sure: float = SURE) -> Agreement:
    """Compare two models' people picture by picture, each person being used once.

    Args:
        pairs: the reference model's people and the other model's, of every picture.
        sure: score from which a person, and a keypoint of the reference, counts.
    """
    total = Agreement()
    for reference, found in pairs:
        labels = _as_labels(reference, sure)
        shown = in_skeleton(found[found.scores >= sure], reference.skeleton)
        _, alike = partners(labels, shown)
        total += Agreement(1, len(labels), int((alike > ALIKE).sum()), len(shown))
    return total


def _as_labels(persons: Persons, sure: float) -> Labels:
    """The people and keypoints that a model is sure of, as if somebody had annotated them."""
    keypoints = persons.keypoints.copy()
    keypoints[..., 2] = np.where(keypoints[..., 2] >= sure, 2, 0)
    certain = (persons.scores >= sure) & ((keypoints[..., 2] > 0).sum(axis=1) >= FEWEST)
    return Labels.from_keypoints(keypoints[certain], persons.skeleton, boxes=persons.boxes[certain])
