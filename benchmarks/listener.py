"""The listener of a benchmark, to what other processes publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor

from pave_ros.ros.demo import Child


class Listener:
    """A node in this process; a context manager, which starts ROS and ends it.

    Args:
        arguments: for ROS, e.g. its namespace.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        rclpy.init(args=list(arguments))
        self.node = rclpy.create_node("listener")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()

    def subscribe(self, message: Any, topic: str, heard: Callable[[Any], None], depth: int = 5) -> None:
        """Hand over the messages of a topic as they come."""
        self.node.create_subscription(message, topic, heard, depth)

    def listen(self, seconds: float) -> float:
        """Listen so long; the seconds that really passed."""
        start = monotonic()
        while (passed := monotonic() - start) < seconds:
            self._executor.spin_once(timeout_sec=0.1)
        return passed

    def wait_for(self, condition: Callable[[], bool], publisher: Child, log: Path, seconds: float) -> None:
        """Listen until something is true. RuntimeError, with the log, when the publisher ended or it took too long."""
        deadline = monotonic() + seconds
        while not condition():
            self._executor.spin_once(timeout_sec=0.1)
            if publisher.ended or monotonic() > deadline:
                raise RuntimeError(f"too few results came:\n{log.read_text()}")
