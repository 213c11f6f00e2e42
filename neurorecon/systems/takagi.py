"""Latent diffusion from two parts of visual cortex: z from early areas, c from ventral ones.

Takagi & Nishimoto (2023), High-resolution image reconstruction with latent diffusion models from human brain activity,
CVPR. Ridge regressions decode the latents z of the autoencoder from early visual cortex and the text condition c from
ventral cortex, from single trials. Stable Diffusion adds noise to z, and removes it conditioned on c.
``docs/systems/takagi.md`` lists every deviation of the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.systems.base import (
    Decoded,
    System,
    TargetSpec,
    as_images,
    best_of_several,
    choose_settings,
    correlate_rows,
    decoder_device,
)

if TYPE_CHECKING:
    import xarray

#: Targets by the names of the paper: z and c.
_Z, _C = "vqvae", "clip_text_sd"

#: ROIs of the paper: the streams ``early`` and ``ventral`` of NSD; the embedded data set has groups of these names.
ROIS = {_Z: "early", _C: "ventral"}

#: Candidate alphas of the corrected preset.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 15))

PRESETS: dict[str, dict[str, Any]] = {
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

#: What differs for the bundled networks in the corrected preset: chosen on training images (docs/validation.md).
BUNDLED: dict[str, Any] = {"strength": 0.5, "guidance": 3.0, "steps": 20, "eta": 0.0}


class Takagi(System):
    """Takagi & Nishimoto's system; parameters that are None are those of the preset.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which networks; the targets of the store have to come from the same ones.
    preset : {"corrected", "released"}
        ``"corrected"`` fits intercepts, chooses one alpha for each channel of z and each token of c from a grid that
        contains good ones, and scales predictions to the moments of the training samples. ``"released"`` is what the
        authors' code computes: targets that are not centered, one alpha for each feature from 1e-6 to 1, no scaling,
        and a detour of z through an image of 8 bits.
    alphas : float or sequence of float, optional
        Alpha or candidates.
    renorm : {"train", "test", "none"}, optional
        Moments to which predictions are scaled; see :class:`~neurorecon.decoders.RidgeDecoder`.
    rois : mapping of str to str, optional
        Voxels of the decoders of ``vqvae`` (z) and ``clip_text_sd`` (c), among those of :meth:`fit`; by default
        ``early`` and ``ventral``. An empty mapping uses all voxels.
    without : tuple of {"vqvae", "clip_text_sd"}
        Ablations: targets that are neither decoded nor used.
    first_stage_only : bool
        Return the images that the autoencoder decodes from z.
    detour : bool, optional
        Decode z into an image of 8 bits, and encode that again.
    strength, guidance, steps, eta, scheduler : optional
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`. Mind the scale of strength: 40 of 50
        steps of the published schedule, called .8 in the paper, are .792.
    best_of : int
        Generate this many images of each stimulus, and keep the one whose latents are most like the decoded z.
    device, dtype, batch_size
        As in :class:`~neurorecon.systems.brain_diffuser.BrainDiffuser`.
    """

    name: ClassVar[str] = "takagi"
    trains_on: ClassVar[Literal["stimuli", "samples"]] = "samples"
    networks: ClassVar[tuple[str, ...]] = ("text-diffusion", "autoencoder", "text-encoder")

    def __init__(
        self,
        models: str | Path = "bundled",
        preset: Literal["corrected", "released"] = "corrected",
        *,
        alphas: Any = None,
        renorm: Literal["train", "test", "none"] | None = None,
        rois: Mapping[str, str] | None = None,
        without: tuple[str, ...] = (),
        first_stage_only: bool = False,
        detour: bool | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        eta: float | None = None,
        scheduler: str | None = None,
        best_of: int = 1,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.preset = preset
        self.alphas = alphas
        self.renorm = renorm
        self.rois = rois
        self.without = without
        self.first_stage_only = first_stage_only
        self.detour = detour
        self.strength = strength
        self.guidance = guidance
        self.steps = steps
        self.eta = eta
        self.scheduler = scheduler
        self.best_of = best_of
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of the preset, with those that were given in their place."""
        return choose_settings(self, PRESETS, BUNDLED)

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """Latents of the autoencoder (z) and text condition (c), each by ridge regression."""
        chosen = self.settings
        names = [_Z] if self.first_stage_only else [name for name in (_Z, _C) if name not in self.without]
        rois = ROIS if self.rois is None else self.rois
        return {
            name: TargetSpec(
                name,
                RidgeDecoder(
                    chosen["alphas"],
                    cv=5,
                    alpha_per=chosen["alpha_per"][name] if np.ndim(chosen["alphas"]) else "all",
                    fit_intercept=chosen["intercept"],
                    renorm=None if chosen["renorm"] == "none" else chosen["renorm"],
                    device=decoder_device(self.device),
                ),
                roi=rois.get(name),
                required=self.first_stage_only,
            )
            for name in names
        }

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return the images that the autoencoder decodes from z, if it was decoded."""
        return {"z": self._first_stage(decoded)} if _Z in decoded else {}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate images: noise is added to z and removed conditioned on c.

        Without z, generation starts from noise; without c, it is not conditioned. Parameters and result are those of
        :meth:`System.generate`.
        """
        from neurorecon.generators.latent_diffusion import LatentDiffusion

        if self.first_stage_only:
            return self._first_stage(decoded)
        chosen = self.settings
        generator = LatentDiffusion(
            "text",
            self.models,
            **{name: chosen[name] for name in ("steps", "guidance", "strength", "eta", "scheduler")},
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
        )
        used = {name: array.values for name, array in decoded.items() if name not in self.without}
        conditions = {"text": used[_C]} if _C in used else {}
        if _Z in used:
            # The paper decodes latents of 320 pixels and generates 512: other sizes go through an image, too.
            if chosen["detour"] or used[_Z].shape[1:] != generator.conditions["latents"]:
                conditions["init"] = _as_8_bit(self._first_stage(decoded).values, chosen["detour"])
            else:
                conditions["latents"] = used[_Z]
        stimuli = decoded.stimuli.tolist()
        if self.best_of == 1:
            return as_images(generator.generate(stimuli, conditions, seed=seed), stimuli)
        return best_of_several(
            lambda one: generator.generate(stimuli, conditions, seed=one),
            self._agreement(decoded),
            stimuli,
            self.best_of,
            seed,
        )

    def _first_stage(self, decoded: Decoded) -> xarray.DataArray:
        from neurorecon.generators.latent_diffusion import AutoencoderGenerator

        latents, stimuli = decoded[_Z].values, decoded.stimuli.tolist()
        generator = AutoencoderGenerator(self.models, device=self.device, batch_size=self.batch_size)
        own = generator.conditions["latents"][1]
        if latents.shape[2] != own:  # images of another size were encoded
            generator.set_params(size=generator.image_shape[0] * latents.shape[2] // int(own or 1))
        return as_images(generator.generate(stimuli, {"latents": latents}), stimuli)

    def _agreement(self, decoded: Decoded) -> Any:
        """Return a function from images to the correlation of their latents and the decoded z, (stimulus,)."""
        from neurorecon.features.extract import load_extractor

        wanted = decoded[_Z].values
        extractor = load_extractor(_Z, models=self.models, device=self.device)

        def judge(images: np.ndarray) -> np.ndarray:
            found = extractor.transform(images)
            return correlate_rows(found.reshape(len(found), -1), wanted.reshape(len(found), -1))

        return judge


def _as_8_bit(images: np.ndarray, detour: bool) -> np.ndarray:
    """Return images in [0, 1], cut to 8 bits if the detour of the released code is asked for."""
    return np.round(images * 255) / 255 if detour else images
