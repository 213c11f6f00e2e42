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

#: What decides alphas together: groups of latents, and tokens, as in the released code (one fit for each token).
_ALPHA_PER = {"vdvae": "group", "clip_vision": "token", "clip_text": "token"}

#: Candidate alphas of the corrected preset, which are compared by leave-one-out cross-validation.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 15))

PRESETS: dict[str, dict[str, Any]] = {
    # The same method without the defects of its code: alphas chosen, moments of training, prior means.
    "corrected": {
        "alphas": dict.fromkeys(_ALPHA_PER, ALPHAS),
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

#: What differs for the bundled networks in the corrected preset: chosen on training images (docs/validation.md).
BUNDLED: dict[str, Any] = {"strength": 0.42, "guidance": 2.0, "steps": 20, "eta": 1.0, "text_ratio": 0.6}


class BrainDiffuser(System):
    """Brain-Diffuser; parameters that are None are those of the preset.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which networks; the targets of the store have to come from the same ones.
    preset : {"corrected", "released"}
        ``"corrected"`` chooses alphas by leave-one-out cross-validation, one for each group of latents and each token,
        and scales predictions to the moments of the training samples. ``"released"`` is what the authors' code
        computes: fixed alphas, and the moments of the test set, which depend on the other stimuli and are undefined
        for one.
    alphas : mapping of str to float or sequence of float, optional
        Alpha or candidates of each target.
    renorm : {"train", "test", "none"}, optional
        Moments to which predictions are scaled; see :class:`~neurorecon.decoders.RidgeDecoder`.
    rois : mapping of str to str, optional
        Voxels of the decoder of each target, among those of :meth:`fit`; by default all.
    without : tuple of {"vdvae", "clip_vision", "clip_text"}
        Ablations: targets that are neither decoded nor used. Without ``vdvae``, generation starts from noise.
    first_stage_only : bool
        Return the images of the VDVAE.
    strength, guidance, steps, eta, text_ratio, scheduler : optional
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`. Mind the scale of strength: 37 of 50
        steps of the published schedule, called .75 in the paper, are .734.
    temperature, pixels : optional
        As in :class:`~neurorecon.generators.vdvae.VdvaeGenerator`.
    best_of : int
        Generate this many images of each stimulus, and keep the one whose vision tokens are most like the decoded ones
        (mean correlation over tokens). The stimulus that was seen takes no part in the choice.
    device : str, optional
        Of decoders and networks; by default networks use a GPU if there is one.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of the networks.
    batch_size : int, optional
        Images generated at a time.
    """

    name: ClassVar[str] = "brain-diffuser"
    networks: ClassVar[tuple[str, ...]] = ("dual-diffusion", "autoencoder", "vdvae", "clip")

    def __init__(
        self,
        models: str | Path = "bundled",
        preset: Literal["corrected", "released"] = "corrected",
        *,
        alphas: Mapping[str, Any] | None = None,
        renorm: Literal["train", "test", "none"] | None = None,
        rois: Mapping[str, str] | None = None,
        without: tuple[str, ...] = (),
        first_stage_only: bool = False,
        strength: float | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        eta: float | None = None,
        text_ratio: float | None = None,
        scheduler: str | None = None,
        temperature: float | None = None,
        pixels: Literal["mean", "mode", "sample"] | None = None,
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
        self.strength = strength
        self.guidance = guidance
        self.steps = steps
        self.eta = eta
        self.text_ratio = text_ratio
        self.scheduler = scheduler
        self.temperature = temperature
        self.pixels = pixels
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
        """VDVAE latents, vision tokens and text tokens, each by ridge regression."""
        chosen = self.settings
        names = ["vdvae"] if self.first_stage_only else [name for name in _ALPHA_PER if name not in self.without]
        return {
            name: TargetSpec(
                name,
                RidgeDecoder(
                    chosen["alphas"][name],
                    cv="gcv",
                    alpha_per=_ALPHA_PER[name] if np.ndim(chosen["alphas"][name]) else "all",
                    renorm=None if chosen["renorm"] == "none" else chosen["renorm"],
                    device=decoder_device(self.device),
                ),
                roi=(self.rois or {}).get(name),
                required=self.first_stage_only,
            )
            for name in names
        }

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return the images of the VDVAE, if its latents were decoded."""
        return {"VDVAE": self._first_stage(decoded, seed)} if "vdvae" in decoded else {}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate images: VDVAE, then diffusion guided by what was decoded.

        Without vision or text tokens, the other alone guides; without both, nothing does. Parameters and result are
        those of :meth:`System.generate`.
        """
        from neurorecon.generators.latent_diffusion import LatentDiffusion

        if self.first_stage_only:
            return self._first_stage(decoded, seed)
        chosen = self.settings
        generator = LatentDiffusion(
            "both",
            self.models,
            **{name: chosen[name] for name in ("steps", "guidance", "strength", "eta", "text_ratio", "scheduler")},
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
        )
        used = {name: array.values for name, array in decoded.items() if name not in self.without}
        conditions = {
            condition: used[name]
            for condition, name in (("image", "clip_vision"), ("text", "clip_text"))
            if name in used
        }
        if "vdvae" in used:
            conditions["init"] = self._first_stage(decoded, seed).values
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

    def _first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        from neurorecon.generators.vdvae import VdvaeGenerator

        chosen = self.settings
        generator = VdvaeGenerator(
            self.models,
            temperature=chosen["temperature"],
            pixels=chosen["pixels"],
            device=self.device,
            batch_size=self.batch_size,
        )
        stimuli = decoded.stimuli.tolist()
        return as_images(generator.generate(stimuli, {"latents": decoded["vdvae"].values}, seed=seed), stimuli)

    def _agreement(self, decoded: Decoded) -> Any:
        """Return a function from images to the likeness of their vision tokens and the decoded ones, (stimulus,)."""
        from neurorecon.features.extract import load_extractor

        wanted = decoded["clip_vision"].values
        extractor = load_extractor("clip_vision", models=self.models, device=self.device)
        mean = decoded.training["clip_vision"][0] if "clip_vision" in decoded.training else 0.0

        def judge(images: np.ndarray) -> np.ndarray:
            found = extractor.transform(images)
            return correlate_rows(found - mean, wanted - mean).mean(axis=1)

        return judge
