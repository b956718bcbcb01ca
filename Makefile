# Chores, one word each. `make demo` and `make test` share one environment, .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo test soak lint fix model corpus-check notebooks docs bench ablation search peers clean

help: ## Show the chores
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

install: $(STAMP) ## Install into .venv, with the test tools

demo: $(STAMP) ## Classify the sample backlog
	$(BIN)/loopwise predict "Add a --dry-run flag to the import command" "Write the blog post about our move to Kubernetes"
	$(BIN)/loopwise classify data/examples/backlog.csv -o $(VENV)/routed.csv
	@$(BIN)/python -c "import csv; rows = list(csv.DictReader(open('$(VENV)/routed.csv', newline='', encoding='utf-8'))); print('\n'.join(f\"{r['loop']:<9} {r['mode']:<11} {r['title'][:70]}\" for r in rows[:12]))"
	@echo "the whole result is in $(VENV)/routed.csv"

test: $(STAMP) ## Run every kind of test, with small counts
	$(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(STAMP) ## Run the crash, load and scale tests with their full counts
	LOOPWISE_SOAK=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict loopwise tests

fix: $(STAMP) ## Put style right where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(STAMP) ## Rebuild the shipped model from the corpus
	$(BIN)/python -m loopwise.training.shipped
	$(BIN)/python -m tests.tutorial --update
	$(BIN)/python -m benchmarks.mcp_transcript --write

corpus-check: $(STAMP) ## Check the corpus and print its coverage
	$(BIN)/python -m loopwise.training.corpus_check

notebooks: $(STAMP) ## Run the notebooks into notebooks/run; LOOPWISE_SMALL=1 takes little data
	$(BIN)/jupyter nbconvert --to html --execute --ExecutePreprocessor.startup_timeout=180 --template-file notebooks/offline.html.j2 --output-dir notebooks/run$(if $(LOOPWISE_SMALL),/small) notebooks/*.ipynb

docs: $(STAMP) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html; to search as well: $(BIN)/python -m http.server -d site"

PEERS_VENV  := .venv-peers
PEERS_STAMP := $(PEERS_VENV)/.installed
# What goes to the comparison, such as PEERS_ARGS='--file labelled.csv'.
PEERS_ARGS ?=

$(PEERS_STAMP): pyproject.toml
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[peers]'
	@touch $@

peers: $(PEERS_STAMP) ## Measure quality against peers, in an environment of its own
	HF_HUB_OFFLINE=1 $(PEERS_VENV)/bin/python -m benchmarks.quality $(PEERS_ARGS)

bench: $(STAMP) ## Measure speed against peers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks.speed

.PHONY: mcp-bench plugin
mcp-bench: $(STAMP) ## Measure how fast the MCP server gives its first answer
	$(BIN)/python -m benchmarks.mcp_start

plugin: $(STAMP) ## Pack the plugin for agents into dist/loopwise.plugin
	$(BIN)/python -m loopwise.service.plugin_bundle dist/loopwise.plugin

.PHONY: scale ten-million
scale: $(STAMP) ## Measure a Dask cluster on this machine against classify --jobs
	$(BIN)/python -m benchmarks.scale

ten-million: $(STAMP) ## Measure memory and time of classify up to ten million rows
	$(BIN)/python -m benchmarks.ten_million

ablation: $(STAMP) ## Measure what each lever brings; FILE=labelled.csv measures on that file too
	$(BIN)/python -m loopwise.training.run_experiments $(FILE)

search: $(STAMP) ## Try other recipes for the shipped model; FILE=labelled.csv measures on that file too
	$(BIN)/python -m loopwise.training.run_experiments --search $(FILE)

clean: ## Remove what the chores made
	rm -rf $(VENV) $(PEERS_VENV) build dist site notebooks/run *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
