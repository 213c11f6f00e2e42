"""The contract suite that every reader of a data set has to pass, ours and those of others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pandas as pd

from neurorecon.datasets.base import STIMULUS_COLUMNS, Description, Options, Reader
from neurorecon.errors import InputError
from neurorecon.testing.contract import (
    expect,
    expect_columns,
    expect_slices,
    expect_strings,
)
from neurorecon.testing.subjects import SUBJECT_CHECKS
from neurorecon.testing.suite import Check, run_all

#: How many rows are read at a time, unless the caller says otherwise.
MAX_SAMPLES = 16


class ReaderCheck(Check):
    """One check of the contract; its function takes the reader and the largest number of rows to read at a time."""

    def __call__(self, reader: Reader, *, max_samples: int = MAX_SAMPLES) -> None:
        """Run the check.

        Raises
        ------
        ContractError
            Where the reader does not keep the contract. What the reader itself raises is passed through.
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
        Opened on data: a miniature copy of the layout is enough.
    max_samples : int
        At most this many rows are read at a time, so that large data sets can be checked too.

    Returns
    -------
    list of str
        Names of the checks, all of which were passed.

    Raises
    ------
    ContractError
        Where checks failed: a line for each, with the name of the check and what was expected.
    """
    name = getattr(reader, "name", type(reader).__name__)
    return run_all(reader_checks(), reader, max_samples, what="reader", name=repr(name))


def check_name(reader: Reader, max_samples: int) -> None:
    """Class attributes."""
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
    """Options are data: refused where unknown, the same after a way through JSON and pickle."""
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
    expect(model.model_config.get("frozen") is True, "Options has to be frozen, so that a reader cannot drift.")
    expect(
        model.model_validate_json(reader.options.model_dump_json()) == reader.options,
        "Options have to be the same after a way through JSON, because the store keeps them as JSON.",
    )
    expect(
        pickle.loads(pickle.dumps(reader.options)) == reader.options,
        "Options have to be the same after pickling, because workers are sent them.",
    )


def check_description(reader: Reader, max_samples: int) -> None:
    """Where the data came from."""
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
    """A second reader of the same folder with the same options is the same data set."""
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
    """The table of stimuli."""
    table = reader.stimuli()
    expect_columns(table, STIMULUS_COLUMNS, "stimuli()")
    expect(len(table) > 0, "stimuli() has to have at least one row.")
    expect_strings(table["id"], "stimuli()['id']")
    twice = table["id"][table["id"].duplicated()].tolist()
    expect(not twice, f"stimuli()['id'] has to be unique, but {twice[:1]} is there twice.")
    kinds = table["kind"].tolist()
    expect(
        set(kinds) <= {"image", "film"},
        f"stimuli()['kind'] has to be 'image' or 'film', but holds {sorted(set(map(str, kinds)))}.",
    )
    expect(kinds == sorted(kinds, reverse=True), "stimuli() has to list films after the images.")
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
    """Numeric labels, where there are any."""
    labels = reader.labels()
    if labels is None:
        return
    expect(
        isinstance(labels, pd.DataFrame),
        f"labels() has to be a DataFrame or None, but is a {type(labels).__name__}.",
    )
    expect(
        len(labels) == len(reader.stimuli()),
        f"labels() has to have a row for each of {len(reader.stimuli())} stimuli, but has {len(labels)}.",
    )
    expect_strings(labels.columns, "the columns of labels()")
    expect(labels.columns.is_unique, "labels() has to have each column once.")
    for column in labels:
        numeric = pd.api.types.is_numeric_dtype(labels[column].dtype)
        expect(numeric, f"labels()[{column!r}] has to be numeric, but is of {labels[column].dtype}.")
        expect(np.isfinite(labels[column].to_numpy(dtype=float)).all(), f"labels()[{column!r}] has to be finite.")


def check_images(reader: Reader, max_samples: int) -> None:
    """Pictures, by slices."""
    shape = reader.image_shape()
    if shape is None:
        # A data set may name its stimuli without bringing them; then nobody can be handed a picture.
        expect(not _hands_out(reader.read_images), "image_shape() has to be given where read_images returns pictures.")
        return
    expect(
        isinstance(shape, tuple) and len(shape) == 3 and shape[2] == 3 and min(shape) > 0,
        f"image_shape() has to be (y, x, 3), but is {shape!r}.",
    )
    expect_slices(reader.read_images, len(reader.stimuli()), np.uint8, shape, "read_images", max_samples)


def _hands_out(read: Callable[[int, int], np.ndarray]) -> bool:
    try:
        read(0, 1)
    except (NotImplementedError, InputError):
        return False
    return True


def check_films(reader: Reader, max_samples: int) -> None:
    """Films, by slices; their middle frame is their picture."""
    kinds = reader.stimuli()["kind"]
    n_films, shape = int((kinds == "film").sum()), reader.film_shape()
    expect(
        (shape is not None) == (n_films > 0),
        "film_shape() has to be given where there are films, and None where there are none, but is "
        f"{shape!r} "
        f"with {n_films} films.",
    )
    if shape is None:
        return
    expect(
        isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3 and min(shape) > 0,
        f"film_shape() has to be (frame, y, x, 3), but is {shape!r}.",
    )
    rate = reader.frames_per_second()
    expect(
        rate is not None and np.isfinite(rate) and rate > 0,
        f"frames_per_second() has to be a positive number where there are films, but is {rate!r}.",
    )
    frames = expect_slices(reader.read_frames, n_films, np.uint8, shape, "read_frames", max(1, max_samples // 4))
    if reader.image_shape() == shape[1:]:
        first = len(kinds) - n_films
        pictures = reader.read_images(first, first + len(frames))
        middles = [frames[:, middle] for middle in {(shape[0] - 1) // 2, shape[0] // 2}]
        expect(
            any(np.array_equal(pictures, middle) for middle in middles),
            "read_images has to return the middle frame for a film.",
        )


def check_subjects(reader: Reader, max_samples: int) -> None:
    """Names of the subjects; no stimulus is in the train split of one and the test split of another."""
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
    check_films,
    check_subjects,
    *SUBJECT_CHECKS,
    check_determinism,
)
