"""Targets that some samples lack: which of them lack the same samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.folds import Fold
from neurorecon.decoders.targets import TargetPart, Targets
from neurorecon.errors import InputError

#: Patterns of missing samples that are fitted; each takes a factorization.
MOST_PATTERNS = 64


def parts_by_missing(targets: Targets) -> list[TargetPart] | None:
    """Return targets in groups that lack the same samples (NaN), or None where nothing is missing.

    Parameters
    ----------
    targets : Targets
        Read once, in blocks.

    Returns
    -------
    list of TargetPart, optional
        Each with the samples that all its targets have.

    Raises
    ------
    InputError
        Where there are more than 64 patterns, or a target has fewer than two samples.
    """
    columns_of: dict[bytes, list[NDArray[np.int64]]] = {}
    for block, values in targets.blocks():
        packed = np.packbits(np.isnan(values), axis=0)
        patterns, codes = np.unique(packed, axis=1, return_inverse=True)
        for number in range(patterns.shape[1]):
            found = block.start + np.flatnonzero(codes.ravel() == number)
            columns_of.setdefault(patterns[:, number].tobytes(), []).append(found)
        if len(columns_of) > MOST_PATTERNS:
            raise InputError(
                "too many patterns of missing targets: each takes a fit of its own",
                given=f"{len(columns_of)} different sets of samples without NaN in the first {block.stop} targets",
                expected=f"at most {MOST_PATTERNS}",
                todo="leave out samples (or targets) that miss some values, or fill them in before fitting",
            )
    parts = []
    for pattern, columns in columns_of.items():
        lacking = np.unpackbits(np.frombuffer(pattern, dtype=np.uint8), count=targets.n_samples).astype(bool)
        rows = np.flatnonzero(~lacking)
        if len(rows) < 2:
            raise InputError(
                "a target is missing in nearly all samples",
                given=f"{len(rows)} samples with target {columns[0][0]}",
                expected="two samples or more",
                todo="leave out this target",
            )
        parts.append(TargetPart(targets, rows, np.concatenate(columns)))
    return None if len(parts) == 1 and len(parts[0].rows) == targets.n_samples else parts


def folds_of_part(folds: list[Fold], rows: NDArray[np.int64], n_samples: int) -> list[Fold]:
    """Return folds among some of the samples, as positions in `rows`; folds that hold out none are left out.

    Raises
    ------
    InputError
        Where no fold is left that can be fitted.
    """
    places = np.full(n_samples, -1)
    places[rows] = np.arange(len(rows))
    kept = [tuple(places[side][places[side] >= 0] for side in fold) for fold in folds]
    found: list[Fold] = [(train, test) for train, test in kept if len(train) and len(test)]
    if not found:
        raise InputError(
            "the samples that a target has are all in one fold",
            given=f"{len(rows)} samples",
            expected="samples in two folds or more",
            todo="give fewer folds or fewer groups, or leave out this target",
        )
    return found
