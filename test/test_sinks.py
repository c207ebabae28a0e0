"""What is written of results: whose numbers, in which colours, and what is not written over."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_predict import Truth, lines, picture, run, save

from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.predict import Job, jobs_of
from pave_ros.sinks import make_sinks
from pave_ros.video import VideoError


def test_every_person_has_numbers_of_their_own(tmp_path: Path) -> None:
    jobs = jobs_of([str(save(tmp_path / "a.png", 40, 20))])
    keypoints = np.full((2, 17, 3), 0.5, np.float32)
    keypoints[1] = (90, 70, 0.25)
    two = Persons.from_keypoints(keypoints, [0.9, 0.6], "coco17", [[1, 2, 3, 4], [5, 6, 7, 8]])
    two = replace(two, track_ids=np.array([4, 3], np.int32), ages=np.array([7, 9], np.int32))
    for sink in make_sinks(["jsonl", "coco"], tmp_path / "out", jobs):
        sink.add(jobs[0], 10.0, 0, Frame(0, image=picture(40, 20), bgr=True), two)
        sink.end(jobs[0])
        sink.finish()
    (line,) = lines(tmp_path / "out")
    _, second = line["persons"]
    assert (second["track_id"], second["age"], second["score"], second["box"]) == (3, 9, 0.6, [5, 6, 7, 8])
    assert second["keypoints"] == [[90, 70, 0.25]] * 17
    _, result = json.loads((tmp_path / "out/coco.json").read_text())
    assert result["keypoints"] == [90, 70, 0.25] * 17 and result["score"] == 0.6


def test_people_have_the_same_colours_in_copies_of_pictures_of_any_channel_order(tmp_path: Path) -> None:
    grey = np.full((960, 1280, 3), 90, np.uint8)
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[0, 7], keypoints[0, 9] = (400, 300, 1), (400, 700, 1)  # a left forearm
    for bgr in (True, False):
        (job,) = jobs_of([str(save(tmp_path / "a.png", 40, 20))])
        (sink,) = make_sinks(["video"], tmp_path / "out", [job])
        person = Persons.from_keypoints(keypoints, [1], "coco17", [[200, 100, 400, 800]])
        sink.add(job, 10.0, 0, Frame(0, image=grey, bgr=bgr), person)
        drawn = cv2.imread(str(tmp_path / "out/a.png"))
        assert drawn[500, 400].tolist() == [153, 153, 255], "light red, as OpenCV has it"


def test_a_format_that_is_asked_for_twice_is_written_once(tmp_path: Path) -> None:
    summary, written = run([save(tmp_path / "a.png", 40, 20)], tmp_path / "out", "jsonl", "jsonl")
    assert (written, summary.problems) == (["persons.jsonl"], [])


def first_broke_off(folder: Path, *names: str) -> Job:
    """COCO results of two pictures, of which the first broke off; the job of the other."""
    broken, whole = jobs_of([str(save(folder / f"{name}.png", 40, 20)) for name in names])
    (sink,) = make_sinks(["coco"], folder / "out", [broken, whole])
    seen = Frame(0, image=picture(40, 20), bgr=True)
    for job, close in ((broken, sink.drop), (whole, sink.end)):
        sink.add(job, 10.0, 0, seen, Truth().estimate([seen]))
        close(job)
    sink.finish()
    return whole


def test_coco_results_hold_nobody_of_what_broke_off(tmp_path: Path) -> None:
    first_broke_off(tmp_path, "3", "8")
    assert [one["image_id"] for one in json.loads((tmp_path / "out/coco.json").read_text())] == [8]


def test_coco_counts_no_pictures_of_what_broke_off(tmp_path: Path) -> None:
    whole = first_broke_off(tmp_path, "a", "b")
    (image,) = json.loads((tmp_path / "out" / "coco_images.json").read_text())
    assert image["id"] == 1 and image["file_name"] == whole.source


def test_inputs_that_are_named_from_where_one_is_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", 40, 20)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"would write over the input a\.png"):
        make_sinks(["video"], tmp_path, jobs_of(["a.png"]))


def test_where_one_result_cannot_be_begun_none_is(tmp_path: Path) -> None:
    (tmp_path / "out" / "coco.json.part").mkdir(parents=True)
    jobs = jobs_of([str(save(tmp_path / "a.png", 40, 20))])
    with pytest.raises(VideoError, match="coco.json: cannot be written"):
        make_sinks(["jsonl", "coco"], tmp_path / "out", jobs)
    assert os.listdir(tmp_path / "out") == ["coco.json.part"]
