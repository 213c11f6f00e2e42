"""Systems in published size: 8,859 images, 15,724 voxels, all targets, networks with random weights.

    pytest -m benchmark -s tests/benchmarks/test_published_sizes.py
    pytest -m benchmark -s tests/benchmarks/test_published_sizes.py --basetemp=DIR     # where 4 GB are free

Two images, a few steps. What is measured: shapes, time and peak memory of decoding and of generation. The matrix of
weights of the vision tokens alone would take 12.4 GB; a process that formed it would exceed the limit below. On a GPU
set ``NEURORECON_DEVICE=cuda`` and ``NEURORECON_DTYPE=bfloat16``; ``NEURORECON_STEPS`` is 50 in the paper.
"""

from __future__ import annotations

import json
import os
import resource
import time

import numpy as np
import pandas as pd
import pytest

IMAGES, VOXELS, NEW = int(os.environ.get("NEURORECON_IMAGES", "8859")), 15_724, 2
TARGETS = {"vdvae": (91_168,), "clip_vision": (257, 768), "clip_text": (77, 768)}
STEPS = int(os.environ.get("NEURORECON_STEPS", "5"))
DEVICE, DTYPE = os.environ.get("NEURORECON_DEVICE", "cpu"), os.environ.get("NEURORECON_DTYPE", "float32")


def peak():
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@pytest.mark.benchmark
def test_decoding():
    import dask.array
    import xarray

    import neurorecon as nr
    from neurorecon.decoders.samples import Recordings

    random = np.random.default_rng(0)
    responses = random.standard_normal((IMAGES, VOXELS), dtype=np.float32)
    stimuli = [f"image{number:05d}" for number in range(IMAGES)]
    targets = {}
    for name, shape in TARGETS.items():
        values = dask.array.random.default_rng(1).standard_normal(
            (IMAGES, *shape), dtype=np.float32, chunks=(IMAGES, *([1] if len(shape) > 1 else []), 768)
        )
        dims = ("stimulus", *(("token", "channel") if len(shape) > 1 else ("feature",)))
        targets[name] = xarray.DataArray(values, dims=dims, coords={"stimulus": stimuli})
    table = pd.DataFrame({"stimulus": stimuli, "session": 1, "run": 1})
    train = Recordings(None, "subj01", "images", None, responses, table, np.arange(VOXELS), _targets=targets)
    begin, before = time.perf_counter(), peak()
    system = nr.load_system("brain-diffuser", preset="released", device="cpu", dtype=DTYPE)
    decoded = system.fit_decode(None, "subj01", responses[:NEW], samples=train)
    seconds = time.perf_counter() - begin
    for name, shape in TARGETS.items():
        assert decoded[name].shape == (NEW, *shape)
    # One Gram matrix, one factorization, and three products: the floor of the arithmetic.
    features = sum(int(np.prod(shape)) for shape in TARGETS.values())
    floor = IMAGES**2 * VOXELS + 9 * IMAGES**3 + 2 * NEW * IMAGES * features
    print(
        f"decoding {features:,} features of {NEW} images from {IMAGES:,}: {seconds:.0f} s, peak {peak():.1f} GB "
        f"({before:.1f} GB with the responses alone), floor {floor / 1e12:.1f} TFLOP"
    )
    assert peak() < 12


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Versatile Diffusion and the autoencoder in published size, in half precision, laid out as published."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from safetensors.torch import save_file

    from neurorecon.hub.catalog import BUNDLED
    from neurorecon.models.dual_guided import DualGuidedUNet

    root = tmp_path_factory.mktemp("published")
    folder = root / "dual_diffusion"
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    }
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        text = DualGuidedUNet.from_text_unet(UNet2DConditionModel.from_config(config), 768).image_branch_state_dict()
    generator = torch.Generator().manual_seed(0)

    def write(state, place, settings):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(settings))
        drawn = {
            name: (torch.ones if name.endswith("norm.weight") else torch.zeros)(value.shape, dtype=torch.float16)
            if value.ndim < 2
            else (torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5).half()
            for name, value in state.items()
        }
        save_file(drawn, place / "diffusion_pytorch_model.safetensors")

    write(unet.state_dict(), folder / "image_unet", config)
    write(text, folder / "text_unet", {"cross_attention_dim": 768})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        ).save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    (root / "vdvae").symlink_to(BUNDLED / "vdvae")  # its published size has tests of its own
    _write_clip(root / "clip")
    return root


def _write_clip(folder):
    """Write a random CLIP with the widths of ViT-L/14, of two layers: it only makes the contexts of nothing."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    from neurorecon.hub.catalog import BUNDLED

    config = {
        "embed_dim": 768,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 1024, "patch_size": 14},
        "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 768, "heads": 12, "layers": 2},
    }
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(CLIP(**config).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.txt").write_text((BUNDLED / "clip" / "vocabulary.txt").read_text())


@pytest.mark.benchmark
def test_generation(weights):
    from neurorecon.generators.latent_diffusion import LatentDiffusion

    random = np.random.default_rng(0)
    conditions = {
        "image": random.standard_normal((NEW, 257, 768), dtype=np.float32) / 28,
        "text": random.standard_normal((NEW, 77, 768), dtype=np.float32) / 10,
        "init": random.uniform(size=(NEW, 64, 64, 3)).astype(np.float32),
    }
    generator = LatentDiffusion(
        "both", weights, steps=STEPS, strength=0.734, device=DEVICE, dtype=DTYPE,
        batch_size=NEW if DEVICE != "cpu" else 1,
    )  # fmt: skip
    assert generator.image_shape == (512, 512, 3)
    stimuli = [str(number) for number in range(NEW)]
    begin = time.perf_counter()
    first = generator.generate(stimuli[:1], {name: values[:1] for name, values in conditions.items()})
    loading = time.perf_counter() - begin
    begin = time.perf_counter()
    images = generator.generate(stimuli, conditions)
    seconds = time.perf_counter() - begin
    assert images.shape == (NEW, 512, 512, 3)
    assert np.abs(images[:1] - first).max() <= 1 / 255  # resumed by image, it is the same image
    memory = f"peak {peak():.1f} GB"
    if DEVICE != "cpu":
        import torch

        memory = f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GB on the GPU"
    print(
        f"generation at 512 px, {STEPS} steps, {DEVICE} {DTYPE}: {seconds / NEW:.1f} s an image "
        f"(with loading: {loading:.0f} s), {memory}"
    )


@pytest.mark.benchmark
def test_guided_generation(stable_diffusion):
    """The second stage of mind-diffuser: the gradient passes through CLIP and the autoencoder at 512 pixels."""
    from neurorecon.generators.refined_diffusion import RefinedDiffusion

    random = np.random.default_rng(0)
    features = 6 * 50 * 768 + 512
    conditions = {
        "text": random.standard_normal((1, 15, 768), dtype=np.float32),
        "latents": random.standard_normal((1, 4, 64, 64), dtype=np.float32),
        "layers": random.standard_normal((1, features), dtype=np.float32),
    }
    found = {}
    for refine in ("none", "guidance"):
        generator = RefinedDiffusion(
            "text", stable_diffusion, refine=refine, steps=STEPS, device=DEVICE, dtype=DTYPE, batch_size=1
        )
        assert generator.conditions["layers"] == (features,)
        begin = time.perf_counter()
        found[refine] = generator.generate(["0"], conditions)
        print(
            f"mind-diffuser at 512 px, {STEPS} steps, refine={refine}, {DEVICE} {DTYPE}: "
            f"{time.perf_counter() - begin:.0f} s an image with loading, peak {peak():.1f} GB"
        )
        assert found[refine].shape == (1, 512, 512, 3)
    assert np.abs(found["none"] - found["guidance"]).max() > 0
