"""Find test stimuli that are also training stimuli under another id, which makes scores on them invalid.

Images are compared while they are written, by small gray versions: a matrix product of 16 x 16 pixels finds the most
similar training stimulus of each test stimulus, and the edges at 32 x 32 pixels have to agree too: those of a copy do,
also as JPEG or with another contrast; those of two objects on one smooth background do not. 1,000 test and 10,000
training images take about a second and 50 MB. (A perceptual hash has nothing to add: it would be computed from the
same small versions, and compares no faster than a matrix product.) Rows of targets are compared by digest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.store.schema import TARGETS

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("neurorecon")

#: Attribute of the group of stimuli, and of that of targets, with what was found.
LEAKS = "in_both_splits"

#: Stimuli whose small gray versions correlate more than this are the same stimulus.
SAME = 0.99

#: So must their edges, which differ between two objects in front of the same background.
SAME_EDGES = 0.9

#: Sides of the small versions, in pixels: for grays and for edges.
_GRAY, _EDGES = 16, 32

#: Number of frames that stand for a video.
_FRAMES = 4

#: Values of a block of correlations: 64 MB.
_BLOCK = 2**24


def small_gray(images: np.ndarray, side: int = _GRAY, *, edges: bool = False) -> np.ndarray:
    """Return small gray versions, standardized so that their inner product is their correlation.

    Parameters
    ----------
    images : uint8 array, shape (stimulus, [frame,] y, x, rgb)
        Of videos, four frames count.
    side : int
        Pixels in y and x; smaller images keep their size.
    edges : bool
        Return differences of neighboring pixels instead.

    Returns
    -------
    array, shape (stimulus, pixel), float32
        Zero where an image has a single gray value.
    """
    if images.ndim == 5:
        frames = np.linspace(0, images.shape[1] - 1, min(_FRAMES, images.shape[1])).astype(int)
        images = images[:, frames]
    gray = images.mean(axis=-1, dtype=np.float32)
    for axis in (-2, -1):
        size = gray.shape[axis]
        limits = np.linspace(0, size, min(side, size) + 1).astype(int)
        gray = np.add.reduceat(gray, limits[:-1], axis=axis)
        shape = [1] * gray.ndim
        shape[axis] = -1
        gray /= np.diff(limits).reshape(shape)
    if edges:
        steps = [np.diff(gray, axis=axis).reshape(len(gray), -1) for axis in (-2, -1)]
        gray = np.concatenate(steps, axis=1)
    flat = gray.reshape(len(gray), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.where(length > 1e-3, length, np.inf), dtype=np.float32)


class Watch:
    """Reads stimuli on behalf of a writer, and remembers small versions of them.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns the images or videos of stimuli ``start:stop``.
    number : int
        Number of stimuli.
    """

    def __init__(self, read: Callable[[int, int], np.ndarray], number: int) -> None:
        self._read, self._number = read, number
        self._parts: dict[int, np.ndarray] = {}

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """Return the stimuli ``start:stop``."""
        found = self._read(start, stop)
        if np.ndim(found) in (4, 5) and len(found):  # another shape is the writer's to refuse
            self._parts[start] = small_gray(np.asarray(found))
        return found

    def leaks(self, stored: Any, ids: Sequence[str], splits: np.ndarray) -> list[list[Any]]:
        """Return test stimuli that are training stimuli too, as [test id, training id, correlation].

        Parameters
        ----------
        stored : array, shape (stimulus, ...)
            What was written, read where an earlier run wrote it, and to decide.
        ids : sequence of str
            Of the stimuli.
        splits : array of str, shape (stimulus,)
            Stimuli in neither split are not compared.
        """
        if not {"train", "test"} <= set(splits.tolist()):
            return []
        parts, start = [], 0
        while start < self._number:
            if start not in self._parts:  # an earlier run wrote it
                stop = min([self._number, start + 64, *(begin for begin in self._parts if begin > start)])
                self._parts[start] = small_gray(np.asarray(stored[start:stop]))
            parts.append(self._parts[start])
            start += len(parts[-1])
        return _matches(np.concatenate(parts), stored, ids, splits)


def _matches(small: np.ndarray, stored: Any, ids: Sequence[str], splits: np.ndarray) -> list[list[Any]]:
    train, test = (np.flatnonzero(splits == split) for split in ("train", "test"))
    training, found = small[train], []
    rows = max(1, _BLOCK // len(train))
    for start in range(0, len(test), rows):
        block = test[start : start + rows]
        correlation = small[block] @ training.T
        best = correlation.argmax(axis=1)
        for number in np.flatnonzero(correlation[np.arange(len(block)), best] > SAME):
            one, other = int(block[number]), int(train[best[number]])
            pair = np.stack([np.asarray(stored[row]) for row in (one, other)])
            first, second = small_gray(pair, _EDGES, edges=True)
            if float(first @ second) > SAME_EDGES:
                found.append([str(ids[one]), str(ids[other]), round(float(correlation[number, best[number]]), 4)])
    return found


def identical_rows(values: Any, ids: Sequence[str], splits: Mapping[str, str], rows: int) -> list[list[str]]:
    """Return test stimuli whose row of a target is exactly that of a training stimulus, as [test id, training id].

    Targets with few values, such as categories, have equal rows by nature: nothing is returned unless equal rows are at
    least twice as frequent across the splits as they are among training stimuli. Rows of one value (no motion) do not
    count.

    Parameters
    ----------
    values : Zarr array, shape (stimulus, ...)
        Read in blocks.
    ids : sequence of str
        Stimuli of the rows.
    splits : mapping of str to str
        Split of each stimulus.
    rows : int
        Rows of a block.
    """
    first: dict[bytes, str] = {}
    test: list[tuple[bytes, str]] = []
    training, repeated = 0, set()
    for start in range(0, len(ids), rows):
        block = np.asarray(values[start : start + rows]).reshape(len(ids[start : start + rows]), -1)
        for name, row in zip(ids[start : start + rows], block, strict=True):
            split = splits.get(str(name), "")
            if split not in ("train", "test") or (row == row[0]).all():
                continue
            key = blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
            if split == "test":
                test.append((key, str(name)))
                continue
            training += 1
            if key in first:
                repeated.add(key)
            first.setdefault(key, str(name))
    found = [[name, first[key]] for key, name in test if key in first]
    within = (training - len(first) + len(repeated)) / max(training, 1)
    return found if found and len(found) / len(test) > 2 * within else []


def record_identical_rows(root: Any, name: str, stimuli: pd.DataFrame) -> None:
    """Find rows of a target that both splits share, write them beside the targets, and warn.

    Parameters
    ----------
    root : zarr.Group
        Root of a store that is being written to.
    name : str
        Target, whose values are complete.
    stimuli : DataFrame
        ``store.stimuli``.
    """
    group = root[f"{TARGETS}/{name}"]
    ids = np.asarray(group["stimulus"][:]).astype(object).astype(str).tolist()
    values = group["values"]
    splits = dict(zip(stimuli["id"], stimuli["split"], strict=True))
    found = identical_rows(values, ids, splits, int(values.attrs["block_rows"]))
    if found:
        logger.warning("warning: %s", describe(found, f"target {name}"))
    known = dict(root[TARGETS].attrs.get(LEAKS, {}))
    if found or name in known:
        root[TARGETS].attrs[LEAKS] = {**known, name: found}


def describe(found: Sequence[Sequence[Any]], what: str) -> str:
    """Return a sentence about test stimuli that are in the training split too."""
    names = ", ".join(f"{test} = {train}" for test, train, *_ in found[:3]) + (", ..." if len(found) > 3 else "")
    number = (
        "1 test stimulus is a training stimulus"
        if len(found) == 1
        else f"{len(found):,} test stimuli are training stimuli"
    )
    return f"{number} under another id, judged by {what} ({names}): scores on them are not valid"
