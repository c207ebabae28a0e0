"""Frames of one camera in time: the frame and the ring buffer that feeds a model's temporal window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pave_ros.persons import Boxes

if TYPE_CHECKING:
    from pave_ros.smoothing import Looks

Image = npt.NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Frame:
    """One picture of a camera, for one estimator at a time: what that makes of it is kept here.

    Attributes:
        stamp: time of capture in nanoseconds.
        payload: what the source handed over, e.g. a ROS message; kept so that converting it can wait.
        image: the picture as (H, W, 3) uint8, once it has been converted.
        bgr: whether the channels of `image` are in the order blue, green, red instead of red, green, blue.
        received: `time.monotonic()` at arrival, seconds.
        features: what the model's encoder made of this frame, kept for later windows.
        looks: the people that the model found in this frame, kept for the next one where keypoints are smoothed.
        encoder: whose features and looks they are.
        boxes: where people are, where that is known from elsewhere; for top-down models.
        boxes_size: (height, width) of the picture that these are in pixels of; None for this one's.
        depth: where the depth image of the same time is kept, if the source has such.
    """

    stamp: int
    payload: Any = None
    image: Image | None = None
    bgr: bool = False
    received: float = field(default_factory=monotonic)
    features: Any = None
    looks: Looks | None = None
    encoder: Any = None
    boxes: Boxes | None = None
    boxes_size: tuple[int, int] | None = None
    depth: Any = None

    def boxes_in_image(self) -> Boxes | None:
        """The `boxes` in pixels of the `image`."""
        if self.boxes is None or self.boxes_size is None:
            return self.boxes
        assert self.image is not None
        height, width = self.image.shape[:2]
        return self.boxes.scaled(width / self.boxes_size[1], height / self.boxes_size[0])

    def forget(self) -> None:
        """Let go of what an estimator made of the picture."""
        self.features = self.looks = self.encoder = None

    @property
    def nbytes(self) -> int:
        """Memory that the picture and its features take, bytes."""
        parts = self.features if isinstance(self.features, tuple) else (self.features,)
        return sum(int(getattr(part, "nbytes", 0)) for part in (self.image, *parts))


def around(frames: Sequence[Frame], index: int, size: int) -> list[Frame]:
    """The window of so many frames, an odd number, with `frames[index]` in the middle.

    Where there is no frame, or one of another size, the nearest one towards the middle takes its place, as published.
    """
    index %= len(frames)
    window = [frames[index]]
    for step in (-1, 1):
        place, side = index, []
        for _ in range(size // 2):
            if 0 <= place + step < len(frames) and same_size(frames[place + step], frames[index]):
                place += step
            side.append(frames[place])
        window = side[::-1] + window if step < 0 else window + side
    return window


def same_size(one: Frame, other: Frame) -> bool:
    """Whether two frames hold pictures of one size."""
    return one.image is not None and other.image is not None and one.image.shape == other.image.shape


class Taken(NamedTuple):
    """A frame to look at.

    Attributes:
        frame: the newest one.
        passed_over: how many were pushed since the one taken before it.
        resets: of the buffer, before this frame came.
    """

    frame: Frame
    passed_over: int
    resets: int


class FrameBuffer:
    """Ring buffer of the newest frames of one camera; one thread pushes, another takes, and keeps what it can use.

    Frames that are passed over stay out of the history: nobody has looked at them, so a model that builds on what it
    saw before would have to look at them now, when it is late already. So do those that cannot be read or come too
    late, which would only take the place of better ones.

    Args:
        capacity: number of frames in the history, with the newest one, at least 1.
        max_gap: seconds; a longer pause between two stamps starts the history afresh. 0 means no limit.

    Attributes:
        resets: how often the history was dropped.
    """

    def __init__(self, capacity: int, max_gap: float = 0.0) -> None:
        if capacity < 1:
            raise ValueError(f"a frame buffer needs room for at least one frame, not {capacity}")
        self.max_gap = max_gap
        self.resets = 0
        self._history: deque[Frame] = deque(maxlen=capacity)  # What was kept.
        self._newest: Frame | None = None  # What is to be taken.
        self._last: int | None = None  # Stamp of what came last.
        # Stamp of what came first after a break, and its distance to the one before, while nothing since was pushed.
        self._break: tuple[int, int] | None = None
        self._pushed = 0
        self._taken = 0
        self._unkept = 0  # Taken since one was kept.
        self._condition = threading.Condition()

    def __len__(self) -> int:
        return len(self._history) + (self._newest is not None)

    @property
    def nbytes(self) -> int:
        """Memory that the history takes, with the features kept in it, bytes."""
        with self._condition:
            return sum(frame.nbytes for frame in self._history)

    def see(self, stamp: int) -> None:
        """A frame has come, which may be pushed later, or never."""
        with self._condition:
            if self._last is not None and self._breaks(stamp - self._last):
                self._break = stamp, stamp - self._last
            self._last = stamp

    def push(self, frame: Frame, seen: bool = False) -> float:
        """Store the newest frame; `seen` tells that `see` was called when it came. Where the stamps broke with the
        past, so that the history was dropped, returns by how many seconds: below zero after a step back (a bag that
        loops), else more than `max_gap`. Returns 0.0 where they go on."""
        with self._condition:
            if not seen:
                self.see(frame.stamp)
            jump = 0.0
            if self._break is not None and frame.stamp >= self._break[0]:
                jump = self._break[1] / 1e9
                self._history.clear()
                self.resets += 1
                self._break = None
            self._newest = frame
            self._pushed += 1
            self._condition.notify()
        return jump

    def _breaks(self, elapsed: int) -> bool:
        return elapsed < 0 or (self.max_gap > 0 and elapsed > self.max_gap * 1e9)

    def take(self, timeout: float | None = None) -> Taken | None:
        """The newest frame, once there is one that was not taken yet; None after `timeout` seconds without one, or
        when `wake` was called."""
        with self._condition:
            if self._newest is None:
                self._condition.wait(timeout)
            if self._newest is None:
                return None
            passed_over = self._pushed - self._taken - 1
            self._taken = self._pushed
            self._unkept += 1
            frame, self._newest = self._newest, None
            return Taken(frame, passed_over, self.resets)

    def keep(self, taken: Taken) -> list[Frame]:
        """Add a frame to the history, and return that, oldest first: this frame alone when the history was dropped
        since it was taken, and then it is none of the new one. The history starts afresh, too, where those that were
        not kept make a gap of more than `max_gap` in it."""
        with self._condition:
            if taken.resets != self.resets:
                return [taken.frame]
            missing, self._unkept = self._unkept > 1, 0
            if missing and self._history and self._breaks(taken.frame.stamp - self._history[-1].stamp):
                self._history.clear()
            self._history.append(taken.frame)
            return list(self._history)

    def wake(self) -> None:
        """Let a waiting `take` return."""
        with self._condition:
            self._condition.notify_all()

    def clear(self) -> None:
        """Forget the history and whatever was not taken yet."""
        with self._condition:
            self._history.clear()
            self._newest = self._last = self._break = None
            self._taken = self._pushed
            self.resets += 1
