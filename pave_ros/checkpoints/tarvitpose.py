"""Published layout of TAR-ViTPose (zgspose/TARViTPose)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pave_ros.checkpoints import vitpose
from pave_ros.checkpoints.layout import Layout, State
from pave_ros.models.base import PoseModel
from pave_ros.models.vitpose import ViTPose

PREFIXES = (
    *vitpose.ENCODER,
    ("heatmap_head.0.", "head.layers."),
    ("heatmap_head.1.", "head.final."),
    ("query_feat.", "query_content."),
    ("query_pe.", "query_position."),
    ("masked_attention_layers.*.", "aggregation.*.cross_attention."),
    ("self_attention_layers.*.", "aggregation.*.self_attention."),
    ("ffn_layers.*.", "aggregation.*."),
    ("cross_attention.", "restoring."),
)


def derived(model: PoseModel) -> State:
    """Encoder and head once more: the published network holds the ViTPose that it starts from as ``model`` and takes
    both out of it."""
    assert isinstance(model, ViTPose)
    first_stage = {k: v for k, v in model.state_dict().items() if k.startswith(("backbone.", "head."))}
    names = vitpose.LAYOUT
    return {f"model.{names.to_published(key)}": value for key, value in first_stage.items()}


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The number of layers, which differs between the authors' configurations."""
    found = {int(m[1]) for key in state if (m := re.match(r"masked_attention_layers\.(\d+)\.", key))}
    return {"layers": len(found)} if found else {}


LAYOUT = Layout(
    prefixes=PREFIXES,
    keypoints="query_feat.weight",
    derived=derived,
    entry="model_state_dict",
    options=options,
)
