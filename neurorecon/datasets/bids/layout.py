"""Options of the BIDS reader, and how it finds the preprocessed runs of a derivative and their files."""

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
from neurorecon.io.files import broken_link, refuse_empty, require_file

#: Default lag (s) between a stimulus and its response.
LAG = 5.0


class Strategy(Part):
    """Parameters of nilearn's ``load_confounds``, with the same defaults."""

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
    """The rule that defines the test stimuli. At most one of the keys can be given.

    Parameters
    ----------
    column : str, optional
        Column of the events that contains the split of each stimulus, e.g. ``train`` or ``test``. If no key is given,
        the column ``split`` is used if it exists.
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
        """Check that at most one rule is given."""
        given = [key for key, value in self if value is not None]
        if len(given) > 1:
            raise ValueError(f"at most one of column, runs, sessions, stimuli, not {' and '.join(given)}")


class BidsOptions(Options):
    """Options of the BIDS reader. ``stores/README.md`` explains each of them."""

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
        """Lag (s) between a stimulus and its response."""
        if self.lag is not None:
            return self.lag
        return 0.0 if self.samples == "volume" else LAG


@dataclass(frozen=True)
class BidsFile:
    """A BIDS file and the parts of its name.

    Parameters
    ----------
    path : path
        The file.
    entities : mapping of str to str
        E.g. ``{"sub": "01", "task": "shapes"}``.
    suffix, extension : str
        E.g. ``"bold"`` and ``"nii.gz"``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str

    def without(self, *keys: str) -> dict[str, str]:
        """Return the entities without the given ones."""
        return {key: value for key, value in self.entities.items() if key not in keys}


def parse(path: Path) -> BidsFile | None:
    """Parse a file name; return None if it does not follow BIDS."""
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
    """Return a sort key for labels: numbers by value, then words."""
    return (0, int(label), label) if label.isdigit() else (1, 0, label)


def numbered(labels: Iterable[str]) -> dict[str, int]:
    """Number the labels: by their value if all are distinct positive numbers, else in sorted order from 1."""
    ordered = sorted(set(labels), key=natural)
    own = [int(label) if label.isdigit() else 0 for label in ordered]
    if all(number >= 1 for number in own) and len(set(own)) == len(own):
        return dict(zip(ordered, own, strict=True))
    return {label: place for place, label in enumerate(ordered, start=1)}


class Folders:
    """The folders that may contain files belonging to a run, with cached listings.

    Parameters
    ----------
    roots : sequence of path
        The data sets: derivatives and raw.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(roots))
        self._listed: dict[Path, list[BidsFile]] = {}

    def belonging(self, run: BidsFile, suffixes: Sequence[str], extension: str, **wanted: str) -> list[BidsFile]:
        """Find the files that belong to a run by the inheritance principle, the most specific last.

        Parameters
        ----------
        run : BidsFile
            The run.
        suffixes : sequence of str
            E.g. ``["events"]``.
        extension : str
            E.g. ``"tsv"``.
        **wanted : str
            Entities that the file must have, whatever those of the run, e.g. ``desc="confounds"``.

        Returns
        -------
        list of BidsFile
            The files that have no entities other than those of the run and `wanted`.
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
        """Return all files without entities other than those of the run and ``desc``: tables, sidecars, masks."""
        return [
            file
            for folder in self._folders(run)
            for file in self._files(folder)
            if file.without("desc").items() <= run.entities.items()
        ]

    def metadata(self, run: BidsFile) -> dict[str, Any]:
        """Return the metadata of a run from its sidecars; more specific sidecars take precedence."""
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
            # Links that lead nowhere are listed, so that whoever reads them says so.
            self._listed[folder] = [file for file in map(parse, paths) if file is not None and not file.path.is_dir()]
        return self._listed[folder]


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar.

    Raises
    ------
    InputError
        If the file is not a JSON object.
    """
    require_file(path, "a JSON file", "fix the file, or copy it again")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read",
            given=f"{type(error).__name__}: {error}",
            expected="a JSON file",
            todo="fix the file, or copy it again",
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a sidecar", given=type(values).__name__, expected="a JSON object")
    return values


#: Entities that distinguish versions of the same run.
OF_SPACE = ("hemi", "space", "res", "den", "desc")

#: Name of the native space, i.e. that of files without the entity ``space``.
NATIVE = "func"


@dataclass(frozen=True)
class RunFiles:
    """The files of one run in one space.

    Parameters
    ----------
    subject : str
        E.g. ``"sub-01"``.
    session, number : int
        Numbers of the session and of the run within the session, from 1.
    task : str
        Label of the task.
    kind : {"volume", "surface", "grayordinates"}
        Kind of space.
    files : tuple of BidsFile
        One file, or left and right hemisphere.
    """

    subject: str
    session: int
    number: int
    task: str
    kind: str
    files: tuple[BidsFile, ...]

    @property
    def first(self) -> BidsFile:
        """The file of the run, or of its left hemisphere."""
        return self.files[0]

    @property
    def path(self) -> Path:
        """Path of :attr:`first`, for error messages."""
        return self.files[0].path

    @property
    def space(self) -> str:
        """Name of the space; ``"func"`` if the file names do not contain one."""
        return self.first.entities.get("space", NATIVE)


def derivatives_folder(root: Path) -> Path:
    """Return the folder with the preprocessed runs: the root, or the only pipeline in its ``derivatives``.

    Parameters
    ----------
    root : path
        The derivatives, or the raw data set that contains them.

    Raises
    ------
    MissingFileError, InputError
        If there are no preprocessed runs, or those of several pipelines.
    """
    if _bold(root):
        return root
    found = [folder for folder in sorted(root.glob("derivatives/*")) if folder.is_dir() and _bold(folder)]
    if len(found) > 1:
        raise InputError(
            f"{root} contains derivatives of several pipelines",
            given=", ".join(folder.name for folder in found),
            expected="the folder of one pipeline",
            todo=f"pass one of them, e.g. --root {found[0]}",
        )
    if not found:
        for folder in (*root.glob("derivatives"), *root.glob("derivatives/*"), *root.glob("sub-*")):
            refuse_empty(folder, "preprocessed runs, as fMRIPrep writes them")
        raise MissingFileError(
            f"there are no preprocessed runs below {root}",
            given="no such files in sub-*/func or sub-*/ses-*/func, here or in derivatives/*",
            expected="*_desc-preproc_bold.nii.gz, *_bold.dtseries.nii or *_bold.func.gii, as fMRIPrep writes them",
            todo="pass the folder of the derivatives: --root DIR/derivatives/fmriprep",
        )
    return found[0]


def find_runs(folder: Path, options: BidsOptions) -> list[RunFiles]:
    """Find the runs selected by the options, sorted by subject, session and run.

    Parameters
    ----------
    folder : path
        The derivatives.
    options : BidsOptions
        The options of the reader.

    Returns
    -------
    list of RunFiles

    Raises
    ------
    InputError
        If nothing matches an option, or the options match runs in several spaces.
    """
    names = None if options.subjects is None else {f"sub-{name.removeprefix('sub-')}" for name in options.subjects}
    for place in sorted([*folder.glob("sub-*"), *folder.glob("sub-*/ses-*"), *folder.glob("sub-*/**/func")]):
        if names is None or place.relative_to(folder).parts[0] in names:
            refuse_empty(place, "the preprocessed runs of a subject (or name the subjects to read in [options])")
    files = _bold(folder)
    label = {"sub": options.subjects, "ses": options.sessions, "task": options.tasks, "run": options.runs}
    words = {"sub": "subject", "ses": "session", "task": "task", "run": "run"}
    for key, wanted in label.items():
        if wanted is not None:
            files = _select(files, key, [name.removeprefix(f"{key}-") for name in wanted], words[key])
    files = _with_entities(files, options.entities)
    files = _one_space(files, options, folder)
    _one_version(files, options.entities)
    groups: dict[tuple, list[BidsFile]] = defaultdict(list)
    for file in files:
        groups[tuple(sorted(file.without(*OF_SPACE).items()))].append(file)
    return _number([_complete(group) for group in groups.values()])


def kind_of(file: BidsFile) -> str | None:
    """Return the kind of space of a preprocessed run, or None if the file is not one."""
    if file.suffix != "bold" or not {"sub", "task"} <= file.entities.keys():
        return None
    if file.extension in ("nii.gz", "nii") and file.entities.get("desc") == "preproc":
        return "volume"
    if file.extension == "func.gii" and file.entities.get("hemi") in ("L", "R"):
        return "surface"
    return "grayordinates" if file.extension == "dtseries.nii" else None


def _bold(folder: Path) -> list[BidsFile]:
    for pattern in ("sub-*", "sub-*/ses-*", "sub-*/func", "sub-*/ses-*/func"):
        for place in folder.glob(pattern):
            broken_link(place, "a folder of the data set")
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
    found = [file for file in files if all(_has(file, key, value) for key, value in wanted.items())]
    if not found:
        raise InputError(
            "no run matches the option entities",
            given=", ".join(f"{key}-{value}" for key, value in wanted.items()),
            expected=f"entities of the files, e.g. those of {files[0].path.name}",
            todo="fix entities in [options]",
        )
    return found


def _has(file: BidsFile, key: str, value: str) -> bool:
    """Return whether a file has an entity; ``*`` stands for any value or none, an empty value for none."""
    return value == "*" or file.entities.get(key, "") == value


#: Entities that tell runs apart; others name versions of a run (echoes, magnitude and phase, reconstructions).
OF_RUN = ("sub", "ses", "task", "run")


def _one_version(files: Sequence[BidsFile], wanted: Mapping[str, str]) -> None:
    """Refuse runs of which there are several versions, unless the options say which one, or that all are runs."""
    versions: dict[tuple, list[BidsFile]] = defaultdict(list)
    for file in files:
        versions[tuple(file.entities.get(key, "") for key in (*OF_RUN, "hemi"))].append(file)
    for group in versions.values():
        for key in sorted(set().union(*(file.entities for file in group)) - {*OF_RUN, *OF_SPACE} - wanted.keys()):
            found = sorted({file.entities.get(key, "") for file in group}, key=natural)
            if len(found) > 1:
                raise InputError(
                    f"there are several files of one run, which differ in {key!r}",
                    given=", ".join(f"{key}-{value}" if value else f"without {key}" for value in found)
                    + f", e.g. {group[0].path.name}",
                    expected=f"one value of {key!r}: each file would count as a run of its own",
                    todo=f'choose it in [options]: entities = {{ {key} = {found[-1]!r} }}, "" for files without it, '
                    f'or "*" if they are different runs',
                )


def _one_space(files: Sequence[BidsFile], options: BidsOptions, folder: Path) -> list[BidsFile]:
    """Select the files in the space given by the options, or in the only space."""
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
            f"the runs in {folder} are in several spaces",
            given="; ".join(found),
            expected="one space",
            todo='choose it in [options]: space = "..." (and resolution, density or kind if needed)',
        )
    return chosen


def _spaces(files: Iterable[BidsFile]) -> list[str]:
    names = set()
    for file in files:
        more = [f"{key}-{file.entities[key]}" for key in ("res", "den") if key in file.entities]
        names.add(" ".join([file.entities.get("space", NATIVE), *more, f"({kind_of(file)})"]))
    return sorted(names)


def _complete(group: list[BidsFile]) -> tuple[BidsFile, ...]:
    """Return the file of a run, or the files of its two hemispheres."""
    group = sorted(group, key=lambda file: file.entities.get("hemi", ""))
    sides = [file.entities.get("hemi", "") for file in group]
    surface = kind_of(group[0]) == "surface"
    if surface and sorted(set(sides)) == sides and sides != ["L", "R"]:
        raise MissingFileError(
            f"a hemisphere of {group[0].path} is missing",
            given=f"only hemi-{sides[0]}",
            expected="a pair of files, hemi-L and hemi-R",
            todo="copy the other file, or rerun fMRIPrep",
        )
    if len(group) != (2 if surface else 1):
        raise InputError(
            "a run has several files",
            given=", ".join(file.path.name for file in group),
            expected="one file per run",
            todo="move the others out of the folder, or select one of them with entities in [options]",
        )
    return tuple(group)


def _number(runs: list[tuple[BidsFile, ...]]) -> list[RunFiles]:
    """Number the sessions and runs, and sort the runs."""
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
    """Number the runs of a session: by their labels if these are unique, else in sorted order."""
    labels = [file.entities.get("run", "") for file in files]
    if all(labels) and len(set(labels)) == len(labels):
        numbers = numbered(labels)
        return {file.path: numbers[file.entities["run"]] for file in files}
    ordered = sorted(files, key=lambda file: (file.entities["task"], natural(file.entities.get("run", "1")), file.path))
    return {file.path: place for place, file in enumerate(ordered, start=1)}


def tidy(name: object) -> str:
    """Return the id of a stimulus: its path relative to ``stimuli/``, with forward slashes, or its trial type."""
    return str(name).strip().replace("\\", "/").removeprefix("./").removeprefix("stimuli/").removeprefix("/")
