"""The figures of a model card: measured through the estimator, as a user gets them, and kept as JSON and as tables."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros.datasets import open_dataset
from pave_ros.datasets.synthetic import SyntheticDataset
from pave_ros.estimator import Estimator
from pave_ros.evaluation import evaluate
from pave_ros.evaluation.agreement import Agreement, agreement
from pave_ros.evaluation.coco import coco_ap
from pave_ros.evaluation.jitter import jitter
from pave_ros.evaluation.result import Result
from pave_ros.evaluation.score import METRICS, score
from pave_ros.frames import Frame, Image
from pave_ros.persons import Persons
from pave_ros.synthetic import Scene
from pave_ros.topdown.options import TopDownOptions, least_box
from pave_ros.training.sources import Mixture, ValidationPictures
from pave_ros.training.teacher import Teacher
from pave_ros.training.validation import by_source
from pave_ros.video import open_source

Figures = dict[str, Any]
Progress = Callable[[Iterable[Any], str], Iterable[Any]]

RUNS, WARM_UP = 60, 5  # pictures that the speed is measured on, and before
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
CAMERA = (640, 480)  # pixels; width and height of the pictures that the speed is measured on


def silent(items: Iterable[Any], what: str) -> Iterable[Any]:
    """Shows no progress."""
    return items


def everybody(model: str, precision: str = "fp32") -> Estimator:
    """The shipped model as average precision wants it: down to the least sure."""
    unsure = TopDownOptions(box_threshold=least_box(model))
    return Estimator(model, device="cpu", precision=precision, score_threshold=0.0, max_persons=30, top_down=unsure)


def on_validation_pictures(model: str, mixture: Mixture, limit: int = 0, precision: str = "fp32") -> Figures:
    """AP on the pictures of each source that training never saw; a teacher has completed their labels, so whoever is
    found besides counts as wrong."""
    estimator = everybody(model, precision)
    results = by_source(lambda image, labels: estimator(image), ValidationPictures(mixture), limit, coco_ap)
    return {name: _numbers(result) for name, result in results.items()}


def on_synthetic_scenes(
    model: str, limit: int | None = None, progress: Progress = silent, precision: str = "fp32"
) -> Figures:
    """AP on the validation scenes, as ``pave_ros evaluate --dataset synthetic`` measures it."""
    data = SyntheticDataset("val")
    scenes = list(progress(evaluate.part_of(data, limit), "synthetic scene"))
    done = evaluate.run(data, scenes, everybody(model, precision))
    return _numbers(coco_ap(done.samples, done.predictions))


def _numbers(result: Result) -> Figures:
    values = {name: None if math.isnan(value) else round(value, 4) for name, value in result.values.items()}
    return {"pictures": result.pictures, "people": result.persons, **values}


def against_teacher(
    model: str,
    teacher: Path,
    clips: Iterable[Path],
    every: int = 1,
    progress: Progress = silent,
    precision: str = "fp32",
) -> Figures:
    """Agreement with the teacher on clips, and on ``all`` of them together.

    Args:
        model: name of the model.
        teacher: ONNX file, see `pave_ros.training.teacher.Teacher`.
        clips: videos.
        every: look at every so many frames.
        progress: wraps the frames of a clip.
        precision: that the model computes in.
    """
    watch, estimator = Teacher(teacher), Estimator(model, device="cpu", precision=precision)
    figures, total = {}, Agreement()
    for clip in clips:
        of_clip = agreement(_answers(progress(_images(clip, every), clip.stem), watch, estimator))
        figures[clip.stem] = _share(of_clip)
        total += of_clip
    return {**figures, "all": _share(total)}


@dataclass(frozen=True)
class _Watching:
    """The teacher, as what can be evaluated."""

    teacher: Teacher
    reach: int = 0

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        image = frames[index].image
        assert image is not None
        return self.teacher(image)


def on_hand_labels(
    model: str,
    teacher: Path,
    folders: Mapping[str, Path],
    limit: int | None = None,
    progress: Progress = silent,
    precision: str = "fp32",
) -> Figures:
    """The model and its teacher side by side on the people whom others labelled by hand, none of which training saw:
    by data set and then ``teacher`` or ``model``, the values of each metric by its name.

    Args:
        model: name of the model.
        teacher: ONNX file, see `pave_ros.training.teacher.Teacher`.
        folders: of the data sets, by their names.
        limit: at most so many pictures of each; videos are looked at as a stream, whole.
        progress: wraps the pictures of a data set.
        precision: that the model computes in.
    """
    watch, estimator = _Watching(Teacher(teacher)), everybody(model, precision)
    looking: dict[str, evaluate.Model] = {"teacher": watch, "model": estimator}
    figures: Figures = {}
    for name, folder in folders.items():
        data = open_dataset(name, folder, "val")
        pictures = evaluate.part_of(data, None if jitter in METRICS[name] else limit)
        figures[name] = {}
        for who, one in looking.items():
            done = evaluate.run(data, list(progress(pictures, f"{name}, {who}")), one)
            results = score(name, done.samples, done.predictions)
            figures[name][who] = {result.metric: _numbers(result) for result in results}
    return figures


def _images(clip: Path, every: int) -> Iterator[Image]:
    with open_source(str(clip)) as source:
        for number, frame in enumerate(source):
            if number % every == 0:
                assert frame.image is not None
                yield np.ascontiguousarray(frame.image[..., ::-1]) if frame.bgr else frame.image


def _answers(
    images: Iterable[Image], watch: Callable[[Image], Persons], estimator: Estimator
) -> Iterator[tuple[Persons, Persons]]:
    for image in images:
        yield watch(image), estimator(image)


def _share(one: Agreement) -> Figures:
    share = None if math.isnan(one.share) else round(one.share, 4)
    return {"pictures": one.pictures, "people": one.people, "matched": one.matched, "found": one.found, "share": share}


def clips_in(path: Path) -> list[Path]:
    """A clip, or those of a folder. FileNotFoundError when there are none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [file for file in files if file.is_file() and file.suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise FileNotFoundError(f"{path}: no such clip, nor a folder with any")
    return found


def speed(model: str, engine: str, cores: int = 2) -> Figures:
    """Milliseconds from a camera's picture to its people on so many cores, and pictures a second: the median of one
    picture by itself, in which everybody is new, and the mean over a stream."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        estimator = Estimator(model, device="cpu", engine=engine)
        estimator.warm_up()
        scene = Scene(seed=3, width=CAMERA[0], height=CAMERA[1])
        images = [scene.frame(30 + i).image for i in range(WARM_UP + RUNS)]
        seconds = []
        for _ in images:
            start = time.perf_counter()
            estimator(images[0])
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in estimator.video(Frame(stamp=i, image=image) for i, image in enumerate(images)):
            pass
        stream = (time.perf_counter() - start) / len(images)
    finally:
        os.sched_setaffinity(0, before)
    median = float(np.median(seconds[WARM_UP:]))
    return {
        "engine": estimator.engine,
        "precision": estimator.precision,
        "cores": len(sorted(before)[:cores]),
        "milliseconds": round(1000 * median, 1),
        "fps": round(1 / median, 1),
        "stream_milliseconds": round(1000 * stream, 1),
        "stream_fps": round(1 / stream, 1),
        "processor": processor(),
    }


def processor() -> str:
    """Name of this machine's processor."""
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", about.read_text()) if about.exists() else None
    return found[1] if found else platform.machine()


# --- the page -----------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- figures: written by `python -m pave_ros.training.ship` -->", "<!-- end of the figures -->"


def write(page: Path, figures: Figures) -> None:
    """Put the figures into a page, between its two marks, and beside it as JSON; parts not given stay as they were.

    ValueError when the page lacks the marks.
    """
    text, data = page.read_text(), page.with_suffix(".json")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: lacks the lines {BEGIN} and {END}, between which the figures go")
    known = json.loads(data.read_text()) if data.exists() else {}
    figures = {**known, **figures}
    data.write_text(json.dumps(figures, indent=2) + "\n")
    page.write_text(f"{before}{BEGIN}\n\n{tables(figures)}\n{END}{after}")


def tables(figures: Figures) -> str:
    """The figures as Markdown."""
    parts = []
    if files := figures.get("files"):
        rows = [[f"`{name}`", f"{one['bytes'] / 1e6:.1f} MB", f"`{one['sha256']}`"] for name, one in files.items()]
        parts.append(_table(["file", "size", "SHA-256"], rows))
    precision = {
        **{f"{name}, validation part": values for name, values in figures.get("validation", {}).items()},
        **({"synthetic scene" + NOT_SEEN: figures["synthetic"]} if "synthetic" in figures else {}),
    }
    if precision:
        names = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
        rows = [
            [name, str(one["pictures"]), str(one["people"]), *(_percent(one.get(key)) for key in names)]
            for name, one in precision.items()
        ]
        parts.append(_table(["COCO keypoints", "pictures", "people", *names], rows))
    if clips := figures.get("agreement"):
        rows = [
            [name, *(str(one[key]) for key in ("pictures", "people", "matched")), _percent(one["share"])]
            for name, one in clips.items()
        ]
        parts.append(_table(["clip", "frames", "the teacher's people", "found", "share"], rows))
    if by_hand := figures.get("by_hand"):
        rows = [
            [
                name,
                str(one["COCO keypoints"]["pictures"]),
                who,
                *(_percent(one.get(metric, {}).get(value)) for metric, value in BY_HAND.values()),
            ]
            for name, both in by_hand.items()
            for who, one in both.items()
        ]
        parts.append(_table(["labelled by hand", "pictures", "who looks", *BY_HAND], rows))
    if speeds := figures.get("speed"):
        rows = [[name, *(form.format(one[key]) for key, form in SPEED.values())] for name, one in speeds.items()]
        parts.append(_table(["engine", *SPEED], rows))
    return "\n".join(parts)


# Columns of the table of speeds: key of the figure and how it is written.
SPEED = {
    "precision": ("precision", "{}"),
    "cores": ("cores", "{}"),
    "a picture of 640x480 in a stream": ("stream_milliseconds", "{} ms"),
    "a second": ("stream_fps", "{}"),
    "one by itself": ("milliseconds", "{} ms"),
    "processor": ("processor", "{}"),
}
NOT_SEEN = ", scenes that training never saw"
# Columns of the table of hand labels: metric and name of the value.
BY_HAND = {
    **{name: ("COCO keypoints", name) for name in ("AP", "AP50", "AP75", "AR")},
    "PCK@0.2 box": ("PCK@0.2 box", "Mean"),
    "PCK@0.2 torso": ("PCK@0.2 torso", "Mean"),
    "jitter, of the box": ("Jitter, of the box", "Mean"),
}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
