"""A miniature of Haxby 2001 in the layout of nilearn's fetcher, or in that of the one-slice excerpt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from neurorecon.testing.layouts import mark_simulated

#: Categories in the order of their numbers in the excerpt.
CATEGORIES = ("face", "house", "shoe", "cat", "scissors", "scrambledpix", "bottle", "chair")

#: Volumes of a block, and of rest between blocks.
BLOCK, REST = 9, 5

#: Affine of the real volumes; x runs from right to left.
AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.125], [0, 0, 3.75, -118.125], [0, 0, 0, 1.0]])

#: Shape of the volumes, and position of ventral temporal cortex in them.
SHAPE, CORTEX = (8, 7, 5), (slice(2, 6), slice(1, 5), slice(1, 3))

#: Delay of the simulated responses, in volumes.
LAG = 2

#: Masks of ventral temporal cortex and its parts: how many slices along x each covers.
MASKS = {
    "mask4_vt": 4,
    "mask8b_face_vt": 2,
    "mask8_face_vt": 1,
    "mask8b_house_vt": 3,
    "mask8_house_vt": 1,
}


def write_haxby2001(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: int = 2,
    runs: int = 4,
    layout: Literal["nilearn", "excerpt"] = "nilearn",
    images: bool = True,
) -> Path:
    """Write labels, masks, volumes and images.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects, runs : int
        Number of subjects, and of runs of each.
    layout : {"nilearn", "excerpt"}
        ``subj1/bold.nii.gz`` and so on, or a single slice with ``attributes.txt``.
    images : bool
        Whether to write ``stimuli``, too (nilearn's layout).

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    mark_simulated(folder)
    if layout == "excerpt":
        _write_excerpt(folder, runs, np.random.default_rng(seed))
        return folder
    for number in range(1, subjects + 1):
        _write_subject(folder / f"subj{number}", runs, np.random.default_rng([seed, number]))
    if images:
        _write_images(folder / "stimuli", np.random.default_rng([seed, 0]))
    return folder


def _write_subject(folder: Path, runs: int, generator: np.random.Generator) -> None:
    folder.mkdir()
    labels = [_run_labels(generator) for _ in range(runs)]
    lines = [f"{name} {run}" for run, part in enumerate(labels) for name in part]
    (folder / "labels.txt").write_text("\n".join(["labels chunks", *lines]) + "\n")
    cortex = np.zeros(SHAPE, dtype=bool)
    cortex[CORTEX] = True
    _save(folder / "bold.nii.gz", _volumes(labels, cortex, generator), AFFINE)
    for name, slices in MASKS.items():
        mask = np.zeros(SHAPE, dtype=np.uint8)
        mask[CORTEX[0].start : CORTEX[0].start + slices, CORTEX[1], CORTEX[2]] = 1
        _save(folder / f"{name}.nii.gz", mask, AFFINE)


def _write_excerpt(folder: Path, runs: int, generator: np.random.Generator) -> None:
    labels = [_run_labels(generator) for _ in range(runs)]
    rows = [(name, run) for run, part in enumerate(labels) for name in part]
    numbers = {"rest": 0, **{name: number for number, name in enumerate(CATEGORIES, start=1)}}
    (folder / "attributes_literal.txt").write_text("".join(f"{name} {run}\n" for name, run in rows))
    (folder / "attributes.txt").write_text("".join(f"{numbers[name]} {run}\n" for name, run in rows))
    mask = np.zeros((*SHAPE[:2], 1), dtype=bool)
    mask[1:7, 1:6] = True
    _save(folder / "bold.nii.gz", _volumes(labels, mask, generator), AFFINE)
    _save(folder / "mask.nii.gz", mask.astype(np.int16), AFFINE)


def _run_labels(generator: np.random.Generator) -> list[str]:
    """Return the label of each volume of a run, which shows every category once."""
    labels = ["rest"] * (REST + 1)
    for name in generator.permutation(CATEGORIES):
        labels += [str(name)] * BLOCK + ["rest"] * REST
    return labels


def _volumes(labels: list[list[str]], brain: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return int16 volumes (x, y, z, volume): a bright brain, one pattern per category, drift and noise."""
    patterns = {name: generator.standard_normal(brain.shape) * brain for name in CATEGORIES}
    nothing = np.zeros(brain.shape)
    level = 100.0 + 900.0 * brain + 50.0 * generator.random(brain.shape) * brain
    volumes = []
    for part in labels:
        shown = ["rest"] * LAG + part[:-LAG]
        drift = np.linspace(0, 20, len(part))
        for name, slow in zip(shown, drift, strict=True):
            noise = generator.standard_normal(brain.shape)
            volumes.append(level + slow + 12 * patterns.get(name, nothing) + 8 * noise)
    return np.stack(volumes, axis=-1).round().astype(np.int16)


def _save(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    import nibabel

    image = nibabel.Nifti1Image(values, affine)
    image.header.set_zooms([*np.abs(np.diag(affine)[:3]), *([2.5] if values.ndim == 4 else [])])
    image.to_filename(path)


def _write_images(folder: Path, generator: np.random.Generator) -> None:
    """Write two images per category: stripes whose width and direction depend on the category."""
    from PIL import Image

    y, x = np.mgrid[:80, :80]
    folder.mkdir()
    (folder / "README").write_text("simulated images\n")
    for number, name in enumerate(CATEGORIES):
        plural = name if name in ("scissors", "scrambledpix") else f"{name}s"
        (folder / plural).mkdir()
        for place in (1, 2):
            angle = np.pi * number / len(CATEGORIES)
            wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / (2 + number) + generator.uniform(0, 6))
            image = Image.fromarray((127 + 120 * wave).astype(np.uint8))
            image.save(folder / plural / f"{plural}{place}.jpg", quality=90)
