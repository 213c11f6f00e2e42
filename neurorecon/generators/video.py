"""Videos from a diffusion network of images: it is applied to each frame, and its frames attend to each other.

The layers of a UNet of images become those of a video without training (Wu et al., 2023, Tune-A-Video, arXiv
2212.11565): convolutions and cross-attention see each frame alone, and where a frame attended to itself, it attends to
the first frame and to the previous one instead. diffusers' attention processors do this; its own processors for videos
attend to the first frame only, or need the UNet of a pipeline of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.errors import InputError
from neurorecon.generators.latent_diffusion import (
    Condition,
    Correct,
    Denoise,
    LatentDiffusion,
    Networks,
    first_step,
    make_scheduler,
    shared_networks,
)

if TYPE_CHECKING:
    from torch import Tensor

    from neurorecon.models.adapters import Adapter


class VideoDiffusion(LatentDiffusion):
    """Generate videos with a latent diffusion network of images, without training.

    Conditions of a stimulus, all of them optional:

    - ``text`` (token, channel) and ``image`` (token, channel), as in :class:`LatentDiffusion`; for all frames.
    - ``latents`` (frame, channel, y, x): the autoencoder's latents of all frames to start from, times its scaling
      factor (target ``vqvae_frames``); or ``init`` (frame, y, x, rgb), the frames themselves in [0, 1].

    With one frame, this is the generator of images.

    Parameters
    ----------
    condition, models, steps, guidance, strength, eta, text_ratio, scheduler, adapter, device, dtype, batch_size
        As in :class:`LatentDiffusion`.
    frames : int
        Number of frames.
    invert : bool
        Start from the noise from which the network would generate the initial frames without a condition, found by
        inverting the steps of DDIM (Song et al., 2021, arXiv 2010.02502). Noise that moves as the frames do keeps their
        motion. Otherwise all frames get the same noise.
    refinements : int
        How often each step of the inversion is corrected by the prediction at the noise that it arrived at; 0 is the
        usual approximation, which uses the prediction before the step.

    References
    ----------
    Lu et al. (2024). Animate your thoughts (Mind-Animator). arXiv 2405.03280.
    """

    name: ClassVar[str] = "video-diffusion"

    def __init__(
        self,
        condition: Condition = "text",
        models: str | Path = "bundled",
        *,
        frames: int = 8,
        invert: bool = True,
        refinements: int = 0,
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
        super().__init__(
            condition, models, steps=steps, guidance=guidance, strength=strength, eta=eta, text_ratio=text_ratio,
            scheduler=scheduler, adapter=adapter, device=device, dtype=dtype, batch_size=batch_size,
        )  # fmt: skip
        self.frames = frames
        self.invert = invert
        self.refinements = refinements

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        of_image = super().conditions
        return {
            **of_image, "init": (self.frames, *of_image["init"]), "latents": (self.frames, *of_image["latents"])
        }  # fmt: skip

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (frame, y, x, rgb) of the videos."""
        if int(self.frames) != self.frames or self.frames < 1:
            raise InputError("frames is not a number of frames", given=f"frames={self.frames!r}", expected="1 or more")
        return self.frames, *super().image_shape

    @property
    def loaded(self) -> Networks:
        """The networks; the UNet has the weights of that of images, but attends to other frames."""
        return _video_networks(self.frames, *self._chosen_networks)

    def sample(
        self,
        stimuli: Sequence[str],
        conditions: Mapping[str, Tensor],
        seed: int,
        *,
        correct: Correct | None = None,
        checkpoint: bool = False,
    ) -> Tensor:
        """Sample the latents of one batch, (stimulus, frame, channel, y, x); parameters are those of the base class."""
        by_frame = {
            name: values.flatten(0, 1) if name in ("init", "latents") else values.repeat_interleave(self.frames, 0)
            for name, values in conditions.items()
        }
        names = [name for name in stimuli for _ in range(self.frames)]
        found = super().sample(names, by_frame, seed, correct=correct, checkpoint=checkpoint)
        return found.unflatten(0, (-1, self.frames))

    def initial_noise(self, stimuli: Sequence[str], init: Tensor | None, seed: int) -> Tensor:
        """Return the noise of each frame, (stimulus and frame, channel, y, x), by inversion if there are frames."""
        if init is None or not self.invert or self.strength <= 0:
            return super().initial_noise(stimuli, init, seed)
        scheduler = make_scheduler(self.scheduler, self._files.schedule)
        denoise = self.loaded.denoiser({}, len(init), self.text_ratio, 1.0, self.condition)
        return inverted_noise(
            denoise, scheduler, init, strength=self.strength, steps=self.steps, refinements=self.refinements
        )

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return the videos of latents, (stimulus, frame, rgb, y, x); a video of 512 pixels is decoded by frame."""
        import torch

        step = max(1, 2**20 // int(np.prod(self.image_shape[1:3])) // 8)
        parts = [super(VideoDiffusion, self).decode_latents(part) for part in latents.flatten(0, 1).split(step)]
        return torch.cat(parts).unflatten(0, latents.shape[:2])

    def _check(self) -> None:
        super()._check()
        if int(self.refinements) != self.refinements or self.refinements < 0:
            raise InputError(
                "refinements is not a number", given=f"refinements={self.refinements!r}", expected="0 or more"
            )
        if self.invert and self.scheduler != "DDIMScheduler":
            raise InputError(
                "only the steps of DDIM can be inverted",
                given=f"scheduler={self.scheduler!r}, invert=True",
                expected="scheduler='DDIMScheduler', or invert=False",
            )


def inverted_noise(
    denoise: Denoise, scheduler: Any, init: Tensor, *, strength: float, steps: int, refinements: int = 0
) -> Tensor:
    """Return the noise from which DDIM would generate latents, by its steps in reverse.

    A step of DDIM turns x = r c + s e into x' = r' c + s' e, where c are the clean latents and e the noise that the
    network predicts, in place of which it may predict v = r e - s c. So x = (r x' + (r' s - r s') e) / r', or
    x = (x' + (r' s - r s') v) / (r r' + s s'). As x is what is sought, the network predicts from x' at first, and from
    the x that was found in each refinement.

    Parameters
    ----------
    denoise : callable
        ``denoise(latents, step)`` predicts what the scheduler expects, without guidance.
    scheduler : diffusers.DDIMScheduler
    init : Tensor, shape (image, channel, y, x)
        Clean latents.
    strength, steps
        As in :func:`~neurorecon.generators.latent_diffusion.sample_latents`.
    refinements : int
        Of each step.

    Returns
    -------
    Tensor, shape (image, channel, y, x)
        ``sample_latents`` adds it to `init`, and returns to it. With a strength of 1, what it starts from.
    """
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise InputError(
            "the steps of this network cannot be inverted",
            given=f"prediction_type={kind!r}",
            expected="a network that predicts noise or velocity",
            todo="set invert=False",
        )
    scheduler.set_timesteps(steps, device=init.device)
    timesteps = scheduler.timesteps[0 if strength >= 1 else first_step(scheduler, strength) :]
    latents, variance = init, float(scheduler.final_alpha_cumprod)
    signal, noise = variance**0.5, (1 - variance) ** 0.5
    for step in reversed(timesteps):
        variance = float(scheduler.alphas_cumprod[int(step)])
        more_signal, less_noise, signal, noise = signal, noise, variance**0.5, (1 - variance) ** 0.5
        turn, found = more_signal * noise - signal * less_noise, latents
        if not signal and not less_noise:
            raise InputError(
                "a single step from pure noise to clean latents cannot be inverted",
                given=f"steps={steps}, strength={strength}",
                expected="two steps or more",
                todo="set steps=2 or more, or invert=False",
            )
        for _ in range(1 + refinements):
            predicted = denoise(found, step)
            if kind == "epsilon":
                found = (signal * latents + turn * predicted) / more_signal
            else:
                found = (latents + turn * predicted) / (signal * more_signal + noise * less_noise)
        latents = found
    if strength >= 1:
        return latents
    return (latents - signal * init) / noise


class SparseCausalAttention:
    """Attention processor of diffusers: each frame attends to the first frame and to the previous one.

    The first frame attends to itself, and the second one to the first.

    Parameters
    ----------
    frames : int
        Number of frames of each video; a batch consists of whole videos.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the attended features; names of parameters are those that diffusers passes.

        Parameters
        ----------
        attn : diffusers.models.attention_processor.Attention
            The layer.
        hidden_states : Tensor, shape (video and frame, token, channel)
        encoder_hidden_states, attention_mask, temb : None
            A layer of self-attention in a UNet gets none.

        Returns
        -------
        Tensor, shape (video and frame, token, channel)
        """
        import torch
        from torch.nn import functional

        def heads(values: Tensor) -> Tensor:
            """Return (video and frame, head, token, channel)."""
            return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def of_seen(values: Tensor) -> Tensor:
            """Return the tokens of both frames that each frame attends to, (video and frame, token, channel)."""
            video = values.unflatten(0, (-1, self.frames))
            first, previous = video[:, :1], torch.cat([video[:, :1], video[:, :-1]], dim=1)
            return torch.cat([first.expand_as(video), previous], dim=2).flatten(0, 1)

        keys, values = of_seen(attn.to_k(hidden_states)), of_seen(attn.to_v(hidden_states))
        found = functional.scaled_dot_product_attention(
            heads(attn.to_q(hidden_states)), heads(keys), heads(values), scale=attn.scale
        )
        output: Tensor = attn.to_out[1](attn.to_out[0](found.transpose(1, 2).flatten(2)))
        return output / attn.rescale_output_factor


@lru_cache(maxsize=1)
def _video_networks(
    frames: int, dual: bool, models: str, device: str, dtype: str, sha256: tuple[str, ...], adapter: Adapter | None
) -> Networks:
    """Return the networks of images, with a copy of the UNet that shares its weights and attends to other frames."""
    from neurorecon.models.dual_guided import shared_copy

    networks = shared_networks(dual, models, device, dtype, sha256, adapter)
    found = replace(networks, unet=shared_copy(networks.unet))
    processors = {
        name: SparseCausalAttention(frames) if name.endswith("attn1.processor") else processor
        for name, processor in found.layers.attn_processors.items()
    }
    found.layers.set_attn_processor(processors)
    return found
