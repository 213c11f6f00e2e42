"""Scores over the noise ceiling in the tables of maps."""

import numpy as np
import pandas as pd
import pytest

from neurorecon.analyses.maps import VoxelwiseMap
from neurorecon.analyses.maps_normalized import rois_with_normalized, voxels_with_normalized
from neurorecon.analyses.maps_text import WIDTH, _encoding_lines

BANDS = ["clip_image", "vqvae", "vdvae", "motion"]


def encoding_map(ceiling=(0.4, 0.04, np.nan), kind="encoding"):
    r2 = np.array([0.5, 0.02, 0.1])
    table = pd.DataFrame({"r2": r2, **{f"r2_{band}": r2 / 4 for band in BANDS}})
    if ceiling is not None:
        table["noise_ceiling"] = ceiling
    rows = [
        {"roi": roi, "band": band, "value": 0.05, "joint": 0.2, "p": 0.001, "ceiling": limit, "n": 3, "significant": 1,
         "wins": int(band == "vqvae")}
        for roi, limit in (("V1", 0.4), ("rest", 0.01), ("MT", np.nan)) for band in BANDS
    ]  # fmt: skip
    settings = {"delay_seconds": [0.0], "significant_voxels": 1, "voxels": 3, "n_permutations": 9, "level": 0.05}
    return VoxelwiseMap("subj01", kind, "images", BANDS, table, pd.DataFrame(rows), [], settings)


def test_voxels_have_joint_and_split_scores_over_the_ceiling():
    table = voxels_with_normalized(encoding_map())
    np.testing.assert_allclose(table["normalized_r2"], [1.25, np.nan, np.nan])
    np.testing.assert_allclose(table["normalized_r2_vqvae"], [0.3125, np.nan, np.nan])
    np.testing.assert_allclose(voxels_with_normalized(encoding_map(), floor=0.03)["normalized_r2"][1], 0.5)
    assert "normalized_r2" not in voxels_with_normalized(encoding_map(ceiling=None))
    assert "normalized_r2" not in voxels_with_normalized(encoding_map(kind="haufe"))


def test_rois_have_means_over_mean_ceilings():
    table = rois_with_normalized(encoding_map()).drop_duplicates("roi").set_index("roi")
    assert table.loc["V1", "normalized"] == pytest.approx(0.125)
    assert table.loc["V1", "normalized_joint"] == pytest.approx(0.5)
    assert table.loc[["rest", "MT"], "normalized_joint"].isna().all()


def test_the_printed_table_has_them_too():
    header, first, rest, motion = _encoding_lines(encoding_map())[1:5]
    column = slice(header.index("/ceil.") - 1, header.index("/ceil.") + 6)
    assert [line[column].strip() for line in (header, first, rest, motion)] == ["/ceil.", "0.50", "-", "-"]
    assert max(map(len, (header, first, rest, motion))) <= WIDTH
