"""A request of one token in place of a provider's probe, where tasks have failed as probes.

It distinguishes tasks that always fail from a provider that does, at the cost of a few tokens: once it is
answered the breaker closes, and the failures before it are the tasks' own. It is no task and no attempt. It
draws on limits and on the overall and the provider's budgets like any call, takes an agent's slot, and its
cost is booked under the task type CANARY. Its latency and success are no part of the provider's score. The
orchestrator makes it where `ProviderLoadBalancer.place_canary` places one.
"""

from __future__ import annotations

from ..errors import (
    ContentRefused,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Truncated,
    UnusableAnswer,
)
from ..messages import Message
from ..records import Task
from ..settings import TIERS
from .limits.group import RateLimitGroup
from .registry import Registry
from .state import ProviderState

CANARY = "canary"
FAILED_PROBES = 2  # of tasks, before a canary takes the place of the next
PROMPT = (Message("user", "Hi"),)
# A reasoning model spends its one token on reasoning; that is an answer too.
_ANSWERED = (Truncated, UnusableAnswer, ContentRefused)


def canary_for(
    registry: Registry, provider: ProviderState, now: float, group: RateLimitGroup | None = None
) -> Task:
    """The smallest call to the cheapest of the provider's models that are there, or of that model group."""
    names = dict.fromkeys(registry.settings.resolve_model(provider.config.models.of(t))[0] for t in TIERS)
    models = [provider.model(name, registry.settings, now) for name in names]
    if group is not None:
        models = [model for model in provider.models.values() if model.group is group]

    def dollars(place: int) -> tuple[bool, bool, int]:
        price = registry.price_of(provider, models[place], now)
        return models[place].is_out, price is None, price.upper_bound_nanos(2, 1, 1) if price else 0

    cheapest = models[min(range(len(models)), key=dollars)]
    return Task(
        CANARY, "", PROMPT, CANARY, max_tokens=1, providers=(provider.name,), models=(cheapest.name,),
        submitter="",
    )  # fmt: skip


def is_due(registry: Registry, provider: ProviderState) -> bool:
    """Whether the next probe is a canary; tasks wait for it meanwhile."""
    breaker = provider.breaker
    return (
        registry.canaries
        and provider.half_open
        and breaker.by_timer
        and breaker.failed_probes >= FAILED_PROBES
        and provider.no_canary != breaker.stage
    )


def health_of(error: ProviderError | None) -> bool | None:
    """What a canary's end shows about its provider; None: nothing, so a task becomes the probe."""
    if error is None or isinstance(error, _ANSWERED):
        return True
    return False if error.counts_against_health else None


def comes_again(error: ProviderError | None) -> bool:
    """Whether another canary is worth a try after one that showed nothing: it came too early."""
    return isinstance(error, RateLimited | QuotaExhausted)
