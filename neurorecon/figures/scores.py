"""Bar charts of scores with noise ceilings, histograms of null distributions, and losses of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.style import (
    FURTHER_COLORS,
    GRAY,
    INK,
    LIGHT,
    axes_mm,
    band_colors,
    band_label,
    journal_style,
    new_figure,
    quantity_note,
    tag_simulated,
    text_mm,
    text_size_mm,
    width_mm,
    wrap_mm,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LEFT, _RIGHT, _HEIGHT, _BELOW = 12.5, 2.0, 34.0, 8.5

#: Smallest and largest width of a bar (mm). If bars would be narrower, the ROIs continue on another line.
NARROWEST_BAR, WIDEST_BAR = 0.9, 6.0


def band_bars(
    table: Any,
    *,
    rois: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    label: str = "Split R²",
    quantity: str | None = "encoding",
    title: str | None = None,
    note: str | None = None,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Plot one bar per band for each ROI.

    Parameters
    ----------
    table : DataFrame or mapping of str to sequence
        One row per ROI and band, with the columns ``roi``, ``band`` and ``value``. Optional columns are ``low`` and
        ``high`` (confidence interval), ``star`` (1 where a star marks the bar) and, with the same value on all rows of
        an ROI, ``ceiling`` (noise ceiling), ``joint`` (R2 of all bands together), ``joint_low`` and ``joint_high`` (its
        interval) and ``n`` (number of voxels).
    rois, bands : sequence of str, optional
        ROIs and bands to plot, in this order. Default: all, in the order of the table.
    label : str
        Label of the y axis.
    quantity : {"encoding", "decoding", "haufe"}, optional
        Quantity that the bars show; its description is written below them.
    title, note : str, optional
        Text above and below the bars. The note should say which voxels are averaged and what the whiskers are.
    width : str or float
        ``"single"``, ``"one-and-a-half"``, ``"double"``, or a number of millimeters.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If a column is missing, the table is empty, or a pair of ROI and band occurs twice.
    UnknownNameError
        If a requested ROI or band is not in the table.
    """
    columns = _columns(table)
    rois = _choose("ROI", rois, columns["roi"])
    bands = _choose("band", bands, columns["band"])
    cells = _cells(columns)
    with journal_style():
        full = width_mm(width)
        per_line = max(int((full - _LEFT - _RIGHT) / ((len(bands) + 1) * NARROWEST_BAR)), 1)
        lines = -(-len(rois) // per_line)
        per_line = -(-len(rois) // lines)
        counted = "n: number of voxels." if "n" in columns else ""
        own = f"{note or ''} {counted}".strip()
        notes = "\n".join(text for text in (quantity_note(quantity), own) if text)
        notes = wrap_mm(new_figure(full, 30), notes, full - 3, 6)
        keys = _legend_keys(bands, columns)
        legend_lines = _legend_lines(keys, full)
        head = 6.5 if title or simulated else 4.5  # save_figure may still add "simulated data"
        top = head + 3.6 * legend_lines + 2.0
        body = lines * (_HEIGHT + _BELOW)
        figure = new_figure(full, top + body + 2.75 * (notes.count("\n") + 1) + 2)
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        _legend(figure, keys, legend_lines, head)
        limits = _limits(columns)
        for line in range(lines):
            part = rois[line * per_line : (line + 1) * per_line]
            share = min((full - _LEFT - _RIGHT) / per_line, (len(bands) + 1) * WIDEST_BAR)
            axes = axes_mm(figure, _LEFT, top + line * (_HEIGHT + _BELOW), share * len(part), _HEIGHT)
            _draw(axes, part, bands, cells, share)
            axes.set_ylim(*limits)
            axes.set_ylabel(label)
        text_mm(figure, 1.5, top + body + 0.5, notes, fontsize=6, color=GRAY, linespacing=1.25)
        if simulated:
            tag_simulated(figure)
    return figure


#: Columns that the table of bars may have.
_OPTIONAL = ("low", "high", "star", "ceiling", "joint", "joint_low", "joint_high", "n")


def _columns(table: Any) -> dict[str, np.ndarray]:
    names = list(table.columns) if hasattr(table, "columns") else list(table)
    missing = {"roi", "band", "value"} - set(names)
    if missing:
        raise InputError(
            "the table lacks a required column",
            given=", ".join(map(str, names)) or "no columns",
            expected=f"roi, band and value (optional: {', '.join(_OPTIONAL)})",
            todo=f"add {', '.join(sorted(missing))}",
        )
    columns = {
        name: np.asarray(table[name], dtype=str if name in ("roi", "band") else float)
        for name in ("roi", "band", "value", *_OPTIONAL)
        if name in names
    }
    if not len(columns["roi"]):
        raise InputError("the table is empty", given="no rows", expected="one row per ROI and band")
    return columns


def _choose(kind: str, wanted: Sequence[str] | None, present: np.ndarray) -> list[str]:
    known = list(dict.fromkeys(present.tolist()))
    for name in wanted or ():
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return known if wanted is None else list(wanted)


def _cells(columns: Mapping[str, np.ndarray]) -> dict[tuple[str, str], dict[str, float]]:
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for row, key in enumerate(zip(columns["roi"].tolist(), columns["band"].tolist(), strict=True)):
        if key in cells:
            raise InputError(
                "a pair of ROI and band occurs twice in the table",
                given=f"{key[0]}, {key[1]}",
                expected="one row per ROI and band",
            )
        cells[key] = {name: float(part[row]) for name, part in columns.items() if name not in ("roi", "band")}
    return cells


def _limits(columns: Mapping[str, np.ndarray]) -> tuple[float, float]:
    drawn = ("value", "low", "high", "ceiling", "joint", "joint_low", "joint_high")
    shown = np.concatenate([columns[name] for name in drawn if name in columns])
    shown = shown[np.isfinite(shown)]
    low, high = (shown.min(), shown.max()) if len(shown) else (0.0, 1.0)
    room = 0.06 * max(high - min(low, 0), 1e-3)
    return (min(low - room, 0) if low < 0 else 0.0), max(high, 0) + room


def _draw(
    axes: Axes,
    rois: Sequence[str],
    bands: Sequence[str],
    cells: Mapping[tuple[str, str], Mapping[str, float]],
    share: float,
) -> None:
    colors = band_colors(bands)
    bar = 0.8 / len(bands)
    counts: dict[str, float] = {}
    for place, roi in enumerate(rois):
        shared: dict[str, float] = {}
        for index, band in enumerate(bands):
            cell = cells.get((roi, band), {})
            shared.update({name: value for name, value in cell.items() if np.isfinite(value)})
            x = place + (index - (len(bands) - 1) / 2) * bar
            value = cell.get("value", np.nan)
            if np.isfinite(value):
                axes.bar(x, value, width=bar * 0.9, color=colors[band], linewidth=0)
                low, high = cell.get("low", np.nan), cell.get("high", np.nan)
                if np.isfinite(low) and np.isfinite(high):
                    axes.plot([x, x], [low, high], color=INK, linewidth=0.6, solid_capstyle="butt")
                if cell.get("star", 0) > 0:
                    axes.annotate("*", (x, np.nanmax([value, high])), ha="center", va="bottom", fontsize=7,
                                  xytext=(0, -1.5), textcoords="offset points")  # fmt: skip
        if "ceiling" in shared:
            axes.plot([place - 0.42, place + 0.42], [shared["ceiling"]] * 2, color=INK, linewidth=1.1,
                      solid_capstyle="butt")  # fmt: skip
        between = place + (len(bands) % 2) * bar / 2  # not on the whisker of a bar
        if "joint_low" in shared and "joint_high" in shared:
            axes.plot([between] * 2, [shared["joint_low"], shared["joint_high"]], color=GRAY, linewidth=0.6,
                      solid_capstyle="butt")  # fmt: skip
        if "joint" in shared:
            axes.plot(between, shared["joint"], marker="D", markersize=2.6, markerfacecolor="white",
                      markeredgecolor=INK, markeredgewidth=0.6)  # fmt: skip
        if "n" in shared:
            counts[roi] = shared["n"]
    _name(axes, rois, counts, share)
    axes.set_xlim(-0.5, len(rois) - 0.5)
    axes.set_xticks([])
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.spines["bottom"].set_visible(False)
    axes.locator_params(axis="y", nbins=5)


def _name(axes: Axes, rois: Sequence[str], counts: Mapping[str, float], share: float) -> None:
    from matplotlib.transforms import blended_transform_factory

    figure: Any = axes.figure
    size = 7.0
    while size > 5 and max(text_size_mm(figure, roi, size)[0] for roi in rois) > share - 0.5:
        size -= 0.25
    texts = {roi: f"n = {n:.0f}" for roi, n in counts.items()}
    if any(text_size_mm(figure, text, 5.5)[0] > share - 0.5 for text in texts.values()):
        texts = {roi: f"{n:.0f}" for roi, n in counts.items()}
    below = blended_transform_factory(axes.transData, axes.transAxes)
    for place, roi in enumerate(rois):
        axes.text(place, -0.035, roi, transform=below, ha="center", va="top", fontsize=size)
        axes.text(
            place,
            -0.125,
            texts.get(roi, ""),
            transform=below,
            ha="center",
            va="top",
            fontsize=5.5,
            color=GRAY,
        )


def _legend_keys(bands: Sequence[str], columns: Mapping[str, np.ndarray]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [Patch(facecolor=color, label=band_label(name)) for name, color in band_colors(bands).items()]
    if "joint" in columns:
        keys.append(
            Line2D([], [], linestyle="none", marker="D", markersize=2.8, markerfacecolor="white",
                   markeredgecolor=INK, markeredgewidth=0.6, label="all bands")
        )  # fmt: skip
    if "ceiling" in columns:
        keys.append(Line2D([], [], color=INK, linewidth=1.1, label="noise ceiling"))
    return keys


def _legend_lines(keys: Sequence[Any], full: float) -> int:
    """Return the number of lines of the legend; in matplotlib, each column has its own width."""
    probe = new_figure(full, 30)
    widths = [text_size_mm(probe, str(key.get_label()), 7)[0] + 8.0 for key in keys]
    for lines in range(1, len(keys) + 1):
        columns = -(-len(keys) // lines)
        # matplotlib fills legends column by column.
        needed = sum(max(widths[start * lines : (start + 1) * lines], default=0) for start in range(columns))
        if needed < full - _LEFT:
            return lines
    return len(keys)


def _legend(figure: Figure, keys: Sequence[Any], lines: int, top: float) -> None:
    full = figure.get_size_inches() * 25.4
    figure.legend(
        handles=keys, loc="upper left", ncols=-(-len(keys) // lines),
        bbox_to_anchor=(_LEFT / full[0], 1 - top / full[1]), borderaxespad=0, borderpad=0, handlelength=1.1,
        handleheight=0.9, columnspacing=1.3, handletextpad=0.5, labelspacing=0.35,
    )  # fmt: skip


#: Color of the observed score (vermilion of the Okabe-Ito palette).
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
    """Plot a score on the histogram of its null distribution.

    Parameters
    ----------
    observed : float
        Observed score.
    null : array, shape (permutation,)
        Score under each permutation.
    p : float
        p-value, (1 + #{null >= observed}) / (1 + B). It is displayed as given, never recomputed.
    label : str
        Label of the x axis: the name of the score.
    ceiling : float, optional
        Noise ceiling of the score, drawn as a dashed line.
    title : str, optional
        Text above the histogram.
    width : str or float
        ``"single"``, ``"one-and-a-half"``, ``"double"``, or a number of millimeters.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is no permutation, or a score is not finite.
    """
    null = np.asarray(null, dtype=float).ravel()
    if not len(null) or not np.isfinite(null).all() or not np.isfinite(observed):
        raise InputError(
            "the null distribution is empty or not finite",
            given=f"{len(null)} permutations ({np.isfinite(null).sum()} finite), observed {observed}",
            expected="at least one permutation and finite numbers",
        )
    with journal_style():
        full = width_mm(width)
        top = 6.5  # room for the title, and for "simulated data", which save_figure may add
        words = f"Gray: null distribution, {len(null)} permutations; dotted: its 95th percentile."
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


def score_rows(
    table: Any,
    *,
    observed: str,
    nulls: Mapping[str, np.ndarray] | None = None,
    title: str | None = None,
    note: str | None = None,
    per_line: int = 4,
    simulated: bool = False,
) -> Figure:
    """Plot scores beside those of baselines: one row for each, one column of axes for each metric.

    Parameters
    ----------
    table : DataFrame or mapping of str to sequence
        One row per row of the figure and metric: ``row``, ``metric``, ``mean``, ``low`` and ``high`` (confidence
        interval, NaN for none).
    observed : str
        The row that is compared with the others; a line goes through its mean.
    nulls : mapping of str to array, shape (permutation,), optional
        Null distribution by metric: a gray band from its 2.5th to its 97.5th percentile.
    title, note : str, optional
        Text above and below.
    per_line : int
        Metrics side by side; further metrics go below.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = {name: np.asarray(table[name]) for name in ("row", "metric", "mean", "low", "high")}
    rows, metrics = (list(dict.fromkeys(columns[name].tolist())) for name in ("row", "metric"))
    with journal_style():
        full = width_mm("double")
        probe = new_figure(full, 30)
        left = max(text_size_mm(probe, name, 7)[0] for name in rows) + 4.0
        per_line = min(per_line, len(metrics))
        wide = min((full - left - 2.0) / per_line, 48.0)
        tall = 3.6 * len(rows) + 2.0
        lines = -(-len(metrics) // per_line)
        text = wrap_mm(probe, note, full - 3, 6) if note else ""
        top = 10.5 if title or simulated else 8.5
        figure = new_figure(full, top + lines * (tall + 13.0) + (2.75 * (text.count("\n") + 1) if text else 0))
        for number, metric in enumerate(metrics):
            line, place = divmod(number, per_line)
            axes: Any = axes_mm(figure, left + place * wide + 1.5, top + line * (tall + 13.0), wide - 6.5, tall)
            if nulls is not None and metric in nulls and np.isfinite(nulls[metric]).all():
                axes.axvspan(*np.percentile(nulls[metric], [2.5, 97.5]), color=LIGHT, linewidth=0)
            for height, name in enumerate(rows):
                own = (columns["row"] == name) & (columns["metric"] == metric)
                if not own.any():
                    continue
                mean, low, high = (float(columns[key][own][0]) for key in ("mean", "low", "high"))
                color = OBSERVED if name == observed else INK
                if np.isfinite([low, high]).all():
                    axes.plot([low, high], [height, height], color=color, linewidth=1.0)
                axes.plot([mean], [height], marker="o", markersize=3.2, color=color, linestyle="none")
                if name == observed and np.isfinite(mean):
                    axes.axvline(mean, color=OBSERVED, linewidth=0.5, linestyle=(0, (2, 2)), zorder=0)
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.set_yticks(range(len(rows)), rows if not place else [""] * len(rows))
            axes.tick_params(axis="y", length=0)
            axes.set_title(metric, fontsize=7, pad=2)
            axes.locator_params(axis="x", nbins=4)
        if text:
            text_mm(figure, 1.5, top + lines * (tall + 13.0) - 3.5, text, fontsize=6, color=GRAY, linespacing=1.25)
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        if simulated:
            tag_simulated(figure)
    return figure


def score_scatter(
    x: np.ndarray,
    values: Mapping[str, np.ndarray],
    groups: Sequence[str],
    *,
    label: str,
    title: str | None = None,
    note: str | None = None,
    simulated: bool = False,
) -> Figure:
    """Plot the score of each stimulus against a number of each stimulus, with the mean in bins of equal size.

    Parameters
    ----------
    x : array, shape (stimulus,)
        The number.
    values : mapping of str to array, shape (stimulus,)
        Scores by metric; NaN is left out.
    groups : sequence of str, shape (stimulus,)
        What distinguishes stimuli by color, e.g. the split that they were tested in.
    label : str
        Label of the x axis.
    title, note : str, optional
        Text above and below.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    named = list(dict.fromkeys(groups))
    colors = {name: FURTHER_COLORS[number % len(FURTHER_COLORS)] for number, name in enumerate(named)}
    with journal_style():
        full = width_mm("double")
        per_line = min(4, len(values))
        wide = min((full - 3.0) / per_line, 60.0)
        text = wrap_mm(new_figure(full, 30), note, full - 3, 6) if note else ""
        lines, top, tall = -(-len(values) // per_line), 14.0, 30.0
        figure = new_figure(full, top + lines * (tall + 14.0) + 2.75 * (text.count("\n") + 1))
        for number, (metric, scores) in enumerate(values.items()):
            line, place = divmod(number, per_line)
            axes: Any = axes_mm(figure, place * wide + 11.0, top + line * (tall + 14.0), wide - 14.0, tall)
            for name in named:
                own = (np.asarray(groups) == name) & np.isfinite(x) & np.isfinite(scores)
                if not own.any():
                    continue
                axes.plot(
                    x[own],
                    scores[own],
                    ".",
                    markersize=2.2,
                    alpha=0.35,
                    markeredgewidth=0,
                    color=colors[name],
                    label=name,
                )
                order = np.argsort(x[own], kind="stable")
                bins = np.array_split(order, max(1, min(6, len(order) // 12)))
                axes.plot(
                    [x[own][part].mean() for part in bins], [scores[own][part].mean() for part in bins],
                    marker="o", markersize=3, linewidth=1.1, color=colors[name],
                )  # fmt: skip
            axes.set_title(metric, fontsize=7, pad=2)
            axes.set_xlabel(label)
            axes.locator_params(nbins=4)
        keys = [axes.plot([], [], marker="o", markersize=3, linewidth=1.1, color=colors[name])[0] for name in named]
        figure.legend(
            keys, named, loc="upper left", ncols=min(len(named), 8), frameon=False, borderaxespad=0.2,
            bbox_to_anchor=(0.0, 1 - 5.0 / (figure.get_size_inches()[1] * 25.4)),
        )  # fmt: skip
        if text:
            text_mm(figure, 1.5, top + lines * (tall + 14.0) - 3.0, text, fontsize=6, color=GRAY, linespacing=1.25)
        if title:
            text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
        if simulated:
            tag_simulated(figure)
    return figure


def training_curves(losses: Mapping[str, np.ndarray], best: int, label: str, *, simulated: bool = False) -> Figure:
    """Plot losses over the epochs of a training.

    Parameters
    ----------
    losses : mapping of str to array, shape (epoch,)
        By name, at most two; the first value is that before training, NaN if it is not known.
    best : int
        The epoch that is kept, marked by a dotted line.
    label : str
        Label of the y axis.
    simulated : bool
        Whether to write "simulated data" in the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with journal_style():
        figure = new_figure(70.0, 46.0)
        axes: Any = axes_mm(figure, 14.0, 6.5, 54.0, 29.0)
        for (name, values), color in zip(losses.items(), (GRAY, OBSERVED), strict=False):
            axes.plot(np.arange(len(values)), values, color=color, linewidth=1.2, marker="o", markersize=2, label=name)
        axes.axvline(best, color=INK, linewidth=0.7, linestyle=(0, (2, 2)))
        axes.set_xlabel(f"Epoch (dotted: the one that is kept, {best})")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        if simulated:
            tag_simulated(figure)
    return figure


def format_p(p: float, permutations: int | None = None) -> str:
    """Format a p-value with three decimals, or, below 0.001, with one significant digit.

    Raises
    ------
    InputError
        If `p` is not between 0 and 1.
    """
    if not 0 <= p <= 1:
        raise InputError("the p-value is out of range", given=str(p), expected="a number between 0 and 1")
    if p < 0.001:
        return f"p = {p:.1g}" if permutations is None or p >= 1 / (1 + permutations) else "p < 0.001"
    return f"p = {p:.3f}"
