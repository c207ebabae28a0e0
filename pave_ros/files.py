"""Files and folders: those that appear when they are complete, and what a file holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 20  # bytes


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; the file gets its name when it is complete, and vanishes when it is not. An
    OSError on the way, such as of a full disk, names it."""
    partial = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.errno is not None:  # else its text would give way to the name
            error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder for results where there is none; NotADirectoryError where a file has that name, OSError where it
    cannot be made."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: is a file; results go into a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path}: this folder cannot be made: {error.strerror}") from error


def sha256(path: Path) -> str:
    """Of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
