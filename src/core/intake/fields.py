"""The fields of a task as a user writes it, and their limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from ...answer_choices import choice_schema
from ...answer_schema import check_schema
from ...durations import seconds_of
from ...errors import InputError
from ...messages import Message, Tool
from ...records import GENERAL
from .chat_form import MessageFields, ToolChoiceFields, ToolFields
from .chat_reading import check_tool_choice, read_messages, read_tool_choice, read_tools

MAX_ID_CHARS = 200
MAX_PRIORITY = 1_000_000
MAX_SEED = 2**63 - 1  # OpenAI takes 64 bits with a sign
MAX_BATCH_CHARS = 500


def check_batch_name(name: str, key: str = "'batch'") -> str:
    """Return the name. Raises InputError where it is too long or not printable. `key`: what gives it."""
    if not 0 < len(name) <= MAX_BATCH_CHARS:
        raise InputError(f"{key} needs 1 to {MAX_BATCH_CHARS} characters, not {len(name)}")
    if not name.strip():
        raise InputError(f"{key} is blank")
    if not name.isprintable():
        raise InputError(f"{key} must not contain control characters or line ends")
    return name


class _Written:
    """Values that `read` makes of what a user writes, which is documented as `form`."""

    def __init__(self, read: Callable[[Any], Any], form: Any) -> None:
        self._read, self._form = read, form

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._value)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(TypeAdapter(self._form).core_schema)

    def _value(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self._read(value)
        except InputError as error:
            raise ValueError(error.what) from None


def _read_deadline(value: object) -> float:
    """Seconds from now."""
    try:
        return seconds_of(value)
    except ValueError as error:
        raise InputError(f"'deadline' {error}") from None


Name = Annotated[str, Field(min_length=1, max_length=200)]


class TaskFields(BaseModel):
    """A task as a user writes it. Strict: "5" is not a number, and an unknown key is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    prompt: str | None = None
    messages: Annotated[tuple[Message, ...] | None, _Written(read_messages, list[MessageFields])] = None
    system: str | None = None
    task_type: Name = GENERAL
    agent: Name | None = None
    tier: Literal["auto", "economy", "standard", "premium"] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED - 1, le=MAX_SEED)] | None = None
    stop: list[Name] = Field(default_factory=list)
    deadline: Annotated[float | None, _Written(_read_deadline, float | str)] = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    models: list[Name] = Field(default_factory=list)
    providers: list[Name] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    response_schema: dict[str, Any] | None = None
    choices: Annotated[list[Name], Field(min_length=1)] | None = None
    service_tier: Literal["flex", "standard"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    tools: Annotated[tuple[Tool, ...] | None, _Written(read_tools, list[ToolFields])] = None
    tool_choice: Annotated[
        str | None, _Written(read_tool_choice, Literal["auto", "none", "required"] | ToolChoiceFields)
    ] = None
    parallel_tool_calls: bool | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _id_as_text(cls, value: Any) -> Any:
        """Row numbers are common ids; `7` and `"7"` are the same id."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("id")
    @classmethod
    def _id_is_printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("'id' must not contain control characters or line ends")
        return value

    @field_validator("task_type", "models", "providers")
    @classmethod
    def _names_are_printable(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        if not all(name.isprintable() for name in ([value] if isinstance(value, str) else value)):
            raise ValueError(f"{info.field_name!r} must not contain control characters or line ends")
        return value

    @field_validator("response_schema")
    @classmethod
    def _is_a_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            try:
                check_schema(value)
            except InputError as error:
                raise ValueError(error.what) from None
        return value

    @field_validator("choices")
    @classmethod
    def _choices_differ(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("'choices' contains a duplicate")
        return value

    @field_validator("stop", "models", "providers", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_one_thing(self) -> TaskFields:
        if self.prompt is not None and self.messages is not None:
            raise ValueError("both 'prompt' and 'messages' are given; one of them is allowed")
        if self.prompt is None and self.messages is None:
            raise ValueError("no prompt: give 'prompt' or 'messages'")
        if self.response_schema is not None and self.choices is not None:
            raise ValueError("both 'response_schema' and 'choices' are given; one of them is allowed")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("'prompt' is empty")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> TaskFields:
        if self.system is not None and any(m.role == "system" for m in self.messages or ()):
            raise ValueError("both 'system' and a system message are given; one of them is allowed")
        try:
            if self.tool_choice is not None and (self.tools or self.tool_choice != "none"):
                check_tool_choice(self.tool_choice, self.tools or ())
        except InputError as error:
            raise ValueError(error.what) from None
        if self.parallel_tool_calls is not None and not self.tools:
            raise ValueError("'parallel_tool_calls' needs 'tools'")
        return self

    def turns(self) -> tuple[Message, ...]:
        """The conversation, the system prompt first."""
        head = [Message("system", self.system)] if self.system else []
        if self.prompt is not None:
            return (*head, Message("user", self.prompt))
        return (*head, *(self.messages or ()))

    def schema_of_answer(self) -> Mapping[str, Any] | None:
        """The JSON schema of the answer; one of `choices` is answered as `{"choice": ...}`."""
        if self.choices is None:
            return self.response_schema
        return choice_schema(self.choices)
