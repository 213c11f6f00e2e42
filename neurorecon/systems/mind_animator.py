"""Mind-Animator: semantics, structure and motion are decoded apart, and a network of images makes a video of them.

Lu, Du, Wang, Wang, Zhu & He (2024), Animate your thoughts: reconstruction of dynamic natural vision from human brain
activity, arXiv 2405.03280 (ICLR 2025). Three decoders read the responses to a clip:

- semantics, the text condition of Stable Diffusion, through an embedding that is aligned with text and video;
- structure, the latents of the first frame;
- motion, how these latents go on.

The latents of all frames are inverted to noise, from which a diffusion network of images, whose frames attend to each
other, generates the video. ``docs/systems/mind-animator.md`` lists all deviations of the presets.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.decoders.persistence import load_decoder
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models.load import source
from neurorecon.registry import DECODERS
from neurorecon.systems.base import TargetSpec, correlate_rows
from neurorecon.systems.decoded import Decoded, as_images
from neurorecon.systems.diffusion import ALPHAS, DiffusionSystem, decode_frames, decode_latents

if TYPE_CHECKING:
    import xarray

    from neurorecon.generators.video import VideoDiffusion

#: Targets: the text condition, the latents of the first frame, motion energy, and the latents of all frames.
SEMANTICS, STRUCTURE, ENERGY, FRAMES = "clip_text_20", "vqvae_first", "motion", "vqvae_frames"

#: Embeddings of text and video, with which those of responses are aligned.
_ALIGNED = ("clip_text_embedding", "clip_image")

#: The target that motion is decoded as.
MOTION = {"frames": FRAMES, "energy": ENERGY}

#: Decoders that are networks, and their parameters as in the paper (section 3 and appendix).
_ADAM = {"optimizer": "adam", "weight_decay": 0.0, "learning_rate": 2e-4, "batch_size": 64, "max_epochs": 100}
_NETWORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    SEMANTICS: ("SemanticDecoder", {**_ADAM, "hidden": [512] * 4, "head": [2048, 4096], "dropout": 0.15}),
    STRUCTURE: ("MLPDecoder", {**_ADAM, "hidden": [1024]}),
    ENERGY: ("MLPDecoder", {**_ADAM, "hidden": [1024]}),
    FRAMES: ("MotionDecoder", {**_ADAM, "width": 512, "depth": 4, "heads": 8}),
}

_PAPER: Mapping[str, Any] = {
    "motion": "frames",
    "structure": "clips",
    "frames": 8,
    "linear": (),
    "network": {},
    "alphas": ALPHAS,
    "alpha_per": {SEMANTICS: "token", STRUCTURE: "channel", ENERGY: "all", FRAMES: "all"},
    "intercept": True,
    "renorm": "none",
    "scale_responses": "train",
    "redraw": 0.0,
    "invert": True,
    "refinements": 0,
    "strength": 0.132,  # the step 200 of 1000
    "guidance": 12.5,
    "steps": 50,
    "eta": 0.0,
    "scheduler": "DDIMScheduler",
}

#: ROIs that motion energy is decoded from. Other voxels predict it as well, but from contrast, which has no direction.
_MOTION_ROIS = ("MT", "MST")

#: The released motion decoder: a frame is one token, as wide as its latents, without noise in training.
_DENSE = {"patch": None, "width": 16_384, "inner": 1024, "depth": 2, "heads": 4, "feedforward": 768}


@dataclass(eq=False, repr=False)
class MindAnimator(DiffusionSystem):
    """Mind-Animator: videos from decoded semantics, structure and motion.

    The preset ``"corrected"`` is the method of the paper: a frame sees the first and the previous one, and several
    tokens of the responses. ``"released"`` has the dense motion decoder of the authors' code. With the bundled
    networks, ``"corrected"`` decodes motion energy, and a network that learned from rendered clips how images move
    turns it into frames; see `motion`.

    Parameters
    ----------
    models, preset, alphas, renorm, rois, without, strength, guidance, steps, eta, scheduler, best_of, adapter, device
        As in :class:`~neurorecon.systems.diffusion.DiffusionSystem`, like ``dtype`` and ``batch_size``. The targets are
        ``clip_text_20`` (semantics), ``vqvae_first`` (structure), and ``vqvae_frames`` or ``motion``. With the bundled
        networks, structure is decoded from the ROI ``early`` by default (`rois`).
        `alphas` and `renorm` are those of `linear` decoders; `best_of` compares first frames.
    first_stage_only : bool
        Return what the autoencoder makes of the latents of all frames, without diffusion.
    motion : {"frames", "energy"}, optional
        ``"frames"``: decode the latents of all frames, as published; what changes after their first frame is added to
        the decoded structure. ``"energy"``: decode motion energy, where and how fast something moves, which is closer
        to linear in the responses than frames are; the motion prior, trained without a brain, moves the first frame.
        By default it is decoded from MT and MST (`rois`).
    structure : {"clips", "images"}, optional
        What the decoder of structure is trained on: first frames of clips, as published, or the images that the subject
        has seen (their target is ``vqvae``), if there are at least as many; else clips. A response to a clip is one to
        all of its frames, so the first is learned better from still images.
    frames : int, optional
        Number of frames of a video whose motion is not decoded.
    linear : tuple of str, optional
        Targets that ridge regression decodes in place of a network.
    network : mapping of str to mapping, optional
        Parameters of the networks by target, e.g. ``{"vqvae_first": {"max_epochs": 20}}``.
    redraw : float, optional
        Strength at which the network of images redraws the decoded first frame, guided by the text condition, before it
        moves; 0: it moves as it was decoded. A decoded frame is a blur, which a video of low `strength` stays, and one
        of high `strength` loses its motion. Not part of the first stage.
    invert, refinements : optional
        As in :class:`~neurorecon.generators.video.VideoDiffusion`.
    scale_responses : {"train", "test"}, optional
        Moments by which responses are standardized before they are decoded. Those of the test set depend on the other
        stimuli, and are not used for one.
    """

    name: ClassVar[str] = "mind-animator"
    kinds: ClassVar[tuple[Literal["image", "video"], ...]] = ("video",)
    networks: ClassVar[tuple[str, ...]] = ("text-diffusion", "autoencoder", "text-encoder")
    first_stage: ClassVar[str] = STRUCTURE
    condition: ClassVar[Literal["text"]] = "text"
    default_rois: ClassVar[Mapping[str, str | tuple[str, ...]]] = {ENERGY: _MOTION_ROIS}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": _PAPER,
        "released": {**_PAPER, "network": {FRAMES: _DENSE}, "scale_responses": "test"},
    }
    bundled: ClassVar[Mapping[str, Any]] = {
        "motion": "energy",
        "structure": "images",
        "linear": (SEMANTICS, STRUCTURE, ENERGY),
        "rois": {STRUCTURE: "early", ENERGY: _MOTION_ROIS},
        "renorm": {SEMANTICS: "train", STRUCTURE: "none", ENERGY: "train", FRAMES: "none"},
        "redraw": 0.6,
        "strength": 0.2,
        "guidance": 2.0,
        "steps": 12,
    }

    _: KW_ONLY
    motion: Literal["frames", "energy"] | None = None
    structure: Literal["clips", "images"] | None = None
    frames: int | None = None
    linear: tuple[str, ...] | None = None
    network: Mapping[str, Mapping[str, Any]] | None = None
    redraw: float | None = None
    invert: bool | None = None
    refinements: int | None = None
    scale_responses: Literal["train", "test"] | None = None

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """Semantics, structure and motion, but for those that are not used, each with its decoder."""
        chosen = self.settings
        rois = chosen.get("rois", self.default_rois) if self.rois is None else self.rois
        if chosen["motion"] not in MOTION:
            raise UnknownNameError("target of motion", chosen["motion"], MOTION)
        if chosen["structure"] not in ("clips", "images"):
            raise UnknownNameError("training set of structure:", chosen["structure"], ("clips", "images"))
        names = (SEMANTICS, STRUCTURE, MOTION[chosen["motion"]])
        for what in ("linear", "network", "without"):
            for name in getattr(self, what) or ():
                if name not in _NETWORKS:
                    raise UnknownNameError(f"target in {what}=:", name, _NETWORKS)
        left_out = (*self.without, *([SEMANTICS] if self.first_stage_only else []))
        return {
            name: TargetSpec(
                name,
                self.decoder(name),
                roi=rois.get(name),
                beside=_ALIGNED if name == SEMANTICS and SEMANTICS not in chosen["linear"] else (),
                elsewhere="vqvae" if name == STRUCTURE and chosen["structure"] == "images" else None,
            )
            for name in names
            if name not in left_out
        }

    @property
    def network_roles(self) -> tuple[str, ...]:
        """Roles of the networks, with the motion prior if it is used."""
        return (*self.networks, *(["motion-prior"] if self.settings["motion"] == "energy" else []))

    def decoder(self, name: str) -> Any:
        """Return the unfitted decoder of a target: the network of the paper, or a ridge regression."""
        chosen = self.settings
        if name in chosen["linear"]:
            return super().decoder(name)
        registered, ours = _NETWORKS[name]
        kind = DECODERS.load(registered)
        known = list(inspect.signature(kind).parameters)
        given = {**self.presets[self.preset]["network"].get(name, {}), **(self.network or {}).get(name, {})}
        for parameter in given:
            if parameter not in known:
                raise UnknownNameError(f"parameter of the network of {name!r}:", parameter, known)
        return kind(**{"device": self.device or "auto", **ours, **given})

    def make_generator(self, decoded: Decoded) -> VideoDiffusion:
        """Return the generator of what was decoded, with the settings of this system."""
        from neurorecon.generators.video import VideoDiffusion

        frames = decoded[FRAMES].shape[1] if FRAMES in decoded else self.settings["frames"]
        found = self.with_settings(VideoDiffusion)
        assert isinstance(found, VideoDiffusion)
        return found.set_params(frames=frames)

    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return the text condition and the latents of all frames, or frames of another size."""
        found = {"text": decoded[SEMANTICS].values} if SEMANTICS in decoded else {}
        latents = self.moved(self.first_frame(decoded, seed, self.settings["redraw"]), decoded)
        if latents.shape[1:] == self.make_generator(decoded).conditions["latents"]:
            return {**found, "latents": latents}
        return {**found, "init": decode_frames(self, latents)}

    def first_frame(self, decoded: Decoded, seed: int, redraw: float = 0.0) -> np.ndarray:
        """Return the latents of the first frame of each clip.

        Without structure, the network of images makes them of the text condition alone.

        Parameters
        ----------
        decoded : Decoded
        seed : int
            Of images that are generated.
        redraw : float
            Strength at which the network of images redraws what was decoded; 0: it stays.

        Returns
        -------
        array, shape (stimulus, channel, y, x), float32
        """
        from neurorecon.features.extract import load_extractor
        from neurorecon.generators.latent_diffusion import LatentDiffusion

        if STRUCTURE in decoded and not redraw:
            structure: np.ndarray = decoded[STRUCTURE].values
            return structure
        conditions = {"text": decoded[SEMANTICS].values} if SEMANTICS in decoded else {}
        generator = self.with_settings(LatentDiffusion)
        if STRUCTURE in decoded:
            generator.set_params(strength=redraw)
            latents = decoded[STRUCTURE]
            fits = latents.shape[1:] == generator.conditions["latents"]
            conditions |= {"latents": latents.values} if fits else {"init": decode_latents(self, latents).values}
        images = generator.generate(decoded.stimuli.tolist(), conditions, seed=seed)
        found: np.ndarray = load_extractor("vqvae", models=self.models, device=self.device).transform(images)
        return found

    def moved(self, first: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the latents of all frames: the first frame, which moves as decoded; without motion, it is repeated.

        Parameters
        ----------
        first : array, shape (stimulus, channel, y, x)
        decoded : Decoded

        Returns
        -------
        array, shape (stimulus, frame, channel, y, x), float32
        """
        if FRAMES in decoded:
            frames = decoded[FRAMES].values
            if frames.shape[2:] != first.shape[1:]:
                raise InputError(
                    "structure and motion have latents of different sizes",
                    given=f"{STRUCTURE} {first.shape[1:]}, {FRAMES} {frames.shape[1:]}",
                    expected="(channel, y, x), and (frame, channel, y, x) with the same",
                    todo="compute both targets with the same size",
                )
            return first[:, None] + (frames - frames[:, :1])
        if ENERGY not in decoded:
            return np.repeat(first[:, None], self.settings["frames"], axis=1)
        # What a ridge regression decodes may be negative, which no energy is.
        energy = np.maximum(decoded[ENERGY].values, 0.0)
        found = source("motion-prior", self.models)
        prior = _prior(str(found.folder), found.sha256).set_params(device=self.device or "auto")
        moved: np.ndarray = prior.predict(np.concatenate([energy, first.reshape(len(first), -1)], axis=1))
        return moved

    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the videos that the autoencoder decodes from the latents of all frames."""
        return as_images(decode_frames(self, self.moved(self.first_frame(decoded, seed), decoded)), decoded.stimuli)

    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the correlation of the latents of first frames and the decoded structure, (stimulus,)."""
        from neurorecon.features.extract import load_extractor

        found = load_extractor("vqvae", models=self.models, device=self.device).transform(images[:, 0])
        return correlate_rows(found.reshape(len(found), -1), decoded[STRUCTURE].values.reshape(len(found), -1))


@lru_cache(maxsize=1)
def _prior(folder: str, sha256: str) -> Any:
    """Load the network that learned how images move; `sha256` is there to notice other weights in the folder."""
    return load_decoder(folder)
