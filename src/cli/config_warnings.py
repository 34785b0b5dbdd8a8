"""What the settings say that is allowed and yet likely a slip.

Names of models are open: a provider has new ones before we have a row for them, and a task may name any. So a
name that nobody knows is no error, and one that merely looks like another is told before work begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import nearest
from ..settings import TIERS, Settings
from .progress import say


def print_config_warnings(settings: Settings) -> None:
    """A line for each."""
    for doubt in config_warnings(settings):
        say(f"warning: {doubt}")


def config_warnings(settings: Settings) -> Iterator[str]:
    """Limits of models that no task is sent to, and a baseline without a price."""
    for name, row in settings.providers.items():
        for model in row.model_limits:
            if why := _limits_nothing(settings, name, model):
                yield f'providers.{name}.model_limits."{model}": {why}'
    if not _has_price(settings, settings.baseline_model):
        every = {model for name in settings.providers for model in _of_tiers(settings, name)}
        near = nearest(settings.baseline_model, every)
        yield (
            f"baseline_model {settings.baseline_model!r} has no known price, so savings can't be told"
            + (f"; did you mean {near!r}?" if near else "")
        )


def _limits_nothing(settings: Settings, provider: str, model: str) -> str:
    """Why these limits are probably nobody's, or nothing."""
    current, retired = settings.resolve_model(model)
    if retired:
        return f"limits nothing; it is retired, and {current!r} is asked in its place"
    usual = _of_tiers(settings, provider)
    near = nearest(model, usual)
    meant = f"; did you mean {near!r}?" if near else ""
    if not settings.serves(provider, model):
        return f"limits nothing; {provider} does not serve that model{meant}"
    if model not in usual and near and _digits(near) == _digits(model):
        return f"no tier has that model, so it only counts for tasks that name it{meant}"
    return ""


def _of_tiers(settings: Settings, provider: str) -> list[str]:
    """The models that a provider is asked for where a task names none."""
    models = settings.providers[provider].models
    return [settings.resolve_model(models.of(tier))[0] for tier in TIERS]


def _digits(model: str) -> str:
    """Another version is another model, not a slip of the pen."""
    return re.sub(r"\D", "", model)


def _has_price(settings: Settings, model: str) -> bool:
    from ..core.clock import Clock
    from ..routing.cost.pricing import compile_price

    config = settings.lookup_model(model)
    return compile_price(config.price_list, model, Clock().now(), config.price) is not None
