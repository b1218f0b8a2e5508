# Two commands for a start: `make demo` and `make test`. Both build .venv once.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first interpreter that is new enough; name another with PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# The window has an environment of its own: everything else is tested where there is no Qt.
WINDOW_VENV ?= .venv-window
pip = $(1)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Optional: an index with the wheel of torch that you want, e.g. PyTorch's CPU or CUDA index.
TORCH_INDEX ?=
# What `make demo` demonstrates: DEMO="ct mri seismic" is all of it, in ten minutes.
DEMO ?= ct
DEMO_OUT ?= demo-output
# Tests are spread over as many processes as there are cores, with one thread each.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# What a window of Qt takes on Debian where there is no screen
SCREEN := xvfb xauth libgl1 libegl1 libopengl0 libgl1-mesa-dri libglx-mesa0 libxkbcommon-x11-0 libdbus-1-3 \
	libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 \
	libxcb-xinerama0 libxcb-xkb1

.PHONY: help install oracles window screen demo test test-slow test-window lint typecheck notebooks bench results \
	figures clean

help:
	@echo "make demo       simulate, reconstruct and judge a chest in CT; results in $(DEMO_OUT)/ (DEMO=\"ct mri seismic\": all)"
	@echo "make test       the fast tests"
	@echo "make test-slow  the tests marked slow"
	@echo "make test-window  the tests of the viewer in a real window (installs napari and Qt; takes a screen, or Xvfb)"
	@echo "make lint       ruff and mypy"
	@echo "make notebooks  run the notebooks on small data"
	@echo "make bench      timings against other codes (installs them)"
	@echo "make results    the tables of docs/results.md from the recorded runs"
	@echo "make figures    the pictures of docs/ (installs napari and Qt; takes a screen, or Xvfb)"

# --- environment: one stamp for the package, one for the tools ---------------------------------------------
%/.package: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "medrecon needs Python 3.11 or newer; name it with PYTHON=..." >&2; exit 1; }
	test -x $*/bin/python || $(PYTHON) -m venv $*
	$(call pip,$*) pip setuptools
	$(if $(TORCH_INDEX),$(call pip,$*) --index-url $(TORCH_INDEX) torch)
	$(call pip,$*) --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.package
	$(call pip,$(VENV)) --group dev
	@touch $@

$(VENV)/.oracles: $(VENV)/.tools
	$(call pip,$(VENV)) --group oracle
	@touch $@

$(WINDOW_VENV)/.window: $(WINDOW_VENV)/.package
	$(call pip,$(WINDOW_VENV)) --group window
	@touch $@

install: $(VENV)/.tools

oracles: $(VENV)/.oracles

window: $(WINDOW_VENV)/.window

# Succeeds where a window can be opened afterwards: there is a screen, or root can install a virtual one.
screen:
	@test -n "$$DISPLAY" || dpkg --status $(SCREEN) >/dev/null 2>&1 \
		|| { test "$$(id -u)" = 0 && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(SCREEN); }

# --- what people run ---------------------------------------------------------------------------------------
demo: $(VENV)/.package
	@set -e; for kind in $(DEMO); do $(BIN)/medrecon demo $$kind --output $(DEMO_OUT)/$$kind --overwrite; done

test: $(VENV)/.tools
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto -m "not slow and not cuda" $(PYTEST_ARGS)

test-slow: $(VENV)/.oracles
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto -m "slow and not cuda" $(PYTEST_ARGS)

test-window: $(WINDOW_VENV)/.window
	$(ONE_THREAD) QT_API=pyqt6 PYTEST_QT_API=pyqt6 $(WINDOW_VENV)/bin/python -m pytest -n auto tests/viewer $(PYTEST_ARGS)

lint: $(VENV)/.tools typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the package-dir map of an editable install: it reads an installed copy.
typecheck: $(VENV)/.tools
	@rm -rf build && mkdir -p build/typecheck
	@$(call pip,$(VENV)) --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p medrecon

notebooks: $(VENV)/.tools
	$(BIN)/python -m pytest tests/test_notebooks.py $(PYTEST_ARGS)

bench: $(VENV)/.oracles
	$(BIN)/python tests/bench/bench_projector.py

results: $(VENV)/.package
	$(BIN)/python tests/bench/render_results.py docs/results.md docs/results-methods.md docs/training.md

figures: $(WINDOW_VENV)/.window
	for script in docs/make_*.py; do QT_API=pyqt6 $(WINDOW_VENV)/bin/python $$script || exit 1; done

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache $(DEMO_OUT)
