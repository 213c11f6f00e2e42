"""Rooms in one-point perspective: walls, windows, and what stands in more than one kind of room."""

from __future__ import annotations

import numpy as np

from neurorecon.datasets.scenes.drawing.light import RGB, darker, lighter, mix
from neurorecon.datasets.scenes.drawing.pen import Pen, Shape
from neurorecon.datasets.scenes.drawing.pose import Pose

#: Half width, height and depth of a room, and the height of the eye, in meters.
HALF, _HIGH, DEEP, _EYE = 1.6, 2.5, 4.0, 1.25
#: Focal length in image widths, and the height of the vanishing point.
FOCUS, _VANISH = 0.85, -0.60
_NEAR = 1.05

Place = tuple[float, float, float]


class Room:
    """A pen that draws in the meters of a room: x right, y up from the floor, z away from the eye.

    The eye is a little left or right of the middle.
    """

    def __init__(self, pen: Pen, pose: Pose) -> None:
        self.pen, self.pose = pen, pose
        self.eye = pose.between(-0.5, 0.5)

    def to(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return where in the picture a place is seen."""
        return (x - self.eye) / z * FOCUS, _VANISH + (_EYE - y) / z * FOCUS

    def face(self, corners: list[Place], color: RGB, **how: object) -> Shape:
        """Fill a flat polygon in the room."""
        return self.pen.polygon([self.to(x, y, max(z, _NEAR)) for x, y, z in corners], color, **how)

    def block(self, low: Place, high: Place, color: RGB, top: RGB | None = None) -> None:
        """Draw a box between two corners (low has the smaller x, y, z)."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        foot = 0.06
        if y0 == 0:
            self.face([(x0 - foot, 0, z0 - foot), (x1 + foot, 0, z0 - foot), (x1 + foot, 0, z1),
                       (x0 - foot, 0, z1)],
                      (40, 30, 36), alpha=0.28, soft=0.008)  # fmt: skip
        if x0 > self.eye:
            self.face([(x0, y0, z0), (x0, y0, z1), (x0, y1, z1), (x0, y1, z0)], darker(color, 0.3))
        if x1 < self.eye:
            self.face([(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)], darker(color, 0.3))
        if y1 < _EYE:
            self.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)],
                      lighter(color, 0.22) if top is None else top)  # fmt: skip
        self.face([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], color, to=darker(color, 0.12))

    def wall(self, x0: float, y0: float, x1: float, y1: float, color: RGB, **how: object) -> Shape:
        """Fill a rectangle on the far wall."""
        return self.face([(x0, y1, DEEP), (x1, y1, DEEP), (x1, y0, DEEP), (x0, y0, DEEP)], color, **how)


def shell(pen: Pen, pose: Pose, wall: RGB, floor: str) -> Room:
    """Paint ceiling, walls and floor."""
    room = Room(pen, pose)
    h, t, d = HALF, _HIGH, DEEP
    lit_left = pen.light.side < 0
    room.face([(-h, t, d), (h, t, d), (h, t, _NEAR), (-h, t, _NEAR)], mix((246, 244, 240), wall, 0.12))
    left, right = (darker(wall, 0.10), darker(wall, 0.24)) if not lit_left else (darker(wall, 0.24), darker(wall, 0.10))
    room.face([(-h, t, d), (-h, 0, d), (-h, 0, _NEAR), (-h, t, _NEAR)], left)
    room.face([(h, t, d), (h, 0, d), (h, 0, _NEAR), (h, t, _NEAR)], right)
    ground: RGB = {"wood": (186, 134, 88), "tiles": (214, 216, 214), "carpet": (196, 180, 160)}[floor]
    room.face([(-h, 0, d), (h, 0, d), (h, 0, _NEAR), (-h, 0, _NEAR)], ground, to=darker(ground, 0.10))
    lines = np.arange(-h, h + 0.01, 0.32)
    for x in lines:
        room.face([(x, 0, d), (x + 0.015, 0, d), (x + 0.015, 0, _NEAR), (x, 0, _NEAR)], darker(ground, 0.18))
    if floor == "tiles":
        for z in np.arange(1.4, d, 0.36):
            room.face([(-h, 0, z), (h, 0, z), (h, 0, z + 0.02), (-h, 0, z + 0.02)], darker(ground, 0.18))
    room.wall(-h, 0, h, t, lighter(wall, 0.12), to=wall)
    room.wall(-h, 0, h, 0.10, (246, 244, 240))
    for side in (-1, 1):
        room.face(
            [(side * h, 0, d), (side * h, 0.10, d), (side * h, 0.10, _NEAR), (side * h, 0, _NEAR)],
            (226, 222, 216),
        )
    return room


def window(room: Room, x: float, y: float, wide: float, high: float, curtain: RGB | None = None) -> None:
    """Draw a window on the far wall, with the sky outside."""
    sky = room.pen.light.sky
    room.wall(x - wide / 2 - 0.06, y - 0.06, x + wide / 2 + 0.06, y + high + 0.06, (248, 246, 240))
    pane = room.wall(x - wide / 2, y, x + wide / 2, y + high, sky[0], to=sky[2], glow=True)
    px, py = room.to(x, y, DEEP)
    green = (70, 120, 72) if room.pen.light.name != "night" else (20, 34, 48)
    room.pen.ellipse(px - 0.03, py + 0.01, 0.06, 0.03, green, inside=pane, glow=True)
    room.pen.ellipse(px + 0.05, py + 0.012, 0.05, 0.04, darker(green, 0.2), inside=pane, glow=True)
    room.wall(x - 0.025, y, x + 0.025, y + high, (248, 246, 240))
    room.wall(x - wide / 2, y + high / 2 - 0.02, x + wide / 2, y + high / 2 + 0.02, (248, 246, 240))
    if curtain is not None:
        for side in (-1, 1):
            edge = x + side * (wide / 2 + 0.1)
            inner = x + side * (wide / 2 - 0.14)
            room.face([(edge, y + high + 0.1, DEEP), (inner, y + high + 0.1, DEEP),
                       (inner + side * 0.08, y - 0.12, DEEP), (edge + side * 0.05, y - 0.12, DEEP)],
                      curtain, to=darker(curtain, 0.18))  # fmt: skip
        room.wall(x - wide / 2 - 0.22, y + high + 0.1, x + wide / 2 + 0.22, y + high + 0.14, (120, 86, 60))


def picture(room: Room, x: float, y: float, wide: float, high: float) -> None:
    """Hang a picture on the far wall."""
    pose = room.pose
    room.wall(x - wide / 2, y, x + wide / 2, y + high, (70, 52, 44))
    back = pose.pick((236, 214, 170), (170, 202, 212), (232, 226, 214))
    canvas = room.wall(x - wide / 2 + 0.05, y + 0.05, x + wide / 2 - 0.05, y + high - 0.05, back)
    px, py = room.to(x, y + 0.1, DEEP)
    r = 0.08 * wide
    room.pen.ellipse(px, py, 2.2 * r, 1.0 * r, pose.pick((96, 132, 96), (190, 96, 70), (74, 104, 140)), inside=canvas)
    room.pen.ellipse(px + 0.8 * r, py - 1.4 * r, 0.5 * r, 0.5 * r, (232, 150, 70), inside=canvas)


def lamp(room: Room, x: float, y: float, z: float) -> None:
    """Draw a lamp with a shade whose foot is at (x, y, z)."""
    px, py = room.to(x, y, z)
    s = FOCUS / z
    pen = room.pen
    on = pen.light.name in ("night", "sunset")
    if on:
        pen.ellipse(px, py - 0.42 * s, 0.34 * s, 0.34 * s, (255, 226, 150), glow=True, soft=0.12 * s, alpha=0.45)
    pen.box(px - 0.012 * s, py - 0.34 * s, px + 0.012 * s, py, (110, 84, 60))
    pen.box(px - 0.07 * s, py - 0.03 * s, px + 0.07 * s, py, (110, 84, 60))
    shade: RGB = (255, 236, 176) if on else (246, 236, 208)
    pen.polygon([(px - 0.09 * s, py - 0.52 * s), (px + 0.09 * s, py - 0.52 * s),
                 (px + 0.15 * s, py - 0.30 * s),
                 (px - 0.15 * s, py - 0.30 * s)], shade, glow=on)  # fmt: skip


def plant(room: Room, x: float, z: float) -> None:
    """Draw a plant in a pot."""
    px, py = room.to(x, 0, z)
    s = FOCUS / z
    pen = room.pen
    for angle in (-0.9, -0.5, -0.15, 0.25, 0.6, 0.95):
        leaf = pen.at(px, py - 0.32 * s, angle)
        leaf.blob([(0, 0), (-0.06 * s, -0.3 * s), (0, -0.62 * s), (0.06 * s, -0.3 * s)],
                  darker((74, 142, 82), 0.12 * (angle > 0)))  # fmt: skip
    pen.polygon([(px - 0.15 * s, py - 0.36 * s), (px + 0.15 * s, py - 0.36 * s), (px + 0.11 * s, py),
                 (px - 0.11 * s, py)],
                (196, 112, 78), volume=0.5)  # fmt: skip


def rug(room: Room, x0: float, x1: float, z0: float, z1: float, color: RGB) -> None:
    """Lay a rug with a border."""
    room.face([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)], color)
    m = 0.1
    room.face(
        [(x0 + m, 0, z0 + m), (x1 - m, 0, z0 + m), (x1 - m, 0, z1 - m), (x0 + m, 0, z1 - m)],
        lighter(color, 0.35),
    )
    m = 0.18
    room.face([(x0 + m, 0, z0 + m), (x1 - m, 0, z0 + m), (x1 - m, 0, z1 - m), (x0 + m, 0, z1 - m)], color)
