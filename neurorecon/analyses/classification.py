"""Decode which category was seen, one run left out at a time, beside a permutation null; and map it voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from neurorecon.analyses.classification_folds import LeaveOneOut, category_f, relabel, units_of
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.stats import (
    PermutationCounter,
    false_discovery_rate,
    max_statistic_p,
    permutation_p,
    stimulus_permutations,
)
from neurorecon.store.store import Store

#: What may be left out as a whole.
GROUPS = ("run", "session", "stimulus")


@dataclass(frozen=True)
class Classification:
    """Categories decoded from the brain of one subject.

    Parameters
    ----------
    subject, task : str
        What was analyzed.
    categories : list of str
        The categories, in alphabetical order.
    samples : DataFrame
        One row a sample: ``stimulus``, ``session``, ``run``, ``repeat``, ``time``, ``category`` and ``decoded``.
    confusion : DataFrame
        Number of samples of each category (row) that were decoded as each (column).
    table : DataFrame
        One row a voxel: where it lies, ``f`` (F statistic of category, run means removed), ``p`` (permutation,
        uncorrected), ``q`` (Benjamini-Hochberg over these voxels), ``significant``, ``p_corrected`` (against the
        largest F over these voxels in each permutation).
    scores : list of dict
        ``accuracy``, and its mean over categories, beside their null.
    null : dict of str to array, shape (permutation,)
        The nulls.
    settings : dict
        Everything that was chosen.
    """

    subject: str
    task: str
    categories: list[str]
    samples: pd.DataFrame
    confusion: pd.DataFrame
    table: pd.DataFrame
    scores: list[dict[str, Any]]
    null: dict[str, np.ndarray]
    settings: dict[str, Any] = field(default_factory=dict)

    #: What the brain images say that they hold.
    kind = "classification"

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        return {name: self.table[name].to_numpy(dtype=float) for name in ("f", "p", "q", "p_corrected")}


def classify(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    categories: Sequence[str] | None = None,
    cross_validate: str = "run",
    penalty: float = 1.0,
    n_permutations: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    progress: bool = False,
) -> Classification:
    """Decode the category of what was seen with a linear support vector machine.

    The decoder is scikit-learn's ``make_pipeline(StandardScaler(), SVC(kernel="linear", C=alpha))``, fitted on all
    groups (runs) but one, tested on that one. The null repeats the whole procedure with categories exchanged between
    the presentations of the same run, which is what a run with the same presentations in another order would give.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; samples have to be estimates of trials or blocks.
    subject : str, optional
        By default the first.
    roi : str or list of str, optional
        As in :meth:`Store.responses`; by default all voxels.
    task : str, optional
        By default the one with the most samples.
    categories : sequence of str, optional
        At least two; by default all that the task shows.
    cross_validate : {"run", "session", "stimulus"}
        What is left out as a whole, one at a time.
    alpha : float
        ``C`` of the support vector machine.
    n_permutations, seed : int
        Of the null.
    level : float
        False discovery rate of the map.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Classification

    Raises
    ------
    UnknownNameError, InputError
        Where a name does not exist, or there is nothing to tell apart or to leave out.

    References
    ----------
    Haxby et al. (2001). Science 293:2425. Cox & Savoy (2003). NeuroImage 19:261.
    """
    if cross_validate not in GROUPS:
        raise UnknownNameError("column to cross-validate over", cross_validate, GROUPS)
    if n_permutations < 1 or not 0 < level < 1 or penalty <= 0:
        raise InputError(
            "these settings make no test",
            given=f"n_permutations={n_permutations}, level={level}, alpha={penalty}",
            expected="at least 1 permutation, a level between 0 and 1, an alpha above 0",
            todo="1000 permutations, a level of .05 and an alpha of 1 are customary",
        )
    name = subject if subject is not None else store.subjects[0]
    picked = _choose_task(store, name, task)
    responses, samples = _labeled_samples(store, name, roi, picked, categories)
    runs = samples.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    held = samples["stimulus"].to_numpy() if cross_validate == "stimulus" else _held(samples, runs, cross_validate)
    folds = LeaveOneOut.of(responses, held, penalty)
    codes, names = pd.factorize(samples["category"], sort=True)
    folds.check(codes, cross_validate, list(names))
    units = units_of(samples["stimulus"].to_numpy(), runs)
    predicted = folds.predict(codes)
    observed = _accuracies(codes, predicted, len(names))
    f = category_f(responses, codes, runs)
    counter = PermutationCounter(f)
    null: dict[str, list[float]] = {key: [] for key in observed}
    orders = stimulus_permutations(len(units.first), n_permutations, seed, runs[units.first])
    for order in tqdm(orders, desc="permutations", disable=not progress, leave=False):
        other = relabel(codes, units, order)
        counter.update(category_f(responses, other, runs)[None])
        for key, value in _accuracies(other, folds.predict(other), len(names)).items():
            null[key].append(value)
    rejected, q = false_discovery_rate(counter.p, level)
    table = store.voxels(name, roi).assign(f=f, p=counter.p, q=q, significant=rejected)
    table["p_corrected"] = max_statistic_p(f, counter.null_max)
    nulls = {key: np.array(values) for key, values in null.items()}
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (codes, predicted), 1)
    settings = {
        "subject": name,
        "roi": roi if roi is None or isinstance(roi, str) else list(roi),
        "task": picked,
        "categories": list(names),
        "cross_validate": cross_validate,
        "classifier": "StandardScaler, SVC(kernel='linear')",
        "penalty": penalty,
        "n_permutations": n_permutations,
        "level": level,
        "seed": seed,
        "voxels": responses.shape[1],
        "samples": len(samples),
        "presentations": len(units.first),
        "folds": len(folds.parts),
        "stimuli_met_in_training": _met(samples["stimulus"].to_numpy(), held),
        "stimuli": int(samples["stimulus"].nunique()),
    }
    share = np.bincount(codes).max() / len(codes)
    return Classification(
        name,
        picked,
        list(names),
        samples.assign(decoded=np.asarray(names)[predicted]),
        pd.DataFrame(counts, index=pd.Index(names, name="category"), columns=list(names)),
        table,
        [_score(name, key, observed[key], nulls[key], len(codes), share, len(names)) for key in observed],
        nulls,
        settings,
    )


def _choose_task(store: Store, subject: str, task: str | None) -> str:
    samples = store.samples(subject)
    if task is not None and task not in store.tasks(subject):
        raise UnknownNameError("task", task, store.tasks(subject))
    trials = samples[~samples["task"].isin(list(store.series(subject)))]
    picked = task if task is not None else trials["task"].mode().get(0)
    if picked is None or picked in store.series(subject):
        raise InputError(
            "categories are decoded from trials or blocks",
            given=f"the task {picked or ', '.join(store.tasks(subject))!r}, recorded as a time series",
            expected=f"one of: {', '.join(trials['task'].unique()) or '(this store holds none)'}",
            todo="choose another --task, or build a store of block averages or single-trial estimates",
        )
    return str(picked)


def _labeled_samples(
    store: Store, subject: str, roi: str | Iterable[str] | None, task: str, wanted: Sequence[str] | None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the responses and the table of the samples whose category is wanted."""
    found = store.responses(subject, roi, task=task)
    columns = ("stimulus", "session", "run", "repeat", "split", "time")
    samples = pd.DataFrame({column: found[column].values for column in columns})
    category = store.stimuli.set_index("id")["category"].astype(str)
    samples["category"] = category.loc[samples["stimulus"].tolist()].to_numpy()
    known = sorted(set(samples["category"]) - {""})
    for name in wanted or []:
        if name not in known:
            raise UnknownNameError("category", name, known)
    chosen = known if wanted is None else sorted(set(wanted))
    if len(chosen) < 2:
        raise InputError(
            "there is nothing to tell apart",
            given=f"categories: {', '.join(chosen) or 'none'}",
            expected="samples of two categories or more",
            todo=f"name more categories: {', '.join(known)}"
            if len(known) > 1
            else "the stimuli of this task carry no categories: state them in the data set's table of stimuli",
        )
    keep = samples["category"].isin(chosen).to_numpy()
    responses = found[np.flatnonzero(keep)].values if not keep.all() else found.values
    return responses.astype(np.float64), samples[keep].reset_index(drop=True)


def _held(samples: pd.DataFrame, runs: np.ndarray, column: str) -> np.ndarray:
    return runs if column == "run" else samples["session"].to_numpy()


def _met(stimuli: np.ndarray, held: np.ndarray) -> int:
    """Count the stimuli that occur in several folds: the decoder is then tested on what it was trained with."""
    pairs = pd.DataFrame({"stimulus": stimuli, "held": held}).drop_duplicates()
    return int((pairs.groupby("stimulus").size() > 1).sum())


def _accuracies(true: np.ndarray, decoded: np.ndarray, number: int) -> dict[str, float]:
    right = (true == decoded).astype(float)
    shown = np.bincount(true, minlength=number)
    by_category = np.bincount(true, weights=right, minlength=number)[shown > 0] / shown[shown > 0]
    return {"accuracy": float(right.mean()), "mean_accuracy_of_categories": float(by_category.mean())}


def _score(
    subject: str, key: str, value: float, null: np.ndarray, samples: int, share: float, number: int
) -> dict[str, Any]:
    """Return a score beside its null; the baseline is a decoder that names the same category always."""
    return {
        "name": f"{subject} {key}",
        "value": value,
        "n": samples,
        "null_mean": float(null.mean()),
        "null_max": float(null.max()),
        "p": float(permutation_p(value, null)),
        "n_permutations": len(null),
        "baseline": float(share) if key == "accuracy" else 1 / number,
    }
