# Everything runs in a virtual environment of its own, made on first use.
#
#   make demo       the whole path on the network and images that ship with the project
#   make test       the test suite
#   make test-long  what takes longer: long fuzzing, accuracy on 10,000 images
#   make lint       ruff and mypy

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

# BLAS threads beside parallel tests only wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-long lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/zeropoint demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

test-long: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) -m slow

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e ".[sim]"
	touch $@

$(VENV)/test.stamp: pyproject.toml tests/constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c tests/constraints.txt -e ".[sim,build,formal,train,test,dev]"
	touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) build dist
