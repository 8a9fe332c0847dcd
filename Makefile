# Takings: `make demo` shows it, `make up` runs it, `make test` and `make check` prove it. `make help` lists it all.
.DEFAULT_GOAL := help
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
# The stack ends with make, even when make is killed.
WITH_MAKE := $(shell command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM --)
STATE := $(or $(TAKINGS_STATE),.takings)

DEMO_OPTIONS = $(if $(TRIPS),--trips '$(TRIPS)') $(if $(MAP),--map '$(MAP)') $(if $(COUNT),--count '$(COUNT)') \
  $(if $(SEED),--seed '$(SEED)') $(if $(REPORT),--report '$(REPORT)') $(if $(READY),--ready '$(READY)') \
  $(if $(filter-out 0,$(ONCE)),--once) $(if $(ROLES),--roles '$(ROLES)')
UP_OPTIONS = $(if $(READY),--ready '$(READY)') $(if $(ROLES),--roles '$(ROLES)')

BENCH_OPTIONS = $(if $(ONLY),--only '$(ONLY)') $(if $(REPORT),--report '$(REPORT)') $(if $(ROUNDS),--rounds '$(ROUNDS)') \
  $(if $(PAYMENTS),--payments '$(PAYMENTS)') $(if $(TRIPS),--trips '$(TRIPS)') $(if $(MAP),--map '$(MAP)')

.PHONY: help demo up test faults bench check generate compose-env clean distclean
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/stack.stamp ## start everything and play a day of trips: ONCE=1 TRIPS= MAP= REPORT= COUNT= SEED= ROLES=split
	@exec $(WITH_MAKE) $(BIN)/takings demo $(DEMO_OPTIONS)

up: $(VENV)/stack.stamp ## start everything and keep it running: READY=stack.json ROLES=split
	@exec $(WITH_MAKE) $(BIN)/takings up $(UP_OPTIONS)

test: $(VENV)/dev.stamp ## all tests, on real PostgreSQL and Kafka: ARGS="-k webhook"
	@exec $(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/stack.stamp ## how fast it is here, against the raw database: ONLY=ingest REPORT=out.json
	@exec $(BIN)/python -m bench $(BENCH_OPTIONS)

faults: $(VENV)/dev.stamp ## the tests of tests/faults at full length, about an hour: ARGS="-k kill"
	@TAKINGS_FAULTS=long exec $(BIN)/python -m pytest -s tests/faults $(ARGS)

check: $(VENV)/dev.stamp ## format, lint, types, import rules, schema and event drift
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.drift --check

generate: $(VENV)/dev.stamp ## write what follows from the code: descriptions, schemas
	@$(BIN)/python -m deploy.drift

compose-env: $(VENV)/stack.stamp ## write .env with fresh secrets for docker-compose.yml, once
	@$(BIN)/takings compose-env

clean: ## remove the state of the local stack: its data, logs, secrets and fetched jars
	@if [ -e '$(STATE)/lock' ] && ! flock --nonblock '$(STATE)/lock' true; then
	  echo 'a stack runs on $(STATE): stop it first' >&2; exit 1
	fi
	rm -rf '$(STATE)'

distclean: clean ## clean, and remove the virtual environment
	@rm -rf $(VENV) .*_cache .hypothesis

$(VENV)/bin/python:
	@deploy/make-venv $(VENV)

$(VENV)/stack.stamp: requirements/stack.txt pyproject.toml | $(VENV)/bin/python
	@deploy/install $(VENV) requirements/stack.txt
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt requirements/stack.txt pyproject.toml | $(VENV)/bin/python
	@deploy/install $(VENV) requirements/dev.txt
	touch $@ $(VENV)/stack.stamp
