"""Published layout of POET (amathislab/poet; weights at zenodo.org/record/7972042)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pave_ros.checkpoints.layout import Layout, rows_of

QUERIES = "query_embed.weight"

PREFIXES = (
    ("backbone.0.body.", "backbone."),
    ("input_proj.", "project."),
    ("transformer.encoder.layers.", "encoder."),
    ("transformer.decoder.layers.*.multihead_attn.", "decoder.*.cross_attn."),
    ("transformer.decoder.layers.", "decoder."),
    ("transformer.decoder.norm.", "norm."),
    (QUERIES, "queries"),
    ("class_embed.", "class_head."),
    ("kpt_embed.", "pose_head."),
)


def options(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of queries, which the authors' files differ in."""
    queries = rows_of(state, QUERIES)
    return {"queries": queries} if queries else {}


LAYOUT = Layout(
    prefixes=PREFIXES,
    keypoints="kpt_embed.layers.2.weight",
    rows=(3, 2),
    options=options,
)
