"""A store from arrays and tables that a script holds in memory, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon.datasets.arrays.memory import MemoryRecipe, given_in_memory
from neurorecon.errors import InputError
from neurorecon.store.build import build_store
from neurorecon.store.store import Store, open_store

if TYPE_CHECKING:
    import pandas as pd


def build_from_arrays(
    path: str | Path,
    responses: Any,
    samples: pd.DataFrame | Mapping[str, Any] | Sequence[Any],
    stimuli: pd.DataFrame | Mapping[str, Any] | None = None,
    *,
    images: Any = None,
    frames: Any = None,
    labels: pd.DataFrame | None = None,
    voxels: Any = None,
    rois: Any = None,
    mask: Any = None,
    roi_groups: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> Store:
    """Build a store from arrays in memory, with the checks that a folder of files gets.

    What holds for one subject may be given for several, as a dict by subject: `responses`, `samples`, `voxels`, `rois`,
    `mask`. What is given once then holds for all.

    Parameters
    ----------
    path : path
        The store, ``NAME.icechunk``.
    responses : array, shape (sample, voxel), or dict of str to array
        NumPy arrays, memory maps, HDF5 data sets, Zarr or dask arrays: they are read by slices.
    samples : DataFrame, dict of columns, or sequence of stimuli
        A row for each row of the responses. ``stimulus`` is required (empty: rest, left out); ``session``, ``run``,
        ``repeat``, ``split``, ``time`` and ``task`` are optional; other columns are kept as they are.
    stimuli : DataFrame or dict of columns, optional
        A row for each stimulus: ``id``; ``kind``, ``category``, ``caption`` or ``caption1`` to ``caption5``, ``file``
        and ``split`` are optional. Without it, stimuli are the pictures, by number or name, or those of the samples.
    images : array, uint8, shape (stimulus, y, x, rgb), or path of a folder, optional
        Pictures of the stimuli that are images, in the order of the table.
    frames : array, uint8, shape (film, frame, y, x, rgb), optional
        Of the stimuli that are films.
    labels : DataFrame, optional
        ``stimulus`` and columns of numbers.
    voxels : DataFrame or dict of columns, optional
        A row for each voxel: ``i``, ``j``, ``k``, or ``hemisphere``, ``vertex``; ``roi``, or a column of 0 and 1 for
        each ROI; ``ncsnr``.
    rois : dict of str to bool array, shape (voxel,), optional
        Areas, in place of columns of `voxels`.
    mask : NIfTI image or path, optional
        Where voxels lie; without i, j, k they are its voxels in the order of ``numpy.nonzero``.
    roi_groups : dict of str to list of str, optional
        Groups of ROIs.
    overwrite : bool
        Replace a store of other data.
    progress : bool
        Show progress bars on stderr.
    **options
        Options of the reader ``arrays``: ``repetition_time``, ``transpose``, ``test_share``, ``test_stimuli``,
        ``seed``, ``bad_voxels``, ``affine``, ``shape``, ``mesh``, ``image_size``, ``frames_per_second``, ``title``,
        ``citation``, ``terms``, ``units``, ``simulated``.

    Returns
    -------
    Store
        The store; one that was built from the same data is left as it is.

    Raises
    ------
    InputError
        Where arrays and tables do not fit each other; nothing is written then.
    StoreError
        Where a store of other data is in the way.

    Examples
    --------
    >>> store = neurorecon.build_from_arrays(
    ...     "mine.icechunk", betas, samples={"stimulus": shown}, images=pictures, rois={"V1": in_v1}
    ... )  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix != ".icechunk":
        raise InputError(
            "a store that is built has a name of its own sort",
            given=str(path),
            expected="NAME.icechunk",
            todo="end the name in .icechunk; export_store makes a .zarr of it",
        )
    given = given_in_memory(
        responses,
        samples,
        stimuli,
        images=images,
        frames=frames,
        labels=labels,
        voxels=voxels,
        rois=rois,
        mask=mask,
        affine=options.get("affine"),
        shape=options.get("shape"),
    )
    groups = {name: list(members) for name, members in (roi_groups or {}).items()}
    recipe = MemoryRecipe.of(given, path.stem, groups, options)
    build_store(recipe, path, overwrite=overwrite, progress=progress)
    return open_store(path)
