"""Decode the category that was seen, with a permutation null, and map where responses differ between categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from neurorecon.analyses.decoding import in_order
from neurorecon.analyses.design import ClassifySettings, renamed_keywords
from neurorecon.analyses.results import Result, Score, exchange_lines, exchange_record
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.parallel import default_threads
from neurorecon.stats import (
    PermutationCounter,
    false_discovery_rate,
    max_statistic_p,
    permutation_p,
    stimulus_permutations,
)
from neurorecon.stats.exchange import Exchange, center_by
from neurorecon.store.responses import Centering, choose_centering
from neurorecon.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Classification(Result):
    """Categories decoded from the brain of one subject.

    Parameters
    ----------
    categories : list of str
        The categories, in alphabetical order.
    samples : DataFrame
        One row per sample: ``stimulus``, ``session``, ``run``, ``repeat``, ``time``, ``category`` and ``decoded``.
    confusion : DataFrame
        Number of samples of each category (row) that were decoded as each (column).
    table : DataFrame
        One row per voxel: where it lies, ``f`` (F statistic of category, run means removed), ``p`` (permutation,
        uncorrected), ``q`` (Benjamini-Hochberg over these voxels), ``significant``, ``p_corrected`` (against the
        largest F over these voxels in each permutation).
    """

    kind: str = "classification"
    categories: list[str]
    samples: pd.DataFrame
    confusion: pd.DataFrame
    table: pd.DataFrame

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_classify"

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """The maps as arrays of shape (voxel,), by column name."""
        return {name: self.table[name].to_numpy(dtype=float) for name in ("f", "p", "q", "p_corrected")}

    def brain_maps(self) -> dict[str, np.ndarray]:
        """Return the maps that go into the brain image."""
        return self.maps

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of samples, confusions and voxels."""
        return {"samples": self.samples, "confusion": self.confusion, "voxels": self.table}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws each figure: the accuracy in its null, and, for a volume, the map slice by slice."""
        figures: dict[str, Callable[[], Any]] = {"null_accuracy": lambda: self._null_figure(store)}
        if store.space(self.subject).kind == "volume":
            figures["slices_f"] = lambda: self._slices(store)
        return figures

    def _null_figure(self, store: Store) -> Any:
        from neurorecon.figures import null_histogram

        score = self.scores[0]
        return null_histogram(score.value, self.null["accuracy"], score.p, "accuracy", simulated=store.simulated)

    def _slices(self, store: Store) -> Any:
        from neurorecon.figures import volume

        space, voxels = store.space(self.subject), self.voxels(store)
        significant = space.unmask(self.table["significant"].to_numpy(dtype=float), voxels, fill=0.0)
        return volume(
            space.unmask(self.table["f"].to_numpy(), voxels),
            label="F of category",
            cmap="inferno",
            vmin=0.0,
            mask=significant.get_fdata() > 0,
            title=f"F of category · {self.subject} · {store.label}, {self.task}",
            note=f"{', '.join(self.categories)}. Significant: q (FDR) at most {self._settings.fdr:g}.",
            simulated=store.simulated,
        )

    @property
    def _settings(self) -> ClassifySettings:
        assert isinstance(self.settings, ClassifySettings)
        return self.settings

    def text(self, store: Store) -> str:
        """Return the scores, and how many voxels differ, as text for a terminal."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        chosen, within = self.chosen, self.chosen["centering"]
        verbs = {"center": "centered", "scale": "scaled"}
        done = [f"{verb} within {within[name]}s" for name, verb in verbs.items() if within[name]]
        lines = [
            f"\n{self.subject} · {store.label} ({label}) · {self.task}",
            f"Linear support vector machine, {len(self.categories)} categories, {chosen['voxels']:,} voxels, "
            f"{chosen['samples']} samples, leave one {self._settings.cross_validate} out ({chosen['folds']} folds).",
            f"Responses are {' and '.join(done) or 'neither centered nor scaled'} ({within['reason']}).",
        ]
        if chosen["stimuli_met_in_training"] and chosen["stimuli"] > len(self.categories):
            lines.append(
                f"{chosen['stimuli_met_in_training']} of {chosen['stimuli']} stimuli occur in several folds: for those "
                "the stimulus may be told rather than its category (--cross-validate stimulus)."
            )
        lines.append(f"{'score':<40}{'value':>8}{'null mean':>11}{'null max':>10}{'p':>8}{'n':>6}{'one guess':>12}")
        lines += [
            f"{score.name.split(' ', 1)[1].replace('_', ' '):<40}{score.value:>8.3f}{score.null_mean:>11.3f}"
            f"{score.null_max:>10.3f}{score.p:>8.3f}{score.n:>6}{score.baseline:>12.3f}"
            for score in self.scores
        ]
        right = np.diag(self.confusion.to_numpy()) / self.confusion.to_numpy().sum(axis=1)
        parts = [f"{name} {value:.2f}" for name, value in zip(self.categories, right, strict=True)]
        lines += [
            "by category: " + ", ".join(parts),
            f"{int(self.table['significant'].sum()):,} of {len(self.table):,} voxels differ between categories "
            f"(F, permutation, FDR {self._settings.fdr:g})",
            *exchange_lines(chosen),
        ]
        return "\n".join(lines)


@renamed_keywords(penalty="C", level="fdr")
def classify(
    store: Store,
    subject: str | None = None,
    roi: str | Iterable[str] | None = None,
    *,
    task: str | None = None,
    categories: Sequence[str] | None = None,
    cross_validate: Literal["run", "session", "stimulus"] = "run",
    center: Literal["auto", "session", "run"] | None = "auto",
    scale: Literal["auto", "session", "run"] | None = "auto",
    C: float = 1.0,
    n_permutations: int = 1000,
    fdr: float = 0.05,
    seed: int = 0,
    progress: bool = False,
) -> Classification:
    """Decode the category of what was seen with a linear support vector machine.

    The decoder is scikit-learn's ``make_pipeline(StandardScaler(), SVC(kernel="linear", C=C))``, fitted on all
    groups (runs) but one, tested on that one. The null repeats the whole procedure with categories exchanged between
    the presentations of the same run, which is what a run with the same presentations in another order would give.
    Where all runs show the categories in the same order, that order was not random: ``chosen["warnings"]`` says so.

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
        Hold out one value of this at a time.
    center, scale : {"auto", "session", "run"}, optional
        As in :meth:`Store.responses`, over all samples of the task; None: not at all. By default by session where
        sessions are confounded with stimuli, splits or the categories to decode: a decoder that was trained on other
        sessions fails where their responses are offset, and one that was trained on the same session can tell sessions
        apart rather than categories. Held-out samples count, too, but not their categories. If a session shows one
        category only, centering removes what is specific to it, which ``chosen["warnings"]`` says.
    C : float
        Of the support vector machine: larger values regularize less.
    n_permutations, seed : int
        Of the null.
    fdr : float
        False discovery rate of the map.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Classification

    Raises
    ------
    UnknownNameError, InputError
        If a name does not exist, or there are fewer than two categories or groups.

    References
    ----------
    Haxby et al. (2001). Science 293:2425. Cox & Savoy (2003). NeuroImage 19:261.
    """
    settings = ClassifySettings(
        roi=roi, task=task, categories=categories, cross_validate=cross_validate, center=center, scale=scale, C=C,
        n_permutations=n_permutations, fdr=fdr, seed=seed,
    )  # fmt: skip
    return compute_classification(store, store.subjects[0] if subject is None else subject, settings, progress=progress)


def compute_classification(
    store: Store, subject: str, settings: ClassifySettings, *, progress: bool = False
) -> Classification:
    """Do what :func:`classify` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose responses.
    settings : ClassifySettings
        Which categories, and how.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Classification
    """
    picked = _choose_task(store, subject, settings.task)
    responses, samples, within = _labeled_samples(store, subject, settings, picked)
    runs = samples.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    held = runs if settings.cross_validate == "run" else samples[settings.cross_validate].to_numpy()
    folds = LeaveOneOut.of(responses, held, settings.C)
    codes, names = pd.factorize(samples["category"], sort=True)
    folds.check(codes, settings.cross_validate, list(names))
    units = units_of(samples["stimulus"].to_numpy(), runs)
    predicted = folds.predict(codes)
    observed = _accuracies(codes, predicted, len(names))
    variance = CategoryVariance(responses, runs)
    f = variance.f(codes)
    counter = PermutationCounter(f)
    null: dict[str, list[float]] = {key: [] for key in observed}
    orders = stimulus_permutations(len(units.first), settings.n_permutations, settings.seed, runs[units.first])
    relabeled = [relabel(codes, units, order) for order in orders]
    pool = ThreadPoolExecutor(default_threads())  # the machines are fitted without the interpreter's lock
    try:
        decoded = pool.map(folds.predict, relabeled)
        for other in tqdm(relabeled, desc="permutations", disable=not progress, leave=False):
            counter.update(variance.f(other)[None])
            for key, value in _accuracies(other, next(decoded), len(names)).items():
                null[key].append(value)
    finally:
        pool.shutdown(cancel_futures=True)
    rejected, q = false_discovery_rate(counter.p, settings.fdr)
    table = store.voxels(subject, settings.rois).assign(f=f, p=counter.p, q=q, significant=rejected)
    table["p_corrected"] = max_statistic_p(f, counter.null_max)
    nulls = {key: np.array(values) for key, values in null.items()}
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (codes, predicted), 1)
    share = np.bincount(codes).max() / len(codes)
    exchange = exchange_record(
        _exchange(codes[units.first], runs[units.first]),
        _smallest_p(codes, relabeled),
        settings.n_permutations,
        fdr=settings.fdr,
    )
    return Classification(
        subject=subject,
        task=picked,
        settings=settings,
        chosen={
            "task": picked,
            "categories": list(names),
            "classifier": "StandardScaler, SVC(kernel='linear')",
            "voxels": responses.shape[1],
            "samples": len(samples),
            "presentations": len(units.first),
            "folds": len(folds.parts),
            "stimuli_met_in_training": _met(samples["stimulus"].to_numpy(), held),
            "stimuli": int(samples["stimulus"].nunique()),
            "n_permutations": len(orders),
            "centering": {"center": within.center, "scale": within.scale, "reason": within.reason},
            "exchange": exchange["exchange"],
            "warnings": [*within.warnings, *exchange["warnings"]],
        },
        categories=list(names),
        samples=samples.assign(decoded=np.asarray(names)[predicted]),
        confusion=pd.DataFrame(counts, index=pd.Index(names, name="category"), columns=list(names)),
        table=table,
        scores=[_score(subject, key, observed[key], nulls[key], len(codes), share, len(names)) for key in observed],
        null=nulls,
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
    store: Store, subject: str, settings: ClassifySettings, task: str
) -> tuple[np.ndarray, pd.DataFrame, Centering]:
    """Return the responses and the table of the samples whose category is wanted, and how responses were centered."""
    wanted, category = settings.categories, store.stimuli.set_index("id")["category"].astype(str)
    samples = store.samples(subject).query("task == @task and split != ''").reset_index(drop=True)
    samples = samples[["stimulus", "session", "run", "repeat", "split", "time"]].assign(
        category=category.loc[samples["stimulus"].tolist()].to_numpy()
    )
    known = sorted(set(samples["category"]) - {""})
    for name in wanted or []:
        if name not in known:
            raise UnknownNameError("category", name, known)
    chosen = known if wanted is None else sorted(set(wanted))
    if len(chosen) < 2:
        raise InputError(
            "there are fewer than two categories to tell apart",
            given=f"categories: {', '.join(chosen) or 'none'}",
            expected="samples of two categories or more",
            todo=f"name more categories: {', '.join(known)}"
            if len(known) > 1
            else "the stimuli of this task carry no categories: state them in the data set's table of stimuli",
        )
    within = choose_centering(store, subject, task, settings.center, settings.scale, categories=chosen)
    found = store.responses(subject, settings.rois, task=task, center=within.center, scale=within.scale)
    keep = samples["category"].isin(chosen).to_numpy()
    responses = found[np.flatnonzero(keep)].values if not keep.all() else found.values
    # Neighbors in time may be one presentation.
    return *in_order(responses.astype(np.float64), samples[keep].reset_index(drop=True)), within


def _met(stimuli: np.ndarray, held: np.ndarray) -> int:
    """Count the stimuli that occur in several folds: the decoder is then tested on what it was trained with."""
    pairs = pd.DataFrame({"stimulus": stimuli, "held": held}).drop_duplicates()
    return int((pairs.groupby("stimulus").size() > 1).sum())


def _exchange(shown: np.ndarray, runs: np.ndarray) -> Exchange:
    """Say what trades places, and warn where the order of categories was not random; both (presentation,)."""
    orders = [tuple(shown[runs == run].tolist()) for run in np.unique(runs)]
    said = []
    if len(orders) > 1 and len(set(orders)) == 1:
        said.append(
            "all runs show the categories in the same order: what changes slowly within runs (drift) then differs "
            "between categories, and no exchange within runs tests that; p-values can be too small"
        )
    return Exchange("within run", "a run with the same presentations in another order", tuple(said))


def _smallest_p(codes: np.ndarray, relabeled: Sequence[np.ndarray]) -> float:
    """Return the smallest p-value that these orders allow: some only rename the categories, and score the same."""
    same = sum(np.array_equal(pd.factorize(other)[0], pd.factorize(codes)[0]) for other in relabeled)
    return (1 + same) / (1 + len(relabeled))


def _accuracies(true: np.ndarray, decoded: np.ndarray, number: int) -> dict[str, float]:
    right = (true == decoded).astype(float)
    shown = np.bincount(true, minlength=number)
    by_category = np.bincount(true, weights=right, minlength=number)[shown > 0] / shown[shown > 0]
    return {"accuracy": float(right.mean()), "mean_accuracy_of_categories": float(by_category.mean())}


def _score(subject: str, key: str, value: float, null: np.ndarray, samples: int, share: float, number: int) -> Score:
    """Return a score beside its null; the baseline is a decoder that names the same category always."""
    return Score(
        f"{subject} {key}", value, samples, float(null.mean()), float(null.max()), float(permutation_p(value, null)),
        len(null), baseline=float(share) if key == "accuracy" else 1 / number,
    )  # fmt: skip


# -- what a permutation repeats: folds, exchangeable presentations, F of a voxel --------------------------------------


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
    C : float
        ``C`` of the support vector machine.
    """

    parts: list[Fold]
    C: float

    @classmethod
    def of(cls, responses: np.ndarray, held: np.ndarray, C: float) -> LeaveOneOut:
        """Prepare the folds.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
        held : array, shape (sample,)
            What is left out as a whole.
        C : float
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
        return cls(parts, C)

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
                machine = SVC(kernel="precomputed", C=self.C).fit(part.within, codes[part.train])
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


class CategoryVariance:
    """How much responses differ between categories, as an F statistic for any labels.

    The mean of each run is removed first, and costs its degrees of freedom: for runs that show every category equally
    often this is the F of category in the additive model category + run.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
    runs : int array, shape (sample,)
    """

    def __init__(self, responses: np.ndarray, runs: np.ndarray) -> None:
        self.centered = center_by(responses, runs)
        self.total = (self.centered**2).sum(axis=0)
        self.runs = len(np.unique(runs))

    def f(self, codes: np.ndarray) -> np.ndarray:
        """Return F of each voxel, (voxel,), for categories (sample,); 0 for voxels that do not vary.

        Raises
        ------
        InputError
            If there are too few samples.
        """
        places, shown = np.unique(codes, return_inverse=True)[1], np.unique(codes, return_counts=True)[1]
        numerator = len(shown) - 1
        denominator = len(codes) - numerator - self.runs
        if denominator < 1:
            raise InputError(
                "there are too few samples for a map",
                given=f"{len(codes)} samples of {numerator + 1} categories in {self.runs} runs",
                expected="more samples than categories and runs together",
                todo="take more runs, or fewer categories",
            )
        marks = np.zeros((len(shown), len(codes)))
        marks[places, np.arange(len(codes))] = 1.0
        explained = ((marks @ self.centered) ** 2 / shown[:, None]).sum(axis=0)
        rest = self.total - explained
        varies = rest > 1e-12 * np.maximum(self.total, np.finfo(float).tiny)
        return np.where(varies, explained / numerator / np.where(varies, rest, 1.0) * denominator, 0.0)
