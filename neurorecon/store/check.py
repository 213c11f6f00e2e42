"""Check, describe and export a store.

Checks apply to the snapshot that is open. Unfinished builds are on a separate branch that readers do not see; use
:func:`unfinished_build` to detect them.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neurorecon.errors import StoreError, listed
from neurorecon.io.files import refuse_inside_store, remove_leftovers, replacing
from neurorecon.io.tensors import block_digest
from neurorecon.provenance import weights_label, weights_record
from neurorecon.store import schema
from neurorecon.store.backend import icechunk_storage
from neurorecon.store.reading import changed_metadata
from neurorecon.store.schema import METADATA as METADATA
from neurorecon.store.store import Store
from neurorecon.store.writer import BUILD, StoreWriter, WriterLock


@dataclass(frozen=True)
class Finding:
    """Result of checking one array.

    Parameters
    ----------
    array : str
        Path of the array in the store, or :data:`METADATA`.
    problem : str or None
        Description of the problem; None if the array is intact.
    """

    array: str
    problem: str | None


def check_store(store: Store) -> Iterator[Finding]:
    """Recompute the digests of all arrays and of the metadata, and compare them with the stored ones.

    Arrays are read block by block, so memory is bounded.

    Parameters
    ----------
    store : Store
        Store to check.

    Yields
    ------
    Finding
        One per array, and one for the metadata if names, shapes or attributes have changed.
    """
    changed = changed_metadata(store._root)
    try:
        arrays = store.arrays()
    except StoreError:
        arrays = []
    for path, array in arrays:
        yield Finding(path, array.problem())
    if changed is not None:
        yield Finding(METADATA, changed)


def unfinished_build(store: Store) -> bool:
    """Return whether a build of this store is running or was interrupted."""
    if store.snapshot is None:
        return False
    import icechunk

    return BUILD in icechunk.Repository.open(icechunk_storage(store.location)).list_branches()


def prune_store(store: Store) -> int:
    """Remove chunks left by killed builds that no snapshot refers to.

    A build that completes after an interrupted one does so automatically. Older snapshots and the commits of an
    interrupted build are kept.

    Parameters
    ----------
    store : Store
        Store to prune.

    Returns
    -------
    int
        Number of bytes removed.

    Raises
    ------
    StoreLockedError
        If another process is writing to the store, as its uncommitted chunks would be removed.
    StoreError
        If the store is plain Zarr, or its folder is not writable.
    """
    with StoreWriter(store.location) as writer:
        return writer.collect()


def export_store(store: Store, path: str | Path, *, progress: bool = True) -> Path:
    """Copy a store into a plain ``.zarr`` folder, with the same chunks, attributes and digests.

    Parameters
    ----------
    store : Store
        Store to export.
    path : path
        New folder whose name ends in ``.zarr``.
    progress : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    Path
        The folder. It appears only once it is complete; every block is read back and compared.

    Raises
    ------
    StoreError
        If the folder exists, or its name does not end in ``.zarr``.
    """
    import zarr

    target = Path(path)
    refuse_inside_store(target.parent)
    if target.suffix != ".zarr" or target.exists():
        raise StoreError(
            "the store cannot be exported to this location",
            given=f"{target}{' (exists)' if target.exists() else ''}",
            expected="a new folder whose name ends in .zarr",
            todo="choose another name, or delete the existing folder first",
        )
    with WriterLock(target, remove=True):
        remove_leftovers(target)
        with replacing(target) as part:
            root = zarr.open_group(part, mode="w")
            root.attrs.update({**dict(store._root.attrs), "exported_from_snapshot": store.snapshot})
            for name, group in store._root.members(max_depth=None):
                if not hasattr(group, "chunks"):
                    root.require_group(name).attrs.update(dict(group.attrs))
            for name, array in tqdm(store.arrays(), desc="export", unit="array", disable=not progress, leave=False):
                _copy(root, name, array)
            with warnings.catch_warnings():  # that version 3 of Zarr does not specify it yet; xarray and Zarr read it
                warnings.filterwarnings("ignore", "Consolidated metadata")
                for group in ("", *(name for name, _ in root.groups())):  # xarray opens one of them
                    zarr.consolidate_metadata(part, path=group)
    return target


def _copy(root: Any, name: str, array: Any) -> None:
    parent, _, leaf = name.rpartition("/")
    copy = (root.require_group(parent) if parent else root).create_array(
        leaf,
        shape=array.shape,
        dtype=array.dtype if array.dtype.kind in "biufc" else str,
        chunks=array.chunks,
        compressors=schema.compressors(array.dtype),
        config={"write_empty_chunks": True},
        dimension_names=array.metadata.dimension_names,
        attributes=dict(array.attrs),
    )
    rows, digests = int(array.attrs["block_rows"]), list(array.attrs["block_digests"])
    for number, start in enumerate(range(0, array.shape[0], rows)):
        copy[start : start + rows] = array[start : start + rows]
        if block_digest(copy[start : start + rows]) != digests[number]:
            raise StoreError(
                f"the exported copy of {name} differs from the store",
                todo="check the store with: neurorecon check STORE",
            )


def describe(store: Store) -> dict[str, Any]:
    """Describe the content of a store in JSON types.

    Parameters
    ----------
    store : Store
        Store to describe.

    Returns
    -------
    dict
        ``name``, ``simulated``, ``description``, ``location``, ``snapshot``, ``digest``, ``stimuli``, ``subjects`` (by
        subject: space, voxels, samples by task and split, report of the reader, ROIs, noise ceilings), ``targets``,
        ``split_column``, ``split_columns`` (by name: how each was made), ``roi_groups``, ``bytes``.
    """
    return {
        "name": store.name,
        "simulated": store.simulated,
        "description": store.description,
        "location": store.location,
        "snapshot": store.snapshot,
        "digest": store.digest,
        "split_column": store.split_column,
        "split_columns": {name: store.about_split(name) for name in store.split_columns},
        "stimuli": store.stimulus_counts(),
        "subjects": {name: _subject(store, name) for name in store.subjects},
        "targets": {name: _target(store, name) for name in store.targets_available},
        "roi_groups": store.roi_groups,
        "bytes": store.bytes,
    }


def _subject(store: Store, name: str) -> dict[str, Any]:
    space, ceilings = store.space(name), store.mean_ceilings(name)
    return {
        "space": space.kind,
        "mesh": space.mesh,
        "voxels": store.voxel_count(name),
        "samples": store.sample_counts(name),
        "repetition_time": store.series(name),
        "report": store.report(name),
        "cautions": {task: found for task in store.tasks(name) if (found := store.cautions(name, task))},
        "rois": store.rois(name),
        "noise_ceiling": {task: ceilings.get(task) for task in store.tasks(name)},
        "about_noise_ceiling": store.about_ceilings(name),
    }


def _target(store: Store, name: str) -> dict[str, Any]:
    shape, made_by = store.about_target(name)
    return {
        "shape": list(shape),
        "weights": {**weights_record(made_by), "label": weights_label(made_by)},
        "made_by": {key: made_by[key] for key in sorted(made_by)},
    }


def as_text(facts: dict[str, Any]) -> str:
    """Format the output of :func:`describe` as text of at most 110 columns."""
    label = "SIMULATED responses" if facts["simulated"] else "measured responses"
    lines = [
        f"{facts['name']}: {facts['description']['title']} ({label})",
        f"  at        {facts['location']}",
        f"  snapshot  {facts['snapshot'] or '(plain Zarr keeps none)'}",
        f"  digest    {facts['digest']}",
        f"  size      {facts['bytes'] / 1e6:,.0f} MB before compression",
        f"  cite      {facts['description']['citation']}",
        f"  terms     {facts['description']['terms']}",
        "",
        "  stimuli   " + ", ".join(f"{row['number']:,} {row['kind']}s {row['split']}" for row in facts["stimuli"]),
        *_split_lines(facts["split_columns"], facts["split_column"]),
        *_target_lines(facts["targets"]),
        "  groups    "
        + (listed((f"{name} = {' + '.join(rois)}" for name, rois in facts["roi_groups"].items()), 12, "; ") or "none"),
    ]
    for name, subject in facts["subjects"].items():
        lines += ["", *_subject_lines(name, subject)]
    return "\n".join(lines)


def _split_lines(columns: dict[str, Any], used: str | None) -> list[str]:
    """Return a line for each split column: its sizes, and how far its test stimuli are from the training stimuli."""
    lines, width = [], max((len(name) for name in columns), default=0)
    for name, about in columns.items():
        parts = []
        for kind, sizes in about["sizes"].items():
            left = f" ({sizes['left_out']:,} left out)" if sizes["left_out"] else ""
            far = about["measured"].get(kind, {}).get("distance")
            parts.append(f"{kind}s {sizes['train']:,} train, {sizes['test']:,} test{left}"
                         + ("" if far is None else f", distance {far:.2f}"))  # fmt: skip
        lines.append(f"{name:<{width}}{'*' if name == used else ' '} {'; '.join(parts)}")
    if used is not None:
        lines.append("* counts, noise ceilings and warnings here are those of this column")
    return [("  splits    " if number == 0 else 12 * " ") + line for number, line in enumerate(lines)]


def _target_lines(targets: dict[str, Any]) -> list[str]:
    """Return a line for each target: its name, its shape, and what made it."""
    rows = [
        (name, "(" + " x ".join(f"{size:,}" for size in row["shape"]) + ")", row["weights"]["label"])
        for name, row in targets.items()
    ]
    names, shapes = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    lines = [f"{name:<{names}}  {shape:<{shapes}}  {label}" for name, shape, label in rows] or ["none yet"]
    return [("  targets   " if number == 0 else 12 * " ") + line for number, line in enumerate(lines)]


#: ROIs of a subject that the text lists; an atlas may have hundreds.
MOST_ROIS = 60


def _subject_lines(name: str, subject: dict[str, Any]) -> list[str]:
    where = subject["mesh"] or subject["space"]
    lines = [f"  {name}: {subject['voxels']:,} voxels ({where})"]
    lines.append(f"    {'task':<10}{'split':<8}{'samples':>8}{'stimuli':>9}{'repeats':>9}{'runs':>6}   samples are")
    for row in subject["samples"]:
        every = subject["repetition_time"].get(row["task"])
        kind = f"volumes, one every {every:g} s" if every else "trial estimates"
        lines.append(
            f"    {row['task']:<10}{row['split']:<8}{row['samples']:>8,}{row['stimuli']:>9,}{row['repeats']:>9}"
            f"{row['runs']:>6}   {kind}"
        )
    ceilings = [f"{task} {value:.2f}" for task, value in subject["noise_ceiling"].items() if value is not None]
    if ceilings:
        lines.append(f"    noise ceiling of averaged test responses, mean R2: {', '.join(ceilings)}")
    for task, about in subject["about_noise_ceiling"].items():
        if about.startswith(("none", "repeats,")):
            lines += textwrap.wrap(f"noise ceiling of {task}: {about}", 106, initial_indent="    ",
                                   subsequent_indent="      ")  # fmt: skip
    lines += [f"    {what}: {found}" for what, found in subject["report"].items()]
    lines += [f"    warning, {task}: {text}" for task, found in subject["cautions"].items() for text in found]
    rois = listed((f"{roi} {number:,}".replace(" ", "\0") for roi, number in subject["rois"].items()), MOST_ROIS)
    wrapped = textwrap.wrap(f"ROIs  {rois}", 106, initial_indent="    ", subsequent_indent="          ",
                            break_long_words=False, break_on_hyphens=False)  # fmt: skip
    lines += [line.replace("\0", " ") for line in wrapped]  # a line never ends between an ROI and its number
    return lines
