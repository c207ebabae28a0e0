# A development environment in .venv, made on first use and kept up to date: `make help`.

PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.10 python3.13; do \
	$$python -c 'import ensurepip' 2>/dev/null && echo $$python && break; done),python3)
VENV := .venv/bin
STAMP := .venv/.installed

# The environment brings its own ROS; one that the shell has set up would get in its way.
unexport PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

# What an editable install does not read from the checkout by itself.
INSTALLED := pyproject.toml setup.py CMakeLists.txt package.xml $(wildcard cmake/* config/* launch/* msg/* rviz/*)

.PHONY: help demo test lint clean

help:
	@echo "make demo   camera and pose node in two processes over ROS 2; results as video and pictures in out/demo"
	@echo "make test   ruff, mypy and all tests"
	@echo "make lint   ruff and mypy only"
	@echo "make clean  remove .venv and everything that was built"
	@echo "The first of them installs everything into .venv. Choose its Python with: make PYTHON=python3.12 ... (after make clean, if there is one)"

demo: $(STAMP)
	@echo "== Demo: a camera and the pose node talk over ROS 2"
	$(VENV)/pave_ros demo

test: lint
	@echo "== Tests"
	$(VENV)/python -m pytest

lint: $(STAMP)
	@echo "== Style (ruff) and types (mypy)"
	$(VENV)/ruff check .
	$(VENV)/ruff format --check --quiet .
	$(VENV)/mypy

$(STAMP): $(INSTALLED)
	@$(PYTHON) scripts/check_prerequisites.py
	@$(VENV)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "== Installing pave_ros and all it needs into .venv, with $$($(VENV)/python --version)."
	@echo "   The first time this downloads PyTorch, up to a few GB, and compiles the messages: some minutes."
	@$(VENV)/python -m pip install --disable-pip-version-check --editable '.[test]' > .venv/install.log 2>&1 \
		|| { tail -n 40 .venv/install.log; echo "== The installation failed. All its output: .venv/install.log"; exit 1; }
	@touch $@
	@echo "== Installed."

clean:
	rm -rf .venv build install log dist out *.egg-info pave_ros/msg pave_ros/*.so .mypy_cache .pytest_cache .ruff_cache
