"""``neurorecon finetune``, and reconstructions with what it wrote."""

import json

import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.figures import read_provenance
from neurorecon.models.adapters import read_adapter


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    options = {"subjects": 1, "voxels": 100, "train_images": 16, "test_images": 6, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="tiny", reader="scenes", targets=[], options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("tuned") / "tiny.icechunk", progress=False).location


def test_the_adapter_is_part_of_every_record(call, location, tmp_path):
    found = call(
        "finetune", "--store", location, "--rank", 2, "--epochs", 1, "--batch", 8, "--learning-rate", 0.001, "--json"
    )
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    adapter = read_adapter(answer["folder"])
    assert answer["folder"] == "results/finetune_tiny_text-diffusion"
    assert answer["best_epoch"] <= answer["epochs"] == 1
    manifest = json.loads((tmp_path / answer["folder"] / "text-diffusion.json").read_text())
    assert manifest["command"].startswith("neurorecon finetune --store")
    assert manifest["files"]["text-diffusion_adapter/adapter_model.safetensors"] == adapter.source.sha256

    options = ["--system", "takagi", "--set", f"adapter={answer['folder']}", "--set", "steps=2", "--no-controls"]
    # Its training stimuli are test stimuli of another split.
    assert call("split", "--store", location, "--kind", "random").exit_code == 0
    refused = call("reconstruct", "--store", location, "--split-column", "random_0", *options)
    assert refused.exit_code == 2
    assert "its adapter: the split that the store was built with; to test with the split column random_0" in (
        refused.stderr
    )
    found = call("reconstruct", "--store", location, *options, "--permutations", 9, "--out", "tuned", "--json")
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "tuned" / "subj01_takagi.json").read_text())
    assert record["settings"]["networks"]["adapter"]["weights_sha256"] == adapter.source.sha256
    assert record["weights"]["network adapter"]["sha256"] == adapter.source.sha256
    drawn = read_provenance(tmp_path / "tuned" / "subj01_takagi_panel.png")
    assert drawn["weights"]["network adapter"]["sha256"] == adapter.source.sha256
    scores = (tmp_path / "tuned" / "subj01_takagi_scores.csv").read_text()
    assert adapter.source.sha256[:8] in scores

    found = call("evaluate", "tuned", "--store", location, "--permutations", 9, "--no-figures", "--json")
    assert found.exit_code == 0, found.output
    (path,) = [path for path in json.loads(found.stdout)["files"] if path.endswith("images.json")]
    record = json.loads((tmp_path / path).read_text())
    assert record["weights"]["network adapter"]["sha256"] == adapter.source.sha256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network", "vdvae"], "network to fine-tune"),
        (["--models", "no/such/folder"], "does not exist"),
        (["--learning-rate", "-1"], "learning_rate is out of range"),
        (["--held-out", "1.5"], "held_out is out of range"),
        (["--layers", "some"], "choice of layers"),
        (["--format", "gif"], "figure format"),
    ],
)
def test_bad_input(call, location, tmp_path, arguments, said):
    before = nr.open_store(location).snapshot
    found = call("finetune", "--store", location, *arguments)
    assert found.exit_code == 2
    assert said in found.stderr
    assert nr.open_store(location).snapshot == before
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("system", ["takagi", "brain-diffuser"])
def test_a_folder_without_adapter(call, location, tmp_path, system):
    before = nr.open_store(location).snapshot
    found = call("reconstruct", "--store", location, "--system", system, "--set", "adapter=nothing")
    assert found.exit_code == 2
    assert "there is no adapter here" in found.stderr
    assert nr.open_store(location).snapshot == before
    assert not (tmp_path / "results").exists()
