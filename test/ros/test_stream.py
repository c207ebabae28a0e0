"""What the node makes of a stream of images, good and bad: with a stand-in for the model, over real DDS."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peer import Peer, image, wait_for
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from test_images import BAD, BAD_COMPRESSED, JPEG
from visualization_msgs.msg import MarkerArray

from pave_ros.frames import Frame, Taken
from pave_ros.msg import Poses
from pave_ros.ros import messages
from pave_ros.ros.camera import camera_info
from pave_ros.ros.node import PoseNode

SECOND = 1_000_000_000


class Rig:
    """A node with a stand-in for its model, a publisher of its images and what it answers."""

    def __init__(self, peer: Peer, node: PoseNode, stand_in: Any, kind: Any = Image, topic: str = "image") -> None:
        self.node, self.model, self.peer = node, stand_in, peer
        self.namespace = node.get_namespace()
        self.name = f"{self.namespace}/pose_node"
        self.poses: list[Poses] = peer.subscribe(Poses, f"{self.namespace}/poses")
        self.images = peer.publisher(kind, f"{self.namespace}/{topic}")
        # Otherwise the first result may be out before the subscription is known to the node.
        wait_for(lambda: node.count_subscribers("poses"), "the subscription of the results")
        wait_for(lambda: node.streams[0]._outputs["poses"].get_subscription_count(), "the subscription of the results")

    def settled(self) -> None:
        """Wait until all images sent one by one are answered, counted as bad, or passed over."""
        n = self.node.streams[0].statistics
        wait_for(lambda: n.received == n.published + n.dropped + n.unreadable + n.failed, f"an end of the work: {n}")

    def send(self, message: Any) -> None:
        """Send an image and wait until the node is done with it."""
        before = self.node.streams[0].statistics.received
        self.images.publish(message)
        wait_for(lambda: self.node.streams[0].statistics.received > before, "the arrival of an image")
        self.settled()

    def ask(self, stamp: int, **changes: Any) -> Poses:
        """The result for an image of that stamp."""
        before = len(self.poses)
        self.send(image(stamp, **changes))
        result = wait_for(lambda: self.poses[before:], "a result")[-1]
        assert messages.nanoseconds(result.header.stamp) == stamp
        return result

    def tracks(self, stamp: int) -> set[int]:
        return {person.track_id for person in self.ask(stamp).persons}


@pytest.fixture
def rig(peer: Peer, make_node: Callable[..., Any]) -> Callable[..., Rig]:
    def make(**parameters: Any) -> Rig:
        node, stand_in = make_node(**parameters)
        if parameters.get("image_transport") == "compressed":
            return Rig(peer, node, stand_in, CompressedImage, "image/compressed")
        return Rig(peer, node, stand_in)

    return make


def test_a_result_says_all_of_its_image_and_its_people(rig: Callable[..., Rig]) -> None:
    front = rig()
    front.model.delay = 0.2
    result = front.ask(5 * SECOND)
    assert (result.header.frame_id, result.camera, result.skeleton) == ("front", "front", "coco17")
    assert (result.width, result.height, result.context, result.dropped) == (96, 64, 0, 0)
    assert 0.2 <= result.latency < 30
    people = messages.persons(result)
    assert np.allclose(people.keypoints, front.model.persons.keypoints)
    assert np.allclose(people.boxes, front.model.persons.boxes) and list(people.track_ids) == [1, 2]
    assert [person.age for person in front.ask(5 * SECOND + 1).persons] == [1, 1]


def test_the_name_of_the_camera_can_be_given(rig: Callable[..., Rig]) -> None:
    assert rig(camera="porch").ask(SECOND).camera == "porch"


def test_images_without_people_are_answered_too(rig: Callable[..., Rig]) -> None:
    front = rig()
    front.model.persons = front.model.people()
    assert front.ask(SECOND).persons == []


def test_every_bad_image_is_counted_and_the_node_goes_on(rig: Callable[..., Rig]) -> None:
    front = rig()
    diagnostics = front.peer.diagnostics(front.name)
    for i, (changes, _) in enumerate(BAD.values(), 1):
        front.send(image(i * SECOND, **changes))
        assert front.node.streams[0].statistics.unreadable == i
        assert front.ask(i * SECOND + 1).persons
    values = diagnostics.wait_for(unreadable_images=str(len(BAD)), results=str(len(BAD)))
    reason = list(BAD.values())[-1][1]
    assert reason in values["last problem"]


def test_every_bad_compressed_image_is_counted_and_the_node_goes_on(rig: Callable[..., Rig]) -> None:
    front = rig(image_transport="compressed")
    for i, (data, _) in enumerate(BAD_COMPRESSED.values(), 1):
        front.send(CompressedImage(format="jpeg", data=array("B", data)))
        assert front.node.streams[0].statistics.unreadable == i
        front.send(CompressedImage(format="jpeg", data=array("B", JPEG)))
        assert front.node.streams[0].statistics.published == i


def test_bad_images_are_logged_once_a_second_at_most(
    rig: Callable[..., Rig], capfd: pytest.CaptureFixture[str]
) -> None:
    front = rig()
    begin = time.monotonic()
    for i in range(20):
        front.send(image(i, step=1))
    seconds = time.monotonic() - begin
    lines = [line for line in capfd.readouterr().err.splitlines() if "unreadable image: step 1 is less" in line]
    assert 1 <= len(lines) <= 1 + seconds


def test_the_model_is_warm_before_the_first_image(rig: Callable[..., Rig]) -> None:
    front = rig()
    assert front.model.warm and not front.model.windows


def test_a_failing_model_is_counted_and_the_node_goes_on(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = rig()
    diagnostics = front.peer.diagnostics(front.name)
    with monkeypatch.context() as patch:
        patch.setattr(front.model, "estimate", lambda frames, index: 1 / 0)
        front.send(image(1))
    assert "division by zero" in diagnostics.wait_for(failed_images="1")["last problem"]
    assert front.ask(2).persons


def test_a_slow_model_takes_the_newest_and_counts_what_it_passed_over(rig: Callable[..., Rig]) -> None:
    front = rig()
    front.model.delay = 0.2
    for i in range(20):
        front.images.publish(image(1 + i * SECOND // 50))
        time.sleep(0.02)
    wait_for(lambda: front.poses and messages.nanoseconds(front.poses[-1].header.stamp) > 19 * SECOND // 50, "the last")
    front.settled()
    counted = front.node.streams[0].statistics
    assert counted.dropped == sum(result.dropped for result in front.poses) > 0
    assert counted.published == len(front.poses) < 20


def test_history_reaches_as_far_back_as_the_model_wants(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.StandIn.window", 5)
    monkeypatch.setattr("peer.StandIn.reach", 2)
    monkeypatch.setattr("peer.StandIn.earlier", 2)
    front = rig(max_gap=1.0)
    assert [front.ask(i * SECOND).context for i in (1, 2, 3, 4)] == [0, 1, 2, 2]
    assert [frame.stamp // SECOND for frame in front.model.windows[-1]] == [2, 3, 4]
    assert front.ask(2 * SECOND).context == 0, "a stamp that steps back starts afresh"
    assert front.ask(int(2.9 * SECOND)).context == 1
    assert front.ask(4 * SECOND).context == 0, "so does a pause longer than max_gap"
    front.send(image(int(4.1 * SECOND), step=1))
    assert front.ask(int(4.2 * SECOND)).context == 1, "an image that cannot be read is no context"


def test_who_follows_people_is_handed_the_image_before(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peer.StandIn.earlier", 1)  # It looks at single images otherwise.
    front = rig(max_gap=1.0)
    assert [front.ask(i * SECOND).context for i in (1, 2, 3)] == [0, 1, 1]
    assert [frame.stamp // SECOND for frame in front.model.windows[-1]] == [2, 3]
    assert front.ask(9 * SECOND).context == 0, "after a pause nobody is where they were"


def test_with_lookahead_answers_come_one_image_later(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.StandIn.window", 3)
    monkeypatch.setattr("peer.StandIn.reach", 1)
    monkeypatch.setattr("peer.StandIn.earlier", 1)
    front = rig(max_gap=1.0, lookahead=1)
    for stamp in (1, 2, 3, 4):
        front.images.publish(image(stamp * SECOND))
        wait_for(lambda: len(front.poses) == stamp - 1, "an answer to the image before, and to none yet at first")  # noqa: B023
        time.sleep(0.1)
    assert [message.header.stamp.sec for message in front.poses] == [1, 2, 3]
    assert [message.context for message in front.poses] == [0, 1, 1]
    assert [frame.stamp // SECOND for frame in front.model.windows[-1]] == [2, 3, 4]


def test_bad_images_take_nothing_from_the_others(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.StandIn.window", 3)
    monkeypatch.setattr("peer.StandIn.reach", 1)
    monkeypatch.setattr("peer.StandIn.earlier", 1)
    front = rig(max_gap=0.0, lookahead=1)
    for stamp, changes in ((1, {}), (2, {}), (3, {"step": 1}), (4, {"step": 1}), (5, {})):
        front.images.publish(image(stamp * SECOND, **changes))
        statistics = front.node.streams[0].statistics
        wait_for(lambda: statistics.received == stamp and not front.node.streams[0]._worker.buffer._newest, "the image")  # noqa: B023
        time.sleep(0.1)
    wait_for(lambda: len(front.poses) == 2, "the answers")
    assert [message.header.stamp.sec for message in front.poses] == [1, 2]
    assert [frame.stamp // SECOND for frame in front.model.windows[-1]] == [1, 2, 5]


def test_a_new_max_gap_holds_for_the_next_image(rig: Callable[..., Rig]) -> None:
    front = rig(max_gap=1.0)
    assert front.tracks(2 * SECOND) == {1, 2}
    front.node.set_parameters([Parameter("max_gap", value=5.0)])
    assert front.tracks(4 * SECOND) == {1, 2}


def test_nodes_of_one_process_have_their_own_qos(make_node: Callable[..., Any]) -> None:
    before, _ = make_node()
    following = int(before.get_namespace().removeprefix("/node")) + 1
    make_node(**{f"qos_overrides./node{following}/poses.publisher.reliability": "best_effort"})
    make_node()

    def reliability(number: int) -> QoSReliabilityPolicy:
        topic = f"/node{number}/poses"
        [publisher] = wait_for(lambda: before.get_publishers_info_by_topic(topic), topic)
        return publisher.qos_profile.reliability

    assert reliability(following) == QoSReliabilityPolicy.BEST_EFFORT
    assert reliability(following + 1) == QoSReliabilityPolicy.RELIABLE


def test_tracks_end_where_time_jumps_and_with_reset(rig: Callable[..., Rig]) -> None:
    front = rig()
    assert front.tracks(10 * SECOND) == front.tracks(10 * SECOND + 1) == {1, 2}
    assert front.tracks(5 * SECOND) == {3, 4}, "a bag that plays in a loop"
    assert front.tracks(8 * SECOND) == {5, 6}, "a gap"
    answer = front.peer.call(Trigger, f"{front.name}/reset", Trigger.Request())
    assert answer.success
    assert front.tracks(8 * SECOND + 1) == {7, 8}
    assert front.tracks(8 * SECOND + 2) == {7, 8}


def test_what_is_in_work_when_all_is_forgotten_is_not_published(rig: Callable[..., Rig]) -> None:
    front = rig()
    assert front.tracks(1) == {1, 2}
    front.model.delay = 0.5
    for stamp, calls in (
        (2, [(Trigger, "reset", {})]),
        (3, [(SetBool, "enable", {"data": on}) for on in (False, True)]),
    ):
        front.images.publish(image(stamp))
        wait_for(lambda: len(front.model.windows) == stamp, "the model")  # noqa: B023
        for kind, service, request in calls:
            assert front.peer.call(kind, f"{front.name}/{service}", kind.Request(**request)).success
        front.settled()
    front.model.delay = 0.0
    answer = front.ask(4)
    assert not {person.track_id for person in answer.persons} & {1, 2} and answer.dropped == 2
    assert [messages.nanoseconds(message.header.stamp) for message in front.poses] == [1, 4]


def test_track_ids_are_not_given_again(rig: Callable[..., Rig]) -> None:
    front = rig()
    assert front.tracks(1) == {1, 2}
    assert front.node.trigger_deactivate() == front.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    wait_for(lambda: front.node.streams[0]._outputs["poses"].get_subscription_count(), "the subscription")
    front.images = front.peer.publisher(Image, f"{front.namespace}/image")
    assert front.tracks(2) == {3, 4}


def test_tracking_can_be_off(rig: Callable[..., Rig]) -> None:
    assert rig(tracking=False).tracks(SECOND) == {-1}


def test_enable(rig: Callable[..., Rig]) -> None:
    front = rig()
    diagnostics = front.peer.diagnostics(front.name)

    def enable(value: bool) -> None:
        assert front.peer.call(SetBool, f"{front.name}/enable", SetBool.Request(data=value)).success

    enable(False)
    diagnostics.wait_for(state="disabled")
    front.images.publish(image(1))
    diagnostics.wait_for(state="disabled", images_received="1", results="0")
    enable(True)
    diagnostics.wait_for(state="detecting")
    front.images.publish(image(2))
    wait_for(lambda: front.poses, "a result")
    assert messages.nanoseconds(front.poses[0].header.stamp) == 2


def test_max_rate(rig: Callable[..., Rig]) -> None:
    front = rig(max_rate=5.0)
    begin = time.monotonic()
    while time.monotonic() < begin + 2:
        front.images.publish(image(time.time_ns()))
        time.sleep(0.02)
    front.settled()
    assert 3 <= front.node.streams[0].statistics.published <= (time.monotonic() - begin) * 5 + 1
    assert front.peer.set_parameter(front.name, "max_rate", 0.001).successful
    received = front.node.streams[0].statistics.received
    front.images.publish(image(1))
    wait_for(lambda: front.node.streams[0].statistics.received > received, "the arrival of an image")
    assert front.peer.set_parameter(front.name, "max_rate", 0.0).successful, "it need not wait for 1000 s"
    front.settled()
    before = front.node.streams[0].statistics.published
    wait_for(lambda: len(front.poses) == before, "the results that are still on their way")
    for i in range(20):
        front.ask(i)
    assert front.node.streams[0].statistics.published == before + 20


def test_max_age(rig: Callable[..., Rig]) -> None:
    front = rig(max_age=20.0)
    front.send(image(time.time_ns() - 30 * SECOND))
    counted = front.node.streams[0].statistics
    assert (counted.dropped, counted.published) == (1, 0)
    assert "max_age is 20 s" in counted.problem
    front.send(image(SECOND))
    assert "use_sim_time" in counted.problem, "old by years: that is another clock"
    assert front.ask(time.time_ns()).dropped == 2
    assert front.ask(0).persons, "a stamp of zero is no stamp"


def test_pictures_are_drawn_only_for_subscribers(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    front = rig()
    drawn: list[Any] = []
    monkeypatch.setattr("pave_ros.ros.stream.drawing.draw", lambda picture, persons, bgr: drawn.append(picture))
    front.ask(1)
    assert not drawn
    annotated = front.peer.subscribe(Image, f"{front.namespace}/image_annotated")
    wait_for(lambda: front.node.streams[0]._is_wanted("image_annotated"), "the subscription")
    front.ask(2)
    assert wait_for(lambda: annotated, "a picture")[0].header.stamp.nanosec == 2
    assert len(drawn) == 1
    assert front.peer.set_parameter(front.name, "publish_annotated", False).successful
    front.ask(3)
    assert len(drawn) == 1


def test_the_annotated_picture_shows_the_people(rig: Callable[..., Rig]) -> None:
    front = rig()
    annotated = front.peer.subscribe(Image, f"{front.namespace}/image_annotated")
    wait_for(lambda: front.node.streams[0]._is_wanted("image_annotated"), "the subscription")
    given = image(7)
    front.ask(7)
    got = wait_for(lambda: annotated, "a picture")[0]
    assert (got.header.frame_id, got.encoding, got.width, got.height) == ("front", "rgb8", 96, 64)
    shown, seen = (np.frombuffer(message.data, np.uint8).reshape(64, 96, 3) for message in (got, given))
    assert (shown != seen)[10:50, 20:40].any()
    front.ask(8, encoding="bgr8", data=np.ascontiguousarray(seen[..., ::-1]).tobytes())
    other = wait_for(lambda: annotated[1:], "the next picture")[0]
    assert other.encoding == "bgr8"
    swapped = np.frombuffer(other.data, np.uint8).reshape(64, 96, 3)[..., ::-1]
    np.testing.assert_array_equal(swapped, shown, "the same colours in either order")


def test_markers_of_who_left_are_deleted(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True)
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")

    def shown(stamp: int) -> dict[int, set[int]]:
        """The actions of the next array by the markers' id."""
        before = len(arrays)
        front.ask(stamp)
        newest = wait_for(lambda: arrays[before:], "markers")[-1].markers
        return {i: {marker.action for marker in newest if marker.id == i} for i in {m.id for m in newest}}

    add, delete = 0, 2
    assert shown(1) == shown(2) == {1: {add}, 2: {add}}
    front.model.persons = front.model.people((20.0, 10.0))
    assert shown(3) == {1: {add}, 2: {delete}}
    assert shown(4) == {1: {add}}
    assert front.peer.set_parameter(front.name, "publish_markers", False).successful
    before = len(arrays)
    front.ask(5)
    gone = wait_for(lambda: arrays[before:], "the end of who was shown")[0].markers
    assert {(marker.id, marker.action) for marker in gone} == {(1, delete)}
    front.ask(6)
    assert len(arrays) == before + 1


def test_markers_of_an_assumed_camera_are_told_where_there_is_a_camera_info(rig: Callable[..., Rig]) -> None:
    front = rig()
    log = front.peer.log(front.name)

    def complains() -> bool:
        return any("no calibration for images of 96x64" in line for line in log())

    front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    infos = front.peer.publisher(CameraInfo, f"{front.namespace}/camera_info")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")
    for width, told in ((96, False), (128, True)):
        infos.publish(camera_info(width, 64, 96.0))
        wait_for(lambda: getattr(front.node.streams[0]._camera_info, "width", 0) == width, "the camera_info")  # noqa: B023
        front.ask(width)
        if told:
            wait_for(complains, "a warning")
        assert complains() == told


def test_markers_end_with_the_work(rig: Callable[..., Rig]) -> None:
    """Also those that have no lifetime."""
    front = rig(tracking=True, marker_lifetime=0.0)
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")

    def ended(action: Callable[[], object], stamp: int) -> set[tuple[int, int]]:
        front.ask(stamp)
        wait_for(lambda: arrays and arrays[-1].markers[0].action == 0, "people")
        before = len(arrays)
        action()
        gone = wait_for(lambda: arrays[before:], "the end of who was shown")[0].markers
        return {(marker.id, marker.action) for marker in gone}

    def enable(value: bool) -> None:
        assert front.peer.call(SetBool, f"{front.name}/enable", SetBool.Request(data=value)).success

    assert ended(lambda: enable(False), 1) == {(1, 2), (2, 2)}
    enable(True)
    assert ended(front.node.trigger_deactivate, 2) == {(3, 2), (4, 2)}, "nobody knows who they are after a pause"


def test_a_node_that_is_switched_off_says_nothing_more_and_sees_nobody(rig: Callable[..., Rig]) -> None:
    front = rig()
    front.ask(1)
    assert front.node.streams[0].statistics.people == 2
    front.model.delay = 0.5
    front.node.streams[0]._on_image(image(2))
    wait_for(lambda: len(front.model.windows) == 2, "the image in work")
    assert front.peer.call(SetBool, f"{front.name}/enable", SetBool.Request(data=False)).success
    time.sleep(1.0)
    assert (front.node.streams[0].statistics.published, front.node.streams[0].statistics.people) == (1, 0)
    assert front.node.streams[0].statistics.memory == 0


def test_who_could_not_start_publishes_nothing_and_is_well_after_a_cleanup(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = rig()

    def fail() -> None:
        raise RuntimeError("no such policy")

    assert front.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    monkeypatch.setattr(front.node, "_activate", fail)
    assert front.node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert front.node.streams[0].reporter.error == "no such policy"
    assert front.node.streams[0]._outputs and not any(
        topic.is_activated for topic in front.node.streams[0]._outputs.values()
    )
    assert front.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert front.node.streams[0].reporter.error == "" and front.model.closed


def test_images_of_another_size_show_others(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True)
    assert front.tracks(1) == front.tracks(2) == {1, 2}
    large = dict(height=128, width=192, step=192 * 3, data=bytes(128 * 192 * 3))
    assert {person.track_id for person in front.ask(3, **large).persons} == {3, 4}
    assert front.tracks(4) == {5, 6}, "and so do those of the first size again"


def test_images_without_a_stamp_have_that_of_their_arrival(rig: Callable[..., Rig]) -> None:
    """Some drivers leave it empty; the result bears it as it is."""
    front = rig(tracking=True)
    assert [front.tracks(0), front.tracks(0)] == [{1, 2}] * 2
    seen = [window[-1].stamp for window in front.model.windows]
    assert seen == sorted(seen) and 0 < seen[1] - seen[0] < 60 * SECOND
    assert 0 < front.node.streams[0].statistics.age < 60


def test_a_pause_of_images_without_a_stamp_is_one(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True, max_gap=0.5)
    assert front.tracks(0) == {1, 2}
    time.sleep(1.0)
    assert front.tracks(0) == {3, 4}


def test_markers_are_made_as_the_parameters_say(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True, keypoint_threshold=0.5, marker_distance=5.0, marker_scale=0.1, marker_lifetime=2.0)
    front.model.persons.keypoints[0, 3, 2] = 0.4
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")
    front.ask(1)
    joints = wait_for(lambda: arrays, "markers")[0].markers[0]
    assert len(joints.points) == 16 and {point.z for point in joints.points} == {5.0}
    assert joints.scale.x == pytest.approx(0.1) and joints.lifetime.sec == 2


def test_the_time_in_the_model_and_the_memory_of_the_history_are_counted(rig: Callable[..., Rig]) -> None:
    front = rig()
    front.model.delay = 0.1
    front.ask(1)
    front.ask(2)
    counted = front.node.streams[0].statistics
    assert 0.2 <= counted.inference < 30
    assert counted.memory == 64 * 96 * 3, "one picture"


def test_an_image_that_waited_too_long_is_too_old_whatever_its_stamp(rig: Callable[..., Rig]) -> None:
    front = rig(max_age=1.0)
    front.model.delay = 2.0
    ahead = time.time_ns() + 60 * SECOND
    front.images.publish(image(ahead))
    wait_for(lambda: front.model.windows, "the model")
    front.send(image(ahead + 1))
    counted = front.node.streams[0].statistics
    assert (counted.too_old, counted.dropped, counted.published) == (1, 1, 1)
    assert "max_age is 1 s" in counted.problem


def test_what_fails_after_the_end_of_ros_is_not_counted(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:

    front = rig()
    worker = front.node.streams[0]._worker
    assert worker is not None
    monkeypatch.setattr(worker, "_alive", lambda: False)
    monkeypatch.setattr(front.model, "estimate", lambda frames, index: 1 / 0)
    worker.work(Taken(Frame(1, image(1)), 0, 0))
    counted = front.node.streams[0].statistics
    assert counted.failed == 0 and counted.problem == ""


def test_another_clock_is_suspected_only_where_stamps_are_minutes_old(rig: Callable[..., Rig]) -> None:
    front = rig(max_age=1.0)
    front.send(image(time.time_ns() - 20 * SECOND))
    problem = front.node.streams[0].statistics.problem
    assert "max_age is 1 s" in problem and "use_sim_time" not in problem


def test_services_of_a_node_that_is_not_active_change_no_state(rig: Callable[..., Rig]) -> None:
    front = rig()

    def enable(value: bool) -> None:
        assert front.peer.call(SetBool, f"{front.name}/enable", SetBool.Request(data=value)).success

    assert front.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    answer = front.peer.call(Trigger, f"{front.name}/reset", Trigger.Request())
    assert not answer.success and answer.message == "the node is not active"
    enable(False)
    assert front.node.streams[0].reporter.state == "inactive"
    assert front.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert front.node.streams[0].reporter.state == "disabled"
