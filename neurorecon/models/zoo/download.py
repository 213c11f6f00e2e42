"""Fetch one file from a plain address: it goes on where it broke off, and appears under its name only when whole.

pooch, the usual choice, starts again from the first byte; half a gigabyte over a slow line deserves better.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from neurorecon.errors import InputError

#: Seconds without a byte after which a connection counts as broken.
TIMEOUT = 30.0
#: Attempts without any progress before giving up, and seconds between them.
ATTEMPTS, PAUSE = 5, 1.0

_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


@dataclass(frozen=True)
class Remote:
    """What a server says of a file: its length, and a tag that changes when the file does."""

    address: str
    size: int | None
    tag: str


def download(address: str, target: Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Fetch a file.

    Bytes gather in a hidden file ``.NAME.*.part`` beside `target`; one that a killed process left is gone on with
    if the file on the server is still the same. Two processes do not fetch the same file at once.

    Parameters
    ----------
    address : str
        ``https://...``
    target : path
        Where to put it.
    sha256 : str, optional
        What it has to be; a file that is not is thrown away.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    InputError
        Where the server has no such file, the connection stays broken, or the sha256 is wrong.
    OSError
        Where the disk is full or the folder may not be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if target.is_file():
            return target
        remote = _ask(address)
        key = hashlib.sha256(f"{address} {remote.size} {remote.tag}".encode()).hexdigest()[:12]
        part = target.with_name(f".{target.name}.{key}.part")
        for old in target.parent.glob(f".{target.name}.*.part"):
            if old != part:
                old.unlink()  # of another version of the file
        _gather(remote, part, progress)
        _check(address, part, sha256)
        os.replace(part, target)
    return target


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait until no other process fetches the same file."""
    from huggingface_hub.utils import WeakFileLock

    lock = target.with_name(f".{target.name}.lock")
    try:
        with WeakFileLock(lock):
            yield
    finally:
        with contextlib.suppress(OSError):  # Windows refuses while another process waits for it
            lock.unlink()


def _ask(address: str) -> Remote:
    request = urllib.request.Request(address, method="HEAD")
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                length = response.headers.get("Content-Length")
                return Remote(address, int(length) if length else None, _tag(response))
        except urllib.error.HTTPError as error:
            raise _refused(address, f"the server answers {error.code} {error.reason}") from error
        except _BROKEN as error:
            reason = error
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE)
    raise _refused(address, f"no connection ({reason})") from reason


def _tag(response: Any) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _gather(remote: Remote, part: Path, progress: bool) -> None:
    """Append to the part until it has all bytes; give up after some attempts that brought none."""
    from tqdm import tqdm

    idle, reason = 0, "the connection broke off"
    with (
        part.open("wb" if remote.size is None else "ab") as file,
        tqdm(
            total=remote.size,
            initial=file.tell(),
            desc=remote.address.rpartition("/")[2],
            unit="B",
            unit_scale=True,
            disable=not progress,
            leave=False,
        ) as bar,
    ):
        while remote.size is None or file.tell() < remote.size:
            before = file.tell()
            try:
                _stream(remote, file, bar)
                if remote.size is None:
                    break
            except urllib.error.HTTPError as error:
                raise _refused(remote.address, f"the server answers {error.code} {error.reason}") from error
            except _BROKEN as error:
                reason = f"the connection broke off ({error})"
            idle = 0 if file.tell() > before else idle + 1
            if idle >= ATTEMPTS:
                raise _refused(remote.address, f"{reason}; {file.tell()} of {remote.size} bytes are here")
            if file.tell() == before:
                time.sleep(PAUSE)
        file.flush()
        os.fsync(file.fileno())


def _stream(remote: Remote, file: BinaryIO, bar: Any) -> None:
    request = urllib.request.Request(remote.address)
    if file.tell():
        request.add_header("Range", f"bytes={file.tell()}-")
        if remote.tag:
            request.add_header("If-Range", remote.tag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if _tag(response) != remote.tag:
            raise _refused(remote.address, "it changed while it was being fetched")
        if file.tell() and response.status != 206:
            # The server cannot go on in the middle: from the first byte, then.
            bar.update(-file.tell())
            file.seek(0)
            file.truncate()
        # As bytes come, so that a killed process keeps them; never more than was announced, whatever the server sends.
        while block := response.read1(1 << 20 if remote.size is None else min(1 << 20, remote.size - file.tell())):
            file.write(block)
            file.flush()
            bar.update(len(block))


def _check(address: str, part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise InputError(
            "the file that came is not the one that was asked for, and was thrown away",
            given=f"{address}, sha256 {found}",
            expected=f"sha256 {sha256}",
            todo="try again; if it stays so, the file was changed or something between here and the server alters it",
        )


def _refused(address: str, why: str) -> InputError:
    return InputError(
        "the file could not be fetched",
        given=f"{address}: {why}",
        expected="an answer from this address",
        todo="check the network (https_proxy is honored) and run the same command again: it goes on where it stopped",
    )
