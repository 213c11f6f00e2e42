"""Descriptions of scenes, sampled from a seed: objects, their positions, their motion.

A scene consists of a few numbers and words that determine the image or video, the captions and the labels. Scene
`index` of a seed is sampled independently of the previous ones, so a data set of 73,000 scenes needs no list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.simulation.vocabulary import CATEGORIES, LIGHTINGS, SETTINGS, TRAITS, Setting, Traits, kinds_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SceneObject:
    """One object in a scene, at time 0.

    Parameters
    ----------
    kind, category, color : str
        Names from the vocabulary.
    x, y : float
        Center of the bounding box, in image widths from the center of the image; x is rightward, y downward.
    size : float
        Height of the bounding box, relative to the height of the image.
    depth : float
        0 (near) to 1 (at the horizon).
    facing : int
        1 faces right, -1 faces left.
    velocity : (float, float)
        Velocity in the world (without camera motion), in image widths per second; zero in still images.
    visible : float
        Share of the silhouette that lies in the image and is not occluded.
    style : int
        Seed of everything else about its appearance: pose, proportions, details.
    """

    kind: str
    category: str
    color: str
    x: float
    y: float
    size: float
    depth: float
    facing: int
    velocity: tuple[float, float] = (0.0, 0.0)
    visible: float = 1.0
    style: int = 0

    @property
    def width(self) -> float:
        """Width of the bounding box, in image widths."""
        return self.size * TRAITS[self.kind].aspect

    @property
    def ground(self) -> float:
        """Vertical position of its base, from 0 (top of the image) to 1 (bottom)."""
        return self.y + 0.5 + self.size / 2


def visible_shares(objects: Iterable[SceneObject], grid: int = 40) -> list[float]:
    """Return the share of each object's silhouette that is in the image and not occluded.

    Silhouettes are approximated by evenly filled boxes: a box hides the share ``Traits.fill`` of what is behind it.

    Parameters
    ----------
    objects : iterable of SceneObject
    grid : int
        Cells per side of the image.

    Returns
    -------
    list of float
        One share per object, from 0 to 1.
    """
    objects = list(objects)
    edges = np.linspace(-0.5, 0.5, grid + 1)
    free = np.ones((grid, grid))
    shares = [0.0] * len(objects)
    for number in sorted(range(len(objects)), key=lambda n: paint_order(objects[n]), reverse=True):
        item = objects[number]
        columns = _overlap(edges, item.x - item.width / 2, item.x + item.width / 2)
        rows = _overlap(edges, item.y - item.size / 2, item.y + item.size / 2)
        inside = np.outer(rows, columns)
        box = item.width * item.size * grid * grid
        shares[number] = float(min(1.0, (inside * free).sum() / box))
        free *= 1.0 - TRAITS[item.kind].fill * inside
    return shares


def paint_order(item: SceneObject) -> float:
    """Return the sort key for painting objects, far ones first."""
    if item.category == "room":
        return -10.0
    return (10.0 if item.category == "face" else 0.0) - item.depth


def covered_share(item: SceneObject) -> float:
    """Return the share of the image that is covered by the visible part of an object."""
    return item.visible * item.size * item.width * TRAITS[item.kind].fill


def _overlap(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the share of each cell between `low` and `high`, shape (cell,)."""
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.clip(inside, 0, None) / (edges[1] - edges[0])


#: Depth at which the sea begins in beach scenes.
SHORE = 0.76


def choose(random: np.random.Generator, names: tuple[str, ...]) -> str:
    """Choose one of several names at random."""
    return names[int(random.integers(len(names)))]


def _new(random: np.random.Generator, kind: str, x: float, ground: float, size: float, depth: float) -> SceneObject:
    traits = TRAITS[kind]
    return SceneObject(
        kind=kind,
        category=traits.category,
        color=choose(random, traits.colors),
        x=x,
        y=ground - size / 2 - 0.5,
        size=size,
        depth=depth,
        facing=1 if random.random() < 0.5 else -1,
        style=int(random.integers(2**31)),
    )


def main_object(random: np.random.Generator, kind: str, traits: Traits, place: str, horizon: float) -> SceneObject:
    """Sample the main object, which is large, near the center and entirely in view."""
    size = float(random.uniform(*traits.size))
    slack = max(0.0, 0.5 - size * traits.aspect / 2)
    x = float(random.uniform(-1, 1)) * min(slack + 0.04, 0.26)
    depth = 0.0
    if traits.category == "room":
        x, ground, depth = 0.0, 1.0, 1.0
    elif traits.category == "face":
        ground = 1.0 + 0.02 * float(random.random())
    elif traits.place in ("air", "top"):
        free = (1.0 - size) / 2
        ground = 0.5 + size / 2 + float(random.uniform(-1, 1)) * min(free, 0.2)
        if traits.place == "air" and horizon < 0.7:  # flies in front of the sky, not the ground
            ground = size + float(random.uniform(0.03, 0.16))
        depth = 0.3
    else:
        low = max(0.88 if place == "room" else horizon + 0.12, size + 0.03)
        high = max(low + 0.02, 0.86 if traits.category in ("building", "plant", "vehicle") else 0.96)
        ground = float(random.uniform(low, min(high, 0.97)))
        depth = 1 - (ground - horizon) / (1 - horizon)
    return _new(random, kind, x, ground, size, float(np.clip(depth, 0, 1)))


def companions(
    random: np.random.Generator, main: SceneObject, place: str, setting: Setting, horizon: float
) -> tuple[SceneObject, ...]:
    """Sample other objects around the main one, in the same perspective; return all, the main one first."""
    objects = [main]
    if place == "room" and main.category != "room":
        room = choose(random, kinds_of("room")[:3])
        objects.append(_new(random, room, 0.0, 1.0, 1.0, 1.0))
    if main.category == "face":
        return tuple(objects)
    wanted = int(random.choice(5, p=[0.22, 0.28, 0.25, 0.15, 0.10]))
    if setting.indoor:
        wanted = min(wanted, 1 if place == "room" else 2)
    for _ in range(6 * wanted):
        if wanted == 0:
            break
        kind = choose(random, setting.companions)
        item = _companion(random, kind, main, place, horizon)
        if item is not None and _leaves_room([*objects, item]):
            objects.append(item)
            wanted -= 1
    return tuple(objects)


def _companion(
    random: np.random.Generator, kind: str, main: SceneObject, place: str, horizon: float
) -> SceneObject | None:
    """Propose one companion, or None if its size in perspective does not fit into the image."""
    traits = TRAITS[kind]
    x = float(random.uniform(-0.5, 0.5))
    if traits.place == "top":
        size = float(random.uniform(0.3, 0.45))
        return _new(random, kind, x, float(random.uniform(0.2, 1.1)), size, 0.6)
    if traits.place == "air":
        size = float(random.uniform(0.07, 0.14))
        low, high = (0.1, max(0.2, horizon - 0.05)) if place != "underwater" else (0.2, 0.75)
        return _new(random, kind, x, float(random.uniform(low, high)) + size / 2, size, 0.7)
    if place == "beach":
        depth = float(random.uniform(0.84, 0.95) if kind == "boat" else random.uniform(0.05, SHORE - 0.1))
    elif place == "street" and traits.category == "plant":  # on the sidewalk
        depth = float(random.uniform(0.76, 0.88))
    else:  # in rooms, in front of the furniture
        depth = float(random.uniform(0.05, 0.35 if place == "room" else 0.93))
    ground = horizon + (1 - horizon) * (1 - depth)
    size = _size_in_perspective(main, traits, ground, horizon, place)
    if not 0.08 <= size <= 0.62 or ground - size < -0.08:
        return None
    return _new(random, kind, x, ground, size, depth)


def _size_in_perspective(main: SceneObject, traits: Traits, ground: float, horizon: float, place: str) -> float:
    """Return the apparent height of an object on the ground; the main object determines the height of the camera."""
    if place == "room":  # the camera of drawing/rooms.py is 1.25 m above the floor, its horizon at 0.4
        return traits.height * (ground - 0.4) / 1.25
    if TRAITS[main.kind].place in ("air", "top", "frame"):
        camera_height = 2.5
    else:
        camera_height = TRAITS[main.kind].height * (main.ground - horizon) / main.size
    return traits.height * (ground - horizon) / camera_height


def _leaves_room(objects: list[SceneObject]) -> bool:
    """Return whether the main object stays visible and the newest object is visible enough."""
    shares = visible_shares(objects)
    things = [share for item, share in zip(objects, shares, strict=True) if item.category != "room"]
    newest = objects[-1]
    if TRAITS[newest.kind].place == "top":
        return all(abs(newest.x - other.x) + abs(newest.y - other.y) > 0.5 for other in objects[:-1])
    apart = all(
        abs(newest.x - other.x) > 0.3 * (newest.width + other.width)
        for other in objects[:-1]
        if other.category != "room" and abs(other.depth - newest.depth) < 0.1
    )
    main_is_room = objects[0].category == "room"
    return apart and (main_is_room or shares[0] > 0.84) and min(things) > (0.25 if main_is_room else 0.4)


def set_in_motion(random: np.random.Generator, item: SceneObject, centered: bool = False) -> SceneObject:
    """Give an object a velocity if it can move; `centered` moves it toward the center first."""
    traits = TRAITS[item.kind]
    if traits.speed == 0 or random.random() > 0.85:
        return item
    speed = float(random.uniform(0.45, 1.0)) * traits.speed * item.size / float(np.mean(traits.size))
    if traits.place in ("top", "frame"):
        angle = float(random.uniform(0, 2 * np.pi))
        velocity = (speed * float(np.cos(angle)), speed * float(np.sin(angle)))
    else:
        rise = float(random.uniform(-0.35, 0.35)) if traits.place == "air" else 0.0
        velocity = (item.facing * speed, rise * speed)
    # An object that crosses the image is near the center at time 0, so that it stays in view.
    return replace(item, x=0.4 * item.x if centered else item.x, velocity=velocity)


def camera_motion(random: np.random.Generator, still: bool) -> tuple[float, float, float]:
    """Sample the motion of the camera, which always moves if nothing else does."""
    pan = zoom = 0.0
    tilt = 0.0
    if random.random() < (0.7 if still else 0.45):
        pan = float(random.uniform(0.05, 0.15)) * (1 if random.random() < 0.5 else -1)
        tilt = float(random.uniform(-0.03, 0.03))
    if random.random() < 0.35 or (still and pan == 0):
        zoom = float(random.uniform(0.06, 0.16)) * (1 if random.random() < 0.5 else -1)
    return pan, tilt, zoom


#: Kinds of stimuli, and the seed words that separate their random streams.
_STREAMS = {"image": 0x1A6E, "video": 0xF11A}

#: Seed words of what is drawn and said of a scene, by its kind.
DETAILS = {"image": 5, "video": 4}


@dataclass(frozen=True)
class Scene:
    """The description of an image or a video.

    Parameters
    ----------
    seed, index : int
        Seed of the data set, and index of the scene.
    kind : {"image", "video"}
        Whether the scene is an image or a video. A video shows the scene from -1 s to 1 s; its middle frame is at
        time 0.
    objects : tuple of SceneObject
        All objects, the main one first.
    setting : str
        Name of the place, a key of ``vocabulary.SETTINGS``.
    indoor : bool
        Whether the scene is enclosed by walls.
    openness : float
        0 (enclosed) to 1 (open view).
    lighting : str
        One of ``vocabulary.LIGHTINGS``.
    camera : (float, float, float)
        Velocity (x, y) of the camera in image widths per second, and relative change of magnification per second.
    horizon : float
        Vertical position of the horizon, from 0 (top) to 1 (bottom).
    """

    seed: int
    index: int
    kind: str
    objects: tuple[SceneObject, ...]
    setting: str
    indoor: bool
    openness: float
    lighting: str
    camera: tuple[float, float, float]
    horizon: float

    @property
    def main(self) -> SceneObject:
        """The main object."""
        return self.objects[0]

    @property
    def category(self) -> str:
        """Super-category of the main object."""
        return self.objects[0].category


def sample_scene(seed: int, index: int, kind: str = "image", categories: tuple[str, ...] = CATEGORIES) -> Scene:
    """Sample one scene of a data set.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    index : int
        Index of the scene. Each block of ``len(categories)`` consecutive scenes has every category once.
    kind : {"image", "video"}
        Image or video. Images and videos of the same seed are different scenes.
    categories : tuple of str
        Categories of main objects. Other objects in the scene may have any category.

    Returns
    -------
    Scene

    Raises
    ------
    InputError
        If the seed or the index is negative.
    UnknownNameError
        If the kind is unknown.
    """
    if kind not in _STREAMS:
        raise UnknownNameError("kind of stimulus", kind, _STREAMS)
    if seed < 0 or index < 0:
        raise InputError(
            "the seed and the index of a scene must not be negative", given=(seed, index), expected="integers >= 0"
        )
    random = _generator(seed, kind, 1, index)
    names = kinds_of(_category(seed, index, kind, categories))
    name = names[random.integers(len(names))]
    traits = TRAITS[name]
    place = choose(random, traits.settings)
    setting = SETTINGS[place]
    horizon = float(random.uniform(*setting.horizon))
    main = main_object(random, name, traits, place, horizon)
    camera = (0.0, 0.0, 0.0)
    if kind == "video":
        main = set_in_motion(random, main, centered=True)
    objects = companions(random, main, place, setting, horizon)
    if kind == "video":
        objects = (main, *(set_in_motion(random, item) for item in objects[1:]))
        camera = camera_motion(random, still=objects[0].velocity == (0.0, 0.0))
    shares = visible_shares(objects)
    objects = tuple(replace(item, visible=share) for item, share in zip(objects, shares, strict=True))
    hidden = covered_share(objects[0]) if main.category != "room" else 0.0
    return Scene(
        seed=seed,
        index=index,
        kind=kind,
        objects=objects,
        setting=place,
        indoor=setting.indoor,
        openness=setting.openness * (1.0 - 0.5 * hidden),
        lighting=_lighting(random, place, setting),
        camera=camera,
        horizon=horizon,
    )


def label_table(scenes: Iterable[Scene]) -> pd.DataFrame:
    """Return numeric labels of scenes.

    Parameters
    ----------
    scenes : iterable of Scene

    Returns
    -------
    DataFrame
        One row per scene. ``category:<name>`` is the share of the image that is covered by visible objects of the
        category; ``layout:indoor``, ``layout:openness``, ``layout:horizon`` and ``layout:clutter`` range from 0 to 1.
    """
    import pandas as pd

    rows = []
    for scene in scenes:
        row = {f"category:{name}": 0.0 for name in CATEGORIES}
        for item in scene.objects:
            row[f"category:{item.category}"] += covered_share(item)
        things = sum(item.category != "room" for item in scene.objects[1:])
        row["layout:indoor"] = float(scene.indoor)
        row["layout:openness"] = scene.openness
        row["layout:horizon"] = scene.horizon
        row["layout:clutter"] = min(1.0, SETTINGS[scene.setting].clutter + things / 5)
        rows.append(row)
    columns = [f"category:{name}" for name in CATEGORIES]
    columns += [f"layout:{name}" for name in ("indoor", "openness", "horizon", "clutter")]
    return pd.DataFrame(rows, columns=columns)


def _generator(seed: int, kind: str, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, _STREAMS[kind], *key]))


def _category(seed: int, index: int, kind: str, categories: tuple[str, ...]) -> str:
    """Return the category of a scene; each block of scenes contains all categories in random order."""
    block, place = divmod(index, len(categories))
    order = _generator(seed, kind, 0, block).permutation(len(categories))
    return categories[int(order[place])]


def _lighting(random: np.random.Generator, place: str, setting: Setting) -> str:
    if place in ("underwater", "workshop"):
        return "noon"
    chances = (0.55, 0.2, 0.0, 0.25, 0.0) if setting.indoor else (0.44, 0.2, 0.1, 0.1, 0.16)
    return str(random.choice(LIGHTINGS, p=chances))
