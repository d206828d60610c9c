# The two commands: `make demo` trains and exports both examples, `make test` passes the tests. Each sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := tfrankloss tests examples benchmarks
# What a change is most likely to break on another backend; the rest of it is for test-rest.
FIRST := tests/test_fit.py
# What takes minutes and few changes break.
LATER := tests/serving/test_faults.py $(addprefix tests/test_,parity.py benchmarks.py examples.py distribution.py \
	unknown_lengths.py sorted_lambdas.py gumbel.py micro_batches.py past_rows.py imports.py)

.PHONY: help demo test test-rest faults parity bench laws laws-of-settings check format lint types clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.base: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[examples]'
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[test,check,jax]'
	# TensorFlow Ranking pins packages it does not need for its losses; only the code is wanted, as a live oracle.
	$(BIN)/python -m pip install --quiet --no-deps 'tensorflow-ranking==0.5.5'
	touch $@

$(VENV)/.torch: $(VENV)/.test
	# This exact version because its CPU build is small; newer ones pull gigabytes of CUDA libraries.
	$(BIN)/python -m pip install --quiet 'torch==2.13.0'
	touch $@

demo: $(VENV)/.base ## train both examples on simulated data, export them, ask the exports
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python examples/movielens_two_tower.py
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python examples/letor_listwise.py

test: $(VENV)/.test ## the tests on TensorFlow, then fit on JAX
	# The laws by themselves: TensorFlow keeps what it compiled as long as a process lives, gigabytes of it.
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 tests/laws
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 $(addprefix --ignore=,tests/laws $(LATER))
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m backends $(FIRST)

test-rest: $(VENV)/.torch ## tests on TensorFlow that take minutes, the other backend-neutral ones on JAX, and all of those on torch
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 $(LATER)
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m backends tests/laws
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 -m backends $(addprefix --ignore=,$(FIRST) tests/laws)
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 -m backends

faults: $(VENV)/.test ## exporters killed 200 times beside a poller, 4 at once, and on a full disk (needs root for the disk)
	cd tests && KERAS_BACKEND=tensorflow ../$(BIN)/python -m serving.faults 200

parity: $(VENV)/.test ## write docs/parity.md: every row against TensorFlow Ranking and rax, measured
	cd tests && TF_USE_LEGACY_KERAS=1 TF_CPP_MIN_LOG_LEVEL=3 KERAS_BACKEND=tensorflow ../$(BIN)/python -m parity.page

bench: $(VENV)/.torch ## how fast and small: losses beside those of other libraries, memory, growth with the list
	-$(BIN)/python -m pip install --quiet keras-rs faiss-cpu
	-$(BIN)/python -m pip install --quiet --no-deps allrank
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/backends.py jax
	$(BIN)/python benchmarks/backends.py torch
	$(BIN)/python benchmarks/fit.py
	$(BIN)/python benchmarks/in_batch.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/growth.py --plot docs/growth.png

laws: $(VENV)/.torch ## every law of the losses and metrics on 200 random examples, on all backends
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 tests/laws --sweep classes
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 tests/laws --sweep classes -m backends
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 tests/laws --sweep classes -m backends

laws-of-settings: $(VENV)/.torch ## the same of every setting that is not the default, on 25 examples
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 tests/laws --sweep settings
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 tests/laws --sweep settings -m backends
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 tests/laws --sweep settings -m backends

check: format lint types test ## everything a change must pass

format: $(VENV)/.test
	$(BIN)/ruff format $(SOURCES)

lint: $(VENV)/.test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.test
	$(BIN)/mypy tfrankloss

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
