"""The settings of a training run, read from a YAML file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from pave_ros import models
from pave_ros.training.settings import ConfigError, check_bounds, filled

# Settings that have to lie between two numbers.
BOUNDS = (
    (("steps", "batch_size", "accumulate"), 1, math.inf),
    (("learning_rate", "backbone_learning_rate", "weight_decay", "clip_norm", "warmup", "ema_warmup"), 0, math.inf),
    (("workers", "seed", "checkpoint_every", "log_every", "validate_every", "validate_limit"), 0, math.inf),
    (("start_share", "ema_decay", "milestone_factor", "final"), 0, 1),
)


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        model: e.g. ``detrpose_lite``.
        output: folder for checkpoints, logs and the finished weights.
        data: what the pictures come from, see `pave_ros.training.sources`.
        steps: optimizer steps in all.
        batch_size: pictures of one optimizer step, over all processes and accumulated parts.
        skeleton: keypoint layout.
        input_size: (height, width) of the network's input; None takes the model's own.
        weights: checkpoint to start from, in the published layout: a file, the name of one that the package knows, or
            ``auto`` for the model's own; None starts afresh.
        backbone: pretrained backbone to start from (a file of tensors in the order of timm's model, or what the
            system's `load_backbone` takes); None for none.
        frozen: parameters whose names begin with one of these are not trained, e.g. ``backbone.blocks.0``.
        model_options: arguments of the system's `build` beside variant and skeleton, e.g. the number of ``frames``.
        objective_options: arguments of the system's `criterion` beside the skeleton.
        accumulate: parts that the batch of a process is computed in, to save memory.
        learning_rate, backbone_learning_rate: at the peak.
        learning_rates: of parameters whose names hold a word, by that word, e.g. ``sampling_offsets``.
        weight_decay: of AdamW.
        warmup: steps of linear warm-up.
        milestones: steps from which the learning rate is `milestone_factor` times as high; the cosine is off then.
        milestone_factor: see there.
        final: share of the learning rate that the cosine schedule ends with; 1 keeps it constant, as published.
        clip_norm: maximum gradient norm; 0 disables clipping.
        ema_decay, ema_warmup: of the averaged weights; decay * (1 - exp(-step / warmup)).
        start_share: share of the weights that training started from, as far as they come from a file, in the finished
            ones, 0..1: what was known before and has no pictures here is kept (Wortsman et al., CVPR 2022).
        freeze_norms: keep all batch normalisation as it is, for small batches.
        precision: ``fp32``; ``bf16`` on CUDA and on processors that are made for it; ``fp16`` on CUDA.
        workers: processes that prepare pictures; 0 prepares them in the training process.
        seed: of everything that is random.
        checkpoint_every, log_every, validate_every: in steps; 0 never (validation comes at the end in any case).
        validate_limit: at most so many validation pictures of each source; 0 for all.
    """

    model: str
    output: Path
    data: dict[str, Any]
    steps: int
    batch_size: int
    skeleton: str = "coco17"
    input_size: tuple[int, int] | None = None
    weights: Path | None = None
    backbone: Path | None = None
    frozen: tuple[str, ...] = ()
    model_options: dict[str, Any] = field(default_factory=dict)
    objective_options: dict[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    learning_rate: float = 1e-4
    backbone_learning_rate: float = 1e-4
    learning_rates: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 1e-4
    warmup: int = 1000
    milestones: tuple[int, ...] = ()
    milestone_factor: float = 0.1
    final: float = 1.0
    clip_norm: float = 0.1
    ema_decay: float = 0.9999
    ema_warmup: int = 2000
    start_share: float = 0.0
    freeze_norms: bool = False
    precision: str = "fp32"
    workers: int = 1
    seed: int = 0
    checkpoint_every: int = 1000
    log_every: int = 20
    validate_every: int = 0
    validate_limit: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures that are trained on."""
        return self.input_size or models.create(self.model).info.input_size

    @property
    def system(self) -> ModuleType:
        """The module with the objective of the model's system."""
        return import_module(f"pave_ros.training.{models.split_name(self.model)[0]}")

    @property
    def of_samples(self) -> dict[str, Any]:
        """What `data` take from the other settings."""
        offset = getattr(self.system, "KEYPOINT_OFFSET", 0.0)
        return {"input_size": self.size, "seed": self.seed, "skeleton": self.skeleton, "offset": offset}

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS)
        if self.input_size is not None and min(self.input_size) < 1:
            raise ConfigError(f"input_size has to be a height and a width, not {list(self.input_size)}")
        if min(self.learning_rates.values(), default=0) < 0:
            raise ConfigError(f"learning_rates have to be at least 0, not {self.learning_rates}")
        if min(self.milestones, default=1) < 1:
            raise ConfigError(f"milestones have to be at least 1, not {list(self.milestones)}")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise ConfigError(f"precision has to be fp32, bf16 or fp16, not {self.precision!r}")

    @classmethod
    def read(cls, path: Path | str) -> TrainingConfig:
        """The settings in a YAML file; paths in it are relative to the working directory."""
        path = Path(path)
        if not path.is_file():
            raise ConfigError(f"no such training configuration: {path}")
        content = path.read_bytes()
        try:
            values = yaml.safe_load(content)
        except Exception as error:  # Of odd numbers and dates PyYAML passes on whatever Python says.
            raise ConfigError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
        return filled(cls, values, str(path))

    def to_yaml(self) -> str:
        """The settings as `read` takes them."""
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        return yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}, sort_keys=False)
