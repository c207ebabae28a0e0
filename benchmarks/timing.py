"""What the benchmarks share to take the time."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes, by this clock; `time.process_time` counts what the processor did for this process."""
    start = clock()
    call()
    return clock() - start
