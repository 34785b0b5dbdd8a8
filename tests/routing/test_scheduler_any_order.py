"""Whatever is offered, settled and withdrawn in any order: every task ends once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from src.errors import (
    PROVIDER_ERRORS,
)
from src.records import Placement
from src.routing.candidates import PATIENCE
from src.routing.connectivity import HealthCheckResult
from src.settings import AgentConfig

from .build import (
    NAMES,
    Desk,
    error_of,
    make_settings,
    make_task,
    pause,
    told_limits,
)


class AnyOrder(RuleBasedStateMachine):
    """Tasks of every kind come, calls end in every way, providers come and go."""

    @initialize(seed=st.integers(0, 1_000), limits=st.sampled_from(["none", "binding", "unknown"]))
    def begin(self, seed: int, limits: str) -> None:
        binding = {
            "anthropic": {"requests_per_minute": 120, "output_tokens_per_minute": 30_000},
            "openai": {"requests_per_minute": 120, "tokens_per_minute": 40_000},
            "gemini": {"requests_per_minute": 60},
        }
        agents = [AgentConfig(name=f"a{n}", home=NAMES[n], calls_in_flight=4) for n in range(3)]
        chosen = {"none": told_limits(), "binding": binding, "unknown": None}[limits]
        self.desk = Desk(make_settings(limits=chosen, agents=agents), seed=seed)
        self.out: list[Placement] = []
        self.offered = 0
        self.withdrawn = 0

    def pump(self, seconds: float = 0.0) -> None:
        desk = self.desk
        self.out += desk.go(seconds)
        assert desk.go() == [], "asked twice at the same moment"
        assert desk.wake is None or desk.wake > desk.now

    @rule(
        kind=st.sampled_from(["general", "research", "code_generation"]),
        count=st.integers(1, 6),
        max_tokens=st.sampled_from([10, 500, 20_000]),
        batch=st.sampled_from(["queue", "file"]),
        priority=st.integers(0, 1),
        deadline_s=st.sampled_from([None, None, 3.0, 200.0]),
        pinned=st.sampled_from([(), (), ("openai",), ("gemini", "anthropic")]),
    )
    def tasks_come(
        self,
        kind: str,
        count: int,
        max_tokens: int,
        batch: str,
        priority: int,
        deadline_s: float | None,
        pinned: tuple[str, ...],
    ) -> None:
        deadline_at = None if deadline_s is None else self.desk.now + deadline_s
        for _ in range(count):
            self.offered += 1
            self.desk.offer(
                make_task(self.offered, kind, max_tokens=max_tokens, batch=batch, priority=priority,
                          deadline_at=deadline_at, providers=pinned)
            )  # fmt: skip
        self.pump()

    @rule(seconds=st.one_of(st.floats(0.0, 2.0), st.floats(0.0, 90.0)))
    def time_passes(self, seconds: float) -> None:
        self.pump(seconds)

    @precondition(lambda self: self.desk.wake is not None)
    @rule()
    def a_wake_up_is_due(self) -> None:
        assert self.desk.wake is not None
        self.pump(self.desk.wake - self.desk.now)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), kind=st.sampled_from(["ok", "ok", "ok", "cancelled", *PROVIDER_ERRORS]))
    def a_call_ends(self, data: st.DataObject, kind: str) -> None:
        placement = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if kind == "ok":
            self.desk.ok(placement)
        elif kind == "cancelled":
            self.desk.cancel(placement)
        else:
            self.desk.fail(placement, error_of(kind))
        self.pump()

    @precondition(lambda self: self.desk.dispatch.waiting)
    @rule(data=st.data())
    def one_is_cancelled(self, data: st.DataObject) -> None:
        waiting = sorted(self.desk.dispatch.waiting_tasks(), key=lambda t: int(t.id))
        task = data.draw(st.sampled_from(waiting))
        assert self.desk.dispatch.withdraw(task.batch, task.id) is task
        self.withdrawn += 1
        self.pump()

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def somebody_steers(self, name: str, paused: bool) -> None:
        if paused:
            pause(self.desk.balancer, name)
        else:
            self.desk.balancer.resume(name, self.desk.now)
        self.desk.dispatch.wake_all()
        self.pump()

    @rule(name=st.sampled_from(NAMES))
    def the_network_is_there(self, name: str) -> None:
        if self.desk.balancer.offline_since is not None:
            self.desk.balancer.record_health_check(
                name, HealthCheckResult.ANSWERS, self.desk.now, self.desk.now
            )
            self.desk.dispatch.wake_all()
            self.pump()

    @invariant()
    def every_task_is_somewhere_and_only_once(self) -> None:
        dispatch = self.desk.dispatch
        assert dispatch.waiting == len(dispatch.waiting_tasks())
        assert len(dispatch) == dispatch.waiting + len(self.out)
        assert len(dispatch) + len(self.desk.results) + self.withdrawn == self.offered
        ended = [(r.task.batch, r.task.id) for r in self.desk.results]
        assert len(ended) == len(set(ended))
        assert self.desk.balancer.in_flight == len(self.out)

    @invariant()
    def a_wake_up_is_scheduled(self) -> None:
        """Who waits, waits for a moment, for a call that is out, for a person or for the network."""
        desk = self.desk
        if not desk.dispatch.waiting or self.out or desk.balancer.offline_since is not None:
            return
        steered = any(p.paused for p in desk.balancer.providers) or desk.balancer.registry.all_misconfigured
        assert desk.wake is not None or steered, desk.dispatch.waiting_for()

    @invariant()
    def no_room_is_idle(self) -> None:
        """A task on its first attempt that could go this moment has gone."""
        desk = self.desk
        balancer = desk.balancer
        if not balancer.registry.free_slots:
            return
        for task in desk.dispatch.waiting_tasks():
            entry = desk.dispatch._entries[task.batch, task.id]
            if entry.attempts or entry.queue is None or entry.queue.head() is not entry:
                continue
            route = balancer.route(task, desk.now)
            report = balancer._selector.evaluate_candidates(task, route, entry.retry, desk.now)
            patience_s = PATIENCE * desk.settings.routing.preferred_wait_s
            spilled = desk.now >= entry.retry.offered_at + patience_s
            queue = entry.queue
            wakes_s = queue.holder.parked_until - desk.now
            soon = 0.0 < wakes_s < 0.1  # a rate that is felt for may have grown since it was asked
            parked = (queue.holder.waits_for, wakes_s, queue.holder.settles, queue.held_back)
            assert not report.eligible or not spilled or soon, (task, report.reasons(), parked)

    def teardown(self) -> None:
        """With all well again, every task ends, and none of them late for no reason."""
        if not hasattr(self, "desk"):
            return
        desk = self.desk
        for name in NAMES:
            desk.balancer.resume(name, desk.now)
            desk.balancer.record_health_check(name, HealthCheckResult.ANSWERS, desk.now, desk.now)
        desk.dispatch.wake_all()
        self.pump()
        for _ in range(2_000):
            if not len(desk.dispatch):
                break
            while self.out:
                desk.ok(self.out.pop())
            self.pump()
            if not self.out and desk.dispatch.waiting:
                assert desk.wake is not None, desk.dispatch.waiting_for()
                self.pump(desk.wake - desk.now)
        assert not len(desk.dispatch), desk.dispatch.waiting_for()
        self.every_task_is_somewhere_and_only_once()


TestAnyOrderOfEvents = AnyOrder.TestCase
