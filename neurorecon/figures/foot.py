"""The foot of a map: color bar or legend, and the notes that a reader needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neurorecon.figures.colors import GRAY
from neurorecon.figures.paint import Categories, Scalars
from neurorecon.figures.style import axes_mm, new_figure, tag_simulated, text_mm, wrap_mm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where color bar and panels begin, millimeters from the left.
LEFT = 5.0

_NOTE_SIZE = 6.0
_LEGEND_WIDTH = 61.0


def figure_with_foot(full: float, foot: float, sentences: Sequence[str | None], simulated: bool) -> Figure:
    """Make a figure just high enough for its foot, which begins `foot` millimeters from the top."""
    height = foot_height(new_figure(full, 40), full, sentences)
    figure = new_figure(full, foot + height)
    if simulated:
        tag_simulated(figure)
    return figure


def _note_width(full: float) -> float:
    return full - _LEGEND_WIDTH - 8 if full > 110 else full - 3


def _note_text(figure: Figure, full: float, sentences: Sequence[str | None]) -> str:
    return wrap_mm(figure, "\n".join(text for text in sentences if text), _note_width(full), _NOTE_SIZE)


def foot_height(figure: Figure, full: float, sentences: Sequence[str | None]) -> float:
    """Return the height (mm) of color bar or legend and notes."""
    lines = _note_text(figure, full, sentences).count("\n") + 1
    notes = lines * 2.75 + 1.0
    return max(11.0, notes) if full > 110 else 11.5 + notes


def draw_foot(
    figure: Figure,
    top: float,
    layer: Scalars | Categories,
    legend: tuple[str, Any],
    sentences: Sequence[str | None],
) -> None:
    """Draw the color bar or legend, and the notes beside (wide figures) or below it."""
    full = float(figure.get_size_inches()[0] * 25.4)
    if isinstance(layer, Scalars):
        _color_bar(figure, top, layer, legend)
    else:
        _legend(figure, top, layer, legend)
    text = _note_text(figure, full, sentences)
    place = (_LEGEND_WIDTH + 6, top) if full > 110 else (1.5, top + 11.5)
    text_mm(figure, *place, text, fontsize=_NOTE_SIZE, color=GRAY, linespacing=1.25)


def _color_bar(figure: Figure, top: float, layer: Scalars, legend: tuple[str, Any]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    label, extend = legend
    axes = axes_mm(figure, LEFT, top + 0.3, 48, 2.2)
    mappable = ScalarMappable(Normalize(*layer.limits), layer.colormap)
    bar: Any = figure.colorbar(mappable, cax=axes, orientation="horizontal", extend=extend, ticks=MaxNLocator(5))
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)
    axes.tick_params(length=1.5, pad=1, labelsize=6.5)
    axes.set_xlabel(label, labelpad=1, fontsize=7)


def _legend(figure: Figure, top: float, layer: Categories, legend: tuple[str, Any]) -> None:
    from matplotlib.patches import Patch

    label, names = legend
    full = figure.get_size_inches() * 25.4
    handles = [Patch(facecolor=color, label=name) for name, color in zip(names, layer.colors, strict=True)]
    columns = 3 if max(map(len, names), default=0) <= 10 else 2  # the notes stand beside it
    box = figure.legend(
        handles=handles, title=label, loc="upper left", ncols=min(len(names), columns), borderaxespad=0,
        borderpad=0, bbox_to_anchor=(LEFT / full[0], 1 - top / full[1]), handlelength=1.1, handleheight=0.9,
        columnspacing=1.4, handletextpad=0.5, alignment="left", labelspacing=0.35,
    )  # fmt: skip
    box.get_title().set_fontsize(7)
