"""Top-down models: boxes linked over frames, features that are used again, decoding, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from brightness import INFO, NAMES, Brightness, estimate, frame, scene

from pave_ros.engines.base import Outputs
from pave_ros.frames import Frame, Image
from pave_ros.persons import Boxes, Floats
from pave_ros.topdown.heatmaps import DECODINGS
from pave_ros.topdown.options import TopDownOptions
from pave_ros.topdown.stages import TopDown, person_scores
from pave_ros.topdown.styles import STYLES


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("flip", [False, True])
def test_a_spot_is_found_where_it_is(decoding: str, flip: bool) -> None:
    options = TopDownOptions(decoding=decoding, flip_test=flip)
    for info in (INFO, replace(INFO, system="vitpose", window=1)):
        top_down = TopDown(Brightness(info), None, options)
        persons = estimate(top_down, [frame(300.0, 200.0, [[220, 120, 150, 180]])], 0, 20)
        assert len(persons) == 1 and persons.skeleton == "posetrack17"
        # Half a pixel of the heatmap is 1.6 here.
        np.testing.assert_allclose(persons.keypoints[0, :, :2], np.tile([300.0, 200.0], (17, 1)), atol=1.7)
        np.testing.assert_allclose(persons.boxes[0], [220, 120, 150, 180])


@pytest.mark.parametrize(("system", "pixel", "cell"), [("tarvitpose", 40, 10), ("vitpose", 0, 0)])
def test_mirrored_crops_have_joints_in_the_same_cell(system: str, pixel: int, cell: int) -> None:
    """Pixel x is cell x / 4, or with UDP the ends are each other's."""
    top_down = TopDown(Brightness(replace(INFO, system=system)), None)
    inputs = np.zeros((1, 3, 384, 288), np.float32)
    inputs[..., pixel] = 1
    there = int(top_down._mirrored(inputs)[0, 0, 0].argmax())
    heatmaps = np.zeros((1, 17, 96, 72), np.float32)
    heatmaps[..., round(there * 71 / 287) if system == "vitpose" else there // 4] = 1
    assert int(top_down._turned(heatmaps)[0, 0, 0].argmax()) == cell


def test_the_warm_up_looks_at_every_number_that_the_engine_prepares_for() -> None:
    looked: list[Image] = []

    def detect(image: Image, bgr: bool = False) -> Boxes:
        looked.append(image)
        return Boxes.of([])

    engine, black = Brightness(), scene(0, 0, 0)
    engine.batches = (4, 2, 1)
    TopDown(engine, detect, closer=detect).warm_up(black)  # type: ignore[arg-type]
    assert engine.encoded == [4, 2, 1] and looked == [black] * 2
    TopDown(Brightness(), None).warm_up(black)


class Sides(Brightness):
    """Takes what it sees in the right half of a crop for left joints, of a person who faces the camera."""

    def decode(self, window: Sequence[Any]) -> Outputs:
        heatmaps = super().decode(window)["heatmaps"].copy()
        heatmaps[:, 3::2, :, :36] = 0
        heatmaps[:, 4::2, :, 36:] = 0
        return {"heatmaps": heatmaps}


def test_the_flip_test_swaps_left_and_right() -> None:
    picture = scene(0, 0, 0)
    picture[150:170, 250:270] = picture[150:170, 350:370] = picture[250:270, 300:320] = 255
    seen = Frame(0, image=picture, boxes=Boxes.of([[200, 100, 220, 250]]))
    persons = estimate(TopDown(Sides(), None, TopDownOptions(flip_test=True)), [seen], 0, 20)
    for joint in range(3, 17):
        x = 359.5 if NAMES[joint] == "left" else 259.5
        assert persons.keypoints[0, joint, 0] == pytest.approx(x, abs=11)
        assert persons.keypoints[0, joint, 2] > 0.9, "both views agree, so nothing is halved"


def test_scores_are_those_of_the_box_times_the_heatmaps() -> None:
    seen = Frame(0, image=scene(300, 200), boxes=Boxes.of([[220, 120, 150, 180], [0, 300, 100, 100]], [0.5, 0.9]))
    persons = estimate(TopDown(Brightness(), None), [seen], 0, 20)
    assert persons.scores == pytest.approx([0.5, 0], abs=0.05), "sorted by the person's score, not the box's"
    assert persons.keypoints[0, :, 2] == pytest.approx(0.5, abs=0.05)
    assert len(estimate(TopDown(Brightness(), None, TopDownOptions(box_threshold=0.6)), [_fresh(seen)], 0, 20)) == 1
    assert len(estimate(TopDown(Brightness(), None), [_fresh(seen)], 0, 1)) == 1


def _fresh(seen: Frame) -> Frame:
    return Frame(seen.stamp, image=seen.image, boxes=seen.boxes)


def test_every_crop_is_encoded_once_in_a_video() -> None:
    engine = Brightness()
    top_down = TopDown(engine, None)
    frames = [frame(300 + 5 * t, 200, [[220 + 5 * t, 120, 150, 180], [10, 20, 90, 120]], t, 100 + t) for t in range(9)]
    for t in range(9):
        window = frames[max(t - 2, 0) : t + 3]
        estimate(top_down, window, min(t, 2), 20)
    assert engine.encoded == [2] * 9
    anew = Brightness()
    slow = TopDown(anew, None, TopDownOptions(reuse_features=False))
    estimate(slow, [_fresh(f) for f in frames[2:7]], 2, 20)
    assert anew.encoded == [2] * 5


def test_a_frame_whose_encoding_failed_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Brightness()
    top_down = TopDown(engine, None)
    frames = [frame(300, 200, [[220, 120, 150, 180]], t, 200) for t in range(3)]
    estimate(top_down, frames, 0)

    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    frames.append(frame(300, 200, [[220, 120, 150, 180]], 3, 200))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "encode", full)
        with pytest.raises(RuntimeError, match="out of memory"):
            estimate(top_down, frames, 3)
    assert len(estimate(top_down, frames, 2)) == len(estimate(top_down, frames, 3)) == 1


def test_the_window_lies_around_the_frame_in_question_and_is_clamped() -> None:
    for reuse in (True, False):
        engine = Brightness()
        top_down = TopDown(engine, None, TopDownOptions(reuse_features=reuse))
        frames = [frame(300, 200, [[220, 120, 150, 180]], t, 100 + 20 * t) for t in range(6)]
        for key, brightest in (
            (0, (100, 100, 100, 120, 140)),
            (3, (120, 140, 160, 180, 200)),
            (5, (160, 180, 200, 200, 200)),
        ):
            estimate(top_down, frames, key, 20)
            assert [255 * level for level in engine.windows[-1]] == pytest.approx(brightest, abs=6)


def test_people_are_followed_by_overlap_not_by_order() -> None:
    """Two people change places in the list of boxes; the features of the window stay with the person."""
    bright, dim = [220, 120, 150, 180], [10, 20, 90, 120]
    frames = [frame(300, 200, [bright, dim] if t % 2 else [dim, bright], t) for t in range(5)]
    engine = Brightness()
    estimate(TopDown(engine, None), frames, 2, 20)
    assert engine.encoded == [2] * 5
    # The largest value of a batch would hide a swap, so one person at a time.
    engine.windows.clear()
    window = [f.features for f in frames]
    order = [[int(np.argmin(np.abs(np.stack(s.boxes)[:, 0] - x))) for s in window] for x in (220, 10)]
    assert order == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]]


def test_who_was_not_found_in_a_frame_is_looked_for_where_they_are_in_the_next() -> None:
    frames = [frame(300, 200, [[220, 120, 150, 180]] if t != 1 else [], t, 200) for t in range(3)]
    engine = Brightness()
    top_down = TopDown(engine, None)
    persons = estimate(top_down, frames, 2, 20)
    assert len(persons) == 1 and engine.encoded == [1, 1, 1]
    assert [255 * level for level in engine.windows[-1]] == pytest.approx([200] * 5, abs=6)
    assert len(estimate(top_down, frames, 1, 20)) == 0, "a crop that was only looked at is no person"


def test_nobody() -> None:
    engine = Brightness()
    persons = estimate(TopDown(engine, None), [frame(300, 200, [])], 0, 20)
    assert len(persons) == 0 and persons.keypoints.shape == (0, 17, 3) and not engine.encoded


def test_many_people_go_through_the_network_in_parts() -> None:
    boxes = [[20 * i, 100, 60, 80] for i in range(20)]
    engine = Brightness()
    persons = estimate(TopDown(engine, None), [frame(300, 140, boxes)], 0, 50)
    assert len(persons) == 20 and engine.encoded == [16, 4] and len(engine.windows) == 2
    best: Floats = persons.boxes[0]
    assert best[0] <= 300 <= best[0] + best[2], "the spot is in the best one's box"


def test_colours_are_those_of_the_network() -> None:
    picture = scene(0, 0, 0)
    picture[190:210, 290:310, 0] = 255
    for bgr in (False, True):
        image = np.ascontiguousarray(picture[..., ::-1]) if bgr else picture
        seen = Frame(0, image=image, bgr=bgr, boxes=Boxes.of([[220, 120, 150, 180]]))
        persons = estimate(TopDown(Brightness(), None), [seen], 0, 20)
        assert persons.keypoints[0, NAMES.index("left"), 2] > 0.9 > 0.1 > persons.keypoints[0, 0, 2]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="no detector"):
        estimate(TopDown(Brightness(), None), [Frame(0, image=scene(1, 1))], 0, 20)
    with pytest.raises(ValueError, match=r"decoding 'fancy'.*auto, quarter, dark, oks"):
        TopDownOptions(decoding="fancy")


def test_who_is_seen_in_part_is_scored_by_what_is_in_view() -> None:
    seen = np.full((3, 17, 3), 0.8, np.float32)
    seen[1, 9:, 2] = 0.0  # down to the elbows
    seen[2, 1:, 2] = 0.0  # a nose
    present = (seen[..., 2] > 0).astype(np.float32)
    published, sure = STYLES["vitpose"], np.ones(3, np.float32)
    np.testing.assert_allclose(person_scores(seen, present, sure, published), [0.8, 0.8, 0.1], atol=1e-6)
    whole = person_scores(seen, np.ones_like(present), sure, published)
    np.testing.assert_allclose(whole, seen[..., 2].mean(1), atol=1e-6)
    few = np.full((1, 5, 3), 0.8, np.float32)
    np.testing.assert_allclose(person_scores(few, np.ones((1, 5)), sure[:1], published), 0.8, atol=1e-6)


def test_a_score_takes_as_much_of_the_boxs_as_the_system_says() -> None:
    height, box = 0.5, np.array([0.25, 0.0], np.float32)
    present = np.ones((2, 17), np.float32)
    for system, expected in (("vitpose", box * height), ("simplebaseline", box**0.2 * height)):
        style = STYLES[system]
        seen = np.zeros((2, 17, 3), np.float32)
        seen[..., 2] = (height * box[:, None]) ** style.power
        np.testing.assert_allclose(person_scores(seen, present, box, style), expected, atol=1e-6)
    seen[..., 2] = 1.0
    assert person_scores(seen, 0.1 * present, np.ones(2, np.float32), style).max() <= 1.0


def test_people_are_followed_from_frame_to_frame_however_far_they_go() -> None:
    """From one to the next they overlap, over two no more."""
    frames = [frame(300, 200, [[70 * t, 120, 150, 180]], t) for t in range(5)]
    engine = Brightness()
    estimate(TopDown(engine, None), frames, 2, 20)
    assert engine.encoded == [1] * 5


def test_who_was_not_found_is_not_taken_for_somebody_elsewhere() -> None:
    frames = [frame(300, 200, [[220, 120, 150, 180] if t == 1 else [10, 20, 90, 120]], t) for t in range(3)]
    engine = Brightness()
    estimate(TopDown(engine, None), frames, 1, 20)
    assert engine.encoded == [1] * 5, "of both neighbours, too, what lies where the person is"


class Twice(Brightness):
    """Its heatmaps are no probabilities: as high as two, and below zero elsewhere."""

    def decode(self, window: Sequence[Any]) -> Outputs:
        heatmaps = super().decode(window)["heatmaps"] * 2
        heatmaps[:, 5] = -0.1
        return {"heatmaps": heatmaps}


def test_scores_of_keypoints_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "tarvitpose", replace(STYLES["tarvitpose"], power=0.6))
    persons = estimate(TopDown(Twice(), None), [frame(300, 200, [[220, 120, 150, 180]])], 0, 20)
    assert persons.keypoints[0, 0, 2] == 1 and persons.keypoints[0, 5, 2] == 0


def test_a_crop_that_was_only_looked_at_for_another_frame_is_nobody_beside_who_was_found() -> None:
    first, second = [220, 120, 150, 180], [10, 20, 90, 120]
    frames = [frame(300, 200, [first] if t == 1 else [first, second], t) for t in range(3)]
    top_down = TopDown(Brightness(), None)
    assert len(estimate(top_down, frames, 2, 20)) == 2
    persons = estimate(top_down, frames, 1, 20)
    assert persons.boxes.tolist() == [first]
