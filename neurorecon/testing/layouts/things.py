"""A miniature of THINGS-fMRI: the same files, names and columns, with a few voxels and trials and simulated responses.

Training images are shown once, test images once in every session. The scenes are those of the miniature of NSD.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.testing.layouts import mark_simulated
from neurorecon.testing.layouts.nsd import VOLUMES, Cortex, Scenes, draw, invent, volume_cortex

#: Sessions (12 in THINGS-fMRI), runs of a session (10), training and test images of a session (720 and 100).
SESSIONS, RUNS, TRAIN, TEST = 3, 2, 24, 8

#: Standard deviation of the trial noise; signals are several times as large.
NOISE = 0.05

#: ROIs as they are called in VoxelMetadata.csv: file and labels of the miniature of NSD, and the hemisphere.
ROIS = {
    "V1": ("prf-visualrois", (1, 2), None),
    "V2": ("prf-visualrois", (3, 4), None),
    "V3": ("prf-visualrois", (5, 6), None),
    "hV4": ("prf-visualrois", (7,), None),
    "LO1 (prf)": ("prf-visualrois", (8,), None),  # empty
    "lEBA": ("floc-bodies", (2, 3), True),
    "rEBA": ("floc-bodies", (2, 3), False),
    "lFFA": ("floc-faces", (2, 3), True),
    "rFFA": ("floc-faces", (2, 3), False),
    "lPPA": ("floc-places", (2, 3), True),
    "rPPA": ("floc-places", (2, 3), False),
    "glasser-V1": ("HCP_MMP1", (1,), None),
    "glasser-FFC": ("HCP_MMP1", (18,), None),
    "glasser-p9-\n46v": ("streams", (7,), None),  # a line break, as in the real table
}


def write_things(folder: str | Path, *, seed: int = 0, subjects: Sequence[int] = (1, 2)) -> Path:
    """Write ``betas_csv``, ``betas_vol``, ``brainmasks`` and ``images_THINGS``.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of int
        Numbers of the subjects.

    Returns
    -------
    Path
        The folder.
    """
    from PIL import Image

    folder = Path(folder)
    mark_simulated(folder)
    rng = np.random.default_rng(seed)
    scenes = invent(TEST + SESSIONS * TRAIN, rng)
    files = [_file(scenes, image) for image in range(TEST + SESSIONS * TRAIN)]
    for image, file in enumerate(files):
        path = folder / "images_THINGS" / "object_images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(scenes, image)).save(path, quality=95)
    order = [  # the same for all subjects here
        rng.permutation(np.concatenate([np.arange(TEST), TEST + session * TRAIN + np.arange(TRAIN)]))
        for session in range(SESSIONS)
    ]
    cortex, affine = volume_cortex("func1pt8mm")
    for subject in subjects:
        own = np.random.default_rng([seed, subject])
        weights = cortex.weights(own) * 0.1
        shown = np.concatenate(order)
        responses = scenes.features()[shown] @ weights + NOISE * own.standard_normal((len(shown), weights.shape[1]))
        _write_mask(folder, f"sub-{subject:02d}", cortex, affine)
        _write_tables(folder / "betas_csv", subject, cortex, files, shown, responses)
        _write_runs(
            folder / "betas_vol", f"sub-{subject:02d}", cortex, affine, [files[one] for one in shown], responses
        )
    return folder


def _file(scenes: Scenes, image: int) -> str:
    """Return the file of an image; only the first two test images show concepts of the training images."""
    concept = scenes.name(image) + ("2" if 2 <= image < TEST else "")
    return f"{concept}/{concept}_{image:02d}s.jpg"


def _brain(cortex: Cortex, values: np.ndarray) -> np.ndarray:
    """Return the values of the brain, voxels in the order of ``array[mask]``; `values` has them first, x fastest."""
    shape = VOLUMES["func1pt8mm"][0]
    order = np.arange(len(cortex.brain)).reshape(shape, order="F").ravel()
    return values[order[cortex.brain[order]]]


def _volume(cortex: Cortex, values: np.ndarray) -> np.ndarray:
    """Return values (voxel, ...) as volumes (x, y, z, ...), 0 outside of the brain."""
    shape = VOLUMES["func1pt8mm"][0]
    inside = cortex.brain.reshape(-1, *[1] * (values.ndim - 1))
    return np.where(inside, values, 0).reshape(*shape, *values.shape[1:], order="F")


def _write_mask(folder: Path, name: str, cortex: Cortex, affine: np.ndarray) -> None:
    import nibabel

    path = folder / "brainmasks" / f"{name}_space-T1w_brainmask.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(_volume(cortex, np.ones(len(cortex.brain), dtype=np.uint8)), affine).to_filename(path)


def _write_tables(
    folder: Path, subject: int, cortex: Cortex, files: list[str], shown: np.ndarray, responses: np.ndarray
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, trials = f"sub-{subject:02d}", TRAIN + TEST
    stimuli = pd.DataFrame(
        {
            "trial_type": np.where(shown < TEST, "test", "train"),
            "session": np.arange(len(shown)) // trials + 1,
            "run": np.arange(len(shown)) % trials // (trials // RUNS) + 1,
            "subject_id": subject,
            "trial_id": np.arange(len(shown)),
            "stimulus": [files[image].partition("/")[2] for image in shown],
            "concept": [files[image].partition("/")[0] for image in shown],
        }
    )
    stimuli.to_csv(folder / f"{name}_StimulusMetadata.csv", index=False)
    places = np.argwhere(_volume(cortex, np.ones(len(cortex.brain))))
    signal = _brain(cortex, responses.T)
    test = np.stack([signal[:, shown == image] for image in range(TEST)])  # (image, voxel, repeat)
    noise = test.var(axis=2, ddof=1).mean(axis=0)
    ratio = np.maximum(signal.var(axis=1, ddof=1) - noise, 0) / noise
    voxels = pd.DataFrame({"voxel_id": np.arange(len(places)), "subject_id": subject})
    voxels[["voxel_x", "voxel_y", "voxel_z"]] = places
    voxels["nc_singletrial"] = 100 * ratio / (ratio + 1)
    voxels["nc_testset"] = 100 * ratio / (ratio + 1 / SESSIONS)
    for column in ("splithalf_uncorrected", "splithalf_corrected"):
        voxels[column] = 0.5
    for column in ("prf-eccentricity", "prf-polarangle", "prf-rsquared", "prf-size"):
        voxels[column] = 0.0
    left = _brain(cortex, cortex.left)
    for roi, (file, labels, side) in ROIS.items():
        member = np.isin(_brain(cortex, cortex.labels[file]), labels)
        voxels[roi] = (member if side is None else member & (left == side)).astype(int)
    voxels.to_csv(folder / f"{name}_VoxelMetadata.csv", index=False)
    write_pandas_table(folder / f"{name}_ResponseData.h5", signal)


def write_pandas_table(path: Path, values: np.ndarray) -> None:
    """Write a table as ``DataFrame.to_hdf`` does in its format "fixed": a column ``voxel_id`` and one for each trial.

    Parameters
    ----------
    path : path
        The file.
    values : float array, shape (voxel, trial)
        The responses.
    """
    import h5py

    trials = list(range(values.shape[1]))

    def attributes(item: Any, **values: Any) -> None:
        for key, value in values.items():
            if isinstance(value, str):
                length = h5py.string_dtype("utf-8", len(value)) if value else None
                value = np.array(value.encode(), dtype=length) if value else h5py.Empty("S1")
            item.attrs[key] = value

    with h5py.File(path, "w") as file:
        attributes(file, CLASS="GROUP", PYTABLES_FORMAT_VERSION="2.1", TITLE="", VERSION="1.0")
        group = file.create_group("ResponseData")
        regular = dict.fromkeys(("axis0", "axis1", "block0_items", "block1_items"), "regular")
        attributes(group, CLASS="GROUP", TITLE="", VERSION="1.0", **{f"{key}_variety": w for key, w in regular.items()})
        attributes(group, encoding="UTF-8", errors="strict", nblocks=2, ndim=2, pandas_type="frame")
        for name, items in (("axis0", ["voxel_id", *trials]), ("block0_items", trials)):
            pickled = np.frombuffer(pickle.dumps(np.array(items, dtype=object)), dtype=np.uint8)
            data = group.create_dataset(name, (1,), h5py.vlen_dtype(np.uint8), chunks=(1,), maxshape=(None,))
            data[0] = pickled
            attributes(data, CLASS="VLARRAY", PSEUDOATOM="object", TITLE="", VERSION="1.4", kind="object", name="N.")
        numbers = np.arange(len(values))
        blocks = {"block1_items": np.array([b"voxel_id"]), "block0_values": values, "block1_values": numbers[:, None]}
        kinds = {"axis1": "integer", "block1_items": "string"}
        for name, content in {"axis1": numbers, **blocks}.items():
            data = group.create_dataset(name, data=content)
            attributes(data, CLASS="ARRAY", FLAVOR="numpy", TITLE="", VERSION="2.4", transposed=np.uint8(1))
            if name in kinds:
                attributes(data, kind=kinds[name], name="N.")


def _write_runs(
    folder: Path, name: str, cortex: Cortex, affine: np.ndarray, shown: list[str], responses: np.ndarray
) -> None:
    """Write a volume for each trial of each run; a catch trial, which shows no object, is the second of each."""
    import nibabel

    length = (TRAIN + TEST) // RUNS
    for number in range(SESSIONS * RUNS):
        session, run = f"ses-things{number // RUNS + 1:02d}", f"run-{number % RUNS + 1:02d}"
        part = slice(number * length, (number + 1) * length)
        files = np.insert(np.array(shown[part], dtype=object), 1, f"catch{number + 1:03d}.jpg")
        values = np.insert(responses[part], 1, 0.3, axis=0)
        stem = folder / name / session / f"{name}_{session}_{run}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"image_filename": files}).to_csv(f"{stem}_conditions.tsv", sep="\t")
        image = nibabel.Nifti1Image(_volume(cortex, values.T).astype(np.float32), affine)
        image.to_filename(f"{stem}_betas.nii.gz")
