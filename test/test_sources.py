"""The mixture of pictures: samples are repeatable, and validation stays apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored import cache as cache
from stored import mixture, picture, standing
from test_teacher import STANDING
from torch.utils.data import DataLoader

from pave_ros import models
from pave_ros.datasets.base import Labels
from pave_ros.frames import Image
from pave_ros.persons import Persons
from pave_ros.training import augmentation as augment
from pave_ros.training.config import TrainingConfig
from pave_ros.training.settings import ConfigError
from pave_ros.training.sources import (
    Mixture,
    SourceError,
    TrainingScenes,
    ValidationPictures,
    body_mask,
    can_cut,
    has_fallen,
    somewhere,
    target_of,
    without_people,
)
from pave_ros.training.store import (
    Picture,
    write_store,
)
from pave_ros.training.validation import by_source, validate


def test_samples_have_the_promised_form(cache: Path) -> None:
    scenes = TrainingScenes(mixture(cache))
    people = 0
    for number in range(40):
        image, target = scenes[number]
        assert image.shape == (3, 96, 128)
        assert image.dtype == torch.uint8
        assert target.keypoints.shape == (len(target), 17, 2)
        assert target.labelled.shape == (len(target), 17)
        assert target.areas.shape == (len(target),)
        assert target.ignored.shape[1:] == (4,)
        assert target.labelled.any(dim=1).all()
        inside = target.keypoints[target.labelled]
        assert ((inside >= 0) & (inside <= 1)).all()
        assert ((target.areas > 0) & (target.areas <= 1)).all()
        people += len(target)
    assert people > 20


def test_keypoints_lie_on_the_people(cache: Path) -> None:
    """The person is bright on grey; without a camera's effects and things in front, so is what is under a shoulder."""
    scenes = TrainingScenes(mixture(cache, occlude=0.0, empty=0.0, paste=1.0))
    bright = total = 0
    for number in range(60):
        image, target = scenes[number]
        for points, labelled in zip(target.keypoints, target.labelled, strict=True):
            for x, y in points[5:7][labelled[5:7]]:
                pixel = image[:, min(int(y * 96), 95), min(int(x * 128), 127)].float().mean()
                bright += bool(pixel > image.float().mean())
                total += 1
    assert total > 60
    assert bright / total > 0.85


def test_the_middle_of_a_pixel_stays_it_in_mirrored_people(cache: Path) -> None:
    """Half a pixel is added before people are moved, so that it goes left where they are mirrored."""
    plain = {"tiles": [1], "occlude": 0, "empty": 0, "zoom": [3, 3], "paste": 1}
    usual, further = (TrainingScenes(mixture(cache, offset=offset, **plain)) for offset in (0, 0.5))
    shifts = []
    for number in range(20):
        (_, labels), (_, moved) = usual.scene(number), further.scene(number)
        both = (labels.keypoints[..., 2] > 0) & (moved.keypoints[..., 2] > 0)
        shifts.append((moved.keypoints - labels.keypoints)[both])
    across, down, _ = np.concatenate(shifts).T
    assert (np.hypot(across, down) > 0.02).all() and (across > 0).any() and (across < 0).any()
    for model, offset in (("querypose_r50", 0.5), ("poet_r50", 0)):
        assert TrainingConfig(model, cache, {}, steps=1, batch_size=1).of_samples["offset"] == offset


def test_a_number_always_gives_the_same_sample(cache: Path) -> None:
    one, two = TrainingScenes(mixture(cache)), TrainingScenes(mixture(cache))
    assert torch.equal(one[12345][0], two[12345][0])
    assert not torch.equal(one[12345][0], one[12346][0])
    assert not torch.equal(one[7][0], TrainingScenes(mixture(cache, seed=1))[7][0])
    loader = DataLoader(one, batch_size=None, num_workers=2, sampler=range(6))  # type: ignore[arg-type]
    for number, (image, _) in enumerate(loader):
        assert torch.equal(image, two[number][0])


def test_validation_stays_apart(cache: Path) -> None:
    validation = ValidationPictures(mixture(cache))
    assert len(validation) == 4
    assert validation.names == ["one", "one", "one", "two"]
    scenes = TrainingScenes(mixture(cache))
    for part in scenes._sources:
        assert {part.store.splits[i] for i in [*part.indices, *part.cutouts]} == {"train"}


def test_validation_takes_the_sources_that_have_a_part_for_it(cache: Path) -> None:
    write_store(cache, "early", [picture(0)])
    assert set(ValidationPictures(mixture(cache, weights={"one": 1, "early": 1})).names) == {"one"}
    none = ValidationPictures(mixture(cache, weights={"early": 1}))
    assert len(none) == 0 and validate(models.create("centernet_lite"), none) == {}


def test_validation_leaves_out_what_nobody_can_know(tmp_path: Path) -> None:
    """Joints that the network lacks, and people beside those who are labelled."""
    neck, top = [60, 40], [60, 10]
    points = np.concatenate([STANDING[5:] + (30, 10), [top, neck]])
    own = Labels.from_keypoints(np.concatenate([points, np.full((14, 1), 2)], 1)[None], "crowdpose14", complete=False)
    write_store(tmp_path, "crowd", [Picture("a", np.zeros((200, 160, 3), np.uint8), own, "val")])

    def find(image: Image, labels: Labels) -> Persons:
        person = labels.to("coco17").as_persons().keypoints
        return Persons.from_keypoints(np.concatenate([person + (400, 0, 0), person]), [1, 0.5], "coco17")

    result = by_source(find, ValidationPictures(mixture(tmp_path, weights={"crowd": 1})))["crowd"]
    assert result.values["AP"] == pytest.approx(1)


def test_validation_pictures_are_stretched_whole(cache: Path) -> None:
    validation = ValidationPictures(mixture(cache))
    image, target = validation[1]
    _, labels = validation.scene(1)
    assert image.shape == (3, 96, 128)
    expected = labels.keypoints[0, :, :2] / (160, 200)
    np.testing.assert_allclose(target.keypoints[0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(target.areas.numpy(), labels.areas / (160 * 200), rtol=1e-4)


def test_a_target_separates_people_from_what_counts_neither_way() -> None:
    people = [standing().keypoints[0], standing((60, 0)).keypoints[0], standing((0, 0), 0.05).keypoints[0]]
    labels = Labels.from_keypoints(people, "coco17", crowd=[False, True, False], ignore=[[[0, 0], [20, 0], [20, 40]]])
    target = target_of(labels, (200, 100), smallest=10)
    assert len(target) == 1
    assert target.labelled.all()
    np.testing.assert_allclose(target.keypoints[0, 0].numpy(), [50 / 200, 20 / 100])
    assert len(target.ignored) == 3
    np.testing.assert_allclose(target.ignored[2].numpy(), [0, 0, 0.1, 0.4])


def test_a_target_knows_hidden_keypoints_and_people_without_any() -> None:
    person, boxes = standing().keypoints[0], [[40, 10, 30, 60], [100, 20, 40, 50]]
    person[3, 2] = 1
    target = target_of(Labels.from_keypoints([person, np.zeros((17, 3))], "coco17", boxes=boxes), (200, 100))
    assert target.labelled.all()
    assert target.visible[0].tolist() == [joint != 3 for joint in range(17)]
    np.testing.assert_allclose(target.bare.numpy(), [[0.5, 0.2, 0.2, 0.5]])
    assert torch.equal(target.ignored, target.bare)


def test_what_has_no_weight_is_not_asked_for(cache: Path) -> None:
    chosen = mixture(cache, weights={"one": 1, "nowhere": 0})
    assert len(ValidationPictures(chosen)) == 3
    TrainingScenes(chosen)


def test_without_empty_pictures_everybody_shows_somebody(cache: Path) -> None:
    image = np.full((200, 160, 3), 60, np.uint8)
    nobody = Picture("nobody", image, standing()[:0], "train")
    write_store(cache, "few", [nobody, picture(0), nobody, picture(1), picture(2, "val")])
    for empty, count in ((0.0, 2), (0.1, 4)):
        (part,) = TrainingScenes(mixture(cache, weights={"few": 1}, empty=empty))._sources
        assert len(part.indices) == count


def test_bad_mixtures_are_refused(cache: Path) -> None:
    for change, reason in (
        ({"zooom": 1}, "unknown setting zooom; known: cache, "),
        ({"zoom": 1.0}, "zoom: input should be a valid tuple, not 1.0"),
        ({"zoom": [2, 1]}, "zoom has to be a range above 0"),
        ({"weights": {"one": "x"}}, "weights.one: input should be a valid number"),
        ({"tiles": [0, 0]}, "tiles have to be chances"),
        ({"empty": 1.5}, "empty has to be from 0 to 1, not 1.5"),
        ({"pasted": 0}, "pasted has to be at least 1, not 0"),
        ({"seed": -1}, "seed has to be at least 0, not -1"),
        ({"input_size": [0, 0]}, "input_size has to be a height and a width, not [0, 0]"),
        ({"cache": None}, "cache: input is not a valid path"),
    ):
        with pytest.raises(ConfigError, match=re.escape(reason)):
            Mixture.from_dict({"cache": str(cache), "weights": {"one": 1}, **change})
    with pytest.raises(ConfigError, match="setting 'weights' is missing"):
        Mixture.from_dict({"cache": cache})
    with pytest.raises(SourceError, match="positive"):
        TrainingScenes(mixture(cache, weights={"one": 0}))
    write_store(cache, "late", [picture(0, "val")])
    with pytest.raises(SourceError, match="'train'"):
        TrainingScenes(mixture(cache, weights={"late": 1}))


def test_empty_parts_hold_nobody() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    labels = standing()
    x, y, width, height = labels.boxes[0].astype(int)
    image[y : y + height + 1, x : x + width + 1] = 255
    empty = 0
    for seed in range(20):
        (part,), (people,) = without_people(image, labels, np.random.default_rng(seed))
        assert min(part.shape[:2]) >= 48
        assert (len(people) == 0) == (part.max() == 0)
        empty += len(people) == 0
    assert empty > 15
    full = Labels.from_keypoints(labels.keypoints, "coco17", boxes=[[0, 0, 400, 200]])
    (part,), (people,) = without_people(image, full, np.random.default_rng(0))
    assert part.shape == image.shape
    assert len(people) == 1


def test_the_guessed_outline_holds_the_joints() -> None:
    labels = standing()
    mask = body_mask(labels.keypoints[0], (120, 180))
    x, y = labels.keypoints[0, :, :2].astype(int).T
    assert (mask[y, x] == 255).all()
    assert 0.2 < (mask > 0).sum() / labels.boxes[0, 2:].prod() < 1.5
    assert can_cut(labels, masked=False)
    few = labels.keypoints.copy()
    few[0, 15] = 0
    limited = Labels.from_keypoints(few, "coco17")
    assert not can_cut(limited, masked=False)
    assert can_cut(limited, masked=True)


def test_who_lies_has_fallen() -> None:
    upright = standing()
    lying = upright.keypoints.copy()
    lying[..., :2] = lying[..., 1::-1]
    assert not has_fallen(upright)
    assert has_fallen(Labels.from_keypoints(lying, "coco17"))
    assert not has_fallen(upright[:0])


def test_what_is_not_labelled_is_not_moved_by_half_a_pixel(cache: Path) -> None:
    labels = standing()
    labels.keypoints[0, 3] = 0
    taught = mixture(cache, offset=0.5).taught(labels)
    assert taught.keypoints[0, 3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(taught.keypoints[0, 0], [50.5, 20.5, 2])


def test_the_longer_side_tells_who_is_too_small_to_count() -> None:
    boxes = [[10, 10, 5, 40], [40, 10, 40, 5], [90, 10, 9, 9]]
    keypoints = np.zeros((3, 17, 3))
    keypoints[:, 0] = [[12, 12, 2], [42, 12, 2], [92, 12, 2]]
    target = target_of(Labels.from_keypoints(keypoints, "coco17", boxes=boxes), (200, 100), smallest=10)
    np.testing.assert_allclose(target.boxes.numpy() * (200, 100, 200, 100), boxes[:2], rtol=1e-5)
    np.testing.assert_allclose(target.ignored.numpy() * (200, 100, 200, 100), boxes[2:], rtol=1e-5)


def test_crowds_without_keypoints_are_nobody_with_a_box_alone() -> None:
    boxes = [[10, 10, 30, 40], [60, 10, 30, 40]]
    labels = Labels.from_keypoints(np.zeros((2, 17, 3)), "coco17", boxes=boxes, crowd=[True, False])
    target = target_of(labels, (100, 100))
    assert len(target) == 0 and len(target.ignored) == 2
    np.testing.assert_allclose(target.bare.numpy(), [[0.6, 0.1, 0.3, 0.4]], rtol=1e-5)


def test_a_region_far_from_the_corner_stays_where_it_is() -> None:
    labels = Labels.from_keypoints(np.zeros((0, 17, 3)), "coco17", ignore=[[[20, 10], [40, 10], [40, 50]]])
    np.testing.assert_allclose(target_of(labels, (200, 100)).ignored.numpy(), [[0.1, 0.1, 0.1, 0.4]], rtol=1e-5)


def test_pictures_for_validation_are_never_drawn(cache: Path) -> None:
    scenes, rng = TrainingScenes(mixture(cache)), np.random.default_rng(0)
    assert {scenes.draw(rng).split for _ in range(60)} == {"train"}
    for part in scenes._sources:
        assert {part.draw_cutout(rng).split for _ in range(30)} == {"train"}


def test_whom_to_paste_is_not_sought_where_nobody_can_be_cut_out(cache: Path) -> None:
    limbs = standing((30, 10)).keypoints.copy()
    limbs[0, 9] = 0
    image = np.full((200, 160, 3), 60, np.uint8)
    write_store(cache, "few", [Picture("p", image, Labels.from_keypoints(limbs, "coco17"), "train")])
    scenes, rng = TrainingScenes(mixture(cache, weights={"one": 1, "few": 9})), np.random.default_rng(0)
    for _ in range(20):
        cutout = scenes.draw_cutout(rng)
        assert cutout.masks[0].shape == cutout.images[0].shape[:2] == (200, 160)


def test_one_person_is_pasted_or_several(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, pasted = TrainingScenes(mixture(cache, paste=1, pasted=3)), []
    monkeypatch.setattr(scenes, "_pasted", lambda clip, aspect, rng: pasted.append(0) or clip)
    counts = set()
    for number in range(30):
        pasted.clear()
        scenes.scene(number)
        counts.add(len(pasted))
    assert counts == {1, 2, 3}


def test_the_chances_of_a_mixture_are_those_of_its_scenes(cache: Path) -> None:
    never = {"tiles": [1], "zoom": [1, 1], "paste": 0, "occlude": 0, "empty": 0}

    def people_and_hidden(**options: object) -> tuple[int, int]:
        scenes = TrainingScenes(mixture(cache, **{**never, **options}))
        labels = [scenes.scene(number)[1] for number in range(20)]
        return sum(map(len, labels)), sum(int((one.keypoints[..., 2] == 1).sum()) for one in labels)

    assert people_and_hidden() == (20, 0)
    assert people_and_hidden(occlude=1)[1] > 0
    assert people_and_hidden(paste=1)[0] > 25
    assert people_and_hidden(empty=1)[0] < 20


def test_pictures_beside_others_have_a_scale_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mosaic, seen = augment.mosaic, set()

    def watched(clips: Any, size: Any, view: Any, *rest: Any) -> Any:
        seen.add((len(clips), view.zoom))
        return mosaic(clips, size, view, *rest)

    monkeypatch.setattr(augment, "mosaic", watched)
    scenes = TrainingScenes(mixture(cache, tiles=[1, 1], zoom=[0.5, 1.5], tile_zoom=[0.8, 1.2]))
    for number in range(20):
        scenes.scene(number)
    assert seen == {(1, (0.5, 1.5)), (2, (0.8, 1.2))}


def test_pictures_with_people_who_are_not_annotated_have_no_empty_parts() -> None:
    labels = Labels.from_keypoints(np.zeros((0, 17, 3)), "coco17", ignore=[[[0, 0], [20, 0], [20, 40]]])
    image = np.zeros((200, 400, 3), np.uint8)
    for seed in range(5):
        (part,), (people,) = without_people(image, labels, np.random.default_rng(seed))
        assert part.shape == image.shape and len(people.ignore) == 1


def test_people_below_the_smallest_size_are_neither_taught_nor_counted(cache: Path) -> None:
    settings = mixture(cache, smallest=1000, empty=0, zoom=[1, 1])
    for samples in (TrainingScenes(settings), ValidationPictures(settings)):
        for number in range(3):
            _, target = samples[number]
            assert len(target) == 0 and len(target.ignored) > 0


def test_groups_and_people_without_a_face_are_not_cut_out() -> None:
    keypoints = standing().keypoints
    assert not can_cut(Labels.from_keypoints(keypoints, "coco17", crowd=[True]), masked=True)
    keypoints[0, 1:5] = 0
    assert not can_cut(Labels.from_keypoints(keypoints, "coco17"), masked=False)


def test_pasted_people_keep_their_shape_in_a_stretched_scene_and_are_not_blown_up() -> None:
    rng = np.random.default_rng(0)
    for box in ([5, 5, 40, 90], [5, 5, 10, 20]):
        for _ in range(20):
            matrix = somewhere(box, (300, 300), 2.0, rng)
            unsqueezed = np.diag([2.0, 1.0]) @ matrix[:2, :2]
            across, down = np.linalg.norm(unsqueezed, axis=0)
            assert across == pytest.approx(down) and 300 * 0.119 <= down * box[3] <= 300.1 and down <= 2.001
