# make demo       the main job on a phantom: MR -> synthetic CT -> masks -> report in demo/
# make test       checks and every fast test            make test-slow   the slow ones
# make bench      the CPU benchmarks                    make docs        the site into site/

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-slow check bench docs clean
.DELETE_ON_ERROR:

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"spinect needs Python 3.11 or newer, this is {v.major}.{v.minor}; call: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,render,dicom,stats,dev]'
	@touch $@

demo: $(VENV)/.core
	$(BIN)/spinect demo -o demo --overwrite

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell src tests benchmarks docs configs README.md CHANGELOG.md CONTRIBUTING.md

test: check
	$(BIN)/pytest -m "not slow" -n 2

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/exactness.py runs/main_job/phantoms-lumbar-10/sub-1000000/anat/sub-1000000_T1w.nii.gz
	$(BIN)/python benchmarks/networks.py

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf site build dist demo .mypy_cache .ruff_cache .pytest_cache
