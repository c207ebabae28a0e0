"""Time that goes on whatever becomes of the simulation's clock, or of the system's when somebody sets it."""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def at_most_every(seconds: float) -> dict[str, Any]:
    """Arguments of a logger, for a line that may be wanted much more often. rclpy's own choice is the system's clock:
    where that is set back, the line would not be seen until it is as late again."""
    return {"throttle_duration_sec": seconds, "throttle_time_source_type": STEADY}
