"""What a request says outside the body of its API: headers of the orchestrator, deadline, run.

A run is a conversation or an agent's job: its requests share a budget and go before runs that have not begun.
Its id is `x-orchestrator-run-id`, else the session that Claude Code sends, else the trace of `traceparent`.
Nothing is guessed from the content.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..access import MAX_PRIORITY
from ..records import MAX_USD
from ..storable import is_clean
from ..tokens import Role
from .formats.base import FormatError

PREFIX = "x-orchestrator-"
NAMES = ("timeout", "run-id", "run-max-cost-usd", "priority", "task-type", "batch")
MAX_NAME_CHARS = 200
MAX_TIMEOUT_S = 86_400.0
DEADLINE_S = 595.0  # the SDKs give up after 600 s
# Before the client's own time limit, so that it gets the reason instead of nothing: the smaller of the two.
SDK_MARGIN_S, SDK_MARGIN_SHARE = 5.0, 0.2
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_SESSION = re.compile(r".*_session_([0-9A-Za-z-]{8,64})")  # Claude Code before 2.1.78


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The orchestrator's headers of one request. `run_id` is empty without a run."""

    timeout_s: float
    run_id: str = ""
    run_max_cost_usd: float | None = None
    priority: int = 0
    task_type: str = ""
    batch: str = ""
    idempotency_key: str = ""


def request_options(
    headers: Mapping[str, str], body: Mapping[str, Any], role: Role, task_types: Mapping[str, Any]
) -> RequestOptions:
    """Read the headers, whose names are in lower case. Raises FormatError."""
    for name in headers:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in NAMES:
            known = ", ".join(PREFIX + each for each in NAMES)
            raise FormatError(f"unknown header {name}; known: {known}", param=name)
    task_type = headers.get(f"{PREFIX}task-type", "")
    if task_type and task_type not in task_types:
        known = ", ".join(task_types)
        raise FormatError(
            f"{PREFIX}task-type: no task type {task_type[:MAX_NAME_CHARS]!r}; known: {known}",
            param=f"{PREFIX}task-type",
        )
    return RequestOptions(
        timeout_s(headers),
        run_id(headers, body),
        _number(headers, "run-max-cost-usd", MAX_USD),
        _priority(headers, role),
        task_type,
        _name(headers, f"{PREFIX}batch"),
        _name(headers, "idempotency-key"),
    )


def timeout_s(headers: Mapping[str, str]) -> float:
    """How long the request may take. Raises FormatError."""
    given = _number(headers, "timeout", MAX_TIMEOUT_S)
    if given is not None:
        return given
    try:
        sdk_s = float(headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        return DEADLINE_S
    if not math.isfinite(sdk_s) or sdk_s <= 0:
        return DEADLINE_S
    return min(sdk_s - min(SDK_MARGIN_S, SDK_MARGIN_SHARE * sdk_s), MAX_TIMEOUT_S)


def _number(headers: Mapping[str, str], name: str, most: float) -> float | None:
    text = headers.get(PREFIX + name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise FormatError(f"{PREFIX}{name} must be a number above 0, up to {most:,.0f}", param=PREFIX + name)
    return value


def _priority(headers: Mapping[str, str], role: Role) -> int:
    text, most = headers.get(f"{PREFIX}priority", "0").strip(), MAX_PRIORITY[role]
    plain = text.removeprefix("-")
    if not (plain.isascii() and plain.isdigit() and len(plain) <= 7) or not -1_000_000 <= int(text) <= most:
        raise FormatError(
            f"{PREFIX}priority must be a whole number from -1000000 to {most}", param=f"{PREFIX}priority"
        )
    return int(text)


def _name(headers: Mapping[str, str], header: str) -> str:
    """A name that ids and batches may have. Raises FormatError."""
    name = headers.get(header, "")
    if len(name) > MAX_NAME_CHARS or not name.isprintable() or not is_clean(name):
        raise FormatError(f"{header} must be at most {MAX_NAME_CHARS} printable characters", param=header)
    return name


def run_id(headers: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """The run that the request belongs to; empty for none. Raises FormatError for an id that is no name."""
    for header in (f"{PREFIX}run-id", "x-claude-code-session-id"):
        if found := _name(headers, header):
            return found
    if session := _claude_code_session(body):
        return session
    trace = _TRACE.fullmatch(headers.get("traceparent", "").strip())
    return trace[1] if trace and set(trace[1]) != {"0"} else ""


def _claude_code_session(body: Mapping[str, Any]) -> str:
    """The session in `metadata.user_id`, where Claude Code has it: as JSON, in earlier versions as text."""
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    if not isinstance(user, str) or len(user) > 1_000:
        return ""
    if user.startswith("{"):
        try:
            found = json.loads(user)
        except (ValueError, RecursionError):
            return ""
        session = found.get("session_id") if isinstance(found, dict) else None
        return session if isinstance(session, str) and re.fullmatch(r"[0-9A-Za-z-]{8,64}", session) else ""
    old = _SESSION.fullmatch(user) if user.startswith("user_") else None
    return old[1] if old else ""
