"""Vehicles from the side, and tools."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurorecon.simulation.drawing.pen import RGB, Pen, Pose, darker, lighter, mix

_RUBBER: RGB = (38, 38, 44)

_GLASS: RGB = (150, 190, 212)


def _lamps_on(pen: Pen) -> bool:
    return pen.light.name in ("night", "dusk")


def _wheel(pen: Pen, x: float, y: float, r: float, turn: float) -> None:
    pen.ellipse(x, y, r, r, _RUBBER)
    pen.ellipse(x, y, 0.62 * r, 0.62 * r, (196, 200, 206))
    for number in range(5):
        angle = turn + number * 2 * math.pi / 5
        pen.line(
            [(x, y), (x + 0.52 * r * math.cos(angle), y + 0.52 * r * math.sin(angle))],
            0.16 * r,
            (112, 116, 124),
        )
    pen.ellipse(x, y, 0.18 * r, 0.18 * r, (76, 78, 86))


def car(pen: Pen, pose: Pose) -> None:
    """Draw a car with two windows, lamps and wheels."""
    color = pose.color
    boxy = pose.chance(0.4)
    roof_end = -0.80 if boxy else -0.58
    r = 0.205
    pen.box(-0.98, -0.24, 1.0, -0.12, (50, 50, 58), 0.06)
    cabin = [
        (roof_end - 0.10, -0.58), (roof_end + 0.10, -0.92), (-0.15, -1.0), (0.22, -0.96), (0.58, -0.60),
        (0.4, -0.5),
        (-0.6, -0.5),
    ]  # fmt: skip
    pen.blob(cabin, color, volume=0.5)
    body = pen.blob(
        [(-1.06, -0.34), (-1.02, -0.56), (-0.8, -0.64), (0.1, -0.64), (0.62, -0.60), (0.98, -0.50),
         (1.07, -0.34),
         (1.02, -0.20), (0.0, -0.17), (-1.0, -0.20)], color, volume=0.55,
    )  # fmt: skip
    pen.box(-1.1, -0.36, 1.1, -0.335, darker(color, 0.3), inside=body)
    glass: RGB = _GLASS if not _lamps_on(pen) else (96, 116, 146)
    back = pen.polygon([(roof_end + 0.04, -0.62), (roof_end + 0.16, -0.86), (-0.16, -0.93), (-0.16, -0.62)], glass)
    front = pen.polygon([(-0.09, -0.62), (-0.09, -0.93), (0.18, -0.89), (0.42, -0.62)], glass)
    for pane, x in ((back, roof_end + 0.2), (front, 0.0)):
        pen.polygon([(x, -0.6), (x + 0.2, -0.95), (x + 0.3, -0.95), (x + 0.1, -0.6)], lighter(glass, 0.5), inside=pane)
    pen.line([(-0.125, -0.60), (-0.125, -0.24)], 0.018, darker(color, 0.4))
    pen.box(-0.30, -0.53, -0.18, -0.50, darker(color, 0.45))
    on = _lamps_on(pen)
    pen.ellipse(0.98, -0.44, 0.07, 0.06, (255, 244, 190), glow=on)
    pen.ellipse(-1.02, -0.48, 0.045, 0.07, (216, 40, 40), glow=on)
    for x in (-0.60, 0.62):
        pen.ellipse(x, -0.22, 1.22 * r, 1.22 * r, (34, 34, 42), inside=body)
        _wheel(pen, x, -r, r, pose.way / r)


def bus(pen: Pen, pose: Pose) -> None:
    """Draw a city bus with a row of windows."""
    color = pose.color
    r = 0.115
    body = pen.box(-0.88, -1.0, 0.88, -0.10, color, 0.09, volume=0.28)
    pen.box(-1, -0.40, 1, -0.345, lighter(color, 0.6), inside=body)
    pen.box(-1, -0.17, 1, -0.08, darker(color, 0.45), inside=body)
    pen.box(-1, -1.0, 1, -0.95, lighter(color, 0.35), inside=body)
    night = _lamps_on(pen)
    glass: RGB = (255, 228, 160) if night else _GLASS
    for number in range(5):
        x = -0.80 + 0.26 * number
        pane = pen.box(x, -0.86, x + 0.225, -0.50, glass, 0.025, glow=night)
        if not night:
            pen.polygon(
                [(x, -0.5), (x + 0.12, -0.9), (x + 0.19, -0.9), (x + 0.07, -0.5)],
                lighter(glass, 0.5),
                inside=pane,
            )
        if pose.chance(0.6):
            hx = x + 0.11
            pen.ellipse(hx, -0.62, 0.045, 0.055, (96, 70, 60), inside=pane)
            pen.ellipse(hx, -0.48, 0.08, 0.09, mix((70, 80, 110), color, 0.3), inside=pane)
    pen.box(0.53, -0.86, 0.68, -0.16, mix(glass, (60, 80, 100), 0.25), 0.02)
    pen.box(0.60, -0.86, 0.61, -0.16, darker(color, 0.4))
    pen.polygon([(0.73, -0.86), (0.87, -0.86), (0.885, -0.48), (0.73, -0.48)], glass, glow=night)
    pen.box(0.62, -0.955, 0.86, -0.885, (40, 40, 46), 0.02)
    pen.box(0.66, -0.935, 0.82, -0.905, (255, 190, 70), glow=True)
    pen.ellipse(0.85, -0.24, 0.035, 0.035, (255, 246, 200), glow=night)
    pen.box(-0.885, -0.32, -0.86, -0.22, (214, 44, 44))
    for x in (-0.52, 0.40):
        pen.ellipse(x, -r, 1.25 * r, 1.3 * r, darker(color, 0.7), inside=body)
        _wheel(pen, x, -r, r, pose.way / r)


def boat(pen: Pen, pose: Pose) -> None:
    """Draw a sailing boat."""
    color = pose.color
    hull = pen.polygon([(-0.42, -0.18), (0.46, -0.19), (0.33, 0.01), (-0.30, 0.01)], color, volume=0.4)
    pen.box(-0.5, -0.055, 0.5, 0.02, darker(color, 0.55), inside=hull)
    pen.box(-0.5, -0.20, 0.5, -0.165, lighter(color, 0.55), inside=hull)
    pen.box(-0.22, -0.25, 0.06, -0.18, (236, 228, 210))
    for x in (-0.16, -0.06):
        pen.box(x, -0.235, x + 0.06, -0.20, (84, 116, 144))
    pen.box(-0.008, -1.0, 0.010, -0.18, (120, 84, 60))
    belly = pose.swing(0.012, 0.5)
    sail: RGB = (250, 248, 240) if pose.item.color != "white" else (252, 246, 232)
    stripe = color if pose.item.color != "white" else (206, 70, 62)
    main = pen.blob([(-0.02, -0.96), (-0.012, -0.6), (-0.015, -0.27), (-0.2, -0.255),
                     (-0.385 - belly, -0.27), (-0.22 - belly, -0.60)],
                    sail, volume=0.35)  # fmt: skip
    pen.box(-0.5, -0.46, 0.0, -0.39, stripe, inside=main)
    pen.blob(
        [(0.022, -0.90), (0.20 + belly, -0.58), (0.41, -0.235), (0.2, -0.25), (0.03, -0.27), (0.04, -0.6)],
        sail,
        volume=0.3,
    )
    flag = 0.02 * math.sin(pose.phase * 2)
    pen.polygon([(0.01, -1.0), (0.10, -0.985 + flag), (0.01, -0.955)], (206, 58, 52))


def airplane(pen: Pen, pose: Pose) -> None:
    """Draw an airliner, its nose to the right."""
    color = pose.color
    plane = pen.at(0, -0.5, -0.10 if pose.item.velocity[1] <= 0 else 0.08)
    white: RGB = (244, 246, 248)
    dark = mix((150, 158, 170), color, 0.25)
    plane.polygon([(0.16, -0.08), (0.34, -0.06), (-0.02, -0.40), (-0.15, -0.40)], darker(dark, 0.12))
    plane.polygon([(-0.90, -0.06), (-0.70, -0.08), (-0.95, -0.46), (-1.12, -0.46)], color, volume=0.3)
    plane.polygon([(-0.86, 0.0), (-0.66, -0.02), (-0.98, -0.14), (-1.08, -0.14)], dark)
    body = plane.blob(
        [(-1.12, -0.07), (-0.7, -0.14), (0.0, -0.15), (0.72, -0.145), (1.0, -0.08), (1.10, 0.0), (0.98, 0.07),
         (0.6, 0.125), (0.0, 0.13), (-0.6, 0.08), (-1.08, -0.01)], white, volume=0.5,
    )  # fmt: skip
    plane.polygon([(-1.2, 0.0), (1.2, 0.03), (1.2, 0.065), (-1.2, 0.03)], color, inside=body)
    lit = _lamps_on(pen)
    for number in range(13):
        x = -0.62 + 0.108 * number
        plane.box(x, -0.065, x + 0.055, -0.005, (255, 226, 150) if lit else (70, 92, 120), 0.02, glow=lit)
    plane.polygon([(0.88, -0.10), (0.98, -0.085), (1.05, -0.03), (0.90, -0.03)], (60, 84, 112), inside=body)
    plane.polygon([(-0.14, 0.04), (0.26, 0.02), (-0.26, 0.50), (-0.42, 0.50)], mix(white, dark, 0.6), volume=0.4)
    plane.limb([(0.02, 0.20, 0.065), (0.20, 0.19, 0.075)], color, volume=0.5)
    plane.ellipse(0.26, 0.19, 0.025, 0.062, (60, 64, 74))
    plane.polygon([(-0.95, -0.02), (-0.76, -0.03), (-1.06, 0.10), (-1.15, 0.10)], mix(white, dark, 0.6))


def bicycle(pen: Pen, pose: Pose) -> None:
    """Draw a bicycle."""
    color = pose.color
    r = 0.335
    back, front, crank, saddle, head = (-0.46, -r), (0.46, -r), (-0.06, -0.32), (-0.20, -0.78), (0.33, -0.76)
    turn = pose.way / r
    for x, y in (back, front):
        _ring(pen, x, y, r, 0.052, _RUBBER)
        _ring(pen, x, y, r - 0.05, 0.018, (190, 194, 200))
        for number in range(7):
            angle = turn + number * math.pi / 7
            dx, dy = (r - 0.05) * math.cos(angle), (r - 0.05) * math.sin(angle)
            pen.line([(x - dx, y - dy), (x + dx, y + dy)], 0.009, (176, 180, 188), alpha=0.9)
        pen.ellipse(x, y, 0.04, 0.04, (90, 92, 100))
    for first, second in ((back, crank), (back, (-0.17, -0.68)), (crank, (-0.18, -0.74)),
                          (crank, (0.345, -0.66)),
                          ((-0.17, -0.68), (0.325, -0.74)), (head, front)):  # fmt: skip
        pen.line([first, second], 0.058, color, volume=0.3)
    pen.line([(-0.18, -0.7), saddle], 0.035, (70, 70, 78))
    pen.blob([(-0.35, -0.83), (-0.2, -0.845), (-0.06, -0.815), (-0.2, -0.775), (-0.33, -0.78)], (60, 46, 42))
    pen.line([head, (0.30, -0.92), (0.44, -0.955)], 0.042, (70, 70, 78))
    pen.line([(0.40, -0.955), (0.50, -0.93)], 0.055, (60, 46, 42))
    dx, dy = 0.13 * math.cos(turn), 0.13 * math.sin(turn)
    pen.ellipse(crank[0], crank[1], 0.075, 0.075, (96, 98, 106))
    pen.line([(crank[0] - dx, crank[1] - dy), (crank[0] + dx, crank[1] + dy)], 0.028, (60, 62, 70))
    for sign in (-1, 1):
        x, y = crank[0] + sign * dx, crank[1] + sign * dy
        pen.box(x - 0.055, y - 0.018, x + 0.055, y + 0.018, (44, 44, 50))


def _ring(pen: Pen, x: float, y: float, r: float, width: float, color: RGB) -> None:
    steps = 36
    points = [
        (x + r * math.cos(2 * math.pi * n / steps), y + r * math.sin(2 * math.pi * n / steps)) for n in range(steps + 1)
    ]
    inner = [(x + (px - x) * (1 - width / r), y + (py - y) * (1 - width / r)) for px, py in reversed(points)]
    pen.polygon([*points, *inner], color)


_STEEL: RGB = (176, 182, 192)


def _lying(pen: Pen, pose: Pose) -> Pen:
    """Return a pen for a tool that lies at some angle, centered in its box; its length is 1.2."""
    angle = pose.between(0.35, 1.2) * (1 if pose.chance(0.5) else -1)
    return pen.at(0, -0.5, angle, 0.98)


def hammer(pen: Pen, pose: Pose) -> None:
    """Draw a claw hammer; the handle has the object's color."""
    tool = _lying(pen, pose)
    color = pose.color
    grip = tool.limb([(0, -0.34, 0.036), (0, 0.05, 0.040), (0, 0.46, 0.052)], color, volume=0.7)
    tool.box(-0.1, 0.18, 0.1, 0.6, darker(color, 0.35), inside=grip)
    for y in (0.24, 0.31, 0.38, 0.45):
        tool.box(-0.1, y, 0.1, y + 0.014, darker(color, 0.6), inside=grip)
    tool.blob(
        [(-0.06, -0.50), (0.06, -0.50), (0.07, -0.42), (0.06, -0.32), (-0.06, -0.32), (-0.07, -0.42)],
        darker(_STEEL, 0.2),
    )
    tool.blob([(0.04, -0.49), (0.18, -0.47), (0.20, -0.50), (0.27, -0.50), (0.27, -0.34), (0.20, -0.34),
               (0.18, -0.37), (0.04, -0.36)],
              _STEEL, volume=0.7)  # fmt: skip
    tool.blob(
        [(-0.03, -0.49), (-0.18, -0.49), (-0.30, -0.36), (-0.31, -0.31), (-0.19, -0.40), (-0.03, -0.36)],
        _STEEL,
        volume=0.6,
    )
    tool.line([(-0.29, -0.35), (-0.18, -0.44)], 0.012, darker(_STEEL, 0.5))


def wrench(pen: Pen, pose: Pose) -> None:
    """Draw an open wrench with a ring at the other end."""
    tool = _lying(pen, pose)
    metal = _STEEL if pose.item.color == "gray" else pose.color
    tool.limb([(0, -0.33, 0.050), (0, 0.0, 0.040), (0, 0.36, 0.050)], metal, volume=0.6)
    tool.box(-0.016, -0.22, 0.016, 0.25, darker(metal, 0.28), 0.014)
    ring = [(0.125 * math.cos(a), 0.43 + 0.125 * math.sin(a)) for a in np.linspace(0.5 * math.pi, 2.5 * math.pi, 25)]
    hole = [(0.062 * math.cos(a), 0.43 + 0.062 * math.sin(a)) for a in np.linspace(2.5 * math.pi, 0.5 * math.pi, 7)]
    tool.polygon([*ring, *hole], metal)
    jaw = [
        (-0.075, -0.28), (-0.165, -0.40), (-0.165, -0.52), (-0.10, -0.63), (-0.075, -0.60), (-0.075, -0.46),
        (0.0, -0.415),
        (0.075, -0.46), (0.075, -0.60), (0.10, -0.63), (0.165, -0.52), (0.165, -0.40), (0.075, -0.28),
    ]  # fmt: skip
    tool.polygon(jaw, metal, volume=0.5)
    tool.polygon([(-0.12, -0.42), (-0.12, -0.52), (-0.09, -0.58), (-0.085, -0.45)], lighter(metal, 0.45))


def scissors(pen: Pen, pose: Pose) -> None:
    """Draw open scissors; the handles have the object's color."""
    tool = _lying(pen, pose)
    spread = pose.between(0.22, 0.36) + (pose.swing(0.10) if pose.moving else 0.0)
    for side in (1, -1):
        half = tool.at(0, 0.0, side * spread)
        half.polygon([(-0.030, 0.06), (-0.042, -0.06), (-0.016, -0.56), (0.004, -0.60), (0.034, -0.06),
                      (0.036, 0.06)],
                     _STEEL if side > 0 else darker(_STEEL, 0.16), volume=0.5)  # fmt: skip
        half.line([(0.010, -0.06), (0.002, -0.52)], 0.010, lighter(_STEEL, 0.6))
        half.limb([(0, 0.04, 0.040), (side * -0.02, 0.22, 0.034)], pose.color, volume=0.4)
        _loop(half, side * -0.045, 0.36, 0.105, 0.145, pose.color)
    tool.ellipse(0, 0, 0.030, 0.030, darker(_STEEL, 0.45))
    tool.ellipse(-0.006, -0.006, 0.014, 0.014, lighter(_STEEL, 0.3))


def _loop(pen: Pen, x: float, y: float, rx: float, ry: float, color: RGB) -> None:
    angles = np.linspace(0, 2 * math.pi, 33)
    outer = [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]
    inner = [(x + 0.58 * rx * math.cos(a), y + 0.64 * ry * math.sin(a)) for a in reversed(angles)]
    pen.polygon([*outer, *inner], color)
    lit = [(x + 0.86 * rx * math.cos(a), y + 0.88 * ry * math.sin(a)) for a in np.linspace(3.4, 5.2, 8)]
    pen.line(lit, 0.016, lighter(color, 0.45))


def screwdriver(pen: Pen, pose: Pose) -> None:
    """Draw a screwdriver; the handle has the object's color."""
    tool = _lying(pen, pose)
    color = pose.color
    tool.polygon([(-0.024, -0.06), (-0.024, -0.48), (-0.040, -0.53), (-0.026, -0.62), (0.026, -0.62),
                  (0.040, -0.53), (0.024, -0.48),
                  (0.024, -0.06)], _STEEL, volume=0.6)  # fmt: skip
    tool.line([(-0.010, -0.08), (-0.010, -0.47)], 0.012, lighter(_STEEL, 0.7))
    tool.box(-0.045, -0.09, 0.045, -0.03, (70, 70, 78), 0.012)
    grip = tool.blob([(-0.055, -0.04), (0.055, -0.04), (0.085, 0.06), (0.098, 0.28), (0.092, 0.46),
                      (0.04, 0.54), (-0.04, 0.54),
                      (-0.092, 0.46), (-0.098, 0.28), (-0.085, 0.06)], color, volume=0.7)  # fmt: skip
    for x in (-0.052, 0.0, 0.052):
        tool.line([(x, 0.10), (x, 0.42)], 0.020, darker(color, 0.4), inside=grip)
    tool.ellipse(0, 0.51, 0.07, 0.03, darker(color, 0.5), inside=grip)


def cup(pen: Pen, pose: Pose) -> None:
    """Draw a cup of coffee with steam above it."""
    color = pose.color
    pen = pen.at(0, 0, scale=1.09)
    pen.blob([(0.30, -0.66), (0.44, -0.68), (0.55, -0.58), (0.54, -0.36), (0.42, -0.22), (0.26, -0.20),
              (0.26, -0.30), (0.38, -0.33),
              (0.44, -0.42), (0.44, -0.54), (0.38, -0.58), (0.30, -0.56)], darker(color, 0.2),
              volume=0.4)  # fmt: skip
    body = pen.blob([(-0.40, -0.80), (0.0, -0.80), (0.40, -0.80), (0.385, -0.45), (0.33, -0.10), (0.22, 0.0),
                     (0.0, 0.012), (-0.22, 0.0),
                     (-0.33, -0.10), (-0.385, -0.45)], color, volume=0.75)  # fmt: skip
    band = lighter(color, 0.6) if pose.item.color != "white" else (206, 76, 66)
    pen.blob(
        [(-0.5, -0.46), (0.0, -0.40), (0.5, -0.46), (0.5, -0.36), (0.0, -0.30), (-0.5, -0.36)],
        band,
        inside=body,
        alpha=0.9,
    )
    pen.shade(body, color, 0.4)
    pen.ellipse(0, -0.80, 0.402, 0.105, lighter(color, 0.35))
    pen.ellipse(0, -0.795, 0.355, 0.082, darker(color, 0.35))
    pen.ellipse(0, -0.775, 0.325, 0.062, (96, 58, 38))
    pen.ellipse(-0.08, -0.79, 0.13, 0.020, (150, 100, 66))


def umbrella(pen: Pen, pose: Pose) -> None:
    """Draw an open umbrella that stands on its stick, leaning a little."""
    color, other = pose.color, (248, 244, 236)
    lean = pen.at(0, 0, 0.10 + pose.swing(0.01))
    lean.limb([(0, -0.95, 0.014), (0, -0.08, 0.014)], (120, 92, 70))
    hook = [(0, -0.10), (0.0, -0.045), (0.03, -0.018), (0.07, -0.02), (0.085, -0.06)]
    lean.line(hook, 0.034, (110, 66, 44))
    ribs = 6
    for number in range(ribs):
        x0, x1 = -0.56 + 1.12 * number / ribs, -0.56 + 1.12 * (number + 1) / ribs
        tone = color if number % 2 == 0 else other
        middle = 0.5 * (x0 + x1)
        edge = -0.50 + 0.055 * (1 - (middle / 0.56) ** 2)
        panel = [_dome(x0, share) for share in np.linspace(0, 1, 7)]
        back = [_dome(x1, share) for share in np.linspace(1, 0, 7)]
        scallop = [(x1, -0.50), (middle, edge - 0.075), (x0, -0.50)]
        side = -pen.light.side * middle * pose.item.facing
        shade = darker(tone, 0.30 * max(0.0, side / 0.5)) if side > 0 else lighter(tone, 0.2 * min(1.0, -side / 0.5))
        lean.polygon([*reversed(panel), *reversed(back), *scallop][::-1], shade)
    for number in range(1, ribs):
        x = -0.56 + 1.12 * number / ribs
        lean.line([_dome(x, share) for share in np.linspace(0, 1, 7)], 0.010, darker(color, 0.35))
    lean.limb([(0, -0.95, 0.014), (0, -0.99, 0.006)], (90, 80, 80))


def _dome(x: float, share: float) -> tuple[float, float]:
    """Return a point on the rib that ends at (x, -0.5): share 0 at the tip of the umbrella, 1 at the rim."""
    angle = share * math.pi / 2
    return x * math.sin(angle), -0.50 - 0.45 * math.cos(angle)


#: What draws each kind.
DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "car": car,
    "bus": bus,
    "boat": boat,
    "airplane": airplane,
    "bicycle": bicycle,
    "hammer": hammer,
    "wrench": wrench,
    "scissors": scissors,
    "screwdriver": screwdriver,
    "cup": cup,
    "umbrella": umbrella,
}
