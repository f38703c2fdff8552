# Each target makes the virtual environment that it needs, below $(VENVS). `make` alone lists the targets.

# The first Python on the path that is new enough; `make PYTHON=…` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$python; exit; }; done; echo python3)
endif
VENVS ?= .venvs
PYTEST_ARGS ?=
# A test file or several: `make test T=tests/core/test_filters.py`.
T :=

# `make test` has two passes. The first has all tests, with the stores that live in the test's own process: four
# workers, because one of them mostly waits for Milvus, and the others wait now and then; tests/scheduling.py says
# which worker gets what. In the second, the tests of the suite mostly wait for servers, so six of them run at once.
LOCAL := memory,faiss,snapshot,milvus-lite,pinecone,pinecone-grpc,pinecone-delayed
SERVERS := milvus,weaviate
# The tests of the suite itself, beside these in their folder, run in the first pass alone.
SUITE := tests/conformance/test_conformance.py tests/conformance/test_workers.py

# The tests start hundreds of processes that import the same clients. Their bytecode is kept beside the environment,
# also where PYTHONDONTWRITEBYTECODE is set; without it, each of them compiles for seconds.
check test test-ray: export PYTHONDONTWRITEBYTECODE :=
check test test-ray: export PYTHONPYCACHEPREFIX := $(abspath $(VENVS))/bytecode

# What each environment installs. Only the one for the tests has torch.
EXTRAS_demo := faiss,onnx
EXTRAS_check := faiss,weaviate,pinecone,onnx,dev
EXTRAS_test := faiss,milvus,weaviate,pinecone,onnx,clip,export,apps,dev
EXTRAS_ray := faiss,milvus,weaviate,pinecone,onnx,dev,ray
EXTRAS_mutants := faiss,dev,mutation
EXTRAS_bench := faiss,milvus,weaviate,pinecone,export,testing,bench
EXTRAS_docs := docs

# uv installs several times faster than pip; where it cannot, pip does the same.
export UV_HTTP_TIMEOUT ?= 180
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# The Milvus stack, see docker/README.md: GPU=1 chooses the GPU build, ATTU=1 adds the console.
STACK_ENV ?= .env
STACK = docker compose --env-file $(STACK_ENV) -f docker/milvus/compose.yaml \
	$(if $(filter 1,$(GPU)),-f docker/milvus/compose.gpu.yaml)

.PHONY: help demo check test test-ray planted mutants lint format bench gpu-check docs stack-up stack-down stack-status stack-needs clean python
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENVS)/demo/.installed ## Index pictures and search them; writes demo/demo.png and demo/demo.html
	$(VENVS)/demo/bin/vecbridge demo --dir demo

check: lint ## What every change must pass, in under two minutes: lint, core tests, examples
	$(VENVS)/check/bin/python -m pytest tests/core tests/test_imports.py --stores= --numprocesses=2

test: $(VENVS)/test/.installed ## Run all tests (installs torch); T=FILE runs one file, PYTEST_ARGS="-k WORD" narrows
ifeq ($(T),)
	$(VENVS)/test/bin/python -m pytest --stores=$(LOCAL) --numprocesses=4 --dist=loadfile $(PYTEST_ARGS)
	$(VENVS)/test/bin/python -m pytest $(SUITE) --stores=$(SERVERS) --numprocesses=6 $(PYTEST_ARGS) || [ $$? = 5 ]
else
	$(VENVS)/test/bin/python -m pytest $(T) $(PYTEST_ARGS)
endif

# Ray starts processes of its own, four at a time, so that these tests run one after the other.
test-ray: $(VENVS)/ray/.installed ## Run the tests of the Ray integration, in an environment with Ray
	$(VENVS)/ray/bin/python -m pytest tests/on_ray --stores= --timeout=600 $(PYTEST_ARGS)

planted: $(VENVS)/test/.installed ## Plant known faults in copies of the code; the tests must catch each
	$(VENVS)/test/bin/python tests/mutation/planted.py

# What is mutated, and at how many places: `make mutants M="filters bulk" SAMPLE=100 SEED=1`.
M := filters records bulk
SAMPLE := 100
SEED := 1
mutants: $(VENVS)/mutants/.installed ## Change code at random places and count what tests catch (takes hours)
	@for module in $(M); do \
		echo "== $$module"; $(VENVS)/mutants/bin/python tests/mutation/mutants.py $$module --sample $(SAMPLE) --seed $(SEED) || exit; done

lint: $(VENVS)/check/.installed ## Check style, types, and which module imports which
	$(VENVS)/check/bin/ruff check .
	$(VENVS)/check/bin/ruff format --check .
	$(VENVS)/check/bin/mypy
	$(VENVS)/check/bin/lint-imports

format: $(VENVS)/check/.installed ## Sort imports and format the code
	$(VENVS)/check/bin/ruff check --fix .
	$(VENVS)/check/bin/ruff format .

# A benchmark exits with 77 where its server is not there, after saying which.
bench: $(VENVS)/bench/.installed ## Run the benchmarks, each against a raw baseline
	@for script in benchmarks/*.py; do echo "== $$script"; $(VENVS)/bench/bin/python $$script || [ $$? = 77 ] || exit; done

# A PyTorch for CUDA, and perhaps a FAISS, are installed by hand: no environment is made.
gpu-check: ## Check and measure vecbridge on an NVIDIA GPU, with the packages that PYTHON=… has
	@PYTHONPATH=. $(PYTHON) benchmarks/gpu_check.py

docs: $(VENVS)/docs/.installed ## Build the documentation into site/
	$(VENVS)/docs/bin/python docs/generate_matrix.py
	$(VENVS)/docs/bin/python docs/generate_performance.py
	NO_MKDOCS_2_WARNING=1 $(VENVS)/docs/bin/mkdocs build --strict

stack-up: | stack-needs ## Start Milvus in Docker; GPU=1 for the GPU build, ATTU=1 for the console
	$(STACK) $(if $(filter 1,$(ATTU)),--profile attu) up --detach --wait --wait-timeout 600

stack-down: | stack-needs ## Stop that Milvus and keep its data
	$(STACK) --profile attu down

stack-status: | stack-needs ## Show the containers of that Milvus and their health
	$(STACK) --profile attu ps --all

clean: ## Remove everything that these targets wrote
	rm -rf $(VENVS) demo site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Editable, so that every run sees the code as it is now; installed again when pyproject.toml changes.
# uv is removed once it has installed the rest, and so is the setuptools that Python 3.11 puts into every
# environment: nothing here uses them afterwards.
$(VENVS)/%/.installed: pyproject.toml | python
	@echo "Installing .[$(EXTRAS_$*)] into $(VENVS)/$* …"
	@$(PYTHON) -m venv $(VENVS)/$*
	@$(VENVS)/$*/bin/python -m pip uninstall --quiet --quiet --yes setuptools
	@$(VENVS)/$*/bin/python -m pip install --quiet uv || echo "uv cannot be installed; pip installs the rest."
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
