# Everything runs in a virtual environment of its own, made on first use.
#
#   make demo       the whole path on the network and images that ship with the project
#   make test       the test suite
#   make test-long  what takes longer: long fuzzing, netlists, proofs, accuracy on 10,000 images; with MINUTES=60, what
#                   can be begun in so many minutes
#   make coverage   the tests of make test that functional coverage counts on, and what they cover
#   make lint       ruff and mypy

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

# BLAS threads beside parallel tests only wait for each other.
export OMP_NUM_THREADS ?= 1

# What must reach the floor of functional coverage, which is then the floor of the whole suite.
COVERAGE := tests/system/test_forms.py tests/hw/test_requantizer.py tests/hw/test_serial_requantizer.py \
	tests/hw/test_shift_requantizer.py tests/hw/test_minifloat_requantizer.py tests/hw/test_link.py \
	tests/sim/test_virtual_board.py

.PHONY: demo test test-long coverage lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/zeropoint demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow" --functional-coverage

coverage: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow" --engine amaranth --functional-coverage $(COVERAGE)

test-long: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) -m slow -rs $(if $(MINUTES),--minutes $(MINUTES))

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
