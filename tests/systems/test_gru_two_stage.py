"""The two-stage decoder with a GRU: contract, first stages, groups, guidance by category, resuming."""

from __future__ import annotations

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import stored_target
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.vdvae import first_features
from neurorecon.generators.base import load_generator
from neurorecon.metrics import pixcorr
from neurorecon.systems.base import TargetSpec
from neurorecon.testing import system_checks

TARGETS = ["vdvae", "clip_vision", "clip_text", "category"]
#: The store is built once.
pytestmark = pytest.mark.xdist_group("gru-two-stage")

QUICK = {"steps": 2, "device": "cpu", "network": {"max_epochs": 3, "hidden": (32,), "learning_rate": 0.01}}
#: Checks of the contract that guidance by category could break: it has another target, and learns more.
BY_CATEGORY = ("targets", "decode", "missing_targets", "inputs_stay", "save", "resume")

#: Values of the groups up to 16 x 16: 12 of 1 x 1, 6 of 4 x 4, 7 of 8 x 8, one of 16 x 16, each of 8 channels.
FIRST = 8 * (12 + 6 * 16 + 7 * 64 + 256)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eighty training and eight test images of one subject."""
    options = {"subjects": 1, "voxels": 300, "train_images": 80, "test_images": 8, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="two-stage", reader="scenes", targets=TARGETS, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("two-stage") / "s.icechunk", progress=False)


@pytest.fixture(scope="module")
def test_responses(store):
    return store.responses("subj01", task="images", split="test", average="stimulus")


@pytest.fixture(scope="module")
def fitted(store):
    """Return a fitted system, with other parameters on request."""
    kept = {}

    def get(**parameters):
        key = repr(parameters)
        if key not in kept:
            kept[key] = nr.load_system("gru-two-stage", **{**QUICK, **parameters}).fit(store, "subj01")
        return kept[key]

    return get


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system("gru-two-stage", **QUICK), store)


@pytest.mark.parametrize("check", [check for check in system_checks() if check.name in BY_CATEGORY], ids=str)
def test_contract_of_guidance_by_category(store, check):
    check(nr.load_system("gru-two-stage", **QUICK, first_stage_decoder="ridge", guidance_by="category"), store)


def test_only_the_first_groups_are_decoded_and_the_others_come_from_the_prior(store, fitted, test_responses):
    system = fitted()
    decoded = system.decode(test_responses)
    latents = decoded["vdvae"].values
    assert system.decoders_["vdvae"].target_shape_ == (FIRST,)
    mean = system.training_["vdvae"][0]
    np.testing.assert_allclose(latents[:, FIRST:], np.broadcast_to(mean[FIRST:], (8, len(mean) - FIRST)), atol=1e-6)
    assert (latents[:, :FIRST].std(axis=0) > 0).mean() > 0.99
    # True targets have their full size, and the rest of them is not used either.
    true = stored_target(store, "vdvae", decoded.stimuli.tolist()).values
    found = system.stages(decoded.with_(vdvae=true))["vdvae"].values
    alone = load_generator("vdvae", device="cpu").generate(decoded.stimuli.tolist(), {"latents": true[:, :FIRST]})
    np.testing.assert_array_equal(found, alone)
    seen = np.asarray(store.images(decoded.stimuli.tolist())) / 255
    assert pixcorr(seen, found).mean() > 0.8


@pytest.mark.parametrize("groups", [3, 15, "4x4", "16x16", 30, "32x32"])
def test_groups_are_counted_or_named_by_their_resolution(store, groups):
    attrs = stored_target(store, "vdvae", store.stimuli["id"][:1].tolist()).attrs
    sides = [shape[1] for shape in attrs["group_shapes"]]
    count = groups if isinstance(groups, int) else sides.index(int(groups.partition("x")[0])) + 1
    assert first_features(attrs, groups) == sum(8 * side**2 for side in sides[:count])


def test_the_published_ladder_has_15_groups_and_13344_values_up_to_16x16():
    from neurorecon.models.vdvae_config import IMAGENET64

    shapes = [[IMAGENET64.z_dim, layer.resolution, layer.resolution] for layer in IMAGENET64.decoder_layers]
    attrs = {"group_shapes": shapes, "group_boundaries": np.cumsum([0, *map(np.prod, shapes)]).tolist()}
    assert first_features(attrs, "16x16") == first_features(attrs, 15) == 13_344
    assert first_features(attrs, 31) == 91_168


@pytest.mark.parametrize("kind", ["gru", "cnn", "transformer", "mlp"])
def test_networks_decode_the_first_stage(store, fitted, test_responses, kind):
    learning = {
        "max_epochs": 30,
        "learning_rate": 0.003,
        "dropout": 0.2,
        "input_dropout": 0.2,
        "validation_fraction": 0.25,
    }
    system = fitted(first_stage_decoder=kind, network={**QUICK["network"], **learning}, first_stage_only=True)
    assert list(system.decoders_) == ["vdvae"]
    latents = system.decode(test_responses)["vdvae"].values
    mean, deviation = (moment[:FIRST] for moment in system.training_["vdvae"])
    # Networks shrink as ridge does: predictions are rescaled, or images would be gray.
    network = system.decoders_["vdvae"]
    assert np.median(network.predicted_deviation_ / network.target_deviation_) < 0.3
    assert 0.35 < np.median(latents[:, :FIRST].std(axis=0) / deviation) < 1.6
    # It learned its training images, each from its own response.
    train = store.responses("subj01", task="images", split="train", average="stimulus")
    found = system.decode(train)["vdvae"].values
    true = stored_target(store, "vdvae", train["stimulus"].values.tolist()).values
    one, other = ((rows[:, :FIRST] - mean) / np.maximum(deviation, 1e-9) for rows in (found, true))
    pairs = np.corrcoef(one, other)[: len(one), len(one) :]
    assert np.diagonal(pairs).mean() > pairs.mean() + 0.1


def test_ridge_as_the_first_stage_of_all_groups_is_brain_diffuser(store, fitted, test_responses):
    ridge = fitted(first_stage_decoder="ridge", groups="32x32", network=None)
    theirs = nr.load_system("brain-diffuser", steps=2, device="cpu").fit(store, "subj01")
    expected = theirs.decode(test_responses)
    for name, array in ridge.decode(test_responses).items():
        np.testing.assert_array_equal(array.values, expected[name].values)
    found, images = ridge.generate(expected, seed=3), theirs.generate(expected, seed=3)
    np.testing.assert_array_equal(found.values, images.values)
    # Alphas are chosen group by group, so fewer groups are decoded to the same values.
    fewer = fitted(first_stage_decoder="ridge", network=None).decode(test_responses)["vdvae"].values
    np.testing.assert_allclose(fewer[:, :FIRST], expected["vdvae"].values[:, :FIRST], atol=1e-4)


def test_a_category_guides_by_the_mean_tokens_of_its_training_images(store, fitted, test_responses):
    system = fitted(guidance_by="category", first_stage_decoder="ridge", network=None)
    decoded = system.decode(test_responses)
    assert set(decoded) == {"vdvae", "category"}
    train = store.responses("subj01", task="images", split="train", average="stimulus")["stimulus"].values.tolist()
    shares = stored_target(store, "category", train).values.astype(np.float64) ** 2
    for name in ("clip_vision", "clip_text"):
        tokens = stored_target(store, name, train).values.astype(np.float64)
        means = np.stack([np.average(tokens, axis=0, weights=column) for column in shares.T])
        one = np.zeros((8, 8), dtype=np.float32)
        one[:, 2] = 0.7  # one category alone, of any size
        found = system.with_contexts(decoded.with_(category=one))[name].values
        np.testing.assert_allclose(found, means[2][None].repeat(8, 0), atol=1e-4)
        one[:, 5], one[:, 6] = 1.4, -3.0  # a mixture; what is negative is not there
        found = system.with_contexts(decoded.with_(category=one))[name].values
        np.testing.assert_allclose(found, (means[2] + 4 * means[5])[None].repeat(8, 0) / 5, atol=1e-4)
        nothing = system.with_contexts(decoded.with_(category=-one * 0))[name].values
        expected = np.average(means, axis=0, weights=shares.sum(0))[None].repeat(8, 0)
        np.testing.assert_allclose(nothing, expected, atol=1e-4)
    # Images differ with the category alone, and are the same for the same category.
    first = decoded.take([0, 0]).with_(category=np.eye(8, dtype=np.float32)[[0, 4]])
    images = system.generate(first, seed=1).values
    assert np.abs(images[0] - images[1]).max() > 0.02
    with pytest.raises(KeyError):
        decoded["clip_vision"]
    best = system.set_params(best_of=2).generate(decoded.take([0, 1]), seed=1)
    system.set_params(best_of=1)
    assert best.shape == (2, 64, 64, 3)


def test_an_interrupted_fit_resumes_within_the_training_of_a_network(
    store, fitted, test_responses, tmp_path, monkeypatch
):
    from neurorecon.decoders.neural.training import Training
    from neurorecon.parallel import Compute

    expected = fitted().decode(test_responses)["vdvae"].values
    epoch, done = Training._epoch, []

    def interrupted(run):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(epoch(run))

    def counted(run):
        done.append(epoch(run))

    for folder, fit in {
        tmp_path / "fit": lambda system: system.fit(store, "subj01", folder=tmp_path / "fit").decode(test_responses),
        tmp_path / "results": lambda system: system.fit_decode(
            store, "subj01", test_responses, compute=Compute(folder=tmp_path / "results")
        ),
    }.items():
        done.clear()
        monkeypatch.setattr(Training, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(nr.load_system("gru-two-stage", **QUICK))
        assert len(list(folder.rglob("checkpoint.safetensors"))) == 1
        done.clear()
        monkeypatch.setattr(Training, "_epoch", counted)
        found = fit(nr.load_system("gru-two-stage", **QUICK))
        assert len(done) == 1  # the third of three epochs
        np.testing.assert_array_equal(found["vdvae"].values, expected)
        assert not list(folder.rglob("checkpoint.safetensors"))  # what is complete takes no more space


@pytest.mark.parametrize("preset", ["corrected", "released"])
def test_the_second_stage_is_brain_diffusers(preset):
    ours = nr.load_system("gru-two-stage", preset=preset).settings
    theirs = nr.load_system("brain-diffuser", preset=preset).settings
    assert {name: ours[name] for name in theirs if name not in ("alphas", "alpha_per")} == {
        name: value for name, value in theirs.items() if name not in ("alphas", "alpha_per")
    }


def test_the_released_preset_scales_the_first_stage_by_the_moments_of_the_test_set(store, test_responses):
    system = nr.load_system("gru-two-stage", **QUICK, preset="released", first_stage_only=True).fit(store, "subj01")
    latents = system.decode(test_responses)["vdvae"].values[:, :FIRST]
    network = system.decoders_["vdvae"]
    spread = network.target_deviation_
    np.testing.assert_allclose(((latents.mean(0) - network.target_mean_) / spread), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std(0) / spread, 1, atol=1e-3)
    alone = nr.load_system("gru-two-stage", **QUICK, preset="released", first_stage_only=True)
    alone.fit(store, "subj01", alone=True)
    assert np.isfinite(alone.decode(test_responses[:1])["vdvae"].values).all()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"first_stage_decoder": "lstm"}, UnknownNameError, "first stage"),
        ({"guidance_by": "probe"}, UnknownNameError, "guidance"),
        ({"network": {"no_such": 1}}, UnknownNameError, "no_such"),
        ({"network": {"chunk": 0}}, InputError, "chunk"),
        ({"groups": 31}, InputError, "groups"),
        ({"groups": 0}, InputError, "groups"),
        ({"groups": "15x15"}, InputError, "16x16"),
    ],
)
def test_bad_parameters(store, parameters, error, message):
    with pytest.raises(error, match=message):
        nr.load_system("gru-two-stage", **{**QUICK, **parameters}).fit(store, "subj01")


def test_targets_without_groups_are_refused(store):
    target = stored_target(store, "clip_vision", store.stimuli["id"][:2].tolist())
    with pytest.raises(InputError, match="as vdvae is"):
        TargetSpec("clip_vision", None, groups=3).part(target)
