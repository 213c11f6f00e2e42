"""The pictures of Haxby 2001: a folder of JPEG files for each category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError

#: Folders by category; the plural of most.
FOLDERS = {
    "face": "faces", "house": "houses", "cat": "cats", "bottle": "bottles", "scissors": "scissors", "shoe": "shoes",
    "chair": "chairs", "scrambledpix": "scrambledpix",
}  # fmt: skip

#: What is said where a picture is missing or damaged.
AGAIN = "fetch the pictures again (nilearn.datasets.fetch_haxby(fetch_stimuli=True)), or remove the folder stimuli"


@dataclass(frozen=True)
class Pictures:
    """One picture for each category.

    Which picture was on screen when was not recorded, so the first of a category (by its file's name) stands for it.

    Parameters
    ----------
    paths : list of Path
        In the order of the table of stimuli.
    shape : (int, int, int)
        Of all of them: (y, x, rgb) of the first. Others are resized.
    """

    paths: list[Path]
    shape: tuple[int, int, int]

    @classmethod
    def find(cls, folder: Path, categories: Sequence[str]) -> Pictures | None:
        """Look for the pictures; None where there is no folder.

        Parameters
        ----------
        folder : path
            ``stimuli`` of nilearn's layout.
        categories : sequence of str
            All of them need a picture.
        """
        if not folder.is_dir():
            return None
        paths = []
        for name in categories:
            found = sorted((folder / FOLDERS.get(name, name)).glob("*.jp*g"))
            if not found:
                raise InputError(
                    f"{folder} holds no picture of the category {name!r}",
                    given=f"no file {FOLDERS.get(name, name)}/*.jpg",
                    expected="a folder of JPEG files for each category",
                    todo=AGAIN,
                )
            paths.append(found[0])
        height, width = _load(paths[0]).shape[:2]
        return cls(paths, (height, width, 3))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return pictures ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        pictures = [_load(path, self.shape[:2]) for path in self.paths[start:stop]]
        return np.stack(pictures) if pictures else np.empty((0, *self.shape), dtype=np.uint8)


def _load(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            colored = picture.convert("RGB")
            if size is not None and colored.size != size[::-1]:
                colored = colored.resize(size[::-1], Image.Resampling.LANCZOS)
            return np.asarray(colored)
    except OSError as error:
        raise damaged(path, error, AGAIN) from error
