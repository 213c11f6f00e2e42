"""What the systems share that decode by ridge regression and generate with latent diffusion.

A system of this kind is a table: which targets are decoded and how, which image generation starts from, which targets
condition it, and the parameters of its presets. A file of such a system reads like the method section of its paper.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models.load import seed_of
from neurorecon.registry import FEATURES, GENERATORS
from neurorecon.systems.base import System, TargetSpec, correlate_rows
from neurorecon.systems.decoded import Decoded, as_images

if TYPE_CHECKING:
    import xarray

    from neurorecon.generators.latent_diffusion import Condition, LatentDiffusion

_Renorm = Literal["train", "test", "none"]

#: Candidate alphas of the corrected presets.
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 7, 15))


@dataclass(eq=False, repr=False)
class DiffusionSystem(System):
    """Base class of systems with ridge decoders and latent diffusion; parameters that are None are those of the preset.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which networks; the targets of the store have to come from the same ones.
    preset : {"corrected", "released"}
        ``"corrected"`` is the method of the paper without the defects of its code, ``"released"`` what the authors'
        code computes. The page of each system lists what differs.
    alphas : float, sequence of float, or mapping of str to these, optional
        Alpha or candidates, of all targets or by target.
    renorm : {"train", "test", "none"}, or mapping of str to these, optional
        Moments to which predictions are scaled, those of all targets or by target; see
        :class:`~neurorecon.decoders.RidgeDecoder`. Those of the test set depend on the other stimuli, and are undefined
        for one.
    rois : mapping of str to str or tuple of str, optional
        Voxels of the decoder of each target, among those of :meth:`fit`, in place of :attr:`default_rois`. Targets
        that it does not name are decoded from all voxels.
    without : tuple of str
        Ablations: targets that are neither decoded nor used. Without the target of the first stage, generation starts
        from noise.
    first_stage_only : bool
        Return the images of the first stage, without diffusion.
    strength, guidance, steps, eta, scheduler : optional
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`. Mind the scale of strength: 37 of 50
        steps of the published schedule, called .75 in papers, are .734; 40 steps, called .8, are .792.
    best_of : int
        Generate this many images of each stimulus, and keep the one that agrees best with what was decoded; see
        :meth:`agreement`. The stimulus that was seen takes no part in the choice.
    adapter : str, optional
        Folder of an adapter that the diffusion network was fine-tuned with; see :func:`neurorecon.finetune`.
    generator : str, optional
        A generator that takes an image as prompt, e.g. ``"sdxl-ip-adapter"``, in place of the published network. Its
        targets are decoded in place of those that condition that one, from the same ROI; it starts from the image of
        the first stage. Guidance, steps, eta and scheduler are those of the generator, unless they are given. Not for
        the preset ``"released"``.
    device : str, optional
        Of decoders and networks; by default networks use a GPU if there is one.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of the networks.
    batch_size : int, optional
        Images generated at a time.

    Attributes
    ----------
    presets : dict of str to dict
        Parameters by preset. ``alphas`` and ``alpha_per`` (what decides them together: "target", "token", ...) are by
        target.
    bundled : dict
        What differs for the bundled networks in all presets but ``released``; chosen on training images.
    first_stage : str
        The target that the first stage turns into an image.
    default_rois : mapping of str to str or tuple of str
        As `rois`.
    folds : int or "gcv"
        Cross-validation by which alphas are chosen.
    condition : {"text", "both"}
        Which diffusion network.
    first_stage_networks : tuple of str
        Roles of the networks that the first stage needs.
    published_only : tuple of str
        Parameters that mean nothing with another `generator`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    bundled: ClassVar[Mapping[str, Any]] = {}
    first_stage: ClassVar[str]
    default_rois: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    folds: ClassVar[int | Literal["gcv"]] = "gcv"
    condition: ClassVar[Condition]
    first_stage_networks: ClassVar[tuple[str, ...]] = ("autoencoder",)
    published_only: ClassVar[tuple[str, ...]] = ()

    models: str | Path = "bundled"
    preset: str = "corrected"
    _: KW_ONLY
    alphas: Any = None
    renorm: _Renorm | Mapping[str, _Renorm] | None = None
    rois: Mapping[str, str | tuple[str, ...]] | None = None
    without: tuple[str, ...] = ()
    first_stage_only: bool = False
    strength: float | None = None
    guidance: float | None = None
    steps: int | None = None
    eta: float | None = None
    scheduler: str | None = None
    best_of: int = 1
    adapter: str | None = None
    generator: str | None = None
    device: str | None = None
    dtype: str = "float32"
    batch_size: int | None = None

    # -- what subclasses define --------------------------------------------------------------------------------------

    @abstractmethod
    def generate_first_stage(self, decoded: Decoded, seed: int) -> xarray.DataArray:
        """Return the images of the first stage, dims (stimulus, y, x, rgb)."""

    @abstractmethod
    def own_conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return the conditions of the published network, from the targets that are used."""

    @abstractmethod
    def own_agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return how well images, (stimulus, y, x, rgb), agree with what was decoded, (stimulus,); for `best_of`."""

    def own_losses(self, decoded: Decoded) -> Any:
        """Return what pulls images toward what was decoded, or None if that is not there; only if :attr:`pulls`.

        Returns
        -------
        callable or None
            The first part of ``toward`` of :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`: it takes
            ids of stimuli, and returns a function from images to the loss of each.
        """
        return None

    # -- what they share ----------------------------------------------------------------------------------------------

    @property
    def generator_class(self) -> Any:
        """The class of the generator that takes the place of the published network, or None."""
        if self.generator is None:
            return None
        kind = GENERATORS.load(self.generator)
        if self.kinds != ("image",) or not getattr(kind, "targets", None):
            known = [name for name in GENERATORS.names() if getattr(GENERATORS.load(name), "targets", None)]
            raise InputError(
                f"the system {self.name!r} cannot generate with {self.generator!r}",
                given=f"generator={self.generator!r}",
                expected=f"one of: {', '.join(known)}" if self.kinds == ("image",) else "no other generator for videos",
                todo="leave generator out: then the published network generates",
            )
        given = {name: getattr(self, name) for name in (*self.published_only, "adapter")}
        given = {name: value for name, value in given.items() if value is not None}
        given |= {"preset": self.preset} if self.preset == "released" else {}
        if given:
            raise InputError(
                "these parameters belong to the published network",
                given=", ".join(f"{name}={value!r}" for name, value in given.items())
                + f" with generator={self.generator!r}",
                expected="one or the other",
                todo="leave generator out, or leave these out",
            )
        return kind

    @property
    def network_roles(self) -> tuple[str, ...]:
        """Roles of the networks: those of :attr:`networks`, or of the first stage and the generator in its place."""
        kind = self.generator_class
        if kind is None:
            return self.networks
        return tuple(dict.fromkeys((*self.first_stage_networks, kind.role, kind.prompt_role)))

    def conditions(self, decoded: Decoded, seed: int) -> dict[str, np.ndarray]:
        """Return the conditions of the generator, from the targets that are used."""
        kind = self.generator_class
        if kind is None:
            return self.own_conditions(decoded, seed)
        found = {given: decoded[name].values for given, name in kind.targets.items() if name in decoded}
        if self.first_stage in decoded:
            # As an image, because each generator has latents of its own.
            found["init"] = self.generate_first_stage(decoded, seed).values
        return found

    def agreement(self, images: np.ndarray, decoded: Decoded) -> np.ndarray:
        """Return how well images, (stimulus, y, x, rgb), agree with what was decoded, (stimulus,); for `best_of`."""
        kind = self.generator_class
        if kind is None:
            return self.own_agreement(images, decoded)
        return correlate_target(self, kind.targets["image"], images, decoded)

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of the preset, with those that were given in their place."""
        if self.preset not in self.presets:
            raise UnknownNameError("preset", self.preset, self.presets)
        found = dict(self.presets[self.preset])
        if self.models == "bundled" and self.preset != "released":
            found |= self.bundled
        kind = self.generator_class
        if kind is not None:
            usual = inspect.signature(kind).parameters
            found |= {name: usual[name].default for name in ("guidance", "steps", "eta", "scheduler")}
            per = {name: "token" if FEATURES.load(name).dims == ("token", "channel") else "target"
                   for name in kind.targets.values()}  # fmt: skip
            found["alpha_per"] = {self.first_stage: found["alpha_per"][self.first_stage], **per}
        for name, value in self.get_params(deep=False).items():
            if name in found and value is not None:
                if name == "renorm" and isinstance(value, Mapping) and isinstance(found[name], str):
                    found[name] = dict.fromkeys(found["alpha_per"], found[name])  # those that are not named
                found[name] = {**found[name], **value} if isinstance(value, Mapping) else value
        return found

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The targets of the preset, but for those that are not used, each with its decoder."""
        names = [name for name in self.settings["alpha_per"] if name not in self.without]
        usual = self.settings.get("rois", self.default_rois)
        if self.generator is not None:  # its targets come from the ROI of those that they replace
            others = {roi for name, roi in usual.items() if name != self.first_stage}
            usual = {**usual, **dict.fromkeys(names, *others)} if len(others) == 1 else usual
        rois = usual if self.rois is None else self.rois
        return {
            name: TargetSpec(name, self.decoder(name), roi=rois.get(name), required=self.first_stage_only)
            for name in ([self.first_stage] if self.first_stage_only else names)
        }

    def decoder(self, name: str) -> Any:
        """Return the unfitted decoder of a target: a ridge regression."""
        chosen = self.settings
        alphas = chosen["alphas"][name] if isinstance(chosen["alphas"], Mapping) else chosen["alphas"]
        return RidgeDecoder(
            alphas,
            cv=self.folds,
            alpha_per=chosen["alpha_per"][name] if np.ndim(alphas) else "all",
            fit_intercept=chosen["intercept"],
            renorm=self._renorm(name),
            # NumPy solves on the CPU, whatever device networks use by default.
            device=self.device if self.device is not None and self.device.startswith("cuda") else "cpu",
        )

    def _renorm(self, name: str) -> Literal["train", "test"] | None:
        """Return the moments to which predictions of a target are scaled."""
        given = self.settings["renorm"]
        if isinstance(given, Mapping):
            for target in given:
                if target not in self.settings["alpha_per"]:
                    raise UnknownNameError("target in renorm=:", target, self.settings["alpha_per"])
            given = given[name]
        found: Literal["train", "test"] | None = None if given == "none" else given
        return found

    def _responses(self, responses: Any, standardized: bool = False) -> tuple[np.ndarray, np.ndarray]:
        values, stimuli = super()._responses(responses, standardized)
        if self.settings.get("scale_responses") == "test" and not standardized and len(values) > 1:
            scale = values.std(axis=0)
            values = (values - values.mean(axis=0)) / np.where(scale > 0, scale, 1.0) * self.scale_ + self.mean_
        return values, stimuli

    def make_generator(self, decoded: Decoded) -> LatentDiffusion:
        """Return the generator of what was decoded, with the settings of this system."""
        from neurorecon.generators.latent_diffusion import LatentDiffusion

        return self.with_settings(self.generator_class or LatentDiffusion)

    def with_settings(self, kind: type[LatentDiffusion], **more: Any) -> LatentDiffusion:
        """Return a generator with those of the settings and parameters that it has, and with `more`."""
        given = {
            **self.settings, "condition": self.condition, "models": self.models, "adapter": self.adapter,
            "device": self.device, "dtype": self.dtype, "batch_size": self.batch_size,
        }  # fmt: skip
        known = inspect.signature(kind).parameters
        return kind(**{name: value for name, value in given.items() if name in known}, **more)

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return the images of the first stage, if its target was decoded."""
        return {self.first_stage: self.generate_first_stage(decoded, seed)} if self.first_stage in decoded else {}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate images: what the first stage makes is the start of a diffusion that is guided by what was decoded.

        Without the target of the first stage, generation starts from noise; without a condition, it is not guided by
        it. Parameters and result are those of :meth:`System.generate`.
        """
        if self.first_stage_only:
            return self.generate_first_stage(decoded, seed)
        if self.best_of < 1:
            raise InputError(
                "best_of is not a number of images", given=f"best_of={self.best_of!r}", expected="1 or more"
            )
        seeds = [seed, *(seed_of(seed, f"candidate {number}") for number in range(1, self.best_of))]
        images_of = self.variants(decoded, seeds)
        best = next(images_of)
        if self.best_of > 1:
            score = self.agreement(best, decoded)
            for images in images_of:
                again = self.agreement(images, decoded)
                better = again > score
                best[better], score[better] = images[better], again[better]
        return as_images(best, decoded.stimuli)

    def variants(
        self,
        decoded: Decoded,
        seeds: Sequence[int],
        *,
        strengths: Sequence[float] | None = None,
        start: np.ndarray | None = None,
        toward: Any = None,
    ) -> Iterator[np.ndarray]:
        """Generate with several seeds, from the first stage or from other latents.

        Parameters and result are those of :meth:`System.variants`. The first stage is computed once, with the first
        seed.
        """
        if self.first_stage_only:
            yield from super().variants(decoded, seeds, strengths=strengths, start=start, toward=toward)
            return
        used = decoded.drop(*(name for name in self.without if name in decoded))
        if start is not None and self.first_stage in used:
            used = used.drop(self.first_stage)
        generator, conditions = self.make_generator(used), self.conditions(used, seeds[0])
        if start is not None:
            conditions["latents"] = start
        generator.toward = toward
        for number, seed in enumerate(seeds):
            if strengths is not None:
                generator.set_params(strength=strengths[number % len(strengths)])
            yield generator.generate(decoded.stimuli.tolist(), conditions, seed=seed)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the latents that diffusion starts from, (stimulus, channel, y, x), of images in [0, 1]."""
        from neurorecon.generators.latent_diffusion import LatentDiffusion

        return self.with_settings(self.generator_class or LatentDiffusion).encode(images)


def correlate_target(system: Any, name: str, images: np.ndarray, decoded: Decoded) -> np.ndarray:
    """Return the correlation of a target of images and the decoded one, mean over tokens, (stimulus,)."""
    from neurorecon.features.extract import load_extractor

    found = load_extractor(name, models=system.models, device=system.device).transform(images)
    # Embeddings have a large mean, which says nothing about the stimulus.
    mean = decoded.training[name][0] if name in decoded.training else 0.0
    correlations: np.ndarray = correlate_rows(found - mean, decoded[name].values - mean)
    return correlations.reshape(len(found), -1).mean(axis=1)


def decode_latents(system: Any, latents: xarray.DataArray) -> xarray.DataArray:
    """Return the images that the autoencoder of a system decodes from latents (stimulus, channel, y, x) of any size."""
    from neurorecon.generators.latent_diffusion import AutoencoderGenerator

    stimuli = latents["stimulus"].values.tolist()
    generator = AutoencoderGenerator(system.models, device=system.device, batch_size=system.batch_size)
    own = generator.conditions["latents"][1]
    if latents.shape[2] != own:  # images of another size were encoded
        generator.set_params(size=generator.image_shape[0] * latents.shape[2] // int(own or 1))
    return as_images(generator.generate(stimuli, {"latents": latents.values}), stimuli)


def decode_frames(system: Any, latents: np.ndarray) -> np.ndarray:
    """Return the frames that the autoencoder of a system decodes from latents of any size.

    Parameters
    ----------
    system : System
        With ``models``, ``device`` and ``batch_size``.
    latents : array, shape (stimulus, frame, channel, y, x)

    Returns
    -------
    array, shape (stimulus, frame, y, x, rgb)
        From 0 to 1.
    """
    import xarray

    flat = latents.reshape(-1, *latents.shape[2:])
    dims, coordinates = ("stimulus", "channel", "y", "x"), {"stimulus": np.arange(len(flat)).astype(str)}
    images = decode_latents(system, xarray.DataArray(flat, dims=dims, coords=coordinates)).values
    found: np.ndarray = images.reshape(*latents.shape[:2], *images.shape[1:])
    return found
