"""The networks: parity with the published code, and what holds for any input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import reference
import torch

from pave_ros import models

GOLDEN = Path(__file__).parent / "golden"
REFERENCES = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_parity_with_the_published_implementation(path: Path) -> None:
    comparisons = reference.compare(path)
    assert {c.dtype for c in comparisons} == set(reference.TOLERANCES)
    for comparison in comparisons:
        assert comparison.good, comparison


def test_the_reference_tool_fails_on_other_numbers(tmp_path: Path) -> None:
    """A tool that cannot fail proves nothing: with one output changed it has to exit with 1."""
    spec, arrays = reference.read(GOLDEN / "detrpose_n.json")
    arrays["pred_keypoints"] = arrays["pred_keypoints"] + 1e-3
    (tmp_path / "changed.json").write_text((GOLDEN / "detrpose_n.json").read_text())
    reference.np.savez(tmp_path / "changed.npz", **arrays)
    tool = Path(reference.__file__)
    done = subprocess.run([sys.executable, tool, tmp_path / "changed.json"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAILED" in done.stdout and "pred_keypoints" in done.stdout


@pytest.mark.parametrize(
    "system, variant, name",
    [
        ("querypose", "res50", "querypose_r50"),
        ("querypose", "hrnet48", "querypose_hrnet_w48"),
        ("pavenet", "Swin-L", "pavenet_swin_l"),
        ("pavenet_petr", "R50", "pavenet_petr_r50"),
        ("poet", "R50-DC5", "poet_dc5_r50"),
        ("tarvitpose", "Huge", "tarvitpose_h"),
    ],
)
def test_variants_are_known_however_they_are_written(system: str, variant: str, name: str) -> None:
    assert reference.model_name(system, variant) == name
    with pytest.raises(KeyError):
        reference.model_name(system, "r18")


@pytest.mark.parametrize("name, millions", [("n", 4.117), ("s", 11.595), ("m", 21.097), ("l", 33.273), ("x", 74.359)])
def test_sizes_are_the_published_ones(name: str, millions: float) -> None:
    model = models.create("detrpose", name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=2e-3)


@pytest.mark.parametrize("size", [(160, 160), (96, 224), (384, 128)])
def test_any_input_size_that_is_a_multiple_of_32(size: tuple[int, int]) -> None:
    outputs = models.create("detrpose_n")(torch.rand(2, 3, *size))
    assert outputs["pred_logits"].shape == (2, 60, 2)
    assert outputs["pred_keypoints"].shape == (2, 60, 34)
    assert all(value.isfinite().all() for value in outputs.values())


def test_crowdpose_head_has_14_keypoints() -> None:
    assert (
        models.create("detrpose", "n", skeleton="crowdpose14")(torch.rand(1, 3, 128, 128))["pred_keypoints"].shape[-1]
        == 28
    )


@torch.no_grad()
def test_pictures_of_a_batch_do_not_mix_and_fusing_changes_nothing(tmp_path: Path) -> None:
    spec, arrays = reference.read(GOLDEN / "detrpose_n.json")
    reference.write_checkpoint(tmp_path / "n.pth", spec, arrays)
    model = reference.loading.open_model("detrpose_n", tmp_path / "n.pth").double()
    for name, parameter in model.named_parameters():
        if ".lab." in name:  # scales and shifts behind the activations, of either sign
            parameter.add_(torch.randn_like(parameter))
    pictures = torch.rand(2, 3, 128, 160, dtype=torch.float64)
    both = model(pictures)
    alone = model(pictures[1:])
    fused = model.fuse()(pictures)
    assert not [m for m in model.modules() if "BatchNorm" in type(m).__name__ or "Affine" in type(m).__name__]
    for name, value in both.items():
        torch.testing.assert_close(value[1:], alone[name], rtol=0, atol=1e-10)
        torch.testing.assert_close(value, fused[name], rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("name", ["poet_r50", "querypose_r50", "querypose_hrnet_w32_light"])
def test_fusing_a_backbone_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name).double()
    generator = torch.Generator().manual_seed(0)
    for key, buffer in model.named_buffers():
        if "running_mean" in key:
            buffer.normal_(0, 0.1, generator=generator)
        elif "running_var" in key:
            buffer.uniform_(0.5, 1.5, generator=generator)
    picture = torch.rand(1, 3, 96, 128, dtype=torch.float64, generator=generator)
    expected = model.eval().encode(picture)
    found = model.fuse().encode(picture)
    assert not [m for m in model.backbone.modules() if "BatchNorm" in type(m).__name__]
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-8 * float(a.abs().max()))


def test_encode_and_decode_are_the_forward_pass() -> None:
    model = models.create("detrpose_n")
    picture = torch.rand(1, 3, 128, 128)
    outputs = model.decode([model.encode(picture)])
    assert torch.equal(outputs["pred_keypoints"], model(picture)["pred_keypoints"])


def test_names() -> None:
    assert models.split_name("detrpose") == ("detrpose", "n")
    assert models.split_name("DETRPose-S") == ("detrpose", "s")
    for wrong in ("detrpose_q", "yolo", ""):
        with pytest.raises(ValueError, match="detrpose_x"):
            models.split_name(wrong)


def test_a_pytorch_that_is_too_old_is_named(tmp_path: Path) -> None:
    """From the command line, as somebody sees it whose robot brings its own."""
    code = "import torch; torch.__version__ = '2.5.1+cu124'; from pave_ros.cli import main; main()"
    request = ["export", "detrpose_n", "-o", tmp_path / "n.onnx"]
    done = subprocess.run([sys.executable, "-c", code, *request], capture_output=True, text=True)
    assert done.returncode == 1
    assert "PyTorch 2.5.1+cu124 is too old" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["pavenet_r50", "poet_r50", "querypose_r50", "detrpose_n"])
def test_frozen_normalisation_shuts_nothing(name: str) -> None:
    """timm begins residual branches at zero, where frozen ones would stay."""
    state = models.create(name).state_dict()
    gains = [key for key in state if key.startswith("backbone.") and key.endswith("bn3.weight")]
    assert not [key for key in gains if not state[key].any()]
