"""Responses of one subject: their orientation, bad voxels, and reading by slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from neurorecon.datasets.arrays.files import ArrayFile
from neurorecon.datasets.parts import Screened
from neurorecon.errors import InputError

#: Bytes that are read at a time where the whole array is passed through.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Responses:
    """An array of responses, read by slices.

    Parameters
    ----------
    array : ArrayFile
        (sample, voxel), or (voxel, sample).
    transposed : bool
        Whether it is (voxel, sample).
    rows : int array, shape (sample,)
        Its rows that are samples, increasing.
    """

    array: ArrayFile
    transposed: bool
    rows: np.ndarray

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return self.array.shape[0 if self.transposed else 1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start:stop`` as float32, shape (sample, voxel)."""
        rows = self.rows[start:stop]
        if not len(rows):
            return np.empty((0, self.voxels), dtype=np.float32)
        first, last = int(rows[0]), int(rows[-1]) + 1
        block = self.array[:, first:last].T if self.transposed else self.array[first:last]
        if len(rows) != last - first:
            block = block[rows - first]
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit into float32 shows as infinity
            return np.array(block, dtype=np.float32, order="C")

    def blocks(self, groups: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (group, samples), a few samples of one group at a time.

        Parameters
        ----------
        groups : int array, shape (sample,)
            The session or run of each sample.
        """
        edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
        step = max(1, BLOCK_BYTES // (self.voxels * max(4, self.array.dtype.itemsize)))
        for begin, end in pairwise(edges):
            for start in range(begin, end, step):
                yield int(groups[begin]), self.read(start, min(start + step, end))


def check_shape(array: ArrayFile, transposed: bool, samples: int, where: str, voxels: int | None) -> None:
    """Refuse responses that do not match the tables.

    Parameters
    ----------
    array : ArrayFile
    transposed : bool
        Whether the recipe says that it is (voxel, sample).
    samples : int
        Rows of the table of samples.
    where : str
        Name of that table.
    voxels : int, optional
        Rows of the table of voxels.

    Raises
    ------
    InputError
        Which says so where the axes are swapped.
    """
    shape = array.shape
    axis = 1 if transposed else 0
    wanted = "(voxel, sample)" if transposed else "(sample, voxel)"
    if len(shape) != 2:
        raise InputError(
            f"{array.where} has the wrong number of axes",
            given=f"shape {shape}",
            expected=wanted,
            todo="flatten volumes to voxels with their mask first: volumes[mask], with mask.nii.gz beside it",
        )
    fits = shape[axis] == samples and voxels in (None, shape[1 - axis])
    swapped = shape[1 - axis] == samples and voxels in (None, shape[axis])
    if fits:
        return
    if swapped:
        raise InputError(
            f"the axes of {array.where} are swapped",
            given=f"shape {shape}, read as {wanted}, for {samples} rows in {where}",
            expected=f"{samples} {'columns' if transposed else 'rows'}",
            todo=f"transpose = {'false' if transposed else 'true'} in [options] of the recipe reads it the other way",
        )
    if shape[axis] == samples:
        return  # the table of voxels does not match: what reads that table says so
    raise InputError(
        f"{array.where} does not match {where}",
        given=f"shape {shape}, that is {shape[axis]} samples, for {samples} rows in the table",
        expected=f"one row a sample, in the order of the responses {wanted}",
        todo="take the table that belongs to these responses; rest stays in it, with an empty stimulus",
    )


def screen_responses(responses: Responses, groups: np.ndarray) -> Screened:
    """Find voxels that are not finite anywhere, or constant throughout a session (time series: a run).

    Parameters
    ----------
    responses : Responses
    groups : int array, shape (sample,)
        The session or run of each sample. A group of a single sample has no constant voxels.

    Notes
    -----
    One pass over the data, a block at a time; memory for one row and one bool a voxel and group.
    """
    bad = np.zeros(responses.voxels, dtype=bool)
    first: dict[int, np.ndarray] = {}
    still: dict[int, np.ndarray] = {}
    count: dict[int, int] = {}
    for group, block in responses.blocks(groups):
        bad |= ~np.isfinite(block).all(axis=0)
        known = first.setdefault(group, block[0].copy())
        same = (block == known).all(axis=0)
        still[group] = same & still[group] if group in still else same
        count[group] = count.get(group, 0) + len(block)
    constant = np.zeros_like(bad)
    for group, unchanged in still.items():
        if count[group] > 1:
            constant |= unchanged
    constant &= ~bad
    return Screened(~(bad | constant), int(bad.sum()), int(constant.sum()))
