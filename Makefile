# The commands that development and continuous integration share. Everything is installed into $(VENV).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := src csrc tests recipes bench
KERNEL_TEST := cmake -S . -DCMAKE_BUILD_TYPE=Release -DOSSATURE_KERNEL_TEST=ON
JOBS ?= $(shell nproc)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadscope

.PHONY: build peers test full check lint types contracts size kernels sanitize neon older-processors \
        format system-packages clean

build: $(READY) ## the package, editable, with its compiled kernels and everything the tests need

$(READY): pyproject.toml CMakeLists.txt $(wildcard csrc/*.*)
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

kernels: build/kernels/kernel_test ## every kernel of every instruction set here, tested without Python
	$<

sanitize: ## the same under AddressSanitizer and UndefinedBehaviorSanitizer
	@bash tools/system_packages.sh cmake
	$(KERNEL_TEST) -B build/sanitize -DOSSATURE_SANITIZE=ON >/dev/null
	cmake --build build/sanitize --parallel $(JOBS) >/dev/null
	build/sanitize/kernel_test

neon: ## the same for 64-bit Arm, in an emulator: with the dot product instructions, and on a processor without
	@bash tools/system_packages.sh cmake aarch64-linux-gnu-g++ qemu-aarch64
	$(KERNEL_TEST) -B build/neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static >/dev/null
	cmake --build build/neon --parallel $(JOBS) >/dev/null
	qemu-aarch64 -cpu max build/neon/kernel_test emulated neon_dot neon scalar
	qemu-aarch64 -cpu cortex-a72 build/neon/kernel_test emulated neon scalar

older-processors: build/kernels/kernel_test ## the same on emulated x86 processors that lack instructions which were built
	@bash tools/system_packages.sh qemu-x86_64
	qemu-x86_64 -cpu Haswell $< emulated avx2 scalar 2> >(grep -v "TCG doesn't support" >&2)
	qemu-x86_64 -cpu Nehalem $< emulated scalar

build/kernels/kernel_test: CMakeLists.txt $(wildcard csrc/*.* csrc/tests/*)
	@bash tools/system_packages.sh cmake
	$(KERNEL_TEST) -B build/kernels >/dev/null
	cmake --build build/kernels --parallel $(JOBS) >/dev/null

format: build ## put every file in the form that `lint` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

system-packages: ## what pip cannot install: does nothing where everything is there
	@PYTHON=$(PYTHON) bash tools/system_packages.sh

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests recipes bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f src/ossature/_core*.so
