"""An engine that serves with another one until the better one is built, and then goes over to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros.engines.base import Engine, Outputs

log = logging.getLogger(__name__)

Size = tuple[int, int]


@dataclass
class _Encoded:
    """Features, whose engine made them, and while another is being built the pictures that they were made of."""

    engine: Engine
    features: Any
    images: npt.NDArray[np.float32] | None

    @property
    def nbytes(self) -> int:
        """Memory that they take, bytes."""
        return sum(int(part.nbytes) for part in (*self.features, *(() if self.images is None else (self.images,))))


class SwitchingEngine(Engine):
    """Runs `first` until `build`, which works in a thread of its own, has returned a better engine for the same model,
    which is then warmed up.

    Features that the first one made are made anew when they are needed after the change, so a video goes on without a
    gap. When the build fails, the first engine goes on; `status` says why.

    Args:
        first: what serves meanwhile.
        name: of the engine that is being built.
        build: returns the better engine; is given a function that it may tell how far it is, in a few words, and the
            (height, width) of the pictures that it is for, None for all.
        stop: ends that before its time.
        for_one_size: `first` takes pictures of any size, the better engine of one. It is built for the first size that
            comes twice, for that is a stream; pictures of another size stay with `first`.
    """

    def __init__(
        self,
        first: Engine,
        name: str,
        build: Callable[[Callable[[str], None], Size | None], Engine],
        stop: Callable[[], None] = lambda: None,
        for_one_size: bool = False,
    ) -> None:
        self._better, self._build = name, build
        self._stop, self._closed = stop, False
        self._next: Engine | None = None
        self._thread: threading.Thread | None = None
        self._size: Size | None = None  # of the pictures that the better engine is for; None for all
        self._last: Size | None = None
        self._others = first if for_one_size else None  # What pictures of other sizes stay with.
        self.info = first.info
        self._take(first, first.reason)
        if for_one_size:
            self._started = monotonic()
            self._tell("is going to be built for the size in which pictures come")
        else:
            self._begin(None)

    def _begin(self, size: Size | None) -> None:
        self._started = monotonic()
        self._tell("is being built")
        self._thread = threading.Thread(target=self._work, args=(size,), name="engine build", daemon=True)
        self._size = size
        self._thread.start()

    def _take(self, engine: Engine, reason: str) -> None:
        self._engine, self.reason = engine, reason
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision

    def _tell(self, text: str, ended: bool = False) -> None:
        self._news, self._ended = text, monotonic() if ended else None

    @property
    def status(self) -> str:  # type: ignore[override]
        elapsed = (self._ended or monotonic()) - self._started
        return f"{self._better} {self._news} ({elapsed:.0f} s)"

    def _work(self, size: Size | None) -> None:
        expected = self.info if size is None else replace(self.info, input_size=size, resize="stretch")
        try:
            engine = self._build(lambda text: self._tell(f"is being built: {text}"), size)
            if engine.info != expected:
                raise ValueError(f"it is made for another model or input: {engine.info}")
            engine.warm_up()
        except Exception as error:  # Whatever a library raises, the first engine still serves.
            if self._closed:
                return
            self._tell(f"could not be built: {error}", ended=True)
            log.warning(self.status)
            return
        self._tell("was built and takes over with the next picture", ended=True)
        self._next = engine

    def close(self) -> None:
        self._closed = True
        self._stop()

    @property
    def building(self) -> bool:  # type: ignore[override]
        return self._thread is not None and self._thread.is_alive()

    @property
    def concurrent(self) -> bool:  # type: ignore[override]
        others = self._others or self._engine
        return not self._may_switch and self._engine.concurrent and others.concurrent

    def encode(self, images: npt.NDArray[np.float32]) -> _Encoded:
        size = (images.shape[2], images.shape[3])
        if self._waits and size == self._last:
            self._begin(size)
        self._last = size
        if self._next is not None:
            self._tell("was built and has taken over")
            self._take(self._next, f"built while {self.name} served")
            self._next = None
            log.info(self.status)
        engine = self._engine_for(images)
        return _Encoded(engine, engine.encode(images), images if self._may_switch else None)

    def _engine_for(self, images: npt.NDArray[np.float32]) -> Engine:
        return self._engine if self._others is None or images.shape[2:] == self._size else self._others

    @property
    def prepares(self) -> bool:
        return self._engine.prepares and not self._may_switch

    @property
    def _waits(self) -> bool:
        """For a size of pictures."""
        return self._thread is None and not self._closed

    @property
    def _may_switch(self) -> bool:
        # In this order: the thread sets the one and then ends.
        return self._waits or self.building or self._next is not None

    def encode_picture(self, image: npt.NDArray[np.uint8], bgr: bool = False) -> _Encoded:
        return _Encoded(self._engine, self._engine.encode_picture(image, bgr), None)

    def decode(self, window: Sequence[_Encoded]) -> Outputs:
        engine = self._current(window[-1])
        return engine.decode([self._features(encoded, engine) for encoded in window])

    def _current(self, encoded: _Encoded) -> Engine:
        """The engine that runs now for such pictures as these features are of."""
        return encoded.engine if encoded.images is None else self._engine_for(encoded.images)

    def _features(self, encoded: _Encoded, engine: Engine) -> Any:
        """Those in the form of this engine."""
        if encoded.engine is not engine:
            assert encoded.images is not None  # They were kept because this might come.
            encoded.features = engine.encode(encoded.images)
            encoded.engine, encoded.images = engine, None
        return encoded.features

    def split(self, features: _Encoded) -> list[_Encoded]:
        images = features.images
        return [
            _Encoded(features.engine, one, None if images is None else images[i : i + 1])
            for i, one in enumerate(features.engine.split(features.features))
        ]

    def stack(self, features: Sequence[_Encoded]) -> _Encoded:
        kept = [encoded.images for encoded in features if encoded.images is not None]
        images = np.concatenate(kept) if len(kept) == len(features) else None
        engine = self._current(features[-1])
        return _Encoded(engine, engine.stack([self._features(encoded, engine) for encoded in features]), images)
