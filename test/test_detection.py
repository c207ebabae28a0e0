"""Person detectors: torchvision's, ONNX files of every layout that is understood, and pose models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pave_ros.checkpoints import files
from pave_ros.checkpoints.files import WeightsError
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.detection import open_detector
from pave_ros.detection.base import DetectorError
from pave_ros.detection.onnx import OnnxDetector, letterboxed
from pave_ros.detection.pose import PoseDetector
from pave_ros.detection.torchvision import TorchvisionDetector
from pave_ros.engines.base import EngineError
from pave_ros.estimator import Estimator
from pave_ros.persons import Boxes, Persons
from pave_ros.topdown.options import TopDownOptions

SMALL = "ssdlite320_mobilenet_v3_large"


def write_onnx(
    path: Path,
    outputs: dict[str, np.ndarray[Any, Any]],
    size: Sequence[int | str] = (64, 64),
    with_sizes: bool = False,
    size_type: int = TensorProto.INT64,
    **metadata: str,
) -> Path:
    """A file that gives every picture the same answer; with sizes, the boxes are shares of the picture."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    inputs, nodes, initializers = [images], [], []
    if with_sizes:
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", size_type, [1, 2]))
        nodes.append(helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Concat", ["sizes", "sizes"], ["corners"], axis=1))
    for name, value in outputs.items():
        grows = with_sizes and name == "boxes"
        initializers.append(numpy_helper.from_array(value, f"{name}_value"))
        nodes.append(helper.make_node("Mul" if grows else "Identity", [f"{name}_value", *["corners"] * grows], [name]))
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in outputs.items()}
    declared = [helper.make_tensor_value_info(name, kind, outputs[name].shape) for name, kind in kinds.items()]
    graph = helper.make_graph(nodes, "detector", inputs, declared, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def picture(width: int = 128, height: int = 96) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), 60, np.uint8)


def assert_boxes(found: Boxes, boxes: Sequence[Sequence[float]], scores: Sequence[float]) -> None:
    np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), atol=1e-3)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)


# --- ONNX -----------------------------------------------------------------------------------------------------------


def test_yolo_with_all_anchors(tmp_path: Path) -> None:
    """Centres and sizes in the letterboxed input, 64 / 128 of the picture; overlaps are suppressed, others are not."""
    anchors = np.zeros((1, 4 + 3, 40), np.float32)  # x, y, w, h, three classes
    anchors[0, :, 0] = [20, 16, 20, 24, 0.1, 0.9, 0.2]
    anchors[0, :, 1] = [20.5, 16, 20, 24, 0.1, 0.8, 0.2]  # the same person again
    anchors[0, :, 2] = [50, 16, 10, 24, 0.0, 0.3, 0.1]
    anchors[0, :, 3] = [40, 30, 10, 24, 0.9, 0.1, 0.1]  # something else
    anchors[0, :, 4] = [10, 30, 4, 4, 0.0, 0.01, 0.0]  # hardly anything
    path = write_onnx(tmp_path / "yolo.onnx", {"output0": anchors}, names="{0: 'dog', 1: 'person', 2: 'car'}")
    detect = open_detector(str(path), device="cpu")
    assert detect.name == "yolo"
    assert_boxes(detect(picture()), [[20, 8, 40, 48], [90, 8, 20, 48]], [0.9, 0.3])
    assert_boxes(OnnxDetector(path, "cpu", person=0)(picture()), [[70, 36, 20, 48]], [0.9])


def test_yolo_that_suppresses_overlaps_itself(tmp_path: Path) -> None:
    rows = np.array([[[10, 4, 30, 28, 0.9, 0], [32, 0, 64, 64, 0.8, 16]]], np.float32)
    path = write_onnx(tmp_path / "yolo11.onnx", {"output0": rows}, size=("h", "w"))
    # Free sides: 640, five times the picture.
    assert_boxes(OnnxDetector(path, "cpu")(picture()), [[2, 0.8, 4, 4.8]], [0.9])


def test_yolo_with_a_score_of_there_being_anything(tmp_path: Path) -> None:
    """YOLOv5: that score stands before those of the classes, and is no class itself."""
    anchors = np.zeros((1, 40, 5 + 2), np.float32)  # x, y, w, h, anything, a car, a person
    anchors[0, 0] = [20, 16, 20, 24, 0.95, 0.8, 0.1]
    anchors[0, 1] = [50, 16, 10, 24, 0.9, 0.0, 0.5]
    for name in ("Person", "pedestrian"):
        path = write_onnx(tmp_path / "yolov5.onnx", {"output0": anchors}, names=f"['car', '{name}']")
        assert_boxes(OnnxDetector(path, "cpu")(picture()), [[90, 8, 20, 48]], [0.45])
    one = np.zeros((1, 40, 6), np.float32)
    one[0, 3] = [20, 16, 20, 24, 0.95, 0.9]
    for number, names in enumerate(({"names": "{0: 'person'}"}, {})):
        path = write_onnx(tmp_path / f"people{number}.onnx", {"output0": one}, **names)
        assert_boxes(OnnxDetector(path, "cpu")(picture()), [[20, 8, 40, 48]], [0.855])


def test_yolo_of_poses_as_a_detector(tmp_path: Path) -> None:
    anchors = np.zeros((1, 4 + 1 + 51, 100), np.float32)
    anchors[0, :5, 7] = [20, 16, 20, 24, 0.9]
    anchors[0, 5:, 7] = 60  # its keypoints are no classes
    path = write_onnx(tmp_path / "pose.onnx", {"output0": anchors}, names="{0: 'person'}")
    assert_boxes(OnnxDetector(path, "cpu")(picture()), [[20, 8, 40, 48]], [0.9])
    path = write_onnx(tmp_path / "hand.onnx", {"output0": anchors[:, :20]}, names="{0: 'person'}")
    with pytest.raises(DetectorError, match=r"hand\.onnx: 20 numbers for each box, but 1 classes"):
        OnnxDetector(path, "cpu")(picture())


@pytest.mark.parametrize("numbers", [34, 51])
def test_yolo_of_poses_that_suppresses_overlaps_itself(numbers: int, tmp_path: Path) -> None:
    rows = np.zeros((1, 300, 6 + numbers), np.float32)
    rows[0, 0, :6] = [10, 4, 30, 28, 0.9, 0]
    rows[0, 0, 6:] = 20.5  # its keypoints
    for number in (300, 3, 1):  # as many as the export was told to give at most
        path = write_onnx(tmp_path / f"pose{number}.onnx", {"output0": rows[:, :number]}, names="{0: 'person'}")
        assert_boxes(OnnxDetector(path, "cpu")(picture()), [[20, 8, 40, 48]], [0.9])


def test_without_torch_a_detector_says_which_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pave_ros.detection.torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DetectorError, match=rf"{SMALL} needs torch and torchvision, .*; the detectors embedded, "):
        open_detector(SMALL, "random", "cpu")


def test_a_box_that_is_not_finite_takes_nobody_along(tmp_path: Path) -> None:
    rows = np.array([[[np.nan] * 4 + [0.9, 0], [10, 4, 30, 28, 0.8, 0]]], np.float32)
    assert_boxes(
        OnnxDetector(write_onnx(tmp_path / "nan.onnx", {"o": rows}), "cpu")(picture()), [[20, 8, 40, 48]], [0.8]
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("{0: 'car', 1: 'dog'}", "none of its 2 classes is called person, but car, dog"),
        ("{0: car}", "its names of the classes cannot be read: {0: car}"),
        ("7", "its names of the classes cannot be read: 7"),
        ("{1e400: 'person'}", "its names of the classes cannot be read: {1e400"),
    ],
)
def test_names_without_people(names: str, told: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "yolo.onnx", {"output0": np.zeros((1, 1, 6), np.float32)}, names=names)
    with pytest.raises(DetectorError, match=rf"yolo\.onnx: {told}"):
        OnnxDetector(path, "cpu")


DETR = {
    "labels": np.array([[0, 5, 0]], np.int64),
    "boxes": np.array([[[0.25, 0.5, 0.5, 1.0], [0, 0, 1, 1], [0.5, 0, 1.0, 0.5]]], np.float32),
    "scores": np.array([[0.7, 0.9, 0.8]], np.float32),
}


@pytest.mark.parametrize("size_type", [TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT])
def test_detr_with_the_size_of_the_picture(size_type: int, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "dfine.onnx", DETR, with_sizes=True, size_type=size_type)
    assert_boxes(OnnxDetector(path, "cpu")(picture()), [[64, 0, 64, 48], [32, 48, 32, 48]], [0.8, 0.7])


def test_the_picture_may_be_any_of_the_inputs(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "dfine.onnx", DETR, with_sizes=True)
    model = onnx.load(path)
    model.graph.input.extend([model.graph.input.pop(0)])
    onnx.save(model, path)
    assert len(OnnxDetector(path, "cpu")(picture())) == 2


def test_inputs_and_outputs_that_do_not_fit(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "dfine.onnx", DETR)
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, path)
    with pytest.raises(DetectorError, match=r"dfine\.onnx: beside the picture it asks for scale_factor of tensor"):
        OnnxDetector(path, "cpu")
    del model.graph.input[1:]
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    with pytest.raises(DetectorError, match=r"its input 'images' is \[2, 3, 64, 64\], not a picture"):
        OnnxDetector(path, "cpu")
    path = write_onnx(tmp_path / "classes.onnx", {**DETR, "scores": np.zeros((1, 3, 80), np.float32)})
    with pytest.raises(
        DetectorError, match=r"classes\.onnx: boxes \(1, 3, 4\), scores \(1, 3, 80\) and labels \(1, 3\)"
    ):
        OnnxDetector(path, "cpu")(picture())


def test_torchvisions_own_export(tmp_path: Path) -> None:
    outputs = {
        "boxes": np.array([[10, 4, 30, 28], [0, 0, 5, 5]], np.float32),
        "labels": np.array([1, 0], np.int64),
        "scores": np.array([0.6, 0.9], np.float32),
    }
    path = write_onnx(tmp_path / "frcnn.onnx", outputs)
    assert_boxes(OnnxDetector(path, "cpu")(picture()), [[20, 8, 40, 48]], [0.6])


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_detector(str(tmp_path / "nowhere.onnx"))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DetectorError, match=r"text\.onnx.*cannot load"):
        open_detector(str(tmp_path / "text.onnx"), device="cpu")
    odd = write_onnx(tmp_path / "odd.onnx", {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)})
    with pytest.raises(DetectorError, match=r"odd\.onnx.*a, b"):
        OnnxDetector(odd, "cpu")
    flat = write_onnx(tmp_path / "flat.onnx", {"a": np.zeros((1, 1, 6), np.float32)}, size=(8,))
    with pytest.raises(DetectorError, match=r"flat\.onnx.*images.*not a picture"):
        OnnxDetector(flat, "cpu")


def test_networks_of_another_kind_are_no_detector(tmp_path: Path) -> None:
    maps = write_onnx(tmp_path / "maps.onnx", {"heatmaps": np.zeros((1, 17, 8, 8), np.float32)})
    with pytest.raises(DetectorError, match=r"maps.onnx: its output 'heatmaps' is \[1, 17, 8, 8\], no boxes"):
        OnnxDetector(maps)
    half = onnx.load(write_onnx(tmp_path / "half.onnx", {"output0": np.zeros((1, 1, 6), np.float32)}))
    half.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(half, tmp_path / "half.onnx")
    with pytest.raises(DetectorError, match=r"half.onnx: its input 'images' is tensor\(float16\)"):
        OnnxDetector(tmp_path / "half.onnx")


def test_scores_of_boxes_are_cut_off() -> None:
    boxes = Boxes.of([[0, 0, 1, 1]] * 4, [2.0, np.inf, np.nan, -1.0])
    assert sorted(boxes.scores.tolist()) == [0, 0, 1, 1]


def test_letterboxed_pictures_keep_their_proportions() -> None:
    out, scale = letterboxed(picture(128, 32), (64, 64))
    assert out.shape == (64, 64, 3) and scale == 0.5
    assert (out[:16] == 60).all() and (out[16:] == 114).all()


# --- torchvision ----------------------------------------------------------------------------------------------------


def test_torchvision_finds_what_its_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels other than the person's are left out, corners become width and height, channels are put in order."""
    detect = TorchvisionDetector(SMALL, None, "cpu")
    seen: list[torch.Tensor] = []

    def answer(images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        seen.extend(images)
        boxes = torch.tensor([[0.0, 0, 9, 9], [10, 20, 40, 80], [1, 2, 3, 4]])
        return [{"boxes": boxes, "labels": torch.tensor([3, 1, 1]), "scores": torch.tensor([0.9, 0.5, 0.8])}]

    monkeypatch.setattr(detect, "_model", answer)
    image = picture()
    image[..., 0] = 255
    assert_boxes(detect(image), [[1, 2, 2, 2], [10, 20, 30, 60]], [0.8, 0.5])
    detect(image[..., ::-1].copy(), bgr=True)
    assert torch.equal(seen[0], seen[1]) and seen[0].shape == (3, 96, 128) and float(seen[0][0].min()) == 1


def test_a_real_network_of_torchvision_runs_and_takes_a_file(tmp_path: Path) -> None:
    one = open_detector(SMALL, "random", "cpu")
    assert isinstance(one, TorchvisionDetector) and isinstance(one(picture()), Boxes)
    torch.save(one._model.state_dict(), tmp_path / "weights.pth")
    again = open_detector(SMALL, tmp_path / "weights.pth", "cpu")
    assert isinstance(again, TorchvisionDetector)
    other = again._model.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in one._model.state_dict().items())
    torch.save({"some.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DetectorError, match=r"other\.pth.*not the weights of ssdlite320"):
        open_detector(SMALL, tmp_path / "other.pth", "cpu")
    key, value = next(iter(other.items()))
    for odd, told in ((value / 0, "numbers that are not finite"), (value.to(torch.complex64), "torch.complex64")):
        torch.save({**other, key: odd}, tmp_path / "odd.pth")
        with pytest.raises(CheckpointError, match=rf"odd\.pth: key '{key}' holds {told}"):
            open_detector(SMALL, tmp_path / "odd.pth", "cpu")


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000)])
def test_torchvision_takes_the_flattest_pictures(size: tuple[int, int]) -> None:
    detect = TorchvisionDetector("fasterrcnn_mobilenet_v3_large_320_fpn", None, "cpu")
    assert isinstance(detect(picture(*size)), Boxes)


def test_without_a_network_the_error_says_how_to_get_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))

    def nowhere(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(files._OPENER, "open", nowhere)
    with pytest.raises(
        WeightsError, match=r"weights download fasterrcnn_resnet50_fpn_v2.*https://download.pytorch.org"
    ):
        open_detector("fasterrcnn_resnet50_fpn_v2")


def test_unknown_detectors() -> None:
    with pytest.raises(DetectorError, match=r"'magic'.*fasterrcnn_resnet50_fpn_v2.*given"):
        open_detector("magic")
    with pytest.raises(EngineError, match="device"):
        open_detector(SMALL, "random", "quantum")


# --- pose models ----------------------------------------------------------------------------------------------------


def test_a_pose_model_gives_the_boxes_around_its_people() -> None:
    points = np.full((2, 17, 3), np.nan, np.float32)
    points[0, 0], points[0, 1] = (10, 20, 0.9), (30, 60, 0.9)
    points[1, 5], points[1, 6] = (50, 10, 0.9), (60, 30, 0.9)
    persons = Persons.from_keypoints(points, [0.8, 0.6], "coco17")
    detect = PoseDetector("some_pose", lambda image, bgr: persons)
    assert_boxes(detect(picture()), [[8, 16, 24, 48], [49, 8, 12, 24]], [0.8, 0.6])


def test_the_estimator_opens_every_kind_of_detector(tmp_path: Path) -> None:
    rows = np.array([[[10, 4, 30, 28, 0.9, 0]]], np.float32)
    path = write_onnx(tmp_path / "boxes.onnx", {"output0": rows})
    names = {str(path): "boxes", "given": "given", "detrpose_n": "detrpose_n", SMALL: SMALL}
    for detector, name in names.items():
        options = TopDownOptions(detector=detector, detector_weights="random")
        estimator = Estimator("vitpose_s", "random", "cpu", input_size=(32, 32), score_threshold=0.0, top_down=options)
        assert estimator.detector == name and estimator.window == 1
        if detector == str(path):
            persons = estimator(picture())
            assert persons.boxes.tolist() == [[20, 8, 40, 48]] and persons.keypoints.shape == (1, 17, 3)
    with pytest.raises(DetectorError, match="magic"):
        Estimator("vitpose_s", "random", "cpu", input_size=(32, 32), top_down=TopDownOptions(detector="magic"))
    assert Estimator("detrpose_n", "random", "cpu", input_size=(32, 32)).detector == ""


def test_an_input_may_be_wider_than_it_is_high(tmp_path: Path) -> None:
    rows = np.array([[[10, 4, 30, 28, 0.9, 0]]], np.float32)
    path = write_onnx(tmp_path / "wide.onnx", {"output0": rows}, size=(64, 128))
    # The picture of 128x96 becomes two thirds as large.
    assert_boxes(OnnxDetector(path, "cpu")(picture()), [[15, 6, 30, 36]], [0.9])


def test_an_onnx_file_sees_red_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[[10, 4, 30, 28, 0.9, 0]]], np.float32)
    detect, seen = OnnxDetector(write_onnx(tmp_path / "a.onnx", {"output0": rows}), "cpu"), []

    class Session:
        def run(self, _: Any, feed: dict[str, Any]) -> list[Any]:
            seen.append(feed["images"][0, :, 0, 0].tolist())
            return [rows]

    monkeypatch.setattr(detect, "_session", Session())
    red = picture() * np.array([4, 0, 0], np.uint8)
    detect(red)
    detect(red[..., ::-1], True)
    assert seen[0] == seen[1] == pytest.approx([240 / 255, 0, 0])


def test_pictures_are_letterboxed_by_both_sides() -> None:
    out, scale = letterboxed(picture(128, 32), (64, 32))
    assert scale == 0.5 and out.shape == (32, 64, 3) and (out[:16] == 60).all() and (out[16:] == 114).all()


def test_a_pose_model_is_told_the_order_of_the_channels() -> None:
    told = []
    detect = PoseDetector("a", lambda _, bgr: told.append(bgr) or Persons.from_keypoints([], [], "coco17"))
    detect(picture(), True)
    assert told == [True]


@pytest.mark.parametrize(("size", "padded"), [((4000, 3), (4000, 40)), ((3, 4000), (40, 4000)), ((60, 40), (60, 40))])
def test_flat_pictures_are_padded_at_their_far_side(
    size: tuple[int, int], padded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = TorchvisionDetector(SMALL, None, "cpu")
    seen: list[torch.Tensor] = []

    def answer(images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        seen.extend(images)
        return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}]

    monkeypatch.setattr(detect, "_model", answer)
    image = np.full((*size, 3), 255, np.uint8)
    assert len(detect(image)) == 0
    assert tuple(seen[0].shape) == (3, *padded)
    assert bool((seen[0][:, : size[0], : size[1]] == 1).all()) and float(seen[0].sum()) == image.size
