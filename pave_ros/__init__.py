"""pave_ros: multi-person pose estimation in video, as a ROS 2 package and as a plain Python library.

The package directory is shared by two installations: the hand-written code, and the message code that
rosidl generates into ``pave_ros.msg``. Extending ``__path__`` lets Python find both wherever they lie.
Nothing is imported here, so ``import pave_ros`` stays cheap; the public names load on first use.
"""

from __future__ import annotations

import os
from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
__all__ = ["Estimator", "Persons", "Skeleton", "__version__"]

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator
    from pave_ros.persons import Persons
    from pave_ros.skeletons import Skeleton

# Files of a few hundred bytes may say that they hold gigabytes of pixels; 134 million are enough for any camera. OpenCV
# reads it when it is loaded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

_HOMES = {"Estimator": "pave_ros.estimator", "Persons": "pave_ros.persons", "Skeleton": "pave_ros.skeletons"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pave_ros' has no attribute {name!r}")
