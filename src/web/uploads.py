"""Uploaded files of tasks, kept in the state folder until they are submitted or discarded.

A file is copied in pieces and read line by line, never held in memory. Each upload is two files, named by a
random id that can't be guessed: the uploaded file, and its preview as JSON.
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
    for_batch,
    read_tasks,
    shown,
    stored_options,
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
KEPT_S = 3600.0  # after the upload
MAX_KEPT_BYTES = 2 * MAX_UPLOAD_BYTES  # of one caller's files that are not submitted yet
MAX_KEPT_BYTES_IN_ALL = 8 * MAX_UPLOAD_BYTES
BAD_LINES_SHOWN = 20
ROWS_SHOWN = 10
PREVIEW_CHARS = 120
TEMPLATE_FIELD = "in the field below the file"
TABLES = (".csv", ".tsv", ".tab")
PACKED = (".gz", ".parquet")  # `run` reads them; here a small file of a stranger could unpack to any size
_UPLOAD_ID = re.compile(r"[\w-]{20,40}")


@dataclass(frozen=True, slots=True)
class UploadRow:
    line: int
    id: str
    task_type: str
    tier: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Upload:
    """The preview of a file: its first rows and bad lines, the count of both, and the expected cost."""

    upload_id: str
    filename: str
    batch: str
    tasks: int
    bad: int
    rows: tuple[UploadRow, ...]
    bad_lines: tuple[tuple[int, str], ...]
    types: dict[str, int]
    warnings: tuple[str, ...]
    expectation: Expectation | None  # None: the file can't be read
    template: str = ""  # of the prompts of a CSV file
    owner: str = ""  # the caller who uploaded it
    problem: str = ""  # why it can't be read; another template may help


class Uploads:
    """The uploads of one application that are not submitted yet."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._folder = context.settings.state_dir / "uploads"

    def keep(self, stream: BinaryIO, filename: str, template: str = "") -> Upload:
        """Copy the file and preview it. Raises InputError for a file that can't be read at all.

        A table that can't be read is kept with the problem, since another template may be all it needs.
        """
        make_private_folder(self._folder)
        self._sweep()
        self._refuse_too_much(caller_name(), size_of(stream))
        name = _printable(Path(filename.replace("\\", "/")).name[:100]) or "tasks"
        suffix = Path(name).suffix.lower()
        if suffix in PACKED:
            raise InputError(f"uploads take no {suffix} files: unpack it, or save it as CSV or JSON Lines")
        upload_id = secrets.token_urlsafe(18)
        path = self._folder / f"{upload_id}{suffix if suffix in SUFFIXES else '.tasks'}"
        with ExitStack() as undo:
            undo.callback(path.unlink, missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                shutil.copyfileobj(stream, copy)
            upload = self._described(path, upload_id, name, template)
            undo.pop_all()
        return upload

    def use_template(self, upload_id: str, template: str) -> Upload:
        """Preview a file again with another template. Raises Problem 404 if it is gone."""
        return self._described(self._path(upload_id), upload_id, self.find(upload_id).filename, template)

    def _described(self, path: Path, upload_id: str, name: str, template: str) -> Upload:
        """The preview, stored beside the file. Raises InputError if no template could help."""
        try:
            with _with_page_wording():
                upload = _preview(self._context, path, upload_id, name, _options(template))
        except InputError as error:
            if path.suffix not in TABLES:
                raise
            where = "" if error.line is None else f"line {error.line}: "
            upload = Upload(upload_id, name, name, 0, 0, (), (), {}, (), None, problem=f"{where}{error.what}")
        upload = replace(upload, template=template, owner=caller_name())
        described = self._folder / f"{upload_id}.meta"
        described.touch(0o600)
        described.write_text(json.dumps(asdict(upload)), encoding="utf-8")
        return upload

    def find(self, upload_id: str) -> Upload:
        """The stored preview. Raises Problem 404 if it is gone or another caller's."""
        try:
            kept = json.loads((self._folder / f"{_checked(upload_id)}.meta").read_text(encoding="utf-8"))
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

    def start(self, upload_id: str, batch: str, caller: str) -> AddReport:
        """Submit the tasks of the file and delete it. Tasks that the batch has already are skipped."""
        context, upload, path = self._context, self.find(upload_id), self._path(upload_id)
        if upload.problem:
            raise InputError(upload.problem)
        check_batch_name(batch)
        task_actions.start_batch(context, batch, caller)
        now = context.now()
        known = context.store.reports.batch(batch)
        is_new = known is None or not known.total
        options = for_batch(_options(upload.template), None if is_new or known is None else known.options)
        context.store.intake.create_batch(batch, now=now, source=upload.filename, submitter=caller)
        if is_new:
            context.store.intake.set_batch_options(batch, stored_options(options))
        lines = read_tasks(
            path,
            TaskContext(batch, context.settings, now, caller),
            options,
        )
        tasks = _good(line if isinstance(line, BadLine) else _allowed(line) for line in lines)
        report = context.store.intake.add_tasks(tasks, now=now)
        text = f"{caller} submitted {upload.filename} as batch {shown(batch)}: {report.added} tasks"
        context.record_event("upload_started", text, batch=batch)
        if not report.changed_count:
            self.drop(upload_id)
        return report

    def drop(self, upload_id: str) -> None:
        with suppress(Problem):  # it is gone already, or another caller's
            self.find(upload_id)
            self._delete(upload_id)

    def _delete(self, upload_id: str) -> None:
        for path in self._folder.glob(f"{_checked(upload_id)}.*"):
            path.unlink(missing_ok=True)

    def _path(self, upload_id: str) -> Path:
        for path in self._folder.glob(f"{_checked(upload_id)}.*"):
            if path.suffix != ".meta":
                return path
        raise not_found("upload of this name")

    def _sweep(self) -> None:
        oldest = time.time() - KEPT_S
        for path in self._folder.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _refuse_too_much(self, owner: str, more_bytes: int) -> None:
        """Raises Problem 413 if the kept files would take too much of the disk."""
        of_all = of_owner = more_bytes
        for path in self._folder.glob("*.meta"):
            with suppress(OSError, ValueError):  # it is being deleted
                size = sum(each.stat().st_size for each in self._folder.glob(f"{path.stem}.*"))
                of_all += size
                of_owner += size if json.loads(path.read_text(encoding="utf-8")).get("owner") == owner else 0
        if of_all > MAX_KEPT_BYTES_IN_ALL or of_owner > MAX_KEPT_BYTES:
            raise Problem(
                413,
                "too_much",
                "Earlier uploads take too much space: submit or discard them first.",
            )


def size_of(stream: BinaryIO) -> int:
    """The size in bytes of an open file, which is left at its beginning."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return end


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "_" for char in name)


def _gone() -> Problem:
    return not_found("upload of this name: it was submitted, discarded or left for an hour")


def _allowed(task: Task) -> Task:
    task_actions.check_priority(task)
    return task


def _checked(upload_id: str) -> str:
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise not_found("upload of this name")
    return upload_id


def _options(template: str) -> ReadOptions:
    """The options for a template from a form, whose lines end in CRLF. Raises InputError for a wrong one."""
    text = template.replace("\r\n", "\n")
    return ReadOptions(template=Template.of(text) if text.strip() else None)


@contextmanager
def _with_page_wording() -> Iterator[None]:
    """Name the field of the page in errors that name the option of the command line."""
    try:
        yield
    except InputError as error:
        raise InputError(error.what.replace(TEMPLATE_OPTION, TEMPLATE_FIELD), line=error.line) from None


def _good(lines: Iterator[Task | BadLine]) -> Iterator[Task]:
    return (line for line in lines if isinstance(line, Task))


def _preview(context: AppContext, path: Path, upload_id: str, filename: str, options: ReadOptions) -> Upload:
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
        except InputError as error:  # submitting would refuse it
            raise InputError(error.what, line=line.line) from None
        sample.add(line)
        if (warning := unserved_reason(line, context.settings, configured)) and warning not in warnings:
            warnings.append(warning)
        types[line.task_type] = types.get(line.task_type, 0) + 1
        if len(rows) < ROWS_SHOWN:
            rows.append(_upload_row(line))
    if not sample.count and not bad_count:
        raise InputError(f"{filename}: no tasks, the file has no rows")
    return Upload(
        upload_id=upload_id,
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
    text = " ".join(task.messages[-1].text.split())[:PREVIEW_CHARS]
    return UploadRow(task.line or 0, task.id, task.task_type, task.tier, text)


def _free_name(context: AppContext, filename: str) -> str:
    """The file's name, with a number appended if a batch has that name."""
    for number in range(1, 1000):
        name = filename if number == 1 else f"{filename}-{number}"
        if context.store.reports.batch(name) is None:
            return name
    return f"{filename}-{secrets.token_hex(4)}"
