"""Published layout of PAVE-Net (zgspose/PAVENet) and PETR (hikvision-research/opera): checkpoints of mmcv."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision.ops.misc import FrozenBatchNorm2d

from pave_ros.checkpoints.layout import Layout, State, rows_of
from pave_ros.models.base import PoseModel
from pave_ros.models.pavenet import PAVENet
from pave_ros.models.pavenet_decoder import frame_offsets
from pave_ros.models.swin import Swin

_HEAD, _TRANSFORMER = "bbox_head.", "bbox_head.transformer."


def _frame(offset: int) -> str:
    """How published names of what belongs to a frame begin."""
    return ("pre_" if offset < 0 else "next_") * abs(offset)


def _mlp(theirs: str, ours: str, layers: int) -> list[tuple[str, str]]:
    """Published heads count the activations between their linear layers."""
    return [(f"{theirs}.{2 * i}.", f"{ours}.layers.{i}.") for i in range(layers)]


def _layer(theirs: str, ours: str) -> list[tuple[str, str]]:
    """A layer of the transformer, but for its attention to frames."""
    parts = [
        ("attentions.0.attn.", "self_attention."),
        ("ffns.0.layers.0.0.", "ffn.0."),
        ("ffns.0.layers.1.", "ffn.3."),
        ("norms.", "norms."),
    ]
    return [(theirs + a, ours + b) for a, b in parts]


def _attention(theirs: str, ours: str, frames: int) -> list[tuple[str, str]]:
    rows = [
        (f"{theirs}{_frame(offset)}{part}.", f"{ours}{part}.{offset}.")
        for part in ("sampling_offsets", "attention_weights")
        for offset in frame_offsets(frames)
    ]
    return rows + [(f"{theirs}{part}.", f"{ours}{part}.") for part in ("value_proj", "output_proj")]


def _encoder_layer(theirs: str, ours: str) -> list[tuple[str, str]]:
    return _attention(f"{theirs}attentions.0.", f"{ours}attention.", frames=1) + _layer(theirs, ours)


def _decoder(theirs: str, ours: str, frames: int) -> list[tuple[str, str]]:
    theirs, ours = f"{_TRANSFORMER}{theirs}.layers.*.", f"{ours}.layers.*."
    return _attention(f"{theirs}attentions.1.", f"{ours}attention.", frames) + _layer(theirs, ours)


def _swin() -> list[tuple[str, str]]:
    """mmdetection counts the reduction to the stage before it, and the norms behind stages are part of its Swin."""
    rows = [(f"backbone.stages.{i}.downsample.", f"backbone.layers.{i + 1}.downsample.") for i in range(3)]
    rows += [(f"backbone.norm{i}.", f"norms.{i - 1}.") for i in (1, 2, 3)]
    block, ours = "backbone.stages.*.blocks.*.", "backbone.layers.*.blocks.*."
    parts = (("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2."), ("norm", "norm"))
    return [
        *rows,
        ("backbone.patch_embed.projection.", "backbone.patch_embed.proj."),
        *((block + a, ours + b) for a, b in parts),
    ]


PREFIXES = (
    *((f"neck.convs.*.{a}.", f"neck.convs.*.{i}.") for i, a in enumerate(("conv", "gn"))),
    *((f"neck.extra_convs.0.{a}.", f"neck.extra.{i}.") for i, a in enumerate(("conv", "gn"))),
    (f"{_TRANSFORMER}level_embeds", "encoder.level_embeds"),
    (f"{_TRANSFORMER}enc_output.", "selection.project."),
    (f"{_TRANSFORMER}enc_output_norm.", "selection.norm."),
    (f"{_TRANSFORMER}refine_query_embedding.", "joint_decoder.query_embedding."),
    (f"{_HEAD}query_embedding.", "selection.query_embedding."),
    (f"{_HEAD}fc_hm.", "heatmap_head."),
    *_encoder_layer(f"{_TRANSFORMER}encoder.layers.*.", "encoder.layers.*."),
    *_encoder_layer(f"{_TRANSFORMER}hm_encoder.layers.0.", "heatmap_encoder."),
    *((f"{_HEAD}{theirs}.", f"flows.{ours}.") for theirs, ours in (("enc_flow", "tokens"), ("dec_flow", "poses"))),
    (f"{_HEAD}flow.", "flows.joints."),
)


def own(model: PoseModel) -> tuple[tuple[str, str], ...]:
    """Names that depend on the number of frames and layers: of each kind of head the published last one is that of the
    first stage."""
    assert isinstance(model, PAVENet)
    last, frames = model.variant.pose_layers, model.variant.frames
    rows = [
        (f"{_HEAD}cls_branches.{last}.", "selection.class_head."),
        (f"{_HEAD}cls_branches.*.", "class_heads.*."),
        *_mlp(f"{_HEAD}kpt_branches.{last}", "selection.pose_head", 4),
    ]
    for offset in frame_offsets(frames):
        rows += _mlp(f"{_HEAD}{_frame(offset)}kpt_branches.*", f"pose_decoder.pose_heads.{offset}.*", 4)
        rows += _mlp(f"{_HEAD}{_frame(offset)}refine_kpt_branches.*", f"joint_decoder.point_heads.{offset}.*", 3)
    sigmas = (
        (f"dec_fc_sigma_branches.{last}", "token_sigma_head"),
        ("dec_fc_sigma_branches.*", "pose_sigma_heads.*"),
        ("refine_fc_sigma_branches.*", "joint_sigma_heads.*"),
    )
    for theirs, ours in sigmas:
        rows += [(f"{_HEAD}{theirs}.{i}{'.linear' if i == 2 else ''}.", f"{ours}.{i}.") for i in range(3)]
    rows += _decoder("decoder", "pose_decoder", frames) + _decoder("refine_decoder", "joint_decoder", frames)
    return (*rows, *(_swin() if isinstance(model.backbone, Swin) else ()))


def derived(model: PoseModel) -> State:
    """How many pictures batch normalisation has seen, which ours does not count; and Swin's tables of places."""
    counts = {
        f"{name}.num_batches_tracked": torch.zeros((), dtype=torch.long)
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
    }
    tables = {
        name.replace("backbone.layers.", "backbone.stages.").replace(".attn.", ".attn.w_msa."): table
        for name, table in model.named_buffers()
        if name.endswith("relative_position_index")
    }
    return counts | tables


def orders(model: PoseModel) -> dict[str, Tensor]:
    """mmdetection's Swin merges four cells channel by channel, the authors' and ours cell by cell, columns first."""
    assert isinstance(model, PAVENet)
    if not isinstance(model.backbone, Swin):
        return {}
    found = {}
    for stage, channels in enumerate(model.backbone.channels[:-1], 1):
        order = torch.arange(4 * channels).view(channels, 2, 2).permute(2, 1, 0).flatten()
        for part in ("norm.weight", "norm.bias", "reduction.weight"):
            found[f"backbone.layers.{stage}.downsample.{part}"] = order
    return found


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Numbers of frames, layers and queries, as far as the tensors are there that tell them."""

    def count(numbers: set[int]) -> int:
        # By the largest, so that a tensor that is missing is named as such; but a wrong one makes no huge network.
        return min(1 + max(numbers, default=-1), 1 + len(numbers))

    layer = re.escape(f"{_TRANSFORMER}decoder.layers.") + r"\d+\.attentions\.1\."
    attention = re.compile(layer + "((?:pre_|next_)*)sampling_offsets")
    reach = {match[1].count("_") for key in state if (match := attention.match(key))}

    def layers(decoder: str) -> int:
        layer = re.compile(re.escape(f"{_TRANSFORMER}{decoder}.layers.") + r"(\d+)\.")
        return count({int(match[1]) for key in state if (match := layer.match(key))})

    told = {
        "frames": 2 * count(reach) - 1,
        "encoder_layers": layers("encoder"),
        "pose_layers": layers("decoder"),
        "joint_layers": layers("refine_decoder"),
        "queries": rows_of(state, f"{_HEAD}query_embedding.weight"),
    }
    return {name: number for name, number in told.items() if number > 0}


LAYOUT = Layout(
    prefixes=PREFIXES,
    keypoints=f"{_TRANSFORMER}refine_query_embedding.weight",
    derived=derived,
    entry="state_dict",
    options=options,
    own=own,
    orders=orders,
)
