"""Miyawaki 2008 as nilearn's fetcher lays it out: runs, the mask of visual cortex, its areas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, SubjectData
from neurorecon.datasets.images import check_grid, image_values
from neurorecon.datasets.miyawaki2008_figures import stimulus_table
from neurorecon.datasets.miyawaki2008_runs import (
    AGAIN,
    REPETITION_TIME,
    SESSIONS,
    Preprocessing,
    Run,
    find_runs,
    load_image,
    response_reader,
)
from neurorecon.errors import InputError
from neurorecon.space import Space

#: Areas that are the union of a dorsal and a ventral part.
UNIONS = {"V1": ("V1d", "V1v"), "V2": ("V2d", "V2v")}


@dataclass(frozen=True)
class Runs:
    """Everything that the layout holds.

    Parameters
    ----------
    stimuli : DataFrame
        The table of stimuli, random patterns first.
    patterns : array, shape (stimulus, y, x)
        uint8, 0 or 1.
    data : SubjectData
        The one subject; a run at a time is read from disk.
    notes : str
        What was done to the data, and which runs are missing.
    """

    stimuli: pd.DataFrame
    patterns: np.ndarray
    data: SubjectData
    notes: str


def read_figure_and_random_runs(root: Path, options: Preprocessing) -> Runs:
    """Read labels, masks and headers; volumes are read when responses are asked for.

    Parameters
    ----------
    root : path
        The folder with ``func``, ``label`` and ``mask``.
    options : Preprocessing
        What is done to a run.

    Returns
    -------
    Runs

    Raises
    ------
    InputError
        Where a file is missing or cannot be used; the message names it.
    """
    mask, affine = load_mask(root / "mask" / "mask.nii.gz")
    if mask.ndim != 3 or not mask.any():
        raise InputError(
            f"{root / 'mask' / 'mask.nii.gz'} is no mask",
            given=f"shape {mask.shape}, {int(mask.sum())} voxels that are not zero",
            expected="a volume (x, y, z) with voxels that are not zero",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    runs, absent = find_runs(root, mask.shape, options)
    patterns, index_of_sample, n_random = _number_patterns(runs)
    stimuli = stimulus_table(patterns, n_random)
    i, j, k = np.nonzero(mask)
    data = SubjectData(
        samples=_sample_table(runs, stimuli["id"].to_numpy()[index_of_sample]),
        voxels=pd.DataFrame({"i": i, "j": j, "k": k}),
        rois=read_areas(root / "mask", mask, affine),
        space=Space("volume", affine=affine.tolist(), shape=list(mask.shape)),
        read_responses=response_reader(runs, mask, options),
    )
    return Runs(stimuli, patterns, data, _notes(options, absent))


def load_mask(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask.

    Parameters
    ----------
    path : path
        A volume; a fourth axis of length 1 is dropped.

    Returns
    -------
    mask : bool array, shape (x, y, z)
        Where the volume is not zero.
    affine : array, shape (4, 4)
        Indices to millimeters.
    """
    image = load_image(path)
    mask = image_values(image, path, todo=AGAIN) != 0
    if mask.ndim == 4 and mask.shape[3] == 1:
        mask = mask[..., 0]
    return mask, np.asarray(image.affine, dtype=float)


def read_areas(folder: Path, mask: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    """Read the masks of the areas, each hemisphere, both together, and V1 and V2 as wholes.

    Parameters
    ----------
    folder : path
        ``mask`` of the layout, with e.g. ``LHV1d.nii.gz`` and the eccentricity bands ``RHlag0to1.nii.gz``.
    mask : bool array, shape (x, y, z)
        Voxels of visual cortex.
    affine : array, shape (4, 4)
        Of the mask.

    Returns
    -------
    dict of str to bool array, shape (voxel,)
        E.g. ``lh.V1d``, ``rh.V1d``, ``V1d``, ``lh.V1``, ``V1``. Areas without a voxel in the mask are left
        out.

    Raises
    ------
    InputError
        Where an area lies on another grid than the mask.
    """
    areas: dict[str, np.ndarray] = {"visual_cortex": np.ones(int(mask.sum()), dtype=bool)}
    sides: dict[str, dict[str, np.ndarray]] = {"lh": {}, "rh": {}}
    for path in sorted(folder.glob("*.nii.gz")):
        match = re.fullmatch(r"(LH|RH)(.+)\.nii\.gz", path.name)
        if match is None:
            continue
        area, found = load_mask(path)
        check_grid(path, area.shape, found, "mask/mask.nii.gz", mask.shape, affine)
        sides[match[1].lower()][match[2]] = area[mask]
    for side in sides.values():
        for union, parts in UNIONS.items():
            if any(part in side for part in parts):
                side[union] = np.logical_or.reduce([side[part] for part in parts if part in side])
    for name in sorted({*sides["lh"], *sides["rh"]}):
        members = [side[name] for side in sides.values() if name in side]
        areas[name] = np.logical_or.reduce(members)
        areas.update({f"{label}.{name}": side[name] for label, side in sides.items() if name in side})
    return {name: member for name, member in areas.items() if member.any()}


def _number_patterns(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the distinct patterns, the place of each sample's among them, and how many are random."""
    places: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    index_of_sample = []
    n_random = 0
    for run in runs:  # random runs come first
        for pattern in run.patterns:
            key = pattern.tobytes()
            if key not in places:
                places[key] = len(distinct)
                distinct.append(pattern)
                n_random += run.kind == "random"
            elif run.kind == "figure" and places[key] < n_random:
                raise InputError(
                    f"{run.path.name} shows a pattern of the random session",
                    given="the same pattern in the train and the test split",
                    expected="figures that are not among the random patterns",
                    todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
                )
            index_of_sample.append(places[key])
    if not distinct:
        raise InputError(
            "the runs of Miyawaki 2008 show nothing",
            given="labels that are -1 throughout, in all runs",
            expected="patterns of 0 and 1",
            todo="fetch the data set again: nilearn.datasets.fetch_miyawaki2008()",
        )
    return np.stack(distinct), np.asarray(index_of_sample), n_random


def _sample_table(runs: Sequence[Run], stimulus: np.ndarray) -> pd.DataFrame:
    """Make the table of samples."""
    rows = [
        ("images", SESSIONS[run.kind][0], run.number, SESSIONS[run.kind][1], onset)
        for run in runs
        for onset in run.onsets
    ]
    table = pd.DataFrame(rows, columns=["task", "session", "run", "split", "time"])
    table["stimulus"] = stimulus
    table["repeat"] = table.groupby("stimulus").cumcount() + 1
    return table[list(SAMPLE_COLUMNS)]


def _notes(options: Preprocessing, absent: Sequence[str]) -> str:
    """Say what was done to the data."""
    done = [
        *(["linear trend removed by run"] if options.detrend else []),
        *(["standardized by run"] if options.standardize else []),
        f"response taken {options.lag} volumes ({options.lag * REPETITION_TIME:g} s) after the stimulus",
        "volumes of a block averaged" if options.samples == "block" else "every volume a sample",
    ]
    missing = f" Missing here: {', '.join(absent)}." if absent else ""
    return f"Runs: {'; '.join(done)}. Rest is left out. Random patterns train, figures test.{missing}"
