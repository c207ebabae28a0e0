"""Frames of one camera in time: the frame and the ring buffer that feeds a model's temporal window."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros.persons import Boxes

Image = npt.NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        stamp: time of capture in nanoseconds.
        payload: what the source handed over, e.g. a ROS message; kept so that converting it can wait.
        image: the picture as (H, W, 3) uint8, once it has been converted.
        bgr: whether the channels of `image` are in the order blue, green, red instead of red, green, blue.
        received: `time.monotonic()` at arrival, seconds.
        features: what the model's encoder made of this frame, kept for later windows.
        boxes: where people are, where that is known from elsewhere; for top-down models.
    """

    stamp: int
    payload: Any = None
    image: Image | None = None
    bgr: bool = False
    received: float = field(default_factory=monotonic)
    features: Any = None
    boxes: Boxes | None = None


class FrameBuffer:
    """Ring buffer of the newest frames of one camera; one thread pushes, another takes.

    Args:
        capacity: number of frames kept, at least 1.
        max_gap: seconds; a longer pause between two stamps starts the history afresh. 0 means no limit.
    """

    def __init__(self, capacity: int, max_gap: float = 0.0) -> None:
        if capacity < 1:
            raise ValueError(f"a frame buffer needs room for at least one frame, not {capacity}")
        self.max_gap = max_gap
        self.resets = 0
        self._frames: deque[Frame] = deque(maxlen=capacity)
        self._pushed = 0
        self._taken = 0
        self._condition = threading.Condition()

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: Frame) -> bool:
        """Store the newest frame. Returns True when it broke with the past, so that the history was dropped:
        its stamp lies before the last one (a bag that loops), or more than `max_gap` after it."""
        with self._condition:
            broke = bool(self._frames) and self._breaks(frame.stamp - self._frames[-1].stamp)
            if broke:
                self._frames.clear()
                self.resets += 1
            self._frames.append(frame)
            self._pushed += 1
            self._condition.notify()
        return broke

    def _breaks(self, elapsed: int) -> bool:
        return elapsed < 0 or (self.max_gap > 0 and elapsed > self.max_gap * 1e9)

    def take(self, timeout: float | None = None) -> tuple[list[Frame], int] | None:
        """The history up to the newest frame, oldest first, once a frame is there that was not taken yet.

        Returns the frames and how many were passed over since the last call; None after `timeout` seconds
        without a new frame, or when `wake` was called.
        """
        with self._condition:
            if self._pushed == self._taken:
                self._condition.wait(timeout)
            if self._pushed == self._taken or not self._frames:
                return None
            passed_over = self._pushed - self._taken - 1
            self._taken = self._pushed
            return list(self._frames), passed_over

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._condition:
            self._condition.notify_all()

    def clear(self) -> None:
        """Forget the history and whatever was not taken yet."""
        with self._condition:
            self._frames.clear()
            self._taken = self._pushed
