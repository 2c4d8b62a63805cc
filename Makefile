# `make help` lists what there is to do. Needs make and Python 3.11 or newer; everything else goes into $(VENV).

PYTHON ?= python3
VENV ?= .venv
# What pip is told to install as torch, before anything else. Empty keeps the torch that $(VENV) has.
TORCH ?= torch==2.13.0

ifneq ($(words $(VENV)),1)
$(error VENV is "$(VENV)"; give one path without spaces, for make would take it for several)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# Everything but torch, in one version and with its hash; `make lock` writes it. The project itself is installed from here.
LOCK := requirements/locked.txt
INSTALL_PROJECT := $(PIP) --no-build-isolation --no-deps -e .
# $(1) stands while pip installs $(2). Where it stood before, pip was killed, perhaps among the files of a package that it
# would now take for installed; so everything is installed anew.
INSTALL = anew=$$(test ! -f $(1) || echo --force-reinstall); touch $(1) && $(PIP) $$anew $(2) && rm $(1)
# Writes what pyproject.toml and locked.in ask for, resolved, without torch and what comes with it.
RESOLVE := $(BIN)/uv pip compile --quiet --python $(BIN)/python --excludes requirements/excluded.txt \
	--extra dev --extra demo --extra docs pyproject.toml requirements/locked.in
UV := uv==0.13.9

# A stamp is written when a step is through, so an interrupted one is done again and a finished one is not.
VENV_READY := $(VENV)/.rolewise-venv
TORCH_READY := $(VENV)/.rolewise-torch
READY := $(VENV)/.rolewise-ready

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile
DEFAULT_TIER := not slow and not gpu and not browser

define CHECK_PYTHON
{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo '$(PYTHON) is missing or older than Python 3.11; name another, e.g. PYTHON=python3.12' >&2; exit 1; }; } && \
{ $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	{ echo '$(PYTHON) has no venv module; on Debian: apt install python3-venv' >&2; exit 1; }; }
endef

define CHECK_SAME_PYTHON
{ test "$$($(PYTHON) -c '$(PYTHON_VERSION)')" = "$$($(BIN)/python -c '$(PYTHON_VERSION)')" || \
	{ echo '$(VENV) has another Python than $(PYTHON); give a VENV of its own for that one' >&2; exit 1; }; }
endef
PYTHON_VERSION := import sys; print(sys.version_info[:2])

define CHECK_TORCH
{ $(BIN)/python -c 'import torch' 2>/dev/null || \
	{ echo 'TORCH= keeps the torch of $(VENV), and that has none that can be loaded; leave TORCH out, or name one' >&2; \
	exit 1; }; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-newest test-oldest test-resolved lint docs lock schemas clean FORCE
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo         label, train SFT and RFT and compare, on a small real model; results in demo-run/'
	@echo 'make test         lint, then the tests that need no accelerator and no long wait'
	@echo 'make test-all     the slow, engine and browser tiers too; needs chromium and chromedriver'
	@echo 'make test-newest  the tests with the newest releases that pyproject.toml allows; a deprecation fails'
	@echo 'make test-oldest  the tests with the oldest'
	@echo 'make lint         ruff and mypy'
	@echo 'make docs         the documentation with its API reference as a site in site/; a broken link fails'
	@echo 'make lock         resolve anew what the other targets install: $(LOCK)'
	@echo 'make schemas      write docs/schemas/ anew, the JSON Schemas of the config files'
	@echo 'make clean        remove environments, caches and build outputs; demo-run/ stays'
	@echo
	@echo 'demo, test, lint and docs build $(VENV) when it is missing or the lock has changed.'
	@echo '  PYTHON=python3.12     the Python to build it with (now $(PYTHON))'
	@echo '  VENV=path             use or build another environment'
	@echo '  TORCH=torch           the newest torch;  TORCH=  the one that VENV has already'
	@echo '  TORCH="torch --index-url https://download.pytorch.org/whl/cpu"   a torch without CUDA, much smaller'

demo: $(READY)
	$(BIN)/rolewise demo --output demo-run

# A process per core, each with one thread of its own, or they would wait for each other.
test: lint
	$(PYTEST) -m "$(DEFAULT_TIER)"

test-all: lint
	$(PYTEST) -m "not gpu"

# Each resolves anew in an environment of its own. torch is $(TORCH) in both, for PyPI's own builds bring CUDA's libraries.
test-newest:
	$(MAKE) test-resolved VENV=$(VENV)-newest RESOLUTION=highest PYTEST_OPTIONS=--fail-on-deprecations

test-oldest:
	$(MAKE) test-resolved VENV=$(VENV)-oldest RESOLUTION=lowest-direct

test-resolved: $(TORCH_READY)
	$(PIP) $(UV)
	$(RESOLVE) --resolution $(RESOLUTION) --output-file $(VENV)/requirements.txt --upgrade
	$(call INSTALL,$(VENV)/.rolewise-resolving,--no-deps -r $(VENV)/requirements.txt)
	$(INSTALL_PROJECT)
	@$(BIN)/python -m pip list --disable-pip-version-check 2>/dev/null | grep -iE '^(torch|transformers|trl|peft|accelerate|datasets) '
	$(PYTEST) -m "$(DEFAULT_TIER)" $(PYTEST_OPTIONS)

lint: $(READY)
	$(BIN)/ruff check --extend-exclude $(VENV) .
	$(BIN)/ruff format --check --extend-exclude $(VENV) .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lock: $(VENV_READY)
	$(PIP) $(UV)
	$(RESOLVE) --universal --python-version 3.11 --generate-hashes --upgrade --custom-compile-command 'make lock' \
		--output-file $(LOCK)

schemas: $(READY)
	mkdir -p docs/schemas
	for command in $$($(BIN)/python -c 'from rolewise.cli.schema import commands; print(*commands())'); do \
		$(BIN)/rolewise schema $$command >docs/schemas/$$command.json || exit 1; done

clean:
	rm -rf .venv .venv-newest .venv-oldest build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# One make at a time builds here, where the system has flock; a second waits for it, and finds what it made.
ifndef ALONE
$(VENV_READY) $(TORCH_READY) $(READY): FORCE
	@if ! command -v flock >/dev/null; then $(MAKE) --no-print-directory ALONE=1 $@; else \
		flock -n . true || echo 'waiting for another make that builds an environment here' >&2; \
		flock . $(MAKE) --no-print-directory ALONE=1 $@; fi
else

# INSTALLER is the last of its files that pip installs; a pip without it was left half made. A Python that is asked for
# must be the one that the environment has.
$(VENV_READY): $(if $(findstring command,$(origin PYTHON)),FORCE)
	@test ! -f $@ || { $(CHECK_PYTHON) && $(CHECK_SAME_PYTHON); }
	@test -f $@ || $(BIN)/python -c 'from importlib.metadata import distribution as d; assert d("pip").read_text("INSTALLER")' \
		2>/dev/null || { $(CHECK_PYTHON) && \
			rm -rf $(addprefix $(VENV)/lib/python3*/site-packages/,pip pip-*) && $(PYTHON) -m venv $(VENV); }
	@test -f $@ || touch $@

# Written anew only when TORCH is another than last time, so that TORCH=... takes effect on an environment that stands.
$(TORCH_READY): $(VENV_READY) FORCE
	@{ test -f $@ && test "$$(cat $@)" = '$(TORCH)'; } || \
		{ $(if $(strip $(TORCH)),$(call INSTALL,$@-installing,$(TORCH)),$(CHECK_TORCH)) && echo '$(TORCH)' >$@; }

# The lock's packages are installed without looking at what they ask for: it is complete, and torch is not in it.
$(READY): $(TORCH_READY) $(LOCK) pyproject.toml
	$(call INSTALL,$@-installing,--require-hashes --no-deps -r $(LOCK))
	$(INSTALL_PROJECT)
	@touch $@

endif
