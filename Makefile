# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Files side by side, on as many cores as there are but with room for TensorFlow in each process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
PLUGINS := $(wildcard plugins/*/pyproject.toml)

.PHONY: demo test fast lint bench docs clean

demo: $(VENV)/.demo
	$(BIN)/keras-transfer demo --output demo

test: $(VENV)/.test
	$(PYTEST) -m ""

fast: $(VENV)/.test
	$(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.demo
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/probe.py
	$(BIN)/python benchmarks/finetune.py

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.10 to 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[demo]"
	@touch $@

$(VENV)/.test: pyproject.toml $(PLUGINS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[demo,docs,parquet,saved-model,test]" $(foreach plugin,$(PLUGINS),--editable $(dir $(plugin)))
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@
