# On a fresh machine two commands do everything: `make demo` and `make test`. Both create .venv where it is missing.
#   PYTHON=python3.13     another interpreter (.venv is made anew for it)
#   ARGS='...'            handed on: make demo ARGS='--prompts 200', make test ARGS='tests/futures -x'
#   VENV=.venv-3.13       another folder than .venv
#   PYTHONS='3.12 3.13'   make test-pythons: on which versions
#   JOBS=0                make test in one process (with a debugger, say); otherwise in two, beside each other
#   RAY_TESTS=tests/ray   make test-ray: without the contract suite, which takes some minutes more
#   QUICK=1               make bench: every benchmark once, small, to see that it runs
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
JOBS ?= 2
QUICK ?=
PYTHONS ?= 3.13
RAY_TESTS ?= tests/ray tests/contract tests/notebooks

# Else each of the hundreds of processes that tests and benchmarks start would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# An interpreter that was named on the command line or in the environment decides what is in .venv; the default does not.
GIVEN := $(if $(filter file default undefined,$(origin PYTHON)),0,1)
venv = @command -v "$(PYTHON)" >/dev/null || { echo "concurry: '$(PYTHON)' is not there. Install Python 3.11 or newer, or say PYTHON=/path/to/python3" >&2; exit 1; }; \
       CONCURRY_VENV="$(VENV)" CONCURRY_PYTHON_GIVEN=$(GIVEN) "$(PYTHON)" .ci/venv.py

.PHONY: help demo demo-process demo-ray test test-pythons test-ray faults check lint types wheel bench docs screenshots format clean
help:
	@echo "make demo          the main job: 1,000 prompts one by one, then on threads and on an event loop"
	@echo "make demo-process  pipelines and pools over processes, beside pandas, numpy and ProcessPoolExecutor"
	@echo "make demo-ray      the batch and a pipeline on a Ray cluster of three nodes, of which one is killed"
	@echo "make test          the tests"
	@echo "make test-pythons  the tests on other versions of Python (PYTHONS), each with an environment of its own"
	@echo "make test-ray      the same tests and the faults over Ray, which is installed for it"
	@echo "make faults        the whole acceptance list of faults, in its long form"
	@echo "make check         lint, types, and the wheel from an empty directory"
	@echo "make bench         the benchmarks beside what one would use instead (QUICK=1: a smoke run)"
	@echo "make docs          the pages, with every link checked, into out/site"
	@echo "make screenshots   the pictures of the bars, anew; needs a Chromium"
	@echo "make format        what ruff can put right by itself"

demo:
	$(venv) demo
	$(PY) examples/batch_llm.py $(ARGS)

demo-process:
	$(venv) demo-process
	$(PY) examples/flights_pipeline.py $(ARGS)
	$(PY) examples/array_pipeline.py $(ARGS)
	$(PY) examples/cpu_pool.py $(ARGS)

demo-ray:
	$(venv) demo-ray
	$(PY) examples/ray_cluster.py $(ARGS)

test:
	$(venv) test
	$(PY) -m pytest -q -n $(JOBS) $(ARGS)

test-pythons:
	@for version in $(PYTHONS); do \
	    python=$$("$(PYTHON)" .ci/find_python.py $$version) || exit 1; \
	    echo "== Python $$version: $$python"; \
	    $(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" || exit 1; \
	done

test-ray:
	$(venv) test-ray
	CONCURRY_TEST_RAY=1 $(PY) -m pytest -q $(RAY_TESTS) -k ray $(ARGS)

faults:
	$(venv) test
	CONCURRY_LONG=1 $(PY) -m pytest -q tests/faults $(ARGS)

check: lint types wheel

lint:
	$(venv) dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types:
	$(venv) dev
	$(PY) -m mypy
	$(PY) -m pyright -p .

wheel:
	$(venv) dev
	$(PY) .ci/wheel.py

bench:
	$(venv) test
	$(PY) benchmarks/run.py $(if $(QUICK),--quick) $(ARGS)

docs:
	$(venv) docs
	$(PY) docs/check.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet --site-dir out/site
	$(PY) docs/check.py out/site

screenshots:
	$(venv) screenshots
	$(PY) docs/screenshots.py $(ARGS)

format:
	$(venv) dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf .venv .venv-* build dist out concurry.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
