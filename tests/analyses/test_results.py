"""Scores over the noise ceiling, the record, and the one writer."""

import json

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses import results
from neurorecon.analyses.design import EncodingSettings
from neurorecon.analyses.maps import WIDTH
from neurorecon.analyses.results import Score, with_normalized
from neurorecon.errors import UnknownNameError

BANDS = ["category", "gabor"]


def test_scores_over_the_ceiling_and_none_where_that_is_low():
    table = pd.DataFrame({"r2": [0.5, 0.02, 0.1], "noise_ceiling": [0.4, 0.04, np.nan]})
    found = with_normalized(table, {"r2": "normalized_r2"}, "noise_ceiling")
    np.testing.assert_allclose(found["normalized_r2"], [1.25, np.nan, np.nan])
    again = with_normalized(table, {"r2": "normalized_r2"}, "noise_ceiling", floor=0.03)
    np.testing.assert_allclose(again["normalized_r2"][1], 0.5)
    assert with_normalized(table[["r2"]], {"r2": "normalized_r2"}, "noise_ceiling").columns.tolist() == ["r2"]


def test_voxels_and_rois_have_normalized_scores_and_the_text_has_them_too(miniature):
    store = miniature(subjects=1, images=60, videos=30)
    found = nr.voxelwise_maps(store, task="videos", bands=BANDS, n_permutations=19)
    ceiling = found.table["noise_ceiling"].where(found.table["noise_ceiling"] >= 0.05)
    np.testing.assert_allclose(found.table["normalized_r2_gabor"], found.table["r2_gabor"] / ceiling)
    limit = found.rois["ceiling"].where(found.rois["ceiling"] >= 0.05)
    np.testing.assert_allclose(found.rois["normalized"], found.rois["value"] / limit)
    np.testing.assert_allclose(found.rois["normalized_joint"], found.rois["joint"] / limit)
    lines = found.text(store).splitlines()
    header = next(line for line in lines if line.startswith("ROI"))
    column = slice(header.index("/ceil.") - 1, header.index("/ceil.") + 6)
    for roi, rows in found.rois.groupby("roi"):
        line = next(line for line in lines if line.startswith(f"{roi} "))
        wanted = rows["normalized_joint"].iloc[0]
        assert line[column].strip() == ("-" if np.isnan(wanted) else f"{wanted:.2f}")
    assert max(map(len, lines)) <= WIDTH
    shown = found._repr_html_()  # in a notebook
    assert all(f"<td>{score.name}</td>" in shown for score in found.scores)
    assert f"voxels ({len(found.table):,} rows)" in shown


def test_files_hold_the_tables_and_what_was_asked_for(miniature, tmp_path):
    store = miniature(subjects=2)
    found = nr.maps(store, bands=BANDS, task="images", n_permutations=19, seed=3)
    files = nr.write(found, store, tmp_path, nr.record_of(store, "a test"), formats=["svg"])
    assert all(path.is_file() for path in files)
    names = {path.name for path in files}
    for item in found:
        stem = f"{item.subject}_encoding"
        assert {f"{stem}.json", f"{stem}_maps.nii.gz", f"{stem}_rois.svg", f"{stem}_interactive.html"} <= names
        written = json.loads((tmp_path / f"{stem}.json").read_text())
        assert "extra" not in written
        assert written["settings"] == item.record()
        assert written["settings"]["bands"] == BANDS
        assert (written["settings"]["fdr"], written["settings"]["seed"]) == (0.05, 3)
        assert written["scores"] == [score.row() for score in item.scores]
        rois = pd.read_csv(tmp_path / f"{stem}_rois.csv")
        np.testing.assert_allclose(rois["joint"], item.rois["joint"], rtol=1e-5)
        voxels = pd.read_csv(tmp_path / f"{stem}_voxels.csv", index_col="voxel")
        assert list(voxels) == [*item.table, "weights"]
        labels = {band: f"{store.targets(band).attrs['model']}, version 1" for band in BANDS}
        assert set(voxels["weights"]) == {"; ".join(f"{band}: {labels[band]}" for band in BANDS)}
        assert rois["weights"].tolist() == [labels[band] for band in rois["band"]]
        assert list(written["weights"]) == BANDS
        assert written["weights"][BANDS[0]]["name"] == store.targets(BANDS[0]).attrs["model"]
        assert "warnings" not in written
    assert not [name for name in names if name.endswith((".png", ".pdf"))]


def test_processes_draw_the_same_bytes(miniature, tmp_path, monkeypatch):
    store = miniature(subjects=1)
    found = nr.voxelwise_maps(store, bands=["gabor"], task="images", n_permutations=5)
    drawn = []
    for folder, worth in (("here", 100), ("elsewhere", 1)):
        monkeypatch.setattr(results, "WORTH_PROCESSES", worth)
        nr.write(found, store, tmp_path / folder, {})
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / folder).glob("*.png")})
    assert len(drawn[0]) == 3
    assert drawn[0] == drawn[1]


def test_an_unknown_format_is_refused(miniature, tmp_path):
    store = miniature(subjects=1)
    found = nr.voxelwise_maps(store, bands=["gabor"], task="images", n_permutations=5)
    with pytest.raises(UnknownNameError, match="figure format"):
        nr.write(found, store, tmp_path, {}, formats=["bmp"])


def test_a_score_leaves_out_what_it_does_not_have():
    score = Score("subj01 accuracy", 0.5, 32, 0.1, 0.2, 0.05, 19, extra={"voxels": 3})
    assert score.row() == {
        "name": "subj01 accuracy", "value": 0.5, "n": 32, "null_mean": 0.1, "null_max": 0.2, "p": 0.05,
        "n_permutations": 19, "voxels": 3,
    }  # fmt: skip
    found = Score("a", 0.5, 32, 0.1, 0.2, 0.05, 19, n_undefined=0, baseline=0.125).row()
    assert (found["n_undefined"], found["baseline"]) == (0, 0.125)


def test_the_record_takes_settings(miniature):
    record = nr.record_of(miniature(subjects=1), "a test", settings=EncodingSettings(roi=["V1", "V2"]))
    assert record["extra"]["roi"] == ["V1", "V2"]
    json.dumps(record)


def test_former_names_work_with_a_warning(miniature, tmp_path):
    store = miniature(subjects=1)
    with pytest.warns(DeprecationWarning, match="use fdr="):
        found = nr.voxelwise_maps(store, bands=["gabor"], task="images", n_permutations=5, level=0.2)
    assert found.settings.fdr == 0.2
    with pytest.warns(DeprecationWarning, match="use fdr="):
        nr.maps(store, bands=["gabor"], task="images", n_permutations=5, level=0.2)
    with pytest.warns(DeprecationWarning, match="use .rois"):
        assert found.areas is found.rois
    with pytest.warns(DeprecationWarning, match=r"use neurorecon\.write"):
        files = nr.write_maps(found, store, tmp_path, {}, figures=False)
    assert tmp_path / "subj01_encoding_rois.csv" in files
    with pytest.warns(DeprecationWarning, match="use C="):
        decoded = nr.classify(store, task="images", n_permutations=3, penalty=2.0)
    assert decoded.settings.C == 2.0
    with pytest.warns(DeprecationWarning, match=r"use neurorecon\.write"):
        nr.write_classification(decoded, store, tmp_path, {}, figures=False)
    with pytest.warns(DeprecationWarning, match="use confidence="):
        parts = nr.partition_variance(store, bands=BANDS, task="images", n_bootstraps=20, level=0.9)
    with pytest.warns(DeprecationWarning, match="use .rois"):
        assert parts.areas is parts.rois
    reconstructed = nr.reconstruct(store, task="images", n_permutations=3)
    with pytest.warns(DeprecationWarning, match=r"use neurorecon\.write"):
        files = nr.write_reconstruction(reconstructed, store, tmp_path, {}, figures=False)
    assert tmp_path / "subj01_linear-pixels_reconstructions.npz" in files
    with pytest.raises(TypeError, match="unexpected keyword"):
        nr.maps(store, levels=0.1)
