"""The files that are read of a BIDS derivative and the raw data set, found by their names alone."""

from __future__ import annotations

from pathlib import Path

from neurorecon.datasets.bids.files import RunFiles, derivatives_folder, find_runs
from neurorecon.datasets.bids.names import BidsFile, Folders
from neurorecon.datasets.bids.opening import data_sets
from neurorecon.datasets.bids.options import Atlas, BidsOptions
from neurorecon.datasets.sources import files_below

#: What belongs to a run, by the ends of names.
SUFFIXES = ("events", "timeseries", "regressors", "mask")


def source_files(root: Path, options: BidsOptions) -> list[Path]:
    """Return the files that are read with these options; those that are not there are named too.

    Parameters
    ----------
    root : path
        The derivatives, or the raw data set that holds them in ``derivatives/``.
    options : BidsOptions
    """
    folder = derivatives_folder(root)
    runs, folders = find_runs(folder, options), Folders(data_sets(root, folder, options.events))
    files = [file.path for run in runs for file in run.files]
    files += [file.path for run in runs for part in run.files for file in folders.around(part) if _belongs(file)]
    for place in folders.roots:
        files += [place / "dataset_description.json", place / "stimuli.tsv"]
    files += _stimuli(root, folders, options)
    return [*dict.fromkeys([*files, *_areas(root, runs, options)])]


def _belongs(file: BidsFile) -> bool:
    return file.suffix in SUFFIXES or (file.suffix == "bold" and file.extension == "json")


def _stimuli(root: Path, folders: Folders, options: BidsOptions) -> list[Path]:
    given = [] if options.captions is None else [root / options.captions]
    if options.stimuli == "none":
        return given
    places = [place / "stimuli" for place in folders.roots] if options.stimuli is None else [root / options.stimuli]
    return [*given, *(file for place in places for file in files_below(place))]


def _areas(root: Path, runs: list[RunFiles], options: BidsOptions) -> list[Path]:
    """Return masks and atlases, and the tables of their labels."""
    named: list[str] = [options.mask]
    for area in options.rois.values():
        atlas = area if isinstance(area, Atlas) else Atlas(path=area)
        named += [atlas.path] if isinstance(atlas.path, str) else atlas.path
        named += [atlas.labels] if isinstance(atlas.labels, str) else []
    return [root / name.replace("{subject}", subject) for name in named for subject in {run.subject for run in runs}]
