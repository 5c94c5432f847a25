# Bucketscribe. `make up` is all one needs: it installs what is missing into .venv and starts everything.
#
#   make up        start on this machine; Ctrl-C stops
#   make test      style, types, and the tests that take seconds
#   make test-all  these, the tests that take minutes (KILLS, SEED, HOURS), and those of test-deploy and
#                  test-localstack: the AWS template and functions in an emulator, the API on LocalStack
#   make format    put the source into its form

UV_VERSION := 0.13.8
KILLS ?= 200
SEED ?= 20261121
HOURS ?= 10

export BUCKETSCRIBE_TEST_KILLS := $(KILLS)
export BUCKETSCRIBE_TEST_SEED := $(SEED)
export BUCKETSCRIBE_TEST_HOURS := $(HOURS)

# Asked to run, not only looked for: a pyenv shim can be on PATH and be broken.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .tools/bin/uv)
BIN := .venv/bin
BASE := .venv/.base
ALL := .venv/.all
# The engine with torch in it takes gigabytes: it is installed where it is asked for.
WHISPERX := .venv/.whisperx

# Programs that pin much: each in an environment of its own, exactly as its file says.
TOOLS := tests/deploy/tools

.PHONY: up test test-long test-deploy test-localstack test-all lint format clean
.DEFAULT_GOAL := up
.NOTPARALLEL:

# Settings that make no sense are told before the large packages are fetched; the last line becomes the program.
up: $(BASE)
	@$(BIN)/python -m bucketscribe.up.checks
	@$(MAKE) --no-print-directory $(if $(filter whisperx,$(BUCKETSCRIBE_ENGINE)),$(WHISPERX),$(ALL))
	@exec $(BIN)/python -m bucketscribe.cli.main up

test: lint
	$(BIN)/pytest -m "not long and not deploy and not localstack"

test-long: $(WHISPERX)
	$(BIN)/pytest -m long

test-deploy: $(ALL) $(foreach tool,sam checkov ministack lambda compose,.tools/$(tool)/.installed)
	$(BIN)/pytest -m deploy

test-localstack: $(ALL) .tools/localstack/.installed
	BUCKETSCRIBE_TEST_SERVERS=localstack $(BIN)/pytest -m "localstack and not long"

test-all: test test-long test-deploy test-localstack

lint: $(ALL)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(ALL)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .tools dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BASE): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --inexact --no-dev
	@touch $@

$(ALL): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --extra local
	@touch $(BASE) $@

$(WHISPERX): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --extra local --extra whisperx
	@touch $(BASE) $(ALL) $@

.tools/%/.installed: $(TOOLS)/%.txt .python-version | $(filter .tools/%,$(UV))
	$(UV) venv --quiet --clear .tools/$*
	$(UV) pip install --quiet --python .tools/$* -r $<
	@touch $@

.tools/bin/uv:
	@command -v python3 >/dev/null || { echo "uv is not installed, and neither is python3: install one of them." >&2; exit 1; }
	@python3 -m venv .tools || { rm -rf .tools; \
	  echo "python3 cannot make a virtual environment. Install uv, or on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	.tools/bin/pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
