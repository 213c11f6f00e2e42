"""The parts that backgrounds are made of: sky, ridges, ground in perspective, water."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from neurorecon.datasets.scenes.drawing.light import RGB, Light, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen, oval, rounded

#: Side of the tile of noise that textures are taken from, in cells.
_TILE = 256

#: Samples per cell, so that the cells do not show.
_FINE = 4


@lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Return smooth noise that repeats without a seam, about -1 to 1, shape (256 * 4, 256 * 4)."""
    random = np.random.default_rng(20240229)
    spectrum = np.fft.fft2(random.standard_normal((_TILE, _TILE)))
    frequency = np.fft.fftfreq(_TILE)
    spectrum /= (np.hypot(frequency[:, None], frequency[None]) + 0.02) ** 0.9
    fine = np.zeros((_TILE * _FINE, _TILE * _FINE), dtype=complex)  # more samples of the same waves
    place = np.fft.fftfreq(_TILE, 1 / _TILE).astype(int)
    fine[np.ix_(place, place)] = spectrum
    field = np.fft.ifft2(fine).real
    field -= field.mean()
    return np.asarray(np.clip(field / (2.2 * field.std()), -1, 1), dtype=np.float32)


class Backdrop:
    """A background in the making.

    World coordinates: x from -0.5 (left) to 0.5 (right),
    v from 0 (top) to 1 (bottom) of the picture at time 0. The
    camera may look beyond; everything is a function of world coordinates, so that it stays in place.

    Parameters
    ----------
    image : Image
        RGB canvas.
    light : Light
    origin : (float, float)
        Pixel of x = 0, v = 0.
    scale : float
        Pixels per image width.
    horizon : float
    random : numpy.random.Generator
    time : float
        Seconds; waves move.
    """

    def __init__(
        self,
        image: Image.Image,
        light: Light,
        origin: tuple[float, float],
        scale: float,
        horizon: float,
        random: np.random.Generator,
        time: float,
    ) -> None:
        self.image, self.light, self.horizon, self.random, self.time = image, light, horizon, random, time
        self.origin, self.scale = origin, scale
        self.pen = Pen(image, origin, scale, light)

    def hazy(self, haze: float) -> Pen:
        """Return a pen for things as far as the air hides this share of them."""
        return Pen(self.image, self.origin, self.scale, self.light, haze=haze)

    def row(self, v: float) -> int:
        """Return the pixel row of a height, within the canvas."""
        return min(max(round(self.origin[1] + v * self.scale), 0), self.image.height)

    def gradient(self, stops: tuple[RGB, ...], top: float, bottom: float, lit: bool = False) -> None:
        """Fill the canvas between two heights with colors from top to bottom.

        `lit` says that these are colors of a surface, which the light tints.
        """
        first, last = self.row(top), self.row(bottom)
        if last <= first:
            return
        if lit:
            stops = tuple(self.light.on(color) for color in stops)
        v = (np.arange(first, last) + 0.5 - self.origin[1]) / self.scale
        share = np.clip((v - top) / (bottom - top), 0, 1)
        places = np.linspace(0, 1, len(stops))
        colors = np.stack([np.interp(share, places, [c[i] for c in stops]) for i in range(3)], 1)
        strip = Image.fromarray(np.clip(colors + 0.5, 0, 255).astype(np.uint8)[:, None])
        self.image.paste(strip.resize((self.image.width, last - first), Image.Resampling.NEAREST), (0, first))

    def sky(self, bottom: float | None = None, clouds: int = 3, sun: bool = True) -> None:
        """Paint the sky, with what hangs in it."""
        low = self.horizon if bottom is None else bottom
        self.gradient(self.light.sky, -0.3, low)
        if low < 1.3:
            self.gradient((self.light.sky[-1],) * 2, low, 1.6)
        if self.light.name == "night":
            self._stars(low)
        if sun and self.light.name != "overcast":
            self._sun(low)
        for _ in range(clouds):
            x, v = self.random.uniform(-0.65, 0.65), self.random.uniform(0.04, max(0.1, 0.75 * low))
            self.cloud(float(x), float(v), float(self.random.uniform(0.12, 0.3)) * (0.5 + 0.5 * (1 - v)))

    def _stars(self, low: float) -> None:
        for x, v, r in self.random.uniform((-0.7, 0, 0.002), (0.7, low * 0.9, 0.006), (26, 3)):
            self.pen.ellipse(x, v, r, r, (235, 238, 255), glow=True, alpha=0.9)

    def _sun(self, low: float) -> None:
        side = self.light.side
        x = side * float(self.random.uniform(0.24, 0.42))
        if self.light.name in ("sunset", "dusk"):
            v, r, core, halo = low - 0.05, 0.055, (255, 236, 170), (255, 190, 110)
        elif self.light.name == "night":
            v, r, core, halo = float(self.random.uniform(0.08, 0.16)), 0.045, (244, 242, 226), (120, 140, 190)
        else:
            v, r, core, halo = float(self.random.uniform(0.07, 0.14)), 0.05, (255, 248, 214), (255, 250, 226)
        self.pen.ellipse(x, v, 3.2 * r, 3.2 * r, halo, glow=True, soft=1.3 * r, alpha=0.4)
        self.pen.ellipse(x, v, r, r, core, glow=True)
        if self.light.name == "night":
            self.pen.ellipse(x + 0.3 * r, v - 0.2 * r, 0.22 * r, 0.22 * r, (206, 206, 196), glow=True)

    def cloud(self, x: float, v: float, width: float) -> None:
        """Paint one cloud with a bright crown and a flat, shaded foot at height `v`."""
        sky = self.light.sky
        light = {
            "noon": (255, 255, 255),
            "sunset": (255, 206, 170),
            "dusk": (226, 168, 186),
            "night": (54, 66, 108),
            "overcast": (228, 231, 234),
        }[self.light.name]
        shade = mix(light, sky[0] if self.light.name != "overcast" else (150, 156, 164), 0.32)
        outlines = [rounded(x - 0.5 * width, v - 0.13 * width, x + 0.5 * width, v, 0.065 * width)]
        for place, reach in self.random.uniform((-0.05, 0.12), (0.05, 0.19), (4, 2)):
            across = 0.8 * (len(outlines) - 2.5) / 4 + place
            radius = width * reach * (1.2 - 1.4 * abs(across))
            outlines.append(oval(x + across * width, v - 0.11 * width, 1.15 * radius, radius))
        self.pen.fill(outlines, light, to=shade, soft=0.003, glow=True, alpha=0.96)

    def ridge(
        self,
        height: float,
        color: RGB,
        haze: float,
        rough: float = 0.5,
        base: float | None = None,
        to: RGB | None = None,
    ) -> None:
        """Paint a line of hills that rises `height` above the horizon."""
        x = np.linspace(-1.0, 1.0, 49)
        line = np.zeros_like(x)
        for octave, share in (
            (1.3, 1.0),
            (2.9, 0.5 * rough + 0.2),
            (6.1, 0.5 * rough),
            (13.0, 0.25 * rough**2),
        ):
            line += share * np.sin(2 * np.pi * octave * x + self.random.uniform(0, 2 * np.pi))
        line = (line - line.min()) / (np.ptp(line) + 1e-9)
        foot = (self.horizon if base is None else base) + 0.02
        points = np.stack([x, foot - 0.02 - height * (0.25 + 0.75 * line)], 1)
        outline = np.concatenate([points, [(1.0, foot), (-1.0, foot)]])
        self.hazy(haze).polygon(outline, color, to=to)

    def ground(
        self,
        far: RGB,
        near: RGB,
        grain: float = 0.08,
        stretch: float = 3.0,
        top: float | None = None,
        fine: float = 14.0,
    ) -> None:
        """Paint ground in perspective from the horizon down.

        `grain` is the strength of its texture, `stretch` how much flatter than wide it looks,
        `fine` its cells per
        image width at the bottom.
        """
        top = self.horizon if top is None else top
        first = self.row(top)
        height = self.image.height - first
        if height <= 0:
            return
        rows, columns = max(2, min(height, 150)), min(self.image.width, 150)
        if self.image.width > 600:
            rows, columns = max(2, min(height, 320)), 320
        v = (first + (np.arange(rows) + 0.5) * height / rows - self.origin[1]) / self.scale
        x = ((np.arange(columns) + 0.5) * self.image.width / columns - self.origin[0]) / self.scale
        near_share = np.clip((v - self.horizon) / (1 - self.horizon), 0.0, 1.3)
        distance = 1.0 / (near_share + 0.06)
        start = self.random.integers(0, _TILE * _FINE, 2)
        fine, last = fine * _FINE, _TILE * _FINE - 1
        across = (x[None] * distance[:, None] * fine + start[0]).astype(np.int64) & last
        along = (distance * fine * stretch + start[1]).astype(np.int64)[:, None] & last
        texture = noise_tile()[along, across] * (grain * np.clip(near_share * 2.2, 0.15, 1))[:, None]
        first_color, last_color = (np.array(self.light.on(c)) for c in (far, near))
        first_color = first_color + (np.array(self.light.haze) - first_color) * 0.3
        ease = np.clip(near_share, 0, 1)[:, None] ** 0.6
        colors = first_color + (last_color - first_color) * ease
        pixels = np.clip(colors[:, None] * (1 + texture[..., None]) + 0.5, 0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels)
        picture = picture.resize((self.image.width, height), Image.Resampling.BILINEAR)
        self.image.paste(picture, (0, first))

    def depth_of(self, v: float) -> float:
        """Return the scale of things that stand at height `v`: 0 at the horizon, 1 at the bottom."""
        return (v - self.horizon) / (1 - self.horizon)

    def scatter(self, count: int, low: float = 0.08, high: float = 1.05) -> np.ndarray:
        """Return places (x, v, scale) on the ground from far to near, shape (count, 3)."""
        places = self.random.uniform((-0.75, low), (0.75, high), (count, 2))
        places = places[np.argsort(places[:, 1])]
        v = self.horizon + places[:, 1] * (1 - self.horizon)
        return np.stack([places[:, 0], v, places[:, 1]], 1)

    def water(self, top: float, bottom: float, far: RGB, near: RGB, glints: int = 26) -> None:
        """Paint water that mirrors the sky, with waves that drift."""
        self.gradient((mix(far, self.light.sky[-1], 0.35), mix(near, self.light.sky[0], 0.15)), top, bottom)
        depth = bottom - top
        bright = lighter(self.light.sky[-1], 0.35)
        drift = 0.02 * self.time
        for x, share, length in self.random.uniform((-0.75, 0.02, 0.03), (0.75, 1, 0.12), (glints, 3)):
            v = top + depth * share**1.6
            length *= 0.4 + share
            thick = 0.003 + 0.006 * share * min(1.0, depth * 2)
            self.pen.ellipse(x + drift * (1 + share), v, length, thick, bright, glow=True, alpha=0.5)
            self.pen.ellipse(x - drift + 0.1, v + 2.5 * thick, length, thick, near, glow=True, alpha=0.35)
        if self.light.name in ("sunset", "dusk", "night"):
            self._glitter(top, depth)

    def _glitter(self, top: float, depth: float) -> None:
        color = {"sunset": (255, 226, 160), "dusk": (255, 196, 180), "night": (200, 210, 236)}[self.light.name]
        x = 0.33 * self.light.side
        for share in np.linspace(0.02, 0.8, 12):
            wide = (0.03 + 0.05 * share) * float(self.random.uniform(0.5, 1.3))
            shift = float(self.random.uniform(-0.02, 0.02))
            self.pen.ellipse(x + shift, top + depth * float(share), wide, 0.004, color, glow=True, alpha=0.6)
