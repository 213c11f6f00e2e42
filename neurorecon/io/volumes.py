"""Volumes: open NIfTI and MGH files, read them in pieces, check their grids, and read masks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.io.files import AGAIN, damaged, require_file
from neurorecon.io.grid import Grid, Header
from neurorecon.space import Space


def open_image(path: Path, todo: str = AGAIN) -> Any:
    """Open a file with nibabel (NIfTI, MGH, GIFTI, CIFTI) without reading its values.

    Parameters
    ----------
    path : path
        The file.
    todo : str
        What the error message advises if the file is missing or damaged.

    Returns
    -------
    nibabel image

    Raises
    ------
    MissingFileError, InputError
        If the file is missing, or its header cannot be read.
    """
    import nibabel

    require_file(path, "a neuroimaging file", todo)
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel, gzip and zlib raise many types of exceptions for damaged headers
        raise damaged(path, error, todo) from error


def image_values(image: Any, path: Path, part: Any = ..., todo: str = AGAIN) -> np.ndarray:
    """Read the values of an image, or a part of them, with the scaling of the header applied.

    Parameters
    ----------
    image : nibabel image
        From :func:`open_image`.
    path : path
        The file, for error messages.
    part : slice or tuple of slices
        What to read. In a compressed file, everything before it is decompressed too.
    todo : str
        What the error message advises if the file is damaged.

    Returns
    -------
    array

    Raises
    ------
    InputError
        If the file is truncated or cannot be decompressed.
    """
    try:
        return np.asarray(image.dataobj[part])
    except Exception as error:  # as above
        raise damaged(path, error, todo) from error


def check_grid(path: Path, shape: tuple[int, ...], affine: Any, like: str, wanted: tuple[int, ...], to: Any) -> None:
    """Check that a volume is on the expected grid.

    Parameters
    ----------
    path : path
        The file of the volume.
    shape : tuple of int
        Shape of the volume, (x, y, z).
    affine : array, shape (4, 4)
        Affine of the volume (voxel indices to millimeters).
    like : str
        Name of the reference volume, for the error message.
    wanted : tuple of int
        Shape of the reference volume.
    to : array, shape (4, 4)
        Affine of the reference volume.

    Raises
    ------
    InputError
        If the shapes differ, or the affines differ by more than 0.001.
    """
    affine, to = np.asarray(affine, dtype=float), np.asarray(to, dtype=float)
    if tuple(shape) == tuple(wanted) and np.allclose(affine, to, atol=1e-3):
        return
    swapped = sorted(shape) == sorted(wanted) and tuple(shape) != tuple(wanted)
    raise InputError(
        f"{path} is on a different grid than {like}",
        given=f"shape {tuple(shape)}, affine {affine.round(3).tolist()}",
        expected=f"shape {tuple(wanted)}, affine {to.round(3).tolist()}",
        todo=f"the axes seem to be in another order: save the file again with the axis order of {like}"
        if swapped
        else f"resample it to the grid of {like} (nilearn.image.resample_to_img), or use a file on that grid",
    )


#: Runs are read in pieces of this many bytes, so that an uncompressed run is never in memory as a whole.
PIECE_BYTES = 2**26

#: Seconds per unit of time in NIfTI headers.
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_volumes(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Return the grid and header of a run in a volume.

    Raises
    ------
    InputError
        If the file is missing or damaged, or not a time series.
    """
    path = paths[0]
    image = open_image(path)
    if len(image.shape) != 4 or 0 in image.shape:
        raise InputError(
            f"{path} is not a time series",
            given=f"shape {image.shape}",
            expected="a series of volumes (x, y, z, time)",
            todo="use the *_desc-preproc_bold.nii.gz file that fMRIPrep writes",
        )
    shape, affine = image.shape[:3], np.asarray(image.affine, dtype=float)
    i, j, k = np.indices(shape, dtype=np.int32).reshape(3, -1)
    grid = Grid(
        Space("volume", affine=affine.tolist(), shape=list(shape)),
        pd.DataFrame({"i": i, "j": j, "k": k}, copy=False),
    )
    unit = SECONDS.get(image.header.get_xyzt_units()[1])
    step = float(image.header.get_zooms()[3])
    return grid, Header(image.shape[3], None if unit is None or step <= 0 else step * unit)


def check_volumes(path: Path, grid: Grid, wanted: Grid, like: str) -> None:
    """Raise :class:`InputError` if a run is on a different grid than the other runs of its subject."""
    space, other = grid.space, wanted.space
    assert space.shape is not None
    assert other.shape is not None
    check_grid(path, tuple(space.shape), space.affine, like, tuple(other.shape), other.affine)


def read_volumes(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read some voxels of a run, piece by piece.

    Parameters
    ----------
    paths : sequence of path
        The file, as the only item.
    rows : int array, shape (voxel,)
        Rows of the grid.

    Returns
    -------
    array, shape (volume, voxel), float32
    """
    import nibabel

    path = paths[0]
    open_image(path)  # raises if the file is missing or damaged
    try:
        image = nibabel.load(path, keep_file_open=True)  # a compressed file is then decompressed only once
    except Exception as error:
        raise damaged(path, error) from error
    *shape, length = image.shape  # type: ignore[attr-defined]
    place = np.unravel_index(rows, shape)
    values = np.empty((length, len(rows)), dtype=np.float32)
    step = max(1, int(PIECE_BYTES // (8 * np.prod(shape))))
    for start in range(0, length, step):
        piece = image_values(image, path, (..., slice(start, start + step)))
        values[start : start + step] = piece[place].T
    return values


def read_volume(path: Path, grid: Grid, todo: str = AGAIN) -> np.ndarray:
    """Read a mask or an atlas on the grid of the runs.

    Parameters
    ----------
    path : path
        A volume; a fourth axis of length 1 is dropped.
    grid : Grid
        The grid of the runs.
    todo : str
        What the error message advises if the file is missing or damaged.

    Returns
    -------
    array, shape (place,)
        One value per voxel of the grid.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing, damaged or on another grid.
    """
    image = open_image(path, todo)
    shape = tuple(image.shape)
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    wanted = grid.space.shape
    assert wanted is not None
    check_grid(path, shape, image.affine, "the runs", tuple(wanted), grid.space.affine)
    return image_values(image, path, todo=todo).reshape(-1)


def read_mask(path: Path, todo: str = AGAIN) -> tuple[np.ndarray, np.ndarray]:
    """Read a mask in a volume.

    Parameters
    ----------
    path : path
        A volume (x, y, z) of whole numbers; a fourth axis of length 1 is dropped.
    todo : str
        What the error message advises if the file is missing or damaged.

    Returns
    -------
    mask : bool array, shape (x, y, z)
        True where the volume is neither zero nor NaN; see :func:`as_mask`.
    affine : array, shape (4, 4)
        Maps voxel indices to millimeters.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or cannot be read, or contains fractions or negative numbers.
    """
    image = open_image(path, todo)
    values = image_values(image, path, todo=todo)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    return as_mask(values, path), np.asarray(image.affine, dtype=float)


#: Values this close to a whole number are taken for it: labels that were scaled in a header, or resampled.
WHOLE = 1e-6


def whole_numbers(values: np.ndarray) -> np.ndarray | None:
    """Return values as integers, NaN as 0; None if they contain fractions, e.g. probabilities.

    Parameters
    ----------
    values : array
        Masks or labels.
    """
    values = np.nan_to_num(np.asarray(values, dtype=float), posinf=0.0, neginf=0.0)
    rounded = np.rint(values)
    return rounded.astype(np.int64) if np.abs(values - rounded).max(initial=0.0) <= WHOLE else None


def as_mask(values: np.ndarray, where: str | Path) -> np.ndarray:
    """Return where a mask is not zero, bool.

    Raises
    ------
    InputError
        If it contains fractions, so that a threshold would have to be chosen, or negative numbers.
    """
    whole = whole_numbers(values)
    if whole is None or (whole < 0).any():
        finite = np.nan_to_num(np.asarray(values, dtype=float))
        raise InputError(
            f"{where} is not a mask",
            given=f"{'fractions' if whole is None else 'negative numbers'}, from {finite.min():g} to {finite.max():g}; "
            f"{int((finite != 0).sum())} values are not 0, {int((finite > 0.5).sum())} are above 0.5",
            expected="whole numbers: 0 outside, 1 (or labels) inside",
            todo="choose a threshold, and save the mask: nilearn.image.binarize_img(mask, threshold=0.5)",
        )
    return whole != 0


def check_mask(mask: np.ndarray, where: str | Path, todo: str) -> None:
    """Raise :class:`InputError` if a mask is not a volume (x, y, z), or is empty."""
    if mask.ndim != 3 or not mask.any():
        raise InputError(
            f"{where} is not a usable mask",
            given=f"shape {mask.shape}, {int(mask.sum())} nonzero voxels",
            expected="a volume (x, y, z) with nonzero voxels",
            todo=todo,
        )


#: Bytes read and bytes decompressed at a time (a megabyte of compressed zeros can expand to a gigabyte).
PIECE, UNPACKED = 2**20, 2**22

#: zlib's wbits for gzip data; zlib then verifies the length and checksum at the end.
GZIP = 31


def pieces(path: Path, todo: str = AGAIN) -> Iterator[bytes]:
    """Yield the content of a file in pieces, decompressed if it is gzip.

    zlib is called directly because Python's ``gzip`` uses small buffers and is slower.

    Raises
    ------
    InputError
        If the file is truncated, or its checksum is wrong.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        source = iter(lambda: file.read(PIECE), b"")
        try:
            yield from _unpacked(source) if packed else source
        except (zlib.error, EOFError) as error:
            raise damaged(path, error, todo) from error


def _unpacked(source: Iterator[bytes]) -> Iterator[bytes]:
    unpack = zlib.decompressobj(GZIP)
    waiting = b""
    while True:
        if unpack.eof:
            waiting = unpack.unused_data or next(source, b"")
            if not waiting.strip(b"\0"):  # only padding may follow
                return
            unpack = zlib.decompressobj(GZIP)  # gzip members may be concatenated
        found = unpack.decompress(waiting, UNPACKED)
        waiting = unpack.unconsumed_tail
        if found:
            yield found
        elif not waiting and not unpack.eof:
            waiting = next(source, b"")
            if not waiting:
                raise EOFError("the compressed data is truncated")


def volumes(
    path: Path, offset: int, size: int, number: int, whole: bool = True, todo: str = AGAIN
) -> Iterator[memoryview]:
    """Yield the volumes of a file one by one, in a buffer that is reused.

    Parameters
    ----------
    path : path
        An uncompressed or gzipped file.
    offset : int
        Bytes before the first volume.
    size : int
        Bytes per volume.
    number : int
        Number of volumes to yield.
    whole : bool
        Whether these are all volumes of the file. If so, the file is read to its end, which verifies the checksum.
    todo : str
        What the error message advises if the file is damaged.

    Yields
    ------
    memoryview
        The bytes of a volume, valid until the next one is requested.

    Raises
    ------
    InputError
        If the file contains fewer volumes, or is damaged.
    """
    view = memoryview(bytearray(size))
    filled, done, skip = 0, 0, offset
    for piece in pieces(path, todo):
        part = memoryview(piece)[skip:]
        skip = max(0, skip - len(piece))
        while len(part) and done < number:
            take = min(len(part), size - filled)
            view[filled : filled + take] = part[:take]
            part, filled = part[take:], filled + take
            if filled == size:
                yield view
                filled, done = 0, done + 1
        if done == number and not whole:
            return
    if done < number:
        raise damaged(path, EOFError(f"{done} of {number} volumes"), todo)
