"""The pose node, with a camera and RViz if wanted.

    ros2 launch pave_ros pose.launch.py image:=/camera/image_raw camera_info:=/camera/camera_info
    ros2 launch pave_ros pose.launch.py video:=street.mp4 weights:=random rviz:=true

Arguments left empty leave the parameter file's values alone. `ros2 launch pave_ros pose.launch.py -s` lists them.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("pave_ros"))

# Name, default and description.
ARGUMENTS = (
    ("params_file", str(SHARE / "config" / "pose.yaml"), "Parameters of the node"),
    ("namespace", "", "Namespace of all nodes and topics"),
    ("image", "image", "Topic of the images; with image_transport compressed, /compressed is added"),
    ("camera_info", "camera_info", "Topic of the camera's intrinsics"),
    ("depth", "", "Topic of depth images registered to `image`, for keypoints in metres; empty: pixels only"),
    ("model", "", "Name of the model, e.g. embedded or detrpose_n"),
    ("weights", "", "auto, a file, the name of a known file, or random"),
    ("device", "", "auto, cpu, cuda or cuda:N"),
    ("rviz", "false", "Whether to start RViz"),
    ("frame", "camera_optical_frame", "frame_id of the images, which RViz looks from and `video` is given"),
    ("video", "", "Play this file, recording (bag), webcam (/dev/video0) or `synthetic` as the camera"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("use_sim_time", "", "true: take the time from /clock, for bags and simulations"),
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` calls."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes to start, with the arguments as they were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if given["params_file"] and not Path(given["params_file"]).is_file():
        raise FileNotFoundError(f"params_file: there is no {given['params_file']}")
    topics = [(name, given[name]) for name in ("image", "camera_info", "depth") if given[name]]
    common = {
        "namespace": given["namespace"],
        "output": "screen",
        "emulate_tty": True,
        "ros_arguments": ["--log-level", given["log_level"]] if given["log_level"] else [],
    }
    clock = [{"use_sim_time": is_true(given["use_sim_time"])}] if given["use_sim_time"] else []
    chosen = [{name: text(given[name])} for name in ("model", "weights", "device") if given[name]]
    if given["depth"]:
        chosen.append({"use_depth": True})
    pose = Node(
        package="pave_ros",
        executable="pose_node",
        name="pose_node",
        remappings=topics,
        parameters=[*filter(None, [given["params_file"]]), *chosen, *clock],
        **common,
    )
    started: list[LaunchDescriptionEntity] = [pose]
    if given["video"]:
        camera = Node(
            package="pave_ros",
            executable="camera_node",
            name="camera",
            remappings=topics,
            # Whichever of the two the node subscribes to, which only its parameter file knows.
            parameters=[
                {"source": text(given["video"]), "image_transport": "both", "frame_id": text(given["frame"])},
                *clock,
            ],
            **common,
        )
        started += [camera, end_with(camera, "the camera has failed", failed_only=True)]
    if is_true(given["rviz"]):
        started.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                remappings=topics,
                arguments=["-d", str(SHARE / "rviz" / "pose.rviz"), "-f", given["frame"]],
                parameters=clock,
                **common,
            )
        )
    if len(started) > 1:
        # Without the pose node, camera and RViz have no use. Alone it may be part of a larger launch, which is not to
        # end with it.
        started.append(end_with(pose, "the pose node has ended"))
    return started


def end_with(node: Node, reason: str, failed_only: bool = False) -> RegisterEventHandler:
    """End everything when this node ends, whose own log says why; or only when it ends with an error."""

    def on_exit(event: ProcessExited, context: LaunchContext) -> LaunchDescriptionEntity | None:
        return EmitEvent(event=Shutdown(reason=reason)) if event.returncode or not failed_only else None

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit))


def text(value: str) -> ParameterValue:
    """A parameter that stays text, also where it looks like a number: video:=0 is the first webcam."""
    return ParameterValue(value, value_type=str)


def is_true(text: str) -> bool:
    """What ROS users write for true."""
    return text.lower() in ("true", "1", "yes", "on")
