"""The whole node as a process, its camera as another, over real DDS."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CAMERA, MODEL, Start
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from peer import Peer, Process, StandIn, wait_for
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from pave_ros.msg import Poses, Skeleton
from pave_ros.ros.messages import nanoseconds
from pave_ros.ros.node import PoseNode
from pave_ros.skeletons import get

NODE = "/robot1/pose_node"
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def stamps(inbox: list[Poses]) -> list[int]:
    return [nanoseconds(message.header.stamp) for message in inbox]


def test_results_come_at_the_rate_of_the_camera_with_its_stamps(robot: Process, peer: Peer) -> None:
    poses = peer.subscribe(Poses, "/robot1/poses")
    truth = peer.subscribe(Poses, "/robot1/ground_truth")
    wait_for(lambda: poses and truth, "the first result")
    first = len(poses)
    begin = stamps(truth)[-1]
    wait_for(lambda: len(poses) >= first + 20, "20 more results")
    taken, results = stamps(truth), stamps(poses)
    # A result may overtake the ground truth of its picture.
    assert set(results[first:-2]) <= set(taken), "every result bears the stamp of a picture"
    assert results == sorted(set(results)), "one result for a picture, in their order"
    assert len(results) - first >= sum(stamp > begin for stamp in taken) / 2
    newest = poses[-1]
    assert newest.header.frame_id == "camera_optical_frame" == newest.camera
    assert (newest.width, newest.height, newest.skeleton, newest.context) == (320, 240, "coco17", 0)
    assert 0 < newest.latency < 10


def test_people_are_complete(robot: Process, peer: Peer) -> None:
    poses = peer.subscribe(Poses, "/robot1/poses")
    wait_for(lambda: poses and poses[-1].persons, "a result with people")
    people = poses[-1].persons
    assert all(len(person.keypoints) == 17 and not person.keypoints_3d for person in people)
    assert all(0 <= point.score <= 1 and math.isfinite(point.x) for person in people for point in person.keypoints)
    assert len({person.track_id for person in people}) == len(people)
    scores = [person.score for person in people]
    assert scores == sorted(scores, reverse=True)


def test_late_subscribers_get_the_skeleton(robot: Process, peer: Peer) -> None:
    poses = peer.subscribe(Poses, "/robot1/poses")
    wait_for(lambda: poses, "a result, long after the skeleton was published")
    latched = peer.subscribe(Skeleton, "/robot1/skeleton", LATCHED)
    skeleton = wait_for(lambda: latched, "the skeleton")[0]
    known = get("coco17")
    assert (skeleton.name, tuple(skeleton.keypoints)) == (known.name, known.keypoints)
    assert tuple(zip(skeleton.edges[::2], skeleton.edges[1::2], strict=True)) == known.edges
    assert tuple(skeleton.mirror) == known.mirror
    assert list(skeleton.sigmas) == pytest.approx(known.sigmas)


def test_every_topic_and_service_is_in_the_namespace(robot: Process, peer: Peer) -> None:
    poses = peer.subscribe(Poses, "/robot1/poses")
    wait_for(lambda: poses, "a result")
    of = ("pose_node", "/robot1")
    wait_for(lambda: of in peer.node.get_node_names_and_namespaces(), "the node's name")

    def names(what: str) -> set[str]:
        return {name for name, _ in getattr(peer.node, f"get_{what}_names_and_types_by_node")(*of)}

    published, subscribed, services = names("publisher"), names("subscriber"), names("service")
    assert {f"/robot1/{topic}" for topic in ("poses", "skeleton", "markers", "image_annotated")} <= published
    assert {"/robot1/image", "/robot1/camera_info"} <= subscribed
    assert {f"{NODE}/enable", f"{NODE}/reset", f"{NODE}/change_state", f"{NODE}/set_parameters"} <= services
    everybodys = {"/diagnostics", "/rosout", "/parameter_events"}
    assert all(name.startswith("/robot1/") for name in (published | subscribed | services) - everybodys)


def test_markers_and_annotated_pictures(robot: Process, peer: Peer) -> None:
    drawn = peer.subscribe(Image, "/robot1/image_annotated")
    markers = peer.subscribe(MarkerArray, "/robot1/markers")
    wait_for(lambda: drawn and markers, "markers and a picture")
    assert (drawn[-1].width, drawn[-1].height, len(drawn[-1].data)) == (320, 240, 3 * 320 * 240)
    assert {marker.ns for marker in markers[-1].markers} == {"joints", "limbs", "label"}


def test_a_slow_model_drops_pictures_and_counts_them(start: Start, peer: Peer) -> None:
    camera = start("pave_ros.ros.camera", CAMERA, "--rate", "10", "--ros-args", "-r", "__ns:=/slow")
    start("pave_ros.ros.node", "--ros-args", "-r", "__ns:=/slow", *MODEL, "-p", "input_size:=[768, 768]")
    poses = peer.subscribe(Poses, "/slow/poses")
    diagnostics = peer.diagnostics("/slow/pose_node")
    wait_for(lambda: len(poses) > 3, "some results")
    assert sum(message.dropped for message in poses) > 0
    # Between two results lie as many periods of the camera as pictures were dropped, and one.
    gaps = [(b - a) / 1e8 for a, b in zip(stamps(poses), stamps(poses)[1:], strict=False)]
    counted = [message.dropped + 1 for message in poses[1:]]
    assert sum(counted) == pytest.approx(sum(gaps), rel=0.5)

    # While pictures come, some of them are in work or wait; at the end each of them was answered or dropped.
    camera.end()

    def all_accounted_for() -> bool:
        values = diagnostics.values
        received, results, dropped = (int(values[name]) for name in ("images received", "results", "dropped"))
        return dropped > 0 and received == results + dropped

    wait_for(all_accounted_for, "every picture to be answered or dropped")


def test_lifecycle(camera: Process, start: Start, peer: Peer) -> None:
    process = start(
        "pave_ros.ros.node", "--ros-args", "-r", "__ns:=/cycle", "-r", "image:=/robot1/image", *MODEL,
        "-p", "autostart:=false",
    )  # fmt: skip
    node = "/cycle/pose_node"
    poses = peer.subscribe(Poses, "/cycle/poses")
    skeletons = peer.subscribe(Skeleton, "/cycle/skeleton", LATCHED)
    diagnostics = peer.diagnostics(node)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return peer.call(ChangeState, f"{node}/change_state", request).success

    def state() -> str:
        return peer.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    assert state() == "unconfigured"
    assert not change(Transition.TRANSITION_ACTIVATE), "the model is not loaded"
    for _ in range(2):  # once more after the cleanup
        skeletons.clear()
        assert change(Transition.TRANSITION_CONFIGURE) and state() == "inactive"
        diagnostics.wait_for(state="inactive", model="detrpose_n")
        assert change(Transition.TRANSITION_ACTIVATE) and state() == "active"
        poses.clear()
        wait_for(lambda: poses and skeletons, "results of the active node")
        assert change(Transition.TRANSITION_DEACTIVATE) and state() == "inactive"
        diagnostics.wait_for(state="inactive")
        poses.clear()
        assert change(Transition.TRANSITION_CLEANUP) and state() == "unconfigured"
        assert "model" not in diagnostics.wait_for(state="unconfigured")
        assert not poses, "an inactive node publishes nothing"
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) and state() == "finalized"
    assert process.running
    assert "Traceback" not in process.output


def test_impossible_transitions_do_no_harm_before_kilted_either(
    peer: Peer, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_in_jazzy(node: Any, transition: int) -> None:
        node._state_machine.trigger_transition_by_id(transition, True)

    monkeypatch.setattr(LifecycleNodeMixin, "_LifecycleNodeMixin__change_state", as_in_jazzy)
    name = make_node(autostart=False)[0].get_fully_qualified_name()
    for _ in range(2):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
        assert not peer.call(ChangeState, f"{name}/change_state", request).success
    state = peer.call(GetState, f"{name}/get_state", GetState.Request()).current_state
    assert state.label == "unconfigured"


def test_ros_ends_after_a_node_that_was_refused() -> None:
    """In a context of its own, as that of the other tests goes on."""
    context = Context()
    context.init()
    with pytest.raises(ParameterException, match="max_persons"):
        PoseNode(context=context, parameter_overrides=[Parameter("max_persons", value=0)])
    with pytest.raises(ValueError, match="declares its parameters itself"):
        PoseNode(context=context, automatically_declare_parameters_from_overrides=True)
    context.shutdown()
    assert not context.ok()


def test_options_of_top_down_models_that_do_nothing_are_told(peer: Peer, make_node: Callable[..., Any]) -> None:
    node = make_node(detector="given", flip_test=True, box_threshold=0.2)[0]
    log = peer.log(node.get_fully_qualified_name())
    told = "with stand_in these do nothing: detector, flip_test"
    wait_for(lambda: told in log(), "a warning")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("weights:=/nowhere/model.pth",), "/nowhere/model.pth"),
        (("model:=openpose",), "unknown model 'openpose'"),
        (("reliability:=maybe",), "reliability must be one of"),
        (("max_rate:=fast",), "max_rate"),
    ],
)
def test_what_cannot_work_ends_with_one_clear_line(
    start: Start, arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    options = [word for argument in arguments for word in ("-p", argument)]
    process = start("pave_ros.ros.node", "--ros-args", *options)
    assert process.wait() == 1
    lines = [line for line in process.output.splitlines() if not line.startswith("[INFO]")]
    assert len(lines) == 1 and reason in lines[0], process.output


def test_the_parameters_reach_the_model(
    peer: Peer, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "model": "petr_r50", "weights": "random", "device": "cpu", "engine": "pytorch", "precision": "bf16",
        "score_threshold": 0.25, "max_persons": 7, "smoothing": "never",
    }  # fmt: skip
    for size, expected in (([64, 96], (64, 96)), ([0, 0], None)):
        node, stand_in = make_node(autostart=False, input_size=size, flip_test=True, box_threshold=0.4, **given)
        seen: dict[str, Any] = {}
        monkeypatch.setattr(
            "pave_ros.estimator.Estimator",
            lambda **options: seen.update(options) or stand_in,  # noqa: B023
        )
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        top_down = seen.pop("top_down")
        assert seen == {**given, "input_size": expected, "build_apart": True}
        assert (top_down.flip_test, top_down.box_threshold) == (True, 0.4)


def test_lookahead_beyond_what_a_model_looks_at_is_refused(peer: Peer, make_node: Callable[..., Any]) -> None:

    node = make_node(autostart=False, lookahead=1)[0]
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.streams[0].reporter.error.startswith("lookahead 1: stand_in looks at 0 images on either side")


def test_a_model_on_a_gpu_is_not_called_slow_and_its_size_is_height_by_width(
    peer: Peer, make_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:

    told = "no CUDA device was found: the model runs on the CPU, which is slow"
    monkeypatch.setattr(StandIn, "input_size", (32, 64))
    for device, slow in (("cpu", True), ("cuda:0", False)):
        monkeypatch.setattr(StandIn, "device", device)
        node = make_node()[0]
        log = peer.log(node.get_fully_qualified_name())
        wait_for(lambda: any("waiting for images" in line for line in log()), "the whole beginning")  # noqa: B023
        assert (told in log()) == slow
        assert node.streams[0].reporter.facts["input size"] == "32x64"
