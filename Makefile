# Each target makes .venv and installs what it needs first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: up down check check-parts check-whole lint test test-contracts test-crash test-others soak bench

$(READY): pyproject.toml constraints.txt proto/build.py $(wildcard proto/lemo/v1/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12) and f"Python {sys.version.split()[0]} will not do; Lemo needs 3.11 or 3.12: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python proto/build.py
	@touch $@

up: $(READY)  ## the whole system in the foreground; DATA=my.csv MAP=my.toml for data of your own
	@lemo up $(if $(DATA),--data $(DATA)) $(if $(MAP),--map $(MAP))

down: $(READY)
	@lemo down

lint: $(READY)
	ruff check .
	ruff format --check --quiet .
	mypy
	lint-imports --no-logo | tail -3

# All three at once. The tests are two processes, which partly wait, with servers of their own each.
check: $(READY)  ## everything that needs no cluster and takes no time
	@$(MAKE) --no-print-directory --output-sync=target --jobs lint check-parts check-whole

check-parts: $(READY)
	pytest tests/unit tests/contracts -m "not peers and not long"

check-whole: $(READY)
	pytest tests/shape tests/story tests/crash -m "not peers and not long"

test: check  ## what CI runs: also on real servers, which are downloaded once, and on a real cluster
	@$(MAKE) --no-print-directory --output-sync=target --jobs test-contracts test-crash test-others
	pytest tests/ray

test-contracts: $(READY)
	pytest tests/contracts -m "peers or long"

test-crash: $(READY)
	pytest tests/crash -m "peers or long"

test-others: $(READY)
	pytest tests/unit tests/story -m "peers or long"

soak: $(READY)  ## the crash and story suites at full size
	SOAK=1 pytest tests/crash tests/story --timeout 3600

bench: $(READY)
	python -m bench.accuracy
	python -m bench.returning
	python -m bench.films
	python -m bench.ctr
	python -m bench.imports
	python -m bench.freshness
	python -m bench.freshness --kafka
	python -m bench.neural
	python -m bench.takeover
	python -m bench.backlog
	python -m bench.train items
	python -m bench.ann
	python -m bench.tasks
	python -m bench.serve
	python -m bench.swap
	python -m bench.schedules
