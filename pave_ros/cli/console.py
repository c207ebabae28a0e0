"""Where the command line writes to: results to stdout, everything else to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

    from pave_ros.estimator import Estimator

out = Console()
err = Console(stderr=True, highlight=False)


def print_error(message: str) -> None:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def wide() -> Console:
    """For tables, whose lines are cut nowhere, also in a pipe."""
    return Console(width=max(out.width, 160), highlight=False)


def progress_bars() -> Progress:
    """Bars for long work: what, how much of it is done, and how long the rest will take."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
    )


def introduce(estimator: Estimator) -> None:
    """Say what runs, and what may be expected of it."""
    height, width = estimator.input_size
    err.print(
        f"{estimator.name} in {estimator.engine} on {estimator.device}, input {height}x{width}, "
        f"weights {estimator.weights}",
        soft_wrap=True,
    )
    if not estimator.trained:
        err.print(
            "[bold yellow]These weights are random: the data path is real, but the skeletons mean nothing.[/] "
            "Most likely nobody is found at all; --score-threshold 0 shows what the network answers."
        )
