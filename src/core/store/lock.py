"""An exclusive lock of the operating system on a file: one holder on this host, until its process ends.

The kernel releases the lock when the process ends, however it ends, and keeps it while the process is
stopped. No process number, host name or clock is involved. The lock has a file of its own: opening and
closing the database's file would drop the locks that SQLite holds in this process.

A reader takes a shared lock for some microseconds to see whether the lock is held. It never disturbs the
holder, which keeps its lock for life. A process that wants the lock and meets a reader tries again
(`_TRIES`); it can get a shared lock beside a reader, but not beside a holder.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from ...errors import StoreError

_TRIES, _TRY_EVERY_S = 200, 0.005  # one second, for readers one after the other
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})

if sys.platform == "win32":
    import msvcrt

    def _take(fd: int, *, shared: bool) -> None:
        """Windows locks bytes, and only exclusively: retries distinguish readers from holders."""
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
    """The lock on `path`. One object is one holder; `is_held` covers all holders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another holder has it. Raises StoreError if locks are not supported."""
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
        os.close(fd)  # held, or the file was replaced meanwhile and this lock is on a file without a name
        return self.acquire() if taken else False

    def release(self) -> None:
        """Release the lock. The file stays: without it, two holders could lock two files of one name."""
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
            raise StoreError(f"{self.path}: its folder does not exist") from None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be opened ({error.strerror})") from error

    def _refusal(self, error: OSError) -> StoreError:
        if error.errno in _NO_LOCKS:
            return StoreError(
                f"{self.path}: this file system does not support the file lock that keeps two orchestrators "
                f"apart: {error.strerror} (put the state folder on a local disk with --state-dir, or set "
                "DATABASE_URL to a PostgreSQL)"
            )
        return StoreError(f"{self.path}: cannot be locked ({error.strerror})")


def _is_file_at(fd: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    if sys.platform == "win32":  # an open file cannot be replaced there
        return True
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
