"""Units of exchange: what may trade places under the null hypothesis, chosen from the design.

A permutation test is valid if, under the null hypothesis, all orders that it draws from are equally likely. Which
orders these are follows from the design:

- *Stimuli* in random order may trade places, whatever the noise looks like.
- In *sessions* that show different stimuli, responses have offsets of their own. The mean of each session is subtracted
  from predictions and responses, and stimuli trade places within their session.
- In *time series*, and wherever stimuli were not in random order, neighboring samples share noise, and neighboring
  stimuli have similar features. Predictions and responses are whitened, and each run is shifted in a circle against its
  predictions, by any number of samples.
- Whole *runs* may trade places if they are equally long; there are few orders of few runs.

Shifts form a group only if small ones are included: without them the test is not valid (Southworth, Kim & Owen 2009;
Harris 2020). docs/validation.md has the false positive rates of each unit in each design.

References
----------
Winkler et al. (2015). Multi-level block permutation. NeuroImage 123, 253-268. Southworth, Kim & Owen (2009). Properties
of balanced permutations. Journal of Computational Biology 16(4). Harris (2020). Nonsense correlations in neuroscience.
bioRxiv 2020.11.29.402719. Marriott & Pope (1954). Bias in the estimation of autocorrelations. Biometrika 41.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats.permutation import PermutationCounter, stimulus_permutations
from neurorecon.stats.prediction import GroupMeans, PermutationTest, gather, stack_bands, varies

#: What can trade places.
UNITS = ("stimulus", "session", "run", "shift")

#: The statistic of tests of ordered samples.
STATISTIC = "whitened correlation"

#: Features with a lower autocorrelation than this inflate no test much, whatever the noise.
SMALL_AUTOCORRELATION = 0.05

#: A test by shifts needs so many samples in all; runs should be at least this long.
FEWEST_SAMPLES, SHORT_RUN = 40, 60

#: With fewer units than this, hardly anything can become significant.
FEW_UNITS = 5

#: Whole runs that trade places should be at least so many.
FEW_RUNS = 6


@dataclass(frozen=True)
class Exchange:
    """What trades places in a test, and why.

    Parameters
    ----------
    unit : {"stimulus", "session", "run", "shift"}
        Stimuli; stimuli within their session, whose means are subtracted; whole runs; or each run is shifted in a
        circle.
    reason : str
        Why, in words.
    warnings : tuple of str
        Assumptions of the test that the data violate.
    valid : bool
        False where no unit gives a valid test: p-values are then left out.
    """

    unit: str
    reason: str
    warnings: tuple[str, ...] = ()
    valid: bool = True


def choose_exchange(
    asked: str | None,
    *,
    series: bool,
    stimuli: ArrayLike,
    runs: ArrayLike,
    sessions: ArrayLike,
    fixed_order: bool = False,
    autocorrelation: tuple[float, float] | None = None,
    confounded: bool = False,
    shared_runs: bool = False,
) -> Exchange:
    """Choose the unit of exchange from the design of the samples that are scored.

    Parameters
    ----------
    asked : str or None
        The unit that the user asks for, one of :data:`UNITS`; None leaves the choice to the design.
    series : bool
        Whether samples are the volumes of a time series.
    stimuli, runs, sessions : array, shape (sample,)
        What each sample shows, and where it was recorded.
    fixed_order : bool
        Whether each stimulus, if shown repeatedly, always follows the same stimulus.
    autocorrelation : (float, float), optional
        From :func:`lag_one_autocorrelation`, of the features in the order of presentation: observed, and the 99 % point
        of random orders. None if the order is not known.
    confounded : bool
        Whether sessions show different stimuli.
    shared_runs : bool
        Whether training samples come from the same runs.

    Returns
    -------
    Exchange

    Raises
    ------
    UnknownNameError
        If `asked` is not a unit.
    """
    if asked is not None and asked not in UNITS:
        raise UnknownNameError("unit of exchange", asked, UNITS)
    smooth = autocorrelation is not None and autocorrelation[0] > max(autocorrelation[1], SMALL_AUTOCORRELATION)
    per_session = np.bincount(np.unique(np.asarray(sessions), return_inverse=True)[1])
    apart = confounded and len(per_session) > 1
    if series:
        unit, reason = "shift", "a time series: neighboring volumes share noise and stimuli"
    elif smooth and fixed_order:
        unit, reason = "shift", "stimuli are not in random order: neighbors have similar features"
    elif apart and np.median(per_session) >= 2:
        unit, reason = "session", "sessions show different stimuli"
    else:
        unit, reason = "stimulus", "stimuli in random order"
    if asked is not None:
        unit, reason = asked, f"asked for (by default: {unit}, {reason})" if asked != unit else f"asked for; {reason}"
    found = Exchange(unit, reason)
    if unit in ("stimulus", "session"):
        return _check_stimuli(found, len(np.unique(stimuli)), series, smooth, apart)
    lengths = np.bincount(np.unique(np.asarray(runs), return_inverse=True)[1])
    return _check_runs(found, lengths, shared_runs, asked is not None)


def _check_stimuli(found: Exchange, n_stimuli: int, series: bool, smooth: bool, apart: bool) -> Exchange:
    said = []
    if series:
        said.append("volumes of a time series are not exchangeable by stimulus if stimuli are shown in a fixed order: "
                    "p-values can be too small; --exchange shift is valid")  # fmt: skip
    elif smooth:
        said.append("neighboring stimuli have similar features: if their order was not random, p-values are too small; "
                    "--exchange shift tests a fixed order")  # fmt: skip
    if apart and found.unit == "stimulus":
        said.append("sessions show different stimuli: with offsets between sessions p-values are too small; "
                    "--exchange session")  # fmt: skip
    if n_stimuli < FEW_UNITS:
        said.append(f"only {n_stimuli} stimuli can trade places: hardly anything can become significant (of "
                    "encoding maps, --null refit permutes the training stimuli instead)")  # fmt: skip
    return replace(found, warnings=tuple(said))


def _check_runs(found: Exchange, lengths: NDArray[np.int64], shared_runs: bool, asked: bool) -> Exchange:
    said, valid = [], True
    if shared_runs:
        valid = False
        said.append("test samples come from the same runs as training samples, whose noise they share: no test of the "
                    "order is valid; hold out whole runs (--cross-validate run)")  # fmt: skip
    if lengths.sum() < FEWEST_SAMPLES:
        valid = False
        said.append(f"{lengths.sum()} test samples in order are too few for a test ({FEWEST_SAMPLES} or more); "
                    "--cross-validate run tests all samples")  # fmt: skip
    if found.unit == "run" and len(lengths) < FEW_RUNS:
        said.append(f"{len(lengths)} runs have few orders ({FEW_RUNS} or more runs can show something)")
    elif found.unit == "shift" and len(lengths) == 1:
        said.append(f"one run of {lengths[0]} samples has only that many shifts: p is at least {1 / lengths[0]:.2g}")
    elif found.unit == "shift" and lengths.min() < SHORT_RUN:
        said.append(f"the shortest run has {lengths.min()} samples: in runs of less than {SHORT_RUN}, autocorrelation "
                    "is removed only roughly, and p-values can be a little too small")  # fmt: skip
    return replace(found, warnings=tuple(said), valid=valid or asked)


def lag_one_autocorrelation(
    features: ArrayLike, order: ArrayLike, runs: ArrayLike, *, n_orders: int = 299, seed: int = 0
) -> tuple[float, float]:
    """Return the lag-1 autocorrelation of features in the order of presentation, and the 99 % point of random orders.

    Parameters
    ----------
    features : array, shape (stimulus, feature)
        Features of the stimuli.
    order : int array, shape (sample,)
        Index of the stimulus of each sample, in the order of presentation.
    runs : array, shape (sample,)
        Run of each sample; neighbors are in the same run.
    n_orders, seed : int
        Random orders (within runs), and their seed.

    Returns
    -------
    observed, limit : float
        Pooled over features. 0 and 1 for features that do not vary.
    """
    values = np.asarray(features, dtype=np.float64)
    shown, labels = np.asarray(order), np.asarray(runs)
    values = values - values[shown].mean(axis=0)
    spread = values[shown].std(axis=0)
    values = values[:, spread > 0] / spread[spread > 0]
    neighbors = np.flatnonzero(labels[1:] == labels[:-1])
    if not values.shape[1] or not len(neighbors):
        return 0.0, 1.0
    gram = values @ values.T / values.shape[1]
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def pooled(sequence: NDArray[np.int64]) -> float:
        return float(gram[sequence[neighbors], sequence[neighbors + 1]].sum() / gram[sequence, sequence].sum()
                     * len(sequence) / len(neighbors))  # fmt: skip

    null = np.empty(n_orders)
    for number in range(n_orders):
        sequence = shown.copy()
        for rows in members:
            sequence[rows] = shown[generator.permutation(rows)]
        null[number] = pooled(sequence)
    return pooled(shown), float(np.quantile(null, 0.99))


def circular_shifts(lengths: ArrayLike, n_permutations: int, seed: int) -> NDArray[np.int64]:
    """Draw a circular shift for each run; if there are few combinations, return all of them.

    Parameters
    ----------
    lengths : int array, shape (run,)
        Number of samples of each run.
    n_permutations, seed : int
        Number of draws, and their seed. If there are at most that many combinations, all but the observed one are
        returned instead.

    Returns
    -------
    shifts : int array, shape (permutation, run)
        From 0 to the length of the run less 1; 0 included.

    Raises
    ------
    InputError
        If no run has two samples.
    """
    sizes = np.asarray(lengths)
    if not sizes.size or sizes.max() < 2:
        raise InputError(
            "runs of one sample cannot be shifted",
            given=f"{sizes.size} runs of at most {sizes.max(initial=0)} samples",
            expected="runs of many samples in the order of presentation",
            todo="exchange stimuli: --exchange stimulus",
        )
    if prod(sizes.tolist()) <= n_permutations:
        return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))[1:]
    return np.random.default_rng(seed).integers(0, sizes, size=(n_permutations, len(sizes)))


def run_orders(
    runs: ArrayLike, n_permutations: int, seed: int, *, unit: Literal["shift", "run"] = "shift"
) -> NDArray[np.int64]:
    """Draw orders of samples in which whole runs of the same length trade places and, for shifts, turn in a circle.

    Shifts with trades are for what is fitted again in each order, such as weights and patterns of decoders.

    Parameters
    ----------
    runs : array, shape (sample,)
        Run of each sample. The samples of a run are in the order in which they were recorded.
    n_permutations, seed : int
        Number of draws, and their seed. If there are at most that many orders, all but the observed one are returned
        instead.
    unit : {"shift", "run"}
        Whether runs are shifted as well.

    Returns
    -------
    orders : int array, shape (permutation, sample)
        ``orders[b, t]`` is the sample that replaces sample t in permutation b.

    Raises
    ------
    InputError
        If there is no order other than the observed one.
    """
    labels = np.asarray(runs)
    rows = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    lengths = np.array([len(part) for part in rows])
    alike = np.unique(lengths, return_counts=True)[1]
    trades = alike.max(initial=0) > 1
    if unit == "run" or lengths.max(initial=0) < 2:
        places = stimulus_permutations(len(rows), n_permutations, seed, lengths)  # raises if none can be traded
        shifts = np.zeros_like(places)
    elif prod([*lengths.tolist(), *(factorial(number) for number in alike.tolist())]) <= n_permutations:
        places, shifts = np.arange(len(rows))[None], circular_shifts(lengths, n_permutations, seed)
        shifts = np.concatenate([np.zeros_like(shifts[:1]), shifts])
        if trades:
            places = np.concatenate([places, stimulus_permutations(len(rows), n_permutations, seed, lengths)])
        places, shifts = np.repeat(places, len(shifts), axis=0)[1:], np.tile(shifts, (len(places), 1))[1:]
    else:
        shifts = np.random.default_rng([seed, 0]).integers(0, lengths, size=(n_permutations, len(rows)))
        places = np.tile(np.arange(len(rows)), (n_permutations, 1))
        if trades:
            few = stimulus_permutations(len(rows), n_permutations, seed, lengths)
            if len(few) < n_permutations:  # all but the observed order
                few = np.concatenate([places[:1], few])
                few = few[np.random.default_rng([seed, 1]).integers(0, len(few), n_permutations)]
            places = few
    orders = np.empty((len(places), len(labels)), dtype=np.int64)
    for order, place, shift in zip(orders, places, shifts, strict=True):
        for part, source, by in zip(rows, place, shift, strict=True):
            order[part] = np.roll(rows[source], by)
    return orders


def center_by(values: NDArray, labels: ArrayLike) -> NDArray:
    """Subtract the mean over the samples with the same label (run, session).

    Parameters
    ----------
    values : array, shape (..., sample, voxel)
        Not changed.
    labels : array, shape (sample,)

    Returns
    -------
    array, shape (..., sample, voxel)
    """
    centered = np.array(values)
    for label in np.unique(labels):
        rows = np.flatnonzero(np.asarray(labels) == label)
        centered[..., rows, :] -= centered[..., rows, :].mean(axis=-2, keepdims=True)
    return centered


def residual_autocorrelation(predicted: NDArray, measured: NDArray, runs: NDArray) -> NDArray[np.float64]:
    """Return the lag-1 autocorrelation of what a prediction leaves, corrected for its bias in short runs, (voxel,).

    Parameters
    ----------
    predicted, measured : array, shape (sample, voxel)
        Both centered by run.
    runs : int array, shape (sample,)
        Run of each sample; runs are contiguous.

    Returns
    -------
    array, shape (voxel,)
        From -.98 to .98. The estimate r of runs of T samples has a mean near rho - (1 + 3 rho) / T (Marriott & Pope
        1954), so (T r + 1) / (T - 3) is returned.
    """
    energy = (predicted**2).sum(axis=0, dtype=np.float64)
    covariance = (predicted * measured).sum(axis=0, dtype=np.float64)
    left = measured - (covariance / np.where(energy > 0, energy, 1)).astype(measured.dtype) * predicted
    neighbors = np.flatnonzero(runs[1:] == runs[:-1])
    total = (left**2).sum(axis=0, dtype=np.float64)
    raw = (left[neighbors] * left[neighbors + 1]).sum(axis=0, dtype=np.float64) / np.where(total > 0, total, 1)
    length = len(runs) / len(np.unique(runs))
    return np.clip((length * raw + 1) / max(length - 3, 1), -0.98, 0.98)


#: Values in a block of whitened series, and permutations scored before they are counted.
_BLOCK_VALUES, _BATCH = 2**22, 250


def ordered_test(
    predicted: ArrayLike,
    measured: ArrayLike,
    runs: ArrayLike,
    *,
    unit: Literal["shift", "run"] = "shift",
    n_permutations: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
    inflation: float = 1.0,
) -> PermutationTest:
    """Test predictions of ordered samples against circular shifts within runs, or against exchanges of whole runs.

    Prediction f and response y are centered in each run and whitened by the lag-1 autocorrelation rho of the
    residuals, f'_t = f_t - rho f_(t-1), which gives the test more power. The statistic is the correlation of f' and y',
    pooled over runs. In the null, the responses of each run are shifted in a circle by any number of samples, the same
    for all voxels; or runs of the same length trade their responses. Covariances at all shifts come from one Fourier
    transform.

    Parameters
    ----------
    predicted : array, shape (sample, voxel) or (band, sample, voxel)
        Predictions of held-out samples; with bands, the contribution of each.
    measured : array, shape (sample, voxel)
        Responses.
    runs : array, shape (sample,)
        Run of each sample. The samples of a run are in the order in which they were recorded. Average presentations
        of the same sequence first.
    unit : {"shift", "run"}
        What is exchanged.
    n_permutations, seed : int
        Number of permutations, and their seed. If there are no more orders than that, all are used.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. ROIs, whose mean correlation is tested as well.
    inflation : float
        Permuted correlations are multiplied by this; the root of 2 makes tests of cross-validated predictions valid.

    Returns
    -------
    PermutationTest
        ``observed`` is the whitened correlation. With bands, ``split`` holds the covariance of each band's contribution
        with the response in the same units; for fixed norms of predictions, as here, this tests its share in R2.

    Raises
    ------
    InputError
        If shapes do not match, values are not finite, or runs have one sample each.
    """
    parts, target = np.asarray(predicted), np.asarray(measured)
    labels = np.unique(np.asarray(runs), return_inverse=True)[1]
    stacked = parts if parts.ndim == 3 else parts[None]
    if stacked.ndim != 3 or target.ndim != 2 or stacked.shape[1:] != target.shape or labels.shape != target.shape[:1]:
        raise InputError(
            "predictions do not match the responses",
            given=f"predictions {parts.shape}, responses {target.shape}, {labels.size} run labels",
            expected="([band,] sample, voxel), (sample, voxel) and (sample,)",
        )
    if not (np.isfinite(stacked).all() and np.isfinite(target).all()):
        raise InputError(
            "predictions and responses must be finite",
            given=f"{int((~np.isfinite(stacked)).sum())} predictions and {int((~np.isfinite(target)).sum())} responses "
            "that are NaN or infinite",
            todo="exclude such voxels (or samples) first",
        )
    order = np.argsort(labels, kind="stable")  # the runs one after another
    labels = labels[order]
    rows = [np.flatnonzero(labels == run) for run in range(labels.max() + 1)]
    lengths = np.array([len(part) for part in rows])
    if unit == "run":
        draws = stimulus_permutations(len(rows), n_permutations, seed, lengths)
    else:
        draws = circular_shifts(lengths - 1, n_permutations, seed)  # whitening takes one sample
    n_voxels = target.shape[1]
    watches = [GroupMeans(groups, n_voxels, len(draws)) for _ in range(1 + len(stacked))]
    width = max(1, _BLOCK_VALUES // (len(labels) * (1 + len(stacked))))
    blocks = []
    for start in range(0, n_voxels, width):
        block = slice(start, start + width)
        f, y = (part[..., order, block].astype(np.float64) for part in (stacked, target))
        table = _covariances(f, y, rows, labels, varies(target[:, block]), unit)
        itself = np.arange(len(rows)) if unit == "run" else np.zeros(len(rows), dtype=np.int64)
        scores = np.sum([part[:, number] for part, number in zip(table, itself, strict=True)], axis=0)
        counters = [PermutationCounter(observed) for observed in scores]
        for watch, observed in zip(watches, scores, strict=True):
            watch.of(block)(0, observed[None])
        for first in range(0, len(draws), _BATCH):
            batch = draws[first : first + _BATCH]
            null = inflation * np.sum([part[:, batch[:, run]] for run, part in enumerate(table)], axis=0)
            for counter, watch, values in zip(counters, watches, null, strict=True):
                counter.update(values)
                watch.of(block)(1 + first, values)
        blocks.append(counters)
    tests = [
        replace(gather([counters[part] for counters in blocks]), groups=watch.tested(), statistic=STATISTIC)
        for part, watch in enumerate(watches)
    ]
    return tests[0] if parts.ndim == 2 else replace(tests[0], split=stack_bands(tests[1:]))


def _covariances(
    parts: NDArray, y: NDArray, rows: list[NDArray[np.int64]], labels: NDArray, defined: NDArray, unit: str
) -> list[NDArray]:
    """Return for each run what it adds to the scores in each of its places, (1 + band, place, voxel).

    A place is a shift, or the run that the response is taken from (0 for runs of other lengths).
    """
    parts, y = center_by(parts, labels), center_by(y, labels)
    joint = parts.sum(axis=0)
    rho = residual_autocorrelation(joint, y, labels)
    whitened = []
    for part in rows:
        both = np.concatenate([parts, y[None]])
        white = both[:, part[1:]] - rho * both[:, part[:-1]]
        whitened.append(white - white.mean(axis=1, keepdims=True))
    energy_f = np.sum([(white[:-1].sum(axis=0) ** 2).sum(axis=0) for white in whitened], axis=0)
    energy_y = np.sum([(white[-1] ** 2).sum(axis=0) for white in whitened], axis=0)
    # A prediction that is constant up to rounding correlates with nothing.
    some = energy_f > (np.finfo(np.float32).eps * np.abs(joint).max(axis=0, initial=0)) ** 2 * len(y)
    scale = np.where(some, 1 / np.sqrt(np.where(some, energy_f * np.where(energy_y > 0, energy_y, 1), 1)), 0)
    scale = np.where(defined, scale, np.nan)
    found = []
    for white in whitened:
        f = white[:-1]
        if unit == "run":
            table = np.stack([
                np.einsum("btv,tv->bv", f, other[-1]) if other.shape == white.shape else np.zeros((len(f), y.shape[1]))
                for other in whitened
            ], axis=1)  # fmt: skip
        else:  # at shift s the sum over t of f_(t + s) y_t
            transform = np.fft.rfft(f, axis=1) * np.conj(np.fft.rfft(white[-1:], axis=1))
            table = np.fft.irfft(transform, n=f.shape[1], axis=1)
        found.append(np.concatenate([table.sum(axis=0, keepdims=True), table]) * scale)
    return found
