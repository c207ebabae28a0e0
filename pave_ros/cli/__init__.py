"""What a person types: `pave_ros camera | predict | demo | node | evaluate | train | weights | models | export`.

Everything heavy is imported inside the command that needs it, so that help is there at once.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from pave_ros import __version__
from pave_ros.cli import evaluate, export, models, nodes, predict, train, weights
from pave_ros.cli.console import print_error
from pave_ros.interruptions import interruptions

DEBUG_VARIABLE = "PAVE_ROS_DEBUG"

app = typer.Typer(
    name="pave_ros",
    help="Multi-person pose estimation in video: from camera images to the people in them.",
    epilog="Commands that run ROS nodes take ROS arguments at the end: --ros-args -r image:=/camera/image_raw",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    predict.predict,
    evaluate.evaluate,
    train.train,
    nodes.camera,
    nodes.node,
    nodes.demo,
    models.models,
    export.export,
):
    app.command()(command)
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line: every error is one clear line on stderr and the exit code 1; wrong usage gives 2."""
    # All alike, whatever the script that started it has made of them: what is half done is cleared away. Nodes have
    # ways of their own.
    for each in interruptions():
        signal.signal(each, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # Files may have names that are not UTF-8.
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() == "utf-8":
            stream.reconfigure(errors="surrogateescape")
    arguments = sys.argv[1:]
    # What follows --ros-args is for ROS; its -p and -r must not be taken for options of ours.
    split = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    try:
        app(args=arguments[:split], obj=arguments[split:], prog_name="pave_ros")
    except (ValueError, OSError, RuntimeError, KeyError, ModuleNotFoundError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _fail(_told(error))


def _told(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:  # what runs exported files needs no torch, the rest does
        from pave_ros.engines.choice import CANDIDATES

        package = error.name.partition(".")[0]
        cures = (f"pip install {engine.package}" for engine in CANDIDATES if engine.module == package)
        cure = next(cures, "pip install . brings all requirements")
        return f"this needs the package {package}, which is not installed here; {cure}"
    if isinstance(error, KeyError) and error.args:  # str() would be the repr of its message
        return str(error.args[0])
    return str(error) or type(error).__name__


def _fail(message: str) -> None:
    print_error(message)
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pave_ros {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show where an error comes from; also {DEBUG_VARIABLE}=1.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
