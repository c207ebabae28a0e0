"""The model that comes with the package: which of its files runs, how they are made, and what they can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pave_ros.checkpoints import files
from pave_ros.engines import shipped


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A package with both files, empty ones, on a machine without a GPU."""
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    monkeypatch.setattr(shipped, "_has_cuda", lambda: False)
    checkpoint = tmp_path / files.EMBEDDED.name
    checkpoint.touch()
    checkpoint.with_suffix(".onnx").touch()
    return checkpoint, checkpoint.with_suffix(".onnx")


@pytest.mark.parametrize(
    ("asked", "is_exported"),
    [
        ({}, True),
        ({"device": "cpu", "precision": "fp32"}, True),
        ({"engine": "onnxruntime"}, True),
        ({"engine": "onnxruntime", "device": "cuda:0"}, True),
        ({"engine": "pytorch"}, False),
        ({"device": "cuda"}, False),
        ({"input_size": (256, 256)}, False),
        ({"precision": "bf16"}, False),
    ],
)
def test_the_form_that_does_what_is_asked(pair: tuple[Path, Path], asked: dict[str, object], is_exported: bool) -> None:
    checkpoint, exported = pair
    request = {"engine": "auto", "device": "auto", "precision": "auto", "input_size": None, **asked}
    assert shipped.best_form(checkpoint, **request) == (exported if is_exported else checkpoint)  # type: ignore[arg-type]


def test_a_gpu_runs_the_network_itself(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, exported = pair
    monkeypatch.setattr(shipped, "_has_cuda", lambda: True)
    assert shipped.best_form(checkpoint, "auto", "auto", "auto", None) == checkpoint
    assert shipped.best_form(checkpoint, "auto", "cpu", "auto", None) == exported


def test_other_checkpoints_stand_for_themselves(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever lies beside a user's checkpoint was not made from it for sure."""
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / files.EMBEDDED.name
    for path in (mine, mine.with_suffix(".onnx")):
        path.touch()
    assert shipped.best_form(mine, "auto", "cpu", "auto", None) == mine
    pair[1].unlink()
    assert shipped.best_form(pair[0], "auto", "cpu", "auto", None) == pair[0], "an installation without it works too"
