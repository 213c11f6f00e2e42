"""Several test sets of one model: the table joins what each analysis found, and says which models differ."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import neurorecon as nr
from neurorecon.analyses.generalization import generalization
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose column "half" tests fewer stimuli of the same model, and "other" trains another one."""
    options = {"subjects": 2, "voxels": 150, "train_images": 40, "test_images": 12, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="small", reader="scenes", targets=["gabor", "category"], options=options)
    folder = tmp_path_factory.mktemp("generalization")
    store = nr.build(recipe, folder / "small.icechunk", progress=False)
    stimuli = store.stimuli
    number = stimuli.groupby("split").cumcount()
    test = stimuli["split"] == "test"
    half = stimuli["split"].where(~test | (number < 6), "")
    other = stimuli["split"].where(test | (number < 20), "")
    for name, values in (("half", half), ("other", other)):
        pd.DataFrame({"id": stimuli["id"], name: values}).to_csv(folder / f"{name}.csv", index=False)
        store = nr.split(store, table=folder / f"{name}.csv", column=name)
    return store


def reconstructed(store, split):
    followed = store.with_split(split)
    settings = {"metrics": ["pixcorr", "ssim_gray2d"], "n_permutations": 19}
    return [nr.reconstruct(followed, "linear-pixels", subject, **settings) for subject in store.subjects]


def test_reconstructions_of_several_splits_are_one_table(store, tmp_path):
    splits = ("built-in", "half", "other")
    results = {split: reconstructed(store, split) for split in splits}
    found = generalization(results, store)
    table = found.table
    own = table[table["subject"] != "mean"].set_index(["split", "subject", "score"])
    for split in splits:
        for result in results[split]:
            for row in result.table.to_dict("records"):
                joined = own.loc[(split, result.subject, row["metric"])]
                assert joined[["value", "low", "high", "n", "p"]].tolist() == [
                    row[name] for name in ("mean", "low", "high", "n", "p")
                ]
    assert own.xs("half", level="split")["n"].tolist() == [6] * 4
    # One model is tested on all or on half of the stimuli: the images are the same.
    whole, part = results["built-in"][0], results["half"][0]
    shared = [whole.stimuli.index(name) for name in part.stimuli]
    np.testing.assert_array_equal(whole.reconstructed[shared], part.reconstructed)
    assert own["same model"].groupby("split").all().to_dict() == {"built-in": True, "half": True, "other": False}
    assert set(own["trained on"]) == {40, 20}
    assert any("other: another model, trained on 20 stimuli" in text for text in found.chosen["warnings"])
    assert any("no intervals over subjects: 2 of at least 5" in text for text in found.chosen["warnings"])
    mean = table[table["subject"] == "mean"].set_index(["split", "score"])
    both = [result.table.set_index("metric").loc["pixcorr", "mean"] for result in results["half"]]
    assert mean.loc[("half", "pixcorr"), "value"] == pytest.approx(np.mean(both))
    assert mean["low"].isna().all()
    files = nr.write(found, store, tmp_path, nr.record_of(store, "a test"))
    assert {file.name for file in files} == {
        "generalization_splits.csv", "generalization_splits.tex", "generalization_splits.png", "generalization.json"
    }  # fmt: skip
    text = found.text(store)
    assert "SIMULATED" in text
    assert "half" in text


class _Subjects:
    """A store whose subjects all have the samples of the first one."""

    def __init__(self, store):
        self.store = store

    def with_split(self, column):
        return _Subjects(self.store.with_split(column))

    def samples(self, subject):
        return self.store.samples("subj01")


def test_intervals_over_subjects_are_those_of_students_t(store):
    one, values = reconstructed(store, "half")[0], [0.1, 0.15, 0.3, 0.2, 0.22]

    def of(subject, value):
        score = replace(one.scores[0], name=f"{subject} pixcorr", value=value)
        return replace(one, subject=subject, scores=[score], store=None)

    results = {
        split: [of(f"subj{number:02d}", value + shift) for number, value in enumerate(values)]
        for split, shift in (("built-in", 0.0), ("half", 0.5))
    }
    found = generalization(results, _Subjects(store))
    row = found.table[found.table["subject"] == "mean"].set_index("split").loc["half"]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values) + 0.5, scale=stats.sem(values))
    np.testing.assert_allclose(row[["value", "low", "high"]].tolist(), [np.mean(values) + 0.5, low, high])
    assert not found.chosen["warnings"]


def test_maps_of_several_splits(store):
    results = {
        split: [nr.voxelwise_maps(store.with_split(split), "subj01", "V1", bands=["gabor"], n_permutations=19)]
        for split in ("built-in", "half")
    }
    table = nr.generalization(results, store).table
    for split, (found,) in results.items():
        row = table[(table["split"] == split) & (table["score"] == "V1 joint R2")].iloc[0]
        roi = found.rois[found.rois["roi"] == "V1"].iloc[0]
        assert row[["value", "low", "high", "p"]].tolist() == roi[["joint", "joint_low", "joint_high", "p"]].tolist()
    assert table.groupby("split")["n"].unique().map(list).to_dict() == {"built-in": [12], "half": [6]}


def test_mistakes(store, tmp_path):
    results = reconstructed(store, "half")
    with pytest.raises(InputError, match="one split has nothing beside it"):
        generalization({"half": results}, store)
    maps = nr.system_maps(store, "linear-pixels", "subj01", n_permutations=9)
    with pytest.raises(InputError, match="no scores of test sets"):
        generalization({"half": results, "built-in": [maps]}, store)
    pd.DataFrame({"id": store.stimuli["id"], "built-in": store.stimuli["split"]}).to_csv(
        tmp_path / "x.csv", index=False
    )
    with pytest.raises(InputError, match="but not built-in"):
        nr.split(store, table=tmp_path / "x.csv", column="built-in")
