"""What a plan says of batches: how many tasks would go there now, what they cost, and when all have ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from ...providers.factory import batch_limits
from ...records import Task
from ...routing.balancer import ProviderLoadBalancer
from ...routing.batch_choice import BatchTarget, Waiting, choose
from ...routing.refusals import NEVER
from ...routing.turnaround import Turnaround, turnaround
from ..store import DeferredGroup
from .offers import Offers
from .submitter import MOST_ROWS

DEADLINES_S = 300.0  # that differ by less are planned together
_NORMAL = NormalDist()
_NEARLY_NONE_S, _LONGEST_S = 1.0, 1e7

Turnarounds = Callable[[str, str], Sequence[float]]  # by provider and model, as the store has them
Target = tuple[str, str]


@dataclass(frozen=True, slots=True)
class BatchForecast:
    """What the choice would do. `p10_s` and `p90_s`: until the last batch has ended.

    `batch_nanos`: what the tasks in batches cost. `live_share`: the others' part of the live price of all.
    `models`: tasks by model.
    """

    tasks: int
    live_tasks: int
    batch_nanos: int
    live_share: float
    models: dict[str, int]
    p10_s: float
    p90_s: float
    is_assumed: bool  # no batch of these models has been seen yet

    def expected_nanos(self, live_nanos: int) -> int:
        """What all tasks cost. `live_nanos`: without batches."""
        return self.batch_nanos + round(live_nanos * self.live_share)


def foresee(
    tasks: Iterable[Task], scale: float, balancer: ProviderLoadBalancer, turnarounds: Turnarounds, now: float
) -> BatchForecast | None:
    """What the choice would do with `scale` times these tasks now; None where all of it goes live."""
    offers, alike = Offers(balancer), _alike(tasks)
    waiting = [
        offers.of(_group(number, each, scale), each[0], now, now).waiting for number, each in enumerate(alike)
    ]
    keys = sorted({offer.target for each in waiting for offer in each.offers})
    targets = {key: BatchTarget(*key, turnaround(turnarounds(*key))) for key in keys}
    choice = choose(waiting, [], targets.values(), now)
    if not choice.submit:
        return None
    by_key = {each.key: each for each in waiting}
    rows: Counter[tuple[object, Target]] = Counter()  # by what goes into one batch
    live_nanos = sum(each.rows * each.live_nanos for each in waiting)
    batch_nanos = saved = 0.0
    for sent in choice.submit:
        group = by_key[sent.key]
        rows[_together(alike[sent.key][0]), sent.target] += sent.rows
        batch_nanos += sent.rows * _cost(group, sent.target)
        saved += sent.rows * group.live_nanos
    models: Counter[Target] = Counter()
    batches: Counter[Target] = Counter()
    for (_, target), count in rows.items():
        models[target] += count
        most = min(MOST_ROWS, batch_limits(balancer.by_name[target[0]].config).rows)
        batches[target] += math.ceil(count / most)
    due_s = max(each.deadline_at for each in waiting if each.deadline_at < NEVER) - now
    low_s, high_s = (_all_ended_s(batches, targets, share) for share in (0.1, 0.9))
    return BatchForecast(
        models.total(),
        sum(each.rows for each in waiting) - models.total(),
        round(batch_nanos),
        1.0 - saved / live_nanos if live_nanos else 0.0,
        {model: count for (_, model), count in models.most_common()},
        min(low_s, due_s),
        min(high_s, due_s),
        all(targets[target].turnaround.is_assumed for target in batches),
    )


def _all_ended_s(batches: Counter[Target], targets: dict[Target, BatchTarget], share: float) -> float:
    """Until all batches have ended, with this probability: each takes log-normally long, by itself."""
    low, high = math.log(_NEARLY_NONE_S), math.log(_LONGEST_S)
    while high - low > 0.001:
        middle = (low + high) / 2.0
        ended = 1.0
        for target, count in batches.items():
            ended *= _ended(targets[target].turnaround, middle) ** count
        low, high = (middle, high) if ended < share else (low, middle)
    return math.exp(high)


def _ended(takes: Turnaround, log_s: float) -> float:
    """The probability that a batch has ended after `exp(log_s)` seconds."""
    median = math.log(max(takes.p50_s, _NEARLY_NONE_S))
    sigma = max(math.log(max(takes.p90_s, _NEARLY_NONE_S)) - median, 0.01) / _NORMAL.inv_cdf(0.9)
    return _NORMAL.cdf((log_s - median) / sigma)


def _cost(waiting: Waiting, target: Target) -> float:
    return next(offer.cost_nanos for offer in waiting.offers if offer.target == target)


def _together(task: Task) -> tuple[object, ...]:
    """What tasks that may share a batch have in common."""
    due = (task.deadline_at or NEVER) // DEADLINES_S
    return task.task_type, task.tier, task.models, task.providers, task.parameters, task.needs, due


def _alike(tasks: Iterable[Task]) -> list[list[Task]]:
    """Of one `max_tokens` too: the mean of answers that are cut short is not that of their limits."""
    found: dict[object, list[Task]] = {}
    for task in tasks:
        found.setdefault((_together(task), task.max_tokens), []).append(task)
    return list(found.values())


def _group(number: int, alike: Sequence[Task], scale: float) -> DeferredGroup:
    like, times = alike[0], round(scale * len(alike)) / len(alike)
    return DeferredGroup(
        id=number,
        batch=like.batch,
        submitter=like.submitter,
        task_type=like.task_type,
        deadline_at=min(task.deadline_at or NEVER for task in alike),
        tier=like.tier,
        models=like.models,
        providers=like.providers,
        agent=like.agent,
        parameters=like.parameters,
        needs=like.needs,
        rows=max(1, round(times * len(alike))),
        text_chars=round(times * sum(task.text_chars for task in alike)),
        prompt_bytes=round(times * sum(task.prompt_bytes for task in alike)),
        max_tokens=round(times * sum(task.max_tokens or 0 for task in alike)),
        unstated=round(times * sum(task.max_tokens is None for task in alike)),
    )
