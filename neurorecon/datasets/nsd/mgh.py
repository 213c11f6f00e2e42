"""Files of FreeSurfer, ``.mgh`` and ``.mgz``: a value a vertex."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.datasets.nsd.stream import volumes
from neurorecon.errors import MissingFileError


@dataclass(frozen=True)
class Header:
    """What is in a file, and where.

    Parameters
    ----------
    shape : tuple of int
        (vertex, 1, 1), or (vertex, 1, 1, trial).
    dtype : numpy dtype
        Big-endian, as FreeSurfer has it.
    offset : int
        Bytes before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises
    ------
    MissingFileError, InputError
        Where the file is missing or damaged.
    """
    from nibabel.freesurfer.mghformat import MGHHeader
    from nibabel.openers import ImageOpener

    if not path.is_file():
        raise MissingFileError(f"{path} is missing", given="no such file", expected="an MGH file", todo=DOWNLOAD)
    try:
        with ImageOpener(str(path)) as file:  # nibabel.load leaves the file open
            header = MGHHeader.from_fileobj(file)
    except Exception as error:  # a damaged header leads nibabel, gzip and zlib to errors of many types
        raise damaged(path, error, DOWNLOAD) from error
    shape = tuple(int(length) for length in header.get_data_shape())
    return Header(shape, header.get_data_dtype().newbyteorder(">"), int(header.get_data_offset()))


def read_values(path: Path) -> np.ndarray:
    """Read one value a vertex, shape (vertex,)."""
    header = read_header(path)
    size = int(np.prod(header.shape)) * header.dtype.itemsize
    (values,) = (bytes(part) for part in volumes(path, header.offset, size, 1, whole=False))
    return np.frombuffer(values, dtype=header.dtype)
