import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.figures import null_histogram, panel, side_by_side
from neurorecon.figures.scores import format_p


def shown_in(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_images_are_shown_as_they_are_in_blocks_of_columns(words):
    random = np.random.default_rng(0)
    seen = (random.random((20, 10, 10)) > 0.5).astype(float)
    reconstructed = random.normal(0.5, 0.4, seen.shape)
    scores = random.uniform(-0.2, 1, 20)
    figure = panel(
        {"seen": seen, "reconstructed": reconstructed}, captions=[f"figure {index}" for index in range(20)],
        scores={"reconstructed": scores}, score_label="pixel correlation", simulated=True,
    )  # fmt: skip
    shown = shown_in(figure)
    assert len(shown) == 40
    np.testing.assert_allclose(np.stack(shown[:10] + shown[20:30]), seen)
    np.testing.assert_allclose(np.stack(shown[10:20] + shown[30:]), np.clip(reconstructed, 0, 1), atol=1e-6)
    assert all(axes.images[0].get_interpolation() == "nearest" for axes in figure.axes)
    text = words(figure)
    for score in scores:
        assert f"{score:.2f}".replace("-", "−") in text
    assert f"(mean of those shown: reconstructed {scores.mean():.2f})" in text
    assert "figure 19" in text
    # Nothing lies on anything else.
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[index + 1 :])
    assert min(box.y0 for box in boxes) > 0


def test_colors_and_bytes():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    figure = panel({"seen": images, "half": images / 255 / 2}, width="single", scores={"half": [0.1, np.nan, 1]})
    np.testing.assert_allclose(shown_in(figure)[0], images[0] / 255, atol=1e-6)
    np.testing.assert_allclose(shown_in(figure)[3], images[0] / 510, atol=1e-6)


def test_text_below_images(words):
    images = np.zeros((2, 8, 8))
    text = words(panel({"FFA": images, "V1": images}, below={"FFA": ["face 1", "face 2"]}, width="single"))
    assert "face 1" in text
    assert "face 2" in text
    assert "mean of those shown" not in text
    with pytest.raises(InputError, match="differ in length"):
        panel({"FFA": images}, below={"FFA": ["face 1"]})


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ({}, {}, "at least one row"),
        ({"a": np.zeros((2, 4))}, {}, "does not hold images"),
        ({"a": np.zeros((2, 4, 4, 2))}, {}, "does not hold images"),
        ({"a": np.zeros((2, 4, 4), dtype=int)}, {}, "unsupported dtype"),
        ({"a": np.full((2, 4, 4), np.nan)}, {}, "hold NaN or infinity"),
        ({"a": np.zeros((2, 4, 4)), "b": np.zeros((3, 4, 4))}, {}, "differ in length"),
        ({"a": np.zeros((2, 4, 4))}, {"captions": ["x"]}, "differ in length"),
        ({"a": np.zeros((2, 4, 4))}, {"scores": {"b": [1, 2]}}, "unknown row"),
    ],
)
def test_bad_panels_are_refused(rows, options, words):
    with pytest.raises(InputError, match=words):
        panel(rows, **options)


def test_null_shows_score_and_p(words):
    null = np.random.default_rng(0).normal(0, 0.1, 999)
    figure = null_histogram(0.78, null, 0.001, "Pixel correlation r", ceiling=0.9, title="V1", simulated=True)
    axes = figure.axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 999
    assert [0.78, 0.78] in [list(line.get_xdata()) for line in axes.lines]
    assert axes.get_xlim()[0] < null.min()
    assert axes.get_xlim()[1] > 0.9
    for part in ("0.78", "p = 0.001", "999", "ceiling", "Pixel correlation r", "simulated data"):
        assert part in words(figure)


def test_constant_null_is_drawn():
    assert null_histogram(0.5, np.full(20, 0.5), 1.0, "r").axes


@pytest.mark.parametrize(("observed", "null"), [(np.nan, [0.1]), (0.5, []), (0.5, [0.1, np.inf])])
def test_scores_that_are_no_numbers_are_refused(observed, null):
    with pytest.raises(InputError, match="finite"):
        null_histogram(observed, np.array(null), 0.5, "r")


def test_p_values():
    assert format_p(0.0421) == "p = 0.042"
    assert format_p(1 / 10000, 9999) == "p = 0.0001"
    with pytest.raises(InputError, match="p-value"):
        format_p(1.5)


@pytest.mark.parametrize(("side", "shown"), [(20, 160), (64, 192), (512, 256)])
def test_videos_side_by_side(side, shown):
    """Frame i of each, in its place, on pages with even sides; labels leave the videos alone."""
    levels = np.arange(5, dtype=np.uint8) * 40
    seen = np.broadcast_to(levels[:, None, None, None], (5, side, side, 3))
    found = side_by_side({"seen": seen, "made": seen[::-1] / 255.0}, simulated=True)
    assert found.shape[0] == 5
    assert found.dtype == np.uint8
    assert not any(size % 2 for size in found.shape[1:3])
    for number, frame in enumerate(found):
        assert (frame[20 : 20 + shown, 6 : 6 + shown] == levels[number]).all()
        assert (frame[20 : 20 + shown, 12 + shown : 12 + 2 * shown] == levels[4 - number]).all()
        assert (frame[:20] < 128).any()  # the labels
    assert len(side_by_side({"seen": seen})) == 5
    with pytest.raises(InputError, match="videos side by side have one shape"):
        side_by_side({"seen": seen, "made": seen[:4]})
