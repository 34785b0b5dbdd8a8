"""A prompt with `{column}` in it, filled from the columns of a CSV file. `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, hint, not_utf_8, unreadable
from .validation_messages import shown

MAX_TEMPLATE_BYTES = 1024 * 1024
_TOKEN = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")


@dataclass(frozen=True, slots=True)
class Template:
    """Text and columns alternate: `texts[0]`, `columns[0]`, `texts[1]`, ..., with a last text at the end."""

    name: str
    texts: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[int, ...]  # of each column, counted from 1

    @classmethod
    def of(cls, text: str, name: str = "the template") -> Template:
        """Raises InputError for an unmatched brace, and for a text without a column."""
        texts, columns, lines = [""], [], []
        line = 1
        for token in _TOKEN.split(text):
            if token in ("{{", "}}"):
                texts[-1] += token[0]
            elif token in ("{", "}"):
                raise InputError(
                    f"{name}, line {line}: unmatched {token!r}; "
                    f"write {{column}}, or {token * 2} for a literal brace"
                )
            elif token.startswith("{"):
                columns.append(token[1:-1].strip())
                lines.append(line)
                texts.append("")
            else:
                texts[-1] += token
            line += token.count("\n")
        if not columns:
            raise InputError(f"{name}: no {{column}} in it, so every row would send the same prompt")
        return cls(name, tuple(texts), tuple(columns), tuple(lines))

    @classmethod
    def read(cls, path: Path) -> Template:
        """Raises InputError for a file that cannot be read or is not a template."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_TEMPLATE_BYTES + 1)
        except OSError as error:
            raise InputError(f"{path}: {unreadable(error)}") from error
        if len(raw) > MAX_TEMPLATE_BYTES:
            raise InputError(f"{path}: is longer than {MAX_TEMPLATE_BYTES // 2**20} MiB")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: {not_utf_8(error)}") from error
        return cls.of(text.replace("\r\n", "\n").removesuffix("\n"), str(path))

    def check(self, known: Collection[str]) -> None:
        """Raises InputError for a column that the file does not have."""
        for column, line in zip(self.columns, self.lines, strict=True):
            if column not in known:
                raise InputError(
                    f"{self.name}, line {line}: no column {shown(column)}; {hint(column, known)} "
                    "(write {{ or }} for a literal brace)"
                )

    def values(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        """The values that a row fills in, in the order of the template."""
        return tuple(cells[column] for column in self.columns)

    def fill(self, cells: Mapping[str, str]) -> str:
        """The prompt of one row. Raises InputError where all its columns are empty."""
        values = self.values(cells)
        if not any(value.strip() for value in values):
            raise InputError(f"empty prompt: no value in {', '.join(map(repr, dict.fromkeys(self.columns)))}")
        parts = [self.texts[0]]
        for value, text in zip(values, self.texts[1:], strict=True):
            parts += value, text
        return "".join(parts)
