"""Who answers the tasks of a pool: this process if it gets the lead, or a server that has it."""

from __future__ import annotations

import os
import socket
import threading
import time
from weakref import WeakValueDictionary

from ..core.leadership import Leadership, running_orchestrator
from ..core.lease_watch import LeaseWatch
from ..core.store import Store
from ..errors import StoreError

LOOK_S = 0.2
# Another pool of this process may be about to end; one that is open in the same function never does.
OWN_POOL_WAIT_S = 5.0
# By place of the store. Shared by the threads of a process, since calls in any of them must take turns.
_TURNS: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
_turns_lock = threading.Lock()


def turn_at(store: Store) -> threading.RLock:
    """The lock of this process's pools that end by themselves. They wait for each other, however long.

    A thread that holds it gets it again: a pool inside of another is for `Lead.take` to refuse.
    """
    with _turns_lock:
        lock = _TURNS.get(store.place) or threading.RLock()
        _TURNS[store.place] = lock
        return lock


class Lead:
    """A pool's claim to the lead of its store. `leadership` is what it leads with."""

    def __init__(self, store: Store, lease_s: float) -> None:
        self._store, self._watch = store, LeaseWatch()
        self.leadership = Leadership(store, lease_s, watch=self._watch)

    def take(self) -> bool:
        """Take the lead; False if a server has it, and answers the tasks. It blocks.

        Waits up to OWN_POOL_WAIT_S for another pool of this process. Raises StoreError if that does not end,
        or if another process works on tasks of its own.
        """
        give_up_at = time.monotonic() + OWN_POOL_WAIT_S
        while True:
            if not self._is_led_here():
                row = running_orchestrator(self._store, self._watch, lambda _: None)
                if row is not None and not row.batch:
                    return False
                try:
                    self.leadership.acquire()
                except StoreError:
                    if not self._is_led_here():
                        raise
                else:
                    return True
            if time.monotonic() > give_up_at:
                raise StoreError(
                    f"{self._store.place}: another pool of this program is open on it; close that one "
                    "first, ask in one pool, or give each a state_dir of its own"
                )
            time.sleep(LOOK_S)

    def server(self) -> int | None:
        """The process id of the server that has the lead; None if none has."""
        row = running_orchestrator(self._store, self._watch, lambda _: None)
        return row.pid if row is not None and not row.batch else None

    def _is_led_here(self) -> bool:
        """Whether another pool of this process leads, or may: a new leader has no name for a moment."""
        leader = self._store.leadership.leader()
        own = (leader.pid, leader.host) == (os.getpid(), socket.gethostname())
        return leader.alive and (own or not leader.holder)
