"""`alert-test`: send one alert to the webhook."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .session import Options, prepare

if TYPE_CHECKING:
    from ..core.alerts import Alerter, HookAnswer

OK, REFUSED = 0, 1


def alert_test(options: Options) -> int:
    """Send one alert to ALERT_WEBHOOK_URL and print the response. Returns the exit code."""
    from ..core.alerts import Alerter

    setup = prepare(options)
    url = setup.environ.get("ALERT_WEBHOOK_URL")
    if not url:
        raise ConfigError("ALERT_WEBHOOK_URL is not set (set it to the address of an incoming webhook)")
    answer = asyncio.run(_send(Alerter(url)))
    options.console.note(str(answer))
    return OK if answer.ok else REFUSED


async def _send(alerter: Alerter) -> HookAnswer:
    try:
        return await alerter.send_test()
    finally:
        await alerter.close()
