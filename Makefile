# `make demo` and `make test` do all the setup on a bare machine with Python 3.11, 3.12 or 3.13.
# uv is used if it is installed (one minute instead of several), and pip otherwise.

VENV ?= .venv
UV := $(shell command -v uv 2>/dev/null)
# The first supported Python on this machine, unless PYTHON names one.
PYTHON ?= $(shell for p in python3 python python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin

.PHONY: demo figures test lint typing bench docs docs-quick lock clean help

help:
	@echo "make demo   install, build the embedded store, write maps and a report into demo/"
	@echo "make figures install, draw all paper figures (analyses/plot_*.py) into results/; takes hours, and goes on after an interruption"
	@echo "make test   install, check style, types and layers, run the tests"
	@echo "make lint   fix style and formatting"
	@echo "make typing check a user's script with mypy --strict: public names are typed"
	@echo "make bench  install, run the benchmarks of time and memory"
	@echo "make docs   install, build the site into docs/_build/html; draws the gallery and runs the tutorial (an hour the first time)"
	@echo "make docs-quick install, build the site without running anything"
	@echo "make lock   update the versions in constraints.txt (needs uv)"
	@echo "make clean  delete the environment, build outputs, caches, and leftovers of old versions"

demo: $(VENV)/.installed
	$(BIN)/neurorecon demo --out demo

# A script is run again if it or the package changed; `make -j 2 figures` runs two at a time.
figures: $(patsubst analyses/%.py,results/%/.done,$(wildcard analyses/plot_*.py))

results/%/.done: analyses/%.py $(shell find neurorecon -name '*.py') | results/.store
	$(BIN)/python $<
	@touch $@

results/.store: stores/scenes.toml $(VENV)/.installed
	$(BIN)/neurorecon build stores/scenes.toml
	@mkdir -p results && touch $@

# By file, because what takes long is made once a file; long files first (tests/conftest.py). Groups (loadgroup) do nothing: pytest-xdist 3.8 names them in an
# attribute that pytest 9.2 no longer has.
test: $(VENV)/.installed-test
	$(BIN)/ruff check neurorecon tests analyses
	$(BIN)/ruff format --check neurorecon tests analyses
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-test
	$(BIN)/ruff check --fix neurorecon tests analyses
	$(BIN)/ruff format neurorecon tests analyses

# In tests/, so that the package is found as users have it: installed, and not as files that are checked themselves.
typing: $(VENV)/.installed-test
	cd tests && $(abspath $(BIN))/mypy --config-file= --strict --cache-dir ../.mypy_cache/user typed_user_script.py

bench: $(VENV)/.installed-test
	$(BIN)/pytest tests/benchmarks -m benchmark -s

# Warnings are errors. The gallery keeps what it has drawn, and draws again only scripts that changed.
SPHINX = $(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

docs: $(VENV)/.installed-docs
	NEURORECON_GALLERY=run $(SPHINX)

docs-quick: $(VENV)/.installed-docs
	NEURORECON_GALLERY=skip $(SPHINX)

$(BIN)/python:
	@test -n "$(UV)$(PYTHON)" || { echo "neurorecon needs Python 3.11, 3.12 or 3.13 (or uv); none was found" >&2; exit 2; }
ifdef UV
	uv venv --quiet --python "$(or $(PYTHON),3.11)" $(VENV)
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 20 --upgrade pip
endif

ifdef UV
install = uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable $(1)
else
pip = $(BIN)/python -m pip install --quiet --retries 20 --resume-retries 20 --constraint constraints.txt --editable $(1)
# torch and the libraries of CUDA are 3 GB: where even resuming a download did not help, it is begun again; pip keeps what has arrived.
install = $(pip) || $(pip) || $(pip)
endif

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(call install,".[test]")
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(BIN)/python pyproject.toml constraints.txt
	$(call install,".[docs]")
	@touch $@

# The file does not contain URLs of package indexes, so that it works with any index.
lock:
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --no-emit-index-url \
		--no-annotate --no-header --upgrade --all-extras --output-file constraints.txt pyproject.toml

# Folders that hold nothing but __pycache__ are packages of old versions that are modules now.
clean:
	rm -rf $(VENV) demo build dist docs/_build docs/gallery docs/api docs/results .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find neurorecon -type d -name __pycache__ -prune -exec rm -rf {} +
	find neurorecon -mindepth 1 -type d -empty -delete
