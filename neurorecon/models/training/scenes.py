"""The pictures and captions that the bundled networks learn from, and those that judge them.

They are drawn by the renderer of the embedded data set, from seeds of their own: no scene of the embedded
data set, neither of its training nor of its test stimuli, is among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from neurorecon.datasets.scenes.captions import captions
from neurorecon.datasets.scenes.drawing import render
from neurorecon.datasets.scenes.scene import Scene, sample_scene
from neurorecon.errors import InputError

#: Pixels on each side.
SIZE = 64

#: Seeds of the scenes. The embedded data set has seed 0.
SEEDS = {"train": 101, "held-out": 202}

#: Pictures and frames of films in each set.
COUNTS = {"train": (20_000, 4_000), "held-out": (2_000, 400)}

#: Pictures drawn by one task, and kept in one file.
_BLOCK = 200


@dataclass(frozen=True)
class Pictures:
    """A set of scenes.

    Parameters
    ----------
    scenes : list of Scene
    times : array, shape (scene,)
        When a film was stopped, in seconds; 0 for pictures.
    pixels : array, shape (scene, y, x, rgb)
        uint8, mapped from disk.
    """

    scenes: list[Scene]
    times: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    @cached_property
    def captions(self) -> list[list[str]]:
        """The sentences about each scene."""
        return [captions(scene) for scene in self.scenes]


def pictures(split: str, folder: str | Path, *, progress: bool = True) -> Pictures:
    """Return a set of scenes, drawn on all cores at the first call and read from disk afterwards.

    Parameters
    ----------
    split : {"train", "held-out"}
    folder : path
        Where the pixels are kept (300 MB for training). Drawing goes on where it was interrupted.
    progress : bool
        Show a progress bar on stderr.
    """
    if split not in SEEDS:
        raise InputError("there is no such set of scenes", given=split, expected=" or ".join(SEEDS))
    keys = _keys(split)
    blocks = [keys[start : start + _BLOCK] for start in range(0, len(keys), _BLOCK)]
    home = Path(folder) / "scenes"
    home.mkdir(parents=True, exist_ok=True)
    files = [home / f"{split}-{SEEDS[split]}-{SIZE}px-{number:04d}.npy" for number in range(len(blocks))]
    _draw_missing(split, files, blocks, progress)
    pixels = np.concatenate([np.load(file, mmap_mode="r") for file in files])
    scenes = [sample_scene(SEEDS[split], index, kind) for kind, index, _ in keys]
    return Pictures(scenes, np.array([time for _, _, time in keys]), pixels)


def _keys(split: str) -> list[tuple[str, int, float]]:
    """Return kind, index and time of every picture of a set."""
    images, films = COUNTS[split]
    times = np.random.default_rng(SEEDS[split]).uniform(-1.0, 0.75, films).round(3)
    return [("image", n, 0.0) for n in range(images)] + [("film", n, float(times[n])) for n in range(films)]


def _draw_missing(split: str, files: list[Path], blocks: list[list[tuple[str, int, float]]], progress: bool) -> None:
    from joblib import Parallel, delayed

    todo = [(file, block) for file, block in zip(files, blocks, strict=True) if not file.exists()]
    if not todo:
        return
    work = Parallel(n_jobs=-1, return_as="generator_unordered")(
        delayed(_draw_block)(SEEDS[split], file, block) for file, block in todo
    )
    for _ in tqdm(work, total=len(todo), desc=f"drawing {split} scenes", unit="block", disable=not progress):
        pass


def _draw_block(seed: int, file: Path, block: list[tuple[str, int, float]]) -> None:
    drawn = [render(sample_scene(seed, index, kind), size=SIZE, time=time) for kind, index, time in block]
    partial = file.with_suffix(".partial.npy")
    np.save(partial, np.stack(drawn))
    partial.replace(file)  # a file with the final name is complete
