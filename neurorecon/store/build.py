"""Build a store of responses, stimuli and noise ceilings from a data set or from arrays in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from neurorecon import __version__
from neurorecon.datasets.arrays.reader import MemoryRecipe, given_in_memory
from neurorecon.datasets.base import (
    SAMPLE_COLUMNS,
    Reader,
    SubjectData,
    check_columns,
    column_values,
    further_columns,
)
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, MissingFileError, NeuroreconError, StoreError, StoreWriteError, listed
from neurorecon.io.files import Changes, Fingerprint, changes, fingerprint, is_url
from neurorecon.space import SPACE_COLUMNS
from neurorecon.store import schema
from neurorecon.store.backend import is_plain_zarr, open_for_reading
from neurorecon.store.ceilings import noise_ceilings
from neurorecon.store.leaks import LEAKS, Watch, describe
from neurorecon.store.ownership import refuse_foreign
from neurorecon.store.schema import (
    SOURCES,
    count_samples,
    count_stimuli,
    count_voxels,
)
from neurorecon.store.store import Store, open_store
from neurorecon.store.writer import BUILD, StoreWriter, resolved

logger = logging.getLogger("neurorecon")

#: Attribute of the group :data:`~neurorecon.store.schema.SOURCES`: size, modification time and partial digest of
#: each source file.
FILES = "files"


def read_sources(recipe: Recipe) -> Fingerprint:
    """Return the fingerprint of the source files of a recipe; empty if it has none."""
    root = recipe.folder()
    return {} if root is None else fingerprint(root, recipe.sources())


def remember_sources(root: Any, found: Fingerprint) -> None:
    """Write the fingerprint of source files to a store.

    It is an attribute of a separate group, because digests of the content must not depend on where and when files were
    copied. Only builds read it.
    """
    if found:
        root.require_group(SOURCES).attrs[FILES] = {name: list(facts) for name, facts in found.items()}


def refuse_changed(path: str | Path, root: Any, recipe: Recipe, *, finished: bool) -> None:
    """Raise an error if the files of a recipe differ from those that a store was built from.

    Stores without a fingerprint (written by older versions, or built without files) are accepted, as are finished
    stores whose source files have all been removed.

    Parameters
    ----------
    path : path
        Location of the store.
    root : zarr.Group
        Root of the store.
    recipe : Recipe
        Recipe of the store.
    finished : bool
        Whether its build is complete.

    Raises
    ------
    StoreError
        If files were changed, added or removed.
    """
    found = source_changes(root, recipe)
    remembered = _remembered(root)
    if found and not (finished and len(found.gone) == len(remembered)):
        raise StoreError(
            "the files of the data set changed since this store was built"
            if finished
            else "the files of the data set changed since this build was interrupted",
            given=f"{path}, and in {recipe.folder()}: {found}",
            expected="the files that it was built from" if finished else "the files with which the build started",
            todo="rebuild the store from the current files with --overwrite (older snapshots are kept), restore the "
            "old files, or choose another location with --out",
        )


def source_changes(root: Any, recipe: Recipe) -> Changes:
    """Return the changes of files since they were read; empty if there is no fingerprint."""
    remembered, folder = _remembered(root), recipe.folder()
    if not remembered or folder is None:
        return Changes()
    try:
        files = recipe.sources()
    except NeuroreconError:  # the reader may refuse a data set with missing files
        files = [folder / name for name in remembered]
    return changes(folder, files, remembered)


def _remembered(root: Any) -> Fingerprint:
    return dict(root[SOURCES].attrs.get(FILES, {})) if SOURCES in root else {}


#: Maximum number of captions per stimulus, as in COCO.
CAPTIONS = 5


def build_store(recipe: Recipe, path: str | Path, *, overwrite: bool = False, progress: bool = True) -> Path:
    """Build a store, or resume an interrupted build.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the store.
    path : path
        Location of the store, ``NAME.icechunk``.
    overwrite : bool
        Replace an existing store once the new one is complete (older snapshots are kept), or the unfinished build of
        another recipe. Files that neurorecon did not write are never replaced.
    progress : bool
        Whether to show progress bars on stderr.

    Returns
    -------
    Path
        Location of the store. A complete store of the same recipe is not built again.

    Raises
    ------
    StoreError
        If there is a different store, an unfinished build of another recipe or anything that neurorecon did not write
        at this location, the files of the data set have changed since the build, or
        another process is writing to the store.
    StoreWriteError
        If the disk is full or read-only. The same call resumes from the last commit.
    InputError
        If the data set is invalid. Nothing is committed in this case.
    """
    finished = None if overwrite else _finished(path, recipe)
    if finished is not None:  # needs neither the source files nor write access
        refuse_changed(path, finished, recipe, finished=True)
        return Path(path)
    if not is_url(str(path)) and not is_plain_zarr(str(path)) and not Path(path).is_file():
        refuse_foreign(resolved(path))  # before hours of reading; checked again once the lock is held
    reader = recipe.open()
    sources = read_sources(recipe)  # before reading, so that the next build detects files that change meanwhile
    # Check all tables before writing anything.
    stimuli = _checked_stimuli(reader)
    subjects = {name: reader.subject(name) for name in reader.subjects}
    for name, subject in subjects.items():
        _check_subject(name, subject, stimuli)
    _check_groups(recipe, reader, subjects)
    with StoreWriter(path, (recipe.name, recipe.digest())) as writer:
        left = _begin(writer, recipe, reader, sources, overwrite)
        try:
            if left:
                bar = _bars(progress)
                _write_stimuli(writer, reader, stimuli, _splits(stimuli, subjects), bar)
                for name, subject in subjects.items():
                    _write_subject(writer, name, subject, bar)
                writer.root.attrs["complete"] = True
                writer.publish(f"{recipe.name}: complete")
        except StoreWriteError:
            raise  # the data are valid: the next call resumes from the last commit
        except InputError:
            # The data set is invalid, so discard everything built from it. This process holds the lock.
            writer.abandon()
            raise
    return Path(path)


def _finished(path: str | Path, recipe: Recipe) -> Any:
    """Return the root of the complete store of this recipe, or None if there is none."""
    try:
        root, _ = open_for_reading(str(path))
    except (MissingFileError, StoreError):  # checked again once the lock is held
        return None
    return root if root.attrs.get("complete") and root.attrs.get("recipe_digest") == recipe.digest() else None


def _bars(show: bool) -> Callable[[str, int], tqdm]:
    def bar(label: str, total: int) -> tqdm:
        return tqdm(total=total, desc=label, unit="row", disable=not show, leave=False)

    return bar


def _begin(writer: StoreWriter, recipe: Recipe, reader: Reader, sources: Fingerprint, overwrite: bool) -> bool:
    """Prepare the root of the build; return whether there is anything left to build."""
    published = writer.published_attributes()
    if published.get("recipe_digest") == recipe.digest() and not overwrite:
        return False
    if published and not overwrite:
        raise StoreError(
            "there is already a different store at this location",
            given=f"{writer.path}, built from {published.get('name')!r} with other options or an older version",
            expected="a new location, or a store built from the same recipe",
            todo="choose another location with --out, or replace the store with --overwrite",
        )
    begun = writer.unfinished_attributes()
    if begun and begun.get("recipe_digest") != recipe.digest() and not overwrite:
        raise StoreError(
            "there is an unfinished build of another recipe at this location",
            given=f"{writer.path}, begun from {begun.get('name')!r} with other options or an older version",
            expected="a new location, or the recipe with which the build began",
            todo="build that recipe again to resume, choose another location with --out, or drop the unfinished build "
            "with --overwrite",
        )
    writer.checkout(BUILD)
    if writer.is_ahead and writer.root.attrs.get("recipe_digest") == recipe.digest():
        if not overwrite:
            refuse_changed(writer.path, writer.root, recipe, finished=False)
        if not source_changes(writer.root, recipe):
            return True  # resume an interrupted build of the same recipe from its last commit
    writer.restart()
    description = reader.description
    writer.root.attrs.update(
        {
            "neurorecon_schema": schema.SCHEMA_VERSION,
            "neurorecon_version": __version__,
            "name": recipe.name,
            "recipe": recipe.model_dump(exclude={"root", "models"}),
            "recipe_digest": recipe.digest(),
            "complete": False,
            "subjects": reader.subjects,
            "roi_groups": {**reader.roi_groups, **recipe.roi_groups},
            "frames_per_second": reader.frames_per_second(),
            "description": dict(vars(description)),
        }
    )
    remember_sources(writer.root, sources)
    writer.commit(f"{recipe.name}: begun")
    return True


def _checked_stimuli(reader: Reader) -> pd.DataFrame:
    table = reader.stimuli().reset_index(drop=True)
    if table["id"].duplicated().any():
        double = table.loc[table["id"].duplicated(), "id"].unique()[:5]
        raise InputError(
            "stimuli occur twice",
            given=f"ids {', '.join(map(str, double))}",
            expected="one row per stimulus; repeats are rows of the sample table",
            todo="remove duplicate rows from the table of stimuli",
        )
    unknown = sorted(set(table["kind"]) - {"image", "video", schema.OTHER})
    if unknown:
        raise InputError(
            "stimuli are of an unknown kind",
            given=f"kinds {', '.join(map(str, unknown))}",
            expected="'image' or 'video', or 'other' for stimuli that are neither",
            todo="fix the reader" + ("; 'film' is 'video' now" if "film" in unknown else ""),
        )
    other = (table["kind"] == schema.OTHER).to_numpy()
    if other.any() and not other[int(other.argmax()) :].all():
        raise InputError(
            "stimuli that are neither images nor videos do not come last",
            given=f"{table['id'][int(other.argmax())]}, with other stimuli behind it",
            expected="images, then videos, then the others",
            todo="fix the reader",
        )
    return table


def _check_subject(name: str, subject: SubjectData, stimuli: pd.DataFrame) -> None:
    missing = [column for column in SAMPLE_COLUMNS if column not in subject.samples]
    missing += [column for column in SPACE_COLUMNS[subject.space.kind] if column not in subject.voxels]
    if missing or name in schema.RESERVED_GROUPS:
        raise InputError(
            f"the tables of subject {name!r} lack columns, or its name is reserved",
            given=f"missing columns: {', '.join(missing) or 'none'}",
            expected=f"samples: {', '.join(SAMPLE_COLUMNS)}; voxels: {', '.join(SPACE_COLUMNS[subject.space.kind])}; a "
            f"name other than {', '.join(schema.RESERVED_GROUPS)}",
            todo="fix the reader",
        )
    check_columns(f"the samples of {name}", subject.samples)
    _check_numbers(name, subject.samples)
    _check_roi_names(name, subject.rois)
    unknown = set(subject.samples["stimulus"]) - set(stimuli["id"])
    if unknown:
        raise InputError(
            f"{name} saw stimuli that are not in the table of stimuli",
            given=", ".join(sorted(map(str, unknown))[:5]),
            expected="ids in the table of stimuli",
            todo="check the design file against the stimuli",
        )
    shown = subject.samples.groupby("stimulus")["split"].nunique()
    if (shown > 1).any():
        raise InputError(
            f"stimuli of {name} are in more than one split",
            given=", ".join(map(str, shown.index[shown > 1][:5])),
            expected="each stimulus in either train or test",
            todo="fix the split; scores on stimuli seen in training are not valid",
        )


#: Largest error of a stored time in seconds; float32 keeps times of up to three days to this.
TIME_ERROR = 0.01


def _check_numbers(name: str, samples: pd.DataFrame) -> None:
    """Refuse numbers that would change when they are stored."""
    for column in ("session", "run", "repeat", "time"):
        kind = np.float32 if column == "time" else np.int32
        values = pd.to_numeric(samples[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(values.astype(kind).astype(float) - values)
        wrong = np.flatnonzero(~(error <= (TIME_ERROR if column == "time" else 0)))
        if len(wrong):
            whole = f"whole numbers up to {np.iinfo(np.int32).max:,}, e.g. 1, 2, 3"
            raise InputError(
                f"the column {column!r} of the samples of {name} cannot be stored",
                given=f"{samples[column].iloc[wrong[0]]} in sample {wrong[0]} ({len(wrong):,} such values)",
                expected="seconds from the onset of each run" if column == "time" else whole,
                todo="fix the column",
            )


def _check_roi_names(name: str, rois: Mapping[str, np.ndarray]) -> None:
    for roi in rois:
        if not isinstance(roi, str) or not roi.strip() or roi != roi.strip() or not roi.isprintable():
            raise InputError(
                f"an ROI of {name} has a name that cannot be used",
                given=repr(roi),
                expected="printable characters, with spaces only between them",
                todo="rename the ROI",
            )


def _check_groups(recipe: Recipe, reader: Reader, subjects: Mapping[str, SubjectData]) -> None:
    known = {roi for subject in subjects.values() for roi in subject.rois}
    groups = {**reader.roi_groups, **recipe.roi_groups}
    for group, members in recipe.roi_groups.items():
        unknown = [member for member in members if member not in known and member not in groups]
        wrong = None
        if group != group.strip() or not group or not group.isprintable():
            wrong = "printable characters as its name, with spaces only between them"
        elif "+" in group or group.partition(".")[0] in ("lh", "rh"):
            wrong = (
                "a name without '+', which joins ROIs, and without the prefix lh. or rh., which selects a hemisphere"
            )
        elif group in known:
            wrong = "a name that no ROI has"
        elif not members:
            wrong = "at least one member"
        elif unknown:
            wrong = f"members among: {listed(sorted(known))}"
        elif cycle := _cycle(group, groups, known):
            wrong = f"members that do not contain the group itself ({' -> '.join(cycle)})"
        if wrong is not None:
            raise InputError(
                f"the group of ROIs {group!r} in the recipe is invalid",
                given=f"{group!r} = {members}",
                expected=wrong,
                todo="fix [roi_groups] in the recipe",
            )


def _cycle(group: str, groups: Mapping[str, Sequence[str]], rois: set[str]) -> list[str]:
    """Return a path from a group through its members back to itself; empty if there is none."""
    paths = [[group]]
    seen = set()
    while paths:
        path = paths.pop()
        for member in groups.get(path[-1], ()):
            if member == group:
                return [*path, member]
            if member not in seen and member not in rois:
                seen.add(member)
                paths.append([*path, member])
    return []


def _splits(stimuli: pd.DataFrame, subjects: Mapping[str, SubjectData]) -> np.ndarray:
    """Return the split of each stimulus over all subjects; ``""`` if no subject saw it."""
    seen = pd.concat([subject.samples[["stimulus", "split"]] for subject in subjects.values()]).drop_duplicates()
    double = seen["stimulus"][seen["stimulus"].duplicated()]
    if len(double):
        raise InputError(
            "stimuli are in the training split of one subject and in the test split of another",
            given=", ".join(map(str, double.iloc[:5])),
            expected="the same split for all subjects, as multi-subject models require",
            todo="fix the split in the data set's options",
        )
    return stimuli["id"].map(seen.set_index("stimulus")["split"]).fillna("").to_numpy().astype(str)


def _write_stimuli(
    writer: StoreWriter,
    reader: Reader,
    stimuli: pd.DataFrame,
    splits: np.ndarray,
    bar: Callable[[str, int], tqdm],
) -> None:
    base = schema.STIMULI
    captions = np.array(
        [[*list(row)[:CAPTIONS], *[""] * (CAPTIONS - len(row))] for row in stimuli["captions"]], dtype=object
    ).reshape(len(stimuli), CAPTIONS)
    writer.put(f"{base}/id", ["stimulus"], stimuli["id"].to_numpy())
    writer.put(f"{base}/kind", ["stimulus"], stimuli["kind"].to_numpy())
    writer.put(f"{base}/category", ["stimulus"], stimuli["category"].to_numpy())
    writer.put(f"{base}/split", ["stimulus"], splits)
    writer.put(f"{base}/caption", ["stimulus", "captions"], captions)
    labels = reader.labels()
    if labels is not None:
        writer.put(f"{base}/label_name", ["label"], labels.columns.to_numpy().astype(str))
        writer.put(f"{base}/labels", ["stimulus", "label"], labels.to_numpy(dtype=np.float32))
    image, video = reader.image_shape(), reader.video_shape()
    leaks: dict[str, Any] = {}
    if image is not None:
        shape, watch = (len(stimuli), *image), Watch(_images_or_zeros(reader, stimuli, image), len(stimuli))
        with bar("images", len(stimuli)) as shown:
            dims = ["stimulus", "y", "x", "rgb"]
            writer.stream(f"{base}/images", dims, shape, "uint8", watch, progress=shown.update)
        # A video is more than its middle frame; videos are compared below.
        of_images = np.where((stimuli["kind"] == "image").to_numpy(), splits, "")
        leaks["images"] = watch.leaks(writer.root[f"{base}/images"], stimuli["id"].tolist(), of_images)
    if video is not None:
        moving = (stimuli["kind"] == "video").to_numpy()
        videos = stimuli["id"][moving].to_numpy()
        watch = Watch(reader.read_frames, len(videos))
        writer.put(f"{base}/video", ["video"], videos)
        with bar("videos", len(videos)) as shown:
            dims = ["video", "frame", "y", "x", "rgb"]
            writer.stream(f"{base}/frames", dims, (len(videos), *video), "uint8", watch, progress=shown.update)
        leaks["frames"] = watch.leaks(writer.root[f"{base}/frames"], videos.tolist(), splits[moving])
    for what, found in leaks.items():
        if found:
            logger.warning("warning: %s", describe(found, what))
    writer.root[base].attrs[LEAKS] = leaks
    writer.root[base].attrs["counts"] = count_stimuli(stimuli.assign(split=splits))
    writer.commit("stimuli")


def _images_or_zeros(reader: Reader, stimuli: pd.DataFrame, image: tuple[int, ...]) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads images, and returns zeros for the stimuli at the end that have none."""
    number = int((stimuli["kind"] != schema.OTHER).sum())

    def read(start: int, stop: int) -> np.ndarray:
        if stop <= number:
            return reader.read_images(start, stop)
        found = np.zeros((stop - start, *image), dtype=np.uint8)
        if start < number:
            found[: number - start] = reader.read_images(start, number)
        return found

    return read


def _write_subject(writer: StoreWriter, name: str, subject: SubjectData, bar: Callable[[str, int], tqdm]) -> None:
    order = roi_order(subject.rois, len(subject.voxels))
    _write_tables(writer, name, subject, order)
    shape = (len(subject.samples), len(order))

    def read(start: int, stop: int) -> np.ndarray:
        return _checked_block(name, subject.read_responses(start, stop), start)[:, order]

    with bar(f"{name} responses", shape[0]) as shown:
        # xarray decodes the names in "coordinates" as coordinates, also in exported stores.
        names = " ".join([*SAMPLE_COLUMNS, *further_columns(subject.samples), *_voxel_columns(subject)])
        writer.stream(
            f"{name}/responses",
            ["sample", "voxel"],
            shape,
            "float32",
            read,
            {"coordinates": names},
            progress=shown.update,
        )
    if f"{name}/noise_ceiling" not in writer.root:
        stated = subject.voxels["ncsnr"].to_numpy()[order] if "ncsnr" in subject.voxels else None
        found = noise_ceilings(
            writer.root[f"{name}/responses"],
            subject.samples.reset_index(drop=True),
            stated,
            subject.repetition_time,
            subject.ncsnr_tasks,
        )
        found.write(writer, name, stated is not None)
    writer.commit(f"{name}: responses and noise ceilings")


def _write_tables(writer: StoreWriter, name: str, subject: SubjectData, order: np.ndarray) -> None:
    for column in SAMPLE_COLUMNS:
        values = subject.samples[column].to_numpy()
        kind = str if column in schema.TEXT_COLUMNS else np.float32 if column == "time" else np.int32
        writer.put(f"{name}/{column}", ["sample"], values.astype(kind))
    for column in further_columns(subject.samples):
        writer.put(f"{name}/{column}", ["sample"], column_values(subject.samples[column]))
    for column in _voxel_columns(subject):
        writer.put(f"{name}/{column}", ["voxel"], subject.voxels[column].to_numpy()[order])
    writer.put(f"{name}/roi", ["roi"], np.array(list(subject.rois), dtype=str))
    masks = np.array([np.asarray(mask, dtype=bool)[order] for mask in subject.rois.values()])
    writer.put(f"{name}/roi_mask", ["roi", "voxel"], masks.reshape(len(subject.rois), len(order)))
    for key, values in subject.truth.items():
        dims = (
            ["voxel"] if np.ndim(values) == 1 else [*(f"{key}_{axis}" for axis in range(np.ndim(values) - 1)), "voxel"]
        )
        writer.put(f"{name}/truth_{key}", dims, np.asarray(values)[..., order])
    attributes: dict[str, Any] = {
        "space": subject.space.to_dict(),
        "sample_columns": further_columns(subject.samples),
        "voxel_columns": _voxel_columns(subject),
        "repetition_time": dict(subject.repetition_time),
        "report": dict(subject.report),
        "counts": count_samples(subject.samples),
        "roi_voxels": count_voxels(subject.rois),
    }
    writer.root[name].attrs.update(attributes)


def _voxel_columns(subject: SubjectData) -> list[str]:
    return [*SPACE_COLUMNS[subject.space.kind], *subject.voxel_columns]


def roi_order(rois: Mapping[str, np.ndarray], voxels: int) -> np.ndarray:
    """Return the order in which voxels are written: by the first ROI that contains them, the rest last.

    An ROI then consists of a few stretches of contiguous columns; reading scattered columns takes 13-33 times as long.
    """
    first = np.full(voxels, len(rois))
    for number, mask in reversed(list(enumerate(rois.values()))):
        first[np.asarray(mask, dtype=bool)] = number
    return np.argsort(first, kind="stable")


def _checked_block(name: str, values: np.ndarray, start: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"the responses of {name} contain NaN or infinity",
            given=f"{int((~finite).sum())} such values, the first in sample {start + row}, voxel {column}",
            expected="finite responses",
            todo="exclude such voxels with the options of the reader, or fix the files",
        )
    return values


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
    """Build a store from arrays in memory.

    The same checks apply as for a folder of files. For several subjects, pass `responses`, `samples`, `voxels`, `rois`
    and `mask` as dicts by subject; any of them that is not a dict applies to all subjects.

    Parameters
    ----------
    path : path
        Location of the store, ``NAME.icechunk``.
    responses : array, shape (sample, voxel), or dict of str to array
        NumPy arrays, memory maps, HDF5 data sets, Zarr or dask arrays, read in slices.
    samples : DataFrame, dict of columns, or sequence of stimuli
        One row per row of the responses. ``stimulus`` is required; rows where it is empty are rest and are dropped.
        ``session``, ``run``, ``repeat``, ``split``, ``time`` (s) and ``task`` are optional. Other columns are stored
        unchanged.
    stimuli : DataFrame or dict of columns, optional
        One row per stimulus. ``id`` is required; ``kind``, ``category``, ``caption`` (or ``caption1`` to
        ``caption5``), ``file`` and ``split`` are optional. By default, the stimuli are the images, by number or file
        name, or those named in `samples`.
    images : array, uint8, shape (stimulus, y, x, rgb), or path of a folder, optional
        Stimuli that are images, in the order of the stimulus table.
    frames : array, uint8, shape (video, frame, y, x, rgb), optional
        Stimuli that are videos, in the order of the stimulus table.
    labels : DataFrame, optional
        A column ``stimulus`` and numeric columns.
    voxels : DataFrame or dict of columns, optional
        One row per voxel: ``i``, ``j``, ``k`` or ``hemisphere``, ``vertex``; ``roi``, or one column of 0 and 1 per
        ROI; ``ncsnr``.
    rois : dict of str to bool array, shape (voxel,), optional
        Mask of each ROI, instead of columns of `voxels`.
    mask : NIfTI image or path, optional
        Brain mask. Without columns ``i``, ``j``, ``k``, the voxels are those of the mask in the order of
        ``numpy.nonzero``.
    roi_groups : dict of str to list of str, optional
        Groups of ROIs.
    overwrite : bool
        Replace an existing store of other data.
    progress : bool
        Whether to show progress bars on stderr.
    **options
        Options of the reader ``arrays``: ``repetition_time``, ``transpose``, ``test_share``, ``test_stimuli``,
        ``seed``, ``bad_voxels``, ``affine``, ``shape``, ``mesh``, ``image_size``, ``frames_per_second``, ``title``,
        ``citation``, ``terms``, ``units``, ``simulated``.

    Returns
    -------
    Store
        The store. An existing store of the same data is not built again.

    Raises
    ------
    InputError
        If arrays and tables do not match. Nothing is written in this case.
    StoreError
        If there is a store of other data at this location.

    Examples
    --------
    >>> store = neurorecon.build_from_arrays(
    ...     "mine.icechunk", betas, samples={"stimulus": shown}, images=images, rois={"V1": in_v1}
    ... )  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix != ".icechunk":
        raise InputError(
            "the name of a new store must end in .icechunk",
            given=str(path),
            expected="NAME.icechunk",
            todo="change the name; to write plain Zarr, export the store with export_store",
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
