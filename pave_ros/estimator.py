"""From pictures to people: pre-processing, the model's temporal window, the engine, post-processing."""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros import detection, engines, models, postprocessing, skeletons
from pave_ros.checkpoints import files
from pave_ros.detection.base import Detector
from pave_ros.detection.pose import PoseDetector
from pave_ros.engines.base import Engine, EngineError
from pave_ros.engines.choice import CHECKPOINTS
from pave_ros.engines.exported import first_of_two
from pave_ros.frames import Frame, Image, around, same_size
from pave_ros.models.info import TOP_DOWN, as_size
from pave_ros.persons import Persons
from pave_ros.preprocessing import check_image, network_input
from pave_ros.skeletons import Skeleton
from pave_ros.smoothing import SMOOTHINGS, steady
from pave_ros.topdown.options import TopDownOptions
from pave_ros.topdown.stages import TopDown
from pave_ros.topdown.styles import STYLES, Style

_SEEDING = threading.Lock()  # The program has one generator of random numbers.
MOST_BOXES = 100  # that a pose model gives as a detector; how many are looked at is `max_persons` of what asks it.


class Estimator:
    """Finds the people in pictures, or in the newest frame of a video.

    Args:
        model: name, e.g. ``detrpose_s``, see `pave_ros.models.names`; an exported file tells its own, whatever is said.
        weights: ``auto`` (the published file of the model, from the cache or by download), a path (``.pth``, ``.pt``,
            ``.safetensors``, or an exported ``.onnx``; of a video model's two files either, or what their names have in
            common), the name of a known file, or ``random`` (untrained, seeded: to
            try the data path; its predictions mean nothing).
        device: ``auto`` (CUDA when there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        engine: ``auto`` (the best that is installed and runs the file) or one of `pave_ros.engines.NAMES`; a pose model
            that finds the people for a top-down model runs on the same.
        input_size: (height, width) of the network's input in pixels; None takes the model's own.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``half`` or ``int8``; which of them is to be had depends
            on the engine and the file.
        score_threshold: people below it are left out, 0..1; may be changed at any time.
        max_persons: at most so many people, the best; may be changed at any time. A top-down model does not look
            again for others in a frame that it has already processed.
        smoothing: of keypoints in a stream, see `pave_ros.smoothing.steady`: ``always``, ``never``, or ``auto``: those
            of the embedded model are, those of the others stay as published.
        top_down: of models that look at one person's crop at a time: what finds the people, and how crops are read.
        build_apart: where a faster engine has to be built first, have it built in a process of its own, begin with
            another one, and change over; see `engine_status`. For what runs long, such as a node.

    Raises:
        ValueError: an unknown model or smoothing, a number out of its range, or a file that does not fit the model
            (`CheckpointError`).
        FileNotFoundError, `WeightsError`: no weights; the message says how to get them.
        `EngineError`: what was asked for does not run here.
    """

    def __init__(
        self,
        model: str = models.DEFAULT,
        weights: str | Path = "auto",
        device: str = "auto",
        *,
        engine: str = "auto",
        input_size: Iterable[int] | None = None,
        precision: str = "auto",
        score_threshold: float = 0.3,
        max_persons: int = 20,
        smoothing: str = "auto",
        top_down: TopDownOptions | None = None,
        build_apart: bool = False,
    ) -> None:
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"unknown smoothing {smoothing!r}; known: {', '.join(SMOOTHINGS)}")
        name = "_".join(models.split_name(model))
        size = None if input_size is None else as_size(input_size)
        if str(weights) != files.RANDOM:
            path = first_of_two(Path(weights).expanduser()) or files.resolve(str(weights), name)
            self.weights = str(path)
            apart = build_apart and models.split_name(name)[0] not in TOP_DOWN
            self._engine = engines.open_file(path, name, engine, device, precision, size, background=apart)
        else:
            self.weights = files.RANDOM
            self._engine = _untrained(name, engine, device, precision, size)
        if not self.trained:
            self.weights += " (untrained: its people mean nothing)"
        self.score_threshold = score_threshold
        self.max_persons = max_persons
        self._smooths = smoothing == "always"
        self._top_down: TopDown | None = None
        self._lock = threading.Lock()  # Most engines compute in buffers of their own.
        if self._engine.info.top_down:
            options = top_down or TopDownOptions()
            style = STYLES[self._engine.info.system]
            self._smooths |= smoothing == "auto" and style.smooth
            detect = _detector(style, options, device, engine, precision)
            closer = None
            if style.closer and _may_look_closer(options):
                closer = _detector(style, options, device, engine, precision, style.closer)
            self._top_down = TopDown(self._engine, detect, options, closer)

    @property
    def score_threshold(self) -> float:
        """People below it are left out. ValueError when it is set to anything but 0 to 1."""
        return self._score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"score_threshold has to be between 0 and 1, not {value}")
        self._score_threshold = float(value)

    @property
    def max_persons(self) -> int:
        """At most so many people are found. ValueError when it is set to less than 1."""
        return self._max_persons

    @max_persons.setter
    def max_persons(self, value: int) -> None:
        if operator.index(value) < 1:
            raise ValueError(f"max_persons has to be 1 or more, not {value}")
        self._max_persons = operator.index(value)

    @property
    def name(self) -> str:
        """Name of the model, ``system_variant``."""
        return self._engine.info.name

    @property
    def trained(self) -> bool:
        """Whether the weights were trained; if not, the people mean nothing."""
        return self._engine.info.trained

    @property
    def skeleton(self) -> Skeleton:
        """Keypoint layout of the people."""
        return skeletons.get(self._engine.info.skeleton)

    @property
    def window(self) -> int:
        """Number of frames that the model looks at, 1 for image models."""
        return self._engine.info.window

    @property
    def reach(self) -> int:
        """Number of frames that the model looks at on either side of the one in question, 0 for image models."""
        return self.window // 2

    @property
    def earlier(self) -> int:
        """Number of frames before the one in question that are of use."""
        follows = self._top_down is not None and self._top_down.follows
        return max(self.reach, int(follows or self._smooths))

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        return self._engine.info.input_size

    @property
    def detector(self) -> str:
        """What finds the boxes for a top-down model; empty for other models."""
        if self._top_down is None:
            return ""
        return self._top_down.detector.name if self._top_down.detector else detection.GIVEN

    @property
    def idle_options(self) -> list[str]:
        """Names of the `TopDownOptions` that have no effect on this model."""
        if self._top_down is None:
            return TopDownOptions.names()
        return self._top_down.idle_options

    @property
    def device(self) -> str:
        """Where the model runs, e.g. ``cpu`` or ``cuda:0``."""
        return self._engine.device

    @property
    def engine(self) -> str:
        """What runs the model, e.g. ``pytorch``."""
        return self._engine.name

    @property
    def engine_reason(self) -> str:
        """Why this engine was taken, and what kept better ones out."""
        return self._engine.reason

    @property
    def engine_status(self) -> str:
        """How far a faster engine is that is being built, in a few words; empty where none is."""
        return self._engine.status

    @property
    def precision(self) -> str:
        """Arithmetic of the model, e.g. ``fp32``."""
        return self._engine.precision

    def __call__(self, image: Image, bgr: bool = False) -> Persons:
        """The people in one picture (H, W, 3) uint8, RGB unless `bgr`. ValueError for any other array."""
        return self.estimate([Frame(stamp=0, image=image, bgr=bgr)])

    def warm_up(self) -> None:
        """Look at a black picture, because engines put off until the first one what takes them seconds, or until the
        first one with so many people in it; and what cannot run here fails now."""
        height, width = self.input_size
        black = np.zeros((height, width, 3), np.uint8)
        if self._top_down is not None:
            self._top_down.warm_up(black)
        else:
            self(black)

    @property
    def building(self) -> bool:
        """Whether a faster engine is being built, in a thread of its own."""
        return self._engine.building

    def close(self) -> None:
        """Give up building a faster engine, see `engine_status`; the one that runs goes on."""
        self._engine.close()

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        """The people in one of a camera's frames, the newest unless another is named.

        Several threads may ask at once, each for frames of its own.

        Args:
            frames: the history, oldest first, with their images; of them, those that lie within `reach` of the frame
                in question are looked at, and `earlier` before it. What the encoder makes of a frame is kept in it, so
                handing over the same frames again costs nothing.
            index: of the frame in question. A video model looks at frames behind it as well as before it; where there
                is none, the nearest takes its place.

        Raises:
            ValueError: the frame in question has no image, or none that `__call__` takes.
            IndexError: there is no such frame.
        """
        asked = frames[index]
        index %= len(frames)
        if asked.image is None:
            raise ValueError("the frame in question has no image")
        check_image(asked.image)
        with nullcontext() if self._engine.concurrent else self._lock:
            for frame in frames:
                if frame.encoder is not self:
                    frame.forget()
                    frame.encoder = self
            persons = self._estimated(frames, index, asked.image)
            if self._smooths:
                before = frames[index - 1] if index else asked
                known = before is not asked and same_size(before, asked)
                persons, asked.looks = steady(persons, before.looks if known else None)
            return persons

    def _estimated(self, frames: Sequence[Frame], index: int, image: Image) -> Persons:
        window = around(frames, index, self.window)
        if self._top_down is not None:
            found = self._top_down.estimate(window, self.max_persons, frames[index - 1] if index else None)
            # Boxes that are known from before may be more than are wanted now.
            return found[found.scores >= self.score_threshold][: self.max_persons]
        for frame in window:
            if frame.features is None and frame.image is not None:
                frame.features = self._encoded(frame.image, frame.bgr)
        outputs = self._engine.decode([frame.features for frame in window])
        height, width = image.shape[:2]
        return postprocessing.persons(
            self._engine.info, outputs, (width, height), self.score_threshold, self.max_persons
        )

    def _encoded(self, image: Image, bgr: bool) -> Any:
        """What the encoder makes of a picture."""
        if self._engine.prepares:
            check_image(image)
            return self._engine.encode_picture(image, bgr)
        return self._engine.encode(network_input(image, self._engine.info, bgr))

    def video(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Persons]]:
        """Every frame of a video with its people, in order; a video model sees the frames behind each, too, so a
        result comes `reach` frames late. What the model made of a frame is let go as soon as it is not needed."""
        history: deque[Frame] = deque(maxlen=self.earlier + 1 + self.reach)
        unanswered = 0
        broken: list[Exception] = []
        for frame in _readable(frames, broken):
            if len(history) == history.maxlen:
                history[0].forget()
            history.append(frame)
            unanswered += 1
            if unanswered > self.reach:
                unanswered -= 1
                yield history[-1 - self.reach], self.estimate(list(history), -1 - self.reach)
        for index in range(-unanswered, 0):
            yield history[index], self.estimate(list(history), index)
        for frame in history:
            frame.forget()
        if broken:
            raise broken[0]


def _readable(frames: Iterable[Frame], broken: list[Exception]) -> Iterator[Frame]:
    """The frames up to where their source breaks off, whose error is put into `broken`: what came before is good, and
    still to be answered."""
    try:
        yield from frames
    except Exception as error:
        broken.append(error)


def _untrained(name: str, engine: str, device: str, precision: str, input_size: tuple[int, int] | None) -> Engine:
    if engine not in ("auto", "pytorch"):
        raise EngineError(f"engine {engine}: untrained weights are no file that it could run; use auto or pytorch")
    import torch

    from pave_ros.engines.pytorch import PyTorchEngine

    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.create(name)
    untrained = PyTorchEngine(model, device, precision, input_size)
    untrained.reason = "untrained weights are no file that another could run"
    return untrained


def _may_look_closer(options: TopDownOptions) -> bool:
    """Whether the model's own detector is taken, with another size of input too, which an exported file has not."""
    own = options.detector == "auto" and Path(options.detector_weights).suffix in ("", *CHECKPOINTS)
    return own and options.closer_look


def _detector(
    style: Style,
    options: TopDownOptions,
    device: str,
    engine: str,
    precision: str,
    input_size: tuple[int, int] | None = None,
) -> Detector | None:
    """What finds the boxes for a top-down model; None where they come with the pictures."""
    name = style.detector if options.detector == "auto" else options.detector
    weights = options.detector_weights
    if name == detection.GIVEN:
        return None
    try:
        models.split_name(name)
    except ValueError:
        return detection.open_detector(name, weights, device)
    find = Estimator(
        name,
        weights,
        device,
        engine=engine,
        input_size=input_size,
        precision=precision,
        score_threshold=options.box_threshold,
        max_persons=MOST_BOXES,
    )
    return PoseDetector(find.name, find)
