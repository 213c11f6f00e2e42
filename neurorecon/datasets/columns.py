"""Columns of the table of samples beyond those that every data set has: behavior, ratings, what else a table says."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS
from neurorecon.errors import InputError

#: Names that mean something else in the group of a subject, or beside the samples of an array of responses.
RESERVED = frozenset(SAMPLE_COLUMNS).union(
    ("sample", "voxel", "responses", "roi", "rois", "roi_mask", "repeated_task", "ncsnr", "noise_ceiling"),
    ("repeats", "delay", "i", "j", "k", "hemisphere", "vertex", "structure"),
)

#: What counts as a missing value in tables of text.
MISSING = ("", "n/a", "N/A", "NaN", "nan")


def further_columns(samples: pd.DataFrame) -> list[str]:
    """Return the names of the columns beyond :data:`~neurorecon.datasets.base.SAMPLE_COLUMNS`."""
    return [str(name) for name in samples if name not in SAMPLE_COLUMNS]


def can_be_stored(name: object) -> bool:
    """Return whether a further column may have this name.

    Upper and lower case count as the same, because arrays of an exported store are folders.
    """
    text = str(name)
    usable = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text) is not None
    return usable and text.lower() not in RESERVED and not text.lower().startswith("truth_")


def tidy_columns(table: pd.DataFrame, names: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Take columns of a table as further columns: numbers where all that is there are numbers, else text.

    Parameters
    ----------
    table : DataFrame
        Of text, as read from a file, or of any type.
    names : iterable of str
        The columns to take.

    Returns
    -------
    DataFrame
        Those that can be stored: numbers (NaN where missing), truth values or text (``""`` where missing).
    list of str
        The others: their names cannot be those of arrays, or differ from another one by upper and lower case only.
    """
    found: dict[str, np.ndarray] = {}
    left_out: list[str] = []
    for name in names:
        if can_be_stored(name) and name.lower() not in map(str.lower, found):
            found[name] = column_values(_numbers_or_text(table[name]))
        else:
            left_out.append(str(name))
    return pd.DataFrame(found, index=table.index), left_out


def _numbers_or_text(column: pd.Series) -> pd.Series:
    if column.dtype == bool or pd.api.types.is_numeric_dtype(column.dtype):
        return column
    text = column.astype(str)
    text = text[~(column.isna() | text.isin(MISSING))]
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.isna().any() or text.str.match(r"[+-]?0\d").any():  # "007" is a name
        return text.reindex(column.index)
    return numbers.astype(float).reindex(column.index)


def column_values(column: pd.Series) -> np.ndarray:
    """Return a further column as it is stored.

    Returns
    -------
    array, shape (sample,)
        Truth values as bool, whole numbers as int64, other numbers as float64 with NaN where they are missing, all else
        as text with ``""`` where it is missing.
    """
    if column.dtype == bool:
        return column.to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any()
        # A zero is stored without a sign: chunks of zeros are not written, and are read back as plain ones.
        return column.to_numpy(dtype=np.int64) if whole else column.to_numpy(dtype=float, na_value=np.nan) + 0.0
    return np.where(column.isna(), "", column.astype(str)).astype(object)


def check_columns(where: str, samples: pd.DataFrame) -> None:
    """Refuse further columns that cannot be stored, and numbers of trials that are none.

    Raises
    ------
    InputError
        Which names them.
    """
    names = further_columns(samples)
    lower = [name.lower() for name in names]
    wrong = [name for name in names if not can_be_stored(name) or lower.count(name.lower()) > 1]
    if wrong:
        raise InputError(
            f"columns of {where} cannot be stored under their names",
            given=", ".join(map(repr, wrong[:5])),
            expected="letters, digits, '_', '.' and '-', different in more than upper and lower case, and none of "
            + ", ".join(sorted(RESERVED)),
            todo="rename the columns, or leave them out",
        )
    if TRIALS in samples:
        trials = pd.to_numeric(samples[TRIALS], errors="coerce")
        whole = (trials >= 1) & (trials == trials.round()) & np.isfinite(trials)
        if not whole.all():
            raise InputError(
                f"the column {TRIALS!r} of {where} cannot be used",
                given=", ".join(map(str, samples[TRIALS][~whole].iloc[:3])),
                expected="of how many trials each sample is the mean: whole numbers, 1 or more",
                todo="mend the column, or rename it",
            )
