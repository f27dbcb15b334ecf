# Every target sets up what it needs: a machine with Python 3.11+, git and make is enough.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
export CATIMAGE_SHARED ?= ../shared
export GX_ANALYTICS_ENABLED = false
export BENTOML_DO_NOT_TRACK = True
export DO_NOT_TRACK = 1

.PHONY: help setup demo test lint format bench serve weights clean

help: ## What there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready ## Make .venv from requirements.lock; nothing to do when it is up to date

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "CATImage needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

demo: setup ## The whole loop on the tiny pool: sample to package, register, and a table of results
	$(BIN)/python -m flows.retrain

test: setup ## The tests, a file at a time on each core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: setup ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Speed and memory beside what a user would pick instead (benchmarks/README.md)
	$(BIN)/python -m benchmarks

serve: setup ## Serve the Bento that the package stage built, on port 3000
	$(BIN)/bentoml serve $$($(BIN)/python -c 'import json; print(json.load(open("dist/bento.json"))["tag"])') --port 3000

weights: setup ## Train the tiny pool from scratch into build/ and copy it to the package (half a day on two cores, less on a GPU)
	$(BIN)/python -m catimage_tiny

clean: ## Remove what was built, keep the environment
	rm -rf build data models reports dist mlflow.db mlruns
