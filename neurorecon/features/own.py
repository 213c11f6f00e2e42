"""Add targets that were computed elsewhere, from arrays or files: check them and write them with their provenance."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon import __version__, hub
from neurorecon.errors import InputError, MissingFileError, StoreError, UnknownNameError
from neurorecon.features.base import usual_dims
from neurorecon.io import arrays, tables
from neurorecon.provenance import to_json_types
from neurorecon.store import schema
from neurorecon.store.leaks import record_identical_rows
from neurorecon.store.store import Store
from neurorecon.store.writer import StoreWriter

#: Required provenance of a target that neurorecon did not compute.
REQUIRED = ("model", "source")

#: Attributes that neurorecon itself writes.
_OURS = ("complete", "added", "neurorecon_version")

#: Files of own features: arrays, and tables with a row per stimulus.
FORMATS = (".npy", ".npz", *tables.SUFFIXES)

#: Names of the column of a table, or of the array in a .npz file, that holds the ids of the stimuli.
ID_NAMES = ("stimulus", "stimuli", "stimulus_id", "id", "ids")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]*")


class _AllOrNothing(StoreWriter):
    """Commit once, at the end, so that an error half-way leaves the store unchanged."""

    @property
    def commit_due(self) -> bool:
        """Never, before the end."""
        return False


def add_target(
    store: Store,
    name: str,
    values: Any,
    dims: Sequence[str] | None = None,
    *,
    made_by: Mapping[str, Any] | None = None,
    stimuli: Sequence[str] | str | os.PathLike[str] | None = None,
    feature_names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    key: str | None = None,
    partial: bool = False,
    overwrite: bool = False,
) -> Store:
    """Write a target of your own to the store, from an array or a file.

    Values are read, checked and written block by block, so they need not fit into memory. On any error the store
    stays unchanged.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    name : str
        Name of the target: letters, digits and ``_ . @ -``, starting with a letter.
    values : array, shape (stimulus, ...), or path
        NumPy array, memory map (``np.load(path, mmap_mode="r")``), dask or xarray array of numbers; stored as float32.
        Or a file: .npy, .npz, .csv, .tsv or .parquet. A table has a row for each stimulus, and its ids in a column
        ``stimulus`` or ``id``.
    dims : sequence of str, optional
        Names of the axes after the stimulus; by default, depending on their number, (feature), (token, channel),
        (channel, y, x) or (frame, channel, y, x).
    made_by : mapping
        How the values were computed, as JSON types. ``"model"`` (what computed them) and ``"source"`` (a paper, a
        script, a URL) are required, except of a file, whose name and sha256 are always stored; ``"layer"``,
        ``"preprocessing"``, ``"weights_sha256"`` and ``"license"`` are recommended.
    stimuli : sequence of str, str or path, optional
        Stimulus ids of the rows; by default all stimuli, in the order of ``store.stimuli``. Of a file also a text file
        with one id per line, or the name of the column of a table that holds the ids.
    feature_names : sequence of str, optional
        Names of the features, for values of shape (stimulus, feature); of a table, the names of its columns.
    columns : sequence of str, optional
        Columns of a table; by default all except the ids.
    key : str, optional
        Name of the array in a .npz file with several.
    partial : bool
        Allow stimuli of the store that have no row in the file. Ids that are passed in Python may be some of the
        store's anyway.
    overwrite : bool
        Replace a target of the same name.

    Returns
    -------
    Store
        The store reopened, with the target.

    Raises
    ------
    InputError
        If the name, the values, their shape or the provenance is invalid, or stimuli have no row in a file.
    MissingFileError
        If a file does not exist.
    UnknownNameError
        If a stimulus id is not in the store, or a column not in the table.
    StoreError
        If the store already has a target of this name.

    Examples
    --------
    >>> import numpy as np
    >>> import neurorecon as nr
    >>> store = nr.open_store("stores/scenes.icechunk")
    >>> values = np.arange(2.0 * len(store.stimuli)).reshape(-1, 2)  # (stimulus, feature)
    >>> made_by = {"model": "five raters", "source": "our lab"}
    >>> store = nr.add_target(store, "ratings", values, made_by=made_by, overwrite=True)
    >>> store.targets("ratings").shape == values.shape
    True
    """
    whole = False
    if isinstance(values, str | os.PathLike):
        _check_name(store, name, overwrite)  # before a large file is read
        found = read_features(values, columns, stimuli, key)
        whole = found.stimuli is not None and not partial
        values, stimuli, made_by = found.values, found.stimuli, {**found.made_by, **(made_by or {})}
        feature_names = feature_names or found.feature_names
    elif columns is not None or key is not None or isinstance(stimuli, str | os.PathLike):
        raise InputError(
            "columns, key and a file of ids belong to features in a file",
            given=f"values of type {type(values).__name__}",
            expected="the path of a file as values, or ids as a sequence",
            todo="pass the columns themselves, and the ids as stimuli=[...]",
        )
    ids = _ids(store, stimuli)
    shape = _shape(values, ids, stimuli is None)
    if whole and len(ids) < len(store.stimuli):
        missing = sorted(set(store.stimuli["id"].to_numpy(str).tolist()) - set(ids.tolist()))
        raise InputError(
            "the file has no row for some stimuli of the store",
            given=f"{len(missing)} of {len(store.stimuli)} stimuli have none, e.g. {', '.join(missing[:3])}",
            expected="a row for each stimulus",
            todo="add them, or allow it: --partial (in Python, partial=True); their samples are then left out",
        )
    axes = _dims(dims, shape)
    attributes = _attributes(made_by or {})
    _check_name(store, name, overwrite)
    if feature_names is not None and (len(shape) != 2 or len(feature_names) != shape[1]):
        raise InputError(
            "feature_names do not match the values",
            given=f"{len(feature_names)} names for values of shape {shape}",
            expected="values of shape (stimulus, feature), with one name per feature",
            todo="correct feature_names, or omit them",
        )
    path = f"{schema.TARGETS}/{name}"
    with _AllOrNothing(store.location) as writer:
        if path in writer.root:
            del writer.root[path]
        group = writer.root.require_group(path)
        group.attrs.update({**attributes, "added": True, "neurorecon_version": __version__, "complete": False})
        writer.put(f"{path}/stimulus", ["stimulus"], ids)
        if feature_names is not None:
            writer.put(f"{path}/feature", ["feature"], np.array(list(feature_names), dtype=str))
        writer.stream(f"{path}/values", ["stimulus", *axes], shape, "float32", lambda a, b: _rows(values, a, b, ids))
        record_identical_rows(writer.root, name)
        writer.root[path].attrs["complete"] = True
        writer.commit(f"target {name}, added")
    return store.reopened()


@dataclass(frozen=True)
class OwnFeatures:
    """Features of a file.

    Parameters
    ----------
    values : array, shape (stimulus, ...)
        NumPy array, or what reads the file block by block.
    stimuli : list of str or None
        Ids of the rows; None for all stimuli of the store, in its order.
    feature_names : list of str or None
        Columns of a table.
    made_by : dict
        ``model``, ``source``, ``file``, ``file_sha256``, and ``columns`` or ``key``.
    """

    values: Any
    stimuli: list[str] | None
    feature_names: list[str] | None
    made_by: dict[str, Any]


def read_features(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    stimuli: Sequence[str] | str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> OwnFeatures:
    """Read features from a .npy, .npz, .csv, .tsv or .parquet file; the parameters are those of :func:`add_target`.

    Parameters
    ----------
    path : path
        The file.
    columns, stimuli, key
        As of :func:`add_target`.

    Returns
    -------
    OwnFeatures

    Raises
    ------
    InputError, MissingFileError, UnknownNameError
        If a file is missing, damaged or of another format, or what it holds are not numbers with an id for each row.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if not file.is_file():
        raise MissingFileError(
            "the file of features does not exist", given=str(file), expected=f"a file that ends in {', '.join(FORMATS)}"
        )
    if suffix not in FORMATS:
        raise InputError(
            "features cannot be read from this kind of file",
            given=str(file),
            expected=f"a file that ends in {', '.join(FORMATS)}",
            todo="save an array with numpy.save, with one row per stimulus",
        )
    if (columns is not None and suffix not in tables.SUFFIXES) or (key is not None and suffix != ".npz"):
        raise InputError(
            "only tables have columns, and only .npz files have keys",
            given=f"{file.name}, " + (f"columns={list(columns)}" if columns is not None else f"key={key!r}"),
            expected="columns of .csv, .tsv or .parquet, a key of .npz",
            todo="leave it out",
        )
    made_by = {"model": "own features", "source": file.name, "file": file.name, "file_sha256": hub.fingerprint(file)}
    if suffix in tables.SUFFIXES:
        return _from_table(tables.read_table(file), columns, stimuli, made_by)
    ids = None if stimuli is None else _listed(stimuli)
    if suffix == ".npz":
        key, own_ids = _members(file, key)
        made_by["key"] = key
        ids = own_ids if ids is None else ids
    opened = arrays.open_array(file, key, "features")
    # One number per stimulus is one feature.
    return OwnFeatures(opened if len(opened.shape) > 1 else opened[:][:, None], ids, None, made_by)


def _from_table(
    table: tables.Table,
    columns: Sequence[str] | None,
    stimuli: Sequence[str] | str | os.PathLike[str] | None,
    made_by: dict[str, Any],
) -> OwnFeatures:
    names = [str(name) for name in table.frame.columns]
    column = next((name for name in ID_NAMES if name in names), None)
    if stimuli is not None:
        column = stimuli if isinstance(stimuli, str) and stimuli in names else None
    if column is not None:
        ids = [str(name) for name in table.names(column)]
    elif stimuli is not None:
        ids = _listed(stimuli)
    else:
        raise InputError(
            f"{table.where}: no column holds the ids of the stimuli",
            given=f"the columns {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            expected="a column stimulus or id",
            todo="rename the column, or name it: --stimuli COLUMN (in Python, stimuli='COLUMN')",
        )
    wanted = [name for name in names if name not in (column, *ID_NAMES)] if columns is None else list(columns)
    table.require(wanted)
    if not wanted or len(set(wanted)) < len(wanted):
        raise InputError(
            f"{table.where}: the columns of features cannot be used",
            given=", ".join(wanted) or "no columns besides the ids",
            expected="at least one column, each once",
        )
    values = np.column_stack([table.numbers(name) for name in wanted])
    return OwnFeatures(values, ids, wanted, {**made_by, "columns": wanted})


def _listed(stimuli: Sequence[str] | str | os.PathLike[str]) -> list[str]:
    """Return ids from a text file with one per line, or as they are."""
    if not isinstance(stimuli, str | os.PathLike):
        return [str(name) for name in stimuli]
    path = Path(stimuli)
    if not path.is_file():
        raise MissingFileError(
            "the file of stimulus ids does not exist",
            given=str(path),
            expected="a text file with one id per line; of a table, the name of a column",
            todo="check the spelling of --stimuli",
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8", given=str(error), expected="one id per line", todo="save it as UTF-8"
        ) from error
    empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if empty is not None or not lines:
        raise InputError(
            f"{path} lacks an id",
            given=f"line {empty} is empty" if lines else "an empty file",
            expected="one id per line, in the order of the rows",
        )
    return [line.strip() for line in lines]


def _members(path: Path, key: str | None) -> tuple[str, list[str] | None]:
    """Return the name of the array of features in a .npz file, and the ids of its rows, if it has any."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            ids = next((archive[name] for name in ID_NAMES if name in names and name != key), None)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read",
            given=str(error),
            expected="a .npz file of numbers, with ids as text",
            todo="save it again with numpy.savez(path, features=values, stimuli=numpy.array(ids, dtype=str))",
        ) from error
    others = [name for name in names if name not in ID_NAMES]
    key = others[0] if key is None and len(others) == 1 else key
    if key is None or key not in others:
        raise UnknownNameError(
            f"array in {path}", key or "(none named)", others, todo="name one: --key (in Python, key=)"
        )
    return key, None if ids is None else [str(name) for name in np.ravel(ids)]


def _ids(store: Store, stimuli: Sequence[str] | None) -> np.ndarray:
    known = store.stimuli["id"].to_numpy(str)
    if stimuli is None:
        return known
    ids = [str(identifier) for identifier in stimuli]
    unknown = sorted(set(ids) - set(known.tolist()))
    if unknown:
        examples = [*known[:5].tolist(), "..."]
        todo = f"{len(unknown)} of {len(ids)} ids are not in the store: correct or omit them; store.stimuli has all ids"
        raise UnknownNameError("stimulus", unknown[0], examples, todo=todo)
    names, counts = np.unique(np.array(ids, dtype=str), return_counts=True)
    if (counts > 1).any():
        twice = str(names[counts > 1][0])
        raise InputError("a stimulus id occurs more than once", given=f"{twice!r} twice", expected="each id once")
    return np.array(ids, dtype=str)


def _shape(values: Any, ids: np.ndarray, whole: bool) -> tuple[int, ...]:
    dtype = getattr(values, "dtype", None)
    if not hasattr(values, "shape") or dtype is None or np.dtype(dtype).kind not in "fiub":
        raise InputError(
            "the values are not an array of numbers",
            given=f"{type(values).__name__}{'' if dtype is None else f' of {dtype}'}",
            expected="a NumPy, dask or xarray array, or a memory map, of real numbers",
            todo="convert them, e.g. with np.asarray(values, dtype='float32')",
        )
    shape = tuple(int(size) for size in values.shape)
    if len(shape) < 2 or shape[0] != len(ids) or 0 in shape:
        raise InputError(
            "the values do not match the stimuli",
            given=f"shape {shape} for {len(ids)} stimuli{' (all of the store)' if whole else ''}",
            expected=f"shape ({len(ids)}, ...): one row per stimulus, with at least one value",
            todo="pass the ids of the rows: stimuli=[...], or --stimuli ids.txt"
            if whole
            else "pass as many ids as there are rows",
        )
    return shape


def _dims(dims: Sequence[str] | None, shape: tuple[int, ...]) -> list[str]:
    names = usual_dims(len(shape) - 1) if dims is None else [str(name) for name in dims]
    if len(names) != len(shape) - 1 or len({*names, "stimulus", "sample"}) != len(names) + 2:
        raise InputError(
            "dims do not match the values",
            given=f"dims={names} for shape {shape}",
            expected=f"{len(shape) - 1} different names for the axes after the stimulus, other than 'stimulus' and "
            "'sample'",
            todo="correct dims, or omit them",
        )
    return names


def _attributes(made_by: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in REQUIRED if not str((made_by or {}).get(key) or "").strip()]
    taken = sorted(set(made_by or {}) & set(_OURS))
    if missing or taken:
        raise InputError(
            "made_by must describe how the target was computed",
            given=f"made_by without {', '.join(missing)}" if missing else f"made_by with {', '.join(taken)}",
            expected=f"at least {' and '.join(repr(key) for key in REQUIRED)}; not {', '.join(_OURS)}",
            todo="pass e.g. made_by={'model': 'DINOv2 ViT-B/14', 'source': 'arXiv 2304.07193', 'layer': 'CLS token'}",
        )
    attributes: dict[str, Any] = to_json_types(dict(made_by))
    return attributes


def _check_name(store: Store, name: str, overwrite: bool) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            "invalid name of a target",
            given=repr(name),
            expected="letters, digits and _ . @ -, starting with a letter",
            todo="choose another name",
        )
    if name in store.targets_available and not overwrite:
        raise StoreError(
            f"the store already has a target {name!r}",
            given=", ".join(f"{key} = {value!r}" for key, value in sorted(store.targets(name).attrs.items()))[:300],
            expected="a new name",
            todo="choose another name, or replace it with --overwrite (overwrite=True); earlier snapshots keep the old "
            "values",
        )


def _rows(values: Any, start: int, stop: int, ids: np.ndarray) -> np.ndarray:
    given = np.asarray(values[start:stop])
    with np.errstate(over="ignore"):  # values too large for float32 become infinite
        rows = given.astype(np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        value = given[row][~finite[row]].ravel()[0]
        raise InputError(
            "the values contain NaN, infinity, or numbers too large for float32",
            given=f"{value} in the row of {str(ids[start + row])!r}",
            expected="finite numbers",
            todo="omit stimuli without values, and name the others with stimuli=[...]",
        )
    return rows
