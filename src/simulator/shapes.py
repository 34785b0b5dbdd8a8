"""The values that pass between the server and the three API formats. Nothing here knows HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamForm:
    """How an answer is streamed."""

    as_array: bool = False  # Gemini without alt=sse: the elements of one JSON array
    usage: bool = False  # OpenAI stream_options.include_usage
    obfuscation: bool = True  # OpenAI stream_options.include_obfuscation


class Frame(NamedTuple):
    """A piece of a streamed answer: it is sent when `tokens` of the output have been produced."""

    data: bytes
    tokens: int
    is_content: bool = True  # else it opens or ends the stream


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asks for; each API format makes up its id."""

    name: str
    arguments: Json
    text: str  # the arguments as JSON
    is_whole: bool = True  # else `text` is cut where the answer was cut at its token limit


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of a request. `names` are those that may be called; `required`: one of them must be."""

    schemas: Mapping[str, Json]
    names: tuple[str, ...]
    required: bool = False
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much an answer is to be thought about."""

    factor: float  # of what is usual
    most_tokens: int | None = None
    is_returned: bool = False  # as a part of the answer
    is_shown: bool = False  # that part has its text


@dataclass(slots=True)
class Ask:
    """One generation request, read from any API format."""

    model: str
    prompt: str  # every role and text in order: what is hashed, the same for the same prompt on every API
    chars: int  # characters of text in it, roles not counted
    messages: int
    last: str  # the last user message: what the answer is about, and what `echo` gives back
    max_tokens: int | None
    sampling: dict[str, float]  # temperature, top_p, top_k as sent
    stops: tuple[str, ...] = ()
    wants_json: bool = False
    schema: Json | None = None
    tools: ToolSet | None = None
    calls_since: int = 0  # answers with tool calls since `last`
    talks_before_calls: bool = False  # text goes before tool calls that are not required
    extra_tokens: int = 0  # of images and documents
    reasoning: Reasoning | None = None  # None: as the configuration says, and hidden
    response_to: Json | None = None  # OpenAI Responses: the request, parts of which the response repeats
    embeds: tuple[str, ...] = ()  # OpenAI embeddings: the texts
    embedding: tuple[int, str] = (0, "float")  # dimensions and encoding of the vectors
    has_effort: bool = False  # OpenAI: a reasoning effort was sent
    unsigned_call: str | None = None  # Gemini: the function call that lacks its signature, and where it is
    old_max_tokens: bool = False  # OpenAI: came as max_tokens, not as max_completion_tokens
    marked_prefix: tuple[str, int] | None = (
        None  # Anthropic cache_control, OpenAI prompt_cache_breakpoint: (text up to the mark, its characters)
    )
    marks_only: bool = False  # OpenAI: nothing is cached but what is marked
    flex: bool = False  # OpenAI: with service_tier flex
    integer_enums: bool = False  # Gemini: the client asked for enum-encoding=int
    stream: StreamForm | None = None  # None: the whole answer at once

    @property
    def service_tier(self) -> str:
        """OpenAI: the service tier that serves it."""
        return "flex" if self.flex else "default"

    @property
    def has_answer(self) -> bool:
        """Whether an earlier answer of the model is in the prompt."""
        return "\x1eassistant:" in self.prompt

    @property
    def asks_for_json(self) -> bool:
        """Whether the answer must be JSON, by a parameter or by the prompt itself."""
        return self.wants_json or self.schema_in_words is not None

    @property
    def schema_in_words(self) -> Json | None:
        """The JSON schema that the prompt itself asks for, as a model would read it there."""
        _, mark, rest = self.prompt.partition("JSON schema")
        start = rest.find("{")
        if not mark or start < 0:
            return None
        try:
            schema, _ = json.JSONDecoder().raw_decode(rest, start)
        except ValueError:
            return None
        return schema if isinstance(schema, dict) else None


@dataclass(slots=True)
class Reply:
    """One answer before it takes an API format's form. Token counts are what the provider bills."""

    text: str
    finish: str | None  # stop, length, stop_sequence, refusal, or None for an answer that was cut off
    input_tokens: int  # all of the prompt, cached or not
    output_tokens: int  # text and thinking
    thinking_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    stop_sequence: str | None = None
    calls: tuple[ToolCall, ...] = ()
    thinking: str | None = None  # reasoning that is a part of the answer; "" without its text
    blocked: bool = False  # Gemini: the prompt itself was refused, there is no candidate


@dataclass(slots=True)
class Answer:
    """Status, body and headers, ready to send."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Level:
    """One bucket as the headers show it. `remaining` counts from the full limit, not from the burst."""

    kind: str  # requests, requests_per_day, tokens, input_tokens, output_tokens
    limit: int
    remaining: float
    reset_s: float  # seconds until full again


class Fail(Exception):
    """The request ends here as the error `kind`; `facts` fill that error's message."""

    def __init__(self, kind: str, **facts: Any) -> None:
        super().__init__(kind)
        self.kind = kind
        self.facts = facts


def refused(message: str, param: str = "", code: str | None = None) -> Fail:
    """A bad request, with what is wrong in the provider's words. `param` and `code` are OpenAI's."""
    return Fail("bad_request", message=message, param=param, code=code)


class Slicer:
    """Cuts the content of an answer into pieces and counts its tokens along."""

    def __init__(self, chunk_tokens: int, chars_per_token: float, hidden_tokens: int) -> None:
        self._size = max(1, round(chunk_tokens * chars_per_token))
        self._chars_per_token = chars_per_token
        self._hidden_tokens = hidden_tokens
        self._chars = 0

    @property
    def tokens(self) -> int:
        """Output tokens produced so far, those of hidden reasoning included."""
        return self._hidden_tokens + int(self._chars / self._chars_per_token)

    def cut(self, text: str) -> Iterator[str]:
        """The pieces of `text`."""
        for start in range(0, len(text), self._size):
            piece = text[start : start + self._size]
            self._chars += len(piece)
            yield piece


class ApiFormat(Protocol):
    """What an API format must be able to do. One file each; no state but constants."""

    name: str
    blocks_prompts: bool  # a refused prompt is a 200 that says so, not a 400
    max_body_bytes: int | None  # of a request; None: as large as the server takes
    chunk_tokens: int  # how much of an answer a chunk of a stream holds

    def route(self, method: str, path: str) -> tuple[str, str] | None:
        """The kind of page and the model that its address names: ("models", "") lists the models,
        ("model", id) shows one, "count" counts tokens, all else generates. None where the provider has no
        such page.
        """

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The API key as sent, "" without one."""

    def parse(self, body: Json, model: str, query: Mapping[str, str], kind: str = "generate") -> Ask:
        """The request in a body; `kind` is that of its route.

        Raises Fail("bad_request", message=..., ...) as the provider would refuse it.
        """

    def answer(self, ask: Ask, reply: Reply, ident: str) -> bytes:
        """The body of a 200."""

    def count(self, input_tokens: int) -> bytes:
        """The body of a 200 that only counts the tokens of a request."""

    def stream_type(self, form: StreamForm) -> str:
        """The Content-Type of a stream."""

    def frames(self, ask: Ask, reply: Reply, ident: str, slicer: Slicer) -> Iterator[Frame]:
        """The answer as a stream: the frames that open it, its content, the frames that end it."""

    def error_frame(self, ask: Ask, facts: Mapping[str, Any], *, is_first: bool) -> bytes:
        """The error that ends a stream in its middle, and all that follows it."""

    def error(self, kind: str, facts: Mapping[str, Any]) -> Answer:
        """The provider's own status, body and headers for an error."""

    def models(self, ids: Sequence[str], window: int) -> bytes:
        """The body of the list of models."""

    def model(self, ident: str, window: int) -> bytes:
        """The body of one model."""

    def limit_headers(self, levels: Sequence[Level], now: float) -> dict[str, str]:
        """Rate-limit headers as the provider sends them. `now` in epoch seconds."""

    def id_headers(self, ident: str) -> dict[str, str]:
        """The header that names the request."""


def first_violation(ranges: Mapping[str, tuple[float, float]], sampling: Mapping[str, float]) -> str | None:
    """The name of the first sampling parameter outside its range."""
    for name, value in sampling.items():
        low, high = ranges[name]
        if not low <= value <= high:
            return name
    return None


def numbers(body: Json, names: Mapping[str, str]) -> dict[str, float]:
    """Sampling parameters present in `body`, under our names. Raises Fail where one is not a number."""
    found: dict[str, float] = {}
    for sent, ours in names.items():
        value = body.get(sent)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Fail("bad_request", message=f"{sent}: expected a number", param=sent)
        found[ours] = float(value)
    return found


def positive_int(body: Json, name: str) -> int | None:
    """A whole number of at least 1, None where it is not sent. Raises Fail otherwise."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Fail("bad_request", message=f"{name}: expected an integer of at least 1", param=name)
    return value
