import sys

import numpy as np
import pytest

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures import band_colors, cortex, cortex_bands, flat, flat_bands
from neurorecon.figures.mesh import load_mesh
from neurorecon.figures.paint import LEFT_OUT, View, sulcal_gray
from neurorecon.figures.style import band_label, color_map
from neurorecon.figures.surface import category_layer, scalar_layer

OPTIONS = {"mask": None, "radius": 3.0, "quantity": None, "cmap": None, "vmin": 0.0, "vmax": 1.0}
COUNT = 10242


def paint(layer, side, name, surface="inflated", scale=0.25):
    view = View.make(load_mesh("fsaverage5", surface, side), side, name)
    return view, view.render(layer, scale)


def pixel_of(view, vertex):
    x, y, _ = view.to_pixels(view.points[[vertex]])[0]
    return int(y), int(x)


def one_value(vertex, value, side="left"):
    values = {name: np.full(COUNT, np.nan) for name in ("left", "right")}
    values[side][vertex] = value
    return values


@pytest.fixture(scope="module")
def lateral_vertex():
    place = load_mesh("fsaverage5", "pial", "left").coordinates
    return int(np.argmin(np.linalg.norm(place - (-46, -72, 4), axis=1)))


def test_a_value_is_painted_where_it_lies_and_nowhere_else(lateral_vertex):
    layer, _ = scalar_layer(one_value(lateral_vertex, 0.7), "fsaverage5", **OPTIONS)
    view, _ = paint(layer, "left", "lateral")
    row, column = pixel_of(view, lateral_vertex)
    assert view.shown[row, column]
    rows, columns = np.nonzero(view.shown)
    assert np.hypot(rows - row, columns - column).max() / view.per_unit < 6
    for side, name in (("left", "medial"), ("right", "lateral"), ("right", "medial")):
        hidden, _ = paint(layer, side, name)
        assert not hidden.shown.any()


@pytest.mark.parametrize("value", [0.0, 0.31, 1.0, 1.7])
def test_colors_are_those_of_the_color_bar(lateral_vertex, value):
    layer, extend = scalar_layer(one_value(lateral_vertex, value), "fsaverage5", **OPTIONS)
    view, image = paint(layer, "left", "flat", "flat")
    expected = color_map("inferno")(min(value, 1.0))[:3]
    np.testing.assert_allclose(image[view.shown][:, :3], np.tile(expected, (view.shown.sum(), 1)), atol=1e-6)
    assert extend == ("max" if value > 1 else "neither")


def test_masked_voxels_are_pale_and_the_rest_is_gray(lateral_vertex):
    mask = {side: np.zeros(COUNT, dtype=bool) for side in ("left", "right")}
    layer, _ = scalar_layer(one_value(lateral_vertex, 0.7), "fsaverage5", **{**OPTIONS, "mask": mask})
    view, image = paint(layer, "left", "flat", "flat")
    assert not view.shown.any()
    gray = sulcal_gray(view.mesh.sulcal[lateral_vertex])
    np.testing.assert_allclose(image[pixel_of(view, lateral_vertex)][:3], 0.35 * gray + 0.65 * LEFT_OUT, atol=0.03)
    far = np.ptp(image[..., :3][image[..., 3] > 0], axis=1) < 1e-6
    assert far.mean() > 0.99


def test_a_value_reaches_as_far_as_the_radius_says(lateral_vertex):
    rois = []
    for radius in (0.0, 3.0, 6.0):
        layer, _ = scalar_layer(one_value(lateral_vertex, 0.7), "fsaverage5", **{**OPTIONS, "radius": radius})
        view, _ = paint(layer, "left", "flat", "flat")
        rois.append(view.shown.sum() / view.per_unit**2)
    assert 0 < rois[0] < rois[1] < rois[2]
    # The flat map stretches; still the second circle is about the size of one.
    assert 0.4 < rois[1] / (np.pi * 3**2) < 2.5


def test_the_winning_band_has_its_color(lateral_vertex):
    winner = {side: np.full(COUNT, -1) for side in ("left", "right")}
    winner["left"][lateral_vertex] = 2
    layer = category_layer(winner, ["gabor", "category", "motion"], "fsaverage5", mask=None, radius=3.0)
    view, image = paint(layer, "left", "flat", "flat")
    color = [int(band_colors(["motion"])["motion"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    np.testing.assert_allclose(image[view.shown][:, :3], np.tile(color, (view.shown.sum(), 1)), atol=1e-6)
    assert view.shown.any()


def test_figures_say_what_they_show(brain, words):
    figure = cortex(
        brain.values, label="Joint R² (cross-validated)", quantity="encoding", mask=brain.mask,
        outlines=brain.rois, title="subj01", note="FDR q < 0.05", simulated=True,
    )  # fmt: skip
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(183)
    text = words(figure)
    for part in (
        "Joint R² (cross-validated)", "Encoding model", "not decoder weights", "simulated data", "subj01",
        "FDR q < 0.05", "3 mm", "not significant", "lateral", "posterior",
    ):  # fmt: skip
        assert part in text, part
    # Once for each hemisphere, in the view that shows most of the ROI.
    assert text.count("V1") == 2
    assert text.count("MT") == 2


def test_weights_are_not_taken_for_encoding(brain, words):
    values = {side: part - 0.2 for side, part in brain.values.items()}
    figure = cortex(values, label="Weight (a.u.)", quantity="decoding", views=["lateral"], width="single")
    assert "not where the information is" in words(figure)
    bar = figure.axes[-1]
    assert bar.get_xlim()[0] == pytest.approx(-bar.get_xlim()[1])
    haufe = cortex(values, label="Pattern (a.u.)", quantity="haufe", views=["lateral"], width="single")
    assert "Haufe et al. 2014" in words(haufe)


def test_bands_have_a_legend(brain, words):
    figure = cortex_bands(brain.winner, brain.bands, views=["medial"], width="one-and-a-half")
    for name in (*map(band_label, brain.bands), "Band with the largest split R²"):
        assert name in words(figure)


@pytest.mark.parametrize("zoom", ["data", "hemisphere"])
def test_flat_maps_show_both_hemispheres_and_names(brain, words, zoom):
    figure = flat(brain.values, label="Joint R²", quantity="encoding", outlines=brain.rois, zoom=zoom, width="single")
    text = words(figure)
    for part in ("left hemisphere", "right hemisphere", "Joint R²", "2 cm", "Encoding model"):
        assert part in text
    assert text.count("MT") == 2
    assert (len([axes for axes in figure.axes if axes.child_axes]) == 2) == (zoom == "data")


def test_flat_bands(brain, words):
    assert "motion" in words(flat_bands(brain.winner, brain.bands, width="single"))


def test_text_stays_on_the_page(brain):
    figure = flat(
        brain.values, label="Joint R²", quantity="haufe", mask=brain.mask, outlines=brain.rois, width="single",
        title="A title", note="Some words that are long enough to be wrapped into more than one line of text.",
        simulated=True,
    )  # fmt: skip
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= width, text
        assert box.y0 >= 0, text
        assert box.y1 <= height, text


def test_bad_input_is_refused(brain):
    with pytest.raises(InputError, match="left hemisphere"):
        cortex({"left": np.zeros(7)}, label="x")
    with pytest.raises(UnknownNameError, match="lateral"):
        cortex(brain.values, label="x", views=["front"])
    with pytest.raises(InputError, match="view"):
        cortex(brain.values, label="x", views=[])
    with pytest.raises(UnknownNameError, match="haufe"):
        cortex(brain.values, label="x", quantity="betas")
    with pytest.raises(InputError, match="out of range"):
        cortex_bands(brain.winner, ["gabor"])
    with pytest.raises(UnknownNameError, match="hemisphere"):
        flat(brain.values, label="x", zoom="all")


def test_a_map_without_any_voxel_is_drawn(words):
    empty = {side: np.full(COUNT, np.nan) for side in ("left", "right")}
    assert "x" in words(cortex(empty, label="x", views=["lateral"], width="single"))


def test_no_global_figures_are_left():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
