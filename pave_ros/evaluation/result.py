"""What a metric gives: named numbers, which print as the papers' tables do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from pave_ros import skeletons
from pave_ros.persons import Persons


@dataclass(frozen=True)
class Result:
    """The numbers of one metric.

    Attributes:
        metric: its name, e.g. ``COCO keypoints``.
        values: name and value, 0..1 as a share, in the order of the papers' tables; NaN where nothing was annotated
            to measure it by.
        pictures: number of pictures that count.
        persons: number of annotated people that count.
        notes: what a reader of the numbers must know.
    """

    metric: str
    values: dict[str, float]
    pictures: int
    persons: int
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """A table of the values in percent."""
        caption = "\n".join((f"{self.pictures} pictures, {self.persons} people", *self.notes))
        table = Table(title=self.metric, caption=caption, caption_justify="left")
        for name in self.values:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row(*("-" if math.isnan(value) else f"{100 * value:.1f}" for value in self.values.values()))
        return table

    def as_json(self) -> dict[str, Any]:
        """The same as plain data; NaN becomes None."""
        return {
            "metric": self.metric,
            "values": {name: None if math.isnan(value) else value for name, value in self.values.items()},
            "pictures": self.pictures,
            "persons": self.persons,
            "notes": list(self.notes),
        }


def never_predicted(predictions: Sequence[Persons]) -> list[str]:
    """Names of the keypoints that nobody in any picture has, because the model does not know them; none when there is
    nobody at all."""
    people = [persons for persons in predictions if len(persons)]
    if not people:
        return []
    given = np.any([~np.isnan(persons.keypoints[..., 0]).all(axis=0) for persons in people], axis=0)
    return [name for name, there in zip(skeletons.get(people[0].skeleton).keypoints, given, strict=True) if not there]


def note_missing(predictions: Sequence[Persons], effect: str = "which counts as wrong") -> tuple[str, ...]:
    """A note of the keypoints that a model lacks, and what a metric makes of them."""
    missing = never_predicted(predictions)
    return (f"never predicted, {effect}: {', '.join(missing)}",) if missing else ()
