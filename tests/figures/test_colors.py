import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from neurorecon.errors import UnknownNameError
from neurorecon.figures.style import (
    BAND_COLORS,
    BAND_LABELS,
    band_colors,
    band_label,
    color_map,
    nice_limits,
    quantity_note,
)

# Machado, Oliveira & Fernandes (2009), severity 1.0, in linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}  # fmt: skip


def as_seen(color, deficiency):
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    gamma = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(gamma[None, None])[0, 0]


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_bands_differ_for_color_blind_readers(deficiency):
    colors = band_colors([*BAND_COLORS.keys() - {"clip"}]).values()
    for one, other in itertools.combinations(colors, 2):
        assert np.linalg.norm(as_seen(one, deficiency) - as_seen(other, deficiency)) > 14


def test_a_known_band_has_its_color_in_any_company():
    for names in (["motion"], ["x", "motion", "gabor"], ["gabor", "y", "z", "motion"]):
        assert band_colors(names)["motion"] == BAND_COLORS["motion"]


def test_labels_name_the_role_and_the_target_and_differ():
    assert band_label("clip_image") == "semantic (CLIP)"
    assert band_label("depth") == "depth"
    assert len(set(BAND_LABELS.values())) == len(BAND_LABELS)


def test_unknown_bands_keep_their_colors_and_differ():
    names = ["depth", "faces", "sound", "text", "layout2"]
    colors = band_colors(names)
    assert len(set(colors.values())) == len(names)
    assert colors == band_colors(names)
    assert band_colors(["depth"])["depth"] == colors["depth"]
    assert list(colors) == names


@given(st.lists(st.text(min_size=1), unique=True, max_size=14))
def test_any_names_get_colors(names):
    assert list(band_colors(names)) == names
    assert all(len(to_rgb(color)) == 3 for color in band_colors(names).values())


@given(st.floats(-10, 10), st.floats(0, 10))
def test_limits_hold_the_data(low, span):
    high = low + span
    bottom, top = nice_limits(low, high, vmin=None, vmax=None, quantity=None)
    assert bottom < top
    assert bottom <= low + 1e-7
    assert top >= high - 1e-7


@given(st.floats(-10, 10), st.floats(0, 10))
def test_weights_have_zero_in_the_middle(low, span):
    bottom, top = nice_limits(low, low + span, vmin=None, vmax=None, quantity="haufe")
    assert bottom == -top
    assert top >= max(abs(low), abs(low + span)) - 1e-7


def test_explained_variance_begins_at_zero_unless_told():
    assert nice_limits(-0.1, 0.43, vmin=None, vmax=None, quantity="encoding") == (0.0, 0.5)
    assert nice_limits(-0.1, 0.43, vmin=-0.2, vmax=0.3, quantity="encoding") == (-0.2, 0.3)


def test_default_map_gets_steadily_lighter_and_is_never_black():
    lightness = rgb2lab(color_map("inferno")(np.linspace(0, 1, 64))[None, :, :3])[0, :, 0]
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() / steps.min() < 2
    assert lightness[0] > 8


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="encoding"):
        quantity_note("betas")
    with pytest.raises(UnknownNameError, match="inferno"):
        color_map("infernal")


def test_strengths_that_are_never_negative_have_a_scale_from_zero():
    assert nice_limits(0.04, 0.23, vmin=0.0, vmax=None, quantity="haufe") == (0.0, 0.25)
    assert nice_limits(-0.04, 0.23, vmin=None, vmax=None, quantity="haufe") == (-0.25, 0.25)
