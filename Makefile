# Each target makes the virtual environment it needs, below $(VENVS); none needs another one's.
# `make` alone lists them.

# The first Python on the path that is new enough; `make PYTHON=…` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$python; exit; }; done; echo python3)
endif
VENVS ?= .venvs
PYTEST_ARGS ?=

# Stores that the conformance suite runs on as fast as two cores do; one that builds indexes behind one's back
# and is left alone; and servers, which mostly make one wait, so that more of their tests run at once.
STORES := memory,faiss
ALONE := milvus-lite
SERVERS := milvus,weaviate,pinecone,pinecone-grpc

# What each environment installs. Only the one for the tests has torch.
EXTRAS_demo := faiss,onnx
EXTRAS_test := faiss,milvus,weaviate,pinecone,onnx,clip,dev
EXTRAS_lint := dev
EXTRAS_bench := faiss,milvus,weaviate,pinecone,onnx,testing,bench
EXTRAS_docs := docs

# uv installs several times faster than pip; where it cannot, pip does the same.
export UV_HTTP_TIMEOUT ?= 180
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# The Milvus stack, docker/README.md: GPU=1 takes the GPU build, ATTU=1 the console along.
STACK_ENV ?= .env
STACK = docker compose --env-file $(STACK_ENV) -f docker/milvus/compose.yaml \
	$(if $(filter 1,$(GPU)),-f docker/milvus/compose.gpu.yaml)

.PHONY: help demo test lint format bench docs stack-up stack-down stack-status stack-needs clean python
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENVS)/demo/.installed ## Index pictures and search them; writes demo/demo.png and demo/demo.html
	$(VENVS)/demo/bin/vecbridge demo --dir demo

test: $(VENVS)/test/.installed ## Run the tests (installs torch); PYTEST_ARGS="-k filter" narrows them
	$(VENVS)/test/bin/python -m pytest --stores=$(STORES) --numprocesses=2 --dist=loadfile $(PYTEST_ARGS)
	$(VENVS)/test/bin/python -m pytest tests/conformance --stores=$(ALONE) $(PYTEST_ARGS) || [ $$? = 5 ]
	$(VENVS)/test/bin/python -m pytest tests/conformance --stores=$(SERVERS) --numprocesses=6 $(PYTEST_ARGS) || [ $$? = 5 ]

lint: $(VENVS)/lint/.installed ## Check style, types, and who imports whom
	$(VENVS)/lint/bin/ruff check .
	$(VENVS)/lint/bin/ruff format --check .
	$(VENVS)/lint/bin/mypy
	$(VENVS)/lint/bin/lint-imports

format: $(VENVS)/lint/.installed ## Sort imports and format the code
	$(VENVS)/lint/bin/ruff check --fix .
	$(VENVS)/lint/bin/ruff format .

# 77 is a server that is not there; the script has said which.
bench: $(VENVS)/bench/.installed ## Run the benchmarks, each against a raw baseline
	@for script in benchmarks/*.py; do echo "== $$script"; $(VENVS)/bench/bin/python $$script || [ $$? = 77 ] || exit; done

docs: $(VENVS)/docs/.installed ## Build the documentation into site/
	$(VENVS)/docs/bin/python docs/generate_matrix.py
	NO_MKDOCS_2_WARNING=1 $(VENVS)/docs/bin/mkdocs build --strict

stack-up: | stack-needs ## Start Milvus in Docker; GPU=1 for the GPU build, ATTU=1 for the console
	$(STACK) $(if $(filter 1,$(ATTU)),--profile attu) up --detach --wait --wait-timeout 600

stack-down: | stack-needs ## Stop that Milvus; its data stays
	$(STACK) --profile attu down

stack-status: | stack-needs ## Show its containers and their health
	$(STACK) --profile attu ps --all

clean: ## Remove what make made
	rm -rf $(VENVS) demo site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Editable, so that every run sees the code as it is now; installed again when pyproject.toml changes.
# What only installs does not stay: uv, and the setuptools that Python 3.11 puts into every environment.
$(VENVS)/%/.installed: pyproject.toml | python
	@echo "Installing .[$(EXTRAS_$*)] into $(VENVS)/$* …"
	@$(PYTHON) -m venv $(VENVS)/$*
	@$(VENVS)/$*/bin/python -m pip uninstall --quiet --quiet --yes setuptools
	@$(VENVS)/$*/bin/python -m pip install --quiet uv || echo "No uv to be had: pip will do."
	@$(VENVS)/$*/bin/python -m uv pip install --quiet --python $(VENVS)/$*/bin/python --editable '.[$(EXTRAS_$*)]' \
		|| $(VENVS)/$*/bin/python -m pip install --quiet --no-compile --editable '.[$(EXTRAS_$*)]'
	@$(VENVS)/$*/bin/python -m pip uninstall --quiet --quiet --yes uv
	@touch $@

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "No $(PYTHON) on the path: install Python 3.11 or later, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "vecbridge needs Python 3.11 or later, and $(PYTHON) is older: $$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }

stack-needs:
	@command -v docker >/dev/null 2>&1 || { \
		echo "No docker on the path: install Docker with its compose plugin, see docker/README.md" >&2; exit 1; }
	@docker compose version >/dev/null 2>&1 || { \
		echo "This docker has no compose plugin: install it, see docker/README.md" >&2; exit 1; }
	@test -f $(STACK_ENV) || { \
		echo "No $(STACK_ENV): cp .env.example $(STACK_ENV), then set the passwords of the Milvus stack in it" >&2; exit 1; }
