"""The command line as a person meets it: in a process of its own where that matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import typer

from pave_ros import __version__, catalogue, cli
from pave_ros.checkpoints import files
from pave_ros.models.base import PoseModel
from pave_ros.video_writer import VideoWriter

QUICK = ("--model", "detrpose_n", "--weights", "random", "--input-size", "96", "--device", "cpu")

# What `ros2 run pave_ros pave_ros` hands to Python.
SCRIPT = (
    (Path(__file__).parents[1] / "cmake/script.sh.in").read_text().split("'")[-2].replace("@module@", "pave_ros.cli")
)


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pave_ros.cli", *arguments]
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


class Call(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `main` in this process, which spares importing torch again."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["pave_ros", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Result(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way out to fetch anything."""
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for i in range(4):
            writer.write(np.full((96, 128, 3), 40 * i, np.uint8))
    return tmp_path / "clip.mp4"


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = "import sys, pave_ros.cli; print([m for m in ('torch', 'cv2', 'rclpy', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    text = process("--help").stdout
    for command in ("camera", "predict", "demo", "node", "weights", "models", "export"):
        assert command in text


def test_every_option_has_help() -> None:
    def check(command: Any, path: str) -> None:
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"
        for name, child in getattr(command, "commands", {}).items():
            check(child, f"{path} {name}")

    check(typer.main.get_command(cli.app), "pave_ros")


def test_version() -> None:
    assert process("--version").stdout == f"pave_ros {__version__}\n"


def test_wrong_usage_gives_2(call: Call) -> None:
    for arguments in (["predict"], ["predict", "a.png"], ["nonsense"], ["weights", "path"]):
        assert call(*arguments).returncode == 2


def test_errors_are_one_line_without_a_traceback(call: Call, clip: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for arguments, message in {
        ("predict", "nowhere.png", "-o", out): "error: nowhere.png: no such file or folder",
        ("predict", str(clip), "-o", out, "--model", "posenet"): "error: unknown model 'posenet'; known: ",
        ("predict", "", "-o", out): "error: the name of a file is empty",
        ("export", ""): "error: unknown model ''; known: ",
        ("predict", str(clip), "-o", out, *QUICK, "--smoothing", "strong"): "unknown smoothing 'strong'; known: auto",
        ("weights", "download", "posenet"): "error: no published weights named 'posenet'; ",
        ("predict", str(clip), "-o", out, *QUICK, "--input-size", "50"): "error: input size 50x50",
        ("predict", str(clip), "-o", out, "--precision", "fp64"): "precision fp64",
        ("predict", str(clip), "-o", out, "--engine", "abacus"): "error: unknown engine 'abacus'",
        ("predict", str(clip), "-o", out, *QUICK, "--engine", "openvino"): "engine openvino: untrained weights are no",
        ("predict", str(clip), "-o", out, *QUICK, "--input-size", "96000"): "96000x96000: at most 8192",
        ("predict", str(clip), "-o", str(clip), *QUICK): "clip.mp4: is a file; results go into a folder",
        ("demo", "--video", str(clip), "-o", str(clip), *QUICK): "clip.mp4: is a file; results go into a folder",
    }.items():
        result = call(*arguments)
        assert result.returncode == 1, arguments
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and message in last
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("how", ["option", "variable"])
def test_traceback_on_request(how: str) -> None:
    arguments = ["--debug"] if how == "option" else []
    result = process(*arguments, "predict", "nowhere.png", "-o", "x", PAVE_ROS_DEBUG="1" if how == "variable" else "")
    assert result.returncode == 1 and "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


def test_no_weights_and_no_network_says_what_to_do(call: Call, clip: Path, tmp_path: Path, cache: Path) -> None:
    result = call("predict", str(clip), "-o", str(tmp_path / "out"), "--model", "detrpose_n")
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    for needed in (
        "https://github.com/SebastianJanampa/DETRPose/releases/download/model_weights/detrpose_hgnetv2_n.pth",
        str(cache / "weights" / "detrpose_hgnetv2_n.pth"),
        "pave_ros weights download detrpose_hgnetv2_n.pth",
    ):
        assert needed in message


def test_predict(call: Call, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    everything = ("--score-threshold", "0", "--format", "video", "--format", "jsonl", "--format", "coco")
    result = call(
        "predict", str(clip), "-o", str(out), *QUICK, *everything, "--max-persons", "2", "--input-size", "64x96"
    )
    assert result.returncode == 0, result.stderr
    assert "input 64x96, weights random" in result.stderr and "skeletons mean nothing" in result.stderr
    assert "4 pictures of 1 files, 8 people" in result.stderr
    assert [Path(line).name for line in result.stdout.split()] == [
        "clip.mp4", "persons.jsonl", "coco.json", "coco_images.json",
    ]  # fmt: skip
    assert len((out / "persons.jsonl").read_text().splitlines()) == 4
    assert len(json.loads((out / "coco.json").read_text())) == 8


def test_predict_goes_on_after_a_bad_file_and_says_so(call: Call, clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    result = call("predict", str(bad), str(clip), "-o", str(tmp_path / "out"), *QUICK)
    assert result.returncode == 1
    assert "bad.png: not a picture" in result.stderr and "4 pictures of 1 files" in result.stderr
    assert (tmp_path / "out" / "clip.mp4").exists()


def test_weights_commands(call: Call, cache: Path) -> None:
    listed = call("weights", "list").stdout
    for row in files.WEIGHTS:
        assert row.name in listed and row.licence in listed and row.url.removesuffix(row.name) in listed
    assert listed.splitlines()[0].split() == ["file", "model", "keypoints", "size", "SHA-256", "here"]
    missing = call("weights", "path", "detrpose_s")
    assert missing.returncode == 1 and "pave_ros weights download detrpose_hgnetv2_s.pth" in missing.stderr
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "detrpose_hgnetv2_s.pth").write_bytes(b"x" * 2_000_000)
    for name in ("detrpose_s", "detrpose_hgnetv2_s", "detrpose_hgnetv2_s.pth"):
        assert call("weights", "path", name).stdout == f"{cache}/weights/detrpose_hgnetv2_s.pth\n"
    assert call("weights", "download", "detrpose_s").stdout == f"{cache}/weights/detrpose_hgnetv2_s.pth\n"
    assert "2.0 MB" in call("weights", "list").stdout
    failed = call("weights", "download", "detrpose_n")
    assert failed.returncode == 1 and failed.stderr.strip().splitlines()[-1].startswith("error: the weights")
    both = call("weights", "download", "detrpose_n", "detrpose_s")
    assert both.returncode == 1 and both.stdout == f"{cache}/weights/detrpose_hgnetv2_s.pth\n", "one stops none"


def test_models(call: Call) -> None:
    lines = call("models").stdout.splitlines()
    row = next(line.split() for line in lines if line.startswith("detrpose_n "))
    assert row[1:3] == ["4.1", "M"] and row[-1] == "detrpose_hgnetv2_n.pth"
    assert any(line.startswith("poet: POET (Stoffl") for line in lines)


def test_models_that_were_not_measured_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(catalogue.MEASURED, "detrpose_n")
    (row,) = (row for row in catalogue.rows() if row[0] == "detrpose_n")
    assert row[1:4] == ("", "", "") and row[6] == "detrpose_hgnetv2_n.pth"


def test_export(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is handed to the exporter; that it works is tested with the engines."""
    from pave_ros.engines import export

    calls: list[Any] = []

    def record(network: PoseModel, path: Path, request: export.Request) -> list[Path]:
        calls.append((network.info.name, path, request))
        return [path]

    monkeypatch.setattr(export, "write", record)
    result = call("export", "detrpose", "-o", str(tmp_path / "n.onnx"), "--weights", "random", "--input-size", "96x128")
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/n.onnx\n")
    call("export", "detrpose_n", "--weights", "random")
    assert calls == [
        ("detrpose_n", tmp_path / "n.onnx", export.Request(input_size=(96, 128))),
        ("detrpose_n", Path("detrpose_n.onnx"), export.Request()),
    ]
    untrained = ("export", "detrpose_n", "--weights", "random")
    gpus = ("--capability", "SM86", "--capability", "SM89")
    call(*untrained, "--format", "tensorrt_rtx", "--precision", "fp16", "--batch", "4", "--input", "64", *gpus)
    wanted = export.Request("tensorrt_rtx", "fp16", (64, 64), 4, (), ("SM86", "SM89"))
    assert calls[2:] == [("detrpose_n", Path("detrpose_n.rtx"), wanted)]
    few = ("--calibration", "synthetic:frames=3")
    call(*untrained, "--format", "openvino", "--precision", "int8", "--input", "64x96", *few)
    name, path, request = calls[3]
    assert (path, request.format, request.precision) == (Path("detrpose_n.xml"), "openvino", "int8")
    assert [picture.shape for picture in request.pictures] == [(1, 3, 64, 96)] * 3
    call("export", "simplebaseline_lite", "--precision", "int8", "--calibration", "synthetic:frames=3,seed=3")
    crops = calls[4][2].pictures
    assert len(crops) >= 3 and {crop.shape for crop in crops} == {(1, 3, 256, 192)}, "of the people, not the pictures"
    assert call("export", "detrpose_n", "-o", "x.txt").returncode == 2
    for passed_over in (few, (*gpus, "--format", "openvino"), gpus):
        result = call(*untrained, *passed_over)
        assert result.returncode == 2 and f"Invalid value for {passed_over[0]}" in result.stderr
    assert len(calls) == 5
    assert call("export", "detrpose_n", "--weights", "nowhere.pth").returncode == 1


def test_evaluate_does_not_write_over_what_it_reads(call: Call, tmp_path: Path) -> None:
    results = tmp_path / "r.json"
    results.write_text("[]")
    given = ["evaluate", "--dataset", "coco", "--root", str(tmp_path), "--results", str(results)]
    refused = call(*given, "-o", str(results))
    assert refused.returncode == 2 and "would write over" in refused.stderr
    assert results.read_text() == "[]"
    assert call(*given, "-o", str(tmp_path)).returncode == 2
    for option in ("--weights", "--detector", "--detector-weights"):
        refused = call("evaluate", "--dataset", "synthetic", option, "m.onnx", "-o", "./m.onnx")
        assert refused.returncode == 2 and "would write over" in refused.stderr


def test_predict_passes_over_no_option(call: Call, clip: Path, tmp_path: Path) -> None:
    refused = call("predict", str(clip), "-o", str(tmp_path), *QUICK, "--box-threshold", "0.2")
    assert (
        refused.returncode == 2
        and "--box-threshold: detrpose_n looks at whole pictures; leave it out" in refused.stderr
    )


def test_evaluate_passes_over_no_option(call: Call, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[]")
    model, boxes = ("--model", "vitpose_s"), ("--boxes", "ground-truth")
    for arguments, told in {
        (*model, *boxes, "--detector", "magic"): "--detector: --boxes says where the people are",
        (*model, "--detector", "given"): "--detector: given needs --boxes",
        ("--results", str(tmp_path / "r.json"), *boxes): "--boxes: the people of --results have been found",
        ("--results", str(tmp_path / "r.json"), "--no-closer-look"): "--closer-look: the people of --results have",
        (*QUICK, "--flip-test"): "--flip-test: detrpose_n looks at whole pictures; leave it out",
        (*QUICK, *boxes): "--boxes: detrpose_n looks at whole pictures",
        (
            *model,
            "--weights",
            "random",
            "--detector",
            "embedded",
            "--detect-every",
            "2",
        ): "--detect-every: it does nothing with vitpose_s; leave it out",
    }.items():
        refused = call("evaluate", "--dataset", "synthetic", *arguments)
        assert refused.returncode == 2 and told in refused.stderr


def test_camera_and_node_get_options_and_ros_arguments(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pave_ros.ros import camera, node

    calls: list[Any] = []
    monkeypatch.setattr(camera, "run_camera", lambda *a, **k: calls.append((a, k)) or 0)
    monkeypatch.setattr(node, "main", lambda arguments: calls.append(arguments) or 3)
    arguments = ["0", "--rate", "15", "--once", "--ros-args", "-r", "__ns:=/front"]
    assert call("camera", *arguments).returncode == 0
    (ros,), given = calls.pop()
    assert ros == ["--ros-args", "-r", "__ns:=/front"]
    assert given == {"source": "0", "rate": 15.0, "loop": False}, "the rest may be said behind --ros-args"
    assert call("camera", "--compressed", "--ros-args", "-p", "rate:=5.0").returncode == 0
    assert calls.pop() == ((["--ros-args", "-p", "rate:=5.0"],), {"image_transport": "compressed"})
    parameters = tmp_path / "p.yaml"
    parameters.touch()
    options = [
        "--model", "detrpose_s", "--weights", "😀.pth", "--params-file", str(parameters),
        "--image", "color", "--depth", "aligned",
    ]  # fmt: skip
    assert call("node", *options, "--ros-args", "-p", "max_rate:=5.0").returncode == 3
    assert calls.pop() == [
        "--ros-args", "--params-file", str(parameters), "-r", "image:=color", "-r", "depth:=aligned",
        "-p", "use_depth:=true", "-p", 'model:="detrpose_s"', "-p", 'weights:="😀.pth"', "--",
        "--ros-args", "-p", "max_rate:=5.0",
    ]  # fmt: skip


@pytest.fixture
def demos(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `pave_ros.ros.demo.run` was called with."""
    calls: list[dict[str, Any]] = []
    module = types.SimpleNamespace(run=lambda **given: calls.append(given) or 0)
    monkeypatch.setitem(sys.modules, "pave_ros.ros.demo", module)  # type: ignore[arg-type]
    return calls


def test_demo_without_weights_says_what_to_expect(call: Call, demos: list[dict[str, Any]]) -> None:
    result = call("demo", "--seconds", "3", "--model", "detrpose_n")
    assert result.returncode == 0
    assert "No trained weights" in result.stderr and "goes on with random weights" in result.stderr
    (given,) = demos
    assert (given["source"], given["seconds"], given["weights"]) == ("synthetic:seed=3", 3, "random")
    assert given["output"] == Path("out/demo") and given["ros_args"] == []


def test_demo_runs_what_comes_with_the_package(call: Call, demos: list[dict[str, Any]]) -> None:
    result = call("demo")
    assert result.returncode == 0 and "random" not in result.stderr
    assert (demos[0]["model"], demos[0]["weights"]) == ("embedded", str(files.EMBEDDED.path))


def test_demo_takes_a_video_and_weights(call: Call, demos: list[dict[str, Any]], cache: Path) -> None:
    path = cache / "weights" / "detrpose_hgnetv2_s.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    clip = str(cache / "clip.mp4")
    with VideoWriter(clip, 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    result = call("demo", "--video", clip, "--model", "detrpose_s", "--ros-args", "--log-level", "debug")
    assert result.returncode == 0 and "random" not in result.stderr
    call("demo", "--weights", "mine.pth")
    first, second = demos
    assert (first["source"], first["weights"]) == (clip, str(path))
    assert first["ros_args"] == ["--ros-args", "--log-level", "debug"]
    assert second["weights"] == "mine.pth"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_it_leaves_nothing_half_done(number: signal.Signals, tmp_path: Path) -> None:
    """Also where the script of a colcon workspace has started it, which lets nodes end at once."""
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", SCRIPT, "predict", "synthetic:frames=9000,width=160,height=120", *QUICK, "-o", str(out),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        deadline = time.monotonic() + 100
        while not list(out.glob("*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(out.glob("*.part.mp4")), "a video that is being written"
        running.send_signal(number)
        told = running.communicate(timeout=60)[0]
    assert running.returncode == 130, told
    assert "Traceback" not in told
    assert list(out.iterdir()) == []
