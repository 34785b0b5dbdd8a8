"""Periodic work, each second, beside the calls.

Housekeeper    work that depends on time alone; it needs no store, and continues while the database is down
StoreSync      with the store: settings, commands, heartbeats, reserved money, learned limits
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ..errors import LeadershipLost, StoreError
from ..records import Event
from ..routing.balancer import ProviderLoadBalancer
from .budget_keeper import BudgetKeeper
from .calls import CallRunner
from .command_handler import CommandHandler
from .event_reporter import EventReporter
from .learned_state import LearnedStateRepository
from .placing import Placer
from .run_end import RunEnd
from .store_session import StoreSession

HOUSEKEEPING_S = 1.0
SAVE_LEARNED_EVERY_S = 10.0


class Housekeeper:
    """Detects a lost database file, a clock jump, a lost lead, and calls that will get no answer."""

    def __init__(
        self,
        session: StoreSession,
        balancer: ProviderLoadBalancer,
        calls: CallRunner,
        placer: Placer,
        end: RunEnd,
        reporter: EventReporter,
    ) -> None:
        self._session, self._balancer, self._calls = session, balancer, calls
        self._placer, self._end, self._reporter = placer, end, reporter

    async def run(self) -> None:
        """Once a second until cancelled. Raises LeadershipLost where another orchestrator leads."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self.check_store_file()
            self._check_clock()
            if self._session.leadership.lost:
                raise LeadershipLost
            self._placer.give_up_abandoned()
            self._balancer.note_states(self._session.clock.now())
            self._reporter.report(self._balancer.take_events())
            self._placer.place()

    def check_store_file(self) -> None:
        """End the run where the database file was deleted or replaced: further answers would be lost."""
        store = self._session.store
        if self._end.stopped == "store_lost" or not (how := store.file_lost()):
            return
        why = f"{store.place} {how} while it was in use; results stored since then are lost"
        self._end.lose_store(why, len(self._calls))
        self._reporter.report([Event(self._session.clock.now(), "store_lost", why, level="alert")])

    def _check_clock(self) -> None:
        clock = self._session.clock
        if jump_s := clock.take_jump():
            self._balancer.jumped(jump_s, clock.now())
            text = f"clock jumped {jump_s:.0f} s; in-flight calls are ignored for health"
            self._reporter.report([Event(clock.now(), "clock_jump", text, level="warning")])
            self._placer.place_anew()


class StoreSync:
    """Applies what people set in the store to the pool, and writes what the pool knows to the store."""

    def __init__(
        self,
        session: StoreSession,
        command_handler: CommandHandler,
        budget_keeper: BudgetKeeper,
        learned_state: LearnedStateRepository,
        placer: Placer,
        reporter: EventReporter,
    ) -> None:
        self._session, self._command_handler, self._budget_keeper = session, command_handler, budget_keeper
        self._learned_state, self._placer, self._supervisor = learned_state, placer, reporter.supervisor
        self._settings_version = -1

    async def run(self) -> None:
        """Once a second until cancelled."""
        clock = self._session.clock
        learned_at = clock.now()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            with self._supervisor.guarding("settings and commands"):
                await self.apply_settings_and_commands()
            self._placer.place()
            with self._supervisor.guarding("trimming reserved money"):
                await self._budget_keeper.trim()
            await self._session.heartbeat(self._placer.snapshot())
            if clock.now() - learned_at >= SAVE_LEARNED_EVERY_S:
                learned_at = clock.now()
                with suppress(StoreError):  # it is saved again later, with more
                    await self._learned_state.save(learned_at)

    async def apply_settings_and_commands(self) -> None:
        """Apply settings and carry out commands that are new in the store."""
        insist, store, clock = self._session.thread.insist, self._session.store, self._session.clock
        found = await self._session.poll()
        if found.settings_version != self._settings_version:
            settings = await insist(store.controls.current_settings)
            self._settings_version = found.settings_version
            self._command_handler.apply(settings, clock.now())
        if found.commands:
            for command in await insist(store.controls.take_commands, self._session.incarnation, clock.now()):
                outcome = "failed: internal error (the log of the orchestrator has the traceback)"
                with self._supervisor.guarding("a command"):
                    outcome = self._command_handler.carry_out(command, clock.now())
                await insist(store.controls.finish_command, command.id, outcome, clock.now())
