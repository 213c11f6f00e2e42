"""Encoding maps: banded ridge from bands of features to each voxel, tested on held-out stimuli.

Nunez-Elizalde, Huth & Gallant (2019) NeuroImage 197:482; Dupre la Tour et al. (2022) NeuroImage 264:119728.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurorecon.analyses.design import Samples, delayed_kernel, grams
from neurorecon.stats import PermutationTest, bootstrap_weights, permutation_test_r2
from neurorecon.store.store import Store

#: Resamples of the test stimuli behind each confidence interval.
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class EncodingFit:
    """What banded ridge found in the voxels of one subject.

    Parameters
    ----------
    bands : list of str
        Names of the bands.
    test : PermutationTest
        Joint R2 on the test stimuli, its p and null per voxel; ``test.split`` the same per band.
    alpha : array, shape (voxel,)
        Regularization that cross-validation chose.
    predicted : array, shape (band, test_sample, voxel)
        What each band predicts, in standard deviations of the training responses, around the mean.
    measured : array, shape (test_sample, voxel)
        Responses in the same units, less their mean.
    """

    bands: list[str]
    test: PermutationTest
    alpha: np.ndarray
    predicted: np.ndarray
    measured: np.ndarray


def fit_encoding(
    store: Store,
    bands: Sequence[str],
    train: Samples,
    test: Samples,
    delays: Sequence[int],
    *,
    series: bool,
    rois: np.ndarray,
    n_permutations: int,
    seed: int,
    device: str = "cpu",
    products: tuple[np.ndarray, np.ndarray] | None = None,
) -> EncodingFit:
    """Fit banded ridge on the training samples and test it on the test samples.

    Parameters
    ----------
    store : Store
        Where the targets are.
    bands : sequence of str
        Targets, one band each.
    train, test : Samples
        Responses and what was shown.
    delays : sequence of int
        Of the features, in samples.
    series : bool
        Whether samples are a time series: folds then are runs, else groups of stimuli.
    ROIs : bool array, shape (ROI, voxel)
        Areas whose mean R2 is tested in the same permutations.
    n_permutations, seed : int
        Of the permutation test, in which the test stimuli trade places.
    device : str
        Where the search runs.
    products : (array, array), optional
        What :func:`~neurorecon.analyses.design.grams` returns for these bands and samples, where it is known already.

    Returns
    -------
    EncodingFit
    """
    from neurorecon.decoders.banded import BandedRidge

    within, across = grams(store, bands, train.stimuli, test.stimuli) if products is None else products
    seen = train.at_delays(delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in within])
    spread = train.responses.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    standardized = (train.responses - train.responses.mean(axis=0)) / scale
    model = BandedRidge({band: slice(0) for band in bands}, random_state=seed, device=device)
    model.fit_kernels(kernels, standardized, groups=fold_groups(train, series))
    contributions = _contributions(model, across, seen, len(train.shown))
    measured = test.responses / scale
    found = permutation_test_r2(
        contributions,
        measured,
        delays=delays,
        order=test.shown,
        runs=test.runs,
        groups=rois,
        n_permutations=n_permutations,
        seed=seed,
    )
    predicted = _predicted(contributions, test.at_delays(delays))
    return EncodingFit(list(bands), found, model.alphas_, predicted, measured - measured.mean(axis=0))


def fold_groups(samples: Samples, series: bool) -> np.ndarray:
    """Return a label for each sample; samples of one label are never on both sides of a fold.

    Trials are grouped by stimulus. Time series are grouped by run, and cut into stretches of a minute or so where
    there are fewer than five runs, because neighboring volumes share the response to the same stimuli.
    """
    if not series:
        return samples.shown
    if len(np.unique(samples.runs)) >= 5:
        return samples.runs
    return np.arange(len(samples.shown)) * 10 // len(samples.shown)


def _contributions(model: object, across: np.ndarray, seen: np.ndarray, n_train: int) -> np.ndarray:
    """Return what each test stimulus adds to the prediction at each delay, (band, delay, stimulus, voxel).

    Predictions are affine in the kernel, so the part of one delay is the prediction from its kernel alone less the
    prediction from a kernel of zeros.
    """
    zeros = np.zeros((len(across), 1, n_train))
    base = model.predict_kernels(zeros, split=True)  # type: ignore[attr-defined]
    padded = np.pad(across, ((0, 0), (0, 0), (0, 1)))
    parts = [model.predict_kernels(padded[:, :, row], split=True) - base for row in seen]  # type: ignore[attr-defined]
    return np.stack(parts, axis=1)


def _predicted(contributions: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the prediction of each band, (band, sample, voxel)."""
    padded = np.pad(contributions, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return np.sum([padded[:, delay, row] for delay, row in enumerate(seen)], axis=0)


@dataclass(frozen=True)
class RoiScore:
    """Mean R2 over the voxels of one ROI.

    Parameters
    ----------
    joint, joint_null_mean, joint_p : float
        Of all bands together.
    bands : array, shape (band,)
        Share of each band.
    low, high : array, shape (band,)
        95 % bootstrap interval over test stimuli.
    voxels : int
        Number of voxels.
    """

    joint: float
    bands: np.ndarray
    low: np.ndarray
    high: np.ndarray
    voxels: int


def roi_scores(
    fit: EncodingFit, rois: Mapping[str, np.ndarray], *, series: bool, block: int, seed: int
) -> dict[str, RoiScore]:
    """Return the mean split R2 of each ROI over the voxels in its mask, with bootstrap intervals over test stimuli.

    Parameters
    ----------
    fit : EncodingFit
        A fitted subject.
    rois : mapping of str to bool array, shape (voxel,)
        The voxels to average.
    series : bool
        Resample stretches of `block` samples, as neighboring volumes are not independent.
    block : int
        Length of these stretches, in samples.
    seed : int
        Of the resampling.
    """
    return scores_of_sums(roi_sums(fit, rois, series=series, block=block, seed=seed), rois)


@dataclass(frozen=True)
class RoiSums:
    """Sums of the shares of R2 over the voxels of ROIs; those of several blocks of voxels add up.

    Parameters
    ----------
    sums, counts : array, shape (roi, band, resample)
        Sum over the voxels whose share is defined, and how many they are; the first resample is the sample itself.
    """

    sums: np.ndarray
    counts: np.ndarray


def roi_sums(fit: EncodingFit, rois: Mapping[str, np.ndarray], *, series: bool, block: int, seed: int) -> RoiSums:
    """Return the sums behind :func:`roi_scores`, for the voxels of a fit."""
    weights = bootstrap_weights(len(fit.measured), BOOTSTRAPS, seed, block if series else 1)
    total = fit.predicted.sum(axis=0)
    energy = weights @ fit.measured**2
    gain = [weights @ (part * (2 * fit.measured - total)) for part in fit.predicted]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([np.where(energy > 0, part / energy, np.nan) for part in gain])
    found = RoiSums(*np.zeros((2, len(rois), *shares.shape[:2])))
    for number, mask in enumerate(rois.values()):
        found.sums[number] = np.nansum(shares[:, :, mask], axis=2, dtype=np.float64)
        found.counts[number] = (~np.isnan(shares[:, :, mask])).sum(axis=2)
    return found


def add_roi_sums(first: RoiSums, second: RoiSums) -> RoiSums:
    """Return the sums over the voxels of both."""
    return RoiSums(first.sums + second.sums, first.counts + second.counts)


def scores_of_sums(sums: RoiSums, rois: Mapping[str, np.ndarray]) -> dict[str, RoiScore]:
    """Return the score of each ROI that has voxels, from the sums over them."""
    found = {}
    for (name, mask), summed, counts in zip(rois.items(), sums.sums, sums.counts, strict=True):
        if not mask.any():
            continue
        with np.errstate(invalid="ignore"):
            means = summed / counts
        low, high = np.percentile(means[:, 1:], [2.5, 97.5], axis=1)
        joint = float(means[:, 0].sum())
        found[name] = RoiScore(joint, means[:, 0], low, high, int(mask.sum()))
    return found


def winning_band(split: np.ndarray, significant: np.ndarray) -> np.ndarray:
    """Return the band with the largest split R2 in each significant voxel, -1 elsewhere.

    Parameters
    ----------
    split : array, shape (band, voxel)
        Split R2.
    significant : bool array, shape (voxel,)
        Where the joint prediction is better than chance.
    """
    return np.where(significant, np.argmax(np.nan_to_num(split, nan=-np.inf), axis=0), -1)


def names_of(bands: Sequence[str], winner: np.ndarray) -> Iterable[str]:
    """Return the name of the winning band of each voxel, ``""`` for none."""
    return np.array([*bands, ""])[winner]
