"""`check`: can this machine do it? One free call per provider, the disk, the database, the port."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..addresses import masked_address
from ..bootstrap import Setup, open_store, running_providers
from ..config import ProviderAccess, chosen_port
from ..errors import ConfigError, OrchestratorError, ProviderError
from ..logging_setup import set_up_logging
from ..settings import TIERS, Settings
from .config_warnings import config_warnings
from .plan import learned_limits
from .progress import console
from .setup import Options, headline, prepare

CALL_TIMEOUT_S = 15.0
Groups = Mapping[str, Mapping[str, Any]]  # what was learned, by model group
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
    set_up_logging(options.level())
    told = [
        Finding("mode", None, headline(setup)),
        *(Finding("doubt", None, d) for d in config_warnings(setup.settings)),
    ]
    database, learned = _database(setup)
    findings = [*told, database, _disk(setup), _port(setup), *_providers(setup, learned)]
    _print(findings)
    return WRONG if any(finding.ok is False for finding in findings) else OK


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    screen = console(stderr=False)
    labels = {True: ("ok", "green"), False: ("wrong", "red"), None: ("-", "dim")}
    for finding in findings:
        label, colour = labels[finding.ok]
        line = Text.assemble((f"{label:<6}", colour), f"{finding.what:<12} ", finding.text)
        screen.print(line, soft_wrap=True)


# ------------------------------------------------------------------ the machine


def _database(setup: Setup) -> tuple[Finding, Mapping[str, Groups]]:
    """Whether the database can be used, and the limits it holds from earlier runs, by provider."""
    try:
        with open_store(setup) as store:
            return Finding("database", True, store.place), learned_limits(setup, store)
    except OrchestratorError as error:
        return Finding("database", False, str(error)), {}


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


def _port(setup: Setup) -> Finding:
    host, port = setup.settings.server.host, setup.settings.server.port
    try:
        port = port if (chosen := chosen_port(setup.environ)) is None else chosen
    except ConfigError as error:
        return Finding("web port", False, error.what)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":  # on Windows this option would let two servers share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding("web port", None, f"{host}:{port} is in use ({error.strerror})")
    return Finding("web port", True, f"{host}:{port} is free")


# ------------------------------------------------------------------ the providers


def _providers(setup: Setup, learned: Mapping[str, Groups]) -> list[Finding]:
    try:
        with running_providers(setup) as access:
            asked = asyncio.run(_ask_all(access, setup.settings))
    except OrchestratorError as error:
        return [Finding("simulator", False, str(error))]
    found = []
    for each, answer in zip(access.values(), asked, strict=True):
        found.append(answer)
        if each.configured:
            found += list(_details(each, setup, learned.get(each.name, {})))
    return found


async def _ask_all(access: dict[str, ProviderAccess], settings: Settings) -> list[Finding]:
    return list(await asyncio.gather(*(_ask(each, settings) for each in access.values())))


async def _ask(access: ProviderAccess, settings: Settings) -> Finding:
    """What the provider answers when asked for its models, which costs nothing."""
    from ..providers.factory import build_adapter

    if not access.config.enabled:
        return Finding(access.name, None, "switched off in the configuration")
    if not access.configured:
        return Finding(
            access.name, None, f"no key; it would be read from {' or '.join(access.config.api_key_env)}"
        )
    adapter = build_adapter(access, 1, max_answer_mb=settings.pool.max_answer_mb)
    try:
        await adapter.warm_up()
        models = await adapter.list_models(CALL_TIMEOUT_S)
    except ProviderError as error:
        return Finding(access.name, False, f"{error.kind}: {error.message}")
    finally:
        await adapter.close()
    return _offered(access, settings, models)


def _offered(access: ProviderAccess, settings: Settings, models: list[str]) -> Finding:
    """Which of the tiers' models the provider lists. A list may be incomplete, so one missing is no fault."""
    wanted = sorted({settings.resolve_model(access.config.models.of(tier))[0] for tier in TIERS})
    found = [model for model in wanted if model in models]
    missing = ", ".join(model for model in wanted if model not in models)
    if models and not found:
        return Finding(access.name, False, f"reachable, but offers none of the configured models ({missing})")
    text = "reachable, 1 model" if len(models) == 1 else f"reachable, {len(models)} models"
    if found:
        text += f", among them {', '.join(found)}"
    if models and missing:
        text += f"; not listed: {missing}"
    return Finding(access.name, True, text)


def _details(access: ProviderAccess, setup: Setup, learned: Groups) -> Iterator[Finding]:
    """Where a provider is, what it is reached with, and what is known of its limits."""
    yield Finding("", None, f"key: {access.key_source or 'none needed'}")
    yield Finding("", None, f"address: {masked_address(access.base_url)}{_address_source(access)}")
    yield Finding("", None, f"proxy: {_proxy(access.base_url)}")
    known = [*_told(access), *(f"{_limits_text(row)} learned for {name}" for name, row in learned.items())]
    yield Finding("", None, f"limits: {'; '.join(known) or 'none told or learned yet'}")


def _address_source(access: ProviderAccess) -> str:
    if access.simulated:
        return " (simulator)"
    changed = access.base_url != access.config.base_url
    return f" ({access.config.base_url_env})" if changed else ""


def _proxy(base_url: str) -> str:
    """The proxy that calls to this address go through, by the variables that both HTTP clients obey."""
    from ..providers.network import is_loopback

    if is_loopback(base_url):
        return "none, it is on this machine"
    parts = urlsplit(base_url)
    found = urllib.request.getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return "none"
    return masked_address(proxy)


def _told(access: ProviderAccess) -> Iterator[str]:
    if told := access.config.limits.model_dump(exclude_none=True):
        yield f"{_limits_text(told)} told"
    for model, row in access.config.model_limits.items():
        yield f"{_limits_text(row.model_dump(exclude_none=True))} told for {model}"


def _limits_text(limits: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:,.0f}"
        for name, value in limits.items()
        if not name.endswith("burst_s") and not isinstance(value, bool)
    )
