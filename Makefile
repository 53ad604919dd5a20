# `make verify` proves a Redis, `make check` and `make test` test this code. Each sets up .venv first, from pinned requirements.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := cachelib runbook tests notebooks conftest.py

# The kernel of this environment, not one that the user has installed under the same name.
export JUPYTER_PREFER_ENV_PATH = 1

# The tests start hundreds of processes. Without byte code on disk each of them would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

# A file of tests runs in one worker. Files start in this order, so that the longest do not start last.
TESTS := tests/e2e/test_all_drills.py tests/e2e tests/compose tests/integration tests/browser tests/unit tests/notebooks
PYTEST := $(BIN)/python -m pytest -q
SHARED := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: verify check test nightly lint format lab refresh pins clean help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

verify: .venv/runtime ## verify a Redis of our own; the exit status is the verdict
	@$(BIN)/runbook verify $(ARGS)

check: .venv/developer lint ## lint, types and unit tests, in 90 seconds and without a server
	$(PYTEST) -n 2 --dist loadfile tests/unit tests/notebooks

# The notebooks, and the tests that measure, run without coverage, which would slow what they measure; those that measure run one by one.
# NIGHTLY is `--nightly`, or empty.
test: .venv/developer lint ## lint and every test, each fault once, in 12 minutes
	@rm -f coverage.json
	$(PYTEST) $(NIGHTLY) --nbval --timeout=300 -m 'not measures' $(SHARED) notebooks
	$(PYTEST) $(NIGHTLY) --nbval --timeout=300 -m measures notebooks
	$(PYTEST) $(NIGHTLY) -m measures $(TESTS)
	$(PYTEST) $(NIGHTLY) -m 'not measures' --cov --cov-report=term $(SHARED) $(TESTS)
	@$(BIN)/coverage json -q -o .coverage.report.json && $(BIN)/python -m runbook.coverage .coverage.report.json

# What takes too long for each change: the tests that are marked `nightly` besides all others, every drill as often as it takes, and every notebook.
nightly: NIGHTLY := --nightly
nightly: test ## the same with repetitions, all drills and a full verification, in an hour and a half
	$(BIN)/runbook drill --all --profile full
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
