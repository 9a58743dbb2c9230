# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
PY := .venv/bin/python

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

.PHONY: test
test: .venv/.installed
	$(PY) -m pytest -q
