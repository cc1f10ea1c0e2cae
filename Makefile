# make demo and make test each work as the first command in a fresh clone: they need Python 3.10 or
# newer with venv, and a C++ compiler (g++ 11 or newer). Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
OUT ?= out/gpu-check
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PIP := $(INSTALL) -c constraints.txt
NATIVE_SOURCES := $(shell find csrc -type f -not -name '*.py')

.PHONY: demo test cuda gpu-check lint format check-install bench pictures clean
.PHONY: accuracy sanitize mutants rng-battery check-torch

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/train_vae.py $(ARGS)

# The workers share the cores: threads that wait in a loop would take them from one another.
test: $(VENV)/test.stamp cuda
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS)

# The promises one by one, at length; `make test` has the quick part of each.
accuracy: $(VENV)/test.stamp
	$(BIN)/python -m tests.accuracy --out docs $(ARGS)

sanitize: $(VENV)/test.stamp
	$(BIN)/python tools/sanitize.py $(ARGS)

mutants: $(VENV)/test.stamp
	$(BIN)/python tools/mutants.py $(ARGS)

rng-battery: $(VENV)/test.stamp
	$(BIN)/python tools/rng_battery.py $(ARGS)

# Compiles the CUDA kernels, GPU or not: warnings and spilled registers are errors.
cuda: $(VENV)/base.stamp
	@$(BIN)/python csrc/compile_cuda.py --find > /dev/null || { echo "installing nvcc ..."; \
		$(PIP) nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl; }
	$(BIN)/python csrc/compile_cuda.py --out build/cuda

# Everything that only a GPU shows, with the Python and the torch that are there and no network.
gpu-check:
	$(PYTHON) tools/gpu_check.py $(OUT)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)
	$(BIN)/mypy

format: $(VENV)/lint.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

# Isolated builds in environments of their own: with the native library, and without it.
check-install: $(VENV)/base.stamp
	sh tools/check_install.sh $(abspath $(BIN)/python)

# The README's pictures, from the committed results.
pictures: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.plot benchmarks/results/*.json --out docs/pictures

# The suite on another torch, by the library that was built with the pinned one: make check-torch
# TORCH=2.10.0, say. Other versions than the pinned are downloads of several GB.
TORCH ?= 2.14.1
check-torch: $(VENV)/native.stamp
	$(PYTHON) -m venv build/torch-$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip --disable-pip-version-check install --quiet torch==$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
		--require-hashes -r tools/requirements.txt
	PYTHONPATH=$(CURDIR) OMP_WAIT_POLICY=passive build/torch-$(TORCH)/bin/python -m pytest -n auto --maxprocesses 8 \
		--ignore tests/test_cuda_build.py $(ARGS)

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist out *.egg-info vae_ext/*.so

$(VENV)/base.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "vae_ext needs Python 3.10 or newer; this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the build tools (minutes the first time) ..."
	$(PIP) torch numpy setuptools pybind11 ninja
	@touch $@

$(VENV)/native.stamp: $(VENV)/base.stamp setup.py pyproject.toml vae_ext/_version.py $(NATIVE_SOURCES)
	@echo "building the native library ..."
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/demo.stamp: $(VENV)/native.stamp
	@echo "installing what the demo needs ..."
	$(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

# The tools of tests and lint, each file of them known by its hash. All that they need is in the list,
# but for torch, which is there.
$(VENV)/tools.stamp: $(VENV)/base.stamp tools/requirements.txt
	@echo "installing the tools of tests and lint ..."
	$(INSTALL) --require-hashes --no-deps -r tools/requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/native.stamp $(VENV)/tools.stamp
	@touch $@

$(VENV)/lint.stamp: $(VENV)/tools.stamp pyproject.toml
	@touch $@
