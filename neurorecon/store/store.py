"""Read a store: tables, responses, targets and stimuli."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neurorecon.errors import InputError, StoreError, UnknownNameError
from neurorecon.io.files import is_url
from neurorecon.io.tensors import combine
from neurorecon.registry import FEATURES
from neurorecon.space import Space, hemispheres, volume_order
from neurorecon.store import schema, selection
from neurorecon.store.backend import damaged, open_for_reading
from neurorecon.store.leaks import LEAKS, describe
from neurorecon.store.responses import checked_tasks, choose_centering, read_responses, refuse_volumes
from neurorecon.store.schema import count_bytes, count_samples, count_stimuli, count_voxels, digests_of
from neurorecon.store.splits import about_column, leaks_of_column

if TYPE_CHECKING:
    import pandas as pd
    import xarray

    from neurorecon.store.reading import StoredGroup


class Tables:
    """Everything in a store except its large arrays.

    Parameters
    ----------
    location : str
        Path or URL of the store.
    root : StoredGroup
        Root of the store.
    snapshot : str or None
        Id of the open snapshot; None for plain Zarr.
    split_column : str, optional
        Split column to follow instead of the split that the store was built with.
    """

    def __init__(self, location: str, root: StoredGroup, snapshot: str | None, split_column: str | None = None) -> None:
        self.location = location
        self.snapshot = snapshot
        self.split_column = split_column
        self._root = root
        self._attributes = root.attrs
        self._samples: dict[str, pd.DataFrame] = {}
        self._masks: dict[str, dict[str, np.ndarray]] = {}
        self._voxels: dict[str, pd.DataFrame] = {}
        self._arrays: list[tuple[str, Any]] | None = None
        self._positions: dict[str, pd.DataFrame] = {}
        # An open snapshot never changes, so nodes and small arrays are cached: each access by Zarr takes milliseconds.
        self._nodes: dict[str, Any] = {}
        self._small: dict[str, np.ndarray] = {}
        _check_schema(location, self._attributes)
        #: Words to replace in what is read: those of the version of the store that have changed since.
        self._words = schema.FORMER_WORDS if self._attributes["neurorecon_schema"] < 2 else {}
        if split_column is not None and split_column not in self.split_columns:
            todo = "make it: neurorecon split --kind random (or cluster_k5, tau, leave-category), or --table FILE.csv"
            raise UnknownNameError("split column", split_column, self.split_columns, todo=todo)

    # -- contents -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return str(self._attributes["name"])

    @property
    def reader(self) -> str:
        """Name of the reader that the store was built with, e.g. ``"nsd"``."""
        return str(self._attributes["recipe"]["reader"])

    @property
    def description(self) -> dict[str, Any]:
        """Title, citation, terms, units, notes, and whether the responses are simulated."""
        return dict(self._attributes["description"])

    @property
    def simulated(self) -> bool:
        """Whether the responses are simulated rather than measured."""
        return bool(self.description["simulated"])

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects."""
        return list(self._attributes["subjects"])

    @property
    def targets_available(self) -> list[str]:
        """Names of the complete targets."""
        if schema.TARGETS not in self._root:
            return []
        group: Any = self._root[schema.TARGETS]
        return sorted(name for name, item in group.groups() if item.attrs.get("complete"))

    @property
    def split_columns(self) -> list[str]:
        """Names of the split columns; the split that the store was built with has none."""
        return sorted({*self._stored_columns(), *self._test_tasks})

    def _stored_columns(self) -> list[str]:
        if schema.SPLITS not in self._root:
            return []
        group: Any = self._root[schema.SPLITS]
        return [name for name, _ in group.arrays()]

    @cached_property
    def _test_tasks(self) -> dict[str, str]:
        """Tasks without training samples that a model of another task can be tested on, and that task.

        Each of them can be followed like a split column: its samples are the test samples of the task with the most
        training samples, whose own test samples are left out, and so are stimuli that have no image.
        """
        counted: dict[str, dict[str, int]] = {}
        for subject in self.subjects:
            for row in self._subject(subject).attrs.get("counts") or ():
                of_task = counted.setdefault(self._word(row["task"]), {})
                of_task[row["split"]] = of_task.get(row["split"], 0) + int(row["samples"])
        training = {task: splits["train"] for task, splits in counted.items() if splits.get("train")}
        if not training:
            return {}
        trained = max(training, key=lambda task: training[task])
        series = {task for subject in self.subjects for task in self.series(subject)}
        return {task: trained for task in counted
                if task not in training and (task in series) == (trained in series)}  # fmt: skip

    def about_split(self, column: str) -> dict[str, Any]:
        """Return how a split column was made: ``kind``, ``seed``, ``target`` and its digest, ``sizes``, distances."""
        if column not in self._stored_columns() and column in self._test_tasks:
            splits, kinds = self._test_splits(column), self._values(f"{schema.STIMULI}/kind").astype(str)
            sizes = {}
            for kind in np.unique(kinds).tolist():
                own = splits[kinds == kind]
                counts = {"train": own == "train", "test": own == "test", "left_out": own == ""}
                sizes[self._word(kind)] = {name: int(rows.sum()) for name, rows in counts.items()}
            trained = self._test_tasks[column]
            return {"kind": "task", "task": column, "trained on": trained, "sizes": sizes, "measured": {}}
        return about_column(self._node(f"{schema.SPLITS}/{column}"))

    def _test_splits(self, task: str) -> np.ndarray:
        """Return the split of each stimulus where the model of another task is tested on this one."""
        shown: set[str] = set()
        for subject in self.subjects:
            stimuli, tasks = (self._values(f"{subject}/{name}").astype(str) for name in ("stimulus", "task"))
            shown.update(stimuli[[self._word(name) == task for name in tasks.tolist()]].tolist())
        ids, built = (self._values(f"{schema.STIMULI}/{name}").astype(str) for name in ("id", "split"))
        tested = np.array([name in shown for name in ids.tolist()], dtype=bool)
        # Analyses need the same targets of all test stimuli, and what has no image has no target of images.
        tested &= self._values(f"{schema.STIMULI}/kind").astype(str) != schema.OTHER
        return np.where(tested, "test", np.where(built == "train", "train", "")).astype(object)

    @property
    def _tested_task(self) -> str | None:
        """The task that is tested on instead of the test split, where the split column is one."""
        own = self.split_column in self._test_tasks and self.split_column not in self._stored_columns()
        return self.split_column if own else None

    @property
    def label(self) -> str:
        """The name of the store, and the split column that it follows."""
        return self.name if self.split_column is None else f"{self.name} (split {self.split_column})"

    @property
    def roi_groups(self) -> dict[str, list[str]]:
        """Groups of ROIs, by name."""
        return dict(self._attributes["roi_groups"])

    @property
    def frames_per_second(self) -> float | None:
        """Frame rate of the videos, in Hz; None without videos."""
        return self._attributes.get("frames_per_second")

    def rois(self, subject: str) -> dict[str, int]:
        """Return the number of voxels in each ROI of a subject."""
        counted = self._subject(subject).attrs.get("roi_voxels")
        return dict(counted if counted is not None else count_voxels(self.roi_masks(subject)))

    def tasks(self, subject: str) -> list[str]:
        """Return the tasks of a subject, in stored order."""
        return list(dict.fromkeys(row["task"] for row in self.sample_counts(subject)))

    def series(self, subject: str) -> dict[str, float]:
        """Return the tasks that are time series, with their repetition times (s)."""
        return self._renamed(self._subject(subject).attrs["repetition_time"])

    def default_task(self, subject: str, targets: Iterable[str] = ()) -> str:
        """Return the task that is read or analyzed where none is named.

        Of the tasks in which every stimulus has the targets, those that show images only come first, then those with
        the most training stimuli, then those with the most stimuli. If no task has all targets, the same rule applies
        to the stimuli that have them.

        Parameters
        ----------
        subject : str
            Name of the subject.
        targets : iterable of str
            Names of targets; ``"images"`` and ``"frames"`` stand for the stimuli themselves.

        Examples
        --------
        >>> import neurorecon as nr
        >>> store = nr.open_store("stores/scenes.icechunk")
        >>> store.default_task("subj01"), store.default_task("subj01", ["motion"])
        ('images', 'videos')
        """
        tasks, targets = self.tasks(subject), list(targets)
        return tasks[0] if len(tasks) == 1 and not targets else self.rank_tasks(subject, targets)[0][0]

    def rank_tasks(self, subject: str, targets: Iterable[str] = ()) -> list[tuple[str, bool]]:
        """Return the tasks in the order of :meth:`default_task`, and whether all stimuli of each have all targets."""
        kinds = dict(zip(self.stimuli["id"], self.stimuli["kind"], strict=True))
        having = [self.stimuli_with(name) for name in targets]
        return selection.rank_tasks(self.samples(subject), kinds, having)

    def confounded_sessions(self, subject: str, task: str) -> str | None:
        """Return how sessions of a task are confounded with its stimuli, splits or categories; None if they are not.

        See :func:`neurorecon.store.selection.confounded_sessions`.
        """
        samples = self._categorized(subject)
        return selection.confounded_sessions(samples[samples["task"] == task])

    def mixed_runs(self, subject: str, task: str) -> int:
        """Return the number of runs of a task whose samples are not all in the same split."""
        samples = self.samples(subject)
        runs = samples[samples["task"] == task].groupby(["session", "run"])["split"]
        return int((runs.nunique() > 1).sum())

    def cautions(self, subject: str, task: str, *, centered: bool = False) -> list[str]:
        """Return what makes scores of a task questionable: stimuli in both splits, and confounded sessions.

        `info`, `check` and every analysis print these sentences, and the records of results hold them. Stores that
        were built before stimuli were compared say nothing about stimuli.

        Parameters
        ----------
        subject, task : str
            Whose samples.
        centered : bool
            Responses are centered within sessions, so there is nothing to say about these.
        """
        samples = self.samples(subject)
        shown = set(samples["stimulus"][samples["task"] == task])
        if self.split_column is not None:
            splits = dict(zip(self.stimuli["id"], self.stimuli["split"], strict=True))
            compared = leaks_of_column(self._root, self.split_column, splits)
            if self._tested_task is not None:
                compared |= {**(self._node(schema.STIMULI).attrs.get(LEAKS) or {})}
        else:
            stimuli: Any = self._root[schema.STIMULI]
            compared = {**(stimuli.attrs.get(LEAKS) or {})}
            if schema.TARGETS in self._root:
                group: Any = self._root[schema.TARGETS]
                of_targets = dict(group.attrs.get(LEAKS, {}))
                compared |= {f"target {name}": pairs for name, pairs in of_targets.items()}
        found = []
        for what, pairs in compared.items():
            own = [pair for pair in pairs if pair[0] in shown and pair[1] in shown]
            found += [describe(own, what)] if own else []
        if self.split_column is not None and task in self.series(subject) and self.mixed_runs(subject, task):
            found.append(
                f"runs hold stimuli of several splits ({self.split_column}), and in a time series the responses to "
                "neighboring stimuli overlap: scores can be too high"
            )
        confounded = None if centered else self.confounded_sessions(subject, task)
        if confounded is not None:
            found.append(f"sessions are confounded: {confounded}; center responses within sessions (center='session')")
        return found

    def lacks(self, needs: str) -> str | None:
        """Return what this store lacks for targets that are computed from something, or None.

        Parameters
        ----------
        needs : {"images", "frames", "captions", "categories", "table"}
            What they are computed from, as :class:`neurorecon.features.base.Extractor` says.
        """
        group: Any = self._root[schema.STIMULI]
        if needs == "images" and "images" not in group:
            return "no images"
        if needs == "frames" and ("frames" not in group or not (self.stimuli["kind"] == "video").any()):
            return "no videos"
        if needs == "captions" and not self.stimuli["captions"].map(len).any():
            return "no captions"
        if needs == "categories" and self.stimuli["category"].isin(["", "none"]).all():
            names = () if self.labels is None else self.labels.columns
            return None if any(str(name).startswith("category:") for name in names) else "no categories"
        return None

    def _advice(self, name: str) -> str:
        """Return what to do about a target that the store lacks: only targets that exist can be computed."""
        known = FEATURES.names()
        near = [get_close_matches(name, names, n=1) for names in (self.targets_available, known)]
        if name in known:
            lacking = self.lacks(FEATURES.load(name).needs)
            if lacking is not None:
                return f"leave it out: it cannot be computed, because this store has {lacking}"
            return f"compute it with: neurorecon features --target {name}"
        if near[0]:
            return f"did you mean {near[0][0]!r}?"
        if near[1]:
            return f"did you mean {near[1][0]!r}? Compute it with: neurorecon features --target {near[1][0]}"
        return "see `neurorecon features` for what can be computed; add your own with --from FILE --name NAME"

    def target_stimuli(self, name: str) -> np.ndarray:
        """Return the ids of the stimuli that have a target."""
        if name not in self.targets_available:
            raise UnknownNameError(
                "target",
                name,
                self.targets_available,
                todo=self._advice(name),
            )
        group: Any = self._root[f"{schema.TARGETS}/{name}"]
        return text_of(group["stimulus"])

    def stimuli_with(self, target: str) -> set[str]:
        """Return the ids of the stimuli that have a target, as a set; also of ``"images"`` or ``"frames"``."""
        if target == "images":
            return set(self.stimuli.loc[self.stimuli["kind"] != schema.OTHER, "id"])
        if target == "frames":
            return set(self.stimuli.loc[self.stimuli["kind"] == "video", "id"])
        return set(self.target_stimuli(target).tolist())

    def voxel_count(self, subject: str) -> int:
        """Return the number of voxels of a subject."""
        self._subject(subject)  # raises for unknown subjects
        return int(self._node(f"{subject}/responses").shape[1])

    def stimulus_counts(self) -> list[dict[str, Any]]:
        """Return the number of stimuli of each kind and split (dicts of ``kind``, ``split``, ``number``)."""
        if self.split_column is not None:
            return count_stimuli(self.stimuli, "left out")
        counted: Any = self._root[schema.STIMULI].attrs.get("counts")
        if counted is None:
            return count_stimuli(self.stimuli)
        return [{**row, "kind": self._word(row["kind"])} for row in counted]

    def sample_counts(self, subject: str) -> list[dict[str, Any]]:
        """Return ``samples``, ``stimuli``, ``repeats`` and ``runs`` of each ``task`` and ``split`` of a subject."""
        counted = self._subject(subject).attrs.get("counts")
        if counted is None or self.split_column is not None:
            return count_samples(self.samples(subject))
        return [{**row, "task": self._word(row["task"])} for row in counted]

    def mean_ceilings(self, subject: str) -> dict[str, float | None]:
        """Return the mean noise ceiling over voxels of each task that has one; see :meth:`noise_ceiling`."""
        counted = self._subject(subject).attrs.get("mean_ceilings")
        if counted is not None and self.split_column is None:
            return self._renamed(counted)
        from neurorecon.store.ceilings import mean_ceilings

        tasks = self._repeated_tasks(subject)
        return mean_ceilings(tasks, np.array([self.noise_ceiling(subject, task=task) for task in tasks]))

    def about_ceilings(self, subject: str) -> dict[str, str]:
        """Return, for each task, what the noise ceilings come from, or why there are none."""
        from neurorecon.store.ceilings import about_ceilings

        return self._renamed(about_ceilings(self._subject(subject), self.split_column))

    def about_target(self, name: str) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Return the shape of a target and a description of how it was computed."""
        group: Any = self._root[f"{schema.TARGETS}/{name}"]
        return group["values"].shape, {key: value for key, value in group.attrs.items() if key != "complete"}

    def report(self, subject: str) -> dict[str, str]:
        """Return the notes of the reader on a subject, e.g. dropped voxels or missing sessions."""
        return dict(self._subject(subject).attrs.get("report", {}))

    # -- tables -------------------------------------------------------------------------------------------------

    @cached_property
    def stimuli(self) -> pd.DataFrame:
        """Stimulus table with columns ``id``, ``kind``, ``category``, ``split`` and ``captions`` (list of str)."""
        import pandas as pd

        group: Any = self._root[schema.STIMULI]
        table = pd.DataFrame({name: text_of(group[name]) for name in ("id", "kind", "category", "split")})
        table["kind"] = table["kind"].replace(self._words)
        if self._tested_task is not None:
            table["split"] = self._test_splits(self._tested_task)
        elif self.split_column is not None:
            table["split"] = self._values(f"{schema.SPLITS}/{self.split_column}")
        captions = text_of(group["caption"])
        table["captions"] = [[caption for caption in row if caption] for row in captions.tolist()]
        return table

    @cached_property
    def labels(self) -> pd.DataFrame | None:
        """Numeric labels of the stimuli, one column per label; None if there are none."""
        import pandas as pd

        group: Any = self._root[schema.STIMULI]
        if "labels" not in group:
            return None
        return pd.DataFrame(group["labels"][:], columns=text_of(group["label_name"]))

    def samples(self, subject: str) -> pd.DataFrame:
        """Return the sample table of a subject, in stored order.

        Columns specific to the data set, such as behavior or ratings, follow those that every store has. Missing
        numbers are NaN, and missing text is ``""``.
        """
        import pandas as pd

        from neurorecon.datasets.base import SAMPLE_COLUMNS

        if subject not in self._samples:
            group = self._subject(subject)
            names = [*SAMPLE_COLUMNS, *group.attrs.get("sample_columns", [])]
            columns = {name: values_of(group[name]) for name in names}
            self._samples[subject] = pd.DataFrame(columns)
            self._samples[subject]["task"] = self._samples[subject]["task"].replace(self._words)
            if self._tested_task is not None:
                table = self._samples[subject]
                tested = table["task"] == self._tested_task
                splits = dict(zip(self.stimuli["id"], self.stimuli["split"], strict=True))
                table["split"] = np.where(tested | (table["split"] == "train"), table["stimulus"].map(splits), "")
                table["task"] = table["task"].where(~tested, self._test_tasks[self._tested_task])
            elif self.split_column is not None:
                splits = dict(zip(self.stimuli["id"], self.stimuli["split"], strict=True))
                self._samples[subject]["split"] = self._samples[subject]["stimulus"].map(splits)
        return self._samples[subject].copy()

    def voxels(
        self,
        subject: str,
        roi: str | Iterable[str] | None = None,
        *,
        order: Literal["store", "volume"] = "store",
    ) -> pd.DataFrame:
        """Return the voxel table of a subject: positions, and ``rois`` (names of ROIs joined by ``+``).

        `roi` and `order` are those of :meth:`responses`.
        """
        if subject not in self._voxels:
            table = self._voxel_table(subject).copy()
            table["rois"] = _joined(self.roi_masks(subject), len(table))
            self._voxels[subject] = table
        return self._voxels[subject].iloc[self._voxel_positions(subject, roi, order)].copy()

    def roi_masks(self, subject: str) -> dict[str, np.ndarray]:
        """Return the membership of each ROI, bool arrays of shape (voxel,)."""
        if subject not in self._masks:
            group = self._subject(subject)
            self._masks[subject] = dict(zip(text_of(group["roi"]).tolist(), group["roi_mask"][:], strict=True))
        return self._masks[subject]

    def space(self, subject: str) -> Space:
        """Return the space of the voxels of a subject."""
        return Space.from_dict(self._subject(subject).attrs["space"])

    def truth(self, subject: str, roi: str | Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return the ground truth of simulated responses (arrays whose last axis is voxel); empty for real data."""
        group = self._subject(subject)
        where = self._voxel_positions(subject, roi)
        names = [name for name, _ in group.arrays() if name.startswith("truth_")]
        return {self._word(name.removeprefix("truth_")): group[name][:][..., where] for name in sorted(names)}

    def noise_ceiling(
        self,
        subject: str,
        roi: str | Iterable[str] | None = None,
        task: str | None = None,
        *,
        of: Literal["test", "all", "single"] = "test",
    ) -> np.ndarray | None:
        """Return the noise ceiling of each voxel.

        Parameters
        ----------
        subject : str
            Name of the subject.
        roi : str or list of str, optional
            See :meth:`responses`.
        task : str, optional
            Required if several tasks have repeats.
        of : {"test", "all", "single"}
            Which samples it belongs to: averages over the repeats of each test stimulus, the same of all stimuli, or
            single samples.

        Returns
        -------
        array, shape (voxel,), or None
            R2 of a perfect model, not clipped: estimates of single voxels scatter around the true value, also around 0.
            Their mean over an ROI is its ceiling. NaN in voxels that do not vary. None if the task has no repeats;
            :meth:`about_ceilings` says why.
        """
        known = self._repeated_task(subject, task)
        if known is None:
            return None
        from neurorecon.store.ceilings import stored_ceiling

        key = f"{subject}/noise_ceiling of {of} of {known}"
        if key not in self._small:
            if of not in ("test", "all", "single"):
                raise UnknownNameError("kind of samples", of, ["test", "all", "single"])
            samples, row = self.samples(subject), self._ceiling_row(subject, known)
            own = samples[samples["task"] == known]
            self._small[key] = stored_ceiling(self._subject(subject), row, own, of, built=self.split_column is None)
        return self._small[key][self._voxel_positions(subject, roi)]

    def ncsnr(self, subject: str, roi: str | Iterable[str] | None = None, task: str | None = None) -> np.ndarray | None:
        """Return the noise ceiling signal-to-noise ratio of single samples (as in NSD); see :meth:`noise_ceiling`."""
        known = self._repeated_task(subject, task)
        if known is None:
            return None
        row = self._ceiling_row(subject, known)
        return self._values(f"{subject}/ncsnr")[row][self._voxel_positions(subject, roi)]

    def _ceiling_row(self, subject: str, task: str) -> int:
        """Return the row of a task among those with repeats; that of the task tested on, where there is one."""
        repeated = self._repeated_tasks(subject)
        return repeated.index(self._tested_task if self._tested_task in repeated else task)

    # -- provenance ---------------------------------------------------------------------------------------------

    def digests(self) -> dict[str, str]:
        """Return the digest of each array, by path."""
        return digests_of(self.arrays())

    @property
    def digest(self) -> str:
        """Digest of the content of the store; it does not depend on where or when the store was built.

        It covers the split column that the store follows, and no other.
        """
        own = self.content_digest
        if self.split_column is None:
            return own
        if self._tested_task is not None:
            return combine({"content": own, "tested on the task": self._tested_task})
        path = f"{schema.SPLITS}/{self.split_column}"
        return combine({"content": own, path: str(self._node(path).attrs["digest"])})

    @property
    def content_digest(self) -> str:
        """Digest of the content of the store, whichever split column it follows."""
        summary = self._summary
        return schema.content_digest(self.arrays()) if summary is None else str(summary["digest"])

    @property
    def bytes(self) -> int:
        """Uncompressed size of all arrays in bytes."""
        summary = self._summary
        return count_bytes(self.arrays()) if summary is None else int(summary["bytes"])

    def arrays(self) -> list[tuple[str, Any]]:
        """Return (path, array) of all arrays, sorted by path."""
        if self._arrays is None:
            members = self._root.members(max_depth=None)
            found = [(path, item) for path, item in members if hasattr(item, "chunks")]
            self._arrays = sorted(found, key=lambda pair: pair[0])
        return list(self._arrays)

    def __repr__(self) -> str:
        kind = "simulated" if self.simulated else "measured"
        return (
            f"<neurorecon store {self.name!r} ({kind}): {', '.join(self.subjects)}; {len(self.stimuli)} stimuli; "
            f"targets {', '.join(self.targets_available) or 'none'}; "
            + (f"split {self.split_column}; " if self.split_column is not None else "")
            + f"snapshot {self.snapshot}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: samples of each subject, targets, and which snapshot it is."""
        import pandas as pd

        counts = [{"subject": name, **row} for name in self.subjects for row in self.sample_counts(name)]
        samples = pd.DataFrame(counts)
        samples["voxels"] = samples["subject"].map({name: self.voxel_count(name) for name in self.subjects})
        shapes = {name: self.about_target(name)[0] for name in self.targets_available}
        targets = pd.DataFrame(
            [{"target": name, "shape": " x ".join(map(str, shape))} for name, shape in shapes.items()],
            columns=["target", "shape"],
        )
        kind = "simulated" if self.simulated else "measured"
        return (
            f"<p><strong>Store {escape(self.label)}</strong> ({kind} responses), {len(self.stimuli):,} stimuli</p>"
            f"{samples.to_html(index=False, border=0)}{targets.to_html(index=False, border=0)}"
            f"<p><small>{escape(self.location)}, snapshot {escape(str(self.snapshot))}</small></p>"
        )

    # -- internal -----------------------------------------------------------------------------------------------

    @property
    def _summary(self) -> dict[str, Any] | None:
        """Summary by the writer; None if missing, and for plain Zarr, whose arrays may have been modified."""
        return None if self.snapshot is None else self._attributes.get(schema.SUMMARY)

    def _word(self, word: str) -> str:
        """Return what is called now what the store calls by this word."""
        return self._words.get(word, word)

    def _renamed(self, by_word: Mapping[str, Any]) -> dict[str, Any]:
        return {self._word(word): value for word, value in by_word.items()}

    def _video_ids(self) -> np.ndarray:
        """Return the ids of the stimuli whose frames are stored, in the order of the frames."""
        group: Any = self._root[schema.STIMULI]
        name = next((name for name in ("video", "film") if name in group), None)  # "film": stores of version 1
        return np.array([], dtype=str) if name is None else text_of(group[name])

    def _subject(self, subject: str) -> Any:
        if subject not in self.subjects:
            raise UnknownNameError("subject", subject, self.subjects)
        return self._node(subject)

    def _node(self, path: str) -> Any:
        """Return a group or an array, cached."""
        if path not in self._nodes:
            self._nodes[path] = self._root[path]
        return self._nodes[path]

    def _categorized(self, subject: str) -> pd.DataFrame:
        """Return the sample table of a subject with the category of each stimulus, ``""`` where none is known."""
        ids, categories = (self._values(f"{schema.STIMULI}/{name}").tolist() for name in ("id", "category"))
        samples = self.samples(subject)
        return samples.assign(category=samples["stimulus"].map(dict(zip(ids, categories, strict=True))).fillna(""))

    def _values(self, path: str) -> np.ndarray:
        """Return a small array as a whole, cached and read-only."""
        if path not in self._small:
            values = values_of(self._node(path))
            values.setflags(write=False)
            self._small[path] = values
        return self._small[path]

    def _voxel_table(self, subject: str) -> pd.DataFrame:
        """Return the positions of the voxels, cached."""
        import pandas as pd

        if subject not in self._positions:
            group = self._subject(subject)
            columns = {name: values_of(group[name]) for name in group.attrs["voxel_columns"]}
            index = pd.RangeIndex(self.voxel_count(subject), name="voxel")
            self._positions[subject] = pd.DataFrame(columns, index=index)
        return self._positions[subject]

    def _voxel_positions(
        self, subject: str, roi: str | Iterable[str] | None, order: Literal["store", "volume"] = "store"
    ) -> np.ndarray:
        if roi is None:
            found = np.arange(self.voxel_count(subject))
        else:
            sides = hemispheres(self.space(subject), self._voxel_table(subject))
            found = np.flatnonzero(selection.roi_mask(roi, self.roi_masks(subject), self.roi_groups, sides))
        if order == "store":
            return found
        if order != "volume":
            raise UnknownNameError("order of voxels", order, ("store", "volume"))
        return found[volume_order(self.space(subject), self._voxel_table(subject).iloc[found])]

    def _repeated_tasks(self, subject: str) -> list[str]:
        return [self._word(task) for task in self._values(f"{subject}/repeated_task").tolist()]

    def _repeated_task(self, subject: str, task: str | None) -> str | None:
        """Return the task whose noise ceiling is asked for; None if it has none."""
        tasks = self._repeated_tasks(subject)
        if task is not None and task not in self.tasks(subject):
            raise UnknownNameError("task", task, self.tasks(subject))
        if not tasks or (task is not None and task not in tasks):
            return None
        if task is None and len(tasks) > 1:
            raise InputError(
                f"several tasks of {subject} have repeats",
                given="no task",
                expected=f"one of: {', '.join(tasks)}",
                todo=f"select a task, e.g. task={tasks[0]!r}",
            )
        return tasks[0] if task is None else task


def _check_schema(location: str, attributes: Mapping[str, Any]) -> None:
    version = attributes.get("neurorecon_schema")
    if version is None:
        raise StoreError(
            "there is no finished store here",
            given=f"{location}, without neurorecon's schema version",
            expected="a store whose build is complete",
            todo="if the build was interrupted, run the same neurorecon build command again to resume it",
        )
    if not isinstance(version, int):
        raise damaged(location, "", f"the schema version is {version!r}")
    if version > schema.SCHEMA_VERSION:
        raise StoreError(
            "this store was written by a newer neurorecon",
            given=f"schema version {version} (written by neurorecon {attributes.get('neurorecon_version')})",
            expected=f"version {schema.SCHEMA_VERSION} or older",
            todo="update neurorecon: pip install --upgrade neurorecon",
        )


def _joined(masks: Mapping[str, np.ndarray], voxels: int) -> np.ndarray:
    """Return the names of the ROIs of each voxel, joined by ``+``."""
    named = np.array([*masks.values()], dtype=bool).reshape(len(masks), voxels)
    names = np.array([*masks])
    different, which = np.unique(np.packbits(named, axis=0), axis=1, return_inverse=True)
    members = np.unpackbits(different, axis=0, count=len(masks)).astype(bool)
    return np.array(["+".join(names[column]) for column in members.T], dtype=object)[which.ravel()]


def text_of(array: Any) -> np.ndarray:
    """Return a text array as fixed-width text, which NumPy, pandas and xarray all support."""
    return np.asarray(array[:]).astype(object).astype(str)


def values_of(array: Any) -> np.ndarray:
    """Return an array as numbers or fixed-width text."""
    values = np.asarray(array[:])
    return values if values.dtype.kind in "biufc" else values.astype(object).astype(str)


def open_store(
    location: str | Path, *, snapshot: str | None = None, verify: bool = True, split_column: str | None = None
) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    location : path or URL
        Icechunk store (a folder, ``s3://``, ``gs://`` or ``az://``) or plain ``.zarr`` hierarchy (a folder or any URL
        supported by fsspec).
    snapshot : str, optional
        Id of an older snapshot, as recorded in figures. Icechunk only.
    verify : bool
        Compare names, shapes and attributes with their digest: a changed affine or unit changes every result. It takes
        half a millisecond an array, and is skipped for plain Zarr at a URL.
    split_column : str, optional
        Split column to follow, see :meth:`Store.with_split`.

    Returns
    -------
    Store

    Raises
    ------
    MissingFileError
        If there is no store.
    StoreError
        If the store cannot be read, or is not finished.
    UnknownNameError
        If the snapshot or the split column does not exist.

    Notes
    -----
    What is damaged raises a StoreError that names the array, when it is read: here, or when a lazy array is computed.
    Chunks have checksums, and a missing chunk is an error. :func:`check_store` lists all that is damaged.

    Examples
    --------
    >>> import neurorecon as nr
    >>> store = nr.open_store("stores/scenes.icechunk")
    >>> store.subjects[0], store.simulated
    ('subj01', True)
    """
    root, found = open_for_reading(str(location), snapshot)
    store = Store(str(location), root, found, split_column)
    if verify and (found is not None or not is_url(str(location))):
        from neurorecon.store.reading import changed_metadata

        if (problem := changed_metadata(root)) is not None:
            raise damaged(str(location), schema.METADATA, problem)
    return store


class Store(Tables):
    """A feature store, opened read-only by :func:`open_store`.

    Attributes
    ----------
    location : str
        Path or URL of the store.
    snapshot : str or None
        Id of the open snapshot; None for plain Zarr.
    split_column : str or None
        Split column that the store follows; None for the split that it was built with.

    Notes
    -----
    Pickling a store saves its location, snapshot and split column, not its data. The process that unpickles it opens
    the same snapshot once, and must have access to the location.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        place = self.location if is_url(self.location) else os.path.abspath(self.location)
        return _opened, (place, self.snapshot, self.split_column)

    def with_split(self, column: str | None) -> Store:
        """Return this snapshot with the training and test stimuli of a split column.

        Tables of stimuli and samples, counts, noise ceilings, cautions and the digest follow the column, and so does
        every analysis. Stimuli that are in neither split of the column are neither trained on nor tested.

        Parameters
        ----------
        column : str or None
            One of :attr:`split_columns`; None or "built-in" for the split that the store was built with.

        Raises
        ------
        UnknownNameError
            If there is no such column.
        """
        return type(self)(self.location, self._root, self.snapshot, None if column == schema.BUILT_IN else column)

    def reopened(self, snapshot: str | None = None) -> Store:
        """Return the latest or another snapshot of this store, with the same split column."""
        return open_store(self.location, snapshot=snapshot, split_column=self.split_column)

    def responses(
        self,
        subject: str,
        roi: str | Iterable[str] | None = None,
        split: str | None = None,
        *,
        task: str | Sequence[str] | None = None,
        time: slice | tuple[float, float] | None = None,
        average: Literal["stimulus"] | None = None,
        delays: Sequence[int] | None = None,
        center: Literal["session", "run"] | None = None,
        scale: Literal["session", "run"] | None = None,
        order: Literal["store", "volume"] = "store",
    ) -> xarray.DataArray:
        """Return the responses of one task as a lazy array.

        Parameters
        ----------
        subject : str
            Name of the subject.
        roi : str or list of str, optional
            ROI (``"V1"``), union (``"V1+V2"``), one hemisphere (``"lh.MT"``), group of ROIs (``"early"``), or a list
            of these. All voxels by default.
        split : str, optional
            Split of the samples. All splits by default.
        task : str or sequence of str, optional
            Task of the samples; by default :meth:`default_task`. Samples of several tasks are joined only if these are
            listed here, and only if all are trial estimates or all are volumes at the same interval.
        time : slice or (float, float), optional
            Start (included) and stop (excluded) of sample onsets, in seconds from the start of each run.
        average : {"stimulus"}, optional
            Average over the repeats of each stimulus. In a time series, the response to a stimulus comes seconds after
            it, so what is averaged is the mean of the volumes 4 to 6 s after each sample, unless `delays` are given.
        delays : sequence of int, optional
            For time series: concatenate, along the voxel axis, the volumes this many samples later in the same run.
            Samples too close to the end of their run are dropped. ``()`` takes each volume as it was recorded.
        center, scale : {"session", "run"}, optional
            Subtract the mean, and divide by the standard deviation, of each voxel over all samples of the same session
            (or run) and task, of whatever split. Which stimulus a sample shows is not used.
        order : {"store", "volume"}
            Order of the voxels: as they are stored (sorted by ROI, which is read fastest), or that of
            ``array[mask > 0]`` for an array and a mask with axes (x, y, z) as nibabel reads them, which weights trained
            elsewhere usually expect. On a surface, that of the vertices, left hemisphere first.

        Returns
        -------
        DataArray, dims (sample, voxel), float32, dask
            Responses, with the sample and voxel tables as coordinates. The attributes say what was read: ``task``,
            ``samples`` (trial estimates or volumes), ``delays``, ``window``, ``centered`` and ``scaled``.

        Raises
        ------
        UnknownNameError
            If the subject, ROI, split or task does not exist.
        InputError
            If the selection is empty, delays are used with single-trial estimates, or tasks of different kinds are
            joined.

        Examples
        --------
        >>> import neurorecon as nr
        >>> store = nr.open_store("stores/scenes.icechunk")
        >>> train = store.responses("subj01", roi="V1", split="train", average="stimulus")
        >>> train.dims, set(train["split"].values.tolist())
        (('sample', 'voxel'), {'train'})
        """
        tasks = checked_tasks(self, subject, task)
        return read_responses(
            self, subject, roi, split, tasks, time, average, delays, center, scale, window=average is not None,
            order=order,
        )  # fmt: skip

    def targets(self, name: str, split: str | None = None, stimuli: Sequence[str] | None = None) -> xarray.DataArray:
        """Return a target as a lazy array with one row per stimulus.

        Parameters
        ----------
        name : str
            Name of a target in :attr:`targets_available`.
        split : str, optional
            Select the stimuli of this split.
        stimuli : sequence of str, optional
            Select these stimuli, in this order; repeats are allowed. Takes precedence over `split`.

        Returns
        -------
        DataArray, dims (stimulus, feature) or (stimulus, ..., feature), float32, dask
            The target, with a description of how it was computed as attributes.

        Raises
        ------
        UnknownNameError
            If the target or split does not exist.
        InputError
            If a stimulus does not have this target.

        Examples
        --------
        >>> import neurorecon as nr
        >>> store = nr.open_store("stores/scenes.icechunk")
        >>> store.targets("category").dims
        ('stimulus', 'feature')
        """
        import xarray

        if name not in self.targets_available:
            todo = self._advice(name)
            raise UnknownNameError("target", name, self.targets_available, todo=todo)
        ids = self.target_stimuli(name)
        group: Any = self._root[f"{schema.TARGETS}/{name}"]
        if stimuli is None:
            rows = np.arange(len(ids)) if split is None else self._rows_of_split(ids, split)
        else:
            rows = _positions(ids, stimuli, f"target {name!r}")
        values = self._lazy(f"{schema.TARGETS}/{name}/values")[selection.contiguous(rows)]
        array = group["values"]
        dims = ("stimulus", *array.metadata.dimension_names[1:])
        coordinates: dict[str, Any] = {"stimulus": ("stimulus", ids[rows])}
        if "feature" in group and "feature" in dims:
            coordinates["feature"] = ("feature", text_of(group["feature"]))
        made_by = {key: value for key, value in group.attrs.items() if key != "complete"}
        return xarray.DataArray(values, dims=dims, coords=coordinates, name=name, attrs=made_by)

    def pairs(
        self,
        subject: str,
        target: str,
        roi: str | Iterable[str] | None = None,
        split: str | None = None,
        *,
        task: str | Sequence[str] | None = None,
        time: slice | tuple[float, float] | None = None,
        average: Literal["stimulus"] | None = "stimulus",
        delays: Sequence[int] | None = None,
        center: Literal["session", "run", "auto"] | None = "auto",
        scale: Literal["session", "run", "auto"] | None = None,
    ) -> tuple[xarray.DataArray, xarray.DataArray]:
        """Return responses and the target of the stimulus of each sample, with matching rows.

        In a time series, the response to a stimulus is the mean of the volumes 4 to 6 s after it, unless `delays` are
        given; volumes as they were recorded show the response to an earlier stimulus. Samples whose stimulus does not
        have the target (e.g. motion of an image) are dropped.

        Parameters
        ----------
        subject : str
            Name of the subject.
        target : str
            Name of a target in :attr:`targets_available`.
        roi, split, time
            See :meth:`responses`.
        task : str or sequence of str, optional
            See :meth:`responses`; by default the :meth:`default_task` for this target, as in maps.
        average : {"stimulus"}, optional
            Average over the repeats of each stimulus, by default; None keeps single samples.
        delays : sequence of int, optional
            For time series: these volumes side by side, along the voxel axis, instead of their mean; ``()`` takes
            volumes as they were recorded.
        center, scale : {"session", "run"}, optional
            See :meth:`responses`. ``"auto"``: by session where sessions are confounded with stimuli, splits or
            categories (:meth:`confounded_sessions`), and otherwise not at all.

        Returns
        -------
        responses : DataArray, dims (sample, voxel)
            Responses.
        target : DataArray, dims (sample, feature) or (sample, ..., feature)
            Target of each sample.

        Raises
        ------
        UnknownNameError
            If a name does not exist.
        InputError
            If no selected sample has the target, or samples without a repetition time look like volumes.

        Examples
        --------
        >>> import neurorecon as nr
        >>> store = nr.open_store("stores/scenes.icechunk")
        >>> X, Y = store.pairs("subj01", target="gabor", roi="V1", split="train")
        >>> X["stimulus"].values.tolist() == Y["stimulus"].values.tolist()
        True
        """
        have = set(self.target_stimuli(target).tolist())
        tasks = [self.default_task(subject, [target])] if task is None else checked_tasks(self, subject, task)
        if delays is None:
            refuse_volumes(self, subject, tasks)
        within = choose_centering(self, subject, tasks, center, scale)
        responses = read_responses(
            self, subject, roi, split, tasks, time, average, delays, within.center, within.scale, window=True
        )
        ids = responses["stimulus"].values
        kept = np.array([identifier in have for identifier in ids.tolist()])
        if not kept.any():
            raise InputError(
                f"none of these samples has the target {target!r}",
                given=f"subject={subject!r}, split={split!r}, task={', '.join(tasks)}",
                expected="stimuli for which the target has been computed",
                todo="select a task whose stimuli have it, e.g. videos for motion",
            )
        responses = responses.isel(sample=selection.contiguous(np.flatnonzero(kept)))
        values = self.targets(target, stimuli=ids[kept].tolist()).rename(stimulus="sample")
        coordinate = values.coords["sample"].values
        return responses, values.drop_vars("sample").assign_coords(stimulus=("sample", coordinate))

    def images(self, stimuli: Sequence[str] | None = None, split: str | None = None) -> xarray.DataArray:
        """Return images as a lazy array; a video is represented by its middle frame.

        Parameters
        ----------
        stimuli : sequence of str, optional
            Select these stimuli, in this order. Takes precedence over `split`.
        split : str, optional
            Select the stimuli of this split.

        Returns
        -------
        DataArray, dims (stimulus, y, x, rgb), uint8, dask

        Raises
        ------
        InputError
            If the store has no images, or a stimulus does not exist.

        Examples
        --------
        >>> import neurorecon as nr
        >>> store = nr.open_store("stores/scenes.icechunk")
        >>> store.images(store.stimuli["id"].tolist()[:2]).dims
        ('stimulus', 'y', 'x', 'rgb')
        """
        return self._images("images", self.stimuli["id"].to_numpy(str), stimuli, split)

    def frames(self, stimuli: Sequence[str] | None = None, split: str | None = None) -> xarray.DataArray:
        """Return the frames of videos as a lazy array.

        Parameters
        ----------
        stimuli : sequence of str, optional
            Select these videos, in this order. Takes precedence over `split`.
        split : str, optional
            Select the videos of this split.

        Returns
        -------
        DataArray, dims (stimulus, frame, y, x, rgb), uint8, dask

        Raises
        ------
        InputError
            If the store has no videos, or a video does not exist.
        """
        return self._images("frames", self._video_ids(), stimuli, split)

    def unmask(self, values: np.ndarray, subject: str, roi: str | Iterable[str] | None = None) -> Any:
        """Transform values of voxels back to brain space.

        Parameters
        ----------
        values : array, shape (voxel,) or (map, voxel)
            Values in the order of the subject's voxels, or of the voxels of `roi`.
        subject : str
            Name of the subject.
        roi : str or list of str, optional
            Selection of voxels; see :meth:`responses`.

        Returns
        -------
        nibabel.Nifti1Image, nilearn.surface.SurfaceImage or nibabel.Cifti2Image
            Image in the subject's space.
        """
        return self.space(subject).unmask(np.asarray(values), self.voxels(subject, roi))

    def _lazy(self, path: str, blocks: tuple[int, ...] | None = None) -> Any:
        import dask.array

        array = self._node(path)
        blocks = array.chunks if blocks is None else blocks
        name = f"{self.location}:{self.snapshot}:{path}:{'x'.join(map(str, blocks))}"
        return dask.array.from_array(array, chunks=blocks, name=name)

    def _rows_of_split(self, ids: np.ndarray, split: str) -> np.ndarray:
        known = [name for name in self.stimuli["split"].unique() if name]
        if split not in known:
            raise UnknownNameError("split", split, known)
        members = self.stimuli.set_index("id")["split"].loc[ids.tolist()] == split
        return np.flatnonzero(members.to_numpy())

    def _images(
        self, array: str, ids: np.ndarray, stimuli: Sequence[str] | None, split: str | None
    ) -> xarray.DataArray:
        import xarray

        group: Any = self._root[schema.STIMULI]
        if array not in group:
            raise InputError(
                f"this store has no {'images' if array == 'images' else 'videos'}",
                given=self.location,
                expected="a data set that includes its stimuli",
                todo="use store.stimuli, the table of stimuli, instead",
            )
        without = self.stimuli["kind"].to_numpy() == schema.OTHER if array == "images" else np.zeros(len(ids), bool)
        if stimuli is not None:
            rows = _positions(ids, stimuli, array)
            if without[rows].any():
                lacking = list(dict.fromkeys(ids[rows[without[rows]]].tolist()))
                raise InputError(
                    "stimuli without an image are asked for theirs",
                    given=", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""),
                    expected="stimuli that have an image",
                    todo="leave them out; store.stimuli['kind'] is 'other' where there is none",
                )
        else:
            rows = np.arange(len(ids)) if split is None else self._rows_of_split(ids, split)
            rows = rows[~without[rows]]
        dims = ("stimulus", *group[array].metadata.dimension_names[1:])
        values = self._lazy(f"{schema.STIMULI}/{array}")[selection.contiguous(rows)]
        return xarray.DataArray(values, dims=dims, coords={"stimulus": ("stimulus", ids[rows])}, name=array)


@functools.lru_cache(maxsize=4)
def _opened(location: str, snapshot: str | None, split_column: str | None) -> Store:
    return open_store(location, snapshot=snapshot, split_column=split_column)


def _positions(ids: np.ndarray, wanted: Sequence[str], where: str) -> np.ndarray:
    place = {identifier: number for number, identifier in enumerate(ids.tolist())}
    missing = [identifier for identifier in wanted if identifier not in place]
    if missing:
        raise InputError(
            f"{where}: {len(missing)} of these stimuli do not exist",
            given=", ".join(map(str, missing[:5])),
            expected=f"ids such as {', '.join(ids[:3].tolist())}",
            todo="see store.stimuli for all stimuli",
        )
    return np.array([place[identifier] for identifier in wanted], dtype=int)
