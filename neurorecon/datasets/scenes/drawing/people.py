"""People from head to foot: a man, a woman, a child."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.drawing.pose import Pose
from neurorecon.datasets.scenes.vocabulary import COLORS

SKIN: tuple[RGB, ...] = ((250, 214, 184), (236, 190, 150), (206, 154, 112), (156, 104, 72), (104, 68, 50))
HAIR: tuple[RGB, ...] = ((40, 34, 38), (92, 58, 38), (204, 160, 84), (160, 74, 42), (58, 42, 36))
TROUSERS: tuple[RGB, ...] = ((54, 66, 104), (74, 72, 78), (142, 116, 86), (46, 50, 62))


@dataclass(frozen=True)
class Build:
    """Proportions of a body, in its own heights.

    Parameters
    ----------
    head : float
        Radius of the head.
    shoulder, hip : float
        Half widths.
    chest, waist : float
        Heights (upward) of the shoulders and of the hips.
    arm, leg : float
        Radii.
    """

    head: float
    shoulder: float
    hip: float
    chest: float
    waist: float
    arm: float
    leg: float


MAN = Build(0.090, 0.118, 0.084, 0.785, 0.46, 0.034, 0.044)
WOMAN = Build(0.090, 0.092, 0.088, 0.780, 0.475, 0.028, 0.036)
CHILD = Build(0.122, 0.110, 0.092, 0.700, 0.38, 0.036, 0.046)


def _leg(pen: Pen, x: float, build: Build, angle: float, color: RGB, shoe: RGB, cut: float, skin: RGB) -> None:
    """Draw one leg that hangs from the hip; `cut` is the share of it that the trousers cover."""
    thigh = shin = build.waist / 2 - 0.012
    bend = max(0.0, -angle) * 0.9
    kx, ky = x + thigh * math.sin(angle), -build.waist + thigh * math.cos(angle)
    lower = angle - bend
    ax, ay = kx + shin * math.sin(lower), ky + shin * math.cos(lower)
    ay = min(ay, -0.022)
    r = build.leg
    if cut < 1:
        pen.limb([(x, -build.waist, r), (kx, ky, 0.8 * r), (ax, ay, 0.6 * r)], skin, volume=0.5)
        sx, sy = (x + (kx - x) * 2 * cut, -build.waist + (ky + build.waist) * 2 * cut)
        if cut <= 0.5 and cut > 0:
            pen.limb([(x, -build.waist, 1.15 * r), (sx, sy, 1.15 * r)], color, volume=0.5)
    else:
        pen.limb([(x, -build.waist, r), (kx, ky, 0.86 * r), (ax, ay, 0.7 * r)], color, volume=0.6)
    toe = pen.at(ax, ay, -0.25 * bend)
    toe.blob([(-0.032, -0.012), (0.01, -0.024), (0.062, 0.0), (0.066, 0.022), (-0.034, 0.022)], shoe)


def _arm(pen: Pen, x: float, build: Build, angle: float, sleeve: RGB, skin: RGB, cut: float) -> None:
    upper = 0.40 * (build.chest - 0.14)
    top = -build.chest + build.arm
    ex, ey = x + 0.5 * upper * math.sin(angle), top + 0.5 * upper * math.cos(angle)
    bend = angle + 0.35 + 0.5 * max(0.0, angle)
    hx, hy = ex + 0.55 * upper * math.sin(bend), ey + 0.55 * upper * math.cos(bend)
    r = build.arm
    pen.limb([(ex, ey, 0.8 * r), (hx, hy, 0.72 * r)], skin if cut < 1 else sleeve, volume=0.5)
    pen.ellipse(hx, hy + 0.4 * r, 0.85 * r, 0.95 * r, skin)
    pen.limb([(x, top, r), (ex, ey, 0.92 * r)], sleeve, volume=0.5)


def _torso(pen: Pen, build: Build, color: RGB, dress: float) -> None:
    s, h, top, low = build.shoulder, build.hip, -build.chest, -build.waist
    if dress:
        hem = low + dress
        outline = [
            (-0.45 * s, top - 0.012), (0.45 * s, top - 0.012), (s, top + 0.03), (0.8 * s, top + 0.14),
            (0.66 * s, low - 0.09), (1.05 * h, low + 0.02), (1.62 * h, hem), (0.0, hem + 0.012),
            (-1.62 * h, hem), (-1.05 * h, low + 0.02), (-0.66 * s, low - 0.09), (-0.8 * s, top + 0.14),
            (-s, top + 0.03),
        ]  # fmt: skip
        body = pen.blob(outline, color, volume=0.6)
        pen.box(-s, low - 0.115, s, low - 0.085, darker(color, 0.35), inside=body)
    else:
        outline = [
            (-0.45 * s, top - 0.012), (0.45 * s, top - 0.012), (s, top + 0.035), (0.92 * s, low - 0.1),
            (h, low + 0.02), (0.0, low + 0.035), (-h, low + 0.02), (-0.92 * s, low - 0.1), (-s, top + 0.035),
        ]  # fmt: skip
        pen.blob(outline, color, volume=0.6)


def _head(pen: Pen, build: Build, skin: RGB, hair: RGB, style: str) -> None:
    """Draw head, face and hair; the face looks a little to the right."""
    r = build.head
    y = -1 + 1.14 * r
    if style == "long":
        pen.blob(
            [(-1.02 * r, y - 0.3 * r), (0, y - 1.1 * r), (1.0 * r, y - 0.3 * r), (1.02 * r, y + 1.2 * r),
             (0.5 * r, y + 1.5 * r), (-0.6 * r, y + 1.6 * r), (-1.15 * r, y + 1.3 * r)],
            darker(hair, 0.2), volume=0.5,
        )  # fmt: skip
    elif style == "tail":
        pen.limb([(-0.8 * r, y - 0.5 * r, 0.3 * r), (-1.4 * r, y + 0.1 * r, 0.26 * r),
                  (-1.4 * r, y + 0.8 * r, 0.1 * r)],
                 hair)  # fmt: skip
    pen.limb([(0, -build.chest - 0.02, 0.34 * r), (0, y, 0.36 * r)], darker(skin, 0.16))
    pen.ellipse(-0.05 * r, y - 0.12 * r, 1.0 * r, 1.02 * r, hair)
    pen.ellipse(0.10 * r, y + 0.05 * r, 0.84 * r, 1.0 * r, skin, volume=0.5)
    pen.ellipse(-0.72 * r, y + 0.12 * r, 0.16 * r, 0.22 * r, darker(skin, 0.08))
    fringe = [
        (-0.96 * r, y + 0.1 * r), (-1.0 * r, y - 0.5 * r), (-0.5 * r, y - 1.06 * r), (0.3 * r, y - 1.12 * r),
        (0.92 * r, y - 0.62 * r), (0.9 * r, y - 0.3 * r), (0.4 * r, y - 0.52 * r), (-0.4 * r, y - 0.42 * r),
        (-0.66 * r, y - 0.1 * r),
    ]  # fmt: skip
    pen.blob(fringe, hair, volume=0.5)
    for ex in (-0.18, 0.5):
        pen.ellipse(ex * r, y + 0.06 * r, 0.12 * r, 0.15 * r, (38, 30, 36))
    pen.line([(0.02 * r, y + 0.5 * r), (0.18 * r, y + 0.56 * r), (0.36 * r, y + 0.5 * r)], 0.12 * r, (168, 66, 62))
    pen.ellipse(0.22 * r, y + 0.26 * r, 0.09 * r, 0.12 * r, darker(skin, 0.18))


def _figure(pen: Pen, pose: Pose, build: Build, what: str) -> None:
    skin = pose.pick(*SKIN)
    hair = pose.pick(*(HAIR if skin in SKIN[:3] else HAIR[:1]))
    trousers = pose.pick(*TROUSERS)
    shoe = pose.pick((58, 44, 40), (236, 234, 230), (40, 42, 52))
    color = pose.color
    if mix(color, trousers, 0.5) == color or sum(abs(a - b) for a, b in zip(color, trousers, strict=True)) < 90:
        trousers = (206, 196, 176)
    swing = pose.swing(0.5) if pose.moving else 0.10 + pose.swing(0.04)
    wave = 0.0 if pose.moving or not pose.chance(0.25) else 2.5 + pose.swing(0.3)
    dress = pose.between(0.12, 0.2) if what == "woman" else 0.0
    cut = {"man": 1.0, "woman": 0.0, "child": 0.5}[what]
    if what == "woman" and pose.chance(0.3):
        dress, cut = 0.0, 1.0
    sleeves = 0.0 if what != "man" or pose.chance(0.5) else 1.0
    style = {"man": "short", "woman": "long", "child": "tail" if pose.chance(0.5) else "short"}[what]
    s, gap = build.shoulder, 0.42 * build.hip
    arm = 0.9 * swing if pose.moving else 0.12
    _arm(
        pen,
        0.86 * s if not pose.moving else 0.5 * s,
        build,
        arm,
        darker(color, 0.18),
        darker(skin, 0.1),
        sleeves,
    )
    _leg(pen, gap, build, swing if pose.moving else 0.06, darker(trousers, 0.22), shoe, cut, darker(skin, 0.12))
    _leg(pen, -gap, build, -swing if pose.moving else -0.06 + 0.03, trousers, shoe, cut, skin)
    _torso(pen, build, color, dress)
    if what == "man" and sleeves:
        pen.polygon([(-0.02, -build.chest - 0.01), (0.05, -build.chest - 0.01), (0.016, -build.chest + 0.08)],
                    lighter(COLORS["white"], 0.2))  # fmt: skip
    _head(pen, build, skin, hair, style)
    _arm(pen, -0.9 * s, build, -wave if wave else -arm, color, skin, sleeves)


def man(pen: Pen, pose: Pose) -> None:
    """Draw a man; his shirt has the object's color."""
    _figure(pen, pose, MAN, "man")


def woman(pen: Pen, pose: Pose) -> None:
    """Draw a woman; her dress or blouse has the object's color."""
    _figure(pen, pose, WOMAN, "woman")


def child(pen: Pen, pose: Pose) -> None:
    """Draw a child; the shirt has the object's color."""
    _figure(pen, pose, CHILD, "child")


DRAW: dict[str, Callable[[Pen, Pose], None]] = {"man": man, "woman": woman, "child": child}
