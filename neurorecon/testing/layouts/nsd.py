"""A miniature of NSD: the same files, names and headers, with a few voxels and trials and simulated responses.

Headers are those of the tools that NSD was written with (``nsd_savenifti.m`` and ``nsd_savemgz.m`` of cvnlab/nsdcode):
volumes have an sform (code 1) without rotation whose origin is the center of the volume, no qform, no units, and the
seconds per volume as the fourth zoom; surfaces are float32 with FreeSurfer's default geometry; the betas of an HDF5
file are in chunks of one voxel. docs/datasets/nsd.md says what is not known.

As in NSD, some images are shared by all subjects, the others belong to one subject, and each is shown three times.
Responses depend on the content of the image (early ROIs encode the background and the position of the shape, the others
its category), plus noise.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.nsd.rois import LABELS
from neurorecon.testing.layouts import mark_simulated

#: Width and height of images in pixels (425 in NSD).
SIZE = 64

#: Some categories of COCO: id, name, supercategory.
CATEGORIES = (
    (1, "person", "person"),
    (3, "car", "vehicle"),
    (7, "train", "vehicle"),
    (16, "bird", "animal"),
    (18, "dog", "animal"),
    (59, "pizza", "food"),
)

#: Color of each shape, half-axes (x, y) as fractions of the image, and whether it is round.
_SHAPES = {
    "person": ((225, 175, 140), (0.10, 0.26), True),
    "car": ((200, 30, 30), (0.24, 0.12), False),
    "train": ((60, 60, 170), (0.34, 0.09), False),
    "bird": ((245, 245, 245), (0.12, 0.10), True),
    "dog": ((120, 75, 35), (0.22, 0.13), True),
    "pizza": ((235, 190, 60), (0.22, 0.22), True),
}

#: Backgrounds: name and color.
BACKGROUNDS = (("meadow", (80, 150, 60)), ("sky", (130, 180, 235)), ("street", (110, 110, 110)))


@dataclass(frozen=True)
class Scenes:
    """The content of all images.

    Parameters
    ----------
    category, background : int array, shape (image,)
        Indices of :data:`CATEGORIES` and :data:`BACKGROUNDS`.
    x, y, size : float array, shape (image,)
        Center of the shape as fractions of the image, and its relative size (mean 1).
    """

    category: np.ndarray
    background: np.ndarray
    x: np.ndarray
    y: np.ndarray
    size: np.ndarray

    def features(self) -> np.ndarray:
        """Return the standardized features that drive the responses (:data:`FEATURES`), shape (image, feature)."""
        one_hot = [np.equal.outer(np.arange(len(names)), values)
                   for names, values in ((CATEGORIES, self.category), (BACKGROUNDS, self.background))]  # fmt: skip
        values = np.concatenate([*one_hot, [self.x], [self.y], [self.size]]).T.astype(float)
        return (values - values.mean(axis=0)) / values.std(axis=0)

    def box(self, image: int) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the shape, as fractions of the image."""
        half = np.array(_SHAPES[self.name(image)][1]) * self.size[image]
        return (self.x[image] - half[0], self.y[image] - half[1], 2 * half[0], 2 * half[1])

    def name(self, image: int) -> str:
        """Return the category of an image."""
        return CATEGORIES[self.category[image]][1]

    def captions(self, image: int) -> list[str]:
        """Return five captions."""
        name, where = self.name(image), BACKGROUNDS[self.background[image]][0]
        side = "left" if self.x[image] < 0.5 else "right"
        return [
            f"A {name} on the {side} before a {where}.",
            f"a {name} and a {where}",
            f"There is a {name} on the {side}.",
            f"A photo of a {name}.",
            f"The {where} behind a {name} ",
        ]


#: Names of the features.
FEATURES = (*(name for _, name, _ in CATEGORIES), *(name for name, _ in BACKGROUNDS), "x", "y", "size")


def invent(number: int, rng: np.random.Generator) -> Scenes:
    """Return random scenes, balanced over categories and backgrounds."""
    return Scenes(
        category=rng.permutation(np.arange(number) % len(CATEGORIES)),
        background=rng.permutation(np.arange(number) % len(BACKGROUNDS)),
        x=rng.uniform(0.35, 0.65, number),
        y=rng.uniform(0.35, 0.65, number),
        size=rng.uniform(0.8, 1.2, number),
    )


def draw(scenes: Scenes, image: int) -> np.ndarray:
    """Draw an image, uint8, shape (y, x, rgb)."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    color, half, is_round = _SHAPES[scenes.name(image)]
    across = np.abs(x - scenes.x[image]) / (half[0] * scenes.size[image])
    down = np.abs(y - scenes.y[image]) / (half[1] * scenes.size[image])
    inside = across**2 + down**2 < 1 if is_round else np.maximum(across, down) < 1
    light = (0.75 + 0.5 * y)[..., None]  # darker above
    ground = np.array(BACKGROUNDS[scenes.background[image]][1]) * light
    return np.clip(np.where(inside[..., None], color, ground), 0, 255).astype(np.uint8)


#: Shape of the volumes (81 x 104 x 83, 145 x 186 x 148 and 182 x 218 x 182 in NSD), and voxel size in millimeters.
VOLUMES = {"func1pt8mm": ((12, 14, 10), 1.8), "func1mm": ((16, 18, 13), 1.0), "MNI": ((13, 15, 12), 1.0)}

#: Vertices of the left and the right hemisphere: those of fsaverage5 (163,842 in NSD), and of a subject's own surface.
VERTICES = {"fsaverage": (10242, 10242), "nativesurface": (2401, 2377)}

#: ROIs that were drawn for each subject; NSD has them in volumes and on the subject's own surface, not on fsaverage.
_OF_SUBJECTS = ("prf-", "floc-")

#: ROIs by file and label, and their extent from back to front and from bottom to top, as fractions of visual cortex.
_ROIS: dict[str, dict[int, tuple[tuple[float, float], tuple[float, float]]]] = {
    "prf-visualrois": {
        1: ((0.0, 0.2), (0.0, 0.5)),
        2: ((0.0, 0.2), (0.5, 1.0)),
        3: ((0.2, 0.3), (0.0, 0.5)),
        4: ((0.2, 0.3), (0.5, 1.0)),
        5: ((0.3, 0.4), (0.0, 0.5)),
        6: ((0.3, 0.4), (0.5, 1.0)),
        7: ((0.4, 0.5), (0.0, 0.5)),
    },
    "floc-faces": {1: ((0.5, 0.6), (0.0, 0.3)), 2: ((0.6, 0.8), (0.0, 0.3)), 3: ((0.8, 1.0), (0.0, 0.3))},
    "floc-bodies": {1: ((0.5, 0.6), (0.1, 0.5)), 2: ((0.6, 0.8), (0.1, 0.5)), 3: ((0.8, 1.0), (0.1, 0.5))},
    "floc-places": {1: ((0.5, 0.6), (0.7, 1.0)), 2: ((0.6, 0.8), (0.7, 1.0)), 3: ((0.8, 1.0), (0.7, 1.0))},
    "floc-words": {1: ((0.5, 0.6), (0.5, 0.7)), 2: ((0.6, 0.8), (0.5, 0.7)), 3: ((0.8, 1.0), (0.5, 0.7))},
    "streams": {
        1: ((0.0, 0.4), (0.0, 1.0)),
        2: ((0.4, 0.5), (0.0, 0.5)),
        4: ((0.4, 0.5), (0.5, 1.0)),
        5: ((0.5, 1.0), (0.0, 0.5)),
        7: ((0.5, 1.0), (0.5, 1.0)),
    },
    "Kastner2015": {
        1: ((0.0, 0.25), (0.0, 0.5)),  # drawn by hand, V1 is smaller
        2: ((0.0, 0.25), (0.5, 1.0)),
        3: ((0.25, 0.3), (0.0, 0.5)),
        4: ((0.25, 0.3), (0.5, 1.0)),
        5: ((0.3, 0.35), (0.0, 0.5)),
        6: ((0.3, 0.35), (0.5, 1.0)),
        7: ((0.35, 0.45), (0.0, 0.5)),
        8: ((0.45, 0.6), (0.0, 0.5)),
        10: ((0.6, 0.8), (0.0, 0.5)),
        13: ((0.8, 1.0), (0.0, 0.5)),
        17: ((0.35, 0.6), (0.5, 1.0)),
        18: ((0.6, 0.8), (0.5, 1.0)),
        24: ((0.8, 1.0), (0.5, 1.0)),
    },
    "HCP_MMP1": {1: ((0.0, 0.2), (0.0, 1.0)), 4: ((0.2, 0.3), (0.0, 1.0)), 18: ((0.5, 1.0), (0.0, 0.5))},
}

#: ROIs below the cortex, in volumes only; their labels are in ``nsddata/templates``.
_TEMPLATES = {
    "MTL": ("ErC", "area35", "area36", "PhC", "Sub", "CA1", "CA2", "CA3", "DG", "HT"),
    "thalamus": ("LGN", "SC", "Vpu", "DLpu", "DMpu"),
}

#: Features that drive the voxels of the ROIs in each file; all visual voxels respond weakly to every category.
_TUNING = {
    "prf-visualrois": ("meadow", "sky", "street", "x", "y", "size"),
    "floc-faces": ("person",),
    "floc-bodies": ("person", "dog", "bird"),
    "floc-places": ("car", "train", "street"),
    "floc-words": ("pizza",),
}


@dataclass(frozen=True)
class Cortex:
    """The voxels of one space.

    Parameters
    ----------
    labels : dict of str to int array, shape (voxel,)
        Labels by ROI file.
    left : bool array, shape (voxel,)
        Whether a voxel is in the left hemisphere.
    brain : bool array, shape (voxel,)
        Whether a voxel is in the brain; the responses of all others are zero.
    """

    labels: dict[str, np.ndarray]
    left: np.ndarray
    brain: np.ndarray

    def weights(self, rng: np.random.Generator) -> np.ndarray:
        """Return random weights, shape (feature, voxel)."""
        weights = np.zeros((len(FEATURES), len(self.left)))
        for file, names in _TUNING.items():
            rows = np.array([FEATURES.index(name) for name in names])
            here = np.flatnonzero(self.labels[file] > 0)
            weights[np.ix_(rows, here)] += rng.uniform(0.5, 1.0, (len(rows), len(here)))
        visual = self.labels["nsdgeneral"] > 0
        weights[:6, visual] += 0.2 * rng.standard_normal((6, int(visual.sum())))
        return weights


#: Seconds per volume in the headers of a space; ``nsd_mapdata`` writes none into volumes in MNI space.
_SECONDS = {"func1pt8mm": 4 / 3, "func1mm": 1.0}

#: Voxel of the anterior commissure in MNI space (from 0; 182 x 218 x 182), the origin of volumes there.
_MNI_ORIGIN = (91, 126, 72)


def volume_cortex(space: str) -> tuple[Cortex, np.ndarray]:
    """Return the voxels of a volume, with x varying fastest, and its affine."""
    shape, size = VOLUMES[space]
    x, y, z = (index.ravel(order="F") for index in np.indices(shape))
    edge = np.min([x, y, z, *(length - 1 - index for length, index in zip(shape, (x, y, z), strict=True))], axis=0)
    # Visual cortex is the box without its outer layers.
    back, up = (y - 1) / (shape[1] - 3), (z - 2) / (shape[2] - 4)
    cortex = _rois(back, up, np.abs(x / (shape[0] - 1) - 0.5) * 2, x < shape[0] / 2, edge >= 1, z >= 2)
    affine = np.diag([size, size, size, 1.0])
    origin = (np.array(shape) - 1) / 2
    if space == "MNI":  # where the anterior commissure is in the smaller volume
        origin = np.round(np.array(_MNI_ORIGIN) * shape / (182, 218, 182))
    affine[:3, 3] = -size * origin
    return cortex, affine


def surface_cortex(space: str) -> Cortex:
    """Return the vertices of both hemispheres, left before right."""
    numbers = VERTICES[space]
    row = int(np.sqrt(max(numbers)))
    index = np.concatenate([np.arange(number) for number in numbers])
    back, up = index % row / row, index // row / row
    left = np.arange(sum(numbers)) < numbers[0]
    visual = (index % 7 == 0) & (up < 1)
    return _rois(back, up, index % 13 / 13, left, np.ones_like(left), visual)


def _rois(
    back: np.ndarray, up: np.ndarray, out: np.ndarray, left: np.ndarray, brain: np.ndarray, visual: np.ndarray
) -> Cortex:
    inside = brain & visual & (back >= 0) & (back < 1) & (up >= 0) & (up < 1)
    labels: dict[str, np.ndarray] = {}
    for file, rois in _ROIS.items():
        labels[file] = np.zeros(len(back), dtype=np.int16)
        for number, ((rear, front), (bottom, top)) in rois.items():
            labels[file][inside & (back >= rear) & (back < front) & (up >= bottom) & (up < top)] = number
    eccentricity = np.digitize(out, [0.2, 0.4, 0.6, 0.8]) + 1
    labels["prf-eccrois"] = np.where(labels["prf-visualrois"] > 0, eccentricity, 0).astype(np.int16)
    labels["nsdgeneral"] = np.where(inside, 1, np.where(brain, -1, 0)).astype(np.int16)
    return Cortex(labels, left, brain)


#: Number of shared images and of each subject's own images (1,000 and 9,000 in NSD), and repeats of each image.
SHARED, OWN, REPEATS = 24, 96, 3

#: Subjects of the design; the caller decides how many of them are written.
SUBJECTS = 8

#: Sessions (40 in NSD), runs per session (12), and slots of 4 s per run (75), of which the first three are blank.
SESSIONS, RUNS, SLOTS = 3, 4, 36

#: Images per subject, all images (73,000 in NSD), and trials per session (750).
IMAGES = SHARED + OWN

ALL = SHARED + SUBJECTS * OWN

TRIALS = IMAGES * REPEATS // SESSIONS

#: Standard deviation of the trial noise, in percent signal change.
NOISE = 1.0


#: Images of NSD-synthetic that all subjects saw, those in a subject's own colors, and its runs (220, 64 and 8 in NSD).
SYNTHETIC_SHARED, SYNTHETIC_OWN, SYNTHETIC_RUNS = 220, 4, 8

#: Height and width of the images of NSD-synthetic (714 x 1360 in NSD).
SYNTHETIC_SIZE = (51, 97)

#: Runs of NSD-imagery, its cues by set, and presentations of each in a run (8 in NSD).
_IMAGERY_RUNS = ("visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2",
                 "imgC_2")  # fmt: skip
_CUES = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
IMAGERY_REPEATS = 2

#: What can be chosen with ``neurorecon datasets miniature nsd``.
CHOICES = {
    "tasks": ("core", "synthetic", "imagery"),
    "subjects": tuple(f"subj{number:02d}" for number in range(1, SUBJECTS + 1)),
    "spaces": (*VOLUMES, *VERTICES),
    "formats": ("nii.gz", "hdf5"),
}


@dataclass(frozen=True)
class _Design:
    order: np.ndarray  # (trial,) image of the subject, from 1
    images: np.ndarray  # (subject, image) 73k id, from 1
    shared: np.ndarray  # (shared image,) 73k id, from 1
    pattern: np.ndarray  # (session, run, slot) 0 or 1


def write_nsd(
    folder: str | Path,
    *,
    subjects: Sequence[str] = ("subj01", "subj02"),
    sessions: int = SESSIONS,
    spaces: Sequence[str] = ("func1pt8mm",),
    formats: Sequence[str] = ("nii.gz",),
    betas: Sequence[str] = ("betas_fithrf_GLMdenoise_RR",),
    tasks: Sequence[str] = ("core",),
    seed: int = 0,
) -> Path:
    """Write a miniature of NSD.

    Parameters
    ----------
    folder : path
        Root of the data set, which gets ``nsddata``, ``nsddata_betas``, ``nsddata_stimuli`` and COCO's
        ``annotations``.
    subjects : sequence of str
        Subjects to write, from ``subj01`` to ``subj08``.
    sessions : int
        Number of sessions whose betas are written, at most three; the others are "held out".
    spaces : sequence of {"func1pt8mm", "func1mm", "MNI", "fsaverage", "nativesurface"}
        Spaces to write; ``"fsaverage"`` has the vertices of fsaverage5. As in NSD, there are no ROIs in MNI space, and
        only those of atlases on fsaverage.
    formats : sequence of {"nii.gz", "hdf5"}
        File formats of betas in the subjects' volumes.
    betas : sequence of str
        Versions of the betas to write. All hold the same numbers. In MNI space there is ``betas_fithrf`` alone.
    tasks : sequence of {"core", "synthetic", "imagery"}
        Which of NSD, NSD-synthetic and NSD-imagery to write.
    seed : int
        Random seed; the same seed gives the same files.

    Returns
    -------
    Path
        The folder.
    """
    root = Path(folder)
    rng = np.random.default_rng(seed)
    design, scenes = _design(rng), invent(ALL, rng)
    mark_simulated(root)
    _write_design(root, design)
    information = _information(design, rng)
    _write_information(root, information)
    _write_annotations(root, information, scenes)
    chosen = [int(name.removeprefix("subj")) for name in subjects]
    _write_images(root, scenes, np.unique(design.images[[number - 1 for number in chosen]]) - 1)
    further = {task: _TASKS[task](root, scenes, design, subjects, np.random.default_rng([seed, 100 + place]))
               for place, task in enumerate(_TASKS) if task in tasks}  # fmt: skip
    for number, name in zip(chosen, subjects, strict=True):
        _write_behavior(root, name, number, design, np.random.default_rng([seed, number]))
        for place, space in enumerate(spaces):
            write = _write_surface if space in VERTICES else _write_volume
            versions = ("betas_fithrf",) if space == "MNI" else betas
            where = [root / "nsddata_betas" / "ppdata" / name / space / version for version in versions]
            own = np.random.default_rng([seed, number, place])
            cortex, save = write(root, name, space, formats)
            weights = cortex.weights(own)
            if "core" in tasks:
                _write_betas(where, cortex, scenes.features() @ weights, design, number, sessions, own, save)
            for task, features in further.items():
                values = 1.0 + features[name] @ weights
                values += NOISE * np.random.default_rng([seed, number, place, len(values)]).standard_normal(
                    values.shape
                )
                stored = (np.clip(values * cortex.brain, -100, 100) * 300).round().astype(np.int16)
                for folder in where:
                    save(folder.with_name(f"nsd{task}{folder.name}"), f"betas_nsd{task}", stored.T)
    return root


def _design(rng: np.random.Generator) -> _Design:
    ids = rng.permutation(ALL) + 1
    shared, own = np.sort(ids[:SHARED]), ids[SHARED:].reshape(SUBJECTS, OWN)
    pattern = np.zeros((SESSIONS, RUNS, SLOTS), dtype=np.uint8)
    for run in pattern.reshape(-1, SLOTS):
        run[np.sort(rng.choice(np.arange(3, SLOTS), TRIALS // RUNS, replace=False))] = 1
    order = rng.permutation(np.tile(np.arange(1, IMAGES + 1), REPEATS))
    return _Design(order, np.hstack([np.tile(shared, (SUBJECTS, 1)), own]), shared, pattern)


def _write_design(root: Path, design: _Design) -> None:
    from scipy.io import savemat

    folder = root / "nsddata" / "experiments" / "nsd"
    folder.mkdir(parents=True, exist_ok=True)
    shown = [len(np.unique(design.order[: TRIALS * (number + 1)])) for number in range(SESSIONS)]
    content = {
        "masterordering": design.order[None].astype(np.uint16),
        "basiccnt": np.array([shown] * REPEATS, dtype=np.uint16),
        "sharedix": design.shared[None].astype(np.uint32),
        "stimpattern": design.pattern,
        "subjectim": design.images.astype(np.uint32),
    }
    savemat(folder / "nsd_expdesign.mat", content)
    _without_time(folder / "nsd_expdesign.mat")


def _without_time(path: Path) -> None:
    """Overwrite the header of a MATLAB file, which holds the time, so that the same seed gives the same file."""
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, miniature of NSD".ljust(116))


def _information(design: _Design, rng: np.random.Generator) -> pd.DataFrame:
    """Return the table of all images. Repeats are trial numbers from 1, or 0 if the image was not shown."""
    left = rng.choice([0.0, 0.0625, 0.125], ALL)
    table = pd.DataFrame(
        {
            "cocoId": rng.permutation(10 * ALL)[:ALL] + 1,
            "cocoSplit": np.where(np.arange(ALL) % 4 == 0, "val2017", "train2017"),
            "cropBox": [(0.0, 0.0, float(part), 0.25 - float(part)) for part in left],
            "loss": rng.uniform(0, 0.1, ALL).round(4),
            "nsdId": np.arange(ALL),
            "flagged": False,
            "BOLD5000": False,
            "shared1000": np.isin(np.arange(ALL) + 1, design.shared),
        }
    )
    for subject, images in enumerate(design.images, start=1):
        table[f"subject{subject}"] = np.isin(np.arange(ALL) + 1, images).astype(int)
    for subject, images in enumerate(design.images, start=1):
        for repeat in range(REPEATS):
            trials = np.zeros(ALL, dtype=int)
            for place, image in enumerate(images, start=1):
                trials[image - 1] = np.flatnonzero(design.order == place)[repeat] + 1
            table[f"subject{subject}_rep{repeat}"] = trials
    return table


def _write_information(root: Path, table: pd.DataFrame) -> None:
    stem = root / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged"
    table.to_csv(stem.with_suffix(".csv"))
    table.to_pickle(stem.with_suffix(".pkl"))


def _write_annotations(root: Path, table: pd.DataFrame, scenes: Scenes) -> None:
    """Write COCO's captions and instances for images of 640 by 480 pixels, which are cropped to squares."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    categories = [{"supercategory": group, "id": number, "name": name} for number, name, group in CATEGORIES]
    for split, part in table.groupby("cocoSplit"):
        images, captions, instances = [], [], []
        for row in part.itertuples():
            identity, image = int(row.cocoId), int(row.nsdId)
            images.append({"id": identity, "width": 640, "height": 480, "file_name": f"{identity:012d}.jpg"})
            for number, text in enumerate(scenes.captions(image)):
                captions.append({"image_id": identity, "id": 10 * identity + number, "caption": text})
            x, y, width, height = (480 * share for share in scenes.box(image))
            box = [round(x + 640 * row.cropBox[2], 2), round(y, 2), round(width, 2), round(height, 2)]
            number = CATEGORIES[scenes.category[image]][0]
            instances.append({"image_id": identity, "id": identity, "category_id": number, "bbox": box,
                              "area": round(width * height, 2), "iscrowd": 0, "segmentation": []})  # fmt: skip
        head = {"info": {"description": "miniature"}, "licenses": [], "images": images}
        _dump(folder / f"captions_{split}.json", {**head, "annotations": captions})
        _dump(folder / f"instances_{split}.json", {**head, "annotations": instances, "categories": categories})


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_images(root: Path, scenes: Scenes, shown: np.ndarray) -> None:
    """Write the images that the subjects saw; the others take no space in the file."""
    import h5py

    folder = root / "nsddata_stimuli" / "stimuli" / "nsd"
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "nsd_stimuli.hdf5", "w") as file:
        data = file.create_dataset("imgBrick", (ALL, SIZE, SIZE, 3), np.uint8, chunks=(1, SIZE, SIZE, 3))
        for number in shown:
            data[number] = draw(scenes, int(number))


def _write_behavior(root: Path, name: str, subject: int, design: _Design, rng: np.random.Generator) -> None:
    session, run, slot = np.nonzero(design.pattern)
    shown, trial = pd.Series(design.order), pd.Series(np.arange(len(design.order)))
    table = pd.DataFrame({"SUBJECT": subject, "SESSION": session + 1, "RUN": run + 1})
    table["TRIAL"] = table.groupby(["SESSION", "RUN"]).cumcount() + 1
    table["73KID"] = design.images[subject - 1, design.order - 1]
    table["10KID"] = design.order
    table["TIME"] = session * 7 + (run * 300 + slot * 4) / 86400
    table["ISOLD"] = shown.duplicated().astype(int)
    current = shown.groupby(table["SESSION"]).transform(lambda part: part.duplicated()).astype(int)
    correct = rng.random(len(table)) < 0.9
    old = np.where(correct, table["ISOLD"], 1 - table["ISOLD"])
    answered = pd.Series(rng.random(len(table)) < 0.95)  # otherwise no button was pressed
    table["ISCORRECT"] = pd.Series(correct.astype(float)).where(answered)
    table["RT"] = pd.Series(rng.uniform(400, 2400, len(table)).round(3)).where(answered)
    table["CHANGEMIND"] = pd.Series(0.0, index=table.index).where(answered)
    table["MEMORYRECENT"] = trial - trial.groupby(shown).shift() - 1
    table["MEMORYFIRST"] = (trial - trial.groupby(shown).transform("min") - 1).where(table["ISOLD"] == 1)
    table["ISOLDCURRENT"] = current
    table["ISCORRECTCURRENT"] = pd.Series((old == current).astype(float)).where(answered)
    table["TOTAL1"], table["TOTAL2"] = ((answered & (old == number)).astype(int) for number in (0, 1))
    table["BUTTON"] = pd.Series(old + 1.0).where(answered)
    table["MISSINGDATA"] = 0
    folder = root / "nsddata" / "ppdata" / name / "behav"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "responses.tsv", sep="\t", index=False)


def _write_volume(root: Path, name: str, space: str, formats: Sequence[str]) -> tuple[Cortex, Any]:
    """Write the ROI files of a volume; return its voxels, and a function that saves arrays of them."""
    import h5py
    import nibabel

    cortex, affine = volume_cortex(space)
    shape, size = VOLUMES[space]

    def nifti(path: Path, values: np.ndarray) -> None:
        # Not by Nifti1Image, which stores NaN as the slope, and a qform too.
        header = nibabel.Nifti1Header()
        header.set_data_dtype(values.dtype)
        header.set_data_shape((*shape, *values.shape[1:]))
        header.set_sform(affine, 1)
        header["pixdim"][:5] = 0, size, size, size, _SECONDS.get(space, 1.0)
        header["scl_slope"] = header["scl_inter"] = 0
        header["vox_offset"], header["aux_file"], header["regular"] = 352, b"none", b"r"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            packed.write(header.binaryblock + bytes(4) + values.tobytes(order="F"))

    def save(folder: Path, stem: str, values: np.ndarray) -> None:
        """Save values (voxel,) or (voxel, trial)."""
        if values.ndim == 1 or "nii.gz" in formats:
            nifti(folder / f"{stem}.nii.gz", values)
        if values.ndim == 2 and "hdf5" in formats:
            folder.mkdir(parents=True, exist_ok=True)
            with h5py.File(folder / f"{stem}.hdf5", "w") as file:  # axes (trial, z, y, x), one chunk per voxel
                data = values.T.reshape(-1, *shape[::-1])
                file.create_dataset("betas", data=data, chunks=(len(data), 1, 1, 1))

    if space == "MNI":
        formats = ("nii.gz",)
        return cortex, save
    for file, names in _TEMPLATES.items():
        _write_colors(root / "nsddata" / "templates" / f"{file}.ctab", names)
    roi = root / "nsddata" / "ppdata" / name / space / "roi"
    nifti(roi.parent / "brainmask.nii.gz", cortex.brain.astype(np.uint8))
    for file, values in _maps(cortex).items():
        nifti(roi.parent / f"{file}.nii.gz", values)
    _write_names(root, name, LABELS)
    depth = (cortex.labels["nsdgeneral"] < 0).cumsum() - 1  # voxels of the brain outside of visual cortex, numbered
    below = {
        file: np.where((cortex.labels["nsdgeneral"] < 0) & (depth // 20 % 2 == place), depth % (len(names) + 1), 0)
        for place, (file, names) in enumerate(_TEMPLATES.items())
    }
    for file, labels in {**cortex.labels, **{name: part.astype(np.int16) for name, part in below.items()}}.items():
        nifti(roi / f"{file}.nii.gz", labels)
        for side, member in (("lh", cortex.left), ("rh", ~cortex.left)):
            nifti(roi / f"{side}.{file}.nii.gz", np.where(member, labels, np.minimum(labels, 0)))
    return cortex, save


def _maps(cortex: Cortex) -> dict[str, np.ndarray]:
    """Return maps like those of the pRF and localizer experiments, float32 of shape (voxel,), NaN outside the brain."""
    eccentricity = cortex.labels["prf-eccrois"] * 1.1
    faces = np.where(cortex.labels["floc-faces"] > 0, 6.0, -0.5)
    angle = np.arange(len(eccentricity)) * 7.0 % 360
    found = {"prf_angle": angle, "prf_eccentricity": eccentricity, "floc_facestval": faces}
    return {name: np.where(cortex.brain, values, np.nan).astype(np.float32) for name, values in found.items()}


def _write_names(root: Path, name: str, files: Iterable[str]) -> None:
    """Write the names of labels, with colors, as NSD has them beside the surfaces of a subject or of fsaverage."""
    for file in files:
        if file in LABELS and file != "nsdgeneral":
            _write_colors(root / "nsddata" / "freesurfer" / name / "label" / f"{file}.mgz.ctab", LABELS[file])


def _write_colors(path: Path, names: Sequence[str]) -> None:
    """Write a color table of FreeSurfer, as it is read with one space as the delimiter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{number} {label} {40 * number % 256} {90 * number % 256} {number % 256} 0"
            for number, label in enumerate(["Unknown", *names])]  # fmt: skip
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_surface(root: Path, name: str, space: str, formats: Sequence[str]) -> tuple[Cortex, Any]:
    """Write the ROI files of a surface; return its vertices, and a function that saves arrays of them."""
    import h5py
    import nibabel

    cortex = surface_cortex(space)
    native, border = space == "nativesurface", VERTICES[space][0]

    def save(folder: Path, stem: str, values: np.ndarray, suffix: str = "mgh") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for side, part in (("lh", values[:border]), ("rh", values[border:])):
            if native and stem.startswith("betas_"):  # int16, (trial, vertex)
                with h5py.File(folder / f"{side}.{stem}.hdf5", "w") as file:  # one chunk per vertex
                    file.create_dataset("betas", data=part.T, chunks=(part.shape[1], 1))
                continue
            stored = part / 300 if stem.startswith("betas_") else part
            data = stored.reshape(len(part), 1, 1, *part.shape[1:]).astype(np.float32)  # labels too, as FreeSurfer does
            nibabel.MGHImage(data, None).to_filename(folder / f"{side}.{stem}.{suffix}")

    whose = name if native else "fsaverage"
    folder = root / "nsddata" / "freesurfer" / whose / "label"
    files = {file: labels for file, labels in cortex.labels.items() if native or not file.startswith(_OF_SUBJECTS)}
    for file, labels in files.items():
        save(folder, file, np.maximum(labels, 0), "mgz")
    _write_names(root, whose, files)
    if native:
        for file, values in _maps(cortex).items():
            save(folder, file.replace("_", ""), values, "mgz")
    return cortex, save


def _write_synthetic(
    root: Path, scenes: Scenes, design: _Design, subjects: Sequence[str], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Write the design and the images of NSD-synthetic; return the features of each trial by subject."""
    import h5py
    from scipy.io import savemat

    number = SYNTHETIC_SHARED + SYNTHETIC_OWN
    folder = root / "nsddata" / "experiments" / "nsdsynthetic"
    folder.mkdir(parents=True, exist_ok=True)
    order = np.concatenate([rng.permutation(number) for _ in range(2)])
    run = -(-len(order) // SYNTHETIC_RUNS)
    order = np.concatenate([order, rng.permutation(number)[: run * SYNTHETIC_RUNS - len(order)]])
    pattern = np.zeros((1, SYNTHETIC_RUNS, run + 6), dtype=np.uint8)
    pattern[0, :, 3 : run + 3] = 1
    savemat(folder / "nsdsynthetic_expdesign.mat", {"masterordering": order[None] + 1, "stimpattern": pattern})
    _without_time(folder / "nsdsynthetic_expdesign.mat")
    kinds = [("Noise", "Natural scenes", "Single words", "Spiral gratings")[image % 4] for image in range(number)]
    kinds[SYNTHETIC_SHARED:] = ["Chromatic noise"] * SYNTHETIC_OWN
    columns = {"Image": [f"image_{image + 1}" for image in range(number)], "Image class": kinds}
    table = pd.DataFrame({"Image number": np.arange(number) + 1, **columns})
    table.to_csv(folder / "nsdsyntheticimageinformation.csv", index=False)
    images = root / "nsddata_stimuli" / "stimuli" / "nsdsynthetic"
    images.mkdir(parents=True, exist_ok=True)
    height, width = SYNTHETIC_SIZE
    content = invent(number, rng)
    small = [draw(content, image)[:height, :height] for image in range(number)]
    for subject in (None, *subjects):
        first, stop = (0, SYNTHETIC_SHARED) if subject is None else (SYNTHETIC_SHARED, number)
        name = "nsdsynthetic_stimuli" if subject is None else f"nsdsynthetic_colorstimuli_{subject}"
        bricks = np.full((stop - first, height, width, 3), 127, dtype=np.uint8)  # on gray
        side = (width - height) // 2
        for row, image in enumerate(range(first, stop)):
            tint = 0 if subject is None else 3 * int(subject[-2:])  # colors are those of a subject
            linear = (small[image] / 255.0) ** 2 * 255  # linear in luminance
            bricks[row, :, side : side + height] = np.clip(linear + tint, 0, 255)
        with h5py.File(images / f"{name}.hdf5", "w") as file:
            file.create_dataset("imgBrick", data=bricks)
    return dict.fromkeys(subjects, content.features()[order])


def _write_imagery(
    root: Path, scenes: Scenes, design: _Design, subjects: Sequence[str], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Write the trials and the images of NSD-imagery; return the features of each of its betas by subject."""
    from PIL import Image
    from scipy.io import savemat

    cues = [(part, cue) for part, letters in _CUES.items() for cue in letters]
    content = invent(len(cues), rng)
    features = dict(zip(cues, content.features(), strict=True))
    folder = root / "nsddata" / "experiments" / "nsdimagery"
    files = {("A", cue): f"bar_{45 * place:03d}.0deg_450L_43W.png" for place, cue in enumerate(_CUES["A"])}
    for place, cue in enumerate(_CUES["B"]):
        shared = int(design.shared[place])
        files["B", cue] = f"shared{place + 1:04d}_nsd{shared:05d}.png"
        features["B", cue] = scenes.features()[shared - 1]  # an image of NSD itself
    for part, letters in _CUES.items():
        rows = [[place, files.get((part, cue), f"concept {cue}"), cue] for place, cue in enumerate(letters, start=1)]
        folder.mkdir(parents=True, exist_ok=True)
        savemat(folder / f"{part}_pair_list.mat", {"pair_list": np.array(rows, dtype=object)})
        _without_time(folder / f"{part}_pair_list.mat")
    for (part, cue), file in files.items():
        path = folder / "rawtargetimages" / f"set{part}" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        image = draw(content, cues.index((part, cue))) if part == "A" else draw(scenes, int(file[-9:-4]) - 1)
        Image.fromarray(image).save(path)
    bdata = root / "nsddata" / "bdata" / "nsdimagery"
    bdata.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[np.ndarray]] = {subject: [] for subject in subjects}
    for number, run in enumerate(_IMAGERY_RUNS, start=1):
        part = run[3]
        shown = rng.permutation(list(_CUES[part]) * IMAGERY_REPEATS)
        strength = {"vis": 1.0, "att": 0.5, "img": 0.4}[run[:3]]  # what is imagined is weaker
        own = strength * np.array([features[part, cue] for cue in shown])
        for subject in subjects:
            table = pd.DataFrame({"SUBJECT": int(subject[-2:]), "SESSION": 1, "RUN": number,
                                  "TRIAL": np.arange(len(shown)) + 1, "CONDITION": shown, "CUE": shown})  # fmt: skip
            table["TRIALONSET"] = 12.0 + 4.0 * np.arange(len(shown)) + 0.001 * number
            table["BUTTON"] = rng.integers(1, 3, len(shown))
            table.to_csv(bdata / f"nsdimagery_{subject}_{run}.tsv", sep="\t", index=False)
            found[subject].append(np.repeat(own, 2, axis=0) if run.startswith("att") else own)
    return {subject: np.concatenate(parts) for subject, parts in found.items()}


#: What writes the further tasks.
_TASKS = {"synthetic": _write_synthetic, "imagery": _write_imagery}


def _write_betas(
    folders: list[Path],
    cortex: Cortex,
    signal: np.ndarray,
    design: _Design,
    subject: int,
    sessions: int,
    rng: np.random.Generator,
    save: Any,
) -> None:
    """Write the betas of all trials, session by session, and the maps that NSD derives from them."""
    # signal: (image, voxel)
    for session in range(sessions):
        order = design.order[session * TRIALS : (session + 1) * TRIALS]
        shown = design.images[subject - 1, order - 1] - 1
        values = 1.0 + signal[shown] + NOISE * rng.standard_normal((TRIALS, signal.shape[1]))
        stored = (np.clip(values * cortex.brain, -100, 100) * 300).round().astype(np.int16)
        for folder in folders:
            save(folder, f"betas_session{session + 1:02d}", stored.T)
            if folder.parent.name == "MNI":
                save(folder, f"valid_session{session + 1:02d}", cortex.brain.astype(np.int16))
    ncsnr = np.where(cortex.brain, signal.std(axis=0) / NOISE, np.nan).astype(np.float32)
    for folder in folders:
        if folder.parent.name == "MNI":
            continue
        save(folder, "ncsnr", ncsnr)
        save(folder, "meanbeta", np.where(cortex.brain, 300.0, 0.0).astype(np.float32))  # times 300, as the betas
