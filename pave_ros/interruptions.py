"""What is to end a process in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def interruptions() -> list[signal.Signals]:
    """Ctrl-C, `kill`, and a terminal that is closed, unless the process was told to outlive that (nohup)."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


@contextmanager
def uninterrupted() -> Iterator[dict[signal.Signals, Any]]:
    """Let interruptions wait for the end of what must be done whole. Yields what handles them afterwards.

    Blocking them for this thread would not do, for another one may get them; Python handles all in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in interruptions()}
    try:
        yield handlers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for interruption in came:
            signal.raise_signal(interruption)
