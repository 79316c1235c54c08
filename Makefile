# Two commands are enough: `make run` and `make test`. Each does all of its own set-up.

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test test-clients test-agents check lint types format bench bench-faults simulate-ci soak mutation docs screenshots build clean

help:            ## Show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/.run-ready: constraints.txt packages/core/pyproject.toml packages/proxy/pyproject.toml scripts/install
	scripts/install run

$(VENV)/.dev-ready: $(VENV)/.run-ready requirements-dev.txt tests/node/package.json scripts/install
	scripts/install dev

run: $(VENV)/.run-ready   ## Start the proxy on 127.0.0.1:8000 (simulated provider when no key is configured)
	$(BIN)/apikeyrouter serve

test: $(VENV)/.dev-ready  ## Run every test
	scripts/test

test-clients: $(VENV)/.dev-ready ## Client libraries against the proxy, each in an environment of its own
	scripts/clients
	scripts/test -n 0 tests/clients

test-agents: $(VENV)/.dev-ready ## Claude Code, Codex and opencode at work through the proxy (installs 1.1 GB once; about 5 minutes)
	scripts/agents
	scripts/test -n 0 tests/agents/coding_agents.py

check: lint types test    ## Lint, types and tests: what CI runs

lint: $(VENV)/.dev-ready  ## Lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-ready ## Strict type check
	$(BIN)/mypy

format: $(VENV)/.dev-ready ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-ready ## Benchmarks, side by side with the peers (see bench/README.md)
	$(BIN)/python -m bench

bench-faults: $(VENV)/.dev-ready ## Fault scoreboard over HTTP
	$(BIN)/python -m bench faults

simulate-ci: $(VENV)/.dev-ready ## Two million simulated requests in 2,000 random worlds: laws, then figures (about 20 minutes)
	$(BIN)/python -m bench.quota_grid --ci

soak: $(VENV)/.dev-ready  ## Budgets while workers and servers are killed, at full size (about half an hour)
	$(BIN)/python -m bench soak

screenshots: $(VENV)/.dev-ready ## Take the documentation's pictures of the dashboard anew (4 minutes; look at them)
	scripts/screenshots

mutation: $(VENV)/.dev-ready ## Mutation score of the ledger
	$(BIN)/python -m bench.mutation

docs: $(VENV)/.dev-ready  ## Build the documentation as a site into dist/site; every link is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

build: $(VENV)/.dev-ready ## Build both wheels into dist/
	$(BIN)/python -m build --outdir dist packages/core
	$(BIN)/python -m build --outdir dist packages/proxy

clean:           ## Remove the environment and everything that was built
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
