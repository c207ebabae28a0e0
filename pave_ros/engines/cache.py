"""Files that take long to make, kept for the next time: engines built for one GPU, networks exported from a checkpoint.

An entry is a file, or several, and beside them a record of all that it depends on and of their SHA-256. They are made
in a folder that gets its name when everything is complete. What does not match its record is deleted, never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pave_ros.checkpoints.files import CACHE_VARIABLE, cache_dir
from pave_ros.engines.base import EngineError
from pave_ros.files import sha256

RECORD = "record.json"


class EngineCache:
    """The cache.

    Args:
        folder: where it lies; None takes ``engines`` beside the downloaded weights.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir().parent / "engines"

    def find(self, facts: Mapping[str, str]) -> Path | None:
        """The file that was made from exactly these facts, if it is there and whole.

        An entry that is not, because the disk was full, something was killed or somebody wrote into it, is deleted.
        """
        entry = self._entry(facts)
        if not os.path.isdir(entry):  # also where nobody may look
            return None
        try:
            record = json.loads((entry / RECORD).read_text())
            whole = record["facts"] == dict(facts) and bool(record["files"])
            whole = whole and all(sha256(entry / name) == digest for name, digest in record["files"].items())
            if whole:
                return entry / next(iter(record["files"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # Whatever is wrong with it, it is made anew.
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def get(self, facts: Mapping[str, str], make: Callable[[Path], Path]) -> Path:
        """The file for these facts; made first where there is none.

        Args:
            facts: all that the file depends on, by name.
            make: writes the file, or several, into the folder that it is given, and returns the one to open.
                Two processes that want the same entry do not both make it: one waits for the other.
        """
        if (found := self.find(facts)) is not None:  # also where nothing can be written
            return found
        with self._lock(facts):
            if (found := self.find(facts)) is not None:
                return found
            entry = self._entry(facts)
            prefix = f"part-{entry.name}-"
            for left in self.folder.glob(f"{prefix}*"):  # by who was killed, for only who has the lock makes it
                shutil.rmtree(left, ignore_errors=True)
            with self._written(), tempfile.TemporaryDirectory(dir=self.folder, prefix=prefix) as work:
                folder = Path(work) / "entry"
                folder.mkdir()
                made = make(folder)
                names = sorted(file.name for file in folder.iterdir())
                names.sort(key=lambda name: name != made.name)  # The one to open first.
                record = {"facts": dict(facts), "files": {name: sha256(folder / name) for name in names}}
                (folder / RECORD).write_text(json.dumps(record, indent=2))
                if entry.is_symlink() or entry.is_file():
                    entry.unlink()
                os.replace(folder, entry)
            return entry / made.name

    def _entry(self, facts: Mapping[str, str]) -> Path:
        digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()
        return self.folder / f"{facts.get('model', 'model')}-{digest[:20]}"

    @contextmanager
    def _written(self) -> Iterator[None]:
        """EngineError where the folder cannot be written to."""
        try:
            yield
        except OSError as error:
            reason = f"{self.folder}: nothing can be kept here ({error.strerror or error})"
            raise EngineError(f"{reason}; set {CACHE_VARIABLE} to another folder") from error

    @contextmanager
    def _lock(self, facts: Mapping[str, str]) -> Iterator[None]:
        with self._written():
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._entry(facts).with_suffix(".lock").open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
