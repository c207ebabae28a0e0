"""Metrics against cases computed by hand."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from labelled import found, people, posetrack, sample

from pave_ros import skeletons
from pave_ros.datasets import Labels
from pave_ros.evaluation.coco import coco_ap, crowdpose_ap, labelled_ap
from pave_ros.evaluation.jitter import jitter
from pave_ros.evaluation.pck import pck
from pave_ros.evaluation.posetrack import posetrack_ap
from pave_ros.evaluation.score import score
from pave_ros.evaluation.similarity import oks, partners


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


def test_the_mean_of_pckh_is_that_of_all_annotated_joints() -> None:
    """As published; of two people one has a nose alone, which is wrong."""
    labels = posetrack(2)
    labels.keypoints[1, 1:] = 0
    predicted = people(2, "posetrack15")
    predicted[1, 0, 0] += 1000
    values = pck([sample(1, labels)], [found(predicted, [0.9, 0.8], "posetrack15")], "head").values
    assert values["Mean"] == pytest.approx(15 / 16)


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


def test_partners_are_used_once() -> None:
    labels = Labels.from_keypoints(people(2, "coco17"), "coco17")
    one = found(people(1, "coco17"), [0.9], "coco17")
    chosen, alike = partners(labels, one)
    assert chosen.tolist() == [0, -1] and alike.tolist() == [1, 0]
    assert partners(labels, found(people(0, "coco17"), [], "coco17"))[0].tolist() == [-1, -1]


def test_a_crowd_that_nobody_found_is_no_miss() -> None:
    labels = Labels.from_keypoints(people(2, "coco17"), "coco17", crowd=[False, True])
    assert coco_ap([sample(1, labels)], [found(people(1, "coco17"), [0.9], "coco17")]).values["AP"] == pytest.approx(1)


def test_people_without_a_track_have_no_jitter() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17", track_ids=[-1])
    samples = [sample(i, labels, video="a", frame=i) for i in range(2)]
    assert math.isnan(jitter(samples, [found(people(1, "coco17"), [0.9], "coco17")] * 2).values["Mean"])


def test_posetrack_joints_in_regions_without_annotations_are_not_missed() -> None:
    region = [[-100, -100], [90, -100], [90, 900], [-100, 900]]  # the first of two people
    answer = found(people(2, "posetrack15")[1:], [0.9], "posetrack15")
    assert posetrack_ap([sample(1, posetrack(2, ignore=[region]))], [answer]).values["Mean"] == pytest.approx(1)


def test_posetrack_precision_is_the_best_from_there_on() -> None:
    truth = people(2, "posetrack15")
    invented = truth[:1] + np.array([0, 1000, 0], np.float32)
    answer = found(np.concatenate([invented, truth]), [0.95, 0.9, 0.8], "posetrack15")
    # Precision 0, 1/2, 2/3: two thirds up to the recall of 1.
    assert posetrack_ap([sample(1, posetrack(2))], [answer]).values["Mean"] == pytest.approx(2 / 3)


def test_one_picture_with_others_in_it_is_enough() -> None:
    samples = [sample(i, Labels.from_keypoints(people(1, "coco17"), "coco17", complete=bool(i))) for i in range(2)]
    (result,) = score("coco", samples, [found(people(1, "coco17"), [0.9], "coco17")] * 2)
    assert "of the labelled people alone" in result.notes


def test_pictures_of_one_number_are_two() -> None:
    here, there = people(1, "coco17"), people(1, "coco17") + np.array([200, 0, 0], np.float32)
    samples = [sample(1, Labels.from_keypoints(points, "coco17")) for points in (here, there)]
    answers = [found(points, [0.9], "coco17") for points in (there, here)]
    assert coco_ap(samples, answers).values["AR"] == 0


def test_neither_crowds_nor_whom_the_data_set_leaves_out_are_counted() -> None:
    labels = Labels.from_keypoints(people(3, "coco17"), "coco17", crowd=[False, True, False])
    labels = replace(labels, uncounted=np.array([False, False, True]))
    result = coco_ap([sample(1, labels)], [found(people(1, "coco17"), [0.9], "coco17")])
    assert result.persons == 1 and result.values["AP"] == pytest.approx(1)


def test_posetrack_joints_on_the_border_of_a_region_count() -> None:
    region = [[0, -10], [900, -10], [900, 900], [0, 900]]  # the first joint lies on its left side
    answer = found(people(1, "posetrack15"), [0.9], "posetrack15")
    values = posetrack_ap([sample(1, posetrack(1, ignore=[region]))], [answer]).values
    assert values["Mean"] == 1 and math.isnan(values["Ankle"]) == math.isnan(values["Wrist"])


def test_posetrack_pairs_by_the_share_of_right_joints() -> None:
    """One person has two joints, both right; the other fifteen, of which five are right."""
    truth = people(2, "posetrack15", spacing=6.0)
    labels = posetrack(2)
    labels.keypoints[:] = truth
    labels.keypoints[1, 2:] = 0
    answer = truth[:1].copy()
    answer[0, 5:, 1] += 200
    values = posetrack_ap([sample(1, labels)], [found(answer, [0.9], "posetrack15")]).values
    # It is the second one's: two joints of two people are right, the other three of the first are not.
    assert values["Mean"] < 0.2


def test_metrics_change_nothing_of_what_was_found() -> None:
    region = [[-100, -100], [900, -100], [900, 900], [-100, 900]]
    answer = found(people(1, "posetrack15"), [0.9], "posetrack15")
    labels = posetrack(1, ignore=[region])
    before = answer.keypoints.copy(), labels.keypoints.copy()
    posetrack_ap([sample(1, labels)], [answer])
    assert np.array_equal(answer.keypoints, before[0]) and np.array_equal(labels.keypoints, before[1])


def test_pck_leaves_out_crowds_and_people_without_a_size_or_a_keypoint() -> None:
    truth = people(4, "coco17")
    truth[3, :, 2] = 0
    boxes = [[200.0 * i, 0, 50, 100] for i in range(4)]
    labels = Labels.from_keypoints(truth, "coco17", boxes=boxes, crowd=[False, True, False, False])
    labels.boxes[2] = 0
    result = pck([sample(1, labels)], [found(people(1, "coco17"), [0.9], "coco17")], "box")
    assert (result.values["Mean"], result.persons) == (1, 1)


@pytest.mark.parametrize(("width", "medium"), [(95, True), (97, False)])
def test_strangers_are_medium_or_large_by_the_extent_of_what_was_found_of_them(width: int, medium: bool) -> None:
    """The bound lies at 96 x 96 pixels."""
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17", areas=[100 * 100])
    stranger = np.full((1, 17, 3), np.nan, np.float32)
    stranger[0, :2] = [(400, 50, 1), (400 + width, 146, 1)]
    both = found(np.concatenate((stranger, people(1, "coco17"))), [0.9, 0.8], "coco17")
    values = coco_ap([sample(1, labels)], [both]).values
    assert values["AP"] == pytest.approx(0.5) and values["AP_L"] == pytest.approx(1 if medium else 0.5)


def test_who_was_found_without_a_keypoint_is_wrong_and_small() -> None:
    labels = Labels.from_keypoints(people(1, "coco17"), "coco17", areas=[100 * 100])
    nothing = np.full((1, 17, 3), np.nan, np.float32)
    both = found(np.concatenate((nothing, people(1, "coco17"))), [0.9, 0.8], "coco17")
    values = coco_ap([sample(1, labels)], [both]).values
    assert (values["AP"], values["AP_L"]) == pytest.approx((0.5, 1))
