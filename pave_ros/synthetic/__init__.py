"""A procedural scene of walking, waving, sitting people with exact ground truth: camera, test data, training set.

`Scene(seed=3).frame(0)` gives a picture, the people in it as `Persons`, and what of them can be seen. Needs numpy and
OpenCV only.
"""

from pave_ros.synthetic.scene import Scene, SyntheticFrame

__all__ = ["Scene", "SyntheticFrame"]
