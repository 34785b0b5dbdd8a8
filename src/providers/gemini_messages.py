"""A conversation as Gemini's `generateContent` takes it. Pure.

system      all system prompts together, apart from the contents
contents    the user speaks first; empty texts are left out; answers in a row are one
results     a content of their own behind the calls; what they have beside text follows in the next one
signatures  of reasoning: back to the model that wrote them, on the part that follows. A call that another
            model wrote bears the documented words instead, where models of Gemini 3 demand a signature
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from ..media_sizes import media_type
from ..messages import (
    TOOL_CHOICES,
    ContentPart,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from ..records import CompletionRequest
from .conversations import OPENING, accepted_name, arguments_of, joined_text, ordered
from .media import left_out, plain_text
from .prompts import Json
from .tool_schemas import parameters_of

ORIGIN = "gemini"
SIGNATURE = "thoughtSignature"
# https://ai.google.dev/gemini-api/docs/thought-signatures: for calls that the model did not write itself
_UNSIGNED = "skip_thought_signature_validator"
_NAME = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)
_LONGEST_NAME = 64
_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_TEXTS = ("text/plain", "text/html", "text/csv", "text/markdown", "text/xml", "application/json")
_FILES = ("https://generativelanguage.googleapis.com/", "gs://", "https://www.youtube.com/")
_EMPTY = "(empty)"
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def tool_name(name: str) -> str:
    """The name under which the API knows a tool."""
    return accepted_name(name, _NAME, _LONGEST_NAME)


def rendered_contents(
    messages: Sequence[Message], model: str, *, needs_signatures: bool
) -> tuple[str, list[Json], list[str]]:
    """`(system prompt, contents, warnings)`. `needs_signatures`: of function calls."""
    turns = ordered(messages)
    system = "\n\n".join(text for turn in turns if turn.role == "system" and (text := turn.text))
    if all(turn.role == "system" for turn in turns):  # the API needs a user's turn
        turns, system = [Message("user", system)], ""
    writer = _Writer(f"{ORIGIN}/{model}", needs_signatures=needs_signatures)
    for turn in turns:
        if turn.role != "system":
            writer.add(turn)
    return system, writer.finished(), writer.warnings


class _Writer:
    """Writes contents one by one."""

    def __init__(self, origin: str, *, needs_signatures: bool) -> None:
        self._origin, self._needs_signatures = origin, needs_signatures
        self._contents: list[Json] = []
        self._names: dict[str, str] = {}  # of the calls so far, by id
        self.warnings: list[str] = []

    def add(self, message: Message) -> None:
        if isinstance(message.content, str):
            role = "model" if message.role == "assistant" else "user"
            self._append(role, [{"text": message.content}] if message.content else [])
        elif message.role == "assistant":
            self._append("model", list(self._answer(message.content)))
        elif message.role == "tool":
            self._add_results(message.content)
        else:
            self._append("user", [part for each in message.content for part in self._said(each)])

    def _append(self, role: str, parts: list[Json]) -> None:
        if not parts:
            return
        if role == "model" and self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    def finished(self) -> list[Json]:
        """All contents, the first of which is the user's."""
        found = self._contents or [{"role": "user", "parts": [{"text": _EMPTY}]}]
        if found[0]["role"] == "model":
            found = [{"role": "user", "parts": [{"text": OPENING}]}, *found]
        return found

    # -- answers

    def _answer(self, parts: Iterable[ContentPart]) -> Iterable[Json]:
        """The parts of an answer, each with the signature of the reasoning before it."""
        signature, needs_one = "", self._needs_signatures
        for part in parts:
            if isinstance(part, Reasoning):
                signature = self._own_signature(part) or signature
                continue
            found: Json | None = None
            if isinstance(part, ToolCall):  # of parallel calls the first one bears the signature
                found, signature = self._call(part), signature or (_UNSIGNED if needs_one else "")
                needs_one = False
            elif isinstance(part, Text) and part.text:
                found = {"text": part.text}
            if found is not None:
                yield {**found, SIGNATURE: signature} if signature else found
                signature = ""

    def _own_signature(self, part: Reasoning) -> str:
        if part.origin != self._origin:
            return ""
        try:
            found = json.loads(part.opaque)
        except (ValueError, RecursionError):
            return ""
        signature = found.get(SIGNATURE) if isinstance(found, dict) else None
        return signature if isinstance(signature, str) else ""

    def _call(self, call: ToolCall) -> Json:
        name = self._names[call.id] = tool_name(call.name)
        found: Json = {"name": name, "args": arguments_of(call)}
        if call.id:
            found["id"] = call.id
        return {"functionCall": found}

    # -- results and what users say

    def _add_results(self, parts: Iterable[ContentPart]) -> None:
        responses: list[Json] = []
        beside: list[Json] = []
        for result in parts:
            if not isinstance(result, ToolResult):
                continue
            responses.append(self._response(result))
            media = [each for part in result.parts if not isinstance(part, Text) for each in self._said(part)]
            if media:
                beside += [{"text": f"Attached to the result of {self._name_of(result)}:"}, *media]
        self._append("user", responses)
        self._append("user", beside)

    def _name_of(self, result: ToolResult) -> str:
        return self._names.get(result.call_id, "")

    def _response(self, result: ToolResult) -> Json:
        text = joined_text(result.parts)
        found: Json = {
            "name": self._name_of(result),
            "response": {"error" if result.is_error else "result": text},
        }
        if result.call_id:
            found["id"] = result.call_id
        return {"functionResponse": found}

    def _said(self, part: ContentPart) -> Iterable[Json]:
        if isinstance(part, Text):
            if part.text:
                yield {"text": part.text}
        elif isinstance(part, Image | Document):
            found = _medium(part)
            if found is None:
                text, warning = left_out(part, "Gemini")
                self.warnings.append(warning)
                found = {"text": text.text}
            yield found


def _medium(part: Image | Document) -> Json | None:
    if part.url:
        return {"fileData": {"fileUri": part.url}} if part.url.startswith(_FILES) else None
    kind = media_type(part)
    if isinstance(part, Document) and kind not in ("application/pdf", *_TEXTS):
        text = plain_text(part)
        return {"text": text} if text else None
    if kind not in (*_IMAGES, *_TEXTS, "application/pdf"):
        return None
    return {"inlineData": {"mimeType": kind, "data": part.data}}


# ---------------------------------------------------------------- tools and thinking


def rendered_tools(request: CompletionRequest) -> tuple[Json, list[str]]:
    """`(the fields of a body that are about tools, warnings)`."""
    if not request.tools:
        return {}, []
    found: Json = {"tools": [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]}
    calling: Json = {}
    if request.tool_choice in TOOL_CHOICES:
        calling = {"mode": _MODES[request.tool_choice]}
    elif request.tool_choice:
        calling = {"mode": "ANY", "allowedFunctionNames": [tool_name(request.tool_choice)]}
    if calling:
        found["toolConfig"] = {"functionCallingConfig": calling}
    warnings = [] if request.parallel_tool_calls is not False else ["parallel_tool_calls left out"]
    strict = [tool.name for tool in request.tools if tool.strict]
    warnings += [f"tool {name}: its arguments are not held to the schema" for name in strict]
    return found, warnings


def _declaration(tool: Tool) -> Json:
    schema, description = parameters_of(tool)
    found: Json = {"name": tool_name(tool.name)}
    if description:
        found["description"] = description
    if schema["properties"] or schema.keys() - {"type", "properties"}:
        found["parametersJsonSchema"] = schema
    return found


# https://ai.google.dev/gemini-api/docs/openai: how efforts compare. No level turns thinking off.
_BUDGETS = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
_LEAST_BUDGET, _LEAST_ANSWER = 128, 1_024
_LEVELS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def rendered_thinking(request: CompletionRequest) -> tuple[Json, list[str]]:
    """`(thinkingConfig, warnings)`; an empty one where nothing is asked for."""
    effort = request.reasoning_effort
    if effort is None:
        return {}, []
    if request.parameters.get("thinking") == "budget":
        room = max(_LEAST_BUDGET, request.max_tokens - _LEAST_ANSWER)  # it counts towards max_tokens
        return {"thinkingBudget": min(_BUDGETS[effort], room)}, []
    warnings = ["reasoning_effort none is sent as low"] if effort == "none" else []
    return {"thinkingLevel": _LEVELS[effort]}, warnings
