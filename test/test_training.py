"""The loop: it repeats, resumes, runs in parallel, and survives what breaks."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.multiprocessing
from dots import Dots, config
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from pave_ros import models
from pave_ros.checkpoints import loading
from pave_ros.models import pavenet
from pave_ros.models.base import PoseModel
from pave_ros.training.batches import Batch, batches
from pave_ros.training.settings import ConfigError
from pave_ros.training.store import StoreError
from pave_ros.training.target import Target
from pave_ros.training.trainer import Trainer, TrainingError


class Broken(Dots):
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, people = super().__getitem__(index)
        return image, replace(people, keypoints=people.keypoints * float("nan"))


class Torn(Dots):
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if index == 5:
            raise StoreError("coco.bin: a picture cannot be read")
        return super().__getitem__(index)


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, handler)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 0.0) -> None:
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


def test_what_is_left_to_chance_is_the_same_after_an_interruption(tmp_path: Path) -> None:
    """PAVE-Net drops values at random."""
    small = {"model": "pavenet_lite", "batch_size": 2, "steps": 2, "model_options": {"queries": 10}}
    whole = Trainer(config(tmp_path / "whole", **small), Dots())
    whole.run()
    Trainer(config(tmp_path / "parts", **{**small, "steps": 1}), Dots()).run()
    resumed = Trainer(config(tmp_path / "parts", **small), Dots())
    resumed.run()
    assert_same(weights(whole), weights(resumed))


def test_settings_may_change_between_two_runs(tmp_path: Path) -> None:
    Trainer(config(tmp_path, steps=1), Dots()).run()
    resumed = Trainer(config(tmp_path, steps=2, learning_rate=1e-6, weight_decay=0.5), Dots())
    assert {(group["peak"], group["weight_decay"]) for group in resumed._optimizer.param_groups} == {
        (1e-6, 0.5), (resumed.config.backbone_learning_rate, 0.5)
    }  # fmt: skip
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: of a run whose model is detrpose_n, not detrpose_s"):
        Trainer(config(tmp_path, model="detrpose_s"), Dots())
    with pytest.raises(TrainingError, match=r"whose frozen is \[\], not \['backbone.'\]; take another output folder"):
        Trainer(config(tmp_path, frozen=("backbone.",)), Dots())


@pytest.mark.parametrize("content", [b"", b"text", None, "half"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    Trainer(config(tmp_path, steps=1), Dots()).run()
    file = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"model": {}}, file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: no checkpoint of a training, or damaged; remove it \("):
        Trainer(config(tmp_path, steps=1), Dots())


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Trainer}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: .*; remove it \(refused: pave_ros\.\S+\.Trainer\)$"):
        Trainer(config(tmp_path, steps=1), Dots())


def test_gradients_that_are_no_numbers_are_not_followed(tmp_path: Path) -> None:
    """Even where the loss is one."""
    trainer = Trainer(config(tmp_path), Dots())
    before = weights(trainer)
    name, broken = next((n, p) for n, p in trainer.model.named_parameters() if p.requires_grad)
    broken.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match=r"step 0: gradients not finite; the batch is saved in .*not_finite_step0"):
        trainer.run()
    assert_same(before, weights(trainer) | {k: v for k, v in before.items() if "running" in k or "num_batches" in k})
    saved = torch.load(tmp_path / "not_finite_step0_rank0.pt", weights_only=True)
    assert len(saved["images"]) == len(saved["targets"]) == len(saved["indices"]) == 4


def test_training_in_16_bits_lowers_the_loss(tmp_path: Path) -> None:
    """With a scale for the gradients, which fp16 needs, see test_on_gpu."""
    trainer = Trainer(config(tmp_path, warmup=1, batch_size=2, precision="bf16"), Dots())
    batch = next(trainer._batches())
    trainer._to_training_mode()
    losses = [sum(trainer._train_step([batch]).values()) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_resumed_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = Trainer(config(tmp_path / "whole"), Dots())
    whole.run()
    Trainer(config(tmp_path / "parts", steps=2), Dots()).run()
    resumed = Trainer(config(tmp_path / "parts"), Dots())
    assert resumed.step == 2
    resumed.run()
    assert_same(weights(whole), weights(resumed))
    finished = loading.read(tmp_path / "whole" / "weights.safetensors")
    again = loading.read(tmp_path / "parts" / "weights.safetensors")
    assert_same(finished, again)
    assert any((tmp_path / "whole" / "logs").iterdir())


def test_networks_that_take_blue_first_are_trained_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for bgr in (False, True):
        trainer = Trainer(config(tmp_path / str(bgr), steps=1), Dots())
        trainer.model.info = replace(trainer.model.info, bgr=bgr)
        monkeypatch.setattr(trainer, "_criterion", lambda model, images, targets, seeds: shown.append(images) or {})
        trainer._losses((torch.arange(3 * 4).reshape(1, 3, 2, 2).to(torch.uint8), [], [0]))
    torch.testing.assert_close(shown[0], shown[1].flip(1))


def test_learning_rates_step_down_at_milestones(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, steps=30, milestones=(10, 20), milestone_factor=0.5, final=0.1), Dots())
    assert [trainer.learning_rate_factor(step) for step in (0, 1, 9, 10, 19, 20)] == [0.5, 1, 1, 0.5, 0.5, 0.25]


def test_parts_may_have_learning_rates_of_their_own(tmp_path: Path) -> None:
    given = {"sampling_offsets": 1e-6, "decoder": 1e-4}
    trainer = Trainer(config(tmp_path, backbone_learning_rate=1e-5, learning_rates=given), Dots())
    rates = {id(p): group["peak"] for group in trainer._optimizer.param_groups for p in group["params"]}
    found = {
        part: {rates[id(p)] for name, p in trainer.model.named_parameters() if part in name and p.requires_grad}
        for part in ("backbone.", "sampling_offsets", "attention_weights", "encoder.")
    }
    assert found == {"backbone.": {1e-5}, "sampling_offsets": {1e-6}, "attention_weights": {1e-4}, "encoder.": {1e-3}}


def test_norms_behind_the_stages_of_a_swin_learn_as_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pavenet.SWIN, "swin_l", (24, (1, 1, 1, 1), (3, 6, 12, 24)))
    settings = {"model": "pavenet_swin_l", "skeleton": "posetrack15", "input_size": (64, 64), "learning_rate": 1e-3}
    trainer = Trainer(config(tmp_path, **settings, backbone_learning_rate=1e-5), Dots())
    rates = {id(p): group["peak"] for group in trainer._optimizer.param_groups for p in group["params"]}
    parts = {part: trainer.model.get_submodule(part).parameters() for part in ("backbone", "norms", "neck")}
    assert {part: {rates[id(p)] for p in of_part if p.requires_grad} for part, of_part in parts.items()} == {
        "backbone": {1e-5}, "norms": {1e-5}, "neck": {1e-3},
    }  # fmt: skip


def test_running_statistics_are_averaged_with_the_weights_that_they_belong_to(tmp_path: Path) -> None:
    """As published; those of the last step would not fit weights of many steps."""
    torch.manual_seed(0)
    trainer = Trainer(config(tmp_path, steps=3, ema_decay=0.5, ema_warmup=1), Dots())
    before = {name: value.clone() for name, value in trainer.model.named_buffers()}
    trainer.run()
    averaged = dict(trainer.averaged.module.named_buffers())
    changed = {
        n: v for n, v in trainer.model.named_buffers() if v.is_floating_point() and not torch.equal(v, before[n])
    }
    assert any("running_var" in name for name in changed)
    for name, now in changed.items():
        assert not torch.equal(averaged[name], now), name
    for name, value in trainer.model.named_buffers():
        if name not in changed:
            assert torch.equal(averaged[name], value), name


def test_finished_weights_keep_a_share_of_those_from_a_file(tmp_path: Path) -> None:
    start = models.create("detrpose_n", skeleton="coco17")
    loading.save(start, tmp_path / "start.safetensors")
    found = {}
    for share in (0.0, 0.5, 1.0):
        settings = {"weights": tmp_path / "start.safetensors", "start_share": share, "steps": 1}
        trainer = Trainer(config(tmp_path / str(share), **settings), Dots())
        trainer.run()
        found[share] = trainer.finished().state_dict()
    floats = [name for name, value in found[0.0].items() if value.is_floating_point()]
    assert_same({name: start.state_dict()[name] for name in floats}, found[1.0])
    assert any(not torch.equal(found[0.0][name], found[1.0][name]) for name in floats)
    half = {name: (found[0.0][name] + found[1.0][name]) / 2 for name in floats}
    assert_same(half, found[0.5], atol=1e-6)
    none = Trainer(config(tmp_path / "none", steps=1, start_share=1.0), Dots())  # nothing comes from a file
    assert_same(none.finished().state_dict(), none.averaged.module.state_dict())
    with pytest.raises(ConfigError, match="start_share has to be from 0 to 1, not 2"):
        config(tmp_path, start_share=2)


def test_weights_of_another_skeleton_are_not_started_from(tmp_path: Path) -> None:
    """Those of as many keypoints in another order would load, and those of others end in a tensor's name."""
    loading.save(models.create("detrpose_n", skeleton="crowdpose14"), tmp_path / "crowd.safetensors")
    torch.save({"model": loading.read(tmp_path / "crowd.safetensors")}, tmp_path / "crowd.pth")
    Trainer(config(tmp_path / "out", skeleton="crowdpose14", weights=tmp_path / "crowd.safetensors"), Dots())
    for name, skeleton, reason in (
        ("crowd.safetensors", "lsp14", r"crowd\.safetensors is made for crowdpose14, but skeleton is lsp14"),
        ("crowd.safetensors", "coco17", r"made for crowdpose14, but skeleton is coco17 \(17 keypoints\); take weights"),
        ("crowd.pth", "coco17", r"weights: .*crowd\.pth is made for 14 keypoints, but skeleton is coco17"),
    ):
        with pytest.raises(ConfigError, match=reason):
            Trainer(config(tmp_path / "out", skeleton=skeleton, weights=tmp_path / name), Dots())


@pytest.mark.parametrize(("model", "size"), [("detrpose_n", (96, 64)), ("pavenet_lite", (256, 448))])
def test_validation_looks_at_pictures_as_the_network_is_used(tmp_path: Path, model: str, size: tuple[int, int]) -> None:
    """At the size that it learns at, unless that of a picture follows from its proportions."""
    trainer = Trainer(config(tmp_path, model=model, input_size=(96, 64)), Dots())
    assert trainer.finished().info.input_size == size


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, steps=8, warmup=1, batch_size=2), Dots())
    batch = next(trainer._batches())
    trainer._to_training_mode()
    losses = [sum(trainer._train_step([batch]).values()) for _ in range(8)]
    assert losses[-1] < losses[0] * 0.9


def test_not_finite_stops_at_once_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 0: .*not_finite_step0_rank0\.pt"):
        Trainer(config(tmp_path), Broken()).run()
    kept = torch.load(tmp_path / "not_finite_step0_rank0.pt", weights_only=True)
    assert kept["images"].shape == (4, 3, 96, 96) and kept["indices"] == [0, 1, 2, 3]


def test_a_picture_that_cannot_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    told = "training picture 5: coco.bin: a picture cannot be read"
    with pytest.raises(TrainingError) as error:
        Trainer(config(tmp_path, workers=0), Torn()).run()
    assert str(error.value) == told
    # In a process of its own, for this one has threads of all sorts by now, which a forked worker would miss.
    code = (
        "import sys, pathlib, test_training as t\n"
        "t.Trainer(t.config(pathlib.Path(sys.argv[1]), workers=1), t.Torn()).run()"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path / "worker")]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.strip().splitlines()[-1].endswith(f"TrainingError: {told}"), done.stderr


def test_workers_start_after_opencv_has_used_its_threads() -> None:
    """As where a picture was looked at before; in a process of its own, which has no other threads."""
    code = (
        "import cv2, dots, numpy\n"
        "from pave_ros.training.batches import batches\n"
        "cv2.setNumThreads(4)\n"
        "cv2.GaussianBlur(numpy.zeros((1000, 1000, 3), numpy.uint8), (31, 31), 5)\n"
        "for _ in range(2):\n"
        "    print(next(batches(dots.Dots(), [[0]], workers=1, pin_memory=False))[2], cv2.getNumThreads())\n"
        "    cv2.GaussianBlur(numpy.zeros((1000, 1000, 3), numpy.uint8), (31, 31), 5)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["[0] 4", "[0] 4"], done.stderr


def _train_in_process(rank: int, output: Path, port: int) -> None:
    import os

    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    trainer = Trainer(config(output, freeze_norms=True, learning_rate=1e-4), Dots())
    trainer.run()
    torch.distributed.destroy_process_group()


def test_two_processes_reach_the_weights_of_one(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_train_in_process, (tmp_path / "two", port), nprocs=2)
    alone = Trainer(config(tmp_path / "one", freeze_norms=True, learning_rate=1e-4), Dots())
    before = weights(alone)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # As in the two: with more, convolutions are computed in another way.
    try:
        alone.run()
    finally:
        torch.set_num_threads(threads)
    two = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["model"]
    moved = max(float((before[name].float() - value.float()).abs().max()) for name, value in two.items())
    apart = max(float((weights(alone)[name].float() - value.float()).abs().max()) for name, value in two.items())
    # AdamW divides by the gradient's size, so where it is nearly zero rounding decides; hence no exact equality.
    assert apart < moved * 0.05
    mean_apart = sum(float((weights(alone)[n].float() - v.float()).abs().mean()) for n, v in two.items()) / len(two)
    assert mean_apart < 1e-6


def test_the_last_score_comes_though_it_alone_was_missing(tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupted(model: PoseModel) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config(tmp_path, steps=2), Dots(), validate=interrupted).run()
    again = Trainer(config(tmp_path, steps=2), Dots(), validate=lambda model: seen.append(again.step) or {"AP": 0.5})
    again.run()
    assert seen == [2]


def test_an_interrupted_run_goes_on_after_the_step_that_it_was_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer(config(tmp_path / "whole", steps=3), Dots())
    whole.run()
    losses = Trainer._losses

    def interrupted(self: Trainer, batch: Batch) -> dict[str, Tensor]:
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return losses(self, batch)

    monkeypatch.setattr(Trainer, "_losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config(tmp_path / "cut", steps=3), Dots()).run()
    monkeypatch.undo()
    again = Trainer(config(tmp_path / "cut", steps=3), Dots())
    assert again.step == 2
    again.run()
    assert_same(weights(whole), weights(again))


def test_curves_show_a_step_once_that_an_interruption_repeats(tmp_path: Path) -> None:
    whole = Trainer(config(tmp_path, steps=3, log_every=1), Dots())
    whole.run()
    state = torch.load(whole._checkpoint, weights_only=True)
    torch.save({**state, "step": 1}, whole._checkpoint)
    Trainer(config(tmp_path, steps=3, log_every=1), Dots()).run()
    curves = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3]


def test_an_interruption_while_workers_start_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []

    class Loader:
        def __iter__(self) -> Iterator[None]:
            # To another thread, as the system may choose.
            thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
            thread.start()
            thread.join()
            started.append(True)
            return iter(())

    monkeypatch.setattr("pave_ros.training.batches.DataLoader", lambda *_, **__: Loader())
    with pytest.raises(KeyboardInterrupt):
        batches(Dots(), [[0]], workers=1, pin_memory=False)
    assert started


def test_gradients_of_any_size_are_followed_where_none_is_too_large(tmp_path: Path) -> None:
    learnt = {}
    for norm in (0.0, 1e9):
        trainer = Trainer(config(tmp_path / str(norm), warmup=0, weight_decay=0, clip_norm=norm), Dots())
        before = weights(trainer)
        trainer._train_step([next(trainer._batches())])
        learnt[norm] = weights(trainer)
    assert_same(learnt[0.0], learnt[1e9])
    assert any(not torch.equal(value, before[name]) for name, value in learnt[0.0].items())


def test_a_full_disk_is_named_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(config(tmp_path), Dots())
    trainer.save()
    before = trainer._checkpoint.read_bytes()
    with limited_files(4096), pytest.raises(OSError, match=r"File too large: '.*checkpoint\.pt'"):
        trainer.save()
    assert trainer._checkpoint.read_bytes() == before
    with limited_files(4096), pytest.raises(OSError, match=r"File too large: '.*weights\.safetensors'"):
        loading.save(trainer.finished(), trainer.weights_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "weights.safetensors"]


def test_finished_weights_may_be_read_by_whoever_may_read_the_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path), Dots())
    trainer.save()
    assert trainer.weights_file.stat().st_mode == trainer._checkpoint.stat().st_mode


def test_learning_rates_fall_along_a_cosine_from_the_warm_up_to_the_end(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, steps=12, warmup=2, final=0.1), Dots())
    factors = [trainer.learning_rate_factor(step) for step in (0, 1, 2, 7, 12)]
    assert factors == pytest.approx([0.5, 1, 1, 0.55, 0.1])


@pytest.mark.parametrize(("accumulate", "clip_norm"), [(1, 0.0), (2, 0.0), (2, 0.5)])
def test_a_step_takes_the_mean_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, clip_norm: float
) -> None:
    settings = {"batch_size": 2, "accumulate": accumulate, "clip_norm": clip_norm, "warmup": 2}
    trainer = Trainer(config(tmp_path, **settings, backbone_learning_rate=1e-5), Dots())
    parameter = next(p for p in trainer.model.parameters() if p.requires_grad)
    gradients: list[Tensor] = []
    monkeypatch.setattr(trainer, "_criterion", lambda *_: {"sum": parameter.sum()})
    monkeypatch.setattr(trainer._optimizer, "step", lambda *_: gradients.append(parameter.grad.clone()))
    parts = trainer._batches()
    losses = trainer._train_step([next(parts) for _ in range(accumulate)])
    assert losses == {"sum": pytest.approx(float(parameter.sum()))}
    if clip_norm:
        assert float(gradients[0].norm()) == pytest.approx(clip_norm, rel=1e-4)
    else:
        torch.testing.assert_close(gradients[0], torch.ones_like(parameter))
    assert parameter.grad is None, "the next step starts from nothing"
    assert {group["lr"] for group in trainer._optimizer.param_groups} == {0.5e-3, 0.5e-5}


def test_averages_follow_faster_in_the_beginning(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, ema_decay=0.5, ema_warmup=4), Dots())
    for count, share in ((0, 1 - 0.5 * (1 - 0.7788)), (3, 1 - 0.5 * (1 - 0.3679)), (1000, 0.5)):
        averaged = trainer._average(torch.zeros(1), torch.ones(1), count)
        assert float(averaged) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_norms_keep_their_statistics_where_they_are_frozen(tmp_path: Path, frozen: bool) -> None:
    trainer = Trainer(config(tmp_path, freeze_norms=frozen), Dots())
    trainer._to_training_mode()
    norms = [module for module in trainer.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and {norm.training for norm in norms} == {not frozen} and trainer.model.training


def test_what_is_frozen_stays_so_and_goes_on_with_the_same_alone(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, frozen=("backbone.",), weight_decay=0.1), Dots())
    for name, parameter in trainer.model.named_parameters():
        assert not (parameter.requires_grad and name.startswith("backbone.")), name
    assert any(parameter.requires_grad for parameter in trainer.model.parameters())
    trainer.save()
    resumed = Trainer(config(tmp_path, frozen=("backbone.",), weight_decay=0.2), Dots())
    assert {group["weight_decay"] for group in resumed._optimizer.param_groups} == {0.2}
    with pytest.raises(TrainingError, match="of a run whose frozen is"):
        Trainer(config(tmp_path, frozen=("encoder.",)), Dots())


def test_a_network_is_scored_every_so_often_and_once_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    trainer = Trainer(
        config(tmp_path, steps=4, validate_every=2), Dots(), lambda model: scored.append(trainer.step) or {}
    )
    monkeypatch.setattr(trainer, "_train_step", lambda batch: {"loss": 0.0})
    trainer.run()
    assert scored == [2, 4]


def test_finished_weights_keep_what_a_backbone_brought_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "imagenet.safetensors"
    state = timm.create_model(models.create("detrpose_n").backbone_name).state_dict()
    save_file({name: value + 1 for name, value in state.items()}, file)
    trainer = Trainer(config(tmp_path, backbone=file, start_share=1.0), Dots())
    start = weights(trainer)
    with torch.no_grad():
        for parameter in trainer.averaged.module.parameters():
            parameter += 1
    for name, value in dict(trainer.finished().named_parameters()).items():
        torch.testing.assert_close(value, start[name] + (not name.startswith("backbone.")), msg=name)
