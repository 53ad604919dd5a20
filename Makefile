# `make verify` verifies a Redis, `make test` tests this project. Both set up .venv first, from pinned requirements.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := cachelib runbook tests notebooks conftest.py

# The kernel of this environment, not one that the user has installed under the same name.
export JUPYTER_PREFER_ENV_PATH = 1

.PHONY: verify check test nightly lint format lab refresh pins clean help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

verify: .venv/runtime ## verify a Redis of our own; the exit status is the verdict
	@$(BIN)/runbook verify $(ARGS)

# Side by side where nothing is timed; those that mostly wait come first, so that the cores are shared until the end.
PYTEST := $(BIN)/python -m pytest -q
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder

check: .venv/developer lint ## lint, types and unit tests, in a minute and a half; starts no server
	$(PYTEST) -n 2 --dist loadfile tests/unit tests/notebooks

# What measures runs alone, without the tracer, which would slow what it measures.
test: .venv/developer lint ## every test once
	@rm -f coverage.json
	$(PYTEST) --nbval --timeout=300 -m 'not measures' -n 3 --dist loadfile notebooks
	$(PYTEST) --nbval --timeout=300 -m measures notebooks
	$(PYTEST) -m measures tests
	$(PYTEST) --cov --cov-report=term -m 'not measures' $(TOGETHER) tests/compose tests/browser tests/e2e tests/integration tests/notebooks tests/unit
	@$(BIN)/coverage json -q -o .coverage.report.json && $(BIN)/python -m runbook.coverage .coverage.report.json

nightly: .venv/developer test ## all of that, repetitions, full cross products, long soaks, and every drill
	$(PYTEST) --nightly -m 'nightly and measures' tests
	$(PYTEST) --nightly -m 'nightly and not measures' $(TOGETHER) tests
	$(BIN)/runbook drill --all
	$(BIN)/runbook verify --profile full

lint: .venv/developer ## check style, formatting (notebooks included) and types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: .venv/developer ## put style and formatting right
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lab: .venv/runtime ## open JupyterLab on the notebooks
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

refresh: .venv/runtime ## execute the committed notebooks again and keep their outputs
	$(BIN)/runbook refresh

pins: .venv/developer ## pin the requirements anew, from pyproject.toml
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make pins' --extra runbook $(ARGS) pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make pins' --extra runbook --extra dev -c requirements.txt $(ARGS) pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make pins' --extra asgi -c requirements.txt $(ARGS) pyproject.toml -o compose/health/requirements.txt

clean: ## remove .venv and what tools cached
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* *.egg-info

# `pip install -e .` takes no hashes, so it installs nothing but ourselves, with the pinned build backend.
.venv/runtime: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

.venv/developer: .venv/runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
