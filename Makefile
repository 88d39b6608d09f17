# Everything a person does with a checkout. `make install` runs once; the other targets call it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := paretopipe_runtime paretopipe_matrix analysis

.PHONY: help install demo test lint bench clean testbed testbed-down test-pi

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

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

lint: $(STAMP) ## ruff, mypy, yamllint, ansible-lint (profile production)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH=$(CURDIR)/$(BIN):$$PATH ansible-lint -q

# Integration tests that time nothing and take no cores for themselves: they run beside each other, as unit tests do.
SIDE_BY_SIDE := $(patsubst %,tests/integration/test_%.py,engines playbooks pp_analyze_cli pp_matrix_simulated \
  report_browser split_equals_whole)

test: lint ## Lint and run all tests (root: the system tests make hosts and install their Debian packages)
	tests/system/packages.sh
	$(BIN)/python -m pytest -n auto tests/unit $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest tests/integration tests/gpu tests/system $(SIDE_BY_SIDE:%=--ignore=%)

# Hosts are made by root; whoever called sudo gets their key, and all the rest is done by ssh.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

testbed: $(STAMP) ## Make two virtual hosts on this machine and provision them (root or sudo)
	$(SUDO) $(BIN)/ansible-playbook -i inventory/virtual.yml playbooks/virtual.yml
	$(BIN)/ansible-playbook -i inventory/virtual.yml playbooks/provision.yml

testbed-down: $(STAMP) ## Remove the virtual hosts with everything on them (root or sudo)
	$(SUDO) $(BIN)/ansible-playbook -i inventory/virtual.yml playbooks/virtual.yml -e virtual_host_state=absent

test-pi: $(STAMP) ## Provision an emulated Raspberry Pi 4 and run pipelines on it -> results/test-pi/ (root or sudo; 15 minutes, then 8)
	$(SUDO) $(BIN)/python -m pytest -x tests/pi

bench: $(STAMP) ## Measure the ratios of docs/benchmarks.md (about 25 minutes, root for one of them; leave the machine alone)
	$(BIN)/python -m benchmarks

clean: ## Remove the virtual environment and caches, never results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
