# make demo    the demo: four runs of a retraining pipeline, and what each of them had to do
# make up      an Airflow on this machine with the examples in dags/; prints the address and the login
# make test    the tests that need nothing but this machine; MARKERS= and TESTS= choose others
# make lint    format, lint, types and layers
# make bench   the benchmarks, as a table
# make clean   removes what these leave; the environment in .venv stays (make clean-all removes it too)
#
# The first of them makes .venv with everything at the versions of constraints.txt: some 200 MB to download.
# make demo PYTHON=python3.12   takes another Python (3.10 to 3.13), where .venv is not there yet.

PYTHON ?= python3
MARKERS ?= not scheduler and not ui and not docker and not kubernetes and not s3 and not mpi and not torch and not benchmark
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt

# Airflow imports two thousand modules; without their bytecode every process of it starts seconds later.
unexport PYTHONDONTWRITEBYTECODE
# What the shell that called make has active is not what runs here.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

# uv brings certificates of its own; those of the system also know the proxies of a company.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := 1
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint bench constraints clean clean-all

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.ready

demo: setup
	@$(BIN)/python dags/demo/run.py

up: setup
	@$(BIN)/python dags/demo/land.py dags/pipelines/data/landing/digits 3
	@$(BIN)/mlpipe up dags

test: setup
	$(BIN)/python -m pytest -m "$(MARKERS)" $(TESTS)

lint: setup
	@failed=0; for check in "ruff format --check" "ruff check" mypy lint-imports; do \
	  echo "$$check"; $(BIN)/$$check || failed=1; \
	done; exit $$failed

bench: $(VENV)/.bench
	$(BIN)/python -m pytest -m benchmark -s --timeout=0 tests/benchmarks

# Made once, and from nothing: two Pythons mixed in one environment fail in odd places.
$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	  echo "Python 3.10 to 3.13 is needed, and $(PYTHON) is `$(PYTHON) --version 2>&1`. Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Making $(VENV) with `$(PYTHON) --version` ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@touch $@

$(VENV)/.ready: $(VENV)/.uv pyproject.toml constraints.txt
	@echo "Installing into $(VENV) ..."
	@$(UV) -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.ready
	@echo "Installing DVC and dag-factory into $(VENV), to compare with ..."
	@$(UV) -e '.[dev,bench]'
	@touch $@

# Asks PyPI for the newest versions that fit together on every Python from 3.10 to 3.13.
constraints: $(VENV)/.uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate --no-emit-index-url \
	  --extra dev --extra demo --extra s3 --extra fast --extra gcs --extra azure --extra bench -o constraints.txt pyproject.toml

clean:
	rm -rf .mlpipe .airflow dags/pipelines/data dags/from_azureml/data .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks build dist
	find airflow_mlpipe dags tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)
