"""Gemini: the turns of a conversation and their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .gemini_media import read_file, read_inline, resolution_of
from .prompt import Prompt
from .reasoning import is_signed
from .shapes import Json, refused

# each as it is in JSON and as the protocol buffer names it; both are accepted
_DATA = {
    "text": "text",
    "inlineData": "inline_data",
    "fileData": "file_data",
    "functionCall": "function_call",
    "functionResponse": "function_response",
    "executableCode": "executable_code",
    "codeExecutionResult": "code_execution_result",
}
_KINDS = {name: camel for camel, snake in _DATA.items() for name in (camel, snake)}


@dataclass(slots=True)
class Turn:
    """Whose turn it is, and how many function calls and results it holds."""

    role: str
    calls: int = 0
    results: int = 0
    resolution: str = ""  # of the images in the part that is read


def read_turn(prompt: Prompt, role: str, parts: Any, i: int, settings: Json) -> Turn:
    """Add a turn to the prompt. Raises Fail for what Gemini refuses."""
    turn = Turn(role)
    if not isinstance(parts, list | None) or not all(isinstance(part, dict) for part in parts or ()):
        raise refused(f"Invalid value at 'contents[{i}].parts'")
    if not parts:
        raise refused(f"* GenerateContentRequest.contents[{i}].parts: contents.parts must not be empty.\n")
    for j, part in enumerate(parts):
        if part.get("thought") is True and "text" in part:  # thoughts of earlier answers are not read
            continue
        where = f"contents[{i}].parts[{j}]"
        kind = _kind(part, where)
        data = part[kind] if kind in part else part[_DATA[kind]]
        if kind == "text" and isinstance(data, str):  # most parts
            prompt.text(role, data)
        else:
            turn.resolution = resolution_of(part, settings)
            _check_signature(prompt, turn, part, i + 1)
            _read_part(prompt, turn, kind, data, where)
    return turn


def _check_signature(prompt: Prompt, turn: Turn, part: Json, position: int) -> None:
    """The first call of a turn bears a signature; it counts from the last text of the user on."""
    signed = part.get("thoughtSignature", part.get("thought_signature"))
    data = part.get("functionCall") or part.get("function_call")
    if data is None:
        return
    if signed is None:
        if turn.calls == 0 and prompt.unsigned_call is None:
            prompt.unsigned_call = f"`default_api:{data.get('name')}` , position {position}"
    elif not is_signed(signed, str(data.get("name"))):
        raise refused("Corrupted thought signature.")


def _kind(part: Json, where: str) -> str:
    """Which kind of data a part holds."""
    kinds = [_KINDS[name] for name in part if name in _KINDS]
    if not kinds or part.get("text") == "":
        text = "required oneof field 'data' must have one initialized field"
        raise refused(f"* GenerateContentRequest.{where}.data: {text}\n")
    if len(kinds) > 1:
        raise refused(f"Invalid value at '{where}' (oneof), oneof field 'data' is already set.")
    return kinds[0]


def _read_part(prompt: Prompt, turn: Turn, kind: str, data: Any, where: str) -> None:
    if kind == "text":
        raise refused(f"Invalid value at '{where}.text' (TYPE_STRING), {data!r}")
    if kind == "functionCall":
        _check_function(turn, "assistant", data, f"{where}.function_call")
        turn.calls += 1
        prompt.call(data["name"], data.get("args") or {})
    elif kind == "functionResponse":
        _check_function(turn, "user", data, f"{where}.function_response")
        if not isinstance(data.get("response"), dict):
            raise refused(
                f"Invalid value at '{where}.function_response.response' "
                "(type.googleapis.com/google.protobuf.Struct)"
            )
        turn.results += 1
        prompt.text("tool", _said(data["response"]))
    elif kind == "inlineData":
        read_inline(prompt, turn.role, data, where, turn.resolution)
    elif kind == "fileData":
        read_file(prompt, turn.role, data, turn.resolution)
    else:
        prompt.text(turn.role, f"[{kind}]")


def _check_function(turn: Turn, role: str, data: Any, where: str) -> None:
    if not isinstance(data, dict) or not data.get("name"):
        raise refused(f"* GenerateContentRequest.{where}.name: Name cannot be empty.\n")
    if turn.role != role and not (role == "user" and turn.role == "function"):
        raise refused(
            "Please ensure that function calls are in model turns and function responses in user turns."
        )


def _said(response: Json) -> str:
    """The text of a result: the value alone where there is one, as other APIs send it."""
    [only, *others] = list(response.values()) or [""]
    return only if isinstance(only, str) and not others else str(response)
