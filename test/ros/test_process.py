"""The processes end well: exit code 0, no traceback, nothing published any more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest
from conftest import MODEL, Start
from peer import Peer, Process, StandIn, assert_stops_after, wait_for

from pave_ros.msg import Poses
from pave_ros.ros.node import PoseNode

ENDINGS: dict[str, tuple[Signals, ...]] = {
    "SIGINT": (SIGINT,),
    "SIGTERM": (SIGTERM,),
    "SIGINT twice": (SIGINT, SIGINT),
    "SIGTERM twice": (SIGTERM, SIGTERM),
    "terminal closed": (SIGHUP,),
    "as ros2 launch does": (SIGINT, SIGINT, SIGTERM),
}


DELIVERY = 0.05  # Seconds until a signal has reached one of four processes that share two cores.


def send(process: Process, signals: tuple[Signals, ...]) -> None:
    for number in signals:
        process.signal(number)
        time.sleep(0.05)  # signals that come at once are one


def assert_ended_well(process: Process) -> None:
    assert process.wait() == 0, process.output
    assert "Traceback" not in process.output and "ERROR" not in process.output, process.output


def test_the_node_ends_well_while_it_works(camera: Process, start: Start, peer: Peer) -> None:
    """At once, to save time; with a model so slow that the signal comes while it works."""
    running = {}
    for i, ending in enumerate(list(ENDINGS)[:5]):
        process = start(
            "pave_ros.ros.node", "--ros-args", "-r", f"__ns:=/end{i}", "-r", "image:=/robot1/image", *MODEL,
            "-p", "input_size:=[384, 384]",
        )  # fmt: skip
        running[ending] = process, peer.subscribe(Poses, f"/end{i}/poses")
    wait_for(lambda: all(poses for _, poses in running.values()), "results of all nodes", timeout=180)
    signalled = {}
    for ending, (process, _) in running.items():
        signalled[ending] = time.time()
        send(process, ENDINGS[ending])
    for ending, (process, poses) in running.items():
        assert_ended_well(process)
        newest = poses[-1]
        # The picture arrived after its stamp, so this is the earliest time at which the result may have been sent.
        published = newest.header.stamp.sec + newest.header.stamp.nanosec / 1e9 + newest.latency
        assert published <= signalled[ending] + DELIVERY, f"{ending}: a result after the end began"


@pytest.mark.parametrize("ending", [(SIGINT,), (SIGTERM, SIGTERM)])
def test_the_node_ends_well_while_it_loads_the_model(ending: tuple[Signals, ...], start: Start) -> None:
    process = start("pave_ros.ros.node", "--ros-args", *MODEL)
    wait_for(lambda: "loading detrpose_n" in process.output, "the begin of the loading")
    send(process, ending)
    assert_ended_well(process)


def test_a_signal_does_not_break_into_the_loading_of_torch(start: Start) -> None:
    """Torch aborts the process when an exception comes out of one of its imports."""
    running = [start("pave_ros.ros.node", "--ros-args", "-r", f"__ns:=/load{i}", *MODEL) for i in range(6)]
    for i, process in enumerate(running):
        wait_for(lambda process=process: "loading detrpose_n" in process.output, "the begin of the loading")
        time.sleep(0.15 * i)
        process.signal(SIGINT)
    for process in running:
        assert_ended_well(process)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_camera_ends_well(ending: str, start: Start, peer: Peer) -> None:
    truth = peer.subscribe(Poses, "/ending/ground_truth")
    process = start("pave_ros.ros.camera", "synthetic:width=80,height=64", "--ros-args", "-r", "__ns:=/ending")
    wait_for(lambda: truth, "a picture")
    send(process, ENDINGS[ending])
    assert_ended_well(process)


def test_the_camera_ends_while_a_stream_does_not_answer(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        process = start("pave_ros.ros.camera", address)
        server.accept()
        process.signal(SIGINT)
        assert_ended_well(process)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_while_the_node_is_imported_ends_it_well(number: Signals, tmp_path: Path) -> None:
    """As the script that ros2 launch starts does it."""
    lines = (Path(__file__).parents[2] / "cmake" / "script.sh.in").read_text().replace("@module@", "slow")
    (tmp_path / "slow.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)\n")
    bin_of = tmp_path / "lib" / "pave_ros"
    bin_of.mkdir(parents=True)
    script = bin_of / "node"
    script.write_text(lines)
    modules = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")  # a sourced workspace has its own there
    paths = {"PYTHONPATH": modules, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["sh", str(script)], env={**os.environ, **paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.wait(30) == 0 and process.stderr and not process.stderr.read()


BROKEN_INTO = """
import signal, sys, time
from pave_ros.ros.process import run

def make():
    try:
        if "interrupted" in sys.argv:
            signal.raise_signal(signal.SIGINT)
            time.sleep(5)
    except KeyboardInterrupt:
        pass  # as rclpy's C++ has it
    raise RuntimeError("Unable to convert call argument")

sys.exit(run(make, []))
"""


@pytest.mark.parametrize("how", ["interrupted", "alone"])
def test_what_a_signal_breaks_into_is_no_error(how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", BROKEN_INTO, how], capture_output=True, text=True, timeout=60)
    assert ended.returncode == (0 if how == "interrupted" else 1), ended.stderr
    assert ("Unable to convert" in ended.stderr) == (how == "alone"), ended.stderr


def test_a_node_that_is_destroyed_leaves_no_thread(make_node: Callable[..., tuple[PoseNode, StandIn]]) -> None:
    node, _ = make_node()
    thread = node.streams[0]._worker._thread  # type: ignore[union-attr]
    assert thread.is_alive()
    node.executor.remove_node(node)
    node.destroy_node()
    assert not thread.is_alive()


def test_a_thread_that_builds_an_engine_is_not_waited_for(make_node: Callable[..., tuple[PoseNode, StandIn]]) -> None:
    """The interpreter would crash around a compiler that is at work."""
    node, model = make_node()
    model.building = True
    assert not node.stop()
    model.building = False


def test_all_cameras_have_four_seconds_to_end_however_often_the_node_is_told(
    make_node: Callable[..., tuple[PoseNode, StandIn]], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = make_node(cameras=["front", "side"])
    now, waited = [time.monotonic()], []

    def never_ends(timeout: float) -> bool:
        waited.append(round(timeout, 3))
        now[0] += timeout / 2
        return False

    with monkeypatch.context() as patch:
        patch.setattr("pave_ros.ros.node.monotonic", lambda: now[0])
        for stream in node.streams:
            patch.setattr(stream, "stop", never_ends)
        assert not node.stop()
        now[0] += 0.5
        assert not node.stop()
        now[0] += 5.0
        assert not node.stop()
    assert waited == [0, 0, 4, 2, 0, 0, 0.5, 0.25, 0, 0, 0, 0]


def test_a_node_that_still_loads_its_model_has_not_ended(ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, model = threading.Event(), StandIn()
    monkeypatch.setattr("pave_ros.estimator.Estimator", lambda **_: answer.wait() and model)
    node = PoseNode()
    assert_stops_after(node.trigger_configure, answer, node)
    assert model.closed
    node.destroy_node()
