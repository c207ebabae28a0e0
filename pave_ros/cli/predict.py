"""`pave_ros predict`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pave_ros.cli import options
from pave_ros.cli.console import err, print_error, progress_bars
from pave_ros.models import DEFAULT

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator
    from pave_ros.predict import Job


INTERRUPTED = 130  # exit code, as a shell has it


class Format(str, Enum):
    """Kinds of results, the keys of `pave_ros.sinks.FORMATS`."""

    video = "video"
    jsonl = "jsonl"
    coco = "coco"


def predict(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, folders of pictures, videos, recordings (bags), or synthetic:frames=100.", metavar="FILES"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; made if missing.")],
    model: options.Model = DEFAULT,
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    input_size: options.InputSize = "",
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out people below; for COCO's evaluation give 0.")
    ] = 0.3,
    max_persons: Annotated[int, typer.Option(min=1, help="At most so many people in a picture, the best.")] = 20,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            help="video: annotated copies, of pictures too; jsonl: a line a picture; coco: "
            "keypoint results. May be repeated; without it video and jsonl.",
        ),
    ] = None,  # fmt: skip
    sequence: Annotated[
        bool, typer.Option("--sequence", help="A folder's pictures are the frames of one video.")
    ] = False,
    track: Annotated[bool, typer.Option(help="Give the people of videos numbers that stay.")] = True,
    detector: options.Detector = "auto",
    detector_weights: options.DetectorWeights = "auto",
    box_threshold: options.BoxThreshold = 0.2,
    decoding: options.Decoding = "auto",
    flip_test: options.FlipTest = False,
    reuse_features: options.Reuse = True,
    detect_every: options.DetectEvery = 0,
    closer_look: options.CloserLook = True,
    smoothing: options.Smoothing = "auto",
) -> None:
    """Find the people in pictures and videos."""
    from pave_ros.predict import jobs_of
    from pave_ros.sinks import make_sinks

    jobs = jobs_of(files, sequence)
    estimator = options.open_estimator(context)  # with the options above
    names = [kind.value for kind in formats or (Format.video, Format.jsonl)]
    _predict(jobs, estimator, make_sinks(names, output, jobs), track)


def _predict(jobs: list[Job], estimator: Estimator, sinks: list[Any], track: bool) -> None:
    """Run with a progress bar, then say what was done; exit code 1 when a file failed."""
    from time import monotonic

    from pave_ros.predict import predict as run
    from pave_ros.video import Source

    start = monotonic()
    numbers = {job.name: number for number, job in enumerate(jobs)}
    with progress_bars() as progress:
        whole = progress.add_task("files", total=len(jobs))
        video = progress.add_task("", visible=False)

        def opened(job: Job, source: Source) -> None:
            progress.update(whole, completed=numbers[job.name])
            progress.reset(video, description=source.name, total=source.length, visible=job.moving)

        summary, written = run(
            jobs, estimator, sinks, track=track, opened=opened, advanced=lambda job: progress.advance(video)
        )
        if not summary.interrupted:
            progress.update(whole, completed=len(jobs))
        progress.update(video, visible=False)
    seconds = monotonic() - start
    err.print(
        f"{summary.frames} pictures of {summary.files} files, {summary.persons} people, {seconds:.1f} s, "
        f"{summary.frames / max(seconds, 1e-9):.1f} pictures a second"
    )
    for path in written if len(written) <= 10 else [*written[:9], f"... and {len(written) - 9} more"]:
        print(path)
    for problem in summary.problems:
        print_error(problem)
    if summary.interrupted:
        print_error("interrupted: the results are those of the files that were finished before")
        raise typer.Exit(INTERRUPTED)
    if summary.problems:
        raise typer.Exit(1)
