"""What can be known about running on CUDA without a GPU: nothing waits, recordings are trusted only if they agree, and
pictures prepared by torch are those that OpenCV prepares."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pave_ros import Estimator, models
from pave_ros.checkpoints import loading
from pave_ros.engines import cuda_graphs, open_file
from pave_ros.engines.base import EngineError
from pave_ros.engines.cuda_graphs import Recorded
from pave_ros.engines.pytorch import PyTorchEngine, prepared, resolve_device, store_as_computed
from pave_ros.engines.switching import SwitchingEngine
from pave_ros.frames import Image as Picture
from pave_ros.models import deformable, layers
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import ModelInfo
from pave_ros.preprocessing import network_input
from pave_ros.synthetic import Scene


class Waiting(TorchDispatchMode):
    """Notes which operations would wait for the GPU: those that bring a number to the processor, or to the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {value.device.type for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)}
        moves = func is torch.ops.aten._to_copy.default and len(devices) > 1
        if moves or any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.found.append(str(func))
        return result


class Both(nn.Module):
    """A picture to the raw outputs."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.model.decode([self.model.encode(images)] * self.model.info.window)


@pytest.fixture
def no_kept_constants() -> Iterator[None]:
    """Constants of a made-up GPU are of no use to others."""
    layers._made.cache_clear()
    deformable.kernel_works.cache_clear()
    yield
    layers._made.cache_clear()
    deformable.kernel_works.cache_clear()


@pytest.mark.usefixtures("no_kept_constants")
@pytest.mark.parametrize(
    "name",
    ["detrpose_n", "pavenet_r50", "pavenet_petr_r50", "tarvitpose_s", "poet_r50", "querypose_r50", "centernet_lite",
     "simplebaseline_lite"],
)  # fmt: skip
def test_nothing_in_the_networks_waits_for_the_gpu(name: str) -> None:
    """So they can be recorded as CUDA graphs. Tensors on a GPU that there is not have shapes and no numbers."""
    network = Both(models.create(name).eval().fuse())
    fake = FakeTensorMode()
    with fake, torch.no_grad():
        state = {
            key: fake.from_tensor(value).to("cuda")
            for key, value in [*network.named_parameters(), *network.named_buffers()]
        }
        images = torch.rand(1, 3, 192, 256, device="cuda")
        functional_call(network, state, (images,))  # The first time, constants go there.
        with Waiting() as waiting:
            outputs = functional_call(network, state, (images,))
    assert {value.device.type for value in outputs.values()} == {"cuda"}
    assert not waiting.found


KERNEL = """
import torch
from pave_ros.models.deformable import _gathered_attention, kernel_works
from pave_ros.models.deformable_cuda import attention

assert kernel_works("cpu")
generator = torch.Generator().manual_seed(0)
shapes = [(6, 9), (3, 5), (2, 2)]
values = torch.randn(2, 73, 36, generator=generator)
locations = torch.rand(2, 7, 3, 3, 5, 2, generator=generator) * 1.4 - 0.2  # some outside
weights = torch.rand(2, 7, 3, 3, 5, generator=generator)
found = attention(values, torch.tensor(shapes, dtype=torch.int32), locations, weights)
torch.testing.assert_close(found, _gathered_attention(values, shapes, locations, weights), rtol=1e-5, atol=1e-5)
"""


def test_the_kernel_for_cuda_is_deformable_attention() -> None:
    """As Triton's interpreter runs it on the processor."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", KERNEL], env=environment, check=True, timeout=120)


def test_without_a_compiler_it_goes_on_without_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """Here the kernel cannot run: it is not for processors."""
    caplog.set_level(logging.WARNING)  # libraries of other tests turn the level up
    deformable.kernel_works.cache_clear()
    assert not deformable.kernel_works("cpu") and not deformable.kernel_works("cpu")
    (message,) = caplog.messages
    assert message.startswith("goes on without the kernel for deformable attention, which is slower: ")
    deformable.kernel_works.cache_clear()


@pytest.mark.parametrize(("name", "options"), [
    ("detrpose_n", {}), ("pavenet_lite", {}), ("poet_r50", {}), ("querypose_r50_light", {"queries": 1}),
    ("tarvitpose_s", {}),
])  # fmt: skip
@torch.no_grad()
def test_weights_may_be_stored_as_they_are_computed_with(
    name: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones: a processor that is not made for bfloat16 takes minutes for hundreds of queries."""
    # On the processor torch has attention of its own, which autocast does not reach.
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    torch.manual_seed(0)
    network = Both(models.create(name, **options).eval().fuse())
    images = torch.rand(1, 3, 128, 96)
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(images)
        store_as_computed(network, torch.bfloat16)
        found = network(images)
    assert any(p.dtype == torch.bfloat16 for p in network.parameters())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_values_that_16_bits_cannot_hold_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    engine = PyTorchEngine(models.create("detrpose_n"), "cpu", input_size=(64, 64))
    window = [engine.encode(np.zeros((1, 3, 64, 64), np.float32))]
    engine.decode(window)
    engine.precision = "fp16"
    engine.decode(window)
    assert not caplog.messages
    monkeypatch.setattr(engine, "decode_tensors", lambda window: {"pred_logits": torch.tensor([1.0, float("nan")])})
    engine.decode(window)
    engine.decode(window)
    (message,) = caplog.messages
    assert message.startswith("detrpose_n: values too large for 16 bits") and "bf16 or fp32" in message


# --- recordings ---------------------------------------------------------------------------------------------------


def doubled(values: Tensor) -> tuple[Tensor, ...]:
    return (2 * values,)


def recorder(made: list[tuple[int, ...]], wrong: float = 0.0) -> Callable[..., Any]:
    """Stands for CUDA: a recording that is a function."""

    def record(function: cuda_graphs.Function, inputs: Sequence[Tensor]) -> cuda_graphs.Function:
        made.append(tuple(inputs[0].shape))
        if inputs[0].numel() == 13:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
        return lambda *values: tuple(value + wrong for value in function(*values))

    return record


def test_each_shape_is_recorded_once() -> None:
    made: list[tuple[int, ...]] = []
    function = Recorded(doubled, record=recorder(made))
    for size in (3, 4, 3):
        torch.testing.assert_close(function(torch.ones(size))[0], torch.full((size,), 2.0))
    assert made == [(3,), (4,)]
    for size in range(20, 20 + cuda_graphs.MOST):
        assert function(torch.ones(size))[0].sum() == 2 * size
    assert len(made) == cuda_graphs.MOST, "and no more of them than so"


def test_of_numbers_of_pictures_only_some_are_recorded() -> None:
    """Fewer are filled up to the next of them, laid out as they are; more are as they come."""
    made: list[tuple[int, ...]] = []
    layouts = set()

    def seen(maps: Tensor) -> tuple[Tensor, ...]:
        layouts.add(maps.is_contiguous(memory_format=torch.channels_last))
        return maps.sum((1, 2, 3)), 2 * maps

    function = Recorded(seen, (1, 2, 4), recorder(made))
    for count in (3, 1, 2, 4, 3, 7):
        maps = torch.rand(count, 3, 5, 6).to(memory_format=torch.channels_last)
        sums, doubled = function(maps)
        torch.testing.assert_close((sums, doubled), (maps.sum((1, 2, 3)), 2 * maps))
    assert [shape[0] for shape in made] == [4, 1, 2, 7] and layouts == {True}


@pytest.mark.parametrize(("size", "wrong", "reason"), [(13, 0.0, "not permitted"), (4, 0.5, "other numbers")])
def test_what_cannot_be_recorded_is_computed(
    size: int, wrong: float, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[tuple[int, ...]] = []
    function = Recorded(doubled, record=recorder(made, wrong))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(function(torch.ones(size))[0], torch.full((size,), 2.0))
    assert len(caplog.messages) == 1 and reason in caplog.messages[0]
    assert len(made) == 1


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture() -> Picture:
    return Scene(seed=8, width=640, height=480).frame(60).image


def grey_levels(found: Tensor, expected: np.ndarray[Any, Any], info: ModelInfo) -> float:
    """The largest difference of two normalised pictures, of 255."""
    assert found.shape == expected.shape
    return float((np.abs(found.numpy() - expected) * 255 * np.asarray(info.std).reshape(3, 1, 1)).max())


@pytest.mark.parametrize(("name", "bound"), [("detrpose_n", 1.001), ("centernet_lite", 1.001), ("pavenet_r50", 0.01)])
@pytest.mark.parametrize("bgr", [False, True])
def test_torch_enlarges_pictures_as_opencv_does(name: str, bound: float, bgr: bool, picture: Picture) -> None:
    """To a grey level where both round, and where nothing is rounded much nearer; PAVE-Net's are shrunk so as well."""
    info = models.create(name).info
    image = picture if name.startswith("pavenet") else cv2.resize(picture, (200, 150))
    assert grey_levels(prepared(torch.from_numpy(image), info, bgr), network_input(image, info, bgr), info) < bound


def test_torch_shrinks_pictures_as_pillow_does(picture: Picture) -> None:
    """And so as published."""
    info = models.create("centernet_lite").info
    height, width = info.input_size
    shrunk = np.asarray(PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BILINEAR))
    assert grey_levels(prepared(torch.from_numpy(picture), info), network_input(shrunk, info), info) < 1.001


def test_people_are_the_same_in_pictures_that_torch_prepares(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = Estimator(device="cpu", engine="pytorch")
    expected = estimator(picture)
    calls = []

    def as_on_cuda(engine: PyTorchEngine, image: Picture, bgr: bool = False) -> Features:
        calls.append(bgr)
        return engine.encode(prepared(torch.from_numpy(image), engine.info, bgr).numpy())

    monkeypatch.setattr(PyTorchEngine, "prepares", True)
    monkeypatch.setattr(PyTorchEngine, "encode_picture", as_on_cuda)
    found = estimator(picture)
    assert calls and len(found) == len(expected) > 0
    # It finds the people in the prepared picture; their crops are cut on the processor.
    apart = np.abs(found.keypoints[..., :2] - expected.keypoints[..., :2])[expected.keypoints[..., 2] > 0.5]
    assert np.median(apart) < 1


# --- compiled -----------------------------------------------------------------------------------------------------


def test_a_compiled_network_takes_over_once_it_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile stands back here, for it takes minutes: what it is given is called as it is."""
    compiled = []

    def compile(function: Any) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    weights = tmp_path / "weights.safetensors"
    loading.save(models.create("simplebaseline_lite"), weights)
    plain = open_file(weights, "simplebaseline_lite", "pytorch", "cpu")
    engine = open_file(weights, "simplebaseline_lite", "pytorch_compiled", "cpu", background=True)
    assert isinstance(engine, SwitchingEngine)
    images = np.random.default_rng(0).random((1, 3, 192, 160), np.float32)
    expected = plain.decode([plain.encode(images)])["heatmaps"]
    deadline = monotonic() + 60
    while engine.name == "pytorch" and monotonic() < deadline:
        np.testing.assert_allclose(engine.decode([engine.encode(images)])["heatmaps"], expected, atol=1e-5)
    assert engine.name == "pytorch_compiled"
    assert sorted(compiled) == ["_decoded", "_encoded"]
    np.testing.assert_allclose(engine.decode([engine.encode(images)])["heatmaps"], expected, atol=1e-5)
    assert "taken over" in engine.status


@pytest.mark.parametrize("bgr", [False, True])
def test_torch_gives_networks_that_want_blue_first_what_they_want(bgr: bool, picture: Picture) -> None:
    info = replace(models.create("detrpose_n").info, bgr=True)
    image = cv2.resize(picture, (200, 150))
    assert grey_levels(prepared(torch.from_numpy(image), info, bgr), network_input(image, info, bgr), info) < 1.001


@pytest.mark.parametrize(("precision", "told"), [("fp16", 1), ("half", 1), ("bf16", 0), ("fp32", 0)])
def test_values_that_are_too_large_are_told_of_the_precisions_that_have_few(
    precision: str, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    engine = PyTorchEngine(models.create("simplebaseline_lite"), "cpu", input_size=(64, 64))
    monkeypatch.setattr(engine, "decode_tensors", lambda window: {"heatmaps": torch.tensor([1.0, float("inf")])})
    engine.precision = precision
    engine.decode([])
    assert len(caplog.messages) == told


def test_gpus_are_counted_from_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(resolve_device(name)) for name in ("auto", "cuda", "cuda:1")] == ["cuda:0", "cuda:0", "cuda:1"]
    with pytest.raises(EngineError, match="device cuda:2: there are 2 CUDA GPUs here, counted from 0"):
        resolve_device("cuda:2")
