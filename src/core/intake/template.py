"""A prompt with `{column}` in it, filled from the columns of a CSV file. `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, hint, unreadable
from .validation_messages import shown

MAX_TEMPLATE_BYTES = 1024 * 1024
_TOKEN = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")


@dataclass(frozen=True, slots=True)
class Template:
    """Text and columns in turn: `texts[0]`, `columns[0]`, `texts[1]`, ..., and one text more at the end."""

    name: str
    texts: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[int, ...]  # where each column stands, counted from 1

    @classmethod
    def of(cls, text: str, name: str = "the template") -> Template:
        """Raises InputError for a brace without its other half, and where there is no column at all."""
        texts, columns, lines = [""], [], []
        line = 1
        for token in _TOKEN.split(text):
            if token in ("{{", "}}"):
                texts[-1] += token[0]
            elif token in ("{", "}"):
                raise InputError(
                    f"{name}, line {line}: {token!r} alone; a column is {{column}}, a brace {token * 2}"
                )
            elif token.startswith("{"):
                columns.append(token[1:-1].strip())
                lines.append(line)
                texts.append("")
            else:
                texts[-1] += token
            line += token.count("\n")
        if not columns:
            raise InputError(f"{name}: has no {{column}} in it, so that every row would ask the same")
        return cls(name, tuple(texts), tuple(columns), tuple(lines))

    @classmethod
    def read(cls, path: Path) -> Template:
        """Raises InputError for a file that can't be read or is no template."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_TEMPLATE_BYTES + 1)
        except OSError as error:
            raise InputError(f"{path}: {unreadable(error)}") from error
        if len(raw) > MAX_TEMPLATE_BYTES:
            raise InputError(f"{path}: is longer than {MAX_TEMPLATE_BYTES // 2**20} MiB: no template")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at byte {error.start + 1}") from error
        return cls.of(text.replace("\r\n", "\n").removesuffix("\n"), str(path))

    def check(self, known: Collection[str]) -> None:
        """Raises InputError for a column that is not there."""
        for column, line in zip(self.columns, self.lines, strict=True):
            if column not in known:
                raise InputError(
                    f"{self.name}, line {line}: no column {shown(column)}; {hint(column, known)} "
                    "(a brace that is no column is written twice)"
                )

    def values(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        """What one row fills in, in the order of the template."""
        return tuple(cells[column] for column in self.columns)

    def fill(self, cells: Mapping[str, str]) -> str:
        """The prompt of one row. Raises InputError where none of its columns holds anything."""
        values = self.values(cells)
        if not any(value.strip() for value in values):
            raise InputError(f"nothing to ask: {', '.join(map(repr, dict.fromkeys(self.columns)))} empty")
        parts = [self.texts[0]]
        for value, text in zip(values, self.texts[1:], strict=True):
            parts += value, text
        return "".join(parts)
