from __future__ import annotations

import numpy as np

from pave_ros import postprocessing
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


def test_model_info_survives_the_file() -> None:
    assert ModelInfo.from_json(INFO.to_json()) == INFO
