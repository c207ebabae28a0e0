from __future__ import annotations

import pytest

from pave_ros import skeletons


@pytest.mark.parametrize("name", skeletons.SKELETONS)
def test_layouts_are_consistent(name: str) -> None:
    skeleton, count = skeletons.get(name), int(name[-2:])
    assert len(skeleton) == len(skeleton.sigmas) == len(skeleton.mirror) == count
    assert len(set(skeleton.keypoints)) == count
    assert [skeleton.mirror[i] for i in skeleton.mirror] == list(range(count))
    assert {i for edge in skeleton.edges for i in edge} == set(range(count)), "every keypoint belongs to a limb"


def test_mirror_swaps_left_and_right() -> None:
    coco = skeletons.get("coco17")
    assert coco.mirror[coco.index("left_wrist")] == coco.index("right_wrist")
    assert coco.mirror[coco.index("nose")] == coco.index("nose")


def test_coco_order_and_sigmas_are_those_of_its_evaluation() -> None:
    coco = skeletons.get("coco17")
    assert coco.keypoints[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert coco.keypoints[-2:] == ("left_ankle", "right_ankle")
    head, arms, legs = (0.026, 0.025, 0.025, 0.035, 0.035), (0.079, 0.072, 0.062), (0.107, 0.087, 0.089)
    assert coco.sigmas == head + tuple(sigma for sigma in arms + legs for _ in ("left", "right"))


def test_posetrack15_is_posetrack17_without_ears() -> None:
    full = skeletons.get("posetrack17").keypoints
    assert skeletons.get("posetrack15").keypoints == tuple(k for k in full if "ear" not in k)
    assert full[:3] == ("nose", "head_bottom", "head_top")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(KeyError, match="coco17"):
        skeletons.get("coco")
    with pytest.raises(KeyError, match="left_eye"):
        skeletons.get("coco17").index("tail")


def test_sigmas_of_animals_are_those_of_their_evaluation() -> None:
    eyes, nose, neck, tail = (0.025, 0.025), (0.026,), (0.035,), (0.035,)
    front, back = (0.079, 0.072, 0.062), (0.107, 0.087, 0.089)
    assert skeletons.get("ap10k17").sigmas == eyes + nose + neck + tail + 2 * front + 2 * back
