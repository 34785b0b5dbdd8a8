"""Calls of tasks on workers: the way of each from its placement to the worker and back.

A call is given to the worker that holds the fewest; that is decided when it is placed, since its cost is
reserved under the worker's name. Calls whose submitter waits are never made here, see `calls.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..records import Placement
from ..workers.connection import Made
from ..workers.local import LocalWorker
from ..workers.plain import encode_placement, encode_request
from ..workers.port import HeldCall, Key
from ..workers.remote import Workers
from .leadership import Leadership
from .store.rows import HeldByWorker, Inventories


class RemoteCall(NamedTuple):
    """Where a call is made."""

    worker: str
    key: Key


class RemoteCalls:
    """The calls that workers make for this orchestrator.

    `local`: resolves requests. `falls_back`: calls are made here while no worker takes any.
    """

    def __init__(
        self, workers: Workers, local: LocalWorker, leadership: Leadership, *, falls_back: bool
    ) -> None:
        self.workers, self._local, self._leadership = workers, local, leadership
        self._falls_back = falls_back
        self._found: Mapping[str, Sequence[HeldCall]] = {}

    @property
    def can_make_calls(self) -> bool:
        """Whether calls may be placed now."""
        return self._falls_back or self.workers.available

    def choose(self, placement: Placement) -> RemoteCall | None:
        """Where this call will be made; None: in this process."""
        key = f"{self._leadership.epoch}/{placement.permit}"
        worker = self.workers.choose(key)
        return None if not worker and self._falls_back else RemoteCall(worker, key)

    async def make(self, where: RemoteCall, placement: Placement) -> Made:
        """Give the call to its worker, and wait for its end."""
        request = self._local.request_for(placement)
        return await self.workers.make(
            where.worker,
            {
                "key": where.key,
                "provider": placement.provider,
                "model": placement.model,
                "agent": placement.agent,
                "request": encode_request(request),
                "facts": encode_placement(placement),
            },
        )

    async def end_of(self, where: RemoteCall) -> Made:
        """The end of a call that was adopted."""
        return await self.workers.end_of(where.worker, where.key)

    def stored(self, where: RemoteCall) -> None:
        """The call's end is on the disk, so its worker may forget it."""
        self.workers.acknowledge(where.worker, [where.key])

    # ------------------------------------------------------------------ takeover

    async def look(self) -> Inventories:
        """Attach all workers, and tell what they hold of earlier leaders."""
        self._found = await self.workers.attach_all()
        calls = [_held(name, each) for name, held in self._found.items() for each in held]
        return Inventories(frozenset(self._found), tuple(calls))

    def adopt(self, adopted: Sequence[HeldByWorker]) -> list[tuple[HeldByWorker, HeldCall]]:
        """Expect the end of these calls; the workers forget all others that they held."""
        wanted = {call.key: call for call in adopted}
        found = []
        for name, held in self._found.items():
            for each in held:
                if (call := wanted.get(each["key"])) is not None:
                    self.workers.expect(name, call.key, call.provider, each["facts"]["model"])
                    found.append((call, each))
            self.workers.acknowledge(name, [each["key"] for each in held if each["key"] not in wanted])
        self._found = {}
        return found


def _held(worker: str, call: HeldCall) -> HeldByWorker:
    facts, task = call["facts"], call["facts"]["task"]
    return HeldByWorker(
        call["key"], worker, task["row"], facts["attempt"], facts["provider"], task["batch"],
        task["submitter"], facts["reserved_nanos"],
    )  # fmt: skip
