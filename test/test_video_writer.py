"""The video writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from videos import make_video, number, picture

from pave_ros.video import (
    VideoError,
    open_source,
)
from pave_ros.video_writer import VideoWriter


def test_writer_pads_odd_sizes(tmp_path: Path) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", width=97, height=63))
    assert (source.width, source.height) == (98, 64)
    assert [number(f.image) for f in source] == list(range(12))


def test_writer_keeps_channel_order(tmp_path: Path) -> None:
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 200
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(red)
        writer.write(red[..., ::-1].copy(), bgr=True)
    for frame in open_source(tmp_path / "a.mp4"):
        assert frame.image[..., 2].mean() > 150 > 50 > frame.image[..., 0].mean()


def test_an_interrupt_between_writing_a_frame_and_counting_it_costs_nothing(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for _ in range(3):
            writer.write(np.zeros((64, 96, 3), np.uint8))
        writer.count -= 1  # as Ctrl-C there leaves it
    assert (tmp_path / "a.mp4").is_file()
    with pytest.raises(VideoError, match="only 3 of 4 frames"), VideoWriter(tmp_path / "b.mp4", 25) as writer:
        for _ in range(3):
            writer.write(np.zeros((64, 96, 3), np.uint8))
        writer.count += 1
    assert not (tmp_path / "b.mp4").exists()


def test_writer_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, 25) as writer:
        writer.write(picture(0))
        assert not path.exists()
        raise RuntimeError("stop")
    assert list(path.parent.iterdir()) == []


def test_writer_begins_anew_after_it_was_closed(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    for length in (3, 1):
        for _ in range(length):
            writer.write(np.zeros((32, 32, 3), np.uint8))
        writer.close()
        with open_source(tmp_path / "a.mp4") as source:
            assert source.length == length


def test_writer_refuses(tmp_path: Path) -> None:
    for wrong in (np.zeros((64, 96), np.uint8), np.zeros((64, 96, 4), np.uint8), np.zeros((64, 96, 3), np.float32)):
        with (
            VideoWriter(tmp_path / "a.mp4", 25) as writer,
            pytest.raises(ValueError, match="an image has to be a uint8"),
        ):
            writer.write(wrong, bgr=True)
    with pytest.raises(ValueError, match="written as .mp4"):
        VideoWriter(tmp_path / "a.gif", 25)
    with pytest.raises(ValueError, match="rate"):
        VideoWriter(tmp_path / "a.mp4", 0)
    with pytest.raises(VideoError, match="97x64 in a video of 96x64"), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(picture(0))
        writer.write(picture(0, width=97))
    (tmp_path / "file").touch()
    with pytest.raises(VideoError, match="cannot be written"), VideoWriter(tmp_path / "file" / "a.mp4", 25) as writer:
        writer.write(picture(0))
