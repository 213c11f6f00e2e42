"""A miniature of LAION-fMRI: the same files, names and columns, with a few voxels and trials and simulated responses.

Every image is shown once in every session. The scenes are those of the miniature of NSD.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.laion_fmri import CEILINGS, SPLITS
from neurorecon.testing.layouts import mark_simulated
from neurorecon.testing.layouts.nsd import VOLUMES, Cortex, Scenes, draw, invent, volume_cortex

#: Sessions (30 in LAION-fMRI), runs of a session (12), shared images of each kind, and images of each subject (4,712).
SESSIONS, RUNS, SHARED, OWN = 3, 2, {"12rep_LAION_cluster": 10, "4rep_NSD_special100": 4, "4rep_OOD_shape": 6}, 40

#: Numbers of the real subjects.
SUBJECTS = (1, 3, 5, 6, 7)

#: Standard deviation of the trial noise.
NOISE = 1.0

#: Masks of ROIs by category: file and labels of the miniature of NSD.
ROIS = {
    "face/FFA1": ("floc-faces", (2, 3)),
    "place/PPA": ("floc-places", (2, 3)),
    "body/EBA": ("floc-bodies", (2, 3)),
    "visual/V1": ("prf-visualrois", (1, 2)),
    "visual/V4": ("prf-visualrois", (7,)),
    "laion/laiongeneral": ("nsdgeneral", (1,)),
}


def write_laion_fmri(folder: str | Path, *, seed: int = 0, subjects: Sequence[int] = (1, 3)) -> Path:
    """Write ``derivatives``, ``stimuli`` and ``splits``.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of int
        Numbers of the subjects, among :data:`SUBJECTS`.

    Returns
    -------
    Path
        The folder.
    """
    import nibabel

    folder = Path(folder)
    mark_simulated(folder)
    names = [f"shared_{kind}_{number}{'.png' if 'OOD' in kind else '_i0.jpg' if 'LAION' in kind else '.jpg'}"
             for kind, count in SHARED.items() for number in range(count)]  # fmt: skip
    shared = len(names)
    names += [f"unique_LAION_initial_cluster_{number}_i1_p{place + 1:02d}.jpg"
              for place in range(len(SUBJECTS)) for number in range(OWN)]  # fmt: skip
    scenes = invent(len(names), np.random.default_rng(seed))
    _write_stimuli(folder / "stimuli", names, shared, scenes)
    _write_splits(folder / "splits", names, shared)
    cortex, affine = volume_cortex("func1pt8mm")
    shape = VOLUMES["func1pt8mm"][0]

    def save(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        inside = cortex.brain.reshape(-1, *[1] * (values.ndim - 1))
        volume = np.where(inside, values, 0).reshape(*shape, *values.shape[1:], order="F")
        nibabel.Nifti1Image(volume, affine).to_filename(path)

    for subject in subjects:
        rng, name = np.random.default_rng([seed, subject]), f"sub-{subject:02d}"
        first = shared + OWN * SUBJECTS.index(subject)
        shown = np.concatenate([np.arange(shared), np.arange(first, first + OWN)])
        signal = scenes.features() @ cortex.weights(rng)  # (image, voxel)
        base = folder / "derivatives" / "glmsingle-tedana" / name
        for session in range(1, SESSIONS + 1):
            order = rng.permutation(shown)
            values = signal[order] + NOISE * rng.standard_normal((len(order), signal.shape[1]))
            stem = f"{name}_ses-{session:02d}_task-images"
            func = base / f"ses-{session:02d}" / "func"
            save(func / f"{stem}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz",
                 values.T.astype(np.float32))  # fmt: skip
            trials = pd.DataFrame(
                {
                    "session": f"ses-{session:02d}",
                    "run": [f"run-{1 + place * RUNS // len(order):02d}" for place in range(len(order))],
                    "beta_index": np.arange(len(order)),
                    "label": [names[image] for image in order],
                }
            )
            trials.to_csv(func / f"{stem}_desc-SingletrialBetas_trials.tsv", sep="\t", index=False)
        _write_maps(folder, base, name, cortex, signal[shown].var(axis=0) / NOISE**2, save)
    return folder


def _write_maps(folder: Path, base: Path, name: str, cortex: Cortex, ratio: np.ndarray, save: Callable) -> None:
    """Write the mean R2, noise ceilings (percent) and masks of ROIs."""
    stem = f"{name}_task-images_space-T1w"
    save(base / f"{stem}_stat-rsquare_desc-R2mean_statmap.nii.gz", (10 + ratio).astype(np.float32))
    for key, repeats in CEILINGS.items():
        ceiling = 100 * ratio / (ratio + 1 / (repeats or SESSIONS))
        save(base / f"{stem}_desc-Noiseceiling{key}_statmap.nii.gz", ceiling.astype(np.float32))
    for roi, (file, labels) in ROIS.items():
        category, label = roi.split("/")
        member = np.isin(cortex.labels[file], labels).astype(np.uint8)
        where = folder / "derivatives" / "rois" / name / category
        save(where / f"{name}_space-T1w_res-1pt8_label-{label}_mask.nii.gz", member)


def _write_stimuli(folder: Path, names: list[str], shared: int, scenes: Scenes) -> None:
    import h5py
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "task-images_stimuli.h5", "w") as file:
        data = file.create_dataset("images", (len(names),), h5py.vlen_dtype(np.uint8))
        for image in range(len(names)):
            content = io.BytesIO()
            Image.fromarray(draw(scenes, image)).save(content, "JPEG", quality=95)
            data[image] = np.frombuffer(content.getvalue(), dtype=np.uint8)
    who = ["shared"] * shared + [f"sub-{subject:02d}" for subject in SUBJECTS for _ in range(OWN)]
    table = pd.DataFrame(
        {
            "image_name": names,
            "dataset": ["OOD" if "OOD" in name else "NSD" if "NSD" in name else "LAION-natural" for name in names],
            "participant": who,
            "unique_or_shared": ["shared" if one == "shared" else "unique" for one in who],
            "n_reps": ["12rep" if "12rep" in name else "4rep" for name in names],
        }
    )
    table.to_csv(folder / "task-images_metadata.csv", index=False)
    rows = []
    for image, name in enumerate(names):
        rows += [(name, place, "human", text) for place, text in enumerate(scenes.captions(image)[:3], start=1)]
        rows += [(name, 0, "ai", "An image.")] if image < shared and "OOD" not in name else []
    captions = pd.DataFrame(rows, columns=["image_name", "caption_idx", "source", "caption"])
    captions["origin_collection"], captions["participant_id"], captions["ai_model"] = "main1", "", ""
    captions.to_csv(folder / "task-images_desc-captions.csv", index=False)


def _write_splits(folder: Path, names: list[str], shared: int) -> None:
    """Write the splits of all pools. Shared images trade places between subjects in tau and in clusters, as they do."""
    outside = [name for name in names if "OOD" in name]
    regular = [name for name in names[:shared] if name not in outside]
    for place, pool in enumerate(["shared", *(f"sub-{subject:02d}" for subject in SUBJECTS)]):
        own = names[shared + OWN * (place - 1) : shared + OWN * place] if place else []
        images = [*regular, *own]
        for split in SPLITS:
            fold = int(split[-1]) if split[-1].isdigit() else 0
            shift = 0 if split.startswith("random") else place
            test = [name for number, name in enumerate(images) if (number + shift) % 5 == fold]
            content: dict[str, Any] = {"name": split, "pool": pool, "splitter": "miniature", "params": {}}
            parts: dict[str, Any] = {
                "variant_id": 0,
                "train_ids": images if split == "ood" else [name for name in images if name not in test],
                "test_ids": outside if split == "ood" else test,
            }
            content |= {"n_train": len(parts["train_ids"]), "n_test": len(parts["test_ids"]), "variants": [parts]}
            path = folder / pool / f"{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")
