"""How quickly targets are extracted, and in how much memory. Run by ``make bench``; asserts nothing.

The networks have the sizes of the published ones and random weights: neither speed nor memory depends on them. What is
compared is measured in turns, so that a busy machine slows both sides; a row gives the median of the ratios. On a
graphics card, or with other numbers of images::

    python tests/benchmarks/test_extraction.py --device cuda --images 512 --batch 64
    python tests/benchmarks/test_extraction.py --only speed --networks clip_vision --precisions float32
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.features.autoencoder import VqvaeExtractor
from neurorecon.features.base import StimulusBatch
from neurorecon.features.clip import ClipVisionExtractor
from neurorecon.features.vdvae import VdvaeExtractor
from neurorecon.models.clip import CLIP_MEAN, CLIP_STD, ClipSettings
from neurorecon.models.load import AutoencoderSettings, WeightsSource
from neurorecon.parallel import choose_device
from neurorecon.registry import DATASETS
from neurorecon.testing.miniature import MiniatureReader

pytestmark = pytest.mark.benchmark

RANDOM = WeightsSource("benchmark", Path(), "random", "0" * 64, "none", "none")

#: diffusers' AutoencoderKL with the sizes of Stable Diffusion v1-4.
SD_AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}

#: Side of the images in the stores.
SIDE = 256


# -- networks of the published sizes ------------------------------------------------------------------------------


class _Clip(ClipVisionExtractor):
    """CLIP's vision tower; the text tower, which it does not use, is next to nothing."""

    source = RANDOM
    config = "ViT-L-14-quickgelu"

    @cached_property
    def settings(self):
        import open_clip

        sizes = dict(open_clip.get_model_config(self.config))
        sizes["text_cfg"] = {**sizes["text_cfg"], "width": 64, "heads": 1, "layers": 1, "vocab_size": 64}
        return ClipSettings(RANDOM, sizes, sizes["vision_cfg"]["image_size"], CLIP_MEAN, CLIP_STD)

    def load(self, device):
        from open_clip.model import CLIP

        return CLIP(**self.settings.network).eval().requires_grad_(False).to(device)

    def ready(self, prepared, device):
        return self.preprocessing.normalize(prepared, device)

    def bare(self, images):
        return self.network.visual(images)


class _SmallClip(_Clip):
    """ViT-B/32, a twentieth of the work."""

    config = "ViT-B-32-quickgelu"


class _Autoencoder(VqvaeExtractor):
    """The encoder of Stable Diffusion v1-4 at 512 pixels."""

    source = RANDOM
    settings = AutoencoderSettings(RANDOM, "AutoencoderKL", {**SD_AUTOENCODER, "scaling_factor": 0.18215})

    def load(self, device):
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        network = AutoencoderKL(**SD_AUTOENCODER)
        network.decoder = None
        return network.eval().requires_grad_(False).to(device)

    def ready(self, prepared, device):
        return self.preprocessing.normalize(prepared.images[:, 0], device)

    def bare(self, images):
        return self.network.encode(images).latent_dist.mean


class _Vdvae(VdvaeExtractor):
    """VDVAE imagenet64: encoder, and the decoder as far as 31 groups need it."""

    source = RANDOM

    @cached_property
    def config(self):
        from neurorecon.models.vdvae import IMAGENET64

        return IMAGENET64

    def load(self, device):
        from neurorecon.models.vdvae import VDVAE

        return VDVAE(self.config).eval().requires_grad_(False).to(device)

    def ready(self, prepared, device):
        import torch

        return torch.from_numpy(prepared.images).permute(0, 3, 1, 2).to(device)

    def bare(self, images):
        return self.network.encode(images, groups=self.groups)


NETWORKS = {
    "clip_vision": (_Clip, "CLIP ViT-L/14, 224 px"),
    "clip_small": (_SmallClip, "CLIP ViT-B/32, 224 px"),
    "vqvae": (_Autoencoder, "autoencoder of SD v1-4, 512 px"),
    "vdvae": (_Vdvae, "VDVAE imagenet64, 31 groups"),
}

#: Images at a time on a CPU; on a graphics card what the extractors choose.
CPU_BATCH = {"clip_vision": 4, "clip_small": 16, "vqvae": 1, "vdvae": 4}


# -- measuring ----------------------------------------------------------------------------------------------------


def _seconds(function, device):
    """Return the time of one call, to the end of what it started on the device."""
    import torch

    start = time.perf_counter()
    function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_of_products(device, precision, size=None):
    """Return floating-point operations per second in the product of two large matrices: what the device can do."""
    import torch

    size = size or (8192 if device.startswith("cuda") else 1024)
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    with torch.inference_mode():
        taken = [_seconds(lambda: matrix @ matrix, device) for _ in range(8)]
    return 2 * size**3 / min(taken)


def operations(extractor, images):
    """Return the floating-point operations of the bare network for a batch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused attention is not counted
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            extractor.bare(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


def images_like_photographs(number, side=SIDE, seed=0):
    """Return random images, uint8, smooth enough to be resampled like photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


def batch_of(images):
    """Return images as extractors take them."""
    return StimulusBatch(pd.DataFrame({"id": [str(number) for number in range(len(images))]}), images=images)


class RandomImages(MiniatureReader):
    """A data set of as many images of 256 pixels as are asked for."""

    name = "random_images"

    def image_shape(self):
        return (SIDE, SIDE, 3)

    def read_images(self, start, stop):
        return np.concatenate([images_like_photographs(1, seed=number) for number in range(start, stop)])


def store_of(number, folder):
    """Build a store of images."""
    DATASETS.register(RandomImages.name, RandomImages)
    options = {"subjects": 1, "images": number, "videos": 0, "voxels": 8}
    recipe = Recipe(name=f"images{number}", reader=RandomImages.name, options=options)
    return nr.build(recipe, Path(folder) / f"images{number}.icechunk", progress=False)


# -- what is measured ---------------------------------------------------------------------------------------------


def speed(name, device, precision, batch=None, seconds=10.0):
    """Print images per second of a network of full size, and the share of the device's peak."""
    import torch

    batch = batch or (CPU_BATCH[name] if device == "cpu" else None)
    kind, what = NETWORKS[name]
    extractor = kind(device=device, precision=precision)
    batch = batch or extractor.batch
    prepared = extractor.prepare(batch_of(images_like_photographs(batch)))
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    extractor.compute(prepared)  # loads the network, and lets the libraries choose their ways
    work = operations(extractor, extractor.ready(prepared, device)) / batch
    taken, peaks = [], []
    while not taken or (sum(taken) < seconds and len(taken) < 50):
        # A CPU without bfloat16 instructions multiplies such numbers far more slowly: its peak is that of float32.
        peaks += [peak_of_products(device, one) for one in {precision, "float32"}]
        taken.append(_seconds(lambda: extractor.compute(prepared), device))
    rate, peak = batch / statistics.median(taken), max(peaks)
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.startswith("cuda") else ""
    print(
        f"\n| {what} | {device}, {precision}, {batch} at a time{memory} | {rate:.3g} images/s | "
        f"{work / 1e9:.3g} GFLOP an image | {rate * work / peak:.0%} of {peak / 1e12:.3g} TFLOP/s |"
    )


def overhead(name, device, precision, store, batch=None, rounds=5):
    """Print the time of an extraction beside that of the bare network on tensors that lie ready."""
    import torch

    kind, what = NETWORKS[name]
    extractor = kind(device=device, precision=precision)
    batch = batch or (CPU_BATCH[name] if device == "cpu" else extractor.batch)
    ids = store.stimuli["id"].tolist()
    ready = []
    for start in range(0, len(ids), batch):
        part = store.images(ids[start : start + batch]).values
        ready.append(extractor.ready(extractor.prepare(batch_of(part)), device))

    def bare():
        mixed = precision != "float32"
        kind_of = device.partition(":")[0]
        with torch.inference_mode(), torch.autocast(kind_of, getattr(torch, precision) if mixed else None, mixed):
            for images in ready:
                extractor.bare(images)

    def whole():
        nr.extract(store, extractor, batch=batch, overwrite=True, progress=False)

    def other():
        extractor.version = 3 - extractor.version  # so that it has to be computed again

    extractor.version = 1
    whole()
    bare()
    ratios, ours, theirs = [], [], []
    for _ in range(rounds):
        other()
        ours.append(_seconds(whole, device))
        theirs.append(_seconds(bare, device))
        ratios.append(ours[-1] / theirs[-1])
    print(
        f"\n| extraction of {len(ids)} images, {what}, {device}, {precision} | {statistics.median(ours):.2f} s | "
        f"{statistics.median(theirs):.2f} s | the bare network on ready tensors | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) |"
    )
    return statistics.median(ratios)


def memory(target, numbers, folder):
    """Print the largest memory of extractions from stores of different sizes, as the operating system counts it."""
    folder = Path(folder)
    models = folder / "models"
    if not models.exists():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        tiny = {**SD_AUTOENCODER, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "sample_size": 128}
        AutoencoderKL(**tiny).save_pretrained(models / "autoencoder")
    found = []
    for number in numbers:
        store = store_of(number, folder)
        command = [sys.executable, __file__, "--child", store.location, target, str(models)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
        found.append([float(value) for value in output.stdout.split()[-2:]])
    for number, (before, peak) in zip(numbers, found, strict=True):
        values = number * SIDE**2 * 3 / 2**20
        print(f"\n| {target}: {number} images ({values:.0f} MiB) | {peak:.0f} MiB | {before:.0f} MiB before | | |")
    first, last = found[0][1], found[-1][1]
    print(f"\n| {target}: {numbers[-1] / numbers[0]:g} times the images | | | | {last / first:.2f} times the memory |")
    return last / first


def _child(location, target, models):
    """Extract in a process of its own, and say how much memory it took, in MiB."""
    store = nr.open_store(location)
    settings = {"models": models} if target == "vqvae" else {}
    if settings:
        import diffusers.models.autoencoders.autoencoder_kl  # noqa: F401  (counts as "before")
    store.images(store.stimuli["id"].tolist()[:2]).values  # noqa: B018
    before = _largest_memory(forget=True)
    nr.extract(store, target, progress=False, overwrite=True, **settings)
    print(before, _largest_memory())


def _largest_memory(forget=False):
    """Return the largest resident memory of this process so far, in MiB; Linux can be asked to count anew."""
    if forget and Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


# -- as tests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("extraction")


def test_overhead(folder):
    overhead("clip_small", choose_device(), "float32", store_of(64, folder), rounds=3)


@pytest.mark.parametrize("target", ["gabor", "vqvae"])
def test_memory(folder, target):
    memory(target, (512, 2048), folder)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["clip_vision", "vqvae", "vdvae"])
def test_networks_of_full_size(name, precision):
    speed(name, choose_device(), precision)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1; by default a graphics card if there is one")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--networks", nargs="+", default=["clip_vision", "vqvae", "vdvae"], choices=list(NETWORKS))
    parser.add_argument("--only", nargs="+", default=["speed", "overhead", "memory"])
    parser.add_argument("--images", type=int, default=None, help="in the store of which the overhead is measured")
    parser.add_argument("--memory-images", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="spent on each network of full size")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(*chosen.child)
        return
    device = choose_device(chosen.device)
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in chosen.only:
            for name in chosen.networks:
                for precision in chosen.precisions:
                    speed(name, device, precision, chosen.batch, chosen.seconds)
        if "overhead" in chosen.only:
            names = ["clip_small"] if device == "cpu" else chosen.networks
            for name in names:
                for precision in ["float32"] if device == "cpu" else chosen.precisions:
                    store = store_of(chosen.images or 64, folder)
                    overhead(name, device, precision, store, chosen.batch, chosen.rounds)
        if "memory" in chosen.only:
            for target in ("gabor", "vqvae"):
                memory(target, chosen.memory_images, folder)


if __name__ == "__main__":
    main()
