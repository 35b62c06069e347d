# `make report` and `make test` do everything on a fresh Debian or Ubuntu machine; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
CORES ?= all

.PHONY: help setup report recipes test check format locks protos schemas clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## system packages and .venv from hash-locked requirements

# The stamp names the lock it was made from, so that a changed lock sets up again and an unchanged one does nothing.
.venv/ready: locks/dev.txt pyproject.toml deploy/setup
	PYTHON="$(PYTHON)" deploy/setup

report: setup  ## run the whole line; ends with published/index.html
	$(BIN)/snakemake --cores $(CORES)
	@echo
	@echo "The report: file://$$PWD/published/index.html"

# config/config.yaml brings the default among them; `make recipes STAGE=images` goes on to images that have answered right.
STAGE ?= servables
recipes: setup  ## make all recipes in one run; print what came of which source
	$(BIN)/snakemake $(STAGE) --cores $(CORES) --configfile config/config.yaml config/recipes/*/config.yaml
	$(BIN)/slipway overview

# The whole line measures, so nothing runs beside it. Other tests wait for processes for a third of their time: one worker more than CPUs.
test: setup  ## all tests, with one run of the whole line on a small load
	$(BIN)/python -m pytest --numprocesses $$(( $$(nproc) < 8 ? $$(nproc) + 1 : 8 )) --dist loadfile --ignore tests/end_to_end
	$(BIN)/python -m pytest tests/end_to_end

check: setup  ## format, lint, types, import contracts, CI files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci deploy/gitlab-ci.yml
	$(BIN)/codespell

format: setup  ## put code into its shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile rules

locks: setup  ## resolve dependencies again and lock them with hashes
	deploy/lock

protos: setup  ## compile the messages in server/protos again
	$(BIN)/python -m grpc_tools.protoc --proto_path=server/protos \
	  --descriptor_set_out=server/slipway_wire/descriptors.binpb server/protos/*.proto

schemas: setup  ## write the JSON Schemas of config, contract and result again
	$(BIN)/slipway schema --config config/config.schema.json --contract config/contract.schema.json --result docs/result.schema.json

clean:  ## remove what runs made; published reports, .venv and caches stay
	rm -rf results .snakemake .slipway build dist .mypy_cache .pytest_cache .ruff_cache
