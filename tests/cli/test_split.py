"""``neurorecon split``, and commands that take ``--split-column``."""

import json

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses.evaluate import load_images


@pytest.fixture
def location(own):
    """A store with a target that stands for CLIP."""
    store = nr.open_store(own.path)
    values = np.random.default_rng(0).standard_normal((len(store.stimuli), 5))
    nr.add_target(store, "clip_image", values, made_by={"model": "random", "source": "a test"})
    return own.path


def test_columns_are_made_listed_and_used(call, location, tmp_path):
    found = call("split", location, "--kind", "random", "--json")
    assert found.exit_code == 0, found.stderr
    made = json.loads(found.stdout)
    assert list(made["split_columns"]) == [f"random_{fold}" for fold in range(5)]
    assert any("only" in text for text in made["warnings"])
    assert call("split", "--store", location, "--kind", "cluster", "--clusters", "2").exit_code == 0
    facts = json.loads(call("info", location, "--split-column", "cluster_k2_1", "--json").stdout)["info"]
    assert facts["split_column"] == "cluster_k2_1"
    assert set(facts["split_columns"]) == {*made["split_columns"], "cluster_k2_0", "cluster_k2_1"}
    store = nr.open_store(location, split_column="cluster_k2_1")
    assert facts["digest"] == store.digest
    assert facts["stimuli"] == store.stimulus_counts()
    text = call("info", location, "--split-column", "random_0").stdout
    assert "random_0    * images" in text
    assert "those of this column" in text

    arguments = ["--store", location, "--split-column", "random_0", "--subject", "subj01", "--permutations", "9"]
    found = call("reconstruct", *arguments, "--task", "images", "--metric", "pixcorr", "--no-figures", "--json")
    assert found.exit_code == 0, found.stderr
    assert "split column: random_0 (" in found.stderr
    answer = json.loads(found.stdout)
    assert answer["split_column"] == "random_0"
    folder = tmp_path / "results" / "reconstruct_small_random_0_images_pixcorr"
    assert folder.is_dir()
    record = json.loads(next(folder.glob("subj01_*.json")).read_text())
    assert record["split_column"] == "random_0"
    tested = load_images(folder)["stimulus"].values
    divided = store.with_split("random_0").stimuli.set_index("id")["split"]
    images = divided[divided.index.str.startswith("image")]
    assert set(tested) == set(images.index[images == "test"])
    # Baselines come from the training stimuli of the same split.
    wrong = call("evaluate", folder, "--store", location, "--metric", "pixcorr", "--permutations", "9")
    assert wrong.exit_code == 2
    assert "use --split-column random_0" in wrong.stderr
    right = call("evaluate", folder, "--no-figures", *arguments[:4], "--metric", "pixcorr", "--permutations", "9")
    assert right.exit_code == 0, right.stderr

    fitted = call("fit", *arguments[:-2], "--task", "images", "--json")
    assert json.loads(fitted.stdout)["fits"][0]["folder"].startswith("results/fits_small_random_0")
    assert json.loads(fitted.stdout)["fits"][0]["split_column"] == "random_0"
    mapped = call("maps", *arguments, "--task", "images", "--bands", "category", "--no-figures", "--json")
    assert mapped.exit_code == 0, mapped.stderr
    assert all("results/maps_small_random_0_all" in path for path in json.loads(mapped.stdout)["files"])


def test_several_columns_give_one_table(call, location, tmp_path):
    stimuli = nr.open_store(location).stimuli
    number = stimuli.groupby(["kind", "split"]).cumcount()
    half = stimuli["split"].where((stimuli["split"] != "test") | (number % 2 == 0), "")
    pd.DataFrame({"id": stimuli["id"], "half": half}).to_csv(tmp_path / "half.csv", index=False)
    assert call("split", location, "--table", tmp_path / "half.csv", "--column", "half").exit_code == 0
    arguments = ["--store", location, "--split-column", "built-in", "--split-column", "half", "--task", "images"]
    arguments += ["--subject", "subj01", "--permutations", "9", "--json"]
    found = call("reconstruct", *arguments, "--metric", "pixcorr")
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    assert [(row["split"], row["score"], row["same model"]) for row in answer["splits"]] == [
        ("built-in", "pixcorr", True), ("half", "pixcorr", True)
    ]  # fmt: skip
    folder = tmp_path / "results" / "reconstruct_small_built-in_half_images_pixcorr"
    assert len(list((folder / "fits").iterdir())) == 1  # one model, tested twice
    assert (folder / "built-in" / "subj01_linear-pixels_scores.csv").is_file()
    assert (folder / "half" / "subj01_linear-pixels_scores.csv").is_file()
    assert len(pd.read_csv(folder / "generalization_splits.csv")) == 2
    assert (folder / "generalization_splits.png").is_file()
    mapped = call("maps", *arguments, "--bands", "category", "--no-figures")
    assert mapped.exit_code == 0, mapped.stderr
    assert {row["split"] for row in json.loads(mapped.stdout)["splits"]} == {"built-in", "half"}
    tested = {row["split"]: row["n"] for row in answer["splits"]}
    audited = call("audit", "--system", "linear-pixels", *arguments, "--metric", "pixcorr", "--no-figures")
    assert audited.exit_code == 0, audited.stderr
    assert {row["n"] for row in json.loads(audited.stdout)["splits"]} == {tested["built-in"], tested["half"]}
    for command, more in (("maps", ["--system", "linear-pixels"]), ("maps", ["--kind", "decoding"])):
        refused = call(command, *arguments, *more)
        assert refused.exit_code == 2
        assert "only maps of what voxels encode" in refused.stderr
    unknown = call("reconstruct", *arguments, "--split-column", "tau")
    assert unknown.exit_code == 2
    assert "unknown split column 'tau'" in unknown.stderr


def test_a_table_of_ones_own(call, location, tmp_path):
    ids = nr.open_store(location).stimuli["id"]
    pd.DataFrame({"id": ids, "mine": np.where(np.arange(len(ids)) % 3, "train", "test")}).to_csv(
        tmp_path / "mine.csv", index=False
    )
    found = call("split", location, "--table", tmp_path / "mine.csv", "--column", "mine")
    assert found.exit_code == 0, found.stderr
    assert "--split-column mine" in found.stdout
    store = nr.open_store(location)
    assert store.about_split("mine")["table"] == "mine.csv"
    assert (store.with_split("mine").stimuli["split"] == "test").tolist() == (np.arange(len(ids)) % 3 == 0).tolist()


def test_mistakes_exit_with_2_and_change_nothing(call, location, state, tmp_path):
    (tmp_path / "mine.csv").write_text("stimulus,mine\nimage0000,train\n")
    before = state(location)
    for arguments, said in (
        ([], "either of a kind or from a table"),
        (["--kind", "ood"], "unknown kind of split 'ood'"),
        (["--kind", "random", "--table", "mine.csv"], "either of a kind or from a table"),
        (["--table", "mine.csv"], "needs the name of a column"),
        (["--table", "mine.csv", "--column", "other"], "other"),
        (["--table", "missing.csv", "--column", "mine"], "missing.csv"),
        (["--kind", "random", "--column", "mine"], "only a table has a column"),
        (["--kind", "tau", "--clusters", "3"], "belongs to another kind"),
        (["--kind", "tau", "--share", "0.9"], "out of range: share"),
        (["--kind", "tau", "--tau", "1.99"], "too few stimuli are farther"),
        (["--kind", "tau", "--target", "clip"], "clip"),
        (["--kind", "cluster_k30"], "too few stimuli for these clusters"),
        (["--kind", "leave-category", "--category", "nothing"], "unknown category 'nothing'"),
    ):
        found = call("split", location, *arguments)
        assert found.exit_code == 2, arguments
        assert said in found.stderr, arguments
        assert found.stderr.count("error:") == 1
    for command in ("maps", "classify", "reconstruct", "fit", "finetune", "info"):
        found = call(command, "--store", location, "--split-column", "tau")
        assert found.exit_code == 2, command
        assert "unknown split column 'tau'" in found.stderr
        assert "neurorecon split --kind" in found.stderr
    assert state(location) == before
    assert not (tmp_path / "results").exists()
