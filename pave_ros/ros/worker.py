"""The thread that turns the newest image into people."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from pave_ros.frames import Frame, FrameBuffer, Taken, around
from pave_ros.persons import Persons
from pave_ros.ros import images
from pave_ros.ros.clocks import at_most_every
from pave_ros.ros.diagnostics import Statistics
from pave_ros.ros.parameters import Settings
from pave_ros.tracking import Tracker

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator


@dataclass(frozen=True)
class Result:
    """The people of one image.

    Attributes:
        frame: the image, converted, with its message as payload.
        persons: who is in it.
        context: number of earlier frames that the model used besides this one.
        dropped: number of images passed over since the previous result.
        resets: of the buffer, before the image came.
    """

    frame: Frame
    persons: Persons
    context: int
    dropped: int
    resets: int


class Logger(Protocol):
    """The part of a ROS logger that the worker uses."""

    def warning(self, message: str, **kwargs: Any) -> bool: ...


class Worker:
    """Takes the newest image from the buffer, has the people in it estimated and hands them on, in its own thread.

    Args:
        estimator: finds the people.
        tracker: gives them their numbers.
        settings: returns the values of the parameters as they are now.
        publish: takes each result, in the worker's thread, and returns whether it was published.
        alive: returns whether ROS still runs; errors after its end are no errors.
        clock: returns the time in nanoseconds that stamps are compared with.
        statistics: is counted in.
        logger: is told of images that cannot be used, at most once a second.
    """

    def __init__(
        self,
        estimator: Estimator,
        tracker: Tracker,
        settings: Callable[[], Settings],
        publish: Callable[[Result], bool],
        alive: Callable[[], bool],
        clock: Callable[[], int],
        statistics: Statistics,
        logger: Logger,
    ) -> None:
        self._lookahead = settings().lookahead
        self.buffer = FrameBuffer(estimator.earlier + 1 + self._lookahead, settings().max_gap)
        self._estimator, self._settings, self._publish = estimator, settings, publish
        self._alive, self._clock = alive, clock
        self._statistics, self._logger = statistics, logger
        self._tracker = tracker
        self._resets = 0  # of the buffer, as far as the tracker knows
        self._forgotten = 0  # of the buffer, as the last `reset` left them
        self._dropped = 0
        self._last_turn = -float("inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pose worker", daemon=True)

    def start(self) -> None:
        """Begin to work. A worker runs once."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Let the image in work be finished and end. Returns whether it ended within `timeout` seconds."""
        self._stopping.set()
        self.buffer.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def reset(self) -> None:
        """Forget all images, and with them the tracks."""
        self.buffer.clear()
        self._forgotten = self.buffer.resets

    def wants(self, result: Result) -> bool:
        """Whether nothing was forgotten since the image of a result came."""
        return result.resets >= self._forgotten

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._await_turn()
            taken = self.buffer.take(timeout=0.5)
            if taken is not None and not self._stopping.is_set():
                self._last_turn = monotonic()
                self.work(taken)

    def _await_turn(self) -> None:
        """Sleep until max_rate, which may change meanwhile, allows the next result."""
        while not self._stopping.is_set() and (rate := self._settings().max_rate) > 0:
            remaining = self._last_turn + 1 / rate - monotonic()
            if remaining <= 0:
                return
            self._stopping.wait(min(remaining, 0.2))

    def work(self, taken: Taken) -> None:
        """Handle a frame; whatever goes wrong with it is counted and logged. The answer is for the frame `lookahead`
        before it."""
        self._drop(taken.passed_over)
        try:
            self._handle(taken)
        except images.ImageError as error:
            self._statistics.unreadable += 1
            self._complain(f"unreadable image: {error}")
        except Exception as error:
            if self._alive():
                self._statistics.failed += 1
                self._complain(f"image failed: {type(error).__name__}: {error}")

    def _complain(self, problem: str) -> None:
        self._statistics.problem = problem
        self._logger.warning(problem, **at_most_every(1.0))

    def _handle(self, taken: Taken) -> None:
        settings = self._settings()
        if taken.resets != self._resets:
            self._resets = taken.resets
            self._tracker.reset()
        if self._is_too_old(taken.frame, settings.max_age):
            return
        _convert(taken.frame)
        frames = self.buffer.keep(taken)
        if len(frames) <= self._lookahead:
            return
        asked = frames[-1 - self._lookahead]
        self._estimator.score_threshold = settings.score_threshold
        self._estimator.max_persons = settings.max_persons
        started = perf_counter()
        persons = self._estimator.estimate(frames, -1 - self._lookahead)
        self._statistics.inference += perf_counter() - started
        self._statistics.memory = self.buffer.nbytes
        if settings.tracking:
            assert asked.image is not None
            persons = self._tracker.update(persons, asked.stamp, asked.image.shape[:2])
        earlier = around(frames, -1 - self._lookahead, 2 * self._estimator.earlier + 1)[: self._estimator.earlier]
        context = len({id(frame) for frame in earlier if frame is not asked})
        if self._publish(Result(asked, persons, context, self._dropped, taken.resets)):
            self._dropped = 0
        else:
            self._drop()

    def _is_too_old(self, frame: Frame, max_age: float) -> bool:
        if max_age <= 0:
            return False
        waited = monotonic() - frame.received
        # A stamp of zero is no stamp.
        by_stamp = (self._clock() - frame.stamp) / 1e9 if frame.stamp else 0.0
        if max(waited, by_stamp) <= max_age:
            return False
        self._drop()
        self._statistics.too_old += 1
        self._complain(
            f"image is {max(waited, by_stamp):.1f} s old, max_age is {max_age:g} s; "
            "if a bag is played, use_sim_time must be true and the bag's clock be published"
            if by_stamp > 60
            else f"image is {max(waited, by_stamp):.2f} s old, max_age is {max_age:g} s"
        )
        return True

    def _drop(self, count: int = 1) -> None:
        self._dropped += count
        self._statistics.dropped += count


def _convert(frame: Frame) -> None:
    if frame.image is None:
        frame.image, frame.bgr = images.read(frame.payload)
