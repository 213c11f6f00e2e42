"""Open BIDS derivatives (tables and headers, without values), and load the data of one subject."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, SubjectData, tidy_columns
from neurorecon.datasets.bids import runs as confounds
from neurorecon.datasets.bids import runs as events
from neurorecon.datasets.bids.layout import BidsOptions, Folders, RunFiles, derivatives_folder, find_runs
from neurorecon.datasets.bids.runs import RunPlan, RunSamples, check_run, open_run, read_run, times_of
from neurorecon.datasets.bids.samples import Process
from neurorecon.datasets.bids.stimuli import cut_videos
from neurorecon.datasets.runs import read_by_part, screen
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.atlases import read_mask, read_rois
from neurorecon.io.grid import Grid
from neurorecon.io.volumes import as_mask, read_volume


@dataclass(frozen=True)
class Opened:
    """The content of BIDS derivatives, according to tables and headers.

    Parameters
    ----------
    folder : path
        The derivatives.
    folders : Folders
        The derivatives and raw data sets.
    plans : dict of str to list of RunPlan
        The runs of each subject.
    grids : dict of str to Grid
        The grid of each subject.
    column : str
        Column of the events that identifies the stimuli.
    left_out : list of str
        Tasks that were left out because they have no events.
    """

    folder: Path
    folders: Folders
    plans: dict[str, list[RunPlan]]
    grids: dict[str, Grid]
    column: str
    left_out: list[str]

    def shown(self) -> pd.DataFrame:
        """Return the presentations of all subjects, with the labels of their sessions and runs."""
        parts = [
            plan.shown.stimuli.assign(
                session_label=plan.files.first.entities.get("ses", ""),
                run_label=plan.files.first.entities.get("run", ""),
            )
            for plans in self.plans.values()
            for plan in plans
        ]
        return pd.concat(parts, ignore_index=True)


def open_derivatives(root: Path, options: BidsOptions) -> Opened:
    """Read and check all tables and headers.

    Parameters
    ----------
    root : path
        The derivatives, or the raw data set that contains them in ``derivatives/``.
    options : BidsOptions
        The options of the reader.

    Returns
    -------
    Opened

    Raises
    ------
    InputError
        If anything is missing or inconsistent; the message names the file.
    """
    folder = derivatives_folder(root)
    runs = find_runs(folder, options)
    folders = Folders(data_sets(root, folder, options.events))
    runs, left_out = _with_events(runs, folders, options)
    grids, times = _headers(runs, folders, options)
    tables = [
        events.read_events(events.find_events(folders, run.first), time.seconds)
        for run, time in zip(runs, times, strict=True)
    ]
    column = events.stimulus_column(tables, options.stimulus_column)
    plans = defaultdict(list)
    for run, time, table in zip(runs, times, tables, strict=True):
        found = events.shown(table, column, options.category_column, options.rest)
        if options.samples == "volume":
            found = replace(found, stimuli=cut_videos(found.stimuli, time.repetition_time))
        removed = confounds.load(run, folders, options.confounds, time.length)
        plans[run.subject].append(RunPlan(run, time, found, removed))
    for subject, own in plans.items():
        if not any(len(plan.shown.stimuli) for plan in own):
            raise InputError(
                f"no event of {subject} shows a stimulus",
                given=f"no values in the column {column!r} of {tables[0].path} etc., or only rest",
                expected="events that name a stimulus",
                todo="set stimulus_column, or the trial types that are rest, in [options]",
            )
    if options.samples == "volume":
        _check_repetition_times(plans)
    return Opened(folder, folders, dict(plans), grids, column, left_out)


def raw_folders(opened: Opened) -> list[Path]:
    """Return the folders that may contain ``stimuli/``, the derivatives last."""
    return [*(root for root in opened.folders.roots if root != opened.folder), opened.folder]


def data_sets(root: Path, folder: Path, given: str | None) -> list[Path]:
    """Return the data sets that may contain events and sidecars.

    Raises
    ------
    MissingFileError
        If the folder in the option ``events`` does not exist.
    """
    if given is not None:
        if not (root / given).is_dir():
            raise MissingFileError(
                "the folder of the events does not exist",
                given=str(root / given),
                expected="the raw BIDS data set, with sub-*/func/*_events.tsv",
                todo="fix events in [options]; relative paths start from --root",
            )
        return [folder, root / given]
    above = [folder.parent.parent] if folder.parent.name == "derivatives" else []
    near = [folder / "sourcedata" / "raw", folder / "sourcedata", folder.parent / "rawdata", folder.parent / "raw"]
    return [folder, *(place for place in (root, *above, *near) if place.is_dir())]


def _with_events(runs: list[RunFiles], folders: Folders, options: BidsOptions) -> tuple[list[RunFiles], list[str]]:
    """Leave out tasks without any events, such as rest, unless the options name tasks."""
    if options.tasks is not None:
        return runs, []
    having = {run.task for run in runs if folders.belonging(run.first, ["events"], "tsv")}
    if not having:
        events.find_events(folders, runs[0].first)  # raises an error that lists the folders searched
    return [run for run in runs if run.task in having], sorted({run.task for run in runs} - having)


def _headers(runs: Iterable[RunFiles], folders: Folders, options: BidsOptions) -> tuple[dict[str, Grid], list]:
    grids: dict[str, Grid] = {}
    first: dict[str, RunFiles] = {}
    times = []
    for run in runs:
        grid, header = open_run(run)
        times.append(times_of(run, header, folders.metadata(run.first), options.repetition_time))
        if run.subject in grids:
            check_run(run, grid, grids[run.subject], first[run.subject].path.name)
        else:
            grids[run.subject], first[run.subject] = grid, run
    return grids, times


def _check_repetition_times(plans: dict[str, list[RunPlan]]) -> None:
    for own in plans.values():
        for task in {plan.files.task for plan in own}:
            found = Counter(plan.times.repetition_time for plan in own if plan.files.task == task)
            if len(found) > 1:
                raise InputError(
                    f"the runs of the task {task!r} have different repetition times",
                    given=", ".join(f"{seconds:g} s in {count} runs" for seconds, count in found.items()),
                    expected='the same repetition time in all runs of a task, because samples = "volume"',
                    todo="select runs or sessions in [options]",
                )


#: Name of the ROI that contains every voxel.
WHOLE = "brain"


def load_subject(
    processes: Sequence[Process],
    grid: Grid,
    root: Path,
    folders: Folders,
    splits: Mapping[str, str],
    options: BidsOptions,
) -> SubjectData:
    """Read the masks and ROIs of a subject, screen its voxels in all runs, and create its tables.

    Parameters
    ----------
    processes : sequence of Process
        How to compute the samples of the subject.
    grid : Grid
        The grid of all runs.
    root : path
        Folder that paths in the options start from.
    folders : Folders
        The folders that may contain brain masks.
    splits : mapping of str to str
        Split of each stimulus.
    options : BidsOptions
        The options of the reader.

    Returns
    -------
    SubjectData

    Raises
    ------
    InputError
        If a mask or an atlas does not match the runs, or a run cannot be read.
    """
    plans = [plan for process in processes for plan in process.plans]
    name = plans[0].files.subject
    atlas = read_rois(grid, options.rois, root, name)
    member = _mask(plans, grid, root, folders, atlas, options)
    rows = np.flatnonzero(member)
    screened = screen(read_run(plan.files, rows) for plan in plans)
    keep = options.bad_voxels == "keep"
    report = _report(processes)
    report |= screened.report(kept=keep)
    rows = rows if keep else rows[screened.usable]
    if not len(rows):
        _refuse_empty_volumes(plans, np.flatnonzero(member))
        raise InputError(
            f"no voxel of {name} can be used",
            given=f"{len(screened.usable):,} voxels in the mask, all constant or not finite in some run",
            expected="voxels that vary in every run",
            todo='choose another mask in [options], or bad_voxels = "keep"',
        )
    rois = {roi: inside[rows] for roi, inside in atlas.items()} | {WHOLE: np.ones(len(rows), dtype=bool)}
    empty = [roi for roi, inside in rois.items() if not inside.any()]
    if empty:
        report["ROIs without a voxel, left out"] = ", ".join(empty)

    def load(number: int) -> np.ndarray:
        process = processes[number]
        runs = [read_run(plan.files, rows) for plan in process.plans]
        return process.compute([np.nan_to_num(run, nan=0.0, posinf=0.0, neginf=0.0, copy=False) for run in runs])

    samples = _samples(processes, splits)
    if options.samples != "fir":  # FIR samples combine several events
        further, unused = _further(processes)
        samples = samples.join(further)
        if unused:
            report["columns of events, not used"] = ", ".join(unused)
    tasks = {plan.files.task: plan.times.repetition_time for plan in plans} if options.samples == "volume" else {}
    return SubjectData(
        samples=samples,
        voxels=grid.table.iloc[rows].reset_index(drop=True),
        rois={roi: inside for roi, inside in rois.items() if inside.any()},
        space=grid.space,
        read_responses=read_by_part([len(process) for process in processes], load, len(rows)),
        repetition_time={task: seconds for task, seconds in tasks.items() if (samples["task"] == task).any()},
        report=report,
    )


def _refuse_empty_volumes(plans: Sequence[RunPlan], rows: np.ndarray) -> None:
    """Raise an error that names the volumes without any finite value, if there are some: they spoil every voxel."""
    for plan in plans:
        empty = np.flatnonzero(~np.isfinite(read_run(plan.files, rows)).any(axis=1))
        if 0 < len(empty) < plan.times.length:
            raise InputError(
                f"{len(empty)} volumes of {plan.name} have no values",
                given=f"no finite value in volume {', '.join(str(volume + 1) for volume in empty[:5])}"
                + (" ..." if len(empty) > 5 else "")
                + f" of {plan.times.length}",
                expected="voxels with values in every volume; others are dropped",
                todo="fix the run, leave it out with runs in [options], or interpolate these volumes",
            )


def _mask(
    plans: Sequence[RunPlan],
    grid: Grid,
    root: Path,
    folders: Folders,
    rois: Mapping[str, np.ndarray],
    options: BidsOptions,
) -> np.ndarray:
    """Return the places of the grid to read, bool, shape (place,)."""
    name = plans[0].files.subject
    if options.mask == "rois":
        if not rois:
            raise InputError(
                'mask = "rois" requires ROIs',
                given="no [options.rois] in the recipe",
                expected="at least one ROI",
                todo='add ROIs, or set mask = "brain"',
            )
        return np.logical_or.reduce(list(rois.values()))
    if options.mask == "brain" and grid.space.kind == "volume":
        mask = np.logical_and.reduce([_brain(plan, grid, folders) for plan in plans])
    elif options.mask in ("brain", "all"):
        mask = np.ones(len(grid), dtype=bool)
    else:
        mask = read_mask(grid, root / options.mask.replace("{subject}", name))
    if not mask.any():
        raise InputError(
            f"the mask of {name} is empty",
            given=f"mask = {options.mask!r}",
            expected="voxels that are in the mask of every run",
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
            f"the brain mask of {plan.name} is missing",
            given=f"no matching *_desc-brain_mask.nii.gz in {first.path.parent}",
            expected="the file that fMRIPrep writes next to the run",
            todo='copy it there, or choose another mask in [options]: mask = "FILE", "rois" or "all"',
        )
    return as_mask(read_volume(found[-1].path, grid), found[-1].path)


def _runs(processes: Sequence[Process]) -> list[tuple[RunPlan, RunSamples]]:
    return [
        (plan, samples) for process in processes for plan, samples in zip(process.plans, process.samples, strict=True)
    ]


def _further(processes: Sequence[Process]) -> tuple[pd.DataFrame, list[str]]:
    """Return the further columns of the events, one row per sample, and the columns that cannot be stored."""
    parts = [
        plan.shown.stimuli[plan.shown.further].iloc[samples.table["presentation"].to_numpy(dtype=int)]
        for plan, samples in _runs(processes)
    ]
    table = pd.concat(parts, ignore_index=True)
    # A column of the events called "trials" would be taken for the number of trials averaged.
    found, unused = tidy_columns(table, [name for name in table if name != TRIALS])
    return found, [name for name in unused if name not in SAMPLE_COLUMNS]


def _samples(processes: Sequence[Process], splits: Mapping[str, str]) -> pd.DataFrame:
    """Return the table of samples, run by run."""
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
            given="no volumes after the events",
            expected="volumes from onset + lag on",
            todo="check lag in [options], and that the events belong to the runs",
        )
    presentations = table.groupby(["task", "stimulus"], sort=False)["shown"]
    table["repeat"] = presentations.transform(lambda values: pd.factorize(values)[0] + 1).astype(int)
    table["split"] = table["stimulus"].map(splits)
    table["time"] = table["time"].astype(float)
    return table[list(SAMPLE_COLUMNS)]


def _report(processes: Sequence[Process]) -> dict[str, str]:
    """Report what was left out."""
    plans = [plan for process in processes for plan in process.plans]
    report = {"runs": f"{len(plans)}, of {', '.join(sorted({plan.files.task for plan in plans}))}"}
    unrecorded = sum(samples.unrecorded for process in processes for samples in process.samples)
    if unrecorded:
        report["presentations left out"] = f"{unrecorded}, whose response was not recorded or was scrubbed"
    outside = sum(plan.shown.outside for plan in plans)
    if outside:
        report["presentations outside the runs, left out"] = f"{outside}, before the first or after the last volume"
    left_out = sum(plan.shown.left_out for plan in plans)
    if left_out:
        report["events that are no stimuli, left out"] = f"{left_out}, without onset or duration or outside the runs"
    others = pd.concat([plan.shown.others for plan in plans], ignore_index=True)
    if len(others):
        kinds = others["trial_type"].value_counts()
        report["events that are no stimuli"] = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    scrubbed = sum(plan.times.length - len(plan.kept) for plan in plans)
    if scrubbed:
        report["volumes scrubbed"] = f"{scrubbed} of {sum(plan.times.length for plan in plans)}"
    return report
