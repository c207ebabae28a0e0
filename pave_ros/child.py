"""Modules of this package as processes of their own."""

from __future__ import annotations

import sys

# Not `python -m`, which looks for modules in the current folder first, where a user's random.py or queue.py may lie.
_RUN = (
    "import sys; sys.path = [folder for folder in sys.path if folder]; from runpy import run_module; "
    "run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, named from the top, with this Python."""
    return [sys.executable, "-c", _RUN, module, *arguments]
