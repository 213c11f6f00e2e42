import nibabel
import numpy as np
import pytest

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures import interactive_volume, read_provenance, volume

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = -30, -60, -12


@pytest.fixture
def values():
    data = np.full((20, 24, 8), np.nan)
    data[4:16, 3:12, 1:7] = np.random.default_rng(0).uniform(0.05, 0.4, (12, 9, 6))
    return data


def images(figure):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_left_is_left_in_any_orientation(values):
    values[4:8] = 0.4
    values[8:16] = 0.05
    straight = volume(values, AFFINE, label="R²", vmin=0, vmax=0.5)
    flipped_affine = AFFINE @ np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    flipped = volume(nibabel.Nifti1Image(values[::-1], flipped_affine), label="R²", vmin=0, vmax=0.5)
    for one, other in zip(images(straight), images(flipped), strict=True):
        np.testing.assert_array_equal(one, other)
    first = images(straight)[0]
    # Column 1 is the leftmost voxel (x = -18 mm): it has the brighter value.
    assert first[2, 1, :3].sum() > first[2, -2, :3].sum()


def test_slices_are_the_arrays(values):
    figure = volume(values, AFFINE, label="R²", vmin=0, vmax=0.5, slices=6)
    shown = images(figure)
    assert len(shown) == 6
    alpha = np.stack([image[..., 3] for image in shown])
    assert alpha.sum() == np.isfinite(values).sum()


def test_one_slice_is_enough(values, words):
    figure = volume(values[:, :, 3:4], AFFINE, label="Joint R²", quantity="encoding", width="single", simulated=True)
    assert len(images(figure)) == 1
    assert "z = −12 mm" in words(figure)
    assert "simulated data" in words(figure)
    assert "Encoding model" in words(figure)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_all_directions_with_background_and_mask(values, axis, words):
    background = np.random.default_rng(1).uniform(100, 200, values.shape)
    figure = volume(
        nibabel.Nifti1Image(values, AFFINE), label="R²", background=nibabel.Nifti1Image(background, AFFINE),
        mask=values > 0.2, axis=axis, quantity="haufe", slices=4,
    )  # fmt: skip
    assert len(images(figure)) == 4
    assert f"{axis} = " in words(figure)
    assert "not significant" in words(figure)


def test_bad_volumes_are_refused(values):
    with pytest.raises(InputError, match="affine"):
        volume(values, label="R²")
    with pytest.raises(InputError, match="volume"):
        volume(values[0], AFFINE, label="R²")
    with pytest.raises(InputError, match="grid"):
        volume(values, AFFINE, label="R²", background=values[:-1])
    with pytest.raises(UnknownNameError, match="z"):
        volume(values, AFFINE, label="R²", axis="w")


def test_page_to_click_through_loads_nothing(values, tmp_path):
    record = {"command": "neurorecon maps", "simulated": True}
    html = interactive_volume(values, AFFINE, label="R²", quantity="encoding", title="<b>x</b>", provenance=record)
    assert "<b>x</b>" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://raw" not in html
    assert "simulated data" in html
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    assert read_provenance(tmp_path / "page.html") == record
