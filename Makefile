# Everything a person does with a checkout. `make install` runs once; the other targets call it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := paretopipe_runtime paretopipe_matrix analysis

.PHONY: help install demo test lint bench clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP) ## Create .venv with everything (once; about 6 GB, because torch's plain wheels bring CUDA)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than 3.11; run make PYTHON=/path/to/python3.11 install" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[controller,dev]'
	@touch $@

demo: $(STAMP) ## Measure mobilenet_v2 on this machine and draw its frontier (under 4 minutes)
	rm -rf results/demo
	$(BIN)/pp-matrix run --spec examples/demo.yml --out results/demo
	$(BIN)/pp-analyze frontier results/demo

lint: $(STAMP) ## ruff, mypy, ansible-lint's and yamllint's rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .

test: lint ## Lint and run all tests
	$(BIN)/python -m pytest

bench: $(STAMP) ## Measure the ratios of docs/benchmarks.md (about 6 minutes; leave the machine alone)
	$(BIN)/python -m benchmarks

clean: ## Remove the virtual environment and caches, never results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
