"""The training loop: repeatable, resumable to the bit, alone or data parallel (start it with torchrun)."""

from __future__ import annotations

import copy
import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

import torch
import torch.distributed as dist
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from pave_ros import models, skeletons
from pave_ros.checkpoints import files, loading, unpickling
from pave_ros.files import complete
from pave_ros.interruptions import uninterrupted
from pave_ros.models.base import PoseModel
from pave_ros.training.backbones import load_backbone
from pave_ros.training.batches import Batch, Failed, Samples, batches
from pave_ros.training.config import TrainingConfig
from pave_ros.training.settings import ConfigError, shown


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why and where to look."""


@dataclass(frozen=True)
class Process:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls) -> Process:
        """Join the others, if torchrun started several."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(device)
        if world > 1 and not dist.is_initialized():
            # The others wait while the first one validates.
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=6))
        return cls(int(os.environ.get("RANK", "0")), world, device)

    @property
    def first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0


class Trainer:
    """Trains one model; call `run`.

    Args:
        config: the settings.
        samples: the training pictures.
        validate: measures a network as it is now, e.g. its AP; called every `validate_every` steps and at the end.
    """

    def __init__(
        self,
        config: TrainingConfig,
        samples: Samples,
        validate: Callable[[PoseModel], dict[str, float]] | None = None,
    ) -> None:
        self.config = config
        self._validate = validate
        self.process = Process.join()
        per_process, rest = divmod(config.batch_size, self.process.world * config.accumulate)
        if rest or not per_process:
            raise TrainingError(
                f"batch_size {config.batch_size} is no multiple of processes x accumulate "
                f"({self.process.world} x {config.accumulate})"
            )
        if config.precision == "fp16" and self.process.device.type == "cpu":
            raise TrainingError("precision fp16 is for CUDA; take bf16 or fp32 on a processor")
        self._part = per_process
        self._samples = samples
        self.step = 0
        if self.process.device.type == "cpu":
            _keep_memory()
        torch.manual_seed(config.seed)
        module = config.system
        self.model = self._initial_model(module).to(self.process.device)
        with _options_of("objective_options"):
            self._criterion = module.criterion(config.skeleton, **config.objective_options)
        if not hasattr(self._criterion, "crops"):  # Those cut what the network sees out of the pictures.
            _check_size(config, self.model.info.stride)
            if self.model.info.resize == "stretch":  # Elsewhere the size of a picture follows from its proportions.
                self.model.info = replace(self.model.info, input_size=config.size)
        self.averaged = AveragedModel(self.model, avg_fn=self._average, use_buffers=True)
        forward: nn.Module = module.TrainingForward(self.model)
        if self.process.world > 1:
            # Without people in a batch nothing is denoised, and the embeddings for that go unused.
            forward = DistributedDataParallel(forward, find_unused_parameters=True)
        self._forward = forward
        self._optimizer = torch.optim.AdamW(self._parameter_groups(), weight_decay=config.weight_decay)
        self._scaler = torch.amp.GradScaler(self.process.device.type, enabled=config.precision == "fp16")
        config.output.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.is_file():
            self._resume()

    # --- what is trained ------------------------------------------------------------------------------------------

    def _initial_model(self, system: ModuleType) -> PoseModel:
        config = self.config
        with _options_of("model_options"):
            model = models.create(config.model, skeleton=config.skeleton, **config.model_options)
        fresh = {key: value.clone() for key, value in model.state_dict().items()}
        if config.backbone is not None:  # Some start from more than a classifier's backbone.
            getattr(system, "load_backbone", load_backbone)(model, config.backbone)
        if config.weights is not None:
            path = files.resolve(str(config.weights), config.model)
            weights, skeleton = loading.read_named(path)
            _check_skeleton(config, path, weights, skeleton)
            loading.fill(model, weights, source=str(path))
        state = {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}
        # A checkpoint holds everything, a backbone what it changed.
        read = [key for key, value in state.items() if config.weights is not None or not torch.equal(value, fresh[key])]
        self._start = {key: state[key] for key in read}
        _freeze(model, config)
        # Convolutions of a few channels train up to half again as fast with the channels last.
        return model.to(memory_format=torch.channels_last)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The backbone, the parts that have a rate of their own, and the rest; frozen parameters are left out."""
        config = self.config
        rates = {"backbone.": config.backbone_learning_rate, "": config.learning_rate} | config.learning_rates
        groups: dict[str, list[Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                # The norms behind the stages are published as a part of Swin.
                other = "backbone." if name.startswith(("backbone.", "norms.")) else ""
                part = next((word for word in config.learning_rates if word in name), other)
                groups.setdefault(part, []).append(parameter)
        return [
            {"params": groups[part], "lr": rates[part], "peak": rates[part]} for part in sorted(groups, reverse=True)
        ]

    def _average(self, average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        """Of parameters and of running statistics, which belong to them; counters are as they are."""
        if not value.is_floating_point():
            return value
        decay = self.config.ema_decay * (1 - math.exp(-(float(count) + 1) / max(self.config.ema_warmup, 1)))
        return average.lerp(value, 1 - decay)  # exactly the same where nothing changed

    def learning_rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, then steps at the milestones, or a cosine down
        to `final`."""
        config = self.config
        if step < config.warmup:
            return (step + 1) / config.warmup
        if config.milestones:
            return float(config.milestone_factor ** sum(step >= milestone for milestone in config.milestones))
        done = (step - config.warmup) / max(config.steps - config.warmup, 1)
        return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    # --- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the end. Returns the file with the finished weights (averaged, in the published layout)."""
        config = self.config
        log = None
        if self.process.first:  # Steps after the newest checkpoint come again.
            log = SummaryWriter(str(config.output / "logs"), purge_step=self.step + 1)
        parts = self._batches()
        self._to_training_mode()
        with self._progress() as progress:
            task = progress.add_task("training", total=config.steps, completed=self.step, loss="")
            try:
                while self.step < config.steps:
                    self._next_step(parts, log, progress, task)
            except KeyboardInterrupt:  # which comes between two steps
                with uninterrupted():
                    self.save()
                raise
            self.save()
            self._score(log, progress)  # Also when this alone was missing.
        if log:
            log.close()
        return self.weights_file

    def _next_step(self, parts: Iterator[Batch], log: SummaryWriter | None, progress: Progress, task: TaskID) -> None:
        """Train a step, whole even if it is interrupted, and do what is due after it."""
        config = self.config
        batch = [next(parts) for _ in range(config.accumulate)]
        with uninterrupted():
            losses = self._train_step(batch)
            self.step += 1
        progress.update(task, completed=self.step, loss=f"loss {sum(losses.values()):.2f}")
        if log and config.log_every and self.step % config.log_every == 0:
            self._log(log, losses)
        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
            self.save()
        if config.validate_every and self.step % config.validate_every == 0 and self.step < config.steps:
            self._score(log, progress)

    def _score(self, log: SummaryWriter | None, progress: Progress) -> None:
        """Validate, and say how good the network is now."""
        if self._validate and log:
            scores = self._validate(self.finished())
            told = _in_words(scores) or "not measured, for no source has pictures of the split val"
            progress.console.print(f"step {self.step}: {told}")
            for name, value in scores.items():
                log.add_scalar(f"validation/{name}", value, self.step)

    def _train_step(self, parts: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step; the losses by name."""
        config = self.config
        # What is left to chance is the same whether or not a run was interrupted, and differs between processes.
        torch.manual_seed(_seed(config.seed, self.step, self.process.rank))
        factor = self.learning_rate_factor(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        total: dict[str, float] = {}
        for batch in parts:
            losses = self._losses(batch)
            loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                self._abort([batch], [name for name, value in losses.items() if not torch.isfinite(value)])
            self._scaler.scale(loss / config.accumulate).backward()
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + float(value.detach()) / config.accumulate
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or math.inf)
        # A scaler leaves such steps out by itself.
        if not (self._scaler.is_enabled() or torch.isfinite(norm)):
            self._abort(parts, ["gradients"])
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.averaged.update_parameters(self.model)
        return total

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        images, targets, indices = batch
        device = self.process.device
        info = self.model.info
        pictures = images.to(device, non_blocking=True).float() / 255
        pictures = pictures.flip(-3) if info.bgr else pictures
        if pictures.dim() == 4:
            pictures = pictures.to(memory_format=torch.channels_last)
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (info.mean, info.std))
        seeds = [_seed(self.config.seed, index) for index in indices]
        types = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = types[self.config.precision]
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            losses: dict[str, Tensor] = self._criterion(
                self._forward, (pictures - mean) / std, [t.to(device) for t in targets], seeds
            )
        return losses

    def _abort(self, parts: Sequence[Batch], bad: Sequence[str]) -> None:
        path = self.config.output / f"not_finite_step{self.step}_rank{self.process.rank}.pt"
        images = torch.cat([images for images, _, _ in parts])
        targets = [vars(target) for _, targets, _ in parts for target in targets]
        torch.save({"images": images, "targets": targets, "indices": [i for *_, each in parts for i in each]}, path)
        raise TrainingError(
            f"step {self.step}: {', '.join(bad)} not finite; the batch is saved in {path}. "
            "Lower the learning rate, or look at these pictures."
        )

    def _to_training_mode(self) -> None:
        self.model.train()
        if self.config.freeze_norms:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def _batches(self) -> Iterator[Batch]:
        """The parts of this process's batches, from the current step on."""
        config = self.config
        numbers = (
            self.part_indices(step, part)
            for step in range(self.step, config.steps)
            for part in range(config.accumulate)
        )
        for batch in batches(self._samples, numbers, config.workers, pin_memory=self.process.device.type == "cuda"):
            if isinstance(batch, Failed):
                raise TrainingError(f"training picture {batch.number}: {batch.reason}")
            yield batch

    def part_indices(self, step: int, part: int) -> list[int]:
        """Numbers of the pictures in one part of this process's share of a step."""
        first = (step * self.process.world + self.process.rank) * self.config.accumulate + part
        return list(range(first * self._part, (first + 1) * self._part))

    # --- files ----------------------------------------------------------------------------------------------------

    @property
    def _checkpoint(self) -> Path:
        return self.config.output / "checkpoint.pt"

    @property
    def weights_file(self) -> Path:
        """The averaged weights of the newest checkpoint, in the published layout."""
        return self.config.output / "weights.safetensors"

    def save(self) -> None:
        """Write all that is needed to go on from here, and the weights as they would be used now."""
        if not self.process.first:
            return
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "config": self.config.to_yaml(),
        }
        with complete(self._checkpoint) as partial, partial.open("wb") as file:
            _put(state, file)
            file.flush()
            os.fsync(file.fileno())  # Without power the name may be on the disk before the content.
        loading.save(self.finished(), self.weights_file)

    def finished(self) -> PoseModel:
        """The network with the averaged weights, drawn back to those it started from as far as the settings say."""
        model: Any = self.averaged.module
        if share := self.config.start_share:
            model = copy.deepcopy(model)
            state = model.state_dict()
            for key, start in self._start.items():
                state[key].lerp_(start.to(state[key]), share)
        return cast(PoseModel, model)

    def _resume(self) -> None:
        with self._reading():
            state = torch.load(self._checkpoint, self.process.device, weights_only=True)
            before = dict(yaml.safe_load(state["config"]))
        self._check_the_same(before, yaml.safe_load(self.config.to_yaml()))
        with self._reading():
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self._optimizer.load_state_dict(state["optimizer"])
            if state["scaler"] and self._scaler.is_enabled():
                self._scaler.load_state_dict(state["scaler"])
            self.step = int(state["step"])
        for group, own in zip(self._optimizer.param_groups, self._parameter_groups(), strict=True):
            group |= {"peak": own["peak"], "weight_decay": self.config.weight_decay}  # They may be others now.

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """TrainingError where the checkpoint does not hold what it should."""
        try:
            yield
        except Exception as error:  # Of damaged files torch says all sorts of things.
            reason = unpickling.reason(error)
            raise TrainingError(
                f"{self._checkpoint}: no checkpoint of a training, or damaged; remove it ({reason})"
            ) from error

    def _check_the_same(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """TrainingError where a run of these settings cannot go on with the others."""
        before, now = ({**run, "learning_rates": list(run.get("learning_rates", ()))} for run in (before, now))
        for name in ("model", "skeleton", "model_options", "frozen", "learning_rates"):
            if before.get(name, now[name]) != now[name]:
                was, wanted = (v if isinstance(v, str) else shown(v) for v in (before.get(name), now[name]))
                raise TrainingError(
                    f"{self._checkpoint}: of a run whose {name} is {was}, not {wanted}; "
                    "take another output folder, or remove it"
                )

    # --- what a person sees ---------------------------------------------------------------------------------------

    def _progress(self) -> Progress:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
        return Progress(TextColumn("{task.description}"), *columns, disable=not self.process.first)

    def _log(self, log: SummaryWriter, losses: dict[str, float]) -> None:
        log.add_scalar("loss", sum(losses.values()), self.step)
        for name, value in losses.items():
            log.add_scalar(f"losses/{name}", value, self.step)
        log.add_scalar("learning_rate", self._optimizer.param_groups[-1]["lr"], self.step)


def _freeze(model: PoseModel, config: TrainingConfig) -> None:
    """Leave out of training what the settings say; ConfigError for parts of names that no parameter has."""
    names = [name for name, _ in model.named_parameters()]
    for entry in config.frozen:
        if not any(name.startswith(entry) for name in names):
            raise ConfigError(f"frozen: no parameter's name begins with {entry!r}")
    for entry in config.learning_rates:
        if not any(entry in name for name in names):
            raise ConfigError(f"learning_rates: no parameter's name holds {entry!r}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(config.frozen))


def _check_size(config: TrainingConfig, stride: int) -> None:
    if any(side % stride for side in config.size):
        height, width = config.size
        raise ConfigError(f"input_size {height}x{width} (height x width): {config.model} takes multiples of {stride}")


def _check_skeleton(config: TrainingConfig, path: Path, weights: Mapping[str, Tensor], named: str) -> None:
    """ConfigError where the weights to start from are made for another keypoint layout: by its name where a training
    wrote the file, else by the number of keypoints."""
    count = loading.layout_of(models.split_name(config.model)[0]).keypoint_count(weights)
    wanted = len(skeletons.get(config.skeleton))
    if named != config.skeleton if named else count not in (None, wanted):
        raise ConfigError(
            f"weights: {path} is made for {named or f'{count} keypoints'}, but skeleton is {config.skeleton} "
            f"({wanted} keypoints); take weights of this skeleton, or the skeleton of these weights"
        )


@contextmanager
def _options_of(setting: str) -> Iterator[None]:
    """What a setting hands on may be unknown there, or of no use."""
    try:
        yield
    except ConfigError:  # It names the setting already.
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{setting}: {error}") from None


def _put(state: dict[str, Any], file: IO[bytes]) -> None:
    """`torch.save`, whose writer hides what it was stopped by."""
    stopped: list[BaseException] = []

    class Told:
        def write(self, data: bytes) -> int:
            try:
                return file.write(data)
            except BaseException as error:
                stopped.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(state, cast(IO[bytes], Told()))
    except RuntimeError:
        if not stopped:
            raise
        raise stopped[0] from None


def _seed(*numbers: int) -> int:
    return hash(numbers) & 0x7FFFFFFF


def _keep_memory() -> None:
    """Keep what is freed for the next step. By itself glibc returns every large tensor to the system, and getting the
    pages back takes a sixth of a step on the CPU. Nothing happens with other C libraries."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        trim_threshold, most_mapped = -1, -4  # the names of mallopt's parameters, M_TRIM_THRESHOLD and M_MMAP_MAX
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(most_mapped, 0)


def _in_words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
