"""Tools: on a bench seen from above, on a table, on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.drawing.pose import Pose

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


DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "hammer": hammer,
    "wrench": wrench,
    "scissors": scissors,
    "screwdriver": screwdriver,
    "cup": cup,
    "umbrella": umbrella,
}
