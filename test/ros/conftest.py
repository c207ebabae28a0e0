"""Fixtures of the tests over real DDS: camera and node are other processes, the tests are a third."""

from __future__ import annotations

import os
import signal

# Under nohup the processes of the tests would ignore it, too; what is handled here is not ignored there.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

# Before the first import of rclpy. A domain of its own keeps other robots, and other runs of these tests, out.
os.environ.update(
    ROS_DOMAIN_ID=str(1 + os.getpid() % 100),
    ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
    ROS_PYTHON_CHECK_FIELDS="1",
)

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import rclpy
from peer import Peer, Process, StandIn
from rclpy.parameter import Parameter

from pave_ros.ros.node import PoseNode

CAMERA = "synthetic:width=320,height=240,persons=2"
# Untrained, but a real model through the whole path; every one of its guesses is shown.
MODEL = (
    "-p", "model:=detrpose_n", "-p", "weights:=random", "-p", "input_size:=[32, 32]", "-p", "score_threshold:=0.0",
)  # fmt: skip

Start = Callable[..., Process]


@contextmanager
def processes(folder: Path) -> Iterator[Start]:
    """A function that starts processes, all of which are ended afterwards."""
    started: list[Process] = []

    def start(module: str, *arguments: str, **environment: str) -> Process:
        log = folder / f"{len(started)}_{module.rpartition('.')[2]}.log"
        started.append(Process(log, module, *arguments, ROS_LOG_DIR=str(folder), **environment))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that end with the test."""
    with processes(tmp_path) as function:
        yield function


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts processes that end with the last test of a file, lest they slow down all that come after."""
    with processes(tmp_path_factory.mktemp("ros")) as function:
        yield function


@pytest.fixture(scope="module")
def camera(start_shared: Start) -> Process:
    """A camera process: the synthetic scene on /robot1/image at 10 Hz."""
    return start_shared("pave_ros.ros.camera", CAMERA, "--rate", "10", "--ros-args", "-r", "__ns:=/robot1")


@pytest.fixture(scope="module")
def robot(start_shared: Start, camera: Process) -> Process:
    """A node process with a fast model at that camera: /robot1/pose_node."""
    return start_shared("pave_ros.ros.node", "--ros-args", "-r", "__ns:=/robot1", *MODEL)


@pytest.fixture(scope="session")
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("log"))
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def peer(ros: None) -> Iterator[Peer]:
    """The tests' own node."""
    peer = Peer()
    yield peer
    peer.close()


_numbers = count()


@pytest.fixture
def make_node(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[PoseNode, StandIn]]]:
    """Makes nodes with a stand-in for the model, spun by the peer, each in a namespace of its own."""
    made: list[PoseNode] = []

    def make(*arguments: str, **parameters: Any) -> tuple[PoseNode, StandIn]:
        stand_in = StandIn()
        monkeypatch.setattr("pave_ros.estimator.Estimator", lambda **options: stand_in)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        cli = ["--ros-args", *arguments] if arguments else None
        node = PoseNode(namespace=f"/node{next(_numbers)}", parameter_overrides=given, cli_args=cli)
        made.append(node)
        assert node.start()
        peer.executor.add_node(node)
        return node, stand_in

    yield make
    for node in made:
        peer.executor.remove_node(node)
        assert node.stop()
        node.destroy_node()
