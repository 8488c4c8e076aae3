# Everything happens in .venv and in the testbed's cache folder. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: help venv format lint lint-shell lint-docs dead test test-unit test-long faults cov demo copies schema reference site
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.ready ## the virtual environment with everything for development

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --quiet --editable '.[dev]'
	touch $@

format: venv ## put code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: venv lint-shell lint-docs ## ruff, mypy --strict, import-linter, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-shell: venv ## shellcheck over each script with its libraries
	$(BIN)/python -m tests.testbed.lint_shell

# code, tables and headings are as wide as they are; a word longer than a line, such as a link, too; awk counts bytes, so no Chinese
lint-docs: ## pages are wrapped at 140 columns
	@awk 'FNR == 1 { code = 0 } /^```/ { code = !code } !code && !/^(    |\||#)/ && length($$0) > 140 && /[^ ] [^ ]+ [^ ]/ { \
		print FILENAME ":" FNR ": " length($$0) " columns, 140 at most"; bad = 1 } END { exit bad }' \
		$$(git ls-files '*.md' ':!tests' ':!offline_kit' ':!docs/adr/README.md' ':!README.zh-CN.md')

dead: venv ## what nothing uses; exceptions are named in pyproject.toml
	$(BIN)/vulture

test: venv ## all tests but the long ones: real dockerd, registry, nginx, Compose and vLLM on the CPU; as root on Debian or Ubuntu
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-unit: venv ## the unit tests: no root, Docker or network, under two minutes
	$(BIN)/pytest tests/unit -m 'not long and not root' -n 3 $(PYTEST_ARGS)

test-long: venv ## newer Docker engines, a host that restarts, interruptions and upgrades at random moments
	$(BIN)/pytest -m long $(PYTEST_ARGS)

faults: venv ## every stage of the way with every fault, as a table: docs/faults.md
	$(BIN)/python -m tests.faults $(PYTEST_ARGS)

cov: venv ## the unit tests with coverage
	$(BIN)/pytest tests/unit -m 'not long and not root' --cov=offline_kit --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

demo: ## the whole way on this machine, without a GPU
	bash tests/demo/demo.sh

copies: venv ## write the blocks that stand in several scripts anew, from the library
	$(BIN)/python -m tests.integration.trust.script_blocks

site: venv ## the documentation as a site that reads offline: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file website/mkdocs.yml

schema: venv ## write manifests/manifest.schema.json
	$(BIN)/offline-kit schema > manifests/manifest.schema.json

reference: schema ## write what is made from the program: docs/manifest-reference.md, man/man1
	$(BIN)/python -m reference
