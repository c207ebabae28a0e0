"""Depth images: which belongs to which image, and where in metres the keypoints are."""

from __future__ import annotations

import struct
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from peer import Peer, StandIn, image, wait_for
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from pave_ros import detection
from pave_ros.msg import Poses
from pave_ros.persons import Persons
from pave_ros.ros import depth, depth_images, messages
from pave_ros.ros.camera import camera_info
from pave_ros.ros.depth import DepthImage, Matching, Slot
from pave_ros.ros.images import ImageError
from pave_ros.ros.node import PoseNode
from pave_ros.ros.pinhole import Camera
from pave_ros.synthetic import Scene

SIZE = (64, 96)
CAMERA = Camera(96.0, 96.0, 47.5, 31.5)
MS = 1_000_000
Make = Callable[..., tuple[PoseNode, StandIn]]


def metres(distance: float = 5.0) -> np.ndarray:
    return np.full(SIZE, distance, np.float32)


def message(picture: np.ndarray, encoding: str = "32FC1", **changes: Any) -> Image:
    """Metres as a message of that encoding, its rows padded by three bytes."""
    samples = picture if encoding == "32FC1" else np.rint(np.nan_to_num(picture) * 1000)
    order = ">" if changes.get("is_bigendian") else "<"
    values = samples.astype(order + ("f4" if encoding == "32FC1" else "u2"))
    rows = np.pad(np.frombuffer(values.tobytes(), np.uint8).reshape(len(values), -1), ((0, 0), (0, 3)))
    made = Image(
        header=Header(frame_id="front"), height=len(values), width=values.shape[1], encoding=encoding,
        step=rows.shape[1], data=array("B", rows.tobytes()),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def compressed(picture: np.ndarray, encoding: str, **changes: Any) -> CompressedImage:
    """As compressed_depth_image_transport makes it; of 32FC1 the inverse, from its nearest to its farthest metres."""
    scale, offset, samples = 0.0, 0.0, np.rint(np.nan_to_num(picture) * 1000)
    if encoding == "32FC1":
        nearest, farthest = 100.0, 10.0
        scale = nearest * (nearest + 1)
        offset = 1 - scale / farthest
        samples = np.nan_to_num(scale / picture + offset)
    png = cv2.imencode(".png", samples.astype(np.uint16))[1].tobytes()
    made = CompressedImage(header=Header(frame_id="front"), format=f"{encoding}; compressedDepth png")
    made.data = array("B", struct.pack("<iff", 1, scale, offset) + png)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def positions(picture: Image | CompressedImage, persons: Persons | None = None) -> np.ndarray:
    people = StandIn().people((20, 10), (60, 15)) if persons is None else persons
    return depth.positions(people, picture, SIZE, CAMERA)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1", "mono16"])
@pytest.mark.parametrize("big", [0, 1])
def test_metres_of_every_encoding(encoding: str, big: int) -> None:
    people = StandIn().people((20, 10), (60, 15))
    places = positions(message(metres(2.5), encoding, is_bigendian=big), people)
    assert places.shape == (2, 17, 3) and places[..., 2] == pytest.approx(2.5)
    pixels = places[..., :2] / places[..., 2:] * 96 + (47.5, 31.5)
    assert pixels == pytest.approx(people.keypoints[..., :2], abs=1e-3)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_metres_of_compressed_images(encoding: str) -> None:
    picture = metres(2.5)
    picture[:, 48:] = np.nan
    found = positions(compressed(picture, encoding))
    assert found[0, :, 2] == pytest.approx(2.5, rel=1e-3) and np.isnan(found[1]).all()


def test_a_depth_image_of_fewer_pixels() -> None:
    picture = np.repeat(np.linspace(2, 3, 48, dtype=np.float32)[None], 32, 0)  # further away from left to right
    people = StandIn().people((20, 10))
    expected = 2 + ((people.keypoints[..., 0] + 0.5) / 2 - 0.5) / 47
    assert positions(message(picture), people)[..., 2] == pytest.approx(expected, abs=0.02)


def test_what_is_behind_or_in_front_of_a_person_does_not_count() -> None:
    people = StandIn().people((20, 10))
    wrist, ankle, nose, knee = (people.keypoints[0, i, :2].round().astype(int) for i in (9, 15, 4, 13))
    picture = metres(3.0)
    picture[wrist[1] - 1 : wrist[1] + 2, wrist[0] - 1 : wrist[0] + 2] = 9.0  # the wall beside the wrist
    picture[ankle[1] - 1 : ankle[1] + 2, ankle[0] - 1 : ankle[0] + 2] = 1.0  # a table before the ankle
    picture[nose[1], nose[0]] = 9.0  # a pixel on the wall, the others on the nose
    picture[knee[1] - 1 : knee[1] + 2, knee[0] - 1 : knee[0] + 2] = 3.4  # the knee is further away than the rest
    found = positions(message(picture), people)[0]
    assert np.isnan(found[9]).all() and np.isnan(found[15]).all()
    assert found[4, 2] == 3.0 and found[13, 2] == pytest.approx(3.4)


@pytest.mark.parametrize("unknown", [0.0, np.nan, np.inf, -np.inf])
def test_unknown_depth_is_nan(unknown: float) -> None:
    picture = metres(3.0)
    picture[:, :48] = unknown
    found = positions(message(picture))
    assert np.isnan(found[0]).all() and found[1, :, 2] == pytest.approx(3.0)


def test_keypoints_that_are_missing_or_out_of_the_picture() -> None:
    people = StandIn().people((20, 10), (85, 40))  # the second one leaves it on two sides
    people.keypoints[0, 3] = np.nan
    found = positions(message(metres()), people)
    assert np.isnan(found[0, 3]).all() and np.isfinite(np.delete(found[0], 3, 0)).all()
    x, y = people.keypoints[1, :, 0], people.keypoints[1, :, 1]
    outside = (x > 97) | (y > 65)  # beyond what is looked at around them
    assert outside.any() and np.isnan(found[1, outside]).all() and np.isfinite(found[1, (x < 95) & (y < 63)]).all()
    assert positions(message(metres()), people[:0]).shape == (0, 17, 3)


def test_who_has_no_sure_keypoint_is_where_all_of_them_say() -> None:
    people = StandIn().people((20, 10))
    people.keypoints[..., 2] = 0.1
    assert (positions(message(metres()), people)[..., 2] == 5).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "rgb8"}, "cannot be 'rgb8'"),
        ({"step": 100}, "step 100 is less"),
        ({"data": array("B", bytes(50))}, "data holds 50 bytes"),
        ({"width": 0}, "is empty"),
        ({"height": 48}, "must be registered to the image"),
    ],
)
def test_a_depth_image_that_cannot_be_used_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        positions(message(metres(), **changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "16UC1; compressedDepth rvl"}, "known: compressedDepth with PNG"),
        ({"format": "bgr8; jpeg compressed bgr8"}, "cannot be 'bgr8'"),
        ({"data": array("B", bytes(8))}, "of 8 bytes"),
        ({"data": array("B", bytes(80))}, "cannot be decoded as a PNG"),
    ],
)
def test_a_compressed_depth_image_that_cannot_be_used_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        positions(compressed(metres(), "16UC1", **changes))


def test_true_positions_of_the_synthetic_scene() -> None:
    """The camera's own depth images against where the joints are, which lie inside of what it sees."""
    errors = []
    for seed in range(4):
        frame = Scene(seed=seed, width=320, height=240, persons=3).frame(120)
        header = Header(frame_id="front")
        camera = Camera.of((240, 320), camera_info(320, 240, frame.focal))
        assert camera is not None
        exact = camera.project(frame.persons.keypoints[..., :2], frame.positions[..., 2])
        assert exact == pytest.approx(frame.positions, abs=2e-3)
        found = depth.positions(frame.persons, depth_images.write(frame.depth, header), (240, 320), camera)
        errors.extend(np.linalg.norm(found - frame.positions, axis=-1)[frame.visibility == 2])
    assert len(errors) > 50 and np.nanmedian(errors) < 0.08 and np.mean(np.array(errors) < 0.3) > 0.95


def add(matching: Matching, *stamps: int) -> None:
    for stamp in stamps:
        matching.add_depth(DepthImage(stamp * MS, Image()))


def matched(slot: Slot) -> int | None:
    return None if slot.image is None else slot.image.stamp // MS


def test_an_image_gets_the_depth_image_that_is_nearest() -> None:
    matching = Matching(0.02)
    add(matching, 0, 30)
    early = matching.add_image(33 * MS)
    assert matched(early) == 30
    add(matching, 34)
    assert matched(early) == 34, "a nearer one"
    add(matching, 60)
    late = matching.add_image(66 * MS)
    assert (matched(early), matched(late)) == (34, 60)
    lost = matching.add_image(150 * MS)
    add(matching, 171)
    assert matched(lost) is None, "further away than slop"


def test_a_step_back_starts_afresh() -> None:
    for first in ("image", "depth"):
        matching = Matching(0.02)
        add(matching, 0, 1000)
        matching.add_image(1000 * MS)
        if first == "image":
            again = matching.add_image(10 * MS)
            add(matching, 10)
        else:
            add(matching, 10)
            again = matching.add_image(10 * MS)
        assert matched(again) == 10


def test_memory_is_bounded() -> None:
    matching = Matching(10.0)
    add(matching, *range(200))
    for i in range(200):
        matching.add_image(i * MS)
    assert len(matching._images) == len(matching._slots) == depth.WAITING
    matching.clear()
    assert not matching._images and not matching._slots


def test_waiting_ends_when_nothing_nearer_can_come() -> None:
    def waited(matching: Matching, asked: Slot, timeout: float) -> float:
        start = time.monotonic()
        matching.wait(asked, timeout)
        return time.monotonic() - start

    matching = Matching(0.05)
    add(matching, 0, 30)
    asked = matching.add_image(35 * MS)
    assert waited(matching, asked, 60.0) < 30, "the next one comes at 60, which is further away"
    asked = matching.add_image(60 * MS)
    assert waited(matching, asked, 0.05) >= 0.05 and matched(asked) == 30
    assert waited(matching, asked, -1.0) < 30
    threading.Timer(0.05, add, (matching, 61)).start()
    assert waited(matching, asked, 60.0) < 30 and matched(asked) == 61
    asked = matching.add_image(200 * MS)
    threading.Timer(0.05, matching.close).start()
    assert waited(matching, asked, 60.0) < 30, "the node ends"


class Rig:
    """A node with depth, and the publishers of its camera."""

    def __init__(self, make_node: Make, peer: Peer, slop: float = 0.02, **parameters: Any) -> None:
        self.node, self.stand_in = make_node(use_depth=True, depth_slop=slop, **parameters)
        name = self.node.get_namespace()
        self.poses = peer.subscribe(Poses, f"{name}/poses")
        wait_for(lambda: self.node.streams[0]._outputs["poses"].get_subscription_count(), "the listener")
        self.images = peer.publisher(Image, f"{name}/image")
        raw = "depth_transport" not in parameters
        self.depths = peer.publisher(
            Image if raw else CompressedImage, f"{name}/{'depth' if raw else 'depth/compressedDepth'}"
        )
        self.infos = peer.publisher(CameraInfo, f"{name}/camera_info")

    def calibrate(self) -> None:
        self.infos.publish(camera_info(96, 64, 96.0))
        wait_for(lambda: self.node.streams[0]._camera_info, "the camera_info")

    def keep_waiting(self) -> float:
        """Publish an image, whose result waits for depth from now on, by `time.monotonic()`."""
        self.calibrate()
        self.images.publish(image(5 * MS))
        wait_for(lambda: self.stand_in.windows, "the model")
        return time.monotonic()

    def result(self, stamp: int, *depths: Any) -> Poses:
        """What comes of an image and these depth images of its time."""
        before = len(self.poses)
        for made in depths:
            made.header.stamp = messages.stamp(stamp * MS)
            self.depths.publish(made)
        self.images.publish(image(stamp * MS))
        wait_for(lambda: len(self.poses) > before, "a result")
        answer: Poses = self.poses[-1]
        return answer


def test_the_node_tells_positions_in_metres(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer)
    rig.calibrate()
    answer = rig.result(1000, message(metres(4.0), "16UC1"))
    expected = CAMERA.project(rig.stand_in.persons.keypoints[..., :2], 4.0)
    found = [[(p.x, p.y, p.z) for p in person.keypoints_3d] for person in answer.persons]
    assert np.array(found) == pytest.approx(expected, abs=1e-5)
    assert rig.node.streams[0].statistics.without_depth == 0


def test_the_node_hears_compressed_depth_images(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer, depth_transport="compressedDepth")
    rig.calibrate()
    answer = rig.result(1000, compressed(metres(4.0), "16UC1"))
    assert {point.z for person in answer.persons for point in person.keypoints_3d} == {4.0}


def test_results_without_depth_come_and_say_why(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer)
    diagnostics = peer.diagnostics(rig.node.get_fully_qualified_name())

    def fails(number: int, reason: str, *depths: Image) -> None:
        answer = rig.result(1000 * number, *depths)
        assert len(answer.persons) == 2 and not any(person.keypoints_3d for person in answer.persons)
        counted = rig.node.streams[0].statistics
        assert reason in counted.problem and counted.without_depth == number

    fails(1, "no calibrated camera_info", message(metres()))
    rig.calibrate()
    fails(2, "no depth image on /node")
    fails(3, "must be registered", message(metres()[:, :64]))
    diagnostics.wait_for(results_without_depth="3")
    rig.stand_in.persons = rig.stand_in.people()
    assert not rig.result(4000).persons and rig.node.streams[0].statistics.without_depth == 3, "nobody is missed"


def test_the_synthetic_camera_tells_depth_and_true_positions(start: Any, peer: Peer) -> None:
    source = "synthetic:width=320,height=240,persons=2,seed=3"
    start("pave_ros.ros.camera", source, "--rate", "10", "--ros-args", "-r", "__ns:=/rgbd")
    truths, infos = (peer.subscribe(*of) for of in ((Poses, "/rgbd/ground_truth"), (CameraInfo, "/rgbd/camera_info")))
    depths = {messages.nanoseconds(m.header.stamp): m for m in ()}
    inbox = peer.subscribe(Image, "/rgbd/depth")

    def both() -> tuple[Poses, Image] | None:
        depths.update({messages.nanoseconds(m.header.stamp): m for m in list(inbox)})
        pairs = [(t, depths.get(messages.nanoseconds(t.header.stamp))) for t in list(truths) if t.persons]
        return next(((t, d) for t, d in pairs if d is not None), None) if infos else None

    truth, picture = wait_for(both, "a depth image and the people of its time")
    persons = messages.persons(truth)
    camera = Camera.of((240, 320), infos[-1])
    assert camera is not None
    found = depth.positions(persons, picture, (240, 320), camera)
    exact = np.array([[(p.x, p.y, p.z) for p in person.keypoints_3d] for person in truth.persons])
    seen = persons.keypoints[..., 2] == 1
    assert np.nanmedian(np.linalg.norm(found - exact, axis=-1)[seen]) < 0.1


def test_nobody_waits_for_depth_while_the_node_stops(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer, slop=10.0)
    started = rig.keep_waiting()
    assert rig.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert time.monotonic() - started < 5


def test_depth_of_another_frame_is_warned_of(make_node: Make, peer: Peer, capfd: pytest.CaptureFixture[str]) -> None:
    rig = Rig(make_node, peer)
    rig.calibrate()
    answer = rig.result(1000, message(metres(), header=Header(frame_id="infrared")))
    assert all(person.keypoints_3d for person in answer.persons), "some drivers only name it badly"
    assert "depth images are in the frame 'infrared', images in 'front'" in capfd.readouterr().err


def test_positions_do_not_depend_on_what_is_drawn(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer, keypoint_threshold=0.95)
    rig.calibrate()
    for person in rig.result(1000, message(metres())).persons:
        assert {point.z for point in person.keypoints_3d} == {5.0}


def test_the_camera_info_of_another_picture_gives_no_positions(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer)
    rig.infos.publish(camera_info(128, 64, 96.0))
    wait_for(lambda: rig.node.streams[0]._camera_info, "the camera_info")
    assert not any(person.keypoints_3d for person in rig.result(1000, message(metres())).persons)
    assert "camera_info of the image's shape" in rig.node.streams[0].statistics.problem


def test_what_is_forgotten_while_it_waits_for_depth_is_not_published(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer, slop=10.0)
    begin = rig.keep_waiting()
    peer.call(Trigger, f"{rig.node.get_fully_qualified_name()}/reset", Trigger.Request())
    counted = rig.node.streams[0].statistics
    wait_for(lambda: counted.dropped, "the end of the wait")
    assert time.monotonic() - begin < 5 and not counted.without_depth and not counted.published


def test_depth_is_kept_for_an_image_that_waits_for_boxes(
    make_node: Make, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the detector takes."""
    monkeypatch.setattr(StandIn, "detector", detection.GIVEN)
    rig = Rig(make_node, peer)
    rig.calibrate()
    boxes = peer.publisher(Poses, f"{rig.node.get_namespace()}/boxes")
    rig.images.publish(image(1000 * MS))
    counted = rig.node.streams[0].statistics
    wait_for(lambda: counted.received, "the image")
    listener = rig.node.streams[0]._depth
    assert listener is not None
    for number in range(depth.WAITING + 10):
        stamp = (1000 + 10 * number) * MS
        rig.depths.publish(message(metres(), header=Header(stamp=messages.stamp(stamp))))
        wait_for(lambda: stamp in [i.stamp for i in [*listener._matching._images]], "the depth")  # noqa: B023
    boxes.publish(Poses(header=image(1000 * MS).header))
    (answer,) = wait_for(lambda: rig.poses, "a result")
    assert all(person.keypoints_3d for person in answer.persons) and not counted.without_depth


def test_depth_that_does_not_come_is_a_warning_though_nobody_is_there(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer)
    rig.stand_in.persons = rig.stand_in.persons[:0]
    diagnostics = peer.diagnostics(rig.node.get_fully_qualified_name())

    def told() -> bool:
        rig.images.publish(image(time.monotonic_ns()))
        time.sleep(0.05)
        return any("but no image came" in report.message for report in diagnostics.reports)

    wait_for(told, "a warning")


def test_pixels_of_a_smaller_depth_image_count_from_their_middle() -> None:
    picture = np.full((32, 48), 2.0, np.float32)
    picture[:, 24:] = 3.0
    keypoints = np.full((1, 17, 3), (47.4, 20.0, 0.9))
    assert (positions(message(picture), Persons.from_keypoints(keypoints, [0.9], "coco17"))[..., 2] == 2).all()


def test_the_median_of_two_is_the_nearer() -> None:
    values = np.array([[2.0, np.nan, 1.0], [np.nan] * 3, [3.0, 1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(depth.median(values), [1.0, np.nan, 2.0])


def test_silence_of_depth_names_the_transport_for_depth(make_node: Make, peer: Peer) -> None:
    rig = Rig(make_node, peer)
    listener = rig.node.streams[0]._depth
    assert listener is not None
    assert listener._subscriber._reason(2.0).endswith("or use depth_transport compressedDepth")


def test_a_depth_image_may_be_off_by_slop_exactly_and_of_two_the_later_counts() -> None:
    matching = Matching(0.02)
    asked = matching.add_image(40 * MS)
    add(matching, 20)
    assert matched(asked) == 20
    add(matching, 60)
    assert matched(asked) == 60


def test_after_a_step_back_nothing_is_known_of_the_time_between_depth_images() -> None:
    matching = Matching(10.0)
    add(matching, 0, 1000)
    matching.clear()
    add(matching, 0)
    asked = matching.add_image(100 * MS)
    start = time.monotonic()
    matching.wait(asked, 0.1)
    assert time.monotonic() - start >= 0.1


def test_nobody_waits_for_the_depth_of_what_is_forgotten() -> None:
    matching = Matching(10.0)
    asked = matching.add_image(100 * MS)
    matching.clear()
    start = time.monotonic()
    assert matching.wait(asked, 60.0) is None and time.monotonic() - start < 30


def test_unsure_keypoints_do_not_say_how_far_away_a_person_is() -> None:
    people, picture = StandIn().people((20, 10)), metres(3.0)
    y = people.keypoints[0, :, 1]
    border = int(np.sort(y)[11])  # most of them are above it
    picture[:border] = 9.0
    people.keypoints[0, y < border + 2, 2] = 0.1
    assert (positions(message(picture), people)[0, y > border + 2, 2] == 3.0).all()


def test_nothing_is_behind_the_camera() -> None:
    picture = metres(3.0)
    picture[:, :48] = -3.0
    found = positions(message(picture))
    assert np.isnan(found[0]).all() and found[1, :, 2] == pytest.approx(3.0)
