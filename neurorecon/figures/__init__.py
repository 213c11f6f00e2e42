"""Publication-quality figures from plain arrays.

Functions return matplotlib figures (or HTML), and :func:`save_figure` writes them together with their provenance.
Nothing in this package depends on stores or estimators.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurorecon.figures.panels import panel, side_by_side
    from neurorecon.figures.reporting import Animation, Figure, Page, Section, Table, report, report_html
    from neurorecon.figures.scores import band_bars, null_histogram, score_rows, score_scatter, training_curves
    from neurorecon.figures.style import (
        BAND_COLORS,
        QUANTITIES,
        WIDTHS,
        band_colors,
        journal_style,
        read_provenance,
        save_figure,
    )
    from neurorecon.figures.surface import cortex, cortex_bands, flat, flat_bands
    from neurorecon.figures.viewer import interactive
    from neurorecon.figures.volumes import interactive_volume, volume

#: The module that defines each name; it is imported on first use.
_HOMES = {
    "band_bars": "scores",
    "BAND_COLORS": "style",
    "QUANTITIES": "style",
    "band_colors": "style",
    "flat": "surface",
    "flat_bands": "surface",
    "interactive": "viewer",
    "null_histogram": "scores",
    "score_rows": "scores",
    "score_scatter": "scores",
    "training_curves": "scores",
    "panel": "panels",
    "side_by_side": "panels",
    "Animation": "reporting",
    "Page": "reporting",
    "Figure": "reporting",
    "Section": "reporting",
    "report": "reporting",
    "report_html": "reporting",
    "read_provenance": "style",
    "save_figure": "style",
    "WIDTHS": "style",
    "journal_style": "style",
    "cortex": "surface",
    "cortex_bands": "surface",
    "Table": "reporting",
    "interactive_volume": "volumes",
    "volume": "volumes",
}

__all__ = [
    "BAND_COLORS",
    "QUANTITIES",
    "WIDTHS",
    "Animation",
    "Figure",
    "Page",
    "Section",
    "Table",
    "band_bars",
    "band_colors",
    "cortex",
    "cortex_bands",
    "flat",
    "flat_bands",
    "interactive",
    "interactive_volume",
    "journal_style",
    "null_histogram",
    "panel",
    "read_provenance",
    "report",
    "report_html",
    "save_figure",
    "score_rows",
    "score_scatter",
    "side_by_side",
    "training_curves",
    "volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
