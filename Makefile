# `make demo` and `make test` set up all they need, in .venv, from a fresh clone with Python 3.11+.

PYTHON ?= python3
PROCESSES ?= 2
BIN := .venv/bin

.PHONY: demo test check coverage types docs interop bench-gpu format clean

demo: .venv/core
	$(BIN)/depthtok demo

test: .venv/dev
	DEPTHTOK_COVERAGE=$(COVERAGE) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --ignore tests/tensorflow
	$(BIN)/python -m pytest tests/tensorflow

check: .venv/dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(MAKE) test COVERAGE=1

# The share of lines that the tests run, in the processes that they start, too, at half as much CPU time
# again: `make check` prints that of the tests' own processes. TESTS="tests/vla" for some.
coverage: .venv/dev
	rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest --ignore tests/tensorflow $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

types: .venv/dev
	$(BIN)/mypy

# Other tools read what we write and talk to what we serve, in environments of their own (.interop/).
# With REQUIRED=--required it is an error that there is no Python 3.12.
interop: .venv/dev
	$(BIN)/python interop/run.py $(REQUIRED)

# The site, into site/: broken links and references fail it. The tests build it as well.
docs: .venv/dev
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d build/docs . site

# Rows and a table in bench-gpu/; needs a CUDA build of torch in .venv.
bench-gpu: .venv/core
	$(BIN)/python benchmarks/gpu.py

format: .venv/dev
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean:
	rm -rf .venv .coverage demo site build dist *.egg-info

CODE := depthtok pipelines vqvae vla tests benchmarks tools docs interop examples

.venv/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "depthtok needs Python 3.11 or newer: make PYTHON=python3.11 ..." && exit 1)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[tf,hf,da3,remote,serve,sim,video,lerobot,hdf5,view,tensorboard,eightbit,docs,dev]'
	# openpi's client asks for numpy<2 on paper, and works with 2: the server is tested with it.
	$(BIN)/python -m pip install --quiet --no-deps openpi-client==0.1.2
	# Meta-World asks for MuJoCo 3.3.0 exactly; the tests run it, and LIBERO, on one 3.3.
	$(BIN)/python -m pip install --quiet --no-deps metaworld==3.1.1 imageio==2.38.1
	touch $@
