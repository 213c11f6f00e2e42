"""A miniature of a lab's own data: arrays and tables, with simulated responses of a few voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from neurorecon.errors import UnknownNameError
from neurorecon.testing.layouts import mark_simulated

Format = Literal["npy", "npz", "h5", "zarr"]

FORMATS: tuple[Format, ...] = ("npy", "npz", "h5", "zarr")

#: Categories, with the color of their shapes.
CATEGORIES = {
    "face": (225, 170, 140),
    "house": (170, 70, 50),
    "tool": (120, 125, 140),
    "plant": (60, 150, 70),
}

COLORS_OF_GROUND = {"sand": (226, 205, 160), "sky": (150, 190, 230), "dusk": (70, 60, 90), "snow": (235, 238, 240)}

ABOUT = """\
title = "Arrays in miniature"
units = "percent signal change"
"""

SIZE = 64

SUBJECTS = ("sub01", "sub02")

TRAIN, TEST, TEST_REPEATS = 64, 12, 3

#: Grid of the volumes.
SHAPE = (8, 7, 6)

AFFINE = np.array([[2.5, 0, 0, -8.75], [0, 2.5, 0, -90.0], [0, 0, 2.5, -7.5], [0, 0, 0, 1]])

#: Number of voxels of each ROI; the last ones are in no ROI.
ROIS = {"V1": 18, "V2": 12, "FFA": 8, "PPA": 8, "": 4}


def write_arrays(folder: str | Path, *, seed: int = 0, format: Format = "npy") -> Path:
    """Write responses of two subjects to images of four categories, with their tables.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    format : {"npy", "npz", "h5", "zarr"}
        File format of responses and images.

    Returns
    -------
    Path
        The folder: ``about.toml``, ``stimuli.csv``, ``images.*``, and for each subject ``responses.*``,
        ``samples.csv``, ``voxels.csv`` and ``mask.nii.gz``.

    Raises
    ------
    UnknownNameError
        If there is no such format.
    """
    import nibabel

    if format not in FORMATS:
        raise UnknownNameError("format of arrays", format, FORMATS)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    stimuli, images = draw_stimuli(TRAIN + TEST, generator)
    stimuli.to_csv(folder / "stimuli.csv", index=False)
    save_array(folder, "images", images, format)
    mark_simulated(folder)
    (folder / "about.toml").write_text(ABOUT)
    for name in SUBJECTS:
        (folder / name).mkdir(exist_ok=True)
        samples, shown = _design(stimuli["id"].to_numpy(), generator)
        voxels, mask = _voxels(generator)
        responses = _responses(images, stimuli["category"].to_numpy(), shown, generator)
        samples.to_csv(folder / name / "samples.csv", index=False)
        voxels.to_csv(folder / name / "voxels.csv", index=False)
        nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE).to_filename(folder / name / "mask.nii.gz")
        save_array(folder / name, "responses", responses, format)
    return folder


def save_array(folder: Path, name: str, values: np.ndarray, format: Format) -> Path:
    """Write one array in one of the formats."""
    path = folder / f"{name}.{format}"
    if format == "npy":
        np.save(path, values, allow_pickle=False)
    elif format == "npz":
        np.savez(path, allow_pickle=False, **{name: values})
    elif format == "h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values, chunks=True, compression="gzip")
    else:
        import zarr

        zarr.create_array(str(path), data=values)
    return path


def draw_stimuli(number: int, generator: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw images of single shapes on plain backgrounds.

    Returns
    -------
    DataFrame
        ``id``, ``category``, ``caption1``, ``caption2``; one row per image.
    array, uint8, shape (stimulus, y, x, rgb)
    """
    images = np.empty((number, SIZE, SIZE, 3), dtype=np.uint8)
    rows: list[dict[str, Any]] = []
    for place in range(number):
        category = list(CATEGORIES)[place % len(CATEGORIES)]
        ground = str(generator.choice(list(COLORS_OF_GROUND)))
        x, y, size = generator.uniform(22, 42), generator.uniform(22, 42), generator.uniform(12, 20)
        images[place] = _draw(category, ground, x, y, size)
        side = "left" if x < SIZE / 2 else "right"
        rows.append(
            {
                "id": f"{category}{place + 1:03d}",
                "category": category,
                "caption1": f"a {category} on the {side}",
                "caption2": f"a {category} before {ground}",
            }
        )
    return pd.DataFrame(rows), images


def _draw(category: str, ground: str, x: float, y: float, size: float) -> np.ndarray:
    """Draw one image at four times its size and downsample it, so that edges are smooth."""
    from PIL import Image, ImageDraw

    def box(left: float, top: float, right: float, bottom: float) -> list[float]:
        return [4 * (x + size * left), 4 * (y + size * top), 4 * (x + size * right), 4 * (y + size * bottom)]

    canvas = Image.new("RGB", (4 * SIZE, 4 * SIZE), COLORS_OF_GROUND[ground])
    draw, color = ImageDraw.Draw(canvas), CATEGORIES[category]
    if category == "face":
        draw.ellipse(box(-0.75, -1, 0.75, 1), fill=color)
        for eye in (-0.35, 0.35):
            draw.ellipse(box(eye - 0.12, -0.35, eye + 0.12, -0.1), fill=(40, 30, 30))
        draw.rectangle(box(-0.3, 0.4, 0.3, 0.52), fill=(150, 50, 50))
    elif category == "house":
        draw.rectangle(box(-0.8, -0.2, 0.8, 1), fill=color)
        roof = [(x - size, y - 0.2 * size), (x, y - size), (x + size, y - 0.2 * size)]
        draw.polygon([(4 * across, 4 * down) for across, down in roof], fill=(90, 60, 60))
        draw.rectangle(box(-0.2, 0.4, 0.2, 1), fill=(60, 40, 30))
    elif category == "tool":
        draw.rectangle(box(-0.15, -0.6, 0.15, 1), fill=(140, 100, 60))
        draw.rectangle(box(-0.8, -1, 0.8, -0.5), fill=color)
    else:
        draw.rectangle(box(-0.1, 0, 0.1, 1), fill=(110, 80, 50))
        for leaf in (-0.5, 0.0, 0.5):
            draw.ellipse(box(leaf - 0.45, -1 + abs(leaf) * 0.6, leaf + 0.45, 0.1 + abs(leaf) * 0.6), fill=color)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))


def _design(ids: np.ndarray, generator: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of samples (two sessions of two runs), and the number of the stimulus of each."""
    order = np.concatenate([np.arange(TRAIN), np.tile(np.arange(TRAIN, TRAIN + TEST), TEST_REPEATS)])
    shown = generator.permutation(order)
    length = len(shown) // 4
    number = np.arange(len(shown))
    run = number // length
    samples = pd.DataFrame(
        {
            "stimulus": ids[shown],
            "session": run // 2 + 1,
            "run": run % 2 + 1,
            "time": number % length * 4.0,
            "split": np.where(shown < TRAIN, "train", "test"),
        }
    )
    return samples, shown


def _voxels(generator: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of voxels, in random order, and the brain mask."""
    names = np.repeat(list(ROIS), list(ROIS.values()))
    places = np.stack(np.unravel_index(generator.permutation(int(np.prod(SHAPE)))[: len(names)], SHAPE), axis=1)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(places.T)] = True
    table = pd.DataFrame(places, columns=["i", "j", "k"])
    table["roi"] = [f"{name}+early" if name in ("V1", "V2") else name for name in names]
    return table, mask


def _responses(
    images: np.ndarray, categories: np.ndarray, shown: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return percent signal change, float32 (sample, voxel): V1 and V2 encode luminance, FFA faces, PPA houses."""
    luminance = images.mean(axis=3).reshape(len(images), 8, SIZE // 8, 8, SIZE // 8).mean(axis=(2, 4))
    luminance = luminance.reshape(len(images), -1)
    luminance = (luminance - luminance.mean(axis=0)) / (luminance.std(axis=0) + 1.0)
    early = ROIS["V1"] + ROIS["V2"]
    signal = np.zeros((len(images), sum(ROIS.values())))
    signal[:, :early] = luminance[:, generator.choice(np.arange(9, 55), early)]
    for roi, category, begin in (("FFA", "face", early), ("PPA", "house", early + ROIS["FFA"])):
        member = (categories == category)[:, None] * generator.uniform(0.8, 1.4, ROIS[roi])
        signal[:, begin : begin + ROIS[roi]] = 2 * (member - member.mean(axis=0))
    noise = 0.7 * generator.standard_normal((len(shown), signal.shape[1]))
    return (0.3 + signal[shown] + noise).astype(np.float32)
