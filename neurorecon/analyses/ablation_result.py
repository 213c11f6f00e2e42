"""The table of an ablation, and the result that is written: tables, LaTeX, figures and text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.analyses.results import Result, Score, exchange_lines
from neurorecon.metrics.base import Metric, summarize
from neurorecon.provenance import weights_label
from neurorecon.stats import bootstrap_means, bootstrap_p, permutation_p
from neurorecon.stats.bootstrap import interval_of
from neurorecon.store.store import Store

#: The row of the system as it is.
FULL = "full"

#: Columns of the table: numbers of each cell and metric, and counts of each cell.
_NUMBERS = (
    "mean", "low", "high", "difference", "difference low", "difference high", "difference p", "null mean", "p", "n",
)  # fmt: skip
_COUNTS = ("voxels", "noise ceiling", "samples", "stimuli")


def table_of(
    cells: Mapping[str, str],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    values: Mapping[str, Mapping[str, np.ndarray]],
    stimuli: Mapping[str, list[str]],
    metrics: Mapping[str, Metric],
    settings: Any,
    published: Mapping[str, Mapping[str, float]],
) -> tuple[pd.DataFrame, list[Score]]:
    """Return one row for each cell and metric, and the scores beside their null.

    Parameters
    ----------
    cells : mapping of str to str
        What is varied, by the name of the cell.
    arrays : mapping of str to (mapping of str to array)
        By cell: ``null of METRIC``, (permutation,), and ``numbers``, see `_COUNTS`.
    values : mapping of str to (mapping of str to array)
        By cell and metric, (stimulus,), or () for a metric of the whole set.
    stimuli : mapping of str to list of str
        The test stimuli of each cell.
    metrics : mapping of str to Metric
    settings : AblateSettings
        Bootstraps, their seed and level.
    published : mapping of str to (mapping of str to float)
        By cell and metric.
    """
    rows, scores = [], []
    own = {name: place for place, name in enumerate(stimuli[FULL])}
    for cell, variation in cells.items():
        both = [place for place, name in enumerate(stimuli[cell]) if name in own]
        at = [own[stimuli[cell][place]] for place in both]
        numbers = dict(zip(_COUNTS, arrays[cell]["numbers"], strict=True))
        for name, metric in metrics.items():
            found, sign = values[cell][name], 1.0 if metric.higher_is_better else -1.0
            row: dict[str, Any] = {"variation": variation, "cell": cell, "metric": name}
            row |= dict.fromkeys(_NUMBERS[1:-1], np.nan)
            if found.ndim:
                mean = bootstrap_means(found[:, None], n_bootstraps=settings.n_bootstraps, seed=settings.seed)
                interval = interval_of(mean[1:], mean[0], settings.level)
                null, summary = arrays[cell][f"null of {name}"], summarize(found)
                row |= {"mean": summary.mean, "low": interval.low[0], "high": interval.high[0], "n": summary.n}
                row |= {"null mean": null.mean(), "p": float(permutation_p(sign * summary.mean, sign * null))}
                if cell != FULL and len(both) > 1:
                    paired = (found[both] - values[FULL][name][at])[:, None]
                    drawn = bootstrap_means(paired, n_bootstraps=settings.n_bootstraps, seed=settings.seed)
                    apart = interval_of(drawn[1:], drawn[0], settings.level)
                    sides = np.minimum(bootstrap_p(drawn), bootstrap_p(-drawn))
                    row |= {"difference": drawn[0, 0], "difference p": min(1.0, 2 * float(sides[0]))}
                    row |= {"difference low": apart.low[0], "difference high": apart.high[0]}
                scores.append(Score(
                    name=f"{cell} {name}", value=summary.mean, n=summary.n, n_undefined=summary.n_undefined,
                    null_mean=float(null.mean()), null_max=float(null.max()), p=row["p"], n_permutations=len(null),
                    extra={key: float(row[key]) for key in ("difference", "difference low", "difference high")},
                ))  # fmt: skip
            else:
                row |= {"mean": float(found), "n": len(stimuli[cell])}
            rows.append({**row, **numbers, "published": published.get(cell, {}).get(name, np.nan)})
    table = pd.DataFrame(rows)[["variation", "cell", "metric", *_NUMBERS, *_COUNTS, "published"]]
    return table.astype(dict.fromkeys(("n", "voxels", "samples", "stimuli"), int)), scores


@dataclass(frozen=True, kw_only=True)
class Ablation(Result):
    """Variations of a system, compared with the full one.

    Parameters
    ----------
    system : str
        Its name.
    table : DataFrame
        One row per cell and metric: ``mean`` over test stimuli with its interval (``low``, ``high``), the paired
        ``difference`` from the full system with its interval and two-sided p, ``null mean`` and ``p`` of exchanged
        pairs, ``n`` stimuli; ``voxels``, their mean ``noise ceiling``, training ``samples`` and their ``stimuli``; and
        what was ``published`` for the same variation and metric, NaN unless the data are measured responses of NSD.
    stimuli : DataFrame
        One row per cell and test stimulus: the value of each metric.
    shown : dict of str to array, shape (stimulus, y, x, rgb), uint8
        What was seen, and what each cell makes of it.
    """

    kind: str = "ablation"
    system: str
    table: pd.DataFrame
    stimuli: pd.DataFrame
    shown: dict[str, np.ndarray]
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}_ablation"

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets, and the networks that generate and that judge."""
        names = [name for name in self.chosen["sources"] if name in store.targets_available]
        return {
            **{name: store.about_target(name)[1] for name in names},
            **{f"network {role}": made for role, made in self.chosen["networks"].items()},
            **self.chosen["metric_weights"],
        }

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return one row for each cell and metric, and the values of each stimulus."""
        return {"cells": self.table, "stimuli": self.stimuli}

    @property
    def wide(self) -> pd.DataFrame:
        """One row per cell and one column per metric, as papers print it, with published values beside ours."""
        columns = {}
        order = list(dict.fromkeys(self.table["cell"]))
        for metric in self.chosen["metrics"]:
            own = self.table[self.table["metric"] == metric].set_index("cell").loc[order]
            columns[metric] = own["mean"]
            if own["published"].notna().any():
                columns[f"{metric} (published)"] = own["published"]
        return pd.DataFrame(columns)

    def latex(self) -> dict[str, str]:
        """Return the table in the papers' shape as LaTeX (booktabs)."""
        text = self.wide.to_latex(escape=True, float_format="%.3f", na_rep="--")
        return {"cells": "% needs \\usepackage{booktabs}\n" + text}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the scores of all cells, and what they make of a few stimuli."""
        return {"scores": functools.partial(self._scores, store), "images": functools.partial(self._images, store)}

    def _scores(self, store: Store) -> Any:
        from neurorecon.figures import score_rows

        return score_rows(
            self.table.rename(columns={"cell": "row"}),
            observed=FULL,
            nulls={
                metric: self.null[f"{FULL} {metric}"]
                for metric in self.chosen["metrics"]
                if f"{FULL} {metric}" in self.null
            },
            title=f"Ablations · {self.system} · {self.subject} · {store.name}",
            note=f"Means over {self.chosen['stimuli']} test stimuli with {self.chosen['level']:.0%} intervals over "
            "stimuli; the line is the full system, gray the null of its exchanged pairs.",
            simulated=store.simulated,
        )

    def _images(self, store: Store) -> Any:
        from neurorecon.figures import panel

        return panel(
            self.shown,
            title=f"Ablations · {self.system} · {self.subject} · {store.name}",
            note="Test stimuli, evenly spaced in their order; the first seed.",
            simulated=store.simulated,
        )

    def text(self, store: Store) -> str:
        """Return the table for a terminal: means, and differences from the full system."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        metrics = self.chosen["metrics"]
        wide = max(len(name) for name in self.table["cell"]) + 2
        lines = [
            f"\nablations of {self.system} · {self.subject} · {store.name} ({label}) · {self.task}",
            f"{self.chosen['stimuli']} stimuli; means and differences from the full system, * where the "
            f"{self.chosen['level']:.0%} interval of the paired difference excludes 0",
            f"  {'':<{wide}}{'voxels':>7}{'ceiling':>9}" + "".join(f"{name:>19}" for name in metrics),
        ]
        rows = self.table.set_index(["cell", "metric"])
        for name in dict.fromkeys(self.table["cell"]):
            line = f"  {name:<{wide}}{rows.loc[(name, metrics[0]), 'voxels']:>7,}"
            line += f"{rows.loc[(name, metrics[0]), 'noise ceiling']:>9.3f}"
            for metric in metrics:
                row = rows.loc[(name, metric)]
                apart = row["difference low"] > 0 or row["difference high"] < 0
                said = "" if np.isnan(row["difference"]) else f" {row['difference']:+.3f}{'*' if apart else ' '}"
                line += f"{row['mean']:>10.3f}{said:<9}"
            lines.append(line.rstrip())
            beside = {metric: rows.loc[(name, metric), "published"] for metric in metrics}
            if not all(map(np.isnan, beside.values())):
                said = "".join(f"{value:>10.3f}{'':<9}" if value == value else " " * 19 for value in beside.values())
                lines.append(f"  {'  published':<{wide}}{'':>16}{said}".rstrip())
        if self.chosen["published"]:
            lines.append(f"published: {self.chosen['published']}")
        lines += [f"{name}: {weights_label(made)}" for name, made in self.chosen["metric_weights"].items()]
        return "\n".join(lines + exchange_lines(self.chosen))
