"""A miniature of CC2017: short videos, and simulated responses at a few grayordinates and voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.testing.layouts import mark_simulated

#: Frame rate of the real videos, and size of the small ones (y, x).
RATE, SIZE = 30, (48, 64)

#: Vertices of a hemisphere of the mesh.
MESH = 32492

#: Some vertices of parcels of HCP-MMP. The motor cortex (4) does not respond to videos.
VERTICES = {
    "LEFT": {
        "V1": (24266, 25127, 25461), "V2": (24195, 24861, 25321), "V3": (23451, 24451, 24893),
        "V4": (15266, 23854, 24420), "MT": (15239, 15388, 15486), "MST": (15242, 15394, 15537),
        "FFC": (22754, 24041, 24216), "4": (4643, 5618, 8253),
    },
    "RIGHT": {
        "V1": (24329, 25171, 25497), "V2": (24231, 24884, 25322), "V3": (23498, 24288, 25046),
        "V4": (15215, 23813, 24446), "MT": (15237, 15341, 15439), "MST": (15189, 15344, 15489),
        "FFC": (22808, 24082, 24247), "4": (5066, 5660, 8239),
    },
}  # fmt: skip

#: Grid of the volumes (MNI152, 2 mm), cut to a few voxels.
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.0, 0, -126], [0, 0, 2.0, -72], [0, 0, 0, 1]])
SHAPE = (6, 7, 5)


def write_cc2017(
    folder: str | Path,
    *,
    seed: int = 0,
    subjects: Sequence[int] = (1,),
    segments: int = 3,
    tests: int = 2,
    repeats: int = 3,
    clips: int = 10,
    files: Sequence[str] = ("cifti",),
) -> Path:
    """Write videos and runs under the names of the release.

    Parameters
    ----------
    folder : path
        Folder to write; created if it does not exist.
    seed : int
        Random seed.
    subjects : sequence of int
        Numbers of the subjects.
    segments, tests : int
        Number of training videos, each shown twice, and of test videos.
    repeats : int
        Presentations of the test videos.
    clips : int
        Clips of 2 s of each video; the release has 240.
    files : sequence of {"cifti", "mni"}
        Kinds of responses. As in the release, some volumes are called ``.mni`` and some ``_mni``.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    mark_simulated(folder)
    generator = np.random.default_rng(seed)
    stimuli = folder / "Stimuli" / "video_fmri_dataset" / "stimuli"
    videos = [f"seg{number}" for number in range(1, segments + 1)] + [f"test{n}" for n in range(1, tests + 1)]
    scenes = {name: generator.integers(0, 256, (clips, 6, 8, 3)) for name in videos}
    for name in videos:
        write_video(stimuli / f"{name}.mp4", scenes[name], 2 * RATE, RATE)
    models, visual = cortex_models(), responsive()
    for subject in subjects:
        patterns = generator.standard_normal((6 * 8 * 3, len(models))) * visual / 4
        base = folder / f"Subject{subject:02d}" / "video_fmri_dataset" / f"subject{subject}" / "fmri"
        for name in videos:
            signal = (scenes[name].reshape(clips, -1) / 128.0 - 1) @ patterns
            for repeat in range(1, (2 if name.startswith("seg") else repeats) + 1):
                before = 2 if name.startswith("test") and name != "test1" else 1
                series = simulate(signal, before, 4, generator)
                if "cifti" in files:
                    write_series(base / name / "cifti" / f"{name}_{repeat}_Atlas.dtseries.nii", series, models, 2.0)
                if "mni" in files:
                    mark = ".mni" if repeat % 2 else "_mni"
                    _write_volume(base / name / "mni" / f"{name}_{repeat}{mark}.nii.gz", series)
    return folder


def write_video(path: Path, scenes: np.ndarray, frames: int, rate: int, size: tuple[int, int] = SIZE) -> None:
    """Write a video in H.264 whose frames carry their number.

    Parameters
    ----------
    path : path
        The file.
    scenes : int array, shape (scene, row, column, rgb)
        Colors of the patches of each scene, which scroll to the right, one pixel a frame.
    frames : int
        Frames of each scene.
    rate : int
        Frames per second.
    size : (int, int)
        (y, x) in pixels, multiples of the numbers of rows and columns. A row of 16 black or white squares in the lowest
        quarter is the number of the frame in binary, most significant digit first.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "ultrafast", "g": "50"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(len(scenes) * frames):
            scene = scenes[number // frames].astype(np.uint8)
            image = scene.repeat(size[0] // scene.shape[0], axis=0).repeat(size[1] // scene.shape[1], axis=1)
            image = np.roll(image, number % frames, axis=1)
            digits = [number >> place & 1 for place in reversed(range(16))]
            image[size[0] * 3 // 4 :] = np.repeat(digits, size[1] // 16)[None, :, None] * 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def frame_number(image: np.ndarray) -> int:
    """Return the number that a frame of :func:`write_video` carries, uint8, shape (y, x, rgb), at any size."""
    row = image[image.shape[0] * 7 // 8].mean(axis=-1)
    digits = row[((np.arange(16) + 0.5) * image.shape[1] / 16).astype(int)] > 127
    return int("".join(str(int(digit)) for digit in digits), 2)


def cortex_models(mesh: int = MESH) -> Any:
    """Return the CIFTI axis of :data:`VERTICES`, and of four voxels of the thalamus.

    On a mesh of another size than :data:`MESH`, vertices are elsewhere.
    """
    from nibabel.cifti2 import BrainModelAxis

    parts = []
    for side, parcels in VERTICES.items():
        vertices = np.sort(np.concatenate(list(parcels.values()))) * mesh // MESH
        parts.append(BrainModelAxis.from_surface(vertices, mesh, f"CIFTI_STRUCTURE_CORTEX_{side}"))
    voxels = np.stack([np.arange(4), np.full(4, 50), np.full(4, 40)], axis=1)
    thalamus = BrainModelAxis(
        ["CIFTI_STRUCTURE_THALAMUS_LEFT"] * 4, voxel=voxels, affine=AFFINE, volume_shape=(91, 109, 91)
    )
    return parts[0] + parts[1] + thalamus


def responsive() -> np.ndarray:
    """Return which grayordinates respond to videos: those of visual parcels, bool, shape (grayordinate,)."""
    found = []
    for parcels in VERTICES.values():
        motor = np.isin(np.sort(np.concatenate(list(parcels.values()))), parcels["4"])
        found.append(~motor)
    return np.concatenate([*found, np.zeros(4, dtype=bool)])


def simulate(signal: np.ndarray, before: int, after: int, generator: np.random.Generator) -> np.ndarray:
    """Return a run: noise, drift and a level like those of a scanner around a signal, (volume, grayordinate)."""
    series = np.zeros((before + len(signal) + after, signal.shape[1]))
    series[before : before + len(signal)] = signal
    drift = np.linspace(-1, 1, len(series))[:, None] ** 2 * 5
    return (1000 + drift + 3 * series + generator.standard_normal(series.shape)).astype(np.float32)


def write_series(path: Path, series: np.ndarray, models: Any, step: float) -> None:
    """Write a dense time series, shape (volume, grayordinate)."""
    import nibabel
    from nibabel.cifti2 import SeriesAxis

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Cifti2Image(series, (SeriesAxis(start=0.0, step=step, size=len(series)), models))
    image.nifti_header.set_intent("ConnDenseSeries")
    image.to_filename(path)


def _write_volume(path: Path, series: np.ndarray) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.zeros((*SHAPE, len(series)), dtype=np.float32)
    place = np.unravel_index(np.arange(series.shape[1]) * 4, SHAPE)
    data[place] = series.T
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((2, 2, 2, 2))
    image.to_filename(path)
