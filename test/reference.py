"""Compare the project's models with reference outputs of the published implementations.

    python test/reference.py [--device cuda] test/golden/detrpose_n.json [MORE.json ...]

A reference is a pair of files. NAME.json says which model, how its input was made, what the outputs are, and the
recipe of the weights: published checkpoint keys with shapes, seed, gain and damping. NAME.npz holds the outputs that
the published code computed with these weights, and published constants under ``const/KEY``.

The weights are made, written as a checkpoint file, loaded through the project's loader, and run through the project's
network and post-processing in float64 and in float32. The largest error of every output is printed, relative to
1 + |value|. The exit code is 1 when one lies beyond its tolerance, 2 when a reference cannot be run.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pave_ros import models, postprocessing  # noqa: E402
from pave_ros.checkpoints import loading  # noqa: E402
from pave_ros.models.base import PoseModel  # noqa: E402
from pave_ros.models.pavenet import PAVENet  # noqa: E402

Array = npt.NDArray[Any]
Spec = dict[str, Any]
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
# (model, output) whose published code, run in float32, is itself further from its own float64: keypoints in pixels,
# some of which lie near zero, where the relative error of 2e-3 pixels is as much; all of QueryPose, whose boxes move
# from stage to stage. (Its published code, run in float32, is 5e-3 off in the keypoints of its own reference.)
FLOAT32_TOLERANCES = {
    ("POET", "post/keypoints"): 2e-3,
    **{("QueryPose", name): 1e-3 for name in ("class_logits", "boxes", "poses")},
    **{("QueryPose", f"persons/{name}"): 1e-3 for name in ("pred_boxes", "scores")},
    ("QueryPose", "persons/pred_keypoints"): 1e-2,
}


SHORT = {"resnet": "r", "res": "r", "hrnetw": "hrnet", "small": "s", "base": "b", "large": "l", "huge": "h"}


def canonical(variant: str) -> list[str]:
    """The parts of a variant's name, however it is written: R50, res50, Swin-L, swinl, hrnet48, HRNet-W48, R50-DC5."""
    plain = re.sub(r"[^a-z0-9]", "", variant.lower())
    for long, short in SHORT.items():
        plain = plain.replace(long, short)
    return sorted(re.findall(r"[a-z]+[0-9]*", plain))


def model_name(system: str, variant: str) -> str:
    """What we call a variant of a system; KeyError where we have none of that name."""
    for name in models.names():
        if name.startswith(f"{system}_") and canonical(name.removeprefix(f"{system}_")) == canonical(variant):
            return name
    raise KeyError(f"{system} {variant}")


def seeded_tensor(key: str, shape: list[int], spec: Spec) -> Array:
    """One checkpoint entry, made from its key, its shape and the reference's seed, gain and damping."""
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(key.encode()), spec["seed"]]))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    z = rng.standard_normal(shape)
    if leaf == "running_var":
        value = 0.75 + 0.5 * rng.random(shape)
    elif leaf == "running_mean" or "bias" in leaf:
        value = 0.05 * z
    elif key in spec["embeddings"]:
        value = 0.5 * z
    elif len(shape) <= 1:
        value = 1.0 + 0.1 * z
    else:
        value = spec["gain"] * z / np.sqrt(np.prod(shape[1:]))
    for part, factor in spec["damp"].items():
        if part in key:
            value = factor * value
    return np.asarray(value, np.float32)


def seeded_image(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """The smooth RGB test picture (height, width, 3) of a reference."""
    rng = np.random.Generator(np.random.PCG64([height, width, seed]))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(12):
            fx, fy = rng.uniform(-0.12, 0.12, 2)
            out[..., channel] += rng.uniform(0.3, 1.0) * np.sin(fx * x + fy * y + rng.uniform(0, 6.283))
    out = (out - out.min()) / (out.max() - out.min())
    return np.round(255 * out).astype(np.uint8)


def read(path: Path) -> tuple[Spec, dict[str, Array]]:
    """(spec, arrays) of the reference PATH.json and PATH.npz."""
    with np.load(path.with_suffix(".npz")) as data:
        arrays = {name: data[name] for name in data.files}
    return json.loads(path.with_suffix(".json").read_text()), arrays


def write_checkpoint(path: Path, spec: Spec, arrays: dict[str, Array]) -> None:
    """The checkpoint file that belongs to a reference, under the published key names."""
    weights = {key: seeded_tensor(key, shape, spec) for key, shape in spec["keys"].items()}
    weights.update({name.removeprefix("const/"): a for name, a in arrays.items() if name.startswith("const/")})
    weights.update({alias: weights[key] for alias, key in spec["aliases"].items()})
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in weights.items()}, path)


def network_input(spec: Spec, model: PoseModel) -> torch.Tensor:
    """The normalised input (1, 3, H, W) of an image model's reference, as the network computes and where."""
    given, like = spec["input"], next(model.parameters())
    dtype = like.dtype
    picture = torch.from_numpy(seeded_image(given["height"], given["width"], given["image_seed"])).to(dtype) / 255
    picture = (picture - torch.tensor(given["mean"], dtype=dtype)) / torch.tensor(given["std"], dtype=dtype)
    return picture.permute(2, 0, 1).unsqueeze(0).to(like.device)


def on_host(values: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors as arrays."""
    return {name: value.cpu().numpy() for name, value in values.items()}


def picture_size(spec: Spec) -> tuple[int, int]:
    """(width, height) of the picture that the reference's post-processed outputs refer to."""
    found = re.search(r"(\d+)x(\d+) \(width x height\) picture", spec["outputs"])
    return (int(found[1]), int(found[2])) if found else (640, 480)


def run_detrpose(model: PoseModel, spec: Spec) -> dict[str, Array]:
    outputs = on_host(model(network_input(spec, model)))
    scores, labels, points = postprocessing.detrpose_ranked(outputs, picture_size(spec))
    visible = np.ones((*points.shape[:2], 1))
    keypoints = np.concatenate((points, visible), -1).reshape(len(points), -1)
    return {**outputs, "post/scores": scores, "post/labels": labels, "post/keypoints": keypoints}


def run_tarvitpose(model: PoseModel, spec: Spec) -> dict[str, Array]:
    given = spec["input"]
    frames = [network_input({"input": {**given, "image_seed": seed}}, model) for seed in given["image_seeds"]]
    return on_host(model(torch.stack(frames, 1)))


def run_poet(model: PoseModel, spec: Spec) -> dict[str, Array]:
    outputs = on_host(model(network_input(spec, model)))
    scores, labels, keypoints = postprocessing.poet_people(outputs, picture_size(spec))
    keypoints[..., 2] = 1  # The published post-processing sets it so, ours keeps the visibility.
    return {
        **outputs,
        "post/scores": scores,
        "post/labels": labels,
        "post/keypoints": keypoints.reshape(len(scores), -1),
    }


def run_pavenet(model: PoseModel, spec: Spec) -> dict[str, Array]:
    assert isinstance(model, PAVENet)
    model.variant = replace(model.variant, persons=spec["max_persons"])
    picture = spec["input"]
    frames = [network_input({"input": {**picture, "image_seed": seed}}, model) for seed in picture["image_seeds"]]
    window = [model.encode(frame) for frame in frames]
    everything = model.predict(window, lambda last: last.poses.new_zeros((1, 1), dtype=torch.long))
    names = ("before_previous", "previous", "current", "next", "after_next")[2 - len(everything.frames) // 2 :]
    sigmas = [p.sigmas for p in everything.poses if p.sigmas is not None]
    found = {
        "class_logits": torch.stack([p.logits for p in everything.poses if p.logits is not None]),
        "poses": torch.stack([p.poses for p in everything.poses]).flatten(3),
        "sigmas": torch.stack(sigmas).flatten(3) if sigmas else torch.empty(0),
        "encoder/class_logits": everything.tokens.logits,
        "encoder/poses": everything.tokens.poses.flatten(2),
        **{f"{frame}_poses": p.flatten(2) for frame, p in zip(names, everything.frames, strict=False)},
    }
    outputs = on_host(model.decode(window))
    size = 2 * picture["width"], 2 * picture["height"]  # As the references have it.
    persons, scores, boxes = postprocessing.pavenet_people(outputs, size)
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:], scores[:, None]), -1)
    found_here = on_host({name: value for name, value in found.items() if value is not None})
    return {**found_here, "persons": persons, "boxes": corners}


def run_querypose(model: PoseModel, spec: Spec) -> dict[str, Array]:
    given = spec["input"]
    like = next(model.parameters())
    picture = torch.from_numpy(seeded_image(given["height"], given["width"], given["image_seed"])).to(like.dtype)
    # Normalised in 0..255 by float32 numbers, as published.
    mean, std = (torch.tensor(v, dtype=torch.float32) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    outputs = on_host(model(((picture - mean) / std).permute(2, 0, 1)[None].to(like.device)))
    size = np.array([given["width"], given["height"]] * 2)
    boxes = outputs["boxes"] * size
    # From here on the published boxes, and their widths and heights, are float32 in whatever the network computes.
    low, high = np.split(boxes.astype(np.float32), 2, axis=-1)
    places = [
        np.concatenate((low, end), -1, dtype=boxes.dtype) for end in (high, low.astype(boxes.dtype) + (high - low))
    ]
    twice = (2 * given["width"], 2 * given["height"])
    (_, scores, shown), (keypoints, *_) = (
        postprocessing.querypose_people({**outputs, "boxes": place / size}, twice) for place in places
    )
    return {
        **outputs,
        "boxes": boxes,
        "persons/pred_boxes": np.concatenate((shown[:, :2], shown[:, :2] + shown[:, 2:]), -1),
        "persons/pred_keypoints": keypoints,
        "persons/scores": scores,
        "persons/pred_classes": np.zeros(len(scores)),  # There is but one.
    }


def in_their_order(ours: dict[str, Array], theirs: dict[str, Array]) -> dict[str, Array]:
    """Our outputs with the rows of all `persons/*` exchanged so that each is next to the one most like it."""
    names = [name for name in theirs if name.startswith("persons/")]
    if any(ours[name].shape != theirs[name].shape for name in names):
        return ours
    rows = [np.concatenate([v[n].reshape(len(v[n]), -1) for n in names], 1).astype(float) for v in (ours, theirs)]
    order = linear_sum_assignment(np.abs(rows[1][:, None] - rows[0][None]).sum(-1))[1]
    return {**ours, **{name: ours[name][order] for name in names}}


# Name in the references -> (our system, how to get its outputs).
SYSTEMS: dict[str, tuple[str, Callable[[PoseModel, Spec], dict[str, Array]]]] = {
    "DETRPose": ("detrpose", run_detrpose),
    "PAVE-Net": ("pavenet", run_pavenet),
    "PETR": ("pavenet_petr", run_pavenet),
    "POET": ("poet", run_poet),
    "QueryPose": ("querypose", run_querypose),
    "TAR-ViTPose": ("tarvitpose", run_tarvitpose),
}


def error(ours: Array, theirs: Array) -> float:
    """Largest difference relative to 1 + |value|; infinite for another shape or where one is not finite."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - theirs) / (1 + np.abs(theirs))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


@dataclass(frozen=True)
class Comparison:
    """The largest error of one output in one precision, and what it may be."""

    dtype: torch.dtype
    name: str
    error: float
    tolerance: float

    @property
    def good(self) -> bool:
        return self.error <= self.tolerance


@torch.no_grad()
def compare(path: Path, device: str = "cpu") -> list[Comparison]:
    """Every output of a reference in every precision.

    KeyError for a system that this package does not have, ValueError where the checkpoint does not fit.
    """
    spec, arrays = read(path)
    system, run = SYSTEMS[spec["model"]]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / f"{path.stem}.pth"
        write_checkpoint(checkpoint, spec, arrays)
        model = loading.open_model(model_name(system, spec["variant"]), checkpoint)
    done = []
    for dtype in TOLERANCES:  # The weights are float32 numbers, so going to float64 and back changes none.
        ours = run(model.to(device, dtype), spec)
        if "order not significant" in spec["outputs"]:
            ours = in_their_order(ours, arrays)
        for name, theirs in arrays.items():
            if not name.startswith("const/"):
                largest = error(ours[name], theirs) if name in ours else float("inf")
                done.append(Comparison(dtype, name, largest, tolerance(spec["model"], name, dtype)))
    return done


def tolerance(model: str, name: str, dtype: torch.dtype) -> float:
    """The largest error that counts as equal."""
    looser = FLOAT32_TOLERANCES.get((model, name), 0.0) if dtype == torch.float32 else 0.0
    return max(TOLERANCES[dtype], looser)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", nargs="+", type=Path, metavar="NAME.json")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # float32 is meant
    status = 0
    for path in given.references:
        try:
            comparisons = compare(path, given.device)
        except KeyError as problem:
            print(f"{path.stem}: this package has no model {problem}; it has {', '.join(SYSTEMS)}", file=sys.stderr)
            status = 2
            continue
        except (OSError, ValueError) as problem:
            print(f"{path.stem}: {problem}", file=sys.stderr)
            status = 2
            continue
        for c in comparisons:
            print(f"{path.stem:24} {str(c.dtype)[6:]:8} {c.name:20} {c.error:9.2e}  {'ok' if c.good else 'FAILED'}")
            status = status or int(not c.good)
    return status


if __name__ == "__main__":
    sys.exit(main())
