"""Latent diffusion from two parts of visual cortex: z from early areas, c from ventral ones.

Takagi & Nishimoto (2023), High-resolution image reconstruction with latent diffusion models from human brain activity,
CVPR. Ridge regressions decode the latents z of the autoencoder from early visual cortex and the text condition c from
ventral cortex, from single trials. Stable Diffusion adds noise to z, and removes it conditioned on c.
``docs/systems/takagi.md`` lists every deviation of the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.systems.base import correlate_rows
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.diffusion import ALPHAS, DiffusionSystem, decode_latents

if TYPE_CHECKING:
    import xarray

#: Targets by the names of the paper: z and c.
_Z, _C = "vqvae", "clip_text_sd"


@dataclass(eq=False, repr=False)
class Takagi(DiffusionSystem):
    """Takagi & Nishimoto's system.

    The preset ``"corrected"`` fits intercepts, chooses one alpha for each channel of z and each token of c from a grid
    that contains good ones, and scales predictions to the moments of the training samples. ``"released"`` is what the
    authors' code computes: targets that are not centered, one alpha for each feature from 1e-6 to 1, no scaling, and a
    detour of z through an image of 8 bits.

    Parameters
    ----------
    models, preset, alphas, renorm, rois, without, first_stage_only, strength, guidance, steps, eta, scheduler, best_of
        As in :class:`~neurorecon.systems.diffusion.DiffusionSystem`, like ``adapter``, ``device``, ``dtype`` and
        ``batch_size``. The targets are ``vqvae`` (z) and ``clip_text_sd`` (c); their ROIs ``early`` and ``ventral``.
        `best_of` compares latents with the decoded z.
    detour : bool, optional
        Decode z into an image of 8 bits, and encode that again.
    """

    name: ClassVar[str] = "takagi"
    trains_on: ClassVar[Literal["stimuli", "samples"]] = "samples"
    networks: ClassVar[tuple[str, ...]] = ("text-diffusion", "autoencoder", "text-encoder")
    first_stage: ClassVar[str] = _Z
    #: The streams of NSD; the embedded data set has groups of these names.
    default_rois: ClassVar[Mapping[str, str]] = {_Z: "early", _C: "ventral"}
    folds: ClassVar[int | Literal["gcv"]] = 5
    condition: ClassVar[Literal["text"]] = "text"
    published_only: ClassVar[tuple[str, ...]] = ("detour",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {
            "alphas": ALPHAS,
            "alpha_per": {_Z: "channel", _C: "token"},
            "intercept": True,
            "renorm": "train",
            "detour": False,
            "strength": 0.792,
            "guidance": 5.0,
            "steps": 50,
            "eta": 0.0,
            "scheduler": "DDIMScheduler",
        },
        "released": {
            "alphas": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
            "alpha_per": {_Z: "target", _C: "target"},
            "intercept": False,
            "renorm": "none",
            "detour": True,
            "strength": 0.792,  # 40 of 50 steps
            "guidance": 5.0,
            "steps": 50,
            "eta": 0.0,
            "scheduler": "DDIMScheduler",
        },
    }
    bundled: ClassVar[Mapping[str, Any]] = {"strength": 0.5, "guidance": 3.0, "steps": 20, "eta": 0.0}

    _: KW_ONLY
    detour: bool | None = None

    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return z as latents, or as an image of another size or of 8 bits, and c as text."""
        found = {"text": decoded[_C].values} if _C in decoded else {}
        if _Z not in decoded:
            return found
        z = decoded[_Z].values
        detour = self.settings["detour"]
        # The paper decodes latents of 320 pixels and generates 512: other sizes go through an image, too.
        if not detour and z.shape[1:] == self.make_generator(decoded).conditions["latents"]:
            return {**found, "latents": z}
        images = self.generate_first_stage(decoded, seed).values
        return {**found, "init": np.round(images * 255) / 255 if detour else images}

    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the images that the autoencoder decodes from z."""
        return decode_latents(self, decoded[_Z])

    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the correlation of the latents of images and the decoded z, (stimulus,)."""
        from neurorecon.features.extract import load_extractor

        found = load_extractor(_Z, models=self.models, device=self.device).transform(images)
        return correlate_rows(found.reshape(len(found), -1), decoded[_Z].values.reshape(len(found), -1))
