import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr
from skimage.metrics import mean_squared_error as skimage_mse

from neurorecon.errors import InputError
from neurorecon.metrics import image, mse, pixcorr, summarize
from neurorecon.metrics.image import as_unit_float

pairs = st.tuples(arrays(np.uint8, (4, 3, 3, 3)), arrays(np.float64, (4, 3, 3, 3), elements=st.floats(0, 1, width=32)))


@given(pairs)
def test_pixcorr_is_scipys(pair):
    seen, reconstructed = pair
    scores = pixcorr(seen, reconstructed)
    for one, other, score in zip(seen, reconstructed, scores, strict=True):
        if np.ptp(one) == 0 or np.ptp(other) == 0:
            assert np.isnan(score)
        elif np.ptp(other) > 1e-3:  # scipy warns of nearly constant input
            expected = pearsonr(one.ravel().astype(float), other.ravel()).statistic
            assert score == pytest.approx(expected, abs=1e-9)


@given(pairs)
def test_mean_squared_error_is_scikit_images(pair):
    seen, reconstructed = pair
    expected = [skimage_mse(one / 255, other) for one, other in zip(seen, reconstructed, strict=True)]
    np.testing.assert_allclose(mse(seen, reconstructed), expected, atol=1e-12)


def test_the_type_of_the_images_does_not_matter():
    rng = np.random.default_rng(0)
    seen, reconstructed = rng.integers(0, 256, (2, 3, 5, 5, 3), dtype=np.uint8)
    assert mse(seen, seen).max() == 0
    np.testing.assert_allclose(mse(seen, reconstructed), mse(seen / 255, reconstructed))
    np.testing.assert_allclose(pixcorr(seen, reconstructed), pixcorr(seen / 255.0, reconstructed))


def test_parts_give_the_same_scores(monkeypatch):
    seen, reconstructed = np.random.default_rng(0).random((2, 7, 5, 5, 3))
    whole = pixcorr(seen, reconstructed), mse(seen, reconstructed)
    monkeypatch.setattr(image, "VALUES_AT_ONCE", 160)  # two images at a time
    np.testing.assert_allclose((pixcorr(seen, reconstructed), mse(seen, reconstructed)), whole)


def test_constant_images_are_undefined_and_counted():
    rng = np.random.default_rng(0)
    seen = rng.random((3, 7, 7, 3))
    reconstructed = seen.copy()
    reconstructed[1] = 0.1  # 0.1 summed and divided is not 0.1 again: the norm of the rest is not zero
    summary = summarize(pixcorr(seen, reconstructed))
    assert (summary.n, summary.n_undefined) == (2, 1)
    assert summary.mean == pytest.approx(1)
    assert np.isnan(summarize(np.full(2, np.nan)).mean)


@pytest.mark.parametrize(
    ("seen", "reconstructed"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,)), ((0, 3), (0, 3))]
)
def test_shapes_that_do_not_match_are_refused(seen, reconstructed):
    with pytest.raises(InputError, match="do not match"):
        pixcorr(np.zeros(seen), np.zeros(reconstructed))


def test_ranges_are_not_guessed():
    with pytest.raises(InputError, match="have to lie in"):
        as_unit_float(np.full((2, 2), 255.0))
    with pytest.raises(InputError, match="int64"):
        as_unit_float(np.full((2, 2), 255))
