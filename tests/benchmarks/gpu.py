"""What a GPU gives, in at most 8 minutes: the fit of a system to a subject of NSD, and images a second.

    python tests/benchmarks/gpu.py                                             # on a GPU
    python tests/benchmarks/gpu.py --device cpu --dtype float32 --small        # that all of it runs

Networks have the published configurations and random weights, which are drawn on the device, so nothing is downloaded
or read. Each row is printed as soon as it is there: time, operations, the share of the device's peak, memory. The peak
is that of a product of two large matrices in the same precision and run. Parts for which no time is left are named.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.generators import image_prompt
from neurorecon.generators.image_prompt import PromptedNetworks
from neurorecon.generators.latent_diffusion import LatentDiffusion, NetworkFiles, Networks
from neurorecon.generators.video import VideoDiffusion
from neurorecon.models.dual_guided import DualGuidedUNet
from neurorecon.models.load import AutoencoderSettings

#: Images, voxels, and targets of a subject of NSD in brain-diffuser.
IMAGES, VOXELS, NEW = 8859, 15_724, 982
TARGETS = {"vdvae": (91_168,), "clip_vision": (257, 768), "clip_text": (77, 768)}

FRAMES = 8

_SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False,
}  # fmt: skip
_SD = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
_SDXL = {
    **image_prompt.UNCLIP,
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}
_KANDINSKY = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 8,
    "block_out_channels": (384, 768, 1152, 1536),
    "layers_per_block": 3,
    "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "addition_embed_type": "image",
    "encoder_hid_dim": 1280,
    "encoder_hid_dim_type": "image_proj",
    "cross_attention_dim": 768,
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
}
_VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_MOVQ = {
    "_class_name": "VQModel",
    "block_out_channels": (128, 256, 256, 512),
    "down_block_types": (*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_type": "spatial",
    "num_vq_embeddings": 16_384,
    "vq_embed_dim": 4,
}

#: Of each row: the class of generators, UNet, autoencoder, contexts of one stimulus, steps, guidance, images at a time.
_Row = tuple[Any, Mapping[str, Any], Mapping[str, Any], Mapping[str, tuple[int, ...]], int, float, int]
ROWS: dict[str, _Row] = {
    "text-diffusion (takagi, mind-diffuser)": (LatentDiffusion, _SD, _VAE, {"text": (77, 768)}, 50, 7.5, 8),
    "dual-diffusion (brain-diffuser)": (
        LatentDiffusion, _SD, _VAE, {"text": (77, 768), "image": (257, 768)}, 50, 7.5, 8,
    ),
    "video-diffusion (mind-animator), a clip": (VideoDiffusion, _SD, _VAE, {"text": (20, 768)}, 50, 12.5, 2),
    "sd15-ip-adapter": (image_prompt.IPAdapter, _SD, _VAE, {"text": (77, 768), "image": (1024,)}, 50, 7.5, 8),
    "kandinsky-2.2": (image_prompt.Kandinsky, _KANDINSKY, _MOVQ, {"image": (1280,)}, 50, 4.0, 8),
    "sdxl-ip-adapter": (
        image_prompt.SdxlIPAdapter, _SDXL, _VAE, {"text": (77, 2048), "image": (1280,), "pooled": (1280,)}, 50, 5.0, 4,
    ),
    "sdxl-unclip": (image_prompt.SdxlUnclip, image_prompt.UNCLIP, _VAE, {"image": (256, 1664)}, 38, 5.0, 4),
}  # fmt: skip


# -- networks ---------------------------------------------------------------------------------------------------------


def smaller(unet: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configurations of the same layers with few channels, for images of 64 pixels."""
    heads = unet["attention_head_dim"]
    small = {
        **unet,
        "sample_size": 8,
        "block_out_channels": tuple(32 * (1 + (width > 400)) for width in unet["block_out_channels"]),
        "attention_head_dim": tuple(min(head, 4) for head in heads) if np.ndim(heads) else 4,
        "layers_per_block": 1,
    }
    if "transformer_layers_per_block" in unet:
        small["transformer_layers_per_block"] = 1
    widths = tuple(32 for _ in autoencoder["block_out_channels"])
    return small, {**autoencoder, "block_out_channels": widths, "layers_per_block": 1}


def generator_of(row: _Row, device: str, dtype: str, small: bool) -> LatentDiffusion:
    """Return a generator with random weights, which it does not look for in files."""
    import diffusers

    kind, unet, autoencoder, contexts, steps, guidance, batch = row
    if small:
        unet, autoencoder = smaller(unet, autoencoder)
    own: Any = {key: value for key, value in autoencoder.items() if key != "_class_name"}
    precision = getattr(torch, dtype)
    with torch.device(device), torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = diffusers.UNet2DConditionModel(**unet)
        decoder = getattr(diffusers, autoencoder["_class_name"])(**own)
        drawn = {name: torch.randn(1, *shape) for name, shape in contexts.items()}
        if issubclass(kind, image_prompt.IPAdapter):
            _add_adapter(network, contexts["image"][0])
        elif kind is LatentDiffusion and "image" in contexts:
            network = DualGuidedUNet.from_text_unet(network, contexts["image"][1], share=True)
    network = torch.nn.Module.to(network, dtype=precision).requires_grad_(False).eval()
    decoder.requires_grad_(False).eval()
    files = NetworkFiles(
        dual="image" in contexts,
        diffusion=None,
        base_sha256=(),
        autoencoder=AutoencoderSettings(None, autoencoder["_class_name"], dict(autoencoder)),
        schedule=_SCHEDULE,
        text_width=unet["cross_attention_dim"],
        image_width=768,
        latent_shape=(4, unet["sample_size"], unet["sample_size"]),
    )
    if issubclass(kind, image_prompt.ImagePromptDiffusion):
        networks: Any = PromptedNetworks(network, decoder, drawn, drawn, precision)
    else:
        networks = Networks(network, decoder, {name: value.to(precision) for name, value in drawn.items()}, precision)
    shapes = {**contexts, "init": (None, None, 3), "latents": files.latent_shape}
    more: dict[str, Any] = {"guidance": guidance, "steps": 2 if small else steps, "strength": 1.0}
    if kind is LatentDiffusion:
        more["condition"] = "both" if "image" in contexts else "text"
    if kind is VideoDiffusion:
        networks = _inflated(networks)
        shapes["latents"] = (FRAMES, *files.latent_shape)
        more |= {"frames": FRAMES, "invert": False}
    made = type(kind.__name__, (kind,), {"_files": files, "loaded": networks, "conditions": shapes})
    found: LatentDiffusion = made(device=device, dtype=dtype, batch_size=batch, **more)
    return found


def _add_adapter(unet: Any, width: int) -> None:
    """Add an IP-Adapter with random weights for image embeddings of a width."""
    inner = unet.config.cross_attention_dim
    projection = {
        "proj.weight": torch.randn(4 * inner, width) / width**0.5,
        "proj.bias": torch.zeros(4 * inner),
        "norm.weight": torch.ones(inner),
        "norm.bias": torch.zeros(inner),
    }
    adapter = {}
    crossing = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossing):
        rows = unet.get_submodule(name).to_k.out_features
        for part in "kv":
            adapter[f"{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(rows, inner) / inner**0.5
    groups = {"image_proj": projection, "ip_adapter": adapter}
    logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)  # it warns of modules, and names none
    image_prompt._adapted(unet).load_ip_adapter(groups, subfolder="", weight_name="", image_encoder_folder=None)


def _inflated(networks: Networks) -> Networks:
    from neurorecon.generators.video import SparseCausalAttention

    layers = networks.layers
    layers.set_attn_processor({
        name: SparseCausalAttention(FRAMES) if name.endswith("attn1.processor") else processor
        for name, processor in layers.attn_processors.items()
    })  # fmt: skip
    return networks


# -- measuring --------------------------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """Return the time of a call, to the end of what it started on the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_of_products(device: str, dtype: str) -> float:
    """Return operations a second in the product of two large matrices."""
    size = 8192 if device.startswith("cuda") else 1024
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    return 2 * size**3 / min(seconds_of(lambda: matrix @ matrix, device) for _ in range(8))


def operations(work: Callable[[], Any]) -> int:
    """Return the floating-point operations of a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def memory(device: str) -> str:
    """Return the largest memory of the device since the last reset."""
    if device.startswith("cuda"):
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    return "not measured"


def measured_generators(device: str, dtype: str, small: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each row, and what measures it."""
    for name, row in ROWS.items():
        yield name, lambda row=row: _of_generator(row, device, dtype, small)


def _of_generator(row: _Row, device: str, dtype: str, small: bool) -> str:
    generator = generator_of(row, device, dtype, small)
    batch, random = row[-1], np.random.default_rng(0)
    stimuli = [str(number) for number in range(batch)]
    given = {name: random.standard_normal((batch, *shape)).astype(np.float32) for name, shape in row[3].items()}
    steps = generator.steps
    generator.set_params(steps=1)
    once = operations(lambda: generator.generate(stimuli, given))  # also lets the libraries choose their ways
    generator.set_params(steps=2)
    twice = operations(lambda: generator.generate(stimuli, given))
    work = once + (steps - 1) * (twice - once)
    generator.set_params(steps=steps)
    taken = seconds_of(lambda: generator.generate(stimuli, given), device)
    share = work / taken / peak_of_products(device, dtype)
    side = generator.image_shape[-2]
    return (
        f"{side} px, {steps} steps, {batch} at a time | {batch / taken:.3g} a second | {work / batch / 1e12:.3g} TFLOP "
        f"each | {share:.0%} | {memory(device)}"
    )


def fit_of_nsd(device: str, small: bool) -> str:
    """Fit brain-diffuser's decoders to random responses in the size of NSD, and decode its test images."""
    import dask.array
    import xarray

    images, voxels, new = (300, 200, 20) if small else (IMAGES, VOXELS, NEW)
    random = np.random.default_rng(0)
    responses = random.standard_normal((images, voxels), dtype=np.float32)
    stimuli = [f"image{number:05d}" for number in range(images)]
    block = random.standard_normal((images, 768), dtype=np.float32)  # the same numbers again: drawing takes minutes
    targets = {}
    for name, shape in TARGETS.items():
        shape = (min(shape[0], 8), *shape[1:]) if small else shape
        token = dask.array.from_array(block, chunks=-1)
        if len(shape) > 1:
            values = dask.array.stack([token] * shape[0], axis=1)
        else:
            values = dask.array.concatenate([token] * -(-shape[0] // 768), axis=1)[:, : shape[0]]
        dims = ("stimulus", *(("token", "channel") if len(shape) > 1 else ("feature",)))
        targets[name] = xarray.DataArray(values, dims=dims, coords={"stimulus": stimuli})
    table = pd.DataFrame({"stimulus": stimuli, "session": 1, "run": 1})
    train = Recordings(None, "subj01", "images", None, responses, table, np.arange(voxels), _targets=targets)
    system = nr.load_system("brain-diffuser", preset="released", device=device)
    taken = seconds_of(lambda: system.fit_decode(None, "subj01", responses[:new], samples=train), device)
    features = sum(int(np.prod(values.shape[1:])) for values in targets.values())
    # One Gram matrix, one eigendecomposition, and the products with the targets: the floor of the arithmetic.
    floor = images**2 * voxels + 9 * images**3 + 2 * new * images * features
    share = floor / taken / peak_of_products(device, "float32")
    return (
        f"{images:,} images, {voxels:,} voxels, {features:,} features of {new} images | {taken:.0f} s | "
        f"{floor / 1e12:.3g} TFLOP | {share:.0%} of float32 | {memory(device)}"
    )


def main() -> None:
    """Measure what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins when less than one is left")
    parser.add_argument("--small", action="store_true", help="few channels, for a trial without a GPU")
    asked = parser.parse_args()
    begin = time.perf_counter()
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(f"{asked.device} ({name}), {asked.dtype}: {peak_of_products(asked.device, asked.dtype) / 1e12:.3g} TFLOP/s")
    print("| what | size | speed | operations | share of the peak | memory |\n|---|---|---|---|---|---|")
    parts = [
        ("fit and decode", lambda: fit_of_nsd(asked.device, asked.small)),
        *measured_generators(asked.device, asked.dtype, asked.small),
    ]
    for number, (what, measure) in enumerate(parts):
        if time.perf_counter() - begin > 60 * (asked.minutes - 1):
            print(f"no time left for: {', '.join(name for name, _ in parts[number:])}")
            break
        if asked.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        print(f"| {what} | {measure()} |", flush=True)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
