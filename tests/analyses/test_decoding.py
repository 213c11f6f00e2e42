import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

import neurorecon as nr
from neurorecon.analyses.decoding import (
    _correlations,
    _map_and_null,
    _whitened,
    choose_units,
    fit_decoding,
    in_order,
    orders_of,
)
from neurorecon.analyses.design import DecodingSettings
from neurorecon.analyses.maps import compute_maps, map_settings
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import decoding_samples, peak_delays
from neurorecon.errors import InputError
from neurorecon.stats import stimulus_permutations


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
    for order in orders_of(pd.DataFrame({"stimulus": stimuli}), "stimulus", 20, 0):
        given = stimuli.to_numpy()[order]
        assert given[:3].tolist() == given[3:6].tolist()
        assert sorted(given[[0, 1, 2, 6]]) == list("abcd")
    unique = pd.DataFrame({"stimulus": list("abcdef"), "session": [1, 1, 1, 2, 2, 2]})
    np.testing.assert_array_equal(orders_of(unique, "stimulus", 5, 3), stimulus_permutations(6, 5, 3))
    within = orders_of(unique, "session", 99, 3)
    assert len(within) == 35  # all but the observed of 3! orders of each of two sessions
    assert (within[:, :3] < 3).all()


def test_correlations_agree_with_numpy():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, 20, 3))
    first[:, 2] = 1.0
    expected = [np.corrcoef(first[:, column], second[:, column])[0, 1] for column in range(2)]
    np.testing.assert_allclose(_correlations(first, second), [*expected, 0.0])


def test_volumes_around_the_peak_are_averaged(miniature):
    store = miniature(subjects=1)
    assert peak_delays(store, "subj01", "videos") == (2, 3)
    assert peak_delays(store, "subj01", "images") == ()
    values, table = decoding_samples(store, "subj01", "V1", "train", "videos")
    volumes = store.responses("subj01", "V1", "train", task="videos", average="stimulus", delays=()).values
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


# -- units of exchange ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Return what builds a store of trials, each stimulus shown once, from features in the order of presentation."""

    def build(features, runs, sessions=1, split=None, shuffled=False):
        random = np.random.default_rng(5)
        number = len(features)
        names = [f"s{row:03d}" for row in range(number)]
        split = np.where(runs < runs.max(), "train", "test") if split is None else split
        table = pd.DataFrame({"stimulus": names, "run": runs, "split": split, "time": 4.0 * np.arange(number)})
        table["session"] = sessions
        responses = random.standard_normal((number, 12)).astype(np.float32)
        rows = random.permutation(number) if shuffled else np.arange(number)
        store = nr.build_from_arrays(
            tmp_path_factory.mktemp("trials") / "t.icechunk", responses[rows], table.iloc[rows].reset_index(drop=True),
            {"id": names}, images=random.integers(0, 256, (number, 4, 4, 3), dtype=np.uint8), progress=False,
        )  # fmt: skip
        made_by = {"model": "random", "source": "a test"}
        return nr.add_target(store, "own", features.astype(np.float32), stimuli=names, made_by=made_by)

    return build


def _mapped(store, **options):
    given = {"roi": None, "task": None, "n_permutations": 49, "fdr": 0.05, "seed": 0, "device": "cpu", **options}
    (found,) = compute_maps(store, ["subj01"], map_settings("haufe", ["own"], **given))
    return found


def test_stimuli_in_random_order_trade_places(trials):
    store = trials(np.random.default_rng(0).standard_normal((100, 2)), np.repeat(np.arange(1, 6), 20))
    found = _mapped(store)
    assert found.chosen["exchange"] == {
        "unit": "stimulus", "reason": "stimuli in random order", "smallest_p": pytest.approx(0.02),
    }  # fmt: skip
    assert found.chosen["warnings"] == []
    assert "null: stimuli trade places (stimuli in random order); p is at least 0.02" in found.text(store)


def test_features_that_drift_are_shifted_within_runs(trials):
    drifting = np.random.default_rng(0).standard_normal((200, 2)).cumsum(axis=0)
    runs = np.repeat(np.arange(1, 6), 40)
    found = _mapped(trials(drifting, runs))
    assert found.chosen["exchange"]["unit"] == "shift"
    assert "not in random order" in found.chosen["exchange"]["reason"]
    assert any("shortest run has 40 samples" in text for text in found.chosen["warnings"])
    assert found.scores[0].extra["exchange"]["unit"] == "shift"
    assert found.scores[0].n_permutations == 39  # the test run has 40 shifts
    text = found.text(trials(drifting, runs))
    assert "\nwarning: the shortest run" in text
    # The order of the rows of a store means nothing.
    again = _mapped(trials(drifting, runs, shuffled=True))
    pd.testing.assert_frame_equal(found.table, again.table, rtol=1e-4)
    asked = _mapped(trials(drifting, runs), exchange="stimulus")
    assert asked.chosen["exchange"]["unit"] == "stimulus"
    assert "asked for" in asked.chosen["exchange"]["reason"]
    assert any("p-values are too small" in text for text in asked.chosen["warnings"])


def test_a_test_in_runs_that_were_trained_on_is_left_out(trials):
    drifting = np.random.default_rng(0).standard_normal((240, 2)).cumsum(axis=0)
    split = np.where(np.arange(240) % 4 == 3, "test", "train")
    found = _mapped(trials(drifting, np.repeat(np.arange(1, 5), 60), split=split))
    assert found.chosen["exchange"]["unit"] == "shift"
    assert np.isfinite(found.table["p_own"]).all()  # of the training samples
    assert np.isnan(found.scores[0].p)
    assert any("same runs as training samples" in text for text in found.scores[0].extra["warnings"])
    assert "same runs as training samples" in found.text(trials(drifting, np.repeat(np.arange(1, 5), 60), split=split))


def test_sessions_that_show_different_stimuli_are_centered(trials):
    random = np.random.default_rng(3)
    sessions = np.tile(np.repeat([1, 2, 3, 4], 10), 3)
    offsets = random.standard_normal((5, 2)) * 5
    features = random.standard_normal((120, 2)) + offsets[sessions]
    store = trials(features, np.repeat(np.arange(1, 4), 40), sessions)
    found = _mapped(store)
    assert found.chosen["exchange"]["unit"] == "session"
    train, test = (
        decoding_samples(store, "subj01", None, split, store.tasks("subj01")[0]) for split in ("train", "test")
    )
    units = choose_units(store, "subj01", store.tasks("subj01")[0], ["own"], (train[1], test[1]))
    shifted = [(values + 50 * table[["session"]].to_numpy() % 7, table) for values, table in (train, test)]
    settings = DecodingSettings(pattern="haufe", n_permutations=19)
    fits = [
        dict(fit_decoding(store, ["own"], *parts, series=False, settings=settings, exchange=units))["own"]
        for parts in ((train, test), shifted)
    ]
    np.testing.assert_allclose(fits[0].value, fits[1].value, rtol=1e-3)
    np.testing.assert_array_equal(fits[0].p, fits[1].p)
    assert fits[0].correlation == pytest.approx(fits[1].correlation, abs=1e-3)


def test_few_stimuli_are_permuted_in_all_orders(trials):
    features = np.random.default_rng(0).standard_normal((8, 2))
    store = trials(features, np.repeat([1, 2], 4))
    found = _mapped(store, exchange="stimulus", n_permutations=999)
    assert found.chosen["n_permutations"] == 23
    assert found.chosen["exchange"]["smallest_p"] == pytest.approx(1 / 24)
    assert found.table["p_own"].min() >= 1 / 24
    assert any("p is at least 0.042" in text for text in found.chosen["warnings"])
    strict = _mapped(store, exchange="stimulus", n_permutations=999, fdr=0.01)
    assert any("no voxel can be significant" in text for text in strict.chosen["warnings"])


def test_rows_are_sorted_by_session_run_and_time():
    table = pd.DataFrame({"session": [2, 1, 1, 1], "run": [1, 2, 1, 1], "time": [0.0, 1.0, 8.0, 4.0]})
    values, ordered = in_order(np.arange(4.0)[:, None], table)
    assert values[:, 0].tolist() == [3, 2, 1, 0]
    assert ordered.index.tolist() == [0, 1, 2, 3]
    unknown = table.assign(time=np.nan)
    assert in_order(np.arange(4.0)[:, None], unknown)[0][:, 0].tolist() == [0, 1, 2, 3]


def test_whitening_takes_a_share_of_the_sample_before():
    random = np.random.default_rng(0)
    values, runs = random.standard_normal((12, 3)), np.repeat([0, 1], 6)
    rows, white = _whitened(values, runs, 0.6)
    assert rows.tolist() == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    expected = np.stack([values[row] - 0.6 * values[row - 1] for row in rows])
    expected[:5] -= expected[:5].mean(axis=0)
    expected[5:] -= expected[5:].mean(axis=0)
    np.testing.assert_allclose(white, expected / expected.std(axis=0))


def test_a_target_that_is_constant_within_runs_cannot_be_shifted(trials):
    features = np.repeat(np.random.default_rng(0).standard_normal((5, 2)), 40, axis=0)
    store = trials(features, np.repeat(np.arange(1, 6), 40))
    with pytest.raises(InputError, match="no feature of 'own' varies"):
        _mapped(store, exchange="shift")
