"""The recordings of one subject: mask, areas, screening of voxels, samples run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, SubjectData
from neurorecon.datasets.bids.atlases import read_areas, read_mask
from neurorecon.datasets.bids.grid import Grid
from neurorecon.datasets.bids.names import Folders
from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan, RunSamples
from neurorecon.datasets.bids.process import Process
from neurorecon.datasets.bids.spaces import read_run
from neurorecon.datasets.bids.volumes import read_volume
from neurorecon.datasets.columns import tidy_columns
from neurorecon.datasets.parts import read_by_part, screen
from neurorecon.errors import InputError, MissingFileError

#: Name of the area that holds every voxel.
WHOLE = "brain"


def load_subject(
    processes: Sequence[Process],
    grid: Grid,
    root: Path,
    folders: Folders,
    splits: Mapping[str, str],
    options: BidsOptions,
) -> SubjectData:
    """Read masks and areas, screen the voxels of all runs, and say how samples are read.

    Parameters
    ----------
    processes : sequence of Process
        What becomes of the runs of the subject.
    grid : Grid
        Of all runs.
    root : path
        That paths in the options count from.
    folders : Folders
        Where brain masks lie.
    splits : mapping of str to str
        Of each stimulus.
    options : BidsOptions

    Raises
    ------
    InputError
        Where a mask or an atlas does not fit the runs, or a run cannot be read.
    """
    plans = [plan for process in processes for plan in process.plans]
    name = plans[0].files.subject
    areas = read_areas(grid, options.rois, root, name)
    member = _mask(plans, grid, root, folders, areas, options)
    rows = np.flatnonzero(member)
    screened = screen(read_run(plan.files, rows) for plan in plans)
    keep = options.bad_voxels == "keep"
    report = _report(processes)
    report |= screened.report(kept=keep)
    rows = rows if keep else rows[screened.usable]
    if not len(rows):
        raise InputError(
            f"no voxel of {name} is left",
            given=f"{len(screened.usable):,} in the mask, all of them constant or not finite in some run",
            expected="voxels that vary in every run",
            todo='choose another mask in [options], or bad_voxels = "keep"',
        )
    rois = {area: inside[rows] for area, inside in areas.items()} | {WHOLE: np.ones(len(rows), dtype=bool)}
    empty = [area for area, inside in rois.items() if not inside.any()]
    if empty:
        report["areas without a voxel, left out"] = ", ".join(empty)

    def load(number: int) -> np.ndarray:
        process = processes[number]
        runs = [read_run(plan.files, rows) for plan in process.plans]
        return process.compute([np.nan_to_num(run, nan=0.0, posinf=0.0, neginf=0.0, copy=False) for run in runs])

    samples = _samples(processes, splits)
    if options.samples != "fir":  # whose samples stand for several events
        further, unused = _further(processes)
        samples = samples.join(further)
        if unused:
            report["columns of events, not used"] = ", ".join(unused)
    tasks = {plan.files.task: plan.times.repetition_time for plan in plans} if options.samples == "volume" else {}
    return SubjectData(
        samples=samples,
        voxels=grid.table.iloc[rows].reset_index(drop=True),
        rois={area: inside for area, inside in rois.items() if inside.any()},
        space=grid.space,
        read_responses=read_by_part([len(process) for process in processes], load, len(rows)),
        repetition_time={task: seconds for task, seconds in tasks.items() if (samples["task"] == task).any()},
        report=report,
    )


def _mask(
    plans: Sequence[RunPlan],
    grid: Grid,
    root: Path,
    folders: Folders,
    areas: Mapping[str, np.ndarray],
    options: BidsOptions,
) -> np.ndarray:
    """Return the places that are read, bool (place,)."""
    name = plans[0].files.subject
    if options.mask == "rois":
        if not areas:
            raise InputError(
                'mask = "rois" without areas',
                given="no [options.rois] in the recipe",
                expected="at least one area",
                todo='name areas, or choose mask = "brain"',
            )
        return np.logical_or.reduce(list(areas.values()))
    if options.mask == "brain" and grid.space.kind == "volume":
        mask = np.logical_and.reduce([_brain(plan, grid, folders) for plan in plans])
    elif options.mask in ("brain", "all"):
        mask = np.ones(len(grid), dtype=bool)
    else:
        mask = read_mask(grid, options.mask, root, name)
    if not mask.any():
        raise InputError(
            f"the mask of {name} is empty",
            given=f"mask = {options.mask!r}",
            expected="voxels that lie in the mask of every run",
            todo="choose another mask in [options]",
        )
    return mask


def _brain(plan: RunPlan, grid: Grid, folders: Folders) -> np.ndarray:
    """Return the brain mask of one run."""
    first = plan.files.first
    found = [
        file
        for extension in ("nii", "nii.gz")
        for file in folders.belonging(first, ["mask"], extension, desc="brain")
        if file.entities.get("space") == first.entities.get("space")
    ]
    if not found:
        raise MissingFileError(
            f"there is no brain mask for {plan.name}",
            given=f"no matching *_desc-brain_mask.nii.gz in {first.path.parent}",
            expected="the file that fMRIPrep writes beside the run",
            todo='copy it there, or choose another mask in [options]: mask = "FILE", "rois" or "all"',
        )
    return read_volume(found[-1].path, grid) > 0


def _runs(processes: Sequence[Process]) -> list[tuple[RunPlan, RunSamples]]:
    return [
        (plan, samples) for process in processes for plan, samples in zip(process.plans, process.samples, strict=True)
    ]


def _further(processes: Sequence[Process]) -> tuple[pd.DataFrame, list[str]]:
    """Return what the events say beyond stimulus and time, a row a sample; and the columns that cannot be stored."""
    parts = [
        plan.shown.stimuli[plan.shown.further].iloc[samples.table["presentation"].to_numpy(dtype=int)]
        for plan, samples in _runs(processes)
    ]
    table = pd.concat(parts, ignore_index=True)
    # A column of events that happens to be called "trials" would say that samples are means of so many.
    found, unused = tidy_columns(table, [name for name in table if name != TRIALS])
    return found, [name for name in unused if name not in SAMPLE_COLUMNS]


def _samples(processes: Sequence[Process], splits: Mapping[str, str]) -> pd.DataFrame:
    """Return the table of samples, run after run."""
    runs = _runs(processes)
    parts = [
        samples.table.assign(
            task=plan.files.task,
            session=plan.files.session,
            run=plan.files.number,
            shown=place * 1_000_000 + samples.table["presentation"],
        )
        for place, (plan, samples) in enumerate(runs)
    ]
    table = pd.concat(parts, ignore_index=True)
    if not len(table):
        raise InputError(
            f"no response of {runs[0][0].files.subject} was recorded",
            given="events, but no volumes after them",
            expected="volumes from onset + lag on",
            todo="check lag in [options], and that events and runs belong together",
        )
    presentations = table.groupby(["task", "stimulus"], sort=False)["shown"]
    table["repeat"] = presentations.transform(lambda values: pd.factorize(values)[0] + 1).astype(int)
    table["split"] = table["stimulus"].map(splits)
    table["time"] = table["time"].astype(float)
    return table[list(SAMPLE_COLUMNS)]


def _report(processes: Sequence[Process]) -> dict[str, str]:
    """Say what was left out."""
    plans = [plan for process in processes for plan in process.plans]
    report = {"runs": f"{len(plans)}, of {', '.join(sorted({plan.files.task for plan in plans}))}"}
    unrecorded = sum(samples.unrecorded for process in processes for samples in process.samples)
    if unrecorded:
        report["presentations left out"] = f"{unrecorded}, whose response was not recorded or was scrubbed"
    others = pd.concat([plan.shown.others for plan in plans], ignore_index=True)
    if len(others):
        kinds = others["trial_type"].value_counts()
        report["events that are no stimuli"] = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    scrubbed = sum(plan.times.length - len(plan.kept) for plan in plans)
    if scrubbed:
        report["volumes scrubbed"] = f"{scrubbed} of {sum(plan.times.length for plan in plans)}"
    return report
