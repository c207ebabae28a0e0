"""Exported models: what their files say of themselves, and the engine that runs their parts, whatever the library.

An image model is one file, ``NAME.onnx``. A video model is two, ``NAME.encode.onnx`` for what runs once for every frame
and ``NAME.decode.onnx`` for what runs on a window of frames; either one stands for both.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from pave_ros.engines.base import Engine, EngineError, Outputs
from pave_ros.models.info import METADATA_KEY, ModelInfo

WHOLE, ENCODE, DECODE = "whole", "encode", "decode"
# With one of these, or with the part alone, the names of nodes begin.
BACKBONE, COORDINATES = f"{ENCODE}/backbone", f"{ENCODE}/coordinates"


@dataclass(frozen=True)
class Label:
    """What an exported file says of itself, so that running it needs nothing else.

    Attributes:
        info: the model.
        part: ``whole``, ``encode`` or ``decode``.
        precision: ``fp32``, ``fp16`` (weights in 16 bits) or ``int8``.
        weights: SHA-256 of the network's weights, the same in both parts.
        version: of the package that wrote the file.
    """

    info: ModelInfo
    part: str
    precision: str
    weights: str
    version: str

    def properties(self) -> dict[str, str]:
        """As pairs of text, the form in which files carry it."""
        facts = {"part": self.part, "precision": self.precision, "weights": self.weights, "version": self.version}
        return {METADATA_KEY: self.info.to_json(), **{f"{METADATA_KEY}_{key}": fact for key, fact in facts.items()}}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: Path) -> Label:
        """The label of the file `path`; EngineError when it has none."""
        try:
            info = ModelInfo.from_json(properties[METADATA_KEY])
            facts = {key: properties[f"{METADATA_KEY}_{key}"] for key in ("part", "precision", "weights", "version")}
            if (info.window > 1) != (facts["part"] in (ENCODE, DECODE)):
                raise ValueError("one file for a window of frames, or a part for a single one")
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EngineError(
                f"{path}: no pave_ros metadata in it that this version understands ({error}); make the file with "
                "`pave_ros export`"
            ) from None
        return cls(info=info, **facts)


class Part(Protocol):
    """One file, loaded by a library: arrays in, arrays out."""

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the outputs."""

    @property
    def batches(self) -> tuple[int, ...]:
        """Numbers of pictures for each of which it prepares itself, the largest first."""

    def next_batch(self, count: int) -> int:
        """Batch size of the next pass when `count` pictures are left: at most as many, or more where the file takes no
        smaller batch."""

    def __call__(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs, in the order of their names, of such a number of pictures; they stay valid whatever is computed
        later."""


def in_passes(part: Part, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The outputs of a part for any number of pictures, in as many passes as it takes them in; what is too few for one
    is filled up with zeros."""
    results, start, count = [], 0, len(arrays[0])
    while start < count:
        size = part.next_batch(count - start)
        if size == count:
            return part(arrays)
        passed = [array[start : start + size] for array in arrays]
        found = len(passed[0])
        if found < size:
            passed = [np.pad(array, [(0, size - found)] + [(0, 0)] * (array.ndim - 1)) for array in passed]
        results.append([value[:found] for value in part(passed)])
        start += size
    return tuple(np.concatenate(values) for values in zip(*results, strict=True))


class ExportedEngine(Engine):
    """Runs exported files with a library; a subclass says how one file is loaded.

    Args:
        path: the file, of a video model either of the two.
        device: see the subclass.
    """

    def __init__(self, path: Path | str, device: str = "auto") -> None:
        parts: dict[str, Part] = {}
        labels: list[Label] = []
        for name, file in files_of(Path(path)).items():
            label, parts[name] = self.load(file, device)
            if label.part != name:
                raise EngineError(f"{file}: its name and its metadata ({label.part}) disagree on which part it is")
            if labels and label.weights != labels[0].weights:
                raise EngineError(f"{file}: made of other weights than the part for encoding; export both anew")
            if labels and label.info != labels[0].info:
                raise EngineError(f"{file}: made for another input or skeleton than the part for encoding")
            labels.append(label)
        self.info = labels[0].info
        self._encode, self._decode = parts.get(ENCODE) or parts[WHOLE], parts.get(DECODE)
        self.batches = max(part.batches for part in parts.values())  # of two parts those of the one that has more

    @abstractmethod
    def load(self, path: Path, device: str) -> tuple[Label, Part]:
        """Load one file; sets `device` and `precision`. EngineError when it cannot be run here."""

    def encode(self, images: npt.NDArray[np.float32]) -> tuple[Any, ...]:
        return in_passes(self._encode, [images])

    def decode(self, window: Sequence[tuple[Any, ...]]) -> Outputs:
        if self._decode is None:  # One file for everything: its answer is all there is to keep of a frame.
            return dict(zip(self._encode.outputs, window[-1], strict=True))
        features = [feature for frame in window for feature in frame]
        return dict(zip(self._decode.outputs, in_passes(self._decode, features), strict=True))


def part_path(path: Path, part: str) -> Path:
    """Where a part of the model that is exported to `path` lies: ``x.onnx`` or ``x.encode.onnx``."""
    return path if part == WHOLE else path.with_suffix(f".{part}{path.suffix}")


def whole_path(path: Path) -> Path:
    """The path that the parts' paths are made from: ``x.encode.onnx`` gives ``x.onnx``."""
    return path.with_name(re.sub(rf"\.({ENCODE}|{DECODE})(\.\w+)$", r"\2", path.name))


def files_of(path: Path) -> dict[str, Path]:
    """The files of an exported model by part, in the order in which they run.

    Args:
        path: the one file of an image model; of a video model either file, or what their names have in common.
    """
    whole = whole_path(path)
    if whole == path and path.is_file():
        return {WHOLE: path}
    pair = {part: part_path(whole, part) for part in (ENCODE, DECODE)}
    missing = [file for file in pair.values() if not file.is_file()]
    if len(missing) == 2:
        raise FileNotFoundError(f"no such model file: {path}")
    if missing:
        raise FileNotFoundError(f"no such model file: {missing[0]}; a video model is exported as two files")
    return pair


def first_of_two(path: Path) -> Path | None:
    """The file for encoding of a video model, by what the names of its two files have in common; None where there is
    none, or a file of that very name."""
    encode = part_path(path, ENCODE) if path.suffix else path
    return encode if not path.is_file() and encode.is_file() else None


def read_label(path: Path) -> Label:
    """What an ONNX file says of itself; reads no weights and needs no library. EngineError when it says nothing."""
    try:
        with path.open("rb") as file:
            properties = [dict(_fields(BytesIO(entry), (1, 2))) for _, entry in _fields(file, (_METADATA_PROPS,))]
        return Label.from_properties({entry[1].decode(): entry[2].decode() for entry in properties}, path)
    except (KeyError, ValueError, OverflowError, MemoryError):
        raise EngineError(f"{path}: not an ONNX file") from None


# An ONNX file is a protobuf message, whose fields follow one another as key, length, content. `metadata_props` is field
# 14; its entries have the fields 1, the key, and 2, the value (onnx/onnx.proto). The graph is passed over.
_METADATA_PROPS = 14
_VARINT, _LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}  # Wire type -> bytes


def _fields(file: BinaryIO, wanted: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields with the wanted numbers."""
    while (key := _varint(file)) is not None:
        number, kind = key >> 3, key & 7
        length = _varint(file) or 0 if kind in (_VARINT, _LENGTH) else _FIXED[kind]
        if kind == _VARINT:
            continue
        if number in wanted:
            yield number, file.read(length)
        else:
            file.seek(length, 1)


def _varint(file: BinaryIO) -> int | None:
    """A number of seven bits a byte, the lowest first; None at the end of the file. ValueError where it has more than
    64 bits, as in a file of something else."""
    value = shift = 0
    while byte := file.read(1):
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
        value |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128:
            return value
    return None
