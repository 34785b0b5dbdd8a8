"""OpenAI Chat Completions: what a request asks for, and what OpenAI refuses in it.

Sources of the messages: recorded 400s, for instance in FoundationAgents/OpenManus#744, BerriAI/litellm#28995,
vercel/ai#1972 (names), apify/apify-mcp-server#36 (schemas), nanbingxyz/5ire#33 (lengths).
"""

from __future__ import annotations

from typing import Any

from .demands import openai_objection
from .openai_parts import read_parts
from .openai_tools import check_calls, read_tools
from .prompt import Prompt
from .reasoning import openai_reasoning
from .shapes import Ask, Json, StreamForm, first_violation, numbers, positive_int, refused

_RANGES = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0)}
_SAMPLING = {name: name for name in _RANGES}
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


_FIELDS = frozenset(
    {"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_tokens"}
    | {"max_completion_tokens", "messages", "metadata", "modalities", "model", "moderation", "n"}
    | {"parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options"}
    | {"prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed"}
    | {"service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools"}
    | {"top_logprobs", "top_p", "user", "verbosity", "web_search_options"}
)


_SERVICE_TIERS = ("auto", "default", "flex", "priority", "scale")


def read_flex(body: Json) -> bool:
    """Whether a body asks for the service tier flex. Raises Fail for a tier that there is not."""
    tier = body.get("service_tier")
    if tier is not None and tier not in _SERVICE_TIERS:
        raise refused(
            f"Invalid value: '{tier}'. Supported values are: 'auto', 'default', 'flex'.", "service_tier"
        )
    return bool(tier == "flex")


def read_chat(body: Json) -> Ask:
    """The request in a body. Raises Fail for what OpenAI refuses."""
    stream = _stream_form(body)
    if unknown := body.keys() - _FIELDS:
        raise refused(f"Unrecognized request argument supplied: {min(unknown)}")
    for name in ("model", "messages"):
        if not body.get(name):
            raise refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    tools, chars_of_tools = read_tools(body)
    prompt = _read_messages(body["messages"])
    sampling = numbers(body, _SAMPLING)
    wrong = first_violation(_RANGES, sampling)
    if wrong:
        raise refused(f"Invalid '{wrong}': expected a value between 0 and {_RANGES[wrong][1]:g}.", wrong)
    if not isinstance(body.get("seed", 0), int | None):
        raise refused("Invalid type for 'seed': expected an integer.", "seed", "invalid_type")
    form = _checked_form(body)
    stops = body.get("stop") or ()
    old, new = positive_int(body, "max_tokens"), positive_int(body, "max_completion_tokens")
    return Ask(
        model=str(body["model"]),
        prompt=prompt.joined(),
        chars=prompt.chars + chars_of_tools,
        messages=len(prompt.parts),
        last=prompt.last,
        max_tokens=old if new is None else new,
        sampling=sampling,
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
        wants_json=form.get("type") in ("json_schema", "json_object"),
        schema=(form.get("json_schema") or {}).get("schema"),
        old_max_tokens=old is not None,
        marked_prefix=prompt.marked,
        marks_only=(body.get("prompt_cache_options") or {}).get("mode") == "explicit",
        stream=stream,
        tools=tools,
        calls_since=prompt.calls_since,
        extra_tokens=prompt.extra_tokens,
        reasoning=openai_reasoning(body.get("reasoning_effort"), "reasoning_effort"),
        has_effort=body.get("reasoning_effort") is not None,
        flex=read_flex(body),
    )


def _stream_form(body: Json) -> StreamForm | None:
    stream, options = body.get("stream"), body.get("stream_options")
    if not isinstance(stream, bool | None):
        raise refused("Invalid type for 'stream': expected a boolean.", "stream", "invalid_type")
    if not stream:
        if options is not None:
            text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise refused(text, "stream_options")
        return None
    options = options or {}
    for name in options:
        if name not in ("include_usage", "include_obfuscation") or not isinstance(options[name], bool):
            raise refused(f"Unknown parameter: 'stream_options.{name}'.", f"stream_options.{name}")
    usage, obfuscation = options.get("include_usage", False), options.get("include_obfuscation", True)
    return StreamForm(usage=usage, obfuscation=obfuscation)


def _checked_form(body: Json) -> Json:
    """The `response_format` of a body."""
    form: Json = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        objection = openai_objection(form.get("json_schema") or {})
        if objection:
            raise refused(objection, "response_format")
    return form


def _read_messages(messages: Any) -> Prompt:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise refused("Invalid type for 'messages': expected a list.", "messages", "invalid_type")
    prompt = Prompt()
    pending: list[str] = []  # ids of tool calls without a result yet
    answerable: list[str] = []  # ids of the tool calls that a tool message may answer now
    for i, message in enumerate(messages):
        role = _ROLES.get(str(message.get("role")))
        if role is None:
            text = f"Invalid value: '{message.get('role')}'. Supported values are: {', '.join(_ROLES)}."
            raise refused(text, f"messages[{i}].role", "invalid_value")
        if role == "tool":
            _check_result(message, i, pending, answerable)
        elif pending:
            break
        else:
            answerable = []
        calls = message.get("tool_calls")
        if calls is not None:
            answerable = check_calls(calls, role, i)
            pending = list(answerable)
        read_parts(prompt, role, message, i)
        if calls:
            for call in calls:
                prompt.call_as_sent(call["function"]["name"], call["function"]["arguments"])
            prompt.calls_ended()
    if pending:
        text = (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
        ) + ", ".join(pending)
        raise refused(text, "messages")
    return prompt


def _check_result(message: Json, i: int, pending: list[str], answerable: list[str]) -> None:
    """Strike the id of a tool message off `pending`."""
    if message.get("role") == "function":  # the form before tools; it names the function, not a call
        return
    where = f"messages.[{i}].tool_call_id"
    if not answerable:
        text = (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'."
        )
        raise refused(text, f"messages.[{i}].role")
    ident = message.get("tool_call_id")
    if not isinstance(ident, str):
        text = "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'."
        raise refused(text, where)
    if ident not in answerable:
        text = (
            f"Invalid parameter: 'tool_call_id' of '{ident}' not found in 'tool_calls' of previous message."
        )
        raise refused(text, where)
    if ident in pending:
        pending.remove(ident)
