"""Open a store for reading or writing: an Icechunk repository, a Zarr folder or a URL."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from neurorecon.errors import MissingFileError, StoreError, UnknownNameError
from neurorecon.io.files import first_line, is_url

if TYPE_CHECKING:
    from neurorecon.store.reading import StoredGroup


def hush_other_tasks() -> None:
    """Suppress asyncio's tracebacks for Zarr tasks that fail in addition to the one that is reported.

    Zarr reads and writes many chunks at once. If the disk is full, several of them fail. The first one raises a clear
    error; for each of the others, asyncio would print a traceback, even after a command has finished. Messages about
    other tasks are not affected.
    """
    logging.getLogger("asyncio").addFilter(_heard)  # adding the same filter again has no effect


def _heard(record: logging.LogRecord) -> bool:
    if "never retrieved" not in record.msg or not record.exc_info or record.exc_info[1] is None:
        return True
    frames = traceback.walk_tb(record.exc_info[1].__traceback__)
    return not any(str(frame.f_globals.get("__name__")).startswith("zarr.") for frame, _ in frames)


#: Icechunk's id of the initial, empty snapshot, which readers see until the first build is complete.
EMPTY = "1CECHNKREP0F1RSTCMT0"


def icechunk_storage(location: str) -> Any:
    """Return Icechunk's storage for a folder or an ``s3://``, ``gs://`` or ``az://`` URL.

    Credentials are read from the environment.
    """
    import icechunk

    # Icechunk warns about concurrent commits, which WriterLock prevents, and logs errors that it raises as well.
    icechunk.set_logs_filter("off")
    hush_other_tasks()
    url = urlparse(location)
    bucket, prefix = url.netloc, url.path.strip("/")
    if url.scheme == "s3":
        return icechunk.s3_storage(bucket=bucket, prefix=prefix, from_env=True)
    if url.scheme in ("gs", "gcs"):
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=True)
    if url.scheme == "az":
        account, _, container = bucket.partition("@")
        return icechunk.azure_storage(account=account, container=container, prefix=prefix, from_env=True)
    return icechunk.local_filesystem_storage(str(Path(location)))


def is_plain_zarr(location: str) -> bool:
    """Return whether a location is a plain Zarr hierarchy rather than an Icechunk repository."""
    if location.rstrip("/").endswith(".zarr"):
        return True
    return not is_url(location) and (Path(location) / "zarr.json").is_file()


def open_for_reading(location: str, snapshot: str | None = None) -> tuple[StoredGroup, str | None]:
    """Open a store read-only.

    Parameters
    ----------
    location : str
        Path or URL.
    snapshot : str, optional
        Id of the snapshot to open; by default the latest. Icechunk only.

    Returns
    -------
    group : StoredGroup
        Root group.
    snapshot : str or None
        Id of the opened snapshot; None for plain Zarr, which has no history.

    Raises
    ------
    MissingFileError
        If there is no store.
    StoreError
        If the store cannot be read, or is not finished.
    UnknownNameError
        If the snapshot does not exist.
    """
    if not is_url(location) and not Path(location).exists():
        raise MissingFileError(
            "there is no store at this location",
            given=location,
            expected="a folder NAME.icechunk or NAME.zarr, or a URL",
            todo="check the path, or build the store: neurorecon build RECIPE.toml "
            "(neurorecon build scenes builds the embedded one)",
        )
    if not is_url(location) and not Path(location).is_dir():
        raise StoreError(
            "a store is a folder",
            given=f"{location}, a file",
            expected="a folder NAME.icechunk or NAME.zarr, or a URL",
            todo="check the path; to build a store from a recipe, run: neurorecon build RECIPE.toml",
        )
    if is_plain_zarr(location):
        return _open_zarr(location, snapshot), None
    return _open_icechunk(location, snapshot)


def _open_zarr(location: str, snapshot: str | None) -> StoredGroup:
    import zarr

    from neurorecon.store.reading import CompleteStore, StoredGroup

    if snapshot is not None:
        raise StoreError(
            "plain Zarr has no snapshots",
            given=f"snapshot={snapshot!r} for {location}",
            expected="no snapshot",
            todo="omit snapshot, or open the Icechunk store from which it was exported",
        )
    hush_other_tasks()
    try:
        if is_url(location):
            store: Any = zarr.storage.FsspecStore.from_url(location, read_only=True)
        else:
            store = zarr.storage.LocalStore(location, read_only=True)
        return StoredGroup(zarr.open_group(CompleteStore(store, location), mode="r"), location)
    except StoreError:
        raise
    except (ImportError, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "cannot read this Zarr hierarchy",
            given=f"{location} ({type(error).__name__}: {error})",
            expected="a folder or URL with a zarr.json at its root",
            todo='check the location; for http and cloud URLs, run: pip install "neurorecon[remote]"',
        ) from error


def _open_icechunk(location: str, snapshot: str | None) -> tuple[StoredGroup, str]:
    import icechunk
    import zarr

    from neurorecon.store.reading import CompleteStore, StoredGroup

    try:
        repository = icechunk.Repository.open(icechunk_storage(location))
    except (icechunk.IcechunkError, ValueError, OSError) as error:
        raise StoreError(
            "cannot read this store",
            given=f"{location} ({first_line(error)})",
            expected="an Icechunk repository or a plain Zarr hierarchy written by neurorecon",
            todo="check the path; if the store is damaged, rebuild it from its recipe",
        ) from error
    try:
        if snapshot is None:
            session = repository.readonly_session("main")
        else:
            session = repository.readonly_session(snapshot_id=snapshot)
        root = zarr.open_group(CompleteStore(session.store, location), mode="r")
        return StoredGroup(root, location), session.snapshot_id
    except StoreError:
        raise
    except FileNotFoundError as error:  # also what zarr makes of a snapshot that cannot be read
        if session.snapshot_id != EMPTY:
            raise unreadable(location, error) from error
        raise StoreError(
            "there is no finished store here",
            given=f"{location}, an Icechunk repository without arrays of neurorecon",
            expected="a store whose build is complete",
            todo="if the build was interrupted, run the same neurorecon build command again to resume it",
        ) from error
    except (icechunk.IcechunkError, ValueError, KeyError, TypeError) as error:  # Zarr raises these for damaged JSON
        if snapshot is None:
            raise unreadable(location, error) from error
        known = [item.id for item in repository.ancestry(branch="main")]
        raise UnknownNameError("snapshot", snapshot, known) from error


def unreadable(location: str, error: BaseException) -> StoreError:
    """Return the error for a store whose latest snapshot is damaged."""
    return StoreError(
        "the latest snapshot of this store cannot be read",
        given=f"{location} ({first_line(error)})",
        expected="an intact store",
        todo="open an older snapshot with snapshot=..., copy the store again, or delete the folder and rebuild it",
    )


def damaged(location: str, path: str, what: str) -> StoreError:
    """Return the error for a group or an array that cannot be read.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    path : str
        Path of the group or array in the store; ``""`` is the root.
    what : str
        What is wrong with it.
    """
    return StoreError(
        f"{path or 'the root of the store'} cannot be read as written",
        given=f"{location}: {what}",
        expected="the data that were written",
        todo=f"run: neurorecon check {location}, which lists all that is damaged; then copy or export the store again, "
        "use an older snapshot, or rebuild the store from its recipe",
    )
