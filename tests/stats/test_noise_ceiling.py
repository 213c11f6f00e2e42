import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.stats import RepeatVariance, explainable_variance, noise_ceiling_from_trials


def simulate(signal, noise, counts, n_voxels=400, seed=0):
    """Trials of stimuli with known signal and noise variance, in random order."""
    generator = np.random.default_rng(seed)
    truth = generator.standard_normal((len(counts), n_voxels)) * np.sqrt(signal)
    ids = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    return truth[ids] + generator.standard_normal((len(ids), n_voxels)) * np.sqrt(noise), ids, truth


@pytest.mark.parametrize("counts", [[3] * 100, [1, 2, 3, 10] * 40], ids=["balanced", "unbalanced"])
def test_known_variances_are_found(counts):
    responses, ids, _ = simulate(0.5, 2.0, counts)
    variance = RepeatVariance(ids).update(responses + 1000, ids)
    np.testing.assert_allclose(variance.noise_variance.mean(), 2.0, rtol=0.02)
    np.testing.assert_allclose(variance.signal_variance.mean(), 0.5, rtol=0.05)
    np.testing.assert_allclose(variance.ncsnr.mean(), 0.5, rtol=0.05)
    np.testing.assert_allclose(variance.noise_ceiling(3).mean(), 0.5 / (0.5 + 2 / 3), rtol=0.05)


def test_the_ceiling_is_what_a_perfect_model_reaches():
    responses, ids, truth = simulate(1.0, 2.0, [4] * 300, n_voxels=200)
    means = np.stack([responses[ids == stimulus].mean(axis=0) for stimulus in range(300)])
    reached = 1 - ((means - truth) ** 2).sum(axis=0) / ((means - means.mean(axis=0)) ** 2).sum(axis=0)
    ceiling = noise_ceiling_from_trials(responses, ids, n_repeats=4)
    np.testing.assert_allclose(ceiling.mean(), reached.mean(), atol=0.01)


def test_balanced_repeats_agree_with_explainable_variance():
    n_stimuli, n_repeats = 80, 5
    generator = np.random.default_rng(1)
    signal = generator.standard_normal((n_stimuli, 50))
    repeats = signal + 1.5 * generator.standard_normal((n_repeats, n_stimuli, 50))
    repeats -= repeats.mean(axis=1, keepdims=True)
    variance = RepeatVariance()
    for block in repeats:
        variance.update(block, np.arange(n_stimuli))
    # Both split the same sum of squares. Explainable variance takes the means of the repeats out of the
    # noise, whose degrees of freedom are then (stimuli - 1)(repeats - 1) instead of stimuli (repeats - 1).
    noise = variance.noise_variance * n_stimuli / (n_stimuli - 1)
    mean_variance = repeats.mean(axis=0).var(axis=0, ddof=1)
    signal_variance = mean_variance - noise / n_repeats
    expected = explainable_variance(repeats, zscore=False)
    np.testing.assert_allclose(signal_variance / (signal_variance + noise), expected, rtol=1e-10)
    np.testing.assert_allclose(variance.noise_ceiling(1), expected, atol=0.01)


def test_bias_correction_removes_what_noise_adds():
    noise = np.random.default_rng(0).standard_normal((4, 60, 500))
    np.testing.assert_allclose(explainable_variance(noise, bias_correction=False).mean(), 1 / 4, atol=0.01)
    np.testing.assert_allclose(explainable_variance(noise).mean(), 0.0, atol=0.01)


def test_explainable_variance_of_a_noiseless_voxel_is_one_whatever_the_gain_of_runs():
    video = np.random.default_rng(0).standard_normal((30, 4))
    repeats = np.stack([video, 3 * video + 7, 0.5 * video - 1])
    np.testing.assert_allclose(explainable_variance(repeats), 1.0)
    assert (explainable_variance(repeats, zscore=False) < 0.9).all()


def test_voxels_that_do_not_vary():
    repeats = np.zeros((2, 10, 1))
    assert np.isnan(explainable_variance(repeats)).all()
    ids = np.arange(20) % 10
    assert np.isnan(noise_ceiling_from_trials(repeats.reshape(20, 1), ids)).all()


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=3, max_size=12).filter(lambda c: sum(x > 1 for x in c) > 1),
    block=st.integers(1, 50),
    seed=st.integers(0, 99),
    known=st.booleans(),
)
def test_blocks_in_any_order_give_the_same(counts, block, seed, known):
    responses, ids, _ = simulate(1.0, 1.0, counts, n_voxels=3, seed=seed)
    chunked = RepeatVariance(ids if known else None)
    for start in range(0, len(ids), block):
        chunked.update(responses[start : start + block], ids[start : start + block])
    groups = [responses[ids == stimulus] for stimulus in np.unique(ids)]
    repeated = [group for group in groups if len(group) > 1]
    within = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in repeated)
    freedom = sum(len(group) - 1 for group in repeated)
    np.testing.assert_allclose(chunked.noise_variance, within / freedom, rtol=1e-9)
    if known:
        assert len(chunked._means) == len(repeated)


def test_stimulus_ids_may_be_strings_and_repeats_unequal():
    responses, ids, _ = simulate(1.0, 1.0, [2, 3] * 20)
    variance = RepeatVariance().update(responses, np.char.add("image", ids.astype(str)))
    both = variance.noise_ceiling([1, 3])
    share = 2 / 3 * variance.noise_variance / (variance.signal_variance + 2 / 3 * variance.noise_variance)
    np.testing.assert_allclose(1 - both, share, rtol=0.1)  # less what makes it unbiased: 2 / 39 of the share or so


def test_what_has_no_repeats_is_refused():
    with pytest.raises(InputError, match="without repeats"):
        noise_ceiling_from_trials(np.zeros((4, 2)), np.arange(4))
    with pytest.raises(InputError, match="needs repeats"):
        explainable_variance(np.zeros((1, 4, 2)))
    with pytest.raises(InputError, match="do not match"):
        noise_ceiling_from_trials(np.zeros((4, 2)), np.arange(5))
    with pytest.raises(InputError, match="do not match"):
        RepeatVariance().update(np.zeros((4, 2)), np.arange(5))
    with pytest.raises(InputError, match="another number of voxels"):
        RepeatVariance().update(np.zeros((1, 2)), [0]).update(np.zeros((1, 3)), [0])
    with pytest.raises(InputError, match="at least one trial"):
        RepeatVariance().update(np.eye(4), [0, 0, 1, 1]).noise_ceiling(0)
