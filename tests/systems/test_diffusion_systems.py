"""Brain-Diffuser and Takagi & Nishimoto's system on a small store: contract, presets, ablations, best of n."""

from __future__ import annotations

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.extract import load_extractor
from neurorecon.metrics import pixcorr
from neurorecon.systems.base import MissingTargetError, correlate_rows
from neurorecon.testing import system_checks

TARGETS = ["vdvae", "clip_vision", "clip_text", "clip_text_sd", "vqvae"]
#: The store is built once.
pytestmark = pytest.mark.xdist_group("diffusion-systems")

QUICK = {"steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eighty training and twenty test images of one subject, with the targets of both systems."""
    options = {"subjects": 1, "voxels": 300, "train_images": 80, "test_images": 20, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="systems", reader="scenes", targets=TARGETS, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("systems") / "s.icechunk", progress=False)


@pytest.fixture(scope="module")
def test_responses(store):
    return store.responses("subj01", task="images", split="test", average="stimulus")


@pytest.fixture(scope="module")
def fitted(store):
    """Return a system by name, fitted once."""
    kept = {}

    def get(name):
        if name not in kept:
            kept[name] = nr.load_system(name, **QUICK).fit(store, "subj01")
        return kept[name]

    return get


@pytest.mark.parametrize("check", system_checks(), ids=str)
@pytest.mark.parametrize("name", ["brain-diffuser", "takagi"])
def test_contract(store, name, check):
    check(nr.load_system(name, **QUICK), store)


@pytest.mark.parametrize("name", ["brain-diffuser", "takagi"])
def test_true_targets_give_the_image_and_decoded_ones_something_like_it(store, fitted, test_responses, name):
    system = nr.load_system(name, steps=10, strength=0.3, guidance=1.0, eta=0.0, device="cpu").fit(store, "subj01")
    decoded = system.decode(test_responses)
    stimuli = decoded.stimuli.tolist()
    seen = np.asarray(store.images(stimuli)) / 255
    true = decoded.with_(**{target: stored_target(store, target, stimuli).values for target in decoded})
    assert pixcorr(seen, system.generate(true).values).mean() > 0.85
    assert pixcorr(seen, system.generate(decoded).values).mean() > 0.15
    (first,) = system.stages(true).values()
    assert pixcorr(seen, first.values).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "target"),
    [("brain-diffuser", "vdvae"), ("brain-diffuser", "clip_text"), ("takagi", "vqvae"), ("takagi", "clip_text_sd")],
)
def test_a_system_without_a_target_neither_decodes_nor_uses_it(store, fitted, test_responses, name, target):
    decoded = fitted(name).decode(test_responses)
    ablated = nr.load_system(name, **QUICK, without=(target,)).fit(store, "subj01")
    assert set(ablated.decoders_) == set(decoded) - {target}
    found = ablated.reconstruct(test_responses, seed=1)
    np.testing.assert_array_equal(found.values, fitted(name).generate(decoded.drop(target), seed=1).values)
    np.testing.assert_array_equal(found.values, ablated.generate(decoded, seed=1).values)  # even if it is there


@pytest.mark.parametrize(("name", "target"), [("brain-diffuser", "vdvae"), ("takagi", "vqvae")])
def test_the_first_stage_alone(store, fitted, test_responses, name, target):
    alone = nr.load_system(name, device="cpu", first_stage_only=True).fit(store, "subj01")
    assert list(alone.decoders_) == [target]
    (stage,) = fitted(name).stages(fitted(name).decode(test_responses)).values()
    np.testing.assert_array_equal(alone.reconstruct(test_responses).values, stage.values)
    with pytest.raises(MissingTargetError, match=target):
        alone.generate(alone.decode(test_responses).drop(target))


@pytest.mark.parametrize(("name", "target"), [("brain-diffuser", "clip_vision"), ("takagi", "vqvae")])
def test_the_best_of_several_agrees_better_with_what_was_decoded(fitted, test_responses, name, target):
    decoded = fitted(name).decode(test_responses)
    several = fitted(name)
    one = several.generate(decoded, seed=2).values
    several.set_params(best_of=3)
    best = several.generate(decoded, seed=2).values
    several.set_params(best_of=1)
    extractor = load_extractor(target, models="bundled", device="cpu")
    wanted = decoded[target].values
    if target == "clip_vision":
        mean = decoded.training[target][0]
        agreement = [
            correlate_rows(extractor.transform(images) - mean, wanted - mean).mean(1) for images in (one, best)
        ]
    else:
        flat = wanted.reshape(len(wanted), -1)
        agreement = [correlate_rows(extractor.transform(images).reshape(flat.shape), flat) for images in (one, best)]
    assert (agreement[1] >= agreement[0] - 1e-6).all()
    assert (agreement[1] > agreement[0] + 1e-3).any()
    kept = (one == best).all(axis=(1, 2, 3))
    assert kept.any()  # the first candidate has the noise of the seed itself
    assert not kept.all()


def test_the_released_takagi_is_himalayas_ridge_without_intercept(store, test_responses):
    from himalaya.kernel_ridge import KernelRidgeCV

    system = nr.load_system("takagi", preset="released", **QUICK, rois={}).fit(store, "subj01")
    table = store.samples("subj01")
    train = store.responses("subj01", task="images", split="train")
    assert len(train) == len(table[table["split"] == "train"])
    scaled = (train.values - train.values.mean(0)) / train.values.std(0)
    test = (test_responses.values - train.values.mean(0)) / train.values.std(0)
    z = stored_target(store, "vqvae", train["stimulus"].values.tolist()).values.reshape(len(train), -1)[:, :40]
    theirs = KernelRidgeCV(alphas=[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], cv=5)
    expected = theirs.fit(scaled.astype(np.float64), z.astype(np.float64)).predict(test.astype(np.float64))
    found = system.decode(test_responses)["vqvae"].values.reshape(len(test), -1)[:, :40]
    alphas = system.decoders_["vqvae"].alpha_[:40]
    same = alphas == theirs.best_alphas_
    assert same.mean() > 0.6  # folds are drawn by another generator
    np.testing.assert_allclose(found[:, same], expected[:, same], atol=5e-3)


def test_the_released_brain_diffuser_has_the_published_alphas_and_the_moments_of_the_test_set(store, test_responses):
    from sklearn.linear_model import Ridge

    system = nr.load_system("brain-diffuser", preset="released", **QUICK).fit(store, "subj01")
    train = store.responses("subj01", task="images", split="train", average="stimulus")
    mean, scale = train.values.mean(0), train.values.std(0)
    for name, alpha in {"vdvae": 50_000, "clip_vision": 60_000, "clip_text": 100_000}.items():
        true = (
            stored_target(store, name, train["stimulus"].values.tolist())
            .values.reshape(len(train), -1)
            .astype(np.float64)
        )
        predicted = (
            Ridge(alpha).fit((train.values - mean) / scale, true).predict((test_responses.values - mean) / scale)
        )
        deviation = predicted.std(0)
        vary = true.std(0) > 0  # token 0 of the text is constant
        expected = (predicted - predicted.mean(0))[:, vary] / deviation[vary] * true.std(0)[vary] + true.mean(0)[vary]
        found = system.decode(test_responses)[name].values.reshape(expected.shape[0], -1)
        np.testing.assert_allclose(found[:, vary], expected, atol=2e-3 * float(true.std()))
        np.testing.assert_allclose(found[:, ~vary], true[:1, ~vary].repeat(len(found), 0), atol=1e-4)


def test_a_detour_through_8_bits_changes_little(fitted, test_responses):
    decoded = fitted("takagi").decode(test_responses)
    straight = fitted("takagi").generate(decoded, seed=1).values
    fitted("takagi").set_params(detour=True)
    detour = fitted("takagi").generate(decoded, seed=1).values
    fitted("takagi").set_params(detour=None)
    assert 0 < np.abs(straight - detour).mean() < 0.1


def test_targets_of_other_networks_are_refused(store, tmp_path):
    import shutil

    from neurorecon.hub.catalog import BUNDLED

    for name in ("vdvae", "clip", "dual_diffusion", "text_diffusion", "autoencoder"):
        shutil.copytree(BUNDLED / name, tmp_path / name)
    system = nr.load_system("brain-diffuser", models=str(tmp_path), first_stage_only=True, device="cpu")
    system.fit(store, "subj01")  # the same weights in another place
    weights = tmp_path / "vdvae" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="other networks"):
        system.fit(store, "subj01")


def test_bad_parameters(store):
    with pytest.raises(UnknownNameError):
        nr.load_system("brain-diffuser", preset="fast").fit(store, "subj01")
    with pytest.raises(UnknownNameError):
        nr.load_system("takagi", no_such_parameter=1)
    system = nr.load_system("takagi", strength=2.0, device="cpu").fit(store, "subj01")
    responses = store.responses("subj01", task="images", split="test", average="stimulus")
    with pytest.raises(InputError, match="out of range"):
        system.reconstruct(responses)
