"""Whether bands of networks find what was planted: semantics by CLIP, structure and low level by latents, motion.

The responses were made from other features (Gabor energy, shares of categories, motion energy), so no band is the
planted one itself, as in measured data.
"""

import pytest

from neurorecon.analyses.maps import voxelwise_maps

pytestmark = pytest.mark.xdist_group("scenes")


def _shares(found, store, area):
    """Return the share of the area's significant voxels that each band wins."""
    mask = store.roi_masks("subj01")[area][found.table.index.to_numpy()]
    table = found.table[mask]
    significant = table[table["significant"]]
    assert len(significant) >= 10, f"too few significant voxels in {area}"
    return significant["winning_band"].value_counts(normalize=True)


@pytest.fixture(scope="module")
def of_pictures(pictures, shared):
    areas = ["V1", "FFA", "PPA", "EBA"]
    return shared("of_pictures", lambda _: voxelwise_maps(pictures, roi=areas, n_permutations=300))


@pytest.fixture(scope="module")
def of_films(films, shared):
    areas = ["MT", "FFA", "PPA"]
    return shared("of_films", lambda _: voxelwise_maps(films, roi=areas, n_permutations=300))


@pytest.mark.parametrize("area", ["FFA", "PPA", "EBA"])
def test_clip_wins_where_categories_were_planted(of_pictures, pictures, area):
    assert of_pictures.bands == ["clip_image", "vqvae", "vdvae"]
    assert _shares(of_pictures, pictures, area)["clip_image"] >= 0.7


def test_latents_win_where_gabor_energy_and_color_were_planted(of_pictures, pictures):
    """They hold contrast energy in part only, so CLIP, which knows what is where, keeps some voxels."""
    shares = _shares(of_pictures, pictures, "V1").reindex(["vqvae", "vdvae"], fill_value=0.0)
    assert shares.sum() >= 0.5


def test_motion_wins_where_it_was_planted(of_films, films):
    assert of_films.bands == ["clip_image", "vqvae", "vdvae", "motion"]
    assert _shares(of_films, films, "MT")["motion"] >= 0.8


@pytest.mark.parametrize("area", ["FFA", "PPA"])
def test_clip_wins_in_films_too(of_films, films, area):
    assert _shares(of_films, films, area)["clip_image"] >= 0.5
