"""Person detectors, the first stage of top-down models, behind one small interface.

Importing this package is cheap; each library loads when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pave_ros.detection.base import Detector

GIVEN = "given"  # No detector: the boxes come with the pictures.
# torchvision's, by the names it has for them; the first is the default.
TORCHVISION = (
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
)


def open_detector(name: str, weights: str | Path = "auto", device: str = "auto") -> Detector:
    """A detector by name.

    Args:
        name: one of `TORCHVISION`, or the path of an ONNX file, see `pave_ros.detection.onnx`.
        weights: of a torchvision detector: ``auto`` (the published file, from the cache or by download), a path, or
            ``random`` (untrained, to try the data path).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DetectorError: an unknown name, or a file that does not fit.
        FileNotFoundError, `WeightsError`: no weights; the message says how to get them.
    """
    from pave_ros.detection.base import DetectorError

    if name.endswith(".onnx"):
        from pave_ros.detection.onnx import OnnxDetector

        return OnnxDetector(Path(name).expanduser(), device)
    if name in TORCHVISION:
        from pave_ros.checkpoints import files

        try:
            from pave_ros.detection.torchvision import TorchvisionDetector
        except ModuleNotFoundError as error:
            raise DetectorError(
                f"the detector {name} needs torch and torchvision, and {error.name} is not installed; the detectors "
                "embedded, centernet_lite and .onnx files do without"
            ) from None
        return TorchvisionDetector(name, None if str(weights) == files.RANDOM else files.resolve(weights, name), device)
    raise DetectorError(
        f"unknown detector {name!r}; known: {', '.join(TORCHVISION)}, the path of an .onnx file, the name of a pose "
        f"model, and {GIVEN} (boxes that come with the pictures)"
    )
