"""Settings (weights, pauses) and commands for a running pool, as people write them to the store.

The pages and the command line write them; the orchestrator reads them within a second. Settings outlast
restarts and keep their history; a command is carried out once and stored with its outcome.

    setting   weights   {provider: base weight}
    setting   paused    [provider, ...]
    command   resume    {"provider"}          lift a hold, a spent quota or a refused key as well
    command   reset     {"provider"}          close its breaker
    command   cancel    {"batch", "ids"}      cancel waiting tasks; with "direct" also all direct ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..records import Result, TaskStatus
from ..routing.balancer import ProviderLoadBalancer
from ..routing.scheduler import Scheduler
from .store.rows import Command
from .weight_changes import WEIGHTS


class CommandHandler:
    """Applies settings and commands to the pool. `ended` gets the tasks that a command ends."""

    def __init__(
        self,
        balancer: ProviderLoadBalancer,
        scheduler: Scheduler,
        ended: Callable[[Result], None],
    ) -> None:
        self._balancer, self._scheduler, self._ended = balancer, scheduler, ended
        self._commands: Mapping[str, Callable[[Mapping[str, Any], float], str]] = {
            "resume": self._resume,
            "reset": self._reset,
            "cancel": self._cancel,
        }

    def apply(self, settings: Mapping[str, Any], now: float) -> None:
        """Apply the stored settings; a setting that is not stored has its configured value."""
        configured = {p.name: p.config.weight for p in self._balancer.providers}
        weights = {n: float(w) for n, w in dict(settings.get(WEIGHTS, {})).items()}
        self._balancer.set_weights({**configured, **weights}, now)
        paused = set(settings.get("paused", ()))
        for provider in self._balancer.providers:
            provider.set_paused(provider.name in paused)
        self._balancer.note_states(now)
        self._scheduler.wake_all()

    def carry_out(self, command: Command, now: float) -> str:
        """Carry out a command. Returns its outcome in a few words."""
        action = self._commands.get(command.kind)
        outcome = action(command.args, now) if action else f"unknown command {command.kind!r}"
        self._balancer.note_states(now)
        self._scheduler.wake_all()
        return outcome

    def _resume(self, args: Mapping[str, Any], now: float) -> str:
        name = str(args.get("provider", ""))
        if name not in self._balancer.by_name:
            return f"{name!r} is not configured here"
        self._balancer.resume(name, now)
        return "resumed"

    def _reset(self, args: Mapping[str, Any], now: float) -> str:
        name = str(args.get("provider", ""))
        if name not in self._balancer.by_name:
            return f"{name!r} is not configured here"
        self._balancer.close_breaker(name)
        return "breaker closed"

    def _cancel(self, args: Mapping[str, Any], now: float) -> str:
        ids = [str(task_id) for task_id in args.get("ids", ())]
        if args.get("direct"):
            ids += self._scheduler.direct_ids(str(args.get("batch", "")))
        return f"{self.cancel(str(args.get('batch', '')), ids, now)} cancelled"

    def cancel(self, batch: str, ids: Iterable[str], now: float) -> int:
        """Cancel the waiting tasks among `ids`; returns how many."""
        cancelled, why = 0, "cancelled by a command"
        for each in ids:
            result = self._scheduler.end_waiting(batch, each, TaskStatus.CANCELLED, why, now)
            if result is not None:
                self._ended(result)
                cancelled += 1
        return cancelled
