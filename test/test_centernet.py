"""CenterNet: which cells learn whom, the losses by hand, a few steps of training, and how joints are placed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pave_ros import models, postprocessing
from pave_ros.models.centernet import ELSEWHERE
from pave_ros.models.layers import cell_centres
from pave_ros.postprocessing import centernet_people
from pave_ros.training import centernet
from pave_ros.training.centernet import assignments, centre_maps, joint_loss, joint_maps
from pave_ros.training.target import Target


def people(*boxes: tuple[float, float, float, float]) -> Target:
    """People with their keypoints in the corners of their boxes (x, y, width, height)."""
    corners = [[[x, y], [x + w, y], [x, y + h], [x + w, y + h]] * 4 + [[x, y]] for x, y, w, h in boxes]
    return Target(
        keypoints=torch.tensor(corners).reshape(-1, 17, 2),
        labelled=torch.ones(len(boxes), 17, dtype=torch.bool),
        areas=torch.tensor([w * h for *_, w, h in boxes]),
        ignored=torch.zeros(0, 4),
        visible=torch.ones(len(boxes), 17, dtype=torch.bool),
        bare=torch.zeros(0, 4),
        boxes=torch.tensor(boxes).reshape(-1, 4),
    )


def test_cells_run_row_by_row_from_the_finest_map() -> None:
    centres = cell_centres([(2, 4), (1, 1)])
    assert centres.tolist()[:2] == [[0.125, 0.25], [0.375, 0.25]]
    assert centres.tolist()[4] == [0.125, 0.75]
    assert centres.tolist()[8] == [0.5, 0.5]


def test_a_person_is_a_spot_where_the_middle_of_the_keypoints_lies() -> None:
    # Nine of 17 keypoints on the left, eight on the right: the middle is a little left of and above that of the box.
    one = people((0.25, 0.0, 0.5, 0.5))
    middle = one.keypoints[0].mean(0)
    spots, known = centre_maps(one, 8, 8)
    assert known.all() and spots.shape == (1, 64)
    cell = int(middle[1] * 8) * 8 + int(middle[0] * 8)
    assert float(spots[0, cell]) == 1 and int(spots.argmax()) == cell
    assert float(spots[0, cell + 1]) == pytest.approx(math.exp(-1 / (2 * 0.7**2)))  # small: the least spread
    one.labelled[0, 1:] = False
    spots, _ = centre_maps(one, 8, 8)
    assert int(spots.argmax()) == 2, "only what is labelled counts"


def test_the_spots_of_large_people_are_wide() -> None:
    spots, _ = centre_maps(people((0.0, 0.0, 1.0, 1.0)), 80, 80)  # 80 cells long
    assert sorted(set(spots[0].tolist()))[-2] == pytest.approx(math.exp(-1 / (2 * 3.2**2)))


def test_nobody_knows_about_people_in_ignored_regions() -> None:
    crowd = replace(people(), ignored=torch.tensor([[0.0, 0.0, 0.5, 0.5]]))
    spots, known = centre_maps(crowd, 4, 4)
    assert spots.shape == (0, 16) and known.view(4, 4).tolist() == [[False] * 2 + [True] * 2] * 2 + [[True] * 4] * 2


def test_cells_between_people_learn_the_nearer_and_people_are_counted_over_the_batch() -> None:
    empty, one = people(), people((0, 0, 0.5, 0.5))
    two = people((0.0, 0.0, 0.25, 0.5), (0.5, 0.0, 0.25, 0.5))
    spots = [centre_maps(target, 8, 8)[0] for target in (one, empty, two)]
    found = assignments(spots, torch.device("cpu"))
    assert set(zip(found.pictures.tolist(), found.people.tolist(), strict=True)) == {(0, 0), (2, 1), (2, 2)}
    for picture, cell, person in zip(found.pictures, found.cells, found.people, strict=True):
        assert spots[picture][person - (picture > 0).long(), cell] >= 0.5
    last = dict(zip(found.people.tolist(), found.cells.tolist(), strict=True))
    assert last[1] % 8 < 2 and 4 <= last[2] % 8 < 6


def test_losses_by_hand() -> None:
    """One person of four cells, found nowhere: all scores one half, all keypoints in one place."""
    criterion = centernet.criterion("coco17")
    one = people((0.25, 0.25, 0.5, 0.5))

    def forward(images: torch.Tensor, pictures: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert images.shape[-2:] == (8, 8) and pictures.tolist() == [0] * len(cells) and len(cells) == 1
        return torch.zeros(1, 4), torch.full((1, 17, 2), 0.25), torch.zeros(1, 17, 2, 2)

    losses = criterion(forward, torch.zeros(1, 3, 8, 8), [one], [0])  # type: ignore[arg-type]
    spots, _ = centre_maps(one, 2, 2)
    elsewhere = sum((1 - spot) ** 4 * 0.25 * math.log(2) for spot in spots[0].tolist() if spot < 1)
    assert float(losses["centres"]) == pytest.approx(2 * (0.25 * math.log(2) + elsewhere), rel=1e-4)
    assert float(losses["keypoints"]) == pytest.approx(10 * 0.5 * (8 + 8), rel=1e-4)  # the right ones, the lower ones


def test_joints_have_their_spot_and_the_unlabelled_are_unknown_within_the_person() -> None:
    one = people((0.25, 0.25, 0.5, 0.5))
    one.labelled[0, 0] = False  # but the keypoints 4, 8, 12 and 16 lie in the same place
    spots, known = joint_maps(one, 8, 8)
    assert float(spots[4, 2, 2]) == 1 and float(spots[0].max()) == 0
    assert float(spots[4, 2, 3]) == pytest.approx(math.exp(-1 / (2 * 0.7**2)))
    assert not known[0, 4, 4] and known[0, 0, 0] and known[4].all()
    crowd = replace(one, ignored=torch.tensor([[0.0, 0.0, 0.2, 0.2]]))
    assert not joint_maps(crowd, 8, 8)[1][:, 0, 0].any()


def test_joint_loss_by_hand() -> None:
    one = people((0.25, 0.25, 0.5, 0.5))
    loss = joint_loss(torch.zeros(1, 17, 1, 2), [one])  # all scores one half; every joint in one of two cells
    elsewhere = (1 - math.exp(-1 / (2 * 0.7**2))) ** 4 * 0.25 * math.log(2)
    assert float(loss) == pytest.approx(0.25 * math.log(2) + elsewhere, rel=1e-4)


def test_a_few_steps_move_the_keypoints_to_the_person() -> None:
    torch.manual_seed(0)
    model = models.create("centernet_lite").train()
    person = people((0.3, 0.3, 0.4, 0.4))
    criterion, forward = centernet.criterion("coco17"), centernet.TrainingForward(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images = torch.randn(2, 3, 64, 64)
    history = []
    for _ in range(20):
        losses = criterion(forward, images, [person, people()], [0, 1])
        history.append({name: float(value.detach()) for name, value in losses.items()})
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert history[-1]["keypoints"] < 0.5 * history[0]["keypoints"]
    assert history[-1]["oks"] < 0.8 * history[0]["oks"]


def test_a_batch_without_people_trains_too() -> None:
    model = models.create("centernet_lite").train()
    forward = centernet.TrainingForward(model)
    losses = centernet.criterion("coco17")(forward, torch.randn(1, 3, 64, 64), [people()], [0])
    torch.stack(list(losses.values())).sum().backward()
    assert float(losses["keypoints"].detach()) == 0 and float(losses["centres"].detach()) > 0


def test_people_are_the_highest_cells_around() -> None:
    model = models.create("centernet_lite")
    with torch.no_grad():
        features = model.encode(torch.randn(1, 3, 64, 64))
        centres, poses, _ = model.maps(features[0])  # type: ignore[operator]
        out = model.decode([features])
    logits = out["pred_logits"][0]
    assert logits[0] == centres.max() and (logits[:-1] >= logits[1:]).all()
    peaks = logits > ELSEWHERE
    assert 0 < peaks.sum() < 64, "a neighbour of a higher cell is nobody"
    y, x = divmod(int(centres.argmax()), 16)
    assert torch.equal(out["pred_keypoints"][0, 0], poses[0, :, y, x])


# --- post-processing ----------------------------------------------------------------------------------------------


def outputs(
    rough: list[list[tuple[float, float]]], scores: list[float], spots: list[tuple[int, int, int]]
) -> dict[str, np.ndarray]:
    """Raw outputs with two joints on a map of 10x10 cells, with spots (joint, row, column)."""
    joints = np.zeros((1, 2, 10, 10), np.float32)
    for joint, row, column in spots:
        joints[0, joint, row, column] = 0.9
    logits = np.log(np.array(scores) / (1 - np.array(scores)))
    return {
        "pred_logits": logits[None].astype(np.float32),
        "pred_keypoints": np.array(rough, np.float32).reshape(1, len(rough), -1),
        "joints": joints,
    }


def test_rough_keypoints_go_to_the_near_spot_of_their_own_joint() -> None:
    raw = outputs([[(0.2, 0.2), (0.2, 0.8)]], [0.9], [(0, 2, 2), (0, 9, 9), (1, 7, 2), (1, 2, 2)])
    keypoints, scores = centernet_people(raw, (200, 100))
    weight = 0.9 / (0.9 + postprocessing.CENTERNET_SPOT)
    assert keypoints[0, 0, :2] == pytest.approx([weight * 50 + (1 - weight) * 40, weight * 25 + (1 - weight) * 20])
    assert keypoints[0, 1, :2] == pytest.approx([weight * 50 + (1 - weight) * 40, weight * 75 + (1 - weight) * 80])
    assert keypoints[0, :, 2] == pytest.approx([0.9, 0.9])
    assert scores[0] == pytest.approx((0.9 * math.sqrt(0.9)) ** postprocessing.CENTERNET_POWER, rel=1e-5)


def test_a_spot_is_of_whom_it_is_nearest_to() -> None:
    """The second joint of the first person is faint, and the neighbour's in reach is strong."""
    faint, other = [(0.2, 0.2), (0.4, 0.6)], [(0.6, 0.2), (0.55, 0.75)]

    def joint_of_first(people: list[list[tuple[float, float]]], scores: list[float]) -> np.ndarray:
        raw = outputs(people, scores, [(0, 2, 2), (0, 2, 6), (1, 7, 5)])
        raw["joints"][0, 1, 6, 3] = 0.2
        keypoints, _ = centernet_people(raw, (100, 100))
        return keypoints[0, 1]

    assert joint_of_first([faint], [0.9])[2] == pytest.approx(0.9), "nobody else is there"
    assert joint_of_first([faint, other], [0.9, 0.6])[2] == pytest.approx(0.2)
    assert joint_of_first([faint, other], [0.9, 0.6])[:2] == pytest.approx([36, 64], abs=3)
    assert joint_of_first([faint, other], [0.9, 0.025])[2] == pytest.approx(0.9), "who is hardly there takes nothing"


def test_without_a_spot_the_rough_keypoint_stays_and_is_unsure() -> None:
    keypoints, scores = centernet_people(outputs([[(0.2, 0.3), (0.4, 0.8)]], [0.9], []), (100, 100))
    assert keypoints[0, :, :2] == pytest.approx(np.array([[20, 30], [40, 80]]), abs=1e-3)
    assert float(keypoints[0, :, 2].max()) == 0 and float(scores[0]) == 0


def test_spots_between_cells_are_found_by_their_centre_of_mass() -> None:
    raw = outputs([[(0.3, 0.2), (0.2, 0.8)]], [0.9], [(0, 2, 2), (0, 2, 3), (1, 7, 2)])
    keypoints, _ = centernet_people(raw, (100, 100))
    weight = 0.9 / (0.9 + postprocessing.CENTERNET_SPOT)
    assert keypoints[0, 0, :2] == pytest.approx([30, 25 * weight + 20 * (1 - weight)], abs=1e-3)


def test_cells_of_the_same_person_are_one() -> None:
    same, moved, other = [(0.2, 0.2), (0.2, 0.6)], [(0.22, 0.2), (0.22, 0.62)], [(0.7, 0.2), (0.7, 0.6)]
    spots = [(0, 2, 2), (1, 6, 2), (0, 2, 7), (1, 6, 7)]
    keypoints, scores = centernet_people(outputs([moved, same, other], [0.4, 0.8, 0.6], spots), (100, 100))
    assert len(keypoints) == 2 and scores[0] > scores[1]
    assert keypoints[0, 0, 0] < 30 and keypoints[1, 0, 0] > 60


def test_a_threshold_leaves_out_who_is_below_it_and_nobody_else() -> None:
    rng = np.random.default_rng(0)
    people = [[(x, y), (x, y + 0.3)] for x, y in rng.random((30, 2)) * (0.9, 0.6)]
    raw = outputs(people, list(rng.random(30) * 0.98 + 0.01), [(j, *rng.integers(0, 10, 2)) for j in (0, 1) * 40])
    everybody, scores = centernet_people(raw, (100, 100))
    for threshold in (0.3, 0.6, 0.9):
        some, theirs = centernet_people(raw, (100, 100), threshold)
        above = theirs >= threshold
        assert np.array_equal(theirs[above], scores[scores >= threshold])
        assert np.array_equal(some[above], everybody[scores >= threshold])
        assert 0 < len(theirs) < len(scores), "who cannot reach it is not even looked at"


def test_nobody() -> None:
    keypoints, scores = centernet_people(outputs([[(0.2, 0.2), (0.2, 0.6)]], [0.001], []), (100, 100))
    assert keypoints.shape == (0, 2, 3) and scores.shape == (0,)


def test_who_reaches_the_threshold_by_the_power_of_the_score_is_not_left_out() -> None:
    raw = outputs([[(0.25, 0.25), (0.25, 0.75)]], [0.25], [(0, 2, 2), (1, 7, 2)])
    _, scores = centernet_people(raw, (100, 100), 0.3)
    assert scores == pytest.approx([(0.25 * math.sqrt(0.9)) ** postprocessing.CENTERNET_POWER], rel=1e-5)


def test_a_child_in_front_of_somebody_is_another_person() -> None:
    """Near to them for their size, and not for the child's."""
    adult, child = [(0.4, 0.1), (0.4, 0.9)], [(0.45, 0.35), (0.45, 0.65)]
    keypoints, _ = centernet_people(outputs([adult, child], [0.9, 0.6], []), (100, 100))
    assert len(keypoints) == 2


def test_a_spot_in_the_corner_lies_in_its_cell() -> None:
    raw = outputs([[(0.05, 0.05), (0.95, 0.95)]], [0.9], [(0, 0, 0), (1, 9, 9)])
    keypoints, _ = centernet_people(raw, (100, 100))
    assert keypoints[0, :, :2] == pytest.approx(np.array([[5, 5], [95, 95]]), abs=1e-3)


def test_the_length_of_a_person_is_counted_in_cells() -> None:
    spots, _ = centre_maps(people((0.0, 0.4, 1.0, 0.1)), 20, 80)  # 80 cells long, 2 high
    assert sorted(set(spots[0].tolist()))[-2] == pytest.approx(math.exp(-1 / (2 * 3.2**2)))


def test_unlabelled_keypoints_cost_nothing_and_a_large_person_no_more_than_a_small_one() -> None:
    one = people((0.0, 0.0, 1.0, 1.0))
    one.labelled[0, 4:] = False

    def forward(images: torch.Tensor, pictures: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert len(cells) > 4
        keypoints = torch.full((len(cells), 17, 2), 50.0)
        keypoints[:, :4] = one.keypoints[0, :4] + 2
        return torch.zeros(1, 6400), keypoints, torch.zeros(1, 17, 80, 80)

    losses = centernet.criterion("coco17")(forward, torch.zeros(1, 3, 320, 320), [one], [0])  # type: ignore[arg-type]
    assert float(losses["keypoints"]) == pytest.approx(10 * 4 * (2 + 2), rel=1e-4)
    assert float(losses["oks"]) == pytest.approx(4, rel=1e-4)


def test_unlabelled_joints_are_unknown_a_little_beyond_the_others_too() -> None:
    one = people((0.25, 0.25, 0.5, 0.5))
    one.labelled[0, 0] = False
    known = joint_maps(one, 20, 20)[1][0]  # the person reaches from cell 5 to cell 15, with a tenth beyond to 4 and 16
    assert not known[4:16, 4:16].any() and known[:4].all() and known[16:].all()
