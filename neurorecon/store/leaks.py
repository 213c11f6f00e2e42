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
from typing import Any

import numpy as np

from neurorecon.store.schema import SPLITS, STIMULI, TARGETS

logger = logging.getLogger("neurorecon")

#: Attribute of the group of stimuli, and of that of targets, with what was found.
LEAKS = "in_both_splits"

#: Attribute of the group of stimuli: pairs of stimuli that are the same, whatever their split.
SAME_STIMULI = "same"

#: Attribute of the group of targets: what was found for each split column.
LEAKS_OF_COLUMNS = "in_both_splits_of"

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
        if not {"train"} < set(splits.tolist()) - {""}:
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
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero((splits != "train") & (splits != ""))
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


def same_stimuli(read: Callable[[int, int], np.ndarray], ids: Sequence[str], rows: int = 64) -> list[list[str]]:
    """Return pairs that join all stimuli which are the same under several ids, whatever their split.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns the images or videos of stimuli ``start:stop``.
    ids : sequence of str
        Of the stimuli.
    rows : int
        Stimuli that are read at a time.

    Returns
    -------
    list of [id, id]
        A set of n stimuli that are the same has n - 1 pairs.
    """
    starts = range(0, len(ids), rows)
    small = np.concatenate([small_gray(np.asarray(read(start, min(start + rows, len(ids))))) for start in starts])
    edges: dict[int, np.ndarray] = {}

    def edges_of(row: int) -> np.ndarray:
        if row not in edges:
            edges[row] = small_gray(np.asarray(read(row, row + 1)), _EDGES, edges=True)[0]
        return edges[row]

    found, first = [], np.arange(len(ids))  # the first stimulus of the set of each
    step = max(1, _BLOCK // len(small))
    for start in range(0, len(small), step):
        correlation = np.tril(small[start : start + step] @ small.T, start - 1)
        for place, other in np.argwhere(correlation > SAME).tolist():
            row = start + place
            if first[row] != first[other] and float(edges_of(row) @ edges_of(other)) > SAME_EDGES:
                first[first == first[row]] = first[other]
                found.append([str(ids[other]), str(ids[row])])
    return found


def straddling(pairs: Sequence[Sequence[str]], splits: Mapping[str, str]) -> list[list[str]]:
    """Return the test stimuli that are training stimuli under another id, as [test id, training id].

    Parameters
    ----------
    pairs : sequence of [id, id]
        From :func:`same_stimuli`.
    splits : mapping of str to str
        Split of each stimulus.
    """
    found = []
    for members in same_sets(pairs):
        train = next((name for name in members if splits.get(name) == "train"), None)
        found += [[name, train] for name in members if train is not None and splits.get(name) == "test"]
    return found


def same_sets(pairs: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the sets that pairs join, each sorted, in the order of their first members."""
    of: dict[str, set[str]] = {}
    for one, other in pairs:
        joined = of.get(one, {one}) | of.get(other, {other})
        of |= dict.fromkeys(joined, joined)
    return sorted(sorted(members) for members in {id(members): members for members in of.values()}.values())


def row_digests(values: Any, ids: Sequence[str], rows: int) -> dict[str, bytes]:
    """Return the digest of each row of a target, by stimulus; rows of one value (no motion) are left out.

    Parameters
    ----------
    values : Zarr array, shape (stimulus, ...)
        Read in blocks.
    ids : sequence of str
        Stimuli of the rows.
    rows : int
        Rows of a block.
    """
    found = {}
    for start in range(0, len(ids), rows):
        block = np.asarray(values[start : start + rows]).reshape(len(ids[start : start + rows]), -1)
        for name, row in zip(ids[start : start + rows], block, strict=True):
            if (row != row[0]).any():
                found[str(name)] = blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
    return found


def identical_rows(digests: Mapping[str, bytes], splits: Mapping[str, str]) -> list[list[str]]:
    """Return test stimuli whose row of a target is exactly that of a training stimulus, as [test id, training id].

    Targets with few values, such as categories, have equal rows by nature: nothing is returned unless equal rows are at
    least twice as frequent across the splits as they are among training stimuli.

    Parameters
    ----------
    digests : mapping of str to bytes
        From :func:`row_digests`.
    splits : mapping of str to str
        Split of each stimulus.
    """
    train = [name for name in digests if splits.get(name) == "train"]
    test = [name for name in digests if splits.get(name) == "test"]
    of: dict[bytes, list[str]] = {}
    for name in train:
        of.setdefault(digests[name], []).append(name)
    found = [[name, of[digests[name]][0]] for name in test if digests[name] in of]
    within = sum(len(names) for names in of.values() if len(names) > 1) / max(len(train), 1)
    return found if found and len(found) / len(test) > 2 * within else []


def record_identical_rows(root: Any, name: str) -> None:
    """Find rows of a target that both splits share, write them beside the targets, and warn.

    Parameters
    ----------
    root : zarr.Group
        Root of a store that is being written to.
    name : str
        Target, whose values are complete.
    """
    group = root[f"{TARGETS}/{name}"]
    ids = np.asarray(group["stimulus"][:]).astype(object).astype(str).tolist()
    digests = row_digests(group["values"], ids, int(group["values"].attrs["block_rows"]))
    names = np.asarray(root[f"{STIMULI}/id"][:]).astype(object).astype(str).tolist()

    def splits(path: str) -> dict[str, str]:
        return dict(zip(names, np.asarray(root[path][:]).astype(object).astype(str).tolist(), strict=True))

    found = identical_rows(digests, splits(f"{STIMULI}/split"))
    if found:
        logger.warning("warning: %s", describe(found, f"target {name}"))
    known = dict(root[TARGETS].attrs.get(LEAKS, {}))
    if found or name in known:
        root[TARGETS].attrs[LEAKS] = {**known, name: found}
    for column in [path for path, _ in root[SPLITS].arrays()] if SPLITS in root else []:
        found = identical_rows(digests, splits(f"{SPLITS}/{column}"))
        of_columns = dict(root[TARGETS].attrs.get(LEAKS_OF_COLUMNS, {}))
        known = of_columns.get(column, {})
        if found or name in known:
            root[TARGETS].attrs[LEAKS_OF_COLUMNS] = {**of_columns, column: {**known, name: found}}


def describe(found: Sequence[Sequence[Any]], what: str) -> str:
    """Return a sentence about test stimuli that are in the training split too."""
    names = ", ".join(f"{test} = {train}" for test, train, *_ in found[:3]) + (", ..." if len(found) > 3 else "")
    number = (
        "1 test stimulus is a training stimulus"
        if len(found) == 1
        else f"{len(found):,} test stimuli are training stimuli"
    )
    return f"{number} under another id, judged by {what} ({names}): scores on them are not valid"
