# Every target does its own set-up in .venv; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format pictures

demo: $(VENV)/demo.stamp
	$(BIN)/insetgan-batch demo --out out/demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: $(VENV)/demo.stamp
	$(BIN)/python benchmarks/pictures.py docs/recipes

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: install python3-venv first."; exit 1; }

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml
	@echo "Installing the packages into $(VENV): a minute or two."
	$(BIN)/python -m pip install --progress-bar on --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/bin/python pyproject.toml
	@echo "Installing the packages into $(VENV): a minute or two."
	$(BIN)/python -m pip install --progress-bar on --editable '.[test]'
	@touch $@ $(VENV)/demo.stamp
