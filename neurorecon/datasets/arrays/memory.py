"""Arrays and tables in memory, given to the same checks as files."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import PrivateAttr

from neurorecon.datasets.arrays.content import Content, Given, GivenSubject, put_together
from neurorecon.datasets.arrays.files import ArrayFile, check_numbers
from neurorecon.datasets.arrays.layout import ONLY_SUBJECT, grid_of, read_mask
from neurorecon.datasets.arrays.options import ArraysOptions
from neurorecon.datasets.arrays.reader import ArraysReader
from neurorecon.datasets.arrays.tables import Table, as_table
from neurorecon.datasets.arrays.voxels import Volume
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError

#: Bytes of an array that are digested at a time.
_BLOCK = 16 * 2**20


class MemoryReader(ArraysReader):
    """Hands out what a caller holds in memory.

    Parameters
    ----------
    root : Given
        What was given, in place of a folder.
    options : ArraysOptions, optional
    """

    needs_root = False

    def __init__(self, root: Given, options: ArraysOptions | None = None) -> None:
        self._given = root
        super().__init__(None, options)
        self.root = root  # type: ignore[assignment]

    def _read(self) -> Content:
        return put_together(self._given, self.options)


class MemoryRecipe(Recipe):
    """A recipe of which the data are part: other data, another digest."""

    _given: Given = PrivateAttr()
    _digest: str = PrivateAttr(default="")

    @classmethod
    def of(cls, given: Given, name: str, roi_groups: dict[str, list[str]], options: dict[str, Any]) -> MemoryRecipe:
        """Make the recipe of a store from what was given."""
        recipe = cls(name=name, reader="arrays", roi_groups=roi_groups, options=options)
        recipe._given = given
        return recipe

    def open(self) -> MemoryReader:
        """Check what was given."""
        options = self.checked_options()
        assert isinstance(options, ArraysOptions)
        return MemoryReader(self._given, options)

    def digest(self) -> str:
        """Return a digest of the recipe and of all data."""
        if not self._digest:  # once: the data may be large
            found = blake2b(super().digest().encode(), digest_size=16)
            _digest(self._given, found)
            self._digest = found.hexdigest()
        return self._digest


def given_in_memory(
    responses: Any,
    samples: Any,
    stimuli: Any = None,
    *,
    images: Any = None,
    frames: Any = None,
    labels: Any = None,
    voxels: Any = None,
    rois: Any = None,
    mask: Any = None,
    affine: Any = None,
    shape: Any = None,
) -> Given:
    """Take arrays and tables as what :func:`~neurorecon.datasets.arrays.content.put_together` checks.

    Parameters are those of :func:`neurorecon.build_from_arrays`.
    """
    subjects = list(responses) if isinstance(responses, Mapping) else [ONLY_SUBJECT]
    arrays = dict(responses) if isinstance(responses, Mapping) else {ONLY_SUBJECT: responses}
    tables, places = _by_subject(samples, subjects, "samples"), _by_subject(voxels, subjects, "voxels")
    areas, masks = _by_subject(rois, subjects, "rois"), _by_subject(mask, subjects, "mask")
    grid = grid_of(affine, shape)
    return Given(
        subjects={
            name: GivenSubject(
                responses=_array(arrays[name], f"the responses of {name}"),
                samples=_samples(tables[name], f"the samples of {name}"),
                voxels=None if places[name] is None else _table(places[name], f"the voxels of {name}"),
                volume=grid if masks[name] is None else _mask(masks[name], f"the mask of {name}"),
                rois=areas[name],
            )
            for name in subjects
        },
        stimuli=None if stimuli is None else _table(stimuli, "the stimuli"),
        labels=None if labels is None else _table(labels, "the labels"),
        images=None if images is None else _images(images),
        frames=None if frames is None else _array(frames, "the frames"),
    )


def _by_subject(values: Any, subjects: list[str], what: str) -> dict[str, Any]:
    """Return what is given for each subject; what is given once holds for all."""
    if isinstance(values, Mapping) and set(values) & set(subjects):
        if set(values) != set(subjects):
            raise InputError(
                f"{what} and responses are given for different subjects",
                given=f"{what} of {', '.join(map(str, values))}; responses of {', '.join(subjects)}",
                expected="the same subjects",
                todo=f"give {what} for each subject, or once for all",
            )
        return dict(values)
    return dict.fromkeys(subjects, values)


def _array(values: Any, where: str) -> ArrayFile:
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        try:
            values = np.asarray(values)
        except ValueError as error:  # lists of different lengths
            raise InputError(f"{where} are no array", given=str(error), expected="numbers of one shape") from error
    found = ArrayFile(where, values)
    check_numbers(found)
    return found


def _samples(values: Any, where: str) -> Table:
    if isinstance(values, pd.Series | np.ndarray | list | tuple):
        values = {"stimulus": np.asarray(values)}
    return _table(values, where)


def _table(values: Any, where: str) -> Table:
    return as_table(values, where)


def _images(values: Any) -> ArrayFile | Path:
    if isinstance(values, str | Path):
        if not Path(values).is_dir():
            raise InputError(
                "the pictures are not there",
                given=str(values),
                expected="a folder of PNG or JPEG files, or an array",
                todo="check the path",
            )
        return Path(values)
    return _array(values, "the pictures")


def _mask(values: Any, where: str) -> Volume:
    if isinstance(values, str | Path):
        return read_mask(Path(values))
    if not hasattr(values, "affine") or not hasattr(values, "dataobj"):
        raise InputError(
            f"{where} cannot be used",
            given=type(values).__name__,
            expected="a NIfTI image, or the path of one",
            todo="nibabel.Nifti1Image(mask, affine)",
        )
    mask = np.nan_to_num(np.asarray(values.dataobj)) != 0
    if mask.ndim != 3 or not mask.any():
        raise InputError(
            f"{where} cannot be used",
            given=f"shape {mask.shape}, {int(mask.sum())} voxels that are not zero",
            expected="a volume (x, y, z) with voxels that are not zero",
            todo="take the mask that the responses were read with",
        )
    return Volume(where, mask.shape, np.asarray(values.affine, dtype=float).tolist(), mask)


def _digest(value: Any, into: Any) -> None:
    """Digest what was given, piece by piece."""
    if isinstance(value, ArrayFile):
        into.update(f"{value.shape} {value.dtype}".encode())
        step = max(1, _BLOCK // max(1, value.dtype.itemsize * int(np.prod(value.shape[1:]))))
        for start in range(0, value.shape[0], step):
            into.update(np.ascontiguousarray(value[start : start + step]).tobytes())
    elif isinstance(value, Table):
        into.update(value.frame.to_json(orient="split", double_precision=15, date_format="iso").encode())
    elif isinstance(value, np.ndarray):
        into.update(f"{value.shape} {value.dtype}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for name, item in value.items():
            into.update(str(name).encode())
            _digest(item, into)
    elif isinstance(value, Given | GivenSubject | Volume):
        _digest(vars(value), into)
    else:
        into.update(repr(value).encode())
