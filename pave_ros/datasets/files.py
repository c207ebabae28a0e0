"""Finding and reading the files of data sets, with errors that say what is missing and where it is to be had."""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from scipy.io import loadmat

from pave_ros.datasets.base import DatasetError
from pave_ros.frames import Image
from pave_ros.pictures import decode_picture
from pave_ros.video import VideoError, open_source, read_picture

_AGAIN = "unpack or download the data set again"


def first_existing(root: Path, candidates: Iterable[str], source: str) -> Path:
    """The first of the files or folders under `root` that is there; DatasetError names all that were looked for."""
    paths = [root / candidate for candidate in candidates]
    for path in paths:
        if path.exists():
            return path
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; the data set is to be had from {source}")
    looked = " or ".join(str(path) for path in paths)
    found = ", ".join(sorted(p.name for p in root.iterdir())[:12]) or "nothing"
    raise DatasetError(f"{looked}: not found; {root} holds {found}. The data set is to be had from {source}")


def read_json(path: Path, cure: str = f"; {_AGAIN}") -> Any:
    """The content of a JSON file; DatasetError, with a `cure` where it is broken, or when it is missing."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a whole JSON file ({error}){cure}") from error


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, structures as objects; DatasetError when it is missing or broken."""
    try:
        with path.open("rb") as file:  # Of one that is missing scipy says something else.
            return dict(loadmat(file, squeeze_me=True, struct_as_record=False))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # scipy raises whatever the damage leads to
        raise DatasetError(f"{path}: not a whole MATLAB file ({error}); {_AGAIN}") from error


@contextmanager
def broken_entries(path: Path, cure: str = f"; {_AGAIN}") -> Iterator[None]:
    """Turn what a malformed entry of a file leads to into a DatasetError that names the file, and a `cure`."""
    try:
        yield
    except DatasetError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{path}: an entry is broken ({type(error).__name__}: {error}){cure}") from error


def read_rgb(path: Path) -> Image:
    """One picture, (H, W, 3) uint8 RGB; DatasetError when it is missing or broken."""
    try:
        return np.ascontiguousarray(read_picture(path, as_stored=True)[..., ::-1])
    except VideoError as error:
        raise DatasetError(f"{error}; the data set's annotations name this picture: {_AGAIN}") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, from its header; DatasetError when it is missing or broken."""
    try:
        with PillowImage.open(path) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError, PillowImage.DecompressionBombError) as error:
        raise DatasetError(f"{path}: no picture that can be read ({error}); {_AGAIN}") from error


def picture_reader(folder: Path) -> Callable[[str], Callable[[], Image]]:
    """What gives, for a file name, the function that reads the picture: from a folder, or in place from an
    uncompressed tar archive, whose own folders do not matter where there is only one such file."""
    if folder.suffix != ".tar":
        return lambda name: partial(read_rgb, folder / name)
    members = _members(folder)

    def reader(name: str) -> Callable[[], Image]:
        wanted = Path(name).parts
        alike = members.get(wanted[-1], {})
        # Videos may number their frames alike: the folder that the name says goes first.
        found = [alike[wanted]] if wanted in alike else [at for path, at in alike.items() if _ends(path, wanted)]
        found = found or list(alike.values())
        if len(found) != 1:
            raise DatasetError(f"{folder}: holds {'several' if found else 'no'} {name}; {_AGAIN}")
        return partial(_read_part, folder, name, *found[0])

    return reader


def _ends(path: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return path[-len(end) :] == end


def _members(archive: Path) -> Mapping[str, dict[tuple[str, ...], tuple[int, int]]]:
    """Where each file of a tar archive begins, and how many bytes it has, by its name and then its path."""
    members: dict[str, dict[tuple[str, ...], tuple[int, int]]] = defaultdict(dict)
    try:
        with tarfile.open(archive, "r:") as tar:
            for one in tar:
                if one.isfile():
                    members[Path(one.name).name][Path(one.name).parts] = (one.offset_data, one.size)
            return members
    except (OSError, ValueError, tarfile.TarError) as error:
        raise DatasetError(f"{archive}: not a whole, uncompressed tar archive ({error}); {_AGAIN}") from error


def _read_part(archive: Path, name: str, offset: int, size: int) -> Image:
    with archive.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    try:
        return np.ascontiguousarray(decode_picture(data)[..., ::-1])
    except ValueError as error:
        raise DatasetError(f"{archive}: {name} in it: {error}; {_AGAIN}") from error


def frame_of(path: Path, index: int) -> Image:
    """One frame of a short video, (H, W, 3) uint8 RGB; DatasetError when the video is missing, broken or shorter."""
    frames = _frames(path)
    if index >= len(frames):
        raise DatasetError(f"{path}: has {len(frames)} frames, but frame {index} is annotated; {_AGAIN}")
    return frames[index].copy()


@lru_cache(maxsize=4)  # neighbouring frames are asked for together, and seeking in a video is neither exact nor fast
def _frames(path: Path) -> list[Image]:
    try:
        with open_source(path) as source:
            return [np.ascontiguousarray(f.image[..., ::-1]) for f in source if f.image is not None]
    except (OSError, VideoError) as error:
        raise DatasetError(f"{error}; {_AGAIN}") from error
