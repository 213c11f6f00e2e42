"""Checks of the recordings of each subject: tables, areas, space, responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.base import SAMPLE_COLUMNS, Reader, SubjectData
from neurorecon.datasets.columns import can_be_stored, further_columns
from neurorecon.errors import InputError
from neurorecon.space import SPACE_COLUMNS, Space
from neurorecon.testing.contract import expect, expect_columns, expect_integers, expect_slices, expect_strings


def check_samples(reader: Reader, max_samples: int) -> None:
    """The table of samples."""
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
            f"Further columns of {what} need names of letters, digits, '_', '.' and '-' that mean nothing else in a "
            f"store, unlike {wrong[:1]}.",
        )
        strangers = sorted(set(table["stimulus"]) - known)
        expect(not strangers, f"{what} has to name stimuli of stimuli(), but names {strangers[:1]}.")
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
    """Presentations of a stimulus are numbered from 1 without a gap; each is one trial estimate."""
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
    """Time series: their tasks exist, and their volumes lie on a grid."""
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
    """The table of voxels, and where they lie."""
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
    """Expect indices that lie in the volume, or vertices that lie on the mesh."""
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
    """Areas: one truth value a voxel, none empty."""
    for name in reader.subjects:
        data = reader.subject(name)
        expect(len(data.rois) > 0, f"rois of {name} has to hold at least one area, if only all voxels.")
        expect_strings(data.rois, f"rois of {name}")
        for roi, member in data.rois.items():
            what = f"The area {roi!r} of {name}"
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
            f"The group {group!r} of areas has to be a list of names that is not empty, but is {members!r}.",
        )
        expect_strings(members, f"the group {group!r} of areas")


def check_space(reader: Reader, max_samples: int) -> None:
    """Space survives JSON, and values that are put back into the brain are found where they were put."""
    for name in reader.subjects:
        data = reader.subject(name)
        twin = Space.from_dict(json.loads(json.dumps(data.space.to_dict())))
        expect(twin == data.space, f"The space of {name} has to be the same after a way through JSON.")
        values = np.arange(1, len(data.voxels) + 1, dtype=np.float32)
        if data.space.kind == "none":
            try:
                data.space.unmask(values, data.voxels)
            except InputError:
                continue
            expect(False, f"The space of {name} is 'none': unmask has to refuse.")
        image = data.space.unmask(values, data.voxels, fill=0.0)
        found = _values_in(image, data)
        expect(
            np.array_equal(found, values),
            f"Values of {name} that unmask puts into the brain have to be found at the voxels' positions.",
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
    # Grayordinates come back in one piece a structure, so they are looked up one structure at a time.
    found = np.empty(len(table), dtype=np.float32)
    row = np.asarray(image.get_fdata(), dtype=np.float32)[0]
    structure = table["structure"].to_numpy().astype(str)
    for label, part, _ in image.header.get_axis(1).iter_structures():
        found[structure == label] = row[part]
    return found


def check_responses(reader: Reader, max_samples: int) -> None:
    """Responses, by slices."""
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
    """What was planted, for simulated data only."""
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
