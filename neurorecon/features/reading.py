"""Stimuli of a store in small batches, read from disk at most once or twice each."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurorecon.errors import StoreError
from neurorecon.features.base import Extractor, Needs, StimulusBatch
from neurorecon.store import schema
from neurorecon.store.store import Store, text_of


class StimulusReader:
    """Hands out batches of the stimuli of a store.

    Parameters
    ----------
    store : Store
        The store.
    needs : str
        What a batch has to hold, as :class:`~neurorecon.features.base.Extractor` says it.
    """

    def __init__(self, store: Store, needs: Needs) -> None:
        self.store = store
        self.needs = needs
        self._images = _Rows(_array(store, "images")) if needs == "images" else None
        self._frames = _Rows(_array(store, "frames")) if needs == "frames" else None
        self._film_row = _film_rows(store) if needs == "frames" else {}

    def batch(self, rows: np.ndarray) -> StimulusBatch:
        """Return the stimuli of these rows of the store's table."""
        store = self.store
        table = store.stimuli.iloc[rows].reset_index(drop=True)
        labels = None if store.labels is None else store.labels.iloc[rows].reset_index(drop=True)
        frames = None
        if self._frames is not None:
            frames = self._frames.read(np.array([self._film_row[name] for name in table["id"]], dtype=int))
        return StimulusBatch(
            table=table,
            labels=labels,
            images=None if self._images is None else self._images.read(rows),
            frames=frames,
            frames_per_second=store.frames_per_second,
        )


class _Rows:
    """Reads rows of an array and keeps the chunks that it read last: batches are smaller than chunks.

    Zarr is asked directly, because a graph of dask for every batch costs more than the reading.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._chunk = int(array.chunks[0])
        self._start, self._kept = 0, np.empty((0, *array.shape[1:]), array.dtype)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return these rows, in this order."""
        start, stop = int(rows.min()), int(rows.max()) + 1
        if stop - start > 2 * len(rows) + self._chunk:  # far apart
            picked: np.ndarray = self._array.oindex[rows]
            return picked
        if start < self._start or stop > self._start + len(self._kept):
            self._start = start // self._chunk * self._chunk
            end = min(-(-stop // self._chunk) * self._chunk, self._array.shape[0])
            self._kept = self._array[self._start : end]
        return self._kept[rows - self._start]


def rows_of(store: Store, extractor: Extractor) -> np.ndarray:
    """Return the rows of the store's table of stimuli that have a target.

    Raises
    ------
    StoreError
        Where there are none.
    """
    missing = what_is_missing(store, extractor.needs)
    if missing is not None:
        raise StoreError(
            f"the target {extractor.name!r} is computed from {extractor.needs}, and this store holds none",
            given=f"{len(store.stimuli)} stimuli, {missing}",
            expected=extractor.needs if extractor.needs != "frames" else "films",
            todo="leave this target out",
        )
    if extractor.needs == "frames":
        return np.flatnonzero((store.stimuli["kind"] == "film").to_numpy())
    if extractor.needs == "captions":
        return np.flatnonzero(store.stimuli["captions"].map(len).to_numpy())
    return np.arange(len(store.stimuli))


def what_is_missing(store: Store, needs: Needs) -> str | None:
    """Say what a store lacks for targets of a kind; None where it lacks nothing."""
    group: Any = store._root[schema.STIMULI]
    if needs == "images" and "images" not in group:
        return "no pictures"
    if needs == "frames" and ("frames" not in group or not (store.stimuli["kind"] == "film").any()):
        return "no films"
    if needs == "captions" and not store.stimuli["captions"].map(len).any():
        return "no captions"
    if needs == "categories" and not categories_of(store) and not _category_labels(store):
        return "no categories"
    return None


def categories_of(store: Store) -> list[str]:
    """Return all categories of a store, sorted."""
    return sorted({str(name) for name in store.stimuli["category"]} - {""})


def _category_labels(store: Store) -> bool:
    return store.labels is not None and any(str(name).startswith("category:") for name in store.labels.columns)


def _array(store: Store, name: str) -> Any:
    group: Any = store._root[schema.STIMULI]
    return group[name]


def _film_rows(store: Store) -> dict[str, int]:
    return {name: row for row, name in enumerate(text_of(_array(store, "film")).tolist())}
