"""Split columns: further ways to divide the stimuli of a store into training and test stimuli.

A store has the split that it was built with. Columns beside it are text arrays of one value per stimulus under
``stimuli/splits``: ``"train"``, ``"test"`` or ``""``, which is neither trained on nor tested. Their attributes say how
they were made. :meth:`Store.with_split` returns a store that follows a column. The digest of a store's content leaves
columns out, so a new one does not invalidate fits; that of a store that follows a column covers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError, StoreError
from neurorecon.store.leaks import LEAKS_OF_COLUMNS, SAME_STIMULI, straddling
from neurorecon.store.schema import BUILT_IN, SPLITS, STIMULI, TARGETS
from neurorecon.store.writer import StoreWriter

if TYPE_CHECKING:
    import pandas as pd

    from neurorecon.store.store import Store

#: Names of columns: they become names of arrays, and of folders of results.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")

#: Attributes of an array that its writer adds.
_OF_THE_WRITER = ("block_rows", "block_digests", "digest")

VALUES = ("train", "test", "")


def check_column(name: str, stimuli: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """Return the values of a column as text.

    Parameters
    ----------
    name : str
        Of the column.
    stimuli : DataFrame
        ``store.stimuli``.
    values : array of str, shape (stimulus,)

    Raises
    ------
    InputError
        If the name or a value is invalid, or nothing is trained on or tested.
    """
    values = np.asarray(values).astype(object).astype(str)
    if not _NAME.fullmatch(name) or name == BUILT_IN:
        raise InputError(
            "this name of a split column cannot be used",
            given=repr(name),
            expected=f"letters, digits, _, - and ., e.g. tau or leave_face, but not {BUILT_IN}",
            todo="choose another name with --column",
        )
    unknown = sorted(set(values.tolist()) - set(VALUES))
    if unknown or values.shape != (len(stimuli),) or not {"train", "test"} <= set(values.tolist()):
        counted = ", ".join(f"{value!r}: {(values == value).sum()}" for value in sorted(set(values.tolist()))[:5])
        raise InputError(
            f"the split column {name!r} does not divide the stimuli",
            given=f"{len(values)} values ({counted}) for {len(stimuli)} stimuli",
            expected="'train', 'test' or '' (left out) for each stimulus, with stimuli in both splits",
            todo="correct these values",
        )
    return values


def write_columns(
    store: Store,
    columns: Mapping[str, np.ndarray],
    about: Mapping[str, Mapping[str, Any]],
    same: Mapping[str, Sequence[Sequence[str]]],
    leaks: Mapping[str, Mapping[str, Sequence[Sequence[Any]]]],
    *,
    replace: bool = False,
) -> None:
    """Write columns in one transaction: all of them, or none.

    Parameters
    ----------
    store : Store
        With these stimuli.
    columns : mapping of str to array of str, shape (stimulus,)
        Values, by the name of the column.
    about : mapping of str to mapping
        How each was made: JSON types.
    same : mapping of str to list of [id, id]
        Stimuli that are the same, from :func:`neurorecon.store.leaks.same_stimuli`; kept for later columns.
    leaks : mapping of str to mapping
        Rows of targets that both splits of a column share, by column and target.
    replace : bool
        Replace columns of the same names that differ.

    Raises
    ------
    StoreError
        If a column exists with other values or settings, or the stimuli have changed since the store was opened.
    """
    stimuli = store.stimuli
    values = {name: check_column(name, stimuli, column) for name, column in columns.items()}
    with StoreWriter(store.location) as writer:
        identifiers: Any = writer.root[f"{STIMULI}/id"]
        ids = np.asarray(identifiers[:]).astype(object).astype(str)
        if not np.array_equal(ids, stimuli["id"].to_numpy(str)):
            raise StoreError(
                "the stimuli of the store have changed since it was opened",
                given=f"{store.location}, opened at the snapshot {store.snapshot}",
                expected="the latest snapshot",
                todo="open the store again",
            )
        for name, column in values.items():
            path = f"{SPLITS}/{name}"
            if path in writer.root and not replace and not _holds(writer.root[path], column, about[name]):
                raise StoreError(
                    f"the store has another split column {name!r}",
                    given=f"{store.location}: {_told(dict(writer.root[path].attrs))}; asked for: {_told(about[name])}",
                    expected="a new column, or one made with the same settings",
                    todo="replace it with --replace, or choose another name or kind",
                )
        for name, column in values.items():
            path = f"{SPLITS}/{name}"
            if path in writer.root and _holds(writer.root[path], column, about[name]):
                continue
            writer.put(path, ["stimulus"], column, dict(about[name]))
        pairs = {what: [list(pair) for pair in found] for what, found in same.items()}
        if writer.root[STIMULI].attrs.get(SAME_STIMULI) != pairs:
            writer.root[STIMULI].attrs[SAME_STIMULI] = pairs
        stored: Any = writer.root[TARGETS].attrs.get(LEAKS_OF_COLUMNS) if TARGETS in writer.root else None
        known = dict(stored or {})
        found = {**known, **{name: {what: list(pairs) for what, pairs in leaks[name].items()} for name in values}}
        if TARGETS in writer.root and found != known:
            writer.root[TARGETS].attrs[LEAKS_OF_COLUMNS] = found
        writer.commit(f"split columns {', '.join(values)}")


def _holds(array: Any, values: np.ndarray, about: Mapping[str, Any]) -> bool:
    own = {key: value for key, value in dict(array.attrs).items() if key not in _OF_THE_WRITER}
    stored = np.asarray(array[:]).astype(object).astype(str)
    return own == dict(about) and np.array_equal(stored, values)


def _told(about: Mapping[str, Any]) -> str:
    facts = [f"{key}={about[key]}" for key in ("kind", "target", "clusters", "share", "tau", "table", "seed", "sizes")
             if about.get(key) is not None]  # fmt: skip
    return ", ".join(facts)


def about_column(array: Any) -> dict[str, Any]:
    """Return how a column was made, from the attributes of its array."""
    return {key: value for key, value in dict(array.attrs).items() if key not in _OF_THE_WRITER}


def leaks_of_column(root: Any, column: str, splits: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return stimuli that are in both splits of a column, by what they were compared by.

    Parameters
    ----------
    root : StoredGroup
        Root of a store.
    column : str
        Name of a column.
    splits : mapping of str to str
        Its value for each stimulus.
    """
    same = dict(root[STIMULI].attrs.get(SAME_STIMULI) or {})
    found = {what: straddling(pairs, splits) for what, pairs in same.items()}
    if TARGETS in root:
        of_targets = dict(root[TARGETS].attrs.get(LEAKS_OF_COLUMNS, {})).get(column, {})
        found |= {f"target {name}": pairs for name, pairs in of_targets.items()}
    return found
