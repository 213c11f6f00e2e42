"""A score against its permutation null."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.figures.colors import GRAY, INK, LIGHT
from neurorecon.figures.style import (
    axes_mm,
    journal_style,
    new_figure,
    tag_simulated,
    text_mm,
    width_mm,
    wrap_mm,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Color of what was observed (vermilion of the Okabe-Ito palette).
OBSERVED = "#D55E00"


def null_histogram(
    observed: float,
    null: np.ndarray,
    p: float,
    label: str,
    *,
    ceiling: float | None = None,
    title: str | None = None,
    width: str | float = 60.0,
    simulated: bool = False,
) -> Figure:
    """Draw where a score lies in its null distribution.

    Parameters
    ----------
    observed : float
        The score.
    null : array, shape (permutation,)
        The same score after each permutation.
    p : float
        As computed with the null, (1 + #{null >= observed}) / (1 + B); written, never recomputed.
    label : str
        Of the score.
    ceiling : float, optional
        Noise ceiling of the score, a dashed line.
    title : str, optional
        Above.
    width : str or float
        Name of a width, or millimeters.
    simulated : bool
        Writes "simulated data" into the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    null = np.asarray(null, dtype=float).ravel()
    if not len(null) or not np.isfinite(null).all() or not np.isfinite(observed):
        raise InputError(
            "a null distribution needs finite scores",
            given=f"{len(null)} permutations ({np.isfinite(null).sum()} finite), observed {observed}",
            expected="at least one permutation and finite numbers",
        )
    with journal_style():
        full = width_mm(width)
        top = 6.5  # room for the title, and for the words that save_figure may add
        words = f"Gray: the score after each of {len(null)} permutations; dotted: their 95th percentile."
        words = wrap_mm(new_figure(full, 30), words, full - 3, 6)
        figure = new_figure(full, top + 33 + 2.75 * (words.count("\n") + 1))
        axes: Any = axes_mm(figure, 11.5, top, full - 14, 23)
        low, high = np.percentile(null, [0, 100])
        bins = np.histogram_bin_edges(null, bins=min(40, max(8, int(np.sqrt(len(null))))), range=(low, high + 1e-9))
        counts, _, _ = axes.hist(null, bins=bins, color=LIGHT, edgecolor=GRAY, linewidth=0.3)
        height = counts.max() * 1.28
        axes.axvline(float(np.percentile(null, 95)), ymax=0.78, color=GRAY, linewidth=0.7, linestyle=(0, (2, 2)))
        axes.axvline(observed, ymax=0.88, color=OBSERVED, linewidth=1.4)
        ends = [low, high, observed, *([] if ceiling is None else [ceiling])]
        room = 0.08 * (max(ends) - min(ends) + 1e-9)
        axes.set_xlim(min(ends) - room, max(ends) + room)
        left = observed > np.mean(axes.get_xlim())
        text = f"{observed:.3g}, {format_p(p, len(null))}"
        axes.text(observed, 0.9 * height, text, ha="right" if left else "left", va="bottom", color=OBSERVED)
        if ceiling is not None:
            axes.axvline(ceiling, ymax=0.7, color=INK, linewidth=0.8, linestyle="--")
            axes.text(ceiling, 0.71 * height, "ceiling ", ha="right", va="bottom", fontsize=6, color=INK)
        axes.set_ylim(0, height)
        axes.set_xlabel(label)
        axes.set_ylabel("Permutations")
        axes.locator_params(nbins=4)
        text_mm(figure, 1.5, top + 32, words, fontsize=6, color=GRAY, linespacing=1.25)
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        if simulated:
            tag_simulated(figure)
    return figure


def format_p(p: float, permutations: int | None = None) -> str:
    """Write a p-value: three decimals, or the smallest that the permutations allow."""
    if not 0 <= p <= 1:
        raise InputError("this is no p-value", given=str(p), expected="a number between 0 and 1")
    if p < 0.001:
        return f"p = {p:.1g}" if permutations is None or p >= 1 / (1 + permutations) else "p < 0.001"
    return f"p = {p:.3f}"
