"""Options of the BIDS reader, names of BIDS files, and the preprocessed runs of a derivative."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from neurorecon.datasets.base import Options
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.atlases import Atlas, Part

#: Seconds by which a response follows its stimulus, where the recipe does not say.
LAG = 5.0


class Strategy(Part):
    """Confounds chosen by nilearn's ``load_confounds``; its parameters, with its defaults."""

    strategy: list[str]
    motion: str = "full"
    scrub: int = 5
    fd_threshold: float = 0.5
    std_dvars_threshold: float = 1.5
    wm_csf: str = "basic"
    global_signal: str = "basic"
    compcor: str = "anat_combined"
    n_compcor: int | str = "all"
    ica_aroma: str = "full"


class Split(Part):
    """Which stimuli are test stimuli; at most one of the keys.

    Parameters
    ----------
    column : str, optional
        A column of the events that says ``train``, ``test`` or another split. Where no key is given, a column
        ``split`` is taken if there is one.
    runs, sessions : list of str, optional
        Labels of the test runs or test sessions.
    stimuli : list of str, optional
        Test stimuli, with wildcards.
    """

    column: str | None = None
    runs: list[str] | None = None
    sessions: list[str] | None = None
    stimuli: list[str] | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse two rules at once."""
        given = [key for key, value in self if value is not None]
        if len(given) > 1:
            raise ValueError(f"at most one of column, runs, sessions, stimuli, not {' and '.join(given)}")


class BidsOptions(Options):
    """Options of the BIDS reader. ``stores/README.md`` explains them one by one."""

    subjects: list[str] | None = None
    tasks: list[str] | None = None
    sessions: list[str] | None = None
    runs: list[str] | None = None
    space: str | None = None
    resolution: str | None = None
    density: str | None = None
    kind: Literal["volume", "surface", "grayordinates"] | None = None
    entities: dict[str, str] = Field(default_factory=dict)
    repetition_time: float | None = Field(default=None, gt=0)

    events: str | None = None
    stimulus_column: str | None = None
    category_column: str = "trial_type"
    rest: list[str] = Field(default_factory=lambda: ["rest", "baseline", "fixation", "blank", "null"])
    split: Split | Literal["none"] = Field(default_factory=Split)

    stimuli: str | None = None
    captions: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=2048)
    fit: Literal["pad", "crop", "stretch"] = "pad"
    frames: int = Field(default=8, ge=1, le=256)

    samples: Literal["block", "volume", "fir", "glm", "glmsingle"] = "block"
    lag: float | None = Field(default=None, ge=0, le=30)
    window: float | None = Field(default=None, gt=0, le=60)
    fir_seconds: float = Field(default=20.0, gt=0, le=60)
    least_squares: Literal["all", "separate"] = "separate"
    hrf_model: Literal["glover", "spm"] = "glover"
    noise_model: str = Field(default="ols", pattern=r"^(ols|ar[1-9])$")

    confounds: list[str] | Strategy = Field(default_factory=list)
    detrend: bool = True
    standardize: Literal["zscore", "psc", "none"] = "zscore"
    high_pass: float | None = Field(default=None, gt=0)

    mask: str = "brain"
    rois: dict[str, str | list[str] | Atlas] = Field(default_factory=dict)
    bad_voxels: Literal["drop", "keep"] = "drop"

    @property
    def seconds_after(self) -> float:
        """Seconds by which a response follows its stimulus."""
        if self.lag is not None:
            return self.lag
        return 0.0 if self.samples == "volume" else LAG


@dataclass(frozen=True)
class BidsFile:
    """A file and what its name says.

    Parameters
    ----------
    path : path
    entities : mapping of str to str
        E.g. ``{"sub": "01", "task": "shapes"}``.
    suffix, extension : str
        E.g. ``"bold"``, ``"nii.gz"``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    def without(self, *keys: str) -> dict[str, str]:
        """Return the entities but for some."""
        return {key: value for key, value in self.entities.items() if key not in keys}


def parse(path: Path) -> BidsFile | None:
    """Read a file name; None where it is not one of BIDS."""
    stem, _, extension = path.name.partition(".")
    *parts, suffix = stem.split("_")
    entities = {}
    for part in parts:
        match = re.fullmatch(r"([A-Za-z]+)-([A-Za-z0-9+]+)", part)
        if match is None:
            return None
        entities[match[1]] = match[2]
    return BidsFile(path, entities, suffix, extension)


def natural(label: str) -> tuple[int, int, str]:
    """Sort labels as a person does: numbers by value, before words."""
    return (0, int(label), label) if label.isdigit() else (1, 0, label)


def numbered(labels: Iterable[str]) -> dict[str, int]:
    """Return a number from 1 for each label: its own where all are numbers, else its place."""
    ordered = sorted(set(labels), key=natural)
    own = [int(label) if label.isdigit() else 0 for label in ordered]
    if all(number >= 1 for number in own) and len(set(own)) == len(own):
        return dict(zip(ordered, own, strict=True))
    return {label: place for place, label in enumerate(ordered, start=1)}


class Folders:
    """The folders that files of a run may lie in; each is listed once.

    Parameters
    ----------
    roots : sequence of path
        Data sets: derivatives and raw.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(roots))
        self._listed: dict[Path, list[BidsFile]] = {}

    def belonging(self, run: BidsFile, suffixes: Sequence[str], extension: str, **wanted: str) -> list[BidsFile]:
        """Return the files whose entities are all those of the run, the most specific last.

        Parameters
        ----------
        run : BidsFile
        suffixes : sequence of str
            E.g. ``["events"]``.
        extension : str
        **wanted : str
            Entities that the file has to have and that need not be those of the run, e.g. ``desc="confounds"``.
        """
        entities = {**run.entities, **wanted}
        found = [
            file
            for folder in self._folders(run)
            for file in self._files(folder)
            if file.suffix in suffixes
            and file.extension == extension
            and file.entities.items() <= entities.items()
            and all(file.entities.get(key) == value for key, value in wanted.items())
        ]
        return sorted(found, key=lambda file: len(file.entities))

    def around(self, run: BidsFile) -> list[BidsFile]:
        """Return all files that have no entity but those of the run and ``desc``: its tables, sidecars and masks."""
        return [
            file
            for folder in self._folders(run)
            for file in self._files(folder)
            if file.without("desc").items() <= run.entities.items()
        ]

    def metadata(self, run: BidsFile) -> dict[str, Any]:
        """Return what the sidecars say of a run; the more specific ones come first."""
        values: dict[str, Any] = {}
        for file in self.belonging(run, [run.suffix], "json"):
            values |= read_json(file.path)
        return values

    def _folders(self, run: BidsFile) -> list[Path]:
        found = []
        for root in self.roots:
            subject = root / f"sub-{run.entities['sub']}"
            levels = [root, subject]
            if "ses" in run.entities:
                levels.append(subject / f"ses-{run.entities['ses']}")
            found += [*levels, levels[-1] / "func"]
        return found

    def _files(self, folder: Path) -> list[BidsFile]:
        if folder not in self._listed:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = [file for file in map(parse, paths) if file is not None and file.path.is_file()]
        return self._listed[folder]


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read",
            given=f"{type(error).__name__}: {error}",
            expected="a JSON file",
            todo="fix it, or copy it again",
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no sidecar", given=type(values).__name__, expected="a JSON object")
    return values


#: Entities that tell apart versions of one run rather than runs.
OF_SPACE = ("hemi", "space", "res", "den", "desc")

#: Name for the space of files that name none: that of the scanner.
NATIVE = "func"


@dataclass(frozen=True)
class RunFiles:
    """The files of one run in one space.

    Parameters
    ----------
    subject : str
        E.g. ``"sub-01"``.
    session, number : int
        From 1; runs are counted within the session.
    task : str
    kind : str
        ``"volume"``, ``"surface"`` or ``"grayordinates"``.
    files : tuple of BidsFile
        One, or left and right hemisphere.
    """

    subject: str
    session: int
    number: int
    task: str
    kind: str
    files: tuple[BidsFile, ...]

    @property
    def first(self) -> BidsFile:
        """The file that stands for the run."""
        return self.files[0]

    @property
    def path(self) -> Path:
        """Where the run lies, for messages."""
        return self.files[0].path

    @property
    def space(self) -> str:
        """Name of the space."""
        return self.first.entities.get("space", NATIVE)


def derivatives_folder(root: Path) -> Path:
    """Return the folder with the preprocessed runs: the root, or the one pipeline below its ``derivatives``.

    Raises
    ------
    MissingFileError, InputError
        Where there is none, or there are several.
    """
    if _bold(root):
        return root
    found = [folder for folder in sorted(root.glob("derivatives/*")) if folder.is_dir() and _bold(folder)]
    if len(found) > 1:
        raise InputError(
            f"{root} holds derivatives of several pipelines",
            given=", ".join(folder.name for folder in found),
            expected="the folder of one of them",
            todo=f"--root {found[0]}",
        )
    if not found:
        raise MissingFileError(
            f"there are no preprocessed runs below {root}",
            given="no such file in sub-*/func or sub-*/ses-*/func, here or in derivatives/*",
            expected="*_desc-preproc_bold.nii.gz, *_bold.dtseries.nii or *_bold.func.gii, as fMRIPrep writes them",
            todo="pass the folder of the derivatives: --root DIR/derivatives/fmriprep",
        )
    return found[0]


def find_runs(folder: Path, options: BidsOptions) -> list[RunFiles]:
    """Find the runs that the options ask for, sorted by subject, session, task, run.

    Raises
    ------
    InputError
        Where something asked for is not there, or several spaces are.
    """
    files = _bold(folder)
    label = {"sub": options.subjects, "ses": options.sessions, "task": options.tasks, "run": options.runs}
    words = {"sub": "subject", "ses": "session", "task": "task", "run": "run"}
    for key, wanted in label.items():
        if wanted is not None:
            files = _select(files, key, [name.removeprefix(f"{key}-") for name in wanted], words[key])
    files = _with_entities(files, options.entities)
    files = _one_space(files, options, folder)
    groups: dict[tuple, list[BidsFile]] = defaultdict(list)
    for file in files:
        groups[tuple(sorted(file.without(*OF_SPACE).items()))].append(file)
    return _number([_complete(group) for group in groups.values()])


def kind_of(file: BidsFile) -> str | None:
    """Return what a file holds, or None where it is no preprocessed run."""
    if file.suffix != "bold" or not {"sub", "task"} <= file.entities.keys():
        return None
    if file.extension in ("nii.gz", "nii") and file.entities.get("desc") == "preproc":
        return "volume"
    if file.extension == "func.gii" and file.entities.get("hemi") in ("L", "R"):
        return "surface"
    return "grayordinates" if file.extension == "dtseries.nii" else None


def _bold(folder: Path) -> list[BidsFile]:
    paths = [*folder.glob("sub-*/func/*_bold.*"), *folder.glob("sub-*/ses-*/func/*_bold.*")]
    files = [file for file in map(parse, sorted(paths)) if file is not None]
    return [file for file in files if kind_of(file) is not None]


def _select(files: Sequence[BidsFile], key: str, wanted: Sequence[str], word: str) -> list[BidsFile]:
    known = sorted({file.entities.get(key, "") for file in files} - {""}, key=natural)
    for name in wanted:
        if name not in known:
            raise UnknownNameError(word, name, known)
    return [file for file in files if file.entities.get(key) in wanted]


def _with_entities(files: Sequence[BidsFile], wanted: Mapping[str, str]) -> list[BidsFile]:
    found = [file for file in files if file.entities.items() >= wanted.items()]
    if not found:
        raise InputError(
            "no run has these entities",
            given=", ".join(f"{key}-{value}" for key, value in wanted.items()),
            expected=f"entities such as those of {files[0].path.name}",
            todo="fix entities in [options]",
        )
    return found


def _one_space(files: Sequence[BidsFile], options: BidsOptions, folder: Path) -> list[BidsFile]:
    """Take the files of the space asked for; of the only one where none was."""
    matches: dict[str, Callable[[BidsFile], object]] = {
        "kind": kind_of,
        "space": lambda file: file.entities.get("space", NATIVE),
        "resolution": lambda file: file.entities.get("res"),
        "density": lambda file: file.entities.get("den"),
    }
    chosen = [
        file for file in files if all(getattr(options, key) in (None, read(file)) for key, read in matches.items())
    ]
    found, known = _spaces(chosen), _spaces(files)
    asked = ", ".join(f"{key} = {getattr(options, key)!r}" for key in matches if getattr(options, key) is not None)
    if not chosen:
        raise UnknownNameError("space of the runs", asked or str(dict(options.entities)), known)
    if len(found) > 1:
        raise InputError(
            f"the runs in {folder} lie in several spaces",
            given="; ".join(found),
            expected="one",
            todo='choose it in [options]: space = "..." (and resolution, density or kind where needed)',
        )
    return chosen


def _spaces(files: Iterable[BidsFile]) -> list[str]:
    names = set()
    for file in files:
        more = [f"{key}-{file.entities[key]}" for key in ("res", "den") if key in file.entities]
        names.add(" ".join([file.entities.get("space", NATIVE), *more, f"({kind_of(file)})"]))
    return sorted(names)


def _complete(group: list[BidsFile]) -> tuple[BidsFile, ...]:
    """Return the file of a run, or its two hemispheres."""
    group = sorted(group, key=lambda file: file.entities.get("hemi", ""))
    sides = [file.entities.get("hemi", "") for file in group]
    surface = kind_of(group[0]) == "surface"
    if surface and sorted(set(sides)) == sides and sides != ["L", "R"]:
        raise MissingFileError(
            f"a hemisphere of {group[0].path} is missing",
            given=f"hemi-{sides[0]} alone",
            expected="a pair hemi-L and hemi-R",
            todo="copy the other one, or run fMRIPrep again",
        )
    if len(group) != (2 if surface else 1):
        raise InputError(
            "several files stand for one run",
            given=", ".join(file.path.name for file in group),
            expected="one a run",
            todo="take the others out of the folder",
        )
    return tuple(group)


def _number(runs: list[tuple[BidsFile, ...]]) -> list[RunFiles]:
    """Number sessions and runs, and sort."""
    sessions: dict[str, list[str]] = defaultdict(list)
    places: dict[tuple[str, str], list[BidsFile]] = defaultdict(list)
    for file, *_ in runs:
        subject, session = file.entities["sub"], file.entities.get("ses", "1")
        sessions[subject].append(session)
        places[subject, session].append(file)
    found = []
    for files in runs:
        first = files[0]
        subject, session = first.entities["sub"], first.entities.get("ses", "1")
        kind = kind_of(first)
        assert kind is not None
        number = _run_numbers(places[subject, session])[first.path]
        task = first.entities["task"]
        found.append(RunFiles(f"sub-{subject}", numbered(sessions[subject])[session], number, task, kind, files))
    return sorted(found, key=lambda run: (natural(run.first.entities["sub"]), run.session, run.number))


def _run_numbers(files: Sequence[BidsFile]) -> dict[Path, int]:
    """Return the number of each run of a session: its label where that tells the runs apart, else its place."""
    labels = [file.entities.get("run", "") for file in files]
    if all(labels) and len(set(labels)) == len(labels):
        numbers = numbered(labels)
        return {file.path: numbers[file.entities["run"]] for file in files}
    ordered = sorted(files, key=lambda file: (file.entities["task"], natural(file.entities.get("run", "1")), file.path))
    return {file.path: place for place, file in enumerate(ordered, start=1)}


def tidy(name: object) -> str:
    """Return the id of a stimulus: its file below ``stimuli/``, with slashes, or its trial type."""
    return str(name).strip().replace("\\", "/").removeprefix("./").removeprefix("stimuli/").removeprefix("/")
