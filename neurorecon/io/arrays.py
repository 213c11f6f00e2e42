"""Arrays on disk, opened lazily: npy, npz, HDF5, Zarr.

An opened array has ``shape`` and ``dtype`` and is read by slicing. Nothing is ever unpickled: arrays of Python objects
are refused in every format.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from neurorecon.errors import InputError, NeuroreconError, UnknownNameError
from neurorecon.io.files import AGAIN, broken_link, damaged, require_file

#: File extensions of the supported formats.
SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".zarr")


@dataclass(frozen=True)
class ArrayFile:
    """An array that stays on disk, or in the caller's memory, until it is sliced.

    Parameters
    ----------
    where : str
        What error messages call it.
    values : object
        Has ``shape`` and ``dtype`` and can be sliced: a memory map, an HDF5 dataset, a Zarr, NumPy or dask array.
    path : path, optional
        The file.
    dims : tuple of str
        Names of the axes that the file or the array declares (netCDF, Zarr, xarray); ``("MATLAB",)`` if MATLAB wrote
        the file, whose order of axes is the reverse of NumPy's; empty if nothing is declared.
    """

    where: str
    values: Any
    path: Path | None = None
    dims: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(size) for size in self.values.shape)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the array."""
        return np.dtype(self.values.dtype)

    def __getitem__(self, part: Any) -> np.ndarray:
        """Read a part of the array, with NaN where values are masked.

        Raises
        ------
        InputError
            If that part of the file is damaged.
        """
        try:
            return as_array(self.values[part])
        except NeuroreconError:
            raise
        except Exception as error:  # zlib, blosc, HDF5 and Zarr raise different exceptions for a damaged chunk
            if self.path is None:
                raise
            raise damaged(self.path, error) from error


def open_array(path: Path, key: str | None, default: str) -> ArrayFile:
    """Open a numeric array.

    Parameters
    ----------
    path : path
        The file; its extension determines the format.
    key : str, optional
        Name of the array inside a .npz, .h5 or .zarr file.
    default : str
        Name to use if the file contains several arrays and no `key` is given.

    Returns
    -------
    ArrayFile

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, or does not contain the array, or the array is empty or not numeric.
    """
    suffix = path.suffix.lower()
    if suffix == ".zarr" and path.is_dir():
        broken_link(path, "a Zarr folder")
    else:
        require_file(path, "a file that contains an array")
    if suffix == ".npy":
        values = _open_npy(path)
    elif suffix == ".npz":
        values = open_npz(path, key, default)
    elif suffix in (".h5", ".hdf5"):
        values = open_hdf5(path, key, default)
    else:
        values = open_zarr(path, key, default)
    found = ArrayFile(str(path), values, path, declared_dims(values))
    check_numbers(found)
    return found


def as_array(values: Any) -> np.ndarray:
    """Return values that are in memory as a NumPy array; whatever is masked or missing becomes NaN.

    Parameters
    ----------
    values : object
        A NumPy array, masked array, torch tensor (on any device, also bfloat16), pandas table or column of any type,
        or a nested list.

    Returns
    -------
    array
        Floats if a value is masked or missing.

    Raises
    ------
    ValueError, TypeError
        If the values have no rectangular shape, or no meaning as an array.
    """
    if isinstance(values, np.ma.MaskedArray):
        if not np.ma.is_masked(values):
            return np.asarray(values.data)
        wide = np.ma.asarray(values, dtype=values.dtype if values.dtype.kind in "fc" else float)
        return np.asarray(np.ma.filled(wide, np.nan))
    if type(values).__module__.partition(".")[0] == "torch":
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values.numpy(force=True))
    if hasattr(values, "to_numpy") and hasattr(values, "isna"):  # pandas: NA of its own types is not a number
        missing = bool(np.asarray(values.isna()).any())
        found = np.asarray(values.to_numpy(dtype=float, na_value=np.nan) if missing else values.to_numpy())
        return np.asarray(values.to_numpy(dtype=float)) if found.dtype == object else found
    return np.asarray(values)


def declared_dims(values: Any) -> tuple[str, ...]:
    """Return the names of the axes that an array declares; see :class:`ArrayFile`."""
    attributes = dict(getattr(values, "attrs", {}))
    if "MATLAB_class" in attributes:
        return ("MATLAB",)
    named = getattr(values, "dims", ()) or attributes.get("_ARRAY_DIMENSIONS", ())
    names = named or getattr(getattr(values, "metadata", None), "dimension_names", None) or ()
    return tuple(map(_dim, names))


def _dim(axis: Any) -> str:
    """Return the name of an axis: text, or the label or the scale of an axis in HDF5."""
    if isinstance(axis, str) or not hasattr(axis, "label"):
        return str(axis)
    return str(axis.label or (axis[0].name.rpartition("/")[2] if len(axis) else ""))


def check_numbers(array: ArrayFile) -> None:
    """Raise :class:`InputError` if an array is empty or does not contain real numbers."""
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{array.where} does not contain real numbers",
            given=f"an array of {array.dtype}",
            expected="floats or integers",
            todo="save the array as float32: numpy.save(path, array.astype('float32'))",
        )
    if 0 in array.shape:
        raise InputError(
            f"{array.where} is empty",
            given=f"an array of shape {array.shape}",
            expected="at least one value",
            todo="check the program that wrote the file",
        )


def _open_npy(path: Path) -> np.ndarray:
    try:
        found = np.lib.format.open_memmap(path, mode="r")
        if any(size < 0 for size in found.shape):  # numpy maps the file with some other number of values
            raise ValueError(f"a header of shape {found.shape}")
        return found
    except (ValueError, OSError, EOFError, OverflowError, TypeError) as error:
        if "object" in str(error).lower():
            raise holds_objects(path) from error
        raise damaged(path, error) from error


def holds_objects(path: Path) -> InputError:
    """Return the error for an array of Python objects, which would have to be unpickled."""
    return InputError(
        f"{path} contains Python objects instead of numbers",
        given="an array of objects, which could run any code when loaded",
        expected="a rectangular array of numbers",
        todo="save it again as numbers: numpy.save(path, numpy.asarray(values, dtype='float32'))",
    )


def open_hdf5(path: Path, key: str | None, default: str) -> Any:
    """Open one dataset of an HDF5 file without reading it.

    Parameters
    ----------
    path : path
        The file.
    key : str, optional
        Name of the dataset, including its groups, e.g. ``"session1/responses"``.
    default : str
        Name to use if the file contains several datasets and no `key` is given.

    Returns
    -------
    h5py.Dataset

    Raises
    ------
    InputError
        If h5py is not installed, or the file is damaged or does not contain the dataset.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} needs a package that is not installed",
            given="no package 'h5py'",
            expected="'h5py' to be installed",
            todo="pip install h5py, or save the array as .npy",
        ) from error
    try:
        file = h5py.File(path, "r")
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    except Exception as error:  # OSError for most damage, RuntimeError and KeyError for some
        raise damaged(path, error) from error
    found = file[choose(path, names, None if key is None else key.strip("/"), default)]
    _refuse_elsewhere(path, found)
    blocks = [name for name in found.parent if name.endswith("_values")]
    if len(blocks) > 1 and "pandas_type" in found.parent.attrs:
        raise InputError(
            f"{path} holds a table of pandas with columns of several types",
            given=f"{', '.join(blocks)}: the columns are sorted by type, not as in the table",
            expected="an array, or a table of one type",
            todo="save it as numbers: numpy.save(path, table.to_numpy(dtype='float32'))",
        )
    return found


def _refuse_elsewhere(path: Path, dataset: Any) -> None:
    """Refuse a dataset whose values lie in other files that are missing (HDF5 would read zeros) or anywhere on disk."""
    parts = dataset.virtual_sources() if dataset.is_virtual else []
    names = [part[0] for part in dataset.external or []] + [part.file_name for part in parts if part.file_name != "."]
    for name in dict.fromkeys(map(os.fsdecode, names)):
        place = Path(os.path.normpath(path.parent / name))
        if dataset.external or not place.is_relative_to(os.path.normpath(path.parent)) or not place.is_file():
            raise InputError(
                f"{path} takes its values from another file",
                given=f"{dataset.name}: {'virtual' if parts else 'external'}, from {name}"
                + ("" if place.is_file() else ", which is missing"),
                expected="values in the file itself, or virtual ones from files that exist in the same folder",
                todo="copy the missing file there, or save the array itself: numpy.save(path, dataset[:])",
            )


def open_zarr(path: Path, key: str | None, default: str) -> Any:
    """Open one array of a Zarr hierarchy without reading it.

    Parameters
    ----------
    path : path
        The folder of a Zarr group or array.
    key : str, optional
        Name of the array, including its groups.
    default : str
        Name to use if the group contains several arrays and no `key` is given.

    Returns
    -------
    zarr.Array

    Raises
    ------
    InputError
        If the hierarchy is damaged, does not contain the array, or uses a codec that unpickles.
    """
    import zarr

    _refuse_pickles(path)
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            if key is not None:
                raise UnknownNameError(f"array in {path}", key, [], todo="the path is a single array: omit the key")
            return node
        names = [name for name, item in node.members(max_depth=None) if isinstance(item, zarr.Array)]
    except UnknownNameError:
        raise
    except Exception as error:  # JSON, codecs and storage raise different exceptions
        raise damaged(path, error) from error
    return node[choose(path, names, None if key is None else key.strip("/"), default)]


def _refuse_pickles(path: Path) -> None:
    """Refuse codecs that unpickle, in any array of the hierarchy: reading one chunk could run any code."""
    for name in (".zarray", "zarr.json", ".zmetadata"):
        for file in path.rglob(name):
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, OSError) as error:
                raise damaged(file, error) from error
            if "pickle" in _codecs(found):
                raise InputError(
                    f"{file} uses a codec that unpickles",
                    given="the codec 'pickle', which could run any code when reading",
                    expected="an array of numbers with any other compression",
                    todo="save it again as numbers, e.g. zarr.save(path, numpy.asarray(values, dtype='float32'))",
                )


def _codecs(metadata: Any) -> set[str]:
    """Return the names of all codecs in Zarr metadata (version 2 or 3)."""
    if isinstance(metadata, list):
        return set().union(*map(_codecs, metadata)) if metadata else set()
    if not isinstance(metadata, dict):
        return set()
    names = {str(metadata.get(key, "")).rpartition(".")[2] for key in ("id", "name")}
    return names.union(*map(_codecs, metadata.values()))


#: A compressed array in Fortran order has to be loaded as a whole; up to this many bytes.
MOST_IN_MEMORY = 2**30


def open_npz(path: Path, key: str | None, default: str) -> Any:
    """Open one array of a .npz file without reading it.

    Parameters
    ----------
    path : path
        The file.
    key : str, optional
        Name of the array.
    default : str
        Name to use if the file contains several arrays and no `key` is given.

    Returns
    -------
    numpy.memmap or ZippedArray
        A memory map if the array is not compressed.

    Raises
    ------
    InputError
        If the file is damaged, does not contain the array, or the array contains Python objects.
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
            f"{path} contains Python objects instead of numbers",
            given=f"{member.filename}: an array of objects, which could run any code when loaded",
            expected="a rectangular array of numbers",
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
    """Return the name of the array to open: `key` if given, else the only array, else `default`.

    Raises
    ------
    UnknownNameError
        If there is no array with that name.
    """
    if key is None:
        key = names[0] if len(names) == 1 else default
    if key not in names:
        raise UnknownNameError(
            f"array in {path}", key, names, todo=f'name the array in the recipe: {default}_key = "NAME" in [options]'
        )
    return key


class ZippedArray:
    """A compressed array in a .npz file, read block by block; reading forward decompresses the file only once."""

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
        """Read rows (a slice of the first axis). Any other index loads the whole array."""
        if self._fortran or not isinstance(part, slice):
            return self._all()[part]
        start, stop, _ = part.indices(self.shape[0])
        row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if self._stream is None:
            self._stream = self._archive.open(self._member)
        self._stream.seek(self._begin + start * row)  # seeking backward decompresses from the start
        wanted = max(0, stop - start)
        return np.frombuffer(_exactly(self._stream, wanted * row), self.dtype).reshape(wanted, *self.shape[1:])

    def _all(self) -> np.ndarray:
        if self._whole is None:
            size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
            if size > MOST_IN_MEMORY:
                raise InputError(
                    f"{self.path} is compressed and in Fortran order, so it cannot be read in parts",
                    given=f"{size / 2**30:.1f} GiB, shape {self.shape}",
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
            raise EOFError(f"{size - done:,} bytes are missing at the end")
        done += got
    return found


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _data_offset(path: Path, member: ZipInfo) -> int:
    """Return the offset of a stored member: it follows the local header, whose length varies."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra


def open_hdf5_file(path: Path, todo: str = AGAIN) -> Any:
    """Open an HDF5 file for reading.

    Raises
    ------
    InputError
        If the file is truncated or not HDF5.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:  # not HDF5, or truncated
        raise damaged(path, error, todo) from error


def dataset_of(file: Any, name: str, path: Path, what: str, todo: str = AGAIN) -> Any:
    """Return a dataset of an open HDF5 file; raise :class:`InputError` if there is none of this name.

    Parameters
    ----------
    file : h5py.File
    name : str
        Of the dataset.
    path : path
        The file, for messages.
    what : str
        What the dataset holds, for messages.
    todo : str
        What the message advises.
    """
    found = file.get(name)
    if found is None or not hasattr(found, "shape"):
        raise InputError(
            f"{path} contains no {what}",
            given=f"{name} is a group" if found is not None else f"datasets {', '.join(file) or '(none)'}",
            expected=f"the dataset {name}",
            todo=todo,
        )
    return found


def wrong_shape(path: Path, given: tuple[int, ...], expected: str, todo: str = AGAIN) -> InputError:
    """Return the error for an array with an unexpected shape."""
    return InputError(f"{path} has the wrong shape", given=str(tuple(given)), expected=expected, todo=todo)
