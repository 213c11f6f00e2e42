"""Pictures of the miniature of NSD: a colored shape for each of six COCO categories, before a background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Pixels on each side (425 in NSD).
SIZE = 64

#: Categories as COCO numbers and groups them: id, name, supercategory.
CATEGORIES = (
    (1, "person", "person"),
    (3, "car", "vehicle"),
    (7, "train", "vehicle"),
    (16, "bird", "animal"),
    (18, "dog", "animal"),
    (59, "pizza", "food"),
)

#: Colors of the shapes, half-axes (x, y) in shares of the picture, and whether they are round.
_SHAPES = {
    "person": ((225, 175, 140), (0.10, 0.26), True),
    "car": ((200, 30, 30), (0.24, 0.12), False),
    "train": ((60, 60, 170), (0.34, 0.09), False),
    "bird": ((245, 245, 245), (0.12, 0.10), True),
    "dog": ((120, 75, 35), (0.22, 0.13), True),
    "pizza": ((235, 190, 60), (0.22, 0.22), True),
}

#: Backgrounds: name and color.
BACKGROUNDS = (("meadow", (80, 150, 60)), ("sky", (130, 180, 235)), ("street", (110, 110, 110)))


@dataclass(frozen=True)
class Scenes:
    """What is in each picture.

    Parameters
    ----------
    category, background : int array, shape (picture,)
        Indices of :data:`CATEGORIES` and :data:`BACKGROUNDS`.
    x, y, size : float array, shape (picture,)
        Center of the shape in shares of the picture, and its size (1 is average).
    """

    category: np.ndarray
    background: np.ndarray
    x: np.ndarray
    y: np.ndarray
    size: np.ndarray

    def features(self) -> np.ndarray:
        """Return what responses follow, standardized, shape (picture, feature): see :data:`FEATURES`."""
        one_hot = [np.equal.outer(np.arange(len(names)), values)
                   for names, values in ((CATEGORIES, self.category), (BACKGROUNDS, self.background))]  # fmt: skip
        values = np.concatenate([*one_hot, [self.x], [self.y], [self.size]]).T.astype(float)
        return (values - values.mean(axis=0)) / values.std(axis=0)

    def box(self, picture: int) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the shape, in shares of the picture."""
        half = np.array(_SHAPES[self.name(picture)][1]) * self.size[picture]
        return (self.x[picture] - half[0], self.y[picture] - half[1], 2 * half[0], 2 * half[1])

    def name(self, picture: int) -> str:
        """Return the category of a picture."""
        return CATEGORIES[self.category[picture]][1]

    def captions(self, picture: int) -> list[str]:
        """Return five captions."""
        name, where = self.name(picture), BACKGROUNDS[self.background[picture]][0]
        side = "left" if self.x[picture] < 0.5 else "right"
        return [
            f"A {name} on the {side} before a {where}.",
            f"a {name} and a {where}",
            f"There is a {name} on the {side}.",
            f"A photo of a {name}.",
            f"The {where} behind a {name} ",
        ]


#: Names of the features.
FEATURES = (*(name for _, name, _ in CATEGORIES), *(name for name, _ in BACKGROUNDS), "x", "y", "size")


def invent(number: int, rng: np.random.Generator) -> Scenes:
    """Return scenes: categories and backgrounds in equal parts, the rest random."""
    return Scenes(
        category=rng.permutation(np.arange(number) % len(CATEGORIES)),
        background=rng.permutation(np.arange(number) % len(BACKGROUNDS)),
        x=rng.uniform(0.35, 0.65, number),
        y=rng.uniform(0.35, 0.65, number),
        size=rng.uniform(0.8, 1.2, number),
    )


def draw(scenes: Scenes, picture: int) -> np.ndarray:
    """Draw a picture, uint8, shape (y, x, rgb)."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    color, half, is_round = _SHAPES[scenes.name(picture)]
    across = np.abs(x - scenes.x[picture]) / (half[0] * scenes.size[picture])
    down = np.abs(y - scenes.y[picture]) / (half[1] * scenes.size[picture])
    inside = across**2 + down**2 < 1 if is_round else np.maximum(across, down) < 1
    light = (0.75 + 0.5 * y)[..., None]  # darker above
    ground = np.array(BACKGROUNDS[scenes.background[picture]][1]) * light
    return np.clip(np.where(inside[..., None], color, ground), 0, 255).astype(np.uint8)
