"""NSD from the folder that was downloaded to maps, by four commands."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

STORES = Path(__file__).parents[2] / "stores"


def test_from_the_folder_to_maps(call, tmp_path, printed_commands):
    shutil.copy(STORES / "nsd.toml", tmp_path)
    miniature, build, features, maps = printed_commands("nsd")
    assert call(*miniature).exit_code == 0
    built = call(*build, "--json", "--quiet")
    assert built.exit_code == 0, built.stderr
    info = json.loads(built.stdout)["info"]
    assert info["simulated"] is True
    assert list(info["subjects"]) == ["subj01", "subj02"]
    made = call(*features, "--quiet")
    assert made.exit_code == 0, made.stderr
    mapped = call(*maps, "--subject", "subj01", "--permutations", "99", "--no-figures", "--json", "--quiet")
    assert mapped.exit_code == 0, mapped.stderr
    folder = tmp_path / "results" / "maps_nsd_all"
    table = pd.read_csv(folder / "subj01_encoding_rois.csv").set_index("roi")["value"]
    # Areas of categories are found in what CLIP says of the images; early ROIs follow where the shapes are.
    assert table["FFA"] > 0.3
    assert table["PPA"] > 0.3
    assert table["V1"] < table["FFA"] - 0.2
    image = nibabel.load(folder / "subj01_encoding_maps.nii.gz")
    mask = nibabel.load(tmp_path / "nsd-miniature/nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz")
    np.testing.assert_allclose(image.affine, mask.affine)
    first = image.get_fdata()[..., 0]
    assert (np.isfinite(first) == (mask.get_fdata() > 0)).all()


def test_a_model_of_photographs_is_tested_on_synthetic_and_imagined_images(call, tmp_path):
    """Four commands from the folder to maps of NSD, NSD-synthetic and NSD-imagery, with one set of training images."""
    shutil.copy(STORES / "nsd-generalization.toml", tmp_path)
    tasks = ("--task", "core", "--task", "synthetic", "--task", "imagery")
    written = call("datasets", "miniature", "nsd", *tasks, "--subject", "subj01", "--out", "mini", "--quiet")
    assert written.exit_code == 0, written.stderr
    built = call("build", "nsd-generalization.toml", "--root", "mini", "--json", "--quiet")
    assert built.exit_code == 0, built.stderr
    info = json.loads(built.stdout)["info"]
    counted = {(row["kind"], row["split"]): row["number"] for row in info["stimuli"]}
    assert counted["image", "synthetic"] == 224
    assert (counted["image", "imagery"], counted["other", "imagery"]) == (12, 6)
    made = call("features", "--target", "gabor", "--quiet")
    assert made.exit_code == 0, made.stderr
    columns = [word for name in ("built-in", "synthetic", "vision", "imagery") for word in ("--split-column", name)]
    chosen = ("--permutations", "99", "--no-figures", "--quiet", "--json")
    mapped = call("maps", *columns, "--roi", "V1", "--bands", "gabor", *chosen)
    assert mapped.exit_code == 0, mapped.stderr
    table = pd.DataFrame(json.loads(mapped.stdout)["splits"])
    found = table[table["score"] == "V1 joint R2"].set_index("split")["value"]
    # Filters that were fitted to photographs extrapolate badly to images far from them; the model is the same.
    assert np.isfinite(found).all()
    assert found["synthetic"] < found["built-in"]
    assert len(set(found)) == 4
    assert table["same model"].all()
    alike = ("--center", "session", "--scale", "session")
    made = call("reconstruct", *columns[:6], "--metric", "pixcorr", *alike, *chosen)
    assert made.exit_code == 0, made.stderr
    scores = pd.DataFrame(json.loads(made.stdout)["splits"]).set_index("split")
    assert scores["same model"].all()
    assert scores.loc["built-in", "value"] > 0.2
    assert scores.loc["synthetic", "n"] == counted["image", "synthetic"]
    assert len(list((tmp_path / "results").glob("reconstruct_*/fits/*"))) == 1


def test_a_mistake_gives_one_message_and_no_store(call, tmp_path):
    shutil.copy(STORES / "nsd.toml", tmp_path)
    assert call("datasets", "miniature", "nsd", "--out", "nsd-miniature", "--quiet").exit_code == 0
    before = sorted(tmp_path.rglob("*"))
    betas = sorted((tmp_path / "nsd-miniature").rglob("betas_session03.nii.gz"))[1]
    betas.write_bytes(betas.read_bytes()[:-2000])
    found = call("build", "nsd.toml", "--root", "nsd-miniature", "--json")
    assert found.exit_code == 2
    assert f"{betas.relative_to(tmp_path)} cannot be read" in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_from_the_folder_to_reconstructions(call, tmp_path):
    """The targets that the system needs are computed on the way; the fit is found again."""
    shutil.copy(STORES / "nsd.toml", tmp_path)
    assert call("datasets", "miniature", "nsd", "--out", "nsd-miniature", "--quiet").exit_code == 0
    assert call("build", "nsd.toml", "--root", "nsd-miniature", "--quiet").exit_code == 0
    system = ("--system", "brain-diffuser", "--models", "bundled", "--subject", "subj01", "--set", "steps=2")
    fitted = call("fit", *system, "--json", "--quiet")
    assert fitted.exit_code == 0, fitted.stderr
    (place,) = (tmp_path / "results" / "fits_nsd").iterdir()
    before = {path: path.stat().st_mtime_ns for path in (place / "decoders").rglob("*")}
    made = call("reconstruct", *system, "--out", "made", "--permutations", "99", "--no-figures", "--json", "--quiet")
    assert made.exit_code == 0, made.stderr
    assert {path: path.stat().st_mtime_ns for path in (place / "decoders").rglob("*")} == before
    scores = {score["name"]: score for score in json.loads(made.stdout)["scores"]}
    assert scores["subj01 pixcorr"]["value"] > 0.6
    assert scores["subj01 pixcorr"]["p"] == 0.01
    differences = pd.read_csv(tmp_path / "made" / "subj01_brain-diffuser_comparison_differences.csv")
    found = differences.set_index(["control", "metric"])["difference"]
    for control in ("mean response", "another trial", "mean training image"):
        assert found[control, "two_way"] > 0.2
    assert found["oracle", "pixcorr"] < 0
    assert len(list((tmp_path / "made" / "subj01_brain-diffuser_images").glob("*.png"))) == 24
    again = call("evaluate", "made", "--metric", "pixcorr", "--permutations", "99", "--json", "--quiet", "--no-figures")
    assert again.exit_code == 0, again.stderr
    (score,) = json.loads(again.stdout)["scores"]
    assert abs(score["value"] - scores["subj01 pixcorr"]["value"]) < 1e-6
    network = '{"max_epochs": 4, "width": 16}'
    for name, options in {
        "takagi": (),
        "mind-diffuser": ("--set", "rois={}"),
        "gru-two-stage": ("--set", f"network={network}", "--set", "renorm=none"),
    }.items():
        made = call(
            "reconstruct", "--system", name, "--models", "bundled", "--subject", "subj01", "--set", "steps=2", *options,
            "--metric", "pixcorr", "--permutations", "99", "--no-controls", "--no-figures", "--json", "--quiet",
        )  # fmt: skip
        assert made.exit_code == 0, (name, made.stderr)
        assert json.loads(made.stdout)["scores"][0]["p"] == 0.01, name
