"""Reads messages and tools in the form of `chat_form`. Every message says where: `messages[2].content[0]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...answer_schema import check_schema
from ...errors import InputError, hint
from ...messages import TOOL_CHOICES, Document, Image, Message, Text, Tool, ToolCall, ToolResult
from .chat_form import (
    NAME_PATTERN,
    PARTS,
    WITHOUT_MEANING,
    FileContent,
    FilePart,
    ImagePart,
    MessageFields,
    ToolCallFields,
    ToolChoiceFields,
    ToolFields,
)
from .chat_media import read_document, read_image
from .json_text import parse_json
from .validation_messages import Path, kind_of, path_text, shown, validation_message

MAX_MEDIA_CHARS = 16 * 2**20  # base64 of all images and documents of a task
MAX_TOOLS = 128
CHOICE_FORM = '{"type": "function", "function": {"name": ...}}'
_NAME = re.compile(NAME_PATTERN)
# What a message of each role may hold.
_ALLOWED = {
    "system": ("text",),
    "user": ("text", "image_url", "file"),
    "assistant": ("text",),
    "tool": ("text", "image_url", "file"),
}
_PLAIN = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_Shape = TypeVar("_Shape", bound=BaseModel)


def read_messages(value: Any, at: Path = ("messages",)) -> tuple[Message, ...]:
    """The conversation. `Message`s of a program are taken as they are. Raises InputError."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{path_text(at)} must be a list, not {kind_of(value)}")
    messages = tuple(_read_message(each, (*at, index)) for index, each in enumerate(value))
    if not any(message.role == "user" for message in messages):
        raise InputError(f"{path_text(at)} needs at least one message with role 'user'")
    if any(type(message.content) is not str for message in messages):
        _check_calls(messages, at)
        _check_size(messages, at)
    return messages


def _read_message(value: Any, at: Path) -> Message:
    if isinstance(value, Message):
        return value
    if type(value) is dict and len(value) == 2:  # most messages are a role and a text
        role, content = value.get("role"), value.get("content")
        if type(role) is str and role in _PLAIN and type(content) is str and content.strip():
            return Message(_PLAIN[role], content)
    if isinstance(value, dict) and value.get("role") == "assistant":
        value = {key: each for key, each in value.items() if each not in WITHOUT_MEANING.get(key, ())}
    return _message_of(_shaped(MessageFields, value, at), at)


def _message_of(fields: MessageFields, at: Path) -> Message:
    role = _PLAIN.get(fields.role, fields.role)
    _check_keys(fields, role, at)
    parts = _read_content(fields, role, (*at, "content"))
    if role == "tool":
        return Message(role, (ToolResult(fields.tool_call_id or "", parts, fields.is_error),))
    calls = tuple(_read_call(c, (*at, "tool_calls", i)) for i, c in enumerate(fields.tool_calls or ()))
    if calls or len(parts) != 1 or not isinstance(parts[0], Text):
        return Message(role, (*parts, *calls))
    return Message(role, parts[0].text)


def _check_keys(fields: MessageFields, role: str, at: Path) -> None:
    """Raises InputError for a key that another role has, and for one that is missing."""
    given = fields.model_fields_set
    for key, owner in (("tool_calls", "assistant"), ("tool_call_id", "tool"), ("is_error", "tool")):
        if key in given and getattr(fields, key) is not None and role != owner:
            raise InputError(f"{path_text((*at, key))} is only allowed with role {owner!r}")
    if role == "tool" and not fields.tool_call_id:
        raise InputError(f"{path_text((*at, 'tool_call_id'))} is missing")
    if fields.tool_calls == []:
        raise InputError(f"{path_text((*at, 'tool_calls'))} must be at least 1 long, not empty")
    if "content" not in given and not fields.tool_calls:
        raise InputError(f"{path_text((*at, 'content'))} is missing")


# ------------------------------------------------------------------ content


def _read_content(fields: MessageFields, role: str, at: Path) -> tuple[Text | Image | Document, ...]:
    """The parts of a message's content. A tool may return nothing, and a call needs no text beside it."""
    content: Any = fields.content
    may_be_empty = role == "tool" or bool(fields.tool_calls)
    if may_be_empty and content in (None, "", []):
        return ()
    if isinstance(content, str):
        if not content.strip():
            raise InputError(f"{path_text(at)} is empty")
        return (Text(content),)
    if not isinstance(content, list):
        raise InputError(f"{path_text(at)} must be text or a list of parts, not {kind_of(content)}")
    if not content:
        raise InputError(f"{path_text(at)} is empty")
    return tuple(_read_part(part, role, (*at, index)) for index, part in enumerate(content))


def _read_part(value: Any, role: str, at: Path) -> Text | Image | Document:
    allowed = _ALLOWED[role]
    if not isinstance(value, dict):
        raise InputError(f"{path_text(at)} must be an object, not {kind_of(value)}")
    kind = value.get("type")
    if kind not in allowed:
        names = " or ".join(map(repr, allowed))
        what = "is missing; it must be" if kind is None else "must be"
        rest = "" if kind is None else f", not {shown(kind)}"
        raise InputError(f"{path_text((*at, 'type'))} {what} {names} with role {role!r}{rest}")
    part = _shaped(PARTS[kind], value, at)
    if isinstance(part, ImagePart):
        where = path_text((*at, "image_url", "url"))[1:-1]
        return read_image(part.image_url.url, part.image_url.detail or "", where)
    if isinstance(part, FilePart):
        return _read_file(part.file, (*at, "file"))
    if not part.text.strip():
        raise InputError(f"{path_text((*at, 'text'))} is empty")
    return Text(part.text)


def _read_file(given: FileContent, at: Path) -> Document:
    if (given.file_data is None) == (given.file_url is None):
        raise InputError(f"{path_text(at)} needs one of 'file_data' and 'file_url'")
    key, url = ("file_data", given.file_data) if given.file_url is None else ("file_url", given.file_url)
    is_data = (url or "").startswith("data:")
    if is_data != (key == "file_data"):
        wanted = "a data URL" if key == "file_data" else "an https URL"
        raise InputError(f"{path_text((*at, key))} must be {wanted}, not {shown(url)}")
    return read_document(url or "", given.filename or "", path_text((*at, key))[1:-1])


def _check_size(messages: Iterable[Message], at: Path) -> None:
    parts = [part for message in messages if type(message.content) is not str for part in message.content]
    inner = [each for part in parts for each in (part.parts if isinstance(part, ToolResult) else (part,))]
    chars = sum(len(each.data) for each in inner if isinstance(each, Image | Document))
    if chars > MAX_MEDIA_CHARS:
        raise InputError(
            f"{path_text(at)} holds {chars / 2**20:.1f} MiB of images and documents in base64; "
            f"at most {MAX_MEDIA_CHARS // 2**20} MiB are allowed"
        )


# ------------------------------------------------------------------ tool calls


def _read_call(given: ToolCallFields, at: Path) -> ToolCall:
    check_tool_name(given.function.name, (*at, "function", "name"))
    where = path_text((*at, "function", "arguments"))
    text = given.function.arguments.strip() or "{}"  # some models write nothing for no arguments
    try:
        arguments = parse_json(text)
    except InputError as error:
        raise InputError(f"{where} is {error.what}") from None
    if not isinstance(arguments, dict):
        raise InputError(f"{where} must be the text of a JSON object, not of {kind_of(arguments)}")
    return ToolCall(given.id, given.function.name, text)


def _check_calls(messages: Sequence[Message], at: Path) -> None:
    """Raises InputError unless every call has one result, in the tool messages right behind it."""
    seen: set[str] = set()
    pending: dict[str, Path] = {}
    called: set[str] = set()  # by the last message of the assistant
    for index, message in enumerate(messages):
        here = (*at, index)
        if message.role == "tool":
            for result in message.parts:
                if isinstance(result, ToolResult):
                    _take_result(result, pending, called, here)
            continue
        _check_answered(pending)
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        called = {call.id for call in calls}
        for number, call in enumerate(calls):
            path = (*here, "tool_calls", number, "id")
            if call.id in seen:
                raise InputError(f"{path_text(path)}: an earlier call has the id {shown(call.id)}")
            seen.add(call.id)
            pending[call.id] = path
    _check_answered(pending)


def _take_result(result: ToolResult, pending: dict[str, Path], called: set[str], at: Path) -> None:
    if pending.pop(result.call_id, None) is None:
        why = "has a result already" if result.call_id in called else "is no call of the message before it"
        raise InputError(f"{path_text((*at, 'tool_call_id'))}: {shown(result.call_id)} {why}")


def _check_answered(pending: Mapping[str, Path]) -> None:
    for call_id, path in pending.items():
        raise InputError(
            f"{path_text(path)}: the call {shown(call_id)} has no result; a message with role 'tool' and "
            "this 'tool_call_id' must follow"
        )


# ------------------------------------------------------------------ tools


def read_tools(value: Any, at: Path = ("tools",)) -> tuple[Tool, ...]:
    """The tools. `Tool`s of a program are taken as they are. Raises InputError."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{path_text(at)} must be a list, not {kind_of(value)}")
    if len(value) > MAX_TOOLS:
        raise InputError(f"{path_text(at)} must be at most {MAX_TOOLS} long, not {len(value)}")
    tools = tuple(_read_tool(each, (*at, index)) for index, each in enumerate(value))
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            where = path_text((*at, index, "function", "name"))
            raise InputError(f"{where}: an earlier tool has the name {shown(name)}")
    return tools


def _read_tool(value: Any, at: Path) -> Tool:
    if isinstance(value, Tool):
        return value
    function = _shaped(ToolFields, value, at).function
    check_tool_name(function.name, (*at, "function", "name"))
    if function.name in TOOL_CHOICES:
        where = path_text((*at, "function", "name"))
        raise InputError(f"{where} must not be {function.name!r}, which is a 'tool_choice'")
    parameters = function.parameters
    if parameters is not None:
        where = path_text((*at, "function", "parameters"))
        if parameters.get("type", "object") != "object":
            raise InputError(f"{where} must be a JSON schema with type 'object'")
        try:
            check_schema(parameters)
        except InputError as error:
            raise InputError(error.what.replace("'response_schema'", where, 1)) from None
    return Tool(function.name, function.description or "", parameters, function.strict)


def check_tool_name(name: str, at: Path) -> None:
    """Raises InputError for a name that an API does not take."""
    if not _NAME.fullmatch(name):
        allowed = "1 to 64 of a-z, A-Z, 0-9, _ and -"
        raise InputError(f"{path_text(at)} must be {allowed}, not {shown(name)}")


def read_tool_choice(value: Any, at: Path = ("tool_choice",)) -> str:
    """One of `TOOL_CHOICES`, or the name of the tool that must be called. Raises InputError."""
    if value in TOOL_CHOICES:
        return str(value)
    if isinstance(value, dict):
        return _shaped(ToolChoiceFields, value, at).function.name
    allowed = ", ".join(map(repr, TOOL_CHOICES))
    raise InputError(f"{path_text(at)} must be {allowed} or {CHOICE_FORM}, not {shown(value)}")


def check_tool_choice(choice: str, tools: Sequence[Tool], at: Path = ("tool_choice",)) -> None:
    """Raises InputError for the choice of a tool that there is not."""
    names = [tool.name for tool in tools]
    if not names:
        raise InputError(f"{path_text(at)} needs 'tools'")
    if choice not in TOOL_CHOICES and choice not in names:
        raise InputError(f"{path_text(at)}: no tool {shown(choice)}; {hint(choice, names)}")


def _shaped(shape: type[_Shape], value: Any, at: Path) -> _Shape:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise InputError(validation_message(error, shape, at)) from None
