"""`check`: can this machine do it? One free call per provider, the disk, the database, the port."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..config import ProviderAccess
from ..errors import OrchestratorError, ProviderError
from ..settings import TIERS, Settings
from .logs import set_up_logging
from .progress import console
from .setup import Options, Setup, open_store, prepare, providers

CALL_TIMEOUT_S = 15.0
ENOUGH_DISK_BYTES = 200 * 1024 * 1024
OK, WRONG = 0, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check: `ok` None is for what is told without being judged."""

    what: str
    ok: bool | None
    text: str


def check(options: Options) -> int:
    """Print a line per finding; 0 where everything that is configured works, else 2."""
    setup = prepare(options)
    set_up_logging(options.log_level)
    findings = [Finding("mode", None, setup.headline()), *_machine(setup), *_providers(setup)]
    _print(findings)
    return WRONG if any(finding.ok is False for finding in findings) else OK


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    screen = console(stderr=False)
    words = {True: ("ok", "green"), False: ("wrong", "red"), None: ("-", "dim")}
    for finding in findings:
        word, colour = words[finding.ok]
        line = Text.assemble((f"{word:<6}", colour), f"{finding.what:<12} ", finding.text)
        screen.print(line, soft_wrap=True)


# ------------------------------------------------------------------ the machine


def _machine(setup: Setup) -> Iterator[Finding]:
    yield _database(setup)
    yield _disk(setup)
    yield _port(setup.settings)
    proxies = sorted({name.upper() for name in setup.environ if name.lower().endswith("_proxy")})
    yield Finding("proxy", None, f"set by {', '.join(proxies)}" if proxies else "none")


def _database(setup: Setup) -> Finding:
    try:
        with open_store(setup) as store:
            return Finding("database", True, store.place)
    except OrchestratorError as error:
        return Finding("database", False, str(error))


def _disk(setup: Setup) -> Finding:
    folder = setup.settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    text = f"{free / 1e9:,.1f} GB free in {setup.settings.state_dir}"
    return Finding(
        "disk", writable and free >= ENOUGH_DISK_BYTES, text + ("" if writable else ", not writable")
    )


def _port(settings: Settings) -> Finding:
    host, port = settings.server.host, settings.server.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding("web port", None, f"{host}:{port} is in use ({error.strerror})")
    return Finding("web port", True, f"{host}:{port} is free")


# ------------------------------------------------------------------ the providers


def _providers(setup: Setup) -> list[Finding]:
    try:
        with providers(setup) as access:
            return asyncio.run(_ask_all(access, setup.settings))
    except OrchestratorError as error:
        return [Finding("simulator", False, str(error))]


async def _ask_all(access: dict[str, ProviderAccess], settings: Settings) -> list[Finding]:
    return list(await asyncio.gather(*(_ask(each, settings) for each in access.values())))


async def _ask(access: ProviderAccess, settings: Settings) -> Finding:
    """What the provider answers when asked for its models, which costs nothing."""
    from ..providers import build_adapter

    if not access.row.enabled:
        return Finding(access.name, None, "switched off in the configuration")
    if not access.configured:
        return Finding(
            access.name, None, f"no key; it would be read from {' or '.join(access.row.api_key_env)}"
        )
    where = f"{urlsplit(access.base_url).netloc}, {access.key_source or 'no key needed'}"
    adapter = build_adapter(access, 1)
    try:
        await adapter.warm_up()
        models = await adapter.list_models(CALL_TIMEOUT_S)
    except ProviderError as error:
        return Finding(access.name, False, f"{where}: {error.kind}: {error.message}")
    finally:
        await adapter.close()
    return Finding(access.name, True, f"{where}: answers, {_models_text(access, settings, models)}")


def _models_text(access: ProviderAccess, settings: Settings, models: list[str]) -> str:
    """Which of the models that the tiers want are listed. A list is not always complete, so none is wrong."""
    wanted = {settings.resolve_model(access.row.models.of(tier))[0] for tier in TIERS}
    missing = sorted(model for model in wanted if model not in models)
    text = f"{len(models)} models"
    return f"{text}; not listed: {', '.join(missing)}" if missing and models else text
