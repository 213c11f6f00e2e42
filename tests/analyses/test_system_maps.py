import numpy as np
import pytest
import xarray
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge

import neurorecon as nr
from neurorecon.analyses.system_maps import SystemMapSettings, system_maps
from neurorecon.decoders import GRUDecoder, RidgeDecoder
from neurorecon.decoders.neural.mlp import MLPDecoder
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.store.build import build_from_arrays
from neurorecon.systems.base import System, TargetSpec, as_images

STIMULI, TRAIN, VOXELS = 260, 200, 24
ROIS = {"V1": slice(0, 8), "V2": slice(8, 16), "FFA": slice(16, 24)}


class Tokens(System):
    """A system of one target with tokens; no network."""

    name = ""

    def __init__(self, decoder=None, standardize=True, roi=None):
        self.decoder = decoder
        self.standardize = standardize
        self.roi = roi

    @property
    def targets(self):
        decoder = RidgeDecoder(20.0) if self.decoder is None else self.decoder
        return {"words": TargetSpec("words", decoder, roi=self.roi, standardize=self.standardize)}

    def generate(self, decoded, *, seed=0):
        return as_images(np.zeros((len(decoded.stimuli), 2, 2, 3)), decoded.stimuli)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """V1 is driven by the target, V2 holds the noise of V1 and no signal, FFA is noise of its own."""
    random = np.random.default_rng(1)
    words = random.standard_normal((STIMULI, 3, 4)).astype(np.float32)
    words[:, 2, 3] = 1.0  # a feature that never varies
    noise = 3 * random.standard_normal((STIMULI, 8))
    signal = words[:, :2].reshape(STIMULI, -1) @ random.standard_normal((8, 8))
    responses = np.concatenate([
        signal + noise, noise + 0.1 * random.standard_normal((STIMULI, 8)), 3 * random.standard_normal((STIMULI, 8))
    ], axis=1)  # fmt: skip
    masks = {name: np.isin(np.arange(VOXELS), np.arange(VOXELS)[part]) for name, part in ROIS.items()}
    ids = np.array([f"s{number:03d}" for number in range(STIMULI)])
    split = np.where(np.arange(STIMULI) < TRAIN, "train", "test")
    target = xarray.DataArray(words, dims=("stimulus", "token", "channel"), coords={"stimulus": ids})
    return _store(tmp_path_factory.mktemp("maps") / "words.icechunk", responses, ids, split, masks, target)


def _store(path, responses, ids, split, masks, target):
    place = np.arange(VOXELS)
    built = build_from_arrays(
        path, responses.astype(np.float32), {"stimulus": ids, "split": split},
        images=np.random.default_rng(0).integers(0, 255, (len(ids), 4, 4, 3), dtype=np.uint8),
        stimuli={"id": ids}, voxels={"i": place % 4, "j": place // 4, "k": 0 * place}, rois=masks, progress=False,
        affine=np.eye(4).tolist(), shape=[4, 6, 1],
    )  # fmt: skip
    return nr.add_target(built, "words", target, made_by={"model": "random numbers", "source": "a test"})


def _samples(store, split):
    """Return standardized responses and the target of a split, by their definition."""
    found = {part: store.responses(store.subjects[0], split=part, average="stimulus") for part in ("train", split)}
    mean, scale = found["train"].values.mean(axis=0), found["train"].values.std(axis=0)
    target = store.targets("words", stimuli=found[split]["stimulus"].values.tolist()).values
    return (found[split].values - mean) / scale, target.reshape(len(target), -1).astype(float)


@pytest.fixture(scope="module")
def reference(store):
    """What scikit-learn fits: standardized training responses, targets, and the weights of features that vary."""
    x, y = _samples(store, "train")
    kept = np.arange(11)  # the last feature never varies
    return x, y[:, kept], Ridge(alpha=20.0).fit(x, y[:, kept])


def test_weights_are_those_of_scikit_learn(store, reference):
    _, y, ridge = reference
    found = system_maps(store, Tokens(), kind="weights", n_permutations=5)
    expected = np.abs(ridge.coef_ / y.std(axis=0)[:, None])
    np.testing.assert_allclose(found.table["weights_words"], expected.mean(axis=0), rtol=1e-3)
    for token, features in enumerate((slice(0, 4), slice(4, 8), slice(8, 11))):
        np.testing.assert_allclose(found.part_maps["words"][token], expected[features].mean(axis=0), rtol=1e-3)
    v1 = found.rois.set_index("roi")["value"]["V1"]
    assert v1 == pytest.approx(expected.mean(axis=0)[:8].mean(), rel=1e-3)


def test_patterns_are_covariances_with_what_is_decoded(store, reference):
    x, _, ridge = reference
    found = system_maps(store, Tokens(), kind="haufe", n_permutations=5)
    decoded = ridge.predict(x)
    covariance = np.cov(np.concatenate([x, decoded], axis=1).T, bias=True)[:VOXELS, VOXELS:]
    expected = np.abs(np.cov(x.T, bias=True) @ ridge.coef_.T / decoded.std(axis=0))
    np.testing.assert_allclose(np.abs(covariance / decoded.std(axis=0)), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.table["haufe_words"], expected.mean(axis=1), rtol=1e-3)


def test_importance_is_that_of_brute_force(store, reference):
    _, _, ridge = reference
    x, y = _samples(store, "test")
    y = y[:, :11]

    def score(responses):
        decoded = ridge.predict(responses)
        return np.mean([pearsonr(*pair).statistic for pair in zip(decoded.T, y.T, strict=True)])

    def drop(voxels):
        replaced = x.copy()
        replaced[:, voxels] = 0.0
        return score(x) - score(replaced)

    found = system_maps(store, Tokens(), kind="importance", n_permutations=5)
    assert found.scores[0].value == pytest.approx(score(x), abs=1e-4)
    np.testing.assert_allclose(found.rois["value"], [drop(part) for part in ROIS.values()], atol=1e-4)
    np.testing.assert_allclose(found.table["importance_words"], [drop(voxel) for voxel in range(VOXELS)], atol=1e-4)


def test_what_each_kind_finds_in_noise(store):
    """V2 has no signal and the noise of V1: it gets weights, but hardly a pattern, and decoding loses without it."""
    found = {
        kind: system_maps(store, Tokens(), kind=kind, n_permutations=99) for kind in ("weights", "haufe", "importance")
    }
    # The third token is in no voxel.
    token = {kind: each.parts[each.parts["part"] == "token 0"].set_index("roi") for kind, each in found.items()}
    assert token["weights"]["value"]["V2"] > 5 * token["weights"]["value"]["FFA"]
    assert token["haufe"]["value"]["V2"] < 1.5 * token["haufe"]["value"]["FFA"]
    assert token["haufe"]["value"]["V2"] < 0.5 * token["haufe"]["value"]["V1"]
    assert token["importance"]["value"]["V2"] > 0.05 > token["importance"]["value"]["FFA"]
    for kind, each in found.items():
        table = each.rois.set_index("roi")
        assert (table["low"] < table["value"]).all(), kind
        assert table["p"]["V1"] == 0.01, kind
        assert table["p"]["FFA"] > 0.02, kind
    assert found["importance"].rois.set_index("roi")["low"]["V1"] > 0


def test_noise_alone_is_not_significant(store, tmp_path):
    """Under the null, p of voxels is uniform: the share below 0.05 is near it, and FDR finds hardly anything."""
    random = np.random.default_rng(8)
    ids = np.array([f"s{number:03d}" for number in range(STIMULI)])
    target = xarray.DataArray(
        random.standard_normal((STIMULI, 3, 4)).astype(np.float32), dims=("stimulus", "token", "channel"),
        coords={"stimulus": ids},
    )  # fmt: skip
    masks = {name: np.isin(np.arange(VOXELS), np.arange(VOXELS)[part]) for name, part in ROIS.items()}
    split = np.where(np.arange(STIMULI) < TRAIN, "train", "test")
    noise = _store(tmp_path / "noise.icechunk", random.standard_normal((STIMULI, VOXELS)), ids, split, masks, target)
    for kind in ("weights", "haufe", "importance"):
        found = system_maps(noise, Tokens(), kind=kind, n_permutations=199)
        assert found.table["significant_words"].sum() <= 1
        assert 0.2 < found.table["p_words"].mean() < 0.8


@pytest.mark.parametrize("kind", ["weights", "haufe"])
def test_responses_that_are_not_standardized_give_the_units_of_those_that_are(store, kind):
    """Per standard deviation of the voxel: raw weights are multiplied by it, patterns are divided by it."""
    found = system_maps(store, Tokens(standardize=False), kind=kind, n_permutations=2)
    train = store.responses("subj01", split="train", average="stimulus").values.astype(float)
    x, y = train - train.mean(axis=0), _samples(store, "train")[1][:, :11]
    ridge = Ridge(alpha=20.0).fit(x, y)
    decoded = ridge.predict(x) - y.mean(axis=0)
    expected = {
        "weights": np.abs(ridge.coef_ / y.std(axis=0)[:, None]).mean(axis=0) * train.std(axis=0),
        "haufe": np.abs(x.T @ decoded / TRAIN / decoded.std(axis=0)).mean(axis=1) / train.std(axis=0),
    }[kind]
    np.testing.assert_allclose(found.table[f"{kind}_words"], expected, rtol=1e-3)


def test_a_decoder_of_one_roi_leaves_the_others_empty(store):
    found = system_maps(store, Tokens(roi="V1"), kind="importance", n_permutations=2)
    assert found.rois["roi"].tolist() == ["V1"]
    assert found.table["importance_words"].notna().to_numpy().tolist() == [True] * 8 + [False] * 16


def test_networks_have_patterns_and_importance_but_no_weights(store):
    network = MLPDecoder(hidden=(8,), max_epochs=3, device="cpu", random_state=0)
    system = Tokens(network).fit(store, "subj01")
    with pytest.raises(InputError, match="no weights to map"):
        system_maps(store, system, kind="weights")
    found = system_maps(store, system, kind="haufe", n_permutations=2)
    responses = store.responses("subj01", split="train", average="stimulus")
    decoded = system.decode(responses.values)["words"].values.reshape(TRAIN, -1)[:, :11]
    expected = [np.mean([abs(np.corrcoef(voxel, y)[0, 1]) for y in decoded.T]) for voxel in responses.values.T]
    np.testing.assert_allclose(found.table["haufe_words"], expected, rtol=1e-3)
    assert "p_words" not in found.table
    assert "not fitted again" in found.text(store)
    found = system_maps(store, system, kind="importance", n_permutations=2)
    assert found.rois["value"].notna().all()
    assert "importance_words" not in found.table
    assert "slices_importance_words" not in found.figures(store)


def test_other_samples_than_those_of_the_fit_are_refused(store):
    system = Tokens().fit(store, "subj01", samples=np.arange(30))
    with pytest.raises(InputError, match="fitted to other samples"):
        system_maps(store, system)


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownNameError, match="kind of map of a system"):
        SystemMapSettings(kind="encoding")
    with pytest.raises(InputError, match="features is out of range"):
        SystemMapSettings(features=0)
    with pytest.raises(UnknownNameError, match="unit of exchange"):
        SystemMapSettings(exchange="category")


def test_the_gradient_of_a_ridge_decoder_is_its_weight(store):
    one, other = (system_maps(store, Tokens(), kind=kind, n_permutations=9) for kind in ("weights", "gradient"))
    np.testing.assert_array_equal(other.table["gradient_words"], one.table["weights_words"])
    np.testing.assert_array_equal(other.rois["p"], one.rois["p"])


@pytest.mark.parametrize("standardize", [True, False])
def test_the_gradient_of_a_network(store, standardize):
    """Of a linear network, from what changes in predictions if a voxel does."""
    decoder = MLPDecoder((), max_epochs=40, batch_size=20, learning_rate=0.03, renorm="train")
    fitted = Tokens(decoder, standardize=standardize).fit(store, "subj01")
    found = system_maps(store, fitted, kind="gradient", n_permutations=9)
    change = fitted.scale_ * np.eye(VOXELS)
    base = np.tile(fitted.mean_, (VOXELS, 1))
    changed, before = (
        fitted.decode(responses)["words"].values.reshape(VOXELS, -1) for responses in (base + change, base)
    )
    deviation = fitted.training_["words"][1].ravel()
    varying = deviation > 0
    expected = np.abs((changed - before)[:, varying] / deviation[varying]).mean(axis=1)
    np.testing.assert_allclose(found.table["gradient_words"], expected, rtol=2e-3)
    rows = found.rois.set_index("roi")
    assert rows.loc["V1", "value"] > 1.5 * rows.loc["FFA", "value"]
    assert rows["p"].isna().all()
    assert ((rows["low"] <= rows["value"] + 1e-6) & (rows["value"] <= rows["high"] + 1e-6)).all()
    assert found.part_maps["words"].shape == (3, VOXELS)
    assert "networks are not fitted again" in found.text(store)


def test_the_product_of_weights(store):
    """Of a perceptron, the product of its matrices; of a ridge decoder, its mean weight. Neither has p."""
    fitted = Tokens(MLPDecoder((12, 12), max_epochs=5, batch_size=20, learning_rate=0.02)).fit(store, "subj01")
    found = system_maps(store, fitted, kind="product", n_permutations=9)
    matrices = [value for name, value in fitted.decoders_["words"].weights_.items() if value.ndim == 2]
    assert [matrix.shape for matrix in matrices] == [(12, VOXELS), (12, 12), (12, 12)]
    product = matrices[2] @ matrices[1] @ matrices[0]
    np.testing.assert_allclose(found.table["product_words"], np.abs(product.mean(axis=0)), rtol=1e-4, atol=1e-7)
    assert found.rois["p"].isna().all()
    assert not len(found.parts)
    mask = store.roi_masks("subj01")["V2"]
    assert found.rois.set_index("roi").loc["V2", "value"] == pytest.approx(found.table["product_words"][mask].mean())
    linear, weights = (system_maps(store, Tokens(), kind=kind, n_permutations=9) for kind in ("product", "weights"))
    x, y = _samples(store, "train")
    y = y[:, :11]
    model = Ridge(alpha=20.0).fit(x, y / y.std(axis=0))
    np.testing.assert_allclose(linear.table["product_words"], np.abs(model.coef_.mean(axis=0)), rtol=1e-4, atol=1e-6)
    assert (linear.table["product_words"] <= weights.table["weights_words"] + 1e-9).all()
    with pytest.raises(InputError, match="no sequence of linear layers"):
        system_maps(store, Tokens(GRUDecoder(max_epochs=1, chunk=8, width=4)), kind="product")


def test_the_gradient_depends_on_the_response(store):
    """Of a network that is not linear, at the test stimuli: against small differences, mean over them."""
    decoder = MLPDecoder((12,), max_epochs=15, batch_size=20, learning_rate=0.02, precision="float64")
    fitted = Tokens(decoder).fit(store, "subj01")
    inputs = np.random.default_rng(3).standard_normal((5, VOXELS))
    network, step = fitted.decoders_["words"], 1e-5
    for column, gradient in zip([0, 5], network.gradients(inputs, [0, 5]), strict=True):
        for voxel in (0, 20):
            moved = inputs.copy()
            moved[:, voxel] += step
            slope = (network.predict(moved) - network.predict(inputs)).reshape(5, -1)[:, column] / step
            np.testing.assert_allclose(gradient[:, voxel], slope, rtol=1e-3, atol=1e-6)
