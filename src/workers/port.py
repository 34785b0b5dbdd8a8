"""The seam between the leader and a worker: three requests, all of them plain data.

    leader                                   worker
      attach(Attach)  --------------------->   a leader begins, or comes back after an outage
                      <------- Inventory       what the worker is, and every call that it holds
      give(Give)      --------------------->   calls to make, and calls to cancel
                      <----------- Reply
      take(Take)      --------------------->   outcomes that are stored now; waits up to `wait_s` for more
                      <----------- Taken       outcomes; the reply doubles as the worker's heartbeat

Messages are dicts, lists, str, int, float, bool, bytes and None, and nothing else: no class of this project
is pickled, so that both sides may be of different versions. `plain.py` converts requests, answers and errors.

A call, at the worker:

    given --start--> running --end--> ended --acknowledged--> forgotten

**Idempotent.** A key names one call for ever: the epoch in which it was placed and its permit. A worker that
is given a key which it holds, or has forgotten a short time ago, does nothing, so a `give` may be repeated.

**Kept until stored.** The worker keeps an outcome until a `take` acknowledges it, which the leader does after
its commit. An outcome is sent once per attach: where the reply to a take may be lost, its leader attaches
again, which makes every outcome that is not acknowledged ready to be sent once more.

**Fenced by epoch and session.** `attach` raises the worker's epoch and begins a session, which every later
message names. A message of a lower epoch is refused, as is one of an earlier session or of an earlier life of
the worker: its leader has to attach. So after an attach it is certain what was given: a call that is not in
the inventory of the same life was never started, and never will be.

**Fenced by lease.** A worker starts no call when the leader's lease may be over. Clocks of two hosts are
never compared, and a message may wait for any time, in a network or in a process that was stopped. So a lease
is told in the worker's own clock: every reply has the worker's `clock`, and every message repeats the newest
one that its leader has seen as `stamp`, with the time that the lease goes on from the moment when that reply
came in. A call may be started while `clock() < stamp + lease_left_s`. That is never later than the lease
itself, since the reply was sent before it came in. The transport asks again when it has a connection. A call
that comes too late ends as `not_started`.

The same limit keeps a worker that was stopped, and that its leader has given up, from starting what waits for
it: `lease_left_s` never exceeds the silence after which a worker is lost.

**Lost workers.** A worker whose `take` does not return within `wait_s` and a grace is lost: its calls are
uncertain, and placed anew. When it answers again, the leader attaches and cancels the calls that it no longer
waits for.

Times in messages are durations, or readings of the worker's own clock (seconds from an arbitrary point,
which goes on while the machine sleeps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypedDict

PROTOCOL = 1
ACCEPTED = frozenset({1})  # protocols that a leader accepts, and a worker of it: this one and one before it

Plain = dict[str, Any]
Key = str  # EPOCH/PERMIT
Refusal = Literal["", "protocol", "epoch", "session"]
Status = Literal["answered", "failed", "cut_off", "not_started"]


class Header(TypedDict):
    """What every message to a worker has. `session` is that of the last inventory; empty in an attach."""

    protocol: int
    epoch: int
    session: str
    stamp: float
    lease_left_s: float  # from `stamp`, in the worker's clock


class CallMessage(TypedDict):
    """One call. `request` is for `plain.decode_request`; its leader gets the `facts` back by attaching."""

    key: Key
    provider: str
    model: str
    agent: str
    request: Plain
    facts: Plain


class Outcome(TypedDict):
    """How a call ended.

    `cut_off`: it was cancelled after its start, or its time was over while the worker stood still, so it may
    be billed. `not_started`: it provably never was sent. `completion`, of an `answered` one, is for
    `plain.decode_completion`; `error`, of a `failed` one, for `plain.decode_error`. It ended `ended_ago_s`
    before the reply was sent.
    """

    key: Key
    status: Status
    completion: Plain | None
    error: Plain | None
    latency_s: float
    ended_ago_s: float


class HeldCall(TypedDict):
    """A call in an inventory: running for `age_s`, or ended, with an outcome that the next take brings."""

    key: Key
    facts: Plain
    age_s: float
    ended: bool


class Attach(Header):
    """The first message of a leader. `leader` names it for the worker's log."""

    leader: str


class Give(Header):
    """Calls to make, and keys of calls to cancel."""

    calls: list[CallMessage]
    cancel: list[Key]


class Take(Header):
    """`acknowledged`: outcomes that are stored, or that nobody waits for.

    The reply comes with the first outcome, but not earlier than `linger_s` after the last one that had any,
    so that more go together; after `wait_s` it comes without one.
    """

    acknowledged: list[Key]
    wait_s: float
    linger_s: float


class Reply(TypedDict):
    """What every reply has.

    `refused`: empty, or why nothing was done: `protocol`, `epoch` (a leader of a higher one has attached) or
    `session` (another one has begun, or none: attach).
    """

    protocol: int
    clock: float
    epoch: int
    refused: Refusal


class Description(TypedDict):
    """What a worker is. `identity.py` compares it with the leader's own."""

    name: str
    host: str
    pid: int
    version: str
    configuration: str
    fingerprints: Mapping[str, str]


class Inventory(Reply):
    """The reply to an attach. `life` names this life of the worker, `session` is for the next messages."""

    life: str
    session: str
    description: Description
    calls: list[HeldCall]


class Load(TypedDict):
    """What a worker is busy with. `cpu_s`: of its process, since it began."""

    in_flight: int
    done: int
    cpu_s: float


class Taken(Reply):
    """The reply to a take. `draining`: the worker will end, and takes no further calls."""

    outcomes: list[Outcome]
    load: Load
    draining: bool


class WorkerUnreachable(Exception):
    """A message could not be delivered, or its reply did not come: whether it had an effect is not known."""


class Port(Protocol):
    """One worker, as its leader reaches it. Methods raise WorkerUnreachable, and nothing else."""

    async def attach(self, message: Attach) -> Inventory:
        """Begin, or begin anew, as the leader of this worker."""

    async def give(self, message: Give) -> Reply:
        """Hand over calls. May be repeated."""

    async def take(self, message: Take) -> Taken:
        """Fetch outcomes; waits for the first of them. One take at a time."""


class Fleet(Protocol):
    """Where the workers are."""

    async def find(self) -> Mapping[str, Port]:
        """Every worker that can be reached now, by name. The same worker keeps its name and its `Port`.

        Called each second or so: it is quick, and may start workers in the background. Raises
        WorkerUnreachable where the cluster itself can't be reached.
        """

    async def close(self) -> None:
        """Leave the cluster. Workers that run keep their calls for the next leader."""
