"""Tiny data sets in published formats, for tests of their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pave_ros import skeletons

WIDTH, HEIGHT = 64, 48


def write_picture(path: Path, color: tuple[int, int, int] = (255, 0, 0)) -> None:
    """A picture of one RGB colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), color[::-1], np.uint8))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def annotation(number: int, image: int, skeleton: str, **more: Any) -> dict[str, Any]:
    """A person whose keypoint k lies at (k + 1, 2k + 1), visible, the first one hidden, the last one not labelled."""
    count = len(skeletons.get(skeleton))
    points = [[k + 1, 2 * k + 1, 1 if k == 0 else 2] for k in range(count - 1)] + [[0, 0, 0]]
    box = [1.0, 2.0, 30.0, 40.0]
    base = {"id": number, "image_id": image, "category_id": 1, "keypoints": sum(points, []), "bbox": box}
    return {**base, "num_keypoints": count - 1, "iscrowd": 0, **more}


def coco_file(skeleton: str, names: list[str] | None = None, **image: Any) -> dict[str, Any]:
    keypoints = names or list(skeletons.get(skeleton).keypoints)
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, **image},
            {"id": 8, "file_name": "b.png", "width": WIDTH, "height": HEIGHT, **image},
        ],
        "annotations": [annotation(1, 7, skeleton, area=500.0), annotation(2, 7, skeleton, iscrowd=1, area=9.0)],
        "categories": [{"id": 1, "name": "person", "keypoints": keypoints}],
    }
