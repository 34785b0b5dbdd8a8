"""Which orchestrator leads: theory of operation.

Limits, budgets and claims have one owner. So of all orchestrators over one database one leads: it alone
claims tasks, reserves money and calls providers. Each takeover of the leadership raises an epoch in the
database.

    candidate --acquire--> leading <----> blind          `blind`: the lease has expired, without a new leader
                             |              |
                             +--> lost <----+            `lost`: another orchestrator leads, or may
                             +--> released               `released`: a clean end

    state      places and calls   writes               calls in flight
    candidate  no                 refused              -
    leading    yes                yes                  go on
    blind      no                 wait for the store   finish, and their results wait in memory
    lost       no                 refused              are cancelled; the next leader has booked them
    released   no                 refused              -

**The fence.** Every write transaction of an orchestrator, the reservation of money included, first reads the
epoch and requires its own (`Database.writing`, the one place for that). On PostgreSQL it locks the row
against a takeover (KEY SHARE against UPDATE), so a takeover comes before the write, which is refused, or
after it. A renewal does not change a key, and so conflicts with neither. A leader that stops inside a
transaction delays the takeover by ten seconds or so: then the server ends that transaction, or the candidate
does (`store/frozen.py`).

**SQLite** has one host, so no clock is needed. The leader holds an exclusive lock of the operating system on
FILE.lock beside the database for its whole life (`store/lock.py`). The kernel releases it when the process
ends, however it ends, and keeps it while the process is stopped: a stopped leader is never taken over, a
killed one at once. There is no lease and no state `blind`.

**PostgreSQL** has many hosts, and wall clocks of two hosts are never compared. The leader renews the row
every fifth of the lease. It places while its own steady clock is inside the lease, counted from before the
last renewal was sent, minus a margin of a fifth; it checks that right before it calls an adapter. A candidate
takes over after the row has stood unchanged for the holder's whole lease, counted from after it was first
read so, by the candidate's own steady clock. Both intervals begin around the same commit, and the leader's is
shorter and begins earlier: so the leader has stopped placing before a candidate begins. Only time in which
the database answered the candidate counts. After an outage it counts anew, and the leader, which tries every
half second, is first. The row shows the database's clock for display alone.

**The next leader** requeues the claims of all others and books what their calls in flight may have cost at
most. What arrives at the old leader later is neither stored nor booked, since its money is booked already and
its task may be running again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from ..errors import LeadershipLost, StoreError
from ..formatting import duration
from ..steady import steady
from .lease_watch import LOOK_S, LeaseWatch
from .store import HostLock, Identity, Leader, OrchestratorRow, PublishedGateway, Store
from .store.standbys import SIGN_S

log = logging.getLogger(__name__)
RENEW_SHARE = 0.2  # of the lease: four renewals may fail before it runs out
MARGIN_SHARE = 0.2  # of the lease: for clocks that run apart, and for the time from the check to the call
RETRY_S = 0.5
SILENT_SHARE = 1.5 * RENEW_SHARE  # of the lease: a living leader has renewed by then
LOOK_AT_LOCK_S = 0.05  # between a standby's tries of the lock, each a system call
TRIES = 3  # without standby, while the database does not answer


def active_orchestrator(store: Store) -> OrchestratorRow | None:
    """The orchestrator that leads and is alive; None if there is none."""
    _, row = store.orchestrators.latest_snapshot()
    return row if store.leadership.leader().is_at_work(row) else None


def running_orchestrator(
    store: Store, watch: LeaseWatch, say: Callable[[str], None]
) -> OrchestratorRow | None:
    """The orchestrator that leads and is known to run; None if there is none. It may block for a lease.

    On PostgreSQL one that was killed looks alive until its lease ends: this waits until it renews, or until
    then. `say` gets one line if that takes longer than the next renewal of a living one.
    """
    if active_orchestrator(store) is None:
        return None
    notice = _WaitNotice(say, steady(), standby=False)
    while True:
        _, row = store.orchestrators.latest_snapshot()
        before = steady()
        leader = store.leadership.leader()
        now = steady()
        if row is None or row.incarnation != leader.holder:
            return None
        if (runs := _runs(leader, watch, before, now)) is not None:
            return row if runs else None
        notice.give(leader, now)
        time.sleep(LOOK_S)


def _runs(leader: Leader, watch: LeaseWatch, before: float, now: float) -> bool | None:
    """Whether the leader, read between `before` and `now`, runs; None if that is not known yet."""
    if leader.one_host:
        return leader.alive
    if watch.look(leader, before, now):
        return False
    return True if watch.has_renewed(leader, now - leader.lease_s) else None


class _WaitNotice:
    """Says once what is waited for: at once for a standby, else when a living leader would have renewed."""

    def __init__(self, say: Callable[[str], None], began: float, *, standby: bool) -> None:
        self._say, self._began, self._standby = say, began, standby
        self.given = False

    def give(self, leader: Leader, now: float) -> None:
        """Say it if it is due. A free lead has nothing to wait for."""
        silent_s = 0.0 if self._standby else SILENT_SHARE * leader.lease_s
        if leader.holder and not self.given and now - self._began >= silent_s:
            self._say(_waiting(leader, self._standby))
            self.given = True


class Leadership:
    """One orchestrator's claim to lead, see the theory above. `store` is the fenced store to write through.

    `watch`: what was seen of another leader before. `acquire` and `release` block; `may_place`, `lost` and
    `permission` are for the event loop. As a context manager it releases at the end.
    """

    def __init__(
        self,
        store: Store,
        lease_s: float,
        *,
        watch: LeaseWatch | None = None,
        clock: Callable[[], float] = steady,
    ) -> None:
        host, pid = socket.gethostname(), os.getpid()
        self.me = Identity(f"{host}-{pid}-{secrets.token_hex(4)}", pid, host, lease_s)
        self.store = store.fenced()
        self.lost = False
        self._watch = watch or LeaseWatch()
        self._clock = clock
        self._lock: HostLock | None = self.store.leadership.host_lock
        self._epoch: int | None = None
        self._valid_until = 0.0
        self._ending = threading.Event()
        self._keeper: threading.Thread | None = None
        self._signed_at = -math.inf  # when it said last that it stands by

    @property
    def incarnation(self) -> str:
        """The name of this process as an orchestrator: host, process id and a random part."""
        return self.me.incarnation

    @property
    def epoch(self) -> int:
        """The epoch in which it leads, or led; 0 before the first."""
        return self._epoch or 0

    @property
    def valid_until(self) -> float:
        """Until when calls may be made, by `steady()`; infinite where the lead has no lease."""
        return math.inf if self._lock is not None else self._valid_until

    @property
    def leads(self) -> bool:
        """Whether the lead was acquired, and neither lost nor released."""
        return self._epoch is not None and not self.lost

    @property
    def may_place(self) -> bool:
        """Whether no other orchestrator can lead at this moment, so that calls may be made."""
        return self.leads and (self._lock is not None or self._clock() < self._valid_until)

    async def permission(self) -> None:
        """Wait until the lease holds; make the call before the next await. Raises LeadershipLost."""
        while not self.may_place:
            if not self.leads:
                raise LeadershipLost
            await asyncio.sleep(LOOK_S)

    # ------------------------------------------------------------------ acquire and release

    def acquire(self, *, standby: bool = False, say: Callable[[str], None] = lambda _: None) -> None:
        """Take the lead. `standby`: wait for it as long as another one leads. `say` gets one line about
        waiting.

        Raises StoreError where another orchestrator leads, or the database cannot be used. Without `standby`
        it waits at most for the lease of a leader that ended without releasing it.
        """
        if self._epoch is not None:
            return
        try:
            if self._lock is not None:
                self._acquire_lock(self._lock, standby, say)
            else:
                self._acquire_lease(standby, say)
        finally:
            if self._signed_at > -math.inf:
                with suppress(StoreError):
                    self.store.standbys.leave(self.incarnation)

    def _acquire_lock(self, lock: HostLock, standby: bool, say: Callable[[str], None]) -> None:
        waits = False
        while not lock.acquire():
            leader = self.store.leadership.leader()
            if not standby:
                raise StoreError(refusal(leader))
            if not waits:
                say(f"standby: waiting for {leader.name}; takes over when that process ends")
                waits = True
            self._sign()
            time.sleep(LOOK_AT_LOCK_S)
        try:
            self._epoch = self.store.leadership.take(self.me)
        except BaseException:
            lock.release()
            raise
        if waits:
            say("standby: taking over")

    def _acquire_lease(self, standby: bool, say: Callable[[str], None]) -> None:
        began, failures = self._clock(), 0
        notice = _WaitNotice(say, began, standby=standby)
        while True:
            try:
                leader, taken = self._try_to_take()
            except StoreError:
                self._watch.missed()
                failures += 1
                if not standby and failures >= TRIES:
                    raise
                time.sleep(RETRY_S)
                continue
            failures = 0
            if taken:
                break
            if not standby and self._watch.has_renewed(leader, began):
                raise StoreError(refusal(leader))
            notice.give(leader, self._clock())
            if standby:
                self._sign()
            time.sleep(LOOK_S)
        if notice.given:
            say("standby: taking over" if standby else "the last orchestrator has ended; taking over")

    def _sign(self) -> None:
        """Show that it stands by. It takes over just as well where that can't be written."""
        if self._clock() - self._signed_at >= SIGN_S:
            self._signed_at = self._clock()
            with suppress(StoreError):
                self.store.standbys.sign(self.me)

    def _try_to_take(self) -> tuple[Leader, bool]:
        """The current leader, and whether this orchestrator leads now."""
        before = self._clock()
        leader = self.store.leadership.leader()
        free = leader.holder in ("", self.incarnation)  # its own: the reply to an earlier takeover was lost
        expired = free or self._watch.look(leader, before, self._clock())
        return leader, expired and self._take(leader)

    def _take(self, seen: Leader) -> bool:
        before = self._clock()
        epoch = self.store.leadership.take(self.me, seen=seen)
        if epoch is None:
            return False
        self._extend(before)
        self._epoch = epoch
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._keeper.start()
        return True

    def publish(self, gateway: PublishedGateway) -> None:
        """Tell standbys where the gateway is, while this one leads. Raises StoreError or LeadershipLost."""
        self.store.leadership.publish(gateway)

    def release(self) -> None:
        """Give up the lead, if this one still has it. Safe in every state, and to call twice."""
        self._ending.set()
        if self._keeper is not None:
            self._keeper.join(RETRY_S)
        if self.leads:
            with suppress(StoreError):  # the lease expires by itself
                self.store.leadership.give_up()
        self._epoch = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # ------------------------------------------------------------------ the lease, on its own thread

    def _keep(self) -> None:
        """Renew until the end. On a thread, since the loop may be busy and a write may take long."""
        pause_s, blind_since = RENEW_SHARE * self.me.lease_s, None
        try:
            while not self._ending.wait(pause_s):
                before = self._clock()
                try:
                    self.store.leadership.renew()
                except LeadershipLost:
                    return
                except StoreError as error:
                    pause_s = min(RETRY_S, RENEW_SHARE * self.me.lease_s)
                    if blind_since is None and not self.may_place:
                        blind_since = before
                        _log_blind(error)
                    continue
                self._extend(before)
                pause_s = RENEW_SHARE * self.me.lease_s
                if blind_since is not None:
                    _log_renewed(before - blind_since)
                    blind_since = None
        finally:  # also after an unexpected error: without renewals it does not lead
            self.lost = not self._ending.is_set()

    def _extend(self, renewed_at: float) -> None:
        self._valid_until = renewed_at + (1.0 - MARGIN_SHARE) * self.me.lease_s


def _log_blind(error: StoreError) -> None:
    log.error(
        "lease expired: the database does not answer; no new calls until it does, calls in flight finish",
        extra={"action": "lease", "error": str(error)},
    )


def _log_renewed(seconds: float) -> None:
    log.error("lease renewed after %s: placing again", duration(seconds), extra={"action": "lease"})


def _waiting(leader: Leader, standby: bool) -> str:
    lease = f"{leader.lease_s:g} s"
    if standby:
        return f"standby: waiting for {leader.name}; takes over when it ends or does not renew for {lease}"
    return (
        f"{leader.name} did not sign off: waiting up to {lease} in case it still runs (Ctrl-C stops waiting)"
    )


def refusal(leader: Leader) -> str:
    """The message for a second orchestrator that does not stand by."""
    remedy = (
        "stop it first, or start a server with --standby on this host, which takes over when it ends; "
        "for several hosts set DATABASE_URL to a PostgreSQL database"
        if leader.one_host
        else "stop it first, or start a server with --standby on any host, which takes over when it ends "
        f"or does not renew for {leader.lease_s:g} s"
    )
    return f"another orchestrator already serves this state: {leader.name} ({remedy})"
