"""Augmentation: the mark under a keypoint stays under it, labels follow hand-computed cases, all frames alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pave_ros import skeletons
from pave_ros.datasets.base import Labels
from pave_ros.frames import Image
from pave_ros.training import augmentation as augment

SKELETON = skeletons.get("coco17")
LEFT_WRIST, RIGHT_WRIST, NOSE = (SKELETON.index(name) for name in ("left_wrist", "right_wrist", "nose"))


def labels_of(*people: dict[int, tuple[float, float]], **options: object) -> Labels:
    """People from a dictionary of keypoint index to x, y, all visible."""
    keypoints = np.zeros((len(people), 17, 3), np.float32)
    for person, points in zip(keypoints, people, strict=True):
        for k, (x, y) in points.items():
            person[k] = x, y, 2
    return Labels.from_keypoints(keypoints, "coco17", **options)  # type: ignore[arg-type]


def dotted(labels: Labels, size: tuple[int, int] = (120, 90), radius: int = 2) -> Image:
    """A black picture with a white square around each labelled keypoint."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y, _ in labels.keypoints[labels.keypoints[..., 2] > 0]:
        image[int(y) - radius : int(y) + radius + 1, int(x) - radius : int(x) + radius + 1] = 255
    return image


def centre_of_light(image: Image) -> tuple[float, float]:
    """x, y of the centre of mass, the first pixel's centre being at 0.5."""
    light = image.sum(axis=2).astype(float)
    y, x = np.indices(light.shape) + 0.5
    return float((x * light).sum() / light.sum()), float((y * light).sum() / light.sum())


MAPS: list[tuple[str, augment.Matrix]] = [
    ("shift", augment.translation(13, -7)),
    ("turn", augment.translation(30, -20) @ augment.rotation(25)),
    ("enlarge", augment.scaling(1.6, 1.3)),
    ("shrink", augment.scaling(0.4)),
    ("mirror", augment.mirroring(120)),
]


@pytest.mark.parametrize(("name", "matrix"), MAPS, ids=[name for name, _ in MAPS])
def test_the_mark_stays_under_its_keypoint(name: str, matrix: augment.Matrix) -> None:
    labels = labels_of({NOSE: (50.5, 40.5)}, boxes=[[45, 35, 11, 11]])
    (image,), (moved,) = augment.warp(([dotted(labels)], [labels]), matrix, (200, 150), (0, 0, 0))
    np.testing.assert_allclose(centre_of_light(image), moved.keypoints[0, NOSE, :2], atol=0.15)


def test_mirroring_swaps_left_and_right() -> None:
    labels = labels_of({LEFT_WRIST: (10, 20), RIGHT_WRIST: (90, 30), NOSE: (50, 5)})
    moved = augment.move(labels, augment.mirroring(120), (120, 90))
    np.testing.assert_allclose(moved.keypoints[0, RIGHT_WRIST], [110, 20, 2])
    np.testing.assert_allclose(moved.keypoints[0, LEFT_WRIST], [30, 30, 2])
    np.testing.assert_allclose(moved.keypoints[0, NOSE], [70, 5, 2])
    np.testing.assert_allclose(moved.boxes[0], [30, 5, 80, 25])


def test_a_shift_crops_people_and_their_boxes() -> None:
    points = {k: (10.0 + 5 * k, 40.0) for k in range(17)}  # x from 10 to 90
    labels = labels_of(points, boxes=[[10, 20, 80, 40]], areas=[1600])
    moved = augment.move(labels, augment.translation(-50, 0), (120, 90))
    assert (moved.keypoints[0, :, 2] > 0).tolist() == [k >= 8 for k in range(17)]
    np.testing.assert_allclose(moved.boxes[0], [0, 20, 40, 40], atol=1e-4)
    np.testing.assert_allclose(moved.areas, [800], rtol=1e-5)
    nearly_out = augment.move(labels, augment.translation(-82, 0), (120, 90))
    assert not nearly_out.keypoints.any(), "two keypoints are too few"
    assert not nearly_out.crowd[0], "but somebody is there"
    np.testing.assert_allclose(nearly_out.boxes[0], [0, 20, 8, 40], atol=1e-4)
    assert len(augment.move(labels, augment.translation(-95, 0), (120, 90))) == 0


def test_people_whose_keypoints_span_no_box_are_kept() -> None:
    line = {k: (50.3, 20.0 + 3 * k) for k in range(17)}
    labels = labels_of(line, {NOSE: (0.1, 40.0)}, {NOSE: (200.0, 40.0)}, {})
    moved = augment.move(labels, augment.scaling(0.5), (60, 45))
    assert len(moved) == 2, "neither who is out of the picture nor who is nowhere"
    np.testing.assert_allclose(moved.boxes, [[24.65, 10, 1, 24], [0, 19.5, 0.55, 1]], atol=1e-4)
    np.testing.assert_allclose(moved.areas, [0.53 * 24, 0.53 * 0.55], rtol=1e-4)
    assert not moved.crowd.any()


def test_scaling_scales_areas_and_turning_keeps_them() -> None:
    labels = labels_of({k: (50.0 + k, 45.0) for k in range(17)}, boxes=[[45, 35, 30, 20]], areas=[300])
    grown = augment.move(labels, augment.scaling(2, 3), (1000, 1000))
    np.testing.assert_allclose(grown.areas, [1800], rtol=1e-5)
    np.testing.assert_allclose(grown.boxes[0], [90, 105, 60, 60], rtol=1e-5)
    turned = augment.move(labels, augment.translation(500, 500) @ augment.rotation(90), (1000, 1000))
    np.testing.assert_allclose(turned.areas, [300], rtol=1e-5)
    np.testing.assert_allclose(turned.boxes[0, 2:], [20, 30], rtol=1e-5)


def test_unlabelled_keypoints_stay_so_and_regions_move_along() -> None:
    labels = labels_of(
        {k: (50.0, 40.0 + k) for k in range(4)},
        boxes=[[45, 35, 10, 10]],
        ignore=[np.array([[0, 0], [10, 0], [10, 10]])],
    )
    moved = augment.move(labels, augment.translation(5, 6), (120, 90))
    assert (moved.keypoints[0, 4:] == 0).all()
    np.testing.assert_allclose(moved.ignore[0], [[5, 6], [15, 6], [15, 16]])
    assert augment.move(labels, augment.translation(-40, 0), (120, 90)).ignore == ()


def clip_of_two() -> augment.Clip:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (90, 120, 3), np.uint8)
    labels = labels_of({k: (30.0 + 4 * k, 20.0 + 3 * k) for k in range(17)})
    return [image, image.copy()], [labels, labels]


def occluded(clip: augment.Clip, rng: np.random.Generator) -> augment.Clip:
    return augment.occlude(clip, rng, 3)


def mosaicked(clip: augment.Clip, rng: np.random.Generator) -> augment.Clip:
    return augment.mosaic([clip, clip, clip, clip], (96, 80), augment.View(), rng, 16 / 9)


def filmed(effect: Callable[[list[Image], np.random.Generator], list[Image]]) -> Callable[..., augment.Clip]:
    return lambda clip, rng: (effect(clip[0], rng), clip[1])


EVERYTHING = {
    "occlude": occluded,
    "mosaic": mosaicked,
    **{effect.__name__: filmed(effect) for effect, _ in augment.CAMERA if effect is not augment.noise},
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("seed", range(6))
def test_all_frames_of_a_clip_change_alike_and_repeatably(name: str, seed: int) -> None:
    first, again = (EVERYTHING[name](clip_of_two(), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first[0][0], first[0][1])
    np.testing.assert_array_equal(first[1][0].keypoints, first[1][1].keypoints)
    np.testing.assert_array_equal(first[0][0], again[0][0])
    other = EVERYTHING[name](clip_of_two(), np.random.default_rng(seed + 100))
    assert first[0][0].shape != other[0][0].shape or (first[0][0] != other[0][0]).any()


def test_noise_is_new_in_each_frame_and_equally_strong() -> None:
    grey = np.full((60, 80, 3), 128, np.uint8)
    one, two = augment.noise([grey, grey], np.random.default_rng(1))
    assert (one != two).any()
    assert abs(one.std() / two.std() - 1) < 0.1


@pytest.mark.parametrize("effect", [effect for effect, _ in augment.CAMERA], ids=lambda effect: effect.__name__)
def test_effects_keep_size_and_type(effect: Callable[[list[Image], np.random.Generator], list[Image]]) -> None:
    images = clip_of_two()[0]
    before = images[0].copy()
    for seed in range(10):
        for image in effect(images, np.random.default_rng(seed)):
            assert image.shape == (90, 120, 3)
            assert image.dtype == np.uint8
    np.testing.assert_array_equal(images[0], before)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_tiles_cover_the_picture_once(count: int) -> None:
    covered = np.zeros((90, 160), int)
    windows = augment.tiles(count, np.random.default_rng(count), (160, 90))
    for x, y, width, height in windows:
        covered[y : y + height, x : x + width] += 1
    assert len(windows) == count
    assert (covered == 1).all()


@pytest.mark.parametrize(("size", "aspect"), [((704, 320), 4 / 3), ((640, 256), 4 / 3), ((300, 150), 0.75)])
def test_a_mosaic_fills_pictures_of_any_size(size: augment.Size, aspect: float) -> None:
    image = np.full((90, 120, 3), 200, np.uint8)
    clip = ([image, image], [labels_of({0: (30.0, 20.0)})] * 2)
    for seed in range(5):
        images, _ = augment.mosaic([clip] * 4, size, augment.View(), np.random.default_rng(seed), aspect)
        assert images[0].shape == (size[1], size[0], 3) and np.array_equal(images[0], images[1])


def test_a_mosaic_keeps_every_mark_under_its_keypoint() -> None:
    labels = labels_of({k: (60.5, 45.5) for k in range(3)}, boxes=[[55, 40, 11, 11]])
    clip = ([dotted(labels, radius=6)], [labels])
    seen = 0
    for seed in range(20):
        (image,), (mixed,) = mosaicked(clip, np.random.default_rng(seed))
        assert image.shape == (80, 96, 3)
        for person in mixed.keypoints[(mixed.keypoints[..., 2] > 0).any(axis=1)]:
            x, y = person[0, :2].astype(int)
            assert image[y, x].min() > 100
            seen += 1
    assert seen > 30


def test_what_is_covered_is_hidden_and_the_covered_count_neither_way() -> None:
    half = labels_of({k: (10.0 + 5 * k, 40.0) for k in range(17)})
    mask = np.zeros((90, 120), np.uint8)
    mask[:, :40] = 255  # over keypoints at 10, 15, ... 35
    hidden = augment.covered(half, mask)
    assert hidden.keypoints[0, :, 2].tolist() == [1] * 6 + [2] * 11
    assert not hidden.crowd[0]
    np.testing.assert_array_equal(hidden.keypoints[..., :2], half.keypoints[..., :2])
    mask[:, :85] = 255
    assert augment.covered(half, mask).crowd[0]


def test_things_in_front_hide_what_they_cover() -> None:
    for seed in range(20):
        (image, _), labels = clip_of_two()
        (after,), (hidden,) = augment.occlude(([image], labels[:1]), np.random.default_rng(seed), 2)
        for x, y, visibility in hidden.keypoints[0]:
            if visibility == 2:
                assert (after[int(y), int(x)] == image[int(y), int(x)]).all()


def test_a_pasted_person_stands_in_front() -> None:
    behind = labels_of({k: (60.0, 10.0 + 4 * k) for k in range(17)})
    person = labels_of({k: (20.5, 20.5) for k in range(5)}, boxes=[[10, 10, 20, 20]])
    source = np.full((40, 40, 3), 200, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255
    cutout = augment.Cutout([source], [mask], [person])
    scene = np.zeros((90, 120, 3), np.uint8)
    (image,), (labels,) = augment.paste(([scene], [behind]), cutout, augment.translation(40, 20))
    assert len(labels) == 2
    np.testing.assert_allclose(labels.keypoints[1, 0], [60.5, 40.5, 2])
    np.testing.assert_allclose(labels.boxes[1], [50, 30, 20, 20])
    assert (image[31:49, 51:69] == 200).all()
    assert image[:29].max() == 0
    under = (behind.keypoints[0, :, 1] >= 30) & (behind.keypoints[0, :, 1] < 50)
    assert labels.keypoints[0, :, 2].tolist() == np.where(under, 1, 2).tolist()
    assert scene.max() == 0


def test_pictures_that_shrink_fill_what_they_are_mapped_to() -> None:
    """Of 13 pixels six and a half are left, not six."""
    image = np.full((13, 13, 3), 255, np.uint8)
    assert augment.warp_image(image, augment.scaling(0.5), (7, 7), (0, 0, 0))[3, 6].min() > 60


def test_turning_upside_down_keeps_left_and_right() -> None:
    labels = labels_of({LEFT_WRIST: (10, 20), RIGHT_WRIST: (90, 30), NOSE: (50, 5)})
    turned = augment.move(labels, augment.translation(120, 90) @ augment.rotation(180), (120, 90))
    np.testing.assert_allclose(turned.keypoints[0, LEFT_WRIST, :2], [110, 70], atol=1e-4)
    mirrored = augment.move(labels, augment.translation(0, 90) @ augment.scaling(1, -1), (120, 90))
    np.testing.assert_allclose(mirrored.keypoints[0, RIGHT_WRIST, :2], [10, 70], atol=1e-4)


def test_a_turned_box_is_the_one_around_its_ellipse() -> None:
    labels = labels_of({NOSE: (60, 45)}, boxes=[[50, 35, 20, 20]], head_boxes=[[55, 40, 10, 10]])
    turn = augment.translation(60, 45) @ augment.rotation(45) @ augment.translation(-60, -45)
    turned = augment.move(labels, turn, (120, 90))
    np.testing.assert_allclose(turned.boxes, labels.boxes, atol=1e-3)
    np.testing.assert_allclose(turned.head_boxes, labels.head_boxes, atol=1e-3)


def test_heads_out_of_the_picture_are_not_annotated_and_regions_end_at_its_border() -> None:
    points = {NOSE: (100.0, 20.0), LEFT_WRIST: (30.0, 40.0), RIGHT_WRIST: (50.0, 40.0), 11: (40.0, 60.0)}
    region = [[60, 10], [110, 10], [110, 30]]
    labels = labels_of(points, boxes=[[25, 10, 85, 55]], head_boxes=[[90, 10, 20, 20]], ignore=[region])
    left = augment.cropped(labels, (0, 0, 80, 90))
    assert len(left) == 1 and np.isnan(left.head_boxes).all()
    np.testing.assert_allclose(left.ignore[0], [[60, 10], [80, 10], [80, 30]])


def test_a_window_ends_before_its_right_and_lower_border() -> None:
    labels = labels_of({NOSE: (80, 20), LEFT_WRIST: (30, 90), RIGHT_WRIST: (79.9, 89.9), 11: (0, 0), 12: (9, 9)})
    seen = augment.cropped(labels, (0, 0, 80, 90)).keypoints[0, :, 2] > 0
    assert np.flatnonzero(seen).tolist() == [RIGHT_WRIST, 11, 12]


def test_pictures_are_placed_and_stretched_within_their_limits() -> None:
    rng, window = np.random.default_rng(0), (10.0, 20.0, 60.0, 50.0)
    still = augment.View(flip=0, turn=0, shift=0, stretch=2)
    matrices = np.array([augment.placed((100, 80), window, still, rng) for _ in range(200)])
    np.testing.assert_allclose(matrices @ (50, 40, 1), np.tile([40.0, 45.0, 1.0], (200, 1)))
    ratios = matrices[:, 0, 0] / matrices[:, 1, 1]
    assert 0.5 <= ratios.min() < 0.6 and 1.8 < ratios.max() <= 2


def test_labels_are_complete_together_only_when_all_of_them_are() -> None:
    one = labels_of({NOSE: (50, 5)})
    other = labels_of({NOSE: (20, 5)}, complete=False)
    assert augment.joined([one, one]).complete
    assert not augment.joined([one, other]).complete and not augment.joined([other, one]).complete


def test_heads_and_regions_move_with_the_pictures_of_a_mosaic() -> None:
    region = [[50, 40], [70, 40], [70, 50], [50, 50]]
    labels = labels_of({NOSE: (60, 45)}, boxes=[[50, 35, 20, 20]], head_boxes=[[55, 40, 10, 10]], ignore=[region])
    view = augment.View(flip=0, turn=0, stretch=1, shift=0, zoom=(0.7, 0.7))
    clips = [([dotted(labels)], [labels])] * 4
    _, (moved,) = augment.mosaic(clips, (240, 180), view, np.random.default_rng(0))
    assert len(moved) == len(moved.ignore) == 4
    noses = moved.keypoints[:, NOSE, :2]
    np.testing.assert_allclose(moved.head_boxes[:, :2] + moved.head_boxes[:, 2:] / 2, noses, atol=0.01)
    np.testing.assert_allclose([polygon.mean(axis=0) for polygon in moved.ignore], noses, atol=0.01)


def test_who_was_hidden_before_still_counts() -> None:
    labels = labels_of({NOSE: (50, 5), LEFT_WRIST: (10, 20)})
    labels.keypoints[0, NOSE, 2] = 1
    mask = np.zeros((90, 120), np.uint8)
    mask[:10, 40:60] = 255  # over the nose, which nobody saw
    covered = augment.covered(labels, mask)
    assert not covered.crowd.any()
    np.testing.assert_array_equal(covered.keypoints, labels.keypoints)


def test_things_in_front_leave_the_picture_that_was_given() -> None:
    image = np.zeros((90, 120, 3), np.uint8)
    clip = ([image], [labels_of({NOSE: (50, 5)})])
    (seen,), _ = augment.occlude(clip, np.random.default_rng(1), count=3, largest=1.0)
    assert seen.any() and not image.any()


def test_a_camera_does_each_thing_with_its_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    def brighter(images: list[Image], rng: np.random.Generator) -> list[Image]:
        return [image + 1 for image in images]

    monkeypatch.setattr(augment, "CAMERA", ((brighter, 0.25), (brighter, 0.0)))
    rng, black = np.random.default_rng(0), np.zeros((1, 1, 3), np.uint8)
    levels = [augment.filmed([black], rng)[0].max() for _ in range(400)]
    assert max(levels) == 1 and np.mean(levels) == pytest.approx(0.25, abs=0.08)
