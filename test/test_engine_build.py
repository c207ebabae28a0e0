"""What has to be built before it runs: in the background while another engine serves, and kept."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from pave_ros import Estimator, Persons, child, models
from pave_ros.checkpoints import files, loading
from pave_ros.engines import build, cache, open_file
from pave_ros.engines.base import Engine, EngineError
from pave_ros.engines.cache import EngineCache
from pave_ros.engines.switching import SwitchingEngine
from pave_ros.frames import Frame
from pave_ros.models.info import ModelInfo
from pave_ros.synthetic import Scene

INFO = ModelInfo("fake", "s", "coco17", (32, 32), 32, (0.0,) * 3, (1.0,) * 3, window=2)


class FakeEngine(Engine):
    """Features and answers that tell which engine made them of which picture."""

    device, precision, info = "cpu", "fp32", INFO

    def __init__(self, name: str, info: ModelInfo = INFO) -> None:
        self.name, self.info, self.encoded, self.warm = name, info, 0, False

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        self.warm = True

    def encode(self, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        self.encoded += len(images)
        return (np.array([f"{self.name}{image.flat[0]:.0f}" for image in images]),)

    def decode(self, window: Sequence[Any]) -> dict[str, Any]:
        return {"seen": np.array([list(names) for (names,) in window])}


class SlowBuild:
    """A build that waits until it is let go."""

    def __init__(self, result: Engine | Exception) -> None:
        self.result, self.go, self.told = result, threading.Event(), threading.Event()

    def __call__(self, progress: Callable[[str], None], size: tuple[int, int] | None) -> Engine:
        self.size = size
        progress("35%")
        self.told.set()
        assert self.go.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def picture(number: int, count: int = 1, size: tuple[int, int] = (32, 32)) -> npt.NDArray[np.float32]:
    return np.full((count, 3, *size), number, np.float32) + np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)


def finished(engine: SwitchingEngine, seconds: float = 10) -> None:
    assert engine._thread is not None
    engine._thread.join(seconds)
    assert not engine._thread.is_alive()


def test_the_first_engine_serves_until_the_better_one_is_built() -> None:
    slow = SlowBuild(FakeEngine("better"))
    engine = SwitchingEngine(FakeEngine("first"), "tensorrt", slow)
    assert slow.told.wait(10)
    assert engine.building and engine.status.startswith("tensorrt is being built: 35% (")
    one, two = engine.encode(picture(1)), engine.encode(picture(2))
    assert one.nbytes > picture(1).nbytes, "with the picture, which is kept meanwhile"
    assert engine.decode([one, two])["seen"].tolist() == [["first1"], ["first2"]]
    slow.go.set()
    finished(engine)
    assert engine.decode([one, two])["seen"].tolist() == [["first1"], ["first2"]], "not in the middle of a picture"
    three = engine.encode(picture(3))
    assert 0 < three.nbytes < picture(3).nbytes
    assert (engine.name, engine.building) == ("better", False)
    assert engine._engine.warm, "or a stream would wait for it in its middle"  # type: ignore[attr-defined]
    assert engine.status.startswith("tensorrt was built and has taken over")
    assert engine.reason == "built while first served"
    assert engine.decode([two, three])["seen"].tolist() == [["better2"], ["better3"]], "old features are made anew"
    assert engine.decode([two, three])["seen"].tolist() == [["better2"], ["better3"]]
    assert engine._engine.encoded == 2, "once"  # type: ignore[attr-defined]
    assert two.images is None and three.images is None, "pictures are not kept any longer than they may be needed"


def test_an_engine_that_waits_for_a_picture_is_not_being_built() -> None:
    slow = SlowBuild(FakeEngine("better"))
    engine = SwitchingEngine(FakeEngine("first"), "tensorrt", slow)
    slow.go.set()
    finished(engine)
    assert not engine.building and engine.status.startswith("tensorrt was built and takes over with the next picture (")


def test_an_engine_for_one_size_is_built_for_the_first_that_comes_twice() -> None:
    """And pictures of others stay with the one that takes any."""
    slow = SlowBuild(FakeEngine("better", replace(INFO, input_size=(32, 64))))
    engine = SwitchingEngine(FakeEngine("first", replace(INFO, resize="fit")), "openvino", slow, for_one_size=True)
    wide, high = [picture(n, size=(32, 64)) for n in range(3)], [picture(n, size=(64, 32)) for n in range(3)]
    for image in (wide[0], high[0], wide[1]):
        engine.encode(image)
    assert not engine.building and engine.status.startswith("openvino is going to be built for the size in which pict")
    one = engine.encode(wide[0])
    assert slow.told.wait(10) and slow.size == (32, 64) and engine.status.startswith("openvino is being built")
    slow.go.set()
    finished(engine)
    two, other = engine.encode(wide[1]), engine.encode(high[1])
    assert engine.name == "better" and engine.info.resize == "fit", "what prepares pictures goes on as it did"
    assert engine.decode([one, two])["seen"].tolist() == [["better0"], ["better1"]]
    assert engine.decode([other, engine.encode(high[2])])["seen"].tolist() == [["first1"], ["first2"]]


def test_nothing_is_built_for_a_size_after_the_end() -> None:
    engine = SwitchingEngine(FakeEngine("first"), "openvino", SlowBuild(FakeEngine("better")), for_one_size=True)
    engine.close()
    features = [engine.encode(picture(number)) for number in range(3)]
    assert engine._thread is None and not engine.building
    assert features[-1].images is None, "pictures are not kept for it"


def test_batches_survive_the_change() -> None:
    slow = SlowBuild(FakeEngine("better"))
    engine = SwitchingEngine(FakeEngine("first"), "tensorrt", slow)
    one, two = engine.split(engine.encode(picture(1, count=2)))
    slow.go.set()
    finished(engine)
    three = engine.encode(picture(3))
    together = engine.stack([one, two, three])
    assert engine.decode([together])["seen"].tolist() == [["better1", "better2", "better3"]]


@pytest.mark.parametrize("result", [EngineError("out of memory"), FakeEngine("better", replace(INFO, variant="l"))])
def test_a_build_that_fails_changes_nothing(result: Engine | Exception) -> None:
    slow = SlowBuild(result)
    engine = SwitchingEngine(FakeEngine("first"), "tensorrt", slow)
    slow.go.set()
    finished(engine)
    assert engine.decode([engine.encode(picture(1))] * 2)["seen"].tolist() == [["first1"]] * 2
    assert engine.name == "first" and not engine.building
    assert "tensorrt could not be built: " in engine.status
    assert ("out of memory" if isinstance(result, Exception) else "another model or input") in engine.status


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained checkpoint, and a cache of its own."""
    monkeypatch.setenv("PAVE_ROS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "n.safetensors"
    loading.save(models.create("detrpose_n"), path)
    return path


def test_a_checkpoint_is_exported_in_the_background_and_kept(checkpoint: Path) -> None:
    """The whole way, in a process of its own."""
    request = {"model": "detrpose_n", "device": "cpu", "input_size": (64, 64)}
    engine = open_file(checkpoint, **request, background=True)  # type: ignore[arg-type]
    assert isinstance(engine, SwitchingEngine) and engine.name == "pytorch"
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    before = engine.decode([engine.encode(pixels)])
    engine._thread.join(300)
    after = engine.decode([engine.encode(pixels)])
    assert engine.name == "openvino", engine.status
    assert before.keys() == after.keys()
    np.testing.assert_allclose(np.sort(before["pred_logits"].ravel()), np.sort(after["pred_logits"].ravel()), atol=0.05)
    again = open_file(checkpoint, **request)  # type: ignore[arg-type]
    assert again.name == "openvino", "what was built is used from now on"
    [entry] = [path for path in EngineCache().folder.iterdir() if path.is_dir()]
    (entry / "model.onnx").write_bytes(b"broken")
    assert open_file(checkpoint, **request).name == "pytorch", "and never when it is broken"  # type: ignore[arg-type]


def test_a_model_of_any_proportions_gets_an_engine_for_those_that_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, in a process of its own; with weights that were trained, as only these find people for sure."""
    monkeypatch.setenv("PAVE_ROS_CACHE", str(tmp_path / "cache"))
    scene = Scene(seed=5, width=320, height=240, persons=2)
    frames = [Frame(i, image=scene.frame(100 + 2 * i).image) for i in range(4)]
    known = list(Estimator("pavenet_lite", device="cpu").video(frames))
    assert max(len(persons) for _, persons in known) >= 1

    def answers(estimator: Estimator) -> list[Persons]:
        return [persons for _, persons in estimator.video(Frame(f.stamp, image=f.image) for f in frames)]

    estimator = Estimator("pavenet_lite", device="cpu", build_apart=True)
    engine = estimator._engine
    estimator.warm_up()
    assert isinstance(engine, SwitchingEngine) and engine._thread is None, "one picture is no stream"
    answers(estimator)
    assert engine.building
    finished(engine, 300)
    found = answers(estimator)
    assert (estimator.engine, engine._size) == ("openvino", (256, 352)), estimator.engine_status
    for one, (_, other) in zip(found, known, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
        np.testing.assert_allclose(one.keypoints[..., :2], other.keypoints[..., :2], atol=0.5)
    high = np.ascontiguousarray(frames[0].image.transpose(1, 0, 2))  # type: ignore[union-attr]
    one, other = estimator(high), Estimator("pavenet_lite", device="cpu")(high)
    np.testing.assert_array_equal(one.keypoints, other.keypoints, "pictures of another shape stay with PyTorch")


def test_without_a_home_nothing_was_kept(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("there is no home directory to keep files in")

    monkeypatch.setattr(cache, "cache_dir", homeless)
    assert open_file(checkpoint, "detrpose_n", device="cpu", input_size=(64, 64)).name == "pytorch"


def test_what_a_build_depends_on(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"library": "tensorrt 10.1", "gpu": "RTX", "capability": "8.6"}
    monkeypatch.setattr(build, "facts_of_gpu", lambda library, device: gpu)
    base = build.Build("tensorrt", checkpoint, "detrpose_n")
    assert base.facts().items() >= gpu.items()
    other = checkpoint.with_name("other.safetensors")
    loading.save(models.create("detrpose_n"), other)
    different = [
        build.Build("tensorrt", other, "detrpose_n"),
        build.Build("tensorrt", checkpoint, "detrpose_n", precision="fp32"),
        build.Build("tensorrt", checkpoint, "detrpose_n", input_size=(64, 64)),
        build.Build("tensorrt", checkpoint, "detrpose_n", input_size=(64, 64), for_one_size=True),
    ]
    facts = [one.facts() for one in (base, *different)]
    assert all(a != b for i, a in enumerate(facts) for b in facts[:i])
    exported = [build.Build("openvino", checkpoint, "detrpose_n", precision=one).facts() for one in ("auto", "bf16")]
    assert exported[0] == exported[1], "a network that is computed with in any precision is kept once"


def test_a_process_of_its_own_ignores_what_lies_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong one')\n")
    done = subprocess.run(child.command("tempfile"), cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def builds() -> list[psutil.Process]:
    """The processes of this one that build an engine."""
    return [
        process
        for process in psutil.process_iter(["ppid", "cmdline"])
        if process.info["ppid"] == os.getpid() and "pave_ros.engines.build" in (process.info["cmdline"] or ())
    ]


def test_a_killed_process_says_so(checkpoint: Path) -> None:
    def kill(line: str) -> None:
        for process in builds():
            process.kill()

    with pytest.raises(EngineError, match="the build was ended by SIGKILL"):
        build.Apart(build.Build("openvino", checkpoint, "detrpose_n")).run(kill)


def test_a_failed_process_says_why(checkpoint: Path) -> None:
    lines: list[str] = []
    checkpoint.write_bytes(b"nothing")
    started = time.monotonic()
    with pytest.raises(EngineError, match="not a readable checkpoint"):
        build.Apart(build.Build("openvino", checkpoint, "detrpose_n")).run(lines.append)
    assert lines == ["exporting"] and time.monotonic() - started < 120


@pytest.mark.parametrize("early", [False, True])
def test_a_closed_engine_leaves_no_build_behind(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, early: bool
) -> None:
    engine = open_file(checkpoint, "detrpose_n", device="cpu", input_size=(64, 64), background=True)
    assert isinstance(engine, SwitchingEngine)
    while not early and engine._thread.is_alive() and not builds():
        time.sleep(0.01)
    assert engine.building
    engine.close()
    engine._thread.join(30)
    assert not engine.building and engine.name == "pytorch"
    assert not builds()
    assert not caplog.records, "nobody waits for it any more"


class Own(FakeEngine):
    """Prepares pictures itself, and computes several at once."""

    prepares = concurrent = True


def test_what_an_engine_does_better_counts_once_nothing_better_can_come() -> None:
    slow = SlowBuild(Own("better"))
    engine = SwitchingEngine(Own("first"), "tensorrt", slow)
    assert not engine.prepares and not engine.concurrent, "pictures are kept, and the engines may change"
    slow.go.set()
    finished(engine)
    assert not engine.prepares and not engine.concurrent
    engine.encode(picture(1))
    assert engine.prepares and engine.concurrent


class Concurrent(FakeEngine):
    concurrent = True


def test_an_engine_for_one_size_is_as_concurrent_as_the_one_for_the_others() -> None:
    slow = SlowBuild(Concurrent("better"))
    engine = SwitchingEngine(FakeEngine("first"), "openvino", slow, for_one_size=True)
    for number in range(2):
        engine.encode(picture(number))
    slow.go.set()
    finished(engine)
    engine.encode(picture(2))
    assert engine.name == "better" and not engine.concurrent


def test_the_time_of_a_build_stands_still_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowBuild(EngineError("out of memory"))
    engine = SwitchingEngine(FakeEngine("first"), "tensorrt", slow)
    slow.go.set()
    finished(engine)
    before = engine.status
    monkeypatch.setattr("pave_ros.engines.switching.monotonic", lambda: time.monotonic() + 1000)
    assert engine.status == before


def test_pictures_are_kept_while_a_size_is_waited_for() -> None:
    engine = SwitchingEngine(FakeEngine("first"), "openvino", SlowBuild(FakeEngine("better")), for_one_size=True)
    assert engine.encode(picture(1)).images is not None


def test_a_build_is_of_this_content_model_version_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "facts_of_gpu", lambda library, device: {"gpu": f"{library} on {device}"})
    path = tmp_path / "n.onnx"
    path.write_bytes(b"one")
    known = build.Build("tensorrt", path, "detrpose_n", "cuda:1").facts()
    assert known == build.Build("tensorrt", path, "detrpose_n", "cuda:1").facts()
    assert known["gpu"] == "tensorrt on cuda:1"
    assert build.Build("tensorrt", path, "detrpose_s", "cuda:1").facts() != known
    with monkeypatch.context() as upgraded:
        upgraded.setattr(build, "__version__", "999")
        assert build.Build("tensorrt", path, "detrpose_n", "cuda:1").facts() != known
    path.write_bytes(b"two")
    assert build.Build("tensorrt", path, "detrpose_n", "cuda:1").facts() != known, "other weights under the same name"


def test_of_a_video_model_both_parts_are_built_and_the_first_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[str, str]] = []

    def write(library: str, source: Path, target: Path, progress: Callable[[str], None]) -> Path:
        built.append((library, source.name))
        target.write_bytes(source.read_bytes())
        return target

    monkeypatch.setattr(build, "facts_of_gpu", lambda library, device: {})
    monkeypatch.setattr(build, "build_tensorrt", write)
    for part in ("encode", "decode"):
        (tmp_path / f"clip.{part}.onnx").write_text(part)
    wanted = build.Build("tensorrt_rtx", tmp_path / "clip.encode.onnx", "pavenet_lite")
    made = wanted.run(cache=EngineCache(tmp_path / "engines"))
    assert (made.name, made.read_text()) == ("clip.encode.rtx", "encode")
    assert made.with_name("clip.decode.rtx").read_text() == "decode"
    assert built == [("tensorrt_rtx", "clip.encode.onnx"), ("tensorrt_rtx", "clip.decode.onnx")]


@pytest.mark.parametrize(("asked", "written"), [("fp32", "fp32"), ("fp16", "half"), ("auto", "half")])
def test_tensorrt_computes_in_sixteen_bits_unless_asked_otherwise(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, written: str
) -> None:
    def export(network: object, path: Path, input_size: object, precision: str) -> Path:
        path.write_text(precision)
        return path

    def write(library: str, source: Path, target: Path, progress: object) -> Path:
        target.write_bytes(source.read_bytes())
        return target

    monkeypatch.setattr(build, "facts_of_gpu", lambda library, device: {})
    monkeypatch.setattr(build, "build_tensorrt", write)
    monkeypatch.setattr("pave_ros.engines.onnx_export.export_onnx", export)
    wanted = build.Build("tensorrt", checkpoint, "detrpose_n", precision=asked)
    assert wanted.run(cache=EngineCache(tmp_path / "engines")).read_text() == written


def test_who_asks_for_one_size_of_a_model_of_any_has_to_choose_it(tmp_path: Path) -> None:
    wanted = build.Build("openvino", files.SHIPPED / "pavenet_lite.safetensors", "pavenet_lite")
    with pytest.raises(EngineError, match="pavenet_lite takes pictures of any proportions, an engine only one size"):
        wanted.run(cache=EngineCache(tmp_path / "engines"))


def test_an_engine_that_is_asked_for_is_built_at_once_and_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAVE_ROS_CACHE", str(tmp_path / "cache"))
    path, model = tmp_path / "s.safetensors", "simplebaseline_lite"
    loading.save(models.create(model), path)
    pixels = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    plain, built = (open_file(path, model, name, "cpu", input_size=(64, 96)) for name in ("pytorch", "onnxruntime"))
    assert (built.name, built.reason, built.info.input_size) == ("onnxruntime", "asked for", (64, 96))
    expected, found = (engine.decode([engine.encode(pixels)])["heatmaps"] for engine in (plain, built))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    other = open_file(path, model, "auto", "cpu", input_size=(96, 64))
    assert (other.name, other.info.input_size) == ("pytorch", (96, 64)), "what was built is for another size"
