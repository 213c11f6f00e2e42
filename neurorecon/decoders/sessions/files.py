"""Rows of sessions in memory, or in files that are written once and mapped."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError, MissingFileError

#: What each session adds, and the beginnings of names of files.
ROWS = ("responses", "targets", "kernel")


def row_files(folder: str | Path | None, number: int) -> list[Path]:
    """Return the files of a session, the first being 1; none where rows are kept in memory."""
    return [] if folder is None else [Path(folder) / f"{name}-{number:04d}.npy" for name in ROWS]


def check_folder(folder: str | Path | None) -> None:
    """Refuse a folder to begin in that has sessions already."""
    files = [file for file in row_files(folder, 1) if file.exists()]
    if files:
        raise InputError(
            "the folder holds sessions of another decoder",
            given=str(files[0]),
            expected="an empty folder, or one that is not there yet",
            todo="give another folder; load_decoder reads a decoder that was saved, to go on with it",
        )


def keep(array: Any, folder: str | Path | None, file: str) -> Any:
    """Keep an array: in memory, or in a file of a folder.

    Parameters
    ----------
    array : array
        What to keep. Of arrays in memory a copy is kept; dask, xarray and Zarr arrays and memory maps stay where
        they are, unless there is a folder.
    folder : path, optional
        Where files are written.
    file : str
        Name of the file.

    Returns
    -------
    array or str
        What :func:`kept` understands: the array, or the name of the file.

    Raises
    ------
    InputError
        Where the file is there already with other contents: no file is ever changed, since a decoder that was
        saved earlier may need it.
    """
    if folder is None:
        in_memory = isinstance(array, np.ndarray) and not isinstance(array, np.memmap)
        return np.array(array) if in_memory else array
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    part = place / f".{file}.{os.getpid()}"
    try:
        _write(array, part)
        if not (place / file).exists():
            part.replace(place / file)
        elif not filecmp.cmp(part, place / file, shallow=False):
            raise InputError(
                "another decoder has gone on with sessions of its own in this folder",
                given=str(place / file),
                expected="a folder to which one decoder adds sessions",
                todo="copy the folder first and set_params(folder=<the copy>)",
            )
    finally:
        part.unlink(missing_ok=True)
    return file


def _write(array: Any, path: Path) -> None:
    """Write an array as .npy, block by block."""
    shape = tuple(int(size) for size in array.shape)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
    if isinstance(array, np.ndarray):
        written[...] = array
    else:
        columns = written.reshape(shape[0], -1)
        for block, values in Targets(array, str(array.dtype)).blocks():
            columns[:, block] = values
    written.flush()


def kept(what: Any, folder: str | Path | None) -> Any:
    """Return an array that was kept; those in files are mapped, not read."""
    if not isinstance(what, str):
        return what
    path = Path(folder or ".") / what
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingFileError(
            "rows of a session that this decoder was fitted to are not there",
            given=str(path),
            expected="the folder that the decoder was fitted with",
            todo="decoder.set_params(folder=...) says where the folder is now",
        ) from error
