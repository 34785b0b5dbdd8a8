"""Logs are events: one short message plus fields, to the terminal from `--log-level` on, and to a file.

    12:03:41 warning: openai is open failures=3
    {"at": "2027-01-15T08:03:41.120+00:00", "level": "warning", "message": "openai is open", "provider": ...}

Below `warning` only this project's own loggers are recorded: details that SDKs log can hold prompts and keys.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .control_characters import terminal_safe
from .errors import ConfigError
from .package import PACKAGE
from .private import make_private_folder

ROOT_LOGGER = PACKAGE  # of this project
LEVELS = ("debug", "info", "warning", "error")
FILE_BYTES = 5_000_000
FILES_KEPT = 3
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(
    level: str, folder: Path | None = None, *, as_json: bool = False, simulated: bool = False
) -> None:
    """Log to the terminal from `level` on, and with a `folder` to a file in it from `info` on.

    `as_json`: the terminal gets JSON lines too. `simulated`: every JSON line says so. Raises ConfigError if
    the folder can't be written.
    """
    lines = _JsonLines({"simulated": True} if simulated else {})
    own = logging.getLogger(ROOT_LOGGER)
    own.setLevel(logging.DEBUG)
    for handler in list(own.handlers):
        own.removeHandler(handler)
        handler.close()
    terminal = _TerminalHandler(getattr(logging, level.upper()))
    terminal.setFormatter(lines if as_json else _Plain())
    own.addHandler(terminal)
    if folder is not None:
        own.addHandler(_file_handler(folder, lines))
    own.propagate = False
    _set_up_others(lines if as_json else _Plain())


def _set_up_others(formatter: logging.Formatter) -> None:
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    if not any(isinstance(handler, _TerminalHandler) for handler in root.handlers):
        handler = _TerminalHandler(logging.WARNING)
        handler.setFormatter(formatter)
        root.addHandler(handler)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that a call passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _TerminalHandler(logging.Handler):
    """Looks up standard error each time, since a live display replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(terminal_safe(self.format(record)) + "\n")
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
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonLines(logging.Formatter):
    def __init__(self, in_each: Mapping[str, Any]) -> None:
        super().__init__()
        self._in_each = in_each

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
            **self._in_each,
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=True, default=str)


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
