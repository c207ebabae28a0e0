"""The benchmarks start: what they import is there. They are run by hand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_benchmarks_import_what_there_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which some of them set
    runpy.run_path(str(file), run_name="loaded")
