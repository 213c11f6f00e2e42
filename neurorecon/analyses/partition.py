"""Variance partitioning: how much of R2 only one band explains in each voxel, and how much several share.

One banded ridge regression for every combination of bands, all on the same folds and kernels (Lescroart, Stansbury &
Gallant 2015; de Heer et al. 2017).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses import design
from neurorecon.analyses.design import EncodingSettings, Selection, renamed_keywords
from neurorecon.analyses.encoding import fold_groups, standardize
from neurorecon.analyses.results import Result, with_normalized
from neurorecon.decoders.alphas import quiet_edges
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable
from neurorecon.stats import VariancePartition, band_combinations, mean_ceiling, partition_predictions, shown_ceiling
from neurorecon.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Partition(Result):
    """Unique and shared variance in the voxels of one subject.

    Parameters
    ----------
    bands : list of str
        Targets, one band each.
    partition : VariancePartition
        Arrays of shape (combination, voxel), and (combination, roi) in ``partition.groups``.
    table : DataFrame
        One row per voxel: ``r2`` (joint), ``unique_<band>``, ``common_<band>_<band>...``, and where the store has
        noise ceilings ``noise_ceiling`` and each of these columns over the ceiling, ``normalized_...``.
    rois : DataFrame
        One row per ROI and combination: ``roi``, ``bands``, ``value`` (mean over all voxels of the ROI), ``low``,
        ``high`` (interval over test stimuli), ``joint``, ``ceiling``, ``n``, ``normalized`` (value over ceiling).
    """

    kind: str = "partition"
    bands: list[str]
    partition: VariancePartition
    table: pd.DataFrame
    rois: pd.DataFrame

    @property
    def areas(self) -> pd.DataFrame:
        """The former name of `rois`."""
        warnings.warn("Partition.areas is deprecated; use .rois", DeprecationWarning, stacklevel=2)
        return self.rois

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of voxels and of ROIs."""
        return {"voxels": self.table, "rois": self.rois}

    def brain_maps(self) -> dict[str, np.ndarray]:
        """Return R2 and its parts."""
        names = [name for name in self.table if name == "r2" or name.startswith(("unique_", "common_"))]
        return {name: self.table[name].to_numpy(dtype=float) for name in names}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the bars of ROIs."""
        from neurorecon.analyses import map_figures

        return {"rois": lambda: map_figures.partition_bars(self, store)} if len(self.rois) else {}

    def text(self, store: Store) -> str:
        """Return the ROIs as a table a person can read."""
        lines = [
            "",
            f"{self.subject} · {store.label} · {self.task}: R2 that only one band explains, and that bands have in "
            f"common; {100 * self._settings.confidence:g}% intervals over test stimuli",
        ]
        for roi, rows in self.rois.groupby("roi", sort=False) if len(self.rois) else ():
            first = rows.iloc[0]
            ceiling = f", ceiling {first['ceiling']:.2f}" if first["ceiling"] == first["ceiling"] else ""
            lines.append(f"{roi}: {first['n']} voxels, joint R2 {first['joint']:.3f}{ceiling}")
            lines += [
                f"  {row.bands:<40}{row.value:>8.3f}  [{row.low:.3f}, {row.high:.3f}]" for row in rows.itertuples()
            ]
        return "\n".join(lines)

    @property
    def _settings(self) -> EncodingSettings:
        assert isinstance(self.settings, EncodingSettings)
        return self.settings


@renamed_keywords(level="confidence")
def partition_variance(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    bands: Sequence[str] | None = None,
    task: str | None = None,
    delays: Sequence[int] | None = None,
    n_bootstraps: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    device: str = "cpu",
    standardize_features: bool = True,
) -> Partition:
    """Fit every combination of bands to each voxel, and partition R2 on the test stimuli over them.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`.
    subject, roi, bands, task, delays
        As for :func:`neurorecon.voxelwise_maps`. At least two bands; k bands take 2 ** k - 1 models.
    n_bootstraps : int
        Resamples of the test stimuli behind the intervals of trials; those of time series are jackknifes over blocks.
    confidence : float
        Coverage of the intervals.
    seed : int
        Of the resampling and of the search of banded ridge.
    device : str
        Where regressions are solved.
    standardize_features : bool
        Standardize each feature by the training stimuli. Otherwise features keep their relative scale within a band.

    Returns
    -------
    Partition

    Raises
    ------
    UnknownNameError, InputError
        If a name does not exist, or the store lacks stimuli, samples or targets.
    """
    settings = EncodingSettings(
        roi=roi, bands=bands, task=task, delays=delays, n_bootstraps=n_bootstraps, confidence=confidence, seed=seed,
        device=device, partition=True, standardize_features=standardize_features,
    )  # fmt: skip
    return compute_partition(store, store.subjects[0] if subject is None else subject, settings)


def compute_partition(store: Store, subject: str, settings: EncodingSettings) -> Partition:
    """Do what :func:`partition_variance` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose voxels.
    settings : EncodingSettings
        What to fit.

    Returns
    -------
    Partition
    """
    band_combinations(design.choose_bands(store, settings.bands, subject, settings.task))  # raises where too few
    selection = design.select(store, subject, settings)
    table = store.voxels(subject, settings.rois)
    rois = design.covered_rois(store, subject, table)
    train, test = design.load_both(store, selection, settings, slice(None))
    measured, predicted = _predictions(store, selection, train, test, settings)
    partition = partition_predictions(
        measured,
        predicted,
        groups=np.array(list(rois.values()), dtype=bool).reshape(len(rois), len(table)),
        n_bootstraps=settings.n_bootstraps,
        level=settings.confidence,
        runs=test.runs if selection.series else None,
        seed=settings.seed,
    )
    ceiling, about_ceiling = design.scored_ceiling(store, selection, settings)
    return Partition(
        subject=subject,
        task=selection.task,
        settings=settings,
        chosen={
            "task": selection.task,
            "bands": list(selection.bands),
            "voxels": selection.voxels,
            "delays": list(selection.delays),
            "train_stimuli": len(train.stimuli),
            "test_stimuli": len(test.stimuli),
            "test_samples": len(test.shown),
            "noise_ceiling": about_ceiling,
        },
        bands=list(selection.bands),
        partition=partition,
        table=_voxel_table(table, partition, ceiling),
        rois=_roi_table(partition, rois, ceiling),
    )


def _predictions(
    store: Store, selection: Selection, train: SampleTable, test: SampleTable, settings: EncodingSettings
) -> tuple[np.ndarray, dict[str | tuple[str, ...], np.ndarray]]:
    """Return test responses, and the prediction of the model of each combination of bands, (sample, voxel)."""
    from neurorecon.decoders.banded import BandedRidge

    bands = selection.bands
    scaled = settings.standardize_features
    within, across = design.grams(store, bands, train.stimuli, test.stimuli, standardize=scaled)
    seen, shown = train.at_delays(selection.delays), test.at_delays(selection.delays)
    kernels = {band: delayed_kernel(gram, seen, seen) for band, gram in zip(bands, within, strict=True)}
    tests = {band: delayed_kernel(gram, shown, seen) for band, gram in zip(bands, across, strict=True)}
    standardized, scale = standardize(train.responses)
    groups = fold_groups(train, selection.series)
    predicted: dict[str | tuple[str, ...], np.ndarray] = {}
    for combination in band_combinations(bands):
        model = BandedRidge(random_state=settings.seed, device=settings.device)
        with quiet_edges():  # encoding maps count the alphas of the model of all bands
            model.fit_kernels({band: kernels[band] for band in combination}, standardized, groups=groups)
        predicted[combination] = model.predict_kernels({band: tests[band] for band in combination})
    # As in encoding maps, the baseline of the test set is not part of what is tested.
    measured = test.responses / scale
    return measured - measured.mean(axis=0), predicted


def _voxel_table(table: pd.DataFrame, partition: VariancePartition, ceiling: np.ndarray | None) -> pd.DataFrame:
    columns = {"r2": partition.joint}
    for combination, values in zip(partition.combinations, partition.values, strict=True):
        columns[f"{'unique' if len(combination) == 1 else 'common'}_{'_'.join(combination)}"] = values
    found = table.assign(**columns)
    if ceiling is not None:
        found["noise_ceiling"] = shown_ceiling(ceiling)
    return with_normalized(found, {name: f"normalized_{name}" for name in columns}, "noise_ceiling")


def _roi_table(
    partition: VariancePartition, rois: Mapping[str, np.ndarray], ceiling: np.ndarray | None
) -> pd.DataFrame:
    rows = []
    means = partition.groups
    for number, (name, mask) in enumerate(rois.items()):
        assert means is not None
        assert means.interval is not None
        for row, combination in enumerate(means.combinations):
            rows.append(
                {
                    "roi": name,
                    "bands": "+".join(combination),
                    "value": float(means.values[row, number]),
                    "low": float(means.interval.low[row, number]),
                    "high": float(means.interval.high[row, number]),
                    "joint": float(means.joint[number]),
                    "ceiling": np.nan if ceiling is None else mean_ceiling(ceiling, mask),
                    "n": int(mask.sum()),
                }
            )
    return with_normalized(pd.DataFrame(rows), {"value": "normalized"}, "ceiling")
