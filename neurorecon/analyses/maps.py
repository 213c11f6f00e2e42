"""Voxel-wise maps: what each voxel encodes, or what a decoder makes of it, with statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.bands import choose_bands
from neurorecon.analyses.decoding import DecodingFit, decoding_samples, fit_decoding, peak_delays
from neurorecon.analyses.encoding import (
    EncodingFit,
    RoiScore,
    fit_encoding,
    names_of,
    roi_scores,
    winning_band,
)
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import false_discovery_rate
from neurorecon.store.store import Store

Kind = Literal["encoding", "decoding", "haufe"]
KINDS: tuple[Kind, ...] = ("encoding", "decoding", "haufe")

#: An area counts as part of a selection where at least this share of its voxels is in it.
SHARE_OF_AREA = 0.3


@dataclass(frozen=True)
class VoxelwiseMap:
    """Maps of one subject.

    Parameters
    ----------
    subject, kind, task : str
        What was analyzed.
    bands : list of str
        Targets that were used, one band each.
    table : DataFrame
        One row a voxel. For encoding: ``r2`` (joint), ``r2_<band>`` (split, product measure), ``noise_ceiling``,
        ``p`` (permutation, uncorrected), ``q`` (Benjamini-Hochberg over the voxels of the map), ``significant``
        (q at most the level and R2 above 0), ``winning_band`` (largest split R2 of a significant voxel), ``alpha``.
        For decoding and haufe, per target: ``<kind>_<target>``, ``p_<target>``, ``q_<target>`` and
        ``significant_<target>``.
    areas : DataFrame
        One row an area and band: mean over all voxels of the area in the map. See :func:`voxelwise_maps`.
    scores : list of dict
        Scores beside their null, for tables and scripts.
    settings : dict
        Everything that was chosen: delays, numbers of stimuli, permutations, seed.
    """

    subject: str
    kind: Kind
    task: str
    bands: list[str]
    table: pd.DataFrame
    areas: pd.DataFrame
    scores: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        wanted = ("r2", "decoding_", "haufe_", "noise_ceiling", "p", "q")
        names = [name for name in self.table if name.startswith(wanted) and name != "rois"]
        return {name: self.table[name].to_numpy(dtype=float) for name in names}


def voxelwise_maps(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    bands: Sequence[str] | None = None,
    kind: Kind = "encoding",
    task: str | None = None,
    delays: Sequence[int] | None = None,
    n_permutations: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    device: str = "cpu",
) -> VoxelwiseMap:
    """Map what each voxel encodes, or what a linear decoder makes of it.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    bands : sequence of str, optional
        Targets of the store, one band each; by default one for each role (:data:`~neurorecon.analyses.bands.ROLES`):
        ``clip_image``, ``vqvae``, ``vdvae`` and ``motion`` where the store holds them.
    kind : {"encoding", "decoding", "haufe"}
        Encoding: banded ridge from all bands to each voxel, R2 on the test stimuli, split over bands by the product
        measure. Decoding: weight of each voxel in a ridge decoder of each target. Haufe: the pattern that goes
        with these weights.
    task : str, optional
        By default the one with the most training stimuli that have all bands.
    delays : sequence of int, optional
        Of the features in samples, for time series; by default those of 2 to 8 s.
    n_permutations : int
        Of the test stimuli (encoding), or of the training stimuli (decoding, haufe).
    level : float
        False discovery rate.
    seed : int
        Of permutations and resampling.
    device : str
        Where regressions are solved, e.g. ``"cuda"``.

    Returns
    -------
    VoxelwiseMap

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist or the store does not hold what is needed.
    """
    name = subject if subject is not None else store.subjects[0]
    if kind not in KINDS:
        raise UnknownNameError("kind of map", kind, KINDS)
    if n_permutations < 1 or not 0 < level < 1:
        raise InputError(
            "these settings make no test",
            given=f"n_permutations={n_permutations}, level={level}",
            expected="at least 1 permutation and a level between 0 and 1",
            todo="1000 permutations and a level of .05 are customary",
        )
    table = store.voxels(name, roi)
    chosen = choose_bands(store, bands, name, task)
    picked = design.choose_task(store, name, chosen, task)
    _require_test(store, name, picked)
    settings = {
        "subject": name,
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "kind": kind,
        "task": picked,
        "bands": chosen,
        "n_permutations": n_permutations,
        "level": level,
        "seed": seed,
        "device": device,
        "voxels": len(table),
    }
    if kind == "encoding":
        steps = design.choose_delays(store, name, picked, delays)
        return _encoding_map(store, name, roi, table, chosen, picked, steps, settings)
    return _decoding_map(store, name, roi, table, chosen, picked, settings)


def _require_test(store: Store, subject: str, task: str) -> None:
    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"maps need held-out stimuli, and the task {task!r} has none",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test'",
            todo="choose another task, or use: neurorecon reconstruct --cross-validate category",
        )


def _encoding_map(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    table: pd.DataFrame,
    bands: list[str],
    task: str,
    delays: tuple[int, ...],
    settings: dict[str, Any],
) -> VoxelwiseMap:
    series, seed = task in store.series(subject), settings["seed"]
    train, test = (design.load_samples(store, subject, roi, split, task) for split in ("train", "test"))
    areas = area_masks(store, subject, table)
    fit = fit_encoding(
        store,
        bands,
        train,
        test,
        delays,
        series=series,
        areas=np.array(list(areas.values())).reshape(len(areas), len(table)),
        n_permutations=settings["n_permutations"],
        seed=seed,
        device=settings["device"],
    )
    found = table.assign(r2=fit.test.observed)
    for band, values in zip(bands, _split(fit), strict=True):
        found[f"r2_{band}"] = values
    ceiling = store.noise_ceiling(subject, roi, task)
    if ceiling is not None:
        found["noise_ceiling"] = ceiling
    rejected, q = false_discovery_rate(fit.test.p, settings["level"])
    # Below zero the mean predicts better than the model, even where chance does worse still.
    rejected &= fit.test.observed > 0
    found = found.assign(p=fit.test.p, q=q, significant=rejected, alpha=fit.alpha)
    found["winning_band"] = names_of(bands, winning_band(_split(fit), rejected))
    block = len(delays) + max(delays)
    scored = roi_scores(fit, areas, series=series, block=block, seed=seed)
    settings |= {
        "delays": list(delays),
        "delay_seconds": [delay * store.series(subject).get(task, 0.0) for delay in delays],
        "train_stimuli": len(train.stimuli),
        "test_stimuli": len(test.stimuli),
        "train_samples": len(train.shown),
        "test_samples": len(test.shown),
        "significant_voxels": int(rejected.sum()),
    }
    rows = _area_rows(bands, areas, scored, fit, found)
    scores = _encoding_scores(subject, areas, scored, fit, len(test.stimuli))
    return VoxelwiseMap(subject, "encoding", task, bands, found, rows, scores, settings)


def _split(fit: EncodingFit) -> np.ndarray:
    assert fit.test.split is not None
    return fit.test.split.observed


def area_masks(store: Store, subject: str, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the areas that a selection of voxels covers, bool arrays over the selection."""
    masks = {name: mask[table.index.to_numpy()] for name, mask in store.roi_masks(subject).items()}
    whole = store.rois(subject)
    return {name: mask for name, mask in masks.items() if mask.sum() >= SHARE_OF_AREA * max(1, whole[name])}


def _area_rows(
    bands: list[str],
    areas: dict[str, np.ndarray],
    scored: dict[str, RoiScore],
    fit: EncodingFit,
    found: pd.DataFrame,
) -> pd.DataFrame:
    rows = []
    assert fit.test.groups is not None
    p = dict(zip(areas, fit.test.groups.p, strict=True))
    for area, score in scored.items():
        mask = areas[area]
        winners = found["winning_band"].to_numpy()[mask]
        for number, band in enumerate(bands):
            rows.append(
                {
                    "roi": area,
                    "band": band,
                    "value": score.bands[number],
                    "low": score.low[number],
                    "high": score.high[number],
                    "joint": score.joint,
                    "p": p[area],
                    "ceiling": found["noise_ceiling"].to_numpy()[mask].mean() if "noise_ceiling" in found else np.nan,
                    "n": score.voxels,
                    "significant": int((winners != "").sum()),
                    "wins": int((winners == band).sum()),
                }
            )
    return pd.DataFrame(rows)


def _encoding_scores(
    subject: str, areas: dict[str, np.ndarray], scored: dict[str, RoiScore], fit: EncodingFit, stimuli: int
) -> list[dict[str, Any]]:
    tested = fit.test.groups
    assert tested is not None
    rows = []
    for number, area in enumerate(areas):
        if area in scored:
            rows.append(
                {
                    "name": f"{subject} {area} mean joint R2",
                    "value": float(tested.observed[number]),
                    "null_mean": float(tested.null[number].mean()),
                    "null_max": float(tested.null[number].max()),
                    "p": float(tested.p[number]),
                    "n": stimuli,
                    "voxels": scored[area].voxels,
                    "bands": dict(zip(fit.bands, map(float, scored[area].bands), strict=True)),
                }
            )
    return rows


def _decoding_map(
    store: Store,
    subject: str,
    roi: str | Iterable[str] | None,
    table: pd.DataFrame,
    bands: list[str],
    task: str,
    settings: dict[str, Any],
) -> VoxelwiseMap:
    kind: Any = settings["kind"]
    train, test = (decoding_samples(store, subject, roi, split, task) for split in ("train", "test"))
    found, rows, scores = table.copy(), [], []
    areas = area_masks(store, subject, table)
    for band in bands:
        fit = fit_decoding(
            store,
            band,
            train,
            test,
            kind=kind,
            series=task in store.series(subject),
            n_permutations=settings["n_permutations"],
            seed=settings["seed"],
            device=settings["device"],
        )
        rejected, q = false_discovery_rate(fit.p, settings["level"])
        found[f"{kind}_{band}"] = fit.value
        found[f"p_{band}"], found[f"q_{band}"], found[f"significant_{band}"] = fit.p, q, rejected
        rows += [_decoding_row(area, mask, fit, rejected) for area, mask in areas.items() if mask.any()]
        scores.append(_decoding_score(subject, fit))
    settings |= {
        "delays": list(peak_delays(store, subject, task)),
        "train_stimuli": int(train[1]["stimulus"].nunique()),
        "test_stimuli": int(test[1]["stimulus"].nunique()),
    }
    return VoxelwiseMap(subject, kind, task, bands, found, pd.DataFrame(rows), scores, settings)


def _decoding_row(area: str, mask: np.ndarray, fit: DecodingFit, rejected: np.ndarray) -> dict[str, Any]:
    return {
        "roi": area,
        "band": fit.target,
        "value": fit.value[mask].mean(),
        "null": fit.null_mean[mask].mean(),
        "n": int(mask.sum()),
        "significant": int(rejected[mask].sum()),
    }


def _decoding_score(subject: str, fit: DecodingFit) -> dict[str, Any]:
    return {
        "name": f"{subject} {fit.target} mean correlation of decoded and true features",
        "value": fit.correlation,
        "null_mean": fit.correlation_null_mean,
        "p": fit.correlation_p,
        "n": fit.stimuli,
        "alpha": fit.alpha,
    }
