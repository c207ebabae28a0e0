"""People in files: pictures, folders, videos and recordings, one by one, into the sinks of `pave_ros.sinks`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pave_ros.bags import is_bag, path_of
from pave_ros.estimator import Estimator
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
        sinks: from `pave_ros.sinks.make_sinks`.
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
