"""
Your own targets
================

This example adds two pretrained autoencoders to a store as targets: TAEF2 (continuous latents of photographs, which
give a fast preview of a decoded latent) and a VQ-VAE trained on CIFAR-10 (van den Oord et al., 2017, arXiv 1711.00937).
Any network can be added in the same way: write a class that maps images to numbers and describes how it does so.

The weights are not part of neurorecon. Pass the folder that contains them::

    .venv/bin/python analyses/plot_02_own_targets.py ../shared/weights

``taef2/`` is https://github.com/madebyollin/taesd in the layout of diffusers, ``vqvae_cifar10/`` holds
``model_ema_norm_he-et-al.pth`` of https://github.com/swasun/VQ-VAE-Images (both MIT).
"""

# %%
import hashlib
import sys
from functools import cached_property, wraps
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from sklearn.datasets import load_sample_images
from torch import nn

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.features.base import Extractor
from neurorecon.features.images import Preprocessing
from neurorecon.figures import panel, save_figure
from neurorecon.metrics.image import mse
from neurorecon.registry import FEATURES
from neurorecon.testing import check_extractor


# %%
# TAEF2 is small and fast: 32 x 1/8 x 1/8 latents and 2.7 million parameters, distilled from the autoencoder of FLUX.2.
# Its three deepest blocks in the encoder and in the decoder have a branch with a group norm, which diffusers'
# ``AutoencoderTiny`` lacks. The norm divides by the standard deviation over the whole image, so each pixel receives
# information about the strength of a feature elsewhere.
class PooledBlock(AutoencoderTinyBlock):
    """A residual block of ``AutoencoderTiny`` after a branch with a group norm."""

    def __init__(self, channels, activation="relu"):
        super().__init__(channels, channels, activation)
        wide = 4 * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, kernel_size=1, bias=False),
            nn.GroupNorm(4, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, kernel_size=1, bias=False),
        )

    def forward(self, x):
        """Return features of the same shape, (batch, channel, y, x)."""
        return super().forward(x + self.pool(x))


class AutoencoderTinyF2(AutoencoderTiny):
    """diffusers' ``AutoencoderTiny`` with pooled blocks at the lowest resolution of encoder and decoder."""

    # diffusers reads the parameter names from the signature.
    @wraps(AutoencoderTiny.__init__)
    def __init__(self, *args, **options):
        AutoencoderTiny.__init__(self, *args, **options)
        activation = self.config["act_fn"]
        pool_blocks(self.encoder.layers, slice(-self.config["num_encoder_blocks"][-1], None), activation)
        pool_blocks(self.decoder.layers, slice(self.config["num_decoder_blocks"][0]), activation)


def pool_blocks(layers, which, activation):
    """Replace the selected blocks with pooled ones."""
    for place in [place for place, layer in enumerate(layers) if isinstance(layer, AutoencoderTinyBlock)][which]:
        first = next(layer for layer in layers[place].modules() if isinstance(layer, nn.Conv2d))
        with torch.device(first.weight.device):
            layers[place] = PooledBlock(first.in_channels, activation)


# %%
# Everything below needs the weights.
WEIGHTS = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/weights")
OUT = Path(sys.argv[2] if len(sys.argv) > 2 else "results/plot_02_own_targets")
if not (WEIGHTS / "taef2").is_dir() or not (WEIGHTS / "vqvae_cifar10").is_dir():
    print(f"skipped: {WEIGHTS} has no folders taef2 and vqvae_cifar10; pass the folder that contains them")
    sys.exit()


def sha256(path):
    """Return the digest that identifies the weights."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# %%
# A target is computed by a subclass of ``Extractor``. It has a name, says what kind of stimuli it needs, maps a batch
# to float32 values, and describes in ``made_by`` how it does so. Everything that affects the values belongs in
# ``made_by``: a store never mixes targets that were computed differently. ``decode`` is our addition, to view latents.
class Taef2(Extractor):
    """Latents of TAEF2: 32 x 32 x 32 for images of 256 pixels."""

    name = "taef2"
    needs = "images"
    dims = ("channel", "y", "x")
    batch = 16

    def __init__(self, categories=None, *, folder=WEIGHTS / "taef2", size=256):
        super().__init__(categories)
        self.folder = Path(folder)
        self.preprocessing = Preprocessing(size, fit="squeeze", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    @cached_property
    def network(self):
        """The network, loaded when the first batch arrives."""
        return AutoencoderTinyF2.from_pretrained(self.folder, torch_dtype=torch.float32, local_files_only=True).eval()

    @torch.inference_mode()
    def __call__(self, batch):
        """Return the target of a batch, float32, shape (stimulus, channel, y, x)."""
        images = self.preprocessing.normalize(self.preprocessing.prepare(batch.images))
        return self.network.encode(images).latents.numpy()

    def made_by(self):
        """Return how the values are computed."""
        return {
            "model": "TAEF2 (AutoencoderTinyF2)",
            "layer": "latents",
            "weights_sha256": sha256(self.folder / "diffusion_pytorch_model.safetensors"),
            "licence": "MIT",
            "preprocessing": self.preprocessing.describe(),
            "source": "https://github.com/madebyollin/taesd",
        }

    @torch.inference_mode()
    def decode(self, latents):
        """Return images from 0 to 1, shape (stimulus, y, x, rgb)."""
        images = self.network.decode(torch.from_numpy(latents)).sample
        return (images.permute(0, 2, 3, 1).numpy() / 2 + 0.5).clip(0, 1)


# %%
# A network that no library provides has to be written out, exactly as its author did: the ReLU at the start of each
# residual block works in place, so the skip connection carries relu(x), and the convolutions are weight-normalized.
class Residual(nn.Module):
    """A residual block on the rectified input."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(128, 32, 3, padding=1, bias=False)
        self.wide = nn.Conv2d(32, 128, 1, bias=False)

    def forward(self, x):
        """Return features of the same shape."""
        x = x.relu()
        return x + self.wide(self.narrow(x).relu())


class VQVAE(nn.Module):
    """Encoder, codebook of 512 vectors of length 64, decoder; images from -1 to 1, codes at 1/4 of the resolution."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 64, 4, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(64, 128, 4, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(128, 128, 3, padding=1), Residual(), Residual(), nn.ReLU()),
            nn.Conv2d(128, 64, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(64, 128, 3, padding=1), Residual(), Residual(), nn.ReLU()),
            *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.ReLU()),
            nn.ConvTranspose2d(64, 3, 4, stride=2, padding=1),
        )
        self.codebook = nn.Parameter(torch.empty(512, 64))

    def codes(self, images):
        """Return the index of the nearest code at each position, shape (image, y, x)."""
        latents = self.encoder(images).permute(0, 2, 3, 1)
        return torch.cdist(latents.flatten(0, 2), self.codebook).argmin(dim=1).view(latents.shape[:3])

    def vectors(self, codes):
        """Return the codebook vectors of codes, shape (image, 64, y, x)."""
        return self.codebook[codes].permute(0, 3, 1, 2)


def load_vqvae(path):
    """Load the network from the author's file, with the weight normalization folded into the weights."""
    with torch.device("meta"):  # draws no random numbers, so the global generator is unchanged
        network = VQVAE()
    state = torch.load(path, map_location="cpu", weights_only=True)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    # Both lists are in the order of computation; _encoder._conv3 duplicates _encoder._conv_3.
    own = (name.rpartition(".")[0] for name in state if not name.startswith(("_vq_vae.", "_encoder._conv3.")))
    for layer, name in zip(convolutions, dict.fromkeys(own), strict=True):
        weight = state.get(f"{name}.weight")
        if weight is None:
            direction = state[f"{name}.weight_v"]
            weight = state[f"{name}.weight_g"] * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        bias = {} if layer.bias is None else {"bias": state[f"{name}.bias"]}
        layer.load_state_dict({"weight": weight, **bias}, assign=True)
    network.codebook = nn.Parameter(state["_vq_vae._embedding.weight"])
    return network.eval().requires_grad_(False)


class CodesOfCifar10(Extractor):
    """Codebook vectors of a VQ-VAE for images of 32 pixels: 64 x 8 x 8."""

    name = "vqvae_cifar10"
    needs = "images"
    dims = ("channel", "y", "x")

    def __init__(self, categories=None, *, file=WEIGHTS / "vqvae_cifar10" / "model_ema_norm_he-et-al.pth"):
        super().__init__(categories)
        self.file = Path(file)
        self.preprocessing = Preprocessing(32, fit="squeeze", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    @cached_property
    def network(self):
        """The network, loaded when the first batch arrives."""
        return load_vqvae(self.file)

    @torch.inference_mode()
    def __call__(self, batch):
        """Return the target of a batch, float32, shape (stimulus, channel, y, x)."""
        images = self.preprocessing.normalize(self.preprocessing.prepare(batch.images))
        return self.network.vectors(self.network.codes(images)).contiguous().numpy()

    def made_by(self):
        """Return how the values are computed."""
        return {
            "model": "VQ-VAE of CIFAR-10, 512 codes of 64 numbers",
            "layer": "codes, as vectors",
            "weights_sha256": sha256(self.file),
            "licence": "MIT",
            "preprocessing": self.preprocessing.describe(),
            "source": "https://github.com/swasun/VQ-VAE-Images; van den Oord et al. (2017), arXiv 1711.00937",
        }

    @torch.inference_mode()
    def decode(self, vectors):
        """Return images from 0 to 1, shape (stimulus, y, x, rgb)."""
        images = self.network.decoder(torch.from_numpy(vectors))
        return (images.permute(0, 2, 3, 1).numpy() / 2 + 0.5).clip(0, 1)


# %%
# Check that both satisfy the contract of extractors: batches, input types, provenance, pickling.
check_extractor(Taef2(size=64), others=[Taef2()])
check_extractor(CodesOfCifar10())

# %%
# How much of a photograph do the latents preserve? Peak signal-to-noise ratio of the round trip at the networks' sizes.
photographs = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
photographs |= {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}


def round_trip(extractor):
    """Return the photographs, their reconstructions from the targets, and the squared error of each."""
    seen = extractor.preprocessing.prepare(list(photographs.values()))
    reconstructed = extractor.decode(extractor.transform(list(photographs.values())))
    return seen, reconstructed, mse(seen, reconstructed)


extractors = [Taef2(), CodesOfCifar10()]
trips = {extractor.name: round_trip(extractor) for extractor in extractors}
errors = pd.DataFrame({name: error for name, (_, _, error) in trips.items()}, index=list(photographs))
errors.loc["all"] = errors.mean()
psnr = -10 * np.log10(errors)
print(psnr.to_string(float_format="{:.1f} dB".format))

# %%
# Add the targets to a store. Once registered, they can be used like built-in targets within this process. A package
# registers its targets permanently with the entry-point group ``neurorecon.features``.
for kind in (Taef2, CodesOfCifar10):
    FEATURES.register(kind.name, kind)
few = {"subjects": 1, "voxels": 200, "train_images": 4, "test_images": 4, "train_videos": 0, "test_videos": 0}
store = nr.build(Recipe(name="own-targets", reader="scenes", options=few), OUT / "own-targets.icechunk")
store = nr.extract(store, ["taef2", "vqvae_cifar10"])
print(store.targets("taef2"))

# %%
# Decode images from the targets in the store, just as one would decode predictions from the brain.
images = store.images(store.stimuli["id"].tolist()[:8]).values
rows = {"seen": images}
for extractor in extractors:
    latents = store.targets(extractor.name).sel(stimulus=store.stimuli["id"].tolist()[:8]).values
    rows[extractor.name] = extractor.decode(latents)
figure = panel(
    rows,
    title="Images from targets in the store",
    note="Decoded from the stored targets by the networks, not from brain responses.",
)
weights = {extractor.name: extractor.made_by()["weights_sha256"] for extractor in extractors}
settings = {"psnr": psnr.to_dict(), "weights": weights}
record = nr.record_of(store, "analyses/plot_02_own_targets.py", settings=settings)
for path in save_figure(figure, OUT / "round_trip", record):
    print(path)
