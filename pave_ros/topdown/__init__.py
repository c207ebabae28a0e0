"""Top-down models at work: people are found as boxes, each box is cut out, and a network looks at one person at a time.

`stages` is the whole of it; `finder` says where people are, `crops` cuts them out, `heatmaps` has their keypoints,
`likeness` tells who is whom; `styles` says how each system does that, `options` what a user may choose.
"""

from pave_ros.topdown.options import TopDownOptions, least_box
from pave_ros.topdown.stages import TopDown
from pave_ros.topdown.styles import is_top_down

__all__ = ["TopDown", "TopDownOptions", "is_top_down", "least_box"]
