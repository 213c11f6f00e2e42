"""The primal: sums over samples that sessions are added to, and ridge regression from nothing but them.

The products of centered inputs and targets of two sets of samples are those of each set about its own means, plus
those of the means about their common mean (Chan, Golub & LeVeque 1983, Algorithms for computing the sample
variance, The American Statistician 37(3), equation 2.1). So nothing cancels, however far means are from zero and
however they drift from session to session, and no sample is needed twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.alphas import Sharing, best_alphas
from neurorecon.decoders.sessions.standardizing import Options, used_folds
from neurorecon.decoders.solvers import Backend, decompose
from neurorecon.decoders.targets import Targets

#: ``count``; ``x_mean`` (feature,), ``y_mean`` (target,); products of what is centered: ``xx`` (feature, feature),
#: ``xy`` (feature, target), and of each target with itself ``yy`` (target,). Float64.
Sums = dict[str, Any]


def sums(x: NDArray, targets: Targets, rows: NDArray, backend: Backend, center: bool) -> Sums:
    """Return the sums over some samples of one session.

    Parameters
    ----------
    x : array, shape (sample, feature)
        Inputs.
    targets : Targets
        Targets of the same samples.
    rows : bool array, shape (sample,)
        Which samples.
    backend : Backend
        Where to compute.
    center : bool
        Whether to subtract means; otherwise means are 0 and products are those of what is given.

    Returns
    -------
    dict
        See :data:`Sums`.
    """
    chosen = x[rows].astype(np.float64)
    x_mean = chosen.mean(axis=0) if center and len(chosen) else np.zeros(x.shape[1])
    centered = backend.asarray(chosen - x_mean, "float64")
    n_features, n_targets = x.shape[1], targets.n_targets
    xy, yy, y_mean = np.empty((n_features, n_targets)), np.empty(n_targets), np.zeros(n_targets)
    for block, values in targets.blocks():
        y = values[rows].astype(np.float64)
        if center and len(y):
            y_mean[block] = y.mean(axis=0)
            y -= y_mean[block]
        xy[:, block] = backend.to_numpy(centered.T @ backend.asarray(y, "float64"))
        yy[block] = np.einsum("ij,ij->j", y, y)
    xx = backend.to_numpy(centered.T @ centered)
    return {"count": float(len(chosen)), "x_mean": x_mean, "y_mean": y_mean, "xx": xx, "xy": xy, "yy": yy}


def merge(one: Sums, other: Sums, center: bool) -> Sums:
    """Return the sums over the samples of both."""
    if not one["count"] or not other["count"]:
        return one if one["count"] else other
    count = one["count"] + other["count"]
    merged = {name: one[name] + other[name] for name in ("xx", "xy", "yy")} | {"count": count}
    for name in ("x_mean", "y_mean"):
        merged[name] = one[name] + (other[name] - one[name]) * (other["count"] / count)
    if center:
        weight = one["count"] * other["count"] / count
        x, y = other["x_mean"] - one["x_mean"], other["y_mean"] - one["y_mean"]
        merged["xx"] += weight * np.outer(x, x)
        merged["xy"] += (weight * x)[:, None] * y
        merged["yy"] += weight * y**2
    return merged


def merge_all(parts: list[Sums], center: bool) -> Sums:
    """Return the sums over all parts."""
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part, center)
    return total


def add_sums(
    parts: list[Sums] | None, x: NDArray, targets: Targets, folds: NDArray, n_folds: int, options: Options
) -> list[Sums]:
    """Return the sums of each fold after a session.

    Parameters
    ----------
    parts : list of dict, optional
        Of each fold before.
    x : array, shape (sample, feature)
        Inputs.
    targets : Targets
        Targets.
    folds : array, shape (sample,)
        Fold of each sample.
    n_folds : int
        Number of folds.
    options : Options
        How.

    Returns
    -------
    list of dict
        One for each fold.
    """
    new = [sums(x, targets, folds == number, options.backend, options.center) for number in range(n_folds)]
    return new if parts is None else [merge(one, two, options.center) for one, two in zip(parts, new, strict=True)]


def fit_sums(parts: list[Sums], sharing: Sharing, options: Options) -> dict[str, Any]:
    """Return the ridge regression that sums ask for.

    Parameters
    ----------
    parts : list of dict
        Sums over the samples of each fold.
    sharing : Sharing
        Which targets share alpha.
    options : Options
        With alpha, or the candidates for it.

    Returns
    -------
    dict
        ``alpha``, a number or (target,); ``errors`` (alpha,) or (alpha, group) or None; ``x_mean`` (feature,),
        ``intercept`` (target,), and ``vectors`` (feature, component) and ``coordinates`` (component, target), whose
        product is the weights.
    """
    alphas, errors = options.alphas, None
    if alphas.ndim:
        errors = sums_errors(parts, options, sharing)
        alphas = sharing.spread(best_alphas(errors, alphas))
    total = merge_all(parts, options.center)
    squares, vectors, projected = _diagonal(total, options.backend)
    return {
        "alpha": alphas if alphas.ndim else float(alphas),
        "errors": errors,
        "x_mean": total["x_mean"],
        "intercept": total["y_mean"],
        "vectors": options.backend.to_numpy(vectors).astype(options.dtype),
        "coordinates": (projected / (squares[:, None] + alphas)).astype(options.dtype),
    }


def sums_errors(folds: list[Sums], options: Options, sharing: Sharing) -> NDArray[np.float64]:
    """Return the mean squared error of each alpha on each held-out fold, averaged over folds.

    Held-out errors are sums too: with weights W and the differences between the means of the held-out and of the
    other samples added to its products, the sum of squared errors of a fold is ``yy - 2 w'xy + w'(xx)w``.

    Parameters
    ----------
    folds : list of dict
        Sums over the samples of each fold.
    options : Options
        With the candidates for alpha.
    sharing : Sharing
        Which targets share alpha.

    Returns
    -------
    errors : array, shape (alpha,) or (alpha, group)
        Averaged over the targets that share alpha.
    """
    backend, alphas, center = options.backend, options.alphas, options.center
    used = used_folds(np.flatnonzero([fold["count"] > 0 for fold in folds]))
    folds = [folds[number] for number in used]
    errors = np.zeros((len(alphas), len(folds[0]["yy"])))
    for number, held_out in enumerate(folds):
        train = merge_all(folds[:number] + folds[number + 1 :], center)
        squares, vectors, projected = _diagonal(train, backend)
        # Products about the means of the training samples, which predictions are made from.
        x, y = held_out["x_mean"] - train["x_mean"], held_out["y_mean"] - train["y_mean"]
        vectors = backend.to_numpy(vectors)
        inputs = vectors.T @ (held_out["xx"] + held_out["count"] * np.outer(x, x)) @ vectors
        cross = vectors.T @ (held_out["xy"] + (held_out["count"] * x)[:, None] * y)
        squares_of_targets = held_out["yy"] + held_out["count"] * y**2
        for row, alpha in zip(errors, alphas, strict=True):
            coordinates = projected / (squares[:, None] + alpha)
            explained = np.einsum("ij,ij->j", coordinates, 2 * cross - inputs @ coordinates)
            row += (squares_of_targets - explained) / held_out["count"]
    total = np.zeros((len(alphas), sharing.n_groups))
    sharing.add(total, slice(None), errors / len(folds))
    return sharing.mean(total)


def _diagonal(total: Sums, backend: Backend) -> tuple[NDArray, NDArray, NDArray]:
    """Return squared singular values (component,), vectors (feature, component) and ``vectors.T @ xy``."""
    side = max(int(total["count"]), len(total["xx"]))
    singular, vectors = decompose(backend.asarray(total["xx"].copy(), "float64"), side, backend)
    projected = backend.to_numpy(vectors.T @ backend.asarray(total["xy"], "float64"))
    return singular**2, vectors, projected
