"""What the name of a model means.

    auto                        the tier by the length of the prompt
    economy, standard, premium  this tier, at any provider
    MODEL                       this model, at the providers that serve it
    PROVIDER/MODEL              this model, at this provider

For embeddings, the last form, and text-embedding-*, which are OpenAI's.

A model is never replaced silently: another one answers only where `[gateway.fallbacks]` lists it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..errors import hint
from ..records import EMBEDDINGS
from ..settings import TIERS, Settings
from .formats.base import FormatError
from .formats.problems import ProblemKind

AUTO = "auto"
OPENAI, OPENAI_EMBEDDINGS = "openai", "text-embedding-"  # whose names of models need no provider
SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What a task may use: pins as in `Task`, and a tier where there are none."""

    tier: str = AUTO
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()


def choose(name: str, settings: Settings, called: Collection[str]) -> ModelChoice:
    """What `name` means. `called`: the providers that can be called. Raises FormatError if none serves it."""
    if name in (AUTO, *TIERS):
        return ModelChoice(tier=name)
    provider, slash, model = name.partition("/")
    is_pair = bool(slash) and provider in settings.providers
    family = settings.with_families([provider]) if is_pair else []
    if able := [each for each in family if each in called]:
        if model in (AUTO, *TIERS):
            return ModelChoice(tier=model, providers=(provider,))
        if _served(model, settings, able):
            return ModelChoice(models=(model,), providers=(provider,))
    if not is_pair and _served(name, settings, called):
        return ModelChoice(models=(name, *settings.gateway.fallbacks.get(name, ())))
    raise FormatError(_unknown(name, settings, called), param="model", kind=ProblemKind.MODEL_NOT_FOUND)


def choose_embedder(name: str, settings: Settings, called: Collection[str]) -> ModelChoice:
    """The one provider that answers requests for embeddings with this model. Raises FormatError for none.

    It has no substitute, since vectors of two models, or of two servers, are not comparable.
    """
    provider, slash, model = name.partition("/")
    if not slash or provider not in settings.providers:
        provider, model = OPENAI if name.startswith(OPENAI_EMBEDDINGS) else "", name
    if why_not := _why_no_embeddings(provider, model, settings, called):
        text = f"no provider has embeddings of {name[:SHOWN_CHARS]!r}: {why_not}"
        raise FormatError(text, param="model", kind=ProblemKind.MODEL_NOT_FOUND)
    return ModelChoice(models=(model,), providers=(provider,))


def _why_no_embeddings(provider: str, model: str, settings: Settings, called: Collection[str]) -> str:
    able = [name for name, row in settings.providers.items() if EMBEDDINGS in row.native_forms]
    if provider not in able or not model:
        return f"name a model as {' or '.join(f'{each}/MODEL' for each in able)}"
    if provider not in called:
        return f"{provider} cannot be called ({settings.providers[provider].why_not_configured})"
    # OpenAI's answer would be a 403, which looks like a rejected key.
    if settings.serves(provider, settings.resolve_model(model)[0]):
        return "this model writes text"
    return ""


def _served(model: str, settings: Settings, providers: Collection[str]) -> list[str]:
    current, _ = settings.resolve_model(model)
    return [name for name in providers if settings.serves(name, current)]


def _unknown(name: str, settings: Settings, called: Collection[str]) -> str:
    shown = repr(name[:SHOWN_CHARS])
    if elsewhere := [each for each in settings.left_by([name], ()) if each not in called]:
        reasons = "; ".join(f"{each}: {settings.providers[each].why_not_configured}" for each in elsewhere)
        return f"no provider that can be called serves the model {shown} ({reasons})"
    return f"no provider serves the model {shown}; {hint(name, _names(settings, called))}"


def meant(name: str, settings: Settings, called: Collection[str]) -> str:
    """What to add to an error that may come from a misspelt `name`; empty if it is a name of the settings."""
    known = _names(settings, called)
    return "" if name in known else hint(name, known)


def _names(settings: Settings, called: Collection[str]) -> list[str]:
    return list(dict.fromkeys(each for each, _ in listed(settings, called)))


def listed(settings: Settings, called: Collection[str]) -> Iterator[tuple[str, str]]:
    """`(name, owner)`: every name of the settings. Other names of a provider's models work too."""
    for name in (AUTO, *TIERS):
        yield name, "orchestrator"
    pairs = [
        (provider, settings.resolve_model(settings.providers[provider].models.of(tier))[0])
        for provider in settings.providers
        if provider in called
        for tier in TIERS
    ]
    plain: dict[str, str] = {}
    for provider, model in dict.fromkeys(pairs):
        plain.setdefault(model, provider)
    yield from plain.items()
    for provider, model in dict.fromkeys(pairs):
        yield f"{provider}/{model}", provider
