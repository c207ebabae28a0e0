"""A photograph of a person, Grace Hopper, that comes with matplotlib (public domain), as engines are shown it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

from pave_ros.engines.base import Engine, Outputs
from pave_ros.preprocessing import network_input

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def photograph(engine: Engine) -> npt.NDArray[Any]:
    """As the engine's input."""
    return network_input(cv2.cvtColor(cv2.imread(str(PHOTOGRAPH)), cv2.COLOR_BGR2RGB), engine.info)


def answer(engine: Engine, picture: npt.NDArray[Any], by: int = 3) -> Outputs:
    """Of a window in which the picture moves, by so many pixels a frame."""
    images = [np.roll(picture, by * t, axis=3) for t in range(engine.info.window)]
    return engine.decode([engine.encode(image) for image in images])
