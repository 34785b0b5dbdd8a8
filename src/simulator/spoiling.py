"""Makes a good answer a bad one, for the faults that show inside a 200."""

from __future__ import annotations

from .answers import tokens_in
from .config import ProviderConfig
from .shapes import Ask, Reply

HUGE_CHARS = 10_000_000
HUGE_CHUNK_TOKENS = 4_096


def spoil(ask: Ask, reply: Reply, fault: str, config: ProviderConfig, *, blocks_prompts: bool) -> None:
    """Change `reply` as `fault` says, with fitting usage. `blocks_prompts`: the API refuses inside a 200."""
    if fault.endswith(("json", "json_once")):
        _spoil_json(ask, reply, fault, config)
    elif fault in ("empty", "content_filter"):
        reply.text, reply.calls = "", ()
        reply.finish = "stop" if fault == "empty" else "refusal"
        reply.output_tokens = reply.thinking_tokens + (fault == "content_filter")
    elif fault in ("length", "no_stop_reason"):
        reply.text, reply.calls = reply.text[: (len(reply.text) + 1) // 2], ()
        reply.finish = "length" if fault == "length" else None
        _count_tokens(reply, config)
    elif fault == "stream_huge":
        said = reply.text or "Again. "
        reply.text, reply.calls = (said * (HUGE_CHARS // len(said) + 1))[:HUGE_CHARS], ()
        reply.finish = "stop"
        _count_tokens(reply, config)
    elif fault == "content_policy" and blocks_prompts:
        reply.text, reply.output_tokens, reply.thinking_tokens, reply.blocked = "", 0, 0, True


def _spoil_json(ask: Ask, reply: Reply, fault: str, config: ProviderConfig) -> None:
    was_shown_its_mistake = fault == "wrong_json_once" and ask.has_answer
    if was_shown_its_mistake or not ask.asks_for_json:
        return
    if fault == "fenced_json":
        reply.text = f"Here it is:\n\n```json\n{reply.text}\n```"
    else:
        reply.text, reply.calls = '{"unexpected": true}', ()
    _count_tokens(reply, config)


def _count_tokens(reply: Reply, config: ProviderConfig) -> None:
    reply.output_tokens = reply.thinking_tokens + tokens_in(len(reply.text), config.chars_per_token)
