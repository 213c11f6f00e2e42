"""Configuration of a VDVAE: blocks, channels, groups of latents. It does not import torch, so it loads quickly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from neurorecon.errors import InputError


class Layer(NamedTuple):
    """One block: its resolution, the factor by which it shrinks, or the resolution from which it grows."""

    resolution: int
    shrink: int | None = None
    grow_from: int | None = None


def _two_numbers(entry: str, separator: str) -> tuple[int, int]:
    try:
        first, second = map(int, entry.split(separator))
    except ValueError:
        raise InputError(
            "cannot parse the configuration of a VDVAE",
            given=repr(entry),
            expected="blocks such as 32x20, 32d2, 32m16 or 32, widths such as 32:64",
        ) from None
    return first, second


def _parse_blocks(blocks: str) -> list[Layer]:
    layers: list[Layer] = []
    for entry in blocks.split(","):
        kind = next((letter for letter in "dmx" if letter in entry), "x")
        resolution, number = _two_numbers(entry if kind in entry else f"{entry}x1", kind)
        if kind == "d":
            layers.append(Layer(resolution, shrink=number))
        elif kind == "m":
            layers.append(Layer(resolution, grow_from=number))
        else:
            layers += [Layer(resolution)] * number
    return layers


@dataclass(frozen=True)
class VDVAEConfig:
    """Configuration of a VDVAE; the defaults are those of the published imagenet64 network.

    Parameters
    ----------
    image_size : int
        Pixels per side.
    width : int
        Default number of channels; always that at `image_size`.
    z_dim : int
        Number of channels of each group of latents.
    bottleneck_multiple : float
        Number of channels inside a block, relative to outside.
    encoder_blocks, decoder_blocks : str
        Blocks in order: ``"32x20"`` means 20 blocks at 32 x 32, ``"32d2"`` one that halves the resolution,
        ``"32m16"`` one that starts from the upsampled state at 16 x 16.
    custom_widths : str
        Number of channels by resolution, e.g. ``"16:96,8:128"``. It must not increase with the resolution.
    no_bias_above : int
        Largest resolution at which the decoder starts from a learned bias instead of zeros.
    num_mixtures : int
        Number of logistic distributions in the mixture of each pixel.
    input_mean, input_std : float
        Mean and standard deviation of the training images, on the scale 0..255.

    Raises
    ------
    InputError
        If blocks or widths are inconsistent.
    """

    image_size: int = 64
    width: int = 512
    z_dim: int = 16
    bottleneck_multiple: float = 0.25
    encoder_blocks: str = "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5"
    decoder_blocks: str = "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12"
    custom_widths: str = ""
    no_bias_above: int = 64
    num_mixtures: int = 10
    input_mean: float = 115.92961967
    input_std: float = 69.37404

    def __post_init__(self) -> None:
        """Check that blocks and widths are consistent."""
        resolution = self.image_size
        described = {resolution}
        for layer in self.encoder_layers:
            if layer.resolution != resolution:
                raise InputError("the resolutions of the encoder blocks do not match", given=self.encoder_blocks)
            resolution //= layer.shrink or 1
            described.add(resolution)
        decoded: set[int] = set()
        for layer in self.decoder_layers:
            if layer.resolution not in described or layer.grow_from not in {None, *decoded}:
                raise InputError(
                    "decoder blocks must use resolutions of the encoder and grow from earlier ones of the decoder",
                    given=f"{layer.resolution} from {layer.grow_from} in {self.decoder_blocks!r}",
                    expected=f"resolutions among {sorted(described)}",
                )
            decoded.add(layer.resolution)
        by_resolution = [self.widths[resolution] for resolution in sorted(self.widths, reverse=True)]
        if self.image_size != max(decoded) or by_resolution != sorted(by_resolution) or by_resolution[0] != self.width:
            raise InputError(
                "a VDVAE must end at the image size with `width` channels, and have no fewer at lower resolutions",
                given=self.widths,
                expected=f"{self.width} channels at {self.image_size} pixels",
            )

    @cached_property
    def encoder_layers(self) -> list[Layer]:
        """Blocks of the encoder."""
        return _parse_blocks(self.encoder_blocks)

    @cached_property
    def decoder_layers(self) -> list[Layer]:
        """Blocks of the decoder; each has one group of latents."""
        return _parse_blocks(self.decoder_blocks)

    @cached_property
    def widths(self) -> dict[int, int]:
        """Number of channels at each resolution."""
        custom = dict(_two_numbers(entry, ":") for entry in self.custom_widths.split(",") if entry)
        resolutions = {layer.resolution for layer in self.encoder_layers + self.decoder_layers}
        return {resolution: custom.get(resolution, self.width) for resolution in resolutions}

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VDVAEConfig:
        """Return the configuration from the output of :meth:`to_dict`."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise InputError("unknown parameters of a VDVAE", given=sorted(unknown), expected=sorted(known))
        return cls(**values)


#: The published network: 125 million parameters, 75 groups.
IMAGENET64 = VDVAEConfig()

#: A small network that can be trained on two CPU cores, with most blocks and channels at low resolutions.
SMALL = VDVAEConfig(
    width=16,
    z_dim=8,
    encoder_blocks="64x1,64d2,32x1,32d2,16x2,16d2,8x2,8d2,4x2,4d4,1x1",
    decoder_blocks="1x1,4m1,4x2,8m4,8x4,16m8,16x4,32m16,32x1,64m32",
    custom_widths="32:48,16:96,8:160,4:256,1:256",
    num_mixtures=3,
)
