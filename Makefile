# The verbs of this project. Each sets up what it needs; only `setup` uses the network.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup demo test test-slow check bench fuzz docs clean

# A virtual environment with the pinned packages; torch first and alone: its CPU build.
setup: $(READY)
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[finance,medical,serve,ray,redis,privacy,dev]'
	touch $(READY)

# Both kits on bundled inputs, offline.
demo: setup
	$(BIN)/tandem demo

# The tests of the default run.
test: setup
	$(BIN)/pytest -m "not slow and not gpu"

# The tests that take more than a minute each.
test-slow: setup
	$(BIN)/pytest -m slow

# Format, lint, types, import contracts, spelling.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# The benchmarks of a CPU, one after the other (some two hours); each writes one file to benchmarks/results/.
bench: setup
	set -e; for name in $$($(BIN)/python -m benchmarks list); do $(BIN)/python -m benchmarks run $$name; done
	$(BIN)/python -m benchmarks report

# Ten minutes of damaged messages for the codec.
fuzz: setup
	$(BIN)/python tests/fuzz/codec_fuzz.py --seconds 600

# The code blocks of the documents, run as tests.
docs: setup
	$(BIN)/pytest tests/test_documents.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
