"""Controls of reconstructions: what is reached without the brain, and what could be reached with perfect decoding.

A score says little by itself, because images that have nothing to do with the brain score well too. So a system is
compared, stimulus by stimulus, with four controls:

- ``mean response``: the mean training response is decoded, as if every stimulus had evoked it;
- ``another trial``: each stimulus gets what was decoded from another one;
- ``oracle``: the true targets of the store take the place of the decoded ones;
- ``mean training image``: no system at all.

:func:`with_controls` generates them, :func:`compare` scores them: mean over stimuli with its interval, p-value against
exchanged pairs, and the paired difference to each control, or to a system that is named as a reference.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurorecon.analyses.design import EvaluateSettings
from neurorecon.analyses.evaluate import (
    SHOWN,
    check_images,
    choose_metrics,
    context_of,
    exchange_orders,
    require_same_split,
    require_stimuli,
    score_of,
    tested,
    weights_of,
)
from neurorecon.analyses.results import Result, Score, exchange_lines, exchange_record
from neurorecon.decoders.samples import stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics.base import Metric, load_metric, mean_of_defined, summarize
from neurorecon.metrics.image import as_unit_float, resized
from neurorecon.parallel import Compute
from neurorecon.provenance import weights_label, weights_record
from neurorecon.stats import bootstrap_means, bootstrap_p, permutation_p
from neurorecon.stats.bootstrap import interval_of
from neurorecon.store.store import Store
from neurorecon.systems.base import Decoded, System, as_images
from neurorecon.systems.generation import generate_parts

if TYPE_CHECKING:
    import xarray

#: The controls, in the order of tables.
CONTROLS = ("mean response", "another trial", "mean training image", "oracle")

#: The id of the mean training response among responses to stimuli.
MEAN_RESPONSE = "mean response"

#: Metrics side by side in a terminal.
_COLUMNS = 3

#: Stimuli that are generated at a time. Decoded targets of a published system take 2 MB a stimulus.
_CHUNK = 64


# -- generating -------------------------------------------------------------------------------------------------------


def with_mean_response(system: System, responses: Any) -> xarray.DataArray:
    """Append the mean training response to responses, as one more stimulus with the id ``"mean response"``.

    It is decoded together with the responses to stimuli, because some decoders rescale by the moments of what they
    decode, and of one constant pattern these are undefined.

    Parameters
    ----------
    system : System
        Fitted.
    responses : DataArray, dims (stimulus, voxel)
        With the coordinate ``stimulus``.
    """
    import xarray

    if "stimulus" not in getattr(responses, "coords", {}):
        raise InputError(
            "these responses do not say which stimuli they belong to",
            given=type(responses).__name__,
            expected="a DataArray with dims (stimulus, voxel) and the coordinate stimulus",
            todo="read them with store.responses(..., average='stimulus'), or add the coordinate",
        )
    ids = [*responses["stimulus"].values.astype(str).tolist(), MEAN_RESPONSE]
    coordinates: dict[str, Any] = {"stimulus": ("stimulus", ids)}
    if "voxel" in responses.coords:
        coordinates["voxel"] = ("voxel", responses["voxel"].values)
    values = np.concatenate([np.asarray(responses, dtype=np.float64), system.mean_[None]])
    return xarray.DataArray(values, dims=("stimulus", "voxel"), coords=coordinates)


def true_targets(system: System, store: Store, stimuli: Iterable[str]) -> Decoded:
    """Return the true targets of stimuli in place of decoded ones.

    Parameters
    ----------
    system : System
        Its targets are read; if it is fitted, their training moments are passed on.
    store : Store
        With the targets.
    stimuli : iterable of str
        Ids.

    Returns
    -------
    Decoded
    """
    ids = [str(name) for name in stimuli]
    found = {name: stored_target(store, spec.source, ids).compute() for name, spec in system.targets.items()}
    return Decoded(found, ids, getattr(system, "training_", None), getattr(system, "reliability_", None))


def derangement(n: int, seed: int) -> np.ndarray:
    """Draw a random permutation that leaves nothing in its place; all such permutations are equally likely.

    Parameters
    ----------
    n : int
        Number of stimuli, at least 2.
    seed : int

    Returns
    -------
    int array, shape (stimulus,)
    """
    if n < 2:
        raise InputError("one stimulus cannot trade places", given=f"{n} stimuli", expected="two or more")
    generator = np.random.default_rng(seed)
    while True:  # a permutation is a derangement with probability 1 / e
        order = generator.permutation(n)
        if (order != np.arange(n)).all():
            return order


def decoded_control(
    control: str, system: System, store: Store, decoded: Decoded, seed: int = 0, stimuli: Iterable[str] | None = None
) -> Decoded:
    """Return what a control puts in the place of decoded targets.

    Parameters
    ----------
    control : {"mean response", "another trial", "oracle"}
    system : System
        Fitted.
    store : Store
        With the true targets, for the oracle.
    decoded : Decoded
        Targets that were decoded from :func:`with_mean_response`.
    seed : int
        Of the derangement of "another trial".
    stimuli : iterable of str, optional
        Return these only; the derangement is that of all stimuli.

    Returns
    -------
    Decoded
    """
    ids = [name for name in decoded.stimuli.tolist() if name != MEAN_RESPONSE]
    wanted = ids if stimuli is None else [str(name) for name in stimuli]
    if control == "oracle":
        return true_targets(system, store, wanted)
    if control == "another trial":
        other = dict(zip(ids, np.array(ids)[derangement(len(ids), seed)].tolist(), strict=True))
        taken = decoded.take([other[name] for name in wanted])
    elif control == "mean response":
        if MEAN_RESPONSE not in decoded.stimuli:
            raise InputError(
                "the mean training response was not decoded",
                given=f"{len(ids)} stimuli",
                expected=f"the stimulus {MEAN_RESPONSE!r} beside them",
                todo="decode with_mean_response(system, responses)",
            )
        taken = decoded.take([MEAN_RESPONSE] * len(wanted))
    else:
        raise UnknownNameError("control", control, CONTROLS)
    return taken.relabeled(wanted)


def mean_training_image(store: Store, subject: str, task: str, shown: str = "images") -> np.ndarray:
    """Return the mean of the training stimuli of a task, each counted once, shape ([frame,] y, x, rgb)."""
    samples = store.samples(subject)
    rows = samples[(samples["task"] == task) & (samples["split"] == "train")]
    if rows.empty:
        raise InputError(
            f"the task {task!r} has no training stimuli",
            given=f"splits of {subject}: {', '.join(sorted(set(samples['split'])))}",
            expected="a split 'train'",
            todo="leave this control out",
        )
    found = stored_target(store, shown, rows["stimulus"].drop_duplicates().tolist()).mean("stimulus")
    return np.asarray(found, dtype=np.float32)


def controls(
    system: System,
    store: Store,
    responses: Any,
    seed: int = 0,
    *,
    which: Sequence[str] = CONTROLS,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> dict[str, xarray.DataArray]:
    """Generate the controls of a system.

    Parameters
    ----------
    system : System
        Fitted.
    store : Store
        With the true targets and the training stimuli.
    responses : DataArray, dims (stimulus, voxel), or Decoded
        Responses to the test stimuli, as for :meth:`System.decode`; or what was decoded from
        :func:`with_mean_response`, for systems that keep no weights (:meth:`System.fit_decode`).
    seed : int
        Of the noise of generation, and of the derangement.
    which : sequence of str
        Some of :data:`CONTROLS`.
    compute : Compute
        Who computes, as for :func:`neurorecon.systems.generation.generate_parts`.

    Returns
    -------
    dict of str to DataArray, dims (stimulus, [frame,] y, x, rgb)
        Images for each stimulus, by control.
    """
    unknown = [name for name in which if name not in CONTROLS]
    if unknown:
        raise UnknownNameError("control", unknown[0], CONTROLS)
    decoded = responses if isinstance(responses, Decoded) else system.decode(with_mean_response(system, responses))
    ids = [name for name in decoded.stimuli.tolist() if name != MEAN_RESPONSE]
    found = {}
    for name in which:
        if name == "mean training image":
            shown = "frames" if system.kinds[0] == "video" else "images"
            mean = mean_training_image(store, system.provenance_["subject"], system.provenance_["task"], shown)
            found[name] = as_images(np.broadcast_to(mean, (len(ids), *mean.shape)), ids)
        else:
            parts = _chunks(ids, name, compute.progress)
            found[name] = _joined(
                _generated(system, decoded_control(name, system, store, decoded, seed, part), seed, compute)
                for part in parts
            )
    return found


def with_controls(
    system: System,
    store: Store,
    responses: Any,
    seeds: Iterable[int] = (0,),
    *,
    which: Sequence[str] = CONTROLS,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> dict[str, list[xarray.DataArray]]:
    """Reconstruct with a system and generate its controls, with several seeds: what :func:`compare` takes.

    Parameters
    ----------
    system, store, responses, which, compute
        As for :func:`controls`.
    seeds : iterable of int
        Of the noise.

    Returns
    -------
    dict of str to list of DataArray
        The images of each seed: by the name of the system, and by control.
    """
    decoded = responses if isinstance(responses, Decoded) else system.decode(with_mean_response(system, responses))
    ids = [name for name in decoded.stimuli.tolist() if name != MEAN_RESPONSE]
    found: dict[str, list[xarray.DataArray]] = {}
    for seed in seeds:
        made = {system.name: _generated(system, decoded.take(ids), seed, compute)}
        for name, images in (made | controls(system, store, decoded, seed, which=which, compute=compute)).items():
            found.setdefault(name, []).append(images)
    return found


def _generated(system: System, decoded: Decoded, seed: int, compute: Compute) -> xarray.DataArray:
    """Generate in parts that are kept in the folder of `compute`."""
    return as_images(generate_parts(system, decoded, (seed,), replace(compute, progress=False))[:, 0], decoded.stimuli)


def _chunks(ids: list[str], name: str, progress: bool) -> Iterator[list[str]]:
    """Yield some stimuli at a time, with a progress bar."""
    from tqdm import tqdm

    with tqdm(total=len(ids), desc=name, unit="image", disable=not progress, leave=False) as bar:
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            yield part
            bar.update(len(part))


def _joined(parts: Iterable[xarray.DataArray]) -> xarray.DataArray:
    import xarray

    return xarray.concat(list(parts), "stimulus")


# -- scoring ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CompareSettings(EvaluateSettings):
    """Settings of a comparison with controls.

    Parameters
    ----------
    n_bootstraps : int
        Of the intervals, and of the tests of paired differences.
    level : float
        Confidence level of the intervals.
    references : tuple of str
        Systems with which all others are compared, as with controls.
    """

    n_bootstraps: int = 10_000
    level: float = 0.95
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_count("n_bootstraps")
        self._require_rate("level")


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """Scores of systems and of their controls, and the paired differences between them.

    Parameters
    ----------
    stimuli : list of str
        Ids.
    values : dict of str to dict of str to array, shape (stimulus,)
        By reconstruction (a system or a control) and metric: means over seeds.
    table : DataFrame
        One row per reconstruction and metric: ``reconstruction``, ``kind`` ("system", "control" or "published"),
        ``metric``, ``mean``, ``low`` and ``high`` (over stimuli), ``n``, ``n_undefined``, ``seeds``, ``null_mean``,
        ``p`` (one-sided, against exchanged pairs) and ``source``.
    differences : DataFrame
        One row per system, control or reference, and metric: ``difference`` of the means (system minus control),
        ``low``, ``high``, ``p`` (one-sided: the system is better) and ``n``.
    shown : dict of str to array, shape (stimulus, y, x, rgb)
        What was seen and the images of each system, of stimuli from the best to the worst by the first score of the
        first system; empty for videos.
    """

    subject: str = ""
    task: str = ""
    kind: str = "comparison"
    stimuli: list[str]
    values: dict[str, dict[str, np.ndarray]]
    table: pd.DataFrame
    differences: pd.DataFrame
    shown: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.kind}" if self.subject else self.kind

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return the weights of metrics on networks."""
        return dict(self.chosen["metric_weights"])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the scores, the differences, and the values of each stimulus."""
        columns = {
            f"{name} {metric}": found for name, values in self.values.items() for metric, found in values.items()
        }
        return {
            "scores": self.table,
            "differences": self.differences,
            "stimuli": pd.DataFrame({"stimulus": self.stimuli, **columns}),
        }

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the contact sheet: what was seen above the images of all systems, side by side."""
        return {"contact_sheet": lambda: self._contact_sheet(store)} if self.shown else {}

    def _contact_sheet(self, store: Store) -> Any:
        from neurorecon.figures import panel

        first = next(name for name in self.shown if name != "seen")
        metric = next(iter(self.values[first]))
        count = len(self.shown["seen"])
        return panel(
            self.shown,
            title=f"Seen and reconstructed · {store.label}" + (f" · {self.subject}" if self.subject else ""),
            note=f"{count} of {len(self.stimuli)} stimuli, from the best to the worst by {metric} of {first}.",
            simulated=store.simulated,
        )

    def latex(self) -> dict[str, str]:
        """Return the scores and the differences as LaTeX (booktabs), one column for each metric."""
        return {name: table.to_latex(escape=True) for name, table in self._cells().items()}

    def text(self, store: Store) -> str:
        """Return both tables for a terminal, and the tests behind them."""
        chosen = self.chosen
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [f"{self.subject or 'images'} · {store.label} ({label}) · {len(self.stimuli)} stimuli", ""]
        for table in self._cells().values():
            for start in range(0, table.shape[1], _COLUMNS):
                lines += [table.iloc[:, start : start + _COLUMNS].to_string(), ""]
        lines.append(
            f"means over {chosen['seeds']} seed(s), then over stimuli; [{chosen['level']:.0%} intervals] of "
            f"{chosen['n_bootstraps']:,} bootstraps over stimuli; p of a score: against exchanged pairs; p of a "
            "difference: paired bootstrap; both one-sided"
        )
        lines += [f"{name}: {weights_label(made)}" for name, made in chosen["metric_weights"].items()]
        return "\n".join(lines + exchange_lines(chosen))

    def _cells(self) -> dict[str, pd.DataFrame]:
        """Return both tables as they are read: one row for each reconstruction or difference, one column a metric."""
        scores, differences = self.table, self.differences
        cells = {
            "scores": scores.assign(
                row=[_row_name(row.reconstruction, row.source) for row in scores.itertuples()],
                cell=[_cell(row.mean, row.low, row.high, row.p) for row in scores.itertuples()],
            ),
            "differences": differences.assign(
                row=[f"{row.system} - {row.control}" for row in differences.itertuples()],
                cell=[_cell(row.difference, row.low, row.high, row.p, "+") for row in differences.itertuples()],
            ),
        }
        shown = {}
        for name, table in cells.items():
            if len(table):
                wide = table.pivot(index="row", columns="metric", values="cell")
                order = wide.loc[list(dict.fromkeys(table["row"])), list(dict.fromkeys(table["metric"]))]
                shown[name] = order.fillna("").rename_axis(index=None, columns=None)
        return shown


def compare(
    images: Mapping[str, xarray.DataArray | Sequence[xarray.DataArray]],
    store: Store,
    *,
    metrics: Sequence[str] | None = None,
    n_permutations: int = 1000,
    n_bootstraps: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    exchange: str | None = None,
    subject: str | None = None,
    models: str | None = None,
    device: str = "cpu",
    references: Sequence[str] = (),
    progress: bool = False,
) -> Comparison:
    """Score reconstructions of the same stimuli, and compare systems with controls stimulus by stimulus.

    Parameters
    ----------
    images : mapping of str to DataArray or sequence of DataArray, dims (stimulus, [frame,] y, x, rgb)
        The images of each seed, by system or control (see :func:`with_controls`). Names in :data:`CONTROLS` are
        controls; all others are systems, and each system is compared with each control.
    store : Store
        With the stimuli that were seen.
    metrics : sequence of str, optional
        Registered names; by default those of the registry.
    n_permutations : int
        Of the null, in which each image is scored against another stimulus.
    n_bootstraps : int
        Of intervals and paired differences.
    level : float
        Confidence level.
    seed : int
        Of permutations and bootstraps.
    exchange : {"stimulus", "category", "session", "run", "shift"}, optional
        How pairs are exchanged, as for :func:`neurorecon.reconstruct`.
    subject : str, optional
        Whose sessions or runs; by default the first.
    models : {"bundled", "published"} or path, optional
        Whose weights metrics on networks use; of simulated data by default the bundled ones.
    device : str
        Where these networks run.
    references : sequence of str
        Systems with which all others are compared, as with controls.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Comparison

    Raises
    ------
    UnknownNameError, InputError
        If metrics do not exist or cannot judge these stimuli, or images do not match.
    """
    settings = CompareSettings(
        source="reconstructions and their controls", metrics=metrics, n_permutations=n_permutations, seed=seed,
        exchange=exchange, subject=subject, models=models, device=device, n_bootstraps=n_bootstraps, level=level,
        references=tuple(references),
    )  # fmt: skip
    return compute_comparison(images, store, settings, progress=progress)


def compute_comparison(
    images: Mapping[str, xarray.DataArray | Sequence[xarray.DataArray]],
    store: Store,
    settings: CompareSettings,
    *,
    progress: bool = False,
) -> Comparison:
    """Do what :func:`compare` does, from its settings."""
    from tqdm import tqdm

    seeds, ids = _checked(images)
    for name in settings.references:
        if name not in seeds:
            raise UnknownNameError("reference", name, seeds)
    for several in seeds.values():
        require_same_split(several[0], store)
    first = next(iter(seeds.values()))[0]
    kind, shown = ("video", "frames") if first.ndim == 5 else ("image", "images")
    chosen_metrics = choose_metrics(
        settings.metrics, (), kind, store, models=settings.models, device=settings.device, progress=progress
    )
    require_stimuli(chosen_metrics, len(ids))
    strange = sorted(set(ids) - store.stimuli_with(shown))
    if strange:
        raise UnknownNameError("stimulus", strange[0], sorted(store.stimuli_with(shown))[:10])
    seen = stored_target(store, shown, ids).values.astype(np.float32)
    subject = settings.subject or store.subjects[0]
    orders, exchange = exchange_orders(
        store, subject, ids, settings, shown, shared_runs=_shared_runs(store, subject, ids)
    )
    context = context_of(store, ids)
    values: dict[str, dict[str, np.ndarray]] = {name: {} for name in seeds}
    scores: dict[tuple[str, str], Score] = {}
    null: dict[str, np.ndarray] = {}
    with tqdm(total=len(seeds), desc="scores", unit="system", disable=not progress, leave=False) as bar:
        for name, several in seeds.items():
            for metric_name, metric in chosen_metrics.items():
                found, exchanged, p = _over_seeds(metric, seen, several, orders, context)
                score = score_of(f"{name} {metric_name}", metric, found, exchanged, None, len(ids))
                scores[name, metric_name] = tested([replace(score, p=p)], exchange)[0]
                if exchanged is not None:
                    values[name][metric_name], null[score.name] = found, exchanged
            bar.update()
    table, differences = _tables(seeds, chosen_metrics, values, scores, settings)
    weights = weights_of(chosen_metrics)
    published = published_scores(store, chosen_metrics, weights)
    rows = table.set_index(["reconstruction", "metric"])
    smallest = 1 / (1 + len(orders))
    return Comparison(
        subject=settings.subject or "",
        settings=settings,
        chosen={
            "metrics": list(chosen_metrics),
            "metric_weights": weights,
            "reconstructions": list(seeds),
            "seeds": max(map(len, seeds.values())),
            "null": "exchanged pairs",
            "compared_at": list(seen.shape[-3:-1]),
            "n_permutations": len(orders),
            "n_bootstraps": settings.n_bootstraps,
            "level": settings.level,
            **exchange_record(exchange, smallest, settings.n_permutations),
        },
        stimuli=ids,
        values=values,
        scores=[
            replace(score, extra={"low": float(rows.loc[key, "low"]), "high": float(rows.loc[key, "high"])})
            for key, score in scores.items()
        ],
        null=null,
        table=pd.concat([table, published], ignore_index=True) if len(published) else table,
        differences=differences,
        shown=_shown(seen, seeds, values) if kind == "image" else {},
    )


def _shown(
    seen: np.ndarray, seeds: Mapping[str, Sequence[xarray.DataArray]], values: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the rows of the contact sheet: stimuli and the first images of each system, from the best to the worst."""
    systems = [name for name in seeds if name not in CONTROLS and values[name]]
    if not systems:
        return {}
    metric, score = next(iter(values[systems[0]].items()))
    better = score if load_metric(metric).higher_is_better else -score
    order = np.argsort(-np.nan_to_num(better, nan=-np.inf), kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    size = seen.shape[-3:-1]
    rows = {"seen": as_unit_float(seen[picked])}
    return rows | {name: as_unit_float(resized(seeds[name][0].values[picked], size)) for name in systems}


def _checked(
    images: Mapping[str, xarray.DataArray | Sequence[xarray.DataArray]],
) -> tuple[dict[str, list[xarray.DataArray]], list[str]]:
    """Return the images of each seed with their stimuli in the same order, and the ids of these stimuli."""
    import xarray

    seeds = {name: [given] if isinstance(given, xarray.DataArray) else list(given) for name, given in images.items()}
    if not seeds or not all(seeds.values()):
        raise InputError("there is nothing to compare", given="no images", todo="see with_controls")
    every = [one for several in seeds.values() for one in several]
    for one in every:
        check_images(one)
        as_unit_float(np.array([one.min(), one.max()], dtype=one.dtype))  # refuses other ranges, without a copy
    ids = every[0]["stimulus"].values.astype(str).tolist()
    for name, several in seeds.items():
        for number, one in enumerate(several):
            own = one["stimulus"].values.astype(str).tolist()
            if set(own) != set(ids) or one.ndim != every[0].ndim:
                raise InputError(
                    f"the images of {name!r} belong to other stimuli",
                    given=f"{len(own)} stimuli: {', '.join(own[:3])} ...",
                    expected=f"{len(ids)} stimuli: {', '.join(ids[:3])} ...",
                    todo="compare reconstructions of the same stimuli",
                )
            place = {stimulus: row for row, stimulus in enumerate(own)}
            several[number] = one.isel(stimulus=[place[stimulus] for stimulus in ids])
    return seeds, ids


def _shared_runs(store: Store, subject: str, ids: Sequence[str]) -> bool:
    """Return whether training samples of the same task come from the same runs as those of these stimuli."""
    samples = store.samples(subject)
    own = samples[samples["stimulus"].isin(set(ids))]
    train = samples[samples["task"].isin(set(own["task"])) & (samples["split"] == "train")]
    runs = [set(zip(rows["session"], rows["run"], strict=True)) for rows in (own, train)]
    return bool(runs[0] & runs[1])


def _over_seeds(
    metric: Metric,
    seen: np.ndarray,
    several: Sequence[xarray.DataArray],
    orders: np.ndarray,
    context: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Return the values of each stimulus and their null, means over seeds.

    Returns
    -------
    values : array, shape (stimulus,), or () for a metric of the whole set
    null : array, shape (permutation,), or None for a metric of the whole set
    p : float
        Of the mean over stimuli, then seeds: the order in which the null is averaged, which matters where values of
        some seeds are undefined. NaN for a metric of the whole set.
    """
    values: list[np.ndarray] = []
    nulls: list[np.ndarray] = []
    for number, one in enumerate(several):
        if number and np.array_equal(one.values, several[0].values):  # as of a system without noise
            values.append(values[0])
            nulls += nulls[:1]
            continue
        compared = resized(one.values, seen.shape[-3:-1])
        values.append(metric.values(seen, compared, context))
        if values[-1].ndim:
            nulls.append(metric.null(seen, compared, orders, context))
    found = mean_of_defined(np.stack(values))
    if not nulls:
        return found, None, np.nan
    sign = 1.0 if metric.higher_is_better else -1.0
    null = np.mean(nulls, axis=0)
    p = permutation_p(sign * np.mean([summarize(of_seed).mean for of_seed in values]), sign * null)
    return found, null, float(p)


def _tables(
    seeds: Mapping[str, Sequence[Any]],
    metrics: Mapping[str, Metric],
    values: Mapping[str, Mapping[str, np.ndarray]],
    scores: Mapping[tuple[str, str], Score],
    settings: CompareSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of scores with their intervals, and that of the differences."""
    keys = [(name, metric) for name, of_metrics in values.items() for metric in of_metrics]
    pairs = [
        (system, control, metric)
        for system in seeds
        if system not in CONTROLS
        for control in seeds
        if control in CONTROLS or (control in settings.references and control != system)
        for metric in values[system]
    ]
    columns = [values[name][metric] for name, metric in keys]
    columns += [values[system][metric] - values[control][metric] for system, control, metric in pairs]
    means = bootstrap_means(np.stack(columns, axis=1), n_bootstraps=settings.n_bootstraps, seed=settings.seed)
    interval = interval_of(means[1:], means[0], settings.level)
    place = {key: number for number, key in enumerate(keys)}
    rows = []
    for (name, metric), score in scores.items():
        column = place.get((name, metric))
        rows.append({
            "reconstruction": name,
            "kind": "control" if name in CONTROLS else "system",
            "metric": metric,
            "mean": score.value,
            "low": np.nan if column is None else interval.low[column],
            "high": np.nan if column is None else interval.high[column],
            "n": score.n,
            "n_undefined": score.n_undefined,
            "seeds": len(seeds[name]),
            "null_mean": score.null_mean,
            "p": score.p,
            "source": "",
        })  # fmt: skip
    compared = []
    for column, (system, control, metric) in enumerate(pairs, start=len(keys)):
        sign = 1.0 if metrics[metric].higher_is_better else -1.0
        compared.append({
            "system": system,
            "control": control,
            "metric": metric,
            "difference": means[0, column],
            "low": interval.low[column],
            "high": interval.high[column],
            "p": float(bootstrap_p(sign * means[:, column])),
            "n": int((~np.isnan(columns[column])).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(compared)


def published_scores(store: Any, metrics: Iterable[str], weights: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return published scores of the same metrics; none unless the data are measured responses of NSD.

    Parameters
    ----------
    store : Store
    metrics : iterable of str
        Names.
    weights : mapping of str to mapping
        What identifies the weights of metrics on networks; scores of other weights than the published ones are not
        comparable with those of papers.

    Returns
    -------
    DataFrame
        Rows of :attr:`Comparison.table`.
    """
    comparable, content = _comparable(store, metrics, weights)
    rows = [
        {
            "reconstruction": method,
            "kind": "published",
            "metric": metric,
            "mean": values[metric],
            "source": f"{table['source']}; {table['subjects']}",
        }
        for table in content.get("tables", {}).values()
        for method, values in table["scores"].items()
        for metric in comparable
        if metric in values
    ]
    return pd.DataFrame(rows)


def published_ablations(
    store: Any, system: str, metrics: Iterable[str], weights: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, dict[str, float]], str]:
    """Return published scores of ablations of a system, and where they come from; else nothing.

    Parameters are those of :func:`published_scores`, and the name of the system.

    Returns
    -------
    scores : dict of str to (dict of str to float)
        By cell of :func:`neurorecon.ablate`, then by metric.
    source : str
        Empty if there are none.
    """
    comparable, content = _comparable(store, metrics, weights)
    table = content.get("ablations", {}).get(system, {"scores": {}})
    scores = {
        cell: {metric: float(values[metric]) for metric in comparable if metric in values}
        for cell, values in table["scores"].items()
    }
    return scores, f"{table['source']}; {table['subjects']}" if any(scores.values()) else ""


def _comparable(
    store: Any, metrics: Iterable[str], weights: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], dict[str, Any]]:
    """Return the metrics whose published values compare with those of a store, and what was published."""
    if store.reader != "nsd" or store.simulated:
        return [], {}
    comparable = [
        name for name in metrics if name not in weights or weights_record(weights[name])["origin"] == "published"
    ]
    path = Path(str(files("neurorecon.analyses") / "published.toml"))
    return comparable, tomllib.loads(path.read_text(encoding="utf-8"))


def _row_name(name: str, source: str) -> str:
    return f"{name} ({source})" if source else name


def _cell(mean: float, low: float, high: float, p: float, sign: str = "") -> str:
    """Return a score with its interval and p-value, as tables show it."""
    if np.isnan(mean):
        return "undefined"
    interval = "" if np.isnan(low) else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    test = "" if np.isnan(p) else f" p={p:.2g}"
    return f"{mean:{sign}.3f}{interval}{test}"
