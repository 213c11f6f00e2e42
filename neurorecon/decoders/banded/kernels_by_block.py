"""Kernels of bands whose features do not fit into memory: read and multiplied block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.decoders.targets import FlatColumns
from neurorecon.decoders.validation import check_dtype
from neurorecon.errors import InputError

#: Values of a block of features by default: 64 MB in single precision.
_BLOCK_VALUES = 2**24


def kernels_by_block(
    train: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
    *,
    feature_block: int | None = None,
    standardize: bool = False,
    dtype: str = "float32",
) -> tuple[dict[str, NDArray], dict[str, NDArray] | None]:
    """Return the linear kernel of each band, of which never more than a block of features is in memory.

    Features are centered by their training mean block by block, so that single precision is enough for features far
    from zero; :class:`neurorecon.decoders.BandedRidge` takes the kernels as they are.

    Parameters
    ----------
    train : mapping of str to array, shape (sample, ...)
        The features of each band: NumPy arrays, memory maps, or dask, xarray or Zarr arrays.
    new : mapping of str to array, shape (new_sample, ...), optional
        Features of held-out samples, the same bands.
    feature_block : int, optional
        Features multiplied at once; by default as many as fit into 64 MB for the training samples.
    standardize : bool
        Divide features by their standard deviation over the training samples; those that do not vary count as 0.
    dtype : {"float32", "float64"}
        Precision of the products and of the result.

    Returns
    -------
    train_kernels : dict of str to array, shape (sample, sample)
        For :meth:`neurorecon.decoders.BandedRidge.fit_kernels`.
    new_kernels : dict of str to array, shape (new_sample, sample), or None
        For :meth:`neurorecon.decoders.BandedRidge.predict_kernels`.

    Raises
    ------
    InputError
        Where bands do not have the same samples, a band of `new` has other features, or values are not finite.

    Notes
    -----
    Peak memory is that of the kernels, of two blocks of features and of one product.
    """
    check_dtype(dtype)
    if new is not None and list(new) != list(train):
        raise InputError("the held-out features have other bands", given=list(new), expected=list(train))
    bands = {str(name): _flat(features) for name, features in train.items()}
    others = None if new is None else {str(name): _flat(features) for name, features in new.items()}
    for part in (bands, others or {}):
        counts = {name: features.n_samples for name, features in part.items()}
        if len(set(counts.values())) > 1:
            raise InputError("bands have different numbers of samples", given=counts, expected="the same samples")
    within, across = {}, {}
    for name, features in bands.items():
        other = None if others is None else others[name]
        within[name], across[name] = _kernels(name, features, other, feature_block, standardize, dtype)
    return within, None if others is None else across


def _kernels(
    name: str,
    features: FlatColumns,
    others: FlatColumns | None,
    feature_block: int | None,
    standardize: bool,
    dtype: str,
) -> tuple[NDArray, NDArray]:
    """Return the kernels of one band."""
    n_samples = features.n_samples
    if others is not None and others.n_targets != features.n_targets:
        raise InputError(
            f"the band {name!r} has other features in the held-out samples",
            given=f"{others.n_targets} features",
            expected=f"{features.n_targets} features",
        )
    within = np.zeros((n_samples, n_samples), dtype=dtype)
    across = np.zeros((0 if others is None else others.n_samples, n_samples), dtype=dtype)
    block = feature_block or max(1, _BLOCK_VALUES // max(1, n_samples))
    for columns in _blocks(features, block):
        values = _read(features, columns, name)
        mean, spread = values.mean(axis=0, dtype=np.float64), np.ones(values.shape[1])
        if standardize:
            spread = values.std(axis=0, dtype=np.float64)
            rounding = 1e-6 if values.dtype == np.float32 else 1e-12
            spread = np.where(spread > rounding * np.abs(mean), spread, np.inf)
        part = _scaled(values, mean, spread, dtype)
        within += part @ part.T
        if others is not None:
            across += _scaled(_read(others, columns, name), mean, spread, dtype) @ part.T
    return within, across


def _scaled(values: NDArray, mean: NDArray, spread: NDArray, dtype: str) -> NDArray:
    """Return features less their mean and divided by their spread; subtracted before it is rounded."""
    if np.dtype(dtype) == values.dtype == np.float32:
        # The mean is split in two, so that single precision loses nothing of it, nor copies in double precision.
        high = mean.astype(np.float32)
        part = values - high
        part -= (mean - high).astype(np.float32)
    else:
        part = values - mean
    part /= spread.astype(part.dtype)
    return part.astype(dtype, copy=False)


def _read(features: FlatColumns, columns: slice, name: str) -> NDArray:
    values = np.asarray(features[columns])
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            f"the features of band {name!r} contain NaN or infinity",
            given=f"{int((~np.isfinite(values)).sum())} of features {columns.start} to {columns.stop - 1}",
        )
    return values


def _flat(features: Any) -> FlatColumns:
    """Return features as (sample, feature) without reading them."""
    if type(features).__module__.startswith("xarray"):
        features = features.data
    if isinstance(features, np.ndarray) or not all(hasattr(features, part) for part in ("shape", "dtype")):
        features = np.asarray(features)
    shape = tuple(int(size) for size in features.shape)
    if not shape:
        raise InputError("features need a sample axis", given="a single number", expected="shape (sample, ...)")
    return FlatColumns(features, shape[0], shape[1:])


def _blocks(features: FlatColumns, block: int) -> Iterator[slice]:
    """Yield columns, whole chunks of a lazy array where those are not larger than a block: none is read twice."""
    chunks = getattr(features.array, "chunks", None)
    width = 1
    if chunks is not None and len(features.array.shape) == 2:
        # dask says all chunks of an axis, Zarr the size of one.
        width = max(chunks[1]) if isinstance(chunks[1], tuple) else int(chunks[1])
    return features.blocks(block // max(1, width) * width or block)
