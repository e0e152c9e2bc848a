# Everything a person does with this project is one of these words. `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo serve test test-rest test-slow lint bench clean

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# Two processes, each with a TensorFlow of its own; one that is done takes over tests of the other.
PARALLEL := --numprocesses 2 --dist worksteal

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "PYTHON=... names the interpreter (3.11 to 3.13); serve takes HOST=... PORT=... DATA_DIR=..."

install: $(INSTALLED)  ## make .venv with pinned dependencies (done by the others when needed)

$(INSTALLED): pyproject.toml constraints.txt
	@found=; for python in "$(PYTHON)" $(if $(filter file,$(origin PYTHON)),python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) --version says: $$("$(PYTHON)" --version 2>&1 | head -n 1). Install one, or name it: make install PYTHON=/path/to/python3.13" >&2; exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$("$$found" --version): TensorFlow and the rest, about 2 GB; this is done once." >&2; \
	"$$found" -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,demo,bench]"
	@touch $@

demo: $(INSTALLED)  ## prune a real model over REST and show what came of it, in demo-output/
	@$(RUN) -m examples.demo

serve: $(INSTALLED)  ## start the service: API and worker, data in DATA_DIR, until Ctrl-C
	@exec $(RUN) -m worker.serve  # HOST, PORT and DATA_DIR reach it through the environment

test: $(INSTALLED)  ## run the tests, with coverage
	@$(RUN) -m pytest $(PARALLEL) --cov --cov-report=term

test-rest: $(INSTALLED)  ## run the cases that `make test` leaves out of long lists
	@$(RUN) -m pytest $(PARALLEL) -m "rest and not slow"

test-slow: $(INSTALLED)  ## run the long tests on real data
	@$(RUN) -m pytest $(PARALLEL) -m slow

lint: $(INSTALLED)  ## ruff, mypy, import rules, scripts that parse
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-logo
	@bash -n .ci/run
	@$(RUN) -m pip check

bench: $(INSTALLED)  ## measure the service and the engine, each as a ratio
	@$(RUN) -m benchmarks

clean:  ## remove what these commands made; secateur-data/, which holds your models, stays
	rm -rf $(VENV) .venv-peer demo-output *.egg-info build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
