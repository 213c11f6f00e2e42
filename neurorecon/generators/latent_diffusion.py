"""Latent diffusion conditioned on text, on an image, or on both, from noise or from an image that is there already.

One sampling loop serves all networks and all schedulers of diffusers: the text-conditioned UNets of Stable Diffusion
1.x and 2.x, the dual-guided UNet of Versatile Diffusion, and the bundled small ones. It is not one of diffusers'
pipelines because none of them takes contexts of two kinds, noise that belongs to each image of a batch, or a strength
that means the same for every noise schedule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon import hub
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.generators.base import Generator
from neurorecon.models.adapters import Adapter, read_adapter
from neurorecon.models.clip import clip_settings, text_encoder, text_tokens, vision_tokens
from neurorecon.models.load import (
    AutoencoderSettings,
    WeightsSource,
    autoencoder_settings,
    noise_like,
    read_json,
    seed_of,
    source,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Called with noisy latents (image, channel, y, x) and the step; returns what the network predicts, in the same shape.
Denoise = Callable[["Tensor", "Tensor"], "Tensor"]

#: Called with the clean latents that a step predicts, (image, channel, y, x), and the share of noise in what they are
#: predicted from; returns the latents to go on with.
Correct = Callable[["Tensor", float], "Tensor"]

#: How unlikely images are, (image,): called with tensors (image, rgb, y, x), differentiable.
Loss = Callable[["Tensor"], "Tensor"]

#: Gray level of the image that stands for "no image", as in Brain-Diffuser.
GRAY = 127

#: Largest eta: with 1, DDIM takes the square root of a difference that rounding can make negative.
_MOST_ETA = 0.999

Condition = Literal["text", "image", "both"]


class LatentDiffusion(Generator):
    """Generate images with a latent diffusion network.

    Conditions of a stimulus, all of them optional:

    - ``text`` (token, channel): hidden states of the text encoder (target ``clip_text_sd``) for a text-conditioned
      network; projected tokens (target ``clip_text``) for a dual-guided one.
    - ``image`` (token, channel): vision tokens of CLIP (target ``clip_vision``), for a dual-guided network.
    - ``init`` (y, x, rgb): an image in [0, 1] to start from, of any size; or ``latents`` (channel, y, x): the same in
      the autoencoder's latents times its scaling factor (target ``vqvae``).

    Parameters
    ----------
    condition : {"text", "image", "both"}
        ``"text"`` uses a text-conditioned UNet. The others use the dual-guided UNet.
    models : {"bundled", "published"} or path
        Which weights. A path may be a diffusers pipeline (Stable Diffusion 1.x or 2.x, Versatile Diffusion).
    steps : int
        Number of steps from pure noise; an initial image leaves the last of them.
    guidance : float
        Scale of classifier-free guidance; 1 is none.
    strength : float
        How much of an initial image is replaced: sampling starts where the share 1 - `strength` of its amplitude is
        left, ``sqrt(alphas_cumprod)``, or at the nearest step. So it means the same for every noise schedule and
        number of steps. With Stable Diffusion's schedule it is close to the share of steps that are taken, which
        diffusers calls strength: 37 of 50 steps are .734, 40 are .792. 0 returns the initial image and 1 ignores it.
    eta : float
        Share of the noise that is drawn anew at each step: 0 is DDIM, 1 corresponds to DDPM. Only for schedulers that
        have it.
    text_ratio : float
        Weight of the text where both contexts are given; Brain-Diffuser mixes .4 text and .6 vision.
    scheduler : str
        Name of a scheduler class of diffusers, which gets the noise schedule of the network.
    adapter : str or path, optional
        Folder of a low-rank adapter that was trained on the same weights; see :func:`neurorecon.finetune`.
    device, dtype, batch_size
        As in :class:`~neurorecon.generators.base.Generator`. The autoencoder always computes in float32.

    References
    ----------
    Rombach et al. (2022), arXiv 2112.10752; Xu et al. (2022), arXiv 2211.08332 (Versatile Diffusion); Song et al.
    (2021), arXiv 2010.02502 (DDIM); Meng et al. (2022), arXiv 2108.01073 (starting from an image).
    """

    name: ClassVar[str] = "latent-diffusion"

    #: Conditions that guidance amplifies.
    prompts: ClassVar[tuple[str, ...]] = ("text", "image")

    #: Least and greatest value of each parameter that is a number.
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "strength": (0, 1), "text_ratio": (0, 1), "eta": (0, 1), "guidance": (0, np.inf),
    }  # fmt: skip

    #: What pulls images during sampling: a function from stimuli to their loss, and how far, see :meth:`moved`.
    toward: tuple[Callable[[Sequence[str]], Loss], float] | None = None

    def __init__(
        self,
        condition: Condition = "text",
        models: str | Path = "bundled",
        *,
        steps: int = 50,
        guidance: float = 7.5,
        strength: float = 0.75,
        eta: float = 0.0,
        text_ratio: float = 0.4,
        scheduler: str = "DDIMScheduler",
        adapter: str | Path | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.condition = condition
        self.models = models
        self.steps = steps
        self.guidance = guidance
        self.strength = strength
        self.eta = eta
        self.text_ratio = text_ratio
        self.scheduler = scheduler
        self.adapter = adapter
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @property
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of the diffusion network, the autoencoder, the encoder of empty contexts and the adapter."""
        found, adapter = self._files, self._adapter
        encoder = clip_settings(self.models).source if found.dual else text_encoder(self.models).source
        return found.diffusion, found.autoencoder.source, encoder, *(() if adapter is None else (adapter.source,))

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        files = self._files
        shapes: dict[str, tuple[int | None, ...]] = {"text": (None, files.text_width)}
        if files.dual:
            shapes["image"] = (None, files.image_width)
        return {**shapes, "init": (None, None, 3), "latents": files.latent_shape}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (y, x, rgb) of the images: those of training."""
        return self._files.image_shape

    @property
    def _files(self) -> NetworkFiles:
        if self.condition not in ("text", "image", "both"):
            raise UnknownNameError("condition", self.condition, ("text", "image", "both"))
        return NetworkFiles.of(self.condition != "text", self.models)

    @property
    def _adapter(self) -> Adapter | None:
        """The adapter, if there is one, after its base weights were compared with these."""
        if self.adapter is None:
            return None
        found, files = read_adapter(self.adapter), self._files
        found.require_base(files.diffusion, files.base_sha256)
        return found

    def make(self, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int) -> Tensor:
        """Generate one batch, shape (stimulus, rgb, y, x)."""
        import torch

        self._check()
        if self.toward is None:
            return self.decode_latents(self.sample(stimuli, conditions, seed))
        loss_of, size = self.toward
        with torch.inference_mode(False), torch.no_grad():
            move = partial(self.moved, loss_of(stimuli), size)
            return self.decode_latents(self.sample(stimuli, conditions, seed, correct=move))

    def moved(self, loss: Loss, size: float, clean: Tensor, noise: float) -> Tensor:
        """Return predicted clean latents after a move down a gradient, of the same length for each image.

        Parameters
        ----------
        loss : callable
            Of images.
        size : float
            Root mean square of the move over the latents of an image, in relation to `noise`. So moves end with it:
            what is changed at the end, the network cannot make look like an image any more.
        clean : Tensor, shape (image, channel, y, x)
        noise : float
            Amplitude of the noise that is left, from 1 to 0.
        """
        import torch

        with torch.enable_grad():
            given = clean.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(self.decode_latents(given)).sum(), given)
        length = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return clean - size * noise * gradient / length.clamp(min=1e-20)

    def sample(
        self,
        stimuli: Sequence[str],
        conditions: Mapping[str, Tensor],
        seed: int,
        *,
        correct: Correct | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """Sample the latents of one batch, (stimulus, channel, y, x); differentiable outside of inference mode.

        Parameters
        ----------
        stimuli, conditions, seed
            As for :meth:`make`.
        correct : callable, optional
            As in :func:`sample_latents`.
        checkpoint : bool
            Compute each pass of the network again when gradients are computed, rather than keep what it computed.
        """
        import torch
        from torch.utils.checkpoint import checkpoint as recomputed

        files, networks = self._files, self.loaded
        init = conditions.get("latents")
        if init is None and "init" in conditions:
            init = encode_images(networks.autoencoder, conditions["init"], files.image_shape[0])
            init = init * files.autoencoder.scaling_factor
        generators = [torch.Generator().manual_seed(seed_of(seed, name)) for name in stimuli]
        denoise = self.denoiser(conditions, len(stimuli))
        return sample_latents(
            (lambda latents, step: recomputed(denoise, latents, step, use_reentrant=False)) if checkpoint else denoise,
            make_scheduler(self.scheduler, files.schedule),
            self.initial_noise(stimuli, init, seed),
            init=init,
            strength=self.strength,
            guidance=self.guidance if conditions.keys() & self.prompts else 1.0,
            steps=self.steps,
            eta=self.eta,
            generator=generators,
            correct=correct,
        )

    def denoiser(self, conditions: Mapping[str, Tensor], images: int) -> Denoise:
        """Return the network with the conditions of a number of images; with guidance, it takes each image twice."""
        return self.loaded.denoiser(conditions, images, self.text_ratio, self.guidance, self.condition)

    def initial_noise(self, stimuli: Sequence[str], init: Tensor | None, seed: int) -> Tensor:
        """Return the noise that is added to the initial latents, or that stands for them, (stimulus, channel, y, x).

        Parameters
        ----------
        stimuli : sequence of str
        init : Tensor, shape (stimulus, channel, y, x), or None
            The initial latents.
        seed : int
        """
        import torch

        shape = self._files.latent_shape
        return torch.from_numpy(np.stack([noise_like(shape, seed, name) for name in stimuli])).to(self.torch_device)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return the images of latents, (stimulus, rgb, y, x); differentiable outside of inference mode."""
        images: Tensor = self.loaded.autoencoder.decode(latents / self._files.autoencoder.scaling_factor).sample
        return images / 2 + 0.5

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the condition ``latents``, (image, channel, y, x), of images (image, y, x, rgb) in [0, 1]."""
        import torch

        scaling, size, step = self._files.autoencoder.scaling_factor, self.image_shape[0], self._default_batch()
        with torch.inference_mode():
            parts = [
                encode_images(
                    self.loaded.autoencoder,
                    torch.from_numpy(np.array(images[start : start + step], dtype=np.float32)).to(self.torch_device),
                    size,
                )
                for start in range(0, len(images), step)
            ]
            return np.asarray((torch.cat(parts) * scaling).cpu().numpy())

    @property
    def loaded(self) -> Networks:
        """The networks, which are shared between generators with the same weights, device and precision."""
        return shared_networks(*self._chosen_networks)

    @property
    def _chosen_networks(self) -> tuple[bool, str, str, str, tuple[str, ...], Adapter | None]:
        """Arguments of :func:`shared_networks`."""
        files = self._files
        sha256 = (*files.base_sha256, files.autoencoder.source.sha256)
        return files.dual, str(self.models), self.torch_device, self.dtype, sha256, self._adapter

    def _check(self) -> None:
        for name, (least, most) in self.ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(
                    f"{name} is out of range",
                    given=f"{name}={value!r}",
                    expected=f"from {least} to {most}" if most < np.inf else f"{least} or more",
                    todo="choose another value",
                )
        if int(self.steps) != self.steps or self.steps < 1:
            raise InputError("steps is not a number of steps", given=f"steps={self.steps!r}", expected="1 or more")


# -- sampling ---------------------------------------------------------------------------------------------------------


def sample_latents(
    denoise: Denoise,
    scheduler: Any,
    noise: Tensor,
    *,
    init: Tensor | None = None,
    strength: float = 1.0,
    guidance: float = 1.0,
    steps: int = 50,
    eta: float = 0.0,
    generator: Any = None,
    correct: Correct | None = None,
) -> Tensor:
    """Sample latents with any scheduler of diffusers and classifier-free guidance (Ho & Salimans, arXiv 2207.12598).

    Parameters
    ----------
    denoise : callable
        ``denoise(latents, step)`` predicts what the scheduler expects. With guidance it gets twice as many latents,
        of which the first half is to be denoised without the condition.
    scheduler : diffusers scheduler
    noise : Tensor, shape (image, channel, y, x)
        Initial noise.
    init : Tensor, shape (image, channel, y, x), optional
        Latents to start from.
    strength : float
        How much of `init` is replaced; see :class:`LatentDiffusion`.
    guidance : float
        1 is no guidance, and half of the work.
    steps : int
        From pure noise.
    eta : float
        For schedulers that have it.
    generator : torch.Generator or list of torch.Generator, optional
        Of the noise that is drawn during sampling; a list has one for each image, so that images do not depend on
        their batch.
    correct : callable, optional
        ``correct(clean, noise)`` gets the clean latents that each step predicts, (image, channel, y, x), and the
        amplitude of the noise that they are predicted from, from 1 to 0. It returns the latents to go on with, e.g.
        ones that fit something better.

    Returns
    -------
    Tensor, shape (image, channel, y, x)
    """
    import torch

    if init is not None and strength <= 0:
        return init
    scheduler.set_timesteps(steps, device=noise.device)
    timesteps, begin = scheduler.timesteps, 0
    if init is None or strength >= 1:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        begin = first_step(scheduler, strength)
        timesteps = timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        if hasattr(scheduler, "add_noise"):
            latents = scheduler.add_noise(init, noise, timesteps[:1])
        else:  # flow matching
            latents = scheduler.scale_noise(init, timesteps[:1], noise)
    scale = getattr(scheduler, "scale_model_input", lambda latents, step: latents)  # flow matching has none
    accepted = inspect.signature(scheduler.step).parameters
    options = {"eta": min(eta, _MOST_ETA), "generator": generator}
    options = {name: value for name, value in options.items() if name in accepted}
    parts = _parts_of_clean(scheduler)[begin:] if correct is not None else []
    for number, step in enumerate(timesteps):
        given = scale(latents, step)
        predicted = denoise(torch.cat([given, given]) if guidance != 1.0 else given, step)
        if guidance != 1.0:
            nothing, predicted = predicted.chunk(2)
            predicted = nothing + guidance * (predicted - nothing)
        if correct is not None:
            of_given, of_predicted, noise_left = parts[number]
            clean = of_given * given + of_predicted * predicted
            predicted = predicted + (correct(clean, noise_left) - clean) / of_predicted
        latents = scheduler.step(predicted, step, latents, return_dict=False, **options)[0]
    return latents


def first_step(scheduler: Any, strength: float) -> int:
    """Return the number of the first step that is taken from an initial image.

    Parameters
    ----------
    scheduler : diffusers scheduler
        Whose steps are set.
    strength : float
        As in :class:`LatentDiffusion`.
    """
    shares = signal_shares(scheduler)
    # A first step of nothing but noise, as in schedules of zero terminal SNR, would lose the image.
    return int(np.where(shares > 1e-3, np.abs(shares - (1.0 - strength)), np.inf).argmin())


def signal_shares(scheduler: Any) -> np.ndarray:
    """Return the share of the amplitude of a clean image that is left at the start of each step, shape (step,).

    Parameters
    ----------
    scheduler : diffusers scheduler
        Whose steps are set.
    """
    if _mixes_linearly(scheduler):
        return 1.0 - scheduler.sigmas.cpu().numpy()[: len(scheduler.timesteps)]  # flow matching mixes linearly
    levels = scheduler.alphas_cumprod.cpu().double().clamp(min=0).sqrt().numpy()
    return np.interp(scheduler.timesteps.cpu().numpy(), np.arange(len(levels)), levels)


def noised(clean: Tensor, noise: Tensor, share: Tensor, prediction: str) -> tuple[Tensor, Tensor]:
    """Add noise to latents, and return what a network is trained to predict from them.

    Parameters
    ----------
    clean, noise : Tensor, shape (image, channel, y, x)
    share : Tensor, shape (image,)
        Share of the variance that is signal: ``alphas_cumprod`` of the step of each image.
    prediction : {"epsilon", "v_prediction", "sample"}
        ``prediction_type`` of the schedule: the noise, the velocity (Salimans & Ho, 2022, arXiv 2202.00512), or the
        clean latents.

    Returns
    -------
    noisy, wanted : Tensor, shape (image, channel, y, x)
    """
    signal, rest = share.sqrt()[:, None, None, None], (1 - share).sqrt()[:, None, None, None]
    noisy = signal * clean + rest * noise
    if prediction == "v_prediction":
        return noisy, signal * noise - rest * clean
    return noisy, noise if prediction == "epsilon" else clean


def stratified(images: int, generator: torch.Generator) -> Tensor:
    """Draw one number in [0, 1) for each image, (image,), evenly spread over a batch, which reduces the variance."""
    import torch

    part = (torch.arange(images) + torch.rand(1, generator=generator)) / images
    return part[torch.randperm(images, generator=generator)]


def _mixes_linearly(scheduler: Any) -> bool:
    """Return whether a scheduler is one of flow matching."""
    flow = scheduler.config.get("use_flow_sigmas") or scheduler.config.get("prediction_type") == "flow_prediction"
    return bool(flow) or not hasattr(scheduler, "alphas_cumprod")


def _parts_of_clean(scheduler: Any) -> list[tuple[float, float, float]]:
    """Return x, y and the amplitude of noise of each step: clean latents are x scaled inputs and y predictions."""
    levels = signal_shares(scheduler)
    if _mixes_linearly(scheduler):
        return [(1.0, level - 1.0, 1.0 - level) for level in levels.tolist()]
    kind = scheduler.config.get("prediction_type", "epsilon")
    amplitudes = list(zip(levels.tolist(), np.sqrt(1.0 - levels**2).tolist(), strict=True))
    if kind == "v_prediction":
        return [(level, -noise, noise) for level, noise in amplitudes]
    if kind == "sample":
        return [(0.0, 1.0, noise) for _, noise in amplitudes]
    return [(1.0 / level, -noise / level, noise) for level, noise in amplitudes]


def make_scheduler(name: str, schedule: Mapping[str, Any]) -> Any:
    """Return a scheduler of diffusers with the noise schedule of a network.

    Parameters
    ----------
    name : str
        Name of its class, e.g. ``"DDIMScheduler"`` or ``"DPMSolverMultistepScheduler"``.
    schedule : mapping
        Contents of ``scheduler_config.json``.

    Raises
    ------
    UnknownNameError
        If diffusers has no such scheduler.
    """
    import diffusers

    known = [found for found in dir(diffusers) if found.endswith("Scheduler") and not found.startswith("Flax")]
    if name not in known:
        raise UnknownNameError("scheduler of diffusers", name, known)
    return getattr(diffusers, name).from_config(dict(schedule))


def encode_images(autoencoder: Any, images: Tensor, size: int) -> Tensor:
    """Encode images of any size, (image, y, x, rgb) in [0, 1], into the posterior mean, (image, channel, y, x)."""
    from torch.nn import functional

    pixels = images.permute(0, 3, 1, 2)
    if pixels.shape[-2:] != (size, size):
        pixels = functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    encoded = autoencoder.encode(2 * pixels - 1)
    posterior = getattr(encoded, "latent_dist", None)
    latents: Tensor = encoded.latents if posterior is None else posterior.mode()
    return latents


# -- networks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkFiles:
    """What is known about the networks without loading them.

    Parameters
    ----------
    dual : bool
        Whether the diffusion network is dual-guided.
    diffusion : WeightsSource
        Its weights.
    base_sha256 : tuple of str
        Their sha256. The bundled dual-guided network is stored in two folders: the one of its image branch, and the
        one of the text-conditioned network.
    autoencoder : AutoencoderSettings
    schedule : mapping
        Noise schedule, as in ``scheduler_config.json``.
    text_width, image_width : int
        Channels of the contexts.
    latent_shape : tuple of int
        (channel, y, x).
    """

    dual: bool
    diffusion: WeightsSource
    base_sha256: tuple[str, ...]
    autoencoder: AutoencoderSettings
    schedule: Mapping[str, Any]
    text_width: int
    image_width: int
    latent_shape: tuple[int, int, int]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (y, x, rgb) of the images of training."""
        pixels = _pixels(self.autoencoder)
        return self.latent_shape[1] * pixels, self.latent_shape[2] * pixels, 3

    @classmethod
    def of(cls, dual: bool, models: str | Path) -> NetworkFiles:
        """Find the networks: ``"bundled"``, ``"published"`` or in a folder."""
        found = source("dual-diffusion" if dual else "text-diffusion", models)
        published = (found.folder / "image_unet").is_dir()
        own: dict[str, Any] = {}
        if not dual:
            unet = hub.part(found.folder, "unet")
        elif published:
            unet = found.folder / "image_unet"
        else:
            own = read_json(found.folder / "config.json")
            unet = (found.folder / own["text_unet"]).resolve()
        config = read_json(unet / "config.json")
        width = int(config["cross_attention_dim"])
        text = read_json(found.folder / "text_unet" / "config.json") if dual and published else config
        size = config["sample_size"]
        height, across = (size, size) if isinstance(size, int) else size
        base = (found.sha256, *((hub.fingerprint(unet),) if own else ()))
        return cls(
            dual,
            found,
            base,
            _autoencoder_of(found, models),
            _schedule_of(found, unet),
            int(text["cross_attention_dim"]),
            int(own.get("image_width", width)),
            (int(config["in_channels"]), int(height), int(across)),
        )


def _autoencoder_of(found: WeightsSource, models: str | Path) -> AutoencoderSettings:
    """Return the autoencoder in the folder of the diffusion network if there is one, else that of the models."""
    config = found.folder / "vae" / "config.json"
    if not config.is_file():
        return autoencoder_settings(models)
    settings = read_json(config)
    return AutoencoderSettings(found, str(settings.get("_class_name", "AutoencoderKL")), settings)


def _schedule_of(found: WeightsSource, unet: Path) -> dict[str, Any]:
    for place in (found.folder / "scheduler", unet):
        if (place / "scheduler_config.json").is_file():
            return read_json(place / "scheduler_config.json")
    raise InputError(
        "the diffusion network has no noise schedule",
        given=str(found.folder),
        expected="scheduler/scheduler_config.json, as saved by diffusers",
        todo="put the file beside the weights",
    )


@dataclass(frozen=True)
class Networks:
    """Loaded networks.

    Parameters
    ----------
    unet : UNet2DConditionModel or DualGuidedUNet
    autoencoder : Module
    nothing : mapping of str to Tensor, shape (1, token, channel)
        The contexts of the empty sentence (``text``) and, for a dual-guided network, of a gray image (``image``).
    dtype : torch.dtype
        Of the UNet.
    """

    unet: Any
    autoencoder: Any
    nothing: Mapping[str, Tensor]
    dtype: Any

    @property
    def layers(self) -> Any:
        """The UNet of diffusers that holds all layers: of a dual-guided network, the one inside."""
        return self.unet.unet if "image" in self.nothing else self.unet

    def denoiser(
        self, conditions: Mapping[str, Tensor], images: int, text_ratio: float, guidance: float, condition: Condition
    ) -> Denoise:
        """Return the network with its contexts, those of no condition first if there is guidance."""
        import torch

        given = [name for name in self.nothing if name in conditions and (name, condition) != ("text", "image")]
        contexts = {}
        for name in given or self.nothing:
            tokens = conditions[name].shape[1] if given else self.nothing[name].shape[1]
            nothing = self.nothing[name][:, :tokens].expand(images, -1, -1)
            own = [conditions[name].to(self.dtype)] if given else []
            contexts[name] = torch.cat([nothing, *own]) if guidance != 1.0 and given else (own or [nothing])[0]
        if "image" not in self.nothing:
            text = contexts["text"]
            return lambda latents, step: self.unet(
                latents.to(self.dtype), step, encoder_hidden_states=text, return_dict=False
            )[0].float()
        ratio = text_ratio if len(contexts) == 2 else float("text" in contexts)
        return lambda latents, step: self.unet(latents.to(self.dtype), step, **contexts, text_ratio=ratio).float()


def load_networks(
    dual: bool, models: str | Path, device: str, dtype: str = "float32", adapter: Adapter | None = None
) -> Networks:
    """Load the networks, which nobody else holds, as ordinary tensors also in inference mode: others need gradients.

    Parameters
    ----------
    dual : bool
        The dual-guided network, or the text-conditioned one.
    models : {"bundled", "published"} or path
    device : str
    dtype : str
        Of the UNet; the autoencoder always computes in float32.
    adapter : Adapter, optional
        Is merged into the UNet, in float32.
    """
    import torch

    from neurorecon.models.dual_guided import DualGuidedUNet, read_unet

    files, precision = NetworkFiles.of(dual, models), getattr(torch, dtype)
    folder = files.diffusion.folder
    unet: Any
    with torch.inference_mode(False), torch.no_grad():
        if not dual:
            unet = read_unet(hub.part(folder, "unet"))
        elif (folder / "image_unet").is_dir():
            unet = DualGuidedUNet.from_published(folder)
        else:
            unet = DualGuidedUNet.load(folder)
        if adapter is not None:
            adapter.merge(unet.unet if dual else unet)
        nothing = {name: value.to(device, precision) for name, value in _nothing(dual, models, device).items()}
        unet = torch.nn.Module.to(unet, device=device, dtype=precision).requires_grad_(False)
        return Networks(unet, files.autoencoder.load(device), nothing, precision)


@lru_cache(maxsize=1)
def shared_networks(
    dual: bool, models: str, device: str, dtype: str, sha256: tuple[str, ...], adapter: Adapter | None = None
) -> Networks:
    """Load the networks, and keep the last ones; `sha256` is there to notice that the weights in a folder changed."""
    return load_networks(dual, models, device, dtype, adapter)


def _nothing(dual: bool, models: str | Path, device: str) -> dict[str, Tensor]:
    """Return the contexts of the empty sentence and, for a dual-guided network, of a gray image."""
    import torch

    from neurorecon.models.text_tower import TextTower, end_positions

    if not dual:
        encoder = text_encoder(models)
        return {"text": encoder.load(device)(encoder.tokenizer([""]).to(device))}
    settings = clip_settings(models)
    clip, tokenizer = settings.load(device), settings.tokenizer()
    tokens = tokenizer([""]).to(device)
    text = text_tokens(clip, TextTower(clip)(tokens), end_positions(tokens, tokenizer.end))
    gray = (torch.full((3,), GRAY / 255) - torch.tensor(settings.mean)) / torch.tensor(settings.std)
    image = vision_tokens(clip, gray.to(device)[None, :, None, None].expand(-1, -1, settings.size, settings.size))
    return {"text": text, "image": image / image[:, :1].norm(dim=-1, keepdim=True)}


class AutoencoderGenerator(Generator):
    """Decode latents of the autoencoder into images, without diffusion.

    The condition ``latents`` (channel, y, x) is the target ``vqvae``: latents times the scaling factor, of any size.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which weights.
    size : int, optional
        Pixels per side of the images that were encoded; by default those of training.
    device, batch_size
        As in :class:`~neurorecon.generators.base.Generator`; the autoencoder always computes in float32.
    """

    name: ClassVar[str] = "autoencoder"
    required: ClassVar[tuple[str, ...]] = ("latents",)
    dtype = "float32"

    def __init__(
        self,
        models: str | Path = "bundled",
        *,
        size: int | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.size = size
        self.device = device
        self.batch_size = batch_size

    @property
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of the autoencoder."""
        return (autoencoder_settings(self.models).source,)

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shape of the latents of one stimulus."""
        settings = autoencoder_settings(self.models)
        side = self.image_shape[0] // _pixels(settings)
        return {"latents": (int(settings.config["latent_channels"]), side, side)}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (y, x, rgb) of the images."""
        size = self.size or autoencoder_settings(self.models).size or 512
        return size, size, 3

    def make(self, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int) -> Tensor:
        """Decode one batch, shape (stimulus, rgb, y, x)."""
        settings = autoencoder_settings(self.models)
        network = _autoencoder(str(self.models), settings.source.sha256, self.torch_device)
        images: Tensor = network.decode(conditions["latents"] / settings.scaling_factor).sample / 2 + 0.5
        return images


@lru_cache(maxsize=1)
def _autoencoder(models: str, sha256: str, device: str) -> Any:
    """Load an autoencoder, and keep the last one."""
    return autoencoder_settings(models).load(device)


def _pixels(autoencoder: AutoencoderSettings) -> int:
    """Return the number of pixels per side of one latent."""
    return 2 ** (len(autoencoder.config["block_out_channels"]) - 1)
