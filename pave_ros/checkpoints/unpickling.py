"""Reading a file of `torch.save` without running anything that it names.

Authors' training code leaves more in a checkpoint than tensors: arguments, configurations, histories of the loss.
Stand-ins are read for what is known of these; a file that names anything else is refused.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

# By what code they come, as far as it is known: DETR and its successors, DETRPose, mmcv and mmengine.
KNOWN = (
    "argparse.Namespace",
    "builtins.bool",
    "builtins.dict",
    "builtins.float",
    "builtins.getattr",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.str",
    "builtins.tuple",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    "typing.Any",
)
DICTIONARIES = ("mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict")  # filled like these


class StandIn:
    """In place of any object but tensors and plain values; it takes all that a file gives it, and keeps nothing."""

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def plain_dict(factory: object = None) -> dict[Any, Any]:
    """In place of a `collections.defaultdict`, which torch fills only if it is a plain one."""
    return {}


def load(path: Path) -> Any:
    """What the file holds. `pickle.UnpicklingError` where that is more than is known to be harmless."""
    known: list[Any] = [(plain_dict, "collections.defaultdict"), *((StandIn, name) for name in KNOWN)]
    known += [(OrderedDict, name) for name in DICTIONARIES]
    with torch.serialization.safe_globals(known):
        return torch.load(path, "cpu", weights_only=True)


def reason(error: BaseException) -> str:
    """Why a file cannot be read, in a line, without torch's advice to run it."""
    if isinstance(error, pickle.UnpicklingError):
        return f"refused: {culprit(error)}"
    told = re.split("In PyTorch 2|Re-running", str(error))[0].strip()
    return told.partition("\n")[0] or type(error).__name__


def culprit(error: BaseException) -> str:
    """What a refused file asks for, e.g. ``posix.system``, out of torch's error, whose advice is to run it."""
    found = re.search(r"GLOBAL ([\w.]+\w)|(Unsupported operand \d+)", str(error))
    return next(filter(None, found.groups())) if found else "something unknown"
