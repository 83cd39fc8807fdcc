# make demo [INPUT=...] | make test | make lint | make install
# Everything lives in .venv of this checkout; nothing but Python (3.11 or newer) and make has to be there before.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=
OUT ?= demo-output
# The first interpreter that is new enough and can make an environment.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: demo test lint bench install install-dev test-packages docs clean

demo: install
	$(BIN)/dissm-node demo --out $(OUT) $(if $(INPUT),--input "$(INPUT)")

test: install-dev test-packages
	$(BIN)/pytest

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Speed and memory of this machine (bench/README.md); on an idle machine, needs DCMTK for the listener.
bench: install
	$(BIN)/python -m bench.delineation
	$(BIN)/python -m bench.listener
	$(BIN)/python -m bench.turnaround

# The table of reasons in docs/operations.md, from dicom_node/reasons.py.
docs: install
	$(BIN)/python docs/reasons_table.py docs/operations.md

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv was found; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# Installed once; again when the pinned versions change.
$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Programs from outside Python that tests talk to; where they may not be installed, those tests skip by name.
test-packages:
	@sh deploy/install-test-packages.sh

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo-output
