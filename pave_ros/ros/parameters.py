"""The parameters of the pose node: one row each, with what ROS declares and what validation refuses.

`Settings` is the table and the typed access to it in one: a field is a row.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pave_ros import models
from pave_ros.engines import choice as engines
from pave_ros.models.info import LARGEST_SIDE
from pave_ros.smoothing import SMOOTHINGS
from pave_ros.topdown.heatmaps import DECODINGS


@dataclass(frozen=True)
class Row:
    """What a parameter is besides its name and default.

    Attributes:
        description: one sentence for `ros2 param describe`, with the unit.
        low, high: range of a number, or of every number of a list.
        choices: the words that are allowed.
        run_time: whether it may be changed while the node runs.
        check: returns what is wrong with a value in the right range, or nothing.
        rule: what that asks for.
    """

    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    run_time: bool = False
    check: Callable[[Any], str] = lambda value: ""
    rule: str = ""


def _row(default: Any, description: str, **facts: Any) -> Any:
    row = Row(description, **facts)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"row": row})
    return field(default=default, metadata={"row": row})


_INPUT_SIZE = "[height, width], both at least 32, or [0, 0] for the model's own size"


def _check_input_size(size: Sequence[int]) -> str:
    return f"must be {_INPUT_SIZE}" if len(size) != 2 or (any(size) and min(size) < 32) else ""


def _check_cameras(names: Sequence[str]) -> str:
    if len(set(names)) < len(names):
        return "must be different from each other"
    if list(names) != [""] and not (names and all(re.fullmatch(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", name) for name in names)):
        return "must be names as topics have them (letters, digits, underscores), or one empty one"
    return ""


@dataclass(frozen=True)
class Settings:
    """The values of all parameters of the pose node."""

    autostart: bool = _row(True, "Configure and activate at the start; false waits for lifecycle transitions.")
    model: str = _row(models.DEFAULT, "embedded (comes with the package), or a model that `pave_ros models` lists.")
    weights: str = _row(
        "auto", "auto (of the package, or the published file), the name or path of a file, or random (untrained)."
    )
    device: str = _row("auto", "auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N.")
    engine: str = _row(
        "auto", "What runs the model; auto takes the best that is installed.", choices=("auto", *engines.NAMES)
    )
    precision: str = _row(
        "auto",
        "Arithmetic of the model: full, autocast to 16 bits, all in half precision, or 8 bits where a file has them.",
        choices=("auto", "fp32", "fp16", "bf16", "half", "int8"),
    )
    input_size: list[int] = _row(
        [0, 0],
        "Height and width, or their bounds, that images are resized to for the model; [0, 0]: the model's own.",
        low=0,
        high=LARGEST_SIDE,
        check=_check_input_size,
        rule=_INPUT_SIZE,
    )
    cameras: list[str] = _row(
        [""],
        "Names of the cameras that one model looks at; their topics begin with them: front/image, front/poses. "
        '[""]: one camera, image and poses.',
        check=_check_cameras,
    )
    camera: str = _row("", "Name of the camera in the results; empty: the frame_id of its images.")
    image_transport: str = _row(
        "raw", "raw subscribes to `image`, compressed to `image/compressed`.", choices=("raw", "compressed")
    )
    reliability: str = _row(
        "auto",
        "Reliability of the image subscription; auto takes what the publisher offers.",
        choices=("auto", "reliable", "best_effort"),
    )
    lookahead: int = _row(
        0, "Images that a video model waits for behind the one it answers for; 0 answers at once, without the future.",
        low=0, high=8,
    )  # fmt: skip
    tracking: bool = _row(True, "Give people track ids that stay the same over time.")
    smoothing: str = _row(
        "auto",
        "Of keypoints over time, the mean of a few images where nothing moves; auto: the embedded model's only.",
        choices=SMOOTHINGS,
    )

    use_depth: bool = _row(
        False, "Subscribe to `depth`, images registered to `image`, and tell where keypoints are in metres."
    )
    depth_transport: str = _row(
        "raw",
        "raw subscribes to `depth`, compressedDepth to `depth/compressedDepth`.",
        choices=("raw", "compressedDepth"),
    )
    depth_slop: float = _row(
        0.05,
        "Seconds by which the stamps of an image and of its depth may differ, and that a result waits for it at most.",
        low=0.0, high=10.0,
    )  # fmt: skip

    detector: str = _row(
        "auto",
        "What finds people for a top-down model: auto, torchvision's, an .onnx file, a pose model, or given (`boxes`).",
    )
    detector_weights: str = _row("auto", "Of the detector: auto (the published file), a path, or random (untrained).")
    box_threshold: float = _row(
        0.2, "Boxes below this confidence are not looked at by a top-down model.", low=0.0, high=1.0
    )
    boxes_slop: float = _row(
        0.0,
        "Seconds by which the stamps of `boxes` and of their image may differ, at most half of what lies between two "
        "images; 0 wants equal ones.",
        low=0.0, high=10.0,
    )  # fmt: skip
    decoding: str = _row(
        "auto", "How a top-down model's heatmaps are read; auto as published.", choices=("auto", *DECODINGS)
    )
    flip_test: bool = _row(False, "A top-down model looks at every crop mirrored too: better, and twice as slow.")
    reuse_features: bool = _row(
        True, "A top-down video model encodes every crop once; false cuts the newest box out of all images anew."
    )
    detect_every: int = _row(
        0, "Images from one in which the embedded model looks for people to the next; between, they are where they "
        "were. 0: its own choice, 2.",
        low=0, high=100,
    )  # fmt: skip
    closer_look: bool = _row(
        True, "The embedded model looks for small people too, in a larger picture; false finds large ones only, faster."
    )

    max_rate: float = _row(
        0.0, "Most results per second, so that others get some of the processor; 0: no limit.",
        low=0.0, high=1000.0, run_time=True,
    )  # fmt: skip
    max_age: float = _row(
        0.0, "Seconds; an image older than this, by its stamp or since it arrived, is passed over; 0: no limit.",
        low=0.0, high=3600.0, run_time=True,
    )  # fmt: skip
    max_gap: float = _row(
        1.0, "Seconds; a longer pause between two image stamps starts history and tracks afresh; 0: no limit.",
        low=0.0, high=3600.0, run_time=True,
    )  # fmt: skip
    score_threshold: float = _row(0.3, "People below this confidence are left out.", low=0.0, high=1.0, run_time=True)
    max_persons: int = _row(20, "Most people per image, the best ones.", low=1, high=300, run_time=True)
    keypoint_threshold: float = _row(
        0.3, "Keypoints below this confidence are not drawn; messages always hold all.",
        low=0.0, high=1.0, run_time=True,
    )  # fmt: skip
    publish_markers: bool = _row(True, "Publish `markers` while somebody subscribes.", run_time=True)
    publish_annotated: bool = _row(True, "Publish `image_annotated` while somebody subscribes.", run_time=True)
    marker_distance: float = _row(
        3.0, "Metres in front of the camera at which people without depth are shown.",
        low=0.1, high=100.0, run_time=True,
    )  # fmt: skip
    marker_scale: float = _row(
        0.06, "Metres; diameter of a joint, limbs are half as thick.", low=0.001, high=1.0, run_time=True
    )
    marker_lifetime: float = _row(
        2.0, "Seconds after which markers vanish when nothing new comes; 0: never.",
        low=0.0, high=60.0, run_time=True,
    )  # fmt: skip

    def changed(self, names: Iterable[str]) -> list[str]:
        """Those of the parameters that do not have their default."""
        return [name for name in names if getattr(self, name) != getattr(_DEFAULTS, name)]


_FIELDS = {item.name: item for item in fields(Settings)}
_DEFAULTS = Settings()


def rows() -> dict[str, tuple[Any, Row]]:
    """Default and row of every parameter, by name."""
    return {name: (getattr(_DEFAULTS, name), item.metadata["row"]) for name, item in _FIELDS.items()}


def descriptor(default: Any, row: Row) -> ParameterDescriptor:
    """What ROS is told about a parameter."""
    told = ParameterDescriptor(description=row.description, read_only=not row.run_time)
    if row.choices:
        told.additional_constraints = f"one of {', '.join(row.choices)}"
    if row.low is not None and row.high is not None:
        if isinstance(default, float):
            told.floating_point_range = [FloatingPointRange(from_value=row.low, to_value=row.high, step=0.0)]
        elif isinstance(default, int):
            told.integer_range = [IntegerRange(from_value=int(row.low), to_value=int(row.high), step=1)]
        else:  # ROS has no ranges for lists.
            told.additional_constraints = f"each from {row.low:g} to {row.high:g}; {row.rule}"
    return told


def problem(name: str, value: Any) -> str:
    """What is wrong with the value of a parameter, for the person who set it; empty when nothing is."""
    row: Row = _FIELDS[name].metadata["row"]
    default = getattr(_DEFAULTS, name)
    if not _fits(value, default):
        kind = "a list of texts" if default == [""] else _KINDS[type(default)]
        return f"{name} must be {kind}, not {value!r}"
    if row.choices and value not in row.choices:
        return f"{name} must be one of {', '.join(row.choices)}, not {value!r}"
    if row.low is not None and row.high is not None:
        numbers = value if isinstance(value, list) else [value]
        if any(math.isnan(number) or not row.low <= number <= row.high for number in numbers):
            return f"{name} must be between {row.low} and {row.high}, not {value}"
    wrong = row.check(value)
    return f"{name} {wrong}, not {value}" if wrong else ""


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list of whole numbers"}


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of the default, or is an int that `declare` makes a float or text of."""
    if isinstance(default, list):
        return isinstance(value, list) and all(type(item) is type(default[0]) for item in value)
    return type(value) is type(default) or (type(value) is int and isinstance(default, float | str))


class Parameters:
    """Declares the parameters on a node and keeps their values, checked, in `settings`."""

    def __init__(self, node: Node) -> None:
        self.settings = Settings()
        if hasattr(node, "add_pre_set_parameters_callback"):  # Iron and later
            node.add_pre_set_parameters_callback(_whole_numbers_to_floats)
        node.add_on_set_parameters_callback(self._on_set)
        for name, (default, row) in rows().items():
            declare(node, name, default, descriptor(default, row))
        warn_of_misspellings(node, _FIELDS)

    def _on_set(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        ours = {parameter.name: _plain(parameter.value) for parameter in parameters if parameter.name in _FIELDS}
        for name, value in ours.items():
            if reason := problem(name, value):
                return SetParametersResult(successful=False, reason=reason)
        settings = replace(self.settings, **ours)
        if settings.camera and settings.cameras != [""]:
            return SetParametersResult(successful=False, reason="camera names the only one; give it or cameras")
        self.settings = settings
        return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, array | tuple) else value


def declare(node: Node, name: str, default: Any, told: ParameterDescriptor) -> Any:
    """Declare a parameter and return its value. YAML's 10 is taken for 10.0 where a number is meant, and for "10"
    where text is: a webcam's name may be 0."""
    try:
        return node.declare_parameter(name, default, told).value
    except InvalidParameterTypeException:
        given = node.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
        node.undeclare_parameter(name)
        if type(given) is not int or not isinstance(default, float | str):
            raise
        return node.declare_parameter(name, type(default)(given), told, ignore_override=True).value


def warn_of_misspellings(node: Node, names: Iterable[str]) -> None:
    """Tell of values that no parameter took and whose name is nearly one of `names`. Others may be another node's: the
    parameters of several nodes may lie in one file, under `/**`."""
    known = list(names)
    for given in node._parameter_overrides:  # rclpy tells only of those that were declared
        if given not in known and (meant := get_close_matches(given, known, n=1, cutoff=0.85)):
            node.get_logger().warning(f"there is no parameter {given}, so its value does nothing; is {meant[0]} meant?")


def _whole_numbers_to_floats(parameters: list[Parameter[Any]]) -> list[Parameter[Any]]:
    return [
        Parameter(parameter.name, value=float(parameter.value))
        if isinstance(getattr(_DEFAULTS, parameter.name, None), float) and parameter.type_ == Parameter.Type.INTEGER
        else parameter
        for parameter in parameters
    ]
