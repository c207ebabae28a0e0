"""Write a network as an ONNX file that carries all that is needed to run it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from pave_ros import __version__
from pave_ros.models.base import PoseModel
from pave_ros.models.info import METADATA_KEY

OPSET = 18


class _Outputs(nn.Module):
    """The network with its outputs as a tuple, which is what ONNX knows."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(images).values())


@torch.no_grad()
def export_onnx(model: PoseModel, path: Path | str, input_size: tuple[int, int] | None = None) -> Path:
    """Write an image model as one ONNX file: input ``images`` (B, 3, H, W), B free; outputs by their own names.

    The file's metadata holds the `ModelInfo`, so running it needs neither torch nor this network's code.

    Args:
        model: the network; it is fused, hand over one of its own.
        path: file to write.
        input_size: (height, width) that the file is made for; None takes the model's own.
    """
    info = replace(model.info, input_size=input_size or model.info.input_size)
    info.check_input_size()
    wrapped = _Outputs(model.fuse()).eval()
    example = torch.zeros(2, 3, *info.input_size)
    names = list(model(example))
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    program = torch.onnx.export(
        wrapped,
        (example,),
        input_names=["images"],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # It is None only where torch writes the file itself.
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {METADATA_KEY: info.to_json(), "pave_ros_version": __version__})
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    onnx.save(proto, partial)
    partial.replace(path)
    return path
