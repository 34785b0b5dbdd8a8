"""Reasoning: how much of it a request asks for, and the signatures that reasoning in a history must bear.

A signature holds for the text and the model that wrote it: another model refuses it, as the real one does
(vybestack/llxprt-code#2337). The sources of Anthropic's messages are recorded 400s, for instance in
themaximalist/llm.js#30 and anomalyco/opencode#3077; Gemini's are in jeremychone/rust-genai#115.
"""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

from .shapes import Json, Reasoning, refused

EFFORTS = {"none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 3.0, "max": 4.0}
_LEVELS = {"minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0}
_LEAST_BUDGET = 1_024
_TYPES = ("adaptive", "between_tools", "disabled", "enabled")
# what Google documents for calls that Gemini did not write itself, as it stands or as base64 of the words
_UNSIGNED = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_TO_STANDARD = str.maketrans("-_", "+/", "=")
_SKIPS = frozenset(
    each.translate(_TO_STANDARD)
    for words in _UNSIGNED
    for each in (words, base64.b64encode(words.encode()).decode())
)


def signature(model: str, text: str) -> str:
    """What proves that `model` wrote `text`."""
    return base64.b64encode(
        hashlib.blake2b(f"{model}\x1f{text}".encode("utf-8", "surrogatepass")).digest()
    ).decode()


# -- Anthropic --


def anthropic_reasoning(body: Json, *, forces_a_tool: bool) -> Reasoning | None:
    """The `thinking` and `effort` of a body. Raises Fail for what Anthropic refuses."""
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in ("low", "medium", "high", "xhigh", "max"):
        raise refused("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    thinking = body.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type")
    if kind not in _TYPES:
        names = ", ".join(f"'{each}'" for each in _TYPES)
        text = f"Input tag '{kind}' found using 'type' does not match any of the expected tags: {names}"
        raise refused(f"thinking: {text}")
    if kind == "disabled":
        return Reasoning(0.0)
    most = _budget(thinking, body) if kind == "enabled" else None
    _check_sampling(body)
    if forces_a_tool:
        raise refused("Thinking may not be enabled when tool_choice forces tool use.")
    is_shown = thinking.get("display") != "omitted"
    return Reasoning(EFFORTS[effort or "medium"], most, is_returned=True, is_shown=is_shown)


def _budget(thinking: Json, body: Json) -> int:
    budget, where = thinking.get("budget_tokens"), "thinking.enabled.budget_tokens"
    if budget is None:
        raise refused(f"{where}: Field required")
    if not isinstance(budget, int) or budget < _LEAST_BUDGET:
        raise refused(f"{where}: Input should be greater than or equal to {_LEAST_BUDGET}")
    if budget >= body.get("max_tokens", math.inf):
        raise refused("`max_tokens` must be greater than `thinking.budget_tokens`.")
    return budget


def _check_sampling(body: Json) -> None:
    if body.get("temperature") not in (None, 1):
        raise refused("`temperature` may only be set to 1 when thinking is enabled.")
    if body.get("top_k") is not None:
        raise refused("`top_k` must be unset when thinking is enabled.")
    if (body.get("top_p") or 1) < 0.95:
        raise refused("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")


def check_thinking_block(block: Json, model: str, where: str) -> None:
    """Raises Fail for a block of thinking that `model` did not write."""
    if block["type"] == "redacted_thinking":
        if not isinstance(block.get("data"), str):
            raise refused(f"{where}.redacted_thinking.data: Field required")
        raise refused(f"{where}: Invalid `data` in `redacted_thinking` block")  # the simulator writes none
    for name in ("thinking", "signature"):
        if not isinstance(block.get(name), str):
            raise refused(f"{where}.thinking.{name}: Field required")
    if block["signature"] != signature(model, block["thinking"]):
        raise refused(f"{where}: Invalid `signature` in `thinking` block")


def check_thinking_first(messages: list[Json]) -> None:
    """With a budget, the answer whose calls are being answered must begin with its thinking."""
    last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "assistant"), None)
    blocks: Any = [] if last is None else messages[last].get("content")
    if not isinstance(blocks, list) or not any(block["type"] == "tool_use" for block in blocks):
        return
    if blocks[0]["type"] not in ("thinking", "redacted_thinking"):
        raise refused(
            f"messages.{last}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{blocks[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with "
            "a thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks)."
        )


# -- OpenAI --


def openai_reasoning(effort: Any, param: str) -> Reasoning | None:
    """The effort of a body. Raises Fail for one that OpenAI does not know."""
    if effort is None:
        return None
    if effort not in EFFORTS:
        names = ", ".join(f"'{each}'" for each in EFFORTS)
        raise refused(f"Invalid value: '{effort}'. Supported values are: {names}.", param, "invalid_value")
    return Reasoning(EFFORTS[effort])


# -- Gemini --


def is_signed(sent: object, name: str) -> bool:
    """Whether a function call bears the signature that it was given, in either alphabet of base64."""
    if not isinstance(sent, str):
        return False
    plain = sent.translate(_TO_STANDARD)
    return plain in _SKIPS or plain == signature("", name).translate(_TO_STANDARD)


def gemini_reasoning(settings: Json) -> Reasoning | None:
    """The `thinkingConfig` of a generationConfig. Raises Fail for what Gemini refuses."""
    config = settings.get("thinkingConfig") or settings.get("thinking_config")
    if not config:
        return None
    budget = config.get("thinkingBudget", config.get("thinking_budget"))
    level = config.get("thinkingLevel", config.get("thinking_level"))
    is_shown = bool(config.get("includeThoughts", config.get("include_thoughts")))
    if budget is not None and level is not None:
        raise refused("You can only set only one of thinking budget and thinking level.")
    most = None if budget is None else _gemini_budget(budget)
    factor = 1.0 if level is None else _gemini_level(level)
    if budget == 0:
        factor = 0.0
    return Reasoning(factor, most, is_returned=is_shown, is_shown=is_shown)


def _gemini_level(level: Any) -> float:
    factor = _LEVELS.get(str(level).lower())
    if factor is None:
        raise refused(f"Invalid value at 'generation_config.thinking_config.thinking_level', \"{level}\"")
    return factor


def _gemini_budget(budget: Any) -> int | None:
    """Tokens at most; None for -1, which leaves it to the model."""
    if not isinstance(budget, int) or budget < -1:
        where = "* GenerateContentRequest.generation_config.thinking_config.thinking_budget"
        raise refused(f"{where}: out of range.\n")
    return budget if budget > 0 else None
