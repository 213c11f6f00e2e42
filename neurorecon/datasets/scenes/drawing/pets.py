"""A dog and a cat, from the side, looking to the right."""

from __future__ import annotations

from collections.abc import Callable

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter
from neurorecon.datasets.scenes.drawing.limbs import FUR, eye, legs
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.drawing.pose import Pose


def dog(pen: Pen, pose: Pose) -> None:
    """Draw a dog with hanging ears and a collar."""
    fur = FUR[pose.item.color]
    belly = lighter(fur, 0.3)
    wag = pose.swing(0.3, 0.7)
    legs(pen, pose, 0.22, -0.34, -0.40, 0.058, fur, None, near=False)
    tail = pen.at(-0.42, -0.58, wag - 0.2)
    tail.limb([(0, 0, 0.055), (-0.12, -0.12, 0.045), (-0.15, -0.26, 0.022)], fur, volume=0.4)
    trunk = pen.blob(
        [(-0.46, -0.52), (-0.38, -0.66), (-0.05, -0.65), (0.22, -0.70), (0.34, -0.60), (0.30, -0.36),
         (0.0, -0.30),
         (-0.28, -0.34), (-0.44, -0.38)], fur, volume=0.6,
    )  # fmt: skip
    pen.ellipse(0.02, -0.30, 0.3, 0.07, belly, inside=trunk, soft=0.02)
    legs(pen, pose, 0.24, -0.34, -0.42, 0.064, fur, None, near=True)
    pen.limb([(0.22, -0.58, 0.15), (0.34, -0.76, 0.115)], fur, volume=0.5)
    pen.line([(0.22, -0.72), (0.40, -0.64)], 0.05, pose.pick((206, 54, 50), (54, 104, 176), (230, 180, 60)))
    head = pen.at(0.36, -0.80, pose.swing(0.05))
    head.limb([(0.06, 0.02, 0.12), (0.21, 0.06, 0.068)], lighter(fur, 0.16), volume=0.4)
    head.ellipse(0, -0.02, 0.155, 0.15, fur, volume=0.5)
    head.ellipse(0.268, 0.030, 0.036, 0.030, (34, 28, 30))
    head.line([(0.13, 0.10), (0.24, 0.085)], 0.016, (70, 40, 40))
    if pose.chance(0.5):
        head.blob([(0.17, 0.09), (0.225, 0.09), (0.22, 0.17), (0.18, 0.17)], (226, 100, 108))
    eye(head, 0.075, -0.045, 0.026)
    head.blob([(-0.08, -0.15), (0.0, -0.12), (0.0, 0.06), (-0.06, 0.16), (-0.14, 0.10), (-0.14, -0.06)],
              darker(fur, 0.32), volume=0.3)  # fmt: skip


def cat(pen: Pen, pose: Pose) -> None:
    """Draw a cat: it walks with its tail up, or sits."""
    fur = FUR[pose.item.color]
    stripes = pose.item.color in ("orange", "gray", "brown")
    if pose.moving:
        _cat_walks(pen, pose, fur, stripes)
    else:
        _cat_sits(pen, pose, fur, stripes)


def _cat_head(pen: Pen, x: float, y: float, s: float, fur: RGB, stripes: bool) -> None:
    dark = darker(fur, 0.35)
    for side in (-1, 1):
        pen.polygon([(x + side * 0.95 * s, y - 0.3 * s), (x + side * 0.82 * s, y - 1.35 * s),
                     (x + side * 0.12 * s, y - 0.8 * s)],
                    fur)  # fmt: skip
        pen.polygon([(x + side * 0.80 * s, y - 0.6 * s), (x + side * 0.74 * s, y - 1.12 * s),
                     (x + side * 0.34 * s, y - 0.78 * s)],
                    (236, 160, 160))  # fmt: skip
    pen.ellipse(x, y, 1.1 * s, 0.95 * s, fur, volume=0.45)
    if stripes:
        for dx in (-0.28, 0.0, 0.28):
            pen.line([(x + dx * s, y - 0.86 * s), (x + 0.8 * dx * s, y - 0.5 * s)], 0.12 * s, dark)
    pale = lighter(fur, 0.5)
    for side in (-1, 1):
        pen.ellipse(x + side * 0.24 * s, y + 0.36 * s, 0.34 * s, 0.27 * s, pale)
        pen.ellipse(x + side * 0.45 * s, y - 0.10 * s, 0.24 * s, 0.25 * s, (206, 210, 90))
        pen.ellipse(x + side * 0.45 * s, y - 0.10 * s, 0.10 * s, 0.23 * s, (20, 20, 24))
        for dy in (0.22, 0.38, 0.52):
            pen.line(
                [(x + side * 0.4 * s, y + 0.36 * s), (x + side * 1.4 * s, y + dy * s)],
                0.035 * s,
                (250, 250, 250),
            )
    pen.polygon([(x - 0.14 * s, y + 0.14 * s), (x + 0.14 * s, y + 0.14 * s), (x, y + 0.30 * s)], (222, 112, 116))


def _cat_sits(pen: Pen, pose: Pose, fur: RGB, stripes: bool) -> None:
    dark = darker(fur, 0.35)
    curl = pose.swing(0.02)
    pen.limb([(-0.18, -0.05, 0.05), (-0.42, -0.06, 0.05), (-0.53, -0.18 + curl, 0.046),
              (-0.46, -0.32 + curl, 0.036)], fur,
             volume=0.4)  # fmt: skip
    body = pen.blob(
        [(-0.30, -0.03), (-0.33, -0.24), (-0.20, -0.50), (-0.06, -0.66), (0.16, -0.66), (0.25, -0.40),
         (0.24, -0.03)],
        fur, volume=0.6,
    )  # fmt: skip
    if stripes:
        for y in (-0.22, -0.34, -0.46):
            pen.line([(-0.36, y + 0.03), (-0.12, y - 0.02)], 0.035, dark, inside=body)
    pen.ellipse(0.10, -0.42, 0.10, 0.17, lighter(fur, 0.5), inside=body, soft=0.02)
    pen.ellipse(-0.16, -0.11, 0.16, 0.13, fur, volume=0.4)
    for x in (0.05, 0.17):
        pen.limb([(x, -0.34, 0.06), (x + 0.01, -0.05, 0.048)], fur, volume=0.4)
        pen.ellipse(x + 0.025, -0.032, 0.062, 0.034, lighter(fur, 0.45))
    _cat_head(pen, 0.10, -0.76, 0.175, fur, stripes)


def _cat_walks(pen: Pen, pose: Pose, fur: RGB, stripes: bool) -> None:
    dark = darker(fur, 0.35)
    sway = pose.swing(0.12, 0.5)
    tail = pen.at(-0.42, -0.50, sway)
    tail.limb([(0, 0, 0.05), (-0.12, -0.12, 0.045), (-0.12, -0.30, 0.042), (-0.05, -0.42, 0.032)], fur, volume=0.4)
    legs(pen, pose, 0.20, -0.34, -0.32, 0.052, fur, None, near=False)
    body = pen.blob(
        [(-0.48, -0.42), (-0.40, -0.54), (-0.05, -0.53), (0.26, -0.58), (0.36, -0.46), (0.28, -0.28),
         (-0.05, -0.24),
         (-0.42, -0.27)], fur, volume=0.6,
    )  # fmt: skip
    if stripes:
        for x in (-0.32, -0.19, -0.06, 0.07):
            pen.line([(x, -0.60), (x - 0.03, -0.38)], 0.036, dark, inside=body)
    legs(pen, pose, 0.22, -0.34, -0.34, 0.056, fur, None, near=True)
    _cat_head(pen, 0.37, -0.70, 0.165, fur, stripes)


DRAW: dict[str, Callable[[Pen, Pose], None]] = {"dog": dog, "cat": cat}
