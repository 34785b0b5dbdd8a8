"""Files of tasks on their way in: kept in the state folder while a person looks at the preview.

A file is copied piece by piece, read line by line, and never held in memory. Two files per upload, named by
a random word that nobody can guess: the lines, and what the preview found.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ..core.intake import (
    SUFFIXES,
    TEMPLATE_OPTION,
    BadLine,
    ReadOptions,
    TaskContext,
    Template,
    check_batch_name,
    ids_of,
    read_tasks,
    shown,
    unserved_reason,
)
from ..core.store import AddReport
from ..errors import InputError
from ..private import make_private_folder
from ..records import Task
from . import task_actions
from .context import AppContext, caller_name, visible_submitter
from .presenters.plans import Expectation, Sample
from .presenters.pool import callable_providers
from .problems import Problem, not_found

MAX_UPLOAD_BYTES = 512 * 1024 * 1024
KEPT_S = 3600.0  # from their coming on
MAX_KEPT_BYTES = 2 * MAX_UPLOAD_BYTES  # of one person's files that wait for their start
MAX_KEPT_BYTES_IN_ALL = 8 * MAX_UPLOAD_BYTES
BAD_LINES_SHOWN = 20
ROWS_SHOWN = 10
PREVIEW_CHARS = 120
TEMPLATE_FIELD = "in the field below the file"
TABLES = (".csv", ".tsv", ".tab")
_WORD = re.compile(r"[\w-]{20,40}")


@dataclass(frozen=True, slots=True)
class UploadRow:
    line: int
    id: str
    task_type: str
    tier: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What the preview says: the first rows and bad lines, all of them counted, and the cost to expect."""

    word: str
    filename: str
    batch: str
    tasks: int
    bad: int
    rows: tuple[UploadRow, ...]
    bad_lines: tuple[tuple[int, str], ...]
    types: dict[str, int]
    warnings: tuple[str, ...]
    expectation: Expectation | None  # None: it can't be read as it is
    template: str = ""  # of the prompts of a CSV file
    owner: str = ""  # who has brought it
    problem: str = ""  # why it can't be read; a table waits for another template


class Uploads:
    """The folder of uploads that nobody has started yet."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._folder = context.settings.state_dir / "uploads"

    def keep(self, stream: BinaryIO, filename: str, template: str = "") -> Upload:
        """Copy the file and look through it. Raises InputError for one that can't be read at all.

        A table that can't be read is kept with the problem: another template may be all that it needs.
        """
        make_private_folder(self._folder)
        self._sweep()
        self._refuse_too_much(caller_name(), size_of(stream))
        name = _printable(Path(filename.replace("\\", "/")).name[:100]) or "tasks"
        suffix = Path(name).suffix.lower()
        word = secrets.token_urlsafe(18)
        path = self._folder / f"{word}{suffix if suffix in SUFFIXES else '.tasks'}"
        with ExitStack() as undo:
            undo.callback(path.unlink, missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                shutil.copyfileobj(stream, copy)
            upload = self._described(path, word, name, template)
            undo.pop_all()
        return upload

    def use_template(self, word: str, template: str) -> Upload:
        """Look through a kept file once more, with another template. Raises Problem 404 where it is gone."""
        return self._described(self._path(word), word, self.find(word).filename, template)

    def _described(self, path: Path, word: str, name: str, template: str) -> Upload:
        """What the preview finds, written beside the file. Raises InputError where nothing can help."""
        try:
            with _in_words_of_the_page():
                upload = _preview(self._context, path, word, name, _options(template))
        except InputError as error:
            if path.suffix not in TABLES:
                raise
            where = "" if error.line is None else f"line {error.line}: "
            upload = Upload(word, name, name, 0, 0, (), (), {}, (), None, problem=f"{where}{error.what}")
        upload = replace(upload, template=template, owner=caller_name())
        described = self._folder / f"{word}.meta"
        described.touch(0o600)
        described.write_text(json.dumps(asdict(upload)), encoding="utf-8")
        return upload

    def find(self, word: str) -> Upload:
        """Raises Problem 404 where it is gone."""
        try:
            kept = json.loads((self._folder / f"{_checked(word)}.meta").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise _gone() from None
        kept["rows"] = tuple(UploadRow(**row) for row in kept["rows"])
        kept["bad_lines"] = tuple((line, reason) for line, reason in kept["bad_lines"])
        if kept["expectation"] is not None:
            kept["expectation"] = Expectation(**kept["expectation"])
        upload = Upload(**kept)
        if visible_submitter() not in ("", upload.owner):
            raise _gone()
        return upload

    def start(self, word: str, batch: str, who: str) -> AddReport:
        """Put its tasks on the queue and drop the file. What the batch has already is not asked twice."""
        context, upload, path = self._context, self.find(word), self._path(word)
        if upload.problem:
            raise InputError(upload.problem)
        check_batch_name(batch)
        task_actions.start_batch(context, batch, who)
        now = context.now()
        known = context.store.reports.batch(batch)
        ids = ids_of(known.options if known else None)
        context.store.intake.create_batch(
            batch, now=now, source=upload.filename, submitter=who, options={"ids": ids}
        )
        lines = read_tasks(
            path,
            TaskContext(batch, context.settings, now, who),
            replace(_options(upload.template), ids=ids),
        )
        tasks = _good(line if isinstance(line, BadLine) else _allowed(line) for line in lines)
        report = context.store.intake.add_tasks(tasks, now=now)
        text = f"{who} started {upload.filename} as batch {shown(batch)}: {report.added} tasks"
        context.record_event("upload_started", text)
        if not report.changed_count:
            self.drop(word)
        return report

    def drop(self, word: str) -> None:
        with suppress(Problem):  # there is nothing to drop, or it is another's
            self.find(word)
            self._delete(word)

    def _delete(self, word: str) -> None:
        for path in self._folder.glob(f"{_checked(word)}.*"):
            path.unlink(missing_ok=True)

    def _path(self, word: str) -> Path:
        for path in self._folder.glob(f"{_checked(word)}.*"):
            if path.suffix != ".meta":
                return path
        raise not_found("upload of this name")

    def _sweep(self) -> None:
        oldest = time.time() - KEPT_S
        for path in self._folder.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _refuse_too_much(self, owner: str, more_bytes: int) -> None:
        """Raises Problem 413 where files that wait for their start take too much of the disk."""
        of_all = of_owner = more_bytes
        for path in self._folder.glob("*.meta"):
            with suppress(OSError, ValueError):  # it goes this moment
                size = sum(each.stat().st_size for each in self._folder.glob(f"{path.stem}.*"))
                of_all += size
                of_owner += size if json.loads(path.read_text(encoding="utf-8")).get("owner") == owner else 0
        if of_all > MAX_KEPT_BYTES_IN_ALL or of_owner > MAX_KEPT_BYTES:
            raise Problem(
                413,
                "too_much",
                "Files that were not started yet take too much space: start or drop them first.",
            )


def size_of(stream: BinaryIO) -> int:
    """Bytes of a file that is open at its beginning."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return end


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "_" for char in name)


def _gone() -> Problem:
    return not_found("upload of this name: it was started, dropped or left for an hour")


def _allowed(task: Task) -> Task:
    task_actions.check_priority(task)
    return task


def _checked(word: str) -> str:
    if not _WORD.fullmatch(word):
        raise not_found("upload of this name")
    return word


def _options(template: str) -> ReadOptions:
    """A form's text has CRLF between its lines. Raises InputError for one that is no template."""
    text = template.replace("\r\n", "\n")
    return ReadOptions(template=Template.of(text) if text.strip() else None)


@contextmanager
def _in_words_of_the_page() -> Iterator[None]:
    """Who looks at the page has a field where the command line has an option."""
    try:
        yield
    except InputError as error:
        raise InputError(error.what.replace(TEMPLATE_OPTION, TEMPLATE_FIELD), line=error.line) from None


def _good(lines: Iterator[Task | BadLine]) -> Iterator[Task]:
    return (line for line in lines if isinstance(line, Task))


def _preview(context: AppContext, path: Path, word: str, filename: str, options: ReadOptions) -> Upload:
    sample = Sample()
    rows: list[UploadRow] = []
    bad: list[tuple[int, str]] = []
    types: dict[str, int] = {}
    warnings: list[str] = []
    bad_count = 0
    configured = callable_providers(context)
    lines = read_tasks(
        path,
        TaskContext("preview", context.settings, context.now()),
        options,
        on_warning=warnings.append,
    )
    for line in lines:
        if isinstance(line, BadLine):
            bad_count += 1
            if bad_count <= BAD_LINES_SHOWN:
                bad.append((line.line, line.reason))
            continue
        try:
            task_actions.check_priority(line)
        except InputError as error:  # the start would refuse it
            raise InputError(error.what, line=line.line) from None
        sample.add(line)
        if (why := unserved_reason(line, context.settings, configured)) and why not in warnings:
            warnings.append(why)
        types[line.task_type] = types.get(line.task_type, 0) + 1
        if len(rows) < ROWS_SHOWN:
            rows.append(_upload_row(line))
    if not sample.count and not bad_count:
        raise InputError(f"{filename}: holds no task, it is empty")
    return Upload(
        word=word,
        filename=filename,
        batch=_free_name(context, filename),
        tasks=sample.count,
        bad=bad_count,
        rows=tuple(rows),
        bad_lines=tuple(bad),
        types=types,
        warnings=tuple(warnings[:BAD_LINES_SHOWN]),
        expectation=sample.expectation(context, caller_name()),
    )


def _upload_row(task: Task) -> UploadRow:
    said = " ".join(task.messages[-1].content.split())[:PREVIEW_CHARS]
    return UploadRow(task.line or 0, task.id, task.task_type, task.tier, said)


def _free_name(context: AppContext, filename: str) -> str:
    """The file's name, or with a number behind it while a batch has that name."""
    for number in range(1, 1000):
        name = filename if number == 1 else f"{filename}-{number}"
        if context.store.reports.batch(name) is None:
            return name
    return f"{filename}-{secrets.token_hex(4)}"
