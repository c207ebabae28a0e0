"""The demo end to end: three processes over DDS, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import psutil
import pytest

from pave_ros.engines.exported import WHOLE, Label
from pave_ros.models.info import ModelInfo
from pave_ros.ros import demo as running
from pave_ros.ros.process import interruptible
from pave_ros.synthetic import Scene
from pave_ros.video import open_source
from pave_ros.video_writer import VideoWriter

TIMEOUT = 300.0  # seconds; generous, because the machine may be busy
QUICK = ("--model", "detrpose_n", "--weights", "random", "--input-size", "96", "--device", "cpu")


def demo(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pave_ros.cli", "demo", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**env, "NO_COLOR": "1"}
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What the process says up to a line in which the pattern is found, or to its end."""
    assert process.stdout is not None
    guard = threading.Timer(TIMEOUT, process.kill)
    guard.start()
    said = ""
    try:
        while not re.search(pattern, said) and (line := process.stdout.readline()):
            said += line
    finally:
        guard.cancel()
    return said


def test_the_video_shows_a_picture_until_the_next_one(tmp_path: Path) -> None:
    with running.Recorder(tmp_path, rate=10.0, seconds=2.0) as recorder:
        for seconds, level in ((0.0, 20), (0.5, 120), (0.6, 220)):
            recorder.add(10**9 + round(seconds * 1e9), np.full((64, 64, 3), level, np.uint8))
    levels = [round(float(frame.image.mean()) / 100) for frame in open_source(tmp_path / "demo.mp4")]
    assert levels == [0] * 5 + [1, 2]


def test_pictures_of_other_sizes_are_fitted_into_the_first(tmp_path: Path) -> None:
    with running.Recorder(tmp_path, rate=10.0, seconds=2.0) as recorder:
        for i, shape in enumerate(((64, 64), (32, 64), (64, 64))):
            recorder.add(10**9 + i * 10**8, np.full((*shape, 3), 200, np.uint8))
    means = [float(frame.image.mean()) for frame in open_source(tmp_path / "demo.mp4")]
    assert means == pytest.approx([200, 100, 200], abs=12)


def check_results(folder: Path, size: tuple[int, int]) -> int:
    """Video (of this width and height) and contact sheet can be read and are not dark; returns the video's length."""
    with open_source(folder / "demo.mp4") as video:
        frames = [frame.image for frame in video]
        assert (video.width, video.height) == size
    assert all(frame is not None and frame.mean() > 20 for frame in frames)
    sheet = cv2.imread(str(folder / "demo.png"))
    assert sheet is not None and sheet.shape[1] == 1920 and sheet.mean() > 20
    return len(frames)


def test_synthetic_camera(tmp_path: Path) -> None:
    process = demo("--video", "synthetic:width=320,height=240,rate=10", "--seconds", "3", "-o", tmp_path, *QUICK)
    said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
    assert "camera process: synthetic, 320x240, 10 pictures a second" in said
    assert "never trained, so its skeletons are meaningless" in said and "on the right: the ground truth" in said
    assert str(tmp_path / "demo.mp4") in said and str(tmp_path / "demo.png") in said
    # 30 pictures in real time, give or take what a busy machine does; the node's picture and the truth side by side.
    assert 10 <= check_results(tmp_path, (2 * 320 + 24, 240 + 16)) <= 90
    assert "waiting for images on /demo_" in (tmp_path / "node.log").read_text()


def write_untrained(path: Path) -> Path:
    """An exported file that has always the same answer, and says that it was never trained."""
    info = ModelInfo("detrpose", "lite", "coco17", (32, 32), 32, (0.5,) * 3, (0.5,) * 3)
    answer = {"pred_logits": np.full((1, 1, 2), 2, np.float32), "pred_keypoints": np.full((1, 1, 34), 0.5, np.float32)}
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value))
        for name, value in answer.items()
    ]
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])
    outputs = [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v.shape) for k, v in answer.items()]
    graph = onnx.helper.make_graph(nodes, "untrained", [images], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, Label(info, WHOLE, "fp32", "", "").properties())
    onnx.save(model, path)
    return path


def test_untrained_clip_until_interrupted(tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out"
    weights = write_untrained(tmp_path / "untrained.onnx")
    scene = Scene(seed=3, width=160, height=120, persons=1)
    with VideoWriter(clip, 10) as writer:
        for i in range(3):
            writer.write(scene.frame(10 * i).image)
    process = demo("--video", clip, "--seconds", "1000", "-o", out, "--weights", weights, "--device", "cpu")
    said = read_until(process, r"[1-9]\d* recorded")
    children = psutil.Process(process.pid).children()
    assert len(children) == 2, said
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=TIMEOUT)[0]
    assert process.returncode == 0, said
    assert "interrupted" in said and "meaningless" in said and "ground truth" not in said
    assert re.search("detrpose_lite in (onnxruntime|openvino) on cpu", said) and str(weights) in said
    assert check_results(out, (160 + 16, 120 + 16)) > 0
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("interrupted", [True, False])
def test_an_interruption_that_ros_calls_something_else_ends_it_too(
    interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Executor:
        def add_node(self, node: object) -> None: ...

        def shutdown(self) -> None: ...

        def spin_once(self, timeout_sec: float) -> None:
            try:
                if interrupted:
                    signal.raise_signal(signal.SIGINT)
                    time.sleep(5)
            except KeyboardInterrupt:
                pass
            raise RuntimeError("Unable to convert call argument")

    monkeypatch.setattr(running, "SingleThreadedExecutor", Executor)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    spectator: Any = SimpleNamespace(ready=True, tally=running.Tally())
    child: Any = SimpleNamespace(ended=False, start=lambda: None)
    try:
        with interruptible() as came:
            if interrupted:
                assert "interrupted" in running._watch(spectator, child, child, 1.0, came)
            else:
                with pytest.raises(RuntimeError, match="Unable to convert"):
                    running._watch(spectator, child, child, 1.0, came)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_missing_video_is_one_line(tmp_path: Path) -> None:
    process = demo("--video", tmp_path / "nothere.mp4", "-o", tmp_path / "out")
    said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert said == f"error: {tmp_path}/nothere.mp4: no such file or folder\n"
    assert not (tmp_path / "out").exists()


def test_node_that_fails_is_quoted(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(np.random.default_rng(0).bytes(1000))
    process = demo("--weights", bad, "-o", tmp_path)
    said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, said
    assert "the node ended before it was ready" in said and "Last lines of the node" in said
    assert "pose_node]: " in said and "bad.pth" in said.split("Last lines of the node")[1]
