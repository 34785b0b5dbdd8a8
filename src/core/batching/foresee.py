"""What a plan says of batches: how many tasks would go there now, what they cost, and when all have ended.

Both ranges reach from the 10 % to the 90 % quantile, and rest on a sample: of answers, and of batches. So
they hold the chance of the run itself, and that of the sample, whose mean is off by deviation / sqrt(size).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from ...records import Task
from ...routing.balancer import ProviderLoadBalancer
from ...routing.batch_choice import BatchTarget, Choice, Waiting, choose
from ...routing.refusals import NEVER
from ...routing.turnaround import Turnaround, turnaround
from ..store import DeferredGroup
from .offers import MOST_ROWS, Offered, Offers

DEADLINES_S = 300.0  # that differ by less are planned together
_NORMAL = NormalDist()
_P90 = _NORMAL.inv_cdf(0.9)
_SHIFTS = tuple(
    _NORMAL.inv_cdf((place + 0.5) / 9) for place in range(9)
)  # equally likely parts of its values
_NEARLY_NONE_S, _LONGEST_S = 1.0, 1e7

Turnarounds = Callable[[str, str], Sequence[float]]  # by provider and model, as the store has them
Target = tuple[str, str]
Spread = tuple[int, str, Target, tuple[float, int] | None]  # rows, type, and what `Offers.spread` says


@dataclass(frozen=True, slots=True)
class BatchForecast:
    """What the choice would do. `p10_s` and `p90_s`: until the last batch has ended.

    `batch_nanos`: what the tasks in batches cost. `live_share`: the others' part of the live price of all.
    `models`: tasks by model. `cost_spread`: the standard deviation of the cost, as a share of it; None where
    too few answers are known.
    """

    tasks: int
    live_tasks: int
    batch_nanos: int
    live_share: float
    models: dict[str, int]
    p10_s: float
    p90_s: float
    is_assumed: bool  # no batch of these models has been seen yet
    cost_spread: float | None = None

    def expected_nanos(self, live_nanos: int) -> int:
        """What all tasks cost. `live_nanos`: without batches."""
        return self.batch_nanos + round(live_nanos * self.live_share)

    def range_nanos(self, live_nanos: int) -> tuple[int, int] | None:
        """What `expected_nanos` is between, with a probability of 80 %."""
        if self.cost_spread is None:
            return None
        expected, off = self.expected_nanos(live_nanos), _P90 * self.cost_spread
        return round(expected * max(0.0, 1.0 - off)), round(expected * (1.0 + off))


def foresee(
    tasks: Iterable[Task], scale: float, offers: Offers, turnarounds: Turnarounds, now: float
) -> BatchForecast | None:
    """What the choice would do with `scale` times these tasks now; None where all of it goes live."""
    alike, balancer = _alike(tasks), offers.balancer
    groups, offered = _offered(alike, scale, offers, now)
    waiting = [each.waiting for each in offered]
    keys = sorted({offer.target for each in waiting for offer in each.offers})
    targets = {key: BatchTarget(*key, turnaround(turnarounds(*key))) for key in keys}
    choice = choose(waiting, [], targets.values(), now)
    if not choice.submit:
        return None
    batches = _batches(choice, alike, balancer)
    takes = {target: targets[target].turnaround for target in batches}
    due_s = max(each.deadline_at for each in waiting if each.deadline_at < NEVER) - now
    sent = sum(each.rows for each in choice.submit)
    batch_nanos, live_share = _costs(choice, waiting)
    return BatchForecast(
        sent,
        sum(each.rows for each in waiting) - sent,
        batch_nanos,
        live_share,
        _models(choice),
        min(due_s, _all_ended_s(batches, takes, 0.1)),
        min(due_s, _all_ended_s(batches, takes, 0.9)),
        all(each.is_assumed for each in takes.values()),
        _cost_spread(_spreads(choice, groups, offered, offers, now), batch_nanos),
    )


def _offered(
    alike: Sequence[Sequence[Task]], scale: float, offers: Offers, now: float
) -> tuple[list[DeferredGroup], list[Offered]]:
    groups = [_group(number, each, scale) for number, each in enumerate(alike)]
    return groups, [offers.of(group, each[0], now, now) for group, each in zip(groups, alike, strict=True)]


def _models(choice: Choice) -> dict[str, int]:
    rows: Counter[str] = Counter()
    for sent in choice.submit:
        rows[sent.target[1]] += sent.rows
    return dict(rows.most_common())


def _costs(choice: Choice, waiting: Sequence[Waiting]) -> tuple[int, float]:
    """What the tasks in batches cost, and the others' part of the live price of all."""
    by_key = {each.key: each for each in waiting}
    live_nanos = sum(each.rows * each.live_nanos for each in waiting)
    saved = sum(sent.rows * by_key[sent.key].live_nanos for sent in choice.submit)
    batch_nanos = sum(sent.rows * _cost(by_key[sent.key], sent.target) for sent in choice.submit)
    return round(batch_nanos), 1.0 - saved / live_nanos if live_nanos else 0.0


def _spreads(
    choice: Choice, groups: Sequence[DeferredGroup], offered: Sequence[Offered], offers: Offers, now: float
) -> Iterator[Spread]:
    for sent in choice.submit:
        group, option = groups[sent.key], offered[sent.key].option(*sent.target)
        yield sent.rows, group.task_type, sent.target, offers.spread(group, option, now)


def _cost_spread(spreads: Iterable[Spread], batch_nanos: int) -> float | None:
    """By rows, type, target and the spread of an answer's cost, as a share of what all of them cost.

    Answers differ one by one. The means of types do not: how far one is off counts for all their rows.
    """
    of_rows, of_means = 0.0, defaultdict[tuple[str, Target], float](float)
    for rows, task_type, target, known in spreads:
        if known is None:
            return None
        nanos, answers = known
        of_rows += rows * nanos**2
        of_means[task_type, target] += rows * nanos / math.sqrt(answers)
    variance = of_rows + sum(nanos**2 for nanos in of_means.values())
    return math.sqrt(variance) / batch_nanos if batch_nanos else None


def _batches(
    choice: Choice, alike: Sequence[Sequence[Task]], balancer: ProviderLoadBalancer
) -> Counter[Target]:
    """How many batches the rows make, by target."""
    together: Counter[tuple[object, Target]] = Counter()
    for sent in choice.submit:
        together[_together(alike[sent.key][0]), sent.target] += sent.rows
    found: Counter[Target] = Counter()
    for (_, target), rows in together.items():
        most = min(MOST_ROWS, balancer.by_name[target[0]].config.api.batch_rows)
        found[target] += math.ceil(rows / most)
    return found


def _all_ended_s(batches: Counter[Target], takes: dict[Target, Turnaround], share: float) -> float:
    """Until all batches have ended, with this probability: each takes log-normally long, by itself.

    Those of one target have a median in common, which is known as well as its samples tell it.
    """
    low, high = math.log(_NEARLY_NONE_S), math.log(_LONGEST_S)
    while high - low > 0.001:
        middle = (low + high) / 2.0
        ended = 1.0
        for target, count in batches.items():
            ended *= _ended(takes[target], middle, count)
        low, high = (middle, high) if ended < share else (low, middle)
    return math.exp(high)


def _ended(takes: Turnaround, log_s: float, count: int) -> float:
    """The probability that `count` batches of a target have ended after `exp(log_s)` seconds."""
    median = math.log(max(takes.p50_s, _NEARLY_NONE_S))
    sigma = max(math.log(max(takes.p90_s, _NEARLY_NONE_S)) - median, 0.01) / _P90
    z, off = (log_s - median) / sigma, 1.0 / math.sqrt(takes.samples)
    return sum(_NORMAL.cdf(z - off * shift) ** count for shift in _SHIFTS) / len(_SHIFTS)


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
