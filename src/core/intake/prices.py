"""Warns of tasks that name only models without a known price.

Any model name is allowed, so this is not an error. But it is often a typing mistake, and a budget blocks
every call whose price is unknown.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Iterator

from ...errors import InputError, nearest
from ...model_catalogue import models_of
from ...records import Task
from ...settings import TIERS, Settings

NEAREST = 3  # names that are suggested for an unknown model


def unpriced_warning(task: Task, settings: Settings) -> str:
    """The warning for a task that may only use models without a known price; else empty.

    Models that a tier names are no reason to warn: they are configured, not chosen by the task.
    """
    if not names_only_unpriced(task, settings):
        return ""
    usual = set(_of_tiers(settings))
    if all(settings.resolve_model(model)[0] in usual for model in task.models):
        return ""
    near = nearest(task.models[0], sorted(usual))
    rest = f"did you mean {near!r}?" if near else price_remedy(task.models[0], settings)
    return f"no price for {', '.join(task.models)}; {rest}"


def price_remedy(model: str, settings: Settings) -> str:
    """How to set an unknown price. Rows of models are not merged, so a new one needs its API format too."""
    api_format = settings.lookup_model(model).api_format
    also = f'api_format = "{api_format}", ' if api_format else ""
    price = "price = { input = ..., output = ... }, USD per million tokens"
    return f'set one in [models."{model}"] ({also}{price})'


def names_only_unpriced(task: Task, settings: Settings) -> bool:
    """Whether a task names models, and none of them has a price at a provider that may serve it."""
    if not task.models:
        return False
    from ...routing.cost.pricing import (
        catalogue_of,
        compile_price,
    )  # a price list of some size: only where it counts

    for name in settings.left_by(task.models, task.providers):
        row = settings.providers[name]
        catalogue = catalogue_of(name, row)
        for model in {settings.resolve_model(each)[0] for each in task.models}:
            price = settings.lookup_model(model).price
            if settings.serves(name, model) and compile_price(catalogue, model, task.created_at, price):
                return False
    return True


def check_known(where: str, model: str, providers: Collection[str], settings: Settings) -> None:
    """Raises InputError for a model that none of these providers is known to have.

    Known are the models of tiers, those with a price, those with a section of their own in `[models]`, and
    retired ones with a successor.
    """
    current, _ = settings.resolve_model(model)
    if model in settings.models or current in set(_of_tiers(settings)):
        return
    task = Task("", "", (), models=(model,), providers=tuple(providers), created_at=time.time())
    if not names_only_unpriced(task, settings):
        return
    listed = {name for each in providers for name in models_of(settings.providers[each].api_format)}
    near = difflib.get_close_matches(
        model.lower(), sorted(listed | {*_of_tiers(settings)}), n=NEAREST, cutoff=0.5
    )
    meant = f"did you mean {' or '.join(near)}? A" if near else "a"
    remedy = f"{meant} newer model needs a price: {price_remedy(model, settings)}"
    raise InputError(f"{where}: unknown model {model!r}; {remedy}")


def _of_tiers(settings: Settings) -> Iterator[str]:
    """The models that serve tasks without a model of their own."""
    for row in settings.providers.values():
        for tier in TIERS:
            yield settings.resolve_model(row.models.of(tier))[0]
