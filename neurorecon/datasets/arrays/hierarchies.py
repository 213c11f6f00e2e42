"""Arrays inside HDF5 files and Zarr hierarchies, opened without being read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neurorecon.datasets.arrays.zipped import choose
from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError, UnknownNameError


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
