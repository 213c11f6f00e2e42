"""How well targets are decoded, before anything is generated from them.

*Profile correlation*: of each feature, over stimuli. *Pattern correlation*: of each stimulus, over features. Features
differ in their means, and a decoder that returns the training mean for every stimulus has a pattern correlation far
above 0 (on the drawn scenes .50 for `clip_vision`, .48 for `gabor`). The pattern correlation of ``pattern`` is
therefore that of the differences from the training mean; ``pattern_raw``, without it, is what most papers print.
Profile correlations do not depend on the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.metrics.base import mean_of_defined, summarize
from neurorecon.metrics.identification import TOLERANCE, Similarity, similarity_matrix
from neurorecon.metrics.image import check_pair, pixcorr
from neurorecon.stats import bootstrap_means, jackknife_interval, permutation_p
from neurorecon.stats.bootstrap import interval_of

#: Bootstraps over stimuli behind the intervals of pattern correlations.
BOOTSTRAPS = 10_000

#: Values that are converted to float64 at a time.
_VALUES = 2**22


def profile_correlation(true: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Return the correlation over stimuli of each feature.

    Parameters
    ----------
    true, decoded : array, shape (stimulus, ...)
        The same stimulus in each row.

    Returns
    -------
    array, shape (...)
        float64; NaN where a feature is constant in either of them.
    """
    true, decoded = check_pair(true, decoded)
    one, other = (values.reshape(len(values), -1) for values in (true, decoded))
    parts = [(_standardized(one[:, part]) * _standardized(other[:, part])).sum(axis=0) for part in _blocks(one)]
    return np.clip(np.concatenate(parts), -1.0, 1.0).reshape(true.shape[1:])


def pattern_correlation(true: np.ndarray, decoded: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Return the correlation over features of each stimulus.

    Parameters
    ----------
    true, decoded : array, shape (stimulus, ...)
        The same stimulus in each row.
    mean : array, shape (...), optional
        Mean of each feature over the training samples, which is subtracted from both.

    Returns
    -------
    array, shape (stimulus,)
        float64; NaN where a pattern is constant, as that of a decoder that returns the training mean.
    """
    true, decoded = check_pair(true, decoded)
    return pixcorr(true, decoded) if mean is None else pixcorr(true - mean, decoded - mean)


def retrieval(
    true: np.ndarray,
    decoded: np.ndarray,
    k: int,
    others: np.ndarray | None = None,
    similarity: Similarity = "cosine",
) -> np.ndarray:
    """Return whether the stimulus is found: whether its features are among the `k` most like the decoded ones.

    The pool are the features of all stimuli, and `others` where there are some: Mind-Animator searches the 1,200 test
    clips of CC2017 (small pool), and the same with 3,040 clips of HCP (large pool).

    Parameters
    ----------
    true, decoded : array, shape (stimulus, ...)
        The same stimulus in each row.
    k : int
        How many of the best count.
    others : array, shape (candidate, ...), optional
        Features of other stimuli, to enlarge the pool.
    similarity : {"cosine", "correlation"}
        Of the flattened features.

    Returns
    -------
    array, shape (stimulus,)
        1 or 0; a tie counts as a loss, NaN where the own similarity is undefined. Chance is k over the size of the
        pool.

    Raises
    ------
    InputError
        If the shapes do not match, or `k` is no number of candidates.

    References
    ----------
    Lu et al. (2024), arXiv 2405.03280 (Mind-Animator).
    """
    pool = true if others is None else np.concatenate([true, others])
    if not 1 <= k < len(pool):
        raise InputError(
            "this many candidates cannot be retrieved",
            given=f"the {k} best of {len(pool)}",
            expected=f"k from 1 to {len(pool) - 1}",
            todo="choose another k, or add stimuli to the pool",
        )
    own, parts = np.diagonal(similarity_matrix(true, decoded, similarity)), []
    for start in range(0, len(pool), len(true)):  # blocks as long as there are queries; the last one overlaps
        block = slice(min(start, len(pool) - len(true)), None)
        parts.append(similarity_matrix(pool[block][: len(true)], decoded, similarity)[:, start - block.start :])
    found = np.concatenate(parts, axis=1)
    rivals = (found >= own[:, None] - TOLERANCE).sum(axis=1) - 1  # without itself
    return np.where(np.isnan(own), np.nan, (rivals < k).astype(np.float64))


def feature_table(
    true: np.ndarray,
    decoded: np.ndarray,
    orders: np.ndarray,
    mean: np.ndarray | None = None,
    parts: Mapping[str, slice] | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Return profile and pattern correlations of a target and of its parts, beside their nulls.

    Parameters
    ----------
    true, decoded : array, shape (stimulus, ...)
        The same stimulus in each row, at least two.
    orders : int array, shape (permutation, stimulus)
        Of the null: what was decoded from stimulus i is taken for stimulus ``orders[permutation, i]``.
    mean : array, shape (...), optional
        Of each feature over the training samples; without it, only the raw pattern correlation is known.
    parts : mapping of str to slice, optional
        Features of each part (layer, group, token) among the flattened ones, see :func:`parts_of`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row a part, the whole target (``all``) first: number of ``features``; ``profile``, the mean over the
        features where it is defined, with a 95% interval over stimuli (``profile low``, ``profile high``, jackknife),
        the mean of its null and p; ``n_undefined`` features; ``pattern``, the mean over stimuli with a percentile
        interval (bootstrap over stimuli), null and p; ``pattern_raw``, without subtracting the mean.
    """
    true, decoded = check_pair(true, decoded)
    one, other = (values.reshape(len(values), -1) for values in (true, decoded))
    center = None if mean is None else np.asarray(mean).reshape(-1)
    rows, patterns = [], []
    for name, part in {"all": slice(None), **(parts or {})}.items():
        a, b = one[:, part], other[:, part]
        row: dict[str, Any] = {"part": name, "features": a.shape[1], **_profile(a, b, orders)}
        row["pattern_raw"] = summarize(pixcorr(a, b)).mean
        matrix = np.full((len(a), len(a)), np.nan)
        if center is not None:
            matrix = similarity_matrix(a - center[part], b - center[part])
        patterns.append(np.diagonal(matrix))
        row["pattern"] = summarize(patterns[-1]).mean
        null = mean_of_defined(matrix[np.arange(len(a)), orders].T)
        row |= {"pattern null": float(null.mean()), "pattern p": _p(row["pattern"], null)}
        rows.append(row)
    means = bootstrap_means(np.stack(patterns, axis=1), n_bootstraps=BOOTSTRAPS, seed=seed)
    found = interval_of(means[1:], means[0])
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("pattern") + 1, "pattern low", found.low)
    table.insert(table.columns.get_loc("pattern low") + 1, "pattern high", found.high)
    return table


def parts_of(dims: tuple[str, ...], shape: tuple[int, ...], attrs: Mapping[str, Any]) -> dict[str, slice]:
    """Return the parts that a target has: layers, groups of latents, or tokens.

    Parameters
    ----------
    dims : tuple of str
        Names of the dimensions without that of stimuli.
    shape : tuple of int
        Their sizes.
    attrs : mapping
        Attributes of the stored target: ``layers`` and ``layer_boundaries``, or ``group_boundaries``.

    Returns
    -------
    dict of str to slice
        Of the flattened features.
    """
    if "layer_boundaries" in attrs:
        names, edges = [str(name) for name in attrs["layers"]], attrs["layer_boundaries"]
    elif "group_boundaries" in attrs:
        edges = attrs["group_boundaries"]
        names = [f"group {number}" for number in range(1, len(edges))]
    elif dims and dims[0] == "token":
        edges = np.arange(shape[0] + 1) * int(np.prod(shape[1:]))
        names = [f"token {number}" for number in range(shape[0])]
    else:
        return {}
    if len(names) != len(edges) - 1 or edges[-1] > np.prod(shape):
        raise InputError(
            "the parts of this target are not those of its features",
            given=f"{len(names)} parts with boundaries up to {edges[-1]}",
            expected=f"one part between two boundaries, up to {int(np.prod(shape))} features",
            todo="compute the target again: neurorecon features",
        )
    return {name: slice(int(start), int(end)) for name, start, end in zip(names, edges[:-1], edges[1:], strict=True)}


def _profile(true: np.ndarray, decoded: np.ndarray, orders: np.ndarray) -> dict[str, Any]:
    """Return the mean profile correlation with its interval, null and p.

    Sums of products over features give the mean correlation under every order at once. The interval leaves out one
    stimulus at a time, with all correlations computed anew.
    """
    n = len(true)
    products, defined = np.zeros((n, n)), 0
    left_out, counts = np.zeros(n), np.zeros(n)
    for part in _blocks(true):
        a, b = _standardized(true[:, part]), _standardized(decoded[:, part])
        kept = ~np.isnan(a[0] * b[0])
        a, b = a[:, kept], b[:, kept]
        products += b @ a.T
        defined += a.shape[1]
        if n > 2:
            # Sums over all others: a and b have mean 0 and norm 1 over all stimuli.
            share = n / (n - 1)
            covariance = (a * b).sum(axis=0) - share * a * b
            norms = np.clip(1 - share * a**2, 0, None) * np.clip(1 - share * b**2, 0, None)
            with np.errstate(invalid="ignore", divide="ignore"):
                without = np.where(norms > 1e-20, covariance / np.sqrt(norms), np.nan)
            left_out += np.nansum(without, axis=1)
            counts += (~np.isnan(without)).sum(axis=1)
    n_undefined = true.shape[1] - defined
    if not defined:
        empty = dict.fromkeys(("profile", "profile low", "profile high", "profile null", "profile p"), np.nan)
        return {**empty, "n_undefined": n_undefined}
    value = float(np.trace(products) / defined)
    low = high = np.nan
    if n > 2 and counts.all():
        means = left_out / counts
        interval = jackknife_interval((n - 1) / n * (means.mean() - means), value)
        low, high = float(interval.low), float(interval.high)
    null = products[np.arange(n), orders].sum(axis=1) / defined
    return {
        "profile": value, "profile low": low, "profile high": high, "profile null": float(null.mean()),
        "profile p": _p(value, null), "n_undefined": n_undefined,
    }  # fmt: skip


def _p(value: float, null: np.ndarray) -> float:
    return float(permutation_p(value, null)) if np.isfinite(value) and np.isfinite(null).all() else np.nan


def _standardized(values: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and norm 1, float64; NaN where a column is constant."""
    columns = np.asarray(values, dtype=np.float64)
    centered = columns - columns.mean(axis=0)
    norm = np.linalg.norm(centered, axis=0)
    norm[(columns == columns[0]).all(axis=0) | (norm == 0)] = np.nan
    return np.asarray(centered / norm)


def _blocks(values: np.ndarray) -> list[slice]:
    """Return slices of features that are small enough to be held as float64."""
    step = max(1, _VALUES // len(values))
    return [slice(start, start + step) for start in range(0, values.shape[1], step)]
