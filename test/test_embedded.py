"""The model that comes with the package: which of its files runs, how they are made, and what they can do."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import save_file

from pave_ros import Estimator, models, skeletons
from pave_ros.checkpoints import files, loading
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.datasets.base import Labels, ListedDataset, Sample
from pave_ros.engines import choice, openvino, shipped
from pave_ros.engines.base import EngineError
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.synthetic import Scene
from pave_ros.topdown.options import TopDownOptions
from pave_ros.training import card, ship
from pave_ros.training.shared_weights import share_weights
from pave_ros.video_writer import VideoWriter


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A package with both files, empty ones, on a machine without a GPU."""
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    monkeypatch.setattr(shipped, "_has_cuda", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    own = SimpleNamespace(info=SimpleNamespace(input_size=(256, 192)))
    monkeypatch.setattr(shipped, "read_label", lambda path: own)
    checkpoint = tmp_path / files.EMBEDDED.name
    checkpoint.touch()
    checkpoint.with_suffix(".onnx").touch()
    return checkpoint, checkpoint.with_suffix(".onnx")


@pytest.mark.parametrize(
    ("asked", "is_exported"),
    [
        ({}, True),
        ({"device": "cpu", "precision": "fp32"}, True),
        ({"engine": "onnxruntime"}, True),
        ({"engine": "onnxruntime", "device": "cuda:0"}, True),
        ({"engine": "pytorch"}, False),
        ({"device": "cuda"}, False),
        ({"input_size": (256, 192)}, True),
        ({"input_size": (256, 256)}, False),
        ({"input_size": (256, 256), "engine": "onnxruntime"}, False),
        ({"precision": "bf16"}, True),
        ({"precision": "fp16"}, False),
    ],
)
def test_the_form_that_does_what_is_asked(pair: tuple[Path, Path], asked: dict[str, object], is_exported: bool) -> None:
    checkpoint, exported = pair
    request = {"engine": "auto", "device": "auto", "precision": "auto", "input_size": None, **asked}
    assert shipped.best_form(checkpoint, **request) == (exported if is_exported else checkpoint)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "is_eight"),
    [
        ({}, True),
        ({"precision": "int8"}, True),
        ({"precision": "fp32"}, False),
        ({"engine": "openvino"}, True),
        ({"engine": "onnxruntime"}, False),
    ],
)
def test_x86_computes_in_eight_bits(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], is_eight: bool
) -> None:
    checkpoint, exported = pair
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    request: dict[str, Any] = {"engine": "auto", "device": "cpu", "precision": "auto", "input_size": None, **asked}
    if request["precision"] != "int8":
        assert shipped.best_form(checkpoint, **request) == exported, "an installation without it works too"
    eight = shipped.exported_path(checkpoint, int8=True)
    eight.touch()
    assert eight.name == f"{checkpoint.stem}.int8.onnx"
    assert shipped.best_form(checkpoint, **request) == (eight if is_eight else exported)
    assert shipped.best_form(exported, **request) == exported, "who names a file gets it"


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_what_is_missing_is_told_of_the_file_that_needs_least(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Of the checkpoint, which needs torch, nobody who wants to run the model has to hear."""
    monkeypatch.setattr(choice, "is_installed", lambda name: False)
    with pytest.raises(EngineError, match=r"\.onnx: openvino is not installed \(pip install openvino\)"):
        shipped.best_form(pair[0], "auto", "cpu", precision, None)


def test_a_gpu_runs_the_network_itself(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, exported = pair
    monkeypatch.setattr(shipped, "_has_cuda", lambda: True)
    assert shipped.best_form(checkpoint, "auto", "auto", "auto", None) == checkpoint
    assert shipped.best_form(checkpoint, "auto", "cpu", "auto", None) == exported


def test_a_gpu_is_of_no_use_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "has_gpu", lambda: True)
    monkeypatch.setattr(shipped, "is_installed", lambda name: False)
    assert not shipped._has_cuda()


def test_a_workspace_of_links_runs_the_same_form(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As colcon installs it with --symlink-install: folders of its own, the files in them links to the sources."""
    linked = tmp_path / "install"
    linked.mkdir()
    for path in pair:
        (linked / path.name).symlink_to(path)
    monkeypatch.setattr(files, "SHIPPED", linked)
    checkpoint, exported = pair
    for named in (files.EMBEDDED.path, checkpoint, linked / checkpoint.name, linked / exported.name):
        assert shipped.best_form(named, "auto", "cpu", "auto", None) == exported, "beside the weights that it reads"


def test_a_folder_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somelibrary").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not choice.is_installed("somelibrary") and choice.is_installed("numpy")


def test_other_checkpoints_stand_for_themselves(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Whatever lies beside a user's checkpoint was not made from it for sure."""
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / files.EMBEDDED.name
    for path in (mine, mine.with_suffix(".onnx")):
        path.touch()
    assert shipped.best_form(mine, "auto", "cpu", "auto", None) == mine
    pair[1].unlink()
    assert shipped.best_form(pair[0], "auto", "cpu", "auto", None) == pair[0], "an installation without it works too"


@pytest.mark.parametrize("engine", ["auto", "pytorch", "onnxruntime"])
def test_it_is_not_run_as_another_model(engine: str) -> None:
    with pytest.raises((EngineError, CheckpointError), match=rf"{files.EMBEDDED.name}.*(of|missing).*detrpose_n"):
        Estimator("detrpose_n", files.SHIPPED / files.EMBEDDED.name, engine=engine)


# --- the shipped files ------------------------------------------------------------------------------------------------


def test_the_card_describes_the_files_that_are_shipped() -> None:
    figures = json.loads(ship.PAGE.with_suffix(".json").read_text())
    assert figures["files"] == ship.digests()
    assert sum(one["bytes"] for one in figures["files"].values()) <= ship.LARGEST
    page = ship.PAGE.read_text()
    assert card.tables(figures) in page and all(one["sha256"] in page for one in figures["files"].values())


def test_it_starts_without_torch() -> None:
    code = (
        "import sys, numpy; from pave_ros import Estimator; estimator = Estimator('embedded', device='cpu');"
        "assert estimator.detector == 'centernet_lite';"
        "estimator(numpy.zeros((480, 640, 3), numpy.uint8)); assert 'torch' not in sys.modules;"
        "print(estimator.name, estimator.trained, estimator.weights)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.split() == [files.EMBEDDED.model, "True", str(files.EMBEDDED.path)]


@pytest.mark.parametrize("stage", [files.EMBEDDED, files.EMBEDDED_DETECTOR], ids=lambda stage: stage.model)
def test_all_files_of_a_stage_find_the_same_people(stage: files.WeightsFile) -> None:
    for input_size in ship.SIZES[stage.model]:
        ship.compare(stage.model, stage.path, input_size)


def test_eight_bits_find_the_same_people() -> None:
    """Whoever is sure, with joints near; what it costs in AP is in docs/engines.md."""
    image = Scene(seed=3, width=640, height=480).frame(30).image
    one, other = (Estimator(device="cpu", engine="openvino", precision=bits)(image) for bits in ("fp32", "int8"))
    assert len(one) == len(other) == 4
    apart = np.linalg.norm(one.keypoints[:, None, :, :2] - other.keypoints[None, :, :, :2], axis=-1)
    assert (np.median(apart, -1).min(1) < 3).all()


def test_eight_bits_are_of_files_that_have_them(tmp_path: Path) -> None:
    exported = shipped.exported_path(files.EMBEDDED_DETECTOR.path)
    with pytest.raises(EngineError, match=r"not in 8 bits; `pave_ros export --precision int8`"):
        openvino.OpenVinoEngine(exported, precision="int8")
    checkpoint = tmp_path / "a.pth"
    loading.save(models.create("centernet_lite"), checkpoint)
    with pytest.raises(EngineError, match=r"pytorch runs in .*; `pave_ros export --precision int8`"):
        Estimator("centernet_lite", checkpoint, device="cpu", precision="int8")


def test_bf16_without_room_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino, "_with_precise_coordinates", refuse)
    monkeypatch.setattr(openvino, "computes_in_bf16", lambda: True)
    exported = shipped.exported_path(files.EMBEDDED_DETECTOR.path)
    assert openvino.OpenVinoEngine(exported).precision == "fp32"
    with pytest.raises(EngineError, match=r"bf16 needs room for a temporary file \(TMPDIR\): .*No space left"):
        openvino.OpenVinoEngine(exported, precision="bf16")


def test_it_starts_without_a_home_and_tells_nobody(tmp_path: Path) -> None:
    """OpenVINO's telemetry wants a home directory, keeps a number there, and sends it to its maker."""
    code = (
        "import sys; from pave_ros import Estimator; Estimator(device='cpu', engine='openvino');"
        "print('openvino_telemetry.main' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, "HOME": str(tmp_path)})
    assert said.split() == ["False"]
    assert not (tmp_path / "intel").exists()


def test_it_sees_people_as_well_as_the_card_says() -> None:
    """On a few pictures of the synthetic scene, which nobody has to download."""
    written = json.loads(ship.PAGE.with_suffix(".json").read_text())["synthetic"]["AP50"]
    assert card.on_synthetic_scenes("embedded", limit=24)["AP50"] > written - 0.1


def test_a_stream_waits_for_nothing_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = Estimator(device="cpu", engine="openvino")
    estimator.warm_up()
    monkeypatch.delattr(openvino.Network, "_compile")
    images = [Scene(seed=6, persons=count).frame(30).image for count in (2, 5, 9)]
    found = [len(people) for _, people in estimator.video(Frame(i, image=image) for i, image in enumerate(images))]
    assert found[0] < 3 and max(found) > 4


def test_the_closer_look_can_be_spared() -> None:
    image = Scene(seed=3, width=640, height=480).frame(30).image
    closer, plain = (Estimator(device="cpu", top_down=TopDownOptions(closer_look=look)) for look in (True, False))
    everybody, large = closer(image), plain(image)
    assert 0 < len(large) < len(everybody), "somebody far away is seen by the closer look alone"


def test_a_video_model_is_shipped_at_half_its_size(tmp_path: Path) -> None:
    weights = tmp_path / "trained.safetensors"
    network = models.create("pavenet_lite")
    loading.save(network, weights)
    written = ship.ship_video(weights, tmp_path)
    assert written == tmp_path / files.VIDEO.name and written.stat().st_size < 0.51 * weights.stat().st_size
    again = loading.open_model("pavenet_lite", written).state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again[key], value, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        network.get_submodule("selection.project").get_parameter("bias")[0] = 1e6
    loading.save(network, weights)
    with pytest.raises(ship.ShippingError, match="beyond what float16 holds"):
        ship.ship_video(weights, tmp_path)


# --- weights in one file, used by two ---------------------------------------------------------------------------------


def linear(
    folder: Path,
    weight: npt.NDArray[np.float32],
    stored: dict[str, npt.NDArray[Any]],
    step: npt.NDArray[np.float32] | None = None,
) -> tuple[Path, Path]:
    """An exported file that multiplies by `weight`, in 8 bits where there is a step for each output, and a checkpoint
    with `stored`."""
    arrays, nodes = {"weight": weight, "bias": np.arange(8, dtype=np.float32)}, []
    if step is not None:
        zero = np.zeros(8, np.int8)
        arrays = {"whole": np.rint(weight / step).astype(np.int8), "step": step, "zero": zero, "bias": arrays["bias"]}
        nodes.append(onnx.helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["weight"], axis=1))
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    product = onnx.helper.make_node("MatMul", ["x", "weight"], ["product"])
    added = onnx.helper.make_node("Add", ["product", "bias"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 8]) for name in "xy")
    graph = onnx.helper.make_graph([*nodes, product, added], "linear", [x], [y], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    exported, checkpoint = folder / "lite.onnx", folder / "lite.safetensors"
    onnx.save(model, exported)
    linear_checkpoint(checkpoint, stored)
    return exported, checkpoint


def linear_checkpoint(path: Path, stored: dict[str, npt.NDArray[Any]]) -> None:
    save_file({"first": np.ones(3, np.float16), "steps": np.array(7), **stored}, path)


def multiplied(exported: Path, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_exported_file_reads_weights_from_the_checkpoint(tmp_path: Path, transposed: bool, packed: bool) -> None:
    rng = np.random.default_rng(0)
    stored: npt.NDArray[Any] = rng.standard_normal((8, 8)).astype(np.float16)
    scales: dict[str, npt.NDArray[np.float32]] = {}
    if packed:
        stored = rng.integers(-127, 127, (8, 8)).astype(np.int8)
        scales = {"layer.weight.scale": rng.random((8, 1), np.float32) + 0.1}
    weight = stored.astype(np.float32) * scales.get("layer.weight.scale", np.float32(1))
    exported, checkpoint = linear(tmp_path, weight.T if transposed else weight, {"layer.weight": stored, **scales})
    x = rng.standard_normal((2, 8), np.float32)
    before = multiplied(exported, x)
    assert share_weights(exported, checkpoint) == 64
    assert np.array_equal(multiplied(exported, x), before)
    assert not [
        tensor.name
        for tensor in onnx.load(exported, load_external_data=False).graph.initializer[:-1]
        if tensor.raw_data
    ]
    # It is the checkpoint's: other numbers there are other results here.
    linear_checkpoint(checkpoint, {"layer.weight": stored * 0, **scales})
    assert np.array_equal(multiplied(exported, x), np.tile(np.arange(8, dtype=np.float32), (2, 1)))


def test_a_file_in_eight_bits_reads_weights_from_the_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(-127, 127, (8, 8)).astype(np.int8)
    weights = {"layer.weight": stored, "layer.weight.scale": rng.random((8, 1), np.float32) + 0.1}
    weight = stored * weights["layer.weight.scale"]
    exported, checkpoint = linear(tmp_path, weight, weights, np.abs(weight).max(0) / 63)
    x = rng.standard_normal((2, 8), np.float32)
    before = multiplied(exported, x)
    rounding = np.abs(weight).max() / 63 / 2 * np.abs(x).sum(1).max()
    assert 0 < np.abs(before - x @ weight - np.arange(8)).max() < rounding
    assert share_weights(exported, checkpoint) == 64
    assert np.array_equal(multiplied(exported, x), before)
    linear_checkpoint(checkpoint, {**weights, "layer.weight": stored * 0})
    assert np.allclose(multiplied(exported, x), np.arange(8), atol=1e-3)


def test_files_without_common_weights_are_refused(tmp_path: Path) -> None:
    weight = np.ones((8, 8), np.float32)
    exported, checkpoint = linear(tmp_path, weight, {"layer.weight": np.zeros((8, 8), np.float16)})
    with pytest.raises(EngineError, match="no weights in common"):
        share_weights(exported, checkpoint)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(EngineError, match="one folder"):
        share_weights(exported, checkpoint.replace(tmp_path / "elsewhere" / checkpoint.name))


# --- the model card ---------------------------------------------------------------------------------------------------


def test_figures_go_between_the_marks_and_add_up(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    page.write_text(f"before\n{card.BEGIN}\nold\n{card.END}\nafter\n")
    card.write(page, {"synthetic": {"pictures": 2, "people": 3, "AP": 0.875, "AP50": 1.0, "AP_M": None}})
    agreed = {"pictures": 4, "people": 8, "matched": 6, "found": 7, "share": 0.75}
    card.write(page, {"agreement": {"street": agreed, "all": agreed}})
    text = page.read_text()
    assert text.startswith(f"before\n{card.BEGIN}\n") and text.endswith(f"{card.END}\nafter\n") and "old" not in text
    assert "| 2 | 3 | 87.5 | 100.0 | - | - | - | - |" in text and "| street | 4 | 8 | 6 | 75.0 |" in text
    assert json.loads(page.with_suffix(".json").read_text()).keys() == {"synthetic", "agreement"}
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        card.write(page, {})


def test_clips_are_found(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt"):
        (tmp_path / name).touch()
    assert [clip.name for clip in card.clips_in(tmp_path)] == ["a.MKV", "b.mp4"]
    assert card.clips_in(tmp_path / "b.mp4") == [tmp_path / "b.mp4"]
    with pytest.raises(FileNotFoundError, match="no such clip"):
        card.clips_in(tmp_path / "nothing")


def test_agreement_with_a_teacher_who_sees_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 10) as writer:
        for i in range(5):
            writer.write(np.full((64, 64, 3), 40 * i, np.uint8))
    points = np.concatenate([np.random.default_rng(0).uniform(0, 60, (1, 17, 2)), np.ones((1, 17, 1))], axis=2)
    someone = Persons.from_keypoints(points, [0.9], "coco17")
    monkeypatch.setattr(card, "Teacher", lambda path: lambda image: someone)
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(card, "Estimator", lambda *args, **options: asked.append(options) or (lambda image: someone))
    figures = card.against_teacher("embedded", tmp_path, [clip], every=2, precision="int8")
    assert asked == [{"device": "cpu", "precision": "int8"}]
    expected = {"pictures": 3, "people": 3, "matched": 3, "found": 3, "share": 1.0}
    assert figures == {"clip": expected, "all": expected}


def test_hand_labels_show_the_model_beside_its_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.concatenate([np.random.default_rng(0).uniform(0, 60, (1, 14, 2)), np.full((1, 14, 1), 2)], axis=2)
    labels = Labels.from_keypoints(points, "lsp14", complete=False)
    one = Sample("1", 64, 64, labels, lambda: np.zeros((64, 64, 3), np.uint8))
    someone = Persons.from_keypoints(points, [0.9], "lsp14")
    monkeypatch.setattr(card, "open_dataset", lambda *_: ListedDataset("lsp", skeletons.get("lsp14"), [one]))
    monkeypatch.setattr(card, "Teacher", lambda path: lambda image: someone)
    blind = SimpleNamespace(reach=0, estimate=lambda frames, index: someone[:0])
    monkeypatch.setattr(card, "everybody", lambda model, precision: blind)
    figures = card.on_hand_labels("embedded", tmp_path, {"lsp": tmp_path}, limit=1)["lsp"]
    assert figures["teacher"]["COCO keypoints"]["AP"] == figures["teacher"]["PCK@0.2 torso"]["Mean"] == 1
    assert figures["model"]["COCO keypoints"]["AP"] == figures["model"]["PCK@0.2 torso"]["Mean"] == 0
    table = card.tables({"by_hand": {"lsp": figures}})
    assert "| lsp | 1 | teacher | 100.0 | 100.0 | 100.0 | 100.0 | - | 100.0 | - |" in table


def test_a_single_frame_is_asked_for_again_with_the_same_answer() -> None:
    """It is not the frame before itself."""
    estimator = Estimator(device="cpu")
    asked = Frame(0, image=Scene(seed=3, width=320, height=240).frame(30).image)
    first, again = (estimator.estimate([asked]) for _ in range(2))
    assert len(first) and len(first) == len(again)
    np.testing.assert_allclose(first.keypoints, again.keypoints, atol=1e-3)


def test_in_a_stream_it_follows_people_and_steadies_their_keypoints() -> None:
    estimator = Estimator(device="cpu")
    frames = [Frame(i, image=Scene(seed=3, width=320, height=240).frame(30).image) for i in range(3)]
    for i in range(3):
        assert len(estimator.estimate(frames[: i + 1]))
    assert frames[2].looks is not None and frames[2].looks.count.max() > 1
    assert [frame.features.found.looks for frame in frames] == [1, 1, 2], "each second frame looks for others"


def test_fewer_people_may_be_wanted_of_a_frame_that_was_looked_at() -> None:
    estimator = Estimator(device="cpu")
    asked = Frame(0, image=Scene(seed=6, persons=5).frame(30).image)
    assert len(estimator.estimate([asked])) > 1
    estimator.max_persons = 1
    assert len(estimator.estimate([asked])) == 1


def test_its_first_stage_gives_boxes_as_unsure_as_asked_for() -> None:
    two_stages = Estimator(device="cpu", top_down=TopDownOptions(box_threshold=0.05))._top_down
    assert two_stages is not None
    for stage in (two_stages.detector, two_stages.closer):
        find = stage._find  # type: ignore[union-attr]
        assert (find.score_threshold, find.max_persons) == (0.05, 100)


def test_it_follows_people_without_smoothing_too() -> None:
    assert Estimator(device="cpu", smoothing="never").earlier == 1


@pytest.mark.parametrize(("made_for_it", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_where_the_processor_is_made_for_it(
    monkeypatch: pytest.MonkeyPatch, made_for_it: bool, precision: str
) -> None:
    monkeypatch.setattr(openvino, "computes_in_bf16", lambda: made_for_it)
    exported = shipped.exported_path(files.EMBEDDED_DETECTOR.path)
    assert openvino.OpenVinoEngine(exported).precision == precision


@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt_rtx"])
def test_tensorrt_is_built_from_the_network_itself(pair: tuple[Path, Path], engine: str) -> None:
    """In 16 bits; what is exported computes in 32."""
    assert shipped.best_form(pair[0], engine, "cuda", "auto", None) == pair[0]


def test_a_size_is_named_by_its_height_first() -> None:
    assert shipped.exported_path(Path("a.safetensors"), (256, 192)) == Path("a.256x192.onnx")
    assert shipped.exported_path(Path("a.safetensors"), (256, 192), int8=True) == Path("a.256x192.int8.onnx")


def test_a_gpu_that_torch_cannot_use_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not shipped._has_cuda()


def test_eight_bits_are_taken_for_their_own_size_and_with_openvino(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    checkpoint, exported = pair
    wide = shipped.exported_path(checkpoint, (256, 256))
    for path in (wide, shipped.exported_path(checkpoint, int8=True)):
        path.touch()
    assert shipped.best_form(checkpoint, "auto", "cpu", "auto", (256, 256)) == wide
    for module in (shipped, choice):
        monkeypatch.setattr(module, "is_installed", lambda name: name != "openvino")
    assert shipped.best_form(checkpoint, "auto", "cpu", "auto", None) == exported, "ONNX Runtime is no faster in 8 bits"
