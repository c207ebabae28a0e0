"""What is to end a process in good order."""

from __future__ import annotations

import signal


def interruptions() -> list[signal.Signals]:
    """Ctrl-C, `kill`, and a terminal that is closed, unless the process was told to outlive that (nohup)."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]
