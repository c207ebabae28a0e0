"""Cameras and streams as sources: opened, thinned to a rate, unplugged."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from videos import picture

from pave_ros import video
from pave_ros.video import VideoError, open_source

PlugIn = Callable[..., dict[int, float]]


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """Plugs in a camera that delivers a picture at each of these milliseconds; what is asked of it is returned."""

    def plug_in(*times: int) -> dict[int, float]:
        coming, now, asked = iter(times), [0], {}

        def read() -> tuple[bool, np.ndarray | None]:
            now[0] = next(coming, -1)
            return (True, picture(1)) if now[0] >= 0 else (False, None)

        capture = types.SimpleNamespace(
            isOpened=lambda: True, read=read, get=lambda key: 0.0, set=asked.__setitem__, release=lambda: None
        )
        monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture)
        monkeypatch.setattr(video.time, "monotonic_ns", lambda: now[0] * 10**6)
        return asked

    return plug_in


def seen_at(rate: float) -> list[int]:
    """Milliseconds of the pictures that are seen until the camera is unplugged."""
    stamps = []
    with open_source("3", rate) as source, pytest.raises(VideoError, match="stopped delivering"):
        for frame in source:
            stamps.append(frame.stamp // 10**6)
    return stamps


def test_a_camera_is_asked_for_a_rate_where_one_is_wanted(camera: PlugIn) -> None:
    asked = camera(0, 0)
    with open_source("3") as source:
        assert source.rate == 30 and cv2.CAP_PROP_FPS not in asked
    with open_source("3", rate=15) as source:
        assert source.rate == 15 and asked[cv2.CAP_PROP_FPS] == 15


def test_a_live_picture_may_come_a_quarter_of_its_time_too_soon(camera: PlugIn) -> None:
    camera(0, 0, 74, 76, 174, 176, 200, 274, 340, 399)  # the first is looked at when the source is opened
    assert seen_at(10) == [0, 76, 176, 340, 399], "due at 0, 100, 200, 300 and 400"


def test_live_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        """Delivers four pictures and is then unplugged."""

        left, asked, released = 4, {}, False

        def __init__(self, device: int | str) -> None:
            assert device == 3

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def set(self, key: int, value: float) -> None:
            self.asked[key] = value

        def get(self, key: int) -> float:
            return self.asked.get(key, 0.0)

        def read(self) -> tuple[bool, np.ndarray | None]:
            Camera.left -= 1
            return (True, picture(1)) if Camera.left >= 0 else (False, None)

        def release(self) -> None:
            Camera.released = True

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with open_source("3", rate=15) as source:
        assert (source.name, source.rate, source.length, source.width) == ("/dev/video3", 15, None, 96)
        with pytest.raises(VideoError, match="stopped delivering"):
            list(source)
    assert Camera.released


def test_a_live_source_is_thinned_to_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives 30 pictures a second whatever it was asked for, a little irregularly."""

    class Stream:
        def __init__(self, address: str) -> None:
            self.now = 0
            monkeypatch.setattr(video.time, "monotonic_ns", lambda: self.now)

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def set(self, key: int, value: float) -> None:
            pass

        def get(self, key: int) -> float:
            return -1.0 if key == cv2.CAP_PROP_FRAME_COUNT else 30.0

        def read(self) -> tuple[bool, np.ndarray]:
            self.now += 33_333_333 + (2_000_000 if self.now // 33_333_333 % 2 else -2_000_000)
            return True, picture(1)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Stream)
    for rate, step in ((None, 1 / 30), (30, 1 / 30), (15, 1 / 15), (10, 1 / 10), (5, 1 / 5)):
        with open_source("rtsp://camera/1", rate) as source:
            assert source.rate == (rate or 30)
            stamps = [frame.stamp for frame in itertools.islice(source, 60)]
        assert np.diff(stamps).mean() / 1e9 == pytest.approx(step, rel=0.05), rate


def test_nothing_is_made_up_for_after_a_pause(camera: PlugIn) -> None:
    camera(0, *range(0, 234, 33), *range(1200, 1434, 33))
    assert seen_at(10) == [0, 99, 198, 1200, 1299, 1398]
