# `make demo`, `make test`, `make check` each start from nothing: they make .venv when it is not there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.dev
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test check format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints/ci.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints/ci.txt --editable .
	touch $@

$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints/ci.txt --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/curate demo

test: $(DEV)
	$(BIN)/python -m pytest

check: $(DEV)
	mkdir -p .typings && ln -sfn .. .typings/curate
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .typings demo-run build dist *.egg-info
