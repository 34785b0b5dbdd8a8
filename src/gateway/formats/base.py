"""The contract of `formats/`: a request as a caller wrote it, and what writes the answer in the caller's API.

    read(body, headers)                  -> CallerRequest, or FormatError: what the real API would refuse
    answer(request, served, completion)  -> the body of a 200
    stream(request, served)              -> StreamWriter: `event` for each StreamEvent, then `end`
    error(problem), status(problem), error_headers(problem)   -> the error response

Everything here is pure: the id and the time of an answer are passed in as `Served`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from ...messages import Message, Tool
from ...records import Completion, Native
from ...stream_events import StreamEvent
from .problems import Problem, ProblemKind

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRequest:
    """A request that the API of its form would accept."""

    form: str  # openai, responses, anthropic: as `Native.form`
    model: str  # as the caller wrote it
    messages: tuple[Message, ...]
    native: Native  # the body and the headers to pass on
    stream: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""  # as in `Task`
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    reasoning_effort: str | None = None
    response_schema: Mapping[str, Any] | None = None
    only_form: tuple[str, ...] = ()  # fields that only this API knows and that change meaning: n, logprobs
    hints: tuple[str, ...] = ()  # fields that other APIs don't get: user, metadata
    include_usage: bool = False  # Chat Completions: a stream ends with a chunk that has the usage


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer says about itself."""

    id: str  # letters, digits, - and _, without a prefix; equal for all of one answer
    created_at: float  # UTC epoch seconds
    model: str  # the one that serves it


class FormatError(Exception):
    """A request that its API would refuse. `problem` is what to answer."""

    def __init__(
        self,
        message: str,
        param: str = "",
        code: str = "",
        kind: ProblemKind = ProblemKind.BAD_REQUEST,
    ) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message, param=param, code=code)

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The refusal that is answered with `problem`."""
        found = cls(problem.message)
        found.problem = problem
        return found


class StreamWriter(Protocol):
    """Writes one stream of server-sent events. After `error` or `end` nothing follows."""

    def event(self, event: StreamEvent) -> bytes:
        """The event in the caller's API; empty where the API has nothing to say."""
        ...

    def keep_alive(self) -> bytes:
        """What keeps an idle connection open; also allowed before the first event."""
        ...

    def error(self, problem: Problem) -> bytes:
        """The API's error event; also allowed before the first event."""
        ...

    def end(self, comment: str) -> bytes:
        """A comment, and the terminator where the API has one."""
        ...


class Format(Protocol):
    """One API that clients speak."""

    form: str

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """The request in a body. The names of the headers are in lower case. Raises FormatError."""
        ...

    def answer(self, request: CallerRequest, served: Served, completion: Completion) -> bytes:
        """The body of a 200: `completion.raw` as it is, or the completion in the form of this API."""
        ...

    def stream(self, request: CallerRequest, served: Served) -> StreamWriter:
        """What writes the answer to a request with `stream`."""
        ...

    def error(self, problem: Problem) -> bytes:
        """The body of an error."""
        ...

    def status(self, problem: Problem) -> int:
        """The HTTP status of an error."""
        ...

    def error_headers(self, problem: Problem) -> dict[str, str]:
        """Whether and when the API's SDKs try again."""
        ...
