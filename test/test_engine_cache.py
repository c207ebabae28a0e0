"""The cache of engines: made once, by one process at a time; what is stale or broken is made anew."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from pave_ros.engines.base import EngineError
from pave_ros.engines.cache import RECORD, EngineCache

FACTS = {"model": "detrpose_n", "weights": "abc", "gpu": "RTX", "precision": "fp16", "shape": "1x3x64x64"}


class Maker:
    """Makes an entry of two files and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> Path:
        self.calls += 1
        (folder / "a.bin").write_bytes(b"weights")
        (folder / "model.engine").write_text(f"engine {self.calls}")
        return folder / "model.engine"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_made_once(cache: EngineCache) -> None:
    make = Maker()
    assert cache.find(FACTS) is None
    path = cache.get(FACTS, make)
    assert path.read_text() == "engine 1"
    assert cache.get(FACTS, make) == cache.find(FACTS) == path
    assert make.calls == 1


def test_what_is_there_is_taken_where_nothing_can_be_written(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    path = cache.get(FACTS, Maker())
    monkeypatch.setattr("fcntl.flock", refuse)
    assert cache.get(FACTS, Maker()) == path


def test_a_folder_that_nobody_may_look_into_holds_nothing(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    cache.get(FACTS, Maker())
    monkeypatch.setattr(os, "stat", refuse)
    assert cache.find(FACTS) is None


def test_what_a_killed_process_left_is_cleared_away(cache: EngineCache) -> None:
    path = cache.get(FACTS, Maker())
    left = path.parents[1] / f"part-{path.parent.name}-abc"
    other = path.parents[1] / "part-detrpose_n-of_another-abc"
    for folder in (left, other):
        (folder / "entry").mkdir(parents=True)
    path.unlink()
    assert cache.get(FACTS, Maker()) == path and not left.exists() and other.exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_lies_in_the_way_is_replaced(kind: str, cache: EngineCache, tmp_path: Path) -> None:
    path = cache.get(FACTS, Maker())
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.write_text("x") if kind == "file" else path.parent.symlink_to(tmp_path / "nowhere")
    assert cache.get(FACTS, Maker()) == path and path.read_text() == "engine 1"


def test_a_full_disk_is_told_with_the_folder(cache: EngineCache) -> None:
    def make(folder: Path) -> Path:
        raise OSError(28, "No space left on device")

    with pytest.raises(EngineError, match=r"engines: nothing can be kept here \(No space left on device\)"):
        cache.get(FACTS, make)
    assert not list(cache.folder.glob("part-*"))


def test_where_nothing_can_be_kept_there_is_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(EngineError, match=r"engines: nothing can be kept here \(File exists\); set PAVE_ROS_CACHE"):
        EngineCache(tmp_path / "engines").get(FACTS, Maker())


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_counts(cache: EngineCache, fact: str) -> None:
    make = Maker()
    cache.get(FACTS, make)
    assert cache.find({**FACTS, fact: "other"}) is None
    assert cache.get({**FACTS, fact: "other"}, make).read_text() == "engine 2"
    assert cache.find(FACTS) is not None


def _cut(entry: Path) -> None:
    (entry / "model.engine").write_text("eng")


def _flip(entry: Path) -> None:
    (entry / "a.bin").write_bytes(b"weighty")


def _remove(entry: Path) -> None:
    (entry / "model.engine").unlink()


def _unreadable_record(entry: Path) -> None:
    (entry / RECORD).write_text("{")


def _strange_record(entry: Path) -> None:
    (entry / RECORD).write_text("[]")


def _endless_record(entry: Path) -> None:
    (entry / RECORD).write_text("[" * 100_000)


def _empty_record(entry: Path) -> None:
    (entry / RECORD).write_text(json.dumps({"facts": FACTS, "files": {}}))


def _record_of_another(entry: Path) -> None:
    record = json.loads((entry / RECORD).read_text())
    record["facts"]["gpu"] = "another"
    (entry / RECORD).write_text(json.dumps(record))


DAMAGES = [
    _cut, _flip, _remove, _unreadable_record, _strange_record, _endless_record, _empty_record, _record_of_another
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_match_its_record_is_made_anew(cache: EngineCache, damage: object) -> None:
    make = Maker()
    damage(cache.get(FACTS, make).parent)  # type: ignore[operator]
    assert cache.find(FACTS) is None
    assert cache.get(FACTS, make).read_text() == "engine 2"
    assert cache.find(FACTS) is not None


def test_a_build_that_fails_leaves_nothing(cache: EngineCache) -> None:
    def fail(folder: Path) -> Path:
        (folder / "model.engine").write_text("half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get(FACTS, fail)
    assert cache.find(FACTS) is None
    assert not [path for path in cache.folder.iterdir() if path.is_dir()]


def test_two_that_want_the_same_build_it_once(cache: EngineCache) -> None:
    make = Maker()

    def slowly(folder: Path) -> Path:
        time.sleep(0.2)
        return make(folder)

    threads = [threading.Thread(target=cache.get, args=(FACTS, slowly)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1


def test_the_order_of_the_facts_does_not_count(cache: EngineCache) -> None:
    path = cache.get(FACTS, Maker())
    assert cache.find(dict(reversed(FACTS.items()))) == path


def test_many_entries_of_a_model_live_side_by_side(cache: EngineCache) -> None:
    different = [{**FACTS, "weights": str(number)} for number in range(20)]
    made = [cache.get(facts, Maker()) for facts in different]
    assert [cache.find(facts) for facts in different] == made and len(set(made)) == 20


def test_it_lies_beside_the_downloaded_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAVE_ROS_CACHE", str(tmp_path))
    assert EngineCache().folder == tmp_path / "engines"
