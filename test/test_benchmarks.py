"""The benchmarks start: what they import is there. They are run by hand, but for the one that reaches into the node."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_benchmarks_import_what_there_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which some of them set
    runpy.run_path(str(file), run_name="loaded")


OVERHEAD = """
import json, node_overhead
node_overhead.SIZES = [(160, 120)]
print(json.dumps(node_overhead.in_process(node_overhead.parameters("detrpose_n", "cpu", 96), rounds=1)))
"""


def test_what_the_node_adds_is_measured() -> None:
    """In a process of its own, for it starts and ends ROS."""
    environment = {**os.environ, "PYTHONPATH": str(FILES[0].parent)}
    done = subprocess.run(
        [sys.executable, "-c", OVERHEAD], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout.splitlines()[-1]).values()
    assert figures["people"] > 0
    assert figures["node"] > figures["model"] > 0 and figures["added"] > figures["message"] > 0
