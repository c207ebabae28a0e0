"""Engines and estimator: the same people whatever computes them, and clear refusals."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import reference
import torch
from photograph import PHOTOGRAPH

import pave_ros
from pave_ros import Estimator, Persons, models
from pave_ros.checkpoints import loading
from pave_ros.engines import choice, open_file
from pave_ros.engines.base import EngineError
from pave_ros.engines.exported import read_label
from pave_ros.engines.onnx_export import export_onnx, store_half, weights_hash
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.frames import Frame

GOLDEN = Path(__file__).parent / "golden"
SIZE = (256, 320)


@pytest.fixture(scope="module")
def photograph() -> npt.NDArray[np.uint8]:
    """A photograph of a person, RGB, that comes with matplotlib (Grace Hopper, public domain)."""
    return cv2.cvtColor(cv2.imread(str(PHOTOGRAPH)), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose outputs vary over picture and queries, as trained ones do."""
    path = tmp_path_factory.mktemp("weights") / "n.pth"
    reference.write_checkpoint(path, *reference.read(GOLDEN / "detrpose_n.json"))
    return path


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    return export_onnx(loading.open_model("detrpose_n", weights), weights.with_suffix(".onnx"), SIZE)


@pytest.fixture(scope="module")
def exported_half(exported: Path) -> Path:
    """The exported file with its weights in 16 bits, made as `export_onnx` makes it, without the time for a second."""
    path = exported.with_name("half.onnx")
    proto = onnx.load(exported)
    store_half(proto.graph)
    label = read_label(exported)
    onnx.helper.set_model_props(proto, replace(label, precision="fp16").properties())
    onnx.save(proto, path)
    return path


def assert_same_people(a: Persons, b: Persons, pixels: float = 0.5, score: float = 1e-3) -> None:
    assert len(a) == len(b) > 0
    distance = np.abs(a.keypoints[:, None, :, :2] - b.keypoints[None, :, :, :2]).max(axis=(2, 3))
    assert (distance.min(axis=1) <= pixels).all()
    assert np.abs(a.scores - b.scores[distance.argmin(axis=1)]).max() <= score


def agreement(expected: Persons, found: Persons, pixels: float) -> float:
    """How many of the people were found again: all their keypoints so near. It need not be all where numbers are
    rounded: of cells that are nearly equally likely, as these weights have them, another may then be chosen."""
    distance = np.abs(expected.keypoints[:, None, :, :2] - found.keypoints[None, :, :, :2]).max(axis=(2, 3))
    return float((distance.min(axis=1) <= pixels).mean())


def test_exported_files_say_what_they_are(weights: Path, exported: Path) -> None:
    label = read_label(exported)
    assert (label.info.name, label.info.skeleton, label.info.input_size) == ("detrpose_n", "coco17", SIZE)
    assert (label.info.mean, label.info.std) == ((0, 0, 0), (1, 1, 1))
    assert (label.part, label.precision, label.version) == ("whole", "fp32", pave_ros.__version__)
    assert label.weights == weights_hash(loading.open_model("detrpose_n", weights))
    assert label.weights != weights_hash(models.create("detrpose_n"))
    content = exported.read_bytes()
    assert str(Path(pave_ros.__file__).parent).encode() not in content, "paths of this machine are nobody's business"


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 100, bytes(range(256)), b"\x72\x05\x0a\x03abc"])
def test_files_without_a_label_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        read_label(path)


def test_weights_in_16_bits_halve_the_file_and_find_the_same_people(
    exported: Path, exported_half: Path, photograph: npt.NDArray[np.uint8]
) -> None:
    assert exported_half.stat().st_size < 0.6 * exported.stat().st_size
    assert read_label(exported_half).precision == "fp16"
    full, half = (
        Estimator(weights=exported, engine="onnxruntime"),
        Estimator(weights=exported_half, engine="onnxruntime", max_persons=30),
    )
    assert half.precision == "fp32", "it is computed with in 32 bits"
    assert agreement(full(photograph), half(photograph), pixels=1.0) >= 0.75


def test_all_engines_find_the_same_people(weights: Path, exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    by_torch = Estimator("detrpose_n", weights, "cpu", engine="pytorch", input_size=SIZE)
    pictures = (photograph, photograph[100:400, 50:450], cv2.resize(photograph, (1280, 720)))
    for name in ("onnxruntime", "openvino"):
        other = Estimator("detrpose_n", exported, "cpu", engine=name, precision="fp32")
        assert (by_torch.engine, other.engine) == ("pytorch", name)
        assert by_torch.input_size == other.input_size == SIZE
        for picture in pictures:
            assert_same_people(by_torch(picture), other(picture))


def test_the_best_engine_is_taken_and_says_why(weights: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_gpu", lambda: False)
    assert choice.choose(exported, "auto", "auto", "auto") == ("openvino", "the fastest for exported files on the CPU")
    assert choice.choose(exported, "onnxruntime", "auto", "auto") == ("onnxruntime", "asked for")
    assert choice.choose(weights, "auto", "auto", "auto") == ("pytorch", "runs checkpoints as they are")
    assert choice.choose_to_build(weights, "auto", "auto", "auto") == (
        "openvino", "the fastest for exported files on the CPU"
    )  # fmt: skip
    assert choice.choose_to_build(exported, "auto", "auto", "auto") is None
    assert choice.choose_to_build(exported, "onnxruntime", "auto", "auto") is None
    assert choice.choose_to_build(weights, "onnxruntime", "auto", "auto") == ("onnxruntime", "asked for")
    assert choice.choose_to_build(weights, "auto", "cuda", "auto")[0] in choice.NAMES[:2]
    assert choice.choose_to_build(exported, "auto", "cuda", "auto")[0] in choice.NAMES[:2]
    assert choice.choose_to_build(weights, "pytorch", "cuda", "auto") is None
    assert Estimator(weights=exported).engine_reason == "the fastest for exported files on the CPU"
    found = choice.find_spec
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "openvino" else found(name))
    name, reason = choice.choose(exported, "auto", "auto", "auto")
    assert name == "onnxruntime" and "openvino is not installed (pip install openvino)" in reason
    with pytest.raises(EngineError, match="bf16: onnxruntime"):
        choice.choose(exported, "auto", "auto", "bf16")
    with pytest.raises(EngineError, match=r"not a model; known are .*\.onnx"):
        choice.choose(exported.with_suffix(".txt"), "auto", "auto", "auto")


CUDA_AND_CPU = ["CUDAExecutionProvider", "CPUExecutionProvider"]
BOTH_TENSORRT = ("tensorrt", "tensorrt_rtx")


@pytest.mark.parametrize(
    ("providers", "unusable", "as_it_is", "exported_by", "built"),
    [
        (CUDA_AND_CPU, (), "pytorch", "onnxruntime", "tensorrt"),
        (CUDA_AND_CPU, ("tensorrt",), "pytorch", "onnxruntime", "tensorrt_rtx"),
        (CUDA_AND_CPU, BOTH_TENSORRT, "pytorch", "onnxruntime", None),
        (CUDA_AND_CPU[1:], BOTH_TENSORRT, "pytorch", "openvino", None),
    ],
)
def test_what_is_taken_where_there_is_a_gpu(
    providers: list[str], unusable: tuple[str, ...], as_it_is: str, exported_by: str, built: str | None,
    weights: Path, exported: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing that only pretends to run there; what PyTorch runs there is not handed to what is slower; and the CPU
    helps out where nothing else can."""
    monkeypatch.setattr(choice, "has_gpu", lambda: True)
    monkeypatch.setattr(choice, "is_installed", lambda name: True)
    monkeypatch.setattr(choice, "unusable", lambda name, device: "no driver for it" if name in unusable else "")
    monkeypatch.setattr(choice, "unsupported", lambda name, device: "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert choice.choose(weights, "auto", "auto", "auto")[0] == as_it_is
    assert choice.choose(exported, "auto", "auto", "auto")[0] == exported_by
    for path in (weights, exported):
        found = choice.choose_to_build(path, "auto", "auto", "auto")
        assert (found and found[0]) == built


def test_a_tensorrt_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bindings may be missing, or its own import fail."""
    choice.unusable.cache_clear()
    monkeypatch.setattr(choice, "has_gpu", lambda: True)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]
    assert "tensorrt cannot be used: " in choice.unusable("tensorrt", "cuda")
    choice.unusable.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)  # type: ignore[arg-type]
    assert "pip install cuda-bindings" in choice.unusable("tensorrt", "cuda")
    choice.unusable.cache_clear()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("embedded", [False, True])
def test_threads_may_share_an_estimator(
    exported: Path, photograph: npt.NDArray[np.uint8], embedded: bool, engine: str
) -> None:
    estimator = Estimator(weights="auto" if embedded else exported, engine=engine, device="cpu")
    pictures = [photograph, photograph[100:400, 50:450], photograph[::-1].copy()] * 4
    expected = [estimator(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        for found, known in zip(threads.map(estimator, pictures), expected, strict=True):
            np.testing.assert_array_equal(found.keypoints, known.keypoints)


@pytest.mark.parametrize("concurrent", [True, False])
def test_threads_compute_at_once_where_the_engine_gains_by_it(
    exported: Path, photograph: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, concurrent: bool
) -> None:
    estimator = Estimator(weights=exported, device="cpu")
    engine = estimator._engine
    assert engine.concurrent, "OpenVINO is"
    monkeypatch.setattr(engine, "concurrent", concurrent, raising=False)
    both, encode = threading.Barrier(2), engine.encode

    def encode_together(images: npt.NDArray[np.float32]) -> Any:
        both.wait(30 if concurrent else 0.5)
        return encode(images)

    monkeypatch.setattr(engine, "encode", encode_together)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(estimator, photograph) for _ in range(2)]
        errors = [future.exception() for future in asked]
    assert [type(error) for error in errors] == [type(None) if concurrent else threading.BrokenBarrierError] * 2


def test_frames_may_be_shown_to_several_estimators(exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    """What one keeps of a frame is not for the others."""
    one, other = Estimator(weights=exported), Estimator(device="cpu", score_threshold=0.1)
    frame = Frame(1, image=photograph)
    for _ in range(2):
        assert_same_people(one.estimate([frame]), one(photograph), pixels=0, score=0)
        assert_same_people(other.estimate([frame]), other(photograph), pixels=0, score=0)


def test_people_are_in_pixels_of_the_picture(weights: Path, photograph: npt.NDArray[np.uint8]) -> None:
    estimator = Estimator("detrpose_n", weights, "cpu", input_size=SIZE)
    small = estimator(photograph)
    large = estimator(cv2.resize(photograph, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST_EXACT))
    # Twice the picture gives twice the coordinates, up to how the resized input differs.
    ratio = np.nanmedian(large.keypoints[..., :2]) / np.nanmedian(small.keypoints[..., :2])
    assert ratio == pytest.approx(2, rel=0.1)


def test_bgr_pictures_give_the_same(exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    estimator = Estimator(weights=exported, engine="onnxruntime")
    flipped = np.ascontiguousarray(photograph[..., ::-1])
    assert_same_people(estimator(photograph), estimator(flipped, bgr=True), pixels=1e-3, score=1e-6)
    assert np.array_equal(flipped[..., ::-1], photograph), "the caller's picture is left alone"


def test_a_picture_of_the_input_size_is_not_changed(exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    picture = cv2.resize(photograph, SIZE[::-1])
    before = picture.copy()
    Estimator(weights=exported, engine="onnxruntime")(picture, bgr=True)
    assert np.array_equal(picture, before)


def test_thresholds_and_limits_apply_at_run_time(exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    estimator = Estimator(weights=exported, engine="onnxruntime", score_threshold=0.0, max_persons=60)
    everyone = estimator(photograph)
    assert (np.diff(everyone.scores) <= 0).all()
    estimator.max_persons = 3
    assert len(estimator(photograph)) == 3
    estimator.max_persons, estimator.score_threshold = 60, float(everyone.scores[4])
    assert len(estimator(photograph)) == 5
    estimator.score_threshold = 1.0
    nobody = estimator(photograph)
    assert len(nobody) == 0 and nobody.keypoints.shape == (0, 17, 3)


def test_numbers_out_of_their_range_are_refused(exported: Path) -> None:
    estimator = Estimator(weights=exported, engine="onnxruntime")
    for number in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="score_threshold has to be between 0 and 1, not"):
            estimator.score_threshold = number
    with pytest.raises(ValueError, match="max_persons has to be 1 or more, not -1"):
        estimator.max_persons = -1
    with pytest.raises(TypeError):
        estimator.max_persons = 2.5  # type: ignore[assignment]
    for size in ((64,), 64, (64, 64.5), "64"):
        with pytest.raises(ValueError, match="two whole numbers, not " + re.escape(repr(size))):
            Estimator("detrpose_n", "random", "cpu", input_size=size)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="two whole numbers, not " + re.escape(repr(size))):
            Estimator(device="cpu", input_size=size)  # type: ignore[arg-type]
    for frames, index in (([], -1), ([Frame(0, image=np.zeros((8, 8, 3), np.uint8))], 5)):
        with pytest.raises(IndexError):
            estimator.estimate(frames, index)


@pytest.mark.parametrize("size", [list(SIZE), np.array(SIZE)])
def test_an_input_size_is_the_same_in_any_form(exported: Path, size: Any) -> None:
    estimator = Estimator(weights=exported, engine="onnxruntime", input_size=size)
    assert estimator.input_size == SIZE and type(estimator.input_size) is tuple


def test_only_the_newest_frame_is_answered_for(exported: Path, photograph: npt.NDArray[np.uint8]) -> None:
    estimator = Estimator(weights=exported, engine="onnxruntime")
    other = np.zeros_like(photograph)
    frames = [Frame(1, image=other), Frame(2, image=photograph)]
    assert_same_people(estimator.estimate(frames), estimator(photograph), pixels=0, score=0)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_exported_batches_are_free(exported: Path, name: str) -> None:
    engine = open_file(exported, "detrpose_n", name)
    pictures = np.random.default_rng(0).random((3, 3, *SIZE), np.float32)
    together = engine.decode([engine.encode(pictures)])["pred_keypoints"]
    alone = engine.decode([engine.encode(pictures[1:2])])["pred_keypoints"]
    np.testing.assert_allclose(together[1:2], alone, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions_of_the_cpu(weights: Path, photograph: npt.NDArray[np.uint8], precision: str) -> None:
    estimator = Estimator("detrpose_n", weights, "cpu", input_size=SIZE, precision=precision)
    assert estimator.precision == precision
    assert np.isfinite(estimator(photograph).keypoints).all()


def test_half_keeps_coordinates_precise(weights: Path) -> None:
    """The arithmetic of `precision: half`, which the engine offers on CUDA only, on the CPU."""
    picture = torch.rand(1, 3, 128, 128)
    full = loading.open_model("detrpose_n", weights).fuse()(picture)["pred_keypoints"]
    half = loading.open_model("detrpose_n", weights).fuse().half()(picture.half())["pred_keypoints"]
    assert half.dtype == torch.float32
    # Which cells are chosen may differ, so each is compared with the nearest.
    assert torch.cdist(half[0], full[0]).min(1).values.median() < 0.02


def test_random_weights_say_so_and_repeat(photograph: npt.NDArray[np.uint8]) -> None:
    one, two = (Estimator(weights="random", input_size=(96, 96), score_threshold=0.0) for _ in range(2))
    assert not one.trained and "untrained" in one.weights
    assert np.array_equal(one(photograph).keypoints, two(photograph).keypoints)


def test_random_weights_repeat_where_several_are_made_at_once() -> None:
    state = torch.get_rng_state()
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(Estimator, weights="random", input_size=(96, 96), device="cpu") for _ in range(4)]
        made: list[Any] = [future.result() for future in asked]
    networks = [estimator._engine._model.state_dict() for estimator in made]
    for other in networks[1:]:
        for key, value in networks[0].items():
            torch.testing.assert_close(other[key], value, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state), "the program's own numbers go on as they were"


def test_a_path_may_be_text(exported: Path) -> None:
    assert open_file(str(exported), "detrpose_n", device="cpu").info == open_file(exported, "detrpose_n").info


def test_exported_files_tell_whether_they_were_trained(exported: Path, tmp_path: Path) -> None:
    untrained, label = tmp_path / "untrained.onnx", read_label(exported)
    proto = onnx.load(exported)
    info = replace(label.info, trained=False)
    onnx.helper.set_model_props(proto, replace(label, info=info).properties())
    onnx.save(proto, untrained)
    assert not Estimator(weights=untrained, engine="onnxruntime").trained
    assert "untrained" in Estimator(weights=untrained, engine="onnxruntime").weights
    assert Estimator(weights=exported, engine="onnxruntime").trained


NO_PICTURES = [
    np.zeros((10, 10), np.uint8),
    np.zeros((10, 10, 4), np.uint8),
    np.zeros((10, 10, 3)),
    np.zeros((0, 5, 3), np.uint8),
    "x",
]


@pytest.mark.parametrize("image", NO_PICTURES)
def test_what_is_no_picture_is_refused(exported: Path, image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="image"):
        Estimator(weights=exported, engine="onnxruntime")(image)


def test_refusals_say_what_to_do(weights: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known: .*detrpose_n"):
        Estimator("nonsense")
    with pytest.raises(EngineError, match="unknown engine 'magic'"):
        open_file(weights, "detrpose_n", engine="magic")
    with pytest.raises(EngineError, match="precision bf16: onnxruntime runs in fp32"):
        open_file(weights, "detrpose_n", engine="onnxruntime", device="cpu", precision="bf16")
    with pytest.raises(EngineError, match="tensorrt does not run on cpu"):
        open_file(weights, "detrpose_n", engine="tensorrt", device="cpu")
    with pytest.raises(EngineError, match="not in this form"):
        open_file(exported, "detrpose_n", engine="pytorch")
    with pytest.raises(EngineError, match="unknown device"):
        open_file(weights, "detrpose_n", device="tpu")
    with pytest.raises(EngineError, match="256x320"):
        open_file(exported, "detrpose_n", input_size=(64, 64))
    with pytest.raises(ValueError, match="multiples of 32"):
        open_file(weights, "detrpose_n", input_size=(100, 100))
    with pytest.raises(EngineError, match="needs CUDA"):
        open_file(weights, "detrpose_n", device="cpu", precision="fp16")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        open_file(tmp_path / "broken.onnx", "detrpose_n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so asking for one is right")
def test_cuda_without_a_gpu_is_refused(weights: Path, exported: Path) -> None:
    for path in (weights, exported):
        with pytest.raises(EngineError, match="cuda"):
            open_file(path, "detrpose_n", device="cuda")


@pytest.mark.parametrize(("capability", "refused"), [(0, False), (80, False), (89, False), (90, True), (130, False)])
def test_an_edition_of_tensorrt_is_refused_for_gpus_that_it_leaves_out(
    capability: int, refused: bool, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(choice, "gpu_capability", lambda index: capability)
    monkeypatch.setattr(choice, "unusable", lambda name, device: "")
    reason = choice.unsupported("tensorrt_rtx", "cuda")
    assert bool(reason) == refused and choice.unsupported("tensorrt", "cuda") == ""
    built = choice.choose_to_build(weights, "auto", "cuda", "auto")
    assert (built is None or built[0] != "tensorrt_rtx") == refused
    if refused:
        assert "compute capability 9.0 (it does on 7.5, 8.0, 8.6, 8.9, 12.0" in reason


def test_onnx_runtime_that_cannot_load_cuda_says_so(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on on the processor."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(EngineError, match=r"cannot load CUDA's libraries.*onnxruntime-gpu\[cuda,cudnn\]"):
        OnnxRuntimeEngine(exported, "cuda")


def test_auto_runs_on_what_is_there() -> None:
    engine = PyTorchEngine(models.create("detrpose_n"), "auto", input_size=(64, 64))
    assert engine.device.startswith("cuda" if torch.cuda.is_available() else "cpu")


def test_signals_are_heard_after_openvino_engines_came_and_went(exported: Path) -> None:
    """In a process of its own, since where this goes wrong it ends the process."""
    code = """
import signal, sys
import numpy as np
from pave_ros.engines.openvino import OpenVinoEngine
heard = []
signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
def used():
    engine = OpenVinoEngine(sys.argv[1])
    engine.encode(np.zeros((1, 3, 256, 320), np.float32))
    return engine
first, second = used(), used()
del first
del second
signal.raise_signal(signal.SIGINT)
print("heard", *heard)
"""
    done = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard 2\n"), done.stderr
