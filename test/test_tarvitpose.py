"""TAR-ViTPose and ViTPose: networks, checkpoints, and the training objective with numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pave_ros import models, skeletons
from pave_ros.checkpoints import loading
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.frames import Frame
from pave_ros.models import tarvitpose
from pave_ros.models.tarvitpose import TARViTPose
from pave_ros.models.vitpose import Variant, ViTPose, crop_info
from pave_ros.persons import Boxes
from pave_ros.topdown.crops import crop_boxes
from pave_ros.topdown.crops import matrix as matrix_of
from pave_ros.topdown.heatmaps import keypoints_in
from pave_ros.topdown.stages import TopDown
from pave_ros.topdown.styles import STYLES
from pave_ros.training import tarvitpose as training
from pave_ros.training import vitpose as vitpose_training
from pave_ros.training.augmentation import placed
from pave_ros.training.clips import clip_settings
from pave_ros.training.config import TrainingConfig
from pave_ros.training.target import Target
from pave_ros.training.tarvitpose import NONE, HeatmapCriterion, TrainingForward

TINY = Variant("", 48, 2, 4, 0.0)


def tiny(published_reshapes: bool = True, layers: int = 2) -> TARViTPose:
    torch.manual_seed(0)
    row = tarvitpose.Variant(TINY, published_reshapes, layers)
    model = TARViTPose(row, crop_info("tarvitpose", "s", "posetrack17", (64, 48), 5)).eval()
    for parameter in model.parameters():  # the published start is near zero, where everything looks alike
        nn.init.normal_(parameter, std=0.3)
    return model


def tiny_vitpose() -> ViTPose:
    torch.manual_seed(0)
    return ViTPose(TINY, crop_info("vitpose", "s", "coco17", (64, 48))).eval()


# --- networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, millions",
    [("s", 35.551), ("b", 134.929), ("l", 388.381), ("h", 761.908), ("s_corrected", 35.551)],
)
def test_sizes_are_those_of_the_published_code(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = tarvitpose.build(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)


@torch.no_grad()
def test_frames_are_encoded_alone_and_persons_of_a_batch_do_not_mix() -> None:
    model = tiny()
    clips = torch.rand(2, 5, 3, 64, 48)
    both = model(clips)["heatmaps"]
    assert both.shape == (2, 17, 16, 12)
    alone = model.decode([model.encode(clips[1:, t]) for t in range(5)])["heatmaps"]
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_answer_is_for_the_middle_frame_and_sees_the_others() -> None:
    model = tiny()
    clip = torch.rand(1, 5, 3, 64, 48)
    answer = model(clip)["heatmaps"]
    other_last = clip.clone()
    other_last[:, 4] = torch.rand(1, 3, 64, 48)
    seen = (model(other_last)["heatmaps"] - answer).abs().max()
    other_middle = clip.clone()
    other_middle[:, 2] = torch.rand(1, 3, 64, 48)
    assert 0 < seen < (model(other_middle)["heatmaps"] - answer).abs().max()


@torch.no_grad()
def test_the_reshapes_are_behind_one_switch() -> None:
    """Corrected, a token is a cell of the map: moving a whole token moves one cell of the map, in all channels."""
    features = torch.rand(1, 48, 4, 3)
    for published in (True, False):
        model = tiny(published)
        tokens = model._tokens(features)
        assert tokens.shape == (1, 12, 48)
        torch.testing.assert_close(model._map(tokens, features.shape), features)
        is_cell = torch.equal(tokens[0, 4], features[0, :, 1, 1])
        is_piece_of_a_channel = torch.equal(tokens[0, 0, :12], features[0, 0].flatten())
        assert (is_cell, is_piece_of_a_channel) == (not published, published)
    likely = torch.rand(1, 5, 17, 4, 3)
    hidden = tiny(False)._hidden(likely)
    assert hidden.shape == (1, 1, 17, 60)
    assert torch.equal(hidden[0, 0, 7, 24:36], (likely[0, 2, 7] < 0.2).flatten()), "joint 7 in frame 2"
    mixed = tiny(True)._hidden(likely)
    assert torch.equal(mixed[0, 0, 7], (likely < 0.2).reshape(17, 60)[7]), (
        "rows of other joints and frames, as published"
    )
    clip = torch.rand(1, 5, 3, 64, 48)
    assert (tiny(True)(clip)["heatmaps"] - tiny(False)(clip)["heatmaps"]).abs().max() > 1e-3


@torch.no_grad()
def test_a_joint_that_may_look_nowhere_looks_everywhere() -> None:
    likely = torch.ones(1, 5, 17, 4, 3)
    likely[:, :, 3] = 0
    hidden = tiny(False)._hidden(likely)
    assert not hidden.any()
    likely[:, 1, 3, 0, 0] = 1
    assert tiny(False)._hidden(likely)[0, 0, 3].sum() == 59


@torch.no_grad()
def test_vitpose_is_the_same_network_with_one_frame() -> None:
    model, plain = tiny(), tiny_vitpose()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    crop = torch.rand(2, 3, 64, 48)
    assert torch.equal(plain(crop)["heatmaps"], model.head(model.encode(crop)[0]))
    assert plain(torch.rand(1, 3, 96, 80))["heatmaps"].shape == (1, 17, 24, 20), "any size of crop"


def test_names() -> None:
    assert models.split_name("tarvitpose") == ("tarvitpose", "s")
    assert models.split_name("TARViTPose-S-corrected") == ("tarvitpose", "s_corrected")


# --- checkpoints --------------------------------------------------------------------------------------------------


def test_the_checkpoint_tells_the_number_of_layers_and_comes_back_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tarvitpose.VARIANTS, "s", tarvitpose.Variant(TINY))
    model = tarvitpose.build("s", layers=1)
    loading.save(model, tmp_path / "one.pt")
    written = torch.load(tmp_path / "one.pt", weights_only=True)["model_state_dict"]
    key = "layers.1.ffn.layers.0.0.weight"
    assert {f"backbone.{key}", f"model.backbone.{key}", "heatmap_head.0.3.weight", "model.head.final_layer.bias"} < set(
        written
    )
    assert torch.equal(written[f"model.backbone.{key}"], model.state_dict()["backbone.blocks.1.mlp.fc1.weight"])
    again = loading.open_model("tarvitpose_s", tmp_path / "one.pt")
    assert isinstance(again, TARViTPose) and len(again.aggregation) == 1 and again.info.skeleton == "posetrack17"
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    loading.save(model, tmp_path / "one.safetensors")
    assert not any(key.startswith("model.") for key in loading.read(tmp_path / "one.safetensors"))
    loading.load(again, tmp_path / "one.safetensors")


def test_training_starts_from_vitpose(tmp_path: Path) -> None:
    source, model = tiny_vitpose(), tiny()
    loading.save(source, tmp_path / "vitpose.pth")
    assert "head.deconv_layers.0.weight" in torch.load(tmp_path / "vitpose.pth", weights_only=True)["state_dict"]
    training.load_backbone(model, tmp_path / "vitpose.pth")
    assert torch.equal(model.backbone.patch.weight, source.backbone.patch.weight)
    assert torch.equal(model.head.final.weight, source.head.final.weight)
    loading.save(tiny(), tmp_path / "tar.pth")
    with pytest.raises(CheckpointError, match=r"tar\.pth.*head\.deconv_layers"):
        training.load_backbone(model, tmp_path / "tar.pth")


# --- export -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [True, False])
def test_exported_parts_find_the_same_people(tmp_path: Path, published: bool) -> None:
    """Both stages on the exported files, several people at once, against both stages on the network."""
    file = export_onnx(tiny(published), tmp_path / "tar.onnx")
    boxes = Boxes.of([[20, 10, 60, 100], [90, 20, 50, 80], [5, 5, 30, 60]], [0.9, 0.8, 0.7])
    images = np.random.default_rng(0).integers(0, 256, (5, 128, 160, 3), np.uint8)
    found = []
    for engine in (PyTorchEngine(tiny(published), "cpu"), OnnxRuntimeEngine(file, "cpu", threads=1)):
        frames = [Frame(stamp=t, image=image, boxes=boxes) for t, image in enumerate(images)]
        found.append(TopDown(engine, None).estimate(frames, 20))
    assert len(found[0]) == 3
    np.testing.assert_allclose(found[1].scores, found[0].scores, atol=1e-4)
    np.testing.assert_allclose(found[1].keypoints[..., 2], found[0].keypoints[..., 2], atol=1e-4)
    # Untrained heatmaps have equal neighbours, between which rounding decides.
    assert (np.abs(found[1].keypoints[..., :2] - found[0].keypoints[..., :2]) < 1e-2).mean() > 0.9


# --- training -----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    found, truth = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    truth[0, 0, 0, 0] = 1.0  # off by 1 in one of four cells, weight 1.5: 2.25 / 4
    found[0, 1] = 0.5  # off by .5 everywhere, weight 0: nothing
    loss = training.heatmap_loss(found, truth, torch.tensor([[1.5, 0.0]]))
    assert float(loss) == pytest.approx((2.25 / 4 + 0) / 2)


def test_targets_of_vitpose_are_where_it_is_decoded() -> None:
    """Heatmaps as trained, read as they are at run time, give the joints back."""
    objective = vitpose_training.criterion("coco17", size=(256, 192))
    objective.augmentation = NONE
    box = np.array([300.0, 100.0, 192.0, 320.0], np.float32)
    crop, _ = objective._place(box, np.zeros((0, 2)), np.zeros(0, bool), np.random.default_rng(0))
    joints = np.stack((np.linspace(310, 480, 17), np.linspace(110, 410, 17)), 1)
    points = torch.tensor(joints @ crop[:, :2].T + crop[:, 2])[None]
    maps, inside = training.gaussians(points, objective.size, objective.udp, objective.sigma)
    assert inside.all()
    place = crop_boxes(box[None], (192, 256))
    found = keypoints_in(maps.numpy().astype(np.float32), place, STYLES["vitpose"], "dark", [0.05] * 17)
    np.testing.assert_allclose(found[0, :, :2], joints, atol=0.05)


def test_targets_by_hand() -> None:
    points = torch.tensor([[[10.0, 21.9], [-0.1, 5.0], [47.0, 63.0]]])
    maps, inside = training.gaussians(points, (64, 48))
    assert inside.tolist() == [[True, False, True]]
    # 10 / 4 + 0.5 = 3.0 and 21.9 / 4 + 0.5 = 5.975, so the cell is (3, 5).
    assert float(maps[0, 0, 5, 3]) == 1.0
    assert float(maps[0, 0, 5, 6]) == pytest.approx(math.exp(-0.5))
    assert float(maps[0, 0, 14, 3]) == pytest.approx(math.exp(-4.5)) and float(maps[0, 0, 15, 3]) == 0
    assert not maps[0, 1].any()
    assert float(maps[0, 2].max()) == pytest.approx(math.exp(-2 / 18)), "the centre (12, 16) lies just outside"


def test_weights_of_the_joints_are_the_published_ones() -> None:
    weights = training.criterion("posetrack17").weights
    assert weights.tolist() == pytest.approx([1.0] * 7 + [1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.2, 1.2, 1.5, 1.5])
    assert vitpose_training.criterion("coco17").weights.tolist() == [1.0] * 17


def test_half_bodies_by_hand() -> None:
    points = np.array([[10, 0], [20, 0], [30, 12], [0, 100], [30, 100], [60, 220]], float)
    upper = np.array([True, True, True, False, False, False])
    # The mean of the upper three is (20, 4); 20 x 12 becomes 20 x 26.7 in the crop's proportions, times 1.5.
    np.testing.assert_allclose(training.half_body(points, upper, (288, 384), True), [20, 4, 30, 40])
    np.testing.assert_allclose(training.half_body(points, upper, (288, 384), False), [30, 140, 135, 180])
    np.testing.assert_allclose(training.half_body(points[:5], upper[:5], (288, 384), False)[:2], [20, 4])


def target(points: np.ndarray, width: int, height: int) -> Target:
    keypoints = torch.tensor(points / [width, height], dtype=torch.float32)[None]
    labelled = torch.ones(1, len(points), dtype=torch.bool)
    low, extent = points.min(0), np.ptp(points, axis=0)
    box = np.concatenate((low - 3, extent + 6)) / [width, height, width, height]
    return Target(
        keypoints=keypoints,
        labelled=labelled,
        areas=torch.tensor([0.1]),
        ignored=torch.zeros(0, 4),
        visible=labelled,
        bare=torch.zeros(0, 4),
        boxes=torch.tensor(box, dtype=torch.float32)[None],
    )


def picture(width: int = 200, height: int = 160) -> tuple[Tensor, np.ndarray]:
    """A normalised black picture with a bright square at one joint, and 17 joints."""
    points = np.random.default_rng(0).uniform((60, 30), (120, 130), (17, 2))
    image = np.zeros((height, width, 3), np.float32)
    x, y = points[5].round().astype(int)
    image[y - 3 : y + 4, x - 3 : x + 4] = 1
    image = (image - training.IMAGENET_MEAN) / training.IMAGENET_STD
    return torch.tensor(image, dtype=torch.float32).permute(2, 0, 1), points


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_move_with_the_picture(seed: int) -> None:
    """Whatever the augmentation does, the bright square stays at its joint, or at the joint's mirror image."""
    image, points = picture()
    varied = HeatmapCriterion("coco17", 16, (384, 288))
    crops, moved, labelled = varied.crops(image[None, None], [target(points, 200, 160)], [seed])
    assert crops.shape == (1, 1, 3, 384, 288) and bool(labelled.all())
    bright = torch.nonzero(crops[0, 0, 0] > 0).float().mean(0).flip(0)
    inside = ((moved > 20) & (moved < torch.tensor([268.0, 364.0]))).all(-1)[0]
    distances = (moved[0] - bright).norm(dim=-1)
    if inside[5] or inside[6]:
        assert min(distances[5], distances[6]) < 6


def test_without_augmentation_the_crop_is_that_of_the_running_system() -> None:
    image, points = picture()
    plain = HeatmapCriterion("coco17", 16, (384, 288), NONE)
    crops, moved, _ = plain.crops(image[None, None], [target(points, 200, 160)], [0])
    low, extent = points.min(0), np.ptp(points, axis=0)
    box = np.concatenate((low - 3, extent + 6)).astype(np.float32)
    crop = crop_boxes(box[None], (288, 384))[0]
    matrix = matrix_of(crop, (288, 384))
    expected = cv2.warpAffine(image.permute(1, 2, 0).numpy(), matrix, (288, 384), flags=cv2.INTER_LINEAR)
    inner = crops[0, 0].permute(1, 2, 0).numpy()[100:-100, 80:-80]
    # OpenCV rounds places to 1/32 of a pixel.
    np.testing.assert_allclose(inner, expected[100:-100, 80:-80], atol=0.25)
    np.testing.assert_allclose(moved[0], points @ matrix[:, :2].T + matrix[:, 2], atol=1e-2)
    black = -torch.tensor(training.IMAGENET_MEAN) / torch.tensor(training.IMAGENET_STD)
    far = training.sampled(image[None], torch.tensor([[1.0, 0, 500], [0, 1, 0]]), (8, 8))
    torch.testing.assert_close(far[0, :, 0, 0], black)


def test_the_same_seed_gives_the_same_crop_and_no_people_give_no_loss() -> None:
    image, points = picture()
    objective = HeatmapCriterion("coco17", 2, (64, 48))
    people = [target(points, 200, 160)]
    first, second = (objective.crops(image[None, None], people, [7])[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, objective.crops(image[None, None], people, [8])[0])
    someone = people[0]
    nobody = replace(someone, **{name: getattr(someone, name)[:0] for name in ("keypoints", "labelled", "boxes")})
    forward = TrainingForward(tiny().train())
    losses = objective(forward, image[None], [nobody], [0])
    losses["heatmaps"].backward()
    assert float(losses["heatmaps"].detach()) == 0


def crowd_of(people: Sequence[Target]) -> Target:
    """All people in one picture."""
    names = ("keypoints", "labelled", "boxes")
    return replace(people[0], **{name: torch.cat([getattr(one, name) for one in people]) for name in names})


def test_halves_of_a_batch_cost_what_all_of_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two processes, of which one has three people, two of whom are cut out, and one has nobody."""
    image, points = picture()
    people = crowd_of([target(points + (10.0 * i, 0), 200, 160) for i in range(3)])
    nobody = replace(people, **{name: getattr(people, name)[:0] for name in ("keypoints", "labelled", "boxes")})
    objective, pictures, seeds = HeatmapCriterion("coco17", 2, (64, 48)), image[None].expand(2, -1, -1, -1), [3, 4]
    forward = TrainingForward(tiny())
    with torch.no_grad():
        whole = objective(forward, pictures, [people, nobody], seeds)["heatmaps"]
        monkeypatch.setattr(training, "mean_over_processes", lambda count, device: 2 / 2)
        halves = [objective(forward, pictures[:1], [half], [seed])["heatmaps"]
                  for half, seed in zip((people, nobody), seeds, strict=True)]  # fmt: skip
    assert float(sum(halves)) / 2 == pytest.approx(float(whole), rel=1e-5) and whole > 0


@pytest.mark.parametrize("batch", [1, 9])
def test_who_is_cut_out_does_not_depend_on_the_other_pictures(batch: int) -> None:
    image, points = picture()
    crowd = crowd_of([target(points + (10.0 * i, 0), 200, 160) for i in range(5)])
    pictures = image[None, None].expand(batch, -1, -1, -1, -1)
    objective = training.criterion("coco17", per_picture=3, size=(64, 48))
    assert len(objective.crops(pictures, [crowd] * batch, list(range(batch)))[0]) == 3 * batch


def test_everybody_is_cut_out_sooner_or_later() -> None:
    """Also where there is room for a few only."""
    image, points = picture()
    crowd = crowd_of([target(points + (10.0 * i, 0), 200, 160) for i in range(5)])
    objective = HeatmapCriterion("coco17", 2, (64, 48))
    seen = []
    objective._crop = lambda clip, found, person, rng: seen.append(person) or (clip, points, labelled)  # type: ignore
    labelled = torch.ones(len(points), dtype=torch.bool)
    points = torch.as_tensor(points)
    for seed in range(20):
        objective.crops(image[None, None], [crowd], [seed])
    assert set(seen) == set(range(5)) and len(seen) == 40


def test_all_frames_of_a_clip_are_cut_alike_and_go_through_the_network() -> None:
    image, points = picture()
    clip = torch.stack([image, image.flip(1), image, image, image])
    objective = HeatmapCriterion("coco17", 1, (64, 48))
    crops, _, _ = objective.crops(clip[None], [target(points, 200, 160)], [3])
    assert crops.shape == (1, 5, 3, 64, 48)
    assert torch.equal(crops[0, 0], crops[0, 4]) and not torch.equal(crops[0, 0], crops[0, 1])
    losses = objective(TrainingForward(tiny().train()), clip[None], [target(points, 200, 160)], [3])
    losses["heatmaps"].backward()
    assert losses["heatmaps"].isfinite()


def test_the_training_configuration_is_for_this_model() -> None:
    settings = TrainingConfig.read(Path(__file__).parents[1] / "config" / "training" / "tarvitpose_s.yaml")
    assert models.split_name(settings.model) == ("tarvitpose", "s") and settings.skeleton == "posetrack17"
    assert clip_settings(settings.data["clips"]).frames == 5
    objective = training.criterion(settings.skeleton, **settings.objective_options)
    assert objective.size == (384, 288) and objective.per_picture == 2
    size, view = settings.size[::-1], clip_settings(settings.data["clips"]).view
    shown = placed(size, (0, 0, *size), view, np.random.default_rng(0))
    np.testing.assert_allclose(shown, np.eye(3), atol=1e-9, err_msg="the crops are varied, not the frames")


@pytest.mark.parametrize("system", ["tarvitpose", "vitpose"])
def test_the_network_learns_a_joint(system: str) -> None:
    torch.manual_seed(0)
    image, points = picture()
    model = tiny().train() if system == "tarvitpose" else tiny_vitpose().train()
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    objective = HeatmapCriterion("coco17", 1, (64, 48), NONE)
    forward = TrainingForward(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = objective(forward, image[None], [target(points, 200, 160)], [0])["heatmaps"]
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] / 2


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="5 frames, not 3"):
        TrainingForward(tiny())(torch.zeros(1, 3, 3, 64, 48))


def test_mirrored_crops_count_from_the_middle_of_the_last_pixel() -> None:
    image, points = picture()
    plain, mirrored = (
        HeatmapCriterion("coco17", 16, (384, 288), training.Augmentation(0, 0, 0, chance, 0)).crops(
            image[None, None], [target(points, 200, 160)], [0]
        )
        for chance in (0, 1)
    )
    torch.testing.assert_close(mirrored[0], plain[0].flip(-1))
    expected = plain[1][:, list(skeletons.get("coco17").mirror)]
    torch.testing.assert_close(mirrored[1], torch.stack((287 - expected[..., 0], expected[..., 1]), -1))


def test_crops_are_scaled_once_and_turned_twice_their_deviation_at_most() -> None:
    varied = HeatmapCriterion("coco17", 1, (384, 288), training.Augmentation(0.2, 20.0, 1.0, 0.0, 0.0))
    box, rng = np.array([60.0, 30.0, 60.0, 80.0], np.float32), np.random.default_rng(0)
    places = [varied._place(box, np.zeros((0, 2)), np.zeros(0, bool), rng)[0] for _ in range(300)]
    scales = np.array([3.84 / math.hypot(place[0, 0], place[1, 0]) for place in places])
    turns = np.array([math.degrees(math.atan2(place[1, 0], place[0, 0])) for place in places])
    assert np.ptp(scales / scales.mean()) == pytest.approx(0.4, abs=0.02)
    assert 30 < np.abs(turns).max() <= 40.01


def test_halves_are_shown_of_people_with_many_joints_and_have_a_size() -> None:
    halving = HeatmapCriterion("coco17", 1, (384, 288), training.Augmentation(0, 0, 0, 0, halved=1))
    box = np.array([60.0, 30.0, 60.0, 80.0], np.float32)
    points, upper = np.random.default_rng(0).uniform(60, 90, (9, 2)), np.arange(9) < 4
    whole = halving._place(box, points[:0], upper[:0], np.random.default_rng(0))[0]
    for count, halved in ((8, False), (9, True)):
        place, _ = halving._place(box, points[:count], upper[:count], np.random.default_rng(0))
        assert np.allclose(place, whole) != halved
    size = training.half_body(np.full((4, 2), 5.0), np.ones(4, bool), (288, 384), True)[2:]
    assert size[0] > 0 and size[1] == pytest.approx(size[0] * 4 / 3)


def test_joints_beyond_the_right_or_lower_border_are_out_of_the_crop() -> None:
    _, inside = training.gaussians(torch.tensor([[[48.0, 64.0], [48.5, 5.0], [5.0, 64.5]]]), (64, 48))
    assert inside.tolist() == [[True, False, False]]
