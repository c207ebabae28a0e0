"""The benchmarks start: what they import is there. They are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_benchmarks_import_what_there_is(file: Path) -> None:
    load = f"import runpy; runpy.run_path({str(file)!r}, run_name='loaded')"
    result = subprocess.run([sys.executable, "-c", load], cwd=file.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
