# `make` alone lists the targets. Needs GNU make and a POSIX shell; everything else is checked and said.

PYTHON ?=# interpreter for the venv; empty: the first fitting one (tools/check-machine)
TORCH_INDEX_URL ?=# extra index with another build of torch, for example CPU only
ARGS ?=# passed on: `make test ARGS=tests/spec`, `make quickstart ARGS=--verbose`

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INDEX := $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL))
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
# A stamp is named by the content that it stands for: a checkout that only touches files installs nothing.
SUM := $(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
TRAIN := $(VENV)/installed-train-$(SUM)
DEV := $(VENV)/installed-dev-$(SUM)

.PHONY: bench-plan bench-data random-edits random-looks resume-matrix torture help quickstart test lint schema check wheel constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

quickstart: $(TRAIN) ## set up, then take the shipped model and data through the whole pipeline
	@$(BIN)/rlhfc trust . >&2
	@$(BIN)/rlhfc run pipelines/quickstart.yaml $(ARGS)

test: $(DEV) ## set up, then run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV) ## ruff, its formatting, and mypy --strict over rlhfc/
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

schema: $(DEV) ## write schemas/ and the tables of docs/spec.md again after a change of a kind's parameters
	@$(BIN)/rlhfc schema
	@$(BIN)/python tools/spec_tables.py

check: lint wheel ## everything that .ci/run checks besides the tests
	@$(BIN)/rlhfc schema --check

wheel: $(DEV) ## build the wheel into dist/
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --outdir dist . > $(VENV)/wheel.log 2>&1 || { cat $(VENV)/wheel.log; exit 1; }
	@rm -rf build
	@ls dist/*.whl

bench-plan: $(TRAIN) ## how long a plan takes, against other tools (installed into .venv-bench)
	@test -d .venv-bench || { $(BIN)/python -m venv .venv-bench && .venv-bench/bin/pip install -qq ninja doit dvc snakemake; }
	@RLHFC_BENCH_BIN=$(CURDIR)/.venv-bench/bin $(BIN)/python benchmarks/plan/bench.py $(ARGS)

bench-data: $(TRAIN) ## how fast a split makes token files, and in how much memory, against datasets.map
	@$(BIN)/python benchmarks/data/bench.py $(ARGS)

random-edits: $(DEV) ## 100,000 random edits of specs, files, code and libraries: is every verdict right and explained?
	@cd tests/plan && $(CURDIR)/$(BIN)/python random_edits.py $(ARGS)

random-looks: $(DEV) ## 5,000 random changes of what plans look at: is every remembered plan true?
	@cd tests/plan && $(CURDIR)/$(BIN)/python random_looks.py $(ARGS)

torture: $(DEV) ## kills, failing calls, full disks, killed training and chaos; hours, so choose: ARGS="--kills", ARGS="--chaos 10m"
	@cd tests/torture && $(CURDIR)/$(BIN)/python torture.py $(ARGS)

resume-matrix: $(DEV) ## kill and resume every kind under every ZeRO stage, on one and two ranks, in fp32 and bf16: the same bytes?
	@cd tests/resume && $(CURDIR)/$(BIN)/python matrix.py $(ARGS)

constraints: ## write constraints.txt again from a fresh venv; torch stays at its pin, so edit that first
	@python=$$(tools/check-machine $(PYTHON)) && rm -rf build/constraints && "$$python" -m venv build/constraints
	@build/constraints/bin/pip install -qq $(INDEX) 'torch==$(TORCH)' -e '.[train,dev]'
	@{ sed -n '/^#/p' constraints.txt; build/constraints/bin/pip freeze --exclude-editable | sed 's/+cpu$$//'; } \
	  > build/constraints.txt
	@mv build/constraints.txt constraints.txt
	@rm -rf build/constraints

clean: ## remove the venv, what was built and caches; results in .rlhfc stay
	@rm -rf $(VENV) .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(TRAIN):
	@python=$$(tools/check-machine $(PYTHON)) && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@command -v nvidia-smi > /dev/null \
	  || $(PIP) index versions torch $(INDEX) 2> /dev/null | grep -qF '$(TORCH)+cpu' \
	  || printf '%s\n' 'note: pip finds no CPU build of torch here and may fetch the CUDA build of several GB' \
	    'hint: make TORCH_INDEX_URL=URL, with the index of CPU builds that the PyTorch site names' >&2
	@echo 'installing into $(VENV), a few minutes' >&2
	@$(PIP) install -qq $(INDEX) -c constraints.txt -e '.[train]'
	@touch $@

$(DEV): $(TRAIN)
	@$(PIP) install -qq $(INDEX) -c constraints.txt -e '.[train,dev]'
	@touch $@
