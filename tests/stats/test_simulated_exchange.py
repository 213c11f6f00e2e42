"""False positive rates of encoding maps on pure noise; tests/benchmarks/test_false_positives.py has the full table."""

import numpy as np
import pytest

from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.encoding import fit_encoding
from neurorecon.stats import Exchange
from tests.noise_designs import DESIGNS, false_positives, features, noise, p_values, table

LEVEL = 0.05


@pytest.mark.parametrize("name", [name for name, (_, valid, _) in DESIGNS.items() if valid])
def test_noise_is_significant_as_often_as_the_level_says(name):
    unit, _, design = DESIGNS[name]
    rate, error = false_positives(unit, 24, seed=1, level=LEVEL, **design)
    assert rate <= LEVEL + 3.1 * max(error, np.sqrt(LEVEL * (1 - LEVEL) / (24 * 30)))


@pytest.mark.parametrize("name", [name for name, (_, valid, _) in DESIGNS.items() if not valid])
def test_the_unit_that_the_design_forbids_would_be_wrong(name):
    unit, _, design = DESIGNS[name]
    rate, _ = false_positives(unit, 24, seed=1, level=LEVEL, **design)
    assert rate > 0.12


@pytest.mark.parametrize(("length", "orders"), [(3, 6), (4, 24), (5, 120)])
def test_p_of_few_stimuli_is_at_least_one_over_the_number_of_orders(length, orders):
    p = p_values(np.random.default_rng(0), "stimulus", runs=1, length=length, train_runs=20, voxels=300)
    assert p.min() >= 1 / orders - 1e-12
    np.testing.assert_allclose(p * orders, np.round(p * orders))


def test_bands_are_tested_as_the_whole_is():
    random = np.random.default_rng(0)
    shown = features(random, 6, 80, 4).reshape(480, 2, 10).swapaxes(0, 1)
    signal = (shown[0] @ random.standard_normal((10, 30))).reshape(6, 80, 30)
    responses = 2 * signal / signal.std() + noise(random, (6, 80, 30), 0.8)
    train, test = table(responses[:4]), table(responses[4:])
    products = tuple(np.einsum("bsf,btf->bst", part, shown[:, :320]) for part in (shown[:, :320], shown[:, 320:]))
    settings = EncodingSettings(n_permutations=299)
    rois = np.ones((1, 30), dtype=bool)
    _, found = fit_encoding(
        products, train, test, (0,), series=False, settings=settings, exchange=Exchange("shift", ""), rois=rois
    )
    assert (found.p <= 0.05).mean() > 0.9
    assert (found.split.p[0] <= 0.05).mean() > 0.9
    assert (found.split.p[1] <= 0.05).mean() < 0.2
    assert found.split.groups.p[:, 0].tolist() == [pytest.approx(1 / 300), pytest.approx(found.split.groups.p[1, 0])]
    assert found.split.groups.p[1, 0] > 0.05
