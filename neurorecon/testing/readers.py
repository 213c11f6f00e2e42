"""The contract of readers, as checks that third parties can run on their own readers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.base import (
    SAMPLE_COLUMNS,
    STIMULUS_COLUMNS,
    Description,
    Options,
    Reader,
    SubjectData,
    can_be_stored,
    further_columns,
)
from neurorecon.errors import InputError
from neurorecon.space import SPACE_COLUMNS, Space
from neurorecon.testing.contract import (
    Check,
    expect,
    expect_columns,
    expect_integers,
    expect_slices,
    expect_strings,
    run_all,
)


def check_samples(reader: Reader, max_samples: int) -> None:
    """The table of samples is valid."""
    known = set(reader.stimuli()["id"])
    for name in reader.subjects:
        table, what = reader.subject(name).samples, f"samples of {name}"
        expect_columns(table, SAMPLE_COLUMNS, what)
        expect(len(table) > 0, f"{what} has to have at least one row.")
        for column in ("stimulus", "task", "split"):
            expect_strings(table[column], f"{what}['{column}']")
        wrong = [column for column in further_columns(table) if not can_be_stored(column)]
        expect(
            not wrong,
            f"Further columns of {what} need names of letters, digits, '_', '.' and '-' that have no other meaning in "
            f"a store, but {wrong[:1]} is among them.",
        )
        strangers = sorted(set(table["stimulus"]) - known)
        expect(not strangers, f"{what} has to name stimuli of stimuli(), but {strangers[:1]} is unknown.")
        for column in ("session", "run", "repeat"):
            expect_integers(table[column], f"{what}['{column}']", minimum=1)
        expect(
            pd.api.types.is_float_dtype(table["time"].dtype),
            f"{what}['time'] has to be a column of floats (seconds), but is of {table['time'].dtype}.",
        )
        expect(
            np.isfinite(table["time"]).all() and (table["time"] >= 0).all(),
            f"{what}['time'] has to be finite and not negative: seconds from the onset of the run.",
        )


def check_repeats(reader: Reader, max_samples: int) -> None:
    """Presentations of a stimulus are numbered from 1 without gaps; each has one trial estimate."""
    for name in reader.subjects:
        data = reader.subject(name)
        for (task, stimulus), repeats in data.samples.groupby(["task", "stimulus"])["repeat"]:
            found = sorted(repeats)
            expect(
                sorted(set(found)) == list(range(1, max(found) + 1)),
                "Presentations of a stimulus have to be numbered from 1 without a gap, but "
                f"{stimulus!r} of {name} "
                f"has {sorted(set(found))} in the task {task!r}.",
            )
            expect(
                task in data.repetition_time or len(set(found)) == len(found),
                "Each presentation has to be one sample where samples are trial estimates, but "
                f"{stimulus!r} of "
                f"{name} has the repeats {found} in the task {task!r}.",
            )


def check_repetition_time(reader: Reader, max_samples: int) -> None:
    """Tasks of time series exist, and their volumes are equally spaced."""
    for name in reader.subjects:
        data = reader.subject(name)
        for task, seconds in data.repetition_time.items():
            rows = data.samples[data.samples["task"] == task]
            expect(len(rows) > 0, f"repetition_time of {name} has to name tasks of its samples, not {task!r}.")
            expect(
                np.isfinite(seconds) and seconds > 0,
                f"repetition_time[{task!r}] of {name} has to be a positive number of seconds, but is {seconds!r}.",
            )
            for (session, run), times in rows.groupby(["session", "run"])["time"]:
                steps = np.diff(times.to_numpy()) / seconds
                expect(
                    (steps > 0.5).all() and np.allclose(steps, np.round(steps), atol=1e-3),
                    f"Volumes of a time series have to follow each other in steps of {seconds:g} s, "
                    "but those of "
                    f"{name}, task {task!r}, session {session}, run {run} do not.",
                )


def check_voxels(reader: Reader, max_samples: int) -> None:
    """The table of voxels and their positions are valid."""
    for name in reader.subjects:
        data = reader.subject(name)
        table, what = data.voxels, f"voxels of {name}"
        expect(isinstance(table, pd.DataFrame), f"{what} has to be a DataFrame, not a {type(table).__name__}.")
        expect(len(table) > 0, f"{what} has to have at least one row.")
        expect(isinstance(data.space, Space), f"space of {name} has to be a Space.")
        needed = SPACE_COLUMNS[data.space.kind]
        missing = [column for column in needed if column not in table]
        expect(
            not missing,
            f"{what} has to have the columns {', '.join(needed)}, but lacks {', '.join(missing)}.",
        )
        if needed:
            expect(not table.duplicated(list(needed)).any(), f"{what} has to hold each position once.")
        _expect_positions(table, data.space, what)
        if "ncsnr" in table:
            ncsnr = table["ncsnr"].to_numpy(dtype=float)
            expect(
                np.isfinite(ncsnr).all() and (ncsnr >= 0).all(),
                f"{what}['ncsnr'] has to be finite and not negative.",
            )


def _expect_positions(table: pd.DataFrame, space: Space, what: str) -> None:
    """Expect indices inside the volume, or vertices of the mesh."""
    if space.kind == "volume":
        expect(
            space.shape is not None and space.affine is not None and np.shape(space.affine) == (4, 4),
            f"The space of {what} has to have a shape and an affine (4, 4).",
        )
        for column, size in zip("ijk", space.shape or (), strict=True):
            expect_integers(table[column], f"{what}['{column}']", minimum=0)
            expect(
                table[column].max() < size,
                f"{what}['{column}'] has to be below {size}, the size of the volume, but reaches "
                f"{table[column].max()}.",
            )
    elif space.kind == "surface":
        expect(
            set(table["hemisphere"]) <= {"left", "right"},
            f"{what}['hemisphere'] has to be 'left' or 'right', but holds {sorted(set(table['hemisphere']))}.",
        )
        expect_integers(table["vertex"], f"{what}['vertex']", minimum=0)
        expect(
            set(space.vertices) == {"left", "right"},
            f"The space of {what} has to have the number of vertices of 'left' and 'right'.",
        )
        for hemisphere, vertices in table.groupby("hemisphere")["vertex"]:
            expect(
                vertices.max() < space.vertices[str(hemisphere)],
                f"{what}['vertex'] has to be below {space.vertices[str(hemisphere)]} in the {hemisphere} "
                f"hemisphere, but reaches {vertices.max()}.",
            )


def check_rois(reader: Reader, max_samples: int) -> None:
    """ROIs are boolean masks of the voxels, and none is empty."""
    for name in reader.subjects:
        data = reader.subject(name)
        expect(
            len(data.rois) > 0,
            f"rois of {name} has to hold at least one ROI; use one of all voxels if there is no other.",
        )
        expect_strings(data.rois, f"rois of {name}")
        for roi, member in data.rois.items():
            what = f"The ROI {roi!r} of {name}"
            expect(isinstance(member, np.ndarray), f"{what} has to be a NumPy array.")
            expect(member.dtype == bool, f"{what} has to be of bool, but is of {member.dtype}.")
            expect(
                member.shape == (len(data.voxels),),
                f"{what} has to have the shape ({len(data.voxels)},), but has {member.shape}.",
            )
            expect(member.any(), f"{what} has to have at least one voxel.")
            expect(roi not in reader.roi_groups, f"{what} has to have a name that is not that of a group.")
    for group, members in reader.roi_groups.items():
        expect(
            isinstance(members, list) and members,
            f"The group {group!r} of ROIs has to be a list of names that is not empty, but is {members!r}.",
        )
        expect_strings(members, f"the group {group!r} of ROIs")


def check_space(reader: Reader, max_samples: int) -> None:
    """The space survives JSON, and ``unmask`` puts values at the positions of their voxels."""
    for name in reader.subjects:
        data = reader.subject(name)
        twin = Space.from_dict(json.loads(json.dumps(data.space.to_dict())))
        expect(twin == data.space, f"The space of {name} has to survive a round trip through JSON.")
        values = np.arange(1, len(data.voxels) + 1, dtype=np.float32)
        if data.space.kind == "none":
            try:
                data.space.unmask(values, data.voxels)
            except InputError:
                continue
            expect(False, f"The space of {name} is 'none', so unmask has to raise InputError.")
        image = data.space.unmask(values, data.voxels, fill=0.0)
        found = _values_in(image, data)
        expect(
            np.array_equal(found, values),
            f"unmask has to put the values of {name} at the positions of their voxels.",
        )


def _values_in(image: Any, data: SubjectData) -> np.ndarray:
    """Read an image at the positions of the voxels."""
    table = data.voxels
    if data.space.kind == "volume":
        return np.asarray(image.dataobj)[table["i"], table["j"], table["k"]]
    if data.space.kind == "surface":
        found = np.empty(len(table), dtype=np.float32)
        for hemisphere in ("left", "right"):
            rows = (table["hemisphere"] == hemisphere).to_numpy()
            found[rows] = image.data.parts[hemisphere][table["vertex"].to_numpy()[rows]]
        return found
    # Grayordinates are returned by structure, so look them up one structure at a time.
    found = np.empty(len(table), dtype=np.float32)
    row = np.asarray(image.get_fdata(), dtype=np.float32)[0]
    structure = table["structure"].to_numpy().astype(str)
    for label, part, _ in image.header.get_axis(1).iter_structures():
        found[structure == label] = row[part]
    return found


def check_responses(reader: Reader, max_samples: int) -> None:
    """Responses are finite float32, the same for any way of slicing, and differ between samples."""
    for name in reader.subjects:
        data = reader.subject(name)
        what = f"read_responses of {name}"
        rows = expect_slices(data.read_responses, len(data.samples), np.float32, (len(data.voxels),), what, max_samples)
        expect(np.isfinite(rows).all(), f"{what} has to return finite numbers.")
        expect(
            len(rows) < 2 or np.ptp(rows, axis=0).any(),
            f"{what} has to return responses that differ from sample to sample.",
        )


def check_truth(reader: Reader, max_samples: int) -> None:
    """Only simulated data have a ground truth, with voxels on its last axis."""
    for name in reader.subjects:
        data = reader.subject(name)
        expect(
            reader.description.simulated or not data.truth,
            f"truth of {name} has to be empty unless the data are simulated.",
        )
        for key, values in data.truth.items():
            expect(
                isinstance(values, np.ndarray) and values.shape[-1:] == (len(data.voxels),),
                f"truth[{key!r}] of {name} has to be an array whose last axis has {len(data.voxels)} "
                "voxels, but "
                f"has the shape {np.shape(values)}.",
            )


SUBJECT_CHECKS: tuple[Callable[[Reader, int], None], ...] = (
    check_samples,
    check_repeats,
    check_repetition_time,
    check_voxels,
    check_rois,
    check_space,
    check_responses,
    check_truth,
)

#: Default maximum number of rows to read at a time.
MAX_SAMPLES = 16


class ReaderCheck(Check):
    """One check of the contract; its function takes the reader and the largest number of rows to read at a time."""

    def __call__(self, reader: Reader, *, max_samples: int = MAX_SAMPLES) -> None:
        """Run the check.

        Raises
        ------
        ContractError
            If the reader violates the contract. Exceptions of the reader itself are not caught.
        """
        self.function(reader, max_samples)


def reader_checks() -> list[ReaderCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", reader_checks(), ids=str)``."""
    return ReaderCheck.of(CHECKS)


def check_reader(reader: Reader, *, max_samples: int = MAX_SAMPLES) -> list[str]:
    """Run all checks on a reader.

    Parameters
    ----------
    reader : Reader
        Reader that is opened on data; a miniature of the layout is enough.
    max_samples : int
        Maximum number of rows to read at a time, so that large data sets can be checked, too.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed, with one line per failure: the name of the check and what was expected.
    """
    name = getattr(reader, "name", type(reader).__name__)
    return run_all(reader_checks(), reader, max_samples, what="reader", name=repr(name))


def check_name(reader: Reader, max_samples: int) -> None:
    """The class and its attributes are valid."""
    expect(isinstance(reader, Reader), "A reader has to be an instance of neurorecon.datasets.base.Reader.")
    name = getattr(reader, "name", None)
    expect(
        isinstance(name, str) and name.isidentifier() and name == name.lower(),
        f"name has to be a lower-case identifier, e.g. 'miyawaki2008', but is {name!r}.",
    )
    expect(
        isinstance(reader.needs_root, bool),
        f"needs_root has to be True or False, but is {reader.needs_root!r}.",
    )


def check_options(reader: Reader, max_samples: int) -> None:
    """Options reject unknown keys, are frozen, and survive JSON and pickle."""
    model = type(reader).Options
    expect(
        isinstance(model, type) and issubclass(model, Options),
        "Options has to be a subclass of neurorecon.datasets.base.Options.",
    )
    expect(
        isinstance(reader.options, model),
        f"options has to be an instance of {model.__name__}, but is a {type(reader.options).__name__}.",
    )
    expect(model.model_config.get("extra") == "forbid", "Options has to refuse unknown keys (extra='forbid').")
    expect(
        model.model_config.get("frozen") is True,
        "Options has to be frozen (frozen=True), so that a reader cannot change.",
    )
    expect(
        model.model_validate_json(reader.options.model_dump_json()) == reader.options,
        "Options have to survive a round trip through JSON, because the store keeps them as JSON.",
    )
    expect(
        pickle.loads(pickle.dumps(reader.options)) == reader.options,
        "Options have to survive pickling, because they are sent to workers.",
    )


def check_description(reader: Reader, max_samples: int) -> None:
    """The description of the data set is complete."""
    description = reader.description
    expect(
        isinstance(description, Description),
        f"description has to be a Description, but is a {type(description).__name__}.",
    )
    expect(
        isinstance(description.simulated, bool),
        f"description.simulated has to be True or False, but is {description.simulated!r}.",
    )
    for item in fields(description):
        value = getattr(description, item.name)
        if item.name == "simulated":
            continue
        expect(isinstance(value, str), f"description.{item.name} has to be a string, but is {value!r}.")
        expect(value or item.name == "notes", f"description.{item.name} has to say something, but is empty.")
    expect("\n" not in description.title, "description.title has to be one line.")


def check_determinism(reader: Reader, max_samples: int) -> None:
    """A second reader with the same folder and options returns the same data."""
    twin = type(reader)(reader.root, reader.options)
    expect(
        reader.stimuli().equals(twin.stimuli()),
        "stimuli() has to be the same in a second reader with the same root and options.",
    )
    expect(
        reader.subjects == twin.subjects,
        "subjects has to be the same in a second reader with the same root and options.",
    )
    for name in reader.subjects:
        one, other = reader.subject(name), twin.subject(name)
        expect(
            one.samples.equals(other.samples) and one.voxels.equals(other.voxels),
            f"samples and voxels of {name} have to be the same in a second reader.",
        )
        stop = min(len(one.samples), max_samples)
        expect(
            np.array_equal(one.read_responses(0, stop), other.read_responses(0, stop), equal_nan=True),
            f"responses of {name} have to be the same in a second reader with the same root and options.",
        )


def check_stimuli(reader: Reader, max_samples: int) -> None:
    """The table of stimuli is valid."""
    table = reader.stimuli()
    expect_columns(table, STIMULUS_COLUMNS, "stimuli()")
    expect(len(table) > 0, "stimuli() has to have at least one row.")
    expect_strings(table["id"], "stimuli()['id']")
    twice = table["id"][table["id"].duplicated()].tolist()
    expect(not twice, f"stimuli()['id'] has to be unique, but {twice[:1]} occurs twice.")
    kinds = table["kind"].tolist()
    expect(
        set(kinds) <= {"image", "video", "other"},
        f"stimuli()['kind'] has to be 'image', 'video' or 'other', but holds {sorted(set(map(str, kinds)))}.",
    )
    expect(
        kinds == sorted(kinds, key=["image", "video", "other"].index),
        "stimuli() has to list videos after the images, and the others last.",
    )
    expect_strings(table["category"], "stimuli()['category']")
    for identifier, captions in zip(table["id"], table["captions"], strict=True):
        expect(
            isinstance(captions, list),
            f"stimuli()['captions'] has to hold lists, but holds a {type(captions).__name__} for {identifier!r}.",
        )
        expect(
            len(captions) <= 5,
            f"A stimulus has at most five captions, but {identifier!r} has {len(captions)}.",
        )
        expect_strings(captions, f"the captions of {identifier!r}")


def check_labels(reader: Reader, max_samples: int) -> None:
    """Labels, if there are any, are finite numbers, one row per stimulus."""
    labels = reader.labels()
    if labels is None:
        return
    expect(
        isinstance(labels, pd.DataFrame),
        f"labels() has to be a DataFrame or None, but is a {type(labels).__name__}.",
    )
    expect(
        len(labels) == len(reader.stimuli()),
        f"labels() has to have a row for each of the {len(reader.stimuli())} stimuli, but has {len(labels)}.",
    )
    expect_strings(labels.columns, "the columns of labels()")
    expect(labels.columns.is_unique, "labels() has to have unique column names.")
    unlabeled = labels.isna().all(axis=1).to_numpy()  # nobody labeled these stimuli
    for column in labels:
        numeric = pd.api.types.is_numeric_dtype(labels[column].dtype)
        expect(numeric, f"labels()[{column!r}] has to be numeric, but is of {labels[column].dtype}.")
        values = labels[column].to_numpy(dtype=float)[~unlabeled]
        expect(np.isfinite(values).all(), f"labels()[{column!r}] has to be finite, or all labels of a stimulus NaN.")


def check_images(reader: Reader, max_samples: int) -> None:
    """Images are uint8, and the same for any way of slicing."""
    shape = reader.image_shape()
    if shape is None:
        # A data set may list its stimuli without containing them; then it cannot return images either.
        expect(not _hands_out(reader.read_images), "image_shape() has to be given if read_images returns images.")
        return
    expect(
        isinstance(shape, tuple) and len(shape) == 3 and shape[2] == 3 and min(shape) > 0,
        f"image_shape() has to be (y, x, 3), but is {shape!r}.",
    )
    number = int((reader.stimuli()["kind"] != "other").sum())
    expect_slices(reader.read_images, number, np.uint8, shape, "read_images", max_samples)


def _hands_out(read: Callable[[int, int], np.ndarray]) -> bool:
    try:
        read(0, 1)
    except (NotImplementedError, InputError):
        return False
    return True


def check_videos(reader: Reader, max_samples: int) -> None:
    """Videos are uint8, the same for any way of slicing, and their middle frame is their image."""
    kinds = reader.stimuli()["kind"]
    n_videos, shape = int((kinds == "video").sum()), reader.video_shape()
    expect(
        (shape is not None) == (n_videos > 0),
        "video_shape() has to be given where there are videos, and None where there are none, but is "
        f"{shape!r} "
        f"with {n_videos} videos.",
    )
    if shape is None:
        return
    expect(
        isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3 and min(shape) > 0,
        f"video_shape() has to be (frame, y, x, 3), but is {shape!r}.",
    )
    rate = reader.frames_per_second()
    expect(
        rate is not None and np.isfinite(rate) and rate > 0,
        f"frames_per_second() has to be a positive number if there are videos, but is {rate!r}.",
    )
    frames = expect_slices(reader.read_frames, n_videos, np.uint8, shape, "read_frames", max(1, max_samples // 4))
    if reader.image_shape() == shape[1:]:
        first = int((kinds == "image").sum())
        images = reader.read_images(first, first + len(frames))
        middles = [frames[:, middle] for middle in {(shape[0] - 1) // 2, shape[0] // 2}]
        expect(
            any(np.array_equal(images, middle) for middle in middles),
            "read_images has to return the middle frame for a video.",
        )


def check_subjects(reader: Reader, max_samples: int) -> None:
    """Names of subjects are valid, and every stimulus has the same split for all subjects."""
    names = reader.subjects
    expect(
        isinstance(names, list) and names,
        f"subjects has to be a list with at least one name, but is {names!r}.",
    )
    expect_strings(names, "subjects")
    expect(len(set(names)) == len(names), f"subjects has to hold each name once, but is {names}.")
    for name in names:
        expect(
            name.replace("_", "").replace("-", "").isalnum(),
            f"A subject's name may hold letters, digits, '-' and '_' (it names a group in the store), not {name!r}.",
        )
    samples = pd.concat([reader.subject(name).samples[["stimulus", "split"]] for name in names])
    splits = samples.groupby("stimulus")["split"].nunique()
    both = splits.index[splits > 1].tolist()
    expect(
        not both,
        f"A stimulus has to be in one split only, for all subjects, but {both[:1]} is in several: a decoder "
        "would be tested on what it was trained on.",
    )


CHECKS: tuple[Callable[[Reader, int], None], ...] = (
    check_name,
    check_options,
    check_description,
    check_stimuli,
    check_labels,
    check_images,
    check_videos,
    check_subjects,
    *SUBJECT_CHECKS,
    check_determinism,
)
