"""What the commands hand on to the code behind them, and what they say in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_cli import QUICK, Call
from test_cli import cache as cache
from test_cli import call as call
from test_cli import clip as clip
from test_cli import demos as demos
from test_evaluation import RUNNER, coco_files, write

from pave_ros import __version__, catalogue, cli
from pave_ros.checkpoints import files
from pave_ros.models.base import PoseModel
from pave_ros.predict import Summary
from pave_ros.topdown.options import TopDownOptions


def test_node_gets_a_device(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from pave_ros.ros import node

    calls: list[Any] = []
    monkeypatch.setattr(node, "main", lambda arguments: calls.append(arguments) or 0)
    call("node", "--device", "cpu")
    assert calls == [["--ros-args", "-p", 'device:="cpu"', "--"]]


def test_camera_gets_a_frame_and_a_rate_of_0(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from pave_ros.ros import camera

    calls: list[Any] = []
    monkeypatch.setattr(camera, "run_camera", lambda *a, **k: calls.append((a, k)) or 0)
    call("camera", "--rate", "0", "--loop", "--frame-id", "left_eye")
    assert calls == [(([],), {"rate": 0.0, "loop": True, "frame_id": "left_eye"})]


def test_demo_hands_on_every_option(call: Call, demos: list[dict[str, Any]], tmp_path: Path) -> None:
    options = ("--rate", "5", "--seconds", "3", "-o", str(tmp_path), "--device", "cpu", "--input-size", "64x96")
    call("demo", "--video", "synthetic:seed=4", "--model", "detrpose_n", "--weights", "random", *options)
    assert demos == [
        {
            "source": "synthetic:seed=4", "seconds": 3, "output": tmp_path, "rate": 5, "model": "detrpose_n",
            "weights": "random", "device": "cpu", "input_size": (64, 96), "ros_args": [],
        }
    ]  # fmt: skip


def test_demo_tells_of_a_missing_video_before_it_begins(call: Call, demos: list[dict[str, Any]]) -> None:
    result = call("demo", "--video", "nowhere.mp4")
    assert result.returncode == 1 and "nowhere.mp4" in result.stderr and not demos


def test_predict_hands_on_every_option(call: Call, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def estimator(**options: Any) -> None:
        seen.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("pave_ros.estimator.Estimator", estimator)
    call("predict", str(clip), "-o", str(tmp_path))
    assert seen == {
        "model": "embedded", "weights": "auto", "device": "auto", "engine": "auto", "precision": "auto",
        "score_threshold": 0.3, "max_persons": 20, "smoothing": "auto", "input_size": None,
        "top_down": TopDownOptions("auto", "auto", 0.2, "auto", False, True, 0, True),
    }  # fmt: skip
    call(
        "predict", str(clip), "-o", str(tmp_path), "--model", "vitpose_s", "--weights", "a.pth", "--device", "cpu",
        "--engine", "pytorch", "--precision", "bf16", "--score-threshold", "0.4", "--max-persons", "3",
        "--smoothing", "never", "--input-size", "64x96", "--detector", "magic", "--detector-weights", "d.pth",
        "--box-threshold", "0.1", "--decoding", "dark", "--flip-test", "--no-reuse-features", "--detect-every", "5",
        "--no-closer-look",
    )  # fmt: skip
    assert seen == {
        "model": "vitpose_s", "weights": "a.pth", "device": "cpu", "engine": "pytorch", "precision": "bf16",
        "score_threshold": 0.4, "max_persons": 3, "smoothing": "never", "input_size": (64, 96),
        "top_down": TopDownOptions("magic", "d.pth", 0.1, "dark", True, False, 5, False),
    }  # fmt: skip


def test_predict_takes_a_folder_for_a_video_and_spares_the_tracking(call: Call, tmp_path: Path) -> None:
    folder, out = tmp_path / "walk", tmp_path / "out"
    folder.mkdir()
    for i in range(2):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((96, 128, 3), 90 * i, np.uint8))
    for option, number in (("--track", 1), ("--no-track", -1)):
        arguments = ("--sequence", option, "--score-threshold", "0", "--max-persons", "1")
        result = call("predict", str(folder), "-o", str(out), *QUICK, *arguments)
        assert [Path(line).name for line in result.stdout.split()] == ["walk.mp4", "persons.jsonl"]
        first = json.loads((out / "persons.jsonl").read_text().splitlines()[0])
        assert first["persons"][0]["track_id"] == number


@pytest.mark.parametrize(("count", "listed"), [(10, 10), (11, 9)])
def test_predict_lists_ten_files_at_most(
    call: Call, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, listed: int
) -> None:
    written = [tmp_path / f"{i}.png" for i in range(count)]
    monkeypatch.setattr("pave_ros.predict.predict", lambda *_, **__: (Summary(files=count, frames=count), written))
    told = call("predict", str(clip), "-o", str(tmp_path / "out"), *QUICK).stdout.splitlines()
    assert told[:listed] == [str(path) for path in written[:listed]]
    assert told[listed:] == ([] if count == listed else ["... and 2 more"])


def test_predict_that_was_interrupted_says_so_also_where_it_has_results(
    call: Call, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Summary(files=1, frames=4, interrupted=True), [tmp_path / "persons.jsonl"]
    monkeypatch.setattr("pave_ros.predict.predict", lambda *_, **__: interrupted)
    result = call("predict", str(clip), "-o", str(tmp_path / "out"), *QUICK)
    assert result.returncode == 130 and result.stdout == f"{tmp_path}/persons.jsonl\n"
    assert "error: interrupted: the results are those of the files that were finished" in result.stderr


def test_all_weights_may_be_fetched_at_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "download", lambda row: row.name)
    assert call("weights", "download", "all").stdout.split() == [row.name for row in files.WEIGHTS]


def test_eight_bits_are_set_up_on_pictures_in_their_true_colours(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pave_ros.engines import export

    requests: list[export.Request] = []
    monkeypatch.setattr(export, "write", lambda network, path, request: requests.append(request) or [])
    red = np.zeros((96, 96, 3), np.uint8)
    red[..., 2] = 255  # as OpenCV has it
    cv2.imwrite(str(tmp_path / "red.png"), red)
    arguments = ("--precision", "int8", "--input", "64", "--calibration", str(tmp_path / "red.png"))
    call("export", "detrpose_n", "--weights", "random", *arguments)
    [picture] = requests[0].pictures
    assert picture[0].mean((1, 2)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("option", ["--root", "--boxes", "--weights"])
def test_evaluate_writes_over_no_file_that_it_is_given(call: Call, tmp_path: Path, option: str) -> None:
    read = tmp_path / "labels.json"
    read.write_text("{}")
    refused = call("evaluate", "--dataset", "coco", "--model", "vitpose_s", option, str(read), "-o", str(read))
    assert refused.returncode == 2 and f"would write over {read}" in refused.stderr
    assert read.read_text() == "{}"


def test_evaluate_writes_over_no_labels_but_over_its_own_reports(tmp_path: Path) -> None:
    annotations, results = coco_files(tmp_path)
    before = annotations.read_bytes()
    for output, code in ((annotations, 2), (tmp_path / "report.json", 0), (tmp_path / "report.json", 0)):
        command = ["evaluate", "--dataset", "coco", "--root", str(tmp_path), "--results", str(results)]
        assert RUNNER.invoke(cli.app, [*command, "-o", str(output)]).exit_code == code
    assert annotations.read_bytes() == before


def test_export_writes_the_weights_that_it_is_given(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pave_ros import models
    from pave_ros.checkpoints import loading
    from pave_ros.engines import export
    from pave_ros.engines.onnx_export import weights_hash

    network, given = models.create("simplebaseline_lite"), tmp_path / "mine.safetensors"
    next(network.parameters()).data += 1
    loading.save(network, given)
    written: list[PoseModel] = []
    monkeypatch.setattr(export, "write", lambda network, path, request: written.append(network) or [path])
    assert call("export", "simplebaseline_lite", "--weights", str(given)).returncode == 0
    assert written[0].info.trained and weights_hash(written[0]) == weights_hash(
        loading.open_model("simplebaseline_lite", given)
    )
    call("export", "simplebaseline_lite", "--weights", "random")
    assert not written[1].info.trained and weights_hash(written[1]) != weights_hash(written[0])


def test_demo_ends_with_the_code_of_what_it_ran(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(run=lambda **given: 3)
    monkeypatch.setitem(sys.modules, "pave_ros.ros.demo", module)  # type: ignore[arg-type]
    assert call("demo", "--weights", "random").returncode == 3


@pytest.mark.parametrize(("error", "told"), [
    (ModuleNotFoundError("gone", name="torch"), "package torch, which is not installed here; pip install torch timm"),
    (ModuleNotFoundError("gone", name="openvino.runtime"), "not installed here; pip install openvino"),
    (ModuleNotFoundError("gone", name="typing_inspect"), "pip install . brings all requirements"),
    (KeyError("no such row"), "error: no such row"),
    (ValueError(), "error: ValueError"),
])  # fmt: skip
def test_errors_say_what_to_do(call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(catalogue, "rows", fail)
    assert call("models").stderr.strip().endswith(told)


def test_weights_list_tells_what_is_here(call: Call, cache: Path) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "detrpose_hgnetv2_s.pth").write_bytes(b"x" * 2_000_000)
    rows = {line.split()[0]: line.split() for line in call("weights", "list").stdout.splitlines()[1:]}
    assert rows["detrpose_hgnetv2_s.pth"][-1] == "yes" and rows[files.EMBEDDED.name][-1] == "yes"
    assert rows["detrpose_hgnetv2_n.pth"][-1] == "no"


def test_command_scores_the_part_that_is_asked_for(tmp_path: Path) -> None:
    annotations, results = coco_files(tmp_path)
    annotations.rename(annotations.with_name("person_keypoints_train2017.json"))
    (tmp_path / "val2017").rename(tmp_path / "train2017")
    report = tmp_path / "report.json"
    given = ["--root", str(tmp_path), "--split", "train", "--results", str(results), "--limit", "5"]
    RUNNER.invoke(cli.app, ["evaluate", "--dataset", "coco", *given, "-o", str(report)], catch_exceptions=False)
    content = json.loads(report.read_text())
    assert (content["split"], content["results_file"]) == ("train", str(results))
    assert content["results"][0]["pictures"] == 5


def test_command_hands_the_boxes_of_a_file_to_a_model(tmp_path: Path) -> None:
    """Or of the annotations; where a file has none, these do not take their place."""
    annotations, _ = coco_files(tmp_path)
    labels = json.loads(annotations.read_text())["annotations"]
    boxes, none, report = tmp_path / "boxes.json", tmp_path / "none.json", tmp_path / "report.json"
    write(boxes, [{"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 1} for a in labels])
    write(none, [])
    model = ["--model", "simplebaseline_lite", "--weights", "random", "--device", "cpu", "--limit", "2"]
    command = ["evaluate", "--dataset", "coco", "--root", str(tmp_path), *model, "-o", str(report), "--boxes"]
    for given in ("ground-truth", str(boxes)):
        answer = RUNNER.invoke(cli.app, [*command, given])
        assert answer.exit_code == 0, answer.output
        content = json.loads(report.read_text())
        assert (content["boxes"], content["detector"]) == (given, "given")
    refused = RUNNER.invoke(cli.app, [*command, str(none)])
    assert refused.exit_code == 1 and "holds no boxes for the pictures of coco" in str(refused.exception)


@pytest.mark.parametrize(("model", "least"), [("embedded", 0.02), ("vitpose_s", 0.2)])
def test_command_looks_at_boxes_as_unsure_as_counts(monkeypatch: pytest.MonkeyPatch, model: str, least: float) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("pave_ros.estimator.Estimator", lambda **options: seen.append(options["top_down"]))
    RUNNER.invoke(cli.app, ["evaluate", "--dataset", "synthetic", "--model", model])
    assert seen[0].box_threshold == least


def test_the_version_is_all_that_is_told_where_it_is_asked_for(call: Call) -> None:
    result = call("--version", "models")
    assert (result.returncode, result.stdout) == (0, f"pave_ros {__version__}\n")


def test_names_that_are_not_utf_8_are_printed_as_they_are(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff/weights"
    os.makedirs(folder)
    Path(os.fsdecode(folder), "detrpose_hgnetv2_s.pth").touch()
    root = os.fsdecode(os.path.dirname(folder))
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", files.CACHE_VARIABLE: root}
    command = [sys.executable, "-m", "pave_ros.cli", "weights", "path", "detrpose_s"]
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    assert done.stdout == folder + b"/detrpose_hgnetv2_s.pth\n", done.stderr
