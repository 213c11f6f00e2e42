"""Errors on held-out samples of all folds from one factorization of all samples.

With the smoother S of ridge regression on all samples (its intercept included), the residuals that a fit
without the samples t leaves on them are ``inverse(E_tt) E_t Y`` with ``E = 1 - S``: leaving out rows of a
penalized least-squares problem is a change of low rank. So the folds need neither a pass over the voxels nor a
factorization of their own, and the residuals of all folds are one matrix product per alpha.

That identity is the block form of the one for leaving out single samples (Allen 1974, Technometrics 16,
125-127; Golub, Heath & Wahba 1979, Technometrics 21, 215-223).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.folds import Fold
from neurorecon.decoders.products import unit_vector
from neurorecon.decoders.ridge.penalties import AlphaSearch
from neurorecon.decoders.solvers import Spectrum, center_targets, solve_positive
from neurorecon.errors import InputError

#: An alpha below this share of the largest eigenvalue would cost more than half the digits of double precision.
_WEAKEST = 1e-7

#: Bytes of the operators that are held at once; further alphas take another pass over the targets.
_OPERATOR_BYTES = 2**30


def can_leave_out(spectrum: Spectrum, folds: list[Fold], n_samples: int, alphas: NDArray) -> bool:
    """Return whether held-out residuals can be taken from one factorization of all samples.

    They can where the samples' products were decomposed, each fold trains on all samples but the held-out
    ones, and no alpha is too weak.
    """
    if not spectrum.dual or not len(spectrum.singular_values):
        return False
    if alphas.min() < _WEAKEST * spectrum.singular_values[0] ** 2:
        return False
    return all(np.array_equal(np.sort(np.concatenate(fold)), np.arange(n_samples)) for fold in folds)


def add_errors(total: NDArray[np.float64], spectrum: Spectrum, folds: list[Fold], search: AlphaSearch) -> None:
    """Add the mean squared errors on held-out samples of each fold, for each alpha.

    Parameters
    ----------
    total : array, shape (alpha, group)
        Sums over the targets of each group and over folds; added to in place.
    spectrum : Spectrum
        Of all samples.
    folds : list of (train, test)
        Indices of samples.
    search : AlphaSearch
        Candidates, and what they are tried on. The operators are computed in float64.
    """
    backend, alphas, center, dtype = spectrum.backend, search.alphas, search.center, search.dtype
    n_samples = len(spectrum.vectors)
    scales = backend.asarray(_fold_scales(folds, search.weights, n_samples)[:, None], "float64")
    if search.sharing.together:
        products = _target_products(spectrum, search)
        for row, alpha in zip(total, alphas, strict=True):
            operator = residual_operator(spectrum, alpha, folds, center) * scales
            row[0] += float(((operator @ products) * operator).sum())
        return
    held = max(1, _OPERATOR_BYTES // (len(scales) * n_samples * np.dtype(dtype).itemsize))
    for start in range(0, len(alphas), held):
        part = slice(start, start + held)
        operators = [
            backend.asarray(residual_operator(spectrum, alpha, folds, center) * scales, dtype) for alpha in alphas[part]
        ]
        for columns, y in search.targets.blocks():
            values, _ = center_targets(y, search.weights, center, backend, dtype)
            errors = [backend.to_numpy(((operator @ values) ** 2).sum(0)) for operator in operators]
            search.sharing.add(total[part], columns, np.array(errors))


def residual_operator(spectrum: Spectrum, alpha: float, folds: list[Fold], center: bool) -> Any:
    """Return the matrix from targets to held-out residuals, (held-out sample of all folds, sample), float64.

    With sample weights both sides are multiplied by their roots.
    """
    backend = spectrum.backend
    squares = spectrum.singular_values**2
    n_samples = len(spectrum.vectors)
    # The product of a matrix with its own transpose is half the work of another.
    half = spectrum.vectors * backend.asarray(np.sqrt(squares / (squares + alpha)), "float64")
    unexplained = -(half @ half.T)
    if center:
        unit = backend.asarray(unit_vector(n_samples, spectrum.roots), "float64")
        unexplained -= unit[:, None] * unit
    diagonal = np.arange(n_samples)
    unexplained[diagonal, diagonal] += 1.0
    rows = [
        solve_positive(unexplained[test][:, test], unexplained[test], backend, what="a fold leaves nothing to fit on")
        for _, test in folds
    ]
    return _stack(rows, backend)


def _stack(rows: list[Any], backend: Backend) -> Any:
    if backend.is_numpy:
        return np.concatenate(rows)
    import torch

    return torch.cat(rows)


def _fold_scales(folds: list[Fold], weights: NDArray | None, n_samples: int) -> NDArray[np.float64]:
    """Return what each residual is multiplied by, so that squares add up to means within folds."""
    values = np.ones(n_samples) if weights is None else weights
    for train, _ in folds:
        if not values[train].any():
            raise InputError(
                "all samples that a fold is fitted on have a weight of zero",
                given=f"{len(train)} samples",
                todo="leave out samples without weight, or give other folds",
            )
    return np.concatenate([np.full(len(test), 1 / np.sqrt(values[test].sum() or 1.0)) for _, test in folds])


def _target_products(spectrum: Spectrum, search: AlphaSearch) -> Any:
    """Return the products of samples over all targets, (sample, sample), in float64: no alpha enters them."""
    backend = spectrum.backend
    total: Any = None
    for _, y in search.targets.blocks():
        values, _ = center_targets(y, search.weights, search.center, backend, search.dtype)
        product = backend.asarray(values @ values.T, "float64")
        if total is None:
            total = product
        else:
            total += product
    return total
