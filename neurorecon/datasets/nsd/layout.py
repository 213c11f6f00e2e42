"""Where NSD keeps its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from neurorecon.datasets.nsd.options import NsdOptions
from neurorecon.errors import InputError, MissingFileError, UnknownNameError

#: Sessions that each subject took part in.
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}

#: What to do where a file is missing or damaged.
DOWNLOAD = "download it again from NSD (naturalscenesdataset.org), into the same folder below the root"

#: Names of the hemispheres in files, and in tables.
HEMISPHERES = {"lh": "left", "rh": "right"}


@dataclass(frozen=True)
class Layout:
    """Paths below the folder that was downloaded.

    Parameters
    ----------
    root : path
        The folder with ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``.
    """

    root: Path

    @property
    def design(self) -> Path:
        """The design of the experiment."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"

    @property
    def stimulus_table(self) -> Path:
        """The table of pictures, without its suffix (``.csv`` or ``.pkl``)."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged"

    @property
    def stimuli(self) -> Path:
        """The pictures."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    def behavior(self, subject: str) -> Path:
        """The button presses."""
        return self.root / "nsddata" / "ppdata" / subject / "behav" / "responses.tsv"

    def betas(self, subject: str, options: NsdOptions) -> Path:
        """The folder of the betas of one version in one space."""
        return self.root / "nsddata_betas" / "ppdata" / subject / options.space / options.betas

    def preparation(self, subject: str, space: str) -> Path:
        """The folder with ``brainmask.nii.gz`` and ``roi``."""
        return self.root / "nsddata" / "ppdata" / subject / space

    def labels(self, subject: str) -> Path:
        """The folder with the names of labels, and ROIs on surfaces; ``fsaverage`` has one too."""
        return self.root / "nsddata" / "freesurfer" / subject / "label"

    def annotations(self, given: str | None) -> list[Path]:
        """Folders in which COCO's annotations may lie, the first one first."""
        if given is not None:
            return [self.root / given]
        beside = self.stimuli.parent / "annotations"  # where nsd_access puts them
        return [self.root / "annotations", beside, self.root / "coco" / "annotations"]


def source_files(layout: Layout, options: NsdOptions) -> list[Path]:
    """Return the files that are read with these options; those that are not there are named too."""
    files = [layout.design, layout.stimuli, *(layout.stimulus_table.with_suffix(end) for end in (".csv", ".pkl"))]
    files += [layout.root / given for given in (options.cluster_table, options.category_table) if given]
    mask = layout.root / options.mask
    files += [mask, *(mask.with_name(f"{side}.{mask.name}") for side in HEMISPHERES)]
    for folder in layout.annotations(options.annotations):
        files += [*folder.glob("captions_*2017.json"), *folder.glob("instances_*2017.json")]
    for name in find_subjects(layout, options):
        for betas in find_sessions(layout, name, options).values():
            files += betas
        files += layout.betas(name, options).glob("*ncsnr.*")
        prepared = layout.preparation(name, options.space)
        files += [layout.behavior(name), prepared / "brainmask.nii.gz", *prepared.glob("roi/*.nii*")]
        for labels in {layout.labels(name), layout.labels("fsaverage")}:
            files += labels.glob("*.mg[hz]*" if options.space == "fsaverage" else "*.ctab")
    return files


def find_subjects(layout: Layout, options: NsdOptions) -> list[str]:
    """Return the subjects to read, in order.

    Raises
    ------
    MissingFileError, UnknownNameError
        Where there are no betas of the version and the space that are asked for, or not of a subject that is.
    """
    folder = layout.root / "nsddata_betas" / "ppdata"
    there = sorted(path.name for path in folder.glob("subj[0-9][0-9]") if layout.betas(path.name, options).is_dir())
    if not there:
        raise MissingFileError(
            "there are no betas of this version in this space",
            given=f"{layout.root}, space = {options.space!r}, betas = {options.betas!r}",
            expected=f"folders nsddata_betas/ppdata/subjXX/{options.space}/{options.betas}",
            todo=_what_there_is(folder),
        )
    for name in options.subjects:
        if name not in there:
            raise UnknownNameError("subject", name, there)
    return [name for name in there if name in options.subjects] if options.subjects else there


def _what_there_is(folder: Path) -> str:
    found = sorted({"/".join(path.parts[-2:]) for path in folder.glob("subj*/*/betas_*") if path.is_dir()})
    if found:
        return f"set space and betas to what is there: {', '.join(found)}"
    return "check --root (the folder that holds nsddata_betas), or download betas; see docs/datasets/nsd.md"


def find_sessions(layout: Layout, subject: str, options: NsdOptions) -> dict[int, list[Path]]:
    """Return the files of each session to read: one, or one a hemisphere.

    Where a session is there both as NIfTI and as HDF5, the HDF5 is taken: it is not compressed, so that a mask is
    read from it in a fraction of the time.
    """
    folder = layout.betas(subject, options)
    surface = options.space == "fsaverage"
    found: dict[int, dict[str, Path]] = {}
    pattern = r"(lh|rh)\.betas_session(\d+)\.(mgh|mgz)" if surface else r"()betas_session(\d+)\.(hdf5|nii\.gz|nii)"
    for path in sorted(folder.iterdir(), reverse=True):  # hdf5 sorts before nii: it comes last and stays
        match = re.fullmatch(pattern, path.name)
        if match:
            found.setdefault(int(match[2]), {})[match[1]] = path
    wanted = options.session_numbers()
    missing = [number for number in wanted or [] if number not in found]
    if missing or not found:
        raise MissingFileError(
            f"sessions of {subject} are missing",
            given=f"{folder} with sessions {span(sorted(found)) or '(none)'}, without {span(missing) or 'any'}",
            expected="the betas of every session that the option sessions names",
            todo=f'{DOWNLOAD}, or set sessions = "all" to take those on disk',
        )
    sides = {"lh", "rh"} if surface else {""}
    chosen = {number: files for number, files in sorted(found.items()) if wanted is None or number in wanted}
    for number, files in chosen.items():
        if set(files) != sides:
            raise InputError(
                f"session {number} of {subject} is there for one hemisphere only",
                given=", ".join(str(path) for path in files.values()),
                expected="files of both hemispheres, lh. and rh.",
                todo=DOWNLOAD,
            )
    return {number: [files[side] for side in sorted(sides)] for number, files in chosen.items()}


def span(numbers: list[int]) -> str:
    """Return numbers as a short text, e.g. ``"1-37, 40"``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
