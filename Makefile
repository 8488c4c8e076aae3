# make venv | lint | test | test-long | demo | schema. Everything happens in .venv and in the testbed's cache folder.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: venv lint test test-long demo schema
venv: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --quiet --editable '.[dev]'
	touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	# libraries are checked where they are sourced: on their own, nothing of what they share is known; of shellcheck's optional checks
	# three are off: braces around every name (2250), and any function whose status is asked for (2310) or left out in $$( ) (2312)
	shellcheck --check-sourced --external-sources --enable=all --exclude=SC2250,SC2310,SC2312 $$(git ls-files '*.sh' | grep -v '^scripts/lib/') .ci/run

test: venv
	$(BIN)/pytest $(PYTEST_ARGS)

test-long: venv
	$(BIN)/pytest -m long $(PYTEST_ARGS)

demo:
	bash tests/demo/demo.sh

schema: venv
	$(BIN)/offline-kit schema > manifests/manifest.schema.json
