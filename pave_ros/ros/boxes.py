"""Boxes of people from a topic, brought together with the images that they were found in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from pave_ros.frames import Frame
from pave_ros.msg import Poses
from pave_ros.persons import Boxes

PATIENCE = 3.0  # Seconds that images wait for their boxes, however many they are,
AT_LEAST, AT_MOST = 30, 100  # but more of slow cameras, and of fast ones no more, for each takes megabytes.


def boxes_of(message: Poses) -> Boxes:
    """The boxes of a message's people; their keypoints, if they have any, do not matter."""
    boxes = [(person.box.x, person.box.y, person.box.width, person.box.height) for person in message.persons]
    return Boxes.of(boxes, [person.score for person in message.persons])


def size_of(message: Poses) -> tuple[int, int] | None:
    """(height, width) of the picture that a message is about; None where it does not say."""
    return (message.height, message.width) if message.height and message.width else None


class Pairing:
    """Pairs images with boxes by their stamps, as message_filters does: each waits for the other.

    Images that are older than one whose boxes have come get none any more, since boxes come in the order of the images;
    they are passed over and counted. Of several images with one stamp the newest gets the boxes. Not thread safe: one
    thread calls everything.

    Args:
        deliver: takes an image once it has its boxes, in the order of the stamps.
        slop: seconds by which the two stamps may differ, but no more than half of what usually lies between two images,
            or a lost image would get its boxes to the next one; 0 wants equal ones.
        passed_over: number of images before that got no boxes.

    Attributes:
        passed_over: number of images that got no boxes.
        missed: seconds from the stamp of the last boxes that found no image to that of the nearest one that waited;
            None where all have found theirs, or none came.
    """

    def __init__(self, deliver: Callable[[Frame], None], slop: float = 0.0, passed_over: int = 0) -> None:
        self._deliver = deliver
        self._slop = slop * 1e9
        self._images: deque[Frame] = deque()
        self._boxes: deque[tuple[int, Poses]] = deque(maxlen=AT_MOST)
        self._stamps: deque[int] = deque(maxlen=AT_LEAST)  # of the images that came last
        self.passed_over = passed_over
        self.missed: float | None = None

    def add_image(self, frame: Frame) -> bool:
        """An image has come. Returns whether one was given up for it, because so many wait."""
        if self._stamps and frame.stamp < self._stamps[-1]:  # a bag that starts over
            self.clear()
        waited = frame.received - self._images[0].received if self._images else 0.0
        full = len(self._images) >= (AT_LEAST if waited > PATIENCE else AT_MOST)
        if full:
            stamp = self._images.popleft().stamp
            self.passed_over += 1
            if self._boxes:  # Those that wait are none of it, and stamped later than all images.
                self.missed = (self._boxes[0][0] - stamp) / 1e9
        self._images.append(frame)
        self._stamps.append(frame.stamp)
        self._match()
        return full

    def add_boxes(self, stamp: int, message: Poses) -> None:
        """The boxes of the image of that stamp (nanoseconds) have come."""
        if self._boxes and stamp < self._boxes[-1][0]:
            self.clear()
        self._boxes.append((stamp, message))
        self._match()

    def clear(self) -> None:
        """Nothing waits any more."""
        self.passed_over += len(self._images)
        self._images.clear()
        self._boxes.clear()
        self._stamps.clear()

    def _tolerance(self) -> float:
        """Nanoseconds by which two stamps that belong together may differ."""
        apart = [later - earlier for earlier, later in pairwise(self._stamps)]
        return min(self._slop, median(apart) / 2) if apart else self._slop

    def _match(self) -> None:
        tolerance = self._tolerance()
        while self._images and self._boxes:
            stamp, message = self._boxes[0]
            frame = min(reversed(self._images), key=lambda image: abs(image.stamp - stamp))
            if abs(frame.stamp - stamp) > tolerance:
                if stamp > self._images[-1].stamp:
                    return  # its image is still to come
                self._boxes.popleft()  # of an image that never came, or was given up
                self.missed = abs(frame.stamp - stamp) / 1e9
                continue
            while self._images[0] is not frame:
                self._images.popleft()
                self.passed_over += 1
            self._images.popleft()
            self._boxes.popleft()
            frame.boxes, frame.boxes_size = boxes_of(message), size_of(message)
            self.missed = None
            self._deliver(frame)
