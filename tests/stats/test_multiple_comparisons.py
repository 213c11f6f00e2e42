import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from neurorecon.errors import InputError
from neurorecon.stats import false_discovery_rate, max_statistic_p

p_values = arrays(np.float64, array_shapes(max_dims=2, max_side=30), elements=st.floats(0, 1))


@settings(max_examples=100, deadline=None)
@given(p=p_values, q=st.sampled_from([0.01, 0.05, 0.2]))
def test_q_values_are_scipys(p, q):
    rejected, q_values = false_discovery_rate(p, q)
    reference = stats.false_discovery_control(p.ravel()).reshape(p.shape)
    np.testing.assert_allclose(q_values, reference, rtol=1e-12)
    np.testing.assert_array_equal(rejected, q_values <= q)


def benjamini_hochberg(p):
    """The procedure written out, without SciPy."""
    tested = ~np.isnan(p)
    order = np.argsort(p[tested], kind="stable")
    scaled = p[tested][order] * len(order) / np.arange(1, len(order) + 1)
    q_values = np.full(p.shape, np.nan)
    q_values[np.flatnonzero(tested)[order]] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values


@pytest.mark.parametrize("n_tests", [0, 1, 2, 1000])
@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_q_values_are_the_procedure_written_out(n_tests, missing):
    generator = np.random.default_rng(n_tests)
    p = generator.random(n_tests) ** 3
    p[::7] = np.round(p[::7], 2)  # ties
    p[generator.random(n_tests) < missing] = np.nan
    _, q_values = false_discovery_rate(p)
    np.testing.assert_allclose(q_values, benjamini_hochberg(p), rtol=1e-12, atol=0)


@settings(max_examples=50, deadline=None)
@given(p=arrays(np.float64, 20, elements=st.floats(0, 1)), missing=arrays(bool, 20))
def test_missing_tests_do_not_count(p, missing):
    with_missing = np.where(missing, np.nan, p)
    rejected, q_values = false_discovery_rate(with_missing)
    alone, q_alone = false_discovery_rate(p[~missing])
    np.testing.assert_array_equal(rejected[~missing], alone)
    np.testing.assert_array_equal(q_values[~missing], q_alone)
    assert not rejected[missing].any()
    assert np.isnan(q_values[missing]).all()


def test_the_example_of_benjamini_and_hochberg():
    # Section 3.2 of the paper: 15 p-values, of which the procedure rejects the four smallest at q = .05.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
    0.6528,
         0.7590, 1.0000]  # fmt: skip
    rejected, _ = false_discovery_rate(p, 0.05)
    np.testing.assert_array_equal(rejected, [True] * 4 + [False] * 11)


def test_false_discoveries_stay_at_the_rate():
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        z = generator.standard_normal(100)
        z[:30] += 3
        rejected, _ = false_discovery_rate(stats.norm.sf(z), 0.1)
        shares.append(rejected[30:].sum() / max(1, rejected.sum()))
    # Expected: q times the share of true nulls, .07; three standard errors are about .01.
    assert 0.05 < np.mean(shares) < 0.09


def test_wrong_p_values_are_refused():
    with pytest.raises(InputError, match="between 0 and 1"):
        false_discovery_rate([0.5, 1.5])
    with pytest.raises(InputError, match="rate must be between"):
        false_discovery_rate([0.5], q=5)


@settings(max_examples=50, deadline=None)
@given(
    observed=arrays(np.float64, 9, elements=st.integers(-4, 4)),
    null=arrays(np.float64, 13, elements=st.integers(-4, 4)),
)
def test_max_statistic_is_the_count(observed, null):
    expected = (1 + (null[:, None] >= observed).sum(axis=0)) / (1 + len(null))
    np.testing.assert_array_equal(max_statistic_p(observed, null), expected)


def test_max_statistic_controls_any_false_discovery():
    generator = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        null = generator.standard_normal((99, 40)).max(axis=1)
        hits.append((max_statistic_p(generator.standard_normal(40), null) <= 0.05).any())
    assert stats.binomtest(int(np.sum(hits)), len(hits), 0.05).pvalue > 1e-3


def test_max_statistic_keeps_nan_and_refuses_a_null_of_voxels():
    np.testing.assert_array_equal(max_statistic_p([np.nan, 0.0], [1.0]), [np.nan, 1.0])
    with pytest.raises(InputError, match="each permutation"):
        max_statistic_p([0.0], np.zeros((3, 2)))
