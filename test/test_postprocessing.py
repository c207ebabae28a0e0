from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from pave_ros import models, postprocessing, preprocessing
from pave_ros.engines.pytorch import prepared
from pave_ros.models.info import ModelInfo
from pave_ros.preprocessing import network_input

INFO = ModelInfo("detrpose", "n", "coco17", (64, 96), 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def outputs(logits: list[list[float]]) -> dict[str, np.ndarray]:
    keypoints = np.linspace(0, 1, len(logits))[:, None] * np.ones((len(logits), 34))
    return {"pred_logits": np.array([logits]), "pred_keypoints": keypoints[None]}


def test_pairs_of_query_and_class_are_ranked_together() -> None:
    scores, labels, points = postprocessing.detrpose_ranked(outputs([[0.0, 2.0], [3.0, -1.0]]), (200, 100))
    assert labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3.0, -2.0, 0.0, 1.0])))
    assert points[0].tolist() == [[200, 100]] * 17
    assert points[1].tolist() == [[0, 0]] * 17


def test_only_label_one_is_a_person() -> None:
    people = postprocessing.persons(INFO, outputs([[0.0, 2.0], [3.0, -1.0]]), (200, 100))
    np.testing.assert_allclose(people.scores, 1 / (1 + np.exp([-2.0, 1.0])), rtol=1e-6)
    assert (people.keypoints[0, :, 2] == people.scores[0]).all(), "keypoints carry their person's score"
    assert people.skeleton == "coco17"


def test_input_is_stretched_scaled_and_rgb() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[..., 2] = 255
    blob = network_input(image, INFO)
    assert blob.shape == (1, 3, 64, 96) and blob.dtype == np.float32 and blob.flags.c_contiguous
    assert (blob[0, 2] == 1).all() and (blob[0, :2] == 0).all()
    assert (network_input(image, INFO, bgr=True)[0, 0] == 1).all()


def test_input_is_normalised_per_channel() -> None:
    info = ModelInfo("detrpose", "n", "coco17", (32, 32), 32, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    blob = network_input(np.full((32, 32, 3), 255, np.uint8), info)
    np.testing.assert_allclose(blob[0, :, 0, 0], [1.0, 3.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("resize", "picture", "size"),
    [
        ("stretch", (480, 640), (800, 1333)),
        # As mmcv.imrescale((1333, 800)) and Detectron2's ResizeShortestEdge(800, 1333) have it.
        ("fit", (480, 640), (800, 1067)), ("fit", (640, 480), (1067, 800)), ("fit", (720, 1280), (750, 1333)),
        ("fit", (1080, 1920), (750, 1333)), ("fit", (427, 640), (800, 1199)), ("fit", (1, 3000), (1, 1333)),
        # As DETR's get_size_with_aspect_ratio(size=800, max_size=1333).
        ("fit_detr", (480, 640), (800, 1066)), ("fit_detr", (720, 1280), (750, 1333)),
        ("fit_detr", (301, 2000), (201, 1335)), ("fit_detr", (1, 3000), (1, 3000)),
        ("fit_detr", (1366, 768), (1332, 749)), ("fit_detr", (427, 640), (800, 1199)),
    ],
)  # fmt: skip
def test_network_sizes_are_those_of_the_published_pipelines(
    resize: str, picture: tuple[int, int], size: tuple[int, int]
) -> None:
    info = ModelInfo("pavenet", "r50", "posetrack15", (800, 1333), 1, (0,) * 3, (1,) * 3, resize=resize)
    assert info.network_size(*picture) == size
    assert network_input(np.zeros((*picture, 3), np.uint8), info).shape[2:] == size


def test_fitted_sizes_are_multiples_of_the_stride_and_close_to_the_bounds() -> None:
    info = ModelInfo("pavenet", "hrnet_w48", "posetrack15", (800, 1333), 32, (0,) * 3, (1,) * 3, resize="fit")
    assert info.network_size(480, 640) == (800, 1056)
    assert info.network_size(10, 1000) == (32, 1344), "never nothing"
    info.check_input_size()


def test_without_antialias_shrinking_samples_in_floating_point() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    infos = [ModelInfo("s", "v", "coco17", (16, 16), 1, (0,) * 3, (1,) * 3, antialias=a) for a in (True, False)]
    averaged, sampled = (network_input(stripes, info) for info in infos)
    np.testing.assert_allclose(averaged, 0.25, atol=3e-3)
    assert sampled.max() == 0, "it looks between two of the four columns"
    assert sampled.dtype == np.float32


def test_a_side_that_shrinks_is_averaged_while_the_other_grows() -> None:
    """As Pillow does it."""
    stripes = np.zeros((48, 256, 3), np.uint8)
    stripes[:, ::4] = 255
    info = ModelInfo("s", "v", "coco17", (64, 64), 1, (0,) * 3, (1,) * 3)
    np.testing.assert_allclose(network_input(stripes, info), 0.25, atol=3e-3)


@pytest.mark.parametrize("size", [(720, 1280), (300, 400), (640, 333), (640, 640)])
def test_published_models_see_what_pillow_makes_of_a_picture(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    expected = np.asarray(PIL.Image.fromarray(image).resize((640, 640), PIL.Image.Resampling.BILINEAR))
    # Ubuntu 22.04's Pillow has no Image.Resampling.
    monkeypatch.setattr(preprocessing, "PillowImage", SimpleNamespace(fromarray=PIL.Image.fromarray))
    info = models.create("detrpose_n").info
    shrinks = max(size) > 640
    bound = 1e-3 if shrinks else 2  # Where nothing shrinks, OpenCV's rounds in another way, and is faster.
    np.testing.assert_allclose(network_input(image, info)[0] * 255, expected.transpose(2, 0, 1), atol=bound)
    turned = network_input(image[..., ::-1], info, bgr=True)
    np.testing.assert_array_equal(turned, network_input(image, info))


def test_networks_that_take_blue_first_get_it_first() -> None:
    """With the mean and the deviation of the channels in this order."""
    info = ModelInfo("tarvitpose", "s", "posetrack17", (32, 32), 1, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0), bgr=True)
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 2] = 255
    for given, is_bgr in ((image, False), (image[..., ::-1], True)):
        np.testing.assert_allclose(network_input(given, info, is_bgr)[0, :, 0, 0], [1.0, -1.0, 0.0], atol=1e-6)
        on_device = prepared(torch.from_numpy(given.copy()), info, is_bgr)
        np.testing.assert_allclose(on_device[0, :, 0, 0], [1.0, -1.0, 0.0], atol=1e-6)
    assert models.create("tarvitpose_s").info.bgr and not models.create("vitpose_s").info.bgr


def test_model_info_survives_the_file() -> None:
    assert ModelInfo.from_json(INFO.to_json()) == INFO


def test_a_wide_picture_that_shrinks_keeps_the_sharpness_of_the_input() -> None:
    image = np.zeros((256, 384, 3), np.uint8)
    image[:, ::8] = image[:, 1::8] = image[:, 2::8] = image[:, 3::8] = 255
    blob = network_input(image, INFO)  # a quarter of its size: every other column is white
    np.testing.assert_allclose(blob[0, :, :, ::2], 1, atol=3e-3)
    np.testing.assert_allclose(blob[0, :, :, 1::2], 0, atol=3e-3)
