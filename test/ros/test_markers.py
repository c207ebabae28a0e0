"""Markers: one set per person, where the camera saw the joints, gone with the person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from peer import StandIn
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from pave_ros.persons import Persons
from pave_ros.ros.markers import NAMESPACES, Markers, color
from pave_ros.ros.pinhole import Camera, Positions
from pave_ros.skeletons import get

SKELETON = get("coco17")
HEADER = Header(frame_id="front")
CAMERA = Camera.assumed((480, 640))


def people(*tracks: int) -> Persons:
    places = [(50.0 * i, 100.0) for i in range(len(tracks))]
    return replace(StandIn().people(*places), track_ids=np.array(tracks, np.int32))


def make(
    markers: Markers,
    persons: Persons,
    camera: Camera | None = CAMERA,
    lifetime: float = 0.5,
    positions: Positions | None = None,
) -> MarkerArray:
    assert camera is not None
    return markers.make(persons, HEADER, camera, positions, distance=3.0, scale=0.06, lifetime=lifetime)


def found(array: MarkerArray, ns: str, identity: int) -> Marker:
    (marker,) = (m for m in array.markers if (m.ns, m.id) == (ns, identity))
    return marker


def test_each_person_has_joints_limbs_and_a_label() -> None:
    persons = people(7, 9)
    array = make(Markers(SKELETON), persons)
    assert [(m.ns, m.id, m.action) for m in array.markers] == [
        (ns, track, Marker.ADD) for track in (7, 9) for ns in NAMESPACES
    ]
    joints, limbs, label = (found(array, ns, 7) for ns in NAMESPACES)
    assert (joints.type, limbs.type, label.type) == (Marker.SPHERE_LIST, Marker.LINE_LIST, Marker.TEXT_VIEW_FACING)
    assert len(joints.points) == 17 and len(limbs.points) == 2 * len(SKELETON.edges)
    assert label.text == "7:0.90"
    for marker in array.markers:
        assert marker.header == HEADER
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (0, 500_000_000)
        assert marker.pose.orientation.w == 1.0
        assert marker.color == color(marker.id) and marker.color.a == 1.0


def test_joints_lie_on_the_rays_of_their_pixels() -> None:
    info = CameraInfo(width=320, height=240, k=[200.0, 0.0, 150.0, 0.0, 210.0, 130.0, 0.0, 0.0, 1.0])
    camera = Camera.of((480, 640), info)  # of a picture twice that size
    persons = people(1)
    joints = found(make(Markers(SKELETON), persons, camera), "joints", 1)
    for point, (x, y, _) in zip(joints.points, persons.keypoints[0], strict=True):
        assert point.z == 3.0
        assert point.x / point.z * 400 + 300 == pytest.approx(x, abs=1e-3)
        assert point.y / point.z * 420 + 260 == pytest.approx(y, abs=1e-3)


def test_a_region_of_the_sensor_and_a_rectified_picture() -> None:
    """camera_info counts in pixels of the whole sensor; P belongs to the rectified picture, as in image_geometry."""
    info = CameraInfo(width=640, height=480, k=[640.0, 0.0, 320.0, 0.0, 630.0, 240.0, 0.0, 0.0, 1.0])
    info.roi = RegionOfInterest(x_offset=160, y_offset=120, width=320, height=240)
    assert Camera.of((240, 320), info) == Camera(640.0, 630.0, 160.0, 120.0)
    assert Camera.of((120, 160), info) == Camera(320.0, 315.0, 80.0, 60.0), "and every other pixel of it"
    info.p = [500.0, 0.0, 330.0, 0.0, 0.0, 490.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert Camera.of((240, 320), info) == Camera(500.0, 490.0, 170.0, 130.0)


def test_everybody_can_be_taken_away() -> None:
    shown = Markers(SKELETON)
    make(shown, people(7, 9))
    gone = shown.none().markers
    assert [(m.ns, m.id, m.action) for m in gone] == [(n, i, Marker.DELETE) for i in (7, 9) for n in NAMESPACES]
    assert all(marker.header == HEADER for marker in gone) and not shown.none().markers


def test_cameras_on_one_topic_have_namespaces_of_their_own() -> None:
    """Or each would take away the people of the other."""
    front, back = Markers(SKELETON, "front"), Markers(SKELETON, "back")
    assert {marker.ns for marker in make(front, people(1)).markers} == {f"front/{name}" for name in NAMESPACES}
    make(back, people(1))
    assert {marker.ns for marker in make(back, people()).markers} == {f"back/{name}" for name in NAMESPACES}


def test_an_uncalibrated_camera_is_as_good_as_none() -> None:
    assert Camera.of((480, 640), CameraInfo()) is Camera.of((480, 640), None) is None
    for wrong in (float("nan"), float("inf")):
        for place in (0, 2, 4, 5):
            info = CameraInfo(k=[640.0, 0.0, 320.0, 0.0, 640.0, 240.0, 0.0, 0.0, 1.0])
            info.k[place] = wrong
            assert Camera.of((480, 640), info) is None
    assert Camera.assumed((480, 640)) == Camera(640.0, 640.0, 320.0, 240.0)


def test_people_stand_where_depth_says() -> None:
    persons = people(1, 2)
    persons.keypoints[0, 1] = np.nan  # not sure enough to be drawn
    positions = CAMERA.project(persons.keypoints[..., :2], 5.0)
    positions[0, 1] = 0.0
    positions[0, 0] = positions[1] = np.nan
    array = make(Markers(SKELETON), persons, positions=positions)
    joints, label = found(array, "joints", 1), found(array, "label", 1)
    assert len(joints.points) == 15 and {point.z for point in joints.points} == {5.0} and label.pose.position.z == 5.0
    assert {point.z for point in found(array, "joints", 2).points} == {3.0}, "who has no depth stands on the plane"
    assert found(array, "label", 2).pose.position.z == 3.0


def test_missing_keypoints_are_left_out() -> None:
    persons = people(1)
    persons.keypoints[0, 0] = np.nan
    array = make(Markers(SKELETON), persons)
    assert len(found(array, "joints", 1).points) == 16
    limbs = sum(0 not in edge for edge in SKELETON.edges)
    assert len(found(array, "limbs", 1).points) == 2 * limbs


def test_a_person_without_keypoints_shows_no_old_ones() -> None:
    persons = people(1)
    persons.keypoints[:] = np.nan
    array = make(Markers(SKELETON), replace(persons, boxes=np.full((1, 4), np.nan, np.float32)))
    assert [m.action for m in array.markers] == [Marker.DELETE, Marker.DELETE, Marker.ADD]
    position = found(array, "label", 1).pose.position
    assert np.isfinite([position.x, position.y, position.z]).all()


def test_who_left_is_deleted_once() -> None:
    markers = Markers(SKELETON)
    make(markers, people(1, 2, 3))
    array = make(markers, people(2))
    assert {(m.ns, m.id) for m in array.markers if m.action == Marker.DELETE} == {
        (ns, track) for ns in NAMESPACES for track in (1, 3)
    }
    assert found(array, "joints", 2).action == Marker.ADD
    assert all(m.action == Marker.ADD for m in make(markers, people(2)).markers)
    assert len(make(markers, people()).markers) == 3 and not make(markers, people()).markers


def test_the_untracked_are_numbered() -> None:
    markers = Markers(SKELETON)
    assert {m.id for m in make(markers, people(-1, -1)).markers} == {0, 1}
    assert {(m.id, m.action) for m in make(markers, people(-1)).markers} == {(0, Marker.ADD), (1, Marker.DELETE)}


def test_a_lifetime_just_below_a_second_is_a_valid_one() -> None:
    marker = make(Markers(SKELETON), people(1), lifetime=1.9999999999).markers[0]
    assert (marker.lifetime.sec, marker.lifetime.nanosec) == (2, 0)


def test_a_lifetime_of_zero_is_for_ever() -> None:
    marker = make(Markers(SKELETON), people(1), lifetime=0.0).markers[0]
    assert (marker.lifetime.sec, marker.lifetime.nanosec) == (0, 0)


def test_the_label_stands_above_the_middle_of_the_person() -> None:
    persons = people(1)
    array = make(Markers(SKELETON), persons)
    x, y, width, _ = persons.boxes[0]
    (expected,) = CAMERA.project(np.array([[x + width / 2, y]]), np.array([3.0]))
    place = found(array, "label", 1).pose.position
    assert (place.x, place.y, place.z) == pytest.approx((expected[0], expected[1] - 2 * 0.06, 3.0))
    assert [found(array, name, 1).scale.x for name in ("joints", "limbs")] == pytest.approx([0.06, 0.03])


def test_a_picture_of_fewer_pixels_may_be_binned_on_one_side_and_rounded() -> None:
    info = CameraInfo(width=640, height=480, k=[640.0, 0.0, 320.0, 0.0, 630.0, 240.0, 0.0, 0.0, 1.0])
    assert Camera.of((80, 107), info) is not None, "a sixth, rounded"
    assert Camera.of((480, 320), info) is None
    info.binning_x = 2
    assert Camera.of((480, 320), info) == Camera(320.0, 630.0, 160.0, 240.0)
    assert Camera.of((240, 320), info) is None


def test_a_camera_info_without_a_size_or_a_region_is_of_this_picture() -> None:
    info = CameraInfo(k=[640.0, 0.0, 320.0, 0.0, 630.0, 240.0, 0.0, 0.0, 1.0])
    for width, height in ((0, 0), (640, 0), (0, 480)):
        info.width, info.height = width, height
        assert Camera.of((480, 640), info) == Camera(640.0, 630.0, 320.0, 240.0)
    info.width, info.height = 1280, 960
    info.roi = RegionOfInterest(width=640)
    assert Camera.of((480, 640), info) == Camera(320.0, 315.0, 160.0, 120.0)
