"""Write a store in transactions, one writer at a time.

Icechunk's storage on a local disk is not safe for concurrent commits, so a writer holds an advisory lock on a file next
to the store. The kernel releases the lock when the process ends for any reason, so a killed build leaves no stale lock.
The lock file keeps the name of its holder, which tells the next writer that the previous one did not end properly.

Arrays are written in blocks of whole chunks, read back, and compared by digest. A commit makes all blocks so far
permanent. A later run finds them by the block digests stored with each array, and resumes after them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from neurorecon.errors import MissingFileError, NeuroreconError, StoreError, StoreLockedError, StoreWriteError
from neurorecon.io.files import is_url, move, remove_leftovers, write_error
from neurorecon.io.tensors import array_digest, block_digest, dtype_name
from neurorecon.store import ownership, schema
from neurorecon.store.backend import icechunk_storage, is_plain_zarr
from neurorecon.store.ownership import BUILD as BUILD
from neurorecon.store.ownership import MAIN
from neurorecon.store.schema import METADATA_DIGEST, content_digest, count_bytes, metadata_digest


def resolved(path: str | Path) -> Path:
    """Return the location of a store without symbolic links.

    Raises
    ------
    StoreError
        If the location is a link that leads nowhere.
    """
    found = Path(os.path.realpath(path))
    if os.path.islink(path) and not found.exists():
        raise StoreError(
            "the location of the store is a symbolic link that leads nowhere",
            given=f"{path}, a link to {os.readlink(path)}",
            expected="a folder, a link to a store, or a new name",
            todo="mount the disk or get the files that it leads to, or remove the link and run the command again",
        )
    return found


def _lock(file: IO[bytes]) -> None:
    """Take the lock, or raise an OSError."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(file: IO[bytes]) -> None:
    """Release the lock, also where a process forked meanwhile has inherited the file."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


#: How the note of a holder begins; a full disk can cut it anywhere.
_NOTE = b'{"pid"'


class WriterLock:
    """Context manager that holds the lock of a store.

    Parameters
    ----------
    path : path
        Location of the store. Symbolic links are resolved, and the lock is the file ``<path>.lock`` next to the folder
        they lead to, so that there is one lock for a store whatever it is called.
    remove : bool
        Whether to delete the file on exit.

    Attributes
    ----------
    since : datetime
        Time when the lock was taken.
    was_left : bool
        Whether the previous writer was killed or failed.

    Raises
    ------
    StoreError
        If the lock file cannot be created, or is a link or somebody else's file.
    StoreLockedError
        If another process holds the lock.
    """

    def __init__(self, path: str | Path, *, remove: bool = False) -> None:
        self.path = Path(f"{os.path.realpath(path)}.lock")
        self.remove = remove
        self.since = datetime.now(UTC)
        self.was_left = False
        self._file: IO[bytes] | None = None

    def __enter__(self) -> WriterLock:
        while True:
            file = self._open()
            try:
                if self._take(file):
                    self._file = file
                    return self
            except BaseException:
                file.close()
                raise
            file.close()

    def _open(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not in append mode: on a full disk, the content can still be replaced.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            return os.fdopen(os.open(self.path, flags, 0o666), "r+b")
        except OSError as error:
            if self.path.is_symlink():
                raise self._taken("a symbolic link") from error
            raise StoreError(
                "cannot write a store here",
                given=f"{self.path.parent} ({error.strerror})",
                expected="a folder where you can create files",
                todo="choose another location, e.g. --out DIR/NAME.icechunk",
            ) from error

    def _take(self, file: IO[bytes]) -> bool:
        """Lock the file; return False if it was deleted in the meantime by the process that held it."""
        try:
            _lock(file)
        except OSError as error:
            holder = file.read(1000).decode(errors="replace").strip() or "unknown process"
            raise StoreLockedError(
                "another process is writing to this store",
                given=f"{self.path.with_suffix('')}, held by {holder}",
                expected="one writer at a time (reading is always possible)",
                todo="wait until it has finished or stop it, then run the command again",
            ) from error
        try:
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                return False
        except FileNotFoundError:
            return False
        self.since = datetime.now(UTC)
        found = file.read(1000).strip(b" \r\n\0")
        if not found.startswith(_NOTE) and not _NOTE.startswith(found):
            raise self._taken("a file with another content")
        self.was_left = bool(found)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()})
        # The lock works without it, and on a full disk the writer raises a clear error.
        with contextlib.suppress(OSError):
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            os.ftruncate(file.fileno(), os.write(file.fileno(), holder.encode()))
        return True

    def _taken(self, what: str) -> StoreError:
        return StoreError(
            "the name of the lock file is taken by something that neurorecon did not write",
            given=f"{self.path}, {what}",
            expected="no such file, or the lock file of an earlier command",
            todo="move it away, or choose another name for the store with --out",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with contextlib.suppress(OSError):
                if kind is None:
                    os.ftruncate(file.fileno(), 0)
                if self.remove:
                    self.path.unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):
                _unlock(file)
            file.close()


def holds(root: Any, path: str, dims: Sequence[str], values: np.ndarray, attributes: dict[str, Any]) -> bool:
    """Return whether an array with these values and attributes already exists."""
    if path not in root:
        return False
    array: Any = root[path]
    stored = dict(array.attrs)
    if "digest" not in stored or any(stored.get(name) != value for name, value in attributes.items()):
        return False
    if array.shape != values.shape or tuple(array.metadata.dimension_names or ()) != tuple(dims):
        return False
    rows = int(stored["block_rows"])
    blocks = [block_digest(values[start : start + rows]) for start in range(0, len(values), rows)]
    return bool(stored["digest"] == array_digest(dtype_name(values.dtype), values.shape, blocks))


def open_array(
    root: Any,
    path: str,
    dims: Sequence[str],
    shape: tuple[int, ...],
    dtype: np.dtype,
    attributes: dict[str, Any] | None,
    overwrite: bool,
) -> Any:
    """Return the array of an interrupted run if shape and type match, otherwise a new one."""
    if path in root and not overwrite:
        array: Any = root[path]
        if array.shape == shape and dtype_name(array.dtype) == dtype_name(dtype):
            return array
    group, _, name = path.rpartition("/")
    parent = root.require_group(group) if group else root
    text = dtype.kind not in "biufc"
    size = np.dtype("<U16") if text else dtype
    chunks = schema.chunks_of(shape, size)
    array = parent.create_array(
        name,
        shape=shape,
        dtype=str if text else dtype,
        chunks=chunks,
        compressors=schema.compressors(dtype),
        config={"write_empty_chunks": True},  # a missing chunk is then always damage
        dimension_names=list(dims),
        overwrite=True,
    )
    array.attrs.update(
        {
            **(attributes or {}),
            "block_rows": schema.block_rows(shape, chunks, size) if shape else 1,
            "block_digests": [],
        }
    )
    return array


def storable(values: np.ndarray) -> np.ndarray:
    """Return values as they are stored: numbers unchanged, everything else as text."""
    values = np.asarray(values)
    return values if values.dtype.kind in "biufc" else values.astype(np.dtypes.StringDType())


def write_block(array: Any, path: str, start: int, stop: int, values: np.ndarray) -> str:
    """Write rows, read them back, and return their digest."""
    values = np.asarray(values)
    if values.dtype.kind in "biufc":
        values = values.astype(array.dtype, copy=False)
    if values.shape != (stop - start, *array.shape[1:]):
        raise StoreError(
            f"rows {start} to {stop} of {path} have the wrong shape",
            given=str(values.shape),
            expected=str((stop - start, *array.shape[1:])),
            todo="fix the reader: its tables and arrays do not match",
        )
    array[start:stop] = values
    digest = block_digest(values)
    if block_digest(array[start:stop]) != digest:
        raise StoreWriteError(
            f"rows {start} to {stop} of {path} were not stored correctly",
            given="a block that differs after reading it back; it was not committed",
            expected="identical data",
            todo="check the disk, then run the same command again; it resumes from the last commit",
        )
    return digest


logger = logging.getLogger("neurorecon")

#: Seconds between commits, and thus the work lost if the process is killed (in addition to the current block).
COMMIT_EVERY = 3.0


class StoreWriter:
    """Context manager that holds the lock and a writable session of an Icechunk store.

    Parameters
    ----------
    path : path
        Location of the store. Symbolic links are resolved first, so the lock is that of the folder they lead to.
    create : (str, str), optional
        Name and digest of the recipe of a build. Required to create a store; the build leaves them in a marker until
        it is published, see :mod:`~neurorecon.store.ownership`.

    Raises
    ------
    MissingFileError
        If there is no store, and `create` is not given.
    StoreError
        If the store is plain Zarr, a URL or a file, or if there is something that neurorecon did not write.
    StoreLockedError
        If another process is writing to the store.
    StoreWriteError
        If the disk is full or read-only. Commits are kept, and the same call resumes from the last one.

    Notes
    -----
    Data written after the last :meth:`commit` are dropped on exit. A writer that ends successfully after one that did
    not removes what the earlier one left behind; see :meth:`collect`.
    """

    def __init__(self, path: str | Path, create: tuple[str, str] | None = None) -> None:
        if is_plain_zarr(str(path)):
            raise StoreError(
                "plain Zarr is read-only",
                given=str(path),
                expected="an Icechunk store (NAME.icechunk)",
                todo="write to the store from which it was exported, then export it again",
            )
        if is_url(str(path)):
            raise StoreError(
                "stores at URLs are read-only",
                given=str(path),
                expected="a folder NAME.icechunk on this machine, where a lock prevents concurrent writes",
                todo="write to the folder from which it was copied, then copy it again",
            )
        self.path = resolved(path)
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(
                "a store is a folder",
                given=f"{self.path}, a file",
                expected="a folder NAME.icechunk, or a new name",
                todo="choose another name with --out, or move the file away",
            )
        self.branch = MAIN
        self._create = create
        ownership.refuse_foreign(self.path)
        self._lock = WriterLock(self.path)

    def __enter__(self) -> StoreWriter:
        import icechunk

        self._lock.__enter__()
        try:
            self._repository = self._open_or_create()
            self._begin()
        except BaseException as error:
            self._lock.__exit__(None, None, None)
            known = isinstance(error, NeuroreconError)
            if not known and isinstance(error, icechunk.IcechunkError | OSError | ValueError):
                raise write_error(self.path, error, "the store cannot be opened for writing") from error
            raise
        return self

    def _open_or_create(self) -> Any:
        import icechunk

        ownership.refuse_foreign(self.path)  # again, as the lock is held only now
        # Icechunk creates the folder when it is asked about one, so look for it first.
        if not self.path.is_dir() or not icechunk.Repository.exists(icechunk_storage(str(self.path))):
            if self._create is None:
                raise MissingFileError(
                    "there is no store at this location",
                    given=str(self.path),
                    expected="a store to write to",
                    todo="build it first: neurorecon build RECIPE.toml",
                )
            self._create_repository(*self._create)
        return icechunk.Repository.open(icechunk_storage(str(self.path)))

    def _create_repository(self, name: str, digest: str) -> None:
        """Create a repository with its marker in a hidden folder, and rename it to its location."""
        import icechunk

        remove_leftovers(self.path)
        hidden = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".part"))
        try:
            part = hidden / self.path.name
            part.mkdir()
            icechunk.Repository.create(icechunk_storage(str(part)))
            ownership.write_marker(part, name, digest)
            if os.name == "nt" and self.path.is_dir():
                self.path.rmdir()
            move(part, self.path)  # onto an empty folder at most: otherwise the system refuses
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import icechunk

        try:
            if error is None and self._lock.was_left:
                self._collect_if_possible()
        finally:
            self._lock.__exit__(kind, error, trace)
        # A conflict means that the folder was removed, or written to without the lock.
        if isinstance(error, icechunk.IcechunkError | icechunk.ConflictError):
            todo = (
                f"run: neurorecon check {self.path}; if the store is intact, check the disk and run the command again"
            )
            raise write_error(self.path, error, "writing to the store failed", todo) from error

    def _collect_if_possible(self) -> None:
        import icechunk

        try:
            found = self.collect()
        except (icechunk.IcechunkError, OSError) as error:  # the store is complete; only disk space is lost
            logger.warning("could not remove the remains of interrupted builds in %s (%s)", self.path, error)
        else:
            logger.info("removed %.1f MB left by interrupted builds", found / 1e6)

    def collect(self) -> int:
        """Remove chunks that no branch or tag refers to, such as uncommitted chunks of killed builds.

        All snapshots are kept, as are the commits of unfinished builds and everything written since this writer took
        the lock.

        Returns
        -------
        int
            Number of bytes removed.
        """
        return int(self._repository.garbage_collect(self._lock.since).bytes_deleted)

    def _begin(self) -> None:
        import zarr

        self._session = self._repository.writable_session(self.branch)
        self.root = zarr.open_group(self._session.store, mode="a")
        self._last_commit = time.monotonic()

    def checkout(self, branch: str) -> None:
        """Switch to a branch, which is created if needed.

        Builds use a separate branch, so that readers of ``main`` do not see them before :meth:`publish`.
        """
        if branch not in self._repository.list_branches():
            self._repository.create_branch(branch, self._repository.lookup_branch(MAIN))
        self.branch = branch
        self._begin()

    def commit(self, message: str) -> str:
        """Commit everything written so far, and return the id of the snapshot."""
        if not self._session.has_uncommitted_changes:
            return self._session.snapshot_id
        if self.branch == MAIN:
            self._sign()
        snapshot = self._session.commit(message)
        self._begin()
        return snapshot

    def _sign(self) -> None:
        """Store a summary of all arrays and a digest of the metadata."""
        import zarr

        # Reopen the group, so that the digests cover what was written rather than what is cached.
        members = list(zarr.open_group(self._session.store, mode="r").members(max_depth=None))
        arrays = [(path, item) for path, item in members if isinstance(item, zarr.Array)]
        self.root.attrs[schema.SUMMARY] = {"digest": content_digest(arrays), "bytes": count_bytes(arrays)}
        self.root.attrs[METADATA_DIGEST] = metadata_digest(zarr.open_group(self._session.store, mode="r"), members)

    def published_attributes(self) -> dict[str, Any]:
        """Return the root attributes that readers currently see."""
        return ownership.published(self.path, self._repository) or {}

    def unfinished_attributes(self) -> dict[str, Any]:
        """Return ``name`` and ``recipe_digest`` of the build that was begun here and not published; empty if none."""
        found = ownership.unfinished(self._repository)
        marker = None if found or self.published_attributes() else ownership.read_marker(self.path)
        return found if marker is None else {"name": marker.get("recipe"), "recipe_digest": marker["digest"]}

    def restart(self) -> None:
        """Drop the commits of unfinished builds on this branch, and start with an empty root."""
        marker = ownership.read_marker(self.path)
        if self._create is not None and marker is not None and marker["digest"] != self._create[1]:
            try:
                ownership.write_marker(self.path, *self._create)
            except OSError as error:
                raise write_error(self.path, error, "writing to the store failed") from error
        self._repository.reset_branch(self.branch, self._repository.lookup_branch(MAIN))
        self._begin()
        for name in list(self.root):
            del self.root[name]
        self.root.attrs.clear()

    @property
    def is_ahead(self) -> bool:
        """Whether the branch has commits that readers do not see yet."""
        return self._repository.lookup_branch(self.branch) != self._repository.lookup_branch(MAIN)

    def publish(self, message: str) -> str:
        """Commit, make the branch visible to readers, and return the id of the snapshot."""
        self._sign()
        snapshot = self.commit(message)
        self._repository.reset_branch(MAIN, snapshot)
        self._repository.delete_branch(self.branch)
        ownership.remove_marker(self.path)
        return snapshot

    def abandon(self) -> None:
        """Drop the commits of unfinished builds; delete a store that was never published.

        A folder that holds anything else stays, and so does what an older version began, as it has no marker.
        """
        if ownership.delete_unfinished(self.path, self._repository):
            return
        known = self.published_attributes() or ownership.read_marker(self.path)
        if known and self.branch != MAIN:
            self._repository.delete_branch(self.branch)

    @property
    def commit_due(self) -> bool:
        """Whether it is time for a commit."""
        return time.monotonic() - self._last_commit > COMMIT_EVERY

    def put(
        self,
        path: str,
        dims: Sequence[str],
        values: np.ndarray,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Write an array that fits in memory, replacing one of the same name.

        Parameters
        ----------
        path : str
            Group and name, e.g. ``"subj01/roi_mask"``.
        dims : sequence of str
            Dimension names.
        values : array
            Numbers, bools or text.
        attributes : dict, optional
            JSON attributes of the array.
        """
        values = storable(values)
        if holds(self.root, path, dims, values, attributes or {}):
            return  # written by an interrupted build; rewriting it would take additional disk space
        self.stream(
            path,
            dims,
            values.shape,
            values.dtype,
            lambda start, stop: values[start:stop],
            attributes,
            overwrite=True,
        )

    def stream(
        self,
        path: str,
        dims: Sequence[str],
        shape: tuple[int, ...],
        dtype: np.dtype | str,
        read: Callable[[int, int], np.ndarray],
        attributes: dict[str, Any] | None = None,
        *,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write an array block by block, resuming after blocks committed by an earlier run.

        Parameters
        ----------
        path, dims, attributes
            See :meth:`put`.
        shape, dtype
            Shape and type of the whole array.
        read : callable
            ``read(start, stop)`` returns the rows ``start:stop``.
        overwrite : bool
            Start from the beginning even if blocks exist.
        progress : callable, optional
            Called with the number of existing rows, and then with the number of rows of each block.

        Raises
        ------
        StoreError
            If `read` returns an array of the wrong shape.
        StoreWriteError
            If a block differs after reading it back.
        """
        array = open_array(self.root, path, dims, shape, np.dtype(dtype), attributes, overwrite)
        rows = int(array.attrs["block_rows"])
        done: list[str] = list(array.attrs["block_digests"])
        if progress is not None:
            progress(min(len(done) * rows, shape[0]))
        for start in range(len(done) * rows, shape[0], rows):
            stop = min(start + rows, shape[0])
            done.append(write_block(array, path, start, stop, read(start, stop)))
            if progress is not None:
                progress(stop - start)
            if self.commit_due and stop < shape[0]:
                array.attrs["block_digests"] = done
                self.commit(f"{path}: {stop} of {shape[0]} rows")
                array = self.root[path]
        array.attrs["block_digests"] = done
        array.attrs["digest"] = array_digest(dtype_name(array.dtype), shape, done)
