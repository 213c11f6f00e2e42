"""export --hub: a store and a fit as folders for the Hugging Face hub; what may not be shared is refused."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

import neurorecon as nr

STORES = Path(__file__).parents[2] / "stores"


def test_the_default_store_and_a_fit(call, own, tmp_path):
    call("build", own.recipe, "--quiet")  # complete: it becomes the default
    found = call("export", "--hub", "as data", "--json", "--quiet")
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["files"] == ["as data/README.md", "as data/small.zarr"]
    assert (answer["kind"], answer["card"]) == ("dataset", "as data/README.md")
    assert answer["upload"] == "hf upload USER/NAME 'as data' . --repo-type dataset"
    assert DatasetCard.load(tmp_path / answer["card"]).data.license == "bsd-3-clause"
    assert nr.open_store(tmp_path / "as data" / "small.zarr").digest == nr.open_store(own.path).digest
    common = ["--subject", "subj01", "--set", "cv=3", "--json", "--quiet"]
    (fit,) = json.loads(call("fit", *common).stdout)["fits"]
    call("reconstruct", *common, "--permutations", "9", "--no-figures", "--out", "results")
    found = call("export", "--hub", "model", "--fit", fit["folder"], "--results", "results")
    assert found.exit_code == 0, found.stderr
    assert "hf upload USER/NAME model . --repo-type model" in found.stdout
    data = ModelCard.load(tmp_path / "model" / "README.md").data
    assert [result.metric_type for result in data.eval_results] == ["pixcorr", "two_way"]
    assert nr.load_system(tmp_path / "model").provenance_["snapshot"] == fit["snapshot"]
    twice = call("export", "--hub", "model", "--fit", fit["folder"])
    assert twice.exit_code == 2
    assert "which holds files" in twice.stderr


@pytest.fixture
def built(call, tmp_path):
    """Return what builds a store of one subject from the miniature of a public data set."""

    def build(name, **options):
        recipe = re.sub(r"(?m)^(targets|image_size|images|subjects) = .*\n", "", (STORES / f"{name}.toml").read_text())
        given = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"image_size": 16, **options}.items())
        (tmp_path / "recipe.toml").write_text(recipe.replace("[options]\n", f"targets = []\n[options]\n{given}", 1))
        if not (tmp_path / "miniature").exists():
            call("datasets", "miniature", name, "--out", "miniature", "--quiet")
        found = call("build", "recipe.toml", "--root", "miniature", "--out", "store.icechunk", "--overwrite", "--quiet")
        assert found.exit_code == 0, found.stderr

    return build


def test_nsd_may_not_be_redistributed(call, built, tmp_path):
    built("nsd", subjects=["subj01"])
    found = call("export", "--hub", "hub", "--store", "store.icechunk", "--json")
    assert found.exit_code == 2
    for part in (
        "redistribute it\n",
        "nsd, whose terms are: NSD Terms",
        "  expected: ",
        "  to do:    ",
        "--permission",
    ):
        assert part in found.stderr
    assert json.loads(found.stdout)["error"] in found.stderr
    assert not (tmp_path / "hub").exists()


def test_images_of_laion_fmri_may_not_be_redistributed(call, built, tmp_path):
    built("laion_fmri", subjects=["sub-01"])
    to_hub = ["export", "--hub", "hub", "--store", "store.icechunk", "--json"]
    found = call(*to_hub)
    assert found.exit_code == 2
    assert "do not let everybody redistribute its stimuli" in found.stderr
    assert not (tmp_path / "hub").exists()
    built("laion_fmri", subjects=["sub-01"], images=False)
    found = call(*to_hub, "--permission", "for our lab")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["upload"].endswith("--private")
    card = DatasetCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "cc0-1.0"
    assert "The stimuli are not included" in card.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fit", "a"], "belong to --hub"),
        (["--results", "a"], "belong to --hub"),
        (["--permission", "a", "OUT.zarr"], "belong to --hub"),
        (["--hub", "h", "--bids", "a", "b"], "do not go together"),
        (["--hub", "h", "--results", "a"], "do not go together"),
        (["--hub", "h", "STORE", "OUT"], "do not go together"),
        (["--hub", "h", "--permission", " "], "the permission is empty"),
        (["--hub", "h", "--fit", "nowhere"], "no fitted system here"),
        (["--hub", "h", "--store", "nowhere.icechunk"], "nowhere.icechunk"),
        (["--hub", "small.icechunk/h", "--store", "small.icechunk"], "inside a store"),
    ],
)
def test_bad_options(call, own, state, tmp_path, arguments, words):
    before = state(own.path)
    found = call("export", *arguments, "--json")
    assert found.exit_code == 2
    assert found.stderr.count("neurorecon: error:") == 1
    assert "Traceback" not in found.stderr
    assert words in found.stderr
    assert "  to do:    " in found.stderr
    assert not (tmp_path / "h").exists()
    assert state(own.path) == before
