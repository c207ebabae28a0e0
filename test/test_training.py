"""Losses by hand, the matcher against brute force, and a loop that repeats, resumes and runs in parallel."""

from __future__ import annotations

import math
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import permutations
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from pave_ros import models
from pave_ros.checkpoints import loading
from pave_ros.cli.train import train
from pave_ros.models.base import PoseModel
from pave_ros.models.detrpose import Prediction
from pave_ros.training import detrpose
from pave_ros.training.batches import batches
from pave_ros.training.config import TrainingConfig
from pave_ros.training.detrpose import DETRPoseCriterion, noised_queries
from pave_ros.training.matching import Matcher, keypoint_similarity, union
from pave_ros.training.settings import ConfigError
from pave_ros.training.store import StoreError
from pave_ros.training.target import Target
from pave_ros.training.trainer import Trainer, TrainingError

SIGMAS = torch.tensor([0.05, 0.1])


def target(people: int, keypoints: int = 2, seed: int = 0) -> Target:
    generator = torch.Generator().manual_seed(seed)
    return Target(
        keypoints=torch.rand(people, keypoints, 2, generator=generator),
        labelled=torch.ones(people, keypoints, dtype=torch.bool),
        areas=torch.full((people,), 0.1),
        ignored=torch.zeros(0, 4),
        visible=torch.ones(people, keypoints, dtype=torch.bool),
        bare=torch.zeros(0, 4),
        boxes=torch.full((people, 4), 0.1),
    )


# --- matching ---------------------------------------------------------------------------------------------------


def test_similarity_by_hand() -> None:
    truth = torch.tensor([[[0.5, 0.5], [0.2, 0.2]]])
    guess = torch.tensor([[[0.5, 0.6], [0.9, 0.9]]])
    area = torch.tensor([0.1])
    both = keypoint_similarity(guess, truth, torch.tensor([[True, True]]), area, SIGMAS)
    first = math.exp(-(0.1**2) / (2 * 0.1 * 0.1**2))
    second = math.exp(-(2 * 0.7**2) / (2 * 0.1 * 0.2**2))
    assert float(both) == pytest.approx((first + second) / 2, rel=1e-4)
    only_first = keypoint_similarity(guess, truth, torch.tensor([[True, False]]), area, SIGMAS)
    assert float(only_first) == pytest.approx(first, rel=1e-4)


def test_matcher_finds_the_cheapest_of_all_assignments() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, keypoints = torch.randn(5, 2, generator=generator), torch.rand(5, 2, 2, generator=generator)
    people = target(3)
    matcher = Matcher(SIGMAS, 1, 2.0, 10.0, 4.0)
    cost = matcher.cost(logits, keypoints, people)
    ((queries, matched),) = matcher(logits[None], keypoints[None], [people])
    found = float(cost[queries, matched].sum())
    cheapest = min(sum(float(cost[q, m]) for m, q in enumerate(order)) for order in permutations(range(5), 3))
    assert found == pytest.approx(cheapest, rel=1e-6)


def test_cost_by_hand() -> None:
    matcher = Matcher(SIGMAS, 1, 2.0, 10.0, 4.0)
    one = replace(target(1), keypoints=torch.tensor([[[0.5, 0.5], [0.2, 0.2]]]), labelled=torch.tensor([[True, False]]))
    cost = matcher.cost(torch.tensor([[9.0, 0.0]]), torch.tensor([[[0.6, 0.5], [0.0, 0.0]]]), one)
    p = 0.5
    focal = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
    oks = math.exp(-(0.1**2) / (2 * 0.1 * 0.1**2))
    assert float(cost) == pytest.approx(2 * focal + 10 * 0.1 + 4 * (1 - oks), rel=1e-4)


def test_union_takes_the_most_frequent_person_of_every_query() -> None:
    a = [(torch.tensor([0, 1]), torch.tensor([0, 1]))]
    b = [(torch.tensor([0, 2]), torch.tensor([1, 0]))]
    c = [(torch.tensor([0, 1]), torch.tensor([1, 0]))]
    ((queries, people),) = union([a, b, c])
    pairs = dict(zip(queries.tolist(), people.tolist(), strict=True))
    assert pairs[0] == 1 and pairs[2] == 0 and set(pairs) == {0, 1, 2}


# --- losses -----------------------------------------------------------------------------------------------------


def prediction(logits: list[list[float]], keypoints: Tensor) -> Prediction:
    return Prediction(torch.tensor([logits]), keypoints[None])


def coco_target() -> Target:
    return target(1, keypoints=17)


def test_varifocal_loss_by_hand() -> None:
    people = coco_target()
    criterion = DETRPoseCriterion("coco17")
    exact = people.keypoints[0]
    guess = prediction([[0.0, 1.0], [0.0, -1.0]], torch.stack((exact, exact + 1)))
    loss = criterion.class_loss(guess, [people], [(torch.tensor([0]), torch.tensor([0]))])

    def bce(logit: float, wanted: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(wanted * math.log(p) + (1 - wanted) * math.log(1 - p))

    def unmatched(logit: float) -> float:
        return 0.25 * (1 / (1 + math.exp(-logit))) ** 2 * bce(logit, 0)

    # The matched query lies on the person (OKS 1), so its weight and wanted score are both 1.
    assert float(loss) == pytest.approx(2 * (bce(1.0, 1.0) + 2 * unmatched(0.0) + unmatched(-1.0)), rel=1e-4)


def test_unmatched_queries_count_nothing_in_ignored_regions() -> None:
    criterion = DETRPoseCriterion("coco17")
    nobody = replace(target(0, keypoints=17), ignored=torch.tensor([[0.4, 0.4, 0.2, 0.2]]))
    nothing = [(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))]
    within = prediction([[0.0, 3.0]], torch.full((1, 17, 2), 0.5))
    outside = prediction([[0.0, 3.0]], torch.full((1, 17, 2), 0.7))
    assert float(criterion.class_loss(within, [nobody], nothing)) == 0
    assert float(criterion.class_loss(outside, [nobody], nothing)) > 0


def test_keypoint_losses_by_hand() -> None:
    criterion = DETRPoseCriterion("coco17")
    people = coco_target()
    people.labelled[0, 5:] = False
    guess = prediction([[0.0, 0.0]], people.keypoints + torch.tensor([0.01, -0.02]))
    l1, oks = criterion.keypoint_losses(guess, [people], [(torch.tensor([0]), torch.tensor([0]))])
    assert float(l1) == pytest.approx(10 * 5 * 0.03, rel=1e-4)
    sigmas = (0.026, 0.025, 0.025, 0.035, 0.035)
    similar = sum(math.exp(-(0.01**2 + 0.02**2) / (2 * 0.1 * (2 * s) ** 2)) for s in sigmas) / 5
    assert float(oks) == pytest.approx(4 * (1 - similar), rel=1e-3)


def test_noise_is_measured_in_oks_and_groups_do_not_see_each_other() -> None:
    people = coco_target()
    noised, groups = noised_queries([people, target(0, 17)], DETRPoseCriterion("coco17").matcher.sigmas, seeds=[3, 4])
    assert noised is not None and groups == 20
    assert noised.points.shape == (2, 40, 17, 2)
    assert noised.used[0].all() and not noised.used[1].any()
    inner = ((people.keypoints > 0.1) & (people.keypoints < 0.9)).all(-1)[0]  # where nothing is clamped
    sigmas = DETRPoseCriterion("coco17").matcher.sigmas
    squared = (noised.points[0] - people.keypoints[0]).square().sum(-1)
    oks = torch.exp(-squared / (2 * 0.1 * (2 * sigmas) ** 2))[:, inner]
    assert (oks[0::2] >= 0.5 - 1e-3).all(), "slightly noised"
    assert (oks[1::2] <= 0.5 + 1e-3).all() and (oks[1::2] >= 0.1 - 1e-3).all(), "strongly noised"
    mask = noised.mask(60)
    assert not mask[0, 1] and mask[0, 2]
    assert mask[40:, :40].all() and not mask[:, 40:].any()


def test_a_batch_without_people_trains_too() -> None:
    model = models.create("detrpose_n").train()
    criterion = DETRPoseCriterion("coco17")
    losses = criterion(detrpose.TrainingForward(model), torch.rand(2, 3, 96, 96), [target(0, 17)] * 2, [0, 1])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)


# --- the loop ---------------------------------------------------------------------------------------------------


class Dots:
    """Pictures of one person each, made of its number."""

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, 96, 96), generator=generator, dtype=torch.uint8)
        return image, target(1 + index % 2, 17, seed=index)


class Broken(Dots):
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, people = super().__getitem__(index)
        return image, replace(people, keypoints=people.keypoints * float("nan"))


class Torn(Dots):
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if index == 5:
            raise StoreError("coco.bin: a picture cannot be read")
        return super().__getitem__(index)


def config(output: Path, **changes: object) -> TrainingConfig:
    settings: dict[str, object] = {
        "model": "detrpose_n", "output": output, "data": {}, "steps": 4, "batch_size": 4, "workers": 0,
        "warmup": 2, "learning_rate": 1e-3, "ema_warmup": 2, "log_every": 1,
    }  # fmt: skip
    return TrainingConfig(**{**settings, **changes})  # type: ignore[arg-type]


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


@pytest.mark.parametrize("setting", ["frozen", "like_backbone"])
def test_names_that_no_parameter_has_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}: no parameter's name .* 'backbne'"):
        Trainer(config(tmp_path, **{setting: ("backbne",)}), Dots())


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


@pytest.mark.parametrize(("line", "reason"), [
    ("learning_rate: fast", "learning_rate: input should be a valid number, unable to parse string as a number, not"),
    ("learning_rate:", "learning_rate: input should be a valid number, not None"),
    ("learning_rate: .nan", "learning_rate: input should be a finite number, not nan"),
    ("learning_rate: -1", "learning_rate has to be at least 0, not -1.0"),
    ("warmup: 1.5", "warmup: input should be a valid integer, got a number with a fractional part, not 1.5"),
    ("workers:", "workers: input should be a valid integer, not None"),
    ("ema_decay: 2", "ema_decay has to be from 0 to 1, not 2.0"),
    ("frozen: backbone.", "frozen: input should be a valid tuple, not 'backbone.'"),
    ("frozen: [1]", "frozen.0: input should be a valid string, not 1"),
    ("input_size: 256", "input_size: input should be a valid tuple, not 256"),
    ("input_size: [a, 64]", "input_size.0: input should be a valid integer"),
    ("input_size: [0, 64]", "input_size has to be a height and a width, not [0, 64]"),
    ("milestones: [-3, 100]", "milestones have to be at least 1, not [-3, 100]"),
    ("freeze_norms: maybe", "freeze_norms: input should be a valid boolean"),
])  # fmt: skip
def test_settings_of_a_wrong_type_are_named(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "c.yaml"
    common = "model: detrpose_n\noutput: out\ndata: {}\nsteps: 4\nbatch_size: 2\n"
    file.write_text(common + line)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        TrainingConfig.read(file)
    file.write_text(common + "learning_rate: 1e-4\nwarmup: 2.0")  # text, and no whole number, to YAML
    read = TrainingConfig.read(file)
    assert (read.learning_rate, read.warmup) == (1e-4, 2) and isinstance(read.warmup, int)
    with pytest.raises(ConfigError, match="objective_options: .*surprise"):
        Trainer(config(tmp_path, objective_options={"surprise": 1}), Dots())


def test_options_that_a_network_cannot_have_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model_options: .*negative"):
        Trainer(config(tmp_path, model="poet_r50", model_options={"queries": -1}), Dots())


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


def test_learning_rates_step_down_at_milestones(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, steps=30, milestones=(10, 20), milestone_factor=0.5, final=0.1), Dots())
    assert [trainer.learning_rate_factor(step) for step in (0, 1, 9, 10, 19, 20)] == [0.5, 1, 1, 0.5, 0.5, 0.25]


def test_what_is_like_the_backbone_learns_at_its_rate(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, backbone_learning_rate=1e-5, like_backbone=("sampling_offsets",)), Dots())
    rates = {id(p): group["peak"] for group in trainer._optimizer.param_groups for p in group["params"]}
    found = {
        part: {rates[id(p)] for name, p in trainer.model.named_parameters() if part in name and p.requires_grad}
        for part in ("backbone.", "sampling_offsets", "attention_weights")
    }
    assert found == {"backbone.": {1e-5}, "sampling_offsets": {1e-5}, "attention_weights": {1e-3}}


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
        "import cv2, numpy, test_training as t\n"
        "cv2.setNumThreads(4)\n"
        "cv2.GaussianBlur(numpy.zeros((1000, 1000, 3), numpy.uint8), (31, 31), 5)\n"
        "for _ in range(2):\n"
        "    print(next(t.batches(t.Dots(), [[0]], workers=1, pin_memory=False))[2], cv2.getNumThreads())\n"
        "    cv2.GaussianBlur(numpy.zeros((1000, 1000, 3), numpy.uint8), (31, 31), 5)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["[0] 4", "[0] 4"], done.stderr


@pytest.mark.parametrize(("model", "options", "reason"), [
    ("detrpose_n", {"denoising": -1}, "denoising has to be at least 0, not -1"),
    ("detrpose_n", {"denoising": "many"}, "denoising: input should be a valid integer"),
    ("pavenet_lite", {"class_cost": None}, "class_cost: input should be a valid number, not None"),
    ("pavenet_lite", {"keypoints": 3}, "keypoints: input should be a valid"),
    ("pavenet_lite", {"keypoints": {"token": 1}}, "keypoints: unknown part token"),
    ("tarvitpose_s", {"per_picture": 0}, "per_picture has to be at least 1, not 0"),
    ("tarvitpose_s", {"size": [1]}, "size.1: field required, not [1]"),
    ("tarvitpose_s", {"size": [100, 96]}, "size has to be a height and a width, multiples of 16, not [100, 96]"),
    ("vitpose_s", {"per_picture": "x"}, "per_picture: input should be a valid integer"),
])  # fmt: skip
def test_options_of_an_objective_are_checked(model: str, options: dict[str, object], reason: str) -> None:
    system = import_module(f"pave_ros.training.{model.partition('_')[0]}")
    with pytest.raises(ConfigError, match=re.escape(f"objective_options: {reason}")):
        system.criterion("coco17", **options)


@pytest.mark.parametrize("model", ["detrpose", "poet", "querypose", "centernet"])
def test_weights_of_losses_may_be_others(model: str) -> None:
    system = import_module(f"pave_ros.training.{model}")
    usual, other = system.criterion("coco17").weights, system.criterion("coco17", keypoints="3e1").weights
    assert (other.keypoints, replace(other, keypoints=usual.keypoints)) == (30, usual)
    with pytest.raises(ConfigError, match=r"objective_options: unknown setting surprise; known: .*classes|centres"):
        system.criterion("coco17", surprise=1)


def test_inputs_that_the_network_cannot_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input_size 100x96 \(height x width\): detrpose_n takes multiples of 32"):
        Trainer(config(tmp_path, input_size=(100, 96)), Dots())


def test_clips_are_for_video_models(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"model: detrpose_n\noutput: {tmp_path}\ndata: {{clips: {{}}}}\nsteps: 1\nbatch_size: 1\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: data: clips: detrpose_n looks at single pictures, not at clips"):
        train(file)


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


@pytest.mark.parametrize(("model", "data", "reason"), [
    ("detrpose_n", "crops: {}", "crops: detrpose_n looks at whole pictures, not at crops"),
    ("simplebaseline_lite", "weights: {}", "crops: simplebaseline_lite looks at one person's crop, so it needs them"),
    ("detrpose_n", "input_size: [64, 64]", "input_size stands beside data, not in it"),
])  # fmt: skip
def test_data_that_a_model_cannot_learn_from_are_refused(tmp_path: Path, model: str, data: str, reason: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"model: {model}\noutput: {tmp_path}\ndata: {{{data}}}\nsteps: 1\nbatch_size: 1\n")
    with pytest.raises(ConfigError, match=re.escape(f"c.yaml: data: {reason}")):
        train(file)


def test_batches_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="batch_size 4 is no multiple"):
        Trainer(config(tmp_path, accumulate=3), Dots())


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs there, see test_on_gpu")
def test_half_precision_is_for_gpus(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="fp16 is for CUDA"):
        Trainer(config(tmp_path, precision="fp16"), Dots())


def test_configuration_files(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    settings = config(tmp_path / "out", input_size=(96, 96))
    path.write_text(settings.to_yaml())
    assert TrainingConfig.read(path) == settings
    path.write_text("model: detrpose_n\nlearning_rat: 1\n")
    with pytest.raises(ConfigError, match="unknown setting learning_rat; .*learning_rate"):
        TrainingConfig.read(path)
    path.write_text("model: detrpose_n\n")
    with pytest.raises(ConfigError, match="'output' is missing"):
        TrainingConfig.read(path)
    with pytest.raises(ConfigError, match="no such"):
        TrainingConfig.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("value", ["2001-99-01", "0x_", "9" * 5000, "[" * 5000, "!!bool x"])
def test_what_is_no_yaml_is_named(value: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"seed: {value}")
    with pytest.raises(ConfigError, match=r"run\.yaml: not readable as YAML \("):
        TrainingConfig.read(path)


def test_aliases_make_no_huge_messages(tmp_path: Path) -> None:
    """Where each stands for ten of the one before."""
    path = tmp_path / "run.yaml"
    lists = "- &a0 [x]\n" + "".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8))
    for content in (lists, "model: m\noutput: o\nsteps: 1\nbatch_size: 1\ndata:\n" + lists):
        path.write_text(content)
        with pytest.raises(ConfigError, match="not \\[") as caught:
            TrainingConfig.read(path)
        assert len(str(caught.value)) < 1000
    torch.save({"config": "frozen:\n" + lists}, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="of a run whose frozen is") as stopped:
        Trainer(config(tmp_path), Dots())
    assert len(str(stopped.value)) < 1000


@pytest.mark.parametrize(("variant", "reaches"), [("n", 0), ("s", 4)])
def test_training_starts_as_published(variant: str, reaches: int) -> None:
    model = models.create("detrpose", variant)
    features = model.encode(torch.rand(1, 3, 128, 128))
    best = model.selection(features)
    assert 0 < float(best.logits.detach().sigmoid().mean()) < 0.05, "nobody is likely"
    assert float(best.keypoints.detach().var(2).max()) < 1e-9, "all joints are where their cell is"
    for layer in model.decoder.layers:
        offsets = layer.cross_attn.sampling_offsets
        assert not offsets.weight.any() and float(offsets.bias.abs().max()) == reaches
