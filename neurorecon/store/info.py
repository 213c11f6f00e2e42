"""What a store holds, as a table a person can read and as an object a script can read."""

from __future__ import annotations

from typing import Any

from neurorecon.store.store import Store


def describe(store: Store) -> dict[str, Any]:
    """Return what a store holds, in JSON types.

    Returns
    -------
    dict
        ``name``, ``simulated``, ``description``, ``snapshot``, ``digest``, ``stimuli``, ``subjects`` (per subject its
        space, voxels, samples by task and split, what its reader reported, ROIs, noise ceilings), ``targets``,
        ``roi_groups``, ``bytes``.
    """
    return {
        "name": store.name,
        "simulated": store.simulated,
        "description": store.description,
        "location": store.location,
        "snapshot": store.snapshot,
        "digest": store.digest,
        "stimuli": store.stimulus_counts(),
        "subjects": {name: _subject(store, name) for name in store.subjects},
        "targets": {name: _target(store, name) for name in store.targets_available},
        "roi_groups": store.roi_groups,
        "bytes": store.bytes,
    }


def _subject(store: Store, name: str) -> dict[str, Any]:
    space, ceilings = store.space(name), store.median_ceilings(name)
    return {
        "space": space.kind,
        "mesh": space.mesh,
        "voxels": store.voxel_count(name),
        "samples": store.sample_counts(name),
        "repetition_time": store.series(name),
        "report": store.report(name),
        "rois": store.rois(name),
        "noise_ceiling": {task: ceilings.get(task) for task in store.tasks(name)},
    }


def _target(store: Store, name: str) -> dict[str, Any]:
    shape, made_by = store.about_target(name)
    return {"shape": list(shape), "made_by": {key: made_by[key] for key in sorted(made_by)}}


def as_text(facts: dict[str, Any]) -> str:
    """Return what :func:`describe` found as a text of at most 110 columns."""
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
        "  targets   " + (", ".join(f"{name} {_shape(row)}" for name, row in facts["targets"].items()) or "none yet"),
        "  groups    "
        + ("; ".join(f"{name} = {' + '.join(rois)}" for name, rois in facts["roi_groups"].items()) or "none"),
    ]
    for name, subject in facts["subjects"].items():
        lines += ["", *_subject_lines(name, subject)]
    return "\n".join(lines)


def _shape(row: dict[str, Any]) -> str:
    return "(" + " x ".join(f"{size:,}" for size in row["shape"]) + ")"


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
        lines.append(f"    noise ceiling of averaged test responses, median R2: {', '.join(ceilings)}")
    lines += [f"    {what}: {found}" for what, found in subject["report"].items()]
    rois = [f"{roi} {number:,}" for roi, number in subject["rois"].items()]
    for start in range(0, len(rois), 9):
        lines.append(("    ROIs  " if start == 0 else "          ") + ", ".join(rois[start : start + 9]))
    return lines
