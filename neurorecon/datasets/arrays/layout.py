"""Which files of a folder are what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurorecon.datasets.arrays import files, tables
from neurorecon.datasets.arrays.about import read_about
from neurorecon.datasets.arrays.content import Given, GivenSubject
from neurorecon.datasets.arrays.options import ArraysOptions
from neurorecon.datasets.arrays.voxels import Volume
from neurorecon.datasets.base import SIMULATED
from neurorecon.datasets.images import image_values, open_image
from neurorecon.datasets.sources import files_below
from neurorecon.errors import InputError, MissingFileError

#: Names of the files, without their endings.
NAMES = ("responses", "samples", "voxels", "stimuli", "labels", "images", "frames", "mask", "about", SIMULATED)

#: Name of the subject whose responses lie in the root itself.
ONLY_SUBJECT = "subj01"


def open_folder(root: Path, options: ArraysOptions) -> Given:
    """Open all files of a folder; arrays stay on disk.

    Parameters
    ----------
    root : path
        With ``responses.*`` and ``samples.*``, or a folder of such for each subject. Tables of voxels and masks lie
        beside the responses, or in the root where all subjects share them; stimuli, labels, images and frames lie in
        the root.
    options : ArraysOptions

    Raises
    ------
    MissingFileError, InputError
        Where a file that is needed is missing, is there twice, or cannot be read.
    """
    folders = _subject_folders(root)
    images = root / "images"
    image_array = _find(root, "images", files.SUFFIXES)
    if images.is_dir() and image_array is not None:
        raise _ambiguous(root, "images", [images, image_array])
    frames = _find(root, "frames", files.SUFFIXES)
    return Given(
        subjects={name: _open_subject(folder, root, options) for name, folder in folders.items()},
        stimuli=_table(root, "stimuli"),
        labels=_table(root, "labels"),
        images=images
        if images.is_dir()
        else None
        if image_array is None
        else files.open_array(image_array, options.images_key, "images"),
        frames=None if frames is None else files.open_array(frames, options.frames_key, "frames"),
        about=read_about(root / "about.toml"),
    )


def source_files(root: Path) -> list[Path]:
    """Return the files of a folder that are read: arrays, tables, masks, pictures."""
    folders = dict.fromkeys([root, *_subject_folders(root).values()])
    items = [item for folder in folders for item in folder.iterdir() if item.name.partition(".")[0] in NAMES]
    return [file for item in items for file in (files_below(item) if item.is_dir() else [item])]


def _subject_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each subject."""
    inside = {
        item.name: item
        for item in sorted(root.iterdir())
        if item.is_dir() and item.suffix != ".zarr" and _find(item, "responses", files.SUFFIXES) is not None
    }
    in_root = _find(root, "responses", files.SUFFIXES)
    if in_root is not None and inside:
        raise _ambiguous(root, "responses", [in_root, *inside.values()])
    if in_root is None and not inside:
        raise MissingFileError(
            f"{root} holds no responses",
            given=f"no {' or '.join('responses' + suffix for suffix in files.SUFFIXES)}, there or in a folder below",
            expected="responses (sample, voxel) in the folder itself, or in one folder for each subject",
            todo="name the array so: docs/datasets/arrays.md shows a whole folder",
        )
    return inside or {ONLY_SUBJECT: root}


def _open_subject(folder: Path, root: Path, options: ArraysOptions) -> GivenSubject:
    responses = _find(folder, "responses", files.SUFFIXES)
    assert responses is not None  # that is what made it a subject
    samples = _table(folder, "samples")
    if samples is None:
        raise MissingFileError(
            f"{folder} holds no table of samples",
            given=f"no {' or '.join('samples' + suffix for suffix in tables.SUFFIXES)}",
            expected="a table with a row for each row of the responses, and at least the column 'stimulus'",
            todo="write it beside the responses",
        )
    voxels = _table(folder, "voxels")
    return GivenSubject(
        responses=files.open_array(responses, options.responses_key, "responses"),
        samples=samples,
        voxels=voxels if voxels is not None or folder == root else _table(root, "voxels"),
        volume=_volume(folder, root, options),
    )


def _volume(folder: Path, root: Path, options: ArraysOptions) -> Volume | None:
    """Return the mask beside the responses, else the one in the root, else the grid of the options."""
    found = next((path for path in (folder / "mask.nii.gz", folder / "mask.nii") if path.is_file()), None)
    found = found or next((path for path in (root / "mask.nii.gz", root / "mask.nii") if path.is_file()), None)
    if found is not None:
        return read_mask(found)
    return grid_of(options.affine, options.shape)


def grid_of(affine: Sequence[Sequence[float]] | None, shape: Sequence[int] | None) -> Volume | None:
    """Return the grid that an affine and a shape make; None where neither is given.

    Raises
    ------
    InputError
        Where one is missing or cannot be one.
    """
    if affine is None and shape is None:
        return None
    matrix = np.asarray(affine if affine is not None else [], dtype=float)
    usable = matrix.shape == (4, 4) and np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12
    if not usable or shape is None or min(shape) < 1:
        raise InputError(
            "affine and shape of the volume cannot be used",
            given=f"affine = {affine}, shape = {shape}",
            expected="an invertible matrix of 4 x 4 (indices to millimeters), and three sizes",
            todo="mend them in [options] of the recipe, or put mask.nii.gz beside the responses",
        )
    return Volume("the volume of the options", tuple(shape), matrix.tolist())


def read_mask(path: Path) -> Volume:
    """Read a mask: voxels of the brain are not zero.

    Raises
    ------
    InputError
        Where it is damaged, no volume, or empty.
    """
    image = open_image(path)
    values = image_values(image, path)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    mask = np.nan_to_num(values) != 0
    if mask.ndim != 3 or not mask.any():
        raise InputError(
            f"{path} is no mask",
            given=f"shape {mask.shape}, {int(mask.sum())} voxels that are not zero",
            expected="a volume (x, y, z) with voxels that are not zero",
            todo="take the mask that the responses were read with",
        )
    return Volume(str(path), mask.shape, np.asarray(image.affine, dtype=float).tolist(), mask)


def _table(folder: Path, name: str) -> tables.Table | None:
    path = _find(folder, name, tables.SUFFIXES)
    return None if path is None else tables.read_table(path)


def _find(folder: Path, name: str, suffixes: Sequence[str]) -> Path | None:
    """Return the file of a name with any of several endings."""
    found = [folder / (name + suffix) for suffix in suffixes if (folder / (name + suffix)).exists()]
    if len(found) > 1:
        raise _ambiguous(folder, name, found)
    return found[0] if found else None


def _ambiguous(folder: Path, name: str, found: Sequence[Path]) -> InputError:
    return InputError(
        f"{folder} holds {name} more than once",
        given=", ".join(str(path.relative_to(folder)) for path in found[:5]),
        expected="one of them",
        todo="move the others elsewhere",
    )
