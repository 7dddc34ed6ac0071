# Strata. `make demo` trains on real text, `make test` checks everything; both set the environment up first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

STUDY ?= deep_vs_wide
FORM ?= cpu

.PHONY: demo reproduce test lint slow shapes golden clean

$(VENV)/run.stamp: requirements.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Strata needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt requirements.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(VENV)/run.stamp
	$(BIN)/python launch.py train --config=experiments/deep_vs_wide.py:demo

# make reproduce STUDY=curse_of_depth: the measured table beside the paper's numbers, into experiments/results/.
reproduce: $(VENV)/run.stamp
	$(BIN)/python launch.py train --config=experiments/$(STUDY).py:$(FORM) \
		--run_folder=runs/reproduce/$(STUDY).$(FORM) --results=experiments/results/$(STUDY).$(FORM)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# The networks (tests/arch) once, with shapes checked; all else as users run it.
test: lint shapes
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/arch

slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow

# The networks, with shapes in signatures checked, and NNX without its graph mode.
shapes: $(VENV)/dev.stamp
	NNX_GRAPH_MODE=false NNX_GRAPH_UPDATES=false $(BIN)/python -m pytest tests/arch -n 2 --dist loadfile \
		--durations=3 --jaxtyping-packages=arch,train,beartype.beartype

golden: $(VENV)/dev.stamp
	$(BIN)/python -m experiments.config.golden

# What this file made: the environment, and caches of Python, tests and linters. Runs, and data in ~/.cache, stay.
clean:
	@for path in $$(test -f "$(VENV)/pyvenv.cfg" && echo "$(VENV)") .pytest_cache .ruff_cache .mypy_cache \
			.import_linter_cache .hypothesis; do \
		test ! -e "$$path" || { rm -rf "$$path" && echo "removed $$path"; }; done
	@find . -name .git -prune -o -name __pycache__ -type d -print -prune -exec rm -rf {} + | \
		sed -n '$$s/.*/removed __pycache__ of all folders/p'
