"""Recordings of topics as sources of pictures: of ROS 2 in both kinds of files, and of ROS 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recordings import BEGIN, KINDS, ROS1, ROS2, STAMPS, calibration, images, jpeg, raw, record, record1
from rosbags.rosbag2 import StoragePlugin, Writer

from pave_ros.bags import is_bag
from pave_ros.predict import jobs_of
from pave_ros.video import VideoError, open_source


def shown(source: str | Path, **options: Any) -> list[tuple[int, int]]:
    """Stamps in milliseconds and grey levels of what a source shows."""
    with open_source(source, **options) as opened:
        return [(frame.stamp // 10**6, round(float(frame.image.mean()))) for frame in opened]


@pytest.mark.parametrize("plugin", KINDS)
def test_folder_and_file_of_ros2(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = record(tmp_path / "walk", {"/camera/image": images()}, plugin)
    (file,) = (path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    expected = [(stamp, 50 * i) for i, stamp in enumerate(STAMPS)]
    for source in (folder, file, f"{folder}:/camera/image", f"{file}:/camera/image"):
        assert is_bag(str(source)) and shown(source) == expected
    alone = tmp_path / file.name
    file.rename(alone)
    if plugin is StoragePlugin.MCAP:
        assert shown(alone) == expected, "without its folder"
    with open_source(alone) as source:
        assert (source.name, source.width, source.height, source.length) == (alone.name, 32, 24, 4)
        assert source.rate == pytest.approx(10)


def test_file_of_ros1(tmp_path: Path) -> None:
    path = record1(tmp_path / "old.bag", {"/image": images(ROS1)})
    assert shown(path) == [(stamp, 50 * i) for i, stamp in enumerate(STAMPS)]


def test_another_rate_and_without_end(tmp_path: Path) -> None:
    folder = record(tmp_path / "walk", {"/image": images()})
    assert [stamp for stamp, _ in shown(folder, rate=20)] == [0, 50, 100, 150]
    with open_source(folder, loop=True) as source:
        frames = [frame for frame, _ in zip(source, range(6), strict=False)]
    assert [frame.stamp // 10**6 for frame in frames] == [0, 100, 200, 350, 450, 550]


def test_which_topic(tmp_path: Path) -> None:
    pictures = images()
    compressed = [jpeg(ROS2, BEGIN + i * 10**8, 200) for i in range(2)]
    twins = record(tmp_path / "twins", {"/front": pictures, "/front/compressed": compressed})
    assert [level for _, level in shown(twins)] == [0, 50, 100, 150], "the same images"
    assert [level for _, level in shown(f"{twins}:/front/compressed")] == [200, 200]
    two = record(tmp_path / "two", {"/front": pictures, "/back/compressed": compressed})
    with pytest.raises(VideoError, match=r"several topics, /back/compressed, /front; name one: .*two:/back/compressed"):
        open_source(two)
    with pytest.raises(VideoError, match="no images on /side; there are some on /back/compressed, /front"):
        open_source(f"{two}:/side")
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "nowhere.mcap")


def test_images_that_cannot_be_read_cost_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = [raw(ROS2, BEGIN + 50 * 10**6, 9, step=1), raw(ROS2, BEGIN + 60 * 10**6, 9, encoding="theora")]
    folder = record(tmp_path / "walk", {"/image": sorted([*images(), *broken], key=lambda m: m.header.stamp.nanosec)})
    assert [level for _, level in shown(folder)] == [0, 50, 100, 150]
    assert caplog.text.count("2 images of /image cannot be read: unknown encoding 'theora'") == 1
    with pytest.raises(VideoError, match="not one image of /image can be read: unknown encoding"):
        open_source(record(tmp_path / "bad", {"/image": broken}))


def test_images_without_stamps_go_by_when_they_were_recorded(tmp_path: Path) -> None:
    folder = record(tmp_path / "walk", {"/image": [raw(ROS2, 0, 5), raw(ROS2, BEGIN + 8 * 10**9, 6)]})
    assert shown(folder) == [(0, 5), (1000, 6)]


@pytest.mark.parametrize("name", ["a.mcap", "a.db3", "a.bag", "folder/metadata.yaml"])
def test_damaged_recordings_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"nothing of that kind")
    source = path.parent if path.suffix == ".yaml" else path
    with pytest.raises(VideoError, match=f"{source.name}: the recording cannot be read"):
        open_source(source)


def test_results_bear_the_name_of_the_recording(tmp_path: Path) -> None:
    folder = record(tmp_path / "walk", {"/camera/image": images()})
    jobs = jobs_of([str(folder), f"{folder}:/camera/image"])
    assert [(job.name, job.suffix) for job in jobs] == [("walk", ".mp4"), ("walk_2", ".mp4")]


@pytest.mark.parametrize("plugin", KINDS)
def test_a_message_that_cannot_be_read_costs_no_other(
    tmp_path: Path, plugin: StoragePlugin, caplog: pytest.LogCaptureFixture
) -> None:
    messages = images()
    with Writer(tmp_path / "cut", version=9, storage_plugin=plugin) as writer:
        kind = messages[0].__msgtype__
        connection = writer.add_connection("/image", kind, typestore=ROS2)
        for i, message in enumerate(messages):
            data = bytes(ROS2.serialize_cdr(message, kind))
            writer.write(connection, BEGIN + i, data[:30] if i == 1 else data)
    assert shown(tmp_path / "cut") == [(0, 0), (200, 100), (350, 150)]
    assert "1 images of /image cannot be read: a message that cannot be read" in caplog.text


def test_a_clock_that_is_set_anew_stops_no_recording(tmp_path: Path) -> None:
    """One image has a stamp of years ahead; later the clock starts over."""
    stamps = (0, 100, 10**8, 300, 400, -5000, -4900)
    with Writer(tmp_path / "walk", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        messages = [raw(ROS2, BEGIN + stamp * 10**6, 0) for stamp in stamps]
        kind = messages[0].__msgtype__
        connection = writer.add_connection("/image", kind, typestore=ROS2)
        for i, message in enumerate(messages):
            writer.write(connection, BEGIN + i * 100_000_000, ROS2.serialize_cdr(message, kind))
    assert [stamp for stamp, _ in shown(tmp_path / "walk")] == [0, 100, 200, 300, 400, 500, 600]


@pytest.mark.parametrize("topic", ["/front/image_raw", "/front/image_raw/compressed", "/image"])
def test_the_cameras_calibration_comes_with_its_images(tmp_path: Path, topic: str) -> None:
    pictures = [jpeg(ROS2, BEGIN + i * 10**8, 200) for i in range(2)] if "compressed" in topic else images()
    beside = "/camera_info" if topic == "/image" else "/front/camera_info"
    infos = [calibration(ROS2, focal) for focal in (30.0, 40.0)]
    others = {"/front/color/camera_info": [calibration(ROS2, 99.0)], "/depth/camera_info": [calibration(ROS2, 98.0)]}
    with open_source(record(tmp_path / "walk", {topic: pictures, **others, beside: infos})) as source:
        assert source.camera_info.k[0] == 30.0
    with open_source(record(tmp_path / "none", {topic: pictures, **others})) as source:
        assert source.camera_info is None


def test_what_cannot_be_read_is_told_once_however_often_it_is_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = record(tmp_path / "walk", {"/image": [*images(), raw(ROS2, BEGIN + 10**9, 9, step=1)]})
    with open_source(folder, loop=True) as source:
        assert len(list(zip(source, range(13), strict=False))) == 13
    assert caplog.text.count("1 images of /image cannot be read") == 1


def test_a_file_of_ros1_in_the_folder_of_a_recording_is_read_itself(tmp_path: Path) -> None:
    folder = record(tmp_path / "walk", {"/image": images()})
    path = record1(folder / "old.bag", {"/image": [raw(ROS1, BEGIN, 77)]})
    assert shown(path) == [(0, 77)]


def test_a_stamp_that_steps_back_a_little_takes_no_time_back(tmp_path: Path) -> None:
    with Writer(tmp_path / "walk", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        messages = [raw(ROS2, BEGIN + stamp * 10**6, 0) for stamp in (0, 100, 200, 150, 300)]
        kind = messages[0].__msgtype__
        connection = writer.add_connection("/image", kind, typestore=ROS2)
        for i, message in enumerate(messages):
            writer.write(connection, BEGIN + i * 100_000_000, ROS2.serialize_cdr(message, kind))
    assert [stamp for stamp, _ in shown(tmp_path / "walk")] == [0, 100, 200, 200, 300]


def test_the_rate_is_told_by_stamps_that_differ(tmp_path: Path) -> None:
    folder = record(tmp_path / "walk", {"/image": [raw(ROS2, BEGIN + i // 3 * 10**8, 5) for i in range(6)]})
    with open_source(folder) as source:
        assert source.rate == pytest.approx(10)
