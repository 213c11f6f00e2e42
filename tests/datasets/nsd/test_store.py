"""What a store of NSD keeps of behavior and noise ceilings, for single trials and for averages."""

import nibabel
import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.store.build import build_store
from neurorecon.store.check import describe

NCSNR = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz"


@pytest.fixture(scope="module")
def stores(small, tmp_path_factory):
    """Stores of the same sessions: single trials, and means over the trials of an image."""
    folder = tmp_path_factory.mktemp("stores")

    def built(samples):
        options = {"samples": samples, "image_size": 16, "mask": "V1"}
        recipe = Recipe(name=samples, reader="nsd", root=str(small), options=options)
        return nr.open_store(build_store(recipe, folder / f"{samples}.icechunk", progress=False))

    return built("trial"), built("average")


def test_averages_have_the_noise_ceiling_that_ncsnr_gives(stores, small):
    trial, average = stores
    samples = average.samples("subj02")
    left = (1 / samples["trials"][samples["split"] == "test"]).mean()
    assert left > 1 / 3, "no image was shown less than three times"
    i, j, k = average.voxels("subj02")[["i", "j", "k"]].to_numpy().T
    power = nibabel.load(small / NCSNR).get_fdata()[i, j, k] ** 2
    ceiling = average.noise_ceiling("subj02")
    np.testing.assert_allclose(ceiling, power / (power + left), rtol=1e-5)
    # Whether trials are averaged before they are stored or when they are read, a model can explain as much of them.
    np.testing.assert_allclose(ceiling, trial.noise_ceiling("subj02"), rtol=1e-6)
    kept = {name: store.responses("subj02", split="test", average="stimulus") for name, store in
            (("trial", trial), ("average", average))}  # fmt: skip
    np.testing.assert_array_equal(kept["trial"]["stimulus"], kept["average"]["stimulus"])
    np.testing.assert_allclose(kept["trial"], kept["average"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(kept["average"]["noise_ceiling"], ceiling)
    assert describe(average)["subjects"]["subj02"]["noise_ceiling"]["images"] == pytest.approx(
        np.mean(ceiling), abs=1e-4
    )


def test_behavior_is_in_the_store(stores, small, tmp_path):
    trial, average = stores
    file = pd.read_csv(small / "nsddata/ppdata/subj02/behav/responses.tsv", sep="\t")
    samples = trial.samples("subj02")
    for name in ("RT", "ISCORRECT", "MEMORYRECENT", "BUTTON"):
        np.testing.assert_array_equal(samples[name], file[name][: len(samples)])
    assert samples["RT"].isna().any()
    test = trial.responses("subj02", split="test")
    np.testing.assert_array_equal(test["RT"], samples["RT"][samples["split"] == "test"])
    assert "RT" not in trial.responses("subj02", average="stimulus").coords
    assert average.samples("subj02").columns.tolist()[7:] == ["trials", "ISCORRECT", "RT"]
    assert {finding.problem for finding in nr.check_store(trial)} == {None}
    copy = nr.open_store(nr.export_store(trial, tmp_path / "a.zarr", progress=False))
    pd.testing.assert_frame_equal(copy.samples("subj02"), samples)
