"""Maps on the flattened cortex, both hemispheres side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import UnknownNameError
from neurorecon.figures.colors import GRAY, INK, band_label, quantity_note
from neurorecon.figures.foot import LEFT, draw_foot, figure_with_foot
from neurorecon.figures.mesh import HEMISPHERES, load_mesh
from neurorecon.figures.paint import Categories, Scalars, View, draw_names, draw_outlines, draw_view
from neurorecon.figures.render import rasterize
from neurorecon.figures.style import axes_mm, journal_style, text_mm, width_mm
from neurorecon.figures.surface import (
    Outlines,
    PerHemisphere,
    category_layer,
    check_outlines,
    mask_note,
    scalar_layer,
    spread_note,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What part of the flat map is shown.
ZOOMS = ("data", "hemisphere")

#: Between the hemispheres (mm of paper), around the data (mm of cortex), width over height of a cropped
#: panel.
_GAP, _MARGIN, _ASPECT = 4.2, 8.0, 0.82

#: Size of the key to the whole hemisphere, as a fraction of the panel.
_KEY = 0.16
_KEY_PIXELS = 160


def flat(
    values: PerHemisphere,
    *,
    label: str,
    mesh: str = "fsaverage5",
    quantity: str | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    mask: PerHemisphere | None = None,
    outlines: Outlines | None = None,
    zoom: str = "data",
    title: str | None = None,
    note: str | None = None,
    radius: float = 3.0,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Show a map on the flattened cortex.

    Parameters
    ----------
    values : mapping of {"left", "right"} to array, shape (vertex,)
        NaN where there is no voxel.
    label : str
        Of the color bar: the quantity and its unit.
    zoom : {"data", "hemisphere"}
        The part around the voxels and areas, or all of it.
    mesh, quantity, cmap, vmin, vmax, mask, outlines, title, note, radius, width, simulated
        As in :func:`neurorecon.figures.cortex`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    layer, extend = scalar_layer(
        values, mesh, mask=mask, radius=radius, quantity=quantity, cmap=cmap, vmin=vmin, vmax=vmax
    )
    sentences = (quantity_note(quantity), note, spread_note(radius), mask_note(mask))
    with journal_style():
        return _compose(layer, (label, extend), mesh, outlines, zoom, title, sentences, width, simulated)


def flat_bands(
    winner: PerHemisphere,
    names: Sequence[str],
    *,
    label: str = "Band with the largest split R²",
    mesh: str = "fsaverage5",
    quantity: str | None = "encoding",
    mask: PerHemisphere | None = None,
    outlines: Outlines | None = None,
    zoom: str = "data",
    title: str | None = None,
    note: str | None = None,
    radius: float = 3.0,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Show on the flattened cortex which band wins.

    Parameters
    ----------
    winner : mapping of {"left", "right"} to array, shape (vertex,)
        Index into `names`; -1 or NaN where there is no voxel.
    names : sequence of str
        Bands.
    label, mesh, quantity, mask, outlines, zoom, title, note, radius, width, simulated
        As in :func:`flat` and :func:`neurorecon.figures.cortex_bands`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    layer = category_layer(winner, names, mesh, mask=mask, radius=radius)
    sentences = (quantity_note(quantity), note, spread_note(radius), mask_note(mask))
    legend = (label, tuple(map(band_label, names)))
    with journal_style():
        return _compose(layer, legend, mesh, outlines, zoom, title, sentences, width, simulated)


def _compose(
    layer: Scalars | Categories,
    legend: tuple[str, Any],
    mesh: str,
    outlines: Outlines | None,
    zoom: str,
    title: str | None,
    sentences: Sequence[str | None],
    width: str | float,
    simulated: bool,
) -> Figure:
    if zoom not in ZOOMS:
        raise UnknownNameError("zoom", zoom, ZOOMS)
    areas = check_outlines(outlines, mesh)
    views = [View.make(load_mesh(mesh, "flat", side), side, "flat") for side in HEMISPHERES]
    whole = [view.box for view in views]
    if zoom == "data":
        _crop(views, layer, areas)
    full = width_mm(width)
    widths, heights = np.array([view.size for view in views]).T
    scale = (full - LEFT - 2 - _GAP) / widths.sum()
    top = 9.5 if title or simulated else 5.0
    foot = top + heights.max() * scale + 3.0
    figure = figure_with_foot(full, foot, sentences, simulated)
    if title:
        text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
    x = LEFT
    for view, box in zip(views, whole, strict=True):
        axes = axes_mm(figure, x, top, view.size[0] * scale, heights.max() * scale)
        draw_view(axes, view, view.render(layer, scale))
        view.look_for(areas)
        draw_outlines(axes, view, areas)
        draw_names(axes, view, list(view.areas), size=6.0)
        center = x + view.size[0] * scale / 2
        text_mm(figure, center, top - 4, f"{view.hemisphere} hemisphere", ha="center", fontsize=7, color=GRAY)
        if zoom == "data":
            _key(axes, view, box)
        x += view.size[0] * scale + _GAP
    _scale_bar(figure.axes[0], views[0])
    draw_foot(figure, foot, layer, legend, sentences)
    return figure


def _crop(views: Sequence[View], layer: Scalars | Categories, areas: Outlines) -> None:
    """Show the same extent of both hemispheres: as much as the larger needs."""
    boxes = []
    for view in views:
        used = layer.reach[view.hemisphere].distance == 0
        for member in areas.values():
            used = used | member[view.hemisphere]
        used[np.setdiff1d(np.arange(len(used)), view.mesh.faces)] = False
        points = view.points[used, :2] if used.any() else view.points[np.unique(view.mesh.faces), :2]
        boxes.append((points.min(axis=0), points.max(axis=0)))
    half = np.max([(high - low) / 2 for low, high in boxes], axis=0) + _MARGIN
    # A tall crop would fill the page: the width grows until the figure is a landscape.
    half[0] = max(half[0], half[1] * _ASPECT)
    for view, (low, high) in zip(views, boxes, strict=True):
        # The occipital side of a flat map lies towards the middle of the figure; what is added lies outside.
        inner = high[0] + _MARGIN if view.hemisphere == "left" else low[0] - _MARGIN
        left = min(inner, view.box[1] + 2) - 2 * half[0] if view.hemisphere == "left" else max(inner, view.box[0] - 2)
        middle = (low[1] + high[1]) / 2
        view.box = (left, left + 2 * half[0], middle - half[1], middle + half[1])


def _silhouette(view: View, whole: tuple[float, float, float, float]) -> np.ndarray:
    """Return the hemisphere in gray on nothing, RGBA; as lines it would be the heaviest part of the file."""
    per_unit = _KEY_PIXELS / max(whole[1] - whole[0], whole[3] - whole[2])
    shape = tuple(int(np.ceil(extent * per_unit)) for extent in (whole[3] - whole[2], whole[1] - whole[0]))
    x, y = (view.points[:, 0] - whole[0]) * per_unit, (whole[3] - view.points[:, 1]) * per_unit
    seen = rasterize(np.column_stack([x, y, view.points[:, 2]]), view.mesh.faces, (shape[0], shape[1]))
    picture = np.zeros((*shape, 4), dtype=np.float32)
    picture[..., :3], picture[..., 3] = 0.77, np.isfinite(seen.depth)
    return picture


def _key(axes: Axes, view: View, whole: tuple[float, float, float, float]) -> None:
    """Draw the whole hemisphere as a small silhouette with the part that is shown."""
    from matplotlib.patches import Rectangle

    key = axes.inset_axes((*_free_corner(view), _KEY, _KEY), zorder=3)
    key.imshow(_silhouette(view, whole), extent=whole, interpolation="antialiased", interpolation_stage="rgba")
    left, right, low, high = view.box
    key.add_patch(
        Rectangle((left, low), right - left, high - low, fill=False, edgecolor=INK, linewidth=0.5, clip_on=False)
    )
    key.set_xlim(min(whole[0], left) - 4, max(whole[1], right) + 4)
    key.set_ylim(min(whole[2], low) - 4, max(whole[3], high) + 4)
    key.set_aspect("equal")
    key.set_facecolor("white")
    key.set_xticks([])
    key.set_yticks([])
    for spine in key.spines.values():
        spine.set_visible(False)


def _free_corner(view: View) -> tuple[float, float]:
    """Return the corner of the panel, as a fraction of it, where fewest values would be hidden."""
    assert view.shown is not None
    rows, columns = (int(np.ceil(extent * _KEY)) for extent in view.shown.shape)
    # The outer upper corner first: the one that the areas of vision leave free, and the scale bar too.
    outer, inner = (0.0, 1 - _KEY) if view.hemisphere == "left" else (1 - _KEY, 0.0)
    parts = {0.0: slice(0, columns), 1 - _KEY: slice(-columns, None)}
    hidden = {
        (outer, 1 - _KEY): view.shown[:rows, parts[outer]],
        (inner, 0.0): view.shown[-rows:, parts[inner]],
        (inner, 1 - _KEY): view.shown[:rows, parts[inner]],
    }
    return min(hidden, key=lambda corner: int(hidden[corner].sum()))


def _scale_bar(axes: Axes, view: View) -> None:
    left, _, low, _ = view.box
    unit = view.size[1] / 60
    x, y = left + 1.5 * unit, low + 1.5 * unit
    axes.plot([x, x + 20], [y] * 2, color=INK, linewidth=0.8, solid_capstyle="butt", zorder=7)
    axes.text(x, y + 0.6 * unit, "2 cm of flat map", fontsize=6, ha="left", va="bottom", color=INK, zorder=7)
