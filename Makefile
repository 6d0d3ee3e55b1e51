# make demo   set everything up and run the main job
# make test   set everything up and pass all tests
# make test-fast  the tests that finish quickly, for the daily loop
# make test-core  the kernel's and the optimizers' quick tests, which need only hypothesis, numpy and pytest
# make docs   build the site into build/site
# make lint   ruff, basedpyright, import-linter
# make bench  time the optimizer step against its peers
# make bench-rows  time the kernel's row functions and count their instructions
# make sanitize  the kernel's own tests under AddressSanitizer, UBSan and ThreadSanitizer
# make test-arm  the same tests for 64-bit ARM (NEON), cross-compiled, on an emulator

PYTHON ?= python3.11
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-core test-fast docs lint bench bench-rows sanitize test-arm clean

demo: .venv/lab
	.venv/bin/tangential compare digits --sweep --trials 8 --seeds 3 --optimizers sgd sgdp adamw adamp

test: .venv/dev
	.venv/bin/pytest --numprocesses auto --dist worksteal

test-fast: .venv/dev
	.venv/bin/pytest --numprocesses auto --dist worksteal -m 'not slow'

PYTEST ?= .venv/bin/pytest
test-core:
	$(PYTEST) -m 'not slow' tests/backends/native tests/backends/test_dots.py tests/backends/test_precision.py \
	  tests/invariance/test_audit_proofs.py tests/optim/test_errors.py \
	  tests/optim/test_states.py tests/optim/torch_api/test_torch_conventions.py

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build

lint: .venv/dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/clang-format --dry-run --Werror native/*/*

bench: .venv/dev
	.venv/bin/python bench/step.py

bench-rows: .venv/dev
	@.venv/bin/cmake -S . -B build/bench -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv/bin/ninja \
	  -DTANGENTIAL_BENCH=ON >/dev/null && .venv/bin/ninja -C build/bench --quiet && build/bench/bench_rows

sanitize: .venv/dev
	for kind in address,undefined thread; do \
	  .venv/bin/cmake -S . -B build/$$kind -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv/bin/ninja \
	    -DTANGENTIAL_SANITIZE=$$kind >/dev/null && \
	  .venv/bin/ninja -C build/$$kind --quiet && build/$$kind/test_kernel || exit 1; \
	done

test-arm: .venv/dev
	.venv/bin/cmake -S . -B build/arm -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv/bin/ninja \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DTANGENTIAL_SANITIZE=none >/dev/null
	.venv/bin/ninja -C build/arm --quiet
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/arm/test_kernel

# Debian ships python3.11 without ensurepip; python3.11-venv brings it. pip is the last thing that
# venv makes: where it is there, an earlier set-up was not cut off.
.venv/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y $(PYTHON)-venv; }
	$(PYTHON) -m venv .venv

KERNEL := CMakeLists.txt $(wildcard native/*/*)

.venv/lab .venv/docs .venv/dev: .venv/%: pyproject.toml constraints.txt $(KERNEL) | .venv/bin/pip
	@echo "installing tangential[$*] into .venv (the first time, PyTorch takes a few minutes)"
	$(PIP) --editable '.[$*]'
	@touch $@

clean:
	rm -rf .venv
