"""Add targets that were computed elsewhere: check them and write them to the store with their provenance."""

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

#: Required provenance of a target that neurorecon did not compute.
REQUIRED = ("model", "source")

#: Attributes that neurorecon itself writes.
_OURS = ("complete", "added", "neurorecon_version")

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
    made_by: Mapping[str, Any],
    stimuli: Sequence[str] | None = None,
    feature_names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Store:
    """Write a target of your own to the store.

    Values are read, checked and written block by block, so they need not fit into memory. On any error the store
    stays unchanged.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    name : str
        Name of the target: letters, digits and ``_ . @ -``, starting with a letter.
    values : array, shape (stimulus, ...)
        NumPy array, memory map (``np.load(path, mmap_mode="r")``), dask or xarray array of numbers; stored as float32.
    dims : sequence of str, optional
        Names of the axes after the stimulus; by default, depending on their number, (feature), (token, channel),
        (channel, y, x) or (frame, channel, y, x).
    made_by : mapping
        How the values were computed, as JSON types. ``"model"`` (what computed them) and ``"source"`` (a paper, a
        script, a URL) are required; ``"layer"``, ``"preprocessing"``, ``"weights_sha256"`` and ``"license"`` are
        recommended.
    stimuli : sequence of str, optional
        Stimulus ids of the rows; by default all stimuli, in the order of ``store.stimuli``.
    feature_names : sequence of str, optional
        Names of the features, for values of shape (stimulus, feature).
    overwrite : bool
        Replace a target of the same name.

    Returns
    -------
    Store
        The store reopened, with the target.

    Raises
    ------
    InputError
        If the name, the values, their shape or the provenance is invalid.
    UnknownNameError
        If a stimulus id is not in the store.
    StoreError
        If the store already has a target of this name.
    """
    ids = _ids(store, stimuli)
    shape = _shape(values, ids, stimuli is None)
    axes = _dims(dims, shape)
    attributes = _attributes(made_by)
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
        raise UnknownNameError("stimulus", unknown[0], examples, todo="see store.stimuli for all ids")
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
            todo="pass the ids of the rows as stimuli=[...]" if whole else "pass as many ids as there are rows",
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
            todo="choose another name, or replace it with overwrite=True; earlier snapshots keep the old values",
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
