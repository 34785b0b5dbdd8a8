"""How much Claude is asked to think before it answers. Pure.

Models up to 4.5 take a budget of tokens, later ones an effort; `[models]` says which.
https://platform.claude.com/docs/en/build-with-claude/thinking
"""

from __future__ import annotations

from typing import Any

from ..records import CompletionRequest
from .anthropic_messages import THINKING
from .prompts import Json

_LEAST_BUDGET, _LEAST_ANSWER = 1_024, 1_024  # tokens; the API takes no smaller budget
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
_LEAST_TOP_P = 0.95  # beside thinking


def add_thinking(request: CompletionRequest, body: Json) -> list[str]:
    """Add what the reasoning effort asks for to `body`, which has all the rest. Returns warnings."""
    effort = request.reasoning_effort
    if effort is None:
        return []
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
        return []
    takes_budget = request.parameters.get("thinking") == "budget"
    if why := _why_no_thinking(request, body, takes_budget=takes_budget):
        if not takes_budget:  # the effort counts without thinking, too
            body.setdefault("output_config", {})["effort"] = _EFFORTS[effort]
        return [f"reasoning_effort: no thinking, because {why}"]
    if takes_budget:
        budget = min(_BUDGETS[effort], request.max_tokens - _LEAST_ANSWER)
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        body["thinking"] = {"type": "adaptive"}
        body.setdefault("output_config", {})["effort"] = _EFFORTS[effort]
    return _without_sampling(body)


def _why_no_thinking(request: CompletionRequest, body: Json, *, takes_budget: bool) -> str:
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        return "a tool call is required"
    if not takes_budget:
        return ""
    if request.max_tokens < _LEAST_BUDGET + _LEAST_ANSWER:
        return f"max_tokens is below {_LEAST_BUDGET + _LEAST_ANSWER:,}"
    if _lacks_thinking(body["messages"]):
        return "the last tool calls come without the thinking before them"
    return ""


def _lacks_thinking(messages: list[Json]) -> bool:
    """Whether the last answer has calls and does not begin with its thinking."""
    answers = (message["content"] for message in reversed(messages) if message["role"] == "assistant")
    last: Any = next(answers, "")
    has_calls = isinstance(last, list) and any(block["type"] == "tool_use" for block in last)
    return has_calls and last[0]["type"] not in THINKING


def _without_sampling(body: Json) -> list[str]:
    """Leave out the sampling parameters that the API refuses beside thinking."""
    refused = []
    if body.get("temperature", 1) != 1:
        refused.append("temperature")
    if body.get("top_p", 1) < _LEAST_TOP_P:
        refused.append("top_p")
    for name in refused:
        del body[name]
    return [f"{name} left out: not taken beside reasoning_effort" for name in refused]
