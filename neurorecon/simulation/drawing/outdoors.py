"""Plants that sway in the wind, and buildings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurorecon.simulation.drawing.pen import RGB, Pen, Pose, Shape, darker, lighter, mix, oval

_LEAVES: dict[str, RGB] = {
    "green": (74, 140, 66),
    "orange": (222, 122, 46),
    "yellow": (232, 188, 62),
    "red": (186, 62, 48),
    "teal": (44, 116, 104),
}


def _grass(pen: Pen, pose: Pose, half: float) -> None:
    for number in range(7):
        x = half * (number - 3) / 3
        pen.polygon([(x - 0.012, 0.005), (x + 0.012 * pose.between(-1, 1), -0.05 - 0.02 * (number % 3)),
                     (x + 0.012, 0.005)],
                    (70, 124, 56))  # fmt: skip


def tree(pen: Pen, pose: Pose) -> None:
    """Draw a broad tree with a round crown of leaves."""
    color = _LEAVES[pose.item.color]
    bark: RGB = (112, 80, 58)
    pen.polygon(
        [(-0.075, 0.0), (-0.045, -0.12), (-0.036, -0.50), (0.036, -0.50), (0.045, -0.12), (0.08, 0.0)],
        bark,
        volume=0.6,
    )
    for side, y in ((-1, -0.36), (1, -0.42)):
        pen.limb([(0, y + 0.04, 0.024), (side * 0.13, y - 0.13, 0.014)], bark)
    sway = pose.swing(0.012)
    centers = [
        (-0.22, -0.50, 0.17),
        (0.21, -0.48, 0.17),
        (0.0, -0.46, 0.17),
        (-0.16, -0.70, 0.18),
        (0.17, -0.68, 0.18),
        (0.0, -0.80, 0.18),
    ]
    crown = [
        oval(x + sway * (-y) * 1.6, y, r * pose.between(0.92, 1.08), r * pose.between(0.86, 1.0)) for x, y, r in centers
    ]
    leaves = pen.fill(crown, darker(color, 0.12), volume=0.75)
    side = -pen.light.side
    for _ in range(30):
        angle, radius = pose.between(0, 2 * math.pi), 0.31 * math.sqrt(pose.between(0, 1))
        x, y = radius * math.cos(angle) + sway, -0.62 + 0.92 * radius * math.sin(angle)
        lit = (-(y + 0.62) - side * 0.8 * x) / 0.31
        tone = lighter(color, 0.12 + 0.16 * lit) if lit > -0.1 else darker(color, 0.2 - 0.15 * lit)
        r = pose.between(0.026, 0.05)
        pen.ellipse(x, y, r, 0.75 * r, tone, inside=leaves, alpha=0.75)
    if pose.item.color == "red":
        for x in (-0.16, 0.12, 0.2):
            pen.ellipse(x, -0.008, 0.018, 0.007, color)


def pine(pen: Pen, pose: Pose) -> None:
    """Draw a fir with snow on it in winter light colors of its own."""
    color = _LEAVES[pose.item.color] if pose.item.color == "teal" else (52, 108, 70)
    pen.box(-0.032, -0.16, 0.032, 0.0, (104, 72, 54), volume=0.6)
    sway = pose.swing(0.010)
    tiers = [(-0.11, -0.44, 0.29), (-0.28, -0.62, 0.24), (-0.46, -0.80, 0.185), (-0.64, -1.0, 0.13)]
    for low, top, wide in tiers:
        s0, s1 = sway * -low, sway * -top
        edge = [(s0 + wide * x, low + (0.022 if n % 2 else -0.012)) for n, x in enumerate(np.linspace(1, -1, 9))]
        outline = [
            (s1, top),
            (s1 + 0.30 * wide, 0.55 * top + 0.45 * low),
            *edge,
            (s1 - 0.30 * wide, 0.55 * top + 0.45 * low),
        ]
        tier = pen.polygon(outline, color, volume=0.55)
        pen.polygon([(s0 - wide, low + 0.03), (s0 + wide, low + 0.03), (s0 + 0.5 * wide, low - 0.05),
                     (s0 - 0.5 * wide, low - 0.05)],
                    darker(color, 0.4), inside=tier, alpha=0.45)  # fmt: skip
        if pose.item.color == "teal":
            pen.blob([(s1, top), (s1 + 0.26 * wide, top + 0.3 * (low - top)), (s1, top + 0.24 * (low - top)),
                      (s1 - 0.26 * wide, top + 0.32 * (low - top))], (246, 250, 255),
                      inside=tier)  # fmt: skip


def palm(pen: Pen, pose: Pose) -> None:
    """Draw a palm with a bent trunk and feathered leaves."""
    lean = pose.between(0.04, 0.10)
    top = (lean + 0.02, -0.74)
    joints = [
        (-lean, 0.0, 0.05),
        (-0.8 * lean, -0.2, 0.036),
        (-0.1 * lean, -0.45, 0.030),
        (top[0], top[1], 0.026),
    ]
    trunk = pen.limb(joints, (158, 118, 80), volume=0.6)
    for y in np.arange(-0.68, 0, 0.06):
        pen.line([(-0.2, y + 0.015), (0.2, y - 0.005)], 0.012, (112, 80, 56), inside=trunk)
    green: RGB = (70, 146, 70)
    sway = pose.swing(0.07)
    for number, angle in enumerate((-2.75, -0.35, -2.25, -0.85, -1.9, -1.25, -3.1, 0.0)):
        droop = 0.5 if abs(angle + 1.57) > 1.2 else 0.28
        turn = angle + sway * (0.6 + 0.1 * number)
        _frond(pen, top, turn, droop, darker(green, 0.24) if number % 2 else lighter(green, 0.05))
    for x, y in ((-0.025, 0.012), (0.028, 0.016), (0.0, 0.034)):
        pen.ellipse(top[0] + x, top[1] + y, 0.026, 0.028, (116, 78, 46), volume=0.5)


def _frond(pen: Pen, start: tuple[float, float], angle: float, droop: float, color: RGB) -> None:
    """Draw one leaf: a bent rib with a toothed lower edge."""
    length = 0.37
    rib, edge = [], []
    for share in np.linspace(0, 1, 9):
        x = start[0] + length * share * math.cos(angle)
        y = start[1] + length * share * math.sin(angle) + droop * length * share**2 * 1.5
        wide = 0.085 * math.sin(math.pi * min(1.0, share * 0.9 + 0.08))
        rib.append((x, y - 0.25 * wide))
        edge.append((x, y + wide))
        if share < 1:
            edge.append((x + 0.03 * math.cos(angle), y + 0.3 * wide))
    pen.polygon([*rib, *reversed(edge)], color)


def flower(pen: Pen, pose: Pose) -> None:
    """Draw one flower on its stem: petals, or a tulip, or a sunflower's many petals; in a vase on a table."""
    color = pose.color
    green: RGB = (76, 142, 70)
    sway = pose.swing(0.025)
    pen.limb([(0, -0.02, 0.018), (0.01 + 0.3 * sway, -0.40, 0.017), (sway, -0.70, 0.015)], green, volume=0.4)
    for side, y, a in ((-1, -0.22, 0.75), (1, -0.33, -0.7)):
        leaf = pen.at(0.0, y, a * 1.0)
        leaf.blob([(0, 0), (side * 0.10, -0.09), (side * 0.27, -0.06), (side * 0.14, 0.03)], green, volume=0.4)
    head = pen.at(sway, -0.72, 0.4 * sway)
    if pose.chance(0.28):
        _tulip(head, color)
    else:
        _daisy(head, pose, color)
    if pose.setting == "table":
        _vase(pen, pose)
    else:
        _grass(pen, pose, 0.12)


def _vase(pen: Pen, pose: Pose) -> None:
    glaze = pose.pick((72, 118, 150), (232, 226, 212), (186, 96, 74), (92, 134, 116))
    body = [
        (-0.075, -0.38), (0.075, -0.38), (0.065, -0.30), (0.14, -0.18), (0.125, -0.05), (0.07, 0.0),
        (-0.07, 0.0),
        (-0.125, -0.05), (-0.14, -0.18), (-0.065, -0.30),
    ]  # fmt: skip
    shape = pen.blob(body, glaze, volume=0.7)
    pen.box(-0.2, -0.16, 0.2, -0.12, lighter(glaze, 0.4), inside=shape, alpha=0.7)
    pen.ellipse(0, -0.38, 0.075, 0.018, darker(glaze, 0.4))


def _daisy(pen: Pen, pose: Pose, color: RGB) -> None:
    count = int(pose.between(6, 12))
    wide = 0.36 / count + 0.018
    for ring, (tone, reach) in enumerate(((darker(color, 0.22), 0.27), (color, 0.25))):
        for number in range(count):
            angle = 2 * math.pi * (number + 0.5 * ring) / count
            petal = pen.at(0, 0, angle)
            petal.ellipse(0, -0.56 * reach, wide * 1.35, 0.48 * reach, tone, volume=0.3)
    heart: RGB = (246, 196, 62) if pose.item.color not in ("yellow", "orange") else (112, 70, 40)
    disk = pen.ellipse(0, 0, 0.088, 0.088, heart, volume=0.5)
    for number in range(9):
        a = 2.4 * number
        r = 0.024 * math.sqrt(number)
        pen.ellipse(r * math.cos(a), r * math.sin(a), 0.009, 0.009, darker(heart, 0.35), inside=disk)


def _tulip(pen: Pen, color: RGB) -> None:
    pen.blob(
        [(-0.12, 0.10), (-0.20, -0.08), (-0.13, -0.26), (-0.02, -0.12), (0.0, 0.14)],
        darker(color, 0.2),
        volume=0.3,
    )
    pen.blob(
        [(0.12, 0.10), (0.20, -0.08), (0.13, -0.26), (0.02, -0.12), (0.0, 0.14)],
        darker(color, 0.25),
        volume=0.3,
    )
    pen.blob(
        [(0, 0.15), (-0.15, 0.05), (-0.10, -0.14), (0.0, -0.27), (0.10, -0.14), (0.15, 0.05)],
        color,
        volume=0.5,
    )


def cactus(pen: Pen, pose: Pose) -> None:
    """Draw a tall cactus with two arms; some are in bloom."""
    green: RGB = (78, 140, 88)
    left, right = pose.between(-0.52, -0.36), pose.between(-0.50, -0.32)
    up_left, up_right = left - pose.between(0.2, 0.3), right - pose.between(0.2, 0.32)
    arms = [
        [(0, left + 0.02, 0.058), (-0.15, left, 0.058), (-0.215, left - 0.08, 0.06), (-0.22, up_left, 0.056)],
        [
            (0, right + 0.02, 0.055),
            (0.15, right, 0.055),
            (0.215, right - 0.08, 0.057),
            (0.22, up_right, 0.053),
        ],
    ]
    for arm in arms:
        shape = pen.limb(arm, darker(green, 0.06), volume=0.6)
        for dx in (-0.025, 0.025):
            pen.line(
                [(arm[2][0] + dx, arm[2][1]), (arm[3][0] + dx, arm[3][1] - 0.02)],
                0.010,
                darker(green, 0.4),
                inside=shape,
            )
    body = pen.limb([(0, -0.02, 0.088), (0, -0.5, 0.102), (0, -0.90, 0.092)], green, volume=0.7)
    for x in (-0.06, -0.02, 0.025, 0.065):
        pen.line([(x, 0.0), (1.1 * x, -0.5), (x, -0.97)], 0.011, darker(green, 0.38), inside=body)
    for number in range(12):
        x, y = pose.between(-0.085, 0.085), -0.08 - 0.07 * number
        pen.line([(x - 0.012, y - 0.008), (x + 0.012, y + 0.008)], 0.006, mix(green, (250, 246, 210), 0.8))
    if pose.chance(0.55):
        for x, y in ((0, -0.985), (-0.22, up_left - 0.05), (0.22, up_right - 0.05)):
            for dx in (-0.03, 0.0, 0.03):
                pen.ellipse(x + dx, y + 0.3 * abs(dx), 0.022, 0.034, (232, 96, 132), 8 * dx)
            pen.ellipse(x, y + 0.012, 0.014, 0.014, (250, 210, 90))


_ROOFS: tuple[RGB, ...] = ((150, 70, 56), (92, 84, 92), (120, 78, 58), (74, 88, 104))


def _is_dark(pen: Pen) -> bool:
    return pen.light.name in ("night", "dusk")


def window(pen: Pen, x: float, y: float, wide: float, high: float, frame: RGB = (244, 242, 236)) -> None:
    """Draw a window around (x, y) with a cross bar; at night a lamp shines behind it."""
    w, h = wide / 2, high / 2
    pen.box(x - w, y - h, x + w, y + h, frame)
    lit = _is_dark(pen)
    glass: RGB = (255, 214, 128) if lit else (104, 140, 172)
    pane = pen.box(x - 0.78 * w, y - 0.8 * h, x + 0.78 * w, y + 0.8 * h, glass, glow=lit)
    if not lit:
        pen.polygon([(x - w, y - h), (x + 0.2 * w, y - h), (x - w, y + 0.4 * h)], (176, 206, 226), inside=pane)
    pen.box(x - 0.09 * w, y - h, x + 0.09 * w, y + h, frame)
    pen.box(x - w, y - 0.08 * h, x + w, y + 0.08 * h, frame)
    pen.box(x - 1.15 * w, y + h, x + 1.15 * w, y + 1.16 * h, darker(frame, 0.18))


def door(pen: Pen, x: float, wide: float, high: float, color: RGB) -> None:
    """Draw a door that stands on the ground."""
    w = wide / 2
    pen.box(x - 1.25 * w, -1.08 * high, x + 1.25 * w, 0, (240, 236, 228))
    pen.box(x - w, -high, x + w, 0, color)
    pen.box(x - 0.62 * w, -0.9 * high, x + 0.62 * w, -0.56 * high, darker(color, 0.2))
    pen.box(x - 0.62 * w, -0.46 * high, x + 0.62 * w, -0.12 * high, darker(color, 0.2))
    pen.ellipse(x + 0.7 * w, -0.48 * high, 0.14 * w, 0.14 * w, (240, 206, 110))


def _boards(pen: Pen, wall: Shape, color: RGB, x0: float, x1: float, top: float, step: float) -> None:
    y = top + step
    while y < 0:
        pen.box(x0, y, x1, y + 0.006, darker(color, 0.16), inside=wall)
        y += step


def _tiles(pen: Pen, roof: Shape, color: RGB, top: float, low: float) -> None:
    rows = 5
    for row in range(1, rows):
        y = top + (low - top) * row / rows
        pen.box(-1, y, 1, y + 0.010, darker(color, 0.28), inside=roof)


def _shrub(pen: Pen, x: float, size: float) -> None:
    for dx, dy, r, tone in ((-0.7, 0.55, 0.6, 0.2), (0.7, 0.5, 0.6, 0.25), (0, 0.75, 0.75, 0.0)):
        pen.ellipse(x + dx * size, -dy * size, r * size, min(r, dy) * size, darker((74, 132, 66), tone), volume=0.4)


def house(pen: Pen, pose: Pose) -> None:
    """Draw a house: gable to the left, the long side with its roof to the right."""
    color, roof = pose.color, pose.pick(*_ROOFS)
    side = darker(color, 0.16)
    eave = -0.50
    pen.box(0.30, -0.98, 0.40, -0.62, (160, 92, 76), volume=0.3)
    pen.box(0.285, -1.0, 0.415, -0.955, (112, 66, 58))
    wall = pen.box(-0.08, eave - 0.02, 0.58, 0, side, to=darker(color, 0.3))
    _boards(pen, wall, side, -0.08, 0.58, eave, 0.075)
    front = pen.polygon([(-0.56, 0), (-0.56, eave), (-0.30, -0.90), (-0.02, eave), (-0.02, 0)], color)
    _boards(pen, front, color, -0.6, 0.0, -0.9, 0.075)
    slope = pen.polygon(
        [(-0.30, -0.95), (0.40, -0.91), (0.62, eave + 0.03), (0.02, eave + 0.03)], roof, to=darker(roof, 0.2)
    )
    _tiles(pen, slope, roof, -0.95, eave)
    pen.polygon([(-0.62, eave + 0.05), (-0.30, -0.97), (-0.27, -0.95), (0.05, eave + 0.05),
                 (0.0, eave + 0.06),
                 (-0.30, -0.87), (-0.58, eave + 0.07)], lighter(roof, 0.25))  # fmt: skip
    window(pen, -0.29, -0.60, 0.13, 0.15)
    window(pen, -0.42, -0.27, 0.15, 0.2)
    door(pen, -0.17, 0.13, 0.31, pose.pick((140, 58, 52), (58, 84, 112), (74, 98, 74), (120, 78, 50)))
    for x in (0.14, 0.42):
        window(pen, x, -0.28, 0.15, 0.19)
    pen.box(-0.56, -0.035, 0.58, 0, darker(color, 0.5))
    if pose.chance(0.7):
        _shrub(pen, 0.28, 0.07)
        _shrub(pen, -0.55, 0.06)


def barn(pen: Pen, pose: Pose) -> None:
    """Draw a barn with a bent roof and a large door with white braces."""
    color = pose.color
    white: RGB = (244, 240, 232) if pose.item.color != "white" else (150, 62, 54)
    roof: RGB = (96, 92, 100)
    wall = pen.box(-0.02, -0.56, 0.6, 0, darker(color, 0.2))
    for number in range(12):
        pen.box(0.03 + 0.05 * number, -0.6, 0.037 + 0.05 * number, 0, darker(color, 0.34), inside=wall)
    slope = pen.polygon(
        [(-0.26, -0.99), (0.44, -0.95), (0.52, -0.78), (0.62, -0.53), (0.04, -0.53), (-0.06, -0.80)], roof
    )
    pen.polygon([(-0.06, -0.80), (0.52, -0.78), (0.62, -0.53), (0.04, -0.53)], darker(roof, 0.2), inside=slope)
    gable = [
        (-0.60, 0),
        (-0.60, -0.54),
        (-0.50, -0.80),
        (-0.28, -0.95),
        (-0.06, -0.80),
        (0.04, -0.54),
        (0.04, 0),
    ]
    front = pen.polygon(gable, color)
    for number in range(13):
        pen.box(-0.58 + 0.05 * number, -1, -0.573 + 0.05 * number, 0, darker(color, 0.18), inside=front)
    edge = [(-0.64, -0.51), (-0.53, -0.82), (-0.28, -0.985), (-0.03, -0.82), (0.08, -0.51)]
    pen.line(edge, 0.04, lighter(roof, 0.5))
    pen.box(-0.46, -0.42, -0.10, 0, white)
    for x0, x1 in ((-0.44, -0.29), (-0.27, -0.12)):
        pen.box(x0, -0.40, x1, 0, darker(color, 0.12))
        pen.line([(x0 + 0.01, -0.38), (x1 - 0.01, -0.01)], 0.022, white)
        pen.line([(x1 - 0.01, -0.38), (x0 + 0.01, -0.01)], 0.022, white)
    pen.box(-0.36, -0.72, -0.20, -0.54, white)
    pen.box(-0.34, -0.70, -0.22, -0.56, (58, 44, 44) if not _is_dark(pen) else (250, 206, 120), glow=_is_dark(pen))
    for x in (0.2, 0.42):
        window(pen, x, -0.27, 0.12, 0.14, white)


def church(pen: Pen, pose: Pose) -> None:
    """Draw a church: a tower with a spire and a cross, the nave to the right."""
    color = pose.color
    roof = pose.pick((124, 70, 60), (84, 92, 106), (98, 120, 110))
    pen.box(-0.10, -0.36, 0.46, 0, darker(color, 0.14), to=darker(color, 0.28))
    pen.polygon([(-0.10, -0.62), (0.38, -0.60), (0.50, -0.34), (-0.10, -0.34)], roof, to=darker(roof, 0.25))
    for x in (0.06, 0.21, 0.36):
        _arched(pen, x, -0.06, 0.075, 0.22)
    pen.box(-0.44, -0.64, -0.08, 0, color, volume=0.35)
    pen.box(-0.47, -0.66, -0.05, -0.63, lighter(color, 0.4))
    pen.polygon([(-0.46, -0.65), (-0.06, -0.65), (-0.26, -0.95)], roof)
    pen.polygon([(-0.26, -0.65), (-0.06, -0.65), (-0.26, -0.95)], darker(roof, 0.28))
    pen.box(-0.270, -1.0, -0.250, -0.90, (226, 190, 96))
    pen.box(-0.300, -0.975, -0.220, -0.955, (226, 190, 96))
    pen.ellipse(-0.26, -0.53, 0.062, 0.062, (246, 244, 236))
    pen.line([(-0.26, -0.57), (-0.26, -0.53), (-0.23, -0.515)], 0.012, (52, 46, 50))
    _arched(pen, -0.26, -0.30, 0.09, 0.14)
    _arched(pen, -0.26, 0.0, 0.15, 0.25, (104, 64, 44))
    pen.box(-0.44, -0.03, 0.46, 0, darker(color, 0.45))


def _arched(pen: Pen, x: float, foot: float, wide: float, high: float, fill: RGB | None = None) -> None:
    """Draw a window or door with a round top; without a color it is a window."""
    lit = fill is None and _is_dark(pen)
    color: RGB = fill if fill is not None else ((255, 210, 120) if lit else (72, 96, 128))
    w = wide / 2
    for grow, ink, glow in ((1.3, (250, 248, 240), False), (1.0, color, lit)):
        pen.box(x - grow * w, foot - high + w, x + grow * w, foot, ink, glow=glow)
        pen.ellipse(x, foot - high + w, grow * w, grow * w, ink, glow=glow)


def skyscraper(pen: Pen, pose: Pose) -> None:
    """Draw a tower of offices."""
    color = pose.color
    dark = darker(color, 0.3)
    pen.box(-0.15, -0.90, 0.02, 0, color, to=darker(color, 0.12))
    pen.polygon([(0.02, -0.90), (0.17, -0.88), (0.17, 0), (0.02, 0)], dark, to=darker(color, 0.42))
    pen.box(-0.11, -0.95, 0.0, -0.90, color)
    pen.polygon([(0.0, -0.95), (0.10, -0.935), (0.10, -0.89), (0.0, -0.90)], dark)
    pen.box(-0.052, -1.0, -0.044, -0.95, (150, 150, 156))
    night = _is_dark(pen)
    for front, wide, low_share in ((True, 0.028, 0.55), (False, 0.030, 0.45)):
        across = -0.122 + 0.039 * np.arange(4) if front else 0.047 + 0.045 * np.arange(3)
        places = np.stack(np.meshgrid(across, -0.85 + 0.046 * np.arange(17)), -1).reshape(-1, 2)
        lit = (pose.random.random(len(places)) < low_share) & night
        for tone in range(3):  # the sky is mirrored unevenly
            glass = lighter((122, 164, 196), 0.16 * tone) if front else (80, 112, 142)
            pen.boxes(places[~lit & (np.arange(len(places)) % 3 == tone)], wide, 0.030, glass)
        pen.boxes(places[lit], wide, 0.030, (255, 218, 136), glow=True)
    pen.box(-0.15, -0.07, 0.17, 0, darker(color, 0.55))
    pen.box(-0.10, -0.055, -0.02, 0, (200, 220, 230) if not night else (255, 226, 160), glow=night)
    pen.box(-0.17, -0.085, 0.19, -0.068, lighter(color, 0.4))


def lighthouse(pen: Pen, pose: Pose) -> None:
    """Draw a lighthouse with bands of its color and white."""
    color = pose.color
    band: RGB = (246, 244, 238) if pose.item.color != "white" else (196, 62, 54)
    pen.blob(
        [(-0.22, 0.02), (-0.18, -0.06), (-0.02, -0.09), (0.16, -0.06), (0.22, 0.02)],
        (128, 120, 116),
        volume=0.5,
    )
    tower = pen.polygon([(-0.135, -0.03), (-0.078, -0.76), (0.078, -0.76), (0.135, -0.03)], color)
    for number in (1, 3):
        top = -0.76 + number * 0.1825 * 0.8
        pen.box(-0.2, top, 0.2, top + 0.146, band, inside=tower)
    pen.shade(tower, color, 0.7)
    pen.box(-0.115, -0.785, 0.115, -0.755, (64, 62, 72))
    pen.box(-0.06, -0.885, 0.06, -0.785, (255, 240, 180), glow=True)
    for x in (-0.06, -0.02, 0.02, 0.06):
        pen.box(x - 0.004, -0.885, x + 0.004, -0.785, (64, 62, 72))
    for x in (-0.11, -0.055, 0.0, 0.055, 0.11):
        pen.box(x - 0.004, -0.825, x + 0.004, -0.785, (64, 62, 72))
    pen.polygon(
        [(-0.085, -0.88), (0.085, -0.88), (0.0, -0.975)],
        darker(color, 0.2) if pose.item.color != "white" else band,
    )
    pen.ellipse(0, -0.98, 0.018, 0.02, (64, 62, 72))
    _arched(pen, 0.0, -0.03, 0.075, 0.12, (92, 58, 44))
    for y in (-0.32, -0.56):
        _arched(pen, 0.0, y, 0.036, 0.07, (54, 62, 84))


#: What draws each kind.
DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "tree": tree,
    "pine": pine,
    "palm": palm,
    "flower": flower,
    "cactus": cactus,
    "house": house,
    "barn": barn,
    "church": church,
    "skyscraper": skyscraper,
    "lighthouse": lighthouse,
}
