"""Variance partitioning of a subject's voxels: which part of R2 only one band explains, and which several share.

One banded ridge regression for every combination of bands, all on the same folds and kernels (Lescroart, Stansbury &
Gallant 2015; de Heer et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.areas import roi_masks
from neurorecon.analyses.bands import choose_bands
from neurorecon.analyses.encoding import fold_groups
from neurorecon.errors import InputError
from neurorecon.stats import VariancePartition, band_combinations, normalize_r2, partition_predictions
from neurorecon.store.store import Store


@dataclass(frozen=True)
class VoxelwisePartition:
    """Unique and shared variance in the voxels of one subject.

    Parameters
    ----------
    subject, task : str
        What was analyzed.
    bands : list of str
        Targets, one band each.
    partition : VariancePartition
        Arrays of shape (combination, voxel), and (combination, ROI) in ``partition.groups``.
    table : DataFrame
        One row a voxel: ``r2`` (joint), ``unique_<band>``, ``common_<band>_<band>...``, and where the store has
        noise ceilings ``noise_ceiling`` and each of these columns over the ceiling, ``normalized_...``.
    ROIs : DataFrame
        One row an ROI and combination: ``roi``, ``bands``, ``value`` (mean over all voxels of the ROI), ``low``,
        ``high`` (bootstrap over test stimuli), ``joint``, ``ceiling``, ``normalized`` (value over ceiling), ``n``.
    settings : dict
        Everything that was chosen.
    """

    subject: str
    task: str
    bands: list[str]
    partition: VariancePartition
    table: pd.DataFrame
    rois: pd.DataFrame
    settings: dict[str, Any]


def partition_variance(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    bands: Sequence[str] | None = None,
    task: str | None = None,
    delays: Sequence[int] | None = None,
    n_bootstraps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    device: str = "cpu",
) -> VoxelwisePartition:
    """Fit every combination of bands to each voxel, and share out R2 on the test stimuli over them.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subject, roi, bands, task, delays
        As for :func:`neurorecon.voxelwise_maps`. Two bands at least; k bands take 2 ** k - 1 models.
    n_bootstraps : int
        Resamples of the test stimuli (of stretches of a time series) behind the intervals.
    level : float
        Coverage of the intervals.
    seed : int
        Of the resampling and of the search of banded ridge.
    device : str
        Where regressions are solved.

    Returns
    -------
    VoxelwisePartition

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist or the store does not hold what is needed.
    """
    name = subject if subject is not None else store.subjects[0]
    chosen = choose_bands(store, bands, name, task)
    combined = band_combinations(chosen)
    picked = design.choose_task(store, name, chosen, task)
    series, steps = picked in store.series(name), design.choose_delays(store, name, picked, delays)
    _require_test(store, name, picked)
    train, test = (design.load_samples(store, name, roi, split, picked) for split in ("train", "test"))
    table = store.voxels(name, roi)
    masks = roi_masks(store, name, table)
    measured, predicted = _predictions(store, chosen, train, test, steps, combined, series, seed, device)
    partition = partition_predictions(
        measured,
        predicted,
        groups=np.array(list(masks.values()), dtype=bool).reshape(len(masks), len(table)),
        n_bootstraps=n_bootstraps,
        level=level,
        block=len(steps) + max(steps) if series else 1,
        seed=seed,
    )
    ceiling = store.noise_ceiling(name, roi, picked)
    settings = {
        "subject": name,
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "task": picked,
        "bands": chosen,
        "delays": list(steps),
        "n_bootstraps": n_bootstraps,
        "level": level,
        "seed": seed,
        "device": device,
        "train_stimuli": len(train.stimuli),
        "test_stimuli": len(test.stimuli),
        "test_samples": len(test.shown),
    }
    found = _table(table, partition, ceiling)
    return VoxelwisePartition(name, picked, chosen, partition, found, _rois(partition, masks, ceiling), settings)


def _require_test(store: Store, subject: str, task: str) -> None:
    samples = store.samples(subject)
    splits = set(samples.loc[samples["task"] == task, "split"])
    if not {"train", "test"} <= splits:
        raise InputError(
            f"variance is partitioned on held-out stimuli, and the task {task!r} has none",
            given=f"splits: {', '.join(sorted(splits))}",
            expected="a split 'train' and a split 'test'",
        )


def _predictions(
    store: Store,
    bands: Sequence[str],
    train: design.Samples,
    test: design.Samples,
    delays: Sequence[int],
    combined: Sequence[tuple[str, ...]],
    series: bool,
    seed: int,
    device: str,
) -> tuple[np.ndarray, dict[str | tuple[str, ...], np.ndarray]]:
    """Return test responses, and the prediction of the model of each combination of bands, (sample, voxel)."""
    from neurorecon.decoders.banded import BandedRidge

    within, across = design.grams(store, bands, train.stimuli, test.stimuli)
    seen, shown = train.at_delays(delays), test.at_delays(delays)
    kernels = {band: design.delayed_kernel(gram, seen, seen) for band, gram in zip(bands, within, strict=True)}
    tests = {band: design.delayed_kernel(gram, shown, seen) for band, gram in zip(bands, across, strict=True)}
    spread = train.responses.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    standardized = (train.responses - train.responses.mean(axis=0)) / scale
    groups = fold_groups(train, series)
    predicted: dict[str | tuple[str, ...], np.ndarray] = {}
    for combination in combined:
        model = BandedRidge(random_state=seed, device=device)
        model.fit_kernels({band: kernels[band] for band in combination}, standardized, groups=groups)
        predicted[combination] = model.predict_kernels({band: tests[band] for band in combination})
    # As in encoding maps, the baseline of the test set is not part of what is tested.
    measured = test.responses / scale
    return measured - measured.mean(axis=0), predicted


def _table(table: pd.DataFrame, partition: VariancePartition, ceiling: np.ndarray | None) -> pd.DataFrame:
    columns = {"r2": partition.joint}
    for combination, values in zip(partition.combinations, partition.values, strict=True):
        columns[f"{'unique' if len(combination) == 1 else 'common'}_{'_'.join(combination)}"] = values
    if ceiling is not None:
        columns |= {f"normalized_{name}": normalize_r2(values, ceiling) for name, values in columns.items()}
        columns["noise_ceiling"] = ceiling
    return table.assign(**columns)


def _rois(partition: VariancePartition, masks: dict[str, np.ndarray], ceiling: np.ndarray | None) -> pd.DataFrame:
    rows = []
    means = partition.groups
    for roi, (name, mask) in enumerate(masks.items()):
        assert means is not None
        assert means.interval is not None
        limit = float(np.mean(ceiling[mask])) if ceiling is not None else np.nan
        for row, combination in enumerate(means.combinations):
            value = float(means.values[row, roi])
            rows.append(
                {
                    "roi": name,
                    "bands": "+".join(combination),
                    "value": value,
                    "low": float(means.interval.low[row, roi]),
                    "high": float(means.interval.high[row, roi]),
                    "joint": float(means.joint[roi]),
                    "ceiling": limit,
                    "normalized": float(normalize_r2(value, limit)),
                    "n": int(mask.sum()),
                }
            )
    return pd.DataFrame(rows)
