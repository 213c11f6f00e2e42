"""A network of several subjects, and of a new one with little data."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from neurorecon.decoders import MLPDecoder, MultiSubjectMLP, load_decoder
from neurorecon.errors import InputError, UnknownNameError

QUICK = {"max_epochs": 60, "learning_rate": 3e-3, "batch_size": 32, "device": "cpu"}


def problem(seed=0, subjects=4, samples=240, noise=1.0):
    """Targets are a nonlinear function of three latents, which the voxels of each subject mix in their own way."""
    random = np.random.default_rng(seed)
    inner, outer = random.standard_normal((3, 8)), random.standard_normal((8, 5)) / 3
    X, y, groups = {}, {}, {}
    for number in range(subjects):
        name, voxels = f"subj{number + 1:02d}", 20 + 5 * number
        latents = random.standard_normal((samples, 3))
        mixing = random.standard_normal((3, voxels))
        X[name] = 5.0 + 2.0 * (latents @ mixing + noise * random.standard_normal((samples, voxels)))
        y[name] = 7.0 + np.tanh(latents @ inner) @ outer
        groups[name] = np.array([f"image{number}-{sample}" for sample in range(samples)])
    return X, y, groups


@pytest.fixture(scope="module")
def trained():
    X, y, _ = problem()
    known = [name for name in X if name != "subj04"]
    decoder = MultiSubjectMLP(latent=16, hidden=(64,), **QUICK)
    decoder.fit({name: X[name][:200] for name in known}, {name: y[name][:200] for name in known})
    return decoder, X, y


def test_each_subject_is_decoded_in_the_units_of_the_targets(trained):
    decoder, X, y = trained
    for name in ("subj01", "subj02", "subj03"):
        found = decoder.predict(name, X[name][200:])
        assert found.shape == (40, 5)
        r2 = decoder.score_targets(name, X[name][200:], y[name][200:])
        np.testing.assert_allclose(r2, r2_score(y[name][200:], found, multioutput="raw_values"), atol=1e-5)
        assert decoder.score(name, X[name][200:], y[name][200:]) == pytest.approx(np.mean(r2), abs=1e-5)
        assert ((found - y[name][200:]) ** 2).mean() < 0.5 * y[name][200:].var(axis=0).mean()
        with pytest.raises(UnknownNameError, match="subject"):
            decoder.predict("subj04", X[name])
    with pytest.raises(InputError, match="voxels"):
        decoder.predict("subj01", X["subj02"])


def test_little_data_of_a_new_subject_goes_further(trained):
    decoder, X, y = trained
    x, targets, x_test, test = X["subj04"][:40], y["subj04"][:40], X["subj04"][40:], y["subj04"][40:]
    alone = MLPDecoder(hidden=(16, 64), **QUICK).fit(x, targets).predict(x_test)
    ridge = min(((Ridge(alpha).fit(x, targets).predict(x_test) - test) ** 2).mean() for alpha in (1, 10, 100, 1000))
    before = {name: value.copy() for name, value in decoder.weights_.items()}
    for trunk in (False, True):
        adapted = decoder.adapt("subj04", x, targets, trunk=trunk)
        error = ((adapted.predict("subj04", x_test) - test) ** 2).mean()
        assert error < ((alone - test) ** 2).mean()
        assert error < ridge
        same = [np.array_equal(adapted.weights_[name], before[name]) for name in before if not name.startswith("0.")]
        assert all(same) is not trunk
    for name, value in decoder.weights_.items():
        np.testing.assert_array_equal(value, before[name])


def test_a_linear_network_of_one_subject_is_the_perceptron():
    X, y, _ = problem(subjects=1)
    settings = {**QUICK, "max_epochs": 5, "validation_fraction": 0.0, "precision": "float64"}
    decoder = MultiSubjectMLP(latent=8, hidden=(), **settings).fit({"subj01": X["subj01"]}, {"subj01": y["subj01"]})
    weights = decoder.weights_
    x = (X["subj01"] - X["subj01"].mean(axis=0)) / X["subj01"].std(axis=0)
    latents = x @ weights["0.layers.0.weight"].T + weights["0.layers.0.bias"]
    expected = latents @ weights["2.layers.0.weight"].T + weights["2.layers.0.bias"]
    expected = expected * y["subj01"].std(axis=0) + y["subj01"].mean(axis=0)
    np.testing.assert_allclose(decoder.predict("subj01", X["subj01"]), expected, atol=1e-9)


def test_moments_of_the_test_set_and_maps():
    X, y, _ = problem(subjects=2, samples=60)
    decoder = MultiSubjectMLP(latent=8, hidden=(), **{**QUICK, "max_epochs": 10}, renorm="test").fit(X, y)
    found = decoder.predict("subj02", X["subj02"])
    np.testing.assert_allclose(found.std(axis=0), np.concatenate(list(y.values())).std(axis=0), rtol=0.1)
    expected = r2_score(y["subj02"], found, multioutput="raw_values")
    np.testing.assert_allclose(decoder.score_targets("subj02", X["subj02"], y["subj02"]), expected, atol=1e-4)
    with pytest.raises(InputError, match="no common product"):
        decoder.weight_product()


def test_it_is_saved_cloned_resumed_and_repeats_itself(tmp_path):
    X, y, groups = problem(subjects=2, samples=60)
    decoder = MultiSubjectMLP(latent=8, hidden=(16,), **{**QUICK, "max_epochs": 6}, dropout=0.1, input_dropout=0.1)
    first = clone(decoder).fit(X, y, groups)
    again = clone(decoder).fit(X, y, groups, checkpoint=tmp_path / "checkpoint")
    loaded = load_decoder(first.save(tmp_path / "saved"))
    for other in (again, loaded):
        np.testing.assert_array_equal(other.predict("subj02", X["subj02"]), first.predict("subj02", X["subj02"]))
    assert clone(first).get_params() == decoder.get_params()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, {"subj01": y["subj01"]}), "subject"),
        (lambda X, y: (X, {**y, "subj02": y["subj02"][:-1]}), "different numbers of samples"),
        (lambda X, y: (list(X.values()), y), "must be a dict"),
        (lambda X, y: ({**X, "subj01": np.full_like(X["subj01"], np.nan)}, y), "finite"),
    ],
)
def test_bad_input(change, message):
    X, y, _ = problem(subjects=2, samples=30)
    with pytest.raises((InputError, UnknownNameError), match=message):
        MultiSubjectMLP(latent=4, hidden=(), **{**QUICK, "max_epochs": 1}).fit(*change(X, y))
    with pytest.raises(InputError, match="standardized for each subject"):
        MultiSubjectMLP(latent=4, standardize_inputs=True).fit(X, y)
