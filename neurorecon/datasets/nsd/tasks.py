"""NSD-synthetic and NSD-imagery: two further sessions of the subjects of NSD, which nothing is trained on.

**NSD-synthetic** (Gifford et al. 2025): 284 images far from photographs (noise, gratings, words, manipulated scenes) in
744 trials; 220 images are the same for all subjects, and 64 are noise in colors that are isoluminant for one subject.
Odd runs ask for the color of the fixation dot, even ones for repetitions of an image.

**NSD-imagery** (Kneeland et al. 2025): 18 stimuli by a letter, six in each of three sets (simple shapes, photographs,
concepts), which are seen in three runs, imagined in six, and attended to in three. A session has 720 betas: 48 trials
of 12 runs, and a second beta for each trial of the attention runs (cue and search), which are left out here. Concepts
have no image of their own.

Trials of other tasks of the reader have the same table, so that one model of the photographs can be tested on each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.nsd.experiment import TRIAL_SECONDS
from neurorecon.datasets.nsd.layout import DOWNLOAD, Layout, NsdOptions
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.arrays import dataset_of, open_hdf5_file, wrong_shape
from neurorecon.io.files import broken_link, damaged, require_file
from neurorecon.io.images import read_image
from neurorecon.io.tables import Table, read_text_table

#: Numbers of the sessions in a store; those of NSD itself are 1 to 40.
SESSION = {"synthetic": 41, "imagery": 42}

#: Images of NSD-synthetic that all subjects saw; the others have the colors of one subject.
SHARED_SYNTHETIC = 220

#: Trials of a run of NSD-synthetic, if its design has no pattern.
_SYNTHETIC_TRIALS = 93

#: Runs of NSD-imagery, in the order of the session.
IMAGERY_RUNS = (
    "visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2"
)  # fmt: skip

#: Kinds of runs of NSD-imagery: the task of a store, and the betas of a trial. Attention has two, for cue and search.
_RUN_KINDS = {"vis": ("vision", 1), "img": ("imagery", 1), "att": (None, 2)}

#: Sets of NSD-imagery.
_SETS = {"A": "simple", "B": "complex", "C": "conceptual"}

#: Seconds of a trial of NSD-imagery whose table does not say when it began.
_IMAGERY_SECONDS = 4.0


def synthetic_trials(layout: Layout, subject: str, length: int) -> pd.DataFrame:
    """Return the trials of NSD-synthetic of a subject.

    Parameters
    ----------
    layout : Layout
        The paths of the files.
    subject : str
        E.g. ``"subj01"``.
    length : int
        Number of betas.

    Returns
    -------
    DataFrame
        One row per trial: ``session``, ``run``, ``time`` (s), ``stimulus``, ``task``, ``condition``, ``place``.

    Raises
    ------
    MissingFileError, InputError
        If the design is missing or damaged, or has another number of trials.
    """
    from scipy.io import loadmat

    path = layout.synthetic / "nsdsynthetic_expdesign.mat"
    require_file(path, "the design of NSD-synthetic", DOWNLOAD)
    try:
        content = loadmat(path, variable_names=["masterordering", "stimpattern"])
    except Exception as error:  # scipy raises many types of exceptions for damaged files
        raise damaged(path, error, DOWNLOAD) from error
    order = np.asarray(content.get("masterordering", np.empty(0)))
    whole = order.dtype.kind in "uif" and order.size > 0 and bool((order == np.round(order)).all())
    if not whole or order.min() < 1:
        raise InputError(
            f"the design {path} cannot be used",
            given=f"masterordering {order.shape} of {order.dtype}" + (f", from {order.min():g}" if whole else ""),
            expected="masterordering (1, 744), integers from 1",
            todo=DOWNLOAD,
        )
    order = order.ravel().astype(np.int64) - 1
    _check_number(subject, "NSD-synthetic", length, len(order), path)
    run, time = np.arange(len(order)) // _SYNTHETIC_TRIALS, np.arange(len(order)) % _SYNTHETIC_TRIALS * TRIAL_SECONDS
    pattern = content.get("stimpattern")
    if pattern is not None:
        pattern = np.asarray(pattern).reshape(-1, np.shape(pattern)[-1]).astype(bool)
        if pattern.sum() != len(order):
            raise InputError(
                f"the design {path} contradicts itself",
                given=f"{len(order)} trials in masterordering, {int(pattern.sum())} in stimpattern",
                expected="the same number",
                todo=DOWNLOAD,
            )
        run, slot = np.nonzero(pattern)
        time = slot * TRIAL_SECONDS
    return pd.DataFrame(
        {
            "session": SESSION["synthetic"],
            "run": run + 1,
            "time": np.asarray(time, dtype=float),
            "stimulus": [synthetic_id(int(number), subject) for number in order],
            "task": "synthetic",
            "condition": np.where(run % 2 == 0, "fixation", "one-back"),
            "place": np.arange(len(order)),
        }
    )


def synthetic_id(number: int, subject: str) -> str:
    """Return the id of an image of NSD-synthetic (from 0); those in a subject's own colors name the subject."""
    return f"synthetic{number:03d}" if number < SHARED_SYNTHETIC else f"synthetic{number:03d}_{subject}"


def synthetic_stimuli(layout: Layout, trials: dict[str, pd.DataFrame], options: NsdOptions) -> pd.DataFrame:
    """Return the images of NSD-synthetic that the subjects saw.

    Parameters
    ----------
    layout : Layout
        The paths of the files.
    trials : dict of str to DataFrame
        From :func:`synthetic_trials`, by subject.
    options : NsdOptions
        The options of the reader.

    Returns
    -------
    DataFrame
        ``id``, ``category`` (the class of the image, if the table of images is there) and ``source``: a file and a row
        in it, a path, or None without an image.
    """
    path = layout.synthetic / "nsdsyntheticimageinformation.csv"
    broken_link(path, "the table of the images of NSD-synthetic")
    classes: np.ndarray = np.array([], dtype=object)
    if path.is_file():
        table = read_text_table(path)
        table.require(["Image class"])
        classes = table.names("Image class")
    rows: dict[str, tuple[str, Any]] = {}
    for subject, part in trials.items():
        for identity in part["stimulus"].unique():
            number = int(identity.removeprefix("synthetic").partition("_")[0])
            own = number >= SHARED_SYNTHETIC
            file = layout.synthetic_images(subject if own else None)
            source = None if options.images == "none" else (file, number - SHARED_SYNTHETIC * own)
            if path.is_file() and number >= len(classes):
                raise InputError(
                    f"{path} lacks images that were shown",
                    given=f"{len(classes)} rows; image {number + 1} was shown",
                    expected="a row for each of the 284 images",
                    todo=f"{DOWNLOAD}, or remove the table, which is optional",
                )
            rows[identity] = (str(classes[number]) if len(classes) else "", source)
    return _shown(rows)


def imagery_trials(layout: Layout, subject: str, length: int) -> pd.DataFrame:
    """Return the seen and imagined trials of NSD-imagery; see :func:`synthetic_trials`.

    Trials of the attention runs have an empty ``stimulus``: they have two betas each, in an order that the tables of
    their runs do not tell.
    """
    parts, first = [], 0
    for number, run in enumerate(IMAGERY_RUNS, start=1):
        path = layout.imagery_run(subject, run)
        require_file(path, "the trials of a run of NSD-imagery", DOWNLOAD)
        table = read_text_table(path)
        table.require(["CONDITION"])
        task, betas = _RUN_KINDS[run[:3]]
        cues = table.names("CONDITION") if task is not None else np.full(betas * len(table), "", dtype=object)
        part = pd.DataFrame({"session": SESSION["imagery"], "run": number, "time": _onsets(table, len(cues))})
        part["stimulus"] = [imagery_id(run[3], str(cue)) if cue else "" for cue in cues]
        part["task"] = task or "attention"
        part["condition"] = part["task"]
        part["place"] = first + np.arange(len(cues))
        first += len(cues)
        parts.append(part)
    _check_number(subject, "NSD-imagery", length, first, layout.imagery_run(subject, IMAGERY_RUNS[0]).parent)
    return pd.concat(parts, ignore_index=True)


def _onsets(table: Table, length: int) -> np.ndarray:
    """Return seconds from the beginning of a run; nominal ones for attention, and where a table has no onsets."""
    if "TRIALONSET" not in table or length != len(table):
        return np.arange(length) * _IMAGERY_SECONDS
    found = table.numbers("TRIALONSET", 0)
    if (np.diff(found) <= 0).any():
        row = int(np.flatnonzero(np.diff(found) <= 0)[0]) + 1
        raise InputError(
            f"{table.where}: the trials are not in the order in which they were shown",
            given=f"TRIALONSET {found[row]:g} in {table.row(row)}, after {found[row - 1]:g}",
            expected="later onsets from row to row, as the betas are in this order",
            todo=DOWNLOAD,
        )
    return found


def imagery_id(part: str, cue: str) -> str:
    """Return the id of a stimulus of NSD-imagery, from its set and the letter that cues it."""
    return f"imagery{part}_{cue}"


def imagery_stimuli(layout: Layout, trials: dict[str, pd.DataFrame], options: NsdOptions) -> pd.DataFrame:
    """Return the stimuli of NSD-imagery, as :func:`synthetic_stimuli`; the six concepts have no image.

    Raises
    ------
    MissingFileError, InputError
        If the list that says which letter stands for which image is missing or damaged.
    """
    seen = sorted({name for part in trials.values() for name in part["stimulus"] if name})
    files = {part: _pairs(layout.imagery / f"{part}_pair_list.mat") for part in ("A", "B")}
    rows: dict[str, tuple[str, Any]] = {}
    for name in seen:
        part, cue = name[len("imagery")], name.partition("_")[2]
        source = None
        if part in files and options.images != "none":
            if cue not in files[part]:
                raise InputError(
                    f"the cue {cue!r} of NSD-imagery stands for no image",
                    given=f"set {part}: cues {', '.join(sorted(files[part]))}",
                    expected="a row for every cue",
                    todo=DOWNLOAD,
                )
            source = layout.imagery / "rawtargetimages" / f"set{part}" / files[part][cue]
            require_file(source, "an image of NSD-imagery", f'{DOWNLOAD}; or set images = "none" in [options]')
        rows[name] = (_SETS[part], source)
    return _shown(rows)


def _pairs(path: Path) -> dict[str, str]:
    """Return the file of the image of each cue; the rows of the list hold a number, a file and a letter."""
    from scipy.io import loadmat

    require_file(path, "the images of a set of NSD-imagery and the letters that cue them", DOWNLOAD)
    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many types of exceptions for damaged files
        raise damaged(path, error, DOWNLOAD) from error
    expected = "the variable pair_list: a number, the name of an image file and one letter in each row"
    try:
        listed = np.asarray(content["pair_list"], dtype=object)
        texts = [[str(np.asarray(cell).squeeze()) for cell in row] for row in listed]
        files = [next(text for text in row if re.search(r"\.(png|jpe?g|bmp|tiff?)$", text, re.I)) for row in texts]
        cues = [next(text for text in row if re.fullmatch(r"[A-Za-z]", text)) for row in texts]
    except (KeyError, StopIteration, TypeError):
        names = ", ".join(name for name in content if name[0] != "_") or "nothing"
        raise InputError(
            f"{path} does not list images and their cues", given=f"variables {names}", expected=expected, todo=DOWNLOAD
        ) from None
    if len(set(cues)) < len(cues):
        twice = next(cue for cue in cues if cues.count(cue) > 1)
        raise InputError(f"{path} lists a cue twice", given=twice, expected="a row for each cue", todo=DOWNLOAD)
    return {cue: Path(file).name for cue, file in zip(cues, files, strict=True)}


def _shown(rows: dict[str, tuple[str, Any]]) -> pd.DataFrame:
    names = sorted(rows)
    sources = pd.Series([rows[name][1] for name in names], dtype=object)
    return pd.DataFrame({"id": names, "category": [rows[name][0] for name in names], "source": sources})


def _check_number(subject: str, what: str, given: int, expected: int, path: Path) -> None:
    if given != expected:
        raise InputError(
            f"the betas of {what} of {subject} do not match the design",
            given=f"{given} betas",
            expected=f"{expected} by {path}",
            todo="check that the betas and the design are from the same release; if so, download both again",
        )


class TaskImages:
    """Images of NSD-synthetic and NSD-imagery, brought to the extent, coding and size of NSD's own.

    NSD showed its images on 714 by 714 pixels (8.4 degrees) of a screen whose luminance was linear in the pixel values,
    after squaring them. Images of NSD-synthetic have 714 by 1360 pixels and are linear in luminance: the middle square
    covers what an image of NSD covers, and the square root of its values codes luminance as NSD's images do (as in the
    code of Gifford et al. 2025). Images of NSD-imagery are files, whose middle square is taken.

    Parameters
    ----------
    sources : sequence
        Of the stimuli with images, as :func:`synthetic_stimuli` gives them.
    size : int
        Pixels on each side.
    """

    def __init__(self, sources: Sequence[Any], size: int) -> None:
        self.size = size
        self._sources = list(sources)
        last: dict[Path, int] = {}
        for source in self._sources:
            if isinstance(source, tuple):
                last[source[0]] = max(last.get(source[0], 0), source[1])
        for path, row in last.items():
            broken_link(path, 'images of NSD-synthetic, or images = "none" in [options]')
            if not path.is_file():
                raise MissingFileError(
                    "the images of NSD-synthetic are missing",
                    given=f"no file {path}",
                    expected="nsdsynthetic_stimuli.hdf5, and nsdsynthetic_colorstimuli_subjXX.hdf5 of every subject",
                    todo=f'{DOWNLOAD}; or set images = "none" in [options] to build the store without images',
                )
            with open_hdf5_file(path, DOWNLOAD) as file:
                data = dataset_of(file, "imgBrick", path, "images", DOWNLOAD)
                if data.dtype != np.uint8:
                    raise InputError(
                        f"the images in {path} have the wrong data type",
                        given=str(data.dtype),
                        expected="uint8",
                        todo=DOWNLOAD,
                    )
                if len(data.shape) != 4 or data.shape[3] != 3 or data.shape[0] <= row:
                    raise wrong_shape(path, data.shape, f"({row + 1} images or more, 714, 1360, 3)", DOWNLOAD)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, (y, x, rgb)."""
        return (self.size, self.size, 3)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        found = np.empty((len(self._sources[start:stop]), *self.shape), dtype=np.uint8)
        for row, source in enumerate(self._sources[start:stop]):
            found[row] = self._one(source)
        return found

    def _one(self, source: Any) -> np.ndarray:
        from PIL import Image

        if isinstance(source, tuple):
            path, number = source
            with open_hdf5_file(path, DOWNLOAD) as file:
                try:
                    values = file["imgBrick"][number]
                except OSError as error:
                    raise damaged(path, error, DOWNLOAD) from error
            image = Image.fromarray(np.round(np.sqrt(values / 255.0) * 255).astype(np.uint8))
        else:
            image = read_image(source)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((self.size, self.size), Image.Resampling.BICUBIC))
