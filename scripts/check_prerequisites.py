"""Say what is missing before a long installation fails on it: a fit Python, its headers, a C++ compiler, space."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

GIGABYTES = 8  # A new environment takes 7, of which PyTorch and NVIDIA's libraries are 5.


def missing() -> list[str]:
    """One line for each thing that is missing, saying how to get it; empty when all is there."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lines = []
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        lines.append(f"Python 3.10 to 3.13; {sys.executable} is {python}. Name another one: make PYTHON=python3.11")
    if importlib.util.find_spec("ensurepip") is None:
        lines.append(f"virtual environments for {python} (Debian, Ubuntu: apt install {python}-venv)")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        lines.append(f"the header files of {python} (Debian, Ubuntu: apt install {python}-dev)")
    if not any(map(shutil.which, ((os.environ.get("CXX") or "c++").split()[0], "g++", "clang++"))):
        lines.append("a C++ compiler, for the ROS messages (Debian, Ubuntu: apt install g++)")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < GIGABYTES and not Path(".venv", ".installed").exists():
        lines.append(f"{GIGABYTES} GB of free disk space in {Path.cwd()}; {free:.1f} are free")
    return lines


if __name__ == "__main__":
    sys.exit("\n".join(f"pave_ros needs {line}" for line in missing()) or None)
