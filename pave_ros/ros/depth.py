"""From pixels to metres: depth images beside the camera's, and where in them people's keypoints are."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from rclpy.node import Node

from pave_ros.encodings import ImageError
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.ros import depth_images, messages
from pave_ros.ros.clocks import at_most_every
from pave_ros.ros.depth_images import Metres
from pave_ros.ros.pinhole import Camera, Positions, same_shape
from pave_ros.ros.subscriber import ImageSubscriber
from pave_ros.ros.worker import Logger

WAITING = 100  # Images, and depth images, that wait for their counterpart at most.
SURE = 0.3  # Score from which keypoints tell how far away a person is, if any has it.
REACH = 1.0  # Metres between a person's middle and their hand or foot at most; what is further away is something else.
# Around a keypoint 5 x 5 pixels count, spread over this share of the person's size: about as wide as a wrist.
SPREAD = np.linspace(-0.02, 0.02, 5, dtype=np.float32)
REGISTERED = "registered to the image (align_depth.enable:=true, say, or depth_image_proc)"


class DepthImage(NamedTuple):
    """A depth image message, raw or compressed, and its stamp in nanoseconds."""

    stamp: int
    message: Any


class Depth:
    """The depth images of a camera, each for the image of its time.

    Args:
        node: it creates the subscription.
        log: is told of what is doubtful.
        transport, reliability: of the subscription, see `ImageSubscriber`.
        slop: seconds by which the stamps of an image and of its depth may differ, and that a result waits for it.
        name: of the topic.
    """

    def __init__(self, node: Node, log: Logger, transport: str, reliability: str, slop: float, name: str) -> None:
        self._node, self._log = node, log
        self._slop = slop
        self._matching = Matching(slop)
        self._subscriber = ImageSubscriber(node, transport, reliability, self._on_depth, name)

    @property
    def topic(self) -> str:
        """The full name of the topic."""
        return self._subscriber.topic

    def destroy(self) -> None:
        """End the subscription, and the wait for an image."""
        self.close()
        self._subscriber.destroy()

    def close(self) -> None:
        """Nobody waits any more."""
        self._matching.close()

    def clear(self) -> None:
        """Forget all that came."""
        self._matching.clear()

    @property
    def advice(self) -> str:
        """What to do when no depth images come; empty where they do."""
        return self._subscriber.advice

    def add_image(self, frame: Frame) -> None:
        """An image has come, whose depth will be asked for."""
        frame.depth = self._matching.add_image(frame.stamp or self._now())

    def positions(self, frame: Frame, persons: Persons, camera: Camera | None) -> Positions:
        """Where people's keypoints are, (N, K, 3) in metres; see `positions`. Raises ImageError with the reason where
        nothing can be known."""
        if camera is None:
            raise ImageError("no positions in metres: there is no calibrated camera_info of the image's shape")
        found = self._matching.wait(frame.depth, frame.received + self._slop - monotonic())
        if found is None:
            raise ImageError(f"no depth image on {self.topic} within {self._slop:g} s of the image; see depth_slop")
        message, frame_id = found.message, frame.payload.header.frame_id
        if message.header.frame_id != frame_id:
            self._log.warning(
                f"depth images are in the frame {message.header.frame_id!r}, images in {frame_id!r}: positions are "
                f"wrong unless the depth is {REGISTERED}",
                **at_most_every(30.0),
            )
        assert frame.image is not None
        return positions(persons, message, frame.image.shape[:2], camera)

    def _on_depth(self, message: Any) -> None:
        self._matching.add_depth(DepthImage(messages.nanoseconds(message.header.stamp) or self._now(), message))

    def _now(self) -> int:
        """Where drivers leave the stamp empty: nanoseconds."""
        return self._node.get_clock().now().nanoseconds


@dataclass(eq=False)
class Slot:
    """What belongs to an image.

    Attributes:
        stamp: its own in nanoseconds.
        image: the depth image that is nearest in time so far.
        forgotten: no nearer one will be looked for.
    """

    stamp: int
    image: DepthImage | None = None
    forgotten: bool = False

    def offer(self, image: DepthImage, slop: float) -> None:
        """Take a depth image if it is nearer than the last one."""
        best = slop if self.image is None else abs(self.image.stamp - self.stamp)
        if abs(image.stamp - self.stamp) <= best:
            self.image = image


class Matching:
    """Finds for every image the depth image that is nearest in time; images do not wait for it.

    One thread adds, another waits. Both kinds come in the order of their stamps; a step back (a bag that loops) starts
    afresh.

    Args:
        slop: seconds by which the two stamps may differ.
    """

    def __init__(self, slop: float) -> None:
        self._slop = slop * 1e9
        self._slots: deque[Slot] = deque(maxlen=WAITING)  # Not the frames, which hold pictures and features.
        self._images: deque[DepthImage] = deque(maxlen=WAITING)
        self._period = 0  # nanoseconds between the last two depth images
        self._closed = False
        self._condition = threading.Condition()

    def add_image(self, stamp: int) -> Slot:
        """An image has come: the place for its depth image, with the nearest so far; a nearer one takes its place."""
        slot = Slot(stamp)
        with self._condition:
            if self._slots and stamp < self._slots[-1].stamp:
                self._clear()
            while self._images and self._images[0].stamp < stamp - self._slop:
                self._images.popleft()
            self._slots.append(slot)
            for image in self._images:
                slot.offer(image, self._slop)
        return slot

    def add_depth(self, image: DepthImage) -> None:
        """A depth image has come."""
        with self._condition:
            if self._images:
                self._period = image.stamp - self._images[-1].stamp
                if self._period < 0:
                    self._clear()
            while self._slots and self._slots[0].stamp < image.stamp - self._slop:
                self._slots.popleft()
            self._images.append(image)
            for slot in self._slots:
                slot.offer(image, self._slop)
            self._condition.notify_all()

    def wait(self, slot: Slot, timeout: float) -> DepthImage | None:
        """The depth image of a slot, once no nearer one can come, or after `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._is_settled(slot), max(0.0, timeout))
            return slot.image

    def clear(self) -> None:
        """Forget all that came."""
        with self._condition:
            self._clear()

    def close(self) -> None:
        """Let whoever waits go on, now and from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _is_settled(self, slot: Slot) -> bool:
        if slot.forgotten or (self._images and self._images[-1].stamp >= slot.stamp):
            return True
        return slot.image is not None and abs(slot.image.stamp - slot.stamp) <= self._period / 2

    def _clear(self) -> None:
        for slot in self._slots:
            slot.forgotten = True
        self._condition.notify_all()
        self._slots.clear()
        self._images.clear()
        self._period = 0


def positions(persons: Persons, message: Any, size: tuple[int, int], camera: Camera) -> Positions:
    """Where people's keypoints are in the optical frame, (N, K, 3) metres, NaN where the depth is not known.

    It is the surface that the camera sees in front of a joint, some centimetres nearer than the joint. Something in
    front of a person or behind them that is more than `REACH` away from their middle does not count.

    Args:
        persons: in pixels of the image.
        message: the depth image of the same view, of any size of the same shape.
        size: height and width of the image.
        camera: its intrinsics.

    Raises:
        ImageError: the depth image cannot be read or is of another view.
    """
    near = samples(persons, message, size)
    sure = persons.keypoints[..., 2] >= SURE
    sure |= ~sure.any(1, keepdims=True)
    middle = median(np.where(sure, median(near), np.nan))
    own = np.abs(near - middle[:, None, None]) <= REACH
    return camera.project(persons.keypoints[..., :2], median(np.where(own, near, np.nan)))


def samples(persons: Persons, message: Any, size: tuple[int, int]) -> Metres:
    """(N, K, 25) metres around the keypoints, NaN where unknown. Raises ImageError."""
    values, unit = depth_images.read(message)
    (height, width), (rows, columns) = size, values.shape
    if not same_shape(columns / width, rows / height):
        raise ImageError(
            f"a depth image of {rows} x {columns} (height x width) does not fit an image of {height} x {width}: it "
            f"must be {REGISTERED}"
        )
    spread = np.sqrt(persons.boxes[:, 2:].clip(min=0).prod(1))[:, None] * SPREAD
    across, down = (
        np.rint((persons.keypoints[..., axis, None] + spread[:, None] + 0.5) * scale - 0.5)
        for axis, scale in ((0, columns / width), (1, rows / height))
    )
    x, y = np.broadcast_arrays(across[..., None, :], down[..., :, None])
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)  # not so where a keypoint is NaN
    found = np.full(x.shape, np.nan, np.float32)
    found[inside] = values[y[inside].astype(np.intp), x[inside].astype(np.intp)] * np.float32(unit)
    found[~(np.isfinite(found) & (found > 0))] = np.nan
    return found.reshape(*found.shape[:2], SPREAD.size**2)


def median(values: Metres) -> Metres:
    """Of the values (..., n) that are known along the last axis, the lower one of two; NaN where none is known.
    numpy's nanmedian takes many times as long."""
    known = np.isfinite(values).sum(-1)
    middle = (known - 1).clip(min=0) // 2
    return np.take_along_axis(np.sort(values, -1), middle[..., None], -1)[..., 0]
