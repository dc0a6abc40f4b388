# Every target does its own set-up: .venv is made when it is missing, and made up to date when pyproject.toml or
# constraints.txt changed. Another interpreter: make test PYTHON=python3.13. More arguments: make test ARGS="-k note".

PYTHON ?= python3
ARGS ?=
# The name of the log that `make serve` makes, for ever: choose your own before the first entry that matters.
ORIGIN ?= localhost/my-log
# The release that docs/decisions/0003-grpcio-release.md chose; `make constraints` holds the family to it.
GRPCIO := 1.78.2

BIN := .venv/bin
INSTALLED := .venv/installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv test nightly lint format types generate check-generated constraints demo attack serve bench bench-full bench-gate fuzz faults sbom audit clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## make .venv with everything in it, at the tested versions

# The stamp is written last, so that a set-up that was interrupted starts over from an empty folder.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: no '$(PYTHON)' here: install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), but 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' cannot make virtual environments: install its venv package (Debian: apt install python3-venv)" >&2; \
	  exit 1; }
	@if [ ! -e $@ ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making .venv with $$("$(PYTHON)" --version)"; "$(PYTHON)" -m venv --clear .venv; fi
	@echo "installing the tested versions into .venv (the first time downloads them)"
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

test: $(INSTALLED) ## run the tests, but for the long ones (5 minutes)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not nightly" $(ARGS)

nightly: $(INSTALLED) ## run every test there is, tell every lie, and let a log fail in every way (an hour)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m examples.attack
	$(BIN)/python -m tests.fault

lint: $(INSTALLED) ## check style and layout, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED) ## lay out the code, and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED) ## check the types, strictly
	$(BIN)/mypy

generate: $(INSTALLED) ## generate tlog/v1 from proto/tlog/v1
	$(BIN)/python proto/generate.py

check-generated: $(INSTALLED) ## check that tlog/v1 is what protoc writes
	$(BIN)/python proto/generate.py --check

# From an empty environment, so that nothing is in the file that nobody asked for.
constraints: ## write constraints.txt anew: the newest releases, but grpcio as decided
	@rm -rf build/constraints && "$(PYTHON)" -m venv build/constraints
	@build/constraints/bin/python $(PIP_INSTALL) -e '.[dev]' grpcio==$(GRPCIO) grpcio-tools==$(GRPCIO) \
	  grpcio-health-checking==$(GRPCIO) grpcio-reflection==$(GRPCIO) grpcio-status==$(GRPCIO)
	@{ echo "# The versions that were tested, for Python 3.11 to 3.13: pip install -c constraints.txt -e '.[dev]'"; \
	   echo "# Written by 'make constraints'. Why grpcio is not the newest: docs/decisions/0003-grpcio-release.md"; \
	   build/constraints/bin/python -m pip freeze --all --exclude-editable --exclude pip; } > constraints.txt
	@rm -rf build/constraints && echo "wrote constraints.txt; next: make test lint types generate"

demo: $(INSTALLED) ## an alliance on real data: server, members, receipts, all checked (2 minutes)
	$(BIN)/python -m examples.demo $(ARGS)

attack: $(INSTALLED) ## tell every lie to real processes, and see who notices (2 minutes)
	$(BIN)/python -m examples.attack $(ARGS)

bench: $(INSTALLED) ## what everything costs, and which targets are met (5 minutes; the first time 8)
	$(BIN)/python -m bench $(ARGS)

bench-full: $(INSTALLED) ## the same with every size, up to 10,000,000 entries (30 minutes; the first time 40; ARGS=--resume)
	$(BIN)/python -m bench --full $(ARGS)

bench-gate: $(INSTALLED) ## fail where something became more than 25 % slower than bench/baseline.json (1 minute)
	$(BIN)/python -m bench.gate $(ARGS)

sbom: $(INSTALLED) ## write what a running tlog consists of, with licences: build/tlog.cdx.json (CycloneDX)
	$(BIN)/python deploy/sbom.py --out build/tlog.cdx.json

# By itself, and not in CI: it asks a database on the network, whose answer changes from day to day.
audit: ## ask the PyPI advisory database about every pinned version (needs the network)
	@rm -rf build/audit && "$(PYTHON)" -m venv build/audit && build/audit/bin/python $(PIP_INSTALL) pip-audit
	build/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip $(ARGS)

fuzz: $(INSTALLED) ## feed every parser and every call with damaged bytes (5 minutes; ARGS="--seconds 60 --target note")
	$(BIN)/python -m tests.fuzz $(ARGS)

faults: $(INSTALLED) ## let a log fail in every way, 1,000 rounds (30 minutes; ARGS="--rounds 100 --only kill-step,eio")
	$(BIN)/python -m tests.fault $(ARGS)

serve: $(INSTALLED) ## serve a log of one's own from ./my-log, made by `tlog init` the first time
	@test -e my-log || $(BIN)/tlog init my-log --origin $(ORIGIN)
	$(BIN)/tlog serve my-log $(ARGS)

clean: ## remove .venv, caches and build products; never a log or the demo's folder
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
