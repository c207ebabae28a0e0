"""POET: files of other sizes, post-processing, and the training objective by hand."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pave_ros import postprocessing
from pave_ros.checkpoints import loading
from pave_ros.checkpoints.poet import LAYOUT
from pave_ros.models.poet import POET, build
from pave_ros.training import poet
from pave_ros.training.config import TrainingConfig
from pave_ros.training.poet import BARE, NOBODY, PERSON, POETCriterion, Truth
from pave_ros.training.sources import Mixture
from pave_ros.training.target import Target


@pytest.fixture(scope="module")
def model() -> POET:
    torch.manual_seed(0)
    return build("r50").eval()


# --- network and files ------------------------------------------------------------------------------------------


def test_sizes_are_the_published_ones(model: POET) -> None:
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(41.495, abs=1e-3)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained / 1e6 == pytest.approx(41.273, abs=1e-3), "the paper counts what is trained"


@pytest.mark.parametrize("size", [(64, 97), (33, 128)])
def test_any_input_size(model: POET, size: tuple[int, int]) -> None:
    with torch.no_grad():
        outputs = model(torch.rand(2, 3, *size))
    assert outputs["pred_logits"].shape == (2, 25, 3)
    assert outputs["pred_kpts"].shape == (2, 25, 53)


def test_the_dilated_variant_sees_four_times_the_cells(model: POET) -> None:
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert model.encode(picture)[0].shape[2:] == (2, 3)
        assert build("dc5_r50").eval().encode(picture)[0].shape[2:] == (4, 6)


def test_the_file_tells_the_number_of_queries_and_keypoints(tmp_path: Path) -> None:
    loading.save(build("r50", queries=50), tmp_path / "fifty.pth")
    opened = loading.open_model("poet_r50", tmp_path / "fifty.pth")
    assert isinstance(opened, POET)
    assert opened.queries.shape == (50, 256)
    assert LAYOUT.keypoint_count({"kpt_embed.layers.2.weight": torch.empty(44, 256)}) == 14
    assert LAYOUT.keypoint_count({}) is None


def test_the_published_training_checkpoint_keeps_its_arguments_beside_the_tensors(tmp_path: Path) -> None:
    content = {"model": {"a": torch.ones(2)}, "optimizer": {"state": {}}, "epoch": 3, "args": Namespace(lr=5e-5)}
    torch.save(content, tmp_path / "checkpoint.pth")
    assert loading.read(tmp_path / "checkpoint.pth")["a"].tolist() == [1, 1]


def test_the_pretrained_beginning_stays_as_it_is(model: POET) -> None:
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}


# --- from outputs to people -------------------------------------------------------------------------------------


def test_people_by_hand(model: POET) -> None:
    poses = np.full((1, 3, 53), 0.5)
    poses[0, :, :2] = 0.25, 0.5  # centre
    poses[0, 2, 2:5] = 0.75, 0.25, 0.9  # the nose half a picture to the right and up, and visible
    logits = np.array([[[0.0, 0.0, 5.0], [2.0, 1.0, 0.0], [0.0, 2.0, 0.0]]])
    people = postprocessing.persons(model.info, {"pred_logits": logits, "pred_kpts": poses}, (200, 100))
    assert len(people) == 1, "neither the first, as likely bare as a person, nor the second, rather bare"
    assert people.scores[0] == pytest.approx(math.exp(2) / (math.exp(2) + 2))
    np.testing.assert_allclose(people.keypoints[0, 0], [150, 0, 0.9], atol=1e-5)
    np.testing.assert_allclose(people.keypoints[0, 1], [50, 50, 0.5], atol=1e-5)


# --- training ---------------------------------------------------------------------------------------------------


def target(keypoints: list[list[list[float]]], visible: list[list[bool]], bare: int = 0) -> Target:
    points = torch.tensor(keypoints).reshape(len(keypoints), -1, 2)
    seen = torch.tensor(visible, dtype=torch.bool).reshape(points.shape[:2])
    none, boxes = torch.zeros(0, 4), torch.zeros(len(points), 4)
    return Target(points, torch.ones_like(seen), torch.ones(len(points)), none, seen, torch.zeros(bare, 4), boxes)


# Two keypoints of which the second is hidden: the centre is the first.
ONE = target([[[0.2, 0.4], [0.9, 0.9]]], [[True, False]])
# A guess: centre (0.3, 0.4); the first keypoint 0.1 to the right of that, 0.2 up and 0.75 visible; the other wrong.
GUESS = [0.3, 0.4, 0.55, 0.4, 0.75, 0.0, 0.0, 0.5]
# Place (0.4, 0.2) in place of (0.2, 0.4); offset as stored (0.55, 0.4) in place of (0.5, 0.5).
KEYPOINTS, OFFSETS, CENTRE, VISIBILITY = 0.2 + 0.2, 0.05 + 0.1, 0.1**2, 0.25**2 + 0.5**2


def test_truth_by_hand() -> None:
    two = target([[[0.2, 0.4], [0.4, 0.8]]], [[True, True]], bare=1)
    truth = Truth.of(two)
    assert truth.labels.tolist() == [PERSON, BARE]
    torch.testing.assert_close(truth.poses[0], torch.tensor([0.3, 0.6, 0.45, 0.4, 1.0, 0.55, 0.6, 1.0]))
    assert truth.seen.tolist() == [[True, True], [False, False]]
    torch.testing.assert_close(Truth.of(ONE).poses[0, :5], torch.tensor([0.2, 0.4, 0.5, 0.5, 1.0]))
    hidden = Truth.of(target([[[0.2, 0.4], [0.4, 0.8]]], [[False, False]]))
    assert hidden.labels.tolist() == [BARE]


def test_cost_by_hand() -> None:
    cost = POETCriterion().cost(torch.zeros(1, 3), torch.tensor([GUESS]), Truth.of(ONE))
    expected = -1 / 3 + 4 * KEYPOINTS + 0.5 * OFFSETS + 0.5 * math.sqrt(CENTRE) + 0.2 * math.sqrt(VISIBILITY)
    assert float(cost) == pytest.approx(expected, rel=1e-5)


def test_losses_by_hand() -> None:
    """Two queries for one person; the second is nobody's."""
    outputs = {
        "pred_logits": torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]),
        "pred_kpts": torch.tensor([[GUESS, GUESS]]),
    }
    losses = POETCriterion().losses(outputs, [Truth.of(ONE)], [(torch.tensor([0]), torch.tensor([0]))], people=2.0)
    person, nobody = -math.log(math.e / (math.e + 2)), math.log(3)
    assert float(losses["classes"]) == pytest.approx((person + 0.1 * nobody) / 1.1, rel=1e-5)
    assert float(losses["keypoints"]) == pytest.approx(4 * KEYPOINTS / 2, rel=1e-5)
    assert float(losses["offsets"]) == pytest.approx(0.5 * OFFSETS / 2, rel=1e-5)
    assert float(losses["centres"]) == pytest.approx(0.5 * CENTRE / 2, rel=1e-5)
    assert float(losses["visibility"]) == pytest.approx(0.2 * VISIBILITY / 2, rel=1e-5)


def test_whoever_has_no_visible_keypoint_costs_a_class_alone() -> None:
    truth = Truth.of(replace(ONE, visible=torch.zeros(1, 2, dtype=torch.bool)))
    logits = torch.tensor([[1.0, 0.0, 0.0]])
    cost = POETCriterion().cost(logits, torch.tensor([GUESS]), truth)
    assert float(cost) == pytest.approx(-math.e / (math.e + 2), rel=1e-5)
    outputs = {"pred_logits": logits[None], "pred_kpts": torch.tensor([[GUESS]])}
    losses = POETCriterion().losses(outputs, [truth], [(torch.tensor([0]), torch.tensor([0]))], people=1.0)
    assert float(losses.pop("classes")) == pytest.approx(-math.log(math.e / (math.e + 2)), rel=1e-5)
    assert all(float(loss) == 0 for loss in losses.values())


def test_halves_of_a_batch_cost_what_all_of_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two processes, of which one has a person and one nobody."""
    outputs = {"pred_logits": torch.tensor([[[0.0, 1.0, 0.0]] * 12, [[0.5, 0.0, 0.0]] * 12])}
    outputs["pred_kpts"] = torch.tensor([[GUESS] * 12] * 2)
    matches = [(torch.tensor([0]), torch.tensor([0])), (torch.tensor([], dtype=torch.long),) * 2]
    nobody = replace(ONE, keypoints=torch.zeros(0, 2, 2), visible=torch.zeros(0, 2, dtype=torch.bool))
    truths = [Truth.of(ONE), Truth.of(nobody)]
    whole = POETCriterion().losses(outputs, truths, matches, people=1.0)
    monkeypatch.setattr(poet, "mean_over_processes", lambda count, device: (1 + 23 * 0.1) / 2)
    halves = [
        POETCriterion().losses(
            {name: value[i : i + 1] for name, value in outputs.items()}, [truths[i]], [matches[i]], 0.5
        )
        for i in (0, 1)
    ]
    for name, loss in whole.items():
        assert float(halves[0][name] + halves[1][name]) / 2 == pytest.approx(float(loss), rel=1e-5)


def test_every_layer_is_supervised_and_a_picture_without_people_trains_the_class_alone() -> None:
    nobody = replace(ONE, keypoints=torch.zeros(0, 2, 2), visible=torch.zeros(0, 2, dtype=torch.bool))
    right = {"pred_logits": torch.tensor([[[0.0, 9.0, 0.0]], [[0.0, 0.0, 9.0]]]), "pred_kpts": torch.zeros(2, 1, 8)}
    right["pred_kpts"][0, 0] = Truth.of(ONE).poses[0]
    wrong = {"pred_logits": right["pred_logits"].flip(0), "pred_kpts": right["pred_kpts"] + 0.1}

    class Network(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            return [wrong, right]

    losses = POETCriterion()(Network(), torch.zeros(2, 3, 8, 8), [ONE, nobody], [0, 0])
    names = ("classes", "keypoints", "offsets", "centres", "visibility")
    assert set(losses) == {f"{name}_{layer}" for name in names for layer in (0, 1)}
    assert all(losses[f"{name}_0"] > 0.001 for name in names)
    assert all(losses[f"{name}_1"] < 0.001 for name in names)
    assert NOBODY == 2


def test_a_step_reaches_every_parameter_that_is_trained(model: POET) -> None:
    people = target([[[0.5, 0.5]] * 17], [[True] * 17])
    losses = poet.criterion("coco17")(poet.TrainingForward(model), torch.rand(1, 3, 64, 64), [people], [0])
    torch.stack(list(losses.values())).sum().backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_the_training_configuration_holds_the_published_settings() -> None:
    config = TrainingConfig.read(Path(__file__).parents[1] / "config/training/poet_r50.yaml")
    assert (config.model, config.batch_size, config.clip_norm, config.ema_decay) == ("poet_r50", 12, 0.1, 0.0)
    assert (config.learning_rate, config.backbone_learning_rate, config.weight_decay) == (5e-5, 5e-6, 1e-4)
    assert Mixture.from_dict(config.data).weights == {"coco": 1}
