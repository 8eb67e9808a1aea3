# Every target does its own set-up in .venv; a machine needs only Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
# Compiled modules are kept: each process of a test would compile all of them anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo check test lint docs bench chaos lock audit clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/|/' | awk -F'|' '{ printf "  make %-8s%s\n", $$1, $$2 }'

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Headgate needs Python 3.11 or later; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/.ready ## Install everything into .venv
	@echo "ready: $(BIN)/headgate --help"

demo: .venv/.ready ## Send 5,000 contacts to a strict local provider at the full permitted rate
	@$(BIN)/headgate demo

check: lint ## The inner loop: lint, and the tests that start no workers (under a minute on two cores)
	@$(BIN)/python -m pytest -n 3 --dist worksteal tests/unit tests/scripts

test: .venv/.ready ## Run the tests (real store, real worker processes; about 12 minutes on two cores)
	@$(BIN)/python -m pytest -n 4 --dist loadfile

lint: .venv/.ready ## Ruff with every rule on, mypy strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy .ci/audit

docs: .venv/.ready ## Write the generated pages of docs/reference: commands, Genesys operations
	@$(BIN)/python -m tests.support.reference_pages

bench: .venv/.ready ## Print the figures: use of the permitted rate, bells, round trips, CPU per call
	@$(BIN)/python -m tests.bench

chaos: .venv/.ready ## Kill everything at every failpoint, long; and break lines that must turn tests red
	@$(BIN)/python -m pytest -v -o python_files="chaos_*.py" tests/chaos

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
lock: .venv/.ready ## Write the locks anew from pyproject.toml: everything, and what the image needs
	@$(BIN)/$(COMPILE) --extra build --extra dev pyproject.toml -o requirements.lock
	@$(BIN)/$(COMPILE) --extra build --constraint requirements.lock pyproject.toml -o compose/requirements.lock

audit: .venv/.ready ## Ask whether a weakness of any locked package is known (needs the network)
	@$(BIN)/python .ci/audit

clean: ## Remove .venv, caches and the embedded store with its data
	@test ! -d .headgate || test ! -x $(BIN)/python || $(BIN)/python -c 'from pathlib import Path; from workers.store.embedded import stop_embedded; stop_embedded(Path(".headgate"))'
	@rm -rf .venv .headgate .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
