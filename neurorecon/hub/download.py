"""Download weights and data sets: from the Hugging Face hub, with nilearn's fetchers, or file by file with pooch.

pooch restarts an interrupted download from the first byte. That is costly for files of half a gigabyte, so
:class:`ResumingDownloader` resumes it instead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from neurorecon.errors import InputError, NeuroreconError, UnknownNameError
from neurorecon.hub.catalog import File, Item, find, items
from neurorecon.hub.local import VARIABLE, hub_cache, locate, pin, plain_cache, search, verify

#: Data sets that nilearn downloads as a whole, into a folder of the same name; the others come file by file.
FETCHED = ("miyawaki2008", "haxby2001")

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT = 30.0
#: Attempts without any progress before giving up, and seconds between them.
ATTEMPTS, PAUSE = 5, 1.0

_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

#: Error codes of a full disk, an exceeded quota, a file that is too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch(
    name: str,
    folder: str | Path | None = None,
    *,
    excerpt: bool = False,
    subjects: Sequence[str] | None = None,
    images: bool = False,
    progress: bool = True,
) -> Path:
    """Download a set of weights or a data set, skipping files that are already present and intact.

    Interrupted downloads resume. A file appears under its final name only once it is complete.

    Parameters
    ----------
    name : str
        Name of published weights, or one of :func:`downloadable`.
    folder : path, optional
        Data sets: destination folder (required), created if it does not exist. Weights: download to
        ``<folder>/<name>``; by default to the folder in ``NEURORECON_WEIGHTS`` if set, else to the cache of the
        Hugging Face hub (files that are not on the hub: ``$HF_HOME/neurorecon/<name>``).
    excerpt : bool
        Download a few megabytes of the data set for a first try (``miyawaki2008``, ``haxby2001``).
    subjects : sequence of str, optional
        Subjects of ``haxby2001``, ``subj1`` to ``subj6``; by default ``subj2``, as in nilearn.
    images : bool
        Also download the images of ``haxby2001``.
    progress : bool
        Whether to show progress on stderr.

    Returns
    -------
    path
        The folder with all files; for a data set, the one to pass as ``--root``.

    Raises
    ------
    UnknownNameError
        If the name is unknown, or the data set cannot be downloaded by neurorecon.
    InputError
        If there is no network, the server does not answer, the disk is full, or a file differs from the published
        one.
    """
    item = find(name)
    if item.kind == "data set" and name not in downloadable():
        todo = f"run neurorecon datasets show {name} to see its files and how to get them"
        raise UnknownNameError("downloadable data set", name, downloadable(), todo=todo)
    whole = name in FETCHED and not excerpt
    if (subjects is not None or images) and not (whole and item.choices):
        raise InputError(
            f"{name}{' (excerpt)' if excerpt else ''} does not take --subject or --images",
            given=", ".join([*(["--subject"] if subjects is not None else []), *(["--images"] if images else [])]),
            expected="neither; they apply to the full haxby2001 only",
            todo="omit them",
        )
    if item.kind == "weights":
        return _fetch_weights(item, folder, progress)
    if folder is None:
        raise InputError(
            "downloading a data set needs a folder", given="none", expected="a folder", todo="pass folder= (--out DIR)"
        )
    for subject in subjects or []:
        if subject not in item.choices["subjects"].values:
            raise UnknownNameError("subject", subject, item.choices["subjects"].values)
    folder = Path(folder)
    options = [*(["--excerpt"] if excerpt else []), *(f"--subject {subject}" for subject in subjects or [])]
    command = " ".join(["neurorecon datasets download", name, f"--out {folder}", *options, *["--images"] * images])
    with _one_error(item, f"{command} (or copy the files from another machine into {folder})"):
        if whole:
            _from_nilearn(item, folder, subjects, images, progress)
            return folder / name
        _from_address(item, item.excerpt or item.files, folder, progress)
    return folder


def downloadable() -> list[str]:
    """Return the names of the data sets that :func:`fetch` can download."""
    return [item.name for item in items("data set") if item.url is not None]


# -- weights ------------------------------------------------------------------------------------------------------


def _fetch_weights(item: Item, folder: str | Path | None, progress: bool) -> Path:
    from huggingface_hub import constants

    if item.origin == "bundled":
        raise InputError(
            f"the weights {item.name!r} cannot be downloaded",
            given="bundled weights",
            expected="published weights; bundled weights ship with neurorecon",
            todo="reinstall neurorecon if they are missing",
        )
    here = _whole_here(item, folder)
    if here is not None:
        return here
    if item.repository is None and item.url is None:
        raise InputError(
            f"the weights {item.name!r} have to be downloaded by hand",
            given=f"{', '.join(file.path for file in item.files)} is not on this machine",
            expected=f"the files of {item.home}",
            todo="; ".join(item.steps),
        )
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"the weights {item.name!r} cannot be downloaded offline",
            given="HF_HUB_OFFLINE is set",
            expected="a network connection",
            todo=f"unset HF_HUB_OFFLINE and run: {_pull(item, folder)}; or copy the files from another machine and set "
            f"{VARIABLE} to their folder",
        )
    named = folder or os.environ.get(VARIABLE)
    root = Path(named).expanduser().absolute() if named else None
    _refuse_full_disk(item, root)
    with _one_error(item, _pull(item, folder)):
        if item.repository is None:
            _from_address(item, item.files, (root or plain_cache()) / item.name, progress)
        else:
            _from_hub(item, root, progress)
    place = locate(item.name, folder=folder)
    _remove_corrupt(item, place)
    return place


def _pull(item: Item, folder: str | Path | None) -> str:
    return f"neurorecon weights pull {item.name}" + ("" if folder is None else f" --folder {folder}")


def _whole_here(item: Item, folder: str | Path | None) -> Path | None:
    """Return the folder with complete and intact weights, or None if they have to be downloaded."""
    place = search(item.name) if folder is None else search(item.name, folder=folder, only=True)
    if place is None:
        return None
    states = verify(item.name, folder=place)
    corrupt = [state.place for state in states if state.state == "corrupt" and state.place is not None]
    # Only delete corrupt files in caches; files anywhere else may be the user's own.
    own = [path for path in corrupt if not _is_cache(path)]
    if own:
        raise InputError(
            f"files of the weights {item.name!r} are corrupt",
            given=", ".join(map(str, own)),
            expected="files with the sha256 of the catalog (see neurorecon weights verify)",
            todo="delete them and run the command again, or download to another folder: --folder DIR",
        )
    for path in corrupt:
        _remove(path)
    return place if all(state.state in ("good", "unknown") for state in states) else None


def _is_cache(path: Path) -> bool:
    return any(path.is_relative_to(cache) for cache in (hub_cache(), plain_cache()))


def _remove(path: Path) -> None:
    """Remove a file, and in the hub's cache the blob that it links to."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    if target != path and target.parent.name == "blobs":
        target.unlink(missing_ok=True)


def _remove_corrupt(item: Item, place: Path) -> None:
    corrupt = [state for state in verify(item.name, folder=place) if state.state == "corrupt"]
    for state in corrupt:
        if state.place is not None:
            _remove(state.place)
    if corrupt:
        raise InputError(
            "the downloaded files differ from the published ones and were removed",
            given="; ".join(f"{state.path}: {state.detail}" for state in corrupt),
            expected=f"the files of {item.name!r} in the catalog",
            todo="try again; if the error persists, the files were changed at their source: please report it",
        )


def _from_hub(item: Item, root: Path | None, progress: bool) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    within = f"{item.subfolder}/" if item.subfolder else ""
    silent = not progress and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        snapshot_download(
            str(item.repository),
            allow_patterns=[within + file.path for file in item.files],
            local_dir=None if root is None else root / item.name,
            max_workers=4,
        )
    finally:
        if silent:
            enable_progress_bars()


def _refuse_full_disk(item: Item, root: Path | None) -> None:
    place = (root or (hub_cache() if item.repository else plain_cache())).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if item.about is not None and free < item.about:
        raise _no_room(item, f"{free / 1e9:.1f} GB free at {place}")


# -- data sets ----------------------------------------------------------------------------------------------------


def _from_nilearn(item: Item, folder: Path, subjects: Sequence[str] | None, images: bool, progress: bool) -> None:
    from nilearn import datasets

    folder.mkdir(parents=True, exist_ok=True)
    # nilearn prints its progress to stdout, which is reserved for results.
    with contextlib.redirect_stdout(sys.stderr):
        if item.name == "miyawaki2008":
            datasets.fetch_miyawaki2008(data_dir=str(folder), verbose=int(progress))
            return
        choice = item.choices["subjects"]
        datasets.fetch_haxby(
            data_dir=str(folder),
            subjects=[list(choice.values).index(subject) + 1 for subject in subjects or choice.default],
            fetch_stimuli=images,
            verbose=int(progress),
        )


# -- single files -------------------------------------------------------------------------------------------------


def _from_address(item: Item, files: Sequence[File], folder: Path, progress: bool) -> None:
    """Download the files of an item; those in caches that differ are replaced, those anywhere else are refused."""
    import pooch

    there = [] if _is_cache(folder) else [file for file in files if file.sha256 and (folder / file.path).exists()]
    own = [folder / file.path for file in there if pooch.file_hash(str(folder / file.path)) != file.sha256]
    if own:
        raise InputError(
            f"files of {item.name!r} are there already and differ from the published ones; they were not changed",
            given=", ".join(map(str, own)),
            expected="no files of these names, or the published ones",
            todo="move or delete them and run the command again, or download to another folder",
        )
    for file in files:
        download_file(f"{item.url}/{file.path}", folder / file.path, sha256=file.sha256, progress=progress)
        if file.sha256 is None and item.kind == "weights":
            pin(folder / file.path)


def download_file(url: str, target: Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Download one file unless it exists; replace an existing one whose sha256 differs.

    A lock file keeps two processes from downloading the same file at once.

    Parameters
    ----------
    url : str
        ``https://...``
    target : path
        Destination file.
    sha256 : str, optional
        Expected digest; a downloaded file with another one is removed.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    path
        `target`.

    Raises
    ------
    DownloadError
        If the server does not have the file, or the connection keeps failing.
    ValueError
        If the sha256 does not match.
    OSError
        If the disk is full or the folder is not writable.
    """
    import pooch
    from huggingface_hub.utils import WeakFileLock

    pooch.get_logger().setLevel("WARNING")
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    known = None if sha256 is None else f"sha256:{sha256}"
    try:
        with WeakFileLock(lock):
            pooch.retrieve(url, known, target.name, target.parent, downloader=ResumingDownloader(target, progress))
    finally:
        with contextlib.suppress(OSError):  # Windows refuses while another process waits for it
            lock.unlink()
    return target


class DownloadError(OSError):
    """The server does not answer or does not have the file."""


class ResumingDownloader:
    """A pooch downloader that resumes interrupted files with HTTP Range requests.

    Bytes are collected in a hidden file ``.NAME.*.part`` beside the target, which survives a killed process. Its name
    depends on the URL, length and ETag of the file, so parts of different versions never mix.

    Parameters
    ----------
    target : path
        Destination file.
    progress : bool
        Whether to show a progress bar.
    """

    def __init__(self, target: Path, progress: bool = True) -> None:
        self.target, self.progress = target, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`; pooch calls this."""
        os.unlink(output_file)  # pooch's own empty file would be left behind by a killed process
        size, tag = self._ask(url)
        key = hashlib.sha256(f"{url} {size} {tag}".encode()).hexdigest()[:12]
        part = self.target.with_name(f".{self.target.name}.{key}.part")
        own = re.compile(rf"\.{re.escape(self.target.name)}\.[0-9a-f]{{12}}\.part")
        for old in self.target.parent.glob(".*.part"):
            if old != part and own.fullmatch(old.name) and not old.is_dir():
                old.unlink()  # part of another version of the file
        self._gather(url, size, tag, part)
        os.replace(part, output_file)

    def _ask(self, url: str) -> tuple[int | None, str]:
        """Return the length of a file, and a tag that changes when the file does."""
        request = urllib.request.Request(url, method="HEAD")
        for attempt in range(ATTEMPTS):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                    length = response.headers.get("Content-Length")
                    return int(length) if length else None, _tag(response)
            except urllib.error.HTTPError as error:
                raise DownloadError(f"{self.target.name}: the server answers {error.code} {error.reason}") from error
            except _BROKEN as error:
                reason = error
                if attempt + 1 < ATTEMPTS:
                    time.sleep(PAUSE)
        raise DownloadError(f"{self.target.name}: no connection ({reason})") from reason

    def _gather(self, url: str, size: int | None, tag: str, part: Path) -> None:
        """Append to the part until it is complete; give up after several attempts without progress."""
        from tqdm import tqdm

        idle, reason = 0, "the connection was lost"
        mode, silent = "wb" if size is None else "ab", not self.progress
        with (
            part.open(mode) as file,
            tqdm(total=size, desc=self.target.name, unit="B", unit_scale=True, disable=silent, leave=False) as bar,
        ):
            bar.update(file.tell())
            while size is None or file.tell() < size:
                before = file.tell()
                try:
                    _stream(url, size, tag, file, bar)
                    if size is None:
                        break
                except urllib.error.HTTPError as error:
                    raise DownloadError(
                        f"{self.target.name}: the server answers {error.code} {error.reason}"
                    ) from error
                except _BROKEN as error:
                    reason = f"the connection was lost ({error})"
                idle = 0 if file.tell() > before else idle + 1
                if idle >= ATTEMPTS:
                    raise DownloadError(f"{self.target.name}: {reason} after {file.tell()} of {size} bytes")
                if file.tell() == before:
                    time.sleep(PAUSE)
            file.flush()
            os.fsync(file.fileno())


def _stream(url: str, size: int | None, tag: str, file: IO[bytes], bar: Any) -> None:
    """Append the rest of a file, from its current end."""
    request = urllib.request.Request(url)
    if file.tell():
        request.add_header("Range", f"bytes={file.tell()}-")
        if tag:
            request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if _tag(response) != tag:
            raise DownloadError("the file changed on the server during the download")
        if file.tell() and response.status != 206:
            # The server does not support ranges: start over.
            bar.update(-file.tell())
            file.seek(0)
            file.truncate()
        # Write bytes as they arrive, so that a killed process keeps them, and never more than the announced size.
        while block := response.read1(1 << 20 if size is None else min(1 << 20, size - file.tell())):
            file.write(block)
            file.flush()
            bar.update(len(block))


def _tag(response: Any) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


# -- errors -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_error(item: Item, command: str) -> Iterator[None]:
    """Turn the many errors of networks and disks into one message with the command to run."""
    what = f"the weights {item.name!r}" if item.kind == "weights" else item.name
    try:
        yield
    except NeuroreconError:
        raise
    except Exception as error:  # nilearn and huggingface_hub also raise the exceptions of their HTTP clients
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _no_room(item, f"{error.filename or 'the disk'} ({error.strerror})") from error
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a folder that cannot be written
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, ValueError) and "hash" in lines[0]:  # pooch's
            raise InputError(
                f"{what}: a downloaded file differs from the published one and was removed",
                given=lines[0].partition(". ")[0],
                expected="the sha256 of the catalog",
                todo="try again; if the error persists, the file was changed at its source or in transit",
            ) from error
        todo = f"check the network (https_proxy, HF_ENDPOINT) and run the command again to resume: {command}"
        if item.repository and getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            todo = (
                f"open https://huggingface.co/{item.repository} in a browser, accept the license if asked, log in on "
                f"this machine with hf auth login, then run: {command}"
            )
        raise InputError(
            f"{what} could not be downloaded",
            given=f"{item.repository or item.url or item.home}: {lines[0]}"[:300],
            expected="a response from the server",
            todo=todo,
        ) from error


def _no_room(item: Item, given: str) -> InputError:
    size = "" if item.about is None else f" of about {item.about / 1e9:.1f} GB"
    return InputError(
        f"not enough disk space for {item.name!r}",
        given=given,
        expected=f"space for files{size}",
        todo="choose another folder (--folder, --out, or HF_HOME), or free space and run the command again to resume",
    )
