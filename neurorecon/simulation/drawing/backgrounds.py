"""Backgrounds: sky, hills, ground and water, and the settings in nature and town that consist of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

from neurorecon.simulation.drawing.pen import RGB, Light, Pen, darker, lighter, mix, oval, rounded
from neurorecon.simulation.scene import SHORE

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
    """Paints the parts of a background onto a canvas.

    World coordinates: x from -0.5 (left) to 0.5 (right), v from 0 (top) to 1 (bottom) of the image at time 0. A moving
    camera sees beyond them; everything is a function of world coordinates, so that it stays in place.

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
        """Return a pen for distant objects with this share of haze."""
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
        """Paint the sky with sun, moon, stars or clouds."""
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
        image = Image.fromarray(pixels)
        image = image.resize((self.image.width, height), Image.Resampling.BILINEAR)
        self.image.paste(image, (0, first))

    def scatter(self, count: int, low: float = 0.08, high: float = 1.05) -> np.ndarray:
        """Return random positions (x, v, scale) on the ground from far to near, shape (count, 3)."""
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


def meadow(b: Backdrop) -> None:
    """Green hills and grass."""
    b.sky()
    b.ridge(0.17, (92, 132, 146), 0.5, 0.6)
    b.ridge(0.08, (86, 142, 84), 0.25, 0.3)
    for x, v, s in b.scatter(9, -0.02, 0.02):
        bush(b.hazy(0.25), x, v + 0.005, 0.03 + 0.02 * float(b.random.random()), (58, 112, 66))
        del s
    b.ground((146, 186, 92), (82, 142, 58), 0.16, 3.0, fine=16)
    _tufts(b, 34, (60, 118, 46), (128, 178, 78))
    for x, v, s in b.scatter(14, 0.2):
        color = ((250, 220, 90), (250, 250, 245), (226, 110, 120))[int(b.random.integers(3))]
        b.pen.ellipse(x, v, 0.003 + 0.007 * s, 0.003 + 0.006 * s, color)


def _tufts(b: Backdrop, count: int, dark: RGB, light: RGB) -> None:
    for number, (x, v, s) in enumerate(b.scatter(count, 0.12)):
        h, w = 0.012 + 0.045 * s, 0.006 + 0.014 * s
        b.pen.polygon(
            [(x - w, v), (x - 1.3 * w, v - 0.8 * h), (x - 0.3 * w, v - 0.3 * h), (x, v - h),
             (x + 0.4 * w, v - 0.3 * h), (x + 1.4 * w, v - 0.7 * h), (x + w, v)],
            dark if number % 2 else light,
        )  # fmt: skip


def bush(pen: Pen, x: float, v: float, size: float, color: RGB) -> None:
    """Draw a small round bush that stands at (x, v)."""
    for dx, dy, r, tone in ((-0.8, -0.5, 0.7, 0.15), (0.8, -0.45, 0.65, 0.15), (0, -0.8, 0.95, 0.0)):
        pen.ellipse(x + dx * size, v + dy * size, r * size, r * size, darker(color, tone))
    pen.ellipse(x - 0.25 * size, v - 1.05 * size, 0.5 * size, 0.45 * size, lighter(color, 0.14))


def beach(b: Backdrop) -> None:
    """Sea, a line of foam and sand."""
    b.sky()
    shore = b.horizon + (1 - SHORE) * (1 - b.horizon)
    b.water(b.horizon, shore + 0.06, b.light.on((70, 160, 190)), b.light.on((60, 186, 196)), 18)
    b.ground((232, 206, 156), (222, 190, 134), 0.09, 3.0, top=shore + 0.05, fine=20)
    x = np.linspace(-0.9, 0.9, 40)
    wave = shore + 0.012 * np.sin(9 * x + b.random.uniform(0, 6)) + 0.006 * np.sin(23 * x)
    wave += 0.006 * math.sin(1.5 * b.time)
    foam = np.concatenate([np.stack([x, wave], 1), np.stack([x, wave + 0.028], 1)[::-1]])
    wet = np.concatenate([np.stack([x, wave + 0.02], 1), np.stack([x, wave + 0.075], 1)[::-1]])
    sand = np.concatenate([np.stack([x, wave + 0.02], 1), [(0.9, shore + 0.09), (-0.9, shore + 0.09)]])
    b.pen.polygon(sand, (226, 198, 148))
    b.pen.polygon(wet, (184, 152, 108), alpha=0.8)
    b.pen.polygon(foam, (250, 252, 250), alpha=0.92)
    for x0, v, s in b.scatter(16, 0.45):
        b.pen.ellipse(x0, v, 0.004 + 0.008 * s, 0.002 + 0.004 * s, (190, 156, 110))


def snow(b: Backdrop) -> None:
    """White hills with pines."""
    b.sky(clouds=2)
    b.ridge(0.24, (176, 194, 218), 0.35, 0.9, to=(214, 226, 238))
    b.ridge(0.10, (214, 226, 238), 0.15, 0.3)
    for x, v, s in b.scatter(12, -0.06, 0.03):
        pine(b.hazy(0.3), x, v, 0.09 + 0.04 * float(b.random.random()), (62, 96, 92))
        del s
    b.ground((232, 238, 246), (240, 244, 250), 0.035, 4.0, fine=7)
    for x, v, s in b.scatter(7, 0.15):
        b.pen.ellipse(x, v, 0.06 + 0.12 * s, 0.008 + 0.016 * s, (206, 220, 238), alpha=0.8)
    if b.light.name in ("overcast", "night", "dusk"):
        for x, v, r in b.random.uniform((-0.7, -0.1, 0.003), (0.7, 1.1, 0.008), (44, 3)):
            fall = (v + 0.12 * b.time + 0.2) % 1.3 - 0.15
            b.pen.ellipse(x + 0.02 * math.sin(3 * b.time + 40 * r), fall, r, r, (250, 252, 255))


def pine(pen: Pen, x: float, v: float, height: float, color: RGB) -> None:
    """Draw a small, far pine that stands at (x, v)."""
    for low, high, wide in ((0.12, 0.55, 0.30), (0.36, 0.78, 0.22), (0.58, 1.0, 0.14)):
        pen.polygon(
            [
                (x - wide * height, v - low * height),
                (x + wide * height, v - low * height),
                (x, v - high * height),
            ],
            color,
        )
    pen.box(x - 0.03 * height, v - 0.14 * height, x + 0.03 * height, v, (92, 66, 52))


def desert(b: Backdrop) -> None:
    """Table mountains and dunes."""
    b.sky(clouds=1)
    for _ in range(2):
        x, w = b.random.uniform(-0.6, 0.6), b.random.uniform(0.14, 0.26)
        h = float(b.random.uniform(0.10, 0.18))
        foot = b.horizon + 0.01
        b.hazy(0.3).polygon(
            [(x - w, foot), (x - 0.72 * w, foot - 0.45 * h), (x - 0.6 * w, foot - h), (x + 0.5 * w, foot - h),
             (x + 0.66 * w, foot - 0.4 * h), (x + w, foot)], (188, 108, 76), to=(206, 140, 100),
        )  # fmt: skip
    b.ridge(0.05, (222, 168, 108), 0.25, 0.2)
    b.ground((236, 190, 124), (220, 164, 96), 0.07, 4.0, fine=12)
    for x, v, s in b.scatter(5, 0.1, 0.9):
        w = 0.18 + 0.25 * s
        b.pen.blob(
            [(x - w, v), (x - 0.3 * w, v - 0.05 * s - 0.012), (x + 0.4 * w, v - 0.02), (x + w, v),
             (x, v + 0.012 + 0.02 * s)], (196, 140, 80), alpha=0.35,
        )  # fmt: skip
    for x, v, s in b.scatter(12, 0.15):
        b.pen.ellipse(x, v, 0.006 + 0.012 * s, 0.004 + 0.008 * s, (164, 112, 76))


def lake(b: Backdrop) -> None:
    """Water before wooded hills."""
    b.sky()
    b.ridge(0.20, (104, 128, 156), 0.45, 0.8)
    b.ridge(0.07, (66, 108, 82), 0.2, 0.5)
    for x, v, s in b.scatter(14, -0.01, 0.0):
        pine(b.hazy(0.2), x, v + 0.005, 0.05 + 0.04 * float(b.random.random()), (52, 92, 72))
        del s
    b.water(b.horizon, 1.15, b.light.on((96, 150, 176)), b.light.on((34, 92, 136)), 46)
    for x in b.random.uniform(-0.7, 0.7, 5):
        pen = b.pen
        pen.ellipse(x, b.horizon + 0.012, 0.05, 0.005, (50, 88, 70), alpha=0.5)


def forest(b: Backdrop) -> None:
    """Trunks behind trunks."""
    b.gradient(tuple(mix(b.light.on((176, 206, 150)), sky, 0.45) for sky in b.light.sky), -0.2, b.horizon + 0.06)
    for haze, count, wide, tone in ((0.62, 12, 0.022, (84, 104, 74)), (0.35, 8, 0.036, (86, 72, 54))):
        pen = b.hazy(haze)
        for x in np.linspace(-0.75, 0.75, count) + b.random.uniform(-0.04, 0.04, count):
            w = wide * float(b.random.uniform(0.7, 1.3))
            foot = b.horizon + (0.015 if haze > 0.5 else 0.05)
            pen.polygon([(x - w, foot), (x - 0.6 * w, -0.3), (x + 0.6 * w, -0.3), (x + w, foot)], tone)
            for _ in range(2):
                bush(pen, x + b.random.uniform(-0.06, 0.06), foot, 0.03, (74, 122, 62))
    for x in b.random.uniform(-0.7, 0.7, 14):
        r = float(b.random.uniform(0.08, 0.15))
        v = float(b.random.uniform(-0.06, 0.06))
        b.hazy(0.2).ellipse(x, v, r, 0.7 * r, ((58, 112, 56), (78, 134, 62))[int(r > 0.115)])
    b.ground((112, 140, 74), (84, 104, 52), 0.2, 3.0, top=b.horizon + 0.03, fine=18)
    for x, v, s in b.scatter(4, 0.2, 0.9):
        b.pen.ellipse(x, v, 0.10 + 0.1 * s, 0.012 + 0.02 * s, (190, 200, 110), alpha=0.35)
    _tufts(b, 26, (54, 98, 44), (122, 156, 70))


def sky(b: Backdrop) -> None:
    """High up, the land far below."""
    b.sky(bottom=1.0, clouds=2)
    for _ in range(3):
        b.cloud(float(b.random.uniform(-0.6, 0.6)), float(b.random.uniform(0.35, 0.85)), 0.45)
    b.ridge(0.06, (104, 134, 150), 0.5, 0.5)
    b.ground((120, 160, 110), (104, 150, 90), 0.1, 4.0)


def underwater(b: Backdrop) -> None:
    """The sea from within."""
    b.gradient(((98, 206, 222), (40, 142, 190), (20, 84, 146)), -0.2, b.horizon + 0.05)
    for x in b.random.uniform(-0.6, 0.6, 5):
        lean, w = float(b.random.uniform(0.05, 0.2)), float(b.random.uniform(0.03, 0.07))
        sway = 0.02 * math.sin(1.2 * b.time + 9 * x)
        b.pen.polygon(
            [(x, -0.3), (x + w, -0.3), (x + 2.2 * w - lean + sway, 0.85), (x - w - lean + sway, 0.85)],
            (190, 240, 244), alpha=0.16, soft=0.012, glow=True,
        )  # fmt: skip
    b.ridge(0.10, (28, 96, 140), 0.0, 0.4)
    b.ground((110, 160, 160), (206, 192, 146), 0.12, 3.0, fine=12)
    for x, v, s in b.scatter(8, 0.05, 0.5):
        color = ((52, 138, 92), (198, 92, 108), (92, 160, 84), (224, 138, 84))[int(b.random.integers(4))]
        h = float(b.random.uniform(0.08, 0.2))
        for shift in (-0.02, 0.0, 0.02):
            top = 0.018 * math.sin(2 * b.time + 20 * (x + shift))
            b.pen.limb(
                [(x + shift, v, 0.008), (x + 1.6 * shift - top, v - 0.5 * h, 0.009),
                 (x + 1.8 * shift + top, v - h * (1 - 9 * abs(shift)), 0.004)], color,
            )  # fmt: skip
        del s
    for x, v, r in b.random.uniform((-0.5, 0, 0.004), (0.5, 0.8, 0.012), (12, 3)):
        rise = (v - 0.1 * b.time) % 0.9
        b.pen.ellipse(x, rise, r, r, (196, 236, 244), alpha=0.6, glow=True)


_FACADES: tuple[RGB, ...] = (
    (206, 168, 132),
    (184, 122, 100),
    (200, 190, 170),
    (150, 162, 172),
    (216, 190, 128),
)


def _facade(b: Backdrop, pen: Pen, x: float, width: float, top: float, foot: float, color: RGB) -> None:
    """Draw the front of a house in a row of houses."""
    pen.box(x, top, x + width, foot, color, to=darker(color, 0.14))
    pen.box(x - 0.008, top - 0.012, x + width + 0.008, top + 0.012, darker(color, 0.28))
    columns = max(2, round(width / 0.075))
    rows = max(2, round((foot - top) / 0.1))
    night = b.light.name in ("night", "dusk")
    across = x + (np.arange(columns) + 0.5) * width / columns
    down = top + (np.arange(rows - 1) + 0.55) * (foot - top) / rows
    places = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
    lit = np.full(len(places), night) & (b.random.random(len(places)) < 0.55)
    pen.boxes(places, 0.038, 0.06, lighter(color, 0.45))
    pen.boxes(places[~lit], 0.028, 0.05, mix((92, 116, 140), b.light.sky[1], 0.25))
    pen.boxes(places[lit], 0.028, 0.05, (250, 212, 130), glow=True)
    shop = foot - 0.7 * (foot - top) / rows
    pen.box(x + 0.02, shop, x + width - 0.02, foot, darker(color, 0.5))
    pen.box(x + 0.03, shop + 0.012, x + width * 0.62, foot - 0.015,
            (150, 176, 190) if not night else (252, 220, 150),
            glow=night)  # fmt: skip
    awning = ((188, 70, 62), (70, 120, 110), (216, 164, 70))[int(b.random.integers(3))]
    pen.polygon(
        [(x + 0.02, shop - 0.01), (x + width * 0.66, shop - 0.01), (x + width * 0.7, shop + 0.025),
         (x + 0.005, shop + 0.025)], awning,
    )  # fmt: skip


def street(b: Backdrop) -> None:
    """A row of houses, a sidewalk and a road."""
    b.sky(clouds=2)
    foot = b.horizon + 0.03
    x = -0.85 + 0.1 * float(b.random.random())
    order = b.random.permutation(len(_FACADES))
    number = 0
    while x < 0.8:
        width = float(b.random.uniform(0.16, 0.28))
        top = foot - float(b.random.uniform(0.24, 0.40))
        _facade(b, b.hazy(0.22), x, width, top, foot, _FACADES[order[number % len(order)]])
        x += width
        number += 1
    below = 1 - b.horizon
    curb = b.horizon + 0.26 * below
    b.ground((176, 172, 166), (176, 172, 166), 0.05, 2.0, top=foot)
    for x0 in np.arange(-1.5, 1.5, 0.12):
        b.pen.polygon([(x0, foot), (x0 + 0.004, foot), (1.7 * x0 + 0.006, curb), (1.7 * x0, curb)], (150, 146, 142))
    b.ground((98, 100, 108), (84, 86, 94), 0.10, 2.0, top=curb)
    b.pen.box(-1, curb, 1, curb + 0.02, (206, 202, 196))
    b.pen.box(-1, curb + 0.02, 1, curb + 0.032, (66, 66, 74))
    line = b.horizon + 0.66 * below
    for x0 in np.arange(-1.0, 1.0, 0.34) + float(b.random.uniform(0, 0.3)):
        b.pen.polygon(
            [(x0, line), (x0 + 0.18, line), (x0 + 0.184, line + 0.022), (x0 - 0.004, line + 0.022)],
            (226, 222, 206),
        )


def city_square(b: Backdrop) -> None:
    """Paving before a skyline."""
    b.sky(clouds=2)
    foot = b.horizon + 0.02
    for haze, low, high, wide in ((0.55, 0.16, 0.36, 0.10), (0.32, 0.08, 0.22, 0.15)):
        x = -0.8
        while x < 0.8:
            width = wide * float(b.random.uniform(0.7, 1.4))
            top = foot - float(b.random.uniform(low, high))
            color = _FACADES[int(b.random.integers(len(_FACADES)))]
            pen = b.hazy(haze)
            pen.box(x, top, x + width, foot, darker(color, 0.15))
            across, down = (
                np.arange(x + 0.02, x + width - 0.015, 0.032),
                np.arange(top + 0.025, foot - 0.03, 0.036),
            )
            places = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
            lit = (b.random.random(len(places)) < 0.4) & (b.light.name in ("night", "dusk"))
            pen.boxes(places[~lit], 0.014, 0.018, (92, 108, 130))
            pen.boxes(places[lit], 0.014, 0.018, (255, 220, 140), glow=True)
            x += width + float(b.random.choice([0.0, 0.0, 0.03]))
    for x0 in np.arange(-0.8, 0.8, 0.13):
        bush(b.hazy(0.15), float(x0 + b.random.uniform(-0.02, 0.02)), foot + 0.005, 0.028, (70, 118, 72))
    b.ground((206, 194, 176), (190, 174, 152), 0.05, 2.0, top=foot)
    _paving(b, foot)


def _paving(b: Backdrop, foot: float) -> None:
    joint = (156, 142, 124)
    near = b.horizon + 1.15 * (1 - b.horizon)
    for share in (0.09, 0.16, 0.26, 0.40, 0.60, 0.88):
        v = b.horizon + share * (1 - b.horizon)
        thick = 0.003 + 0.006 * share
        b.pen.box(-1, v, 1, v + thick, joint, alpha=0.7)
    spread = (near - b.horizon) / (foot - b.horizon)
    for x0 in np.arange(-0.98, 1.0, 0.028):
        x1 = x0 * spread
        if abs(x1) < 30:
            b.pen.polygon([(x0, foot), (x0 + 0.0006, foot), (x1 + 0.008, near), (x1, near)], joint, alpha=0.6)


def table(b: Backdrop) -> None:
    """A wooden table before a wall."""
    wall = ((196, 208, 206), (222, 208, 188), (178, 192, 210), (208, 188, 184))[int(b.random.integers(4))]
    b.gradient((lighter(wall, 0.15), darker(wall, 0.12)), -0.2, b.horizon, lit=True)
    x = -0.3 * b.light.side
    frame = b.pen.box(x - 0.13, 0.06, x + 0.13, b.horizon - 0.1, (250, 248, 242))
    scene = b.light.sky
    b.pen.box(x - 0.115, 0.075, x + 0.115, b.horizon - 0.115, scene[0], to=scene[2], glow=True, inside=frame)
    b.pen.box(x - 0.006, 0.06, x + 0.006, b.horizon - 0.1, (240, 238, 232))
    wood = ((176, 118, 74), (202, 154, 104), (142, 92, 62))[int(b.random.integers(3))]
    b.ground(lighter(wood, 0.12), wood, 0.06, 9.0, fine=5)
    for v in (0.25, 0.55, 0.95):
        y = b.horizon + v * (1 - b.horizon)
        b.pen.box(-1, y, 1, y + 0.004 + 0.004 * v, darker(wood, 0.3), alpha=0.7)
    b.pen.box(-1, b.horizon - 0.006, 1, b.horizon + 0.01, lighter(wood, 0.3))


def workshop(b: Backdrop) -> None:
    """A bench of planks, seen from above."""
    wood = ((186, 140, 94), (158, 118, 84), (204, 164, 116))[int(b.random.integers(3))]
    b.gradient((wood, darker(wood, 0.06)), -0.5, 1.5, lit=True)
    y = -0.4 + 0.1 * float(b.random.random())
    while y < 1.4:
        high = float(b.random.uniform(0.20, 0.26))
        tone = float(b.random.uniform(-0.1, 0.12))
        plank = lighter(wood, tone) if tone > 0 else darker(wood, -tone)
        shape = b.pen.box(-1, y, 1, y + high, plank)
        for _ in range(7):
            v, x0 = y + high * float(b.random.random()), float(b.random.uniform(-0.9, 0.6))
            long = float(b.random.uniform(0.2, 0.6))
            b.pen.ellipse(x0, v, long, 0.004, darker(plank, 0.16), inside=shape, alpha=0.8)
        if b.random.random() < 0.5:
            kx, kv = float(b.random.uniform(-0.5, 0.5)), y + high * 0.5
            b.pen.ellipse(kx, kv, 0.034, 0.018, darker(plank, 0.22), inside=shape)
            b.pen.ellipse(kx, kv, 0.018, 0.009, darker(plank, 0.42), inside=shape)
        b.pen.box(-1, y - 0.005, 1, y + 0.004, darker(wood, 0.5))
        y += high
    for x, v in b.random.uniform((-0.5, 0), (0.5, 1), (5, 2)):
        b.pen.ellipse(x + 0.006, v + 0.008, 0.014, 0.013, darker(wood, 0.45), alpha=0.6)
        b.pen.ellipse(x, v, 0.012, 0.012, (176, 180, 186))
        b.pen.box(x - 0.009, v - 0.0025, x + 0.009, v + 0.0025, (96, 100, 108))


#: The painter of each setting; the walls of a room are painted by the room itself, which is an object.
PAINT: dict[str, Callable[[Backdrop], None]] = {
    "meadow": meadow,
    "beach": beach,
    "street": street,
    "city square": city_square,
    "snow": snow,
    "desert": desert,
    "lake": lake,
    "forest": forest,
    "sky": sky,
    "underwater": underwater,
    "table": table,
    "workshop": workshop,
}
