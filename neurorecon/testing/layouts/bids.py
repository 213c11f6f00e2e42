"""A miniature BIDS data set with fMRIPrep derivatives: simulated responses, real names and headers.

The same simulated time series are written in every space, so that readers of all of them can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.testing.layouts import mark_simulated

#: Seconds between volumes, and the time within a volume that slices were shifted to.
REPETITION_TIME, START_TIME = 2.0, 1.0

#: Volumes of a run, trials of a run, seconds that an image is shown.
VOLUMES, TRIALS, DURATION = 76, 18, 2.0

#: Test images, and how many of them are shown in a run.
TEST, TEST_IN_RUN = 8, 4

#: Voxels, a quarter each: V1, V2, LO, none.
VOXELS = 96

#: Scanner units by which a preferred image would raise a voxel if it were shown for as long as responses take.
GAIN = 60.0

SHAPES = ("circle", "square", "triangle", "cross")

COLORS = {"red": (220, 50, 40), "green": (50, 180, 70), "blue": (50, 80, 220), "yellow": (230, 210, 50)}

#: Pixels on each side of an image.
SIZE = 64

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def draw_stimuli(folder: Path, seed: int, runs: int) -> pd.DataFrame:
    """Draw the images and write them with their table ``stimuli.tsv``.

    Returns
    -------
    DataFrame
        Columns ``stim_file``, ``category``, ``caption``, ``color``, ``size``, ``split``; training images first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0])
    train = runs * (TRIALS - TEST_IN_RUN)
    rows = []
    for number in range(train + TEST):
        shape = SHAPES[number % len(SHAPES)]
        color = list(COLORS)[rng.integers(len(COLORS))]
        size = float(rng.uniform(0.25, 0.45))
        file = f"{shape}/{shape}{number + 1:03d}.png"
        (folder / shape).mkdir(exist_ok=True)
        _draw(shape, COLORS[color], size, rng.uniform(0.45, 0.55, 2)).save(folder / file)
        caption = f"a {'large' if size > 0.35 else 'small'} {color} {shape}"
        rows.append((file, shape, caption, color, size, "train" if number < train else "test"))
    table = pd.DataFrame(rows, columns=["stim_file", "category", "caption", "color", "size", "split"])
    table[["stim_file", "category", "caption"]].to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return table


def _draw(shape: str, color: tuple[int, int, int], size: float, center: np.ndarray) -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIZE, SIZE), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    (x, y), r = center * SIZE, size * SIZE
    if shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=color)
    elif shape == "square":
        pen.rectangle([x - r, y - r, x + r, y + r], fill=color)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)
    else:
        pen.rectangle([x - r, y - r / 3, x + r, y + r / 3], fill=color)
        pen.rectangle([x - r / 3, y - r, x + r / 3, y + r], fill=color)
    return image


def event_table(stimuli: pd.DataFrame, place: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the events of a run: rest, then trials every 6 or 8 s.

    Parameters
    ----------
    stimuli : DataFrame
        From :func:`draw_stimuli`.
    place : int
        Number of the run, over all sessions.
    rng : Generator
        For the order and the gaps.
    """
    train, new = np.flatnonzero(stimuli["split"] == "train"), TRIALS - TEST_IN_RUN
    test = np.flatnonzero(stimuli["split"] == "test")
    presented = [*train[place * new : (place + 1) * new], *test[place % 2 :: TEST // TEST_IN_RUN]]
    shown = rng.permutation(presented)
    onsets = 8.0 + np.cumsum([0.0, *rng.choice([6.0, 8.0], TRIALS - 1)])
    rows = stimuli.iloc[shown]
    trials = pd.DataFrame(
        {
            "onset": onsets,
            "duration": DURATION,
            "trial_type": rows["category"].to_numpy(),
            "stim_file": rows["stim_file"].to_numpy(),
            "split": rows["split"].to_numpy(),
            "response_time": (0.4 + 0.05 * (shown % 7)).round(2),
            "response": [None if place % 5 == 0 else ("right", "left")[place % 2] for place in shown],
        }
    )
    nothing = dict.fromkeys(("stim_file", "split", "response_time", "response"))
    rest = pd.DataFrame([{"onset": 0.0, "duration": 8.0, "trial_type": "rest", **nothing}])
    return pd.concat([rest.astype(trials.dtypes.to_dict()), trials], ignore_index=True)


def confound_table(rng: np.random.Generator) -> pd.DataFrame:
    """Return confounds as fMRIPrep names them; derivatives have no first value."""
    motion = pd.DataFrame(rng.standard_normal((VOLUMES, len(MOTION))).cumsum(axis=0) / 50, columns=list(MOTION))
    table = pd.DataFrame({"global_signal": rng.standard_normal(VOLUMES) + 900})
    for name in ("csf", "white_matter"):
        table[name] = rng.standard_normal(VOLUMES) + 800
    table["framewise_displacement"] = motion.diff().abs().sum(axis=1, min_count=1)
    table["std_dvars"] = 1.0 + rng.standard_normal(VOLUMES) / 10
    table.loc[0, "std_dvars"] = np.nan
    time = (np.arange(VOLUMES) + 0.5) / VOLUMES
    for number in range(2):
        table[f"cosine{number:02d}"] = np.sqrt(2 / VOLUMES) * np.cos(np.pi * (number + 1) * time)
    for name in MOTION:
        table[name] = motion[name]
        table[f"{name}_derivative1"] = motion[name].diff()
        table[f"{name}_power2"] = motion[name] ** 2
        table[f"{name}_derivative1_power2"] = motion[name].diff() ** 2
    return table


def simulate_run(
    events: pd.DataFrame,
    stimuli: pd.DataFrame,
    confounds: pd.DataFrame,
    subject: np.random.Generator,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the time series of a run.

    Parameters
    ----------
    events, stimuli, confounds : DataFrame
        Of the run.
    subject : Generator
        Draws the tuning of the voxels; the same for all runs of a subject.
    rng : Generator
        Draws the noise.

    Returns
    -------
    array, shape (volume, voxel), float32
        Scanner units about 1,000; a preferred image raises them by about 2 %.
    """
    times = START_TIME + REPETITION_TIME * np.arange(VOLUMES)
    trials = events[events["trial_type"] != "rest"]
    shown = stimuli.set_index("stim_file").loc[trials["stim_file"]]
    answers = _tuning(shown, subject)
    signal = _response(times[:, None] - trials["onset"].to_numpy()) @ answers
    drift = np.cos(np.pi * np.arange(VOLUMES) / VOLUMES)[:, None] * rng.normal(0, 8, VOXELS)
    motion = confounds[list(MOTION)].to_numpy() @ rng.normal(0, 10, (len(MOTION), VOXELS))
    noise = rng.normal(0, 5, (VOLUMES, VOXELS))
    level = subject.uniform(900, 1100, VOXELS)
    return (level + GAIN * signal + drift + motion + noise).astype(np.float32)


def _response(seconds: np.ndarray) -> np.ndarray:
    """Return the hemodynamic response so many seconds after the onset of an image (Glover 1999, auditory cortex)."""
    from scipy.stats import gamma

    fine = (np.arange(20) + 0.5) * DURATION / 20
    since = seconds[..., None] - fine
    shape = gamma.pdf(since, 7, scale=0.9) - 0.35 * gamma.pdf(since, 13, scale=0.9)
    return shape.mean(axis=-1) * DURATION


def _tuning(shown: pd.DataFrame, subject: np.random.Generator) -> np.ndarray:
    """Return the amplitude of every trial in every voxel: V1 and V2 see color and size, LO sees shape."""
    color = np.array([COLORS[name] for name in shown["color"]]) / 255
    low = np.column_stack([color, 4 * shown["size"].to_numpy() - 1.4])
    low = low @ subject.normal(0, 1, (low.shape[1], VOXELS))
    kinds = np.array([[shape == name for name in SHAPES] for shape in shown["category"]], dtype=float)
    high = kinds @ subject.normal(0, 1, (len(SHAPES), VOXELS))
    roi = np.arange(VOXELS) * 4 // VOXELS
    return np.where(roi < 2, low, np.where(roi == 2, high, 0.0))


#: What the sidecars say of time.
TIMES = {"RepetitionTime": REPETITION_TIME, "StartTime": START_TIME, "SliceTimingCorrected": True}

#: Grid of the volumes; the midplane runs through it.
SHAPE = (8, 7, 6)

AFFINE = np.array([[2.0, 0, 0, -7.5], [0, 2.0, 0, -90.5], [0, 0, 2.0, -8.5], [0, 0, 0, 1]])

#: Vertices of each hemisphere of fsaverage5, and of fsLR 32k.
FSAVERAGE5, FS_LR = 10242, 32492

#: In grayordinates, so many voxels of each hemisphere lie in cortex, the others in the thalamus.
IN_CORTEX = 40


def volume_mask() -> np.ndarray:
    """Return the brain, bool (x, y, z), with one true value for each voxel."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:7, 1:5, 1:5] = True
    assert mask.sum() == VOXELS
    return mask


def vertices(mesh: int) -> np.ndarray:
    """Return the vertices of half the voxels, in either hemisphere: int (voxel,)."""
    return np.linspace(100, mesh - 100, VOXELS // 2).astype(int)


def brain_models() -> Any:
    """Return where the voxels lie in grayordinates."""
    from nibabel.cifti2 import BrainModelAxis

    cortex = vertices(FS_LR)[:IN_CORTEX]
    parts = [BrainModelAxis.from_surface(cortex, FS_LR, f"CIFTI_STRUCTURE_CORTEX_{side}") for side in ("LEFT", "RIGHT")]
    left = np.argwhere(volume_mask())[: VOXELS - 2 * IN_CORTEX]
    thalamus = BrainModelAxis(
        ["CIFTI_STRUCTURE_THALAMUS_LEFT"] * len(left), voxel=left, affine=AFFINE, volume_shape=SHAPE
    )
    return parts[0] + parts[1] + thalamus


def in_grayordinates() -> np.ndarray:
    """Return which voxel each grayordinate holds: int (grayordinate,)."""
    half = VOXELS // 2
    left, right = np.arange(IN_CORTEX), half + np.arange(IN_CORTEX)
    return np.concatenate([left, right, np.setdiff1d(np.arange(VOXELS), [*left, *right])])


def write_volume(folder: Path, name: str, series: np.ndarray) -> None:
    """Write ``desc-preproc_bold.nii.gz``, its sidecar and its brain mask."""
    import nibabel

    mask = volume_mask()
    data = np.zeros((*SHAPE, len(series)), dtype=np.float32)
    data[mask] = series.T
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((2, 2, 2, REPETITION_TIME))
    stem = f"{name}_space-MNI152NLin2009cAsym_res-2"
    image.to_filename(folder / f"{stem}_desc-preproc_bold.nii.gz")
    _sidecar(folder / f"{stem}_desc-preproc_bold.json")
    nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE).to_filename(folder / f"{stem}_desc-brain_mask.nii.gz")


def write_surface(folder: Path, name: str, series: np.ndarray) -> None:
    """Write a pair of ``bold.func.gii``: an array a volume, zeros where there is no voxel."""
    from nibabel.gifti import GiftiDataArray, GiftiImage

    half = VOXELS // 2
    for side, part in (("L", series[:, :half]), ("R", series[:, half:])):
        data = np.zeros((len(series), FSAVERAGE5), dtype=np.float32)
        data[:, vertices(FSAVERAGE5)] = part
        arrays = [GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="float32") for row in data]
        stem = f"{name}_hemi-{side}_space-fsaverage5_bold"
        GiftiImage(darrays=arrays).to_filename(folder / f"{stem}.func.gii")
        _sidecar(folder / f"{stem}.json")


def write_grayordinates(folder: Path, name: str, series: np.ndarray) -> None:
    """Write ``den-91k_bold.dtseries.nii``."""
    import nibabel
    from nibabel.cifti2 import SeriesAxis

    time = SeriesAxis(start=0.0, step=REPETITION_TIME, size=len(series))
    image = nibabel.Cifti2Image(series[:, in_grayordinates()], (time, brain_models()))
    image.nifti_header.set_intent("ConnDenseSeries")
    stem = f"{name}_space-fsLR_den-91k_bold"
    image.to_filename(folder / f"{stem}.dtseries.nii")
    _sidecar(folder / f"{stem}.json")


def _sidecar(path: Path) -> None:
    path.write_text(json.dumps({**TIMES, "SkullStripped": False}, indent=2) + "\n", encoding="utf-8")


#: By kind of space.
WRITERS: dict[str, Callable[[Path, str, np.ndarray], None]] = {
    "volume": write_volume,
    "surface": write_surface,
    "grayordinates": write_grayordinates,
}

#: Name and color of each label; 0 is none.
ROIS = {"V1": (1.0, 0.2, 0.2), "V2": (0.2, 1.0, 0.2), "LO": (0.2, 0.2, 1.0)}


def roi_of_voxel() -> np.ndarray:
    """Return the label of each voxel, int (voxel,): 1 V1, 2 V2, 3 LO, 0 none."""
    return np.array([1, 2, 3, 0])[np.arange(VOXELS) * 4 // VOXELS]


def write_atlases(folder: Path, kinds: Sequence[str]) -> None:
    """Write the ROIs: NIfTI with a table of labels and a mask, annot and label GIFTI, dlabel."""
    folder.mkdir(parents=True, exist_ok=True)
    if "volume" in kinds:
        _write_volumes(folder)
    if "surface" in kinds:
        _write_surfaces(folder)
    if "grayordinates" in kinds:
        _write_grayordinates(folder)


def _write_volumes(folder: Path) -> None:
    import nibabel

    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[volume_mask()] = roi_of_voxel()
    nibabel.Nifti1Image(labels, AFFINE).to_filename(folder / "rois_dseg.nii.gz")
    table = pd.DataFrame({"index": range(1, len(ROIS) + 1), "name": list(ROIS)})
    table.to_csv(folder / "rois_dseg.tsv", sep="\t", index=False)
    visual = (labels > 0).astype(np.uint8)
    nibabel.Nifti1Image(visual, AFFINE).to_filename(folder / "visual_mask.nii.gz")


def _write_surfaces(folder: Path) -> None:
    from nibabel.freesurfer import write_annot
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

    half = VOXELS // 2
    colors = [(0, 0, 0, 0), *((*(int(255 * part) for part in color), 0) for color in ROIS.values())]
    for letter, side, part in (("L", "lh", slice(None, half)), ("R", "rh", slice(half, None))):
        labels = np.zeros(FSAVERAGE5, dtype=np.int32)
        labels[vertices(FSAVERAGE5)] = roi_of_voxel()[part]
        table = np.array([[*color, 0] for color in colors])
        write_annot(folder / f"{side}.rois.annot", labels, table, ["unknown", *ROIS], fill_ctab=True)
        names = GiftiLabelTable()
        for key, name in enumerate(["???", *ROIS]):
            label: Any = GiftiLabel(key, 1.0, 1.0, 1.0, 1.0)
            label.label = name  # nibabel writes it; its class does not declare it
            names.labels.append(label)
        array = GiftiDataArray(labels, intent="NIFTI_INTENT_LABEL", datatype="int32")
        GiftiImage(labeltable=names, darrays=[array]).to_filename(folder / f"hemi-{letter}_rois.label.gii")


def _write_grayordinates(folder: Path) -> None:
    import nibabel
    from nibabel.cifti2 import LabelAxis

    table = {0: ("???", (0.0, 0.0, 0.0, 0.0))}
    table |= {key: (name, (*color, 1.0)) for key, (name, color) in enumerate(ROIS.items(), start=1)}
    labels = roi_of_voxel()[in_grayordinates()].astype(np.float32)[None]
    image = nibabel.Cifti2Image(labels, (LabelAxis(["rois"], [table]), brain_models()))
    image.nifti_header.set_intent("ConnDenseLabel")
    image.to_filename(folder / "rois.dlabel.nii")


#: Subjects of the miniature.
SUBJECTS = ("01", "02")

#: Sessions, and runs in each.
SESSIONS, RUNS = ("01", "02"), ("1", "2", "3")

#: Name of the task.
TASK = "shapes"


def write_bids(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: Sequence[str] = SUBJECTS,
    sessions: Sequence[str] = SESSIONS,
    runs: Sequence[str] = RUNS,
    kinds: Sequence[str] = ("volume",),
) -> Path:
    """Write a raw BIDS data set with ``derivatives/fmriprep``.

    Two subjects see images of colored shapes in two sessions of three runs; training images once, eight test
    images in every other run. 96 voxels answer to shape or color; noise, drift and head motion are added.

    Parameters
    ----------
    folder : path
        Made where it does not exist.
    seed : int
        The same seed gives the same files.
    subjects, sessions, runs : sequence of str
        Labels.
    kinds : sequence of {"volume", "surface", "grayordinates"}
        Spaces to write: ``MNI152NLin2009cAsym``, ``fsaverage5``, ``fsLR`` of density 91k.

    Returns
    -------
    Path
        The folder.
    """
    root = Path(folder)
    preprocessed = root / "derivatives" / "fmriprep"
    preprocessed.mkdir(parents=True, exist_ok=True)
    stimuli = draw_stimuli(root / "stimuli", seed, len(sessions) * len(runs))
    _write_descriptions(root, preprocessed, subjects)
    write_atlases(preprocessed / "atlases", kinds)
    for number, subject in enumerate(subjects):
        for place, (session, run) in enumerate((session, run) for session in sessions for run in runs):
            name = f"sub-{subject}_ses-{session}_task-{TASK}_run-{run}"
            rng = np.random.default_rng([seed, 1, number, place])
            events = event_table(stimuli, place, rng)
            raw = _func(root, subject, session)
            events.to_csv(raw / f"{name}_events.tsv", sep="\t", index=False, na_rep="n/a")
            confounds = confound_table(rng)
            out = _func(preprocessed, subject, session)
            confounds.to_csv(out / f"{name}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
            _write_json(out / f"{name}_desc-confounds_timeseries.json", {})
            series = simulate_run(events, stimuli, confounds, np.random.default_rng([seed, 2, number]), rng)
            for kind in kinds:
                WRITERS[kind](out, name, series)
    return root


def _func(root: Path, subject: str, session: str) -> Path:
    folder = root / f"sub-{subject}" / f"ses-{session}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_descriptions(root: Path, preprocessed: Path, subjects: Sequence[str]) -> None:
    mark_simulated(root)
    _write_json(
        root / "dataset_description.json",
        {"Name": "Shapes (miniature)", "BIDSVersion": "1.9.0", "License": "CC0"},
    )
    _write_json(
        preprocessed / "dataset_description.json",
        {
            "Name": "fMRIPrep - fMRI PREProcessing workflow",
            "BIDSVersion": "1.4.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "fMRIPrep", "Version": "23.2.0"}],
        },
    )
    _write_json(root / f"task-{TASK}_bold.json", {**TIMES, "TaskName": TASK})
    table = pd.DataFrame({"participant_id": [f"sub-{subject}" for subject in subjects]})
    table.to_csv(root / "participants.tsv", sep="\t", index=False)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
