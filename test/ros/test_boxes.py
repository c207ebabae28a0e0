"""Boxes from a topic: paired with their images by stamp, and used by a top-down model in a node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Start
from peer import Peer, StandIn, image, wait_for
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from pave_ros import detection
from pave_ros.frames import Frame
from pave_ros.msg import BoundingBox, Keypoint, Person, Poses
from pave_ros.ros import messages
from pave_ros.ros.boxes import AT_LEAST, AT_MOST, PATIENCE, Pairing, boxes_of, size_of
from pave_ros.ros.node import PoseNode

Make = Callable[..., tuple[PoseNode, StandIn]]


def box(number: float) -> Poses:
    return Poses(persons=[Person(score=0.9, box=BoundingBox(x=float(number), y=0.0, width=10.0, height=20.0))])


class Delivered:
    """Collects (stamp, x of the box) of what is delivered."""

    def __init__(self, slop: float = 0.0) -> None:
        self.pairs: list[tuple[int, float]] = []
        self.pairing = Pairing(self.take, slop)

    def take(self, frame: Frame) -> None:
        assert frame.boxes is not None
        self.pairs.append((frame.stamp, float(frame.boxes.boxes[0, 0])))


def test_whichever_comes_first_waits_for_the_other() -> None:
    seen = Delivered()
    seen.pairing.add_image(Frame(10))
    assert not seen.pairs
    seen.pairing.add_boxes(10, box(1))
    seen.pairing.add_boxes(20, box(2))
    seen.pairing.add_image(Frame(20))
    assert seen.pairs == [(10, 1), (20, 2)] and seen.pairing.passed_over == 0


def test_a_slow_detector_that_leaves_images_out() -> None:
    seen = Delivered()
    for stamp in range(0, 60, 10):
        seen.pairing.add_image(Frame(stamp))
    seen.pairing.add_boxes(30, box(3))
    assert seen.pairs == [(30, 3)] and seen.pairing.passed_over == 3
    seen.pairing.add_boxes(50, box(5))
    assert seen.pairs == [(30, 3), (50, 5)] and seen.pairing.passed_over == 4


def test_boxes_of_an_image_that_never_came_are_forgotten() -> None:
    seen = Delivered()
    seen.pairing.add_boxes(10, box(1))
    seen.pairing.add_image(Frame(20))
    seen.pairing.add_boxes(20, box(2))
    assert seen.pairs == [(20, 2)]


def test_stamps_may_differ_by_the_slop() -> None:
    exact, loose = Delivered(), Delivered(slop=5e-9)
    for seen in (exact, loose):
        seen.pairing.add_image(Frame(10))
        seen.pairing.add_image(Frame(20))
        seen.pairing.add_boxes(16, box(2))
    assert exact.pairs == [] and loose.pairs == [(20, 2)] and loose.pairing.passed_over == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_wide_slop_gives_no_image_the_boxes_of_its_neighbour(late: bool) -> None:
    """Image 40 is lost, and so are the boxes of image 70; boxes come before their image or after the next one."""
    seen = Delivered(slop=1e-7)
    for stamp in range(0, 130, 10):
        due = stamp - 10 if late else stamp
        if late and stamp != 40:
            seen.pairing.add_image(Frame(stamp))
        if due >= 0 and due != 70:
            seen.pairing.add_boxes(due, box(due))
        if not late and stamp != 40:
            seen.pairing.add_image(Frame(stamp))
    expected = [stamp for stamp in range(0, 120 if late else 130, 10) if stamp not in (40, 70)]
    assert seen.pairs == [(stamp, stamp) for stamp in expected] and seen.pairing.passed_over == 1


def test_a_bag_that_starts_over() -> None:
    seen = Delivered(slop=1e-7)
    for _ in range(3):
        for stamp in range(100, 160, 10):
            seen.pairing.add_image(Frame(stamp))
            seen.pairing.add_boxes(stamp, box(stamp))
    assert seen.pairs == [(stamp, stamp) for stamp in range(100, 160, 10)] * 3
    seen.pairing.add_image(Frame(200))
    seen.pairing.add_image(Frame(10))
    seen.pairing.add_boxes(10, box(1))
    assert seen.pairs[-1] == (10, 1) and seen.pairing.passed_over == 1


@pytest.mark.parametrize(("rate", "waiting"), [(1, AT_LEAST), (20, 20 * PATIENCE + 1), (200, AT_MOST)])
def test_images_wait_for_some_time(rate: int, waiting: float) -> None:
    """For seconds, however many come, but so many of a slow camera, and no more than fit the memory of a fast one."""
    seen = Delivered()
    for stamp in range(200):
        given_up = seen.pairing.add_image(Frame(stamp, received=stamp / rate))
        assert given_up == (stamp >= waiting)
    assert len(seen.pairing._images) == waiting and seen.pairing.passed_over == 200 - waiting


def test_of_images_without_stamps_the_newest_gets_the_boxes() -> None:
    seen = Delivered()
    images = [Frame(0) for _ in range(4)]
    for number, frame in enumerate(images):
        seen.pairing.add_image(frame)
        if number % 2:
            seen.pairing.add_boxes(0, box(number))
    assert [frame.boxes is not None for frame in images] == [False, True] * 2


def test_boxes_of_a_clock_that_is_ahead_tell_by_how_much() -> None:
    seen = Delivered()
    seen.pairing.add_boxes(3600_000_000_000, box(1))
    for stamp in range(AT_MOST + 1):
        seen.pairing.add_image(Frame(stamp))
    assert seen.pairing.missed == pytest.approx(3600.0)


def test_boxes_that_miss_their_image_tell_by_how_much() -> None:
    seen = Delivered()
    seen.pairing.add_image(Frame(1_000_000_000))
    seen.pairing.add_image(Frame(2_000_000_000))
    seen.pairing.add_boxes(1_995_000_000, box(1))
    assert seen.pairing.missed == pytest.approx(0.005)
    seen.pairing.add_boxes(2_000_000_000, box(2))
    assert seen.pairing.missed is None


def test_only_the_boxes_of_foreign_people_count() -> None:
    """Detectors fill in what they know: keypoints of some people, ages of their own."""
    one, two = (Person(score=score, box=BoundingBox(x=1.0, y=2.0, width=3.0, height=4.0)) for score in (0.5, 0.9))
    one.keypoints, one.age = [Keypoint()] * 17, 2**32 - 1
    found = boxes_of(Poses(persons=[one, two]))
    assert found.boxes.tolist() == [[1, 2, 3, 4]] * 2 and found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert messages.persons(Poses(persons=[one])).ages.tolist() == [2**31 - 1]


def test_people_without_an_extent_are_no_boxes() -> None:
    people = [
        Person(score=0.4, box=BoundingBox(x=1.0, y=2.0, width=3.0, height=4.0)),
        Person(score=0.9, box=BoundingBox(x=5.0, y=6.0, width=7.0, height=8.0)),
        Person(score=1.0, box=BoundingBox(x=float("nan"), y=0.0, width=0.0, height=0.0)),
    ]
    boxes = boxes_of(Poses(persons=people))
    assert boxes.boxes.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]] and boxes.scores.tolist() == pytest.approx([0.9, 0.4])
    assert len(boxes_of(Poses())) == 0


def test_a_node_with_a_top_down_model_takes_boxes_from_a_topic(start: Start, peer: Peer) -> None:
    """The image that has no boxes is passed over; those that have come with a person for each box."""
    node = start(
        "pave_ros.ros.node", "--ros-args", "-r", "__ns:=/boxes", "-p", "model:=vitpose_s", "-p", "weights:=random",
        "-p", "detector:=given", "-p", "score_threshold:=0.0", "-p", "input_size:=[32, 32]",
    )  # fmt: skip
    poses = peer.subscribe(Poses, "/boxes/poses")
    images = peer.publisher(type(image()), "/boxes/image")
    boxes = peer.publisher(Poses, "/boxes/boxes")
    for number, stamp in enumerate((1, 2, 3), start=1):
        images.publish(image(stamp * 10**9))
        if number != 2:
            people = [
                Person(score=0.9, box=BoundingBox(x=10.0 * n, y=5.0, width=20.0, height=40.0)) for n in range(number)
            ]
            boxes.publish(Poses(header=image(stamp * 10**9).header, persons=people))
            wait_for(lambda: len(poses) >= (number + 1) // 2, "a result")  # noqa: B023
    assert [len(message.persons) for message in poses] == [1, 3], node.output
    assert [message.header.stamp.sec for message in poses] == [1, 3]
    assert sorted(person.box.x for person in poses[-1].persons) == [0.0, 10.0, 20.0]
    assert messages.persons(poses[-1]).skeleton == "coco17"


def test_what_waits_is_forgotten_on_request(
    make_node: Callable[..., tuple[PoseNode, StandIn]], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIn, "detector", detection.GIVEN)
    node, _ = make_node()
    name = node.get_namespace()
    images = peer.publisher(Image, f"{name}/image")

    def waiting() -> int:
        assert node.streams[0]._pairing is not None
        return len(node.streams[0]._pairing._images)

    for service, request in ((Trigger, Trigger.Request()), (SetBool, SetBool.Request(data=False))):
        images.publish(image(5))
        wait_for(waiting, "an image that waits for boxes")
        peer.call(service, f"{name}/pose_node/{'reset' if service is Trigger else 'enable'}", request)
        assert not waiting()


class Rig:
    """A node whose model, a stand-in, looks at given boxes, and what it hears and answers."""

    def __init__(self, make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> None:
        monkeypatch.setattr(StandIn, "detector", detection.GIVEN)
        self.node, self.model = make_node(**parameters)
        self.stream = self.node.streams[0]
        name = self.node.get_namespace()
        self.poses = peer.subscribe(Poses, f"{name}/poses")
        wait_for(self.stream._outputs["poses"].get_subscription_count, "the listener")
        self.images = peer.publisher(Image, f"{name}/image")
        self.boxes = peer.publisher(Poses, f"{name}/boxes")

    def show(self, stamp: int, **changes: Any) -> None:
        """Publish an image, and wait for its arrival."""
        before = self.stream.statistics.received
        self.images.publish(image(stamp, **changes))
        wait_for(lambda: self.stream.statistics.received > before, "the image")

    def answer(self, message: Poses, stamp: int) -> Poses:
        """Publish boxes of an image that waits, and wait for its result."""
        before = len(self.poses)
        message.header = image(stamp).header
        self.boxes.publish(message)
        wait_for(lambda: len(self.poses) > before, "the result")
        return self.poses[-1]


def test_boxes_of_a_smaller_picture_are_enlarged(make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(make_node, peer, monkeypatch)
    found = []
    for stamp, size in ((1, {}), (2, {"width": 96, "height": 64}), (3, {"width": 48, "height": 16})):
        message = box(20)
        message.width, message.height = size.get("width", 0), size.get("height", 0)
        rig.show(stamp)
        rig.answer(message, stamp)
        boxes = rig.model.windows[-1][-1].boxes_in_image()
        assert boxes is not None
        found.append(boxes.boxes.tolist())
    assert found == [[[20, 0, 10, 20]]] * 2 + [[[40, 0, 20, 80]]]


def test_boxes_of_another_camera_are_left_out(make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both may have one topic, and cameras that are released together one stamp."""
    rig = Rig(make_node, peer, monkeypatch)
    log = peer.log(rig.node.get_fully_qualified_name())
    rig.show(1)
    other = box(1)
    other.header = image(1).header
    other.header.frame_id = "back"
    rig.boxes.publish(other)
    wait_for(lambda: any("boxes in the frame 'back' are left out" in line for line in log()), "a line in the log")
    rig.answer(box(50), 1)
    (window,) = rig.model.windows
    assert window[-1].boxes is not None and window[-1].boxes.boxes[0, 0] == 50


def test_images_whose_boxes_do_not_come_are_no_gap(
    make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(make_node, peer, monkeypatch, max_gap=1.0)
    ages = []
    for stamp in range(1, 8):
        rig.show(stamp * 500_000_000)
        if stamp % 3 == 1:
            ages.append(rig.answer(box(1), stamp * 500_000_000).persons[0].age)
    rig.show(9_000_000_000)
    ages.append(rig.answer(box(1), 9_000_000_000).persons[0].age)
    assert ages == [0, 1, 2, 0]


def test_boxes_with_other_stamps_are_told(make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(make_node, peer, monkeypatch)
    log = peer.log(rig.node.get_fully_qualified_name())
    diagnostics = peer.diagnostics(rig.node.get_fully_qualified_name())

    def told() -> bool:
        stamp = time.monotonic_ns()
        rig.boxes.publish(Poses(header=image(stamp - 5_000_000).header))
        rig.images.publish(image(stamp))
        time.sleep(0.02)
        return any("have other stamps" in report.message for report in diagnostics.reports)

    wait_for(told, "a report")
    wait_for(lambda: any("have other stamps, 5 ms off at least" in line for line in log()), "a line in the log")


def test_boxes_that_never_come_are_told(make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "detector", detection.GIVEN)
    node, _ = make_node()
    images = peer.publisher(Image, f"{node.get_namespace()}/image")
    log, diagnostics = (hear(node.get_fully_qualified_name()) for hear in (peer.log, peer.diagnostics))

    def told() -> bool:
        images.publish(image(time.monotonic_ns()))
        time.sleep(0.02)
        return any("nobody publishes /node" in report.message for report in diagnostics.reports)

    wait_for(told, "a report")
    wait_for(lambda: any("/boxes; remap `boxes`" in line for line in log()), "a line in the log")


def test_images_that_a_slow_detector_leaves_out_are_counted_when_its_boxes_come(
    make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(make_node, peer, monkeypatch)
    for stamp in (1, 2):
        rig.show(stamp)
    rig.answer(box(1), 2)
    wait_for(lambda: rig.stream.statistics.without_boxes == 1, "the count", timeout=3)


def test_images_without_boxes_are_counted_on_when_the_node_is_active_again(
    make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(make_node, peer, monkeypatch)
    for stamp in (2, 1):  # a step back: the first will have no boxes
        rig.show(stamp)
    assert rig.stream.statistics.without_boxes == 1
    rig.node.trigger_deactivate()
    rig.node.trigger_activate()
    rig.stream._on_image(image(3))
    assert rig.stream.statistics.without_boxes == 1


def test_the_stamps_of_boxes_may_differ_by_the_parameter(
    make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(make_node, peer, monkeypatch, boxes_slop=0.02)
    rig.show(1_000_000_000)
    assert rig.answer(box(1), 1_005_000_000).header.stamp.nanosec == 0


def test_boxes_that_name_no_frame_are_taken(make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(make_node, peer, monkeypatch)
    rig.show(1)
    nameless = box(50)
    nameless.header.stamp = image(1).header.stamp
    rig.boxes.publish(nameless)
    wait_for(lambda: rig.poses, "a result", timeout=5)


def test_another_rate_after_all_was_forgotten() -> None:
    seen = Delivered(slop=1e-7)
    for stamp in range(0, 300, 10):
        seen.pairing.add_image(Frame(stamp))
    seen.pairing.clear()
    for stamp in (1000, 1200):
        seen.pairing.add_image(Frame(stamp))
    seen.pairing.add_boxes(1240, box(1))
    assert seen.pairs == [(1200, 1)]


def test_a_size_without_a_width_is_none() -> None:
    assert size_of(Poses(height=64)) is size_of(Poses(width=96)) is None and size_of(Poses(height=64, width=96))


def test_boxes_that_start_over_before_their_images_do() -> None:
    seen = Delivered()
    seen.pairing.add_boxes(100, box(1))
    seen.pairing.add_boxes(10, box(2))
    seen.pairing.add_image(Frame(10))
    assert seen.pairs == [(10, 2)]


def test_boxes_of_a_lost_image_do_not_hold_up_the_next_ones() -> None:
    seen = Delivered()
    for stamp in (10, 20):
        seen.pairing.add_image(Frame(stamp))
    for stamp in (14, 20):
        seen.pairing.add_boxes(stamp, box(stamp))
    assert seen.pairs == [(20, 20)]
