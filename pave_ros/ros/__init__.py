"""The ROS 2 side: the node, the camera, the demo, and what turns messages into arrays and back.

The only room that imports rclpy.
"""

import os
import signal

from pave_ros.interruptions import interruptions


def end_quietly() -> None:
    """Let interruptions end the process with code 0 until its node hears them, for the imports take a while."""
    for each in interruptions():
        signal.signal(each, lambda number, frame: os._exit(0))
