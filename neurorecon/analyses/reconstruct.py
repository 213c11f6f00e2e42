"""Reconstruct stimuli from the responses of a store with any system, and score them beside a null.

By split, a system is fitted on the training split and reconstructs the test split. In cross-validation, one label is
held out at a time, and a system that was fitted on all others reconstructs it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone

from neurorecon.analyses.controls import MEAN_RESPONSE, CompareSettings, Comparison, compute_comparison, controls
from neurorecon.analyses.cross_validation import (
    HeldOut,
    alphas_of,
    cross_validate,
    exchanged_null,
    held_out_scores,
    mean_by,
    refitted_null,
    shown_by,
)
from neurorecon.analyses.design import ReconstructSettings, warn_of_bundled
from neurorecon.analyses.evaluate import (
    Evaluation,
    categories_of,
    choose_metrics,
    context_of,
    exchange_orders,
    names_of,
    require_stimuli,
    score_pairs,
    tested,
    weights_of,
)
from neurorecon.analyses.results import Result, Score, exchange_record, plain_parameter
from neurorecon.decoders.samples import Recordings, Within, choose_shown_task, peak_delays, stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.files import file_name
from neurorecon.io.videos import gif_bytes, mp4_bytes
from neurorecon.metrics.base import FORMER_NAMES, Metric, SeedMean
from neurorecon.metrics.decoding import feature_table, parts_of
from neurorecon.metrics.image import resized
from neurorecon.models.adapters import read_adapter
from neurorecon.parallel import Compute
from neurorecon.stats.exchange import Exchange
from neurorecon.store.responses import Centering, choose_centering
from neurorecon.store.store import Store
from neurorecon.systems.base import System, load_system, require_train_split
from neurorecon.systems.decoded import Decoded, as_images
from neurorecon.systems.generation import generate_parts, networks_of

if TYPE_CHECKING:
    from neurorecon.figures import Section


#: Frames per second of videos from a store that does not say how many there were, as in Mind-Animator.
FRAME_RATE = 8.0


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Evaluation):
    """Stimuli reconstructed from the brain of one subject; see :class:`~neurorecon.analyses.evaluate.Evaluation`.

    Parameters
    ----------
    subject, task : str
        Whose brain, and which task.
    system : str
        Name of the system. If it reconstructs single samples, `reconstructed` is their mean over the samples of each
        stimulus.
    trials : (array of str, array), optional
        The stimulus of each trial of the test split, and its reconstruction, shape (trial, [seed,] [frame,] y, x, rgb).
    comparison : Comparison, optional
        With the controls.
    controls : dict of str to array, shape (stimulus, [frame,] y, x, rgb)
        What each control gives, with the first seed.
    stages : dict of str to array, shape (stimulus, [frame,] y, x, rgb)
        What earlier stages of the generation give, with the first seed.
    features : DataFrame, optional
        How well each target and its parts (layers, groups, tokens) were decoded, see
        :func:`neurorecon.metrics.decoding.feature_table`; of averaged responses, by split.
    store : Store, optional
        What was reconstructed from: a later snapshot than the store that was given, if targets had to be computed.
    """

    kind: str = "reconstruction"
    system: str
    trials: tuple[np.ndarray, np.ndarray] | None = None
    comparison: Comparison | None = None
    controls: dict[str, np.ndarray] = field(default_factory=dict)
    stages: dict[str, np.ndarray] = field(default_factory=dict)
    features: pd.DataFrame | None = field(default=None, repr=False, compare=False)
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}"

    @property
    def title(self) -> str:
        """Title of the panel."""
        return f"Seen and reconstructed · {self.subject}"

    @property
    def sentence(self) -> str:
        """How the reconstructions were made, in one sentence."""
        record = self.record()
        column = record["cross_validate"]
        how = f"leave one {column} out" if column else "fitted on the training split"
        return f"{self.system}: {', '.join(record['targets'])} decoded from {record['voxels']:,} voxels, {how}."

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what the targets of the store were made by, and the networks that images were generated with."""
        names = [name for name in self.chosen["sources"] if name in store.targets_available]
        return {
            **{name: store.about_target(name)[1] for name in names},
            **{f"network {role}": made for role, made in self.chosen["networks"].items()},
            **self.chosen["metric_weights"],
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of images and scores, and that of decoded targets."""
        return super().tables() | ({} if self.features is None else {"features": self.features})

    def folders(self, store: Store) -> dict[str, Callable[[Path], None]]:
        """Return what writes the reconstructions as Zarr, and as image files."""
        found: dict[str, Callable[[Path], None]] = {"reconstructions.zarr": self._write_zarr}
        kind, rate = ("images" if self.seen.ndim == 4 else "videos"), store.frames_per_second or FRAME_RATE
        found[kind] = functools.partial(_write_images, self.stimuli, self.reconstructed, rate)
        if self.seen.ndim == 5:
            pairs = {"seen": self.seen, "reconstructed": self.reconstructed}
            found["pairs"] = functools.partial(write_side_by_side, self.stimuli, pairs, rate, store.simulated)
        if self.all_seeds is not None:
            for number, seed in enumerate(self.chosen["seeds"][1:], 1):
                images = self.all_seeds[:, number]
                found[f"{kind}_seed{seed}"] = functools.partial(_write_images, self.stimuli, images, rate)
        if self.trials is not None:
            ids, images = self.trials
            names = [f"{name}_trial{number}" for name, number in zip(ids, _counted(ids), strict=True)]
            images = images if self.all_seeds is None else images[:, 0]
            found["trials"] = functools.partial(_write_images, names, images, rate)
        return found

    def _write_zarr(self, path: Path) -> None:
        import xarray

        inner = ("y", "x", "rgb") if self.seen.ndim == 4 else ("frame", "y", "x", "rgb")
        seed = () if self.all_seeds is None else ("seed",)
        images = self.reconstructed if self.all_seeds is None else np.moveaxis(self.all_seeds, 1, 0)
        arrays: dict[str, Any] = {"reconstructed": ((*seed, "stimulus", *inner), images)}
        # As objects, because Zarr has no stable format for text of fixed width.
        coordinates: dict[str, Any] = {"stimulus": ("stimulus", np.array(self.stimuli, dtype=object))}
        if seed:
            coordinates["seed"] = ("seed", np.array(self.chosen["seeds"]))
        for name, control in self.controls.items():
            key = name.replace(" ", "_")
            # The mean training image has the size of the stimuli, which is not that of the generator.
            own = inner if control.shape[1:] == self.reconstructed.shape[1:] else [f"{dim}_{key}" for dim in inner]
            arrays[key] = (("stimulus", *own), control)
        if self.trials is not None:
            ids, of_trials = self.trials
            of_trials = of_trials if self.all_seeds is None else np.moveaxis(of_trials, 1, 0)
            arrays["trials"] = ((*seed, "trial", *inner), of_trials)
            coordinates["trial_stimulus"] = ("trial", ids.astype(object))
        chunks = {name: {"chunks": tuple(1 if dim in ("seed", "stimulus", "trial") else size for dim, size in
                                         zip(dims, values.shape, strict=True))}
                  for name, (dims, values) in arrays.items()}  # fmt: skip
        # `neurorecon evaluate` names the networks, too, and refuses another split.
        about = {"system": self.system, "subject": self.subject, "networks": self.chosen["networks"]}
        about["split_column"] = "" if self.store is None else self.store.split_column or ""
        dataset = xarray.Dataset(arrays, coordinates, about)
        dataset.to_zarr(path, encoding=chunks, zarr_format=3, consolidated=False)

    def text(self, store: Store) -> str:
        """Return how the reconstructions were made, and a table of the scores."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [f"\n{self.subject} · {store.label} ({label}) · {self.task}", super().text(store)]
        whole = [] if self.features is None else self.features[self.features["part"] == "all"].to_dict("records")
        lines += [
            f"decoded {row['target']}: profile correlation {row['profile']:.3f} (p {row['profile p']:.3f}), "
            f"pattern correlation {row['pattern']:.3f} (p {row['pattern p']:.3f})"
            for row in whole
        ]
        return "\n".join(lines)

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def beside(self) -> list[Result]:
        """Return the comparison with controls."""
        return [] if self.comparison is None else [self.comparison]

    def rows(self) -> dict[str, np.ndarray]:
        """Return the rows of the contact sheet: the stimuli, what could be reconstructed, what is, and the controls."""
        others = {name: images for name, images in self.controls.items() if name in ("mean response", "another trial")}
        best = {"oracle": self.controls["oracle"]} if "oracle" in self.controls else {}
        stages = {f"first stage ({name})": images for name, images in self.stages.items()}
        return {"seen": self.seen, **best, **stages, "reconstructed": self.reconstructed, **others}

    def sections(self) -> list[Section]:
        """Return the sections of the report about decoded targets and controls."""
        from neurorecon.figures import Section, Table

        found = []
        if self.features is not None:
            said = (
                "Profile correlation: of each feature over stimuli, averaged. Pattern correlation: of each stimulus "
                "over features, after the training mean was subtracted from both (pattern_raw: it was not)."
            )
            whole = self.features[self.features["part"] == "all"].drop(columns="part")
            formats = {"features": "d", "n_undefined": "d"}
            table = Table.from_frame(whole, "Decoded against true targets of the test stimuli", formats=formats)
            found.append(Section("Decoded targets", said, [table]))
        if self.comparison is None:
            return found
        said = (
            "Controls do without the response to the stimulus: the mean training response, what was decoded from "
            "another stimulus, and the mean training image. The oracle generates from the true targets."
        )
        tables = [
            Table.from_frame(self.comparison.table, "Means over stimuli with their intervals"),
            Table.from_frame(self.comparison.differences, "Paired differences between the system and each control"),
        ]
        return [*found, Section("Controls", said, tables)]

    @property
    def rebuilt(self) -> np.ndarray:
        """The former name of `reconstructed`."""
        warnings.warn("Reconstruction.rebuilt is deprecated; use .reconstructed", DeprecationWarning, stacklevel=2)
        return self.reconstructed

    def __getattr__(self, name: str) -> np.ndarray:
        """Return the values of a metric by its former name, which was an attribute."""
        if name not in FORMER_NAMES or FORMER_NAMES[name] not in self.values:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = FORMER_NAMES[name]
        warnings.warn(f"Reconstruction.{name} is deprecated; use .values[{found!r}]", DeprecationWarning, stacklevel=2)
        return self.values[found]


def reconstruct(
    store: Store,
    system: str | System = "linear-pixels",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    models: str | None = None,
    cross_validate: str | None = None,
    exchange: str | None = None,
    n_permutations: int = 1000,
    n_stimuli: int | None = None,
    train_sessions: int | None = None,
    single_trials: bool = False,
    seeds: int = 1,
    center: Within | Literal["auto"] | None = "auto",
    scale: Within | Literal["auto"] | None = "auto",
    controls: bool | None = None,
    seed: int = 0,
    device: str = "cpu",
    folder: str | Path | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Reconstruction:
    """Reconstruct what a subject saw.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; it has to hold the stimuli and the targets of the system.
    system : str or System
        A registered name, the folder of a saved system, or a system. A fitted system is not fitted again.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels, or those of a fitted system.
    task : str, optional
        By default the one with the most stimuli that have all targets.
    metrics : sequence of str, optional
        Registered names; by default those of the system, else those of the registry.
    options : mapping, optional
        Parameters of a system that is given by name, e.g. ``{"preset": "released", "guidance": 5}``.
    models : {"bundled", "published"} or path, optional
        Networks of the system and of the metrics; by default those of the system.
    cross_validate : {"category", "stimulus", "session", "run"}, optional
        Hold out one value of this at a time. By default the system is fitted on the training split and reconstructs
        the test split.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        Exchange the pairs of the null freely, or only between stimuli of the same category, session or run, or shift
        the order of stimuli within runs. The null of a session keeps what can be told from the session alone. By
        default pairs stay within sessions that show different stimuli, and are shifted where similar stimuli follow one
        another; ``record()["exchange"]`` says what was chosen.
    n_permutations : int
        Of the null.
    n_stimuli : int, optional
        Reconstruct at most this many test stimuli, spread evenly over categories; by default all.
    train_sessions : int, optional
        Fit to the first so many sessions that have training samples; by default to all.
    single_trials : bool
        Reconstruct each trial of the test split. By default the responses to a test stimulus are averaged over its
        repeats.
    seeds : int
        Generate with the seeds `seed`, `seed` + 1, ..., and average the scores of each stimulus over them.
    center, scale : {"auto", "session", "run"}, optional
        Center and scale responses within each session or run, as for :meth:`Store.responses`; None: not at all. By
        default by session where sessions are confounded with stimuli or splits; the record says why.
    controls : bool, optional
        Also generate and score controls, see :mod:`neurorecon.analyses.controls`: ``.comparison`` of the result. By
        default for systems with networks that generate images, by split, of averaged responses.
    seed : int
        Of the permutations, and the first of the noise that images are generated from.
    device : str
        Where a system with a parameter `device` computes.
    folder : path, optional
        Folder of fits. A fit of the same system to the same samples is loaded from it, and an interrupted one resumes;
        else the decoders are saved there. By default decoders are not saved. Not for cross-validation.
    compute : Compute
        Who computes. In its folder, decoded targets and images are kept as soon as they are there, and the same call
        resumes; see :meth:`neurorecon.System.fit_decode`.

    Returns
    -------
    Reconstruction
        ``record()["null"]`` names the null: the system is refitted for each permutation of a cross-validation if it can
        be refitted exactly, else each reconstruction is scored against another stimulus.

    Raises
    ------
    UnknownNameError
        If a name does not exist.
    InputError
        If the store has no test split and `cross_validate` is not given, or if the arguments contradict each other.

    Examples
    --------
    >>> import neurorecon as nr
    >>> store = nr.open_store("stores/scenes.icechunk")
    >>> found = nr.reconstruct(store, "linear-pixels", "subj01", "early", task="images", n_permutations=19)
    >>> found.values["pixcorr"].shape == (len(found.stimuli),)
    True
    """
    given = system if isinstance(system, System) else None
    if given is not None and options:
        raise InputError(
            "options are for a system that is given by name",
            given=f"a {type(given).__name__} and the options {', '.join(options)}",
            todo="change the system itself: system.set_params(...)",
        )
    settings = ReconstructSettings(
        system=system.name if isinstance(system, System) else system, options=dict(options or {}), roi=roi, task=task,
        metrics=metrics, models=models, cross_validate=cross_validate, exchange=exchange,
        n_permutations=n_permutations, n_stimuli=n_stimuli, train_sessions=train_sessions, seed=seed,
        single_trials=single_trials,
        seeds=seeds, center=center, scale=scale, controls=controls, device=device,
    )  # fmt: skip
    name = store.subjects[0] if subject is None else subject
    return compute_reconstruction(store, name, settings, compute, system=given, folder=folder)


def compute_reconstruction(
    store: Store,
    subject: str,
    settings: ReconstructSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
    folder: str | Path | None = None,
    reuse: str | Path | None = None,
) -> Reconstruction:
    """Do what :func:`reconstruct` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose brain.
    settings : ReconstructSettings
        What to reconstruct, and how.
    compute : Compute
        Who computes.
    system : System, optional
        A system in place of the one that the settings name.
    folder : path, optional
        Folder of fits, from which they are loaded and to which they are saved.
    reuse : path, optional
        Folder of fits, to which no new ones are saved.
    """
    if settings.cross_validate is not None and folder is not None:
        raise InputError(
            "cross-validation fits a new system for each label",
            given=f"cross_validate={settings.cross_validate!r}, folder={folder}",
            expected="no folder",
            todo="leave the folder out",
        )
    job = prepare(store, subject, settings, compute, system)
    if settings.cross_validate is not None:
        return _cross_validated(job)
    return _by_split(job, *(None if place is None else Path(place) for place in (folder, reuse)))


def prepare(
    store: Store,
    subject: str,
    settings: ReconstructSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    system: System | None = None,
) -> Job:
    """Choose everything that a reconstruction starts from, and compute targets that the store lacks.

    Parameters are those of :func:`compute_reconstruction`. Bad input is refused before anything is computed.
    """
    built = system_of(settings) if system is None else system
    fitted, roi = hasattr(built, "decoders_"), settings.rois
    if fitted and roi is None:
        roi = built.provenance_["roi"]
    if settings.cross_validate is None:
        _require_same_split(built, store)
    if settings.cross_validate is not None and fitted:
        raise InputError(
            "cross-validation fits a new system for each label",
            given=f"cross_validate={settings.cross_validate!r}, a fitted system",
            expected="a system that is not fitted",
            todo="name the system or pass one that is not fitted",
        )
    if not fitted:
        built = clone(built)  # what the caller passed stays as it is
    models = settings.models
    if models is None and "models" in built.get_params():
        models = str(built.get_params()["models"])
    networks_of(built)  # missing weights, and an adapter of other weights, show before anything is computed
    metrics = choose_metrics(
        settings.metrics, built.metrics, built.kinds[0], store, models=models, device=settings.device
    )
    _require_use_of_models(settings, built, metrics)
    store.voxels(subject, roi)  # wrong names show before targets are computed
    store = built.with_targets(store, settings.asked_models, compute.progress)
    if settings.seeds > 1:
        metrics = {name: SeedMean.over(metric) for name, metric in metrics.items()}
    return job_of(store, subject, roi, built, metrics, settings, compute)


def _require_same_split(system: System, store: Store) -> None:
    """Refuse decoders or an adapter that were trained with another split: they may have seen what is tested."""
    trained: dict[str, Any] = {}
    if hasattr(system, "decoders_") and system.provenance_["store"] is not None:
        trained["decoders"] = system.provenance_.get("split_column")
    if getattr(system, "adapter", None) is not None:
        about = read_adapter(system.get_params()["adapter"]).trained_on
        if about.get("store") == store.name:
            trained["adapter"] = about.get("split_column")
    for what, column in trained.items():
        if column != store.split_column:
            own, asked = (f"the split column {name}" if name else "the split that the store was built with"
                          for name in (column, store.split_column))  # fmt: skip
            raise InputError(
                "this system was fitted to the training stimuli of another split",
                given=f"its {what}: {own}; to test with {asked}",
                expected="the same split, as what is tested here may have been trained on there",
                todo=f"use --split-column {column}" if column else "leave --split-column out, or train again with it",
            )


def compute_fit(
    store: Store,
    subject: str,
    settings: ReconstructSettings,
    folder: str | Path,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> tuple[System, Path]:
    """Fit a system to the training split, or load the same fit; an interrupted one resumes.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose brain.
    settings : ReconstructSettings
        Those of the system and of the responses count.
    folder : path
        Folder of fits, where :func:`reconstruct` finds it.
    compute : Compute
        Who computes.

    Returns
    -------
    System
        Fitted.
    Path
        Its folder, which :func:`neurorecon.load_system` reads.
    """
    system = system_of(settings)
    _require_use_of_models(settings, system, {})
    if hasattr(system, "decoders_"):
        raise InputError(
            "this system is fitted already",
            given=settings.system,
            expected="the name of a system",
            todo="reconstruct with it, or name a system",
        )
    store.voxels(subject, settings.rois)  # wrong names show before targets are computed
    store = system.with_targets(store, settings.asked_models, compute.progress)
    job = job_of(store, subject, settings.rois, system, {}, settings, compute)
    require_train_split(store, subject, job.task)
    train = job.training()
    place = Path(folder) / fit_name(system, train)
    system.fit(store, subject, samples=train, folder=place, compute=compute)
    return system, place


def fit_name(system: System, train: Recordings, *, alone: bool = False) -> str:
    """Return the name of the folder of a fit: subject, system and a digest of what determines the decoders."""
    return f"{train.subject}_{system.name}_{system.fit_digest(train, alone=alone)[:12]}"


def job_of(
    store: Store,
    subject: str,
    roi: str | list[str] | None,
    system: System,
    metrics: Mapping[str, Metric],
    settings: ReconstructSettings,
    compute: Compute,
) -> Job:
    """Choose the task, and what responses are centered and scaled within.

    Parameters
    ----------
    store : Store
        With the targets of the system.
    subject, roi
        Whose voxels.
    system : System
        Fitted or not.
    metrics : mapping of str to Metric
        By which images will be scored.
    settings : ReconstructSettings
        What the user asked for.
    compute : Compute
        Who computes.
    """
    sources = system.sources
    warn_of_bundled(store, [name for name in sources if name in store.targets_available])
    task = choose_shown_task(store, subject, sources, settings.task)
    if not hasattr(system, "decoders_"):
        centering = choose_centering(store, subject, task, settings.center, settings.scale)
    else:
        names: dict[str, Within] = {"session": "session", "run": "run"}
        before = [names.get(system.provenance_.get(name, "no")) for name in ("centered", "scaled")]
        asked = [settings.center, settings.scale]
        if any(name not in ("auto", kept) for name, kept in zip(asked, before, strict=True)):
            raise InputError(
                "a fitted system takes responses that are centered and scaled as they were for its fit",
                given=f"center={asked[0]}, scale={asked[1]}",
                expected=f"center={before[0]}, scale={before[1]}",
                todo="leave center and scale out, or fit the system again",
            )
        centering = Centering(before[0], before[1], "as for the fit")
    fitted = hasattr(system, "decoders_")
    return Job(store, subject, roi, task, system, metrics, settings, compute, centering, fitted)


def system_of(settings: ReconstructSettings) -> System:
    """Return the system that the settings name, with the networks and on the device that they name."""
    system: System = load_system(settings.system, **settings.options)
    if settings.models is not None and "models" in system.get_params():
        system.set_params(models=settings.models)
    takes = "device" in system.get_params()
    if settings.device != "cpu" and not takes:
        raise InputError(
            f"the system {system.name!r} has no choice of device",
            given=f"device {settings.device!r}",
            expected="no device",
            todo="leave the device out",
        )
    if takes and "device" not in settings.options:
        system.set_params(device=settings.device)
    return system


def _require_use_of_models(settings: ReconstructSettings, system: System, metrics: Mapping[str, Metric]) -> None:
    """Refuse a choice of networks where neither the system nor a metric has one."""
    used = "models" in system.get_params() or any(metric.network is not None for metric in metrics.values())
    if settings.models is not None and not used:
        raise UnknownNameError(f"parameter of the system {system.name!r}:", "models", list(system.get_params()))


@dataclass(frozen=True)
class Job:
    """What a reconstruction starts from, after all defaults were chosen; from :func:`prepare`."""

    store: Store
    subject: str
    roi: str | list[str] | None
    task: str
    system: System
    metrics: Mapping[str, Metric]
    settings: ReconstructSettings
    compute: Compute
    centering: Centering
    fitted: bool

    @property
    def seeds(self) -> list[int]:
        """The seeds of the noise that images are generated from."""
        return [self.settings.seed + number for number in range(self.settings.seeds)]

    def read(self, **which: Any) -> Recordings:
        """Read samples; parameters are those of :meth:`Recordings.read`."""
        return Recordings.read(
            self.store, self.subject, self.roi, task=self.task, center=self.centering.center,
            scale=self.centering.scale, **which,
        )  # fmt: skip

    def training(self) -> Recordings:
        """Read the training split, with repeats averaged unless the system trains on samples."""
        averages, sessions = self.system.trains_on == "stimuli", self.settings.train_sessions
        if averages and sessions is None:
            return self.read(split="train")
        samples = self.store.samples(self.subject)
        chosen = (samples["task"] == self.task) & (samples["split"] == "train")
        if sessions is not None:
            chosen &= samples["session"].isin(self.training_sessions()[:sessions])
        found = self.read(rows=np.flatnonzero(chosen))
        return found.averaged() if averages else found

    def training_sessions(self) -> list[Any]:
        """Return the sessions that have training samples, in order."""
        samples = self.store.samples(self.subject)
        there = sorted(set(samples.loc[(samples["task"] == self.task) & (samples["split"] == "train"), "session"]))
        if self.settings.train_sessions is not None and self.settings.train_sessions > len(there):
            raise InputError(
                f"{self.subject} has fewer sessions with training samples",
                given=f"train_sessions={self.settings.train_sessions}, task {self.task!r}",
                expected=f"1 to {len(there)}",
                todo="leave it out to train on all",
            )
        return there

    def decode(
        self,
        responses: Any,
        train: Recordings,
        *,
        alone: bool = False,
        folder: Path | None = None,
        reuse: Path | None = None,
        standardized: bool = False,
    ) -> Decoded:
        """Return the decoded targets of responses; fit what is not fitted yet.

        Parameters
        ----------
        responses : DataArray, dims (stimulus, voxel)
        train : Recordings
            The training samples.
        alone : bool
            As for :meth:`neurorecon.System.fit`.
        folder, reuse : path, optional
            Folders of fits, as for :func:`compute_reconstruction`.
        standardized : bool
            As for :meth:`neurorecon.System.decode`.
        """
        if self.fitted:
            return self.system.decode(responses, standardized=standardized)
        place = None
        for parent in (folder, reuse):
            if parent is not None and place is None:
                named = parent / fit_name(self.system, train, alone=alone)
                place = named if parent is folder or named.is_dir() else None
        how: dict[str, Any] = {"samples": train, "alone": alone, "compute": self.compute}
        if place is None:
            return self.system.fit_decode(self.store, self.subject, responses, standardized=standardized, **how)
        self.system.fit(self.store, self.subject, folder=place, **how)
        return self.system.decode(responses, standardized=standardized)

    def result(
        self,
        stimuli: list[str],
        seen: np.ndarray,
        reconstructed: np.ndarray,
        scored: tuple[dict[str, np.ndarray], list[Score], Mapping[str, np.ndarray]],
        alone: bool,
        chosen: dict[str, Any],
        orders: np.ndarray,
        exchange: Exchange,
        trials: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Reconstruction:
        """Return the result, with everything that was chosen in its record."""
        values, scores, null = scored
        parameters = self.system.get_params(deep=False)
        record = exchange_record(exchange, 1 / (1 + len(orders)), self.settings.n_permutations)
        renorm = [name for name, spec in self.system.targets.items() if getattr(spec.decoder, "renorm", None) == "test"]
        if alone and renorm:
            chosen |= {"renorm": f"train instead of test in {', '.join(renorm)}: a single stimulus was held out"}
        return Reconstruction(
            subject=self.subject,
            task=self.task,
            system=self.system.name,
            settings=self.settings,
            chosen={
                "system": self.system.name,
                "options": {name: plain_parameter(value) for name, value in parameters.items()},
                "targets": list(self.system.targets),
                "sources": self.system.sources,
                "learned_elsewhere": self.system.elsewhere_,
                "networks": networks_of(self.system),
                "roi": self.roi,
                "task": self.task,
                "metrics": list(self.metrics),
                "metric_weights": weights_of(self.metrics),
                "device": str(parameters.get("device", self.settings.device)),
                "voxels": len(self.store.voxels(self.subject, self.roi)),
                "delays": list(peak_delays(self.store, self.subject, self.task)),
                "centering": {name: getattr(self.centering, name) for name in ("center", "scale", "reason")},
                "seeds": self.seeds,
                "compared_at": list(seen.shape[-3:-1]),
                "n_permutations": len(orders),
                **record,
                **chosen,
                "warnings": [*self.centering.warnings, *record["warnings"]],
            },
            stimuli=stimuli,
            seen=seen.astype(np.float32),
            reconstructed=reconstructed if self.settings.seeds == 1 else reconstructed[:, 0],
            values=values,
            scores=[replace(score, name=f"{self.subject} {score.name}") for score in tested(scores, exchange)],
            null=dict(null),
            store=self.store,
            all_seeds=None if self.settings.seeds == 1 else reconstructed,
            trials=trials,
            categories=categories_of(self.store, stimuli),
            named=names_of(
                self.metrics, reconstructed if self.settings.seeds == 1 else reconstructed[:, 0], seen.shape[-3:-1]
            ),
        )


def _by_split(job: Job, folder: Path | None, reuse: Path | None) -> Reconstruction:
    store, subject, system, settings = job.store, job.subject, job.system, job.settings
    samples = store.samples(subject)
    part = samples[samples["task"] == job.task]
    splits = set(part["split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"the task {job.task!r} has no held-out stimuli",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test', or a column to cross-validate over",
            todo="add --cross-validate category (or stimulus, run, session)",
        )
    # The training split is read here, once: its mean image is the baseline.
    train = job.training()
    rows = part.index[part["split"] == "test"].to_numpy()
    test = job.read(rows=rows) if settings.single_trials else job.read(split="test")
    if settings.n_stimuli is not None:
        tested = np.unique(test.stimuli)
        chosen_stimuli = tested[some_stimuli(store, tested, settings.n_stimuli)]
        test = test.take(np.flatnonzero(np.isin(test.stimuli, chosen_stimuli)))
    shown, names = pd.factorize(test.stimuli)
    ids, alone = [str(name) for name in names], len(test.table) == 1
    require_stimuli(job.metrics, len(ids))
    runs = [set(zip(rows["session"], rows["run"], strict=True)) for _, rows in part.groupby(part["split"] == "test")]
    orders, exchange = exchange_orders(
        store, subject, ids, settings, shown_by(system), shared_runs=bool(set.intersection(*runs))
    )
    decode = functools.partial(job.decode, train=train, alone=alone, folder=folder, reuse=reuse)
    decoded, for_controls = _with_controls(job, train, test, decode)
    generated = generate_parts(system, decoded, job.seeds, job.compute)
    reconstructed = generated[:, 0] if settings.seeds == 1 else generated
    first = np.unique(shown, return_index=True)[1]
    seen = np.asarray(test.take(first).target(shown_by(system)).data).astype(np.float32)
    baseline = np.asarray(train.target(shown_by(system)).data.mean(axis=0, dtype=np.float32))
    chosen: dict[str, Any] = {"null": "exchanged pairs", "train_samples": len(train.table), "test_stimuli": len(ids)}
    trials = None
    if settings.single_trials:
        of_trials = np.broadcast_to(baseline, (len(shown), *baseline.shape))
        found = HeldOut(
            stimuli=np.asarray(ids), seen=seen, reconstructed=mean_by(reconstructed, shown),
            baseline=np.broadcast_to(baseline, seen.shape), shown=shown, samples=reconstructed,
            baseline_samples=of_trials, alphas={}, alone=alone,
        )  # fmt: skip
        context = context_of(store, ids)
        null = exchanged_null(found, job.metrics, orders, context)
        scored = (*held_out_scores(found, job.metrics, null, context), null)
        trials, reconstructed = (np.asarray(ids)[shown], reconstructed), found.reconstructed
        chosen |= {"test_trials": len(shown)}
    else:
        scored = score_pairs(
            job.metrics, seen, reconstructed, orders,
            context=context_of(store, ids, decoded=decoded), baseline=baseline,
        )  # fmt: skip
    alphas = alphas_of(system)
    if alphas is not None:
        chosen["alpha"] = alphas
    result = job.result(ids, seen, reconstructed, scored, alone, chosen, orders, exchange, trials)
    if not settings.single_trials:
        stages = system.stages(decoded, seed=settings.seed)
        result = replace(
            result,
            stages={name: images.values for name, images in stages.items()},
            features=_features(job, decoded, orders, exchange),
        )
    return result if for_controls is None else _compared(result, job, for_controls, generated)


def some_stimuli(store: Store, ids: np.ndarray, most: int | None) -> np.ndarray:
    """Return which stimuli are used, in their order: at most so many, spread evenly over categories."""
    if most is None or len(ids) <= most:
        return np.arange(len(ids))
    categories = store.stimuli.set_index("id")["category"].loc[ids.tolist()].to_numpy(str)
    order = np.argsort(categories, kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, most).round().astype(int)])


def _features(job: Job, decoded: Decoded, orders: np.ndarray, exchange: Exchange) -> pd.DataFrame | None:
    """Return how well each target was decoded, with the null of the scores of images."""
    if len(decoded.stimuli) < 2 or not len(decoded):
        return None
    found = []
    for name, spec in job.system.targets.items():
        if name not in decoded:
            continue
        array = decoded[name]
        true = stored_target(job.store, spec.source, decoded.stimuli.tolist())
        parts = parts_of(true.dims[1:], true.shape[1:], true.attrs)
        mean = decoded.training[name][0] if name in decoded.training else None
        table = feature_table(np.asarray(true.data), array.values, orders, mean, parts, seed=job.settings.seed)
        table.insert(0, "target", name)
        found.append(table)
    table = pd.concat(found, ignore_index=True)
    tests = ["profile p", "pattern p"]
    return table if exchange.valid else table.assign(**dict.fromkeys(tests, np.nan))


def _with_controls(
    job: Job, train: Recordings, test: Recordings, decode: Callable[[Any], Decoded]
) -> tuple[Decoded, Decoded | None]:
    """Decode the test samples; for controls, also with the mean training response beside them."""
    system, responses = job.system, test.labeled_responses().astype(np.float64)
    wanted = job.settings.controls
    if wanted is None:
        has_networks = bool(system.networks) or "models" in system.get_params()
        wanted = has_networks and not job.settings.single_trials and len(responses) > 1
    if not wanted:
        return decode(responses), None
    import xarray

    mean = train.labeled_responses().astype(np.float64).mean("stimulus").expand_dims(stimulus=[MEAN_RESPONSE])
    both = xarray.concat([responses, mean], "stimulus")
    if any(getattr(spec.decoder, "renorm", None) == "test" for spec in system.targets.values()):
        return decode(responses), decode(both)  # what is decoded depends on what is decoded with it
    whole = decode(both)
    return whole.take(np.arange(len(responses))), whole


def _compared(result: Reconstruction, job: Job, decoded: Decoded, generated: np.ndarray) -> Reconstruction:
    """Generate the controls with each seed, and return the result with a comparison."""
    ids, settings = [name for name in decoded.stimuli if name != MEAN_RESPONSE], job.settings
    images = {job.system.name: [as_images(generated[:, number], ids) for number in range(settings.seeds)]}
    for seed in job.seeds:
        for name, control in controls(job.system, job.store, decoded, seed, compute=job.compute).items():
            images.setdefault(name, []).append(control)
    of = CompareSettings(
        source=f"{job.system.name} and its controls", metrics=list(job.metrics), n_permutations=settings.n_permutations,
        seed=settings.seed, exchange=settings.exchange, subject=job.subject, models=settings.models,
        device=settings.device,
    )  # fmt: skip
    found = compute_comparison(images, job.store, of, progress=job.compute.progress)
    return replace(
        result,
        comparison=replace(found, kind=f"{job.system.name}_comparison"),
        controls={name: images[name][0].values for name in images if name != job.system.name},
    )


def _cross_validated(job: Job) -> Reconstruction:
    store, column = job.store, job.settings.cross_validate
    recordings = job.read()
    if column == "category":
        labels = store.stimuli.set_index("id")["category"].loc[recordings.stimuli.tolist()].to_numpy(str)
    else:
        labels = recordings.table[column].to_numpy(str)
    require_stimuli(job.metrics, len(set(recordings.stimuli.tolist())))
    found = cross_validate(job.system, recordings, labels, seeds=job.seeds, compute=job.compute)
    ids = found.stimuli.tolist()
    refits = type(job.system).exact_null is not System.exact_null
    orders, exchange = exchange_orders(
        store, job.subject, ids, job.settings, shown_by(job.system),
        shared_runs=not refits and column not in ("run", "session"),
    )  # fmt: skip
    context = context_of(store, ids)
    null = refitted_null(job.system, recordings, labels, found, job.metrics, orders, context)
    chosen: dict[str, Any] = {"null": "exchanged pairs" if null is None else "refitted for each permutation"}
    chosen |= {"samples": len(labels), "stimuli": len(ids)} | ({"alphas": found.alphas} if found.alphas else {})
    if null is None:
        null = exchanged_null(found, job.metrics, orders, context)
    values, scores = held_out_scores(found, job.metrics, null, context)
    scored = values, scores, null
    return job.result(ids, found.seen, found.reconstructed, scored, found.alone, chosen, orders, exchange)


def _write_images(names: Sequence[str], images: np.ndarray, rate: float, folder: Path) -> None:
    """Write images as PNG, or videos as MP4 with `rate` frames per second, called as their stimuli."""
    from PIL import Image

    folder.mkdir()
    for name, values in zip(names, images, strict=True):
        file, values = file_name(name), np.round(values * 255).astype(np.uint8)
        if values.ndim == 3:
            Image.fromarray(values).save(folder / f"{file}.png")
        else:
            (folder / f"{file}.mp4").write_bytes(mp4_bytes(values, rate))


def write_side_by_side(
    names: Sequence[str], videos: Mapping[str, np.ndarray], rate: float, simulated: bool, folder: Path
) -> None:
    """Write videos side by side, as MP4 and GIF, called as their stimuli.

    Parameters
    ----------
    names : sequence of str
        Ids of the stimuli.
    videos : mapping of str to array, shape (stimulus, frame, y, x, rgb)
        By label; all are shown in the size of the first.
    rate : float
        Frames per second.
    simulated : bool
        Whether to say that data are simulated.
    folder : path
        Created.
    """
    from neurorecon.figures import side_by_side

    folder.mkdir()
    size = next(iter(videos.values())).shape[-3:-1]
    for number, name in enumerate(names):
        each = {label: resized(values[number], size) for label, values in videos.items()}
        frames = side_by_side(each, simulated=simulated)
        for suffix, encode in ((".mp4", mp4_bytes), (".gif", gif_bytes)):
            (folder / f"{file_name(name)}{suffix}").write_bytes(encode(frames, rate))


def _counted(labels: np.ndarray) -> list[int]:
    """Return how often each label occurred so far, from 1."""
    return [int(number) + 1 for number in pd.Series(labels).groupby(labels).cumcount()]
