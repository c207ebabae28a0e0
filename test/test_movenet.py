"""Starting from a published MoveNet: what its file holds goes where it belongs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pave_ros import models
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.models.centernet import VARIANTS, Variant
from pave_ros.training import centernet, simplebaseline
from pave_ros.training.movenet import read_tensors

Tensors = dict[str, npt.NDArray[np.float16]]
FEATURES = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/"
# (in, out) channels of the blocks of MobileNetV2 at width 1.75.
BLOCKS = [
    (56, 32), (32, 40), (40, 40), (40, 56), (56, 56), (56, 56), (56, 112), (112, 112), (112, 112), (112, 112),
    (112, 168), (168, 168), (168, 168), (168, 280), (280, 280), (280, 280), (280, 560),
]  # fmt: skip


def published(heads: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of MoveNet Thunder, as its file has them."""
    model = FEATURES + "model/"
    yield f"{model}Conv1/Conv2D_weights", (3, 3, 3, 56)
    yield f"{model}Conv1/Conv2D_bn_offset", (56,)
    for number, (inputs, outputs) in enumerate(BLOCKS):
        block, wide = (f"{model}block_{number}_", 6 * inputs) if number else (f"{model}expanded_conv_", inputs)
        if number:
            yield f"{block}expand/Conv2D_weights", (1, 1, inputs, wide)
            yield f"{block}expand/Conv2D_bn_offset", (wide,)
        yield f"{block}depthwise/depthwise_weights", (3, 3, wide, 1)
        yield f"{block}depthwise/depthwise_bn_offset", (wide,)
        yield f"{block}project/Conv2D_weights", (1, 1, wide, outputs)
        yield f"{block}project/Conv2D_bn_offset", (outputs,)
    yield f"{model}Conv_1/Conv2D_weights", (1, 1, 560, 1280)
    yield f"{model}Conv_1/Conv2D_bn_offset", (1280,)
    for suffix, inputs, outputs in (("", 1280, 64), ("_1", 112, 64), ("_2", 56, 32), ("_3", 40, 24)):
        yield f"{FEATURES}conv2d{suffix}/Conv2D/ReadVariableOp", (1, 1, inputs, outputs)
        yield f"{FEATURES}conv2d{suffix}/BiasAdd/ReadVariableOp", (outputs,)
    for suffix, inputs, outputs in (("", 64, 32), ("_1", 32, 24), ("_2", 24, 24)):
        yield f"{FEATURES}separable_conv2d{suffix}/separable_conv2d/ReadVariableOp", (3, 3, inputs, 1)
        yield f"{FEATURES}separable_conv2d{suffix}/separable_conv2d_weights", (1, 1, inputs, outputs)
        yield f"{FEATURES}separable_conv2d{suffix}/separable_conv2d_bn_offset", (outputs,)
    for number, (head, outputs) in enumerate(heads.items()):
        first, last = (f"StatefulPartitionedCall/{head}_0/{kind}" for kind in ("separable_conv2d", "conv2d"))
        yield f"{first}_{number + 3}/separable_conv2d/ReadVariableOp", (3, 3, 24, 1)
        yield f"{first}_{number + 3}/separable_conv2d/ReadVariableOp_1", (1, 1, 24, 96)
        yield f"{first}_{number + 3}/BiasAdd/ReadVariableOp", (96,)
        yield f"{last}_{number + 4}/Conv2D/ReadVariableOp", (1, 1, 96, outputs)
        yield f"{last}_{number + 4}/BiasAdd/ReadVariableOp", (outputs,)


def write(folder: Path, heads: dict[str, int], without: str = "") -> tuple[Path, Tensors]:
    """Such a file with chance numbers, and those."""
    rng = np.random.default_rng(0)
    tensors = {
        name: (0.1 * rng.standard_normal(shape)).astype(np.float16)
        for name, shape in published(heads)
        if not without or without not in name
    }
    half = {"dtype": "float16", "original_dtype": "float32"}
    entries = [
        {"name": name, "shape": list(value.shape), "dtype": "float32", "quantization": half}
        for name, value in tensors.items()
    ]
    path = folder / "movenet.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["movenet.bin"], "weights": entries}]}))
    (folder / "movenet.bin").write_bytes(b"".join(value.tobytes() for value in tensors.values()))
    return path, tensors


@pytest.fixture(scope="module")
def thunder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors]:
    heads = {"kpt_offset": 34, "kpt_heatmap": 17, "center": 1, "kpt_regress": 34}
    return write(tmp_path_factory.mktemp("movenet"), heads)


def test_all_of_it_is_taken_over(thunder: tuple[Path, Tensors]) -> None:
    path, tensors = thunder
    model = models.create("simplebaseline_lite")
    simplebaseline.load_backbone(model, path)
    state = model.state_dict()

    def same(key: str, name: str, axes: tuple[int, ...] | None = None) -> bool:
        value = tensors[name].astype(np.float32)
        return np.array_equal(state[key].numpy(), value if axes is None else value.transpose(axes))

    plain, depthwise = (3, 2, 0, 1), (2, 3, 0, 1)
    assert same("backbone.stem.weight", FEATURES + "model/Conv1/Conv2D_weights", plain)
    assert same(
        "backbone.stages.0.0.depthwise.weight", FEATURES + "model/expanded_conv_depthwise/depthwise_weights", depthwise
    )
    assert same("backbone.stages.1.0.expand.weight", FEATURES + "model/block_1_expand/Conv2D_weights", plain)
    assert same("backbone.stages.4.1.project.bias", FEATURES + "model/block_11_project/Conv2D_bn_offset")
    assert same("backbone.stages.6.0.depthwise.bias", FEATURES + "model/block_16_depthwise/depthwise_bn_offset")
    assert same("backbone.last.bias", FEATURES + "model/Conv_1/Conv2D_bn_offset")
    assert same("pyramid.top.bias", FEATURES + "conv2d/BiasAdd/ReadVariableOp")
    assert same("pyramid.lateral.2.weight", FEATURES + "conv2d_3/Conv2D/ReadVariableOp", plain)
    assert same("pyramid.merge.0.0.weight", FEATURES + "separable_conv2d/separable_conv2d/ReadVariableOp", depthwise)
    assert same("pyramid.merge.1.1.bias", FEATURES + "separable_conv2d_1/separable_conv2d_bn_offset")
    head = "StatefulPartitionedCall/kpt_heatmap_0/"
    assert same("joint_head.0.weight", head + "separable_conv2d_4/separable_conv2d/ReadVariableOp", depthwise)
    assert same("joint_head.3.bias", head + "conv2d_5/BiasAdd/ReadVariableOp")
    taken = sum(value.numel() for key, value in state.items() if not key.startswith("nowhere"))
    assert taken == sum(t.size for name, t in tensors.items() if name.startswith((FEATURES, head)))


def test_keypoints_of_the_first_stage_are_x_and_y_from_the_middle_of_cells(
    thunder: tuple[Path, Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tensors = thunder
    monkeypatch.setitem(VARIANTS, "lite", Variant(1.75, 60, (64, 64)))
    model = models.create("centernet_lite")
    centernet.load_backbone(model, path)
    theirs = tensors["StatefulPartitionedCall/kpt_regress_0/conv2d_7/BiasAdd/ReadVariableOp"].astype(np.float32)
    ours = model.state_dict()["pose_head.3.bias"].numpy()
    assert np.array_equal(ours[0::2], theirs[1::2] - 0.5) and np.array_equal(ours[1::2], theirs[0::2] - 0.5)


def test_another_width_is_refused(thunder: tuple[Path, Tensors]) -> None:
    with pytest.raises(CheckpointError, match=r"'model/Conv1/Conv2D_weights' has the shape \(56, 3, 3, 3\), but"):
        centernet.load_backbone(models.create("centernet_lite"), thunder[0])


def test_what_lacks_a_tensor_or_is_none_is_refused(tmp_path: Path) -> None:
    model = models.create("simplebaseline_lite")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path, _ = write(tmp_path, {"kpt_heatmap": 17}, without="block_7_project/Conv2D_weights")
    with pytest.raises(CheckpointError, match="lacks 'model/block_7_project/Conv2D_weights'"):
        simplebaseline.load_backbone(model, path)
    path, _ = write(tmp_path, {"center": 1})
    with pytest.raises(CheckpointError, match="lacks 'kpt_heatmap_0/"):
        simplebaseline.load_backbone(model, path)
    (tmp_path / "movenet.bin").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="not a model for TensorFlow.js"):
        read_tensors(path)
    path.write_text("{}")
    with pytest.raises(CheckpointError, match=r"movenet\.json: not a model for TensorFlow\.js"):
        simplebaseline.load_backbone(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "it is as it was"
