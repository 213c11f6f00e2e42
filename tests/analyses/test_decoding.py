import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from neurorecon.analyses.decoding import _correlations, _map_and_null, _orders, fit_decoding
from neurorecon.analyses.design import DecodingSettings
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import decoding_samples, peak_delays


@pytest.fixture(scope="module")
def linear():
    """Responses of more voxels than samples, and targets of more features than samples."""
    random = np.random.default_rng(0)
    outputs = random.standard_normal((40, 70))
    responses = outputs[:, :5] @ random.standard_normal((5, 60)) + random.standard_normal((40, 60))
    responses = (responses - responses.mean(axis=0)) / responses.std(axis=0)
    decoder = RidgeDecoder(alpha=30.0, dtype="float64").fit(responses, outputs)
    return decoder, responses, outputs, Ridge(alpha=30.0).fit(responses, outputs)


def test_weights_are_those_of_scikit_learn(linear):
    decoder, _, outputs, ridge = linear
    value, _ = _map_and_null(decoder, outputs, "decoding", [])
    np.testing.assert_allclose(value, np.sqrt((ridge.coef_**2).mean(axis=0)), rtol=1e-4)


def test_patterns_are_covariance_times_weights(linear):
    decoder, responses, outputs, ridge = linear
    value, _ = _map_and_null(decoder, outputs, "haufe", [])
    patterns = np.cov(responses.T, bias=True) @ ridge.coef_.T
    decoded = ridge.predict(responses)
    np.testing.assert_allclose(value, np.sqrt((patterns**2).sum(axis=1) / decoded.var(axis=0).sum()), rtol=1e-4)


def test_the_pattern_of_one_feature_is_its_correlation(linear):
    _, responses, outputs, _ = linear
    one = outputs[:, :1]
    decoder = RidgeDecoder(alpha=30.0, dtype="float64").fit(responses, one)
    value, _ = _map_and_null(decoder, one, "haufe", [])
    decoded = decoder.predict(responses)[:, 0]
    expected = [abs(np.corrcoef(voxel, decoded)[0, 1]) for voxel in responses.T]
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["decoding", "haufe"])
def test_the_null_refits_on_permuted_targets(linear, kind):
    decoder, responses, outputs, _ = linear
    order = np.random.default_rng(1).permutation(len(outputs))
    _, counter = _map_and_null(decoder, outputs, kind, [order])
    again = RidgeDecoder(alpha=30.0, dtype="float64").fit(responses, outputs[order])
    expected, _ = _map_and_null(again, outputs[order], kind, [])
    np.testing.assert_allclose(counter.null_mean, expected, rtol=1e-4)


def test_permutations_keep_samples_of_a_stimulus_together():
    stimuli = pd.Series(list("abcabcd"))
    for order in _orders(stimuli, 20, 0):
        given = stimuli.to_numpy()[order]
        assert given[:3].tolist() == given[3:6].tolist()
        assert sorted(given[[0, 1, 2, 6]]) == list("abcd")
    unique = pd.Series(list("abcdef"))
    from neurorecon.stats import stimulus_permutations

    np.testing.assert_array_equal(list(_orders(unique, 5, 3)), stimulus_permutations(6, 5, 3))


def test_correlations_agree_with_numpy():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, 20, 3))
    first[:, 2] = 1.0
    expected = [np.corrcoef(first[:, column], second[:, column])[0, 1] for column in range(2)]
    np.testing.assert_allclose(_correlations(first, second), [*expected, 0.0])


def test_volumes_around_the_peak_are_averaged(miniature):
    store = miniature(subjects=1)
    assert peak_delays(store, "subj01", "films") == (2, 3)
    assert peak_delays(store, "subj01", "images") == ()
    values, table = decoding_samples(store, "subj01", "V1", "train", "films")
    volumes = store.responses("subj01", "V1", "train", task="films", average="stimulus", delays=()).values
    assert len(values) == len(table) == 5  # the last three of eight videos have no volume 6 s later
    np.testing.assert_allclose(values, (volumes[2:7] + volumes[3:8]) / 2, atol=1e-6)


def test_a_decoder_of_planted_categories_beats_its_null(miniature):
    store = miniature(subjects=1, images=80, noise=0.5)
    train, test = (decoding_samples(store, "subj01", None, split, "images") for split in ("train", "test"))
    settings = DecodingSettings(pattern="haufe", n_permutations=99)
    ((_, fit),) = fit_decoding(store, ["category"], train, test, series=False, settings=settings)
    assert fit.correlation > 0.5
    assert fit.correlation_p == pytest.approx(0.01)
    assert abs(fit.correlation_null.mean()) < 0.1
    assert fit.stimuli == 20
    nothing = (np.random.default_rng(0).standard_normal(train[0].shape), train[1])
    ((_, none),) = fit_decoding(store, ["category"], nothing, test, series=False, settings=settings)
    assert none.correlation_p > 0.05
    assert (none.p <= 0.05).mean() < 0.2


def test_batches_of_permutations_on_a_cluster_give_the_same_bits(linear, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from neurorecon.analyses import decoding

    decoder, _, outputs, _ = linear
    random = np.random.default_rng(2)
    orders = [random.permutation(len(outputs)) for _ in range(5)]
    monkeypatch.setattr(decoding, "BATCH", 2)
    value, here = _map_and_null(decoder, outputs, "haufe", orders, threads=1)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        again, there = _map_and_null(decoder, outputs, "haufe", orders, client, 1, tmp_path)
    np.testing.assert_array_equal(again, value)
    for name in ("p", "null_mean", "null_max"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    names = sorted(path.name for path in tmp_path.rglob("*.safetensors"))
    assert names == [f"permutations_{part}.safetensors" for part in ("0-1", "2-3", "4-4")]
