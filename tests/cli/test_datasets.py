"""``neurorecon datasets``: list, show, download, miniature; and real data from the folder to the numbers and maps."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from neurorecon.hub import items
from neurorecon.registry import DATASETS
from neurorecon.testing.layouts import layouts

STORES = Path(__file__).parents[2] / "stores"


def test_list(call):
    found = call("datasets", "list")
    assert found.exit_code == 0, found.stderr
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.split()}
    assert {item.name for item in items("data set")} <= set(lines)
    assert "Data Access Agreement" in lines["nsd"]
    assert all(f"{item.title}  " in lines[item.name] for item in items("data set"))  # columns stay apart
    rows = json.loads(call("datasets", "list", "--json").stdout)["datasets"]
    assert {row["name"] for row in rows if row["reader"]} >= set(DATASETS.builtin)
    assert {row["name"] for row in rows if row["miniature"]} == set(layouts())


def test_show(call):
    found = call("datasets", "show", "nsd", "--subject", "subj02", "--sessions", "1-3,40", "--out", "my nsd")
    assert found.exit_code == 0, found.stderr
    assert "terms   NSD Data Access Agreement" in found.stdout
    assert (
        "aws s3 cp --no-sign-request s3://natural-scenes-dataset/nsddata/experiments/nsd/nsd_expdesign.mat"
        in found.stdout
    )
    assert '--include "betas_session40.nii.gz"' in found.stdout
    assert "betas_session04" not in found.stdout
    facts = json.loads(call("datasets", "show", "nsd", "--json").stdout)
    assert facts["bytes_known"] > 70e9
    assert len(facts["needs"]) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nds"], "did you mean 'nsd'?"),
        (["show", "nsd", "--sessions", "3-1"], "the sessions are not understood"),
        (["show", "nsd", "--sessions", "all"], "1-37 or 1-3,40"),
        (["show", "scenes", "--subject", "subj01"], "scenes does not take --subject"),
        (["download", "nsd", "--out", "data"], "neurorecon datasets show nsd"),
        (["download", "yamada2015", "--out", "data", "--subject", "S1"], "does not take --subject"),
        (["miniature", "nds", "--out", "data"], "unknown layout 'nds'"),
    ],
)
def test_mistakes(call, tmp_path, arguments, said):
    found = call("datasets", *arguments)
    assert found.exit_code == 2
    assert said in found.stderr
    assert found.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_old_name_of_an_option_works_with_a_warning(call):
    found = call("datasets", "download", "yamada2015", "--out", "data", "--pictures")
    assert found.exit_code == 2
    assert "--pictures is deprecated; use --images instead" in found.stderr
    assert "does not take --subject or --images" in found.stderr
    assert "--pictures" not in call("datasets", "download", "--help").stdout


@pytest.mark.parametrize("name", ["haxby2001", "yamada2015"])
def test_a_miniature_becomes_a_store_that_can_be_classified(call, tmp_path, name):
    written = call("datasets", "miniature", name, "--out", "small", "--json")
    assert written.exit_code == 0, written.stderr
    assert json.loads(written.stdout)["number_of_files"] == sum(path.is_file() for path in Path("small").rglob("*"))
    again = call("datasets", "miniature", name, "--out", "small")
    assert again.exit_code == 2
    assert "already holds files" in again.stderr
    built = call("build", STORES / f"{name}.toml", "--root", "small", "--out", f"{name}.icechunk", "--quiet")
    assert built.exit_code == 0, built.stderr
    found = call("classify", "--permutations", "39", "--no-figures", "--json")
    assert found.exit_code == 0, found.stderr
    scores = json.loads(found.stdout)["scores"]
    assert scores[0]["value"] > 2 * scores[0]["baseline"]
    assert scores[0]["p"] == pytest.approx(1 / 40)
    for options, centering in (
        (["--center", "session", "--scale", "session"], {"center": "session", "scale": "session"}),
        (["--center", "none"], {"center": None, "scale": None}),  # one session, so --scale changes nothing
    ):
        asked = call("classify", *options, "--permutations", "3", "--no-figures", "--json", "--out", "asked")
        assert asked.exit_code == 0, asked.stderr
        made = json.loads(next(Path("asked").glob("*_classify.json")).read_text())["settings"]["centering"]
        assert {name: made[name] for name in centering} == centering


def test_the_same_seed_writes_the_same_files(call):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert call("datasets", "miniature", "haxby2001", "--out", folder, "--seed", seed).exit_code == 0
    bold = [np.asarray(nibabel.load(f"{folder}/subj1/bold.nii.gz").dataobj) for folder in "abc"]
    np.testing.assert_array_equal(bold[0], bold[1])
    assert (bold[0] != bold[2]).any()


@pytest.mark.parametrize("place", ["taken", "full/file"])
def test_a_miniature_writes_into_nothing_that_holds_files(call, tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    target = path if place == "taken" else path.parent
    found = call("datasets", "miniature", "yamada2015", "--out", target)
    assert found.exit_code == 2
    assert "cannot be written here" in found.stderr
    assert path.read_text() == "precious"


def _classified(call, tmp_path, folder, name, permutations):
    """Build a store from real data, classify, and return the scores, the table of voxels and the image of maps."""
    built = call("build", STORES / f"{name}.toml", "--root", folder, "--out", f"{name}.icechunk", "--quiet", "--json")
    assert built.exit_code == 0, built.stderr
    assert json.loads(built.stdout)["info"]["simulated"] is False
    found = call("classify", "--permutations", permutations, "--no-figures", "--json", "--out", "results")
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    image = nibabel.load(next(path for path in answer["files"] if path.endswith("_maps.nii.gz")))
    record = json.loads(next((tmp_path / "results").glob("*_classify.json")).read_text())
    assert record["simulated"] is False
    assert record["digests"]["store"]
    return answer["scores"], image


def test_five_shapes_are_decoded_from_v1(call, shared_data, tmp_path):
    folder = shared_data / "yamada2015_S2"
    if not folder.is_dir():
        pytest.skip(f"the excerpt of Yamada 2015 is not beside the checkout: no folder {folder}")
    scores, image = _classified(call, tmp_path, folder, "yamada2015", 99)
    accuracy = scores[0]
    assert accuracy["value"] >= 0.9
    assert accuracy["n"] == 40
    assert accuracy["baseline"] == pytest.approx(0.2)
    assert accuracy["null_max"] < 0.6
    assert accuracy["p"] == pytest.approx(1 / 100)
    assert np.isfinite(image.get_fdata()[..., 0]).sum() == 899


def test_eight_categories_are_decoded_and_mapped_onto_the_slice(call, shared_data, tmp_path):
    folder = shared_data / "haxby2001"
    if not folder.is_dir():
        pytest.skip(f"the excerpt of Haxby 2001 is not beside the checkout: no folder {folder}")
    scores, image = _classified(call, tmp_path, folder, "haxby2001", 109)
    accuracy = scores[0]
    assert accuracy["p"] < 0.01
    assert accuracy["value"] > accuracy["null_max"]
    assert accuracy["n"] == 96
    bold, mask = nibabel.load(folder / "bold.nii.gz"), nibabel.load(folder / "mask.nii.gz")
    np.testing.assert_allclose(image.affine, bold.affine)
    assert image.shape[:3] == bold.shape[:3]
    f = image.get_fdata()[..., 0]
    inside = np.asarray(mask.dataobj) != 0
    np.testing.assert_array_equal(np.isfinite(f), inside)
    np.testing.assert_allclose(f[inside], _f_of_the_volumes(folder, bold, inside), rtol=1e-3)


def _f_of_the_volumes(folder, bold, inside):
    """F of category from the volumes on disk: least squares with and without category beside the runs."""
    from scipy.signal import detrend

    table = np.loadtxt(folder / "attributes_literal.txt", dtype=str)
    rows, categories, runs = [], [], []
    for run in np.unique(table[:, 1].astype(int)):
        volumes = table[:, 1].astype(int) == run
        values = detrend(np.asarray(bold.dataobj)[inside][:, volumes].astype(float), axis=1)
        values /= values.std(axis=1, keepdims=True)
        what = table[volumes, 0]
        for category in sorted(set(what) - {"rest"}):
            shown = np.flatnonzero(what == category)
            rows.append(values[:, shown[0] + 2 : shown[-1] + 3].mean(axis=1))
            categories.append(category)
            runs.append(run)
    y = np.array(rows)
    of_run = (np.array(runs)[:, None] == np.unique(runs)).astype(float)
    both = np.hstack([of_run, (np.array(categories)[:, None] == np.unique(categories)).astype(float)])
    left = [((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum(axis=0) for x in (of_run, both)]
    freedom = len(y) - np.linalg.matrix_rank(both)
    return (left[0] - left[1]) / 7 / (left[1] / freedom)
