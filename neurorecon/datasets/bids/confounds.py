"""Confounds of a run: columns by name, or a strategy of nilearn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.files import RunFiles
from neurorecon.datasets.bids.names import Folders
from neurorecon.datasets.bids.options import Strategy
from neurorecon.errors import InputError, MissingFileError, UnknownNameError


@dataclass(frozen=True)
class Confounds:
    """What is regressed out of a run.

    Parameters
    ----------
    table : DataFrame
        One row a volume of the run, one column a confound; none missing.
    kept : int array, shape (kept_volume,), or None
        Volumes that are not scrubbed; None where all are kept.
    """

    table: pd.DataFrame
    kept: np.ndarray | None = None


def load(run: RunFiles, folders: Folders, wanted: Sequence[str] | Strategy, length: int) -> Confounds:
    """Load the confounds of a run.

    Values that are missing at the beginning (fMRIPrep gives derivatives none at the first volume) are taken from the
    first volume that has one, as nilearn's ``load_confounds`` does.

    Parameters
    ----------
    run : RunFiles
    folders : Folders
    wanted : sequence of str, or Strategy
        Columns with wildcards, or parameters of ``load_confounds``.
    length : int
        Volumes of the run.

    Raises
    ------
    InputError
        Where the file is missing, does not match the run, lacks a column or has gaps.
    """
    if not isinstance(wanted, Strategy) and not wanted:
        return Confounds(pd.DataFrame(index=range(length)))
    found = [
        file
        for file in folders.belonging(run.first, ["timeseries", "regressors"], "tsv", desc="confounds")
        if "run" in file.entities or "run" not in run.first.entities
    ]
    if not found:
        raise MissingFileError(
            f"there are no confounds for {run.path.name}",
            given=f"no matching *_desc-confounds_timeseries.tsv in {run.path.parent}",
            expected="the file that fMRIPrep writes beside the run",
            todo="copy it there, or leave confounds out of [options]",
        )
    path = found[-1].path
    try:
        table = pd.read_csv(path, sep="\t", na_values=["n/a"], encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", given=f"{type(error).__name__}: {error}", expected="a TSV") from None
    if len(table) != length:
        raise InputError(
            f"{path} does not match its run",
            given=f"{len(table)} rows for {length} volumes in {run.path.name}",
            expected="one row a volume",
            todo="copy both files again: one is cut, or of another run",
        )
    if isinstance(wanted, Strategy):
        chosen = _strategy(run, wanted, length)
    else:
        columns = []
        for pattern in wanted:
            matching = [name for name in table if fnmatch(str(name), pattern)]
            if not matching:
                raise UnknownNameError(f"confound in {path.name}:", pattern, table.columns)
            columns += [name for name in matching if name not in columns]
        chosen = Confounds(table[columns])
    filled = _complete(chosen.table, path.name)
    kept = length if chosen.kept is None else len(chosen.kept)
    if filled.shape[1] >= kept - 1:
        raise InputError(
            f"as many confounds as volumes: nothing would be left of {run.path.name}",
            given=f"{filled.shape[1]} confounds, {kept} volumes",
            expected="far fewer confounds than volumes",
            todo="choose fewer confounds in [options]",
        )
    return Confounds(filled, chosen.kept)


def _complete(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Fill gaps at the beginning; refuse others."""
    numeric = table.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    filled = numeric.bfill(limit=2) if len(numeric) else numeric
    first = numeric.notna().to_numpy().argmax(axis=0) if len(numeric) else np.array([])
    gaps = filled.isna() | (numeric.isna() & (np.arange(len(numeric))[:, None] > first))
    if gaps.to_numpy().any():
        row, column = np.argwhere(gaps.to_numpy())[0]
        raise InputError(
            f"the confounds {name} have gaps",
            given=f"{table.columns[column]!r} is missing in row {row + 1}",
            expected="numbers, but for the first one or two volumes",
            todo="leave this confound out, or run fMRIPrep again",
        )
    return filled


def _strategy(run: RunFiles, wanted: Strategy, length: int) -> Confounds:
    from nilearn.interfaces.fmriprep import load_confounds

    paths = [str(file.path) for file in run.files]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # One run: a path, or a pair of hemispheres in a list of runs.
            given = paths[0] if len(paths) == 1 else [paths]
            table, kept = load_confounds(given, **wanted.model_dump())
    except Exception as error:  # nilearn raises errors of its own and ValueError
        raise InputError(
            f"nilearn cannot load these confounds for {run.path.name}",
            given=f"strategy {', '.join(wanted.strategy)}; {type(error).__name__}: {error}",
            expected="a strategy of nilearn.interfaces.fmriprep.load_confounds, and the columns that it needs",
            todo="choose another strategy, or name columns: confounds = ['trans_?', 'rot_?']",
        ) from None
    if isinstance(table, list):
        table, kept = table[0], kept[0]
    if table is None:
        table = pd.DataFrame(index=range(length))
    return Confounds(table.reset_index(drop=True), None if kept is None else np.asarray(kept))
