"""Settings that are valid and yet are probably mistakes.

Model names are open: a provider has new models before the configuration does, and a task may name any. An
unknown name is therefore no error; one that resembles a known name gets a warning before work begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..errors import nearest
from ..settings import TIERS, Settings
from .console import Console


def print_config_warnings(console: Console, settings: Settings) -> None:
    """Print a line for each warning."""
    for warning in config_warnings(settings):
        console.note(f"warning: {warning}")


def config_warnings(settings: Settings) -> Iterator[str]:
    """Limits of models that no task uses, and a baseline without a price."""
    for name, config in settings.providers.items():
        for model in config.model_limits:
            if why := _unused_limits(settings, name, model):
                yield f'providers.{name}.model_limits."{model}": {why}'
    if not _has_price(settings, settings.baseline_model):
        known = {model for name in settings.providers for model in _tier_models(settings, name)}
        near = nearest(settings.baseline_model, known)
        yield (
            f"baseline_model {settings.baseline_model!r} has no known price, so savings can't be computed"
            + (f"; did you mean {near!r}?" if near else "")
        )


def _unused_limits(settings: Settings, provider: str, model: str) -> str:
    """Why these limits probably apply to no call; empty if they apply."""
    current, retired = settings.resolve_model(model)
    if retired:
        return f"no effect: the model is retired, and {current!r} is called instead"
    usual = _tier_models(settings, provider)
    near = nearest(model, usual)
    meant = f"; did you mean {near!r}?" if near else ""
    if not settings.serves(provider, model):
        return f"no effect: {provider} does not serve that model{meant}"
    if model not in usual and near and _digits(near) == _digits(model):
        return f"no tier uses that model, so this applies only to tasks that name it{meant}"
    return ""


def _tier_models(settings: Settings, provider: str) -> list[str]:
    """The models that a provider is called with if the task names none."""
    models = settings.providers[provider].models
    return [settings.resolve_model(models.of(tier))[0] for tier in TIERS]


def _digits(model: str) -> str:
    """The version. A name with another version is another model, not a typing error."""
    return re.sub(r"\D", "", model)


def _has_price(settings: Settings, model: str) -> bool:
    from ..core.clock import Clock
    from ..routing.cost.pricing import compile_price

    config = settings.lookup_model(model)
    return compile_price(config.price_list, model, Clock().now(), config.price) is not None
