"""Running a node as a process: signals, the executor, a clean end and its exit code."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from pave_ros.interruptions import interruptions

_T = TypeVar("_T")


class Startable(Protocol):
    """A node that `run` can run; it is also a rclpy Node."""

    def start(self) -> bool:
        """Begin to work, before the executor spins. Returns False when that failed, having logged why."""

    def stop(self) -> bool:
        """End all threads; ROS may be shut down already. Returns whether they ended."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """The first interruption raises KeyboardInterrupt, all later ones are ignored.

    The event is set from then on: a RuntimeError may be the KeyboardInterrupt, for where it breaks into rclpy's C++,
    that says something else ("Unable to convert call argument").

    `ros2 launch` sends SIGINT to the process, which a terminal has already sent to the group, and SIGTERM soon
    after: without this the second one interrupts the cleaning up. rclpy's own handlers, which are installed later
    and call these, end ROS's communication.
    """

    came = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.set()
        for each in interruptions():
            signal.signal(each, lambda number, frame: None)
        raise KeyboardInterrupt

    for each in interruptions():
        if each == signal.SIGHUP:
            _take_for_sigterm(each)
        else:
            signal.signal(each, interrupt)
    yield came


def _take_for_sigterm(number: signal.Signals) -> None:
    """Python handles a signal in the main thread, which may wait inside of ROS; rclpy's own handlers wake it, of SIGINT
    and SIGTERM alone."""
    heard, told = socket.socketpair()
    told.setblocking(False)

    def forward() -> None:
        while came := heard.recv(1):
            if came[0] == number:
                os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    threading.Thread(target=forward, name="hang-up", daemon=True).start()


def shielded(step: Callable[[], _T]) -> Future[_T]:
    """Take a step in a thread of its own, where no signal breaks into it: Python hands signals to the main thread.

    Torch aborts the process when it is interrupted while it loads, and a download would not be given up in time.
    """
    future: Future[_T] = Future()

    def work() -> None:
        try:
            future.set_result(step())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="shielded", daemon=True).start()
    return future


def run(make: Callable[[], Node], args: list[str] | None) -> int:
    """Make a node and spin it until it is told to end. Returns the exit code of the process.

    Args:
        make: makes the node, which must be `Startable`.
        args: command line arguments for ROS, without the program's name; None for those of this process.
    """
    code, made = 0, list[Node]()
    try:
        with interruptible() as interrupted:
            code = _spin(make, args, made, interrupted)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        ended = _end(*made)
    if not ended:
        # A thread is still inside the model. The interpreter would wait for it or crash in it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _spin(make: Callable[[], Node], args: list[str] | None, made: list[Node], interrupted: threading.Event) -> int:
    """Make the node, put it into `made` and spin it. Returns the exit code."""
    try:
        rclpy.init(args=sys.argv if args is None else [sys.argv[0], *args])
        made.append(make())
        executor = SingleThreadedExecutor()
        executor.add_node(made[0])
        if not made[0].start():
            return 1
        executor.spin()
    except (ParameterException, RuntimeError) as error:
        if interrupted.is_set():
            return 0
        if not made:  # bad arguments, a bad parameter file or value: what rclpy says of it is clear enough
            unknown = type(error).__name__ == "UnknownROSArgsError"  # Its words are the arguments alone.
            get_logger("pave_ros").fatal(f"unknown ROS arguments: {error}" if unknown else str(error))
            return 1
        if rclpy.ok():  # else something was published into the shutdown, which is no error
            raise
    return 0


def _end(*nodes: Node) -> bool:
    for each in interruptions():
        signal.signal(each, signal.SIG_IGN)
    ended = all([node.stop() for node in nodes])
    with suppress(Exception):  # what is left of a context that a signal has shut down cannot always be destroyed
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return ended
