"""The two stages: people are found as boxes, each box is cut out, and a network looks at one person at a time.

A video model wants the same person in several frames. Boxes are linked from frame to frame by their overlap, every
crop goes through the encoder once, and what it makes of it serves as the future, the present and the past of that
person. Where a person was not found in a frame, the crop of the neighbouring frame is taken there too, as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from pave_ros import skeletons
from pave_ros.detection.base import Detector
from pave_ros.detection.pose import with_margin
from pave_ros.engines.base import TOGETHER, Engine
from pave_ros.frames import Frame, Image, same_size
from pave_ros.persons import Boxes, Floats, Ints, Persons, boxes_of
from pave_ros.topdown.crops import crop_boxes, crop_inputs
from pave_ros.topdown.finder import NOBODY, SAME_BOX, Finder, Found
from pave_ros.topdown.heatmaps import keypoints_in, presence
from pave_ros.topdown.likeness import Followed, both_looks, distinct, steady_sides
from pave_ros.topdown.options import TopDownOptions
from pave_ros.topdown.styles import STYLES, Style
from pave_ros.tracking import overlap

Views = Sequence[Any]  # Features of one crop, plain and, for the flip test, mirrored.
SAME_PERSON = 0.3  # Overlap of two boxes in frames that follow each other.
APART = 0.1  # Overlap of boxes up to which they may be of two people.
SURE, FEWEST = 0.3, 4  # Score from which a person is followed, and keypoints are known; so many have to be.
THERE = 0.5  # Likelihood from which a keypoint is there, in sight or behind something.
HOPELESS = 0.15  # Score of a person below which nobody looks in the next frame.
IN_VIEW = 8  # Keypoints in view that make a person whole, at least.


@dataclass
class _Seen:
    """What is known of a frame, kept with it.

    Attributes:
        found: where people are looked at.
        boxes: (4,) of every crop that was encoded: of the boxes found, then of people followed from other frames.
        features: of every crop.
        people: those who came of it, as far as they are sure.
    """

    found: Found = Found(NOBODY)
    boxes: list[Floats] = field(default_factory=list)
    features: list[Views] = field(default_factory=list)
    people: Followed | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the features take, bytes."""
        return sum(int(part.nbytes) for views in self.features for view in views for part in view)


class TopDown:
    """Both stages.

    Args:
        engine: runs the network.
        detect, closer: find the boxes, see `pave_ros.topdown.finder.Finder`.
        options: see there.

    Attributes:
        detector, closer: as given.
        window: number of frames that the model looks at.
        follows: whether people are also looked for where they were a frame before.
    """

    def __init__(
        self,
        engine: Engine,
        detect: Detector | None,
        options: TopDownOptions | None = None,
        closer: Detector | None = None,
    ) -> None:
        self.options = options or TopDownOptions()
        self.detector, self.closer = detect, closer
        self.window = engine.info.window
        self._engine = engine
        self._style = STYLES[engine.info.system]
        self.follows = self._style.follow > 0 and self.options.reuse_features
        every = self.options.detect_every or self._style.detect_every
        self._finder = Finder(detect, closer, self._style, self.options.box_threshold, every, self._at_large)
        chosen = self.options.decoding
        self._decoding = self._style.decoding if chosen == "auto" else chosen
        self._size = (engine.info.input_size[1], engine.info.input_size[0])
        self._skeleton = skeletons.get(engine.info.skeleton)
        self._mirror = list(self._skeleton.mirror)
        unknown = np.zeros((0, len(self._mirror), 3), np.float32)
        self._nobody = Followed(NOBODY, unknown, np.zeros(0, np.float32))

    def estimate(self, window: Sequence[Frame], max_persons: int, before: Frame | None = None) -> Persons:
        """The people in the middle frame of a window, all of them.

        Args:
            window: as many frames as the model looks at, in order of time; the same one again where there is no other.
                What was found and encoded is kept in them.
            max_persons: at most so many boxes of a frame are looked at, the best.
            before: the frame before the middle one, where people were that may be followed.

        Returns:
            The score of a keypoint is that of the box times the maximum of the heatmap, to the system's power; for that
            of a person see `person_scores`; best first.
        """
        middle = window[len(window) // 2]
        last = self._last(middle, before)
        earlier = last.people or self._nobody
        if self.follows:
            self._seen(middle, max_persons, last)
        found, features = (self._linked if self.options.reuse_features else self._cut_anew)(window, max_persons)
        keypoints, present = self._keypoints(features, found)
        scores = person_scores(keypoints, present, found.scores, self._style)
        kept = self._kept(keypoints, scores, found.boxes, middle)
        if self._style.again and self._look_again(keypoints, present, kept, found, middle, earlier):
            scores = person_scores(keypoints, present, found.scores, self._style)
            kept = kept[self._kept(keypoints[kept], scores[kept], found.boxes[kept], middle)]
        if self.follows:
            sure = kept[scores[kept] >= SURE]
            boxes = Boxes(around_keypoints(keypoints[sure], present[sure]), found.scores[sure])
            areas = boxes.boxes[:, 2:].prod(1)
            keypoints[sure], sides = steady_sides(keypoints[sure], areas, earlier, self._skeleton)
            hopeful = kept[scores[kept] >= HOPELESS]
            vain = found.boxes[np.setdiff1d(np.arange(len(found)), hopeful)]
            middle.features.people = Followed(boxes, keypoints[sure], sides, vain)
        return Persons.from_keypoints(keypoints, scores, self._skeleton.name, found.boxes)[kept]

    @property
    def idle_options(self) -> list[str]:
        """Names of the options that have no effect on this model."""
        idle = {
            "detector_weights": self.detector is None,
            "reuse_features": self.window == 1 and not self._style.follow,
            "detect_every": not self.follows or self.detector is None,
            "closer_look": self.closer is None and (self.options.closer_look or not self._style.closer),
        }
        return [name for name, nothing in idle.items() if nothing]

    def warm_up(self, image: Image) -> None:
        """Let those who find people look at a picture, and the network at each number of crops that it prepares for."""
        for detect in (self.detector, self.closer):
            if detect is not None:
                detect(image)
        self._engine.warm_up(self._engine.batches)

    def _look_again(
        self, keypoints: Floats, present: Floats, who: Ints, found: Boxes, frame: Frame, before: Followed
    ) -> bool:
        """Refine the keypoints (N, K, 3), and how likely they are there (N, K), of those in `who` that were not in the
        frame before. Returns whether there were any: hardly in a stream, which keeps its rate.

        They become the mean of several looks: a second one at the mirrored crop, where the network errs differently, of
        the box that they fill, and a third one where they now fill another box than that. Whoever has few sure
        keypoints is not looked at again, however sure the box is; with many of them the box may have been unsure only
        because it was badly placed.
        """
        sure = keypoints[..., 2] >= SURE * (found.scores**self._style.power)[:, None]
        known = (overlap(around_keypoints(keypoints, present), before.boxes.boxes) >= SAME_BOX).any(1)
        new = who[((sure.sum(1) >= FEWEST) & ~known)[who]]
        looked = found.boxes[new]
        for mirrored in (True, False):
            boxes = around_keypoints(keypoints[new], present[new])
            moved = np.diag(overlap(boxes, looked)) < self._style.again
            closer, some = boxes[moved | mirrored], new[moved | mirrored]
            once_more, there = self._look(frame, Boxes(closer, found.scores[some]), mirrored)
            keypoints[some] = both_looks(keypoints[some], once_more, closer[:, 2:].prod(1), self._skeleton)
            present[some] = (present[some] + there) / 2
            looked = boxes
        return len(new) > 0

    def _kept(self, keypoints: Floats, scores: Floats, boxes: Floats, frame: Frame) -> Ints:
        """Which of the people are left, best first: everybody once, and who is only supposed where nobody else is."""
        guess = np.zeros(len(boxes), bool)
        if isinstance(frame.features, _Seen):
            guess = (boxes[:, None] == frame.features.found.supposed.boxes).all(-1).any(1)
        # The look stays whose keypoints are surer, and rather one in a box that was found, which fits better.
        kept = distinct(keypoints, keypoints[..., 2].mean(1) - guess, boxes, self._skeleton, self._style.same)
        sure = kept[~guess[kept] & (scores[kept] >= SURE)]
        needless = guess[kept] & (overlap(boxes[kept], boxes[sure]) > APART).any(1)
        kept = kept[~needless]
        return kept[np.argsort(-scores[kept], kind="stable")]

    # --- where people are -----------------------------------------------------------------------------------------

    def _linked(self, window: Sequence[Frame], most: int) -> tuple[Boxes, list[list[Views]]]:
        """The boxes in the middle frame, and for each frame of the window the features of the same people."""
        middle = len(window) // 2
        seen = self._seen(window[middle], most)
        found = seen.found.boxes
        features = [seen.features[: len(found)]] * len(window)
        for step in (-1, 1):
            boxes = found.boxes
            for place in range(middle + step, middle + step * (middle + 1), step):
                if window[place] is window[place - step]:
                    features[place] = features[place - step]
                    continue
                seen = self._seen(window[place], most)
                chosen = self._follow(seen, window[place], boxes)
                features[place] = [seen.features[i] for i in chosen]
                boxes = np.array([seen.boxes[i] for i in chosen], np.float32).reshape(-1, 4)
        return found, features

    def _cut_anew(self, window: Sequence[Frame], most: int) -> tuple[Boxes, list[list[Views]]]:
        """The boxes in the middle frame, and for each frame of the window what lies there in them."""
        found = self._finder.boxes(window[len(window) // 2], most)
        frames = {id(frame): frame for frame in window}
        features = {number: self._encode(frame, found.boxes) for number, frame in frames.items()}
        return found, [features[id(frame)] for frame in window]

    def _seen(self, frame: Frame, most: int, last: _Seen | None = None) -> _Seen:
        """What is known of a frame, found out now where nothing is."""
        if not isinstance(frame.features, _Seen):
            last = last or _Seen()
            seen = _Seen(self._finder(frame, most, last.found, last.people or self._nobody))
            self._add(seen, frame, seen.found.boxes.boxes)
            frame.features = seen  # Not before: encoding may fail, and the frame be asked for again.
        return frame.features

    def _last(self, frame: Frame, before: Frame | None) -> _Seen:
        """What is known of the frame before, if it is like this one and its people are known, too; else nothing."""
        seen = before.features if before is not None and same_size(before, frame) else None
        return seen if isinstance(seen, _Seen) and seen.people is not None else _Seen()

    def _at_large(self, frame: Frame) -> Boxes:
        """The box around whom the network sees in the whole picture, if it is sure that somebody is there."""
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        whole = Boxes.of([[0, 0, width, height]])
        keypoints, present = self._look(frame, whole)
        if person_scores(keypoints, present, whole.scores, self._style)[0] < SURE:
            return NOBODY
        return Boxes.of(around_keypoints(keypoints, present), [self._style.whole])

    def _follow(self, seen: _Seen, frame: Frame, boxes: Floats) -> list[int]:
        """Which crop of a frame shows whom; people at `boxes` in the next frame who are not among them are added."""
        places = [-1] * len(boxes)
        if len(boxes) and seen.boxes:
            alike = overlap(boxes, np.stack(seen.boxes))
            for row, column in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
                if alike[row, column] >= SAME_PERSON:
                    places[row] = int(column)
        lost = [i for i, place in enumerate(places) if place < 0]
        for i, place in zip(lost, range(len(seen.boxes), len(seen.boxes) + len(lost)), strict=True):
            places[i] = place
        self._add(seen, frame, boxes[lost])
        return places

    def _add(self, seen: _Seen, frame: Frame, boxes: Floats) -> None:
        seen.features += self._encode(frame, boxes)
        seen.boxes += list(boxes)

    # --- the network ----------------------------------------------------------------------------------------------

    def _encode(self, frame: Frame, boxes: Floats, mirrored: bool = False) -> list[Views]:
        """Features of what lies in the boxes, for each plain or `mirrored`, or both for the flip test."""
        if not len(boxes):
            return []
        assert frame.image is not None
        inputs = crop_inputs(frame.image, boxes, self._engine.info, frame.bgr)
        views = (False, True) if self.options.flip_test else (mirrored,)
        encoded = [self._in_parts(self._mirrored(inputs) if view else inputs) for view in views]
        return list(zip(*encoded, strict=True))

    def _mirrored(self, maps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Crops (N, 3, H, W), or heatmaps of such, in a mirror. Without UDP pixel x of the crop is cell x / 4 of the
        heatmaps, so the mirror stands at pixel W / 2, which is a cell too; the first column is lost."""
        turned = maps[..., ::-1]
        if not self._style.udp:
            turned = np.concatenate((turned[..., :1], turned[..., :-1]), -1)
        return np.ascontiguousarray(turned)

    def _in_parts(self, inputs: np.ndarray[Any, np.dtype[np.float32]]) -> list[Any]:
        parts = [inputs[i : i + TOGETHER] for i in range(0, len(inputs), TOGETHER)]
        return [features for part in parts for features in self._engine.split(self._engine.encode(part))]

    def _keypoints(self, window: Sequence[list[Views]], found: Boxes, mirrored: bool = False) -> tuple[Floats, Floats]:
        """(N, K, 3) of x, y, score of the people in N boxes, from their features in each frame of the window, and
        (N, K) how likely each keypoint is in the crop, 1 where the heatmaps do not say."""
        if not len(found):
            nobody = np.zeros((0, len(self._mirror), 3), np.float32)
            return nobody, nobody[..., 2]
        places = crop_boxes(found.boxes, self._size)
        heatmaps = self._heatmaps(window, mirrored)
        keypoints = keypoints_in(heatmaps, places, self._style, self._decoding, self._skeleton.sigmas)
        keypoints[..., 2] = (keypoints[..., 2].clip(0, 1) * found.scores[:, None]) ** self._style.power
        return keypoints, presence(heatmaps, self._style)

    def _look(self, frame: Frame, boxes: Boxes, mirrored: bool = False) -> tuple[Floats, Floats]:
        """The same of what lies in boxes of one frame, as if nothing moved, maybe looked at in a mirror."""
        return self._keypoints([self._encode(frame, boxes.boxes, mirrored)] * self.window, boxes, mirrored)

    def _heatmaps(self, window: Sequence[list[Views]], mirrored: bool) -> np.ndarray[Any, Any]:
        """(N, K, h, w) from the features of N people in each frame of the window."""
        first = self._decode([[views[0] for views in people] for people in window])
        if self.options.flip_test:
            return (first + self._turned(self._decode([[views[1] for views in people] for people in window]))) / 2
        return self._turned(first) if mirrored else first

    def _turned(self, heatmaps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Heatmaps (N, K, h, w) of mirrored crops as those of the crops."""
        return self._mirrored(heatmaps[:, self._mirror])

    def _decode(self, window: Sequence[list[Any]]) -> np.ndarray[Any, Any]:
        engine, count = self._engine, len(window[0])
        parts = [slice(i, i + TOGETHER) for i in range(0, count, TOGETHER)]
        outputs = [engine.decode([engine.stack(people[part]) for people in window])["heatmaps"] for part in parts]
        return np.concatenate(outputs)


def person_scores(keypoints: Floats, present: Floats, boxes: Floats, style: Style) -> Floats:
    """(N,) scores of people: that of their box, to the system's power for it, times the mean height of their spots in
    the heatmaps, over the keypoints in view, as many as `present` (N, K) expects, but at least eight. Who is seen down
    to the chest is no less a person, and a foot alone is hardly one.

    Args:
        keypoints: (N, K, 3), whose score is that of the box times the height, to the system's power.
        present: (N, K) how likely each is in view.
        boxes: (N,) scores of the boxes.
        style: of the system.
    """
    heights = keypoints[..., 2] ** (1 / style.power) / np.maximum(boxes, np.float32(1e-6))[:, None]
    expected = np.maximum(present.sum(1), min(IN_VIEW, keypoints.shape[1]))
    # Heatmaps that are no probabilities may be higher than the keypoint is likely.
    return np.minimum(boxes**style.box_power * heights.sum(1) / expected, np.float32(1))


def around_keypoints(keypoints: Floats, present: Floats) -> Floats:
    """(N, 4) boxes of x, y, width, height around the keypoints (N, K, 3) that are more likely there than not, seen or
    hidden, by `present` (N, K), or all where few are; a pixel wide and high at least."""
    there = present >= THERE
    there |= there.sum(1, keepdims=True) < FEWEST
    boxes = with_margin(boxes_of(np.where(there[..., None], keypoints[..., :2], np.nan).astype(np.float32)))
    return np.concatenate((boxes[:, :2], np.maximum(boxes[:, 2:], np.float32(1))), 1)
