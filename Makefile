# make demo and make test each work as the first command in a fresh clone: they need Python 3.10 or
# newer with venv, and a C++ compiler (g++ 11 or newer). Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
OUT ?= out/gpu-check
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
NATIVE_SOURCES := $(shell find csrc -type f)

.PHONY: demo test cuda gpu-check lint format check-install bench pictures clean

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/train_vae.py $(ARGS)

test: $(VENV)/test.stamp cuda
	$(BIN)/python -m pytest $(ARGS)

# Compiles the CUDA kernels, GPU or not: warnings and spilled registers are errors.
cuda: $(VENV)/base.stamp
	@$(BIN)/python tools/compile_cuda.py --find > /dev/null || { echo "installing nvcc ..."; \
		$(PIP) nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl; }
	$(BIN)/python tools/compile_cuda.py --out build/cuda

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

$(VENV)/native.stamp: $(VENV)/base.stamp setup.py pyproject.toml vae_ext/version.py $(NATIVE_SOURCES)
	@echo "building the native library ..."
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/demo.stamp: $(VENV)/native.stamp
	@echo "installing what the demo needs ..."
	$(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/native.stamp
	@echo "installing what the tests need ..."
	$(PIP) --no-build-isolation -e '.[demo,test]'
	@touch $@

$(VENV)/lint.stamp: $(VENV)/base.stamp pyproject.toml
	@echo "installing the linters ..."
	$(PIP) ruff clang-format mypy pre-commit pytest rich
	@touch $@
