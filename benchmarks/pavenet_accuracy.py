"""What another input size, fewer queries, no other frames and 16 bits cost a trained PAVE-Net in accuracy, and gain.

    python benchmarks/pavenet_accuracy.py WEIGHTS --root DIR [--dataset jhmdb] [--model pavenet_lite] [--limit 200]

The numbers of the data set's validation part, as `pave_ros evaluate` computes them, and the median time of a picture in
a stream, in which a frame is encoded once. Exported files have one size of input, here that of pictures with the
proportions of the first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pave_ros.checkpoints import loading
from pave_ros.datasets import Dataset, open_dataset
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.estimator import Estimator
from pave_ros.evaluation import evaluate
from pave_ros.evaluation.score import score
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.preprocessing import network_input


@dataclass(frozen=True)
class Row:
    """One way of running the network; what is not given is as it was trained."""

    name: str
    input_size: tuple[int, int] | None = None
    queries: int | None = None
    still: bool = False  # Every frame of the window is the one in question.
    engine: str = "pytorch"
    precision: str = "fp32"


ROWS = (
    Row("as trained"),
    Row("OpenVINO", engine="openvino"),
    Row("OpenVINO, bf16", engine="openvino", precision="bf16"),
    Row("384x672", (384, 672)),
    Row("192x336", (192, 336)),
    Row("128x224", (128, 224)),
    Row("30 queries", queries=30),
    Row("10 queries", queries=10),
    Row("no other frames", still=True),
)


@dataclass(frozen=True)
class Still:
    """A video model to which every frame is a video in which nothing moves."""

    estimator: Estimator
    reach: int = 0

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        return self.estimator.estimate([frames[index]])


def measured(row: Row, model: str, weights: Path, data: Dataset, indices: list[int]) -> str:
    """The line of a row."""
    with tempfile.TemporaryDirectory() as folder:
        if row.queries is not None:
            weights = with_fewer_queries(model, weights, row.queries, Path(folder) / "weights.safetensors")
        if row.engine != "pytorch":
            network = loading.open_model(model, weights)
            picture = data[indices[0]].image()
            weights = export_onnx(network, Path(folder) / "model.onnx", network_input(picture, network.info).shape[-2:])
        # Average precision looks at everybody, down to the least sure.
        estimator = Estimator(
            model, weights, "cpu", engine=row.engine, precision=row.precision, input_size=row.input_size,
            score_threshold=0.0, max_persons=30,
        )  # fmt: skip
        done = evaluate.run(data, indices, Still(estimator) if row.still else estimator)
    results = score(data.name, done.samples, done.predictions)
    numbers = "  ".join(f"{result.metric}: {told(result.values)}" for result in results)
    return f"{row.name:16}{1000 * np.median(done.seconds):5.0f} ms  {numbers}"


def told(values: dict[str, float]) -> str:
    """Of a metric's values those that are compared."""
    return ", ".join(f"{name} {100 * values[name]:.1f}" for name in ("AP", "AP50", "Mean") if name in values)


def with_fewer_queries(model: str, weights: Path, count: int, path: Path) -> Path:
    """The same network in another file. Queries are the best cells in their order: the first embeddings stay."""
    network = loading.open_model(model, weights)
    embedding = network.get_submodule("selection.query_embedding").get_parameter("weight")
    embedding.data = embedding.data[:count].clone()
    loading.save(network, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of the data set")
    parser.add_argument("--dataset", default="jhmdb")
    parser.add_argument("--model", default="pavenet_lite")
    parser.add_argument("--limit", type=int, help="the first so many pictures, so that videos stay whole")
    args = parser.parse_args()
    data = open_dataset(args.dataset, args.root, "val")
    indices = evaluate.part_of(data)[: args.limit]
    print(f"{args.model} on {len(indices)} pictures of {args.dataset}")
    for row in ROWS:
        print(measured(row, args.model, args.weights, data, indices), flush=True)


if __name__ == "__main__":
    main()
