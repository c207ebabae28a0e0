"""Settings of a training: what they may be, and clear refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from dots import Dots, config
from stored import cache as cache

from pave_ros import models
from pave_ros.cli.train import train
from pave_ros.training.config import TrainingConfig
from pave_ros.training.samples import samples_of
from pave_ros.training.settings import ConfigError
from pave_ros.training.sources import Mixture
from pave_ros.training.trainer import Trainer, TrainingError


@pytest.mark.parametrize(("setting", "value"), [("frozen", ("backbne",)), ("learning_rates", {"backbne": 1e-4})])
def test_names_that_no_parameter_has_are_refused(tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{setting}: no parameter's name .* 'backbne'"):
        Trainer(config(tmp_path, **{setting: value}), Dots())


@pytest.mark.parametrize(("line", "reason"), [
    ("learning_rate: fast", "learning_rate: input should be a valid number, unable to parse string as a number, not"),
    ("learning_rate:", "learning_rate: input should be a valid number, not None"),
    ("learning_rate: .nan", "learning_rate: input should be a finite number, not nan"),
    ("learning_rates: {flow.: -1}", "learning_rates have to be at least 0, not {'flow.': -1.0}"),
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


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "config/training").iterdir()), ids=lambda p: p.stem
)
def test_what_comes_with_the_project_names_parts_that_there_are(path: Path) -> None:
    settings = TrainingConfig.read(path)
    model = models.create(settings.model, skeleton=settings.skeleton, **settings.model_options)
    names = [name for name, _ in model.named_parameters()]
    assert all(any(name.startswith(part) for name in names) for part in settings.frozen)
    assert all(any(part in name for name in names) for part in settings.learning_rates)
    Mixture.from_dict(
        {"cache": ".", "weights": {}, **{k: v for k, v in settings.data.items() if k not in ("clips", "crops")}}
    )


def test_pictures_take_their_size_and_chance_from_beside_the_data(cache: Path) -> None:
    data = {"cache": cache, "weights": {"one": 1}}
    pictures = [
        samples_of(config(cache, data=data, input_size=(96, 64), seed=seed, skeleton=skeleton))[0]
        for seed, skeleton in ((0, "coco17"), (1, "coco17"), (0, "crowdpose14"))
    ]
    assert {image.shape for image, _ in pictures} == {(3, 96, 64)}
    assert [people.keypoints.shape[1] for _, people in pictures] == [17, 17, 14]
    assert not torch.equal(pictures[0][0], pictures[1][0])
