"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pave_ros.cli.console import introduce

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator

Model = Annotated[str, typer.Option(help="Model, see `pave_ros models`.")]
WEIGHTS_HELP = "auto (those of the package, or published), a path, a name of `weights list`, or random (untrained)."
DEVICE_HELP = "auto, cpu, cuda or cuda:N."
Weights = Annotated[str, typer.Option(help=WEIGHTS_HELP)]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
Engine = Annotated[str, typer.Option(help="What runs the model; auto takes the best that is installed.")]
Precision = Annotated[
    str, typer.Option(help="What it computes in: auto, fp32, fp16, bf16, half or int8, as the engine and the file do.")
]
InputSize = Annotated[
    str, typer.Option(help="Input of the network, HEIGHTxWIDTH or one number for both; empty: the model's own.")
]
Detector = Annotated[
    str,
    typer.Option(help="Of top-down models: what finds the people: auto, a detector, an .onnx file or a pose model."),
]
DetectorWeights = Annotated[str, typer.Option(help="Of the detector: auto, a path, or random (untrained).")]
BoxThreshold = Annotated[float, typer.Option(min=0, max=1, help="Of top-down models: leave out boxes below.")]
Decoding = Annotated[str, typer.Option(help="Of top-down models' heatmaps: auto (as published), quarter, dark or oks.")]
FlipTest = Annotated[bool, typer.Option("--flip-test", help="Top-down models look at every crop mirrored too.")]
Reuse = Annotated[
    bool, typer.Option(help="Top-down video models encode every crop once, or cut it out of all frames anew.")
]
DetectEvery = Annotated[
    int,
    typer.Option(
        min=0, help="Frames from one in which the embedded model looks for people to the next; 0: its own choice."
    ),
]
Smoothing = Annotated[
    str,
    typer.Option(help="Of keypoints in videos: always, never, or auto (the embedded model's, others as published)."),
]
CloserLook = Annotated[bool, typer.Option(help="The embedded model looks for small people too.")]


def refuse(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """BadParameter where one of these options was given, which says nothing here."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{reason}; leave it out", param_hint="--" + name.replace("_", "-"))


def open_estimator(context: typer.Context, **changes: Any) -> Estimator:
    """The estimator that a command's options ask for, introduced to the user; BadParameter for an option that does
    nothing with that model.

    Args:
        context: of the command, which has all the options of this file.
        changes: values that take the place of options, by name.
    """
    from pave_ros.estimator import Estimator
    from pave_ros.topdown.options import TopDownOptions

    given = {**context.params, **changes}
    shared = ("model", "weights", "device", "engine", "precision", "score_threshold", "max_persons", "smoothing")
    estimator = Estimator(
        **{name: given[name] for name in shared},
        input_size=parse_size(given["input_size"]),
        top_down=TopDownOptions(**{name: given[name] for name in TopDownOptions.names()}),
    )
    refuse_idle(context, estimator)
    introduce(estimator)
    return estimator


def refuse_idle(context: typer.Context, estimator: Estimator) -> None:
    """BadParameter where an option was given that says nothing of this model."""
    reason = (
        f"it does nothing with {estimator.name}" if estimator.detector else f"{estimator.name} looks at whole pictures"
    )
    refuse(context, estimator.idle_options, reason)


def parse_size(text: str) -> tuple[int, int] | None:
    """Height and width out of an `InputSize`; None where it is empty. BadParameter when it is neither."""
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is neither HEIGHTxWIDTH nor one number", param_hint="--input-size")
    return int(parts[0]), int(parts[-1])
