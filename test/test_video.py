"""Videos, cameras and the synthetic scene as sources of pictures."""

from __future__ import annotations

import http.server
import itertools
import os
import struct
import sys
import threading
import types
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from videos import make_mjpg, make_video, number, picture

from pave_ros import video
from pave_ros.containers import is_matroska, mp4_seconds
from pave_ros.frames import Frame
from pave_ros.pictures import silent_opencv
from pave_ros.video import (
    Source,
    VideoError,
    _decoded,
    known_rate,
    open_source,
)
from pave_ros.video_writer import VideoWriter


def rotate(path: Path) -> None:
    """Set the display matrix of an MP4 file to a quarter turn clockwise, as a phone held upright does."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def test_video_file(tmp_path: Path) -> None:
    with open_source(make_video(tmp_path / "a.mp4")) as source:
        assert (source.width, source.height, source.length, source.name) == (96, 64, 12, "a.mp4")
        assert source.rate == pytest.approx(25)
        frames = list(source)
    assert [number(f.image) for f in frames] == list(range(12))
    assert all(f.bgr and f.image.shape == (64, 96, 3) and f.image.dtype == np.uint8 for f in frames)
    assert [f.stamp for f in frames] == [i * 40_000_000 for i in range(12)]


@pytest.mark.parametrize("rate", [66.6666, 120.1234, 700.55, 29.97])
def test_videos_may_have_odd_rates(tmp_path: Path, rate: float) -> None:
    with open_source(make_video(tmp_path / "a.mp4", rate=rate)) as source:
        assert source.rate == pytest.approx(rate, rel=1e-3)
        assert len(list(source)) == 12


def test_names_that_opencv_cannot_take_are_told(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    make_video(tmp_path / "a.mp4").rename(odd)
    with pytest.raises(VideoError, match=r"caf\\xe9\.mp4': OpenCV takes no name that is not UTF-8; rename it"):
        open_source(str(odd))
    folder = odd.with_suffix("")
    with pytest.raises(VideoError, match="no name that is not UTF-8"):
        make_video(folder / "b.mp4")


def test_video_played_at_another_rate_keeps_every_frame(tmp_path: Path) -> None:
    frames = list(open_source(make_video(tmp_path / "a.mp4"), rate=10))
    assert [f.stamp for f in frames] == [i * 100_000_000 for i in range(12)]


def test_loop_goes_on_in_time_and_starts_over_in_content(tmp_path: Path) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", frames=3), loop=True)
    frames = list(itertools.islice(source, 8))
    source.close()
    assert [number(f.image) for f in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [f.stamp for f in frames] == [i * 40_000_000 for i in range(8)]


def test_iterating_twice_starts_over(tmp_path: Path) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", frames=3))
    assert [number(f.image) for f in source] == [number(f.image) for f in source] == [0, 1, 2]


def test_rotation_of_a_phone_is_applied(tmp_path: Path) -> None:
    rotate(make_video(tmp_path / "a.mp4"))
    source = open_source(tmp_path / "a.mp4")
    image = next(iter(source)).image
    assert (source.width, source.height) == (64, 96)
    assert image.shape == (96, 64, 3)
    assert image[8, -8].min() > 200 and image[8, 8].max() < 100  # the white corner is top right now


def test_rotation_is_put_right_where_opencv_has_it_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4.6.0 turns a quarter the other way; this one does not, so its pictures come out upside down here."""
    make_video(tmp_path / "straight.mp4")
    rotate(make_video(tmp_path / "turned.mp4"))
    right, straight = (next(iter(open_source(tmp_path / name))).image for name in ("turned.mp4", "straight.mp4"))
    monkeypatch.setattr(cv2, "__version__", "4.6.0")
    assert np.array_equal(next(iter(open_source(tmp_path / "turned.mp4"))).image, right[::-1, ::-1])
    assert np.array_equal(next(iter(open_source(tmp_path / "straight.mp4"))).image, straight)


def test_cut_off_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # loses the index, which stands at the end
    with pytest.raises(VideoError, match="a.mp4: not a video .* cut off"):
        open_source(path)


class Damaged:
    """A file of which some frames cannot be decoded, as OpenCV tells of it."""

    def __init__(self, frames: str) -> None:
        self.frames, self.place = frames, -1

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.place += 1
        readable = self.frames[self.place : self.place + 1] == "x"
        return readable, picture(self.place) if readable else None

    def get(self, _: int) -> float:
        return 40.0 * self.place


def test_damage_costs_the_frames_that_it_hit_and_no_others() -> None:
    for frames, length in (("xx..x.xxxx", 10), ("..xxx", 5), ("xxx", 3), ("xx" + "." * 200 + "x", 203), ("xxxx.", 0)):
        found = [position for position, _ in _decoded(Damaged(frames), length)]  # type: ignore[arg-type]
        assert found == [40.0 * i for i, one in enumerate(frames) if one == "x"]
    capture = Damaged("xx" + "." * 1000 + "x")
    assert len(list(_decoded(capture, 1003))) == 2 and capture.place < 400, "nothing more is expected"  # type: ignore[arg-type]


def test_video_whose_pictures_are_damaged_says_where_it_ends(tmp_path: Path) -> None:
    path = make_mjpg(tmp_path / "a.avi", frames=40, rate=25.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source, seen = open_source(path), 0
    with pytest.raises(VideoError, match=r"a.avi: ends after \d+ of 40 frames"):
        for _ in source:
            seen += 1
    assert 0 < seen < 40


def trim(path: Path, start: int, ticks: int) -> None:
    """Let an MP4 file begin at a frame that lasts so many ticks of its track, as cutting it without encoding does: what
    was before stays in the file, and is not shown."""
    data = bytearray(path.read_bytes())
    edit = data.index(b"elst") + 12
    duration, begin = struct.unpack(">Ii", data[edit : edit + 8])
    shown = duration - round(start * 1000 / 25)
    data[edit : edit + 8] = struct.pack(">Ii", shown, begin + start * ticks)
    header = data.index(b"mvhd") + 4 + 16
    data[header : header + 4] = struct.pack(">I", shown)
    path.write_bytes(data)


def test_a_header_that_is_cut_off_says_nothing(tmp_path: Path) -> None:
    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    path = tmp_path / "a.mp4"
    for header in (b"", bytes(14)):
        path.write_bytes(box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", header)))
        assert mp4_seconds(str(path)) is None


def test_rates_that_cannot_be_are_not_believed() -> None:
    claimed = (25.0, 0.0, 4.7e-10, 1e9, float("nan"))
    assert [known_rate(rate, 30.0) for rate in claimed] == [25.0, 30.0, 30.0, 30.0, 30.0]


def test_trimmed_video_is_whole(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    trim(path, 12, ticks=512)
    source = open_source(path)
    assert source.length == 8
    assert [number(frame.image) for frame in source] == list(range(12, 20))


def test_matroska_that_lasts_longer_than_its_pictures_is_whole(tmp_path: Path) -> None:
    """The sound goes on; OpenCV makes a number of frames of it."""
    path = make_mjpg(tmp_path / "a.mkv", frames=30, rate=30.0)
    data = path.read_bytes()
    duration = data.index(b"\x44\x89\x88") + 3
    path.write_bytes(data[:duration] + struct.pack(">d", 2000.0) + data[duration + 8 :])
    source = open_source(path)
    assert source.length == 60 and len(list(source)) == 30


def test_names_that_look_like_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "video.mp4", frames=3)
    for name in ("T10:30.mp4", "12"):  # an address, a webcam
        Path(name).write_bytes((tmp_path / "video.mp4").read_bytes())
        assert len(list(open_source(name))) == 3
    with VideoWriter("T11:30.mp4", 10) as writer:
        writer.write(picture(1))
    assert Path("T11:30.mp4").exists()
    with pytest.raises(FileNotFoundError, match="²"):
        open_source("²")


@pytest.mark.parametrize("name", ["x.mp4", "x.jpg", "x.png"])
def test_unreadable_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=name):
        open_source(path)
    path.touch()
    with pytest.raises(VideoError, match=f"{name}: the file is empty"):
        open_source(path)
    path.write_text("this is text, whatever its name says\n" * 50)
    with pytest.raises(VideoError, match=f"{name}: not a"):
        open_source(path)


def test_camera_that_is_not_there() -> None:
    with pytest.raises(VideoError, match="/dev/video97: no such camera"):
        open_source("97")
    with pytest.raises(VideoError, match="/dev/video97: no such camera"):
        open_source(97)
    with pytest.raises(VideoError, match="/dev/video98: no such camera"):
        open_source("/dev/video98")


def test_a_source_that_gives_nothing_any_more_ends() -> None:
    passes = iter([[Frame(0), Frame(1)], [], []])
    source = video.Source("fading", (8, 8), 30.0, lambda: (frame for frame in next(passes)), loop=True)
    assert len(list(source)) == 2


def test_a_file_at_an_address_is_a_video(tmp_path: Path) -> None:
    """So it has its own rate, and starts over where it ends."""
    make_video(tmp_path / "v.mp4", 10)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v.mp4"
        with open_source(address, 5, loop=True) as source:
            assert (source.name, source.rate, source.length) == (address, 5, 10)
            stamps = [frame.stamp for frame in itertools.islice(source, 25)]
        server.shutdown()
    np.testing.assert_allclose(np.diff(stamps), 2e8, atol=1)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_bad_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        open_source("synthetic", rate=rate)


def test_synthetic_options_reach_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scene:
        def __init__(self, seed: int = 0, width: int = 640, height: int = 480, persons: int = 4, rate: float = 30.0):
            self.seed, self.width, self.height, self.persons, self.rate = seed, width, height, persons, rate

        def frame(self, i: int) -> types.SimpleNamespace:
            image = picture(i, self.width, self.height)
            return types.SimpleNamespace(image=image, persons=self.persons, seed=self.seed)

    module = types.SimpleNamespace(Scene=Scene, check_options=lambda **options: None)
    monkeypatch.setitem(sys.modules, "pave_ros.synthetic", module)  # type: ignore[arg-type]
    source = open_source("synthetic:seed=3,persons=5,width=320,height=240,frames=4", rate=20)
    frames = list(source)
    assert (source.width, source.height, source.rate, source.length) == (320, 240, 20.0, 4)
    assert [f.stamp for f in frames] == [0, 50_000_000, 100_000_000, 150_000_000]
    assert frames[0].payload.persons == 5 and frames[0].payload.seed == 3 and not frames[0].bgr
    assert open_source("synthetic").length is None
    with pytest.raises(ValueError, match="unknown option people; known: frames, seed"):
        open_source("synthetic:people=3")
    with pytest.raises(ValueError, match="'seed' is not of the form key=value"):
        open_source("synthetic:seed")
    with pytest.raises(ValueError, match="frames must be a positive whole number"):
        open_source("synthetic:frames=0")


def test_a_source_is_closed_while_another_thread_reads_it() -> None:
    begun, go_on, released = threading.Event(), threading.Event(), threading.Event()

    def frames() -> Generator[Frame, None, None]:
        try:
            for stamp in range(100):
                begun.set()
                go_on.wait(30)
                yield Frame(stamp, image=picture(0))
        finally:
            released.set()

    source = Source("slow", (96, 64), 30.0, frames)
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(list, source)
        begun.wait(30)
        source.close()
        go_on.set()
        assert read.result(30) == [] and released.is_set()


def test_threads_give_opencv_its_log_back() -> None:
    level = cv2.utils.logging.getLogLevel()
    both = threading.Barrier(2)

    def silent(first: bool) -> None:
        if not first:
            both.wait(30)
        with silent_opencv():
            if first:
                both.wait(30)
                both.wait(30)
        if not first:
            assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
            both.wait(30)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(silent, first) for first in (True, False)]:
            done.result(60)
    assert cv2.utils.logging.getLogLevel() == level


def test_stamps_begin_at_0_and_rise_where_positions_do_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    positions = (80.0, 120.0, 120.0, 90.0, 240.0)
    monkeypatch.setattr(video, "_decoded", lambda *_: ((place, picture(i)) for i, place in enumerate(positions)))
    assert [frame.stamp // 10**6 for frame in open_source(path)] == [0, 40, 80, 120, 160]


@pytest.mark.parametrize("rate", [None, 100.0])
@pytest.mark.parametrize(("count", "step"), [(20, 80.0), (40, 10.0)])
def test_a_video_is_whole_by_its_frames_or_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, step: float, rate: float | None
) -> None:
    """Of a variable rate there may be fewer than were counted; or all of them, closer together."""
    path = make_video(tmp_path / "a.mp4", frames=40)
    monkeypatch.setattr(video, "_decoded", lambda *_: ((step * i, picture(i)) for i in range(count)))
    assert len(list(open_source(path, rate))) == count


@pytest.mark.parametrize(("count", "whole"), [(38, True), (37, False)])
def test_a_video_may_lack_two_frames_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, whole: bool
) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", frames=40))
    monkeypatch.setattr(video, "_decoded", lambda *_: ((40.0 * i, picture(i)) for i in range(count)))
    if whole:
        assert len(list(source)) == count
    else:
        with pytest.raises(VideoError, match="ends after 37 of 40 frames"):
            list(source)


def test_damage_in_a_file_that_counts_too_few_frames_is_forgotten() -> None:
    assert len(list(_decoded(Damaged("x.xxxx"), 3))) == 5  # type: ignore[arg-type]


def test_a_source_that_was_closed_can_be_read_again(tmp_path: Path) -> None:
    source = open_source(make_video(tmp_path / "a.mp4", frames=3))
    next(iter(source))
    source.close()
    assert len(list(source)) == 3


def test_only_quarter_turns_are_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__version__", "4.6.0")

    def wrong(turn: int) -> bool:
        return video._turns_wrongly(types.SimpleNamespace(get=lambda _: turn))  # type: ignore[arg-type]

    assert [turn for turn in (0, 90, 180, 270) if wrong(turn)] == [90, 270]


def test_how_long_an_mp4_lasts_is_told_in_several_forms(tmp_path: Path) -> None:
    """The header of version 1 has numbers of 64 bits; so may the size of a box, or none for one up to the end."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    def large(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content

    def last(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 0, name) + content

    path = tmp_path / "a.mp4"
    for header in (bytes(12) + struct.pack(">II", 1000, 2500), b"\1" + bytes(19) + struct.pack(">IQ", 1000, 2500)):
        for outer in (box, large, last):
            for inner in (box, large, last):
                content = large(b"free", bytes(5)) + outer(b"moov", box(b"trak", b"") + inner(b"mvhd", header))
                path.write_bytes(box(b"ftyp", b"isom") + content)
                assert mp4_seconds(str(path)) == 2.5


def test_addresses_tell_matroska_by_their_ending() -> None:

    assert [is_matroska(f"http://host/a.{ending}") for ending in ("mkv", "webm", "mp4")] == [True, True, False]


def test_a_cut_off_video_is_told_of_at_any_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", frames=40)
    monkeypatch.setattr(video, "_decoded", lambda *_: ((40.0 * i, picture(i)) for i in range(20)))
    for rate in (None, 5.0, 100.0):
        with pytest.raises(VideoError, match="ends after 20 of 40 frames"):
            list(open_source(path, rate))
