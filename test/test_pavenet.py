"""PAVE-Net: sizes, variants, checkpoints, streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pave_ros import models, postprocessing
from pave_ros.checkpoints import loading
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.estimator import Estimator
from pave_ros.frames import Frame, FrameBuffer
from pave_ros.models import pavenet
from pave_ros.models.deformable import deformable_attention, sampled_attention
from pave_ros.models.info import ModelInfo
from pave_ros.models.pavenet import PAVENet
from pave_ros.training import card

SMALL = pavenet.Variant(
    "resnet18", encoder_layers=1, pose_layers=2, joint_layers=2, hidden=64, inner=96, queries=20, persons=5
)


def small(frames: int = 3, **changes: Any) -> PAVENet:
    """A network with the parts of the published one, small and with weights that make every part count."""
    row = replace(SMALL, frames=frames, **changes)
    info = ModelInfo(
        "pavenet", "r50", "posetrack15", (64, 96), 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
        resize="fit", antialias=False, window=frames,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PAVENet(row, info).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


@pytest.fixture
def make_estimator(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Estimator]:
    def make(frames: int = 3) -> Estimator:
        monkeypatch.setattr(models, "create", lambda name: small(frames))
        return Estimator("pavenet_r50", "random", "cpu", score_threshold=0.0)

    return make


def clip(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> list[np.ndarray]:
    """Pictures that change from one to the next."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("variant", "millions"), [("r50", 50.951), ("hrnet_w48", 88.189), ("petr_r50", 43.632)])
def test_sizes_are_the_published_ones(variant: str, millions: float) -> None:
    model = models.create("pavenet", variant)
    norms = [m for m in model.modules() if type(m).__name__ == "FrozenBatchNorm2d"]
    count = sum(p.numel() for p in model.parameters()) + sum(2 * norm.weight.numel() for norm in norms)
    assert count / 1e6 == pytest.approx(millions, abs=2e-3)


def test_the_small_one_could_come_with_the_package() -> None:
    model = models.create("pavenet_lite")
    assert 2 * sum(p.numel() for p in model.parameters()) < 16e6, "bytes in float16"
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, 3, 64, 96))
    assert outputs["pred_keypoints"].shape == (1, 20, 34) and outputs["pred_sigmas"].shape == (1, 20, 34)


def test_the_small_one_sees_people() -> None:
    """With the weights that come with the package, on pictures that it was not trained on; 0.78 when it was shipped."""
    assert card.on_synthetic_scenes("pavenet_lite", limit=24)["AP50"] > 0.65


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_any_number_of_frames_layers_queries_and_keypoints(frames: int) -> None:
    model = small(frames, pose_layers=1, joint_layers=1, queries=7, persons=4)
    outputs = model(torch.rand(2, frames, 3, 50, 70))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {"pred_logits": (2, 4, 1), "pred_keypoints": (2, 4, 30), "pred_sigmas": (2, 4, 30)}
    assert (outputs["pred_logits"].diff(dim=1) <= 0).all(), "the best first"


def test_an_even_number_of_frames_has_no_middle() -> None:
    with pytest.raises(ValueError, match="odd"):
        small(2)
    with pytest.raises(ValueError, match="looks at 3 frames, not at 2"):
        small(3)(torch.rand(1, 2, 3, 64, 64))


def test_fewer_cells_than_queries() -> None:
    assert small(queries=300, persons=100)(torch.rand(1, 3, 3, 32, 32))["pred_logits"].shape == (1, 22, 1)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix_and_fusing_changes_nothing() -> None:
    model = small().double()
    clips = torch.rand(2, 3, 3, 48, 80, dtype=torch.float64)
    both, alone = model(clips), model(clips[1:])
    fused = model.fuse()(clips)
    assert not [m for m in model.modules() if "Frozen" in type(m).__name__]
    for name, value in both.items():
        torch.testing.assert_close(value[1:], alone[name], rtol=0, atol=1e-10)
        torch.testing.assert_close(value, fused[name], rtol=0, atol=1e-10)


@torch.no_grad()
def test_every_frame_of_the_window_counts() -> None:
    model = small()
    clips = torch.rand(1, 3, 3, 64, 64)
    answer = model(clips)["pred_keypoints"]
    for frame in range(3):
        changed = clips.clone()
        changed[:, frame] = torch.rand(3, 64, 64)
        assert (model(changed)["pred_keypoints"] - answer).abs().max() > 1e-4


def test_gathering_rows_is_deformable_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (3, 4)]
    values = torch.randn(2, 47, 16, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, 6, 4, 2, 3, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3  # Some outside.
    weights = torch.rand(2, 6, 4, 2, 3, generator=generator, dtype=torch.float64)
    maps = [
        part.transpose(1, 2).reshape(8, 4, *shape)
        for part, shape in zip(values.split([35, 12], 1), shapes, strict=True)
    ]
    expected = deformable_attention(maps, locations, weights)
    torch.testing.assert_close(sampled_attention(values, shapes, locations, weights), expected, rtol=0, atol=1e-12)
    values.requires_grad_()
    torch.testing.assert_close(sampled_attention(values, shapes, locations, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["petr_r50", "swin_l"])
def test_published_layout_there_and_back(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pavenet.SWIN, "swin_l", (32, (1, 1, 2, 1), (1, 2, 4, 8)))
    row = replace(pavenet.VARIANTS[variant], hidden=64, inner=96)
    monkeypatch.setitem(pavenet.VARIANTS, variant, row)
    options = {"encoder_layers": 1, "pose_layers": 2, "joint_layers": 1, "queries": 30} | (
        {} if row.petr else {"frames": 5}
    )
    model = models.create("pavenet", variant, skeleton="posetrack15", **options)
    loading.save(model, tmp_path / "saved.pth")
    published = torch.load(tmp_path / "saved.pth", weights_only=True)["state_dict"]
    assert {key.split(".")[0] for key in published} == {"backbone", "neck", "bbox_head"}
    assert ("bbox_head.next_next_kpt_branches.1.6.bias" in published) == (not row.petr)
    meta = {"epoch": 3, "config": "model = dict(type='opera.VideoPoseV1')", "CLASSES": ("person",)}
    torch.save({"meta": meta, "state_dict": published, "optimizer": {"state": {}}}, tmp_path / "published.pth")
    again = loading.open_model(f"pavenet_{variant}", tmp_path / "published.pth")
    assert (again.info.skeleton, again.info.window) == ("posetrack15", 1 if row.petr else 5)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}}, tmp_path / "other.pth")
    with pytest.raises(loading.CheckpointError, match="is missing, which pavenet_r50"):
        loading.open_model("pavenet_r50", tmp_path / "other.pth")


def test_scores_are_calibrated_as_published() -> None:
    sigmas = np.array([[0.1, 0.1], [0.2, 0.4], [9.0, 9.0]])
    outputs = {
        "pred_logits": np.array([[[0.0]]]),
        "pred_keypoints": np.array([[[0.5, 0.25, 1.5, -0.2, 0.5, 0.5]]]),
        "pred_sigmas": sigmas.reshape(1, 1, 6),
    }
    keypoints, scores, boxes = postprocessing.pavenet_people(outputs, (200, 100))
    certainty = 0.7 * np.array([0.8646647168**2, 0.6321205588 * 0.3934693403, 0.0219771321**2])
    np.testing.assert_allclose(scores, [0.5])
    np.testing.assert_allclose(keypoints[0, :, 2], 0.5 * certainty, rtol=1e-6)
    shrink = certainty**5 / (certainty**5 + 1e-10)
    np.testing.assert_allclose(keypoints[0, :, :2], [[100, 25], [200, 0], [100, 50]] * shrink[:, None], rtol=1e-5)
    assert boxes.tolist() == [[100, 0, 100, 50]], "of the keypoints before they are drawn to the corner"


# --- streaming ----------------------------------------------------------------------------------------------------


def newest(buffer: FrameBuffer) -> list[Frame]:
    """The history with the frame that was pushed last."""
    taken = buffer.take(0)
    assert taken is not None
    return buffer.keep(taken)


def stream(estimator: Estimator, frames: list[Frame], lookahead: int = 0) -> list[Any]:
    """The answers as the node makes them."""
    buffer = FrameBuffer(estimator.reach + 1 + lookahead)
    answers = []
    for frame in frames:
        buffer.push(frame)
        history = newest(buffer)
        if len(history) > lookahead:
            answers.append(estimator.estimate(history, -1 - lookahead))
    return answers


def offline(estimator: Estimator, images: list[np.ndarray], window: tuple[int, ...]) -> Any:
    """The answer of the network to a whole clip at once."""
    frames = [Frame(0, image=images[i].copy()) for i in window]
    return estimator.estimate(frames, len(window) // 2)


@pytest.mark.parametrize(("frames", "lookahead"), [(3, 0), (3, 1), (5, 1)])
def test_streaming_equals_offline_and_encodes_each_frame_once(
    frames: int, lookahead: int, make_estimator: Callable[..., Estimator], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator, images, reach = make_estimator(frames), clip(4), frames // 2
    encoded = []
    encode = PyTorchEngine.encode
    monkeypatch.setattr(PyTorchEngine, "encode", lambda self, image: encoded.append(1) or encode(self, image))
    answers = stream(estimator, [Frame(i, image=image) for i, image in enumerate(images)], lookahead)
    assert len(answers) == 4 - lookahead and len(encoded) == 4
    for middle, answer in enumerate(answers):
        window = tuple(
            min(max(middle + offset, 0), middle + min(lookahead, reach)) for offset in range(-reach, reach + 1)
        )
        expected = offline(estimator, images, window)
        np.testing.assert_allclose(answer.keypoints, expected.keypoints, rtol=0, atol=1e-4 * 64)
        np.testing.assert_allclose(answer.scores, expected.scores, rtol=0, atol=1e-4)


def test_a_video_gives_every_frame_the_published_window(make_estimator: Callable[..., Estimator]) -> None:
    estimator, images = make_estimator(), clip(4)
    answers = list(estimator.video(Frame(i, image=image) for i, image in enumerate(images)))
    assert [frame.stamp for frame, _ in answers] == [0, 1, 2, 3]
    for (_, persons), window in zip(answers, [(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)], strict=True):
        np.testing.assert_allclose(persons.keypoints, offline(estimator, images, window).keypoints, atol=1e-3)


def test_a_video_that_breaks_off_is_answered_to_its_end(make_estimator: Callable[..., Estimator]) -> None:
    estimator, images = make_estimator(), clip(3)

    def frames() -> Iterator[Frame]:
        yield from (Frame(i, image=image) for i, image in enumerate(images))
        raise OSError("cut off")

    answered = []
    with pytest.raises(OSError, match="cut off"):
        answered.extend(frame.stamp for frame, _ in estimator.video(frames()))
    assert answered == [0, 1, 2]


def test_a_video_holds_the_features_of_its_window_only(make_estimator: Callable[..., Estimator]) -> None:
    estimator = make_estimator()
    frames = [Frame(i, image=image) for i, image in enumerate(clip(6))]
    held = [sum(frame.features is not None for frame in frames) for _ in estimator.video(frames)]
    assert max(held) == 3 and all(frame.features is frame.encoder is None for frame in frames)


def test_cameras_keep_their_own_windows_and_sizes_do_not_mix(make_estimator: Callable[..., Estimator]) -> None:
    estimator = make_estimator()
    videos = {"left": clip(3, seed=1), "right": clip(3, size=(40, 72), seed=2)}
    buffers = {name: FrameBuffer(2) for name in videos}
    for i in range(3):
        for name, images in videos.items():
            buffers[name].push(Frame(i, image=images[i]))
            history = newest(buffers[name])
            expected = offline(estimator, images, (max(i - 1, 0), i, i))
            np.testing.assert_allclose(estimator.estimate(history).keypoints, expected.keypoints, atol=1e-3)
    mixed = [Frame(0, image=videos["left"][0]), Frame(1, image=videos["right"][0])]
    alone = estimator.estimate([Frame(1, image=videos["right"][0])])
    np.testing.assert_allclose(estimator.estimate(mixed).keypoints, alone.keypoints, atol=1e-3)


def test_the_memory_of_a_stream_is_bounded_by_the_window(make_estimator: Callable[..., Estimator]) -> None:
    estimator = make_estimator()
    buffer = FrameBuffer(estimator.reach + 1)
    sizes = []
    for i, image in enumerate(clip(4)):
        buffer.push(Frame(i, image=image))
        estimator.estimate(newest(buffer))
        sizes.append(buffer.nbytes)
    assert sizes[0] > clip(1)[0].nbytes
    assert sizes[1:] == [2 * sizes[0]] * 3
