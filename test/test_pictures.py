"""Picture files and folders of them as sources."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from videos import number, picture

from pave_ros.pictures import decode_picture, silent_opencv
from pave_ros.video import (
    VideoError,
    open_source,
    pictures_in,
    read_picture,
)


@pytest.mark.parametrize("tail", [b"\xff\xda" + bytes(100), b"ftyp\xff\xd8\xff\xda\x00\x08"])
def test_picture_with_something_behind_it(tmp_path: Path, tail: bytes) -> None:
    """As phones keep a short video behind a picture."""
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture(1))
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert np.array_equal(read_picture(path), cv2.imread(str(path)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match="cut off"):
        read_picture(path)


def test_picture_with_fill_bytes(tmp_path: Path) -> None:
    """Any number of them may stand before a marker (ITU T.81, B.1.1.2)."""
    path = tmp_path / "filled.jpg"
    cv2.imwrite(str(path), np.full((32, 32, 3), 90, np.uint8))
    data = path.read_bytes()
    second = 4 + int.from_bytes(data[4:6], "big")
    assert data[second : second + 1] == b"\xff"
    path.write_bytes(data[:second] + b"\xff\xff" + data[second:])
    assert read_picture(path).mean() == pytest.approx(90, abs=2)


def test_folders_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    cv2.imwrite(str(tmp_path / "²5.jpg"), picture(1))
    assert [path.name for path in pictures_in(tmp_path)] == ["²5.jpg"]


def test_a_small_file_that_claims_gigabytes_is_not_decoded(tmp_path: Path) -> None:
    """In a process of its own, since OpenCV hears of the limit when it is loaded."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1])
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = struct.pack(">HH", 12000, 60000)
    (tmp_path / "a.jpg").write_bytes(data)
    program = """if True:
        import re, sys
        from pathlib import Path
        from types import SimpleNamespace
        from pave_ros.encodings import ImageError, read
        from pave_ros.video import VideoError, read_picture
        path = Path(sys.argv[1])
        message = SimpleNamespace(format="jpeg", data=path.read_bytes())
        for error, decode in ((VideoError, lambda: read_picture(path)), (ImageError, lambda: read(message))):
            try:
                print(decode().shape)
            except error as reason:
                print(reason)
        print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.jpg")], capture_output=True, text=True)
    first, second, kilobytes = done.stdout.splitlines()
    assert "a.jpg: " in first and "MAX_IMAGE_PIXELS" in first and "cannot be decoded" in second
    assert int(kilobytes) < 1_000_000


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_cut_off_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match=f"a.{suffix}: .*(cut off|damaged)"):
        open_source(path)


def test_folder_in_natural_order_with_pictures_of_any_size(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), picture(i, width=96 + i))
    (tmp_path / "notes.txt").write_text("no picture")
    source = open_source(tmp_path, rate=5)
    frames = list(source)
    assert (source.length, source.rate, source.width) == (3, 5, 97)
    assert [number(f.image) for f in frames] == [1, 2, 10]
    assert [f.image.shape[1] for f in frames] == [97, 98, 106]
    assert [f.stamp for f in frames] == [0, 200_000_000, 400_000_000]


def test_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no pictures"):
        open_source(tmp_path)


def test_single_picture_once_and_looped(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(3))
    assert len(list(open_source(tmp_path / "a.png"))) == 1
    frames = list(itertools.islice(open_source(tmp_path / "a.png", loop=True), 3))
    assert [f.stamp for f in frames] == [0, 100_000_000, 200_000_000]
    frames[0].image[:] = 0  # drawing on one frame leaves the next alone
    assert number(frames[1].image) == 3


def test_grey_and_16_bit_pictures_become_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 30), 40000, np.uint16))
    image = next(iter(open_source(tmp_path / "a.png"))).image
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8 and image[0, 0, 0] == 40000 // 256


def test_pictures_have_suffixes_in_any_case_and_hidden_files_are_none(tmp_path: Path) -> None:
    for name in ("._a.JPG", "A.JPG"):
        (tmp_path / name).write_bytes(cv2.imencode(".jpg", picture(1))[1].tobytes())
    assert [path.name for path in pictures_in(tmp_path)] == ["A.JPG"]
    assert open_source(tmp_path / "A.JPG").length == 1


def test_photos_are_turned_upright_unless_they_are_wanted_as_stored(tmp_path: Path) -> None:

    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture(1))
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # turned by a quarter
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + data[2:])
    assert read_picture(path).shape == (96, 64, 3)
    assert read_picture(path, as_stored=True).shape == decode_picture(path.read_bytes()).shape == (64, 96, 3)
    source = open_source(path)
    assert (source.width, source.height) == (64, 96)


def test_opencv_is_silent_until_the_last_who_wants_it_so_is_done() -> None:
    log = cv2.utils.logging
    before = log.getLogLevel()
    with silent_opencv():
        with silent_opencv():
            pass
        assert log.getLogLevel() == log.LOG_LEVEL_SILENT != before
    assert log.getLogLevel() == before


def test_opencv_4_is_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the functions of the log without their module."""
    levels = [4]
    monkeypatch.setattr(cv2, "utils", SimpleNamespace())
    monkeypatch.setattr(cv2, "getLogLevel", lambda: levels[-1], raising=False)
    monkeypatch.setattr(cv2, "setLogLevel", levels.append, raising=False)
    with silent_opencv():
        assert levels[-1] == 0
    assert levels == [4, 0, 4]


def test_opencv_speaks_again_after_an_error() -> None:
    before = cv2.utils.logging.getLogLevel()
    with pytest.raises(KeyboardInterrupt), silent_opencv():
        raise KeyboardInterrupt
    assert cv2.utils.logging.getLogLevel() == before


def test_a_cut_off_picture_that_holds_the_name_of_its_end_is_cut_off() -> None:
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))[1].tobytes()
    note = b"tEXtnote\0IEND"
    noted = data[:33] + struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note)) + data[33:]
    assert np.array_equal(decode_picture(noted), decode_picture(data)), "the first 33 bytes are signature and header"
    with pytest.raises(ValueError, match="cut off"):
        decode_picture(noted[: len(noted) // 2])


@pytest.mark.parametrize("fills", [0, 1, 2])
def test_a_whole_thumbnail_behind_fill_bytes_makes_no_whole_picture(fills: int) -> None:
    thumbnail, data = (cv2.imencode(".jpg", picture(1, width=width))[1].tobytes() for width in (32, 96))
    segment = b"\xff" * fills + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert decode_picture(whole).shape == (64, 96, 3)
    with pytest.raises(ValueError, match="cut off"):
        decode_picture(whole[:-50])
