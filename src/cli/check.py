"""`check`: test keys, providers (one free call each), database, disk and port."""

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
from ..bootstrap import Setup, running_providers
from ..config import ProviderAccess, chosen_port
from ..errors import AuthFailed, ConfigError, OrchestratorError, ProviderError
from ..formatting import plural
from ..logging_setup import set_up_logging
from ..routing.verification import rejection
from ..settings import TIERS, Settings
from .config_warnings import config_warnings
from .console import Console, print_line, rich_console
from .plan import learned_limits
from .session import Options, headline, prepare, session

CALL_TIMEOUT_S = 15.0
MIN_DISK_BYTES = 200 * 1024 * 1024
OK, WRONG = 0, 2
LIMIT_UNITS = {
    "requests": "requests/min",
    "requests_per_minute": "requests/min",
    "tokens": "tokens/min",
    "tokens_per_minute": "tokens/min",
    "input_tokens": "input tokens/min",
    "input_tokens_per_minute": "input tokens/min",
    "output_tokens": "output tokens/min",
    "output_tokens_per_minute": "output tokens/min",
    "requests_per_day": "requests/day",
}
Groups = Mapping[str, Mapping[str, Any]]  # learned limits by group of models


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. `ok` None is information, neither good nor bad."""

    what: str
    ok: bool | None
    text: str


def check(options: Options) -> int:
    """Print a line per finding; return 0 if everything that is configured works, else 2."""
    setup = prepare(options)
    set_up_logging(options.level())
    findings = [
        Finding("mode", None, headline(setup)),
        *(Finding("warning", None, warning) for warning in config_warnings(setup.settings)),
    ]
    database, learned = _database(setup, options.console)
    findings += [database, _disk(setup), _port(setup), _gateway_port(setup), *_providers(setup, learned)]
    _print(findings)
    return WRONG if any(finding.ok is False for finding in findings) else OK


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    screen = rich_console(stderr=False)
    labels = {True: ("ok", "green"), False: ("wrong", "red"), None: ("-", "dim")}
    for finding in findings:
        label, colour = labels[finding.ok]
        line = Text.assemble((f"{label:<6}", colour), f"{finding.what:<12} ", finding.text)
        print_line(screen, line)


# ------------------------------------------------------------------ the machine


def _database(setup: Setup, console: Console) -> tuple[Finding, Mapping[str, Groups]]:
    """Whether the database can be used, and the limits by provider that earlier runs have learned."""
    try:
        with session(setup, console) as opened:
            return Finding("database", True, opened.store.place), learned_limits(opened)
    except OrchestratorError as error:
        return Finding("database", False, str(error)), {}


def _disk(setup: Setup) -> Finding:
    folder = setup.settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    text = f"{free / 1e9:,.1f} GB free in {setup.settings.state_dir}"
    return Finding("disk", writable and free >= MIN_DISK_BYTES, text + ("" if writable else ", not writable"))


def _port(setup: Setup) -> Finding:
    host, port = setup.settings.server.host, setup.settings.server.port
    try:
        port = port if (chosen := chosen_port(setup.environ)) is None else chosen
    except ConfigError as error:
        return Finding("web port", False, error.what)
    return _bindable("web port", host, port)


def _gateway_port(setup: Setup) -> Finding:
    return _bindable("gateway port", setup.settings.gateway.host, setup.settings.gateway.port)


def _bindable(what: str, host: str, port: int) -> Finding:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":  # on Windows this option would let two servers share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(what, None, f"{host}:{port} is in use ({error.strerror})")
    return Finding(what, True, f"{host}:{port} is free")


# ------------------------------------------------------------------ the providers


def _providers(setup: Setup, learned: Mapping[str, Groups]) -> list[Finding]:
    try:
        with running_providers(setup) as access:
            answers = asyncio.run(_call_all(access, setup.settings))
    except OrchestratorError as error:
        return [Finding("simulator", False, str(error))]
    found = []
    for each, answer in zip(access.values(), answers, strict=True):
        found.append(answer)
        if each.configured:
            found += list(_details(each, setup, learned.get(each.name, {})))
    return found


async def _call_all(access: dict[str, ProviderAccess], settings: Settings) -> list[Finding]:
    return list(await asyncio.gather(*(_call(each, settings) for each in access.values())))


async def _call(access: ProviderAccess, settings: Settings) -> Finding:
    """List the provider's models, which is free."""
    from ..providers.factory import build_adapter

    if not access.config.enabled:
        return Finding(access.name, None, "disabled in the configuration")
    if not access.configured:
        return Finding(access.name, None, f"no key; set {' or '.join(access.config.api_key_env)}")
    adapter = build_adapter(access, 1, max_answer_mb=settings.pool.max_answer_mb)
    try:
        await adapter.warm_up()
        models = await adapter.list_models(CALL_TIMEOUT_S)
    except AuthFailed as error:
        return Finding(access.name, False, rejection(access.name, access.variable, error))
    except ProviderError as error:
        return Finding(access.name, False, f"{error.kind}: {error.message}")
    finally:
        await adapter.close()
    return _offered(access, settings, models)


def _offered(access: ProviderAccess, settings: Settings, models: list[str]) -> Finding:
    """Which of the tiers' models the provider lists. Lists may be incomplete."""
    wanted = sorted({settings.resolve_model(access.config.models.of(tier))[0] for tier in TIERS})
    found = [model for model in wanted if model in models]
    missing = ", ".join(model for model in wanted if model not in models)
    if models and not found:
        return Finding(access.name, False, f"reachable, but offers none of the configured models ({missing})")
    text = f"reachable, {plural(len(models), 'model')}"
    if found:
        text += f", among them {', '.join(found)}"
    if models and missing:
        text += f"; not listed: {missing}"
    return Finding(access.name, True, text)


def _details(access: ProviderAccess, setup: Setup, learned: Groups) -> Iterator[Finding]:
    """The provider's key, address, proxy and limits."""
    yield Finding("", None, f"key: {access.key_source or 'none needed'}")
    yield Finding("", None, f"address: {masked_address(access.base_url)}{_address_source(access)}")
    yield Finding("", None, f"proxy: {_proxy(access.base_url)}")
    yield Finding(
        "", None, f"limits: {'; '.join(_limits(access, learned)) or 'none configured or learned yet'}"
    )


def _address_source(access: ProviderAccess) -> str:
    if access.simulated:
        return " (simulator)"
    changed = access.base_url != access.config.base_url
    return f" ({access.config.base_url_env})" if changed else ""


def _proxy(base_url: str) -> str:
    """The proxy for calls to this address, by the variables that both HTTP clients obey."""
    from ..providers.network import is_loopback

    if is_loopback(base_url):
        return "none, it is on this machine"
    parts = urlsplit(base_url)
    found = urllib.request.getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return "none"
    return masked_address(proxy)


def _limits(access: ProviderAccess, learned: Groups) -> Iterator[str]:
    """`1,200 requests/min, 5,000 tokens/min (configured)`, `60 requests/min (learned for gpt-x)`."""
    config = access.config
    known = [(config.limits.model_dump(exclude_none=True), "configured")]
    for model, limits in config.model_limits.items():
        known.append((limits.model_dump(exclude_none=True), f"configured for {model}"))
    for group, found in learned.items():
        known.append((dict(found), f"learned for {group}"))
    for limits_of, source in known:
        units = [f"{limits_of[name]:,.0f} {unit}" for name, unit in LIMIT_UNITS.items() if name in limits_of]
        if units:
            yield f"{', '.join(units)} ({source})"
