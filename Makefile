# Every target does its own set-up in .venv; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make test` installs, with hashes: a broken release of a package does not break the tests.
# `make test LOCK=` takes the newest, or what is installed already: a torch for the CPU, say.
LOCK := tests/requirements.txt
# A real S3 server for the tests, in an environment of its own.
SWIFT := .venv-swift

.PHONY: demo test check format pictures chaos lock

demo: $(VENV)/demo.stamp
	$(BIN)/insetgan-batch demo --out out/demo

test: $(VENV)/test.stamp $(SWIFT)/stamp
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

# Fifty runs under fire; goes on where it was stopped. An hour or two.
chaos: $(VENV)/test.stamp
	$(BIN)/python benchmarks/chaos.py --schedules 50 --out benchmarks/results/chaos.json \
		--table docs/reliability.md

# What the tests and the image install, with hashes: after a change of the dependencies. Names no index.
lock: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet uv
	echo 'setuptools>=77' | $(LOCKING) --extra test --output-file tests/requirements.txt
	echo 'setuptools>=77' | $(LOCKING) --constraint tests/requirements.txt --output-file cluster/requirements.txt

LOCKING := $(BIN)/uv pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --quiet --custom-compile-command 'make lock'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: install python3-venv first."; exit 1; }

$(VENV)/demo.stamp: $(VENV)/bin/python pyproject.toml
	@echo "Installing the packages into $(VENV): a minute or two."
	$(BIN)/python -m pip install --progress-bar on --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/bin/python pyproject.toml $(LOCK)
	@echo "Installing the packages into $(VENV): a minute or two."
	$(if $(LOCK),$(BIN)/python -m pip install --progress-bar on --require-hashes --requirement $(LOCK))
	$(BIN)/python -m pip install --progress-bar on $(if $(LOCK),--no-deps --no-build-isolation) --editable '.[test]'
	@touch $@ $(VENV)/demo.stamp

$(SWIFT)/stamp: $(VENV)/bin/python tests/servers/swift-requirements.txt
	@echo "Installing a Swift for the tests into $(SWIFT): some seconds."
	$(PYTHON) -m venv $(SWIFT)
	$(SWIFT)/bin/python -m pip install --requirement tests/servers/swift-requirements.txt
	@touch $@
