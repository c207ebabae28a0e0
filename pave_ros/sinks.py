"""What becomes of the people found in files: annotated copies, JSON lines, COCO results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from pave_ros import drawing
from pave_ros.files import make_folder
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.predict import Job, Sink
from pave_ros.video import VideoError
from pave_ros.video_writer import VideoWriter


def make_sinks(formats: Sequence[str], out: Path, jobs: Sequence[Job]) -> list[Sink]:
    """The sinks of these formats (see `FORMATS`), writing into the folder `out`.

    Raises:
        ValueError: an unknown format, or one that would write over an input.
        OSError: the folder cannot be made.
        VideoError: a file in it cannot.
    """
    if unknown := set(formats) - FORMATS.keys():
        raise ValueError(f"unknown format {', '.join(sorted(unknown))}; known: {', '.join(FORMATS)}")
    inputs = {Path(job.source).resolve(): job.source for job in jobs}
    for job in jobs if "video" in formats else ():
        if endangered := inputs.get((out / (job.name + job.suffix)).resolve()):
            raise ValueError(f"{out}: would write over the input {endangered}; give another folder")
    make_folder(out)
    sinks: list[Sink] = []
    try:
        for name in dict.fromkeys(formats):
            sinks.append(FORMATS[name](out, jobs))
    except VideoError:
        for sink in sinks:
            sink.discard()
        raise
    return sinks


class Annotated:
    """The pictures and videos with skeletons drawn in, as ``NAME.mp4``, ``NAME.jpg``, ..."""

    def __init__(self, out: Path, jobs: Sequence[Job]) -> None:
        self._out = out
        self._writer: VideoWriter | None = None
        self._written: list[Path] = []

    def add(self, job: Job, rate: float, index: int, frame: Frame, persons: Persons) -> None:
        assert frame.image is not None
        image = drawing.draw(frame.image.copy(), persons, bgr=frame.bgr)  # the model's window keeps the clean one
        path = self._out / (job.name + job.suffix)
        if job.moving:
            if self._writer is None:
                self._writer = VideoWriter(path, rate)
            self._writer.write(image, frame.bgr)
            return
        ok, data = cv2.imencode(job.suffix, image if frame.bgr else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not ok:
            raise VideoError(f"{path}: OpenCV cannot write this kind of picture")
        with _Partial(path) as partial:
            partial.write(data.tobytes())
        self._written.append(path)

    def end(self, job: Job) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and writer.count:
            writer.close()
            self._written.append(writer.path)

    def drop(self, job: Job) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()

    def finish(self) -> list[Path]:
        self.discard()
        return self._written

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()


class JsonLines:
    """``persons.jsonl``, one line a picture.

    Keys: ``file``; ``frame``, its number from 0; ``stamp``, nanoseconds since the first; ``width`` and ``height`` in
    pixels; ``skeleton``; ``persons``, each with ``track_id`` (-1 untracked), ``age``, ``score``, ``box`` (x, y, width,
    height) and ``keypoints`` (x, y, score; null where there is none).
    """

    def __init__(self, out: Path, jobs: Sequence[Job]) -> None:
        self._partial = _Partial(out / "persons.jsonl")
        self._ended = 0  # bytes, of the jobs that ended

    def add(self, job: Job, rate: float, index: int, frame: Frame, persons: Persons) -> None:
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        line = {
            "file": _file_of(job, frame),
            "frame": index,
            "stamp": frame.stamp,
            "width": width,
            "height": height,
            "skeleton": persons.skeleton,
            "persons": [_person(persons, i) for i in range(len(persons))],
        }
        self._partial.write(_json(line))

    def end(self, job: Job) -> None:
        self._ended = self._partial.size()

    def drop(self, job: Job) -> None:
        self._partial.cut(self._ended)

    def finish(self) -> list[Path]:
        self._partial.cut(self._ended)
        return [self._partial.finish()]

    def discard(self) -> None:
        self._partial.discard()


class CocoResults:
    """``coco.json``, keypoint results as COCO's evaluation reads them, in pixels of the original picture.

    The image id is the number at the end of a picture's name (000000000785.jpg is 785). Where a video is among the
    inputs, or a name has no number or the same as another, pictures are counted from 1 instead, and
    ``coco_images.json`` tells which is which.
    """

    def __init__(self, out: Path, jobs: Sequence[Job]) -> None:
        self._results = _Partial(out / "coco.json")
        self._images = _Partial(out / "coco_images.json")
        numbers = [re.search(r"(\d+)$", Path(job.source).stem) for job in jobs]
        ids = [int(number[1]) for number in numbers if number and not any(job.moving for job in jobs)]
        named = len(set(ids)) == len(jobs)
        self._ids = {job.name: i for job, i in zip(jobs, ids, strict=True)} if named else {}
        self._people: list[dict[str, Any]] = []
        self._pictures: list[dict[str, Any]] = []
        self._ended = (0, 0)  # people and pictures of the jobs that ended

    def add(self, job: Job, rate: float, index: int, frame: Frame, persons: Persons) -> None:
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        image_id = self._ids.get(job.name, len(self._pictures) + 1)
        self._pictures.append(
            {"id": image_id, "file_name": _file_of(job, frame), "frame": index, "width": width, "height": height}
        )
        keypoints = np.where(np.isfinite(persons.keypoints).all(-1, keepdims=True), persons.keypoints, 0)
        for i in range(len(persons)):
            self._people.append(
                {
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": [round(float(value), 4) for value in keypoints[i].ravel()],
                    "score": round(float(persons.scores[i]), 6),
                }
            )

    def end(self, job: Job) -> None:
        self._ended = (len(self._people), len(self._pictures))

    def drop(self, job: Job) -> None:
        people, pictures = self._ended
        del self._people[people:], self._pictures[pictures:]

    def finish(self) -> list[Path]:
        people, pictures = self._ended
        self._results.write(_json(self._people[:people]))
        if self._ids:
            self._images.discard()
            self._images.path.unlink(missing_ok=True)  # of an earlier run, with other numbers
            return [self._results.finish()]
        self._images.write(_json(self._pictures[:pictures]))
        images = self._images.finish()  # first, for without it nobody knows what the results are of
        return [self._results.finish(), images]

    def discard(self) -> None:
        self._results.discard()
        self._images.discard()


FORMATS: dict[str, Callable[[Path, Sequence[Job]], Sink]] = {
    "video": Annotated,
    "jsonl": JsonLines,
    "coco": CocoResults,
}


class _Partial:
    """A file that gets its name when it is complete. VideoError, with that name, when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        with self._named():
            self._file: IO[bytes] = self._part.open("wb")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error

    def write(self, data: bytes) -> None:
        with self._named():
            self._file.write(data)

    def size(self) -> int:
        """Bytes so far, all of which are on the disk."""
        with self._named():
            self._file.flush()
            return self._file.tell()

    def cut(self, size: int) -> None:
        """Truncate to so many bytes; there may have been no room for all that was written."""
        with suppress(OSError):
            self._file.close()
        with self._named():
            os.truncate(self._part, size)
            self._file = self._part.open("ab")

    def finish(self) -> Path:
        """Give it its name."""
        with self._named():
            self._file.close()
            return self._part.replace(self.path)

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.discard()


def _json(value: Any) -> bytes:
    """A value as one line."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _file_of(job: Job, frame: Frame) -> str:
    """The file that a frame is from: the picture of a folder, else the job's."""
    return str(frame.payload) if isinstance(frame.payload, Path) else job.source


def _person(persons: Persons, i: int) -> dict[str, Any]:
    return {
        "track_id": int(persons.track_ids[i]),
        "age": int(persons.ages[i]),
        "score": round(float(persons.scores[i]), 4),
        "box": _numbers(persons.boxes[i]),
        "keypoints": [_numbers(keypoint) for keypoint in persons.keypoints[i]],
    }


def _numbers(values: Any) -> list[float | None]:
    """Hundredths of pixels and ten thousandths of scores are all there is to know; JSON has no NaN."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
