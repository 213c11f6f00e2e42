"""Arrays on disk, opened without being read: npy, npz, HDF5, Zarr.

What is opened has ``shape``, ``dtype`` and takes slices; only the part that a slice names is read. Nothing here
unpickles: an array of Python objects is refused, whatever the format.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from neurorecon.errors import InputError, MissingFileError, NeuroreconError, UnknownNameError
from neurorecon.io.files import AGAIN, damaged

#: Endings of the formats.
SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".zarr")


@dataclass(frozen=True)
class ArrayFile:
    """An array that stays on disk (or in the memory of the caller) until slices of it are read.

    Parameters
    ----------
    where : str
        Its name in messages.
    values : object
        With ``shape``, ``dtype`` and slices: a memory map, an HDF5 data set, a Zarr array, a NumPy or dask array.
    path : path, optional
        The file.
    """

    where: str
    values: Any
    path: Path | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(size) for size in self.values.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return np.dtype(self.values.dtype)

    def __getitem__(self, part: Any) -> np.ndarray:
        """Read a part.

        Raises
        ------
        InputError
            Where the file is damaged there.
        """
        try:
            return np.asarray(self.values[part])
        except NeuroreconError:
            raise
        except Exception as error:  # zlib, blosc, HDF5 and Zarr each have their own for a damaged chunk
            if self.path is None:
                raise
            raise damaged(self.path, error) from error


def open_array(path: Path, key: str | None, default: str) -> ArrayFile:
    """Open an array of numbers.

    Parameters
    ----------
    path : path
        Its ending says which format it is.
    key : str, optional
        Name of the array inside .npz, .h5 or .zarr.
    default : str
        The name that is taken where there are several arrays and no `key`.

    Raises
    ------
    MissingFileError, InputError
        Where the file is not there, is damaged, holds no such array, or holds anything but numbers.
    """
    if not path.exists():
        raise MissingFileError(
            f"{path} is missing", given="no such file", expected="an array", todo="check the name of the file"
        )
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = _open_npy(path)
    elif suffix == ".npz":
        values = open_npz(path, key, default)
    elif suffix in (".h5", ".hdf5"):
        values = open_hdf5(path, key, default)
    else:
        values = open_zarr(path, key, default)
    found = ArrayFile(str(path), values, path)
    check_numbers(found)
    return found


def check_numbers(array: ArrayFile) -> None:
    """Refuse arrays of anything but real numbers, and empty ones."""
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{array.where} holds no real numbers",
            given=f"an array of {array.dtype}",
            expected="floats or integers",
            todo="save it as float32: numpy.save(path, array.astype('float32'))",
        )
    if 0 in array.shape:
        raise InputError(
            f"{array.where} is empty",
            given=f"an array of shape {array.shape}",
            expected="at least one value",
            todo="check the program that wrote it",
        )


def _open_npy(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        if "object" in str(error).lower():
            raise holds_objects(path) from error
        raise damaged(path, error) from error


def holds_objects(path: Path) -> InputError:
    """Return the error for an array of Python objects, which only a pickle can hold and which is never loaded."""
    return InputError(
        f"{path} holds Python objects instead of numbers",
        given="an array of objects; loading it could run any program",
        expected="an array of numbers of one shape",
        todo="save it again as numbers: numpy.save(path, numpy.asarray(values, dtype='float32'))",
    )


def open_hdf5(path: Path, key: str | None, default: str) -> Any:
    """Open one data set of an HDF5 file; it stays on disk.

    Parameters
    ----------
    path : path
    key : str, optional
        Name, with the groups that it lies in, e.g. ``"session1/responses"``.
    default : str
        Taken where there are several data sets and no `key`.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} needs a package that is not installed",
            given="no package 'h5py'",
            expected="'h5py' beside neurorecon",
            todo="pip install h5py, or save the array as .npy",
        ) from error
    try:
        file = h5py.File(path, "r")
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    except Exception as error:  # OSError for most damage, RuntimeError and KeyError for some
        raise damaged(path, error) from error
    return file[choose(path, names, None if key is None else key.strip("/"), default)]


def open_zarr(path: Path, key: str | None, default: str) -> Any:
    """Open one array of a Zarr hierarchy; it stays on disk.

    Parameters
    ----------
    path : path
        A folder that holds a group or an array.
    key : str, optional
        Name, with the groups that it lies in.
    default : str
        Taken where there are several arrays and no `key`.
    """
    import zarr

    _refuse_pickles(path)
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            if key is not None:
                raise UnknownNameError(f"array in {path}", key, [], todo="it is one array: leave the key out")
            return node
        names = [name for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array)]
    except UnknownNameError:
        raise
    except Exception as error:  # JSON, codecs and storage each have their own
        raise damaged(path, error) from error
    return node[choose(path, names, None if key is None else key.strip("/"), default)]


def _refuse_pickles(path: Path) -> None:
    """Refuse codecs that unpickle, in any array of the hierarchy: reading one chunk could run any program."""
    for name in (".zarray", "zarr.json", ".zmetadata"):
        for file in path.rglob(name):
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, OSError) as error:
                raise damaged(file, error) from error
            if "pickle" in _codecs(found):
                raise InputError(
                    f"{file} asks for a codec that unpickles",
                    given="the codec 'pickle'; reading it could run any program",
                    expected="an array of numbers, with any other compression",
                    todo="save it again as numbers, e.g. zarr.save(path, numpy.asarray(values, dtype='float32'))",
                )


def _codecs(metadata: Any) -> set[str]:
    """Return the names of all codecs in the metadata of Zarr, version 2 or 3."""
    if isinstance(metadata, list):
        return set().union(*map(_codecs, metadata)) if metadata else set()
    if not isinstance(metadata, dict):
        return set()
    names = {str(metadata.get(key, "")).rpartition(".")[2] for key in ("id", "name")}
    return names.union(*map(_codecs, metadata.values()))


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


def open_hdf5_file(path: Path, todo: str = AGAIN) -> Any:
    """Open an HDF5 file for reading."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:  # not HDF5, or cut short
        raise damaged(path, error, todo) from error


def wrong_shape(path: Path, given: tuple[int, ...], expected: str, todo: str = AGAIN) -> InputError:
    """Return the error for an array whose axes are not as they should be."""
    return InputError(f"{path} has the wrong shape", given=str(tuple(given)), expected=expected, todo=todo)
