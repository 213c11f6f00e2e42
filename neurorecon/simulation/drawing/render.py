"""Render a scene to pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from neurorecon.errors import InputError
from neurorecon.simulation.drawing import animals, objects, outdoors, people, rooms
from neurorecon.simulation.drawing.backgrounds import PAINT, Backdrop
from neurorecon.simulation.drawing.pen import Light, Pen, Pose, light_of, mix, pose_of
from neurorecon.simulation.scene import DETAILS, Scene, SceneObject, paint_order
from neurorecon.simulation.vocabulary import TRAITS

#: Drawing functions by kind, in coordinates in which the base of the object is (0, 0) and its top is at y = -1.
DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    **people.DRAW,
    **rooms.DRAW,
    **animals.DRAW,
    **outdoors.DRAW,
    **objects.DRAW,
}


@dataclass(frozen=True)
class _View:
    """How the camera maps the world to pixels of the enlarged canvas at one moment."""

    pixels: int
    zoom: float
    shift: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a place; x and y from the center of the image."""
        across = ((x - self.shift[0]) * self.zoom + 0.5) * self.pixels
        return across, ((y - self.shift[1]) * self.zoom + 0.5) * self.pixels

    @property
    def scale(self) -> float:
        """Pixels per image width."""
        return self.zoom * self.pixels


def render(scene: Scene, size: int = 64, time: float = 0.0) -> np.ndarray:
    """Render a scene.

    Parameters
    ----------
    scene : Scene
    size : int
        Pixels per side, 8 to 2048.
    time : float
        Time in seconds, for videos.

    Returns
    -------
    array, uint8, shape (y, x, rgb)

    Raises
    ------
    InputError
        If the size is out of range.
    """
    return np.asarray(_paint(scene, size, time).reduce(_factor(size)))


def object_map(scene: Scene, size: int = 64, time: float = 0.0) -> np.ndarray:
    """Return which object is visible at each pixel; parameters as in :func:`render`.

    Returns
    -------
    array, int16, shape (y, x)
        Index into ``scene.objects``; -1 for the background.
    """
    seen = Image.new("L", (size * _factor(size),) * 2, 0)
    _paint(scene, size, time, seen)
    return np.asarray(seen.resize((size, size), Image.Resampling.NEAREST)).astype(np.int16) - 1


def _factor(size: int) -> int:
    """Return the factor by which the canvas is larger than the image."""
    if not 8 <= size <= 2048:
        raise InputError("cannot render an image of this size", given=size, expected="8 to 2048 pixels")
    return 4 if size <= 96 else 3 if size <= 320 else 2


def _paint(scene: Scene, size: int, time: float, seen: Image.Image | None = None) -> Image.Image:
    """Return the enlarged canvas; if `seen` is given, write the number of the object at each pixel to it, from 1."""
    view = _View(
        size * _factor(size),
        math.exp(scene.camera[2] * time),
        (scene.camera[0] * time, scene.camera[1] * time),
    )
    key = np.random.SeedSequence([scene.seed, scene.index, DETAILS[scene.kind], 77])
    random = np.random.default_rng(key)
    light = light_of(scene.lighting, scene.indoor, -1 if random.random() < 0.5 else 1)
    canvas = Image.new("RGB", (view.pixels, view.pixels))
    if scene.setting in PAINT:
        PAINT[scene.setting](Backdrop(canvas, light, view.at(0, -0.5), view.scale, scene.horizon, random, time))
    for number in sorted(range(len(scene.objects)), key=lambda n: paint_order(scene.objects[n])):
        item = scene.objects[number]
        if item.category == "face":
            canvas = canvas.filter(ImageFilter.BoxBlur(0.014 * view.pixels))
        _stamp(canvas, seen, number + 1, item, scene, light, view, time)
    return canvas


def _stamp(
    canvas: Image.Image,
    seen: Image.Image | None,
    number: int,
    item: SceneObject,
    scene: Scene,
    light: Light,
    view: _View,
    time: float,
) -> None:
    """Draw one object and its shadow onto the canvas."""
    pose = pose_of(item, time, scene.setting)
    x, y = item.x + item.velocity[0] * time, item.y + item.velocity[1] * time
    if item.category == "room":
        DRAW[item.kind](Pen(canvas, view.at(x, y + 0.5), view.scale, light), pose)
        if seen is not None:
            seen.paste(number, (0, 0, *seen.size))
        return
    place = TRAITS[item.kind].place
    foot = view.at(x, y + item.size / 2)
    scale = item.size * view.scale
    wide = (0.5 * TRAITS[item.kind].aspect + 0.3) * scale
    left, right = math.floor(foot[0] - wide), math.ceil(foot[0] + wide)
    top, bottom = math.floor(foot[1] - 1.35 * scale), math.ceil(foot[1] + 0.3 * scale)
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, canvas.width), min(bottom, canvas.height)
    if right - left < 2 or bottom - top < 2:
        return
    layer = Image.new("RGBA", (right - left, bottom - top), (0, 0, 0, 0))
    if item.category == "face" and scene.lighting == "night":
        light = replace(light, tint=mix(light.tint, (0.95, 0.82, 0.72), 0.6))  # portraits are lit by a lamp
    far = item.depth if place in ("ground", "water") else 0.0
    origin = (foot[0] - left, foot[1] - top)
    pen = Pen(layer, origin, scale, light, mirror=item.facing, haze=0.45 * far**3)
    DRAW[item.kind](pen, pose)
    alpha = layer.getchannel("A")
    _cast(canvas, alpha, (left, top), foot, scale, light, place)
    canvas.paste(layer, (left, top), alpha)
    if seen is not None:
        seen.paste(number, (left, top), alpha.point([255 if value > 127 else 0 for value in range(256)]))


@lru_cache(maxsize=64)
def _fainter(strength: float) -> list[int]:
    """Return a lookup table that multiplies opacities from 0 to 255 by a strength."""
    return [round(strength * value) for value in range(256)]


def _cast(
    canvas: Image.Image,
    alpha: Image.Image,
    corner: tuple[int, int],
    foot: tuple[float, float],
    scale: float,
    light: Light,
    place: str,
) -> None:
    """Paint the shadow of an object, or its mirror image in water."""
    if place in ("air", "frame"):
        return
    if place == "top":
        soft = alpha.filter(ImageFilter.BoxBlur(0.014 * scale))
        offset = (corner[0] - round(0.035 * scale * light.side), corner[1] + round(0.045 * scale))
        canvas.paste((26, 18, 20), offset, soft.point(_fainter(0.5)))
        return
    flat = 0.28 if place == "ground" else 0.5
    lean = -light.side * light.reach
    sign = 1.0 if place == "ground" else -1.0
    if place == "water":
        lean = 0.0
    reach = math.ceil(abs(lean) * scale + 0.2 * scale)
    depth = math.ceil(flat * scale)
    left, right = corner[0] - reach, corner[0] + alpha.width + reach
    if place == "ground":  # the shadow lies behind the foot, a little higher on the screen
        top, bottom = math.floor(foot[1] - depth), math.ceil(foot[1] + 0.05 * scale)
    else:
        top, bottom = math.floor(foot[1] - 0.03 * scale), math.ceil(foot[1] + depth)
    if bottom - top < 2 or right - left < 2:
        return
    # Inverse map, from a pixel of the shadow to a pixel of the silhouette.
    fx, fy = foot[0] - corner[0], foot[1] - corner[1]
    height = (1.0 / flat) * sign
    shift = foot[1] - top
    coefficients = (1.0, lean * abs(1.0 / flat), left - corner[0] - lean * abs(1.0 / flat) * shift,
                    0.0, height, fy - height * shift)  # fmt: skip
    shadow = alpha.transform((right - left, bottom - top), Image.Transform.AFFINE, coefficients)
    shadow = shadow.filter(ImageFilter.BoxBlur(0.018 * scale))
    strength = light.shadow if place == "ground" else 0.45
    ink = tuple(round(value) for value in light.on((30, 26, 48) if place == "ground" else (60, 70, 84)))
    canvas.paste(ink, (left, top), shadow.point(_fainter(strength)))
    if place == "ground":
        _contact(canvas, alpha, corner, (fx, foot[1]), scale, light)


def _contact(
    canvas: Image.Image,
    alpha: Image.Image,
    corner: tuple[int, int],
    foot: tuple[float, float],
    scale: float,
    light: Light,
) -> None:
    """Darken the ground right under an object."""
    low = round(foot[1] - corner[1])
    strip = alpha.crop((0, low - max(2, round(0.06 * scale)), alpha.width, low))
    box = strip.getbbox()
    if box is None:
        return
    center, half = corner[0] + (box[0] + box[2]) / 2, 0.55 * (box[2] - box[0])
    pen = Pen(canvas, (center, foot[1] - 0.005 * scale), scale, light)
    wide = half / scale + 0.02
    pen.ellipse(0, 0, wide, 0.035 + 0.02 * wide, (24, 20, 36), soft=0.018, alpha=0.9 * light.shadow + 0.1)
