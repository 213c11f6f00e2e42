"""Responses that lie in parts on disk (sessions, runs): read one part at a time, and screen their voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


def read_by_part(
    lengths: Sequence[int], load: Callable[[int], np.ndarray], voxels: int
) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads samples and keeps the part that it read last.

    Parameters
    ----------
    lengths : sequence of int
        Samples in each part, in the order of the table of samples.
    load : callable
        ``load(part)`` returns its samples, shape (sample, voxel).
    voxels : int
        For an empty selection.

    Returns
    -------
    callable
        ``read(start, stop)``, float32, shape (sample, voxel); :attr:`SubjectData.read_responses`.
    """
    edges = np.cumsum([0, *lengths])
    last: dict[int, np.ndarray] = {}

    def part(number: int) -> np.ndarray:
        if number not in last:
            last.clear()  # before the next one is read: one part in memory, not two
            last[number] = load(number)
        return last[number]

    def read(start: int, stop: int) -> np.ndarray:
        start, stop, _ = slice(start, stop).indices(int(edges[-1]))
        found = [
            part(number)[max(start - first, 0) : stop - first]
            for number, (first, after) in enumerate(pairwise(edges.tolist()))
            if first < stop and after > start
        ]
        return np.concatenate(found).astype(np.float32) if found else np.empty((0, voxels), dtype=np.float32)

    return read


@dataclass(frozen=True)
class Screened:
    """Voxels that can be used, and why the others cannot.

    Parameters
    ----------
    usable : bool array, shape (voxel,)
    not_finite, constant : int
        Voxels with a NaN or an infinity in any part; voxels (among the rest) that do not vary within some part.
    """

    usable: np.ndarray
    not_finite: int
    constant: int

    def report(self, kept: bool = False) -> dict[str, str]:
        """Return the lines for :attr:`SubjectData.report`; none where every voxel can be used."""
        if self.usable.all():
            return {}
        verb = "kept, as zeros where not finite" if kept else "dropped"
        what = f"{self.not_finite:,} not finite, {self.constant:,} constant, of {len(self.usable):,} voxels"
        return {f"voxels {verb}": what}


def screen(parts: Iterable[np.ndarray]) -> Screened:
    """Find the voxels that are NaN, infinite or constant in any part (a session, a run).

    Parameters
    ----------
    parts : iterable of array, shape (sample, voxel)
        One is in memory at a time. A part of a single sample has no constant voxels.
    """
    not_finite = constant = None
    for part in parts:
        bad = ~np.isfinite(part).all(axis=0)
        still = (part == part[:1]).all(axis=0) & ~bad if len(part) > 1 else np.zeros_like(bad)
        not_finite = bad if not_finite is None else not_finite | bad
        constant = still if constant is None else constant | still
    if not_finite is None or constant is None:
        return Screened(np.ones(0, dtype=bool), 0, 0)
    return Screened(~(not_finite | constant), int(not_finite.sum()), int((constant & ~not_finite).sum()))
