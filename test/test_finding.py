"""Whom top-down models look at: people of the frame before, closer looks, whoever fills the picture, a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from brightness import Brightness, estimate, frame, scene

from pave_ros.engines.base import Outputs
from pave_ros.frames import Frame, Image
from pave_ros.models.info import ModelInfo
from pave_ros.persons import Boxes, Floats
from pave_ros.topdown import stages
from pave_ros.topdown.finder import NOBODY, Finder, Found, as_sure, joined, worth_a_look
from pave_ros.topdown.likeness import Followed
from pave_ros.topdown.options import TopDownOptions, least_box
from pave_ros.topdown.stages import TopDown, around_keypoints
from pave_ros.topdown.styles import STYLES


def test_boxes_of_people_a_frame_before_fill_in_for_those_that_were_not_found() -> None:
    found = Boxes.of([[0, 0, 50, 100], [200, 0, 50, 100]], [0.3, 0.9])
    people = Boxes.of([[4, 2, 50, 100], [400, 0, 60, 90]], [0.8, 0.5])
    both = joined(found, people, 0.8)
    np.testing.assert_allclose(both.boxes, [[200, 0, 50, 100], [0, 0, 50, 100], [400, 0, 60, 90]])
    np.testing.assert_allclose(both.scores, [0.9, 0.64, 0.4])
    nobody = Boxes.of(np.zeros((0, 4)))
    assert len(joined(nobody, nobody, 0.8)) == 0
    assert len(joined(found, nobody, 0.8)) == 2 and len(joined(nobody, people, 0.8)) == 2


def test_a_box_holds_the_keypoints_that_are_there_seen_or_hidden() -> None:
    keypoints, present = np.zeros((2, 17, 3), np.float32), np.zeros((2, 17), np.float32)
    keypoints[0, :6] = [[100, 50, 0.9], [120, 50, 0.9], [100, 90, 0.5], [120, 90, 0.1], [110, 60, 0.4], [105, 70, 0.4]]
    present[0, :6] = 0.9  # the fourth, too, of which it is not sure where it lies
    keypoints[1, :, :2] = np.linspace(0, 80, 34).reshape(17, 2)  # of nobody
    around = around_keypoints(keypoints, present)
    np.testing.assert_allclose(around, [[98, 46, 24, 48], [-7.76, -5.33, 93.1, 93.1]], atol=0.01)


class Spread(Brightness):
    """Its joints lie around the spot, not all in one place."""

    def decode(self, window: Sequence[Any]) -> Outputs:
        heatmaps = super().decode(window)["heatmaps"]
        around = [np.roll(heatmaps[:, i], (i % 5 - 2, i % 3 - 1), (1, 2)) for i in range(17)]
        return {"heatmaps": np.stack(around, 1)}


class Blinking:
    """A detector that sees the person in every second frame, the first among them."""

    name = "blinking"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        self.calls += 1
        return Boxes.of([[220, 120, 150, 180]] if self.calls % 2 else np.zeros((0, 4)))


@pytest.mark.parametrize(("follow", "seen"), [(0.0, [1, 0]), (0.8, [1, 1])])
def test_a_person_whom_the_detector_misses_is_followed(
    follow: float, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    style = replace(STYLES["vitpose"], follow=follow)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    top_down = TopDown(Spread(info), Blinking())
    assert top_down.follows == (follow > 0)
    frames = [Frame(stamp=i, image=scene(295.0 + 2 * i, 210.0)) for i in range(2)]
    found = [top_down.estimate([frames[i]], 20, frames[i - 1] if i else None) for i in range(2)]
    assert [len(people) for people in found] == seen
    if follow:
        x, y, width, height = found[1].boxes[0]
        assert (x + width / 2, y + height / 2) == pytest.approx((295, 210), abs=12) and width < 100 > height
        other = Frame(stamp=9, image=np.zeros((100, 100, 3), np.uint8))
        found_there = top_down.estimate([other], 20, frames[1])
        assert len(found_there) == 1, "pictures of another size have nothing in common: just who is detected"


class Present:
    """A detector that sees somebody in every frame of these numbers, and counts how often it is asked."""

    name = "present"

    def __init__(self, frames: range) -> None:
        self.frames = frames
        self.asked: list[int] = []

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        number = int(image[0, 0, 0])
        self.asked.append(number)
        return Boxes.of([[220 + 2 * number, 120, 150, 180]] if number in self.frames else np.zeros((0, 4)))


def as_large_as_found(keypoints: Floats, present: Floats) -> Floats:
    """Boxes around keypoints (N, K, 3), as the stand-in's people have the size of its spots whatever the box."""
    middles = keypoints[..., :2].mean(1)
    return np.concatenate((middles - (75, 90), np.full_like(middles, (150, 180))), 1)


def numbered(number: int, level: int) -> Frame:
    image = scene(295.0 + 2 * number, 210.0, level)
    image[0, 0] = number
    return Frame(stamp=number, image=image)


@pytest.mark.parametrize(
    ("chosen", "asked"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 1, 2, 4, 6]), (3, [0, 1, 2, 5]), (0, [0, 1, 2, 4, 6])]
)
def test_while_somebody_is_followed_others_are_looked_for_in_some_frames_only(
    chosen: int, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    style = replace(STYLES["vitpose"], follow=0.8, same=0.5, detect_every=2)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    monkeypatch.setattr(stages, "around_keypoints", as_large_as_found)
    detector = Present(range(2, 9))
    top_down = TopDown(Spread(info), detector, TopDownOptions(detect_every=chosen))
    before = None
    for number in range(7):
        now = numbered(number, 255 if number >= 2 else 0)
        people = top_down.estimate([now], 20, before)
        assert len(people) == (number >= 2)
        assert not len(people) or now.features.people.boxes.scores == pytest.approx([1.0]), "nobody fades meanwhile"
        before = now
    assert detector.asked == asked, "nobody is there in the first two: each is looked at"


def test_average_precision_looks_at_boxes_that_nobody_else_does() -> None:
    assert least_box("embedded") < TopDownOptions.box_threshold == least_box("tarvitpose_s") == least_box("detrpose_n")


def test_boxes_that_are_given_are_never_left_out() -> None:
    with pytest.raises(ValueError, match="detect_every has to be 0 or more, not -1"):
        TopDownOptions(detect_every=-1)
    estimator = TopDown(Brightness(), None, TopDownOptions(detect_every=5))
    frames = [frame(295.0, 210.0, [[220, 120, 150, 180]], stamp=i) for i in range(3)]
    assert [len(estimate(estimator, frames, i)) for i in range(3)] == [1, 1, 1]


class Always(Present):
    """A detector that always gives these boxes."""

    def __init__(self, boxes: Sequence[Sequence[float]]) -> None:
        super().__init__(range(0))
        self.boxes = boxes

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        super().__call__(image, bgr)
        return Boxes.of(self.boxes, [0.9] * len(self.boxes))


def test_a_closer_look_finds_small_people_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    style = replace(STYLES["vitpose"], follow=0.8, same=0.5)
    monkeypatch.setitem(STYLES, "vitpose", style)
    monkeypatch.setattr(stages, "around_keypoints", as_large_as_found)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    # One person is known already; of the two others one is too large for it.
    plain, closer = Always([[220, 120, 150, 180]]), Always([[225, 120, 150, 180], [20, 20, 50, 90], [0, 0, 500, 400]])
    top_down = TopDown(Spread(info), plain, TopDownOptions(box_threshold=0.1), closer)
    before, found = None, []
    for number in range(5):
        now = numbered(number, 255)
        top_down.estimate([now], 20, before)
        found.append(sorted(now.features.found.boxes.boxes[:, 0].round()))
        before = now
    assert plain.asked == [0, 2, 4] and closer.asked == [0, 1, 3], "both in the first frame, then by turns"
    assert found[0] == [20, 220] and 20 not in found[2]
    assert len(found[1]) == 1, "nobody was in the small box, which rests for a frame"
    other, followed = found[3]
    assert other == 20 and followed not in (220, 225), "who is followed keeps the box around their keypoints"


class Blind:
    """A detector that is sure of nobody."""

    name = "blind"

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        return Boxes.of([[10, 10, 60, 60]], [0.25])


def test_where_nobody_is_found_whoever_fills_the_picture_is(monkeypatch: pytest.MonkeyPatch) -> None:
    style = replace(STYLES["vitpose"], follow=0.8, whole=0.7, same=0.5)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    engine = Spread(info)
    top_down = TopDown(engine, Blind())
    person = scene(295.0, 210.0, size=80)
    found = top_down.estimate([Frame(stamp=0, image=person)], 20)
    assert engine.encoded == [1, 2], "the whole picture, then the weak box and that of whom it shows"
    x, y, width, height = found.boxes[0]
    assert (x + width / 2, y + height / 2) == pytest.approx((295, 210), abs=60) and width < 400 > height
    assert found.scores[0] > 0.3 and found.scores[1:].max(initial=0) < 0.3

    engine.encoded.clear()
    assert top_down.estimate([Frame(stamp=0, image=person * 0)], 20).scores.max() < 0.1
    assert engine.encoded == [1, 1], "nobody is seen in the whole picture, and only the weak box is left"

    engine.encoded.clear()
    given = Frame(stamp=0, image=person, boxes=Boxes.of(np.zeros((0, 4))))
    assert len(top_down.estimate([given], 20)) == 0 and not engine.encoded, "boxes that are given are all there is"


def test_a_frame_that_brings_no_boxes_is_refused_where_nothing_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where people are followed from a frame that brought some."""
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], follow=0.8, detect_every=2))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    person = scene(295.0, 210.0, size=80)
    frames = [Frame(0, image=person, boxes=Boxes.of([[180, 100, 230, 220]])), Frame(1, image=person)]
    top_down = TopDown(Spread(info), None)
    top_down.estimate(frames[:1], 20)
    assert len(frames[0].features.people.boxes)
    with pytest.raises(ValueError, match="brings no boxes"):
        top_down.estimate(frames[1:], 20, frames[0])


class Slight:
    """A detector that is not certain of the person whom it finds."""

    name = "slight"

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        return Boxes.of([[180, 100, 230, 220]], [0.45])


def test_whom_a_found_box_shows_is_not_supposed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    style = replace(STYLES["vitpose"], whole=0.7, same=0.5)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = TopDown(Spread(info), Slight()).estimate([Frame(stamp=0, image=scene(295.0, 210.0, size=80))], 20)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], [180, 100, 230, 220])


def test_a_box_around_who_fills_the_picture_is_as_sure_as_that_they_do() -> None:
    """Of somebody near, detectors are not; what lies beside them, or within, is left as it is."""
    supposed = Boxes.of([[100, 100, 200, 200]], [0.7])
    found = Boxes.of(
        [[80, 60, 300, 400], [90, 90, 200, 200], [150, 150, 50, 50], [400, 0, 50, 90]], [0.25, 0.9, 0.3, 0.2]
    )
    sure = as_sure(found, supposed)
    order = [found.boxes.tolist().index(box) for box in sure.boxes.tolist()]
    assert order == [0, 2, 1, 3] and sure.scores.tolist() == pytest.approx([0.9, 0.7, 0.3, 0.2])
    assert as_sure(found, found[np.zeros(0, int)]).scores.tolist() == found.scores.tolist()
    assert len(as_sure(found[np.zeros(0, int)], supposed)) == 0


def test_whom_the_detector_shows_again_needs_no_look_at_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    style = replace(STYLES["vitpose"], follow=0.8, whole=0.7, same=0.5)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    frames = [Frame(stamp=i, image=scene(295.0, 210.0, size=80)) for i in range(2)]
    engine = Spread(info)
    detector = Slight()
    top_down = TopDown(engine, detector)
    top_down.estimate(frames[:1], 20)
    assert engine.encoded[0] == 1 and len(engine.encoded) == 2, "the whole picture first"
    people = frames[0].features.people.boxes
    assert len(people) == 1
    monkeypatch.setattr(Slight, "__call__", lambda *_: Boxes.of(people.boxes, [0.45]))
    top_down.estimate(frames[1:], 20, frames[0])
    assert len(engine.encoded) == 3, "not again"


class Loose(Slight):
    """A detector whose box is twice as large as the person."""

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        return Boxes.of([[40, 0, 460, 440]], [0.9])


def test_who_fills_another_box_than_the_one_looked_at_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    frame = Frame(stamp=0, image=scene(295.0, 210.0, size=80))
    looks = []
    for again in (0.0, 0.8):
        monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], again=again))
        engine = Spread(info)
        persons = TopDown(engine, Loose()).estimate([replace(frame)], 20)
        looks.append((len(engine.encoded), len(persons)))
    assert looks == [(1, 1), (3, 1)], "in the large box, in a mirror in the box that they fill, and there once more"


class Column(Brightness):
    """Its joints lie above each other, left ones beside right ones, as high as the crop allows for, and all of them
    `lean` cells too far to the right."""

    def __init__(self, info: ModelInfo, lean: int) -> None:
        super().__init__(info)
        self.lean = lean

    def decode(self, window: Sequence[Any]) -> Outputs:
        heatmaps = super().decode(window)["heatmaps"]
        sides = [0] + 8 * [8, -8]
        moved = [np.roll(heatmaps[:, i], (5 * ((i + 1) // 2 - 4), sides[i] + self.lean), (1, 2)) for i in range(17)]
        return {"heatmaps": np.stack(moved, 1)}


def test_a_look_in_the_mirror_errs_to_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    middles = []
    for again, lean in ((0.0, 0), (0.0, 1), (1e-9, 1)):
        monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], again=again))
        engine = Column(info, lean)
        frame = Frame(stamp=0, image=scene(295.0, 210.0), boxes=Boxes.of([[245, 110, 100, 200]]))
        persons = TopDown(engine, None).estimate([frame], 20)
        middles.append(float(persons.keypoints[0, :, 0].mean()))
        assert len(engine.encoded) == 1 + (again > 0)
    straight, leaning, both = middles
    assert leaning - straight > 3 and abs(both - straight) < 0.1


def test_whom_the_frame_before_showed_needs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    style = replace(STYLES["vitpose"], follow=0.8, again=0.8, same=0.6)
    monkeypatch.setitem(STYLES, "vitpose", style)
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    engine, boxes = Column(info, 0), Boxes.of([[245, 110, 100, 200], [240, 105, 100, 200]], [0.9, 0.8])
    frames = [Frame(stamp=i, image=scene(295.0, 210.0), boxes=boxes) for i in range(2)]
    top_down = TopDown(engine, None)
    top_down.estimate(frames[:1], 20)
    assert engine.encoded == [2, 1], "both boxes, and once more the one person whom they show"
    top_down.estimate(frames[1:], 20, frames[0])
    assert engine.encoded == [2, 1, 2]
    top_down.estimate([replace(frames[1], features=None)], 20)
    assert engine.encoded == [2, 1, 2, 2, 1], "somebody new, where no frame is known before"


def test_the_people_who_are_followed_keep_their_own_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], follow=0.8))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    picture = np.maximum(scene(150.0, 210.0, 250), scene(450.0, 210.0, 170))
    boxes = Boxes.of([[400, 160, 100, 100], [100, 160, 100, 100]], [0.9, 0.7])
    frame = Frame(stamp=0, image=picture, boxes=boxes)
    persons = TopDown(Spread(info), None).estimate([frame], 20)
    assert persons.keypoints[0, :, 0].mean() < persons.keypoints[1, :, 0].mean(), "the surer person has the lesser box"
    people = frame.features.people
    np.testing.assert_array_equal(people.boxes.boxes, around_keypoints(people.keypoints, np.ones((2, 17))))


class Cluttered:
    """A detector that takes something for a person, beside the one who is there."""

    name = "cluttered"

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        return Boxes.of([[245, 110, 100, 200], [500, 300, 100, 100]], [0.9, 0.8])


def test_a_box_in_which_nobody_was_rests_for_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], follow=0.8, same=0.6))
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    frames = [Frame(stamp=i, image=scene(295.0, 210.0)) for i in range(3)]
    engine = Column(info, 0)
    top_down = TopDown(engine, Cluttered())
    for i in range(3):
        persons = top_down.estimate([frames[i]], 20, frames[i - 1] if i else None)
        assert (persons.scores >= 0.3).sum() == 1
    assert engine.encoded == [2, 1, 2]


def test_boxes_of_a_smaller_picture_are_enlarged() -> None:
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    image = scene(295.0, 210.0)
    found = [
        TopDown(Column(info, 0), None).estimate([Frame(0, image=image, boxes=Boxes.of(boxes), boxes_size=size)], 20)
        for boxes, size in (([[245, 110, 100, 200]], None), ([[122.5, 27.5, 50, 50]], (120, 320)))
    ]
    assert image.shape == (480, 640, 3) and len(found[0]) == 1
    np.testing.assert_array_equal(found[1].keypoints, found[0].keypoints)
    np.testing.assert_array_equal(found[1].boxes, [[245, 110, 100, 200]])


def test_where_a_box_is_certain_nobody_is_looked_for_in_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], whole=0.7, same=0.5))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    engine = Spread(info)
    seen = Frame(stamp=0, image=scene(295.0, 210.0, size=80))
    TopDown(engine, Always([[180, 100, 230, 220]])).estimate([seen], 20)
    assert engine.encoded == [1]


def test_what_is_small_for_the_closer_look_goes_by_both_sides_of_the_picture() -> None:
    closer = Always([[0, 0, 300, 200], [0, 0, 200, 300]])
    finder = Finder(None, closer, STYLES["vitpose"], 0.1, 1, lambda _: NOBODY)
    found = finder.boxes(Frame(0, image=np.zeros((480, 640, 3), np.uint8)), 9)
    assert found.boxes.tolist() == [[0, 0, 300, 200]]


def test_a_box_that_shows_somebody_who_is_followed_does_not_rest() -> None:
    found = Boxes.of([[0, 0, 50, 100], [200, 0, 50, 100]], [0.9, 0.8])
    before = Followed(found[:1], np.zeros((1, 17, 3), np.float32), np.zeros(1, np.float32), vain=found.boxes)
    assert worth_a_look(found, before).boxes.tolist() == [[0, 0, 50, 100]]


def test_a_weak_box_around_who_fills_the_picture_becomes_as_sure() -> None:
    style = replace(STYLES["vitpose"], whole=0.7)
    weak, supposed = Boxes.of([[80, 60, 300, 400]], [0.25]), Boxes.of([[100, 100, 200, 200]], [0.7])
    finder = Finder(lambda image, bgr=False: weak, None, style, 0.1, 1, lambda _: supposed)  # type: ignore[arg-type]
    nobody = Followed(NOBODY, np.zeros((0, 17, 3), np.float32), np.zeros(0, np.float32))
    found = finder(Frame(0, image=np.zeros((480, 640, 3), np.uint8)), 9, Found(NOBODY), nobody)
    assert found.boxes.scores.tolist() == pytest.approx([0.7, 0.7])


def test_a_box_of_somebody_doubtful_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], follow=0.8, same=0.6))
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    seen = Frame(stamp=0, image=scene(295.0, 210.0, 60))
    TopDown(Column(info, 0), Cluttered()).estimate([seen], 20)
    people = seen.features.people
    assert len(people.boxes) == 0 and people.vain.tolist() == [[500, 300, 100, 100]]


def test_every_look_says_what_is_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], again=1e-9))
    info = ModelInfo("vitpose", "s", "coco17", (256, 192), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    shares = iter((1.0, 0.5))
    monkeypatch.setattr(stages, "presence", lambda maps, _: np.full(maps.shape[:2], next(shares), np.float32))
    seen = Frame(stamp=0, image=scene(295.0, 210.0, 150), boxes=Boxes.of([[245, 110, 100, 200]]))
    persons = TopDown(Column(info, 0), None).estimate([seen], 20)
    assert persons.scores[0] == pytest.approx(persons.keypoints[0, :, 2].sum() / (17 * 0.75), rel=1e-4)


def test_of_two_looks_at_one_person_the_one_in_a_box_that_was_found_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], whole=0.7, same=0.5))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    boxes = Boxes.of([[0, 0, 80, 200], [5, 5, 80, 200]], [0.9, 0.7])
    keypoints = np.ones((2, 17, 3), np.float32)
    keypoints[..., :2] = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (80, 200)
    keypoints[..., 2] = [[0.5], [0.8]]
    seen = Frame(0, features=stages._Seen(Found(boxes, supposed=boxes[1:])))
    assert TopDown(Spread(info), None)._kept(keypoints, keypoints[..., 2].mean(1), boxes.boxes, seen).tolist() == [0]


def test_who_is_only_supposed_where_somebody_sure_is_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], whole=0.7, same=0.5))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    boxes = Boxes.of([[0, 0, 80, 200], [20, 0, 200, 200]], [0.9, 0.7])
    keypoints = np.full((2, 17, 3), 0.5, np.float32)
    keypoints[..., :2] = np.random.default_rng(0).uniform(0, 1, (2, 17, 2)) * (80, 200)  # not the same person
    seen = Frame(0, features=stages._Seen(Found(boxes, supposed=boxes[1:])))
    top_down, scores = TopDown(Spread(info), None), np.array([0.5, 0.5], np.float32)
    assert top_down._kept(keypoints, scores, boxes.boxes, seen).tolist() == [0]
    assert top_down._kept(keypoints, scores * (0.1, 1), boxes.boxes, seen).tolist() == [1, 0]


def test_a_box_around_keypoints_in_one_place_is_a_pixel_wide() -> None:
    around = around_keypoints(np.full((1, 17, 3), 5.0, np.float32), np.ones((1, 17), np.float32))
    assert around.tolist() == [[5, 5, 1, 1]]


def test_how_often_people_are_looked_for_says_nothing_where_boxes_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "tarvitpose", replace(STYLES["tarvitpose"], follow=0.8))
    assert "detect_every" in TopDown(Brightness(), None).idle_options
    assert "detect_every" not in TopDown(Brightness(), Blinking()).idle_options


def test_who_cuts_boxes_anew_follows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "tarvitpose", replace(STYLES["tarvitpose"], follow=0.8))
    assert TopDown(Brightness(), None).follows
    assert not TopDown(Brightness(), None, TopDownOptions(reuse_features=False)).follows


def test_after_a_second_look_the_best_is_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "vitpose", replace(STYLES["vitpose"], again=1e-9))
    info = ModelInfo("vitpose", "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    looks = iter(([[1.0], [1.0]], [[1.0], [0.3]]))  # the second person is seen in part, tells the second look
    monkeypatch.setattr(stages, "presence", lambda maps, _: np.broadcast_to(next(looks), maps.shape[:2]).copy())
    picture = np.maximum(scene(150.0, 210.0, 200), scene(450.0, 210.0, 170))
    seen = Frame(stamp=0, image=picture, boxes=Boxes.of([[100, 160, 100, 100], [400, 160, 100, 100]]))
    persons = TopDown(Spread(info), None).estimate([seen], 20)
    assert persons.scores[0] > persons.scores[1] and persons.keypoints[0, :, 0].mean() > 400
