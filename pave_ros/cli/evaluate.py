"""`pave_ros evaluate`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pave_ros.cli import options
from pave_ros.cli.console import out, progress_bars
from pave_ros.models import DEFAULT

if TYPE_CHECKING:
    from pave_ros.datasets import Dataset
    from pave_ros.estimator import Estimator
    from pave_ros.evaluation.boxes import BoxesOf
    from pave_ros.evaluation.evaluate import Run

DETECTOR = "detector"  # As --boxes: the model's own finds them.
# Options that say nothing where there are results already, with those of top-down models.
OF_MODELS = ("model", "weights", "device", "engine", "precision", "input_size", "smoothing", "boxes")


def evaluate(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="coco, crowdpose, macaque, ap10k, posetrack17, posetrack18, "
                                              "posetrack21, jhmdb, lsp, lspet or synthetic.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set as published; the synthetic scene needs none.")]
    = Path("."),
    split: Annotated[str, typer.Option(help="Part of the data set, as it names it; a single annotation file has none.")]
    = "val",
    model: options.Model = DEFAULT,
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    input_size: options.InputSize = "",
    results: Annotated[Path | None, typer.Option(help="Score this results file in COCO's format instead of a model.",
                                                 exists=True, dir_okay=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures at most, evenly spread.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the numbers to this JSON file.",
                                                dir_okay=False)] = None,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of the worst pictures, with --pictures.")] = 0,
    pictures: Annotated[Path | None, typer.Option(help="Folder for them; made if missing.", file_okay=False)] = None,
    boxes: Annotated[str, typer.Option(help="Of top-down models: where the people are; detector, ground-truth, or a "
                                            "detections file in COCO's format.")] = DETECTOR,
    detector: options.Detector = "auto",
    detector_weights: options.DetectorWeights = "auto",
    box_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of top-down models: leave out boxes below; 0.2 as published, the embedded "
                                        "model 0.02.", show_default=False),
    ] = None,
    decoding: options.Decoding = "auto",
    flip_test: options.FlipTest = False,
    reuse_features: options.Reuse = True,
    detect_every: options.DetectEvery = 0,
    closer_look: options.CloserLook = True,
    smoothing: options.Smoothing = "auto",
) -> None:  # fmt: skip
    """Score a model, or a results file, on a data set, in the numbers of the papers."""
    if bool(worst) != (pictures is not None):
        raise typer.BadParameter("--worst says how many and --pictures where to; give both", param_hint="--worst")
    if output is not None:
        _check_output(output, root, (results, *map(Path, (boxes, weights, detector, detector_weights))))
    one_file = root.suffix in (".json", ".mat")
    if one_file:
        options.refuse(context, ("split",), "a single annotation file has none")
    from pave_ros.topdown.options import TopDownOptions, least_box

    if results is not None:
        options.refuse(context, (*OF_MODELS, *TopDownOptions.names()), "the people of --results have been found")
    _check_boxes(boxes, detector)
    from pave_ros.datasets import open_dataset
    from pave_ros.evaluation import evaluate as evaluation
    from pave_ros.evaluation.score import score
    from pave_ros.files import make_folder

    for folder in (output.parent if output else None, pictures):
        if folder is not None:
            make_folder(folder)  # What cannot be written is told before the work.
    data = open_dataset(dataset, root, split)
    indices = evaluation.part_of(data, limit)
    about: dict[str, Any] = {"dataset": dataset} if one_file else {"dataset": dataset, "split": split}
    if results is not None:
        done = evaluation.from_results(data, indices, results)
        about["results_file"] = str(results)
    else:
        from pave_ros.detection import GIVEN

        given = _boxes(boxes, data)
        # Average precision looks at everybody, down to the least sure.
        estimator = options.open_estimator(
            context,
            detector=GIVEN if given else detector,
            box_threshold=least_box(model) if box_threshold is None else box_threshold,
            score_threshold=0.0,
            max_persons=100,
        )
        if not estimator.detector:
            options.refuse(context, ("boxes",), f"{estimator.name} looks at whole pictures")
        about.update(evaluation.describe(estimator))
        if given:
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


def _check_output(output: Path, root: Path, read: Sequence[Path | None]) -> None:
    """BadParameter where the report would take the place of what is read, or of a file of the data set."""
    from pave_ros.evaluation.evaluate import is_report

    target = output.resolve()
    if target in {path.resolve() for path in (root, *read) if path}:
        raise typer.BadParameter(f"would write over {output}, which is read here", param_hint="--output")
    if target.is_file() and root.resolve() in target.parents and not is_report(target):
        raise typer.BadParameter(f"would write over {output}, which belongs to the data set", param_hint="--output")


def _check_boxes(boxes: str, detector: str) -> None:
    """BadParameter where one option for the boxes would be passed over for another."""
    from pave_ros.detection import GIVEN

    if boxes == DETECTOR:
        if detector == GIVEN:
            raise typer.BadParameter(f"{GIVEN} needs --boxes, which says where they are", param_hint="--detector")
    elif detector not in ("auto", GIVEN):
        raise typer.BadParameter("--boxes says where the people are; give one of the two", param_hint="--detector")


def _boxes(text: str, data: Dataset) -> BoxesOf | None:
    """Where the people are, if not a detector is to say it."""
    from pave_ros.evaluation.boxes import GROUND_TRUTH, annotated_boxes, boxes_in

    if text == DETECTOR:
        return None
    if text == GROUND_TRUTH:
        return annotated_boxes
    if not Path(text).is_file():
        raise typer.BadParameter(f"{text!r} is neither {DETECTOR}, {GROUND_TRUTH} nor a file", param_hint="--boxes")
    return boxes_in(Path(text), data)


def _run_evaluation(data: Dataset, indices: list[int], estimator: Estimator, boxes: BoxesOf | None) -> Run:
    from pave_ros.evaluation.evaluate import run

    with progress_bars() as progress:
        task = progress.add_task(data.name, total=len(indices))
        return run(data, indices, estimator, lambda: progress.advance(task), boxes)
