"""Image messages of every encoding give the right colours; those that hold no picture say why."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from peer import image, picture
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from pave_ros import encodings
from pave_ros.ros import images

HEIGHT, WIDTH = picture().shape[:2]
RGB = picture()
GREY = RGB[..., 0]
LITTLE, BIG = 0, 1


def ycc() -> np.ndarray:
    """Y, Cb, Cr of the picture by ITU-R BT.601 with 16..235, as floats."""
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
    return RGB / 255.0 @ matrix.T + (16, 128, 128)


def bytes_of(values: np.ndarray) -> np.ndarray:
    return np.clip(values.round(), 0, 255).astype(np.uint8)


def packed(order: str) -> np.ndarray:
    """YUV 4:2:2, two pixels in four bytes, in the order given."""
    y, cb, cr = np.moveaxis(ycc(), -1, 0)
    parts = {
        "U": (cb[:, ::2] + cb[:, 1::2]) / 2, "V": (cr[:, ::2] + cr[:, 1::2]) / 2,
        "Y": y[:, ::2], "y": y[:, 1::2],
    }  # fmt: skip
    return bytes_of(np.stack([parts[letter] for letter in order], axis=-1)).reshape(HEIGHT, -1)


def planar(first: int, second: int) -> np.ndarray:
    """A luma plane and one of interleaved chroma, one pair for every 2 x 2 pixels."""
    values = ycc()
    chroma = values[..., [first, second]].reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 2).mean(axis=(1, 3))
    return bytes_of(np.concatenate([values[..., 0].ravel(), chroma.ravel()])).reshape(-1, WIDTH)


def bayer(order: str) -> np.ndarray:
    """One channel per pixel, in cells of 2 x 2 named row by row."""
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for i, letter in enumerate(order):
        y, x = divmod(i, 2)
        mosaic[y::2, x::2] = RGB[y::2, x::2, "rgb".index(letter)]
    return mosaic


def wide(values: np.ndarray, endian: int) -> np.ndarray:
    """8 bit samples as 16 bit ones of the same brightness."""
    samples = (values.astype(np.uint16) * 257).astype(">u2" if endian == BIG else "<u2")
    return samples.reshape(HEIGHT, -1).view(np.uint8)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((HEIGHT, WIDTH, 1), 7, np.uint8)], axis=2)


BGR = RGB[..., ::-1]
ORDERS = ("rggb", "bggr", "gbrg", "grbg")
# Encoding, byte order, rows of data, whether the picture is grey.
CASES: dict[str, tuple[str, int, np.ndarray, bool]] = {
    **{name: (name, LITTLE, rows.reshape(HEIGHT, -1), False) for name, rows in (
        ("rgb8", RGB), ("bgr8", BGR), ("8UC3", BGR), ("rgba8", with_alpha(RGB)), ("bgra8", with_alpha(BGR)),
        ("8UC4", with_alpha(BGR)), ("yuv422", packed("UYVy")), ("uyvy", packed("UYVy")),
        ("yuv422_yuy2", packed("YUyV")), ("yuyv", packed("YUyV")),
    )},
    "nv12": ("nv12", LITTLE, planar(1, 2), False),
    "nv21": ("nv21", LITTLE, planar(2, 1), False),
    "mono8": ("mono8", LITTLE, GREY, True),
    "8UC1": ("8UC1", LITTLE, GREY, True),
    **{f"{name}_{end}": (name, end, wide(values, end), name == "mono16") for end in (LITTLE, BIG) for name, values in (
        ("mono16", GREY), ("rgb16", RGB), ("bgr16", BGR),
    )},
    **{f"bayer_{order}8": (f"bayer_{order}8", LITTLE, bayer(order), False) for order in ORDERS},
    **{f"bayer_{order}16_{end}": (f"bayer_{order}16", end, wide(bayer(order), end), False)
       for order in ORDERS for end in (LITTLE, BIG)},
}  # fmt: skip


def message(encoding: str, endian: int, rows: np.ndarray, padding: int = 0) -> Image:
    noise = np.random.default_rng(0).integers(0, 256, (len(rows), padding), dtype=np.uint8)
    padded = np.concatenate([rows, noise], axis=1)
    return Image(
        header=Header(), height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=endian,
        step=padded.shape[1], data=array("B", padded.tobytes()),
    )  # fmt: skip


def rgb_of(message: Image | CompressedImage) -> np.ndarray:
    pixels, is_bgr = images.read(message)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8
    return pixels[..., ::-1] if is_bgr else pixels


@pytest.fixture(autouse=True)
def choose_library_anew() -> Iterator[None]:
    encodings._library.cache_clear()
    yield
    encodings._library.cache_clear()


def test_every_encoding_is_tested() -> None:
    assert {case[0] for case in CASES.values()} == set(encodings.ENCODINGS)


@pytest.mark.parametrize("padding", [0, 10])
@pytest.mark.parametrize("case", CASES)
def test_colours(case: str, padding: int) -> None:
    encoding, endian, rows, is_grey = CASES[case]
    expected = np.repeat(GREY[..., None], 3, axis=2) if is_grey else RGB
    error = np.abs(rgb_of(message(encoding, endian, rows, padding)).astype(int) - expected)
    exact = encoding.startswith(("rgb", "bgr", "8UC", "mono"))
    # Demosaicing invents the outermost pixels; the rest is rounding, and the chroma that pixels share.
    inner = error[2:-2, 2:-2] if encoding.startswith("bayer") else error
    assert inner.max() <= (1 if exact else 6)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colour_pictures_are_not_copied(encoding: str) -> None:
    given = message(*CASES[encoding][:3], padding=4)
    pixels, _ = images.read(given)
    assert np.shares_memory(pixels, np.frombuffer(given.data, np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("wanted", ["bgr8", "rgb8"])
def test_compressed(suffix: str, wanted: str) -> None:
    """A publisher that compresses an RGB picture as if it were BGR says so in the format, as image_transport does."""
    stored = BGR if wanted == "bgr8" else RGB
    done, data = cv2.imencode(suffix, stored)
    assert done
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    given = CompressedImage(format=f"rgb8; {kind} compressed {wanted}", data=array("B", data.tobytes()))
    assert np.abs(rgb_of(given).astype(int) - RGB).max() <= (0 if suffix == ".png" else 12)


def test_a_jpeg_may_be_followed_by_zeros() -> None:
    """Drivers of USB cameras hand over their whole buffer."""
    data = images.compress(RGB, False, Header()).data.tobytes() + bytes(5000)
    assert np.abs(rgb_of(CompressedImage(format="jpeg", data=array("B", data))).astype(int) - RGB).max() <= 12


JPEG = images.compress(RGB, False, Header()).data.tobytes()
PNG = cv2.imencode(".png", BGR)[1].tobytes()
THUMBNAIL = cv2.imencode(".jpg", BGR[::8, ::8])[1].tobytes()
WITH_THUMBNAIL = JPEG[:2] + b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL + JPEG[2:]

# Of a good rgb8 image this is changed; the error holds these words.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "wrong step": ({"step": WIDTH}, f"step {WIDTH} is less than width {WIDTH} x 3 bytes"),
    "short data": ({"data": array("B", bytes(100))}, "data holds 100 bytes, but 64 rows x step 288 are 18432"),
    "no data": ({"data": array("B")}, "data holds 0 bytes"),
    "huge": ({"height": 2**32 - 1}, "data holds"),
    "no width": ({"width": 0}, "the image is empty: width 0"),
    "no height": ({"height": 0}, "the image is empty: width 96, height 0"),
    "unknown encoding": ({"encoding": "rgb9"}, "unknown encoding 'rgb9'; known: rgb8, "),
    "no encoding": ({"encoding": ""}, "unknown encoding ''"),
    "odd width": ({"encoding": "yuv422", "width": 95}, "yuv422 needs an even width, not 95 x 64"),
    "odd height": ({"encoding": "nv12", "height": 33}, "nv12 needs an even width and height"),
}
BAD_COMPRESSED: dict[str, tuple[bytes, str]] = {
    "corrupt JPEG": (JPEG[:200] + bytes(200) + JPEG[-100:], "format 'jpeg' cannot be decoded: not a picture"),
    "cut off JPEG": (JPEG[: len(JPEG) // 2], "bytes: the end mark is missing"),
    "cut off PNG": (PNG[: len(PNG) // 2], "bytes: the end mark is missing"),
    "cut off behind a thumbnail": (WITH_THUMBNAIL[: len(THUMBNAIL) + 100], "bytes: the end mark is missing"),
    "not a picture": (b"a robot, two robots", "cannot be decoded as JPEG or PNG"),
    "nothing": (b"", "0 bytes of format 'jpeg' cannot be decoded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images_say_what_is_wrong(case: str) -> None:
    changes, reason = BAD[case]
    with pytest.raises(images.ImageError) as raised:
        images.read(image(**changes))
    assert reason in str(raised.value)


@pytest.mark.parametrize("case", BAD_COMPRESSED)
def test_bad_compressed_images_say_what_is_wrong(case: str) -> None:
    data, reason = BAD_COMPRESSED[case]
    with pytest.raises(images.ImageError) as raised:
        images.read(CompressedImage(format="jpeg", data=array("B", data)))
    assert reason in str(raised.value)


def stub_cv_bridge(monkeypatch: pytest.MonkeyPatch, convert: Callable[[Any, str], np.ndarray]) -> None:
    class CvBridge:
        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> np.ndarray:
            return convert(message, desired_encoding)

    module = ModuleType("cv_bridge")
    module.CvBridge = CvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)


def test_cv_bridge_is_preferred_where_ros_provides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def convert(plain: Any, wanted: str) -> np.ndarray:
        seen.append((plain, wanted))
        return np.full((plain.height, plain.width, 3), 99, np.uint8)

    stub_cv_bridge(monkeypatch, convert)
    assert (rgb_of(message(*CASES["mono16_1"][:3], padding=10)) == 99).all()
    plain, wanted = seen[-1]
    assert (plain.encoding, wanted, plain.step) == ("mono16", "bgr8", 2 * WIDTH), "it gets rows without padding"
    assert plain.is_bigendian == (sys.byteorder == "big"), "and in this machine's byte order"
    assert (plain.data.view(np.uint16).reshape(HEIGHT, WIDTH) == GREY.astype(np.uint16) * 257).all()


def test_a_cv_bridge_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was built for numpy 1 can be imported with numpy 2, and fails at the first picture."""

    def convert(plain: Any, wanted: str) -> np.ndarray:
        raise ImportError("numpy.core.multiarray failed to import")

    stub_cv_bridge(monkeypatch, convert)
    assert (rgb_of(message(*CASES["mono8"][:3])) == GREY[..., None]).all()


@pytest.mark.parametrize(
    ("conversion", "used"),
    [
        ("numpy.full((plain.height, plain.width, 3), 99, numpy.uint8)", True),
        ("numpy.core.no_such_thing", False),
        ("os.abort()", False),
    ],
)
def test_a_cv_bridge_that_was_never_imported_is_tried_in_another_process(
    conversion: str, used: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cv_bridge.py").write_text(
        "import os, numpy\n"
        "class CvBridge:\n"
        "    def imgmsg_to_cv2(self, plain, encoding):\n"
        f"        return {conversion}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    assert ((rgb_of(message(*CASES["mono8"][:3])) == 99).all()) == used
    sys.modules.pop("cv_bridge", None)


@pytest.mark.parametrize("bgr", [False, True])
def test_written_images_are_read_again(bgr: bool) -> None:
    header = Header(frame_id="front")
    written = images.write(BGR if bgr else RGB, bgr, header)
    assert (written.encoding, written.header.frame_id) == ("bgr8" if bgr else "rgb8", "front")
    assert (rgb_of(written) == RGB).all()
    again = images.write(np.zeros_like(RGB), bgr, header, written)
    assert again is written and not rgb_of(again).any(), "the message is used again"
    compressed = images.compress(BGR if bgr else RGB, bgr, header, quality=95)
    assert np.abs(rgb_of(compressed).astype(int) - RGB).max() <= 12


@pytest.mark.parametrize("endian", [LITTLE, BIG])
def test_the_byte_order_decides_which_byte_is_the_high_one(endian: int) -> None:
    """Of the same brightness as 8 bits both bytes of a sample would be the same."""
    rows = (GREY.astype(np.uint16) << 8).astype(">u2" if endian == BIG else "<u2").view(np.uint8)
    read = rgb_of(message("mono16", endian, rows))
    assert np.abs(read.astype(int) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": WIDTH - 1}, f"nv12 needs an even width and height, not {WIDTH - 1} x {HEIGHT}"),
        ({"data": array("B", bytes(WIDTH * HEIGHT))}, f"but {HEIGHT * 3 // 2} rows x step {WIDTH} are"),
    ],
)
def test_bad_images_of_two_planes_say_what_is_wrong(changes: dict[str, Any], reason: str) -> None:
    given = message(*CASES["nv12"][:3])
    for name, value in changes.items():
        setattr(given, name, value)
    with pytest.raises(images.ImageError, match=reason):
        images.read(given)
