# Every command a person types. `make` alone lists them.
# Variables: VAR_DIR (state, by default var/), WAREHOUSE_URL (another Postgres), PYTHON (to build .venv with),
# AIRFLOW_PORT, RECEIVER_PORT and SIMULATOR_PORT (instead of 8080, 8070 and 8090, or the next free ones).

PY := .venv/bin/python
# Without compiled files every import of Airflow costs seconds.
unexport PYTHONDONTWRITEBYTECODE
export DO_NOT_TRACK := 1
export SCARF_ANALYTICS := false
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export GX_ANALYTICS_ENABLED := false
export MYPY_CACHE_DIR := $(or $(VAR_DIR),var)/cache/mypy
export RUFF_CACHE_DIR := $(or $(VAR_DIR),var)/cache/ruff

.DEFAULT_GOAL := help
.PHONY: help env db transform verify demo demo-real up down clean test bench bench-ingest lint typecheck check

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: ## build .venv from the lock file (the other targets do it themselves)
	@stack/bootstrap.sh

db: env ## start only the migrated Postgres and print its URL
	@$(PY) -m stack db

transform: env ## find the areas of new sites, then run dbt: raw to marts
	@$(PY) -m reference locate
	@$(PY) -m warehouse transform

verify: env ## build the marts anew beside those that stand, and compare (runs wait meanwhile)
	@$(PY) -m warehouse verify

demo: env ## take last month of simulated CPOs through the whole path and print its uptime
	@$(PY) -m stack demo

demo-real: env ## the same with real status histories from ../shared/data
	@$(PY) -m stack demo --real

up: env ## run everything until Ctrl-C: Postgres, simulated CPOs, Airflow
	@$(PY) -m stack up

down: ## stop what runs in this checkout, whichever terminal started it
	@if [ -x $(PY) ]; then $(PY) -m stack down; else echo "nothing is running: there is no .venv"; fi

clean: ## stop everything and remove all state (var/); .venv stays
	@if [ -e $(or $(VAR_DIR),var)/postgres ] && [ ! -x $(PY) ]; then stack/bootstrap.sh; fi
	@if [ -x $(PY) ]; then $(PY) -m stack clean; else rm -rf $(or $(VAR_DIR),var); fi

test: env ## run all tests, on a Postgres of their own
	@$(PY) -m pytest -n 2 --dist loadfile

bench: env ## what a month of uptime costs from nothing and by an increment, beside the bound of each figure
	@$(PY) -m tests.benchmarks.uptime

bench-ingest: env ## what collecting and receiving cost, beside the bound of each figure
	@$(PY) -m tests.benchmarks.ingest
	@$(PY) -m tests.benchmarks.push
	@$(PY) -m tests.benchmarks.push --kill

lint: env ## ruff: style and common mistakes
	@$(PY) -m ruff check .

typecheck: env ## mypy, strict
	@$(PY) -m mypy

check: lint typecheck ## lint and typecheck
