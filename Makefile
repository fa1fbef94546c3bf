# Every target makes .venv by itself; nothing has to be installed by hand but Python >= 3.11.

PYTHON ?= python3
OUT ?= demo
BEFORE ?= HEAD
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check losses format clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(VENV)/.done  ## make .venv with the pinned packages and the command `scaling`

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m scaling.pretrained.weights
	touch $@

demo: setup  ## the shipped sweep `demo` on this machine, into $(OUT); run again, it finds what is done
	$(BIN)/scaling demo --out $(OUT)

test: setup  ## the tests, in less than ten minutes on two cores: two at a time, each on one thread, a file on one of them
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup  ## formatter, linter, type checker, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

losses: setup  ## compare every record of the sweep `tiny` with those of the revision $(BEFORE)
	$(BIN)/python -m benchmarks.losses $(BEFORE)

format: setup  ## lay out the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info
