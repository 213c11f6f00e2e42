"""Voxels chosen by their correlation with the targets in the samples that a model is fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.backend import Backend
from neurorecon.decoders.products import means
from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError


def check_rule(rule: Any) -> tuple[str, float]:
    """Return ``("count" | "share" | "above", number)`` of a rule for choosing voxels.

    Parameters
    ----------
    rule : int, float or str
        A count (500), a share of the voxels (0.25) or a threshold of the mean absolute correlation (">0.1").

    Raises
    ------
    InputError
        Where it is none of these.
    """
    if isinstance(rule, str) and rule.startswith(">"):
        try:
            return "above", float(rule[1:])
        except ValueError:
            pass
    elif isinstance(rule, int | np.integer) and not isinstance(rule, bool) and rule >= 1:
        return "count", float(rule)
    elif isinstance(rule, float | np.floating) and 0 < rule < 1:
        return "share", float(rule)
    raise InputError(
        "voxels cannot be selected by this rule",
        given=f"select_voxels={rule!r}",
        expected="a count (500), a share of all (0.25), or a threshold of the mean absolute correlation ('>0.1')",
    )


def relevance(
    x: NDArray, targets: Targets, samples: NDArray[np.int64], weights: NDArray | None, dtype: str, backend: Backend
) -> NDArray[np.float64]:
    """Return for each voxel the mean over targets of its absolute correlation with them.

    Parameters
    ----------
    x : array, shape (sample, voxel)
        Responses.
    targets : Targets
        In blocks.
    samples : int array
        Which samples count.
    weights : array, shape (sample,), optional
        Weights of all samples.
    dtype : str
        Precision of the products.
    backend : Backend
        Where they are computed.

    Returns
    -------
    array, shape (voxel,)
        0 for voxels that do not vary; targets that do not vary count as 0.
    """
    chosen = None if weights is None else weights[samples]
    total = np.zeros(x.shape[1])
    inputs = backend.asarray(_standardized(x[samples], chosen, dtype), dtype)
    for _, y in targets.blocks():
        correlations = inputs.T @ backend.asarray(_standardized(y[samples], chosen, dtype), dtype)
        total += backend.to_numpy(abs(correlations).sum(1))
    return total / targets.n_targets


def select(values: NDArray[np.float64], rule: tuple[str, float]) -> NDArray[np.int64]:
    """Return the voxels that a rule chooses by their relevance, ascending; of equals, the first.

    Raises
    ------
    InputError
        Where no voxel is relevant enough.
    """
    kind, number = rule
    if kind == "above":
        found = np.flatnonzero(values > number)
        if not len(found):
            raise InputError(
                "no voxel correlates with the targets as highly as asked for",
                given=f"select_voxels='>{number:g}'",
                expected=f"a threshold below {values.max():.3g}, the highest mean absolute correlation",
            )
        return found
    count = int(number) if kind == "count" else max(1, round(number * len(values)))
    return np.sort(np.argsort(-values, kind="stable")[:count])


def _standardized(values: NDArray, weights: NDArray | None, dtype: str) -> NDArray:
    """Return columns centered and of length 1, or 0 where they do not vary."""
    centered = values.astype(np.float64) - means(values, weights, center=True)
    if weights is not None:
        centered *= np.sqrt(weights)[:, None]
    lengths = np.sqrt((centered**2).sum(axis=0))
    # What is left of a constant column after centering is rounding.
    still = lengths <= 1e-7 * np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0)
    return (centered / np.where(still, np.inf, lengths)).astype(dtype)
