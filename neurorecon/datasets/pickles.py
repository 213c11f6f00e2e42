"""Pickled tables and arrays, read without running code.

A pickle is a program: loading one from a stranger runs what it says. Some data sets come as pickles all the same, so
these are loaded by an unpickler that knows a few names and refuses all others: what NumPy arrays and pandas tables are
made of, as the versions since 2018 write them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

from neurorecon.errors import InputError, MissingFileError

#: Names that make arrays and numbers, by module. All of them build data; none runs anything else.
_NUMPY = {
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "_codecs": "encode",
    "builtins": "slice bytearray",
}

#: Names that make tables, in pandas from 0.23 to 3.
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
    """Encode as pickles of bytes do it; other encodings would import a module by name."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _moved(module: str, name: str) -> Any:
    """Return what a name stands for that is no longer where it was pickled, or not called as it was; else None."""
    if (module, name) == ("_codecs", "encode"):
        return _encode
    if module == "pandas.core.indexes.numeric":
        import pandas as pd

        return pd.Index
    if (module, name) == ("pandas.core.internals.managers", "BlockManager"):
        from pandas.core.internals import BlockManager

        class OldBlockManager(BlockManager):
            """Before pandas 1.3, managers were pickled without the arguments that they are made with now."""

            def __new__(cls, *args: Any) -> Any:
                return BlockManager.__new__(BlockManager, *(args or ((), [], False)))

        return OldBlockManager
    return None


class _Unpickler(pickle.Unpickler):
    """Knows the names above and refuses all others."""

    def __init__(self, file: BinaryIO, known: dict[str, str], encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for, if it is known."""
        plain = "builtins" if module == "__builtin__" else module.replace("numpy._core", "numpy.core")
        if name not in self._known.get(plain, "").split():
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array or a table")
        moved = _moved(plain, name)
        if moved is not None:
            return moved
        return super().find_class(plain.replace("numpy.core", "numpy._core"), name)


def load_arrays(path: Path, todo: str) -> Any:
    """Load a pickle that holds NumPy arrays, numbers, strings, and dicts and lists of such; nothing else.

    Parameters
    ----------
    path : path
        The file; those of Python 2 are read too.
    todo : str
        What to do where it is missing or cannot be read, for the message.

    Raises
    ------
    MissingFileError, InputError
        Where it is missing, damaged, or asks for anything else. Nothing of it has been run then.
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
        As in :func:`load_arrays`, and where it holds something else than a table.
    """
    import pandas as pd

    found = _load(path, {**_NUMPY, **_PANDAS}, todo)
    if not isinstance(found, pd.DataFrame):
        raise InputError(f"{path} holds no table", given=type(found).__name__, expected="a pandas DataFrame", todo=todo)
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
            found = attempt("latin1")  # arrays that Python 2 pickled
    except Exception as error:  # pandas and NumPy raise whatever damaged content leads them to
        raise InputError(
            f"{path} cannot be read",
            given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
            expected="a pickle of arrays and tables; anything else in it is refused, because loading could run code",
            todo=todo,
        ) from error
    return found
