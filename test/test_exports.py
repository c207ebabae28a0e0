"""What `pave_ros export` writes: in every format the same people, and nothing else needed to run it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import reference
import torch
from torch import Tensor, nn

from pave_ros import calibration, models
from pave_ros.checkpoints import files, loading
from pave_ros.engines import open_file, openvino, tensorrt
from pave_ros.engines.base import Engine, EngineError, Outputs
from pave_ros.engines.export import Request, write
from pave_ros.engines.exported import Label, files_of, first_of_two, read_label
from pave_ros.engines.onnx_export import export_onnx, store_half
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.openvino import OpenVinoEngine, convert
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import METADATA_KEY, ModelInfo
from pave_ros.persons import Persons
from pave_ros.synthetic import Scene

GOLDEN = Path(__file__).parent / "golden"
SIZE = (96, 128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "n.pth"
    reference.write_checkpoint(path, *reference.read(GOLDEN / "detrpose_n.json"))
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    return export_onnx(loading.open_model("detrpose_n", checkpoint), checkpoint.with_suffix(".onnx"), SIZE)


def answer(engine: Engine, *clips: np.ndarray) -> Outputs:
    return engine.decode([engine.encode(images) for images in clips])


def pictures(count: int) -> list[np.ndarray]:
    """Frames of the synthetic scene as network inputs."""
    scene = Scene(seed=3, width=SIZE[1], height=SIZE[0])
    return [scene.frame(10 * i).image.astype(np.float32).transpose(2, 0, 1)[None] / 255 for i in range(count)]


def test_weights_that_no_file_holds_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pave_ros.engines.onnx_export.LARGEST", 10**7)
    with pytest.raises(EngineError, match=r"n\.onnx: an ONNX file holds 2 GB at most, and these .*fp16"):
        export_onnx(models.create("detrpose_n"), tmp_path / "n.onnx", SIZE)
    assert not list(tmp_path.iterdir())


def test_openvino_format(exported: Path, tmp_path: Path) -> None:
    file = convert(exported, tmp_path / "n.xml")
    engine = open_file(file, "detrpose_n", precision="fp32")
    assert engine.name == "openvino" and engine.info == read_label(exported).info
    picture = pictures(5)[4]  # In the first, two queries are so nearly equal that some processors change their order.
    for name, value in answer(OnnxRuntimeEngine(exported, "cpu"), picture).items():
        np.testing.assert_allclose(answer(engine, picture)[name], value, atol=1e-3)
    assert convert(exported, tmp_path / "half.xml", half=True).with_suffix(".bin").stat().st_size < 0.6 * (
        file.with_suffix(".bin").stat().st_size
    )
    other = onnx.load(exported)
    weights = max(other.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    onnx.save(other, tmp_path / "o.onnx")
    convert(tmp_path / "o.onnx", tmp_path / "o.xml").with_suffix(".bin").replace(file.with_suffix(".bin"))
    with pytest.raises(EngineError, match=r"n\.xml: made with other weights than are in n\.bin beside it; export both"):
        open_file(file, "detrpose_n", precision="fp32")
    (tmp_path / "other.xml").write_text("<net/>")
    with pytest.raises(EngineError, match=r"other\.xml"):
        open_file(tmp_path / "other.xml", "detrpose_n")


@pytest.mark.parametrize(("light", "batches"), [(0, (1,)), (10**9, (4, 2, 1))])
def test_openvino_compiles_for_few_batches(
    exported: Path, monkeypatch: pytest.MonkeyPatch, light: int, batches: tuple[int, ...]
) -> None:
    monkeypatch.setattr(openvino, "LIGHT", light)
    engine = OpenVinoEngine(exported, precision="fp32")
    assert engine.batches == batches
    seven = np.concatenate(pictures(7))
    together = answer(engine, seven)["pred_keypoints"]
    alone = answer(OnnxRuntimeEngine(exported, "cpu"), seven[4:5])["pred_keypoints"]
    assert len(together) == 7
    np.testing.assert_allclose(together[4:5], alone, atol=1e-3)


def test_bfloat16_keeps_the_decoder_precise(exported: Path) -> None:
    """Whether or not this processor computes in bfloat16 by itself, it can be asked for."""
    picture = pictures(1)[0]
    engine = OpenVinoEngine(exported, precision="bf16")
    assert engine.precision == "bf16"
    found, expected = answer(engine, picture), answer(OpenVinoEngine(exported, precision="fp32"), picture)
    assert np.abs(np.sort(found["pred_logits"]) - np.sort(expected["pred_logits"])).max() < 0.5
    # Coordinates with 8 bits of mantissa would lie on a grid.
    low = found["pred_keypoints"].view(np.uint32) & 0xFFFF
    assert (low != 0).mean() > 0.9


def test_eight_bits_see_the_same(tmp_path: Path) -> None:
    """Of trained weights: with others, what is found says nothing."""
    whole, eight = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    network = loading.open_model("centernet_lite", files.EMBEDDED_DETECTOR.path)
    export_onnx(network, whole, SIZE)
    inputs = [2 * picture - 1 for picture in pictures(9)]
    write(network, eight, Request(precision="int8", input_size=SIZE, pictures=inputs[:8]))
    expected, earlier = (answer(OnnxRuntimeEngine(whole, "cpu"), inputs[i])["joints"] for i in (8, 0))
    assert expected.max() > 0.2, "somebody is there"
    for engine in (OnnxRuntimeEngine(eight, "cpu"), OpenVinoEngine(eight)):
        assert engine.precision == "int8"
        found = answer(engine, inputs[8])["joints"]
        same, other = (np.corrcoef(found.ravel(), one.ravel())[0, 1] for one in (expected, earlier))
        assert same > 0.98 > 0.9 > other, "nearer to that of the same picture than to that of another"
    write(network, eight, Request(precision="int8", input_size=SIZE, batch=2, pictures=inputs[:2]))
    assert answer(OnnxRuntimeEngine(eight, "cpu"), np.concatenate(inputs[7:9]))["joints"].shape[0] == 2


def sorted_scores(engine: Engine) -> np.ndarray:
    """Scores in their order, the mean of eight pictures: of one it is chance with seeded weights."""
    return np.mean([np.sort(answer(engine, one)["pred_logits"][0, :, 1]) for one in pictures(12)[4:]], axis=0)


def test_eight_bits(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    [file] = write(
        loading.open_model("detrpose_n", checkpoint),
        tmp_path / "n.onnx",
        Request(precision="int8", input_size=SIZE, pictures=pictures(4)),
    )
    assert list(tmp_path.iterdir()) == [file], "nothing else is left"
    label = read_label(file)
    assert (label.precision, label.weights) == ("int8", read_label(exported).weights)
    assert file.stat().st_size < 0.8 * exported.stat().st_size
    exact = sorted_scores(OnnxRuntimeEngine(exported, "cpu"))
    for engine in (OnnxRuntimeEngine(file, "cpu"), OpenVinoEngine(file)):
        assert engine.precision == "int8"
        assert np.corrcoef(sorted_scores(engine), exact)[0, 1] > 0.98
    with pytest.raises(EngineError, match="needs pictures"):
        write(loading.open_model("detrpose_n", checkpoint), tmp_path / "n.onnx", Request(precision="int8"))
    with pytest.raises(EngineError, match="computes in int8, not in fp32"):
        open_file(file, "detrpose_n", "onnxruntime", precision="fp32")
    assert open_file(file, "detrpose_n", "onnxruntime").precision == "int8"
    assert open_file(file, "detrpose_n", "openvino", precision="fp32").precision == "int8", "and the rest in fp32"


def test_pictures_that_show_nobody_set_up_no_model_of_crops(tmp_path: Path) -> None:
    request = Request(precision="int8", input_size=(64, 64))
    with pytest.raises(EngineError, match="there have to be people in them, and nobody was found"):
        write(models.create("simplebaseline_lite"), tmp_path / "s.onnx", request)


def test_a_full_disk_is_told_with_the_name_of_the_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(EngineError, match=r"n\.onnx: cannot be written \(No space left on device\)"):
        write(loading.open_model("detrpose_n", checkpoint), tmp_path / "n.onnx", Request(input_size=SIZE))
    assert not list(tmp_path.iterdir())


def test_eight_bits_are_set_up_on_all_people_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the first of many pictures show more than may be looked at."""
    monkeypatch.setattr(calibration, "MOST", 20)
    image, number = Scene(seed=3).frame(30).image, itertools.count()
    boxes = np.tile(np.array([100, 100, 50, 100], np.float32), (10, 1))

    def crops(*_: object) -> np.ndarray:
        return np.full((len(boxes), 3, 4, 4), next(number), np.float32)

    monkeypatch.setattr(calibration, "Estimator", lambda **_: lambda *_: Persons.from_keypoints(
        np.ones((10, 17, 3), np.float32), np.ones(10), "coco17", boxes))  # fmt: skip
    monkeypatch.setattr(calibration, "crop_inputs", crops)
    info = ModelInfo("simplebaseline", "lite", "coco17", (4, 4), 4, (0.5,) * 3, (0.5,) * 3)
    inputs = calibration.network_inputs(((image, False) for _ in range(10**9)), info)
    assert len(inputs) == 20 and all(crop.shape == (1, 3, 4, 4) for crop in inputs)
    of = [int(crop[0, 0, 0, 0]) for crop in inputs]
    assert 5 < np.mean(of) < 14 and len(set(of)) > 8, "pictures from the first to the last, 0 to 19"


def test_tensorrt_builds_in_half_precision_for_several_gpus(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="there is no TensorRT for this processor")
    request = Request("tensorrt_rtx", "fp16", SIZE, 2, capabilities=("SM86", "SM120"))
    [file] = write(loading.open_model("detrpose_n", checkpoint), tmp_path / "n.rtx", request)
    label, plan = tensorrt.read_engine(file)
    assert (label.info.name, label.info.input_size, label.precision) == ("detrpose_n", SIZE, "fp16")
    # The weights are in it, in 16 bits, once for both.
    assert 8e6 < len(plan) < 60e6
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="no such CUDA GPU here|does not run on cpu"):
            open_file(file, "detrpose_n")


@pytest.mark.parametrize(
    ("library", "gpu", "message"),
    [
        ("tensorrt_rtx", "SM1", "unknown compute capability 'SM1'.*SM89"),
        ("tensorrt", "SM86", "tensorrt cannot be used"),
    ],
)
def test_what_tensorrt_lacks_is_told_before_the_network_is_written(
    library: str, gpu: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "tensorrt_rtx":
        pytest.importorskip(library, reason="there is no TensorRT for this processor")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("pave_ros.engines.export.export_onnx", lambda *_, **__: pytest.fail("the work has begun"))
    request = Request(library, capabilities=(gpu,))
    with pytest.raises(EngineError, match=message):
        write(models.create("detrpose_n"), tmp_path / "n.engine", request)


def test_tensorrt_tells_how_far_it_is_and_what_is_wrong(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="there is no TensorRT for this processor")
    told: list[str] = []
    tensorrt.build("tensorrt_rtx", exported, tmp_path / "n.rtx", capabilities=["SM89"], progress=told.append)
    percent = [int(text.rstrip("%")) for text in told]
    assert percent == sorted(percent) and percent[0] < 20 and percent[-1] >= 80
    with pytest.raises(EngineError, match="unknown compute capability 'SM1'.*SM89"):
        tensorrt.build("tensorrt_rtx", exported, tmp_path / "n.rtx", capabilities=["SM1"])
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"broken\.onnx: tensorrt_rtx cannot parse it"):
        tensorrt.build("tensorrt_rtx", tmp_path / "broken.onnx", tmp_path / "n.rtx")
    (tmp_path / "other.rtx").write_bytes(b"nothing of ours")
    with pytest.raises(EngineError, match=r"other\.rtx: not an engine"):
        tensorrt.read_engine(tmp_path / "other.rtx")


class Clip(PoseModel):
    """The smallest video model: it answers with how the window changes."""

    def __init__(self) -> None:
        super().__init__()
        self.info = ModelInfo("pavenet", "lite", "coco17", (64, 64), 32, (0.0,) * 3, (1.0,) * 3, window=3)
        self.backbone = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, 2)

    def encode(self, images: Tensor) -> Features:
        x = self.backbone(images)
        return x, x.mean((2, 3))

    def decode(self, window: list[Features]) -> dict[str, Tensor]:
        change = window[2][0] - window[0][0]
        return {"change": self.head(change.mean((2, 3))), "now": window[1][1]}


def test_video_models_become_two_files(tmp_path: Path) -> None:
    model = Clip().eval()
    first = export_onnx(model, tmp_path / "clip.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.decode.onnx", "clip.encode.onnx"]
    assert [read_label(tmp_path / f"clip.{part}.onnx").part for part in ("encode", "decode")] == ["encode", "decode"]
    frames = list(np.random.default_rng(0).random((3, 2, 3, 64, 64), np.float32))
    expected = answer(PyTorchEngine(model, "cpu"), *frames)
    assert first_of_two(tmp_path / "clip.onnx") == tmp_path / "clip.encode.onnx"
    assert first_of_two(tmp_path / "other.onnx") is first_of_two(first) is None
    for file in (first, tmp_path / "clip.decode.onnx", tmp_path / "clip.onnx"):  # any name stands for both
        found = answer(OnnxRuntimeEngine(file, "cpu"), *frames)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5)
    found = answer(OpenVinoEngine(first, precision="fp32"), *frames)
    np.testing.assert_allclose(found["change"], expected["change"], atol=1e-5)
    with pytest.raises(EngineError, match=r"x\.encode\.onnx: names that end in .encode or .decode are for the parts"):
        write(Clip(), tmp_path / "x.encode.onnx", Request())
    export_onnx(model, tmp_path / "smaller.onnx", (32, 32))
    shutil.copy(first, tmp_path / "mixed.encode.onnx")
    (tmp_path / "smaller.decode.onnx").replace(tmp_path / "mixed.decode.onnx")
    with pytest.raises(EngineError, match=r"mixed\.decode\.onnx: made for another input or skeleton"):
        OnnxRuntimeEngine(tmp_path / "mixed.onnx", "cpu")
    export_onnx(Clip(), tmp_path / "other.onnx")
    (tmp_path / "other.decode.onnx").replace(tmp_path / "clip.decode.onnx")
    with pytest.raises(EngineError, match="other weights"):
        OnnxRuntimeEngine(first, "cpu")
    (tmp_path / "clip.decode.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"clip\.decode\.onnx; a video model is exported as two files"):
        OnnxRuntimeEngine(first, "cpu")


@pytest.mark.parametrize("change", [
    {"skeleton": "octopus8"}, {"input_size": "abc"}, {"input_size": [0, 0]}, {"window": 2}, {"std": [0, 0, 0]},
    {"mean": [1]}, [], None, 3, {"system": "newpose"}, {"variant": "xxl"}, {"stride": 0}, {"window": -1}, {"window": 1},
    {"mean": ["a", "b", "c"]}, {"mean": [10**400, 0, 0]}, {"std": [1, 1, float("nan")]}, {"resize": "letterbox"},
])  # fmt: skip
def test_a_label_that_describes_no_model_is_refused(change: Any, tmp_path: Path) -> None:
    export_onnx(Clip().eval(), tmp_path / "clip.onnx")
    file = tmp_path / "clip.encode.onnx"
    model = onnx.load(file)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    facts = {**json.loads(properties["pave_ros"]), **change} if isinstance(change, dict) else change
    onnx.helper.set_model_props(model, {**properties, "pave_ros": json.dumps(facts)})
    onnx.save(model, file)
    with pytest.raises(EngineError, match=r"clip\.encode\.onnx: no pave_ros metadata in it that this version"):
        read_label(file)


def test_a_label_of_no_end_is_refused() -> None:
    with pytest.raises(EngineError, match=r"clip\.onnx: no pave_ros metadata in it that this version"):
        Label.from_properties({METADATA_KEY: "[" * 100_000}, Path("clip.onnx"))


WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocker())
from pave_ros.ros import node  # all that the node is made of
from pave_ros import Estimator
from pave_ros.synthetic import Scene

picture = Scene(seed=3).frame(30).image
for engine in ("auto", "openvino", "onnxruntime"):
    estimator = Estimator(weights=sys.argv[1], engine=engine, score_threshold=0.0)
    print(estimator.engine, len(estimator(picture)))
try:
    Estimator(weights=sys.argv[2])
except Exception as error:
    print(error)
"""


def test_an_exported_file_needs_neither_torch_nor_timm(exported: Path, checkpoint: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(exported), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["openvino 20", "openvino 20", "onnxruntime 20"]
    assert "torch is not installed" in lines[3], "a checkpoint does need it"


@pytest.mark.parametrize("system", ["simplebaseline", "detrpose"])
def test_eight_bits_are_set_up_on_the_colours_of_pictures(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where nobody is in a picture, whoever looks at one person has nothing to see."""
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    people = Persons.from_keypoints(np.ones((1, 17, 3)), [1], "coco17", [[20, 10, 30, 40]])

    def find(picture: np.ndarray, bgr: bool = False) -> Persons:
        rgb = picture[..., ::-1] if bgr else picture
        return people[: int((rgb == image).all())]

    monkeypatch.setattr(calibration, "Estimator", lambda **_: find)
    info = ModelInfo(system, "lite", "coco17", (32, 24), 4, (0.5,) * 3, (0.5,) * 3)
    turned = np.ascontiguousarray(image[..., ::-1])
    [one], [other] = (calibration.network_inputs([picture], info) for picture in ((image, False), (turned, True)))
    assert one.shape == (1, 3, 32, 24)
    np.testing.assert_array_equal(one, other)
    assert len(calibration.network_inputs([(turned, False)], info)) == int(system == "detrpose")


def test_a_file_of_that_very_name_comes_before_the_two_of_a_video_model(tmp_path: Path) -> None:
    for name in ("clip.encode.onnx", "clip.decode.onnx"):
        (tmp_path / name).touch()
    assert first_of_two(tmp_path / "clip.onnx") == tmp_path / "clip.encode.onnx"
    (tmp_path / "clip.onnx").touch()
    assert first_of_two(tmp_path / "clip.onnx") is None
    assert files_of(tmp_path / "clip.onnx") == {"whole": tmp_path / "clip.onnx"}


def test_a_part_under_the_name_of_the_other_is_refused(tmp_path: Path) -> None:
    encode = export_onnx(Clip().eval(), tmp_path / "clip.onnx")
    shutil.copy(encode, tmp_path / "clip.decode.onnx")
    with pytest.raises(EngineError, match=r"clip\.decode\.onnx: its name and its metadata \(encode\) disagree"):
        OnnxRuntimeEngine(encode, "cpu")


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        export_onnx(Clip(), tmp_path / "clip.onnx", (50, 64))
    with pytest.raises(EngineError, match="unknown precision 'bf16' of an ONNX file; known: fp32, fp16, half"):
        export_onnx(Clip(), tmp_path / "clip.onnx", precision="bf16")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_sixteen_bits_are_kept_in_full(tmp_path: Path) -> None:
    weights = {"fine.weight": np.full((16, 32), 60000, np.float32), "huge.weight": np.full((16, 32), 70000, np.float32)}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph([], "graph", [], [], tensors)
    store_half(graph)
    assert [tensor.name for tensor in graph.initializer] == ["fine.weight_half", "huge.weight"]
    for tensor, value in zip(graph.initializer, weights.values(), strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), value)


@pytest.mark.parametrize(("precision", "network"), [("fp32", "fp32"), ("fp16", "half")])
def test_tensorrt_is_asked_for_what_is_wanted(
    precision: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def export(model: object, file: Path, size: object, *, precision: str, batch: int) -> None:
        calls.append((size, precision, batch))
        file.touch()

    def build(library: str, file: Path, target: Path, batch: int, capabilities: tuple[str, ...]) -> None:
        calls.append((library, batch, capabilities))
        target.touch()

    monkeypatch.setattr("pave_ros.engines.export.export_onnx", export)
    monkeypatch.setattr(tensorrt, "builder_for", lambda *_: None)
    monkeypatch.setattr(tensorrt, "build", build)
    request = Request("tensorrt_rtx", precision, SIZE, 3, (), ("SM86", "SM89"))
    assert write(Clip(), tmp_path / "n.rtx", request) == [tmp_path / "n.rtx"]
    assert calls == [(SIZE, network, 3), ("tensorrt_rtx", 3, ("SM86", "SM89"))]


def test_openvino_s_files_of_a_video_model_lie_together(tmp_path: Path) -> None:
    written = write(Clip().eval(), tmp_path / "clip.xml", Request("openvino"))
    assert [path.name for path in written] == ["clip.encode.xml", "clip.decode.xml"]
    assert len(list(tmp_path.iterdir())) == 4, "each with its weights"
    frames = list(np.random.default_rng(0).random((3, 1, 3, 64, 64), np.float32))
    assert answer(OpenVinoEngine(written[0], precision="fp32"), *frames).keys() == {"change", "now"}


def test_pictures_are_stretched_to_the_size_of_a_file(tmp_path: Path) -> None:
    """Whatever the network itself takes."""
    model = Clip()
    model.info = replace(model.info, resize="fit")
    assert read_label(export_onnx(model, tmp_path / "clip.onnx", (32, 64))).info == replace(
        Clip().info, input_size=(32, 64), resize="stretch"
    )


@pytest.mark.parametrize("engine", [OnnxRuntimeEngine, OpenVinoEngine])
def test_features_of_a_frame_stay_what_they_are(tmp_path: Path, engine: type[Engine]) -> None:
    """Whatever is computed of the frames behind it."""
    opened = engine(export_onnx(Clip(), tmp_path / "clip.onnx"))  # type: ignore[call-arg]
    first, second = np.random.default_rng(0).random((2, 1, 3, 64, 64), np.float32)
    kept = opened.encode(first)
    before = [part.copy() for part in kept]
    assert not np.array_equal(opened.encode(second)[0], before[0])
    assert all(np.array_equal(part, one) for part, one in zip(kept, before, strict=True))


def test_two_parts_have_to_be_both_and_the_larger_batches_count(tmp_path: Path) -> None:
    info = ModelInfo("pavenet", "lite", "coco17", (64, 64), 32, (0.0,) * 3, (1.0,) * 3, window=3)

    def write_part(name: str, said: str, batch: int) -> None:
        a, b = (onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, (batch, 3)) for end in "ab")
        graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "graph", [a], [b])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        onnx.helper.set_model_props(model, Label(info, said, "fp32", "abc", "1").properties())
        onnx.save(model, tmp_path / f"clip.{name}.onnx")

    for one, other in ((1, 4), (4, 1)):
        write_part("encode", "encode", one)
        write_part("decode", "decode", other)
        assert OnnxRuntimeEngine(tmp_path / "clip.onnx", "cpu").batches == (4,)
    write_part("decode", "encode", 1)
    with pytest.raises(EngineError, match=r"clip\.decode\.onnx: its name and its metadata \(encode\) disagree"):
        OnnxRuntimeEngine(tmp_path / "clip.onnx", "cpu")


def test_only_the_end_of_a_name_tells_the_part(tmp_path: Path) -> None:
    path = tmp_path / "my.encode.v2.onnx"
    path.touch()
    assert files_of(path) == {"whole": path}
