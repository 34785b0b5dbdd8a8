"""What every command begins with: settings, keys, and whether the providers are real or simulated."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import key_trust
from ..config import (
    PROJECT_ROOT,
    Environment,
    ProviderAccess,
    load_settings,
    provider_access,
    read_environment,
    simulated_access,
)
from ..errors import ConfigError, InputError
from ..settings import Settings
from .progress import say

if TYPE_CHECKING:
    from ..core.intake import Pins
    from ..core.store import Store


@dataclass
class Options:
    """The options that every command takes, as far as they were given."""

    config: Path | None = None
    simulate: bool = False
    simulator_config: Path | None = None
    state_dir: Path | None = None
    log_level: str | None = None  # None: where it was not named
    trust_env_file: bool = False  # consent: `.env` and the configuration may say where keys go
    sends_keys: bool = True  # False: the pages, which call no provider
    env_file: bool = True  # False: who has started this process has read it

    def level(self, quiet: bool = False) -> str:
        """What is logged to the terminal; a level that was named holds beside --quiet too."""
        return self.log_level or ("error" if quiet else "warning")


@dataclass(frozen=True, slots=True)
class Setup:
    """One command's surroundings. `access` holds real base URLs and keys even where a run is simulated."""

    settings: Settings
    environ: Mapping[str, str]
    access: dict[str, ProviderAccess]
    simulated: bool
    serving: str  # the command that serves this very state, as it is typed in this folder
    simulator_config: Path | None = None

    @property
    def alert_url(self) -> str | None:
        """Where alerts go; a simulated outage is nobody's alarm."""
        return None if self.simulated else self.environ.get("ALERT_WEBHOOK_URL")

    @property
    def mode(self) -> str:
        return "simulated" if self.simulated else "live"

    @property
    def configured(self) -> list[ProviderAccess]:
        """The providers that real calls could go to."""
        return [each for each in self.access.values() if each.configured]

    @property
    def called(self) -> frozenset[str]:
        """The names of the providers that this command's calls can go to, real or simulated."""
        if self.simulated:
            return frozenset(name for name, row in self.settings.providers.items() if row.enabled)
        return frozenset(each.name for each in self.configured)

    def with_cost_weight(self, weight: float) -> Setup:
        """The same, with price weighing that much in the choice of a provider."""
        routing = self.settings.routing.model_copy(update={"cost_weight": weight})
        return replace(self, settings=self.settings.model_copy(update={"routing": routing}))

    def with_strict_params(self) -> Setup:
        """The same, with a model that does not take all of a task's parameters being no choice for it."""
        return replace(self, settings=self.settings.model_copy(update={"strict_params": True}))

    def headline(self) -> str:
        """One plain line: who answers the tasks of this command."""
        if not self.simulated:
            return "live: " + ", ".join(
                f"{each.name} ({'key from ' + each.key_source if each.key_source else 'needs no key'})"
                for each in self.configured
            )
        if self.configured:
            return "simulated: the providers are local simulators, no key is used and nothing is spent"
        wanted = ", ".join(row.api_key_env[0] for row in self.settings.providers.values() if row.api_key_env)
        if keyed := [each for each in self.access.values() if each.key_source]:
            unused = ", ".join(f"{each.name} ({each.key_source})" for each in keyed)
            return (
                f"simulated: the providers that have a key are disabled: {unused}; nothing is spent "
                "(set enabled = true in their [providers.NAME])"
            )
        return (
            "simulated: no API key was found, so the providers are local simulators and nothing is spent "
            f"(keys are read from the environment or .env: {wanted})"
        )

    def refuse_without_key(self, pins: Pins) -> None:
        """Raises InputError where --only and --model leave no provider that has a key, or none at all."""
        pins.check(self.settings)
        able = pins.able(self.settings)
        if self.simulated or any(each.name in able for each in self.configured):
            return
        keys = ", ".join(
            f"{name} ({' or '.join(self.settings.providers[name].api_key_env)})" for name in able
        )
        option = "--only" if pins.only else "--model"
        raise InputError(f"{option}: there is no key for {keys}")

    @property
    def database(self) -> str | Path:
        """DATABASE_URL in both modes; without one, a file for each. A database keeps the mode of its first
        opening: simulated and live state never share one.
        """
        if not self.settings.database_url:
            return self.settings.state_dir / f"{self.mode}.db"
        return self.settings.database_url


def prepare(options: Options) -> Setup:
    """Read settings and keys. Raises ConfigError with one line, also where `.env` would redirect a key."""
    environ = read_environment() if options.env_file else Environment(os.environ)
    settings = load_settings(options.config, environ)
    state_dir = (options.state_dir or settings.state_dir).expanduser().absolute()
    settings = settings.model_copy(update={"state_dir": state_dir})
    access = provider_access(settings, environ)
    simulated = options.simulate or options.simulator_config is not None
    if not any(each.configured for each in access.values()):
        simulated = True
    if options.sends_keys and not simulated:
        consents = options.trust_env_file
        moves = key_trust.check(
            settings, environ, config=options.config, consents=consents, exported=os.environ
        )
        for line in moves:
            say(line)
    serving = _serving(options, simulated and any(each.configured for each in access.values()))
    return Setup(settings, environ, access, simulated, serving, options.simulator_config)


def command_line(*words: str | Path) -> str:
    """This program and these words as a shell in this folder takes them, without `activate` too."""
    join = subprocess.list2cmdline if sys.platform == "win32" else shlex.join
    return join(
        [
            shown(Path(sys.executable)),
            shown(PROJECT_ROOT / "real_agent_orchestrator.py"),
            *map(str, words),
        ]
    )


def shown(path: Path) -> str:
    """Relative to here where that is shorter to type."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _serving(options: Options, simulate: bool) -> str:
    """The command with what was given to this one."""
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


def open_store(setup: Setup) -> Store:
    """The database of this command's mode, made where it is missing. Raises StoreError."""
    from ..core.store import Store

    return Store.open(setup.database, simulated=setup.simulated)


@contextmanager
def providers(setup: Setup) -> Iterator[dict[str, ProviderAccess]]:
    """How the providers are reached while the block runs. Starts and ends a simulator where one is needed."""
    if not setup.simulated:
        yield setup.access
        return
    from ..simulator.process import SimulatorProcess

    try:
        process = SimulatorProcess.start(_simulator_config(setup))
    except RuntimeError as error:
        raise ConfigError(str(error)) from error
    with process:
        yield simulated_access(setup.settings, process.base_urls)


def _simulator_config(setup: Setup) -> dict[str, Any]:
    """The simulator speaks for every enabled provider of the settings, each in its own API format."""
    rows = {name: row for name, row in setup.settings.providers.items() if row.enabled}
    config: dict[str, Any] = {
        "providers": {name: {"api_format": row.api_format} for name, row in rows.items()}
    }
    if setup.simulator_config is None:
        return config
    from ..core.intake import parse_object

    try:
        given = parse_object(setup.simulator_config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise ConfigError(str(error), where=str(setup.simulator_config)) from error
    for name, own in dict(given.get("providers", {})).items():
        if name not in rows:
            raise ConfigError(
                f"no provider {name!r}", where=str(setup.simulator_config), allowed=", ".join(rows)
            )
        config["providers"][name] |= own
    return {**given, **config}
