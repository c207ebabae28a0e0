"""torchvision's detectors, trained on COCO; Faster R-CNN is what the publications of video pose models take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch.nn import functional

from pave_ros.checkpoints import loading
from pave_ros.detection.base import DetectorError
from pave_ros.engines.pytorch import resolve_device
from pave_ros.frames import Image
from pave_ros.persons import Boxes
from pave_ros.preprocessing import check_image

PERSON = 1  # COCO's label
FLATTEST = 100  # Times that a picture may be as long as it is wide: flatter ones torchvision scales to nothing.


class TorchvisionDetector:
    """One of them.

    Args:
        name: as torchvision has it, e.g. ``fasterrcnn_resnet50_fpn_v2``.
        weights: file of its tensors, as torchvision publishes it; None leaves it untrained.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, name: str, weights: Path | None, device: str = "auto") -> None:
        self.name = name
        self._device = resolve_device(device)
        model: Any = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        if weights is not None:
            state = loading.read(weights)
            for key, own in model.state_dict().items():
                if key in state:
                    loading.check_numbers(key, state[key], own.dtype, str(weights))
            try:
                model.load_state_dict(state)
            except RuntimeError as error:
                raise DetectorError(
                    f"{weights}: not the weights of {name} ({str(error).splitlines()[1].strip()})"
                ) from None
        self._model = model.eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        check_image(image)
        rgb = np.array(image[..., ::-1] if bgr else image)  # A copy, which torch may write to.
        tensor = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1).float() / 255
        least = max(image.shape[:2]) // FLATTEST
        tensor = functional.pad(tensor, (0, max(least - image.shape[1], 0), 0, max(least - image.shape[0], 0)))
        found = {key: value.cpu().numpy() for key, value in self._model([tensor])[0].items()}
        people = found["labels"] == PERSON
        corners = found["boxes"][people]
        return Boxes.of(np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1), found["scores"][people])
