"""Where things are in a scene and how they move, drawn at random in one perspective."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurorecon.datasets.scenes.thing import SceneObject, visible_shares
from neurorecon.datasets.scenes.vocabulary import TRAITS, Setting, Traits, kinds_of

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
    """Propose one companion, or None where its size in perspective does not fit into the picture."""
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
    if place == "room":  # the eye of rooms.py is 1.25 m above the floor and looks at 0.4 of the picture's height
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
    # Something that crosses the picture is in the middle at time 0, so that it does not leave.
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
