import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut

from neurorecon.analyses import cross_validation as analysis
from neurorecon.datasets.miyawaki2008 import Miyawaki2008Reader
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError
from neurorecon.metrics import load_metric, pixcorr, two_way
from neurorecon.stats import stimulus_permutations
from neurorecon.systems.linear_pixels import LinearPixels, ridge_smoothers

METRICS = {name: load_metric(name) for name in ("pixcorr", "two_way")}


def cross_validate(responses, images, labels, *, stimuli=None, system=None):
    recordings = Recordings.of_arrays(responses, labels if stimuli is None else stimuli, {"images": images})
    return analysis.cross_validate(system or LinearPixels(), recordings, labels)


def cross_validated_null(
    responses, images, labels, *, stimuli=None, system=None, n_permutations=1000, seed=0, within=None
):
    names = labels if stimuli is None else stimuli
    recordings = Recordings.of_arrays(responses, names, {"images": images})
    system = system or LinearPixels()
    found = analysis.cross_validate(system, recordings, labels)
    within = None if within is None else within[np.unique(found.shown, return_index=True)[1]]
    orders = stimulus_permutations(len(found.stimuli), n_permutations, seed, within)
    return analysis.refitted_null(system, recordings, labels, found, METRICS, orders)


def reconstruction_scores(found, null):
    return analysis.held_out_scores(found, METRICS, null)[1]


def simulate(seed=0, figures=7, repeats=3, voxels=30, noise=1.0, signal=1.0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (figures, 3, 3, 3), dtype=np.uint8)
    labels = np.tile([f"figure{number}" for number in range(figures)], repeats)
    index = np.tile(np.arange(figures), repeats)
    weights = rng.standard_normal((27, voxels))
    responses = signal * (images.reshape(figures, -1) / 255 - 0.5)[index] @ weights
    return responses + noise * rng.standard_normal(responses.shape), images[index], labels


def test_smoothers_are_scikit_learns_ridge():
    rng = np.random.default_rng(0)
    train, test, targets = rng.random((12, 30)), rng.random((4, 30)), rng.random((12, 5))
    for alpha, smoother in zip((0.3, 20.0), ridge_smoothers(train, test, (0.3, 20.0)), strict=True):
        np.testing.assert_allclose(smoother @ targets, Ridge(alpha).fit(train, targets).predict(test), atol=1e-10)


def test_a_held_out_figure_is_never_seen():
    """Each fold is a fresh system, fitted on the other labels alone."""
    responses, images, labels = simulate()
    result = cross_validate(responses, images, labels)
    for train, test in LeaveOneGroupOut().split(responses, groups=labels):
        fitted = LinearPixels().fit_arrays(responses[train], images[train], groups=labels[train])
        np.testing.assert_array_equal(result.samples[test], fitted.reconstruct(responses[test]))
        np.testing.assert_allclose(result.baseline_samples[test][0], images[train].mean(0) / 255)
        # What the held-out samples are has no influence on how they are reconstructed.
        spoiled = images.copy()
        spoiled[test] = 255 - spoiled[test]
        again = cross_validate(responses, spoiled, labels)
        np.testing.assert_array_equal(again.samples[test], result.samples[test])


def test_means_over_samples():
    responses, images, labels = simulate()
    result = cross_validate(responses, images, labels)
    assert result.stimuli.tolist() == list(dict.fromkeys(labels))
    for index, name in enumerate(result.stimuli):
        rows = labels == name
        np.testing.assert_allclose(result.reconstructed[index], result.samples[rows].mean(0), atol=1e-6)
        np.testing.assert_allclose(result.seen[index], images[rows][0] / 255, atol=1e-6)
        assert (result.shown[rows] == index).all()


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("alphas", [10.0, (0.1, 1.0, 10.0, 100.0, 1000.0)])
def test_null_refits_everything(standardize, alphas):
    """Cached factorizations give what refitting the whole procedure on permuted images gives."""
    responses, images, labels = simulate()
    system = LinearPixels(alphas, standardize=standardize)
    null = cross_validated_null(responses, images, labels, system=system, n_permutations=5, seed=3)
    names = list(dict.fromkeys(labels))
    images = np.stack([images[labels == name][0] for name in names])
    place = np.array([names.index(label) for label in labels])
    chosen = set()
    for row, order in enumerate(stimulus_permutations(len(names), 5, 3)):
        shuffled = images[order][place]
        result = cross_validate(responses, shuffled, labels, system=clone(system))
        chosen |= set(result.alphas.values())
        mean = pixcorr(images[order], result.reconstructed).mean()
        assert null["stimulus_mean_pixcorr"][row] == pytest.approx(mean, abs=1e-5)
        single = pixcorr(shuffled, result.samples).mean()
        assert null["single_sample_pixcorr"][row] == pytest.approx(single, abs=1e-5)
        right = two_way(images[order], result.reconstructed).mean()
        assert null["two_way"][row] == pytest.approx(right)
    # Without different alphas the test would not notice one that is not chosen anew.
    assert len(chosen) > 1 or np.ndim(alphas) == 0


def test_p_is_uniform_without_signal():
    values = []
    for seed in range(30):
        responses, images, labels = simulate(seed, signal=0.0, figures=6, repeats=2, voxels=10)
        system = LinearPixels((1.0, 100.0))
        result = cross_validate(responses, images, labels, system=system)
        null = cross_validated_null(responses, images, labels, system=system, n_permutations=99, seed=seed)
        values.append([score.p for score in reconstruction_scores(result, null)])
    mean, pairs, single = np.transpose(values)
    for p in (mean, single):
        assert kstest(p, "uniform").pvalue > 0.01
    assert (pairs <= 0.1).mean() <= 0.2  # few values are possible, so ties make p large


def test_signal_is_found():
    responses, images, labels = simulate(noise=0.5, figures=20, repeats=2)
    result = cross_validate(responses, images, labels)
    null = cross_validated_null(responses, images, labels, n_permutations=99)
    for score in reconstruction_scores(result, null):
        assert score.p == 0.01
        assert score.value > max(score.null_max, score.baseline)
        assert (score.n, score.n_undefined) == (40 if "single" in score.name else 20, 0)


def test_same_seed_same_null_and_within():
    responses, images, labels = simulate()
    one, same, other = (
        cross_validated_null(responses, images, labels, n_permutations=4, seed=seed) for seed in (1, 1, 2)
    )
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert (one[name] != other[name]).any()
    halves = np.where(labels < "figure2", "a", "b")
    within = cross_validated_null(responses, images, labels, n_permutations=4, seed=1, within=halves)
    assert (within["two_way"] != one["two_way"]).any()


def test_several_stimuli_in_a_label():
    """A category is left out as a whole, its stimuli are scored one by one."""
    responses, images, stimuli = simulate(figures=12)
    categories = np.array([f"category{int(name[6:]) % 4}" for name in stimuli])
    result = cross_validate(responses, images, categories, stimuli=stimuli)
    assert set(result.alphas) == set(categories)
    assert len(result.stimuli) == 12
    held = categories == "category1"
    fitted = LinearPixels().fit_arrays(responses[~held], images[~held], groups=categories[~held])
    np.testing.assert_array_equal(result.samples[held], fitted.reconstruct(responses[held]))


def test_bad_designs_are_refused():
    responses, images, labels = simulate()
    with pytest.raises(InputError, match="more than one row in images"):
        cross_validate(responses, np.concatenate([images[1:2], images[1:]]), labels)
    with pytest.raises(InputError, match="stimuli do not match"):
        cross_validate(responses, images, labels[:-1])
    with pytest.raises(InputError, match="three or more"):
        cross_validate(responses, images, np.where(labels < "figure3", "a", "b"), stimuli=labels)
    with pytest.raises(InputError, match="more than one value in labels"):
        cross_validate(responses, images, np.arange(len(labels)) % 4, stimuli=labels)


@pytest.fixture(scope="module")
def blocks(miyawaki_folder):
    reader = Miyawaki2008Reader(miyawaki_folder)
    data = reader.subject("subj01")
    place = {name: index for index, name in enumerate(reader.stimuli()["id"])}
    figures = data.samples["stimulus"].to_numpy()
    images = reader.read_images(0, len(place))[[place[name] for name in figures]]
    return data.read_responses(0, len(figures)), images, figures, data.samples["run"].to_numpy()


class TestMiyawaki:
    def test_figures_are_reconstructed_from_v1(self, blocks):
        """The numbers that docs/validation.md states."""
        responses, images, figures, runs = blocks
        result = cross_validate(responses, images, figures)
        # Shapes and letters were shown in different runs, which tells much: the second null keeps that.
        for within in (None, np.where(runs <= 4, "shapes", "letters")):
            null = cross_validated_null(responses, images, figures, n_permutations=499, within=within)
            scores = {score.name: score for score in reconstruction_scores(result, null)}
            mean, pairs = scores["stimulus_mean_pixcorr"], scores["two_way"]
            single = scores["single_sample_pixcorr"]
            assert mean.value >= 0.78
            assert pairs.value >= 0.75
            assert (mean.n, pairs.n, single.n) == (10, 10, 80)
            assert single.baseline == pytest.approx(0.585, abs=0.001)
            assert single.value > 0.75
            assert max(score.p for score in scores.values()) <= 0.005
            assert mean.null_mean < 0.6
            assert pairs.null_mean < 0.5
