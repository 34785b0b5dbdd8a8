"""Tools and conversations in the three API formats."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp

from src.simulator import SimulatorProcess

from .streams import KEYS

PATHS = {
    "anthropic": "/v1/messages",
    "openai": "/chat/completions",
    "gemini": "/v1beta/models/gemini-3.8-flash:generateContent",
}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "days", "unit"],
}
CLOCK = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
SCHEMAS = {"get_weather": WEATHER, "get_time": CLOCK}


def tools(api: str, schemas: dict[str, Any] = SCHEMAS) -> list[dict[str, Any]]:
    if api == "anthropic":
        return [{"name": name, "description": name, "input_schema": own} for name, own in schemas.items()]
    if api == "openai":
        return [
            {"type": "function", "function": {"name": name, "description": name, "parameters": own}}
            for name, own in schemas.items()
        ]
    return [{"functionDeclarations": [{"name": name, "parameters": own} for name, own in schemas.items()]}]


def choice(api: str, wanted: str) -> dict[str, Any]:
    """What makes the API call `wanted`: "auto", "none", "any" or the name of a tool."""
    is_name = wanted not in ("auto", "none", "any")
    if api == "anthropic":
        return {"tool_choice": {"type": "tool", "name": wanted} if is_name else {"type": wanted}}
    if api == "openai":
        named: Any = {"type": "function", "function": {"name": wanted}}
        return {"tool_choice": named if is_name else {"any": "required"}.get(wanted, wanted)}
    config: dict[str, Any] = {"mode": "ANY" if is_name else wanted.upper()}
    if is_name:
        config["allowedFunctionNames"] = [wanted]
    return {"toolConfig": {"functionCallingConfig": config}}


def user(api: str, text: str) -> dict[str, Any]:
    if api == "gemini":
        return {"role": "user", "parts": [{"text": text}]}
    return {"role": "user", "content": text}


def assistant(api: str, text: str) -> dict[str, Any]:
    if api == "gemini":
        return {"role": "model", "parts": [{"text": text}]}
    return {"role": "assistant", "content": text}


def calls(api: str, *made: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """An answer with tool calls: id, name, arguments of each."""
    if api == "anthropic":
        blocks = [{"type": "tool_use", "id": i, "name": name, "input": given} for i, name, given in made]
        return {"role": "assistant", "content": blocks}
    if api == "openai":
        asked = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for i, name, given in made
        ]
        return {"role": "assistant", "content": None, "tool_calls": asked}
    # a signature that Google documents for calls that Gemini did not write itself
    signed = {"thoughtSignature": "skip_thought_signature_validator"}
    return {
        "role": "model",
        "parts": [{"functionCall": {"name": name, "args": given}, **signed} for _, name, given in made],
    }


def results(api: str, *given: tuple[str, str, str]) -> list[dict[str, Any]]:
    """The turns that answer tool calls: id, name, text of each."""
    if api == "anthropic":
        blocks = [{"type": "tool_result", "tool_use_id": i, "content": text} for i, _, text in given]
        return [{"role": "user", "content": blocks}]
    if api == "openai":
        return [{"role": "tool", "tool_call_id": i, "content": text} for i, _, text in given]
    parts = [{"functionResponse": {"name": name, "response": {"result": text}}} for _, name, text in given]
    return [{"role": "user", "parts": parts}]


def request(api: str, turns: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A body; `more` goes into it as it is."""
    if api == "gemini":
        return {"contents": turns, **more}
    return {"model": "m", "max_tokens": 300, "messages": turns, **more}


def calls_in(api: str, answer: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The tool calls of an answer that was given at once."""
    if api == "anthropic":
        return [(b["id"], b["name"], b["input"]) for b in answer["content"] if b["type"] == "tool_use"]
    if api == "openai":
        made = answer["choices"][0]["message"].get("tool_calls") or []
        return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in made]
    parts = answer["candidates"][0]["content"].get("parts") or []
    found = [part["functionCall"] for part in parts if "functionCall" in part]
    return [("", each["name"], each["args"]) for each in found]


def text_in(api: str, answer: dict[str, Any]) -> str:
    if api == "anthropic":
        return "".join(block["text"] for block in answer["content"] if block["type"] == "text")
    if api == "openai":
        return answer["choices"][0]["message"]["content"] or ""
    parts = answer["candidates"][0]["content"].get("parts") or []
    return "".join(part.get("text", "") for part in parts)


def finish_in(api: str, answer: dict[str, Any]) -> Any:
    if api == "anthropic":
        return answer["stop_reason"]
    if api == "openai":
        return answer["choices"][0]["finish_reason"]
    return answer["candidates"][0]["finishReason"]


def answer_turn(api: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as the turn of a history."""
    if api == "anthropic":
        return {"role": "assistant", "content": answer["content"]}
    if api == "openai":
        return dict(answer["choices"][0]["message"])
    return dict(answer["candidates"][0]["content"])


class Poster:
    """Requests over plain HTTP."""

    def __init__(self, sim: SimulatorProcess, session: aiohttp.ClientSession) -> None:
        self.sim, self.session = sim, session

    async def post(self, api: str, body: dict[str, Any], path: str | None = None) -> tuple[int, Any]:
        url = self.sim.base_urls[api] + (path or PATHS[api])
        data = io.BytesIO(json.dumps(body).encode())  # it may be large
        headers = {"Content-Type": "application/json", **KEYS}
        async with self.session.post(url, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def answer(self, api: str, text: str, **more: Any) -> Any:
        """The answer to a text, with the tools at hand."""
        status, answer = await self.post(api, request(api, [user(api, text)], tools=tools(api), **more))
        assert status == 200, answer
        return answer
