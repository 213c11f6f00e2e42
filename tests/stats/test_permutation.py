import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurorecon.errors import InputError
from neurorecon.stats import PermutationCounter, permutation_p, stimulus_permutations


def test_permutation_p_agrees_with_scipy_on_all_orders():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 6))
    reference = stats.permutation_test(
        (x,), lambda order: stats.pearsonr(order, y).statistic, permutation_type="pairings",
        n_resamples=np.inf, alternative="greater",
    )  # fmt: skip
    # scipy counts the identity among all orders; ours adds the observed one to a null without it.
    observed = stats.pearsonr(x, y).statistic
    identity = int(np.argmin(np.abs(reference.null_distribution - observed)))
    null = np.delete(reference.null_distribution, identity)
    np.testing.assert_allclose(permutation_p(observed, null), reference.pvalue, rtol=1e-12)


def test_permutation_p_counts_ties_and_is_never_zero():
    null = np.array([0.0, 0.5, 1.0, 0.5])
    np.testing.assert_allclose(permutation_p(0.5, null), 4 / 5)
    np.testing.assert_allclose(permutation_p(2.0, null), 1 / 5)
    # A tie up to rounding is a tie.
    np.testing.assert_allclose(permutation_p(0.1 + 0.2, np.array([0.3])), 1.0)
    np.testing.assert_allclose(permutation_p(3, np.array([3, 2, 4])), 3 / 4)


def test_permutation_p_takes_any_axis():
    null = np.random.default_rng(0).standard_normal((4, 7, 3))
    observed = null[:, 0]
    np.testing.assert_array_equal(
        permutation_p(observed, null, axis=1), permutation_p(observed, np.moveaxis(null, 1, 0))
    )


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    voxels=st.integers(1, 5),
)
def test_counter_in_batches_is_the_count_at_once(sizes, seed, voxels):
    generator = np.random.default_rng(seed)
    null = generator.integers(-3, 4, (sum(sizes) + 1, voxels)).astype(np.float32)
    observed = generator.integers(-3, 4, voxels).astype(np.float32)
    counter = PermutationCounter(observed)
    start = 0
    for size in [*sizes, 1]:
        counter.update(null[start : start + size])
        start += size
    assert counter.n_permutations == len(null)
    np.testing.assert_array_equal(counter.p, (1 + (null >= observed).sum(0)) / (1 + len(null)))
    np.testing.assert_allclose(counter.null_mean, null.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(counter.null_max, null.max(axis=1))


def test_undefined_voxels_stay_undefined_and_do_not_touch_the_maximum():
    counter = PermutationCounter(np.array([np.nan, 1.0]))
    counter.update(np.array([[9.0, 0.0], [np.nan, 2.0]]))
    np.testing.assert_array_equal(counter.p, [np.nan, 2 / 3])
    np.testing.assert_array_equal(counter.null_max, [0.0, 2.0])


def test_counter_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="does not match"):
        PermutationCounter(np.zeros(3)).update(np.zeros((5, 4)))
    with pytest.raises(InputError, match="NaN where the observed"):
        PermutationCounter(np.zeros(1)).update(np.full((2, 1), np.nan))
    with pytest.raises(InputError, match="no null distribution"):
        _ = PermutationCounter(np.zeros(1)).p


@settings(max_examples=60, deadline=None)
@given(n_stimuli=st.integers(2, 12), count=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_orders_are_permutations(n_stimuli, count, seed):
    orders = stimulus_permutations(n_stimuli, count, seed)
    every = math.factorial(n_stimuli)
    assert orders.shape == (every - 1 if every <= count else count, n_stimuli)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(n_stimuli), (len(orders), 1)))
    np.testing.assert_array_equal(orders, stimulus_permutations(n_stimuli, count, seed))
    if every > count:
        np.testing.assert_array_equal(orders[: count // 2], stimulus_permutations(n_stimuli, count // 2, seed))


@pytest.mark.parametrize(("within", "number"), [(None, 24), ([0, 0, 1, 1], 4), ([0, 0, 0, 1], 6)])
def test_few_orders_are_all_returned_once(within, number):
    orders = stimulus_permutations(4, 100, 0, within)
    assert len(np.unique(orders, axis=0)) == len(orders) == number - 1
    assert not (orders == np.arange(4)).all(axis=1).any()  # the observed order is the 1 in (1 + #) / (1 + B)


def test_drawn_orders_are_uniform_over_all_the_observed_one_included():
    orders = stimulus_permutations(7, 5039, 1)[:, :3].argsort(axis=1)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3
    one = {tuple(stimulus_permutations(2, 1, seed)[0].tolist()) for seed in range(20)}
    assert one == {(0, 1), (1, 0)}


@pytest.mark.parametrize("n_stimuli", [2, 3, 4, 5])
def test_p_of_few_stimuli_is_at_least_one_over_the_number_of_orders(n_stimuli):
    orders = stimulus_permutations(n_stimuli, 1000, 0)
    statistic = np.arange(n_stimuli) ** 2.0
    assert permutation_p(statistic @ statistic, statistic[orders] @ statistic) == 1 / math.factorial(n_stimuli)


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 2), min_size=4, max_size=12), seed=st.integers(0, 99))
def test_orders_within_blocks_stay_within_blocks(labels, seed):
    labels = np.array(labels)
    orders = stimulus_permutations(len(labels), 5, seed, within=labels)
    np.testing.assert_array_equal(labels[orders], np.tile(labels, (len(orders), 1)))


def test_orders_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="cannot be permuted"):
        stimulus_permutations(3, 5, 0, within=[0, 1, 2])
    with pytest.raises(InputError, match="cannot be permuted"):
        stimulus_permutations(1, 5, 0)
    with pytest.raises(InputError, match="one label for each stimulus"):
        stimulus_permutations(3, 5, 0, within=[0, 1])
