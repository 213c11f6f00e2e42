"""Reader for your own data, in a folder or in memory: arrays of responses and images, tables of samples and voxels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import PrivateAttr

from neurorecon.datasets.arrays.content import Content, Given, GivenSubject, put_together, read_about
from neurorecon.datasets.arrays.tables import ArraysOptions, Volume
from neurorecon.datasets.base import SIMULATED, Description, Options, Reader, SubjectData
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io import arrays as files
from neurorecon.io import tables
from neurorecon.io.arrays import ArrayFile, as_array, check_numbers, declared_dims
from neurorecon.io.files import broken_link, files_below
from neurorecon.io.images import pixels
from neurorecon.io.tables import Table, as_table
from neurorecon.io.volumes import as_mask, check_mask, read_mask

#: Names of the files that are read, without extensions.
NAMES = ("responses", "samples", "voxels", "stimuli", "labels", "images", "frames", "mask", "about", SIMULATED)

#: Name of the subject if the responses are in the root itself.
ONLY_SUBJECT = "subj01"


def open_folder(root: Path, options: ArraysOptions) -> Given:
    """Open all files of a folder. Arrays stay on disk.

    Parameters
    ----------
    root : path
        Contains ``responses.*`` and ``samples.*``, or one folder with these for each subject. Tables of voxels and
        masks are next to the responses, or in the root if all subjects share them. Stimuli, labels, images and frames
        are in the root.
    options : ArraysOptions
        The options of the reader.

    Returns
    -------
    Given

    Raises
    ------
    MissingFileError, InputError
        If a required file is missing, exists more than once, or cannot be read.
    """
    folders = _subject_folders(root)
    images = root / "images"
    image_array = _find(root, "images", files.SUFFIXES)
    if images.is_dir() and image_array is not None:
        raise _ambiguous(root, "images", [images, image_array])
    frames = _find(root, "frames", files.SUFFIXES)
    return Given(
        subjects={name: _open_subject(folder, root, options) for name, folder in folders.items()},
        stimuli=_table(root, "stimuli"),
        labels=_table(root, "labels"),
        images=images
        if images.is_dir()
        else None
        if image_array is None
        else files.open_array(image_array, options.images_key, "images"),
        frames=None if frames is None else files.open_array(frames, options.frames_key, "frames"),
        about=read_about(root / "about.toml"),
    )


def source_files(root: Path) -> list[Path]:
    """List the files of a folder that are read: arrays, tables, masks and images."""
    folders = dict.fromkeys([root, *_subject_folders(root).values()])
    items = [item for folder in folders for item in folder.iterdir() if item.name.partition(".")[0] in NAMES]
    return [file for item in items for file in (files_below(item) if item.is_dir() else [item])]


def _subject_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each subject. Links that lead nowhere may be subjects, or what all subjects share."""
    for item in sorted(root.glob("[!.]*")):  # editors leave hidden links that lead nowhere
        broken_link(item, "a folder or file of the data set")
    inside = {
        item.name: item
        for item in sorted(root.iterdir())
        if item.is_dir() and item.suffix != ".zarr" and _find(item, "responses", files.SUFFIXES) is not None
    }
    in_root = _find(root, "responses", files.SUFFIXES)
    if in_root is not None and inside:
        raise _ambiguous(root, "responses", [in_root, *inside.values()])
    if in_root is None and not inside:
        raise MissingFileError(
            f"{root} contains no responses",
            given=f"no {' or '.join('responses' + suffix for suffix in files.SUFFIXES)} here or in a subfolder",
            expected="responses (sample, voxel) in the folder itself, or in one subfolder per subject",
            todo="name the file accordingly; docs/datasets/arrays.md shows a complete folder",
        )
    return inside or {ONLY_SUBJECT: root}


def _open_subject(folder: Path, root: Path, options: ArraysOptions) -> GivenSubject:
    responses = _find(folder, "responses", files.SUFFIXES)
    assert responses is not None  # otherwise the folder is not a subject
    samples = _table(folder, "samples")
    if samples is None:
        raise MissingFileError(
            f"{folder} contains no table of samples",
            given=f"no {' or '.join('samples' + suffix for suffix in tables.SUFFIXES)}",
            expected="a table with one row per row of the responses, and at least the column 'stimulus'",
            todo="save the table next to the responses",
        )
    voxels = _table(folder, "voxels")
    return GivenSubject(
        responses=files.open_array(responses, options.responses_key, "responses"),
        samples=samples,
        voxels=voxels if voxels is not None or folder == root else _table(root, "voxels"),
        volume=_volume(folder, root, options),
    )


def _volume(folder: Path, root: Path, options: ArraysOptions) -> Volume | None:
    """Return the mask next to the responses, else the mask in the root, else the grid in the options."""
    stated = grid_of(options.affine, options.shape)  # checked even where a mask makes it superfluous
    found = _find(folder, "mask", (".nii.gz", ".nii")) or _find(root, "mask", (".nii.gz", ".nii"))
    if found is not None:
        return _mask_file(found)
    return stated


def grid_of(affine: Sequence[Sequence[float]] | None, shape: Sequence[int] | None) -> Volume | None:
    """Return the grid defined by an affine and a shape, or None if neither is given.

    Raises
    ------
    InputError
        If only one of them is given, or either is invalid.
    """
    if affine is None and shape is None:
        return None
    try:
        matrix = np.asarray(affine if affine is not None else [], dtype=float)
    except (ValueError, TypeError):  # rows of different lengths
        matrix = np.empty(0)
    usable = matrix.shape == (4, 4) and np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12
    if not usable or shape is None or min(shape) < 1:
        raise InputError(
            "the affine and shape of the volume cannot be used",
            given=f"affine = {affine}, shape = {shape}",
            expected="an invertible 4 x 4 matrix (voxel indices to millimeters), and three positive sizes",
            todo="fix affine and shape in [options] of the recipe, or save mask.nii.gz next to the responses",
        )
    return Volume("the volume of the options", tuple(shape), matrix.tolist())


#: Advice if a mask cannot be used.
_OTHER_MASK = "use the mask that the responses were extracted with"


def _mask_file(path: Path) -> Volume:
    mask, affine = read_mask(path)
    check_mask(mask, path, _OTHER_MASK)
    return Volume(str(path), mask.shape, affine.tolist(), mask)


def _table(folder: Path, name: str) -> tables.Table | None:
    path = _find(folder, name, tables.SUFFIXES)
    return None if path is None else tables.read_table(path)


def _find(folder: Path, name: str, suffixes: Sequence[str]) -> Path | None:
    """Return the file with the given name and one of the extensions, or None; a link to nothing counts as a file."""
    found = [folder / (name + suffix) for suffix in suffixes if os.path.lexists(folder / (name + suffix))]
    if len(found) > 1:
        raise _ambiguous(folder, name, found)
    return found[0] if found else None


def _ambiguous(folder: Path, name: str, found: Sequence[Path]) -> InputError:
    return InputError(
        f"{folder} contains {name} more than once",
        given=", ".join(str(path.relative_to(folder)) for path in found[:5]),
        expected="only one of these",
        todo="move the others out of the folder",
    )


class ArraysReader(Reader):
    """Reader of a folder of arrays and tables. ``docs/datasets/arrays.md`` shows an example.

    Parameters
    ----------
    root : path
        The folder.
    options : ArraysOptions, optional
        How to read the folder, and how to split the stimuli.

    Raises
    ------
    MissingFileError, InputError
        If files are missing or contradict each other. The values of the responses are checked only in :meth:`subject`.
    """

    name: ClassVar[str] = "arrays"
    Options: ClassVar[type[Options]] = ArraysOptions
    options: ArraysOptions

    def __init__(self, root: str | Path | None, options: ArraysOptions | None = None) -> None:
        super().__init__(root, options)
        self._content = self._read()

    @classmethod
    def sources(cls, root: Path, options: ArraysOptions) -> list[Path]:
        """List the arrays, tables, masks and images of a folder."""
        return source_files(root)

    def _read(self) -> Content:
        assert self.root is not None  # the base class refuses None
        return put_together(open_folder(self.root, self.options), self.options)

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units, as stated in the options or in ``about.toml``."""
        about, unused = self._content.about, self._content.stimuli.unused
        stated = self.options.simulated
        return Description(
            title=about.title,
            simulated=self.simulated if stated is None else stated,
            citation=about.citation,
            terms=about.terms,
            units=about.units,
            notes="Responses are taken as they were given; nothing was filtered or scaled."
            + (f" Columns of the table of stimuli that were not used: {', '.join(unused)}." if unused else "")
            + self._content.stimuli.uncaptioned,
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects' folders, or ``["subj01"]``."""
        return list(self._content.subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: images, then videos."""
        table = self._content.stimuli.table.copy()
        table["captions"] = [list(row) for row in table["captions"]]
        return table

    def labels(self) -> pd.DataFrame | None:
        """Return the labels in the order of the stimuli, or None if there are none."""
        return None if self._content.labels is None else self._content.labels.copy()

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb), or of a video frame if there are only videos."""
        if self._content.images is not None:
            return self._content.images.shape
        video = self.video_shape()
        return None if video is None else video[1:]

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the images of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb).

        The image of a video is its middle frame, scaled to the size of the images.
        """
        shape, images = self.image_shape(), self._content.images
        if shape is None:
            return super().read_images(start, stop)
        first_video = 0 if images is None else len(images)
        start, stop, _ = slice(start, stop).indices(len(self._content.stimuli.table))
        parts = []
        if images is not None and start < first_video:
            parts.append(images.read(start, min(stop, first_video)))
        if stop > first_video:
            parts.append(self._middle_frames(max(start, first_video) - first_video, stop - first_video, shape))
        return np.concatenate(parts) if parts else np.empty((0, *shape), dtype=np.uint8)

    def _middle_frames(self, start: int, stop: int, shape: tuple[int, int, int]) -> np.ndarray:
        video, frames = self.video_shape(), self._content.frames
        assert video is not None
        assert frames is not None
        found = [pixels(frames[number : number + 1][:, video[0] // 2])[0] for number in range(start, stop)]
        if video[1:] == shape:
            return np.stack(found)
        from PIL import Image

        scaled = [Image.fromarray(one).resize((shape[1], shape[0]), Image.Resampling.LANCZOS) for one in found]
        return np.stack([np.asarray(one) for one in scaled])

    def video_shape(self) -> tuple[int, int, int, int] | None:
        """Return the shape of a video, (frame, y, x, rgb), or None if there are no videos."""
        frames = self._content.frames
        return None if frames is None else (frames.shape[1], frames.shape[2], frames.shape[3], 3)

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the videos in Hz, or None if there are no videos."""
        return None if self._content.frames is None else self.options.frames_per_second

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        if self._content.frames is None:
            return super().read_frames(start, stop)
        return np.array(pixels(self._content.frames[start:stop], self._content.frames.where))

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject. The first call reads all responses once to screen the voxels.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or none of its voxels can be used.
        """
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._content.subject(name)


#: Bytes of an array to digest at a time.
_BLOCK = 16 * 2**20


class MemoryReader(ArraysReader):
    """Reader of arrays and tables in memory.

    Parameters
    ----------
    root : Given
        The arrays and tables, in place of a folder.
    options : ArraysOptions, optional
        As for :class:`ArraysReader`.
    """

    needs_root = False

    def __init__(self, root: Given, options: ArraysOptions | None = None) -> None:
        self._given = root
        super().__init__(None, options)
        self.root = root  # type: ignore[assignment]

    def _read(self) -> Content:
        return put_together(self._given, self.options)


class MemoryRecipe(Recipe):
    """A recipe that includes the data itself, so that its digest depends on them."""

    _given: Given = PrivateAttr()
    _digest: str = PrivateAttr(default="")

    @classmethod
    def of(cls, given: Given, name: str, roi_groups: dict[str, list[str]], options: dict[str, Any]) -> MemoryRecipe:
        """Create the recipe of a store from arrays and tables in memory."""
        recipe = cls(name=name, reader="arrays", roi_groups=roi_groups, options=options)
        recipe._given = given
        return recipe

    def open(self) -> MemoryReader:
        """Open the reader, which checks the arrays and tables."""
        options = self.checked_options()
        assert isinstance(options, ArraysOptions)
        return MemoryReader(self._given, options)

    def digest(self) -> str:
        """Return a digest of the recipe and all data."""
        if not self._digest:  # cached, because the data may be large
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
    """Wrap arrays and tables in memory for :func:`~neurorecon.datasets.arrays.content.put_together`, which checks them.

    The parameters are those of :func:`neurorecon.build_from_arrays`.
    """
    subjects = list(responses) if isinstance(responses, Mapping) else [ONLY_SUBJECT]
    arrays = dict(responses) if isinstance(responses, Mapping) else {ONLY_SUBJECT: responses}
    tables, places = _by_subject(samples, subjects, "samples"), _by_subject(voxels, subjects, "voxels")
    members, masks = _by_subject(rois, subjects, "rois"), _by_subject(mask, subjects, "mask")
    grid = grid_of(affine, shape)
    return Given(
        subjects={
            name: GivenSubject(
                responses=_array(arrays[name], f"the responses of {name}"),
                samples=_samples(tables[name], f"the samples of {name}"),
                voxels=None if places[name] is None else _as_table(places[name], f"the voxels of {name}"),
                volume=grid if masks[name] is None else _mask(masks[name], f"the mask of {name}"),
                rois=members[name],
            )
            for name in subjects
        },
        stimuli=None if stimuli is None else _as_table(stimuli, "the stimuli"),
        labels=None if labels is None else _as_table(labels, "the labels"),
        images=None if images is None else _images(images),
        frames=None if frames is None else _array(frames, "the frames"),
    )


def _by_subject(values: Any, subjects: list[str], what: str) -> dict[str, Any]:
    """Return the value for each subject; a single value applies to all subjects."""
    if isinstance(values, Mapping) and set(values) & set(subjects):
        if set(values) != set(subjects):
            raise InputError(
                f"{what} and responses are given for different subjects",
                given=f"{what} of {', '.join(map(str, values))}; responses of {', '.join(subjects)}",
                expected="the same subjects",
                todo=f"pass {what} for each subject, or once for all subjects",
            )
        return dict(values)
    return dict.fromkeys(subjects, values)


def _array(values: Any, where: str) -> ArrayFile:
    dims = declared_dims(values)
    if not _is_lazy(values):
        try:
            values = as_array(values)
        except (ValueError, TypeError) as error:  # lists of different lengths, text in a column of numbers
            raise InputError(
                f"{where} cannot be converted to an array", given=str(error), expected="a rectangular array of numbers"
            ) from error
    found = ArrayFile(where, values, dims=dims)
    check_numbers(found)
    return found


def _is_lazy(values: Any) -> bool:
    """Return whether an array is to be read by slices: of HDF5, Zarr, dask or xarray."""
    return (
        isinstance(getattr(values, "dtype", None), np.dtype)
        and not hasattr(values, "isna")
        and not isinstance(values, np.ndarray)
    )


def _samples(values: Any, where: str) -> Table:
    if isinstance(values, pd.Series | np.ndarray | list | tuple):
        values = {"stimulus": list(values)}  # NumPy would turn NaN among text into the text "nan"
    return _as_table(values, where)


def _as_table(values: Any, where: str) -> Table:
    return as_table(values, where)


def _images(values: Any) -> ArrayFile | Path:
    if isinstance(values, str | Path):
        if not Path(values).is_dir():
            raise InputError(
                "the folder of the images does not exist",
                given=str(values),
                expected="a folder of PNG or JPEG files, or an array",
                todo="check the path",
            )
        return Path(values)
    return _array(values, "the images")


def _mask(values: Any, where: str) -> Volume:
    if isinstance(values, str | Path):
        return _mask_file(Path(values))
    if not hasattr(values, "affine") or not hasattr(values, "dataobj"):
        raise InputError(
            f"{where} cannot be used",
            given=type(values).__name__,
            expected="a NIfTI image, or the path of a NIfTI file",
            todo="pass nibabel.Nifti1Image(mask, affine)",
        )
    mask = as_mask(np.asarray(values.dataobj), where)
    check_mask(mask, where, _OTHER_MASK)
    return Volume(where, mask.shape, np.asarray(values.affine, dtype=float).tolist(), mask)


def _digest(value: Any, into: Any) -> None:
    """Update a hash with the given data, piece by piece."""
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
