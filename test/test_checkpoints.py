"""Published files in and out; broken and hostile files."""

from __future__ import annotations

import os
import re
import sys
import tarfile
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import save_file

from pave_ros import models, skeletons
from pave_ros.checkpoints import loading, packing, unpickling
from pave_ros.checkpoints.layout import published_state, rows_of
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.skeletons import Skeleton

GOLDEN = Path(__file__).parent / "golden"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> State:
    """A state dict in the published layout, as the published code saves it."""
    spec, arrays = reference.read(GOLDEN / "detrpose_n.json")
    path = tmp_path_factory.mktemp("published") / "n.pth"
    reference.write_checkpoint(path, spec, arrays)
    return torch.load(path, weights_only=True)


def loaded(path: Path, content: object) -> State:
    torch.save(content, path)
    return loading.open_model("detrpose_n", path).state_dict()


def test_bare_wrapped_and_averaged_checkpoints(published: State, tmp_path: Path) -> None:
    other = {key: torch.zeros_like(value) for key, value in published.items()}
    bare = loaded(tmp_path / "bare.pth", published)
    wrapped = loaded(tmp_path / "wrapped.pth", {"model": published, "epoch": 3})
    averaged = loaded(tmp_path / "ema.pth", {"model": other, "ema": {"module": published, "updates": 7}})
    settings = loaded(tmp_path / "settings.pth", {"ema": {"decay": 0.999}, "model": published})
    assert all(torch.equal(settings[key], bare[key]) for key in bare)
    parallel = loaded(tmp_path / "ddp.pth", {"model": {f"module.{k}": v for k, v in published.items()}})
    for state in (wrapped, averaged, parallel):
        assert all(torch.equal(state[key], bare[key]) for key in bare)


def test_written_checkpoints_are_the_published_ones(published: State, tmp_path: Path) -> None:
    torch.save(published, tmp_path / "in.pth")
    model = loading.open_model("detrpose_n", tmp_path / "in.pth")
    for name in ("out.pth", "out.safetensors"):
        loading.save(model, tmp_path / name)
        written = loading.read(tmp_path / name)
        assert written.keys() == published.keys()
        for key, value in published.items():
            # The anchors are computed anew, and logarithms differ in the last bit from processor to processor.
            tolerance = 1e-6 if key == "transformer.anchors" else 0
            restored = written[key].reshape(value.shape).to(value.dtype)
            torch.testing.assert_close(restored, value, rtol=tolerance, atol=tolerance)


def test_a_network_that_was_fused_is_not_saved(tmp_path: Path) -> None:
    """The layout asks for what fusing has folded away."""
    path = tmp_path / "n.pth"
    with pytest.raises(ValueError, match=r"n\.pth: the network was fused for running"):
        loading.save(models.create("detrpose_n").fuse(), path)
    assert not path.exists()


def test_large_weights_in_eight_bits(tmp_path: Path) -> None:
    model = models.create("centernet_lite")
    path = tmp_path / "packed.safetensors"
    loading.save(model, path, bits=8)
    numbers = sum(value.numel() for value in model.state_dict().values())
    assert path.stat().st_size < 1.1 * numbers + 1e5
    again = loading.open_model("centernet_lite", path).state_dict()
    for key, value in model.state_dict().items():
        # Of each output the largest weight is 127 steps, or a few more where it is cut off for the sake of the others.
        if value.dim() > 1 and value.numel() >= packing.LEAST:
            step = value.flatten(1).abs().amax(1) / 127
            off = (again[key] - value).flatten(1)
            assert (off.square().mean(1).sqrt() < 0.36 * step).all() and off.abs().max() > 0
        else:
            torch.testing.assert_close(again[key], value, rtol=1e-3, atol=1e-6)


def test_eight_bits_cut_an_outlier_off_where_it_serves_the_others() -> None:
    row = torch.linspace(-1, 1, packing.LEAST)
    rows = torch.stack((row, row))
    rows[1, 0] = 1.1
    packed = packing.pack({"weight": rows})
    assert packed["weight"].dtype == torch.int8 and packed["weight.scale"].shape == (2, 1)
    torch.testing.assert_close(packed["weight.scale"][:, 0] * 127, torch.tensor([1.0, 1.1 * 0.94]))
    assert packing.unpack(packed)["weight"][1, 0] == pytest.approx(1.1 * 0.94)


def test_eight_bits_without_their_scale_are_refused(tmp_path: Path) -> None:
    weight = torch.zeros(4, 3, dtype=torch.int8)
    for scale in ({}, {"weight.scale": torch.ones(4)}, {"weight.scale": torch.ones(1, 1)}):
        save_file({"weight": weight, **scale}, tmp_path / "broken.safetensors")
        with pytest.raises(CheckpointError, match=r"broken\.safetensors: key 'weight' .* no scale"):
            loading.read(tmp_path / "broken.safetensors")
    torch.save({"weight": weight, "weight.scale": torch.ones(4, 1, dtype=torch.complex64)}, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=r"broken\.pth: key 'weight' .* no scale"):
        loading.read(tmp_path / "broken.pth")


def test_weights_beyond_sixteen_bits_are_not_packed(tmp_path: Path) -> None:
    model = models.create("centernet_lite")
    next(model.parameters()).data.flatten()[0] = float("nan")
    with pytest.raises(ValueError, match="beyond what float16 holds, or not finite"):
        loading.save(model, tmp_path / "packed.safetensors", bits=8)
    assert not (tmp_path / "packed.safetensors").exists()


def test_safetensors(published: State, tmp_path: Path) -> None:
    save_file(published, tmp_path / "n.safetensors")
    model = loading.open_model("detrpose_n", tmp_path / "n.safetensors")
    assert torch.equal(
        model.state_dict()["decoder.class_heads.0.weight"], published["transformer.class_embed.0.weight"]
    )


def test_the_head_of_the_file_decides_the_skeleton(tmp_path: Path) -> None:
    loading.save(models.create("detrpose", "n", skeleton="crowdpose14"), tmp_path / "crowd.pth")
    assert loading.open_model("detrpose_n", tmp_path / "crowd.pth").info.skeleton == "crowdpose14"


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_that_we_wrote_keeps_its_skeleton(tmp_path: Path, ending: str) -> None:
    """Of several with as many keypoints."""
    path = tmp_path / f"trained.{ending}"
    loading.save(models.create("detrpose", "n", skeleton="posetrack17"), path)
    assert loading.open_model("detrpose_n", path).info.skeleton == "posetrack17"
    loading.save(models.create("tarvitpose", "s", skeleton="coco17"), path)
    assert loading.open_model("tarvitpose_s", path).info.skeleton == "coco17"


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_skeleton_that_is_not_known_here_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Its joints would get the names of others."""
    theirs = Skeleton("theirs17", skeletons.get("coco17").keypoints[::-1], (), skeletons.get("coco17").sigmas)
    path = tmp_path / f"trained.{ending}"
    with monkeypatch.context() as patch:
        patch.setitem(skeletons.SKELETONS, theirs.name, theirs)
        loading.save(models.create("detrpose", "n", skeleton=theirs.name), path)
    with pytest.raises(CheckpointError, match=f"trained.{ending}: its keypoint layout is 'theirs17', .* known: coco17"):
        loading.open_model("detrpose_n", path)


def test_what_batch_normalisation_has_counted_may_be_missing_or_too_much(published: State, tmp_path: Path) -> None:
    """It is of no use any more, and tools drop it."""
    bare = {key: value for key, value in published.items() if not key.endswith("num_batches_tracked")}
    assert len(bare) < len(published)
    found, known = loaded(tmp_path / "bare.pth", bare), loaded(tmp_path / "whole.pth", published)
    assert all(torch.equal(known[key], value) for key, value in found.items() if "num_batches" not in key)
    loaded(tmp_path / "more.pth", {**published, "transformer.num_batches_tracked": torch.tensor(3)})


@pytest.mark.parametrize("key", [
    "decoder.layers.0.attentions.1.pre_sampling_offsets.weight", "refine_decoder.layers.1.norms.0.weight",
    "encoder.layers.5.norms.0.weight",
])  # fmt: skip
def test_what_tells_the_size_of_a_network_may_be_missing_too(key: str, tmp_path: Path) -> None:
    """It is named all the same."""
    spec, arrays = reference.read(GOLDEN / "pavenet_res50.json")
    reference.write_checkpoint(tmp_path / "whole.pth", spec, arrays)
    state = dict(loading.read(tmp_path / "whole.pth"))
    del state[f"bbox_head.transformer.{key}"]
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=rf"part\.pth: key 'bbox_head\.transformer\.{key}' is missing"):
        loading.open_model("pavenet_r50", tmp_path / "part.pth")


def test_a_wrong_number_in_a_key_makes_no_huge_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, wrong = tmp_path / "pavenet.pth", "bbox_head.transformer.decoder.layers.300.norms.0.weight"
    model = models.create("pavenet_lite")
    torch.save({"state_dict": published_state(model, loading.layout_of("pavenet")) | {wrong: torch.zeros(1)}}, path)
    made: list[int] = []
    create = models.create
    monkeypatch.setattr(models, "create", lambda name, **o: made.append(o["pose_layers"]) or create(name, **o))
    with pytest.raises(CheckpointError, match="pavenet.pth: key "):
        loading.open_model("pavenet_lite", path)
    assert made and max(made) < 10


@pytest.mark.parametrize("queries", [
    torch.zeros(1).as_strided((4_000_000, 512), (0, 0)), torch.zeros(4_000_000, 512, device="meta"),
])  # fmt: skip
def test_a_shape_that_the_file_does_not_fill_makes_no_huge_network(queries: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"model": {"query_embed.weight": queries}}, tmp_path / "poet.pth")
    claim = re.escape("poet.pth: key 'query_embed.weight' claims the shape (4000000, 512), more than the file holds")
    with pytest.raises(CheckpointError, match=claim):
        loading.open_model("poet_r50", tmp_path / "poet.pth")
    assert not rows_of({"queries": torch.zeros(4_000_000, 0)}, "queries")


def test_the_state_of_a_training_is_not_taken_for_its_weights(published: State, tmp_path: Path) -> None:
    """They would be those of the last step, not the averaged ones."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 5, "model": published, "averaged": published, "config": ""}, path)
    with pytest.raises(CheckpointError, match="checkpoint.pt: the state of a training.*weights.safetensors beside it"):
        loading.read(path)


def test_the_first_wrong_key_and_the_file_are_named(published: State, tmp_path: Path) -> None:
    key = "transformer.enc_output.weight"
    missing = {k: v for k, v in published.items() if k != key}
    with pytest.raises(CheckpointError, match=rf"missing\.pth.*{key}.*missing"):
        loaded(tmp_path / "missing.pth", missing)
    with pytest.raises(CheckpointError, match=r"extra\.pth.*transformer\.surprise.*superfluous"):
        loaded(tmp_path / "extra.pth", {**published, "transformer.surprise": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=rf"shape\.pth.*{key}.*\(3, 4\).*\(128, 128\)"):
        loaded(tmp_path / "shape.pth", {**published, key: torch.zeros(3, 4)})


def test_numbers_that_are_none_are_named(published: State, tmp_path: Path) -> None:
    key = "transformer.decoder.layers.0.linear1.weight"
    weights = published[key]
    beyond = "numbers that are not finite in torch.float32"
    for value, problem in (
        (weights / 0, beyond),
        (weights.double() * 1e300, beyond),
        (torch.complex(weights, weights), "torch.complex64, and not torch.float32"),
        (weights.to(torch.float8_e4m3fn), "torch.float8_e4m3fn, and not torch.float32"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(f"odd.pth: key '{key}' holds {problem}")):
            loaded(tmp_path / "odd.pth", {**published, key: value})


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_tensors_that_are_nested_are_refused(tmp_path: Path) -> None:
    torch.save({"odd": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}, tmp_path / "nested.pth")
    # PyTorch 2.15 does not read them by itself any more.
    with pytest.raises(
        CheckpointError, match=r"nested\.pth: (key 'odd' holds a sparse or nested tensor|.*nested_tensor)"
    ):
        loading.read(tmp_path / "nested.pth")


def test_exported_files_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\n")
    with pytest.raises(CheckpointError, match=r"a\.onnx: an exported file; a checkpoint is wanted \(\.pth, \.pt,"):
        loading.open_model("detrpose_n", tmp_path / "a.onnx")


def test_a_file_of_another_variant_is_refused_and_changes_nothing(published: State, tmp_path: Path) -> None:
    torch.save(published, tmp_path / "n.pth")
    model = models.create("detrpose_s")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="detrpose_s"):
        loading.load(model, tmp_path / "n.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["model", "args"])
def test_code_in_a_checkpoint_does_not_run(published: State, tmp_path: Path, place: str) -> None:
    torch.save({"model": published, place: Hostile(tmp_path / "harm")}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match=r"hostile\.pth: refused.*could run code \(\w+\.mkdir\)$"):
        loading.read(tmp_path / "hostile.pth")
    assert not (tmp_path / "harm").exists()


def foreign(monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type = object) -> Any:
    """A class of a library that is not installed, but can be pickled."""
    made = type(name, (base,), {"__module__": module, "mean": lambda self: 0})
    for package in accumulate(module.split("."), "{}.{}".format):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    setattr(sys.modules[module], name, made)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_leaves_beside_the_tensors(
    published: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    """Arguments as DETRPose saves them, and the histories and scores of mmengine."""
    path = tmp_path / "trained.pth"
    with monkeypatch.context() as patch:
        settings = foreign(patch, "omegaconf.dictconfig", "DictConfig")()
        settings.content = {"lr": 0.1, "type": int, "flags": defaultdict(list, {"a": [1]})}
        history = foreign(patch, "mmengine.logging.history_buffer", "HistoryBuffer")()
        history.values, history.methods = np.arange(3.0), {"mean": history.mean}
        config = foreign(patch, "mmcv.utils.config", "ConfigDict", dict)(lr=0.1, data={"workers": 2})
        extra = {
            "cfg": config,
            "args": settings,
            "message_hub": {"loss": history},
            "best": np.float64(0.7),
            "path": Path("x"),
        }
        torch.save({"model": published, **extra}, path, _use_new_zipfile_serialization=zipped)
    assert loading.read(path).keys() == published.keys()


@pytest.mark.parametrize("module", [b"pathlib", b"pathlib._local"], ids=["before and after", "Python 3.13"])
@pytest.mark.parametrize("kind", [b"PosixPath", b"WindowsPath"])
def test_paths_are_read_whatever_python_wrote_them(tmp_path: Path, module: bytes, kind: bytes) -> None:
    path = tmp_path / "trained.pth"
    torch.save({"model": {"w": torch.ones(2)}, "path": Path("x")}, path, _use_new_zipfile_serialization=False)
    content, changed = re.subn(rb"cpathlib(\._local)?\nPosixPath\n", b"c%b\n%b\n" % (module, kind), path.read_bytes())
    path.write_bytes(content)
    assert changed == 1 and loading.read(path)["w"].tolist() == [1, 1]


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        loading.read(tmp_path / "nowhere.pth")
    for name in ("garbage.pth", "garbage.safetensors"):
        (tmp_path / name).write_bytes(b"<!DOCTYPE html> this is a download page")
        with pytest.raises(CheckpointError, match=name):
            loading.read(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"garbage\.pth: not a checkpoint, it begins with b'<!DOCTYPE"):
        loading.read(tmp_path / "garbage.pth")
    torch.save({0: torch.zeros(1)}, tmp_path / "numbered.pth")
    with pytest.raises(CheckpointError, match=r"key 0 is a int, not the name"):
        loading.read(tmp_path / "numbered.pth")
    torch.save({"model": {"a": torch.zeros(1), 3: torch.zeros(1)}}, tmp_path / "numbered.pth")
    with pytest.raises(CheckpointError, match=r"numbered.pth: key 3 is a int, not the name"):
        loading.read(tmp_path / "numbered.pth")
    cycle: dict[str, Any] = {}
    cycle["model"] = cycle
    torch.save(cycle, tmp_path / "cycle.pth")
    with pytest.raises(CheckpointError, match=r"cycle.pth: not a readable checkpoint"):
        loading.read(tmp_path / "cycle.pth")
    shared: dict[str, Any] = {}
    for _ in range(40):  # It would take days to look at each by itself.
        shared = {"a": shared, "b": shared}
    torch.save({"model": shared, "weight": torch.zeros(1)}, tmp_path / "shared.pth")
    with pytest.raises(CheckpointError, match=r"shared.pth: key 'model' holds a dict"):
        loading.read(tmp_path / "shared.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(CheckpointError, match="empty"):
        loading.read(tmp_path / "empty.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="list"):
        loading.read(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "number.pth")
    with pytest.raises(CheckpointError, match="epoch"):
        loading.read(tmp_path / "number.pth")


def test_nobody_is_advised_to_run_a_file(tmp_path: Path) -> None:
    """As torch does, of files that it reads in no other way."""
    with tarfile.open(tmp_path / "legacy.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CheckpointError, match=r"legacy\.pth: .* files saved in the legacy \.tar format\.\)$"):
        loading.read(tmp_path / "legacy.pth")


@pytest.mark.parametrize("length", [40, 300, 5000, 20000])
def test_a_truncated_file_of_the_old_format_is_named(published: State, tmp_path: Path, length: int) -> None:
    path = tmp_path / "old.pth"
    torch.save(published, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="old.pth"):
        loading.load(models.create("detrpose", "n"), path)
    path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="old.pth"):
        loading.load(models.create("detrpose", "n"), path)


def test_a_truncated_file_is_named(published: State, tmp_path: Path) -> None:
    torch.save(published, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"half\.pth"):
        loading.read(tmp_path / "half.pth")


def test_why_a_file_cannot_be_read_is_told_in_one_line() -> None:
    assert unpickling.reason(RuntimeError("it is damaged\nframe #0: c10::Error")) == "it is damaged"
    assert unpickling.reason(EOFError()) == "EOFError", "where nothing else is told"
    assert unpickling.reason(RuntimeError("bad file. Re-running `torch.load` would read it")) == "bad file."


def test_numbers_that_are_whole_are_packed_as_they_are() -> None:
    state = {"count": torch.tensor(2049), "mask": torch.tensor([True, False])}
    packed = packing.pack(state)
    assert packed.keys() == state.keys()
    for key, value in state.items():
        assert packed[key].dtype == value.dtype and torch.equal(packed[key], value)


def test_what_is_packed_in_eight_bits_and_what_in_sixteen() -> None:
    large = torch.ones(packing.LEAST // 100, 100)
    state = {"large": large, "small": large[1:], "vector": large.flatten()}
    kinds = {key: value.dtype for key, value in packing.pack(state).items()}
    half = torch.float16
    assert kinds == {"large": torch.int8, "large.scale": torch.float32, "small": half, "vector": half}
    assert {value.dtype for value in packing.pack(state, bits=16).values()} == {half}


def test_eight_bits_hold_what_is_negative_and_what_is_nothing() -> None:
    rows = torch.zeros(2, packing.LEAST)
    rows[0] = torch.linspace(-1, 0.2, packing.LEAST)
    packed = packing.pack({"weight": rows})
    again = packing.unpack(packed)["weight"]
    assert (again - rows).abs().max() < 0.5 / 127 + 1e-6
    assert not again[1].any() and (packed["weight.scale"] > 0).all()


def test_only_a_single_number_may_have_another_shape(published: State, tmp_path: Path) -> None:
    scalar = next(key for key, value in published.items() if value.numel() == 1 and value.is_floating_point())
    for shape in ((), (1, 1)):
        loaded(tmp_path / "n.pth", {**published, scalar: published[scalar].reshape(shape)})
    key = "transformer.decoder.layers.0.linear1.weight"
    for value in (published[key].T.contiguous(), published[key].flatten(), torch.zeros(1)):
        with pytest.raises(CheckpointError, match=rf"n\.pth: key '{key}' has shape \({value.shape[0]},"):
            loaded(tmp_path / "n.pth", {**published, key: value})


def test_the_head_decides_where_the_skeleton_beside_it_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    loading.save(models.create("detrpose", "n", skeleton="crowdpose14"), path)
    torch.save({**torch.load(path), "skeleton": "posetrack17"}, path)
    assert loading.open_model("detrpose_n", path).info.skeleton == "crowdpose14"
