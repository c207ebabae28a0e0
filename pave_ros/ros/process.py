"""Running a node as a process: signals, the executor, a clean end and its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Startable(Protocol):
    """A node that `run` can run; it is also a rclpy Node."""

    def start(self) -> bool:
        """Begin to work, before the executor spins. Returns False when that failed, having logged why."""

    def stop(self) -> bool:
        """End all threads; ROS may be shut down already. Returns whether they ended."""


@contextmanager
def interruptible() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises KeyboardInterrupt, all later ones are ignored.

    `ros2 launch` sends SIGINT to the process, which a terminal has already sent to the group, and SIGTERM soon
    after: without this the second one interrupts the cleaning up. rclpy's own handlers, which are installed later
    and call these, end ROS's communication.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, lambda number, frame: None)
        raise KeyboardInterrupt

    for each in _SIGNALS:
        signal.signal(each, interrupt)
    yield


def run(make: Callable[[], Node], args: list[str] | None) -> int:
    """Make a node and spin it until it is told to end. Returns the exit code of the process.

    Args:
        make: makes the node, which must be `Startable`.
        args: command line arguments for ROS, without the program's name; None for those of this process.
    """
    code = 0
    node: Node | None = None
    try:
        with interruptible():
            rclpy.init(args=sys.argv if args is None else [sys.argv[0], *args])
            node = make()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            if not node.start():
                code = 1
            else:
                executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterException, RuntimeError) as error:
        if node is None:  # bad arguments, a bad parameter file or value: what rclpy says of it is clear enough
            get_logger("pave_ros").fatal(str(error))
            code = 1
        elif rclpy.ok():  # else something was published into the shutdown, which is no error
            raise
    finally:
        ended = _end(node)
    if not ended:
        # A thread is still inside the model. The interpreter would wait for it or crash in it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _end(node: Node | None) -> bool:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    ended = node is None or node.stop()
    with suppress(Exception):  # what is left of a context that a signal has shut down cannot always be destroyed
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return ended
