# `make run` shows what the lab does, `make lab` opens it, `make test` checks it. Each sets up .venv by itself.
#
#   PYTHON=python3.12    the interpreter that .venv is made from (3.11 or newer)
#   TORCH=default        PyPI's build of torch (on Linux: several GB with CUDA) instead of the CPU
#                        build; chosen when .venv is made, so run `make clean` before changing it
#   JOBS=2               tests at a time; without it three, or one where there is less than 6 GB of memory
#   ARGS="..."           passed on to `pnnlab run`, `pnnlab lab` or pytest

PYTHON        ?= python3
TORCH         ?= cpu
# A version that both indexes hold: pip then prefers the CPU build, as 2.13.0+cpu sorts after 2.13.0.
TORCH_VERSION ?= 2.13.0
TORCH_INDEX   ?= https://download.pytorch.org/whl/cpu
ARGS          ?=

# Bytes of memory: of the machine, or of the container where that is less.
MEMORY := $(shell { cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; \
            awk '/MemTotal/ {printf "%.0f\n", 1024 * $$2}' /proc/meminfo; } 2>/dev/null \
            | grep -x '[0-9]*' | sort -n | head -n 1)
JOBS   ?= $(shell if [ "$(or $(MEMORY),8000000000)" -lt 6000000000 ]; then echo 1; else echo 3; fi)

VENV  := .venv
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

ifeq (,$(filter cpu default,$(TORCH)))
$(error TORCH is '$(TORCH)'; it is cpu (the default) or default (the build that PyPI gives))
endif

.DEFAULT_GOAL := help
.NOTPARALLEL: # the checks of `make test` run in their order, and stop at the first that fails
.PHONY: help setup run results lab test bench lint types imports docs unit notebooks smoke stored pictures format hooks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install everything (three minutes, 2.4 GB; nothing when done)

$(BIN)/activate:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here. Install Python 3.11 or newer, or name one: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version); pnnlab needs 3.11 or newer. Name one: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "→ making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml | $(BIN)/activate
ifeq ($(TORCH)-$(shell uname -s),cpu-Linux)
	@echo "→ installing the CPU build of torch $(TORCH_VERSION)"
	@# No retries: where that index cannot be reached, the default one serves torch after seconds.
	@$(PIP) install -qq --retries 0 --timeout 30 --extra-index-url $(TORCH_INDEX) "torch==$(TORCH_VERSION)" \
	  || { echo "torch $(TORCH_VERSION) could not be installed. Try another version (TORCH_VERSION=...), or PyPI's build (TORCH=default)."; exit 1; }
endif
	@echo "→ installing pnnlab and what it needs"
	@$(PIP) install -qq --editable '.[test]'
	@touch $@

run: $(READY) ## run the notebooks and show the results table
	@$(BIN)/pnnlab run $(ARGS)

results: $(READY) ## gather what was trained at scale paper into the table of README.md
	@$(BIN)/pnnlab results --readme README.md $(ARGS)

lab: $(READY) ## open the notebooks in JupyterLab
	@$(BIN)/pnnlab lab $(ARGS)

bench: $(READY) ## measure what must stay fast
	@$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,iqr,rounds $(ARGS)

test: $(READY) ## all checks, in this order, the first four two at a time:
	@$(MAKE) --no-print-directory -j 2 lint types imports docs
	@$(MAKE) --no-print-directory unit notebooks smoke
	@echo "→ everything holds"

lint: $(READY) ##   style and formatting (ruff)
	@echo "→ style and formatting"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run make format"; exit 1; }

types: $(READY) ##   types (mypy --strict)
	@echo "→ types"
	@$(BIN)/mypy --no-error-summary

imports: $(READY) ##   import order (import-linter)
	@echo "→ import order"
	@$(BIN)/lint-imports --no-logo

docs: $(READY) ##   reference and notebooks as a site in build/docs (sphinx)
	@echo "→ reference site"
	@rm -rf docs/api build/docs
	@$(BIN)/sphinx-build -q -W --keep-going -j 2 -c docs -d build/docs/.trees -b html . build/docs

unit: $(READY) ##   tests (pytest)
	@echo "→ tests"
	@# More at a time than cores, for many wait for a browser or a socket; and in alphabetical order,
	@# for by their number of tests the longest file would begin last.
	@$(BIN)/python -m pytest -q -m "not alone" -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)
	@$(BIN)/python -m pytest -q -m alone $(ARGS) $(if $(ARGS),|| test $$? = 5 # none of those asked for)

notebooks: $(READY) ##   the notebooks still give their stored outputs (nbval)
	@echo "→ stored outputs of the notebooks"
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT INT TERM && \
	  tar --exclude results --exclude .ipynb_checkpoints -cf - notebooks | tar -xf - -C "$$scratch" && \
	  $(BIN)/python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	    -c pyproject.toml --rootdir "$$scratch" -p no:cacheprovider -n 2 --dist loadfile \
	    "$$scratch/notebooks"

smoke: $(READY) ##   every notebook from top to bottom in seconds, two at a time (pnnlab run -p scale smoke)
	@echo "→ every notebook at scale = smoke"
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT INT TERM && \
	  ls -r notebooks/*.ipynb | xargs -n 1 basename -s .ipynb | \
	  xargs -n 8 -P 2 $(BIN)/pnnlab run -p scale smoke --out "$$scratch"

stored: $(READY) ## run the notebooks at their stored scale and keep the outputs (ARGS="03 04" for some)
	@$(BIN)/python tests/store_notebooks.py $(ARGS)

pictures: $(READY) ## make the pictures of README.md and the notebooks anew, in headless Chromium
	@$(BIN)/python tests/pictures.py $(ARGS)

format: $(READY) ## format the code and mend what can be mended by itself
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

hooks: $(READY) ## check what is committed, at every commit (pre-commit)
	@$(BIN)/pre-commit install

clean: ## remove .venv and the caches; results stay
	@rm -rf $(VENV) build *.egg-info .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
