"""The mean of scores that are not always defined, with the number that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """The mean of scores over stimuli.

    Parameters
    ----------
    mean : float
        Over the stimuli whose score is defined; NaN where there is none.
    n : int
        Number of stimuli whose score is defined.
    n_undefined : int
        Number of stimuli whose score is NaN (e.g. the correlation of a constant image). They are left out
        of the mean, so a table has to say how many they are.
    """

    mean: float
    n: int
    n_undefined: int


def summarize(scores: np.ndarray) -> Summary:
    """Average scores over stimuli and count those that are undefined.

    Parameters
    ----------
    scores : array, shape (stimulus,)
        NaN marks an undefined score.

    Returns
    -------
    Summary
    """
    scores = np.asarray(scores, dtype=np.float64)
    defined = scores[~np.isnan(scores)]
    mean = float(defined.mean()) if defined.size else float("nan")
    return Summary(mean, int(defined.size), int(scores.size - defined.size))
