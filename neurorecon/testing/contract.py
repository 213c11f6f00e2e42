"""What all contract suites share: named checks, run one by one or under pytest."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import pandas as pd

from neurorecon.errors import NeuroreconError


def draw() -> None:
    """Draw from the global random number generators."""
    random.random()
    np.random.random()  # noqa: NPY002  (the global state is what is tested)
    if find_spec("torch") is not None:
        import torch

        torch.rand(1)


def global_state() -> dict[str, Any]:
    """Return the global state that a check compares, by its name in messages."""
    state = {
        "the random numbers of Python": random.getstate(),
        "the random numbers of NumPy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "NumPy's handling of errors": np.geterr(),
    }
    if find_spec("torch") is None:
        return state
    import torch

    return {
        **state,
        "the random numbers of torch": torch.get_rng_state().numpy().tobytes(),
        "the number of torch's threads": torch.get_num_threads(),
        "whether torch keeps gradients": torch.is_grad_enabled(),
        "torch's default type": torch.get_default_dtype(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's autocast": torch.is_autocast_enabled("cpu"),
        "the precision of torch's matrix products": torch.get_float32_matmul_precision(),
        "the settings of cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
    }


class ContractError(NeuroreconError, AssertionError):
    """A reader, extractor or decoder violates its contract; the message says what was expected."""


def expect(condition: object, sentence: str) -> None:
    """Raise a :class:`ContractError` with the given message unless the condition holds."""
    if not condition:
        raise ContractError(sentence)


def expect_columns(table: Any, columns: tuple[str, ...], what: str) -> None:
    """Expect a table that starts with the given columns, in order."""
    expect(isinstance(table, pd.DataFrame), f"{what} has to be a DataFrame, but is a {type(table).__name__}.")
    found = ", ".join(map(str, table.columns))
    expect(
        tuple(table.columns[: len(columns)]) == columns,
        f"{what} has to begin with the columns {', '.join(columns)}, but has {found}.",
    )
    expect(table.columns.is_unique, f"{what} has to have unique column names.")


def expect_strings(values: Iterable[Any], what: str) -> None:
    """Expect non-empty strings."""
    for value in values:
        expect(
            isinstance(value, str) and value != "",
            f"{what} has to hold strings, none empty, but holds {value!r}.",
        )


def expect_integers(values: pd.Series, what: str, minimum: int) -> None:
    """Expect a column of integers that are not smaller than a minimum."""
    expect(
        pd.api.types.is_integer_dtype(values.dtype),
        f"{what} has to be a column of integers, but is of {values.dtype}.",
    )
    expect(
        not len(values) or values.min() >= minimum,
        f"{what} has to be at least {minimum}, but its minimum is {values.min() if len(values) else None}.",
    )


def expect_slices(
    read: Callable[[int, int], np.ndarray],
    n: int,
    dtype: type,
    shape: tuple[int, ...],
    what: str,
    max_samples: int,
) -> np.ndarray:
    """Expect that a reading function returns the same rows for any way of slicing.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns rows ``start:stop``.
    n : int
        Number of rows.
    dtype : type
        Expected dtype of the values.
    shape : tuple of int
        Expected shape of one row.
    what : str
        Name of the function, for messages.
    max_samples : int
        Maximum number of rows to read at a time.

    Returns
    -------
    array, shape (row, *shape)
        The first rows.

    Raises
    ------
    ContractError
        If slices disagree, or have an unexpected dtype or shape.
    """
    k = min(n, max(max_samples, 2))
    first = _rows(read, 0, k, dtype, shape, what)
    original = first.copy()
    middle = k // 2
    end = _rows(read, n - 1, n, dtype, shape, what)  # a distant row first, to test caches of recent rows
    parts = [
        _rows(read, middle, k, dtype, shape, what),
        _rows(read, 0, middle, dtype, shape, what),
    ]
    again = np.concatenate(parts[::-1])
    expect(
        np.array_equal(original, again, equal_nan=dtype == np.float32),
        f"{what} has to return the same rows in one slice or in several, whatever was read before.",
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
            f"{what} has to return an array of its own, but writing into it changed later reads.",
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


@dataclass(frozen=True)
class Check:
    """A named check of a contract; subclasses define how it is called.

    Parameters
    ----------
    name : str
        Name of the check. ``str(check)`` returns it, for test ids.
    function : callable
        Raises a :class:`~neurorecon.testing.ContractError` if the contract is violated.
    """

    name: str
    function: Callable[..., None]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, functions: Iterable[Callable[..., None]]) -> list[Self]:
        """Return one check per function, named after it without ``check_``."""
        return [cls(function.__name__.removeprefix("check_"), function) for function in functions]


def run_all(checks: Sequence[Check], *arguments: Any, what: str, name: str) -> list[str]:
    """Run all checks, even if some of them fail.

    Parameters
    ----------
    checks : sequence of Check
        The suite.
    *arguments
        Arguments for the function of each check.
    what, name : str
        Kind of object under test, e.g. ``"decoder"``, and its name, for the message.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed, with one line per failure: the name of the check and what was expected.
    """
    failed, error = [], None
    for check in checks:
        try:
            check.function(*arguments)
        except ContractError as caught:
            failed.append(f"{check}: {caught}")
        except Exception as caught:  # exceptions of the code under test are reported, too
            failed.append(f"{check}: the {what} raised {type(caught).__name__}: {caught}")
            error = caught
    if failed:
        raise ContractError("\n".join([f"the {what} {name} does not keep the contract", *failed])) from error
    return [str(check) for check in checks]
