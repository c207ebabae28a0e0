"""Every published system in every engine that runs without a GPU: the same numbers, of a photograph; and in TensorRT.

The networks are small or see a small picture, with weights that make every part count. DETRPose has its tests
of the same in test_engines and test_exports.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import reference
import torch
from photograph import answer, photograph
from test_pavenet import small as small_pavenet
from test_querypose import for_four_people
from test_tarvitpose import tiny as tiny_tarvitpose

from pave_ros import models
from pave_ros.checkpoints import loading
from pave_ros.engines import tensorrt
from pave_ros.engines.base import Engine
from pave_ros.engines.export import Request, write
from pave_ros.engines.exported import BACKBONE, COORDINATES, DECODE, ENCODE, read_label
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.openvino import OpenVinoEngine
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.engines.quantization import quantize
from pave_ros.models import querypose
from pave_ros.models.base import PoseModel

GOLDEN = Path(__file__).parent / "golden"


def seeded_poet(folder: Path) -> PoseModel:
    """The network of a reference, from its file, as users load one."""
    reference.write_checkpoint(folder / "poet.pth", *reference.read(GOLDEN / "poet_r50.json"))
    return loading.open_model("poet_r50", folder / "poet.pth")


def seeded_simplebaseline() -> PoseModel:
    torch.manual_seed(0)
    return models.create("simplebaseline_lite")


# System -> (how to make its network, height and width of its input).
SYSTEMS: dict[str, tuple[Callable[[Path], PoseModel], tuple[int, int]]] = {
    "pavenet": (lambda folder: small_pavenet(), (64, 96)),
    "tarvitpose": (lambda folder: tiny_tarvitpose(), (64, 48)),
    "poet": (seeded_poet, (64, 96)),
    "querypose": (lambda folder: for_four_people(), (64, 96)),
}


@dataclass(frozen=True)
class Exported:
    """A network, and the files that were written of one like it."""

    network: PoseModel
    parts: list[Path]


@pytest.fixture(scope="module", params=SYSTEMS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """Each system's network and its files; exporting takes longer than all that is done with them."""
    make, size = SYSTEMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(querypose, "STAGES", 2)
        yield Exported(make(folder), write(make(folder), folder / "model.onnx", Request(input_size=size)))


def test_engines_compute_the_same(exported: Exported) -> None:
    parts = exported.parts
    known = OnnxRuntimeEngine(parts[0])
    assert len(parts) == (2 if known.info.window > 1 else 1)
    picture = photograph(known)
    expected = answer(PyTorchEngine(exported.network, "cpu", "fp32"), picture)
    for engine in (known, OpenVinoEngine(parts[0])):
        found = answer(engine, picture)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            value = np.asarray(value)
            assert value.size and np.ptp(value) > 0, name
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=f"{engine.name}: {name}")


@pytest.mark.parametrize("engine", [OnnxRuntimeEngine, partial(OpenVinoEngine, precision="fp32")])
def test_a_fixed_number_of_pictures_takes_any(engine: Callable[[Path], Engine], tmp_path: Path) -> None:
    """They come in several passes, of which the last one is filled up."""
    [fixed] = write(seeded_simplebaseline(), tmp_path / "fixed.onnx", Request(input_size=(64, 64), batch=4))
    [free] = write(seeded_simplebaseline(), tmp_path / "free.onnx", Request(input_size=(64, 64)))
    pictures = np.random.default_rng(0).random((7, 3, 64, 64), np.float32)
    fours, known = engine(fixed), OnnxRuntimeEngine(free)
    assert fours.batches == (4,)
    for count in (1, 4, 7):
        found, expected = (one.decode([one.encode(pictures[:count])])["heatmaps"] for one in (fours, known))
        assert len(found) == count and np.ptp(expected) > 0
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_coordinates_stay_precise_in_sixteen_bits(exported: Exported) -> None:
    """Of the encoder: a decoder is precise throughout, see test_exports."""
    engine = OpenVinoEngine(exported.parts[0], precision="bf16")
    engine.encode(photograph(engine))
    steps: Any = engine._encode
    facts = [step.get_rt_info() for step in steps._compiled[1].get_runtime_model().get_ops()]
    kinds = {
        (fact["layerType"].astype(str), fact["runtimePrecision"].astype(str))
        for fact in facts
        if "originalLayersNames" in fact and f"{COORDINATES}/" in fact["originalLayersNames"].astype(str)
    }
    assert bool(kinds) == bool(exported.network.coordinates)
    assert {precision for kind, precision in kinds if kind in ("Gather", "GridSample", "Reduce")} <= {"f32"}


def test_eight_bits_are_the_backbone_s(exported: Exported, tmp_path: Path) -> None:
    known = OpenVinoEngine(exported.parts[0], precision="fp32")
    picture = photograph(known)
    parts = [Path(shutil.copy(part, tmp_path)) for part in exported.parts]
    quantize(parts[0], [picture])
    assert all(read_label(part).precision == "int8" for part in parts)
    before, after = eight_bit_layers(exported.parts[0]), eight_bit_layers(parts[0])
    backbone = {name for name in after if name.startswith(f"{BACKBONE}/")}
    assert not before and after == backbone and after
    assert not any(eight_bit_layers(part) for part in parts[1:])
    engine = OpenVinoEngine(parts[0], precision="fp32")
    assert engine.precision == "int8"
    for ours, exact in zip(engine.encode(picture), known.encode(picture), strict=True):
        apart = np.abs(np.asarray(ours) - exact).mean() / np.abs(exact).mean()
        assert 0 < apart < 0.1, "coarser, and hardly off"


def eight_bit_layers(file: Path) -> set[str]:
    """Names of the nodes whose weights are in 8 bits."""
    nodes = onnx.load(file).graph.node
    unpacked = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    return {n.name for n in nodes if n.op_type in ("Conv", "Gemm", "MatMul") and n.input[1] in unpacked}


@pytest.mark.parametrize("system", SYSTEMS)
def test_tensorrt_builds_all_in_half_precision(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="there is no TensorRT for this processor")
    monkeypatch.setattr(querypose, "STAGES", 2)
    make, size = SYSTEMS[system]
    files = write(
        make(tmp_path), tmp_path / "model.rtx", Request("tensorrt_rtx", "fp16", size, 1, capabilities=("SM86", "SM89"))
    )
    labels = [tensorrt.read_engine(file)[0] for file in files]
    assert all(label.precision == "fp16" and label.info.input_size == size for label in labels)
    if labels[0].info.window > 1:
        assert [label.part for label in labels] == [ENCODE, DECODE]
