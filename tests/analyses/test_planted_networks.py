"""Whether bands of networks find what was planted: semantics by CLIP, structure and low level by latents, motion.

The responses were made from other features (Gabor energy, shares of categories, motion energy), so no band is the
planted one itself, as in measured data.
"""

import pytest

from neurorecon.analyses.maps import voxelwise_maps

pytestmark = pytest.mark.xdist_group("scenes")


def _shares(found, store, roi):
    """Return the share of the ROI's significant voxels in which each band has the largest split R2."""
    mask = store.roi_masks("subj01")[roi][found.table.index.to_numpy()]
    table = found.table[mask]
    significant = table[table["significant"]]
    assert len(significant) >= 10, f"too few significant voxels in {roi}"
    columns = {f"r2_{band}": band for band in found.bands}
    return significant[list(columns)].rename(columns=columns).idxmax(axis=1).value_counts(normalize=True)


def _claims(found, store, roi):
    """Return how many voxels of the ROI each band wins: its margin over the next band has an interval above 0."""
    mask = store.roi_masks("subj01")[roi][found.table.index.to_numpy()]
    return found.table["winning_band"][mask].value_counts().drop("", errors="ignore")


@pytest.fixture(scope="module")
def of_images(images, shared):
    rois = ["V1", "FFA", "PPA", "EBA"]
    bands = ["clip_image", "vqvae", "vdvae"]
    return shared("of_images", lambda _: voxelwise_maps(images, roi=rois, bands=bands, n_permutations=300))


@pytest.fixture(scope="module")
def of_videos(videos, shared):
    rois = ["MT", "FFA", "PPA"]
    options = {"task": "videos", "bands": ["clip_image", "vqvae", "vdvae", "motion"], "n_permutations": 300}
    return shared("of_videos", lambda _: voxelwise_maps(videos, roi=rois, **options))


@pytest.mark.parametrize("roi", ["FFA", "PPA", "EBA"])
def test_clip_wins_where_categories_were_planted(of_images, images, roi):
    assert _shares(of_images, images, roi)["clip_image"] >= 0.7
    claims = _claims(of_images, images, roi)
    assert claims["clip_image"] >= max(10, 0.8 * claims.sum())


def test_latents_win_where_gabor_energy_and_color_were_planted(of_images, images):
    """They hold contrast energy in part only, so CLIP, which knows what is where, keeps some voxels."""
    shares = _shares(of_images, images, "V1").reindex(["vqvae", "vdvae"], fill_value=0.0)
    assert shares.sum() >= 0.5
    claims = _claims(of_images, images, "V1")
    assert claims["vdvae"] + claims.get("vqvae", 0) >= max(10, 0.8 * claims.sum())


def test_motion_wins_where_it_was_planted(of_videos, videos):
    assert _shares(of_videos, videos, "MT")["motion"] >= 0.8
    claims = _claims(of_videos, videos, "MT")
    assert claims["motion"] >= max(5, 0.9 * claims.sum())


@pytest.mark.parametrize("roi", ["FFA", "PPA"])
def test_clip_wins_in_videos_too(of_videos, videos, roi):
    assert _shares(of_videos, videos, roi)["clip_image"] >= 0.5
