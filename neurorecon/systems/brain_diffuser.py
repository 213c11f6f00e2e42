"""Brain-Diffuser: VDVAE latents give a first image, CLIP tokens guide a diffusion that starts from it.

Ozcelik & VanRullen (2023), Natural scene reconstruction from fMRI signals using generative latent diffusion, Scientific
Reports 13, 15666 (arXiv 2303.05334). Three sets of ridge regressions decode

- the latents of the first groups of a VDVAE, which its decoder turns into a blurry image of the layout,
- the vision tokens of CLIP,
- the text tokens of CLIP, of the captions of the image,

and the dual-guided UNet of Versatile Diffusion turns that image, noise added, into the reconstruction, guided by vision
and text at once. ``docs/systems/brain-diffuser.md`` lists every deviation of the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.systems.decoded import Decoded, as_images
from neurorecon.systems.diffusion import ALPHAS, DiffusionSystem, correlate_target

if TYPE_CHECKING:
    import xarray

#: What decides alphas together: groups of latents, and tokens, as in the released code (one fit for each token).
_ALPHA_PER = {"vdvae": "group", "clip_vision": "token", "clip_text": "token"}


@dataclass(eq=False, repr=False)
class BrainDiffuser(DiffusionSystem):
    """Brain-Diffuser.

    The preset ``"corrected"`` chooses alphas by generalized cross-validation, one for each group of latents and each
    token, and scales predictions to the moments of the training samples. ``"released"`` is what the authors' code
    computes: fixed alphas, and the moments of the test set.

    Parameters
    ----------
    models, preset, alphas, renorm, rois, without, first_stage_only, strength, guidance, steps, eta, scheduler, best_of
        As in :class:`~neurorecon.systems.diffusion.DiffusionSystem`, like ``adapter``, ``device``, ``dtype`` and
        ``batch_size``. The targets are ``vdvae``, ``clip_vision`` and ``clip_text``. `best_of` compares vision tokens
        with the decoded ones.
    text_ratio : float, optional
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`.
    temperature, pixels : optional
        As in :class:`~neurorecon.generators.vdvae.VdvaeGenerator`.
    """

    name: ClassVar[str] = "brain-diffuser"
    networks: ClassVar[tuple[str, ...]] = ("dual-diffusion", "autoencoder", "vdvae", "clip")
    first_stage: ClassVar[str] = "vdvae"
    first_stage_networks: ClassVar[tuple[str, ...]] = ("vdvae",)
    published_only: ClassVar[tuple[str, ...]] = ("text_ratio",)
    condition: ClassVar[Literal["both"]] = "both"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The same method without the defects of its code: alphas chosen, moments of training, prior means.
        "corrected": {
            "alphas": ALPHAS,
            "alpha_per": _ALPHA_PER,
            "intercept": True,
            "renorm": "train",
            "strength": 0.734,
            "guidance": 7.5,
            "steps": 50,
            "eta": 0.0,
            "text_ratio": 0.4,
            "scheduler": "DDIMScheduler",
            "temperature": 0.0,
            "pixels": "mean",
        },
        # What the authors' code computes.
        "released": {
            "alphas": {"vdvae": 50_000.0, "clip_vision": 60_000.0, "clip_text": 100_000.0},
            "alpha_per": _ALPHA_PER,
            "intercept": True,
            "renorm": "test",
            "strength": 0.734,  # 37 of 50 steps
            "guidance": 7.5,
            "steps": 50,
            "eta": 0.0,
            "text_ratio": 0.4,
            "scheduler": "DDIMScheduler",
            "temperature": 1.0,
            "pixels": "sample",
        },
    }
    bundled: ClassVar[Mapping[str, Any]] = {
        "strength": 0.42,
        "guidance": 2.0,
        "steps": 20,
        "eta": 1.0,
        "text_ratio": 0.6,
    }

    _: KW_ONLY
    text_ratio: float | None = None
    temperature: float | None = None
    pixels: Literal["mean", "mode", "sample"] | None = None

    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return vision and text tokens, and the image of the VDVAE to start from."""
        names = {"image": "clip_vision", "text": "clip_text"}
        found = {condition: decoded[name].values for condition, name in names.items() if name in decoded}
        if "vdvae" in decoded:
            found["init"] = self.generate_first_stage(decoded, seed).values
        return found

    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the images that the VDVAE decodes from its latents."""
        from neurorecon.generators.vdvae import VdvaeGenerator

        chosen, stimuli = self.settings, decoded.stimuli.tolist()
        generator = VdvaeGenerator(
            self.models,
            temperature=chosen["temperature"],
            pixels=chosen["pixels"],
            device=self.device,
            batch_size=self.batch_size,
        )
        return as_images(generator.generate(stimuli, {"latents": decoded["vdvae"].values}, seed=seed), stimuli)

    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the correlation of vision tokens of images and the decoded ones, mean over tokens, (stimulus,)."""
        return correlate_target(self, "clip_vision", images, decoded)

    @property
    def pulls(self) -> bool:
        """Whether decoded vision tokens can pull images: not those of another generator."""
        return self.generator is None and "clip_vision" in self.targets

    def own_losses(self, decoded: Decoded) -> Any:
        """Return how far images are from the decoded vision tokens, if these are there."""
        from neurorecon.generators.refined_diffusion import token_losses

        if "clip_vision" not in decoded:
            return None
        tokens = decoded["clip_vision"]
        mean = decoded.training["clip_vision"][0] if "clip_vision" in decoded.training else np.zeros(tokens.shape[1:])
        return token_losses(self.models, dict(zip(decoded.stimuli.tolist(), tokens.values, strict=True)), mean)
