"""The training of PAVE-Net: losses by hand, clips, and that the frames around are used."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pave_ros import models, skeletons
from pave_ros.checkpoints import loading
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.datasets.base import Labels, ListedDataset, Sample
from pave_ros.models import pavenet
from pave_ros.models.info import ModelInfo
from pave_ros.models.mobilenet import CHANNELS
from pave_ros.models.pavenet import PAVENet, Prediction
from pave_ros.synthetic.scene import Scene
from pave_ros.training import augmentation as augment
from pave_ros.training import pavenet as objective
from pave_ros.training import petr
from pave_ros.training.clips import ClipSettings, TrainingClips, clip_samples, clip_settings, moved
from pave_ros.training.config import TrainingConfig
from pave_ros.training.settings import ConfigError
from pave_ros.training.sources import ASPECTS, Mixture, SourceError
from pave_ros.training.store import Picture, write_store
from pave_ros.training.target import Target
from pave_ros.training.truth import Truth


class Uniform(nn.Module):
    """A flow that finds every error equally likely."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(points[..., 0])


def target(keypoints: list[list[list[float]]], labelled: list[list[int]], ignored: list[list[float]] = []) -> Target:  # noqa: B006
    seen = torch.tensor(labelled, dtype=torch.bool)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(len(seen), 1)
    return Target(
        keypoints=torch.tensor(keypoints), labelled=seen, areas=torch.full((len(seen),), 0.2),
        ignored=torch.tensor(ignored).reshape(-1, 4), visible=seen, bare=torch.zeros(0, 4), boxes=boxes,
    )  # fmt: skip


def truth_of(*targets: Target, size: tuple[int, int] = (100, 100)) -> Truth:
    return Truth(targets, torch.tensor(skeletons.get("coco17").sigmas), size)


def tiny(frames: int = 3, petr: bool = False) -> PAVENet:
    row = pavenet.Variant(
        "test_efficientnet", levels=(3, 4), frames=frames, encoder_layers=1, pose_layers=2, joint_layers=1,
        hidden=64, inner=64, queries=4, persons=1, petr=petr,
    )  # fmt: skip
    info = ModelInfo("pavenet", "r50", "coco17", (64, 64), 1, (0.5,) * 3, (0.25,) * 3, window=frames)
    torch.manual_seed(0)
    return PAVENet(row, info)


def test_keypoints_cost_their_residual_log_likelihood() -> None:
    """log sigma + log(sigma sqrt(2 pi)) + |error| / (sqrt 2 sigma), the mean over labelled coordinates."""
    prediction = Prediction(
        logits=None,
        poses=torch.tensor([[[[0.9, 0.9], [0.9, 0.9]], [[0.5, 0.5], [0.1, 0.1]]]]),
        sigmas=torch.tensor([[[[0.9, 0.9], [0.9, 0.9]], [[0.1, 0.2], [0.3, 0.3]]]]),
    )
    truth = target([[[0.6, 0.5], [0.0, 0.0]]], [[1, 0]])
    loss = objective.keypoint_loss(prediction, truth_of(truth), [(torch.tensor([1]), torch.tensor([0]))], Uniform())
    x = 2 * math.log(0.1) + math.log(math.sqrt(2 * math.pi)) + 0.1 / (math.sqrt(2) * 0.1)
    y = 2 * math.log(0.2) + math.log(math.sqrt(2 * math.pi))
    assert float(loss) == pytest.approx((x + y) / 2, rel=1e-5)


def test_classes_cost_the_focal_loss_over_the_people() -> None:
    prediction = Prediction(
        logits=torch.tensor([[[0.0], [math.log(3)], [0.0]]]),
        poses=torch.tensor([[[[0.1, 0.1]], [[0.3, 0.3]], [[0.9, 0.9]]]]),
        sigmas=None,
    )
    truth = target([[[0.1, 0.1]]], [[1]], ignored=[[0.8, 0.8, 0.2, 0.2]])
    loss = objective.class_loss(prediction, [truth], [(torch.tensor([0]), torch.tensor([0]))])
    person = 0.25 * 0.5**2 * -math.log(0.5)
    nobody = 0.75 * 0.75**2 * -math.log(0.25)
    assert float(loss) == pytest.approx(person + nobody, rel=1e-5), "the third stands where nobody was annotated"


def test_matching_weighs_class_distance_and_oks() -> None:
    truth = target([[[0.5, 0.5]] * 17], [[1] + [0] * 16])
    poses = torch.tensor([[[0.5, 0.5]] * 17, [[0.6, 0.5]] * 17])
    costs = objective.cost(torch.tensor([[0.0], [0.0]]), poses, truth, truth_of(truth), objective.PAVENET)[:, 0]
    oks = math.exp(-(0.1**2) / (2 * 0.2 * (2 * 0.026) ** 2))
    assert float(costs[1] - costs[0]) == pytest.approx(70 * 0.1 / 2 + 7 * (1 - max(oks, 1e-6)), rel=1e-4)
    same = poses[:1].expand(2, -1, -1)
    sure = objective.cost(torch.tensor([[2.0], [0.0]]), same, truth, truth_of(truth), objective.PAVENET)[:, 0]
    assert sure[0] < sure[1]


def test_classes_count_over_the_people_who_found_a_query() -> None:
    """Two pictures with three people and one, of whom two queries can be one each."""
    crowd, alone = target([[[0.5, 0.5]] * 17] * 3, [[1] * 17] * 3), target([[[0.5, 0.5]] * 17], [[1] * 17])
    prediction = Prediction(torch.zeros(2, 2, 1), torch.full((2, 2, 17, 2), 0.5), None)
    matches = [(torch.tensor([0, 1]), torch.tensor([0, 2])), (torch.tensor([0]), torch.tensor([0]))]
    loss = objective.class_loss(prediction, [crowd, alone], matches)
    person, nobody = 0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2)
    assert float(loss) == pytest.approx((3 * person + nobody) / 3)


def test_spots_of_a_picture_that_does_not_fill_its_last_cells() -> None:
    """100 pixels are 12.5 cells of a map of 13: pixel 95 lies in cell 11."""
    people = target([[[0.95, 70 / 84]] + [[0.0, 0.0]] * 16], [[1] + [0] * 16])
    truth = truth_of(people, size=(100, 84))
    logits = torch.full((1, 17, 11, 13), -20.0)
    logits[0, 0, 8, 11] = 20.0
    right = petr.heatmap_loss(logits, truth)
    logits[0, 0, 8, 11], logits[0, 0, 9, 12] = -20.0, 20.0
    assert right < 1 < petr.heatmap_loss(logits, truth)


def test_weights_of_the_losses_can_be_given() -> None:
    model = objective.TrainingForward(tiny())
    truth, clips = [target([[[0.3, 0.4]] * 17], [[1] * 17])], torch.rand(1, 3, 3, 64, 64)
    model.eval()
    published, ours = (objective.criterion("coco17", **w)(model, clips, truth, [0]) for w in ({}, {"classes": 1.5}))
    for name, loss in published.items():
        assert float(ours[name]) == pytest.approx(float(loss) * (3 if "classes" in name else 1), rel=1e-5)
    with pytest.raises(ConfigError, match="clases"):
        objective.criterion("coco17", clases=1.0)


def test_a_share_of_a_wide_picture_is_further_across_than_down() -> None:
    """OKS counts in pixels: 0.02 of 200 across are 4 pixels, 0.02 of 100 down are 2, of a person of 4000."""
    truth = truth_of(size=(200, 100))
    place, seen, area = torch.full((1, 17, 2), 0.5), torch.ones(1, 17, dtype=torch.bool), torch.tensor([0.2])
    for shift, pixels in (((0.02, 0.0), 4), ((0.0, 0.02), 2)):
        by_hand = (-(pixels**2) / (2 * 4000 * (2 * truth.sigmas) ** 2)).exp().mean()
        torch.testing.assert_close(truth.similarity(place + torch.tensor(shift), place, seen, area)[0], by_hand)


def test_every_part_is_supervised_and_the_frames_around_learn() -> None:
    model = tiny()
    with torch.no_grad():  # It starts with zeros in places, behind which nothing learns in the first step.
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    truth = [target([[[0.3, 0.4]] * 17, [[0.6, 0.7]] * 17], [[1] * 17] * 2), target([[[0.5, 0.5]] * 17], [[1] * 17])]
    losses = objective.criterion("coco17")(objective.TrainingForward(model), torch.rand(2, 3, 3, 64, 64), truth, [0, 1])
    parts = [name.rsplit("_", 1)[0] for name in losses if name.endswith("keypoints")]
    assert parts == ["tokens", "poses_0", "poses_1", "joints_0"]
    sum(losses.values()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # As published: in the last layers nothing asks where people are in the other frames.
    last = ("pose_decoder.pose_heads.-1.1.", "pose_decoder.pose_heads.1.1.", "joint_decoder.point_heads.-1.0.")
    unused = (*last, "joint_decoder.point_heads.1.0.", "heatmap_head.")
    assert without == {name for name, _ in model.named_parameters() if name.startswith(unused)}


def test_nobody_in_a_clip_and_pictures_for_clips() -> None:
    nobody = target([], [])
    nobody = Target(
        **{**vars(nobody), "keypoints": torch.zeros(0, 17, 2), "labelled": torch.zeros(0, 17, dtype=torch.bool)}
    )
    losses = objective.criterion("coco17")(objective.TrainingForward(tiny()), torch.rand(1, 3, 64, 64), [nobody], [0])
    assert all(value.isfinite() for value in losses.values())
    assert losses["joints_0_keypoints"].item() == 0


# --- PETR ---------------------------------------------------------------------------------------------------------


def test_petr_places_keypoints_by_distance_and_oks() -> None:
    people = target([[[0.6, 0.5]] + [[0.0, 0.0]] * 16], [[1] + [0] * 16])
    poses = torch.zeros(1, 3, 17, 2)
    poses[0, 1, 0] = torch.tensor([0.61, 0.52])
    distance, dissimilarity = petr.placing_losses(poses, truth_of(people), [(torch.tensor([1]), torch.tensor([0]))])
    assert float(distance) == pytest.approx((0.01 + 0.02) / 2, rel=1e-4)
    assert float(dissimilarity) == pytest.approx((0.01**2 + 0.02**2) / (2 * 0.2 * (2 * 0.026) ** 2), rel=1e-3)


def test_training_starts_as_published() -> None:
    model = tiny(frames=1, petr=True)
    assert model.heatmap_head.bias.tolist() == pytest.approx([math.log(0.1 / 0.9)] * 17, abs=1e-3)
    assert float(model.heatmap_head.weight.std()) == pytest.approx(0.01, rel=0.1)
    for part in (model.encoder, model.pose_decoder, model.joint_decoder):
        for name, parameter in part.named_parameters():
            if name.endswith(("ffn.0.weight", "ffn.3.weight", "out_proj.weight")):
                bound = math.sqrt(6 / sum(parameter.shape))
                assert 0.9 * bound < float(parameter.abs().max()) <= bound, name
    assert not any(head.layers[-1].weight.any() for head in model.joint_decoder.point_heads["0"])


def test_petr_draws_spots_as_large_as_people() -> None:
    """A box of 16x16 cells may move by a cell and overlap its own by 0.9, one of 4x4 by none."""
    places = [[[0.26, 0.51]] + [[0.0, 0.0]] * 16]
    large = target(places, [[1] + [0] * 16])
    spots = petr.spots_of(large, torch.tensor([32, 32]), 32, 32)
    side, corner = math.exp(-1 / (2 * 0.5**2)), math.exp(-2 / (2 * 0.5**2))
    expected = torch.tensor([[corner, side, corner], [side, 1, side], [corner, side, corner]])
    torch.testing.assert_close(spots[0, 15:18, 7:10], expected)
    assert torch.count_nonzero(spots) == 9
    small = petr.spots_of(
        Target(**{**vars(large), "boxes": torch.tensor([[0.0, 0.0, 0.125, 0.125]])}), torch.tensor([32, 32]), 32, 32
    )
    assert torch.count_nonzero(small) == 1 and small[0, 16, 8] == 1
    assert not petr.spots_of(target([[[0.0, 0.0]] * 17], [[0] * 17]), torch.tensor([4, 4]), 4, 4).any()


def test_every_part_of_petr_is_supervised_and_learns() -> None:
    model = tiny(frames=1, petr=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    truth = [target([[[0.3, 0.4]] * 17, [[0.6, 0.7]] * 17], [[1] * 17] * 2), target([[[0.5, 0.5]] * 17], [[1] * 17])]
    losses = objective.criterion("coco17")(objective.TrainingForward(model), torch.rand(2, 3, 64, 64), truth, [0, 1])
    assert list(losses) == [
        "tokens_classes", "tokens_keypoints", "poses_0_classes", "poses_0_keypoints", "poses_0_oks", "poses_1_classes",
        "poses_1_keypoints", "poses_1_oks", "joints_0_keypoints", "joints_0_oks", "heatmaps",
    ]  # fmt: skip
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


# --- clips --------------------------------------------------------------------------------------------------------


def test_moved_pictures_turn_steadily_and_their_labels_with_them() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:23, 50:53] = 255
    labels = Labels.from_keypoints([[[51.5, 21.5, 2]] * 17], "coco17", boxes=[[45, 15, 12, 12]])
    settings = ClipSettings(frames=5, still_weight=1, degrees=4, shift=0.03, zoom=0.0)
    images, moving = moved(([image], [labels]), settings, (80, 60), np.random.default_rng(3))
    assert images[2] is image and moving[2] is labels
    places = [np.argwhere(one[..., 0] > 60).mean(0)[::-1] + 0.5 for one in images]
    for place, one in zip(places, moving, strict=True):
        np.testing.assert_allclose(one.keypoints[0, 0, :2], place, atol=0.7)
    steps = np.diff(places, axis=0)
    assert (np.linalg.norm(steps, axis=1) > 0.5).all()
    assert (steps @ steps[0] > 0).all(), "always on"


def test_clips_of_the_synthetic_scene_are_repeatable() -> None:
    data = {"clips": {"frames": 3, "videos": {"synthetic": {"split": "val"}}, "blur": 1.0, "view": {"zoom": [1, 1.2]}}}
    common = {"input_size": (96, 128), "seed": 5, "skeleton": "posetrack15"}
    clips, again = clip_samples(data, common), clip_samples(data, common)
    images, people = clips[2]
    assert images.shape == (3, 3, 96, 128) and images.dtype == torch.uint8
    assert people.keypoints.shape[1:] == (15, 2)
    assert torch.equal(again[2][0], images) and torch.equal(again[2][1].keypoints, people.keypoints)
    sharpness = images.float().diff(dim=-1).abs().mean((1, 2, 3))
    assert sharpness[1] < 0.7 * min(sharpness[0], sharpness[2]), "the middle frame is out of focus"


def test_stills_among_videos_come_from_all_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draw that chooses a still says nothing about the shape of its camera."""
    image = np.zeros((32, 32, 3), np.uint8)
    labels = Labels.from_keypoints([[[16, 16, 2]] * 17], "coco17", boxes=[[4, 4, 24, 24]])
    write_store(tmp_path, "one", [Picture("p", image, labels, "train")])
    data = {"cache": tmp_path, "weights": {"one": 1}, "paste": 0, "occlude": 0}
    data["clips"] = {"frames": 1, "still_weight": 1, "videos": {"synthetic": {"weight": 3}}}
    clips = clip_samples(data, {"input_size": (32, 32)})
    video = ListedDataset("video", skeletons.get("coco17"), [Sample(0, 32, 32, labels, lambda: image)])
    monkeypatch.setitem(clips._videos, "synthetic", video)
    seen: list[float | None] = []
    monkeypatch.setattr(augment, "mosaic", lambda parts, size, view, rng, aspect=None: seen.append(aspect) or parts[0])
    for number in range(2000):
        clips.clip(number)
    aspects = np.array([aspect for aspect in seen if aspect is not None])
    for aspect, chance in ASPECTS:
        assert np.isclose(aspects, aspect).mean() == pytest.approx(chance, abs=0.05)


def test_settings_of_clips_are_checked() -> None:
    with pytest.raises(SourceError, match="odd"):
        ClipSettings(frames=2, still_weight=1)
    with pytest.raises(SourceError, match="need videos"):
        ClipSettings()
    for given, reason in (({"speed": 3}, "clips: unknown setting speed"), ({"view": {"zom": 1}}, "clips: view: .* zom"),
                          ({"frames": 2}, "clips: clips have an odd number"), ([], "clips: has to hold"),
                          ({"blur": 2}, "clips: blur has to be from 0 to 1, not 2"),
                          ({"view": {"stretch": 0}}, "clips: view: stretch has to be at least 1, not 0"),
                          ({"view": {"zoom": [0, 1]}}, r"clips: view: zoom has to be a range above 0, not \[0"),
                          ({"videos": {"jhmdb": {"rooot": "x"}}}, "clips: videos: jhmdb: unknown setting rooot"),
                          ({"videos": {"jhmdb": {"weight": None}}}, "clips: videos: jhmdb: weight: .*, not None"),
                          ({"videos": {"jhmdb": {"weight": -1}}}, "clips: videos: jhmdb: weight has to be at least 0"),
                          ({"videos": {"jhmdb": 3}}, "clips: videos: jhmdb: has to hold settings by name, not 3"),
                          ({"videos": 3}, "clips: videos: .*, not 3")):  # fmt: skip
        with pytest.raises(ConfigError, match=reason):
            clip_samples({"clips": {"still_weight": 1, **given} if isinstance(given, dict) else given}, {})


@pytest.mark.parametrize("name", ["pavenet_r50", "pavenet_r50_stills"])
def test_the_configurations_are_readable(name: str) -> None:
    settings = TrainingConfig.read(Path(__file__).parent.parent / "config" / "training" / f"{name}.yaml")
    assert models.split_name(settings.model) == ("pavenet", "r50")
    assert clip_settings(settings.data["clips"]).frames == 3
    Mixture.from_dict({"cache": ".", "weights": {}, **{k: v for k, v in settings.data.items() if k != "clips"}})
    assert issubclass(TrainingClips, torch.utils.data.Dataset)


def test_the_configuration_of_petr_is_readable() -> None:
    settings = TrainingConfig.read(Path(__file__).parent.parent / "config" / "training" / "petr_r50.yaml")
    assert models.split_name(settings.model) == ("pavenet", "petr_r50")
    Mixture.from_dict({**settings.data, "input_size": settings.size})


# --- what the frames around are for -------------------------------------------------------------------------------


def walking() -> list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
    """Three frames each of single people of the synthetic scene, with the keypoints (17, 2) of the middle one, pixels,
    and which of them are labelled."""
    clips = []
    for scene in (Scene(seed=seed, width=160, height=120, persons=1) for seed in (6, 12)):
        for number in range(0, 160, 20):
            frames = [scene.frame(number + i) for i in range(3)]
            if len(frames[1].persons) == 1 and (frames[1].visibility > 0).sum() > 12:
                points = frames[1].persons.keypoints[0, :, :2]
                clips.append(([frame.image for frame in frames], points, frames[1].visibility[0] > 0))
    return clips


def hidden(clip: tuple[list[np.ndarray], np.ndarray, np.ndarray], rng: np.random.Generator) -> tuple[Tensor, Target]:
    """The person somewhere in frames (3, 3, 64, 64) of which the middle one shows nothing, and where they are in it."""
    images, points, seen = clip
    low, high = points[seen].min(0), points[seen].max(0)
    matrix = augment.scaling(64 / (high - low).max() * rng.uniform(0.5, 0.75))
    matrix = augment.rotation(rng.normal(0, 8)) @ matrix @ augment.translation(*-(low + high) / 2)
    matrix = augment.translation(*(32 + rng.uniform(-14, 14, 2))) @ matrix
    shown = np.stack([augment.warp_image(image, matrix, (64, 64)) for image in images])
    shown[1] = 127
    places = (points @ matrix[:2, :2].T + matrix[:2, 2]) / 64
    people = target([places.tolist()], [seen.tolist()])
    return (torch.from_numpy(shown.transpose(0, 3, 1, 2)) / 255 - 0.5), people


def error_after_training(frames: int, clips: list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]) -> float:
    """Mean distance of the keypoints in pixels, of clips as they were trained on but placed anew."""
    model = tiny(frames)
    criterion, forward = objective.criterion("coco17"), objective.TrainingForward(model.train())
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    rng = np.random.default_rng(0)
    middle = slice(None) if frames == 3 else slice(1, 2)
    steps = 120
    for step in range(steps):
        batch = [hidden(clips[rng.integers(len(clips))], rng) for _ in range(8)]
        images = torch.stack([images[middle] for images, _ in batch])
        loss = torch.stack(list(criterion(forward, images, [people for _, people in batch], [0] * 8).values())).sum()
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20, 2 * (1 - step / steps))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    rng, errors = np.random.default_rng(1), []
    for clip in clips * 3:
        images, people = hidden(clip, rng)
        with torch.no_grad():
            found = model(images[None, middle])["pred_keypoints"][0, 0].view(17, 2)
        errors.append(float((found - people.keypoints[0]).norm(dim=-1)[people.labelled[0]].mean()) * 64)
    return float(np.mean(errors))


def test_the_frames_around_tell_where_a_person_is_whom_the_middle_frame_hides() -> None:
    clips = walking()
    assert len(clips) >= 6
    alone, in_context = (error_after_training(frames, clips) for frames in (1, 3))
    assert in_context < 0.65 * alone, (alone, in_context)


def test_every_frame_starts_as_the_one_of_a_network_for_pictures(tmp_path: Path) -> None:
    """Where nothing moves, three frames then say what one said."""
    path = tmp_path / "picture.safetensors"
    torch.manual_seed(1)
    picture = models.create("pavenet_lite", frames=1)
    with torch.no_grad():  # It starts with zeros in places.
        for parameter in picture.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    loading.save(picture, path)
    video = models.create("pavenet_lite")
    objective.load_backbone(video, path)
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        one, three = picture(image), video(image)
    assert one["pred_keypoints"].std() > 0.05
    for key, value in one.items():
        torch.testing.assert_close(three[key], value, atol=1e-5, rtol=0)


def test_the_small_one_starts_from_the_embedded_models_first_stage(tmp_path: Path) -> None:
    model = models.create("pavenet_lite")
    first = models.create("centernet_lite")
    path = tmp_path / "first.safetensors"
    loading.save(first, path)
    objective.load_backbone(model, path)
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    assert isinstance(model, PAVENet)
    with torch.no_grad():
        finest = model.backbone(image)[0][:, : 4 * CHANNELS]
        torch.testing.assert_close(nn.functional.pixel_shuffle(finest, 2), first.encode(image)[0])
    state = loading.read(path)
    loading.save(models.create("detrpose_lite"), path)
    with pytest.raises(CheckpointError, match=r"'backbone.stem.weight' is missing"):
        objective.load_backbone(model, path)
    save_file({**state, "pyramid.top.bias": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"'pyramid.top.bias' is \(3,\), pavenet_lite has \(64,\)"):
        objective.load_backbone(model, path)


def test_moved_pictures_wander_by_shares_of_their_sides_and_grow_at_an_even_pace() -> None:
    image = np.zeros((40, 400, 3), np.uint8)
    labels = Labels.from_keypoints([[[210, 20, 2]] * 17], "coco17", boxes=[[195, 5, 30, 30]])
    wandering = ClipSettings(frames=3, still_weight=1, degrees=0, shift=0.01, zoom=0)
    clips = [moved(([image], [labels]), wandering, (400, 40), np.random.default_rng(n))[1] for n in range(40)]
    across, down = np.abs([clip[2].keypoints[0, 0, :2] - (210, 20) for clip in clips]).mean(0)
    assert 2 < across < 5 and 0.2 < down < 0.5
    growing = ClipSettings(frames=5, still_weight=1, degrees=0, shift=0, zoom=0.1)
    _, frames = moved(([image], [labels]), growing, (400, 40), np.random.default_rng(0))
    distances = np.array([frame.keypoints[0, 0, 0] - 200 for frame in frames])
    assert distances[2] == 10 and abs(distances[0] - 10) > 0.1
    np.testing.assert_allclose(distances[1:] / distances[:-1], distances[1] / distances[0], rtol=1e-4)


def test_clips_are_the_frames_around_an_annotated_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def brighter(images: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        return [image + 1 for image in images]

    frames = []
    for i in range(5):
        labels = Labels.from_keypoints([[[14.0 + i, 16, 2]] * 17], "coco17", boxes=[[10, 10, 12, 12]])
        read = partial(np.full, (32, 32, 3), 20 * i, np.uint8)
        frames.append(Sample(i, 32, 32, labels, read, video="v", frame=i, labelled=i == 2))
    view = {"flip": 0, "turn": 0, "stretch": 1, "shift": 0, "zoom": [1, 1]}
    data = {"smallest": 0, "clips": {"frames": 3, "videos": {"synthetic": {"split": "val"}}, "view": view}}
    monkeypatch.setattr(augment, "CAMERA", ((brighter, 1.0),))
    for smallest, people in ((0, 1), (100, 0)):
        clips = clip_samples({**data, "smallest": smallest}, {"input_size": (32, 32)})
        video = ListedDataset("video", skeletons.get("coco17"), frames)
        monkeypatch.setitem(clips._videos, "synthetic", video)
        for number in range(6):
            images, target = clips[number]
            assert images[:, 0, 16, 16].tolist() == [21, 41, 61]
            assert len(target) == people
            np.testing.assert_allclose(target.keypoints.numpy()[:, 0], np.full((people, 2), 0.5))


def test_joints_are_refined_of_those_who_were_matched_and_compared_with_the_same_people() -> None:
    """The decoder here gives back the poses of the queries that it is to refine; the first stage finds the people with
    other queries than the decoder of poses."""
    truth = [target([[[0.3, 0.3]] * 17, [[0.6, 0.6]] * 17], [[1] * 17] * 2), target([[[0.5, 0.5]] * 17], [[1] * 17])]
    poses = torch.tensor([[0.9, 0.6, 0.3, 0.9], [0.9, 0.9, 0.9, 0.5]])[..., None, None].expand(-1, -1, 17, 2)
    chosen: list[list[list[int]]] = []

    def forward(clips: Tensor, choose: Any) -> pavenet.Predictions:
        tokens, last = (Prediction(torch.zeros(2, 4, 1), places, None) for places in (poses.flip(1), poses))
        queries = choose(last)
        chosen.append(queries.tolist())
        joints = poses[torch.arange(2)[:, None], queries]
        return pavenet.Predictions(tokens, [last], [Prediction(None, joints, None)], [poses], None)

    network: Any = SimpleNamespace(variant=SimpleNamespace(petr=True), forward_training=forward)
    losses = objective.criterion("coco17").losses(network, torch.zeros(2, 1, 3, 64, 64), truth)
    assert chosen == [[[1, 2], [3, 0]]], "padded with the first query"
    for name, loss in losses.items():
        # Of eight queries three are somebody; for three people.
        by_hand = 2 * (3 * 0.25 + 5 * 0.75) / 4 * math.log(2) / 3 if name.endswith("classes") else 0
        assert float(loss) == pytest.approx(by_hand, abs=1e-4), name


def test_who_is_annotated_counts_where_others_are_not() -> None:
    prediction = Prediction(torch.zeros(1, 2, 1), torch.tensor([[[[0.9, 0.9]], [[0.9, 0.9]]]]), None)
    truth = target([[[0.9, 0.9]]], [[1]], ignored=[[0.8, 0.8, 0.2, 0.2]])
    loss = objective.class_loss(prediction, [truth], [(torch.tensor([1]), torch.tensor([0]))])
    assert float(loss) == pytest.approx(0.25 * 0.5**2 * math.log(2))


def test_weights_of_some_parts_leave_those_of_the_others_as_published() -> None:
    criterion = objective.criterion("coco17", keypoints={"joints": 5}, oks={"tokens": 1.5})
    of_petr, plain = criterion.weights[True], criterion.weights[False]
    assert of_petr.keypoints == {"tokens": 70, "poses": 70, "joints": 5}
    assert of_petr.oks == {"tokens": 1.5, "poses": 2, "joints": 3}
    assert plain.keypoints == {"tokens": 1, "poses": 1, "joints": 5} and plain.oks == {"tokens": 1.5}
    assert (of_petr.classes, of_petr.heatmaps, plain.classes, plain.heatmaps) == (2, 4, 0.5, 0)
