"""A leader reduced to its messages: joins the cluster, makes calls on every worker, prints what comes back.

python -m tests.cluster.port_client ask HOST:PORT WORKERS CALLS   prints one JSON object
python -m tests.cluster.port_client watch HOST:PORT WORKERS       prints one a look, until standard input ends
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from src.errors import ConfigError
from src.messages import Message
from src.records import CompletionRequest
from src.workers.plain import encode_request
from src.workers.port import PROTOCOL, Port, WorkerUnreachable
from src.workers.ray import RayFleet, open_fleet

NAMESPACE = "test"
READY_S = 120.0
LOOK_S = 0.5


async def found(fleet: RayFleet, wanted: int) -> dict[str, Port]:
    """The workers, when there are as many as wanted."""
    end = time.monotonic() + READY_S
    ports: dict[str, Port] = {}
    while time.monotonic() < end:
        ports = dict(await fleet.find())
        if len(ports) >= wanted:
            return ports
        await asyncio.sleep(0.2)
    raise SystemExit(f"only {len(ports)} workers")


async def attach(port: Port) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header of further messages, and the inventory."""
    header: dict[str, Any] = {
        "protocol": PROTOCOL,
        "epoch": 1,
        "session": "",
        "stamp": 0.0,
        "lease_left_s": 1e9,
    }
    inventory: Any = await port.attach({**header, "leader": "test"})  # type: ignore[typeddict-item]
    return {**header, "session": inventory["session"]}, inventory


async def ask(port: Port, calls: int) -> dict[str, Any]:
    """Attach, give the calls, take their outcomes."""
    header, inventory = await attach(port)
    request = encode_request(CompletionRequest("gpt-6-luna", (Message("user", "Why is the sky blue?"),), 50))
    call = {"provider": "openai", "model": "gpt-6-luna", "agent": "a", "request": request, "facts": {}}
    given: Any = [{**call, "key": f"1/{n}"} for n in range(calls)]
    give: Any = {**header, "calls": given, "cancel": []}
    await port.give(give)
    outcomes: list[Any] = []
    while len(outcomes) < calls:
        take: Any = {**header, "acknowledged": [], "wait_s": 5.0, "linger_s": 0.0}
        outcomes += (await port.take(take))["outcomes"]
    return {"inventory": inventory, "outcomes": outcomes}


async def ask_all(address: str, workers: int, calls: int) -> None:
    """Print what each worker is, and what came of its calls; or why the cluster was not joined."""
    try:
        fleet = await open_fleet(address, NAMESPACE)
    except ConfigError as error:
        tell({"refused": str(error)})
        return
    ports = await found(fleet, workers)
    tell({"workers": {name: await ask(port, calls) for name, port in ports.items()}})
    await fleet.close()


async def watch(address: str, workers: int) -> None:
    """Print at each look which workers are found, or why none can be, and which of the first ones reply."""
    fleet = await open_fleet(address, NAMESPACE)
    ports = await found(fleet, workers)
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        seen: dict[str, Any] = {"found": [], "why": "", "reply": []}
        try:
            seen["found"] = sorted(await fleet.find())
        except WorkerUnreachable as error:
            seen["why"] = str(error)
        for name, port in ports.items():
            try:
                async with asyncio.timeout(2):
                    await attach(port)
                seen["reply"].append(name)
            except (WorkerUnreachable, TimeoutError):
                continue
        tell(seen)
        await asyncio.sleep(LOOK_S)
    await fleet.close()


def tell(what: object) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    command, where, *counts = sys.argv[1:]
    asyncio.run({"ask": ask_all, "watch": watch}[command](where, *map(int, counts)))
