"""Names for the arrays of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[np.floating[Any]]"  # text: numpy 1.21, that of Humble, cannot compute it
Image: TypeAlias = npt.NDArray[np.uint8]
Indices: TypeAlias = "npt.NDArray[np.integer[Any]]"
Mask: TypeAlias = npt.NDArray[np.bool_]
Vector: TypeAlias = "Sequence[float] | Array"
"""A point, a direction or a colour of three numbers."""
Rng: TypeAlias = np.random.Generator
