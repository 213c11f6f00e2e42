"""Speed and memory of Mind-Animator: attention across frames, the motion decoder, and everything in published size.

pytest -m benchmark -s tests/benchmarks/test_videos.py
pytest -m benchmark -s tests/benchmarks/test_videos.py -k "not published"          # minutes, with the bundled networks
NEURORECON_DEVICE=cuda NEURORECON_DTYPE=bfloat16 NEURORECON_STEPS=50 NEURORECON_VIDEOS=8 \
    pytest -m benchmark -s tests/benchmarks/test_videos.py -k published            # as in the paper

Weights are random, of the published configurations (Stable Diffusion 1.x at 512 pixels, 8 frames, 4,500 voxels). The
fraction of the peak is that of a product of two large matrices in the same run, dtype and number of threads.
"""

from __future__ import annotations

import os
import resource
import time
from functools import partial

import numpy as np
import pytest
import torch
import xarray
from torch import nn

import neurorecon as nr
from neurorecon.generators.latent_diffusion import LatentDiffusion
from neurorecon.generators.video import VideoDiffusion
from neurorecon.systems.base import Decoded
from neurorecon.systems.mind_animator import FRAMES, SEMANTICS, STRUCTURE

DEVICE, DTYPE = os.environ.get("NEURORECON_DEVICE", "cpu"), os.environ.get("NEURORECON_DTYPE", "float32")
STEPS, VIDEOS = int(os.environ.get("NEURORECON_STEPS", "2")), int(os.environ.get("NEURORECON_VIDEOS", "1"))
NUMBER, VOXELS, SHAPE = 8, 4500, (4, 64, 64)
#: Frames of the comparison of networks in published size: per frame, eight take as long as two.
COMPARED = 2


def wait():
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def seconds_of(work):
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def peak_memory():
    """Return the largest memory of the device so far (GB)."""
    if DEVICE != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def flops_a_second(size=2048, times=5):
    """Return the speed of a product of two large matrices, the best of a few."""
    one = torch.randn(size, size, device=DEVICE, dtype=getattr(torch, DTYPE))
    return 2 * size**3 / min(seconds_of(lambda: one @ one) for _ in range(times))


def flops_of(work):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.benchmark
def test_attention_across_frames_costs_little():
    """The bundled networks: a clip of eight frames against eight images, with the same steps and guidance."""
    random = np.random.default_rng(0)
    text = torch.from_numpy(random.standard_normal((NUMBER, 20, 128)).astype(np.float32))
    init = torch.from_numpy(random.standard_normal((NUMBER, 6, 16, 16)).astype(np.float32))
    settings = {"steps": 12, "guidance": 3.0, "strength": 0.99, "device": "cpu"}
    video, image = VideoDiffusion(frames=NUMBER, invert=False, **settings), LatentDiffusion(**settings)
    ids = [str(number) for number in range(NUMBER)]

    def of_video():
        return video.sample(["0"], {"text": text[:1], "latents": init[None]}, 0)

    def of_images():
        return image.sample(ids, {"text": text, "latents": init}, 0)

    with torch.inference_mode():
        of_video(), of_images()
        ratios = [seconds_of(of_video) / seconds_of(of_images) for _ in range(15)]
    print(f"a clip of {NUMBER} frames over {NUMBER} images, 64 px, median of 15 pairs: {np.median(ratios):.2f}")
    assert np.median(ratios) <= 1.25


@pytest.mark.benchmark
def test_a_training_step_of_the_motion_decoder():
    """Against PyTorch's transformer with as many weights and tokens, the same loss and optimizer."""
    batch, shape, width, depth, heads, memory, hidden = 8, (NUMBER, 6, 16, 16), 256, 4, 8, 16, 512
    decoder = nr.decoders.MotionDecoder(
        patch=2, width=width, depth=depth, heads=heads, feedforward=hidden, memory=memory, dropout=0.1
    )
    torch.manual_seed(0)
    ours = decoder.build_network((VOXELS,), shape).to(DEVICE)
    # A gated perceptron has three matrices, a plain one two.
    layer = nn.TransformerDecoderLayer(width, heads, hidden * 3 // 2, 0.1, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerDecoder(layer, depth).to(DEVICE)
    inputs = torch.randn(batch, VOXELS, device=DEVICE)
    targets = torch.randn(batch, *shape, device=DEVICE)
    tokens, seen = torch.randn(batch, 7 * 64, width, device=DEVICE), torch.randn(batch, memory, width, device=DEVICE)
    causal = nn.Transformer.generate_square_subsequent_mask(7, device=DEVICE)
    causal = causal.repeat_interleave(64, 0).repeat_interleave(64, 1)
    counts = [sum(value.numel() for value in network.parameters()) for network in (ours.blocks, theirs)]
    assert abs(counts[0] / counts[1] - 1) < 0.02
    steps = [torch.optim.Adam(network.parameters()) for network in (ours, theirs)]

    def step_of_ours():
        decoder.compute_loss(decoder.forward(ours, inputs, targets), targets).backward()
        steps[0].step()
        steps[0].zero_grad()

    def step_of_theirs():
        nn.functional.mse_loss(theirs(tokens, seen, tgt_mask=causal), tokens).backward()
        steps[1].step()
        steps[1].zero_grad()

    step_of_ours(), step_of_theirs()
    pairs = [(seconds_of(step_of_ours), seconds_of(step_of_theirs)) for _ in range(5)]
    ratio = np.median([one / other for one, other in pairs])
    print(
        f"training step, {counts[0] / 1e6:.1f} million weights in blocks, {batch} clips of {7 * 64} tokens, {DEVICE}: "
        f"{np.median([one for one, _ in pairs]):.2f} s, over nn.TransformerDecoder {ratio:.2f}"
    )
    assert ratio < 1.5


@pytest.mark.benchmark
def test_published_attention_across_frames(stable_diffusion):
    """One pass of the UNet of Stable Diffusion at 512 pixels, with and without attention across frames."""
    image = LatentDiffusion("text", stable_diffusion, device=DEVICE, dtype=DTYPE)
    video = VideoDiffusion("text", stable_diffusion, frames=COMPARED, device=DEVICE, dtype=DTYPE)
    latents = torch.randn(COMPARED, *SHAPE, device=DEVICE)
    step = torch.tensor(500, device=DEVICE)
    passes = []
    with torch.inference_mode():
        for generator in (video, image):
            denoise = generator.loaded.denoiser({}, COMPARED, 1.0, 1.0, "text")
            passes.append(lambda denoise=denoise: denoise(latents, step))
        flops = [flops_of(one) for one in passes]
        times = [[seconds_of(one) for one in passes] for _ in range(1 if DEVICE == "cpu" else 10)]
        share = flops[0] / np.median([one for one, _ in times]) / flops_a_second()
    ratio = np.median([one / other for one, other in times])
    print(
        f"UNet of Stable Diffusion, 512 px, {COMPARED} frames, {DEVICE} {DTYPE}, {torch.get_num_threads()} threads: "
        f"{np.median([one for one, _ in times]):.1f} s, {share:.0%} of the peak; over the UNet frame by frame: time "
        f"{ratio:.2f}, operations {flops[0] / flops[1]:.2f}"
    )
    assert ratio <= 1.25


@pytest.mark.benchmark
def test_published_video(stable_diffusion):
    """One clip of eight frames at 512 pixels through the system, with inversion and guidance: keys, shape, memory."""
    from safetensors import safe_open

    system = nr.load_system(
        "mind-animator", models=stable_diffusion, steps=STEPS, strength=0.132 if STEPS >= 16 else 0.99, device=DEVICE,
        dtype=DTYPE, batch_size=VIDEOS,
    )  # fmt: skip
    random, ids = np.random.default_rng(0), [str(number) for number in range(VIDEOS)]
    shapes = {SEMANTICS: (20, 768), STRUCTURE: SHAPE, FRAMES: (NUMBER, *SHAPE)}
    assert list(system.targets) == list(shapes)
    arrays = {
        name: xarray.DataArray(
            random.standard_normal((VIDEOS, *shape), dtype=np.float32) / 5,
            dims=("stimulus", *(f"{name}_{axis}" for axis in range(len(shape)))),
            coords={"stimulus": ids},
        )
        for name, shape in shapes.items()
    }
    loaded = system.make_generator(Decoded(arrays)).loaded
    for part, network in (("unet", loaded.layers), ("vae", loaded.autoencoder)):
        file = next((stable_diffusion / part).glob("*.safetensors"))
        with safe_open(file, "pt") as saved:
            keys = set(saved.keys())
        assert keys == set(network.state_dict()), part
        print(f"{part}: {len(keys)} tensors, {sum(value.numel() for value in network.parameters()) / 1e6:.0f} million")
    before, found = peak_memory(), {}
    seconds = seconds_of(lambda: found.update(videos=system.generate(Decoded(arrays))))
    videos = found["videos"]
    assert videos.shape == (VIDEOS, NUMBER, 512, 512, 3)
    assert np.isfinite(videos.values).all()
    print(
        f"{VIDEOS} clip of {NUMBER} frames at 512 px, {STEPS} steps with inversion and guidance, {DEVICE} {DTYPE}: "
        f"{seconds / VIDEOS:.0f} s a clip, peak {peak_memory():.1f} GB ({before:.1f} GB before)"
    )


@pytest.mark.benchmark
def test_published_decoders():
    """All decoders of the paper, 4,500 voxels: an epoch of a few clips, shapes, sizes, memory."""
    random, clips = np.random.default_rng(0), 4 * VIDEOS
    system = nr.load_system("mind-animator", models="published", device=DEVICE, motion="frames", linear=())
    responses = random.standard_normal((clips, VOXELS), dtype=np.float32)
    aligned = {name: random.standard_normal((clips, 512), dtype=np.float32) for name in ("text", "video")}
    for name, shape in {SEMANTICS: (20, 768), STRUCTURE: SHAPE, FRAMES: (NUMBER, *SHAPE)}.items():
        decoder = system.decoder(name).set_params(max_epochs=1, batch_size=2)
        y = random.standard_normal((clips, *shape), dtype=np.float32)
        seconds = seconds_of(partial(decoder.fit, responses, {name: y, **aligned} if name == SEMANTICS else y))
        found = decoder.predict(responses[:1])
        assert np.shape(found[name] if isinstance(found, dict) else found) == (1, *shape)
        print(
            f"{type(decoder).__name__} of {name}: {weights_of(decoder, shape) / 1e6:.0f} million weights, "
            f"{seconds / clips:.1f} s a clip in training, {DEVICE}, peak {peak_memory():.1f} GB"
        )
    dense = nr.load_system("mind-animator", models="published", preset="released").decoder(FRAMES)
    print(f"released motion decoder: {weights_of(dense, (NUMBER, *SHAPE)) / 1e6:.0f} million weights (authors: 336)")


def weights_of(decoder, shape):
    """Return the number of weights of a decoder of targets of a shape."""
    target = (
        {SEMANTICS: shape, "text": (512,), "video": (512,)} if type(decoder).__name__ == "SemanticDecoder" else shape
    )
    with torch.device("meta"):
        network = decoder.build_network((VOXELS,), target)
    return sum(value.numel() for value in network.parameters())
