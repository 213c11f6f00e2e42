"""Bands of voxels from regions of interest, for decoding with one regularization a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurorecon.decoders.banded.kernels import overlaps
from neurorecon.errors import InputError, UnknownNameError


def bands_of_rois(
    masks: Mapping[str, ArrayLike],
    rois: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    *,
    voxels: ArrayLike | None = None,
    rest: str | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return `bands` of :class:`neurorecon.decoders.BandedRidge` from masks of regions of interest.

    Parameters
    ----------
    masks : mapping of str to bool array, shape (voxel,)
        Membership of each ROI, e.g. ``store.roi_masks("subj01")``.
    rois : sequence of str, or mapping of str to str or sequence of str, optional
        ROIs, one band each; or for each band the ROIs that make it up. All ROIs where left out.
    voxels : int array, shape (feature,), optional
        Which voxel each column of X is, e.g. ``store.responses("subj01", "nsdgeneral")["voxel"]``. By default X has all
        voxels.
    rest : str, optional
        Name of a band for the voxels of X that are in none of the others.

    Returns
    -------
    dict of str to int array
        Columns of X of each band.

    Raises
    ------
    InputError
        Where two bands share voxels, a band has none in X, or voxels of X are in no band and `rest` is not given.

    Examples
    --------
    >>> X = store.responses("subj01", ["V1", "V2", "MT"])  # doctest: +SKIP
    >>> bands = bands_of_rois(store.roi_masks("subj01"), ["V1", "V2", "MT"], voxels=X["voxel"])  # doctest: +SKIP
    >>> BandedRidge(bands).fit(X, targets)  # doctest: +SKIP
    """
    parts = rois if isinstance(rois, Mapping) else {name: name for name in (masks if rois is None else rois)}
    columns = {str(band): np.flatnonzero(_union(masks, part, voxels)) for band, part in parts.items()}
    shared = overlaps(columns)
    if shared:
        raise InputError(
            "bands share voxels, and each voxel has to be in one band",
            given=", ".join(f"{one} and {other} share {number}" for one, other, number in shared),
            expected="regions without voxels in common",
            todo="leave one of them out, or name regions side by side (V1v and V1d, not V1v and V1)",
        )
    empty = [band for band, part in columns.items() if not len(part)]
    if empty or not columns:
        raise InputError(
            "bands need voxels", given=f"no voxel of X is in {', '.join(empty) or 'any band'}", todo="leave them out"
        )
    width = len(next(iter(masks.values()))) if voxels is None else len(np.asarray(voxels))  # type: ignore[arg-type]
    left = np.setdiff1d(np.arange(width), np.concatenate(list(columns.values())))
    if len(left) and rest is None:
        raise InputError(
            "some voxels are in no band",
            given=f"{len(left)} of {width} voxels are in none of {', '.join(columns)}",
            expected="each voxel in one band",
            todo="select the voxels of these regions only, or give rest='other' for a band of all others",
        )
    if rest is not None and rest in columns:
        raise InputError("the rest needs a name of its own", given=repr(rest), expected=f"none of {', '.join(columns)}")
    return columns | ({rest: left} if rest is not None and len(left) else {})


def _union(masks: Mapping[str, ArrayLike], names: str | Sequence[str], voxels: ArrayLike | None) -> NDArray[np.bool_]:
    """Return which columns of X lie in any of these ROIs."""
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in masks:
            raise UnknownNameError("ROI", name, masks)
    member = np.any([np.asarray(masks[name], dtype=bool) for name in wanted], axis=0)
    if voxels is None:
        return member
    places = np.asarray(voxels)
    if (
        places.ndim != 1
        or places.dtype.kind not in "iu"
        or places.min(initial=0) < 0
        or places.max(initial=0) >= len(member)
    ):
        raise InputError(
            "`voxels` has to say which voxel each column of X is",
            given=f"type {places.dtype}, shape {places.shape}",
            expected=f"whole numbers from 0 to {len(member) - 1}",
            todo='give the coordinate "voxel" of the responses',
        )
    return member[places]
