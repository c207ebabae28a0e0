"""Published layout of QueryPose (buptxyb666/QueryPose), which is that of detectron2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pave_ros.checkpoints.layout import Layout, State, rows_of
from pave_ros.models.base import PoseModel
from pave_ros.models.pyramid import FPN
from pave_ros.models.querypose import QueryPose
from pave_ros.models.swin import Swin

_BACKBONE = "backbone.bottom_up."
_BOX, _POSE = "head.head_series.*.", "head.pose_head_series.*."
_INTERACT = ("dynamic_layer", "norm1", "norm2", "out_layer", "norm3")  # Published parts of a dynamic convolution,
_DYNAMIC = ("weights", "norm1", "norm2", "output", "norm3")  # and ours.


def _resnet() -> list[tuple[str, str]]:
    """detectron2's names of a ResNet, and torchvision's."""
    rows = [("stem.conv1.norm.", "bn1."), ("stem.conv1.", "conv1.")]
    for stage in range(4):
        theirs, ours = f"res{stage + 2}.*.", f"layer{stage + 1}.*."
        rows += [(f"{theirs}shortcut.norm.", f"{ours}downsample.1."), (f"{theirs}shortcut.", f"{ours}downsample.0.")]
        for conv in "123":
            rows += [(f"{theirs}conv{conv}.norm.", f"{ours}bn{conv}."), (f"{theirs}conv{conv}.", f"{ours}conv{conv}.")]
    return [(_BACKBONE + theirs, "backbone." + ours) for theirs, ours in rows]


def _swin() -> list[tuple[str, str]]:
    """The authors of Swin count the reduction to the stage before it, and the norms after the stages are part of it."""
    rows = [(f"{_BACKBONE}layers.{i}.downsample.", f"backbone.layers.{i + 1}.downsample.") for i in range(3)]
    return rows + [(f"{_BACKBONE}norm{i}.", f"norms.{i}.") for i in range(4)]


def _fpn() -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for level in range(4):
        theirs = (f"fpn_lateral{level + 2}.", f"fpn_output{level + 2}.")
        rows += zip(theirs, (f"inner_blocks.{level}.0.", f"layer_blocks.{level}.0."), strict=True)
    return [("backbone." + theirs, "pyramid." + ours) for theirs, ours in rows]


def _head() -> list[tuple[str, str]]:
    box = [
        *((f"inst_interact.{a}.", f"interaction.dynamic.{b}.") for a, b in zip(_INTERACT, _DYNAMIC, strict=True)),
        ("self_attn.", "attention."),
        ("norm1.", "norm."),
        ("norm2.", "interaction.norm1."),
        ("norm3.", "interaction.norm2."),
        ("linear1.", "interaction.linear1."),
        ("linear2.", "interaction.linear2."),
        ("cls_module.", "class_layers."),
        ("class_logits.", "class_head."),
        ("reg_module.", "box_layers."),
        ("bboxes_delta.", "box_head."),
    ]
    dynamic = "pose_decoder_inst_interact"
    pose = [
        *((f"{dynamic}.{a}.", f"interaction.dynamic.{b}.") for a, b in zip(_INTERACT, _DYNAMIC, strict=True)),
        ("inst_convs.", "convs."),
        ("inst_norm.", "interaction.norm1."),
        ("norm2.", "interaction.norm2."),
        ("linear1.", "interaction.linear1."),
        ("linear2.", "interaction.linear2."),
        ("part_embed_generator.upsample.", "embedding.enlarge."),
        ("part_embed_generator.LSA_conv.", "embedding.attention."),
        ("part_embed_generator.fc.", "embedding.project."),
        ("updater.fc1.", "update.reduce."),
        ("updater.norm_fc1.", "update.norm."),
        ("updater.fc2.", "update.gates."),
        ("updater.fc3.", "update.unused."),
        ("updater.norm_fc3.", "update.unused_norm."),
        ("kps_self_attn.", "layer.self_attn."),
        ("self_attn_norm.", "layer.norm1."),
        ("linear1_l.", "layer.linear1."),
        ("linear2_l.", "layer.linear2."),
        ("norm2_l.", "layer.norm2."),
        ("residual_filter.", "residuals."),
        ("fc_coord.*.linear.", "coordinates.*."),
        ("fc_sigma.*.linear.", "sigmas.*."),
    ]
    rows = [(_BOX + theirs, f"box_stages.*.{ours}") for theirs, ours in box]
    return rows + [(_POSE + theirs, f"pose_stages.*.{ours}") for theirs, ours in pose]


PREFIXES = (
    ("init_proposal_boxes.", "first_boxes."),
    ("init_proposal_features.", "first_queries."),
    ("part_query.", "part_queries."),
    ("criterion.flow.flow.", "flow."),
    *_head(),
    ("backbone.reduction_conv.0.", "pyramid.mix."),
    ("backbone.fpn_conv.", "pyramid.output."),
    ("backbone.lateral_conv.", "pyramid.lateral."),
    (_BACKBONE, "backbone."),
)


def own(model: PoseModel) -> tuple[tuple[str, str], ...]:
    """The names of backbone and pyramid: they come from several authors. Those of HRNet are in `PREFIXES`."""
    assert isinstance(model, QueryPose)
    fpn = _fpn() if isinstance(model.pyramid, FPN) else []
    if isinstance(model.backbone, Swin):
        return (*_swin(), *fpn)
    return (*_resnet(), *fpn) if model.backbone_name.startswith("resnet") else ()


def derived(model: PoseModel) -> State:
    """The tables of places within a window, which published Swin backbones store."""
    assert isinstance(model, QueryPose)
    if not isinstance(model.backbone, Swin):
        return {}
    return {
        f"{_BACKBONE}{name}": table
        for name, table in model.backbone.named_buffers()
        if name.endswith("relative_position_index")
    }


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether the model is light, and how many people it looks for."""
    light = not any(".pose_decoder_inst_interact." in key for key in state)
    queries = rows_of(state, "init_proposal_boxes.weight")
    return {"light": light, **({"queries": queries} if queries else {})}


LAYOUT = Layout(
    prefixes=PREFIXES,
    keypoints="head.pose_head_series.0.fc_coord.0.linear.weight",
    rows=(2, -24),  # x and y of each keypoint of the head; the other twelve are the same in every layout.
    derived=derived,
    options=options,
    own=own,
)
