"""DETRPose: its losses by hand, the matcher against brute force, and how its training begins."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import timm
import torch
import torch.multiprocessing
from dots import target
from safetensors.torch import save_file
from torch import Tensor

from pave_ros import models
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.models.detrpose import Prediction
from pave_ros.training import detrpose
from pave_ros.training.backbones import load_backbone
from pave_ros.training.detrpose import DETRPoseCriterion, noised_queries
from pave_ros.training.matching import Matcher, cheapest, keypoint_similarity, union
from pave_ros.training.target import Target

SIGMAS = torch.tensor([0.05, 0.1])


def test_similarity_by_hand() -> None:
    truth = torch.tensor([[[0.5, 0.5], [0.2, 0.2]]])
    guess = torch.tensor([[[0.5, 0.6], [0.9, 0.9]]])
    area = torch.tensor([0.1])
    both = keypoint_similarity(guess, truth, torch.tensor([[True, True]]), area, SIGMAS)
    first = math.exp(-(0.1**2) / (2 * 0.1 * 0.1**2))
    second = math.exp(-(2 * 0.7**2) / (2 * 0.1 * 0.2**2))
    assert float(both) == pytest.approx((first + second) / 2, rel=1e-4)
    only_first = keypoint_similarity(guess, truth, torch.tensor([[True, False]]), area, SIGMAS)
    assert float(only_first) == pytest.approx(first, rel=1e-4)


def test_matcher_finds_the_cheapest_of_all_assignments() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, keypoints = torch.randn(5, 2, generator=generator), torch.rand(5, 2, 2, generator=generator)
    people = target(3)
    matcher = Matcher(SIGMAS, 1, 2.0, 10.0, 4.0)
    cost = matcher.cost(logits, keypoints, people)
    ((queries, matched),) = matcher(logits[None], keypoints[None], [people])
    found = float(cost[queries, matched].sum())
    cheapest = min(sum(float(cost[q, m]) for m, q in enumerate(order)) for order in permutations(range(5), 3))
    assert found == pytest.approx(cheapest, rel=1e-6)


def test_cost_by_hand() -> None:
    matcher = Matcher(SIGMAS, 1, 2.0, 10.0, 4.0)
    one = replace(target(1), keypoints=torch.tensor([[[0.5, 0.5], [0.2, 0.2]]]), labelled=torch.tensor([[True, False]]))
    cost = matcher.cost(torch.tensor([[9.0, 0.0]]), torch.tensor([[[0.6, 0.5], [0.0, 0.0]]]), one)
    p = 0.5
    focal = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
    oks = math.exp(-(0.1**2) / (2 * 0.1 * 0.1**2))
    assert float(cost) == pytest.approx(2 * focal + 10 * 0.1 + 4 * (1 - oks), rel=1e-4)


def test_union_takes_the_most_frequent_person_of_every_query() -> None:
    a = [(torch.tensor([0, 1]), torch.tensor([0, 1]))]
    b = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    c = [(torch.tensor([0, 1]), torch.tensor([1, 0]))]
    ((queries, people),) = union([a, b, c])
    pairs = dict(zip(queries.tolist(), people.tolist(), strict=True))
    assert pairs[0] == 1 and pairs[2] == 0 and set(pairs) == {0, 1, 2}


def prediction(logits: list[list[float]], keypoints: Tensor) -> Prediction:
    return Prediction(torch.tensor([logits]), keypoints[None])


def coco_target() -> Target:
    return target(1, keypoints=17)


def test_varifocal_loss_by_hand() -> None:
    people = coco_target()
    criterion = DETRPoseCriterion("coco17")
    exact = people.keypoints[0]
    guess = prediction([[0.0, 1.0], [0.0, -1.0]], torch.stack((exact, exact + 1)))
    loss = criterion.class_loss(guess, [people], [(torch.tensor([0]), torch.tensor([0]))])

    def bce(logit: float, wanted: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(wanted * math.log(p) + (1 - wanted) * math.log(1 - p))

    def unmatched(logit: float) -> float:
        return 0.25 * (1 / (1 + math.exp(-logit))) ** 2 * bce(logit, 0)

    # The matched query lies on the person (OKS 1), so its weight and wanted score are both 1.
    assert float(loss) == pytest.approx(2 * (bce(1.0, 1.0) + 2 * unmatched(0.0) + unmatched(-1.0)), rel=1e-4)


def test_unmatched_queries_count_nothing_in_ignored_regions() -> None:
    criterion = DETRPoseCriterion("coco17")
    nobody = replace(target(0, keypoints=17), ignored=torch.tensor([[0.4, 0.4, 0.2, 0.2]]))
    nothing = [(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))]
    within = prediction([[0.0, 3.0]], torch.full((1, 17, 2), 0.5))
    outside = prediction([[0.0, 3.0]], torch.full((1, 17, 2), 0.7))
    assert float(criterion.class_loss(within, [nobody], nothing)) == 0
    assert float(criterion.class_loss(outside, [nobody], nothing)) > 0


def test_noised_people_are_told_apart_wherever_they_stand() -> None:
    """Nobody else is meant by them, so it does not matter that others nearby are not annotated."""
    torch.manual_seed(0)
    model = models.create("detrpose_n", skeleton="coco17")
    beside_a_crowd = replace(target(1, 17), ignored=torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    criterion = DETRPoseCriterion("coco17")
    images = torch.rand(1, 3, 96, 96)
    alone, crowded = (
        criterion(detrpose.TrainingForward(model.eval()), images, [truth], [0])
        for truth in (target(1, 17), beside_a_crowd)
    )
    for name, loss in crowded.items():
        if name.startswith("denoised"):
            assert float(loss) == pytest.approx(float(alone[name]), rel=1e-5)
    assert float(crowded["classes_0"]) < float(alone["classes_0"])


def test_keypoint_losses_by_hand() -> None:
    criterion = DETRPoseCriterion("coco17")
    people = coco_target()
    people.labelled[0, 5:] = False
    guess = prediction([[0.0, 0.0]], people.keypoints + torch.tensor([0.01, -0.02]))
    l1, oks = criterion.keypoint_losses(guess, [people], [(torch.tensor([0]), torch.tensor([0]))])
    assert float(l1) == pytest.approx(10 * 5 * 0.03, rel=1e-4)
    sigmas = (0.026, 0.025, 0.025, 0.035, 0.035)
    similar = sum(math.exp(-(0.01**2 + 0.02**2) / (2 * 0.1 * (2 * s) ** 2)) for s in sigmas) / 5
    assert float(oks) == pytest.approx(4 * (1 - similar), rel=1e-3)


def test_noise_is_measured_in_oks_and_groups_do_not_see_each_other() -> None:
    people = coco_target()
    noised, groups = noised_queries([people, target(0, 17)], DETRPoseCriterion("coco17").matcher.sigmas, seeds=[3, 4])
    assert noised is not None and groups == 20
    assert noised.points.shape == (2, 40, 17, 2)
    assert noised.used[0].all() and not noised.used[1].any()
    inner = ((people.keypoints > 0.1) & (people.keypoints < 0.9)).all(-1)[0]  # where nothing is clamped
    sigmas = DETRPoseCriterion("coco17").matcher.sigmas
    squared = (noised.points[0] - people.keypoints[0]).square().sum(-1)
    oks = torch.exp(-squared / (2 * 0.1 * (2 * sigmas) ** 2))[:, inner]
    assert (oks[0::2] >= 0.5 - 1e-3).all(), "slightly noised"
    assert (oks[1::2] <= 0.5 + 1e-3).all() and (oks[1::2] >= 0.1 - 1e-3).all(), "strongly noised"
    mask = noised.mask(60)
    assert not mask[0, 1] and mask[0, 2]
    assert mask[40:, :40].all() and not mask[:, 40:].any()


def test_a_batch_without_people_trains_too() -> None:
    model = models.create("detrpose_n").train()
    criterion = DETRPoseCriterion("coco17")
    losses = criterion(detrpose.TrainingForward(model), torch.rand(2, 3, 96, 96), [target(0, 17)] * 2, [0, 1])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)


@pytest.mark.parametrize(("variant", "reaches"), [("n", 0), ("s", 4)])
def test_training_starts_as_published(variant: str, reaches: int) -> None:
    model = models.create("detrpose", variant)
    features = model.encode(torch.rand(1, 3, 128, 128))
    best = model.selection(features)
    assert 0 < float(best.logits.detach().sigmoid().mean()) < 0.05, "nobody is likely"
    assert float(best.keypoints.detach().var(2).max()) < 1e-9, "all joints are where their cell is"
    for projection in model.encoder.input_proj:
        weight = projection.conv.weight
        assert float(weight.abs().max()) == pytest.approx(math.sqrt(6 / sum(weight.shape[:2])), rel=0.01), "Xavier"
    for layer in model.decoder.layers:
        offsets = layer.cross_attn.sampling_offsets
        assert not offsets.weight.any() and float(offsets.bias.abs().max()) == reaches


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_backbone_starts_from_timms_file_by_name_and_from_others_by_order(tmp_path: Path, ending: str) -> None:
    """safetensors sorts what it holds."""
    path, model = tmp_path / f"imagenet.{ending}", models.create("detrpose_n")
    torch.manual_seed(3)
    state = timm.create_model(model.backbone_name).state_dict()
    if ending == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save({f"their.{number}": value for number, value in enumerate(state.values())}, path)
    load_backbone(model, path)
    assert torch.equal(model.get_parameter("backbone.stem.stem1.conv.weight"), state["stem.stem1.conv.weight"])
    state.pop("head.fc.bias")
    torch.save(state, path.with_suffix(".pth"))
    with pytest.raises(
        CheckpointError, match=rf"holds {len(state)} tensors, {model.backbone_name} has {len(state) + 1}"
    ):
        load_backbone(model, path.with_suffix(".pth"))


def test_keypoints_learn_from_all_matchings_and_classes_from_their_own() -> None:
    """Each of two predictions has another query on the person, and one in either of two pictures half of it beside."""
    person = replace(coco_target(), keypoints=torch.full((1, 17, 2), 0.25))
    here, beside = torch.full((17, 2), 0.25), torch.tensor([0.75, 0.25]).repeat(17, 1)
    predictions = [
        Prediction(torch.zeros(2, 2, 2), torch.stack(order).expand(2, -1, -1, -1))
        for order in ((here, beside), (beside, here))
    ]
    losses = DETRPoseCriterion("coco17", detrpose.Options(denoising=0))(
        lambda images, noised: (predictions, []), torch.zeros(2, 3, 32, 32), [person, person], [0, 1]
    )
    for index in (0, 1):
        # For each person the one that is right is to be 1, the three others 0, which counts a quarter of a quarter.
        assert float(losses[f"classes_{index}"]) == pytest.approx(2 * math.log(2) * (1 + 3 / 16), rel=1e-4)
        # Of the two queries for each person one is half a picture off, with all of its joints.
        assert float(losses[f"keypoints_{index}"]) == pytest.approx(10 * 17 * 0.5 / 2, rel=1e-5)
        assert float(losses[f"oks_{index}"]) == pytest.approx(4 * 1 / 2, rel=1e-4)


def test_noised_queries_belong_to_the_people_of_their_place_in_every_group() -> None:
    """With room for two people, a group has two slightly noised ones and two strongly noised ones."""
    matches = detrpose.denoising_matches([target(1), target(2), target(0)], 2, torch.device("cpu"))
    pairs = [list(zip(queries.tolist(), people.tolist(), strict=True)) for queries, people in matches]
    assert pairs == [[(0, 0), (4, 0)], [(0, 0), (1, 1), (4, 0), (5, 1)], []]
    noised, groups = noised_queries([target(1), target(2), target(0)], SIGMAS, [0, 1, 2], positives=4)
    assert noised is not None and groups == 2
    assert noised.used.nonzero().tolist() == [[0, 0], [0, 2], [0, 4], [0, 6], *([1, query] for query in range(8))]


def test_noised_joints_stay_in_the_picture_and_those_not_labelled_start_at_the_centre() -> None:
    corners = replace(
        target(1, 4),
        keypoints=torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.5, 0.2], [7.0, 7.0]]]),
        labelled=torch.tensor([[True, True, True, False]]),
    )
    noised, _ = noised_queries([corners], torch.full((4,), 0.1), [0])
    assert noised is not None
    torch.testing.assert_close(noised.points[0, :, 3], torch.tensor([0.5, 0.4]).repeat(40, 1))
    # The logit of where a query starts has to be finite.
    assert float(noised.points.min()) == pytest.approx(0.001) and float(noised.points.max()) == pytest.approx(0.999)


def test_a_quarter_of_the_noised_people_are_called_something_at_random() -> None:
    noised, _ = noised_queries([target(100)], SIGMAS, [0], positives=2000)
    assert noised is not None
    labels = noised.labels[0]
    assert float((labels != detrpose.PERSON).float().mean()) == pytest.approx(0.25 * 79 / 80, abs=0.02)
    assert labels.unique().tolist() == list(range(80))


def test_noised_people_cost_what_is_not_restored_of_each_group() -> None:
    """One of two groups is restored, the other one half a picture off; that people nearby are not annotated is all one,
    for noised queries are known."""
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    person = replace(coco_target(), keypoints=torch.full((1, 17, 2), 0.25), ignored=whole)
    here, beside = torch.full((17, 2), 0.25), torch.tensor([0.75, 0.25]).repeat(17, 1)
    nobody = Prediction(torch.zeros(2, 1, 2), beside.expand(2, 1, -1, -1))
    restored = Prediction(torch.zeros(2, 4, 2), torch.stack((here, here, beside, here)).expand(2, -1, -1, -1))
    losses = DETRPoseCriterion("coco17", detrpose.Options(denoising=2))(
        lambda images, noised: ([nobody], [restored]), torch.zeros(2, 3, 32, 32), [person, person], [0, 1]
    )
    assert float(losses["denoised_keypoints_0"]) == pytest.approx(10 * 17 * 0.5 / 2, rel=1e-5)
    assert float(losses["denoised_oks_0"]) == pytest.approx(4 * 1 / 2, rel=1e-4)
    # The first query is to be 1, the third, whose OKS is 0, counts nothing; the six other logits are to be 0.
    assert float(losses["denoised_classes_0"]) == pytest.approx(2 * math.log(2) * (1 + 6 / 16) / 2, rel=1e-4)


def test_what_is_no_number_is_matched_where_nothing_else_is_left() -> None:
    """The loss says that something is wrong, with a name and the batch; the matching does not break off before."""
    nan, inf = float("nan"), float("inf")
    for costs, expected in (
        ([[nan], [3.0], [2.0]], ([2], [0])),
        ([[nan, inf], [3.0, -inf], [1.0, -1.0]], ([1, 2], [1, 0])),
        ([[nan, 1.0], [nan, 2.0]], ([0, 1], [1, 0])),
        ([[inf]], ([0], [0])),
    ):
        ((queries, people),) = cheapest([torch.tensor(costs)])
        assert (queries.tolist(), people.tolist()) == expected
