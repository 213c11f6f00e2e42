import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.utils.estimator_checks import check_estimator

from neurorecon.decoders import MLPDecoder
from neurorecon.errors import InputError, UnknownNameError

#: A network without hidden layers, trained on all samples at once until nothing moves.
LINEAR = {
    "hidden": (),
    "optimizer": "sgd",
    "momentum": 0.9,
    "learning_rate": 0.3,
    "max_epochs": 600,
    "batch_size": 1000,
    "validation_fraction": 0,
}


def problem(n_samples=60, n_voxels=5, n_targets=3, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples + 20, n_voxels)) * generator.uniform(0.5, 3, n_voxels) + 2
    Y = X @ generator.standard_normal((n_voxels, n_targets)) + generator.standard_normal((len(X), n_targets)) + 5
    return X[:n_samples], Y[:n_samples], X[n_samples:], Y[n_samples:]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-8), ("float32", 1e-4)])
def test_without_hidden_layers_and_weight_decay_it_is_least_squares(precision, tolerance):
    X, Y, X_new, _ = problem()
    ours = MLPDecoder(**LINEAR, weight_decay=0.0, precision=precision).fit(X, Y)
    expected = LinearRegression().fit(X, Y).predict(X_new)
    np.testing.assert_allclose(ours.predict(X_new), expected, atol=tolerance * np.abs(expected).max())


def test_weight_decay_is_the_alpha_of_ridge_regression():
    X, Y, X_new, _ = problem()
    decay = 0.02
    ours = MLPDecoder(**LINEAR, weight_decay=decay, precision="float64").fit(X, Y)
    x_mean, x_scale, y_mean, y_scale = X.mean(0), X.std(0), Y.mean(0), Y.std(0)
    theirs = Ridge(decay * Y.size / 2).fit((X - x_mean) / x_scale, (Y - y_mean) / y_scale)
    expected = theirs.predict((X_new - x_mean) / x_scale) * y_scale + y_mean
    np.testing.assert_allclose(ours.predict(X_new), expected, atol=1e-8 * np.abs(expected).max())
    assert np.abs(expected - LinearRegression().fit(X, Y).predict(X_new)).max() > 0.1


def test_with_a_hidden_layer_it_predicts_as_well_as_sklearns():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((300, 6))
    Y = np.stack([np.abs(X[:, 0]) * X[:, 1], np.sin(2 * X[:, 2]) + X[:, 3] ** 2], axis=1)
    Y += 0.1 * generator.standard_normal(Y.shape)
    scale = Y[:200].std(axis=0)
    theirs = MLPRegressor(
        hidden_layer_sizes=(50,), learning_rate_init=0.01, batch_size=50, max_iter=100, tol=0.0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would go on for longer
        theirs.fit(X[:200], Y[:200] / scale)
    # On its terms: the same optimizer, nothing held out.
    ours = MLPDecoder(
        (50,), activation="relu", normalize=False, optimizer="adam", weight_decay=0.0, learning_rate=0.01,
        batch_size=50, max_epochs=100, validation_fraction=0,
    ).fit(X[:200], Y[:200])  # fmt: skip
    expected = r2_score(Y[200:], theirs.predict(X[200:]) * scale)
    assert expected > 0.6
    assert ours.score(X[200:], Y[200:]) > expected - 0.05
    # Linear regression does not come near.
    assert LinearRegression().fit(X[:200], Y[:200]).score(X[200:], Y[200:]) < expected - 0.3


def test_several_targets_come_back_by_name_and_shape():
    X, Y, X_new, Y_new = problem(n_targets=6)
    y = {"text.tokens": Y.reshape(-1, 2, 3), "depth": Y[:, 0]}
    decoder = MLPDecoder((16, 16), dropout=0.1, input_dropout=0.1, max_epochs=30, learning_rate=0.02).fit(X, y)
    predicted = decoder.predict(X_new)
    assert {name: values.shape for name, values in predicted.items()} == {"text.tokens": (20, 2, 3), "depth": (20,)}
    expected = {"text.tokens": Y_new.reshape(-1, 2, 3), "depth": Y_new[:, 0]}
    r2 = decoder.score_targets(X_new, expected)
    assert r2["text.tokens"].shape == (2, 3)
    wanted = [r2_score(values.reshape(20, -1), predicted[name].reshape(20, -1)) for name, values in expected.items()]
    assert decoder.score(X_new, expected) == pytest.approx(np.mean(wanted), abs=1e-6)
    assert decoder.score(X_new, {"depth": expected["depth"]}) == pytest.approx(wanted[1], abs=1e-6)
    assert wanted[1] > 0.5
    with pytest.raises(InputError, match="other targets than those"):
        decoder.score(X_new, {"color": expected["depth"]})


def test_a_contrastive_loss_tells_samples_apart():
    generator = np.random.default_rng(0)
    images = generator.standard_normal((120, 8))
    X = images @ generator.standard_normal((8, 12)) + 0.3 * generator.standard_normal((120, 12))
    decoder = MLPDecoder(
        (32,), loss={"info_nce": 1.0, "mse": 0.1}, temperature=0.2, max_epochs=30, learning_rate=0.01,
        standardize_targets=False,
    ).fit(X[:90], images[:90])  # fmt: skip
    found = decoder.predict(X[90:])
    similar = np.corrcoef(found, images[90:])[:30, 30:]
    assert (similar.argmax(axis=1) == np.arange(30)).mean() > 0.8


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden": (0,)}, "must be positive"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"input_dropout": -0.1}, "input_dropout must be a probability"),
        ({"activation": "swish"}, "unknown activation"),
        ({"loss": "mes"}, "did you mean 'mse'"),
        ({"optimizer": "lbfgs"}, "unknown optimizer"),
        ({"schedule": "step"}, "unknown schedule"),
        ({"warmup": 1.0}, "warmup must be a fraction"),
        ({"max_epochs": 0}, "max_epochs must be a positive integer"),
        ({"batch_size": 1.5}, "batch_size must be a positive integer"),
        ({"patience": True}, "patience must be a positive integer"),
        ({"learning_rate": 0.0}, "learning_rate is out of range"),
        ({"weight_decay": -1.0}, "weight_decay is out of range"),
        ({"clip_norm": np.nan}, "clip_norm is out of range"),
        ({"random_state": None}, "random_state must be an integer"),
        ({"device": "gpu"}, "cannot run on this device"),
        ({"precision": "float16"}, "unknown precision"),
        ({"precision": "fp16"}, "does not support this precision"),
    ],
)
def test_wrong_parameters_are_explained(parameters, message):
    X, Y, _, _ = problem(n_samples=6)
    with pytest.raises(InputError, match=message):
        MLPDecoder(**({"hidden": (2,), "max_epochs": 1} | parameters)).fit(X, Y)


def test_unknown_parameters_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword"):
        MLPDecoder(epochs=3)
    with pytest.raises(ValueError, match="Invalid parameter"):
        MLPDecoder().set_params(epochs=3)
    assert issubclass(UnknownNameError, ValueError)


def test_passes_scikit_learns_checks():
    decoder = MLPDecoder(
        (8,), max_epochs=15, batch_size=50, learning_rate=0.05, validation_fraction=0, precision="float64"
    )
    check_estimator(decoder, on_skip=None)


def test_parts_of_a_target_count_alike_in_the_loss():
    import torch
    import xarray

    X, Y, _, _ = problem(n_targets=10)
    attrs = {"group_boundaries": [0, 1, 4, 10]}
    y = xarray.DataArray(Y, dims=("sample", "feature"), attrs=attrs)
    decoder = MLPDecoder((4,), loss_per="group", max_epochs=1).fit(X, y)
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 5, 10, generator=generator, dtype=torch.float64)
    squares = ((outputs - targets) ** 2).numpy()
    parts = [squares[:, first:last].mean() for first, last in ((0, 1), (1, 4), (4, 10))]
    assert float(decoder.compute_loss(outputs, targets)) == pytest.approx(np.mean(parts))
    assert float(MLPDecoder().compute_loss(outputs, targets)) == pytest.approx(squares.mean())
    for wrong in (Y, y.assign_attrs(group_boundaries=[0, 4]), {"a": y}):
        with pytest.raises(InputError, match="count alike"):
            MLPDecoder((4,), loss_per="group").fit(X, wrong)
    with pytest.raises(InputError, match="loss_per='layer'"):
        MLPDecoder((4,), loss_per="layer").fit(X, y)
