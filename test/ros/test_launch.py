"""The launch file, with stand-ins for launch and launch_ros, which the package index does not have.

The stand-ins take what the originals take, from Humble to Kilted, and nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEFAULTS = {
    "params_file": str(ROOT / "config" / "pose.yaml"), "namespace": "", "image": "image", "camera_info": "camera_info",
    "depth": "", "model": "", "weights": "", "device": "", "rviz": "false", "frame": "camera_optical_frame",
    "video": "", "log_level": "info", "use_sim_time": "",
}  # fmt: skip


class LaunchDescription:
    def __init__(self, initial_entities: list[Any] | None = None) -> None:
        self.entities = initial_entities or []


class DeclareLaunchArgument:
    def __init__(self, name: str, *, default_value: str | None = None, description: str | None = None) -> None:
        assert isinstance(default_value, str) and description
        self.name, self.default = name, default_value


class OpaqueFunction:
    def __init__(self, *, function: Callable[..., Any], args: Any = None, kwargs: Any = None) -> None:
        self.function = function


class LaunchConfiguration:
    def __init__(self, variable_name: str, *, default: Any = None) -> None:
        self.name = variable_name

    def perform(self, context: Any) -> str:
        value: str = context.launch_configurations[self.name]
        return value


@dataclass
class ParameterValue:
    value: str
    value_type: Any = field(default=None, kw_only=True)


@dataclass(kw_only=True)
class Node:
    executable: str
    package: str | None = None
    name: str | None = None
    namespace: str | None = None
    parameters: list[Any] | None = None
    remappings: list[tuple[str, str]] | None = None
    ros_arguments: list[str] | None = None
    arguments: list[str] | None = None
    output: str | None = None
    emulate_tty: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that are set by hand, as the node would see them: text is read as YAML unless it must not."""
        assert self.parameters is not None
        seen: dict[str, Any] = {}
        for given in self.parameters:
            assert given, "launch_ros refuses empty names of files, and empty dicts serve nobody"
            for name, value in given.items() if isinstance(given, dict) else ():
                if isinstance(value, ParameterValue):
                    value = value.value if value.value_type is str else yaml.safe_load(value.value)
                seen[name] = value
        return seen


@dataclass(kw_only=True)
class OnProcessExit:
    on_exit: Callable[[Any, Any], Any]
    target_action: Node


@dataclass(kw_only=True)
class EmitEvent:
    event: Any


@dataclass(kw_only=True)
class Shutdown:
    reason: str


@dataclass
class RegisterEventHandler:
    event_handler: OnProcessExit


def ends_all(handler: OnProcessExit, returncode: int) -> bool:
    """Whether everything ends when the handler's node ends with that code."""
    done = handler.on_exit(SimpleNamespace(returncode=returncode), None)
    assert done is None or isinstance(done.event, Shutdown)
    return done is not None


MODULES: dict[str, dict[str, Any]] = {
    "launch": {"LaunchContext": Any, "LaunchDescription": LaunchDescription, "LaunchDescriptionEntity": Any},
    "launch.actions": {
        "DeclareLaunchArgument": DeclareLaunchArgument, "OpaqueFunction": OpaqueFunction, "EmitEvent": EmitEvent,
        "RegisterEventHandler": RegisterEventHandler,
    },
    "launch.event_handlers": {"OnProcessExit": OnProcessExit},
    "launch.events": {"Shutdown": Shutdown},
    "launch.events.process": {"ProcessExited": Any},
    "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
    "launch_ros": {},
    "launch_ros.actions": {"Node": Node},
    "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
}  # fmt: skip


@pytest.fixture
def description(monkeypatch: pytest.MonkeyPatch) -> LaunchDescription:
    """What the launch file gives to `ros2 launch`."""
    for name, content in MODULES.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda package: str(ROOT))
    spec = importlib.util.spec_from_file_location("pose_launch", ROOT / "launch" / "pose.launch.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    described: LaunchDescription = loaded.generate_launch_description()
    return described


@pytest.fixture
def launch(description: LaunchDescription) -> Callable[..., dict[str, Node]]:
    """Launches with arguments, and returns the nodes that start by the names of their executables."""

    def launch(**arguments: str) -> dict[str, Node]:
        (function,) = (entity for entity in description.entities if isinstance(entity, OpaqueFunction))
        context = SimpleNamespace(launch_configurations={**DEFAULTS, **arguments})
        started = function.function(context)
        nodes = {node.executable: node for node in started if isinstance(node, Node)}
        handlers = [entity.event_handler for entity in started if isinstance(entity, RegisterEventHandler)]
        ends = {handler.target_action.executable: [ends_all(handler, code) for code in (0, 1)] for handler in handlers}
        expected = {"camera_node": [False, True], "pose_node": [True, True]}
        if len(nodes) == 1:  # it may be part of a larger launch, which goes on without it
            expected = {}
        assert ends == {name: expected[name] for name in nodes if name in expected}
        return nodes

    return launch


def test_all_arguments_are_declared(description: LaunchDescription) -> None:
    declared = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert {argument.name: argument.default for argument in declared} == DEFAULTS
    assert description.entities[: len(declared)] == declared, "they come before what uses them"


def test_without_arguments_the_file_decides(launch: Callable[..., dict[str, Node]]) -> None:
    nodes = launch()
    assert nodes.keys() == {"pose_node"}
    pose = nodes["pose_node"]
    assert pose.parameters == [DEFAULTS["params_file"]] and Path(pose.parameters[0]).is_file()
    assert (pose.package, pose.name, pose.namespace) == ("pave_ros", "pose_node", "")
    assert pose.remappings == [("image", "image"), ("camera_info", "camera_info")]
    assert pose.ros_arguments == ["--log-level", "info"]
    assert pose.output == "screen"


def test_every_argument_reaches_its_node(launch: Callable[..., dict[str, Node]], tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    with pytest.raises(FileNotFoundError, match=r"params_file: there is no .*mine\.yaml"):
        launch(params_file=str(mine))
    mine.touch()
    nodes = launch(
        params_file=str(mine), namespace="robot1", image="/front/image_raw", camera_info="/front/camera_info",
        model="detrpose_s", weights="7", device="cuda:1", rviz="True", video="0", log_level="debug",
        use_sim_time="true",
    )  # fmt: skip
    assert nodes.keys() == {"pose_node", "camera_node", "rviz2"}
    for node in nodes.values():
        assert node.namespace == "robot1"
        assert node.remappings == [("image", "/front/image_raw"), ("camera_info", "/front/camera_info")]
        assert node.ros_arguments == ["--log-level", "debug"]
        assert node.values["use_sim_time"] is True
    pose, camera, rviz = nodes["pose_node"], nodes["camera_node"], nodes["rviz2"]
    assert pose.parameters is not None and pose.parameters[0] == str(mine), "what is given by hand comes after it"
    assert pose.values == {"model": "detrpose_s", "weights": "7", "device": "cuda:1", "use_sim_time": True}
    assert camera.values["source"] == "0", "the first webcam, and not the number"
    assert (camera.package, camera.name) == ("pave_ros", "camera")
    shown = ["-d", str(ROOT / "rviz" / "pose.rviz"), "-f", "camera_optical_frame"]
    assert (rviz.package, rviz.arguments) == ("rviz2", shown)


@pytest.mark.parametrize(("given", "value"), [("true", True), ("True", True), ("1", True), ("false", False)])
def test_simulated_time(given: str, value: bool, launch: Callable[..., dict[str, Node]]) -> None:
    assert launch(use_sim_time=given)["pose_node"].values == {"use_sim_time": value}


def test_whatever_is_left_empty_says_nothing(launch: Callable[..., dict[str, Node]]) -> None:
    """A larger launch hands on arguments that nobody gave."""
    pose = launch(params_file="", log_level="")["pose_node"]
    assert not pose.parameters and not pose.ros_arguments


def test_a_video_is_the_camera(launch: Callable[..., dict[str, Node]]) -> None:
    nodes = launch(video="/clips/street.mp4")
    assert nodes.keys() == {"pose_node", "camera_node"}
    assert nodes["camera_node"].values == {
        "source": "/clips/street.mp4", "image_transport": "both", "frame_id": "camera_optical_frame",
    }  # fmt: skip
    assert nodes["pose_node"].values == {}


def test_depth_is_used_where_it_has_a_topic(launch: Callable[..., dict[str, Node]]) -> None:
    nodes = launch(depth="/front/aligned_depth", video="synthetic")
    assert nodes["pose_node"].values == {"use_depth": True}
    for node in nodes.values():
        assert node.remappings is not None and ("depth", "/front/aligned_depth") in node.remappings


def test_the_frame_is_the_camera_s_and_rviz_s(launch: Callable[..., dict[str, Node]]) -> None:
    nodes = launch(video="synthetic", rviz="true", frame="front")
    assert nodes["camera_node"].values["frame_id"] == "front"
    assert nodes["rviz2"].arguments[-2:] == ["-f", "front"]


def test_rviz(launch: Callable[..., dict[str, Node]]) -> None:
    nodes = launch(rviz="true")
    assert nodes.keys() == {"pose_node", "rviz2"} and nodes["rviz2"].values == {}
