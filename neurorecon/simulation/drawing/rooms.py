"""Rooms in one-point perspective, with their furniture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurorecon.simulation.drawing.pen import RGB, Pen, Pose, Shape, darker, lighter, mix

#: Half width, height and depth of a room, and the height of the eye, in meters.
HALF, _HIGH, DEEP, _EYE = 1.6, 2.5, 4.0, 1.25

#: Focal length in image widths, and the height of the vanishing point.
FOCUS, _VANISH = 0.85, -0.60

_NEAR = 1.05

Place = tuple[float, float, float]


class Room:
    """A pen that draws in room coordinates in meters: x right, y up from the floor, z away from the camera.

    The camera is slightly left or right of the center.
    """

    def __init__(self, pen: Pen, pose: Pose) -> None:
        self.pen, self.pose = pen, pose
        self.eye = pose.between(-0.5, 0.5)

    def to(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project a point in the room onto the image."""
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


def image(room: Room, x: float, y: float, wide: float, high: float) -> None:
    """Hang a framed picture on the far wall."""
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


def _soft_wall(pose: Pose) -> RGB:
    """Return the color of the walls, which is paler than that of objects."""
    return mix(pose.color, (240, 236, 226), 0.42)


_FABRICS: tuple[RGB, ...] = ((198, 84, 74), (64, 104, 150), (222, 172, 80), (86, 136, 110), (134, 98, 150))


def bedroom(pen: Pen, pose: Pose) -> None:
    """Draw a bed with pillows, bedside tables, a window."""
    room = shell(pen, pose, _soft_wall(pose), "wood")
    cloth, wood = pose.pick(*_FABRICS), pose.pick((136, 88, 58), (188, 140, 94), (236, 232, 224))
    side = 1 if pose.chance(0.5) else -1
    window(room, side * 0.95, 1.1, 0.8, 0.9, lighter(cloth, 0.25))
    bx = -side * 0.38
    image(room, bx, 1.6, 0.8, 0.5)
    room.block((bx - 0.85, 0, 3.85), (bx + 0.85, 1.15, 3.95), wood)
    for x in (bx - 1.05, bx + 1.08):
        if abs(x) < 1.4:
            room.block((x - 0.2, 0, 3.45), (x + 0.2, 0.55, 3.85), wood)
            lamp(room, x, 0.55, 3.65)
    room.block((bx - 0.78, 0.0, 2.4), (bx + 0.78, 0.30, 3.85), darker(wood, 0.1))
    room.block((bx - 0.76, 0.30, 2.42), (bx + 0.76, 0.52, 3.85), (244, 242, 238))
    for x in (bx - 0.38, bx + 0.38):
        px, py = room.to(x, 0.62, 3.6)
        pen.ellipse(px, py, 0.068, 0.034, (252, 250, 246), volume=0.5)
    room.block((bx - 0.80, 0.22, 2.38), (bx + 0.80, 0.56, 3.2), cloth, lighter(cloth, 0.12))
    room.face([(bx - 0.80, 0.565, 3.0), (bx + 0.80, 0.565, 3.0), (bx + 0.80, 0.565, 3.22),
               (bx - 0.80, 0.565, 3.22)],
              lighter(cloth, 0.6))  # fmt: skip
    rug(room, bx - 0.7, bx + 0.7, 1.5, 2.1, pose.pick(*_FABRICS))


def kitchen(pen: Pen, pose: Pose) -> None:
    """Draw cupboards, a stove, a sink under the window and a refrigerator."""
    tile = mix(pose.color, (244, 242, 236), 0.68)
    front = pose.color if pose.item.color != "white" else (240, 240, 238)
    room = shell(pen, pose, tile, "tiles")
    side = 1 if pose.chance(0.5) else -1
    top: RGB = (226, 220, 210) if pose.item.color != "white" else (150, 108, 76)
    window(room, 0.0, 1.22, 0.75, 0.75)
    for x in (-1.25, 1.25):
        if x * side < 0 or pose.chance(0.0):
            room.block((x - 0.35, 1.45, 3.6), (x + 0.75 * (x < 0) + 0.35 * (x > 0), 2.2, 4.0), front)
    low_x, high_x = (-1.6, 0.92) if side > 0 else (-0.92, 1.6)
    room.block((low_x, 0, 3.35), (high_x, 0.86, 4.0), front)
    room.block((low_x, 0.86, 3.3), (high_x, 0.93, 4.0), top)
    count = 4
    step = (high_x - low_x) / count
    for number in range(count):
        x0 = low_x + number * step
        if number == (1 if side > 0 else 2):
            _stove(room, x0, x0 + step)
            continue
        room.face([(x0 + 0.04, 0.1, 3.34), (x0 + step - 0.04, 0.1, 3.34), (x0 + step - 0.04, 0.8, 3.34),
                   (x0 + 0.04, 0.8, 3.34)],
                  lighter(front, 0.16))  # fmt: skip
        room.face([(x0 + 0.2, 0.70, 3.33), (x0 + step - 0.2, 0.70, 3.33), (x0 + step - 0.2, 0.74, 3.33),
                   (x0 + 0.2, 0.74, 3.33)],
                  (90, 90, 96))  # fmt: skip
    steel: RGB = (206, 212, 218)
    x0, x1 = (0.92, 1.58) if side > 0 else (-1.58, -0.92)
    room.block((x0, 0, 3.2), (x1, 1.85, 3.95), steel)
    room.face([(x0, 1.18, 3.19), (x1, 1.18, 3.19), (x1, 1.21, 3.19), (x0, 1.21, 3.19)], (120, 126, 134))
    hx = x0 + 0.08 if side > 0 else x1 - 0.12
    for y in (0.7, 1.3):
        room.face(
            [(hx, y, 3.18), (hx + 0.04, y, 3.18), (hx + 0.04, y + 0.35, 3.18), (hx, y + 0.35, 3.18)],
            (110, 116, 124),
        )
    tx, wood = -side * 0.75, pose.pick((168, 116, 74), (206, 160, 110))
    for x in (tx - 0.5, tx + 0.44):
        room.block((x, 0, 2.35), (x + 0.06, 0.7, 2.42), darker(wood, 0.25))
    room.block((tx - 0.6, 0.70, 2.3), (tx + 0.6, 0.76, 2.95), wood)
    px, py = room.to(tx, 0.76, 2.6)
    pen.ellipse(px, py - 0.015, 0.075, 0.026, (246, 244, 238), volume=0.4)
    for dx, fruit in ((-0.03, (214, 64, 54)), (0.005, (240, 170, 60)), (0.036, (120, 176, 70))):
        pen.ellipse(px + dx, py - 0.036, 0.024, 0.024, fruit, volume=0.5)


def _stove(room: Room, x0: float, x1: float) -> None:
    room.face([(x0, 0.04, 3.33), (x1, 0.04, 3.33), (x1, 0.90, 3.33), (x0, 0.90, 3.33)], (226, 228, 230))
    room.face(
        [(x0 + 0.07, 0.18, 3.32), (x1 - 0.07, 0.18, 3.32), (x1 - 0.07, 0.62, 3.32), (x0 + 0.07, 0.62, 3.32)],
        (48, 46, 54),
    )
    for x in np.linspace(x0 + 0.1, x1 - 0.1, 4):
        px, py = room.to(float(x), 0.78, 3.32)
        room.pen.ellipse(px, py, 0.009, 0.009, (60, 60, 68))
    px, py = room.to((x0 + x1) / 2, 0.94, 3.55)
    room.pen.box(px - 0.045, py - 0.055, px + 0.045, py, (188, 66, 58), 0.01, volume=0.5)
    room.pen.line([(px - 0.075, py - 0.04), (px + 0.075, py - 0.04)], 0.01, (60, 54, 58))
    room.pen.ellipse(px, py - 0.056, 0.045, 0.01, (216, 110, 96))


def living_room(pen: Pen, pose: Pose) -> None:
    """Draw a sofa, a low table, a lamp, a framed picture and a plant."""
    room = shell(pen, pose, _soft_wall(pose), "wood")
    cloth = pose.pick(*_FABRICS)
    side = 1 if pose.chance(0.5) else -1
    window(room, -side * 0.8, 1.15, 0.95, 0.95, lighter(cloth, 0.4))
    image(room, side * 0.6, 1.45, 0.85, 0.6)
    rug(room, -1.1, 1.1, 1.7, 3.0, pose.pick(*_FABRICS))
    sx = side * 0.35
    room.block((sx - 0.95, 0.08, 3.7), (sx + 0.95, 0.98, 3.9), darker(cloth, 0.1))
    room.block((sx - 0.80, 0.08, 3.1), (sx + 0.80, 0.48, 3.75), cloth)
    room.face([(sx - 0.005, 0.1, 3.09), (sx + 0.015, 0.1, 3.09), (sx + 0.015, 0.48, 3.09),
               (sx - 0.005, 0.48, 3.09)],
              darker(cloth, 0.35))  # fmt: skip
    for x in (sx - 1.0, sx + 0.78):
        room.block((x, 0.0, 3.05), (x + 0.22, 0.66, 3.85), darker(cloth, 0.04))
    for dx, color in ((-0.55, (246, 240, 226)), (0.55, pose.pick(*_FABRICS))):
        px, py = room.to(sx + dx, 0.68, 3.6)
        pen.at(px, py, 0.25).box(-0.042, -0.042, 0.042, 0.042, color, 0.014, volume=0.4)
    plant(room, -side * 1.2, 3.3)
    if abs(sx + side * 1.15) < 1.45:
        lamp(room, sx + side * 1.1, 0.9, 3.7)
        room.block((sx + side * 1.1 - 0.05, 0, 3.68), (sx + side * 1.1 + 0.05, 0.9, 3.72), (110, 84, 60))
    wood = pose.pick((136, 90, 60), (196, 148, 98))
    tx = -0.1 * side
    for x in (tx - 0.52, tx + 0.46):
        room.block((x, 0, 2.4), (x + 0.06, 0.34, 2.46), darker(wood, 0.3))
    room.block((tx - 0.58, 0.34, 2.35), (tx + 0.58, 0.40, 2.85), wood)
    px, py = room.to(tx + 0.2, 0.4, 2.6)
    pen.box(px - 0.06, py - 0.012, px + 0.05, py + 0.006, (70, 110, 150))
    pen.box(px - 0.05, py - 0.026, px + 0.055, py - 0.012, (206, 96, 78))


def bathroom(pen: Pen, pose: Pose) -> None:
    """Draw a bathtub, a wash basin with a mirror and a toilet."""
    tile = mix(pose.color, (246, 246, 244), 0.45)
    room = shell(pen, pose, tile, "tiles")
    for y in np.arange(0.2, 1.55, 0.24):
        room.wall(-HALF, float(y), HALF, float(y) + 0.02, lighter(tile, 0.5))
    for x in np.arange(-1.5, 1.6, 0.24):
        room.wall(float(x), 0.1, float(x) + 0.02, 1.5, lighter(tile, 0.5))
    room.wall(-HALF, 1.5, HALF, 1.58, darker(pose.color, 0.12))
    side = 1 if pose.chance(0.5) else -1
    white: RGB = (248, 248, 246)
    window(room, -side * 0.95, 1.45, 0.6, 0.65)
    sx = side * 0.25
    px, py = room.to(sx, 1.72, DEEP)
    pen.ellipse(px, py, 0.088, 0.108, (206, 176, 120))
    mirror = pen.ellipse(px, py, 0.076, 0.096, (190, 214, 224))
    pen.polygon([(px - 0.08, py + 0.02), (px + 0.05, py - 0.1), (px + 0.09, py - 0.06),
                 (px - 0.05, py + 0.08)],
                (232, 244, 248), inside=mirror)  # fmt: skip
    room.block((sx - 0.09, 0, 3.75), (sx + 0.09, 0.7, 3.9), darker(white, 0.08))
    room.block((sx - 0.36, 0.70, 3.5), (sx + 0.36, 0.86, 4.0), white)
    bx, by = room.to(sx, 0.87, 3.72)
    pen.ellipse(bx, by, 0.055, 0.010, (196, 210, 218))
    pen.line([(bx, by - 0.004), (bx, by - 0.045), (bx + 0.022, by - 0.045)], 0.011, (150, 158, 166))
    _toilet(room, side * 1.05, white)
    _tub(room, -side, white)
    cloth = pose.pick(*_FABRICS)
    hang = [
        (side * 1.59, 1.4, 2.6),
        (side * 1.59, 1.4, 3.0),
        (side * 1.59, 0.75, 3.0),
        (side * 1.59, 0.75, 2.6),
    ]
    room.face(hang, cloth, to=darker(cloth, 0.2))
    rug(room, -0.25 + 0.3 * side, 0.55 + 0.3 * side, 1.75, 2.35, cloth)


def _toilet(room: Room, x: float, white: RGB) -> None:
    room.block((x - 0.24, 0.40, 3.78), (x + 0.24, 0.88, 3.98), white)
    room.block((x - 0.14, 0.0, 3.4), (x + 0.14, 0.34, 3.8), darker(white, 0.1))
    px, py = room.to(x, 0.42, 3.5)
    s = FOCUS / 3.5
    room.pen.ellipse(px, py + 0.05 * s, 0.24 * s, 0.12 * s, darker(white, 0.12))
    room.pen.ellipse(px, py, 0.25 * s, 0.095 * s, white)
    room.pen.ellipse(px, py, 0.16 * s, 0.05 * s, (150, 170, 184))


def _tub(room: Room, side: int, white: RGB) -> None:
    x0, x1 = (-1.58, -0.72) if side < 0 else (0.72, 1.58)
    room.block((x0, 0, 2.35), (x1, 0.58, 3.9), white, (255, 255, 255))
    m = 0.10
    room.face([(x0 + m, 0.585, 2.35 + 1.6 * m), (x1 - m, 0.585, 2.35 + 1.6 * m), (x1 - m, 0.585, 3.75),
               (x0 + m, 0.585, 3.75)],
              (120, 186, 208), to=(160, 212, 226))  # fmt: skip
    px, py = room.to((x0 + x1) / 2, 0.585, 2.9)
    for dx, dy, r in ((-0.03, 0, 0.022), (0.0, 0.008, 0.026), (0.03, 0.0, 0.02), (0.012, -0.014, 0.018)):
        room.pen.ellipse(px + dx, py + dy, r, 0.7 * r, (250, 252, 254))
    tx, ty = room.to((x0 + x1) / 2, 0.6, 3.85)
    room.pen.line([(tx, ty), (tx, ty - 0.05), (tx, ty - 0.05)], 0.012, (150, 158, 166))
    room.pen.line([(tx, ty - 0.05), (tx, ty - 0.03)], 0.016, (150, 158, 166))


DRAW: dict[str, Callable[[Pen, Pose], None]] = {
    "bedroom": bedroom,
    "kitchen": kitchen,
    "living room": living_room,
    "bathroom": bathroom,
}
