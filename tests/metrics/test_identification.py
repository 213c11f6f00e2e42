from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError
from neurorecon.metrics import (
    identification,
    load_metric,
    n_way_probability,
    similarity_matrix,
    top_k_probability,
    two_way,
    two_way_among_reconstructions,
    two_way_half_ties,
)


def images(seed, n=6, shape=(4, 4, 3), noise=1.0):
    rng = np.random.default_rng(seed)
    seen = rng.random((n, *shape))
    return seen, seen + noise * rng.standard_normal(seen.shape)


def brain_diffuser(seen, reconstructed):
    """Two-way identification in the words of the paper, one comparison at a time."""
    scores = []
    for own, image in enumerate(reconstructed):
        right = np.corrcoef(seen[own].ravel(), image.ravel())[0, 1]
        others = [np.corrcoef(seen[i].ravel(), image.ravel())[0, 1] for i in range(len(seen)) if i != own]
        scores.append(np.mean([other < right for other in others]))
    return scores


@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.01, 3))
@settings(max_examples=30)
def test_pairwise_is_the_definition(seed, noise):
    seen, reconstructed = images(seed, noise=noise)
    np.testing.assert_allclose(two_way(seen, reconstructed), brain_diffuser(seen, reconstructed))
    np.testing.assert_allclose(two_way_among_reconstructions(seen, reconstructed), brain_diffuser(reconstructed, seen))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 6))
@settings(max_examples=30)
def test_n_way_is_the_mean_over_all_draws(seed, n):
    seen, reconstructed = images(seed)
    similarity = similarity_matrix(seen, reconstructed)
    expected = []
    for own, row in enumerate(similarity):
        others = np.delete(row, own)
        expected.append(np.mean([row[own] > max(draw) for draw in combinations(others, n - 1)]))
    np.testing.assert_allclose(n_way_probability(seen, reconstructed, n), expected, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 7), data=st.data())
@settings(max_examples=30)
def test_top_k_is_the_share_of_all_pools(seed, n, data):
    """Every pool of every stimulus, in both directions, with ties and an undefined candidate."""
    k = data.draw(st.integers(1, n - 1))
    seen, reconstructed = images(seed, n=8)
    seen[5] = seen[4]
    seen[6] = 0.3  # has no correlation
    for name in (f"top{k}_of_{n}", f"top{k}_of_{n}_among_reconstructions"):
        similarity = similarity_matrix(seen, reconstructed)
        if name.endswith("reconstructions"):
            similarity = similarity.T
        expected = []
        for own, row in enumerate(similarity):
            others = np.delete(row, own)
            others = others[~np.isnan(others)]
            pools = [sum(other >= row[own] - 1e-12 for other in pool) for pool in combinations(others, n - 1)]
            expected.append(np.nan if np.isnan(row[own]) else np.mean(np.array(pools) < k))
        found = load_metric(name).values(seen, reconstructed)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        if not name.endswith("reconstructions"):
            np.testing.assert_array_equal(top_k_probability(seen, reconstructed, k, n), found)


def test_retrieval_from_the_whole_set_is_the_rank():
    seen, reconstructed = images(3, n=120, noise=1.5)
    similarity = similarity_matrix(seen, reconstructed)
    rank = (similarity > np.diagonal(similarity)[:, None]).sum(axis=1)
    np.testing.assert_array_equal(load_metric("top10_of_120").values(seen, reconstructed), rank < 10)
    np.testing.assert_array_equal(load_metric("top10_of_all").values(seen, reconstructed), rank < 10)
    assert load_metric("top10_of_all").fewest == 11
    assert load_metric("top10_of_all").chance is None  # it depends on the number of stimuli
    np.testing.assert_allclose(load_metric("top1_of_50").values(seen, reconstructed),
                               load_metric("50_way").values(seen, reconstructed))  # fmt: skip
    assert load_metric("top10_of_120").chance == pytest.approx(1 / 12)
    orders = np.stack([np.random.default_rng(n).permutation(120) for n in range(200)])
    assert load_metric("top10_of_120").null(seen, reconstructed, orders).mean() == pytest.approx(1 / 12, abs=0.005)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_variants_meet_where_there_are_no_ties(seed):
    seen, reconstructed = images(seed)
    strict = two_way(seen, reconstructed)
    np.testing.assert_allclose(strict, two_way_half_ties(seen, reconstructed))
    np.testing.assert_allclose(strict, n_way_probability(seen, reconstructed, 2))
    order = np.random.default_rng(seed).permutation(len(seen))
    np.testing.assert_allclose(strict[order], two_way(seen[order], reconstructed[order]))


def test_identical_stimuli_tie():
    """Strict comparison loses a tie, even where rounding makes one of two equal correlations larger."""
    seen = np.repeat(np.random.default_rng(0).random((1, 50)), 8, axis=0)
    reconstructed = np.random.default_rng(1).random((8, 50))
    assert (two_way(seen, reconstructed) == 0).all()
    assert (two_way_half_ties(seen, reconstructed) == 0.5).all()


def test_perfect_and_chance():
    seen, _ = images(0, n=200)
    assert (two_way(seen, seen) == 1).all()
    assert (n_way_probability(seen, seen, 50) == 1).all()
    noise = np.random.default_rng(1).random(seen.shape)
    assert abs(two_way(seen, noise).mean() - 0.5) < 0.06
    assert abs(n_way_probability(seen, noise, 10).mean() - 0.1) < 0.05


def test_constant_reconstruction_is_undefined_and_constant_candidate_is_left_out():
    seen, reconstructed = images(0, noise=0.1)
    reconstructed[2] = 0.1
    scores = two_way(seen, reconstructed)
    assert np.isnan(scores[2])
    assert (np.delete(scores, 2) == 1).all()
    seen[2] = 0.1
    assert (np.delete(two_way(seen, reconstructed), 2) == 1).all()
    assert np.isnan(n_way_probability(seen, reconstructed, 3)[2])


@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
def test_blocks_give_the_same_similarities(monkeypatch, similarity):
    seen, reconstructed = images(0)
    reconstructed[3] = 0
    a, b = reconstructed.reshape(6, -1), seen.reshape(6, -1)
    if similarity == "correlation":
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        expected = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    monkeypatch.setattr(identification, "BLOCK", 7)
    np.testing.assert_allclose(similarity_matrix(seen, reconstructed, similarity), expected, atol=1e-12)


def test_bad_input_is_refused():
    seen, reconstructed = images(0)
    with pytest.raises(InputError, match="other stimuli"):
        two_way(seen[:1], reconstructed[:1])
    with pytest.raises(InputError, match="n from 2 to 6"):
        n_way_probability(seen, reconstructed, 7)
    with pytest.raises(InputError, match="n from 2 to 6"):
        load_metric("top3_of_50").values(seen, reconstructed)
    for name in ("1_way", "top3_of_3", "top0_of_5_clip"):
        with pytest.raises(InputError, match="fewer that count"):
            load_metric(name)
    with pytest.raises(InputError, match="correlation, cosine"):
        two_way(seen, reconstructed, similarity="corelation")
