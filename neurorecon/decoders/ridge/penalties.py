"""Which targets share one regularization strength, which candidates they have, and which serves them best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.targets import Blocks, Targets
from neurorecon.errors import InputError


class Sharing:
    """Targets in groups that share alpha.

    Parameters
    ----------
    alpha_per : {"all", "target"}, int, str or array
        One alpha for all targets, one for each, one for each position along an axis of a target (its number,
        or its name where targets are an xarray array), or one for each label of an array with one label for
        each target.
    targets : Targets
        All targets.

    Raises
    ------
    InputError
        Where there is no such axis, or labels do not fit the targets.
    """

    def __init__(self, alpha_per: Any, targets: Targets) -> None:
        self.n_targets = targets.n_targets
        self.each = isinstance(alpha_per, str) and alpha_per == "target"
        self.codes: NDArray[np.int64] | None = None
        if not self.each and not (isinstance(alpha_per, str) and alpha_per == "all"):
            labels = _labels(alpha_per, targets)
            self.codes = np.unique(labels, return_inverse=True)[1].ravel()
        self.n_groups = self.n_targets if self.each else 1 if self.codes is None else int(self.codes.max()) + 1

    @property
    def together(self) -> bool:
        """Whether all targets share one alpha."""
        return not self.each and self.codes is None

    def add(self, total: NDArray[np.float64], columns: slice | NDArray[np.int64], values: NDArray) -> None:
        """Add values of some targets, (..., target), to the sums over the targets of each group, (..., group)."""
        if self.each:
            total[:, columns] += values
        elif self.codes is None:
            total[:, 0] += values.sum(axis=1)
        else:
            codes = self.codes[columns]
            for row, value in zip(total, values, strict=True):
                row += np.bincount(codes, weights=value, minlength=self.n_groups)

    def mean(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return means over the targets of each group from sums: (alpha,) or (alpha, group)."""
        if self.each:
            return total
        if self.codes is None:
            return total[:, 0] / self.n_targets
        return total / np.bincount(self.codes, minlength=self.n_groups)

    def spread(self, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the alpha of each target from those of the groups: () or (target,)."""
        return alphas if self.codes is None else alphas[self.codes]


@dataclass(frozen=True)
class AlphaSearch:
    """What candidates for alpha are tried on, however their errors on held-out samples are computed.

    Parameters
    ----------
    targets : Targets or TargetPart
        All targets, in blocks.
    alphas : array, shape (alpha,)
        Candidates.
    sharing : Sharing
        Which targets share alpha.
    weights : array, shape (sample,), optional
        Sample weights.
    center : bool
        Fit an intercept.
    dtype : str
        Precision of what is as large as the targets.
    """

    targets: Blocks
    alphas: NDArray[np.float64]
    sharing: Sharing
    weights: NDArray | None
    center: bool
    dtype: str


def _labels(alpha_per: Any, targets: Targets) -> NDArray:
    """Return one label for each of the flattened targets."""
    if isinstance(alpha_per, bool) or alpha_per is None:
        raise _unknown(alpha_per, targets)
    if isinstance(alpha_per, str):
        if alpha_per not in targets.names:
            raise _unknown(alpha_per, targets)
        alpha_per = targets.names.index(alpha_per)
    if isinstance(alpha_per, int | np.integer):
        if not -len(targets.shape) <= alpha_per < len(targets.shape):
            raise _unknown(alpha_per, targets)
        return _along(targets.shape, int(alpha_per))
    labels = np.asarray(alpha_per)
    if labels.size != targets.n_targets or labels.shape not in (targets.shape, (targets.n_targets,)):
        raise InputError(
            "labels of targets that share alpha do not fit the targets",
            given=f"alpha_per of shape {labels.shape}",
            expected=f"one label for each target: shape {targets.shape} or ({targets.n_targets},)",
        )
    return labels.ravel()


def _along(shape: tuple[int, ...], axis: int) -> NDArray[np.int64]:
    """Return the position of each flattened target along an axis."""
    return np.indices(shape)[axis].ravel()


def _unknown(alpha_per: Any, targets: Targets) -> InputError:
    names = "".join(f", {name!r}" for name in targets.names)
    return InputError(
        "targets cannot share alpha in this way",
        given=f"alpha_per={alpha_per!r}, targets of shape {targets.shape}",
        expected=f"'all', 'target', the number of an axis of a target (0 to {len(targets.shape) - 1}){names}, "
        "or an array with one label for each target",
    )


def best_alphas(errors: NDArray, alphas: NDArray) -> NDArray:
    """Return the alpha of least error, of equals the largest: shape () or (group,)."""
    order = np.argsort(-alphas, kind="stable")
    return alphas[order][np.argmin(errors[order], axis=0)]
