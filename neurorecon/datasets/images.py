"""Neuroimaging files: opened, read and compared, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import InputError, MissingFileError

#: What is said where a file is missing or damaged and the reader has no better advice.
AGAIN = "copy or download the file again"


def open_image(path: Path, todo: str = AGAIN) -> Any:
    """Open a file that nibabel knows: NIfTI, MGH, GIFTI, CIFTI. Values stay on disk.

    Parameters
    ----------
    path : path
    todo : str
        What the reader of the data set advises where the file is missing or damaged.

    Raises
    ------
    MissingFileError, InputError
        Where it is not there, or its header cannot be read.
    """
    import nibabel

    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="a neuroimaging file", todo=todo)
    try:
        return nibabel.load(path)
    except Exception as error:  # a damaged header leads nibabel, gzip and zlib to errors of many types
        raise damaged(path, error, todo) from error


def image_values(image: Any, path: Path, part: Any = ..., todo: str = AGAIN) -> np.ndarray:
    """Read the values of an opened file, or a part of them, as they are on disk (scaled where its header says so).

    Parameters
    ----------
    image : nibabel image
        From :func:`open_image`.
    path : path
        For the message.
    part : slice or tuple of slices
        What to read; of a compressed file everything before it is decompressed as well.
    todo : str

    Raises
    ------
    InputError
        Where the file ends too early, or does not decompress.
    """
    try:
        return np.asarray(image.dataobj[part])
    except Exception as error:  # as above
        raise damaged(path, error, todo) from error


def check_grid(path: Path, shape: tuple[int, ...], affine: Any, like: str, wanted: tuple[int, ...], to: Any) -> None:
    """Refuse a volume that lies on another grid than another one.

    Parameters
    ----------
    path : path
        Of the volume.
    shape : tuple of int
        Its (x, y, z).
    affine : array, shape (4, 4)
        Indices to millimeters.
    like : str
        Name of the other, for the message.
    wanted : tuple of int
        Shape of the other.
    to : array, shape (4, 4)
        Affine of the other.
    """
    affine, to = np.asarray(affine, dtype=float), np.asarray(to, dtype=float)
    if tuple(shape) == tuple(wanted) and np.allclose(affine, to, atol=1e-3):
        return
    swapped = sorted(shape) == sorted(wanted) and tuple(shape) != tuple(wanted)
    raise InputError(
        f"{path} lies on another grid than {like}",
        given=f"shape {tuple(shape)}, affine {affine.round(3).tolist()}",
        expected=f"shape {tuple(wanted)}, affine {to.round(3).tolist()}",
        todo="the axes seem to be in another order: write the file anew in the order of the other"
        if swapped
        else f"resample it to the grid of {like} (nilearn.image.resample_to_img), or take the file that belongs to it",
    )


def damaged(path: Path, error: Exception, todo: str = AGAIN) -> InputError:
    """Return the error for a file that is there but cannot be read."""
    return InputError(
        f"{path} cannot be read",
        given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
        expected="a whole file",
        todo=f"it is damaged or incomplete: {todo}",
    )
