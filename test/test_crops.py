"""One person's crop: what is cut out, and heatmaps of it back to keypoints."""

from __future__ import annotations

import numpy as np
import pytest

from pave_ros import skeletons
from pave_ros.models.info import ModelInfo
from pave_ros.models.simplebaseline import SPREAD
from pave_ros.topdown.crops import crop_boxes, crop_inputs, matrix
from pave_ros.topdown.heatmaps import dark, dark_udp, keypoints_in, peaks, presence
from pave_ros.topdown.styles import STYLES, Style

SIZE = (288, 384)
PLAIN, UDP = STYLES["tarvitpose"], STYLES["vitpose"]
SIGMAS = skeletons.get("coco17").sigmas


def test_crops_are_a_quarter_larger_than_boxes_in_the_proportions_of_the_input() -> None:
    boxes = np.array([[100, 50, 60, 40], [0, 0, 30, 80]], np.float32)
    # 60 x 40 becomes 60 x 80, 30 x 80 becomes 60 x 80; both times 1.25, about the centres (130, 70) and (15, 40).
    np.testing.assert_allclose(crop_boxes(boxes, SIZE), [[130, 70, 75, 100], [15, 40, 75, 100]])


def test_the_matrix_takes_the_crop_to_the_input() -> None:
    crop = np.array([130, 70, 75, 100], np.float32)
    plain = matrix(crop, SIZE)
    np.testing.assert_allclose(plain @ [130, 70, 1], [144, 192], atol=1e-4)
    np.testing.assert_allclose(plain @ [92.5, 20, 1], [0, 0], atol=1e-4)
    np.testing.assert_allclose(plain @ [167.5, 120, 1], [288, 384], atol=1e-4)
    udp = matrix(crop, SIZE, udp=True)
    np.testing.assert_allclose(udp @ [167.5, 120, 1], [287, 383], atol=1e-9)
    turned = matrix(crop, SIZE, rotation=90.0)
    # The crop turned to the right: what lies right of its centre comes to lie above.
    np.testing.assert_allclose(turned @ [140, 70, 1], [144, 192 - 38.4], atol=1e-4)
    np.testing.assert_allclose(
        matrix(crop, SIZE, udp=True, rotation=90.0) @ [140, 70, 1], [143.5, 191.5 + 38.3], atol=1e-9
    )


def test_quarter_offset_by_hand() -> None:
    heatmap = np.zeros((1, 3, 8, 6), np.float32)
    heatmap[0, 0, 3, 2], heatmap[0, 0, 3, 3], heatmap[0, 0, 2, 2] = 1.0, 0.5, 0.4
    heatmap[0, 1, 1, 4], heatmap[0, 1, 2, 4] = 0.8, 0.7  # too near the border
    heatmap[0, 2] = -1  # nothing
    crop = np.array([[100, 100, 60, 80]], np.float32)  # ten pixels for one of the heatmap, from (70, 60) on
    found = keypoints_in(heatmap, crop, PLAIN, "quarter", SIGMAS[:3])[0]
    np.testing.assert_allclose(found[0], [70 + 22.5, 60 + 27.5, 1.0], atol=1e-4)
    np.testing.assert_allclose(found[1], [70 + 40, 60 + 10, 0.8], atol=1e-4)
    np.testing.assert_allclose(found[2], [70, 60, -1], atol=1e-4)


@pytest.mark.parametrize("style, sigma", [(PLAIN, 3.0), (UDP, 2.0)])
def test_dark_finds_the_centre_of_a_gaussian(style: Style, sigma: float) -> None:
    yy, xx = np.mgrid[:96, :72]
    truth = [(30.3, 40.8), (20.0, 60.5), (50.6, 15.2)]
    heatmaps = np.stack([np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2)) for x, y in truth])[None]
    points, scores = peaks(heatmaps)
    refine = dark_udp if style.udp else dark
    np.testing.assert_allclose(refine(heatmaps, points, style.blur)[0], truth, atol=0.02)
    assert (scores > 0.9).all()


def test_flat_heatmaps_move_nothing() -> None:
    flat = np.full((1, 17, 96, 72), 0.5)
    points, _ = peaks(flat)
    for refine in (dark, dark_udp):
        assert np.isfinite(refine(flat, points + 40, 11)).all()


def test_heatmaps_that_are_probabilities_say_how_likely_a_joint_is_there() -> None:
    style = STYLES["simplebaseline"]
    assert style.spread == SPREAD, "as the network makes them"
    x, y = np.meshgrid(np.arange(40), np.arange(48))
    spot = np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / (2 * style.spread**2))
    heatmaps = np.stack((spot, 0.25 * spot, 0 * spot))[None].astype(np.float32)
    np.testing.assert_allclose(presence(heatmaps, style), [[1, 0.25, 0]], atol=1e-3)
    np.testing.assert_array_equal(presence(heatmaps, STYLES["vitpose"]), np.ones((1, 3)))


def test_where_nothing_is_above_zero_the_maximum_is_the_first_cell() -> None:
    heatmap = np.full((1, 1, 8, 6), -1, np.float32)
    heatmap[0, 0, 4, 3] = -0.5
    points, scores = peaks(heatmap)
    assert points.tolist() == [[[0, 0]]] and scores.tolist() == [[-0.5]]


@pytest.mark.parametrize("style", [PLAIN, UDP])
def test_no_keypoint_is_thrown_further_than_two_cells(style: Style) -> None:
    heatmaps = np.random.default_rng(0).random((20, 17, 64, 48)).astype(np.float32)
    points, _ = peaks(heatmaps)
    refine = dark_udp if style.udp else dark
    assert np.abs(refine(heatmaps, points, style.blur) - points).max() <= 2


@pytest.mark.parametrize("style", [PLAIN, UDP])
def test_heatmaps_are_smoothed_apart(style: Style) -> None:
    """What lies at the top of the next one is no neighbour of what lies at the bottom of this one."""
    yy, xx = np.mgrid[:64, :48]
    heatmaps = np.stack([np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8) for x, y in ((20.3, 60.7), (23.6, 2.2))])[None]
    refine = dark_udp if style.udp else dark
    together = refine(heatmaps, peaks(heatmaps)[0], style.blur)
    alone = [refine(heatmaps[:, k : k + 1], peaks(heatmaps)[0][:, k : k + 1], style.blur) for k in range(2)]
    np.testing.assert_allclose(together, np.concatenate(alone, 1), atol=1e-5)


@pytest.mark.parametrize(("system", "last"), [("vitpose", 150.0), ("tarvitpose", 50 + 47 / 48 * 100)])
def test_each_system_counts_the_pixels_of_crops_in_its_own_way(system: str, last: float) -> None:
    info = ModelInfo(system, "s", "coco17", (64, 48), 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)).copy()
    inputs = crop_inputs(ramp, np.array([[60, 50, 80, 100]], np.float32), info)  # from 50 to 150
    np.testing.assert_allclose(inputs[0, 0, 32, [0, -1]] * 255, [50, last], atol=0.6)
