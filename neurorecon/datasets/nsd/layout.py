"""Options of the NSD reader, and the layout of NSD's files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from neurorecon.datasets.base import Options
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import broken_link, refuse_empty

#: Versions of the betas.
Betas = Literal["betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf"]


class NsdOptions(Options):
    """Options of the NSD reader: what to read, and how to split it.

    Parameters
    ----------
    task : tuple of {"core", "synthetic", "imagery"}
        What to read: NSD itself, NSD-synthetic, NSD-imagery, or several of them (also as one word). Each is a task of
        the store, or two (seen and imagined stimuli); nothing is trained on the further ones.
    subjects : tuple of str
        E.g. ``("subj01", "subj02")``. By default, all subjects on disk.
    sessions : str or tuple of int
        ``"all"`` on disk, ranges (``"1-37"``, ``"1-10,12"``), or a list of numbers. Sessions that a subject does not
        have (subj08 has 30) are left out; the others must be on disk.
    space : {"func1pt8mm", "func1mm", "MNI", "fsaverage", "nativesurface"}
        Space of the betas. NSD has no ROIs in MNI space: set `mask` to ``"brain"`` or to a file on the same grid.
    betas : {"betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf"}
        Version of the betas (b3, b2, b1 of the paper).
    mask : str
        Which voxels to store: an ROI (or several joined by ``+``), ``"brain"``, or the path of a mask on the same grid,
        relative to the folder of the data set (``.nii``, ``.nii.gz``; on surfaces ``.mgh``, ``.mgz``).
    min_ncsnr : float, optional
        Keep the voxels of the mask whose ``ncsnr`` (signal-to-noise ratio of single trials, as NSD provides it) is at
        least this.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant (e.g. zero) or not finite in any session. If kept, values that are not
        finite become 0, and the voxels are exactly those of the mask.
    voxel_maps : tuple of str
        Further maps to store for each voxel, by the names of their files, e.g. ``("prf_angle", "floc_*tval")``.
    scaling : {"percent", "session", "session-all"}
        Percent signal change, or z-scores within each session. ``"session"`` takes mean and standard deviation from the
        training trials of the session (from all of its trials if it has fewer than two), ``"session-all"`` always from
        all trials, test trials included, as several published systems do.
    samples : {"trial", "average"}
        One sample per trial, or one per image, the mean of its trials.
    images : str, optional
        Where the images are: by default ``nsd_stimuli.hdf5``; ``"none"`` to build a store without images; a folder of
        image files; or an HDF5 or ``.npy`` file with some of the images. Relative to the folder of the data set.
    image_table : str, optional
        A table (CSV, TSV) that says which image is which: columns ``nsdId`` and ``file`` for a folder, ``nsdId`` in the
        order of the images for a file. Not needed for NSD's own names, ``sharedAAAA_nsdBBBBB.png``.
    image_size : int, optional
        Pixels on each side of the stored images. By default, the size in the file (425).
    hemisphere_rois : bool
        Whether to add ``lh.`` and ``rh.`` ROIs from the files of these names. (``lh.V1`` can be selected without them,
        by the positions of the voxels.)
    split : {"shared1000", "sessions", "clusters", "category"}
        The test stimuli: the shared images, the images of `test_sessions`, held-out clusters of images, or the images
        that show `test_category`.
    test_repeats : int
        Minimum number of times a shared image is shown in the sessions read; others are left out (``"shared1000"``).
    test_sessions : tuple of int
        Sessions to test on (``"sessions"``).
    clusters : int
        Number of clusters of images, by the words of their captions (``"clusters"``).
    cluster_table : str, optional
        A CSV file with the columns ``nsdId`` and ``cluster``, to use instead of clustering captions.
    test_share : float
        Share of the images to hold out, in whole clusters drawn at random (``"clusters"``).
    test_category : str, optional
        A COCO category or supercategory, e.g. ``"person"`` or ``"animal"`` (``"category"``).
    category_table : str, optional
        A CSV file with the columns ``nsdId`` and ``category`` (an image may have several rows), to use instead of
        COCO's instances.
    annotations : str, optional
        Folder of COCO's ``captions_*.json`` and ``instances_*.json``, if it is not one of the usual folders.
    seed : int
        Random seed of the clustering and of the draw of clusters.
    """

    task: tuple[Literal["core", "synthetic", "imagery"], ...] = ("core",)
    subjects: tuple[str, ...] = ()
    sessions: str | tuple[int, ...] = "all"
    space: Literal["func1pt8mm", "func1mm", "MNI", "fsaverage", "nativesurface"] = "func1pt8mm"
    betas: Betas = "betas_fithrf_GLMdenoise_RR"
    mask: str = "nsdgeneral"
    min_ncsnr: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    bad_voxels: Literal["drop", "keep"] = "drop"
    voxel_maps: tuple[str, ...] = ()
    scaling: Literal["percent", "session", "session-all"] = "percent"
    samples: Literal["trial", "average"] = "trial"
    images: str | None = None
    image_table: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=1024)
    hemisphere_rois: bool = False
    split: Literal["shared1000", "sessions", "clusters", "category"] = "shared1000"
    test_repeats: int = Field(default=1, ge=1, le=3)
    test_sessions: tuple[int, ...] = ()
    clusters: int = Field(default=40, ge=2)
    cluster_table: str | None = None
    test_share: float = Field(default=0.1, gt=0, lt=1)
    test_category: str | None = None
    category_table: str | None = None
    annotations: str | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("task", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list | tuple):
            if not names:
                raise ValueError('must name at least one of "core", "synthetic", "imagery"')
            order = ["core", "synthetic", "imagery"]
            return tuple(sorted(dict.fromkeys(names), key=lambda name: order.index(name) if name in order else 3))
        return names

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the task out where it is NSD itself, so that stores built before there were others are the same."""
        found: dict[str, Any] = serialize(self)
        if self.task == ("core",):
            found.pop("task", None)
        return found

    @field_validator("sessions")
    @classmethod
    def _readable(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(value, str) and value != "all" and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", value):
            raise ValueError('must be "all", a range such as "1-37" or "1-10,12", or a list of numbers')
        if value != "all" and not _numbers(value):
            raise ValueError("does not contain any session")
        return value

    @model_validator(mode="after")
    def _split_is_told_all(self) -> NsdOptions:
        if self.split == "sessions" and not self.test_sessions:
            raise ValueError('split = "sessions" needs test_sessions, e.g. test_sessions = [39, 40]')
        if self.split == "category" and not self.test_category:
            raise ValueError('split = "category" needs test_category, e.g. test_category = "person"')
        return self

    def session_numbers(self) -> list[int] | None:
        """Return the sessions in the options, or None for all on disk."""
        return None if self.sessions == "all" else _numbers(self.sessions)

    @property
    def on_surface(self) -> bool:
        """Whether the betas are on the vertices of a surface."""
        return self.space in SURFACES


def _numbers(value: str | tuple[int, ...]) -> list[int]:
    if not isinstance(value, str):
        return sorted(set(value))
    found: set[int] = set()
    for part in value.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found)


#: Number of sessions of each subject.
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}

#: Advice if a file is missing or damaged.
DOWNLOAD = "download it again from NSD (naturalscenesdataset.org), into the same folder below the root"

#: Hemispheres by their prefixes in file names.
HEMISPHERES = {"lh": "left", "rh": "right"}

#: Spaces whose betas are on vertices: the average surface, and that of each subject.
SURFACES = ("fsaverage", "nativesurface")


def check_root(root: Path) -> None:
    """Raise an error that names the right folder if the root is a level too high or too low.

    Raises
    ------
    MissingFileError
        Nothing is raised if no such folder is found; whatever is missing says so itself.
    """
    parts = ("nsddata", "nsddata_betas")
    if any((root / part).is_dir() for part in parts):
        return
    place = root.resolve()
    above = [folder for folder in place.parents if any((folder / part).is_dir() for part in parts)
             and place.relative_to(folder).parts[0].startswith("nsddata")]  # fmt: skip
    below = sorted(
        {folder.parent for part in parts for depth in ("*", "*/*") for folder in place.glob(f"{depth}/{part}")}
    )
    if above or below:
        right = above[0] if above else below[0]
        raise MissingFileError(
            f"the folder of the data set is a level too {'low' if above else 'high'}",
            given=str(root),
            expected="the folder that holds nsddata, nsddata_betas and nsddata_stimuli",
            todo=f"use --root {right}" + (f" (or one of {', '.join(map(str, below[1:5]))})" if len(below) > 1 else ""),
        )


@dataclass(frozen=True)
class Layout:
    """Paths within the folder of the data set.

    Parameters
    ----------
    root : path
        The folder with ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``.
    """

    root: Path

    @property
    def design(self) -> Path:
        """The file with the design of the experiment."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat"

    @property
    def stimulus_table(self) -> Path:
        """The table of images, without its extension (``.csv`` or ``.pkl``)."""
        return self.root / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged"

    @property
    def stimuli(self) -> Path:
        """The file with the images."""
        return self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    def behavior(self, subject: str) -> Path:
        """The file with the behavioral responses."""
        return self.root / "nsddata" / "ppdata" / subject / "behav" / "responses.tsv"

    def betas(self, subject: str, options: NsdOptions, task: str = "core") -> Path:
        """The folder of the betas of a task, in the version and space of the options."""
        version = options.betas if task == "core" else f"nsd{task}{options.betas}"
        return self.root / "nsddata_betas" / "ppdata" / subject / options.space / version

    @property
    def synthetic(self) -> Path:
        """The folder with the design of NSD-synthetic."""
        return self.root / "nsddata" / "experiments" / "nsdsynthetic"

    def synthetic_images(self, subject: str | None) -> Path:
        """The images of NSD-synthetic that all subjects saw, or those of one subject."""
        name = "nsdsynthetic_stimuli" if subject is None else f"nsdsynthetic_colorstimuli_{subject}"
        return self.root / "nsddata_stimuli" / "stimuli" / "nsdsynthetic" / f"{name}.hdf5"

    @property
    def imagery(self) -> Path:
        """The folder with the design and the images of NSD-imagery."""
        return self.root / "nsddata" / "experiments" / "nsdimagery"

    def imagery_run(self, subject: str, run: str) -> Path:
        """The trials of a run of NSD-imagery."""
        return self.root / "nsddata" / "bdata" / "nsdimagery" / f"nsdimagery_{subject}_{run}.tsv"

    def preparation(self, subject: str, space: str) -> Path:
        """The folder with ``brainmask.nii.gz`` and ``roi``."""
        return self.root / "nsddata" / "ppdata" / subject / space

    def labels(self, subject: str) -> Path:
        """The folder with the names of labels, and the ROIs on surfaces, of a subject or ``fsaverage``."""
        return self.root / "nsddata" / "freesurfer" / subject / "label"

    @property
    def templates(self) -> Path:
        """The folder with the names of labels of volumes, e.g. ``MTL.ctab``."""
        return self.root / "nsddata" / "templates"

    def annotations(self, given: str | None) -> list[Path]:
        """Folders that may contain COCO's annotations, in order of precedence."""
        if given is not None:
            return [self.root / given]
        beside = self.stimuli.parent / "annotations"  # where nsd_access puts them
        return [self.root / "annotations", beside, self.root / "coco" / "annotations"]


def source_files(layout: Layout, options: NsdOptions) -> list[Path]:
    """List the files that are read with these options, including some that may not exist."""
    files = []
    if "core" in options.task:
        files += [layout.design, *_image_sources(layout, options)]
        files += [layout.stimulus_table.with_suffix(end) for end in (".csv", ".pkl")]
    if "synthetic" in options.task:
        files += layout.synthetic.glob("nsdsynthetic*")
        files += layout.synthetic_images(None).parent.glob("*.hdf5")
    if "imagery" in options.task:
        files += [*layout.imagery.glob("*_pair_list.mat"), *layout.imagery.glob("rawtargetimages/set*/*")]
    files += [layout.root / given for given in (options.cluster_table, options.category_table) if given]
    mask = layout.root / options.mask
    files += [mask, *(mask.with_name(f"{side}.{mask.name}") for side in HEMISPHERES)]
    for folder in layout.annotations(options.annotations):
        files += [*folder.glob("captions_*2017.json"), *folder.glob("instances_*2017.json")]
    for name in find_subjects(layout, options):
        for betas in find_sessions(layout, name, options).values():
            files += betas
        if "imagery" in options.task:
            files += layout.imagery_run(name, "*").parent.glob(layout.imagery_run(name, "*").name)
        files += layout.betas(name, options).glob("*ncsnr.*")
        prepared = layout.preparation(name, options.space)
        files += [layout.behavior(name), prepared / "brainmask.nii.gz", *prepared.glob("roi/*.nii*")]
        for pattern in options.voxel_maps:
            files += prepared.glob(f"{pattern}.nii*")
        for labels in {layout.labels(name), layout.labels("fsaverage")}:
            files += labels.glob("*.mg[hz]*" if options.on_surface else "*.ctab")
    return [*files, *layout.templates.glob("*.ctab")]


def _image_sources(layout: Layout, options: NsdOptions) -> list[Path]:
    if options.images is None:
        return [layout.stimuli]
    place = layout.root / options.images
    table = [layout.root / options.image_table] if options.image_table else []
    return [*table, *(sorted(place.iterdir()) if place.is_dir() else [place])]


def find_subjects(layout: Layout, options: NsdOptions) -> list[str]:
    """Return the subjects to read, in order.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are no betas in the version and space of the options, or not of a requested subject.
    """
    folder = layout.root / "nsddata_betas" / "ppdata"
    broken_link(folder, "the betas: folders subjXX/SPACE/BETAS")
    for place in sorted(folder.glob("subj[0-9][0-9]")):
        if not options.subjects or place.name in options.subjects:
            refuse_empty(place, "the betas of a subject (or name the subjects to read in [options])")
            broken_link(place / options.space, "the betas of a subject (or name the subjects to read in [options])")
            for task in options.task:
                refuse_empty(layout.betas(place.name, options, task), "the betas of each session")
    there = sorted(
        path.name for path in folder.glob("subj[0-9][0-9]")
        if all(layout.betas(path.name, options, task).is_dir() for task in options.task)
    )  # fmt: skip
    if not there:
        raise MissingFileError(
            "there are no betas in this version and space" + ("" if options.task == ("core",) else " of these tasks"),
            given=f"{layout.root}, space = {options.space!r}, betas = {options.betas!r}, "
            f"task = {', '.join(options.task)}",
            expected="folders "
            + " and ".join(
                f"nsddata_betas/ppdata/subjXX/{options.space}/{layout.betas('', options, task).name}"
                for task in options.task
            ),
            todo=_what_there_is(folder),
        )
    for name in options.subjects:
        if name not in there:
            raise UnknownNameError("subject", name, there)
    return [name for name in there if name in options.subjects] if options.subjects else there


def _what_there_is(folder: Path) -> str:
    found = sorted({"/".join(path.parts[-2:]) for path in folder.glob("subj*/*/*betas_*") if path.is_dir()})
    if found:
        return f"set space, betas and task in [options] to what is there: {', '.join(found)}"
    return "check --root (the folder that holds nsddata_betas), or download betas; see docs/datasets/nsd.md"


def find_sessions(layout: Layout, subject: str, options: NsdOptions) -> dict[int, list[Path]]:
    """Return the files of each session to read: one file, or one per hemisphere.

    If a session exists both as NIfTI and as HDF5, the HDF5 file is used: it is not compressed, so that the voxels of a
    mask are read much faster.

    Raises
    ------
    MissingFileError, InputError
        If a requested session, or one of its hemispheres, is missing.
    """
    if "core" not in options.task:
        return {}
    folder = layout.betas(subject, options)
    surface = options.on_surface
    found: dict[int, dict[str, Path]] = {}
    pattern = r"(lh|rh)\.betas_session(\d+)\.(hdf5|mgh|mgz)" if surface else r"()betas_session(\d+)\.(hdf5|nii\.gz|nii)"
    for path in sorted(folder.iterdir(), reverse=True):  # hdf5 sorts before nii, so it comes last and replaces it
        match = re.fullmatch(pattern, path.name)
        if match:
            found.setdefault(int(match[2]), {})[match[1]] = path
    wanted = options.session_numbers()
    last = sessions_of(subject)
    if wanted is not None and not any(number <= last for number in wanted):
        raise InputError(
            f"{subject} has none of these sessions",
            given=f"sessions = {options.sessions!r}",
            expected=f"sessions from 1 to {last}",
            todo="choose other sessions, or leave this subject out with the option subjects",
        )
    missing = [number for number in wanted or [] if number not in found and number <= last]
    if missing or not found:
        raise MissingFileError(
            f"sessions of {subject} are missing",
            given=f"{folder} with sessions {span(sorted(found)) or '(none)'}, without {span(missing) or 'any'}",
            expected="the betas of every session in the option sessions",
            todo=f'{DOWNLOAD}, or set sessions = "all" to use those on disk',
        )
    sides = {"lh", "rh"} if surface else {""}
    chosen = {number: files for number, files in sorted(found.items()) if wanted is None or number in wanted}
    for number, files in chosen.items():
        if set(files) != sides:
            raise InputError(
                f"session {number} of {subject} has the files of only one hemisphere",
                given=", ".join(str(path) for path in files.values()),
                expected="the files of both hemispheres, lh. and rh.",
                todo=DOWNLOAD,
            )
    return {number: [files[side] for side in sorted(sides)] for number, files in chosen.items()}


def find_task(layout: Layout, subject: str, options: NsdOptions, task: str) -> list[Path]:
    """Return the files of NSD-synthetic or NSD-imagery: one, or one per hemisphere; HDF5 where both are there.

    Raises
    ------
    MissingFileError
        If there are none.
    """
    folder = layout.betas(subject, options, task)
    for end in ("hdf5", "mgh", "mgz") if options.on_surface else ("hdf5", "nii.gz", "nii"):
        files = [folder / f"{side}betas_nsd{task}.{end}" for side in (("lh.", "rh.") if options.on_surface else ("",))]
        for path in files:
            broken_link(path, "betas")
        if all(path.is_file() for path in files):
            return files
    raise MissingFileError(
        f"the betas of NSD-{task} of {subject} are missing",
        given=f"no file {files[0].name.removesuffix(end)}* in {folder}",
        expected=f"betas_nsd{task}.hdf5 or .nii.gz (on surfaces, of both hemispheres)",
        todo=f"{DOWNLOAD}, or leave {task!r} out of the option task",
    )


def sessions_of(subject: str) -> int:
    """Return how many sessions of the experiment a subject took part in."""
    return SESSIONS.get(int(subject.removeprefix("subj")), 40)


def span(numbers: list[int]) -> str:
    """Format numbers as ranges, e.g. ``"1-37, 40"``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
