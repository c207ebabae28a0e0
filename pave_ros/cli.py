"""What a person types: `pave_ros camera | predict | demo | node | evaluate | train | weights | models | export`.

Everything heavy is imported inside the command that needs it, so that help is there at once.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pave_ros import __version__
from pave_ros.models import DEFAULT

if TYPE_CHECKING:
    from pave_ros.datasets import Dataset
    from pave_ros.estimator import Estimator
    from pave_ros.evaluation.boxes import BoxesOf
    from pave_ros.evaluation.evaluate import Run
    from pave_ros.models.base import PoseModel
    from pave_ros.predict import Job

DEBUG_VARIABLE = "PAVE_ROS_DEBUG"
CALIBRATION = 300  # Pictures that 8 bits are set up on, at most.

app = typer.Typer(
    name="pave_ros",
    help="Multi-person pose estimation in video: from camera images to the people in them.",
    epilog="Commands that run ROS nodes take ROS arguments at the end: --ros-args -r image:=/camera/image_raw",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(
    help="Published weights: what is known, fetch it, find it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(weights_app, name="weights")

out = Console()
err = Console(stderr=True, highlight=False)


class Format(str, Enum):
    """Kinds of results, the keys of `pave_ros.predict.FORMATS`."""

    video = "video"
    jsonl = "jsonl"
    coco = "coco"


class ExportFormat(str, Enum):
    """What `export` writes, the keys of `pave_ros.engines.write.SUFFIXES`."""

    onnx = "onnx"
    openvino = "openvino"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


class ExportPrecision(str, Enum):
    """What `export` computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def main() -> None:
    """Run the command line: every error is one clear line on stderr and the exit code 1; wrong usage gives 2."""
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
        package = error.name.partition(".")[0]
        return f"this needs the package {package}, which is not installed here; pip install . brings all requirements"
    if isinstance(error, KeyError) and error.args:  # str() would be the repr of its message
        return str(error.args[0])
    return str(error) or type(error).__name__


def _fail(message: str) -> None:
    _print_error(message)
    sys.exit(1)


def _print_error(message: str) -> None:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


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


Model = Annotated[str, typer.Option(help="Model, see `pave_ros models`.")]
WEIGHTS_HELP = "auto (those of the package, or published), a path, a name of `weights list`, or random (untrained)."
DEVICE_HELP = "auto, cpu, cuda or cuda:N."
Weights = Annotated[str, typer.Option(help=WEIGHTS_HELP)]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
InputSize = Annotated[
    str, typer.Option(help="Input of the network, HEIGHTxWIDTH or one number for both; empty: the model's own.")
]


Detector = Annotated[
    str,
    typer.Option(help="Of top-down models: what finds the people: auto, a detector, an .onnx file or a pose model."),
]
DetectorWeights = Annotated[str, typer.Option(help="Of the detector: auto, a path, or random (untrained).")]
BoxThreshold = Annotated[float, typer.Option(min=0, max=1, help="Of top-down models: leave out boxes below.")]
Decoding = Annotated[str, typer.Option(help="Of top-down models' heatmaps: auto (as published), quarter or dark.")]
FlipTest = Annotated[bool, typer.Option("--flip-test", help="Top-down models look at every crop mirrored too.")]
Reuse = Annotated[
    bool, typer.Option(help="Top-down video models encode every crop once, or cut it out of all frames anew.")
]


def _input_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is neither HEIGHTxWIDTH nor one number", param_hint="--input-size")
    return int(parts[0]), int(parts[-1])


@app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders of pictures, videos, or synthetic:frames=100.", metavar="FILES"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; made if missing.")],
    model: Model = DEFAULT,
    weights: Weights = "auto",
    device: Device = "auto",
    input_size: InputSize = "",
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
    detector: Detector = "auto",
    detector_weights: DetectorWeights = "auto",
    box_threshold: BoxThreshold = 0.2,
    decoding: Decoding = "auto",
    flip_test: FlipTest = False,
    reuse_features: Reuse = True,
) -> None:
    """Find the people in pictures and videos."""
    from pave_ros.estimator import Estimator
    from pave_ros.predict import jobs_of, make_sinks
    from pave_ros.topdown import TopDownOptions

    jobs = jobs_of(files, sequence)
    size = _input_size(input_size)
    estimator = Estimator(
        model,
        weights,
        device,
        input_size=size,
        score_threshold=score_threshold,
        max_persons=max_persons,
        top_down=TopDownOptions(detector, detector_weights, box_threshold, decoding, flip_test, reuse_features),
    )
    _introduce(estimator)
    names = [kind.value for kind in formats or (Format.video, Format.jsonl)]
    _predict(jobs, estimator, make_sinks(names, output, jobs), track)


def _introduce(estimator: Estimator) -> None:
    """Say what runs, and what may be expected of it."""
    height, width = estimator.input_size
    err.print(
        f"{estimator.name} in {estimator.engine} on {estimator.device}, input {width}x{height}, "
        f"weights {estimator.weights}",
        soft_wrap=True,
    )
    if not estimator.trained:
        err.print(
            "[bold yellow]These weights are random: the data path is real, but the skeletons mean nothing.[/] "
            "Most likely nobody is found at all; --score-threshold 0 shows what the network answers."
        )


def _predict(jobs: list[Job], estimator: Estimator, sinks: list[Any], track: bool) -> None:
    """Run with a progress bar, then say what was done; exit code 1 when a file failed."""
    from time import monotonic

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pave_ros.predict import predict as run
    from pave_ros.video import Source

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = monotonic()
    with Progress(*columns, console=err) as progress:
        whole = progress.add_task("files", total=len(jobs))
        video = progress.add_task("", visible=False)

        def opened(job: Job, source: Source) -> None:
            progress.update(whole, completed=jobs.index(job))
            progress.reset(video, description=source.name, total=source.length, visible=job.moving)

        summary, written = run(
            jobs, estimator, sinks, track=track, opened=opened, advanced=lambda job: progress.advance(video)
        )
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
        _print_error(problem)
    if summary.problems:
        raise typer.Exit(1)


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="coco, crowdpose, macaque, ap10k, posetrack17, posetrack18, "
                                              "posetrack21, jhmdb, lsp, lspet or synthetic.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set as published; the synthetic scene needs none.")]
    = Path("."),
    split: Annotated[str, typer.Option(help="Part of the data set, as it names it.")] = "val",
    model: Model = DEFAULT,
    weights: Weights = "auto",
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help="What runs the model; auto takes the best that is installed.")] = "auto",
    input_size: InputSize = "",
    results: Annotated[Path | None, typer.Option(help="Score this results file in COCO's format instead of a model.",
                                                 exists=True, dir_okay=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures at most, evenly spread.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the numbers to this JSON file.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of the worst pictures, with --pictures.")] = 0,
    pictures: Annotated[Path | None, typer.Option(help="Folder for them; made if missing.")] = None,
    boxes: Annotated[str, typer.Option(help="Of top-down models: where the people are; detector, ground-truth, or a "
                                            "detections file in COCO's format.")] = "detector",
    detector: Detector = "auto",
    detector_weights: DetectorWeights = "auto",
    box_threshold: BoxThreshold = 0.2,
    decoding: Decoding = "auto",
    flip_test: FlipTest = False,
    reuse_features: Reuse = True,
) -> None:  # fmt: skip
    """Score a model, or a results file, on a data set, in the numbers of the papers."""
    if bool(worst) != (pictures is not None):
        raise typer.BadParameter("--worst says how many and --pictures where to; give both", param_hint="--worst")
    from pave_ros.datasets import open_dataset
    from pave_ros.evaluation import evaluate as evaluation
    from pave_ros.evaluation.score import score

    data = open_dataset(dataset, root, split)
    indices = evaluation.part_of(data, limit)
    about: dict[str, Any] = {"dataset": dataset, "split": split}
    if results is not None:
        done = evaluation.from_results(data, indices, results)
        about["results_file"] = str(results)
    else:
        from pave_ros.detection import GIVEN
        from pave_ros.estimator import Estimator
        from pave_ros.topdown import TopDownOptions

        given = _boxes(boxes, data)
        options = TopDownOptions(
            GIVEN if given else detector, detector_weights, box_threshold, decoding, flip_test, reuse_features
        )
        # Average precision looks at everybody, down to the least sure.
        estimator = Estimator(
            model, weights, device, engine=engine, input_size=_input_size(input_size), score_threshold=0.0,
            max_persons=100, top_down=options,
        )  # fmt: skip
        _introduce(estimator)
        about.update(evaluation.describe(estimator))
        if given:
            if not estimator.detector:
                raise typer.BadParameter(f"{estimator.name} takes no boxes", param_hint="--boxes")
            about["boxes"] = boxes
        done = _run_evaluation(data, indices, estimator, given)
    numbers = score(data.name, done.samples, done.predictions)
    for number in numbers:
        out.print(number.table())
    if output is not None:
        evaluation.write_report(output, numbers, done, about)
        print(output)
    if pictures is not None:
        for path in evaluation.write_worst(pictures, done, worst):
            print(path)


def _boxes(text: str, data: Dataset) -> BoxesOf | None:
    """Where the people are, if not a detector is to say it."""
    from pave_ros.evaluation.boxes import GROUND_TRUTH, annotated_boxes, boxes_in

    if text == "detector":
        return None
    if text == GROUND_TRUTH:
        return annotated_boxes
    if not Path(text).is_file():
        raise typer.BadParameter(f"{text!r} is neither detector, {GROUND_TRUTH} nor a file", param_hint="--boxes")
    return boxes_in(Path(text), data)


def _run_evaluation(data: Dataset, indices: list[int], estimator: Estimator, boxes: BoxesOf | None) -> Run:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pave_ros.evaluation.evaluate import run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(data.name, total=len(indices))
        return run(data, indices, estimator, lambda: progress.advance(task), boxes)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Settings, see config/training and docs/training.md.")],
) -> None:
    """Train a model; goes on where an earlier run with the same output folder stopped. Several processes:
    torchrun --nproc_per_node=2 -m pave_ros.cli train CONFIG."""
    from functools import partial

    from pave_ros.training.clips import TrainingClips, clip_samples
    from pave_ros.training.config import TrainingConfig
    from pave_ros.training.crops import TrainingCrops, crop_samples
    from pave_ros.training.sources import Mixture, TrainingScenes, ValidationPictures
    from pave_ros.training.trainer import Trainer
    from pave_ros.training.validation import validate

    settings = TrainingConfig.read(config)
    common = {"input_size": settings.size, "seed": settings.seed, "skeleton": settings.skeleton}
    samples: TrainingClips | TrainingCrops | TrainingScenes
    if "clips" in settings.data:
        samples = clip_samples(settings.data, common)
    elif "crops" in settings.data:
        samples = crop_samples(settings.data, common)
    else:
        samples = TrainingScenes(Mixture.from_dict({**common, **settings.data}))
    check = partial(validate, pictures=ValidationPictures(samples.mixture), limit=settings.validate_limit)
    trainer = Trainer(settings, samples, validate=check if samples.mixture.weights else None)
    if trainer.step and trainer.process.first:
        out.print(f"going on after step {trainer.step}")
    weights = trainer.run()
    if trainer.process.first:
        out.print(f"weights: {weights}", soft_wrap=True)


@app.command()
def camera(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="Video file, webcam (0 or /dev/video0), folder of pictures, picture, stream address, or "
                       "synthetic, with options: synthetic:seed=3,persons=5,width=1280,height=720"),
    ] = "synthetic",
    rate: Annotated[float, typer.Option(min=0, help="Pictures a second; 0: the source's own.")] = 0.0,
    loop: Annotated[bool, typer.Option("--loop/--once", help="Start over at the end of the source, or stop.")] = True,
    frame_id: Annotated[str, typer.Option(help="Optical frame of the pictures.")] = "camera_optical_frame",
    compressed: Annotated[bool, typer.Option("--compressed", help="Publish image/compressed (JPEG).")] = False,
) -> None:  # fmt: skip
    """Be a camera: publish a video, a webcam, pictures or the synthetic scene as ROS images."""
    from pave_ros.ros.camera import run_camera

    transport = "compressed" if compressed else "raw"
    code = run_camera(context.obj, source=source, rate=rate, loop=loop, frame_id=frame_id, image_transport=transport)
    raise typer.Exit(code)


@app.command()
def node(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model, see `pave_ros models`.")] = None,
    weights: Annotated[str | None, typer.Option(help=WEIGHTS_HELP)] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
    image: Annotated[str | None, typer.Option(help="Topic of the images.")] = None,
    params_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Parameters as YAML, see config/pose.yaml.")
    ] = None,
) -> None:
    """Be the pose node: subscribe images, publish the people in them on `poses`."""
    from pave_ros.ros.node import main as run_node

    arguments = ["--ros-args"]
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    if image is not None:
        arguments += ["-r", f"image:={image}"]
    for name, value in (("model", model), ("weights", weights), ("device", device)):
        if value is not None:
            arguments += ["-p", f"{name}:={value}"]
    raise typer.Exit(run_node([*arguments, "--", *context.obj]))


@app.command()
def demo(
    context: typer.Context,
    video: Annotated[
        str, typer.Option(help="What the camera shows: a video file, a webcam, a folder of pictures or synthetic.")
    ] = "synthetic:seed=3",
    seconds: Annotated[float, typer.Option(min=1, help="How long; a shorter video is repeated.")] = 10.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the annotated video and the contact sheet.")
    ] = Path("out/demo"),
    rate: Annotated[float, typer.Option(min=0, help="Pictures a second; 0: the source's own.")] = 0.0,
    model: Model = DEFAULT,
    weights: Annotated[
        str | None, typer.Option(help=f"{WEIGHTS_HELP} Without it: the published file, else random.")
    ] = None,
    device: Device = "auto",
    input_size: InputSize = "",
) -> None:
    """Show everything at work: camera and node in two processes, a live status line, a video at the end."""
    size = _input_size(input_size)
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
        return "random"


@weights_app.command("list")
def weights_list() -> None:
    """Show the published weights, with their size, licence and checksum where known, and what is here already."""
    from rich.table import Table

    from pave_ros.checkpoints import files

    table = Table(box=None, header_style="bold")
    for column in ("file", "model", "keypoints", "size", "SHA-256", "here"):
        table.add_column(column, no_wrap=True)
    for row in files.WEIGHTS:
        size = row.path.stat().st_size if row.cached else row.size
        known = (f"{size / 1e6:.1f} MB" if size else "?", row.sha256[:7] if row.sha256 else "?")
        table.add_row(row.name, row.model, row.skeleton, *known, "yes" if row.cached else "no")
    out.print(table)
    for address, page, licence in dict.fromkeys(
        (row.url.removesuffix(row.name), "" if row.url else row.page, row.licence) for row in files.WEIGHTS
    ):
        origin = f"from {address}" if address else f"come with the package, see {page}"
        out.print(f"licence {licence}, {origin}", soft_wrap=True, highlight=False)
    out.print(f"kept in {files.cache_dir()}", soft_wrap=True, highlight=False)


@weights_app.command("download")
def weights_download(
    names: Annotated[list[str], typer.Argument(help="Files or models, or all.", metavar="NAMES")],
) -> None:
    """Fetch published weights into the cache; what an interrupted download left is continued."""
    from pave_ros.checkpoints import files

    for row in files.WEIGHTS if names == ["all"] else [_known(name) for name in names]:
        print(files.download(row))


@weights_app.command("path")
def weights_path(name: Annotated[str, typer.Argument(help="File or model.")]) -> None:
    """Print where a downloaded file lies."""
    row = _known(name)
    if not row.cached:
        raise FileNotFoundError(f"{row.path} is not there yet; `pave_ros weights download {row.name}` fetches it")
    print(row.path)


def _known(name: str) -> Any:
    from pave_ros.checkpoints import files

    row = files.find(name)
    if row is None:
        raise ValueError(f"no published weights named {name!r}; `pave_ros weights list` shows them")
    return row


@app.command()
def models() -> None:
    """List the models side by side: size, arithmetic, time, accuracy, weights; docs/models.md explains the numbers."""
    from rich.table import Table

    from pave_ros import catalogue

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in catalogue.COLUMNS:
        table.add_column(column, no_wrap=True)
    for row in catalogue.rows():
        table.add_row(*row)
    wide = Console(width=max(out.width, 160), highlight=False)  # Lines are cut nowhere, also in a pipe.
    wide.print(table)
    for name, system in catalogue.SYSTEMS.items():
        wide.print(f"{name}: {system.title}. {system.good_for}", soft_wrap=True)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Model, see `pave_ros models`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default MODEL with the format's ending, here.")
    ] = None,
    weights: Weights = "auto",
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="onnx runs everywhere; the two tensorrt on GPUs only.")
    ] = ExportFormat.onnx,
    precision: Annotated[
        ExportPrecision, typer.Option(help="fp16: ONNX and OpenVINO keep weights in 16 bits, TensorRT computes in "
                                      "them; int8: the backbone in 8 bits, set up on --calibration.")
    ] = ExportPrecision.fp32,
    input_size: Annotated[
        str, typer.Option("--input", "--input-size", help="Input of the network, HEIGHTxWIDTH or one number for both; "
                          "empty: the model's own.")
    ] = "",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures handled together; without it any number (TensorRT: one).")
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="For int8: pictures or a folder of them, like those that will come.")
    ] = "synthetic:frames=64",
    capability: Annotated[
        list[str] | None, typer.Option(help="For tensorrt_rtx: GPUs to build for, e.g. SM86; then none has to be here.")
    ] = None,
) -> None:  # fmt: skip
    """Write a model as a file that runs without torch: give it as weights. A video model becomes two files."""
    size = _input_size(input_size)
    from pave_ros.engines import write

    path = output or Path(model).with_suffix(write.SUFFIXES[file_format.value])
    if path.suffix != write.SUFFIXES[file_format.value]:
        raise typer.BadParameter(f"{path} does not end in {write.SUFFIXES[file_format.value]}", param_hint="--output")
    from pave_ros import models as known_models
    from pave_ros.checkpoints import files

    name = "_".join(known_models.split_name(model))
    source = None if weights == "random" else files.resolve(weights, name)
    from pave_ros.checkpoints import loading

    with err.status(f"exporting {name} ..."):
        network = loading.open_model(name, source) if source else known_models.create(name)
        pictures = _calibration(calibration, network, size) if precision is ExportPrecision.int8 else ()
        request = write.Request(file_format.value, precision.value, size, batch, pictures, tuple(capability or ()))
        for written in write.write(network, path, request):
            print(written)


def _calibration(source: str, network: PoseModel, size: tuple[int, int] | None) -> list[Any]:
    """The pictures of a source as inputs of a network, a few hundred of them: whole, or the people that the embedded
    model finds in them for a network that looks at one person."""
    from dataclasses import replace
    from itertools import islice

    from pave_ros.estimator import Estimator
    from pave_ros.preprocessing import network_input
    from pave_ros.topdown import crop_inputs, is_top_down
    from pave_ros.video import open_source

    info = replace(network.info, input_size=size or network.info.input_size, resize="stretch")
    find = Estimator(device="cpu") if is_top_down(info.system) else None
    inputs: list[Any] = []
    with open_source(source) as pictures:
        for frame in islice(pictures, CALIBRATION):
            if frame.image is None:
                continue
            if find is None:
                inputs.append(network_input(frame.image, info, frame.bgr))
            elif len(people := find(frame.image, frame.bgr)):
                inputs += [crop[None] for crop in crop_inputs(frame.image, people.boxes, info, frame.bgr)]
    return inputs[:CALIBRATION]


if __name__ == "__main__":
    main()
