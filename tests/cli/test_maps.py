import csv
import json
import re
import shutil
from xml.etree import ElementTree

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import neurorecon as nr
from neurorecon.figures import read_provenance

BANDS = ["category", "gabor", "motion"]
OPTIONS = ["--subject", "subj01", "--permutations", "49", "--no-figures", "--out", "found"]


def _json(found):
    """Return the one object on stdout."""
    assert found.stdout.count("\n") == 1
    return json.loads(found.stdout)


def _check_scores(answer, roi=None, *, tested=True):
    """Check that scores have all there is to a score; fewer than 40 volumes in order have no p-value."""
    assert answer["scores"]
    for score in answer["scores"]:
        assert {"name", "value", "null_mean", "p", "n"} <= set(score)
        assert (1 / 50 <= score["p"] <= 1) if tested else score["p"] is None
    if roi is not None:
        assert {score["name"].split()[1] for score in answer["scores"]} == roi


@pytest.fixture(scope="module")
def mapped(user, small, once):
    """The maps of MT with all figures, as a user makes them."""
    arguments = ["--store", small.path, "--subject", "subj01", "--roi", "MT", "--task", "videos",
                 "--permutations", "49", "--json", "--format", "png,svg,pdf"]  # fmt: skip
    return once("maps", lambda folder: user("maps", *arguments, cwd=folder))


def test_one_object_on_stdout_and_messages_on_stderr(mapped, small):
    folder, found = mapped
    answer = _json(found)
    assert list(answer)[:5] == ["command", "store", "snapshot", "scores", "files"]
    assert (answer["command"], answer["store"]) == ("maps", str(small.path))
    _check_scores(answer, {"MT"}, tested=False)
    assert "writing tables" in found.stderr
    assert all((folder / name).is_file() for name in answer["files"])
    assert {name.rsplit(".", 1)[1] for name in answer["files"]} == {"csv", "json", "gii", "png", "svg", "pdf", "html"}
    written = (folder / "results" / "maps_small_MT_videos").iterdir()
    assert sorted(folder / name for name in answer["files"]) == sorted(written)


def test_every_file_opens_and_says_how_it_was_made(mapped):
    folder, found = mapped
    answer = _json(found)
    kinds = set()
    for name in answer["files"]:
        path = folder / name
        kinds.add(path.suffix)
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert np.asarray(image.convert("L")).std() > 5
        elif path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        elif path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF-1.")
        elif path.suffix == ".json":
            record = json.loads(path.read_text())
        elif path.suffix == ".gii":
            record = json.loads(nibabel.load(path).meta["neurorecon"])
        if path.suffix in (".png", ".svg", ".pdf", ".html"):
            record = read_provenance(path)
        if path.suffix != ".csv":
            assert record["snapshot"] == answer["snapshot"], path
            assert record["simulated"] is True
            assert record["settings"]["delays"] == [1, 2, 3, 4]
            # Folders of this machine stay out of results that are published.
            assert record["command"].startswith("neurorecon maps --store small.icechunk --subject subj01"), path
            assert record["store"] == "small.icechunk"
    assert len(kinds) == 7


def test_tables_have_the_documented_columns(mapped, small):
    folder, _ = mapped
    stem = folder / "results" / "maps_small_MT_videos" / "subj01_encoding"
    voxels = pd.read_csv(f"{stem}_voxels.csv", index_col="voxel")
    split = [f"r2_{band}" for band in BANDS]
    documented = {"hemisphere", "vertex", "rois", "r2", *split, "r2_sklearn", "r", "noise_ceiling", "alpha", "weights"}
    tested = [f"{name}{band}" for name in ("p", "q", "significant") for band in ("", *(f"_{band}" for band in BANDS))]
    normalized = [f"normalized_{name}" for name in ("r2", *split)]
    assert set(voxels) == documented | {"winning_band", "margin", "margin_low", *tested, *normalized}
    assert len(voxels) == 6
    np.testing.assert_allclose(voxels[split].sum(axis=1), voxels["r2"], atol=1e-4)
    assert voxels[["p", "q"]].isna().all(axis=None), "10 volumes have no test"
    assert not voxels["significant"].any()
    assert voxels["noise_ceiling"].dropna().between(0, 1).all()  # shown above a floor only
    rois = pd.read_csv(f"{stem}_rois.csv")
    assert rois["roi"].tolist() == ["MT"] * 3
    assert rois["band"].tolist() == BANDS
    assert (rois["low"] <= rois["high"]).all()
    np.testing.assert_allclose(rois["joint"], voxels["r2"].mean(), rtol=1e-4)
    np.testing.assert_allclose(rois["value"], voxels[split].mean(), atol=1e-4)
    # Of an ROI it is the mean of all voxels, also of those whose own ceiling is too uncertain to be shown.
    ceiling = nr.open_store(small.path).noise_ceiling("subj01", "MT", "videos")
    np.testing.assert_allclose(rois["ceiling"], ceiling.mean(), rtol=1e-4)
    known = voxels["noise_ceiling"] >= 0.05
    ratio = (voxels["r2"] / voxels["noise_ceiling"]).where(known)
    np.testing.assert_allclose(voxels["normalized_r2"], ratio, rtol=1e-4, atol=1e-5)
    defined = rois["ceiling"] >= 0.05
    for name, raw in (("normalized", "value"), ("normalized_joint", "joint")):
        ratio = (rois[raw] / rois["ceiling"]).where(defined)
        np.testing.assert_allclose(rois[name].astype(float), ratio, rtol=1e-4, atol=1e-5)


def test_brain_images_hold_the_values_of_the_table(mapped):
    folder, _ = mapped
    stem = folder / "results" / "maps_small_MT_videos" / "subj01_encoding"
    voxels = pd.read_csv(f"{stem}_voxels.csv")
    for side, name in (("left", "lh"), ("right", "rh")):
        arrays = nibabel.load(f"{stem}_maps.{name}.func.gii").darrays
        maps = {array.meta["Name"]: array.data for array in arrays}
        of_bands = {f"{name}_{band}" for name in ("r2", "p", "q") for band in BANDS}
        assert {"r2", "r2_sklearn", "r", "noise_ceiling", "p", "q", *of_bands} == set(maps)
        rows = voxels["hemisphere"] == side
        for column, values in maps.items():
            assert len(values) == 10242
            assert np.isfinite(values).sum() == np.isfinite(voxels[column][rows]).sum()
            np.testing.assert_allclose(values[voxels["vertex"][rows]], voxels[column][rows], rtol=1e-4, atol=1e-6)


def test_the_page_loads_nothing(mapped):
    folder, _ = mapped
    path = folder / "results" / "maps_small_MT_videos" / "subj01_encoding_interactive.html"
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "simulated" in page.lower()


def test_quiet_says_nothing_and_the_same_seed_gives_the_same_bytes(user, call, small, tmp_path):
    arguments = [
        "maps",
        "--store",
        small.path,
        "--roi",
        "early",
        "--seed",
        "3",
        "--quiet",
        "--task",
        "images",
        *OPTIONS,
    ]
    first = user(*arguments, cwd=tmp_path)
    assert first.returncode == 0
    assert first.stderr == ""
    tables = {path.name: path.read_bytes() for path in (tmp_path / "found").glob("*.csv")}
    assert len(tables) == 2
    second = call(*arguments)
    assert second.stdout == first.stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "found").glob("*.csv")} == tables
    call(*arguments[:6], "4", *arguments[7:])
    assert (tmp_path / "found" / "subj01_encoding_voxels.csv").read_bytes() != tables["subj01_encoding_voxels.csv"]


@pytest.mark.parametrize(
    ("roi", "rois", "voxels"),
    [
        (["V1+V2"], {"V1", "V2", "ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"}, 43),
        (["MT", "FFA"], {"MT", "FFA"}, 17),
        (["faces"], {"OFA", "FFA"}, 17),
    ],
)
def test_selections_of_voxels(call, small, tmp_path, roi, rois, voxels):
    chosen = [part for name in roi for part in ("--roi", name)]
    found = call("maps", "--store", small.path, *chosen, *OPTIONS, "--json")
    _check_scores(_json(found), rois)
    with (tmp_path / "found" / "subj01_encoding_voxels.csv").open() as file:
        assert len(list(csv.DictReader(file))) == voxels


def test_one_side(call, small, tmp_path):
    found = call("maps", "--store", small.path, "--roi", "lh.V1", "--bands", "gabor,category", *OPTIONS, "--json")
    assert _json(found)["scores"][0]["bands"].keys() == {"gabor", "category"}
    table = pd.read_csv(tmp_path / "found" / "subj01_encoding_voxels.csv")
    assert set(table["hemisphere"]) == {"left"}
    assert table["rois"].str.contains("V1").all()


@pytest.mark.parametrize("kind", ["decoding", "haufe"])
def test_maps_of_decoders(call, small, tmp_path, kind):
    arguments = ["maps", "--store", small.path, "--kind", kind, "--bands", "category", *OPTIONS, "--json"]
    _check_scores(_json(call(*arguments, "--task", "images")))
    answer = _json(call(*arguments, "--task", "videos"))
    (score,) = answer["scores"]
    assert score["p"] is None  # no shift of so few samples of a time series is a test
    assert any("too few" in text for text in score["warnings"])
    assert answer["scores"][0]["name"] == "subj01 category mean correlation of decoded and true features"
    table = pd.read_csv(tmp_path / "found" / f"subj01_{kind}_voxels.csv", index_col="voxel")
    columns = [f"{kind}_category", "p_category", "q_category", "significant_category"]
    assert list(table)[-5:] == [*columns, "weights"]
    assert (table[columns[0]] >= 0).all()
    image = nibabel.load(tmp_path / "found" / f"subj01_{kind}_maps.lh.func.gii")
    assert [array.meta["Name"] for array in image.darrays] == columns[:3]


def test_all_subjects_and_a_table_to_read(call, small):
    found = call("maps", "--store", small.path, "--task", "images", "--bands", "category", "--roi", "FFA",
                 "--permutations", "19", "--no-figures")  # fmt: skip
    assert found.exit_code == 0
    for subject in ("subj01", "subj02"):
        assert f"{subject} · small (SIMULATED responses) · images: 24 training and 8 test stimuli" in found.stdout
    assert "significant (FDR 0.05, test of R2, 19 permutations of stimuli" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 110
    assert "results/maps_small_FFA_category_images/subj02_encoding_voxels.csv" in found.stdout


def test_processes_of_this_machine_write_the_same_bytes(call, small, tmp_path):
    arguments = ["maps", "--store", small.path, "--roi", "early", "--threads", "2", "--voxel-block", "30", *OPTIONS]
    tables = []
    for options in ([], ["--scheduler", "local", "--quiet"]):
        assert call(*arguments, *options).exit_code == 0
        tables.append({path.name: path.read_bytes() for path in (tmp_path / "found").glob("*.csv")})
        shutil.rmtree(tmp_path / ".neurorecon" / "results")
    assert len(tables[0]) == 2
    assert tables[0] == tables[1]


def test_a_cluster_that_does_not_answer_is_one_error(call, monkeypatch):
    from neurorecon.parallel import workers

    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    for scheduler, said in (("tcp://127.0.0.1:9", "no dask cluster answers"), ("slurm", "there is no such scheduler")):
        found = call("maps", "--scheduler", scheduler)
        assert found.exit_code == 2
        assert found.stderr.count("neurorecon: error:") == 1
        assert said in found.stderr
        assert "Traceback" not in found.stderr


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(call, small, tmp_path):
    found = call(
        "maps", "--store", small.path, "--subject", "subj01", "--roi", "early", "--voxel-block", "30", "--dry-run"
    )
    assert found.exit_code == 0
    assert "products of features      2" in found.stdout  # images have no motion
    blocks = -(-len(nr.open_store(small.path).voxels("subj01", "early")) // 30)
    assert blocks > 1
    assert f"blocks of voxels        {blocks:>3}" in found.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_plans_encoding_maps(call, small):
    found = call("maps", "--store", small.path, "--kind", "haufe", "--dry-run")
    assert found.exit_code == 2
    assert "a dry run plans encoding maps" in found.stderr


def test_refits_and_held_out_runs_say_so_in_the_record(call, small, tmp_path):
    arguments = [
        "maps",
        "--store",
        small.path,
        "--roi",
        "MT",
        "--bands",
        "category,gabor",
        "--task",
        "videos",
        *OPTIONS,
    ]
    assert "training stimuli, with models" in call(*arguments, "--null", "refit").stdout
    record = json.loads((tmp_path / "found" / "subj01_encoding.json").read_text())
    assert record["settings"]["null"] == "refit"
    found = call(*arguments, "--cross-validate", "run")
    assert "runs held out in" in found.stdout
    record = json.loads((tmp_path / "found" / "subj01_encoding.json").read_text())
    assert (record["settings"]["null"], record["settings"]["cross_validate"]) == ("order", "run")
    assert len(record["scores"][0]["folds"]) == record["settings"]["folds"]
    found = call(*arguments, "--cross-validate", "run", "--null", "refit")
    assert found.exit_code == 2
    assert "cross-validated maps are tested by the order" in found.stderr


def test_parts_of_variance_beside_the_map(call, small, tmp_path):
    arguments = ["maps", "--store", small.path, "--subject", "subj01", "--roi", "MT", "--bands", "category,gabor",
                 "--permutations", "19", "--out", "found", "--format", "svg"]  # fmt: skip
    found = call(*arguments, "--partition")
    assert "category+gabor" in found.stdout
    stem = tmp_path / "found" / "subj01_partition"
    direct = nr.partition_variance(nr.open_store(small.path), "subj01", "MT", bands=["category", "gabor"])
    rois = pd.read_csv(f"{stem}_rois.csv")
    assert rois["bands"].tolist() == ["category", "gabor", "category+gabor"]
    for column in ("value", "low", "high", "joint", "ceiling", "normalized"):
        np.testing.assert_allclose(rois[column], direct.rois[column], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rois["value"].sum(), rois["joint"][0], atol=1e-5)
    voxels = pd.read_csv(f"{stem}_voxels.csv", index_col="voxel")
    np.testing.assert_allclose(voxels["unique_gabor"], direct.table["unique_gabor"], rtol=1e-4, atol=1e-5)
    arrays = nibabel.load(f"{stem}_maps.lh.func.gii").darrays
    assert [array.meta["Name"] for array in arrays] == [
        "r2", "unique_category", "unique_gabor", "common_category_gabor",
    ]  # fmt: skip
    assert read_provenance(f"{stem}_rois.svg")["settings"]["partition"] is True
    encoding = pd.read_csv(tmp_path / "found" / "subj01_encoding_rois.csv")
    np.testing.assert_allclose(encoding["joint"][0], rois["joint"][0], atol=0.05)


def test_figures_come_as_png_unless_others_are_asked_for(call, small, tmp_path):
    arguments = ["maps", "--store", small.path, "--subject", "subj01", "--roi", "MT", "--bands", "category",
                 "--permutations", "5", "--out", "found"]  # fmt: skip
    assert call(*arguments).exit_code == 0
    kinds = {path.suffix for path in (tmp_path / "found").iterdir()}
    assert ".png" in kinds
    assert not kinds & {".svg", ".pdf"}
    found = call(*arguments, "--format", "png,bmp")
    assert found.exit_code == 2
    assert "unknown figure format 'bmp'" in found.stderr


@pytest.mark.parametrize("kind", ["decoding", "haufe", "importance"])
def test_maps_of_a_system(call, small, tmp_path, kind):
    """Tables, a brain image and figures; decoding is another name of weights."""
    found = call("maps", "--store", small.path, "--subject", "subj01", "--task", "images", "--system", "linear-pixels",
                 "--kind", kind, "--roi", "early", "--permutations", "9", "--json", "--quiet")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    answer, kind = _json(found), {"decoding": "weights"}.get(kind, kind)
    folder = tmp_path / "results" / f"maps_small_linear-pixels_{kind}_early_images"
    stem = f"subj01_linear-pixels_{kind}"
    assert sorted(tmp_path / name for name in answer["files"]) == sorted(folder.iterdir())
    assert {f"{stem}_{end}" for end in ("voxels.csv", "rois.csv", "rois.png", "interactive.html")} <= {
        path.name for path in folder.iterdir()
    }
    assert any(path.name.startswith(f"{stem}_flat") for path in folder.iterdir())
    record = json.loads((folder / f"{stem}.json").read_text())
    assert record["settings"]["system"] == "linear-pixels"
    assert record["settings"]["exchange"]["permutations"] == 9
    table = pd.read_csv(folder / f"{stem}_rois.csv")
    assert set(table["roi"]) >= {"V1", "V2", "V3"}
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert table["p"].between(0.1, 1).all()
    _check_scores({"scores": [{**score, "p": 1.0} for score in answer["scores"]]})


def test_what_an_roi_drives_in_the_output(call, small, tmp_path):
    found = call("maps", "--store", small.path, "--subject", "subj01", "--task", "images", "--system", "linear-pixels",
                 "--kind", "output", "--roi", "V1", "--permutations", "9", "--out", "found")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    table = pd.read_csv(tmp_path / "found" / "subj01_linear-pixels_output_rois.csv")
    assert {"luminance", "edges", "face"} <= set(table["feature"])
    assert "cannot be significant" in found.stdout
    with np.load(tmp_path / "found" / "subj01_linear-pixels_output_images.npz") as arrays:
        assert arrays["V1"].shape == arrays["as measured"].shape
        assert np.abs(arrays["V1"] - arrays["as measured"]).max() > 0
    assert (tmp_path / "found" / "subj01_linear-pixels_output_panel.png").is_file()


def test_maps_are_written_where_meshes_cannot_be_downloaded(call, small, tmp_path, monkeypatch):
    """Maps on a surface need no mesh; only the figures are refused, and the message says why."""
    import nilearn.datasets

    from neurorecon.figures import mesh

    def offline(*arguments, **options):
        raise OSError("Network is unreachable")

    options = ("--store", small.path, "--subject", "subj01", "--task", "images", "--roi", "V1",
               "--permutations", "9")  # fmt: skip
    call("maps", *options, "--no-figures", "--out", "before", "--quiet")
    monkeypatch.setattr(nilearn.datasets, "load_fsaverage", offline)
    mesh.load_mesh.cache_clear()
    try:
        without = call("maps", *options, "--no-figures", "--out", "without", "--quiet")
        assert without.exit_code == 0, without.stderr
        refused = call("maps", *options, "--out", "refused", "--json")
    finally:
        mesh.load_mesh.cache_clear()
    assert refused.exit_code == 2
    assert refused.stderr.count("neurorecon: error:") == 1
    assert "the figures cannot be drawn" in refused.stderr
    assert "the mesh fsaverage5 is not on this machine and could not be downloaded" in refused.stderr
    assert "--no-figures" in refused.stderr
    for name in ("before", "without", "refused"):
        files = {
            path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix in (".csv", ".gii")
        }
        assert {"subj01_encoding_voxels.csv", "subj01_encoding_maps.lh.func.gii"} <= set(files)
        if name == "before":
            tables = {key: value for key, value in files.items() if key.endswith(".csv")}
        assert {key: value for key, value in files.items() if key.endswith(".csv")} == tables
        record = json.loads((tmp_path / name / "subj01_encoding.json").read_text())
        assert set(record["files"]) >= set(files)
