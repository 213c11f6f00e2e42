"""One writer at a time.

Icechunk's storage on a local disk is not safe for concurrent commits, so a writer holds an advisory lock on a
file beside the store. The kernel lets go of it when the process ends, however it ends: a killed build leaves no
stale lock behind. The file then still says who held it, which tells the next writer that something may be left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from neurorecon.errors import StoreError, StoreLockedError


def _lock(file: IO[str]) -> None:
    """Take the lock or raise OSError; the standard library has one call for Windows and one for all others."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """Context manager that holds the lock of a store.

    Parameters
    ----------
    path : path
        The store; the lock is the file ``<path>.lock`` beside it.

    Attributes
    ----------
    since : datetime
        When the lock was taken.
    was_left : bool
        Whether the writer before this one was killed or ended in an error.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(f"{path}.lock")
        self.since = datetime.now(UTC)
        self.was_left = False
        self._file: IO[str] | None = None

    def __enter__(self) -> WriterLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not to append: on a full disk, what the file says can still be replaced.
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
        except OSError as error:
            raise StoreError(
                "the store cannot be written here",
                given=f"{self.path.parent} ({error.strerror})",
                expected="a folder in which you may create files",
                todo="choose another place, e.g. --out DIR/NAME.icechunk",
            ) from error
        try:
            _lock(file)
        except OSError as error:
            holder = file.read().strip() or "unknown process"
            file.close()
            raise StoreLockedError(
                "another process is writing to this store",
                given=f"{self.path.with_suffix('')}, held by {holder}",
                expected="one writer at a time (reading is always possible)",
                todo="wait until it has finished, or end it, and run the command again",
            ) from error
        self._file = file
        self.since = datetime.now(UTC)
        self.was_left = bool(file.read().strip())
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()})
        # The lock holds without it: on a full disk the writer itself says what is wrong.
        with contextlib.suppress(OSError):
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            os.ftruncate(file.fileno(), os.write(file.fileno(), holder.encode()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            if kind is None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), 0)
            self._file.close()
            self._file = None
