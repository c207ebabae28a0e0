"""Evaluation: COCO's own numbers on the same results file, models that are run, files that do not fit, the command."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from labelled import found, people, posetrack, sample
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from pave_ros import cli, skeletons
from pave_ros.datasets import DatasetError, Labels, Sample, open_dataset
from pave_ros.datasets.base import ListedDataset
from pave_ros.evaluation.boxes import annotated_boxes, boxes_in
from pave_ros.evaluation.coco import coco_ap
from pave_ros.evaluation.evaluate import Run, describe, from_results, part_of, quality, run, write_report, write_worst
from pave_ros.evaluation.score import METRICS, score
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.training.augmentation import joined


def test_whom_a_file_does_not_count_counts_neither_way(tmp_path: Path) -> None:
    """CrowdPose gives people of whom nothing is visible hidden keypoints and none to count."""
    annotations, _ = coco_files(tmp_path)
    content = json.loads(annotations.read_text())
    counted = [a for a in content["annotations"] if not a.get("iscrowd") and a["num_keypoints"]]
    counted[0]["num_keypoints"] = 0
    annotations.write_text(json.dumps(content))
    samples = list(open_dataset("coco", tmp_path))
    nobody = [found(people(0, "coco17"), [], "coco17")] * len(samples)
    assert coco_ap(samples, nobody).persons == len(counted) - 1
    both = next(s.labels for s in samples if s.id == counted[0]["image_id"])
    assert both[both.counted].counted.all() and joined([both, both]).counted.sum() >= both.counted.sum()


def coco_files(folder: Path, pictures: int = 12) -> tuple[Path, Path]:
    """A data set in COCO's format and a results file with good, bad, double and invented people, with equal scores."""
    rng = np.random.default_rng(3)
    images, annotations, results = [], [], []
    for number in rng.permutation(1000)[:pictures].tolist():
        images.append({"id": number, "file_name": f"{number}.png", "width": 300, "height": 200})
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = (float(v) for v in rng.uniform([0, 0, 20, 40], [200, 100, 200, 200]))
            points = np.column_stack([rng.uniform([x, y], [x + w, y + h], (17, 2)), rng.integers(0, 3, 17)])
            points[points[:, 2] == 0] = 0
            area, crowd = w * h * float(rng.uniform(0.3, 0.8)), int(rng.random() < 0.1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": crowd, "area": area,
                 "bbox": [x, y, w, h], "keypoints": points.ravel().tolist(),
                 "num_keypoints": int((points[:, 2] > 0).sum())}
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                guess = points + np.column_stack([rng.normal(0, 0.04 * np.sqrt(area), (17, 2)), np.zeros(17)])
                results.append((number, guess))
        results.append((number, rng.uniform(0, 200, (17, 3))))
    write(folder / "annotations/person_keypoints_val2017.json",
          {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]})  # fmt: skip
    (folder / "val2017").mkdir()
    for image in images:
        cv2.imwrite(str(folder / "val2017" / image["file_name"]), np.zeros((200, 300, 3), np.uint8))
    write(folder / "results.json",
          [{"image_id": number, "category_id": 1, "keypoints": guess.ravel().tolist(),
            "score": round(float(rng.random()), 1)} for number, guess in results])  # fmt: skip
    return folder / "annotations/person_keypoints_val2017.json", folder / "results.json"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_numbers_are_cocos_own_on_the_same_results_file(tmp_path: Path) -> None:
    annotations, results = coco_files(tmp_path)
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    dataset = open_dataset("coco", tmp_path)
    done = from_results(dataset, part_of(dataset), results)
    ours = coco_ap(done.samples, done.predictions)
    assert list(ours.values.values()) == pytest.approx(evaluator.stats.tolist(), abs=1e-9)
    assert 0.1 < ours.values["AP"] < 0.9, "a case that tells something"


def test_pictures_with_names_are_in_the_order_of_these() -> None:
    """As pycocotools has them: people as sure as each other count in the order of their pictures."""
    exact = people(1, "coco17")
    labels = Labels.from_keypoints(exact, "coco17")
    pictures = [replace(sample(0, labels), id=name) for name in ("b", "a")]
    right, wrong = found(exact, [0.5], "coco17"), found(exact + (400, 0, 0), [0.5], "coco17")
    in_order, turned = [right, wrong], [wrong, right]
    assert coco_ap(pictures, turned).values["AP"] == pytest.approx(51 / 101), "the right one comes first"
    assert coco_ap(pictures, in_order).values["AP"] == pytest.approx(51 / 101 / 2)


def test_every_data_set_has_metrics_and_layouts_go_by_name() -> None:
    labels = Labels.from_keypoints(people(1, "crowdpose14"), "crowdpose14", boxes=[[0, 0, 50, 80]])
    answer = np.zeros((1, 17, 3), np.float32)
    answer[:, 5:] = people(1, "crowdpose14")[:, :12]
    (result,) = score("crowdpose", [sample(1, labels, crowd_index=0.5)], [found(answer, [0.9], "coco17")])
    assert result.values["AP"] == pytest.approx(0.8), "an OKS of 12/14 fails at 0.90 and 0.95"
    assert result.notes == ("never predicted, which counts as wrong: top_head, neck",)
    from pave_ros.datasets import READERS

    assert METRICS.keys() == READERS.keys()
    with pytest.raises(ValueError, match="1 predictions for 0 pictures"):
        score("coco", [], [found(answer, [0.9], "coco17")])


class Watcher:
    """A video model that remembers what it was shown, and says what the labels of the frame in question are."""

    reach = 1

    def __init__(self) -> None:
        self.shown: list[list[Frame]] = []

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        assert index == 1
        self.shown.append(list(frames))
        return found(people(1, "coco17"), [0.9], "coco17")


def test_video_models_see_the_frames_around() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    samples = [sample(i, labels, video="a", frame=i, labelled=i != 1) for i in range(4)]
    model = Watcher()
    dataset = ListedDataset("coco", skeletons.get("coco17"), samples)
    done = run(dataset, part_of(dataset), model)
    stamps = [[round(f.stamp * 30 / 1e9) for f in frames] for frames in model.shown]
    assert stamps == [[0, 0, 1], [1, 2, 3], [2, 3, 3]]
    assert model.shown[1][1] is model.shown[2][0], "frames are kept with what the model made of them"
    assert [s.id for s in done.samples] == [0, 2, 3] and len(done.seconds) == 3
    assert score("coco", done.samples, done.predictions)[0].values["AP"] == pytest.approx(1)


def test_a_limit_spreads_the_pictures() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    dataset = ListedDataset("coco", skeletons.get("coco17"), [sample(i, labels) for i in range(11)])
    assert part_of(dataset, 3) == [0, 5, 10]
    assert part_of(dataset, 99) == list(range(11))
    with pytest.raises(DatasetError, match="no annotated pictures"):
        part_of(ListedDataset("coco", skeletons.get("coco17"), []))


def test_worst_pictures_come_first(tmp_path: Path) -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    right, nobody = found(people(1, "coco17"), [0.9], "coco17"), found(people(0, "coco17"), [], "coco17")
    double = found(people(2, "coco17"), [0.9, 0.8], "coco17")
    assert quality(sample(1, labels), right) == 1
    assert quality(sample(1, labels), double) == pytest.approx(0.5), "somebody who is not there"
    assert quality(sample(1, labels), nobody) == 0
    assert quality(sample(1, labels[:0]), nobody) == 1
    done = Run([sample(i, labels) for i in range(3)], [right, nobody, double], [])
    written = write_worst(tmp_path / "worst", done, 2)
    assert [path.name for path in written] == ["001_1.jpg", "002_2.jpg"]
    picture = cv2.imread(str(written[0]))
    left, answer = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
    assert left[60:].max() > 150 and answer[60:].max() < 100, "a skeleton on the left, none on the right"


def test_results_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    coco_files(tmp_path)
    dataset = open_dataset("coco", tmp_path)
    path = tmp_path / "other.json"
    write(path, [{"image_id": 123456, "keypoints": [0] * 51, "score": 1}])
    with pytest.raises(DatasetError, match="not one of its image_ids is in coco"):
        from_results(dataset, part_of(dataset), path)
    last = {"image_id": dataset[len(dataset) - 1].id, "keypoints": [1] * 51, "score": 1}
    write(path, [last, dict(last, category_id=2)])
    assert [len(p) for p in from_results(dataset, [0], path).predictions] == [0], "of another picture than asked for"
    assert [len(p) for p in from_results(dataset, [len(dataset) - 1], path).predictions] == [1], "a dog is no person"
    write(path, [{"image_id": dataset[0].id, "keypoints": [0] * 50, "score": 1}])
    with pytest.raises(DatasetError, match="other.json: an entry is broken"):
        from_results(dataset, part_of(dataset), path)
    good = {"image_id": dataset[0].id, "keypoints": [1] * 51, "score": 1, "bbox": [0, 0, 9, 9]}
    for change in ({"keypoints": [1] * 51 * 8}, {"score": [0.5]}, {"score": float("nan")}, {"score": None}):
        write(path, [good, {**good, **change}])
        with pytest.raises(DatasetError, match=r"other.json: an entry is broken \(.*\)$"):
            from_results(dataset, part_of(dataset), path)
    for box in ([1, 2], "abcd", [1] * 9):
        write(path, [good, {**good, "bbox": box}])
        with pytest.raises(DatasetError, match="other.json: an entry is broken"):
            boxes_in(path, dataset)


OWN = {"id": 5, "name": "person"}
POSED = {**OWN, "keypoints": list(skeletons.get("coco17").keypoints)}


@pytest.mark.parametrize(
    ("categories", "people"), [([OWN], {1, 5}), ([POSED], {1, 5}), ([POSED, {"id": 1, "name": "dog"}], {5})]
)
def test_results_go_by_the_categories_of_the_data_set(
    tmp_path: Path, categories: list[dict[str, Any]], people: set[int]
) -> None:
    annotations, _ = coco_files(tmp_path)
    content = json.loads(annotations.read_text())
    write(annotations, {**content, "annotations": [], "categories": categories})
    dataset, path = open_dataset("coco", tmp_path)[:3], tmp_path / "own.json"
    entry = {"image_id": dataset[0].id, "keypoints": [1] * 51, "bbox": [0, 0, 9, 9], "score": 1}
    for category in (1, 2, 5):
        write(path, [{**entry, "category_id": category}])
        if category in people:
            assert [len(p) for p in from_results(dataset, [0], path).predictions] == [1]
            assert len(boxes_in(path, dataset)(dataset[0])) == 1
            continue
        told = r"own\.json: not one of its entries has a category_id of coco's people \((1, )?5\)"
        with pytest.raises(DatasetError, match=told):
            from_results(dataset, [0], path)
        with pytest.raises(DatasetError, match=told):
            boxes_in(path, dataset)


def test_scores_of_a_results_file_keep_their_order(tmp_path: Path) -> None:
    """Also where float32 cannot tell them apart."""
    coco_files(tmp_path)
    dataset = open_dataset("coco", tmp_path)
    path, scores = tmp_path / "close.json", [0.9, 0.9 + 1e-9, 0.9 - 1e-9, 0.5, 0.9]
    entries = [{"image_id": dataset[0].id, "keypoints": [i] * 51, "score": score} for i, score in enumerate(scores)]
    write(path, entries)
    (found,) = from_results(dataset, [0], path).predictions
    assert found.keypoints[:, 0, 0].tolist() == [1, 0, 4, 2, 3]
    assert found.scores[1] == found.scores[2] and len(set(found.scores.tolist())) == 4
    np.testing.assert_allclose(found.scores, [0.9, 0.9, 0.9, 0.9, 0.5], atol=1e-6)


def test_results_of_posetrack_have_the_scores_of_keypoints_beside_them(tmp_path: Path) -> None:
    dataset = ListedDataset("posetrack18", skeletons.get("posetrack17"), [sample(1, posetrack(1))])
    path, points = tmp_path / "found.json", [value for k in range(17) for value in (k, 2 * k, 1)]
    one = {"image_id": 1, "keypoints": points, "scores": [0.1] * 16 + [0.9], "track_id": 3}
    write(path, {"annotations": [one, {**one, "score": 0.7, "scores": [0.2] * 17}], "images": [], "categories": []})
    (found,) = from_results(dataset, [0], path).predictions
    assert found.scores.tolist() == pytest.approx([0.7, 2.5 / 17])
    assert found.keypoints[1, :, 2].tolist() == pytest.approx(one["scores"])
    assert found.keypoints[1, 16, :2].tolist() == [16, 32]
    write(path, [{**one, "scores": [0.5] * 3}])
    with pytest.raises(DatasetError, match="found.json"):
        from_results(dataset, [0], path)


def test_no_scene_is_drawn_for_a_file_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = open_dataset("synthetic"), tmp_path / "other.json"
    assert data[:2].ids == [sample.id for sample in data[:2]]
    monkeypatch.setattr(type(data), "_sample", None)
    write(path, [{"image_id": "7/45", "keypoints": [0] * 51, "bbox": [0, 0, 9, 9], "score": 1}])
    with pytest.raises(DatasetError, match="not one of its image_ids is in synthetic"):
        from_results(data, part_of(data), path)
    with pytest.raises(DatasetError, match="no boxes for the pictures of synthetic"):
        boxes_in(path, data)


RUNNER = CliRunner()


def test_command_scores_a_results_file(tmp_path: Path) -> None:
    _, results = coco_files(tmp_path)
    arguments = ["evaluate", "--dataset", "coco", "--root", str(tmp_path), "--results", str(results)]
    report, worst = tmp_path / "out/report.json", tmp_path / "worst"
    answer = RUNNER.invoke(
        cli.app, [*arguments, "--output", str(report), "--worst", "2", "--pictures", str(worst)], catch_exceptions=False
    )
    assert answer.exit_code == 0 and "COCO keypoints" in answer.output and "AP50" in answer.output
    content = json.loads(report.read_text())
    assert (content["dataset"], content["split"], content["milliseconds"]) == ("coco", "val", None)
    assert content["results"][0]["values"].keys() >= {"AP", "AR_L"} and content["results"][0]["pictures"] == 12
    assert len(list(worst.iterdir())) == 2


def test_command_knows_that_a_single_file_has_no_parts(tmp_path: Path) -> None:
    annotations, results = coco_files(tmp_path)
    given = ["evaluate", "--dataset", "coco", "--root", str(annotations), "--results", str(results)]
    refused = RUNNER.invoke(cli.app, [*given, "--split", "train"])
    assert refused.exit_code == 2 and "--split: a single annotation file has none" in refused.output.replace("'", "")
    report = tmp_path / "report.json"
    RUNNER.invoke(cli.app, [*given, "--output", str(report)], catch_exceptions=False)
    assert "split" not in json.loads(report.read_text())


def test_command_runs_a_model(tmp_path: Path) -> None:
    coco_files(tmp_path)
    report = tmp_path / "report.json"
    arguments = ["--root", str(tmp_path), "--model", "detrpose_n", "--weights", "random", "--device", "cpu"]
    arguments += ["--engine", "pytorch", "--precision", "bf16"]
    answer = RUNNER.invoke(
        cli.app,
        ["evaluate", "--dataset", "coco", *arguments, "--limit", "2", "--input-size", "160", "--output", str(report)],
        catch_exceptions=False,
    )
    assert answer.exit_code == 0, answer.output
    content = json.loads(report.read_text())
    assert (content["model"], content["engine"], content["precision"]) == ("detrpose_n", "pytorch", "bf16")
    assert content["results"][0]["pictures"] == 2
    assert content["milliseconds"] > 0 and content["input_size"] == [160, 160]


def test_command_wants_number_and_folder_of_the_worst_together(tmp_path: Path) -> None:
    answer = RUNNER.invoke(cli.app, ["evaluate", "--dataset", "coco", "--root", str(tmp_path), "--worst", "3"])
    assert answer.exit_code == 2 and "--pictures" in answer.output


class InBoxes:
    """A top-down model that finds everybody in the middle of their box, and remembers the boxes of its windows."""

    reach = 1

    def __init__(self) -> None:
        self.windows: list[list[int]] = []

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        self.windows.append([-1 if frame.boxes is None else len(frame.boxes) for frame in frames])
        boxes = frames[index].boxes
        assert boxes is not None
        centres = boxes.boxes[:, :2] + boxes.boxes[:, 2:] / 2
        points = np.repeat(np.concatenate((centres, boxes.scores[:, None]), 1)[:, None], 17, 1)
        return Persons.from_keypoints(points, boxes.scores, "posetrack17", boxes.boxes)


def test_top_down_models_get_the_boxes_of_every_frame(tmp_path: Path) -> None:
    def video(number: int, people: int) -> Sample:
        labels = Labels.from_keypoints(np.full((people, 17, 3), 30 + number, np.float32), "posetrack17")
        labels.boxes[:] = [10, 20, 30, 40]
        return Sample(10000010000 + number, 64, 48, labels, lambda: np.zeros((48, 64, 3), np.uint8), "000001", number)

    data = ListedDataset("posetrack18", skeletons.get("posetrack17"), [video(n, n) for n in range(3)])
    model = InBoxes()
    done = run(data, [1, 2], model, boxes=annotated_boxes)
    assert model.windows == [[0, 1, 2], [1, 2, 2]]
    assert done.predictions[1].keypoints[0, 0].tolist() == [25, 40, 1]
    path = tmp_path / "found.json"
    entries = [
        {"image_id": 10000010001, "bbox": [0, 0, 10, 10], "score": 0.5, "category_id": 1},
        {"image_id": 10000010001, "bbox": [2, 0, 10, 10], "score": 0.9, "category_id": 1},
        {"image_id": 10000010001, "bbox": [4, 0, 10, 10], "score": 0.9, "category_id": 3},
        {"image_name": "images/val/000001_mpii_test/000002.jpg", "bbox": [6, 0, 10, 10], "score": 0.7},
        {"image_id": 77, "bbox": [0, 0, 1, 1], "score": 1.0},
    ]
    path.write_text(json.dumps(entries))
    found = boxes_in(path, data)
    assert [found(sample).boxes[:, 0].tolist() for sample in data] == [[], [2, 0], [6]]
    assert found(data[1]).scores.tolist() == pytest.approx([0.9, 0.5])
    other = replace(data[2], id=20000010002)  # the first figure tells where a video is from
    of_bonn = ListedDataset("posetrack18", data.skeleton, [other])
    path.write_text(json.dumps([{**entries[3], "image_name": "images/train/000001_bonn_train/000002.jpg"}]))
    assert boxes_in(path, of_bonn)(other).boxes[:, 0].tolist() == [6]
    animals = ListedDataset("ap10k", data.skeleton, [data[1]], categories={1, 3})
    path.write_text(json.dumps(entries))
    assert boxes_in(path, animals)(data[1]).boxes[:, 0].tolist() == [2, 4, 0], "of whatever species"
    path.write_text(json.dumps(entries[-1:]))
    with pytest.raises(DatasetError, match=r"found\.json.*posetrack18"):
        boxes_in(path, data)


def test_image_models_are_handed_the_frame_before_as_by_a_camera() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    samples = [sample(i, labels, video="ab"[i // 3], frame=i % 3) for i in range(5)]
    shown: list[list[int]] = []

    class Still:
        reach = 0

        def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
            assert index in (-1, len(frames) - 1)
            shown.append([round(frame.stamp * 30 / 1e9) for frame in frames])
            return found(people(1, "coco17"), [0.9], "coco17")

    run(ListedDataset("coco", skeletons.get("coco17"), samples), range(5), Still())
    assert shown == [[0], [0, 1], [1, 2], [0], [0, 1]], "not where another video begins"


def test_the_report_tells_the_median_time(tmp_path: Path) -> None:

    write_report(tmp_path / "report.json", [], Run([], [], [0.001, 0.002, 0.9]), {"model": "m"})
    content = json.loads((tmp_path / "report.json").read_text())
    assert content == {"model": "m", "milliseconds": 2.0, "results": []}


def test_strangers_lower_the_quality_only_where_they_are_sure_and_everybody_is_labelled() -> None:
    one, two = people(1, "coco17"), people(2, "coco17")
    labels = Labels.from_keypoints(one, "coco17")
    assert quality(sample(1, labels), found(two, [0.9, 0.1], "coco17")) == 1, "somebody unsure"
    double = found(two, [0.9, 0.8], "coco17")
    region = np.array([[0, 0], [9, 0], [9, 9]], np.float32)
    for others in (replace(labels, complete=False), replace(labels, ignore=(region,))):
        assert quality(sample(1, others), double) == 1
    crowd = Labels.from_keypoints(two, "coco17", crowd=[False, True])
    assert quality(sample(1, crowd), double) == quality(sample(1, crowd), double[:1]) == 1
    two[1, :, 2] = 0
    unlabelled = Labels.from_keypoints(two, "coco17", boxes=[[0, 0, 60, 90], [200, 0, 60, 90]])
    assert quality(sample(1, unlabelled), double[:1]) == 1


def test_of_equally_bad_pictures_those_with_more_people_come_first(tmp_path: Path) -> None:
    nobody = found(people(0, "coco17"), [], "coco17")
    labels = [Labels.from_keypoints(people(count, "coco17"), "coco17") for count in (1, 2)]
    image = np.zeros((300, 500, 3), np.uint8)
    samples = [Sample(f"video/{i}", 500, 300, one, lambda: image) for i, one in enumerate(labels)]
    written = write_worst(tmp_path, Run(samples, [nobody] * 2, []), 2)
    assert [path.name for path in written] == ["001_video_1.jpg", "002_video_0.jpg"]
    assert not image.any(), "the picture of a data set is not drawn on"


def test_boxes_of_crowds_and_of_people_without_keypoints_are_left_out() -> None:
    points = people(3, "coco17")
    points[2, :, 2] = 0
    boxes = [[0, 0, 60, 90], [200, 0, 60, 90], [400, 0, 60, 90]]
    labels = Labels.from_keypoints(points, "coco17", boxes=boxes, crowd=[False, True, False])
    assert annotated_boxes(sample(1, labels)).boxes.tolist() == boxes[:1]


def test_a_report_names_the_detector_where_there_is_one() -> None:

    about = dict(name="m", weights="w", device="cpu", engine="pytorch", precision="fp32", input_size=(64, 96))
    for detector in ("yolo.onnx", ""):
        told = describe(SimpleNamespace(**about, detector=detector))  # type: ignore[arg-type]
        assert told.get("detector", "") == detector and ("detector" in told) == bool(detector)
        assert (told["model"], told["input_size"]) == ("m", [64, 96])


def test_command_asks_a_model_for_everybody_and_takes_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco_files(tmp_path)
    seen: dict[str, Any] = {}

    def estimator(**options: Any) -> None:
        seen.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("pave_ros.estimator.Estimator", estimator)
    arguments = ["--model", "vitpose_s", "--boxes", "ground-truth", "--box-threshold", "0", "--smoothing", "never"]
    arguments += ["--dataset", "coco", "--root", str(tmp_path), "--input-size", "64x96"]
    RUNNER.invoke(cli.app, ["evaluate", *arguments])
    assert (seen["score_threshold"], seen["max_persons"], seen["smoothing"]) == (0.0, 100, "never")
    assert (seen["model"], seen["input_size"]) == ("vitpose_s", (64, 96))
    assert (seen["top_down"].detector, seen["top_down"].box_threshold) == ("given", 0.0)


def test_command_knows_that_a_file_of_matlab_has_no_parts(tmp_path: Path) -> None:
    given = ["evaluate", "--dataset", "lsp", "--root", str(tmp_path / "joints.mat"), "--split", "train"]
    refused = RUNNER.invoke(cli.app, given)
    assert refused.exit_code == 2 and "a single annotation file has none" in refused.output


def test_boxes_without_a_score_are_sure(tmp_path: Path) -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    data = ListedDataset("coco", skeletons.get("coco17"), [sample(1, labels)])
    write(tmp_path / "boxes.json", [{"image_id": 1, "bbox": [1, 2, 30, 40]}])
    found = boxes_in(tmp_path / "boxes.json", data)(data[0])
    assert (found.boxes.tolist(), found.scores.tolist()) == ([[1, 2, 30, 40]], [1])


@pytest.mark.parametrize("folder", ["", "images/"])
def test_boxes_go_by_the_names_of_pictures_with_or_without_their_folder(tmp_path: Path, folder: str) -> None:
    """Also where a name has the form of PoseTrack 2018 and is no number in the data set."""
    names = ["bonn/000001_bonn/00000001.jpg", "val/000001_bonn_test/000002.jpg"]
    nobody = Labels.from_keypoints(people(0, "coco17"), "coco17")
    data = ListedDataset(
        "posetrack17", skeletons.get("coco17"), [replace(sample(1, nobody), id=folder + n) for n in names]
    )
    for named in (names, [f"images/{name}" for name in names]):
        entries = [{"image_name": name, "bbox": [i, 0, 9, 9]} for i, name in enumerate(named, start=1)]
        write(tmp_path / "boxes.json", [*entries, {"image_name": "elsewhere/00000001.jpg", "bbox": [7, 0, 9, 9]}])
        found = boxes_in(tmp_path / "boxes.json", data)
        assert [found(one).boxes[:, 0].tolist() for one in data] == [[1], [2]]
