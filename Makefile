# Every target sets up .venv first, which takes minutes once and nothing afterwards.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help:  ## what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo:  ## the tutorial: a long prompt twice, the second time from the cache
	@$(PYTHON) scripts/setup demo
	@.venv/bin/headstart demo $(ARGS)

test:  ## the test suite; ARGS="tests/cache -k retention" for a part of it
	@$(PYTHON) scripts/setup dev
	@scripts/test $(ARGS)

lint:  ## ruff and mypy
	@$(PYTHON) scripts/setup dev
	@scripts/check

format:  ## let ruff rewrite the code
	@$(PYTHON) scripts/setup dev
	.venv/bin/ruff check --fix . scripts/setup scripts/conformance scripts/screenshot
	.venv/bin/ruff format . scripts/setup scripts/conformance scripts/screenshot
	-.venv/bin/python scripts/conformance

bench:  ## the measurements of docs/performance.md (benchmarks/README.md)
	@$(PYTHON) scripts/setup dev
	.venv/bin/python -m benchmarks $(ARGS)

clean:  ## remove .venv and caches; demo models and keys in the data directory stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
