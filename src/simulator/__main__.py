"""`python -m src.simulator`: prints its addresses as a line of JSON, serves until standard input closes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from .config import Config, parse
from .readers import ConfigError

_READ_BYTES = 4096


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description=(
            "Local HTTP servers that behave like Anthropic, OpenAI and Gemini: limits, latency, errors. "
            "Prints one JSON line with their base URLs when ready and ends when standard input closes."
        ),
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--config", metavar="FILE", help="configuration as a JSON file")
    source.add_argument("--config-json", metavar="JSON", help="configuration as JSON on the command line")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="seed of texts, latencies and faults (default 1)"
    )
    return parser.parse_args()


def _load(arguments: argparse.Namespace) -> tuple[Config, dict[str, Any]]:
    """The configuration and the JSON it came from. Raises ConfigError."""
    text, where = arguments.config_json or "{}", "--config-json"
    if arguments.config:
        where = arguments.config
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(where, f"can't be read: {error}") from None
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(where, f"not JSON: {error}") from None
    if arguments.seed is not None and arguments.seed < 0:
        raise ConfigError("--seed", "expected a number of at least 0")
    return parse(raw, seed=arguments.seed), raw


def _wait_for_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read, not sys.stdin: a thread in a buffered read would hold its lock while the interpreter shuts down
    with contextlib.suppress(OSError):
        while os.read(0, _READ_BYTES):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended by a signal meanwhile
        loop.call_soon_threadsafe(stop.set)


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _serve(config: Config, raw: dict[str, Any]) -> None:
    from .control import Control  # here, so that help and bad configurations answer at once
    from .simulator import Simulator

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    _stop_on_signals(loop, stop)
    simulator = Simulator(config, raw)
    control = Control(simulator)
    await simulator.start()
    addresses = {
        "control": await control.start(),
        "providers": {name: provider.base_url for name, provider in simulator.providers.items()},
    }
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_wait_for_end_of_input, args=(loop, stop), daemon=True).start()
    await stop.wait()
    simulator.end()
    await control.end()


def main() -> int:
    """0 when ended, 2 when the configuration is wrong."""
    try:
        config, raw = _load(_arguments())
        asyncio.run(_serve(config, raw))
    except ConfigError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"simulator: can't listen: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
