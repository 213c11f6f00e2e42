"""Videos from a network of images: frames, attention, inversion and the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention

from neurorecon.errors import InputError
from neurorecon.generators.base import load_generator
from neurorecon.generators.latent_diffusion import LatentDiffusion, make_scheduler, sample_latents
from neurorecon.generators.video import SparseCausalAttention, VideoDiffusion, inverted_noise
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.stimuli import render_video
from neurorecon.testing import generator_checks

FRAMES = 3


@pytest.fixture(scope="module")
def drawn():
    """Text, latents and frames of five stimuli."""
    random = np.random.default_rng(0)
    shapes = {"text": (40, 128), "latents": (FRAMES, 6, 16, 16)}
    found = {name: random.standard_normal((5, *shape)).astype(np.float32) / 3 for name, shape in shapes.items()}
    frames = np.clip(0.2 * random.standard_normal((5, FRAMES, 64, 64, 3)) + 0.5, 0, 1).astype(np.float32)
    return {**found, "init": frames}


@pytest.mark.parametrize("check", generator_checks(), ids=str)
def test_contract(check, drawn):
    names = ("text", "init" if check.name == "seed" else "latents")
    check(VideoDiffusion(frames=FRAMES, steps=2, device="cpu"), {name: drawn[name] for name in names})


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frame_i_attends_to_the_first_and_the_previous_frame(frames):
    """Against a softmax over all frames, of which a mask leaves two."""
    torch.manual_seed(0)
    layer = Attention(query_dim=12, heads=3, dim_head=4).eval()
    tokens = 6
    x = torch.randn(2 * frames, tokens, 12)
    with torch.no_grad():
        found = SparseCausalAttention(frames)(layer, x).reshape(2, frames, tokens, 12)
        for video, values in enumerate(x.reshape(2, frames, tokens, 12)):
            for i in range(frames):
                seen = torch.cat([values[j] for j in sorted({0, max(i - 1, 0)})])  # a set: no frame counts twice
                heads = []
                for head in range(3):
                    part = slice(4 * head, 4 * head + 4)
                    scores = layer.to_q(values[i])[:, part] @ layer.to_k(seen)[:, part].T / 2
                    heads.append(scores.softmax(dim=1) @ layer.to_v(seen)[:, part])
                expected = layer.to_out[0](torch.cat(heads, dim=1))
                torch.testing.assert_close(found[video, i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changed", range(5))
def test_a_frame_depends_on_no_other_frames(changed):
    torch.manual_seed(0)
    layer, x = Attention(query_dim=8, heads=2, dim_head=4).eval(), torch.randn(5, 3, 8)
    other = x.clone()
    other[changed] += 1
    with torch.no_grad():
        difference = (SparseCausalAttention(5)(layer, other) - SparseCausalAttention(5)(layer, x)).abs().amax((1, 2))
    expected = {changed, *([changed + 1] if changed < 4 else []), *(range(5) if changed == 0 else [])}
    assert set(torch.nonzero(difference > 0)[:, 0].tolist()) == expected


@pytest.mark.parametrize("given", [("text",), ("text", "latents"), ("text", "init"), ()])
@pytest.mark.parametrize("condition", ["text", "both"])
def test_one_frame_is_the_image_of_the_image_generator(given, condition, drawn):
    # Tokens at random are so far from those of training that guidance would amplify rounding.
    stimuli, settings = ["a", "b"], {"steps": 2, "device": "cpu", "guidance": 1.0}
    conditions = {name: drawn[name][:2] * (0.1 if name == "text" else 1) for name in given}
    still = {name: values[:, 0] if name != "text" else values for name, values in conditions.items()}
    moving = {name: values[:, :1] if name != "text" else values for name, values in conditions.items()}
    image = LatentDiffusion(condition, **settings).generate(stimuli, still, seed=4)
    video = VideoDiffusion(condition, frames=1, invert=False, **settings).generate(stimuli, moving, seed=4)
    assert video.shape == (2, 1, 64, 64, 3)
    np.testing.assert_allclose(video[:, 0], image, atol=1e-5)


def test_the_first_frame_is_that_of_an_image_whatever_follows(drawn):
    settings = {"steps": 3, "device": "cpu"}
    conditions = {name: drawn[name][:2] for name in ("text", "latents")}
    still = {"text": conditions["text"], "latents": conditions["latents"][:, 0]}
    image = LatentDiffusion(**settings).generate(["a", "b"], still, seed=4)
    video = VideoDiffusion(frames=FRAMES, invert=False, **settings).generate(["a", "b"], conditions, seed=4)
    np.testing.assert_allclose(video[:, 0], image, atol=1e-5)


def test_the_network_of_images_stays_as_it_is(drawn):
    conditions = {"text": drawn["text"][:1], "latents": drawn["latents"][:1]}
    still = {"text": conditions["text"]}
    before = LatentDiffusion(steps=2, device="cpu").generate(["a"], still)
    VideoDiffusion(frames=FRAMES, steps=2, device="cpu").generate(["a"], conditions)
    np.testing.assert_array_equal(LatentDiffusion(steps=2, device="cpu").generate(["a"], still), before)


def test_frames_without_motion_stay_still_and_moving_ones_move(drawn):
    generator = VideoDiffusion(frames=FRAMES, steps=4, device="cpu", strength=0.4)
    latents = np.repeat(drawn["latents"][:1, :1], FRAMES, axis=1)
    text = drawn["text"][:1]
    still = generator.generate(["a"], {"text": text, "latents": latents})[0]
    np.testing.assert_allclose(still, np.broadcast_to(still[:1], still.shape), atol=1e-4)
    moving = np.stack([np.roll(latents[0, i], i, axis=-1) for i in range(FRAMES)])[None]
    moved = generator.generate(["a"], {"text": text, "latents": moving})[0]
    shifted = np.roll(moved[0], 4 * 2, axis=1)  # a latent is 4 pixels
    assert np.abs(moved[2] - shifted).mean() < 0.5 * np.abs(moved[2] - moved[0]).mean()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_inverted_latents_come_back(prediction, strength):
    """With any network that is smooth: here, one whose prediction depends on latents and step."""
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
                "prediction_type": prediction, "timestep_spacing": "trailing"}  # fmt: skip
    init = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))

    def denoise(latents, step):
        return 0.3 * torch.tanh(latents.roll(1, dims=-1)) + 0.2 * latents * (1 - float(step) / 1000)

    def back(refinements):
        settings = {"strength": strength, "steps": 20}
        noise = inverted_noise(
            denoise, make_scheduler("DDIMScheduler", schedule), init, refinements=refinements, **settings
        )
        found = sample_latents(denoise, make_scheduler("DDIMScheduler", schedule), noise, init=init, **settings)
        return float((found - init).abs().max())

    errors = [back(refinements) for refinements in (0, 1, 8)]
    assert errors[0] < 0.5
    assert errors[1] < errors[0] / 2
    assert errors[2] < 1e-3


def test_the_bundled_network_returns_to_what_was_inverted():
    """Without a condition, inversion and sampling cancel; without inversion, noise replaces what was there."""
    init = render_video(sample_scene(0, 1, "video"), FRAMES)[None] / np.float32(255)
    settings = {"frames": FRAMES, "steps": 10, "device": "cpu"}
    expected = VideoDiffusion(**settings, strength=0).generate(["a"], {"init": init})
    errors = []
    for more in ({"invert": False}, {"refinements": 0}, {"refinements": 2}):
        found = VideoDiffusion(**settings, strength=0.6, **more).generate(["a"], {"init": init})
        errors.append(float(np.abs(found - expected).mean()))
    assert errors[2] < 0.5 * errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"frames": 0}, "frames"),
        ({"refinements": -1}, "refinements"),
        ({"scheduler": "EulerDiscreteScheduler"}, "DDIM"),
        ({"strength": 2}, "strength"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        load_generator("video-diffusion", **{"steps": 2, "device": "cpu", **parameters}).generate(["a"])


def test_other_numbers_of_frames_are_refused(drawn):
    with pytest.raises(InputError, match="'latents'"):
        VideoDiffusion(frames=8, steps=2, device="cpu").generate(list("abcde"), {"latents": drawn["latents"]})
