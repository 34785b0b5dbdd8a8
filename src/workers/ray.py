"""Workers on other machines, as actors of a Ray cluster.

A machine offers workers as a resource of its Ray node: `ray start --resources '{"orchestrator_worker": 2}'`.
The leader starts one detached actor for each unit that is free. A detached actor outlives the process that
started it, so the next leader finds it by its name, with the calls that it holds. A name is for one life.

    machine joins --> named, starting --hello--> found --> attached by the leader
                           |                       |
                           +-----> gone <----------+        its process, its machine or the cluster ended

A worker takes settings and keys from the environment of its Ray node, as the program does from its own. Only
plain data travels (`port.py`). One that holds nothing ends IDLE_END_S after its leader's last word, so a
cluster is left as it was; outcomes that no leader has stored yet are kept for HOLDING_END_S.

**Ray's head.** Its control service (GCS) keeps the names. While it is gone `find` raises WorkerUnreachable:
workers that were attached go on for a while, and no new ones are found. Ray's core ends a process that has
not seen the head for 60 s; for the leader this is set to GCS_PATIENCE_S, since it can go on without workers.
A head that comes back with its state in Redis goes on where it was; any other is a new cluster, and `find`
joins it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..config import load_settings, provider_access
from ..errors import ConfigError, OrchestratorError
from ..providers.threads import run_in_thread
from ..steady import steady
from .host import hosted
from .port import Attach, Give, Inventory, Port, Reply, Take, Taken, WorkerUnreachable
from .worker import Worker

log = logging.getLogger(__name__)
RESOURCE = "orchestrator_worker"
JOIN_S = 10.0  # to join a cluster that answers: Ray's own patience is without an end
LOOK_S = 3.0  # for the control service to answer: it does so in milliseconds
HELLO_S = 2.0  # for workers that run to reply, within LOOK_S
CONNECT_S = 3.0
IDLE_END_S = 60.0  # another one is there in seconds
HOLDING_END_S = 86_400.0  # they are paid for
DRAIN_LOOK_S = 0.1
MESSAGES_AT_ONCE = 100  # to one worker; its calls are not among them
GCS_PATIENCE_S = 10 * 365 * 86_400
_LEADER_ENVIRONMENT = {  # read when Ray is loaded
    "RAY_gcs_rpc_server_reconnect_timeout_s": str(GCS_PATIENCE_S),
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it aborts a process 3 s after SIGTERM
}
JOIN_ERRORS = (ConnectionError, RuntimeError, ValueError)  # what Ray raises where it can't join
HINT = "compare RAY_AUTH_MODE and RAY_AUTH_TOKEN with those of its head"
INSTALL = "pip install -r requirements/ray.lock, or the extra `ray`"


# ------------------------------------------------------------------ in the worker's process


class RayWorker:
    """The actor: builds a worker and forwards messages to it. Its methods never raise, since our exceptions
    can't be unpickled by a leader of another version.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack = AsyncExitStack()
        self._worker: Worker | None = None
        self._taken_at = steady()
        self._idle_end: asyncio.Task[None] | None = None

    async def hello(self) -> str:
        """Build the worker: empty, or why it can't be built."""
        try:
            await self._build()
        except OrchestratorError as error:
            return f"on {socket.gethostname()}: {error}"
        return ""

    async def _build(self) -> None:
        if self._worker is not None:
            return
        settings = load_settings(environ=os.environ)
        access = provider_access(settings, os.environ)
        slots = sum(agent.count * agent.calls_in_flight for agent in settings.agents)
        self._worker = await self._stack.enter_async_context(hosted(self._name, settings, access, slots))
        self._idle_end = asyncio.create_task(self._end_when_idle())

    async def drain(self, node: str) -> bool:
        """If it runs on this node of the cluster: take no further calls, and return when it holds none.

        It keeps its place, so that no other worker is started in it.
        """
        import ray

        if ray.get_runtime_context().get_node_id() != node:
            return False
        if self._worker is not None:
            self._worker.drain()
            while self._worker.holds:
                await asyncio.sleep(DRAIN_LOOK_S)
        return True

    async def _end_when_idle(self) -> None:
        while steady() - self._taken_at < (HOLDING_END_S if self._built.holds else IDLE_END_S):
            await asyncio.sleep(IDLE_END_S / 20)
        await self._stack.aclose()
        os._exit(0)  # Ray has no other end that works outside of its methods

    @property
    def _built(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("a worker is greeted first")
        return self._worker

    async def attach(self, message: Attach) -> Inventory:
        """See `Port`."""
        return await self._built.attach(message)

    async def give(self, message: Give) -> Reply:
        """See `Port`."""
        return await self._built.give(message)

    async def take(self, message: Take) -> Taken:
        """See `Port`."""
        self._taken_at = steady()
        return await self._built.take(message)


# ------------------------------------------------------------------ in the leader's process


class RayPort:
    """A worker as its leader reaches it. `actor` is Ray's handle."""

    def __init__(self, name: str, actor: Any, failures: tuple[type[Exception], ...]) -> None:
        self._name, self._actor, self._failures = name, actor, failures

    async def attach(self, message: Attach) -> Inventory:
        """See `Port`."""
        found: Inventory = await self._send("attach", message)
        return found

    async def give(self, message: Give) -> Reply:
        """See `Port`."""
        found: Reply = await self._send("give", message)
        return found

    async def take(self, message: Take) -> Taken:
        """See `Port`."""
        found: Taken = await self._send("take", message)
        return found

    async def _send(self, method: str, message: Any) -> Any:
        try:
            return await getattr(self._actor, method).remote(message)
        except self._failures as error:
            raise WorkerUnreachable(f"{self._name}: {first_line(error)}") from error


class RayFleet:
    """The workers of one namespace of a cluster. For one event loop."""

    def __init__(self, ray: Any, address: str, namespace: str, actor: type[RayWorker]) -> None:
        self._ray, self._address, self._namespace, self._actor = ray, address, namespace, actor
        self._joined = False
        self._failures: tuple[type[Exception], ...] = (ray.exceptions.RayError,)
        self._starting: dict[str, tuple[Any, Any]] = {}  # handle and greeting, by name
        self._ports: dict[str, Port] = {}
        self._said: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        self._looks_since = 0.0

    async def find(self) -> Mapping[str, Port]:
        """See `Fleet`."""
        if self._looking is None:
            self._looks_since = steady()
            self._looking = asyncio.create_task(run_in_thread(self._look, "ray"))
        left_s = self._looks_since + LOOK_S - steady()
        done, _ = await asyncio.wait([self._looking], timeout=max(0.0, left_s))
        if not done:  # its thread can't be stopped, and one that waits is enough
            raise WorkerUnreachable(f"Ray's head at {self._address} does not answer")
        looking, self._looking = self._looking, None
        try:
            looking.result()
        except JOIN_ERRORS + self._failures as error:
            self._joined = False  # its head has begun anew, and knows neither this process nor the workers
            self._ports.clear()
            self._starting.clear()
            raise WorkerUnreachable(f"Ray at {self._address}: {first_line(error)}") from error
        return dict(self._ports)

    async def close(self) -> None:
        """See `Fleet`."""
        if self._looking is not None:
            self._looking.cancel()
        leaving = asyncio.create_task(run_in_thread(self._ray.shutdown, "ray"))
        await asyncio.wait([leaving], timeout=LOOK_S)

    # What follows blocks, and runs in a thread, one at a time.

    def join(self) -> None:
        """Join the cluster. Not in the main thread, where Ray would replace the handler of SIGTERM."""
        self._ray.shutdown()
        self._ray.init(
            address=self._address, namespace=self._namespace, log_to_driver=False, configure_logging=False
        )
        self._joined = True

    def _look(self) -> None:
        if not self._joined:
            self.join()
        names = set(self._ray.util.list_named_actors())
        for gone in (self._ports.keys() | self._starting.keys()) - names:
            self._ports.pop(gone, None)
            self._starting.pop(gone, None)
        found = sorted(names - self._ports.keys() - self._starting.keys())
        for name in found:
            self._greet(name, self._ray.get_actor(name))
        for _ in range(self._free(len(names))):
            self._start()
        if found:  # a new leader takes over what workers that run already hold, so it hears them at once
            greetings = [self._starting[name][1] for name in found]
            self._ray.wait(greetings, num_returns=len(greetings), timeout=HELLO_S)
        self._hear_greetings()

    def _free(self, named: int) -> int:
        """How many workers to start. Either view may be a second old."""
        offered = self._ray.cluster_resources().get(RESOURCE, 0.0)
        free = self._ray.available_resources().get(RESOURCE, 0.0)
        return max(0, int(min(free, offered - named)))

    def _start(self) -> None:
        name = f"worker-{secrets.token_hex(4)}"
        options = {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached",
            "num_cpus": 0,
            "resources": {RESOURCE: 1},
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": MESSAGES_AT_ONCE,
        }
        actor = self._ray.remote(self._actor).options(**options).remote(name)
        self._greet(name, actor)

    def _greet(self, name: str, actor: Any) -> None:
        self._starting[name] = (actor, actor.hello.remote())

    def _hear_greetings(self) -> None:
        for name, (actor, greeting) in list(self._starting.items()):
            if not self._ray.wait([greeting], timeout=0)[0]:
                continue
            try:
                problem = self._ray.get(greeting)
            except self._failures as error:
                problem = first_line(error)
            if problem:
                self._say(problem)
                continue
            del self._starting[name]
            self._ports[name] = RayPort(name, actor, self._failures)

    def _say(self, problem: str) -> None:
        """Once for each problem: it is the same on every machine, and comes back each second."""
        if problem not in self._said:
            self._said.add(problem)
            log.error("a worker can't start %s", problem, extra={"action": "workers"})


async def open_fleet(address: str, namespace: str, actor: type[RayWorker] = RayWorker) -> RayFleet:
    """Join the Ray cluster at `address`, HOST:PORT or `auto`: the one of this machine's Ray node.

    `actor`: what is started where a worker is missing.

    Raises ConfigError where that can't be done: no Ray, no cluster, another version of Ray or Python.
    """
    for name, value in _LEADER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = await run_in_thread(import_ray, "ray")
    if address != "auto":
        await _check_listening(address)
    fleet = RayFleet(ray, address, namespace, actor)
    joining = asyncio.create_task(run_in_thread(fleet.join, "ray"))
    done, _ = await asyncio.wait([joining], timeout=JOIN_S)
    if not done:
        raise ConfigError(f"Ray at {address} does not let this process in ({HINT})", where="--workers")
    try:
        joining.result()
    except (*JOIN_ERRORS, ray.exceptions.RayError) as error:
        raise ConfigError(f"Ray at {address}: {first_line(error)}", where="--workers") from error
    return fleet


def import_ray() -> Any:
    """The module. Raises ConfigError where it is not installed."""
    try:
        import ray
        import ray.exceptions
        import ray.util
    except ImportError as error:
        raise ConfigError(f"Ray is not installed ({INSTALL})", where="--workers") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what matters of its messages is ours to say
    return ray


async def _check_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"no Ray cluster at {address}", where="--workers") from error
    writer.close()


def first_line(error: BaseException) -> str:
    """The first line of an error of Ray, whose texts are long."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
