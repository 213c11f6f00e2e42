import numpy as np
import pytest

from neurorecon.stats import permutation_test_r2


def test_means_over_groups_are_those_of_their_voxels():
    generator = np.random.default_rng(5)
    contributions = generator.standard_normal((2, 1, 30, 40))
    responses = contributions.sum(axis=(0, 1)) + generator.standard_normal((30, 40))
    groups = np.zeros((3, 40), dtype=bool)
    groups[0, :10], groups[1] = True, True
    found = permutation_test_r2(contributions, responses, n_permutations=50, groups=groups)
    single = permutation_test_r2(contributions[..., :10], responses[:, :10], n_permutations=50)
    np.testing.assert_allclose(found.groups.observed[0], single.observed.mean())
    np.testing.assert_allclose(found.groups.observed[1], found.observed.mean())
    np.testing.assert_allclose(found.groups.null[0].mean(), single.null_mean.mean())
    assert found.groups.p[0] == pytest.approx(1 / 51)
    assert np.isnan(found.groups.p[2])
