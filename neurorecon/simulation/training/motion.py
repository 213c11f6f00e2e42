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
from neurorecon.decoders.neural.data import split_samples
from neurorecon.errors import InputError
from neurorecon.features.autoencoder import VqvaeFramesExtractor
from neurorecon.features.motion import MotionExtractor
from neurorecon.hub import BUNDLED, record_bundled
from neurorecon.io import tensors
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
    """Draw one block of clips, and write energies and latents, also of the clips backward.

    Parameters
    ----------
    folder : path
    number : int
        Of the block.
    """
    file = folder / f"motion-{SEEDS['train']}-{number:04d}.npz"
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
    missing = [number for number in blocks if not (folder / f"motion-{SEEDS['train']}-{number:04d}.npz").exists()]
    if missing:
        in_processes(-1)(delayed(draw_block)(folder, number) for number in missing)
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


def last_checkpoint(run: Run) -> MotionDecoder:
    """Return the motion prior with the best weights so far of a training that may not be complete.

    Raises
    ------
    InputError
        If there is no checkpoint.
    """
    inputs, latents, clips = examples(run)
    file = run.folder / "motion" / "checkpoint.safetensors"
    if not file.exists():
        raise InputError(
            "no checkpoint of 'motion'",
            given=f"no file {file}",
            expected="a checkpoint",
            todo="run python -m neurorecon.simulation.training motion",
        )
    arrays, description = tensors.load(file)
    state = tensors.unpack(description["state"], arrays)
    decoder = MotionDecoder(**SETTINGS)
    fraction, seed = SETTINGS["validation_fraction"], decoder.random_state
    decoder.validation_rows_ = split_samples(len(inputs), clips, None, fraction, seed)[1]
    decoder.input_shape_, decoder.target_shape_ = inputs.shape[1:], latents.shape[1:]
    decoder.n_features_in_ = inputs.shape[1]
    decoder.x_mean_, decoder.x_scale_ = np.zeros(inputs.shape[1]), np.ones(inputs.shape[1])
    decoder.y_mean_, decoder.y_scale_ = np.zeros(latents.shape[1:]), np.ones(latents.shape[1:])
    decoder.weights_ = {name: np.asarray(values) for name, values in state["best_weights"].items()}
    decoder.history_ = {name: np.array(values) for name, values in state["history"].items()}
    decoder.best_epoch_ = state["best_epoch"]
    return decoder


def publish_motion(run: Run, home: Path = BUNDLED) -> float:
    """Write the weights of the last checkpoint, in half precision.

    Returns
    -------
    float
        What they explain of clips that they were not trained on; see :func:`explained`.
    """
    decoder = last_checkpoint(run)
    decoder.weights_ = {name: values.astype(np.float16) for name, values in decoder.weights_.items()}
    inputs, latents, _ = examples(run)
    held_out, epochs = decoder.validation_rows_, len(decoder.history_["loss"])
    score = explained(decoder, inputs[held_out], latents[held_out])
    folder = home / "motion_prior"
    shutil.rmtree(folder, ignore_errors=True)
    made = {"clips": CLIPS, "epochs": epochs, "best epoch": decoder.best_epoch_, "explained": round(score, 3)}
    decoder.save(folder, provenance={"trained on": "drawn clips", **made})
    (folder / "README.md").write_text(_CARD.format(**{key.replace(" ", "_"): value for key, value in made.items()}))
    record_bundled(folder)
    return score


_CARD = """# Motion prior, 64 px

How drawn scenes move: a `MotionDecoder` (neurorecon.decoders) that gets motion energy (target `motion`) and the latents
of the first frame, and continues the frames. Mind-Animator with the bundled networks uses it. It never saw a brain.

Trained by `python -m neurorecon.simulation.training motion` on {clips} clips, forward and backward; {epochs} epochs,
of which number {best_epoch} is the best. Of what changes after the first frame of held-out clips, it explains
{explained:.0%} of the squared latents; frames that stay as they are explain 0 %.

License: BSD-3-Clause.
"""
