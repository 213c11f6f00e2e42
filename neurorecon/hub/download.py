"""Fetch weights and data sets: from the Hugging Face hub, with nilearn's fetchers, or file by file with pooch.

pooch starts an interrupted file again from its first byte. Half a gigabyte over a slow line deserves better, so
:class:`ResumingDownloader` continues it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
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
from neurorecon.hub.local import VARIABLE, hub_cache, locate, plain_cache, search, verify

#: Data sets that nilearn fetches as wholes, into a folder of their name; the others come file by file.
FETCHED = ("miyawaki2008", "haxby2001")

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT = 30.0
#: Attempts without any progress before giving up, and seconds between them.
ATTEMPTS, PAUSE = 5, 1.0

_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

#: What systems say of a full disk, a used-up quota, a file that may not grow further.
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
    """Fetch a set of weights or a data set. What is there already, and undamaged, is kept.

    Interrupted downloads resume, and a file appears under its name only when it is whole.

    Parameters
    ----------
    name : str
        Name of published weights, or one of :func:`downloadable`.
    folder : path, optional
        Data sets: where to put the files; created where it does not exist. Weights: put them into ``<folder>/<name>``;
        left out, into the folder that ``NEURORECON_WEIGHTS`` names, else into the cache of the Hugging Face hub (files
        that are on no hub: ``$HF_HOME/neurorecon/<name>``).
    excerpt : bool
        A few megabytes of a data set for a first try, in place of the whole (``miyawaki2008``, ``haxby2001``).
    subjects : sequence of str, optional
        Of ``haxby2001``, ``subj1`` to ``subj6``; by default ``subj2``, as nilearn.
    images : bool
        Fetch the images of ``haxby2001`` too.
    progress : bool
        Whether to show on stderr what is being fetched.

    Returns
    -------
    path
        The folder that holds all files: of a data set, the one for ``--root``.

    Raises
    ------
    UnknownNameError
        Where there is no such item, or it cannot be fetched from here.
    InputError
        Offline, no answer, no room on the disk, or a file that is not the one that was published.
    """
    item = find(name)
    if item.kind == "data set" and name not in downloadable():
        todo = f"see what it needs and how to get it: neurorecon datasets show {name}"
        raise UnknownNameError("downloadable data set", name, downloadable(), todo=todo)
    whole = name in FETCHED and not excerpt
    if (subjects is not None or images) and not (whole and item.choices):
        raise InputError(
            f"{name}{' (excerpt)' if excerpt else ''} offers no choice of subjects or images",
            given=", ".join([*(["--subject"] if subjects is not None else []), *(["--images"] if images else [])]),
            expected="neither; they belong to the whole of haxby2001",
            todo="leave it out",
        )
    if item.kind == "weights":
        return _fetch_weights(item, folder, progress)
    if folder is None:
        raise InputError("a data set needs a folder", given="none", expected="a folder for its files", todo="name one")
    for subject in subjects or []:
        if subject not in item.choices["subjects"].values:
            raise UnknownNameError("subject", subject, item.choices["subjects"].values)
    folder = Path(folder)
    options = [*(["--excerpt"] if excerpt else []), *(f"--subject {subject}" for subject in subjects or [])]
    command = " ".join(["neurorecon datasets download", name, f"--out {folder}", *options, *["--images"] * images])
    with _one_error(item, f"{command} (or copy the files from elsewhere into {folder})"):
        if whole:
            _from_nilearn(item, folder, subjects, images, progress)
            return folder / name
        _from_address(item, item.excerpt or item.files, folder, progress)
    return folder


def downloadable() -> list[str]:
    """Return the names of the data sets that :func:`fetch` fetches."""
    return [item.name for item in items("data set") if item.url is not None]


# -- weights ------------------------------------------------------------------------------------------------------


def _fetch_weights(item: Item, folder: str | Path | None, progress: bool) -> Path:
    from huggingface_hub import constants

    if item.origin == "bundled":
        raise InputError(
            f"the weights {item.name!r} cannot be fetched",
            given="bundled weights",
            expected="published weights; bundled ones come with neurorecon",
            todo="reinstall neurorecon if they are missing",
        )
    here = _whole_here(item, folder)
    if here is not None:
        return here
    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"the weights {item.name!r} cannot be fetched offline",
            given="HF_HUB_OFFLINE is set",
            expected="a network",
            todo=f"unset HF_HUB_OFFLINE and run: {_pull(item, folder)}; or copy the files from elsewhere and set "
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
    """Return the folder where the weights are complete and undamaged, None where they have to be fetched."""
    place = search(item.name) if folder is None else search(item.name, folder=folder, only=True)
    if place is None:
        return None
    states = verify(item.name, folder=place)
    corrupt = [state.place for state in states if state.state == "corrupt" and state.place is not None]
    # In a cache nobody puts files by hand; files anywhere else are the user's own.
    caches = hub_cache(), plain_cache()
    own = [path for path in corrupt if not any(path.is_relative_to(cache) for cache in caches)]
    if own:
        raise InputError(
            f"files of the weights {item.name!r} are here, but are not what they should be",
            given=", ".join(map(str, own)),
            expected="the files of the catalog (neurorecon weights verify)",
            todo="delete them and run the same command again, or fetch into another folder: --folder DIR",
        )
    for path in corrupt:
        _remove(path)
    return place if all(state.state in ("good", "unknown") for state in states) else None


def _remove(path: Path) -> None:
    """Remove a file; in the hub's cache, what the link points to as well."""
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
            "the files that came are not the ones that were published, and were removed",
            given="; ".join(f"{state.path}: {state.detail}" for state in corrupt),
            expected=f"the files of {item.name!r} in the catalog",
            todo="try again; if this repeats, the files were changed at their source: please report it",
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
    # nilearn reports its progress on stdout, which belongs to results.
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
    for file in files:
        download_file(f"{item.url}/{file.path}", folder / file.path, sha256=file.sha256, progress=progress)


def download_file(url: str, target: Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Fetch one file, unless it is there; one with another sha256 is replaced.

    Two processes do not fetch the same file at once.

    Parameters
    ----------
    url : str
        ``https://...``
    target : path
        Where to put it.
    sha256 : str, optional
        What it has to be; a file that came and is not is removed.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    DownloadError
        Where the server has no such file, or the connection stays broken.
    ValueError
        Where the sha256 is wrong.
    OSError
        Where the disk is full or the folder may not be written.
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
    """A server that does not answer, or has no such file."""


class ResumingDownloader:
    """A downloader of pooch that continues interrupted files with HTTP Range requests.

    Bytes gather in a hidden file ``.NAME.*.part`` beside the target, which outlives a killed process. Its name says
    which file of the server it belongs to (address, length and tag), so parts of different versions never mix.

    Parameters
    ----------
    target : path
        The file to be made.
    progress : bool
        Whether to show a bar.
    """

    def __init__(self, target: Path, progress: bool = True) -> None:
        self.target, self.progress = target, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Fetch `url` into `output_file`, as pooch asks for it."""
        os.unlink(output_file)  # pooch's own empty file would be left behind by a killed process
        size, tag = self._ask(url)
        key = hashlib.sha256(f"{url} {size} {tag}".encode()).hexdigest()[:12]
        part = self.target.with_name(f".{self.target.name}.{key}.part")
        for old in self.target.parent.glob(f".{self.target.name}.*.part"):
            if old != part:
                old.unlink()  # of another version of the file
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
        """Append to the part until it has all bytes; give up after some attempts that brought none."""
        from tqdm import tqdm

        idle, reason = 0, "the connection broke off"
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
                    reason = f"the connection broke off ({error})"
                idle = 0 if file.tell() > before else idle + 1
                if idle >= ATTEMPTS:
                    raise DownloadError(f"{self.target.name}: {reason}; {file.tell()} of {size} bytes are here")
                if file.tell() == before:
                    time.sleep(PAUSE)
            file.flush()
            os.fsync(file.fileno())


def _stream(url: str, size: int | None, tag: str, file: IO[bytes], bar: Any) -> None:
    """Append what a server sends from the present end of a file on."""
    request = urllib.request.Request(url)
    if file.tell():
        request.add_header("Range", f"bytes={file.tell()}-")
        if tag:
            request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if _tag(response) != tag:
            raise DownloadError("the file changed while it was being fetched")
        if file.tell() and response.status != 206:
            # The server does not know ranges: from the first byte, then.
            bar.update(-file.tell())
            file.seek(0)
            file.truncate()
        # As bytes come, so that a killed process keeps them; never more than was announced, whatever the server sends.
        while block := response.read1(1 << 20 if size is None else min(1 << 20, size - file.tell())):
            file.write(block)
            file.flush()
            bar.update(len(block))


def _tag(response: Any) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


# -- errors -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _one_error(item: Item, command: str) -> Iterator[None]:
    """Turn the many errors of networks and disks into one message with the command that fetches the files."""
    what = f"the weights {item.name!r}" if item.kind == "weights" else item.name
    try:
        yield
    except NeuroreconError:
        raise
    except Exception as error:  # nilearn and the hub's library raise those of their HTTP clients, too
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _no_room(item, f"{error.filename or 'the disk'} ({error.strerror})") from error
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a folder that cannot be written
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, ValueError) and "hash" in lines[0]:  # pooch's
            raise InputError(
                f"{what}: a file is not the one that was published, and was removed",
                given=lines[0].partition(". ")[0],
                expected="the sha256 of the catalog",
                todo="try again; if this repeats, the file was changed at its source or on the way here",
            ) from error
        todo = f"check the network (https_proxy, HF_ENDPOINT) and run the command again, it resumes: {command}"
        if item.repository and getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            todo = (
                f"open https://huggingface.co/{item.repository} in a browser, accept the license if it asks for it, "
                f"log in here with: hf auth login; then run: {command}"
            )
        raise InputError(
            f"{what} could not be downloaded",
            given=f"{item.repository or item.url or item.home}: {lines[0]}"[:300],
            expected="an answer from the server",
            todo=todo,
        ) from error


def _no_room(item: Item, given: str) -> InputError:
    size = "" if item.about is None else f" of about {item.about / 1e9:.1f} GB"
    return InputError(
        f"there is no room for {item.name!r}",
        given=given,
        expected=f"room for files{size}",
        todo="choose another folder (--folder, --out, or set HF_HOME); what has come is kept, and the next run resumes",
    )
