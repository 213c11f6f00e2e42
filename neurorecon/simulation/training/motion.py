"""Training of the motion prior: how drawn scenes move, given where and how fast something moves.

The network is a :class:`~neurorecon.decoders.MotionDecoder` that gets motion energy and the latents of the first frame,
and predicts those of the following frames. It never sees a brain. Each clip is used twice, forward and backward.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.decoders.neural.animator import MotionDecoder
from neurorecon.features.autoencoder import VqvaeFramesExtractor
from neurorecon.features.motion import MotionExtractor
from neurorecon.hub import BUNDLED, record_bundled
from neurorecon.io.files import replacing
from neurorecon.parallel import in_processes
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.stimuli import FRAMES_PER_SECOND, render_video
from neurorecon.simulation.training.loop import SEEDS, Run

#: Number of clips, and the index of the first one: no frame of them is among the scenes of the other networks.
CLIPS, _FIRST = 1_200, 100_000

#: Clips in one job and in one file.
_BLOCK = 50

#: Parameters of the network and of its training.
SETTINGS: dict[str, Any] = {
    "first": "given",
    "standardize_inputs": False,
    "patch": 4,
    "width": 96,
    "depth": 2,
    "heads": 4,
    "feedforward": 192,
    "memory": 34,
    "share": 0.5,
    "jitter": 0.1,
    "dropout": 0.0,
    "batch_size": 16,
    "max_epochs": 8,
    "learning_rate": 1.5e-3,
    "schedule": "one_cycle",
    "clip_norm": 1.0,
    "validation_fraction": 0.05,
}


def draw_block(folder: Path, number: int) -> None:
    """Draw one block of clips, and write energies and latents, also of the clips backward; skip one that is there.

    Parameters
    ----------
    folder : path
    number : int
        Of the block.
    """
    file = folder / f"motion-{SEEDS['train']}-{number:04d}.npz"
    if file.exists():
        return
    indices = range(_FIRST + number * _BLOCK, _FIRST + (number + 1) * _BLOCK)
    clips = np.stack([render_video(sample_scene(SEEDS["train"], index, "video")) for index in indices])
    both = np.concatenate([clips, clips[:, ::-1]])
    energy = MotionExtractor().transform(both, frames_per_second=FRAMES_PER_SECOND)
    forward = VqvaeFramesExtractor(device="cpu").transform(clips)
    latents = np.concatenate([forward, forward[:, ::-1]])
    with replacing(file) as part, part.open("wb") as stream:
        np.savez(stream, energy=energy.astype(np.float16), latents=latents.astype(np.float16))


def examples(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, latents of all frames and the clip of each example; the first call draws clips on all cores.

    Returns
    -------
    inputs : array, shape (example, energy and latent)
    latents : array, shape (example, frame, channel, y, x)
    clips : int array, shape (example,)
    """
    from joblib import delayed

    folder = run.folder / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    blocks = range(CLIPS // _BLOCK)
    in_processes(-1)(delayed(draw_block)(folder, number) for number in blocks)
    kept = [np.load(folder / f"motion-{SEEDS['train']}-{number:04d}.npz") for number in blocks]
    energy, latents = (
        np.concatenate([part[name] for part in kept]).astype(np.float32) for name in ("energy", "latents")
    )
    clips = np.concatenate([np.tile(np.arange(_BLOCK), 2) + number * _BLOCK for number in blocks])
    return np.concatenate([energy, latents[:, 0].reshape(len(latents), -1)], axis=1), latents, clips


def train_motion(run: Run) -> MotionDecoder:
    """Train the motion prior; an interrupted training resumes."""
    inputs, latents, clips = examples(run)
    decoder = MotionDecoder(**SETTINGS, device=run.device, progress=run.progress)
    decoder.fit(inputs, latents, groups=clips, checkpoint=run.folder / "motion")
    return decoder


def explained(decoder: MotionDecoder, inputs: np.ndarray, latents: np.ndarray) -> float:
    """Return the share of what changes after the first frame that is predicted; 0 for frames that stay as they are."""
    changes, found = (frames[:, 1:] - latents[:, :1] for frames in (latents, decoder.predict(inputs)))
    return float(1 - ((found - changes) ** 2).sum() / (changes**2).sum())


def publish_motion(decoder: MotionDecoder, run: Run, home: Path = BUNDLED) -> float:
    """Write the motion prior, with half precision, and return what it explains of clips that it was not trained on."""
    inputs, latents, _ = examples(run)
    held_out = decoder.validation_rows_
    decoder.weights_ = {name: values.astype(np.float16).astype(np.float32) for name, values in decoder.weights_.items()}
    decoder._network = None
    score = explained(decoder, inputs[held_out], latents[held_out])
    folder = home / "motion_prior"
    shutil.rmtree(folder, ignore_errors=True)
    decoder.set_params(device="cpu", progress=False)
    decoder.save(folder, provenance={"trained on": f"{CLIPS} drawn clips", "explained": round(score, 3)})
    record_bundled(folder)
    return score
