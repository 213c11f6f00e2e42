"""Surface maps: on the inflated cortex, and as flat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.mesh import HEMISPHERES, check_values, load_mesh
from neurorecon.figures.paint import Categories, Reach, Scalars, View, draw_names, draw_outlines, draw_view, rasterize
from neurorecon.figures.style import (
    GRAY,
    INK,
    axes_mm,
    band_colors,
    band_label,
    color_map,
    default_colormap,
    journal_style,
    new_figure,
    nice_limits,
    quantity_note,
    tag_simulated,
    text_mm,
    width_mm,
    wrap_mm,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Left edge of color bar and panels, in millimeters.
LEFT = 5.0

_NOTE_SIZE = 6.0

_LEGEND_WIDTH = 61.0


def figure_with_foot(full: float, foot: float, sentences: Sequence[str | None], simulated: bool) -> Figure:
    """Create a figure just tall enough for its foot, which starts `foot` millimeters from the top."""
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
    """Return the height (mm) of the foot: color bar or legend, and notes."""
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
    """Draw the color bar or legend, with the notes next to it (wide figures) or below it."""
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
    columns = 3 if max(map(len, names), default=0) <= 10 else 2  # the notes are next to it
    box = figure.legend(
        handles=handles, title=label, loc="upper left", ncols=min(len(names), columns), borderaxespad=0,
        borderpad=0, bbox_to_anchor=(LEFT / full[0], 1 - top / full[1]), handlelength=1.1, handleheight=0.9,
        columnspacing=1.4, handletextpad=0.5, alignment="left", labelspacing=0.35,
    )  # fmt: skip
    box.get_title().set_fontsize(7)


#: Parts of the flat map that can be shown.
ZOOMS = ("data", "hemisphere")

#: Gap between the hemispheres (mm on paper), margin around the data (mm of cortex), and minimum aspect ratio
#: (width / height) of a cropped panel.
_FLAT_GAP, _MARGIN, _ASPECT = 4.2, 8.0, 0.82

#: Size of the inset with the whole hemisphere, as a fraction of the panel.
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
    """Plot a map on the flattened cortex.

    Parameters
    ----------
    values : mapping of {"left", "right"} to array, shape (vertex,)
        Values, NaN where there is no voxel.
    label : str
        Label of the color bar: the quantity and its unit.
    zoom : {"data", "hemisphere"}
        Show only the part around the voxels and ROIs, or the whole hemisphere.
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
        return _compose_flat(layer, (label, extend), mesh, outlines, zoom, title, sentences, width, simulated)


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
    """Plot the winning band of each vertex on the flattened cortex.

    Parameters
    ----------
    winner : mapping of {"left", "right"} to array, shape (vertex,)
        Index into `names`; -1 or NaN where there is no voxel.
    names : sequence of str
        Names of the bands.
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
        return _compose_flat(layer, legend, mesh, outlines, zoom, title, sentences, width, simulated)


def _compose_flat(
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
    rois = check_outlines(outlines, mesh)
    views = [View.make(load_mesh(mesh, "flat", side), side, "flat") for side in HEMISPHERES]
    whole = [view.box for view in views]
    if zoom == "data":
        _crop(views, layer, rois)
    full = width_mm(width)
    widths, heights = np.array([view.size for view in views]).T
    scale = (full - LEFT - 2 - _FLAT_GAP) / widths.sum()
    top = 9.5 if title or simulated else 5.0
    foot = top + heights.max() * scale + 3.0
    figure = figure_with_foot(full, foot, sentences, simulated)
    if title:
        text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
    x = LEFT
    for view, box in zip(views, whole, strict=True):
        axes = axes_mm(figure, x, top, view.size[0] * scale, heights.max() * scale)
        draw_view(axes, view, view.render(layer, scale))
        view.look_for(rois)
        draw_outlines(axes, view, rois)
        draw_names(axes, view, list(view.rois), size=6.0)
        center = x + view.size[0] * scale / 2
        text_mm(figure, center, top - 4, f"{view.hemisphere} hemisphere", ha="center", fontsize=7, color=GRAY)
        if zoom == "data":
            _key(axes, view, box)
        x += view.size[0] * scale + _FLAT_GAP
    _scale_bar(figure.axes[0], views[0])
    draw_foot(figure, foot, layer, legend, sentences)
    return figure


def _crop(views: Sequence[View], layer: Scalars | Categories, rois: Outlines) -> None:
    """Crop both hemispheres to the same extent, that of the larger one."""
    boxes = []
    for view in views:
        used = layer.reach[view.hemisphere].distance == 0
        for member in rois.values():
            used = used | member[view.hemisphere]
        used[np.setdiff1d(np.arange(len(used)), view.mesh.faces)] = False
        points = view.points[used, :2] if used.any() else view.points[np.unique(view.mesh.faces), :2]
        boxes.append((points.min(axis=0), points.max(axis=0)))
    half = np.max([(high - low) / 2 for low, high in boxes], axis=0) + _MARGIN
    # A tall crop would fill the page, so widen it until the figure is in landscape format.
    half[0] = max(half[0], half[1] * _ASPECT)
    for view, (low, high) in zip(views, boxes, strict=True):
        # The occipital side of a flat map faces the middle of the figure; add the extra width on the outside.
        inner = high[0] + _MARGIN if view.hemisphere == "left" else low[0] - _MARGIN
        left = min(inner, view.box[1] + 2) - 2 * half[0] if view.hemisphere == "left" else max(inner, view.box[0] - 2)
        middle = (low[1] + high[1]) / 2
        view.box = (left, left + 2 * half[0], middle - half[1], middle + half[1])


def _silhouette(view: View, whole: tuple[float, float, float, float]) -> np.ndarray:
    """Return the gray silhouette of the hemisphere as RGBA; as vectors it would dominate the size of the file."""
    per_unit = _KEY_PIXELS / max(whole[1] - whole[0], whole[3] - whole[2])
    shape = tuple(int(np.ceil(extent * per_unit)) for extent in (whole[3] - whole[2], whole[1] - whole[0]))
    x, y = (view.points[:, 0] - whole[0]) * per_unit, (whole[3] - view.points[:, 1]) * per_unit
    seen = rasterize(np.column_stack([x, y, view.points[:, 2]]), view.mesh.faces, (shape[0], shape[1]))
    image = np.zeros((*shape, 4), dtype=np.float32)
    image[..., :3], image[..., 3] = 0.77, np.isfinite(seen.depth)
    return image


def _key(axes: Axes, view: View, whole: tuple[float, float, float, float]) -> None:
    """Draw an inset: the silhouette of the whole hemisphere, with a frame around the part that is shown."""
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
    """Return the corner of the panel, in axes fractions, where the inset hides the fewest values."""
    assert view.shown is not None
    rows, columns = (int(np.ceil(extent * _KEY)) for extent in view.shown.shape)
    # Prefer the upper outer corner, which is usually free of visual ROIs and of the scale bar.
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
    """Plot a map on the cortical surface, one row per hemisphere and one column per view.

    Parameters
    ----------
    values : mapping of {"left", "right"} to array, shape (vertex,)
        Values, NaN where there is no voxel.
    label : str
        Label of the color bar: the quantity and its unit.
    mesh : str
        Template surface, one of :data:`neurorecon.figures.mesh.MESHES`.
    surface : str
        Surface of the template, e.g. ``"inflated"`` or ``"pial"``.
    quantity : {"encoding", "decoding", "haufe"}, optional
        Quantity that the map shows; its description is written below the map. Weights and patterns get a diverging
        color map around zero.
    cmap, vmin, vmax : optional
        Color map and its limits. Default: chosen from the quantity and the data (0 to the 99th percentile).
    mask : mapping of {"left", "right"} to bool array, shape (vertex,), optional
        Vertices whose values are shown, e.g. the significant ones; the others are painted in a pale color.
    outlines : mapping of str to mapping of {"left", "right"} to bool array, optional
        ROIs. Their borders are drawn, and each name is written in the view that shows most of the ROI.
    views : sequence of str
        Views to plot, from :data:`neurorecon.figures.paint.VIEWS`.
    title, note : str, optional
        Text above and below the map.
    radius : float
        For display, values are spread to vertices without a voxel up to this distance (mm along the pial surface);
        a note says so. With 0, only vertices with a voxel are colored.
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
        If values, mask or outlines do not fit the mesh, or there is no view.
    UnknownNameError
        If a mesh, view, color map, quantity or width is unknown.
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
    """Plot the winning band of each vertex on the cortical surface.

    Parameters
    ----------
    winner : mapping of {"left", "right"} to array, shape (vertex,)
        Index into `names`; -1 or NaN where there is no voxel.
    names : sequence of str
        Names of the bands. Their colors are the same in all figures (:func:`neurorecon.figures.style.band_colors`).
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
    """Validate values and choose their colors; return the layer, and which ends of the color bar are extended."""
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
    """Validate category indices, and assign a color to each category."""
    from matplotlib.colors import to_rgb

    floats = {
        side: np.where(np.nan_to_num(np.asarray(part, dtype=float), nan=-1) < 0, np.nan, part)
        for side, part in winner.items()
    }
    checked = check_values(floats, mesh)
    top = max((np.nanmax(part) for part in checked.values() if np.isfinite(part).any()), default=-1)
    if top >= len(names):
        raise InputError(
            "the index of a band is out of range",
            given=f"index {int(top)} for {len(names)} bands",
            expected=f"indices 0 to {len(names) - 1}, -1 where there is no voxel",
        )
    # Search the nearest voxel among all voxels, so that others do not spread into masked ones.
    reach = {side: Reach.make(np.isfinite(checked[side]), mesh, side, radius) for side in HEMISPHERES}
    shown = _masked(checked, mask, mesh)
    indices = {side: np.nan_to_num(part, nan=-1).astype(int) for side, part in shown.items()}
    return Categories(indices, reach, np.array([to_rgb(color) for color in band_colors(names).values()]))


def spread_note(radius: float) -> str:
    """Return the note on how values were spread for display."""
    if radius <= 0:
        return "Only vertices with a voxel are colored."
    return f"For display, colors extend up to {radius:g} mm along the cortex from the nearest voxel."


def mask_note(mask: PerHemisphere | None) -> str:
    """Return the note on pale vertices."""
    return "" if mask is None else "Pale: measured, not significant."


def check_outlines(outlines: Outlines | None, mesh: str) -> dict[str, dict[str, np.ndarray]]:
    """Validate ROI masks, and return them as booleans."""
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
        raise InputError("a cortex figure needs at least one view", given="none", expected="e.g. ('lateral',)")
    grid = [[View.make(load_mesh(mesh, surface, side), side, name) for name in views] for side in HEMISPHERES]
    rois = check_outlines(outlines, mesh)
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
            view.look_for(rois)
            draw_outlines(axes, view, rois)
            x += columns[column] * scale + _GAP
        draw_best_names(figure, grid[row])
        y += rows[row] * scale + _GAP
    draw_foot(figure, foot, layer, legend, sentences)
    return figure


def draw_best_names(figure: Figure, row: Sequence[View]) -> None:
    """Write the name of each ROI in the view that shows most of it."""
    axes = figure.axes[-len(row) :]
    best: dict[str, int] = {}
    for index, view in enumerate(row):
        for name, (pixels, _) in view.rois.items():
            if name not in best or pixels > row[best[name]].rois[name][0]:
                best[name] = index
    for index, view in enumerate(row):
        draw_names(axes[index], view, [name for name, where in best.items() if where == index])
