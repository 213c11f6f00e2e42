"""The table of stimuli, and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurorecon.datasets.arrays.tables import Table, as_table
from neurorecon.datasets.base import STIMULUS_COLUMNS
from neurorecon.errors import InputError

#: Columns of captions, and all that are known.
CAPTIONS = ("caption", "caption1", "caption2", "caption3", "caption4", "caption5")
KNOWN = ("id", "stimulus", "kind", "category", "file", "split", "captions", *CAPTIONS)


@dataclass(frozen=True)
class Stimuli:
    """All stimuli, films behind the images.

    Parameters
    ----------
    table : DataFrame
        With :data:`~neurorecon.datasets.base.STIMULUS_COLUMNS`.
    files : list of str
        File of each, ``""`` where none is stated.
    split : array of str, shape (stimulus,), optional
        Where the table states it.
    unused : list of str
        Columns that were not understood.
    """

    table: pd.DataFrame
    files: list[str]
    split: np.ndarray | None
    unused: list[str]

    @property
    def tasks(self) -> dict[str, str]:
        """The task of each stimulus: ``"images"`` or ``"films"``."""
        kinds = self.table["kind"].map({"image": "images", "film": "films"})
        return dict(zip(self.table["id"], kinds, strict=True))


def read_stimuli(given: Table, images: bool, films: bool) -> Stimuli:
    """Fill in and check a table of stimuli.

    Parameters
    ----------
    given : Table
        With ``id`` (or ``stimulus``); ``kind``, ``category``, ``caption`` or ``caption1`` to ``caption5``, ``file`` and
        ``split`` are optional.
    images, films : bool
        Whether there are pictures, and films: without the column ``kind`` all stimuli are films where there are films
        only, else images.

    Raises
    ------
    InputError
        Where a stimulus is there twice, or its kind is unknown or unclear.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    ids = given.names(column)
    given.refuse_duplicates(ids, "stimuli", "every stimulus once; its repeats are rows of the table of samples")
    table = pd.DataFrame({"id": ids, "kind": _kinds(given, len(ids), images, films)})
    table["category"] = given.text("category") if "category" in given else ""
    table.loc[table["category"] == "", "category"] = "none"
    table["captions"] = _captions(given)
    order = np.argsort((table["kind"] == "film").to_numpy(), kind="stable")
    files = given.text("file") if "file" in given else np.full(len(ids), "", dtype=object)
    return Stimuli(
        table.iloc[order].reset_index(drop=True)[list(STIMULUS_COLUMNS)],
        files[order].tolist(),
        given.text("split")[order] if "split" in given else None,
        [str(name) for name in given.frame.columns if name not in KNOWN],
    )


def stimuli_of_names(names: Iterable[str], kind: str) -> Table:
    """Return a table of stimuli of which nothing but the names is known."""
    return as_table({"id": list(names), "kind": kind}, "the stimuli")


def _kinds(given: Table, number: int, images: bool, films: bool) -> np.ndarray:
    if "kind" in given:
        kinds = given.names("kind")
        strange = sorted(set(kinds) - {"image", "film"})
        if strange or ("film" in kinds) != films:
            raise InputError(
                f"{given.where}: the column 'kind' cannot be used",
                given=f"kinds {', '.join(sorted(set(kinds)))}, {'with' if films else 'without'} an array of frames",
                expected="'image' or 'film', and frames where there are films",
                todo="mend the column, or put the films beside it as frames.npy (film, frame, y, x, rgb)",
            )
        return kinds
    if images and films:
        raise InputError(
            f"{given.where} does not say which stimuli are films",
            given="pictures and films, and no column 'kind'",
            expected="a column 'kind' with 'image' or 'film'",
            todo="add it to the table of stimuli",
        )
    return np.full(number, "film" if films else "image", dtype=object)


def _captions(given: Table) -> list[list[str]]:
    columns: list[Sequence[str]] = [given.text(name).tolist() for name in CAPTIONS if name in given]
    if "captions" in given:  # of a DataFrame: lists
        return [[text for text in map(str, row) if text] for row in given.frame["captions"]]
    return [[text for text in row if text][:5] for row in zip(*columns, strict=True)] or [[] for _ in range(len(given))]


def read_labels(given: Table, ids: Sequence[str]) -> pd.DataFrame:
    """Put labels into the order of the stimuli.

    Parameters
    ----------
    given : Table
        With ``stimulus`` (or ``id``), a row for each stimulus; all other columns are numbers.
    ids : sequence of str

    Raises
    ------
    InputError
        Where a stimulus has no row or two, or a label is no number.
    """
    column = "stimulus" if "id" not in given and "stimulus" in given else "id"
    given.require([column])
    names = given.names(column)
    given.refuse_duplicates(names, "stimuli", "one row for each stimulus")
    if set(names) != set(ids):
        odd = sorted(set(names) ^ set(ids))
        raise InputError(
            f"{given.where} does not match the stimuli",
            given=f"{', '.join(odd[:5])} ({len(odd)} of them) in one table only",
            expected=f"a row for each of the {len(ids)} stimuli, and no others",
            todo="mend the table of labels",
        )
    values = {str(name): given.numbers(str(name)) for name in given.frame.columns if name != column}
    if not values:
        raise InputError(
            f"{given.where} has no labels", given=f"the column {column!r} alone", expected="columns of numbers"
        )
    return pd.DataFrame(values, index=pd.Index(names)).loc[list(ids)].reset_index(drop=True)
