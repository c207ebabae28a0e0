"""Which engine is taken for which file and device, and what it is told."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from test_engines import CUDA_AND_CPU, SIZE
from test_engines import exported as exported
from test_engines import weights as weights

import pave_ros
from pave_ros import models
from pave_ros.engines import choice, open_file
from pave_ros.engines.base import EngineError
from pave_ros.engines.exported import read_label
from pave_ros.engines.onnxruntime import providers_for
from pave_ros.engines.openvino import OpenVinoEngine
from pave_ros.engines.pytorch import PyTorchEngine


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_any_gpu_nothing_is_built_that_is_slower(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda name: True)
    monkeypatch.setattr(choice, "unusable", lambda name, device: "no driver for it")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_AND_CPU)
    assert choice.choose_to_build(Path("n.pth"), "auto", device, "auto") is None


@pytest.mark.parametrize("device", ["cpu:0", "cpus", "cuda:", "cuda:x", "cuda:1 "])
def test_half_a_device_is_none(device: str) -> None:
    with pytest.raises(EngineError, match=f"unknown device '{device}'; use auto, cpu, cuda or cuda:N"):
        choice.choose(Path("n.pth"), "auto", device, "auto")


@pytest.mark.parametrize(("device", "taken"), [("cuda", "tensorrt_rtx"), ("cuda:1", None), ("cuda:2", None)])
def test_of_several_gpus_the_one_that_is_asked_for_counts(
    device: str, taken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library leaves the second one out, and cannot be used on the third."""
    library: Any = types.SimpleNamespace(ComputeCapability=types.SimpleNamespace(__members__={"SM89": 0, "SM120": 1}))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    monkeypatch.setattr(choice, "gpu_capability", lambda index: (89, 90, 89)[index])
    monkeypatch.setattr(choice, "is_installed", lambda name: name != "tensorrt")
    monkeypatch.setattr(choice, "unusable", lambda name, device: "no driver" if device == "cuda:2" else "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_AND_CPU)
    found = choice.choose_to_build(Path("n.pth"), "auto", device, "auto")
    assert (found and found[0]) == taken


@pytest.mark.parametrize(
    ("suffix", "engine"),
    [(".pth", "pytorch"), (".pt", "pytorch"), (".safetensors", "pytorch"), (".onnx", "openvino"), (".xml", "openvino")],
)
def test_every_kind_of_file_has_an_engine_on_the_processor(suffix: str, engine: str) -> None:
    assert choice.choose(Path("n").with_suffix(suffix), "auto", "cpu", "auto")[0] == engine


def test_onnx_runtime_computes_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = ("cpu", ["CPUExecutionProvider"])
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_AND_CPU)
        patch.setattr("pave_ros.engines.onnxruntime.has_gpu", lambda: False)
        assert providers_for("auto") == providers_for("cpu") == cpu
        patch.setattr("pave_ros.engines.onnxruntime.has_gpu", lambda: True)
        for asked, index in (("auto", "0"), ("cuda", "0"), ("cuda:1", "1")):
            device, (first, second) = providers_for(asked)
            assert (device, second) == (f"cuda:{index}", "CPUExecutionProvider")
            assert first == ("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"})
        assert providers_for("cpu") == cpu
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_AND_CPU[1:])
    with pytest.raises(EngineError, match="device cuda: this ONNX Runtime has no CUDA"):
        providers_for("cuda")


def test_onnx_runtime_keeps_to_the_processor_where_there_is_a_gpu(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_AND_CPU)
    monkeypatch.setattr("pave_ros.engines.onnxruntime.has_gpu", lambda: True)
    assert open_file(exported, "detrpose_n", "onnxruntime", "cpu").device == "cpu"


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_exported_file_is_computed_in_what_is_asked_for(exported: Path, precision: str) -> None:
    assert open_file(exported, "detrpose_n", "openvino", "cpu", precision).precision == precision


def test_openvino_takes_bfloat16_by_itself_only_for_models_that_stand_it(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pave_ros.engines.openvino.computes_in_bf16", lambda: True)
    assert not read_label(exported).info.bf16
    assert open_file(exported, "detrpose_n", "openvino").precision == "fp32"


def test_openvino_refuses_what_it_does_not_do(exported: Path) -> None:
    with pytest.raises(EngineError, match="device cuda:0: OpenVINO runs on the CPU here"):
        OpenVinoEngine(exported, "cuda:0")
    with pytest.raises(EngineError, match="precision fp16: OpenVINO runs in fp32, bf16, int8 or auto"):
        OpenVinoEngine(exported, precision="fp16")


def test_what_is_built_is_what_is_asked_for(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def record(*arguments: Any) -> None:
        asked.append(arguments)
        raise EngineError("enough")

    monkeypatch.setattr(pave_ros.engines, "choose_to_build", lambda *_: ("tensorrt", "asked for"))
    monkeypatch.setattr(pave_ros.engines, "Build", record)
    with pytest.raises(EngineError, match="enough"):
        open_file(exported, "detrpose_n", "tensorrt", "cuda:1", "fp32", SIZE)
    with pytest.raises(EngineError, match="made for an input of 256x320"):
        open_file(exported, "detrpose_n", "tensorrt", "cuda:1", "fp32", (320, 256))
    assert asked == [("tensorrt", exported, "detrpose_n", "cuda:1", "fp32", SIZE)]


def test_pytorch_computes_in_16_bits_on_the_cpu_only_if_asked_to() -> None:
    picture = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    answers = []
    for asked, taken in (("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")):
        torch.manual_seed(0)
        engine = PyTorchEngine(models.create("simplebaseline_lite"), "cpu", asked, (64, 64))
        assert engine.precision == taken
        answers.append(engine.decode([engine.encode(picture)])["heatmaps"])
    by_itself, full, half = answers
    assert np.array_equal(by_itself, full)
    assert 0 < np.abs(half - full).mean() < 0.1 * np.abs(full).mean()


def test_the_form_of_shipped_weights_is_chosen_by_all_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def record(*arguments: Any) -> None:
        asked.append(arguments)
        raise EngineError("enough")

    monkeypatch.setattr(pave_ros.engines, "best_form", record)
    with pytest.raises(EngineError, match="enough"):
        open_file("n.pth", "detrpose_n", "pytorch", "cuda:1", "fp16", (64, 96))
    assert asked == [(Path("n.pth"), "pytorch", "cuda:1", "fp16", (64, 96))]


@pytest.mark.parametrize("precision", ["fp16", "half"])
def test_sixteen_bits_with_few_digits_need_a_gpu(precision: str) -> None:
    with pytest.raises(EngineError, match=f"precision {precision} needs CUDA; on the CPU use fp32 or bf16"):
        PyTorchEngine(models.create("simplebaseline_lite"), "cpu", precision)
