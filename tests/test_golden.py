"""What the first version wrote still opens: a store, and a saved decoder of each class. See data/v1/README.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neurorecon as nr

GOLDEN = Path(__file__).parent / "data" / "v1"


@pytest.fixture(scope="module")
def stored():
    """What is known of the store: digests of its arrays, and its recipe's."""
    return json.loads((GOLDEN / "scenes.json").read_text())


@pytest.fixture(scope="module")
def store():
    return nr.open_store(GOLDEN / "scenes.icechunk")


def test_an_old_store_holds_what_was_written(store, stored):
    assert store.snapshot == stored["snapshot"]
    assert store.digests() == stored["arrays"]
    findings = list(nr.check_store(store))
    assert len(findings) == len(stored["arrays"])
    assert [finding for finding in findings if finding.problem] == []


def test_an_old_store_is_read(store, stored):
    images, videos = store.tasks("subj01")
    for task, samples in ((images, 12), (videos, 18)):
        responses = store.responses("subj01", "V1", "test", task=task)
        assert responses.shape == (samples, 12)
        assert np.isfinite(responses.values).all()
    whole = sum(float(np.abs(store.responses("subj01", task=task).values).sum()) for task in (images, videos))
    assert whole == pytest.approx(stored["responses"])
    responses, motion = store.pairs("subj01", "motion", "early", "test", task=videos, delays=())
    assert len(responses) == len(motion) == 6
    assert store.targets("vqvae", "train").dims == ("stimulus", "channel", "y", "x")
    ids = store.stimuli["id"].tolist()
    assert ids[0] == "image00001"
    assert ids[-1] == "film0014"
    pixels = store.images(ids)
    assert pixels.shape == (30, 16, 16, 3)
    assert float(pixels.astype(float).sum()) == pytest.approx(stored["images"])


def test_an_old_store_is_described_in_the_words_of_today(store, tmp_path):
    assert store.tasks("subj01") == ["images", "videos"]
    assert store.series("subj01") == {"videos": 2.0}
    assert set(store.stimuli["kind"]) == {"image", "video"}
    assert {row["kind"] for row in store.stimulus_counts()} == {"image", "video"}
    assert set(store.mean_ceilings("subj01")) == set(store.about_ceilings("subj01")) == {"images", "videos"}
    assert {"video_snr", "ncsnr"} <= set(store.truth("subj01"))
    assert store.frames(["film0003"]).dims == ("stimulus", "frame", "y", "x", "rgb")
    assert store.default_task("subj01", ["motion"]) == "videos"
    assert store.noise_ceiling("subj01", "V1", "videos", of="single").shape == (12,)
    shutil.copytree(GOLDEN / "scenes.icechunk", tmp_path / "scenes.icechunk")
    flow = nr.extract(nr.open_store(tmp_path / "scenes.icechunk"), "optical_flow", progress=False).targets(
        "optical_flow"
    )
    assert flow["stimulus"].values.tolist() == store.stimuli["id"][store.stimuli["kind"] == "video"].tolist()
    exported = nr.open_store(nr.export_store(store, tmp_path / "old.zarr"))
    assert exported.tasks("subj01") == ["images", "videos"]


def test_noise_ceilings_of_an_old_store_are_as_stored(store):
    for task in store.tasks("subj01"):
        averaged, single = (store.noise_ceiling("subj01", task=task, of=of) for of in ("test", "single"))
        assert not (averaged < single).any()
        assert np.isfinite(averaged).any()
        ncsnr = store.ncsnr("subj01", task=task)
        known = np.isfinite(ncsnr)
        np.testing.assert_allclose(single[known], ncsnr[known] ** 2 / (ncsnr[known] ** 2 + 1), rtol=1e-5)
        assert "as stored by an earlier version" in store.about_ceilings("subj01")[task]


@pytest.mark.parametrize(
    ("renamed", "message"), [(False, "former names of options"), (True, "already a different store")]
)
def test_building_an_old_store_again_changes_nothing(tmp_path, stored, renamed, message):
    shutil.copytree(GOLDEN / "scenes.icechunk", tmp_path / "scenes.icechunk")
    recipe = (GOLDEN / "scenes.toml").read_text()
    (tmp_path / "scenes.toml").write_text(recipe.replace("film", "video") if renamed else recipe)
    done = subprocess.run(
        [sys.executable, "-m", "neurorecon.cli", "build", "scenes.toml", "--out", "scenes.icechunk", "--json", "-q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert message in done.stderr
    store = nr.open_store(tmp_path / "scenes.icechunk")
    assert store.snapshot == stored["snapshot"]
    assert store.digests() == stored["arrays"]


@pytest.mark.parametrize("name", sorted(path.name for path in (GOLDEN / "decoders").iterdir() if path.is_dir()))
def test_an_old_decoder_predicts_what_it_did(name):
    decoder = nr.load_decoder(GOLDEN / "decoders" / name)
    with np.load(GOLDEN / "decoders" / "predictions.npz", allow_pickle=False) as arrays:
        responses, expected = arrays["responses"], arrays[name]
    of_subject = ["subj01"] if name.startswith("multi_subject") else []
    # In single precision, products on another processor may differ in the last digits.
    np.testing.assert_allclose(decoder.predict(*of_subject, responses), expected, rtol=1e-4, atol=1e-5)
