"""The VDVAE against the authors' code, as frozen by `compare_vdvae_with_authors.py`, and against itself."""

import hashlib
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import logistic

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.vdvae import IMAGENET64, SMALL, VDVAE, VDVAEConfig, load_vdvae, save_vdvae

REFERENCE = Path(__file__).with_name("vdvae_reference.json")

#: Few and thin blocks, but all that can differ: 2 x 2 pixels, factors of 4, custom widths, resolutions without bias.
TINY = VDVAEConfig(
    image_size=32,
    width=16,
    z_dim=4,
    bottleneck_multiple=0.5,
    encoder_blocks="32x2,32d2,16x1,16d2,8x1,8d4,2x1,2d2,1x2",
    decoder_blocks="1x2,2m1,2x1,8m2,8x2,16m8,16x1,32m16,32x1",
    custom_widths="16:20,8:32,2:48,1:64",
    no_bias_above=8,
    num_mixtures=5,
    input_mean=120.63838,
    input_std=64.16736,
)

CONFIGS = {"tiny": TINY, "small": SMALL, "imagenet64": IMAGENET64}

#: First groups that are decoded alone.
FIRST_GROUPS = {"tiny": 4, "small": 7, "imagenet64": 31}

#: Images that are encoded.
COUNTS = {"tiny": 2, "small": 2, "imagenet64": 1}


# ---- Weights, images and noise from a recipe of our own: the same whatever the versions of NumPy and torch.


def uniform(name, shape):
    """Numbers in -1..1 that depend on the name and the shape alone (splitmix64 of a counter)."""
    state = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return ((state >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1 + 2.0**-53).reshape(shape)


def seeded_weights(shapes):
    """Weights (name -> array) that keep activations, latents and pixels in a natural range."""
    blocks = len({name.split(".")[2] for name in shapes if "dec_blocks" in name})
    weights = {}
    for name, shape in shapes.items():
        scale, shift = 0.1, 0.0
        if name.endswith("gain"):
            shift = 1.0
        elif "bias_xs" in name:
            scale = 1.0
        elif name.endswith("weight"):
            # What blocks add to the image gets less, the more there are; nothing is zero, unlike before training.
            added = "c4" in name or "z_proj" in name
            gain = 1 / math.sqrt(blocks) if added else 0.5 if "out_net" in name else 1.5
            scale = gain * math.sqrt(3 / math.prod(shape[1:]))
        weights[name] = (uniform(name, shape) * scale + shift).astype(np.float32)
    return weights


def seeded_model(config):
    with torch.device("meta"):
        model = VDVAE(config)
    weights = seeded_weights({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, assign=True)
    return model.eval()


def random_images(size, count=2):
    """Shaded images with grain, (image, rgb, y, x) uint8; some pixels are black or white."""
    y, x = np.mgrid[:size, :size] / size
    shades = [
        120 + 160 * np.sin((2 + color + image) * x + 3 * image * y + color) * (y + 0.3)
        for image in range(count)
        for color in range(3)
    ]
    grain = 12 * uniform("grain", (count, 3, size, size))
    return torch.from_numpy(np.clip(np.stack(shades).reshape(count, 3, size, size) + grain, 0, 255).astype(np.uint8))


class Noise:
    """Stands in for `torch.randn`: standard normal numbers, new ones at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, shape, **_):
        self.calls += 1
        return torch.from_numpy(ndtri((uniform(f"noise {self.calls}", tuple(shape)) + 1) / 2).astype(np.float32))


# ---- What is compared


def outcome(model, images, first_groups, monkeypatch):
    """All that the comparison looks at, by name."""
    result = {}
    latents = model.encode(images)
    result |= {f"latents {group}": value for group, value in enumerate(latents)}
    for pixels in ("mean", "mode"):
        result[f"{pixels} from all groups"] = model.decode(latents, pixels=pixels)
    result["mean from first groups"] = model.decode(latents[:first_groups], temperature=0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", Noise())
        result["mean from first groups, rest at .7"] = model.decode(latents[:first_groups], temperature=0.7)
        patch.setattr(torch, "randn", Noise())
        result["mean from no group"] = model.sample(len(images), temperature=1.0)
        patch.setattr(torch, "randn", Noise())
        result["sampled latents"] = model.flatten(model.encode(images, sample=True))
        patch.setattr(torch, "randn", Noise())
        loss = model.loss(images)
    return result | {"elbo": loss["elbo"], "distortion": loss["distortion"], "rate by group": loss["rate_by_group"]}


def summarize(tensor):
    """Mean, standard deviation, and a projection that sees every exchange of two values; or all of few values."""
    values = tensor.detach().double().numpy().ravel()
    if len(values) <= 80:
        return values.tolist()
    signs = np.sign(uniform("signs", values.shape))
    return [values.mean(), values.std(), (values * signs).sum() / math.sqrt(len(values))]


def listing(weights):
    """Names and shapes of all weights, in one line each."""
    return "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(weights.items()))


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


@pytest.fixture(scope="module")
def tiny():
    return seeded_model(TINY)


@pytest.fixture(scope="module")
def tiny_images():
    return random_images(TINY.image_size)


def generator(seed):
    return torch.Generator().manual_seed(seed)


# ---- The published network


@pytest.mark.parametrize("name", ["tiny", "small", pytest.param("imagenet64", marks=pytest.mark.benchmark)])
def test_agrees_with_the_authors_code(name, reference, monkeypatch):
    config = CONFIGS[name]
    with torch.inference_mode():
        found = outcome(
            seeded_model(config), random_images(config.image_size, COUNTS[name]), FIRST_GROUPS[name], monkeypatch
        )
    expected = reference[name]["outcome"]
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        np.testing.assert_allclose(summarize(tensor), expected[key], rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_weights_have_the_names_and_shapes_of_the_authors(name, reference):
    with torch.device("meta"):
        weights = VDVAE(CONFIGS[name]).state_dict()
    assert len(weights) == reference[name]["weights"]
    assert hashlib.sha256(listing(weights).encode()).hexdigest() == reference[name]["listing_sha256"]


def test_imagenet64_has_the_size_that_was_published():
    with torch.device("meta"):
        model = VDVAE(IMAGENET64)
    assert sum(weight.numel() for weight in model.parameters()) == 125_005_860
    assert len(model.group_shapes) == 75
    assert model.group_shapes[0] == (16, 1, 1)
    assert model.group_shapes[-1] == (16, 64, 64)
    assert model.group_boundaries(31)[-1] == 91_168
    assert model.group_boundaries(15)[-1] == 13_344
    assert model.group_boundaries(3) == [0, 16, 32, 288]
    assert tuple(model.state_dict()["decoder.dec_blocks.30.prior.c4.weight"].shape) == (544, 128, 1, 1)


def test_small_is_cheap():
    assert sum(weight.numel() for weight in VDVAE(SMALL).parameters()) < 4_000_000


# ---- Encoding and decoding


def test_training_makes_the_latents_stand_for_the_image():
    config = VDVAEConfig(
        image_size=16,
        width=16,
        z_dim=4,
        encoder_blocks="16d2,8d8,1x1",
        decoder_blocks="1x1,8m1,16m8",
        custom_widths="8:32,1:32",
        num_mixtures=1,
    )
    torch.manual_seed(0)
    model = VDVAE(config)
    images = random_images(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    bounds = []
    noise = generator(0)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model.loss(images, generator=noise)
        loss["elbo"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        bounds.append(loss["elbo"].item())
    assert bounds[-1] < bounds[0] - 1.5
    target = images / 255
    with torch.inference_mode():
        error = (model.decode(model.encode(images)) - target).square().mean()
        exchanged = (model.decode(model.encode(images.flip(0))) - target).square().mean()
    assert error < 0.6 * target.var()
    assert error < 0.6 * exchanged


def test_loss_adds_up_and_counts_bits_per_value(tiny, tiny_images):
    with torch.inference_mode():
        loss = tiny.loss(tiny_images, generator=generator(0))
        single = [tiny.loss(tiny_images[:1], generator=generator(0))["distortion"] for _ in range(2)]
    assert torch.equal(*single)
    assert loss["rate_by_group"].shape == (len(tiny.group_shapes),)
    assert (loss["rate_by_group"] > 0).all()
    torch.testing.assert_close(loss["rate"], loss["rate_by_group"].sum())
    torch.testing.assert_close(loss["elbo"], loss["rate"] + loss["distortion"])


def test_flat_latents_go_back(tiny, tiny_images):
    latents = tiny.encode(tiny_images, groups=5)
    flat = tiny.flatten(latents)
    assert flat.shape == (2, tiny.group_boundaries(5)[-1])
    back = tiny.unflatten(flat)
    assert all(torch.equal(a, b) for a, b in zip(latents, back, strict=True))
    start, stop = tiny.group_boundaries()[3:5]
    assert torch.equal(flat[:, start:stop].reshape(latents[3].shape), latents[3])


def test_few_groups_are_the_first_of_all(tiny, tiny_images):
    everything = tiny.encode(tiny_images)
    assert [tuple(group.shape) for group in everything] == [(2, *shape) for shape in tiny.group_shapes]
    few = tiny.encode(tiny_images, groups=4)
    assert len(few) == 4
    assert all(torch.equal(a, b) for a, b in zip(few, everything, strict=False))


def test_groups_that_are_not_given_come_from_the_prior(tiny, tiny_images):
    latents = tiny.encode(tiny_images, groups=4)
    calm = tiny.decode(latents, temperature=0)
    assert torch.equal(calm, tiny.decode(latents, temperature=0))
    warm = [tiny.decode(latents, temperature=0.5, generator=generator(seed)) for seed in (1, 1, 2)]
    hot = tiny.decode(latents, temperature=1.0, generator=generator(1))
    assert torch.equal(warm[0], warm[1])
    assert not torch.allclose(warm[0], warm[2], atol=1e-3)
    assert (hot - calm).square().mean() > (warm[0] - calm).square().mean() > 0
    assert not torch.allclose(calm[0], calm[1], atol=1e-3)


def test_each_group_may_have_a_temperature_of_its_own(tiny):
    groups = len(tiny.group_shapes)
    same = [tiny.sample(2, temperature=chosen, generator=generator(1)) for chosen in (0.7, [0.7] * groups)]
    assert torch.equal(*same)
    layout_only = [1.0] * 2 + [0.0] * (groups - 2)
    drawn = tiny.sample(2, temperature=layout_only, generator=generator(1))
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)
    assert torch.equal(tiny.sample(2, temperature=[0.0] * groups), tiny.sample(2, temperature=0.0))


def test_seeds_decide_all_that_is_random(tiny, tiny_images):
    def draw(seed):
        source = generator(seed)
        latents = tiny.encode(tiny_images, sample=True, generator=source)
        return [
            tiny.flatten(latents),
            tiny.decode(latents[:2], pixels="sample", generator=source),
            tiny.sample(2, temperature=0.8, generator=source),
            tiny.loss(tiny_images, generator=source)["elbo"],
        ]

    state = torch.get_rng_state()
    first, again, other = draw(3), draw(3), draw(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(state, torch.get_rng_state())


def test_samples_from_the_posterior_surround_its_mean(tiny, tiny_images):
    mean = tiny.encode(tiny_images[:1], groups=1)[0]
    many = tiny.encode(tiny_images[:1].expand(100, -1, -1, -1), groups=1, sample=True, generator=generator(0))[0]
    error = many.std(0) / math.sqrt(100)
    assert ((many.mean(0) - mean[0]).abs() < 4.5 * error).all()


def test_uint8_and_float_images_give_the_same_latents(tiny, tiny_images):
    a, b = (tiny.flatten(tiny.encode(images)) for images in (tiny_images, tiny_images / 255))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_memory_layout_does_not_matter(tiny, tiny_images):
    turned = seeded_model(TINY).to(memory_format=torch.channels_last)
    images = tiny_images.contiguous(memory_format=torch.channels_last)
    a, b = tiny.encode(tiny_images), turned.encode(images)
    torch.testing.assert_close(tiny.flatten(a), tiny.flatten(b), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny.decode(a), turned.decode(b), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.bfloat16, 0.1)])
def test_other_precisions_stay_close(dtype, tolerance, tiny, tiny_images):
    model = seeded_model(TINY).to(dtype)
    with torch.inference_mode():
        latents, expected = model.encode(tiny_images), tiny.encode(tiny_images)
        assert latents[0].dtype == dtype
        assert (model.flatten(latents) - tiny.flatten(expected)).abs().mean() < tolerance
        assert (model.decode(expected) - tiny.decode(expected)).abs().mean() < tolerance
        a, b = (net.loss(tiny_images, generator=generator(0))["elbo"] for net in (model, tiny))
        assert a.isfinite()
        assert b.isfinite()


def test_gradients_reach_latents_and_all_weights(tiny_images):
    model = seeded_model(TINY)
    latents = [group.detach().requires_grad_() for group in model.encode(tiny_images, groups=6)]
    (model.decode(latents, temperature=0) - tiny_images / 255).square().mean().backward()
    assert all(group.grad.abs().max() > 0 for group in latents)
    model.zero_grad()
    model.loss(tiny_images, generator=generator(0))["elbo"].backward()
    assert [name for name, weight in model.named_parameters() if not weight.grad.abs().max() > 0] == []


# ---- The distribution of a pixel


def head(logits, locations, log_scales):
    """A head whose mixture is the same everywhere; colors do not depend on each other."""
    mixtures = len(logits)
    config = VDVAEConfig(
        image_size=1, width=4, encoder_blocks="1x1", decoder_blocks="1x1", num_mixtures=mixtures, no_bias_above=1
    )
    layer = VDVAE(config).decoder.out_net
    parts = torch.zeros(3, 3, mixtures)
    parts[:, 0], parts[:, 1] = torch.tensor(locations), torch.tensor(log_scales)
    with torch.no_grad():
        layer.out_conv.bias.copy_(torch.cat([torch.tensor(logits), parts.flatten()]))
    return layer


def test_likelihood_is_the_mass_of_a_bin():
    layer = head([0.0], [0.1], [-3.0])
    levels = torch.arange(256) / 127.5 - 1
    target = torch.stack(torch.meshgrid(levels[40:43], levels, levels, indexing="ij")).flatten(1).T[:, :, None, None]
    with torch.inference_mode():
        mass = (-layer.negative_log_likelihood(torch.zeros(len(target), 4, 1, 1), target).double()).exp()
    edges = logistic.cdf((np.arange(40, 44) - 0.5) / 127.5 - 1, loc=0.1, scale=math.exp(-3.0))
    np.testing.assert_allclose(mass.reshape(3, -1).sum(1), np.diff(edges), rtol=1e-4)


def test_pixels_are_drawn_from_the_mixture():
    layer = head([0.0, 1.0], [-0.5, 0.25], [-5.0, -4.0])
    x = torch.zeros(1, 4, 100, 100)
    with torch.inference_mode():
        mean, mode = layer.pixels(x, "mean", None), layer.pixels(x, "mode", None)
        sample = layer.pixels(x, "sample", generator(0))
    probability = 1 / (1 + math.exp(-1.0))
    np.testing.assert_allclose(mean[0, :, 0, 0], 0.25 * probability - 0.5 * (1 - probability), atol=1e-6)
    assert (mode == 0.25).all()
    assert abs((sample[:, 0] > 0).float().mean().item() - probability) < 0.02
    assert abs(sample[sample > 0].std().item() - math.exp(-4.0) * math.pi / math.sqrt(3)) < 0.002


# ---- What cannot be


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 32, 32, 3), "images of this shape"),
        (torch.zeros(3, 32, 32), "images of this shape"),
        (torch.zeros(2, 3, 64, 64), "images of this shape"),
        (torch.full((1, 3, 32, 32), 200.0), "values have the wrong range"),
        (torch.full((1, 3, 32, 32), torch.nan), "values have the wrong range"),
        (torch.ones(1, 3, 32, 32, dtype=torch.int64), "values have the wrong range"),
    ],
)
def test_images_that_do_not_fit_are_refused(tiny, images, message):
    for method in (tiny.encode, tiny.loss):
        with pytest.raises(InputError, match=message):
            method(images)


def test_groups_that_do_not_exist_are_refused(tiny, tiny_images):
    for groups in (0, -1, 12):
        with pytest.raises(InputError, match="invalid number of VDVAE groups"):
            tiny.encode(tiny_images, groups=groups)
        with pytest.raises(InputError, match="invalid number of VDVAE groups"):
            tiny.group_boundaries(groups)


def test_latents_that_do_not_fit_are_refused(tiny):
    first, second = torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)
    wrong = [[], [torch.zeros(2, 4)], [torch.tensor(0.0)], [first, second[:1]], [second, torch.zeros(2, 4, 2, 2)]]
    for latents in (*wrong, [torch.zeros(2, *shape) for shape in [*tiny.group_shapes, (4, 32, 32)]]):
        with pytest.raises(InputError, match="do not match the first groups"):
            tiny.decode(latents)
    for shape in [(2, 5), (2, 0), (8,)]:
        with pytest.raises(InputError, match="number of values does not match"):
            tiny.unflatten(torch.zeros(shape))
    with pytest.raises(InputError, match="temperature"):
        tiny.decode([first], temperature=-1.0)
    with pytest.raises(InputError, match="one for each"):
        tiny.decode([first], temperature=[1.0, 1.0])
    with pytest.raises(InputError, match="kind of pixels"):
        tiny.decode([first], pixels="median")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"encoder_blocks": "64x1,32y3"}, "cannot parse the configuration"),
        ({"custom_widths": "32=64"}, "cannot parse the configuration"),
        ({"decoder_blocks": "1x1,32m1"}, "end at the image size"),
        ({"decoder_blocks": "1x1,3m1,64m1"}, "must use resolutions of the encoder"),
        ({"decoder_blocks": "1x1,64m8"}, "grow from earlier ones"),
        ({"custom_widths": "32:64"}, "no fewer at lower resolutions"),
        ({"custom_widths": "64:64"}, "no fewer at lower resolutions"),
        ({"image_size": 48}, "resolutions of the encoder blocks do not match"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        VDVAEConfig(**sizes)


# ---- Files


def test_sizes_go_through_json():
    assert VDVAEConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    with pytest.raises(InputError, match="unknown parameters"):
        VDVAEConfig.from_dict({"depth": 3})


def test_weights_come_back_from_safetensors(tmp_path, tiny, tiny_images):
    path = tmp_path / "vdvae.safetensors"
    save_vdvae(tiny, path)
    back = load_vdvae(path)
    assert back.config == TINY
    assert not back.training
    assert back.encode(tiny_images)[-1].equal(tiny.encode(tiny_images)[-1])
    assert load_vdvae(path, dtype=torch.float64).encode(tiny_images, groups=1)[0].dtype == torch.float64


@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_the_authors_load_unchanged(tmp_path, prefix, tiny, tiny_images):
    path = tmp_path / "iter-1600000-model-ema.th"
    torch.save({prefix + name: tensor for name, tensor in tiny.state_dict().items()}, path)
    back = load_vdvae(path, TINY)
    assert back.encode(tiny_images)[-1].equal(tiny.encode(tiny_images)[-1])


def test_files_that_hold_something_else_are_refused(tmp_path, tiny):
    path = tmp_path / "model.th"
    with pytest.raises(MissingFileError, match="do not exist"):
        load_vdvae(path)
    torch.save(tiny.state_dict(), path)
    with pytest.raises(InputError, match=r"another network: 'decoder\.bias' does not match"):
        load_vdvae(path)
    for content in (REFERENCE, [1, 2]):  # an object that pickle would have to build, and no weights at all
        torch.save(content, path)
        with pytest.raises(InputError, match="cannot read weights"):
            load_vdvae(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read weights"):
        load_vdvae(path)
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read weights"):
        load_vdvae(other)
