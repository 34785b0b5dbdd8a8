"""A leader reduced to its messages: joins the cluster, makes calls on every worker, prints what comes back.

python port_client.py HOST:PORT WORKERS CALLS     prints one JSON object
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
from src.workers.port import PROTOCOL, Port
from src.workers.ray import RayFleet, open_fleet

NAMESPACE = "test"
READY_S = 60.0


async def found(fleet: RayFleet, wanted: int) -> dict[str, Port]:
    """The workers, when there are as many as wanted."""
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        ports = dict(await fleet.find())
        if len(ports) >= wanted:
            return ports
        await asyncio.sleep(0.2)
    raise SystemExit(f"only {len(ports)} workers")


async def ask(port: Port, calls: int) -> dict[str, Any]:
    """Attach, give the calls, take their outcomes."""
    header: dict[str, Any] = {
        "protocol": PROTOCOL,
        "epoch": 1,
        "worker": "",
        "stamp": 0.0,
        "lease_left_s": 1e9,
    }
    inventory = await port.attach({**header, "leader": "test"})
    header["worker"] = inventory["worker"]
    request = encode_request(CompletionRequest("gpt-6-luna", (Message("user", "Why is the sky blue?"),), 50))
    given = [
        {
            "key": f"1/{n}",
            "provider": "openai",
            "model": "gpt-6-luna",
            "agent": "a",
            "request": request,
            "facts": {},
        }
        for n in range(calls)
    ]
    await port.give({**header, "calls": given, "cancel": []})
    outcomes: list[Any] = []
    while len(outcomes) < calls:
        taken = await port.take({**header, "acknowledged": [], "wait_s": 5.0})
        outcomes += taken["outcomes"]
    await port.take({**header, "acknowledged": [each["key"] for each in outcomes], "wait_s": 0.0})
    return {"description": inventory["description"], "outcomes": outcomes}


async def main(address: str, workers: int, calls: int) -> dict[str, Any]:
    try:
        fleet = await open_fleet(address, NAMESPACE)
    except ConfigError as error:
        return {"refused": str(error)}
    ports = await found(fleet, workers)
    answers = {name: await ask(port, calls) for name, port in ports.items()}
    await fleet.close()
    return {"workers": answers}


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(json.dumps(found))
