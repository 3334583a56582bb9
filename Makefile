# The commands that development and continuous integration share. Everything is installed into $(VENV).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := src csrc tests recipes bench
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadscope

.PHONY: build peers test full check lint types contracts size format system-packages clean

build: $(READY) ## the package, editable, with its compiled kernels and everything the tests need

$(READY): pyproject.toml CMakeLists.txt $(wildcard csrc/*)
	@$(MAKE) --no-print-directory system-packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test,dev]'
	@touch $@

peers: build ## what bench/peers.py measures beside, compiled for this processor: some 7 minutes on one core
	CMAKE_ARGS="-DGGML_NATIVE=ON" CXXFLAGS="-include $(CURDIR)/tools/tile_config.h" CMAKE_BUILD_PARALLEL_LEVEL=1 \
	  $(BIN)/pip install --quiet --no-cache-dir --no-binary llama-cpp-python llama-cpp-python gguf

test: build ## every test, with reduced counts
	$(PYTEST)

full: build ## every test, with the counts that the documentation reports
	OSSATURE_TEST_COUNTS=full $(PYTEST) --timeout 3600

check: lint types contracts size ## everything that reads the code without running it

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build
	$(BIN)/pyright --pythonpath $(BIN)/python

contracts: build
	$(BIN)/lint-imports --no-cache

size: ## no source file over 400 lines
	@find $(SOURCES) -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.cpp' -o -name '*.h' \) -exec wc -l {} + \
	  | awk '$$2 != "total" && $$1 > 400 { print $$2 ": " $$1 " lines, at most 400"; bad = 1 } END { exit bad }'

format: build ## put every file in the form that `lint` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

system-packages: ## what pip cannot install: does nothing where everything is there
	@PYTHON=$(PYTHON) bash tools/system_packages.sh

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests recipes bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/ossature/_core*.so
