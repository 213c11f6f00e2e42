"""Latent diffusion conditioned on text, image or both: training and sampling.

One training produces both networks. Each scene of a batch is denoised conditioned on a caption, on the CLIP tokens of
its image, or on a mixture of both; the ResNets are shared, and each context has its own transformers. Without the image
branch, the network is an ordinary text-conditioned ``UNet2DConditionModel``.

To accelerate training, features from the middle of the UNet are aligned with CLIP's patch tokens of the clean image
(representation alignment: Yu et al., 2025, ICLR); this head is discarded after training.

A second training continues with the image branch alone, on contexts that are corrupted as if they had been decoded from
brain activity (:mod:`neurorecon.generators.corruption`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from neurorecon.generators.corruption import Corruption, drawn_noise, drawn_spread
from neurorecon.generators.latent_diffusion import make_scheduler, noised, sample_latents, stratified
from neurorecon.models.dual_guided import READS_THE_CONTEXT, TEXT_RATIO, DualGuidedUNet
from neurorecon.models.text_tower import TextTower, end_positions, projected
from neurorecon.simulation.training.loop import Loss, Plan
from neurorecon.simulation.training.perception import normalized, scaled


@torch.no_grad()
def to_pixels(autoencoder: Any, latents: Tensor, batch: int = 50) -> np.ndarray:
    """Decode latents into images, uint8, shape (image, y, x, rgb)."""
    parts = [
        autoencoder.decode(latents[start : start + batch] / autoencoder.config.scaling_factor).sample
        for start in range(0, len(latents), batch)
    ]
    images = ((torch.cat(parts) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return images.permute(0, 2, 3, 1).cpu().numpy()


def draw(
    dual: Any,
    autoencoder: Any,
    schedule: dict[str, Any],
    contexts: dict[str, tuple[Tensor, Tensor]],
    *,
    text_ratio: float,
    guidance: float = 3.0,
    steps: int = 60,
    eta: float = 1.0,
    seed: int = 0,
    batch: int = 50,
    progress: bool = True,
) -> np.ndarray:
    """Generate one image for each row of the contexts.

    Parameters
    ----------
    dual : DualGuidedUNet
    autoencoder : diffusers.AutoencoderKL
    schedule : dict
    contexts : dict
        ``"text"`` and ``"image"``, each a pair: the unconditional context (1, token, channel), and those of the
        images (image, token, channel).
    text_ratio : float
        1 for text only, 0 for images only.
    guidance, steps, eta, seed, batch, progress
        Settings of the sampling. New noise at each step (`eta` of 1) corrects earlier errors of the network: the probe
        is right about more of these images than about those of DDIM.

    Returns
    -------
    array, shape (image, y, x, rgb)
        uint8.
    """
    count = len(next(iter(contexts.values()))[1])
    size, channels = dual.unet.config.sample_size, dual.unet.config.in_channels
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, size, size, generator=generator)
    parts = []
    for start in tqdm(range(0, count, batch), desc="images", unit="batch", disable=not progress, leave=False):
        rows = slice(start, start + batch)

        shown = {
            name: torch.cat([nothing.expand(len(noise[rows]), -1, -1), given[rows]]) if guidance != 1.0 else given[rows]
            for name, (nothing, given) in contexts.items()
        }

        def denoise(latents: Tensor, step: Tensor, shown: dict[str, Tensor] = shown) -> Tensor:
            velocity: Tensor = dual(latents, step, **shown, text_ratio=text_ratio)
            return velocity

        with torch.no_grad():
            part = sample_latents(
                denoise,
                make_scheduler("DDIMScheduler", schedule),
                noise[rows],
                guidance=guidance,
                steps=steps,
                eta=eta,
                generator=generator,
            )
        parts.append(part)
    return to_pixels(autoencoder, torch.cat(parts))


PLAN = Plan("diffusion", steps=10_500, batch=32, learning_rate=5e-4, weight_decay=0.01, warmup=300, hold=0.7)

#: A small version of Stable Diffusion's UNet; the latents are 6 x 16 x 16 and the contexts have 128 channels.
CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 6,
    "out_channels": 6,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [64, 128, 160],
    "layers_per_block": 1,
    "cross_attention_dim": 128,
    # In diffusers' configuration of this network this is the number of heads.
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}

#: The noise schedule. With v-prediction and zero terminal SNR, colors of large areas are correct (Lin et al., 2024,
#: WACV).
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
}

#: Shares of a batch conditioned on text only and on images only; the rest is conditioned on both. A tenth of all is
#: unconditional, for guidance.
_TEXT, _IMAGE, _NOTHING = 0.7, 0.15, 0.1

#: Share of text contexts that are the mean over all captions, because decoders of brain activity predict this mean.
_MEAN_CAPTION = 0.3

#: Most steps of the schedule are drawn from a logit-normal distribution (Esser et al., 2024, ICML), centered at the
#: noise level that determines shapes: starting from real scenes with up to half of the noise, the network generates
#: recognizable objects; with more noise it does not. The others are drawn uniformly, to cover both ends.
_STEP_CENTER, _STEP_SPREAD, _EVEN = 0.6, 1.0, 0.2

#: Categories whose shapes are learned last, and the share of a batch that is drawn from them only.
SLOW_CATEGORIES, _SLOW = ("animal", "vehicle", "tool"), 0.35

#: Gray level that stands for "no image", as in Brain-Diffuser.
GRAY = 127

#: Factor of image contexts in training. With the scale of Versatile Diffusion they have a standard deviation of .08,
#: those of captions of 1, which would slow down the image branch. The published weights include the factor.
_IMAGE_SCALE = 12.0

#: Weight of the alignment with CLIP's patches.
_ALIGNMENT = 0.5

#: The training of the image branch on corrupted contexts. It starts from the bundled network.
IMAGE_BRANCH_PLAN = Plan(
    "image_branch", steps=900, batch=24, learning_rate=3e-4, warmup=50, average=0.995, hold=0.5, every=6
)

#: Share of a batch of that training with corrupted contexts; the others are exact, because the branch has to keep its
#: accuracy on exact ones. Half of the batch is conditioned on images only, half on the mixture of Brain-Diffuser.
_CORRUPTED, _IMAGE_ALONE = 0.75, 0.5

#: Noise of image tokens that a ridge predicts from the simulated brain of seed 7, with 1,000 training images. Decoded
#: contexts are renormalized, so their relative standard deviation is 1.
DECODED_NOISE = 0.04


@dataclass(frozen=True)
class Frozen:
    """Precomputed latents and contexts for the training of the diffusion.

    Parameters
    ----------
    latents : Tensor, shape (scene, channel, y, x)
        Posterior mean times the scaling factor of the autoencoder, float16.
    texts : Tensor, shape (scene, caption, token, channel)
        Contexts of the captions, float16.
    images : Tensor, shape (scene, token, channel)
        Contexts of the images, float16.
    no_text, no_image : Tensor, shape (1, token, channel)
        Contexts of the empty sentence and of a gray image.
    slow : Tensor of int, shape (row,)
        Scenes that show :data:`SLOW_CATEGORIES`.
    """

    latents: Tensor
    texts: Tensor
    images: Tensor
    no_text: Tensor
    no_image: Tensor
    slow: Tensor

    @classmethod
    def make(
        cls,
        clip: Any,
        latents: Tensor,
        tokens: Tensor,
        empty: Tensor,
        pixels: np.ndarray,
        categories: list[str],
        device: str,
    ) -> Frozen:
        """Compute all contexts once, because each scene is used many times.

        Parameters
        ----------
        clip : open_clip.model.CLIP
        latents : Tensor, shape (scene, channel, y, x)
        tokens : Tensor, shape (scene, caption, token)
        empty : Tensor, shape (1, token)
        pixels : ndarray, shape (scene, y, x, rgb), dtype uint8
        categories : list of str
            Category of the main object of each scene.
        device : str
        """
        texts = [
            text_context(clip, part.to(device)).half().cpu() for part in tqdm(tokens.flatten(0, 1).split(500), "texts")
        ]
        images = [
            image_context(clip, normalized(pixels[start : start + 250], device)).half().cpu()
            for start in tqdm(range(0, len(pixels), 250), "images")
        ]
        gray = np.full((1, *pixels.shape[1:]), GRAY, dtype=np.uint8)
        return cls(
            latents,
            torch.cat(texts).unflatten(0, tokens.shape[:2]),
            torch.cat(images),
            text_context(clip, empty.to(device)),
            image_context(clip, normalized(gray, device)),
            torch.tensor([row for row, category in enumerate(categories) if category in SLOW_CATEGORIES]),
        )


class Denoiser(nn.Module):
    """The dual-guided UNet with a head for training that predicts CLIP's patch tokens from its middle features."""

    def __init__(self, config: dict[str, Any], patch_width: int = 128) -> None:
        super().__init__()
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        torch.manual_seed(PLAN.seed)
        self.dual = DualGuidedUNet.from_text_unet(UNet2DConditionModel(**config), share=True)
        middle = config["block_out_channels"][-1]
        self.align = nn.Sequential(
            nn.Conv2d(middle, 2 * patch_width, 1), nn.SiLU(), nn.Conv2d(2 * patch_width, patch_width, 1)
        )

    def forward(self, noisy: Tensor, step: Tensor, text: Tensor, image: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity (scene, channel, y, x) and predicted patches (scene, feature, y, x)."""
        seen: list[Tensor] = []
        hook = self.dual.unet.up_blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            velocity = self.dual(noisy, step, text, _IMAGE_SCALE * image, ratio)
        finally:
            hook.remove()
        return velocity, self.align(seen[0])

    def published(self) -> DualGuidedUNet:
        """Return a copy of the network for unscaled image contexts."""
        dual = copy.deepcopy(self.dual)
        dual.load_image_branch(_rescaled(dual, _IMAGE_SCALE))
        return dual

    def go_on_from(self, published: DualGuidedUNet) -> None:
        """Load the weights of a network returned by :meth:`published`."""
        state = {key: value.float() for key, value in published.state_dict().items() if key in self.dual.state_dict()}
        self.dual.load_state_dict(state)
        self.dual.load_image_branch(_rescaled(self.dual, 1 / _IMAGE_SCALE))


def _rescaled(dual: DualGuidedUNet, factor: float) -> dict[str, Tensor]:
    """Return the weights of the image branch for contexts that are smaller by a factor."""
    state = dual.image_branch_state_dict()
    return {key: value * factor if key.endswith(READS_THE_CONTEXT) else value for key, value in state.items()}


def make_image_branch(published: DualGuidedUNet) -> Denoiser:
    """Return a network of which only the image branch is trained, with the weights of a published one."""
    denoiser = Denoiser(dict(published.unet.config))
    denoiser.go_on_from(published)
    denoiser.align.requires_grad_(False)
    denoiser.dual.train_image_branch_only()
    return denoiser


@torch.no_grad()
def encode(autoencoder: Any, pixels: np.ndarray, device: str, batch: int = 100, progress: bool = True) -> Tensor:
    """Encode images into latents (scene, channel, y, x), float16: the posterior mean times the scaling factor."""
    parts = []
    for start in tqdm(range(0, len(pixels), batch), desc="latents", unit="batch", disable=not progress):
        posterior = autoencoder.encode(scaled(pixels[start : start + batch], device)).latent_dist
        parts.append((posterior.mode() * autoencoder.config.scaling_factor).half().cpu())
    return torch.cat(parts)


@torch.no_grad()
def text_context(clip: Any, tokens: Tensor) -> Tensor:
    """Return the hidden states of CLIP's text tower, (text, token, channel), as for Stable Diffusion."""
    states: Tensor = TextTower(clip)(tokens)
    return states


@torch.no_grad()
def projected_text_context(clip: Any, tokens: Tensor) -> Tensor:
    """Return the projected hidden states divided by the norm of the end token, as for Versatile Diffusion."""
    states = projected(clip, text_context(clip, tokens))
    ends = end_positions(tokens, int(tokens.max()))
    pooled = states[torch.arange(len(tokens)), ends]
    return states / pooled.norm(dim=-1)[:, None, None]


def text_adapter(clip: Any, tokens: Tensor) -> Tensor:
    """Return the linear map from projected texts back to hidden states, by least squares over sentences.

    The projection is square, but the norms by which it is divided vary by a few percent, so the map is not exact.

    Returns
    -------
    Tensor, shape (channel, channel)
    """
    given = projected_text_context(clip, tokens).flatten(0, 1).double()
    wanted = text_context(clip, tokens).flatten(0, 1).double()
    gram = given.T @ given
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, given.T @ wanted).T.float()


@torch.no_grad()
def image_context(clip: Any, images: Tensor) -> Tensor:
    """Return all projected tokens of CLIP's image tower divided by the norm of the CLS token (Versatile Diffusion).

    Parameters
    ----------
    clip : open_clip.model.CLIP
    images : Tensor, shape (image, rgb, y, x)
        Normalized for CLIP.

    Returns
    -------
    Tensor, shape (image, token, channel)
    """
    tower = clip.visual
    hidden = tower.transformer(tower._embeds(images))
    tokens: Tensor = tower.ln_post(hidden) @ tower.proj
    return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)


def loss(frozen: Frozen, device: str) -> Loss:
    """Return the loss: squared error of the velocity plus alignment with CLIP's patch tokens."""
    kept = _kept(device)

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rows = _more_of(frozen.slow, rows, generator)
        clean = frozen.latents[rows].to(device).float()
        image = frozen.images[rows].to(device).float()
        patches = image[:, 1:]
        text = _texts(frozen.texts[rows], generator).to(device)
        chance = torch.rand(len(rows), 2, generator=generator)
        ratio = torch.where(chance[:, 0] < _TEXT, 1.0, torch.where(chance[:, 0] < _TEXT + _IMAGE, 0.0, 0.4))
        nothing = (chance[:, 1] < _NOTHING).to(device)[:, None, None]
        text, image = torch.where(nothing, frozen.no_text, text), torch.where(nothing, frozen.no_image, image)
        error, predicted = _denoised(network, kept, clean, text, image, ratio, generator)
        similarity = functional.cosine_similarity(predicted.flatten(2).mT, patches, dim=-1).mean()
        total = error.mean() + _ALIGNMENT * (1.0 - similarity)
        by_text = error.detach()[ratio == 1.0].mean()
        by_image = error.detach()[ratio == 0.0].mean()
        return {"loss": total, "text": by_text, "image": by_image, "alignment": similarity.detach()}

    return compute


def image_branch_loss(frozen: Frozen, device: str) -> Loss:
    """Return the loss of the image branch: squared error of the velocity, with most contexts corrupted."""
    kept = _kept(device)
    corrupt_image, corrupt_text = Corruption.of(frozen.images), Corruption.of(frozen.texts.mean(dim=1))

    def compute(network: Any, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rows = _more_of(frozen.slow, rows, generator)
        clean = frozen.latents[rows].to(device).float()
        image, text = frozen.images[rows].float(), _texts(frozen.texts[rows], generator)
        chance = torch.rand(len(rows), 6, generator=generator)
        corrupted = chance[:, 0] < _CORRUPTED
        noise, spread = drawn_noise(chance[:, 1:3]), drawn_spread(chance[:, 3])
        among = corrupted[:, None, None]
        image = torch.where(among, corrupt_image(image, noise[:, 0], spread, generator), image).to(device)
        text = torch.where(among, corrupt_text(text, noise[:, 1], spread, generator), text).to(device)
        ratio = torch.where(chance[:, 4] < _IMAGE_ALONE, 0.0, TEXT_RATIO)
        nothing = (chance[:, 5] < _NOTHING).to(device)[:, None, None]
        text, image = torch.where(nothing, frozen.no_text, text), torch.where(nothing, frozen.no_image, image)
        error, _ = _denoised(network, kept, clean, text, image, ratio, generator)
        exact = error.detach()[~corrupted].mean()
        return {"loss": error.mean(), "corrupted": error.detach()[corrupted].mean(), "exact": exact}

    return compute


def _kept(device: str) -> Tensor:
    """Return the share of the variance that is signal, for each step of the schedule."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    kept: Tensor = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(device)
    return kept


def _denoised(
    network: Any, kept: Tensor, clean: Tensor, text: Tensor, image: Tensor, ratio: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Add noise to latents and denoise them: squared errors of the velocity, (scene,), and predicted patches."""
    step = _steps(len(clean), len(kept), generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    noisy, wanted = noised(clean, noise, kept[step], SCHEDULE["prediction_type"])
    velocity, predicted = network(noisy, step, text, image, ratio)
    return (velocity - wanted).square().mean(dim=(1, 2, 3)), predicted


def _more_of(slow: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a share of the rows of a batch, (scene,), with scenes of the slow categories."""
    replaced = torch.rand(len(rows), generator=generator) < _SLOW
    others = slow[torch.randint(len(slow), (len(rows),), generator=generator)]
    return torch.where(replaced, others, rows)


def _steps(scenes: int, steps: int, generator: torch.Generator) -> Tensor:
    """Return a step of the schedule for each scene, (scene,), by stratified sampling."""
    place = stratified(scenes, generator)
    noisy = torch.sigmoid(_STEP_CENTER + _STEP_SPREAD * torch.special.ndtri(place))
    even = torch.rand(scenes, generator=generator) < _EVEN
    return (torch.where(even, place, noisy) * steps).long().clamp(max=steps - 1)


def _texts(found: Tensor, generator: torch.Generator) -> Tensor:
    """Return the context of one caption of each scene, or the mean over its captions, (scene, token, channel)."""
    averaged = torch.rand(len(found), generator=generator) < _MEAN_CAPTION
    which = torch.randint(found.shape[1], (len(found),), generator=generator)
    one = found[torch.arange(len(found)), which].float()
    return torch.where(averaged[:, None, None], found.float().mean(dim=1), one)
