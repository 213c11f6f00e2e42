"""
Targets of your own
===================

Two pretrained autoencoders become targets of a store: TAEF2 (continuous latents of photographs, a quick preview of what
a decoded latent looks like) and a VQ-VAE that was trained on CIFAR-10 (van den Oord et al., 2017, arXiv 1711.00937).
Any network goes the same way: a class that turns images into numbers, and says how.

The weights are not part of neurorecon. Give the folder that holds them::

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
# TAEF2 is small and quick: 32 x 1/8 x 1/8 latents, 2.7 million parameters, distilled from the autoencoder of FLUX.2.
# Its three deepest blocks on either side see the whole image through a group norm, a branch that diffusers'
# ``AutoencoderTiny`` lacks. The norm divides by the standard deviation over the whole image, so each pixel learns how
# strong a feature is elsewhere.
class PooledBlock(AutoencoderTinyBlock):
    """A residual block of ``AutoencoderTiny`` behind a branch with a group norm."""

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
    """diffusers' ``AutoencoderTiny`` with pooled blocks at the smallest size of encoder and decoder."""

    # diffusers reads the names of the parameters from the signature.
    @wraps(AutoencoderTiny.__init__)
    def __init__(self, *args, **options):
        AutoencoderTiny.__init__(self, *args, **options)
        activation = self.config["act_fn"]
        pool_blocks(self.encoder.layers, slice(-self.config["num_encoder_blocks"][-1], None), activation)
        pool_blocks(self.decoder.layers, slice(self.config["num_decoder_blocks"][0]), activation)


def pool_blocks(layers, which, activation):
    """Replace some of the blocks by pooled ones."""
    for place in [place for place, layer in enumerate(layers) if isinstance(layer, AutoencoderTinyBlock)][which]:
        first = next(layer for layer in layers[place].modules() if isinstance(layer, nn.Conv2d))
        with torch.device(first.weight.device):
            layers[place] = PooledBlock(first.in_channels, activation)


# %%
# The rest needs the weights.
WEIGHTS = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/weights")
OUT = Path(sys.argv[2] if len(sys.argv) > 2 else "results/plot_02_own_targets")
if not (WEIGHTS / "taef2").is_dir() or not (WEIGHTS / "vqvae_cifar10").is_dir():
    print(f"skipped: no folders taef2 and vqvae_cifar10 in {WEIGHTS}; give the folder that holds them")
    sys.exit()


def sha256(path):
    """Return the digest that says which weights these are."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# %%
# A target is a subclass of ``Extractor``: a name, what it needs, a call that turns a batch into float32 numbers, and
# ``made_by``, which is stored with them. Whatever changes a number belongs into ``made_by``: a store never mixes
# targets that were made differently. ``decode`` is ours, for looking at latents.
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
        """The network, read when the first batch comes."""
        return AutoencoderTinyF2.from_pretrained(self.folder, torch_dtype=torch.float32, local_files_only=True).eval()

    @torch.inference_mode()
    def __call__(self, batch):
        """Return the target of a batch, float32, shape (stimulus, channel, y, x)."""
        images = self.preprocessing.normalize(self.preprocessing.prepare(batch.images))
        return self.network.encode(images).latents.numpy()

    def made_by(self):
        """Return how the numbers come about."""
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
# A network that no library holds is written down once. What its author did decides: the ReLU at the head of each
# residual block works in place, so that the skip carries relu(x), and the convolutions are weight-normalized.
class Residual(nn.Module):
    """Adds what it computes from the rectified input to the rectified input."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Conv2d(128, 32, 3, padding=1, bias=False)
        self.wide = nn.Conv2d(32, 128, 1, bias=False)

    def forward(self, x):
        """Return features of the same shape."""
        x = x.relu()
        return x + self.wide(self.narrow(x).relu())


class VQVAE(nn.Module):
    """Encoder, 512 codes of 64 numbers, decoder; images from -1 to 1, codes at a quarter of their size."""

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
        """Return the index of the code at each place, shape (image, y, x)."""
        latents = self.encoder(images).permute(0, 2, 3, 1)
        return torch.cdist(latents.flatten(0, 2), self.codebook).argmin(dim=1).view(latents.shape[:3])

    def vectors(self, codes):
        """Return the vectors of codes, shape (image, 64, y, x)."""
        return self.codebook[codes].permute(0, 3, 1, 2)


def load_vqvae(path):
    """Return the network from the author's file, weight norm folded into the weights."""
    with torch.device("meta"):  # no random numbers are drawn: those of the caller stay as they are
        network = VQVAE()
    state = torch.load(path, map_location="cpu", weights_only=True)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    # Both lists are in the order of the computation; _encoder._conv3 is _encoder._conv_3 once more.
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
    """Vectors of the codes that a VQ-VAE gives images of 32 pixels: 64 x 8 x 8."""

    name = "vqvae_cifar10"
    needs = "images"
    dims = ("channel", "y", "x")

    def __init__(self, categories=None, *, file=WEIGHTS / "vqvae_cifar10" / "model_ema_norm_he-et-al.pth"):
        super().__init__(categories)
        self.file = Path(file)
        self.preprocessing = Preprocessing(32, fit="squeeze", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    @cached_property
    def network(self):
        """The network, read when the first batch comes."""
        return load_vqvae(self.file)

    @torch.inference_mode()
    def __call__(self, batch):
        """Return the target of a batch, float32, shape (stimulus, channel, y, x)."""
        images = self.preprocessing.normalize(self.preprocessing.prepare(batch.images))
        return self.network.vectors(self.network.codes(images)).contiguous().numpy()

    def made_by(self):
        """Return how the numbers come about."""
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
# Do they keep the contract of all extractors? Batches, input types, provenance, pickling: an error says what is wrong.
check_extractor(Taef2(size=64), others=[Taef2()])
check_extractor(CodesOfCifar10())

# %%
# What do the latents keep of photographs? Peak signal-to-noise ratio of the round trip, at the networks' own sizes.
photographs = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
photographs |= {name: getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}


def round_trip(extractor):
    """Return photographs, what their targets decode to, and the squared error of each."""
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
# Into a store: registered under their names, they are targets like all others, on the command line of this process
# too. A package registers its own for everybody with the entry-point group ``neurorecon.features``.
for kind in (Taef2, CodesOfCifar10):
    FEATURES.register(kind.name, kind)
few = {"subjects": 1, "voxels": 200, "train_images": 4, "test_images": 4, "train_films": 0, "test_films": 0}
store = nr.build(Recipe(name="own-targets", reader="scenes", options=few), OUT / "own-targets.icechunk")
store = nr.extract(store, ["taef2", "vqvae_cifar10"])
print(store.targets("taef2"))

# %%
# Back from the store to images, as after decoding from the brain.
images = store.images(store.stimuli["id"].tolist()[:8]).values
rows = {"seen": images}
for extractor in extractors:
    latents = store.targets(extractor.name).sel(stimulus=store.stimuli["id"].tolist()[:8]).values
    rows[extractor.name] = extractor.decode(latents)
figure = panel(rows, title="Images from targets in the store", note="No brain is involved: decoders of the networks.")
weights = {extractor.name: extractor.made_by()["weights_sha256"] for extractor in extractors}
settings = {"psnr": psnr.to_dict(), "weights": weights}
record = nr.record_of(store, "analyses/plot_02_own_targets.py", settings=settings)
for path in save_figure(figure, OUT / "round_trip", record):
    print(path)
