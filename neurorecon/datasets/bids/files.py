"""Find the preprocessed runs of a BIDS derivative, in one space."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurorecon.datasets.bids.names import BidsFile, natural, numbered, parse
from neurorecon.datasets.bids.options import BidsOptions
from neurorecon.errors import InputError, MissingFileError, UnknownNameError

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
            todo="mend entities in [options]",
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
