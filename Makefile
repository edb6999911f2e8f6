# The two commands: `make run` and `make test`. Everything is installed into .venv the first time, and again only when
# pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
BIN := .venv/bin

# uv reads neither pip's configuration nor its variables; a folder of local wheels named there must be passed on.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
# Byte-compile while installing: where PYTHONDONTWRITEBYTECODE is set, every later start would pay for it.
export UV_COMPILE_BYTECODE := 1

.PHONY: run test test-slow bench bench-scale bench-peers check format clean

run: .venv/installed
	$(BIN)/tsbench run

test: .venv/installed-dev
	$(BIN)/pytest

test-slow: .venv/installed-dev
	$(BIN)/pytest -m slow

bench: .venv/installed
	$(BIN)/python -W ignore -m benchmarks

bench-scale: .venv/installed
	$(BIN)/python -W ignore -m benchmarks scale

# Other toolkits, in an environment of their own.
bench-peers: .venv/installed
	$(PYTHON) -m venv .venv-peers
	$(BIN)/uv pip install --quiet --python .venv-peers/bin/python -c constraints.txt -r benchmarks/requirements-peers.txt -e .
	.venv-peers/bin/python -W ignore -m benchmarks peers

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-peers build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tsbench needs Python 3.11 or newer; try: make run PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# uv installs three times faster than pip; where it cannot be had or fails, pip does the same.
define install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[explain,gpu,holidays,parquet]' $(1) \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[explain,gpu,holidays,parquet]' $(1)
endef

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(call install)
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(call install,$(shell $(PYTHON) -c 'import tomllib; groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]; print(*(repr(need) for group in ("test", "lint") for need in groups[group]))'))
	touch .venv/installed $@
