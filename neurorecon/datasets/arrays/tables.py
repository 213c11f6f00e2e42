"""Tables of CSV, TSV or Parquet: read as they are, columns checked and converted one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError, UnknownNameError

#: Endings of the formats.
SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table and where it came from.

    Parameters
    ----------
    where : str
        Its name in messages.
    frame : DataFrame
        Rows are numbered from 0; column names are text without spaces at their ends. Of CSV and TSV all values are
        text.
    first_line : int
        Line of the file that holds the first row, for messages.
    """

    where: str
    frame: pd.DataFrame
    first_line: int = 2

    def __contains__(self, column: str) -> bool:
        return column in self.frame

    def __len__(self) -> int:
        return len(self.frame)

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a table that lacks a column."""
        missing = [column for column in columns if column not in self.frame]
        if missing:
            names = [str(name) for name in self.frame.columns]
            one = len(names) == 1 and any(mark in names[0] for mark in ";\t,")
            raise UnknownNameError(
                f"column in {self.where}",
                missing[0],
                names,
                todo="columns have to be separated by commas in .csv, by tabs in .tsv: save the table so"
                if one
                else f"the table has to have the columns {', '.join(columns)}: add or rename them",
            )

    def text(self, column: str) -> np.ndarray:
        """Return a column as text, whole numbers without a point, missing values as ``""``."""
        return as_text(self.frame[column])

    def names(self, column: str) -> np.ndarray:
        """Return a column as text, none of it missing."""
        found = self.text(column)
        self._refuse(found == "", column, found, "a text in every row")
        return found

    def numbers(self, column: str, low: float = -np.inf) -> np.ndarray:
        """Return a column as finite floats that are not below `low`."""
        raw = self.frame[column]
        if raw.dtype == bool:
            raw = raw.astype(float)
        values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wanted = "finite numbers" + ("" if low == -np.inf else f", {low:g} or more")
        with np.errstate(invalid="ignore"):
            self._refuse(~np.isfinite(values) | (values < low), column, raw.to_numpy(), wanted)
        return values

    def integers(self, column: str, low: int) -> np.ndarray:
        """Return a column as whole numbers that are not below `low`."""
        values = self.numbers(column, low)
        self._refuse(values != np.round(values), column, values, f"whole numbers, {low} or more")
        return values.astype(np.int64)

    def _refuse(self, bad: np.ndarray, column: str, values: np.ndarray, wanted: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{self.where}: the column {column!r} cannot be used",
                given=f"{values[row]!r} in row {row + 1} (line {row + self.first_line}); "
                f"{int(bad.sum())} such rows of {len(bad)}",
                expected=wanted,
                todo="mend the table, or leave the column out where it is optional",
            )

    def refuse_duplicates(self, values: np.ndarray, what: str, wanted: str) -> None:
        """Refuse values that occur twice."""
        double = pd.Series(values)[pd.Series(values).duplicated()].unique()
        if len(double):
            raise InputError(
                f"{self.where}: {what} occur twice",
                given=", ".join(map(str, double[:5])) + (f" and {len(double) - 5} more" if len(double) > 5 else ""),
                expected=wanted,
                todo="mend the table",
            )


def read_table(path: Path) -> Table:
    """Read a table.

    Parameters
    ----------
    path : path
        Comma-separated (.csv), tab-separated (.tsv) or Parquet, with column names in the first line.

    Raises
    ------
    InputError
        Where it cannot be read, is empty, or names a column twice; where Parquet needs a package.
    """
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    except ImportError as error:
        raise InputError(
            f"{path} needs a package that reads Parquet",
            given="neither pyarrow nor fastparquet is installed",
            expected="one of them beside neurorecon",
            todo="pip install pyarrow, or save the table as .csv",
        ) from error
    except InputError:
        raise
    except Exception as error:  # the parsers of CSV and Parquet each have their own
        raise damaged(path, error) from error
    return as_table(frame, str(path))


def _read_text(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = pd.read_csv(
        path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=True
    )
    return pd.DataFrame(rows.to_numpy()[1:], columns=rows.to_numpy()[0])


def as_table(values: Any, where: str) -> Table:
    """Take a DataFrame or a mapping of columns as a table.

    Raises
    ------
    InputError
        Where it is neither, has no rows, or names a column twice.
    """
    if isinstance(values, Mapping):
        try:
            values = pd.DataFrame({str(name): column for name, column in values.items()})
        except ValueError as error:
            raise InputError(f"{where} is no table", given=str(error), expected="columns of one length") from error
    if not isinstance(values, pd.DataFrame):
        raise InputError(
            f"{where} is no table",
            given=type(values).__name__,
            expected="a pandas DataFrame, or a dict of columns",
            todo="pass pandas.DataFrame({'stimulus': [...], ...})",
        )
    frame = values.reset_index(drop=True)
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    double = frame.columns[frame.columns.duplicated()].tolist()
    if double or not len(frame):
        raise InputError(
            f"{where} cannot be used",
            given=f"the column {double[0]!r} twice" if double else "no rows",
            expected="every column once, and at least one row",
            todo="mend the table",
        )
    return Table(where, frame)


def as_text(column: pd.Series) -> np.ndarray:
    """Return values as text (object array): whole numbers without a point, missing values as ``""``."""
    codes, values = pd.factorize(column, use_na_sentinel=False)  # most columns hold few values, each many times
    return np.array([_one(value) for value in values], dtype=object)[codes]


def _one(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or (np.isscalar(value) and pd.isna(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
