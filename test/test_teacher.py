"""A teacher completes labels: coordinates, matching, faces, sides, people added and regions that count neither way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pave_ros import skeletons
from pave_ros.datasets.base import Labels
from pave_ros.persons import Persons
from pave_ros.training.teacher import Completion, Teacher, TeacherError, distinct, recalled, similarities, watch

SIZE = (200, 200)
MIRROR = list(skeletons.get("coco17").mirror)
STANDING = np.array(
    [(50, 20), (52, 18), (48, 18), (55, 20), (45, 20), (60, 35), (40, 35), (65, 55), (35, 55), (66, 75), (34, 75),
     (56, 80), (44, 80), (57, 115), (43, 115), (58, 150), (42, 150)], np.float32,
)  # fmt: skip


def person(offset: tuple[float, float] = (0, 0), keypoint_score: float = 0.8) -> np.ndarray:
    return np.concatenate([STANDING + offset, np.full((17, 1), keypoint_score, np.float32)], axis=1)


def found(*people: np.ndarray, scores: tuple[float, ...]) -> Persons:
    return Persons.from_keypoints(np.array(people).reshape(-1, 17, 3), scores, "coco17")


def annotated(keypoints: np.ndarray, *, face: bool = False, complete: bool = False) -> Labels:
    points = keypoints.copy()
    points[:, 2] = 2
    if not face:
        points[:5] = 0
    return Labels.from_keypoints(points[None], "coco17", complete=complete)


def fake_teacher(path: Path, answer: np.ndarray) -> Path:
    """An ONNX file of MoveNet MultiPose's layout that always gives the same answer (N, 56)."""
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "answer"], ["output_0"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(answer[None].astype(np.float32), "answer"),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("input", TensorProto.INT32, [1, "h", "w", 3])],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, [1, len(answer), 56])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_coordinates_come_back_through_scale_and_padding(tmp_path: Path) -> None:
    answer = np.zeros((2, 56), np.float32)
    answer[0, :51] = np.tile([0.5, 0.25, 0.9], 17)  # y, x, score
    answer[0, 51:] = 0.25, 0.125, 0.5, 0.375, 0.7  # ymin, xmin, ymax, xmax, score
    teacher = Teacher(fake_teacher(tmp_path / "teacher.onnx", answer), size=64, threads=1)
    # 128x76 pixels are shrunk to 64x38 and padded to 64x64: half the height is pixel 32 of 38.
    persons = teacher(np.zeros((76, 128, 3), np.uint8))
    assert len(persons) == 1, "the second scores nothing"
    np.testing.assert_allclose(persons.keypoints[0, 0], [32, 64, 0.9], rtol=1e-5)
    np.testing.assert_allclose(persons.boxes[0], [16, 32, 32, 32], rtol=1e-5)
    np.testing.assert_allclose(persons.scores, [0.7], rtol=1e-5)


def test_a_file_that_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no such file"):
        Teacher(tmp_path / "none.onnx")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(TeacherError, match="MoveNet MultiPose"):
        Teacher(path)


def test_what_the_teacher_saw_is_kept_in_full() -> None:
    persons = found(person(), person((60, 10)), scores=(0.9, 0.4))
    answers = watch(lambda image: persons, [np.zeros((4, 4, 3), np.uint8)] * 2, keep=3)
    assert answers.shape == (2, 3, 56)
    back = recalled(answers[1])
    np.testing.assert_allclose(back.keypoints[:2], persons.keypoints)
    np.testing.assert_allclose(back.boxes[:2], persons.boxes)
    np.testing.assert_allclose(back.scores, [0.9, 0.4, 0])


def test_two_looks_give_each_person_once() -> None:
    near = found(person(), scores=(0.5,))
    closer = found(person((1, 1)), person((100, 0)), person((50, 40)), scores=(0.8, 0.3, 0.01))
    both = distinct(near, closer)
    np.testing.assert_allclose(both.scores, [0.8, 0.3])
    np.testing.assert_allclose(both.keypoints[0, 0, :2], [51, 21])
    assert len(distinct(found(scores=()))) == 0


def test_similarity_is_that_of_coco() -> None:
    labels = annotated(person())
    moved = found(person((5, 0)), scores=(1.0,))
    sigmas = np.array(skeletons.get("coco17").sigmas[5:])
    expected = np.exp(-25 / (2 * labels.areas[0] * (2 * sigmas) ** 2)).mean()
    np.testing.assert_allclose(similarities(labels, moved), [[expected]], rtol=1e-5)


def test_a_matched_person_gets_a_face_and_keeps_the_rest() -> None:
    seen = person((2, 1))
    seen[3, 2] = 0.05  # an ear that the teacher does not see
    labels = Completion()(annotated(person()), found(seen, scores=(0.8,)), SIZE)
    assert len(labels) == 1
    assert labels.keypoints[0, :5, 2].tolist() == [2, 2, 2, 0, 2]
    np.testing.assert_allclose(labels.keypoints[0, 0, :2], [52, 21])
    np.testing.assert_allclose(labels.keypoints[0, 5:, :2], STANDING[5:])


def test_others_are_added_and_the_uncertain_count_neither_way() -> None:
    sure, unsure, nobody = person((80, 0)), person((120, 20)), person((0, 40))
    labels = Completion()(annotated(person()), found(sure, unsure, nobody, scores=(0.6, 0.2, 0.05)), SIZE)
    assert labels.crowd.tolist() == [False, False, True]
    np.testing.assert_allclose(labels.keypoints[1, :, :2], sure[:, :2])
    assert (labels.keypoints[2] == 0).all()
    np.testing.assert_allclose(labels.boxes[2], [154, 38, 32, 132])


def test_keypoints_outside_the_picture_are_not_added() -> None:
    labels = Completion()(annotated(person()), found(person((150, 0)), scores=(0.6,)), (200, 200))
    outside = STANDING[:, 0] + 150 >= 200
    assert ((labels.keypoints[1, :, 2] == 0) == outside).all()
    assert labels.boxes[1, 0] + labels.boxes[1, 2] <= 200


def test_somebody_on_top_of_the_annotated_person_counts_neither_way() -> None:
    crossed = person()
    crossed[:, :2] = crossed[::-1, :2]
    labels = Completion()(annotated(person()), found(crossed, scores=(0.6,)), SIZE)
    assert labels.crowd.tolist() == [False, True]
    assert (labels.keypoints[0, :5] == 0).all()
    assert len(Completion()(annotated(person()), found(crossed, scores=(0.2,)), SIZE)) == 1


def test_sides_are_set_straight_where_they_are_unsure() -> None:
    wrong = person()[MIRROR]
    wide = found(person(), scores=(0.9,))
    straight = Completion()(annotated(wrong), wide, SIZE, sides=True)
    np.testing.assert_allclose(straight.keypoints[0, 5:, :2], STANDING[5:])
    untouched = Completion()(annotated(wrong), wide, SIZE, sides=False)
    np.testing.assert_allclose(untouched.keypoints[0, 5:, :2], STANDING[MIRROR][5:])


def test_complete_labels_are_left_alone() -> None:
    labels = annotated(person(), complete=True)
    assert Completion()(labels, found(person((80, 0)), scores=(0.9,)), SIZE) is labels


def test_pictures_with_several_people_are_looked_at_again_from_closer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, small = person(), person((80, 0)), person((0, 300))
    teacher = Teacher(fake_teacher(tmp_path / "teacher.onnx", np.zeros((1, 56))), size=256, threads=1)
    for first, sizes, count in (([one], [256], 1), ([one, two], [256, 448], 3)):
        answers = [found(*first, scores=(0.8,) * len(first)), found(small, scores=(0.7,))]
        looks: list[int] = []
        monkeypatch.setattr(teacher, "_look", lambda image, size: looks.append(size) or answers[len(looks) - 1])  # noqa: B023
        assert len(teacher(np.zeros((8, 8, 3), np.uint8))) == count
        assert looks == sizes


def test_the_least_sure_are_nobody() -> None:
    people = found(person(), person((80, 0)), person((0, 300)), scores=(0.8, 0.05, 0.04))
    np.testing.assert_allclose(distinct(people).scores, [0.8, 0.05])


def test_whoever_is_set_straight_gets_a_face_too() -> None:
    labels = Completion()(annotated(person()[MIRROR]), found(person(), scores=(0.9,)), SIZE, sides=True)
    assert len(labels) == 1 and (labels.keypoints[0, :5, 2] == 2).all()
    np.testing.assert_allclose(labels.keypoints[0, :, :2], STANDING)


def test_faces_alone_are_filled_and_keep_what_is_annotated() -> None:
    labels = annotated(person())
    labels.keypoints[0, 0] = 51, 22, 2
    labels.keypoints[0, 9] = 0
    completed = Completion()(labels, found(person(), scores=(0.8,)), SIZE)
    assert completed.keypoints[0, 0].tolist() == [51, 22, 2] and (completed.keypoints[0, 9] == 0).all()
    assert (completed.keypoints[0, 1:5, 2] == 2).all()


def test_a_few_joints_are_no_person_and_nobody_is_added_out_of_the_picture() -> None:
    few, gone = person((80, 0), keypoint_score=0.1), person((400, 0))
    few[:5, 2] = 0.8
    labels = Completion()(annotated(person()), found(few, gone, scores=(0.6, 0.6)), SIZE)
    assert labels.crowd.tolist() == [False, True]
    assert (labels.keypoints[1] == 0).all()


def test_three_joints_do_not_tell_who_somebody_is() -> None:
    labels = annotated(person())
    labels.keypoints[0, 8:] = 0
    assert (similarities(labels, found(person(), scores=(0.8,))) == 0).all()


def test_whom_the_teacher_hardly_sees_is_not_even_a_region() -> None:
    labels = Completion()(
        annotated(person()), found(person((80, 0)), person((80, 150)), scores=(0.11, 0.13)), (300, 400)
    )
    assert labels.crowd.tolist() == [False, True] and labels.boxes[1, 1] == 168


def test_sides_stay_where_the_teacher_sees_somebody_else() -> None:
    wrong, other = annotated(person()[MIRROR]), found(person((0, 12)), scores=(0.9,))
    assert 0.2 < similarities(annotated(person()), other)[0, 0] < 0.4
    completed = Completion()(wrong, other, SIZE, sides=True)
    np.testing.assert_allclose(completed.keypoints[0, 5:, :2], STANDING[MIRROR][5:])


def test_sides_stay_where_they_are_nearly_the_same() -> None:
    """Of whom the teacher sees from the side; others in the picture do not matter."""
    narrow = person()
    narrow[:, 0] = 50 + (narrow[:, 0] - 50) * 0.1
    wrong, seen = annotated(narrow[MIRROR]), found(narrow, person((120, 0)), scores=(0.9, 0.8))
    assert 0.5 < similarities(wrong, seen)[0, 0] < 0.95
    rise = similarities(annotated(narrow), seen)[0, 0] - similarities(wrong, seen)[0, 0]
    for swap, expected in ((rise + 0.05, narrow[MIRROR]), (rise - 0.05, narrow)):
        completed = Completion(swap=swap)(wrong, seen, (300, 200), sides=True)
        assert len(completed) == 2
        np.testing.assert_allclose(completed.keypoints[0, 5:, :2], expected[5:, :2])
