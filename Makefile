# Set up .venv where it is missing, then do it. `make help` lists what there is.
# Plain POSIX make: runs with GNU make 3.81 and BSD make alike.
#
#   PYTHON=/path/to/python3.12   which Python builds .venv (default: the newest that works, 3.11 or later)
#   ONCE=1                       `make run` ends when the examples are done
#   PORT=5001                    where `make web` listens
#   ARGS="--log-level debug"     passed to the program as they are; ARGS=--yes: with keys, answer what is queued unasked

ONCE =
PORT =
ARGS =

BIN = .venv/bin
SETUP = @PYTHON="$(PYTHON)" sh scripts/setup.sh

.PHONY: help run web test bench lint format lock clean

help:
	@echo "make run      start the orchestrator; without an API key on the built-in simulator (ONCE=1 PORT= ARGS=--yes)"
	@echo "make web      the pages on http://localhost:5000 (PORT= ARGS=)"
	@echo "make test     the integration story, then every test"
	@echo "make bench    the figures of benchmarks/README.md"
	@echo "make lint     ruff and mypy"
	@echo "make format   let ruff rewrite the code"
	@echo "make lock     renew the requirements*.lock from the files they are named after"
	@echo "make clean    remove .venv and caches; state/ and results stay"

run:
	$(SETUP) requirements.txt
	@case "$(ONCE)" in ""|0) once= ;; *) once=--once ;; esac; \
	PORT="$(PORT)" exec $(BIN)/python real_agent_orchestrator.py --examples --pages $$once $(ARGS)

web:
	$(SETUP) requirements.txt
	@port="$(PORT)"; exec $(BIN)/python web_server.py $${port:+--port} $$port $(ARGS)

test:
	$(SETUP) requirements.txt
	@$(BIN)/python test_multi_provider.py $(ARGS)

bench:
	$(SETUP) requirements.txt
	@$(BIN)/python -m benchmarks $(ARGS)

lint:
	$(SETUP) requirements-dev.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format:
	$(SETUP) requirements-dev.txt
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One lock for every Python from 3.11 on, Linux, macOS and Windows; those of the tools and of PostgreSQL's driver agree
# with it.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock"

lock:
	$(SETUP) requirements-dev.txt
	$(LOCK) requirements.txt -o requirements.lock
	$(LOCK) requirements-postgresql.txt -c requirements.lock -o requirements-postgresql.lock
	$(LOCK) requirements-dev.txt -c requirements.lock -c requirements-postgresql.lock -o requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
