"""Voxel-wise maps, with statistics: what each voxel encodes, or how a linear decoder uses it."""

from __future__ import annotations

import functools
import itertools
import textwrap
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.decoding import DecodingFit, choose_units, fit_decoding, in_order
from neurorecon.analyses.design import DecodingSettings, EncodingSettings, Selection, renamed_keywords
from neurorecon.analyses.encoding import (
    EncodingBlock,
    EncodingJob,
    EncodingScores,
    RoiScore,
    compute_products,
    compute_voxels,
    gather,
    outer_folds,
    refit_statistic,
    refit_units,
    winning_band,
)
from neurorecon.analyses.results import Result, Score, exchange_lines, exchange_record, with_normalized
from neurorecon.decoders.alphas import AlphaEdges, alphas_at_edges
from neurorecon.decoders.banded import ALPHAS
from neurorecon.decoders.samples import choose_task, decoding_samples, peak_delays
from neurorecon.decoders.solvers import DEVICES
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.style import band_label
from neurorecon.parallel import (
    Compute,
    Results,
    ResultsFolder,
    check_scheduler,
    choose_device,
    connect,
    default_threads,
    pinned,
    run,
)
from neurorecon.parallel.jobs import FOLDER
from neurorecon.stats import false_discovery_rate, mean_ceiling, refit_warnings, shown_ceiling
from neurorecon.stats.exchange import STATISTIC, Exchange
from neurorecon.stats.jackknife import SURE_RUNS, SURE_VOLUMES, enough_for_intervals
from neurorecon.store.store import Store

Kind = Literal["encoding", "weights", "decoding", "haufe"]

#: "decoding" and "weights" are the same.
KINDS: tuple[Kind, ...] = ("encoding", "weights", "decoding", "haufe")

#: What trades places, in words.
UNITS_IN_WORDS = {
    "stimulus": "stimuli",
    "session": "stimuli within sessions",
    "run": "whole runs",
    "shift": "runs, shifted in a circle",
}

#: Columns of the text that a command prints.
WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class VoxelwiseMap(Result):
    """Maps of one subject.

    Parameters
    ----------
    kind : {"encoding", "decoding", "haufe"}
        What is mapped.
    bands : list of str
        Targets that were used, one band each.
    table : DataFrame
        One row per voxel. For encoding: ``r2`` (joint, about the mean of the held-out samples), ``r2_<band>`` (split,
        product measure), ``r2_sklearn`` (R2 as of scikit-learn: the model has to predict the mean as well), ``r``
        (Pearson), ``noise_ceiling``, ``p`` (permutation, uncorrected), ``q`` (Benjamini-Hochberg over the voxels of the
        map), ``significant`` (q at most the false discovery rate and R2 above 0); ``p_<band>``, ``q_<band>`` and
        ``significant_<band>``, the same for the share of a band; ``winning_band`` (largest split R2, where the voxel
        is significant and the interval of the margin is above 0), ``margin`` (largest less second largest
        split R2), ``margin_low`` (lower end of its interval), ``alpha``, and ``normalized_<column>`` (R2 over the noise
        ceiling).
        For decoding and haufe, per target: ``<kind>_<target>``, ``p_<target>``, ``q_<target>`` and
        ``significant_<target>``.
    rois : DataFrame
        One row per ROI and band: means over all voxels of the ROI in the map.
    """

    kind: str
    bands: list[str]
    table: pd.DataFrame
    rois: pd.DataFrame

    @property
    def areas(self) -> pd.DataFrame:
        """The former name of `rois`."""
        warnings.warn("VoxelwiseMap.areas is deprecated; use .rois", DeprecationWarning, stacklevel=2)
        return self.rois

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        single, groups = ("r", "p", "q", "noise_ceiling"), ("r2", "decoding_", "haufe_", "p_", "q_")
        wanted = [name for name in self.table if name in single or name.startswith(groups)]
        return {name: self.table[name].to_numpy(dtype=float) for name in wanted}

    def brain_maps(self) -> dict[str, np.ndarray]:
        """Return the maps that go into the brain image."""
        return self.maps

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of voxels and of ROIs."""
        return {"voxels": self.table, "rois": self.rois}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure: bars of ROIs, and the cortex, flat map or slices."""
        from neurorecon.analyses import map_figures

        return map_figures.figures_of(self, store)

    def pages(self, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return what makes the interactive page; nothing without a geometry."""
        from neurorecon.analyses import map_figures

        return map_figures.pages_of(self, store, record)

    def text(self, store: Store) -> str:
        """Return the table of ROIs as text of at most :data:`WIDTH` columns."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        samples = f"{self.chosen['train_stimuli']} training and {self.chosen['test_stimuli']} test stimuli"
        if isinstance(self.settings, EncodingSettings) and self.settings.cross_validate is not None:
            samples = (
                f"{self.chosen['test_samples']} samples of {self.chosen['test_stimuli']} stimuli, "
                f"{_held_out(self.settings.cross_validate)} held out in {self.chosen['folds']} folds"
            )
        roles = [band if band_label(band) == band else f"{band}: {band_label(band)}" for band in self.bands]
        unused = [name for name in store.targets_available if name not in self.bands]
        also = f" (--bands chooses; also in the store: {', '.join(unused)})" if unused else ""
        return "\n".join([
            "",
            f"{self.subject} · {store.label} ({label}) · {self.task}: {samples}, {self.chosen['voxels']:,} voxels",
            *textwrap.wrap(f"bands {'; '.join(roles)}{also}", WIDTH, subsequent_indent="  "),
            *(_encoding_lines(self) if self.kind == "encoding" else _decoding_lines(self)),
            *(line for text in self.chosen.get("warnings", ())
              for line in textwrap.wrap(f"warning: {text}", WIDTH, subsequent_indent="  ")),
        ])  # fmt: skip


class MapOptions(TypedDict, total=False):
    """Keywords of :func:`maps` and :func:`voxelwise_maps`; see :func:`maps`."""

    bands: Sequence[str] | None
    kind: Kind
    task: str | None
    delays: Sequence[int] | None
    n_permutations: int
    fdr: float
    null: Literal["order", "refit"]
    exchange: Literal["stimulus", "session", "run", "shift"] | None
    cross_validate: Literal["run", "session", "stimulus"] | int | None
    seed: int
    device: str
    scheduler: Any
    threads: int | None
    results: str | Path | None
    voxel_block: int | None
    standardize_features: bool
    progress: bool


@renamed_keywords(level="fdr")
def voxelwise_maps(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    **options: Unpack[MapOptions],
) -> VoxelwiseMap:
    """Map what each voxel of one subject encodes, or how a linear decoder uses it.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    **options
        Of :func:`maps`: ``bands``, ``kind``, ``task``, ``delays``, ``n_permutations``, ``fdr``, ``null``,
        ``exchange``, ``cross_validate``, ``seed``, ``device``, ``scheduler``, ``threads``, ``results``,
        ``voxel_block``, ``standardize_features``, ``progress``.

    Returns
    -------
    VoxelwiseMap

    Examples
    --------
    >>> import neurorecon as nr
    >>> store = nr.open_store("stores/scenes.icechunk")
    >>> found = nr.voxelwise_maps(store, "subj01", roi="V1", bands=["gabor"], task="images", n_permutations=19)
    >>> set(found.rois["band"])
    {'gabor'}
    """
    return maps(store, store.subjects[0] if subject is None else subject, roi, **options)[0]


@renamed_keywords(level="fdr")
def maps(
    store: Store,
    subjects: str | Sequence[str] | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    bands: Sequence[str] | None = None,
    kind: Kind = "encoding",
    task: str | None = None,
    delays: Sequence[int] | None = None,
    n_permutations: int = 1000,
    fdr: float = 0.05,
    null: Literal["order", "refit"] = "order",
    exchange: Literal["stimulus", "session", "run", "shift"] | None = None,
    cross_validate: Literal["run", "session", "stimulus"] | int | None = None,
    seed: int = 0,
    device: str = "cpu",
    scheduler: Any = None,
    threads: int | None = None,
    results: str | Path | None = None,
    voxel_block: int | None = None,
    standardize_features: bool = True,
    progress: bool = False,
) -> list[VoxelwiseMap]:
    """Map what each voxel of several subjects encodes, or how a linear decoder uses it.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subjects : str or sequence of str, optional
        By default all.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    bands : sequence of str, optional
        Targets of the store, one band each; by default one for each role
        (:data:`~neurorecon.analyses.design.ROLES`): ``clip_image``, ``vqvae``, ``gabor``, and for videos ``motion``, if
        the store holds them.
    kind : {"encoding", "weights", "haufe"}
        Encoding: banded ridge from all bands to each voxel, R2 on held-out samples, split over bands by the product
        measure. Weights: weight of each voxel in a ridge decoder of each target; ``"decoding"`` is another name of it.
        Haufe: the pattern that goes with these weights. The decoders of a system have maps of their own:
        :func:`neurorecon.system_maps`.
    task : str, optional
        By default images before videos, then the one with the most training stimuli; if bands are named, among the
        tasks whose stimuli have all of them.
    delays : sequence of int, optional
        Of the features in samples, for time series; by default those of 2 to 8 s.
    n_permutations : int
        Of the test stimuli (encoding), or of the training stimuli (decoding, haufe, refits).
    fdr : float
        False discovery rate.
    null : {"order", "refit"}
        Of encoding maps. Order: what is held out trades places, and the model stays. Refit: the training stimuli trade
        places, and each time alpha and the mixture of bands are chosen and the model is fitted again; this takes many
        times as long. With fewer than 8 test stimuli, the covariance of prediction and response is tested.
    exchange : {"stimulus", "session", "run", "shift"}, optional
        What trades places: stimuli; stimuli within their session, whose means are subtracted; whole runs; or each run
        is shifted in a circle against its prediction, both whitened. By default what the design allows: shifts in time
        series and where stimuli are not in random order, sessions where they show different stimuli, else stimuli. The
        record says what was chosen and why.
    cross_validate : {"run", "session", "stimulus"} or int, optional
        Of encoding maps: predict all samples of the task, with one group held out at a time (12 folds if there are more
        groups) and a search in each fold; a number holds out that many parts of the stimuli of trials (runs of a time
        series). By default the test split is predicted. Features are standardized over all stimuli. Noise ceilings
        are those of single samples where runs or sessions are held out.
    seed : int
        Of permutations and resampling.
    device : str
        Where regressions are solved, e.g. ``"cuda"``.
    scheduler : None, str, path or distributed.Client
        Who computes the blocks: this process, ``"local"`` processes of this machine, or a dask cluster by its
        address or by the file of its scheduler. The numbers are the same to the bit.
    threads : int, optional
        Threads of each block, wherever it is computed; by default the cores of this machine. They decide the last bits.
    results : path, optional
        Folder for finished blocks, so that the same call resumes after an interruption. By default
        ``.neurorecon/results`` if there is a scheduler; without one, nothing is kept.
    voxel_block : int, optional
        Voxels of a block (encoding); by default by the number of samples, see docs/scale.md.
    standardize_features : bool
        Of encoding maps: standardize each feature by the training stimuli. Otherwise features keep their relative scale
        within a band, e.g. components in the order of their variance.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    list of VoxelwiseMap
        One per subject.

    Raises
    ------
    UnknownNameError, InputError
        If a name does not exist, or the store lacks stimuli, samples or targets.
    """
    settings = map_settings(
        kind, bands, roi=roi, task=task, n_permutations=n_permutations, fdr=fdr, seed=seed, device=device,
        delays=delays, null=null, exchange=exchange, cross_validate=cross_validate, voxel_block=voxel_block,
        standardize_features=standardize_features,
    )  # fmt: skip
    compute = Compute(scheduler, threads, results, progress)
    found = compute_maps(store, [subjects] if isinstance(subjects, str) else subjects, settings, compute)
    return [item for item in found if isinstance(item, VoxelwiseMap)]


def map_settings(
    kind: str, bands: Sequence[str] | None, *, roi: Any, task: str | None, n_permutations: int, fdr: float, seed: int,
    device: str, exchange: str | None = None, **of_encoding: Any,
) -> EncodingSettings | DecodingSettings:  # fmt: skip
    """Return the settings of a kind of map; the parameters are those of :func:`maps`."""
    common: dict[str, Any] = {
        "roi": roi, "task": task, "n_permutations": n_permutations, "fdr": fdr, "seed": seed, "device": device,
    }  # fmt: skip
    if kind == "encoding":
        return EncodingSettings(**common, bands=bands, exchange=exchange, **of_encoding)
    if kind not in KINDS:
        raise UnknownNameError("kind of map", kind, KINDS)
    asked = EncodingSettings(**of_encoding)
    if asked.null != "order" or asked.cross_validate is not None or asked.partition or not asked.standardize_features:
        raise InputError(
            f"null, cross-validation, partition and raw features are options of encoding maps, not of {kind!r}",
            given=f"null={asked.null!r}, cross_validate={asked.cross_validate!r}, partition={asked.partition}, "
            f"standardize_features={asked.standardize_features}",
            expected="the defaults, or maps of the kind 'encoding'",
            todo="leave them out, or choose --kind encoding",
        )
    pattern: Literal["weights", "haufe"] = "haufe" if kind == "haufe" else "weights"
    return DecodingSettings(**common, targets=bands, pattern=pattern, exchange=exchange)


def compute_maps(
    store: Store,
    subjects: Sequence[str] | None,
    settings: EncodingSettings | DecodingSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> list[Result]:
    """Do what :func:`maps` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subjects : sequence of str, optional
        By default all.
    settings : EncodingSettings or DecodingSettings
        What to map, and how.
    compute : Compute
        Who computes.

    Returns
    -------
    list of Result
        A :class:`VoxelwiseMap` for each subject, then a partition for each if the settings ask for one.
    """
    check_scheduler(compute.scheduler)
    if compute.scheduler is None:
        choose_device(settings.device, DEVICES)  # before anything is read
    names = list(subjects or store.subjects)
    threads = default_threads() if compute.threads is None else compute.threads
    if isinstance(settings, EncodingSettings):
        return _encoding_maps(store, names, settings, compute, threads)
    chosen = {name: _targets_and_task(store, name, settings) for name in names}  # all, before any is computed
    with connect(compute.scheduler, threads=threads) as client:
        computing = {"scheduler": client, "threads": threads, "results": compute.folder, "progress": compute.progress}
        return [_decoding_map(store, name, settings, *chosen[name], computing) for name in names]


# -- encoding ---------------------------------------------------------------------------------------------------------


def _encoding_maps(
    store: Store, subjects: Sequence[str], settings: EncodingSettings, compute: Compute, threads: int
) -> list[Result]:
    jobs = [EncodingJob(store, design.select(store, name, settings), settings) for name in subjects]
    kept = _results(store, settings, compute, threads, jobs)
    with connect(compute.scheduler, threads=threads) as client:
        _compute(jobs, kept, replace(compute, scheduler=client, threads=threads))
    found: list[Result] = [_encoding_map(store, job, kept, threads) for job in jobs]
    if settings.partition:
        from neurorecon.analyses.partition import compute_partition

        with pinned(threads):
            found += [compute_partition(store, name, settings) for name in subjects]
    return found


def _results(
    store: Store, settings: EncodingSettings, compute: Compute, threads: int, jobs: Sequence[EncodingJob]
) -> Results:
    """Return where blocks are kept: in memory where that is all that is needed."""
    if compute.scheduler is None and (compute.folder is None or all(len(job.blocks()) == 1 for job in jobs)):
        return Results()
    asked = settings.record()
    for name in ("fdr", "partition", "n_bootstraps"):  # come after the blocks
        del asked[name]
    inputs = {
        **asked,
        "analysis": "encoding maps, with bands tested",
        "threads": threads,
        "store": store.digest,
        # Of data without digests nobody can say whether they are the same ones.
        "once": "" if all(store.digests().values()) else uuid.uuid4().hex,
    }
    return ResultsFolder.of(inputs, FOLDER if compute.folder is None else compute.folder)


def _compute(jobs: Sequence[EncodingJob], kept: Results, compute: Compute) -> None:
    """Compute the blocks that are missing, and before them what they take; that is deleted at the end."""
    # In this process nobody else reads the products, so they need no files.
    products = Results() if compute.scheduler is None else kept
    fit = functools.partial(compute_voxels, products)
    # On a cluster the blocks of all subjects are under way together; here a subject at a time is in memory.
    rounds = [list(jobs)] if compute.scheduler is not None else [[job] for job in jobs]
    for number, together in enumerate(rounds):
        missing = [(job, {name: part for name, part in job.blocks().items() if not kept.has(name)}) for job in together]
        wanted = {name: given for job, blocks in missing if blocks for name, given in job.products().items()}
        run(compute_products, wanted, products, compute, label="products")
        todo = {name: part for _, blocks in missing for name, part in blocks.items()}
        run(fit, todo, kept, compute, label="voxel blocks")
        needed = {name for later in rounds[number + 1 :] for job in later for name in job.products()}
        for name in {name for job in together for name in job.products()} - needed:
            products.remove(name)


def _encoding_map(store: Store, job: EncodingJob, kept: Results, threads: int) -> VoxelwiseMap:
    selection, settings, bands = job.selection, job.settings, list(job.selection.bands)
    subject, task = selection.subject, selection.task
    table = store.voxels(subject, settings.rois)
    rois = design.covered_rois(store, subject, table)
    found = gather(
        (EncodingBlock(**kept.get(name)) for name in job.blocks()),
        rois,
        runs=selection.scored.runs if selection.series else None,
        tested=selection.exchange.valid or settings.null == "refit",
        confidence=settings.confidence,
    )
    voxels = found.voxels
    split = {f"r2_{band}": part for band, part in zip(bands, voxels["split"], strict=True)}
    table = table.assign(r2=voxels["r2"], **split, r2_sklearn=voxels["r2_sklearn"], r=voxels["r"])
    ceiling, about_ceiling = design.scored_ceiling(store, selection, settings)
    if ceiling is not None:
        table["noise_ceiling"] = shown_ceiling(ceiling)
    scores = dict(zip(["", *(f"_{band}" for band in bands)], [voxels["r2"], *voxels["split"]], strict=True))
    tested = {name: false_discovery_rate(p, settings.fdr) for name, p in zip(scores, voxels["p"], strict=True)}
    # Below zero the mean predicts better than the model, even where chance does worse still.
    significant = {name: tested[name][0] & (scores[name] > 0) for name in scores}
    table = table.assign(**{f"p{name}": p for name, p in zip(scores, voxels["p"], strict=True)})
    table = table.assign(**{f"q{name}": q for name, (_, q) in tested.items()})
    table = table.assign(**{f"significant{name}": mask for name, mask in significant.items()})
    clear = voxels["margin_low"] > 0 if len(bands) > 1 else True
    winner = winning_band(voxels["split"], significant[""] & clear)
    table["winning_band"] = np.array([*bands, ""])[winner]
    table = table.assign(margin=voxels["margin"], margin_low=voxels["margin_low"], alpha=voxels["alpha"])
    statistic = _statistic(settings, selection)
    edges = alphas_at_edges(voxels["alpha"], ALPHAS, small=significant[""], predicts=significant[""])
    columns = {name: f"normalized_{name}" for name in ("r2", *(f"r2_{band}" for band in bands))}
    return VoxelwiseMap(
        subject=subject,
        task=task,
        kind="encoding",
        bands=bands,
        settings=settings,
        chosen={
            **_chosen(selection, settings, found, edges),
            "threads": threads,
            "significant_voxels": int(significant[""].sum()),
            "noise_ceiling": about_ceiling,
        },
        table=with_normalized(table, columns, "noise_ceiling"),
        rois=_roi_table(bands, rois, found, table, ceiling),
        scores=[
            Score(
                f"{subject} {roi} mean joint {statistic}", float(score.observed[0]), len(selection.scored.stimuli),
                float(score.null[0].mean()), float(score.null[0].max()), float(score.p[0]), found.n_permutations,
                extra=_more_scores(score, bands),
            )
            for roi, score in found.rois.items()
        ],
        null={f"{roi} mean joint {statistic}": score.null[0] for roi, score in found.rois.items()},
    )  # fmt: skip


def _statistic(settings: EncodingSettings, selection: Selection) -> str:
    """Return what is tested, in words."""
    if settings.null == "order" and selection.exchange.unit in ("shift", "run"):
        return STATISTIC
    if settings.null == "refit" and refit_statistic(selection.test, selection.series) == "covariance":
        return "covariance"
    return "R2" if settings.cross_validate is None else "correlation"


def _more_scores(score: RoiScore, bands: Sequence[str]) -> dict[str, Any]:
    """Return the scores of an ROI that are not tested themselves, and those of its bands."""
    low, high = score.bands.low.tolist(), score.bands.high.tolist()
    return {
        "voxels": score.voxels,
        "r2": float(score.joint.estimate),
        "r2_interval": [float(score.joint.low), float(score.joint.high)],
        "r2_sklearn": score.r2_sklearn,
        "r": score.r,
        "bands": dict(zip(bands, score.bands.estimate.tolist(), strict=True)),
        "intervals_of_bands": dict(zip(bands, map(list, zip(low, high, strict=True)), strict=True)),
        "p_of_bands": dict(zip(bands, score.p[1:].tolist(), strict=True)),
        **({"folds": score.folds.tolist()} if len(score.folds) else {}),
    }


def _chosen(
    selection: Selection, settings: EncodingSettings, scores: EncodingScores, edges: AlphaEdges
) -> dict[str, Any]:
    """Return what was chosen for a subject, for the record."""
    train, test, exchange = selection.train, selection.scored, selection.exchange
    smallest = 1 / (1 + scores.n_permutations)
    found: dict[str, Any] = {
        "task": selection.task,
        "bands": list(selection.bands),
        "voxels": selection.voxels,
        "delays": list(selection.delays),
        "delay_seconds": [delay * selection.seconds for delay in selection.delays],
        "train_stimuli": len(train.stimuli),
        "test_stimuli": len(test.stimuli),
        "train_samples": len(train.shown),
        "test_samples": len(test.shown),
    }
    found["exchange"] = {
        "unit": "training stimuli" if settings.null == "refit" else exchange.unit,
        "reason": "null='refit'" if settings.null == "refit" else exchange.reason,
        "statistic": _statistic(settings, selection),
        "permutations": scores.n_permutations,
        "smallest_p": smallest,
    }
    said = list(exchange.warnings)
    if settings.null == "refit":
        ordered = exchange.unit in ("shift", "run")  # trials in a fixed order are like a time series
        said = list(
            refit_warnings(
                refit_units(train, selection.series),
                ordered=ordered,
                within=train.sessions if exchange.unit == "session" else None,
                shown=train.shown,
                n_permutations=settings.n_permutations,
            )
        )
    elif not exchange.valid:
        said.append(
            "no p-values are given, and no voxel is called significant; --exchange asks for a test all the same"
        )
    elif smallest > settings.fdr:
        said.append(f"no voxel can be significant at {settings.fdr:g}: p is at least {smallest:.2g}")
    if selection.series and not enough_for_intervals(test.runs):
        number = len(np.unique(test.runs))
        said.append(f"intervals from {len(test.runs)} volumes in {number} run{'s' * (number > 1)} can be too short "
                    f"({SURE_RUNS} runs or {SURE_VOLUMES} volumes are enough)")  # fmt: skip
    at_edge = edges.message("voxels")
    found |= {"warnings": [*said, *([at_edge] if at_edge else [])], "alphas_at_edge": edges.record()}
    if settings.null == "refit":
        found["refit"] = "alpha and mixture of bands (all alike, or one alone) chosen on the folds in each permutation"
    if selection.held is not None:
        folds = outer_folds(selection.held, settings)
        met = [np.intersect1d(train.shown[rows], train.shown[held_out]) for rows, held_out in folds]
        found |= {"folds": len(folds), "stimuli_met_in_training": len(np.unique(np.concatenate(met)))}
    return found


def _roi_table(
    bands: list[str],
    rois: Mapping[str, np.ndarray],
    found: EncodingScores,
    table: pd.DataFrame,
    ceiling: np.ndarray | None,
) -> pd.DataFrame:
    """Return a row for each ROI and band; q corrects p over the ROIs (and bands) of the table."""
    rows = []
    _, q = false_discovery_rate([score.p[0] for score in found.rois.values()])
    _, q_bands = false_discovery_rate([score.p[1:] for score in found.rois.values()])
    for number, (roi, score) in enumerate(found.rois.items()):
        mask = rois[roi]
        winners = table["winning_band"].to_numpy()[mask]
        rows += [
            {
                "roi": roi,
                "band": band,
                "value": score.bands.estimate[place],
                "low": score.bands.low[place],
                "high": score.bands.high[place],
                "p_band": score.p[1 + place],
                "q_band": q_bands[number, place],
                "joint": float(score.joint.estimate),
                "joint_low": float(score.joint.low),
                "joint_high": float(score.joint.high),
                "r": score.r,
                "r2_sklearn": score.r2_sklearn,
                "p": score.p[0],
                "q": q[number],
                "ceiling": np.nan if ceiling is None else mean_ceiling(ceiling, mask),
                "n": score.voxels,
                "significant": int(table["significant"].to_numpy()[mask].sum()),
                "wins": int((winners == band).sum()),
            }
            for place, band in enumerate(bands)
        ]
    return with_normalized(pd.DataFrame(rows), {"value": "normalized", "joint": "normalized_joint"}, "ceiling")


# -- decoding ---------------------------------------------------------------------------------------------------------


def _targets_and_task(store: Store, subject: str, settings: DecodingSettings) -> tuple[list[str], str]:
    """Return the targets and the task of a subject, where nothing was asked for."""
    store.voxels(subject, settings.rois)  # raises for an unknown ROI
    targets = design.choose_bands(store, settings.targets, subject, settings.task)
    task = choose_task(store, subject, targets, settings.task)
    design.require_test(store, subject, task)
    return targets, task


def _decoding_map(
    store: Store,
    subject: str,
    settings: DecodingSettings,
    targets: list[str],
    task: str,
    computing: Mapping[str, Any],
) -> VoxelwiseMap:
    kind = "haufe" if settings.pattern == "haufe" else "decoding"
    # Runs are shifted in the order in which they were recorded.
    train, test = (
        in_order(*decoding_samples(store, subject, settings.rois, split, task)) for split in ("train", "test")
    )
    units = choose_units(store, subject, task, targets, (train[1], test[1]), settings.exchange)
    table = store.voxels(subject, settings.rois)
    found, rows, scores, nulls = table.copy(), [], [], {}
    rois = design.covered_rois(store, subject, table)
    n_permutations, whitening = settings.n_permutations, dict[str, float]()
    edges: dict[str, AlphaEdges] = {}
    for target, fit in fit_decoding(
        store, targets, train, test, series=task in store.series(subject), settings=settings, exchange=units,
        **computing,
    ):  # fmt: skip
        n_permutations = fit.n_permutations
        decoded = fit.correlation_p <= settings.fdr  # where nothing is, the largest alpha is right
        edges[target] = alphas_at_edges(
            fit.alpha, np.asarray(settings.alphas) * len(table), small=decoded, predicts=decoded
        )
        whitening |= {target: fit.whitening} if fit.whitening else {}
        rejected, q = false_discovery_rate(fit.p, settings.fdr)
        found[f"{kind}_{target}"] = fit.value
        found[f"p_{target}"], found[f"q_{target}"], found[f"significant_{target}"] = fit.p, q, rejected
        rows += [
            {
                "roi": roi,
                "band": target,
                "value": fit.value[mask].mean(),
                "null": fit.null_mean[mask].mean(),
                "n": int(mask.sum()),
                "significant": int(rejected[mask].sum()),
            }
            for roi, mask in rois.items()
            if mask.any()
        ]
        scores.append(_decoding_score(subject, fit, units[1]))
        nulls[f"{target} correlation"] = fit.correlation_null
    exchanged = exchange_record(units[0], 1 / (1 + n_permutations), settings.n_permutations, fdr=settings.fdr)
    at_edge = {name: part.message("features") for name, part in edges.items()}
    return VoxelwiseMap(
        subject=subject,
        task=task,
        kind=kind,
        bands=targets,
        settings=settings,
        chosen={
            "task": task,
            "bands": targets,
            "voxels": len(table),
            "delays": list(peak_delays(store, subject, task)),
            "train_stimuli": int(train[1]["stimulus"].nunique()),
            "test_stimuli": int(test[1]["stimulus"].nunique()),
            "threads": computing["threads"],
            "n_permutations": n_permutations,
            **exchanged,
            "warnings": [*exchanged["warnings"], *(f"{name}: {text}" for name, text in at_edge.items() if text)],
            "alphas_at_edge": {name: part.record() for name, part in edges.items()},
            **({"whitening": whitening} if whitening else {}),
        },
        table=found,
        rois=pd.DataFrame(rows),
        scores=scores,
        null=nulls,
    )


def _decoding_score(subject: str, fit: DecodingFit, exchange: Exchange) -> Score:
    number = len(fit.correlation_null)
    chosen = {"unit": exchange.unit, "reason": exchange.reason, "smallest_p": 1 / (1 + number)}
    return Score(
        f"{subject} {fit.target} mean correlation of decoded and true features", fit.correlation, fit.stimuli,
        float(fit.correlation_null.mean()), float(fit.correlation_null.max()), fit.correlation_p, number,
        extra={"alpha": fit.alpha, "exchange": chosen, "warnings": list(exchange.warnings)},
    )  # fmt: skip


# -- text -------------------------------------------------------------------------------------------------------------


def _encoding_lines(found: VoxelwiseMap) -> list[str]:
    settings, chosen = found.settings, found.chosen
    assert isinstance(settings, EncodingSettings)
    seconds = [value for value in chosen["delay_seconds"] if value]
    how = "banded ridge" + (
        f", features delayed by {', '.join(f'{value:g}' for value in seconds)} s" if seconds else ""
    )
    where = "the test samples" if settings.cross_validate is None else "each fold"
    what = f"encoding: {how}; R2 about the mean of {where}, and r; means over all voxels of the ROI"
    lines = textwrap.wrap(what, WIDTH, subsequent_indent="  ")
    if chosen.get("stimuli_met_in_training"):
        lines.append(
            f"{chosen['stimuli_met_in_training']} of {chosen['test_stimuli']} stimuli occur in several folds, and were "
            "met in training"
        )
    lines.append(
        f"{'ROI':<8}{'voxels':>7}{'ceiling':>8}{'R2':>7}{'/ceil.':>7}{'r':>6}{'q':>6}"
        + "".join(f"{band[:10]:>11}" for band in found.bands)
        + f"{'signif.':>8}  wins"
    )
    for roi, rows in _listed_rois(found):
        first = rows.iloc[0]
        line = (
            f"{roi:<8}{first['n']:>7}{_or_dash(first['ceiling'], 8)}{first['joint']:>7.3f}"
            f"{_or_dash(first['normalized_joint'], 7)}{_or_dash(first['r'], 6)}{_or_dash(first['q'], 6, 3)}"
            + "".join(f"{_starred(row.value, row.q_band, settings.fdr):>11}" for row in rows.itertuples())
            + f"{first['significant']:>8}  "
        )
        lines.append(line + _winners(rows, WIDTH - len(line)))
    lines += _more_rois(found)
    exchange = chosen["exchange"]
    units = UNITS_IN_WORDS.get(exchange["unit"], "training stimuli, with models fitted again")
    lines.append(
        f"q: corrected over ROIs; *: q of the band at most {settings.fdr:g} (over ROIs, bands); wins: the best band "
        "exceeds the next"
    )
    lines += textwrap.wrap(
        f"{chosen['significant_voxels']:,} of {chosen['voxels']:,} voxels significant (FDR {settings.fdr:g}, test of "
        f"{exchange['statistic']}, {exchange['permutations']} permutations of {units}: {exchange['reason']})",
        WIDTH, subsequent_indent="  ",
    )  # fmt: skip
    return lines


def _starred(value: float, q: float, level: float) -> str:
    """Return the share of a band, with a star where it is significant."""
    return f"{value:.3f}{'*' if q <= level and value > 0 else ' '}"


def _held_out(cross_validate: str | int | None) -> str:
    """Return what is held out, in words."""
    return f"{cross_validate}s" if isinstance(cross_validate, str) else "parts"


def _or_dash(value: float, width: int, digits: int = 2) -> str:
    """Return a number of so many digits, a dash for NaN."""
    return f"{value:>{width}.{digits}f}" if value == value else f"{'-':>{width}}"


def _winners(rows: pd.DataFrame, width: int) -> str:
    """Return how many voxels each band wins, the most first, as far as there is room."""
    winners = rows[rows["wins"] > 0].sort_values("wins", ascending=False, kind="stable")
    texts = [f"{row.band} {row.wins}" for row in winners.itertuples()]
    whole = ", ".join(texts)
    if len(whole) <= width:
        return whole
    kept = next((number for number in range(len(texts) - 1, 0, -1) if len(", ".join(texts[:number])) + 3 <= width), 1)
    return ", ".join(texts[:kept]) + " …"


#: ROIs that the text lists; an atlas may have hundreds.
MOST_ROIS = 60


def _listed_rois(found: VoxelwiseMap) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of the first ROIs in the table."""
    groups = found.rois.groupby("roi", sort=False) if len(found.rois) else ()
    return [(str(roi), rows) for roi, rows in itertools.islice(groups, MOST_ROIS)]


def _more_rois(found: VoxelwiseMap) -> list[str]:
    number = found.rois["roi"].nunique() - MOST_ROIS if len(found.rois) else 0
    return [f"... ({number:,} more ROIs in the table of ROIs)"] if number > 0 else []


def _decoding_lines(found: VoxelwiseMap) -> list[str]:
    what = {"decoding": "RMS weight of a voxel in the decoder", "haufe": "strength of the Haufe pattern"}[found.kind]
    what = f"{found.kind}: {what}; mean over the ROI's voxels (mean of the null in parentheses), significant voxels"
    lines = textwrap.wrap(what, WIDTH, subsequent_indent="  ")
    for score in found.scores:
        lines.append(f"  {score.name}: {score.value:.3f} (null mean {score.null_mean:.3f}, p = {score.p:.3f})")
    said = list(dict.fromkeys(text for score in found.scores for text in score.extra["warnings"]))
    lines += [f"warning: of this correlation: {text}" for text in said]
    lines.append(f"{'ROI':<8}{'voxels':>7}" + "".join(f"{band[:18]:>26}" for band in found.bands))
    for roi, rows in _listed_rois(found):
        cells = "".join(f"{row.value:>12.4f} ({row.null:.4f}) {row.significant:>4}" for row in rows.itertuples())
        lines.append(f"{roi:<8}{rows.iloc[0]['n']:>7}{cells}")
    return lines + _more_rois(found) + textwrap.wrap(exchange_lines(found.chosen)[0], WIDTH, subsequent_indent="  ")
