"""An exclusive lock of the operating system on a file: one holder on this host, until its process ends.

The kernel releases it when the process ends, in whatever way, and keeps it while the process is stopped. No
process number, host name or clock is involved. The lock stands on a file of its own: opening and closing the
database's file would drop the locks that SQLite holds in this process.

A reader asks with a shared lock, for some microseconds. It never disturbs the holder, which keeps its lock
for life; a starter that meets a reader tries again (`_TRIES`), since a shared lock of its own tells a reader
from a holder.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from ...errors import StoreError

_TRIES, _TRY_EVERY_S = 200, 0.005  # a second of readers, one after the other
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int, *, shared: bool) -> None:
        """Windows locks bytes, and only exclusively: readers and starters are told apart by trying again."""
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _drop(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    # flock, not lockf: a POSIX lock would be dropped whenever this process closes the file anywhere.
    def _take(fd: int, *, shared: bool) -> None:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _drop(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class HostLock:
    """The lock on `path`. One object is one holder; `is_held` asks about all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False where another holder has it. Raises StoreError where there are no locks."""
        if self._fd is not None:
            return True
        fd = self._open(os.O_CREAT)
        try:
            taken = self._taken(fd)
        except StoreError:
            os.close(fd)
            raise
        if taken and _is_file_at(fd, self.path):
            self._fd = fd
            return True
        os.close(fd)  # held, or the file was replaced meanwhile: then this lock is on a file without a name
        return self.acquire() if taken else False

    def release(self) -> None:
        """Let go. The file stays: deleting it would let two holders lock two files of one name."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def is_held(self) -> bool:
        """Whether any process, this one included, holds the lock right now."""
        if self._fd is not None:
            return True
        try:
            fd = self._open(0)
        except FileNotFoundError:
            return False
        try:
            return not self._try(fd, shared=True)
        finally:
            os.close(fd)

    def _taken(self, fd: int) -> bool:
        for _ in range(_TRIES):
            if self._try(fd, shared=False):
                return True
            if sys.platform != "win32" and not self._try(fd, shared=True):
                return False
            if sys.platform != "win32":
                _drop(fd)
            time.sleep(_TRY_EVERY_S)
        return False

    def _try(self, fd: int, *, shared: bool) -> bool:
        try:
            _take(fd, shared=shared)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise self._refusal(error) from error
        return True

    def _open(self, flags: int) -> int:
        try:
            return os.open(self.path, os.O_RDWR | flags, 0o600)
        except FileNotFoundError:
            if not flags:
                raise
            raise StoreError(f"{self.path}: its folder is not there") from None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be opened ({error.strerror})") from error

    def _refusal(self, error: OSError) -> StoreError:
        if error.errno in _NO_LOCKS:
            return StoreError(
                f"{self.path}: this file system has no file locks ({error.strerror}), which keep two "
                "orchestrators apart (put the state folder on a local disk with --state-dir, or set "
                "DATABASE_URL to a PostgreSQL)"
            )
        return StoreError(f"{self.path}: cannot be locked ({error.strerror})")


def _is_file_at(fd: int, path: Path) -> bool:
    """Whether the open file is still the one that the path names."""
    if sys.platform == "win32":  # an open file can't be replaced there
        return True
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
