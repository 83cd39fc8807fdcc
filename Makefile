# make demo [INPUT=...] | make test | make check | make lint | make site | make install | make install-train
# Everything lives in .venv of this checkout; nothing but Python (3.11 or newer) and make has to be there before.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=
OUT ?= demo-output
# The first interpreter that is new enough and can make an environment.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Directions, documents, database, admission and geometry: what most changes break first, without slow tests.
QUICK_TESTS := tests/test_house.py tests/test_documents.py tests/test_names_in_documents.py tests/catalog tests/admit tests/assemble

.PHONY: demo test check lint bench install install-dev install-train test-packages docs site clean

demo: install
	$(BIN)/dissm-node demo --out $(OUT) $(if $(INPUT),--input "$(INPUT)")

test: install-dev test-packages
	$(BIN)/pytest

# Before every commit: everything that is not slow, at most three minutes after the installation.
check: static
	$(BIN)/pytest -m "not slow and not thirdparty" $(QUICK_TESTS)

lint: static site

.PHONY: static
static: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, in site/: every link and every name that it refers to must exist.
site: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Speed and memory of this machine (bench/README.md); on an idle machine, needs DCMTK for the listener.
bench: install
	$(BIN)/python -m bench.delineation
	$(BIN)/python -m bench.receiving_speed
	$(BIN)/python -m bench.turnaround

# The table of reasons in docs/operations.md and the tables of the conformance statement, from what the program uses.
docs: install
	$(BIN)/python docs/reasons_table.py docs/operations.md
	$(BIN)/python docs/conformance_tables.py docs/conformance.md

install: $(VENV)/.installed
# What dissm-train needs beside the node.
install-train: $(VENV)/.installed-train
install-dev: $(VENV)/.installed-dev

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv was found; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# Installed once; again when the pinned versions change.
$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-train: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Programs from outside Python that tests talk to; where they may not be installed, those tests skip by name.
test-packages:
	@sh deploy/install-test-packages.sh

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo-output
