"""Tables in CSV, TSV or Parquet files, and pickled tables and arrays, which are read without running code.

Text files have one rule, that of BIDS: UTF-8, one row per line, all rows as long as the first, which names the columns.
``.csv`` is separated by commas, ``.tsv`` by tabs. Cells may be quoted within a line; in ``.tsv`` files a quotation mark
that is not closed on its line is text. The separator and the encoding are never guessed: a file with others is refused
with their names, because a guess that is wrong once in a thousand files moves a decimal point.

A value is missing (:func:`is_missing`) if it is None, NaN, NaT, pandas' NA, masked, or text that is empty, ``n/a`` or
``N/A``. Every other text, such as ``NA`` or ``nan``, is text.

Loading a pickle can run arbitrary code, yet some data sets are distributed as pickles. They are loaded with an
unpickler that accepts only the classes and functions that NumPy arrays and pandas tables consist of (as written by
versions since 2018) and refuses everything else.
"""

from __future__ import annotations

import csv
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.files import damaged, require_file

#: File extensions of the supported formats.
SUFFIXES = (".csv", ".tsv", ".parquet")

#: Text that counts as a missing value, in every table.
MISSING = ("", "n/a", "N/A")

#: The largest integer of the tables of a store.
LARGEST = 2**31 - 1

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}


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
    lines : int array, shape (row,), optional
        Line of each row in the file, for error messages.
    """

    where: str
    frame: pd.DataFrame
    lines: np.ndarray | None = None

    def __contains__(self, column: str) -> bool:
        return column in self.frame

    def __len__(self) -> int:
        return len(self.frame)

    def require(self, columns: Sequence[str]) -> None:
        """Raise :class:`UnknownNameError` if a column is missing."""
        missing = [column for column in columns if column not in self.frame]
        if missing:
            raise UnknownNameError(
                f"column in {self.where}",
                missing[0],
                [str(name) for name in self.frame.columns],
                todo=f"add the missing columns, or rename existing ones; required are: {', '.join(columns)}",
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
        raw = raw if pd.api.types.is_numeric_dtype(raw.dtype) else pd.Series(as_text(raw))
        values = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wanted = "finite numbers" + ("" if low == -np.inf else f", {low:g} or more")
        with np.errstate(invalid="ignore"):
            self._refuse(~np.isfinite(values) | (values < low), column, raw.to_numpy(), wanted)
        return values

    def integers(self, column: str, low: int) -> np.ndarray:
        """Return a column as integers; raise unless all are integers from `low` to :data:`LARGEST`."""
        values = self.numbers(column, low)
        wrong = (values != np.round(values)) | (values > LARGEST)
        self._refuse(wrong, column, values, f"integers from {low} to {LARGEST:,}, the largest that a store keeps")
        return values.astype(np.int64)

    def _refuse(self, bad: np.ndarray, column: str, values: np.ndarray, wanted: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = values[row].item() if isinstance(values[row], np.generic) else values[row]
            if isinstance(found, float) and found.is_integer():
                found = int(found)  # as it is written in the table
            comma = isinstance(found, str) and "," in found
            raise InputError(
                f"{self.where}: the column {column!r} cannot be used",
                given=f"{found!r} in {self.row(row)}; {int(bad.sum())} of {len(bad)} rows are affected",
                expected=wanted,
                todo="write decimals with a point, as in 0.5"
                if comma
                else "fix the table, or omit the column if it is optional",
            )

    def row(self, row: int) -> str:
        """Return the words for a row in messages: its number from 1, and its line if the table is a text file."""
        return f"row {row + 1}" + ("" if self.lines is None else f" (line {self.lines[row]})")

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
    require_file(path, "a table")
    if path.suffix.lower() != ".parquet":
        return read_text_table(path)
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise InputError(
            f"{path} needs a package that reads Parquet",
            given="neither pyarrow nor fastparquet is installed",
            expected="one of them to be installed",
            todo="pip install pyarrow, or save the table as .csv",
        ) from error
    except Exception as error:  # the parsers of Parquet raise different exceptions
        raise damaged(path, error) from error
    return as_table(frame, str(path))


def read_text_table(path: Path, *, empty: bool = False) -> Table:
    """Read a CSV or TSV file by the rule of this module, all cells as text without surrounding spaces.

    Parameters
    ----------
    path : path
        The file; all extensions but ``.csv`` mean tabs.
    empty : bool
        Whether a table without rows is accepted.

    Returns
    -------
    Table

    Raises
    ------
    MissingFileError, InputError
        If the file is missing, in another encoding or with another separator, has rows of another length than the
        first, no rows, or two columns of the same name.
    """
    require_file(path, "a table")
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    numbered = [(number, line) for number, line in enumerate(_decoded(path).split("\n"), start=1) if line.strip()]
    if not numbered:
        raise InputError(f"{path} cannot be read", given="only blank lines", expected="a table", todo="fix the file")
    cells = [_cells(path, number, line, separator) for number, line in numbered]
    header = cells[0]
    other = next((mark for mark in _NAMES if len(header) == 1 and mark != separator and mark in header[0]), None)
    if other is not None:
        raise InputError(
            f"{path} has another separator than its name says",
            given=f"columns separated by {_NAMES[other]}: {header[0][:60]!r}",
            expected=f"columns separated by {_NAMES[separator]}, and decimals with a point",
            todo="save it as a CSV file with commas (in spreadsheets: 'Text CSV', field delimiter ',', English numbers)"
            if separator == ","
            else "save it with tabs, or rename it to .csv if its columns are separated by commas",
        )
    for (number, _), row in zip(numbered, cells, strict=True):
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if len(row) != len(header):
            raise InputError(
                f"{path} cannot be read as a table",
                given=f"{len(row)} cells in line {number}, for {len(header)} columns; UTF-8, separated by "
                f"{_NAMES[separator]}",
                expected="as many cells in every line as in the first",
                todo=f"quote cells that contain {_NAMES[separator]}, and write decimals with a point"
                if separator == ","
                else "fix the line; cells must not contain tabs or line breaks",
            )
    frame = pd.DataFrame(cells[1:], columns=pd.Index(header, dtype=object), dtype=object)
    table = as_table(frame, str(path), empty=empty)
    return Table(table.where, table.frame, np.array([number for number, _ in numbered[1:]], dtype=int))


def _decoded(path: Path) -> str:
    """Return the text of a file with one kind of line end; refuse all encodings but UTF-8."""
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:1024]:
        given = "UTF-16, or no text"
    else:
        try:
            return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            start = raw.rfind(b"\n", 0, error.start) + 1
            near = raw[max(start, error.start - 12) : error.start + 12].splitlines()[0].decode("cp1252", "replace")
            given = f"byte 0x{raw[error.start]:02x} in line {line} is not UTF-8 (as Windows-1252 it reads {near!r})"
    raise InputError(
        f"{path} cannot be read as text in UTF-8",
        given=given,
        expected="a text file in UTF-8",
        todo="save it in UTF-8 (in Excel: 'CSV UTF-8'; or: iconv -f CP1252 -t UTF-8)",
    )


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    """Return the cells of a line."""
    if '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))]
        except csv.Error as error:
            if separator == ",":
                raise InputError(
                    f"{path} cannot be read as a table",
                    given=f"line {number}: {error}; UTF-8, separated by commas",
                    expected="quotation marks that are closed on the same line, and doubled within a quoted cell",
                    todo="fix the line; a cell must not contain a line break",
                ) from error
    return [cell.strip() for cell in line.split(separator)]


def as_table(values: Any, where: str, *, empty: bool = False) -> Table:
    """Create a table from a DataFrame or a mapping of columns.

    Parameters
    ----------
    values : DataFrame or mapping of str to sequence
        The columns.
    where : str
        What error messages call the table.
    empty : bool
        Whether a table without rows is accepted.

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
    if double or not (len(frame) or empty):
        raise InputError(
            f"{where} cannot be used",
            given=f"two columns {double[0]!r}" if double else "no rows",
            expected="distinct column names, and at least one row",
            todo="fix the table",
        )
    return Table(where, frame)


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT, NA, masked, or text that is empty, ``n/a`` or ``N/A``."""
    if isinstance(value, str):
        return value.strip() in MISSING
    known = value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked
    return known or bool(np.isscalar(value) and pd.isna(value))


def as_text(column: pd.Series) -> np.ndarray:
    """Return values as strings (object array): integers without a decimal point, missing values as ``""``."""
    if isinstance(column.dtype, np.dtype) and not column.dtype.isnative:  # big-endian, e.g. from MATLAB or FITS files
        column = column.astype(column.dtype.newbyteorder("="))
    try:
        codes, values = pd.factorize(column, use_na_sentinel=False)  # most columns have few distinct values
    except TypeError:  # values without a hash, such as lists
        return np.array([_one(value) for value in column], dtype=object)
    return np.array([_one(value) for value in values], dtype=object)[codes]


def _one(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, bytes):  # text of HDF5 and MATLAB files
        value = value.decode("utf-8", "replace")
        return "" if value.strip() in MISSING else value.strip()
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


class _PassedOver:
    """What objects become that are not loaded, whatever they are made with."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _PassedOver:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Unpickler that accepts the given names and refuses all others."""

    def __init__(self, file: BinaryIO, known: dict[str, str], encoding: str, without: Sequence[str] = ()) -> None:
        super().__init__(file, encoding=encoding)
        self._known, self._without = known, without

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of an accepted name; raise for all others."""
        plain = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core")
        if plain.partition(".")[0] in self._without:
            return _PassedOver
        if name not in self._known.get(plain, "").split():
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of an array or a table")
        moved = _moved(plain, name)
        if moved is not None:
            return moved
        return super().find_class(plain.replace("numpy.core", "numpy._core"), name)


def load_arrays(path: Path, todo: str, without: Sequence[str] = ()) -> Any:
    """Load a pickle of NumPy arrays, numbers and strings, and dicts and lists of these, without running code.

    Parameters
    ----------
    path : path
        The file; pickles of Python 2 are supported.
    todo : str
        What the error message advises if the file is missing or cannot be read.
    without : sequence of str
        Packages whose objects are passed over, e.g. ``["nibabel"]`` for an image beside the arrays. They are neither
        imported nor run; something without content takes their place.

    Returns
    -------
    object

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, or contains anything else. None of its code is run.
    """
    return _load(path, _NUMPY, todo, without)


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


def _load(path: Path, known: dict[str, str], todo: str, without: Sequence[str] = ()) -> Any:
    require_file(path, "a pickle", todo)

    def attempt(encoding: str) -> Any:
        with path.open("rb") as file:
            return _Unpickler(file, known, encoding, without).load()

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
