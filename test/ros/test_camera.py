"""The camera node plays every source with the right stamps, intrinsics and ground truth."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import recordings
from conftest import CAMERA, Start
from peer import Peer, Process, assert_stops_after, wait_for
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pave_ros.frames import Frame
from pave_ros.msg import Poses
from pave_ros.ros import images, messages
from pave_ros.ros.camera import CameraNode, run_camera
from pave_ros.synthetic import Scene
from pave_ros.video import Source, open_source

DEEP = QoSProfile(depth=50)


def stamp(message: Image | CameraInfo | Poses) -> float:
    return messages.nanoseconds(message.header.stamp) / 1e9


def test_synthetic(camera: Process, peer: Peer) -> None:
    pictures = peer.subscribe(Image, "/robot1/image", DEEP)
    infos = peer.subscribe(CameraInfo, "/robot1/camera_info", DEEP)
    truths = peer.subscribe(Poses, "/robot1/ground_truth", DEEP)
    wait_for(lambda: min(len(pictures), len(infos), len(truths)) > 10, "pictures, intrinsics and ground truth")
    by_stamp = {stamp(message): message for message in truths}
    common = [(p, i, by_stamp[stamp(p)]) for p in pictures for i in infos if stamp(p) == stamp(i) in by_stamp]
    assert len(common) > 5, "the three bear the same stamp"
    picture, info, truth = common[0]
    assert picture.header.frame_id == info.header.frame_id == truth.header.frame_id == "camera_optical_frame"
    assert (picture.width, picture.height) == (info.width, info.height) == (truth.width, truth.height) == (320, 240)
    focal = Scene(width=320, height=240, persons=2).camera.focal
    assert info.k.tolist() == [focal, 0.0, 159.5, 0.0, focal, 119.5, 0.0, 0.0, 1.0]
    assert abs(stamp(pictures[-1]) - time.time()) < 30


def test_the_ground_truth_is_that_of_the_picture(start: Start, peer: Peer) -> None:
    pictures = peer.subscribe(Image, "/truth/image", DEEP)
    truths = peer.subscribe(Poses, "/truth/ground_truth", DEEP)
    start("pave_ros.ros.camera", "synthetic:width=80,height=64,seed=3", "--ros-args", "-r", "__ns:=/truth")
    stamps = wait_for(lambda: {stamp(p) for p in pictures} & {stamp(t) for t in truths}, "a picture and its truth")
    (picture,) = (p for p in pictures if stamp(p) == min(stamps))
    (truth,) = (t for t in truths if stamp(t) == min(stamps))
    pixels, is_bgr = images.read(picture)
    # The scene is repeatable; which of its first pictures this is, the picture itself tells.
    scene = Scene(width=80, height=64, seed=3)
    frames = (scene.frame(i) for i in range(300))
    people = next(f.persons for f in frames if (f.image[..., :: -1 if is_bgr else 1] == pixels).all())
    told = messages.persons(truth)
    assert told.track_ids.tolist() == people.track_ids.tolist()
    assert not len(people) or np.allclose(told.keypoints, people.keypoints, atol=1e-3, equal_nan=True)


def test_the_rate_is_kept(camera: Process, peer: Peer) -> None:
    truths = peer.subscribe(Poses, "/robot1/ground_truth", DEEP)
    wait_for(lambda: len(truths) > 20, "pictures")
    stamps = [stamp(message) for message in truths]
    assert np.median(np.diff(stamps)) == pytest.approx(0.1, rel=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures whose grey tells their number."""
    made = tmp_path / "pictures"
    made.mkdir()
    for i in range(5):
        cv2.imwrite(str(made / f"{i}.png"), np.full((48, 64, 3), 50 * i, np.uint8))
    return made


def test_a_folder_once(folder: Path, start: Start, peer: Peer) -> None:
    pictures = peer.subscribe(Image, "/folder/image", DEEP)
    process = start(
        "pave_ros.ros.camera", str(folder), "--rate", "1", "--once", "--frame-id", "desk",
        "--ros-args", "-r", "__ns:=/folder",
    )  # fmt: skip
    assert process.wait() == 0, process.output
    assert "the source is at its end" in process.output
    wait_for(lambda: pictures and pictures[-1].data[0] == 200, "the last picture")
    # The first ones wait for a subscriber; one who learns of the camera seconds after it of him still misses some.
    greys = [message.data[0] for message in pictures]
    assert greys == [0, 50, 100, 150, 200][-len(greys) :] and len(greys) >= 3
    assert "nobody has subscribed" not in process.output
    assert {message.header.frame_id for message in pictures} == {"desk"}


def test_a_file_that_begins_as_the_synthetic_scene_is_a_file(folder: Path, start: Start, peer: Peer) -> None:
    pictures = peer.subscribe(Image, "/odd/image", DEEP)
    named = folder.rename(folder.with_name("synthetic_folder"))
    process = start("pave_ros.ros.camera", str(named), "--once", "--ros-args", "-r", "__ns:=/odd")
    assert process.wait() == 0, process.output
    wait_for(lambda: pictures and pictures[-1].data[0] == 200, "the last picture")


def test_nobody_listens(folder: Path, start: Start) -> None:
    process = start("pave_ros.ros.camera", str(folder / "0.png"), "--once", "--ros-args", "-r", "__ns:=/alone")
    assert process.wait() == 0, process.output
    assert "nobody has subscribed" in process.output and "the source is at its end" in process.output


def test_a_folder_in_a_loop_as_jpeg_by_parameters(folder: Path, start: Start, peer: Peer) -> None:
    pictures = peer.subscribe(CompressedImage, "/loop/image/compressed", DEEP)
    start(
        "pave_ros.ros.camera", "--ros-args", "-r", "__ns:=/loop", "-p", f"source:={folder}", "-p", "rate:=20",
        "-p", "image_transport:=compressed", "-p", "jpeg_quality:=80",
    )  # fmt: skip
    wait_for(lambda: len(pictures) > 8, "pictures beyond the end of the folder")
    stamps = [stamp(message) for message in pictures]
    assert stamps == sorted(set(stamps)), "stamps go on rising when the source starts over"
    assert pictures[0].format == "bgr8; jpeg compressed bgr8"
    assert images.read(pictures[0])[0].shape == (48, 64, 3)


def test_raw_and_compressed_at_once(folder: Path, start: Start, peer: Peer) -> None:
    raw = peer.subscribe(Image, "/both/image", DEEP)
    compressed = peer.subscribe(CompressedImage, "/both/image/compressed", DEEP)
    start(
        "pave_ros.ros.camera", str(folder), "--rate", "20", "--ros-args", "-r", "__ns:=/both",
        "-p", "image_transport:=both",
    )  # fmt: skip
    stamps = wait_for(lambda: {stamp(m) for m in raw} & {stamp(m) for m in compressed}, "the same picture in both ways")
    one, other = (next(m for m in those if stamp(m) == min(stamps)) for those in (raw, compressed))
    assert np.abs(images.read(one)[0].astype(int) - images.read(other)[0]).max() <= 3


@pytest.mark.parametrize("version", [1, 2])
def test_a_recording_brings_its_calibration(tmp_path: Path, start: Start, peer: Peer, version: int) -> None:
    store, write = (recordings.ROS1, recordings.record1) if version == 1 else (recordings.ROS2, recordings.record)
    topics = {"/image": recordings.images(store), "/camera_info": [recordings.calibration(store, 30.0)]}
    path = write(tmp_path / ("walk.bag" if version == 1 else "walk"), topics)
    infos = peer.subscribe(CameraInfo, f"/recorded{version}/camera_info", DEEP)
    pictures = peer.subscribe(Image, f"/recorded{version}/image", DEEP)
    start("pave_ros.ros.camera", str(path), "--frame-id", "desk", "--ros-args", "-r", f"__ns:=/recorded{version}")
    both = wait_for(lambda: {stamp(p) for p in pictures} & {stamp(i) for i in infos}, "a picture and its camera_info")
    info = next(info for info in infos if stamp(info) in both)
    assert (info.width, info.height, info.header.frame_id, info.distortion_model) == (64, 24, "desk", "plumb_bob")
    assert info.k.tolist() == [30.0, 0.0, 16.0, 0.0, 30.0, 12.0, 0.0, 0.0, 1.0]
    assert info.p.tolist() == [30.0, 0.0, 15.0, 0.0, 0.0, 30.0, 11.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert info.d.tolist() == [0.1, -0.2, 0.0, 0.0] and info.r.tolist() == np.eye(3).ravel().tolist()
    assert (info.binning_x, info.binning_y, info.roi.x_offset, info.roi.width, info.roi.do_rectify) == (
        2,
        2,
        32,
        32,
        True,
    )


def test_simulated_time_without_a_clock_is_told(folder: Path, start: Start, peer: Peer) -> None:
    pictures = peer.subscribe(Image, "/timeless/image", DEEP)
    process = start(
        "pave_ros.ros.camera", str(folder), "--rate", "20", "--ros-args", "-r", "__ns:=/timeless",
        "-p", "use_sim_time:=true",
    )  # fmt: skip
    assert stamp(wait_for(lambda: pictures, "a picture")[0]) == 0
    wait_for(lambda: "nobody publishes /clock: the pictures have no stamps" in process.output, "a warning")


def test_a_source_that_breaks_off_is_a_failure(folder: Path, start: Start, peer: Peer) -> None:
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    pictures = peer.subscribe(Image, "/broken/image", DEEP)
    process = start("pave_ros.ros.camera", str(folder), "--rate", "1", "--once", "--ros-args", "-r", "__ns:=/broken")
    assert process.wait() == 1, process.output
    assert "3.png" in process.output.strip().splitlines()[-1] and "at its end" not in process.output
    wait_for(lambda: pictures and pictures[-1].data[0] == 100, "the last good picture")


def test_in_a_program_of_its_own_it_ends_without_ending_that(folder: Path, peer: Peer) -> None:
    ended = threading.Event()
    node = CameraNode({"source": str(folder), "loop": False, "rate": 50.0}, on_end=ended.set)
    pictures = peer.subscribe(Image, "/image", DEEP)
    peer.executor.add_node(node)
    assert node.start() and ended.wait(30)
    wait_for(lambda: len(pictures) == len(list(folder.iterdir())), "all pictures")
    assert node.context.ok()
    peer.executor.remove_node(node)
    node.destroy_node()


def test_a_camera_that_is_destroyed_ends_its_thread(folder: Path, peer: Peer) -> None:
    node = CameraNode({"source": "synthetic:width=96,height=64,persons=1", "rate": 50.0})
    pictures = peer.subscribe(Image, "/image", DEEP)
    assert node.start()
    wait_for(lambda: pictures, "a picture")
    node.destroy_node()
    assert not node._thread.is_alive() and not node.failed


def test_a_name_that_ros_does_not_take_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_camera(source=os.fsdecode(b"f\xe9.mp4")) == 1
    assert "f\\xe9.mp4': ROS takes no name that is not UTF-8; rename it" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("/nowhere.mp4",), "/nowhere.mp4"),
        (
            (CAMERA, "--ros-args", "-p", "image_transport:=theora"),
            "image_transport must be one of raw, compressed, ",
        ),
        ((CAMERA, "--ros-args", "-p", "reliability:=maybe"), "reliability must be one of reliable, best_effort"),
        ((CAMERA, "--ros-args", "-p", "rate:=fast"), "rate"),
        (("synthetic:persons=many",), "persons must be a whole number, not 'many'"),
        (
            (CAMERA, "--ros-args", "-p", "image_transport:=both", "-r", "image:=/front/compressed"),
            "remap it to the name without the ending",
        ),
    ],
)
def test_what_cannot_work_ends_with_one_clear_line(arguments: tuple[str, ...], reason: str, start: Start) -> None:
    process = start("pave_ros.ros.camera", *arguments)
    assert process.wait() == 1
    lines = process.output.strip().splitlines()
    assert len(lines) == 1 and reason in lines[0], process.output


def test_jpegs_have_the_quality_that_was_asked_for_and_a_picture_an_assumed_camera(folder: Path, peer: Peer) -> None:
    cv2.imwrite(str(folder / "0.png"), np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8))
    sizes = []
    for quality in (5, 95):
        given = {"source": str(folder / "0.png"), "image_transport": "compressed", "jpeg_quality": quality}
        pictures = peer.subscribe(CompressedImage, "/image/compressed", DEEP)
        infos = peer.subscribe(CameraInfo, "/camera_info", DEEP)
        node = CameraNode(given)
        assert node.start()
        wait_for(lambda: pictures and infos, "a picture")  # noqa: B023
        node.destroy_node()
        sizes.append(len(pictures[-1].data))
        assert infos[-1].k.tolist() == [64.0, 0.0, 31.5, 0.0, 64.0, 23.5, 0.0, 0.0, 1.0]
    assert sizes[1] > 2 * sizes[0]


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_that_cannot_be_is_refused(
    quality: int, folder: Path, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    node = CameraNode({"source": str(folder), "jpeg_quality": quality})
    assert not node.start()
    node.destroy_node()
    assert f"jpeg_quality must be from 1 to 100, not {quality}" in capfd.readouterr().err


def test_a_camera_that_is_destroyed_lets_go_of_its_source(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    released = threading.Event()

    def frames() -> Generator[Frame, None, None]:
        while True:
            yield Frame(0, image=np.zeros((8, 8, 3), np.uint8), bgr=True)

    source = Source("odd", (8, 8), 1.0, frames, release=released.set)
    monkeypatch.setattr("pave_ros.ros.camera.open_source", lambda *_: source)
    node = CameraNode({"source": "odd"})
    assert node.start() and not released.is_set()
    node.destroy_node()
    assert released.is_set()


def test_a_camera_that_still_opens_its_source_has_not_ended(
    monkeypatch: pytest.MonkeyPatch, folder: Path, peer: Peer
) -> None:
    """A thread in OpenCV would crash the interpreter when that ends."""
    answer = threading.Event()
    monkeypatch.setattr("pave_ros.ros.camera.open_source", lambda *given: answer.wait() and open_source(*given))
    node = CameraNode({"source": str(folder)})
    assert_stops_after(node.start, answer, node)
    node.destroy_node()


@pytest.mark.parametrize("ended", [False, True])
def test_what_the_end_of_ros_breaks_off_is_no_failure(ended: bool, monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    with monkeypatch.context() as patch:

        def frames() -> Generator[Frame, None, None]:
            if ended:
                patch.setattr(CameraNode, "context", SimpleNamespace(ok=lambda: False))
            raise RuntimeError("cannot be published")
            yield Frame(0)

        patch.setattr("pave_ros.ros.camera.open_source", lambda *_: Source("odd", (8, 8), 1.0, frames))
        node = CameraNode({"source": "odd"})
        assert node.start() and node.stop()
    assert node.failed == (not ended)
    node.destroy_node()


def test_a_source_that_paused_is_not_hurried_afterwards(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    now, waits = [100.0], []

    def frames() -> Generator[Frame, None, None]:
        for i in range(5):
            now[0] += 10.0 if i == 2 else 0.0
            yield Frame(i * 10**9, image=np.zeros((8, 8, 3), np.uint8), bgr=True)

    class Waits(threading.Event):
        """Time passes while somebody waits, and only then."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            now[0] += max(timeout or 0.0, 0.0)
            return False

    monkeypatch.setattr("pave_ros.ros.camera.monotonic", lambda: now[0])
    monkeypatch.setattr("pave_ros.ros.camera.open_source", lambda *_: Source("odd", (8, 8), 1.0, frames))
    ended = threading.Event()
    node = CameraNode({"source": "odd"}, on_end=ended.set)
    node._stopping = Waits()
    peer.executor.add_node(node)
    assert node.start() and ended.wait(30)
    peer.executor.remove_node(node)
    node.destroy_node()
    assert waits == [0, 1, 0, 1, 1]


def test_what_nobody_hears_is_not_made(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    """JPEGs and depth take their time."""
    made: list[str] = []
    monkeypatch.setattr("pave_ros.ros.images.compress", lambda *_: made.append("JPEG"))
    monkeypatch.setattr("pave_ros.ros.depth_images.write", lambda *_: made.append("depth"))
    pictures = peer.subscribe(Image, "/image", DEEP)
    node = CameraNode({"source": "synthetic:width=96,height=64,persons=1", "image_transport": "both", "rate": 50.0})
    assert node.start()
    wait_for(lambda: len(pictures) > 1 or made, "pictures")
    node.destroy_node()
    assert not made and not node.failed
