"""The published systems as plain torch modules, one file each.

Importing this package is cheap; torch and timm load with the first model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pave_ros.models.base import PoseModel

# System -> its variants, the default one first. Each system is the module of that name, whose function
# `build(variant, skeleton)` makes the network.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "detrpose": ("n", "s", "m", "l", "x", "lite"),
    "pavenet": ("r50", "swin_l", "hrnet_w48", "petr_r50", "petr_swin_l", "lite"),
    "tarvitpose": ("s", "b", "l", "h", "s_corrected", "b_corrected", "l_corrected", "h_corrected"),
    "poet": ("r50", "dc5_r50"),
    "querypose": (
        "r50",
        "r50_light",
        "hrnet_w32",
        "hrnet_w32_light",
        "hrnet_w48",
        "hrnet_w48_light",
        "swin_l",
        "swin_l_light",
    ),
    "vitpose": ("s", "b", "l", "h"),
    "centernet": ("lite",),
    "simplebaseline": ("lite",),
}


# Other names of models. The embedded one is that whose weights come with the package, those of its detector too.
ALIASES = {"embedded": "simplebaseline_lite"}

# What runs where no model is named.
DEFAULT = "embedded"


def names() -> list[str]:
    """All models by name, ``system_variant``."""
    return [f"{system}_{variant}" for system, variants in SYSTEMS.items() for variant in variants]


def split_name(name: str) -> tuple[str, str]:
    """(system, variant) of a model name such as ``detrpose_s``, ``detrpose`` (its default variant) or ``embedded``.

    ValueError lists the known models when there is no such model.
    """
    plain = name.lower().replace("-", "_")
    system, _, variant = ALIASES.get(plain, plain).partition("_")
    variants = SYSTEMS.get(system, ())
    if variants and not variant:
        variant = variants[0]
    if variant not in variants:
        raise ValueError(f"unknown model {name!r}; known: {', '.join([*ALIASES, *names()])}")
    return system, variant


def create(system: str, variant: str = "", skeleton: str = "", **options: Any) -> PoseModel:
    """A network in evaluation mode with fresh (untrained) weights.

    Args:
        system: e.g. ``"detrpose"``; the name of a model, such as ``"detrpose_s"``, does as well.
        variant: e.g. ``"s"``; empty for the one in the name, or the default one.
        skeleton: keypoint layout of its head, see `pave_ros.skeletons`; empty for the one it is published with.
        options: of the system's `build`.
    """
    system, variant = split_name(f"{system}_{variant}" if variant else system)
    module = import_module(f"pave_ros.models.{system}")
    model: PoseModel = module.build(variant, skeleton, **options) if skeleton else module.build(variant, **options)
    return model.eval()
