"""Maps on the folded or inflated cortex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.figures.colors import (
    GRAY,
    band_colors,
    band_label,
    color_map,
    default_colormap,
    nice_limits,
    quantity_note,
)
from neurorecon.figures.foot import LEFT, draw_foot, figure_with_foot
from neurorecon.figures.mesh import HEMISPHERES, check_values, load_mesh
from neurorecon.figures.paint import Categories, Reach, Scalars, View, draw_names, draw_outlines, draw_view
from neurorecon.figures.style import axes_mm, journal_style, text_mm, width_mm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PerHemisphere = Mapping[str, np.ndarray]
Outlines = Mapping[str, PerHemisphere]

VIEWS = ("lateral", "medial", "ventral", "posterior")

_GAP = 2.5


def cortex(
    values: PerHemisphere,
    *,
    label: str,
    mesh: str = "fsaverage5",
    surface: str = "inflated",
    quantity: str | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    mask: PerHemisphere | None = None,
    outlines: Outlines | None = None,
    views: Sequence[str] = VIEWS,
    title: str | None = None,
    note: str | None = None,
    radius: float = 3.0,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Show a map on the cortical surface, one row a hemisphere and one column a view.

    Parameters
    ----------
    values : mapping of {"left", "right"} to array, shape (vertex,)
        NaN where there is no voxel.
    label : str
        Of the color bar: the quantity and its unit.
    mesh, surface : str
        Template and which of its surfaces, e.g. ``"inflated"`` or ``"pial"``.
    quantity : {"encoding", "decoding", "haufe"}, optional
        Written below the map as a sentence; weights and patterns get a diverging color map around zero.
    cmap, vmin, vmax : optional
        Color map and its ends; by default chosen from quantity and data (0 to the 99th percentile).
    mask : mapping of {"left", "right"} to bool array, shape (vertex,), optional
        Where values are shown, e.g. where they are significant; voxels outside are painted pale.
    outlines : mapping of str to mapping of {"left", "right"} to bool array, optional
        Areas whose borders and names are drawn; a name stands in the view that shows most of the area.
    views : sequence of str
        Of :data:`neurorecon.figures.render.VIEWS`.
    title, note : str, optional
        Above and below.
    radius : float
        For display, a value is spread this far (mm along the pial surface) to vertices without a voxel; said
        below the map. 0 shows the bare vertices.
    width : str or float
        ``"single"``, ``"one-and-a-half"``, ``"double"``, or millimeters.
    simulated : bool
        Writes "simulated data" into the corner.

    Returns
    -------
    matplotlib.figure.Figure
    """
    layer, extend = scalar_layer(
        values, mesh, mask=mask, radius=radius, quantity=quantity, cmap=cmap, vmin=vmin, vmax=vmax
    )
    sentences = (quantity_note(quantity), note, spread_note(radius), mask_note(mask))
    with journal_style():
        return _compose(layer, (label, extend), mesh, surface, outlines, views, title, sentences, width, simulated)


def cortex_bands(
    winner: PerHemisphere,
    names: Sequence[str],
    *,
    label: str = "Band with the largest split R²",
    mesh: str = "fsaverage5",
    surface: str = "inflated",
    quantity: str | None = "encoding",
    mask: PerHemisphere | None = None,
    outlines: Outlines | None = None,
    views: Sequence[str] = VIEWS,
    title: str | None = None,
    note: str | None = None,
    radius: float = 3.0,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Show which band wins at each vertex.

    Parameters
    ----------
    winner : mapping of {"left", "right"} to array, shape (vertex,)
        Index into `names`; -1 or NaN where there is no voxel.
    names : sequence of str
        Bands. Their colors are the same in every figure (:func:`neurorecon.figures.colors.band_colors`).
    label : str
        Title of the legend.
    mesh, surface, quantity, mask, outlines, views, title, note, radius, width, simulated
        As in :func:`cortex`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    layer = category_layer(winner, names, mesh, mask=mask, radius=radius)
    sentences = (quantity_note(quantity), note, spread_note(radius), mask_note(mask))
    legend = (label, tuple(map(band_label, names)))
    with journal_style():
        return _compose(layer, legend, mesh, surface, outlines, views, title, sentences, width, simulated)


def scalar_layer(
    values: PerHemisphere,
    mesh: str,
    *,
    mask: PerHemisphere | None,
    radius: float,
    quantity: str | None,
    cmap: str | None,
    vmin: float | None,
    vmax: float | None,
) -> tuple[Scalars, str]:
    """Check and spread values, choose their colors; returns the layer and which ends of the bar are cut."""
    checked = check_values(values, mesh)
    kept = _masked(checked, mask, mesh)
    shown = np.concatenate([kept[side][np.isfinite(kept[side])] for side in HEMISPHERES])
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 1.0)
    name = cmap or default_colormap(quantity)
    limits = nice_limits(low, high, vmin=vmin, vmax=vmax, quantity=quantity)
    below, above = bool((shown < limits[0]).any()), bool((shown > limits[1]).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    reach = {side: Reach.make(np.isfinite(checked[side]), mesh, side, radius) for side in HEMISPHERES}
    return Scalars(kept, reach, color_map(name), limits), extend[below, above]


def category_layer(
    winner: PerHemisphere, names: Sequence[str], mesh: str, *, mask: PerHemisphere | None, radius: float
) -> Categories:
    """Check and spread the indices of categories, and give each its color."""
    from matplotlib.colors import to_rgb

    floats = {
        side: np.where(np.nan_to_num(np.asarray(part, dtype=float), nan=-1) < 0, np.nan, part)
        for side, part in winner.items()
    }
    checked = check_values(floats, mesh)
    top = max((np.nanmax(part) for part in checked.values() if np.isfinite(part).any()), default=-1)
    if top >= len(names):
        raise InputError(
            "a winning band has no name",
            given=f"index {int(top)} with {len(names)} names",
            expected=f"indices 0 to {len(names) - 1}, -1 where there is no voxel",
        )
    # The nearest voxel is looked for among all of them, so that a masked one keeps its ground.
    reach = {side: Reach.make(np.isfinite(checked[side]), mesh, side, radius) for side in HEMISPHERES}
    shown = _masked(checked, mask, mesh)
    indices = {side: np.nan_to_num(part, nan=-1).astype(int) for side, part in shown.items()}
    return Categories(indices, reach, np.array([to_rgb(color) for color in band_colors(names).values()]))


def spread_note(radius: float) -> str:
    """Say how values were spread for display."""
    if radius <= 0:
        return "Colors: vertices with a voxel."
    return f"Colors reach up to {radius:g} mm along the cortex from the nearest voxel (display only)."


def mask_note(mask: PerHemisphere | None) -> str:
    """Say what pale vertices are."""
    return "" if mask is None else "Pale: measured, not significant."


def check_outlines(outlines: Outlines | None, mesh: str) -> dict[str, dict[str, np.ndarray]]:
    """Check the masks of areas, and return them as booleans."""
    return {
        name: {side: part > 0 for side, part in check_values(member, mesh).items()}
        for name, member in (outlines or {}).items()
    }


def _masked(values: PerHemisphere, mask: PerHemisphere | None, mesh: str) -> dict[str, np.ndarray]:
    if mask is None:
        return dict(values)
    kept = check_values(mask, mesh)
    return {side: np.where(kept[side] > 0, values[side], np.nan) for side in HEMISPHERES}


def _compose(
    layer: Scalars | Categories,
    legend: tuple[str, Any],
    mesh: str,
    surface: str,
    outlines: Outlines | None,
    views: Sequence[str],
    title: str | None,
    sentences: Sequence[str | None],
    width: str | float,
    simulated: bool,
) -> Figure:
    if not views:
        raise InputError("a figure of the cortex needs a view", given="none", expected="e.g. ('lateral',)")
    grid = [[View.make(load_mesh(mesh, surface, side), side, name) for name in views] for side in HEMISPHERES]
    areas = check_outlines(outlines, mesh)
    full = width_mm(width)
    extent = np.array([[view.size for view in row] for row in grid])
    columns, rows = extent[..., 0].max(axis=0), extent[..., 1].max(axis=1)
    scale = (full - LEFT - 1.5 - _GAP * (len(views) - 1)) / columns.sum()
    top = 9.5 if title or simulated else 5.0
    body = rows.sum() * scale + _GAP
    foot = top + body + 2.5
    figure = figure_with_foot(full, foot, sentences, simulated)
    if title:
        text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
    y = top
    for row, side in zip(range(2), HEMISPHERES, strict=True):
        text_mm(figure, 1.5, y + rows[row] * scale / 2, side[0].upper(), fontsize=8, va="center", color=GRAY)
        x = LEFT
        for column, view in enumerate(grid[row]):
            w, h = view.size[0] * scale, view.size[1] * scale
            dx, dy = (columns[column] * scale - w) / 2, (rows[row] * scale - h) / 2
            axes = axes_mm(figure, x + dx, y + dy, w, h)
            if row == 0:
                center = x + columns[column] * scale / 2
                text_mm(figure, center, top - 4, view.name, ha="center", fontsize=7, color=GRAY)
            draw_view(axes, view, view.render(layer, scale))
            view.look_for(areas)
            draw_outlines(axes, view, areas)
            x += columns[column] * scale + _GAP
        draw_best_names(figure, grid[row])
        y += rows[row] * scale + _GAP
    draw_foot(figure, foot, layer, legend, sentences)
    return figure


def draw_best_names(figure: Figure, row: Sequence[View]) -> None:
    """Write the name of each area into the view that shows most of it."""
    axes = figure.axes[-len(row) :]
    best: dict[str, int] = {}
    for index, view in enumerate(row):
        for name, (pixels, _) in view.areas.items():
            if name not in best or pixels > row[best[name]].areas[name][0]:
                best[name] = index
    for index, view in enumerate(row):
        draw_names(axes[index], view, [name for name, where in best.items() if where == index])
