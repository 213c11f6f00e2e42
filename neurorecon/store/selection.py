"""Select voxels and samples by ROI, task, split, time and delay.

These are pure functions on tables and masks; none of them accesses a store.
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

#: In a time series, the response to a stimulus is the mean of the volumes within these seconds after its onset.
PEAK = (4.0, 6.0)


def roi_mask(
    expression: str | Iterable[str],
    rois: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]] | None = None,
    hemisphere: np.ndarray | None = None,
) -> np.ndarray:
    """Return a mask of the voxels that an expression selects.

    Parameters
    ----------
    expression : str or iterable of str
        ROI (``"V1"``), group of ROIs (``"early"``), union (``"V1+V2"``), one hemisphere of an ROI or group
        (``"lh.MT"``), or a list of these, which selects their union.
    rois : mapping of str to bool array, shape (voxel,)
        Mask of each ROI.
    groups : mapping of str to sequence of str, optional
        Groups of ROIs. Members can be groups, too. Members that this subject lacks are ignored.
    hemisphere : array of str, shape (voxel,), optional
        Hemisphere of each voxel, ``"left"`` or ``"right"``.

    Returns
    -------
    bool array, shape (voxel,)

    Raises
    ------
    UnknownNameError
        If a name is neither an ROI nor a group; the message lists both.
    InputError
        If the expression is empty, selects no voxels, or selects a hemisphere although hemispheres are unknown.
    """
    parts = [expression] if isinstance(expression, str) else list(expression)
    if not parts or any(not isinstance(part, str) or not part.strip() for part in parts):
        raise InputError(
            "no ROI is given",
            given=repr(expression),
            expected=f"names such as {', '.join(list(rois)[:4])}",
            todo="name at least one ROI, or omit roi to select all voxels",
        )
    masks = [_one(part.strip(), rois, groups or {}, hemisphere, ()) for part in parts]
    mask = np.logical_or.reduce(masks)
    if not mask.any():
        raise InputError(
            "this selection contains no voxels",
            given=f"roi={expression!r}",
            expected="an ROI with at least one voxel in this subject",
            todo="see store.rois(subject) for the number of voxels in each ROI",
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
    """Split a union into names, or return None if that is impossible.

    Names take precedence over operators, because some published names of ROIs contain "+" (NSD's "ecc4+").
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
            expected="groups of ROIs without cycles",
            todo="fix [roi_groups] in the recipe and rebuild the store",
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
            given=f"the prefix {side}.",
            expected="an ROI without lh. or rh.",
            todo="omit the hemisphere",
        )
    return hemisphere == _HEMISPHERES[side]


def peak_volumes(seconds: float) -> tuple[int, ...]:
    """Return the delays, in volumes, around the peak of the hemodynamic response (:data:`PEAK`).

    Parameters
    ----------
    seconds : float
        Repetition time.
    """
    first, last = (round(limit / seconds) for limit in PEAK)
    return tuple(range(first, max(first, last) + 1))


def rank_tasks(
    samples: pd.DataFrame, kinds: Mapping[str, str], having: Sequence[set[str]] = ()
) -> list[tuple[str, bool]]:
    """Return the tasks, best first, and whether every stimulus of a task has all targets.

    Complete tasks come before others. Of these, tasks that show images only come before those with videos. Then those
    with more training stimuli that have the targets come first, then those with more stimuli that have them; equal ones
    keep the stored order.

    Parameters
    ----------
    samples : DataFrame
        Sample table of a subject.
    kinds : mapping of str to str
        Kind of each stimulus, ``"image"`` or ``"video"``.
    having : sequence of set of str
        Stimuli that have each target.
    """
    ranked = []
    for task, part in samples.groupby("task", sort=False):
        used = part[part["split"] != ""]
        shown = (used if len(used) else part).drop_duplicates("stimulus")
        ids = shown["stimulus"].tolist()
        usable = [all(name in have for have in having) for name in ids]
        training = int(((shown["split"] == "train").to_numpy() & np.array(usable)).sum())
        whole = all(usable)
        key = (whole and len(used) > 0, whole and all(kinds[name] == "image" for name in ids), training, sum(usable))
        ranked.append((key, str(task)))
    return [(task, key[0]) for key, task in sorted(ranked, key=lambda item: item[0], reverse=True)]


def check_joinable(tasks: Sequence[str], series: Mapping[str, float]) -> None:
    """Refuse to join samples that are not of the same kind.

    Parameters
    ----------
    tasks : sequence of str
        Tasks to join.
    series : mapping of str to float
        Repetition time (s) of each task that is a time series.

    Raises
    ------
    InputError
        If some are time series and others are trial estimates, or their repetition times differ.
    """
    what = {task: f"volumes every {series[task]:g} s" if task in series else "trial estimates" for task in tasks}
    if len(set(what.values())) > 1:
        raise InputError(
            "these tasks cannot be joined: their samples are of different kinds, in different units",
            given="; ".join(f"{task}: {kind}" for task, kind in what.items()),
            expected="tasks whose samples are all trial estimates, or all volumes at the same interval",
            todo="read them one by one, e.g. task=" + repr(tasks[0]),
        )


def looks_like_volumes(samples: pd.DataFrame) -> bool:
    """Return whether samples without a repetition time look like the volumes of a time series.

    They do if in most cases a sample shows the same stimulus as the one before it, at even intervals.

    Parameters
    ----------
    samples : DataFrame
        Sample table of one task.
    """
    runs = samples.groupby(["session", "run"], sort=False)
    again = samples["stimulus"].to_numpy() == runs["stimulus"].shift(1).to_numpy()
    steps = runs["time"].diff().dropna().to_numpy()
    even = len(steps) > 0 and np.allclose(steps, steps[0], rtol=1e-3)
    return bool(even and len(samples) >= 8 and again.mean() > 0.5)


#: Sessions are confounded if at most this share of the stimuli occurs in more than one of them.
SHARE_IN_SEVERAL_SESSIONS = 0.05

#: Sessions are confounded with splits or categories if they differ by more than this share of what is possible.
SHARE_APART = 0.5


def confounded_sessions(samples: pd.DataFrame) -> str | None:
    """Return how sessions are confounded with stimuli or splits; None if they are not.

    Responses of different sessions differ for many reasons: the position of the head, the state of the subject, the
    scaling of a preprocessing step. If sessions show different stimuli, a model of the stimuli can predict these
    differences; if the test samples come from sessions of their own, they spoil its predictions; if sessions show
    different categories, whoever tells sessions apart tells categories apart.

    Parameters
    ----------
    samples : DataFrame
        Sample table of one task, with a column ``category`` (``""`` where unknown) if categories are to be compared.

    Returns
    -------
    str or None
        What is confounded, in words. Stimuli: nearly none (:data:`SHARE_IN_SEVERAL_SESSIONS`) occurs in several
        sessions. Splits: most test samples would have to change their session for both splits to be spread alike.
        Categories: more than half as many samples would have to change their category for all sessions to show the same
        ones as if each session showed one only. Splits and categories also differ more than in any of 200 random
        assignments.
    """
    samples = samples[samples["split"] != ""]  # neither trained on nor tested
    sessions, codes = np.unique(samples["session"].to_numpy(), return_inverse=True)
    if len(sessions) < 2:
        return None
    found = []
    spread = samples.groupby("stimulus")["session"].nunique()
    if (spread > 1).mean() <= SHARE_IN_SEVERAL_SESSIONS:
        found.append(f"{int((spread == 1).sum()):,} of {len(spread):,} stimuli were shown in one session only")
    test = (samples["split"] == "test").to_numpy()
    if test.any() and not test.all():
        counts = np.bincount(codes)
        own = np.bincount(codes[test], minlength=len(counts))
        random = np.random.default_rng(0).multivariate_hypergeometric(counts, int(test.sum()), size=200)
        apart = _distance(own, counts)
        if apart > SHARE_APART and (apart > _distance(random, counts)).all():
            names = ", ".join(map(str, sessions[own > 0][:5].tolist())) + (", ..." if (own > 0).sum() > 5 else "")
            found.append(f"test and training samples come from different sessions for the most part (test: {names})")
    if "category" in samples and (known := (samples["category"] != "").to_numpy()).any():
        places, categories = np.unique(samples["category"].to_numpy(str)[known], return_inverse=True)
        codes, shuffle = codes[known], np.random.default_rng(0).permutation
        specific = _specificity(codes, categories)
        # Every shuffle takes as long as the rest of this function: they are for sessions that differ.
        if specific > SHARE_APART and all(specific > _specificity(codes, shuffle(categories)) for _ in range(200)):
            shown = samples[known].groupby("session")["category"].nunique()
            single = int((shown == 1).sum())
            said = f"{len(places)}; {single} of {len(shown)} sessions show one only"
            found.append(f"sessions show different categories ({said})")
    return "; ".join(found) or None


def _specificity(sessions: np.ndarray, categories: np.ndarray) -> float:
    """Return how far sessions differ in the categories of their samples, from 0 to 1; both int of shape (sample,).

    The share of samples that would have to change their category for all sessions to be alike, over what that share is
    if each session shows one category only.
    """
    shape = (sessions.max() + 1, categories.max() + 1)
    counts = np.bincount(sessions * shape[1] + categories, minlength=shape[0] * shape[1]).reshape(shape)
    overall = counts.sum(axis=0) / len(sessions)
    apart = np.abs(counts - counts.sum(axis=1, keepdims=True) * overall).sum() / 2 / len(sessions)
    return float(apart / max(1 - np.square(overall).sum(), np.finfo(float).tiny))


def _distance(test: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the total variation between the sessions of test samples, (..., session), and of the other samples."""
    rest = counts - test
    shares = (part / part.sum(axis=-1, keepdims=True) for part in (test, rest))
    return np.asarray(np.abs(next(shares) - next(shares)).sum(axis=-1) / 2)


def select_samples(
    samples: pd.DataFrame,
    split: str | None = None,
    task: str | Sequence[str] | None = None,
    time: slice | tuple[float, float] | None = None,
) -> np.ndarray:
    """Return the indices of the samples of a split, of tasks and of a time interval, in stored order.

    Parameters
    ----------
    samples : DataFrame
        Sample table.
    split : str, optional
        Split. All splits by default; samples that a split column leaves out are in none.
    task : str or sequence of str, optional
        Task, or several. All tasks by default.
    time : slice or (float, float), optional
        Start (included) and stop (excluded) in seconds from the start of each run.

    Returns
    -------
    int array, shape (selected sample,)

    Raises
    ------
    UnknownNameError
        If the split or task does not exist.
    InputError
        If no sample is selected.
    """
    keep = (
        np.ones(len(samples), dtype=bool) if split is not None else (samples["split"] != "").to_numpy(bool, copy=True)
    )
    tasks = [task] if isinstance(task, str) else task
    for column, values in (("split", None if split is None else [split]), ("task", tasks)):
        if values is not None:
            known = [name for name in samples[column].unique() if name]
            for value in values:
                if value not in known:
                    raise UnknownNameError(column, value, known)
            keep &= samples[column].isin(list(values)).to_numpy()
    if time is not None:
        start, stop = _limits(time)
        onset = samples["time"].to_numpy()
        keep &= (onset >= start) & (onset < stop)
    if not keep.any():
        splits = [f"{name}: {', '.join(part['split'].unique())}" for name, part in samples.groupby("task", sort=False)]
        raise InputError(
            "this selection contains no samples",
            given=f"split={split!r}, task={task!r}, time={time}",
            expected=f"times between {samples['time'].min():g} and {samples['time'].max():g} s of a run, "
            f"and a split that the task has ({'; '.join(splits)})",
            todo="widen the selection, or choose another task",
        )
    return np.flatnonzero(keep)


def _limits(time: slice | tuple[float, float]) -> tuple[float, float]:
    start, stop = (time.start, time.stop) if isinstance(time, slice) else time
    if isinstance(time, slice) and time.step is not None:
        raise InputError(
            "time slices cannot have a step",
            given=str(time),
            expected="slice(start, stop) in seconds",
            todo="omit the step",
        )
    return (-np.inf if start is None else float(start)), (np.inf if stop is None else float(stop))


def delayed_positions(
    samples: pd.DataFrame, positions: np.ndarray, delays: Sequence[int], series: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each sample and delay, the index of the volume that many samples later in the same run.

    Parameters
    ----------
    samples : DataFrame
        Full sample table, in stored order.
    positions : int array, shape (sample,)
        Indices of the selected samples.
    delays : sequence of int
        Delays in volumes; 0 is the sample itself.
    series : mapping of str to float
        Repetition time (s) of each task that is a time series.

    Returns
    -------
    kept : int array, shape (kept,)
        The indices in `positions` for which the run contains all delayed volumes (rest volumes may be missing).
    shifted : int array, shape (delay, kept)
        Indices of the delayed volumes.

    Raises
    ------
    InputError
        If delays are not unique non-negative integers, or a task is not a time series.
    """
    steps = np.asarray(list(delays))
    if steps.dtype.kind not in "iu" or (steps < 0).any() or len(set(steps.tolist())) != len(steps):
        raise InputError(
            "these delays cannot be used",
            given=repr(delays),
            expected="unique whole numbers, 0 or more, e.g. (2, 3)",
            todo="give delays in samples (volumes), not in seconds",
        )
    wrong = sorted(set(samples["task"].iloc[positions]) - set(series))
    if wrong:
        raise InputError(
            "delays need a time series, and these samples are single-trial estimates",
            given=f"delays={tuple(delays)} for the task {', '.join(wrong)}",
            expected=f"a task that is a time series: {', '.join(series) or '(none in this store)'}",
            todo="omit delays, or select a task that is a time series",
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
    """Return the number of each sample's volume within its run, relative to the first sample, from its time.

    Parameters
    ----------
    samples : DataFrame
        Table with a column ``time`` (s).
    runs : int array, shape (sample,)
        Index of the run of each sample.
    seconds : float or array, shape (sample,)
        Repetition time. If it is NaN (not a time series), samples are counted instead.

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
        Table of the samples to average.

    Returns
    -------
    weights : sparse array, shape (average, sample), float32
        Averaging matrix. Rows are in the order in which stimuli first appear, which keeps time series in order.
    table : DataFrame
        Sample table of the averages: the standard columns of the first repeat of each stimulus, and their number,
        ``repeats``. Columns specific to the data set, such as behavior, are dropped.
    """
    # Imported here because `neurorecon info` must start quickly.
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
    """Return a slice if positions are consecutive, as reading a slice is many times faster."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions) and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def reading_blocks(
    chunks: tuple[int, int], rows: slice | np.ndarray, columns: slice | np.ndarray, limit: int = 2**26
) -> tuple[int, int]:
    """Return the best block size for reading part of a large array: as many whole chunks as fit.

    Each block takes about 5 ms in addition to its transfer, so single chunks are slow. Tall blocks suit an ROI over all
    trials, and wide blocks suit all voxels of a session.

    Parameters
    ----------
    chunks : tuple of int
        Chunk size of the array, (row, column).
    rows, columns : slice or int array
        Selected rows and columns.
    limit : int
        Maximum number of selected values in a block; by default 256 MB of float32.

    Returns
    -------
    tuple of int
        Block size, (row, column), a multiple of `chunks`.
    """
    wide = min(_span(columns), chunks[1])
    high = max(1, min(limit // (wide * chunks[0]), -(-_span(rows) // chunks[0])))
    wider = max(1, limit // (high * chunks[0] * wide))
    return high * chunks[0], wider * chunks[1]


def _span(part: slice | np.ndarray) -> int:
    """Return the length of the range from the first to the last selected index."""
    if isinstance(part, slice):
        return max(1, part.stop - part.start)
    return int(np.ptp(part)) + 1 if len(part) else 1
