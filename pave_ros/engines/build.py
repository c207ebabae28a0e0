"""Make of a file what an engine runs, once, and keep it: a network exported from a checkpoint, a TensorRT engine.

As a program it does so in a process of its own, so that whoever wants it can go on meanwhile:

    python -m pave_ros.engines.build '{"engine": "openvino", "source": "detrpose_s.pth", "model": "detrpose_s"}'

prints how far it is, line by line, and the path of the result as the last one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from pave_ros import __version__, child
from pave_ros.engines.base import EngineError
from pave_ros.engines.cache import EngineCache
from pave_ros.engines.exported import files_of
from pave_ros.engines.tensorrt import LIBRARIES, facts_of_gpu
from pave_ros.engines.tensorrt import build as build_tensorrt
from pave_ros.files import sha256

Progress = Callable[[str], None]
NICENESS = 5


@dataclass(frozen=True)
class Build:
    """What is to be made.

    Attributes:
        engine: which is to run it, see `pave_ros.engines.choice`.
        source: a checkpoint, or for TensorRT also an exported ``.onnx``.
        model: name of the checkpoint's model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32`` or ``fp16``; an exported file keeps its own.
        input_size: (height, width) of the network's input; None takes the model's own.
        for_one_size: of a model that takes pictures of any proportions, which come in just this size.
    """

    engine: str
    source: Path
    model: str
    device: str = "auto"
    precision: str = "auto"
    input_size: tuple[int, int] | None = None
    for_one_size: bool = False

    @property
    def for_gpu(self) -> bool:
        return self.engine in LIBRARIES

    def facts(self) -> dict[str, str]:
        """All that the result depends on."""
        facts = {
            "model": self.model,
            "source": sha256(self.source),
            "version": __version__,
            "precision": self.precision if self.for_gpu else "fp32",  # An exported network is computed with in any.
            "input size": "x".join(map(str, self.input_size or ())),
        }
        if self.for_one_size:
            facts["pictures"] = "of one size"
        if self.for_gpu:
            facts.update(facts_of_gpu(self.engine, self.device))
        return facts

    def find(self, cache: EngineCache | None = None) -> Path | None:
        """The result, if it was made before."""
        try:
            cache = cache or EngineCache()
        except RuntimeError:  # there is no home directory, so nothing was kept
            return None
        return cache.find(self.facts())

    def run(self, progress: Progress = lambda text: None, cache: EngineCache | None = None) -> Path:
        """The result; made now if it was not before. EngineError when that fails."""
        return (cache or EngineCache()).get(self.facts(), lambda folder: self._make(folder, progress))

    def _make(self, folder: Path, progress: Progress) -> Path:
        if not self.for_gpu:
            return self._export(folder / "model.onnx", "fp32", progress)
        if self.source.suffix == ".onnx":
            return self._build(self.source, folder, progress)
        with TemporaryDirectory(dir=folder.parent) as work:
            precision = "fp32" if self.precision == "fp32" else "half"
            return self._build(self._export(Path(work) / "model.onnx", precision, progress), folder, progress)

    def _export(self, path: Path, precision: str, progress: Progress) -> Path:
        from pave_ros.checkpoints import loading
        from pave_ros.engines.onnx_export import export_onnx

        progress("exporting")
        network = loading.open_model(self.model, self.source)
        if network.info.resize != "stretch" and not self.for_one_size:
            raise EngineError(
                f"{self.model} takes pictures of any proportions, an engine only one size; choose it: "
                f"`pave_ros export {self.model} --input HEIGHTxWIDTH`, and give that file as weights"
            )
        return export_onnx(network, path, self.input_size, precision=precision)

    def _build(self, source: Path, folder: Path, progress: Progress) -> Path:
        made = []
        for part, file in files_of(source).items():
            target = folder / file.with_suffix(LIBRARIES[self.engine]).name

            def tell(text: str, part: str = part) -> None:
                progress(f"{part}, {text}")

            made.append(build_tensorrt(self.engine, file, target, progress=tell))
        return made[0]


class Apart:
    """A build in a process of its own, which leaves the processor to others."""

    def __init__(self, build: Build) -> None:
        self._request = {key: str(value) if key == "source" else value for key, value in asdict(build).items()}
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, progress: Progress, size: tuple[int, int] | None = None) -> Path:
        """The result, as of `Build.run`; of a model that takes pictures of any proportions for the `size` given."""
        one_size = {"input_size": size, "for_one_size": True} if size else {}
        command = child.command("pave_ros.engines.build", json.dumps(self._request | one_size))
        with (
            TemporaryFile("w+") as complaints,  # not a pipe, which fills up when nobody reads it
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
        ):
            self._process = process
            if self._stopped:  # before there was anything to end
                process.terminate()
            assert process.stdout is not None
            line = ""
            for line in map(str.strip, process.stdout):
                progress(line)
            process.wait()
            complaints.seek(0)
            errors = complaints.read().strip().splitlines()
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            raise EngineError(f"the build was ended by {name}; was there too little memory?")
        if process.returncode:
            raise EngineError(errors[-1] if errors else f"the build ended with code {process.returncode}")
        return Path(line)

    def stop(self) -> None:
        """End it before its time."""
        self._stopped = True
        if self._process is not None:
            self._process.terminate()


def main() -> int:
    request = json.loads(sys.argv[1])
    size = request.pop("input_size", None)
    build = replace(Build(**request), source=Path(request["source"]), input_size=tuple(size) if size else None)
    os.nice(NICENESS)
    try:
        print(build.run(lambda text: print(text, flush=True)))
    except (EngineError, OSError, ValueError, RuntimeError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
