"""The models that may serve a task, decided once from its fields and the configuration.

A `Route` is the same for every task of one class, so the scheduler builds it once and keeps it. Momentary
states (breakers, limits, budgets) are checked by the gates of `eligibility.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..records import GENERAL, Candidate, RefusalKind, Task
from ..settings import TIERS, Settings
from .state import ModelState, ProviderState

# More than any tokenizer packs into a token of prose, so that only a prompt that can't fit is left out.
CHARS_PER_TOKEN_AT_MOST = 6


@dataclass(frozen=True, slots=True)
class Option:
    """One model of one provider that may serve the task. Sizes are in tokens and characters."""

    provider: ProviderState
    model: ModelState
    max_tokens: int
    window: float  # prompt and answer together; infinite where unknown
    most_chars: float  # a longer prompt can't fit the model's window
    warnings: tuple[str, ...]
    rank: int = 0  # the place of the model in the task's order; 0 is the best


@dataclass(frozen=True, slots=True)
class Route:
    """Every option of a task class, and the reason why each other provider has none."""

    options: tuple[Option, ...]
    tier: str
    prefer: int  # index of the provider that is worth waiting for, -1 none
    family: tuple[int, ...]  # its index and those of its family, in order; empty where it has none
    pinned: bool
    best_rank: int | None  # of any option; None: the task names no order of models
    defaulted_max_tokens: bool
    excluded: tuple[Candidate, ...]
    most_max_tokens: int  # of any option
    groups: tuple[int, ...]  # ids of the rate-limit groups, to find tasks with the same wait condition


def choose_tier(task: Task, settings: Settings) -> str:
    """The tier that serves the task: the one it names, else by the size of its prompt, else its type's."""
    if task.tier in TIERS:
        return task.tier
    chars = task.text_chars - task.schema_chars
    if chars >= settings.tiers.premium_chars:
        return "premium"
    config = settings.task_types.get(task.task_type) or settings.task_types[GENERAL]
    if chars <= settings.tiers.economy_chars and (task.max_tokens or 0) <= settings.tiers.economy_max_tokens:
        return "economy" if config.tier == "standard" else config.tier
    return config.tier


def build_route(
    task: Task, providers: list[ProviderState], settings: Settings, now: float, tier: str = ""
) -> Route:
    """All options of `task`, in the order of the configuration."""
    tier = tier or choose_tier(task, settings)
    options: list[Option] = []
    excluded = _not_configured(task, providers, settings)
    for provider in providers:
        for each in _options_of(task, provider, tier, settings, now):
            if isinstance(each, Option):
                options.append(each)
            else:
                excluded.append(each)
    family = _preferred(task, providers, settings)
    prefer, best_rank = _order(task, options) or (family[0] if family else -1, None)
    return Route(
        tuple(options),
        tier,
        prefer,
        family if len(family) > 1 else (),
        bool(task.models or task.providers),
        best_rank,
        task.max_tokens is None,
        tuple(excluded),
        max((option.max_tokens for option in options), default=0),
        tuple(id(option.model.group) for option in options),
    )


def _order(task: Task, options: Sequence[Option]) -> tuple[int, int] | None:
    """`(provider, rank)` of the first model that the task names; None if it names no order."""
    if len(task.models) < 2 or not options:
        return None
    first = min(options, key=lambda option: option.rank)
    return first.provider.index, first.rank


def _options_of(
    task: Task, provider: ProviderState, tier: str, settings: Settings, now: float
) -> Iterator[Option | Candidate]:
    """The option of each model that the task may use there, or why that one, or none, can serve it."""
    if task.providers and not {provider.name, provider.config.family} & set(task.providers):
        yield _left_out(provider, RefusalKind.PINNED_ELSEWHERE)
        return
    models = _models_of(task, provider, tier, settings)
    if not models:
        yield _left_out(provider, RefusalKind.MODEL_NOT_SERVED)
    for rank, name, warning in models:
        if task.needs and (missing := settings.missing(provider.name, name, task.needs)):
            yield _left_out(provider, RefusalKind.INPUT_UNSUPPORTED, f"{name} takes no {missing}")
            continue
        altered = _altered(task, provider.name, name, settings) if task.parameters else {}
        if altered and settings.strict_params:
            yield _left_out(provider, RefusalKind.PARAMETER_UNSUPPORTED, next(iter(altered)))
            continue
        model = provider.model(name, settings, now)
        warnings: tuple[str, ...] = (warning,) if warning else ()
        warnings += tuple(f"{what}: {instead}" for what, instead in altered.items())
        yield replace(_option(task, provider, model, tier, settings, warnings), rank=rank)


def _not_configured(task: Task, providers: list[ProviderState], settings: Settings) -> list[Candidate]:
    """Providers without a key that the task is pinned to; messages name them before all others."""
    if not (task.models or task.providers):
        return []
    here = {provider.name for provider in providers}
    wanted = [name for name in settings.left_by(task.models, task.providers) if name not in here]
    missing = RefusalKind.NOT_CONFIGURED
    return [Candidate(name, "", 0.0, missing, settings.providers[name].why_not_configured) for name in wanted]


def _left_out(provider: ProviderState, kind: RefusalKind, detail: str = "") -> Candidate:
    return Candidate(provider.name, "", 0.0, kind, detail)


def _models_of(
    task: Task, provider: ProviderState, tier: str, settings: Settings
) -> list[tuple[int, str, str]]:
    """`(rank, model, warning)` of each model of this provider that the task may use, in its order."""
    if not task.models:
        return [(0, *_model_in(provider, tier, settings))]
    found = []
    for rank, wanted in enumerate(task.models):
        name, warning = settings.resolve_model(wanted)
        if task.embeds or settings.serves(provider.name, name):
            found.append((rank, name, warning))
    return found


def _model_in(provider: ProviderState, tier: str, settings: Settings) -> tuple[str, str]:
    """`(model, warning)`: the tier's, or while that is not available there another of the provider's."""
    found = [settings.resolve_model(provider.config.models.of(each)) for each in (tier, *TIERS)]
    states = provider.models
    return next((each for each in found if each[0] not in states or not states[each[0]].is_out), found[0])


def _option(
    task: Task, provider: ProviderState, model: ModelState, tier: str, settings: Settings,
    warnings: tuple[str, ...],
) -> Option:  # fmt: skip
    row = model.config
    default = settings.tiers.max_tokens(tier)
    if task.choice_bytes:  # no answer has more tokens than bytes
        default = min(default, settings.tiers.choice_max_tokens + task.choice_bytes)
    max_tokens = task.max_tokens or default + row.thinking_headroom_tokens
    window = math.inf if row.context_window is None else row.context_window
    # A default gives way to the prompt: see `CallSizes.max_tokens`.
    least = min(max_tokens, settings.budgets.min_max_tokens) if task.max_tokens is None else max_tokens
    most = (window - least) * CHARS_PER_TOKEN_AT_MOST
    return Option(provider, model, max_tokens, window, most, warnings)


def _altered(task: Task, provider: str, model: str, settings: Settings) -> dict[str, str]:
    """What of the task's parameters the model does not take, and what happens instead."""
    unsent = settings.unsent(provider, model, task.parameters)
    found = {f"{model} takes no {what}": "it was not sent" for what in unsent.values()}
    if "response_schema" in unsent:
        found[f"{model} takes no {unsent['response_schema']}"] = "it was added to the prompt as text"
    highest = settings.lowered_temperature(provider, task.temperature)
    if highest is not None and "temperature" not in unsent:
        found[f"{model} takes no temperature above {highest:g}"] = f"{highest:g} was sent"
    return found


def _preferred(task: Task, providers: list[ProviderState], settings: Settings) -> tuple[int, ...]:
    """The home of the task's agent, else the provider that its type prefers, and its family.

    Empty: it prefers none, or has pins.
    """
    if task.models or task.providers or not settings.routing.preferences:
        return ()
    agent = settings.agent_named(task.agent) if task.agent else None
    config = settings.task_types.get(task.task_type)
    wanted = agent.home if agent is not None else config.prefer if config is not None else ""
    return tuple(p.index for p in providers if wanted and wanted in (p.name, p.config.family))


def class_key(task: Task, settings: Settings) -> tuple[object, ...]:
    """Tasks with the same key share a `Route` and a place in dispatch's queues.

    Sizes are grouped by powers of two: a small task can pass a large one that waits for tokens, and those of
    one class are charged about the same.
    """
    return (
        task.models,
        task.providers,
        task.task_type,
        task.agent,
        choose_tier(task, settings),
        task.max_tokens or -task.choice_bytes,
        task.parameters,
        task.needs,
        task.embeds,
        max(1.0, task.temperature or 0.0),  # above 1 some APIs lower it
        task.text_chars.bit_length(),
    )
