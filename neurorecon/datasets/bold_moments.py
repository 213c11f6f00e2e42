"""Reader of the BOLD Moments Dataset (ds005165): ten subjects watched 1,102 videos of 3 seconds, 3 T.

Responses are trials that GLMsingle estimated (version B), three for each of 1,000 training videos and ten for each of
102 test videos, normalized by the training trials of their session. They come in pickles, which are loaded without
running code. In MNI space a pickle holds a nibabel image beside the responses, which is passed over: the mask of the
group, a NIfTI file, says where the voxels are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, TRIALS, Description, Options, Reader, SubjectData
from neurorecon.datasets.runs import read_by_part, screen
from neurorecon.datasets.videos import PARCEL_GROUPS, Clip, Clips, VideoOptions
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.atlases import Atlas, hcp_cortex, hcp_parcels, read_rois
from neurorecon.io.files import require_file
from neurorecon.io.grid import Grid, surface_grid
from neurorecon.io.tables import load_arrays
from neurorecon.io.volumes import check_mask, read_mask
from neurorecon.space import Space

#: Length of a video (s).
SECONDS = 3.0

#: Grayordinates of a CIFTI file at 2 mm; the cortical ones come first.
GRAYORDINATES = 91282

#: The ROI of all voxels, and that of voxels that respond to the videos in all subjects.
WHOLE = {"MNI152": "brain", "fsLR32k": "cortex", "fsaverage": "cortex"}
GENERAL = "BMDgeneral"

_AGAIN = "download the file again (neurorecon datasets show bold_moments)"

_ROI = re.compile(r"ROI-[lr](.+)_indices\.pkl")

CITATION = (
    "Lahner B, Dwivedi K, Iamshchinina P, Graumann M, Lascelles A, Roig G, Gifford AT, Pan B, Jin S, Murty NAR, Kay K, "
    "Oliva A, Cichy R (2024). Modeling short visual events through the BOLD Moments video fMRI dataset and metadata. "
    "Nat Commun 15:6241. doi:10.1038/s41467-024-50310-3"
)


class BoldMomentsOptions(VideoOptions):
    """Options of the reader of BOLD Moments; those of videos, and these.

    Parameters
    ----------
    subjects : list of str
        Subjects to read, e.g. ``["sub-01"]``; empty: all on disk.
    space : {"MNI152", "fsLR32k", "fsaverage"}
        The space of version B. Of fsLR32k the cortex is read.
    samples : {"repeat", "average"}
        One sample per presentation of a video, or the mean over its presentations. Noise ceilings need the former.
    voxels : {"all", "rois", "BMDgeneral"}
        All; those in any ROI; or the ROI of voxels that respond in all subjects (MNI152 only).
    parcels : {"hcp-mmp", "none"}
        ROIs of fsLR32k.
    rois : dict of str to str, list of str or Atlas
        Further ROIs, as in the options of ``bids``.
    videos : str
        Folder of the videos, ``0001.mp4`` etc. (relative to the root).
    frames : int
        Number of evenly spaced frames of each video.
    bad_voxels : {"drop", "keep"}
        What to do with voxels that are constant or not finite in a presentation of the videos. If kept, values that are
        not finite become 0.
    """

    subjects: list[str] = Field(default_factory=list)
    space: Literal["MNI152", "fsLR32k", "fsaverage"] = "MNI152"
    samples: Literal["repeat", "average"] = "repeat"
    voxels: Literal["all", "rois", "BMDgeneral"] = "all"
    parcels: Literal["hcp-mmp", "none"] = "hcp-mmp"
    rois: dict[str, str | list[str] | Atlas] = Field(default_factory=dict)
    videos: str = "derivatives/stimuli_metadata/mp4_h264"
    frames: int = Field(default=8, ge=1, le=64)
    bad_voxels: Literal["drop", "keep"] = "drop"


class BoldMomentsReader(Reader):
    """Reader of the BOLD Moments Dataset.

    Parameters
    ----------
    root : path
        The folder with ``derivatives/versionB`` and ``derivatives/stimuli_metadata``.
    options : BoldMomentsOptions, optional
        Space, and which voxels to store.

    Raises
    ------
    MissingFileError
        If there are no responses or too few videos; the message says which.
    InputError
        If a file cannot be used; the message names it.

    References
    ----------
    Lahner et al. 2024, Nat Commun 15:6241.
    """

    name: ClassVar[str] = "bold_moments"
    Options: ClassVar[type[Options]] = BoldMomentsOptions
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3", "V4", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"],
        "dorsal": [*PARCEL_GROUPS["dorsal"], "V3ab", "IPS0", "IPS1-2-3"],
        "ventral": [*PARCEL_GROUPS["ventral"], "LOC", "EBA", "FFA", "OFA", "PPA"],
    }
    options: BoldMomentsOptions

    def __init__(self, root: str | Path | None, options: BoldMomentsOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        self._subjects = find_subjects(self.root, self.options)
        if self.options.voxels == GENERAL and self.options.space != "MNI152":
            raise InputError(
                f"the ROI {GENERAL} is there in MNI space only",
                given=f'voxels = "{GENERAL}", space = "{self.options.space}"',
                expected='space = "MNI152", or voxels = "all" or "rois"',
                todo="change one of them in [options]",
            )
        self._kept: dict[tuple[str, str], tuple[np.ndarray, list[str]]] = {}
        self._order = {task: self._load(self._subjects[0], task)[1] for task in ("train", "test")}
        names = [*self._order["train"], *self._order["test"]]
        folder = self.root / self.options.videos
        paths = [folder / f"{name.removeprefix('vid')}.mp4" for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise MissingFileError(
                f"{len(missing)} of {len(names)} videos are missing",
                given=f"no {missing[0]} in {folder}",
                expected="0001.mp4 etc.: a video for each response",
                todo="accept the terms of the videos, unpack them there, or name their folder (videos in [options])",
            )
        seconds = tuple((np.arange(self.options.frames) * SECONDS / self.options.frames).tolist())
        self._clips = Clips([Clip(name, path, seconds) for name, path in zip(names, paths, strict=True)], self.options)
        self._table = self._clips.table(self.root)
        if self.options.captions is None:
            self._table["captions"] = _descriptions(self.root, names)

    @classmethod
    def sources(cls, root: Path, options: BoldMomentsOptions) -> list[Path]:
        """List the responses of the subjects to read, masks and ROIs, all videos, and their descriptions."""
        found = [_mask_file(root)] if options.space == "MNI152" else []
        for name in find_subjects(root, options):
            found += [path for task in ("train", "test") for path in _prepared(root, name, options.space, task)]
            found += [path for paths in _roi_files(root, name, options.space).values() for path in paths]
            for given in options.rois.values():
                paths = given.path if isinstance(given, Atlas) else given
                found += [
                    root / path.replace("{subject}", name) for path in ([paths] if isinstance(paths, str) else paths)
                ]
        found += sorted((root / options.videos).glob("*.mp4"))
        found += [_annotations(root)] if options.captions is None else [root / options.captions]
        return [path for path in dict.fromkeys(found) if path.is_file()]

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        averaged = "single presentations" if self.options.samples == "repeat" else "means over presentations"
        return Description(
            title=f"BOLD Moments{' in miniature' if self.simulated else ''}: videos of 3 s",
            simulated=self.simulated,
            citation=CITATION,
            terms="CC0 1.0 (responses, ds005165); videos: terms of the BOLD Moments Dataset and Moments in Time",
            units="standard deviations of the training trials of a session",
            notes=f"version B, {self.options.space}; {averaged}. When a video was shown is not in these files: session "
            "is the presentation, time counts the videos.",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``sub-01`` to ``sub-10``: those in the options, or all on disk."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli, ``vid0001`` to ``vid1102``."""
        return self._table.copy()

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape of an image, (y, x, rgb)."""
        return self._clips.shape[1:]

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the middle frames of stimuli ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        return self._clips.images(start, stop)

    def video_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of a video, (frame, y, x, rgb)."""
        return self._clips.shape

    def frames_per_second(self) -> float:
        """Return the rate of the stored frames (Hz)."""
        return self.options.frames / SECONDS

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        return self._clips.frames(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject, after screening its voxels in all presentations.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or a file cannot be used.
        """
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self.subjects)
        assert self.root is not None
        shapes: dict[str, tuple[int, ...]] = {}
        useful: np.ndarray | None = None
        bad = still = 0
        for task in ("train", "test"):
            values, order = self._load(name, task)
            if order != self._order[task]:
                known = self._order[task]
                raise InputError(
                    f"the responses of {name} are to other videos",
                    given=f"{len(order)} {task} videos, {', '.join(order[:3])} ...",
                    expected=f"those of {self._subjects[0]}: {len(known)} videos, {', '.join(known[:3])} ...",
                    todo=_AGAIN,
                )
            shapes[task] = values.shape
            if task == "test" and shapes["train"][2] != values.shape[2]:
                raise InputError(
                    f"training and test responses of {name} do not match",
                    given=f"{shapes['train'][2]} and {values.shape[2]} voxels",
                    expected="the same voxels",
                    todo=_AGAIN,
                )
            screened = screen(values[:, repeat] for repeat in range(values.shape[1]))
            useful = screened.usable if useful is None else useful & screened.usable
            bad, still = max(bad, screened.not_finite), max(still, screened.constant)
        assert useful is not None
        grid, rows = _grid(self.root, self.options.space, shapes["train"][2])
        rois = _rois(self.root, name, self.options, grid, rows)
        keep = self.options.bad_voxels == "keep"
        wanted = np.ones(len(rows), dtype=bool) if keep else useful[: len(rows)]
        wanted = wanted & _selected(rois, self.options, len(rows))
        columns = np.flatnonzero(wanted)
        if not len(columns):
            raise InputError(
                f"no voxel of {name} can be used",
                given=f"up to {bad} not finite and {still} constant, of {len(rows)}",
                expected="voxels that vary between videos",
                todo=_AGAIN,
            )
        lost = int((~useful).sum())
        report = {f"voxels {'kept, as zeros where not finite' if keep else 'dropped'}":
                  f"{lost:,} not finite or constant, of {len(useful):,} voxels"} if lost else {}  # fmt: skip
        average = self.options.samples == "average"

        def load(part: int) -> np.ndarray:
            values = self._load(name, ("train", "test")[part])[0][:, :, columns]
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
            return values.mean(axis=1) if average else values.swapaxes(0, 1).reshape(-1, len(columns))

        tables = [self._samples(task, shapes[task][1]) for task in ("train", "test")]
        samples = pd.concat(tables, ignore_index=True)
        members = {roi: member[columns] for roi, member in rois.items() if member[columns].any()}
        return SubjectData(
            samples=samples[[*SAMPLE_COLUMNS, *([TRIALS] if average else [])]],
            voxels=grid.table.iloc[rows[columns]].reset_index(drop=True),
            rois={**members, WHOLE[self.options.space]: np.ones(len(columns), dtype=bool)},
            space=grid.space,
            read_responses=read_by_part([len(table) for table in tables], load, len(columns)),
            report=report,
        )

    def _samples(self, task: str, repeats: int) -> pd.DataFrame:
        """Return the samples of the training or test videos, one presentation after the other."""
        number = len(self._order[task])
        base = pd.DataFrame({"stimulus": self._order[task], "task": "videos", "run": 1, "split": task})
        base["time"] = np.arange(number, dtype=float)
        if self.options.samples == "average":
            return base.assign(session=1, repeat=1, **{TRIALS: repeats})
        return pd.concat(
            [base.assign(session=1 + repeat, repeat=1 + repeat) for repeat in range(repeats)], ignore_index=True
        )

    def _load(self, name: str, task: str) -> tuple[np.ndarray, list[str]]:
        """Return the responses (video, repeat, voxel), float32, and the videos; one file is kept."""
        if (name, task) not in self._kept:
            self._kept.clear()
            assert self.root is not None
            parts = [_read(path) for path in _prepared(self.root, name, self.options.space, task)]
            (first, order), *others = parts
            if any(values.shape[:2] != first.shape[:2] or own != order for values, own in others):
                raise InputError(
                    f"the hemispheres of {name} do not match",
                    given="; ".join(str(values.shape) for values, _ in parts),
                    expected="the same videos and presentations in both files",
                    todo=_AGAIN,
                )
            values = first if not others else np.concatenate([values for values, _ in parts], axis=2)
            self._kept[name, task] = values, order
        return self._kept[name, task]


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Load a file of responses: (video, repeat, voxel), and the videos; refuse one without them."""
    found = load_arrays(path, _AGAIN, without=["nibabel"])
    values, order = found[:2] if isinstance(found, tuple) and len(found) >= 2 else (None, None)
    fine = isinstance(values, np.ndarray) and values.ndim == 3 and values.dtype.kind == "f" and values.size > 0
    if not fine or not isinstance(order, list) or len(order) != len(values):
        raise InputError(
            f"{path} does not hold responses",
            given=f"{getattr(values, 'shape', type(values).__name__)} and {type(order).__name__}"
            f"{f' of {len(order)}' if isinstance(order, list) else ''}",
            expected="a tuple of responses, (video, repeat, voxel), and the list of the videos, vid0001 etc.",
            todo=_AGAIN,
        )
    if len(set(map(str, order))) < len(order):
        raise InputError(f"{path} lists a video twice", given=f"{len(order)} videos", expected="each once", todo=_AGAIN)
    return values.astype(np.float32), [str(name) for name in order]


def _base(root: Path, space: str) -> Path:
    return root / "derivatives" / "versionB" / space / "GLM"


def _prepared(root: Path, name: str, space: str, task: str) -> list[Path]:
    """Return the files of responses: one, or one for each hemisphere."""
    stem = _base(root, space) / name / "prepared_betas" / f"{name}_organized_betas_task-{task}"
    sides = ("_hemi-left", "_hemi-right") if space == "fsaverage" else ("",)
    return [stem.with_name(f"{stem.name}{side}_normalized.pkl") for side in sides]


def find_subjects(root: Path, options: BoldMomentsOptions) -> list[str]:
    """Return the names of the subjects with responses.

    Raises
    ------
    MissingFileError, UnknownNameError
        If there are none, or a subject in the options has none.
    """
    folders = sorted(_base(root, options.space).glob("sub-*"))
    found = [path.name for path in folders if _prepared(root, path.name, options.space, "train")[0].is_file()]
    if not found:
        raise MissingFileError(
            "the folder does not contain the responses of BOLD Moments",
            given=f"no such files in {root}",
            expected=" and ".join(map(str, _prepared(Path(), "sub-01", options.space, "train"))),
            todo="pass the folder with derivatives (neurorecon datasets show bold_moments), or change space",
        )
    for name in options.subjects:
        if name not in found:
            raise UnknownNameError("subject", name, found)
    return [name for name in found if name in options.subjects or not options.subjects]


def _annotations(root: Path) -> Path:
    return root / "derivatives" / "stimuli_metadata" / "annotations.json"


def _descriptions(root: Path, names: Sequence[str]) -> list[list[str]]:
    """Return the descriptions of each video by people; none without annotations.json."""
    path = _annotations(root)
    if not path.is_file():
        return [[] for _ in names]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said = {f"vid{key}": [str(text) for text in entry["text_descriptions"]] for key, entry in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be used",
            given=f"{type(error).__name__}: {error}",
            expected='{"0001": {"text_descriptions": [...], ...}, ...}',
            todo=_AGAIN,
        ) from error
    return [[text.strip() for text in said.get(name, []) if text.strip()][:5] for name in names]


# -- voxels -----------------------------------------------------------------------------------------------------------


def _mask_file(root: Path) -> Path:
    return _base(root, "MNI152") / "mask" / "groupMask_space-MNI152.nii"


def _grid(root: Path, space: str, number: int) -> tuple[Grid, np.ndarray]:
    """Return the grid, and the place of each voxel on it; of grayordinates, those of the cortex."""
    if space == "MNI152":
        path = _mask_file(root)
        mask, affine = read_mask(path, _AGAIN)
        check_mask(mask, path, _AGAIN)
        table = pd.DataFrame(np.indices(mask.shape, dtype=np.int32).reshape(3, -1).T, columns=["i", "j", "k"])
        grid = Grid(Space("volume", affine=affine.tolist(), shape=[int(size) for size in mask.shape]), table)
        rows = np.flatnonzero(mask)
        _check_number(path.name, number, len(rows))
        return grid, rows
    if space == "fsLR32k":
        grid = hcp_cortex()
        _check_number("a CIFTI file at 2 mm", number, GRAYORDINATES)
    else:
        grid = surface_grid((number // 2, number - number // 2), "fsaverage")
    return grid, np.arange(len(grid))


def _check_number(where: str, given: int, expected: int) -> None:
    if given != expected:
        raise InputError(
            f"the responses have another number of voxels than {where}",
            given=f"{given:,}",
            expected=f"{expected:,}",
            todo=_AGAIN,
        )


def _roi_files(root: Path, name: str, space: str) -> dict[str, list[Path]]:
    """Return the pickles of ROIs in MNI space, those of both hemispheres together."""
    if space != "MNI152":
        return {}
    found: dict[str, list[Path]] = {}
    for path in sorted((_base(root, space) / name / "ROIs").glob("*.pkl")):
        match = _ROI.fullmatch(path.name)
        if match is not None:
            found.setdefault(match[1], []).append(path)
    general = _base(root, space) / "parcels" / "group_parcels" / f"parcel-{GENERAL}_indices.pkl"
    return found | ({GENERAL: [general]} if general.is_file() else {})


def _rois(root: Path, name: str, options: BoldMomentsOptions, grid: Grid, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the ROIs of a subject, bool, shape (voxel,)."""
    found: dict[str, np.ndarray] = {}
    for roi, paths in _roi_files(root, name, options.space).items():
        member = np.zeros(len(grid), dtype=bool)
        for path in paths:
            member[_places(path, tuple(grid.space.shape or ()))] = True
        found[roi] = member
    if options.space == "fsLR32k" and options.parcels == "hcp-mmp":
        found |= hcp_parcels(grid)
    further = read_rois(grid, options.rois, root, name)
    same = sorted(set(found) & set(further))
    if same:
        raise InputError(
            "two files contain an ROI of the same name",
            given=f"{same[0]!r}, of the data set and of [options.rois]",
            expected="each ROI name only once",
            todo='rename it in [options.rois], or set parcels = "none"',
        )
    return {roi: member[rows] for roi, member in {**found, **further}.items() if member[rows].any()}


def _places(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the places of the voxels of an ROI, from a pickle of their indices (x, y, z) and other things."""
    require_file(path, "the voxels of an ROI", _AGAIN)
    found: Any = load_arrays(path, _AGAIN, without=["nibabel"])
    indices = np.asarray(found[0]) if isinstance(found, tuple | list) and len(found) else np.empty(0)
    fine = indices.ndim == 2 and indices.shape[1] == 3 and indices.dtype.kind in "iu"
    if not fine or (indices < 0).any() or (indices >= np.array(shape)).any():
        raise InputError(
            f"{path} does not hold the voxels of an ROI",
            given=f"an array of shape {indices.shape}",
            expected=f"indices, (voxel, 3), within {shape}",
            todo=_AGAIN,
        )
    return np.ravel_multi_index(indices.T, shape)


def _selected(rois: dict[str, np.ndarray], options: BoldMomentsOptions, number: int) -> np.ndarray:
    """Return which voxels to store, bool, shape (voxel,)."""
    if options.voxels == "all":
        return np.ones(number, dtype=bool)
    chosen = list(rois.values()) if options.voxels == "rois" else [rois[GENERAL]] if GENERAL in rois else []
    if not chosen:
        raise InputError(
            f"there are no ROIs to choose voxels = {options.voxels!r} by",
            given=f"ROIs {', '.join(rois) or '(none)'}",
            expected="ROIs/ROI-lV1v_indices.pkl and parcels/group_parcels in MNI152, parcels, or [options.rois]",
            todo='download them, or set voxels = "all" in [options]',
        )
    return np.any(chosen, axis=0)
