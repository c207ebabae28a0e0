"""Published layout of ViTPose (MMPose 1, whose encoder is MMPretrain's)."""

from __future__ import annotations

from pave_ros.checkpoints.layout import Layout

# The encoder, as TAR-ViTPose names it too.
ENCODER = (
    ("backbone.patch_embed.projection.", "backbone.patch."),
    ("backbone.pos_embed", "backbone.positions"),
    ("backbone.layers.*.ln1.", "backbone.blocks.*.norm1."),
    ("backbone.layers.*.ln2.", "backbone.blocks.*.norm2."),
    ("backbone.layers.*.attn.", "backbone.blocks.*.attn."),
    ("backbone.layers.*.ffn.layers.0.0.", "backbone.blocks.*.mlp.fc1."),
    ("backbone.layers.*.ffn.layers.1.", "backbone.blocks.*.mlp.fc2."),
    ("backbone.ln1.", "backbone.norm."),
)
HEAD = (
    ("head.deconv_layers.", "head.layers."),
    ("head.final_layer.", "head.final."),
)

LAYOUT = Layout(
    prefixes=(*ENCODER, *HEAD),
    keypoints="head.final_layer.weight",
    entry="state_dict",
)
