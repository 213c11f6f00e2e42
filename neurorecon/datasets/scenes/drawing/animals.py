"""Wild and farm animals from the side, looking to the right."""

from __future__ import annotations

import math
from collections.abc import Callable

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.limbs import FUR, eye, legs
from neurorecon.datasets.scenes.drawing.pen import Pen
from neurorecon.datasets.scenes.drawing.pose import Pose


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


DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "horse": horse,
    "cow": cow,
    "elephant": elephant,
    "bird": bird,
    "fish": fish,
}
