"""What pyproject.toml cannot say: run CMakeLists.txt, and hand what it installs to pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Of use to CMake projects that build against this package, or true on the building machine only.
LEFT_OUT = ("include/*", "share/*/cmake/*", "share/ament_index/resource_index/parent_prefix_path/*")


def cmake(*arguments: str) -> None:
    """Run the CMake of the build requirements so that it finds the ROS wheels lying beside it, and no other ROS."""
    prefixes = [str(path.parents[2]) for path in map(Path, sys.path) if path.name.endswith("-packages")]
    found = os.pathsep.join(prefixes)
    executables = os.pathsep.join(f"{prefix}/bin" for prefix in prefixes)
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": found,
        "CMAKE_PREFIX_PATH": found,
        "PATH": f"{executables}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    subprocess.run(["cmake", *arguments], env=environment, check=True)


class BuildWithCMake(build_ext):
    """Runs CMakeLists.txt; the generated message code joins the Python package, the rest becomes data files."""

    def run(self) -> None:
        source = Path(__file__).parent.resolve()
        build, stage = Path(self.build_temp, "cmake").resolve(), Path(self.build_temp, "stage").resolve()
        shutil.rmtree(self.build_temp, ignore_errors=True)  # an earlier build is bound to its own environment
        cmake(
            "-S", str(source), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_INSTALL_PREFIX={sys.prefix}", f"-DPython3_EXECUTABLE={sys.executable}",
        )  # fmt: skip
        cmake("--build", str(build))
        cmake("--install", str(build), "--prefix", str(stage))

        generated = next(stage.rglob("pave_ros/msg/__init__.py")).parents[1]
        package = source / "pave_ros" if self.editable_mode else Path(self.build_lib, "pave_ros")
        shutil.copytree(
            generated / "msg", package / "msg", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.c", "__pycache__")
        )
        suffix = sysconfig.get_config_var("EXT_SUFFIX")  # so that editable installs for several Pythons can coexist
        for library in generated.glob("*.so"):
            target = package / f"{library.name.partition('.')[0]}{suffix}"
            target.unlink(missing_ok=True)  # written over, it would take a running node down
            shutil.copy2(library, target)

        self.distribution.data_files = [
            (str(path.parent.relative_to(stage)), [str(path)])
            for path in sorted(stage.rglob("*"))
            if path.is_file()
            and not path.is_relative_to(generated.parent)
            and not any(fnmatch(str(path.relative_to(stage)), pattern) for pattern in LEFT_OUT)
        ]
        if self.editable_mode:  # setuptools leaves data files out of editable installs
            self.run_command("install_data")

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(ext_modules=[Extension("pave_ros.msg", sources=[])], cmdclass={"build_ext": BuildWithCMake})
