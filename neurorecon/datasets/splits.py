"""Splits that any reader may use: by stimulus, by session, by cluster, by category.

All of them keep the two promises of a store: no stimulus is in two splits, and a stimulus is in the same split for all
subjects. Samples that would break them are left out (split ``""``), and counted by anyone who calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError

TRAIN, TEST, LEFT_OUT = "train", "test", ""


def hold_out_stimuli(stimuli: Sequence[object] | np.ndarray | pd.Series, held_out: Iterable[object]) -> np.ndarray:
    """Test on some stimuli, train on all others.

    Parameters
    ----------
    stimuli : sequence, shape (sample,)
        The stimulus of each sample, or whatever decides over it (a run, a session).
    held_out : iterable
        What to test on.

    Returns
    -------
    array of str, shape (sample,)
        ``"train"`` or ``"test"``.
    """
    return np.where(pd.Series(np.asarray(stimuli)).isin(set(held_out)), TEST, TRAIN).astype(object)


def hold_out_sessions(samples: Mapping[str, pd.DataFrame], sessions: Iterable[int]) -> dict[str, np.ndarray]:
    """Test on what some sessions show; the same stimuli in other sessions, of any subject, are left out.

    Parameters
    ----------
    samples : mapping of str to DataFrame
        For each subject a table with the columns ``stimulus`` and ``session``.
    sessions : iterable of int
        Sessions to test on.

    Returns
    -------
    dict of str to array of str, shape (sample,)
        ``"train"``, ``"test"``, or ``""`` where a sample has to be left out.
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
    """Choose whole groups of stimuli, in random order, until they make up a share of all stimuli.

    Parameters
    ----------
    groups : sequence, shape (stimulus,)
        The group (cluster) of each stimulus.
    share : float
        Between 0 and 1. At least one group is chosen, and at least one is not.
    seed : int
        Of the order.

    Returns
    -------
    set
        The groups to test on.
    """
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < 2:
        raise InputError(
            "stimuli that all lie in one cluster cannot be split by cluster",
            given=f"{len(names)} cluster, {int(counts.sum())} stimuli",
            expected="at least two clusters",
            todo="raise the number of clusters, or take another split",
        )
    order = np.random.default_rng(seed).permutation(len(names))
    reached = np.cumsum(counts[order]) >= share * counts.sum()
    number = min(int(np.argmax(reached)) + 1, len(names) - 1)
    return set(names[order[:number]].tolist())


def cluster_texts(texts: Sequence[Sequence[str]], clusters: int, seed: int = 0) -> np.ndarray:
    """Cluster stimuli by the words of their captions: k-means on the leading components of tf-idf weights.

    Parameters
    ----------
    texts : sequence of sequence of str
        Captions of each stimulus.
    clusters : int
        How many.
    seed : int
        Of the components and of k-means.

    Returns
    -------
    int array, shape (stimulus,)

    Raises
    ------
    InputError
        Where stimuli have no captions, or there are fewer stimuli than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    without = sum(not any(part.strip() for part in text) for text in texts)
    if without or len(texts) < clusters:
        raise InputError(
            "the stimuli cannot be clustered by their captions",
            given=f"{len(texts)} stimuli, {without} of them without captions, {clusters} clusters",
            expected="captions for every stimulus, and more stimuli than clusters",
            todo="add the captions, lower the number of clusters, or give a table of clusters",
        )
    words = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform([" ".join(text) for text in texts])
    components = min(100, min(words.shape) - 1)
    values = words.toarray() if components < 2 else TruncatedSVD(components, random_state=seed).fit_transform(words)
    return KMeans(clusters, n_init=4, random_state=seed).fit_predict(normalize(values))
