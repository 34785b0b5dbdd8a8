"""Reading tasks: lines of a file or a stream become frozen `Task`s, or a `BadLine` that says why not.

    bytes -> lines -> raw rows (one reader per format) -> validated rows -> tasks

Everything streams: what is kept per line is a digest of its id, so that a duplicate is noticed and a line
without an id gets the same one in the next run. That id is made of the line's content and of its ordinal
among equal lines, so adding or moving other lines does not change it.

A bad line never stops the others. What stops the reading is `InputError`: a file that can't be read, or
that is of another kind altogether.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InputError
from ..records import GENERAL, Message, Task
from ..settings import Settings

QUEUE = "queue"  # the batch of tasks that were handed in one by one
MAX_LINE_BYTES = 16 * 1024 * 1024  # a longer line is a file without line ends, not a prompt
MAX_ID_CHARS = 200
MAX_PRIORITY = 1_000_000
ID_BYTES = 10  # of the digest that becomes an id: 80 bits, no collision within a billion lines
SHOWN_CHARS = 40  # how much of a wrong value a message repeats


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no task. `line` counts from 1; `reason` says what is wrong and what is allowed."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Row:
    """What a format's reader hands on: the fields of one task, not yet validated."""

    line: int
    fields: Mapping[str, Any]


# ------------------------------------------------------------------ the shape of a row


class _MessageFields(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


Name = Annotated[str, Field(min_length=1, max_length=200)]


class TaskFields(BaseModel):
    """The keys of a task as a user writes it. Strict: "5" is no number, and an unknown key is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)] | None = None
    prompt: str | None = None
    messages: list[_MessageFields] | None = None
    system: str | None = None
    task_type: Name = GENERAL
    tier: Literal["auto", "economy", "standard", "premium"] = "auto"
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    stop: list[Name] = []
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    models: list[Name] = []
    providers: list[Name] = []
    metadata: dict[str, Any] = {}
    response_schema: dict[str, Any] | None = None
    choices: Annotated[list[Name], Field(min_length=1)] | None = None

    @field_validator("id", mode="before")
    @classmethod
    def _id_as_text(cls, value: Any) -> Any:
        """Row numbers are a common id; `7` and `"7"` are the same one."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("id")
    @classmethod
    def _id_is_printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("'id' must not contain control characters or line ends")
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
        """What the answer's JSON must match; one of `choices` comes as `{"choice": ...}`."""
        if self.choices is None:
            return self.response_schema
        # An object, because a bare string as the root of a schema is taken by none of the three.
        choice = {"type": "string", "enum": self.choices}
        return {"type": "object", "properties": {"choice": choice}, "required": ["choice"]}


# ------------------------------------------------------------------ one row becomes one task


def make_task(
    fields: Mapping[str, Any],
    *,
    batch: str,
    settings: Settings,
    now: float,
    submitter: str = "local",
    line: int | None = None,
    default_id: Callable[[str], str] = lambda content: content,
) -> Task:
    """Validate one task's fields. Raises InputError with one sentence.

    A task that brings no id gets `default_id(digest of its content)`.
    """
    try:
        valid = TaskFields.model_validate(fields)
    except ValidationError as error:
        raise InputError(_sentence(error), line=line) from None
    _check_providers(valid.providers, settings, line)
    content = content_digest(fields)
    return Task(
        id=valid.id or default_id(content),
        batch=batch,
        messages=valid.turns(),
        task_type=valid.task_type,
        tier=valid.tier,
        max_tokens=valid.max_tokens,
        temperature=valid.temperature,
        stop=tuple(valid.stop),
        models=tuple(valid.models),
        providers=tuple(valid.providers),
        deadline_at=None if valid.deadline_s is None else now + valid.deadline_s,
        priority=valid.priority,
        metadata=valid.metadata,
        line=line,
        submitter=submitter,
        created_at=now,
        response_schema=valid.schema_of_answer(),
    )


def unknown_type_warning(task_type: str, settings: Settings) -> str:
    """The one warning for a task type without a row of its own; empty for a known one."""
    if task_type in settings.task_types:
        return ""
    near = _nearest(task_type, settings.task_types)
    hint = f"; did you mean {near!r}?" if near else f"; [task_types.{task_type}] would add it"
    return f"unknown task type {task_type!r} is served as {GENERAL!r}{hint}"


def content_digest(fields: Mapping[str, Any]) -> str:
    """The same letters for the same content, however the line was spaced or its keys ordered."""
    content = {key: value for key, value in fields.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()
    except UnicodeEncodeError as error:
        raise InputError("contains half a surrogate pair, which is no text") from error


def _check_providers(pinned: Iterable[str], settings: Settings, line: int | None) -> None:
    for name in pinned:
        if name not in settings.providers:
            known = ", ".join(settings.providers)
            raise InputError(f"'providers': unknown provider {name!r}; known: {known}", line=line)


# ------------------------------------------------------------------ a file becomes tasks


def read_tasks(
    source: Path | BinaryIO,
    *,
    batch: str,
    settings: Settings,
    now: float,
    fmt: str | None = None,
    submitter: str = "local",
    on_warning: Callable[[str], None] = lambda _: None,
) -> Iterator[Task | BadLine]:
    """Read `source` line by line. Memory does not grow with the length of its lines' text.

    `fmt` is a key of `FORMATS`; None decides by the file's ending, then by its first line.
    `on_warning` is told once of each task type that has no row. Raises InputError where there is
    nothing to read from.
    """
    builder = _Builder(batch, settings, now, submitter, on_warning)
    with ExitStack() as stack:
        stream = stack.enter_context(_open(source)) if isinstance(source, Path) else source
        lines = _lines(stream)
        chosen, lines = _choose_format(source, fmt, lines)
        for row in FORMATS[chosen](lines):
            yield row if isinstance(row, BadLine) else builder.build(row)


class _Builder:
    """Makes tasks of one file and remembers what makes ids unique within it."""

    def __init__(
        self, batch: str, settings: Settings, now: float, submitter: str, on_warning: Callable[[str], None]
    ) -> None:
        self._batch, self._settings, self._now, self._submitter = batch, settings, now, submitter
        self._on_warning = on_warning
        self._seen: set[bytes] = set()  # digests of the ids so far: 16 bytes each, not the ids
        self._equals: dict[str, int] = {}  # how often a content without id came
        self._warned: set[str] = set()

    def build(self, row: _Row) -> Task | BadLine:
        try:
            task = make_task(
                row.fields,
                batch=self._batch,
                settings=self._settings,
                now=self._now,
                submitter=self._submitter,
                line=row.line,
                default_id=self._next_equal,
            )
            self._claim(task.id)
        except InputError as error:
            return BadLine(row.line, error.what)
        self._warn_of_type(task.task_type)
        return task

    def _next_equal(self, content: str) -> str:
        """Equal lines differ by their ordinal, from the second on."""
        ordinal = self._equals[content] = self._equals.get(content, 0) + 1
        return content if ordinal == 1 else f"{content}-{ordinal}"

    def _claim(self, task_id: str) -> None:
        digest = hashlib.blake2b(task_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise InputError(f"duplicate id {_shown(task_id)}: an earlier line of this file has it")
        self._seen.add(digest)

    def _warn_of_type(self, task_type: str) -> None:
        if task_type in self._warned:
            return
        self._warned.add(task_type)
        if warning := unknown_type_warning(task_type, self._settings):
            self._on_warning(warning)


Line = tuple[int, str]


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _lines(stream: BinaryIO) -> Iterator[Line | BadLine]:
    """Numbered lines of text without their ends; blank ones are skipped, a BOM and CRLF tolerated."""
    for number in itertools.count(1):
        raw = stream.readline(MAX_LINE_BYTES + 1)
        if not raw:
            return
        if number == 1:
            raw = _without_bom(raw)
        if len(raw) > MAX_LINE_BYTES:
            _skip_rest(stream, raw)
            yield BadLine(number, f"longer than {MAX_LINE_BYTES // 2**20} MiB")
            continue
        if not raw.strip():
            continue
        try:
            yield number, raw.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            yield BadLine(number, f"not UTF-8 at byte {error.start + 1}")


def _without_bom(raw: bytes) -> bytes:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("the file is UTF-16; save it as UTF-8")
    return raw.removeprefix(b"\xef\xbb\xbf")


def _skip_rest(stream: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(MAX_LINE_BYTES)


def _choose_format(
    source: Path | BinaryIO, fmt: str | None, lines: Iterator[Line | BadLine]
) -> tuple[str, Iterator[Line | BadLine]]:
    """The format and the lines, none of them lost by looking at the first."""
    if fmt is not None:
        if fmt not in FORMATS:
            raise InputError(f"unknown format {fmt!r}; known: {', '.join(FORMATS)}")
        return fmt, lines
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if suffix in SUFFIXES:
        return SUFFIXES[suffix], lines
    first = next(lines, None)
    if first is None:
        return "text", iter(())
    looks_like_json = isinstance(first, tuple) and first[1].lstrip().startswith("{")
    return "jsonl" if looks_like_json else "text", itertools.chain([first], lines)


def _read_text(lines: Iterator[Line | BadLine]) -> Iterator[_Row | BadLine]:
    for line in lines:
        yield line if isinstance(line, BadLine) else _Row(line[0], {"prompt": line[1].strip()})


def _read_jsonl(lines: Iterator[Line | BadLine]) -> Iterator[_Row | BadLine]:
    for index, line in enumerate(lines):
        if isinstance(line, BadLine):
            yield line
            continue
        number, text = line
        if index == 0 and text.lstrip().startswith("["):
            raise InputError("this is one JSON array; tasks are one JSON object a line", line=number)
        try:
            yield _Row(number, parse_object(text))
        except InputError as error:
            yield BadLine(number, error.what)


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object without NaN or Infinity. Raises InputError."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f'must be an object like {{"prompt": "..."}}, not {_kind(value)}')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a number that JSON knows")


# A new format is a reader and a row here.
FORMATS: dict[str, Callable[[Iterator[Line | BadLine]], Iterator[_Row | BadLine]]] = {
    "jsonl": _read_jsonl,
    "text": _read_text,
}
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text"}


# ------------------------------------------------------------------ sentences for people

_KINDS: dict[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def _sentence(error: ValidationError) -> str:
    """The first problem as one line: which key, what is allowed, what was found."""
    first = error.errors()[0]
    kind, given, limits = first["type"], first["input"], first.get("ctx", {})
    where = _path(first["loc"])
    if kind == "value_error":
        return str(limits["error"])
    if kind == "extra_forbidden":
        return _unknown_key(first["loc"])
    if kind == "missing":
        return f"{where} is missing"
    return f"{where} must be {_allowed(kind, limits, first['msg'])}, not {_found(kind, given)}"


def _allowed(kind: str, limits: Mapping[str, Any], otherwise: str) -> str:
    if kind in _KINDS:
        return _KINDS[kind]
    bounds = {
        "greater_than": "above {gt:g}",
        "greater_than_equal": "at least {ge:g}",
        "less_than_equal": "at most {le:g}",
        "string_too_short": "at least {min_length} character",
        "string_too_long": "at most {max_length} characters",
        "too_short": "at least {min_length} long",
        "finite_number": "a finite number",
        "literal_error": "one of {expected}",
    }
    return bounds[kind].format(**limits) if kind in bounds else otherwise


def _found(kind: str, given: Any) -> str:
    if kind in _KINDS:
        return _kind(given)
    if kind in {"string_too_short", "too_short"}:
        return "empty"
    return str(len(given)) if kind == "string_too_long" else _shown(given)


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    shape = _MessageFields if loc[0] == "messages" else TaskFields
    key, known = str(loc[-1]), list(shape.model_fields)
    near = _nearest(key, known)
    inside = f" in {_path(loc[:-1])}" if len(loc) > 1 else ""
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown key {_shown(key)}{inside}; {hint}"


def _path(loc: tuple[int | str, ...]) -> str:
    """`('messages', 0, 'role')` is `'messages[0].role'`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"'{text}'"


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        str: "text",
        bool: "true or false",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value)) or f"the number {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    plain = word.lower().replace("-", "_")
    matches = difflib.get_close_matches(plain, list(known), n=1)
    return matches[0] if matches else ""
