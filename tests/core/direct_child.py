"""A process that kills itself between the delivery of an answer and its commit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from src.core.direct import Run
from src.core.store import Store

from .direct_pool import request, serving, settings_for


async def main(url: str, base_urls: dict[str, str]) -> None:
    with Store.open(url, simulated=False) as store:
        async with serving(store, base_urls, settings_for(lease_s=1.0)) as served:
            answer = await served.direct.ask(request(1), run=Run("r", 1.0))
            os.write(1, f"{answer.cost_nanos} {served.pool.reserved_nanos}".encode())
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
