"""Fetch published weights: from the Hugging Face hub, or from a plain address."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurorecon.errors import InputError, NeuroreconError
from neurorecon.models.zoo.download import download
from neurorecon.models.zoo.fingerprints import verify
from neurorecon.models.zoo.places import VARIABLE, hub_cache, locate, plain_cache, search
from neurorecon.models.zoo.table import Weights, find

#: What systems say of a full disk, a used-up quota, a file that may not grow further.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def pull(name: str, folder: str | Path | None = None, *, progress: bool = True) -> Path:
    """Fetch a set of weights, unless it is there and undamaged.

    Downloads go on where they broke off, and a file appears under its name only when it is whole.

    Parameters
    ----------
    name : str
        Name in the zoo.
    folder : path, optional
        Put them into ``<folder>/<name>``. Left out: into the folder that ``NEURORECON_WEIGHTS`` names, else into
        the cache of the Hugging Face hub (files that are on no hub: ``$HF_HOME/neurorecon/<name>``).
    progress : bool
        Whether to show bars.

    Returns
    -------
    path
        The folder that holds all files.

    Raises
    ------
    InputError
        Offline (``HF_HUB_OFFLINE``), no answer, no room on the disk, a file that is not what it should be; or the
        weights are bundled.
    """
    weights = find(name)
    if weights.origin == "bundled":
        raise InputError(
            f"the weights {name!r} cannot be fetched",
            given="bundled weights",
            expected="published weights; bundled ones come with neurorecon",
            todo="install neurorecon anew if they are missing",
        )
    place = _there(name, folder)
    if place is not None:
        return place
    _refuse_offline(weights)
    named = folder or os.environ.get(VARIABLE)
    root = Path(named).expanduser().absolute() if named else None
    _refuse_full_disk(weights, root)
    with _plain_errors(weights):
        if weights.repository is None:
            _from_address(weights, root, progress)
        else:
            _from_hub(weights, root, progress)
    place = locate(name, folder=folder)
    _throw_away_corrupt(name, place)
    return place


def _there(name: str, folder: str | Path | None) -> Path | None:
    """Return the folder where the weights are complete and undamaged, None where they have to be fetched."""
    place = search(name) if folder is None else search(name, folder=folder, only=True)
    if place is None:
        return None
    states = verify(name, folder=place)
    corrupt = [state.place for state in states if state.state == "corrupt" and state.place is not None]
    foreign = [path for path in corrupt if not _is_cached(path)]
    if foreign:
        raise InputError(
            f"files of the weights {name!r} are here, but are not what they should be",
            given=", ".join(map(str, foreign)),
            expected="the files that the zoo knows (neurorecon weights verify)",
            todo="delete them and run the same command again, or fetch into another place: --folder DIR",
        )
    for path in corrupt:
        _throw_away(path)
    return place if all(state.state in ("good", "unknown") for state in states) else None


def _is_cached(path: Path) -> bool:
    """Whether a file lies in a cache, where nobody puts files by hand."""
    return any(path.is_relative_to(cache) for cache in (hub_cache(), plain_cache()))


def _throw_away(path: Path) -> None:
    """Remove a file; in the hub's cache, what the link points to as well."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    if target != path and target.parent.name == "blobs":
        target.unlink(missing_ok=True)


def _throw_away_corrupt(name: str, place: Path) -> None:
    corrupt = [state for state in verify(name, folder=place) if state.state == "corrupt"]
    for state in corrupt:
        if state.place is not None:
            _throw_away(state.place)
    if corrupt:
        raise InputError(
            "files that came are not those that were asked for, and were thrown away",
            given="; ".join(f"{state.path}: {state.detail}" for state in corrupt),
            expected=f"the files of {name!r} as the zoo knows them",
            todo="try again; if it stays so, the files were changed where they are kept: please report it",
        )


def _from_address(weights: Weights, root: Path | None, progress: bool) -> None:
    place = (root if root is not None else plain_cache()) / weights.name
    for file in weights.files:
        download(f"{weights.url}/{file.path}", place / file.path, sha256=file.sha256, progress=progress)


def _from_hub(weights: Weights, root: Path | None, progress: bool) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    within = f"{weights.subfolder}/" if weights.subfolder else ""
    silent = not progress and not are_progress_bars_disabled()
    if silent:
        disable_progress_bars()
    try:
        snapshot_download(
            str(weights.repository),
            allow_patterns=[within + file.path for file in weights.files],
            local_dir=None if root is None else root / weights.name,
            max_workers=4,
        )
    finally:
        if silent:
            enable_progress_bars()


def _refuse_offline(weights: Weights) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(
            f"the weights {weights.name!r} cannot be fetched offline",
            given="HF_HUB_OFFLINE is set",
            expected="a network",
            todo=f"unset HF_HUB_OFFLINE, or copy the files from elsewhere and set {VARIABLE} to their folder",
        )


def _refuse_full_disk(weights: Weights, root: Path | None) -> None:
    place = (root or (hub_cache() if weights.repository else plain_cache())).absolute()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, weights.about
    if needed is not None and free < needed:
        raise _no_room(weights, f"{free / 1e9:.1f} GB free at {place}")


def _no_room(weights: Weights, given: str) -> InputError:
    size = "" if weights.about is None else f" of about {weights.about / 1e9:.1f} GB"
    return InputError(
        f"there is no room for the weights {weights.name!r}",
        given=given,
        expected=f"room for files{size}",
        todo="choose another place: --folder DIR, or set HF_HOME; what has come is kept and gone on with",
    )


@contextmanager
def _plain_errors(weights: Weights) -> Iterator[None]:
    """Turn the many errors of networks and disks into one message."""
    try:
        yield
    except NeuroreconError:
        raise
    except Exception as error:  # the hub's library raises those of its HTTP client, too, which it has changed before
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _no_room(weights, f"{error.filename or 'the disk'} ({error.strerror})") from error
        if isinstance(error, PermissionError):
            raise
        answer = getattr(getattr(error, "response", None), "status_code", None)
        todo = "check the network (https_proxy, HF_ENDPOINT) and run the command again: it goes on where it stopped"
        if answer in (401, 403):
            todo = (
                f"open https://huggingface.co/{weights.repository} in a browser, accept the license if it asks for "
                "it, and log in here: hf auth login"
            )
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"the weights {weights.name!r} could not be fetched",
            given=f"{weights.repository or weights.url}: {lines[0]}",
            expected="an answer from the hub",
            todo=todo,
        ) from error
