"""The two-stage decoder with a GRU: a network decodes the first VDVAE groups, then Brain-Diffuser's second stage.

Optimized two-stage AI-based neural decoding for enhanced visual stimulus reconstruction from fMRI data (2024), arXiv
2412.13237. A bidirectional GRU reads the vector of responses, sorted by ROI, and decodes the first 15 groups of a VDVAE
in place of Brain-Diffuser's 31. The second stage is that of :mod:`neurorecon.systems.brain_diffuser`.
``docs/systems/gru-two-stage.md`` lists what the paper leaves open, and every deviation.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from neurorecon.decoders.targets import Targets
from neurorecon.errors import UnknownNameError
from neurorecon.features.extract import ensure_targets, require_networks
from neurorecon.features.vdvae import first_features
from neurorecon.registry import DECODERS
from neurorecon.systems.base import TargetSpec
from neurorecon.systems.brain_diffuser import BrainDiffuser
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.diffusion import ALPHAS

if TYPE_CHECKING:
    import xarray

    from neurorecon.decoders.samples import Recordings
    from neurorecon.store.store import Store

#: Decoders of the first stage and their parameters, which the paper does not give: ours, chosen on training images.
_OURS = {"hidden": [512], "dropout": 0.5, "input_dropout": 0.7, "loss_per": "group"}
NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "gru": ("GRUDecoder", _OURS),
    "cnn": ("CNNDecoder", _OURS),
    "transformer": ("TransformerDecoder", _OURS),
    "mlp": ("MLPDecoder", _OURS),
}

#: The target that guides in place of CLIP, and the contexts that it stands for.
_CATEGORY, _CONTEXTS = "category", ("clip_vision", "clip_text")

#: What the first stage adds to the presets of Brain-Diffuser. No code was released for it.
_FIRST_STAGE = {"first_stage_decoder": "gru", "groups": "16x16", "guidance_by": "clip"}
_CORRECTED, _RELEASED = (BrainDiffuser.presets[name] for name in ("corrected", "released"))
_ALPHA_PER = {**_CORRECTED["alpha_per"], _CATEGORY: "target"}


@dataclass(eq=False, repr=False)
class GRUTwoStage(BrainDiffuser):
    """Brain-Diffuser with a network as its first stage.

    Parameters
    ----------
    models, preset, alphas, renorm, rois, without, first_stage_only, strength, guidance, steps, eta, scheduler, best_of
        As in :class:`~neurorecon.systems.brain_diffuser.BrainDiffuser`, like ``device``, ``dtype``, ``batch_size``,
        ``text_ratio``, ``temperature`` and ``pixels``.
    first_stage_decoder : {"gru", "cnn", "transformer", "mlp", "ridge"}, optional
        What decodes the latents of the VDVAE; by default the GRU.
    groups : int or str, optional
        Which groups of latents: this many, or those up to and including the first one at a resolution; by default
        ``"16x16"``, which are the published 15 of 31. The others come from the prior, given the decoded ones.
    network : mapping, optional
        Parameters of the network, e.g. ``{"width": 128, "max_epochs": 50}``; those that are not given are ours. See
        :class:`~neurorecon.decoders.GRUDecoder` and its relatives.
    guidance_by : {"clip", "category"}, optional
        Decode CLIP's tokens, as published, or decode the target ``category``, and guide by the mean tokens of the
        training images of each category, weighted by the squares of the decoded values. Then nothing but the category
        guides.
    """

    name: ClassVar[str] = "gru-two-stage"
    published_only: ClassVar[tuple[str, ...]] = ("text_ratio", "guidance_by")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {**_CORRECTED, **_FIRST_STAGE, "alpha_per": _ALPHA_PER},
        "released": {
            **_RELEASED,
            **_FIRST_STAGE,
            "alpha_per": _ALPHA_PER,
            "alphas": {**_RELEASED["alphas"], _CATEGORY: ALPHAS},
        },
    }

    _: KW_ONLY
    first_stage_decoder: str | None = None
    groups: int | str | None = None
    network: Mapping[str, Any] | None = None
    guidance_by: Literal["clip", "category"] | None = None

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The latents of the first groups, and what guides."""
        chosen = self.settings
        if chosen["guidance_by"] not in ("clip", "category"):
            raise UnknownNameError("guidance", chosen["guidance_by"], ("clip", "category"))
        unused = _CONTEXTS if chosen["guidance_by"] == "category" else (_CATEGORY,)
        found = {name: spec for name, spec in super().targets.items() if name not in unused}
        if self.first_stage in found:
            found[self.first_stage] = replace(found[self.first_stage], groups=chosen["groups"])
        return found

    def decoder(self, name: str) -> Any:
        """Return the unfitted decoder of a target: a network for the latents, ridge regression for the others."""
        chosen = self.settings
        kind = chosen["first_stage_decoder"]
        if kind not in (*NETWORKS, "ridge"):
            raise UnknownNameError("decoder of the first stage", kind, (*NETWORKS, "ridge"))
        if name != self.first_stage or kind == "ridge":
            return super().decoder(name)
        registered, ours = NETWORKS[kind]
        network = DECODERS.load(registered)
        known = list(inspect.signature(network).parameters)
        for parameter in self.network or {}:
            if parameter not in known:
                raise UnknownNameError(f"parameter of the network {kind!r}:", parameter, known)
        general = {
            "renorm": self._renorm(name),
            "device": self.device or "auto",
        }
        return network(**{**general, **ours, **(self.network or {})})

    def with_targets(self, store: Store, models: str | Path | None = None, progress: bool = True) -> Store:
        """Return the store with all targets, and with CLIP's tokens of training images if a category stands for them.

        Parameters and result are those of :meth:`System.with_targets`.
        """
        found = super().with_targets(store, models, progress)
        if _CATEGORY not in self.targets:
            return found
        own = models if models is not None or self.models == "bundled" else self.models
        return ensure_targets(found, list(_CONTEXTS), models=own, device=self.device, progress=progress)

    def learn(self, recordings: Recordings) -> dict[str, np.ndarray]:
        """Return the mean tokens of the training images of each category, (category, token, channel).

        An image counts for a category by the share of it that shows the category, the square of the target.
        """
        if _CATEGORY not in self.targets:
            return {}
        shares = _shares(recordings.target(_CATEGORY).values)
        found = {"categories": shares.sum(axis=0)}
        for name in _CONTEXTS:
            target = recordings.target(name)
            require_networks(name, target.attrs, self.models, f"the system {self.name!r}")
            tokens = Targets(target, "float32")
            means = np.empty((shares.shape[1], tokens.n_targets), dtype=np.float32)
            for columns, values in tokens.blocks():
                # A category that no training image shows stands for all of them.
                overall = values.mean(axis=0)
                means[:, columns] = (shares.T @ values + 1e-6 * overall) / (shares.sum(axis=0)[:, None] + 1e-6)
            found[name] = means.reshape(-1, *tokens.shape)
        return found

    def with_contexts(self, decoded: Decoded) -> Decoded:
        """Return decoded targets with the tokens that the decoded categories stand for in their place.

        Parameters
        ----------
        decoded : Decoded
            With or without ``category``; any values, e.g. one category alone, or a mixture.
        """
        import xarray

        if _CATEGORY not in decoded:
            return decoded
        check_is_fitted(self, "learned_")
        shares = _shares(decoded[_CATEGORY].values)
        # Where no category is decoded, what is frequent in training is expected.
        shares = np.where(shares.sum(axis=1, keepdims=True) > 0, shares, self.learned_["categories"])
        weights = shares / shares.sum(axis=1, keepdims=True)
        found = {
            name: xarray.DataArray(
                np.tensordot(weights, self.learned_[name], 1).astype(np.float32),
                dims=("stimulus", "token", "channel"),
                coords={"stimulus": decoded.stimuli},
            )
            for name in _CONTEXTS
        }
        return decoded.drop(_CATEGORY).with_(**found)

    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return the image of the VDVAE, and the tokens that were decoded or that the decoded categories stand for."""
        return super().own_conditions(self.with_contexts(decoded), seed)

    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return the correlation of vision tokens of images and those that guided, mean over tokens, (stimulus,)."""
        return super().own_agreement(images, self.with_contexts(decoded))

    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the images of the VDVAE from the latents of the first groups; what follows comes from its prior."""
        latents = decoded[self.first_stage]
        first = latents[:, : first_features(latents.attrs, self.settings["groups"])]
        return super().generate_first_stage(decoded.with_(**{self.first_stage: first}), seed)


def _shares(categories: np.ndarray) -> np.ndarray:
    """Return how much of each image shows each category, (stimulus, category); the target holds square roots."""
    return np.square(np.clip(categories, 0, None), dtype=np.float32)
