"""The package installs in each of the ways that its users have, with the same files each time.

The environments hold only what this needs, without PyTorch: whether that installs is not ours to prove, but exported
files have to run without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import reference

import pave_ros
from pave_ros.checkpoints import loading
from pave_ros.engines.onnx_export import export_onnx

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = [line for line in PYPROJECT["project"]["dependencies"] if line.startswith(("ros-", "numpy"))]
HEAVY = ("torch", "timm", "onnx", "openvino", "pydantic", "tensorboard", "pycocotools")
# What runs an exported file, without what trains, exports or runs it faster.
LIGHT = [line for line in PYPROJECT["project"]["dependencies"] if line == "onnxruntime" or not line.startswith(HEAVY)]
SHARED = ("config", "launch", "rviz")

ROUND_TRIP = """
from pave_ros.msg import BoundingBox, Keypoint, Person, Poses
from rclpy.serialization import deserialize_message, serialize_message
import pave_ros
keypoint = Keypoint(x=1.5, y=float("inf"), score=0.25)
sent = Poses(skeleton="coco17", persons=[Person(track_id=-1, box=BoundingBox(width=2.0), keypoints=[keypoint])])
assert deserialize_message(serialize_message(sent), Poses) == sent
print(pave_ros.__file__)
"""

# All that the package's code says of these libraries, what is only run for training too.
MISSING_NAMES = """
import re, cv2, numpy as np
from pathlib import Path
import pave_ros
code = "".join(path.read_text() for path in Path(pave_ros.__file__).parent.rglob("*.py"))
used = {(library, name) for library in ("cv2", "np") for name in re.findall(rf"\\b{library}\\.(\\w+)", code)}
assert len(used) > 100
print("missing:", *sorted(f"{library}.{name}" for library, name in used if not hasattr(globals()[library], name)))
"""


class Environment:
    """A virtual environment of its own, which nothing of the environment that runs the tests gets into."""

    def __init__(self, folder: Path, requirements: list[str]) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.pip("install", "--no-compile", *requirements)

    def run(self, *command: str | Path, folder: Path) -> str:
        """What the command prints, run in `folder` with this environment active; fails with all it printed."""
        # The wheels' bootstrapper marks the processes that it has prepared; a child would take the mark for its own.
        foreign = {
            "LD_LIBRARY_PATH",
            "PYTHONPATH",
            "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
            "AMENT_PREFIX_PATH",
            "ROS_DOMAIN_ID",
        }
        variables = {name: value for name, value in os.environ.items() if name not in foreign}
        variables.update(VIRTUAL_ENV=str(self.folder), PATH=f"{self.folder / 'bin'}:{variables['PATH']}")
        done = subprocess.run(
            command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def pip(self, *arguments: str | Path, folder: Path = Path("/")) -> str:
        return self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments, folder=folder)

    def package_lies_in(self, setup: str = "true") -> Path:
        """Where the package is imported from, after the shell command `setup`; its messages are tried on the way."""
        script = f"{setup} && python -c '{ROUND_TRIP}'"
        return Path(self.run("bash", "-c", script, folder=Path("/")).splitlines()[-1]).parent


@cache
def repository() -> list[str]:
    """The files of the repository, tracked or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    names = subprocess.run(command, cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def files(*tops: str) -> list[str]:
    """Those of the repository's files that are, or lie in, one of these of the top level."""
    return [name for name in repository() if name.partition("/")[0] in tops]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files, so that builds leave the real one alone."""
    folder = tmp_path_factory.mktemp("checkout") / "pave_ros"
    for name in repository():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
        copy.chmod((ROOT / name).stat().st_mode)
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the pip user who only runs exported files has before: the package's requirements, less PyTorch."""
    return Environment(tmp_path_factory.mktemp("wheels"), LIGHT)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the colcon user without a ROS installation has: the wheels for running and for building, and colcon."""
    build = PYPROJECT["build-system"]["requires"]
    return Environment(tmp_path_factory.mktemp("workspace"), [*NEEDED, *build, "colcon-common-extensions"])


ISOLATED, EDITABLE = ("wheels", ()), ("workspace", ("--no-build-isolation", "--editable"))


@pytest.fixture(scope="module", params=[ISOLATED, EDITABLE], ids=["isolated", "editable"])
def installed_by_pip(request: pytest.FixtureRequest, checkout: Path) -> Iterator[tuple[Environment, bool]]:
    """An environment with the package in it, and whether the install is an editable one.

    The isolated build starts from an empty environment; `make test` itself runs in an editable install, isolated too.
    """
    name, options = request.param
    environment: Environment = request.getfixturevalue(name)
    before = set(environment.folder.rglob("*"))
    environment.pip("install", "--no-deps", *options, checkout)
    yield environment, bool(options)
    environment.pip("uninstall", "--yes", "pave_ros")
    left = [path for path in set(environment.folder.rglob("*")) - before if "__pycache__" not in path.parts]
    assert not left, "left behind by the uninstall"


def assert_prefix_is_complete(prefix: Path, checkout: Path) -> None:
    """All that ROS tools look for lies under the prefix."""
    assert (prefix / "share/ament_index/resource_index/packages/pave_ros").is_file()
    for name in ["package.xml", *files(*SHARED)]:
        assert (prefix / "share/pave_ros" / name).read_bytes() == (checkout / name).read_bytes()
    for script in ("pose_node", "camera_node", "pave_ros"):
        assert os.access(prefix / "lib/pave_ros" / script, os.X_OK)


def assert_weights_came_along(home: Path, checkout: Path) -> None:
    """The embedded model lies in the installed package, where it is looked for."""
    names = [name for name in files("pave_ros") if name.startswith("pave_ros/weights/")]
    assert {Path(name).suffix for name in names} == {".safetensors", ".onnx"}
    for name in names:
        assert (home.parent / name).read_bytes() == (checkout / name).read_bytes()


def test_pip_installs_messages_code_and_shared_files(
    installed_by_pip: tuple[Environment, bool], checkout: Path
) -> None:
    environment, editable = installed_by_pip
    home = environment.package_lies_in()
    assert home == checkout / "pave_ros" if editable else home.is_relative_to(environment.folder)
    assert_prefix_is_complete(environment.folder, checkout)
    assert_weights_came_along(home, checkout)
    # The pip user's setup.bash, for tools that search the ament index.
    setup = environment.folder / "share/pave_ros/local_setup.bash"
    share = environment.run("bash", "-c", f"source {setup} && echo $AMENT_PREFIX_PATH", folder=Path("/"))
    assert str(environment.folder) in share.strip().split(":")

    [record] = environment.folder.glob("lib/python3*/site-packages/pave_ros-*.dist-info/RECORD")
    recorded = [line.split(",")[0] for line in record.read_text().splitlines()]
    assert not [name for name in recorded if "/include/" in name or "/cmake/" in name or "parent_prefix_path" in name]


@pytest.mark.parametrize("installed_by_pip", [ISOLATED], ids=["isolated"], indirect=True)
def test_exported_files_run_without_pytorch(installed_by_pip: tuple[Environment, bool], tmp_path: Path) -> None:
    """Camera and node over DDS with the model of the package, and the command line with the file of another one."""
    environment, _ = installed_by_pip
    held = {line.partition(" ")[0].lower() for line in environment.pip("list").splitlines()}
    assert "onnxruntime" in held and not held & {"torch", "torchvision", "timm", "onnx"}
    told = environment.run("pave_ros", "demo", "--seconds", "3", "--output", tmp_path / "demo", folder=tmp_path)
    assert "simplebaseline_lite in onnxruntime on cpu" in told and (tmp_path / "demo/demo.mp4").stat().st_size

    reference.write_checkpoint(tmp_path / "n.pth", *reference.read(ROOT / "test/golden/detrpose_n.json"))
    exported = export_onnx(loading.open_model("detrpose_n", tmp_path / "n.pth"), tmp_path / "n.onnx", (96, 128))
    predict = ["pave_ros", "predict", tmp_path / "demo/demo.png", "-o", tmp_path / "out", "--model", "detrpose_n"]
    environment.run(*predict, "--weights", exported, folder=tmp_path)
    assert (tmp_path / "out/persons.jsonl").stat().st_size

    failing = f"! {' '.join(map(str, predict))} --weights {tmp_path / 'n.pth'}"
    assert "pytorch is not installed" in environment.run("bash", "-c", failing, folder=tmp_path)
    failing = "! pave_ros export detrpose_n"
    assert "needs the package onnx, which is not installed" in environment.run("bash", "-c", failing, folder=tmp_path)


@pytest.mark.parametrize("option", [(), ("--symlink-install",)], ids=["copied", "symlinked"])
def test_colcon_builds_with_only_the_wheels(
    option: tuple[str, ...], workspace: Environment, checkout: Path, tmp_path: Path
) -> None:
    left = checkout / "pave_ros/msg/_left_by_an_editable_install.py"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    workspace.run("colcon", "build", "--base-paths", checkout, *option, folder=tmp_path)
    prefix = tmp_path / "install/pave_ros"
    home = workspace.package_lies_in(setup=f"source {tmp_path}/install/setup.bash")
    assert home.is_relative_to(prefix)
    assert (home / "persons.py").is_symlink() == bool(option)
    assert not (home / "msg" / left.name).exists()
    assert_prefix_is_complete(prefix, checkout)
    assert_weights_came_along(home, checkout)
    installed = {str(path.relative_to(home)) for path in home.rglob("*.py") if path.parent.name != "msg"}
    assert installed == {name.partition("/")[2] for name in files("pave_ros") if name.endswith(".py")}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there are no wheels of Jazzy for this Python")
def test_jazzy_builds_and_runs_it(checkout: Path, tmp_path: Path) -> None:
    """With its rclpy and messages, and with Ubuntu's older numpy and OpenCV; camera and node talk over DDS."""
    jazzy = Environment(tmp_path / "jazzy", ["--requirement", str(ROOT / "test/jazzy.txt")])
    jazzy.run("colcon", "build", "--base-paths", checkout, folder=tmp_path)
    setup = f"source {tmp_path}/install/setup.bash"
    assert jazzy.package_lies_in(setup).is_relative_to(tmp_path / "install/pave_ros")
    names = jazzy.run("bash", "-c", f"{setup} && python -c '{MISSING_NAMES}'", folder=tmp_path)
    assert names.splitlines()[-1] == "missing:", names
    script = f"{setup} && {tmp_path}/install/pave_ros/lib/pave_ros/pave_ros demo --seconds 3 --output {tmp_path}/demo"
    told = jazzy.run("bash", "-c", script, folder=tmp_path)
    assert "simplebaseline_lite in onnxruntime on cpu" in told and (tmp_path / "demo/demo.mp4").stat().st_size


def test_source_archive_holds_all_that_a_build_needs(workspace: Environment, checkout: Path, tmp_path: Path) -> None:
    build = f"import setuptools.build_meta as backend; backend.build_sdist({str(tmp_path)!r})"
    workspace.run("python", "-c", build, folder=checkout)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    needed = files("CMakeLists.txt", "LICENSE", "package.xml", "setup.py", "cmake", "msg", "pave_ros", *SHARED)
    assert not set(needed) - packed


def test_scripts_prefer_the_python_of_their_prefix(tmp_path: Path) -> None:
    script = tmp_path / "lib/pave_ros/pose_node"
    script.parent.mkdir(parents=True)
    template = (ROOT / "cmake/script.sh.in").read_text()
    script.write_text(template.replace("@module@", "pave_ros.ros.node"))
    script.chmod(0o755)

    def python_that_says(word: str, folder: str) -> None:
        python = tmp_path / folder / "python3"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\necho "{word}: $2 $3"\n')
        python.chmod(0o755)

    def answer() -> str:
        variables = {"PATH": f"{tmp_path / 'elsewhere'}:{os.environ['PATH']}"}
        return subprocess.run([script, "--argument"], env=variables, text=True, stdout=subprocess.PIPE).stdout.strip()

    for who, folder in (("the one on the path", "elsewhere"), ("the one of the prefix", "bin")):
        python_that_says(who, folder)
        assert answer().startswith(f"{who}: ")
        assert answer().endswith("from pave_ros.ros.node import main\nsys.exit(main()) --argument")


def test_scripts_ignore_what_lies_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise SystemExit('the wrong one')\n")
    script = tmp_path / "lib/pave_ros/pave_ros"
    script.parent.mkdir(parents=True)
    script.write_text((ROOT / "cmake/script.sh.in").read_text().replace("@module@", "colorsys"))
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(["sh", script], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert "the wrong one" not in done.stderr and "cannot import name 'main' from 'colorsys'" in done.stderr


def test_all_agree_on_the_version() -> None:
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == pave_ros.__version__
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pave_ros.__version__"}


def test_message_requirements_are_the_same_for_building_and_running() -> None:
    """Message code works only with the runtime that it was compiled for."""
    building = dict(line.split("==") for line in PYPROJECT["build-system"]["requires"] if line.startswith("ros-"))
    running = dict(line.split("==") for line in NEEDED if line.startswith("ros-"))
    for name in building.keys() & running.keys():
        assert building[name] == running[name], name
