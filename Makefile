# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Files side by side, on as many cores as there are but with room for TensorFlow in each process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Modules are compiled when they are first imported: most of what is installed never is.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
PACKAGES := $(wildcard plugins/*/pyproject.toml) tests/support/pyproject.toml

.PHONY: demo test fast nightly lint bench docs clean

demo: $(VENV)/.demo
	$(BIN)/keras-transfer demo --output demo

test: $(VENV)/.test $(VENV)/.node
	$(PYTEST) -m "not nightly"

fast: $(VENV)/.test
	$(PYTEST)

nightly: $(VENV)/.test $(VENV)/.node
	KERAS_TRANSFER_TEST_EXAMPLES=150 $(PYTEST) -m "nightly or drawn"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/photos.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/probe.py
	$(BIN)/python benchmarks/finetune.py

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c "" >/dev/null 2>&1 || { echo "There is no $(PYTHON) here that runs. Try: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) tests/support/preflight.py $(PYTHON) .
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(INSTALL) --upgrade "pip>=26"

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable ".[demo,openvino]"
	@touch $@ $(VENV)/.demo

$(VENV)/.test: pyproject.toml $(PACKAGES) | $(BIN)/python
	$(INSTALL) --editable ".[demo,docs,parquet,saved-model,test]" $(foreach package,$(PACKAGES),--editable $(dir $(package)))
	@touch $@ $(VENV)/.demo $(VENV)/.bench

# LiteRT.js, for the tests of exported files and of the page in it; without it they are skipped.
$(VENV)/.node: | $(BIN)/python
	@if npm install --silent --no-audit --no-fund --prefix $(VENV)/node @litertjs/core@2.5.3; then touch $@; \
	else echo "npm cannot install @litertjs/core: the tests of LiteRT.js are skipped" >&2; fi

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable ".[docs]"
	@touch $@
