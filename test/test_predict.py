"""From files to annotated copies, JSON lines and COCO results; with an estimator that knows the truth."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pave_ros.estimator import Estimator
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.predict import Job, Summary, jobs_of, predict
from pave_ros.sinks import FORMATS, make_sinks
from pave_ros.video import VideoError, open_source
from pave_ros.video_writer import VideoWriter


class Truth:
    """Finds one person whose nose is the picture's brightest spot; the left ankle is never given."""

    window, reach, earlier = 3, 1, 1
    video = Estimator.video

    def __init__(self) -> None:
        self.windows: list[int] = []

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        self.windows.append(len(frames))
        image = frames[index].image
        assert image is not None
        y, x = np.unravel_index(image.sum(-1).argmax(), image.shape[:2])
        keypoints = np.full((1, 17, 3), 0.75, np.float32)
        keypoints[0, :, :2] = (x, y) + np.arange(17)[:, None] * (0.5, 2.0)
        keypoints[0, 15] = (np.nan, np.nan, 0)
        return Persons.from_keypoints(keypoints, [0.875], "coco17")


def picture(x: int, y: int, width: int = 160, height: int = 120) -> np.ndarray:
    image = np.full((height, width, 3), 60, np.uint8)
    cv2.rectangle(image, (x - 2, y - 2), (x + 2, y + 2), (180, 180, 180), cv2.FILLED)
    image[y, x] = 255
    return image


class Interrupted(Truth):
    """Ctrl-C after so many pictures."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        if len(self.windows) == self.after:
            raise KeyboardInterrupt
        return super().estimate(frames, index)


def save(path: Path, x: int, y: int, **size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(x, y, **size))
    return path


def save_video(path: Path, frames: int = 6) -> Path:
    with VideoWriter(path, 10) as writer:
        for i in range(frames):
            writer.write(picture(20 + 2 * i, 30))
    return path


def run(
    inputs: Sequence[Path | str],
    out: Path,
    *formats: str,
    sequence: bool = False,
    estimator: Any = None,
    **options: Any,
) -> tuple[Summary, list[str]]:
    jobs = jobs_of([str(path) for path in inputs], sequence)
    sinks = make_sinks(formats or ("video", "jsonl", "coco"), out, jobs)
    summary, written = predict(jobs, estimator or Truth(), sinks, **options)
    assert sorted(written) == sorted(out.iterdir())  # nothing is left lying about
    return summary, [path.name for path in written]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "persons.jsonl").read_text().splitlines()]


def test_pictures(tmp_path: Path) -> None:
    a, b = save(tmp_path / "000000000785.png", 40, 20), save(tmp_path / "000000000042.jpg", 90, 50, width=200)
    summary, written = run([a, b], tmp_path / "out")
    assert (summary.files, summary.frames, summary.persons, summary.problems) == (2, 2, 2, [])
    assert written == ["000000000785.png", "000000000042.jpg", "persons.jsonl", "coco.json"]
    first, second = lines(tmp_path / "out")
    assert (first["file"], first["frame"], first["width"], first["height"]) == (str(a), 0, 160, 120)
    assert second["width"] == 200 and first["skeleton"] == "coco17"
    person = first["persons"][0]
    assert person["track_id"] == -1 and person["score"] == 0.875
    assert person["keypoints"][0] == [40, 20, 0.75] and person["keypoints"][15] == [None, None, 0]
    assert person["box"] == [40, 20, 8, 32]


def test_annotated_picture_is_the_input_with_a_skeleton(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 40, 20)
    run([path], tmp_path / "out", "video")
    before, after = cv2.imread(str(path)).astype(int), cv2.imread(str(tmp_path / "out" / "a.png")).astype(int)
    changed = (before != after).any(-1)
    assert changed[20:50, 38:60].any() and not changed[:, 90:].any() and not changed[80:].any()


def test_coco_results(tmp_path: Path) -> None:
    run([save(tmp_path / "COCO_val2014_000000000785.jpg", 40, 20)], tmp_path / "out", "coco")
    (result,) = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert result["image_id"] == 785 and result["category_id"] == 1 and result["score"] == 0.875
    assert len(result["keypoints"]) == 51
    assert result["keypoints"][:6] == [40, 20, 0.75, 40.5, 22, 0.75]
    assert result["keypoints"][45:48] == [0, 0, 0]


def test_coco_evaluation_accepts_the_results(tmp_path: Path) -> None:
    """In original coordinates: against annotations made from the same places, the AP is 1."""
    images, annotations = [], []
    for number, (x, y) in enumerate([(40, 20), (90, 50), (20, 60)], start=7):
        save(tmp_path / "in" / f"{number:012}.png", x, y, width=160 + number, height=120)
        images.append({"id": number, "width": 160 + number, "height": 120})
        points = [[x + 0.5 * k, y + 2 * k, 2] if k != 15 else [0, 0, 0] for k in range(17)]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 16, "area": 2000,
             "bbox": [x, y, 8, 32], "keypoints": sum(points, [])}
        )  # fmt: skip
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}], "info": {}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    run([tmp_path / "in"], tmp_path / "out", "coco")
    loaded = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(loaded, loaded.loadRes(str(tmp_path / "out" / "coco.json")), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["x/7.png", "y/7.png"], ["7.png", "b.png"]])
def test_coco_counts_pictures_whose_names_give_no_number(tmp_path: Path, names: list[str]) -> None:
    paths = [save(tmp_path / name, 40, 20) for name in names]
    run(paths, tmp_path / "out", "coco")
    results = json.loads((tmp_path / "out" / "coco.json").read_text())
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())
    assert [result["image_id"] for result in results] == [1, 2]
    assert [(image["id"], image["file_name"]) for image in images] == [(1, str(paths[0])), (2, str(paths[1]))]


def test_video(tmp_path: Path) -> None:
    estimator = Truth()
    run([save_video(tmp_path / "clip.mp4")], tmp_path / "out", estimator=estimator)
    assert estimator.windows == [2, 3, 3, 3, 3, 3]
    found = lines(tmp_path / "out")
    assert [line["frame"] for line in found] == list(range(6))
    assert [line["stamp"] for line in found] == [i * 100_000_000 for i in range(6)]
    assert [line["persons"][0]["track_id"] for line in found] == [1] * 6
    assert [line["persons"][0]["age"] for line in found] == list(range(6))
    with open_source(tmp_path / "out" / "clip.mp4") as source:
        assert (source.length, source.rate, source.width, source.height) == (6, 10, 160, 120)
    images = json.loads((tmp_path / "out" / "coco_images.json").read_text())
    assert [(image["id"], image["frame"]) for image in images] == [(i + 1, i) for i in range(6)]


def test_without_tracking(tmp_path: Path) -> None:
    run([save_video(tmp_path / "clip.mp4")], tmp_path / "out", "jsonl", track=False)
    assert {line["persons"][0]["track_id"] for line in lines(tmp_path / "out")} == {-1}


def test_folder_as_pictures_and_as_a_sequence(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    for i in (10, 9):
        save(folder / f"{i}.png", 20 + i, 30)
    _, written = run([folder], tmp_path / "pictures")
    assert written == ["9.png", "10.png", "persons.jsonl", "coco.json"]
    assert [line["persons"][0]["track_id"] for line in lines(tmp_path / "pictures")] == [-1, -1]
    _, written = run([folder], tmp_path / "video", sequence=True)
    assert written == ["frames.mp4", "persons.jsonl", "coco.json", "coco_images.json"]
    found = lines(tmp_path / "video")
    assert [line["persons"][0]["track_id"] for line in found] == [1, 1]
    assert [line["file"] for line in found] == [str(folder / "9.png"), str(folder / "10.png")]


def test_unreadable_files_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    good, bad, last = save(tmp_path / "1.png", 40, 20), tmp_path / "2.png", save(tmp_path / "3.png", 50, 20)
    bad.write_bytes(b"no picture")
    summary, written = run([good, bad, last], tmp_path / "out")
    assert (summary.files, summary.frames) == (2, 2)
    (problem,) = summary.problems
    assert "2.png: not a picture" in problem
    assert written == ["1.png", "3.png", "persons.jsonl", "coco.json"]
    assert [r["image_id"] for r in json.loads((tmp_path / "out" / "coco.json").read_text())] == [1, 3]


def test_sequence_of_mixed_sizes_is_reported(tmp_path: Path) -> None:
    save(tmp_path / "mixed" / "1.png", 40, 20)
    save(tmp_path / "mixed" / "2.png", 40, 20, width=200)
    summary, _ = run([tmp_path / "mixed", save(tmp_path / "3.png", 40, 20)], tmp_path / "out", sequence=True)
    assert len(summary.problems) == 1 and "200x120 in a video of 160x120" in summary.problems[0]
    assert (summary.files, summary.frames) == (2, 3), "results that can hold pictures of both sizes do"
    assert len((tmp_path / "out" / "persons.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "mixed.mp4").exists(), "half of a video is none"


def test_same_names_do_not_collide(tmp_path: Path) -> None:
    paths = [save(tmp_path / folder / "a.png", 40, 20) for folder in ("x", "y")]
    assert run(paths, tmp_path / "out", "video")[1] == ["a.png", "a_2.png"]


def test_inputs_are_never_written_over(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 40, 20)
    with pytest.raises(ValueError, match="would write over the input"):
        make_sinks(["video"], tmp_path, jobs_of([str(path)]))
    make_sinks(["jsonl"], tmp_path, jobs_of([str(path)]))[0].discard()


def test_other_inputs_are_not_written_over_either(tmp_path: Path) -> None:
    paths = [str(save(tmp_path / folder / "a.png", 40, 20)) for folder in ("x", "y")]
    with pytest.raises(ValueError, match="would write over the input .*y/a.png"):
        make_sinks(["video"], tmp_path / "y", jobs_of(paths))


def test_an_interruption_keeps_what_was_finished(tmp_path: Path) -> None:
    inputs = [save(tmp_path / f"{name}.png", 40, 20) for name in "ab"] + [save_video(tmp_path / "clip.mp4")]
    summary, written = run(inputs, tmp_path / "out", estimator=Interrupted(after=4))
    assert summary.interrupted and summary.files == 2
    assert written == ["a.png", "b.png", "persons.jsonl", "coco.json", "coco_images.json"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(written)
    lines = [json.loads(line) for line in (tmp_path / "out/persons.jsonl").read_text().splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["a.png", "b.png"]
    assert {row["image_id"] for row in json.loads((tmp_path / "out/coco.json").read_text())} == {1, 2}


def test_numbers_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    run([save(tmp_path / "a.png", 40, 20)], tmp_path / "out", "coco")
    assert run([save(tmp_path / "17.png", 40, 20)], tmp_path / "out", "coco")[1] == ["coco.json"]
    assert not (tmp_path / "out/coco_images.json").exists()


def test_a_name_that_is_too_long_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / f"{'a' * 250}.png", 40, 20)
    save(folder / "b.png", 40, 20)
    summary, written = run([folder], tmp_path / "out", "video", "jsonl")
    assert written == ["b.png", "persons.jsonl"]
    assert len(summary.problems) == 1 and "File name too long" in summary.problems[0]
    video = save_video(tmp_path / f"{'v' * 250}.mp4")
    assert run([video], tmp_path / "videos", "video")[1] == [video.name]


def test_links_have_names_of_their_own(tmp_path: Path) -> None:
    save(tmp_path / "store/8f3ac.png", 40, 20)
    (tmp_path / "7.png").symlink_to(tmp_path / "store/8f3ac.png")
    assert run([tmp_path / "7.png"], tmp_path / "out", "video")[1] == ["7.png"]


def test_breaking_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run([save_video(tmp_path / "clip.mp4")], tmp_path / "out", estimator=Interrupted(after=3))
    assert list((tmp_path / "out").iterdir()) == []


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may become longer than so many bytes, as on a disk that is full."""
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_keeps_what_was_written_before(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", 40, 20) for i in range(8)]
    with full_after(2000):
        summary, written = run(paths, tmp_path / "out", "jsonl", "coco")
    assert written == ["persons.jsonl"] and sorted(os.listdir(tmp_path / "out")) == written
    assert [f"{tmp_path}/out/{name}: cannot be written: File too large" for name in ("persons.jsonl", "coco.json")] == (
        summary.problems
    )
    found = lines(tmp_path / "out")
    assert found and [line["file"] for line in found] == list(map(str, paths[: len(found)]))


class Crowd(Truth):
    """So many people in every picture that a line is longer than what a file keeps back."""

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        return super().estimate(frames, index)[np.zeros(30, int)]


def test_a_full_disk_leaves_no_half_of_a_video_behind(tmp_path: Path) -> None:
    inputs = [save(tmp_path / "a.png", 40, 20), save_video(tmp_path / "clip.mp4"), save(tmp_path / "b.png", 40, 20)]
    jobs = jobs_of([str(path) for path in inputs])
    sinks = make_sinks(["jsonl"], tmp_path / "out", jobs)
    with full_after(60_000):
        summary, _ = predict(jobs, Crowd(), sinks)  # type: ignore[arg-type]
    assert summary.problems == [f"{tmp_path}/out/persons.jsonl: cannot be written: File too large"]
    assert [Path(line["file"]).name for line in lines(tmp_path / "out")] == ["a.png", "b.png"]


def test_a_folder_in_the_way_costs_that_result_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("persons.jsonl", "clip.mp4"):
        (out / name).mkdir(parents=True)
    jobs = jobs_of([str(save_video(tmp_path / "clip.mp4")), str(save(tmp_path / "a.png", 40, 20))])
    summary, paths = predict(jobs, Truth(), make_sinks(FORMATS, out, jobs))  # type: ignore[arg-type]
    written = [path.name for path in paths]
    assert written == ["a.png", "coco.json", "coco_images.json"]
    assert sorted(os.listdir(out)) == sorted([*written, "persons.jsonl", "clip.mp4"])
    assert [Path(problem.partition(":")[0]).name for problem in summary.problems] == ["clip.mp4", "persons.jsonl"]


def test_an_interruption_while_a_video_is_completed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: VideoWriter) -> None:
        raise KeyboardInterrupt

    paths = [save(tmp_path / "a.png", 40, 20), save_video(tmp_path / "clip.mp4")]
    monkeypatch.setattr(VideoWriter, "_complete", interrupted)
    summary, written = run(paths, tmp_path / "out")
    assert summary.interrupted and summary.files == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(written)


def test_bad_options_of_the_scene_are_refused_before_anything_is_done() -> None:
    for options in ("frames=2,persons=200", "frames=two"):
        with pytest.raises(ValueError, match="persons must lie between|frames must be a positive"):
            jobs_of([f"synthetic:{options}"])


def test_synthetic_needs_an_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no end"):
        jobs_of(["synthetic"])
    assert jobs_of(["synthetic:frames=3"]) == [Job("synthetic:frames=3", "synthetic", True)]


def test_bad_inputs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        jobs_of(["nowhere.png"])
    with pytest.raises(VideoError, match="no pictures"):
        jobs_of([str(tmp_path)])
    with pytest.raises(ValueError, match="no files"):
        jobs_of([])
    with pytest.raises(ValueError, match=f"known: {', '.join(FORMATS)}"):
        make_sinks(["xml"], tmp_path, [])


def test_with_a_network(tmp_path: Path) -> None:
    estimator = Estimator("detrpose_n", "random", "cpu", input_size=(96, 96), score_threshold=0, max_persons=3)
    summary, _ = run(["synthetic:frames=2,width=160,height=120"], tmp_path / "out", estimator=estimator)
    assert summary.frames == 2 and summary.persons == 6
    assert all(0 <= x <= 160 for line in lines(tmp_path / "out") for p in line["persons"] for x, _, _ in p["keypoints"])


def test_what_the_model_sees_stays_clean(tmp_path: Path) -> None:
    jobs = jobs_of([str(save(tmp_path / "a.png", 40, 20))], False)
    (sink,) = make_sinks(["video"], tmp_path / "out", jobs)
    seen = Frame(0, image=picture(40, 20), bgr=True)
    sink.add(jobs[0], 10.0, 0, seen, Truth().estimate([seen]))
    np.testing.assert_array_equal(seen.image, picture(40, 20))


def test_colours_of_a_video_are_those_of_the_frames(tmp_path: Path) -> None:
    (job,) = jobs_of(["synthetic:frames=1"], False)
    (sink,) = make_sinks(["video"], tmp_path, [job])
    red = np.zeros((120, 160, 3), np.uint8)
    red[..., 0] = 200
    sink.add(job, 10.0, 0, Frame(0, image=red), Persons.from_keypoints([], [], "coco17"))
    sink.end(job)
    (path,) = sink.finish()
    (frame,) = open_source(path)
    blue, _, found = frame.image.mean((0, 1))
    assert frame.bgr and found > 150 and blue < 60


def test_coco_counts_the_frames_of_a_video_whose_name_has_a_number(tmp_path: Path) -> None:
    run([save_video(tmp_path / "clip_12.mp4", 3)], tmp_path / "out", "coco")
    assert [one["image_id"] for one in json.loads((tmp_path / "out" / "coco.json").read_text())] == [1, 2, 3]


def test_a_picture_is_one_whatever_the_case_of_its_ending(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 40, 20).rename(tmp_path / "A.PNG")
    assert run([path], tmp_path / "out")[1] == ["A.png", "persons.jsonl", "coco.json", "coco_images.json"]
    assert lines(tmp_path / "out")[0]["persons"][0]["track_id"] == -1


def test_three_of_the_same_name_do_not_collide_either(tmp_path: Path) -> None:
    paths = [save(tmp_path / folder / "a.png", 40, 20) for folder in "xyz"]
    assert run(paths, tmp_path / "out", "video")[1] == ["a.png", "a_2.png", "a_3.png"]


def test_the_folder_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "walk/1.png", 40, 20)
    monkeypatch.chdir(tmp_path / "walk")
    assert jobs_of(["."], True) == [Job(".", "walk", True)]


def test_a_file_whose_only_result_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / f"{'a' * 250}.png", 40, 20), save(tmp_path / "in/b.png", 40, 20)]
    summary, written = run(paths, tmp_path / "out", "video")
    assert written == ["b.png"] and (summary.files, summary.frames, summary.persons) == (1, 1, 1)


def test_progress_is_told_of_every_job_and_every_picture(tmp_path: Path) -> None:
    told: list[Any] = []
    run(
        [save(tmp_path / "a.png", 40, 20), save_video(tmp_path / "clip.mp4", 3)],
        tmp_path / "out",
        opened=lambda job, source: told.append((job.name, source.length)),
        advanced=lambda job: told.append(job.name),
    )
    assert told == [("a", 1), "a", ("clip", 3), "clip", "clip", "clip"]


def test_people_of_a_video_are_followed_at_its_own_pace(tmp_path: Path) -> None:
    """Whoever is not seen for more than a second has a new number afterwards."""

    class Hidden(Truth):
        def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
            found = super().estimate(frames, index)
            return found[:0] if 1 <= frames[index].stamp // 500_000_000 <= 3 else found

    with VideoWriter(tmp_path / "clip.mp4", 2) as writer:
        for _ in range(6):
            writer.write(picture(40, 30))
    run([tmp_path / "clip.mp4"], tmp_path / "out", "jsonl", estimator=Hidden())
    found = [[person["track_id"] for person in line["persons"]] for line in lines(tmp_path / "out")]
    assert found == [[1], [], [], [], [2], [2]]


def test_a_file_that_vanished_meanwhile_does_not_stop_the_others(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.png", 40, 20) for name in "ab"]
    jobs = jobs_of(list(map(str, paths)))
    paths[0].unlink()
    summary, written = predict(jobs, Truth(), make_sinks(["jsonl"], tmp_path / "out", jobs))  # type: ignore[arg-type]
    assert (summary.files, len(summary.problems)) == (1, 1) and str(paths[0]) in summary.problems[0]
    assert [line["file"] for line in lines(tmp_path / "out")] == [str(paths[1])]
