"""Tables in CSV, TSV or Parquet files, and pickled tables and arrays, which are read without running code.

Loading a pickle can run arbitrary code, yet some data sets are distributed as pickles. They are loaded with an
unpickler that accepts only the classes and functions that NumPy arrays and pandas tables consist of (as written by
versions since 2018) and refuses everything else.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import damaged

#: File extensions of the supported formats.
SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table, and where it came from.

    Parameters
    ----------
    where : str
        What error messages call the table.
    frame : DataFrame
        Rows are numbered from 0; column names are strings without surrounding spaces. Values read from CSV and TSV
        files are strings.
    first_line : int
        Line of the file with the first row, for error messages.
    """

    where: str
    frame: pd.DataFrame
    first_line: int = 2

    def __contains__(self, column: str) -> bool:
        return column in self.frame

    def __len__(self) -> int:
        return len(self.frame)

    def require(self, columns: Sequence[str]) -> None:
        """Raise :class:`UnknownNameError` if a column is missing."""
        missing = [column for column in columns if column not in self.frame]
        if missing:
            names = [str(name) for name in self.frame.columns]
            one = len(names) == 1 and any(mark in names[0] for mark in ";\t,")
            raise UnknownNameError(
                f"column in {self.where}",
                missing[0],
                names,
                todo="separate the columns with commas in .csv files, with tabs in .tsv files"
                if one
                else f"add the missing columns, or rename existing ones; required are: {', '.join(columns)}",
            )

    def text(self, column: str) -> np.ndarray:
        """Return a column as strings: integers without a decimal point, missing values as ``""``."""
        return as_text(self.frame[column])

    def names(self, column: str) -> np.ndarray:
        """Return a column as strings; raise :class:`InputError` if a value is missing."""
        found = self.text(column)
        self._refuse(found == "", column, found, "a value in every row")
        return found

    def numbers(self, column: str, low: float = -np.inf) -> np.ndarray:
        """Return a column as floats; raise :class:`InputError` unless all are finite and at least `low`."""
        raw = self.frame[column]
        if raw.dtype == bool:
            raw = raw.astype(float)
        values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wanted = "finite numbers" + ("" if low == -np.inf else f", {low:g} or more")
        with np.errstate(invalid="ignore"):
            self._refuse(~np.isfinite(values) | (values < low), column, raw.to_numpy(), wanted)
        return values

    def integers(self, column: str, low: int) -> np.ndarray:
        """Return a column as integers; raise :class:`InputError` unless all are integers of at least `low`."""
        values = self.numbers(column, low)
        self._refuse(values != np.round(values), column, values, f"integers, {low} or more")
        return values.astype(np.int64)

    def _refuse(self, bad: np.ndarray, column: str, values: np.ndarray, wanted: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{self.where}: the column {column!r} cannot be used",
                given=f"{values[row]!r} in row {row + 1} (line {row + self.first_line}); "
                f"{int(bad.sum())} of {len(bad)} rows are affected",
                expected=wanted,
                todo="fix the table, or omit the column if it is optional",
            )

    def refuse_duplicates(self, values: np.ndarray, what: str, wanted: str) -> None:
        """Raise :class:`InputError` if a value occurs more than once."""
        double = pd.Series(values)[pd.Series(values).duplicated()].unique()
        if len(double):
            raise InputError(
                f"{self.where}: {what} occur more than once",
                given=", ".join(map(str, double[:5])) + (f" and {len(double) - 5} more" if len(double) > 5 else ""),
                expected=wanted,
                todo="fix the table",
            )


def read_table(path: Path) -> Table:
    """Read a table.

    Parameters
    ----------
    path : path
        A comma-separated (.csv), tab-separated (.tsv) or Parquet file. The first line of a text file contains the
        column names.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If the file cannot be read, has no rows, or has two columns of the same name; or if no package that reads
        Parquet is installed.
    """
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    except ImportError as error:
        raise InputError(
            f"{path} needs a package that reads Parquet",
            given="neither pyarrow nor fastparquet is installed",
            expected="one of them to be installed",
            todo="pip install pyarrow, or save the table as .csv",
        ) from error
    except InputError:
        raise
    except Exception as error:  # the parsers of CSV and Parquet raise different exceptions
        raise damaged(path, error) from error
    return as_table(frame, str(path))


def _read_text(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = pd.read_csv(
        path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=True
    )
    return pd.DataFrame(rows.to_numpy()[1:], columns=rows.to_numpy()[0])


def as_table(values: Any, where: str) -> Table:
    """Create a table from a DataFrame or a mapping of columns.

    Parameters
    ----------
    values : DataFrame or mapping of str to sequence
        The columns.
    where : str
        What error messages call the table.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If `values` is neither, has no rows, or has two columns of the same name.
    """
    if isinstance(values, Mapping):
        try:
            values = pd.DataFrame({str(name): column for name, column in values.items()})
        except ValueError as error:
            raise InputError(
                f"{where} is not a table", given=str(error), expected="columns of the same length"
            ) from error
    if not isinstance(values, pd.DataFrame):
        raise InputError(
            f"{where} is not a table",
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
            given=f"two columns {double[0]!r}" if double else "no rows",
            expected="distinct column names, and at least one row",
            todo="fix the table",
        )
    return Table(where, frame)


def as_text(column: pd.Series) -> np.ndarray:
    """Return values as strings (object array): integers without a decimal point, missing values as ``""``."""
    codes, values = pd.factorize(column, use_na_sentinel=False)  # most columns have few distinct values
    return np.array([_one(value) for value in values], dtype=object)[codes]


def _one(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None or (np.isscalar(value) and pd.isna(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


#: Names that occur in pickled arrays and numbers, by module. They only construct data.
_NUMPY = {
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "_codecs": "encode",
    "builtins": "slice bytearray",
}

#: Names that occur in pickled tables, pandas 0.23 to 3.
_PANDAS = {
    "pandas": "DataFrame Series Index RangeIndex StringDtype",
    "pandas.arrays": "StringArray NumpyExtensionArray",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block",
    "pandas.core.frame": "DataFrame",
    "pandas.core.series": "Series",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas.core.indexes.range": "RangeIndex",
    "pandas.core.indexes.numeric": "Int64Index Float64Index",
    "pandas.core.arrays.string_": "StringDtype StringArray",
}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Encode text as pickled bytes require. Other encodings are refused, because they would import a module by name."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it uses the encoding {encoding!r}")
    return text.encode("latin1")


def _moved(module: str, name: str) -> Any:
    """Return the object of a name that was moved, or is called differently, since it was pickled; else None."""
    if (module, name) == ("_codecs", "encode"):
        return _encode
    if module == "pandas.core.indexes.numeric":
        import pandas as pd

        return pd.Index
    if (module, name) == ("pandas.core.internals.managers", "BlockManager"):
        from pandas.core.internals import BlockManager

        class OldBlockManager(BlockManager):
            """Pickles from before pandas 1.3 lack the arguments that the constructor requires now."""

            def __new__(cls, *args: Any) -> Any:
                return BlockManager.__new__(BlockManager, *(args or ((), [], False)))

        return OldBlockManager
    return None


class _Unpickler(pickle.Unpickler):
    """Unpickler that accepts the given names and refuses all others."""

    def __init__(self, file: BinaryIO, known: dict[str, str], encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of an accepted name; raise for all others."""
        plain = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core")
        if name not in self._known.get(plain, "").split():
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of an array or a table")
        moved = _moved(plain, name)
        if moved is not None:
            return moved
        return super().find_class(plain.replace("numpy.core", "numpy._core"), name)


def load_arrays(path: Path, todo: str) -> Any:
    """Load a pickle of NumPy arrays, numbers and strings, and dicts and lists of these, without running code.

    Parameters
    ----------
    path : path
        The file; pickles of Python 2 are supported.
    todo : str
        What the error message advises if the file is missing or cannot be read.

    Returns
    -------
    object

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, or contains anything else. None of its code is run.
    """
    return _load(path, _NUMPY, todo)


def load_table(path: Path, todo: str) -> Any:
    """Load a pickled pandas table; see :func:`load_arrays`.

    Returns
    -------
    DataFrame

    Raises
    ------
    MissingFileError, InputError
        As in :func:`load_arrays`, or if the pickle does not contain a table.
    """
    import pandas as pd

    found = _load(path, {**_NUMPY, **_PANDAS}, todo)
    if not isinstance(found, pd.DataFrame):
        raise InputError(
            f"{path} does not contain a table", given=type(found).__name__, expected="a pandas DataFrame", todo=todo
        )
    return found


def _load(path: Path, known: dict[str, str], todo: str) -> Any:
    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="a pickle", todo=todo)

    def attempt(encoding: str) -> Any:
        with path.open("rb") as file:
            return _Unpickler(file, known, encoding).load()

    try:
        try:
            found = attempt("ASCII")
        except UnicodeDecodeError:
            found = attempt("latin1")  # arrays pickled by Python 2
    except Exception as error:  # pandas and NumPy raise many types of exceptions for damaged files
        raise InputError(
            f"{path} cannot be read",
            given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
            expected="a pickle of arrays and tables only; anything else is refused, because loading it could run code",
            todo=todo,
        ) from error
    return found
