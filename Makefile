# Every target is one command on a fresh machine with make and python >= 3.11: the first one builds .venv.

PYTHON ?= python3
TORCH := 2.13.0
BIN := .venv/bin
READY := .venv/ready
MINUTES ?= 5
INSTALL := -e '.[train,lightning,hf,distributed,serve]' --group dev --group docs

.PHONY: demo test test-faults check docs bench lock

demo: $(READY)  ## train the paper's networks, stream them into a store, draw the information plane
	$(BIN)/python examples/demo.py

# One OpenMP thread: matrices this small are slower with two, and the tests that start processes use the cores.
# Files are handed out in the order given, what takes longest first, so that no core waits long for another at the end.
test: $(READY)  ## every test and every code block of the documents, save those marked long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n logical --dist loadfile --no-loadscope-reorder \
		docs tests/trainers tests

test-faults: $(READY)  ## kills, power cuts, failing stores: trials drawn anew for MINUTES minutes, and five more for all that is fixed
	OMP_NUM_THREADS=1 IPSTORE_FAULT_MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/faults

check: $(READY)  ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(READY)  ## the site, in docs/_build/html: the documents, and the reference from the docstrings; a broken reference is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -n -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html

bench: $(READY)  ## ratios against named baselines, written to benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("ipstore needs python >= 3.11 but $(PYTHON) is %s; give another one: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv --upgrade-deps .venv
	$(BIN)/python -m pip install -c constraints.txt $(INSTALL)
	touch $@

lock:  ## resolve the dependencies afresh into constraints.txt
	@set -eu; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(PYTHON) -m venv --upgrade-deps "$$work/venv"; \
	"$$work/venv/bin/python" -m pip install torch==$(TORCH) $(INSTALL); \
	"$$work/venv/bin/python" -m pip freeze --exclude-editable > "$$work/frozen"; \
	if grep '[@/]' "$$work/frozen"; then echo 'lock: the lines above name a place, not a version' >&2; exit 1; fi; \
	{ \
	  echo "# Made by \`make lock\`: the newest of everything beside torch $(TORCH), on $$("$$work/venv/bin/python" -V)."; \
	  echo '# Local suffixes of a version (torch +cpu, +cu130) are left out, so that any build of it fits.'; \
	  sed 's/+.*$$//' "$$work/frozen"; \
	} > "$$work/constraints.txt"; \
	mv "$$work/constraints.txt" constraints.txt
