"""Published layout of DETRPose (SebastianJanampa/DETRPose, release `model_weights`)."""

from __future__ import annotations

import torch

from pave_ros.checkpoints.layout import Layout, State
from pave_ros.models.base import PoseModel
from pave_ros.models.detrpose import DETRPose, QuerySelection
from pave_ros.models.layers import sine_wavelengths

PREFIXES = (
    ("backbone.stages.*.", "backbone.stages_*."),
    ("encoder.encoder.0.layers.0.", "encoder.attention."),
    ("encoder.downsample_convs.*.0.cv1.", "encoder.downsample_convs.*.0."),
    ("encoder.downsample_convs.*.0.cv2.", "encoder.downsample_convs.*.1."),
    ("transformer.enc_output.", "selection.project."),
    ("transformer.enc_output_norm.", "selection.norm."),
    ("transformer.enc_out_class_embed.", "selection.class_head."),
    ("transformer.enc_pose_embed.", "selection.pose_head."),
    ("transformer.tgt_embed.", "selection.query_embedding."),
    ("transformer.keypoint_embedding.", "selection.keypoint_embedding."),
    ("transformer.instance_embedding.", "selection.instance_embedding."),
    ("transformer.label_enc.", "denoising.label_embedding."),
    ("transformer.pose_enc.", "denoising.pose_embedding."),
    ("transformer.decoder.half_pose_ref_point_head.", "decoder.position_head."),
    ("transformer.pre_pose_embed.", "decoder.initial_pose_head."),
    ("transformer.pose_embed.", "decoder.pose_heads."),
    ("transformer.class_embed.", "decoder.class_heads."),
    ("transformer.lqe_embed.", "decoder.quality_heads."),
    ("transformer.reg_scale", "decoder.reg_scale"),
    ("transformer.up", "decoder.up"),
    ("transformer.decoder.layers.", "decoder.layers."),
)


def derived(model: PoseModel) -> State:
    """Anchors and wavelengths, which the published code stores for its input size."""
    assert isinstance(model, DETRPose)
    height, width = model.info.input_size
    maps = tuple(torch.empty(1, 1, height // stride, width // stride) for stride in model.strides)
    anchors, valid = QuerySelection.anchors(maps)
    return {
        "transformer.anchors": anchors,
        "transformer.valid_mask": ~valid,
        "transformer.decoder.dim_t": sine_wavelengths(model.encoder.hidden // 2, temperature=10000),
    }


LAYOUT = Layout(prefixes=PREFIXES, keypoints="transformer.keypoint_embedding.weight", derived=derived)
