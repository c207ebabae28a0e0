"""The simple baseline: targets and loss by hand, what its heatmaps mean, the crops that it learns from, learning."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored import cache as cache
from stored import mixture

from pave_ros import models, skeletons
from pave_ros.datasets.base import Labels
from pave_ros.topdown.heatmaps import PERSON, keypoints_in, most_oks
from pave_ros.topdown.styles import STYLES
from pave_ros.training import augmentation as augment
from pave_ros.training.crops import CropSettings, TrainingCrops, _part, crop_samples
from pave_ros.training.settings import ConfigError
from pave_ros.training.simplebaseline import TrainingForward, criterion, shares
from pave_ros.training.sources import SourceError
from pave_ros.training.store import Picture, write_store
from pave_ros.training.target import Target

SIZE = (12, 10)  # Cells, height and width, of the heatmaps of a crop of 48x40.
SIGMAS = skeletons.get("coco17").sigmas
PLAIN = CropSettings(shift=0, scale=0, degrees=0, turned=0, parts=0, beside=0, occluded=0, far=0, empty=0)


def target(points: torch.Tensor, labelled: torch.Tensor | None = None) -> Target:
    """One person with the keypoints (K, 2)."""
    known = torch.ones(len(points), dtype=torch.bool) if labelled is None else labelled
    nobody = torch.zeros(0, 4)
    return Target(points[None], known[None], torch.ones(1), nobody, known[None], nobody, torch.tensor([[0.0, 0, 1, 1]]))


def test_a_joint_is_shared_by_the_cells_around_it_or_nowhere() -> None:
    points = torch.tensor([[[4 / 9, 5 / 11], [0.0, 1.0], [1.2, 0.5]]])
    wanted = shares(points, SIZE)
    assert wanted.shape == (1, 3, 121) and wanted.sum(-1).allclose(torch.ones(1, 3))
    inside, corner, outside = wanted[0]
    assert inside[:-1].argmax() == 5 * 10 + 4 and inside[-1] == 0
    # One cell aside it is lower by the Gaussian with a deviation of 1.5 cells.
    assert float(inside[5 * 10 + 5] / inside[5 * 10 + 4]) == pytest.approx(math.exp(-1 / (2 * 1.5**2)), rel=1e-5)
    assert corner[:-1].argmax() == 11 * 10 and outside[-1] == 1 and outside[:-1].sum() == 0


def test_the_loss_by_hand() -> None:
    """Two joints in one cell out of two cells and nowhere, one of them not labelled, and logits that favour neither."""

    class Two(torch.nn.Module):
        def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(1, 2, 1, 2), torch.tensor([[math.log(2), 0.0]])

    points = torch.tensor([[5.0, 5.0], [0.5, 0.0]])  # The first is nowhere: one half of the share is there.
    loss = criterion("coco17")(Two(), torch.zeros(1, 3, 4, 8), [target(points, torch.tensor([True, False]))], [0])
    assert float(loss["heatmaps"]) == pytest.approx(math.log(2), rel=1e-5)
    # Half way between both cells, each has a half of it, where it gets a third: ln(3/2).
    loss = criterion("coco17")(Two(), torch.zeros(1, 3, 4, 8), [target(points, torch.tensor([False, True]))], [0])
    assert float(loss["heatmaps"]) == pytest.approx(math.log(1.5), rel=1e-5)


@pytest.mark.parametrize("decoding", ["dark", "oks"])
def test_a_heatmap_says_where_a_joint_is_and_how_sure_that_is(decoding: str) -> None:
    model = models.create("simplebaseline_lite")
    points = torch.tensor([[[4 / 9, 5 / 11], [0.3, 0.3]]])
    wanted = shares(points, SIZE)
    wanted[0, 1] = 0.25 * wanted[0, 1] + 0.75 * shares(torch.full((1, 1, 2), 2.0), SIZE)[0, 0]
    logits = wanted.clamp(min=1e-30).log()
    heatmaps = model.decode([(logits[..., :-1].unflatten(-1, SIZE), logits[..., -1])])["heatmaps"].numpy()
    assert heatmaps.max((2, 3))[0] == pytest.approx([1, 0.25], abs=0.06)
    place = np.array([[50.0, 60, 90, 110]], np.float32)  # Centre and size of a crop of 90x110 pixels.
    found = keypoints_in(heatmaps, place, STYLES["simplebaseline"], decoding, SIGMAS[:2])[0, :, :2]
    assert np.allclose(found, points[0].numpy() * (90, 110) + (5, 5), atol=1.0)


def test_the_most_oks_is_where_most_of_what_is_likely_is_near() -> None:
    yy, xx = np.mgrid[:64, :48]
    spots = ((12, 30, 0.3), (34, 30, 0.25), (37, 31, 0.25))  # Two places near each other, and one that is likelier.
    heatmap = sum(height * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 1.5**2)) for x, y, height in spots)
    heatmaps = np.stack([heatmap, heatmap])[None].astype(np.float32)
    coarse, fine = 0.1, 0.001
    (hip, pupil), cells = most_oks(heatmaps, [coarse, fine])[0], np.stack((xx, yy), -1)
    expected = [
        (heatmap * np.exp(-np.square(cells - cell).sum(-1) / (2 * (2 * coarse * PERSON * 64) ** 2))).sum()
        for cell in cells.reshape(-1, 2)
    ]
    best = cells.reshape(-1, 2)[int(np.argmax(expected))]
    assert np.abs(hip - best).max() < 0.6 and 33 < hip[0] < 37, "between the two that are close"
    np.testing.assert_allclose(pupil, (12, 30), atol=0.1)
    assert (most_oks(0 * heatmaps, [coarse, fine]) < 2.1).all(), "nothing anywhere"


def test_no_joint_lies_in_a_corner_of_its_crop() -> None:
    heatmaps = np.zeros((1, 4, 64, 48), np.float32)
    corners, truth = [(0, 0), (47, 0), (0, 63), (47, 63)], [(20, 30), (5, 0), (0, 40), (47, 62)]
    for heatmap, corner, place in zip(heatmaps[0], corners, truth, strict=True):
        heatmap[corner[::-1]], heatmap[place[::-1]] = 0.6, 0.2
    before = heatmaps.copy()
    found = keypoints_in(heatmaps, np.array([[96, 128, 192, 256]]), STYLES["simplebaseline"], "dark", SIGMAS)[0]
    np.testing.assert_allclose(found[:, 2], 0.2)
    # Two pixels of the heatmap are eight of the picture, as far as a peak may be moved.
    assert (np.abs(found[:, :2] - 4 * np.array(truth)) <= 8 + 2).all()
    assert (heatmaps == before).all(), "the heatmaps stay as they are"


def test_the_crop_is_four_times_its_heatmaps() -> None:
    model = models.create("simplebaseline_lite")
    with torch.no_grad():
        outputs = model(torch.zeros(2, 3, 96, 64))
    assert outputs["heatmaps"].shape == (2, 17, 24, 16) and float(outputs["heatmaps"].min()) >= 0


def test_it_learns_a_crop_by_heart(cache: Path) -> None:
    samples = TrainingCrops(PLAIN, mixture(cache, input_size=[96, 64]))
    images, targets = zip(*(samples[i] for i in range(2)), strict=True)
    batch = (torch.stack(images).float() / 255 - 0.5) / 0.5
    torch.manual_seed(0)
    model = models.create("simplebaseline_lite").train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = criterion("coco17")(TrainingForward(model), batch, targets, [0, 1])["heatmaps"]  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0], losses


# --- crops to learn from ----------------------------------------------------------------------------------------------


def test_keypoints_lie_on_the_person_in_the_middle(cache: Path) -> None:
    samples = TrainingCrops(CropSettings(parts=0, beside=0, occluded=0, far=0, empty=0), mixture(cache))
    for number in range(20):
        image, keypoints = samples.crop(number)
        assert image.shape == (96, 128, 3) and keypoints.shape == (17, 3)
        points, limits = keypoints[:, :2], np.array([128, 96])
        inside = ((points >= 0) & (points < limits)).all(1)
        assert inside.mean() > 0.8
        assert np.abs((points.min(0) + points.max(0)) / 2 - limits / 2).max() < 40
        x, y = points[inside].round().astype(int).clip(0, limits - 1).T
        grey = image.mean(2)
        assert np.median(grey[y, x]) > np.median(grey) + 10, "people are brighter than what is around them"


def test_mirroring_swaps_left_and_right(cache: Path) -> None:
    """The person faces the camera, so that the left shoulder is on the right of the picture: in mirrored crops too."""
    samples = TrainingCrops(PLAIN, mixture(cache))
    keypoints = np.stack([samples.crop(number)[1] for number in range(12)])
    left, right = keypoints[:, 5, 0], keypoints[:, 6, 0]
    assert len(set(np.sign(left - right))) == 1


def test_where_nobody_is_no_joint_is(cache: Path) -> None:
    samples = TrainingCrops(CropSettings(empty=1), mixture(cache))
    for number in range(8):
        image, keypoints = samples.crop(number)
        assert image.shape == (96, 128, 3)
        assert (keypoints[:, 2] > 0).all() and (keypoints[:, :2] < 0).all()
        assert shares(samples[number][1].keypoints, SIZE)[..., -1].eq(1).all(), "all of it is nowhere"


def test_a_person_who_is_far_is_small(cache: Path) -> None:
    near, far = (TrainingCrops(replace(PLAIN, far=chance), mixture(cache)) for chance in (0, 1))
    heights = np.array([[np.ptp(samples.crop(n)[1][:, 1]) for n in range(12)] for samples in (near, far)])
    assert (heights[1] < heights[0] + 1).all() and (heights[1] < 0.7 * heights[0]).any()


def test_a_part_of_a_person_shows_the_rest_as_nowhere(cache: Path) -> None:
    samples = TrainingCrops(CropSettings(parts=1, shift=0, scale=0, turned=0, far=0, empty=0), mixture(cache))
    outside = []
    for number in range(30):
        _, one = samples[number]
        assert bool(one.labelled.all())
        outside.append(float(((one.keypoints < 0) | (one.keypoints > 1)).any(-1).float().mean()))
    assert max(outside) > 0.4 and min(outside) < 0.2


def test_a_number_always_gives_the_same_crop(cache: Path) -> None:
    one, other = (TrainingCrops(CropSettings(beside=1), mixture(cache)) for _ in range(2))
    for number in (0, 7):
        assert torch.equal(one[number][0], other[number][0])
        assert torch.equal(one[number][1].keypoints, other[number][1].keypoints)
    assert not torch.equal(one[0][0], one[7][0])


def test_settings_of_crops_come_from_a_configuration(cache: Path) -> None:
    data = {"cache": str(cache), "weights": {"one": 1}, "crops": {"parts": 0.5}}
    samples = crop_samples(data, {"input_size": [96, 64], "seed": 1, "skeleton": "coco17"})
    assert samples.settings.parts == 0.5 and samples.mixture.seed == 1 and samples[0][0].shape == (3, 96, 64)
    with pytest.raises(ConfigError, match=r"crops: unknown setting size; known: beside, "):
        crop_samples({**data, "crops": {"size": 3}}, {})
    with pytest.raises(ConfigError, match=r"crops: scale has to be at least 0, not -1"):
        crop_samples({**data, "crops": {"scale": -1}}, {})


def test_people_who_cannot_be_cut_out_are_not_pasted(tmp_path: Path) -> None:
    keypoints = np.concatenate((np.random.default_rng(0).uniform(20, 90, (17, 2)), np.full((17, 1), 2)), 1)
    keypoints[5:9, 2] = 0  # arms that nobody labelled
    person = Labels.from_keypoints([keypoints], "coco17", boxes=[[10, 10, 90, 90]])
    stored = [Picture(str(i), np.full((110, 110, 3), 60, np.uint8), person, "train") for i in range(2)]
    write_store(tmp_path, "one", stored)
    samples = TrainingCrops(CropSettings(beside=1, empty=0), mixture(tmp_path, weights={"one": 1}))
    assert samples[0][0].shape == (3, 96, 128)


def test_what_no_picture_shows_is_told(tmp_path: Path) -> None:
    keypoints = np.concatenate((np.random.default_rng(0).uniform(0, 60, (17, 2)), np.full((17, 1), 2)), 1)
    keypoints[4:, 2] = 0
    filling = Labels.from_keypoints([keypoints], "coco17", boxes=[[0, 0, 60, 60]])
    write_store(tmp_path, "one", [Picture("0", np.zeros((60, 60, 3), np.uint8), filling, "train")])
    with pytest.raises(SourceError, match=r"none of 1000 pictures has a place without people; set crops: {empty: 0}"):
        TrainingCrops(CropSettings(empty=1), mixture(tmp_path, weights={"one": 1})).crop(0)
    with pytest.raises(SourceError, match="nobody in 1000 pictures has 5 labelled keypoints of coco17"):
        TrainingCrops(CropSettings(empty=0), mixture(tmp_path, weights={"one": 1})).crop(0)


def test_what_oks_tolerates_goes_by_the_height_of_the_crop() -> None:
    """Two spots near each other outweigh a stronger one, for a hip in a crop 64 cells high; not so in one of 48."""
    for height, x in ((64, 28.5), (48, 10)):
        heatmaps = np.zeros((1, 1, height, 48), np.float32)
        heatmaps[0, 0, 24, [10, 24, 33]] = 1.0, 0.8, 0.8
        assert most_oks(heatmaps, [0.107])[0, 0, 0] == pytest.approx(x, abs=1.5)


def test_crops_count_pixels_from_the_middle_of_the_first_to_that_of_the_last(cache: Path) -> None:
    samples = TrainingCrops(PLAIN, mixture(cache))
    for number in range(12):
        points = samples.crop(number)[1][:, :2]
        np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, (63.5, 47.5), atol=0.01)
        np.testing.assert_allclose(samples[number][1].keypoints[0].numpy() * (127, 95), points, atol=1e-3)


def test_crops_are_of_single_people_and_teach_hidden_joints(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(20, 90, (2, 17, 2))
    keypoints = np.concatenate((points, np.full((2, 17, 1), 1)), 2)
    keypoints[1, :3, 2] = 0
    people = Labels.from_keypoints(keypoints, "coco17", crowd=[True, False])
    write_store(tmp_path, "one", [Picture("0", np.zeros((110, 110, 3), np.uint8), people, "train")])
    samples = TrainingCrops(PLAIN, mixture(tmp_path, weights={"one": 1}))
    assert {int(samples[number][1].labelled.sum()) for number in range(12)} == {14}


def test_crops_are_moved_scaled_and_turned_as_far_as_the_settings_say(cache: Path) -> None:
    def spread(**changes: float) -> tuple[float, float, float]:
        """Of the places, sizes and directions of people in crops."""
        samples = TrainingCrops(replace(PLAIN, **changes), mixture(cache))
        points = np.stack([samples.crop(number)[1][:, :2] for number in range(24)])
        middle = (points[:, 5:7].mean(1) + points[:, 11:13].mean(1)) / 2
        down = points[:, 11:13].mean(1) - points[:, 5:7].mean(1)
        turn = np.degrees(np.arctan2(down[:, 0], down[:, 1]))
        return float(middle[:, 1].std()), float(np.log(np.linalg.norm(down, axis=1)).std()), float(turn.std())

    place, size, turn = spread()
    assert place < 0.1 and size < 0.01 and turn < 5
    assert spread(shift=0.1)[0] > 3
    assert 0.08 < spread(scale=0.15)[1] < 0.25
    assert 10 < spread(degrees=20, turned=1)[2] < 30


def test_things_and_people_in_front_and_the_camera_change_the_picture(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def inverted(images: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        return [255 - image for image in images]

    def pictures(**changes: float) -> np.ndarray:
        samples = TrainingCrops(replace(PLAIN, **changes), mixture(cache))
        return np.stack([samples.crop(number)[0] for number in range(8)])

    monkeypatch.setattr(augment, "CAMERA", ())
    plain = pictures()
    assert (pictures() == plain).all()
    for name in ("occluded", "beside"):
        assert (pictures(**{name: 1}) != plain).any((1, 2, 3)).sum() > 4
    monkeypatch.setattr(augment, "CAMERA", ((inverted, 1.0),))
    assert (pictures() == 255 - plain).all()


def test_what_is_left_of_a_person_is_in_the_picture_and_the_rest_is_black() -> None:
    rng, white = np.random.default_rng(0), np.full((100, 100, 3), 255, np.uint8)
    keypoints = np.concatenate((rng.integers(5, 95, (17, 2)), np.full((17, 1), 2)), 1).astype(np.float32)
    x, y = keypoints[:, :2].astype(int).T
    counts = set()
    for _ in range(60):
        image, left = _part(white, keypoints, rng)
        counts.add(int(left.sum()))
        assert ((image[y, x, 0] > 0) == left).mean() > 0.8
    assert min(counts) >= 5 and max(counts) == 17 and white.all()
