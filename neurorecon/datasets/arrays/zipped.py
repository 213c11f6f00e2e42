"""Arrays inside .npz files: mapped where they are stored as they are, decompressed block by block where not."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError, UnknownNameError

#: A compressed array whose axes run the other way has to be held in memory; up to this many bytes.
MOST_IN_MEMORY = 2**30


def open_npz(path: Path, key: str | None, default: str) -> Any:
    """Open one array of a .npz file.

    Parameters
    ----------
    path : path
    key : str, optional
        Name of the array.
    default : str
        Taken where there are several arrays and no `key`.

    Returns
    -------
    memory map or ZippedArray
    """
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError) as error:
        raise damaged(path, error) from error
    members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
    member = members[choose(path, list(members), key, default)]
    try:
        with archive.open(member) as stream:
            shape, fortran, dtype = _header(stream)
            begin = stream.tell()
    except (BadZipFile, ValueError, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise damaged(path, error) from error
    if dtype.hasobject:
        raise InputError(
            f"{path} holds Python objects instead of numbers",
            given=f"{member.filename}: an array of objects; loading it could run any program",
            expected="an array of numbers of one shape",
            todo="save it again as numbers: numpy.savez(path, responses=numpy.asarray(values, dtype='float32'))",
        )
    if member.file_size != begin + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
        raise damaged(path, ValueError(f"{member.filename} is longer or shorter than its header says"))
    if member.compress_type == ZIP_STORED:
        order = "F" if fortran else "C"
        try:
            offset = _data_offset(path, member) + begin
            return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)  # type: ignore[call-overload]
        except (ValueError, OSError, struct.error) as error:
            raise damaged(path, error) from error
    return ZippedArray(path, archive, member, begin, shape, dtype, fortran)


def choose(path: Path, names: list[str], key: str | None, default: str) -> str:
    """Return which of several arrays in a file is meant.

    Raises
    ------
    UnknownNameError
        Where `key` is not among them, or there are several and none is called `default`.
    """
    if key is None:
        key = names[0] if len(names) == 1 else default
    if key not in names:
        raise UnknownNameError(
            f"array in {path}", key, names, todo=f'say which: {default}_key = "NAME" in [options] of the recipe'
        )
    return key


class ZippedArray:
    """A compressed array, read forward: memory for one block, and the file is decompressed once in a pass."""

    def __init__(
        self,
        path: Path,
        archive: ZipFile,
        member: ZipInfo,
        begin: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        fortran: bool,
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype
        self._archive, self._member, self._begin, self._fortran = archive, member, begin, fortran
        self._stream: Any = None
        self._whole: np.ndarray | None = None

    def __getitem__(self, part: Any) -> np.ndarray:
        """Read rows (a slice of the first axis); other parts need the whole array."""
        if self._fortran or not isinstance(part, slice):
            return self._all()[part]
        start, stop, _ = part.indices(self.shape[0])
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if self._stream is None:
            self._stream = self._archive.open(self._member)
        self._stream.seek(self._begin + start * row)  # backwards it begins anew
        wanted = max(0, stop - start)
        return np.frombuffer(_exactly(self._stream, wanted * row), self.dtype).reshape(wanted, *self.shape[1:])

    def _all(self) -> np.ndarray:
        if self._whole is None:
            size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
            if size > MOST_IN_MEMORY:
                raise InputError(
                    f"{self.path} is compressed and its axes run the other way, so that it cannot be read in parts",
                    given=f"{size / 2**30:.1f} GiB, of shape {self.shape}",
                    expected=f"at most {MOST_IN_MEMORY / 2**30:.0f} GiB, or (sample, voxel) in C order",
                    todo="save it as .npy, or with numpy.savez instead of numpy.savez_compressed",
                )
            with self._archive.open(self._member) as stream:
                stream.seek(self._begin)
                flat = np.frombuffer(_exactly(stream, size), self.dtype)
            self._whole = flat.reshape(self.shape, order="F" if self._fortran else "C")
        return self._whole


def _exactly(stream: Any, size: int) -> bytearray:
    found = bytearray(size)
    view, done = memoryview(found), 0
    while done < size:
        got = stream.readinto(view[done:])
        if not got:
            raise EOFError(f"{size - done:,} bytes are missing at its end")
        done += got
    return found


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _data_offset(path: Path, member: ZipInfo) -> int:
    """Return where the bytes of a stored member begin: behind its local header, whose length only it knows."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra
