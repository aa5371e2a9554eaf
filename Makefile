# Two commands set everything up: `make demo` compiles and streams on the built-in data, `make test` tests.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test test-slow lint types venv clean

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $@

demo: venv
	$(BIN)/adaptive-compile --model arnet --target cpu --folds 1 --out demo.bundle
	$(BIN)/adaptive-inspect demo.bundle
	$(BIN)/adaptive-run demo.bundle 'test://?duration=5'
	$(BIN)/adaptive-evaluate demo.bundle --compose-streams idle=0.8,streams=2

test: venv
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: venv
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build demo.bundle
