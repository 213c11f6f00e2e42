"""The places: one function paints one setting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurorecon.datasets.scenes.drawing.backdrop import Backdrop
from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.scene import SHORE


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
    for row in range(rows - 1):
        for column in range(columns):
            wx = x + (column + 0.5) * width / columns
            wv = top + (row + 0.55) * (foot - top) / rows
            lit = night and b.random.random() < 0.55
            glass: RGB = (250, 212, 130) if lit else mix((92, 116, 140), b.light.sky[1], 0.25)
            pen.box(wx - 0.019, wv - 0.03, wx + 0.019, wv + 0.03, lighter(color, 0.45))
            pen.box(wx - 0.014, wv - 0.025, wx + 0.014, wv + 0.025, glass, glow=lit)
    shop = foot - 0.7 * (foot - top) / rows
    pen.box(x + 0.02, shop, x + width - 0.02, foot, darker(color, 0.5))
    pen.box(x + 0.03, shop + 0.012, x + width * 0.62, foot - 0.015, (150, 176, 190) if not night else (252, 220, 150),
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
        b.pen.polygon(
            [(x0, foot), (x0 + 0.004, foot), (1.7 * x0 + 0.006, curb), (1.7 * x0, curb)], (150, 146, 142)
        )
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
            for wv in np.arange(top + 0.025, foot - 0.03, 0.036):
                for wx in np.arange(x + 0.02, x + width - 0.015, 0.032):
                    lit = b.light.name in ("night", "dusk") and b.random.random() < 0.4
                    pen.box(wx - 0.007, wv - 0.009, wx + 0.007, wv + 0.009,
                            (255, 220, 140) if lit else (92, 108, 130), glow=lit)  # fmt: skip
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
    b.gradient(
        tuple(mix(b.light.on((176, 206, 150)), sky, 0.45) for sky in b.light.sky), -0.2, b.horizon + 0.06
    )
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
