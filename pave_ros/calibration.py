"""Pictures that a network of 8 bits is set up on: what ranges its values have, it learns from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from pave_ros.estimator import Estimator
from pave_ros.frames import Image
from pave_ros.models.info import ModelInfo
from pave_ros.preprocessing import network_input
from pave_ros.topdown.crops import crop_inputs

MOST = 300  # More than some hundred change the ranges no more.


def network_inputs(
    pictures: Iterable[tuple[Image, bool]], info: ModelInfo, input_size: tuple[int, int] | None = None
) -> list[npt.NDArray[np.float32]]:
    """Inputs (1, 3, H, W) of a network, at most `MOST`: of whole pictures, or for a network that looks at one person
    of the people whom the embedded model finds in them.

    Args:
        pictures: (H, W, 3) uint8, and whether BGR; at most `MOST` are looked at.
        info: of the network.
        input_size: (height, width); None takes the network's own.
    """
    info = replace(info, input_size=input_size or info.input_size, resize="stretch")
    find = Estimator(device="cpu") if info.top_down else None
    inputs: list[npt.NDArray[np.float32]] = []
    chance = np.random.default_rng(0)
    seen = 0
    for image, bgr in islice(pictures, MOST):  # a camera has no end, and may show nobody
        if find is None:
            inputs.append(network_input(image, info, bgr))
        elif len(people := find(image, bgr)):
            for crop in crop_inputs(image, people.boxes, info, bgr):
                # Of all people alike (reservoir sampling): those in the first pictures may be of one kind.
                if seen < MOST:
                    inputs.append(crop[None])
                elif (place := chance.integers(seen + 1)) < MOST:
                    inputs[place] = crop[None]
                seen += 1
    return inputs
