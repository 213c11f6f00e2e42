"""Train-test splits for readers: by stimulus, session, cluster or category.

Every split guarantees what a store promises: each stimulus is in one split only, and in the same split for all
subjects. Samples that would violate this are left out (split ``""``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError

TRAIN, TEST, LEFT_OUT = "train", "test", ""


def hold_out_stimuli(stimuli: Sequence[object] | np.ndarray | pd.Series, held_out: Iterable[object]) -> np.ndarray:
    """Assign samples of the held-out stimuli to the test split, and all others to the training split.

    Parameters
    ----------
    stimuli : sequence, shape (sample,)
        The stimulus of each sample, or its run or session to split by that.
    held_out : iterable
        The stimuli (or runs or sessions) to test on.

    Returns
    -------
    array of str, shape (sample,)
        ``"train"`` or ``"test"``.
    """
    return np.where(pd.Series(np.asarray(stimuli)).isin(set(held_out)), TEST, TRAIN).astype(object)


def hold_out_sessions(samples: Mapping[str, pd.DataFrame], sessions: Iterable[int]) -> dict[str, np.ndarray]:
    """Test on some sessions, and leave out other samples of the stimuli shown there, in all subjects.

    Parameters
    ----------
    samples : mapping of str to DataFrame
        The samples of each subject, with the columns ``stimulus`` and ``session``.
    sessions : iterable of int
        Sessions to test on.

    Returns
    -------
    dict of str to array of str, shape (sample,)
        For each subject, ``"train"``, ``"test"``, or ``""`` for samples that are left out.
    """
    tested = set(sessions)
    shown = {name: table["session"].isin(tested).to_numpy() for name, table in samples.items()}
    stimuli = set().union(*(table["stimulus"][shown[name]] for name, table in samples.items()))
    found = {}
    for name, table in samples.items():
        elsewhere = table["stimulus"].isin(stimuli).to_numpy() & ~shown[name]
        found[name] = np.where(shown[name], TEST, np.where(elsewhere, LEFT_OUT, TRAIN)).astype(object)
    return found


def hold_out_groups(groups: Sequence[object] | np.ndarray, share: float, seed: int = 0) -> set[Any]:
    """Draw whole groups of stimuli at random until they make up a given share of all stimuli.

    Parameters
    ----------
    groups : sequence, shape (stimulus,)
        The group (cluster) of each stimulus.
    share : float
        Share of the stimuli to draw, between 0 and 1. At least one group is drawn, and at least one is not.
    seed : int
        Random seed of the draw.

    Returns
    -------
    set
        The groups to test on.

    Raises
    ------
    InputError
        If there are fewer than two groups.
    """
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < 2:
        raise InputError(
            "the stimuli cannot be split by cluster, because all are in the same cluster",
            given=f"{len(names)} cluster, {int(counts.sum())} stimuli",
            expected="at least two clusters",
            todo="increase the number of clusters, or use another split",
        )
    order = np.random.default_rng(seed).permutation(len(names))
    reached = np.cumsum(counts[order]) >= share * counts.sum()
    number = min(int(np.argmax(reached)) + 1, len(names) - 1)
    return set(names[order[:number]].tolist())


def cluster_texts(texts: Sequence[Sequence[str]], clusters: int, seed: int = 0) -> np.ndarray:
    """Cluster stimuli by the words of their captions: k-means on up to 100 principal components of tf-idf weights.

    Parameters
    ----------
    texts : sequence of sequence of str
        The captions of each stimulus.
    clusters : int
        Number of clusters.
    seed : int
        Random seed of the truncated SVD and of k-means.

    Returns
    -------
    int array, shape (stimulus,)
        The cluster of each stimulus.

    Raises
    ------
    InputError
        If a stimulus has no captions, or there are fewer stimuli than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    without = sum(not any(part.strip() for part in text) for text in texts)
    if without or len(texts) < clusters:
        raise InputError(
            "the stimuli cannot be clustered by their captions",
            given=f"{len(texts)} stimuli ({without} without captions), {clusters} clusters",
            expected="captions for every stimulus, and at least as many stimuli as clusters",
            todo="add the missing captions, reduce the number of clusters, or provide a table of clusters",
        )
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform([" ".join(text) for text in texts])
    components = min(100, min(words.shape) - 1)
    values = words.toarray() if components < 2 else TruncatedSVD(components, random_state=seed).fit_transform(words)
    return KMeans(clusters, n_init=4, random_state=seed).fit_predict(normalize(values))
