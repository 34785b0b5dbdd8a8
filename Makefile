# Set up .venv where it is missing, then do it. `make help` lists what there is.
# Plain POSIX make: runs with GNU make 3.81 and BSD make alike.
#
#   PYTHON=/path/to/python3.12   which Python builds .venv (default: the newest that works, 3.11 or later)
#   ONCE=1                       `make run` ends when the examples are done
#   PORT=5010                    where `make web` listens
#   ARGS="--log-level debug"     passed to the program as they are; ARGS=--yes: answer queued tasks without asking

ONCE =
PORT =
ARGS =

BIN = .venv/bin
SETUP = @PYTHON="$(PYTHON)" sh scripts/setup.sh

.PHONY: help run web test clients-test cluster-test bench lint format lock clean

help:
	@echo "make run      start the orchestrator; without an API key on the built-in simulator (ONCE=1 PORT= ARGS=--yes)"
	@echo "make web      the pages on http://localhost:5000 (PORT= ARGS=)"
	@echo "make test     the integration story, then every test"
	@echo "make clients-test  clients of the gateway as people use them; installs them (needs npm)"
	@echo "make cluster-test  workers on a local Ray cluster; installs Ray (needs PostgreSQL and Redis)"
	@echo "make bench    the figures of benchmarks/README.md"
	@echo "make lint     ruff and mypy"
	@echo "make format   let ruff rewrite the code"
	@echo "make lock     renew requirements/*.lock from the files they are named after"
	@echo "make clean    remove .venv and caches; state/ and results stay"

run:
	$(SETUP) runtime
	@case "$(ONCE)" in ""|0) once= ;; *) once=--once ;; esac; \
	PORT="$(PORT)" exec $(BIN)/python real_agent_orchestrator.py --examples --pages $$once $(ARGS)

web:
	$(SETUP) runtime
	@port="$(PORT)"; exec $(BIN)/python web_server.py $${port:+--port} $$port $(ARGS)

test:
	$(SETUP) test
	@$(BIN)/python test_multi_provider.py $(ARGS)

clients-test:
	$(SETUP) dev
	@$(BIN)/python -m pytest -q -m clients tests/clients $(ARGS)

cluster-test:
	$(SETUP) dev
	@$(BIN)/python -m pytest -q -m cluster -n 2 --dist loadfile tests/cluster $(ARGS)

bench:
	$(SETUP) test
	@$(BIN)/python -m benchmarks $(ARGS)

lint:
	$(SETUP) dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format:
	$(SETUP) dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each lock holds for every Python from 3.11 on, on Linux, macOS and Windows, and all of them agree.
LOCK = ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock"

lock:
	$(SETUP) dev
	cd requirements && $(LOCK) runtime.txt -o runtime.lock
	cd requirements && $(LOCK) postgresql.txt -c runtime.lock -o postgresql.lock
	cd requirements && $(LOCK) parquet.txt -c runtime.lock -o parquet.lock
	cd requirements && $(LOCK) ray.txt -c runtime.lock -o ray.lock
	cd requirements && $(LOCK) test.txt -c runtime.lock -o test.lock
	cd requirements && $(LOCK) dev.txt -c test.lock -c postgresql.lock -c parquet.lock -o dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
