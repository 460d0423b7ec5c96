# Everything runs in one virtual environment, .venv, which `make` builds and keeps up to date with the sources.
#   make demo    install, then train, encode, rank and report on the digits that scikit-learn ships
#   make test    install, then lint and test
#   make test-gpu   install, then the op tests on a CUDA device and under compute-sanitizer (docs/results/gpu-test.md)
#   make bench-gpu  install, then check and measure on a CUDA device (docs/results/gpu-*.md), under eight minutes
#   make bench   install, then the benchmarks (docs/results/cpu.md), within about twenty minutes
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc dshc_fast python -type f -not -name '*.pyc' 2>/dev/null)

.PHONY: install demo test test-gpu lint bench bench-gpu doctor clean

install: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check '.[dev]'
	@touch $@

demo: install
	$(BIN)/dshc demo --out runs/demo

# One OpenMP thread: hundreds of small torch calls are faster without waking a second; tests of threads ask for theirs.
test: install lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-gpu: install
	$(BIN)/python tests/gpu_run.py

lint: install
	$(BIN)/ruff check .

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/bench_hamming_topk.py
	$(BIN)/python benchmarks/bench_hamming_radius.py
	$(BIN)/python benchmarks/bench_hamming_histogram.py
	$(BIN)/python benchmarks/bench_average_precision.py
	$(BIN)/python benchmarks/bench_class_softmax_loss.py
	$(BIN)/python benchmarks/bench_codes_from_logits.py
	$(BIN)/python benchmarks/tables.py

bench-gpu: install
	$(BIN)/python benchmarks/bench_gpu.py

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check '.[bench]'
	@touch $@

doctor: install
	$(BIN)/python -m dshc_fast
	$(BIN)/dshc doctor

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .ruff_cache
