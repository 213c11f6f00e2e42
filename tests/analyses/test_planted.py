"""Whether maps of the simulated brain show what was planted in it, and nothing else.

A third of the videos of the embedded data set, all its voxels; a tenth of them hold nothing but noise.
"""

import numpy as np
import pytest
from scipy.stats import kstest

from neurorecon.analyses.maps import voxelwise_maps

pytestmark = pytest.mark.xdist_group("scenes")

LEVEL = 0.05


@pytest.fixture(scope="module")
def encoding(videos, shared):
    """Maps of the bands that the responses were made from."""
    bands = ["category", "gabor", "motion"]
    return shared("encoding", lambda _: voxelwise_maps(videos, bands=bands, fdr=LEVEL))


@pytest.mark.parametrize(
    ("roi", "band", "share"),
    [("MT", "motion", 0.8), ("V1", "gabor", 0.5), ("FFA", "category", 0.5), ("PPA", "category", 0.5)],
)
def test_the_planted_band_wins(encoding, videos, roi, band, share):
    table = encoding.table[videos.roi_masks("subj01")[roi]]
    significant = table[table["significant"]]
    assert len(significant) > 0.4 * len(table), f"too few significant voxels in {roi}"
    largest = significant[[f"r2_{name}" for name in encoding.bands]].idxmax(axis=1)
    assert (largest == f"r2_{band}").mean() >= share
    claimed = significant["winning_band"][significant["winning_band"] != ""]
    assert len(claimed) > 0.05 * len(significant), "60 videos tell few margins from 0, but some"
    assert (claimed == band).mean() >= max(share, 0.75)


def test_false_discoveries_stay_below_the_nominal_rate(encoding, noise_only):
    significant = encoding.table["significant"].to_numpy()
    assert noise_only.sum() >= 200
    assert significant.sum() > 800
    assert significant[noise_only].sum() <= LEVEL * significant.sum()
    assert significant[noise_only].mean() <= LEVEL


def test_p_values_of_noise_are_uniform(encoding, noise_only):
    assert kstest(encoding.table["p"][noise_only], "uniform").pvalue > 0.01


def test_what_the_map_finds_is_what_was_planted(encoding, videos, noise_only):
    """The share of variance that a band explains goes with the share that was planted, voxel by voxel."""
    truth, table = videos.truth("subj01"), encoding.table
    picked = table["significant"].to_numpy() & ~noise_only
    for band in ("gabor", "motion"):
        planted = truth[f"share_{band}"][picked]
        found = (table[f"r2_{band}"] / table["r2"])[picked]
        assert np.corrcoef(planted, np.clip(found, -1, 1))[0, 1] > 0.4, band


def test_r2_stays_below_the_noise_ceiling_up_to_noise(encoding, noise_only):
    """No model predicts more than the ceiling, in expectation.

    R2 and ceiling of one voxel are estimated from 60 test videos each, so single voxels exceed it. The standard error
    of R2 over n samples is about 2 sqrt(R2) (1 - R2) / sqrt(n) (the delta method for a squared correlation).
    """
    table = encoding.table[~noise_only & encoding.table["noise_ceiling"].notna().to_numpy()]  # shown above a floor
    assert len(table) > 1000
    ceiling = table["noise_ceiling"].to_numpy()
    error = 2 * np.sqrt(np.clip(ceiling, 0.02, 1)) * (1 - ceiling) / np.sqrt(encoding.chosen["test_samples"])
    assert (table["r2"] <= ceiling + 3 * error).mean() >= 0.99
    assert table["r2"].mean() < ceiling.mean()
    for _, roi in encoding.rois.groupby("roi"):
        assert roi["joint"].iloc[0] <= roi["ceiling"].iloc[0] + 0.02


def test_rois_and_scores_agree_with_the_table(encoding, videos):
    masks = videos.roi_masks("subj01")
    for row in encoding.rois.itertuples():
        part = encoding.table[masks[row.roi]]
        assert row.value == pytest.approx(part[f"r2_{row.band}"].mean(), abs=1e-4)
        assert row.joint == pytest.approx(part["r2"].mean(), abs=1e-4)
        assert row.low <= row.value <= row.high
        assert row.wins == (part["winning_band"] == row.band).sum()
        assert row.significant == part["significant"].sum()
    by_roi = {score.name.split()[1]: score for score in encoding.scores}
    assert set(by_roi) == set(masks)
    # One sequence of 60 videos, less the one that whitening takes, has 59 shifts.
    assert by_roi["MT"].p == pytest.approx(1 / 59)
    assert by_roi["MT"].row()["r2"] == pytest.approx(encoding.table["r2"][masks["MT"]].mean(), abs=1e-4)
    assert encoding.chosen["exchange"]["unit"] == "shift"
    assert encoding.chosen["exchange"]["smallest_p"] == pytest.approx(1 / 59)
    assert any("only that many shifts" in text for text in encoding.chosen["warnings"])


def _shares(found, column, videos, noise_only):
    chosen = found.table[column].to_numpy() if column.startswith("significant") else found.table[column] <= LEVEL
    masks = videos.roi_masks("subj01")
    shares = {roi: float(np.mean(chosen[masks[roi]])) for roi in ("MT", "FFA", "PPA", "EBA")}
    return shares, float(np.mean(chosen[noise_only]))


def test_patterns_are_strong_where_the_target_was_planted(videos, noise_only, shared):
    bands = ["category", "motion"]
    found = shared("haufe", lambda _: voxelwise_maps(videos, kind="haufe", bands=bands, n_permutations=150))
    category, noise = _shares(found, "significant_category", videos, noise_only)
    assert min(category["FFA"], category["PPA"]) > 0.5
    assert noise <= LEVEL
    motion, noise = _shares(found, "significant_motion", videos, noise_only)
    assert motion["MT"] > 0.8
    assert noise <= LEVEL
    for band in bands:
        # 250 voxels at the nominal rate, up to three binomial standard deviations.
        assert _shares(found, f"p_{band}", videos, noise_only)[1] <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 250)
    # The test videos are a single run of 57 samples, so it has 57 shifts; none of them correlates as well.
    assert all(score.p == pytest.approx(1 / 57) for score in found.scores)


def test_weights_are_larger_where_the_target_was_planted(videos, noise_only, shared):
    """Weights are spread over voxels that share noise (Haufe et al., 2014), so fewer stand out, and few in PPA."""
    bands = ["category", "motion"]
    found = shared("decoding", lambda _: voxelwise_maps(videos, kind="decoding", bands=bands, n_permutations=150))
    for band, rois in (("category", ("FFA", "EBA")), ("motion", ("MT",))):
        shares, noise = _shares(found, f"p_{band}", videos, noise_only)
        assert noise <= LEVEL
        weights = found.table[f"decoding_{band}"].to_numpy()
        for roi in rois:
            assert shares[roi] > noise + 0.03
            assert weights[videos.roi_masks("subj01")[roi]].mean() > 1.05 * weights[noise_only].mean()
    # The test videos are a single run of 57 samples, so it has 57 shifts; none of them correlates as well.
    assert all(score.p == pytest.approx(1 / 57) for score in found.scores)
