"""Messages with parts, tools and their calls as users write them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import RowDefaults, TaskContext, make_task
from src.core.intake.chat_reading import MAX_MEDIA_CHARS
from src.errors import InputError
from src.messages import Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from src.records import Task
from tests.conversations import PIXEL

CONTEXT = TaskContext("b", load_settings(environ={}), 1_800_000_000.0)
PNG = f"data:image/png;base64,{PIXEL}"
PDF = base64.b64encode(b"%PDF-1.4 /Type /Page").decode()
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
ASKED = {"role": "user", "content": "What is the weather?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RETURNED = {"role": "tool", "tool_call_id": "c1", "content": "Rain"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}


def read(*turns: Any, **fields: Any) -> Task:
    return make_task({"messages": list(turns), **fields}, CONTEXT)


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**content: Any) -> dict[str, Any]:
    return {"type": "file", "file": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def calling(**changes: Any) -> dict[str, Any]:
    return {**CALLED, "tool_calls": [{**CALL, **changes}]}


def function(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {**WEATHER["function"], **changes}}  # type: ignore[dict-item]


CONVERSATIONS: dict[str, tuple[list[Any], tuple[Message, ...]]] = {
    "a text": ([ASKED], (Message("user", "What is the weather?"),)),
    "one part with text is that text": ([user(text("Hi"))], (Message("user", "Hi"),)),
    "several texts": ([user(text("a"), text("b"))], (Message("user", (Text("a"), Text("b"))),)),
    "an image": (
        [user(text("See"), image(PNG, detail="low"))],
        (Message("user", (Text("See"), Image("image/png", PIXEL, detail="low"))),),
    ),
    "an image alone": ([user(image(PNG))], (Message("user", (Image("image/png", PIXEL),)),)),
    "an image elsewhere": (
        [user(image("https://example.org/a.png?b=c"))],
        (Message("user", (Image(url="https://example.org/a.png?b=c"),)),),
    ),
    "a name for JPEG that many use": (
        [user(image("data:image/jpg;base64,/9j/"))],
        (Message("user", (Image("image/jpeg", "/9j/"),)),),
    ),
    "a document": (
        [user(file(file_data=f"data:application/pdf;base64,{PDF}", filename="a.pdf"))],
        (Message("user", (Document("application/pdf", PDF, name="a.pdf"),)),),
    ),
    "a document elsewhere": (
        [user(file(file_url="https://example.org/a.pdf"))],
        (Message("user", (Document(url="https://example.org/a.pdf"),)),),
    ),
    "a call and its result": (
        [ASKED, CALLED, RETURNED],
        (
            Message("user", "What is the weather?"),
            Message("assistant", (ToolCall("c1", "weather", '{"city": "Bonn"}'),)),
            Message("tool", (ToolResult("c1", (Text("Rain"),)),)),
        ),
    ),
    "two calls, their results in any order, one of them an error": (
        [
            ASKED,
            {"role": "assistant", "content": "I look.", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
            {"role": "tool", "tool_call_id": "c2", "content": [text("No"), image(PNG)], "is_error": True},
            {**RETURNED, "content": ""},
        ],
        (
            Message("user", "What is the weather?"),
            Message(
                "assistant",
                (
                    Text("I look."),
                    ToolCall("c1", "weather", '{"city": "Bonn"}'),
                    ToolCall("c2", "weather", '{"city": "Bonn"}'),
                ),
            ),
            Message("tool", (ToolResult("c2", (Text("No"), Image("image/png", PIXEL)), True),)),
            Message("tool", (ToolResult("c1", ()),)),
        ),
    ),
    "a call without arguments": (
        [ASKED, calling(function={"name": "now", "arguments": ""}), RETURNED],
        (
            Message("user", "What is the weather?"),
            Message("assistant", (ToolCall("c1", "now", "{}"),)),
            Message("tool", (ToolResult("c1", (Text("Rain"),)),)),
        ),
    ),
    "an answer as OpenAI's package writes it": (
        [
            {"role": "developer", "content": "Be brief."},
            ASKED,
            {
                "role": "assistant", "content": "Rain.", "refusal": None, "annotations": [], "audio": None,
                "function_call": None, "tool_calls": None,
            },
        ],
        (
            Message("system", "Be brief."),
            Message("user", "What is the weather?"),
            Message("assistant", "Rain."),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("turns", "messages"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_a_conversation_is_read_into_its_parts(turns: list[Any], messages: tuple[Message, ...]) -> None:
    assert read(*turns).messages == messages


BAD: dict[str, tuple[list[Any], str]] = {
    "a list as role": ([{"role": ["user"], "content": "a"}], "'messages[0].role' must be one of 'system'"),
    "no part": ([user("Hi")], "'messages[0].content[0]' must be an object, not text"),
    "no parts": ([user()], "'messages[0].content' is empty"),
    "a part without a type": (
        [user({"text": "a"})],
        "'messages[0].content[0].type' is missing; it must be 'text' or 'image_url' or 'file' with role",
    ),
    "a part of another type": (
        [ASKED, user(text("a"), {"type": "input_audio", "input_audio": {}})],
        "'messages[1].content[1].type' must be 'text' or 'image_url' or 'file' with role 'user', not 'inp",
    ),
    "an image of the assistant": (
        [ASKED, {"role": "assistant", "content": [image(PNG)]}],
        "'messages[1].content[0].type' must be 'text' with role 'assistant', not 'image_url'",
    ),
    "an image as text": (
        [user({"type": "image_url", "image_url": PNG})],
        "'messages[0].content[0].image_url' must be an object, not text",
    ),
    "a slip in an image": (
        [user(image(PNG, detial="low"))],
        "unknown key 'detial' in 'messages[0].content[0].image_url'; did you mean 'detail'?",
    ),
    "another detail": (
        [user(image(PNG, detail="best"))],
        "'messages[0].content[0].image_url.detail' must be one of 'auto', 'low' or 'high', not 'best'",
    ),
    "wrong base64": (
        [user(text("a"), image(PNG[:-3]))],
        "'messages[0].content[1].image_url.url' is not valid base64: ",
    ),
    "no base64": (
        [user(image("data:image/png,abc"))],
        "'messages[0].content[0].image_url.url' must be like data:image/png;base64,..., not",
    ),
    "no data": ([user(image("data:image/png;base64,"))], "'messages[0].content[0].image_url.url' is empty"),
    "an unknown media type": (
        [user(image("data:image/tiff;base64,AAAA"))],
        "'messages[0].content[0].image_url.url' has the media type 'image/tiff'; allowed are image/png, ",
    ),
    "a picture under a wrong name": (
        [user(image(PNG.replace("png", "jpeg")))],
        "'messages[0].content[0].image_url.url' says image/jpeg, but holds image/png",
    ),
    "a PDF that is none": (
        [user(file(file_data="data:application/pdf;base64,AAAA"))],
        "'messages[0].content[0].file.file_data' says application/pdf, but holds something else",
    ),
    "an address without TLS": (
        [user(image("http://example.org/a.png"))],
        "'messages[0].content[0].image_url.url' must be a data URL or begin with https://, not",
    ),
    "a file of this machine": (
        [user(file(file_url="file:///etc/passwd"))],
        "'messages[0].content[0].file.file_url' must be a data URL or begin with https://, not",
    ),
    "a long address": (
        [user(image("https://example.org/" + "a" * 9_000))],
        "'messages[0].content[0].image_url.url' must be at most 8,192 characters, not 9,020",
    ),
    "an uploaded file": (
        [user(file(file_id="f1"))],
        "unknown key 'file_id' in 'messages[0].content[0].file'; did you mean 'file_data'?",
    ),
    "no file": ([user(file())], "'messages[0].content[0].file' needs one of 'file_data' and 'file_url'"),
    "an empty text": ([user(text(" "), image(PNG))], "'messages[0].content[0].text' is empty"),
    "a result without its call": (
        [ASKED, RETURNED],
        "'messages[1].tool_call_id': 'c1' is no call of the message before it",
    ),
    "a result of an earlier call": (
        [ASKED, CALLED, RETURNED, ASKED, RETURNED],
        "'messages[4].tool_call_id': 'c1' is no call of the message before it",
    ),
    "two results of a call": (
        [ASKED, CALLED, RETURNED, RETURNED],
        "'messages[3].tool_call_id': 'c1' has a result already",
    ),
    "a result that names no call": (
        [ASKED, CALLED, {"role": "tool", "content": "Rain"}],
        "'messages[2].tool_call_id' is missing",
    ),
    "a result without content": (
        [ASKED, CALLED, {"role": "tool", "tool_call_id": "c1"}],
        "'messages[2].content' is missing",
    ),
    "a call without its result": (
        [ASKED, CALLED, ASKED],
        "'messages[1].tool_calls[0].id': the call 'c1' has no result; a message with role 'tool' and this",
    ),
    "a call at the end": ([ASKED, CALLED], "'messages[1].tool_calls[0].id': the call 'c1' has no result"),
    "an id of two calls": (
        [ASKED, CALLED, RETURNED, CALLED, RETURNED],
        "'messages[3].tool_calls[0].id': an earlier call has the id 'c1'",
    ),
    "a call of the user": (
        [{**ASKED, "tool_calls": [CALL]}],
        "'messages[0].tool_calls' is only allowed with role 'assistant'",
    ),
    "a result of the user": (
        [{**ASKED, "tool_call_id": "c1"}],
        "'messages[0].tool_call_id' is only allowed with role 'tool'",
    ),
    "no calls": ([ASKED, {**CALLED, "tool_calls": []}], "'messages[1].tool_calls' must be at least 1 long"),
    "arguments that are no text": (
        [ASKED, calling(function={"name": "weather", "arguments": {}}), RETURNED],
        "'messages[1].tool_calls[0].function.arguments' must be text, not an object",
    ),
    "arguments that are no JSON": (
        [ASKED, calling(function={"name": "weather", "arguments": "{city}"}), RETURNED],
        "'messages[1].tool_calls[0].function.arguments' is not JSON: ",
    ),
    "arguments that are a list": (
        [ASKED, calling(function={"name": "weather", "arguments": "[]"}), RETURNED],
        "'messages[1].tool_calls[0].function.arguments' must be the text of a JSON object, not of a list",
    ),
    "a name that no API takes": (
        [ASKED, calling(function={"name": "get weather", "arguments": "{}"}), RETURNED],
        "'messages[1].tool_calls[0].function.name' must be 1 to 64 of a-z, A-Z, 0-9, _ and -, not",
    ),
    "a refusal": (
        [ASKED, {"role": "assistant", "content": "No.", "refusal": "No."}],
        "unknown key 'refusal' in 'messages[1]'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("turns", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_conversation_is_refused_with_the_place(turns: list[Any], reason: str) -> None:
    with pytest.raises(InputError) as found:
        read(*turns)
    assert found.value.what.startswith(reason)
    assert "\n" not in found.value.what
    assert len(found.value.what) < 300


def test_images_have_a_limit_together() -> None:
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(MAX_MEDIA_CHARS * 3 // 8)).decode()
    half = image(f"data:image/png;base64,{data}")
    with pytest.raises(
        InputError, match=r"'messages' holds 16.0 MiB of images and documents in base64; at most"
    ):
        read(user(half, half))


# ------------------------------------------------------------------ tools

GOOD_TOOLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a tool": (
        {"tools": [function(description="Tells it.", strict=True)]},
        {"tools": (Tool("weather", "Tells it.", WEATHER["function"]["parameters"], True),)},  # type: ignore[index]
    ),
    "one without parameters": (
        {"tools": [{"type": "function", "function": {"name": "now"}}]},
        {"tools": (Tool("now"),)},
    ),
    "no choice": ({"tools": [WEATHER]}, {"tool_choice": "", "parallel_tool_calls": None}),
    "a choice": ({"tools": [WEATHER], "tool_choice": "required"}, {"tool_choice": "required"}),
    "a named tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tool_choice": "weather"},
    ),
    "one call at a time": (
        {"tools": [WEATHER], "parallel_tool_calls": False},
        {"parallel_tool_calls": False},
    ),
    "none of no tools": ({"tools": [], "tool_choice": "none"}, {"tools": (), "tool_choice": ""}),
    "an effort": ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
}


@pytest.mark.parametrize(("fields", "found"), GOOD_TOOLS.values(), ids=GOOD_TOOLS.keys())
def test_tools_are_read(fields: dict[str, Any], found: dict[str, Any]) -> None:
    task = read(ASKED, **fields)
    assert {name: getattr(task, name) for name in found} == found


BAD_TOOLS: dict[str, tuple[dict[str, Any], str]] = {
    "no list": ({"tools": WEATHER}, "'tools' must be a list, not an object"),
    "many": ({"tools": [WEATHER] * 129}, "'tools' must be at most 128 long, not 129"),
    "one twice": (
        {"tools": [WEATHER, WEATHER]},
        "'tools[1].function.name': an earlier tool has the name 'weather'",
    ),
    "a tool of OpenAI's own": (
        {"tools": [{"type": "web_search"}]},
        "'tools[0].type' must be 'function', not 'web_search'",
    ),
    "the form of another API": (
        {"tools": [{"name": "weather", "input_schema": {}}]},
        "unknown key 'name' in 'tools[0]'",
    ),
    "a name": ({"tools": [function(name="a b")]}, "'tools[0].function.name' must be 1 to 64 of"),
    "a name that is a choice": (
        {"tools": [function(name="auto")]},
        "'tools[0].function.name' must not be 'auto', which is a 'tool_choice'",
    ),
    "parameters of another type": (
        {"tools": [function(parameters={"type": "array"})]},
        "'tools[0].function.parameters' must be a JSON schema with type 'object'",
    ),
    "parameters that are no schema": (
        {"tools": [function(parameters={"type": "object", "properties": 5})]},
        "'tools[0].function.parameters' is not a JSON schema: ",
    ),
    "a choice of nothing": ({"tool_choice": "required"}, "'tool_choice' needs 'tools'"),
    "an unknown choice": (
        {"tools": [WEATHER], "tool_choice": "any"},
        "'tool_choice' must be 'auto', 'none', 'required' or {\"type\": \"function\", ",
    ),
    "an unknown tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "wether"}}},
        "'tool_choice': no tool 'wether'; did you mean 'weather'?",
    ),
    "parallel calls of nothing": ({"parallel_tool_calls": True}, "'parallel_tool_calls' needs 'tools'"),
    "an unknown effort": (
        {"reasoning_effort": "max"},
        "'reasoning_effort' must be one of 'none', 'minimal', 'low', 'medium' or 'high', not 'max'",
    ),
}


@pytest.mark.parametrize(("fields", "reason"), BAD_TOOLS.values(), ids=BAD_TOOLS.keys())
def test_bad_tools_are_refused_with_the_place(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as found:
        read(ASKED, **fields)
    assert found.value.what.startswith(reason)
    assert "\n" not in found.value.what


# ------------------------------------------------------------------ identity


def test_the_id_of_a_row_depends_on_all_that_it_sends() -> None:
    same = {read(ASKED).id, read(user(text("What is the weather?"))).id}
    assert len(same) == 1, "one part with text is that text"
    others = [
        read(user(image(PNG))),
        read(user(image(PNG, detail="low"))),
        read(user(text("What is the weather?"), image(PNG))),
        read(ASKED, tools=[WEATHER]),
        read(ASKED, tools=[function(description="x")]),
        read(ASKED, tools=[WEATHER], tool_choice="required"),
        read(ASKED, tools=[WEATHER], parallel_tool_calls=False),
        read(ASKED, reasoning_effort="low"),
        read(ASKED, CALLED, RETURNED),
        read(ASKED, CALLED, {**RETURNED, "is_error": True}),
    ]
    assert len({task.id for task in others} | same) == len(others) + 1


def test_an_agent_has_its_prompt_before_a_conversation_with_parts() -> None:
    task = read(user(text("See"), image(PNG)), agent="gpt-reviewer")
    assert [message.role for message in task.messages] == ["system", "user"]
    assert task.messages[1].content == (Text("See"), Image("image/png", PIXEL))


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_of_the_row_wins_over_the_option(role: str) -> None:
    from src.core.intake import missing

    row = {"messages": [{"role": role, "content": "Mine."}, ASKED]}
    assert missing(row, RowDefaults(system="Of all.").given()) == {}


def test_messages_of_a_program_are_taken_as_they_are() -> None:
    """Reasoning has no form that a user writes, and a program must be able to give it back."""
    answer = (
        Reasoning("{}", "anthropic/claude"),
        Text("I look.", cache=True),
        ToolCall("c1", "weather", "{}"),
    )
    messages = (
        Message("user", "What is the weather?"),
        Message("assistant", answer),
        Message("tool", (ToolResult("c1", (Text("Rain"),)),)),
    )
    assert read(*messages, tools=[Tool("weather")]).messages == messages
    with pytest.raises(InputError, match="half of a surrogate pair"):
        read(Message("user", (Text("\ud800"),)))


def test_a_plain_row_is_what_it_was() -> None:
    """Its id in a batch that an earlier version began."""
    assert make_task({"prompt": "Hi", "system": "Be brief.", "seed": 3}, CONTEXT).id == "6411ddc1236cf5f628cf"
    assert json.dumps(read(ASKED).messages[0].content) == '"What is the weather?"'
