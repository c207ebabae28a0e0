"""The TensorRT engines: `tensorrt` for data-centre and Jetson GPUs, `tensorrt_rtx` for GeForce and RTX; needs no torch.

Both libraries have the same calls. A network is built from an ONNX file, in the types that the file has (both build
"strongly typed"), which for `tensorrt_rtx` needs no GPU. The result is a ``.trt`` or ``.rtx`` file: eight bytes of
length, the label as JSON, the library's own plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros.engines.base import TOGETHER, Array, EngineError
from pave_ros.engines.exported import ExportedEngine, Label, read_label

LIBRARIES = {"tensorrt": ".trt", "tensorrt_rtx": ".rtx"}  # with the endings of their files
WORKSPACE = 2 << 30  # bytes that a layer may use while it computes
HEADER = 8

Progress = Callable[[str], None]


def build(
    library: str,
    onnx_file: Path,
    target: Path,
    batch: int | None = None,
    capabilities: Sequence[str] = (),
    progress: Progress = lambda text: None,
) -> Path:
    """Build the network of an ONNX file for GPUs.

    Args:
        library: one of `LIBRARIES`.
        onnx_file: made by `pave_ros.engines.onnx_export`; its types are those that are computed in.
        target: the file to write.
        batch: number of pictures that are handled together; None takes one, of crops of people any number up to 16.
        capabilities: names of compute capabilities to build for, e.g. ``SM86`` (`tensorrt_rtx` only). Without any
            `tensorrt_rtx` builds for all from ``SM80`` on, and `tensorrt` for the GPU that is here.
        progress: is told how far it is, in a few words.

    Raises:
        EngineError: the network cannot be built; says why.
    """
    trt = builder_for(library, capabilities)
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_file)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"{onnx_file}: {library} cannot parse it ({errors})")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.progress_monitor = _monitor(trt, progress)
    profile = builder.create_optimization_profile()
    label = read_label(onnx_file)
    most = batch or (TOGETHER if label.info.top_down else 1)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        least, largest = (tuple(size if side < 0 else side for side in tensor.shape) for size in (batch or 1, most))
        profile.set_shape(tensor.name, least, largest, largest)  # fastest where there is most to do
    config.add_optimization_profile(profile)
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for index, name in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{onnx_file}: {library} cannot build it; {log.last}")
    header = json.dumps(label.properties()).encode()
    with target.open("wb") as file:
        file.write(len(header).to_bytes(HEADER, "little"))
        file.write(header)
        file.write(plan)
    return target


def builder_for(library: str, capabilities: Sequence[str] = ()) -> Any:
    """The module of a library; EngineError where it is not installed, or does not build for GPUs of these names."""
    try:
        trt = import_module(library)
    except (ImportError, OSError) as error:  # OSError: it is installed, but not what it loads
        raise EngineError(f"{library} cannot be used here ({error})") from None
    kinds = getattr(trt, "ComputeCapability", None)
    known = kinds.__members__ if kinds else {}
    for name in capabilities:
        if name not in known:
            names = ", ".join(known) or "none by name, for it builds for the one that is here"
            raise EngineError(f"unknown compute capability {name!r}; {library} knows {names}")
    return trt


def read_engine(path: Path) -> tuple[Label, bytes]:
    """Label and plan of a built file; EngineError when it is none."""
    content = path.read_bytes()
    start = HEADER + int.from_bytes(content[:HEADER], "little")
    try:
        properties = json.loads(content[HEADER:start])
        label = Label.from_properties(properties, path)
    except (ValueError, TypeError):
        raise EngineError(
            f"{path}: not an engine of pave_ros; make it with `pave_ros export --format tensorrt`"
        ) from None
    return label, content[start:]


def facts_of_gpu(library: str, device: str) -> dict[str, str]:
    """What an engine depends on besides the network: the library's version and the GPU."""
    cuda = Cuda(device)
    return {
        "library": f"{library} {import_module(library).__version__}",
        "gpu": cuda.name,
        "capability": cuda.capability,
    }


class TensorRtEngine(ExportedEngine):
    """Runs a built file.

    Args:
        path: the file.
        device: ``auto``, ``cuda`` or ``cuda:N``.
        library: the one of `LIBRARIES` that built the file.
    """

    def __init__(self, path: Path | str, device: str = "auto", library: str = "tensorrt") -> None:
        self.name = library
        self._cuda = Cuda(device)
        self.device = f"cuda:{self._cuda.index}"
        super().__init__(path, device)

    def load(self, path: Path, device: str) -> tuple[Label, Plan]:
        label, plan = read_engine(path)
        trt = import_module(self.name)
        log = _log(trt)
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{path}: {self.name} {trt.__version__} cannot run it on this GPU; {log.last}")
        self.precision = label.precision
        return label, Plan(trt, engine, self._cuda, label.info.top_down)


class Plan:
    """One built network with its buffers, which are allocated once.

    What goes to the host passes through page-locked memory. Of a part for encoding single pictures, the features stay
    on the GPU, in buffers that are used again when nobody holds the features any more; those of several pictures are
    put together and taken apart on the host.

    Args:
        trt: the library.
        engine: of the library.
        cuda: where it runs.
        apart: whether features of single pictures, such as people's crops, are put together too.

    Attributes:
        outputs: names.
        batches: the largest and the smallest number of pictures that it takes.
    """

    def __init__(self, trt: Any, engine: Any, cuda: Cuda, apart: bool) -> None:
        self._cuda, self._context, self._keep = cuda, engine.create_execution_context(), engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = [name for name in names if is_input[name]]
        self.outputs = [name for name in names if not is_input[name]]
        profiles = [engine.get_tensor_profile_shape(name, 0) for name in self._inputs]  # least, best, most
        for name, (_, _, largest) in zip(self._inputs, profiles, strict=True):
            self._context.set_input_shape(name, largest)
        least, _, most = (shape[0] for shape in profiles[0])
        self.batches = (most, least) if most > least else (most,)
        self._stays = most == 1 and not apart and all(name.startswith("feature_") for name in self.outputs)
        self._pools = {
            name: Pool(
                cuda,
                tuple(self._context.get_tensor_shape(name)),
                trt.nptype(engine.get_tensor_dtype(name)),
                staged=is_input[name] or not self._stays,
            )
            for name in names
        }
        self._fixed: dict[str, Buffer] = {}  # of inputs that come from the host

    def next_batch(self, count: int) -> int:
        return min(max(count, self.batches[-1]), self.batches[0])

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        cuda, count = self._cuda, len(arrays[0])
        cuda.use()
        cuda.wait()  # The upload of an earlier frame, whose features stayed, may still read what is written now.
        for name, value in zip(self._inputs, arrays, strict=True):
            if isinstance(value, Buffer):
                buffer = value
            else:
                if name not in self._fixed:
                    self._fixed[name] = self._pools[name].take()
                buffer = self._fixed[name]
                np.copyto(buffer.host[:count], value)
                cuda.upload(buffer, count)
            self._context.set_input_shape(name, (count, *self._pools[name].shape[1:]))
            self._context.set_tensor_address(name, buffer.address)
        results = [self._pools[name].take() for name in self.outputs]
        for name, buffer in zip(self.outputs, results, strict=True):
            self._context.set_tensor_address(name, buffer.address)
        if not self._context.execute_async_v3(cuda.stream):
            raise EngineError("TensorRT failed to run the network")
        if self._stays:  # Whatever uses them runs in the same stream, after this.
            return tuple(results)
        for buffer in results:
            cuda.download(buffer, count)
        cuda.wait()
        return tuple(buffer.host[:count].copy() for buffer in results)


class Cuda:
    """A GPU through the CUDA runtime's own Python bindings: memory, copies, one stream."""

    def __init__(self, device: str) -> None:
        try:
            self._calls: Any = import_module("cuda.bindings.runtime")
        except ImportError:
            raise EngineError("TensorRT needs the CUDA runtime (pip install cuda-bindings)") from None
        kind, _, index = device.partition(":")
        if kind not in ("auto", "cuda"):
            raise EngineError(f"device {device}: TensorRT runs on cuda or cuda:N")
        self.index = int(index or 0)
        error, count = self._calls.cudaGetDeviceCount()
        if int(error) or self.index >= count:
            raise EngineError(f"device {device}: no such CUDA GPU here; use auto or cpu")
        self.use()
        properties = self.check(self._calls.cudaGetDeviceProperties(self.index))
        self.name = properties.name.decode().rstrip("\0")
        self.capability = f"{properties.major}.{properties.minor}"
        self.stream = int(self.check(self._calls.cudaStreamCreate()))

    def use(self) -> None:
        """Make it the GPU of the calling thread."""
        self.check(self._calls.cudaSetDevice(self.index))

    def check(self, result: tuple[Any, ...]) -> Any:
        """The value of a call; EngineError when it failed."""
        error, *values = result
        if int(error):
            raise EngineError(f"CUDA: {self._calls.cudaGetErrorString(error)[1].decode()}")
        return values[0] if values else None

    def allocate(self, size: int, staged: bool) -> tuple[int, int]:
        """(address on the GPU, address of page-locked memory of the host, 0 unless `staged`), both of `size` bytes."""
        address = int(self.check(self._calls.cudaMalloc(size)))
        return address, int(self.check(self._calls.cudaMallocHost(size))) if staged else 0

    def free(self, address: int, host: int) -> None:
        self._calls.cudaFree(address)
        if host:
            self._calls.cudaFreeHost(host)

    def upload(self, buffer: Buffer, count: int) -> None:
        """What belongs to the first pictures of a buffer, host to GPU, in the stream."""
        kind = self._calls.cudaMemcpyKind.cudaMemcpyHostToDevice
        source = buffer.host[:count]
        self.check(self._calls.cudaMemcpyAsync(buffer.address, source.ctypes.data, source.nbytes, kind, self.stream))

    def download(self, buffer: Buffer, count: int) -> None:
        """The same, GPU to host; `wait` before reading it."""
        kind = self._calls.cudaMemcpyKind.cudaMemcpyDeviceToHost
        target = buffer.host[:count]
        self.check(self._calls.cudaMemcpyAsync(target.ctypes.data, buffer.address, target.nbytes, kind, self.stream))

    def wait(self) -> None:
        """Until the stream is done."""
        self.check(self._calls.cudaStreamSynchronize(self.stream))


class Buffer:
    """Memory of one tensor on the GPU, and if it is `staged` its page-locked copy on the host; goes back to its pool
    when it is let go."""

    def __init__(self, pool: Pool, memory: tuple[int, int]) -> None:
        self._pool, self._memory = pool, memory
        self.address = memory[0]
        self.host = host_view(memory[1], pool.shape, pool.dtype) if memory[1] else np.empty(0, pool.dtype)
        self.nbytes = pool.nbytes

    def __len__(self) -> int:
        return self._pool.shape[0]

    def __del__(self) -> None:
        self._pool.free.append(self._memory)


class Pool:
    """Buffers of one shape, allocated when none is free."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: Any, staged: bool) -> None:
        self._cuda, self.shape, self.dtype, self._staged = cuda, shape, np.dtype(dtype), staged
        self.nbytes = prod(shape) * self.dtype.itemsize
        self.free: list[tuple[int, int]] = []

    def take(self) -> Buffer:
        return Buffer(self, self.free.pop() if self.free else self._cuda.allocate(self.nbytes, self._staged))

    def __del__(self) -> None:
        for memory in self.free:
            self._cuda.free(*memory)


def host_view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array over memory of the host that somebody else owns."""
    interface = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())


def _log(trt: Any) -> Any:
    """TensorRT's logger, which keeps the last error instead of printing everything."""

    class Log(trt.ILogger):  # type: ignore[misc]
        last = "it gives no reason"

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = text

    return Log()


def _monitor(trt: Any, progress: Progress) -> Any:
    """Tells in per cent how far a build is: its phases nest, and each has a known number of steps."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, step
            self._shown = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = parent_phase, max(num_steps, 1), 0

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps, _ = self._phases[phase_name]
            self._phases[phase_name] = parent, steps, step + 1
            self._shown = max(self._shown, self._done())
            progress(f"{self._shown:.0%}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _done(self, parent: str | None = None) -> float:
            """Share of a phase that is done: its own steps, and of the one in work what its inner phases have done."""
            inner = [(name, steps, step) for name, (above, steps, step) in self._phases.items() if above == parent]
            return max(((step + self._done(name)) / steps for name, steps, step in inner), default=0.0)

    return Monitor()
