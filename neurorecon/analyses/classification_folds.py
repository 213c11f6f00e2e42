"""The parts of decoding categories that a permutation repeats: folds, exchangeable presentations, F of a voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurorecon.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One fold, as inner products of standardized responses: all that a linear support vector machine needs.

    Parameters
    ----------
    train, test : int array
        Samples.
    within : array, shape (train_sample, train_sample)
        Inner products of the training samples.
    across : array, shape (test_sample, train_sample)
        Of the test samples with them.
    """

    train: np.ndarray
    test: np.ndarray
    within: np.ndarray
    across: np.ndarray


@dataclass(frozen=True)
class LeaveOneOut:
    """Leave one group out at a time. Responses stay as they are under permutation, so they are standardized once.

    Parameters
    ----------
    parts : list of Fold
    alpha : float
        ``C`` of the support vector machine.
    """

    parts: list[Fold]
    penalty: float

    @classmethod
    def of(cls, responses: np.ndarray, held: np.ndarray, penalty: float) -> LeaveOneOut:
        """Prepare the folds.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
        held : array, shape (sample,)
            What is left out as a whole.
        alpha : float
        """
        parts = []
        for label in np.unique(held):
            train, test = np.flatnonzero(held != label), np.flatnonzero(held == label)
            if not len(train):
                raise InputError(
                    "there is nothing to leave out",
                    given=f"samples of one group only ({label})",
                    expected="two groups or more",
                    todo="cross-validate over another column: run, session or stimulus",
                )
            mean, spread = responses[train].mean(axis=0), responses[train].std(axis=0)
            scale = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
            inputs, unseen = (responses[train] - mean) / scale, (responses[test] - mean) / scale
            parts.append(Fold(train, test, inputs @ inputs.T, unseen @ inputs.T))
        return cls(parts, penalty)

    def check(self, codes: np.ndarray, column: str, names: list[str]) -> None:
        """Refuse folds that are trained on a single category."""
        for part in self.parts:
            found = np.unique(codes[part.train])
            if len(found) < 2:
                raise InputError(
                    f"without one {column}, a single category is left to train on",
                    given=f"only {names[found[0]]} in {len(part.train)} samples",
                    expected="two categories or more in every training set",
                    todo="cross-validate over another column: run, session or stimulus",
                )

    def predict(self, codes: np.ndarray) -> np.ndarray:
        """Decode each sample by a machine that was fitted without its group.

        Parameters
        ----------
        codes : int array, shape (sample,)
            Category of each sample.

        Returns
        -------
        int array, shape (sample,)
        """
        from sklearn import config_context
        from sklearn.svm import SVC

        found = np.empty_like(codes)
        # The same inner products are fitted thousands of times: checking them anew takes a fifth of the time.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for part in self.parts:
                machine = SVC(kernel="precomputed", C=self.penalty).fit(part.within, codes[part.train])
                found[part.test] = machine.predict(part.across)
        return found


@dataclass(frozen=True)
class Units:
    """Presentations, which are exchanged as wholes: neighboring volumes of one share their noise.

    Parameters
    ----------
    first : int array, shape (unit,)
        First sample of each.
    of_sample : int array, shape (sample,)
        The unit of each sample.
    """

    first: np.ndarray
    of_sample: np.ndarray


def units_of(stimuli: np.ndarray, runs: np.ndarray) -> Units:
    """Find the presentations: neighboring samples of one run that show the same stimulus are one.

    Parameters
    ----------
    stimuli, runs : array, shape (sample,)
        In the order in which they were recorded.
    """
    new = np.ones(len(stimuli), dtype=bool)
    new[1:] = (stimuli[1:] != stimuli[:-1]) | (runs[1:] != runs[:-1])
    return Units(np.flatnonzero(new), np.cumsum(new) - 1)


def relabel(codes: np.ndarray, units: Units, order: np.ndarray) -> np.ndarray:
    """Return the categories of the samples after their presentations traded categories.

    Parameters
    ----------
    codes : int array, shape (sample,)
    units : Units
    order : int array, shape (unit,)
        Whose category each unit gets.
    """
    return codes[units.first][order][units.of_sample]


def category_f(responses: np.ndarray, codes: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return how much the response of each voxel differs between categories, as an F statistic.

    The mean of each run is removed first, and costs its degrees of freedom: for runs that show every category equally
    often this is the F of category in the additive model category + run.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
    codes, runs : int array, shape (sample,)

    Returns
    -------
    array, shape (voxel,)
        0 for voxels that do not vary.
    """
    centered = responses - _means(responses, runs)
    between = _means(centered, codes)
    explained, total = (between**2).sum(axis=0), (centered**2).sum(axis=0)
    numerator = len(np.unique(codes)) - 1
    denominator = len(codes) - numerator - len(np.unique(runs))
    if denominator < 1:
        raise InputError(
            "there are too few samples for a map",
            given=f"{len(codes)} samples of {numerator + 1} categories in {len(np.unique(runs))} runs",
            expected="more samples than categories and runs together",
            todo="take more runs, or fewer categories",
        )
    rest = total - explained
    varies = rest > 1e-12 * np.maximum(total, np.finfo(float).tiny)
    return np.where(varies, explained / numerator / np.where(varies, rest, 1.0) * denominator, 0.0)


def _means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each row the mean of the rows that have its label."""
    places = np.unique(labels, return_inverse=True)[1]
    weights = np.zeros((places.max() + 1, len(places)))
    weights[places, np.arange(len(places))] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights @ values)[places]
