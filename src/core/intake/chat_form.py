"""Messages and tools as a user writes them: in the form of OpenAI's chat completions.

    {"role": "user", "content": [{"type": "text", ...}, {"type": "image_url", ...}, {"type": "file", ...}]}
    {"role": "assistant", "content": "...", "tool_calls": [{"id", "type": "function", "function": {...}}]}
    {"role": "tool", "tool_call_id": "...", "content": "..."}

`is_error` of a tool's result and `file_url` are ours: the chat form has neither. The role `developer` is
`system`. These shapes check types and keys; `chat_reading` checks what they mean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

NAME_PATTERN = "[a-zA-Z0-9_-]{1,64}"  # of a tool: what every API takes
Json = dict[str, Any]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class TextPart(_Shape):
    """A text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Shape):
    """`url`: a data URL with base64, or an https URL, which only the provider fetches."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Shape):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class FileContent(_Shape):
    """`file_data`: a data URL with base64; or `file_url`, which only the provider fetches."""

    file_data: str | None = None
    file_url: str | None = None
    filename: Annotated[str, Field(max_length=200)] | None = None


class FilePart(_Shape):
    """A document."""

    type: Literal["file"]
    file: FileContent


class CalledFunction(_Shape):
    """`arguments`: a JSON object as text."""

    name: str
    arguments: str


class ToolCallFields(_Shape):
    """A call of a tool that the model asks for."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["function"] = "function"
    function: CalledFunction


class MessageFields(_Shape):
    """One turn of a conversation. `content` is a text, or a list of parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    # Each part is checked by its own shape, so that a message names one problem and not one for each shape.
    content: SkipValidation[str | list[TextPart | ImagePart | FilePart] | None] = None
    tool_calls: list[ToolCallFields] | None = None
    tool_call_id: str | None = None
    is_error: bool = False


class FunctionFields(_Shape):
    """`parameters`: a JSON schema of type object."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class ToolFields(_Shape):
    """A function that the model may call."""

    type: Literal["function"]
    function: FunctionFields


class NamedFunction(_Shape):
    name: str


class ToolChoiceFields(_Shape):
    """The one function that must be called."""

    type: Literal["function"]
    function: NamedFunction


PARTS: dict[str, type[TextPart | ImagePart | FilePart]] = {
    "text": TextPart,
    "image_url": ImagePart,
    "file": FilePart,
}
# Keys of an assistant's message as OpenAI's API answers it, where they say nothing.
WITHOUT_MEANING: dict[str, tuple[Any, ...]] = {
    "refusal": (None,),
    "annotations": (None, []),
    "audio": (None,),
    "function_call": (None,),
}
