"""The ROS 2 side: the node, the camera, the demo, and what turns messages into arrays and back.

The only room that imports rclpy.
"""

import os
import signal


def end_quietly() -> None:
    """Let SIGINT and SIGTERM end the process with code 0 until its node hears them, for the imports take a while."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, frame: os._exit(0))
