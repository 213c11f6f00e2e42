"""Plants that sway in the wind."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen, oval
from neurorecon.datasets.scenes.drawing.pose import Pose

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


DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "tree": tree,
    "pine": pine,
    "palm": palm,
    "flower": flower,
    "cactus": cactus,
}
