"""The very deep variational autoencoder (VDVAE) of Child (2021), whose latents are decoded for the layout of images.

The encoder computes activations at every resolution, from 64 x 64 down to 1 x 1. The decoder goes from coarse to fine:
each of its blocks has one *group* of latents, drawn from a Gaussian that depends on all previous groups. The first
groups encode layout and the last ones texture, so an image can be reconstructed from the first groups, decoded from
brain responses, with the rest drawn from the prior. The output is a mixture of discretized logistic distributions for
each pixel (Salimans et al., 2017).

Images are tensors (image, rgb, y, x), uint8 or float in 0..1; latents are lists of tensors (image, channel, y, x),
one per group. Submodules have the names of the published checkpoints, which load unchanged.

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

#: How to turn the distribution of each pixel into a color.
Pixels = Literal["mean", "mode", "sample"]

#: Lower limits of the log scales of the logistic distributions and of uniform noise, as in training.
_LEAST_LOG_SCALE = -7.0
_LEAST_NOISE = 1e-5


class Gaussian(NamedTuple):
    """Independent normal distributions; both fields have shape (image, channel, y, x)."""

    mean: Tensor
    log_scale: Tensor

    def sample(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw a sample; a temperature of 0 returns the mean."""
        if temperature == 0:
            return self.mean
        mean = self.mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + temperature * self.log_scale.exp() * noise

    def divergence(self, other: Gaussian) -> Tensor:
        """Return the Kullback-Leibler divergence of this distribution from another, in nats."""
        mean, log_scale, other_mean, other_log_scale = map(_at_least_float32, (*self, *other))
        log_ratio = log_scale - other_log_scale
        distance = (mean - other_mean) * (-other_log_scale).exp()
        return 0.5 * ((2 * log_ratio).exp() + distance.square() - 1) - log_ratio


class Block(nn.Module):
    """Four convolutions through a bottleneck, each after a GELU."""

    def __init__(self, inputs: int, inside: int, outputs: int, *, resolution: int, residual: bool = False) -> None:
        super().__init__()
        size = 3 if resolution > 2 else 1  # a pixel has no neighbors at resolution 1
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
    """Compute activations of images at every resolution."""

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
                # Pad channels with zeros for wider layers at lower resolutions.
                x = functional.pad(x, (0, 0, 0, 0, 0, self.widths.get(x.shape[-1], x.shape[1]) - x.shape[1]))
            activations[x.shape[-1]] = x
        return activations


class DecoderBlock(nn.Module):
    """One group of latents: its prior, its posterior, and its effect on the state of the decoder."""

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
        """Return the posterior of the latents, given the state and the activations of the encoder."""
        return Gaussian(*self.enc(torch.cat([x, activations], dim=1)).chunk(2, dim=1))

    def prior_of(self, x: Tensor) -> tuple[Gaussian, Tensor]:
        """Return the prior of the latents given the previous groups, and the state with the prior's features added."""
        mean, log_scale, features = self.prior(x).split(self.splits, dim=1)
        return Gaussian(mean, log_scale), x + features

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Add the latents to the state."""
        return self.resnet(x + self.z_proj(latents))


#: Returns the latents of a group, given its number, its block, the state before it and its prior.
_Choice = Callable[[int, DecoderBlock, Tensor, Gaussian], Tensor]


class Decoder(nn.Module):
    """Generate images from coarse to fine, one group of latents after another."""

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
        """Return the final state (image, channel, y, x), which determines the pixel distributions."""
        return self.run(images, choose)[self.config.image_size] * self.gain + self.bias

    def run(self, images: int, choose: _Choice, groups: int | None = None) -> dict[int, Tensor]:
        """Run the first groups; return the states (image, channel, y, x) by resolution."""
        states = self._start(images)
        for group, layer in enumerate(self.config.decoder_layers[:groups]):
            block = cast(DecoderBlock, self.dec_blocks[group])
            x = self.state_before(layer, states)
            prior, with_features = block.prior_of(x)
            states[layer.resolution] = block(with_features, choose(group, block, x, prior))
        return states

    def state_before(self, layer: Layer, states: dict[int, Tensor]) -> Tensor:
        """Return the state (image, channel, y, x) to which a group adds its latents, given the states by resolution."""
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
    """Mixture of discretized logistics for each pixel: green is conditional on red, blue on both."""

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
        """Return the loss of each image, shape (image,), in nats; the target (image, rgb, y, x) is in -1..1."""
        logits, locations, log_scales, couplings = self(x)
        target = target.unsqueeze(2)
        red, green = target[:, 0], target[:, 1]
        shift = torch.stack(
            [torch.zeros_like(couplings[:, 0]), couplings[:, 0] * red, couplings[:, 1] * red + couplings[:, 2] * green],
            dim=1,
        )
        # The mass between the edges a and b of a bin is s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)). This form avoids
        # cancellation even for narrow distributions. The outermost bins have only one edge.
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

    Nothing is detached: wrap calls that need no gradients in :func:`torch.inference_mode`.

    Parameters
    ----------
    config : VDVAEConfig
        :data:`IMAGENET64`, :data:`SMALL`, or your own configuration.
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
        """Return where each of the first `groups` groups starts in a flat vector, and where the last one ends."""
        boundaries = [0]
        for shape in self.group_shapes[: self._check_groups(groups)]:
            boundaries.append(boundaries[-1] + math.prod(shape))
        return boundaries

    def flatten(self, latents: Sequence[Tensor]) -> Tensor:
        """Concatenate latents (image, channel, y, x) of the first groups to (image, value)."""
        self._check_latents(latents)
        return torch.cat([group.flatten(1) for group in latents], dim=1)

    def unflatten(self, values: Tensor) -> list[Tensor]:
        """Split (image, value) into latents (image, channel, y, x); the inverse of :meth:`flatten`."""
        boundaries = self.group_boundaries()
        if values.ndim != 2 or values.shape[1] not in boundaries[1:]:
            raise InputError(
                "the number of values does not match the first groups of the VDVAE",
                given=f"shape {tuple(values.shape)}",
                expected=f"(image, value) with one of {_shorten(boundaries[1:])} values",
            )
        shapes = self.group_shapes[: boundaries.index(values.shape[1])]
        parts = values.split([math.prod(shape) for shape in shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]

    def activations(self, images: Tensor) -> dict[int, Tensor]:
        """Return the encoder's activations (image, channel, y, x) of images (image, rgb, y, x), by resolution."""
        return self._activations(self._scaled(images))

    def encode(
        self,
        images: Tensor,
        *,
        groups: int | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Encode images into latents, one tensor per group.

        Parameters
        ----------
        images : tensor, shape (image, rgb, y, x)
            uint8, or float in 0..1.
        groups : int, optional
            Number of first groups; by default all. Fewer are faster.
        sample : bool
            Sample the posterior, as Brain-Diffuser does, instead of taking its mean. Each group depends on the
            previous ones, so the means are conditional on the means of the previous groups.
        generator : torch.Generator, optional
            Random generator, on the device of the network.

        Returns
        -------
        list of tensor, each of shape (image, channel, y, x)
            In the dtype of the network.

        Raises
        ------
        InputError
            If the images have the wrong shape or range, or the VDVAE has fewer groups.
        """
        groups = self._check_groups(groups)
        activations = self.activations(images)
        latents: list[Tensor] = []

        def choose(group: int, block: DecoderBlock, x: Tensor, prior: Gaussian | None) -> Tensor:
            posterior = block.posterior_of(x, activations[block.layer.resolution])
            latents.append(posterior.sample(generator, temperature=float(sample)))
            return latents[-1]

        # The effect of the last group on the state is not needed, and it is slow at high resolution.
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
        """Decode latents into images.

        Parameters
        ----------
        latents : sequence of tensor, each of shape (image, channel, y, x)
            The first groups, at least one; the others are drawn from the prior.
        temperature : float or sequence of float, shape (group,)
            Factor of the standard deviation of the prior, for all groups or for each. With 0, the mean of the prior is
            used, and the result is deterministic.
        pixels : {"mean", "mode", "sample"}
            Mean of the mixture of each pixel, location of its most probable component, or a sample (as in
            Brain-Diffuser).
        generator : torch.Generator, optional
            Random generator, on the device of the network.

        Returns
        -------
        tensor, shape (image, rgb, y, x)
            In 0..1. It is differentiable with respect to the latents, except for the choice of ``"mode"``.

        Raises
        ------
        InputError
            If the latents are not those of the first groups, a temperature is negative, or the number of temperatures
            is wrong.
        UnknownNameError
            If `pixels` is unknown.
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
        """Sample images (image, rgb, y, x) in 0..1 from the prior; see :meth:`decode`."""
        return self._decode(images, [], temperature, pixels, generator)

    def loss(self, images: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the training loss and its parts, averaged over images.

        Parameters
        ----------
        images : tensor, shape (image, rgb, y, x)
            uint8, or float in 0..1.
        generator : torch.Generator, optional
            Random generator for samples from the posterior, on the device of the network.

        Returns
        -------
        dict of tensor
            ``elbo`` (negative evidence lower bound, minimized in training), the sum of ``distortion`` (negative
            log-likelihood of the pixels) and ``rate`` (information in the latents), and ``rate_by_group``, shape
            (group,), which sums to the rate. All are in bits per subpixel.
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
                "invalid temperature of the prior",
                given=temperature,
                expected=f"a number of 0 or more, or {groups} of them, one for each group",
            )
        return found

    def _activations(self, scaled: Tensor) -> dict[int, Tensor]:
        normalized = (scaled - self.config.input_mean) / self.config.input_std
        activations: dict[int, Tensor] = self.encoder(normalized.to(self.decoder.gain.dtype))
        return activations

    def _scaled(self, images: Tensor) -> Tensor:
        """Return images on the scale 0..255, on the network's device, in float32 or higher precision."""
        size = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise InputError(
                "the VDVAE cannot encode images of this shape",
                given=tuple(images.shape),
                expected=f"(image, rgb, y, x) with 3 colors and {size} x {size} pixels",
                todo="resize the images; move colors to the second axis with `images.permute(0, 3, 1, 2)`",
            )
        parameter = self.decoder.gain
        scaled = images.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))
        if images.dtype != torch.uint8:
            # Float images on the scale 0..255 would silently be encoded into nonsense.
            if not images.is_floating_point() or not bool(((scaled >= -1e-4) & (scaled <= 1 + 1e-4)).all()):
                raise InputError(
                    "the pixel values have the wrong range",
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
            raise InputError("invalid number of VDVAE groups", given=groups, expected=f"1 to {available}")
        return groups

    def _check_latents(self, latents: Sequence[Tensor]) -> None:
        given = [tuple(group.shape) for group in latents]
        expected = [(given[0][0], *shape) for shape in self.group_shapes[: len(given)]] if given and given[0] else []
        if not given or given != expected:
            wrong = next((i for i, (a, b) in enumerate(zip(given, expected, strict=False)) if a != b), len(expected))
            raise InputError(
                "the latents do not match the first groups of the VDVAE, one tensor (image, channel, y, x) each",
                given=f"{given[wrong]} as group {wrong + 1}" if wrong < len(given) else f"{len(given)} groups",
                expected=expected[wrong] if wrong < len(expected) else f"1 to {len(self.group_shapes)} groups",
            )


def save_vdvae(model: VDVAE, path: str | Path) -> None:
    """Save a network as safetensors, and its configuration as JSON beside it.

    Parameters
    ----------
    model : VDVAE
    path : path
        The safetensors file.
    """
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
    """Load a trained network in evaluation mode.

    Parameters
    ----------
    path : path
        A file written by :func:`save_vdvae` (``.safetensors``), or a checkpoint of the authors (``.th``).
    config : VDVAEConfig, optional
        By default that of the JSON file beside the weights if there is one, else :data:`IMAGENET64`.
    device, dtype : optional
        Device and dtype of the network.

    Returns
    -------
    VDVAE

    Raises
    ------
    MissingFileError
        If the file does not exist.
    InputError
        If the file cannot be read, or contains the weights of another network.
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
        raise MissingFileError("the weights of the VDVAE do not exist", given=path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        # Checkpoints of distributed training have a prefix.
        return {name.removeprefix("module."): tensor for name, tensor in checkpoint.items()}
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise InputError(f"cannot read weights from {path.name}", given=path) from error


def _check_weights(path: Path, weights: dict[str, Tensor], model: VDVAE) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected | given):
        if expected.get(name) != given.get(name):
            raise InputError(
                f"{path.name} contains the weights of another network: {name!r} does not match",
                given=given.get(name, "no such weight"),
                expected=expected.get(name, "no such weight"),
                todo="pass the `config` with which the network was trained",
            )


def _convolution(inputs: int, outputs: int, size: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.zeros_(cast(Tensor, convolution.bias))
    return convolution


def _scale(convolution: nn.Conv2d, factor: float) -> None:
    with torch.no_grad():
        convolution.weight.mul_(factor)


def _colors(locations: Tensor, couplings: Tensor) -> Tensor:
    """Return colors (image, rgb, mixture, y, x), with green conditional on red and blue on both."""
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
