"""An answer as its client sends it back in the next turn, with a result for each call."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from src.messages import ContentPart, Message, Reasoning, Text, ToolCall

from .samples import FORMATS, body_for, data_in


def next_body(form: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The next request of a conversation that `answer` is part of."""
    answer = copy.deepcopy(answer)
    if form == "responses":
        called = [item["call_id"] for item in answer["output"] if item["type"] == "function_call"]
        results = [{"type": "function_call_output", "call_id": ident, "output": "12"} for ident in called]
        start = [{"role": "user", "content": "Tides?"}]
        return body_for(form, input=[*start, *answer["output"], *results])
    body = body_for(form)
    if form == "anthropic":
        called = [block["id"] for block in answer["content"] if block["type"] == "tool_use"]
        given = [{"type": "tool_result", "tool_use_id": ident, "content": "12"} for ident in called]
        reply = given or [{"type": "text", "text": "Go on."}]
        turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": reply}]
        return {**body, "messages": [*body["messages"], *turns]}
    message = answer["choices"][0]["message"]
    called = [call["id"] for call in message.get("tool_calls") or ()]
    results = [{"role": "tool", "tool_call_id": ident, "content": "12"} for ident in called]
    return {**body, "messages": [*body["messages"], message, *results]}


def came_back(form: str, answer: dict[str, Any]) -> tuple[ContentPart, ...]:
    """The parts of the answer, as the next request has them."""
    read = FORMATS[form].read(next_body(form, answer), {})
    [found] = [message.parts for message in read.messages if message.role == "assistant"]
    return found


def comparable(form: str, parts: Sequence[ContentPart], *, texts_joined: bool) -> list[Any]:
    """Parts as far as the API of the form can keep them apart."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, Reasoning) and form == "openai":
            continue
        if isinstance(part, ToolCall):
            found.append((part.id, part.name, json.loads(part.arguments or "{}")))
        elif (
            (texts_joined or form == "openai")
            and isinstance(part, Text)
            and found
            and isinstance(found[-1], Text)
        ):
            found[-1] = Text(found[-1].text + part.text)
        else:
            found.append(part)
    return found


def accumulated(form: str, stream: bytes) -> dict[str, Any]:
    """The answer that a stream adds up to."""
    events = data_in(stream)
    if form == "responses":
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        response: dict[str, Any] = events[-1]["response"]
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert response["output"] == done
        return response
    return _message(events) if form == "anthropic" else _completion(events)


def _message(events: list[Any]) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    written: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            delta, block = event["delta"], blocks[-1]
            if delta["type"] == "input_json_delta":
                written[event["index"]] = written.get(event["index"], "") + delta["partial_json"]
            elif delta["type"] == "signature_delta":
                block["signature"] += delta["signature"]
            else:
                name = delta["type"].removesuffix("_delta")
                block[name] += delta[name]
    for index, text in written.items():
        blocks[index]["input"] = json.loads(text)
    return {"content": blocks}


def _completion(events: list[Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: list[dict[str, Any]] = []
    for event in events:
        delta = event["choices"][0]["delta"]
        if delta.get("content"):
            message["content"] = (message["content"] or "") + delta["content"]
        for call in delta.get("tool_calls") or ():
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append({"id": call["id"], "type": "function", "function": dict(call["function"])})
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return {"choices": [{"message": {**message, **({"tool_calls": calls} if calls else {})}}]}


def plain(messages: Sequence[Message]) -> list[tuple[str, tuple[ContentPart, ...]]]:
    """Messages whose text may be a part or not."""
    return [(message.role, message.parts) for message in messages]
