"""Put trained weights into the package, and the figures into their model card.

    python -m pave_ros.training.ship --detector WEIGHTS --pose WEIGHTS --config CONFIG.yaml --teacher FILE --clips DIR

`WEIGHTS` are what `pave_ros train` wrote for the two stages of the embedded model. They become ``MODEL.safetensors``,
in eight bits, and ``MODEL.onnx`` and ``MODEL.int8.onnx``, which run without torch and take most of their weights from
the former. The last one, for OpenVINO on x86, computes in eight bits too, and is set up on training
pictures of ``--lspet``, ``--jhmdb`` and ``--coco`` and on synthetic ones. Then the
shipped files are measured: on the validation pictures of the training configuration, on the synthetic scene, against
the teacher on clips (``--clips``) and on people labelled by hand (``--lspet``, ``--jhmdb``, ``--coco``), and by the
clock. Without weights what is in the package is measured again; what is not measured this time keeps its figures.

``--video WEIGHTS``, alone, does the first of it for the small video model, in float16: eight bits would cost it a point
of AP.

For a checkout of the repository: it writes to ``pave_ros/weights`` and ``docs/embedded.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from pave_ros.calibration import network_inputs
from pave_ros.checkpoints import files, loading
from pave_ros.datasets import open_dataset
from pave_ros.engines.choice import is_installed
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.engines.quantization import quantize
from pave_ros.engines.shipped import exported_path
from pave_ros.estimator import Estimator
from pave_ros.evaluation import evaluate
from pave_ros.files import sha256
from pave_ros.frames import Image
from pave_ros.synthetic import Scene
from pave_ros.topdown.styles import STYLES
from pave_ros.training import card
from pave_ros.training.config import TrainingConfig
from pave_ros.training.shared_weights import share_weights
from pave_ros.training.sources import Mixture

MODEL = "embedded"
STAGES = {row.model: row for row in (files.EMBEDDED, files.EMBEDDED_DETECTOR)}
# The sizes of input that the package uses a stage with, None for its own.
SIZES: dict[str, list[tuple[int, int] | None]] = {
    files.EMBEDDED.model: [None],
    files.EMBEDDED_DETECTOR.model: [None, STYLES["simplebaseline"].closer],
}
PAGE = Path(__file__).parents[2] / files.EMBEDDED.page
LARGEST = 16e6  # bytes in all
OF_EACH = 75  # pictures of each source that 8 bits are set up on
NEAR = 0.5  # pixels of a picture of 640x480 that the two files may differ by


class ShippingError(RuntimeError):
    """Weights that cannot be shipped; the message says why. The package is as it was."""


def ship(model: str, weights: Path, pictures: Sequence[Image], folder: Path | None = None) -> list[Path]:
    """Write the files that the package ships of one stage of the embedded model: its weights, and the network for each
    size of input that it is used with, as it is and with its backbone in 8 bits.

    Args:
        model: name of the stage's model, one of `STAGES`.
        weights: its checkpoint, in the published layout.
        pictures: RGB, that the 8 bits are set up on.
        folder: where to; None for the package.

    Raises:
        ShippingError: the files are too large, or do not find the same people.
        CheckpointError: not a checkpoint of that model.
    """
    folder = folder or files.SHIPPED
    name = STAGES[model].name
    others = sum(file["bytes"] for other, file in digests(folder).items() if not other.startswith(f"{model}."))
    with TemporaryDirectory() as temporary:
        checkpoint = Path(temporary, name)
        _keep(model, weights, checkpoint, bits=8)
        written = [checkpoint]
        for input_size in SIZES[model]:
            whole, eight = (exported_path(checkpoint, input_size, int8) for int8 in (False, True))
            # Of the rounded weights, so that all files hold the same numbers.
            network = loading.open_model(model, checkpoint)
            export_onnx(network, whole, input_size)
            eight.write_bytes(whole.read_bytes())
            quantize(eight, network_inputs(((image, False) for image in pictures), network.info, input_size))
            for file in (whole, eight):
                share_weights(file, checkpoint)
                written.append(file)
        size = others + sum(file.stat().st_size for file in written)
        if size > LARGEST:
            raise ShippingError(f"{size / 1e6:.1f} MB in all; at most {LARGEST / 1e6:.0f} MB come with the package")
        for input_size in SIZES[model]:
            compare(model, checkpoint, input_size)
        folder.mkdir(parents=True, exist_ok=True)
        for file in written:
            (folder / file.name).write_bytes(file.read_bytes())  # not moved: readable for everybody
    return [folder / file.name for file in written]


def ship_video(weights: Path, folder: Path | None = None) -> Path:
    """Write the file that the package ships of the small video model, in float16; arguments and errors as of `ship`."""
    target = (folder or files.SHIPPED) / files.VIDEO.name
    with TemporaryDirectory() as temporary:
        checkpoint = Path(temporary, target.name)
        _keep(files.VIDEO.model, weights, checkpoint, bits=16)
        if (size := checkpoint.stat().st_size) > LARGEST:
            raise ShippingError(f"{size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} MB come with the package")
        target.write_bytes(checkpoint.read_bytes())
    return target


def _keep(name: str, weights: Path, target: Path, bits: int) -> None:
    model = loading.open_model(name, weights)
    try:
        loading.save(model, target, bits)
    except ValueError as error:
        raise ShippingError(f"{weights}: {error}") from None


def compare(model: str, checkpoint: Path, input_size: tuple[int, int] | None = None) -> None:
    """ShippingError unless a checkpoint and the network beside it for this (height, width) find the same people,
    however unsure, in a picture."""
    image = Scene(seed=3, width=640, height=480).frame(30).image
    options: dict[str, Any] = {"device": "cpu", "precision": "fp32", "score_threshold": 0.0, "max_persons": 10}
    one = Estimator(model, checkpoint, engine="pytorch", input_size=input_size, **options)(image)
    other = Estimator(model, exported_path(checkpoint, input_size), engine="onnxruntime", **options)(image)
    if not (len(one) and len(other)):
        raise ShippingError("nobody at all is found in a picture of the synthetic scene: are these weights trained?")
    apart = np.linalg.norm(one.keypoints[:, None, :, :2] - other.keypoints[None, :, :, :2], axis=-1).max(axis=-1)
    if not (apart.min(axis=1) < NEAR).all():
        raise ShippingError(f"torch and ONNX Runtime put keypoints up to {apart.min(axis=1).max():.2f} pixels apart")


def for_calibration(folders: Mapping[str, Path]) -> list[Image]:
    """Pictures that 8 bits are set up on: of each data set so many of those for training, and of synthetic scenes that
    are not for validation."""
    images = []
    for name, folder in folders.items():
        data = open_dataset(name, folder, "train")
        images += [data[index].image() for index in evaluate.part_of(data, OF_EACH)]
    return images + [Scene(seed=5000 + i, width=640, height=480).frame(20).image for i in range(OF_EACH)]


def digests(folder: Path | None = None) -> card.Figures:
    """Size and SHA-256 of the shipped files by name."""
    shipped = [(folder or files.SHIPPED) / row.name for row in STAGES.values()]
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for checkpoint in shipped
        for file in (
            checkpoint,
            *(exported_path(checkpoint, size, int8) for size in SIZES[checkpoint.stem] for int8 in (False, True)),
        )
        if file.is_file()
    }


def main(
    detector: Annotated[Path | None, typer.Option(help="Checkpoint of the first stage, which finds people.")] = None,
    pose: Annotated[Path | None, typer.Option(help="Checkpoint of the second stage, one person's crop.")] = None,
    video: Annotated[Path | None, typer.Option(help="Checkpoint of the small video model.")] = None,
    config: Annotated[Path | None, typer.Option(help="Training configuration, for the validation pictures.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="MoveNet MultiPose as an ONNX file; with --clips and data sets.")
    ] = None,
    clips: Annotated[Path | None, typer.Option(help="A clip, or a folder of clips.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Look at every so many frames of the clips.")] = 1,
    limit: Annotated[int, typer.Option(min=0, help="At most so many pictures of each source; 0: all.")] = 0,
    lspet: Annotated[Path | None, typer.Option(help="Folder of LSPET; with --teacher, as the next two.")] = None,
    jhmdb: Annotated[Path | None, typer.Option(help="Folder of JHMDB.")] = None,
    coco: Annotated[Path | None, typer.Option(help="Folder of COCO keypoints.")] = None,
    synthetic: Annotated[bool, typer.Option(help="Measure on the synthetic scene.")] = True,
    precision: Annotated[str, typer.Option(help="That accuracy is measured in: fp32, bf16 or int8.")] = "fp32",
    speed: Annotated[bool, typer.Option(help="Measure the speed, on two cores, in the precision of auto.")] = True,
) -> None:
    """Ship what is given, measure, and write the model card."""
    if video is not None:
        if any((detector, pose, config, teacher, clips, lspet, jhmdb, coco)):
            raise typer.BadParameter(
                "the small video model is shipped alone, and not measured here", param_hint="--video"
            )
        print(ship_video(video))
        return
    labelled = {name: path for name, path in (("lspet", lspet), ("jhmdb", jhmdb), ("coco", coco)) if path}
    if (teacher is None) != (clips is None and not labelled):
        given = "clips, or folders of data sets"
        raise typer.BadParameter(f"the teacher and {given} go together", param_hint="--teacher, --clips, --lspet, ...")
    found = card.clips_in(clips) if clips else []  # what is wrong with it is said first
    pictures = for_calibration(labelled) if detector or pose else []
    for row, weights in ((files.EMBEDDED_DETECTOR, detector), (files.EMBEDDED, pose)):
        if weights is not None:
            print(*ship(row.model, weights, pictures), sep="\n")
    figures: card.Figures = {"files": digests()}
    if config is not None:
        settings = TrainingConfig.read(config)
        mixture = Mixture.from_dict({**settings.of_samples, **settings.data})
        figures["validation"] = card.on_validation_pictures(MODEL, mixture, limit, precision)
    if synthetic:
        figures["synthetic"] = card.on_synthetic_scenes(MODEL, limit or None, track, precision)
    if teacher is not None:
        if found:
            figures["agreement"] = card.against_teacher(MODEL, teacher, found, every, track, precision)
        if labelled:
            figures["by_hand"] = card.on_hand_labels(MODEL, teacher, labelled, limit or None, track, precision)
    if speed:
        figures["speed"] = {name: card.speed(MODEL, name) for name in _engines()}
    card.write(PAGE, figures)
    print(PAGE)


def _engines() -> list[str]:
    """The engines that run the exported file on a CPU and are installed here."""
    return [name for name in ("onnxruntime", "openvino") if is_installed(name)]


if __name__ == "__main__":
    typer.run(main)
