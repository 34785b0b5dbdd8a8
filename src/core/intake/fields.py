"""The fields of a task as a user writes it, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ...answer_choices import choice_schema
from ...answer_schema import check_schema
from ...errors import InputError
from ...messages import Message
from ...records import GENERAL

MAX_ID_CHARS = 200
MAX_PRIORITY = 1_000_000
MAX_SEED = 2**63 - 1  # OpenAI takes 64 bits with a sign
MAX_BATCH_CHARS = 500


def check_batch_name(name: str) -> str:
    """Return the name. Raises InputError where it is too long or not printable."""
    if not 0 < len(name) <= MAX_BATCH_CHARS:
        raise InputError(f"'batch' needs 1 to {MAX_BATCH_CHARS} characters, not {len(name)}")
    if not name.isprintable():
        raise InputError("'batch' must not contain control characters or line ends")
    return name


class MessageFields(BaseModel):
    """One turn of a conversation as a user writes it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


Name = Annotated[str, Field(min_length=1, max_length=200)]


class TaskFields(BaseModel):
    """A task as a user writes it. Strict: "5" is not a number, and an unknown key is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    prompt: str | None = None
    messages: list[MessageFields] | None = None
    system: str | None = None
    task_type: Name = GENERAL
    agent: Name | None = None
    tier: Literal["auto", "economy", "standard", "premium"] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED - 1, le=MAX_SEED)] | None = None
    stop: list[Name] = Field(default_factory=list)
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    models: list[Name] = Field(default_factory=list)
    providers: list[Name] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    response_schema: dict[str, Any] | None = None
    choices: Annotated[list[Name], Field(min_length=1)] | None = None

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
        self._check_messages()
        return self

    def _check_messages(self) -> None:
        messages = self.messages or []
        if self.messages is not None and not any(m.role == "user" for m in messages):
            raise ValueError("'messages' needs at least one message with role 'user'")
        for index, message in enumerate(messages):
            if not message.content.strip():
                raise ValueError(f"'messages[{index}].content' is empty")
        if self.system is not None and any(m.role == "system" for m in messages):
            raise ValueError("both 'system' and a system message are given; one of them is allowed")

    def turns(self) -> tuple[Message, ...]:
        """The conversation, the system prompt first."""
        head = [Message("system", self.system)] if self.system else []
        if self.prompt is not None:
            return (*head, Message("user", self.prompt))
        return (*head, *(Message(m.role, m.content) for m in self.messages or ()))

    def schema_of_answer(self) -> Mapping[str, Any] | None:
        """The JSON schema of the answer; one of `choices` is answered as `{"choice": ...}`."""
        if self.choices is None:
            return self.response_schema
        return choice_schema(self.choices)
