"""Refinement by the likelihood of the measured response: the encoding model, the contract, and what it changes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders import RidgeDecoder
from neurorecon.decoders.alphas import quiet_edges
from neurorecon.decoders.samples import Recordings
from neurorecon.decoders.validation import group_folds
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.gabor import GaborExtractor, gabor_of_tensors
from neurorecon.features.images import luminance, luminance_of_tensors, resize, resize_tensors
from neurorecon.systems.decoded import RESPONSES
from neurorecon.systems.likelihood import ALPHAS, EncodingModel, low_level_features
from neurorecon.testing import system_checks

QUICK = {"steps": 2, "device": "cpu", "guidance": 1.0, "alphas": 1000.0}
TARGETS = ["vqvae", "clip_text_sd", "vdvae", "clip_vision", "clip_text"]
SMALL = {"options": QUICK, "best_of": 2, "strengths": (0.3, 0.6), "average": 2, "again": (0.4, 0.2), "step": 0.2}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sixty training and sixteen test images of one subject."""
    options = {"subjects": 1, "voxels": 200, "train_images": 60, "test_images": 16, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="refined", reader="scenes", targets=TARGETS, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("refined") / "s.icechunk", progress=False)


@pytest.fixture(scope="module")
def refined(store):
    return nr.load_system("refined", system="takagi", **SMALL).fit(store, "subj01")


@pytest.fixture(scope="module")
def decoded(store, refined):
    return refined.decode(store.responses("subj01", task="images", split="test", average="stimulus"))


@pytest.fixture(scope="module")
def model(refined):
    return EncodingModel.of_arrays(refined.learned_)


@pytest.fixture(scope="module")
def seen(store, decoded):
    return np.asarray(store.images(decoded.stimuli.tolist())) / 255


# -- the encoding model -----------------------------------------------------------------------------------------------


def test_features_of_tensors_are_those_of_arrays():
    import torch

    images = (np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)) / 255).astype(np.float32)  # as extractors cut
    tensors = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    np.testing.assert_allclose(luminance_of_tensors(tensors).numpy(), luminance(images), atol=1e-6)
    np.testing.assert_allclose(resize_tensors(tensors, 16).numpy(), resize(tensors.numpy(), 16), atol=1e-6)
    found = gabor_of_tensors(luminance_of_tensors(tensors)).numpy()
    np.testing.assert_allclose(found, GaborExtractor().transform(images), rtol=1e-3, atol=1e-4)


def test_the_likelihood_is_that_of_a_gaussian_with_the_covariance_of_left_out_residuals():
    from scipy.stats import multivariate_normal
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(1)
    images = rng.random((40, 16, 16, 3)).astype(np.float32)
    images += 0.5 * rng.standard_normal((40, 1, 1, 1))
    images = np.clip(images, 0, 1).astype(np.float32)
    light = images.mean(axis=(1, 2, 3))[:, None]
    responses = 5 * (light - light.mean()) * rng.random(6) + rng.standard_normal((40, 1)) + rng.standard_normal((40, 6))
    model = EncodingModel.fit(responses, Recordings.of_arrays(responses, np.arange(40).astype(str), {"images": images}))

    inputs = model.bands(low_level_features(images))
    with quiet_edges():
        ridge = RidgeDecoder(ALPHAS, cv="gcv", alpha_per="target", dtype="float64").fit(inputs, responses)
    left_out = np.empty_like(responses)
    for train, test in group_folds(40, None, 5):
        for voxel, alpha in enumerate(ridge.alpha_):
            fitted = Ridge(alpha).fit(inputs[train], responses[train, voxel])
            left_out[test, voxel] = responses[test, voxel] - fitted.predict(inputs[test])
    covariance = ledoit_wolf(left_out, assume_centered=True)[0]
    new = rng.random((5, 16, 16, 3)).astype(np.float32)
    features = model.bands(low_level_features(new))
    expected = [multivariate_normal(ridge.coef_ @ one, covariance).logpdf(responses[0]) for one in features]
    found = model.log_likelihood(new, np.repeat(model.evidence(responses[:1]), 5, axis=0))
    np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=1e-3, atol=1e-3)


def test_images_that_were_seen_are_likelier_than_others(model, decoded, seen):
    evidence = model.evidence(decoded[RESPONSES].values)
    own = model.log_likelihood(seen, evidence)
    features = model.bands(low_level_features(seen))
    pairs = evidence @ features.T - np.einsum("if,fg,ig->i", features, model.information, features) / 2
    np.testing.assert_allclose(np.diagonal(pairs), own, rtol=1e-5, atol=1e-5)
    assert (own[:, None] > pairs)[~np.eye(len(own), dtype=bool)].mean() > 0.7


def test_the_step_is_the_mode_of_the_posterior_and_makes_images_likelier(model, decoded, seen):
    evidence = model.evidence(decoded[RESPONSES].values)
    gray = np.full((len(evidence), 16, 16, 3), 0.5, dtype=np.float32)  # the grid itself: nothing is interpolated
    stepped = model.step(gray, evidence, 0.3)
    assert (model.log_likelihood(stepped, evidence) > model.log_likelihood(gray, evidence)).mean() > 0.8
    np.testing.assert_array_equal(model.step(gray, evidence, 0.0), gray)
    # The gradient of the log-posterior is zero there, as far as pixels alone change: checked in the span of the prior.
    pixels = model.spread.shape[0]
    features = model.bands(low_level_features(gray))
    gradient = (evidence - features @ model.information)[:, :pixels]
    change = np.moveaxis(model.step(gray, evidence, 0.02) - gray, -1, 1).reshape(len(gray), -1)
    change = change * model.bands.scale[:pixels]
    expected = 0.02**2 * (gradient - change @ model.information[:pixels, :pixels]) @ model.spread
    np.testing.assert_allclose(change, expected, atol=1e-2 * np.abs(expected).max())


def test_the_gradient_is_that_of_the_likelihood(model, decoded, seen):
    import torch

    evidence = model.evidence(decoded[RESPONSES].values)[:2]
    loss = model.losses(dict(zip("ab", evidence, strict=True)))(["a", "b"])
    images = torch.from_numpy(np.moveaxis(seen[:2], -1, 1).astype(np.float32).copy()).requires_grad_()
    found = loss(images)
    np.testing.assert_allclose(-found.detach().numpy(), model.log_likelihood(seen[:2], evidence), rtol=1e-2, atol=0.05)
    (gradient,) = torch.autograd.grad(found.sum(), images)
    assert float(gradient.abs().max()) > 0
    with torch.no_grad():
        assert (loss(images - 1e-3 * gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)) < found).all()


def test_voxels_that_never_change_say_nothing():
    rng = np.random.default_rng(0)
    images = rng.random((40, 16, 16, 3))
    responses = np.concatenate([rng.standard_normal((40, 1)), np.zeros((40, 2))], axis=1)
    recordings = Recordings.of_arrays(responses, np.arange(40).astype(str), {"images": images})
    model = EncodingModel.fit(responses, recordings)
    assert (model.projection[1:] == 0).all()
    assert np.isfinite(model.log_likelihood(images[:5], model.evidence(responses[:5]))).all()
    assert model.quality < 0.5
    with pytest.raises(InputError, match="more training stimuli"):
        EncodingModel.fit(responses[:4], recordings)


# -- refinement -------------------------------------------------------------------------------------------------------


def test_the_best_of_n_is_the_likeliest_of_the_images_of_the_system(refined, decoded, model):
    best = clone(refined).set_params(average=0)
    vars(best).update({name: value for name, value in vars(refined).items() if name.endswith("_")})
    images = best.generate(decoded, seed=3).values
    evidence = model.evidence(decoded[RESPONSES].values)
    first = best.set_params(best_of=1, strengths=None).generate(decoded, seed=3).values
    alone = refined.base.generate(decoded.drop(RESPONSES), seed=3).values  # in another batch
    np.testing.assert_allclose(first, alone, atol=1e-4)
    chance = best.set_params(best_of=2, strengths=(0.3, 0.6), rank="random").generate(decoded, seed=3).values
    gain = model.log_likelihood(images, evidence) - model.log_likelihood(chance, evidence)
    assert (gain > -1e-6).all()
    assert (gain > 1e-3).any()


def test_interventions_on_the_response_reach_the_images(refined, decoded, store):
    images = refined.generate(decoded, seed=1).values
    order = np.roll(np.arange(len(images)), 1)
    exchanged = refined.generate(decoded.permute(RESPONSES, order), seed=1).values
    assert not np.array_equal(images, exchanged)
    unrefined = refined.generate(decoded.drop(RESPONSES), seed=1).values
    np.testing.assert_array_equal(unrefined, refined.base.generate(decoded.drop(RESPONSES), seed=1).values)
    stages = refined.stages(decoded, seed=1)
    assert list(stages) == ["vqvae", "unrefined"]
    np.testing.assert_array_equal(stages["unrefined"].values, unrefined)
    pulled = clone(refined).set_params(average=0, gradient=0.2, best_of=1)
    vars(pulled).update({name: value for name, value in vars(refined).items() if name.endswith("_")})
    few = decoded.take(np.arange(4))
    evidence = EncodingModel.of_arrays(refined.learned_).evidence(few[RESPONSES].values)
    likelihood = EncodingModel.of_arrays(refined.learned_).log_likelihood
    before = likelihood(pulled.set_params(gradient=0.0).generate(few).values, evidence)
    after = likelihood(pulled.set_params(gradient=0.2).generate(few).values, evidence)
    assert after.mean() > before.mean()


@pytest.fixture(scope="module")
def own(store):
    """Our own system, quickly, and what it decodes of four images."""
    options = {"steps": 4, "guidance": 1.0, "alphas": 1000.0}
    system = nr.load_system("neurorecon", options=options, best_of=3, average=2, strengths=(0.5, 0.75), again=(0.5,))
    system.set_params(device="cpu", pull=0.0, step=0.0).fit(store, "subj01")
    return system, system.decode(store.responses("subj01", task="images", split="test", average="stimulus")[:4])


def generated(fitted, decoded, **settings):
    """Return what a fitted system generates with other settings."""
    found = clone(fitted).set_params(**settings)
    vars(found).update({name: value for name, value in vars(fitted).items() if name.endswith("_")})
    return found.generate(decoded, seed=2).values


def test_what_was_decoded_pulls_the_mean(own):
    """Vision tokens of the images get closer to the decoded ones; without these, nothing pulls."""
    system, decoded = own
    agreement = system.base.agreement
    free, pulled = (generated(system, decoded, pull=pull) for pull in (0.0, 0.3))
    assert (agreement(pulled, decoded) > agreement(free, decoded)).all()
    rest = decoded.drop("clip_vision")
    np.testing.assert_array_equal(generated(system, rest, pull=0.3), generated(system, rest, pull=0.0))
    with pytest.raises(InputError, match="decodes nothing that could pull"):
        generated(system, decoded, system="takagi", options={}, pull=0.1)
    with pytest.raises(InputError, match="without an average"):
        generated(system, decoded, average=0, pull=0.1)
    # At the mean of training, what is left of a token is a rounding error, which has no direction.
    tokens, mean = decoded["clip_vision"], decoded.training["clip_vision"][0]
    mean = decoded.with_(clip_vision=tokens.copy(data=np.broadcast_to(mean * np.float32(1 + 1e-6), tokens.shape)))
    same = (generated(system, mean, pull=pull) for pull in (0.3, 0.0))
    np.testing.assert_allclose(*same, atol=1e-4)


def test_the_pull_is_toward_the_tokens_of_the_target(own):
    """Its loss is that of the extractor's tokens, so of images with the decoded tokens it is 0."""
    import torch

    from neurorecon.features.extract import load_extractor
    from neurorecon.generators.refined_diffusion import token_losses

    images = generated(own[0], own[1])
    tokens = load_extractor("clip_vision", models="bundled").transform(images)
    mean = own[1].training["clip_vision"][0]
    shown = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    found = [
        token_losses("bundled", dict(zip("abcd", np.roll(tokens, by, axis=0), strict=True)), mean)("abcd")(
            shown
        ).numpy()
        for by in (0, 1)
    ]
    x, y = tokens - mean, np.roll(tokens, 1, axis=0) - mean
    cosine = (x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    np.testing.assert_allclose(found[0], 0, atol=0.01)
    np.testing.assert_allclose(found[1], 1 - cosine.mean(axis=1), atol=0.02)


def test_voxels_and_steps_of_our_own_system():
    """Latents come from lower visual cortex unless `rois` says otherwise; few steps are for the bundled networks."""
    own = nr.load_system("neurorecon")
    assert {name: spec.roi for name, spec in own.targets.items()} == {
        "vdvae": "LVC", "clip_vision": None, "clip_text": None
    }  # fmt: skip
    assert own.base.settings["steps"] == 8
    assert "steps" not in nr.load_system("neurorecon", models="published").settings["options"]
    elsewhere = nr.load_system("neurorecon", rois={"clip_text": "FFA"}, options={"steps": 5})
    assert {name: spec.roi for name, spec in elsewhere.targets.items()} == {
        "vdvae": None, "clip_vision": None, "clip_text": "FFA"
    }  # fmt: skip
    assert elsewhere.base.settings["steps"] == 5
    assert elsewhere.base.settings["text_ratio"] == 0.8
    assert nr.load_system("neurorecon", system="takagi").targets["vqvae"].roi == "early"
    assert nr.refine("takagi", rois={}).targets["vqvae"].roi is None


def test_any_system_of_images_can_be_refined_before_it_is_fitted(store):
    found = nr.refine(nr.load_system("takagi", guidance=2.0), best_of=4)
    assert (found.system, found.options, found.best_of) == ("takagi", {"guidance": 2.0}, 4)
    assert found.trains_on == "samples"
    pixels = nr.refine("linear-pixels", best_of=2).fit(store, "subj01")
    test = store.responses("subj01", task="images", split="test", average="stimulus")
    np.testing.assert_array_equal(
        pixels.reconstruct(test).values, pixels.base.generate(pixels.decode(test).drop(RESPONSES)).values
    )
    with pytest.raises(InputError, match="does not generate by diffusion"):
        pixels.set_params(average=1).reconstruct(test)
    with pytest.raises(InputError, match="fitted system cannot be refined"):
        nr.refine(nr.load_system("linear-pixels").fit(store, "subj01"))
    with pytest.raises(UnknownNameError, match="bestof"):
        nr.refine("takagi", bestof=3)
    with pytest.raises(InputError, match="cannot be refined"):
        nr.refine("mind-animator").targets  # noqa: B018
    with pytest.raises(InputError, match="best_of=0"):
        pixels.set_params(best_of=0, average=0).reconstruct(test)
    with pytest.raises(UnknownNameError, match="ranking"):
        pixels.set_params(best_of=1, rank="clip").reconstruct(test)


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system("refined", system="linear-pixels", best_of=2), store)


@pytest.mark.parametrize("check", [one for one in system_checks() if str(one) in ("seed", "save")], ids=str)
def test_contract_with_diffusion(store, check):
    check(nr.load_system("refined", system="takagi", **SMALL), store)
