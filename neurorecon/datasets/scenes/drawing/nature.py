"""Places in nature: one function paints one setting."""

from __future__ import annotations

import math

import numpy as np

from neurorecon.datasets.scenes.arrangement import SHORE
from neurorecon.datasets.scenes.drawing.backdrop import Backdrop
from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen


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
