# Needs Python 3.11 or later and make. `make check` is what CI runs; the commit hooks run its parts.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests on the control plane mostly wait, so there are more than two cores have use for; each worker
# that runs some starts a control plane of its own, of about 600 MB.
WORKERS ?= 3
# Tests that share a costly fixture are a group, which one worker runs.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test controlplane check format-check lint types contracts coverage format lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make the environment in .venv, with the locked packages

demo: install ## run the demonstration
	$(BIN)/scalerctl demo

test: install ## run the tests
	$(PYTEST)

controlplane: install ## build the control plane of the tests, once; needs Go 1.26
	@echo "control plane of the tests: about ten minutes with an empty cache, no time with a full one"
	$(BIN)/python -m tests.controlplane.build

check: format-check lint types contracts coverage ## run everything that must be green

format-check: install ## check the format
	$(BIN)/python -m ruff format --check .

lint: install ## check the style
	$(BIN)/python -m ruff check .

types: install ## check the types
	$(BIN)/python -m mypy

contracts: install ## check which package may import which
	$(BIN)/lint-imports --no-logo

coverage: install ## run the tests and show what they do not reach
	$(PYTEST) --cov

format: install ## mend the format, and the style where that is safe
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

lock: | $(BIN)/python ## write requirements.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links --quiet -o requirements.txt

clean: ## remove caches and build output; .venv and reports stay
	rm -rf build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -path ./$(VENV) -prune -o -name __pycache__ -exec rm -rf {} +

# The project itself is built with the locked setuptools, so that nothing unlocked is fetched.
$(STAMP): requirements.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked packages into $(VENV); this takes a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || \
	  { echo "make: no '$(PYTHON)' here; install Python 3.11 or later, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: '$(PYTHON)' is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: '$(PYTHON)' lacks venv or ensurepip; install them (Debian and Ubuntu: python3-venv)" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
