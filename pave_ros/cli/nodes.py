"""`pave_ros camera | node | demo`: what runs ROS nodes. What follows --ros-args is in the context."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pave_ros.cli import options
from pave_ros.cli.console import err
from pave_ros.models import DEFAULT
from pave_ros.ros import end_quietly


def camera(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(help="Video file, recording (bag), webcam (0 or /dev/video0), folder of pictures, picture, "
                       "stream address, or synthetic, with options: synthetic:seed=3,persons=5,width=1280,height=720",
                       show_default="synthetic"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Pictures a second; 0: the source's own.", show_default="0")
    ] = None,
    loop: Annotated[
        bool | None,
        typer.Option("--loop/--once", help="Start over at the end of the source, or stop.", show_default="loop"),
    ] = None,
    frame_id: Annotated[
        str | None, typer.Option(help="Optical frame of the pictures.", show_default="camera_optical_frame")
    ] = None,
    compressed: Annotated[bool, typer.Option("--compressed", help="Publish image/compressed (JPEG).")] = False,
) -> None:  # fmt: skip
    """Be a camera: publish a video, a webcam, pictures or the synthetic scene as ROS images."""
    end_quietly()
    from pave_ros.ros.camera import run_camera

    given = {"source": source, "rate": rate, "loop": loop, "frame_id": frame_id}
    given["image_transport"] = "compressed" if compressed else None
    # What is not said here may stand behind --ros-args.
    raise typer.Exit(run_camera(context.obj, **{name: value for name, value in given.items() if value is not None}))


def node(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model, see `pave_ros models`.")] = None,
    weights: Annotated[str | None, typer.Option(help=options.WEIGHTS_HELP)] = None,
    device: Annotated[str | None, typer.Option(help=options.DEVICE_HELP)] = None,
    image: Annotated[str | None, typer.Option(help="Topic of the images.")] = None,
    depth: Annotated[
        str | None, typer.Option(help="Topic of depth images registered to the images, for keypoints in metres.")
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Parameters as YAML, see config/pose.yaml.")
    ] = None,
) -> None:
    """Be the pose node: subscribe images, publish the people in them on `poses`."""
    end_quietly()
    from pave_ros.ros.node import main as run_node

    arguments = ["--ros-args"]
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    if image is not None:
        arguments += ["-r", f"image:={image}"]
    if depth is not None:
        arguments += ["-r", f"depth:={depth}", "-p", "use_depth:=true"]
    for name, value in (("model", model), ("weights", weights), ("device", device)):
        if value is not None:
            arguments += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]  # YAML, in which words stay words
    raise typer.Exit(run_node([*arguments, "--", *context.obj]))


def demo(
    context: typer.Context,
    video: Annotated[
        str,
        typer.Option(
            help="What the camera shows: a video file, a recording (bag), a webcam, a folder of pictures or synthetic."
        ),
    ] = "synthetic:seed=3",
    seconds: Annotated[float, typer.Option(min=1, help="How long; a shorter video is repeated.")] = 10.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the annotated video and the contact sheet.")
    ] = Path("out/demo"),
    rate: Annotated[float, typer.Option(min=0, help="Pictures a second; 0: the source's own.")] = 0.0,
    model: options.Model = DEFAULT,
    weights: Annotated[
        str | None, typer.Option(help=f"{options.WEIGHTS_HELP} Without it: the published file, else random.")
    ] = None,
    device: options.Device = "auto",
    input_size: options.InputSize = "",
) -> None:
    """Show everything at work: camera and node in two processes, a live status line, a video at the end."""
    size = options.parse_size(input_size)
    from pave_ros.video import open_source

    open_source(video).close()  # whatever is wrong with it is said before weights are fetched
    from pave_ros.ros.demo import run

    code = run(
        source=video,
        seconds=seconds,
        output=output,
        rate=rate,
        model=model,
        weights=weights or _demo_weights(model),
        device=device,
        input_size=size,
        ros_args=context.obj,
    )
    raise typer.Exit(code)


def _demo_weights(model: str) -> str:
    """The published weights, or random ones where those cannot be had: the demo shows the way of the data then."""
    from pave_ros import models as known_models
    from pave_ros.checkpoints import files

    try:
        return str(files.resolve("auto", "_".join(known_models.split_name(model))))
    except files.WeightsError as error:
        err.print(f"[bold yellow]No trained weights:[/] {escape(str(error))}", soft_wrap=True)
        err.print("[bold yellow]The demo goes on with random weights: all that is shown is the way of the data.[/]")
        return files.RANDOM
