"""One model on several test sets: the scores of each split of a store side by side, over stimuli and over subjects.

A model that was trained on photographs is tested on photographs, on images far from them, on imagery. Each test set is
a split of the store that leaves the training samples as they are; where a split has other training samples, its model
is another one, and the table says so. Intervals are over the stimuli of a subject, as each analysis gives them; over
subjects they are those of Student's t, from :data:`FEWEST_SUBJECTS` subjects on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.audit_result import Audit
from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.analyses.reconstruct import Reconstruction
from neurorecon.analyses.results import Result
from neurorecon.errors import InputError
from neurorecon.store.schema import BUILT_IN
from neurorecon.store.store import Store

#: Subjects from which on an interval over them is given.
FEWEST_SUBJECTS = 5

#: Level of intervals over subjects, that of the intervals over stimuli.
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Generalization(Result):
    """The scores of an analysis on several test sets.

    Parameters
    ----------
    table : DataFrame
        One row per split, score and subject: ``value`` with its interval over stimuli (``low``, ``high``), ``n``
        stimuli, ``null mean`` and ``p`` of exchanged pairs, training stimuli (``trained on``), and whether the model
        is that of the first split (``same model``: the same training stimuli, centered and scaled alike). Below them,
        with ``subject`` "mean", one row per split and score: the mean of all subjects, with its interval over subjects,
        where there are enough.
    """

    kind: str = "generalization"
    table: pd.DataFrame
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return "generalization"

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the scores of all splits."""
        return {"splits": self.table}

    @property
    def wide(self) -> pd.DataFrame:
        """One row per score and subject, one column per split, as papers print it."""
        order = list(dict.fromkeys(self.table["split"]))
        return self.table.pivot_table(
            index=["score", "subject"], columns="split", values="value", sort=False, dropna=False
        )[order].dropna(how="all")

    def latex(self) -> dict[str, str]:
        """Return the table in the papers' shape as LaTeX (booktabs)."""
        text = self.wide.to_latex(escape=True, float_format="%.3f", na_rep="--")
        return {"splits": "% needs \\usepackage{booktabs}\n" + text}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the scores of all splits."""
        return {"splits": functools.partial(self._drawn, store)}

    def _drawn(self, store: Store) -> Any:
        from neurorecon.figures import score_rows

        several = len(set(self.table["subject"])) > 1
        rows = self.table.assign(
            row=self.table["split"] + " · " + self.table["subject"] if several else self.table["split"],
            metric=self.table["score"],
            mean=self.table["value"],
        )
        return score_rows(
            rows,
            observed=str(rows["row"].iloc[0]),
            title=f"One model on several test sets · {store.name}",
            note=f"95 % intervals over stimuli, and over subjects for means of {FEWEST_SUBJECTS} subjects or more; the "
            "line is the first row.",
            simulated=store.simulated,
        )

    def text(self, store: Store) -> str:
        """Return the table for a terminal."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [f"\nsplits of {store.name} ({label})"]
        wide = max(len(str(name)) for name in self.table["split"]) + 2
        for score, rows in self.table.groupby("score", sort=False):
            lines.append(f"  {score}")
            for row in rows.to_dict("records"):
                interval = "" if np.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
                tested = "" if np.isnan(row["p"]) else f"  p {row['p']:.2g}"
                name = f"    {row['split']:<{wide}}{row['subject']:<8}"
                lines.append(f"{name}{row['value']:>8.3f}{interval}  n {row['n']:,}{tested}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.chosen["warnings"])])


def generalization(results: Mapping[str, Sequence[Result]], store: Store) -> Generalization:
    """Put the scores of an analysis on several test sets side by side.

    Parameters
    ----------
    results : mapping of str to sequence of Result
        By the name of the split column, ``"built-in"`` for the split that the store was built with: the results of
        :func:`neurorecon.reconstruct`, :func:`neurorecon.maps` or :func:`neurorecon.audit`, one for each subject.
    store : Store
        The store that they were made from, with any of its splits.

    Returns
    -------
    Generalization

    Raises
    ------
    InputError
        If there is nothing to put side by side, or a kind of result has no scores of held-out stimuli.

    Examples
    --------
    >>> import neurorecon as nr
    >>> found = nr.generalization({
    ...     "built-in": [nr.reconstruct(store, "linear-pixels", "subj01")],
    ...     "tau": [nr.reconstruct(store.with_split("tau"), "linear-pixels", "subj01")],
    ... }, store)  # doctest: +SKIP
    >>> found.table[["split", "score", "subject", "value", "low", "high"]]  # doctest: +SKIP
    """
    given = [(split, one) for split, of_split in results.items() for one in of_split]
    if len({split for split, _ in given}) < 2:
        raise InputError(
            "one split has nothing beside it",
            given=", ".join(results) or "no results",
            expected="results of two or more splits",
            todo=f'name them, e.g. {{"{BUILT_IN}": [...], "tau": [...]}}',
        )
    parts, models, warnings = [], dict[str, tuple[frozenset[str], dict[str, Any]]](), list[str]()
    for split, one in given:
        trained, centered = _trained_on(one.source(store).with_split(split), one.subject), _centered(one)
        first, centered_first = models.setdefault(one.subject, (trained, centered))
        same = (trained, centered) == (first, centered_first)
        parts.append(
            _rows(one).assign(split=split, subject=one.subject, **{"trained on": len(trained), "same model": same})
        )
        if trained != first:
            warnings.append(
                f"{one.subject}, {split}: another model, trained on {len(trained):,} stimuli, of which "
                f"{len(trained & first):,} are among the {len(first):,} of the first split"
            )
        elif not same:
            said = ", ".join(f"{name} within {within}" for name, within in centered.items() if within) or "not centered"
            warnings.append(
                f"{one.subject}, {split}: another model, because its responses are {said}; --center and --scale "
                "make them alike"
            )
    table = pd.concat(parts, ignore_index=True)
    subjects = list(dict.fromkeys(table["subject"]))
    if len(subjects) > 1:
        table = pd.concat([table, _over_subjects(table)], ignore_index=True)
        if len(subjects) < FEWEST_SUBJECTS:
            warnings.append(f"no intervals over subjects: {len(subjects)} of at least {FEWEST_SUBJECTS}")
    order = ["split", "score", "subject", "value", "low", "high", "n", "null mean", "p", "trained on", "same model"]
    first_result = given[0][1]
    return Generalization(
        subject="", task=first_result.task, settings=first_result.settings,
        chosen={"splits": list(results), "subjects": subjects, "of": first_result.kind, "level": LEVEL,
                "warnings": warnings},
        table=table[order], store=first_result.source(store).with_split(None),
    )  # fmt: skip


def _trained_on(store: Store, subject: str) -> frozenset[str]:
    """Return the stimuli of all training samples of a subject."""
    samples = store.samples(subject)
    return frozenset(samples.loc[samples["split"] == "train", "stimulus"])


def _centered(found: Result) -> dict[str, Any]:
    """Return what responses are centered and scaled within, None where they are not."""
    about = found.chosen.get("centering") or {}
    return {"centered": about.get("center"), "scaled": about.get("scale")}


def _rows(found: Result) -> pd.DataFrame:
    """Return the scores of a result with the names of this module."""
    if isinstance(found, Reconstruction):
        table = found.table
        return table[table["of"] == "stimuli"].rename(columns={"metric": "score", "mean": "value"})[_NAMES]
    if isinstance(found, VoxelwiseMap) and "joint" in found.rois:
        rois = found.rois.drop_duplicates("roi")
        scored = int(found.chosen["test_stimuli"])
        return pd.DataFrame({
            "score": rois["roi"] + " joint R2", "value": rois["joint"], "low": rois["joint_low"],
            "high": rois["joint_high"], "n": scored, "null mean": np.nan, "p": rois["p"],
        })  # fmt: skip
    if isinstance(found, Audit):
        table = found.verdicts.rename(columns={"null": "null mean"})
        own = table[table["split"] == table["split"].iloc[0]]
        return own.rename(columns={"metric": "score"})[_NAMES]
    raise InputError(
        "this kind of result has no scores of test sets",
        given=f"{type(found).__name__} ({found.kind})",
        expected="encoding maps, reconstructions or audits",
        todo="leave it out",
    )


#: Columns that every analysis has.
_NAMES = ["score", "value", "low", "high", "n", "null mean", "p"]


def _over_subjects(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over subjects of each split and score, with Student's t interval where there are enough."""
    from scipy.stats import t as student

    rows = []
    for (split, score), part in table.groupby(["split", "score"], sort=False):
        values = part["value"].to_numpy(dtype=float)
        mean, half = float(values.mean()), np.nan
        if len(values) >= FEWEST_SUBJECTS:
            half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        rows.append({
            "split": split, "score": score, "subject": "mean", "value": mean, "low": mean - half, "high": mean + half,
            "n": int(part["n"].min()), "null mean": float(part["null mean"].mean()), "p": np.nan,
            "trained on": int(part["trained on"].min()), "same model": bool(part["same model"].all()),
        })  # fmt: skip
    return pd.DataFrame(rows)
