"""Which voxels and which samples a call means: names of ROIs, splits, times, delays, averages.

Pure functions on tables and masks; nothing here touches a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

_HEMISPHERES = {"lh": "left", "rh": "right"}


def roi_mask(
    expression: str | Iterable[str],
    rois: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]] | None = None,
    hemisphere: np.ndarray | None = None,
) -> np.ndarray:
    """Return the voxels that an expression names.

    Parameters
    ----------
    expression : str or iterable of str
        A name (``"V1"``), a group (``"early"``), a union (``"V1+V2"``), one hemisphere of any of these
        (``"lh.MT"``), or a list of such, which is their union.
    rois : mapping of str to bool array, shape (voxel,)
        Membership of each ROI.
    groups : mapping of str to sequence of str, optional
        Groups of ROIs; members may be groups themselves. Members that this subject lacks are left out.
    hemisphere : array of str, shape (voxel,), optional
        ``"left"`` or ``"right"``.

    Returns
    -------
    bool array, shape (voxel,)

    Raises
    ------
    UnknownNameError
        For a name that is neither an ROI nor a group; the message lists both.
    InputError
        Where the expression is empty, selects no voxel, or asks for a hemisphere that is not known.
    """
    parts = [expression] if isinstance(expression, str) else list(expression)
    if not parts or any(not isinstance(part, str) or not part.strip() for part in parts):
        raise InputError(
            "no ROI was named",
            given=repr(expression),
            expected=f"names such as {', '.join(list(rois)[:4])}",
            todo="name at least one ROI, or leave roi out to take all voxels",
        )
    masks = [_one(part.strip(), rois, groups or {}, hemisphere, ()) for part in parts]
    mask = np.logical_or.reduce(masks)
    if not mask.any():
        raise InputError(
            "this selection holds no voxel",
            given=f"roi={expression!r}",
            expected="an ROI with at least one voxel in this subject",
            todo="see store.rois(subject) for the number of voxels in each",
        )
    return mask


def _one(
    name: str,
    rois: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
    hemisphere: np.ndarray | None,
    inside: tuple[str, ...],
) -> np.ndarray:
    known = {*rois, *groups}
    atoms = _atoms(name, known)
    if atoms is None:
        parts = [part.strip() for part in name.split("+")]
        unknown = next((part for part in parts if not _is_atom(part, known)), name)
        listed = [*rois, *(f"{group} (group)" for group in groups)]
        raise UnknownNameError("ROI", unknown, listed, _advice(unknown, rois, groups))
    return np.logical_or.reduce([_atom(atom, rois, groups, hemisphere, inside) for atom in atoms])


def _atoms(text: str, known: set[str]) -> list[str] | None:
    """Split a union into names; None where that is impossible.

    Names come before operators, because published ROIs have "+" in theirs (NSD's "ecc4+").
    """
    text = text.strip()
    if _is_atom(text, known):
        return [text]
    for place in (number for number, letter in enumerate(text) if letter == "+"):
        head = text[:place].strip()
        if _is_atom(head, known):
            rest = _atoms(text[place + 1 :], known)
            if rest is not None:
                return [head, *rest]
    return None


def _is_atom(name: str, known: set[str]) -> bool:
    side, _, rest = name.partition(".")
    return name in known or (side in _HEMISPHERES and rest in known)


def _atom(
    name: str,
    rois: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
    hemisphere: np.ndarray | None,
    inside: tuple[str, ...],
) -> np.ndarray:
    if name in rois:
        return np.asarray(rois[name], dtype=bool)
    if name in groups:
        return _group(name, rois, groups, hemisphere, inside)
    side, _, rest = name.partition(".")
    return _atom(rest, rois, groups, hemisphere, inside) & _side(side, hemisphere)


def _advice(name: str, rois: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[str]]) -> str | None:
    same = [known for known in (*rois, *groups) if known.lower() == name.lower()]
    return f"did you mean {same[0]!r}? Names are case-sensitive" if same else None


def _group(
    name: str,
    rois: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
    hemisphere: np.ndarray | None,
    inside: tuple[str, ...],
) -> np.ndarray:
    if name in inside:
        raise InputError(
            "a group of ROIs contains itself",
            given=" -> ".join((*inside, name)),
            expected="groups of ROIs without a circle",
            todo="fix [roi_groups] in the recipe and build again",
        )
    members = [member for member in groups[name] if member in rois or member in groups]
    if not members:
        raise UnknownNameError(f"ROI in the group {name!r}", ", ".join(groups[name]), rois)
    masks = [_one(member, rois, groups, hemisphere, (*inside, name)) for member in members]
    return np.logical_or.reduce(masks)


def _side(side: str, hemisphere: np.ndarray | None) -> np.ndarray:
    if hemisphere is None:
        raise InputError(
            "this store does not know the hemispheres of its voxels",
            given=f"{side}.",
            expected="an ROI without lh. or rh.",
            todo="leave the hemisphere out",
        )
    return hemisphere == _HEMISPHERES[side]


def select_samples(
    samples: pd.DataFrame,
    split: str | None = None,
    task: str | None = None,
    time: slice | tuple[float, float] | None = None,
) -> np.ndarray:
    """Return the positions of the samples of a split, a task and a stretch of time, in stored order.

    Parameters
    ----------
    samples : DataFrame
        The sample table.
    split, task : str, optional
        All where left out.
    time : slice or (float, float), optional
        Start (included) and stop (excluded) in seconds from the onset of each run.
    """
    keep = np.ones(len(samples), dtype=bool)
    for column, value in (("split", split), ("task", task)):
        if value is not None:
            known = list(samples[column].unique())
            if value not in known:
                raise UnknownNameError(column, value, known)
            keep &= (samples[column] == value).to_numpy()
    if time is not None:
        start, stop = _limits(time)
        onset = samples["time"].to_numpy()
        keep &= (onset >= start) & (onset < stop)
    if not keep.any():
        raise InputError(
            "this selection holds no sample",
            given=f"split={split!r}, task={task!r}, time={time}",
            expected=f"times between {samples['time'].min():g} and {samples['time'].max():g} s of a run, "
            "in a split and task that occur together",
            todo="widen the selection",
        )
    return np.flatnonzero(keep)


def _limits(time: slice | tuple[float, float]) -> tuple[float, float]:
    start, stop = (time.start, time.stop) if isinstance(time, slice) else time
    if isinstance(time, slice) and time.step is not None:
        raise InputError(
            "time takes no step",
            given=str(time),
            expected="slice(start, stop) in seconds",
            todo="leave it out",
        )
    return (-np.inf if start is None else float(start)), (np.inf if stop is None else float(stop))


def delayed_positions(
    samples: pd.DataFrame, positions: np.ndarray, delays: Sequence[int], series: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each sample and delay, the position of the volume so many samples later in the same run.

    Parameters
    ----------
    samples : DataFrame
        The whole sample table, in stored order.
    positions : int array, shape (sample,)
        The samples that were selected.
    delays : sequence of int
        In volumes; 0 is the sample itself.
    series : mapping of str to float
        The tasks whose samples are a time series, and the seconds between their volumes.

    Returns
    -------
    kept : int array, shape (kept,)
        Those of `positions` whose run goes on long enough for all delays, without a gap (volumes of rest may have
        been left out).
    shifted : int array, shape (delay, kept)
        Positions of their delayed volumes.
    """
    steps = np.asarray(list(delays))
    if steps.dtype.kind not in "iu" or (steps < 0).any() or len(set(steps.tolist())) != len(steps):
        raise InputError(
            "these delays cannot be used",
            given=repr(delays),
            expected="different whole numbers of samples, 0 or more, e.g. (2, 3)",
            todo="give delays in samples (volumes), not in seconds",
        )
    wrong = sorted(set(samples["task"].iloc[positions]) - set(series))
    if wrong:
        raise InputError(
            "delays need a time series, and these samples are single-trial estimates",
            given=f"delays={tuple(delays)} for the task {', '.join(wrong)}",
            expected=f"one of the tasks recorded as time series: {', '.join(series) or '(none in this store)'}",
            todo="leave delays out, or select the task that is a time series",
        )
    run = samples.groupby(["task", "session", "run"], sort=False).ngroup().to_numpy()
    volume = volume_numbers(samples, run, samples["task"].map(dict(series)).to_numpy(dtype=float, na_value=np.nan))
    shifted = positions[None, :] + steps[:, None]
    inside = shifted < len(samples)
    there = np.minimum(shifted, len(samples) - 1)
    inside &= (run[there] == run[positions]) & (volume[there] - volume[positions] == steps[:, None])
    kept = inside.all(axis=0)
    return positions[kept], shifted[:, kept]


def volume_numbers(samples: pd.DataFrame, runs: np.ndarray, seconds: float | np.ndarray) -> np.ndarray:
    """Return how many volumes after the first sample of its run each sample was taken, from the times.

    Parameters
    ----------
    samples : DataFrame
        With the column ``time`` (s).
    runs : int array, shape (sample,)
        A number for each run.
    seconds : float or array, shape (sample,)
        Between volumes; NaN where samples are no time series, which are then counted.

    Returns
    -------
    int array, shape (sample,)
    """
    times = samples["time"].groupby(runs)
    counted = times.cumcount().to_numpy()
    with np.errstate(invalid="ignore"):
        measured = np.rint((samples["time"].to_numpy() - times.transform("min").to_numpy()) / seconds)
    return np.where(np.isfinite(measured), measured, counted).astype(int)


def average_by_stimulus(samples: pd.DataFrame) -> tuple[sparse.csr_array, pd.DataFrame]:
    """Return the matrix that averages the repeats of each stimulus, and the table of the averages.

    Parameters
    ----------
    samples : DataFrame
        The samples to average.

    Returns
    -------
    weights : sparse array, shape (average, sample), float32
        Rows sum to one; in the order in which the stimuli first appear, so a time series stays one.
    table : DataFrame
        The sample table of the averages: that of the first repeat, without what a data set adds to it (the behavior in
        one of the repeats), and ``repeats``, their number.
    """
    # Late: these take longer to import than `neurorecon info` takes to read a store.
    from scipy import sparse

    from neurorecon.datasets.base import SAMPLE_COLUMNS

    keys = samples.groupby(["task", "split", "stimulus"], sort=False).ngroup().to_numpy()
    count = np.bincount(keys)
    weights = sparse.csr_array(
        ((1.0 / count[keys]).astype(np.float32), (keys, np.arange(len(keys)))), shape=(len(count), len(keys))
    )
    _, first = np.unique(keys, return_index=True)
    table = samples[[name for name in samples if name in SAMPLE_COLUMNS]].iloc[first].reset_index(drop=True)
    table["repeats"] = count
    return weights, table


def contiguous(positions: np.ndarray) -> slice | np.ndarray:
    """Return a slice where positions are consecutive: reading one is many times quicker."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions) and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def reading_blocks(
    chunks: tuple[int, int], rows: slice | np.ndarray, columns: slice | np.ndarray, limit: int = 2**26
) -> tuple[int, int]:
    """Return the size of the blocks in which a part of a large array is best read: whole chunks, as many as fit.

    Each block costs some 5 ms beside its bytes, so blocks of one chunk are slow: tall blocks serve an ROI over all
    trials, wide ones all voxels of a session.

    Parameters
    ----------
    chunks : tuple of int
        Of the array, (row, column).
    rows, columns : slice or int array
        What is read of it.
    limit : int
        Values in a block, as far as they are selected: 64 MB of float32.

    Returns
    -------
    tuple of int
        Multiples of `chunks`.
    """
    wide = min(_span(columns), chunks[1])
    high = max(1, min(limit // (wide * chunks[0]), -(-_span(rows) // chunks[0])))
    wider = max(1, limit // (high * chunks[0] * wide))
    return high * chunks[0], wider * chunks[1]


def _span(part: slice | np.ndarray) -> int:
    """Return how many places lie between the first and the last that are read."""
    if isinstance(part, slice):
        return max(1, part.stop - part.start)
    return int(np.ptp(part)) + 1 if len(part) else 1
