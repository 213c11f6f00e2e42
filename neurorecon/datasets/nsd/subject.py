"""One subject: its sessions, trials, voxels and ROIs put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, SubjectData
from neurorecon.datasets.nsd.behavior import behavior_columns, means_of_behavior
from neurorecon.datasets.nsd.betas import Betas, Hdf5Betas, NiftiBetas, SurfaceBetas
from neurorecon.datasets.nsd.design import Design
from neurorecon.datasets.nsd.grid import Grid, Surface, Volume, surface_of, volume_of
from neurorecon.datasets.nsd.layout import SESSIONS, Layout, span
from neurorecon.datasets.nsd.options import NsdOptions
from neurorecon.datasets.nsd.responses import Recording, read_averages, read_trials
from neurorecon.datasets.nsd.rois import Rois, read_rois, select_voxels
from neurorecon.datasets.nsd.screening import screen_sessions
from neurorecon.datasets.parts import Screened
from neurorecon.errors import InputError


@dataclass(frozen=True)
class Source:
    """What the tables and headers of one subject say.

    Parameters
    ----------
    name : str
        E.g. ``"subj01"``.
    folder : path
        Of the betas.
    betas : list of Betas
        One a session, in order.
    trials : DataFrame
        One row a trial, in the order of the betas: see :meth:`Design.trials`, and ``place`` in its session.
    rois : Rois
        All ROIs, on the whole grid.
    voxels : int array, shape (voxel,)
        Of the mask.
    ncsnr : float array, shape (voxel,), or None
        As NSD states it.
    report : dict of str to str
        What was missing.
    """

    name: str
    folder: Path
    betas: list[Betas]
    trials: pd.DataFrame
    rois: Rois
    voxels: np.ndarray
    ncsnr: np.ndarray | None
    report: dict[str, str]


def open_source(
    layout: Layout, design: Design, name: str, sessions: dict[int, list[Path]], options: NsdOptions
) -> Source:
    """Open all that belongs to a subject; no betas are read yet.

    Parameters
    ----------
    layout, design, name, options
        Where, what, who and how.
    sessions : dict of int to list of path
        From :func:`neurorecon.datasets.nsd.layout.find_sessions`.
    """
    grid = _grid(layout, name, sessions, options)
    rois, report = read_rois(layout, name, grid, options.space, options.hemisphere_rois)
    voxels = select_voxels(rois, options.mask, layout, name, options.space)
    betas = [_open(paths, grid) for paths in sessions.values()]
    trials = _trials(design, name, list(sessions), betas)
    folder = layout.betas(name, options)
    return Source(name, folder, betas, trials, rois, voxels, _ncsnr(folder, grid, voxels),
                  _missing(name, list(sessions), design, options) | report)  # fmt: skip


def _grid(layout: Layout, name: str, sessions: dict[int, list[Path]], options: NsdOptions) -> Grid:
    """Return the grid that masks and betas have to share: that of nsdgeneral, else of any file that has one."""
    first = next(iter(sessions.values()))
    if options.space == "fsaverage":
        return surface_of(first)
    folder = layout.preparation(name, options.space)
    candidates = [folder / "roi" / "nsdgeneral.nii.gz", folder / "brainmask.nii.gz", *sorted(folder.glob("roi/*.nii*"))]
    there = [path for path in candidates if path.is_file()]
    if not there and first[0].suffix != ".hdf5":
        there = first
    if not there:
        raise InputError(
            f"nothing says where the voxels of {name} lie",
            given=f"betas in HDF5, and neither roi nor brainmask.nii.gz in {folder}",
            expected="ROI files, e.g. nsdgeneral.nii.gz: they carry the affine",
            todo="download the folder roi of this subject and space",
        )
    return volume_of(there[0])


def _open(paths: list[Path], grid: Grid) -> Betas:
    if isinstance(grid, Surface):
        return SurfaceBetas(paths, grid.vertices)
    of = (grid.shape, grid.affine, grid.like)
    return Hdf5Betas(paths[0], of) if paths[0].suffix == ".hdf5" else NiftiBetas(paths[0], of)


def _trials(design: Design, name: str, sessions: list[int], betas: list[Betas]) -> pd.DataFrame:
    lengths = [item.trials for item in betas]
    if design.pattern is None and len(set(lengths)) > 1:
        raise InputError(
            f"the sessions of {name} hold different numbers of trials",
            given=", ".join(f"{item.path.name}: {item.trials}" for item in betas),
            expected="as many in each (750); the design here does not say how many",
            todo="download again those that differ, and nsd_expdesign.mat",
        )
    trials = design.trials(int(name.removeprefix("subj")), sessions, lengths)
    return trials.assign(place=trials.groupby("session").cumcount())


def _missing(name: str, sessions: list[int], design: Design, options: NsdOptions) -> dict[str, str]:
    number = SESSIONS.get(int(name.removeprefix("subj")), 40)
    number = number if design.pattern is None else min(number, len(design.pattern))
    wanted = options.session_numbers() or range(1, number + 1)
    absent = [session for session in wanted if session not in sessions]
    return {"sessions missing": f"{span(absent)} of 1-{number}"} if absent else {}


def _ncsnr(folder: Path, grid: Grid, voxels: np.ndarray) -> np.ndarray | None:
    paths = [folder / "ncsnr.nii.gz"] if isinstance(grid, Volume) else [folder / f"{h}.ncsnr.mgh" for h in ("lh", "rh")]
    if not all(path.is_file() for path in paths):
        return None
    values = grid.read(paths)[voxels].astype(np.float32)
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0.0, None)


def subject_data(
    source: Source,
    split: np.ndarray,
    reported: dict[str, str],
    behavior: pd.DataFrame | None,
    options: NsdOptions,
) -> SubjectData:
    """Screen the voxels of a subject and make its tables; responses are read when they are asked for.

    Parameters
    ----------
    source : Source
        From :func:`open_source`.
    split : array of str, shape (trial,)
        ``""`` for trials that are left out.
    reported : dict of str to str
        Of the split.
    behavior : DataFrame or None
        The button presses, from :func:`neurorecon.datasets.nsd.behavior.read_behavior`.
    options : NsdOptions
    """
    screened = screen_sessions(source.betas, source.voxels)
    keep = options.bad_voxels == "keep"
    usable = np.ones(len(source.voxels), dtype=bool) if keep else screened.usable
    if not usable.any():
        raise _nothing_left(source, screened)
    voxels = source.voxels[usable]
    table = source.rois.grid.table(voxels)
    if source.ncsnr is not None:
        table["ncsnr"] = source.ncsnr[usable]
    rows = [np.flatnonzero(part != "") for part in _by_session(source, split)]
    recording = Recording(source.betas, rows, voxels, options.scaling == "session")
    samples = _samples(source.trials, split)
    kept = source.trials[split != ""]
    pressed = pd.DataFrame(index=samples.index) if behavior is None else behavior_columns(behavior, kept)
    report = {**source.report, **reported, **screened.report(kept=keep)}
    if options.samples == "trial":
        samples = samples.join(pressed)
        read = read_trials(recording)
    else:
        first = samples["repeat"].to_numpy() == 1
        groups = np.asarray(pd.Categorical(samples["stimulus"], categories=samples["stimulus"][first]).codes)
        samples = samples[first].reset_index(drop=True).assign(**{TRIALS: np.bincount(groups)})
        samples = samples.join(means_of_behavior(pressed, groups))
        read = read_averages(recording, groups, len(samples))
        if source.ncsnr is None:
            report["noise ceilings"] = "none: of averages they are known by the file ncsnr alone, which is missing"
    rois = source.rois.members(voxels) or {options.mask: np.ones(len(voxels), dtype=bool)}
    return SubjectData(
        samples=samples,
        voxels=table,
        rois=rois,
        space=source.rois.grid.space(),
        read_responses=read,
        report=report,
    )


def _by_session(source: Source, split: np.ndarray) -> list[np.ndarray]:
    return np.split(split, np.cumsum([item.trials for item in source.betas])[:-1])


def _samples(trials: pd.DataFrame, split: np.ndarray) -> pd.DataFrame:
    kept = trials[split != ""]
    table = pd.DataFrame(
        {
            "stimulus": [f"nsd{number:05d}" for number in kept["nsdId"]],
            "task": "images",
            "session": kept["session"].to_numpy(),
            "run": kept["run"].to_numpy(),
            "repeat": kept.groupby("nsdId").cumcount().to_numpy() + 1,
            "split": split[split != ""].astype(str),
            "time": kept["time"].to_numpy(dtype=float),
        }
    )
    return table[list(SAMPLE_COLUMNS)]


def _nothing_left(source: Source, screened: Screened) -> InputError:
    return InputError(
        f"no voxel of {source.name} can be used",
        given=f"{screened.not_finite:,} not finite and {screened.constant:,} constant, of {len(source.voxels):,}",
        expected="voxels that vary in every session",
        todo=f"check the betas in {source.folder}, take another mask, or leave sessions out",
    )
