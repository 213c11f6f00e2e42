"""Identification: whether the seen stimulus can be told from others, given its reconstruction.

All variants are exact (no candidates are drawn at random). Each has its own name, because their numbers differ on the
same reconstructions; :func:`~neurorecon.metrics.networks.named_identification` has the rule of the names.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics.base import Metric
from neurorecon.metrics.image import center_and_scale, check_pair, pixcorr

Similarity = Literal["correlation", "cosine"]

#: Similarities closer than this are ties: products of identical rows differ by about 1e-16, depending on their place in
#: the matrix, and a strict comparison must not count that as a win.
TOLERANCE = 1e-12

#: Values of one row that are converted to float64 at a time.
BLOCK = 65536


def two_way(seen: np.ndarray, reconstructed: np.ndarray, similarity: Similarity = "correlation") -> np.ndarray:
    """Share of the other seen stimuli strictly less similar to the reconstruction than the right one.

    This is the two-way identification of Brain-Diffuser's code: candidates are the *seen* stimuli, a tie
    counts as a loss. Chance is .5 if there are no ties.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images, or features of images.
    similarity : {"correlation", "cosine"}
        Pearson correlation of the flattened values, or the cosine.

    Returns
    -------
    array, shape (stimulus,)
        float64 in [0, 1]. NaN if the similarity of a stimulus with its own reconstruction is undefined;
        candidates whose similarity is undefined are left out.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than two stimuli.

    References
    ----------
    Ozcelik and VanRullen 2023, Sci Rep 13:15666 (Brain-Diffuser).

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import two_way
    >>> features = np.eye(4)
    >>> two_way(features, features).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return strict_share(similarity_matrix(seen, reconstructed, similarity))


def two_way_half_ties(
    seen: np.ndarray, reconstructed: np.ndarray, similarity: Similarity = "correlation"
) -> np.ndarray:
    """Two-way identification in which a tie counts half: chance is .5 even if stimuli are identical.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        As for :func:`two_way`.
    similarity : {"correlation", "cosine"}
        As for :func:`two_way`.

    Returns
    -------
    array, shape (stimulus,)
        float64 in [0, 1], NaN as in :func:`two_way`.
    """
    return _half_ties(similarity_matrix(seen, reconstructed, similarity))


def two_way_among_reconstructions(
    seen: np.ndarray, reconstructed: np.ndarray, similarity: Similarity = "correlation"
) -> np.ndarray:
    """Two-way identification the other way: candidates are the *reconstructions*, given the seen stimulus.

    A reconstruction that resembles every stimulus helps less here than in :func:`two_way`, and a stimulus that
    resembles the mean of all is not penalized, so the numbers differ, sometimes by a lot.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        As for :func:`two_way`.
    similarity : {"correlation", "cosine"}
        As for :func:`two_way`.

    Returns
    -------
    array, shape (stimulus,)
        float64 in [0, 1], NaN as in :func:`two_way`.
    """
    return strict_share(similarity_matrix(seen, reconstructed, similarity).T)


def n_way_probability(
    seen: np.ndarray, reconstructed: np.ndarray, n: int, similarity: Similarity = "correlation"
) -> np.ndarray:
    """Probability that the right stimulus wins against `n` - 1 others drawn at random, strictly and exactly.

    With L of the M other candidates strictly less similar, this is C(L, n-1) / C(M, n-1): the mean over all
    draws without replacement, not a sample of them. Chance is 1 / n, and n = 2 is
    :func:`two_way`.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images, or features of images.
    n : int
        Number of candidates, the right one included.
    similarity : {"correlation", "cosine"}
        As in :func:`two_way`.

    Returns
    -------
    array, shape (stimulus,)
        float64 in [0, 1], NaN as in :func:`two_way`.

    Raises
    ------
    InputError
        If `n` is below 2, or there are fewer than `n` stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import n_way_probability
    >>> features = np.eye(4)
    >>> n_way_probability(features, features, 3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    return _top_k(similarity_matrix(seen, reconstructed, similarity), 1, n)


def top_k_probability(
    seen: np.ndarray, reconstructed: np.ndarray, k: int, n: int, similarity: Similarity = "correlation"
) -> np.ndarray:
    """Probability that the right stimulus is among the `k` best of a pool of `n`, drawn at random, exactly.

    With H of the M other candidates as similar as the right one or more, their number X in a pool is hypergeometric,
    and this is P(X < k): the mean over all pools, not a sample of them. A tie counts as a loss. Chance is k / n; k = 1
    is :func:`n_way_probability`, and with n as large as the number of stimuli the pool is the whole set, as in the
    retrieval of published systems.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images, or features of images.
    k : int
        How many of the best count.
    n : int
        Size of the pool, the right one included.
    similarity : {"correlation", "cosine"}
        As in :func:`two_way`.

    Returns
    -------
    array, shape (stimulus,)
        float64 in [0, 1], NaN as in :func:`two_way`.

    Raises
    ------
    InputError
        If not 1 <= k < n, or there are fewer than `n` stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import top_k_probability
    >>> features = np.eye(4)
    >>> top_k_probability(features, features, 1, 3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    _check_pool(k, n)
    return _top_k(similarity_matrix(seen, reconstructed, similarity), k, n)


def identification(
    k: int = 1,
    n: int | Literal["all"] | None = None,
    *,
    half_ties: bool = False,
    among: Literal["seen", "reconstructions"] = "seen",
) -> Metric:
    """Return the metric of identification.

    Parameters
    ----------
    k, n : int
        How many of the best count, and the size of the pool, see :func:`top_k_probability`; ``"all"``: all stimuli.
        Without `n`, two-way identification, see :func:`two_way`.
    half_ties : bool
        Two-way only: a tie counts half.
    among : {"seen", "reconstructions"}
        Whether candidates are the stimuli, given a reconstruction, or the reconstructions, given a stimulus.
    """
    fewest = k + 1 if n == "all" else 2 if n is None else n
    if n is not None:
        _check_pool(k, fewest)

    def share(matrix: np.ndarray) -> np.ndarray:
        rows = matrix if among == "seen" else matrix.T
        if n is None:
            return (_half_ties if half_ties else strict_share)(rows)
        return _top_k(rows, k, n)

    return Metric(
        lambda seen, reconstructed: share(similarity_matrix(seen, reconstructed)),
        similarity_matrix,
        lambda matrix, order: share(matrix[:, order]),
        chance=0.5 if n is None else None if n == "all" else k / n,
        fewest=fewest,
    )


def _check_pool(k: int, n: int) -> None:
    if not 1 <= k < n:
        raise InputError(
            "identification needs at least two candidates, and fewer that count",
            given=f"the {k} best of {n}",
            expected="2_way, 10_way, 50_way, top1_of_50, top10_of_1200, ...",
            todo="choose a larger pool, or fewer that count",
        )


def similarity_matrix(
    seen: np.ndarray, reconstructed: np.ndarray, similarity: Similarity = "correlation"
) -> np.ndarray:
    """Return the similarity of every reconstruction with every seen stimulus.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Images or features. Values are converted in blocks, without a float64 copy of the whole array.
    similarity : {"correlation", "cosine"}
        Of the flattened values.

    Returns
    -------
    array, shape (reconstruction, seen)
        float64 in [-1, 1]; NaN if a row is constant (correlation) or zero (cosine).

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than two stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> from neurorecon.metrics import similarity_matrix
    >>> similarity_matrix(np.eye(3), np.eye(3)).round(3).tolist()
    [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    """
    seen, reconstructed = check_pair(seen, reconstructed)
    if len(seen) < 2:
        raise InputError(
            "identification needs other stimuli to compare with",
            given="one stimulus",
            expected="two or more",
            todo="evaluate all test stimuli in one call",
        )
    if similarity not in ("correlation", "cosine"):
        raise UnknownNameError("similarity", similarity, ("correlation", "cosine"))
    a, b = reconstructed.reshape(len(reconstructed), -1), seen.reshape(len(seen), -1)
    if a.shape[1] <= BLOCK and similarity == "correlation":
        return np.clip(center_and_scale(a) @ center_and_scale(b).T, -1.0, 1.0)
    return _blockwise(a, b, centered=similarity == "correlation")


def _blockwise(a: np.ndarray, b: np.ndarray, *, centered: bool) -> np.ndarray:
    """Similarities of long rows, a block of columns at a time."""
    mean_a = a.mean(axis=1, dtype=np.float64, keepdims=True) if centered else 0.0
    mean_b = b.mean(axis=1, dtype=np.float64, keepdims=True) if centered else 0.0
    products, squares_a, squares_b = np.zeros((len(a), len(b))), np.zeros(len(a)), np.zeros(len(b))
    for start in range(0, a.shape[1], BLOCK):
        part_a = a[:, start : start + BLOCK].astype(np.float64) - mean_a
        part_b = b[:, start : start + BLOCK].astype(np.float64) - mean_b
        products += part_a @ part_b.T
        squares_a += np.einsum("ij,ij->i", part_a, part_a)
        squares_b += np.einsum("ij,ij->i", part_b, part_b)
    for rows, squares in ((a, squares_a), (b, squares_b)):
        undefined = (rows == rows[:, :1]).all(axis=1) if centered else squares == 0
        squares[undefined | (squares == 0)] = np.nan
    return np.clip(products / np.sqrt(squares_a)[:, None] / np.sqrt(squares_b)[None, :], -1.0, 1.0)


def _ranks(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, in each row, the candidates below and level with the diagonal, and all that are defined.

    A row whose own similarity is undefined has NaN for the first two.
    """
    own = np.diagonal(similarity)[:, None]
    others = ~np.isnan(similarity) & ~np.eye(len(similarity), dtype=bool)
    lower = (others & (similarity < own - TOLERANCE)).sum(axis=1).astype(float)
    ties = (others & (np.abs(similarity - own) <= TOLERANCE)).sum(axis=1).astype(float)
    lower[np.isnan(own[:, 0])] = np.nan
    ties[np.isnan(own[:, 0])] = np.nan
    return lower, ties, others.sum(axis=1)


def _share(wins: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Wins among the candidates; NaN where there is none."""
    return np.divide(wins, others, out=np.full(len(wins), np.nan), where=others > 0)


def strict_share(matrix: np.ndarray) -> np.ndarray:
    """Return the share of candidates in each row that are strictly below the diagonal."""
    lower, _, others = _ranks(matrix)
    return _share(lower, others)


def _half_ties(matrix: np.ndarray) -> np.ndarray:
    """Return the share of candidates in each row that are below the diagonal, ties counted half."""
    lower, ties, others = _ranks(matrix)
    return _share(lower + 0.5 * ties, others)


def _top_k(matrix: np.ndarray, k: int, n: int | Literal["all"]) -> np.ndarray:
    """Return the probability that the diagonal is among the k best of itself and n - 1 other candidates of its row."""
    lower, _, others = _ranks(matrix)
    defined = ~np.isnan(lower)
    most = int(others[defined].min(initial=len(lower) - 1)) + 1
    n = most if n == "all" else n
    if not 2 <= n <= most:
        raise InputError(
            "this many candidates cannot be drawn",
            given=f"a pool of {n} with {len(lower)} stimuli",
            expected=f"n from 2 to {most} (stimuli whose similarity is undefined are no candidates)",
            todo="choose a smaller pool, or evaluate on more stimuli",
        )
    found = np.full(len(lower), np.nan)
    for number in np.unique(others[defined]):
        rows = defined & (others == number)
        found[rows] = by_rivals(int(number), k, n)[(number - lower[rows]).astype(int)]
    return found


@lru_cache(maxsize=64)
def by_rivals(others: int, k: int, n: int) -> np.ndarray:
    """Return the probability to be among the k best of n, by the number of rivals among the others, (others + 1,)."""
    from scipy.stats import hypergeom  # here, because it takes half a second

    rivals = np.arange(others + 1)
    found = np.clip(hypergeom.cdf(k - 1, others, rivals, n - 1), 0.0, 1.0)
    found[rivals < k] = 1.0  # certain, without rounding; and impossible, if too few are lower
    found[others - rivals < n - k] = 0.0
    return np.asarray(found)


#: Registered in :data:`neurorecon.registry.METRICS`.
PIXCORR = Metric(pixcorr, similarity_matrix)
TWO_WAY = identification()
TWO_WAY_HALF_TIES = identification(half_ties=True)
TWO_WAY_AMONG_RECONSTRUCTIONS = identification(among="reconstructions")
