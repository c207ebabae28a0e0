"""An engine that serves with another one until the better one is built, and then goes over to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros.engines.base import Engine, Outputs

log = logging.getLogger(__name__)


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
        build: returns the better engine; is given a function that it may tell how far it is, in a few words.
        stop: ends that before its time.
    """

    def __init__(
        self,
        first: Engine,
        name: str,
        build: Callable[[Callable[[str], None]], Engine],
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._better = first, name
        self._stop, self._closed = stop, False
        self._next: Engine | None = None
        self._started = monotonic()
        self._take(first, first.reason)
        self._tell("is being built")
        self._thread = threading.Thread(target=self._work, args=(build,), name="engine build", daemon=True)
        self._thread.start()

    def _take(self, engine: Engine, reason: str) -> None:
        self._engine, self.reason = engine, reason
        self.name, self.device, self.precision, self.info = engine.name, engine.device, engine.precision, engine.info

    def _tell(self, text: str) -> None:
        self._news, self._ended = text, None if text.startswith("is ") else monotonic()

    @property
    def status(self) -> str:  # type: ignore[override]
        elapsed = (self._ended or monotonic()) - self._started
        return f"{self._better} {self._news} ({elapsed:.0f} s)"

    def _work(self, build: Callable[[Callable[[str], None]], Engine]) -> None:
        try:
            engine = build(lambda text: self._tell(f"is being built: {text}"))
            if engine.info != self.info:
                raise ValueError(f"it is made for another model or input: {engine.info}")
            engine.warm_up()
        except Exception as error:  # Whatever a library raises, the first engine still serves.
            if self._closed:
                return
            self._tell(f"could not be built: {error}")
            log.warning(self.status)
            return
        self._tell("was built and takes over with the next picture")
        self._next = engine

    def close(self) -> None:
        self._closed = True
        self._stop()

    @property
    def building(self) -> bool:  # type: ignore[override]
        return self._thread.is_alive()

    @property
    def concurrent(self) -> bool:  # type: ignore[override]
        return not self._may_switch and self._engine.concurrent

    def encode(self, images: npt.NDArray[np.float32]) -> _Encoded:
        if self._next is not None:
            self._tell("was built and has taken over")
            self._take(self._next, f"built while {self.name} served")
            self._next = None
            log.info(self.status)
        kept = images if self._may_switch else None
        return _Encoded(self._engine, self._engine.encode(images), kept)

    @property
    def prepares(self) -> bool:
        return self._engine.prepares and not self._may_switch

    @property
    def _may_switch(self) -> bool:
        return self.building or self._next is not None  # in this order: the thread sets the one and then ends

    def encode_picture(self, image: npt.NDArray[np.uint8], bgr: bool = False) -> _Encoded:
        return _Encoded(self._engine, self._engine.encode_picture(image, bgr), None)

    def decode(self, window: Sequence[_Encoded]) -> Outputs:
        return self._engine.decode([self._current(encoded) for encoded in window])

    def _current(self, encoded: _Encoded) -> Any:
        """The features, in the form of the engine that runs now."""
        if encoded.engine is not self._engine:
            assert encoded.images is not None  # They were kept because this might come.
            encoded.features = self._engine.encode(encoded.images)
            encoded.engine, encoded.images = self._engine, None
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
        return _Encoded(self._engine, self._engine.stack([self._current(encoded) for encoded in features]), images)
