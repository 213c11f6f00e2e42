"""MindDiffuser on a small store: contract, which features are used, both stages, presets, ablations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.analyses.controls import true_targets
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.extract import load_extractor
from neurorecon.systems.base import Decoded
from neurorecon.testing import system_checks

NAME, C, Z, LAYERS = "mind-diffuser", "clip_text_15", "vqvae", "clip_layers"
#: The store is built once.
pytestmark = pytest.mark.xdist_group("mind-diffuser")

#: One pass of the network.
QUICK = {"steps": 2, "strength": 0.3, "device": "cpu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eighty training and twelve test images of one subject, with the targets of the system."""
    options = {"subjects": 1, "voxels": 300, "train_images": 80, "test_images": 12, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="mind", reader="scenes", targets=[C, Z, LAYERS], options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("mind") / "s.icechunk", progress=False)


@pytest.fixture(scope="module")
def responses(store):
    return store.responses("subj01", task="images", split="test", average="stimulus")


@pytest.fixture(scope="module")
def fitted(store):
    return nr.load_system(NAME, **QUICK).fit(store, "subj01")


@pytest.fixture(scope="module")
def decoded(fitted, responses):
    return fitted.decode(responses[:4])


def bounds(decoded):
    found = decoded[LAYERS].attrs["layer_boundaries"]
    return list(pairwise(found))


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system(NAME, **QUICK), store)


def test_the_features_that_are_decoded_best_are_used(fitted, decoded):
    weights = fitted.feature_weights(decoded)
    assert (weights == weights[:1]).all()
    *blocks, embedding = bounds(decoded)
    assert len(blocks) == 6
    reliability, deviation = decoded.reliability[LAYERS], decoded.training[LAYERS][1]
    for place, (begin, end) in enumerate(blocks):
        used = weights[0, begin:end] > 0
        assert used.sum() == round(0.25 * (end - begin))
        assert reliability[begin:end][used].min() >= reliability[begin:end][~used].max()
        # The block counts as much as its number says, whatever the units of its features.
        own = (weights[0, begin:end] * deviation[begin:end] ** 2).sum()
        assert own == pytest.approx(0.5 * [1.5, 1.2, 1, 1, 1, 1][place] / 6.7, rel=1e-4)
    whole = (weights[0, slice(*embedding)] * deviation[slice(*embedding)] ** 2).sum()
    assert whole == pytest.approx(0.5, rel=1e-4)


def test_features_that_are_not_used_have_no_effect(fitted, decoded):
    unused = fitted.feature_weights(decoded)[0] == 0
    assert unused.mean() > 0.7
    layers = decoded[LAYERS].values
    images = fitted.generate(decoded, seed=1).values
    other = fitted.generate(decoded.with_(clip_layers=np.where(unused, 100.0, layers)), seed=1).values
    np.testing.assert_array_equal(other, images)
    changed = fitted.generate(decoded.with_(clip_layers=np.where(unused, layers, 0.0)), seed=1).values
    assert np.abs(changed - images).max() > 0.01


def test_what_is_used_travels_with_what_was_decoded(store, fitted, responses, decoded, tmp_path):
    """To a system that is not fitted, through files and interventions, and where no weights are kept."""
    weights = fitted.feature_weights(decoded)
    fresh = nr.load_system(NAME, **QUICK)
    loaded = Decoded.load(decoded.save(tmp_path))
    np.testing.assert_array_equal(fresh.feature_weights(loaded), weights)
    np.testing.assert_array_equal(fresh.generate(loaded, seed=1).values, fitted.generate(decoded, seed=1).values)
    shorter = decoded.drop(Z).permute(LAYERS, [1, 0, 2, 3]).take([0, 1])
    np.testing.assert_array_equal(fresh.feature_weights(shorter), weights[:2])
    oracle = true_targets(fitted, store, decoded.stimuli)
    np.testing.assert_array_equal(fresh.feature_weights(oracle), weights)
    compute = nr.parallel.Compute(folder=tmp_path / "parts")
    for _ in range(2):  # the second time from the folder
        streamed = nr.load_system(NAME, **QUICK).fit_decode(store, "subj01", responses[:4], compute=compute)
        found = fresh.feature_weights(streamed)
        assert ((found > 0) == (weights > 0)).mean() > 0.999  # sums are in another order
    without = Decoded(dict(decoded), decoded.stimuli, decoded.training)  # nothing is known: all are used
    assert (fresh.feature_weights(without) > 0).mean() > 0.99


def test_the_second_stage_is_closer_to_what_was_decoded(store, responses):
    system = nr.load_system(NAME, steps=8, strength=0.5, device="cpu").fit(store, "subj01")
    decoded = system.decode(responses[:3])
    images, stages = system.generate(decoded, seed=1).values, system.stages(decoded, seed=1)
    assert list(stages) == [Z, "stage 1"]
    plain = nr.load_system(NAME, steps=8, strength=0.5, refine="none", device="cpu").generate(decoded, seed=1)
    np.testing.assert_array_equal(stages["stage 1"].values, plain.values)
    features = load_extractor(LAYERS, models="bundled", device="cpu")
    weights, wanted = system.feature_weights(decoded), decoded[LAYERS].values
    before, after = (
        (weights * (features.transform(made) - wanted) ** 2).sum(1) for made in (stages["stage 1"].values, images)
    )
    assert (after < 0.9 * before).all()
    agreement = [system.agreement(made, decoded).mean() for made in (stages["stage 1"].values, images)]
    assert agreement[1] > agreement[0] + 0.02


@pytest.mark.parametrize("target", [C, Z, LAYERS])
def test_a_system_without_a_target_neither_decodes_nor_uses_it(store, fitted, responses, decoded, target):
    ablated = nr.load_system(NAME, **QUICK, without=(target,)).fit(store, "subj01")
    assert set(ablated.decoders_) == {C, Z, LAYERS} - {target}
    found = ablated.reconstruct(responses[:4], seed=1).values
    np.testing.assert_allclose(found, fitted.generate(decoded.drop(target), seed=1).values, atol=1e-4)
    np.testing.assert_allclose(found, ablated.generate(decoded, seed=1).values, atol=1e-4)  # even if it is there
    if target == LAYERS:
        plain = nr.load_system(NAME, **QUICK, refine="none").generate(decoded, seed=1)
        np.testing.assert_allclose(found, plain.values, atol=1e-4)


def test_the_loop_changes_what_it_is_told_to(decoded):
    options = {**QUICK, "refine": "loop", "iterations": 1, "learning_rate": 0.1}
    some = decoded.take([0, 1])
    both = nr.load_system(NAME, **options).generate(some, seed=1).values
    z = nr.load_system(NAME, **options, optimize=("z",)).generate(some, seed=1).values
    none = nr.load_system(NAME, **options, optimize=()).generate(some, seed=1).values
    plain = nr.load_system(NAME, **QUICK, refine="none").generate(some, seed=1).values
    np.testing.assert_array_equal(none, plain)
    assert np.abs(z - plain).max() > 0.01
    assert np.abs(both - z).max() > 1e-4


def test_the_released_preset_is_ridge_on_some_voxels_and_the_moments_of_the_test_set(store, responses):
    from sklearn.linear_model import Ridge

    system = nr.load_system(NAME, preset="released", device="cpu").fit(store, "subj01")
    train = store.responses("subj01", task="images", split="train", average="stimulus")
    inputs = (train.values - train.values.mean(0)) / train.values.std(0)
    test = (responses.values - responses.values.mean(0)) / responses.values.std(0)
    decoded = system.decode(responses)
    for name, voxels in ((C, 125), (Z, 300), (LAYERS, 300)):
        chosen = getattr(system.decoders_[name], "selected_voxels_", np.arange(300))
        assert len(chosen) == voxels
        true = stored_target(store, name, train["stimulus"].values.tolist()).values.reshape(len(train), -1)
        some = np.linspace(0, true.shape[1] - 1, 50).astype(int)
        fit = Ridge(0.15).fit(inputs[:, chosen].astype(np.float64), true[:, some].astype(np.float64))
        expected = fit.predict(test[:, chosen])
        found = decoded[name].values.reshape(len(test), -1)[:, some]
        np.testing.assert_allclose(found, expected, atol=5e-3 * float(true.std()))
    alone = system.decode(responses[:1])[Z].values  # one response has no deviation
    training = nr.load_system(NAME, preset="released", scale_responses="train", device="cpu").fit(store, "subj01")
    np.testing.assert_array_equal(alone, training.decode(responses[:1])[Z].values)
    pattern = np.eye(2, 300)
    np.testing.assert_array_equal(
        system.decode(pattern, standardized=True)[Z].values, training.decode(pattern, standardized=True)[Z].values
    )


def test_the_loss_of_the_released_code(fitted, decoded):
    """Mean over all features of a block, over the norm of what was decoded; the embedding is left out."""
    weights = nr.load_system(NAME, preset="released", device="cpu").feature_weights(decoded)
    used = fitted.feature_weights(decoded)[0] > 0
    *blocks, embedding = bounds(decoded)
    layers = decoded[LAYERS].values
    for row in range(2):
        inverse = np.array([1 / np.linalg.norm((layers[row] * used)[begin:end]) for begin, end in blocks])
        inverse *= np.array([1.5, 1.2, 1, 1, 1, 1]) / inverse.sum()
        for (begin, end), each in zip(blocks, inverse, strict=True):
            np.testing.assert_allclose(weights[row, begin:end], used[begin:end] * each / (end - begin), rtol=1e-4)
    assert not weights[:, slice(*embedding)].any()


def test_the_replication_is_three_regressions_from_the_voxels_that_it_is_given(store):
    system = nr.load_system(NAME, preset="replication", **QUICK).fit(store, "subj01", "HVC")
    assert {name: decoder.n_features_in_ for name, decoder in system.decoders_.items()} == dict.fromkeys(
        (C, Z, LAYERS), len(store.voxels("subj01", "HVC"))
    )
    assert all(isinstance(decoder.alpha_, float) for decoder in system.decoders_.values())


@pytest.mark.parametrize("wrong", [{"k": 0.0}, {"k": 1.5}, {"embedding": -0.1}])
def test_shares_out_of_range(store, wrong):
    with pytest.raises(InputError, match="share"):
        nr.load_system(NAME, **wrong).fit(store, "subj01")


def test_unknown_names(store, decoded):
    with pytest.raises(UnknownNameError):
        nr.load_system(NAME, preset="fast").fit(store, "subj01")
    with pytest.raises(UnknownNameError):
        nr.load_system(NAME, **QUICK, refine="magic").generate(decoded)
