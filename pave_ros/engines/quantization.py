"""Eight-bit networks: the backbone of an exported file in int8, set up on pictures (with NNCF)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from pave_ros.engines.base import EngineError
from pave_ros.engines.exported import BACKBONE, DECODE, files_of, read_label
from pave_ros.files import complete

# Convolutions at the beginning, which stay in float32: they read the picture itself, whose finest steps 8 bits lose.
PRECISE = 3


def library() -> Any:
    """NNCF; EngineError where it is not installed."""
    try:
        import nncf
    except ImportError:
        raise EngineError("int8 needs NNCF (pip install nncf)") from None
    return nncf


def _fed(picture: npt.NDArray[np.float32], batch: int) -> dict[str, npt.NDArray[np.float32]]:
    """A picture as the input of a network that takes so many."""
    return {"images": np.repeat(picture, batch, 0)}


def quantize(path: Path, pictures: Iterable[npt.NDArray[np.float32]]) -> None:
    """Change an exported model into one of 8 bits.

    Only the convolutions and linear layers of the backbone are quantized. Decoders compute with coordinates,
    for which 8 bits are far too coarse, and hybrid encoders with attention and sums of maps of different ranges: in 8
    bits they cost an earlier embedded model three points of AP, where its backbone cost none.

    Args:
        path: of the file in fp32, of a video model that for encoding.
        pictures: network inputs (1, 3, H, W) like those that will come; ranges of values are taken from them.

    Raises:
        EngineError: NNCF is not installed, or there are no pictures, or nobody in them.
    """
    nncf = library()
    inputs, files = list(pictures), files_of(path)
    if not inputs:
        needed = "int8 needs pictures like those that will come, to take the ranges of values from"
        if read_label(next(iter(files.values()))).info.top_down:  # its inputs are crops of who was found in pictures
            needed += "; for a model of people's crops there have to be people in them, and nobody was found"
        raise EngineError(needed)
    nncf.set_log_level(logging.ERROR)
    for part, file in files.items():
        label = replace(read_label(file), precision="int8")
        model = onnx.load(file)
        if part != DECODE:
            batch = max(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 1)  # 0 where any will do
            backbone = [node for node in model.graph.node if node.name.startswith(f"{BACKBONE}/")]
            first = [node.name for node in backbone if node.op_type == "Conv"][:PRECISE]
            precise = {node.name for node in model.graph.node} - {node.name for node in backbone} | set(first)
            model = nncf.quantize(
                model,
                nncf.Dataset(inputs, partial(_fed, batch=batch)),
                subset_size=len(inputs),
                # Activations on either side of zero have a zero point, as the CPU likes them.
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=sorted(precise)),
                # Processors without VNNI add pairs of products in 16 bits, which whole 8 bits of weights overflow.
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )
        onnx.helper.set_model_props(model, label.properties())
        with complete(file) as unfinished:
            onnx.save(model, unfinished)
