"""What an audit found: tables, verdicts, figures, and a report of one page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurorecon.analyses.results import Result, exchange_lines
from neurorecon.metrics.base import Metric
from neurorecon.provenance import weights_label
from neurorecon.stats import bootstrap_means, bootstrap_p, permutation_p
from neurorecon.stats.bootstrap import interval_of
from neurorecon.store.store import Store

if TYPE_CHECKING:
    from neurorecon.analyses.audit import AuditSettings, Part

#: What each baseline knows, in the order of tables. None of them has the response to the stimulus and a generator.
BASELINES = {
    "mean training image": "the mean of all training images: no response, no system",
    "mean response": "generated from the mean training response",
    "another trial": "generated from what was decoded from the response to another stimulus",
    "same category": "a random training image of the category that was seen: naming the category",
    "nearest training image": "the training image that is most like what was decoded: retrieval",
    "its reconstruction": "generated from the true targets of that training image",
    "linear-pixels": "ridge regression from voxels to pixels: the response without a generative model",
}

#: Baselines that know nothing of the response to the stimulus.
BLIND = ("mean training image", "mean response", "another trial")

#: What cannot be passed, and what can be expected.
LIMITS = {
    "oracle": "generated from the true targets: perfect decoding",
    "half against half": "reconstructions from one half of the repeats, scored against those from the other half",
}

#: What a system reaches whose images are refined by the response, without this stage or with less.
STAGES = {
    "unrefined": "the images of the system, which no likelihood has refined",
    "random choice": "the same steps, but images are chosen at random instead of by likelihood",
    "response of another": "decoded from the own response, but refined by the response to another stimulus",
}

#: Below this share of the difference between two reconstructions, images hardly depend on what was decoded.
IGNORES = 0.05

#: The best verdict.
BEYOND = "from the brain, beyond all baselines"

#: How verdicts are reached, in words.
_HOW = (
    "A score comes from the brain if it is above its permutation null, above what is blind to the response (mean "
    "image, mean response, another trial), above exchanges and random images within the category, and above the "
    "nearest training image and its reconstruction. The verdict names the first of these that reaches as much: "
    "differences that are not significant count as reached."
)

#: Rows that are nulls: reconstructions are taken for those of other stimuli; or the system is fitted on re-paired
#: training data.
NULLS = ("permutation null", "category-matched null", "re-paired null", "category re-paired null")


def pooled(parts: Sequence[Part], row: str, metric: str) -> pd.Series:
    """Return the values of a row by stimulus, of all folds; a stimulus that several folds test has their mean."""
    found = [
        pd.Series(part.values[row][metric], index=part.stimuli)
        for part in parts
        if metric in part.values.get(row, {}) and part.values[row][metric].ndim
    ]
    together = pd.concat(found) if found else pd.Series(dtype=float)
    return together.groupby(level=0, sort=False).mean()


def _pooled_null(parts: Sequence[Part], null: str, metric: str) -> np.ndarray | None:
    """Return a null of the mean over all folds; None if a fold has none."""
    nulls = [part.nulls.get(null, {}).get(metric) for part in parts]
    kept = [drawn for drawn in nulls if drawn is not None]
    if len(kept) < len(nulls):
        return None
    draws = min(map(len, kept))
    weights = [len(part.stimuli) for part in parts]
    return np.asarray(np.average(np.stack([drawn[:draws] for drawn in kept]), axis=0, weights=weights))


def tables_of(
    name: str, split: str, parts: Sequence[Part], metrics: Mapping[str, Metric], settings: AuditSettings
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, np.ndarray]]:
    """Return the rows and the verdicts of a split, and its nulls by metric."""
    order = list(dict.fromkeys([name, *STAGES, *BASELINES, *LIMITS]))  # linear-pixels may be the audited system
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    nulls: dict[str, np.ndarray] = {}
    for metric_name, metric in metrics.items():
        own = pooled(parts, name, metric_name)
        if own.empty:  # one value for the whole set
            for row in order:
                found = [
                    float(part.values[row][metric_name]) for part in parts if metric_name in part.values.get(row, {})
                ]
                if found:
                    mean = float(np.mean(found))
                    rows.append(
                        {"split": split, "metric": metric_name, "row": row, "kind": _kind(row, name), "mean": mean}
                    )
            continue
        sign = 1.0 if metric.higher_is_better else -1.0
        columns = {row: pooled(parts, row, metric_name).reindex(own.index).to_numpy() for row in order}
        columns = {row: values for row, values in columns.items() if not np.isnan(values).all()}
        both = [*columns.values(), *(columns[name] - values for values in columns.values())]
        means = bootstrap_means(np.stack(both, axis=1), n_bootstraps=settings.n_bootstraps, seed=settings.seed)
        interval = interval_of(means[1:], means[0], settings.level)
        value, of_metric, draws = float(means[0, 0]), {}, {}
        for null_name in NULLS:
            null = _pooled_null(parts, null_name, metric_name)
            if null is None or ("category" in null_name and "categories" in metric.needs):
                continue  # within categories, there is nothing else that this metric could tell
            nulls[f"{split} {metric_name} {null_name}"] = null
            draws[null_name] = len(null)
            valid = null_name != NULLS[0] or all(part.exchange.valid for part in parts)
            low, high = np.percentile(null, [2.5, 97.5])
            of_metric[null_name] = {
                "mean": null.mean(), "low": low, "high": high, "left": value - null.mean(),
                "left_p": float(permutation_p(sign * value, sign * null)) if valid else np.nan,
            }  # fmt: skip
        chance = of_metric.get(NULLS[0], {}).get("mean", np.nan)
        for place, (row, values) in enumerate(columns.items()):
            of_metric[row] = {
                "mean": means[0, place], "low": interval.low[place], "high": interval.high[place],
                "n": int((~np.isnan(values)).sum()),
            }  # fmt: skip
            if row != name:
                other = place + len(columns)
                above = value - chance
                of_metric[row] |= {
                    "left": means[0, other], "left_low": interval.low[other], "left_high": interval.high[other],
                    "left_p": float(bootstrap_p(sign * means[:, other])),
                    # What is below chance explains nothing; shares of a score at chance say nothing.
                    "explained": (means[0, place] - chance) / above if sign * above > 1e-9 else np.nan,
                }  # fmt: skip
        if "categories" in metric.needs:  # naming the category is all that this score asks for
            of_metric.pop("same category", None)
        ordered = dict.fromkeys([name, *STAGES, *NULLS, *BASELINES, *LIMITS])
        rows += [
            {"split": split, "metric": metric_name, "row": row, "kind": _kind(row, name), **of_metric[row]}
            for row in ordered
            if row in of_metric
        ]
        verdicts.append(_verdict(name, split, metric_name, of_metric, draws, sign, round(1 - settings.level, 12)))
    return pd.DataFrame(rows), pd.DataFrame(verdicts), nulls


def _kind(row: str, name: str) -> str:
    kinds = {"audited": (name,), "stage": STAGES, "null": NULLS, "limit": LIMITS}
    return next((kind for kind, rows in kinds.items() if row in rows), "baseline")


def _verdict(
    name: str,
    split: str,
    metric: str,
    rows: Mapping[str, Mapping[str, Any]],
    draws: Mapping[str, int],
    sign: float,
    alpha: float,
) -> dict[str, Any]:
    """Return the verdict on a score: its nulls, what the strongest baseline leaves of it, and the first that it fails.

    The score has to pass in this order: the null, what is blind to the response, the category, retrieval, and ridge
    regression to pixels. A null of so few draws that no score could pass it decides nothing, which the verdict says.
    """
    own = rows[name]
    null, matched, refitted, refitted_matched = (rows.get(null_name, {}) for null_name in NULLS)
    few = {null_name: number for null_name, number in draws.items() if 1 / (1 + number) >= alpha}
    baselines = [row for row in BASELINES if row in rows and row != name and np.isfinite(rows[row]["mean"])]
    strongest = max(baselines, key=lambda row: sign * rows[row]["mean"]) if baselines else None
    left = rows[strongest] if strongest is not None else {}

    def fails(p: float) -> bool:
        return bool(np.isfinite(p) and p >= alpha)

    def reached(*candidates: str) -> str | None:
        tied = [row for row in candidates if row in baselines and fails(rows[row]["left_p"])]
        return max(tied, key=lambda row: sign * rows[row]["mean"]) if tied else None

    def undecided(null_name: str, what: str) -> str:
        least = 1 / (1 + few[null_name])
        return f"undecided: {few[null_name]} {what} are too few, as p cannot be below {least:.2g}"

    if NULLS[0] in few:
        verdict = undecided(NULLS[0], "exchanges")
    elif fails(null.get("left_p", np.nan)):
        verdict = "not above its null"
    elif NULLS[2] in few:
        verdict = undecided(NULLS[2], "systems fitted on wrong pairs")
    elif fails(refitted.get("left_p", np.nan)):
        verdict = "not above systems that were fitted on wrong pairs"
    elif (row := reached(*BLIND)) is not None:
        verdict = f"not from this response: {row} reaches as much"
    elif NULLS[1] in few:
        verdict = undecided(NULLS[1], "exchanges within categories")
    elif fails(matched.get("left_p", np.nan)):
        verdict = "not beyond the category: exchanges within the category reach as much"
    elif NULLS[3] in few:
        verdict = undecided(NULLS[3], "systems fitted on wrong pairs of the same category")
    elif fails(refitted_matched.get("left_p", np.nan)):
        verdict = "not beyond the category: systems fitted on wrong pairs of the same category reach as much"
    elif (row := reached("same category")) is not None:
        verdict = "not beyond the category: a random image of it reaches as much"
    elif (row := reached("nearest training image", "its reconstruction")) is not None:
        verdict = f"not beyond retrieval: {row} reaches as much"
    elif (row := reached("linear-pixels")) is not None:
        verdict = "from the brain, but linear-pixels reaches as much"
    else:
        verdict = BEYOND if baselines else "above its null; there are no baselines"
    return {
        "split": split, "metric": metric, "n": own["n"], "value": own["mean"], "low": own["low"], "high": own["high"],
        "null": null.get("mean", np.nan), "p": null.get("left_p", np.nan),
        "category null": matched.get("mean", np.nan), "category p": matched.get("left_p", np.nan),
        "re-paired p": refitted.get("left_p", np.nan), "category re-paired p": refitted_matched.get("left_p", np.nan),
        "strongest baseline": strongest or "", "its mean": left.get("mean", np.nan),
        "left": left.get("left", np.nan), "left low": left.get("left_low", np.nan),
        "left high": left.get("left_high", np.nan), "left p": left.get("left_p", np.nan),
        "oracle": rows.get("oracle", {}).get("mean", np.nan),
        "half against half": rows.get("half against half", {}).get("mean", np.nan),
        "verdict": verdict,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Audit(Result):
    """What of each score comes from the brain.

    Parameters
    ----------
    name : str
        The system, or ``"images"``.
    verdicts : DataFrame
        One row per split and metric: the score with its interval, both nulls with their p, the strongest baseline and
        what is left (the score minus it, paired over stimuli, with interval and one-sided p), the limits, the verdict.
    table : DataFrame
        One row per split, metric and row: ``kind`` ("audited", "null", "baseline" or "limit"), ``mean``, ``low``,
        ``high`` (of a null its 95 % range), ``n``, ``left`` with its interval and p, and ``explained``: the share of
        the distance from the null to the score that this row reaches.
    stimuli : DataFrame
        The values of each stimulus of the first split, by row and metric.
    distances : DataFrame
        Of each stimulus of each split: its distance to the nearest training stimulus, and its scores.
    shown : dict of str to array, shape (stimulus, [frame,] y, x, rgb)
        Stimuli from the best to the worst, with the images of each row.
    """

    kind: str = "audit"
    settings: AuditSettings
    name: str
    verdicts: pd.DataFrame
    table: pd.DataFrame
    stimuli: pd.DataFrame
    distances: pd.DataFrame
    shown: dict[str, np.ndarray]

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.name}_audit"

    @property
    def ignores_decoded(self) -> bool:
        """Whether images hardly change if what was decoded is exchanged: the generator ignores it."""
        return self.chosen["changes"] is not None and self.chosen["changes"] < IGNORES

    @property
    def summary(self) -> list[str]:
        """What the audit found, in sentences."""
        own = self.verdicts[self.verdicts["split"] == self.verdicts["split"].iloc[0]]
        from_brain, beyond = own["verdict"].str.startswith("from the brain").sum(), (own["verdict"] == BEYOND).sum()
        found = [
            f"{from_brain} of {len(own)} scores come from the response to the stimulus, beyond its category and "
            f"retrieval; {beyond} beyond all baselines."
        ]
        if self.ignores_decoded:
            found.insert(0, "The generator ignores what was decoded: images stay the same if it is exchanged.")
        elif self.chosen["changes"] is not None:
            found.append(
                f"If what was decoded is exchanged, images change by {self.chosen['changes']:.0%} of the difference "
                "between two reconstructions."
            )
        return found

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets that were used, and the networks that generate and that judge."""
        names = [name for name in self.chosen.get("sources", ()) if name in store.targets_available]
        return {
            **{name: store.about_target(name)[1] for name in names},
            **{f"network {role}": made for role, made in self.chosen["networks"].items()},
            **self.chosen["metric_weights"],
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the verdicts, all rows, the values of each stimulus, and their distances to the training set."""
        return {"verdicts": self.verdicts, "rows": self.table, "stimuli": self.stimuli, "distances": self.distances}

    def latex(self) -> dict[str, str]:
        """Return the verdicts in LaTeX, for the package booktabs."""
        shown = self.verdicts.drop(columns=["its mean", "left low", "left high"])
        text = shown.to_latex(index=False, escape=True, float_format="%.3f", na_rep="--")
        return {"verdicts": "% needs \\usepackage{booktabs}\n" + text}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the figures: images, scores beside baselines, splits, and distances."""
        found: dict[str, Callable[[], Any]] = {
            "images": functools.partial(self._images, store), "scores": functools.partial(self._scores, store),
        }  # fmt: skip
        if self.verdicts["split"].nunique() > 1:
            found["splits"] = functools.partial(self._by_split, store)
        if np.isfinite(self.distances["distance"]).any():
            found["distance"] = functools.partial(self._by_distance, store)
        return found

    def _title(self, store: Store) -> str:
        return f"{self.name} · {self.subject} · {store.label}"

    def _images(self, store: Store) -> Any:
        from neurorecon.figures import panel

        rows = dict(self.shown)
        if rows["seen"].ndim == 5:  # of a video, the middle frame
            rows = {row: images[:, images.shape[1] // 2] for row, images in rows.items()}
        return panel(
            {"reconstructed" if row == self.name else row: images for row, images in rows.items()},
            title=f"Seen, reconstructed, and baselines · {self._title(store)}",
            note=f"Stimuli from the best to the worst by {self.chosen['metrics'][0]}.",
            simulated=store.simulated,
        )

    def _scores(self, store: Store) -> Any:
        from neurorecon.figures import score_rows

        own = self.table[(self.table["split"] == self.verdicts["split"].iloc[0]) & self.table["low"].notna()]
        null = {metric: self.null[f"{own['split'].iloc[0]} {metric} {NULLS[0]}"] for metric in own["metric"].unique()
                if f"{own['split'].iloc[0]} {metric} {NULLS[0]}" in self.null}  # fmt: skip
        return score_rows(
            own[own["row"] != NULLS[0]],
            observed=self.name,
            nulls=null,
            title=f"Scores beside what is reached with less · {self._title(store)}",
            note=f"Means over {int(self.verdicts['n'].iloc[0])} stimuli with {self.settings.level:.0%} intervals "
            "(of nulls, 95% of the permutations). Gray: permutation null. Lower is better for distances and errors.",
            simulated=store.simulated,
        )

    def _by_split(self, store: Store) -> Any:
        from neurorecon.figures import score_rows

        rows = self.table[self.table["row"].isin([self.name, "another trial", "nearest training image"])]
        named = rows["row"].replace({self.name: "reconstructed"})
        table = rows.assign(row=rows["split"] + " · " + named)[rows["low"].notna()]
        return score_rows(
            table,
            observed=f"{self.verdicts['split'].iloc[0]} · reconstructed",
            title=f"What harder splits cost · {self._title(store)}",
            note=f"Means over stimuli with {self.settings.level:.0%} intervals; the line is the split of the store.",
            simulated=store.simulated,
        )

    def _by_distance(self, store: Store) -> Any:
        from neurorecon.figures import score_scatter

        metrics = [name for name in self.chosen["metrics"] if self.distances[name].notna().any()][:4]
        of = {"CLIP embeddings": "1 - cosine of CLIP embeddings", "pixels": "1 - correlation of pixels"}
        return score_scatter(
            self.distances["distance"].to_numpy(),
            {name: self.distances[name].to_numpy() for name in metrics},
            self.distances["split"].tolist(),
            label="distance to training",
            title=f"Score against the distance to the nearest training stimulus · {self._title(store)}",
            note="One point a stimulus; lines join means of bins of equal size. Distance: "
            f"{of[self.chosen['distance']]}.",
            simulated=store.simulated,
        )

    def pages(self, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return what makes the report."""
        return {"report": lambda: self._report(store, record)}

    def verdict_section(self, title: str = "Verdict") -> Any:
        """Return the section with the verdicts, which other reports show too."""
        from neurorecon.figures import Section, Table

        short = self.verdicts[[
            "split", "metric", "value", "low", "high", "null", "p", "category null", "category p", "re-paired p",
            "category re-paired p", "verdict",
        ]].dropna(axis=1, how="all")  # fmt: skip
        left = self.verdicts[[
            "split", "metric", "value", "strongest baseline", "its mean", "left", "left low", "left high", "left p",
            "oracle", "half against half",
        ]]  # fmt: skip
        tables = [
            Table.from_frame(short, "Scores beside their nulls; intervals over stimuli, one-sided p."),
            Table.from_frame(left, "What the strongest baseline leaves of each score, paired over stimuli."),
        ]
        return Section(title, [*self.summary, _HOW], tables)

    def _report(self, store: Store, record: Mapping[str, Any]) -> str:
        from neurorecon.figures import Figure, Section, Table, report_html

        drawn = {name: draw() for name, draw in self.figures(store).items()}
        meaning = [
            f"{row}: {text}."
            for row, text in {**STAGES, **BASELINES, **LIMITS}.items()
            if (self.table["row"] == row).any()
        ]
        lacking = [f"{row}: not computed, because {reason}." for row, reason in self.chosen["missing"].items()]
        of_scores = Figure(drawn["scores"], "The score of the reconstructions, and what is reached with less.")
        sections = [
            self.verdict_section(),
            Section("Images", (), [Figure(drawn["images"], "Stimuli, and what each row has for them.")]),
            Section("Scores and baselines", [*meaning, *lacking], [of_scores]),
        ]
        if "splits" in drawn:
            text = "The system was fitted again for each split; folds are pooled."
            sections.append(Section("Harder splits", text, [Figure(drawn["splits"], "Scores on each split.")]))
        if "distance" in drawn:
            text = "If scores fall with the distance to the training set, part of them is the likeness of both sets."
            caption = "Score of each stimulus against the distance to its nearest training stimulus."
            sections.append(Section("Distance to the training set", text, [Figure(drawn["distance"], caption)]))
        rows = Table.from_frame(self.table.drop(columns="kind"), "All rows of all splits.")
        sections.append(Section("All rows", exchange_lines(self.chosen), [rows]))
        lead = f"Is it the brain or the generator? {' '.join(self.summary)}"
        return report_html(f"Audit of {self._title(store)}", sections, record, lead=lead)

    def text(self, store: Store) -> str:
        """Return the verdicts for a terminal."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [f"\naudit of {self._title(store)} ({label}) · {self.task}", *self.summary, ""]
        for split, verdicts in self.verdicts.groupby("split", sort=False):
            lines.append(f"{split} ({self.chosen['stimuli'][split]} stimuli)")
            lines.append(
                f"  {'metric':<20}{'value':>7}{'null':>7}{'p':>7}{'category p':>12}  {'strongest baseline':<30}"
                f"{'left':>8}{'p':>8}  verdict"
            )
            for row in verdicts.to_dict("records"):
                lines.append(
                    f"  {row['metric']:<20}{row['value']:>7.3f}{row['null']:>7.3f}{row['p']:>7.3f}"
                    f"{row['category p']:>12.3f}  {row['strongest baseline']:<24}{row['its mean']:>6.3f}"
                    f"{row['left']:>+8.3f}{row['left p']:>8.4f}  {row['verdict']}"
                )
            lines.append("")
        lines += [f"not computed: {row} ({reason})" for row, reason in self.chosen["missing"].items()]
        lines += [f"{name}: {weights_label(made)}" for name, made in self.chosen["metric_weights"].items()]
        return "\n".join(lines + exchange_lines(self.chosen))
