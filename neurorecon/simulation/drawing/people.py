"""People: a man, a woman, a child, from head to foot and as portraits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from neurorecon.simulation.drawing.pen import RGB, Pen, Pose, darker, lighter, mix
from neurorecon.simulation.vocabulary import COLORS

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


#: Hair in portraits, darker and softer than the colors of things.
_HAIR: dict[str, RGB] = {
    "black": (42, 36, 40),
    "brown": (104, 66, 42),
    "golden": (220, 178, 98),
    "red": (180, 82, 44),
    "gray": (168, 168, 172),
}

_CLOTHES: tuple[RGB, ...] = (
    (60, 96, 150),
    (176, 66, 62),
    (70, 126, 104),
    (226, 222, 212),
    (88, 78, 118),
    (222, 172, 82),
)

_IRIS: tuple[RGB, ...] = ((74, 48, 34), (66, 104, 140), (82, 112, 70))


@dataclass(frozen=True)
class _Face:
    """Proportions of a head, in heights of the portrait."""

    wide: float
    high: float
    y: float
    eye: float
    brow: float
    jaw: float
    shoulder: float


_MAN = _Face(0.232, 0.300, -0.585, 0.036, 0.017, 0.86, 0.46)

_WOMAN = _Face(0.215, 0.290, -0.575, 0.042, 0.010, 0.70, 0.38)

_CHILD = _Face(0.262, 0.285, -0.545, 0.050, 0.008, 0.84, 0.34)


def _skin(pose: Pose) -> RGB:
    """Return a color of skin that the hair stands out from."""
    return pose.pick(*(SKIN if pose.item.color in ("black", "gray") else SKIN[:3]))


def _vary(face: _Face, pose: Pose) -> _Face:
    """Return slightly other proportions."""
    return replace(
        face,
        wide=face.wide * pose.between(0.94, 1.06),
        eye=face.eye * pose.between(0.92, 1.08),
        jaw=face.jaw * pose.between(0.92, 1.08),
        brow=face.brow * pose.between(0.8, 1.2),
    )


def _tilted(pen: Pen, pose: Pose) -> Pen:
    """Return a pen for a head that leans to one side, about the neck."""
    return pen.at(0, -0.25, pose.between(-0.09, 0.09) + pose.swing(0.015)).at(0, 0.25)


def _outline(face: _Face) -> list[tuple[float, float]]:
    w, h, y, j = face.wide, face.high, face.y, face.jaw
    right = [(0.0, y - h), (0.62 * w, y - 0.84 * h), (w, y - 0.2 * h), (0.95 * w, y + 0.3 * h),
             (j * w, y + 0.62 * h), (0.36 * w, y + 0.97 * h)]  # fmt: skip
    left = [(-a, b) for a, b in reversed(right[1:])]
    return [*right, (0.0, y + h), *left]


def _shoulders(pen: Pen, face: _Face, cloth: RGB, skin: RGB, collar: bool) -> None:
    s = face.shoulder
    body = pen.blob(
        [(-0.1, -0.25), (0.1, -0.25), (0.74 * s, -0.17), (s, 0.0), (s, 0.14), (-s, 0.14), (-s, 0.0),
         (-0.74 * s, -0.17)],
        cloth, volume=0.5,
    )  # fmt: skip
    if not collar:
        pen.ellipse(0, -0.215, 0.135, 0.075, darker(skin, 0.14))
    neck = pen.limb([(0, -0.44, 0.090), (0, -0.22, 0.100)], darker(skin, 0.14))
    pen.ellipse(0, face.y + 0.93 * face.high, 0.14, 0.075, darker(skin, 0.32), inside=neck, soft=0.02)
    if collar:
        for side in (-1, 1):
            pen.polygon([(side * 0.11, -0.25), (side * 0.005, -0.11), (side * 0.15, -0.10),
                         (side * 0.18, -0.21)],
                        lighter(cloth, 0.4))  # fmt: skip
        pen.polygon([(-0.03, -0.13), (0.03, -0.13), (0.012, 0.1), (-0.012, 0.1)], darker(cloth, 0.5), inside=body)


def _features(pen: Pen, pose: Pose, face: _Face, skin: RGB, hair: RGB, lips: RGB, lashes: bool) -> None:
    """Draw eyes, brows, nose and mouth; they shift to where the face looks."""
    dx = 0.035 + pose.swing(0.006, 1.0)
    eye_y, gap, e = face.y + 0.03, 0.45 * face.wide, face.eye
    iris = pose.pick(*_IRIS)
    for side in (-1, 1):
        x = dx + side * gap * (0.96 if side > 0 else 1.0)
        pen.ellipse(x, eye_y - 0.006, 1.5 * e, 1.2 * e, darker(skin, 0.14), alpha=0.6)
        white = pen.ellipse(x, eye_y, 1.28 * e, 0.82 * e, (250, 250, 248))
        pen.ellipse(x + 0.006, eye_y, 0.72 * e, 0.78 * e, iris, inside=white)
        pen.ellipse(x + 0.006, eye_y, 0.4 * e, 0.42 * e, (18, 16, 20), inside=white)
        pen.ellipse(x - 0.2 * e, eye_y - 0.3 * e, 0.17 * e, 0.17 * e, (255, 255, 255))
        lid = 0.016 if lashes else 0.011
        pen.line([(x - 1.3 * e, eye_y - 0.1 * e), (x - 0.5 * e, eye_y - 0.8 * e),
                  (x + 0.5 * e, eye_y - 0.8 * e),
                  (x + 1.3 * e, eye_y - 0.1 * e)], lid, (44, 30, 30))  # fmt: skip
        b = eye_y - 0.075
        pen.line([(x - side * 0.055, b + 0.012), (x, b - 0.006), (x + side * 0.06, b + 0.012)], 2 * face.brow,
                 darker(mix(hair, (80, 60, 50), 0.3), 0.3))  # fmt: skip
    ny = face.y + 0.42 * face.high
    pen.line([(dx + 0.012, eye_y + 0.01), (dx + 0.034, ny - 0.01)], 0.012, darker(skin, 0.16))
    pen.ellipse(dx + 0.012, ny, 0.04, 0.024, darker(skin, 0.13))
    pen.ellipse(dx + 0.008, ny - 0.010, 0.028, 0.018, lighter(skin, 0.12))
    _mouth(pen, pose, dx, face.y + 0.68 * face.high, lips)


def _mouth(pen: Pen, pose: Pose, x: float, y: float, lips: RGB) -> None:
    smile = pose.between(0.006, 0.024)
    talks = max(0.0, pose.swing(0.02)) if pose.moving else (0.012 if pose.chance(0.3) else 0.0)
    w = 0.078
    if talks > 0.004:
        pen.blob([(x - w, y - smile), (x, y - 0.004), (x + w, y - smile), (x, y + 0.034 + talks)], (112, 36, 42))
        pen.blob([(x - 0.7 * w, y - 0.3 * smile), (x, y + 0.002), (x + 0.7 * w, y - 0.3 * smile),
                  (x, y + 0.014)],
                 (248, 244, 240))  # fmt: skip
    pen.line([(x - w, y - smile), (x - 0.4 * w, y + 0.002), (x, y + 0.004), (x + 0.4 * w, y + 0.002),
              (x + w, y - smile)],
             0.013, darker(lips, 0.35))  # fmt: skip
    pen.blob([(x - 0.6 * w, y + 0.012 + talks), (x, y + 0.012 + 1.4 * talks),
              (x + 0.6 * w, y + 0.012 + talks),
              (x, y + 0.034 + 1.4 * talks)], lips)  # fmt: skip


def _ears(pen: Pen, face: _Face, skin: RGB) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 1.0 * face.wide, face.y + 0.06, 0.036, 0.062, darker(skin, 0.1), volume=0.3)


def _cheeks(pen: Pen, face: _Face, skin: RGB, strength: float) -> None:
    for side in (-1, 1):
        pen.ellipse(0.03 + side * 0.55 * face.wide, face.y + 0.4 * face.high, 0.055, 0.045,
                    mix(skin, (236, 96, 90), 0.5), soft=0.022, alpha=strength)  # fmt: skip


def man_face(pen: Pen, pose: Pose) -> None:
    """Draw the portrait of a man with short hair; some have a beard."""
    skin, hair, cloth = _skin(pose), _HAIR[pose.item.color], pose.pick(*_CLOTHES)
    face = _vary(_MAN, pose)
    straight, pen = pen, _tilted(pen, pose)
    w, h, y = face.wide, face.high, face.y
    _shoulders(straight, face, cloth, skin, collar=pose.chance(0.6))
    pen.blob([(-1.08 * w, y + 0.1 * h), (-1.1 * w, y - 0.6 * h), (-0.5 * w, y - 1.18 * h),
              (0.5 * w, y - 1.18 * h),
              (1.1 * w, y - 0.6 * h), (1.08 * w, y + 0.1 * h)], darker(hair, 0.15))  # fmt: skip
    _ears(pen, face, skin)
    head = pen.blob(_outline(face), skin, volume=0.55)
    if pose.chance(0.4):
        beard = [(-1.1 * w, y + 0.12 * h), (-0.72 * w, y + 0.36 * h), (-0.3 * w, y + 0.5 * h),
                 (0.12 * w, y + 0.46 * h),
                 (0.5 * w, y + 0.5 * h), (0.82 * w, y + 0.36 * h), (1.1 * w, y + 0.12 * h),
                 (1.0 * w, y + 1.1 * h),
                 (-1.0 * w, y + 1.1 * h)]  # fmt: skip
        pen.blob(beard, darker(hair, 0.06), inside=head, volume=0.3)
        pen.ellipse(0.035, y + 0.70 * h, 0.10, 0.052, skin)
    _features(pen, pose, face, skin, hair, mix(skin, (168, 70, 66), 0.5), lashes=False)
    side = 1 if pose.chance(0.5) else -1
    top = [(-1.06 * w, y - 0.08 * h), (-1.12 * w, y - 0.6 * h), (-0.6 * w, y - 1.2 * h),
           (0.45 * w, y - 1.24 * h),
           (1.1 * w, y - 0.74 * h), (1.06 * w, y - 0.08 * h), (0.88 * w, y - 0.5 * h),
           (0.3 * w, y - 0.66 * h),
           (-0.4 * w, y - 0.76 * h), (-0.9 * w, y - 0.46 * h)]  # fmt: skip
    pen.blob([(side * a, b) for a, b in top], hair, volume=0.6)


def woman_face(pen: Pen, pose: Pose) -> None:
    """Draw the portrait of a woman with long hair."""
    skin, hair, cloth = _skin(pose), _HAIR[pose.item.color], pose.pick(*_CLOTHES)
    face = _vary(_WOMAN, pose)
    straight, pen = pen, _tilted(pen, pose)
    w, h, y = face.wide, face.high, face.y
    low = pose.between(-0.2, -0.04)
    pen.blob([(-1.2 * w, y), (-1.1 * w, y - 0.8 * h), (0, y - 1.3 * h), (1.1 * w, y - 0.8 * h), (1.2 * w, y),
              (1.42 * w, low - 0.08), (1.0 * w, low), (-1.0 * w, low), (-1.42 * w, low - 0.08)],
             darker(hair, 0.22), volume=0.4)  # fmt: skip
    _shoulders(straight, face, cloth, skin, collar=False)
    pen.blob(_outline(face), skin, volume=0.5)
    _cheeks(pen, face, skin, 0.32)
    _features(pen, pose, face, skin, hair, mix(skin, (196, 44, 62), 0.75), lashes=True)
    part = 0.2 * w
    for side, edge in ((-1, -part), (1, -part)):
        lock = [(edge, y - 1.22 * h), (side * 0.8 * w, y - 1.06 * h), (side * 1.2 * w, y - 0.35 * h),
                (side * 1.22 * w, y + 0.5 * h), (side * 1.38 * w, low - 0.02), (side * 0.98 * w, low),
                (side * 0.98 * w, y + 0.45 * h), (side * 0.90 * w, y - 0.25 * h),
                (side * 0.52 * w + edge * 0.3, y - 0.66 * h)]  # fmt: skip
        pen.blob(lock, hair, volume=0.5)
    if pose.chance(0.4):
        for side in (-1, 1):
            pen.ellipse(side * 0.96 * w, y + 0.5 * h, 0.018, 0.024, (240, 206, 110))


def child_face(pen: Pen, pose: Pose) -> None:
    """Draw the portrait of a child: a round face and large eyes."""
    skin, hair, cloth = _skin(pose), _HAIR[pose.item.color], pose.pick(*_CLOTHES)
    face = _vary(_CHILD, pose)
    straight, pen = pen, _tilted(pen, pose)
    w, h, y = face.wide, face.high, face.y
    if pose.chance(0.5):
        for side in (-1, 1):
            pen.ellipse(side * 1.22 * w, y - 0.55 * h, 0.10, 0.12, hair, volume=0.5)
            pen.ellipse(side * 1.06 * w, y - 0.55 * h, 0.03, 0.04, (224, 92, 96))
    _shoulders(straight, face, cloth, skin, collar=False)
    pen.ellipse(0, y - 0.2 * h, 1.1 * w, 1.1 * h, darker(hair, 0.15))
    _ears(pen, face, skin)
    pen.blob(_outline(face), skin, volume=0.45)
    _cheeks(pen, face, skin, 0.45)
    _features(pen, pose, face, skin, hair, mix(skin, (206, 74, 78), 0.6), lashes=False)
    pen.blob([(-1.06 * w, y), (-1.08 * w, y - 0.7 * h), (-0.5 * w, y - 1.24 * h), (0.5 * w, y - 1.24 * h),
              (1.08 * w, y - 0.7 * h), (1.06 * w, y), (0.9 * w, y - 0.46 * h), (0.4 * w, y - 0.5 * h),
              (0.1 * w, y - 0.42 * h), (-0.3 * w, y - 0.52 * h), (-0.86 * w, y - 0.42 * h)], hair,
              volume=0.5)  # fmt: skip


#: What draws each kind.
DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "man": man,
    "woman": woman,
    "child": child,
    "man face": man_face,
    "woman face": woman_face,
    "child face": child_face,
}
