"""MindDiffuser: text-conditioned diffusion from decoded latents, pulled toward decoded features of CLIP.

Lu, Du, Zhou, Wang & He (2023), MindDiffuser: controlled image reconstruction from human brain activity with semantic
and structural diffusion, ACM Multimedia (arXiv 2308.04249). Three linear regressions decode

- c, the text condition of Stable Diffusion (15 tokens of the captions of the image),
- z, the latents of its autoencoder,
- Z_CLIP, the outputs of the first six blocks of CLIP's vision tower and its image embedding.

Stage 1 adds noise to z, and removes it conditioned on c. Stage 2 changes the image until the features that CLIP finds
in it are closer to Z_CLIP; of these, it uses the ones that can be decoded. ``docs/systems/mind-diffuser.md`` lists all
deviations of the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError
from neurorecon.systems.base import correlate_rows
from neurorecon.systems.decoded import Decoded, as_images
from neurorecon.systems.diffusion import ALPHAS, DiffusionSystem, decode_latents

if TYPE_CHECKING:
    import xarray

    from neurorecon.generators.latent_diffusion import LatentDiffusion
    from neurorecon.generators.refined_diffusion import Refinement
    from neurorecon.models.clip import Part

#: Targets by the names of the paper: c, z and Z_CLIP.
_C, _Z, _LAYERS = "clip_text_15", "vqvae", "clip_layers"

#: What all presets share: the selection of features, the loop of stage 2, and the diffusion (37 of 50 steps).
_PAPER: Mapping[str, Any] = {
    "intercept": True,
    "k": 0.25,
    "iterations": 300,
    "learning_rate": 0.01,
    "decay": 0.999,
    "strength": 0.734,
    "guidance": 5.0,
    "steps": 50,
    "eta": 0.0,
    "scheduler": "DDIMScheduler",
}

#: What is not in the paper, or other than there.
_CORRECTED: Mapping[str, Any] = {
    **_PAPER,
    "alphas": ALPHAS,
    "alpha_per": {_C: "token", _Z: "channel", _LAYERS: "layer"},
    "renorm": "train",
    "scale_responses": "train",
    "rois": {_Z: "LVC"},
    "voxels": {},
    "embedding": 0.5,
    "loss": "deviations",
    "refine": "guidance",
    "pull": 0.1,
    "moves": 1,
    "optimize": ("c", "z"),
}

#: Weights of the blocks in the loss of the released code.
_BLOCK_WEIGHTS = (1.5, 1.2, 1.0, 1.0, 1.0, 1.0)


@dataclass(eq=False, repr=False)
class MindDiffuser(DiffusionSystem):
    """MindDiffuser.

    The preset ``"corrected"`` chooses alphas by generalized cross-validation, scales predictions to the moments of the
    training samples, counts features in units of their deviation, and pulls images during sampling instead of in 300
    iterations. ``"released"`` is what the authors' code computes. ``"replication"`` is the pipeline of a course report
    that repeats the paper: three ridge regressions with one alpha each, from the voxels that :meth:`fit` is given.

    Parameters
    ----------
    models, preset, alphas, renorm, rois, without, first_stage_only, strength, guidance, steps, eta, scheduler, best_of
        As in :class:`~neurorecon.systems.diffusion.DiffusionSystem`, like ``device``, ``dtype`` and ``batch_size``. The
        targets are ``clip_text_15`` (c), ``vqvae`` (z) and ``clip_layers`` (Z_CLIP). `first_stage_only` returns what
        the autoencoder makes of z; stage 1 of the paper is ``refine="none"``. `best_of` compares the selected features
        with the decoded ones.
    refine, pull, moves, optimize, iterations, learning_rate, decay : optional
        As in :class:`~neurorecon.generators.refined_diffusion.RefinedDiffusion`.
    k : float, optional
        Share of the features of each block that are used: those that are decoded best from left-out training samples.
    embedding : float, optional
        From 0 to 1, weight of the image embedding against that of the blocks: w in the paper.
    voxels : mapping of str to int, float or str, optional
        Which voxels each target is decoded from, by their correlation with it; as `select_voxels` of
        :class:`~neurorecon.decoders.RidgeDecoder`.
    scale_responses : {"train", "test"}, optional
        Moments by which responses are standardized before they are decoded. Those of the test set depend on the other
        stimuli, and are not used for one.
    """

    name: ClassVar[str] = "mind-diffuser"
    networks: ClassVar[tuple[str, ...]] = ("text-diffusion", "autoencoder", "text-encoder", "clip-b32")
    first_stage: ClassVar[str] = _Z
    condition: ClassVar[Literal["text"]] = "text"
    #: Those of stage 2.
    published_only: ClassVar[tuple[str, ...]] = (
        "refine", "pull", "moves", "optimize", "iterations", "learning_rate", "decay", "k", "embedding"
    )  # fmt: skip
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": _CORRECTED,
        "released": {
            **_PAPER,
            "alphas": 0.15,
            "alpha_per": dict.fromkeys((_C, _Z, _LAYERS), "all"),
            "renorm": "none",
            "scale_responses": "test",
            "rois": {},
            "voxels": {_C: 125, _Z: 4000, _LAYERS: 850},
            "embedding": 0.0,
            "loss": "norms",
            "refine": "loop",
            "pull": 0.0,
            "moves": 0,
            "optimize": ("z",),
        },
        "replication": {**_CORRECTED, "alpha_per": dict.fromkeys((_C, _Z, _LAYERS), "all"), "rois": {}},
    }
    bundled: ClassVar[Mapping[str, Any]] = {
        "strength": 0.6,
        "guidance": 3.0,
        "steps": 12,
        "pull": 0.2,
        "embedding": 0.5,
    }

    _: KW_ONLY
    refine: Refinement | None = None
    pull: float | None = None
    moves: int | None = None
    optimize: tuple[str, ...] | None = None
    iterations: int | None = None
    learning_rate: float | None = None
    decay: float | None = None
    k: float | None = None
    embedding: float | None = None
    voxels: Mapping[str, Any] | None = None
    scale_responses: Literal["train", "test"] | None = None

    def decoder(self, name: str) -> Any:
        """Return the unfitted decoder of a target: a ridge regression, from the voxels that are selected for it."""
        chosen = self.settings
        if not 0 < chosen["k"] <= 1 or not 0 <= chosen["embedding"] <= 1:
            raise InputError(
                "a share is out of range",
                given=f"k={chosen['k']!r}, embedding={chosen['embedding']!r}",
                expected="k above 0 and at most 1, embedding from 0 to 1",
                todo="choose another value",
            )
        return (
            super().decoder(name).set_params(select_voxels=chosen["voxels"].get(name), score_left_out=name == _LAYERS)
        )

    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return z as latents, or as an image of another size; c as text; Z_CLIP and the weights of its features."""
        found = {"text": decoded[_C].values} if _C in decoded else {}
        if _Z in decoded:
            z = decoded[_Z].values
            if z.shape[1:] == self.make_generator(decoded).conditions["latents"]:
                found["latents"] = z
            else:
                found["init"] = self.generate_first_stage(decoded, seed).values
        if _LAYERS in decoded:
            found |= {"layers": decoded[_LAYERS].values, "weights": self.feature_weights(decoded)}
        return found

    def feature_weights(self, decoded: Decoded) -> np.ndarray:
        """Return the weights of the squared differences of features, (stimulus, feature); 0 where one is not used.

        The share `k` of the features of each block is used, those with the highest ``decoded.reliability``; without
        that, all are. With the loss ``"deviations"``, a block counts as the mean over its features of squared
        differences in units of their deviation over training samples, and so does the embedding. With ``"norms"``, the
        loss of the released code, it counts as their mean over all features, divided by the norm of what was decoded.

        Parameters
        ----------
        decoded : Decoded
            With ``clip_layers``.
        """
        chosen, layers, used = self.settings, decoded[_LAYERS].values, self._used(decoded)
        weights = np.zeros(layers.shape, dtype=np.float32)
        blocks, embedding = _parts(decoded)
        shares = np.array(_BLOCK_WEIGHTS[: len(blocks)])
        if chosen["loss"] == "norms":
            norms = np.stack([np.linalg.norm(layers[:, block] * used[block], axis=1) for block in blocks], axis=1)
            inverse = 1.0 / np.maximum(norms, 1e-12)
            shares = shares * inverse / inverse.sum(axis=1, keepdims=True)
            for number, block in enumerate(blocks):
                each = (1 - chosen["embedding"]) * shares[:, number, None] / used[block].size
                weights[:, block] = each * used[block]
            return weights
        deviation = decoded.training[_LAYERS][1] if _LAYERS in decoded.training else np.ones(layers.shape[1])
        scale = 1.0 / np.where(deviation > 0, deviation, np.inf) ** 2
        for share, block in zip(shares / shares.sum(), blocks, strict=True):
            weights[:, block] = (1 - chosen["embedding"]) * share * used[block] * scale[block] / used[block].sum()
        weights[:, embedding] = chosen["embedding"] * scale[embedding] / used[embedding].size
        return weights

    def _used(self, decoded: Decoded) -> np.ndarray:
        """Return whether each feature of Z_CLIP is used, (feature,); the embedding is, as a whole."""
        used = np.ones(decoded[_LAYERS].shape[1], dtype=bool)
        if _LAYERS not in decoded.reliability:
            return used
        for block in _parts(decoded)[0]:
            best = np.argsort(-decoded.reliability[_LAYERS][block], kind="stable")
            used[block] = np.isin(np.arange(best.size), best[: max(1, round(self.settings["k"] * best.size))])
        return used

    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the images that the autoencoder decodes from z."""
        return decode_latents(self, decoded[_Z])

    def make_generator(self, decoded: Decoded) -> LatentDiffusion:
        """Return the generator of what was decoded, with the settings of this system."""
        from neurorecon.generators.refined_diffusion import RefinedDiffusion

        if self.generator is not None:
            return super().make_generator(decoded)
        cosine = 0.1 * self.settings["embedding"] if self.settings["loss"] == "norms" else 0.0
        return self.with_settings(RefinedDiffusion, cosine=cosine, part=_part(decoded))

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return the images that the autoencoder decodes from z, and those of the paper's first stage."""
        found = super().stages(decoded, seed=seed)
        if self.first_stage_only or self.settings["refine"] == "none" or _LAYERS not in decoded:
            return found
        rest = decoded.drop(_LAYERS, *(name for name in self.without if name in decoded and name != _LAYERS))
        stimuli = decoded.stimuli.tolist()
        images = self.make_generator(rest).generate(stimuli, self.conditions(rest, seed), seed=seed)
        return {**found, "stage 1": as_images(images, stimuli)}

    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the correlation of the selected features of images and the decoded ones, (stimulus,)."""
        from neurorecon.features.extract import load_extractor

        extractor = load_extractor(_LAYERS, models=self.models, device=self.device, part=_part(decoded))
        found = extractor.transform(images)
        mean, deviation = decoded.training.get(_LAYERS, (np.zeros(found.shape[1]), np.ones(found.shape[1])))
        used = self._used(decoded) & (deviation > 0)
        one, other = ((values - mean)[:, used] / deviation[used] for values in (found, decoded[_LAYERS].values))
        return correlate_rows(one, other)


def _parts(decoded: Decoded) -> tuple[list[slice], slice]:
    """Return where the blocks of Z_CLIP and its embedding are."""
    *blocks, embedding = (slice(*ends) for ends in pairwise(decoded[_LAYERS].attrs["layer_boundaries"]))
    return blocks, embedding


def _part(decoded: Decoded) -> Part:
    """Return whether Z_CLIP holds outputs of blocks or of their MLPs; the names of its layers begin with it."""
    return "mlp" if _LAYERS in decoded and str(decoded[_LAYERS].attrs["layers"][0]).startswith("mlp") else "block"
