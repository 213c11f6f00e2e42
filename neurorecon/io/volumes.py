"""Volumes: NIfTI and MGH files opened, read in pieces and compared, with errors that name the file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.files import AGAIN, damaged
from neurorecon.io.grid import Grid, Header
from neurorecon.space import Space


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


#: A run is read in pieces of this size, so that no whole uncompressed run is in memory.
PIECE_BYTES = 2**26

#: Seconds in the units of time of a NIfTI header.
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_volumes(paths: Sequence[Path], space: str) -> tuple[Grid, Header]:
    """Read the header of a run."""
    path = paths[0]
    image = open_image(path)
    if len(image.shape) != 4 or 0 in image.shape:
        raise InputError(
            f"{path} is no run",
            given=f"shape {image.shape}",
            expected="a series of volumes (x, y, z, time)",
            todo="take *_desc-preproc_bold.nii.gz as fMRIPrep writes it",
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
    """Refuse a run that lies elsewhere than the others of its subject."""
    space, other = grid.space, wanted.space
    assert space.shape is not None
    assert other.shape is not None
    check_grid(path, tuple(space.shape), space.affine, like, tuple(other.shape), other.affine)


def read_volumes(paths: Sequence[Path], rows: np.ndarray) -> np.ndarray:
    """Read a run, piece by piece.

    Parameters
    ----------
    paths : sequence of path
        One.
    rows : int array, shape (voxel,)
        Which voxels of the grid.

    Returns
    -------
    array, shape (volume, voxel), float32
    """
    import nibabel

    path = paths[0]
    open_image(path)  # for its errors
    try:
        image = nibabel.load(path, keep_file_open=True)  # so that a compressed file is decompressed once
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

    Returns
    -------
    array, shape (place,)
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
        A volume (x, y, z); a fourth axis of length 1 is dropped.
    todo : str
        What the error message advises if the file is missing or damaged.

    Returns
    -------
    mask : bool array, shape (x, y, z)
        True where the volume is neither zero nor NaN.
    affine : array, shape (4, 4)
        Maps voxel indices to millimeters.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or cannot be read.
    """
    image = open_image(path, todo)
    values = image_values(image, path, todo=todo)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    return np.nan_to_num(values) != 0, np.asarray(image.affine, dtype=float)


def check_mask(mask: np.ndarray, where: str | Path, todo: str) -> None:
    """Raise :class:`InputError` if a mask is not a volume (x, y, z), or is empty."""
    if mask.ndim != 3 or not mask.any():
        raise InputError(
            f"{where} is not a usable mask",
            given=f"shape {mask.shape}, {int(mask.sum())} nonzero voxels",
            expected="a volume (x, y, z) with nonzero voxels",
            todo=todo,
        )


#: Bytes read from the disk at a time, and unpacked at a time (a megabyte of packed zeros is a gigabyte).
PIECE, UNPACKED = 2**20, 2**22

#: zlib's window for data with a gzip header; it then checks length and checksum at the end by itself.
GZIP = 31


def pieces(path: Path, todo: str = AGAIN) -> Iterator[bytes]:
    """Yield the content of a file, unpacked where it is gzip.

    zlib is called directly, because Python's ``gzip`` passes everything through small buffers, which takes longer.

    Raises
    ------
    InputError
        Where the file ends too early, or its checksum is wrong.
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
            if not waiting.strip(b"\0"):  # nothing but padding may follow
                return
            unpack = zlib.decompressobj(GZIP)  # several gzips in a row are one file
        found = unpack.decompress(waiting, UNPACKED)
        waiting = unpack.unconsumed_tail
        if found:
            yield found
        elif not waiting and not unpack.eof:
            waiting = next(source, b"")
            if not waiting:
                raise EOFError("the compressed data end too early")


def volumes(
    path: Path, offset: int, size: int, number: int, whole: bool = True, todo: str = AGAIN
) -> Iterator[memoryview]:
    """Yield volumes; each is valid until the next one is asked for.

    Parameters
    ----------
    path : path
        An uncompressed or gzipped file.
    offset : int
        Bytes before the first volume.
    size : int
        Bytes of a volume.
    number : int
        Volumes to yield.
    whole : bool
        Whether they are all that the file holds: what is behind them (the checksum) is checked then as well.
    todo : str
        What the reader of the data set advises where the file is damaged.

    Raises
    ------
    InputError
        Where the file holds fewer, or is damaged.
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
