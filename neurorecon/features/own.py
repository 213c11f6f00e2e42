"""Targets that somebody computed elsewhere: checked, and written into the store with where they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurorecon import __version__
from neurorecon.errors import InputError, StoreError, UnknownNameError
from neurorecon.features.base import usual_dims
from neurorecon.provenance import to_json_types
from neurorecon.store import schema
from neurorecon.store.store import Store, open_store
from neurorecon.store.writer import StoreWriter

#: What has to be said of a target that neurorecon did not compute.
REQUIRED = ("model", "source")

#: What neurorecon itself writes beside.
_OURS = ("complete", "added", "neurorecon_version")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]*")


class _AllOrNothing(StoreWriter):
    """Commits once, at the end: what is refused half-way leaves no trace."""

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
    made_by: Mapping[str, Any],
    stimuli: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Store:
    """Write a target of your own into the store.

    Values are read, checked and written block by block, so they need not fit into memory. Where anything is wrong, the
    store stays as it was.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    name : str
        Name of the target; letters, digits and ``_ . @ -``, a letter first.
    values : array, shape (stimulus, ...)
        NumPy array, memory map (``np.load(path, mmap_mode="r")``), dask or xarray array of numbers; stored as float32.
    dims : sequence of str, optional
        Names of the axes behind the stimulus; by default (feature), (token, channel), (channel, y, x) or (frame,
        channel, y, x), by their number.
    made_by : mapping
        How the values came about, as JSON types. ``"model"`` (what computed them) and ``"source"`` (a paper, a script,
        an address) have to be there; good company are ``"layer"``, ``"preprocessing"``, ``"weights_sha256"``,
        ``"license"``.
    stimuli : sequence of str, optional
        Ids of the rows; left out, there is a row for each stimulus of the store, in the order of ``store.stimuli``.
    feature_names : sequence of str, optional
        A name for each feature of a target with one axis.
    overwrite : bool
        Replace a target of the same name.

    Returns
    -------
    Store
        The store opened anew, with the target.

    Raises
    ------
    InputError
        Where the name, the values, their shape or the provenance cannot be used.
    StoreError
        Where the store holds a target of this name.
    """
    ids = _ids(store, stimuli)
    shape = _shape(values, ids, stimuli is None)
    axes = _dims(dims, shape)
    attributes = _attributes(made_by)
    _check_name(store, name, overwrite)
    if feature_names is not None and (len(shape) != 2 or len(feature_names) != shape[1]):
        raise InputError(
            "the names of the features do not fit the values",
            given=f"{len(feature_names)} names for values of shape {shape}",
            expected="a name for each column of values with two axes",
            todo="correct feature_names, or leave them out",
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
        writer.root[path].attrs["complete"] = True
        writer.commit(f"target {name}, added")
    return open_store(store.location)


def _ids(store: Store, stimuli: Sequence[str] | None) -> np.ndarray:
    known = store.stimuli["id"].to_numpy(str)
    if stimuli is None:
        return known
    ids = [str(identifier) for identifier in stimuli]
    unknown = sorted(set(ids) - set(known.tolist()))
    if unknown:
        examples = [*known[:5].tolist(), "..."]
        raise UnknownNameError("stimulus", unknown[0], examples, todo="see store.stimuli for all of them")
    names, counts = np.unique(np.array(ids, dtype=str), return_counts=True)
    if (counts > 1).any():
        twice = str(names[counts > 1][0])
        raise InputError("a stimulus has one row in a target", given=f"{twice!r} twice", expected="each id once")
    return np.array(ids, dtype=str)


def _shape(values: Any, ids: np.ndarray, whole: bool) -> tuple[int, ...]:
    dtype = getattr(values, "dtype", None)
    if not hasattr(values, "shape") or dtype is None or np.dtype(dtype).kind not in "fiub":
        raise InputError(
            "these values are no array of numbers",
            given=f"{type(values).__name__}{'' if dtype is None else f' of {dtype}'}",
            expected="a NumPy, dask or xarray array, or a memory map, of real numbers",
            todo="turn them into one, e.g. with np.asarray(values, dtype='float32')",
        )
    shape = tuple(int(size) for size in values.shape)
    if len(shape) < 2 or shape[0] != len(ids) or 0 in shape:
        raise InputError(
            "the values do not fit the stimuli",
            given=f"shape {shape} for {len(ids)} stimuli{' (all of the store)' if whole else ''}",
            expected=f"shape ({len(ids)}, ...): a row for each stimulus, and at least one value in it",
            todo="give the ids of the rows as stimuli=[...]" if whole else "give as many ids as rows",
        )
    return shape


def _dims(dims: Sequence[str] | None, shape: tuple[int, ...]) -> list[str]:
    names = usual_dims(len(shape) - 1) if dims is None else [str(name) for name in dims]
    if len(names) != len(shape) - 1 or len({*names, "stimulus", "sample"}) != len(names) + 2:
        raise InputError(
            "the names of the axes do not fit the values",
            given=f"dims={names} for shape {shape}",
            expected=f"{len(shape) - 1} different names for the axes behind the stimulus, none of them 'stimulus'",
            todo="correct dims, or leave them out",
        )
    return names


def _attributes(made_by: Mapping[str, Any]) -> dict[str, Any]:
    missing = [key for key in REQUIRED if not str((made_by or {}).get(key) or "").strip()]
    taken = sorted(set(made_by or {}) & set(_OURS))
    if missing or taken:
        raise InputError(
            "a target has to say how it was made",
            given=f"made_by without {', '.join(missing)}" if missing else f"made_by with {', '.join(taken)}",
            expected=f"at least {' and '.join(repr(key) for key in REQUIRED)}; not {', '.join(_OURS)}",
            todo="e.g. made_by={'model': 'DINOv2 ViT-B/14', 'source': 'arXiv 2304.07193', 'layer': 'CLS token'}",
        )
    attributes: dict[str, Any] = to_json_types(dict(made_by))
    return attributes


def _check_name(store: Store, name: str, overwrite: bool) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            "a target cannot be called so",
            given=repr(name),
            expected="letters, digits and _ . @ -, a letter first",
            todo="choose another name",
        )
    if name in store.targets_available and not overwrite:
        raise StoreError(
            f"the store holds a target {name!r}",
            given=", ".join(f"{key} = {value!r}" for key, value in sorted(store.targets(name).attrs.items()))[:300],
            expected="a new name",
            todo="choose another name, or replace it with overwrite=True; its old state keeps its snapshot",
        )


def _rows(values: Any, start: int, stop: int, ids: np.ndarray) -> np.ndarray:
    given = np.asarray(values[start:stop])
    with np.errstate(over="ignore"):  # what does not fit into float32 shows as infinity
        rows = given.astype(np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        value = given[row][~finite[row]].ravel()[0]
        raise InputError(
            "the values hold some that are not numbers, or too large for float32",
            given=f"{value} in the row of {str(ids[start + row])!r}",
            expected="finite numbers",
            todo="leave stimuli without values out, with stimuli=[...] naming the others",
        )
    return rows
