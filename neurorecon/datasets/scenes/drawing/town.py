"""Places that people made: one function paints one setting."""

from __future__ import annotations

import numpy as np

from neurorecon.datasets.scenes.drawing.backdrop import Backdrop
from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.nature import bush
from neurorecon.datasets.scenes.drawing.pen import Pen

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
