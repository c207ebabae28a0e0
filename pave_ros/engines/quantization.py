"""Eight-bit networks: convolutions and linear layers of an exported file in int8, set up on pictures (with NNCF)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from pave_ros.engines.base import EngineError
from pave_ros.engines.export import complete
from pave_ros.engines.exported import DECODE, read_label


def quantize(path: Path, pictures: Iterable[npt.NDArray[np.float32]]) -> None:
    """Change an exported ONNX file into one of 8 bits.

    The decoder stays as it is: it computes with coordinates, for which 8 bits are far too coarse.

    Args:
        path: of an image model, in fp32.
        pictures: network inputs (1, 3, H, W) like those that will come; ranges of values are taken from them.

    Raises:
        EngineError: NNCF is not installed, or there are no pictures.
    """
    try:
        import nncf
    except ImportError:
        raise EngineError("int8 needs NNCF (pip install nncf)") from None
    inputs = list(pictures)
    if not inputs:
        raise EngineError("int8 needs pictures like those that will come, to take the ranges of values from")
    nncf.set_log_level(logging.ERROR)
    label = read_label(path)
    model = nncf.quantize(
        onnx.load(path),
        nncf.Dataset(inputs, lambda picture: {"images": picture}),
        subset_size=len(inputs),
        # Activations on either side of zero have a zero point, as the CPU likes them.
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(patterns=[f"{DECODE}/.*"], validate=False),
    )
    onnx.helper.set_model_props(model, replace(label, precision="int8").properties())
    with complete(path) as partial:
        onnx.save(model, partial)
