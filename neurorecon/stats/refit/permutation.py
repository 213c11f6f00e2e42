"""Permutation test of encoding models that are fitted again to each permuted order of the training responses.

The null hypothesis is that responses do not depend on which stimulus was shown. Then the training responses may
trade places between stimuli, and the whole procedure (fit, choice of alpha for each voxel, scores on the test set)
is repeated as often as wanted. Permuting the rows of the responses is permuting the rows of U in ``X = U S V'``, so
that one factorization of the features serves all permutations: each costs one product ``U[order]' Y`` and a few
smaller ones.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from neurorecon.errors import InputError
from neurorecon.stats.permutation_results import PermutationTest
from neurorecon.stats.refit.checks import band_columns, require_finite
from neurorecon.stats.refit.factors import FeatureSource, KernelSource
from neurorecon.stats.refit.run import RefitOptions, run


def refit_permutation_test(
    features: ArrayLike,
    responses: Any,
    test_features: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    bands: Any = None,
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Test predictions of held-out responses against models fitted again to permuted training responses.

    Parameters
    ----------
    features : array, shape (sample, feature)
        Features of the training samples; of time series with their delays.
    responses : array, shape (sample, voxel)
        Training responses. Sliced by voxels, so that a memory map will do.
    test_features : array, shape (test_sample, feature)
        Features of the test samples.
    test_responses : array, shape (test_sample, voxel)
        Test responses.
    alphas : float or sequence of float
        Candidates for the penalty ``alpha * sum(weights ** 2)``, of which each voxel gets its own, chosen again in
        each permutation.
    cv : {"gcv"}, int or iterable of (train, held_out)
        How alpha is chosen: ``"gcv"`` by generalized cross-validation, which costs next to nothing; otherwise by the
        mean squared error over folds (a number of folds keeps units together), which costs many times as much.
    units : array, shape (sample,), optional
        What trades places: stimulus ids of trials, so that all repeats of a stimulus go together, or runs (or long
        stretches) of a time series, within which the order of volumes stays. By default each sample by itself. Only
        units of the same number of samples trade places.
    within : array, shape (sample,), optional
        A label for each sample, e.g. its session: only units of the same label trade places.
    bands : dict of str to slice or index array, optional
        Which features make up each band; needs `mixtures`.
    mixtures : array, shape (band, voxel), optional
        Weight of each band's kernel in each voxel, kept in all permutations (``BandedRidge.mixtures_``). Kernels are
        scaled to a mean diagonal of 1 first, as :class:`neurorecon.BandedRidge` does. The test is exact where the
        mixtures were chosen without the training responses, else an approximation.
    n_permutations, seed : int
        Number of permuted orders, and the seed they come from.
    statistic : {"r2", "correlation"}
        Score on the test samples. With bands also split by the product measure.
    groups : bool array, shape (group, voxel), optional
        Sets of voxels, e.g. areas, whose mean joint score is tested as well.
    device : str
        ``"cpu"`` (NumPy), ``"torch"`` or ``"cuda"``.
    dtype : {"float32", "float64"}
        Precision of what is as large as the responses. Factorizations are computed in float64.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PermutationTest
        ``observed``, ``p``, ``null_mean``, ``null_max``, ``alphas``, and ``split`` where there are bands.

    Raises
    ------
    InputError
        Where shapes do not fit, values are not finite, or there is nothing to permute.

    References
    ----------
    Winkler et al. (2014). Permutation inference for the general linear model. NeuroImage 92, 381-397
    (exchangeability blocks). Phipson & Smyth (2010). Permutation p-values should never be zero.
    """
    x, new = (np.asarray(part) for part in (features, test_features))
    if x.ndim != 2 or new.ndim != 2 or x.shape[1] != new.shape[1]:
        raise InputError(
            "training and test features do not fit each other",
            given=f"shapes {x.shape} and {new.shape}",
            expected="(sample, feature) and (test_sample, feature)",
        )
    require_finite(features=x, test_features=new)
    source = FeatureSource(x, new, band_columns(bands, x.shape[1]))
    options = RefitOptions(
        alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
    )
    return run(source, responses, test_responses, options)


def refit_permutation_test_kernels(
    kernels: ArrayLike,
    responses: Any,
    test_kernels: ArrayLike,
    test_responses: Any,
    *,
    alphas: ArrayLike,
    cv: Any = "gcv",
    units: ArrayLike | None = None,
    within: ArrayLike | None = None,
    mixtures: ArrayLike | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    statistic: Literal["r2", "correlation"] = "r2",
    groups: ArrayLike | None = None,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float32",
    progress: bool = False,
) -> PermutationTest:
    """Do the same as :func:`refit_permutation_test` from linear kernels, for features too wide for memory.

    Parameters
    ----------
    kernels : array, shape (band, sample, sample) or (sample, sample)
        Raw kernels ``X X'`` of the training samples; several need `mixtures`.
    responses, test_responses : array, shape (sample, voxel) and (test_sample, voxel)
        Training and test responses.
    test_kernels : array, shape (band, test_sample, sample) or (test_sample, sample)
        Raw kernels between test and training samples.
    alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
        As for :func:`refit_permutation_test`.

    Returns
    -------
    PermutationTest
    """
    within_train, across = (
        np.asarray(part, dtype=np.result_type(np.asarray(part), np.float32)) for part in (kernels, test_kernels)
    )
    if within_train.ndim == 2 and across.ndim == 2:
        within_train, across = within_train[None], across[None]
    square = within_train.ndim == 3 and within_train.shape[1] == within_train.shape[2]
    if not square or across.ndim != 3 or across.shape[::2] != within_train.shape[::2]:
        raise InputError(
            "the kernels do not fit each other",
            given=f"shapes {within_train.shape} and {across.shape}",
            expected="([band,] sample, sample) and ([band,] test_sample, sample)",
        )
    require_finite(kernels=within_train, test_kernels=across)
    source = KernelSource(within_train, across)
    options = RefitOptions(
        alphas, cv, units, within, mixtures, n_permutations, seed, statistic, groups, device, dtype, progress
    )
    return run(source, responses, test_responses, options)
