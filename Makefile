# OpenTau: `make loop` sets up everything and runs the improvement loop; `make test` sets up everything and passes the tests.
PYTHON ?= python3.11
TORCH  := torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# LeRobot lives in an environment of its own, for its policies (docs/lerobot.md) and for comparisons. LEROBOT_TORCH takes any arguments of
# pip install, so that a CPU build can be had from where there is one.
LEROBOT_PYTHON ?= python3.12
LEROBOT_TORCH  ?= torch==2.11.0 torchvision==0.26.0 torchcodec==0.11.1
LEROBOT_VENV   := .venv-lerobot
LEROBOT_READY  := $(LEROBOT_VENV)/.ready

# Meta-World too: an environment whose numpy, gymnasium and mujoco are not ours (docs/environments.md). Python 3.11 or 3.12.
METAWORLD_PYTHON ?= $(PYTHON)
METAWORLD_VENV   := .venv-metaworld
METAWORLD_READY  := $(METAWORLD_VENV)/.ready

# Simulators run one thread each; the trainer sets torch's own number.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export HF_HUB_OFFLINE = 1

.PHONY: loop test test-full test-faults check setup lock clean help lerobot-env metaworld-env

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

loop: setup  ## set up, then run the improvement loop: make loop experiment=quick
	$(BIN)/opentau loop $(if $(experiment),experiment=$(experiment)) $(ARGS)

test: check  ## set up, check, the tabletop loop with kills, one LIBERO task
	$(BIN)/pytest -m "(loop or libero) and not faults and not sims and not lerobot and not metaworld" tests

test-full: setup  ## what takes longer: simulators, faults, driven screens, several processes; LeRobot and Meta-World where they are
	$(BIN)/pytest -m "cycles or sims or faults or tui or dist or lerobot or metaworld" tests

test-faults: setup  ## the bridge under faults: bad links, blackouts, kills, clocks, a full disk (a part of test-full)
	$(BIN)/pytest -m faults tests/faults

check: setup  ## format, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m "not loop and not cycles and not libero and not sims and not faults and not tui and not dist and not lerobot and not metaworld" tests

setup: $(READY)  ## make .venv from the lock file

$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV): torch (about 200 MB as a CPU build), LIBERO with its assets (1.2 GB), the rest (400 MB)."
	@echo "This happens once and takes two to five minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

lerobot-env: $(LEROBOT_READY)  ## make .venv-lerobot with LeRobot 0.6.1, for policy=lerobot and the benchmarks beside it

$(LEROBOT_READY): benchmarks/lerobot_side/requirements.lock
	@$(LEROBOT_PYTHON) -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "LeRobot 0.6.1 needs Python 3.12 or 3.13, and $(LEROBOT_PYTHON) is neither or does not run;" \
	    "name one: make lerobot-env LEROBOT_PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Setting up $(LEROBOT_VENV): LeRobot with what it needs (700 MB), torch (several GB where it is a CUDA build)."
	test -x $(LEROBOT_VENV)/bin/python || $(LEROBOT_PYTHON) -m venv $(LEROBOT_VENV)
	$(LEROBOT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(LEROBOT_TORCH)
	$(LEROBOT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r benchmarks/lerobot_side/requirements.lock
	@touch $(LEROBOT_READY)

metaworld-env: $(METAWORLD_READY)  ## make .venv-metaworld with Meta-World 3.0, for env=metaworld

$(METAWORLD_READY): envs/metaworld/requirements.lock
	@$(METAWORLD_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || { \
	  echo "Meta-World is set up with Python 3.11 or 3.12, and $(METAWORLD_PYTHON) is neither or does not run;" \
	    "name one: make metaworld-env METAWORLD_PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Setting up $(METAWORLD_VENV): Meta-World, MuJoCo, what a station needs (300 MB)."
	test -x $(METAWORLD_VENV)/bin/python || $(METAWORLD_PYTHON) -m venv $(METAWORLD_VENV)
	$(METAWORLD_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r envs/metaworld/requirements.lock
	@touch $(METAWORLD_READY)

lock:  ## resolve requirements.lock again (needs uv)
	uv pip compile requirements.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --override requirements.overrides --no-emit-package opentau-loop --output-file requirements.lock

clean:  ## remove the environment and caches, never the runs
	rm -rf $(VENV) $(LEROBOT_VENV) $(METAWORLD_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
