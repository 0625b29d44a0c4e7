# make demo   install, check two problems with three guides each, write a report under out/
# make test   install what tests need; lint, types, import order, tests
# make bench  install the peers, and race them (about 25 minutes)
# make bench-accuracy  every family and method on real posteriors, beside the peers (hours; flags in FLAGS)
# make bench-verdict  how often the verdict is right: planted faults, errors known (hours; flags in FLAGS)
# make bench-monte-carlo  methods of Monte Carlo on known answers: efficiency, speed, evidence (flags in FLAGS)
# make bench-representation  autoencoders: known optima, better models on data not seen, speed (flags in FLAGS)
# make bench-tuning  fit real posteriors without a tuning option, and compare with the best fits known

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint fmt notebooks bench bench-accuracy bench-monte-carlo bench-representation bench-tuning bench-verdict elbo clean

demo: $(VENV)/.installed
	$(BIN)/ppl-models check eight_schools_noncentered eight_schools_centered \
	  --guide normal --guide full_rank --guide handwritten --output out

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

fmt: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.installed-dev
	$(BIN)/jupytext --to ipynb notebooks/*.py
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

bench: $(VENV)/.installed-peers
	$(BIN)/python benchmarks/speed.py

bench-accuracy: $(VENV)/.installed-peers
	$(BIN)/python benchmarks/accuracy.py $(FLAGS)

bench-monte-carlo: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/monte_carlo.py $(FLAGS)

bench-representation: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/representation.py $(FLAGS)

bench-tuning: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/tuning.py

bench-verdict: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/verdict.py $(FLAGS)

elbo: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/elbo.py

clean:
	rm -rf $(VENV) out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-peers: $(VENV)/.installed-dev
	$(PIP) --editable '.[dev,peers]'
	touch $@
