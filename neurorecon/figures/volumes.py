"""Maps of volumes: slices, and an interactive viewer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.paint import Scalars
from neurorecon.figures.style import (
    GRAY,
    SIGNED,
    axes_mm,
    color_map,
    default_colormap,
    journal_style,
    nice_limits,
    quantity_note,
    text_mm,
    width_mm,
)
from neurorecon.figures.surface import draw_foot, figure_with_foot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Index of each slicing axis (0 right, 1 anterior, 2 superior), and of the axes that run right and up in its slices.
AXES = {"x": (0, 1, 2), "y": (1, 0, 2), "z": (2, 0, 1)}

_GAP = 1.5


def volume(
    image: Any,
    affine: np.ndarray | None = None,
    *,
    label: str,
    background: Any = None,
    quantity: str | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    mask: np.ndarray | None = None,
    axis: str = "z",
    slices: int = 12,
    per_line: int = 6,
    title: str | None = None,
    note: str | None = None,
    width: str | float = "double",
    simulated: bool = False,
) -> Figure:
    """Plot slices of a volume.

    Parameters
    ----------
    image : Nifti1Image, path, or array, shape (x, y, z)
        Map to plot, NaN where there is no voxel. It may have a single slice.
    affine : array, shape (4, 4), optional
        From voxel indices to millimeters; required if `image` is an array.
    label : str
        Label of the color bar: the quantity and its unit.
    background : Nifti1Image, path, or array, shape (x, y, z), optional
        An anatomical or mean functional image on the same grid, shown in gray.
    quantity, cmap, vmin, vmax, title, note, width, simulated
        As in :func:`neurorecon.figures.cortex`.
    mask : array of bool, shape (x, y, z), optional
        Voxels whose values are shown, e.g. the significant ones; the others are painted in a pale color.
    axis : {"x", "y", "z"}
        Axis perpendicular to the slices.
    slices : int
        Maximum number of slices.
    per_line : int
        Number of slices per row.

    Returns
    -------
    matplotlib.figure.Figure
        Neurological convention: the left side of the brain is on the left.

    Raises
    ------
    UnknownNameError
        If `axis` is unknown.
    InputError
        If an array has no affine, the map is not three-dimensional, or `background` or `mask` has another shape.
    """
    if axis not in AXES:
        raise UnknownNameError("axis", axis, AXES)
    values, matrix = _canonical(image, affine)
    under = None if background is None else _canonical(background, matrix if affine is not None else None)[0]
    keep = None if mask is None else _canonical(np.asarray(mask, dtype=float), _affine(image, affine))[0] > 0
    for name, other in (("background", under), ("mask", keep)):
        if other is not None and other.shape != values.shape:
            raise InputError(
                f"the {name} and the map have different grids",
                given=f"shape {other.shape}",
                expected=f"shape {values.shape}",
                todo="resample it first, e.g. with nilearn.image.resample_to_img",
            )
    present = np.isfinite(values)
    shown = values[present if keep is None else present & keep]
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 1.0)
    limits = nice_limits(low, high, vmin=vmin, vmax=vmax, quantity=quantity)
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
        int((shown < limits[0]).any()), int((shown > limits[1]).any())
    ]
    layer = Scalars({}, {}, color_map(cmap or default_colormap(quantity)), limits)
    images = _paint(values, present, keep, under, layer)
    pale = "" if mask is None else "Pale: measured, not significant."
    sentences = (quantity_note(quantity), note, f"{pale} Left is left.".strip())
    with journal_style():
        return _mosaic(
            images,
            present,
            matrix,
            axis,
            slices,
            per_line,
            layer,
            (label, extend),
            title,
            sentences,
            width,
            simulated,
        )


def _affine(image: Any, affine: np.ndarray | None) -> np.ndarray:
    if affine is not None:
        return np.asarray(affine, dtype=float)
    if hasattr(image, "affine"):
        return np.asarray(image.affine, dtype=float)
    raise InputError("a volume given as an array needs an affine", given="no affine", expected="affine=, shape (4, 4)")


def _canonical(image: Any, affine: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the data in RAS orientation, and their affine."""
    import nibabel

    if isinstance(image, str) or hasattr(image, "__fspath__"):
        image = nibabel.load(image)
    if not hasattr(image, "affine"):
        data = np.asarray(image, dtype=float)
        if data.ndim != 3:
            raise InputError("the array is not a volume", given=f"shape {data.shape}", expected="three axes (x, y, z)")
        image = nibabel.Nifti1Image(data, _affine(image, affine))
    if len(image.shape) != 3:
        raise InputError("the image is not a single map", given=f"shape {image.shape}", expected="three axes (x, y, z)")
    turned = nibabel.as_closest_canonical(image)
    return np.asarray(turned.get_fdata(), dtype=float), np.asarray(turned.affine)


def _paint(
    values: np.ndarray, present: np.ndarray, keep: np.ndarray | None, under: np.ndarray | None, layer: Scalars
) -> np.ndarray:
    """Return RGBA, shape (x, y, z, 4)."""
    image = np.ones((*values.shape, 4))
    image[..., 3] = 0.0
    if under is not None:
        inside = np.isfinite(under)
        low, high = np.percentile(under[inside & (under != 0)], [2, 98]) if (inside & (under != 0)).any() else (0, 1)
        gray = np.clip((under - low) / max(high - low, 1e-12), 0, 1)
        image[..., :3] = 0.15 + 0.7 * np.nan_to_num(gray)[..., None]
        image[..., 3] = inside & (under != 0)
    image[present] = (0.90, 0.89, 0.86, 1.0)
    shown = present if keep is None else present & keep
    low, high = layer.limits
    image[shown] = layer.colormap(np.clip((values[shown] - low) / (high - low), 0, 1))
    return image


def _mosaic(
    images: np.ndarray,
    present: np.ndarray,
    affine: np.ndarray,
    axis: str,
    slices: int,
    per_line: int,
    layer: Scalars,
    legend: tuple[str, str],
    title: str | None,
    sentences: tuple[str | None, ...],
    width: str | float,
    simulated: bool,
) -> Figure:
    through, across, upward = AXES[axis]
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    drawn = images[..., 3] > 0
    first, last = _extent(drawn, across), _extent(drawn, upward)
    chosen = _choose_slices(np.asarray(present.any(axis=(across, upward))), slices)
    columns = min(per_line, len(chosen))
    lines = -(-len(chosen) // columns)
    tall = (last[1] - last[0]) * sizes[upward] / ((first[1] - first[0]) * sizes[across])
    full = width_mm(width)
    wide = min((full - 3 - _GAP * (columns - 1)) / columns, 48.0, 60.0 / tall)
    top = 7.0 if title or simulated else 2.0
    step = wide * tall + 4.0
    foot = top + lines * step + 1.5
    figure = figure_with_foot(full, foot, sentences, simulated)
    if title:
        text_mm(figure, 1.5, 1.2, title, fontsize=8, weight="bold")
    for number, index in enumerate(chosen):
        x, y = 1.5 + (number % columns) * (wide + _GAP), top + (number // columns) * step
        part = np.take(images, index, axis=through)[first[0] : first[1], last[0] : last[1]]
        axes = axes_mm(figure, x, y + 3.2, wide, wide * tall)
        axes.imshow(part.transpose(1, 0, 2), origin="lower", interpolation="nearest", aspect="auto")
        axes.axis("off")
        place = affine[through, through] * index + affine[through, 3]
        text_mm(figure, x + wide / 2, y + 0.2, f"{axis} = {place:.0f} mm".replace("-", "−"), ha="center",
                fontsize=6, color=GRAY)  # fmt: skip
        if number == 0 and axis != "x":
            text_mm(figure, x, y + 0.2, "L", fontsize=6, color=GRAY)
            text_mm(figure, x + wide, y + 0.2, "R", fontsize=6, color=GRAY, ha="right")
    draw_foot(figure, foot, layer, legend, sentences)
    return figure


def _extent(drawn: np.ndarray, along: int) -> tuple[int, int]:
    """Return the range of indices that contain anything to draw, plus a margin of one voxel."""
    used = np.flatnonzero(drawn.any(axis=tuple(other for other in range(3) if other != along)))
    if not len(used):
        return 0, drawn.shape[along]
    return max(int(used[0]) - 1, 0), min(int(used[-1]) + 2, drawn.shape[along])


def _choose_slices(used: np.ndarray, count: int) -> list[int]:
    """Choose evenly spaced slices among those that contain values."""
    candidates = np.flatnonzero(used)
    if not len(candidates):
        candidates = np.arange(len(used))
    places = np.unique(np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int))
    return [int(index) for index in candidates[places]]


def interactive_volume(
    image: Any,
    affine: np.ndarray | None = None,
    *,
    label: str,
    background: Any = None,
    quantity: str | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    title: str = "Map",
    note: str | None = None,
    simulated: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Create an HTML page with an interactive viewer of a volume.

    Parameters
    ----------
    image, affine, label, background, quantity, cmap, vmin, vmax, simulated
        As in :func:`volume`.
    title, note : str, optional
        Heading of the page, and a sentence below the map.
    provenance : mapping, optional
        Provenance record, shown on request and read by :func:`neurorecon.figures.read_provenance`.

    Returns
    -------
    str
        Self-contained HTML around nilearn's viewer. Its content security policy blocks all network requests.
    """
    import nibabel
    from nilearn.plotting import view_img

    from neurorecon.figures.viewer import render, script_json
    from neurorecon.provenance import to_json

    values, matrix = _canonical(image, affine)
    shown = values[np.isfinite(values)]
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 1.0)
    limits = nice_limits(low, high, vmin=vmin, vmax=vmax, quantity=quantity)
    under: Any = False
    if background is not None:
        data, grid = _canonical(background, matrix if affine is not None else None)
        under = nibabel.Nifti1Image(np.nan_to_num(data).astype(np.float32), grid)
    # The viewer knows no missing values: they become zero, which lies below its threshold.
    filled = nibabel.Nifti1Image(np.nan_to_num(values).astype(np.float32), matrix)
    view = view_img(
        filled, bg_img=under, cmap=color_map(cmap or default_colormap(quantity)), vmin=limits[0],
        vmax=limits[1], symmetric_cmap=quantity in SIGNED, threshold=1e-12, black_bg=False,
        resampling_interpolation="nearest",
        width_view=900, opacity=1,
    )  # fmt: skip
    simulated = simulated or bool((provenance or {}).get("simulated"))
    return render(
        "volume.html",
        title=title,
        label=label,
        note=". ".join(text for text in (quantity_note(quantity), note) if text),
        simulated=simulated,
        # nilearn's page loads an icon from the network; ours must work offline.
        viewer=re.sub(r"<link\b[^>]*>", "", view.get_standalone()),
        provenance=to_json(provenance, indent=2) if provenance else None,
        record=script_json(to_json(provenance)) if provenance else None,
    )
