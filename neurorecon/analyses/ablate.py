"""What does each part of a system contribute? Ablations of any system, cell by cell, in one table.

A cell is one variation of a system: another set of parameters, other voxels or training samples, or an intervention on
what was decoded. Each cell reconstructs the same test stimuli with the same noise, and is compared with the full system
stimulus by stimulus. :data:`VARIATIONS` names what can be varied; any other parameter of a system can be varied by
naming its values.

Cells are independent jobs of :func:`neurorecon.parallel.run`: an interrupted ablation resumes, and a cluster computes
many cells at a time.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import clone

from neurorecon.analyses.ablation_result import FULL, Ablation, table_of
from neurorecon.analyses.audit import default_metrics
from neurorecon.analyses.controls import published_ablations, true_targets
from neurorecon.analyses.cross_validation import shown_by
from neurorecon.analyses.design import ReconstructSettings, require_test
from neurorecon.analyses.evaluate import context_of, exchange_orders, weights_of
from neurorecon.analyses.reconstruct import Job, prepare, some_stimuli
from neurorecon.analyses.results import exchange_record, plain_parameter
from neurorecon.decoders.samples import Recordings, Within, stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics.base import mean_of_defined
from neurorecon.metrics.image import as_unit_float, resized
from neurorecon.parallel import Compute, Results, ResultsFolder, run
from neurorecon.parallel.jobs import FOLDER
from neurorecon.store.store import Store
from neurorecon.systems.base import System, seed_of
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.generation import generate_parts, networks_of, source_of

#: What is varied by default.
DEFAULT = ("targets", "stages")

#: Shares of noise in the variance of the target of the first stage, and strengths of the diffusion after it.
_SHARES, _STRENGTHS = (0.25, 0.5, 0.75, 1.0), (0.3, 0.6, 0.9)

#: Shares of the features that MindDiffuser's second stage uses.
_K = (0.05, 0.1, 0.25, 0.5, 1.0)

#: Stimuli that the figure of images shows, and the pixels of their longer side that are kept.
_SHOWN, _PIXELS = 10, 128


@dataclass(frozen=True, kw_only=True)
class AblateSettings(ReconstructSettings):
    """Settings of ablations; those of :class:`ReconstructSettings` say what is reconstructed.

    Parameters
    ----------
    vary : tuple of str
        What is varied: names of :data:`VARIATIONS` or of parameters of the system, alone or with values:
        ``"noise"``, ``"rois=V1,FFA"``, ``"strength=0.3,0.6"``.
    n_bootstraps, level
        Of the intervals over stimuli.
    """

    vary: tuple[str, ...] = DEFAULT
    n_bootstraps: int = 10_000
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_count("n_bootstraps")
        self._require_rate("level")


# -- what is varied ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One variation of a system; what is not given is as in the full system.

    Parameters
    ----------
    variation, name : str
        What is varied, and the row of the table.
    parameters : mapping
        Of the system.
    roi : str, optional
        The voxels that all targets are decoded from.
    drop : tuple of str
        Targets that are left out.
    noise : (str, float), optional
        A target, and the share of its variance that is noise.
    groups : (str, int), optional
        A target, and how many of its first features are used; what follows comes from the prior.
    stage : str, optional
        Score this stage of the generation in place of the last.
    stimuli, sessions : int, optional
        Train on so many stimuli, or on those of the first sessions.
    other_samples : bool
        Train on single samples in place of averages, or on averages in place of single samples.
    repeats : int, optional
        Test on averages over so many repeats of each stimulus; scores are averaged over the averages.
    subject : str, optional
        Fit and test the system on another subject.
    """

    variation: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    roi: str | None = None
    drop: tuple[str, ...] = ()
    noise: tuple[str, float] | None = None
    groups: tuple[str, int] | None = None
    stage: str | None = None
    stimuli: int | None = None
    sessions: int | None = None
    other_samples: bool = False
    repeats: int | None = None
    subject: str | None = None

    @property
    def refits(self) -> bool:
        """Whether decoders are fitted to other samples or voxels than in the full system."""
        return bool(self.roi or self.stimuli or self.sessions or self.other_samples or self.subject)

    def changed(self, decoded: Decoded, seed: int) -> Decoded:
        """Return what was decoded, after the intervention of this cell.

        Noise has the mean and deviation of each feature over training samples; so has its mixture with what was
        decoded, if that is scaled to these moments.
        """
        if self.drop:
            decoded = decoded.drop(*self.drop)
        if self.noise is not None:
            name, share = self.noise
            mean = decoded.training[name][0]
            noise = decoded.noise(name, seed_of(seed, "noise in place of a target"))[name].values - mean
            mixed = mean + np.sqrt(1 - share) * (decoded[name].values - mean) + np.sqrt(share) * noise
            decoded = decoded.with_(**{name: mixed})
        if self.groups is not None:
            name, features = self.groups
            decoded = decoded.with_(**{name: decoded[name][:, :features]})
        return decoded


def _targets(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Leave out each target that generation can do without; several at once are joined by a plus sign."""
    targets = job.system.targets
    wanted = values or ([name for name, spec in targets.items() if not spec.required] if len(targets) > 1 else [])
    for value in wanted:
        names = str(value).split("+")
        for name in names:
            if name not in targets:
                raise UnknownNameError(f"target of the system {job.system.name!r}", name, targets)
            if targets[name].required or len(set(names)) == len(targets):
                raise InputError(
                    f"the system {job.system.name!r} cannot do without this target",
                    given=f"targets={value}",
                    expected="targets without which something can be generated",
                    todo="choose others",
                )
    return [Cell("targets", f"without {value}", drop=tuple(str(value).split("+"))) for value in wanted]


def _stages(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Score earlier stages of the generation, without what follows."""
    stimulus = stored_stimuli(job)[:1]
    there = list(job.system.stages(true_targets(job.system, job.store, stimulus), seed=job.settings.seed))
    for value in values:
        if value not in there:
            raise UnknownNameError(f"stage of the system {job.system.name!r}", str(value), there)
    return [Cell("stages", f"{name} alone", stage=str(name)) for name in values or there]


def _rois(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Decode all targets from one ROI; ``each`` stands for every single one."""
    groups = list(job.store.roi_groups)
    usual = [name for name in groups if name in ("LVC", "HVC")] or groups or ["each"]
    names = []
    for value in values or usual:
        names += list(job.store.rois(job.subject)) if value == "each" else [str(value)]
    for name in names:
        if not len(job.store.voxels(job.subject, name)):  # an unknown one is an error
            raise InputError(f"the ROI {name!r} has no voxels", given=job.subject, todo="choose another ROI")
    parameters: dict[str, Any] = {"rois": {}} if "rois" in job.system.get_params() else {}
    return [Cell("rois", f"{name} alone", parameters, roi=name) for name in dict.fromkeys(names)]


def _first_stage(job: Job, variation: str) -> str:
    """Return the target of the first stage, or refuse a system without one."""
    name = getattr(job.system, "first_stage", None)
    if name is None or name not in job.system.targets:
        raise InputError(
            f"the system {job.system.name!r} has no first stage that could be varied",
            given=f"vary {variation}",
            expected="a system of two stages, e.g. brain-diffuser",
            todo="vary something else",
        )
    return str(name)


def _numbers(name: str, values: Sequence[Any], low: float, high: float, whole: bool = False) -> list[Any]:
    """Return values, or refuse those that are not numbers in a range."""
    for value in values:
        known = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not known or (whole and not isinstance(value, int)):
            raise InputError(
                f"this value of {name} cannot be used",
                given=f"{name}={value}",
                expected=f"{'whole ' if whole else ''}numbers from {low:g} to {high:g}",
                todo=f"choose other values, or name {name} without any",
            )
    return list(values)


def _noise(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Put noise in place of the target of the first stage: a share of its variance."""
    target, shares = _first_stage(job, "noise"), _numbers("noise", values or _SHARES, 0, 1)
    return [Cell("noise", f"{share:.0%} noise in {target}", noise=(target, float(share))) for share in shares]


def _strength(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Change the strength of the diffusion, after the first stage and after noise in its place."""
    target = _first_stage(job, "strength")
    cells = []
    for value in _numbers("strength", values or _STRENGTHS, 0, 1):
        cells.append(Cell("strength", f"strength={value}", {"strength": value}))
        cells.append(Cell("strength", f"strength={value}, noise", {"strength": value}, noise=(target, 1.0)))
    return cells


def _groups(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Use the first groups of a VDVAE, up to a resolution or a number; the others come from the prior."""
    target = _first_stage(job, "groups")
    attrs = job.store.about_target(job.system.targets[target].source)[1]
    starts, sides = attrs.get("group_boundaries"), [shape[-1] for shape in attrs.get("group_shapes", [])]
    if starts is None:
        raise InputError(
            f"the target {target!r} does not consist of groups",
            given="vary groups",
            expected="a system whose first stage is a VDVAE: brain-diffuser, gru-two-stage",
            todo="vary something else",
        )
    resolutions = {f"{side}x{side}": sum(one <= side for one in sides) for side in dict.fromkeys(sides)}
    cells = []
    for value in values or list(resolutions):
        count = resolutions.get(str(value), value)
        _numbers("groups", [count], 1, len(starts) - 1, whole=True)
        name = f"{count} groups" + (f", to {value}" if str(value) in resolutions else "")
        if "groups" in job.system.get_params():  # decoded together, so another number is another fit
            cells.append(Cell("groups", name, {"groups": count}))
        else:
            cells.append(Cell("groups", name, groups=(target, int(starts[count]))))
    return cells


def _parameter(
    job: Job, values: Sequence[Any], *, variation: str = "", parameter: str = "", usual: Sequence[Any] = ()
) -> list[Cell]:
    """Give a parameter of the system other values."""
    parameter = parameter or variation
    known = list(job.system.get_params(deep=False))
    if parameter not in known:
        raise UnknownNameError(f"parameter of the system {job.system.name!r}:", parameter, known)
    if not values and not usual:
        raise InputError(
            f"the values of {parameter!r} are missing",
            given=f"vary {variation}",
            expected=f"{variation}=VALUE,VALUE",
            todo=f"name values, or vary one of {', '.join(VARIATIONS)}",
        )
    return [Cell(variation, f"{parameter}={value}", {parameter: value}) for value in values or usual]


def _guidance(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Guide by CLIP or by the category; of numbers, change the strength of the guidance."""
    if values and all(isinstance(value, int | float) for value in values):
        return _parameter(job, values, variation="guidance")
    return _parameter(job, values, variation="guidance", parameter="guidance_by", usual=("clip", "category"))


def _stimuli(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Train on some of the stimuli; a smaller set is part of a larger one."""
    there = len(set(job.training().stimuli.tolist()))
    counts = _numbers("stimuli", values or [max(2, there // part) for part in (8, 4, 2)], 2, there, whole=True)
    return [Cell("stimuli", f"{count} training stimuli", stimuli=count) for count in counts]


def _sessions(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Train on the first sessions."""
    there = len(job.training_sessions())
    usual = sorted({max(1, there // part) for part in (8, 4, 2)} - {there}) if there > 4 else range(1, there)
    counts = _numbers("sessions", values or list(usual), 1, there, whole=True)
    return [Cell("sessions", f"{count} of {there} sessions", sessions=count) for count in counts]


def _trials(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Test on averages over fewer repeats (a number), or train on single samples instead of averages (``train``)."""
    ranks = _repeats(job, stored_stimuli(job))
    most = int(ranks.groupby("stimulus").size().min())
    train = job.store.samples(job.subject)
    train = train[(train["task"] == job.task) & (train["split"] == "train")]
    repeated = bool(train["stimulus"].duplicated().any())
    other = "single samples" if job.system.trains_on == "stimuli" else "averages"
    cells = []
    for value in values or [*range(1, most), *(["train"] if repeated else [])]:
        if value == "train":
            if not repeated:
                raise InputError(
                    "every training stimulus was shown once", given="trials=train", expected="stimuli with repeats",
                    todo="vary the repeats of test stimuli: trials=1",
                )  # fmt: skip
            cells.append(Cell("trials", f"trained on {other}", other_samples=True))
        else:
            _numbers("trials", [value], 1, most, whole=True)
            cells.append(Cell("trials", f"{value} of {most} test repeats", repeats=value))
    return cells


def _subjects(job: Job, values: Sequence[Any]) -> list[Cell]:
    """Fit and test the system on other subjects."""
    for value in values:
        if value not in job.store.subjects:
            raise UnknownNameError("subject", str(value), job.store.subjects)
    others = [name for name in values or job.store.subjects if name != job.subject]
    return [Cell("subjects", str(name), subject=str(name)) for name in others]


#: What can be varied by name, and what plans the cells of it.
VARIATIONS: dict[str, Callable[[Job, Sequence[Any]], list[Cell]]] = {
    "targets": _targets,
    "stages": _stages,
    "rois": _rois,
    "noise": _noise,
    "strength": _strength,
    "groups": _groups,
    "k": functools.partial(_parameter, variation="k", usual=_K),
    "first-stage": functools.partial(
        _parameter, variation="first-stage", parameter="first_stage_decoder",
        usual=("ridge", "mlp", "gru", "cnn", "transformer"),
    ),
    "guidance": _guidance,
    "stimuli": _stimuli,
    "sessions": _sessions,
    "trials": _trials,
    "subjects": _subjects,
}  # fmt: skip


def plan_cells(job: Job, vary: Iterable[str]) -> list[Cell]:
    """Return the cells of an ablation, the full system first.

    Parameters
    ----------
    job : Job
        From :func:`neurorecon.analyses.reconstruct.prepare`.
    vary : iterable of str
        As for :class:`AblateSettings`.

    Raises
    ------
    UnknownNameError, InputError
        If something does not exist, or a system cannot be varied so.
    """
    cells = [Cell(FULL, FULL)]
    for text in vary:
        name, equals, given = text.partition("=")
        values = [_value(part) for part in given.split(",") if part]
        if equals and not values:
            raise InputError("values are missing", given=text, expected="NAME or NAME=VALUE,VALUE", todo="name some")
        known = job.system.get_params(deep=False)
        if name not in VARIATIONS and name not in known:
            raise UnknownNameError("variation", name, [*VARIATIONS, *known])
        plan = VARIATIONS.get(name, functools.partial(_parameter, variation=name))
        found = plan(job, values)
        if not found:
            raise InputError(
                f"there is nothing to vary: {name}",
                given=f"the system {job.system.name!r}, {job.subject}",
                expected="two or more of what is varied",
                todo="vary something else",
            )
        cells += found
    return list({cell.name: cell for cell in cells}.values())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- one cell ---------------------------------------------------------------------------------------------------------


def stored_stimuli(job: Job) -> list[str]:
    """Return the test stimuli of a subject that ablations use."""
    require_test(job.store, job.subject, job.task)
    settings: Any = job.settings
    ids = job.read(split="test").stimuli
    return [str(name) for name in ids[some_stimuli(job.store, ids, settings.n_stimuli)]]


def _repeats(job: Job, ids: Sequence[str]) -> pd.DataFrame:
    """Return the test samples of stimuli, each with the number of its repeat from 0: ``rank``."""
    samples = job.store.samples(job.subject)
    rows = samples[(samples["task"] == job.task) & (samples["split"] == "test") & samples["stimulus"].isin(set(ids))]
    rows = rows.sort_values(["session", "run", "time"], kind="stable")
    return rows.assign(rank=rows.groupby("stimulus").cumcount())


def _training(job: Job, cell: Cell) -> Recordings:
    """Return the training samples of a cell."""
    averages = (job.system.trains_on == "stimuli") != cell.other_samples
    samples = job.store.samples(job.subject)
    chosen = (samples["task"] == job.task) & (samples["split"] == "train")
    if cell.sessions is not None:
        chosen &= samples["session"].isin(job.training_sessions()[: cell.sessions])
        train = job.read(rows=np.flatnonzero(chosen))
        train = train.averaged() if averages else train
    elif cell.other_samples:
        train = job.read(split="train") if averages else job.read(rows=np.flatnonzero(chosen))
    else:
        train = job.training()
    if cell.stimuli is not None:
        order = np.random.default_rng(job.settings.seed).permutation(sorted(set(train.stimuli.tolist())))
        train = train.take(np.isin(train.stimuli, order[: cell.stimuli]))
    return train


def _test(job: Job, cell: Cell, ids: Sequence[str]) -> list[Recordings]:
    """Return the test samples of a cell, each set in the order of `ids`: averages over all repeats, or over some."""
    if cell.repeats is None:
        sets = [job.read(split="test")]
    else:
        ranks = _repeats(job, ids)
        most = int(ranks.groupby("stimulus").size().min()) // cell.repeats
        blocks = [ranks.index[ranks["rank"] // cell.repeats == block].to_numpy() for block in range(most)]
        sets = [job.read(rows=rows).averaged() for rows in blocks]
    places = [{name: place for place, name in enumerate(one.stimuli.tolist())} for one in sets]
    return [one.take(np.array([place[name] for name in ids])) for one, place in zip(sets, places, strict=True)]


def _orders(job: Job, ids: Sequence[str]) -> tuple[np.ndarray, Any]:
    """Return the exchanges of the null, and what trades places."""
    samples = job.store.samples(job.subject)
    rows = samples[(samples["task"] == job.task) & samples["split"].isin(["train", "test"])]
    runs = [set(zip(part["session"], part["run"], strict=True)) for _, part in rows.groupby("split")]
    return exchange_orders(
        job.store, job.subject, ids, job.settings, shown_by(job.system), shared_runs=bool(set.intersection(*runs))
    )


def _job_of(store: Store, subject: str, settings: AblateSettings, system: System, cell: Cell, compute: Compute) -> Job:
    """Return what a cell starts from; bad parameters and voxels are refused."""
    own = replace(settings, seeds=1, roi=settings.roi if cell.roi is None else cell.roi)
    job = prepare(store, subject if cell.subject is None else cell.subject, own, compute, system)
    return replace(job, settings=replace(own, seeds=settings.seeds))


def _computed(
    store: Store, subject: str, settings: AblateSettings, folder: str | Path, work: tuple[Cell, System]
) -> dict[str, np.ndarray]:
    """Reconstruct and score one cell.

    Returns
    -------
    dict of str to array
        ``value of METRIC``, (stimulus,) or (); ``null of METRIC``, (permutation,); ``shown``, (image, y, x, rgb);
        ``numbers``: voxels, mean noise ceiling, training samples, training stimuli.
    """
    import xarray

    cell, system = work
    job = _job_of(store, subject, settings, system, cell, Compute(folder=folder))
    ids, train = stored_stimuli(job), _training(job, cell)
    tests = [one.labeled_responses().astype(np.float64) for one in _test(job, cell, ids)]
    whole = job.decode(tests[0] if len(tests) == 1 else xarray.concat(tests, "stimulus"), train)
    changed = cell.changed(whole, settings.seed)
    shown = shown_by(job.system)
    seen = np.asarray(stored_target(job.store, shown, ids).values, dtype=np.float32)
    context, (orders, _) = context_of(job.store, ids), _orders(job, ids)
    values: dict[str, list[np.ndarray]] = {}
    nulls: dict[str, list[np.ndarray]] = {}
    kept = None
    for number in range(len(tests)):
        decoded = changed.take(np.arange(number * len(ids), (number + 1) * len(ids)))
        if cell.stage is None:
            made = generate_parts(job.system, decoded, job.seeds, job.compute, label=cell.name)
        else:
            several = [job.system.stages(decoded, seed=seed)[cell.stage].values for seed in job.seeds]
            made = np.stack(several, axis=1)
        for place in range(len(job.seeds)):
            images = resized(made[:, place], seen.shape[-3:-1])
            kept = images[_picked(len(ids))] if kept is None else kept
            for name, metric in job.metrics.items():
                found = metric.values(seen, images, context)
                values.setdefault(name, []).append(found)
                if found.ndim:
                    nulls.setdefault(name, []).append(metric.null(seen, images, orders, context))
    ceiling = job.store.noise_ceiling(job.subject, job.roi, job.task)
    numbers = [
        len(train.voxels), np.nan if ceiling is None else np.nanmean(ceiling), len(train.table),
        len(set(train.stimuli.tolist())),
    ]  # fmt: skip
    assert kept is not None, "there are two stimuli or more"
    return {
        **{f"value of {name}": np.asarray(mean_of_defined(np.stack(found))) for name, found in values.items()},
        **{f"null of {name}": np.mean(found, axis=0) for name, found in nulls.items()},
        "shown": _small(kept),
        "numbers": np.array(numbers, dtype=np.float64),
    }


def _picked(number: int) -> np.ndarray:
    return np.unique(np.linspace(0, number - 1, min(_SHOWN, number)).round().astype(int))


def _small(images: np.ndarray) -> np.ndarray:
    """Return images, or the middle frames of videos, as the figure of images shows them, uint8."""
    still = images if images.ndim == 4 else images[:, images.shape[1] // 2]
    longer = max(still.shape[1:3])
    if longer > _PIXELS:
        still = resized(still, (still.shape[1] * _PIXELS // longer, still.shape[2] * _PIXELS // longer))
    return np.round(as_unit_float(still) * 255).astype(np.uint8)


# -- all cells --------------------------------------------------------------------------------------------------------


def ablate(
    store: Store,
    system: str | System = "brain-diffuser",
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    vary: str | Sequence[str] = DEFAULT,
    task: str | None = None,
    metrics: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    models: str | None = None,
    n_stimuli: int | None = None,
    n_permutations: int = 1000,
    exchange: str | None = None,
    n_bootstraps: int = 10_000,
    level: float = 0.95,
    center: Within | Literal["auto"] | None = "auto",
    scale: Within | Literal["auto"] | None = "auto",
    seeds: int = 1,
    seed: int = 0,
    device: str = "cpu",
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> Ablation:
    """Vary a system, one thing at a time, and compare each variation with the full system.

    Parameters
    ----------
    store : Store
    system : str or System
        As for :func:`neurorecon.reconstruct`. A fitted system can be varied in what does not take another fit.
    subject, roi, task, metrics, options, models, exchange, center, scale, device
        As for :func:`neurorecon.reconstruct`; metrics are by default those of :func:`neurorecon.audit`.
    vary : str or sequence of str
        What is varied, each with its usual values or with those named, ``"NAME=VALUE,VALUE"``:

        - ``targets``: leave out each; ``stages``: score earlier stages of the generation alone;
        - ``rois``: decode all targets from one ROI (``each``: from every single one);
        - ``noise``: a share of noise in the target of the first stage; ``strength`` of the diffusion after it, and
          after noise in its place;
        - ``groups`` of a VDVAE, to a resolution or a number; ``k``, the share of features of MindDiffuser;
        - ``first-stage``: the decoder; ``guidance``: by CLIP or by the category (of numbers: how strong);
        - ``stimuli`` and ``sessions``: how many to train on; ``trials``: how many repeats of each test stimulus are
          averaged, and (``train``) whether those of training stimuli are;
        - ``subjects``: the same on others;
        - any parameter of the system, with values: ``"steps=10,20"``.
    n_stimuli : int, optional
        Use at most this many test stimuli, spread evenly over categories.
    n_permutations : int
        Of the null of each cell, in which its images are scored against other stimuli.
    n_bootstraps, level
        Of the intervals over stimuli.
    seeds : int
        Generate with the seeds `seed`, `seed` + 1, ..., and average the scores of each stimulus over them.
    seed : int
        Of noise, permutations, bootstraps, and the choice of training stimuli.
    compute : Compute
        Who computes. In its folder cells are kept as soon as they are there, and the same call resumes, also with
        more that is varied.

    Returns
    -------
    Ablation
        ``table`` has one row for each cell and metric, ``stimuli`` the values of each stimulus.
    """
    given = system if isinstance(system, System) else None
    settings = AblateSettings(
        system=str(system) if given is None else given.name, options=dict(options or {}), roi=roi, task=task,
        metrics=metrics, models=models, vary=(vary,) if isinstance(vary, str) else tuple(vary), n_stimuli=n_stimuli,
        n_permutations=n_permutations, exchange=exchange, n_bootstraps=n_bootstraps, level=level,
        center=center, scale=scale, seeds=seeds, seed=seed, device=device,
    )  # fmt: skip
    return compute_ablation(store, store.subjects[0] if subject is None else subject, settings, compute, system=given)


def compute_ablation(
    store: Store,
    subject: str,
    settings: AblateSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
) -> Ablation:
    """Do what :func:`ablate` does, from its settings."""
    if settings.metrics is None:
        settings = replace(settings, metrics=tuple(default_metrics(store, settings.asked_models)))
    job = prepare(store, subject, replace(settings, seeds=1), replace(compute, scheduler=None), system)
    job = replace(job, settings=settings)
    ids = stored_stimuli(job)
    if len(ids) < 2:
        raise InputError(
            "cells are compared over stimuli", given=f"{len(ids)} test stimuli", expected="two or more",
            todo="choose a task with more test stimuli",
        )  # fmt: skip
    cells = plan_cells(job, settings.vary)
    systems = {cell.name: _varied(job, cell) for cell in cells}
    jobs = {}
    for cell in cells:  # bad values show, and targets that are lacking are computed, before anything else
        jobs[cell.name] = _job_of(job.store, subject, settings, systems[cell.name], cell, job.compute)
        job = replace(job, store=jobs[cell.name].store)
    stimuli = {cell.name: ids if cell.subject is None else stored_stimuli(jobs[cell.name]) for cell in cells}
    with TemporaryDirectory() as temporary:  # decoded targets are shared by cells
        folder = Path(compute.folder or (temporary if compute.scheduler is None else FOLDER)).absolute()
        results = _results(job, systems[FULL], folder) if compute.keeps_files else Results()
        found = run(
            functools.partial(_computed, job.store, subject, settings, folder),
            {cell.name: (cell, systems[cell.name]) for cell in cells},
            results,
            compute,
            label="cells",
        )
        arrays = {cell.name: found.get(cell.name) for cell in cells}
    orders, exchange = _orders(job, ids)
    values = {
        name: {metric: cell[f"value of {metric}"] for metric in job.metrics} for name, cell in arrays.items()
    }  # fmt: skip
    weights = weights_of(job.metrics)
    published, about = published_ablations(store, job.system.name, job.metrics, weights)
    table, scores = table_of(
        {cell.name: cell.variation for cell in cells}, arrays, values, stimuli, job.metrics, settings, published
    )
    shown = np.asarray(stored_target(job.store, shown_by(job.system), [ids[place] for place in _picked(len(ids))]))
    return Ablation(
        subject=subject,
        task=job.task,
        settings=settings,
        system=job.system.name,
        chosen={
            "system": job.system.name,
            "options": {name: plain_parameter(value) for name, value in job.system.get_params(deep=False).items()},
            "sources": [spec.source for spec in job.system.targets.values()],
            "networks": networks_of(job.system),
            "metrics": list(job.metrics),
            "metric_weights": weights,
            "roi": job.roi,
            "voxels": len(job.store.voxels(subject, job.roi)),
            "learned_elsewhere": job.system.elsewhere_ if job.fitted else job.system.learned_elsewhere(job.training()),
            "stimuli": len(ids),
            "seeds": job.seeds,
            "cells": [cell.name for cell in cells],
            "level": settings.level,
            "published": about,
            "n_permutations": len(orders),
            **(said := exchange_record(exchange, 1 / (1 + len(orders)), settings.n_permutations)),
            "warnings": [*job.centering.warnings, *said["warnings"]],
        },
        scores=scores,
        null={f"{name} {metric}": cell[f"null of {metric}"] for name, cell in arrays.items() for metric in job.metrics
              if f"null of {metric}" in cell},
        table=table,
        stimuli=pd.concat(
            [
                pd.DataFrame({"cell": name, "stimulus": stimuli[name]} | {m: v for m, v in own.items() if v.ndim})
                for name, own in values.items()
            ],
            ignore_index=True,
        ),
        shown={"seen": _small(shown.astype(np.float32))} | {
            cell.name: arrays[cell.name]["shown"] for cell in cells if stimuli[cell.name] == ids
        },
        store=job.store,
    )  # fmt: skip


def _varied(job: Job, cell: Cell) -> System:
    """Return the system of a cell: fitted if the given one is, and no decoder of the cell is another."""
    if not job.fitted:
        return clone(job.system).set_params(**cell.parameters)
    system = copy.copy(job.system).set_params(**cell.parameters)
    train = job.training()
    if cell.refits or system.fit_digest(train) != job.system.fit_digest(train):
        raise InputError(
            "a fitted system cannot be varied in what takes another fit",
            given=f"{cell.variation}: {cell.name}",
            expected="a system that is not fitted, which is fitted for each cell",
            todo="name the system instead of its folder",
        )
    return system


def _results(job: Job, system: System, folder: Path) -> ResultsFolder:
    """Return where the cells of an ablation are kept; what is varied, and how the table is made, do not count."""
    from neurorecon.systems.base import about_estimator

    counted = {
        name: value
        for name, value in job.settings.record().items()
        if name not in ("vary", "n_bootstraps", "level")
    }  # fmt: skip
    fit = system.provenance_ if job.fitted else None
    return ResultsFolder.of(
        {
            "ablation": counted, "subject": job.subject, "store": job.store.digest, "fit": fit,
            "system": about_estimator(system), "class": source_of(system), "networks": networks_of(system),
            "metrics": weights_of(job.metrics),
        },
        folder,
    )  # fmt: skip
