"""Read responses: of which tasks, which volumes, averaged over repeats, centered and scaled by session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.store import selection

if TYPE_CHECKING:
    import pandas as pd
    import xarray
    from scipy import sparse

    from neurorecon.store.store import Store

#: What responses can be centered and scaled within.
WITHIN = ("session", "run")


def checked_tasks(store: Store, subject: str, task: str | Sequence[str] | None) -> list[str]:
    """Return the tasks to read: the default one, the one that is named, or several that can be joined.

    Raises
    ------
    UnknownNameError
        If a task does not exist.
    InputError
        If no task is named, or those that are named hold samples of different kinds.
    """
    if task is None:
        return [store.default_task(subject)]
    names, known = [task] if isinstance(task, str) else list(dict.fromkeys(task)), store.tasks(subject)
    for name in names:
        if name not in known:
            raise UnknownNameError("task", name, known)
    if not names:
        raise InputError(
            "no task is named",
            given=f"task={task!r}",
            expected=f"at least one of: {', '.join(known)}",
            todo="leave task out for the default",
        )
    selection.check_joinable(names, store.series(subject))
    return names


def refuse_volumes(store: Store, subject: str, tasks: Sequence[str]) -> None:
    """Refuse to pair volumes at an unknown interval with stimuli: it is not known when their responses come."""
    samples, series = store.samples(subject), store.series(subject)
    for task in tasks:
        if task not in series and selection.looks_like_volumes(samples[samples["task"] == task]):
            raise InputError(
                "these samples look like the volumes of a time series, at an unknown interval",
                given=f"task {task!r}: most samples show the same stimulus as the one before, at even intervals",
                expected="the repetition time, as responses come 4 to 6 s after their stimulus",
                todo="build the store again with repetition_time (s) in [options]; if the samples are trial "
                "estimates, say so with delays=()",
            )


@dataclass(frozen=True)
class Centering:
    """Within what responses are centered and scaled, and why.

    Parameters
    ----------
    center, scale : {"session", "run"} or None
        As :meth:`Store.responses` takes them.
    reason : str
        Why, in words.
    warnings : tuple of str
        What centering removes that is asked for, or leaves in.
    """

    center: Literal["session", "run"] | None
    scale: Literal["session", "run"] | None
    reason: str
    warnings: tuple[str, ...] = ()


def choose_centering(
    store: Store,
    subject: str,
    task: str | Sequence[str],
    center: str | None = "auto",
    scale: str | None = "auto",
    *,
    categories: Iterable[str] | None = None,
) -> Centering:
    """Choose whether responses are centered and scaled by session: by default where sessions are confounded.

    Means and deviations are those of all samples of a session, the held-out ones included. Their labels are not used.
    In a session of one category, though, the mean holds the category, and centering removes it.

    Parameters
    ----------
    store : Store
    subject : str
    task : str or sequence of str
        Whose samples are read together.
    center, scale : {"auto", "session", "run"}, optional
        What the user asks for. ``"auto"``: by session, where sessions are confounded with stimuli, splits or categories
        (:func:`neurorecon.store.selection.confounded_sessions`). None: not at all.
    categories : iterable of str, optional
        Judge by the samples of these categories alone.

    Returns
    -------
    Centering
        With the names that :meth:`Store.responses` takes, the reason, and warnings.
    """
    samples = store._categorized(subject)
    samples = samples[samples["task"].isin([task] if isinstance(task, str) else list(task))]
    judged = samples if categories is None else samples[samples["category"].isin(list(categories))]
    parts = (selection.confounded_sessions(part) for _, part in judged.groupby("task", sort=False))
    confounded = "; ".join(dict.fromkeys(part for part in parts if part is not None))
    alone = int((samples.groupby(["task", "session"]).size() < 2).sum())
    chosen = "session" if confounded and not alone else None
    found: list[Any] = [chosen if name == "auto" else name for name in (center, scale)]
    said, asked = [], "auto" not in (center, scale)
    reason = f"sessions are confounded: {confounded}" if confounded else "sessions are not confounded"
    if confounded and alone and not asked:
        said.append(f"sessions are confounded ({confounded}), but {alone} of them hold one sample, so that responses "
                    "cannot be centered within sessions")  # fmt: skip
    elif confounded and found[0] is None:
        said.append(f"sessions are confounded ({confounded}), and responses are not centered: what differs between "
                    "sessions can pass for what differs between stimuli")  # fmt: skip
    if found[0] is not None and samples["category"].nunique() > 1:
        keys = ["task", "session", "run"][: 3 if found[0] == "run" else 2]
        shown = samples.groupby(keys)["category"].agg(["nunique", "first"])
        single = int(((shown["nunique"] == 1) & (shown["first"] != "")).sum())
        if single:
            said.append(f"{single} of {len(shown)} {found[0]}s show one category only: centering within them removes "
                        "what is specific to that category")  # fmt: skip
    return Centering(found[0], found[1], f"asked for; {reason}" if asked else reason, tuple(said))


def read_responses(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    split: str | None,
    tasks: Sequence[str],
    time: slice | tuple[float, float] | None,
    average: str | None,
    delays: Sequence[int] | None,
    center: str | None,
    scale: str | None,
    *,
    window: bool,
    order: Literal["store", "volume"] = "store",
) -> xarray.DataArray:
    """Do what :meth:`Store.responses` does.

    Parameters
    ----------
    tasks : sequence of str
        From :func:`checked_tasks`.
    window : bool
        Whether a row is the response to a stimulus, rather than a volume, if `delays` do not say otherwise.
    """
    for name in (center, scale):
        if name is not None and name not in WITHIN:
            raise UnknownNameError("column to center or scale within", name, WITHIN)
    samples, where = store.samples(subject), store._voxel_positions(subject, roi, order)
    positions = selection.select_samples(samples, split, tasks, time)
    seconds = store.series(subject).get(tasks[0])
    window = window and delays is None and seconds is not None
    steps: Sequence[int] = (selection.peak_volumes(seconds) if window and seconds else delays) or ()
    if steps:
        positions, shifted = selection.delayed_positions(samples, positions, steps, store.series(subject))
    else:
        shifted = positions[None]
    table = samples.iloc[positions].reset_index(drop=True)
    weights = None
    if average is not None:
        if average != "stimulus":
            raise UnknownNameError("way to average", average, ["stimulus"])
        weights, table = selection.average_by_stimulus(table)
    everything = None
    if center is not None or scale is not None:
        whole = samples[samples["task"].isin(tasks)]
        everything = (whole.index.to_numpy(), _groups(whole, center), _groups(whole, scale))
    blocks = [_block(store, subject, rows, where, weights, everything) for rows in shifted]
    if window:
        blocks = [sum(blocks[1:], blocks[0]) / np.float32(len(blocks))]
    found = _labeled(store, subject, blocks, [] if window else list(steps), table, where, tasks)
    found.attrs |= {
        "subject": subject,
        "units": store.description["units"],
        "store": store.name,
        "task": ", ".join(tasks),
        "samples": "trial estimates" if seconds is None else f"volumes, one every {seconds:g} s",
        "delays": [int(step) for step in steps],
        "centered": center or "no",
        "scaled": scale or "no",
    }
    if window and seconds:
        first, last = steps[0] * seconds, steps[-1] * seconds
        found.attrs["window"] = f"mean of the volumes {first:g} to {last:g} s after each sample"
    return found


def _groups(samples: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """Return the session or run of each sample, int of shape (sample,), counted within tasks."""
    if column is None:
        return None
    keys = ["task", "session", "run"] if column == "run" else ["task", "session"]
    codes = samples.groupby(keys, sort=False).ngroup().to_numpy()
    if (np.bincount(codes) < 2).any():
        raise InputError(
            f"responses cannot be centered or scaled within a {column} of one sample",
            given=f"{int((np.bincount(codes) == 1).sum())} such {column}s, task {', '.join(samples['task'].unique())}",
            expected=f"two samples or more in each {column}",
            todo="center within sessions, or leave center and scale out",
        )
    return codes


def standardize(responses: np.ndarray, center: np.ndarray | None, scale: np.ndarray | None) -> np.ndarray:
    """Center and scale samples within groups.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
    center, scale : int array, shape (sample,), optional
        Groups within which the mean is subtracted, and whose standard deviation divides. Voxels that are constant
        within a group are not scaled there.

    Returns
    -------
    array, shape (sample, voxel), float32
    """
    values = responses.astype(np.float32)
    if scale is not None:
        middle = _means(values, scale)[scale]
        values -= middle
        deviation = np.sqrt(_means(np.square(values), scale))
        values /= np.where(deviation > 1e-6 * np.abs(middle).max(initial=1e-30), deviation, 1).astype(np.float32)[scale]
        values += middle
    if center is not None:
        values -= _means(values, center)[center]
    return values


def _means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the mean of each group, float32 of shape (group, voxel)."""
    return np.stack(
        [values[groups == group].mean(axis=0, dtype=np.float64) for group in range(groups.max() + 1)]
    ).astype(np.float32)


def _block(
    store: Store,
    subject: str,
    rows: np.ndarray,
    where: np.ndarray,
    weights: sparse.csr_array | None,
    everything: tuple[np.ndarray, np.ndarray | None, np.ndarray | None] | None,
) -> Any:
    """Return rows of the stored responses, standardized among `everything` (rows, groups) and averaged by `weights`."""
    path = f"{subject}/responses"
    array = store._node(path)
    wanted = rows if everything is None else everything[0]
    part, columns = selection.contiguous(wanted), selection.contiguous(where)
    blocks = selection.reading_blocks(array.chunks, part, columns)
    if weights is not None or everything is not None:
        blocks = (blocks[0], array.chunks[1])
    lazy = store._lazy(path, blocks)
    # Slices limit what is read from disk, while index arrays are applied afterwards, so apply slices first.
    values = lazy[part][:, columns] if isinstance(part, slice) else lazy[:, columns][part]
    if weights is None and everything is None:
        return values

    def compute(block: np.ndarray) -> np.ndarray:
        if everything is not None:
            block = standardize(block, *everything[1:])[np.searchsorted(wanted, rows)]
        return block if weights is None else (weights @ block).astype(np.float32)

    # A block now holds all samples of up to 1,024 voxels: 120 MB for 30,000 trials.
    # Named, because to choose a method dask imports distributed, which takes longer than many a command.
    whole = values.rechunk({0: -1}, method="tasks")
    length = len(rows) if weights is None else weights.shape[0]
    return whole.map_blocks(compute, dtype=np.float32, chunks=((length,), whole.chunks[1]))


def _labeled(
    store: Store,
    subject: str,
    blocks: list[Any],
    steps: Sequence[int],
    table: pd.DataFrame,
    where: np.ndarray,
    tasks: Sequence[str],
) -> xarray.DataArray:
    """Return blocks side by side, with the tables of samples and voxels as coordinates."""
    import dask.array
    import xarray

    voxels = store.voxels(subject).iloc[where]
    coordinates: dict[str, Any] = {name: ("sample", _plain(table[name])) for name in table}
    copies = len(blocks)
    coordinates["voxel"] = ("voxel", np.tile(where, copies))
    for name in voxels:
        coordinates[name] = ("voxel", np.tile(_plain(voxels[name]), copies))
    if steps:
        coordinates["delay"] = ("voxel", np.repeat(np.asarray(steps), len(where)))
    if len(tasks) == 1:
        for name, values in (
            ("noise_ceiling", store.noise_ceiling(subject, None, tasks[0])),
            ("ncsnr", store.ncsnr(subject, None, tasks[0])),
        ):
            if values is not None:
                coordinates[name] = ("voxel", np.tile(values[where], copies))
    data = blocks[0] if copies == 1 else dask.array.concatenate(blocks, axis=1)
    return xarray.DataArray(data, dims=("sample", "voxel"), coords=coordinates, name="responses")


def _plain(column: pd.Series) -> np.ndarray:
    """Return a column as numbers or fixed-width text, which xarray supports as coordinates."""
    return column.to_numpy() if column.dtype.kind in "biuf" else column.to_numpy().astype(str)
