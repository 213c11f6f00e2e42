"""What animals have in common: coats, legs, eyes."""

from __future__ import annotations

import math

from neurorecon.datasets.scenes.drawing.light import RGB, darker
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.drawing.pose import Pose

#: Colors of coats, warmer than those of things.
FUR: dict[str, RGB] = {
    "brown": (138, 88, 54),
    "black": (54, 50, 56),
    "white": (240, 236, 228),
    "gray": (140, 140, 146),
    "golden": (222, 174, 98),
    "tan": (208, 174, 130),
    "orange": (226, 136, 58),
}


def _leg(pen: Pen, x: float, top: float, radius: float, angle: float, color: RGB, hoof: RGB | None, back: bool) -> None:
    """Draw a leg from the trunk to the ground; hind legs bend the other way."""
    half = -top / 2
    kx, ky = x + half * math.sin(angle), top + half * math.cos(angle)
    bend = angle - (0.5 if back else -0.2) * max(0.0, -angle if not back else angle) - (0.12 if back else 0.0)
    fx, fy = kx + half * math.sin(bend), min(-0.5 * radius, ky + half * math.cos(bend))
    pen.limb([(x, top, 1.35 * radius), (kx, ky, 0.85 * radius), (fx, fy, 0.7 * radius)], color, volume=0.4)
    paw = color if hoof is None else hoof
    pen.box(
        fx - 0.85 * radius,
        fy - 0.4 * radius,
        fx + (1.5 if hoof is None else 1.0) * radius,
        0,
        paw,
        0.5 * radius,
    )


def legs(
    pen: Pen, pose: Pose, front: float, hind: float, top: float, radius: float, color: RGB, hoof: RGB | None,
    near: bool, amount: float = 0.42,
) -> None:  # fmt: skip
    """Draw the near or the far pair of legs, in step."""
    swing = amount if pose.moving else 0.07
    shade = color if near else darker(color, 0.3)
    shift = 0.0 if near else math.pi
    dx = 0.0 if near else 0.05
    _leg(pen, front + dx, top, radius, pose.swing(swing, shift), shade, hoof, back=False)
    _leg(pen, hind + dx, top, radius, pose.swing(swing, shift + 2.2), shade, hoof, back=True)


def eye(pen: Pen, x: float, y: float, r: float, iris: RGB = (28, 22, 24)) -> None:
    """Draw an eye with a spark."""
    pen.ellipse(x, y, r, r, iris)
    pen.ellipse(x - 0.3 * r, y - 0.35 * r, 0.36 * r, 0.36 * r, (250, 250, 250))
