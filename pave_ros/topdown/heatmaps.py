"""Heatmaps of one person's crop, back to keypoints in the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pave_ros.persons import Floats
from pave_ros.topdown.crops import Array, matrix
from pave_ros.topdown.styles import Style

DECODINGS = ("quarter", "dark", "oks")  # Those that `keypoints_in` knows.
# Square root of a person's area as a share of the crop's height: the median of COCO, JHMDB and LSPET.
PERSON = 0.375


def keypoints_in(heatmaps: Array, crops: Floats, style: Style, decoding: str, sigmas: Sequence[float]) -> Floats:
    """Keypoints (N, K, 3) of x, y, score in pixels of the picture; the score is the heatmap's maximum.

    Args:
        heatmaps: (N, K, h, w) of the crops.
        crops: (N, 4) of centre x, centre y, width, height.
        style: of the system.
        decoding: ``quarter`` (the maximum, moved a quarter pixel to the higher neighbours: as TAR-ViTPose is published
            and measured), ``dark`` (a parabola through the logarithm: DARK, Zhang et al. 2020; UDP's form of it
            is how ViTPose is) or ``oks`` (where the most OKS is to be expected).
        sigmas: K OKS standard deviations of the keypoints, for ``oks``.
    """
    if style.spread:
        heatmaps = without_corners(heatmaps)
    points, scores = peaks(heatmaps)
    if decoding == "quarter":
        points = quarter(heatmaps, points)
    elif decoding == "oks":
        points = most_oks(heatmaps, sigmas)
    else:
        points = (dark_udp if style.udp else dark)(heatmaps, points, style.blur)
    height, width = heatmaps.shape[2:]
    if style.udp:
        found = points / (width - 1, height - 1) * crops[:, None, 2:] + crops[:, None, :2] - crops[:, None, 2:] / 2
    else:
        inverses = [cv2.invertAffineTransform(matrix(crop, (width, height))) for crop in crops]
        found = np.stack([p @ m[:, :2].T + m[:, 2] for p, m in zip(points, inverses, strict=True)])
    return np.concatenate((found, scores[..., None]), -1).astype(np.float32)


def peaks(heatmaps: Array) -> tuple[Array, Array]:
    """Where the maxima of heatmaps (N, K, h, w) are, (N, K, 2) of x, y, and how high, (N, K); (0, 0) where nothing is
    above zero."""
    flat = heatmaps.reshape(*heatmaps.shape[:2], -1)
    best = flat.argmax(-1)
    scores = np.take_along_axis(flat, best[..., None], -1)[..., 0]
    points = np.stack((best % heatmaps.shape[3], best // heatmaps.shape[3]), -1).astype(np.float64)
    return points * (scores > 0)[..., None], scores


def without_corners(heatmaps: Array) -> Array:
    """The heatmaps (N, K, h, w), zero in the four corners. No joint lies there, as a crop is larger than its person;
    but to a network that learned from few pictures a corner may look like one, and a limb would fly there."""
    inner = heatmaps.copy()
    inner[:, :, :: heatmaps.shape[2] - 1, :: heatmaps.shape[3] - 1] = 0
    return inner


def presence(heatmaps: Array, style: Style) -> Floats:
    """(N, K) how likely each joint is in the crop, from heatmaps (N, K, h, w) that are probabilities; 1 for others."""
    if not style.spread:
        return np.ones(heatmaps.shape[:2], np.float32)
    return np.asarray(heatmaps.sum((2, 3)) / (2 * np.pi * style.spread**2), np.float32)


def quarter(heatmaps: Array, points: Array) -> Array:
    """Maxima (N, K, 2) moved by a quarter pixel towards the higher neighbour in x and in y, unless near the border."""
    at = _Around(heatmaps, points, margin=(2, 1))
    slope = np.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), -1)
    return points + np.where(at.inside[..., None], np.sign(slope) * 0.25, 0)


def dark(heatmaps: Array, points: Array, blur: int) -> Array:
    """Maxima (N, K, 2) moved to those of Gaussians (DARK), unless near the border."""
    smooth, scale = _smoothed(heatmaps, blur)
    at = _Around(smooth, points, margin=(2, 2), read=lambda values: np.log(np.maximum(values * scale, 1e-10)))
    slope = np.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), -1) / 2
    xx, yy = ((at(2 * x, 2 * y) - 2 * at(0, 0) + at(-2 * x, -2 * y)) / 4 for x, y in ((1, 0), (0, 1)))
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    return points + np.where((at.inside & (xx * yy != xy**2))[..., None], _newton(slope, xx, xy, yy), 0)


def dark_udp(heatmaps: Array, points: Array, blur: int) -> Array:
    """The same in UDP's form: finer steps, and heatmaps go on beyond their borders."""
    return _udp_refined(*_smoothed(heatmaps, blur), points)


def most_oks(heatmaps: Array, sigmas: Sequence[float]) -> Array:
    """Where the most OKS is to be expected (N, K, 2), if heatmaps tell how likely a keypoint lies where: the maxima
    after a Gaussian filter as wide as OKS tolerates of each keypoint. That is the same place where the network is sure;
    between two hips that it cannot tell apart, OKS likes the one with more around it (Purkrabek and Matas,
    ProbPose, CVPR 2025)."""
    smooth, scale = np.empty(heatmaps.shape, np.float32), np.ones(heatmaps.shape[:2])
    for sigma in set(sigmas):
        which = [k for k, other in enumerate(sigmas) if other == sigma]
        deviation = 2 * sigma * PERSON * heatmaps.shape[2]
        blur = 2 * math.ceil(2 * deviation) + 1
        smooth[:, which], scale[:, which] = _smoothed(heatmaps[:, which], blur, deviation)
    return _udp_refined(smooth, scale, peaks(smooth)[0])


def _udp_refined(smooth: Array, scale: Array, points: Array) -> Array:
    """Maxima (N, K, 2) of smooth heatmaps, which `scale` (N, K) brings to their old height, moved to those of
    Gaussians."""
    at = _Around(smooth, points, margin=(0, 0), read=lambda values: np.log(np.clip(values * scale, 1e-3, 50.0)))
    slope = np.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), -1) / 2
    xx, yy = (at(x, y) - 2 * at(0, 0) + at(-x, -y) for x, y in ((1, 0), (0, 1)))
    xy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    flat = np.finfo(np.float32).eps  # UDP's guard against heatmaps without any curvature
    return points + _newton(slope, xx + flat, xy, yy + flat)


class _Around:
    """Values of heatmaps (N, K, h, w) near points (N, K, 2) of whole numbers.

    Attributes:
        inside: (N, K), whether `margin` pixels lie before and behind a point; if not, the values mean nothing.
    """

    def __init__(
        self,
        heatmaps: Array,
        points: Array,
        margin: tuple[int, int],
        read: Callable[[Array], Array] = lambda values: values,
    ) -> None:
        self._heatmaps, self._read = heatmaps, read
        before, behind = margin
        limits = np.array(heatmaps.shape[:1:-1]) - behind
        self.inside: Array = np.all((points >= before) & (points < limits), axis=-1)
        self._x, self._y = np.where(self.inside[..., None], points, before).astype(int).transpose(2, 0, 1)
        self._n, self._k = np.indices(points.shape[:2])

    def __call__(self, dx: int, dy: int) -> Array:
        """(N, K) what is read so many pixels to the right and below; beyond the border what is at the border."""
        height, width = self._heatmaps.shape[2:]
        y, x = np.clip(self._y + dy, 0, height - 1), np.clip(self._x + dx, 0, width - 1)
        return self._read(np.asarray(self._heatmaps[self._n, self._k, y, x], np.float64))


def _newton(slope: Array, xx: Array, xy: Array, yy: Array) -> Array:
    """(N, K, 2) the step to the maximum of a parabola with this slope and curvature.

    No longer than two pixels each way, which no real peak needs: heatmaps without one would throw a keypoint anywhere.
    """
    determinant = xx * yy - xy**2
    determinant = np.where(determinant == 0, np.inf, determinant)
    x, y = slope[..., 0], slope[..., 1]
    step = -np.stack((yy * x - xy * y, xx * y - xy * x), -1) / determinant[..., None]
    return np.clip(step, -2, 2)


def _smoothed(heatmaps: Array, blur: int, deviation: float = 0.0) -> tuple[Array, Array]:
    """Heatmaps (N, K, h, w) after a Gaussian filter of side `blur`, nothing being beyond their borders; and the factors
    (N, K) that bring them back to their old maxima. A deviation of 0 is the one that OpenCV takes for the side."""
    n, k, height, width = heatmaps.shape
    if not n:
        return heatmaps, np.ones((n, k))
    # One below the other with room between them: a filter of one tall picture is the fastest.
    tall = np.zeros((n, k, height + blur // 2, width), np.float32)
    tall[:, :, :height] = heatmaps
    tall = cv2.GaussianBlur(tall.reshape(-1, width), (blur, blur), deviation, borderType=cv2.BORDER_CONSTANT).reshape(
        tall.shape
    )
    smooth = tall[:, :, :height]
    before, after = heatmaps.max((2, 3)), smooth.max((2, 3)).astype(np.float64)
    return smooth, np.where(after > 0, before / np.where(after > 0, after, 1), 1)
