import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut

from neurorecon.errors import InputError
from neurorecon.metrics import pixcorr
from neurorecon.registry import SYSTEMS
from neurorecon.systems.linear_pixels import LinearPixels


def simulate(seed=0, figures=6, repeats=4, voxels=40, noise=1.0, shape=(4, 4, 3)):
    """Responses that are linear in the images, plus noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (figures, *shape), dtype=np.uint8)
    labels = np.tile(np.arange(figures), repeats)
    weights = rng.standard_normal((np.prod(shape), voxels))
    responses = (images.reshape(figures, -1) / 255 - 0.5)[labels] @ weights
    return responses + noise * rng.standard_normal(responses.shape), images[labels], labels


@pytest.mark.parametrize("standardize", [True, False])
def test_is_scikit_learns_ridge_with_grouped_grid_search(standardize):
    responses, images, labels = simulate()
    alphas = [0.1, 1.0, 10.0, 100.0, 1000.0]
    system = LinearPixels(alphas, standardize=standardize).fit_arrays(responses, images, groups=labels)
    scaled = (responses - responses.mean(0)) / (responses.std(0) if standardize else 1)
    targets = images.reshape(len(images), -1) / 255
    search = GridSearchCV(Ridge(), {"alpha": alphas}, scoring="neg_mean_squared_error", cv=LeaveOneGroupOut()).fit(
        scaled, targets, groups=labels
    )
    assert system.decoders_["images"].alpha_ == search.best_params_["alpha"]
    expected = np.clip(search.predict(scaled), 0, 1)
    np.testing.assert_allclose(system.reconstruct(responses).values.reshape(expected.shape), expected, atol=1e-4)


def test_images_out():
    responses, images, _ = simulate(noise=0.1)
    system = LinearPixels(1.0).fit_arrays(responses, images)
    found = system.reconstruct(responses[:5])
    assert found.dims == ("stimulus", "y", "x", "rgb")
    assert found.shape == (5, 4, 4, 3)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert pixcorr(images, system.reconstruct(responses).values).mean() > 0.9


def test_the_type_of_the_images_does_not_matter():
    responses, images, labels = simulate()
    one = LinearPixels().fit_arrays(responses, images, groups=labels).reconstruct(responses)
    other = LinearPixels().fit_arrays(responses, images / 255, groups=labels).reconstruct(responses)
    np.testing.assert_array_equal(one, other)


def test_same_images_are_a_group_by_default():
    responses, images, labels = simulate()
    by_default = LinearPixels().fit_arrays(responses, images)
    grouped = LinearPixels().fit_arrays(responses, images, groups=labels)
    assert by_default.decoders_["images"].alpha_ == grouped.decoders_["images"].alpha_
    # Were repeats on both sides of a fold, the image could be recognized and no alpha would be needed.
    leaking = LinearPixels().fit_arrays(responses, images, groups=np.arange(len(images)))
    assert leaking.decoders_["images"].alpha_ < grouped.decoders_["images"].alpha_


def test_constant_voxels_are_harmless():
    responses, images, _ = simulate()
    more = np.concatenate([responses, np.full((len(responses), 2), 0.1)], axis=1)
    one = LinearPixels(10.0).fit_arrays(responses, images).reconstruct(responses)
    other = LinearPixels(10.0).fit_arrays(more, images).reconstruct(more)
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_is_an_estimator():
    system = LinearPixels([1.0, 10.0], standardize=False, cv=3)
    assert clone(system).get_params() == system.get_params()
    assert SYSTEMS.load("linear-pixels") is LinearPixels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:-1], y), "do not match"),
        (lambda x, y: (x[:, 0], y), "do not match"),
        (lambda x, y: (np.where(x == x[0, 0], np.nan, x), y), "1 values in 1 voxels"),
        (lambda x, y: (x, y * 255.0), "have to lie in"),
    ],
)
def test_bad_samples_are_refused(change, said):
    responses, images, _ = simulate()
    with pytest.raises(InputError, match=said):
        LinearPixels().fit_arrays(*change(responses, images))


def test_bad_parameters_and_responses_are_refused():
    responses, images, _ = simulate()
    with pytest.raises(InputError, match="positive"):
        LinearPixels([0.0, 1.0]).fit_arrays(responses, images)
    with pytest.raises(InputError, match="40"):
        LinearPixels().fit_arrays(responses, images).reconstruct(responses[:, :-1])
    with pytest.raises(InputError, match="two"):
        LinearPixels().fit_arrays(responses, images, groups=np.zeros(len(images)))
