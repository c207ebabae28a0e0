"""What files of videos say of themselves and OpenCV does not tell."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO


def is_matroska(path: str) -> bool:
    """Whether a file, or what lies at an address, is Matroska or WebM."""
    if "://" in path:
        return path.endswith((".mkv", ".webm"))
    with open(path, "rb") as file:
        return file.read(4) == b"\x1a\x45\xdf\xa3"


def mp4_seconds(path: str) -> float | None:
    """How long a file of MP4 or QuickTime is to be shown, which is less than it holds where it was trimmed without
    being encoded anew; None where it does not say, and of other files and addresses (ISO/IEC 14496-12, 8.2.2)."""
    if "://" in path:
        return None
    with open(path, "rb") as file:
        place = 0, file.seek(0, 2)
        if next(_boxes(file, *place), (b"",))[0] != b"ftyp":
            return None
        for wanted in (b"moov", b"mvhd"):
            inside = [(start, end) for name, start, end in _boxes(file, *place) if name == wanted]
            if not inside:
                return None
            place = inside[0]
        file.seek(place[0])
        long = file.read(1) == b"\1"
        file.seek(place[0] + (20 if long else 12))
        layout = struct.Struct(">IQ" if long else ">II")
        data = file.read(layout.size)
    scale, duration = layout.unpack(data) if len(data) == layout.size else (0, 0)
    return duration / scale if scale else None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of the content of the boxes that follow one another between two places of a file."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, begin = int.from_bytes(head[:4], "big"), start + 8
        if size == 1:  # it follows in 64 bits
            size, begin = int.from_bytes(head[8:], "big"), start + 16
        size = size or end - start
        if size < begin - start:
            return
        yield head[4:8], begin, start + size
        start += size
