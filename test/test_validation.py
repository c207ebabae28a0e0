"""What is measured of a network while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from stored import mixture, picture, standing
from torch import Tensor, nn

from pave_ros import models
from pave_ros.datasets.base import Labels
from pave_ros.frames import Image
from pave_ros.models import tarvitpose, vitpose
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import ModelInfo
from pave_ros.persons import Persons
from pave_ros.training.sources import ValidationPictures
from pave_ros.training.store import Picture, write_store
from pave_ros.training.validation import by_source, validate


def test_a_limit_takes_pictures_from_the_first_to_the_last_of_each_source(tmp_path: Path) -> None:
    for name, numbers in (("many", range(9)), ("few", range(20, 23))):
        write_store(tmp_path, name, [picture(number, "val") for number in numbers])
    pictures = ValidationPictures(mixture(tmp_path, weights={"many": 1, "few": 1}))
    shown: list[int] = []

    def find(image: Image, labels: Labels) -> Persons:
        shown.append(round(float(labels.keypoints[0, 0, 0])) - 80)
        return labels.as_persons()

    everything = [*range(9), 20, 21, 22]
    for limit, expected in ((0, everything), (9, everything), (3, [0, 4, 8, 20, 21, 22]), (2, [0, 8, 20, 22])):
        shown.clear()
        assert list(by_source(find, pictures, limit)) == ["many", "few"]
        assert shown == expected


class Certain(PoseModel):
    """Sees the person of `picture(0)` in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.info = ModelInfo("detrpose", "n", "coco17", (64, 64), 32, (0.5,) * 3, (0.5,) * 3)
        self.points = nn.Parameter(torch.from_numpy(standing((30, 10)).keypoints[..., :2] / (160, 200)))
        self.modes: list[bool] = []

    def encode(self, images: Tensor) -> Features:
        self.modes.append(self.training)
        return (images,)

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        return {"pred_logits": torch.tensor([[[-9.0, 9.0]]]), "pred_keypoints": self.points.flatten(1)[None]}


def test_the_mean_is_over_the_sources_that_can_be_scored(tmp_path: Path) -> None:
    nobody = Picture("nobody", np.zeros((200, 160, 3), np.uint8), standing()[:0], "val")
    there, elsewhere = picture(0, "val"), picture(40, "val")
    for name, stored in (("right", [there, elsewhere]), ("wrong", [elsewhere]), ("empty", [nobody])):
        write_store(tmp_path, name, stored)
    model = Certain()
    for training in (True, False):
        model.train(training)
        pictures = ValidationPictures(mixture(tmp_path, weights={"right": 1, "wrong": 1, "empty": 1}))
        scores = validate(model, pictures, limit=1)
        assert scores == pytest.approx({"right": 1, "wrong": 0, "empty": float("nan"), "mean": 0.5}, nan_ok=True)
        assert model.training is training, "as it was"
    assert model.modes == [False] * 6
    alone = validate(model, ValidationPictures(mixture(tmp_path, weights={"empty": 1})))
    assert alone == pytest.approx({"empty": float("nan"), "mean": float("nan")}, nan_ok=True)


@pytest.mark.parametrize("name", ["simplebaseline_lite", "tarvitpose_s"])
def test_networks_of_crops_look_at_every_person_but_not_at_groups(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the network does, for what runs is folded; and a clip is the picture again and again."""
    small = vitpose.Variant("", channels=48, depth=2, heads=4, drop_path=0.0)
    monkeypatch.setitem(tarvitpose.VARIANTS, "s", tarvitpose.Variant(small))
    people = np.concatenate([standing((20 * number, 10)).keypoints for number in range(3)])
    labels = Labels.from_keypoints(people, "coco17", crowd=[False, True, False])
    write_store(tmp_path, "three", [Picture("p", np.zeros((200, 160, 3), np.uint8), labels, "val")])
    model = models.create(name, skeleton="coco17")
    looked_at: list[int] = []
    model.backbone.register_forward_pre_hook(lambda module, crops: looked_at.append(len(crops[0])))
    scores = validate(model, ValidationPictures(mixture(tmp_path, weights={"three": 1})))
    assert looked_at[0] == 2, "whom it finds, it looks at again"
    assert not model.fused and set(scores) == {"three", "mean"}
