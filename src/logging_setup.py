"""Logs are events: one short message plus fields, to the terminal from `--log-level` on, and to a file.

    12:03:41 warning: openai is open failures=3
    {"time": "2027-01-15T08:03:41.120Z", "level": "warning", "logger": ..., "message": "openai is open", ...}

A server with the log format `json` writes such objects to standard output, one a line, and nothing else.

Below `warning` only this project's own loggers are recorded: details that SDKs log can hold prompts and keys.
Whatever looks like a key is masked in all of them.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .control_characters import terminal_safe
from .errors import ConfigError
from .masking import without_keys
from .package import PACKAGE
from .private import make_private_folder

ROOT_LOGGER = PACKAGE  # of this project
LEVELS = ("debug", "info", "warning", "error")
FILE_BYTES = 5_000_000
FILES_KEPT = 3
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(
    level: str,
    folder: Path | None = None,
    *,
    as_json: bool = False,
    on_stdout: bool = False,
    simulated: bool = False,
) -> None:
    """Log to the terminal from `level` on, and with a `folder` to a file in it from `info` on.

    `as_json`: the terminal gets JSON lines too. `on_stdout`: on standard output, not standard error.
    `simulated`: every JSON line says so. Raises ConfigError if the folder can't be written.
    """
    lines = _JsonLines({"simulated": True} if simulated else {})
    own = logging.getLogger(ROOT_LOGGER)
    own.setLevel(logging.DEBUG)
    for handler in list(own.handlers):
        own.removeHandler(handler)
        handler.close()
    terminal = _TerminalHandler(getattr(logging, level.upper()), on_stdout=on_stdout)
    terminal.setFormatter(lines if as_json else _Plain())
    own.addHandler(terminal)
    if folder is not None:
        own.addHandler(_file_handler(folder, lines))
    own.propagate = False
    _set_up_others(lines if as_json else _Plain(), on_stdout=on_stdout)


def _set_up_others(formatter: logging.Formatter, *, on_stdout: bool) -> None:
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    if not any(isinstance(handler, _TerminalHandler) for handler in root.handlers):
        handler = _TerminalHandler(logging.WARNING, on_stdout=on_stdout)
        handler.setFormatter(formatter)
        root.addHandler(handler)


def json_line(message: str, level: str, **fields: object) -> str:
    """A line as a logger of this project writes it, for what is said before loggers are set up."""
    return _json_line(time.time(), level, ROOT_LOGGER, message, fields)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a call passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _TerminalHandler(logging.Handler):
    """Looks up the stream each time, since a live display replaces standard error."""

    def __init__(self, level: int, *, on_stdout: bool) -> None:
        super().__init__(level)
        self._on_stdout = on_stdout

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if self._on_stdout else sys.stderr
        try:
            stream.write(terminal_safe(self.format(record)) + "\n")
            stream.flush()  # a collector reads what was logged now
        except OSError:
            self.handleError(record)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message = record.getMessage()
        # A field whose value is in the message is not repeated.
        shown = {n: v for n, v in fields_of(record).items() if n != "action" and str(v) not in message}
        fields = "".join(f" {name}={value}" for name, value in shown.items())
        text = f"{at} {record.levelname.lower()}: {message}{fields}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return without_keys(text)


class _JsonLines(logging.Formatter):
    def __init__(self, in_each: Mapping[str, Any]) -> None:
        super().__init__()
        self._in_each = in_each

    def format(self, record: logging.LogRecord) -> str:
        fields = {**fields_of(record), **self._in_each}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _json_line(record.created, record.levelname.lower(), record.name, record.getMessage(), fields)


def _json_line(at: float, level: str, logger: str, message: str, fields: Mapping[str, object]) -> str:
    """One object in ASCII, on one line. No field replaces time, level, logger or message."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    row = {**fields, "time": moment, "level": level, "logger": logger, "message": message}
    first = ("time", "level", "logger", "message")
    ordered = {name: _plain_value(row[name]) for name in (*first, *(n for n in row if n not in first))}
    return json.dumps(ordered, ensure_ascii=True, default=str)


def _plain_value(value: object) -> object:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, str):
        return without_keys(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Readable by its owner only, also after a rotation."""

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def _file_handler(folder: Path, formatter: logging.Formatter) -> logging.Handler:
    try:
        make_private_folder(folder)
        return _rotating(folder, formatter)
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", where=str(folder)) from error


def _rotating(folder: Path, formatter: logging.Formatter) -> logging.Handler:
    handler = _PrivateFile(folder / "orchestrator.log", maxBytes=FILE_BYTES, backupCount=FILES_KEPT)
    handler.setLevel(logging.INFO)
    handler.setFormatter(formatter)
    return handler
