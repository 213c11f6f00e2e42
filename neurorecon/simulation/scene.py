"""Descriptions of scenes and videos, sampled from a seed one by one: things, where they are, how they move.

A scene is a few numbers and words, from which the image, the captions and the labels follow. Scene
`index` of a seed is found without making the ones before it, so that a data set of 73,000 scenes needs no
list.
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
    """One thing in a scene, at time 0.

    Parameters
    ----------
    kind, category, color : str
        Names from the vocabulary.
    x, y : float
        Center of its box, in image widths from the center of the image; x to the right, y downward.
    size : float
        Height of its box as a share of the image's height.
    depth : float
        0 (near) to 1 (at the horizon).
    facing : int
        1 looks to the right, -1 to the left.
    velocity : (float, float)
        Of the object in the world (before the camera moves), image widths per second; zero in still images.
    visible : float
        Share of its silhouette that lies in the image and is not hidden by something nearer.
    style : int
        Seed of everything else about its looks: pose, proportions, details.
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
        """Width of its box, in image widths."""
        return self.size * TRAITS[self.kind].aspect

    @property
    def ground(self) -> float:
        """Where its foot is, from 0 (top of the image) to 1 (bottom)."""
        return self.y + 0.5 + self.size / 2


def visible_shares(objects: Iterable[SceneObject], grid: int = 40) -> list[float]:
    """Return for each object the share of its silhouette that is in the image and not hidden.

    Silhouettes are taken as evenly filled boxes: ``Traits.fill`` of a box hides what is behind it.

    Parameters
    ----------
    objects : iterable of SceneObject
    grid : int
        Cells along each side of the image.
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
    """Return the key by which objects are painted: what is far comes first."""
    if item.category == "room":
        return -10.0
    return (10.0 if item.category == "face" else 0.0) - item.depth


def covered_share(item: SceneObject) -> float:
    """Return the share of the image that the visible part of an object covers."""
    return item.visible * item.size * item.width * TRAITS[item.kind].fill


def _overlap(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return how much of each cell lies between `low` and `high`, shape (cell,)."""
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.clip(inside, 0, None) / (edges[1] - edges[0])


#: Where, in depth, the sea of a beach begins.
SHORE = 0.76


def choose(random: np.random.Generator, names: tuple[str, ...]) -> str:
    """Return one of several names."""
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
    """Return the main object, large, near the middle and wholly in view."""
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
        if traits.place == "air" and horizon < 0.7:  # flies before the sky rather than before the ground
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
    """Return the main object and others around it, in one perspective."""
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
    """Propose one companion, or None where its size in perspective does not fit into the image."""
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
    else:  # in rooms, before the furniture
        depth = float(random.uniform(0.05, 0.35 if place == "room" else 0.93))
    ground = horizon + (1 - horizon) * (1 - depth)
    size = _size_in_perspective(main, traits, ground, horizon, place)
    if not 0.08 <= size <= 0.62 or ground - size < -0.08:
        return None
    return _new(random, kind, x, ground, size, depth)


def _size_in_perspective(main: SceneObject, traits: Traits, ground: float, horizon: float, place: str) -> float:
    """Return how high something on the ground looks; the main object tells how high the camera is."""
    if place == "room":  # the eye of rooms.py is 1.25 m above the floor and looks at 0.4 of the image's height
        return traits.height * (ground - 0.4) / 1.25
    if TRAITS[main.kind].place in ("air", "top", "frame"):
        camera_height = 2.5
    else:
        camera_height = TRAITS[main.kind].height * (main.ground - horizon) / main.size
    return traits.height * (ground - horizon) / camera_height


def _leaves_room(objects: list[SceneObject]) -> bool:
    """Tell whether the main object stays in view and the newest is seen well enough."""
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
    """Return the object with a velocity, if it can move; `centered` brings it near the middle first."""
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
    # Something that crosses the image is in the middle at time 0, so that it does not leave.
    return replace(item, x=0.4 * item.x if centered else item.x, velocity=velocity)


def camera_motion(random: np.random.Generator, still: bool) -> tuple[float, float, float]:
    """Return how the camera moves: it must where nothing else does."""
    pan = zoom = 0.0
    tilt = 0.0
    if random.random() < (0.7 if still else 0.45):
        pan = float(random.uniform(0.05, 0.15)) * (1 if random.random() < 0.5 else -1)
        tilt = float(random.uniform(-0.03, 0.03))
    if random.random() < 0.35 or (still and pan == 0):
        zoom = float(random.uniform(0.06, 0.16)) * (1 if random.random() < 0.5 else -1)
    return pan, tilt, zoom


#: Kinds of stimuli, and the word that keeps their random streams apart.
_STREAMS = {"image": 0x1A6E, "film": 0xF11A}


@dataclass(frozen=True)
class Scene:
    """An image or a video, described.

    Parameters
    ----------
    seed, index : int
        Which data set, and which scene of it.
    kind : {"image", "film"}
        A video shows the scene from -1 s to 1 s; its middle frame is at time 0.
    objects : tuple of SceneObject
        The first is the main one.
    setting : str
        Name of the place, a key of ``vocabulary.SETTINGS``.
    indoor : bool
        Whether there are walls around.
    openness : float
        0 (enclosed) to 1 (free view).
    lighting : str
        One of ``vocabulary.LIGHTINGS``.
    camera : (float, float, float)
        Velocity (x, y) of the camera in image widths per second, and relative change of its
        magnification per second.
    horizon : float
        Height of the horizon from 0 (top) to 1 (bottom).
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


def sample_scene(seed: int, index: int, kind: str = "image") -> Scene:
    """Return one scene of a data set.

    Parameters
    ----------
    seed : int
        Of the data set.
    index : int
        Which scene; every run of ``len(CATEGORIES)`` scenes that starts at a multiple of it has each category
        once.
    kind : {"image", "film"}
        Images and videos of one seed are different scenes.

    Raises
    ------
    InputError
        For a negative seed or index, or an unknown kind.
    """
    if kind not in _STREAMS:
        raise UnknownNameError("kind of stimulus", kind, _STREAMS)
    if seed < 0 or index < 0:
        raise InputError("a scene needs a seed and an index", given=(seed, index), expected="integers >= 0")
    random = _generator(seed, kind, 1, index)
    names = kinds_of(_category(seed, index, kind))
    name = names[random.integers(len(names))]
    traits = TRAITS[name]
    place = choose(random, traits.settings)
    setting = SETTINGS[place]
    horizon = float(random.uniform(*setting.horizon))
    main = main_object(random, name, traits, place, horizon)
    camera = (0.0, 0.0, 0.0)
    if kind == "film":
        main = set_in_motion(random, main, centered=True)
    objects = companions(random, main, place, setting, horizon)
    if kind == "film":
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
        One row a scene. ``category:<name>`` is the share of the image that visible objects of the category
        cover; ``layout:indoor``, ``layout:openness``, ``layout:horizon`` and ``layout:clutter`` lie between
        0 and 1.
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


def _category(seed: int, index: int, kind: str) -> str:
    """Balance the categories: each block of scenes has a random order of all of them."""
    block, place = divmod(index, len(CATEGORIES))
    order = _generator(seed, kind, 0, block).permutation(len(CATEGORIES))
    return CATEGORIES[int(order[place])]


def _lighting(random: np.random.Generator, place: str, setting: Setting) -> str:
    if place in ("underwater", "workshop"):
        return "noon"
    chances = (0.55, 0.2, 0.0, 0.25, 0.0) if setting.indoor else (0.44, 0.2, 0.1, 0.1, 0.16)
    return str(random.choice(LIGHTINGS, p=chances))
