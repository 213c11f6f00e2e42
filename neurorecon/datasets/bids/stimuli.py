"""Stimuli of a BIDS data set: their table, images, videos and split."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from neurorecon.datasets.bids.layout import Split, tidy
from neurorecon.datasets.splits import TRAIN, hold_out_stimuli
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.images import VIDEOS, StimulusFile

#: Names that the column of ids has in tables of stimuli.
ID_COLUMNS = ("stim_file", "stimulus_id", "stimulus", "id", "trial_type")

#: What stands for nothing in a table.
MISSING = ("", "n/a", "N/A")

#: Between the name of a video and the number of a clip of it.
CLIP = "#"

#: In place of a category.
UNNAMED = "stimulus"


def is_video(name: str) -> bool:
    """Return whether a stimulus is a video, or a clip of one."""
    return file_of(name).lower().endswith(VIDEOS)


def file_of(name: str) -> str:
    """Return the file of a stimulus: a clip is a part of one."""
    video, _, clip = name.rpartition(CLIP)
    return video if clip.isdigit() and video.lower().endswith(VIDEOS) else name


def cut_videos(shown: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Cut videos into clips of one volume, so that each volume of a time series shows what was on the screen.

    Parameters
    ----------
    shown : DataFrame
        Presentations: ``stimulus``, ``onset``, ``duration`` and others.
    seconds : float
        Of a clip.

    Returns
    -------
    DataFrame
        A row for each clip, whose ``stimulus`` is e.g. ``"film.mp4#00012"``; images as they were.
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
        One row a presentation: ``stimulus`` and ``category``.
    captions : DataFrame, optional
        From :func:`read_captions`.
    files : bool
        Whether the stimuli are at hand; without its file, a video is a name like any other.
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
        rows.append((name, "film" if files and is_video(name) else "image", str(category or UNNAMED), list(said)))
    return pd.DataFrame(rows, columns=["id", "kind", "category", "captions"])


def find_captions(given: str | None, root: Path, folders: Sequence[Path]) -> Path | None:
    """Return the table of stimuli: the one asked for, else ``stimuli.tsv`` in a folder of stimuli or above it."""
    if given is not None:
        if not (root / given).is_file():
            raise MissingFileError(
                f"{root / given} is missing",
                given="no such file",
                expected="a table of stimuli with captions",
                todo="fix captions in [options], or leave it out",
            )
        return root / given
    places = [path for folder in folders for path in (folder / "stimuli.tsv", folder.parent / "stimuli.tsv")]
    return next((path for path in places if path.is_file()), None)


def read_captions(path: Path) -> pd.DataFrame:
    """Read a table of stimuli.

    Returns
    -------
    DataFrame
        By id: ``category`` (or None) and ``captions`` (list of str), from the columns ``category`` and ``caption``,
        ``caption1`` and so on.
    """
    try:
        table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", given=f"{type(error).__name__}: {error}", expected="a TSV") from None
    column = next((name for name in ID_COLUMNS if name in table), None)
    if column is None:
        raise InputError(
            f"{path} does not name stimuli",
            given=f"columns {', '.join(map(str, table.columns))}",
            expected=f"one of the columns {', '.join(ID_COLUMNS)}",
            todo="rename the column",
        )
    texts = [name for name in table if str(name).startswith("caption")]
    groups = table["category"] if "category" in table else [""] * len(table)
    found = pd.DataFrame(
        {
            "category": [None if value in MISSING else value for value in groups],
            "captions": [[text for text in row if text not in MISSING][:5] for row in table[texts].to_numpy()],
        },
        index=table[column].map(tidy),
    )
    return found[~found.index.duplicated()]


def find_sources(ids: Sequence[str], folders: Sequence[Path], clip_seconds: float) -> list[StimulusFile]:
    """Return where each stimulus is read from.

    Raises
    ------
    MissingFileError
        Where some are missing.
    """
    files = {name: file_of(name) for name in ids}
    places = [next((folder / files[n] for folder in folders if (folder / files[n]).is_file()), None) for n in ids]
    missing = [name for name, path in zip(ids, places, strict=True) if path is None]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(ids)} stimuli are missing",
            given=f"no {missing[0]} in {', '.join(map(str, folders)) or 'any folder stimuli/'}",
            expected="the files that stim_file names, below stimuli/ of the raw data set",
            todo='name their folder in [options]: stimuli = "DIR"; or stimuli = "none" to go without images',
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
        One row a presentation, over all subjects: ``stimulus``, the labels ``session_label`` and ``run_label``, and
        the columns of the events.
    rule : Split or "none"
        From the options; by ``"none"`` all stimuli are for training, to be cross-validated.

    Raises
    ------
    InputError
        Where the rule names what is not there, or a stimulus would be in two splits.
    """
    if rule == "none":
        return dict.fromkeys(shown["stimulus"], TRAIN)
    values = _values(shown, rule)
    pairs = pd.DataFrame({"stimulus": shown["stimulus"], "split": values}).drop_duplicates()
    double = pairs["stimulus"][pairs["stimulus"].duplicated()]
    if len(double):
        raise InputError(
            "stimuli are in more than one split",
            given=f"{len(double)}, e.g. {', '.join(double.iloc[:3])}, by the rule {_words(rule)}",
            expected="train and test without a stimulus in common",
            todo="choose another rule in [options.split]: a score on stimuli seen in training says nothing; "
            'or split = "none" to cross-validate',
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
            f"the column {column!r} of the events does not say the split of every stimulus",
            given=f"nothing for {name!r}",
            expected="train or test for each event that shows a stimulus",
            todo="fill the column, or choose another rule in [options.split]",
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
