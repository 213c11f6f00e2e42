import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from neurorecon import metrics
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics import METRICS, Metric, load_metric, pixcorr, psnr, ssim_gray2d, ssim_gray_columns, ssim_rgb7
from neurorecon.metrics.base import DEFAULTS, FORMER_NAMES, PUBLISHED_NAMES, registered_name
from neurorecon.metrics.image import resized

#: Without those that need categories or captions, or judge drawn scenes by their kind: see test_networks.py and
#: test_semantics.py.
OTHERS = (
    "n_way",
    "topk_of_n",
    "fid_torchvision",
    "probe",
    "probe_kind",
    "zero_shot",
    "caption_similarity",
    "caption_recall",
)
#: Those of videos are in test_video.py.
IMAGES = [name for name, place in METRICS._builtin.items() if not place.startswith("neurorecon.metrics.video:")]
NAMES = [
    *(name for name in IMAGES if name not in OTHERS),
    "3_way",
    "top2_of_4",
    "top2_of_5_clip_among_reconstructions",
]


def images(n=6, side=12, noise=0.2):
    rng = np.random.default_rng(0)
    seen = rng.random((n, side, side, 3))
    return seen, np.clip(seen + noise * rng.standard_normal(seen.shape), 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_metric_tells_right_from_wrong_pairs(name):
    seen, reconstructed = images()
    metric = load_metric(name)
    values = metric.values(seen, reconstructed)
    assert values.shape == (6,)
    assert values.dtype == np.float64
    null = metric.null(seen, reconstructed, np.array([[1, 2, 3, 4, 5, 0], [5, 4, 3, 2, 1, 0]]))
    assert (values.mean() > null).all() if metric.higher_is_better else (values.mean() < null).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_null_is_what_exchanged_stimuli_score(name):
    """Whatever a metric does to be quick under exchange, the numbers are those of its function."""
    seen, reconstructed = images()
    metric = load_metric(name)
    orders = np.array([[1, 0, 3, 2, 5, 4], [2, 3, 4, 5, 0, 1], [0, 2, 1, 3, 5, 4]])
    expected = [metric.values(seen, reconstructed, order=order).mean() for order in orders]
    np.testing.assert_allclose(metric.null(seen, reconstructed, orders), expected, atol=1e-12)
    # Samples: several reconstructions of a stimulus.
    if not metric.compares:
        shown = np.array([0, 0, 1, 2, 3, 4, 5, 5])
        null = metric.null(seen, reconstructed[shown], orders[:, shown])
        expected = [metric.values(seen[order][shown], reconstructed[shown]).mean() for order in orders]
        np.testing.assert_allclose(null, expected, atol=1e-12)


def test_structural_similarity_is_scikit_images():
    seen, reconstructed = images(side=20)
    gray = [(rgb2gray(one), rgb2gray(other)) for one, other in zip(seen, reconstructed, strict=True)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = [structural_similarity(*pair, **options) for pair in gray]
    np.testing.assert_array_equal(ssim_gray2d(seen, reconstructed), expected)
    expected = [structural_similarity(*pair, channel_axis=-1, **options) for pair in gray]
    np.testing.assert_allclose(ssim_gray_columns(seen, reconstructed), expected, atol=1e-12)
    # Mind-Animator's code has images in 0..255.
    pairs = zip(seen * 255, reconstructed * 255, strict=True)
    expected = [structural_similarity(*pair, win_size=7, channel_axis=-1, data_range=255) for pair in pairs]
    np.testing.assert_allclose(ssim_rgb7(seen, reconstructed), expected, atol=1e-9)


def test_structural_similarities_are_different_metrics():
    """Unrelated images score higher column by column, which is why the names differ."""
    rng = np.random.default_rng(0)
    seen, other = np.repeat(rng.random((2, 4, 32, 8, 3)), 4, axis=3)
    assert (ssim_gray_columns(seen, seen) == 1).all()
    assert abs(ssim_gray_columns(seen, other) - ssim_gray2d(seen, other)).min() > 1e-4


@pytest.mark.parametrize(("metric", "least"), [(ssim_gray2d, 11), (ssim_gray_columns, 11), (ssim_rgb7, 7)])
def test_images_that_are_too_small_are_refused(metric, least):
    seen, reconstructed = images(side=least - 1)
    with pytest.raises(InputError, match=f"{least} pixels or more"):
        metric(seen, reconstructed)


def test_identical_images_have_no_psnr():
    seen, reconstructed = images(2)
    reconstructed[1] = seen[1]
    found = psnr(seen, reconstructed)
    assert np.isnan(found[1])
    assert found[0] == pytest.approx(-10 * np.log10(np.mean((seen[0] - reconstructed[0]) ** 2)))


def test_former_names_are_accepted_with_a_warning():
    for old, new in FORMER_NAMES.items():
        if new != "n_way":
            with pytest.warns(FutureWarning, match=f"is called '{new}' now"):
                assert load_metric(old) is METRICS.load(new)
        with pytest.warns(DeprecationWarning, match="now"):
            assert callable(getattr(metrics, old))
    assert not hasattr(metrics, "no_such_metric")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("2-way-I", "two_way_i_top3_any"),
        ("2-way-V", "two_way_v_top3_any"),
        ("VIFI-CLIP", "vifi_clip"),
        ("Hue-PCC", "hue_cosine"),
        ("hue_pcc", "hue_cosine"),
        ("CLIP-PCC", "clip_pcc"),
        ("clip_pcc_gated", "clip_pcc_gated"),
        ("EPE", "epe"),
        ("PSNR", "psnr"),
        ("top-10", "retrieval_top10"),
        ("top-100", "retrieval_top100"),
    ],
)
def test_names_of_papers_are_accepted(written, name):
    assert registered_name(written) == name
    assert load_metric(written).function is METRICS.load(name).function
    assert set(PUBLISHED_NAMES.values()) <= set(METRICS.builtin)


def test_names_that_are_none():
    with pytest.raises(UnknownNameError, match=r"unknown metric 'pixcor'[\s\S]*did you mean 'pixcorr'"):
        load_metric("pixcor")
    with pytest.raises(InputError, match="10_way"):
        load_metric("n_way")
    assert load_metric("50_way").chance == 0.02
    for kind, names in DEFAULTS.items():
        assert {load_metric(name).of for name in names} == {kind}


def test_a_plain_function_is_a_metric(monkeypatch):
    monkeypatch.setitem(METRICS._added, "brightness", lambda seen, found: -abs(seen - found).mean(axis=(1, 2, 3)))
    seen, reconstructed = images()
    assert load_metric("brightness").values(seen, reconstructed).shape == (6,)


def test_what_a_metric_needs_goes_with_the_stimulus():
    def same(seen, reconstructed, categories):
        return (categories == np.round(reconstructed[:, 0, 0, 0] * 2)).astype(float)

    metric = Metric(same, needs=("categories",))
    seen, reconstructed = images()
    context = {"categories": np.round(reconstructed[:, 0, 0, 0] * 2)}
    assert metric.values(seen, reconstructed, context).mean() == 1
    order = np.roll(np.arange(6), 1)
    expected = (context["categories"][order] == context["categories"]).mean()
    assert metric.values(seen, reconstructed, context, order).mean() == expected
    assert metric.null(seen, reconstructed, order[None], context)[0] == expected
    with pytest.raises(InputError, match="needs categories"):
        metric.values(seen, reconstructed)
    with pytest.raises(InputError, match="metrics cannot get"):
        Metric(same, needs=("smell",))
    with pytest.raises(InputError, match="needs matrix="):
        Metric(same, reduce=lambda matrix, order: order)


def test_a_metric_of_the_whole_set():
    seen, reconstructed = images()
    found = Metric(lambda one, other: abs(one.mean() - other.mean()), returns="set").values(seen, reconstructed)
    assert found.shape == ()
    with pytest.raises(InputError, match=r"shape \(6, 12\)[\s\S]*one value for each stimulus"):
        Metric(lambda one, other: other[:, :, 0, 0]).values(seen, reconstructed)
    with pytest.raises(InputError, match=r"shape \(6,\)[\s\S]*one number"):
        Metric(pixcorr, returns="set").values(seen, reconstructed)


def test_resized_images_look_the_same():
    seen, _ = images(side=32)
    smooth = resized(seen, (8, 8))
    assert smooth.shape == (6, 8, 8, 3)
    assert smooth.dtype == np.float32
    np.testing.assert_allclose(smooth.mean(axis=(1, 2)), seen.mean(axis=(1, 2)), atol=0.02)
    back = resized(smooth, (32, 32))
    assert pixcorr(resized(back, (8, 8)), smooth).min() > 0.95
    assert resized(seen, (32, 32)) is seen
    videos = resized(np.stack([seen, seen], axis=1), (8, 8))
    np.testing.assert_array_equal(videos[:, 0], smooth)
