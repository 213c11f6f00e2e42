"""Animals from the side, looking to the right: wild, farm and pets."""

from __future__ import annotations

import math
from collections.abc import Callable

from neurorecon.simulation.drawing.pen import RGB, Pen, Pose, darker, lighter, mix

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


def horse(pen: Pen, pose: Pose) -> None:
    """Draw a horse with mane and tail."""
    coat = FUR[pose.item.color]
    mane = darker(coat, 0.55) if pose.item.color not in ("white", "golden") else (
        (206, 200, 190) if pose.item.color == "white" else (246, 230, 190)
    )  # fmt: skip
    hoof: RGB = (50, 42, 42)
    legs(pen, pose, 0.19, -0.33, -0.48, 0.044, coat, hoof, near=False, amount=0.5)
    flow = pose.swing(0.04, 0.4)
    pen.limb(
        [
            (-0.43, -0.66, 0.035),
            (-0.52 - flow, -0.56, 0.052),
            (-0.54 - flow, -0.34, 0.042),
            (-0.50, -0.24, 0.012),
        ],
        mane,
    )
    pen.blob(
        [(-0.45, -0.62), (-0.36, -0.72), (-0.10, -0.67), (0.14, -0.71), (0.29, -0.62), (0.27, -0.46),
         (0.02, -0.42),
         (-0.24, -0.42), (-0.42, -0.48)], coat, volume=0.6,
    )  # fmt: skip
    legs(pen, pose, 0.21, -0.33, -0.50, 0.048, coat, hoof, near=True, amount=0.5)
    pen.blob(
        [
            (0.08, -0.67),
            (0.20, -0.80),
            (0.30, -0.96),
            (0.40, -0.93),
            (0.37, -0.76),
            (0.31, -0.58),
            (0.20, -0.55),
        ],
        coat,
        volume=0.4,
    )
    pen.blob(
        [
            (0.02, -0.70),
            (0.14, -0.84),
            (0.25, -1.0),
            (0.335, -0.985),
            (0.28, -0.86),
            (0.20, -0.74),
            (0.12, -0.66),
        ],
        mane,
    )
    head = pen.at(0.36, -0.90, 0.5 + pose.swing(0.05))
    head.blob([(-0.09, -0.055), (0.02, -0.085), (0.14, -0.058), (0.235, -0.045), (0.25, 0.02), (0.18, 0.05),
               (0.04, 0.07), (-0.07, 0.07)],
              coat, volume=0.4)  # fmt: skip
    head.ellipse(0.215, 0.0, 0.04, 0.042, darker(coat, 0.3))
    head.polygon([(-0.07, -0.05), (-0.10, -0.14), (-0.01, -0.08)], coat)
    head.ellipse(0.045, -0.025, 0.018, 0.018, (20, 16, 18))
    head.ellipse(0.225, -0.014, 0.010, 0.010, (30, 20, 20))


def cow(pen: Pen, pose: Pose) -> None:
    """Draw a cow with patches, horns and an udder."""
    coat = FUR[pose.item.color]
    patch: RGB = (248, 244, 236) if pose.item.color != "white" else (44, 42, 48)
    hoof: RGB = (62, 52, 50)
    legs(pen, pose, 0.28, -0.44, -0.42, 0.050, coat, hoof, near=False, amount=0.3)
    pen.limb([(-0.60, -0.70, 0.022), (-0.66, -0.50, 0.018), (-0.645 + pose.swing(0.03), -0.32, 0.016)], coat)
    pen.ellipse(-0.645 + pose.swing(0.03), -0.28, 0.034, 0.055, darker(coat, 0.5))
    pen.ellipse(-0.22, -0.34, 0.11, 0.07, (240, 178, 170), volume=0.4)
    body = pen.blob(
        [(-0.62, -0.66), (-0.52, -0.80), (-0.1, -0.78), (0.26, -0.81), (0.42, -0.68), (0.38, -0.44),
         (0.0, -0.37),
         (-0.40, -0.38), (-0.60, -0.46)], coat, volume=0.3,
    )  # fmt: skip
    for _ in range(4):
        x, y = pose.between(-0.55, 0.35), pose.between(-0.78, -0.45)
        w = pose.between(0.08, 0.17)
        pen.blob([(x - w, y), (x - 0.3 * w, y - 0.8 * w), (x + 0.8 * w, y - 0.6 * w), (x + w, y + 0.3 * w),
                  (x, y + 0.8 * w)], patch,
                 inside=body)  # fmt: skip
    pen.shade(body, coat, 0.5)
    legs(pen, pose, 0.30, -0.46, -0.44, 0.053, coat, hoof, near=True, amount=0.3)
    head = pen.at(0.50, -0.78, 0.35 + pose.swing(0.05))
    for side, x in ((-1, -0.08), (1, 0.06)):
        head.limb(
            [(x, -0.12, 0.026), (x + side * 0.045, -0.19, 0.018), (x + side * 0.02, -0.25, 0.008)],
            (236, 226, 200),
        )
    head.ellipse(-0.15, -0.05, 0.085, 0.045, darker(coat, 0.2), 0.3)
    head.blob(
        [
            (-0.13, -0.10),
            (0.02, -0.15),
            (0.13, -0.09),
            (0.20, 0.04),
            (0.20, 0.14),
            (0.06, 0.15),
            (-0.10, 0.08),
        ],
        coat,
        volume=0.4,
    )
    head.blob([(-0.02, -0.13), (0.07, -0.12), (0.13, 0.02), (0.06, 0.06)], patch)
    head.ellipse(0.165, 0.10, 0.085, 0.068, (238, 186, 172), volume=0.3)
    head.ellipse(0.20, 0.085, 0.016, 0.014, (120, 70, 66))
    head.ellipse(0.15, 0.10, 0.014, 0.012, (120, 70, 66))
    eye(head, 0.03, -0.045, 0.026)


def elephant(pen: Pen, pose: Pose) -> None:
    """Draw an elephant with trunk, tusk and a large ear."""
    skin: RGB = (146, 146, 156) if pose.item.color == "gray" else (150, 120, 100)
    nail: RGB = (226, 218, 204)
    for near in (False, True):
        shade = skin if near else darker(skin, 0.28)
        swing = 0.2 if pose.moving else 0.04
        for x, shift in ((0.12, 0.0), (-0.40, 2.2)):
            angle = pose.swing(swing, shift + (0 if near else math.pi))
            fx = x + 0.4 * math.sin(angle) + (0.0 if near else 0.10)
            pen.limb([(x, -0.50, 0.12), (0.5 * (x + fx), -0.26, 0.095), (fx, -0.085, 0.088)], shade, volume=0.4)
            pen.box(fx - 0.092, -0.10, fx + 0.092, 0, shade, 0.03)
            for dx in (0.02, 0.06):
                pen.ellipse(fx + dx, -0.018, 0.018, 0.016, nail)
        if not near:
            pen.limb(
                [(-0.55, -0.70, 0.016), (-0.60, -0.52, 0.013), (-0.60 + pose.swing(0.03), -0.36, 0.012)],
                darker(skin, 0.3),
            )
            pen.blob(
                [(-0.58, -0.56), (-0.50, -0.84), (-0.18, -0.96), (0.12, -0.92), (0.30, -0.76), (0.26, -0.46),
                 (-0.1, -0.34),
                 (-0.46, -0.36)], skin, volume=0.6,
            )  # fmt: skip
    sway = pose.swing(0.05)
    pen.ellipse(0.36, -0.76, 0.17, 0.19, skin, volume=0.4)
    pen.limb([(0.46, -0.70, 0.095), (0.555, -0.50, 0.070), (0.56 + 0.5 * sway, -0.28, 0.052),
              (0.60 + sway, -0.12, 0.040),
              (0.64 + sway, -0.10, 0.034)], skin, volume=0.4)  # fmt: skip
    pen.limb([(0.42, -0.56, 0.034), (0.54, -0.46, 0.026), (0.63, -0.48, 0.010)], (250, 244, 228))
    flap = pose.swing(0.02, 0.4)
    pen.blob([(0.26, -0.94), (0.34, -0.84), (0.33, -0.60), (0.20, -0.44), (0.07 - flap, -0.52),
              (0.02 - flap, -0.78), (0.12, -0.94)],
             darker(skin, 0.14), volume=0.4)  # fmt: skip
    pen.blob(
        [
            (0.24, -0.86),
            (0.28, -0.80),
            (0.27, -0.62),
            (0.19, -0.53),
            (0.11 - flap, -0.58),
            (0.09 - flap, -0.76),
        ],
        mix(skin, (206, 150, 146), 0.4),
    )
    eye(pen, 0.43, -0.80, 0.022)


def bird(pen: Pen, pose: Pose) -> None:
    """Draw a flying bird with beating wings."""
    color = FUR.get(pose.item.color, pose.color) if pose.item.color in ("brown", "black", "white") else pose.color
    beat = math.sin(pose.phase)
    up = 0.62 + 0.38 * beat if beat > -0.3 else 0.60 + 0.3 * beat
    body = pen.at(-0.02, -0.36, -0.10)
    tail = [(-0.26, -0.03), (-0.62, -0.14), (-0.66, -0.04), (-0.60, 0.0), (-0.64, 0.08), (-0.26, 0.06)]
    body.polygon(tail, darker(color, 0.3), volume=0.3)
    _wing(body.at(0.12, -0.06, 0.30), up * 0.92, darker(color, 0.42))
    trunk = body.blob(
        [(-0.36, 0.0), (-0.12, -0.12), (0.16, -0.15), (0.34, -0.04), (0.22, 0.12), (-0.06, 0.14)],
        color, volume=0.5,
    )  # fmt: skip
    body.ellipse(0.10, 0.13, 0.22, 0.09, lighter(color, 0.55), inside=trunk, soft=0.015)
    body.ellipse(0.34, -0.10, 0.135, 0.125, color, volume=0.4)
    body.polygon([(0.44, -0.14), (0.62, -0.075), (0.44, -0.04)], (238, 166, 52))
    eye(body, 0.385, -0.125, 0.030)
    _wing(body.at(0.06, -0.02, -0.16), up, darker(color, 0.16))


def _wing(pen: Pen, up: float, color: RGB) -> None:
    """Draw a wing that rises from its shoulder at the origin and sweeps back; `up` 1 is fully raised."""
    reach = 0.64 * up
    outline = [
        (0.12, 0.02), (0.08, -0.45 * reach), (-0.06, -0.85 * reach), (-0.26, -1.04 * reach),
        (-0.30, -0.90 * reach),
        (-0.38, -0.84 * reach), (-0.37, -0.68 * reach), (-0.42, -0.58 * reach), (-0.36, -0.44 * reach),
        (-0.36, -0.30 * reach),
        (-0.26, -0.16 * reach), (-0.20, 0.03),
    ]  # fmt: skip
    shape = pen.polygon(outline, color, volume=0.4)
    for x, y in ((-0.36, -0.84), (-0.40, -0.58), (-0.34, -0.30)):
        pen.line([(x, y * reach), (0.0, -0.22 * reach)], 0.016, darker(color, 0.4), inside=shape)
    pen.line([(0.09, 0.0), (0.06, -0.45 * reach), (-0.07, -0.82 * reach)], 0.05, lighter(color, 0.18), inside=shape)


def fish(pen: Pen, pose: Pose) -> None:
    """Draw a fish with fins and stripes."""
    color = pose.color
    wave = math.sin(pose.phase)
    fin = mix(darker(color, 0.2), (250, 220, 160), 0.2)
    body = pen.at(0.0, -0.5, 0.02 * wave)
    body.blob([(-0.50, 0.0), (-0.72, -0.36 + 0.05 * wave), (-0.90, -0.40 + 0.08 * wave),
               (-0.76, 0.0 + 0.06 * wave),
               (-0.90, 0.38 + 0.08 * wave), (-0.72, 0.34 + 0.05 * wave)], fin, volume=0.3)  # fmt: skip
    body.blob([(-0.34, -0.24), (-0.22, -0.47), (0.12, -0.50), (0.26, -0.26)], fin)
    body.blob([(-0.24, 0.24), (-0.22, 0.44), (0.02, 0.40), (0.12, 0.28)], fin)
    trunk = body.blob(
        [(-0.62, 0.0), (-0.34, -0.25), (0.10, -0.36), (0.50, -0.28), (0.82, -0.02), (0.52, 0.26),
         (0.10, 0.34), (-0.34, 0.22)],
        color, volume=0.35,
    )  # fmt: skip
    body.ellipse(0.1, 0.32, 0.6, 0.16, lighter(color, 0.5), inside=trunk, soft=0.03)
    band: RGB = (250, 248, 240) if pose.item.color not in ("yellow",) else (50, 60, 100)
    if pose.chance(0.75):
        for x in (0.28, -0.12, -0.46):
            body.blob([(x - 0.02, -0.5), (x + 0.07, -0.5), (x + 0.11, 0.0), (x + 0.07, 0.5), (x - 0.02, 0.5),
                       (x + 0.02, 0.0)], band,
                      inside=trunk)  # fmt: skip
    body.shade(trunk, color, 0.5)
    flap = 0.06 * math.sin(pose.phase + 1)
    body.blob([(0.20, 0.06), (-0.10, -0.02 + flap), (-0.14, 0.14 + flap), (0.08, 0.16)], fin, volume=0.3)
    body.ellipse(0.54, -0.08, 0.085, 0.095, (250, 250, 246))
    body.ellipse(0.56, -0.08, 0.048, 0.056, (24, 22, 28))
    body.line([(0.66, 0.10), (0.74, 0.075)], 0.026, darker(color, 0.5))


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


#: What draws each kind.
DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "horse": horse,
    "cow": cow,
    "elephant": elephant,
    "bird": bird,
    "fish": fish,
    "dog": dog,
    "cat": cat,
}
