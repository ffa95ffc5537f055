# `make setup`, `make demo`, `make test`, `make lint`; nothing else is needed
# beside Python, pip, make and a C++ compiler.
#
#   PYTHON   the interpreter that makes the environment (3.11 is what the
#            requirement files are pinned for)
#   VENV     where the environment lives
#   STACK    onedl (reference) or openmmlab (original)
#   DEMO     where the demo leaves checkpoints and results
#   DATA     where the demo's rendered ships go
#   DEMO_ARGS     more flags for the demo's tools/train.py
#   JOBS     test processes at a time, one thread each
#   PYTEST_ARGS   passed on to pytest
#   WHEELS   where the compiled operators of mmcv are kept, for all clones

PYTHON ?= python3
VENV ?= .venv
STACK ?= onedl
DEMO ?= demo
DATA ?= data/demo
DEMO_ARGS ?=
JOBS ?= 2
PYTEST_ARGS ?=
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/osar_plugin/wheels

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := $(addprefix requirements/, \
	build.txt base.txt $(STACK).txt optional.txt dev.txt)
PACKAGE := setup.cfg pyproject.toml osar_plugin/version.py
# One stamp for the environment, one for the package in it; each carries the
# hash of the files that decide its content, so that a change of those files,
# and nothing else, installs again.
hash = $(shell cat $(1) 2>/dev/null | sha256sum | cut -c1-16)
ENV_STAMP := $(VENV)/.env-$(STACK)-$(call hash,$(REQUIREMENTS))
PACKAGE_STAMP := $(VENV)/.package-$(call hash,$(REQUIREMENTS) $(PACKAGE))
OPS := requirements/downstream.txt requirements/build_ops.sh
OPS_STAMP := $(VENV)/.ops-$(call hash,$(REQUIREMENTS) $(OPS))

.PHONY: help
help:
	@echo 'make setup   the environment in $(VENV), from requirements/*.txt'
	@echo 'make setup-full   the same with mmdet, mmseg, mmpretrain and compiled'
	@echo '                  operators of mmcv (the first time: minutes)'
	@echo 'make demo    render ships, train SDF-Net on them, evaluate, rank'
	@echo 'make test    the whole test suite'
	@echo 'make lint    ruff and mypy'
	@echo 'make clean   what the above left, but for $(VENV) (distclean: all)'

.PHONY: setup
setup: $(PACKAGE_STAMP)

# --no-deps: the files are complete lists, see requirements/README.md.
# MMCV_WITH_OPS=0: no model of this package needs mmcv's compiled operators;
# detectors and segmentors of the toolboxes do (setup-full).
$(ENV_STAMP):
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -qq --no-deps -r requirements/build.txt
	MMCV_WITH_OPS=0 $(PIP) install -qq --no-deps \
		--no-build-isolation -r requirements/$(STACK).txt \
		-r requirements/optional.txt -r requirements/dev.txt
	rm -f $(VENV)/.env-* $(VENV)/.package-* $(VENV)/.ops-*
	touch $@

$(PACKAGE_STAMP): | $(ENV_STAMP)
	$(PIP) install -qq --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/.package-*
	touch $@

.PHONY: setup-full
setup-full: onedl-only setup $(OPS_STAMP)

# downstream.txt pins the toolboxes of the reference stack; over the original
# mmengine and mmcv they would only half replace it.
.PHONY: onedl-only
onedl-only:
ifneq ($(STACK),onedl)
	@echo 'setup-full installs the reference stack (STACK=onedl), not' \
		'STACK=$(STACK): install mmdet, mmsegmentation and mmpretrain' \
		'beside mmcv 2.1 with pip, as their manuals say' >&2; exit 2
endif

$(OPS_STAMP): | $(PACKAGE_STAMP)
	$(PIP) install -qq --no-deps --no-build-isolation \
		-r requirements/downstream.txt
	wheel=$$(requirements/build_ops.sh $(BIN)/python $(WHEELS)) && \
		$(PIP) install -qq --no-deps --force-reinstall "$$wheel"
	rm -f $(VENV)/.ops-*
	touch $@

# The demo, step by step; each line is a command that a user could type.
# No number of it is a result on HOSS-ReID: the ships are rendered.
DEMO_CONFIG := configs/demo/sdfnet_hoss.py
DEMO_RUN := $(DEMO)/sdfnet
.PHONY: demo
demo: setup
	test -d $(DATA)/HOSS || \
		$(BIN)/python tools/make_demo_data.py $(DATA) --sets hoss
	$(BIN)/python tools/train.py $(DEMO_CONFIG) \
		--work-dir $(DEMO_RUN) --data-root $(DATA) $(DEMO_ARGS)
	$(BIN)/python tools/test.py $(DEMO_CONFIG) untrained \
		--work-dir $(DEMO)/untrained/test --data-root $(DATA) \
		--out $(DEMO)/untrained
	$(BIN)/python tools/test.py $(DEMO_CONFIG) $(DEMO_RUN) \
		--work-dir $(DEMO_RUN)/test --data-root $(DATA) \
		--out $(DEMO_RUN) --show-dir $(DEMO_RUN)/ranked
	@echo 'before training:'; cat $(DEMO)/untrained/table.md
	@echo 'after training:'; cat $(DEMO_RUN)/table.md
	@echo 'table: $(DEMO_RUN)/table.md  pictures: $(DEMO_RUN)/ranked'

# Detection, segmentation and classification are tested on the reference stack.
# A test process that dies ends the run: pytest-xdist may wait for ever after
# it has replaced one.
.PHONY: test
test: $(if $(filter onedl,$(STACK)),setup-full,setup)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest \
		-n $(JOBS) --dist loadfile --no-loadscope-reorder \
		--max-worker-restart 0 $(PYTEST_ARGS)

.PHONY: lint
lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: clean
clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis $(DEMO) $(DATA)
	find osar_plugin tools tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean
	rm -rf $(VENV) .venv-openmmlab
