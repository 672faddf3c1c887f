# Needs make and Python 3.11 or newer, nothing else. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
SEALTRAIL := $(BIN)/sealtrail

.DEFAULT_GOAL := $(STAMP)
.PHONY: help set-up up down status reset compose test demo kills faults simulate fuzz spooltest leaktest tamper bench-verify bench-producer bench bench-latency bench-endurance bench-scaling lint format docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

set-up: $(STAMP) ## Make .venv with everything in requirements.lock, each file by its hash

# The lock names every wheel by hash; the package itself is built by the hatchling that the lock brought.
$(STAMP): requirements.lock pyproject.toml processors/native/kernel.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m processors.native.build
	@touch $@

up: $(STAMP) ## Start the local stack: Kafka, S3 with Object Lock, OpenSearch
	@$(SEALTRAIL) stack up

down: $(STAMP) ## Stop the local stack; its data stays
	@$(SEALTRAIL) stack down

status: $(STAMP) ## Show whether each server is healthy, and where its log is
	@$(SEALTRAIL) stack status

reset: $(STAMP) ## Stop the local stack and remove its data, keys and credentials
	@$(SEALTRAIL) stack reset

compose: $(STAMP) ## Start servers and pipeline in containers instead (needs Docker; docs/compose.md)
	@$(BIN)/python -m infra.compose prepare
	@SEALTRAIL_UID=$$(id -u) SEALTRAIL_GID=$$(id -g) docker compose -f infra/compose.yaml up --build --detach

test: $(STAMP) ## Run all tests against real servers
	@$(BIN)/python -m tests $(TESTS)

demo: $(STAMP) ## Real events into archive, search and SIEM; six scenarios; verify, and try to break the archive
	@$(SEALTRAIL) demo

kills: $(STAMP) ## Kill each process under load, at random and inside its acts, and count what the stores hold
	@$(BIN)/python -m tests.kills $(KILLS)

faults: $(STAMP) ## Sealers on three real brokers: killed, woken as zombies, rebalanced, cut off; brokers killed (FAULTS="--shard 1/4")
	@$(BIN)/python -m tests.campaign $(FAULTS)

simulate: $(STAMP) ## 10,000 seeds of sealers on simulated brokers: killed, suspended, cut off; the trail checked after each step
	@$(BIN)/python -m tests.simulate $(SIMULATE)

fuzz: $(STAMP) ## Every parser of evidence against hostile bytes, for longer than the tests do
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest -q tests/test_parsers.py

spooltest: $(STAMP) ## The producer's spool through crashes, power losses, cut files and full disks; counts on the last line
	@$(BIN)/python -m tests.spooling $(SPOOLTEST)

tamper: $(STAMP) ## Damage an archive in every bit of a segment and 10,000 times at random; each must be found (an hour or two)
	@$(BIN)/python -m tests.tamper $(TAMPER)

leaktest: $(STAMP) ## 10,000 events with planted names, mails and secrets; each must be in no store, in clear or encoded
	@$(BIN)/python -m tests.leaks $(LEAKS)

bench-verify: $(STAMP) ## Seals a second that verification takes, which stage binds, and memory up to ten million seals
	@$(BIN)/python -m bench.verifying
	@$(BIN)/python -m bench.verifying --memory

bench-producer: $(STAMP) ## What emit() costs, and events a second against fastavro and confluent_kafka alone
	@$(BIN)/python -m bench.producing

bench: $(STAMP) ## The sealer against its naive form, Faust, Quix Streams and Kafka Streams; half an hour (docs/performance.md)
	@$(BIN)/python -m bench.sealing_peers $(BENCH)

bench-latency: $(STAMP) ## From a raw record's append to its seal being visible, at half of the maximum; two and a half minutes
	@$(BIN)/python -m bench.latency $(BENCH)

bench-endurance: $(STAMP) ## Half an hour at half of the maximum: memory and descriptors of the sealer must not grow
	@$(BIN)/python -m bench.endurance $(BENCH)

bench-scaling: $(STAMP) ## Processes, partitions, what a chain costs, what grows with it, what a record weighs; half an hour
	@$(BIN)/python -m bench.scaling $(BENCH)

lint: $(STAMP) ## Check style, types, the arrows between packages, and schemas against every released version
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict .
	@$(BIN)/lint-imports
	@$(BIN)/python -m auditor schema check
	@$(BIN)/python -m auditor schema docs --check

format: $(STAMP) ## Bring the code into the agreed form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## Make docs/catalogue anew: event catalogue, field reference, RACI, examples, AsyncAPI
	@$(BIN)/python -m auditor schema docs

lock: $(STAMP) ## Make requirements.lock anew from pyproject.toml and infra/lock.py
	@$(BIN)/python -m infra.lock

clean: ## Remove .venv and caches; the stack's state and the downloads stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
