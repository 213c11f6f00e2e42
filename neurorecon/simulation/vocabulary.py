"""The closed vocabulary of the scenes: kinds of objects, colors and places.

Sizes are in meters, so that scenes with several objects have a consistent perspective: the main object determines the
height of the camera, and the sizes of all other objects follow.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Super-categories; scenes are balanced over them.
CATEGORIES: tuple[str, ...] = (
    "person",
    "face",
    "building",
    "room",
    "animal",
    "vehicle",
    "plant",
    "tool",
)

#: Colors and their sRGB values in full, neutral light.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (206, 52, 46),
    "orange": (232, 128, 44),
    "yellow": (240, 198, 62),
    "green": (74, 150, 74),
    "teal": (38, 142, 146),
    "blue": (48, 98, 184),
    "purple": (124, 78, 160),
    "pink": (232, 136, 164),
    "brown": (128, 82, 50),
    "tan": (206, 170, 124),
    "golden": (222, 176, 92),
    "gray": (134, 138, 146),
    "black": (46, 46, 54),
    "white": (238, 236, 230),
}

#: Lighting conditions.
LIGHTINGS: tuple[str, ...] = ("noon", "sunset", "dusk", "night", "overcast")


@dataclass(frozen=True)
class Setting:
    """A place.

    Parameters
    ----------
    indoor : bool
        Whether the place is enclosed by walls.
    openness : float
        0 (enclosed) to 1 (open view to the horizon).
    clutter : float
        How much of the view is filled with things of the place itself, 0 to 1.
    horizon : (float, float)
        Range of the vertical position of the horizon (indoors: of the base of the far wall), from 0 (top) to 1
        (bottom).
    companions : tuple of str
        Kinds of objects that may appear beside the main one.
    """

    indoor: bool
    openness: float
    clutter: float
    horizon: tuple[float, float]
    companions: tuple[str, ...]


#: Places by name.
SETTINGS: dict[str, Setting] = {
    "meadow": Setting(
        False, 0.85, 0.05, (0.42, 0.58), ("tree", "pine", "house", "barn", "cow", "horse", "dog", "flower")
    ),
    "beach": Setting(False, 0.95, 0.05, (0.36, 0.46), ("palm", "boat", "man", "woman", "child", "dog", "bird")),
    "street": Setting(False, 0.45, 0.35, (0.48, 0.58), ("car", "bus", "bicycle", "tree", "man", "woman")),
    "city square": Setting(False, 0.55, 0.25, (0.48, 0.58), ("man", "woman", "child", "tree", "bicycle", "bird")),
    "snow": Setting(False, 0.85, 0.05, (0.42, 0.56), ("pine", "house", "man", "child", "dog")),
    "desert": Setting(False, 1.0, 0.05, (0.45, 0.58), ("cactus", "palm", "bird")),
    "lake": Setting(False, 0.9, 0.05, (0.40, 0.52), ("boat", "bird")),
    "forest": Setting(False, 0.3, 0.4, (0.48, 0.60), ("tree", "pine", "flower", "bird")),
    "sky": Setting(False, 1.0, 0.0, (0.90, 0.97), ("bird", "airplane")),
    "underwater": Setting(False, 0.6, 0.15, (0.74, 0.84), ("fish",)),
    "room": Setting(True, 0.2, 0.55, (0.66, 0.67), ("cat", "dog")),
    "table": Setting(True, 0.12, 0.15, (0.40, 0.55), ("cup", "flower")),
    "workshop": Setting(True, 0.05, 0.1, (0.0, 0.0), ("hammer", "wrench", "scissors", "screwdriver")),
}


@dataclass(frozen=True)
class Traits:
    """Properties of a kind of object.

    Parameters
    ----------
    category : str
        One of :data:`CATEGORIES`.
    height : float
        Real height in meters.
    aspect : float
        Aspect ratio (width / height) of the bounding box.
    fill : float
        Average share of the bounding box that the silhouette covers (calibrated on the renderer, and tested).
    size : (float, float)
        Range of the height of a main object, relative to the image.
    settings, colors : tuple of str
        Possible places and colors.
    place : {"ground", "water", "air", "frame", "top"}
        What the object rests on: the ground, water or air, the frame of the image, or a bench seen from above.
    speed : float
        Maximum speed in videos, in image widths per second.
    """

    category: str
    height: float
    aspect: float
    fill: float
    size: tuple[float, float]
    settings: tuple[str, ...]
    colors: tuple[str, ...]
    place: str = "ground"
    speed: float = 0.0


_OUT = ("meadow", "beach", "street", "city square", "snow", "forest")

_CLOTHES = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "black")

_HAIR = ("black", "brown", "golden", "red", "gray")

_PORTRAIT = ("meadow", "beach", "street", "city square", "snow", "forest", "room")

_PAINT = ("red", "orange", "yellow", "green", "teal", "blue", "white", "black", "gray")

_BENCH = ("workshop",)

#: Properties of every kind.
TRAITS: dict[str, Traits] = {
    "man": Traits("person", 1.80, 0.42, 0.48, (0.58, 0.84), (*_OUT, "room"), _CLOTHES, speed=0.24),
    "woman": Traits("person", 1.70, 0.42, 0.45, (0.58, 0.84), (*_OUT, "room"), _CLOTHES, speed=0.24),
    "child": Traits("person", 1.15, 0.48, 0.45, (0.52, 0.76), (*_OUT, "room"), _CLOTHES, speed=0.26),
    "man face": Traits("face", 0.5, 0.95, 0.53, (0.84, 1.0), _PORTRAIT, _HAIR, "frame", 0.08),
    "woman face": Traits("face", 0.5, 0.95, 0.55, (0.84, 1.0), _PORTRAIT, _HAIR, "frame", 0.08),
    "child face": Traits("face", 0.5, 0.95, 0.51, (0.80, 0.96), _PORTRAIT, _HAIR[:4], "frame", 0.08),
    "house": Traits(
        "building",
        7.0,
        1.25,
        0.8,
        (0.46, 0.66),
        ("meadow", "snow", "forest", "beach"),
        ("red", "yellow", "blue", "white", "tan", "pink", "green", "gray"),
    ),
    "church": Traits(
        "building",
        15.0,
        0.95,
        0.65,
        (0.60, 0.80),
        ("meadow", "snow", "city square"),
        ("white", "tan", "gray", "yellow", "brown"),
    ),
    "barn": Traits("building", 8.0, 1.25, 0.89, (0.44, 0.60), ("meadow", "snow"), ("red", "brown", "white", "gray")),
    "skyscraper": Traits(
        "building",
        60.0,
        0.42,
        0.72,
        (0.68, 0.88),
        ("city square",),
        ("blue", "gray", "teal", "tan", "black"),
    ),
    "lighthouse": Traits(
        "building", 24.0, 0.40, 0.55, (0.64, 0.82), ("beach", "meadow"), ("red", "white", "blue", "black")
    ),
    "bedroom": Traits(
        "room",
        3.0,
        1.0,
        1.0,
        (1.0, 1.0),
        ("room",),
        ("blue", "green", "pink", "tan", "white", "yellow", "gray", "purple"),
        "frame",
    ),
    "kitchen": Traits(
        "room",
        3.0,
        1.0,
        1.0,
        (1.0, 1.0),
        ("room",),
        ("white", "blue", "green", "red", "yellow", "gray", "tan"),
        "frame",
    ),
    "living room": Traits(
        "room",
        3.0,
        1.0,
        1.0,
        (1.0, 1.0),
        ("room",),
        ("teal", "tan", "white", "green", "orange", "gray", "blue"),
        "frame",
    ),
    "bathroom": Traits(
        "room",
        3.0,
        1.0,
        1.0,
        (1.0, 1.0),
        ("room",),
        ("blue", "green", "white", "pink", "teal", "gray"),
        "frame",
    ),
    "dog": Traits(
        "animal",
        0.70,
        1.25,
        0.42,
        (0.40, 0.60),
        ("meadow", "beach", "street", "snow", "forest", "room"),
        ("brown", "golden", "black", "white", "gray", "tan"),
        speed=0.32,
    ),
    "cat": Traits(
        "animal",
        0.45,
        1.25,
        0.39,
        (0.40, 0.60),
        ("meadow", "street", "room", "city square"),
        ("orange", "black", "white", "gray", "brown"),
        speed=0.28,
    ),
    "horse": Traits(
        "animal",
        2.0,
        1.15,
        0.4,
        (0.52, 0.74),
        ("meadow", "desert", "snow", "beach"),
        ("brown", "black", "white", "golden", "gray"),
        speed=0.34,
    ),
    "cow": Traits("animal", 1.6, 1.45, 0.47, (0.42, 0.58), ("meadow",), ("brown", "black", "white", "tan"), speed=0.15),
    "elephant": Traits(
        "animal", 3.2, 1.3, 0.64, (0.50, 0.68), ("desert", "meadow", "forest"), ("gray", "brown"), speed=0.16
    ),
    "bird": Traits(
        "animal",
        0.25,
        1.35,
        0.35,
        (0.36, 0.56),
        ("sky", "meadow", "beach", "snow", "lake"),
        ("red", "blue", "yellow", "black", "white", "brown", "green"),
        "air",
        0.36,
    ),
    "fish": Traits(
        "animal",
        0.30,
        1.75,
        0.58,
        (0.34, 0.48),
        ("underwater",),
        ("orange", "yellow", "red", "blue", "purple", "green"),
        "air",
        0.30,
    ),
    "car": Traits(
        "vehicle",
        1.5,
        2.2,
        0.68,
        (0.32, 0.40),
        ("street", "city square", "desert", "meadow", "snow", "beach"),
        _PAINT,
        speed=0.36,
    ),
    "bus": Traits(
        "vehicle",
        3.2,
        1.8,
        0.9,
        (0.40, 0.50),
        ("street", "city square", "desert", "snow"),
        ("red", "yellow", "blue", "green", "white", "orange", "teal"),
        speed=0.32,
    ),
    "boat": Traits(
        "vehicle",
        8.0,
        0.9,
        0.52,
        (0.56, 0.78),
        ("lake",),
        ("white", "red", "blue", "yellow", "orange", "green"),
        "water",
        0.22,
    ),
    "airplane": Traits(
        "vehicle",
        5.0,
        2.3,
        0.32,
        (0.30, 0.40),
        ("sky",),
        ("white", "gray", "blue", "red", "yellow"),
        "air",
        0.36,
    ),
    "bicycle": Traits(
        "vehicle",
        1.05,
        1.6,
        0.33,
        (0.42, 0.56),
        ("street", "city square", "meadow", "beach", "forest"),
        ("red", "blue", "green", "yellow", "black", "orange", "teal", "pink"),
        speed=0.30,
    ),
    "tree": Traits(
        "plant",
        8.0,
        0.8,
        0.52,
        (0.66, 0.88),
        ("meadow", "city square", "forest"),
        ("green", "orange", "yellow", "red"),
    ),
    "pine": Traits("plant", 9.0, 0.6, 0.38, (0.68, 0.88), ("snow", "forest", "meadow"), ("green", "teal")),
    "palm": Traits("plant", 7.0, 0.8, 0.2, (0.68, 0.88), ("beach", "desert"), ("green",)),
    "flower": Traits(
        "plant",
        0.40,
        0.62,
        0.42,
        (0.62, 0.86),
        ("meadow", "forest", "table"),
        ("red", "yellow", "pink", "purple", "white", "orange", "blue"),
    ),
    "cactus": Traits("plant", 3.0, 0.62, 0.47, (0.60, 0.84), ("desert",), ("green",)),
    "hammer": Traits(
        "tool",
        0.35,
        1.0,
        0.144,
        (0.66, 0.84),
        _BENCH,
        ("red", "brown", "yellow", "black", "blue"),
        "top",
        0.2,
    ),
    "scissors": Traits(
        "tool",
        0.25,
        1.0,
        0.142,
        (0.66, 0.84),
        _BENCH,
        ("red", "blue", "green", "orange", "black"),
        "top",
        0.2,
    ),
    "wrench": Traits("tool", 0.30, 1.0, 0.158, (0.66, 0.84), _BENCH, ("gray", "blue", "red", "black"), "top", 0.2),
    "screwdriver": Traits(
        "tool",
        0.28,
        1.0,
        0.134,
        (0.66, 0.84),
        _BENCH,
        ("red", "yellow", "blue", "green", "orange"),
        "top",
        0.2,
    ),
    "cup": Traits(
        "tool",
        0.12,
        1.2,
        0.7,
        (0.44, 0.60),
        ("table",),
        ("white", "red", "blue", "yellow", "green", "orange", "teal"),
    ),
    "umbrella": Traits(
        "tool",
        1.2,
        1.15,
        0.34,
        (0.58, 0.78),
        ("beach", "city square", "meadow"),
        ("red", "blue", "yellow", "green", "purple", "pink", "orange"),
    ),
}

#: Super-category of every kind.
KINDS: dict[str, str] = {kind: traits.category for kind, traits in TRAITS.items()}


def kinds_of(category: str) -> tuple[str, ...]:
    """Return the kinds of a super-category, in the order of :data:`KINDS`."""
    return tuple(kind for kind, of in KINDS.items() if of == category)
