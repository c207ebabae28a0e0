"""People in files: pictures, folders and videos in; annotated copies, JSON lines and COCO results out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import cv2
import numpy as np

from pave_ros import drawing
from pave_ros.bags import is_bag, path_of
from pave_ros.estimator import Estimator
from pave_ros.files import make_folder
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.tracking import Tracker
from pave_ros.video import (
    PICTURE_SUFFIXES,
    Source,
    VideoError,
    is_synthetic,
    open_source,
    pictures_in,
    synthetic_options,
)
from pave_ros.video_writer import VideoWriter


@dataclass(frozen=True)
class Job:
    """One picture, or one video, to find people in.

    Attributes:
        source: what `pave_ros.video.open_source` understands.
        name: of its output, without a suffix; no two jobs of a run have the same.
        moving: its pictures follow each other in time.
    """

    source: str
    name: str
    moving: bool

    @property
    def suffix(self) -> str:
        """Of its annotated copy."""
        return ".mp4" if self.moving else Path(self.source).suffix.lower()


@dataclass
class Summary:
    """What a run did: files read to their end, pictures, people, whether it was interrupted before all were, and what
    could not be read."""

    files: int = 0
    frames: int = 0
    persons: int = 0
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)


class Sink(Protocol):
    """One kind of result. It writes nothing under its final name before it is complete."""

    def add(self, job: Job, rate: float, index: int, frame: Frame, persons: Persons) -> None:
        """Take the people in picture number `index`, from 0, of a job."""

    def end(self, job: Job) -> None:
        """The job has no more pictures."""

    def drop(self, job: Job) -> None:
        """Something of the job could not be taken: leave out what was."""

    def finish(self) -> list[Path]:
        """Write what is known of the jobs that ended; one that was broken off is left out. Returns what was written."""

    def discard(self) -> None:
        """The run broke off: leave nothing unfinished behind."""


def jobs_of(inputs: Sequence[str], sequence: bool = False) -> list[Job]:
    """What there is to do: a folder stands for its pictures, one by one, or with `sequence` for one video.

    Raises:
        FileNotFoundError, VideoError: an input does not exist, or a folder has no pictures.
        ValueError: the synthetic scene without an end or with a bad option, or nothing to do.
    """
    found: list[tuple[str, bool]] = []
    for text in inputs:
        path = Path(text)
        if is_synthetic(text):
            if synthetic_options(text)[1] is None:
                raise ValueError(f"{text} has no end; say how many frames: synthetic:frames=100")
            found.append((text, True))
        elif not text:  # As of a variable of the shell that is not set; to Path it would be the folder one is in.
            raise FileNotFoundError("the name of a file is empty")
        elif is_bag(text):
            found.append((text, True))
        elif path.is_dir() and not sequence:
            found += [(str(picture), False) for picture in pictures_in(path)]
        elif path.exists():
            found.append((text, path.is_dir() or path.suffix.lower() not in PICTURE_SUFFIXES))
        else:
            raise FileNotFoundError(f"{text}: no such file or folder")
    if not found:
        raise ValueError("no files were given")
    names = _distinct("synthetic" if is_synthetic(text) else path_of(os.path.abspath(text)).stem for text, _ in found)
    return [Job(text, name, moving) for (text, moving), name in zip(found, names, strict=True)]


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, with a number added where one comes again."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        result.append(candidate)
    return result


def predict(
    jobs: Sequence[Job],
    estimator: Estimator,
    sinks: Sequence[Sink],
    *,
    track: bool = True,
    opened: Callable[[Job, Source], None] = lambda job, source: None,
    advanced: Callable[[Job], None] = lambda job: None,
) -> tuple[Summary, list[Path]]:
    """Find the people of every job and hand them to the sinks; a job that cannot be read does not stop the others. An
    interruption (Ctrl-C) ends it with what is known of the files that were finished, if there are any.

    Args:
        jobs: from `jobs_of`.
        estimator: finds the people; it gets the frames of a video in its temporal window.
        sinks: from `make_sinks`.
        track: give the people of videos numbers that stay; those of single pictures have none.
        opened, advanced: called when a job begins and after each of its pictures, to show progress.

    Returns:
        What was done, and the files that were written.
    """
    summary = Summary()
    try:
        try:
            for job in jobs:
                _run(job, estimator, sinks, track, summary, opened, advanced)
        except KeyboardInterrupt:
            if not summary.files:
                raise
            summary.interrupted = True
        written: list[Path] = []
        for sink in sinks:
            with _noting(summary.problems):
                try:
                    written += sink.finish()
                except VideoError:
                    sink.discard()
                    raise
        return summary, written
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Note a file that cannot be read or written, and go on."""
    try:
        yield
    except (VideoError, FileNotFoundError) as error:
        _note(problems, error)


def _note(problems: list[str], error: Exception) -> None:
    if str(error) not in problems:  # a full disk is met more than once
        problems.append(str(error))


def _run(
    job: Job,
    estimator: Estimator,
    sinks: Sequence[Sink],
    track: bool,
    summary: Summary,
    opened: Callable[[Job, Source], None],
    advanced: Callable[[Job], None],
) -> None:
    tracker = Tracker() if track and job.moving else None
    writing, complete = list(sinks), False
    with _noting(summary.problems), open_source(job.source) as source:
        opened(job, source)
        for index, (frame, persons) in enumerate(estimator.video(source)):
            if tracker is not None:
                assert frame.image is not None
                persons = tracker.update(persons, frame.stamp, frame.image.shape[:2])
            for sink in list(writing):
                try:
                    sink.add(job, source.rate, index, frame, persons)
                except VideoError as error:  # The others go on.
                    _note(summary.problems, error)
                    writing.remove(sink)
            if not writing:
                break
            summary.frames += 1
            summary.persons += len(persons)
            advanced(job)
        complete = bool(writing)
    for sink in sinks:
        with _noting(summary.problems):
            sink.end(job) if sink in writing else sink.drop(job)
    summary.files += complete


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
        """Throw away what is behind so many bytes; there may have been no room for all of it."""
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
