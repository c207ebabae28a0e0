"""Metrics against cases computed by hand, and against pycocotools on the same results file."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from pave_ros import cli, skeletons
from pave_ros.datasets import DatasetError, Labels, Sample, open_dataset
from pave_ros.datasets.base import ListedDataset
from pave_ros.evaluation.boxes import annotated_boxes, boxes_in
from pave_ros.evaluation.coco import coco_ap, crowdpose_ap, labelled_ap
from pave_ros.evaluation.evaluate import Run, from_results, part_of, quality, run, write_worst
from pave_ros.evaluation.jitter import jitter
from pave_ros.evaluation.pck import pck
from pave_ros.evaluation.posetrack import posetrack_ap
from pave_ros.evaluation.score import METRICS, score
from pave_ros.evaluation.similarity import oks, partners
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.training.augmentation import joined


def people(count: int, skeleton: str, spacing: float = 200.0) -> np.ndarray[Any, Any]:
    """(count, K, 3) people side by side, keypoint k at (spacing * person + 3k, 5k), all visible."""
    k = np.arange(len(skeletons.get(skeleton)))
    points = [np.stack([spacing * person + 3 * k, 5 * k, np.full(len(k), 2)], axis=1) for person in range(count)]
    return np.array(points, np.float32).reshape(count, len(k), 3)


def sample(number: int, labels: Labels, **more: Any) -> Sample:
    return Sample(number, 500, 300, labels, lambda: np.zeros((300, 500, 3), np.uint8), **more)


def found(keypoints: np.ndarray[Any, Any], scores: Sequence[float], skeleton: str) -> Persons:
    points = keypoints.copy()
    points[..., 2] = np.asarray(scores, np.float32)[:, None] if len(points) else 0
    return Persons.from_keypoints(points, scores, skeleton)


# COCO


def test_one_of_two_people_found_exactly() -> None:
    truth = people(2, "coco17")
    labels = Labels.from_keypoints(truth, "coco17", areas=[100 * 100, 50 * 50])
    result = coco_ap([sample(1, labels)], [found(truth[:1], [0.9], "coco17")])
    values = result.values
    # Precision is 1 up to recall 0.5: at 51 of the 101 places where COCO looks.
    assert values["AP"] == values["AP50"] == values["AP75"] == pytest.approx(51 / 101)
    assert (values["AR"], values["AP_L"], values["AP_M"]) == pytest.approx((0.5, 1, 0))
    assert (result.pictures, result.persons, result.notes) == (1, 2, ())


def test_similarity_is_that_of_coco() -> None:
    truth = people(1, "coco17")
    labels = Labels.from_keypoints(truth, "coco17", areas=[400])
    moved = truth.copy()
    moved[0, :, 0] += 2
    sigmas = np.array(skeletons.get("coco17").sigmas)
    by_hand = np.exp(-4 / (2 * (2 * sigmas) ** 2 * 400)).mean()
    assert oks(labels, found(moved, [1], "coco17"))[0, 0] == pytest.approx(by_hand, rel=1e-6)
    half = truth.copy()
    half[0, ::2, :2] = np.nan
    assert oks(labels, found(half, [1], "coco17"))[0, 0] == pytest.approx(8 / 17)
    # 0.5 of the way between two thresholds: right for 0.50 ... 0.80, wrong for 0.85, 0.90, 0.95
    distance = 20 * 2 * 0.5 * math.sqrt(-2 * math.log(0.82))
    alike = truth.copy()
    alike[0, :, 0] += distance * sigmas / 0.5
    assert oks(labels, found(alike, [1], "coco17"))[0, 0] == pytest.approx(0.82, abs=1e-3)
    assert coco_ap([sample(1, labels)], [found(alike, [1], "coco17")]).values["AP"] == pytest.approx(0.7)


def test_crowds_and_people_without_keypoints_count_neither_way() -> None:
    truth = people(3, "coco17")
    truth[2, :, 2] = 0
    labels = Labels.from_keypoints(
        truth, "coco17", crowd=[False, True, False], boxes=[[0, 0, 60, 90], [200, 0, 60, 90], [400, 0, 60, 90]]
    )
    everybody = found(people(3, "coco17"), [0.5, 0.9, 0.8], "coco17")
    result = coco_ap([sample(1, labels)], [everybody])
    assert (result.values["AP"], result.persons) == (pytest.approx(1), 1)


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


def test_threads_may_evaluate_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    truth = people(2, "coco17")
    pictures = [sample(i, Labels.from_keypoints(truth, "coco17")) for i in range(4)]
    answers, stdout = [found(truth, [0.9, 0.8], "coco17")] * 4, sys.stdout
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: coco_ap(pictures, answers).values["AP"], range(8)))
    assert results == [1.0] * 8
    assert sys.stdout is stdout, "what pycocotools prints is kept from it, and nothing else"
    assert capsys.readouterr().out == ""


def test_nothing_found_and_nothing_to_find() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    nobody = found(people(0, "coco17"), [], "coco17")
    assert coco_ap([sample(1, labels)], [nobody]).values["AP"] == 0
    assert math.isnan(coco_ap([sample(1, labels[:0])], [nobody]).values["AP"])


def test_keypoints_that_a_model_lacks_are_wrong_and_noted() -> None:
    truth = people(1, "coco17")
    labels = Labels.from_keypoints(truth, "coco17")
    truth[0, 0, :2] = np.nan
    result = coco_ap([sample(1, labels)], [found(truth, [0.9], "coco17")])
    assert result.values["AP"] == pytest.approx(0.9), "an OKS of 16/17 fails at 0.95 only"
    assert result.notes == ("never predicted, which counts as wrong: nose",)


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


# CrowdPose


def test_crowdpose_by_hand() -> None:
    truth = people(2, "crowdpose14")
    boxes = [[0, 0, 50, 80], [200, 0, 50, 80]]
    labels = Labels.from_keypoints(truth, "crowdpose14", boxes=boxes, areas=[1e9, 1e9])
    samples = [sample(i, labels, crowd_index=index) for i, index in enumerate((0.1, 0.5, 0.8), start=1)]
    moved = truth.copy()
    sigmas = np.array(skeletons.get("crowdpose14").sigmas)
    # An OKS of 0.72 for the area 0.53 * 50 * 80: right at 0.50 ... 0.70
    moved[..., 0] += 2 * sigmas * math.sqrt(-2 * math.log(0.72) * 0.53 * 50 * 80)
    predictions = [
        found(truth, [0.9, 0.8], "crowdpose14"),
        found(truth[:1], [0.9], "crowdpose14"),
        found(moved, [0.9, 0.8], "crowdpose14"),
    ]
    values = crowdpose_ap(samples, predictions).values
    assert (
        values["AP_E"] == pytest.approx(1)
        and values["AP_M"] == pytest.approx(51 / 101)
        and values["AP_H"] == pytest.approx(0.5)
    )
    assert values["AR50"] == pytest.approx(5 / 6) and values["AR75"] == pytest.approx(3 / 6)
    assert list(values) == ["AP", "AP50", "AP75", "AP_E", "AP_M", "AP_H", "AR", "AR50", "AR75"]
    assert math.isnan(crowdpose_ap(samples[:1], predictions[:1]).values["AP_H"])


# PoseTrack


def posetrack(count: int, **more: Any) -> Labels:
    """People whose heads measure 0.6 * 50 = 30 pixels."""
    truth = people(count, "posetrack15")
    return Labels.from_keypoints(truth, "posetrack15", head_boxes=[[0, 0, 30, 40]] * count, **more)


def test_posetrack_by_hand() -> None:
    truth = people(2, "posetrack15")
    invented = truth[:1] + np.array([0, 1000, 0], np.float32)
    answer = found(np.concatenate([truth[:1], invented]), [0.9, 0.95], "posetrack15")
    values = posetrack_ap([sample(1, posetrack(2))], [answer]).values
    # Sorted by score: wrong, right; so the precision is 1/2 up to the recall of 1/2.
    assert list(values.values()) == pytest.approx([0.25] * 8)
    assert list(values) == ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean"]


def test_posetrack_regions_without_annotations_do_not_count() -> None:
    truth = people(2, "posetrack15")
    region = [[-100, 900], [900, 900], [900, 2000], [-100, 2000]]
    invented = truth[:1] + np.array([0, 1000, 0], np.float32)
    answer = found(np.concatenate([truth[:1], invented]), [0.9, 0.95], "posetrack15")
    values = posetrack_ap([sample(1, posetrack(2, ignore=[region]))], [answer]).values
    assert values["Mean"] == pytest.approx(0.5)


def test_posetrack_joints_are_right_within_half_a_head() -> None:
    truth = people(1, "posetrack15")
    wrists = [skeletons.get("posetrack15").index(f"{side}_wrist") for side in ("left", "right")]
    near = truth.copy()
    near[..., 0] += 15
    near[0, wrists[0], 0] += 0.1
    values = posetrack_ap([sample(1, posetrack(1))], [found(near, [0.9], "posetrack15")]).values
    assert values["Wrist"] == pytest.approx(0.5)
    assert [values[group] for group in ("Head", "Elbow", "Ankle")] == [1, 1, 1]
    assert values["Mean"] == pytest.approx(14 / 15)


def test_posetrack_pairs_every_person_once() -> None:
    truth = people(1, "posetrack15")
    worse = truth.copy()
    worse[0, :10, 1] += 100
    answer = found(np.concatenate([worse, truth]), [0.9, 0.8], "posetrack15")
    values = posetrack_ap([sample(1, posetrack(1))], [answer]).values
    # The first has five joints right but the second all: so all of the first are wrong.
    assert list(values.values()) == pytest.approx([0.5] * 8)


def test_posetrack_of_a_model_with_ears_and_of_pictures_without_people() -> None:
    truth = people(2, "posetrack17")
    labels = Labels.from_keypoints(truth, "posetrack17", head_boxes=[[0, 0, 30, 40], [np.nan] * 4])
    nobody = sample(2, labels[:0])
    result = posetrack_ap([sample(1, labels), nobody], [found(truth[:1], [0.9], "posetrack17")] * 2)
    assert result.values["Mean"] == 1 and (result.pictures, result.persons) == (1, 1)
    assert result.notes == ("1 people without a head box are left out",)


# PCK


def test_pck_by_hand() -> None:
    truth = people(2, "coco17")
    labels = Labels.from_keypoints(truth, "coco17", boxes=[[0, 0, 50, 100], [200, 0, 50, 100]], complete=False)
    answer = truth[:1].copy()
    answer[0, 9, 0] += 20  # left wrist, just right
    answer[0, 10, 0] += 20.1  # right wrist, just wrong
    stranger = truth[:1] + np.array([0, 1000, 0], np.float32)
    persons = found(np.concatenate([stranger, answer]), [0.9, 0.5], "coco17")
    values = pck([sample(1, labels)], [persons], "box").values
    assert values["Wrist"] == pytest.approx(0.25), "two people, of one of them one wrist"
    assert values["Head"] == values["Ankle"] == pytest.approx(0.5)
    assert values["Mean"] == pytest.approx((16 * 0.5 + 0) / 17)


def test_pck_does_not_reward_guesses() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17")
    assert pck([sample(1, labels)], [found(people(1, "coco17"), [0.2], "coco17")], "box").values["Mean"] == 0


def test_jitter_is_neither_motion_nor_offset() -> None:
    samples, answers = [], []
    for i, frame in enumerate((3, 4, 5, 9)):
        truth = people(1, "coco17") + np.array([20 * i, 0, 0], np.float32)  # walks
        labels = Labels.from_keypoints(truth, "coco17", boxes=[[0, 0, 50, 100]], track_ids=[7])
        samples.append(sample(i, labels, video="a", frame=frame))
        answer = truth + np.array([4, 3, 0], np.float32)  # always off by as much
        answer[0, 9, 0] += (0, 0, 6, 60)[i]  # the left wrist jumps once, and again after a gap, which does not count
        answer[0, 15, :2] = np.nan
        answers.append(found(answer, [0.9], "coco17"))
    result = jitter(samples, answers)
    assert result.values["Wrist"] == pytest.approx(0.06 / 2 / 2, rel=1e-4), "of two pairs one, of two wrists one"
    assert result.values["Head"] == pytest.approx(0, abs=1e-6) and result.pictures == result.persons == 2
    assert result.notes == ("never predicted, left out: left_ankle",)
    unsure = [replace(answer, scores=answer.scores * 0) for answer in answers]
    assert math.isnan(jitter(samples, unsure).values["Mean"]) and math.isnan(jitter([], []).values["Mean"])


def test_pck_by_the_torso_needs_its_ends() -> None:
    truth = people(2, "lsp14")
    truth[1, 2, 2] = 0  # the right hip of the second
    labels = Labels.from_keypoints(truth, "lsp14", complete=False)
    length = float(np.linalg.norm(truth[0, 9, :2] - truth[0, 2, :2]))
    near = truth.copy()
    near[0, :, 0] += 0.2 * length - 0.01
    result = pck([sample(1, labels)], [found(near, [0.9, 0.8], "lsp14")], "torso")
    assert (result.values["Mean"], result.persons) == (1.0, 1)
    near[0, :, 0] += 0.02
    assert pck([sample(1, labels)], [found(near, [0.9, 0.8], "lsp14")], "torso").values["Mean"] == 0


def test_pck_by_the_head() -> None:
    truth = people(1, "posetrack15")
    near = truth.copy()
    near[0, 0, 0] += 15.1
    values = pck([sample(1, posetrack(1))], [found(near, [0.9], "posetrack15")], "head").values
    assert (values["Head"], values["Mean"]) == (pytest.approx(2 / 3), pytest.approx(14 / 15))


def test_pck_leaves_out_what_a_model_does_not_know() -> None:
    labels = Labels.from_keypoints(people(1, "jhmdb15"), "jhmdb15", complete=False)
    truth = people(1, "jhmdb15")
    truth[0, :3, :2] = np.nan
    result = pck([sample(1, labels)], [found(truth, [0.9], "jhmdb15")], "box")
    assert math.isnan(result.values["Head"]) and result.values["Mean"] == 1
    assert result.notes == ("never predicted, left out: neck, belly, face",)


def test_ap_of_labelled_people_leaves_out_strangers_and_unknown_keypoints() -> None:
    person, stranger = people(1, "jhmdb15"), people(1, "jhmdb15") + np.array([400, 0, 0], np.float32)
    for points in (person, stranger):
        points[0, :3, :2] = np.nan  # neck, belly and face, which a model with COCO's keypoints does not know
    both = found(np.concatenate((stranger, person)), [0.9, 0.8], "jhmdb15")
    values = {}
    for complete in (False, True):
        labels = Labels.from_keypoints(people(1, "jhmdb15"), "jhmdb15", complete=complete)
        result = labelled_ap([sample(1, labels)], [both])
        values[complete] = result.values["AP"]
    assert values[False] == pytest.approx(1) and result.notes[-1] == "never predicted, left out: neck, belly, face"
    assert values[True] == pytest.approx(0.5), "where everybody is labelled the surer stranger is wrong"


def test_ap_of_labelled_people_counts_who_was_found_twice() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17", complete=False)
    beside = people(1, "coco17") + np.array([12, 0, 0], np.float32)
    twice = found(np.concatenate((beside, people(1, "coco17"))), [0.9, 0.8], "coco17")
    assert labelled_ap([sample(1, labels)], [twice]).values["AP75"] == pytest.approx(0.5)
    assert math.isnan(labelled_ap([sample(1, labels[:0])], [twice]).values["AP"]), "nobody is labelled"
    assert math.isnan(labelled_ap([], []).values["AP"])


def test_ap_of_labelled_people_knows_those_of_whom_a_line_is_labelled() -> None:
    points = np.zeros((1, 14, 3), np.float32)
    points[0, 9:12] = [(100, 60, 2), (101, 95, 2), (100.5, 130, 2)]  # an arm that hangs down
    labels = Labels.from_keypoints(points, "lsp14", boxes=[[60, 20, 80, 240]], complete=False)
    beside = found(people(1, "lsp14"), [0.9], "lsp14")
    beside.keypoints[0, 9:12, :2] = points[0, 9:12, :2] + np.array([4, 0], np.float32)
    assert labelled_ap([sample(1, labels)], [beside]).values["AP"] == pytest.approx(1)


def test_pictures_that_say_that_others_are_in_them() -> None:
    person, stranger = people(1, "coco17"), people(1, "coco17") + np.array([400, 0, 0], np.float32)
    both = found(np.concatenate((stranger, person)), [0.9, 0.8], "coco17")
    for complete, right in ((True, 0.5), (False, 1)):
        labels = Labels.from_keypoints(people(1, "coco17"), "coco17", complete=complete)
        (result,) = score("coco", [sample(1, labels)], [both])
        assert result.values["AP"] == pytest.approx(right)
        assert ("of the labelled people alone" in result.notes) == (not complete)


# Running and reporting


def test_partners_are_used_once() -> None:
    labels = Labels.from_keypoints(people(2, "coco17"), "coco17")
    one = found(people(1, "coco17"), [0.9], "coco17")
    chosen, alike = partners(labels, one)
    assert chosen.tolist() == [0, -1] and alike.tolist() == [1, 0]
    assert partners(labels, found(people(0, "coco17"), [], "coco17"))[0].tolist() == [-1, -1]


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


def test_no_scene_is_drawn_for_a_file_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = open_dataset("synthetic"), tmp_path / "other.json"
    assert data[:2].ids == [sample.id for sample in data[:2]]
    monkeypatch.setattr(type(data), "_sample", None)
    write(path, [{"image_id": "7/45", "keypoints": [0] * 51, "bbox": [0, 0, 9, 9], "score": 1}])
    with pytest.raises(DatasetError, match="not one of its image_ids is in synthetic"):
        from_results(data, part_of(data), path)
    with pytest.raises(DatasetError, match="no boxes for the pictures of synthetic"):
        boxes_in(path, data)


# The command

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


# --- boxes for top-down models --------------------------------------------------------------------------------------


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
