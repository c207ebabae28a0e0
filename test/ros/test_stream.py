"""What the node makes of a stream of images, good and bad: with a stand-in for the model, over real DDS."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peer import image, wait_for
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSReliabilityPolicy
from rig import SECOND, Rig
from rig import rig as rig
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from test_images import BAD, BAD_COMPRESSED, JPEG

from pave_ros.frames import Frame, Taken
from pave_ros.ros import messages


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


@pytest.mark.parametrize(
    ("stamp", "told"),
    [(1, "stepped back by 4 s"), (6.5, "1.5 s between two images, over max_gap (1): starting afresh")],
)
def test_why_the_history_starts_afresh_is_told(rig: Callable[..., Rig], stamp: float, told: str) -> None:
    front = rig(max_gap=1.0)
    log = front.peer.log(front.node.get_fully_qualified_name())
    front.ask(5 * SECOND)
    front.ask(int(stamp * SECOND))
    wait_for(lambda: [line for line in log() if told in line], told)


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


def test_max_rate_counts_from_one_beginning_to_the_next(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes as long as that is not waited for."""
    now = [0.0]  # seconds; none pass but in the model
    monkeypatch.setattr("pave_ros.ros.worker.monotonic", lambda: now[0])
    front = rig(max_rate=0.1)
    estimate = front.model.estimate

    def slow(*arguments: Any) -> Any:
        now[0] += 10.0
        return estimate(*arguments)

    monkeypatch.setattr(front.model, "estimate", slow)
    front.ask(1)
    front.ask(2)
    assert len(front.model.windows) == 2
