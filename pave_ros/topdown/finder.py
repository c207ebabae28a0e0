"""Where the people of a frame are: boxes that detectors find, and those of people who were there a frame before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pave_ros.detection.base import Detector
from pave_ros.frames import Frame, Image
from pave_ros.persons import Boxes
from pave_ros.topdown.likeness import Followed
from pave_ros.topdown.styles import Style
from pave_ros.tracking import coverage, overlap

SAME_BOX = 0.5  # Overlap from which a box makes another needless.
HOLDS = 0.7  # Share of a person who fills the picture from which a box is around the same one.
CERTAIN = 0.5  # Score of a box from which nobody else is looked for in the whole picture.
SMALL = 0.5  # Share of the picture's sides below which a person is for the closer look.
NOBODY = Boxes.of([])


@dataclass(frozen=True)
class Found:
    """Where people are looked at in a frame.

    Attributes:
        boxes: all of them.
        supposed: those among them around whoever fills the picture, where no box is certain.
        rested: number of frames, up to this one, in which nobody was looked for but those followed.
        looks: number of frames of the stream, with this one, in which people were looked for.
    """

    boxes: Boxes
    supposed: Boxes = NOBODY
    rested: int = 0
    looks: int = 0


class Finder:
    """Finds them.

    Args:
        detect: finds the boxes where a frame brings none (`Frame.boxes`); None where all do.
        closer: finds boxes, too, above all of smaller people: in single pictures after `detect`, in a stream in turns
            with it, for everybody stays for a while.
        style: of the system that looks at them.
        box_threshold: boxes below this confidence are left out.
        detect_every: frames from one in which people are looked for to the next, where people are followed.
        at_large: the box around whoever fills a frame's picture, or none.
    """

    def __init__(
        self,
        detect: Detector | None,
        closer: Detector | None,
        style: Style,
        box_threshold: float,
        detect_every: int,
        at_large: Callable[[Frame], Boxes],
    ) -> None:
        self._detectors = [detector for detector in (detect, closer) if detector is not None]
        self._closer = closer
        self._style = style
        self._box_threshold, self._detect_every = box_threshold, detect_every
        self._at_large = at_large

    def __call__(self, frame: Frame, most: int, last: Found, before: Followed) -> Found:
        """The boxes to look at in a frame: new detections merged with the boxes of people from the frame before, or the
        latter alone while the detectors rest. Boxes that come with the frame replace both.

        Args:
            frame: to look at.
            most: at most so many boxes, the best.
            last, before: what was found in the frame before, and the people in it.
        """
        if frame.boxes is not None or not self._detectors:
            return Found(self.boxes(frame, most))
        people, rested = before.boxes, last.rested + 1
        if len(people) and rested < self._detect_every:
            return Found(people.best(self._box_threshold, most), rested=rested, looks=last.looks)
        # All look at first, then each in its turn.
        turn = [self._detectors[last.looks % len(self._detectors)]] if last.looks else self._detectors
        found, supposed = self.boxes(frame, most, turn), NOBODY
        closer = turn == [self._closer]  # This look is for others than those who are followed.
        shown = len(people) if closer else (overlap(found.boxes, people.boxes) >= SAME_BOX).any()
        if self._style.whole and not shown and not (found.scores >= CERTAIN).any():
            supposed = self._at_large(frame)
            found = as_sure(found, supposed)
        found = worth_a_look(found, before)
        found = joined(people, found, 1.0) if closer else joined(found, people, self._style.follow)
        found = joined(found, supposed, 1.0).best(self._box_threshold, most)
        return Found(found, supposed, looks=last.looks + 1)

    def boxes(self, frame: Frame, most: int, detectors: Sequence[Detector] | None = None) -> Boxes:
        """The boxes of a frame alone, which it brings or which the detectors find, all of them unless some are named;
        ValueError where it brings none and there is no detector."""
        boxes = frame.boxes_in_image()
        if boxes is None:
            if not self._detectors:
                raise ValueError("the frame brings no boxes, and there is no detector to find them")
            assert frame.image is not None
            boxes = NOBODY
            for detect in detectors or self._detectors:
                boxes = joined(boxes, self._detected(frame.image, frame.bgr, detect), 1.0)
        return boxes.best(self._box_threshold, most)

    def _detected(self, image: Image, bgr: bool, detect: Detector) -> Boxes:
        """The boxes that a detector finds; the closer look sees large people badly, so these are left to the other."""
        found = detect(image, bgr)
        if detect is not self._closer:
            return found
        small = found.boxes[:, 2:] < np.array(image.shape[1::-1]) * SMALL
        return found[np.flatnonzero(small.all(1))]


def as_sure(found: Boxes, supposed: Boxes) -> Boxes:
    """The boxes of a frame, those around somebody who is supposed to fill the picture at least as sure as this:
    detectors hardly know people who are so near."""
    holds = coverage(supposed.boxes, found.boxes) >= HOLDS
    sure = np.where(holds, supposed.scores[:, None], 0).max(0, initial=0)
    return Boxes.of(found.boxes, np.maximum(found.scores, sure))


def worth_a_look(found: Boxes, before: Followed) -> Boxes:
    """The boxes of a frame without those in which nobody was in the frame before: these rest for a frame, for in a
    cluttered place most boxes show nobody."""
    rests, shows = ((overlap(found.boxes, boxes) >= SAME_BOX).any(1) for boxes in (before.vain, before.boxes.boxes))
    return found[np.asarray(shows | ~rests)]


def joined(found: Boxes, people: Boxes, share: float) -> Boxes:
    """The boxes that were found in a frame, and those of people a frame before whom none of them shows.

    Args:
        found: in the frame.
        people: in the frame before.
        share: of its score that a box of the frame before has now; where one of the frame shows the same person, that
            one has the higher score of both.
    """
    faded = people.scores * share
    alike = overlap(people.boxes, found.boxes)
    scores = np.maximum(found.scores, np.where(alike >= SAME_BOX, faded[:, None], 0).max(0, initial=0))
    lost = ~(alike >= SAME_BOX).any(1)
    return Boxes.of(np.concatenate((found.boxes, people.boxes[lost])), np.concatenate((scores, faded[lost])))
