"""QueryPose: regions, boxes, people and losses by hand, published key names, and exported files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pave_ros import models, postprocessing, skeletons
from pave_ros.checkpoints import loading
from pave_ros.checkpoints.querypose import LAYOUT
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.models import querypose
from pave_ros.models.querypose import Prediction, body_parts, cut_out, moved
from pave_ros.training.focal import focal_cost, focal_loss
from pave_ros.training.querypose import QueryPoseCriterion, TrainingForward, Truth, criterion, within
from pave_ros.training.target import Target

GOLDEN = Path(__file__).parent / "golden"


def for_four_people() -> querypose.QueryPose:
    """A network that looks for four people all over the picture."""
    torch.manual_seed(0)
    model = querypose.build("r50_light", queries=4).eval()
    with torch.no_grad():
        model.first_boxes.weight.copy_(torch.tensor([[0.3, 0.3, 0.4, 0.5], [0.6, 0.5, 0.3, 0.8]] * 2))
    return model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> querypose.QueryPose:
    """A network of one stage."""
    monkeypatch.setattr(querypose, "STAGES", 1)
    return for_four_people()


# --- the network ------------------------------------------------------------------------------------------------------


def test_boxes_move_by_hand() -> None:
    deltas = torch.tensor([[1.0, -0.5, math.log(2), 0.0], [0.0, 0.0, 100.0, 0.0]])
    boxes = moved(torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 2.0, 2.0]]), deltas)
    # Centre (20, 40), size (20, 40): half a width right, a quarter of the height up, and twice as wide.
    torch.testing.assert_close(boxes[0], torch.tensor([10.0, 10.0, 50.0, 50.0]))
    assert boxes[1, 2].item() == pytest.approx(1 + 100000 / 16)


def test_regions_are_the_same_by_sampling() -> None:
    """Also of boxes that lie partly or wholly outside, or are empty."""
    torch.manual_seed(0)
    features = torch.randn(2, 8, 20, 30, dtype=torch.float64)
    boxes = torch.rand(2, 50, 4, dtype=torch.float64) * 60 - 15
    boxes[..., 2:] = boxes[..., :2] + torch.rand(2, 50, 2) * 40
    boxes[:, 0, 2:] = boxes[:, 0, :2]
    regions = querypose.aligned_regions(features, boxes, 7)
    assert (regions == 0).flatten(1).all(1).any() and (regions != 0).any()
    torch.testing.assert_close(querypose.sampled_regions(features, boxes, 7), regions)


def test_a_region_comes_from_the_map_that_suits_its_size() -> None:
    maps = [torch.full((1, 2, 512 // s, 512 // s), float(s)) for s in (4, 8, 16, 32)]
    sides = torch.tensor([20.0, 111.0, 113.0, 223.0, 225.0, 400.0, 510.0])
    boxes = torch.stack((torch.ones(7), torch.ones(7), sides + 1, sides + 1), -1)
    regions = cut_out(maps, boxes[None], 7)
    assert regions.shape == (7, 2, 7, 7)
    assert regions.mean((1, 2, 3)).tolist() == [4, 4, 8, 8, 16, 16, 32]


def test_a_region_holds_the_means_of_its_cells() -> None:
    row = torch.arange(16.0).expand(
        1, 1, 16, 16
    )  # Cell x reaches from 4 x to 4 x + 4 pixels, its centre has the value x.
    region = cut_out([row], torch.tensor([[[8.0, 8.0, 36.0, 36.0]]]), 7)
    torch.testing.assert_close(region[0, 0, 0], torch.arange(7) + 2.0)


@torch.no_grad()
def test_half_precision_keeps_boxes_in_full(tiny: querypose.QueryPose) -> None:
    picture = torch.randn(1, 3, 64, 96)
    full = tiny(picture)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = tiny(picture)
    half = tiny.half()(picture.half())
    for outputs in (mixed, half):
        assert outputs["boxes"].dtype == torch.float32
        torch.testing.assert_close(outputs["boxes"], full["boxes"], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("layout", ["coco17", "posetrack15", "crowdpose14", "jhmdb15"])
def test_every_keypoint_is_in_one_part(layout: str) -> None:
    parts = body_parts(layout)
    assert len(parts) == 7
    assert sorted(k for part in parts for k in part) == list(range(len(skeletons.get(layout))))


def test_parts_of_coco_are_the_published_ones() -> None:
    assert body_parts("coco17") == ((0, 1, 2, 3, 4), (5, 6), (7, 9), (8, 10), (11, 12), (13, 15), (14, 16))


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch_nor_on_padding(tiny: querypose.QueryPose) -> None:
    pictures = torch.randn(2, 3, 64, 96)
    both = tiny(pictures)
    alone = tiny(pictures[1:])
    for name, value in both.items():
        torch.testing.assert_close(value[1:], alone[name], rtol=1e-4, atol=1e-5)
    # A picture that is no multiple of 32 sees what one sees that ends in zeros; only the first boxes are smaller.
    *padded, size = tiny.encode(pictures[:, :, :50, :70])
    *zeros, _ = tiny.encode(torch.nn.functional.pad(pictures[:, :, :50, :70], (0, 26, 0, 14)))
    assert size.tolist() == [[70, 50]] * 2
    for a, b in zip(padded, zeros, strict=True):
        assert torch.equal(a, b)


def test_an_exported_file_finds_the_same(tiny: querypose.QueryPose, tmp_path: Path) -> None:
    pictures = torch.randn(3, 3, 64, 90)
    with torch.no_grad():
        expected = {name: value.numpy() for name, value in tiny(pictures).items()}
    session = onnxruntime.InferenceSession(str(export_onnx(tiny, tmp_path / "tiny.onnx", (64, 90))))
    assert {node.domain for node in onnx.load(tmp_path / "tiny.onnx").graph.node} == {""}  # Standard operators only.
    names = [output.name for output in session.get_outputs()]
    for count in (1, 3):
        found = session.run(None, {"images": pictures[:count].numpy()})
        for name, value in zip(names, found, strict=True):
            np.testing.assert_allclose(value, expected[name][:count], rtol=1e-3, atol=1e-4)


# --- published checkpoints --------------------------------------------------------------------------------------------

# Variant -> (keys, parameters) of the published checkpoints, as their code has them.
PUBLISHED = {
    "r50": (1209, 322.6),
    "hrnet_w32_light": (2662, 194.3),
    "hrnet_w48": (2769, 364.5),
    "hrnet_w48_light": (2661, 230.6),
}


@pytest.mark.parametrize("variant", querypose.VARIANTS)
def test_published_keys_are_ours_and_back(variant: str) -> None:
    with torch.device("meta"):
        model = models.create("querypose", variant)
    layout = LAYOUT.of(model)
    published = {layout.to_published(key) for key in model.state_dict()}
    assert {layout.to_ours(key) for key in published} == set(model.state_dict())
    heads = {"backbone", "criterion", "head", "init_proposal_boxes", "init_proposal_features", "part_query"}
    assert {key.partition(".")[0] for key in published} == heads
    if variant in PUBLISHED:
        keys, millions = PUBLISHED[variant]
        assert len(published) == keys
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.2)


def test_r50_has_the_published_keys_and_shapes() -> None:
    keys = json.loads((GOLDEN / "querypose_r50.json").read_text())["keys"]
    with torch.device("meta"):
        model = models.create("querypose_r50", queries=3)
    layout = LAYOUT.of(model)
    ours = {layout.to_published(key): list(value.shape) for key, value in model.state_dict().items()}
    assert {key: ours.get(key) for key in keys} == keys
    assert set(ours) - set(keys) == {"criterion.flow.flow.mask", "init_proposal_boxes.weight"}


@torch.no_grad()
def test_written_files_are_read_again(tiny: querypose.QueryPose, tmp_path: Path) -> None:
    loading.save(tiny, tmp_path / "tiny.pth")
    assert set(torch.load(tmp_path / "tiny.pth", weights_only=True)) == {"model", "skeleton"}
    model = loading.open_model("querypose_r50", tmp_path / "tiny.pth")  # The file tells that it is light.
    assert model.info.name == "querypose_r50_light" and model.info.trained
    picture = torch.randn(1, 3, 64, 64)
    for name, value in tiny(picture).items():
        assert torch.equal(value, model(picture)[name])
    with pytest.raises(loading.CheckpointError, match=r"key 'backbone\.\S+' is missing, which querypose_swin_l_light"):
        loading.open_model("querypose_swin_l", tmp_path / "tiny.pth")


def test_swin_files_hold_the_tables_of_places() -> None:
    with torch.device("meta"):
        model = models.create("querypose_swin_l")
    tables = LAYOUT.derived(model)
    assert len(tables) == 2 + 2 + 18 + 2
    assert tables["backbone.bottom_up.layers.2.blocks.17.attn.relative_position_index"].shape == (49, 49)


def test_the_file_tells_whether_a_model_is_light_and_how_many_people_it_seeks() -> None:
    boxes = {"init_proposal_boxes.weight": torch.zeros(300, 4)}
    full = {"head.pose_head_series.0.pose_decoder_inst_interact.norm1.weight": torch.zeros(64)}
    assert LAYOUT.options(boxes) == {"light": True, "queries": 300}
    assert LAYOUT.options({**boxes, **full}) == {"light": False, "queries": 300}
    assert querypose.VARIANTS["r50"].light is False
    with torch.device("meta"):
        assert models.create("querypose_r50", light=True).info.name == "querypose_r50_light"
        assert models.create("querypose_r50_light", light=False).info.name == "querypose_r50"


def test_the_file_tells_the_layout_of_the_keypoints() -> None:
    key = "head.pose_head_series.0.fc_coord.0.linear.weight"
    counts = [LAYOUT.keypoint_count({key: torch.zeros(2 * head, 128)}) for head in (5, 3, 2)]
    assert counts == [17, 15, 14]


# --- people -----------------------------------------------------------------------------------------------------------


def test_people_by_hand() -> None:
    outputs = {
        "class_logits": np.array([[[0.0], [math.log(3)], [5.0]]]),
        "boxes": np.array([[[0.1, 0.2, 0.5, 0.6], [-0.1, 0.5, 0.3, 1.5], [1.1, 0.0, 1.2, 1.0]]]),
        "poses": np.array(
            [[[[0.0, -0.5, 0.9], [0.5, 0.5, 0.7], *[[0, 0, 0.8]] * 15], [[0, 0, 0.8]] * 17, [[0, 0, 1.0]] * 17]]
        ),
    }
    info = models.create("detrpose_n").info
    info = type(info)(**{**vars(info), "system": "querypose"})
    keypoints, scores, boxes = postprocessing.querypose_people(outputs, (200, 100))
    assert len(scores) == 2  # The third is beside the picture.
    np.testing.assert_allclose(scores, [0.5 * 0.8, 0.75 * 0.8])
    np.testing.assert_allclose(keypoints[0, :3], [[60, 20, 0.9], [100, 60, 0.7], [60, 40, 0.8]])
    np.testing.assert_allclose(boxes, [[20, 20, 80, 40], [0, 50, 60, 50]])
    people = postprocessing.persons(info, outputs, (200, 100), score_threshold=0.45)
    assert people.scores.tolist() == pytest.approx([0.6])
    # The box is cut at the borders, the keypoints are not; they count from the centre of the first pixel.
    np.testing.assert_allclose(people.keypoints[0, 0], [20 - 0.5, 100 - 0.5, 0.8], rtol=1e-6)
    np.testing.assert_allclose(people.boxes[0], [0, 50, 60, 50])


# --- training ---------------------------------------------------------------------------------------------------------


def target(keypoints: list[list[list[float]]], boxes: list[list[float]], bare: list[list[float]]) -> Target:
    points = torch.tensor(keypoints)
    labelled = torch.ones(points.shape[:2], dtype=torch.bool)
    return Target(points, labelled, torch.ones(len(points)), torch.zeros(0, 4), labelled,
                  torch.tensor(bare).reshape(-1, 4), torch.tensor(boxes))  # fmt: skip


def test_focal_loss_and_cost_by_hand() -> None:
    logits = torch.tensor([math.log(3), 0.0])  # 0.75 and 0.5
    wanted = 0.25 * 0.25**2 * -math.log(0.75) + 0.75 * 0.5**2 * -math.log(0.5)
    assert focal_loss(logits, torch.tensor([True, False])).item() == pytest.approx(wanted, rel=1e-6)
    cost = 0.25 * 0.25**2 * -math.log(0.75) - 0.75 * 0.75**2 * -math.log(0.25)
    assert focal_cost(logits)[0].item() == pytest.approx(cost, rel=1e-5)


def test_truth_in_pixels_with_people_who_have_only_a_box() -> None:
    truth = Truth.of(
        target([[[0.5, 0.25]]], [[0.1, 0.2, 0.4, 0.5]], [[0.0, 0.0, 0.5, 0.5]]), torch.tensor([200.0, 100.0])
    )
    torch.testing.assert_close(truth.boxes, torch.tensor([[20.0, 20, 100, 70], [0, 0, 100, 50]]))
    assert truth.keypoints[0].tolist() == [[100.0, 25.0]]
    assert truth.labelled.tolist() == [[True], [False]]


def test_keypoints_outside_the_predicted_box_do_not_count() -> None:
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0]])
    places, labelled = within(boxes, torch.tensor([[[15.0, 20.0], [10.0, 50.0], [9.0, 20.0], [20.0, 20.0]]]),
                              torch.tensor([[True, True, True, False]]))  # fmt: skip
    torch.testing.assert_close(places[0, :2], torch.tensor([[-0.25, -0.25], [-0.5, 0.5]]))
    assert labelled.tolist() == [[True, True, False, False]]


SIZE = torch.tensor([[200.0, 100.0]])
BOXES = torch.tensor([[[100.0, 0.0, 180.0, 100.0], [20.0, 10.0, 60.0, 50.0]]])
PREDICTION = Prediction(
    torch.tensor([[[0.0], [math.log(3)]]]), BOXES, torch.full((1, 2, 2, 2), 0.1), torch.full((1, 2, 2, 2), 0.2)
)
# The box (20, 10, 60, 50) moved by 20 pixels to the right; the first keypoint in the middle of the predicted box, the
# second outside of it.
PERSON = Truth(
    torch.tensor([[40.0, 10.0, 80.0, 50.0]]), torch.tensor([[[40.0, 30.0], [70.0, 30.0]]]), torch.ones(1, 2) > 0
)


def test_cost_by_hand() -> None:
    cost = QueryPoseCriterion().cost(PREDICTION.logits[0], BOXES[0], PERSON, SIZE[0])
    focal = 0.25 * 0.25**2 * -math.log(0.75) - 0.75 * 0.75**2 * -math.log(0.25)
    # Both overlap in 20 x 40 of 60 x 40 pixels, which is all of the box around both.
    assert cost[1, 0].item() == pytest.approx(2 * focal + 5 * (2 * 20 / 200) - 2 * (1 / 3), rel=1e-5)
    ((queries, people),) = QueryPoseCriterion().match(PREDICTION, [PERSON], SIZE)
    assert queries.tolist() == [1] and people.tolist() == [0]


def test_losses_by_hand() -> None:
    def flow(error: torch.Tensor) -> torch.Tensor:
        """A normal distribution in place of the flow."""
        return -error.square().sum(-1) / 2 - math.log(2 * math.pi)

    matches = [(torch.tensor([1]), torch.tensor([0]))]
    losses = QueryPoseCriterion().losses(PREDICTION, [PERSON], matches, SIZE, flow)  # type: ignore[arg-type]
    focal = 0.25 * 0.25**2 * -math.log(0.75) + 0.75 * 0.5**2 * -math.log(0.5)
    assert losses["classes"].item() == pytest.approx(2 * focal, rel=1e-5)
    assert losses["boxes"].item() == pytest.approx(5 * (2 * 20 / 200), rel=1e-5)
    assert losses["overlap"].item() == pytest.approx(2 * (1 - 1 / 3), rel=1e-5)
    # Of two keypoints one counts: it is predicted 0.1 off with a deviation of 0.2 in x and y.
    density = -(0.5**2 + 0.5**2) / 2 - math.log(2 * math.pi)
    each = math.log(0.2) - density + math.log(0.2 * math.sqrt(2 * math.pi)) + 0.1 / (math.sqrt(2) * 0.2)
    assert losses["keypoints"].item() == pytest.approx(2 * each / 2, rel=1e-5)


def test_all_that_is_used_learns(tiny: querypose.QueryPose) -> None:
    forward = TrainingForward(tiny.train())
    people = target([[[0.4, 0.4]] * 17], [[0.2, 0.2, 0.4, 0.5]], [])
    nobody = Target(*(value[:0] for value in vars(people).values()))
    losses = criterion("coco17")(forward, torch.randn(2, 3, 64, 64), [people, nobody], [0, 0])
    assert set(losses) == {"classes_0", "boxes_0", "overlap_0", "keypoints_0"}
    torch.stack(list(losses.values())).sum().backward()
    still = {name for name, p in tiny.named_parameters() if p.requires_grad and p.grad is None}
    assert {name.split(".")[3] for name in still} == {"unused", "unused_norm"}


def test_a_batch_without_people_has_losses_too(tiny: querypose.QueryPose) -> None:
    people = target([[[0.4, 0.4]] * 17], [[0.2, 0.2, 0.4, 0.5]], [])
    nobody = Target(*(value[:0] for value in vars(people).values()))
    losses = criterion("coco17")(TrainingForward(tiny.train()), torch.randn(1, 3, 64, 64), [nobody], [0])
    assert losses["classes_0"] > 0
    assert losses["boxes_0"] == losses["overlap_0"] == losses["keypoints_0"] == 0
    torch.stack(list(losses.values())).sum().backward()


def test_every_stage_has_its_own_matching_and_counts_over_all_people() -> None:
    """Two pictures of other sizes, of whose people the second one has no keypoints; first the second query finds them,
    20 and 40 pixels to the right of where they are, then the first one."""
    sizes = torch.tensor([[200.0, 100.0], [400.0, 200.0]])
    box = [[0.1, 0.1, 0.2, 0.4]]
    one = target([[[0.25, 0.3]]], box, [])
    two = Target(**{name: value[:0] for name, value in vars(one).items()} | {"bare": torch.tensor(box)})
    found = torch.tensor([[100.0, 0.0, 180.0, 100.0], [40.0, 10.0, 80.0, 50.0]]) * torch.tensor([[[1.0]], [[2.0]]])
    spots = torch.full((2, 2, 1, 2), 0.1)
    stages = [Prediction(torch.zeros(2, 2, 1), boxes, spots, spots) for boxes in (found, found.flip(1))]
    losses = QueryPoseCriterion()(
        lambda images, objective: objective(stages, sizes, lambda error: error.sum(-1)),  # type: ignore[arg-type]
        torch.zeros(2, 3, 8, 8),
        [one, two],
        [0, 1],
    )
    for stage in (0, 1):
        # A query that is right is to be 1, the other one 0: a quarter and three quarters of a quarter of ln 2.
        assert float(losses[f"classes_{stage}"]) == pytest.approx(2 * math.log(2) / 4, rel=1e-5)
        assert float(losses[f"boxes_{stage}"]) == pytest.approx(5 * (2 * 20 / 200), rel=1e-5)
        assert float(losses[f"overlap_{stage}"]) == pytest.approx(2 * (1 - 1 / 3), rel=1e-5)


def test_keypoints_do_not_pull_at_the_box_that_they_are_counted_in() -> None:
    boxes, points = BOXES.clone().requires_grad_(), PREDICTION.keypoints.clone().requires_grad_()
    prediction = Prediction(PREDICTION.logits, boxes, points, PREDICTION.sigmas)
    matches = [(torch.tensor([1]), torch.tensor([0]))]
    losses = QueryPoseCriterion().losses(prediction, [PERSON], matches, SIZE, lambda error: error.sum(-1))  # type: ignore[arg-type]
    by_box, by_points = torch.autograd.grad(losses["keypoints"], (boxes, points), allow_unused=True)
    assert by_box is None and by_points is not None and by_points.any()
