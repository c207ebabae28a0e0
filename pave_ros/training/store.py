"""Labelled pictures in two files, which many workers read at random and at speed.

Videos cannot be read at random and tens of thousands of small files are slow; so pictures are decoded once and kept as
JPEG, one after the other in ``<name>.bin`` (mapped into memory, shared by all workers), the labels as arrays in
``<name>.npz``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros.datasets.base import PER_PERSON, Labels
from pave_ros.files import complete
from pave_ros.frames import Image

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """One picture to store.

    Attributes:
        id: what the data set calls it.
        image: (H, W, 3) uint8 RGB.
        labels: its people.
        split: the part of the data set that it belongs to, ``train`` or ``val``.
        mask: (H, W) uint8, 255 where the first person of `labels` is, None where no mask is known.
    """

    id: str
    image: Image
    labels: Labels
    split: str
    mask: Image | None = None


class StoreError(ValueError):
    """A store of pictures that is missing or broken; the message says how to make it."""


class PictureStore(Sequence[Picture]):
    """The pictures of ``folder/name``, decoded anew at each access.

    Args:
        folder: where the store is.
        name: its name.
        completed: take the labels that a teacher completed, where there are such.

    Attributes:
        ids, splits: one string for each picture, see `Picture`.
        sizes: width and height of each picture, pixels.
        masked: (N,) bool, whether the picture has a mask.
        labels: the labels of each picture.
    """

    def __init__(self, folder: Path, name: str, completed: bool = True) -> None:
        self.name = name
        self._path = Path(folder) / f"{name}.bin"
        index = self._path.with_suffix(".npz")
        if not (self._path.exists() and index.exists()):
            raise StoreError(f"{index}: no such file; `python -m pave_ros.training.prepare` makes it")
        arrays = read_arrays(index)
        with _damaged(index):
            self.ids: list[str] = arrays["ids"].tolist()
            self.splits: list[str] = arrays["splits"].tolist()
            self._spans: npt.NDArray[np.int64] = arrays["spans"]
            self.masked: npt.NDArray[np.bool_] = self._spans[:, 2] > self._spans[:, 1]
            self.sizes: list[tuple[int, int]] = [(int(width), int(height)) for width, height in arrays["sizes"]]
            if not len(self.ids) == len(self.splits) == len(self._spans) == len(self.sizes):
                raise ValueError("not as many ids as splits, spans and sizes")
        labels = self._path.with_suffix(".labels.npz")
        completed = completed and labels.exists()
        if completed:
            arrays.update(read_arrays(labels))
        with _damaged(labels if completed else index):
            self.labels: list[Labels] = unpack_labels(arrays)
        if len(self.labels) != len(self.ids):
            raise StoreError(
                f"{labels}: of other pictures; remove it and run `python -m pave_ros.training.prepare` again"
            )
        if len(self._spans) and self._path.stat().st_size != self._spans[-1, 2]:
            raise StoreError(f"{self._path}: cut off; remove it and run `python -m pave_ros.training.prepare` again")
        self._bytes: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...

    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        mask = self._decode(index, 1, cv2.IMREAD_GRAYSCALE) if self.masked[index] else None
        return Picture(self.ids[index], self.image(index), self.labels[index], self.splits[index], mask)

    def image(self, index: int) -> Image:
        """The picture, (H, W, 3) uint8 RGB."""
        return np.asarray(cv2.cvtColor(self._decode(index, 0, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)

    def _decode(self, index: int, part: int, flags: int) -> Image:
        if self._bytes is None:  # mapped by each worker for itself, so that the store can be sent to workers
            self._bytes = np.memmap(self._path, np.uint8, "r")
        begin, end = self._spans[index, part : part + 2]
        image = cv2.imdecode(np.asarray(self._bytes[begin:end]), flags)
        if image is None:
            raise StoreError(f"{self._path}: damaged at picture {index}; remove it and its .npz, and prepare it again")
        return np.asarray(image, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}


def write_store(folder: Path, name: str, pictures: Iterable[Picture]) -> PictureStore:
    """Write pictures to ``folder/name.bin`` and ``.npz``, in place of a store of this name, which the pictures may come
    from and others go on reading: it stays until all are written. What a teacher has said of its pictures goes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.bin"
    ids, splits, labels, sizes, spans, end = [], [], [], [], [], 0
    with complete(path) as partial, partial.open("wb") as file:
        for picture in pictures:
            span = [end]
            for data in (_encode(picture.image), b"" if picture.mask is None else _png(picture.mask)):
                file.write(data)
                end += len(data)
                span.append(end)
            spans.append(span)
            ids.append(picture.id)
            splits.append(picture.split)
            labels.append(picture.labels)
            sizes.append(picture.image.shape[1::-1])
        arrays: dict[str, Any] = {
            "ids": np.array(ids, str),
            "splits": np.array(splits, str),
            "sizes": np.array(sizes, int).reshape(-1, 2),
            "spans": np.array(spans, np.int64).reshape(-1, 3),
            **pack_labels(labels),
        }
        # The index goes before and comes last, so that none is ever beside other pictures.
        for suffix in (".npz", ".labels.npz", ".teacher.npz"):
            path.with_suffix(suffix).unlink(missing_ok=True)
    write_arrays(path.with_suffix(".npz"), arrays)
    return PictureStore(folder, name, completed=False)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file that gets its name when it is complete."""
    with complete(path) as partial:
        np.savez_compressed(partial, **arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """What `write_arrays` wrote; StoreError where it is damaged."""
    with _damaged(path), np.load(path) as stored:
        return dict(stored)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """StoreError where a file does not hold what it should."""
    try:
        yield
    except Exception as error:  # Of damaged files numpy and zipfile say all sorts of things.
        raise StoreError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove it and run "
            "`python -m pave_ros.training.prepare` again"
        ) from None


def _encode(image: Image) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])


def _png(mask: Image) -> bytes:
    return bytes(cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1])[1])


def pack_labels(labels: Sequence[Labels]) -> dict[str, Any]:
    """Labels of many pictures as arrays for `numpy.savez`: the people of all pictures one after the other."""
    layouts = {label.skeleton for label in labels}
    if len(layouts) > 1:
        raise ValueError(f"labels of different layouts in one store: {', '.join(sorted(layouts))}")
    polygons = [polygon for label in labels for polygon in label.ignore]
    arrays: dict[str, Any] = {
        "people": np.array([len(label) for label in labels], int),
        "regions": np.array([len(label.ignore) for label in labels], int),
        "corners": np.array([len(polygon) for polygon in polygons], int),
        "polygons": np.concatenate([np.zeros((0, 2), np.float32), *polygons]),
        "complete": np.array([label.complete for label in labels], bool),
        "skeleton": np.array(layouts.pop() if layouts else ""),
        "uncounted": np.concatenate([np.zeros(0, bool), *map(_uncounted, labels)]),
    }
    for name in PER_PERSON:
        parts = [getattr(label, name) for label in labels]
        arrays[name] = np.concatenate(parts) if parts else np.zeros(0)
    return arrays


def _uncounted(labels: Labels) -> npt.NDArray[np.bool_]:
    return np.zeros(len(labels), bool) if labels.uncounted is None else labels.uncounted


def unpack_labels(arrays: dict[str, Any]) -> list[Labels]:
    """What `pack_labels` packed."""
    people = np.concatenate([[0], np.cumsum(arrays["people"])])
    regions = np.concatenate([[0], np.cumsum(arrays["regions"])])
    polygons = np.split(arrays["polygons"], np.cumsum(arrays["corners"])[:-1]) if len(arrays["corners"]) else []
    everyone = Labels(
        **{name: arrays[name] for name in PER_PERSON},
        skeleton=str(arrays["skeleton"]),
        uncounted=arrays.get("uncounted"),  # Older stores have none.
    )
    return [
        replace(
            everyone[slice(people[i], people[i + 1])],
            ignore=tuple(polygons[regions[i] : regions[i + 1]]),
            complete=bool(arrays["complete"][i]),
        )
        for i in range(len(arrays["people"]))
    ]
