"""The synthetic scene: repeatable, with a ground truth that fits its pictures."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from pave_ros import skeletons
from pave_ros.datasets import synthetic
from pave_ros.datasets.synthetic import SyntheticDataset
from pave_ros.synthetic import Scene, SyntheticFrame
from pave_ros.synthetic.activities import STANDING
from pave_ros.synthetic.body import Build, P, keypoint_anchors, kinematics
from pave_ros.synthetic.motion import Station, Visit
from pave_ros.synthetic.place import KINDS
from pave_ros.synthetic.render import Camera, Mesh, _Corners, _visible, render

COCO = skeletons.get("coco17")
SIZE = (320, 240)


@lru_cache(maxsize=8)
def scene(seed: int, persons: int = 4) -> Scene:
    return Scene(seed, *SIZE, persons=persons)


def some_frames() -> list[SyntheticFrame]:
    return [scene(seed).frame(i) for seed in (1, 2, 5) for i in (0, 70, 500)]


def digest(frame: SyntheticFrame) -> str:
    parts = (frame.image, frame.persons.keypoints, frame.persons.boxes, frame.visibility, frame.labels)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def test_any_frame_looks_the_same_in_whatever_order() -> None:
    late = digest(scene(1).frame(500))
    fresh = Scene(1, *SIZE)
    for i in (3, 4, 900):
        fresh.frame(i)
    assert digest(fresh.frame(500)) == late


def test_threads_may_ask_for_frames_at_once() -> None:
    fresh, usual = Scene(1, *SIZE), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = [[a.track_id for a in actors] for actors in threads.map(fresh._actors, [150.0] * 8)]
    finally:
        sys.setswitchinterval(usual)
    expected = [a.track_id for a in Scene(1, *SIZE)._actors(150.0)]
    assert found == [expected] * 8 and [a.track_id for a in fresh._actors(150.0)] == expected


def test_another_process_makes_the_same_frame() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_synthetic as t; print(t.digest(t.Scene(2, *t.SIZE).frame(40)))"
    )
    here = str(Path(__file__).parent)
    out = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True).stdout
    assert out.strip() == digest(scene(2).frame(40))


def test_seeds_differ() -> None:
    pictures = [scene(seed).frame(0).image.astype(int) for seed in (1, 2, 5)]
    for k, a in enumerate(pictures):
        for b in pictures[k + 1 :]:
            assert np.abs(a - b).mean() > 10


def test_shapes_and_types() -> None:
    for frame in some_frames():
        n = len(frame.persons)
        assert frame.image.shape == (240, 320, 3) and frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert frame.labels.shape == (240, 320) and frame.labels.dtype == np.uint8
        assert frame.visibility.shape == (n, 17) and frame.areas.shape == (n,)
        assert frame.persons.keypoints.shape == (n, 17, 3) and frame.persons.keypoints.dtype == np.float32
        assert frame.persons.skeleton == "coco17"
        assert frame.image.std() > 15


def test_labels_boxes_and_areas_agree() -> None:
    for frame in some_frames():
        assert set(np.unique(frame.labels)) - {0} == set(range(1, len(frame.persons) + 1))
        for k, (x, y, w, h) in enumerate(frame.persons.boxes):
            rows, columns = np.nonzero(frame.labels == k + 1)
            assert len(rows) == frame.areas[k]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)


def test_visibility_fits_the_picture() -> None:
    visible = 0
    for frame in some_frames():
        x, y, score = np.moveaxis(frame.persons.keypoints, -1, 0)
        inside = (x > -0.5) & (y > -0.5) & (x < 319.5) & (y < 239.5)
        assert ((frame.visibility > 0) == inside).all()
        assert (score == frame.visibility / 2).all()
        for k, j in np.argwhere(frame.visibility == 2):
            assert frame.labels[round(float(y[k, j])), round(float(x[k, j]))] == k + 1
            visible += 1
    assert visible > 100


def test_somebody_is_hidden() -> None:
    hidden = sum(int((frame.visibility == 1).sum()) for frame in some_frames())
    assert hidden > 20


def share_of_backs(dataset: SyntheticDataset) -> float:
    """Of the people in the pictures, those with their left shoulder clearly on the left."""
    left, right = COCO.index("left_shoulder"), COCO.index("right_shoulder")
    people = np.concatenate([sample.labels.keypoints for sample in dataset])
    return float(np.mean(people[:, right, 0] - people[:, left, 0] > 8))


def test_people_turn_their_backs_where_they_are_asked_to() -> None:
    usual, turned = (SyntheticDataset("train", 12, 2, backs=backs) for backs in (0.0, 1.0))
    assert share_of_backs(usual) < 0.2
    assert share_of_backs(turned) > 0.4, "though some walk by"
    assert not {sample.video for sample in usual} & {sample.video for sample in turned}, "scenes of their own"


def facing_camera(yaw: float) -> np.ndarray:
    build = Build()
    pose = np.zeros(P.SIZE)
    pose[P.ROOT] = (0, 0.95, -4)
    pose[P.YAW] = yaw
    side = 0.1 * np.array([np.cos(yaw), -np.sin(yaw)])
    pose[P.FEET] = [side[0], 0.085, -4 + side[1], yaw, 0, -side[0], 0.085, -4 - side[1], yaw, 0]
    rotations, joints = kinematics(pose[None], build.offsets[None])
    bones, places = keypoint_anchors(build)
    world = joints[0, bones] + np.einsum("kij,kj->ki", rotations[0, bones], places)
    return Camera(640, 480, 600.0, (0.0, 1.4, 0.0), 0.1).project(world)[0]


@pytest.mark.parametrize("part", ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"])
def test_the_left_is_on_the_right_of_the_picture_when_facing_the_camera(part: str) -> None:
    left, right = COCO.index(f"left_{part}"), COCO.index(f"right_{part}")
    assert facing_camera(0.0)[left, 0] > facing_camera(0.0)[right, 0]
    assert facing_camera(np.pi)[left, 0] < facing_camera(np.pi)[right, 0]


def test_a_standing_body_has_human_proportions() -> None:
    y = facing_camera(0.0)[:, 1]
    order = ["left_eye", "nose", "left_shoulder", "left_elbow", "left_hip", "left_knee", "left_ankle"]
    heights = [y[COCO.index(name)] for name in order]
    assert heights == sorted(heights)


def test_track_ids_are_stable_and_never_used_again() -> None:
    world = scene(5)
    seen: dict[int, list[int]] = {}
    ages: dict[int, list[int]] = {}
    steps = list(range(0, 2400, 30))
    for i in steps:
        persons = world.frame(i).persons
        assert len(set(persons.track_ids.tolist())) == len(persons)
        for track_id, age in zip(persons.track_ids.tolist(), persons.ages.tolist(), strict=True):
            assert track_id >= 1 and 0 <= age <= i
            seen.setdefault(track_id, []).append(i)
            ages.setdefault(track_id, []).append(age)
    assert len(seen) > 4
    assert any(first[0] > 0 for first in seen.values()), "nobody entered"
    assert any(last[-1] < steps[-1] - 60 for last in seen.values()), "nobody left"
    for track_id, frames in seen.items():
        assert frames[-1] - frames[0] < 30 * 30, "one visit only"
        assert np.array_equal(np.diff(frames), np.diff(ages[track_id]))


@pytest.mark.parametrize(("seed", "frame"), [(3, 295), (13, 281)])
def test_whoever_needs_longer_than_others_is_not_cut_off(seed: int, frame: int) -> None:
    """Their time is over after these frames, and the next one's turn has come."""
    world = scene(seed)
    before, after = world.frame(frame).persons, world.frame(frame + 1).persons
    assert before.track_ids.tolist() == after.track_ids.tolist()
    at = [world.frame(i).persons.track_ids.tolist() for i in (1500, 800, 1500)]
    assert at[0] == at[2] == scene(seed).frame(1500).persons.track_ids.tolist()


def test_people_move_smoothly() -> None:
    world = scene(1)
    before = world.frame(100).persons
    for i in range(101, 112):
        after = world.frame(i).persons
        for track_id in set(before.track_ids.tolist()) & set(after.track_ids.tolist()):
            a = before.keypoints[before.track_ids == track_id][0]
            b = after.keypoints[after.track_ids == track_id][0]
            size = max(float(np.nanmax(a[:, 1]) - np.nanmin(a[:, 1])), 20.0)
            assert np.nanmax(np.linalg.norm(a[:, :2] - b[:, :2], axis=1)) < 0.25 * size
        before = after


def test_standing_feet_do_not_slide_and_legs_reach_them() -> None:
    build = Build()
    visit = Visit(np.random.default_rng(3), build, (-4.0, -4.0), (4.0, -4.0), [Station(0.0, -4.0)], False, 20.0)
    times = np.arange(0, visit.end, 1 / 60)
    poses = np.stack([visit.pose(float(t)) for t in times])
    _, joints = kinematics(poses, np.repeat(build.offsets[None], len(times), 0))
    for side, foot in ((0, 15), (1, 18)):
        ankle = joints[:, foot]
        wished = poses[:, P.FEET].reshape(-1, 2, 5)[:, side, :3]
        assert np.linalg.norm(ankle - wished, axis=1).max() < 0.06
        flat = np.abs(ankle[:, 1] - build.ankle_height) < 0.003
        both = flat[1:] & flat[:-1]
        assert both.mean() > 0.4
        assert np.linalg.norm(np.diff(ankle[:, [0, 2]], axis=0), axis=1)[both].max() < 0.02


@pytest.mark.parametrize("activity", sorted(STANDING))
def test_activities_are_smooth(activity: str) -> None:
    visit = Visit(np.random.default_rng(0), Build(), (-3.0, -4.0), (3.0, -4.0), [Station(0.0, -4.0)], False, 8.0)
    arms = np.stack([STANDING[activity](t, visit.manner).arms.ravel() for t in np.arange(0, 5, 1 / 60)])
    assert np.isfinite(arms).all()
    assert np.abs(np.diff(arms, axis=0)).max() < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_place(kind: str) -> None:
    frame = Scene(4, 160, 120, persons=2, kind=kind, noise=0, blur=0).frame(0)
    assert frame.image.std() > 10


def test_quality_changes_only_the_edges() -> None:
    coarse, fine = (Scene(1, *SIZE, quality=q, blur=0, noise=0).frame(0) for q in (1, 2))
    assert np.array_equal(coarse.persons.track_ids, fine.persons.track_ids)
    np.testing.assert_allclose(coarse.persons.keypoints[..., :2], fine.persons.keypoints[..., :2], atol=1e-3)
    assert (coarse.labels != fine.labels).mean() < 0.01
    assert np.abs(coarse.image.astype(int) - fine.image).mean() < 2


def test_nobody() -> None:
    frame = Scene(0, 64, 64, persons=0).frame(0)
    assert len(frame.persons) == 0 and not frame.labels.any()
    assert frame.visibility.shape == (0, 17)


def test_a_crowd() -> None:
    frame = Scene(3, 320, 240, persons=12).frame(60)
    assert len(frame.persons) >= 5


@pytest.mark.parametrize(
    "bad",
    [
        {"seed": -1},
        {"width": 10},
        {"height": 100000},
        {"persons": -1},
        {"persons": 101},
        {"rate": 0},
        {"rate": float("nan")},
        {"kind": "moon"},
        {"blur": 2},
        {"noise": -1},
        {"quality": 3},
        {"backs": -0.1},
    ],
)
def test_bad_arguments_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Scene(**bad)  # type: ignore[arg-type]


def test_a_negative_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0"):
        scene(1).frame(-1)


def test_a_floor_of_level_triangles_has_no_holes() -> None:
    x, z = np.meshgrid(np.linspace(-40, 40, 33, dtype=np.float32), -np.linspace(0.5, 40, 33, dtype=np.float32))
    vertices = np.stack([x, np.zeros_like(x), z], -1).reshape(-1, 3)
    i = (np.arange(32)[:, None] * 33 + np.arange(32)).ravel()
    faces = np.concatenate([np.stack([i, i + 33, i + 34], 1), np.stack([i, i + 34, i + 1], 1)]).astype(np.int32)
    uv, light = np.zeros((len(faces), 3, 2), np.float32), np.ones((len(vertices), 3), np.float32)
    floor = Mesh(vertices, faces, uv, light, np.full((1, 1, 3), 90, np.uint8), two_sided=True)
    layer = render([floor], Camera(64, 64, 64.0, (0.0, 1.0, 0.0)))
    seen = np.zeros(64 * 64, bool)
    seen[layer.pixels] = True
    assert seen.reshape(64, 64)[36:].all()


def test_pixels_are_counted_in_the_largest_pictures_too() -> None:
    """Beyond 2^24 pixels, as in 3840x2160 drawn at twice the size."""
    size, side = 4500, 2  # Cells whose numbers are odd, which float32 does not have there.
    x, y = np.float32([[1, 1 + side, 1], [1, 1, 1 + side]]) + np.float32(size - 1 - side - 1)
    corners = _Corners(x[:, None], y[:, None], np.ones((3, 1), np.float32))
    pixels, _, _ = _visible(corners, np.float32([side * side]), size, size, None)
    rows, columns = np.divmod(pixels, size)
    assert rows.min() == columns.min() == size - 1 - side and rows.max() == columns.max() == size - 1
    assert len(pixels) == 6  # 3, 2 and 1 in a row


def test_the_nearer_triangle_hides_the_other() -> None:
    def square(depth: float, half: float, tone: int) -> Mesh:
        corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]], np.float32)
        vertices = np.concatenate([corners, np.full((4, 1), -depth, np.float32)], 1)
        faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
        uv = np.zeros((2, 3, 2), np.float32)
        return Mesh(vertices, faces, uv, np.ones((4, 3), np.float32), np.full((1, 1, 3), tone, np.uint8))

    camera = Camera(64, 64, 64.0, (0.0, 0.0, 0.0))
    layer = render([square(4.0, 1.0, 200), square(2.0, 0.25, 90)], camera)
    picture = np.zeros(64 * 64)
    picture[layer.pixels] = layer.color[:, 0]
    picture = picture.reshape(64, 64)
    assert picture[32, 32] == pytest.approx(90)
    assert picture[32, 20] == pytest.approx(200)
    assert picture[2, 2] == 0
    assert (picture == 200).sum() + (picture == 90).sum() == pytest.approx(32 * 32, abs=70)
    at = np.flatnonzero(layer.pixels == 32 * 64 + 32)[0]
    assert layer.near[at] == pytest.approx(0.5)


def test_depth_is_that_of_what_is_seen() -> None:
    """Of people it is a little before their joints, of the rest behind them all or before their feet; positions are the
    keypoints."""
    frame = Scene(seed=3, width=160, height=120, persons=3).frame(100)
    assert frame.depth.shape == (120, 160) and frame.depth.dtype == np.float32
    centre = np.array([79.5, 59.5])
    pixels = frame.positions[..., :2] / frame.positions[..., 2:] * frame.focal + centre
    assert pixels == pytest.approx(frame.persons.keypoints[..., :2], abs=0.01)
    for k in range(len(frame.persons)):
        own = frame.depth[frame.labels == k + 1]
        deep = frame.positions[k, :, 2]
        assert deep.min() - 0.4 < own.min() and own.max() < deep.max() + 0.4
    assert np.nanmin(frame.depth[frame.labels == 0]) > 0.1 and np.nanmax(frame.depth[frame.labels == 0]) > 3
    sky = Scene(seed=0, width=160, height=120, persons=0, kind="park").frame(0).depth
    assert np.isnan(sky).any() and np.isfinite(sky[-1]).all(), "above the horizon there is nothing"


def test_the_shutter_is_never_open_for_long() -> None:
    """Or people became ghosts where frames are rare."""
    slow, slower = (Scene(seed=3, width=160, height=120, rate=rate, noise=0).frame(0).image for rate in (0.1, 0.05))
    assert np.array_equal(slow, slower)


def test_pictures_of_the_data_set_are_their_own_and_none_is_before_the_beginning() -> None:
    dataset = SyntheticDataset(scenes=1, frames=2, width=96, height=64)
    assert [sample.frame for sample in dataset.clip(1, (-50, -1, 0, 1))] == [0, 44, 45, 46]
    first, again = dataset.clip(0, (-1, 0))
    assert first.frame == again.frame == 0 and first.id == again.id
    image = first.image()
    assert image.any()
    image[:] = 0
    assert again.image().any()


def test_who_shows_fewer_than_three_keypoints_counts_neither_way(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, visibility = scene(1).frame(0), np.ones((2, 17), np.uint8)
    visibility[0, :3] = visibility[1, :2] = 2
    two = replace(frame, persons=frame.persons[:2], areas=frame.areas[:2], visibility=visibility)
    monkeypatch.setattr(synthetic, "_frame", lambda *_: two)
    assert SyntheticDataset()[0].labels.crowd.tolist() == [False, True]
