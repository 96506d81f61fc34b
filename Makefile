# Each target does all its own set-up, in .venv.
BIN := .venv/bin

.PHONY: quickstart test slow check docs package benchmark setup

quickstart: setup  ## the whole main job on a real model, English → Slovene
	$(BIN)/adamergex run quickstart

test: setup        ## the tests, offline, on tiny models; one process for each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not attack and not cluster" -n auto --maxprocesses 8

slow: setup        ## the real quickstart, cut down to a few steps; strange files, kills, full disks and damage; a Ray cluster
	$(BIN)/python -m pytest -m "slow or attack or cluster"

check: setup       ## lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup        ## the documentation as a site, in site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "docs: site/index.html"

package: setup     ## the wheel and the sdist, and a run with the wheel where nothing else of this repository is
	$(BIN)/python scripts/package.py

benchmark: setup   ## ours against the paper's way, and merging against copying and against PEFT
	$(BIN)/python benchmarks/quickstart.py
	$(BIN)/python benchmarks/merge.py

setup:
	@scripts/setup
