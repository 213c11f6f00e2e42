"""From a store to X and y: choose the task and the samples, and read responses and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tensors import block_digest
from neurorecon.stats import stimulus_permutations
from neurorecon.store import selection
from neurorecon.store.responses import choose_centering
from neurorecon.store.selection import volume_numbers
from neurorecon.store.store import Store

#: What responses can be centered and scaled within.
Within = Literal["session", "run"]

#: In time series, the hemodynamic response is modeled within these seconds after stimulus onset.
RESPONSE_WINDOW = (2.0, 8.0)

#: Names of the dimensions of a target that has none.
_DIMS = {1: ("feature",), 3: ("y", "x", "rgb"), 4: ("frame", "y", "x", "rgb")}

#: Targets with at most this many values are read into memory once; larger ones are streamed.
LOADED_VALUES = 2**27


@dataclass(frozen=True)
class SampleTable:
    """The samples of one split, averaged over repeats if the design allows it.

    Parameters
    ----------
    responses : array, shape (sample, voxel), float32
        Measured responses.
    table : DataFrame
        The sample table.
    runs : int array, shape (sample,)
        A number for each run.
    stimuli : list of str
        Unique stimuli, in order of first appearance.
    shown : int array, shape (sample,)
        Which of `stimuli` each sample shows.
    volumes : int array, shape (sample,), optional
        Number of each sample's volume in its run, if volumes (of rest) were left out; by default volumes are
        consecutive.
    sessions : int array, shape (sample,), optional
        A number for each session (of the first repeat, where repeats are averaged).
    times : array, shape (sample,), optional
        Seconds from the onset of the run; NaN where they are not known. Samples may be in any order.
    """

    responses: np.ndarray
    table: pd.DataFrame
    runs: np.ndarray
    stimuli: list[str]
    shown: np.ndarray
    volumes: np.ndarray | None = None
    sessions: np.ndarray | None = None
    times: np.ndarray | None = None

    @classmethod
    def of(cls, store: Store, subject: str, task: str, responses: Any, voxels: slice | None = None) -> SampleTable:
        """Read responses into memory, with what was shown when.

        Parameters
        ----------
        store : Store
        subject, task : str
            Whose responses, to which task.
        responses : DataArray, dims (sample, voxel)
            From :meth:`Store.responses`.
        voxels : slice, optional
            Which voxels to read; by default all.
        """
        names = ("stimulus", "task", "session", "run", "repeat", "split", "time")
        table = pd.DataFrame({name: responses[name].values for name in names})
        runs = table.groupby(["session", "run"], sort=False).ngroup().to_numpy()
        shown, stimuli = pd.factorize(table["stimulus"])
        seconds = store.series(subject).get(task)
        volumes = None if seconds is None else volume_numbers(table, runs, seconds)
        chosen = responses if voxels is None else responses[:, voxels]
        values = chosen.values if chosen.shape[1] else np.empty(chosen.shape, dtype=np.float32)
        sessions = pd.factorize(table["session"])[0]
        return cls(
            values,
            table,
            runs,
            [str(name) for name in stimuli],
            shown,
            volumes,
            sessions,
            table["time"].to_numpy(float),
        )

    def at_delays(self, delays: Sequence[int]) -> np.ndarray:
        """Return which stimulus was shown at each delay before a sample, in the same run; -1 for none, as in rest.

        Parameters
        ----------
        delays : sequence of int
            In volumes.

        Returns
        -------
        int array, shape (delay, sample)
        """
        volumes = np.arange(len(self.shown)) if self.volumes is None else self.volumes
        at = pd.Series(self.shown, index=pd.MultiIndex.from_arrays([self.runs, volumes]))
        if not at.index.is_unique:
            raise InputError(
                "two samples of one run have the same time",
                given=f"a time series of {len(at)} samples at {at.index.nunique()} times",
                expected="one sample for each volume",
                todo="fix the times of the samples, or build the store again as single trials",
            )
        ago = [pd.MultiIndex.from_arrays([self.runs, volumes - delay]) for delay in delays]
        return np.stack([at.reindex(keys, fill_value=-1).to_numpy() for keys in ago])


def choose_task(store: Store, subject: str, bands: Iterable[str], task: str | None) -> str:
    """Return the task to analyze: by default :meth:`Store.default_task`, which needs every stimulus to have all bands.

    (Images have no motion, so a motion band selects the videos.)
    """
    bands = list(bands)
    ranked = store.rank_tasks(subject, bands)
    complete = [name for name, whole in ranked if whole]
    if task is not None:
        if task not in complete:
            raise InputError(
                f"the task {task!r} cannot be analyzed with these bands",
                given=f"task {task!r}, bands {', '.join(bands)}",
                expected=f"one of: {', '.join(complete) or '(no task has all these bands)'}",
                todo="choose another task, or bands that its stimuli have",
            )
        return task
    if not complete:
        raise InputError(
            "no task shows stimuli that have all these bands",
            given=f"bands {', '.join(bands)}; tasks {', '.join(store.tasks(subject))}",
            expected="bands that are all defined for one task",
            todo="leave out the missing bands, or compute them: neurorecon features",
        )
    return complete[0]


def choose_delays(store: Store, subject: str, task: str, delays: Sequence[int] | None) -> tuple[int, ...]:
    """Return the delays of the features in samples; by default 2 to 8 s for a time series, and 0 for trials."""
    seconds = store.series(subject).get(task)
    if delays is not None and tuple(delays) != (0,) and seconds is None:
        raise InputError(
            "delays need a time series, and these samples are single-trial estimates",
            given=f"delays {tuple(delays)} for the task {task!r}",
            expected="no delays",
            todo="leave delays out",
        )
    if delays is not None:
        if not len(delays) or min(delays) < 0:
            raise InputError(
                "these delays cannot be used",
                given=f"delays {tuple(delays)}",
                expected="at least one number of samples, 0 or more: responses follow their stimulus",
                todo="leave delays out, for the default of 2 to 8 s",
            )
        return tuple(delays)
    if seconds is None:
        return (0,)
    first, last = (round(limit / seconds) for limit in RESPONSE_WINDOW)
    return tuple(range(max(first, 1), max(last, first, 1) + 1))


def load_samples(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    split: str,
    task: str,
    voxels: slice | None = None,
) -> SampleTable:
    """Read the responses of one split into memory, with repeats averaged; by default those of all selected voxels.

    Repeats of a time series are averaged only if every repeat shows the stimuli in the same order, because the
    responses to neighboring stimuli overlap.
    """
    table = store.samples(subject)
    part = table[(table["split"] == split) & (table["task"] == task)]
    average: Any = "stimulus" if task not in store.series(subject) or same_order(part) else None
    responses = store.responses(subject, roi, split, task=task, average=average, delays=())
    return SampleTable.of(store, subject, task, responses, voxels)


def same_order(samples: pd.DataFrame) -> bool:
    """Return whether each stimulus always follows the same stimulus within its run."""
    before = samples.groupby(["session", "run"], sort=False)["stimulus"].shift(1).fillna("")
    return bool((before.groupby(samples["stimulus"], sort=False).nunique() == 1).all())


def peak_delays(store: Store, subject: str, task: str) -> tuple[int, ...]:
    """Return the volumes around the peak of the hemodynamic response; none for trial estimates."""
    seconds = store.series(subject).get(task)
    return () if seconds is None else selection.peak_volumes(seconds)


def decoding_samples(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    split: str,
    task: str,
    *,
    center: Within | None = None,
    scale: Within | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return responses to each stimulus, (stimulus, voxel), averaged over volumes around the peak, and their table.

    `center` and `scale` are those of :meth:`Store.responses`.
    """
    table = store.samples(subject)
    part = table[(table["split"] == split) & (table["task"] == task)]
    delays = peak_delays(store, subject, task)
    average: Any = "stimulus" if not delays or same_order(part) else None
    found = store.responses(subject, roi, split, task=task, average=average, delays=delays, center=center, scale=scale)
    values = found.values.reshape(found.sizes["sample"], max(1, len(delays)), -1).mean(axis=1)
    return values, pd.DataFrame({name: found[name].values for name in ("stimulus", "session", "run", "time")})


@dataclass(frozen=True)
class Recordings:
    """Samples of one subject in memory: their responses, their stimuli, and the targets of these stimuli.

    Volumes of a time series are averaged around the peak of the hemodynamic response, so a row is a response to one
    stimulus.

    Parameters
    ----------
    store : Store or None
        Where they come from; None if they were given as arrays.
    subject, task : str
        Whose samples, of which task.
    roi : str, tuple of str or None
        The voxels that were selected.
    responses : array, shape (sample, voxel), float32
    table : DataFrame
        One row per sample: ``stimulus``, ``session`` and ``run`` (of the first repeat, if repeats are averaged).
    voxels : int array, shape (voxel,)
        Rows of the subject's table of voxels.
    center, scale : {"session", "run"}, optional
        What responses were centered and scaled within when they were read.
    repaired : {"no", "freely", "category"}
        Whether samples were paired with other stimuli than they showed, see :meth:`showing`.
    """

    store: Store | None
    subject: str
    task: str
    roi: str | tuple[str, ...] | None
    responses: np.ndarray
    table: pd.DataFrame
    voxels: np.ndarray
    center: Within | None = None
    scale: Within | None = None
    repaired: Literal["no", "freely", "category"] = "no"
    _targets: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _elsewhere: dict[str, Recordings] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        store: Store,
        subject: str,
        roi: str | Iterable[str] | None = None,
        *,
        task: str,
        split: str | None = None,
        rows: ArrayLike | None = None,
        center: Within | Literal["auto"] | None = None,
        scale: Within | Literal["auto"] | None = None,
    ) -> Recordings:
        """Read the samples of a split with their repeats averaged, or single samples.

        Parameters
        ----------
        store : Store
        subject : str
        roi : str or list of str, optional
            As for :meth:`Store.responses`.
        task : str
            One of ``store.tasks(subject)``.
        split : str, optional
            Read this split and average the repeats of each stimulus (in a time series, if they have the same order).
        rows : int array, optional
            Single samples, as rows of ``store.samples(subject)``. Samples whose run ends before the peak of the
            response are left out. Without `split` and `rows`, all samples of the task.
        center, scale : {"session", "run", "auto"}, optional
            As for :meth:`Store.responses`: each voxel within sessions or runs, over all samples of the task, whichever
            are read here. Training and test samples so read are centered alike, and no stimulus is used.
            ``"auto"``: by session where sessions are confounded, see
            :func:`neurorecon.store.responses.choose_centering`, which also says why.
        """
        names = roi if roi is None or isinstance(roi, str) else tuple(roi)
        voxels = store.voxels(subject, roi).index.to_numpy()
        within = choose_centering(store, subject, task, center, scale)
        if split is not None:
            responses, table = decoding_samples(
                store, subject, roi, split, task, center=within.center, scale=within.scale
            )
            return cls(store, subject, task, names, responses, table, voxels, within.center, within.scale)
        samples, delays = store.samples(subject), peak_delays(store, subject, task)
        positions = selection.select_samples(samples, None, task)
        if delays:
            positions, _ = selection.delayed_positions(samples, positions, delays, store.series(subject))
        found = store.responses(subject, roi, task=task, delays=delays, center=within.center, scale=within.scale)
        kept = np.arange(len(positions)) if rows is None else np.flatnonzero(np.isin(positions, _rows(samples, rows)))
        if not len(kept):
            raise InputError(
                "none of these rows is a usable sample",
                given=f"{0 if rows is None else np.size(rows)} rows, task {task!r}",
                expected=f"rows of this task, e.g. {positions[:3].tolist()}",
                todo="take rows of store.samples(subject) that have this task",
            )
        values = found.values.reshape(len(positions), max(1, len(delays)), -1).mean(axis=1)
        table = samples.iloc[positions[kept]][["stimulus", "session", "run"]].reset_index(drop=True)
        return cls(
            store,
            subject,
            task,
            names,
            values[kept],
            table.astype({"stimulus": str}),
            voxels,
            within.center,
            within.scale,
        )

    @classmethod
    def of_arrays(cls, responses: ArrayLike, stimuli: ArrayLike, targets: Mapping[str, ArrayLike]) -> Recordings:
        """Return samples from arrays instead of a store.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Finite; their dtype is kept.
        stimuli : array, shape (sample,)
            The stimulus of each sample.
        targets : mapping of str to array, shape (sample, ...)
            Samples of the same stimulus must have equal rows. ``"images"`` and ``"frames"`` are uint8 or float in
            [0, 1]; a DataArray keeps the names of its dimensions and its attributes.

        Raises
        ------
        InputError
            If the numbers of samples differ, or a stimulus has more than one target.
        """
        import xarray

        values, names = np.asarray(responses), np.asarray(stimuli).astype(str)
        if values.ndim != 2 or names.shape != (len(values),) or not values.size:
            raise InputError(
                "responses and stimuli do not match",
                given=f"responses {values.shape}, stimuli {names.shape}",
                expected="(sample, voxel) and (sample,), the same samples in the same order",
                todo="take both from the same selection of samples",
            )
        unique, first, place = np.unique(names, return_index=True, return_inverse=True)
        kept = {}
        for name, target in targets.items():
            given = np.asarray(target)
            if given.ndim < 2 or len(given) != len(values):
                raise InputError(
                    f"responses and {name} do not match",
                    given=f"responses {values.shape}, {name} {given.shape}",
                    expected="(sample, voxel) and (sample, ...), the same samples in the same order",
                    todo="give the target of each sample's stimulus",
                )
            if not np.array_equal(given[first][place], given):
                raise InputError(
                    f"a stimulus has more than one row in {name}",
                    given="samples of one stimulus with different targets",
                    expected="one target for each stimulus",
                    todo="give the stimulus of each sample beside the labels",
                )
            if given.dtype == np.uint8 and name in ("images", "frames"):
                given = given / 255.0
            inner = getattr(target, "dims", ("", *_DIMS.get(given.ndim - 1, ())))[1:]
            inner = inner or tuple(f"dim_{axis}" for axis in range(1, given.ndim))
            kept[name] = xarray.DataArray(
                given[first], dims=("stimulus", *inner), coords={"stimulus": unique}, attrs=getattr(target, "attrs", {})
            )
        table = pd.DataFrame({"stimulus": names, "session": 1, "run": 1})
        return cls(None, "", "", None, values, table, np.arange(values.shape[1]), _targets=kept)

    @property
    def stimuli(self) -> np.ndarray:
        """The stimulus of each sample, shape (sample,)."""
        return self.table["stimulus"].to_numpy(str)

    def labeled_responses(self) -> Any:
        """Return the responses as :meth:`neurorecon.System.decode` checks them.

        Returns
        -------
        DataArray, dims (stimulus, voxel)
            With the ids of the stimuli and the rows of the voxels as coordinates.
        """
        import xarray

        coordinates = {"stimulus": ("stimulus", self.stimuli), "voxel": ("voxel", self.voxels)}
        return xarray.DataArray(self.responses, dims=("stimulus", "voxel"), coords=coordinates)

    def take(self, chosen: np.ndarray) -> Recordings:
        """Return some of the samples, by mask or by index; targets that were read are shared."""
        where = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        table = self.table.iloc[where].reset_index(drop=True)
        return replace(self, responses=self.responses[where], table=table)

    def showing(self, stimuli: ArrayLike, *, within: Literal["category"] | None = None) -> Recordings:
        """Return the same samples, paired with other stimuli.

        Parameters
        ----------
        stimuli : array of str, shape (sample,)
        within : {"category"}, optional
            They are of the same categories; what is learned from :meth:`elsewhere` is re-paired likewise.
        """
        names = np.asarray(stimuli).astype(str)
        if names.shape != (len(self.table),):
            raise InputError(
                "stimuli do not match the samples",
                given=f"shape {names.shape}",
                expected=f"({len(self.table)},), the stimulus of each sample",
                todo="take them from the same selection of samples",
            )
        repaired = self.repaired
        if (names != self.stimuli).any():
            repaired = "category" if within and repaired != "freely" else "freely"
        return replace(self, table=self.table.assign(stimulus=names), repaired=repaired)

    def elsewhere(self) -> Recordings | None:
        """Return the training images of a subject whose samples are training samples of another task.

        If these samples are re-paired, so are those, at random: what is learned from them must not escape a null.

        Returns
        -------
        Recordings or None
            Responses of the same voxels, repeats averaged. None if :func:`training_images` names no task, or if these
            samples are not of the training split: of other splits, it is not known which images are held out with them.
        """
        store = self.store
        task = None if store is None else training_images(store, self.subject, self.task)
        if store is None or task is None:
            return None
        samples = store.samples(self.subject)
        own = samples["stimulus"][(samples["task"] == self.task) & (samples["split"] == "train")]
        if not set(own).issuperset(self.stimuli.tolist()):
            return None
        if task not in self._elsewhere:
            self._elsewhere[task] = Recordings.read(
                store, self.subject, self.roi, task=task, split="train", center=self.center, scale=self.scale
            ).averaged()
        found = self._elsewhere[task]
        if self.repaired == "no":
            return found
        labels = None
        if self.repaired == "category":
            labels = store.stimuli.set_index("id")["category"].loc[found.stimuli].to_numpy(str)
        seed = int(block_digest(self.stimuli)[:8], 16)  # another one for each way of pairing
        order = stimulus_permutations(len(found.table), 1, seed, labels)[0]
        return found.showing(found.stimuli[order], within=None if labels is None else "category")

    def averaged(self) -> Recordings:
        """Return the mean over the samples of each stimulus, in order of first appearance."""
        codes, names = pd.factorize(self.table["stimulus"])
        if len(names) == len(self.table):
            return self
        means = np.stack([self.responses[codes == code].mean(axis=0) for code in range(len(names))])
        first = np.array([np.argmax(codes == code) for code in range(len(names))])
        return replace(self, responses=means, table=self.table.iloc[first].reset_index(drop=True))

    def target(self, source: str) -> Any:
        """Return a target of each sample's stimulus, DataArray with dims (sample, ...).

        Small targets are read once and kept; large ones are dask arrays.

        Parameters
        ----------
        source : str
            A target of the store, or ``"images"`` or ``"frames"``, float64 in [0, 1].
        """
        names = self.stimuli
        if source not in self._targets:
            if self.store is None:
                raise UnknownNameError("target", source, self._targets)
            unique = list(dict.fromkeys(names.tolist()))
            whole = stored_target(self.store, source, unique)
            if whole.size > LOADED_VALUES:
                return stored_target(self.store, source, names.tolist()).rename(stimulus="sample")
            self._targets[source] = whole.compute()
        kept = self._targets[source]
        place = {name: number for number, name in enumerate(kept["stimulus"].values.tolist())}
        missing = list(dict.fromkeys(name for name in names.tolist() if name not in place))
        if missing:
            import xarray

            assert self.store is not None, "all stimuli of arrays have their targets"
            more = stored_target(self.store, source, missing).compute()
            self._targets[source] = xarray.concat([kept, more], "stimulus", combine_attrs="override")
            return self.target(source)
        rows = np.array([place[name] for name in names.tolist()])
        return kept.isel(stimulus=rows).rename(stimulus="sample")


def stored_target(store: Store, source: str, stimuli: Sequence[str]) -> Any:
    """Return a target of some stimuli, lazily: DataArray with dims (stimulus, ...).

    Parameters
    ----------
    store : Store
    source : str
        A target of the store, or ``"images"`` or ``"frames"``, which become float64 in [0, 1].
    stimuli : sequence of str
        Ids; repeats are allowed.
    """
    if source not in ("images", "frames"):
        return store.targets(source, stimuli=stimuli)
    found = store.images(stimuli) if source == "images" else store.frames(stimuli)
    return found / 255.0


def training_images(store: Store, subject: str, task: str) -> str | None:
    """Return the task that shows the most training images, if at least as many as another task has training stimuli.

    Parameters
    ----------
    store : Store
    subject, task : str
        Whose training stimuli, of which task, are compared with the images.

    Returns
    -------
    str or None
        A task that shows images alone. None if no task has enough, or the store is open with a split column: its folds
        are drawn for each kind of stimuli by itself, so an image may be close to a clip that is held out.
    """
    if store.split_column is not None:
        return None
    samples = store.samples(subject)
    counts = samples[samples["split"] == "train"].groupby("task")["stimulus"].nunique()
    images = set(store.stimuli["id"][store.stimuli["kind"] == "image"])
    shown = {name: rows for name, rows in samples.groupby("task")["stimulus"] if name != task and name in counts}
    enough = [name for name, rows in shown.items() if images.issuperset(rows) and counts[name] >= counts.get(task, 1)]
    return max(enough, key=lambda name: int(counts[name]), default=None)


def choose_shown_task(store: Store, subject: str, sources: Iterable[str], task: str | None) -> str:
    """Return the task whose stimuli are decoded: by default :meth:`Store.default_task`, of those with all targets."""
    if task is not None:
        if task not in store.tasks(subject):
            raise UnknownNameError("task", task, store.tasks(subject))
        return task
    sources = list(sources)
    found, complete = store.rank_tasks(subject, sources)[0]
    if not complete:
        raise InputError(
            "no task shows stimuli that have all these targets",
            given=f"targets {', '.join(sources)}; tasks {', '.join(store.tasks(subject))}",
            expected="targets that are all defined for one task",
            todo="compute the missing targets: neurorecon features",
        )
    return found


def _rows(samples: pd.DataFrame, rows: ArrayLike) -> np.ndarray:
    """Return rows of the sample table as indices; refuse those that are none."""
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (len(samples),):
        return np.flatnonzero(found)
    if (
        found.ndim != 1
        or found.dtype.kind not in "iu"
        or not len(found)
        or found.min() < 0
        or found.max() >= len(samples)
    ):
        raise InputError(
            "these are not rows of the sample table",
            given=f"{found.dtype} of shape {found.shape}",
            expected=f"integers from 0 to {len(samples) - 1}, or a mask of {len(samples)} samples",
            todo="take them from store.samples(subject)",
        )
    return found
