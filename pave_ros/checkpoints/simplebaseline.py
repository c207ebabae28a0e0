"""Layout of the simple baseline's weights: the project trains them itself, so the names are ours."""

from __future__ import annotations

from pave_ros.checkpoints.layout import Layout

LAYOUT = Layout(prefixes=(), keypoints="joint_head.3.bias")
