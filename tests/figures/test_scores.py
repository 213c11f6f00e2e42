import itertools

import numpy as np
import pandas as pd
import pytest

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures import band_bars, band_colors, training_curves

EARLY = ["V1", "V2", "V3", "hV4", "V3A", "V3B", "LO", "MT", "MST"]
ROIS = [*EARLY, "OFA", "FFA", "VWFA", "PPA", "OPA", "RSC", "EBA", "IPS"]
BANDS = ["gabor", "category", "motion", "clip", "vdvae"]


def table(rois=ROIS, bands=BANDS):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(itertools.product(rois, bands), columns=["roi", "band"])
    frame["value"] = random.uniform(-0.02, 0.3, len(frame))
    frame["low"], frame["high"] = frame["value"] - 0.02, frame["value"] + 0.02
    frame["ceiling"] = frame["roi"].map(dict(zip(rois, random.uniform(0.4, 0.6, len(rois)), strict=True)))
    frame["joint"] = frame.groupby("roi")["value"].transform("sum")
    frame["n"] = frame["roi"].map(dict(zip(rois, random.integers(20, 400, len(rois)), strict=True)))
    return frame


def test_every_number_is_drawn_at_its_height():
    frame = table()
    figure = band_bars(frame)
    bars = [bar for axes in figure.axes for bar in axes.patches]
    np.testing.assert_allclose([bar.get_height() for bar in bars], frame["value"])
    colors = band_colors(BANDS)
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()) for bar in bars[:5]] == [colors[band].lower() for band in BANDS]
    lines = [tuple(line.get_ydata()) for axes in figure.axes for line in axes.lines]
    for _, row in frame.iterrows():
        assert (row["low"], row["high"]) in lines
        assert (row["ceiling"], row["ceiling"]) in lines


@pytest.mark.parametrize("width", ["single", "one-and-a-half", "double"])
def test_names_do_not_collide_and_stay_on_the_page(width):
    figure = band_bars(table(), width=width, title="Title", simulated=True)
    renderer = figure.canvas.get_renderer()
    page = figure.get_size_inches() * figure.dpi
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)
        assert all(box.x0 >= 0 and box.x1 <= page[0] and box.y0 >= 0 for box in boxes)
        low, high = axes.get_ylim()
        assert all(low <= value <= high for line in axes.lines for value in line.get_ydata())
    legend = figure.legends[0].get_window_extent(renderer)
    assert legend.x1 <= page[0]
    assert legend.y0 >= figure.axes[0].get_window_extent(renderer).y1


def test_words(words):
    text = words(band_bars(table(), note="Mean over significant voxels.", simulated=True))
    for part in ("Split R²", "noise ceiling", "all bands", "n = ", "Encoding model", "simulated data", "Mean over"):
        assert part in text


def test_plain_arrays_and_a_choice_are_enough():
    frame = table()[["roi", "band", "value"]].to_dict("list")
    figure = band_bars(frame, rois=["MT"], bands=["motion", "gabor"], width="single")
    assert len(figure.axes[0].patches) == 2
    assert next(text.get_text() for text in figure.axes[0].texts) == "MT"


def test_missing_pairs_and_numbers_leave_a_gap():
    frame = table(["V1", "MT"], ["gabor", "motion"]).drop(index=0)
    frame.loc[1, "value"] = np.nan
    assert len(band_bars(frame, width="single").axes[0].patches) == 2


def test_bad_tables_are_refused():
    with pytest.raises(InputError, match="lacks a required column"):
        band_bars({"roi": ["V1"], "value": [1.0]})
    with pytest.raises(InputError, match="table is empty"):
        band_bars({"roi": [], "band": [], "value": []})
    with pytest.raises(InputError, match="twice"):
        band_bars(pd.concat([table(), table()]))
    with pytest.raises(UnknownNameError, match="MST"):
        band_bars(table(), rois=["MTS"])


def test_losses_are_drawn_over_epochs_and_the_best_one_is_marked():
    losses = {"training": np.array([np.nan, 0.5, 0.4]), "held out": np.array([0.6, 0.45, 0.46])}
    figure = training_curves(losses, 1, "loss", simulated=True)
    first, second, best = figure.axes[0].lines
    np.testing.assert_array_equal(first.get_ydata(), losses["training"])
    np.testing.assert_array_equal(second.get_ydata(), losses["held out"])
    assert set(best.get_xdata()) == {1}
    assert figure.axes[0].get_ylabel() == "loss"
    assert "simulated data" in [text.get_text() for text in figure.texts]
