"""The file that results are appended to."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from ...control_characters import terminal_safe
from ...errors import ConfigError, InputError, StoreError
from ...records import Result
from .forms import Form, form_of
from .rewriting import RowOrder, copy_without, write_all

STDOUT = "-"


class ResultsFile:
    """Appends rows to a results file, or to standard output for `-`, in the form that its suffix names.

    Opening creates the file with permissions 0600, locks it against a second run, and cuts an incomplete last
    row. Raises InputError for a file that is locked, cannot be written or holds something else.
    """

    def __init__(
        self, path: Path | str, *, simulated: bool, fsync: bool = False, form: Form | None = None
    ) -> None:
        self.simulated = simulated
        self.written = 0  # rows appended by this object
        self.is_closed = False  # standard output has no reader any more
        self._fsync = fsync
        self._form = form or form_of(str(path))
        self.path = None if str(path) == STDOUT else Path(path)
        self._is_new = self.path is not None and not self.path.exists()
        self._file: BinaryIO = sys.stdout.buffer if self.path is None else _open_locked(self.path)
        self._end = 0  # bytes that are whole rows
        if self.path is not None:
            with ExitStack() as undo:
                undo.callback(self._file.close)
                self._end = self._mend(self.path)
                undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close, and remove a new file that stayed empty because the run was refused."""
        if kind is not None and issubclass(kind, ConfigError | InputError) and self._is_new and not self._end:
            with suppress(OSError):  # Windows keeps open files
                cast(Path, self.path).unlink()
        self.close()

    @property
    def name(self) -> str:
        """For messages."""
        return "standard output" if self.path is None else str(self.path)

    def ids(self) -> Iterator[str]:
        """The ids of the existing rows, with one row in memory at a time."""
        for row in self.rows():
            yield str(row["id"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """The existing rows, oldest first: `id`, `status`, `simulated` and the other fields of the form."""
        return iter(()) if self.path is None else _rows(self._form, self.path)

    def append(self, results: Iterable[Result]) -> None:
        """Write the rows of `results` at once. Raises StoreError, and leaves no incomplete row behind."""
        head = b"" if self._end else self._form.head(simulated=self.simulated)
        rows = [self._form.encode(result, simulated=self.simulated) for result in results]
        if not rows:
            return
        try:
            self._write(head + b"".join(rows))
        except OSError as error:
            self._cut_back()
            if self.path is None and isinstance(error, BrokenPipeError):
                self.is_closed = True
                # So that the flush at the end of the process does not fail again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StoreError(
                f"{self.name} cannot be written ({error.strerror or error}); the answers are stored"
            ) from error
        self.written += len(rows)

    def drop(self, ids: Collection[str]) -> int:
        """Remove the rows of these ids; returns how many there were. Raises StoreError.

        The file is replaced as a whole: a reader, and a restart after a crash, find the old or the new one.
        """
        if self.path is None or not ids:
            return 0
        with self._beside(real_path(self.path)) as (aside, new):
            dropped, size = copy_without(self._form.pieces(self.path), new, ids)
            if dropped:
                self._replace(aside, real_path(self.path), new)
                self._end = size
        return dropped

    def arrange(self, ids: Iterable[str]) -> bool:
        """Put the rows into the order of `ids`, and others after them; returns whether any was moved.

        The file is replaced as a whole, as by `drop`. Raises StoreError or InputError, and changes nothing
        then.
        """
        if self.path is None:
            return False
        order = RowOrder(self._form.pieces(self.path), ids)
        if order.is_kept:
            return False
        with self._beside(real_path(self.path)) as (aside, new):
            size = order.copy(self.path, new)
            self._replace(aside, real_path(self.path), new)
            self._end = size
        return True

    @contextmanager
    def _beside(self, path: Path) -> Iterator[tuple[Path, BinaryIO]]:
        """An empty file in the same folder, which is removed unless it replaces this one."""
        aside = path.with_name(f".{path.name}.new")
        new = _open_locked(aside)
        try:
            shutil.copymode(path, aside)
            os.ftruncate(new.fileno(), 0)  # of an earlier crash
            yield aside, new
        except OSError as error:
            raise StoreError(f"{self.name} cannot be rewritten ({error.strerror or error})") from error
        finally:
            if self._file is not new:
                new.close()
                aside.unlink(missing_ok=True)

    @property
    def is_there(self) -> bool:
        """Whether the file is still at its path: it may have been deleted or replaced while it was open."""
        if self.path is None:
            return True
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def reopen(self) -> None:
        """Go on with the file at the path now, or a new one. Raises InputError where it is unusable."""
        if self.path is not None:
            new = _open_locked(self.path)
            self._file.close()
            self._file = new
            self._end = self._mend(self.path)

    def start_over(self, aside: Path) -> None:
        """Set the file aside, and go on with an empty one."""
        if self.path is not None:
            self._file.close()
            real_path(self.path).replace(aside)
            self._file, self._end = _open_locked(self.path), 0

    def _replace(self, aside: Path, path: Path, new: BinaryIO) -> None:
        """Replace the old file by the new one, with both locked until then."""
        old = self._file
        if os.name == "nt":  # it cannot move an open file, and has no such lock
            new.close()
            old.close()
            aside.replace(path)
            new = _open_locked(path)
        else:
            aside.replace(path)
            old.close()
        self._file = new

    def close(self) -> None:
        """Flush and release the lock. Standard output stays open."""
        if self.path is not None:
            self._file.close()

    def _write(self, data: bytes) -> None:
        if self.path is None and self._file.isatty():
            data = terminal_safe(data.decode()).encode()
        write_all(self._file, data)
        self._file.flush()
        if self.path is not None:
            if self._fsync:
                os.fsync(self._file.fileno())
            self._end += len(data)

    def _mend(self, path: Path) -> int:
        """Check that the file holds results, and cut an incomplete last row. Returns its length in bytes."""
        size = path.stat().st_size
        whole = self._form.whole_bytes(path) if size else 0
        if whole < size:
            os.ftruncate(self._file.fileno(), whole)
        elif whole:
            self._file.seek(whole - 1)
            if self._file.read(1) != b"\n":  # a whole row whose line feed was lost
                return whole + self._file.write(b"\n")
        return whole

    def _cut_back(self) -> None:
        """Remove what a failed write left, so that the next row begins on a line of its own."""
        if self.path is not None:
            with suppress(OSError):  # then it is cut when the file is opened again
                os.ftruncate(self._file.fileno(), self._end)


def _rows(form: Form, path: Path) -> Iterator[dict[str, Any]]:
    return (row for _, row in form.pieces(path) if row is not None)


def holds_simulated(path: Path, form: Form | None = None) -> bool | None:
    """Whether the rows of a results file came from the simulator; None without a row.

    Raises InputError for a file that cannot be read, such as some in /proc.
    """
    if not path.is_file():
        return None
    try:
        row = next(_rows(form or form_of(str(path)), path), None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return None if row is None else bool(row.get("simulated"))


def real_path(path: Path) -> Path:
    """Where a symbolic link leads, so that the file is replaced and not the link; any other path as it is."""
    return path.resolve() if path.is_symlink() else path


def _open_locked(path: Path) -> BinaryIO:
    refuse_special(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    # Unbuffered: data of a failed write must not be written by the next flush.
    file = os.fdopen(descriptor, "r+b", buffering=0)
    try:
        _lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError  # it was replaced between opening and locking
    except OSError as error:
        file.close()
        raise InputError(f"{path}: another run is writing to it") from error
    return file


def refuse_special(path: Path) -> None:
    """Raise InputError where `path` exists and is not a regular file.

    Only a regular file can be cut, locked and replaced. Opening a device or a pipe could even block.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    if stat.S_ISREG(mode):
        return
    what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
    raise InputError(f"{path}: is {what}; results need a regular file, or - for standard output")


def _lock(descriptor: int) -> None:
    """Take an advisory lock that ends with the process, where the system has flock."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
