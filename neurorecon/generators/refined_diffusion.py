"""Latent diffusion whose images are pulled toward features of CLIP that were decoded.

Two ways to do it, with the same loss, whose gradient passes through the vision tower of CLIP and the autoencoder:

- ``"loop"`` is the published one (MindDiffuser: Lu et al., 2023, arXiv 2308.04249). The start of the diffusion and its
  text condition are optimized, hundreds of times, with gradients through all steps of the sampler.
- ``"guidance"`` moves the clean image that each step predicts a little down the gradient, and goes on from there. The
  network of the diffusion is passed as often as without, and needs no gradient. Moving the predicted image instead of
  the noisy one is what He et al. (2024, arXiv 2311.16424) call manifold preserving guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.generators.latent_diffusion import Condition, LatentDiffusion
from neurorecon.models.clip import ClipSettings, Part, clip_settings, layer_features, layer_sizes, vision_tokens
from neurorecon.models.load import WeightsSource

if TYPE_CHECKING:
    from torch import Tensor

Refinement = Literal["guidance", "loop", "none"]


class RefinedDiffusion(LatentDiffusion):
    """Generate images with latent diffusion, and pull them toward features of the vision tower of CLIP.

    Conditions are those of :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`, and

    - ``layers`` (feature,): the wanted outputs of blocks and the wanted image embedding of CLIP ViT-B/32 (target
      ``clip_layers``); without them, nothing is refined.
    - ``weights`` (feature,): of the squared differences of these features; by default 1 over their number.

    Parameters
    ----------
    condition, models, steps, guidance, strength, eta, text_ratio, scheduler, adapter, device, dtype, batch_size
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`.
    refine : {"guidance", "loop", "none"}
        How images are pulled; see the module.
    cosine : float
        Weight of 1 minus the cosine of the image embedding and the wanted one, in addition to the squared differences.
    pull : float
        With guidance: how far each move goes, as the root mean square over the latents of an image, times the
        amplitude of the noise that is left. So moves end with it: what is changed at the end, the network cannot
        make look like an image any more.
    moves : int
        With guidance: number of moves at each step.
    optimize : tuple of {"c", "z"}
        With the loop: what is optimized, the text condition and the latents that the diffusion starts from.
    iterations : int
        With the loop: number of iterations of Adam.
    learning_rate, decay : float
        With the loop: of Adam; the learning rate is multiplied by `decay` after each iteration.
    part : {"block", "mlp"}
        Which features of CLIP; see :class:`~neurorecon.features.clip.ClipLayersExtractor`.
    """

    name: ClassVar[str] = "refined-diffusion"

    def __init__(
        self,
        condition: Condition = "text",
        models: str | Path = "bundled",
        *,
        refine: Refinement = "guidance",
        cosine: float = 0.0,
        pull: float = 0.1,
        moves: int = 1,
        optimize: tuple[str, ...] = ("c", "z"),
        iterations: int = 300,
        learning_rate: float = 0.01,
        decay: float = 0.999,
        part: Part = "block",
        steps: int = 50,
        guidance: float = 5.0,
        strength: float = 0.734,
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
        self.refine = refine
        self.cosine = cosine
        self.pull = pull
        self.moves = moves
        self.optimize = optimize
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.decay = decay
        self.part = part

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        features = sum(int(np.prod(shape)) for shape in layer_sizes(self._clip))
        return {**super().conditions, "layers": (features,), "weights": (features,)}

    @property
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of latent diffusion, and of CLIP."""
        return (*super().weights, self._clip.source)

    @property
    def _clip(self) -> ClipSettings:
        return clip_settings(self.models, "clip-b32")

    def make(self, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int) -> Tensor:
        """Generate one batch, shape (stimulus, rgb, y, x)."""
        import torch

        self._check()
        if self.toward is not None and self.refine != "none" and "layers" in conditions:
            raise InputError(
                "images cannot be pulled toward features of CLIP and by a likelihood at once",
                given=f"refine={self.refine!r} and a gradient of the likelihood",
                expected="one of the two",
                todo="use refine='none', or no gradient",
            )
        if self.refine == "none" or "layers" not in conditions:
            return super().make(stimuli, conditions, seed)
        with torch.inference_mode(False), torch.enable_grad():
            loss = self.loss(conditions)
            if self.refine == "loop":
                return self._optimized(loss, stimuli, conditions, seed)
            with torch.no_grad():
                latents = self.sample(stimuli, conditions, seed, correct=partial(self._moved, loss))
                return self.decode_latents(latents)

    def loss(self, conditions: Mapping[str, Tensor]) -> LayerLoss:
        """Return how far the features of images are from those of conditions: a function of images.

        Parameters
        ----------
        conditions : mapping of str to Tensor, shape (stimulus, ...)
            ``layers`` and, if there are any, ``weights``.
        """
        import torch

        wanted, settings = conditions["layers"], self._clip
        weights = conditions.get("weights", torch.full_like(wanted, 1.0 / wanted.shape[1]))
        network = _clip_network(str(self.models), "clip-b32", settings.source.sha256, self.torch_device)
        return LayerLoss(network, settings, wanted, weights, self.cosine, self.part)

    def _moved(self, loss: LayerLoss, clean: Tensor, noise: float) -> Tensor:
        """Return predicted clean latents after moves down the gradient, each of the same length for each image."""
        for _ in range(self.moves):
            clean = self.moved(loss, self.pull, clean, noise)
        return clean

    def _optimized(
        self, loss: LayerLoss, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int
    ) -> Tensor:
        """Return images after Adam has optimized what the diffusion starts from and what conditions it."""
        import torch

        from neurorecon.generators.latent_diffusion import encode_images

        given = dict(conditions)
        if "init" in given and "latents" not in given:
            with torch.no_grad():
                start = encode_images(self.loaded.autoencoder, given.pop("init"), self.image_shape[0])
                given["latents"] = start * self._files.autoencoder.scaling_factor
        names = [{"c": "text", "z": "latents"}[name] for name in self.optimize]
        free = {name: given[name].clone().requires_grad_() for name in names if name in given}
        given |= free
        if free:
            optimizer = torch.optim.Adam(free.values(), lr=self.learning_rate)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.decay)
            for _ in range(self.iterations):
                optimizer.zero_grad()
                # A sum, so that each image is optimized by itself.
                loss(self.decode_latents(self.sample(stimuli, given, seed, checkpoint=True))).sum().backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            return self.decode_latents(self.sample(stimuli, given, seed))

    def _check(self) -> None:
        super()._check()
        for name, value, known in (
            ("refinement", self.refine, ("guidance", "loop", "none")),
            *(("variable to optimize", value, ("c", "z")) for value in self.optimize),
            ("part of a block", self.part, ("block", "mlp")),
        ):
            if value not in known:
                raise UnknownNameError(name, value, known)
        for name, least in (("cosine", 0), ("pull", 0), ("moves", 0), ("iterations", 0), ("learning_rate", 0)):
            value = getattr(self, name)
            whole = name in ("moves", "iterations")
            if not least <= value < np.inf or (whole and int(value) != value):
                raise InputError(
                    f"{name} is out of range",
                    given=f"{name}={value!r}",
                    expected="a whole number, 0 or more" if whole else "0 or more",
                    todo="choose another value",
                )


@dataclass(frozen=True)
class LayerLoss:
    """How far the features of images are from wanted ones.

    Parameters
    ----------
    network : open_clip.model.CLIP
    settings : ClipSettings
        Of the network: size, mean and deviation of its images.
    wanted : Tensor, shape (image, feature)
        Outputs of blocks and image embedding, as :func:`~neurorecon.models.clip.layer_features` returns them.
    weights : Tensor, shape (image, feature)
        Of the squared differences.
    cosine : float
        Weight of 1 minus the cosine of the image embedding and the wanted one.
    part : {"block", "mlp"}
        Which features.
    """

    network: Any
    settings: ClipSettings
    wanted: Tensor
    weights: Tensor
    cosine: float = 0.0
    part: Part = "block"

    def __call__(self, images: Tensor) -> Tensor:
        """Return the loss of each image, shape (image,).

        Parameters
        ----------
        images : Tensor, shape (image, rgb, y, x)
            In [0, 1]; values outside are clipped.
        """
        from torch.nn import functional

        found = layer_features(self.network, prepared(images, self.settings), self.part)
        loss: Tensor = (self.weights * (found - self.wanted).square()).sum(dim=1)
        if self.cosine:
            channels = layer_sizes(self.settings)[-1][0]
            same = functional.cosine_similarity(found[:, -channels:], self.wanted[:, -channels:])
            loss = loss + self.cosine * (1 - same)
        return loss


def prepared(images: Tensor, settings: ClipSettings) -> Tensor:
    """Return images as CLIP takes them: resized, and normalized by channel; gradients pass.

    Parameters
    ----------
    images : Tensor, shape (image, rgb, y, x)
        In [0, 1]; values outside are clipped.
    settings : ClipSettings

    Returns
    -------
    Tensor, shape (image, rgb, y, x)
    """
    import torch
    from torch.nn import functional

    size, shown = settings.size, images.clamp(0, 1)
    if shown.shape[-2:] != (size, size):
        shown = functional.interpolate(shown, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(found, device=images.device).view(1, 3, 1, 1) for found in (settings.mean, settings.std))
    return (shown - mean) / std


def token_losses(
    models: str | Path, wanted: Mapping[str, np.ndarray], mean: np.ndarray
) -> Callable[[Sequence[str]], Callable[[Tensor], Tensor]]:
    """Return the loss that pulls images toward wanted vision tokens, for ``toward`` of :class:`LatentDiffusion`.

    The loss of an image is 1 minus the cosine of its tokens and the wanted ones, both without what all images have in
    common, mean over tokens. A wanted token that hardly differs from the mean pulls nothing: it has no direction.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Whose CLIP, the one of ``clip_vision``.
    wanted : mapping of str to array, shape (token, channel)
        Of each stimulus.
    mean : array, shape (token, channel)
        Of the training stimuli.

    Returns
    -------
    callable
        Of ids of stimuli; returns a function from their images, (image, rgb, y, x) in [0, 1], to losses, (image,).
    """
    import torch
    from torch.nn import functional

    settings = clip_settings(models)

    def losses_of(stimuli: Sequence[str]) -> Callable[[Tensor], Tensor]:
        common = torch.from_numpy(np.asarray(mean, dtype=np.float32))
        whole = torch.from_numpy(np.stack([wanted[name] for name in stimuli]).astype(np.float32))
        given = whole - common
        differs = (given.norm(dim=-1) > 1e-3 * whole.norm(dim=-1)).float()

        def loss(images: Tensor) -> Tensor:
            network = _clip_network(str(models), "clip", settings.source.sha256, str(images.device))
            tokens = vision_tokens(network, prepared(images.float(), settings))
            tokens = tokens / tokens[:, :1].norm(dim=-1, keepdim=True) - common.to(images.device)
            cosine = functional.cosine_similarity(tokens, given.to(images.device), dim=-1)
            found: Tensor = 1 - (cosine * differs.to(images.device)).mean(dim=1)
            return found

        return loss

    return losses_of


@lru_cache(maxsize=2)
def _clip_network(models: str, role: str, sha256: str, device: str) -> Any:
    """Load CLIP, and keep it, as ordinary tensors even if it is loaded in inference mode."""
    import torch

    with torch.inference_mode(False):
        return clip_settings(models, role).load(device)
