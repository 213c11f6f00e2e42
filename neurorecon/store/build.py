"""Build a store from a reader: tables, stimuli, responses, noise ceilings. Interrupted builds go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from neurorecon import __version__
from neurorecon.datasets.base import SAMPLE_COLUMNS, Reader, SubjectData
from neurorecon.datasets.columns import check_columns, column_values, further_columns
from neurorecon.datasets.recipe import Recipe
from neurorecon.datasets.sources import Fingerprint
from neurorecon.errors import InputError, MissingFileError, StoreError, StoreWriteError
from neurorecon.space import SPACE_COLUMNS
from neurorecon.store import schema
from neurorecon.store.backend import open_for_reading
from neurorecon.store.ceiling import noise_ceilings
from neurorecon.store.counts import count_samples, count_stimuli, count_voxels, median_ceilings
from neurorecon.store.sources import read_sources, refuse_changed, remember_sources, source_changes
from neurorecon.store.writer import BUILD, StoreWriter

#: A captioned picture has up to this many captions, as in COCO.
CAPTIONS = 5


def build_store(recipe: Recipe, path: str | Path, *, overwrite: bool = False, progress: bool = True) -> Path:
    """Build a store, or finish one whose build was interrupted.

    Parameters
    ----------
    recipe : Recipe
        What to build.
    path : path
        Where: ``NAME.icechunk``.
    overwrite : bool
        Build anew, in place of what is there, once the new store is complete. Older states stay in the history.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    Path
        The store. A store that is complete already is left as it is.

    Raises
    ------
    StoreError
        Where another store is in the way, the files of the data set changed since this one was built (or its build was
        interrupted), or another process is writing.
    StoreWriteError
        Where the disk is full or read-only. The same call goes on behind the last commit.
    InputError
        Where the data set is not as it should be. Nothing of it is committed then.
    """
    finished = None if overwrite else _finished(path, recipe)
    if finished is not None:  # neither the raw files nor the right to write are needed
        refuse_changed(path, finished, recipe, finished=True)
        return Path(path)
    reader = recipe.open()
    sources = read_sources(recipe)  # now: a file that changes while it is read shows in the next build
    # Everything that can be wrong with the tables shows before a byte is written.
    stimuli = _checked_stimuli(reader)
    subjects = {name: reader.subject(name) for name in reader.subjects}
    for name, subject in subjects.items():
        _check_subject(name, subject, stimuli)
    _check_groups(recipe, reader, subjects)
    with StoreWriter(path) as writer:
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
            raise  # the data are sound: the next call goes on behind the last commit
        except InputError:
            # What was built before the fault showed is of no use. Only we hold the lock here.
            writer.abandon()
            raise
    return Path(path)


def _finished(path: str | Path, recipe: Recipe) -> Any:
    """Return the root of the store of this recipe, or None where there is none that is complete."""
    try:
        root, _ = open_for_reading(str(path))
    except (MissingFileError, StoreError):  # whatever is there is looked at again, under the lock
        return None
    return root if root.attrs.get("complete") and root.attrs.get("recipe_digest") == recipe.digest() else None


def _bars(show: bool) -> Callable[[str, int], tqdm]:
    def bar(label: str, total: int) -> tqdm:
        return tqdm(total=total, desc=label, unit="row", disable=not show, leave=False)

    return bar


def _begin(writer: StoreWriter, recipe: Recipe, reader: Reader, sources: Fingerprint, overwrite: bool) -> bool:
    """Prepare the root of the build; return whether anything is left to do."""
    published = writer.published_attributes()
    if published.get("recipe_digest") == recipe.digest() and not overwrite:
        return False
    if published and not overwrite:
        raise StoreError(
            "another store is in the way",
            given=f"{writer.path}, built from {published.get('name')!r} with other options or an older version",
            expected="a new place, or a store that was built from the same recipe",
            todo="choose another place with --out, or replace it with --overwrite",
        )
    writer.checkout(BUILD)
    if writer.is_ahead and writer.root.attrs.get("recipe_digest") == recipe.digest():
        if not overwrite:
            refuse_changed(writer.path, writer.root, recipe, finished=False)
        if not source_changes(writer.root, recipe):
            return True  # an interrupted build of the same recipe: go on behind its last commit
    writer.restart()
    description = reader.description
    writer.root.attrs.update(
        {
            "neurorecon_schema": schema.SCHEMA_VERSION,
            "neurorecon_version": __version__,
            "name": recipe.name,
            "recipe": recipe.model_dump(exclude={"root"}),
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
            expected="every stimulus once; its repeats are rows of the sample table",
            todo="mend the table of stimuli",
        )
    return table


def _check_subject(name: str, subject: SubjectData, stimuli: pd.DataFrame) -> None:
    missing = [column for column in SAMPLE_COLUMNS if column not in subject.samples]
    missing += [column for column in SPACE_COLUMNS[subject.space.kind] if column not in subject.voxels]
    if missing or name in schema.RESERVED_GROUPS:
        raise InputError(
            f"the tables of {name} lack columns, or the name is taken",
            given=f"without {', '.join(missing) or '(all there)'}",
            expected=f"samples: {', '.join(SAMPLE_COLUMNS)}; voxels: as the space needs",
            todo="mend the reader",
        )
    check_columns(f"the samples of {name}", subject.samples)
    unknown = set(subject.samples["stimulus"]) - set(stimuli["id"])
    if unknown:
        raise InputError(
            f"{name} saw stimuli that are not in the table of stimuli",
            given=", ".join(sorted(map(str, unknown))[:5]),
            expected="ids of the table of stimuli",
            todo="check the design file against the stimuli",
        )
    shown = subject.samples.groupby("stimulus")["split"].nunique()
    if (shown > 1).any():
        raise InputError(
            f"stimuli of {name} are in more than one split",
            given=", ".join(map(str, shown.index[shown > 1][:5])),
            expected="train and test without a stimulus in common",
            todo="mend the split; a score on stimuli seen in training says nothing",
        )


def _check_groups(recipe: Recipe, reader: Reader, subjects: Mapping[str, SubjectData]) -> None:
    known = {roi for subject in subjects.values() for roi in subject.rois}
    groups = {**reader.roi_groups, **recipe.roi_groups}
    for group, members in recipe.roi_groups.items():
        unknown = [member for member in members if member not in known and member not in groups]
        if unknown or group in known:
            raise InputError(
                f"the group of ROIs {group!r} in the recipe cannot be used",
                given=f"members {', '.join(members)}",
                expected=f"a name of its own, and members among: {', '.join(sorted(known))}",
                todo="mend [roi_groups] in the recipe",
            )


def _splits(stimuli: pd.DataFrame, subjects: Mapping[str, SubjectData]) -> np.ndarray:
    """Return the split of each stimulus, over all subjects; ``""`` where nobody saw it."""
    seen = pd.concat([subject.samples[["stimulus", "split"]] for subject in subjects.values()]).drop_duplicates()
    double = seen["stimulus"][seen["stimulus"].duplicated()]
    if len(double):
        raise InputError(
            "stimuli are trained on in one subject and tested on in another",
            given=", ".join(map(str, double.iloc[:5])),
            expected="one split for all subjects, so that models of several subjects stay honest",
            todo="mend the split in the data set's options",
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
    image, film = reader.image_shape(), reader.film_shape()
    if image is not None:
        shape = (len(stimuli), *image)
        with bar("pictures", len(stimuli)) as shown:
            dims = ["stimulus", "y", "x", "rgb"]
            writer.stream(f"{base}/images", dims, shape, "uint8", reader.read_images, progress=shown.update)
    if film is not None:
        films = stimuli["id"][stimuli["kind"] == "film"].to_numpy()
        writer.put(f"{base}/film", ["film"], films)
        with bar("films", len(films)) as shown:
            dims = ["film", "frame", "y", "x", "rgb"]
            writer.stream(
                f"{base}/frames", dims, (len(films), *film), "uint8", reader.read_frames, progress=shown.update
            )
    writer.root[base].attrs["counts"] = count_stimuli(stimuli.assign(split=splits))
    writer.commit("stimuli")


def _write_subject(writer: StoreWriter, name: str, subject: SubjectData, bar: Callable[[str, int], tqdm]) -> None:
    order = roi_order(subject.rois, len(subject.voxels))
    _write_tables(writer, name, subject, order)
    shape = (len(subject.samples), len(order))

    def read(start: int, stop: int) -> np.ndarray:
        return _checked_block(name, subject.read_responses(start, stop), start)[:, order]

    with bar(f"{name} responses", shape[0]) as shown:
        # xarray takes the names in "coordinates" as coordinates, also in an exported store.
        names = " ".join([*SAMPLE_COLUMNS, *further_columns(subject.samples), *SPACE_COLUMNS[subject.space.kind]])
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
        ceilings = noise_ceilings(writer.root[f"{name}/responses"], subject.samples, stated)
        writer.put(f"{name}/repeated_task", ["repeated_task"], np.array(ceilings.tasks))
        what = {
            "test_repeats": dict(zip(ceilings.tasks, ceilings.test_repeats, strict=True)),
            "source": "repeats" if stated is None else "ncsnr stated by the data set",
        }
        writer.put(f"{name}/ncsnr", ["repeated_task", "voxel"], ceilings.ncsnr)
        writer.put(f"{name}/noise_ceiling", ["repeated_task", "voxel"], ceilings.noise_ceiling, what)
        writer.root[name].attrs["median_ceilings"] = median_ceilings(ceilings.tasks, ceilings.noise_ceiling)
    writer.commit(f"{name}: responses and noise ceilings")


def _write_tables(writer: StoreWriter, name: str, subject: SubjectData, order: np.ndarray) -> None:
    for column in SAMPLE_COLUMNS:
        values = subject.samples[column].to_numpy()
        kind = str if column in schema.TEXT_COLUMNS else np.float32 if column == "time" else np.int32
        writer.put(f"{name}/{column}", ["sample"], values.astype(kind))
    for column in further_columns(subject.samples):
        writer.put(f"{name}/{column}", ["sample"], column_values(subject.samples[column]))
    for column in SPACE_COLUMNS[subject.space.kind]:
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
        "voxel_columns": list(SPACE_COLUMNS[subject.space.kind]),
        "repetition_time": dict(subject.repetition_time),
        "report": dict(subject.report),
        "counts": count_samples(subject.samples),
        "roi_voxels": count_voxels(subject.rois),
    }
    writer.root[name].attrs.update(attributes)


def roi_order(rois: Mapping[str, np.ndarray], voxels: int) -> np.ndarray:
    """Return the order in which voxels are written: by the first ROI that holds them, the rest last.

    Reading an ROI then takes a few runs of neighboring columns; scattered ones cost 13-33 times as much.
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
            f"the responses of {name} hold values that are not numbers",
            given=f"{int((~finite).sum())} of them, the first in sample {start + row}, voxel {column}",
            expected="finite responses",
            todo="leave such voxels out in the reader's options, or mend the files",
        )
    return values
