"""Open a BIDS derivative: all tables and headers are read and checked, no values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from neurorecon.datasets.bids import confounds, events
from neurorecon.datasets.bids.files import RunFiles, derivatives_folder, find_runs
from neurorecon.datasets.bids.grid import Grid
from neurorecon.datasets.bids.names import Folders
from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.datasets.bids.plan import RunPlan, times_of
from neurorecon.datasets.bids.spaces import check_run, open_run
from neurorecon.datasets.bids.stimuli import cut_films
from neurorecon.errors import InputError, MissingFileError


@dataclass(frozen=True)
class Opened:
    """What a folder holds, as far as tables and headers say.

    Parameters
    ----------
    folder : path
        The derivatives.
    folders : Folders
        Derivatives and raw data sets.
    plans : dict of str to list of RunPlan
        By subject.
    grids : dict of str to Grid
        By subject.
    column : str
        Column of the events that names the stimuli.
    left_out : list of str
        Tasks without events.
    """

    folder: Path
    folders: Folders
    plans: dict[str, list[RunPlan]]
    grids: dict[str, Grid]
    column: str
    left_out: list[str]

    def shown(self) -> pd.DataFrame:
        """Return all presentations of all subjects, with the labels of session and run."""
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
        The derivatives, or the raw data set that holds them in ``derivatives/``.
    options : BidsOptions

    Raises
    ------
    InputError
        Where anything is missing or does not fit together; the message names the file.
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
            found = replace(found, stimuli=cut_films(found.stimuli, time.repetition_time))
        removed = confounds.load(run, folders, options.confounds, time.length)
        plans[run.subject].append(RunPlan(run, time, found, removed))
    for subject, own in plans.items():
        if not any(len(plan.shown.stimuli) for plan in own):
            raise InputError(
                f"no event of {subject} shows a stimulus",
                given=f"no value in the column {column!r} of {tables[0].path} and the like, or rest throughout",
                expected="a stimulus for each event that shows one",
                todo="choose stimulus_column, or what counts as rest, in [options]",
            )
    if options.samples == "volume":
        _check_repetition_times(plans)
    return Opened(folder, folders, dict(plans), grids, column, left_out)


def raw_folders(opened: Opened) -> list[Path]:
    """Return the folders that may hold ``stimuli/``, the derivatives last."""
    return [*(root for root in opened.folders.roots if root != opened.folder), opened.folder]


def data_sets(root: Path, folder: Path, given: str | None) -> list[Path]:
    """Return the data sets that events and sidecars may lie in."""
    if given is not None:
        if not (root / given).is_dir():
            raise MissingFileError(
                "the folder of the events is not there",
                given=str(root / given),
                expected="the raw BIDS data set, with sub-*/func/*_events.tsv",
                todo="mend events in [options]; a relative path counts from --root",
            )
        return [folder, root / given]
    above = [folder.parent.parent] if folder.parent.name == "derivatives" else []
    near = [folder / "sourcedata" / "raw", folder / "sourcedata", folder.parent / "rawdata", folder.parent / "raw"]
    return [folder, *(place for place in (root, *above, *near) if place.is_dir())]


def _with_events(runs: list[RunFiles], folders: Folders, options: BidsOptions) -> tuple[list[RunFiles], list[str]]:
    """Leave out tasks that nobody asked for and that have no events at all, such as rest."""
    if options.tasks is not None:
        return runs, []
    having = {run.task for run in runs if folders.belonging(run.first, ["events"], "tsv")}
    if not having:
        events.find_events(folders, runs[0].first)  # its error says where they were looked for
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
                    f"the runs of the task {task!r} have different times between volumes",
                    given=", ".join(f"{seconds:g} s in {count} runs" for seconds, count in found.items()),
                    expected='one for all runs of a task where samples = "volume"',
                    todo="choose runs or sessions in [options]",
                )
