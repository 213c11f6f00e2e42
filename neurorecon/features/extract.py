"""Compute targets for the stimuli of a store, batch by batch, and write them into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from tqdm import tqdm

from neurorecon import __version__
from neurorecon.errors import StoreError
from neurorecon.features.base import Extractor, StimulusBatch
from neurorecon.registry import FEATURES
from neurorecon.store import schema
from neurorecon.store.store import Store, open_store
from neurorecon.store.writer import StoreWriter

#: Stimuli handed to an extractor at a time.
BATCH = 128


def extract(
    store: Store,
    targets: Iterable[str],
    *,
    overwrite: bool = False,
    batch: int = BATCH,
    progress: bool = True,
) -> Store:
    """Compute targets and write them into the store.

    Parameters
    ----------
    store : Store
        The store, opened from an Icechunk folder.
    targets : iterable of str
        Names of registered extractors.
    overwrite : bool
        Compute targets again that the store holds, made by another version.
    batch : int
        Stimuli at a time; bounds the memory.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Store
        The store opened anew, with the targets.

    Raises
    ------
    UnknownNameError
        For a name that is not registered.
    StoreError
        Where the store holds a target of the same name that was made otherwise.
    """
    categories = sorted({str(name) for name in store.stimuli["category"]} - {""})
    extractors = [FEATURES.load(name)(categories=categories) for name in targets]
    todo = [extractor for extractor in extractors if not _is_there(store, extractor, overwrite)]
    if not todo:
        return store
    with StoreWriter(store.location) as writer:
        for extractor in todo:
            _write_target(writer, store, extractor, batch, progress)
    return open_store(store.location)


def _made_by(extractor: Extractor) -> dict[str, Any]:
    return {**extractor.made_by(), "extractor": extractor.name, "extractor_version": extractor.version}


def _is_there(store: Store, extractor: Extractor, overwrite: bool) -> bool:
    if extractor.name not in store.targets_available:
        return False
    found = store.targets(extractor.name).attrs
    wanted = _made_by(extractor)
    different = sorted(key for key, value in wanted.items() if found.get(key) != value)
    if different and not overwrite:
        raise StoreError(
            f"the store holds a target {extractor.name!r} that was made otherwise",
            given=", ".join(f"{key} = {found.get(key)!r}" for key in different),
            expected=", ".join(f"{key} = {wanted[key]!r}" for key in different),
            todo="compute it again with --overwrite; results made with the old one keep their snapshot",
        )
    return not different


def _write_target(writer: StoreWriter, store: Store, extractor: Extractor, size: int, progress: bool) -> None:
    path = f"{schema.TARGETS}/{extractor.name}"
    group = writer.root.require_group(path)
    made_by = _made_by(extractor)
    if any(group.attrs.get(key) != value for key, value in made_by.items()):
        # Nothing that was begun otherwise is gone on with.
        del writer.root[path]
        group = writer.root.require_group(path)
    rows = _rows(store, extractor)
    first = _batch(store, extractor, rows[:1])
    shape = (len(rows), *np.asarray(extractor(first)).shape[1:])
    group.attrs.update({**made_by, "neurorecon_version": __version__, "complete": False})
    writer.put(f"{path}/stimulus", ["stimulus"], store.stimuli["id"].to_numpy(str)[rows])
    names = extractor.feature_names(first)
    dims = ["stimulus", *_feature_dims(len(shape) - 1)]
    if names is not None:
        writer.put(f"{path}/feature", ["feature"], np.array(names, dtype=str))

    def read(start: int, stop: int) -> np.ndarray:
        parts = []
        for begin in range(start, stop, size):
            part = rows[begin : min(begin + size, stop)]
            parts.append(np.asarray(extractor(_batch(store, extractor, part)), dtype=np.float32))
            bar.update(len(part))
        return np.concatenate(parts)

    with tqdm(
        total=len(rows), desc=f"target {extractor.name}", unit="stimulus", disable=not progress, leave=False
    ) as bar:
        writer.stream(f"{path}/values", dims, shape, "float32", read)
    writer.root[path].attrs["complete"] = True
    writer.commit(f"target {extractor.name}")


def _feature_dims(number: int) -> list[str]:
    """Name the axes behind the stimulus; an extractor of tokens has (token, feature)."""
    names = {
        1: ["feature"],
        2: ["token", "feature"],
        3: ["channel", "y", "x"],
        4: ["frame", "channel", "y", "x"],
    }
    return names.get(number, [f"axis{axis}" for axis in range(number)])


def _rows(store: Store, extractor: Extractor) -> np.ndarray:
    films = (store.stimuli["kind"] == "film").to_numpy()
    rows = np.flatnonzero(films) if extractor.needs == "frames" else np.arange(len(films))
    if not len(rows):
        raise StoreError(
            f"the target {extractor.name!r} is defined for films, and this store holds none",
            given=f"{len(films)} pictures",
            expected="films",
            todo="leave this target out",
        )
    return rows


def _batch(store: Store, extractor: Extractor, rows: np.ndarray) -> StimulusBatch:
    table = store.stimuli.iloc[rows].reset_index(drop=True)
    ids = table["id"].tolist()
    labels = None if store.labels is None else store.labels.iloc[rows].reset_index(drop=True)
    return StimulusBatch(
        table=table,
        labels=labels,
        images=store.images(ids).values if extractor.needs == "images" else None,
        frames=store.frames(ids).values if extractor.needs == "frames" else None,
        frames_per_second=store.frames_per_second,
    )
