"""The composition root: builds the store, the providers, the orchestrator and the pages from settings.

`load` reads settings and keys into a `Setup`; everything else is built from that.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from . import key_trust
from .config import (
    Environment,
    ProviderAccess,
    identity,
    load_settings,
    provider_access,
    read_environment,
    renewed_access,
    simulated_access,
)
from .errors import ConfigError, InputError
from .package import DISTRIBUTION, program
from .settings import Settings, WorkerSettings

if TYPE_CHECKING:
    from flask import Flask

    from .access import AccessPolicy
    from .core.clock import Clock
    from .core.orchestrator import Orchestrator, OrchestratorOptions
    from .core.store import Store
    from .gateway.server import Gateway
    from .workers.draining import Drained
    from .workers.port import Fleet


BATCH_CLOCK_FACTOR = 60  # of the built-in simulator: a batch of an hour takes a minute


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What the command line says about settings and mode. `simulate`: None simulates if there is no key."""

    config: Path | None = None
    state_dir: Path | None = None
    simulate: bool | None = None
    simulator_config: Path | None = None
    trust_env_file: bool = False  # consent: `.env` and the configuration may redirect keys
    calls_providers: bool = True  # False for the pages, which send no key anywhere
    read_env_file: bool = True  # False if the parent process passes its variables on


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings, keys and mode. `access` has the real base URLs and keys even in a simulated run.

    `reload_keys` replaces keys in `access`, for this setup and for all copies with other settings.
    """

    settings: Settings
    environ: Mapping[str, str]
    access: dict[str, ProviderAccess]
    simulated: bool
    serve_command: str  # starts an orchestrator on this state, typed in the current folder
    simulator_config: Path | None = None
    dotenv: Path | None = None  # that was read at the start

    @property
    def mode(self) -> str:
        """`simulated` or `live`."""
        return "simulated" if self.simulated else "live"

    @property
    def alert_url(self) -> str | None:
        """Where alerts go; None in a simulated run."""
        return None if self.simulated else self.environ.get("ALERT_WEBHOOK_URL")

    @property
    def log_folder(self) -> Path:
        """Where log files go."""
        return self.settings.state_dir / "logs"

    @property
    def configured(self) -> list[ProviderAccess]:
        """The providers with a key, or that need none."""
        return [each for each in self.access.values() if each.configured]

    @property
    def called(self) -> frozenset[str]:
        """The names of the providers that calls of this process can go to, real or simulated."""
        if self.simulated:
            return frozenset(name for name, config in self.settings.providers.items() if config.enabled)
        return frozenset(each.name for each in self.configured)

    @property
    def identities(self) -> dict[str, tuple[str, str]]:
        """What the limits of each configured provider are stored under."""
        return {each.name: identity(each) for each in self.configured}

    @property
    def database(self) -> str | Path:
        """`DATABASE_URL`, or else one SQLite file for each mode.

        The database keeps the mode in which it was first opened: simulated and live state never mix.
        """
        return self.settings.database_url or self.settings.state_dir / f"{self.mode}.db"

    def reload_keys(self) -> dict[str, ProviderAccess]:
        """Read `.env` and the files with keys again; returns the providers whose key is another one now.

        Raises ConfigError: all old keys stay.
        """
        renewed = renewed_access(self.access, read_environment(self.dotenv))
        self.access.update(renewed)
        return renewed

    def with_routing(self, **changes: Any) -> Setup:
        """A copy with other `[routing]` settings."""
        return self.with_settings(routing=self.settings.routing.model_copy(update=changes))

    def with_settings(self, **changes: Any) -> Setup:
        """A copy with other settings."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def with_workers(self, run_on: str | None) -> Setup:
        """A copy that makes calls elsewhere; None: where the settings say. Raises ConfigError."""
        if run_on is None:
            return self
        given = {**self.settings.workers.model_dump(), "run_on": run_on}
        try:
            changed = self.with_settings(workers=WorkerSettings(**given))
        except ValidationError as error:
            allowed = "local, ray:auto, ray:HOST:PORT"
            raise ConfigError(f"unknown workers {run_on!r}", where="--workers", allowed=allowed) from error
        if changed.settings.workers.address and not changed.settings.database_url.startswith("postgres"):
            raise ConfigError(f"{run_on} needs a PostgreSQL database (set DATABASE_URL)", where="--workers")
        return changed


def load(options: StartOptions, notify: Callable[[str], None]) -> Setup:
    """Read settings and keys. `notify` gets a line for each key that the user let `.env` redirect.

    Raises ConfigError, also if `.env` or the configuration would redirect a key without consent.
    """
    environ = read_environment() if options.read_env_file else Environment(os.environ)
    settings = load_settings(options.config, environ)
    state_dir = (options.state_dir or settings.state_dir).expanduser().absolute()
    settings = settings.model_copy(update={"state_dir": state_dir})
    access = provider_access(settings, environ)
    has_key = any(each.configured for each in access.values())
    simulated = options.simulator_config is not None or bool(options.simulate)
    if options.simulate is None and not has_key:
        simulated = True
    if options.calls_providers and not simulated:
        consents = options.trust_env_file
        moves = key_trust.check(
            settings, environ, config=options.config, consents=consents, exported=os.environ
        )
        for line in moves:
            notify(line)
    command = _serve_command(options, simulate=simulated and has_key)
    return Setup(settings, environ, access, simulated, command, options.simulator_config, environ.file)


def command_line(*words: str | Path) -> str:
    """A shell command that runs this program from the current folder, without `activate`."""
    join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    start = [relative(word) if isinstance(word, Path) else word for word in program("orchestrator")]
    return join([*start, *map(str, words)])


def relative(path: Path) -> str:
    """The path relative to the current folder if it lies below it, else the absolute path."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _serve_command(options: StartOptions, *, simulate: bool) -> str:
    words: list[str | Path] = []
    given = {
        "--config": options.config,
        "--state-dir": options.state_dir,
        "--simulator-config": options.simulator_config,
    }
    for name, path in given.items():
        if path is not None:
            words += [name, path]
    if simulate and options.simulator_config is None:
        words.append("--simulate")
    return command_line(*words)


# ------------------------------------------------------------------ store, providers, orchestrator


def open_store(setup: Setup) -> Store:
    """Open the database of this mode, and create it if it is missing. Raises StoreError."""
    from .core.store import Store

    return Store.open(setup.database, simulated=setup.simulated)


@contextmanager
def running_providers(setup: Setup) -> Iterator[dict[str, ProviderAccess]]:
    """How to reach the providers; in a simulated run, start a simulator and stop it afterwards."""
    if not setup.simulated:
        yield setup.access
        return
    from .simulator.process import SimulatorProcess

    try:
        process = SimulatorProcess.start(_simulator_config(setup))
    except RuntimeError as error:
        raise ConfigError(str(error)) from error
    with process:
        yield simulated_access(setup.settings, process.base_urls)


def _simulator_config(setup: Setup) -> dict[str, Any]:
    """The simulator serves every enabled provider of the settings in its own API format."""
    enabled = {name: config for name, config in setup.settings.providers.items() if config.enabled}
    config: dict[str, Any] = {
        "batch_clock_factor": BATCH_CLOCK_FACTOR,
        "providers": {name: {"api_format": provider.api_format} for name, provider in enabled.items()},
    }
    if setup.simulator_config is None:
        return config
    from .core.intake import read_object

    where = str(setup.simulator_config)
    try:
        given = read_object(setup.simulator_config, '{"providers": {"openai": {}}}')
    except InputError as error:
        raise ConfigError(str(error)) from error
    providers = given.get("providers", {})
    if not isinstance(providers, dict) or not all(isinstance(own, dict) for own in providers.values()):
        raise ConfigError("'providers' must be an object with an object for each provider", where=where)
    for name, own in providers.items():
        if name not in enabled:
            raise ConfigError(f"no provider {name!r}", where=where, allowed=", ".join(enabled))
        config["providers"][name] |= own
    return {**config, **given, "providers": config["providers"]}


def build_orchestrator(
    setup: Setup,
    access: Mapping[str, ProviderAccess],
    store: Store,
    clock: Clock,
    options: OrchestratorOptions,
) -> Orchestrator:
    """An orchestrator over `store` that sends alerts where `setup` says. Raises ConfigError."""
    from .core.orchestrator import Orchestrator

    options = replace(options, alert_url=setup.alert_url, open_fleet=_fleet_of(setup, store))
    return Orchestrator(setup.settings, access, store, clock, options)


def _fleet_of(setup: Setup, store: Store) -> Callable[[], Awaitable[Fleet]] | None:
    """What joins the cluster of the settings; None: the orchestrator makes calls. Raises ConfigError."""
    address = setup.settings.workers.address
    if not address:
        return None
    if setup.simulated:
        raise ConfigError(
            "workers on Ray cannot reach the built-in simulators", where="--workers", allowed="local"
        )
    from .workers.ray import open_fleet

    return partial(open_fleet, address, workers_namespace(store))


def workers_namespace(store: Store) -> str:
    """The name under which the workers of a database are found in a cluster."""
    return f"{DISTRIBUTION}-{hashlib.sha256(store.place.encode()).hexdigest()[:8]}"


def drain_node(wait_s: float) -> Drained:
    """Let the workers of this machine's Ray node finish. Raises ConfigError where none runs here."""
    from .workers import draining

    return draining.drain_node(DISTRIBUTION, wait_s)


# ------------------------------------------------------------------ pages


@dataclass(frozen=True, slots=True)
class ParentProcess:
    """The orchestrator that started the pages: it has the keys, and ends the pages when it ends."""

    orchestrator: str  # its incarnation
    identities: Mapping[str, Sequence[str]]  # of the providers that it can call; see `Setup.identities`


def build_pages(
    setup: Setup, store: Store, access: AccessPolicy, parent: ParentProcess | None = None
) -> Flask:
    """The web application over an open store."""
    from .web import create_app
    from .web.context import AppContext

    known = setup.identities
    if parent is not None:
        known = {name: (url, digest) for name, (url, digest) in parent.identities.items()}
    providers: Collection[str] = setup.called if setup.simulated else known.keys()
    context = AppContext(
        setup.settings,
        store,
        setup.simulated,
        access=access,
        providers=providers,
        identities={} if setup.simulated else known,  # a simulator forgets its limits at its end
        start_command=setup.serve_command,
        orchestrator="" if parent is None else parent.orchestrator,
    )
    return create_app(context)


# ------------------------------------------------------------------ gateway


def build_gateway(setup: Setup, store: Store, clock: Clock, incarnation: str) -> Gateway:
    """The gateway of the orchestrator `incarnation`, which listens from now on.

    Raises ConfigError if its port is taken, or a provider's address leads to it.
    """
    from .access import AccessPolicy
    from .gateway.context import GatewayContext
    from .gateway.guard import Guard
    from .gateway.server import Gateway, Listener, refuse_own_address
    from .via import via_name

    own = setup.settings.gateway
    advertised = urlsplit(own.advertise_url).hostname or ""  # a standby sends requests to it
    access = AccessPolicy.from_environment(own.host, setup.environ, (*own.allowed_hosts, advertised))
    listener = Listener(own.host, own.port)
    if not setup.simulated:
        refuse_own_address(listener, setup.access)
    guard = Guard(access, own.allowed_origins, via=via_name())
    context = GatewayContext(
        setup.settings,
        store,
        access,
        setup.called,
        guard,
        _metrics(setup, store, access, incarnation),
        clock,
        setup.simulated,
        incarnation,
    )
    return Gateway(listener, context)


def _metrics(
    setup: Setup, store: Store, access: AccessPolicy, incarnation: str
) -> Callable[[str], tuple[bytes, str]]:
    """What the pages' `/metrics` shows. Flask, which makes it, is imported when it is first asked for."""
    found: list[Any] = []

    def scrape(accept: str) -> tuple[bytes, str]:
        from .web.context import AppContext
        from .web.metrics import exposition_of

        if not found:
            found.append(
                AppContext(
                    setup.settings,
                    store,
                    setup.simulated,
                    access=access,
                    providers=setup.called,
                    orchestrator=incarnation,
                )
            )
        return exposition_of(found[0], accept)

    return scrape
