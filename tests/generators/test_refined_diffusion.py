"""Refined diffusion: its loss and gradient, what guidance and the published loop do to it, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.extract import load_extractor
from neurorecon.generators.latent_diffusion import LatentDiffusion, make_scheduler, sample_latents, signal_shares
from neurorecon.generators.refined_diffusion import LayerLoss, RefinedDiffusion
from neurorecon.models.clip import clip_settings
from neurorecon.testing import generator_checks

#: Two passes of the network.
QUICK = {"steps": 3, "guidance": 3.0, "device": "cpu"}
STIMULI = ["a", "b", "c", "d"]


def drawn(count, seed=0):
    """Return smooth random images, (image, y, x, rgb) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=random)
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear").permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def conditions():
    """Text, latents of some images, and the CLIP features of others, weighted unevenly."""
    random = np.random.default_rng(0)
    layers = load_extractor("clip_layers", models="bundled", device="cpu").transform(drawn(4, seed=1))
    return {
        "text": random.standard_normal((4, 15, 128)).astype(np.float32) / 3,
        "latents": load_extractor("vqvae", models="bundled", device="cpu").transform(drawn(4)),
        "layers": layers,
        "weights": random.uniform(0, 2, layers.shape).astype(np.float32) / layers.shape[1],
    }


def tensors_of(conditions):
    return {name: torch.from_numpy(values) for name, values in conditions.items()}


def loss_of(generator, conditions, images):
    """Return the loss of images, (image, y, x, rgb)."""
    with torch.no_grad():
        return generator.loss(tensors_of(conditions))(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("check", generator_checks(), ids=str)
def test_contract(conditions, check):
    check(RefinedDiffusion(**{**QUICK, "steps": 2}, strength=0.3), conditions)


@pytest.mark.parametrize("check", [check for check in generator_checks() if str(check) in ("seed", "state")], ids=str)
def test_contract_of_the_loop(conditions, check):
    """What takes gradients might break: that neither the batch nor the state of the process matters."""
    options = {"steps": 2, "strength": 0.3, "iterations": 1, "learning_rate": 0.1}
    check(RefinedDiffusion(**{**QUICK, **options}, refine="loop"), conditions)


@pytest.mark.parametrize("part", ["block", "mlp"])
def test_the_loss_is_that_of_the_targets(conditions, part):
    """The features of images are those that the extractor stores, up to the 8 bits of an image."""
    images = np.round(drawn(4, seed=2) * 255) / 255
    found = load_extractor("clip_layers", models="bundled", device="cpu", part=part).transform(images)
    wanted, weights = conditions["layers"], conditions["weights"]
    one, other = found[:, -128:], wanted[:, -128:]
    same = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    expected = (weights * (found - wanted) ** 2).sum(1) + 0.3 * (1 - same)
    generator = RefinedDiffusion(**QUICK, cosine=0.3, part=part)
    np.testing.assert_allclose(loss_of(generator, conditions, images.astype(np.float32)), expected, rtol=1e-4)


def test_images_of_another_size_are_resized_as_clip_does(conditions):
    large = np.repeat(np.repeat(drawn(4, seed=2), 2, axis=1), 2, axis=2)
    found = loss_of(RefinedDiffusion(**QUICK), conditions, large)
    features = load_extractor("clip_layers", models="bundled", device="cpu").transform(large)
    expected = (conditions["weights"] * (features - conditions["layers"]) ** 2).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-2)  # PIL resamples in 8 bits


def test_the_gradient_is_that_of_finite_differences(conditions):
    settings = clip_settings("bundled", "clip-b32")
    wanted, weights = (torch.from_numpy(conditions[name][:1]) for name in ("layers", "weights"))
    loss = LayerLoss(settings.load(), settings, wanted, weights, cosine=0.5)
    pixels = torch.from_numpy(0.2 + 0.6 * drawn(1)).permute(0, 3, 1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pixels).sum(), pixels)
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = gradient / gradient.norm() + 0.02 * torch.randn(pixels.shape, generator=random)
        with torch.no_grad():
            ahead, behind = (float(loss(pixels + sign * 1e-2 * direction)) for sign in (1, -1))
        assert (ahead - behind) / 2e-2 == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_the_gradient_through_all_steps_is_that_of_finite_differences(conditions):
    """Of the published loop, with each pass of the network computed again."""
    generator = RefinedDiffusion(**QUICK, strength=0.5)
    given = {name: values[:1] for name, values in tensors_of(conditions).items()}
    loss = generator.loss(given)

    def value(text, latents, checkpoint=False):
        made = generator.sample(["a"], {**given, "text": text, "latents": latents}, 0, checkpoint=checkpoint)
        return loss(generator.decode_latents(made)).sum()

    free = [given[name].clone().requires_grad_() for name in ("text", "latents")]
    plain = torch.autograd.grad(value(*free), free)
    again = torch.autograd.grad(value(*free, checkpoint=True), free)
    random = torch.Generator().manual_seed(0)
    for place, (one, other) in enumerate(zip(plain, again, strict=True)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        direction = one / one.norm() + 0.02 * torch.randn(one.shape, generator=random)
        ends = []
        for sign in (1, -1):
            moved = [values.detach() for values in free]
            moved[place] = moved[place] + sign * 2e-2 * direction
            with torch.no_grad():
                ends.append(float(value(*moved)))
        assert (ends[0] - ends[1]) / 4e-2 == pytest.approx(float((one * direction).sum()), rel=0.05)


def test_guidance_and_the_loop_lower_the_loss_of_every_image(conditions):
    plain = RefinedDiffusion(**QUICK, refine="none")
    before = loss_of(plain, conditions, plain.generate(STIMULI, conditions))
    rest = {name: conditions[name] for name in ("text", "latents")}
    np.testing.assert_array_equal(
        LatentDiffusion(**QUICK, strength=plain.strength).generate(STIMULI, rest), plain.generate(STIMULI, conditions)
    )
    guided = RefinedDiffusion(**QUICK, pull=0.1, moves=2)
    assert (loss_of(guided, conditions, guided.generate(STIMULI, conditions)) < 0.95 * before).all()
    one = {name: values[:1] for name, values in conditions.items()}
    for optimize in (("z",), ("c",)):
        loop = RefinedDiffusion(**QUICK, refine="loop", optimize=optimize, iterations=2, learning_rate=0.05)
        assert (loss_of(loop, one, loop.generate(STIMULI[:1], one)) < before[:1]).all()


def test_guidance_takes_no_more_passes_than_sampling(conditions):
    passes = []
    for refine, iterations in (("none", 0), ("guidance", 0), ("loop", 2)):
        generator = RefinedDiffusion(**QUICK, refine=refine, iterations=iterations)
        hook = generator.loaded.unet.register_forward_pre_hook(lambda *_: passes.append(refine))  # noqa: B023
        generator.generate(STIMULI[:1], {name: values[:1] for name, values in conditions.items()})
        hook.remove()
    counts = {name: passes.count(name) for name in ("none", "guidance", "loop")}
    assert counts["guidance"] == counts["none"]
    # Two iterations pass forward and, for the gradient, once more; the last images take another round.
    assert counts["loop"] == 5 * counts["none"]


def test_without_anything_to_optimize_the_loop_ends(conditions):
    loop = RefinedDiffusion(**QUICK, refine="loop", iterations=1)
    rest = {name: conditions[name][:1] for name in ("layers", "weights")}
    np.testing.assert_array_equal(loop.generate(["a"], rest), LatentDiffusion(**QUICK).generate(["a"]))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers' Euler schedulers
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_step_goes_on_from_the_corrected_image(kind, scheduler):
    """With a network that knows the noise, the clean latents are found exactly; their correction is the result."""
    name = "FlowMatchEulerDiscreteScheduler" if kind == "flow" else scheduler
    options = {} if kind == "flow" else {"prediction_type": kind, "clip_sample": False, "set_alpha_to_one": True}
    random = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, 4, 4, generator=random)
    schedule = make_scheduler(name, options)
    seen = []

    def denoise(latents, step):
        level = float(shares[schedule.timesteps.tolist().index(float(step))])
        share = 1 - level if kind == "flow" else (1 - level**2) ** 0.5
        own = (latents - level * clean) / share  # the noise that is in the latents
        return {
            "epsilon": own, "v_prediction": level * own - share * clean, "sample": clean, "flow": own - clean
        }[kind]  # fmt: skip

    def correct(found, noise):
        seen.append(found)
        assert 0 < noise < 1
        return found + 1

    schedule.set_timesteps(4)
    shares = signal_shares(schedule)
    found = sample_latents(denoise, schedule, noise, init=clean, strength=0.5, steps=4, correct=correct)
    torch.testing.assert_close(seen[0], clean, rtol=0, atol=1e-3)
    torch.testing.assert_close(found, clean + 1, rtol=0, atol=0.1 if kind == "flow" else 5e-2)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"pull": -1.0}, "pull"),
        ({"moves": 1.5}, "moves"),
        ({"iterations": -1}, "iterations"),
        ({"cosine": np.nan}, "cos"),
    ],
)
def test_numbers_out_of_range(conditions, wrong, match):
    with pytest.raises(InputError, match=match):
        RefinedDiffusion(**QUICK, **wrong).generate(STIMULI, conditions)


@pytest.mark.parametrize("wrong", [{"refine": "magic"}, {"optimize": ("x",)}, {"part": "attention"}])
def test_unknown_names(conditions, wrong):
    with pytest.raises(UnknownNameError):
        RefinedDiffusion(**QUICK, **wrong).generate(STIMULI, conditions)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("refine", ["guidance", "loop"])
def test_a_folder_of_stable_diffusion_with_a_clip_beside_it(pipeline_folder, random_models, tmp_path, refine):
    """Of the published layout, with random weights: 16 pixels are resized to what CLIP takes."""
    shutil.copytree(pipeline_folder("1.x"), tmp_path, dirs_exist_ok=True)
    shutil.copytree(random_models / "clip", tmp_path / "clip")
    generator = RefinedDiffusion(
        "text", tmp_path, steps=2, refine=refine, iterations=2, learning_rate=0.5, device="cpu"
    )
    random = np.random.default_rng(0)
    shapes = generator.conditions
    given = {
        "text": random.standard_normal((2, 15, 16)).astype(np.float32),
        "latents": random.standard_normal((2, *shapes["latents"])).astype(np.float32),
        "layers": random.standard_normal((2, *shapes["layers"])).astype(np.float32),
    }
    plain = RefinedDiffusion("text", tmp_path, steps=2, refine="none", device="cpu").generate(["a", "b"], given)
    refined = generator.generate(["a", "b"], given)
    assert refined.shape == plain.shape == (2, 16, 16, 3)
    assert (loss_of(generator, given, refined) < loss_of(generator, given, plain)).all()
    assert [found.role for found in generator.weights] == [
        "text-diffusion",
        "text-diffusion",
        "text-encoder",
        "clip-b32",
    ]
