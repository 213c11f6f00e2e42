import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurorecon.decoders.validation import correlation_score, r2_score, r2_score_split
from neurorecon.errors import InputError
from neurorecon.stats import max_statistic_p, permutation_p, permutation_test_r2, stimulus_permutations


def naive_predictions(contributions, delays, order, runs):
    """The definition, written as loops."""
    n_bands, _, _, n_voxels = contributions.shape
    predicted = np.zeros((n_bands, len(order), n_voxels))
    for band in range(n_bands):
        for sample in range(len(order)):
            for number, delay in enumerate(delays):
                source = sample - delay
                if 0 <= source < len(order) and runs[source] == runs[sample] and order[source] >= 0:
                    predicted[band, sample] += contributions[band, number, order[source]]
    return predicted


@settings(max_examples=30, deadline=None)
@given(
    n_stimuli=st.integers(3, 8),
    delays=st.lists(st.integers(-1, 4), min_size=1, max_size=3, unique=True),
    n_bands=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 999),
)
def test_scores_and_p_are_those_of_the_definition(n_stimuli, delays, n_bands, lengths, seed):
    generator = np.random.default_rng(seed)
    runs = np.repeat(np.arange(len(lengths)), lengths)
    order = generator.integers(-1, n_stimuli, len(runs) + 4)
    runs = np.append(runs, np.full(4, len(lengths)))
    # Every stimulus and at least two of them on screen where they contribute, in a last run that is long
    # enough.
    order = np.append(order, np.arange(n_stimuli)).astype(int)
    order = np.append(order, np.full(5, -1))
    runs = np.append(runs, np.full(n_stimuli + 5, len(lengths)))
    contributions = generator.standard_normal((n_bands, len(delays), n_stimuli, 3))
    responses = generator.standard_normal((len(runs), 3))
    centered = responses - responses.mean(axis=0)
    used = np.unique(np.concatenate([naive_shown(delay, order, runs) for delay in delays]))
    np.testing.assert_array_equal(used, np.arange(n_stimuli))
    orders = stimulus_permutations(n_stimuli, 7, seed)
    keywords = {"delays": delays, "order": order, "runs": runs, "n_permutations": 7, "seed": seed}
    given_bands = contributions if n_bands > 1 else contributions[0]
    for statistic, score in (("r2", r2_score), ("correlation", correlation_score)):
        test = permutation_test_r2(given_bands, responses, statistic=statistic, **keywords)
        predicted = naive_predictions(contributions, delays, order, runs)
        observed = score(centered, predicted.sum(axis=0))
        permuted = [naive_predictions(contributions[:, :, row], delays, order, runs) for row in orders]
        null = np.stack([score(centered, one.sum(axis=0)) for one in permuted])
        np.testing.assert_allclose(test.observed, observed, atol=1e-10)
        np.testing.assert_allclose(test.p, permutation_p(observed, null), atol=1e-12)
        np.testing.assert_allclose(test.null_mean, null.mean(axis=0), atol=1e-10)
        np.testing.assert_allclose(test.null_max, null.max(axis=1), atol=1e-10)
        if n_bands > 1:
            np.testing.assert_allclose(test.split.observed.sum(axis=0), observed, atol=1e-10)
            if statistic == "r2":
                np.testing.assert_allclose(test.split.observed, r2_score_split(responses, predicted), atol=1e-10)
                split = np.stack([r2_score_split(responses, one) for one in permuted])
                np.testing.assert_allclose(test.split.null_max, split.max(axis=2).T, atol=1e-10)
                np.testing.assert_allclose(test.split.p, permutation_p(test.split.observed, split), atol=1e-12)
        else:
            assert test.split is None


def naive_shown(delay, order, runs):
    source = np.arange(len(order)) - delay
    inside = (source >= 0) & (source < len(order))
    inside[inside] = runs[source[inside]] == runs[inside]
    shown = order[source[inside]]
    return shown[shown >= 0]


def autocorrelated(generator, shape, memory):
    noise = generator.standard_normal(shape)
    for sample in range(1, shape[0]):
        noise[sample] = memory * noise[sample - 1] + np.sqrt(1 - memory**2) * noise[sample]
    return noise


@pytest.mark.parametrize("memory", [0.0, 0.9], ids=["white", "autocorrelated"])
@pytest.mark.parametrize("delays", [(0,), (1, 2, 3, 4)], ids=["trials", "delays"])
@pytest.mark.parametrize("statistic", ["r2", "correlation"])
def test_p_is_uniform_under_the_null(memory, delays, statistic):
    generator = np.random.default_rng(20)
    n_samples, n_voxels = 60, 600
    contributions = generator.standard_normal((len(delays), n_samples, n_voxels))
    # A smooth response function makes predictions and noise similar in time: where sample shuffles go wrong.
    contributions *= stats.gamma.pdf(np.arange(len(delays)) + 1, 3)[:, None, None]
    noise = autocorrelated(generator, (n_samples, n_voxels), memory)
    runs = np.repeat([0, 1], n_samples // 2)
    test = permutation_test_r2(
        contributions, noise, delays=delays, runs=runs, n_permutations=199, seed=2, statistic=statistic
    )
    assert stats.kstest(test.p, "uniform").pvalue > 0.01
    assert abs((test.p <= 0.05).mean() - 0.05) < 0.03


def test_shuffling_samples_instead_would_not_hold():
    # Why the stimuli are re-ordered before the delays: the same data, with samples of the prediction
    # shuffled.
    generator = np.random.default_rng(20)
    contributions = generator.standard_normal((4, 60, 600))
    contributions[:] = contributions[0] * stats.gamma.pdf(np.arange(4) + 1, 3)[:, None, None]
    noise = autocorrelated(generator, (60, 600), 0.9)
    order, runs = np.arange(60), np.zeros(60)
    predicted = naive_predictions(contributions[None], (1, 2, 3, 4), order, runs)[0]
    observed = correlation_score(noise, predicted)
    null = np.stack([correlation_score(noise, predicted[generator.permutation(60)]) for _ in range(199)])
    assert (permutation_p(observed, null) <= 0.05).mean() > 0.1
    valid = permutation_test_r2(contributions, noise, delays=(1, 2, 3, 4), n_permutations=199, statistic="correlation")
    assert (valid.p <= 0.05).mean() < 0.08


def test_bands_are_uniform_under_the_null_too_and_signal_is_found():
    generator = np.random.default_rng(4)
    contributions = generator.standard_normal((2, 1, 80, 300))
    responses = 2 * generator.standard_normal((80, 300))
    responses[:, :100] += contributions[0, 0, :, :100]
    test = permutation_test_r2(contributions, responses, n_permutations=199, seed=0)
    assert (test.split.p[0, :100] <= 0.05).mean() > 0.9
    assert stats.kstest(test.split.p[0, 100:], "uniform").pvalue > 0.01
    assert stats.kstest(test.split.p[1], "uniform").pvalue > 0.01
    assert (max_statistic_p(test.observed, test.null_max)[100:] > 0.05).all()


def test_blocks_of_voxels_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    contributions = generator.standard_normal((2, 2, 20, 33), dtype=np.float32)
    responses = generator.standard_normal((20, 33), dtype=np.float32)
    whole = permutation_test_r2(contributions, responses, delays=(0, 1), n_permutations=9)
    monkeypatch.setattr("neurorecon.stats.prediction._BLOCK_VALUES", 100)
    blocks = permutation_test_r2(contributions, responses, delays=(0, 1), n_permutations=9)
    for name in ("observed", "p", "null_mean", "null_max"):
        np.testing.assert_allclose(getattr(whole, name), getattr(blocks, name), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(getattr(whole.split, name), getattr(blocks.split, name), rtol=1e-5, atol=1e-6)


def test_intercept_is_part_of_the_prediction():
    generator = np.random.default_rng(0)
    contributions, responses = generator.standard_normal((1, 30, 4)), generator.standard_normal((30, 4)) + 5
    test = permutation_test_r2(contributions, responses, intercept=np.full(4, 4.0), n_permutations=5)
    np.testing.assert_allclose(test.observed, r2_score(responses, contributions[0] + 4.0))


def test_constant_responses_are_undefined_and_constant_predictions_never_significant():
    generator = np.random.default_rng(0)
    contributions = generator.standard_normal((1, 30, 3))
    contributions[..., 1] = 0
    responses = generator.standard_normal((30, 3))
    responses[:, 0] = 0.3
    for statistic in ("r2", "correlation"):
        test = permutation_test_r2(contributions, responses, n_permutations=19, statistic=statistic)
        assert np.isnan(test.observed[0])
        assert np.isnan(test.p[0])
        assert test.p[1] == 1
        assert np.isfinite(test.null_max).all()


def test_stimuli_that_are_not_shown_are_not_exchanged():
    generator = np.random.default_rng(0)
    contributions, responses = generator.standard_normal((1, 40, 5)), generator.standard_normal((20, 5))
    shown = generator.permutation(40)[:20]
    order = np.argsort(np.argsort(shown))
    some = permutation_test_r2(contributions, responses, order=shown, n_permutations=19)
    only = permutation_test_r2(contributions[:, np.sort(shown)], responses, order=order, n_permutations=19)
    np.testing.assert_array_equal(some.p, only.p)


def test_within_keeps_sessions_apart():
    # Stimuli of two sessions with different baselines: exchanged freely, the baseline itself looks predicted.
    generator = np.random.default_rng(0)
    session = np.repeat([0, 1], 20)
    contributions = (generator.standard_normal((1, 40, 200)) + 3 * session[:, None]).astype(np.float64)
    responses = generator.standard_normal((40, 200)) + 3 * session[:, None]
    free = permutation_test_r2(contributions, responses, n_permutations=99)
    blocked = permutation_test_r2(contributions, responses, within=session, n_permutations=99)
    assert (free.p <= 0.05).mean() > 0.95
    assert stats.kstest(blocked.p, "uniform").pvalue > 0.01


def test_same_seed_same_bits():
    generator = np.random.default_rng(0)
    contributions, responses = generator.standard_normal((1, 30, 40)), generator.standard_normal((30, 40))
    one, other = (permutation_test_r2(contributions, responses, n_permutations=50, seed=9) for _ in range(2))
    np.testing.assert_array_equal(one.null_mean, other.null_mean)
    np.testing.assert_array_equal(one.null_max, other.null_max)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"delays": (0, 1)}, "do not match the responses"),
        ({"order": np.arange(9)}, "one entry for each sample"),
        ({"order": np.arange(10) + 1}, "stimuli that do not exist"),
        ({"order": np.full(10, -1)}, "stimuli that do not exist"),
        ({"runs": [0, 1] * 5}, "must be consecutive"),
        ({"statistic": "mutual information"}, "unknown statistic"),
        ({"order": np.zeros(10, dtype=int)}, "cannot be permuted"),
    ],
)
def test_bad_input_is_explained(keywords, message):
    with pytest.raises(InputError, match=message):
        permutation_test_r2(np.zeros((1, 10, 2)), np.eye(10)[:, :2], n_permutations=3, **keywords)


def test_missing_values_and_unclear_order_are_refused():
    with pytest.raises(InputError, match="must be finite"):
        permutation_test_r2(np.full((1, 10, 2), np.nan), np.zeros((10, 2)))
    with pytest.raises(InputError, match="which sample shows which stimulus"):
        permutation_test_r2(np.zeros((1, 9, 2)), np.zeros((10, 2)))
