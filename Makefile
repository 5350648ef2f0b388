# Thin on purpose: everything here is pip, gcheap or pytest in a virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test model bench clean

demo: $(VENV)/installed
	$(BIN)/gcheap stress

test: $(VENV)/installed-test
	$(BIN)/pytest

model: $(VENV)/installed-test
	$(BIN)/pytest -m "model and not soak" tests/test_model.py

bench: $(VENV)/installed-test
	$(BIN)/pytest benchmarks --benchmark-only

SOURCES = setup.py pyproject.toml $(shell find gcheap -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h')

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)/installed-test: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[test]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info
