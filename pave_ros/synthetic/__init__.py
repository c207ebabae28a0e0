"""A procedural scene of walking, waving, sitting people with exact ground truth: camera, test data, training set.

`Scene(seed=3).frame(0)` gives a picture, the people in it as `Persons`, and what of them can be seen. Frames may be
asked for in any order. As a film, take frames 0, 1, 2, ...; as training pictures, take many seeds and a few frames far
apart of each, since every seed is another place with another camera, light and people. Needs numpy and OpenCV only.
"""

from pave_ros.synthetic.scene import Scene, SyntheticFrame, check_options

__all__ = ["Scene", "SyntheticFrame", "check_options"]
