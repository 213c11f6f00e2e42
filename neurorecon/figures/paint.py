"""Paint values on a rendered mesh, with outlines and labels of ROIs.

Values are interpolated per pixel before they are mapped to colors, so every color in the image is also in the color
bar. This is faster and cleaner than drawing 20,000 vector polygons: one hemisphere takes a few tenths of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import UnknownNameError
from neurorecon.figures.mesh import Mesh, nearest_source, outline
from neurorecon.figures.style import INK, text_size_mm

if TYPE_CHECKING:
    from matplotlib.axes import Axes


#: Directions (towards the viewer, up) for the left hemisphere; x is mirrored for the right one.
VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "lateral": ((-1, 0, 0), (0, 0, 1)),
    "medial": ((1, 0, 0), (0, 0, 1)),
    "ventral": ((0, 0, -1), (-1, 0, 0)),
    "dorsal": ((0, 0, 1), (1, 0, 0)),
    "posterior": ((0, -1, 0), (0, 0, 1)),
    "anterior": ((0, 1, 0), (0, 0, 1)),
    "flat": ((0, 0, 1), (0, 1, 0)),
}

#: Pairs of a face and a pixel of its bounding box that are looked at together.
_CANDIDATES = 2**16


@dataclass(frozen=True)
class Raster:
    """The face that each pixel shows, without the background pixels.

    Parameters
    ----------
    shape : (int, int)
        Size (y, x) of the image.
    pixel : array of int, shape (pixel,)
        Position of the pixel: row * width + column.
    face : array of int, shape (pixel,)
        Index of the face at the pixel.
    weights : array, shape (pixel, 3)
        Barycentric weights of the three corners.
    depth : array, shape (y, x)
        Depth towards the viewer, -inf for the background.
    """

    shape: tuple[int, int]
    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    depth: np.ndarray

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Interpolate vertex values (vertex,) or (vertex, map) to pixels (pixel,) or (pixel, map)."""
        result = 0.0
        for corner in range(3):
            weight = self.weights[:, corner]
            part = values[faces[self.face, corner]]
            result = result + part * (weight if values.ndim == 1 else weight[:, None])
        return np.asarray(result)

    def image(self, values: np.ndarray, background: float = 0.0) -> np.ndarray:
        """Put pixels (pixel, ...) into an image (y, x, ...)."""
        full = np.full((self.shape[0] * self.shape[1], *values.shape[1:]), background, dtype=values.dtype)
        full[self.pixel] = values
        return full.reshape(*self.shape, *values.shape[1:])


def view_axes(view: str, hemisphere: str) -> np.ndarray:
    """Return the axes of a view as rows: right, up, and towards the viewer."""
    if view not in VIEWS:
        raise UnknownNameError("view", view, VIEWS)
    toward, up = (np.array(axis, dtype=float) for axis in VIEWS[view])
    if hemisphere == "right" and view != "flat":
        toward[0], up[0] = -toward[0], -up[0]
    return np.array([np.cross(up, toward), up, toward])


def rasterize(points: np.ndarray, faces: np.ndarray, shape: tuple[int, int]) -> Raster:
    """Find the face that each pixel shows.

    Parameters
    ----------
    points : array, shape (vertex, 3)
        x (right) and y (*down*) in pixels, and depth towards the viewer.
    faces : array of int, shape (face, 3)
        Vertex indices; faces seen from behind are skipped.
    shape : (int, int)
        Size (y, x) of the image.

    Returns
    -------
    Raster
    """
    corners = points[faces]
    flat = corners[..., :2]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    low = np.maximum(np.ceil(flat.min(axis=1) - 0.5), 0).astype(np.int64)
    high = np.minimum(np.floor(flat.max(axis=1) - 0.5), (shape[1] - 1, shape[0] - 1)).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    # y points down, so a face that is counterclockwise in space has a negative area here.
    kept = np.flatnonzero((area < 0) & (size.prod(axis=1) > 0))
    ends = np.cumsum(size[kept].prod(axis=1))

    def within_faces(some: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return face, pixel and weights of the second and third corner, of the pixels that lie in some faces."""
        count = size[some].prod(axis=1)

        def spread(values: np.ndarray) -> np.ndarray:
            return np.repeat(values[some], count)

        face = np.repeat(some, count)
        place = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
        down, right = np.divmod(place, spread(size[:, 0]))
        x, y = spread(low[:, 0]) + right, spread(low[:, 1]) + down
        right, down = x + 0.5 - spread(flat[:, 0, 0]), y + 0.5 - spread(flat[:, 0, 1])
        turned = spread(area)
        second_weight = (right * spread(second[:, 1]) - down * spread(second[:, 0])) / turned
        third_weight = (spread(first[:, 0]) * down - spread(first[:, 1]) * right) / turned
        inside = np.flatnonzero((second_weight >= 0) & (third_weight >= 0) & (second_weight + third_weight <= 1))
        return face[inside], (y * shape[1] + x)[inside], second_weight[inside], third_weight[inside]

    # As many candidates at a time as stay in the processor's cache: several times as quick as all at once.
    cuts = np.searchsorted(ends, np.arange(_CANDIDATES, ends[-1] if len(ends) else 0, _CANDIDATES))
    found = [within_faces(some) for some in np.split(kept, cuts)]
    face, pixel, second_weight, third_weight = (np.concatenate(part) for part in zip(*found, strict=True))
    weights = np.stack([1 - second_weight - third_weight, second_weight, third_weight], axis=1)
    depth = (corners[face, :, 2] * weights).sum(axis=1)
    nearest = np.full(shape[0] * shape[1], -np.inf)
    np.maximum.at(nearest, pixel, depth)
    front = np.flatnonzero(depth == nearest[pixel])
    winner = np.full(shape[0] * shape[1], -1)
    # Only faces that share an edge have equal depth, on that edge; either of them will do.
    winner[pixel[front]] = front
    kept = winner[winner >= 0]
    return Raster(shape, pixel[kept], face[kept], weights[kept], nearest.reshape(shape))


def vertex_normals(coordinates: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return outward unit normals, (vertex, 3)."""
    corners = coordinates[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, axis], 3), len(coordinates)) for axis in range(3)],
        axis=1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def sulcal_gray(depth: np.ndarray) -> np.ndarray:
    """Map sulcal depth to light grays: bright gyri, darker sulci, with a soft border."""
    return 0.80 - 0.10 * np.tanh(depth / 0.15)


def shade(normal_toward_viewer: np.ndarray, strength: float) -> np.ndarray:
    """Return brightness factors: 1 where the surface faces the viewer, less towards the rim."""
    return 1 - strength * (1 - np.clip(normal_toward_viewer, 0, 1)) ** 1.5


#: Pixels per inch of the painted brain, and pixels per panel at most. More than the 300 dpi of a PNG smooths edges;
#: large panels use fewer, to keep a figure quick to draw.
FINEST, COARSEST, MOST_PIXELS = 350, 300, 0.8e6

#: Cell size of the grid for placing names, and how far outside the panel a name may go, in millimeters.
CELL, MARGIN = 0.25, 2.0

#: Color of vertices whose voxel is masked out.
LEFT_OUT = np.array([0.965, 0.955, 0.93])


@dataclass(frozen=True)
class Reach:
    """The nearest measured vertex around each vertex of a hemisphere.

    Parameters
    ----------
    nearest : array of int, shape (vertex,)
        The vertex whose value is shown here, or -1.
    distance : array, shape (vertex,)
        Distance to it in millimeters.
    radius : float
        Largest distance at which a value is shown. The interpolated distance is compared per pixel, so the border
        runs between vertices.
    """

    nearest: np.ndarray
    distance: np.ndarray
    radius: float

    @classmethod
    def make(cls, measured: np.ndarray, mesh: str, hemisphere: str, radius: float) -> Reach:
        """Find the nearest measured vertex of each vertex."""
        if radius <= 0:
            indices = np.where(measured, np.arange(len(measured)), -1)
            return cls(indices, np.where(measured, 0.0, 1.0), 0.5)
        # Search beyond the radius, so that all three corners of a triangle on the border have a value.
        limit = radius + 9.0
        nearest, distance = nearest_source(measured, mesh, hemisphere, limit)
        return cls(nearest, np.where(np.isfinite(distance), distance, limit), radius)

    def covers(self, raster: Raster, faces: np.ndarray) -> np.ndarray:
        """Return which pixels lie within the radius, (pixel,)."""
        return raster.interpolate(self.distance, faces) <= self.radius

    def take(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Return the values (vertex,) or (vertex, map) of the nearest measured vertices, or `fill` if there is none."""
        found = (self.nearest >= 0).reshape(-1, *[1] * (values.ndim - 1))
        return np.where(found, values[np.maximum(self.nearest, 0)], fill)


@dataclass(frozen=True)
class Scalars:
    """A layer of scalar values with a color map.

    Parameters
    ----------
    values : mapping of str to array, shape (vertex,)
        Values per hemisphere, NaN where nothing is shown.
    reach : mapping of str to Reach
        Per hemisphere, from all vertices that carry a voxel, shown or not.
    colormap : callable
        Maps numbers in [0, 1] to RGBA.
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
        # Average only over corners that have a value; the others must not pull the color towards zero.
        mean = total / np.maximum(weight, 1e-9)
        low, high = self.limits
        # A constant map gets a single color.
        colors = self.colormap(np.clip((mean - low) / max(high - low, 1e-12), 0, 1))[:, :3]
        return colors, _majority(reach, valid, weight, raster, faces)


@dataclass(frozen=True)
class Categories:
    """A layer with one category per vertex, each with its own color.

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
    """Return the pixels where most of the corners within reach are shown."""
    reachable = raster.interpolate((reach.nearest >= 0).astype(float), faces)
    return weight > 0.5 * np.maximum(reachable, 1e-9)


#: Rasters of recent views, at most about 30 MB each.
_RASTERS: dict[tuple, tuple[Mesh, Raster]] = {}

_MOST_RASTERS = 16


@dataclass
class View:
    """One view of one hemisphere: its geometry in the image plane, and what is visible.

    Parameters
    ----------
    hemisphere, name : str
        Hemisphere, and name of the view (:data:`VIEWS`).
    mesh : Mesh
        The surface.
    points : array, shape (vertex, 3)
        Coordinates: right, up, towards the viewer.
    box : (left, right, low, high)
        The part that is shown, in mesh units.
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
    rois: dict[str, tuple[float, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def make(cls, mesh: Mesh, hemisphere: str, name: str) -> View:
        """Create a view of a mesh whose box contains the whole mesh."""
        points = mesh.coordinates @ view_axes(name, hemisphere).T
        used = points[np.unique(mesh.faces)]
        low, high = used[:, :2].min(axis=0), used[:, :2].max(axis=0)
        return cls(hemisphere, name, mesh, points, (low[0], high[0], low[1], high[1]))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box."""
        return self.box[1] - self.box[0], self.box[3] - self.box[2]

    def render(self, layer: Scalars | Categories, millimeters_per_unit: float) -> np.ndarray:
        """Paint the hemisphere, and return RGBA, shape (y, x, 4)."""
        square_inches = self.size[0] * self.size[1] * (millimeters_per_unit / 25.4) ** 2
        resolution = np.clip((MOST_PIXELS / square_inches) ** 0.5, COARSEST, FINEST)
        self.per_unit = millimeters_per_unit / 25.4 * float(resolution)
        shape = tuple(max(int(np.ceil(extent * self.per_unit)), 1) for extent in self.size[::-1])
        # Sets of maps use the same views repeatedly, so each view is rasterized once.
        key = (id(self.mesh), self.hemisphere, self.name, self.box, self.per_unit, shape)
        if key not in _RASTERS:
            if len(_RASTERS) >= _MOST_RASTERS:
                _RASTERS.pop(next(iter(_RASTERS)))
            found = rasterize(self.to_pixels(self.points), self.mesh.faces, (shape[0], shape[1]))
            _RASTERS[key] = (self.mesh, found)  # keep the mesh, so that its id is not reused
        self.raster = raster = _RASTERS[key][1]
        faces = self.mesh.faces
        gray = sulcal_gray(raster.interpolate(self.mesh.sulcal, faces))
        image = np.repeat(gray[:, None], 3, axis=1)
        covered = layer.reach[self.hemisphere].covers(raster, faces)
        image[covered] = 0.35 * image[covered] + 0.65 * LEFT_OUT
        colors, shown = layer.paint(raster, faces, self.hemisphere)
        shown &= covered
        self.shown = raster.image(shown, background=False)
        if self.name != "flat":
            facing = self._facing(raster)
            self.facing = raster.image(facing)
            image *= shade(facing, 0.35)[:, None]
            # Shade values only slightly: readers must find their color in the color bar.
            colors = colors * shade(facing, 0.10)[:, None]
        image[shown] = colors[shown]
        return raster.image(np.column_stack([image, np.ones(len(image))]).astype(np.float32))

    def _facing(self, raster: Raster) -> np.ndarray:
        axes = view_axes(self.name, self.hemisphere)
        normals = vertex_normals(self.mesh.coordinates, self.mesh.faces) @ axes[2]
        return raster.interpolate(normals, self.mesh.faces)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert coordinates of the view (point, 3) to pixels; y points down."""
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
            # At the rim a whole region shrinks to a thin line, so outlines there are uninformative.
            inside &= self.facing[row, column] > 0.2
        # Smoothing moves lines off the surface, so a point may lie this far (mesh units) below it.
        return inside & np.isfinite(depth) & (points[:, 2] > depth - 2.5)

    def look_for(self, outlines: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Measure the visible size of each ROI (square mesh units), and find the position of its name."""
        assert self.raster is not None
        pixels = np.bincount(self.raster.face, minlength=len(self.mesh.faces))
        middle = self.points[self.mesh.faces].mean(axis=1)[:, :2]
        for roi, member in outlines.items():
            inside = member[self.hemisphere][self.mesh.faces].sum(axis=1) >= 2
            seen = np.where(inside, pixels, 0)
            if seen.sum():
                center = (middle * seen[:, None]).sum(axis=0) / seen.sum()
                distance = np.where(seen > 0, np.linalg.norm(middle - center, axis=1), np.inf)
                self.rois[roi] = (seen.sum() / self.per_unit**2, middle[np.argmin(distance)])


def draw_view(axes: Axes, view: View, image: np.ndarray) -> None:
    """Draw a painted hemisphere into axes in mesh units."""
    left, _, _, high = view.box
    right = left + image.shape[1] / view.per_unit
    low = high - image.shape[0] / view.per_unit
    extent = (left, right, low, high)
    axes.imshow(image, extent=extent, interpolation="antialiased", interpolation_stage="rgba")
    axes.set_xlim(view.box[0], view.box[1])
    axes.set_ylim(view.box[2], view.box[3])
    axes.set_aspect("auto")
    axes.axis("off")


def draw_outlines(axes: Axes, view: View, outlines: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draw ROI borders as dark lines on lighter ones, visible on any color."""
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
    """Write ROI names where they hide the least data, with a thin line to the ROI if they lie outside of it."""
    if not names or view.shown is None:
        return
    figure: Any = axes.figure
    width = axes.get_position().width * figure.get_size_inches()[0] * 25.4
    unit = view.size[0] / width
    corner = np.array([view.box[0] - MARGIN * unit, view.box[3] + MARGIN * unit])
    # Millimeters to the right of and below the upper left corner of the panel with its margin.
    anchors = np.abs(np.array([view.rois[name][1] for name in names]) - corner) / unit
    sizes = np.add([text_size_mm(figure, name, size) for name in names], (0.6, 0.1))
    areas = np.array([view.rois[name][0] for name in names]) / unit**2
    occupied = _coarse(view.shown, view.per_unit * unit)
    places = place_labels(anchors, sizes, areas, occupied, CELL)
    for name, anchor, place, box in zip(names, anchors, places, sizes, strict=True):
        here, home = corner + (place * (1, -1)) * unit, view.rois[name][1]
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
    """Reduce an image to cells of :data:`CELL` mm, with a margin of :data:`MARGIN` mm."""
    edge = round(MARGIN / CELL)
    rows, columns = (int(np.ceil(extent / per_millimeter / CELL)) for extent in shown.shape)
    grid = np.zeros((rows + 2 * edge, columns + 2 * edge), dtype=bool)
    y, x = np.nonzero(shown)
    row, column = ((place / per_millimeter / CELL).astype(int) for place in (y, x))
    grid[edge + row, edge + column] = True
    return grid


#: Cost of hiding an entire ROI, in units of one millimeter of shift.
HIDING = 40.0


def place_labels(
    anchors: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    occupied: np.ndarray,
    cell: float,
    *,
    gap: float = 0.35,
) -> np.ndarray:
    """Place labels one by one near their anchors, each where it hides the least data.

    Every cell of a grid is a candidate. Its cost is the distance to the anchor plus the hidden fraction of the ROI,
    so the name of a large ROI stays inside, and that of a small ROI moves next to it.

    Parameters
    ----------
    anchors : array, shape (label, 2)
        x and y (down) in millimeters from the upper left corner of the grid.
    sizes : array, shape (label, 2)
        Width and height in millimeters.
    areas : array, shape (label,)
        Visible size of each ROI in square millimeters.
    occupied : array of bool, shape (y, x)
        Cells of the grid in which data are shown.
    cell : float
        Cell size of the grid in millimeters.
    gap : float
        Minimum space between labels in millimeters.

    Returns
    -------
    array, shape (label, 2)
        Centers of the labels, which do not overlap unless the grid is too small for all of them.
    """
    anchors, sizes = np.asarray(anchors, float).reshape(-1, 2), np.asarray(sizes, float).reshape(-1, 2)
    taken = np.zeros(occupied.shape, dtype=bool)
    centers = np.zeros_like(anchors)
    # Small ROIs come first: their names have to stay close.
    for index in np.argsort(areas, kind="stable"):
        width, height = np.maximum(np.ceil((sizes[index] + gap) / cell).astype(int), 1)
        width, height = min(width, occupied.shape[1]), min(height, occupied.shape[0])
        hidden = _box_sums(occupied, height, width) * cell**2
        blocked = _box_sums(taken, height, width)
        y, x = np.indices(hidden.shape)
        distance = np.hypot(
            (x + width / 2) * cell - anchors[index, 0], ((y + height / 2) * cell - anchors[index, 1]) * 1.15
        )
        cost = distance + HIDING * hidden / max(areas[index], 1e-9) + 1e4 * blocked
        cost = cost.ravel() + _crossing(cost.ravel(), hidden.shape, (height, width), anchors[index] / cell, taken)
        row, column = np.unravel_index(np.argmin(cost), hidden.shape)
        taken[row : row + height, column : column + width] = True
        centers[index] = (column + width / 2) * cell, (row + height / 2) * cell
    return centers


def _crossing(
    cost: np.ndarray, shape: tuple[int, ...], box: tuple[int, int], anchor: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Return the cost of lines from anchor to label that pass below other labels."""
    if not taken.any():
        return np.zeros_like(cost)
    extra = np.full_like(cost, 1e5)
    # Only the cheapest candidates so far are examined.
    best = np.argsort(cost, kind="stable")[:1500]
    row, column = np.unravel_index(best, shape)
    ends = np.stack([column + box[1] / 2, row + box[0] / 2], axis=1)
    steps = np.linspace(0, 1, 24)[None, :, None]
    line = (anchor + (ends[:, None] - anchor) * steps).astype(int)
    x, y = line[..., 0].clip(0, taken.shape[1] - 1), line[..., 1].clip(0, taken.shape[0] - 1)
    extra[best] = 25.0 * taken[y, x].mean(axis=1)
    return extra


def _box_sums(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    total = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1))
    total[1:, 1:] = grid.cumsum(axis=0).cumsum(axis=1)
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
