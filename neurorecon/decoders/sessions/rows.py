"""The dual: rows that sessions append to a kernel, and ridge regression from the kernel alone.

With one alpha, the Cholesky factor L of ``K + alpha I`` grows by the rows of the new session, and so do the
coordinates ``Z = L^-1 Y`` of its targets (forward substitution; Golub & Van Loan 2013, Matrix computations, section
4.2.9): nothing that was computed for earlier sessions changes, and their targets are not read again. A prediction is
``(L^-1 k)'(Z - z b) + b`` with k the kernel between the new sample and those fitted. The intercept b is that of an
unpenalized constant, ``b = z'Z / z'z`` with ``z = L^-1 1``, so that means are not subtracted from the kernel, where
each session would change all of it.

With candidates for alpha, or with one so small that the factor would lose precision, the centered kernel is
decomposed anew, as :mod:`neurorecon.decoders.solvers` does; responses are not read for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.alphas import Sharing, best_alphas
from neurorecon.decoders.sessions.files import ROWS, keep, kept
from neurorecon.decoders.sessions.kernel import (
    append_cholesky,
    append_coordinates,
    assemble,
    kernel,
    kernel_errors,
    kernel_spectrum,
)
from neurorecon.decoders.sessions.standardizing import JoinedTargets, Options
from neurorecon.decoders.targets import Targets

#: Predictions of the Cholesky factor are exact to about rounding errors times trace / alpha: 1e-9 at the least.
_WEAKEST_ALPHA = 1e-7


def add_rows(state: dict[str, Any] | None, x: NDArray, y: Any, folds: NDArray, options: Options) -> dict[str, Any]:
    """Return the state after a session; the state before is left as it was.

    Parameters
    ----------
    state : dict, optional
        ``responses``, ``targets``, ``kernel`` and ``folds``, lists with an item for each session, and ``reference``.
    x : array, shape (sample, voxel)
        Responses.
    y : array, shape (sample, ...)
        Targets.
    folds : array, shape (sample,)
        Fold of each sample.
    options : Options
        How.

    Returns
    -------
    dict
        The state with the session, and without what was fitted but the Cholesky factor and its coordinates.
    """
    if state is None:
        reference = x.mean(axis=0, dtype=np.float64) if options.center else np.zeros(x.shape[1])
        state = {"reference": reference, "folds": []} | {name: [] for name in ROWS}
    number = len(state["folds"]) + 1
    others = [*(kept(each, options.folder) for each in state["responses"]), x]
    rows = kernel(x, others, state["reference"], options.backend)
    lazy = hasattr(y, "shape") and hasattr(y, "dtype") and not type(y).__module__.startswith("pandas")
    appended = {"responses": x, "targets": y if lazy else np.asarray(y), "kernel": rows}
    return state | {
        "folds": [*state["folds"], folds],
        **{
            name: [*state[name], keep(value, options.folder, f"{name}-{number:04d}.npy")]
            for name, value in appended.items()
        },
    }


def fit_rows(state: dict[str, Any], sharing: Sharing, options: Options) -> dict[str, Any]:
    """Return the state with the ridge regression that it asks for.

    Parameters
    ----------
    state : dict
        With all sessions.
    sharing : Sharing
        Which targets share alpha.
    options : Options
        With alpha, or the candidates for it.

    Returns
    -------
    dict
        The state and ``alpha``, a number or (target,), ``errors`` (alpha,) or (alpha, target) or None, ``intercept``
        (target,), ``coordinates``, a list of arrays (component, target), and what makes components of responses:
        ``factor`` and ``ones``, or ``kernel_mean`` and ``vectors``.
    """
    parts = [kept(each, options.folder) for each in state["kernel"]]
    trace = sum(float(np.trace(part[:, part.shape[1] - len(part) :])) for part in parts)
    if not options.alphas.ndim and options.alphas > _WEAKEST_ALPHA * trace:
        return _grow(state, parts, options)
    return _decompose(state, assemble(parts), sharing, options)


def row_components(state: dict[str, Any], x: NDArray, options: Options) -> NDArray:
    """Return responses along the components of the fit, (sample, component), in double precision."""
    from scipy.linalg import solve_triangular

    responses = [kept(each, options.folder) for each in state["responses"]]
    products = kernel(x, responses, state["reference"], options.backend)
    if "factor" in state:
        return solve_triangular(state["factor"], products.T, lower=True, check_finite=False).T
    return (products - state["kernel_mean"]) @ state["vectors"]


def row_coefficients(state: dict[str, Any], options: Options) -> NDArray:
    """Return the weights of responses, (voxel, target)."""
    from scipy.linalg import solve_triangular

    coordinates = np.concatenate(state["coordinates"])
    if "factor" in state:
        left = coordinates - np.concatenate(state["ones"]) * state["intercept"]
        samples = solve_triangular(state["factor"], left, lower=True, trans=1, check_finite=False)
    else:
        samples = state["vectors"] @ coordinates
    total, start = np.zeros((len(state["reference"]), coordinates.shape[1])), 0
    for each in state["responses"]:
        x = kept(each, options.folder)
        total += (x - state["reference"]).T @ samples[start : start + len(x)]
        start += len(x)
    return total.astype(options.dtype)


def _targets(state: dict[str, Any], options: Options) -> list[Targets]:
    """Return the targets of each session, in blocks of the same columns."""
    n_samples = sum(len(folds) for folds in state["folds"])
    block = options.target_block or max(1, 2**25 // n_samples)
    return [Targets(kept(each, options.folder), options.dtype, block) for each in state["targets"]]


def _grow(state: dict[str, Any], parts: list[NDArray], options: Options) -> dict[str, Any]:
    """Append to the Cholesky factor and the coordinates what they lack."""
    alpha = float(options.alphas)
    same = "factor" in state and state["alpha"] == alpha
    factor = state["factor"] if same else None
    coordinates = list(state["coordinates"]) if same else []
    ones = list(state["ones"]) if same else []
    targets = _targets(state, options)
    for number in range(len(coordinates), len(parts)):
        factor = append_cholesky(factor, parts[number], alpha)
        ones.append(append_coordinates(factor, ones, np.ones((len(parts[number]), 1))))
        new = np.empty((len(parts[number]), targets[0].n_targets), dtype=options.dtype)
        for block, y in targets[number].blocks():
            new[:, block] = append_coordinates(factor, [part[:, block] for part in coordinates], y)
        coordinates.append(new)
    intercept = np.zeros(targets[0].n_targets)
    if options.center:
        for part, one in zip(coordinates, ones, strict=True):
            intercept += (one.T @ part)[0]
        intercept /= sum(float((one**2).sum()) for one in ones)
    unfitted = {name: state[name] for name in ("reference", "folds", *ROWS)}
    return unfitted | {
        "alpha": alpha,
        "errors": None,
        "intercept": intercept,
        "coordinates": coordinates,
        "factor": factor,
        "ones": ones,
    }


def _decompose(state: dict[str, Any], whole: NDArray, sharing: Sharing, options: Options) -> dict[str, Any]:
    """Choose alpha if asked to, and fit by the decomposition of the centered kernel."""
    backend, targets, alphas, errors = options.backend, JoinedTargets(_targets(state, options)), options.alphas, None
    mean, spectrum = kernel_spectrum(whole, len(state["reference"]), backend, options.center)
    if alphas.ndim:
        errors = kernel_errors(spectrum, targets, np.concatenate(state["folds"]), options, sharing)
        alphas = sharing.spread(best_alphas(errors, alphas))
    singular, left = spectrum.singular_values, backend.asarray(spectrum.vectors, options.dtype)
    coordinates = np.empty((len(singular), targets.n_targets), dtype=options.dtype)
    intercept = np.zeros(targets.n_targets)
    for block, y in targets.blocks():
        if options.center:
            intercept[block] = y.mean(axis=0, dtype=np.float64)
        projected = left.T @ backend.asarray(y - intercept[block].astype(y.dtype), options.dtype)
        strength = np.atleast_1d(alphas if alphas.ndim == 0 else alphas[block])
        shrinkage = singular[:, None] / (singular[:, None] ** 2 + strength)
        coordinates[:, block] = shrinkage * backend.to_numpy(projected)
    unfitted = {name: state[name] for name in ("reference", "folds", *ROWS)}
    return unfitted | {
        "alpha": alphas if alphas.ndim else float(alphas),
        "errors": errors,
        "intercept": intercept,
        "coordinates": [coordinates],
        "kernel_mean": mean,
        "vectors": backend.to_numpy(spectrum.vectors) / singular,
    }
