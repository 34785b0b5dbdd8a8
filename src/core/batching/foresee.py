"""What a plan says of batches: how many tasks would go there now, what that saves, how long batches take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...records import Task
from ...routing.balancer import ProviderLoadBalancer
from ...routing.batch_choice import BatchTarget, Waiting, choose
from ...routing.refusals import NEVER
from ...routing.turnaround import Turnaround, turnaround
from ..store import DeferredGroup
from .offers import Offers

DEADLINES_S = 300.0  # that differ by less are planned together

Turnarounds = Callable[[str, str], Sequence[float]]  # by provider and model, as the store has them


@dataclass(frozen=True, slots=True)
class BatchForecast:
    """`price_share`: what the tasks cost with batches, of what they cost live. `models`: tasks by model."""

    tasks: int
    live_tasks: int
    price_share: float
    models: dict[str, int]
    takes: Turnaround  # of the model with the most tasks


def foresee(
    tasks: Iterable[Task], scale: float, balancer: ProviderLoadBalancer, turnarounds: Turnarounds, now: float
) -> BatchForecast | None:
    """What the choice would do with `scale` times these tasks now; None where all of it goes live."""
    offers = Offers(balancer)
    waiting = [
        offers.of(_group(number, alike, scale), alike[0], now, now).waiting
        for number, alike in enumerate(_alike(tasks))
    ]
    keys = sorted({offer.target for each in waiting for offer in each.offers})
    targets = {key: BatchTarget(*key, turnaround(turnarounds(*key))) for key in keys}
    choice = choose(waiting, [], targets.values(), now)
    if not choice.submit:
        return None
    by_key = {each.key: each for each in waiting}
    models: Counter[tuple[str, str]] = Counter()
    saved = 0.0
    for sent in choice.submit:
        models[sent.target] += sent.rows
        saved += sent.rows * _saving(by_key[sent.key], sent.target)
    live_nanos = sum(each.rows * each.live_nanos for each in waiting)
    most = models.most_common(1)[0][0]
    return BatchForecast(
        models.total(),
        sum(each.rows for each in waiting) - models.total(),
        1.0 - saved / live_nanos if live_nanos else 1.0,
        {model: rows for (_, model), rows in models.most_common()},
        targets[most].turnaround,
    )


def _saving(waiting: Waiting, target: tuple[str, str]) -> float:
    return waiting.live_nanos - next(o.cost_nanos for o in waiting.offers if o.target == target)


def _alike(tasks: Iterable[Task]) -> list[list[Task]]:
    found: dict[object, list[Task]] = {}
    for task in tasks:
        due = (task.deadline_at or NEVER) // DEADLINES_S
        key = (task.task_type, task.tier, task.models, task.providers, task.parameters, task.needs, due)
        found.setdefault(key, []).append(task)
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
