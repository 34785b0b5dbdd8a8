"""The options that all commands share, and what a command works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..bootstrap import Setup, StartOptions, load, open_store
from ..core.clock import Clock
from ..core.intake import able_providers, never_called
from ..core.lease_watch import LeaseWatch
from ..errors import InputError
from ..settings import with_slots
from .console import Console

if TYPE_CHECKING:
    from ..core.intake import ReadOptions
    from ..core.leadership import Leadership
    from ..core.store import OrchestratorRow, Store


CHEAPEST_COST_WEIGHT = 25.0  # a provider at twice the price has a 26th of its score


@dataclass
class Options:
    """The options that every command takes, before or after the command's name, and its console."""

    config: Path | None = None
    simulate: bool = False
    simulator_config: Path | None = None
    state_dir: Path | None = None
    log_level: str | None = None
    trust_env_file: bool = False
    console: Console = field(default_factory=Console)

    def level(self, quiet: bool = False) -> str:
        """The log level of the terminal; an explicit --log-level wins over --quiet.

        A log that a program collects has one level more.
        """
        levels = ("warning", "info") if self.console.as_log else ("error", "warning")
        return self.log_level or levels[not quiet]


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with while its store is open."""

    setup: Setup
    store: Store
    console: Console
    clock: Clock
    watch: LeaseWatch = field(default_factory=LeaseWatch)  # what this command has seen of another leader

    def running_orchestrator(self) -> OrchestratorRow | None:
        """The orchestrator that leads and runs; None if there is none. It may wait for a dead one's lease."""
        from ..core.leadership import running_orchestrator

        return running_orchestrator(self.store, self.watch, self.note)

    def leadership(self) -> Leadership:
        """A claim of this command to lead; nothing is acquired yet."""
        from ..core.leadership import Leadership

        return Leadership(self.store, self.setup.settings.pool.lease_s, watch=self.watch)

    def now(self) -> float:
        """Epoch seconds; see `Clock`."""
        return self.clock.now()

    def note(self, text: str) -> None:
        """Write one line to standard error."""
        self.console.note(text)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Options that replace settings of the pool for one command."""

    strict_params: bool = False
    concurrency: int | None = None  # calls in flight at most; None: the slots of all agents
    cheapest: bool = False
    workers: str | None = None  # None: as the settings say

    def apply(self, setup: Setup) -> Setup:
        """The setup with these settings."""
        if self.cheapest:
            setup = setup.with_routing(cost_weight=CHEAPEST_COST_WEIGHT, preferences=False)
        setup = setup.with_workers(self.workers)
        if self.strict_params:
            setup = setup.with_settings(strict_params=True)
        if self.concurrency is not None:
            setup = setup.with_settings(agents=with_slots(setup.settings.agents, self.concurrency))
        return setup


AS_CONFIGURED = PoolOptions()


@contextmanager
def session(setup: Setup, console: Console, clock: Clock | None = None) -> Iterator[Session]:
    """A session for the block; its store is closed afterwards. Raises StoreError."""
    clock = clock or Clock()
    with open_store(setup) as store:
        yield Session(setup, store, console, clock)


def prepare(options: Options, *, calls_providers: bool = True) -> Setup:
    """Read settings and keys. Raises ConfigError, also if `.env` would redirect a key."""
    start = StartOptions(
        options.config,
        options.state_dir,
        options.simulate or None,
        options.simulator_config,
        options.trust_env_file,
        calls_providers,
    )
    setup = load(start, options.console.note)
    options.console.simulated = setup.simulated
    return setup


def headline(setup: Setup) -> str:
    """One line on the providers that this command calls."""
    if not setup.simulated:
        return "live: " + ", ".join(
            f"{each.name} ({'key from ' + each.key_source if each.key_source else 'needs no key'})"
            for each in setup.configured
        )
    if setup.configured:
        return "simulated: the providers are local simulators, no key is used and nothing is spent"
    if keyed := [each for each in setup.access.values() if each.key_source]:
        unused = ", ".join(f"{each.name} ({each.key_source})" for each in keyed)
        return (
            f"simulated: the providers that have a key are disabled: {unused}; nothing is spent "
            "(set enabled = true in their [providers.NAME])"
        )
    variables = (config.api_key_env for config in setup.settings.providers.values())
    wanted = ", ".join(names[0] for names in variables if names)
    return (
        "simulated: no API key was found, so the providers are local simulators and nothing is spent "
        f"(keys are read from the environment or .env: {wanted})"
    )


def note_start(setup: Setup, reading: ReadOptions, console: Console) -> None:
    """Note which providers this command calls, and which models of --model it never will."""
    console.note(headline(setup))
    if lost := never_called(reading.defaults.models, setup.settings, setup.called):
        console.note(f"--model: {lost}")


def refuse_without_key(setup: Setup, reading: ReadOptions) -> None:
    """Raises InputError if --only and --model leave no provider, or none that has a key."""
    reading.check(setup.settings)
    able = able_providers(reading.defaults.models, reading.only, setup.settings)
    if setup.simulated or any(each.name in able for each in setup.configured):
        return
    keys = ", ".join(f"{name} ({' or '.join(setup.settings.providers[name].api_key_env)})" for name in able)
    option = "--only" if reading.only else "--model"
    raise InputError(f"{option}: there is no key for {keys}")
