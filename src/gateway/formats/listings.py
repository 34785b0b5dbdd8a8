"""The list of models, in the shapes of both APIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .base import Json
from .writing import json_bytes


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that a request may have as its `model`. `owner`: the provider, or `orchestrator`."""

    id: str
    owner: str
    created_at: float = 0.0  # UTC epoch seconds; 0: not known
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None


def openai_list(models: Sequence[ListedModel]) -> bytes:
    """All models, as OpenAI lists them."""
    return json_bytes({"object": "list", "data": [_openai(model) for model in models]})


def openai_model(model: ListedModel) -> bytes:
    """One model, as OpenAI describes it."""
    return json_bytes(_openai(model))


def anthropic_list(models: Sequence[ListedModel]) -> bytes:
    """All models on one page, as Anthropic lists them."""
    ends = (
        {"first_id": models[0].id, "last_id": models[-1].id}
        if models
        else {"first_id": None, "last_id": None}
    )
    return json_bytes({"data": [_anthropic(model) for model in models], "has_more": False, **ends})


def anthropic_model(model: ListedModel) -> bytes:
    """One model, as Anthropic describes it."""
    return json_bytes(_anthropic(model))


def _openai(model: ListedModel) -> Json:
    return {
        "id": model.id,
        "object": "model",
        "created": int(model.created_at),
        "owned_by": model.owner,
    }


def _anthropic(model: ListedModel) -> Json:
    created = datetime.fromtimestamp(model.created_at, UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_output_tokens,
    }
