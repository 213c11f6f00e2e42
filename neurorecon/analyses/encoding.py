"""Encoding models: banded ridge from bands of features to each voxel, tested on held-out stimuli, in blocks of voxels.

A block reads its own responses from the store and takes the products of the features between stimuli, which all blocks
of a subject share. Where blocks begin depends on the data alone, never on who computes.

Nunez-Elizalde, Huth & Gallant (2019) NeuroImage 197:482; Dupre la Tour et al. (2022) NeuroImage 264:119728.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from neurorecon.analyses import design
from neurorecon.analyses.design import EncodingSettings, Selection
from neurorecon.decoders.alphas import quiet_edges
from neurorecon.decoders.kernels import delayed_kernel
from neurorecon.decoders.samples import SampleTable
from neurorecon.parallel.jobs import Arrays, Results
from neurorecon.parallel.workers import choose_card
from neurorecon.stats import (
    Exchange,
    GroupTest,
    Interval,
    PermutationTest,
    jackknife_interval,
    ordered_test,
    permutation_p,
    permutation_test_r2,
)
from neurorecon.stats.exchange import center_by
from neurorecon.stats.prediction import varies
from neurorecon.stats.refit import FEW_STIMULI, candidate_mixtures, equal_stretches
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
        Responses in the same units, less their mean; 0 in voxels that do not vary.
    offset : array, shape (voxel,)
        That mean, less what the model predicts for any stimulus.
    alpha : array, shape (voxel,)
        Alpha that cross-validation chose.
    centered : array, shape (sample,)
        Samples with the same label are centered together for correlations: folds or sessions.
    folds : array, shape (fold, voxel), optional
        R2 on the samples that each fold holds out.
    """

    predicted: np.ndarray
    measured: np.ndarray
    offset: np.ndarray
    alpha: np.ndarray
    centered: np.ndarray
    folds: np.ndarray | None = None

    @cached_property
    def gain(self) -> np.ndarray:
        """How much each band lowers the squared error of each sample (product measure), (band, sample, voxel)."""
        return self.predicted * (2 * self.measured - self.predicted.sum(axis=0))

    @cached_property
    def energy(self) -> np.ndarray:
        """Sum of squares of the responses, (voxel,); NaN for voxels that do not vary."""
        total = (self.measured**2).sum(axis=0, dtype=np.float64)
        return np.where(total > 0, total, np.nan)

    @property
    def shares(self) -> np.ndarray:
        """Share of each band in R2 about the mean of the held-out responses, (band, voxel); they sum to R2."""
        return self.gain.sum(axis=1, dtype=np.float64) / self.energy

    @property
    def r2_sklearn(self) -> np.ndarray:
        """R2 as of scikit-learn, (voxel,): the model has to predict the mean of the held-out responses as well."""
        errors = self.measured + self.offset - self.predicted.sum(axis=0)
        return 1 - (errors**2).sum(axis=0, dtype=np.float64) / self.energy

    @property
    def correlation(self) -> np.ndarray:
        """Pearson correlation of prediction and response, both centered by fold (session), (voxel,)."""
        f, y = (
            center_by(part.astype(np.float64), self.centered) for part in (self.predicted.sum(axis=0), self.measured)
        )
        norm = np.sqrt((f**2).sum(axis=0) * (y**2).sum(axis=0))
        r = np.where(norm > 0, (f * y).sum(axis=0) / np.where(norm > 0, norm, 1), 0)
        return np.where(np.isnan(self.energy), np.nan, r)

    def influence(self) -> np.ndarray:
        """Return how much each sample moves the shares, (band, sample, voxel); 0 on average."""
        return (self.gain - self.shares[:, None] * self.measured**2) / self.energy


@quiet_edges()  # the alphas of all blocks are counted together
def fit_encoding(
    products: tuple[np.ndarray, np.ndarray],
    train: SampleTable,
    test: SampleTable,
    delays: Sequence[int],
    *,
    series: bool,
    settings: EncodingSettings,
    exchange: Exchange = Exchange("stimulus", ""),  # noqa: B008 (frozen)
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
    exchange : Exchange
        What trades places. Where that is stimuli within sessions, the mean of each session is subtracted from responses
        and features.
    rois : bool array, shape (roi, voxel), optional
        ROIs whose mean score is tested in the same permutations.

    Returns
    -------
    held_out : HeldOut
        Measured and predicted responses.
    test : PermutationTest
        Score on the test samples, its p and null; ``test.split`` the same for each band.
    """
    from neurorecon.decoders.banded import BandedRidge

    within, across = products
    seen, shown = train.at_delays(delays), test.at_delays(delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in within])
    tests = np.stack([delayed_kernel(gram, shown, seen) for gram in across])
    standardized, scale = standardize(train.responses)
    measured = test.responses / scale
    labels = np.zeros(len(measured), dtype=int)
    if exchange.unit == "session":
        labels, sessions = _sessions(test), _sessions(train)
        standardized, measured = center_by(standardized, sessions), center_by(measured, labels)
        kernels, tests = (center_by(part.swapaxes(1, 2), sessions).swapaxes(1, 2) for part in (kernels, tests))
        kernels, tests = center_by(kernels, sessions), center_by(tests, labels)
    model = BandedRidge(random_state=settings.seed, device=settings.device)
    if settings.null == "refit":  # the mixtures that every permutation searches
        model.set_params(n_iter=candidate_mixtures(len(kernels)))
    groups = fold_groups(train, series)
    model.fit_kernels(kernels, standardized, groups=groups)
    mean = measured.mean(axis=0)
    centered = np.where(varies(test.responses), measured - mean, 0)
    if settings.null == "order":
        base = model.predict_kernels(np.zeros((len(tests), 1, len(standardized))), split=True)
        predicted = model.predict_kernels(tests, split=True) - base
        held_out = HeldOut(predicted, centered, mean - base.sum(axis=0)[0], model.alphas_, labels)
        order = None
        if exchange.unit == "stimulus" and series:
            contributions, order = _contributions(model, across, seen, len(train.shown)), test.shown
        else:
            contributions = predicted[:, None]
        return held_out, order_test(
            exchange, contributions, predicted, centered, test, settings, delays=delays, order=order, rois=rois,
            within=labels,
        )  # fmt: skip
    from neurorecon.decoders.validation import group_folds
    from neurorecon.stats import refit_permutation_test_kernels

    tested = refit_permutation_test_kernels(
        kernels,
        standardized,
        tests,
        centered,
        alphas=model.alphas,
        cv=group_folds(len(standardized), groups, model.cv),  # those that chose the alphas of the model
        units=refit_units(train, series),
        within=_sessions(train) if exchange.unit == "session" else None,
        candidates=model.n_iter,
        statistic=refit_statistic(test, series),
        n_permutations=settings.n_permutations,
        seed=settings.seed,
        groups=rois,
        device=settings.device,
    )
    return HeldOut(model.predict_kernels(tests, split=True), centered, mean, model.alphas_, labels), tested


def _sessions(samples: SampleTable) -> np.ndarray:
    """Return the session of each sample, (sample,)."""
    assert samples.sessions is not None, "samples of a store have sessions"
    return samples.sessions


@quiet_edges()
def cross_validate_encoding(
    products: np.ndarray,
    samples: SampleTable,
    delays: Sequence[int],
    held: np.ndarray,
    *,
    series: bool,
    settings: EncodingSettings,
    exchange: Exchange = Exchange("stimulus", ""),  # noqa: B008 (frozen)
    rois: np.ndarray | None = None,
) -> tuple[HeldOut, PermutationTest]:
    """Fit banded ridge without some of the samples and test it on these, until each was held out once.

    The search of each fold sees the samples of the others only, whose mean is what R2 is compared with. Where runs or
    sessions are held out, the mean of each is removed first: as on a test split, the baseline is not part of what is
    tested.

    Pooled over folds, predictions and responses would be negatively correlated by chance, because the mean of the
    training samples is low where that of the held-out ones is high. So predictions are those around the training mean,
    which is subtracted from the responses; where runs or sessions are held out, both are centered by fold.
    Each pair of samples in different folds enters the pooled score twice, once with either as the training sample. The
    score of noise therefore varies up to the root of 2 times as much as over permutations of what is held out, and the
    deviations of the null from 0 are multiplied by that.

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
    series, settings, exchange, rois
        As for :func:`fit_encoding`.

    Returns
    -------
    held_out : HeldOut
        The samples in their own order.
    test : PermutationTest
        As of :func:`fit_encoding`; stimuli trade places with those of their own fold.
    """
    from neurorecon.decoders.banded import BandedRidge
    from neurorecon.decoders.nested import nested_cross_validation

    seen = samples.at_delays(delays)
    kernels = np.stack([delayed_kernel(gram, seen, seen) for gram in products])
    folds = outer_folds(held, settings)
    fold_of = np.empty(len(held), dtype=int)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    # Runs and sessions have means of their own, and so have folds of them; folds of stimuli have not.
    whole = settings.cross_validate in ("run", "session") or series
    labels, responses = (fold_of, center_by(samples.responses, held)) if whole else (0 * fold_of, samples.responses)
    if exchange.unit == "session" and not whole:
        labels = _sessions(samples)
        responses = center_by(responses, labels)
        kernels = center_by(center_by(kernels, labels).swapaxes(1, 2), labels)
    standardized, _ = standardize(responses)
    predicted = np.zeros((len(kernels), *standardized.shape), dtype=standardized.dtype)
    measured, offset = np.zeros_like(standardized), 0.0

    def keep(model: Any, train: np.ndarray, test: np.ndarray) -> None:
        nonlocal offset
        # What is predicted for rest; a trial always shows something.
        base = model.predict_kernels(np.zeros((len(kernels), 1, len(train))), split=True) * series
        predicted[:, test] = model.predict_kernels(kernels[:, test][:, :, train], split=True) - base
        measured[test] = standardized[test] - standardized[train].mean(axis=0)
        offset = offset - base.sum(axis=0)[0] * len(test) / len(held)

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
    mean = measured.mean(axis=0)
    measured = np.where(varies(responses), measured - mean, 0)
    held_out = HeldOut(
        predicted=predicted,
        measured=measured,
        offset=mean + offset,
        alpha=np.exp(np.log(found.alphas).mean(axis=0)),
        centered=labels,
        folds=found.fold_r2,
    )
    f, y = center_by(predicted, labels), center_by(measured, labels)
    # The same stimulus in the same fold has one prediction, and trades places with all its repeats.
    shown = np.unique(np.stack([labels, samples.shown]), axis=1, return_inverse=True)[1].ravel()
    first = np.unique(shown, return_index=True)[1]
    tested = order_test(
        exchange, f[:, first][:, None], f, y, samples, settings, order=shown, within=labels[first], rois=rois,
        inflation=2**0.5,
    )  # fmt: skip
    return held_out, tested


def order_test(
    exchange: Exchange,
    contributions: np.ndarray,
    predicted: np.ndarray,
    measured: np.ndarray,
    samples: SampleTable,
    settings: EncodingSettings,
    *,
    delays: Sequence[int] = (0,),
    order: np.ndarray | None = None,
    within: np.ndarray | None = None,
    rois: np.ndarray | None = None,
    inflation: float = 1.0,
) -> PermutationTest:
    """Test predictions by the order of what was held out.

    Parameters
    ----------
    exchange : Exchange
        What trades places.
    contributions : array, shape (band, delay, stimulus, voxel)
        What each stimulus adds to the prediction.
    predicted : array, shape (band, sample, voxel)
        The predictions.
    measured : array, shape (sample, voxel)
        The responses.
    samples : SampleTable
        Run and time of each sample.
    settings : EncodingSettings
        How many permutations, and their seed.
    delays, order, within, rois
        As of :func:`neurorecon.stats.permutation_test_r2`.
    inflation : float
        Deviations of the null from 0 are multiplied by this.

    Returns
    -------
    PermutationTest
        p is NaN where no test is valid.
    """
    n_permutations, seed = settings.n_permutations, settings.seed
    if exchange.unit in ("shift", "run"):
        # A store may hold samples in any order; where times are not known, theirs is taken.
        times = np.zeros(len(measured)) if samples.times is None else np.nan_to_num(samples.times)
        recorded = np.lexsort([times, samples.runs])
        tested = ordered_test(
            predicted[:, recorded], measured[recorded], samples.runs[recorded],
            unit="run" if exchange.unit == "run" else "shift", n_permutations=n_permutations, seed=seed, groups=rois,
            inflation=inflation,
        )  # fmt: skip
    else:
        delayed = contributions.shape[1] > 1
        tested = permutation_test_r2(
            contributions, measured, delays=delays if delayed else (0,), order=order,
            runs=samples.runs if delayed else None, within=within, n_permutations=n_permutations, seed=seed,
            groups=rois, inflation=inflation, statistic="r2" if inflation == 1 else "correlation",
        )  # fmt: skip
    return tested if exchange.valid else tested.untested()


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

    asked = settings.cross_validate if isinstance(settings.cross_validate, int) else MOST_FOLDS
    number = min(asked, len(np.unique(held)))
    at_random = settings.cross_validate not in ("run", "session")
    splitter = GroupKFold(number, shuffle=at_random, random_state=settings.seed if at_random else None)
    return group_folds(len(held), held, splitter)


def standardize(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return responses less their mean in standard deviations, and these; 1 for voxels that never vary."""
    spread = responses.std(axis=0)
    scale = np.where(spread > 0, spread, 1).astype(np.float32)
    return (responses - responses.mean(axis=0)) / scale, scale


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


def refit_units(samples: SampleTable, series: bool) -> np.ndarray:
    """Return the unit of each sample that trades places when models are fitted again, (sample,)."""
    groups = fold_groups(samples, series)
    return equal_stretches(groups) if series and len(np.unique(samples.runs)) >= 5 else groups


def refit_statistic(test: SampleTable, series: bool) -> Literal["r2", "covariance"]:
    """Return what is tested when models are fitted again: the covariance, where there are few test stimuli."""
    return "covariance" if not series and len(test.stimuli) < FEW_STIMULI else "r2"


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


# -- blocks of voxels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodingBlock:
    """Scores of a block of voxels; each field is written as one array.

    Parameters
    ----------
    r2, r2_sklearn, r : array, shape (voxel,)
        Joint R2 about the mean of the held-out samples, R2 as of scikit-learn, and Pearson correlation.
    p : array, shape (1 + band, voxel)
        Permutation p-values of the joint score and of each band.
    split : array, shape (band, voxel)
        Share of each band in R2.
    alpha : array, shape (voxel,)
        Alpha that cross-validation chose.
    margin, margin_low : array, shape (voxel,)
        Share of the best band less that of the second, and the lower end of its interval; NaN with one band.
    roi_counts : array, shape (roi,)
        Number of voxels of each ROI that vary.
    roi_r2 : array, shape (roi, band)
        Sums of the shares over the voxels of each ROI.
    roi_r : array, shape (roi, 2)
        Sums of r and of R2 as of scikit-learn.
    roi_influence : array, shape (roi, band, sample)
        Sums of how much each held-out sample moves the shares.
    roi_null : array, shape (1 + band, roi, 1 + permutation)
        Sum of the tested scores over the voxels of each ROI: as shown, and in each permutation.
    roi_folds : array, shape (roi, fold)
        Sum of the joint R2 on each fold's samples; without cross-validation there is no fold.
    """

    r2: np.ndarray
    r2_sklearn: np.ndarray
    r: np.ndarray
    p: np.ndarray
    split: np.ndarray
    alpha: np.ndarray
    margin: np.ndarray
    margin_low: np.ndarray
    roi_counts: np.ndarray
    roi_r2: np.ndarray
    roi_r: np.ndarray
    roi_influence: np.ndarray
    roi_null: np.ndarray
    roi_folds: np.ndarray

    @classmethod
    def of(
        cls,
        held_out: HeldOut,
        test: PermutationTest,
        rois: np.ndarray,
        settings: EncodingSettings,
        runs: np.ndarray | None = None,
    ) -> EncodingBlock:
        """Score voxels, and sum over those of each ROI.

        Parameters
        ----------
        held_out : HeldOut
            Measured and predicted responses.
        test : PermutationTest
            The null.
        rois : bool array, shape (roi, voxel)
            The voxels of each ROI.
        settings : EncodingSettings
            Coverage of intervals.
        runs : array, shape (sample,), optional
            Run of each sample of a time series.
        """
        shares, r, r2_sklearn = held_out.shares, held_out.correlation, held_out.r2_sklearn
        influence = np.nan_to_num(held_out.influence())
        members = (rois & ~np.isnan(held_out.energy)).astype(np.float64)
        counts = members.sum(axis=1)

        def summed(values: np.ndarray) -> np.ndarray:
            return members @ np.nan_to_num(values).T

        null = np.zeros((1 + len(shares), len(rois), 1 + test.n_permutations))
        groups = [test.groups, *([None] * len(shares))]
        if test.split is not None and test.split.groups is not None:
            groups[1:] = [
                GroupTest(*(part[band] for part in vars(test.split.groups).values())) for band in range(len(shares))
            ]
        for part, group in zip(null, groups, strict=True):
            if group is not None:
                part[:] = np.concatenate([group.observed[:, None], group.null], axis=1) * counts[:, None]
        margin, low = _margins(shares, influence, runs, settings.confidence)
        return cls(
            r2=shares.sum(axis=0),
            r2_sklearn=r2_sklearn,
            r=r,
            p=np.concatenate([test.p[None], test.p[None] if test.split is None else test.split.p]),
            split=shares,
            alpha=held_out.alpha,
            margin=margin,
            margin_low=low,
            roi_counts=counts,
            roi_r2=summed(shares),
            roi_r=summed(np.stack([r, r2_sklearn])),
            roi_influence=np.einsum("rv,bsv->rbs", members, influence),
            roi_null=np.where(counts[:, None] > 0, np.nan_to_num(null), 0.0),
            roi_folds=np.zeros((len(rois), 0)) if held_out.folds is None else summed(held_out.folds),
        )


def _margins(
    shares: np.ndarray, influence: np.ndarray, runs: np.ndarray | None, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the best band less that of the second, and the lower end of its interval, (voxel,)."""
    if len(shares) < 2:
        return np.full(shares.shape[1], np.nan), np.full(shares.shape[1], np.nan)
    order = np.argsort(-np.nan_to_num(shares, nan=-np.inf), axis=0, kind="stable")[:2]
    best, second = np.take_along_axis(shares, order, axis=0)
    moved = np.take_along_axis(influence, order[:, None], axis=0)
    interval = jackknife_interval((moved[0] - moved[1]).T, best - second, runs, level=confidence)
    return best - second, interval.low


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
    scaled = job.settings.standardize_features
    within, across = design.grams(job.store, [band], train, test, standardize=scaled)
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
    options: dict[str, Any] = {
        "series": selection.series, "settings": settings, "exchange": selection.exchange, "rois": rois,
    }  # fmt: skip
    if selection.held is None:
        across = np.stack([part["across"] for part in found])
        train, test = design.load_both(store, selection, settings, voxels)
        held_out, tested = fit_encoding((within, across), train, test, selection.delays, **options)
    else:
        samples = design.load_all_samples(store, selection.subject, settings, selection.task, voxels)
        held_out, tested = cross_validate_encoding(within, samples, selection.delays, selection.held, **options)
    runs = selection.scored.runs if selection.series else None
    return vars(EncodingBlock.of(held_out, tested, rois, settings, runs))


# -- all blocks of a subject ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoiScore:
    """Means over the voxels of one ROI that vary.

    Parameters
    ----------
    joint : Interval
        R2 of all bands together, with its jackknife interval over held-out samples.
    bands : Interval
        Share of each band, arrays of shape (band,).
    r, r2_sklearn : float
        Pearson correlation, and R2 as of scikit-learn.
    observed, p : array, shape (1 + band,)
        The score that is tested, jointly and of each band, and its p-value.
    null : array, shape (1 + band, permutation)
        The same mean in each permutation.
    voxels : int
        Number of voxels.
    folds : array, shape (fold,)
        Joint R2 on the samples of each fold; empty without cross-validation.
    """

    joint: Interval
    bands: Interval
    r: float
    r2_sklearn: float
    observed: np.ndarray
    p: np.ndarray
    null: np.ndarray
    voxels: int
    folds: np.ndarray


@dataclass(frozen=True)
class EncodingScores:
    """Scores of banded ridge in all voxels of one subject.

    Parameters
    ----------
    voxels : dict of str to array, shape (..., voxel)
        The fields of :class:`EncodingBlock` that have values for voxels.
    rois : dict of str to RoiScore
        The ROIs that have voxels.
    n_permutations : int
        Of the null.
    """

    voxels: dict[str, np.ndarray]
    rois: dict[str, RoiScore]
    n_permutations: int


def gather(
    blocks: Iterable[EncodingBlock],
    rois: Mapping[str, np.ndarray],
    *,
    runs: np.ndarray | None = None,
    tested: bool = True,
    confidence: float = 0.95,
) -> EncodingScores:
    """Put the blocks of a subject together.

    Parameters
    ----------
    blocks : iterable of EncodingBlock
        In the order of the voxels.
    rois : mapping of str to bool array, shape (voxel,)
        All ROIs, in the order of the blocks.
    runs : array, shape (sample,), optional
        Run of each held-out sample of a time series.
    tested : bool
        Whether there are p-values; False where no test is valid.
    confidence : float
        Coverage of the intervals.
    """
    parts = list(blocks)
    counts, r2, r, influence, null, folds = (
        np.sum([getattr(part, name) for part in parts], axis=0)
        for name in ("roi_counts", "roi_r2", "roi_r", "roi_influence", "roi_null", "roi_folds")
    )
    found = {}
    for number, (name, mask) in enumerate(rois.items()):
        if not mask.any():
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            moved, shares = influence[number] / counts[number], r2[number] / counts[number]
            means, of_folds, (mean_r, mean_sklearn) = (
                values / counts[number] for values in (null[:, number], folds[number], r[number])
            )
        p = np.full(len(means), np.nan)
        if counts[number] > 0 and tested:
            p = np.where(np.ptp(means, axis=1) > 0, permutation_p(means[:, 0], means[:, 1:].T), np.nan)
        found[name] = RoiScore(
            jackknife_interval(moved.sum(axis=0), shares.sum(), runs, level=confidence),
            jackknife_interval(moved, shares, runs, level=confidence),
            float(mean_r), float(mean_sklearn), means[:, 0], p, means[:, 1:], int(mask.sum()), of_folds,
        )  # fmt: skip
    names = ("r2", "r2_sklearn", "r", "p", "split", "alpha", "margin", "margin_low")
    voxels = {name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names}
    return EncodingScores(voxels, found, null.shape[-1] - 1)


def winning_band(split: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the band with the largest split R2 in each voxel where one wins, -1 elsewhere.

    Parameters
    ----------
    split : array, shape (band, voxel)
        Split R2.
    wins : bool array, shape (voxel,)
        Where the joint prediction is better than chance, and the best band is better than the second.
    """
    return np.where(wins, np.argmax(np.nan_to_num(split, nan=-np.inf), axis=0), -1)
