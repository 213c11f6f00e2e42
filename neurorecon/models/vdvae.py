"""The very deep variational autoencoder (VDVAE) of Child 2021, whose latents low-level decoders predict.

An encoder describes the image at every resolution, from 64 x 64 down to 1 x 1. A decoder goes the other way:
each of its blocks is one *group* of latents, drawn from a Gaussian that depends on all groups before. The first
groups say what is where, the last ones how it is textured, so that an image can be reconstructed from the first
groups of a brain and the rest from the prior. The last layer gives each pixel a mixture of discretized logistic
distributions (Salimans et al. 2017).

Images are tensors (image, rgb, y, x), uint8 or float in 0..1; latents are lists of tensors (image, channel, y, x),
one per group. The names of the submodules are those of the published checkpoints, which load unchanged.

Source: R. Child, "Very deep VAEs generalize autoregressive models and can outperform them on images", ICLR 2021.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.models.vdvae_config import IMAGENET64, SMALL, Layer, VDVAEConfig

__all__ = ["IMAGENET64", "SMALL", "VDVAE", "Gaussian", "VDVAEConfig", "load_vdvae", "save_vdvae"]

#: What a decoded image shows of the distribution of each pixel.
Pixels = Literal["mean", "mode", "sample"]

#: Scales of the logistic distributions are cut off below, and uniform noise at both ends, as in training.
_LEAST_LOG_SCALE = -7.0
_LEAST_NOISE = 1e-5


class Gaussian(NamedTuple):
    """Independent normal distributions; both fields have shape (image, channel, y, x)."""

    mean: Tensor
    log_scale: Tensor

    def sample(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw a value of each; a temperature of 0 gives the mean."""
        if temperature == 0:
            return self.mean
        mean = self.mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + temperature * self.log_scale.exp() * noise

    def divergence(self, other: Gaussian) -> Tensor:
        """Kullback-Leibler divergence of this from the other, in nats."""
        mean, log_scale, other_mean, other_log_scale = map(_at_least_float32, (*self, *other))
        log_ratio = log_scale - other_log_scale
        distance = (mean - other_mean) * (-other_log_scale).exp()
        return 0.5 * ((2 * log_ratio).exp() + distance.square() - 1) - log_ratio


class Block(nn.Module):
    """Four convolutions through a bottleneck, each after a GELU."""

    def __init__(self, inputs: int, inside: int, outputs: int, *, resolution: int, residual: bool = False) -> None:
        super().__init__()
        size = 3 if resolution > 2 else 1  # nothing surrounds an image of one pixel
        self.residual = residual
        self.c1 = _convolution(inputs, inside)
        self.c2 = _convolution(inside, inside, size)
        self.c3 = _convolution(inside, inside, size)
        self.c4 = _convolution(inside, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (image, inputs, y, x) to (image, outputs, y, x)."""
        y = x
        for convolution in (self.c1, self.c2, self.c3, self.c4):
            y = convolution(functional.gelu(y))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """Describe images at every resolution."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        layers = config.encoder_layers
        self.widths, self.shrink = config.widths, [layer.shrink for layer in layers]
        self.in_conv = _convolution(3, config.width, 3)
        self.enc_blocks = nn.ModuleList()
        for layer in layers:
            width = config.widths[layer.resolution]
            inside = int(width * config.bottleneck_multiple)
            block = Block(width, inside, width, resolution=layer.resolution, residual=True)
            _scale(block.c4, math.sqrt(1 / len(layers)))
            self.enc_blocks.append(block)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return, by resolution, activations of shape (image, channel, y, x)."""
        x = self.in_conv(x)
        activations = {x.shape[-1]: x}
        for block, shrink in zip(self.enc_blocks, self.shrink, strict=True):
            x = block(x)
            if shrink is not None:
                x = functional.avg_pool2d(x, shrink)
                # Wider layers below get the old channels and zeros.
                x = functional.pad(x, (0, 0, 0, 0, 0, self.widths.get(x.shape[-1], x.shape[1]) - x.shape[1]))
            activations[x.shape[-1]] = x
        return activations


class DecoderBlock(nn.Module):
    """One group of latents: its prior, its posterior, and what it does to the image."""

    def __init__(self, config: VDVAEConfig, layer: Layer) -> None:
        super().__init__()
        resolution, width, z_dim = layer.resolution, config.widths[layer.resolution], config.z_dim
        inside = int(width * config.bottleneck_multiple)
        self.layer, self.splits = layer, [z_dim, z_dim, width]
        self.enc = Block(2 * width, inside, 2 * z_dim, resolution=resolution)
        self.prior = Block(width, inside, 2 * z_dim + width, resolution=resolution)
        self.z_proj = _convolution(z_dim, width)
        self.resnet = Block(width, inside, width, resolution=resolution, residual=True)
        scale = math.sqrt(1 / len(config.decoder_layers))
        _scale(self.z_proj, scale)
        _scale(self.resnet.c4, scale)
        _scale(self.prior.c4, 0)

    def posterior_of(self, x: Tensor, activations: Tensor) -> Gaussian:
        """Distribution of the latents, having seen the image."""
        return Gaussian(*self.enc(torch.cat([x, activations], dim=1)).chunk(2, dim=1))

    def prior_of(self, x: Tensor) -> tuple[Gaussian, Tensor]:
        """Distribution of the latents given the groups before, and what these alone add to the image."""
        mean, log_scale, features = self.prior(x).split(self.splits, dim=1)
        return Gaussian(mean, log_scale), x + features

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Add the latents to the image."""
        return self.resnet(x + self.z_proj(latents))


#: Chooses the latents of a group from its number, its block, the state before it and its prior.
_Choice = Callable[[int, DecoderBlock, Tensor, Gaussian], Tensor]


class Decoder(nn.Module):
    """Build images from one pixel to all, one group of latents after the other."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.dec_blocks = nn.ModuleList(DecoderBlock(config, layer) for layer in config.decoder_layers)
        resolutions = sorted({layer.resolution for layer in config.decoder_layers})
        self.bias_xs = nn.ParameterList(
            nn.Parameter(torch.zeros(1, config.widths[resolution], resolution, resolution))
            for resolution in resolutions
            if resolution <= config.no_bias_above
        )
        self.out_net = LogisticMixture(config)
        self.gain = nn.Parameter(torch.ones(1, config.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, config.width, 1, 1))

    def forward(self, images: int, choose: _Choice) -> Tensor:
        """Return the state (image, channel, y, x) that the pixels are drawn from."""
        return self.run(images, choose)[self.config.image_size] * self.gain + self.bias

    def run(self, images: int, choose: _Choice, groups: int | None = None) -> dict[int, Tensor]:
        """Pass through the first groups; return the states (image, channel, y, x) by resolution."""
        states = self._start(images)
        for group, layer in enumerate(self.config.decoder_layers[:groups]):
            block = cast(DecoderBlock, self.dec_blocks[group])
            x = self.state_before(layer, states)
            prior, with_features = block.prior_of(x)
            states[layer.resolution] = block(with_features, choose(group, block, x, prior))
        return states

    def state_before(self, layer: Layer, states: dict[int, Tensor]) -> Tensor:
        """Return the state (image, channel, y, x) that a group of latents is added to, given those by resolution."""
        x, origin = states[layer.resolution], layer.grow_from
        if origin is not None:
            x = x + functional.interpolate(states[origin][:, : x.shape[1]], scale_factor=layer.resolution // origin)
        return x

    def _start(self, images: int) -> dict[int, Tensor]:
        states = {
            resolution: self.gain.new_zeros(()).expand(images, width, resolution, resolution)
            for resolution, width in self.config.widths.items()
        }
        return states | {bias.shape[-1]: bias.expand(images, -1, -1, -1) for bias in self.bias_xs}


class LogisticMixture(nn.Module):
    """The distribution of each pixel: a mixture of discretized logistics, green given red, blue given both."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.mixtures = config.num_mixtures
        self.out_conv = _convolution(config.width, 10 * config.num_mixtures)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (image, mixture, y, x), and locations, log scales and couplings (image, rgb, mixture, y, x)."""
        logits, rest = _at_least_float32(self.out_conv(x)).split([self.mixtures, 9 * self.mixtures], dim=1)
        locations, log_scales, couplings = rest.unflatten(1, (3, 3, self.mixtures)).unbind(2)
        return logits, locations, log_scales.clamp(min=_LEAST_LOG_SCALE), couplings.tanh()

    def negative_log_likelihood(self, x: Tensor, target: Tensor) -> Tensor:
        """Return (image,), in nats; the target (image, rgb, y, x) is in -1..1."""
        logits, locations, log_scales, couplings = self(x)
        target = target.unsqueeze(2)
        red, green = target[:, 0], target[:, 1]
        shift = torch.stack(
            [torch.zeros_like(couplings[:, 0]), couplings[:, 0] * red, couplings[:, 1] * red + couplings[:, 2] * green],
            dim=1,
        )
        # The mass between the edges a and b of a bin is s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)): without
        # cancellation however narrow the distribution. The outermost bins have one edge only.
        inverse = (-log_scales).exp()
        centered = (target - locations - shift) * inverse
        half = inverse / 255
        below, above = target < -0.999, target > 0.999
        log_mass = functional.logsigmoid(centered + half).masked_fill(above, 0)
        log_mass = log_mass + functional.logsigmoid(half - centered).masked_fill(below, 0)
        log_mass = log_mass + (-torch.expm1(-2 * half)).log().masked_fill(below | above, 0)
        by_mixture = log_mass.sum(1) + logits.log_softmax(1)
        return -by_mixture.logsumexp(1).sum((1, 2))

    def pixels(self, x: Tensor, kind: Pixels, generator: torch.Generator | None) -> Tensor:
        """Return images (image, rgb, y, x) in -1..1."""
        logits, locations, log_scales, couplings = self(x)
        if kind == "mean":
            return (_colors(locations, couplings) * logits.softmax(1).unsqueeze(1)).sum(2)
        if kind == "sample":
            logits = logits - (-_noise(logits, generator).log()).log()
        chosen = logits.argmax(1, keepdim=True).unsqueeze(1).expand(-1, 3, -1, -1, -1)
        locations, log_scales, couplings = (part.gather(2, chosen) for part in (locations, log_scales, couplings))
        if kind == "sample":
            locations = locations + log_scales.exp() * _noise(locations, generator).logit()
        return _colors(locations, couplings).squeeze(2)


class VDVAE(nn.Module):
    """A VDVAE that encodes images into groups of latents and decodes any number of first groups.

    Nothing is detached: wrap calls that need no gradients into :func:`torch.inference_mode`.

    Parameters
    ----------
    config : VDVAEConfig
        :data:`IMAGENET64`, :data:`SMALL`, or sizes of your own.
    """

    def __init__(self, config: VDVAEConfig = SMALL) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def group_shapes(self) -> list[tuple[int, int, int]]:
        """Shape (channel, y, x) of each group of latents."""
        return [(self.config.z_dim, layer.resolution, layer.resolution) for layer in self.config.decoder_layers]

    def group_boundaries(self, groups: int | None = None) -> list[int]:
        """Where each of the first `groups` groups starts in a flat vector, and where the last one ends."""
        boundaries = [0]
        for shape in self.group_shapes[: self._check_groups(groups)]:
            boundaries.append(boundaries[-1] + math.prod(shape))
        return boundaries

    def flatten(self, latents: Sequence[Tensor]) -> Tensor:
        """Join latents (image, channel, y, x) of the first groups to (image, value)."""
        self._check_latents(latents)
        return torch.cat([group.flatten(1) for group in latents], dim=1)

    def unflatten(self, values: Tensor) -> list[Tensor]:
        """Split (image, value) into the latents (image, channel, y, x) of as many groups as there are values for."""
        boundaries = self.group_boundaries()
        if values.ndim != 2 or values.shape[1] not in boundaries[1:]:
            raise InputError(
                "flat latents of a VDVAE have to be those of its first groups",
                given=f"shape {tuple(values.shape)}",
                expected=f"(image, value) with one of {_shorten(boundaries[1:])} values",
            )
        shapes = self.group_shapes[: boundaries.index(values.shape[1])]
        parts = values.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def activations(self, images: Tensor) -> dict[int, Tensor]:
        """Return what the encoder says of images (image, rgb, y, x): by resolution, (image, channel, y, x)."""
        return self._activations(self._scaled(images))

    def encode(
        self,
        images: Tensor,
        *,
        groups: int | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Return the latents of images, by group.

        Parameters
        ----------
        images : tensor, shape (image, rgb, y, x)
            uint8, or float in 0..1.
        groups : int, optional
            Only the first groups (faster); by default all.
        sample : bool
            Draw from the posterior, as Brain-Diffuser does, rather than take its mean. Each group depends on those
            before, so the means are those along the path of means.
        generator : torch.Generator, optional
            Source of the samples, on the device of the network.

        Returns
        -------
        list of tensor, each of shape (image, channel, y, x)
            In the precision of the network.

        Raises
        ------
        InputError
            If the images do not fit, or there are fewer groups.
        """
        groups = self._check_groups(groups)
        activations = self.activations(images)
        latents: list[Tensor] = []

        def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian | None) -> Tensor:
            posterior = block.posterior_of(x, activations[block.layer.resolution])
            latents.append(posterior.sample(generator, temperature=float(sample)))
            return latents[-1]

        # What the last group does to the image is not needed, and at its resolution it takes long.
        last = groups - 1
        states = self.decoder.run(len(images), choose, last)
        block = cast(DecoderBlock, self.decoder.dec_blocks[last])
        choose(last, block, self.decoder.state_before(block.layer, states), None)
        return latents

    def decode(
        self,
        latents: Sequence[Tensor],
        *,
        temperature: float | Sequence[float] = 1.0,
        pixels: Pixels = "mean",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the images that latents stand for.

        Parameters
        ----------
        latents : sequence of tensor, each of shape (image, channel, y, x)
            The first groups, at least one; the others come from the prior.
        temperature : float or sequence of float, shape (group,)
            Scales the standard deviation of the prior, or of each group's; with 0 its mean is taken, and nothing is
            random.
        pixels : {"mean", "mode", "sample"}
            Mean of the mixture at each pixel, location of its most probable component, or a random color from it
            (as Brain-Diffuser does).
        generator : torch.Generator, optional
            Source of the samples, on the device of the network.

        Returns
        -------
        tensor, shape (image, rgb, y, x)
            In 0..1. Gradients with respect to the latents pass, except through ``"mode"``'s choice.

        Raises
        ------
        InputError
            If the latents are not those of the first groups, or a temperature is negative, or there are not as many of
            them as groups.
        """
        self._check_latents(latents)
        parameter = self.decoder.gain
        latents = [group.to(parameter.device, parameter.dtype) for group in latents]
        return self._decode(len(latents[0]), latents, temperature, pixels, generator)

    def sample(
        self,
        images: int,
        *,
        temperature: float | Sequence[float] = 1.0,
        pixels: Pixels = "mean",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return images (image, rgb, y, x) in 0..1 from the prior; see :meth:`decode`."""
        return self._decode(images, [], temperature, pixels, generator)

    def loss(self, images: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return what training minimizes, averaged over images.

        Parameters
        ----------
        images : tensor, shape (image, rgb, y, x)
            uint8, or float in 0..1.
        generator : torch.Generator, optional
            Source of the samples from the posterior, on the device of the network.

        Returns
        -------
        dict of tensor
            ``elbo``, the sum of ``distortion`` (negative log-likelihood of the pixels) and ``rate`` (information in
            the latents), and ``rate_by_group``, shape (group,), which sums to the rate. All in bits per value of a
            pixel; training minimizes ``elbo``.
        """
        scaled = self._scaled(images)
        activations = self._activations(scaled)
        divergences: list[Tensor] = []

        def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
            posterior = block.posterior_of(x, activations[block.layer.resolution])
            divergences.append(posterior.divergence(prior).sum((1, 2, 3)).mean())
            return posterior.sample(generator)

        state = self.decoder(len(images), choose)
        bits = 1 / (math.log(2) * scaled[0].numel())
        distortion = self.decoder.out_net.negative_log_likelihood(state, scaled / 127.5 - 1).mean() * bits
        rates = torch.stack(divergences) * bits
        rate = rates.sum()
        return {"elbo": distortion + rate, "distortion": distortion, "rate": rate, "rate_by_group": rates}

    def _decode(
        self,
        images: int,
        latents: Sequence[Tensor],
        temperature: float | Sequence[float],
        pixels: Pixels,
        generator: torch.Generator | None,
    ) -> Tensor:
        temperatures = self._temperatures(temperature)
        if pixels not in ("mean", "mode", "sample"):
            raise UnknownNameError("kind of pixels", pixels, ("mean", "mode", "sample"))

        def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian) -> Tensor:
            return latents[group] if group < len(latents) else prior.sample(generator, temperatures[group])

        return (self.decoder.out_net.pixels(self.decoder(images, choose), pixels, generator) + 1) / 2

    def _temperatures(self, temperature: float | Sequence[float]) -> list[float]:
        groups = len(self.config.decoder_layers)
        found = list(temperature) if isinstance(temperature, Sequence) else [temperature] * groups
        if len(found) != groups or min(found) < 0:
            raise InputError(
                "the temperature of a prior cannot be negative, and there is one for all groups or one for each",
                given=temperature,
                expected=f"a number, or {groups} of them, 0 or more",
            )
        return found

    def _activations(self, scaled: Tensor) -> dict[int, Tensor]:
        normalized = (scaled - self.config.input_mean) / self.config.input_std
        activations: dict[int, Tensor] = self.encoder(normalized.to(self.decoder.gain.dtype))
        return activations

    def _scaled(self, images: Tensor) -> Tensor:
        """Return images on the scale 0..255, where the network is, in single precision at least."""
        size = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise InputError(
                "a VDVAE cannot encode images of this shape",
                given=tuple(images.shape),
                expected=f"(image, rgb, y, x) with 3 colors and {size} x {size} pixels",
                todo="resize the images; `images.permute(0, 3, 1, 2)` puts the colors first",
            )
        parameter = self.decoder.gain
        scaled = images.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))
        if images.dtype != torch.uint8:
            # Images on the scale 0..255 would be encoded without an error, into nonsense.
            if not images.is_floating_point() or not bool(((scaled >= -1e-4) & (scaled <= 1 + 1e-4)).all()):
                raise InputError(
                    "a VDVAE cannot encode these values",
                    given=f"{images.dtype} in {images.min():g}..{images.max():g}",
                    expected="uint8, or float in 0..1",
                )
            scaled = scaled * 255
        return scaled

    def _check_groups(self, groups: int | None) -> int:
        available = len(self.config.decoder_layers)
        if groups is None:
            return available
        if not 1 <= groups <= available:
            raise InputError("a VDVAE has no such number of groups", given=groups, expected=f"1 to {available}")
        return groups

    def _check_latents(self, latents: Sequence[Tensor]) -> None:
        given = [tuple(group.shape) for group in latents]
        expected = [(given[0][0], *shape) for shape in self.group_shapes[: len(given)]] if given and given[0] else []
        if not given or given != expected:
            wrong = next((i for i, (a, b) in enumerate(zip(given, expected, strict=False)) if a != b), len(expected))
            raise InputError(
                "latents have to be those of the first groups of the VDVAE, one tensor (image, channel, y, x) each",
                given=f"{given[wrong]} as group {wrong + 1}" if wrong < len(given) else f"{len(given)} groups",
                expected=expected[wrong] if wrong < len(expected) else f"1 to {len(self.group_shapes)} groups",
            )


def save_vdvae(model: VDVAE, path: str | Path) -> None:
    """Write a network as safetensors, and its sizes as JSON beside it."""
    from safetensors.torch import save_file

    path = Path(path)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, path)
    path.with_suffix(".json").write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")


def load_vdvae(
    path: str | Path,
    config: VDVAEConfig | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VDVAE:
    """Return a trained network, ready to encode and decode.

    Parameters
    ----------
    path : path
        What :func:`save_vdvae` wrote (``.safetensors``), or a checkpoint of the authors (``.th``).
    config : VDVAEConfig, optional
        By default that of the JSON file beside the weights, or else :data:`IMAGENET64`.
    device, dtype : optional
        Where the network computes, and in which precision.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If the file holds the weights of another network.
    """
    path = Path(path)
    weights = _read_weights(path)
    described = path.with_suffix(".json")
    if config is None:
        config = VDVAEConfig.from_dict(json.loads(described.read_text())) if described.is_file() else IMAGENET64
    with torch.device("meta"):
        model = VDVAE(config).to(dtype)
    _check_weights(path, weights, model)
    model.to_empty(device=device).load_state_dict(weights)
    return model.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingFileError("there are no weights of a VDVAE here", given=path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        # Checkpoints written while training on several GPUs carry a prefix.
        return {name.removeprefix("module."): tensor for name, tensor in checkpoint.items()}
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise InputError(f"{path.name} holds no weights that can be read safely", given=path) from error


def _check_weights(path: Path, weights: dict[str, Tensor], model: VDVAE) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected | given):
        if expected.get(name) != given.get(name):
            raise InputError(
                f"{path.name} holds the weights of another network: {name!r} does not fit",
                given=given.get(name, "no such weight"),
                expected=expected.get(name, "no such weight"),
                todo="pass the `config` that the network was trained with",
            )


def _convolution(inputs: int, outputs: int, size: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.zeros_(cast(Tensor, convolution.bias))
    return convolution


def _scale(convolution: nn.Conv2d, factor: float) -> None:
    with torch.no_grad():
        convolution.weight.mul_(factor)


def _colors(locations: Tensor, couplings: Tensor) -> Tensor:
    """Red, green given red, and blue given both, all (image, rgb, mixture, y, x)."""
    red = locations[:, 0].clamp(-1, 1)
    green = (locations[:, 1] + couplings[:, 0] * red).clamp(-1, 1)
    blue = (locations[:, 2] + couplings[:, 1] * red + couplings[:, 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], dim=1)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    noise = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return noise * (1 - 2 * _LEAST_NOISE) + _LEAST_NOISE


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _shorten(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers if len(numbers) < 12 else [*numbers[:10], "...", numbers[-1]]))
