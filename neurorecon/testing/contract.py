"""The error that a broken contract gives, and the small questions that checks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import NeuroreconError


class ContractError(NeuroreconError, AssertionError):
    """A reader, an extractor or a decoder does not keep the contract; the message says what was expected."""


def expect(condition: object, sentence: str) -> None:
    """Raise `sentence` as a :class:`ContractError` unless the condition holds."""
    if not condition:
        raise ContractError(sentence)


def expect_columns(table: Any, columns: tuple[str, ...], what: str) -> None:
    """Expect a table whose first columns are the given ones, in their order."""
    expect(isinstance(table, pd.DataFrame), f"{what} has to be a DataFrame, but is a {type(table).__name__}.")
    found = ", ".join(map(str, table.columns))
    expect(
        tuple(table.columns[: len(columns)]) == columns,
        f"{what} has to begin with the columns {', '.join(columns)}, but has {found}.",
    )
    expect(table.columns.is_unique, f"{what} has to have each column once.")


def expect_strings(values: Iterable[Any], what: str) -> None:
    """Expect strings that are not empty."""
    for value in values:
        expect(
            isinstance(value, str) and value != "",
            f"{what} has to hold strings, none empty, but holds {value!r}.",
        )


def expect_integers(values: pd.Series, what: str, minimum: int) -> None:
    """Expect a column of integers that are not below a minimum."""
    expect(
        pd.api.types.is_integer_dtype(values.dtype),
        f"{what} has to be a column of integers, but is of {values.dtype}.",
    )
    expect(
        not len(values) or values.min() >= minimum,
        f"{what} has to be at least {minimum}, but its least is {values.min() if len(values) else None}.",
    )


def expect_slices(
    read: Callable[[int, int], np.ndarray],
    n: int,
    dtype: type,
    shape: tuple[int, ...],
    what: str,
    max_samples: int,
) -> np.ndarray:
    """Expect of a reading function that any way of slicing gives the same rows.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns rows ``start:stop``.
    n : int
        How many rows there are.
    dtype : type
        Expected type of the values.
    shape : tuple of int
        Expected shape of one row.
    what : str
        Name of the function, for messages.
    max_samples : int
        At most this many rows are read at a time.

    Returns
    -------
    array, shape (row, *shape)
        The first rows.
    """
    k = min(n, max(max_samples, 2))
    first = _rows(read, 0, k, dtype, shape, what)
    original = first.copy()
    middle = k // 2
    end = _rows(read, n - 1, n, dtype, shape, what)  # far away first, so that a cache of the last rows is tested
    parts = [
        _rows(read, middle, k, dtype, shape, what),
        _rows(read, 0, middle, dtype, shape, what),
    ]
    again = np.concatenate(parts[::-1])
    expect(
        np.array_equal(original, again, equal_nan=dtype == np.float32),
        f"{what} has to return the same rows whether read in one slice or in several, whatever is read before.",
    )
    tail = _rows(read, max(n - k, 0), n, dtype, shape, what)
    expect(
        np.array_equal(tail[-1:], end, equal_nan=dtype == np.float32),
        f"{what} has to return the same last row in a slice of one and in a slice of {len(tail)}.",
    )
    if first.flags.writeable and first.size:
        first[...] = 0
        expect(
            np.array_equal(_rows(read, 0, k, dtype, shape, what), original, equal_nan=dtype == np.float32),
            f"{what} has to return an array of its own, but writing into it changed what is read next.",
        )
    return original


def _rows(
    read: Callable[[int, int], np.ndarray],
    start: int,
    stop: int,
    dtype: type,
    shape: tuple[int, ...],
    what: str,
) -> np.ndarray:
    """Read one slice and expect its type and shape."""
    rows = read(start, stop)
    expect(
        isinstance(rows, np.ndarray),
        f"{what} has to return a NumPy array, but returns a {type(rows).__name__}.",
    )
    expect(rows.dtype == dtype, f"{what} has to return {np.dtype(dtype)}, but returns {rows.dtype}.")
    expect(
        rows.shape == (stop - start, *shape),
        f"{what}({start}, {stop}) has to have the shape {(stop - start, *shape)}, but has {rows.shape}.",
    )
    return rows
