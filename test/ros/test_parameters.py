"""The parameters: declared with all that `ros2 param describe` shows, changed at run time, refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Start
from peer import Peer, wait_for
from rcl_interfaces.srv import DescribeParameters
from rclpy.exceptions import ParameterException

from pave_ros import models
from pave_ros.msg import Poses
from pave_ros.ros.node import PoseNode
from pave_ros.ros.parameters import Settings, rows

PARAMS_FILE = Path(__file__).parents[2] / "config" / "pose.yaml"
MakeNode = Callable[..., tuple[PoseNode, Any]]


def test_the_parameter_file_holds_every_parameter_with_its_default() -> None:
    content = yaml.safe_load(PARAMS_FILE.read_text())
    assert content == {"/**": {"ros__parameters": asdict(Settings())}}
    given = content["/**"]["ros__parameters"]
    assert {name: type(value) for name, value in given.items()} == {
        name: type(value) for name, value in asdict(Settings()).items()
    }, "ROS takes 1 and 1.0 for different types"
    assert given["model"] == models.DEFAULT


def test_the_parameter_file_says_which_parameters_change_at_run_time() -> None:
    marked: list[str] = []
    in_comment, at_run_time = False, False
    for line in PARAMS_FILE.read_text().partition("ros__parameters:")[2].splitlines():
        text = line.strip()
        if text.startswith("#"):  # holds for all parameters up to the next comment
            at_run_time = "(run time)" in text or (in_comment and at_run_time)
        elif text and at_run_time:
            marked.append(text.partition(":")[0])
        in_comment = text.startswith("#")
    assert set(marked) == {name for name, (_, row) in rows().items() if row.run_time}


def test_a_node_takes_the_parameter_file(start: Start, peer: Peer, tmp_path: Path) -> None:
    """The file of the package, and one of a user after it."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**:\n  ros__parameters:\n    autostart: false\n    max_rate: 7\n    camera: 3\n")
    process = start(
        "pave_ros.ros.node", "--ros-args", "-r", "__ns:=/file",
        "--params-file", str(PARAMS_FILE), "--params-file", str(mine),
    )  # fmt: skip
    node = "/file/pose_node"
    values = peer.get_parameters(node, *rows())
    assert values == {**asdict(Settings()), "autostart": False, "max_rate": 7.0, "camera": "3"}, process.output
    assert isinstance(values["max_rate"], float)


def test_every_parameter_is_described(peer: Peer, make_node: MakeNode) -> None:
    node, _ = make_node()
    request = DescribeParameters.Request(names=list(rows()))
    told = peer.call(DescribeParameters, f"{node.get_fully_qualified_name()}/describe_parameters", request).descriptors
    for description, (name, (_, row)) in zip(told, rows().items(), strict=True):
        assert description.name == name and description.description == row.description
        assert description.read_only == (not row.run_time)
        assert all(choice in description.additional_constraints for choice in row.choices)
    by_name = {description.name: description for description in told}
    assert by_name["score_threshold"].floating_point_range[0].to_value == 1.0
    assert by_name["max_persons"].integer_range[0].to_value == 300
    assert "both at least 32" in by_name["input_size"].additional_constraints


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("score_threshold", 0.85), ("max_persons", 1), ("keypoint_threshold", 0.0), ("max_rate", 12.5),
        ("max_rate", 12), ("max_age", 3.0), ("max_gap", 0.5), ("publish_markers", False), ("publish_annotated", False),
        ("marker_distance", 5.0), ("marker_scale", 0.1), ("marker_lifetime", 2),
    ],
)  # fmt: skip
def test_a_change_at_run_time_is_taken(name: str, value: Any, peer: Peer, make_node: MakeNode) -> None:
    node, _ = make_node()
    result = peer.set_parameter(node.get_fully_qualified_name(), name, value)
    assert result.successful, result.reason
    assert getattr(node.settings, name) == value
    assert type(getattr(node.settings, name)) is type(getattr(Settings(), name))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "score_threshold"),
        ("score_threshold", -0.1, "score_threshold"),
        ("score_threshold", float("nan"), "score_threshold"),
        ("score_threshold", "high", "Wrong parameter type"),
        ("max_persons", 0, "max_persons"),
        ("max_persons", 2.5, "Wrong parameter type"),
        ("max_rate", 1e6, "max_rate"),
        ("publish_markers", 1, "Wrong parameter type"),
        ("model", "detrpose_x", "read-only"),
        ("device", "cuda", "read-only"),
        ("reliability", "reliable", "read-only"),
        ("input_size", [64, 64], "read-only"),
    ],
)
def test_a_bad_change_is_refused_with_the_reason(
    name: str, value: Any, reason: str, peer: Peer, make_node: MakeNode
) -> None:
    node, _ = make_node()
    before = node.settings
    result = peer.set_parameter(node.get_fully_qualified_name(), name, value)
    assert not result.successful
    assert reason in result.reason
    assert node.settings == before


def test_thresholds_hold_from_the_next_result_on(camera: Any, robot: Any, peer: Peer) -> None:
    """In another process, through the whole model."""
    poses = peer.subscribe(Poses, "/robot1/poses")
    wait_for(lambda: poses and len(poses[-1].persons) > 2, "a result with several people")
    assert peer.set_parameter("/robot1/pose_node", "max_persons", 1).successful
    wait_for(lambda: len(poses[-1].persons) == 1, "one person")
    assert peer.set_parameter("/robot1/pose_node", "score_threshold", 1.0).successful
    wait_for(lambda: not poses[-1].persons, "nobody")
    assert not peer.set_parameter("/robot1/pose_node", "score_threshold", 1.1).successful
    assert peer.set_parameter("/robot1/pose_node", "score_threshold", 0.0).successful
    assert peer.set_parameter("/robot1/pose_node", "max_persons", 20).successful
    wait_for(lambda: len(poses[-1].persons) > 2, "several people again")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", [31, 32]), ("input_size", [32]), ("input_size", [0, 32]), ("input_size", [32, 8193]),
        ("image_transport", "theora"), ("engine", "tensorflow"), ("precision", "int4"), ("max_persons", 301),
    ],
)  # fmt: skip
def test_a_bad_start_value_is_refused(name: str, value: Any, make_node: MakeNode) -> None:
    with pytest.raises(ParameterException, match=f"{name} (must be|out of range)"):
        make_node(**{name: value})


def test_a_misspelt_parameter_is_told(peer: Peer, make_node: MakeNode) -> None:
    """Other names may be those of another node in the same file."""
    node, _ = make_node(score_treshold=0.5, exposure=3)
    log = peer.log(node.get_fully_qualified_name())
    wait_for(lambda: any(line.startswith("waiting for images") for line in log()), "the whole beginning")
    told = [line for line in log() if "no parameter" in line]
    assert told == ["there is no parameter score_treshold, so its value does nothing; is score_threshold meant?"]
