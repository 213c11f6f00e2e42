"""Painting one view of one hemisphere: sulci, values over them, outlines and names of areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.figures.colors import INK
from neurorecon.figures.labels import place_labels
from neurorecon.figures.mesh import Mesh, nearest_source, outline
from neurorecon.figures.render import Raster, rasterize, shade, sulcal_gray, vertex_normals, view_axes
from neurorecon.figures.style import text_size_mm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Pixels per inch of the painted brain. In a PNG of 300 dpi each pixel is the mean of several, which smooths
#: edges; large panels take fewer, as many as keep a figure quick to draw.
FINEST, COARSEST, MOST_PIXELS = 350, 300, 0.8e6

#: Names are placed on a grid of this many millimeters, at most this far outside the panel.
CELL, MARGIN = 0.25, 2.0

#: Pale color of vertices that carry a voxel which the mask leaves out.
LEFT_OUT = np.array([0.965, 0.955, 0.93])


@dataclass(frozen=True)
class Reach:
    """How far the values of one hemisphere reach.

    Parameters
    ----------
    nearest : array of int, shape (vertex,)
        The vertex whose value is shown here, -1 for none.
    distance : array, shape (vertex,)
        Millimeters to it.
    radius : float
        Where values end. The border runs between vertices, where the interpolated distance is the radius.
    """

    nearest: np.ndarray
    distance: np.ndarray
    radius: float

    @classmethod
    def make(cls, measured: np.ndarray, mesh: str, hemisphere: str, radius: float) -> Reach:
        """Look for the nearest measured vertex around each one."""
        if radius <= 0:
            indices = np.where(measured, np.arange(len(measured)), -1)
            return cls(indices, np.where(measured, 0.0, 1.0), 0.5)
        # A little further than the radius, so that the triangles across the border have three values.
        limit = radius + 9.0
        nearest, distance = nearest_source(measured, mesh, hemisphere, limit)
        return cls(nearest, np.where(np.isfinite(distance), distance, limit), radius)

    def covers(self, raster: Raster, faces: np.ndarray) -> np.ndarray:
        """Return the pixels (pixel,) within reach."""
        return raster.interpolate(self.distance, faces) <= self.radius

    def take(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Return values (vertex,) or (vertex, map) of the nearest measured vertex, else `fill`."""
        found = (self.nearest >= 0).reshape(-1, *[1] * (values.ndim - 1))
        return np.where(found, values[np.maximum(self.nearest, 0)], fill)


@dataclass(frozen=True)
class Scalars:
    """Values to be shown through a color map.

    Parameters
    ----------
    values : mapping of str to array, shape (vertex,)
        Per hemisphere, NaN where nothing is shown.
    reach : mapping of str to Reach
        Per hemisphere, from all vertices that carry a voxel, shown or not.
    colormap : callable
        Numbers in [0, 1] to RGBA.
    limits : (float, float)
        Ends of the color scale.
    """

    values: Mapping[str, np.ndarray]
    reach: Mapping[str, Reach]
    colormap: Any
    limits: tuple[float, float]

    def paint(self, raster: Raster, faces: np.ndarray, hemisphere: str) -> tuple[np.ndarray, np.ndarray]:
        """Return colors (pixel, 3) and where they are shown (pixel,)."""
        reach, values = self.reach[hemisphere], self.values[hemisphere]
        valid = np.isfinite(values)
        weight = raster.interpolate(reach.take(valid.astype(float), 0.0), faces)
        total = raster.interpolate(reach.take(np.where(valid, values, 0.0), 0.0), faces)
        # Corners without a value do not drag the color towards zero: the mean runs over those that have one.
        mean = total / np.maximum(weight, 1e-9)
        low, high = self.limits
        # A map of one value has one color.
        colors = self.colormap(np.clip((mean - low) / max(high - low, 1e-12), 0, 1))[:, :3]
        return colors, _majority(reach, valid, weight, raster, faces)


@dataclass(frozen=True)
class Categories:
    """One of several categories per vertex, each with its own color.

    Parameters
    ----------
    values : mapping of str to array of int, shape (vertex,)
        Index of the category, -1 where nothing is shown.
    reach : mapping of str to Reach
        Per hemisphere, from all vertices that carry a voxel, shown or not.
    colors : array, shape (category, 3)
        RGB in [0, 1].
    """

    values: Mapping[str, np.ndarray]
    reach: Mapping[str, Reach]
    colors: np.ndarray

    def paint(self, raster: Raster, faces: np.ndarray, hemisphere: str) -> tuple[np.ndarray, np.ndarray]:
        """Return colors (pixel, 3) and where they are shown (pixel,)."""
        reach, values = self.reach[hemisphere], self.values[hemisphere]
        one_hot = (values[:, None] == np.arange(len(self.colors))).astype(float)
        weight = raster.interpolate(reach.take(one_hot, 0.0), faces)
        shown = _majority(reach, values >= 0, weight.sum(axis=1), raster, faces)
        return self.colors[weight.argmax(axis=1)], shown


def _majority(reach: Reach, valid: np.ndarray, weight: np.ndarray, raster: Raster, faces: np.ndarray) -> np.ndarray:
    """Return the pixels where more of the reachable corners are shown than are not."""
    reachable = raster.interpolate((reach.nearest >= 0).astype(float), faces)
    return weight > 0.5 * np.maximum(reachable, 1e-9)


#: Rasters of the views drawn last, about 30 MB each at most.
_RASTERS: dict[tuple, tuple[Mesh, Raster]] = {}
_MOST_RASTERS = 16


@dataclass
class View:
    """One view of one hemisphere: geometry in the plane of the picture, and what is seen.

    Parameters
    ----------
    hemisphere, name : str
        Which side, from where.
    mesh : Mesh
        The surface.
    points : array, shape (vertex, 3)
        Right, up, towards the viewer.
    box : (left, right, low, high)
        What part is shown, in the units of the mesh.
    """

    hemisphere: str
    name: str
    mesh: Mesh
    points: np.ndarray
    box: tuple[float, float, float, float]
    raster: Raster | None = None
    shown: np.ndarray | None = None
    facing: np.ndarray | None = None
    per_unit: float = 1.0
    areas: dict[str, tuple[float, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def make(cls, mesh: Mesh, hemisphere: str, name: str) -> View:
        """Look at a mesh; the box holds all of it."""
        points = mesh.coordinates @ view_axes(name, hemisphere).T
        used = points[np.unique(mesh.faces)]
        low, high = used[:, :2].min(axis=0), used[:, :2].max(axis=0)
        return cls(hemisphere, name, mesh, points, (low[0], high[0], low[1], high[1]))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box."""
        return self.box[1] - self.box[0], self.box[3] - self.box[2]

    def render(self, layer: Scalars | Categories, millimeters_per_unit: float) -> np.ndarray:
        """Paint the hemisphere; returns RGBA, shape (y, x, 4)."""
        square_inches = self.size[0] * self.size[1] * (millimeters_per_unit / 25.4) ** 2
        resolution = np.clip((MOST_PIXELS / square_inches) ** 0.5, COARSEST, FINEST)
        self.per_unit = millimeters_per_unit / 25.4 * float(resolution)
        shape = tuple(max(int(np.ceil(extent * self.per_unit)), 1) for extent in self.size[::-1])
        # A set of maps shows the same views again and again; which face a pixel shows is found once.
        key = (id(self.mesh), self.hemisphere, self.name, self.box, self.per_unit, shape)
        if key not in _RASTERS:
            if len(_RASTERS) >= _MOST_RASTERS:
                _RASTERS.pop(next(iter(_RASTERS)))
            found = rasterize(self.to_pixels(self.points), self.mesh.faces, (shape[0], shape[1]))
            _RASTERS[key] = (self.mesh, found)  # the mesh is kept, so that its id stays its own
        self.raster = raster = _RASTERS[key][1]
        faces = self.mesh.faces
        gray = sulcal_gray(raster.interpolate(self.mesh.sulcal, faces))
        picture = np.repeat(gray[:, None], 3, axis=1)
        covered = layer.reach[self.hemisphere].covers(raster, faces)
        picture[covered] = 0.35 * picture[covered] + 0.65 * LEFT_OUT
        colors, shown = layer.paint(raster, faces, self.hemisphere)
        shown &= covered
        self.shown = raster.picture(shown, background=False)
        if self.name != "flat":
            facing = self._facing(raster)
            self.facing = raster.picture(facing)
            picture *= shade(facing, 0.35)[:, None]
            # Values are hardly shaded: their color has to be found in the color bar.
            colors = colors * shade(facing, 0.10)[:, None]
        picture[shown] = colors[shown]
        return raster.picture(np.column_stack([picture, np.ones(len(picture))]).astype(np.float32))

    def _facing(self, raster: Raster) -> np.ndarray:
        axes = view_axes(self.name, self.hemisphere)
        normals = vertex_normals(self.mesh.coordinates, self.mesh.faces) @ axes[2]
        return raster.interpolate(normals, self.mesh.faces)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Turn positions of the view (point, 3) into pixels; y runs downwards."""
        left, _, _, high = self.box
        x, y = (points[:, 0] - left) * self.per_unit, (high - points[:, 1]) * self.per_unit
        return np.stack([x, y, points[:, 2]], axis=1)

    def visible_lines(self, member: np.ndarray) -> list[np.ndarray]:
        """Return the visible parts of the border of a set of vertices, arrays (point, 2) in mesh units."""
        lines = []
        for line in outline(member, self.mesh.faces, self.points):
            seen = self._visible(line)
            for part in np.split(np.arange(len(line)), np.flatnonzero(np.diff(seen)) + 1):
                if seen[part[0]] and len(part) > 2:
                    lines.append(line[part, :2])
        return lines

    def _visible(self, points: np.ndarray) -> np.ndarray:
        assert self.raster is not None
        pixels = self.to_pixels(points)
        rows, columns = self.raster.shape
        column, row = np.floor(pixels[:, 0]).astype(int), np.floor(pixels[:, 1]).astype(int)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        row, column = row.clip(0, rows - 1), column.clip(0, columns - 1)
        depth = self.raster.depth[row, column]
        if self.facing is not None:
            # At the rim a whole area shrinks to a stroke; lines there say nothing.
            inside &= self.facing[row, column] > 0.2
        # Smoothed lines leave the surface by a little, so a point may lie this far (mesh units) below it.
        return inside & np.isfinite(depth) & (points[:, 2] > depth - 2.5)

    def look_for(self, outlines: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Measure how much of each area is seen: square mesh units, and the place for its name."""
        assert self.raster is not None
        pixels = np.bincount(self.raster.face, minlength=len(self.mesh.faces))
        middle = self.points[self.mesh.faces].mean(axis=1)[:, :2]
        for area, member in outlines.items():
            inside = member[self.hemisphere][self.mesh.faces].sum(axis=1) >= 2
            seen = np.where(inside, pixels, 0)
            if seen.sum():
                center = (middle * seen[:, None]).sum(axis=0) / seen.sum()
                distance = np.where(seen > 0, np.linalg.norm(middle - center, axis=1), np.inf)
                self.areas[area] = (seen.sum() / self.per_unit**2, middle[np.argmin(distance)])


def draw_view(axes: Axes, view: View, picture: np.ndarray) -> None:
    """Put a painted hemisphere into axes whose data units are those of the mesh."""
    left, _, _, high = view.box
    right = left + picture.shape[1] / view.per_unit
    low = high - picture.shape[0] / view.per_unit
    extent = (left, right, low, high)
    axes.imshow(picture, extent=extent, interpolation="antialiased", interpolation_stage="rgba")
    axes.set_xlim(view.box[0], view.box[1])
    axes.set_ylim(view.box[2], view.box[3])
    axes.set_aspect("auto")
    axes.axis("off")


def draw_outlines(axes: Axes, view: View, outlines: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draw the borders of areas: a dark line with a light one below, which shows on any color."""
    from matplotlib.collections import LineCollection

    lines = [
        line
        for member in outlines.values()
        if view.hemisphere in member
        for line in view.visible_lines(np.asarray(member[view.hemisphere], dtype=bool))
    ]
    for color, width, alpha in (("white", 1.1, 0.75), (INK, 0.45, 1.0)):
        axes.add_collection(
            LineCollection(lines, colors=color, linewidths=width, alpha=alpha, capstyle="round", joinstyle="round"),
            autolim=False,
        )


def draw_names(axes: Any, view: View, names: Sequence[str], size: float = 5.5) -> None:
    """Write the names of areas where they hide least, with a thin line home where that is not inside."""
    if not names or view.shown is None:
        return
    figure: Any = axes.figure
    width = axes.get_position().width * figure.get_size_inches()[0] * 25.4
    unit = view.size[0] / width
    corner = np.array([view.box[0] - MARGIN * unit, view.box[3] + MARGIN * unit])
    # Millimeters to the right of and below the upper left corner of the panel and its margin.
    anchors = np.abs(np.array([view.areas[name][1] for name in names]) - corner) / unit
    sizes = np.add([text_size_mm(figure, name, size) for name in names], (0.6, 0.1))
    areas = np.array([view.areas[name][0] for name in names]) / unit**2
    occupied = _coarse(view.shown, view.per_unit * unit)
    places = place_labels(anchors, sizes, areas, occupied, CELL)
    for name, anchor, place, box in zip(names, anchors, places, sizes, strict=True):
        here, home = corner + (place * (1, -1)) * unit, view.areas[name][1]
        if (np.abs(place - anchor) > box / 2 + 0.3).any():
            for color, line in (("white", 1.0), (INK, 0.4)):
                way = np.stack([home, here], axis=1)
                axes.plot(*way, color=color, linewidth=line, zorder=4, clip_on=False)
            axes.plot(*home, marker="o", markersize=1.6, color=INK, markeredgewidth=0.3,
                      markeredgecolor="white", zorder=5, clip_on=False)  # fmt: skip
        axes.text(
            *here, name, fontsize=size, color=INK, ha="center", va="center", zorder=6, clip_on=False,
            bbox={"boxstyle": "round,pad=0.1,rounding_size=0.25", "facecolor": "white", "alpha": 0.8,
                  "edgecolor": "none"},
        )  # fmt: skip


def _coarse(shown: np.ndarray, per_millimeter: float) -> np.ndarray:
    """Reduce a picture to cells of :data:`CELL` mm, with a margin of :data:`MARGIN` mm around."""
    edge = round(MARGIN / CELL)
    rows, columns = (int(np.ceil(extent / per_millimeter / CELL)) for extent in shown.shape)
    grid = np.zeros((rows + 2 * edge, columns + 2 * edge), dtype=bool)
    y, x = np.nonzero(shown)
    row, column = ((place / per_millimeter / CELL).astype(int) for place in (y, x))
    grid[edge + row, edge + column] = True
    return grid
