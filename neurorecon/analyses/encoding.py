"""Encoding models: banded ridge from bands of features to each voxel, tested on held-out stimuli, in blocks of voxels.

A block reads its own responses from the store and takes the products of the features between stimuli, which all blocks
of a subject share. Where blocks begin depends on the data alone, never on who computes.

Nunez-Elizalde, Huth & Gallant (2019) NeuroImage 197:482; Dupre la Tour et al. (2022) NeuroImage 264:119728.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from neurorecon.analyses import design
from neurorecon.analyses.design import EncodingSettings, Selection
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable
from neurorecon.parallel.jobs import Arrays, Results
from neurorecon.parallel.workers import choose_card
from neurorecon.stats import PermutationTest, bootstrap_weights, permutation_p, permutation_test_r2
from neurorecon.store.store import Store

#: Voxels of the smallest block: less is not worth a job.
SMALLEST_BLOCK = 4096

#: Voxels a block for each training sample. Every block diagonalizes the same kernels; from twice as many voxels as
#: samples on, that takes less than half as long as what has to be done for each voxel.
VOXELS_PER_SAMPLE = 2

#: Responses of one block: 1 GiB in single precision.
MOST_VALUES = 2**28

#: Groups that are held out one at a time; more of them are held out in as many folds.
MOST_FOLDS = 12


# -- fit --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """Held-out responses of some voxels, and what banded ridge predicts of them.

    Parameters
    ----------
    predicted : array, shape (band, sample, voxel)
        What each band predicts, in standard deviations of the training responses, around the mean.
    measured : array, shape (sample, voxel)
        Responses in the same units, less their mean.
    alpha : array, shape (voxel,)
        Alpha that cross-validation chose.
    folds : array, shape (fold, voxel), optional
        R2 on the samples that each fold holds out.
    """

    predicted: np.ndarray
    measured: np.ndarray
    alpha: np.ndarray
    folds: np.ndarray | None = None


def fit_encoding(
    products: tuple[np.ndarray, np.ndarray],
    train: SampleTable,
    test: SampleTable,
    delays: Sequence[int],
    *,
    series: bool,
    settings: EncodingSettings,
    rois: np.ndarray | None = None,
) -> tuple[HeldOut, PermutationTest]:
    """Fit banded ridge on the training samples and test it on the test samples.

    Parameters
    ----------
    products : (array, array)
        From :func:`~neurorecon.analyses.design.grams`, for the bands and these stimuli.
    train, test : SampleTable
        Responses and what was shown.
    delays : sequence of int
        Of the features, in samples.
    series : bool
        Whether samples are a time series: folds then are runs, else groups of stimuli.
    settings : EncodingSettings
        Which null, how many permutations, seed and device.
    rois : bool array, shape (roi, voxel), optional
        ROIs whose mean R2 is tested in the same permutations.

    Returns
    -------
    held_out : HeldOut
        Measured and predicted responses.
    test : PermutationTest
        Joint R2 on the test samples, its p and null; ``test.split`` the same for the share of each band.
    """
    from neurorecon.decoders.banded import BandedRidge

    within, across = products
    seen = train.at_delays(delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in within])
    standardized, scale = standardize(train.responses)
    model = BandedRidge(random_state=settings.seed, device=settings.device)
    groups = fold_groups(train, series)
    model.fit_kernels(kernels, standardized, groups=groups)
    measured = test.responses / scale
    centered, shown = measured - measured.mean(axis=0), test.at_delays(delays)
    if settings.null == "order":
        contributions = _contributions(model, across, seen, len(train.shown))
        held_out = HeldOut(_predicted(contributions, shown), centered, model.alphas_)
        order = {"order": test.shown, "runs": test.runs}
        return held_out, _order_test(contributions, measured, delays, settings, groups=rois, **order)
    from neurorecon.decoders.validation import group_folds
    from neurorecon.stats import refit_permutation_test_kernels

    tests = np.stack([delayed_kernel(gram, shown, seen) for gram in across])
    tested = refit_permutation_test_kernels(
        kernels,
        standardized,
        tests,
        centered,
        alphas=model.alphas,
        cv=group_folds(len(standardized), groups, model.cv),  # those that chose the alphas of the model
        units=groups,
        mixtures=model.mixtures_,
        n_permutations=settings.n_permutations,
        seed=settings.seed,
        groups=rois,
        device=settings.device,
    )
    return HeldOut(model.predict_kernels(tests, split=True), centered, model.alphas_), tested


def cross_validate_encoding(
    products: np.ndarray,
    samples: SampleTable,
    delays: Sequence[int],
    held: np.ndarray,
    *,
    series: bool,
    settings: EncodingSettings,
    rois: np.ndarray | None = None,
) -> tuple[HeldOut, PermutationTest]:
    """Fit banded ridge without some of the samples and test it on these, until each was held out once.

    The search of each fold sees the samples of the others only, whose mean is what R2 is compared with. Where runs or
    sessions are held out, the mean of each is removed first: as on a test split, the baseline is not part of what is
    tested.

    Parameters
    ----------
    products : array, shape (band, stimulus, stimulus)
        Products of the features between all stimuli.
    samples : SampleTable
        All responses and what was shown.
    delays : sequence of int
        Of the features, in samples.
    held : int array, shape (sample,)
        Which samples are held out together.
    series, settings, rois
        As for :func:`fit_encoding`.

    Returns
    -------
    held_out : HeldOut
        The samples in the order of the folds.
    test : PermutationTest
        As of :func:`fit_encoding`; stimuli trade places with those of their own fold.
    """
    from neurorecon.decoders.banded import BandedRidge
    from neurorecon.decoders.nested import nested_cross_validation

    seen = samples.at_delays(delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in products])
    folds = outer_folds(held, settings)
    responses = samples.responses.copy()
    if settings.cross_validate != "stimulus":
        for group in np.unique(held):
            responses[held == group] -= responses[held == group].mean(axis=0)
    standardized, _ = standardize(responses)
    # What the samples of a fold show or showed so many samples ago; contributions of each come from the fold's model.
    stimuli = [np.unique([*seen[:, test], samples.shown[test]]) for _, test in folds]
    stimuli = [part[part >= 0] for part in stimuli]
    parts: list[np.ndarray] = []

    def keep(model: Any, train: np.ndarray, test: np.ndarray) -> None:
        across = products[:, stimuli[len(parts)]]
        if series:
            parts.append(_contributions(model, across, seen[:, train], len(train)))
        else:  # a trial shows one stimulus: what that contributes is the prediction, around the mean of the fold
            parts.append(model.predict_kernels(across[:, :, seen[0, train]], split=True)[:, None])

    found = nested_cross_validation(
        BandedRidge(random_state=settings.seed, device=settings.device),
        y=standardized,
        groups=_inner_groups(samples, held, series),
        kernels=kernels,
        outer=folds,
        voxel_block=max(1, standardized.shape[1]),
        return_predictions=False,
        inspect=keep,
    )
    order = np.concatenate([test for _, test in folds])
    starts = np.cumsum([0, *(len(part) for part in stimuli)])

    def renumbered(rows: np.ndarray) -> np.ndarray:
        """Number the stimuli of each fold behind those of the folds before it; -1 stays."""
        return np.concatenate([
            np.where(rows[..., test] >= 0, np.searchsorted(part, rows[..., test]) + start, -1)
            for (_, test), part, start in zip(folds, stimuli, starts[:-1], strict=True)
        ], axis=-1)  # fmt: skip

    contributions = np.concatenate(parts, axis=2)
    measured = np.concatenate([standardized[test] - standardized[train].mean(axis=0) for train, test in folds])
    measured -= measured.mean(axis=0)
    held_out = HeldOut(
        predicted=_predicted(contributions, renumbered(seen)),
        measured=measured,
        alpha=np.exp(np.log(found.alphas).mean(axis=0)),
        folds=found.fold_r2,
    )
    tested = _order_test(
        contributions,
        measured,
        delays,
        settings,
        order=renumbered(samples.shown),
        runs=samples.runs[order] if series else None,
        within=np.repeat(np.arange(len(folds)), np.diff(starts)),
        groups=rois,
    )
    return held_out, tested


def _inner_groups(samples: SampleTable, held: np.ndarray, series: bool) -> np.ndarray:
    """Return a label for each sample, for the search within a fold: what is held out together stays together there.

    Where three such groups or fewer leave too few for a search, they are cut into stretches (stimuli, for trials).
    """
    if len(np.unique(held)) > 3:
        return held
    if not series:
        return held * len(samples.stimuli) + samples.shown
    stretches = np.zeros_like(held)
    for group in np.unique(held):
        stretches[held == group] = 10 * group + np.arange((held == group).sum()) * 10 // (held == group).sum()
    return stretches


def outer_folds(held: np.ndarray, settings: EncodingSettings) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds of a cross-validation: each group in turn, or :data:`MOST_FOLDS` of groups where there are more.

    Stimuli are dealt out at random, by the seed: in their own order, a fold may hold all stimuli of a category.

    Parameters
    ----------
    held : int array, shape (sample,)
        Which samples are held out together.
    settings : EncodingSettings
        What they are, and the seed.
    """
    from sklearn.model_selection import GroupKFold

    from neurorecon.decoders.validation import group_folds

    number = min(MOST_FOLDS, len(np.unique(held)))
    at_random = settings.cross_validate == "stimulus"
    splitter = GroupKFold(number, shuffle=at_random, random_state=settings.seed if at_random else None)
    return group_folds(len(held), held, splitter)


def standardize(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return responses less their mean in standard deviations, and these; 1 for voxels that never vary."""
    spread = responses.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    return (responses - responses.mean(axis=0)) / scale, scale


def _order_test(
    contributions: np.ndarray,
    measured: np.ndarray,
    delays: Sequence[int],
    settings: EncodingSettings,
    **options: Any,
) -> PermutationTest:
    n_permutations, seed = settings.n_permutations, settings.seed
    return permutation_test_r2(
        contributions, measured, delays=delays, n_permutations=n_permutations, seed=seed, **options
    )


def fold_groups(samples: SampleTable, series: bool) -> np.ndarray:
    """Return a label for each sample; samples of one label are never on both sides of a fold.

    Trials are grouped by stimulus. Time series are grouped by run, and cut into stretches of a minute or so where
    there are fewer than five runs, because neighboring volumes share the response to the same stimuli.
    """
    if not series:
        return samples.shown
    if len(np.unique(samples.runs)) >= 5:
        return samples.runs
    return np.arange(len(samples.shown)) * 10 // len(samples.shown)


def _contributions(model: Any, across: np.ndarray, seen: np.ndarray, n_train: int) -> np.ndarray:
    """Return what each test stimulus adds to the prediction at each delay, (band, delay, stimulus, voxel).

    Predictions are affine in the kernel, so the part of one delay is the prediction from its kernel alone less the
    prediction from a kernel of zeros.
    """
    zeros = np.zeros((len(across), 1, n_train))
    base = model.predict_kernels(zeros, split=True)
    padded = np.pad(across, ((0, 0), (0, 0), (0, 1)))
    parts = [model.predict_kernels(padded[:, :, row], split=True) - base for row in seen]
    return np.stack(parts, axis=1)


def _predicted(contributions: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the prediction of each band, (band, sample, voxel)."""
    padded = np.pad(contributions, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return np.sum([padded[:, delay, row] for delay, row in enumerate(seen)], axis=0)


# -- blocks of voxels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodingBlock:
    """Scores of a block of voxels; each field is written as one array.

    Parameters
    ----------
    r2, p : array, shape (voxel,)
        Joint R2 on the held-out samples, and its permutation p-value.
    split : array, shape (band, voxel)
        Share of each band in R2.
    alpha : array, shape (voxel,)
        Alpha that cross-validation chose.
    roi_sums : array, shape (roi, 1 + permutation)
        Sum of the joint R2 over the voxels of each ROI: as shown, and in each permutation.
    roi_counts : array, shape (roi,)
        How many voxels these are.
    share_sums, share_counts : array, shape (roi, band, 1 + bootstrap)
        Sum of the shares of the bands over the voxels of each ROI whose share is defined, and how many they are: of
        all held-out samples, and of each resample.
    fold_sums : array, shape (roi, fold)
        Sum of the joint R2 on each fold's samples; without cross-validation there is no fold.
    """

    r2: np.ndarray
    p: np.ndarray
    split: np.ndarray
    alpha: np.ndarray
    roi_sums: np.ndarray
    roi_counts: np.ndarray
    share_sums: np.ndarray
    share_counts: np.ndarray
    fold_sums: np.ndarray

    @classmethod
    def of(
        cls, held_out: HeldOut, test: PermutationTest, rois: np.ndarray, stretch: int, settings: EncodingSettings
    ) -> EncodingBlock:
        """Sum scores over the voxels of each ROI.

        Parameters
        ----------
        held_out : HeldOut
            Measured and predicted responses.
        test : PermutationTest
            Scores and their null.
        rois : bool array, shape (roi, voxel)
            The voxels of each ROI.
        stretch : int
            Samples that are resampled together.
        settings : EncodingSettings
            How often and with which seed.
        """
        counts = (rois & ~np.isnan(test.observed)).sum(axis=1)
        means = np.zeros((0, 1 + test.n_permutations))
        if test.groups is not None:
            means = np.concatenate([test.groups.observed[:, None], test.groups.null], axis=1)
        shares = _resampled_shares(held_out, stretch, settings)
        folds = np.zeros((0, len(test.observed))) if held_out.folds is None else held_out.folds
        return cls(
            r2=test.observed,
            p=test.p,
            split=test.observed[None] if test.split is None else test.split.observed,
            alpha=held_out.alpha,
            roi_sums=np.where(counts[:, None] > 0, means * counts[:, None], 0.0),
            roi_counts=counts,
            share_sums=np.array([np.nansum(shares[:, :, mask], axis=2, dtype=np.float64) for mask in rois]).reshape(
                len(rois), *shares.shape[:2]
            ),
            share_counts=np.array([(~np.isnan(shares[:, :, mask])).sum(axis=2) for mask in rois], dtype=float).reshape(
                len(rois), *shares.shape[:2]
            ),
            fold_sums=np.array([np.nansum(folds[:, mask], axis=1) for mask in rois]).reshape(len(rois), len(folds)),
        )


def _resampled_shares(held_out: HeldOut, stretch: int, settings: EncodingSettings) -> np.ndarray:
    """Return the share of each band in R2 in each resample of the held-out samples, (band, 1 + bootstrap, voxel)."""
    measured, predicted = held_out.measured, held_out.predicted
    weights = bootstrap_weights(len(measured), settings.n_bootstraps, settings.seed, stretch)
    total = predicted.sum(axis=0)
    energy = weights @ measured**2
    gain = [weights @ (part * (2 * measured - total)) for part in predicted]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.where(energy > 0, part / energy, np.nan) for part in gain])


@dataclass(frozen=True)
class EncodingJob:
    """The encoding model of one subject, before anything is computed.

    Parameters
    ----------
    store : Store
        Where responses and targets are.
    selection : Selection
        What the settings choose for the subject.
    settings : EncodingSettings
        What the user asked for.
    """

    store: Store
    selection: Selection
    settings: EncodingSettings

    def blocks(self) -> dict[str, VoxelBlock]:
        """Return the blocks of voxels, by name."""
        selection = self.selection
        width = self.settings.voxel_block or voxels_of_a_block(len(selection.train.shown))
        parts = block_names(selection.subject, selection.voxels, width)
        return {name: VoxelBlock(self, start, stop) for name, (start, stop) in parts.items()}

    def products(self) -> dict[str, tuple[EncodingJob, str]]:
        """Return what computes the products of each band's features, by name: the same for the same stimuli."""
        return {self.name_of_products(band): (self, band) for band in self.selection.bands}

    def name_of_products(self, band: str) -> str:
        """Return the name of the products of a band."""
        stimuli = "\n".join([*self.selection.train.stimuli, "", *self.selection.test.stimuli])
        return f"products of {band} {blake2b(stimuli.encode(), digest_size=6).hexdigest()}"


@dataclass(frozen=True)
class VoxelBlock:
    """Voxels `start` to `stop` of the selection of a job."""

    job: EncodingJob
    start: int
    stop: int


def block_names(subject: str, voxels: int, width: int) -> dict[str, tuple[int, int]]:
    """Return where the blocks of a subject's voxels start and stop, by the name of the block."""
    starts = [(start, min(start + width, voxels)) for start in range(0, voxels, width)]
    return {f"{subject} voxels {start}-{stop - 1}": (start, stop) for start, stop in starts}


def voxels_of_a_block(n_train: int) -> int:
    """Return how many voxels make up a block, by the number of training samples."""
    width = max(SMALLEST_BLOCK, VOXELS_PER_SAMPLE * n_train)
    return max(1024, min(width, MOST_VALUES // max(1, n_train)) // 1024 * 1024)


def compute_products(job_and_band: tuple[EncodingJob, str]) -> Arrays:
    """Compute the products of one band's features between stimuli: ``within`` and ``across`` of ``design.grams``."""
    job, band = job_and_band
    train, test = job.selection.train.stimuli, job.selection.test.stimuli
    within, across = design.grams(job.store, [band], train, test)
    return {"within": within[0], "across": across[0]}


def compute_voxels(products: Results, block: VoxelBlock) -> Arrays:
    """Fit and test the voxels of a block.

    Parameters
    ----------
    products : Results
        With the products of each band of the job.
    block : VoxelBlock
        Which voxels.

    Returns
    -------
    dict of str to array
        The fields of :class:`EncodingBlock`.
    """
    job, voxels = block.job, slice(block.start, block.stop)
    selection, settings, store = job.selection, job.settings, job.store
    if settings.device == "cuda":
        choose_card()
    covered = design.covered_rois(store, selection.subject, store.voxels(selection.subject, settings.rois))
    rois = np.array([mask[voxels] for mask in covered.values()], dtype=bool)
    rois = rois.reshape(len(covered), block.stop - block.start)
    found = [products.get(job.name_of_products(band)) for band in selection.bands]
    within = np.stack([part["within"] for part in found])
    options: dict[str, Any] = {"series": selection.series, "settings": settings, "rois": rois}
    if selection.held is None:
        across = np.stack([part["across"] for part in found])
        train, test = design.load_both(store, selection, settings, voxels)
        held_out, tested = fit_encoding((within, across), train, test, selection.delays, **options)
    else:
        samples = design.load_all_samples(store, selection.subject, settings, selection.task, voxels)
        held_out, tested = cross_validate_encoding(within, samples, selection.delays, selection.held, **options)
    return vars(EncodingBlock.of(held_out, tested, rois, selection.stretch, settings))


# -- all blocks of a subject ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoiScore:
    """Mean R2 over the voxels of one ROI.

    Parameters
    ----------
    joint : float
        Of all bands together, over the voxels whose shares are defined.
    bands, low, high : array, shape (band,)
        Share of each band, and its bootstrap interval over held-out samples.
    observed, p : float
        Joint R2 in the permutation test, and its p-value.
    null : array, shape (permutation,)
        The same mean in each permutation.
    voxels : int
        Number of voxels.
    folds : array, shape (fold,)
        Joint R2 on the samples of each fold; empty without cross-validation.
    """

    joint: float
    bands: np.ndarray
    low: np.ndarray
    high: np.ndarray
    observed: float
    p: float
    null: np.ndarray
    voxels: int
    folds: np.ndarray


@dataclass(frozen=True)
class EncodingScores:
    """Scores of banded ridge in all voxels of one subject.

    Parameters
    ----------
    r2, p, alpha : array, shape (voxel,)
        As of :class:`EncodingBlock`.
    split : array, shape (band, voxel)
        Share of each band.
    rois : dict of str to RoiScore
        The ROIs that have voxels.
    """

    r2: np.ndarray
    p: np.ndarray
    alpha: np.ndarray
    split: np.ndarray
    rois: dict[str, RoiScore]


def gather(blocks: Iterable[EncodingBlock], rois: Mapping[str, np.ndarray], confidence: float = 0.95) -> EncodingScores:
    """Put the blocks of a subject together.

    Parameters
    ----------
    blocks : iterable of EncodingBlock
        In the order of the voxels.
    rois : mapping of str to bool array, shape (voxel,)
        All ROIs, in the order of the blocks.
    confidence : float
        Coverage of the intervals.
    """
    parts = list(blocks)
    roi_sums, counts, share_sums, share_counts, fold_sums = (
        np.sum([getattr(part, name) for part in parts], axis=0)
        for name in ("roi_sums", "roi_counts", "share_sums", "share_counts", "fold_sums")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means, shares = roi_sums / counts[:, None], share_sums / share_counts
        folds = fold_sums / counts[:, None]
    p = np.full(len(means), np.nan)
    if (counts > 0).any():
        p[counts > 0] = permutation_p(means[counts > 0, 0], means[counts > 0, 1:].T)
    tail = round(50 * (1 - confidence), 9)  # 2.5 for .95, and not a rounding error more
    found = {}
    for number, (name, mask) in enumerate(rois.items()):
        if mask.any():
            low, high = np.percentile(shares[number, :, 1:], [tail, 100 - tail], axis=1)
            bands = shares[number, :, 0]
            found[name] = RoiScore(
                float(bands.sum()), bands, low, high, float(means[number, 0]), float(p[number]), means[number, 1:],
                int(mask.sum()), folds[number],
            )  # fmt: skip
    r2, p_voxel, alpha, split = (
        np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("r2", "p", "alpha", "split")
    )
    return EncodingScores(r2, p_voxel, alpha, split, found)


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
