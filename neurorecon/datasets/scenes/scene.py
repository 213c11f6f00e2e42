"""Descriptions of scenes and films, sampled from a seed one by one.

A scene is a few numbers and words, from which the picture, the captions and the labels follow. Scene
`index` of a seed is found without making the ones before it, so that a data set of 73,000 scenes needs no
list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from neurorecon.datasets.scenes.arrangement import (
    camera_motion,
    choose,
    companions,
    main_object,
    set_in_motion,
)
from neurorecon.datasets.scenes.thing import SceneObject, covered_share, visible_shares
from neurorecon.datasets.scenes.vocabulary import (
    CATEGORIES,
    LIGHTINGS,
    SETTINGS,
    TRAITS,
    Setting,
    kinds_of,
)
from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of stimuli, and the word that keeps their random streams apart.
_STREAMS = {"image": 0x1A6E, "film": 0xF11A}


@dataclass(frozen=True)
class Scene:
    """A picture or a film, described.

    Parameters
    ----------
    seed, index : int
        Which data set, and which scene of it.
    kind : {"image", "film"}
        A film shows the scene from -1 s to 1 s; its middle frame is at time 0.
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
        Images and films of one seed are different scenes.

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
