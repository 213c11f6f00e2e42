"""Drawing tools: the pen, which fills shapes in local coordinates of an object, its pose, and the light of a scene.

Shapes are drawn without antialiasing on a canvas that is larger than the image; the reduction smooths them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from neurorecon.simulation.scene import SceneObject
from neurorecon.simulation.vocabulary import COLORS

Points = Sequence[tuple[float, float]] | np.ndarray

_RAMP = Image.linear_gradient("L").crop((0, 0, 1, 256))  # black above, white below

_CIRCLES = {
    count: np.stack([np.cos(angles), np.sin(angles)], 1)
    for count in (14, 28)
    for angles in [np.linspace(0, 2 * np.pi, count, endpoint=False)]
}


def _quarters() -> np.ndarray:
    """Return the quarters of a circle at the corners of a rectangle, shape (corner, point, 2)."""
    quarter = np.linspace(0, np.pi / 2, 5)
    angles = [start + quarter for start in (np.pi, 1.5 * np.pi, 0.0, 0.5 * np.pi)]
    return np.stack([np.stack([np.cos(angle), np.sin(angle)], 1) for angle in angles])


_QUARTERS = _quarters()


class Shape:
    """A filled shape, inside which details can be drawn. Its mask is computed on first access.

    Parameters
    ----------
    outlines : list of array, shape (point, 2)
        Polygons, in pixels of the canvas.
    flat : list of list of float
        The same polygons as flat lists, x and y alternating.
    size : (int, int)
        Width and height of the canvas.
    blur : float
        Radius in pixels.
    level : int
        Opacity, 0 to 255.
    """

    # An image has hundreds of shapes, so they are kept small.
    __slots__ = ("_blur", "_box", "_flat", "_level", "_mask", "_outlines", "canvas")

    def __init__(
        self,
        outlines: list[np.ndarray],
        flat: list[list[float]],
        size: tuple[int, int],
        blur: float = 0.0,
        level: int = 255,
    ) -> None:
        self._outlines, self._flat, self.canvas, self._blur, self._level = outlines, flat, size, blur, level
        self._box: tuple[int, int, int, int] | None = None
        self._mask: Image.Image | None = None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box (left, top, right, bottom) of the mask on the canvas, in pixels."""
        if self._box is None:
            pad = 1 + math.ceil(2 * self._blur)
            xs, ys = [flat[0::2] for flat in self._flat], [flat[1::2] for flat in self._flat]
            left, top = max(0, math.floor(min(map(min, xs))) - pad), max(0, math.floor(min(map(min, ys))) - pad)
            right = min(self.canvas[0], math.ceil(max(map(max, xs))) + pad + 1)
            bottom = min(self.canvas[1], math.ceil(max(map(max, ys))) + pad + 1)
            self._box = left, top, max(left, right), max(top, bottom)
        return self._box

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the mask."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def empty(self) -> bool:
        """Whether the shape lies entirely outside the canvas."""
        left, top, right, bottom = self.box
        return left >= right or top >= bottom

    @property
    def mask(self) -> Image.Image:
        """Coverage of each pixel, 0 to 255."""
        if self._mask is None:
            mask = Image.new("L", self.size, 0)
            draw = ImageDraw.Draw(mask)
            corner = np.array(self.box[:2], dtype=float)
            for points in self._outlines:
                draw.polygon((points - corner).ravel().tolist(), fill=self._level)
            self._mask = mask.filter(ImageFilter.BoxBlur(self._blur)) if self._blur > 0.3 else mask
        return self._mask

    def keep_within(self, other: Shape) -> None:
        """Clip the shape to another one."""
        self._mask = self.within(other)

    def within(self, other: Shape) -> Image.Image:
        """Return the mask of the intersection with another shape."""
        frame = Image.new("L", self.size, 0)
        frame.paste(other.mask, (other.box[0] - self.box[0], other.box[1] - self.box[1]))
        return ImageChops.multiply(self.mask, frame)


class Pen:
    """Draws in local coordinates: x rightward, y downward, one unit is `scale` pixels.

    Parameters
    ----------
    image : Image
        Canvas, RGB or RGBA.
    origin : (float, float)
        Pixel of the local point (0, 0).
    scale : float
        Pixels per unit.
    light : Light
    mirror : int
        -1 exchanges left and right.
    haze : float
        Share of the haze color, for distant objects.
    angle : float
        Rotation in radians, clockwise on the screen.
    """

    def __init__(
        self,
        image: Image.Image,
        origin: tuple[float, float],
        scale: float,
        light: Light,
        mirror: int = 1,
        haze: float = 0.0,
        angle: float = 0.0,
    ) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image)
        self.light = light
        self.haze = haze
        self.scale = scale
        cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
        self._matrix = np.array([[cosine * mirror, sine * mirror], [-sine, cosine]])
        self._origin = np.asarray(origin, dtype=float)

    def at(self, x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> Pen:
        """Return a pen with its origin at the local point (x, y), rotated and scaled."""
        pen = Pen.__new__(Pen)
        pen.image, pen._draw, pen.light = self.image, self._draw, self.light
        pen.haze, pen.scale = self.haze, self.scale * scale
        cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
        pen._matrix = np.array([[cosine, sine], [-sine, cosine]]) @ self._matrix
        pen._origin = np.array([x, y]) @ self._matrix + self._origin
        return pen

    def ink(self, color: RGB, glow: bool = False) -> tuple[int, ...]:
        """Return the pixel value of a surface color in this light and haze."""
        seen = color if glow else self.light.on(color)
        if self.haze:
            seen = mix(seen, self.light.haze, self.haze)
        red, green, blue = seen
        value = (int(red + 0.5), int(green + 0.5), int(blue + 0.5))
        return (*value, 255) if self.image.mode == "RGBA" else value

    def fill(
        self,
        polygons: Sequence[np.ndarray],
        color: RGB,
        *,
        volume: float = 0.0,
        to: RGB | None = None,
        inside: Shape | None = None,
        soft: float = 0.0,
        alpha: float = 1.0,
        glow: bool = False,
    ) -> Shape:
        """Fill polygons as one shape.

        Parameters
        ----------
        polygons : sequence of array, shape (point, 2)
            Local coordinates.
        color : RGB
        volume : float
            Strength of the shading from the lit to the dark side, 0 (flat) to 1.
        to : RGB, optional
            Color at the lower end of a vertical gradient.
        inside : Shape, optional
            Draw only within this shape.
        soft : float
            Blur of the edge, in local units.
        alpha : float
            Opacity.
        glow : bool
            Whether the shape emits light, so that the light of the scene does not tint it.

        Returns
        -------
        Shape
        """
        matrix, origin = self._matrix, self._origin
        outlines = [points @ matrix + origin for points in polygons]
        flat = [points.ravel().tolist() for points in outlines]
        shape = Shape(outlines, flat, self.image.size, soft * self.scale, round(255 * alpha))
        plain = inside is None and alpha == 1 and not soft
        if not (plain and to is None and not volume) and (shape.empty or (inside is not None and inside.empty)):
            return shape
        if plain:
            ink = self.ink(color, glow)
            for outline in flat:
                self._draw.polygon(outline, fill=ink)
        else:
            if inside is not None:
                shape.keep_within(inside)
            self.image.paste(self.ink(color, glow), shape.box, shape.mask)
        if to is not None:
            ramp = ImageChops.multiply(
                shape.mask,
                _RAMP.resize((1, shape.size[1]), Image.Resampling.BILINEAR).resize(
                    shape.size, Image.Resampling.NEAREST
                ),
            )
            self.image.paste(self.ink(to, glow), shape.box, ramp)
        if volume > 0:
            self._shade(shape, color, volume, glow)
        return shape

    def _shade(self, shape: Shape, color: RGB, volume: float, glow: bool) -> None:
        """Darken the side away from the light and lighten the other one."""
        mask = shape.mask
        radius = 0.22 * min(mask.size)
        if radius < 1.5:
            return
        across, down = round(0.75 * radius * self.light.side), round(-0.55 * radius)
        for sign, ink, strength in (
            (1, darker(color, 0.55), 0.85 * volume),
            (-1, lighter(color, 0.55), 0.5 * volume),
        ):
            edge = Image.new("L", mask.size, round(255 * strength))
            edge.paste(0, (sign * across, sign * down), mask)
            edge = ImageChops.multiply(mask, edge.filter(ImageFilter.BoxBlur(radius * 0.55)))
            self.image.paste(self.ink(ink, glow), shape.box, edge)

    def shade(self, shape: Shape, color: RGB, volume: float) -> None:
        """Shade a shape on which details have already been drawn."""
        if not shape.empty:
            self._shade(shape, color, volume, glow=False)

    # Shapes. All take the keywords of `fill`.

    def polygon(self, points: Points, color: RGB, **how: object) -> Shape:
        """Fill a polygon."""
        return self.fill([np.asarray(points, dtype=float)], color, **how)  # type: ignore[arg-type]

    def blob(self, points: Points, color: RGB, **how: object) -> Shape:
        """Fill a smooth closed curve through points."""
        return self.fill([smooth(points)], color, **how)  # type: ignore[arg-type]

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: RGB, angle: float = 0.0, **how: object) -> Shape:
        """Fill an ellipse around (x, y)."""
        points = 14 if max(rx, ry) * self.scale < 7 else 28
        return self.fill([oval(x, y, rx, ry, angle, points)], color, **how)  # type: ignore[arg-type]

    def box(self, x0: float, y0: float, x1: float, y1: float, color: RGB, corner: float = 0.0, **how: object) -> Shape:
        """Fill an upright rectangle, its corners rounded by `corner`."""
        return self.fill([rounded(x0, y0, x1, y1, corner)], color, **how)  # type: ignore[arg-type]

    def boxes(self, centers: Points, wide: float, high: float, color: RGB, glow: bool = False) -> None:
        """Fill many equal rectangles around centers, shape (box, 2), at once."""
        if len(centers) == 0:
            return
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (wide / 2, high / 2)
        outlines = (np.asarray(centers)[:, None] + corners) @ self._matrix + self._origin
        ink = self.ink(color, glow)
        for flat in outlines.reshape(len(outlines), 8).tolist():
            self._draw.polygon(flat, fill=ink)

    def limb(self, joints: Sequence[tuple[float, float, float]], color: RGB, **how: object) -> Shape:
        """Fill a chain of joints (x, y, radius)."""
        return self.fill(chain(joints), color, **how)  # type: ignore[arg-type]

    def line(self, points: Points, width: float, color: RGB, **how: object) -> Shape:
        """Draw a line of even width with round ends."""
        return self.limb([(x, y, width / 2) for x, y in points], color, **how)


def smooth(points: Points, steps: int = 7) -> np.ndarray:
    """Return a closed Catmull-Rom curve through points, shape (point * steps, 2)."""
    given = np.asarray(points, dtype=float)
    count = len(given)
    around = np.concatenate([given[-1:], given, given, given])[:, None]  # enough for two points
    p0, p1, p2, p3 = (around[start : start + count] for start in range(4))
    t, t2, t3 = _powers(steps)
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t2 + (3 * p1 - p0 - 3 * p2 + p3) * t3)
    return np.asarray(curve.reshape(-1, 2))


@lru_cache(maxsize=16)
def _powers(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first three powers of evenly spaced numbers from 0 to 1, shape (1, step, 1)."""
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    return t, t**2, t**3


def oval(x: float, y: float, rx: float, ry: float, angle: float = 0.0, count: int = 28) -> np.ndarray:
    """Return an ellipse, shape (point, 2)."""
    points: np.ndarray = _CIRCLES[count] * (rx if rx == ry else np.array([rx, ry]))
    if angle:
        cosine, sine = math.cos(angle), math.sin(angle)
        points = points @ np.array([[cosine, sine], [-sine, cosine]])
    points += np.array([x, y])
    return points


def rounded(x0: float, y0: float, x1: float, y1: float, corner: float = 0.0) -> np.ndarray:
    """Return a rectangle with rounded corners, shape (point, 2)."""
    if corner <= 0:
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    corner = min(corner, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    left, right, top, bottom = x0 + corner, x1 - corner, y0 + corner, y1 - corner
    centers = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return np.asarray((centers[:, None] + corner * _QUARTERS).reshape(-1, 2))


def chain(joints: Sequence[tuple[float, float, float]]) -> list[np.ndarray]:
    """Return the outlines of circles at joints (x, y, radius) and of what joins neighbors."""
    outlines = [oval(x, y, radius, radius) for x, y, radius in joints]
    for (x0, y0, r0), (x1, y1, r1) in pairwise(joints):
        length = math.hypot(x1 - x0, y1 - y0)
        if length < 1e-9:
            continue
        nx, ny = -(y1 - y0) / length, (x1 - x0) / length
        outlines.append(
            np.array(
                [
                    (x0 + nx * r0, y0 + ny * r0),
                    (x1 + nx * r1, y1 + ny * r1),
                    (x1 - nx * r1, y1 - ny * r1),
                    (x0 - nx * r0, y0 - ny * r0),
                ]
            )
        )
    return outlines


@dataclass(frozen=True)
class Pose:
    """The pose of an object at one moment.

    Parameters
    ----------
    item : SceneObject
    setting : str
        Name of the place.
    random : numpy.random.Generator
        Seeded with the style of the object, so that it gives the same numbers in every frame.
    phase : float
        Phase of its gait, wing beat or sway, in radians.
    moving : bool
        Whether the object moves through the scene.
    way : float
        Distance since time 0, in heights of the object (turns wheels).
    """

    item: SceneObject
    setting: str
    random: np.random.Generator
    phase: float
    moving: bool
    way: float

    @property
    def color(self) -> RGB:
        """Color of the object."""
        return COLORS[self.item.color]

    def between(self, low: float, high: float) -> float:
        """Return a random number between two numbers."""
        return low + (high - low) * float(self.random.random())

    def pick(self, *choices: RGB) -> RGB:
        """Return one of several colors at random."""
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return float(self.random.random()) < share

    def swing(self, amount: float, shift: float = 0.0) -> float:
        """Return an oscillation with the phase of the gait."""
        return amount * math.sin(self.phase + shift)


#: Beats (steps, wing beats, sways) per second.
_BEATS = {"person": 1.0, "animal": 1.3, "plant": 0.45, "face": 0.4}


def pose_of(item: SceneObject, time: float, setting: str) -> Pose:
    """Return the pose of an object at a time in seconds, in a setting."""
    random = np.random.default_rng(item.style)
    start = float(random.uniform(0, 2 * math.pi))
    moving = item.velocity != (0.0, 0.0)
    beats = _BEATS.get(item.category, 0.5) * (1.6 if item.kind == "bird" else 1.0)
    goes = moving or item.category in ("plant", "face")
    phase = start + (2 * math.pi * beats * time if goes else 0.0)
    return Pose(item, setting, random, phase, moving, abs(item.velocity[0]) * time / item.size)


RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """How one kind of lighting colors a scene.

    Parameters
    ----------
    name : str
        One of ``vocabulary.LIGHTINGS``.
    sky : tuple of RGB
        Colors of the sky from the zenith to the horizon.
    tint : RGB
        Factor of surface colors.
    lift : RGB
        Color that the air adds to surfaces.
    haze : RGB
        Color to which distant objects fade.
    shadow : float
        Strength of cast shadows, 0 to 1.
    reach : float
        How far shadows fall sideways, in heights of the object.
    side : int
        Direction of the light: -1 from the left, 1 from the right.
    """

    name: str
    sky: tuple[RGB, ...]
    tint: RGB
    lift: RGB
    haze: RGB
    shadow: float
    reach: float
    side: int = -1

    def on(self, color: RGB) -> RGB:
        """Return the color of a surface in this light."""
        (red, green, blue), tint, lift = color, self.tint, self.lift
        red, green, blue = red * tint[0] + lift[0], green * tint[1] + lift[1], blue * tint[2] + lift[2]
        return (
            0.0 if red < 0.0 else 255.0 if red > 255.0 else red,
            0.0 if green < 0.0 else 255.0 if green > 255.0 else green,
            0.0 if blue < 0.0 else 255.0 if blue > 255.0 else blue,
        )


_OUTDOORS: dict[str, Light] = {
    "noon": Light(
        "noon",
        ((58, 130, 208), (120, 180, 230), (206, 230, 242)),
        (1.03, 1.0, 0.96),
        (2, 3, 6),
        (196, 220, 236),
        0.42,
        0.35,
    ),
    "sunset": Light(
        "sunset",
        ((84, 84, 152), (222, 128, 118), (255, 200, 122)),
        (1.03, 0.90, 0.80),
        (10, 3, 8),
        (246, 176, 128),
        0.45,
        1.0,
    ),
    "dusk": Light(
        "dusk",
        ((44, 44, 100), (126, 92, 148), (232, 148, 146)),
        (0.76, 0.70, 0.82),
        (11, 7, 20),
        (176, 126, 156),
        0.25,
        0.7,
    ),
    "night": Light(
        "night",
        ((8, 12, 38), (18, 28, 68), (48, 66, 120)),
        (0.47, 0.53, 0.72),
        (5, 9, 26),
        (44, 60, 108),
        0.35,
        0.5,
    ),
    "overcast": Light(
        "overcast",
        ((146, 158, 170), (178, 186, 194), (214, 218, 220)),
        (0.88, 0.90, 0.93),
        (6, 7, 9),
        (202, 208, 212),
        0.22,
        0.1,
    ),
}

_INDOORS: dict[str, Light] = {
    "noon": Light("noon", _OUTDOORS["noon"].sky, (1.02, 1.0, 0.97), (2, 2, 3), (236, 236, 232), 0.34, 0.3),
    "sunset": Light("sunset", _OUTDOORS["sunset"].sky, (1.02, 0.92, 0.82), (6, 2, 4), (244, 200, 160), 0.36, 0.6),
    "night": Light("night", _OUTDOORS["night"].sky, (0.86, 0.72, 0.58), (6, 4, 12), (150, 120, 100), 0.42, 0.25),
}


def light_of(lighting: str, indoor: bool, side: int) -> Light:
    """Return the light of a scene.

    Parameters
    ----------
    lighting : str
        One of ``vocabulary.LIGHTINGS``.
    indoor : bool
    side : int
        -1 where the light comes from the left, 1 from the right.
    """
    light = (_INDOORS if indoor and lighting in _INDOORS else _OUTDOORS)[lighting]
    return Light(**{**vars(light), "side": side})


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Return a mixture of two colors; `share` is the weight of the second."""
    rest = 1.0 - share
    return (
        first[0] * rest + second[0] * share,
        first[1] * rest + second[1] * share,
        first[2] * rest + second[2] * share,
    )


def lighter(color: RGB, share: float) -> RGB:
    """Return a color mixed with white."""
    return mix(color, (255, 252, 244), share)


def darker(color: RGB, share: float) -> RGB:
    """Return a color mixed with dark blue, which looks like shade rather than dirt."""
    return mix(color, (22, 18, 44), share)
