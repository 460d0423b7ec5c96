# Everything runs in one virtual environment, .venv, which `make` builds and keeps up to date with the sources.
#   make demo       install, then train, encode, rank and report on the digits that scikit-learn ships
#   make test       install, then lint and test; what is run while working
#   make test-deep  install, then the sweeps: more random examples, the slow tests, other processors emulated
#   make test-services  install, then exports searched by each database's own engine, the service in a browser, fuzzing,
#                   shards on nodes of Ray
#   make docs       install, then the documentation site (build/docs/index.html), built strictly and without a network
#   make wheel      manylinux wheels, without and (where nvcc is) with CUDA, tried where no compiler is (dist/cpu, dist/cuda)
#   make on-gpu     check, test and measure on a CUDA device, without a network (runs/on-gpu, docs/benchmarks.md)
#   make bench      install, then the benchmarks (docs/results/cpu.md), half an hour or so
# What each may take: CONTRIBUTING.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc dshc_fast python -type f -not -name '*.pyc' 2>/dev/null)
# .venv stays on this machine: where it has no GPU, kernels are compiled for one architecture, to see that they compile.
ARCHITECTURES ?= $(shell nvidia-smi -L > /dev/null 2>&1 || echo 90a)
KERNELS := $(if $(ARCHITECTURES),-C cmake.define.DSHC_CUDA_ARCHITECTURES=$(ARCHITECTURES))
# A process a core. One OpenMP thread in each: hundreds of small torch calls are faster without waking a second; tests of
# threads ask for theirs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: install demo test test-deep test-services lint docs bench wheel wheel-cpu wheel-cuda .wheel-cuda on-gpu doctor clean

install: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(KERNELS) '.[dev]'
	@touch $@

demo: install
	$(BIN)/dshc demo --out runs/demo

test: install lint
	$(PYTEST)

test-deep: install
	HYPOTHESIS_PROFILE=deep $(PYTEST) -m "deep or property"

# A file's tests in one process: they share its servers.
test-services: $(VENV)/.services
	$(PYTEST:worksteal=loadfile) -m services tests/services

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A warning is an error: a link that leads nowhere, a name that a docstring refers to and that does not exist.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -d build/docs-trees docs build/docs

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/bench_hamming_topk.py
	$(BIN)/python benchmarks/bench_simd_levels.py
	$(BIN)/python benchmarks/bench_hamming_radius.py
	$(BIN)/python benchmarks/bench_asymmetric_topk.py
	$(BIN)/python benchmarks/bench_hamming_pairs.py
	$(BIN)/python benchmarks/bench_hamming_histogram.py
	$(BIN)/python benchmarks/bench_average_precision.py
	$(BIN)/python benchmarks/bench_class_softmax_loss.py
	$(BIN)/python benchmarks/bench_codes_from_logits.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/obvious.py
	$(BIN)/python benchmarks/obvious.py --level avx2
	$(BIN)/python benchmarks/two_threads.py

# $(1): cpu or cuda; $(2): what the build is told; $(3): what the trial is. The kernels of a wheel are for all architectures.
define build_wheel
	rm -rf build/wheels/$(1) dist/$(1)
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps -w build/wheels/$(1) -C build-dir=build/wheels/cmake-$(1) $(2) .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair -w dist/$(1) build/wheels/$(1)/*.whl
	$(PYTHON) tests/helpers/try_wheel.py dist/$(1)/*.whl --dependencies "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(3)
endef

wheel: wheel-cpu wheel-cuda

wheel-cpu: $(VENV)/.wheel
	$(call build_wheel,cpu,-C cmake.define.DSHC_CUDA=OFF)

wheel-cuda: $(VENV)/.wheel
	@if command -v nvcc > /dev/null || test -x /usr/local/cuda/bin/nvcc; then $(MAKE) --no-print-directory .wheel-cuda; \
	else echo "no wheel with CUDA: nvcc was not found"; fi

.wheel-cuda:
	$(call build_wheel,cuda,-C cmake.define.DSHC_CUDA=ON -C 'cmake.define.DSHC_CUDA_ARCHITECTURES=80;90a;90-virtual',--cuda)

# In the environment that PYTHON is of, which has a torch that sees the device: nothing is fetched.
on-gpu:
	$(PYTHON) benchmarks/on_gpu.py --out runs/on-gpu

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check $(KERNELS) '.[docs]'
	@touch $@

$(VENV)/.services: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check $(KERNELS) '.[services,browser]'
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check $(KERNELS) '.[bench]'
	@touch $@

$(VENV)/.wheel: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check '.[wheel]' $(KERNELS)
	@touch $@

doctor: install
	$(BIN)/python -m dshc_fast
	$(BIN)/dshc doctor

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache
