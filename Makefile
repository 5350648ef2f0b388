# Thin on purpose: everything here is pip, gcheap or pytest in a virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
MINUTES ?= 30

.PHONY: demo test sanitize model soak versions bench clean

demo: $(VENV)/installed
	$(BIN)/gcheap stress

test: $(VENV)/installed-test
	$(BIN)/pytest --numprocesses auto --dist loadgroup

# A selection of the tests with ThreadSanitizer, and with AddressSanitizer and UBSan.
sanitize: $(VENV)/installed-test
	$(BIN)/python tests/sanitize.py

# Two hours: every test in every build, then MINUTES of workloads; the summary is build/soak.md.
soak: $(VENV)/installed-test
	$(BIN)/python tests/soak.py --minutes $(MINUTES)

versions:
	$(PYTHON) tests/versions.py $(if $(FULL),--full) $(addprefix --python ,$(ONLY))

model: $(VENV)/installed-test
	$(BIN)/pytest -m "model and not soak" tests/test_model.py

bench: $(VENV)/installed-test
	$(BIN)/pytest benchmarks --benchmark-only

SOURCES = setup.py pyproject.toml \
          $(shell find gcheap -type f -not -name '*.so' -not -name '*.c' -not -name '*.pyc') \
          $(wildcard benchmarks/peers/*)

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
