"""The stimuli of a BIDS data set: their table, captions, files and split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from neurorecon.datasets.base import without_captions
from neurorecon.datasets.bids.layout import Split, tidy
from neurorecon.datasets.splits import TRAIN, hold_out_stimuli
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import broken_link, inside
from neurorecon.io.tables import read_text_table
from neurorecon.io.videos import VIDEOS, StimulusFile

#: Names of the column of ids in tables of stimuli.
ID_COLUMNS = ("stim_file", "stimulus_id", "stimulus", "id", "trial_type")

#: Separates the name of a video from the number of a clip.
CLIP = "#"

#: Category of stimuli without one.
UNNAMED = "stimulus"


def is_video(name: str) -> bool:
    """Return whether a stimulus is a video or a clip of one."""
    return file_of(name).lower().endswith(VIDEOS)


def file_of(name: str) -> str:
    """Return the file of a stimulus, without the number of a clip."""
    video, _, clip = name.rpartition(CLIP)
    return video if clip.isdigit() and video.lower().endswith(VIDEOS) else name


def cut_videos(shown: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Cut videos into clips of one volume, so that each volume of a time series has its own stimulus.

    Parameters
    ----------
    shown : DataFrame
        The presentations: ``stimulus``, ``onset``, ``duration`` and other columns.
    seconds : float
        Duration of a clip.

    Returns
    -------
    DataFrame
        One row per clip, whose ``stimulus`` is e.g. ``"video.mp4#00012"``. Images are unchanged.
    """
    counts = [
        max(round(d / seconds), 1) if is_video(n) else 1
        for n, d in zip(shown["stimulus"], shown["duration"], strict=True)
    ]
    cut = shown.loc[shown.index.repeat(counts)].reset_index(drop=True)
    number = np.concatenate([np.arange(count) for count in counts]) if counts else np.empty(0, dtype=int)
    video = cut["stimulus"].map(is_video).to_numpy(dtype=bool)
    names = [f"{name}{CLIP}{clip:05d}" for name, clip in zip(cut["stimulus"], number, strict=True)]
    cut["stimulus"] = np.where(video, names, cut["stimulus"])
    cut["onset"] += number * seconds
    cut["duration"] = np.where(video, seconds, cut["duration"])
    return cut


def stimulus_table(shown: pd.DataFrame, captions: pd.DataFrame | None, files: bool = True) -> pd.DataFrame:
    """Return the table of stimuli: images by name, then videos by name.

    Parameters
    ----------
    shown : DataFrame
        One row per presentation: ``stimulus`` and ``category``.
    captions : DataFrame, optional
        From :func:`read_captions`.
    files : bool
        Whether the stimuli have files. If not, videos are treated as images.

    Returns
    -------
    DataFrame
        Columns ``id``, ``kind``, ``category``, ``captions``.
    """
    groups = shown.groupby("stimulus", sort=True)["category"]
    ids = sorted(groups.groups, key=lambda name: (is_video(name), name))
    names = groups.agg(lambda values: values.dropna().iloc[0] if values.notna().any() else None)
    rows = []
    for name in ids:
        category, said = names[name], []
        key = next((key for key in (name, file_of(name)) if captions is not None and key in captions.index), None)
        if captions is not None and key is not None:
            category, said = captions.loc[key, "category"] or category, captions.loc[key, "captions"]
        rows.append((name, "video" if files and is_video(name) else "image", str(category or UNNAMED), list(said)))
    return pd.DataFrame(rows, columns=["id", "kind", "category", "captions"])


def find_captions(given: str | None, root: Path, folders: Sequence[Path]) -> Path | None:
    """Return the table of stimuli: `given`, else ``stimuli.tsv`` in a folder of stimuli or its parent, else None."""
    if given is not None:
        broken_link(root / given, "a table of stimuli with captions")
        if not (root / given).is_file():
            raise MissingFileError(
                f"{root / given} is missing",
                given="no such file",
                expected="a table of stimuli with captions",
                todo="fix captions in [options], or remove it",
            )
        return root / given
    places = [path for folder in folders for path in (folder / "stimuli.tsv", folder.parent / "stimuli.tsv")]
    return next((path for path in places if os.path.lexists(path)), None)


def read_captions(path: Path) -> pd.DataFrame:
    """Read a table of stimuli.

    Returns
    -------
    DataFrame
        Indexed by id: ``category`` (or None) and ``captions`` (list of str), from the columns ``category`` and
        ``caption``, ``caption1`` etc.
    """
    table = read_text_table(path)
    column = next((name for name in ID_COLUMNS if name in table), None)
    if column is None:
        raise InputError(
            f"{path} has no column that identifies the stimuli",
            given=f"columns {', '.join(map(str, table.frame.columns))}",
            expected=f"one of the columns {', '.join(ID_COLUMNS)}",
            todo="rename the column",
        )
    texts = [str(name) for name in table.frame if str(name).startswith("caption")]
    groups = table.text("category") if "category" in table else [""] * len(table)
    captions = zip(*(table.text(name) for name in texts), strict=True) if texts else [()] * len(table)
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for name, group, texts_of in zip(table.text(column), groups, captions, strict=True):
        groups_of, said = rows.setdefault(tidy(name), ([], []))  # a stimulus may have a row for each of its captions
        groups_of.append(group)
        said += [text for text in texts_of if text]
    return pd.DataFrame(
        {
            "category": [next((group for group in groups_of if group), None) for groups_of, _ in rows.values()],
            "captions": [said[:5] for _, said in rows.values()],
        },
        index=pd.Index(list(rows), dtype=object),
    )


def captions_of(ids: Sequence[str], root: Path, given: str | None) -> tuple[list[list[str]], str]:
    """Return the captions of stimuli from the table that a recipe names.

    Parameters
    ----------
    ids : sequence of str
        Ids of the stimuli.
    root : path
        Folder that the path starts from.
    given : str, optional
        The table; see :func:`read_captions`.

    Returns
    -------
    captions : list of list of str
        Empty for stimuli that the table does not name, and for all without a table.
    report : str
        Which stimuli have none, and which rows are about no stimulus: see ``datasets.base.without_captions``.

    Raises
    ------
    MissingFileError, InputError
        If the table is missing, cannot be read, or has captions of none of the stimuli.
    """
    if given is None:
        return [[] for _ in ids], ""
    path = root / given
    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing",
            given="no such file",
            expected="the table of captions that [options] names",
            todo="fix captions in [options]; relative paths start from --root",
        )
    said = read_captions(path)["captions"].to_dict()
    captions = [said.get(name, []) for name in ids]
    found = pd.DataFrame({"id": list(ids), "captions": captions})
    return captions, without_captions(found, True, list(said), ids, str(path))


def find_sources(ids: Sequence[str], folders: Sequence[Path], clip_seconds: float) -> list[StimulusFile]:
    """Find the file of each stimulus.

    Parameters
    ----------
    ids : sequence of str
        Ids of the stimuli.
    folders : sequence of path
        Folders that may contain the files.
    clip_seconds : float
        Duration of a clip of a video.

    Raises
    ------
    MissingFileError, InputError
        If files are missing, or a name leads out of the folders.
    """
    files = {name: file_of(name) for name in ids}
    places = []
    for name in ids:
        tried = [inside(folder, files[name], f"the file of the stimulus {name!r}") for folder in folders]
        places.append(next((path for path in tried if os.path.lexists(path)), None))
    missing = [name for name, path in zip(ids, places, strict=True) if path is None]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(ids)} stimuli are missing",
            given=f"no {missing[0]} in {', '.join(map(str, folders)) or 'any folder stimuli/'}",
            expected="the files named by stim_file in the folder stimuli/ of the raw data set",
            todo='set their folder in [options]: stimuli = "DIR"; or stimuli = "none" to build without images',
        )
    found = []
    for name, path in zip(ids, places, strict=True):
        assert path is not None
        clip = 0 if files[name] == name else int(name.rpartition(CLIP)[2])
        found.append(
            StimulusFile(path) if files[name] == name else StimulusFile(path, clip * clip_seconds, clip_seconds)
        )
    return found


def split_stimuli(shown: pd.DataFrame, rule: Split | Literal["none"]) -> dict[str, str]:
    """Return the split of each stimulus.

    Parameters
    ----------
    shown : DataFrame
        One row per presentation, of all subjects: ``stimulus``, ``session_label``, ``run_label`` and the columns of
        the events.
    rule : Split or "none"
        The rule in the options. With ``"none"``, all stimuli are training stimuli, for cross-validation.

    Returns
    -------
    dict of str to str

    Raises
    ------
    InputError
        If the rule refers to something that does not exist, or a stimulus would be in two splits.
    """
    if rule == "none":
        return dict.fromkeys(shown["stimulus"], TRAIN)
    values = _values(shown, rule)
    pairs = pd.DataFrame({"stimulus": shown["stimulus"], "split": values}).drop_duplicates()
    double = pairs["stimulus"][pairs["stimulus"].duplicated()]
    if len(double):
        raise InputError(
            "stimuli are in more than one split",
            given=f"{len(double)} stimuli, e.g. {', '.join(double.iloc[:3])}, with the rule {_words(rule)}",
            expected="training and test splits without common stimuli",
            todo="choose another rule in [options.split], because test scores are meaningless for training stimuli; "
            'or set split = "none" to cross-validate',
        )
    return dict(zip(pairs["stimulus"], pairs["split"], strict=True))


def _values(shown: pd.DataFrame, rule: Split) -> np.ndarray:
    if rule.runs is not None:
        return hold_out_stimuli(shown["run_label"], _known(shown["run_label"], rule.runs, "run"))
    if rule.sessions is not None:
        return hold_out_stimuli(shown["session_label"], _known(shown["session_label"], rule.sessions, "session"))
    if rule.stimuli is not None:
        for pattern in rule.stimuli:
            if not any(fnmatch(name, pattern) for name in shown["stimulus"]):
                raise UnknownNameError("stimulus", pattern, sorted(set(shown["stimulus"]))[:20])
        held_out = {name for name in shown["stimulus"] for pattern in rule.stimuli if fnmatch(name, pattern)}
        return hold_out_stimuli(shown["stimulus"], held_out)
    column = rule.column or ("split" if "split" in shown else None)
    if column is None:
        return np.full(len(shown), TRAIN)
    if column not in shown:
        raise UnknownNameError("column of the events", column, shown.columns)
    if shown[column].isna().any():
        name = shown["stimulus"][shown[column].isna()].iloc[0]
        raise InputError(
            f"the column {column!r} of the events does not contain the split of every stimulus",
            given=f"no value for {name!r}",
            expected="train or test for each event with a stimulus",
            todo="fill in the column, or choose another rule in [options.split]",
        )
    return shown[column].astype(str).to_numpy()


def _known(labels: pd.Series, wanted: Sequence[str], word: str) -> list[str]:
    names = [name.removeprefix("run-").removeprefix("ses-") for name in wanted]
    for name in names:
        if name not in set(labels):
            raise UnknownNameError(word, name, sorted(set(labels)))
    return names


def _words(rule: Split) -> str:
    given = [f"{key} = {value}" for key, value in rule if value is not None]
    return given[0] if given else "column = 'split'"
