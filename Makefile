# Every target installs its requirements. The machine needs Python 3.11 or newer, git and make.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
export CATIMAGE_SHARED ?= ../shared
export GX_ANALYTICS_ENABLED = false
export BENTOML_DO_NOT_TRACK = True
export DO_NOT_TRACK = 1
HOST = 127.0.0.1
PORT = 3000

.PHONY: help setup demo demo-operations test test-system lint format bench wheel serve weights clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready ## Create .venv from requirements.lock, unless it is up to date

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "CATImage needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; \
	  rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

demo: setup ## Run all stages on the embedded pool, register the router, print the results
	$(BIN)/python -m flows.retrain

demo-operations: setup ## Drift, retraining, promotion and rollback with real servers
	$(BIN)/python -m experiments.operations

test: setup ## Run the tests in parallel, one process per core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-system: setup ## Run the tests that start real services, one after another
	$(BIN)/python -m pytest -m system --timeout 900 --timeout-method signal

lint: setup ## Run ruff (linter and formatter) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the code and apply the automatic fixes of ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure speed and memory against alternatives (benchmarks/README.md)
	$(BIN)/python -m benchmarks

wheel: setup ## Build the wheel in build/wheel
	rm -rf build/wheel
	$(BIN)/uv build --quiet --wheel --out-dir build/wheel

serve: setup ## Serve the Bento of dist/ (PORT=3000; HOST=0.0.0.0 to listen on all addresses)
	$(BIN)/python -m catimage.serving.bento --host $(HOST) --port $(PORT)

weights: setup ## Train the embedded pool and install it (minutes on a GPU, days on a CPU)
	$(BIN)/python -m catimage_tiny

clean: ## Remove all outputs, but not the environment
	rm -rf .catimage build data models reports dist mlflow.db mlruns
