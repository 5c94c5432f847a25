# Bucketscribe. `make up` is all one needs: it installs what is missing into .venv and starts everything.
#
#   make up        start on this machine; Ctrl-C stops
#   make test      style, types, and the tests that take seconds
#   make test-all  these, the tests that take minutes (KILLS, SEED, HOURS, MIB), and those of test-deploy,
#                  test-localstack and test-browser: the AWS template and functions in an emulator, the API on
#                  LocalStack, the page and other web clients in Chromium
#   make format    put the source into its form
#   make page      build the web page into the package; the others do, where they need it
#   make screenshots  the pictures of the page in docs/screenshots
#   make wheel     the package with the page in it, into dist/

UV_VERSION := 0.13.8
KILLS ?= 200
SEED ?= 20261121
HOURS ?= 10
MIB ?= 1024

export BUCKETSCRIBE_TEST_KILLS := $(KILLS)
export BUCKETSCRIBE_TEST_SEED := $(SEED)
export BUCKETSCRIBE_TEST_HOURS := $(HOURS)
export BUCKETSCRIBE_TEST_MIB := $(MIB)

# Asked to run, not only looked for: a pyenv shim can be on PATH and be broken.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .tools/bin/uv)
BIN := .venv/bin
BASE := .venv/.base
ALL := .venv/.all
# The engine with torch in it takes gigabytes: it is installed where it is asked for.
WHISPERX := .venv/.whisperx

# Programs that pin much: each in an environment of its own, exactly as its file says.
TOOLS := tests/deploy/tools

# A version of Node that Vite runs on, asked for as uv is above; where there is none, PyPI's.
NODE_FITS := const [a, b] = process.versions.node.split(".").map(Number); \
  process.exit(+(a === 20 ? b < 19 : a === 22 ? b < 12 : a < 23))
OWN_NODE := $(shell command -v npm >/dev/null && node -e '$(NODE_FITS)' 2>/dev/null || echo .tools/node)
WITH_NODE := $(if $(OWN_NODE),PATH="$(CURDIR)/$(OWN_NODE)/bin:$$PATH")
# What packages would run when they are installed is left out: none of these needs it.
NPM_CI := $(WITH_NODE) npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
NPX := $(WITH_NODE) npx --no-install
# npm's own list of what it has installed.
MODULES := node_modules/.package-lock.json

# Folders are looked at as well, for what was taken away.
PAGE := functions/bucketscribe/page
PAGE_SOURCES := $(shell find web -mindepth 1 -name node_modules -prune -o -mindepth 1 -print)

.PHONY: up page screenshots wheel test test-long test-deploy test-localstack test-browser test-all lint format clean
.DEFAULT_GOAL := up
.NOTPARALLEL:

# Settings that make no sense are told before the large packages are fetched; the last line becomes the program.
up: $(BASE)
	@$(BIN)/python -m bucketscribe.up.checks
	@$(MAKE) --no-print-directory $(if $(filter whisperx,$(BUCKETSCRIBE_ENGINE)),$(WHISPERX),$(ALL)) page
	@exec $(BIN)/python -m bucketscribe.cli.main up

page: $(PAGE)/index.html

wheel: page | $(filter .tools/%,$(UV))
	$(UV) build

screenshots: $(ALL) page
	$(BIN)/python -m docs.screenshots.make

test: lint page
	cd web && $(NPX) vitest run
# Two at a time, each with servers of its own: a test waits for its servers half of the time.
	$(BIN)/pytest -n 2 --dist loadfile -m "not long and not deploy and not localstack and not browser"

test-long: $(WHISPERX)
	$(BIN)/pytest -m long

test-deploy: $(ALL) page $(foreach tool,sam checkov ministack lambda compose,.tools/$(tool)/.installed)
	$(BIN)/pytest -m deploy

test-localstack: $(ALL) .tools/localstack/.installed
	BUCKETSCRIBE_TEST_SERVERS=localstack $(BIN)/pytest -m "localstack and not long"

test-browser: $(ALL) page web/$(MODULES) tests/browser/clients/$(MODULES)
	cd web && $(NPX) tsc -p ../tests/browser/clients && $(NPX) tsc -p ../benchmarks/browser_page
	tests/browser/install-chromium
	$(WITH_NODE) $(BIN)/pytest -m browser

test-all: test test-long test-deploy test-localstack test-browser

lint: $(ALL) web/$(MODULES)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	cd web && $(NPX) tsc --build

format: $(ALL)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .tools dist .mypy_cache .pytest_cache .ruff_cache .hypothesis $(PAGE) web/node_modules \
	  tests/browser/clients/node_modules tests/browser/clients/uppy*/node_modules

$(BASE): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --inexact --no-dev
	@touch $@

$(ALL): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --extra local
	@touch $(BASE) $@

$(WHISPERX): pyproject.toml uv.lock .python-version | $(filter .tools/%,$(UV))
	$(UV) sync --locked --extra local --extra whisperx
	@touch $(BASE) $(ALL) $@

# Nothing has to be installed for a page that is as new as its sources. It is whole whenever it is there.
$(PAGE)/index.html: $(PAGE_SOURCES)
	@$(MAKE) -s web/$(MODULES)
	@echo "Building the page"
	@cd web && $(NPX) vite build --logLevel error --outDir node_modules/.page --emptyOutDir
	@rm -rf $(PAGE)
	@mv web/node_modules/.page $(PAGE)
	@touch $@

%/$(MODULES): %/package-lock.json | $(OWN_NODE:%=%/.installed)
	@echo "Fetching what $*/package-lock.json names"
	@cd $* && $(NPM_CI) || { echo "The npm registry did not give it. Once it can be reached, do the same again." >&2; exit 1; }
	@touch $@

define ENVIRONMENT
	$(UV) venv --quiet --clear $(@D)
	$(UV) pip install --quiet --python $(@D) -r $<
	@touch $@
endef

.tools/node/.installed: web/node.txt .python-version | $(filter .tools/%,$(UV))
	$(ENVIRONMENT)

.tools/tuspyserver/.installed: benchmarks/tuspyserver/requirements.txt .python-version | $(filter .tools/%,$(UV))
	$(ENVIRONMENT)

.tools/%/.installed: $(TOOLS)/%.txt .python-version | $(filter .tools/%,$(UV))
	$(ENVIRONMENT)

.tools/bin/uv:
	@command -v python3 >/dev/null || { echo "uv is not installed, and neither is python3: install one of them." >&2; exit 1; }
	@python3 -m venv .tools || { rm -rf .tools; \
	  echo "python3 cannot make a virtual environment. Install uv, or on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	.tools/bin/pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
