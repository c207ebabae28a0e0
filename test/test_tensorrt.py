"""TensorRT's runtime without a GPU: what lies between the network and the rest, on an imitation of CUDA.

Its memory is the host's, its stream does nothing before somebody waits for it, and a plan is an ONNX file that ONNX
Runtime computes. That TensorRT itself builds the networks is seen in test_exports and test_systems_in_engines.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from photograph import answer, photograph
from test_pavenet import small as small_pavenet
from test_tarvitpose import tiny as tiny_tarvitpose

from pave_ros import models
from pave_ros.engines.base import TOGETHER
from pave_ros.engines.export import Request, write
from pave_ros.engines.exported import files_of, read_label
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.tensorrt import HEADER, TensorRtEngine, build


class Device:
    """What `cuda.bindings.runtime` offers, as far as it is used, under its names."""

    def __init__(self) -> None:
        self.memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.waiting: list[Callable[[], object]] = []
        self.allocations = self.on_host = 0

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
            cudaGetDeviceCount=lambda: (0, 1),
            cudaSetDevice=lambda index: (0,),
            cudaGetDeviceProperties=lambda index: (0, SimpleNamespace(name=b"Imitation\0", major=9, minor=0)),
            cudaStreamCreate=lambda: (0, 7),
            cudaMalloc=self.allocate,
            cudaMallocHost=self.allocate_on_host,
            cudaFree=self.free,
            cudaFreeHost=self.free,
            cudaMemcpyAsync=self.copy,
            cudaStreamSynchronize=self.wait,
        )

    def allocate(self, size: int) -> tuple[int, int]:
        memory = ctypes.create_string_buffer(size)
        self.allocations += 1
        self.memory[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def allocate_on_host(self, size: int) -> tuple[int, int]:
        self.on_host += size
        return self.allocate(size)

    def free(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        self.waiting.append(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def wait(self, stream: int) -> tuple[int]:
        for command in self.waiting:
            command()
        self.waiting.clear()
        return (0,)


class Context:
    """An execution context, and the engine that it belongs to."""

    def __init__(self, plan: bytes, device: Device, batch: int | None) -> None:
        self.session = onnxruntime.InferenceSession(plan)
        self.inputs = {item.name: item for item in self.session.get_inputs()}
        self.names = [*self.inputs, *(item.name for item in self.session.get_outputs())]
        self.num_io_tensors = len(self.names)
        self.device, self.batch = device, batch
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def create_execution_context(self) -> Context:
        return self

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> type[np.float32]:
        return np.float32

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        rest = self.inputs[name].shape[1:]
        return [(batch, *rest) for batch in (self.batch or 1, self.batch or TOGETHER, self.batch or TOGETHER)]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert self.get_tensor_profile_shape(name, 0)[0][0] <= shape[0] <= self.get_tensor_profile_shape(name, 0)[2][0]
        self.shapes[name] = shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.inputs:
            return self.shapes[name]
        inputs = {name: np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        return self.session.run([name], inputs)[0].shape  # type: ignore[no-any-return]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)

        def command() -> None:
            found = self.session.run(None, {name: view(addresses[name], shapes[name]) for name in shapes})
            for name, value in zip(self.names[len(shapes) :], found, strict=True):
                view(addresses[name], value.shape)[...] = value

        self.device.waiting.append(command)
        return True


def view(address: int, shape: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    memory = (ctypes.c_float * int(np.prod(shape))).from_address(address)
    return np.ctypeslib.as_array(memory).reshape(shape)


Open = Callable[[Path, int | None], TensorRtEngine]


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def opened(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The engine of an exported model, which takes pictures in this number, or any up to 16."""

    def open_engine(file: Path, batch: int | None) -> TensorRtEngine:
        def deserialized(plan: bytes) -> Context:
            return Context(plan, device, batch)

        library = SimpleNamespace(
            ILogger=type("ILogger", (), {"__init__": lambda self: None}),
            Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=deserialized),
            TensorIOMode=SimpleNamespace(INPUT="input"),
            nptype=lambda kind: kind,
        )
        monkeypatch.setitem(sys.modules, "tensorrt", library)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", device.module())  # type: ignore[arg-type]
        for part in files_of(file).values():
            header = json.dumps(read_label(part).properties()).encode()
            built = tmp_path / part.with_suffix(".trt").name
            built.write_bytes(len(header).to_bytes(HEADER, "little") + header + part.read_bytes())
        return TensorRtEngine(tmp_path / file.with_suffix(".trt").name)

    return open_engine


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(small_pavenet(), tmp_path_factory.mktemp("video") / "m.onnx", Request(input_size=(64, 96)))[0]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tiny_tarvitpose(), tmp_path_factory.mktemp("crops") / "m.onnx", Request(input_size=(64, 48)))[0]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_video_model_gives_the_numbers_of_its_network(video: Path, opened: Open, batch: int) -> None:
    """One picture at a time, whose features stay on the GPU, or as the first of several."""
    engine, known = opened(video, batch), OnnxRuntimeEngine(video, "cpu")
    assert (engine.device, engine.batches) == ("cuda:0", (batch,))
    picture = photograph(known)
    for by in (3, 7):  # Frames of a window are encoded one after the other, and nobody waits in between.
        expected, found = answer(known, picture, by), answer(engine, picture, by)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_a_stream_takes_no_memory_more(video: Path, opened: Open, device: Device) -> None:
    engine = opened(video, 1)
    picture = photograph(engine)
    window = [engine.encode(picture)] * engine.info.window
    assert all(part.nbytes > 0 for part in window[0]), "and what frames hold is known"
    for turn in range(8):
        window = [*window[1:], engine.encode(picture)]
        engine.decode(window)
        if turn == 3:
            allocated = device.allocations
    assert device.allocations == allocated
    features = sum(part.nbytes for part in window[0])
    assert device.on_host < features + picture.nbytes, "features that stay on the GPU need no memory on the host"
    del engine, window
    assert not device.memory, "and gives it back"


@pytest.mark.parametrize(("count", "batch"), [(1, None), (3, None), (TOGETHER, None), (TOGETHER + 2, None), (3, 1)])
def test_people_are_taken_together_and_apart(crops: Path, opened: Open, count: int, batch: int | None) -> None:
    """As a top-down model does it: features of each person are kept, and put together with those of others."""
    engine, known = opened(crops, batch), OnnxRuntimeEngine(crops, "cpu")
    assert engine.batches == ((batch,) if batch else (TOGETHER, 1))
    pictures = np.random.default_rng(0).random((count, 3, 64, 48), np.float32)
    results = []
    for one in (engine, known):
        people = one.split(one.encode(pictures))
        frames = [people[turn:] + people[:turn] for turn in range(one.info.window)]
        results.append(one.decode([one.stack(frame) for frame in frames])["heatmaps"])
    assert len(results[0]) == count and np.ptp(results[1]) > 0
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize(("name", "batch", "shapes"), [
    ("simplebaseline_lite", None, (1, TOGETHER, TOGETHER)), ("simplebaseline_lite", 4, (4, 4, 4)),
    ("centernet_lite", None, (1, 1, 1)),
])  # fmt: skip
def test_engines_are_built_for_the_crops_of_many(
    name: str, batch: int | None, shapes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the library itself, for crops in any number, for whole pictures one by one."""
    trt = pytest.importorskip("tensorrt_rtx", reason="there is no TensorRT for this processor")
    profiles: list[Any] = []
    create = trt.Builder.create_optimization_profile

    def noted(builder: Any) -> Any:
        profiles.append(create(builder))
        return profiles[-1]

    monkeypatch.setattr(trt.Builder, "create_optimization_profile", noted)
    [file] = write(models.create(name), tmp_path / "m.onnx", Request(precision="fp32", input_size=(64, 64)))
    build("tensorrt_rtx", file, tmp_path / "m.rtx", batch, ["SM89"])
    assert [tuple(shape) for shape in profiles[0].get_shape("images")] == [(size, 3, 64, 64) for size in shapes]
