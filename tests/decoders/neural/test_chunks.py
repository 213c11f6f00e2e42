"""Decoders that read chunks of voxels: what the networks compute, and that they learn, resume and refuse."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from scipy.special import erf, expit
from sklearn.base import clone

from neurorecon.decoders import CNNDecoder, GRUDecoder, MLPDecoder, TransformerDecoder, load_decoder
from neurorecon.errors import InputError

SMALL = {"width": 8, "hidden": (), "max_epochs": 3, "batch_size": 20, "precision": "float64"}
KINDS = {
    "gru": GRUDecoder(5, **SMALL, depth=2, dropout=0.2),
    "cnn": CNNDecoder(5, **SMALL, depth=2, dropout=0.2),
    "transformer": TransformerDecoder(5, **SMALL, heads=2, dropout=0.2),
}


def problem(n_samples=60, n_voxels=23, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples, n_voxels))
    return X, X[:, :12].reshape(-1, 4, 3) + 0.1 * generator.standard_normal((n_samples, 4, 3)) + 2


def tokens_of(decoder, X):
    """Return the tokens by matrix products, chunk by chunk, (sample, token, channel)."""
    x = (X - decoder.x_mean_) / decoder.x_scale_
    weight, bias = decoder.weights_["2.0.weight"], decoder.weights_["2.0.bias"]
    parts = []
    for number, start in enumerate(range(0, X.shape[1], decoder.chunk)):
        part = x[:, start : start + decoder.chunk]
        parts.append(part @ weight[0 if len(weight) == 1 else number][: part.shape[1]] + bias)
    return np.stack(parts, axis=1)


def predictions_of(decoder, tokens):
    """Return the predictions of the last linear layer, in the units of the targets."""
    flat = (
        tokens.reshape(len(tokens), -1) @ decoder.weights_["3.layers.0.weight"].T + decoder.weights_["3.layers.0.bias"]
    )
    return flat.reshape(-1, 4, 3) * decoder.y_scale_ + decoder.y_mean_


def gru(weights, tokens, layer, suffix):
    """Return the states of one direction by the equations of Cho et al. (2014), in the form of torch."""
    names = [f"2.1.gru.{kind}_l{layer}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    w, u, b, c = (weights[name] for name in names)
    width = len(u) // 3
    state, states = np.zeros((len(tokens), width)), []
    for number in range(tokens.shape[1]):
        own, before = tokens[:, number] @ w.T + b, state @ u.T + c
        reset, update = (expit(own[:, part] + before[:, part]) for part in (slice(0, width), slice(width, 2 * width)))
        new = np.tanh(own[:, 2 * width :] + reset * before[:, 2 * width :])
        state = (1 - update) * new + update * state
        states.append(state)
    return np.stack(states, axis=1)


@pytest.mark.parametrize("shared", [False, True])
def test_the_gru_computes_its_equations_in_both_directions(shared):
    X, y = problem()
    decoder = clone(KINDS["gru"]).set_params(shared=shared).fit(X, y)
    tokens = tokens_of(decoder, X)
    assert tokens.shape == (60, 5, 8)  # the last of 5 chunks has 3 voxels
    for layer in range(2):
        forward = gru(decoder.weights_, tokens, layer, "")
        backward = gru(decoder.weights_, tokens[:, ::-1], layer, "_reverse")[:, ::-1]
        tokens = np.concatenate([forward, backward], axis=2)
    np.testing.assert_allclose(decoder.predict(X), predictions_of(decoder, tokens), atol=1e-9)


def test_convolutions_see_neighboring_tokens():
    X, y = problem()
    decoder = clone(KINDS["cnn"]).fit(X, y)
    tokens = tokens_of(decoder, X)
    for layer in range(2):
        place = f"2.1.{layer}.block"
        mean, spread = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
        scaled = (tokens - mean) / np.sqrt(spread + 1e-5) * decoder.weights_[f"{place}.norm.weight"]
        scaled += decoder.weights_[f"{place}.norm.bias"]
        active = scaled * (1 + erf(scaled / np.sqrt(2))) / 2
        kernel = decoder.weights_[f"{place}.convolution.weight"]  # (output, input, place)
        added = [sum(correlate(active[:, :, i], kernel[o, i][None], mode="same") for i in range(8)) for o in range(8)]
        tokens = tokens + np.stack(added, axis=2) + decoder.weights_[f"{place}.convolution.bias"]
    np.testing.assert_allclose(decoder.predict(X), predictions_of(decoder, tokens), atol=1e-9)


def test_a_transformer_knows_where_its_tokens_are():
    X, y = problem()
    decoder = clone(KINDS["transformer"]).set_params(shared=True).fit(X, y)
    positions, layers = decoder.network_[2][1]
    tokens = torch.from_numpy(tokens_of(decoder, X))
    order = torch.tensor([3, 0, 4, 1, 2])
    states = layers(tokens + positions.positions)
    np.testing.assert_allclose(decoder.predict(X), predictions_of(decoder, states.numpy()), atol=1e-9)
    # Attention itself has no order: only the positions tell tokens apart.
    np.testing.assert_allclose(layers(tokens[:, order]).numpy(), layers(tokens).numpy()[:, order], atol=1e-9)
    assert (layers(tokens[:, order] + positions.positions) - states[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_resumes_to_the_bit(kind, tmp_path, monkeypatch):
    from neurorecon.decoders.neural.training import Training

    X, y = problem()
    whole = clone(KINDS[kind]).fit(X, y)
    epoch, done = Training._epoch, []

    def interrupted(run):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(epoch(run))

    monkeypatch.setattr(Training, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clone(KINDS[kind]).fit(X, y, checkpoint=tmp_path)
    monkeypatch.setattr(Training, "_epoch", epoch)
    resumed = clone(KINDS[kind]).fit(X, y, checkpoint=tmp_path)
    for name, values in whole.weights_.items():
        np.testing.assert_array_equal(resumed.weights_[name], values)
    resumed.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_decoder(tmp_path / "saved").predict(X), whole.predict(X))


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (GRUDecoder(0), "chunk must be positive"),
        (GRUDecoder(depth=0), "depth must be positive"),
        (GRUDecoder(width=7), "both directions"),
        (CNNDecoder(kernel=2), "middle"),
        (TransformerDecoder(width=6, heads=4), "heads"),
        (TransformerDecoder(hidden=(0,)), "hidden layers"),
        (GRUDecoder(dropout=1.0), "probability"),
        (GRUDecoder(renorm="train", validation_fraction=0), "no samples are held out"),
        (GRUDecoder(renorm="all"), "renormalization"),
    ],
)
def test_bad_parameters(decoder, message):
    with pytest.raises(InputError, match=message):
        decoder.fit(*problem())


def test_predictions_are_rescaled_by_the_moments_of_validation_samples():
    X, y = problem(200)
    y[:, 0, 0] = 3.0  # a constant stays what it is
    y = {"one": y, "two": y[:, 0] ** 2}
    settings = {"hidden": (8,), "max_epochs": 5, "batch_size": 32, "precision": "float64"}
    plain = MLPDecoder(**settings).fit(X, y)
    ours = MLPDecoder(**settings, renorm="train").fit(X, y)
    held_out = plain.validation_rows_
    train = np.setdiff1d(np.arange(200), held_out)
    for name, found in ours.predict(X[:30]).items():
        raw, seen = plain.predict(X[:30])[name], plain.predict(X[held_out])[name]
        deviation = np.where(seen.std(0) > 1e-9, seen.std(0), np.inf)
        expected = (raw - seen.mean(0)) / deviation * y[name][train].std(0) + y[name][train].mean(0)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        varies = y[name].std(0) > 0
        assert (raw.std(0)[varies] < 0.7 * y[name].std(0)[varies]).mean() > 0.9
    # Those of the test set: each prediction depends on the others.
    of_test = MLPDecoder(**settings, renorm="test").fit(X, y)
    for name, found in of_test.predict(X[:30]).items():
        np.testing.assert_allclose(found.mean(0), y[name][train].mean(0), atol=1e-9)
        np.testing.assert_allclose(found.std(0), y[name][train].std(0), atol=1e-9)
    scores = of_test.score_targets(X[:30], {name: values[:30] for name, values in y.items()})
    expected = 1 - ((y["two"][:30] - of_test.predict(X[:30])["two"]) ** 2).sum(0) / (
        (y["two"][:30] - y["two"][:30].mean(0)) ** 2
    ).sum(0).clip(1e-12)
    np.testing.assert_allclose(scores["two"][1:], expected[1:])
    with pytest.raises(InputError, match="one sample"):
        of_test.predict(X[:1])
