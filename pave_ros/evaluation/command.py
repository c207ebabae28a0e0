"""`pave_ros evaluate`: a model, or a results file, against a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pave_ros.datasets import Dataset
    from pave_ros.evaluation.evaluate import Run

out = Console()
err = Console(stderr=True, highlight=False)


def evaluate(
    dataset: Annotated[str, typer.Option(help="coco, crowdpose, macaque, posetrack17, posetrack18, posetrack21, "
                                              "jhmdb, lsp, lspet or synthetic.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set as published; the synthetic scene needs none.")]
    = Path("."),
    model: Annotated[str, typer.Option(help="Model, see `pave_ros models`.")] = "detrpose_n",
    weights: Annotated[str, typer.Option(help="auto (the published file), a path, or a name of `pave_ros weights "
                                              "list`.")] = "auto",
    split: Annotated[str, typer.Option(help="Part of the data set, as it names it.")] = "val",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, pytorch or onnxruntime.")] = "auto",
    results: Annotated[Path | None, typer.Option(help="Score this results file in COCO's format instead of a model.",
                                                 exists=True, dir_okay=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures at most, evenly spread.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the numbers to this JSON file.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of the worst pictures, with --pictures.")] = 0,
    pictures: Annotated[Path | None, typer.Option(help="Folder for them; made if missing.")] = None,
) -> None:  # fmt: skip
    """Score a model, or a results file, on a data set, in the numbers of the papers."""
    if bool(worst) != (pictures is not None):
        raise typer.BadParameter("--worst says how many and --pictures where to; give both", param_hint="--worst")
    from pave_ros.datasets import open_dataset
    from pave_ros.evaluation.evaluate import from_results, part_of, report, write_json, write_worst
    from pave_ros.evaluation.score import score

    data = open_dataset(dataset, root, split)
    indices = part_of(data, limit)
    about: dict[str, Any] = {"split": split}
    if results is not None:
        done = from_results(data, indices, results)
        about["results_file"] = str(results)
    else:
        done, described = _run_model(data, indices, model, weights, device, engine)
        about.update(described)
    numbers = score(data.name, done.samples, done.predictions)
    for number in numbers:
        out.print(number.table())
    if output is not None:
        write_json(output, report(data, numbers, done, about))
        print(output)
    if pictures is not None:
        for path in write_worst(pictures, done, worst):
            print(path)


def _run_model(
    data: Dataset, indices: list[int], model: str, weights: str, device: str, engine: str
) -> tuple[Run, dict[str, Any]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pave_ros.estimator import Estimator
    from pave_ros.evaluation.evaluate import run

    # Average precision looks at everybody, down to the least sure.
    estimator = Estimator(model, weights, device, engine=engine, score_threshold=0.0, max_persons=100)
    about = {
        "model": estimator.name,
        "weights": estimator.weights,
        "device": estimator.device,
        "engine": estimator.engine,
        "precision": estimator.precision,
        "input_size": list(estimator.input_size),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(data.name, total=len(indices))
        done = run(data, indices, estimator, lambda: progress.advance(task))
    return done, about
